"""The operators of one forward pass, shared by decode, prefill and training: what each multiplies, reads and sends.

Legend: every argument broadcasts; `census` and `rates` vary by design, `layout` and token counts by layout.  `n_tok` is the
number of tokens of one attention rank (one of n_dp, after the context split), `n_tok_group` that of the whole expert group.
`share` scales the layer counts (1 for a whole model, the fullest stage's share for one pipeline stage).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import collectives
from codesign.physics.architecture import Census, kv_bytes_per_tok_layer
from codesign.physics.arrays import Arrays
from codesign.physics.hardware import Chip, Kernels, in_training, kernels
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout
from codesign.physics.precision import Precision, stored_bytes

INDEX_SCALE_BYTES = 4.0  # fp32 scale of each fp8 index key (DeepSeek-V3.2)
ACT_BYTES = 2.0  # activations between kernels are 16-bit; quantised copies are an input of the GEMM kernel itself
NARROWEST_TILE_TOK = 16.0  # rows of the narrowest tensor-core tile of grouped GEMMs (CUTLASS 3, DeepGEMM: 8-16 with operands swapped)


@dataclass(frozen=True)
class Scene(Arrays):
    """A design on a chip, all that does not depend on the layout: counts, sizes in bytes, kernel rates."""

    census: Census
    chip: Chip
    rates: Kernels
    weight_bytes: np.ndarray  # per stored weight, scales included
    send_bytes: np.ndarray  # per element of a dispatched token
    kv_bytes_full: np.ndarray  # per cached token and full-attention layer, scales included
    kv_bytes_window: np.ndarray
    tok_per_text: np.ndarray  # tokens that carry the text of one token of demand (1 unless the vocabulary varies)

    def mixers(self):
        """(name, mixer, cached bytes per token and layer) of the kinds of token mixer that any design here has."""
        parts = (
            ("full", self.census.full, self.kv_bytes_full),
            ("window", self.census.window, self.kv_bytes_window),
            ("linear", self.census.linear, 0.0),
        )
        return [part for part in parts if np.any(np.asarray(part[1].n_layers) > 0)]

    def has_moe(self) -> bool:
        return bool(np.any(np.asarray(self.census.ffn.n_moe_layers) > 0))

    def has_dense_ffn(self) -> bool:
        return bool(np.any(np.asarray(self.census.ffn.n_dense_layers) > 0))


def make_scene(census: Census, chip: Chip, precision: Precision, training: bool = False, tok_per_text=1.0) -> Scene:
    """Everything about (A,) designs that every layout shares; constant fields collapse to scalars."""
    return Scene(
        census=census,
        chip=in_training(chip) if training else chip,
        rates=kernels(chip, precision, is_mla=np.asarray(census.full.kv_elems_16bit) > 0, training=training),
        weight_bytes=stored_bytes(precision.weight_bits),
        send_bytes=np.minimum(stored_bytes(precision.act_bits), ACT_BYTES),
        kv_bytes_full=kv_bytes_per_tok_layer(census.full, precision.kv_bits),
        kv_bytes_window=kv_bytes_per_tok_layer(census.window, precision.kv_bits),
        tok_per_text=tok_per_text,
    ).compact()


def attention_weights(mixer, layout: Layout):
    """Projection weights of one attention layer on one device: TP divides heads, K/V only as far as there are KV heads."""
    kv_ways = np.minimum(layout.n_tp, np.maximum(mixer.kv_shards, 1))
    return mixer.params_tp / layout.n_tp + mixer.params_kv / kv_ways + mixer.params_rep


def projections(ledger: Ledger, scene: Scene, layout: Layout, mixer, n_tok, share=1.0) -> None:
    """Attention projections: FLOP = 2 tok W, bytes = W + activations; the output projection is row-parallel (narrow k)."""
    d_model = scene.census.d_model
    weights = attention_weights(mixer, layout)
    k_out = np.maximum(mixer.params_tp / (2.0 * d_model * layout.n_tp), 1.0)
    flop = 2.0 * n_tok * weights * (1.0 + 0.5 * scene.chip.gemm_k_half / k_out)
    n_bytes = weights * scene.weight_bytes + n_tok * ACT_BYTES * (2.0 * d_model + weights / d_model)
    ledger.kernel("attention projections", scene.rates.gemm, mixer.n_gemm, flop, n_bytes, repeat=mixer.n_layers * share)


def decode_attention(ledger: Ledger, scene: Scene, layout: Layout, mixer, cached_bytes, n_seq, context_tok, q_tok, share=1.0) -> None:
    """Attention of `q_tok` new tokens per sequence over the cache of each of `n_seq` sequences of one rank.

    bytes = n_seq min(S, span) kv / min(tp, kv shards) / cp;  FLOP = n_seq q min(S, span) flop_per_pair / tp / cp;
    a sparse indexer reads its keys over the whole context; a linear mixer reads and writes its state.
    """
    tp, cp = layout.n_tp, layout.n_cp
    pairs = n_seq * np.minimum(context_tok, mixer.span_tok) / cp
    kv_ways = np.minimum(tp, np.maximum(mixer.kv_shards, 1))
    n_bytes = pairs * cached_bytes / kv_ways
    flop = pairs * q_tok * mixer.flop_per_pair_decode / tp
    if np.any(np.asarray(mixer.index_elems_per_tok) > 0):
        index_pairs = n_seq * context_tok / cp
        n_bytes = n_bytes + index_pairs * index_key_bytes(mixer)
        flop = flop + index_pairs * q_tok * mixer.index_flop_per_pair
    n_bytes = n_bytes + 2.0 * n_seq * mixer.state_bytes / tp
    flop = flop + n_seq * q_tok * mixer.state_flop_per_tok / tp
    ledger.kernel("attention over cache", scene.rates.attention, 1.0, flop, n_bytes, repeat=mixer.n_layers * share, lends=False)
    if np.any(np.asarray(cp) > 1):  # partial outputs of the context shards are summed, with their softmax weights
        partial = n_seq * q_tok * mixer.n_heads * (mixer.d_v + 1.0) / tp * ACT_BYTES
        n_layers = mixer.n_layers * (mixer.flop_per_pair_decode > 0)  # a recurrence has no cache to split
        ledger.network("CP reduction", *collectives.all_reduce(partial, cp, scene.chip, tp), repeat=n_layers * share)


def index_key_bytes(mixer):
    """Bytes of one token's index key in one layer: fp8 elements and their scale; 0 without an indexer."""
    return mixer.index_elems_per_tok + INDEX_SCALE_BYTES * (mixer.index_elems_per_tok > 0)


