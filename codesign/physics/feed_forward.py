"""The FFNs of a serving step under a plan: how the weights of dense ones are cut, and FFNs on devices of their own.

**Dense FFN on the n devices of a TP group** (Pope et al. 2022, arXiv 2211.05102 section 3.2 and appendix A), t tokens, d = d_model,
F = d_ff, matrices of d x F (one in front of the activation, two when gated):

    1-D, cut in F           all-reduce of t d                                                 does not fall with n
    2-D, cut in x by n/x    2 t d / x over n/x  +  (1 + inputs) t F x / n over x              falls with sqrt(n) at the best x
    gathered over g         weights W g / n over g  +  2 t d / g over n/g                     pays from many tokens on: prompts

Attention stays cut by heads and keeps its all-reduce, so all three begin and end with the same residual stream.  Experts keep
their own cut.

**Apart** (MegaScale-Infer, arXiv 2504.02263; Step-3, arXiv 2507.19427): n_ffn devices of a stage hold experts, shared experts and dense
FFNs, cut in n_etp, and a copy of the last two for each of n_ffn / n_etp; the others hold attention, router, tables and the
cache.  Same chip on both sides.
"""

from __future__ import annotations

import numpy as np

from codesign.physics import collectives, operators
from codesign.physics.interleave import Parts
from codesign.physics.layout import Layout
from codesign.physics.operators import ACT_BYTES, Scene


def feed_forward(parts: Parts, scene: Scene, layout: Layout, n_tok, n_group, touched, share, holders, gathers=False) -> None:
    """FFNs of one micro-batch, and the messages around them, of layouts with a plan.

    n_tok: tokens of one attention rank, held by `holders` devices; n_group: of one expert group; `gathers`: these are prompts, for which
    the plan may gather weights.
    """
    ffn, plan = scene.census.ffn, layout.plan
    apart = plan.n_ffn > 0
    held = tokens_held(layout, n_tok, holders)
    if scene.has_dense_ffn():
        dense_ffn(parts.ffn, scene, layout, held, share, gathers)
    if scene.has_moe():
        operators.routed_experts(parts.ffn, scene, layout, n_group, touched, share)
        shared_experts(parts, scene, layout, n_tok, held, share)
        operators.expert_traffic(parts.ffn, scene, layout, n_tok, n_group, share * ~apart, holders=holders)
    if np.any(apart):
        between_groups(parts, scene, layout, n_tok, held, n_group, share * apart, holders)
    local_moe = (layout.n_cp * layout.n_dp == 1) * ffn.n_moe_layers
    n_elsewhere = np.where(apart, ffn.n_dense_layers + local_moe, ffn.n_dense_layers * (_cuts(plan, gathers) > 1))
    operators.tensor_reductions(parts.attention, scene, layout, n_tok, share, n_elsewhere)


def _cuts(plan, gathers):
    """How often a dense FFN is cut otherwise than in d_ff: 1, or more where its results are not summed by one all-reduce."""
    return np.maximum(plan.n_ffn_x, plan.n_gather) if gathers else plan.n_ffn_x


def tokens_held(layout: Layout, n_tok, holders):
    """Tokens that one copy of the dense and shared FFNs works on: those of the rank, or of all ranks over n_ffn / n_etp copies."""
    everybody = n_tok * layout.n_stage / holders
    return np.where(layout.plan.n_ffn > 0, np.maximum(everybody * layout.n_etp / layout.n_ffn_stage, 1.0), n_tok)


def ways(layout: Layout):
    """Devices over which a dense or shared FFN is cut."""
    return np.where(layout.plan.n_ffn > 0, layout.n_etp, layout.n_tp)


