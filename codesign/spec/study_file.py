"""Load a study: merged, checked, frozen; every problem is reported at once with its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, PrivateAttr, ValidationError

from codesign.spec import checks, definitions, merge, yamlio
from codesign.spec import choices as reading
from codesign.spec.choices import Legal
from codesign.spec.errors import BadValue, Diagnostic, Problem, SpecError, did_you_mean, nearest
from codesign.spec.fields import found
from codesign.spec.schema import Study
from codesign.spec.space import Late, Space

SECTIONS = tuple(Study.model_fields)
KEYED = ("space", "constraints")  # one wrong entry there says nothing about the others
Path_ = tuple[str | int, ...]


class StudyFile(Study):
    """A study that knows where each of its keys was written."""

    _source: merge.Source = PrivateAttr()
    _path: Path = PrivateAttr()
    _is_partial: bool = PrivateAttr(default=False)

    @property
    def path(self) -> Path:
        """The study file."""
        return self._path

    @property
    def positions(self) -> dict[str, yamlio.Mark]:
        """Dotted path of each key of the study file -> (line, column)."""
        return self._source.document.positions

    def place(self, problem: Problem) -> Diagnostic:
        """A problem found later, with the place in whichever file or option the value came from."""
        return self._source.place(problem)

    def resolved_yaml(self) -> str:
        """YAML text that loads to the same study, with nothing left to include or apply."""
        data = self._source.data
        return yamlio.dump({key: data[key] for key in SECTIONS if key in data})

    def parse_space(
        self,
        legal: Mapping[str, Legal],
        fixed: Mapping[str, Any],
        late: Late | None = None,
        without: Collection[str] = (),
    ) -> Space:
        """The space of designs (see definitions.build), or a SpecError with its problems."""
        variables = {name: definition for name, definition in self.space.items() if name not in without}
        context = {"legal": legal, "fixed": fixed, "late": late, "is_partial": self._is_partial}
        space, problems = definitions.build(variables, self.derived, self.where, **context)
        if space is None:
            raise SpecError([self.place(problem) for problem in problems])
        return space

    def choices(self, name: str, legal: Legal, fixed: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        """SI values of one variable, however it is written; () where it does not vary or is wrong."""
        if name not in self.space:
            return ()
        read, _ = reading.read(name, self.space[name], legal, fixed or {}, self.space)
        return read.values if read else ()


Check = Callable[[StudyFile], Iterable[Problem | Diagnostic]]


def load_study(path: str | Path, overrides: Iterable[str] = (), scenario: str | None = None, check: Check | None = None) -> StudyFile:
    """Read and check a study.  `check` finds what only later rooms can know."""
    path = Path(path)
    source = merge.read(path, scenario, overrides, SECTIONS)
    study, problems = _validate(source.data)
    diagnostics = [*source.diagnostics, *map(source.place, problems)]
    broken = {problem.path[: 2 if problem.path[0] in KEYED else 1] for problem in problems}
    study._source, study._path, study._is_partial = source, path, bool(diagnostics)
    more = [*checks.check(study), *definitions.build(study.space, study.derived, study.where)[1]]
    diagnostics += [source.place(problem) for problem in more if not _follows(problem.path, broken)]
    if check is not None and ("base",) not in broken:
        diagnostics = _merged(diagnostics, _outer(study, check, broken))
    if diagnostics:
        raise SpecError(_sorted(diagnostics, str(path)))
    return study


def templates() -> list[str]:
    """Names for `new_study`."""
    folder = resources.files("codesign.spec") / "templates"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def new_study(template: str = "moe") -> str:
    """The text of a commented study to start from."""
    if template not in templates():
        raise SpecError(f"unknown template '{template}'", hint=did_you_mean(template, templates(), "templates"))
    return (resources.files("codesign.spec") / "templates" / f"{template}.yaml").read_text(encoding="utf-8")


def _outer(study: StudyFile, check: Check, broken: set[Path_]) -> list[Diagnostic]:
    """Problems that later rooms find, without those that only follow from another one."""
    try:
        reported = list(check(study))
    except SpecError as error:
        reported = list(error.diagnostics)
    keep = [item for item in reported if isinstance(item, Diagnostic) or not _follows(item.path, broken)]
    return [study.place(item) if isinstance(item, Problem) else item for item in keep]


def _follows(path: Path_, broken: set[Path_]) -> bool:
    """Whether a problem may only be the consequence of a part that was left out because it is wrong."""
    return path[:1] in broken or path[:2] in broken


def _merged(own: list[Diagnostic], outer: list[Diagnostic]) -> list[Diagnostic]:
    """Both lists; where both complain about one place, the later room knows better."""

    def place(diagnostic: Diagnostic) -> tuple[Any, ...]:
        return diagnostic.path, diagnostic.line, diagnostic.col, diagnostic.excerpt

    places = set(map(place, outer))
    return [*(diagnostic for diagnostic in own if place(diagnostic) not in places), *outer]


def _sorted(diagnostics: list[Diagnostic], path: str) -> list[Diagnostic]:
    return sorted(
        dict.fromkeys(diagnostics),
        key=lambda d: (d.path == merge.SET, d.path != path, d.path or "", d.line or 0, d.col or 0),
    )


def _validate(data: dict[str, Any]) -> tuple[StudyFile, list[Problem]]:
    """The study and its problems; faulty parts are left out, so that the rest can be checked too."""
    try:
        return StudyFile.model_validate(data), []
    except ValidationError as error:
        problems = [_problem(detail, data) for detail in error.errors(include_url=False)]
    stand_in = {"name": "unnamed", "base": {"model": "none"}, "objectives": {}}
    rest, faulty = copy.deepcopy(data), problems
    for _ in range(9):  # what is left of a mapping may lack a key in its turn
        for problem in faulty:
            _remove(rest, problem.path)
        try:
            return StudyFile.model_validate(stand_in | rest), problems
        except ValidationError as error:
            faulty = [_problem(detail, rest) for detail in error.errors(include_url=False)]
    return StudyFile.model_validate(stand_in), problems


def _remove(data: dict[str, Any], path: Path_) -> None:
    """Take a faulty value out, with the list or the variable that it makes useless."""
    path = path[:2] if path[:1] == ("space",) else path
    path = path[: next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))]
    target: Any = data
    for part in path[:-1]:
        target = target.get(part) if isinstance(target, dict) else None
    if path and isinstance(target, dict) and path[-1] in target:
        del target[path[-1]]
    elif path:  # the key is missing, so what it is missing from is of no use either
        _remove(data, path[:-1])


def _problem(detail: Mapping[str, Any], data: dict[str, Any]) -> Problem:
    """pydantic's complaint in the user's words, at a path that exists in the user's data."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    path, where = _real_path(detail["loc"], data)
    if kind == "missing":
        key = str(detail["loc"][-1])
        parent = f" in '{yamlio.dotted(path)}'" if path else ""
        return Problem((*path, key), f"missing key '{key}'{parent}", _meaning((*path, key)), at_key=True)
    if kind == "extra_forbidden":
        parent = f" in '{yamlio.dotted(path[:-1])}'" if len(path) > 1 else ""
        return Problem(
            path,
            f"unknown key '{path[-1]}'{parent}",
            did_you_mean(str(path[-1]), _keys_at(path[:-1]), "keys"),
            True,
        )
    if kind == "value_error":
        error = context["error"]
        is_told = isinstance(error, BadValue)
        return Problem(path, _named(path, error.message if is_told else str(error)), error.hint if is_told else None)
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        close = nearest(value, options) if isinstance(value, str) else None
        hint = f"did you mean '{close}'?" if close and len(options) > 2 else None
        return Problem(path, _named(path, f"expected {context['expected']}, found {found(value)}"), hint)
    return Problem(path, _named(path, _complaint(kind, where, value, context)), None, kind == "dict_type")


