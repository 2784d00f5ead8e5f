"""What a search asks of the thing that it searches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.integer]  # (A, V): position of each of A designs in the choices of each of V variables
Told = tuple[Index, NDArray[np.float64], NDArray[np.float64]]  # what a sampler learns: positions, values (A, M), violations (A, C)


class Variable(Protocol):
    """One discrete variable."""

    name: str
    choices: tuple
    ordered: bool


class Objective(Protocol):
    """One axis of the front; `direction` is `minimize` or `maximize`."""

    name: str
    direction: str


class Batch(Protocol):
    """What `Problem.evaluate` returns for A designs.

    Every row of `points` is taken as feasible unless it has a boolean column `feasible` that says otherwise.
    """

    points: dict[str, np.ndarray]  # columns (P,), among them one per objective
    design: NDArray[np.integer]  # (P,) row of the asked batch
    objectives: NDArray[np.float64]  # (A, M) representative point, NaN where nothing fits
    violations: NDArray[np.float64]  # (A, C) signed, <= 0 is feasible, always finite
    n_layouts: int
    n_candidates: int
    n_feasible: int
    killed: dict[str, int]


class Problem(Protocol):
    """A discrete multi-objective problem with constraints.

    Optional: `n_designs`, how many distinct valid designs there are, where that is known; where layouts are variables, `blocks`, the
    unit that each variable describes the layout of ("" for the design's own), and `fitting(index)` -> (A,), whether the layouts of
    canonical, valid rows fit, which is cheaper to know than their values; `bound(index) -> (A, J, M)`, what no point of a design can
    beat (`exclusion`), with `unbounded`, the objectives for which it knows nothing, and `sample(n)`, random designs.
    """

    variables: tuple[Variable, ...]
    objectives: tuple[Objective, ...]
    constraint_names: tuple[str, ...]

    def canonical(self, index: Index) -> Index:
        """Inactive variables moved to their fixed position, so that equal designs have equal rows."""
        ...

    def valid(self, index: Index) -> NDArray[np.bool_]:
        """Structural filter (`where`), (A,)."""
        ...

    def evaluate(self, index: Index) -> Batch:
        """Score canonical, valid designs."""
        ...

    def enumerate(self, chunk: int) -> Iterator[Index]:
        """Every canonical, valid design once, in an order that does not depend on `chunk`."""
        ...


def maximised(problem: Problem) -> tuple[bool, ...]:
    """Which objectives are to be raised."""
    return tuple(objective.direction == "maximize" for objective in problem.objectives)


def sizes(problem: Problem) -> tuple[int, ...]:
    """Number of choices of every variable."""
    return tuple(len(variable.choices) for variable in problem.variables)


def fingerprint(problem: Problem) -> str:
    """Identity of a search space: equal fingerprints mean that stored rows of positions can be reused."""
    space = [[v.name, [str(choice) for choice in v.choices], bool(v.ordered)] for v in problem.variables]
    goals = [[o.name, o.direction] for o in problem.objectives]
    text = json.dumps([space, goals, list(problem.constraint_names)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
