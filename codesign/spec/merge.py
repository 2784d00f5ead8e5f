"""One study out of its file, the space it starts `from`, a scenario and `--set`, with every origin kept."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from codesign.spec import yamlio
from codesign.spec.errors import BadValue, Diagnostic, Problem, SpecError, did_you_mean, nearest
from codesign.spec.yamlio import Document, Mark

SET = "--set"
SHIPPED = Path(__file__).resolve().parents[2] / "spaces"  # beside the package, as in a checkout
SPACE_FILE_KEYS = ("version", "name", "description", "space", "derived", "where")
FREE_SECTIONS = (
    "space",
    "derived",
    "objectives",
    "constraints",
    "prices",
    "scenarios",
)  # their keys are the user's
MAX_INCLUDES = 10
FILES = (".yaml", ".yml", ".json", ".sh", ".txt", ".csv")

Path_ = tuple[str | int, ...]
_Written = tuple[Any, Document, Path_]


class _Layer(NamedTuple):
    """The part of the merged data under `path` was written in `document` under `origin`."""

    path: Path_
    document: Document
    origin: Path_


class Source:
    """Merged plain data and the origin of each part of it."""

    def __init__(self, document: Document) -> None:
        if not isinstance(document.data, dict):
            raise SpecError(document.diagnostic((), "a study is a mapping of keys to values"))
        self.data: dict[str, Any] = copy.deepcopy(document.data)
        self.document = document
        self.layers = [_Layer((), document, ())]
        self.diagnostics: list[Diagnostic] = []

    def put(self, path: Path_, value: Any, document: Document, origin: Path_) -> None:
        """Write one value; None removes it."""
        target = self.data
        for part in path[:-1]:
            inner = target.get(part)
            if part == "workload" and isinstance(inner, str):
                inner = {"use": inner}  # the short form of the only section that has one
            target[part] = target = inner if isinstance(inner, dict) else {}
        if value is None:
            target.pop(path[-1], None)
        else:
            target[path[-1]] = copy.deepcopy(value)
        self.layers.append(_Layer(path, document, origin))

    def place(self, problem: Problem) -> Diagnostic:
        """The problem with file, line, column and source line."""
        layer = next(layer for layer in reversed(self.layers) if problem.path[: len(layer.path)] == layer.path)
        where = _existing(layer.document.data, (*layer.origin, *problem.path[len(layer.path) :]))
        found = layer.document.diagnostic(where, problem.message, problem.hint, at_key=problem.at_key)
        if problem.inside and found.excerpt and found.col:
            text, col = problem.inside
            at = found.excerpt.find(text, found.col - 1)
            found = replace(found, col=at + col) if at >= 0 else found
        return replace(found, line=None) if found.path == SET else found


def _existing(data: Any, path: Path_) -> Path_:
    """The parts of a path that are in the data: `choices` is not where a list alone was written."""
    parts: list[str | int] = []
    for part in path:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data))):
            parts.append(part)
            data = data[part]
    return tuple(parts)


def read(path: Path, scenario: str | None, overrides: Iterable[str], sections: Iterable[str]) -> Source:
    """The study file with its included space, then the scenario, then each `--set key=value`."""
    source = Source(yamlio.load(path))
    source.data.setdefault("name", path.stem)
    _include(source, path.parent)
    sections = tuple(sections)
    if scenario is not None:
        _scenario(source, scenario, sections)
    for text in overrides:
        _override(source, text, sections)
    _absolute(source.data, path.parent)
    return source


class _Spaces(NamedTuple):
    """What a space file says, each part with its document and path there."""

    variables: dict[str, _Written]
    derived: dict[str, _Written]
    where: list[_Written]


def _include(source: Source, folder: Path) -> None:
    """Replace `space: {from: FILE, ...}` by the variables of FILE under those given here."""
    own = source.data.get("space")
    if not isinstance(own, dict) or "from" not in own:
        return
    path = _find(own["from"], folder)
    if path is None:
        source.diagnostics.append(_missing_space(source.document, own.pop("from"), folder))
        return
    del own["from"]
    inherited = _space_file(path, source.diagnostics)
    kept = {name: written for name, written in inherited.variables.items() if name not in own}
    merged = {name: own[name] if name in own else written[0] for name, written in inherited.variables.items()}
    source.data["space"] = {name: value for name, value in {**merged, **own}.items() if value is not None}
    source.layers += [_Layer(("space", name), document, origin) for name, (_, document, origin) in kept.items()]
    for name, (value, document, origin) in inherited.derived.items():
        if name not in (source.data.get("derived") or {}) and name not in own:
            source.put(("derived", name), value, document, origin)
    where = source.data.get("where") or []
    source.data["where"] = where = [*where] if isinstance(where, list) else [where]
    for value, document, origin in inherited.where:  # after the study's own, whose places stay as they are
        source.layers.append(_Layer(("where", len(where)), document, origin))
        where.append(value)


def _space_file(path: Path, diagnostics: list[Diagnostic], depth: int = 0) -> _Spaces:
    """A space file and those that it starts from itself."""
    document = yamlio.load(path)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("space"), dict):
        raise SpecError(document.diagnostic((), "a space file needs a mapping 'space'"))
    for key in [key for key in data if key not in SPACE_FILE_KEYS]:
        hint = did_you_mean(str(key), SPACE_FILE_KEYS, "keys")
        diagnostics.append(document.diagnostic((key,), f"unknown key '{key}' in a space file", hint, at_key=True))
    own, inherited = dict(data["space"]), _Spaces({}, {}, [])
    if "from" in own:
        below = _find(own["from"], path.parent)
        if depth > MAX_INCLUDES:
            raise SpecError(document.diagnostic(("space", "from"), "spaces start from each other in a circle", at_key=True))
        if below is None:
            raise SpecError(_missing_space(document, own["from"], path.parent))
        del own["from"]
        inherited = _space_file(below, diagnostics, depth + 1)
    variables = {**inherited.variables, **{n: (v, document, ("space", n)) for n, v in own.items()}}
    formulas, conditions = data.get("derived") or {}, data.get("where") or []
    formulas = formulas if isinstance(formulas, dict) else {}
    conditions = conditions if isinstance(conditions, list) else [conditions]
    return _Spaces(
        {name: written for name, written in variables.items() if written[0] is not None},
        {**inherited.derived, **{n: (v, document, ("derived", n)) for n, v in formulas.items()}},
        [*inherited.where, *((v, document, ("where", i)) for i, v in enumerate(conditions))],
    )


def _missing_space(document: Document, name: Any, folder: Path) -> Diagnostic:
    near = sorted({path.stem for place in _places(folder)[1:] if place.is_dir() for path in place.glob("*.yaml")})
    hint = did_you_mean(str(name), near, "spaces") if near else "give a path, or a name in the folder 'spaces'"
    own = [str(place) for place in _places(folder) if place != SHIPPED]
    looked = f"looked in {', '.join(dict.fromkeys(own))}, and among those that come with codesign"
    return document.diagnostic(("space", "from"), f"no space '{name}'", f"{hint}\n        {looked}")


def _places(folder: Path) -> list[Path]:
    """Folders in which a space is looked for by name: beside the study, where the user is, then the tool's own."""
    return [folder, folder / "spaces", folder.parent / "spaces", Path("spaces"), SHIPPED]


