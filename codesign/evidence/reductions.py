"""Functions that the expressions of claims have beyond the usual ones: from columns of a table to one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _column(values: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(values))


def pick(values, keep) -> np.ndarray:
    """The values of the rows in which a condition holds.

    >>> pick(np.array([3.0, 5.0, 7.0]), np.array([False, True, True])).tolist()
    [5.0, 7.0]
    """
    return _column(values)[np.broadcast_to(np.asarray(keep, dtype=bool), _column(values).shape)]


def only(values):
    """The value of the only row (or the common value of all rows); nan if they differ or there is none."""
    column = _column(values)
    return column[0] if column.size and np.all(column == column[0]) else np.nan


def crossing(x, y, level):
    """x at which y reaches `level` first, rows in order of x, interpolated on logarithmic axes; nan if it never does.

    >>> round(float(crossing(np.array([1.0, 10.0, 100.0]), np.array([2.0, 20.0, 200.0]), 6.0)), 6)
    3.0
    """
    order = np.argsort(_column(x))
    x, gap = _column(x)[order], np.log(_column(y)[order] / level)
    turns = np.flatnonzero(np.sign(gap[1:]) != np.sign(gap[:-1]))
    if turns.size == 0:
        return np.nan
    i = turns[0]
    share = gap[i] / (gap[i] - gap[i + 1])
    return np.exp(np.log(x[i]) + share * (np.log(x[i + 1]) - np.log(x[i])))


def at(x, y, where):
    """y at x = `where`, interpolated on logarithmic axes between the rows beside it; nan outside.

    >>> round(float(at(np.array([1.0, 100.0]), np.array([1.0, 10.0]), 10.0)), 4)
    3.1623
    """
    if not _column(x).size:
        return np.nan
    order = np.argsort(_column(x))
    x, y = _column(x)[order], _column(y)[order]
    return np.exp(np.interp(np.log(where), np.log(x), np.log(y), left=np.nan, right=np.nan))


def slope(x, y):
    """Elasticity d ln y / d ln x, least squares over all rows; nan where all rows have one x.

    >>> round(float(slope(np.array([1.0, 2.0, 4.0]), np.array([3.0, 12.0, 48.0]))), 6)
    2.0
    """
    if np.unique(x).size < 2:
        return np.nan
    return np.polyfit(np.log(_column(x).astype(float)), np.log(_column(y).astype(float)), 1)[0]


def rank_correlation(x, y):
    """Spearman's correlation of ranks, ties at their mean rank; nan where either has one value.

    >>> round(float(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))), 3)
    0.5
    """
    if min(np.unique(x).size, np.unique(y).size) < 2:
        return np.nan
    ranks = [np.searchsorted(np.sort(v), v) + np.searchsorted(np.sort(v), v, side="right") for v in (_column(x), _column(y))]
    return np.corrcoef(*ranks)[0, 1]


def argument(choose: Callable[[np.ndarray], Any]) -> Callable[[Any, Any], Any]:
    """x of the row whose y `choose` points at; nan if every y is missing."""
    return lambda x, y: np.nan if np.isnan(_column(y)).all() else _column(x)[choose(_column(y))]


def known(reduce: Callable[[np.ndarray], Any]) -> Callable[[Any], Any]:
    """`reduce` over the values that are not missing; nan if none is left.

    >>> float(known(np.max)(np.array([1.0, np.nan]))), float(known(np.max)(np.array([])))
    (1.0, nan)
    """

    def run(values):
        column = _column(values)
        column = column[~np.isnan(column)]
        return reduce(column) if column.size else np.nan

    return run


def row(index: int) -> Callable[[Any], Any]:
    """The value of the row at `index`; nan if there is no row.

    >>> row(-1)(np.array([3.0, 5.0])).item(), row(0)(np.array([]))
    (5.0, nan)
    """
    return lambda values: _column(values)[index] if _column(values).size else np.nan


REDUCTIONS: Mapping[str, tuple[Callable[..., Any], int, float]] = {  # action, least and most arguments
    "pick": (pick, 2, 2),
    "only": (only, 1, 1),
    "crossing": (crossing, 3, 3),
    "at": (at, 3, 3),
    "slope": (slope, 2, 2),
    "rank_correlation": (rank_correlation, 2, 2),
    "at_lowest": (argument(np.nanargmin), 2, 2),
    "at_highest": (argument(np.nanargmax), 2, 2),
    "lowest": (known(np.min), 1, 1),
    "highest": (known(np.max), 1, 1),
    "mean": (known(np.mean), 1, 1),
    "median": (known(np.median), 1, 1),
    "total": (lambda v: np.nansum(_column(v)), 1, 1),
    "count": (lambda v: np.count_nonzero(_column(v)), 1, 1),
    "first": (row(0), 1, 1),
    "last": (row(-1), 1, 1),
}
