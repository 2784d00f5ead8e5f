"""A multi-objective genetic algorithm on integer positions, one numpy pass per generation.

NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017) with changes for discrete spaces that are cheap to
evaluate: no design is ever proposed twice; inactive variables are moved to their fixed position before that
comparison, so conditional variables are inherited like any other; a mutation is a step of one on an ordered
variable or a jump to any other choice; the population grows with the evaluations, because small
populations win early and large ones late; and a design may have several points (its layouts), of which the
best decides whether it stays. Where layouts are variables too: rows that cannot fit are bred but not proposed,
a layout is inherited whole, and every fourth child is its parent with another layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from codesign.search import pareto
from codesign.search.designs import keys
from codesign.search.problem import Index, Told

LEAST, MOST = 50, 5000  # population limits
FLAT_LEAST = 100  # where layouts are variables: a batch of 50 flat rows takes as long to score as one of 500
GROWTH = 30  # evaluations per member: 2,000 evaluations end with 66 members, 150,000 with 5,000
P_CROSSOVER = 0.9  # chance that a child has two parents, each variable then coming from either
P_RELAY = 0.25  # chance that a child keeps the design of its parent and changes its layouts only, where these are variables
P_STEP = 0.6  # chance that the mutation of an ordered variable is a step and not a jump
_ROUNDS = 40  # attempts to fill a generation with new designs before the space counts as exhausted


class GeneticAlgorithm:
    """Proposes designs (`ask`) and learns from their values (`tell`); knows nothing of Optuna.

    `takes_points`: it may be told several rows of the same design, one per point.
    fits: canonical, valid rows (A, V) -> whether they are worth proposing (A,); blocks: the unit whose layout each
    variable describes, "" for variables of the design.
    All random numbers come from one generator and a generation is always bred whole, so the sequence of
    designs does not depend on how many are asked for at once.
    """

    takes_points = True

    def __init__(
        self,
        sizes: Sequence[int],
        ordered: Sequence[bool],
        maximise: Sequence[bool],
        seed: int | None = None,
        *,
        canonical: Callable[[Index], Index] | None = None,
        valid: Callable[[Index], NDArray[np.bool_]] | None = None,
        fits: Callable[[Index], NDArray[np.bool_]] | None = None,
        blocks: Sequence[str] | None = None,
        least: int = LEAST,
        most: int = MOST,
        growth: float = GROWTH,
        batch: int | None = None,
    ) -> None:
        if not 2 <= least <= most:
            raise ValueError(f"population limits must satisfy 2 <= least <= most, not {least} and {most}")
        self._sizes, self._ordered = np.asarray(sizes), np.asarray(ordered, bool)
        self._maximise = tuple(maximise)
        self._canonical = canonical or (lambda index: index)
        self._valid = valid or (lambda index: np.ones(len(index), bool))
        self._fits, self._fit_frac = fits, 1.0  # of the rows bred lately
        self._layout, self._block = _blocks(blocks or [""] * len(sizes))
        self._relaid = np.resize(np.flatnonzero(self._layout), len(sizes))  # a variable of the layouts for any variable
        self._least, self._most, self._growth = least, most, growth
        self.rng = np.random.default_rng(seed)
        self._seen: set[int] = set()
        self._queue = np.empty((0, len(sizes)), np.int64)  # bred, not yet asked for
        self._batch = batch  # most designs asked for together
        self._n_asked = self._n_rows = 0
        self._told: set[int] = set()  # designs, each counted once however many points it has
        self._serial = np.empty(0, np.int64)  # position of each pool row in the sequence of told rows
        self._index = self._queue  # the pool: rows of the parents, then rows told since they were bred
        self._parents = self._queue  # best first
        self._values = np.empty((0, len(maximise)))
        self._excess = np.empty(0)

    @property
    def population_size(self) -> int:
        """Members of the next generation."""
        return int(min(max(self._least, self.n_told / self._growth), self._most))

    @property
    def n_told(self) -> int:
        """Distinct designs learned from."""
        return len(self._told)

    @property
    def generation_dealt(self) -> bool:
        """Whether the next `ask` breeds a new generation."""
        return not len(self._queue)

    @property
    def n_batch(self) -> int:
        """Designs to ask for next: what is left of the generation."""
        n = len(self._queue) or self.population_size
        return min(n, self._batch or n)

    def enqueue(self, index: Index) -> None:
        """Propose these designs first."""
        self._queue = np.concatenate([self._queue, self._unseen(np.asarray(index, np.int64))])

    def ask(self, n: int) -> tuple[Index, NDArray[np.int64]]:
        """At most `n` next designs, (n, V), and their numbers, (n,); none when nothing new can be found."""
        if self.generation_dealt:
            self._select()
            self._queue = self._breed()
        asked, self._queue = self._queue[:n], self._queue[n:]
        numbers = self._n_asked + np.arange(len(asked))
        self._n_asked += len(asked)
        return asked, numbers

    def tell(self, index: Index, values: np.ndarray, violations: np.ndarray) -> None:
        """Finite values in natural units (n, M) and signed violations (n, C) of designs or of their points."""
        self._serial = np.concatenate([self._serial, self._n_rows + np.arange(len(index))])
        self._index = np.concatenate([self._index, index])
        self._values = np.concatenate([self._values, values])
        self._excess = np.concatenate([self._excess, excess(violations)])
        self._n_rows += len(index)
        new = keys(self._canonical(index), self._sizes).tolist()
        self._told.update(new)
        self._seen.update(new)

    def _select(self) -> None:
        """Cut the pool to the rows of the best designs: feasible first, then front by front, then the less crowded."""
        order = np.argsort(self._excess, kind="stable")
        feasible = np.flatnonzero(self._excess <= 0)
        if len(feasible):
            values = self._values[feasible]
            scaled = pareto.scaling(values, self._maximise).apply(values)
            rank = moocore.pareto_rank(scaled)
            best = feasible[np.lexsort((-crowding(scaled, rank), rank))]
            order = np.concatenate([best, order[len(feasible) :]])
        number = keys(self._canonical(self._index[order]), self._sizes)
        _, first, design = np.unique(number, return_index=True, return_inverse=True)
        parents = np.sort(first)[: self.population_size]
        self._parents = self._index[order[parents]]
        order = order[np.isin(design, design[parents])]
        self._serial, self._index = self._serial[order], self._index[order]
        self._values, self._excess = self._values[order], self._excess[order]

    def _breed(self) -> Index:
        """A generation of designs never proposed before, as full as the space allows."""
        n, parts = self.population_size, []
        for attempt in range(_ROUNDS):
            # A family that has nothing new to offer gets immigrants, and a space in which nothing new fits shows the rest.
            inherit = self.n_told >= self._least and attempt < _ROUNDS // 2
            breed = self._children if inherit else self._random
            if self._fits is None or attempt == _ROUNDS - 1:
                parts.append(self._unseen(breed(n)))
            else:
                parts.append(self._fitting(breed(int(1.2 * n / max(self._fit_frac, 0.05)) + 10), n))
            n -= len(parts[-1])
            if n <= 0:
                break
        return np.concatenate(parts)

    def _fitting(self, index: Index, n: int) -> Index:
        """At most n rows never proposed that also fit; only these count as proposed."""
        index = self._new(index)
        if not len(index):
            return index
        fits = self._fits(index)
        self._fit_frac = 0.5 * (self._fit_frac + fits.mean())
        index = index[fits][:n]
        self._seen.update(keys(index, self._sizes).tolist())
        return index

    def _unseen(self, index: Index) -> Index:
        """Canonical, valid rows that were never proposed, each once; they count as proposed from now on."""
        index = self._new(index)
        self._seen.update(keys(index, self._sizes).tolist())
        return index

    def _new(self, index: Index) -> Index:
        """Canonical, valid rows that were never proposed, each once."""
        index = np.asarray(self._canonical(index), np.int64)
        index = index[self._valid(index)]
        key = keys(index, self._sizes)
        first = np.sort(np.unique(key, return_index=True)[1])
        return index[first[[number not in self._seen for number in key[first].tolist()]]]

    def _random(self, n: int) -> Index:
        """Random designs in which every choice of a variable comes up equally often."""
        columns = [self.rng.permutation(np.arange(n) % size) for size in self._sizes]
        return np.stack(columns, axis=1)

    def _children(self, n: int) -> Index:
        """Uniform crossover of two tournament winners, then about one mutation each; or one winner with another layout."""
        rng, shape = self.rng, (n, len(self._sizes))
        # Parents are sorted, so the better of two random ones is the one with the lower number.
        winner = np.minimum(*rng.integers(0, len(self._parents), (2, 2, n)))
        crossed = (rng.random((n, 1)) < P_CROSSOVER) & (rng.random(shape) < 0.5)[:, self._block]
        rate, same = np.full(shape, 1 / shape[1]), np.zeros(n, bool)
        if self._layout.any():
            same = rng.random(n) < P_RELAY
            crossed[same], rate[same] = False, np.where(self._layout, 1.5 / self._layout.sum(), 0.0)
        child = np.where(crossed, self._parents[winner[1]], self._parents[winner[0]])
        mutated = rng.random(shape) < rate
        idle = np.flatnonzero(~mutated.any(axis=1) & ~crossed.any(axis=1))
        which = rng.integers(0, shape[1], len(idle))
        mutated[idle, np.where(same[idle], self._relaid[which], which)] = True
        step = child + rng.choice([-1, 1], shape)
        step = np.where((step < 0) | (step >= self._sizes), 2 * child - step, step)  # turn round at the ends
        step = np.clip(step, 0, self._sizes - 1)
        jump = (child + 1 + rng.integers(0, np.maximum(self._sizes - 1, 1), shape)) % self._sizes
        stepping = self._ordered & (rng.random(shape) < P_STEP)
        return np.where(mutated, np.where(stepping, step, jump), child)

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and JSON to continue from; rows told are referred to by their place in the sequence."""
        return {"ga.serial": self._serial, "ga.queue": self._queue}, {"rng": self.rng.bit_generator.state}

    def restore(self, told: Sequence[Told], states: Sequence[tuple[dict[str, np.ndarray], dict]]) -> None:
        """Continue from everything told so far, oldest first, and the last of the states saved with it."""
        self.tell(*(np.concatenate(columns) for columns in zip(*told, strict=True)))
        arrays, meta = states[-1]
        pool = arrays["ga.serial"]
        self._serial, self._index = pool, self._index[pool]
        self._values, self._excess = self._values[pool], self._excess[pool]
        self._queue = arrays["ga.queue"]
        self._seen.update(keys(self._queue, self._sizes).tolist())
        self.rng.bit_generator.state = meta["rng"]
        self._n_asked = self.n_told


