"""Discrete problems whose Pareto front is known in closed form, with the interface that searches work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Variable:
    """One ordered variable."""

    name: str
    choices: tuple
    ordered: bool = True


@dataclass(frozen=True)
class Objective:
    """One axis of the front."""

    name: str
    direction: str = "minimize"


@dataclass
class Batch:
    """What `evaluate` returns; every design is one point."""

    points: dict[str, np.ndarray]
    design: np.ndarray
    objectives: np.ndarray
    violations: np.ndarray
    n_layouts: int
    n_candidates: int
    n_feasible: int
    killed: dict[str, int] = field(default_factory=dict)


class ClosedForm:
    """Position variables place a point along the front, distance variables push it away from it.

    Positions are `n_steps` points of [0, 1]; distances are positions of a grid on which the optimum lies.
    """

    constraint_names = ("none",)

    def __init__(self, n_position: int, n_distance: int, n_steps: int, n_grid: int, n_objectives: int) -> None:
        self._position = np.linspace(0.0, 1.0, n_steps)
        self._n_position, self._n_grid = n_position, n_grid
        names = [f"x{i}" for i in range(n_position)] + [f"d{i}" for i in range(n_distance)]
        widths = [n_steps] * n_position + [n_grid] * n_distance
        self.variables = tuple(Variable(name, tuple(range(n))) for name, n in zip(names, widths, strict=True))
        self.objectives = tuple(Objective(f"f{i + 1}") for i in range(n_objectives))

    @cached_property
    def n_designs(self) -> int:
        """All combinations."""
        return int(np.prod([float(len(v.choices)) for v in self.variables]))

    def canonical(self, index: np.ndarray) -> np.ndarray:
        """Every variable is always active."""
        return np.array(index)

    def valid(self, index: np.ndarray) -> np.ndarray:
        """Every combination is allowed."""
        return np.ones(len(index), bool)

    def evaluate(self, index: np.ndarray) -> Batch:
        """Score designs (A, V)."""
        x, steps = self._position[index[:, : self._n_position]], index[:, self._n_position :]
        values = self.formula(x, steps)
        n = len(index)
        points = {o.name: values[:, i] for i, o in enumerate(self.objectives)}
        return Batch(points, np.arange(n), values, np.full((n, 1), -1.0), n, n, n)

    def front(self) -> np.ndarray:
        """The points at distance 0 that no other dominates: the exact front. (F, M)"""
        axes = np.meshgrid(*[self._position] * self._n_position, indexing="ij")
        return self.at_optimum(np.stack([axis.ravel() for axis in axes], axis=1))

    def formula(self, x: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Objectives (A, M) of positions (A, P) and distance steps (A, D)."""
        raise NotImplementedError

    def at_optimum(self, x: np.ndarray) -> np.ndarray:
        """Objectives (A, M) on the front."""
        raise NotImplementedError


class Sphere(ClosedForm):
    """DTLZ2 (Deb et al. 2002, doi:10.1109/CEC.2002.1007032) on a grid: the front is an octant of the unit sphere.

    The optimum of distance variable i is at step (3 i + 2) mod n_grid, never at an end of every variable.
    """

    def __init__(self) -> None:
        super().__init__(n_position=2, n_distance=10, n_steps=21, n_grid=11, n_objectives=3)

    def formula(self, x: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """(1 + g) times the point on the sphere, g = sum of squared distances from the optimum."""
        best = (3 * np.arange(steps.shape[1]) + 2) % self._n_grid
        g = (((steps - best) / (self._n_grid - 1)) ** 2).sum(axis=1)
        return (1.0 + g)[:, None] * self.at_optimum(x)

    def at_optimum(self, x: np.ndarray) -> np.ndarray:
        """(cos a cos b, cos a sin b, sin a)."""
        a, b = x.T * np.pi / 2
        return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=1)


class Rugged(ClosedForm):
    """ZDT4 (Zitzler, Deb, Thiele 2000, doi:10.1162/106365600568202) on a grid: 2^9 and more local fronts.

    Every second step of a distance variable is a hill of height 20; the best front is f2 = 1 - sqrt(f1).
    """

    def __init__(self) -> None:
        super().__init__(n_position=1, n_distance=9, n_steps=101, n_grid=41, n_objectives=2)

    def formula(self, x: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """f2 = g (1 - sqrt(f1 / g)), g = 1 + 10 D + sum (y^2 - 10 cos(4 pi y)), y in [-5, 5] on the grid."""
        y = 10.0 * (steps / (self._n_grid - 1) - 0.5)
        g = 1.0 + 10.0 * y.shape[1] + (y**2 - 10.0 * np.cos(4.0 * np.pi * y)).sum(axis=1)
        f1 = x[:, 0]
        return np.stack([f1, g * (1.0 - np.sqrt(f1 / g))], axis=1)

    def at_optimum(self, x: np.ndarray) -> np.ndarray:
        """g = 1."""
        return np.stack([x[:, 0], 1.0 - np.sqrt(x[:, 0])], axis=1)
