"""One small finished run, two of its designs too slow, for the tests of what people look at."""

import functools
import tempfile
from pathlib import Path

import studies
from codesign.results import Run
from codesign.run import run

_FOLDER = tempfile.TemporaryDirectory(prefix="codesign-report-")


@functools.cache
def searched() -> Run:
    folder = Path(_FOLDER.name)
    return run(studies.study(folder, {"slo": {"ttft": "1 s", "tpot": "8 ms"}}), folder / "run")
