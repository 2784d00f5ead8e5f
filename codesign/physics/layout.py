"""How one replica of a model is spread over devices.

    n_tp * n_cp * n_dp * n_pp  =  n_etp * n_ep * n_edp * n_pp  =  devices of one replica

The order of the groups, innermost first, is tp, cp, dp, pp (attention) and etp, ep, edp, pp (experts): a group of
n consecutive devices stays inside the scale-up domain when n <= its size.  Where a `Plan` gives the FFNs devices of
their own, the two sides are added instead: (n_tp n_cp n_dp + n_ffn) n_pp, with n_etp n_ep n_edp = n_ffn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.physics.arrays import Arrays

DEGREES = ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp")
PLAIN = {"overlap": 0, "n_ffn": 0, "n_micro": 1, "n_ffn_x": 1, "n_gather": 1}  # a plan that changes nothing
OVERLAP = ("none", "two_batch")


@dataclass(frozen=True)
class Plan(Arrays):
    """How a serving step is shared out in time and between devices, where it is not one thing after the other on all of them."""

    overlap: np.ndarray  # 1: two halves of the batch take turns, one computes while the other's messages travel
    n_ffn: np.ndarray  # devices of one stage that hold its FFNs and nothing else; 0: those of the attention do
    n_micro: np.ndarray  # micro-batches that go to and fro between the two groups; 1 where there is one group
    n_ffn_x: np.ndarray  # of the n_tp devices of a dense FFN, how many share d_model; the others share d_ff
    n_gather: np.ndarray  # devices over which prompts gather the weights of a dense FFN


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
    plan: Plan | None = None  # serving only

    @property
    def n_stage(self):
        """Devices of one pipeline stage (those of its attention, where the FFNs have their own)."""
        return self.n_tp * self.n_cp * self.n_dp

    @property
    def n_whole_stage(self):
        """Devices of one pipeline stage, both groups where the FFNs have their own."""
        return self.n_stage if self.plan is None else self.n_stage + self.plan.n_ffn

    @property
    def n_devices(self):
        """Devices of one replica."""
        return self.n_whole_stage * self.n_pp

    @property
    def n_ffn_stage(self):
        """Devices of one stage that hold its FFNs."""
        return self.n_stage if self.plan is None else np.where(self.plan.n_ffn > 0, self.plan.n_ffn, self.n_stage)

    @property
    def n_pieces(self):
        """Micro-batches that one stage has in hand at a time."""
        return 1.0 if self.plan is None else np.where(self.plan.n_ffn > 0, self.plan.n_micro, 1.0 + self.plan.overlap)

    @property
    def is_consistent(self):
        """The identity n_tp n_cp n_dp = n_etp n_ep n_edp, or n_ffn = n_etp n_ep n_edp where FFNs have devices of their own."""
        return self.n_ffn_stage == self.n_etp * self.n_ep * self.n_edp

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Degrees by name, those of the plan included."""
        return {k: getattr(self, k) for k in DEGREES} | (vars(self.plan) if self.plan else {})


def with_plan(layout: Layout, columns) -> Layout:
    """The layout with the plan that `columns` (name -> values) tells of; as it is where none is told."""
    if not any(name in columns for name in PLAIN):
        return layout
    return replace(layout, plan=Plan(*(np.asarray(columns.get(k, default), dtype=float) for k, default in PLAIN.items())))


def layout_of_row(values) -> Layout:
    """Layout from archived columns: `values(name)` is the column's value or list of values, None where there is no such column."""
    found = {k: values(k) for k in (*DEGREES, *PLAIN)}
    told = {k: np.asarray(v, dtype=float) for k, v in found.items() if v is not None and np.all(np.not_equal(v, None))}
    return with_plan(Layout(*(told[k] for k in DEGREES)), told)


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
    apart = False if layout.plan is None else layout.plan.n_ffn > 0
    ok = ok & (~dense | divides(tp if layout.plan is None else np.where(apart, layout.n_etp, tp), np.maximum(census.ffn.d_ff, 1)))
    if layout.plan is not None:
        cuts = np.maximum(layout.plan.n_ffn_x, layout.plan.n_gather)
        ok = ok & divides(layout.plan.n_ffn_x, tp) & divides(layout.plan.n_gather, tp) & ((cuts == 1) | (dense & ~apart))
    moe = np.asarray(census.ffn.n_moe_layers) > 0
    experts = divides(layout.n_ep, np.maximum(census.ffn.n_experts, 1)) & divides(layout.n_etp, np.maximum(census.ffn.d_expert, 1))
    no_experts = (layout.n_ep == 1) & ((layout.n_etp == 1) | apart)  # a dense model has one expert layout: none
    return ok & np.where(moe, experts, no_experts)
