"""The space of designs: finitely many choices, conditions, ties and exclusions, on integer index arrays.

A = designs, V = variables.  A design is a row of positions: index[a, v] points into variables[v].choices.
A variable whose `when` is false is inactive and sits at its canonical position, so equal designs are equal
rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from codesign.spec.expressions import Expression

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Variable:
    """One variable: its choices; one that `n_active` leaves out is only the value while inactive."""

    name: str
    choices: tuple[Any, ...]
    ordered: bool
    when: Expression | None = None
    otherwise: Any = None
    n_active: int = 0
    """Choices open to an active variable: the first `n_active`."""
    canonical: int = 0
    """Position while inactive."""

    @cached_property
    def values(self) -> np.ndarray:
        """The choices as a typed array."""
        return np.array(self.choices)


class Late(NamedTuple):
    """Columns that `where` may read although only the evaluator can compute them, such as n_params."""

    names: frozenset[str]
    compute: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
    """Columns for the given variables and derived values."""
    inputs: tuple[str, ...] = ("architecture.", "precision.")
    """Beginnings of the names of the variables they depend on."""


class Count(NamedTuple):
    """A number of designs: exact, or estimated from a sample where counting would take too long."""

    n: int
    is_exact: bool


@dataclass(frozen=True)
class Space:
    """All designs of a study."""

    variables: tuple[Variable, ...]
    derived: dict[str, Expression] = field(default_factory=dict)
    """In an order in which each needs only the ones before it."""
    where: tuple[Expression, ...] = ()
    fixed: Columns = field(default_factory=dict)
    """Base values of what does not vary, for expressions."""
    late: Late | None = None
    integers: frozenset[str] = frozenset()
    """Derived values that must be whole numbers."""

    def size(self) -> int:
        """Product of the numbers of choices, before `when` and `where`."""
        return math.prod(variable.n_active for variable in self.variables)

    def canonical(self, index: np.ndarray) -> np.ndarray:
        """The same designs (A, V), inactive variables at their canonical position, others in range."""
        index = np.array(index, dtype=np.int64, ndmin=2)
        env = _Env(self, index)
        for v in self._order:
            variable = self.variables[v]
            open_position = np.minimum(index[:, v], variable.n_active - 1)
            is_active = True if variable.when is None else _truth(variable.when.evaluate(env), len(index))
            index[:, v] = np.where(is_active, open_position, variable.canonical)
        return index

    def active(self, index: np.ndarray) -> np.ndarray:
        """Which variables of canonical designs are active (A, V); the others are empty cells in tables."""
        env = _Env(self, index)
        columns = [_truth(True if v.when is None else v.when.evaluate(env), len(index)) for v in self.variables]
        return np.stack(columns, axis=1) if columns else np.ones((len(index), 0), bool)

    def values(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Variables and derived values of canonical designs, as typed arrays (A,)."""
        env = _Env(self, index)
        names = [*(variable.name for variable in self.variables), *self.derived]
        return {name: np.broadcast_to(env[name], (len(index),)) for name in names}

    def valid(self, index: np.ndarray) -> np.ndarray:
        """Whether canonical designs satisfy every `where` (A,)."""
        return self._satisfied(_Env(self, index), range(len(self.where)), len(index))

    def n_designs(self, cap: int = 200_000_000) -> Count:
        """Distinct designs after `when`, before `where`."""
        return self._count(self._groups(()), cap, ())

    def n_valid(self, cap: int = 20_000_000) -> Count:
        """Distinct designs after `when` and `where`."""
        every = tuple(range(len(self.where)))
        return self._count(self._groups(every), cap, every)

    def enumerate(self, chunk: int = 65536, start: int = 0) -> Iterator[np.ndarray]:
        """Every distinct valid design once, in fixed order, `chunk` rows a time, after the first `start`."""
        pending: list[np.ndarray] = []
        n_pending = 0
        blocks = self._expand(self._order, tuple(range(len(self.where))), chunk)
        for block in blocks:
            skipped = min(start, len(block))
            start -= skipped
            pending.append(block[skipped:])
            n_pending += len(block) - skipped
            while n_pending >= chunk:
                rows = np.concatenate(pending)
                yield rows[:chunk]
                pending, n_pending = [rows[chunk:]], n_pending - chunk
        if n_pending:
            yield np.concatenate(pending)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n random canonical designs, invalid ones included: positions are uniform before `when`."""
        return self.canonical(self._draw(np.random.default_rng(seed), n))

    def possible(self, condition: Expression, cap: int = 1_000_000) -> bool | None:
        """Whether any design makes a condition true; None where more than `cap` would have to be tried."""
        members = set(self.depends_on(condition))
        while not members >= (more := frozenset().union(*(self._needs[v] for v in members))):
            members |= more
        if math.prod(self.variables[v].n_active for v in members) > cap:
            return None
        blocks = self._expand([v for v in self._order if v in members], (), 65536)
        return any(_truth(condition.evaluate(_Env(self, block)), len(block)).any() for block in blocks)

    def _draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        limits = np.array([variable.n_active for variable in self.variables], dtype=np.int64)
        return rng.integers(0, limits, size=(n, len(limits)))

    def _satisfied(self, env: _Env, conditions: Iterable[int], n: int) -> np.ndarray:
        result = np.ones(n, dtype=bool)
        for i in conditions:
            result &= _truth(self.where[i].evaluate(env), n)
        return result

    @cached_property
    def _position(self) -> dict[str, int]:
        return {variable.name: v for v, variable in enumerate(self.variables)}

    def depends_on(self, expression: Expression) -> frozenset[int]:
        """The variables that an expression reads, through derived and late values too."""
        found: set[int] = set()
        names, seen = list(expression.names), set()
        while names:
            name = names.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._position:
                found.add(self._position[name])
            elif name in self.derived:
                names.extend(self.derived[name].names)
            elif self.late is not None and name in self.late.names:
                names.extend(n for n in [*self._position, *self.derived] if n.startswith(self.late.inputs))
        return frozenset(found)

    @cached_property
    def _needs(self) -> tuple[frozenset[int], ...]:
        """For each variable, those that its `when` reads."""
        return tuple(self.depends_on(v.when) if v.when else frozenset() for v in self.variables)

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """Variables as declared, but each after those that its `when` reads."""
        order: list[int] = []
        waiting = list(range(len(self.variables)))
        while waiting:
            ready = next((v for v in waiting if self._needs[v] <= set(order)), None)
            if ready is None:
                raise ValueError("conditions form a circle")
            order.append(ready)
            waiting.remove(ready)
        return tuple(order)

    def _groups(self, conditions: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Sets of variables that no condition connects, each with its conditions: their counts multiply."""
        links = [{v, *needs} for v, needs in enumerate(self._needs)]
        links += [set(self.depends_on(self.where[i])) for i in conditions]
        groups: list[set[int]] = []
        for link in links:
            touching = [group for group in groups if group & link]
            groups = [group for group in groups if not group & link] + [link.union(*touching)]
        result = []
        for group in groups:
            inside = tuple(i for i in conditions if self.depends_on(self.where[i]) <= group)
            result.append((tuple(v for v in self._order if v in group), inside))
        return result

    def _count(self, groups: list[tuple[tuple[int, ...], tuple[int, ...]]], cap: int, conditions: Sequence[int]) -> Count:
        constant = [i for i in conditions if not self.depends_on(self.where[i])]
        if not self._satisfied(_Env(self, np.zeros((1, len(self.variables)), np.int64)), constant, 1).all():
            return Count(0, True)
        total, is_exact = 1, True
        for members, inside in groups:
            product = math.prod(self.variables[v].n_active for v in members)
            if not inside and all(self.variables[v].when is None for v in members):
                total *= product
            elif product <= cap:
                total *= sum(len(block) for block in self._expand(members, inside, 65536))
            else:
                total, is_exact = round(total * self._estimate(members, inside, product)), False
        return Count(total, is_exact)

    def _estimate(self, members: Sequence[int], conditions: Sequence[int], product: int, n: int = 200_000) -> float:
        """Unbiased count from n draws: a design can be drawn once per combination of its inactive choices."""
        rows = self.canonical(self._draw(np.random.default_rng(0), n))
        open_choices = np.array([self.variables[v].n_active for v in members], dtype=float)
        copies = np.where(self.active(rows)[:, list(members)], 1.0, open_choices).prod(axis=1)
        return float(np.mean(self._satisfied(_Env(self, rows), conditions, n) / copies)) * product

    def _expand(self, members: Sequence[int], conditions: Sequence[int], chunk: int) -> Iterator[np.ndarray]:
        """All canonical rows over `members` (in an order that respects `when`) that satisfy `conditions`;
        other columns stay 0.

        Depth first in blocks of about `chunk` rows; each condition prunes as soon as the last variable it
        reads is placed.
        """
        level_of = {v: level for level, v in enumerate(members)}
        checks: list[list[int]] = [[] for _ in range(len(members) + 1)]
        for i in conditions:
            checks[1 + max((level_of[v] for v in self.depends_on(self.where[i])), default=-1)].append(i)

        def grow(rows: np.ndarray, level: int) -> Iterator[np.ndarray]:
            if checks[level]:
                rows = rows[self._satisfied(_Env(self, rows), checks[level], len(rows))]
            if level == len(members) or not len(rows):
                if len(rows):
                    yield rows
                return
            step = max(1, chunk // self.variables[members[level]].n_active)
            for begin in range(0, len(rows), step):
                yield from grow(self._place(rows[begin : begin + step], members[level]), level + 1)

        yield from grow(np.zeros((1, len(self.variables)), dtype=np.int64), 0)

    def _place(self, rows: np.ndarray, v: int) -> np.ndarray:
        """Each row once per choice of variable v where v is active, else once at v's canonical position."""
        variable = self.variables[v]
        if variable.when is None:
            copies: Any = variable.n_active
            placed = np.tile(np.arange(variable.n_active), len(rows))
        else:
            is_active = _truth(variable.when.evaluate(_Env(self, rows)), len(rows))
            copies = np.where(is_active, variable.n_active, 1)
            first = np.repeat(np.cumsum(copies) - copies, copies)
            placed = np.where(np.repeat(is_active, copies), np.arange(len(first)) - first, variable.canonical)
        rows = np.repeat(rows, copies, axis=0)
        rows[:, v] = placed
        return rows


class _Env(Mapping[str, Any]):
    """Values of names for a block of designs, computed when first read.

    While a space is being built up, only columns already placed are read, because conditions are evaluated
    in dependency order.
    """

    def __init__(self, space: Space, index: np.ndarray) -> None:
        self.space, self.index, self.known = space, index, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.known:
            self.known[name] = self._compute(name)
        return self.known[name]

    def _compute(self, name: str) -> Any:
        space = self.space
        if name in space._position:
            v = space._position[name]
            return space.variables[v].values[self.index[:, v]]
        if name in space.derived:
            value = space.derived[name].evaluate(self)
            return np.rint(value).astype(np.int64) if name in space.integers else value
        if name in space.fixed:
            return space.fixed[name]
        if space.late is not None and name in space.late.names:
            inputs = [n for n in [*space._position, *space.derived] if n.startswith(space.late.inputs)]
            self.known.update(space.late.compute({n: np.broadcast_to(self[n], (len(self.index),)) for n in inputs}))
            return self.known[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.space._position, *self.space.derived, *self.space.fixed])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _truth(value: Any, n: int) -> np.ndarray:
    """Any value of a condition as booleans (n,); nan is false."""
    value = np.asarray(value)
    truth = value if value.dtype == bool else (value != 0) & ~np.isnan(value.astype(float))
    return np.broadcast_to(truth, (n,))