def prefill_attention(
    ledger: Ledger,
    scene: Scene,
    layout: Layout,
    mixer,
    cached_bytes,
    n_seq,
    n_new_tok,
    prefix_tok,
    share=1.0,
    n_launches=1.0,
    s0_tok=None,
) -> None:
    """Causal attention of the new tokens of `n_seq` sequences: t = t0 + F/(eP P) (1 + s0/S), pairs by `causal_pairs`."""
    pairs = n_seq * causal_pairs(n_new_tok, prefix_tok, mixer.span_tok)
    split = layout.n_tp * layout.n_cp
    s0_tok = scene.chip.prefill_s0_tok if s0_tok is None else s0_tok
    ramp = 1.0 + s0_tok / np.maximum(np.minimum(n_new_tok + prefix_tok, mixer.span_tok), 1.0)
    flop = pairs * mixer.flop_per_pair_prefill * ramp
    if np.any(np.asarray(mixer.index_elems_per_tok) > 0):
        # every TP rank runs the whole indexer (deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py)
        flop = flop + layout.n_tp * n_seq * causal_pairs(n_new_tok, prefix_tok, np.inf) * mixer.index_flop_per_pair
    flop = (flop + n_seq * n_new_tok * mixer.state_flop_per_tok) / split
    kv_ways = np.minimum(layout.n_tp, np.maximum(mixer.kv_shards, 1)) * layout.n_cp
    n_bytes = n_seq * (n_new_tok + prefix_tok) * cached_bytes / kv_ways
    ledger.kernel("attention", scene.rates.prefill, n_launches, flop, n_bytes, repeat=mixer.n_layers * share)


