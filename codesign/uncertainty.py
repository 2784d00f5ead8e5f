"""How far a prediction may be off: an interval around every predicted time or rate, from residuals against published measurements.

The error of a prediction, e = ln(predicted / measured), has a part that all designs on one chip share (the chip's constants are off
together) and a part of its own.  sigma^2 = shared^2 + own^2; a comparison of two designs on the same chip has only their own parts,
sigma_difference^2 = 2 own^2, so it is tighter than either value.

The table is written by `scripts/fit_uncertainty.py`: sigma is the 80 % quantile of |e| over 1.2816, so that an interval of +-1.2816
sigma covers 80 % of the measurements even where the tails are heavier than a normal's, and the shared part follows from pairs of
different models on the same chip.  Coverage with whole chips, models and sources left out: docs/accuracy.md.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from codesign import catalog

LEVEL = 0.8
PRIOR_WIDENING = 1.5  # chips without kernel tables, where too few measurements exist to fit: our estimate


class Spread(NamedTuple):
    """Standard deviations of ln(predicted / measured): shared by all designs on a chip, and a design's own."""

    shared: float
    own: float

    @property
    def total(self) -> float:
        return float(np.hypot(self.shared, self.own))


# (phase, dense | moe, chips with kernel tables | priors): shared, own; then rows and groups behind it.
# fitted by scripts/fit_uncertainty.py: begin
SPREADS: dict[tuple[str, str, str], Spread] = {
}
# fitted by scripts/fit_uncertainty.py: end
