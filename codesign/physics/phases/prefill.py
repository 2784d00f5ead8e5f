"""Prefill: one request's prompt through the model, whole or in chunks, up to its first token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import memory, operators
from codesign.physics.arrays import Arrays
from codesign.physics.experts import touched_fullest
from codesign.physics.feed_forward import feed_forward
from codesign.physics.interleave import Parts, interleaved
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout
from codesign.physics.operators import Scene

CHUNK_TOK = 8192.0  # vLLM and SGLang default to chunks of 2,048-16,384 tokens on large GPUs; 8,192 is the common middle


@dataclass(frozen=True)
class Prompt(Arrays):
    """New tokens to compute, and tokens whose cache is already there."""

    new_tok: np.ndarray
    prefix_tok: np.ndarray | float = 0.0

    @property
    def n_chunks(self):
        return np.maximum(np.ceil(self.new_tok / CHUNK_TOK), 1.0)

    @property
    def seen_tok(self):
        """Tokens that the mean chunk attends to: the prefix, the chunks before it, and itself."""
        return self.prefix_tok + self.new_tok * (self.n_chunks + 1.0) / (2.0 * self.n_chunks)


def fullest_experts(scene: Scene, layout: Layout, prompt: Prompt):
    """Experts read per MoE layer and chunk by the fullest device, all attention ranks prefilling."""
    if not scene.has_moe():
        return 0.0
    ffn = scene.census.ffn
    return touched_fullest(ffn.n_experts, ffn.n_active_experts, group_tokens(layout, prompt), layout.n_ep)


def group_tokens(layout: Layout, prompt: Prompt):
    """Tokens of one chunk (or piece of it) in one expert group: every attention rank works on a prompt of its own."""
    return prompt.new_tok / prompt.n_chunks * layout.n_dp / (layout.n_edp * layout.n_pieces)


def forward(scene: Scene, layout: Layout, prompt: Prompt, touched, detail: bool = False) -> Ledger:
    """Serial time [s] of one prompt per attention rank through the whole model, chunk after chunk.

    T = n_chunks (GEMMs, experts, exchange of one chunk) + causal attention over S(S+1)/2 - p(p+1)/2 pairs + LM head at
    the last position.  MLA runs unabsorbed.
    """
    if layout.plan is not None:
        return _in_pieces(scene, layout, prompt, touched, detail)
    ledger = Ledger(detail)
    chunks = prompt.n_chunks
    n_tok = prompt.new_tok / chunks / layout.n_cp
    pace = layout.n_pp * memory.stage_share(scene.census, layout)  # a full pipeline turns at the pace of its fullest stage
    share = chunks * pace
    for _, mixer, cached in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok, share)
        args = (mixer, cached, 1.0, prompt.new_tok, prompt.prefix_tok)
        operators.prefill_attention(ledger, scene, layout, *args, share=pace, n_launches=chunks)
    if scene.has_dense_ffn():
        operators.dense_ffn(ledger, scene, layout, n_tok, share)
    if scene.has_moe():
        n_group = group_tokens(layout, prompt)
        operators.routed_experts(ledger, scene, layout, n_group, touched, share)
        operators.shared_experts(ledger, scene, layout, n_tok, share)
        operators.expert_traffic(ledger, scene, layout, n_tok, n_group, share)
    operators.tensor_reductions(ledger, scene, layout, n_tok, share)
    operators.elementwise(ledger, scene, n_tok, share)
    operators.context_exchange(ledger, scene, layout, prompt.seen_tok, share)
    operators.lm_head(ledger, scene, layout, 1.0)
    operators.pipeline_hops(ledger, scene, layout, n_tok, repeat=chunks)
    ledger.fixed("scheduler", scene.chip.step_overhead_s * chunks)
    return ledger


def _in_pieces(scene: Scene, layout: Layout, prompt: Prompt, touched, detail: bool) -> Ledger:
    """One prompt under a plan (`physics.interleave`): every chunk is cut in `n_pieces`, whose operators run on the stations of the plan."""
    parts, chunks, m = Parts(detail), prompt.n_chunks, layout.n_pieces
    n_tok = prompt.new_tok / chunks / layout.n_cp / m
    pace = layout.n_pp * memory.stage_share(scene.census, layout)
    share = chunks * pace
    for _, mixer, cached in scene.mixers():
        operators.projections(parts.attention, scene, layout, mixer, n_tok, share)
        args = (mixer, cached, 1.0 / m, prompt.new_tok, prompt.prefix_tok)
        operators.prefill_attention(parts.attention, scene, layout, *args, share=pace, n_launches=chunks)
    feed_forward(parts, scene, layout, n_tok, group_tokens(layout, prompt), touched, share, layout.n_tp, gathers=True)
    operators.elementwise(parts.attention, scene, n_tok, share)
    operators.context_exchange(parts.attention, scene, layout, prompt.seen_tok / m, share)
    operators.pipeline_hops(parts.attention, scene, layout, n_tok, repeat=chunks)
    operators.lm_head(parts.once, scene, layout, 1.0)
    parts.once.fixed("scheduler", scene.chip.step_overhead_s * chunks)
    return interleaved(parts, layout, scene.chip.copy_frac)


def ttft(forward_s, layout: Layout, prompt: Prompt):
    """Time to first token without queueing: chunks flow through the stages, T (n_chunks + n_pp - 1) / (n_chunks n_pp).

    >>> float(ttft(1.0, Layout(*[np.float64(1)] * 7), Prompt(np.float64(100))))
    1.0
    """
    chunks = prompt.n_chunks
    return forward_s * (chunks + layout.n_pp - 1.0) / (chunks * layout.n_pp)


def tokens_per_s(forward_s, layout: Layout, prompt: Prompt):
    """Prompt tokens per second of one replica: every rank and stage busy, n_dp new_tok n_pp / T."""
    return layout.n_dp * prompt.new_tok * layout.n_pp / forward_s


def flop(scene: Scene, prompt: Prompt):
    """(matmul, attention) FLOP of one request on the whole model; LM head at the last position only.

    matmul = 2 W_blocks S + 2 W_head;  attention = sum over layers of pairs x 2 h (d_qk + d_v), MLA unabsorbed.
    """
    census = scene.census
    matmul = 2.0 * census.n_matmul_params_per_tok * prompt.new_tok + 2.0 * census.head_params
    attention = 0.0
    for _, mixer, _ in scene.mixers():
        pairs = operators.causal_pairs(prompt.new_tok, prompt.prefix_tok, mixer.span_tok)
        index = operators.causal_pairs(prompt.new_tok, prompt.prefix_tok, np.inf) * mixer.index_flop_per_pair
        per_layer = pairs * mixer.flop_per_pair_prefill + index + prompt.new_tok * mixer.state_flop_per_tok
        attention = attention + mixer.n_layers * per_layer
    return matmul, attention


def memory_classes(scene: Scene, layout: Layout, prompt: Prompt, n_seq=1.0) -> dict[str, np.ndarray]:
    """Bytes per class on the fullest device with `n_seq` prompts per attention rank in flight."""
    held, chunk = prompt.new_tok + prompt.prefix_tok, prompt.new_tok / prompt.n_chunks / layout.n_cp
    return memory.serving_classes(scene, layout, n_seq, held, chunk, layout.n_tp)