def _find(name: Any, folder: Path) -> Path | None:
    if not isinstance(name, str) or "\0" in name:
        return None
    candidates = [place / (name + suffix) for place in _places(folder) for suffix in ("", ".yaml")]
    return next((path for path in candidates if path.is_file()), None)


def _scenario(source: Source, name: str, sections: tuple[str, ...]) -> None:
    scenarios = source.data.get("scenarios") or {}
    if not isinstance(scenarios, dict) or name not in scenarios:
        names = [str(key) for key in scenarios] if isinstance(scenarios, dict) else []
        there_are = f"; there are: {', '.join(names)}" if names else "; this study has none"
        message, close = f"unknown scenario '{name}'{there_are}", nearest(name, names)
        hint = f"did you mean '{close}'?" if close else None
        source.diagnostics.append(source.document.diagnostic(("scenarios",), message, hint, at_key=True))
        return
    changes = scenarios[name]
    for key, value in changes.items() if isinstance(changes, dict) else ():
        try:
            source.put(locate(str(key), source.data, sections), value, source.document, ("scenarios", name, key))
        except BadValue as error:
            problem = Problem(("scenarios", name, key), error.message, error.hint, at_key=True)
            source.diagnostics.append(source.place(problem))


def _override(source: Source, text: str, sections: tuple[str, ...]) -> None:
    key, equals, raw = text.partition("=")
    document = Document(None, SET, [text], {(): Mark(1, len(key) + 2)}, {(): Mark(1, 1)})
    try:
        if not equals or not key.strip():
            raise BadValue(f"expected KEY=VALUE, found '{text}'", hint="for example --set search.trials=500")
        if not raw.strip():
            raise BadValue(f"'{key.strip()}' has no value", hint=f"--set {key.strip()}=null takes it out of the study")
        path = locate(key.strip(), source.data, sections)
    except BadValue as error:
        source.diagnostics.append(Diagnostic(error.message, SET, None, 1, error.hint, text))
        return
    value: Any = yamlio.scalar(raw.strip()) if len(raw) <= yamlio.MAX_DIGITS else raw
    if raw.strip().startswith(("[", "{", '"', "'")):
        try:
            parsed = yamlio.parse(" " * (len(key) + 1) + raw, SET)
        except SpecError as error:
            source.diagnostics += [replace(d, line=None, excerpt=text) for d in error.diagnostics]
            return
        value, document = parsed.data, replace(parsed, lines=[text])
    source.put(path, value, document, ())


