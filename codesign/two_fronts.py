"""One front against another: how much of each the other beats, and what changing from one to the other gains."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign.results import Run
from codesign.screen import label


def compare(first: Run, second: Run) -> dict[str, Any]:
    """How much of each front the other beats, and what the second gains per objective at no loss in the others.

    gains: {objective: {ratio: median of best of the second / value of the first, at: share of the first's points that it holds for}}.
    """
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in first.objectives.values()])
    a, b = (r.front[list(first.objectives)].to_numpy(float) for r in (first, second))
    no_worse = (b * signs)[:, None, :] <= (a * signs)[None] + 1e-9 * np.abs(a)[None]  # [q of second, p of first, objective]
    better = (b * signs)[:, None, :] < (a * signs)[None] - 1e-9 * np.abs(a)[None]
    beaten = (no_worse.all(axis=2) & better.any(axis=2)).any(axis=0)
    lost = (~better).all(axis=2) & (~no_worse).any(axis=2)
    gains = {}
    for j, name in enumerate(first.objectives):
        rest = np.delete(no_worse, j, axis=2).all(axis=2)
        best = np.min(np.where(rest, (b[:, j] * signs[j])[:, None], np.inf), axis=0) * signs[j]
        ok = np.isfinite(best) & (a[:, j] != 0)
        gains[name] = {"ratio": float(np.median(best[ok] / a[ok, j])) if ok.any() else None, "at": float(ok.mean())}
    return {"first_beaten": float(beaten.mean()), "second_beaten": float(lost.any(axis=1).mean()), "gains": gains}


def sentences(fronts: dict[str, Any]) -> list[str]:
    """What `compare` found, in words."""
    if not fronts:
        return []
    beaten = fronts["first_beaten"], fronts["second_beaten"]
    found = [f"the second front beats {beaten[0]:.0%} of the first's points, the first {beaten[1]:.0%} of the second's"]
    for name, gain in fronts["gains"].items():
        if gain["ratio"] is not None:
            where = f"median over the {gain['at']:.0%} of the first's points that the second can match"
            found.append(f"{label(name)} at no loss in the rest: {gain['ratio']:.3g}x ({where})")
    return found