def _blocks(names: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(whether a variable is of a layout, first variable of its block), (V,) each; a variable of the design is a block of its own."""
    first = [names.index(name) if name else i for i, name in enumerate(names)]
    return np.array([bool(name) for name in names]), np.array(first, np.int64)


def excess(violations: np.ndarray) -> np.ndarray:
    """Distance from feasibility, (N, C) -> (N,): sum of v / (1 + v) over the violated constraints.

    With v = value / limit - 1 a term is 1 - limit / value: none outweighs the others, however far it is
    broken.
    """
    broken = np.maximum(violations, 0.0)
    return (broken / (1.0 + broken)).sum(axis=1)


def crowding(points: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Crowding distance of every point within its rank, infinite at the ends. (N, M), (N,) -> (N,)

    Sum over axes of the gap between a point's neighbours of equal rank; the axes are already scaled alike.
    """
    distance = np.zeros(len(points))
    for axis in points.T:
        order = np.lexsort((axis, rank))
        gap = np.full(len(points), np.inf)
        if len(points) > 2:
            inner = (rank[order][1:-1] == rank[order][:-2]) & (rank[order][1:-1] == rank[order][2:])
            gap[1:-1] = np.where(inner, axis[order][2:] - axis[order][:-2], np.inf)
        distance[order] += gap
    return distance
