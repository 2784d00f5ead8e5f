"""Why two designs differ: each objective's difference shared out to the causes, in a waterfall that sums exactly.

A cause is a searched variable (or a group of them), or a layout.  Every combination of the two designs' causes is scored, and each cause is
given its Shapley value: the mean of what changing it adds over all orders of change.  The values of one objective sum to its difference.
Source: Shapley 1953; the sum is exact whatever the interactions.
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np

from codesign.physics.layout import DEGREES, PLAIN
from codesign.problem import StudyProblem, layout_text
from codesign.rescore import OPTIONS, points_of, score
from codesign.units.training import MORE

MAX_CAUSES = 10  # 2^10 combinations are scored; more variables than that are grouped by kind
LAYOUT = (*DEGREES, *PLAIN)
BY_UNIT = {"train": (*OPTIONS, *MORE)}


def waterfall(problem: StudyProblem, first: dict[str, Any], second: dict[str, Any], columns: list[str]) -> list[dict[str, Any]]:
    """[{cause, detail, <column>: contribution in the column's unit}] from `first` to `second`, largest first; each column sums exactly.

    Intermediate combinations may not fit or may not divide evenly: they are timed all the same, which is what lets a cause stand alone.
    A column that cannot be computed for one of them is left out.
    """
    causes = causes_of(problem, first, second)
    if not causes:
        return []
    first, second = (p | {f"{u}.per_rank": _per_rank(p, u) for u in problem.setting.roles} for p in (first, second))
    n = len(causes)
    masks = np.arange(2**n)
    rows = []
    for mask in masks:
        row = dict(first)
        for i, (_, keys, _) in enumerate(causes):
            if mask >> i & 1:
                row |= {k: second[k] for k in keys}
        rows.append(row | {f"{u}.batch": row[f"{u}.per_rank"] * row[f"{u}.n_dp"] for u in problem.setting.roles})
    values, _ = score(points_of(problem, rows), masks, {}, keep=tuple(columns))
    shares = {c: shapley(v, n) for c, v in values.items() if np.all(np.isfinite(v))}
    found = [{"cause": name, "detail": detail} | {c: float(s[i]) for c, s in shares.items()} for i, (name, _, detail) in enumerate(causes)]
    lead = next((c for c in columns if c in shares), None)
    return sorted(found, key=lambda row: -abs(row[lead])) if lead else found


def shapley(values: np.ndarray, n: int) -> np.ndarray:
    """Shapley values (n,) of a game given by its values (2^n,) of every coalition (bit i: player i has joined).

    phi_i = sum over coalitions S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)).

    >>> shapley(np.array([0.0, 1.0, 2.0, 5.0]), 2).tolist()
    [2.0, 3.0]
    """
    masks = np.arange(2**n)
    size = sum((masks >> i) & 1 for i in range(n))
    weight = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) if s < n else 0.0 for s in range(n + 1)])[size]
    out = np.empty(n)
    for i in range(n):
        without = masks[(masks >> i) & 1 == 0]
        out[i] = np.sum(weight[without] * (values[without | (1 << i)] - values[without]))
    return out


def causes_of(problem: StudyProblem, first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, list[str], str]]:
    """(name, keys that change together, `from -> to`) of everything that differs."""
    setting, values = problem.setting, problem.values_of([first, second])
    differs = [v.name for v in problem.space.variables if values[v.name][0] != values[v.name][1]]
    causes = [(n.split(".", 1)[-1], [n], f"{values[n][0]} -> {values[n][1]}") for n in differs]
    if len(causes) > MAX_CAUSES - 1 - 2 * len(setting.roles):
        heads = dict.fromkeys(n.split(".", 1)[0] for n in differs)
        causes = [
            (
                head,
                [n for n in differs if n.startswith(head + ".")],
                f"{sum(n.startswith(head + '.') for n in differs)} variables",
            )
            for head in heads
        ]
    for unit in ("train", *setting.roles):
        keys = [key for k in (*LAYOUT, *BY_UNIT.get(unit, ())) if (key := f"{unit}.{k}") in first]
        keys += ["global_batch_tok"] if unit == "train" else []
        if any(first[k] != second[k] for k in keys):
            from_to = (layout_text(p, unit) for p in (first, second))
            causes.append((f"{unit} layout", keys, " -> ".join(from_to)))
        if unit != "train" and _per_rank(first, unit) != _per_rank(second, unit):
            ranks = tuple(f"{_per_rank(p, unit):g}" for p in (first, second))
            causes.append((f"{unit} batch", [f"{unit}.per_rank"], f"{' -> '.join(ranks)} sequences per rank"))
    return causes


def _per_rank(point: dict[str, Any], unit: str) -> float:
    return float(point[f"{unit}.batch"]) / float(point[f"{unit}.n_dp"])
