"""How one replica of a model is spread over devices.

    n_tp * n_cp * n_dp * n_pp  =  n_etp * n_ep * n_edp * n_pp  =  devices of one replica

The order of the groups, innermost first, is tp, cp, dp, pp (attention) and etp, ep, edp, pp (experts): a group of
n consecutive devices stays inside the scale-up domain when n <= its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.arrays import Arrays


@dataclass(frozen=True)
class Layout(Arrays):
    """Degrees of parallelism; every field a count, scalar or (L,)."""

    n_tp: np.ndarray  # tensor parallel (attention, dense FFN)
    n_cp: np.ndarray  # context parallel
    n_dp: np.ndarray  # data parallel: attention ranks of one replica when serving, gradient ranks when training
    n_pp: np.ndarray  # pipeline stages
    n_etp: np.ndarray  # tensor parallel inside an expert
    n_ep: np.ndarray  # expert parallel
    n_edp: np.ndarray  # copies of the expert set

    @property
    def n_stage(self):
        """Devices of one pipeline stage."""
        return self.n_tp * self.n_cp * self.n_dp

    @property
    def n_devices(self):
        """Devices of one replica."""
        return self.n_stage * self.n_pp

    @property
    def is_consistent(self):
        """The identity n_tp n_cp n_dp = n_etp n_ep n_edp."""
        return self.n_stage == self.n_etp * self.n_ep * self.n_edp


def make_layout(n_tp=1, n_cp=1, n_dp=1, n_pp=1, n_etp=1, n_ep=1) -> Layout:
    """Layout with `n_edp` from the identity; degrees broadcast.  A non-integer n_edp is left visible to `is_consistent`.

    >>> bool(make_layout(n_tp=1, n_dp=8, n_ep=8).is_consistent), bool(make_layout(n_tp=2, n_ep=8).is_consistent)
    (True, False)
    """
    stage = np.asarray(n_tp) * n_cp * n_dp
    n_edp = np.maximum(stage // np.maximum(np.asarray(n_etp) * n_ep, 1), 1)
    return Layout(*(np.asarray(n) for n in (n_tp, n_cp, n_dp, n_pp, n_etp, n_ep, n_edp)))


def divides(part, whole):
    """True where `part` divides `whole` (both counts, broadcasting)."""
    ratio = whole / part
    return np.floor(ratio) == ratio


def fits_shape(layout: Layout, census) -> np.ndarray:
    """Mask of layouts whose degrees divide the model: heads by tp, KV heads and tp one by the other, experts by ep,
    expert width by etp, FFN width by tp, at least one layer per stage.  Shapes: census (A, 1) or (N,), layout (1, L) or (N,)."""
    tp = layout.n_tp
    ok = layout.is_consistent & (layout.n_pp <= census.n_layers)
    for mixer in (census.full, census.window, census.linear):
        used = np.asarray(mixer.n_layers) > 0
        if not np.any(used):
            continue
        kv = np.maximum(mixer.kv_shards, 1)
        kv_fits = divides(tp, kv) | divides(kv, tp)
        ok = ok & (~used | (divides(tp, np.maximum(mixer.n_heads, 1)) & kv_fits))
    dense = np.asarray(census.ffn.n_dense_layers) > 0
    ok = ok & (~dense | divides(tp, np.maximum(census.ffn.d_ff, 1)))
    moe = np.asarray(census.ffn.n_moe_layers) > 0
    experts = divides(layout.n_ep, np.maximum(census.ffn.n_experts, 1)) & divides(layout.n_etp, np.maximum(census.ffn.d_expert, 1))
    no_experts = (layout.n_ep == 1) & (layout.n_etp == 1)  # a dense model has one expert layout: none
    return ok & np.where(moe, experts, no_experts)
