"""Counting errors: medians, tails, bias, rank correlation inside sweeps, coverage of intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from codesign.evidence import baselines
from codesign.evidence.validation import PRIMARY, Line, Validation

SWEEP_ROWS = 4  # fewer say nothing about order
TIE = log(1.05)  # pairs closer than 5 % are noise
LEFT_OUT = "constant MFU, source left out"


def quantile(values: Sequence[float], q: float, weights: Sequence[float] | None = None) -> float:
    """Weighted quantile, linear between the middles of the weights.

    >>> quantile([1.0, 2.0, 3.0], 0.5), quantile([1.0, 2.0, 3.0], 0.5, [1, 1, 8])
    (2.0, 2.777777777777778)
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones(values.size) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(values)
    middle = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(q * weights.sum(), middle, values[order]))


def partition(lines: Iterable[Line], key: Callable[[Line], Hashable]) -> dict[Any, list[Line]]:
    """Lines by key, in order of first appearance."""
    parts: dict[Any, list[Line]] = {}
    for line in lines:
        parts.setdefault(key(line), []).append(line)
    return parts


def record(lines: Sequence[Line], group: str, balanced: bool = False, err: Callable[[Line], float] | None = None) -> dict[str, Any]:
    """One line of the accuracy table.  `balanced`: median over groups of the median inside each, every group counting once."""
    error = err or (lambda line: line.err)
    errors = np.array([error(line) for line in lines], dtype=float)
    parts = list(partition(range(len(lines)), lambda i: lines[i].group).values())
    weights = np.ones(len(lines))
    if balanced:
        for part in parts:
            weights[part] = 1.0 / len(part)
    middle = (lambda v: float(np.median([np.median(v[p]) for p in parts]))) if balanced else (lambda v: float(np.median(v)))
    inside = np.array([line.lower <= line.measured <= line.upper for line in lines], dtype=float)
    out = {
        "phase": lines[0].phase, "group": group, "metric": lines[0].metric, "n": len(lines),
        "median_abs_err": middle(np.abs(errors)), "p90_abs_err": quantile(np.abs(errors), 0.9, weights), "median_bias": middle(errors),
        "kendall_tau": mean_tau(sweeps(lines, error)),
        "coverage": float(np.average(inside, weights=weights)),
        "median_log_width": float(np.median([log(line.upper / line.lower) for line in lines])),
        "n_groups": len(parts),
    }  # fmt: skip
    return out if err is None else {k: v for k, v in out.items() if k not in ("coverage", "median_log_width")}


def sweep_key(line: Line) -> tuple[str, ...]:
    """Rows whose order a search would rely on: one model, chip and source in training; one model, chip and pair of lengths in serving."""
    case, row = line.case, line.case.row
    if line.phase == "train":
        return (line.phase, line.metric, case.source, case.model, case.chip)
    return (line.phase, line.metric, case.model, case.chip, f"isl {row['isl']} osl {row['osl']}")


def sweeps(lines: Sequence[Line], err: Callable[[Line], float] | None = None) -> list[dict[str, Any]]:
    """Kendall's tau-b inside every sweep of at least four rows, over pairs that differ by more than 5 %."""
    error = err or (lambda line: line.err)
    found = []
    for key, part in partition(lines, sweep_key).items():
        if len(part) < SWEEP_ROWS:
            continue
        measured = np.log([line.measured for line in part])
        tau, n_pairs = kendall(measured, measured + [error(line) for line in part])
        if n_pairs:
            found.append(
                {"phase": key[0], "group": " | ".join(key[2:]), "metric": key[1], "n": len(part), "n_pairs": n_pairs, "kendall_tau": tau}
            )
    return found


def kendall(measured: np.ndarray, predicted: np.ndarray) -> tuple[float, int]:
    """(tau-b, pairs) over pairs whose measured values, as logarithms, differ by more than TIE.

    tau_b = (C - D) / sqrt((C + D + ties in predicted) (C + D)) with no ties in measured left.
    """
    first, second = np.triu_indices(len(measured), 1)
    true = measured[first] - measured[second]
    guess = predicted[first] - predicted[second]
    kept = np.abs(true) > TIE
    agree = np.sign(true[kept]) * np.sign(np.where(np.abs(guess[kept]) < 1e-9, 0.0, guess[kept]))
    n_pairs, n_untied = int(kept.sum()), int(np.count_nonzero(agree))
    return (float(agree.sum() / np.sqrt(n_untied * n_pairs)) if n_untied else 0.0), n_pairs


