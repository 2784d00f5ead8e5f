"""Exports of at least ten different designs for the program that reads them, and how often it took one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plans
from test_training_plan import points

from codesign import export
from codesign.spec.errors import UserError

N_DESIGNS, PER_KIND = 10, 4
PRINT = "printf '%s\\0' \"${ARGS[@]}\""


def exports(target: str, kinds=tuple(plans.KINDS)) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """(point, files) of designs from every kind of study; those that the target refuses are left out."""
    for kind in kinds:
        study, run = plans.searched(kind)
        for i in points(kind, PER_KIND):
            try:
                yield run.point(i), export.export(target, study, run, i)
            except UserError as error:
                assert error.diagnostics[-1].hint, "a refusal says what to use instead"


def arguments(text: str) -> list[str]:
    """What bash makes of the script's ARGS on the first node: its last line prints them instead of starting anything."""
    shown = re.sub("^exec .*$", lambda _: PRINT, text, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True, timeout=30, env={"PATH": os.defpath})
    return done.stdout.split("\0")[:-1]


def put(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
