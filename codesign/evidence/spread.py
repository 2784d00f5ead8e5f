"""Fitting the spread of predictions to residuals, and checking its coverage with whole groups left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from codesign import uncertainty
from codesign.evidence.score import partition, quantile
from codesign.evidence.validation import Line
from codesign.uncertainty import LEVEL, PRIOR_WIDENING, Spread

PHASES = ("train", "decode", "prefill", "e2e", "ttft", "offline")
SIZES = ("dense", "moe")
CHIPS = ("tables", "priors")
LEAST_ROWS, LEAST_GROUPS = 12, 4  # fewer cannot carry a quantile of their own
N_BOOTSTRAP = 2000
Z = NormalDist().inv_cdf(0.5 * (1.0 + LEVEL))


class Residual(NamedTuple):
    """One scored line as the fit sees it."""

    phase: str
    size: str
    chips: str
    chip: str
    model: str
    source: str
    group: str
    err: float


@lru_cache
def held_out() -> dict[str, Any]:
    """What scripts/fit_training.py --left-out found: medians per split, and the error of each row when its publication was left out."""
    return json.loads((Path(__file__).parent / "data" / "training_held_out.json").read_text(encoding="utf-8"))


def residuals(lines: Sequence[Line]) -> list[Residual]:
    """Training constants are fitted to the shipped rows, so there the error is that of a fit that has not seen the publication."""
    unseen = held_out()["errors_publication_left_out"]
    return [
        Residual(line.spread_phase, "moe" if line.case.is_moe else "dense", uncertainty.chip_class(line.case.chip, line.case.engine),
                 line.case.chip, line.case.model, line.case.publication, line.group,
                 unseen.get(line.id, line.err) if line.spread_phase == "train" else line.err)
        for line in lines
    ]  # fmt: skip


def fit(rows: Sequence[Residual]) -> dict[tuple[str, str, str], tuple[Spread, int, int]]:
    """(phase, size, chips) -> (spread, rows, groups) for every cell.

    A cell that is too thin borrows from the same phase and size on chips with tables, else from the whole phase, times
    PRIOR_WIDENING where the chip has priors only.
    """
    by_phase = partition(rows, lambda r: r.phase)
    by_cell = partition(rows, lambda r: (r.phase, r.size, r.chips))
    spread = lru_cache(lambda key: _spread(by_cell.get(key) or by_phase.get(key) or rows))
    found = {}
    for phase, size, chips in product(PHASES, SIZES, CHIPS):
        own = by_cell.get((phase, size, chips), [])
        choices = ((phase, size, chips), (phase, size, CHIPS[0]), phase)
        key = next((key for key in choices if _is_enough(by_cell.get(key, ()))), phase)
        wider = PRIOR_WIDENING if chips == "priors" and key != choices[0] else 1.0
        fitted = spread(key)
        found[phase, size, chips] = (Spread(wider * fitted.shared, wider * fitted.own), len(own), len({r.group for r in own}))
    return found


def _is_enough(cell: Sequence[Residual]) -> bool:
    return len(cell) >= LEAST_ROWS and len({r.group for r in cell}) >= LEAST_GROUPS


def _spread(part: Sequence[Residual]) -> Spread:
    """Total from the 80 % quantile of |e|, rows of a group weighing together as the root of their number; own from pairs."""
    counts = {group: len(members) for group, members in partition(part, lambda r: r.group).items()}
    weights = [counts[r.group] ** -0.5 for r in part]
    total = quantile([abs(r.err) for r in part], LEVEL, weights) / Z
    own = min(_own(part), total)
    return Spread(float(np.sqrt(total**2 - own**2)), own)


def _own(part: Sequence[Residual]) -> float:
    """Standard deviation of what two models on one chip do not share: 80 % quantile of |e_i - e_j| / (Z sqrt 2) over such pairs."""
    gaps, weights = [], []
    for members in partition(part, lambda r: r.chip).values():
        err = np.array([r.err for r in members])
        model = np.array([r.model for r in members])
        first, second = np.triu_indices(err.size, 1)
        other = model[first] != model[second]
        gaps.append(np.abs(err[first] - err[second])[other])
        weights.append(np.full(gaps[-1].size, 1.0 / max(gaps[-1].size, 1) * np.sqrt(err.size)))
    gap = np.concatenate(gaps)
    return quantile(gap, LEVEL, np.concatenate(weights)) / (Z * np.sqrt(2.0)) if gap.size else np.inf


def coverage(rows: Sequence[Residual], by: str, seed: int = 0, size: str | None = None) -> dict[str, Any]:
    """Share of measurements inside intervals that were fitted without their group (`chip`, `model` or `source`), with the 90 %
    interval of a bootstrap over those groups, and the width of the intervals beside the median error; `size` counts dense or MoE only."""
    inside, widths = _left_out(rows, by)
    counted = [i for i, r in enumerate(rows) if size in (None, r.size)]
    rows, inside, widths = [rows[i] for i in counted], inside[counted], widths[counted]
    parts = partition(range(len(rows)), lambda i: getattr(rows[i], by))
    low, high = bootstrap(inside, list(parts.values()), seed)
    error = float(np.median([abs(r.err) for r in rows]))
    return {"left_out": by, "n": len(rows), "n_groups": len(parts), "coverage": float(inside.mean()), "coverage_low": low,
            "coverage_high": high, "median_log_width": float(np.median(widths)), "width_over_error": float(np.median(widths)) / error}  # fmt: skip


def _left_out(rows: Sequence[Residual], by: str) -> tuple[np.ndarray, np.ndarray]:
    """(1 where the measurement is inside (N,), log-width (N,)) of intervals fitted without the row's group."""
    inside, widths = np.zeros(len(rows)), np.zeros(len(rows))
    parts = partition(range(len(rows)), lambda i: getattr(rows[i], by))
    for part in parts.values():
        out = set(part)
        table = fit([r for i, r in enumerate(rows) if i not in out])
        for i in part:
            sigma = table[rows[i].phase, rows[i].size, rows[i].chips][0].total
            inside[i], widths[i] = abs(rows[i].err) <= Z * sigma, 2.0 * Z * sigma
    return inside, widths


