"""One RL step on a pool of devices: rollout, reference and reward forward passes, update."""

from __future__ import annotations

import numpy as np


def rollout_stretch(floor_s, step_s, longest_over_mean):
    """Rollout time over that of equal lengths, synchronous and without refill: a batch drains while its longest answers run.

    time = integral of t(n) with t(n) = t_floor + (t_B - t_floor) n/B over the survivors n, hence
    stretch = 1 + (t_floor / t_B) (L_max / L_mean - 1).

    Parameters: floor_s step time of one sequence [s], step_s of the full batch [s], longest_over_mean [-].  Returns [-] >= 1.

    >>> float(rollout_stretch(0.01, 0.02, 3.0))
    2.0
    """
    return 1.0 + floor_s / step_s * (longest_over_mean - 1.0)


def device_s_per_tok(rollout_s_per_tok, forward_s_per_tok, update_s_per_tok, n_forward, reuse=1.0):
    """Device-seconds of one generated token on a shared pool: rollout + n_forward forward passes + reuse x update.

    Phases take turns on the same devices (synchronous RL), so their device-seconds add.  n_forward counts reference and
    reward / old-policy passes over the rollout.  Parameters [device s/tok], broadcasting.  Returns [device s/tok].
    """
    return rollout_s_per_tok + n_forward * forward_s_per_tok + reuse * update_s_per_tok


def weight_sync_s(weight_bytes_total, n_devices_per_replica, scale_out_bytes_per_s):
    """Seconds to send the new weights to the rollout replicas: every replica receives all of them, each device its part over its own link.

    t = W / (n_devices_per_replica x link), all replicas at the same time.  Parameters: weight_bytes_total [byte], scale_out_bytes_per_s [byte/s],
    broadcasting.  Returns [s].  Valid where senders keep up: the update pool holds each weight at least as often as a replica.

    >>> float(weight_sync_s(1e12, 16, 50e9))
    1.25
    """
    return weight_bytes_total / (np.asarray(n_devices_per_replica) * scale_out_bytes_per_s)
