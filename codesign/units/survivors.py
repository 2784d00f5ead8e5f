"""Rows of a unit that survived reduction, grouped by design, and what is known about designs with none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Survivors:
    """Non-dominated rows of U sub-designs, sorted by sub-design.

    `columns` (R,) metrics and layout degrees; `design` (R,); `best` per-sub-design minima over all rows that fit (inf: none).
    """

    design: np.ndarray
    columns: dict[str, np.ndarray]
    n_designs: int
    best: dict[str, np.ndarray] = field(default_factory=dict)
    n_candidates: int = 0
    n_timed: int = 0
    n_feasible: int = 0

    def take(self, rows) -> Survivors:
        kept = {k: v[rows] for k, v in self.columns.items()}
        return Survivors(self.design[rows], kept, self.n_designs, self.best, self.n_candidates, self.n_timed, self.n_feasible)

    def expand(self, sub_of_design) -> Survivors:
        """The same rows, once per design of `sub_of_design` (A,): designs that share a sub-design share its rows."""
        counts = np.bincount(self.design, minlength=self.n_designs)
        starts = np.r_[0, np.cumsum(counts)[:-1]]
        n = counts[sub_of_design]
        design = np.repeat(np.arange(len(sub_of_design)), n)
        offset = np.arange(n.sum()) - np.repeat(np.r_[0, np.cumsum(n)[:-1]], n)
        rows = np.repeat(starts[sub_of_design], n) + offset
        best = {k: v[sub_of_design] for k, v in self.best.items()}
        columns = {k: v[rows] for k, v in self.columns.items()}
        return Survivors(design, columns, len(sub_of_design), best, self.n_candidates, self.n_timed, self.n_feasible)


def minimum_per_design(values, design, n_designs, where=None) -> np.ndarray:
    """(U,) minimum of `values` over the rows of each design; inf where there is no row.  `design` is sorted."""
    out = np.full(n_designs, np.inf)
    if where is not None:
        values, design = values[where], design[where]
    if design.size:
        starts = np.flatnonzero(np.r_[True, design[1:] != design[:-1]])
        out[design[starts]] = np.minimum.reduceat(values, starts)
    return out


def cross(first: Survivors, second: Survivors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(design, row of first, row of second) of every combination of two units' rows of the same design."""
    n = first.n_designs
    n1, n2 = (np.bincount(s.design, minlength=n) for s in (first, second))
    start1, start2 = (np.r_[0, np.cumsum(c)[:-1]] for c in (n1, n2))
    total = n1 * n2
    design = np.repeat(np.arange(n), total)
    within = np.arange(total.sum()) - np.repeat(np.r_[0, np.cumsum(total)[:-1]], total)
    width = np.maximum(n2[design], 1)
    return design, start1[design] + within // width, start2[design] + within % width
