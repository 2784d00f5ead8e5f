"""Notes beside a reference: tokens that are paid for but do not count, and a precision that the front does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign.results import Run
from codesign.spec.units import show
from codesign.study import Study


def other_bits(study: Study, run: Run, point: Mapping[str, Any]) -> list[str]:
    """A note where the model is served in other widths than every design of the front: the gap is then partly one of precision."""
    mine, theirs = [], []
    for key, letter in (("weight_bits", "w"), ("kv_bits", "kv"), ("act_bits", "a")):
        name = f"precision.{key}"
        own = point.get(name)
        column = run.front[name] if name in run.front else [study.setting.base.get(name)]
        front = sorted({float(v) for v in column if v is not None})
        if own is not None and front and float(own) not in front:
            mine.append(f"{letter}{own:g}")
            theirs.append("/".join(f"{letter}{v:g}" for v in front))
    if not mine:
        return []
    return [
        f"served in {' '.join(mine)}, the front in {' '.join(theirs)}: part of the gap is precision (`precision:` of a reference changes it)"
    ]


def processed(tok: float | None, columns: Mapping[str, np.ndarray], at: int) -> list[str]:
    """A note where more tokens are paid for than count: the batch lies above the critical one."""
    spent = float(np.ravel(columns["pretrain_spent_tok"])[at]) if tok and "pretrain_spent_tok" in columns else 0.0
    if not tok or spent <= tok * 1.005:
        return []
    return [
        f"{show(spent, 'tok')} are paid for, of which {show(tok, 'tok')} count: at this batch the rest is lost to its size (critical batch)"
    ]
