"""Bounds on columns as signed, unit-normalised violations: <= 0 is feasible, the sign that Optuna uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORST = 1e6  # violation of a design for which nothing could be computed; Optuna wants finite numbers


@dataclass(frozen=True)
class Limit:
    """`column` `op` `bound`; `name` is what the study calls it."""

    name: str
    column: str
    op: str
    bound: float

    def violation(self, values) -> np.ndarray:
        """(value - bound) / |bound| for <=, the negative for >=; in [-1e6, 1e6], NaN counts as worst.

        >>> Limit("train_days", "train_s", "<=", 100.0).violation(np.array([50.0, 150.0])).tolist()
        [-0.5, 0.5]
        """
        sign = 1.0 if self.op == "<=" else -1.0
        scale = abs(self.bound) or 1.0
        raw = sign * (np.asarray(values, dtype=float) - self.bound) / scale
        return np.clip(np.nan_to_num(raw, nan=WORST, posinf=WORST, neginf=-WORST), -WORST, WORST)


# Reasons, besides a study's own limits, for which a design can die; the report and the last screen name them.
REASONS = {
    "structure": "the architecture cannot be built (heads not a multiple of KV heads, ...)",
    "train memory": "no training layout fits the device memory",
    "serve memory": "no serving layout fits the device memory",
    "tokens": "the budget leaves no tokens, or the target quality is out of reach",
    "full attention": "too few full-attention layers for a median context above 32k tokens",
    "quality refused": "outside the range in which the quality law may rank designs",
}
