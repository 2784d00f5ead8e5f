"""Keep, per design, only the rows that are not dominated in every quantity that the study reads."""

from __future__ import annotations

import numpy as np

PRUNE_ABOVE = 24  # rows per design from which the coarse check pays
N_BINS = 64  # quarter octaves: a range of 2^16


def nondominated_per_design(design, quantities) -> np.ndarray:
    """Indices of the rows that no other row of the same design beats or equals in every quantity (all minimised).

    design: int (N,); quantities: list of float (N,).  One quantity: the minimum of each design.  Two: a staircase by one
    sort.  More: moocore per design.  Of equal rows the first is kept.  Rows come back sorted by design.

    >>> nondominated_per_design(np.array([0, 0, 0, 1]), [np.array([1.0, 2, 3, 9]), np.array([5.0, 6, 1, 9])]).tolist()
    [0, 2, 3]
    """
    design = np.asarray(design)
    if design.size == 0:
        return np.zeros(0, dtype=int)
    if len(quantities) > 2:
        return _many(design, quantities)
    if one_row_each(design):
        return np.flatnonzero(quantities[-1] < np.inf) if len(quantities) == 2 else np.arange(design.size)
    if len(quantities) == 2 and design.size > PRUNE_ABOVE * (int(design[-1]) - int(design[0]) + 1):
        rows = _undominated_by_bins(design, *quantities)
        return rows[_exact(design[rows], [q[rows] for q in quantities])]
    return _exact(design, quantities)


def one_row_each(design) -> bool:
    """Whether rows are sorted by design and every design has a single one, as in a flat search."""
    return bool(np.all(design[1:] > design[:-1]))


def _undominated_by_bins(design, first, second) -> np.ndarray:
    """Rows that survive a coarse check: none of the same design in a lower quarter-octave of `second` costs as little.

    One pass without sorting; it discards most rows and never one that the exact check would keep.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        octave = np.log2(second / np.min(second[np.isfinite(second) & (second > 0)], initial=1.0))
    bins = np.clip(np.nan_to_num(octave * 4.0, nan=0.0, posinf=N_BINS - 1, neginf=0.0), 0, N_BINS - 1).astype(np.int64)
    slot = (design - design.min()) * N_BINS + bins
    best = np.full((int(design.max() - design.min()) + 1) * N_BINS, np.inf)
    np.minimum.at(best, slot, first)
    running = np.minimum.accumulate(best.reshape(-1, N_BINS), axis=1)
    before = np.full_like(running, np.inf)
    before[:, 1:] = running[:, :-1]
    return np.flatnonzero(first < before.ravel()[slot])


def _exact(design, quantities) -> np.ndarray:
    order = _by_design(design, np.argsort(quantities[0], kind="stable"))
    if len(quantities) == 2:
        order = _tie_break(order, design, *quantities)
    starts = np.r_[True, design[order][1:] != design[order][:-1]]
    if len(quantities) == 1:
        return order[starts]
    second = quantities[1][order]
    best_before = _segment_minimum_before(second, starts)
    return order[second < best_before]


def _by_design(design, order):
    """Stable re-sort of `order` by design: a radix sort on small integers."""
    small = design.astype(np.uint16) if design.max() < 2**16 else design
    return order[np.argsort(small[order], kind="stable")]


def _tie_break(order, design, first, second):
    """Among rows of one design that are equal in the first quantity, the smallest second comes first."""
    same = (design[order][1:] == design[order][:-1]) & (first[order][1:] == first[order][:-1])
    if not np.any(same):
        return order
    return np.lexsort((second, first, design))


def _segment_minimum_before(values, starts):
    """Smallest value before each row within its segment; inf at a segment's start.

    Ranks are integers, so shifting every later segment below all earlier ones lets one running minimum serve them all exactly.
    """
    n = len(values)
    rank = np.empty(n, dtype=np.int64)
    ordered = np.argsort(values, kind="stable")
    is_new = np.r_[True, np.diff(values[ordered]) > 0]
    rank[ordered] = np.cumsum(is_new)  # equal values share a rank
    segment = np.cumsum(starts)
    running = np.minimum.accumulate(rank - segment * (n + 1))
    before = np.r_[np.iinfo(np.int64).max, running[:-1]]
    sorted_values = values[ordered][is_new]
    known = before + segment * (n + 1)
    inside = ~starts
    return np.where(inside, sorted_values[np.where(inside, known - 1, 0)], np.inf)


def _many(design, quantities):
    import moocore

    order = _by_design(design, np.arange(design.size))
    edges = np.flatnonzero(np.r_[True, design[order][1:] != design[order][:-1], True])
    lengths = np.diff(edges)
    alone = order[edges[:-1][lengths == 1]]
    table = np.stack(quantities, axis=1)[order]
    kept = [
        order[start : start + n][moocore.is_nondominated(table[start : start + n])]
        for start, n in zip(edges[:-1][lengths > 1], lengths[lengths > 1], strict=True)
    ]
    rows = np.concatenate([alone, *kept])
    return rows[np.argsort(design[rows], kind="stable")]
