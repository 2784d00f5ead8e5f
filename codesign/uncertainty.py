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
    ("train", "dense", "tables"): Spread(0.072, 0.131),  # 268 rows, 90 groups
    ("train", "dense", "priors"): Spread(0.153, 0.116),  # 44 rows, 20 groups
    ("train", "moe", "tables"): Spread(0.021, 0.218),  # 37 rows, 33 groups
    ("train", "moe", "priors"): Spread(0.032, 0.327),  # 0 rows, 0 groups
    ("decode", "dense", "tables"): Spread(0.081, 0.102),  # 32 rows, 19 groups
    ("decode", "dense", "priors"): Spread(0.122, 0.153),  # 2 rows, 2 groups
    ("decode", "moe", "tables"): Spread(0.145, 0.102),  # 0 rows, 0 groups
    ("decode", "moe", "priors"): Spread(0.218, 0.153),  # 0 rows, 0 groups
    ("prefill", "dense", "tables"): Spread(0.273, 0.217),  # 16 rows, 7 groups
    ("prefill", "dense", "priors"): Spread(0.410, 0.325),  # 0 rows, 0 groups
    ("prefill", "moe", "tables"): Spread(0.273, 0.217),  # 0 rows, 0 groups
    ("prefill", "moe", "priors"): Spread(0.410, 0.325),  # 0 rows, 0 groups
    ("e2e", "dense", "tables"): Spread(0.000, 0.094),  # 150 rows, 12 groups
    ("e2e", "dense", "priors"): Spread(0.000, 0.141),  # 0 rows, 0 groups
    ("e2e", "moe", "tables"): Spread(0.000, 0.220),  # 268 rows, 11 groups
    ("e2e", "moe", "priors"): Spread(0.000, 0.330),  # 0 rows, 0 groups
    ("ttft", "dense", "tables"): Spread(0.000, 0.852),  # 131 rows, 7 groups
    ("ttft", "dense", "priors"): Spread(0.000, 1.278),  # 0 rows, 0 groups
    ("ttft", "moe", "tables"): Spread(0.826, 1.036),  # 268 rows, 11 groups
    ("ttft", "moe", "priors"): Spread(1.239, 1.554),  # 0 rows, 0 groups
    ("offline", "dense", "tables"): Spread(0.089, 0.226),  # 262 rows, 21 groups
    ("offline", "dense", "priors"): Spread(0.133, 0.339),  # 0 rows, 0 groups
    ("offline", "moe", "tables"): Spread(0.000, 0.464),  # 199 rows, 20 groups
    ("offline", "moe", "priors"): Spread(0.000, 0.696),  # 0 rows, 0 groups
}
# fitted by scripts/fit_uncertainty.py: end


def spread(kind: str, phase: str, chip_class: str, is_moe: bool) -> Spread:
    """Spread of a prediction.  kind: training | inference; phase: train, decode, prefill, e2e, ttft, offline (ttft: of e2e)."""
    return SPREADS["train" if kind == "training" else phase, "moe" if is_moe else "dense", chip_class]


def interval(kind: str, phase: str, chip_class: str, is_moe: bool, predicted, level: float = LEVEL):
    """(lower, upper) around `predicted` that holds the measured value with probability `level`.

    predicted exp(-+ z sigma), z the normal quantile of (1 + level) / 2.  Parameters: predicted, any unit and shape.
    """
    z = NormalDist().inv_cdf(0.5 * (1.0 + level))
    factor = np.exp(z * spread(kind, phase, chip_class, is_moe).total)
    return predicted / factor, predicted * factor


@lru_cache(256)
def chip_class(hardware: str, engine: str = "generic") -> str:
    """`tables` where the chip, or one that it is declared to be like, has measured kernels; `priors` otherwise."""
    origin = catalog.kernel_constants(engine, catalog.hardware(hardware))["origin"]["gemm.bf16"]
    return "priors" if "prior" in origin else "tables"
