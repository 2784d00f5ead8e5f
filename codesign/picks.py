"""Named picks from a front, each with its reason and what it gives up; and what searching together was worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from codesign.objectives import COLUMNS, COST_COLUMNS
from codesign.search import pareto

SPEED = ("tpot_s", "ttft_s", "clip_latency_s", "clip_s")
EQUAL = 1e-3  # ln: a gain that `swap` does not even name
WITHIN = "  (within the error of their ratio)"
LABELS = {"c_eq_flop": "quality", "usd_per_mtok": "cost", "tpot_s": "tpot", "ttft_s": "ttft", "train_s": "training time"}


def picks(front: pd.DataFrame, objectives: dict[str, str]) -> list[dict[str, Any]]:
    """Knee, cheapest, fastest, best quality: those that the objectives define, without repeating a point."""
    if front.empty:
        return []
    names = list(objectives)
    maximise = [objectives[n] == "maximize" for n in names]
    points = front[names].to_numpy(float)
    own = pareto.scaling(points, maximise)
    chosen = [("knee", pareto.knee(points, own), "nearest to the best of every objective at once")]
    cost = next((n for n in names if n in COST_COLUMNS), None)
    speed = next((n for n in names if n in SPEED), None)
    quality = next((n for n in names if COLUMNS[n].better == "max"), None)
    for label, column, reason in (
        ("cheapest", cost, "lowest cost within the SLO and every other limit"),
        ("fastest", speed, "lowest latency within the budget and every other limit"),
        ("best quality", quality, "highest quality within every limit on cost and speed"),
    ):
        if column is not None:
            chosen.append((label, _best(front, column, objectives, first=cost), reason))
    return [
        {"name": label, "id": int(front["id"].iloc[row]), "reason": reason, "gives_up": gives_up(front, row, objectives)}
        for label, row, reason in chosen
    ]


def _best(front: pd.DataFrame, column: str, objectives: dict[str, str], first: str | None) -> int:
    """Row of the best value; of equal ones the cheapest (`first`), else the best in the other objectives in their order."""
    signed = {n: front[n].to_numpy(float) * (-1.0 if d == "maximize" else 1.0) for n, d in objectives.items()}
    lowest = signed[column].min()
    ties = np.flatnonzero(signed[column] <= lowest + 1e-9 * abs(lowest))
    order = [*([first] if first else []), *objectives]
    return int(ties[np.lexsort([signed[n][ties] for n in reversed(order)])[0]])


def rule_of(name: str, objectives: dict[str, str]) -> int | None:
    """Position of the objective that a pick is the best of; None for the knee, which weighs them all."""
    quality = [n for n in objectives if COLUMNS[n].better == "max"]
    wanted = {"cheapest": COST_COLUMNS, "fastest": SPEED, "best quality": quality}.get(name, ())
    return next((i for i, column in enumerate(objectives) if column in wanted), None)


def neighbours(
    front: pd.DataFrame, row: int, objectives: dict[str, str], n: int = 2, noise: Mapping[str, np.ndarray] | None = None
) -> list[dict[str, Any]]:
    """The nearest other points of the front and what changing to each would gain and cost, as ratios to the point.

    noise: objective -> standard deviation of ln of every point's ratio to this one (P,).  Points whose every gain lies within it are passed
    over; where no other is left, the nearest stands with that remark.
    """
    names, maximise = list(objectives), [d == "maximize" for d in objectives.values()]
    points = front[names].to_numpy(float)
    place = pareto.scaling(points, maximise).apply(points)
    nearest = [i for i in np.argsort(np.linalg.norm(place - place[row], axis=1)) if i != row]
    real = [i for i in nearest if noise is None or _is_real(points, row, i, names, maximise, noise)]
    out = []
    for i in real[:n] or nearest[:1]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = dict(zip(names, (points[i] / points[row]).tolist(), strict=True))
        out.append({"id": int(front["id"].iloc[i]), "ratios": ratios, "sentence": swap(ratios, objectives) + ("" if real else WITHIN)})
    return out


def _is_real(points: np.ndarray, row: int, i: int, names: list[str], maximise: list[bool], noise: Mapping[str, np.ndarray]) -> bool:
    """Whether point i is better than point `row` in one objective by more than the standard deviation of their ratio."""
    for j, name in enumerate(names):
        here, there = points[row, j], points[i, j]
        if here > 0 and there > 0 and name in noise:
            gain = np.log(there / here) * (1.0 if maximise[j] else -1.0)
            if gain > max(float(noise[name][i]), EQUAL):
                return True
        elif (there > here) if maximise[j] else (there < here):
            return True
    return False


def swap(ratios: dict[str, float], objectives: dict[str, str]) -> str:
    """`8.1% less usd_per_mtok for 12% more tpot_s`: what is gained for what."""
    good, bad = [], []
    for name, ratio in ratios.items():
        if np.isfinite(ratio) and abs(ratio - 1.0) > 0.001:
            label = LABELS.get(name, name)
            change = f"{float(f'{100 * abs(ratio - 1.0):.2g}'):g}% {'more' if ratio > 1 else 'less'} {label}"
            text = f"{ratio:.2g} times the {label}" if ratio >= 2 else change
            (good if (ratio > 1) == (objectives[name] == "maximize") else bad).append(text)
    return f"{' and '.join(good) or 'nothing'} for {' and '.join(bad) or 'nothing'}"


def gives_up(front: pd.DataFrame, row: int, objectives: dict[str, str]) -> str:
    """What the point is worse at than the best of the front: `65% less quality than the best; 2.76 times the tpot of the best`."""
    parts = []
    for name, direction in objectives.items():
        values = front[name].to_numpy(float)
        best = values.max() if direction == "maximize" else values.min()
        here = values[row]
        if best > 0 and here > 0:
            label, ratio = LABELS.get(name, name), here / best
            if max(ratio, 1.0 / ratio) > 1.005:
                change = f"{100 * abs(ratio - 1.0):.2g}"
                change = f"{100 * abs(ratio - 1.0):.4g}" if ratio < 0.005 else change  # 99.7, not 100
                more = f"{ratio:.3g} times the {label} of the best" if ratio >= 2 else f"{change}% more {label} than the best"
                parts.append(f"{change}% less {label} than the best" if ratio < 1 else more)
    return "; ".join(parts) or "nothing: best in every objective"


def value_of_codesign(front: pd.DataFrame, objectives: dict[str, str]) -> dict[str, Any] | None:
    """Cost of quality-first (best architecture first, its best layout after) over the joint choice at equal quality and SLO.

    Quality-first takes the design of highest predicted quality, blind to serving, and then the cheapest layout of that
    design.  The joint choice is the cheapest point whose quality the law cannot tell apart (within one own-part sigma of
    ln c_eq) and whose latency is no worse.  None when the study has no quality or no cost objective.
    """
    quality = next((n for n in objectives if n in ("c_eq_flop", "n_eq", "n_eff")), None)
    cost = next((n for n in objectives if n in COST_COLUMNS), None)
    if quality is None or cost is None or front.empty:
        return None
    best = front[quality].max()
    candidates = front[front["design_id"] == front.loc[front[quality].idxmax(), "design_id"]]
    baseline = candidates.loc[candidates[cost].idxmin()]
    floor = best * float(np.exp(-baseline["sigma_ln_c_eq_own"]))
    equal = front[front[quality] >= floor]
    for column in SPEED:
        if column in objectives:
            equal = equal[equal[column] <= baseline[column] * (1 + 1e-9)]
    joint = equal.loc[equal[cost].idxmin()]
    gain = float(baseline[cost] / joint[cost])
    sentence = (
        f"at equal quality (within the law's error) and SLO the joint choice #{int(joint['id'])} is {gain:.2f}x cheaper "
        f"than quality-first #{int(baseline['id'])}"
    )
    if gain < 1.005:
        sentence = f"quality-first (#{int(baseline['id'])}) is already the cheapest at its quality and SLO: nothing gained here"
    return {"gain": gain, "baseline_id": int(baseline["id"]), "joint_id": int(joint["id"]), "cost": cost, "sentence": sentence}
