"""From the `space`, `derived` and `where` of a study to a Space, collecting every problem on the way."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesign.spec import choices as reading
from codesign.spec.choices import Choices, Legal
from codesign.spec.errors import BadValue, Problem, did_you_mean
from codesign.spec.expressions import Expression, ExpressionError, compile
from codesign.spec.schema import VariableDefinition
from codesign.spec.space import Late, Space, Variable


def build(
    definitions: Mapping[str, VariableDefinition],
    derived: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    *,
    legal: Mapping[str, Legal] | None = None,
    fixed: Mapping[str, Any] | None = None,
    late: Late | None = None,
    is_partial: bool = False,
) -> tuple[Space | None, list[Problem]]:
    """The space, or None and the problems.

    `legal`: every variable there is (None: unknown names are let pass, for a check without the catalog);
    `fixed`: base values of variables; `late`: columns that only `where` may use; `is_partial`: some
    variables were left out because they are wrong.
    """
    builder = _Builder(definitions, derived or {}, where, legal, fixed or {}, late)
    space = builder.space()
    if space is not None and legal is not None and not is_partial:
        builder.check_possible(space)
    return (space if not builder.problems else None), builder.problems


class _Builder:
    def __init__(
        self,
        definitions: Mapping[str, VariableDefinition],
        derived: Mapping[str, str],
        where: Sequence[str],
        legal: Mapping[str, Legal] | None,
        fixed: Mapping[str, Any],
        late: Late | None,
    ) -> None:
        self.definitions, self.derived, self.where = definitions, derived, where
        self.legal, self.fixed, self.late = legal, fixed, late
        self.problems: list[Problem] = []

    def space(self) -> Space | None:
        read = {name: self._choices(name, definition) for name, definition in self.definitions.items()}
        self._check_derived_names()
        scope = self._scope(read)
        conditions = {
            name: self._compile(definition.when, scope, "space", name, "when")
            for name, definition in self.definitions.items()
            if definition.when is not None
        }
        formulas = {name: self._compile(text, scope, "derived", name) for name, text in self.derived.items()}
        where = [self._compile(text, scope, "where", i) for i, text in enumerate(self.where)]
        for i, expression in enumerate(where):
            self._is_condition(expression, "where", i)
        for name, expression in conditions.items():
            self._is_condition(expression, "space", name, "when")
            self._not_late(expression, "space", name, "when")
        for name, expression in formulas.items():
            self._not_late(expression, "derived", name)
        order = self._order(conditions, formulas)
        if self.problems:
            return None
        variables = tuple(self._variable(name, read[name], conditions.get(name)) for name in self.definitions)
        is_integer = {name for name in formulas if self.legal and name in self.legal and self.legal[name].type is int}
        return Space(
            variables,
            {name: formulas[name] for name in order},
            tuple(where),
            self.fixed,
            self.late,
            frozenset(is_integer),
        )

    def check_possible(self, space: Space) -> None:
        """A condition that can never hold is a mistake (often a misspelt name in quotes)."""
        known = {*self.definitions, *self.derived, *self.fixed, *(self.late.names if self.late else ())}
        late = self.late.names if self.late else frozenset()
        todo = [(("space", v.name, "when"), v.when) for v in space.variables if v.when]
        todo += [(("where", i), expression) for i, expression in enumerate(space.where)]
        for path, expression in todo:
            for name in expression.names:
                if name not in known:
                    self._problem(f"'{name}' has no value: it is neither varied nor known from the base", *path)
            reads_late = late & set(expression.names)
            if set(expression.names) <= known and not reads_late and space.possible(expression) is False:
                varied = [v for v in space.variables if v.name in expression.names]
                if path[-1] == "when" and any(self._pinned(v.name, len(v.choices), expression.text) for v in varied):
                    continue
                hint = "; ".join(f"{v.name} takes {_listed(v.choices)}" for v in varied) or None
                self._problem(f"this is never true: {expression.text}", *path, hint=hint)

    def _pinned(self, name: str, n_choices: int, text: str) -> bool:
        """Whether one choice of a variable (`--set`) settles a condition that another legal one would meet: no mistake then."""
        legal = (self.legal or {}).get(name)
        names = legal.names if legal is not None else ()
        return n_choices == 1 and (not names or any(f"{quote}{other}{quote}" in text for other in names for quote in "'\""))

    def _problem(self, message: str, *path: str | int, hint: str | None = None, at_key: bool = False) -> None:
        self.problems.append(Problem(path, message, hint, at_key))

    def _choices(self, name: str, definition: VariableDefinition) -> Choices | None:
        legal = (self.legal or {}).get(name)
        if self.legal is not None and legal is None:
            self._problem(f"unknown variable '{name}'", "space", name, hint=_unknown(name, self.legal), at_key=True)
        read, problems = reading.read(name, definition, legal, self.fixed, self.definitions)
        self.problems += problems
        return read

    def _check_derived_names(self) -> None:
        for name in self.derived:
            parts = name.split(".")
            if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
                self._problem(
                    f"'{name}' is not a name",
                    "derived",
                    name,
                    hint="use letters, digits, _ and .",
                    at_key=True,
                )
            if name in self.definitions:
                self._problem(f"'{name}' is also a variable of the space", "derived", name, at_key=True)
            hidden = [full for full in (self.legal or {}) if full.endswith("." + name)]
            if hidden:
                hint = f"write '{hidden[0]}' to set it, or choose another name"
                self._problem(f"'{name}' would hide '{hidden[0]}'", "derived", name, hint=hint, at_key=True)
            if "." in name and self.legal is not None and name not in self.legal:
                self._problem(
                    f"unknown variable '{name}'",
                    "derived",
                    name,
                    hint=_unknown(name, self.legal),
                    at_key=True,
                )

    def _scope(self, read: Mapping[str, Choices | None]) -> dict[str, type]:
        """Every name that an expression may use, and its type."""
        scope: dict[str, type] = {name: entry.type for name, entry in (self.legal or {}).items()}
        scope |= dict.fromkeys(self.late.names if self.late else (), float)
        scope |= {name: type(value) for name, value in self.fixed.items() if name not in scope}
        scope |= {name: type(found.values[0]) if found else object for name, found in read.items()}
        return scope | dict.fromkeys(self.derived, object)

    def _compile(self, text: str, scope: Mapping[str, type], *path: str | int) -> Expression | None:
        try:
            return compile(text, scope, strict=self.legal is not None)
        except ExpressionError as error:
            self.problems.append(Problem(path, error.message, error.hint, inside=(text, error.col)))
            return None

    def _is_condition(self, expression: Expression | None, *path: str | int) -> None:
        if expression is not None and expression.kind in ("text", "number"):
            what = "text" if expression.kind == "text" else "a number"
            self._problem(f"'{expression.text}' is {what}, not a condition", *path, hint="compare it with something")

    def _not_late(self, expression: Expression | None, *path: str | int) -> None:
        for name in expression.names if expression and self.late else ():
            if name in self.late.names:
                message = f"'{name}' is known only after a design is complete"
                self._problem(message, *path, hint="it can be used in 'where' and in 'constraints'")

    def _order(self, conditions: Mapping[str, Expression | None], formulas: Mapping[str, Expression | None]) -> list[str]:
        """Derived names, each after those it needs; a circle among conditions and formulas is a problem."""
        reads = {name: e.names for name, e in [*conditions.items(), *formulas.items()] if e is not None}
        done: list[str] = []
        circles: set[frozenset[str]] = set()

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if name in trail:
                circle = trail[trail.index(name) :]
                if frozenset(circle) not in circles:
                    circles.add(frozenset(circle))
                    path = ("derived", name) if name in formulas else ("space", name, "when")
                    self._problem("these refer to each other in a circle: " + " -> ".join([*circle, name]), *path)
            elif name in reads and name not in done and len(trail) < 200:
                for needed in reads[name]:
                    visit(needed, (*trail, name))
                done.append(name)

        for name in reads:
            visit(name, ())
        return [name for name in done if name in formulas]

    def _variable(self, name: str, read: Choices, when: Expression | None) -> Variable:
        """The variable, its value while inactive placed among the choices (behind them if it is not one)."""
        values, n_active = read.values, len(read.values)
        if when is None:
            return Variable(name, values, read.ordered, n_active=n_active)
        otherwise = read.otherwise if read.otherwise is not None else self._base_value(name, values)
        if otherwise not in values:
            values = (*values, otherwise)
        return Variable(name, values, read.ordered, when, otherwise, n_active, values.index(otherwise))

    def _base_value(self, name: str, values: tuple[Any, ...]) -> Any:
        """What an inactive variable without `else` keeps: the base value, or its first choice."""
        base = self.fixed.get(name)
        is_alike = isinstance(base, str) == isinstance(values[0], str) and isinstance(base, str | int | float)
        return base if base is not None and is_alike else values[0]


def _unknown(name: str, legal: Iterable[str]) -> str:
    same_leaf = [full for full in legal if full.endswith("." + name)]
    return f"write '{same_leaf[0]}'" if same_leaf else did_you_mean(name, legal, "variables")


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown + (", ..." if len(values) > 8 else "")


def parse(
    raw: Mapping[str, Any],
    derived: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    **context: Any,
) -> Space:
    """A space from plain data, for callers without a file: problems are raised without positions."""
    definitions = {name: VariableDefinition.model_validate(value) for name, value in raw.items()}
    space, problems = build(definitions, derived, where, **context)
    if space is None:
        raise BadValue("; ".join(problem.message for problem in problems))
    return space
