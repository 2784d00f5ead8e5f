"""The table of evaluated designs: complete and searchable for samplers, thinned evenly for enumerations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.search.problem import Index

_MIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)


@dataclass
class Table:
    """Evaluated designs, one row each, in the order of their ids."""

    design_id: NDArray[np.int64]  # (N,) trial number, or position in the enumeration
    index: Index  # (N, V)
    objectives: NDArray[np.float64]  # (N, M) representative point, NaN where nothing fits
    violations: NDArray[np.float64]  # (N, C)

    def __len__(self) -> int:
        return len(self.design_id)

    def take(self, rows: np.ndarray) -> Table:
        """The given rows (numbers or a mask)."""
        return Table(self.design_id[rows], self.index[rows], self.objectives[rows], self.violations[rows])

    @staticmethod
    def union(tables: Iterable[Table]) -> Table:
        """All rows, sorted by id, each id once (the first)."""
        tables = list(tables)
        joined = Table(
            *(np.concatenate([getattr(table, name) for table in tables]) for name in ("design_id", "index", "objectives", "violations"))
        )
        return joined.take(np.unique(joined.design_id, return_index=True)[1])

    @classmethod
    def empty(cls, n_variables: int, n_objectives: int, n_constraints: int) -> Table:
        """No rows."""
        return cls(
            np.empty(0, np.int64),
            np.empty((0, n_variables), np.int32),
            np.empty((0, n_objectives)),
            np.empty((0, n_constraints)),
        )


def keys(index: Index, sizes: Sequence[int]) -> NDArray[np.int64]:
    """One integer per row, equal for equal rows. (A, V) -> (A,)

    The row read as a mixed-radix number, exact below 2^62 designs; above that a 64-bit hash of it, with which
    two of 10^6 different designs are confused with probability 3e-8.
    """
    index = np.asarray(index)
    if np.prod(np.asarray(sizes, dtype=float)) < 2.0**62:
        radix = np.concatenate([np.cumprod(np.asarray(sizes[:0:-1], dtype=np.int64))[::-1], [1]]).astype(np.int64)
        return index.astype(np.int64) @ radix
    key = np.zeros(len(index), dtype=np.uint64)
    for column in index.T.astype(np.uint64):
        key = scatter(key * _MIX[0] + column + np.uint64(1))
    return key.view(np.int64)


def scatter(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection that spreads over 64 bits: SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = numbers + _MIX[0]
    x = (x ^ (x >> np.uint64(30))) * _MIX[1]
    x = (x ^ (x >> np.uint64(27))) * _MIX[2]
    return x ^ (x >> np.uint64(31))


class Known:
    """Every design evaluated so far, found by its positions. Grows by doubling."""

    def __init__(self, sizes: Sequence[int], n_objectives: int, n_constraints: int) -> None:
        self._sizes = tuple(sizes)
        self._row_of: dict[int, int] = {}
        self._rows = Table.empty(len(self._sizes), n_objectives, n_constraints)

    def __len__(self) -> int:
        return len(self._row_of)

    def find(self, index: Index) -> NDArray[np.int64]:
        """Row of each design in this table, -1 for those that are new. (A,)"""
        return np.array([self._row_of.get(key, -1) for key in keys(index, self._sizes).tolist()], dtype=np.int64)

    def first_of_each(self, index: Index) -> NDArray[np.int64]:
        """Rows of `index` that hold a design for the first time, in order."""
        return np.sort(np.unique(keys(index, self._sizes), return_index=True)[1])

    def add(self, new: Table) -> None:
        """Append designs, none of which is known."""
        start, stop = len(self), len(self) + len(new)
        while len(self._rows) < stop:
            self._rows = _doubled(self._rows, max(stop, 1024))
        for name in ("design_id", "index", "objectives", "violations"):
            getattr(self._rows, name)[start:stop] = getattr(new, name)
        self._row_of.update(zip(keys(new.index, self._sizes).tolist(), range(start, stop), strict=True))

    @property
    def table(self) -> Table:
        """All rows, as views."""
        return self._rows.take(slice(0, len(self)))


def _doubled(table: Table, at_least: int) -> Table:
    n_more = max(len(table), at_least)
    return Table(
        *(
            np.concatenate([column, np.zeros((n_more, *column.shape[1:]), column.dtype)])
            for column in (table.design_id, table.index, table.objectives, table.violations)
        )
    )


class Sample:
    """An even sample of at most `cap` rows of a stream of any length; everything while it is short.

    A row stays when the hash of its id lies under a threshold that halves whenever the sample overflows, so
    what is kept does not depend on how the stream was cut or threaded.
    """

    def __init__(self, empty: Table, cap: int) -> None:
        self._parts = [empty]
        self.cap = cap
        self._n_rows = 0
        self.threshold = float(2**64)

    def chosen(self, design_id: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which ids would be kept now."""
        return scatter(design_id.astype(np.uint64)).astype(float) < self.threshold

    def add(self, rows: Table) -> None:
        """Offer rows with new ids."""
        rows = rows.take(self.chosen(rows.design_id))
        self._parts.append(rows)
        self._n_rows += len(rows)
        while self._n_rows > self.cap:
            self.threshold /= 2
            table = Table.union(self._parts)
            self._parts = [table.take(self.chosen(table.design_id))]
            self._n_rows = len(self._parts[0])

    @property
    def table(self) -> Table:
        """The sample so far, by id."""
        return Table.union(self._parts)
