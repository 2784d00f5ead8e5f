"""What RL tokens return: a pass rate that saturates, on a ceiling that pretraining sets.

More RL moves a model along its curve; only a better model has a better curve.  So RL never replaces parameters or pretraining tokens
without bound, and quality is not free: every point of the curve is paid in rollouts.
"""

from dataclasses import dataclass

import numpy as np

from codesign.lifecycle.quality import benchmark_readout
from codesign.lifecycle.scaling_law import CENTRAL, equivalent_compute, loss

BENCHMARK = "math"  # the slopes that carry a curve from one size to another
# 7,400 steps of 2,048 answers in the longest run; fits to a half and to a third of a run were right to its end (figure 1)
MOST_ROLLOUTS = 3.0 * 7400 * 2048
SIZES = (0.5e9, 200e9)  # validity of the readout


@dataclass(frozen=True)
class ReturnCurve:
    """A measured curve and the model it was measured on.  Defaults: ScaleRL, 8 billion dense parameters, mathematics with checked answers.

    Source: arXiv 2510.13786 equation 1 and Table 1; C_mid 2,542 GPU-hours at 1.5 GPU-hours a step of 768 answers (A.6) is 1.3 million
    rollouts (the run with batches of 2,048: 10,909 GPU-hours at 13.5 a step, 1.65 million).  The start is not printed there: our estimate.
    """

    start: float = 0.30
    asymptote: float = 0.610  # +- 0.02 between repeated runs
    exponent: float = 1.92
    mid_rollouts: float = 1.30e6
    n_axis: float = 6.15e9  # exp(q_reason) of Llama 3.1 8B, where the slopes are read
    n_reason: float = 2.70e10  # `reasoning_size` of Llama 3.1 8B after 15e12 tokens


def reasoning_size(q_reason, d_eff, law=CENTRAL):
    """Size of the compute-optimal dense model that reasons as well [1]: n_eq of L(exp(q_reason), D_eff).

    q_reason [1] of `quality.q_reason`, d_eff [tok].  Rises with parameters, with tokens, and with sparsity as q_reason does.

    >>> n = reasoning_size(np.log([1e10, 1e10, 2e10]), np.array([1e12, 1e13, 1e13]))
    >>> bool(n[0] < n[1] < n[2])
    True
    """
    return equivalent_compute(loss(np.exp(q_reason), d_eff, law), law)[1]


def gain_frac(n_rollouts, curve=ReturnCurve()):
    """Share of what RL can add that so many rollouts have added: 1 / (1 + (C_mid / C)^B) [1], 0 without RL, below 1.

    >>> [round(float(gain_frac(n)), 3) for n in (0.0, 1.3e6, 1e8)]
    [0.0, 0.5, 1.0]
    """
    n = np.asarray(n_rollouts, float)
    return np.where(n > 0, 1.0 / (1.0 + (curve.mid_rollouts / np.maximum(n, 1.0)) ** curve.exponent), 0.0)


def size_on_axis(n_reason, curve=ReturnCurve()):
    """Size at which the benchmark's slope is read: the reference's, times how much better this model reasons [1]."""
    return curve.n_axis * np.asarray(n_reason, float) / curve.n_reason


def pass_frac(n_reason, n_rollouts, curve=ReturnCurve()):
    """Pass rate after RL: R = R_0' + (A' - R_0') / (1 + (C_mid / C)^B), in (R_0', A').

    R_0' and A' are the curve's, moved in logits by `benchmark_readout` from the reference model to this one.

    n_reason of `reasoning_size` [1], n_rollouts C: answers generated in RL [1].  Returns [1].  Source: arXiv 2510.13786 equation 1; the move
    is ours: from the 8-billion model it gives 0.71 for the ceiling of the 17Bx16 mixture, which was measured at 0.710.  Valid for one
    recipe, mathematics with checked answers; see `cannot_rank`.

    >>> round(float(pass_frac(2.70e10, 1.3e6)), 3), round(float(pass_frac(1.19e11, 1e9)), 2)
    (0.455, 0.71)
    """
    low, high = (_moved(p, n_reason, curve) for p in (curve.start, curve.asymptote))
    return low + (high - low) * gain_frac(n_rollouts, curve)


def _moved(share, n_reason, curve):
    sizes = np.log(np.maximum(size_on_axis(n_reason, curve), 1.0)), np.log(curve.n_axis)
    there, here = (benchmark_readout(s, BENCHMARK) for s in sizes)
    return 1.0 / (1.0 + (1.0 / share - 1.0) * np.exp(np.minimum(here - there, 600.0)))


def cannot_rank(n_reason, n_rollouts, curve=ReturnCurve()):
    """How far a design is outside the range in which the curve may rank it: signed, <= 0 inside [1].

    >>> [bool(cannot_rank(n, c) <= 0) for n, c in ((2.7e10, 1e6), (2.7e10, 1e8), (1e9, 1e6))]
    [True, False, False]
    """
    size = np.maximum(size_on_axis(n_reason, curve), 1.0)
    excess = np.asarray(n_rollouts, float) / MOST_ROLLOUTS, size / SIZES[1], SIZES[0] / size
    return np.minimum(np.max(np.broadcast_arrays(*excess), axis=0) - 1.0, 1e6)
