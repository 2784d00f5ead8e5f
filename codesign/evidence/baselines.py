"""What a trivial predictor would score on the same rows: one constant MFU for training (the bare roofline for serving is an engine)."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from codesign.evidence.validation import Line


def mfu_class(line: Line) -> str:
    """dense | moe and 16-bit | 8-bit (narrower precisions, one row, count as 8-bit against their own peak)."""
    wide = line.case.precision in ("bf16", "fp16")
    return f"{'moe' if line.case.is_moe else 'dense'} {'16-bit' if wide else '8-bit'}"


def measured_mfu(line: Line) -> float:
    """Model FLOP of the measured rate against the dense peak: the predicted MFU scaled by measured / predicted rate."""
    train = line.prediction.answer["train"]
    return train["mfu_frac"] * exp(-rate_error(line))


def rate_error(line: Line) -> float:
    """ln(predicted / measured) of the token rate, whichever metric the row has."""
    return -line.err if line.metric == "step_time_s" else line.err


def constant_mfu(lines: Sequence[Line]) -> dict[str, float]:
    """{class: the MFU in the middle of its groups}: median over groups of the median inside each, so that no source dominates."""
    groups: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        groups.setdefault(mfu_class(line), {}).setdefault(line.group, []).append(log(measured_mfu(line)))
    return {name: float(np.exp(np.median([np.median(v) for v in members.values()]))) for name, members in groups.items()}


def mfu_errors(lines: Sequence[Line], mfu: dict[str, float]) -> dict[str, float]:
    """Signed error of the constant per row id, in the sense of the row's metric."""
    errors = {line.id: log(mfu[mfu_class(line)] / measured_mfu(line)) for line in lines if mfu_class(line) in mfu}
    return {line.id: -errors[line.id] if line.metric == "step_time_s" else errors[line.id] for line in lines if line.id in errors}


def left_out_errors(lines: Sequence[Line]) -> dict[str, float]:
    """As `mfu_errors`, each source predicted by the constants of all others (a class that only this source has: by their median).

    Empty where all rows are of one source.
    """
    errors: dict[str, float] = {}
    for source in {line.case.source for line in lines}:
        rest = [line for line in lines if line.case.source != source]
        if not rest:
            return {}
        mine = [line for line in lines if line.case.source == source]
        mfu = constant_mfu(rest)
        spare = float(np.exp(np.median(np.log(list(mfu.values())))))
        errors |= mfu_errors(mine, {mfu_class(line): spare for line in mine} | mfu)
    return errors
