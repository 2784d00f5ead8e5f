"""Finding and reading catalog entries.  Files are read on first use and kept for the life of the process; never at import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from codesign.catalog.provenance import Problem, Reader, lookup
from codesign.catalog.schema import FIELDS, KINDS, REQUIRED
from codesign.spec import yamlio
from codesign.spec.errors import Diagnostic, SpecError, did_you_mean, nearest

ROOT = Path(__file__).parent
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_IGNORED = str.maketrans("", "", "-_. ()/")


class Entry(NamedTuple):
    """Where a name leads."""

    kind: str
    name: str
    path: Path
    aliases: tuple[str, ...]


def fold(name: str) -> str:
    """The form in which names are compared: no case, no `-`, `_`, `.`, space, slash or bracket.

    >>> fold("A100-80G-SXM") == fold("a100_80g_sxm")
    True
    """
    return name.lower().translate(_IGNORED)


def names(kind: str) -> list[str]:
    """Every entry of a kind, sorted."""
    return sorted({entry.name for entry in _index(_checked(kind)).values()})


def known(kind: str, name: str) -> bool:
    """Whether `name` is an entry or alias of `kind`."""
    return _lookup(_checked(kind), name) is not None


def find(kind: str, name: str) -> Entry:
    """The entry that `name` (or an alias) means.  A system's name also finds its accelerator.  Unknown -> SpecError."""
    entry = _lookup(_checked(kind), name)
    if entry is None and kind == "accelerators" and (system := _lookup("systems", name)):
        return find(kind, _plain(system.path)["accelerator"])
    if entry is None:
        raise SpecError(Diagnostic(f"unknown {_singular(kind)} '{name}'", hint=_hint(kind, name)))
    return entry


def load(kind: str, name: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The record of an entry, by name, by path to a YAML file of your own, or given as a mapping: plain, SI, checked.

    `models` also takes a Hugging Face `config.json` or a folder that holds one.  The record is the caller's own copy.
    """
    _checked(kind)
    if isinstance(name, Mapping):
        return _finish(kind, _read(kind, dict(name), None), None)
    path = _own_file(kind, str(name))
    if path is None:
        entry = find(kind, str(name))
        return _finish(kind, copy(_shipped(kind, entry.path)), entry.path)
    if kind == "models" and (path.is_dir() or path.suffix == ".json"):
        from codesign.catalog import hf

        return hf.read_config(path)
    record = _read(kind, yamlio.load_plain(path), path)
    return _finish(kind, record, path)


def copy(value: Any) -> Any:
    """A deep copy of plain data (several times faster than copy.deepcopy)."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value


def _lookup(kind: str, name: str) -> Entry | None:
    """An exact file name needs no index, so a first load reads one file and not the whole folder."""
    path = ROOT / kind / f"{name}.yaml"
    if _FILE_NAME.fullmatch(name) and path.is_file():
        return _entry(kind, path)
    return _index(kind).get(fold(name))


def _entry(kind: str, path: Path) -> Entry:
    raw = _plain(path)
    return Entry(kind, path.stem, path, tuple(map(str, raw.get("aliases") or ())) if isinstance(raw, dict) else ())


@cache
def _index(kind: str) -> dict[str, Entry]:
    """Folded name or alias -> entry."""
    index: dict[str, Entry] = {}
    for path in sorted((ROOT / kind).glob("*.yaml")):
        entry = _entry(kind, path)
        for name in (path.stem, *entry.aliases):
            other = index.setdefault(fold(name), entry)
            if other.path != path:
                raise SpecError(Diagnostic(f"the name '{name}' is already taken by {other.path.name}", str(path)))
    return index


@cache
def _plain(path: Path) -> Any:
    return yamlio.load_plain(path)


@cache
def _shipped(kind: str, path: Path) -> dict[str, Any]:
    return _read(kind, _plain(path), path)


def _read(kind: str, raw: Any, path: Path | None) -> dict[str, Any]:
    reader = Reader()
    record = reader.record(raw, FIELDS[kind])
    is_whole = "not_evaluable" not in record and not (kind == "systems" and "base" in record)  # a derived one takes the rest from its base
    if not reader.problems and is_whole:
        missing = [key for key in REQUIRED.get(kind, ()) if lookup(record, key) is None]
        reader.problems += [Problem((), f"'{key}' is missing: every {_singular(kind)} needs it") for key in missing]
    if reader.problems:
        raise SpecError(_diagnostics(reader.problems, path))
    record.setdefault("name", path.stem if path else f"own {_singular(kind)}")
    return record


def _finish(kind: str, record: dict[str, Any], path: Path | None) -> dict[str, Any]:
    if kind == "accelerators":
        from codesign.catalog.pricing import with_price

        return with_price(record)
    if kind == "engines" and "base" in record:
        _inherit(record, load("engines", record["base"]))
    if kind == "systems" and path is not None and "accelerator" in record:
        own = path.parent / record["accelerator"]  # a user's system may name a chip file beside it
        if own.suffix in (".yaml", ".yml") and own.exists():
            record["accelerator"] = str(own)
    return record


def _inherit(engine: dict[str, Any], base: dict[str, Any]) -> None:
    """Scheduler and memory figures that an engine does not state are its base's (kernel tables: see kernels.py)."""
    for block in ("scheduler", "memory"):
        engine[block] = {**base.get(block, {}), **engine.get(block, {})}
        inherited = {key: origin for key, origin in base["provenance"].items() if key.startswith(f"{block}.")}
        engine["provenance"] = {**inherited, **engine["provenance"]}


def _diagnostics(problems: list[Problem], path: Path | None) -> list[Diagnostic]:
    if path is None:
        return [Diagnostic(f"{yamlio.dotted(p.path)}: {p.message}", hint=p.hint) for p in problems]
    document = yamlio.load(path)
    return [document.diagnostic(p.path, p.message, p.hint, at_key=p.at_key) for p in problems]


def _own_file(kind: str, name: str) -> Path | None:
    """The path that `name` means, or None when it is the name of an entry (entries come first)."""
    if known(kind, name):
        return None
    path = Path(name).expanduser()
    is_file = path.suffix in (".yaml", ".yml", ".json") or path.is_file()
    return path if is_file or (kind == "models" and path.is_dir()) else None


def _hint(kind: str, name: str) -> str:
    here = _index(kind)
    elsewhere = [entry for other in KINDS if other != kind for key, entry in _index(other).items() if key == fold(name)]
    if elsewhere:
        return f"'{elsewhere[0].name}' is one of the {elsewhere[0].kind}"
    names = {entry.name for entry in here.values()}
    close = nearest(name, names | {alias for entry in here.values() for alias in entry.aliases})
    if close is None or close in names:
        return did_you_mean(name, names, f"known {kind}")
    return f"did you mean '{here[fold(close)].name}' (also called '{close}')?"


def _checked(kind: str) -> str:
    if kind not in KINDS:
        raise SpecError(Diagnostic(f"unknown kind '{kind}'", hint=did_you_mean(kind, KINDS, "kinds")))
    return kind


def _singular(kind: str) -> str:
    return {"memory": "memory tier"}.get(kind, kind.removesuffix("s"))
