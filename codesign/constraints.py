"""Bounds on columns as signed, unit-normalised violations: <= 0 is feasible, the sign that Optuna uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    "budget": "serving and RL alone cost more than the whole budget: nothing is left for pretraining",
    "target quality": "no number of pretraining tokens brings this design to the quality asked for",
    "tokens": "the tokens cannot be had: no layout can serve or do RL, so the equation for them has no solution, or they are negative",
    "balance": "largest over smallest of pretraining, RL and inference exceeds `lifecycle.balance.max_ratio`",
    "speed tier": "slower than the time per output token that this trial asked of the design (`slo.tpot` as a variable)",
    "fleet devices": "needs more devices than the fleet of `lifecycle.budget` has",
    "fleet days": "needs more days than the fleet of `lifecycle.budget` is available",
    "rack cables": "the scale-up domain needs more copper cables than one rack holds",
    "rack power": "its devices draw more than one rack may",
    "rack weight": "its devices weigh more than the floor carries under one rack",
    "rack slots": "its compute and switch trays are more than one rack has slots",
    "rack radix": "one tier of switches does not have ports for all its devices",
    "where": "breaks one of the study's `where` conditions",
    "valid": "breaks one of the study's `where` conditions, or nothing fits",
    "full attention": "too few full-attention layers for a median context above 32k tokens",
    "quality refused": "outside the range in which the quality law may rank designs",
    "RL return": "cannot rank: more than 45 million RL rollouts, or a model outside 0.5-200 billion equivalent parameters, where no curve was measured",
}

RATIOS = (
    "ttft",
    "tpot",
    "balance",
    "speed tier",
    "rack cables",
    "rack power",
    "rack weight",
    "rack slots",
    "rack radix",
)  # reasons whose violation is value / limit - 1, as that of a `<=`


def in_words(name: str, violation: float, limits: Iterable[Limit] = ()) -> str:
    """How a design breaks a bound, for people.

    >>> in_words("budget", 0.86), in_words("ttft", 0.25)
    ('serving and RL alone cost 1.86 times the whole budget', 'ttft is 25% above its limit')
    """
    limit = next((x for x in limits if x.name == name), None)
    if violation >= WORST:
        return f"{name} cannot be computed, or is more than {WORST:.0e} times its limit".replace("e+0", "e")
    if name == "budget":
        return f"serving and RL alone cost {1 + violation:.3g} times the whole budget"
    if name == "target quality":
        return f"the quality asked for is {math.exp(min(violation, 500.0)):.3g} times what it can reach"
    if limit is None and name not in RATIOS:
        return REASONS.get(name, name)
    if limit is not None and limit.op == ">=":
        return f"{limit.column} is {violation:.0%} below its limit"
    label = name.removesuffix(" <=")
    return f"{label} is {violation:.0%} above its limit" if violation < 1 else f"{label} is {1 + violation:.3g} times its limit"
