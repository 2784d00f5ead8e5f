"""Training state kept in the host's memory: what it frees on the device, and the time that the host link adds."""

from __future__ import annotations

import numpy as np

from codesign.physics.hardware import Chip

HOST_EFFICIENCY = 0.88  # of the link's nominal rate: 55.4 of 63 GB/s on 8 H200 (stas00/ml-engineering @744d01e, network/README.md)
SENT_BYTES = 4.0  # per parameter and step: 16-bit gradient out, 16-bit weight back (ZeRO-Offload, arXiv 2101.06840 section 4)
HOST_UPDATE_BYTES = 28.0  # per parameter, Adam on the host: read gradient, master, 2 moments; write master, 2 moments
OPTIMIZER_BYTES = 12.0
BUFFERED_LAYERS = 2.0  # layers whose activations wait on the device: one on its way out or in, one in use


def offloads_optimizer(mode):
    """Where the optimizer's state waits on the host (`train.OFFLOAD`: 1 optimizer, 3 both)."""
    return (np.asarray(mode) == 1) | (np.asarray(mode) == 3)


def offloads_activations(mode):
    """Where activations wait on the host (2 activations, 3 both)."""
    return np.asarray(mode) >= 2


def exposed_s(n_params, activation_bytes, n_micro, micro_s, update_s, mode, chip: Chip):
    """Seconds that offloading adds to an optimizer step.

    optimizer:    n (4 B + 28 B) / host - t_update     the host updates its shard at the rate of its link (our estimate of its memory's share)
    activations:  n_micro max(0, bytes / host - t_micro)   out in the forward and back in the backward pass, beside the computation

    Parameters: n_params of a device's shard [1], activation_bytes of one micro-batch on its stage [byte], micro_s and update_s [s].

    >>> from types import SimpleNamespace as S
    >>> float(exposed_s(1e9, 0.0, 8.0, 0.1, 0.02, 1, S(host_bytes_per_s=50e9)) * 1e3 // 1)
    707.0
    """
    rate = HOST_EFFICIENCY * chip.host_bytes_per_s
    update = offloads_optimizer(mode) * (n_params * (SENT_BYTES + HOST_UPDATE_BYTES) / rate - update_s)
    return update + offloads_activations(mode) * n_micro * np.maximum(activation_bytes / rate - micro_s, 0.0)


def on_device(held: dict, layer_bytes, mode) -> dict:
    """Bytes by class that stay on the device: no optimizer state, activations of two layers `layer_bytes` [byte] each."""
    kept = np.minimum(held["activations"], BUFFERED_LAYERS * layer_bytes)
    return held | {
        "optimizer": np.where(offloads_optimizer(mode), 0.0, held["optimizer"]),
        "activations": np.where(offloads_activations(mode), kept, held["activations"]),
    }


def host_bytes(held: dict, mode):
    """Bytes of a device's share of the host's memory: the classes that moved there."""
    return np.where(offloads_optimizer(mode), held["optimizer"], 0.0) + np.where(offloads_activations(mode), held["activations"], 0.0)