def dense_ffn(part, scene: Scene, layout: Layout, n_tok, share, gathers: bool) -> None:
    """Dense FFN of `n_tok` tokens with its own messages (none in 1-D: `tensor_reductions` counts that all-reduce).

    FLOP = 2 tok W / n however it is cut; bytes = W / n + activations, 2-D  tok (2 d / x + x W / (n d)),  gathered: weights of g devices are
    written once and read once, for 1 / g of the tokens.  Narrow k: the rows of the last matrix, F x / n, and in 2-D those of the
    first, d / x.
    """
    ffn, d_model, plan = scene.census.ffn, scene.census.d_model, layout.plan
    n, k_half = ways(layout), scene.chip.gemm_k_half
    g = plan.n_gather if gathers else np.float64(1.0)
    x = np.where(g > 1, 1.0, plan.n_ffn_x)  # gathered weights are whole in d_model
    weights, tok = ffn.dense_params * g / n, n_tok / g
    inputs = input_matrices(scene)
    narrow = k_half / np.maximum(ffn.d_ff * x * g / n, 1.0) / 3.0 + inputs / (1.0 + inputs) * k_half * (x - 1.0) / d_model
    flop = 2.0 * tok * weights * (1.0 + narrow)
    n_bytes = weights * (1.0 + (g > 1)) * scene.weight_bytes + tok * ACT_BYTES * (2.0 * d_model / x + x * weights / d_model)
    repeat = ffn.n_dense_layers * share
    part.kernel("dense FFN", scene.rates.gemm, 2.0, flop, n_bytes, repeat=repeat)
    if np.any(x > 1):
        _exchange_2d(part, scene, n, x, n_tok, inputs, repeat * (x > 1))
    if np.any(g > 1):
        sent = weights * scene.weight_bytes
        part.network("FFN weights gather", *collectives.shard_exchange(sent, g, scene.chip, n / g), repeat=repeat * (g > 1))
        latency, transfer = collectives.shard_exchange(tok * d_model * ACT_BYTES, n / g, scene.chip)
        part.network("gathered FFN exchange", 2.0 * latency, 2.0 * transfer, repeat=repeat * (g > 1))


def input_matrices(scene: Scene):
    """Matrices in front of the activation of a dense FFN: 1, or 2 when gated."""
    return np.round(scene.census.ffn.dense_matmul_params / np.maximum(scene.census.d_model * scene.census.ffn.d_ff, 1.0)) - 1.0


def _exchange_2d(part, scene: Scene, n, x, n_tok, inputs, repeat) -> None:
    """Messages of a dense FFN cut in x by n / x: the stream is gathered and scattered over the devices that share its slice of d_model, the
    inner layer over those that share its slice of d_ff (partial sums of all input matrices, then the activation)."""
    stream = collectives.shard_exchange(n_tok * scene.census.d_model / x * ACT_BYTES, n / x, scene.chip, x)
    inner = n_tok * scene.census.ffn.d_ff * x / n * ACT_BYTES
    sums, activation = collectives.shard_exchange(inner * inputs, x, scene.chip), collectives.shard_exchange(inner, x, scene.chip)
    part.network("2-D FFN exchange", *(2.0 * a + b + c for a, b, c in zip(stream, sums, activation, strict=True)), repeat=repeat)


def shared_experts(parts: Parts, scene: Scene, layout: Layout, n_tok, held, share) -> None:
    """Shared experts, router and latent projections: one kernel after the other on common devices; apart, the router and the latent stay
    with the attention, because they decide where a token is sent and in which width."""
    ffn, d_model = scene.census.ffn, scene.census.d_model
    apart, has_shared = layout.plan.n_ffn > 0, ffn.shared_params > 0
    rest = ffn.router_params + ffn.latent_params

    def kernel(part, name, weights, launches, tok, repeat):
        n_bytes = weights * scene.weight_bytes + tok * ACT_BYTES * (2.0 * d_model + weights / d_model)
        part.kernel(name, scene.rates.gemm, launches, 2.0 * tok * weights, n_bytes, repeat=repeat * ffn.n_moe_layers * share)

    weights = ffn.shared_params / ways(layout) + np.where(apart, 0.0, rest)
    kernel(parts.ffn, "shared experts, router", weights, np.where(apart, 0.0, 1.0) + has_shared, held, np.where(apart, has_shared, 1.0))
    if np.any(apart):
        kernel(parts.attention, "router", rest, 1.0, n_tok, apart * 1.0)