def causal_pairs(n_new_tok, prefix_tok, span_tok):
    """(query, key) pairs of causal attention: S (S+1)/2 - p (p+1)/2 with S = new + prefix; at most `span` keys per query.

    >>> float(causal_pairs(4, 0, np.inf)), float(causal_pairs(2, 2, np.inf)), float(causal_pairs(4, 0, 2))
    (10.0, 7.0, 7.0)
    """
    total = n_new_tok + prefix_tok
    return _pairs_up_to(total, span_tok) - _pairs_up_to(prefix_tok, span_tok)


def _pairs_up_to(n, span):
    inside = np.minimum(n, span)
    extra = np.where(n > span, (n - inside) * np.where(np.isfinite(span), span, 0.0), 0.0)
    return inside * (inside + 1.0) / 2.0 + extra


def context_exchange(ledger: Ledger, scene: Scene, layout: Layout, seen_tok, share=1.0) -> None:
    """Context parallel: keys and values (or the latent) of all `seen_tok` tokens that queries attend to, gathered over n_cp in
    every attention layer."""
    if np.all(np.asarray(layout.n_cp) == 1):
        return
    for name, mixer, _ in scene.mixers():
        if name == "linear":
            continue  # a recurrence hands over its state, which is small
        kv = mixer.kv_elems_per_tok / np.minimum(layout.n_tp, np.maximum(mixer.kv_shards, 1.0))
        latency, transfer = collectives.shard_exchange(seen_tok * kv * ACT_BYTES, layout.n_cp, scene.chip, layout.n_tp)
        ledger.network("CP exchange", latency, transfer, repeat=mixer.n_layers * share)


def dense_ffn(ledger: Ledger, scene: Scene, layout: Layout, n_tok, share=1.0) -> None:
    """Dense FFN: FLOP = 2 tok W / tp, bytes = W / tp + activations; the down projection is the row-parallel third (narrow k)."""
    ffn, d_model = scene.census.ffn, scene.census.d_model
    weights = ffn.dense_params / layout.n_tp
    k_down = np.maximum(ffn.d_ff / layout.n_tp, 1.0)
    flop = 2.0 * n_tok * weights * (1.0 + scene.chip.gemm_k_half / (3.0 * k_down))
    n_bytes = weights * scene.weight_bytes + n_tok * ACT_BYTES * (2.0 * d_model + weights / d_model)
    ledger.kernel("dense FFN", scene.rates.gemm, 2.0, flop, n_bytes, repeat=ffn.n_dense_layers * share)


def routed_experts(ledger: Ledger, scene: Scene, layout: Layout, n_tok_group, touched, share=1.0, imbalance=None, m0_tok=None) -> None:
    """Grouped expert GEMM of the fullest device: reads `touched` experts, multiplies its share of the routed tokens.

    FLOP = 2 P (tok k / ep x imbalance + pad touched) / etp, pad = min(m0, max(16, m)) at m tokens per touched expert:
    eP = plateau m / (m + m0), except that kernels choose a tile near m and none is narrower than 16 rows.
    """
    ffn = scene.census.ffn
    per_expert = ffn.expert_params / layout.n_etp
    tok = n_tok_group * ffn.n_active_experts / layout.n_ep
    skew = scene.chip.token_imbalance if imbalance is None else imbalance
    tok = tok * np.where(layout.n_ep > 1, skew, 1.0)
    m0_tok = scene.chip.expert_m0_tok if m0_tok is None else m0_tok
    padding = np.minimum(m0_tok * touched, np.maximum(NARROWEST_TILE_TOK * touched, tok))
    flop = 2.0 * per_expert * (tok + padding)
    n_bytes = touched * per_expert * scene.weight_bytes + 2.0 * tok * ffn.d_expert_in * ACT_BYTES
    ledger.kernel("routed experts", scene.rates.experts, 1.0, flop, n_bytes, repeat=ffn.n_moe_layers * share)


def shared_experts(ledger: Ledger, scene: Scene, layout: Layout, n_tok, share=1.0) -> None:
    """Shared experts, router and latent projections of an MoE layer (dense weights: TP divides the shared experts)."""
    ffn, d_model = scene.census.ffn, scene.census.d_model
    has_shared = ffn.shared_params > 0
    weights = ffn.shared_params / layout.n_tp + ffn.router_params + ffn.latent_params
    n_bytes = weights * scene.weight_bytes + n_tok * ACT_BYTES * (2.0 * d_model + weights / d_model)
    ledger.kernel(
        "shared experts, router", scene.rates.gemm, 1.0 + has_shared, 2.0 * n_tok * weights, n_bytes,
        repeat=ffn.n_moe_layers * share,
    )  # fmt: skip


