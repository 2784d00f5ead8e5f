"""Bytes per device by class, on the fullest device; and what does not fit, by name."""

from __future__ import annotations

import numpy as np

from codesign.physics import feed_forward
from codesign.physics.layout import Layout
from codesign.physics.operators import ACT_BYTES, Scene, attention_weights, index_key_bytes


def stage_share(census, layout: Layout):
    """Share of the layers on the fullest pipeline stage: ceil(L / pp) / L."""
    return np.ceil(census.n_layers / layout.n_pp) / census.n_layers


def block_params(scene: Scene, layout: Layout):
    """(dense, expert) parameters of the blocks of one whole pipeline on one device of each stage; FFN norms (2e-4) are left out."""
    ffn = scene.census.ffn
    dense = sum(m.n_layers * attention_weights(m, layout) for _, m, _ in scene.mixers())
    dense = dense + ffn.n_dense_layers * ffn.dense_params / layout.n_tp
    if not scene.has_moe():
        return dense, 0.0
    moe_rest = ffn.shared_params / layout.n_tp + ffn.router_params + ffn.latent_params
    experts = ffn.n_moe_layers * np.ceil(ffn.n_experts / layout.n_ep) * ffn.expert_params / layout.n_etp
    return dense + ffn.n_moe_layers * moe_rest, experts


def table_params(scene: Scene, layout: Layout):
    """Embedding and head parameters on the device that holds most of them: both on one stage, the larger one otherwise."""
    census = scene.census
    both = np.where(_is_tied(census), census.embedding_params, census.embedding_params + census.head_params)
    return np.where(layout.n_pp == 1, both, np.maximum(census.embedding_params, census.head_params)) / layout.n_tp


def _is_tied(census):
    return census.n_active_params - census.n_active_params_excl_both < 1.5 * census.embedding_params


def serving_weights(scene: Scene, layout: Layout):
    """Weight bytes on the fullest device: blocks and LM head at weight_bits, tables too."""
    dense, experts = block_params(scene, layout)
    share = stage_share(scene.census, layout)
    together = (share * (dense + experts)) * scene.weight_bytes + table_params(scene, layout) * scene.weight_bytes
    if layout.plan is None:
        return together
    return np.where(layout.plan.n_ffn > 0, np.maximum(*weights_apart(scene, layout)), together)


def weights_apart(scene: Scene, layout: Layout):
    """Weight bytes on an attention device and on an FFN device of its own."""
    share = stage_share(scene.census, layout)
    attention, ffn = feed_forward.dense_params_apart(scene, layout)
    ffn = ffn + block_params(scene, layout)[1]
    return (share * attention + table_params(scene, layout)) * scene.weight_bytes, share * ffn * scene.weight_bytes


def kv_cache(scene: Scene, layout: Layout, n_seq, context_tok):
    """KV bytes on the fullest device for `n_seq` sequences of one attention rank, each holding `context_tok` tokens.

    Per layer min(S, window) kv / min(tp, kv shards) / cp: GQA divides by KV heads, MLA's latent by nothing under TP.  A
    sparse indexer keeps its fp8 keys for the whole context; linear layers keep a constant state.
    """
    tp, cp = layout.n_tp, layout.n_cp
    total = 0.0
    for name, mixer, cached in scene.mixers():
        stored = np.minimum(context_tok, mixer.span_tok) if name == "window" else context_tok
        ways = np.minimum(tp, np.maximum(mixer.kv_shards, 1)) * cp
        per_seq = stored * (cached / ways + index_key_bytes(mixer) / cp) + mixer.state_bytes / tp
        total = total + np.ceil(mixer.n_layers / layout.n_pp) * per_seq  # a stage holds whole layers of each kind
    return n_seq * total


def serving_activations(scene: Scene, layout: Layout, n_tok):
    """Working bytes of a step of `n_tok` tokens of one rank: residual stream, widest FFN intermediate, fp32 logits of 256 rows."""
    ffn = scene.census.ffn
    widest = np.maximum(ffn.d_ff / layout.n_tp, ffn.n_active_experts * ffn.d_expert / layout.n_etp)
    return _stream_bytes(scene, layout, n_tok, 3.0 * widest)


def _stream_bytes(scene: Scene, layout: Layout, n_tok, more=0.0):
    logits = np.minimum(n_tok, 256.0) * scene.census.vocab / layout.n_tp * 4.0
    return n_tok * ACT_BYTES * (4.0 * scene.census.d_model + more) + logits


def serving_classes(scene: Scene, layout: Layout, n_seq, held_tok, n_tok, holders) -> dict[str, np.ndarray]:
    """Bytes per class on the fullest device: `n_seq` sequences of one rank that hold `held_tok` tokens of cache each, steps of `n_tok` tokens.

    FFNs on devices of their own: of whichever side is fuller.  `holders`: devices that have the same tokens.
    """
    classes = {
        "weights": serving_weights(scene, layout),
        "kv": kv_cache(scene, layout, n_seq, held_tok),
        "activations": serving_activations(scene, layout, n_tok),
        "reserve": scene.chip.reserve_bytes,
    }
    if layout.plan is None:
        return classes
    weights, cache = weights_apart(scene, layout), (classes["kv"], 0.0)
    working = _stream_bytes(scene, layout, n_tok), feed_forward.ffn_activations(scene, layout, n_tok, holders)
    apart, fuller = layout.plan.n_ffn > 0, sum(x[0] for x in (weights, cache, working)) >= weights[1] + working[1]
    classes["activations"] = classes["activations"] + feed_forward.gathered_bytes(scene, layout)
    sides = {"weights": weights, "kv": cache, "activations": working}
    return {k: np.where(apart, np.where(fuller, *sides[k]), v) if k in sides else v for k, v in classes.items()}


def verdict(classes: dict[str, np.ndarray], capacity_bytes):
    """(total bytes, fits mask, name of the class that overflows per row or "").

    Classes are laid down in the order weights, gradients, optimizer, kv, activations, reserve; the one that crosses the capacity is named.
    """
    order = [name for name in ("weights", "gradients", "optimizer", "kv", "activations", "reserve") if name in classes]
    running = np.zeros(np.broadcast_shapes(*(np.shape(v) for v in classes.values()), np.shape(capacity_bytes)))
    overflow = np.full(running.shape, "", dtype="U12")
    for name in order:
        running = running + classes[name]
        overflow = np.where((overflow == "") & (running > capacity_bytes), name, overflow)
    return running, running <= capacity_bytes, overflow
