"""Named picks from a front, each with its reason and what it gives up; and what searching together was worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from codesign.objectives import COLUMNS, COST_COLUMNS
from codesign.search import pareto

SPEED = ("tpot_s", "ttft_s")


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
        ("cheapest", cost, "lowest cost that meets every limit"),
        ("fastest", speed, "lowest latency within every limit"),
        ("best quality", quality, "highest quality within every limit"),
    ):
        if column is not None:
            values = front[column].to_numpy(float)
            chosen.append((label, int(np.argmax(values) if objectives[column] == "maximize" else np.argmin(values)), reason))
    return [
        {"name": label, "id": int(front["id"].iloc[row]), "reason": reason, "gives_up": gives_up(front, row, objectives)}
        for label, row, reason in chosen
    ]


def gives_up(front: pd.DataFrame, row: int, objectives: dict[str, str]) -> str:
    """What the point is worse at than the best of the front, as ratios."""
    parts = []
    for name, direction in objectives.items():
        values = front[name].to_numpy(float)
        best = values.max() if direction == "maximize" else values.min()
        here = values[row]
        if best > 0 and here > 0:
            ratio = best / here if direction == "maximize" else here / best
            if ratio > 1.005:
                parts.append(f"{ratio:.3g}x {'less' if direction == 'maximize' else 'more'} {name} than the best")
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