def _complaint(kind: str, value: Any, given: Any, context: Mapping[str, Any]) -> str:
    """One sentence for pydantic's other kinds of errors."""
    expected = {
        "model_type": "a mapping", "dict_type": "a mapping", "list_type": "a list", "tuple_type": "a list",
        "string_type": "text", "bool_type": "true or false",
    }  # fmt: skip
    limits = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    if kind in expected:
        return f"expected {expected[kind]}, found {found(given)}"
    if kind in limits:
        return f"must be {words[limits[kind]]} {context[limits[kind]]:g}; found {found(value)}"
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        return f"expected {limit} values, found {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        return f"'{given}' is not a name: use letters, digits, '-', '_' and '.'"
    return f"cannot use {found(given)}"


def _named(path: Path_, message: str) -> str:
    """The message, with the key as the user wrote it in front."""
    return f"{yamlio.dotted(path)}: {message}" if path else message


def _real_path(loc: tuple[Any, ...], data: Any) -> tuple[Path_, Any]:
    """The parts of pydantic's location that are keys or list positions in the data, and the value there."""
    path: list[str | int] = []
    for part in loc:
        if part == "tpot" and isinstance(data, dict) and "tpot" not in data:
            part = "itl"
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data))):
            path.append(part)
            data = data[part]
    return tuple(path), data


def _model_at(path: Path_) -> type[BaseModel] | None:
    """The model that describes the mapping at a path."""
    model: type[BaseModel] | None = Study
    annotation: Any = Study
    for part in path:
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
        else:
            annotation = next((arg for arg in get_args(annotation)[::-1] if arg is not type(None)), None)
        model = _model_in(annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Slo`, `Slo | None`, `list[Slo]` or `dict[str, Slo]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for arg in get_args(annotation) if (model := _model_in(arg)) is not None), None)


def _keys_at(path: Path_) -> list[str]:
    """Keys that may stand at a path, as users write them."""
    model = _model_at(path)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _meaning(path: Path_) -> str | None:
    model = _model_at(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    return f"{path[-1]}: {field.description}" if field and field.description else None