def locate(key: str, data: dict[str, Any], sections: Iterable[str]) -> Path_:
    """Where a dotted key of `--set` or a scenario belongs: a variable of the space, or a key of the study.

    A name that is neither a key of the study nor a variable so far pins that variable
    (`architecture.n_layers=61`).
    """
    space = data.get("space") if isinstance(data.get("space"), dict) else {}
    parts = key.split(".")
    if key in space:
        return ("space", key)
    if parts[0] in ("slo",) and parts[-1] == "itl":  # one limit, two names
        parts[-1] = "tpot"
        data["slo"] = {"tpot" if k == "itl" else k: v for k, v in (data.get("slo") or {}).items()}
    if parts[0] == "space" and len(parts) > 1:
        rest = key.removeprefix("space.")
        inside = next((name for name in space if rest.startswith(f"{name}.") and isinstance(space[name], dict)), None)
        return ("space", inside, rest.removeprefix(f"{inside}.")) if inside else ("space", rest)
    if parts[0] in sections:
        return (parts[0], ".".join(parts[1:])) if parts[0] in FREE_SECTIONS and len(parts) > 1 else tuple(parts)
    candidates = [name for name in space if name.endswith("." + key)]
    if len(candidates) == 1:
        return ("space", candidates[0])
    if candidates:
        raise BadValue(f"'{key}' could be any of: {', '.join(candidates)}", hint="write the full name")
    if len(parts) > 1 and all(parts):
        return ("space", key)
    leaves = [name.rpartition(".")[2] for name in space]
    close = nearest(key, [*sections, *leaves, *space])
    raise BadValue(f"unknown key '{key}'", hint=did_you_mean(key, [close] if close else sections, "keys"))


def _absolute(data: dict[str, Any], folder: Path) -> None:
    """Make paths of files absolute, so that the resolved study works from anywhere."""

    def fix(value: Any) -> Any:
        if isinstance(value, list):
            return [fix(item) for item in value]
        if isinstance(value, dict):
            return {key: fix(item) for key, item in value.items()}
        looks_like_path = isinstance(value, str) and len(value) < 1000 and "\0" not in value
        name, mark, row = value.rpartition("#") if looks_like_path and ".csv#" in value else (value, "", "")  # FILE.csv#ROW
        looks_like_path = looks_like_path and ("/" in name or name.endswith(FILES))
        if looks_like_path and (folder / name).exists():
            return f"{(folder / name).resolve()}{mark}{row}"
        return value

    for key in ("hardware", "engine", "serving", "workload", "quality", "references"):
        if key in data:
            data[key] = fix(data[key])
    if isinstance(data.get("base"), dict) and "model" in data["base"]:
        data["base"]["model"] = fix(data["base"]["model"])
    space = data.get("space")
    for name in space if isinstance(space, dict) else ():
        if isinstance(name, str) and name.startswith("hardware."):
            space[name] = fix(space[name])