def between_groups(parts: Parts, scene: Scene, layout: Layout, n_tok, held, n_group, share, holders) -> None:
    """Tokens from attention devices to FFN devices and back, per layer: each of the `holders` of a token sends its share of the tokens once
    to every device of its experts and once to a copy of the shared ones; what is cut in n_etp is gathered and summed among those.

    The link counts at the device that carries most: the sender's bytes, or the receivers' when there are fewer of these.
    """
    ffn, chip, d_model = scene.census.ffn, scene.chip, scene.census.d_model
    fan_in = np.maximum(layout.n_stage / layout.n_ffn_stage, 1.0)
    routed = np.minimum(ffn.n_active_experts, layout.n_ep) * ffn.d_expert_in
    shared = d_model * (ffn.shared_params > 0)
    for part, name, width in ((parts.out, "tokens to the FFN devices", scene.send_bytes), (parts.back, "tokens back", ACT_BYTES)):
        for kind, elements, n_layers in (("", routed + shared, ffn.n_moe_layers), (" (dense)", d_model, ffn.n_dense_layers)):
            cost = collectives.group_exchange(n_tok / holders * elements * width * fan_in, layout.n_whole_stage, chip)
            part.network(name + kind, *cost, repeat=n_layers * share)
    if np.any(np.asarray(layout.n_etp) > 1):
        received = n_group * np.minimum(ffn.n_active_experts, layout.n_ep) / layout.n_ep * ffn.d_expert_in + held * shared
        for elements, n_layers in ((received, ffn.n_moe_layers), (held * d_model, ffn.n_dense_layers)):
            cost = collectives.all_reduce(elements * ACT_BYTES, layout.n_etp, chip)
            parts.ffn.network("FFN all-reduce", *cost, repeat=n_layers * share)
    if np.any(np.asarray(holders) > 1):
        cost = collectives.shard_exchange(n_tok * d_model * ACT_BYTES, holders, chip)
        parts.attention.network("TP all-gather", *cost, repeat=(ffn.n_moe_layers + ffn.n_dense_layers) * share)


# --- memory ----------------------------------------------------------------------------------------------------------------


def dense_params_apart(scene: Scene, layout: Layout):
    """(attention, dense and shared FFN) parameters of one layer stack on one device of each side, FFNs apart."""
    ffn = scene.census.ffn
    attention = sum(m.n_layers * operators.attention_weights(m, layout) for _, m, _ in scene.mixers())
    attention = attention + ffn.n_moe_layers * (ffn.router_params + ffn.latent_params)
    return attention, (ffn.n_dense_layers * ffn.dense_params + ffn.n_moe_layers * ffn.shared_params) / layout.n_etp


def ffn_activations(scene: Scene, layout: Layout, n_tok, holders):
    """Working bytes of an FFN device of its own for a step of `n_tok` tokens a rank, all micro-batches: streams, widest intermediate, and
    the copies of tokens that its experts are sent."""
    ffn = scene.census.ffn
    widest = np.maximum(ffn.d_ff, ffn.n_active_experts * ffn.d_expert) / layout.n_etp
    copies = 2.0 * np.minimum(ffn.n_active_experts, layout.n_ep) * ffn.d_expert_in
    return tokens_held(layout, n_tok, holders) * ACT_BYTES * (4.0 * scene.census.d_model + copies + 3.0 * widest)


def gathered_bytes(scene: Scene, layout: Layout):
    """Buffer for one layer's weights while they are gathered from other devices."""
    ffn, g = scene.census.ffn, layout.plan.n_gather
    return np.where(g > 1, (ffn.n_dense_layers > 0) * ffn.dense_params * g / layout.n_tp * scene.weight_bytes, 0.0)