def lm_head(ledger: Ledger, scene: Scene, layout: Layout, n_tok, repeat=1.0) -> None:
    """Logits of `n_tok` positions of one rank."""
    weights = scene.census.head_params / layout.n_tp
    n_bytes = weights * scene.weight_bytes + n_tok * weights / scene.census.d_model * ACT_BYTES
    ledger.kernel("LM head", scene.rates.gemm, 1.0, 2.0 * n_tok * weights, n_bytes, repeat=repeat, lends=False)  # prompts pass it once


def elementwise(ledger: Ledger, scene: Scene, n_tok, share=1.0) -> None:
    """Norms, residual additions, activation and quantise kernels that are not fused: each reads and writes the stream."""
    n = scene.chip.elementwise_n
    n_bytes = n * 2.0 * n_tok * scene.census.d_model * ACT_BYTES
    ledger.kernel("norms and glue", scene.rates.elementwise, n, 0.0, n_bytes, repeat=scene.census.n_layers * share, lends=False)


def tensor_reductions(ledger: Ledger, scene: Scene, layout: Layout, n_tok, share=1.0, n_elsewhere=0.0) -> None:
    """TP all-reduce of the residual stream after every attention and every dense FFN (or MoE inside one TP group), less the
    `n_elsewhere` layers whose FFN sends its results otherwise."""
    census = scene.census
    latency, transfer = collectives.all_reduce(n_tok * census.d_model * ACT_BYTES, layout.n_tp, scene.chip)
    local_moe = (layout.n_cp * layout.n_dp == 1) * census.ffn.n_moe_layers
    n = census.full.n_layers + census.window.n_layers + census.linear.n_layers + census.ffn.n_dense_layers + local_moe
    ledger.network("TP all-reduce", latency, transfer, repeat=(n - n_elsewhere) * share)


def expert_traffic(
    ledger: Ledger, scene: Scene, layout: Layout, n_tok, n_tok_group, share=1.0, once_per_domain=False, holders=None
) -> None:
    """Dispatch and combine between ranks, expert-TP reduction, and the gather back to the TP ranks of one attention rank.

    A replica with one attention rank (dp = cp = 1) holds the tokens everywhere: its combine is the TP all-reduce.  `holders`
    devices (the TP group; in decode the CP ranks too) have the same `n_tok` tokens, send a share each and gather the results.
    """
    ffn, chip, d_model = scene.census.ffn, scene.chip, scene.census.d_model
    spread = layout.n_cp * layout.n_dp > 1
    repeat = ffn.n_moe_layers * share * spread
    holders = layout.n_tp if holders is None else holders
    args = (n_tok / holders, ffn.n_active_experts, ffn.d_expert_in)
    for name, n_bytes in (("expert dispatch", scene.send_bytes), ("expert combine", ACT_BYTES)):
        ledger.network(name, *collectives.expert_exchange(*args, n_bytes, layout.n_ep, chip, layout.n_etp, once_per_domain), repeat=repeat)
    if np.any(np.asarray(layout.n_etp) > 1):
        received = n_tok_group * np.minimum(ffn.n_active_experts, layout.n_ep) / layout.n_ep
        ledger.network(
            "expert TP all-reduce", *collectives.all_reduce(received * ffn.d_expert_in * ACT_BYTES, layout.n_etp, chip), repeat=repeat
        )
    if np.any(np.asarray(holders) > 1):
        latency, transfer = collectives.shard_exchange(n_tok * d_model * ACT_BYTES, holders, chip)
        ledger.network("TP all-gather", latency, transfer, repeat=repeat)


def pipeline_hops(ledger: Ledger, scene: Scene, layout: Layout, n_tok, repeat=1.0) -> None:
    """Sends of the residual stream from stage to stage: n_pp - 1 of them on the path of one token."""
    if np.all(np.asarray(layout.n_pp) == 1):
        return
    latency, transfer = collectives.hop(n_tok / layout.n_tp * scene.census.d_model * ACT_BYTES, layout.n_whole_stage, scene.chip)
    ledger.network("pipeline hop", latency, transfer, repeat=(layout.n_pp - 1.0) * repeat)
