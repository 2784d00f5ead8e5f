"""Interruptions at scale: how often to write a checkpoint, and which share of the wall clock still trains."""

from __future__ import annotations

import numpy as np

# Llama 3 405B: 419 unexpected interruptions in 54 days on 16,384 H100 (arXiv 2407.21783, Table 5): 50,680 device-hours each.
DEVICE_S_BETWEEN_FAILURES = 16384 * 54 * 86400.0 / 419
RESTART_S = 480.0  # detection, reschedule, reload; with the next constant it gives the > 90 % effective time that the same run reports
CHECKPOINT_S = 15.0  # time that training stands still for one checkpoint (asynchronous writers block 5-60 s); estimate


def mean_time_between_failures_s(n_devices):
    """MTBF of a job on n devices [s]: 50,680 device-hours / n."""
    return DEVICE_S_BETWEEN_FAILURES / np.asarray(n_devices, dtype=float)


def checkpoint_interval_s(n_devices, checkpoint_s=CHECKPOINT_S):
    """Time between checkpoints that loses least [s], Daly's higher-order solution.

    sqrt(2 d M) (1 + sqrt(d / 2M) / 3 + (d / 2M) / 9) - d for d < 2M, else M

    n_devices [1], checkpoint_s d [s]; M of `mean_time_between_failures_s`.  Source: J. T. Daly, FGCS 22(3), 2006, equation 37; its first
    term is J. W. Young's interval, CACM 17(9), 1974.

    >>> round(float(checkpoint_interval_s(16384)) / 60, 1)
    9.5
    """
    mtbf = mean_time_between_failures_s(n_devices)
    half = np.minimum(0.5 * checkpoint_s / mtbf, 1.0)
    root = np.sqrt(half)
    return np.where(half < 1.0, 2.0 * mtbf * root * (1.0 + root / 3.0 + half / 9.0) - checkpoint_s, mtbf)


def goodput_frac(n_devices, checkpoint_s=CHECKPOINT_S, restart_s=RESTART_S):
    """Share of wall-clock time that makes progress at the best interval t: t / (M e^(R/M) (e^((t + d)/M) - 1)), in (0, 1].

    Failures at random, also during checkpoints and restarts.  n_devices [1], checkpoint_s d, restart_s R [s].  Source: J. T. Daly, FGCS
    22(3), 2006, the complete model of a long job.

    >>> round(float(goodput_frac(16384)), 3)
    0.909
    """
    mtbf = mean_time_between_failures_s(n_devices)
    every = checkpoint_interval_s(n_devices, checkpoint_s)
    lost = np.exp(np.minimum(restart_s / mtbf, 300.0)) * np.expm1(np.minimum((every + checkpoint_s) / mtbf, 300.0))
    return every / (mtbf * lost)