def mean_tau(found: Sequence[Mapping[str, Any]]) -> float | None:
    """Pair-weighted mean of sweeps; None without any."""
    weights = [s["n_pairs"] for s in found]
    return float(np.average([s["kendall_tau"] for s in found], weights=weights)) if weights else None


def classes(validation: Validation) -> list[tuple[str, list[Line]]]:
    """(name, lines) of the rows of the overall table: phases and metrics, dense and MoE, and what is reported apart."""
    found: list[tuple[str, list[Line]]] = []
    lines = validation.scored
    if validation.kind == "training":
        for name, moe in (("dense", False), ("MoE", True)):
            part = [line for line in lines if line.case.is_moe == moe]
            unknown = [line for line in part if "recompute" in line.case.assumed]
            found.append((name, part))
            if unknown and len(unknown) < len(part):
                found.append((f"{name}, recompute stated", [line for line in part if "recompute" not in line.case.assumed]))
                found.append((f"{name}, recompute unknown", unknown))
    else:
        both = [line for line in lines if line.metric == "tpot_ms"]
        if len({line.phase for line in both}) > 1:
            found.append(("decode and e2e tpot_ms", both))
        for (phase, metric), part in sorted(partition(lines, lambda line: (line.phase, line.metric)).items(), key=lambda kv: _rank(*kv[0])):
            dense = [line for line in part if not line.case.is_moe]
            found.append((f"{phase} {metric}", part))
            if 0 < len(dense) < len(part):
                found.append((f"{phase} {metric}, dense", dense))
                found.append((f"{phase} {metric}, MoE", [line for line in part if line.case.is_moe]))
    return [(name, part) for name, part in found if part]


def _rank(phase: str, metric: str) -> tuple[bool, int, str]:
    """Order of the tables: decode, e2e, prefill, offline; TTFT under load last, because it depends on the load generator."""
    order = ("train", "decode", "e2e", "prefill", "offline")
    return (phase == "e2e" and metric != "tpot_ms", order.index(phase), metric)


def overall(validation: Validation) -> list[dict[str, Any]]:
    balanced = validation.kind == "training"
    return [record(part, name, balanced) for name, part in classes(validation)]


def groups(validation: Validation) -> list[dict[str, Any]]:
    """Rows that share publication, model, chip and precision, the largest median error first."""
    parts = partition(validation.scored, lambda line: (line.phase, line.metric, line.group))
    found = [record(part, key[2]) for key, part in parts.items()]
    return sorted(found, key=lambda r: (r["metric"] == "ttft_ms" and r["phase"] == "e2e", -r["median_abs_err"]))


def margins(validation: Validation) -> list[dict[str, Any]]:
    """The main metric of each phase by chip, model (training: publication) and engine, so that a weak spot has a name."""
    parts = partition(validation.scored, lambda line: (line.phase, line.metric))
    what = ("chip", "publication") if validation.kind == "training" else ("chip", "model", "engine")
    return [
        {"by": by} | record(part, value, validation.kind == "training")
        for (phase, metric), lines in parts.items()
        if metric == PRIMARY[phase] or phase == "train"
        for by in what
        for value, part in sorted(partition(lines, lambda line: getattr(line.case, by)).items())  # noqa: B023
    ]


def baseline_records(validation: Validation) -> list[dict[str, Any]]:
    """The trivial predictor on the same rows: constant MFU, also with every source left out; or the bare roofline."""
    out: list[dict[str, Any]] = []
    if validation.kind == "training":
        left_out = baselines.left_out_errors(validation.scored)
        for name, part in classes(validation):
            out.append({"name": "constant MFU"} | record(part, name, True, lambda line: line.baseline_err))
            if left_out:
                out.append({"name": LEFT_OUT} | record(part, name, True, lambda line: left_out[line.id]))
        return out
    return [{"name": "bare roofline"} | record(part, name, False, lambda line: line.baseline_err) for name, part in classes(validation)]


def skipped(validation: Validation) -> list[dict[str, Any]]:
    """Reasons with how many rows each, most first."""
    found = partition(validation.skipped, lambda line: line.skipped)
    rows = [
        {"reason": reason, "n": len(part), "phase": ",".join(dict.fromkeys(line.phase for line in part)), "ids": [line.id for line in part]}
        for reason, part in found.items()
    ]
    return sorted(rows, key=lambda r: -r["n"])
