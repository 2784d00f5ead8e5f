"""One small finished run for all tests of this room: RL, balance in USD, three kinds of hardware."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from codesign.run import run
from studies import study


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """`study`, `run` and `path` of the small study."""
    folder = tmp_path_factory.mktemp("small")
    resolved = study(folder)
    result = run(resolved, folder / "out")
    return SimpleNamespace(study=resolved, run=result, path=str(result.path), ids=[int(i) for i in result.front["id"]])


@pytest.fixture(scope="session")
def certain(tmp_path_factory) -> SimpleNamespace:
    """The same study with nothing uncertain."""
    folder = Path(tmp_path_factory.mktemp("certain"))
    nothing = dict.fromkeys(("model", "quality", "price", "demand", "utilisation", "drafts", "power"), 0)
    resolved = study(folder, {"uncertainty": nothing})
    return SimpleNamespace(study=resolved, run=run(resolved, folder / "out"))
