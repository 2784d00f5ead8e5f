"""From what a user writes for one variable (`choices`, `range`, ...) to the tuple of its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from codesign.spec.errors import BadValue, Problem, did_you_mean, nearest
from codesign.spec.fields import found
from codesign.spec.schema import VariableDefinition
from codesign.spec.units import dimension, is_quantity, quantity

MAX_CHOICES = 10_000
KINDS = ("choices", "range", "powers_of_two", "divisors_of")


class Legal(NamedTuple):
    """What a variable may hold: Python type, SI unit ('' for counts and ratios), meaning, least value."""

    type: type
    unit: str = ""
    description: str = ""
    names: tuple[str, ...] = ()  # of text that must be one of them
    least: float = -math.inf


class Choices(NamedTuple):
    """Typed values of one variable, whether their order means anything, and the value while inactive."""

    values: tuple[Any, ...]
    ordered: bool
    otherwise: Any


def read(
    name: str,
    definition: VariableDefinition,
    legal: Legal | None,
    fixed: Mapping[str, Any],
    names: Iterable[str],
) -> tuple[Choices | None, list[Problem]]:
    """The choices of one variable, or its problems.  `fixed`: base values of variables that do not vary."""
    reader = _Reader(("space", name), definition, legal, fixed, names)
    values = reader.values()
    otherwise = reader.typed(definition.otherwise, "else") if definition.otherwise is not None else None
    if definition.otherwise is not None and definition.when is None:
        reader.problem("'else' needs a 'when'", "else", at_key=True)
    if reader.problems:
        return None, reader.problems
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    rising = numeric and (list(values) == sorted(values) or list(values) == sorted(values, reverse=True))
    return Choices(tuple(values), rising, otherwise), []


class _Reader:
    """Reads one definition, noting every problem with its place."""

    def __init__(
        self,
        path: tuple[str, ...],
        definition: VariableDefinition,
        legal: Legal | None,
        fixed: Mapping[str, Any],
        names: Iterable[str],
    ) -> None:
        self.path, self.definition, self.fixed, self.names = path, definition, fixed, names
        self.legal = legal or self._guess(definition)
        self.problems: list[Problem] = []

    def problem(self, message: str, *place: str | int, hint: str | None = None, at_key: bool = False) -> None:
        self.problems.append(Problem((*self.path, *place), message, hint, at_key))

    def values(self) -> list[Any]:
        given = [kind for kind in KINDS if getattr(self.definition, kind) is not None]
        if len(given) != 1:
            message = f"give one of {', '.join(KINDS)}" + (f", not {' and '.join(given)}" if given else "")
            self.problem(message, *given[1:2], at_key=True)
            return []
        kind = given[0]
        self._unused(kind)
        values = getattr(self, f"_{kind}")()
        if not self.problems and not values:
            self.problem("no value is left", kind, at_key=True)
        if len(values) > MAX_CHOICES:
            self.problem(f"this gives {len(values):,} values, more than {MAX_CHOICES:,}", kind, at_key=True)
        return values

    def typed(self, value: Any, *place: str | int) -> Any:
        """One value in the variable's type and SI unit."""
        try:
            typed = _typed(value, self.legal)
            if isinstance(typed, int | float) and typed < self.legal.least:
                raise BadValue(f"must be at least {self.legal.least:g}; found {value}")
            return typed
        except BadValue as error:
            self.problem(error.message, *place, hint=error.hint)
            return None

    def _unused(self, kind: str) -> None:
        """Keys that belong to another kind are not silently ignored."""
        belongs = {"step": "range", "log": "range", "n": "range", "min": "divisors_of", "max": "divisors_of"}
        for key, owner in belongs.items():
            if owner != kind and getattr(self.definition, key) not in (None, False):
                self.problem(f"'{key}' goes with '{owner}', not with '{kind}'", key, at_key=True)

    def _choices(self) -> list[Any]:
        values = [self.typed(value, "choices", i) for i, value in enumerate(self.definition.choices)]
        first: dict[Any, int] = {}
        for i, value in enumerate(values):
            if value is not None and first.setdefault(value, i) != i:
                self.problem(f"'{self.definition.choices[i]}' is already among the choices", "choices", i)
        if not values:
            self.problem("there are no choices", "choices")
        return values

    def _range(self) -> list[Any]:
        definition = self.definition
        if self.legal.type not in (int, float):
            self.problem("a range needs numbers", "range", at_key=True)
            return []
        low, high = (self.typed(value, "range", i) for i, value in enumerate(definition.range))
        if low is None or high is None:
            return []
        if low > high:
            self.problem(f"the range is empty: {definition.range[0]} is above {definition.range[1]}", "range")
            return []
        if definition.log:
            return self._log_range(low, high)
        if definition.n is not None:
            if definition.step is not None:
                self.problem("give 'step' or 'n', not both", "n", at_key=True)
            count = definition.n - 1
            return self._distinct(low + (high - low) * i / count for i in range(definition.n))
        return self._stepped(low, high)

    def _stepped(self, low: Any, high: Any) -> list[Any]:
        step = 1 if self.definition.step is None else self.typed(self.definition.step, "step")
        if self.definition.step is None and self.legal.type is float:
            self.problem("a range of fractions needs 'step' or 'n'", "range", at_key=True)
        elif step is not None and step <= 0:
            self.problem(f"the step must be more than 0; found {self.definition.step}", "step")
        elif step is not None:
            count = math.floor((high - low) / step * (1 + 1e-12) + 1e-9) + 1
            if count <= MAX_CHOICES:
                return [_tidy(low + i * step, self.legal.type) for i in range(count)]
            self.problem(
                f"this gives {count:,} values, more than {MAX_CHOICES:,}",
                "step" if self.definition.step else "range",
            )
        return []

    def _log_range(self, low: Any, high: Any) -> list[Any]:
        if self.definition.step is not None:
            self.problem("'log' goes with 'n', not with 'step'", "step", at_key=True)
        elif self.definition.n is None:
            self.problem("'log' needs 'n', the number of values", "log", at_key=True)
        elif low <= 0:
            self.problem("a range with 'log' must begin above 0", "range", 0)
        else:
            count = self.definition.n - 1
            return self._distinct(low * (high / low) ** (i / count) for i in range(self.definition.n))
        return []

    def _distinct(self, values: Iterator[float]) -> list[Any]:
        return list(dict.fromkeys(_tidy(value, self.legal.type) for value in values))

    def _powers_of_two(self) -> list[Any]:
        low, high = self.definition.powers_of_two
        if self.legal.type not in (int, float):
            self.problem("powers of two are numbers", "powers_of_two", at_key=True)
        if low < 1:
            self.problem("powers of two begin at 1", "powers_of_two", 0)
        if low > high:
            self.problem(f"the range is empty: {low} is above {high}", "powers_of_two")
        return [self.legal.type(2**i) for i in range(63) if low <= 2**i <= high] if not self.problems else []

    def _divisors_of(self) -> list[Any]:
        of = self.definition.divisors_of
        if isinstance(of, str):
            full = _complete(of, self.fixed)
            if full is None or isinstance(self.fixed[full], bool) or not isinstance(self.fixed[full], int | float):
                varies = _complete(of, dict.fromkeys(self.names)) is not None
                hint = (
                    f"'{of}' varies itself: use 'where' with divides(...)"
                    if varies
                    else did_you_mean(of, [*self.fixed, *(full.rpartition(".")[2] for full in self.fixed)], "base values")
                )
                self.problem(f"'{of}' is not a base value", "divisors_of", hint=hint)
                return []
            of = int(self.fixed[full])
        if not 1 <= of <= 10**12:
            self.problem("expected a whole number from 1 to 1e12", "divisors_of")
            return []
        low, high = self.definition.min or 1, self.definition.max or of
        if low > high:
            self.problem(f"the range is empty: min {low} is above max {high}", "min")
        small = [d for d in range(1, math.isqrt(of) + 1) if of % d == 0]
        return [d for d in sorted({*small, *(of // d for d in small)}) if low <= d <= high]

    def _guess(self, definition: VariableDefinition) -> Legal:
        """Type and unit from the values themselves, for a caller who does not know the variables."""
        values = [value for value in (definition.choices or definition.range or [1]) if not isinstance(value, dict | list)]
        first = values[0] if values else 1
        if is_quantity(first):
            try:
                return Legal(float, dimension(first))
            except BadValue:
                return Legal(float)
        if all(isinstance(value, int) and not isinstance(value, bool) for value in [*values, definition.step or 1]):
            return Legal(int)
        kind = next((k for k in (bool, str) if isinstance(first, k)), float)
        return Legal(kind)


def _typed(value: Any, legal: Legal) -> Any:
    if legal.type is bool:
        if not isinstance(value, bool):
            raise BadValue(f"expected true or false, found {found(value)}")
        return value
    if legal.type is str:
        if not isinstance(value, str):
            raise BadValue(f"expected a name, found {found(value)}")
        if legal.names and value not in legal.names:
            close = nearest(value, legal.names)
            hint = f"did you mean '{close}'?" if close else None
            raise BadValue(f"{found(value)} is none of {', '.join(legal.names)}", hint=hint)
        return value
    number = quantity(value, legal.unit)
    if not math.isfinite(number):
        raise BadValue(f"expected a finite number, found {found(value)}")
    if legal.type is int:
        if number != int(number):
            raise BadValue(f"expected a whole number, found {found(value)}")
        return int(number)
    return number


def _tidy(value: float, kind: type) -> Any:
    """A value of a grid without rounding noise: 0.1 + 2 * 0.1 is 0.3."""
    return round(value) if kind is int else float(f"{value:.12g}")


def _complete(name: str, names: Mapping[str, Any]) -> str | None:
    if name in names:
        return name
    candidates = [full for full in names if full.endswith("." + name)]
    return candidates[0] if len(candidates) == 1 else None
