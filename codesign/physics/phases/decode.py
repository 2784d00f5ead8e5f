"""One decode step: every sequence in flight gets its next token (or its next few, with multi-token prediction)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import memory, operators
from codesign.physics.arrays import Arrays
from codesign.physics.experts import touched_fullest, touched_mean
from codesign.physics.feed_forward import dense_params_apart, feed_forward
from codesign.physics.interleave import Parts, interleaved
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout
from codesign.physics.operators import Scene


@dataclass(frozen=True)
class Load(Arrays):
    """What one replica decodes: sequences in flight over all its ranks, context per sequence, tokens per step and sequence."""

    batch: np.ndarray
    context_tok: np.ndarray
    q_tok: np.ndarray | float = 1.0


def sequences_per_rank(batch, layout: Layout):
    """Sequences of the fullest attention rank, all pipeline stages together: ceil(batch / n_dp)."""
    return np.ceil(batch / layout.n_dp)


def micro_batch(batch, layout: Layout):
    """Sequences that one stage of the fullest rank works on at a time: with n_pp stages, n_pp micro-batches are in flight."""
    return np.ceil(sequences_per_rank(batch, layout) / layout.n_pp)


def group_tokens(load: Load, layout: Layout):
    """Tokens per step (or micro-batch of it) of one whole expert group: batch q / (n_edp n_pp), at least one sequence."""
    return np.maximum(load.batch / (layout.n_edp * layout.n_pp * layout.n_pieces), 1.0) * load.q_tok


def fullest_experts(scene: Scene, layout: Layout, load: Load):
    """Experts read per MoE layer by the fullest device in one step; 0 for dense models."""
    if not scene.has_moe():
        return 0.0
    ffn = scene.census.ffn
    return touched_fullest(ffn.n_experts, ffn.n_active_experts, group_tokens(load, layout), layout.n_ep)


def step(scene: Scene, layout: Layout, load: Load, touched, detail: bool = False) -> Ledger:
    """Serial time of one step through the whole model: T = sum over operators of t0 + max(compute, memory), + network.

    Shapes: scene (A, 1) or (N,), layout and load (1, L) or (N,); `touched` from `fullest_experts`.  Returns a ledger whose
    `time_s` [s] is the step.  Assumes CUDA graphs (launch cost inside t0) and no overlap of compute with communication unless the
    layout has a plan.
    """
    if layout.plan is not None:
        return _in_pieces(scene, layout, load, touched, detail)
    ledger = Ledger(detail)
    n_seq = micro_batch(load.batch, layout)
    n_tok = n_seq * load.q_tok
    pace = layout.n_pp * memory.stage_share(scene.census, layout)  # a full pipeline turns at the pace of its fullest stage
    for _, mixer, cached in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok, pace)
        operators.decode_attention(ledger, scene, layout, mixer, cached, n_seq, load.context_tok, load.q_tok, pace)
    if scene.has_dense_ffn():
        operators.dense_ffn(ledger, scene, layout, n_tok, pace)
    if scene.has_moe():
        n_group = group_tokens(load, layout)
        operators.routed_experts(ledger, scene, layout, n_group, touched, pace)
        operators.shared_experts(ledger, scene, layout, n_tok, pace)
        operators.expert_traffic(ledger, scene, layout, n_tok, n_group, pace, holders=layout.n_tp * layout.n_cp)
    operators.tensor_reductions(ledger, scene, layout, n_tok, pace)
    operators.elementwise(ledger, scene, n_tok, pace)
    operators.lm_head(ledger, scene, layout, n_tok)
    operators.pipeline_hops(ledger, scene, layout, n_tok)
    overhead = scene.chip.step_overhead_s + scene.chip.sequence_overhead_s * n_seq
    ledger.fixed("scheduler", overhead)
    return ledger


def _in_pieces(scene: Scene, layout: Layout, load: Load, touched, detail: bool) -> Ledger:
    """One step under a plan (`physics.interleave`): the same operators, for one of `n_pieces` micro-batches, by the station they run on."""
    parts = Parts(detail)
    in_hand = micro_batch(load.batch, layout)
    n_seq = np.ceil(in_hand / layout.n_pieces)
    n_tok, holders = n_seq * load.q_tok, layout.n_tp * layout.n_cp
    pace = layout.n_pp * memory.stage_share(scene.census, layout)
    for _, mixer, cached in scene.mixers():
        operators.projections(parts.attention, scene, layout, mixer, n_tok, pace)
        operators.decode_attention(parts.attention, scene, layout, mixer, cached, n_seq, load.context_tok, load.q_tok, pace)
    feed_forward(parts, scene, layout, n_tok, group_tokens(load, layout), touched, pace, holders)
    operators.elementwise(parts.attention, scene, n_tok, pace)
    operators.lm_head(parts.attention, scene, layout, n_tok)
    operators.pipeline_hops(parts.attention, scene, layout, n_tok)
    parts.once.fixed("scheduler", scene.chip.step_overhead_s + scene.chip.sequence_overhead_s * in_hand)
    return interleaved(parts, layout)


def weights_read(scene: Scene, layout: Layout, touched):
    """Weight bytes that one device reads per step, over its stage: all dense weights, `touched` experts, the LM head; once for every
    micro-batch.  FFNs on devices of their own: on the side that reads more."""
    dense, _ = memory.block_params(scene, layout)
    ffn = scene.census.ffn
    experts = ffn.n_moe_layers * touched * ffn.expert_params / layout.n_etp
    share, head = memory.stage_share(scene.census, layout), scene.census.head_params / layout.n_tp
    params = share * (dense + experts) + head
    if layout.plan is not None:
        attention, common = dense_params_apart(scene, layout)
        params = np.where(layout.plan.n_ffn > 0, np.maximum(share * attention + head, share * (common + experts)), params)
    return params * scene.weight_bytes * layout.n_pieces


def mean_experts(scene: Scene, layout: Layout, load: Load):
    """Experts read per MoE layer by the mean device."""
    ffn = scene.census.ffn
    return touched_mean(ffn.n_experts, ffn.n_active_experts, group_tokens(load, layout), layout.n_ep)


def memory_classes(scene: Scene, layout: Layout, load: Load, held_tok, chunk_tok=0.0) -> dict[str, np.ndarray]:
    """Bytes per class on the fullest device with every sequence holding `held_tok` tokens of cache.

    `chunk_tok`: tokens of the prefill chunk that a colocated pool also has to hold the activations of.
    """
    n_seq = sequences_per_rank(load.batch, layout)
    n_tok = np.maximum(micro_batch(load.batch, layout) * load.q_tok, chunk_tok)
    return memory.serving_classes(scene, layout, n_seq, held_tok, n_tok, layout.n_tp * layout.n_cp)