def bootstrap(inside: np.ndarray, parts: Sequence[Sequence[int]], seed: int = 0) -> tuple[float, float]:
    """90 % interval of the pooled share when whole groups are drawn with replacement."""
    hits = np.array([inside[part].sum() for part in parts])
    sizes = np.array([len(part) for part in parts])
    draws = np.random.default_rng(seed).integers(0, len(parts), (N_BOOTSTRAP, len(parts)))
    shares = hits[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    return float(np.quantile(shares, 0.05)), float(np.quantile(shares, 0.95))


def coverage_table(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Left-out coverage per phase and kind of group, and of dense and MoE models apart: a pooled width is that of the commoner one."""
    found = []
    everything = residuals(lines)
    for phase, part in partition(everything, lambda r: r.phase).items():
        sizes = [size for size in SIZES if any(r.size == size for r in part)]
        for size in (None, *(sizes if len(sizes) > 1 else ())):
            for by in ("chip", "model", "source"):
                if len({getattr(r, by) for r in part if size in (None, r.size)}) > 1:
                    found.append({"phase": phase if size is None else f"{phase}, {size}"} | coverage(part, by, size=size))
    return found


def table_text(rows: Sequence[Residual]) -> str:
    """The body of `uncertainty.SPREADS` as Python source, with rows and groups behind each cell."""
    lines = []
    for (phase, size, chips), (spread, n, n_groups) in fit(rows).items():
        key = ", ".join(f'"{part}"' for part in (phase, size, chips))
        lines.append(f"    ({key}): Spread({spread.shared:.3f}, {spread.own:.3f}),  # {n} rows, {n_groups} groups")
    return "\n".join(lines)
