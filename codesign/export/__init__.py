"""Files to work on with: each target is one module of this folder, found by its file name.

A target is a module with one docstring line of meaning and `export(study, run, point_id) -> {file name: text}`, pure.
Modules whose name begins with `_` are shared by targets.  `training_plan.py` is the target `training-plan`.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from codesign.clips import EXPORTS
from codesign.results import write_atomically
from codesign.spec.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from codesign.results import Run
    from codesign.study import Study

RECORD = ".codesign-export.json"  # file name -> SHA-256 of what we wrote: tells our own files from ones edited since


@cache
def targets() -> tuple[str, ...]:
    """Names of the targets there are."""
    stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_")))


def describe(name: str) -> str:
    """One sentence about a target."""
    return (_module(name).__doc__ or "").strip().partition("\n")[0]


def export(target: str, study: Study, run: Run, point_id: int) -> dict[str, str]:
    """File name -> text of one archived point.  Pure: `write` puts it on disk."""
    if study.setting.clip is not None and target not in EXPORTS:
        raise UserError(f"'{target}' is for language models, and this is a study of video", hint=f"targets: {', '.join(EXPORTS)}")
    return _module(target).export(study, run, point_id)


def write(files: dict[str, str], folder: str | Path, force: bool = False) -> list[Path]:
    """Write all files or none.  A file that exists and is not what an earlier export left there is an error, unless `force`."""
    folder = Path(folder)
    for name in files:
        if name in ("", ".", "..", RECORD) or Path(name).name != name or "\\" in name or not name.isprintable():
            raise UserError(f"'{name!a}' is not a plain file name")
    record = _record(folder)
    if not force:
        _protect(files, folder, record)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record |= {name: _digest(text.encode()) for name, text in files.items()}
        for name, text in files.items():
            _put(folder / name, text)
            written.append(folder / name)
        _put(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot write: {error.strerror or error}", hint="choose another folder with -o") from None
    return written


def _put(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_bytes(text.encode()))


def _protect(files: dict[str, str], folder: Path, record: dict[str, str]) -> None:
    """Every file that is in the way, at once."""
    foreign = []
    for name, text in files.items():
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue
        found = _digest(path.read_bytes()) if path.is_file() else None
        if found is None or found not in (_digest(text.encode()), record.get(name)):
            foreign.append(name)
    if foreign:
        raise UserError(
            f"{folder} has other contents in {', '.join(foreign)}: edited since, or not from an export",
            hint="choose another folder with -o, or overwrite with --force",
        )


def _record(folder: Path) -> dict[str, str]:
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _module(name: str) -> ModuleType:
    if name not in targets():
        raise UserError(f"unknown export target '{name}'", hint=did_you_mean(name, targets(), "targets"))
    return import_module(f"{__name__}.{name.replace('-', '_')}")
