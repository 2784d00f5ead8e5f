"""Ratios of two measurements, in which constants cancel: one effect at a time, and the speed-up from tensor parallelism."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np

from codesign.evidence.baselines import rate_error
from codesign.evidence.score import partition
from codesign.evidence.validation import Line, Validation

WITHIN = 0.15
# effect: (first row, second row); the ratio is that of token rates, second / first, computed from the rows themselves.
PAIRS: tuple[tuple[str, str, str], ...] = (
    ("full -> selective recompute, 22B", "seqsel-megatron-22b-full", "seqsel-megatron-22b-seqsel"),
    ("full -> selective recompute, 175B", "seqsel-gpt3-175b-full", "seqsel-gpt3-175b-seqsel"),
    ("full -> selective recompute, 1T", "seqsel-megatron-1t-full", "seqsel-megatron-1t-seqsel"),
    ("TP inside a node, A100", "vtrain-gpt3_6b-tp1-dp64-pp1-mb8", "vtrain-gpt3_6b-tp8-dp8-pp1-mb32"),
    ("TP across two nodes, A100", "vtrain-gpt3_6b-tp8-dp8-pp1-mb32", "vtrain-gpt3_6b-tp16-dp4-pp1-mb32"),
    ("TP2 -> TP8 without overlap, B200", "simumax-llama3-70b-tp2-pp1-dp4-l12-mbc32", "simumax-llama3-70b-l12-tp8-pp1-dp1-mbc32"),
    ("bubble, 4 -> 32 micro-batches at PP2", "simumax-llama3-70b-l12-tp1-pp2-dp4-mbc4", "simumax-llama3-70b-l12-tp1-pp2-dp4-mbc32"),
    ("micro-batch 2 -> 32, dense TP8", "vtrain-gpt3_6b-tp8-dp8-pp1-mb2", "vtrain-gpt3_6b-tp8-dp8-pp1-mb32"),
    ("A100 -> H100, Llama2-70B", "fms-llama2-70b-a100", "fms-llama2-70b-h100"),
    ("A100 -> H100, Llama2-7B", "fms-llama2-7b-a100", "fms-llama2-7b-h100"),
)
DOUBLINGS = ((1, 2), (2, 4), (4, 8))


def contrasts(validation: Validation) -> list[dict[str, Any]]:
    """Measured and predicted ratio of every pair whose two rows are there; `within` says whether they agree to 15 %."""
    lines = {line.id: line for line in validation.scored if line.phase == "train"}
    found = []
    for effect, first, second in PAIRS:
        if first in lines and second in lines:
            a, b = lines[first], lines[second]
            measured = _rate(b) / _rate(a)
            predicted = measured * exp(rate_error(b) - rate_error(a))
            found.append({"effect": effect, "first": first, "second": second, "measured": measured, "predicted": predicted,
                          "within": abs(log(predicted / measured)) <= WITHIN})  # fmt: skip
    return found


def _rate(line: Line) -> float:
    return 1.0 / line.measured if line.metric == "step_time_s" else line.measured


def speedups(validation: Validation) -> list[dict[str, Any]]:
    """TPOT speed-up of doubling TP over matched pairs: everything equal but tp (and ep where the experts follow it)."""
    lines = [line for line in validation.scored if line.metric == "tpot_ms"]
    matched = partition(lines, _setting).values()
    found = []
    for low, high in DOUBLINGS:
        pairs = []
        for part in matched:
            by_tp = partition(part, lambda line: line.prediction.scenario["n_tp"])
            pairs += [(a, b) for a in by_tp.get(low, ()) for b in by_tp.get(high, ()) if _experts(a) in (None, _experts(b))]
        if pairs:
            found.append(_doubling(f"TP{low} -> TP{high}", pairs))
    return found


def _setting(line: Line) -> tuple[Any, ...]:
    row, s = line.case.row, line.prediction.scenario
    same = tuple(row[c] for c in ("isl", "osl", "batch_or_concurrency", "weight_bits", "kv_bits", "act_bits"))
    return (line.phase, line.case.source, row["model"], line.case.chip, line.case.engine, s["n_dp"], s["n_pp"], same)


def _experts(line: Line) -> str | None:
    """How a replica divides experts: over devices whole, or each cut by TP; None on one device and for dense models."""
    s = line.prediction.scenario
    if not line.case.is_moe or s["n_tp"] * s["n_dp"] == 1:
        return None
    return "whole" if s.get("n_etp") == 1 else "cut"


def _doubling(name: str, pairs: list[tuple[Line, Line]]) -> dict[str, Any]:
    measured = np.array([log(a.measured / b.measured) for a, b in pairs])
    predicted = measured + [a.err - b.err for a, b in pairs]
    bare = measured + [a.baseline_err - b.baseline_err for a, b in pairs]
    return {
        "doubling": name,
        "n": len(pairs),
        "measured": float(np.exp(np.median(measured))),
        "predicted": float(np.exp(np.median(predicted))),
        "roofline": float(np.exp(np.median(bare))),
        "median_abs_err": float(np.median(np.abs(predicted - measured))),
        "roofline_median_abs_err": float(np.median(np.abs(bare - measured))),
    }
