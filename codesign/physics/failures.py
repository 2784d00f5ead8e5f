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
    """Young's interval sqrt(2 delta M) [s] (J. W. Young, CACM 17(9), 1974).

    >>> round(float(checkpoint_interval_s(16384)) / 60)
    10
    """
    return np.sqrt(2.0 * checkpoint_s * mean_time_between_failures_s(n_devices))


def goodput_frac(n_devices, checkpoint_s=CHECKPOINT_S, restart_s=RESTART_S):
    """Share of wall-clock time that makes progress: 1 / (1 + sqrt(2 delta / M) + R / M), in (0, 1].

    >>> round(float(goodput_frac(16384)), 3)
    0.913
    """
    mtbf = mean_time_between_failures_s(n_devices)
    return 1.0 / (1.0 + np.sqrt(2.0 * checkpoint_s / mtbf) + restart_s / mtbf)
