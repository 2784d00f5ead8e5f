"""Designs that provably cannot reach the front are not evaluated: a fence of points that exist, and bounds that no layout can beat.

A problem that has `bound(index) -> (A, J, M)` promises that every feasible point of design a is, for some j, at least [a, j] in all objectives
(minimised; inf where j has no point).  If a point that exists beats all j strictly, it beats every point of the design: it is excluded by
proof.  The fence is found once, before the enumeration, by a short sampled search with a fixed seed, so which designs are excluded depends on
nothing else: not on chunks, threads, workers or interruptions.  The promise is checked on every design that is evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from codesign.search import nested, pareto
from codesign.search.designs import keys
from codesign.search.evaluation import Part, reduce_batch
from codesign.search.loop import Settings
from codesign.search.problem import Batch, Index, Problem, maximised, sizes

LEAST_DESIGNS = 10_000  # below that an enumeration ends before a fence is built
LEAST_SHARE = 0.2  # of a random sample that must be excluded: bounds cost a tenth of an evaluation, the fence a few seconds
MOST_POINTS, FIRST = 384, 48  # of the fence, spread over it; those that are tried first
SCOUTS = 1000  # designs of the search that builds the fence, or a fifteenth of the space; three times as many exclude 1 % more
FEW_SCOUTS = 500  # enough to estimate what a fence excludes
PILOT, BLOCK = 512, 4096  # designs of the sample; designs bounded at once, so that their rows stay in cache
TOLERANCE = 1e-9  # relative; how far rounding may put a bound above what it bounds
MOST_BOUNDED = 100_000  # designs whose bounds are computed to say what a search may have missed; beyond it a sample is
SAMPLE = 20_000


@dataclass(frozen=True)
class Fence:
    """Points that exist and do not beat each other, (F, M), all objectives minimised."""

    points: np.ndarray

    def excludes(self, bound: np.ndarray) -> np.ndarray:
        """Which designs of bounds (A, J, M) no point can put on the front: every j is strictly beaten, or has no point. (A,)"""
        n, n_steps, n_goals = bound.shape
        rows = bound.reshape(-1, n_goals)
        possible = np.flatnonzero(~np.isposinf(rows).any(axis=1))
        beaten = np.ones(len(rows), bool)
        beaten[possible] = self._beats(rows[possible])
        return beaten.reshape(n, n_steps).all(axis=1)

    def _beats(self, rows: np.ndarray) -> np.ndarray:
        """Rows that some point beats: at least as good in all objectives and better in one. (N, M) -> (N,)"""
        beaten = np.zeros(len(rows), bool)
        for points in self._shares:  # most rows are beaten by the first few points that are spread over the fence
            for left in _blocks(np.flatnonzero(~beaten)):
                as_good = np.ones((len(left), len(points)), bool)
                for axis in range(rows.shape[1]):
                    as_good &= points[None, :, axis] <= rows[left, None, axis]
                beaten[left] = as_good.any(axis=1)
        same = np.flatnonzero(beaten & np.isin(rows[:, 0], self.points[:, 0]))
        # points of a front do not beat each other, so a row that is one of them is beaten by none
        beaten[same] &= ~(rows[same, None, :] == self.points[None]).all(axis=2).any(axis=1)
        return beaten

    @property
    def _shares(self) -> list[np.ndarray]:
        n = max(1, len(self.points) // FIRST)
        return [self.points[::n], self.points] if n > 1 else [self.points]


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]


@dataclass(frozen=True)
class Fenced:
    """A problem and its fence: what a worker needs to score the designs that are left."""

    problem: Problem
    fence: Fence

    @property
    def objectives(self) -> tuple:
        return self.problem.objectives

    def score(self, index: Index, design_id: np.ndarray) -> Part:
        """Evaluate and reduce the designs that the fence does not exclude, and check the promise of their bounds."""
        bound = bounds(self.problem, index)
        left = np.flatnonzero(~self.fence.excludes(bound))
        if not len(left):
            return Part.without_designs(self.problem, index, Counter(n_excluded=len(index)))
        batch = self.problem.evaluate(index[left])
        part = reduce_batch(self.problem, batch, index[left], design_id[left])
        wrong = broken(self.problem, bound[left], batch)
        part.counts.update(n_excluded=len(index) - len(left), n_broken=len(wrong))
        part.broken = index[left[wrong]]
        return part


def bounds(problem: Problem, index: Index) -> np.ndarray:
    """`problem.bound` in blocks that fit cache."""
    return np.concatenate([problem.bound(index[i : i + BLOCK]) for i in range(0, len(index), BLOCK)])


def broken(problem: Problem, bound: np.ndarray, batch: Batch) -> np.ndarray:
    """Rows of the designs with a point that lies below all their bounds, in the order of the batch. (W,)"""
    if not len(batch.design):
        return np.empty(0, np.int64)
    points = pareto.minimised(np.stack([batch.points[o.name] for o in problem.objectives], axis=1), maximised(problem))
    slack = TOLERANCE * np.abs(points)[:, None, :]
    kept = (bound[batch.design] <= points[:, None, :] + slack).all(axis=2).any(axis=1)
    return np.unique(np.asarray(batch.design)[~kept])


def can_exclude(problem: Problem) -> bool:
    """Whether the problem is large enough and has bounds on all its objectives."""
    n_designs = getattr(problem, "n_designs", None) or 0
    return hasattr(problem, "bound") and not problem.unbounded and n_designs >= LEAST_DESIGNS


def fence_of(problem: Problem) -> Fence | None:
    """The fence of an enumeration; None where nothing is feasible or it excludes too little to pay."""
    fence = scout(problem, min(SCOUTS, max(problem.n_designs // 15, 100)))
    return fence if fence is not None and excluded_share(problem, fence) >= LEAST_SHARE else None


def excluded_share(problem: Problem, fence: Fence) -> float:
    """Share of a random sample of the designs that a fence excludes."""
    return float(fence.excludes(bounds(problem, draw(problem, PILOT))).mean())


def scout(problem: Problem, n: int) -> Fence | None:
    """A fence from a search of n designs; None where it finds nothing feasible."""
    found = nested.run(problem, Settings(trials=n, seed=0))
    if found.interrupted:  # it took the Ctrl-C that was meant for the enumeration
        raise KeyboardInterrupt
    return fence_from(problem, found.front) if len(found.front_index) else None


def fence_from(problem: Problem, columns: Mapping[str, np.ndarray]) -> Fence:
    """A fence of the points in named columns, which may beat each other."""
    points = pareto.minimised(np.stack([columns[o.name] for o in problem.objectives], axis=1), maximised(problem))
    return Fence(spread(points[pareto.nondominated(points)]))


def spread(points: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """At most so many of the points, evenly along the first objective."""
    order = np.argsort(points[:, 0], kind="stable")
    return points[np.sort(order[np.unique(np.linspace(0, len(points) - 1, min(most, len(points))).astype(int))])]


def draw(problem: Problem, n: int) -> Index:
    """Some n distinct valid designs, the same ones every time."""
    index = problem.canonical(problem.sample(2 * n))
    return np.unique(index[problem.valid(index)], axis=0)[:n]


@dataclass(frozen=True)
class Missing:
    """What a search that did not see every design may have missed."""

    n_left: int | None  # designs neither evaluated nor excluded by a bound; None where only a sample was looked at
    excluded_share: float  # of the designs that were not evaluated, those that a bound excludes
    volume_share: float | None  # of the whole hypervolume, what the designs that are left could add at most; None without a front
    is_bound: bool  # every design was looked at; else a sample, and this is an estimate
    n_looked_at: int

    def to_dict(self) -> dict:
        return dict(vars(self))


def missing(problem: Problem, front: np.ndarray, scaling: pareto.Scaling, known: Index, n_skip: int = 0) -> Missing | None:
    """What could still be found: (F, M) front in natural units, designs already evaluated, or how many of the enumeration are done.

    The volume that the optimistic vectors of the designs that are left add to the front's own, as a share of both together.
    None where the problem has no bound on one of its objectives, or no designs are left.
    """
    if not hasattr(problem, "bound") or problem.unbounded or not len(front):
        return None
    n = getattr(problem, "n_designs", None)
    n_unseen = None if n is None else n - (n_skip or len(known))
    whole = n_unseen is not None and n_unseen <= MOST_BOUNDED
    blocks = _unseen(problem, known, n_skip) if whole else iter([_without(problem, draw(problem, SAMPLE), known)])
    maximise = maximised(problem)
    fence = Fence(spread(pareto.minimised(front, maximise)))
    best, n_left, n_looked_at = front, 0, 0
    for index in blocks:
        if not len(index):
            continue
        bound = bounds(problem, index)
        open_ = ~fence.excludes(bound)
        n_looked_at, n_left = n_looked_at + len(index), n_left + int(open_.sum())
        rows = bound[open_].reshape(-1, bound.shape[2])
        rows = rows[np.isfinite(rows).all(axis=1)] * np.where(maximise, -1.0, 1.0)
        best = np.concatenate([best, rows])
        best = best[pareto.nondominated(best, maximise)]
    if not n_looked_at:
        return None
    own, together = (pareto.hypervolume(points, scaling, exact=False) for points in (front, best))
    share = max(0.0, 1.0 - own / together) if together > 0 else None
    return Missing(n_left if whole else None, 1.0 - n_left / n_looked_at, share, whole, n_looked_at)


def _unseen(problem: Problem, known: Index, n_skip: int, chunk: int = 16 * BLOCK) -> Iterator[Index]:
    position = 0
    for index in problem.enumerate(chunk):
        start = min(max(n_skip - position, 0), len(index))
        position += len(index)
        yield _without(problem, index[start:], known)


def _without(problem: Problem, index: Index, known: Index) -> Index:
    if not len(known) or not len(index):
        return index
    of = sizes(problem)
    return index[~np.isin(keys(index, of), keys(known, of))]
