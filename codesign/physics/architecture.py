"""Exact parameter, FLOP and cache counts of decoder language models, dense or mixture of experts, any mixer of attention/.

`fill` completes an architecture, `problems` finds the ones that cannot be built, `census` counts.
Norms and biases are counted, so the totals equal those of the released checkpoints; buffers that no optimizer
updates (rotary tables, DeepSeek's score-correction bias) are not parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.physics.attention import Mixer, layer_norm_params, mixers

# Every architecture key and its default. Zero in a key of DERIVED means "not given".
DEFAULTS: dict[str, float | str] = {
    "n_layers": 0, "d_model": 0, "vocab": 0, "tied_embeddings": 0, "learned_positions": 0,
    "norms_per_layer": 2, "norm_bias": 0,
    "attention": "gqa", "n_attention_layers": 0, "n_heads": 0, "n_kv_heads": 0, "d_head": 0, "d_head_v": 0,
    "attention_bias": 0, "output_bias": 0, "output_gate": 0, "qk_norm": 0, "qk_norm_full": 0, "attention_sinks": 0,
    "q_lora_rank": 0, "kv_lora_rank": 0, "d_head_nope": 0, "d_head_rope": 0,
    "window_tok": 0, "global_every": 0, "n_full_layers": 0, "n_window_kv_heads": 0,
    "index_heads": 0, "index_dim": 0, "index_topk_tok": 0,
    "linear_attention": "none", "n_linear_layers": 0, "linear_k_heads": 0, "linear_v_heads": 0, "linear_d_k": 0,
    "linear_d_v": 0, "linear_groups": 1, "linear_d_state": 128, "linear_conv": 4,
    "d_ff": 0, "ffn_gated": 1, "ffn_bias": 0, "n_ffn_layers": 0, "n_dense_layers": 0, "moe_every": 1,
    "n_experts": 0, "n_active_experts": 0, "d_expert": 0, "n_shared_experts": 0, "d_shared": 0, "shared_gate": 0,
    "d_expert_latent": 0, "expert_bias": 0, "router_bias": 0, "d_router": 0, "n_mtp_layers": 0,
}  # fmt: skip
TEXT = ("attention", "linear_attention")
# Latent widths a design gets when it chooses MLA and names none: those of DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437).
MLA_DEFAULTS = {"kv_lora_rank": 512.0, "d_head_nope": 128.0, "d_head_rope": 64.0, "d_head_v": 128.0}


def fill(architecture: dict) -> dict[str, np.ndarray]:
    """Every architecture key as an array (float64; the two attention kinds unicode), absent ones defaulted or derived.

    Derived where 0 or absent: d_head = d_head_v or d_model / n_heads; d_head_v = d_head; n_kv_heads = n_heads (MHA), 1 (MQA);
    n_window_kv_heads = n_kv_heads; MLA widths from MLA_DEFAULTS, and for MLA n_kv_heads = n_heads, d_head = d_head_nope + d_head_rope;
    n_attention_layers = n_layers - n_linear_layers; n_full_layers = n_attention_layers / global_every, all without a window;
    n_window_layers = the other attention layers; n_ffn_layers = n_layers; d_shared = d_expert; linear widths from the attention.
    Arrays keep their own shapes and broadcast. An unknown key is a KeyError. Filling twice changes nothing; change a key before filling.

    >>> arch = fill(dict(n_layers=26, d_model=1152, n_heads=4, attention="mqa", d_head=256, window_tok=512, global_every=6))
    >>> float(arch["n_kv_heads"]), float(arch["n_full_layers"]), float(arch["n_window_layers"])
    (1.0, 4.0, 22.0)
    """
    unknown = set(architecture) - set(DEFAULTS) - {"n_window_layers"}
    if unknown:
        raise KeyError(f"unknown architecture keys: {', '.join(sorted(unknown))}")
    arch = {}
    for key, default in DEFAULTS.items():
        value = architecture.get(key)
        value = default if value is None else value
        arch[key] = np.asarray(value) if key in TEXT else np.asarray(value, dtype=float)
    _fill_heads(arch)
    _fill_layers(arch)
    _derive(arch, "d_shared", arch["d_expert"])
    _derive(arch, "linear_v_heads", arch["n_heads"])
    _derive(arch, "linear_k_heads", arch["linear_v_heads"])
    _derive(arch, "linear_d_v", arch["d_head"])
    _derive(arch, "linear_d_k", arch["linear_d_v"])
    return arch


def _derive(arch: dict, key: str, value) -> None:
    """Puts `value` where `key` is 0, the mark of a key that was not given."""
    if not arch[key].all():
        arch[key] = np.where(arch[key] == 0, value, arch[key])


def _fill_heads(arch: dict) -> None:
    kind, heads = arch["attention"], arch["n_heads"]
    mla = kind == "mla"
    if mla.any():
        for key, width in MLA_DEFAULTS.items():
            _derive(arch, key, np.where(mla, width, 0.0))
    # a latent model that a study turns into GQA keeps its value width instead of d_model / n_heads
    share = np.divide(arch["d_model"], heads, out=np.zeros(np.broadcast_shapes(arch["d_model"].shape, heads.shape)),
                      where=heads > 0)  # fmt: skip
    _derive(arch, "d_head", np.where(arch["d_head_v"] > 0, arch["d_head_v"], share))
    _derive(arch, "d_head_v", arch["d_head"])
    _derive(arch, "n_kv_heads", heads)
    if not (kind == "gqa").all():
        latent = arch["d_head_nope"] + arch["d_head_rope"]
        arch["d_head"] = np.where(mla, latent, arch["d_head"])
        grouped = (kind != "mqa") & (kind != "mha") & ~mla
        arch["n_kv_heads"] = np.where(kind == "mqa", 1.0, np.where(grouped, arch["n_kv_heads"], heads))
        arch["n_window_kv_heads"] = np.where(grouped, arch["n_window_kv_heads"], arch["n_kv_heads"])
    _derive(arch, "n_window_kv_heads", arch["n_kv_heads"])


def _fill_layers(arch: dict) -> None:
    _derive(arch, "n_attention_layers", arch["n_layers"] - arch["n_linear_layers"])
    _derive(arch, "n_ffn_layers", arch["n_layers"])
    attention, every = arch["n_attention_layers"], arch["global_every"]
    _derive(arch, "n_full_layers", np.where(every > 0, np.floor(attention / np.maximum(every, 1)), 0.0))
    arch["n_full_layers"] = np.where(arch["window_tok"] > 0, arch["n_full_layers"], attention)
    arch["n_window_layers"] = attention - arch["n_full_layers"]


def problems(arch: dict) -> dict[str, np.ndarray]:
    """Structural violations of a filled architecture: rule -> mask of the rows that break it (True = cannot be built).

    >>> arch = fill(dict(n_layers=32, d_model=4096, vocab=32000, d_ff=11008, n_heads=32, n_kv_heads=np.array([8, 7])))
    >>> [(name, mask.tolist()) for name, mask in problems(arch).items() if mask.any()]
    [('n_heads is not a multiple of n_kv_heads', [False, True])]
    """
    a, moe = arch, arch["n_experts"] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "n_layers, d_model, n_heads and vocab must be at least 1": ~(
                (a["n_layers"] >= 1) & (a["d_model"] >= 1) & (a["n_heads"] >= 1) & (a["vocab"] >= 1)
            ),
            "d_head is not a whole number": a["d_head"] % 1 != 0,
            "n_heads is not a multiple of n_kv_heads": a["n_heads"] % a["n_kv_heads"] != 0,
            "n_heads is not a multiple of n_window_kv_heads": (a["n_window_layers"] > 0) & (a["n_heads"] % a["n_window_kv_heads"] != 0),
            "n_linear_layers + n_attention_layers exceed n_layers": (a["n_attention_layers"] < 0)
            | (a["n_linear_layers"] + a["n_attention_layers"] > a["n_layers"]),
            "n_full_layers exceed the attention layers": a["n_window_layers"] < 0,
            "n_linear_layers need a linear_attention": (a["n_linear_layers"] > 0) & (a["linear_attention"] == "none"),
            "linear_v_heads is not a multiple of linear_k_heads": (a["n_linear_layers"] > 0)
            & (a["linear_v_heads"] % a["linear_k_heads"] != 0),
            "n_active_experts must lie between 1 and n_experts": moe
            & ((a["n_active_experts"] > a["n_experts"]) | (a["n_active_experts"] < 1)),
            "experts need a d_expert": moe & (a["d_expert"] <= 0),
            "n_dense_layers exceed n_ffn_layers": a["n_dense_layers"] > a["n_ffn_layers"],
            "dense layers need a d_ff": (_n_moe_layers(a) < a["n_ffn_layers"]) & (a["d_ff"] <= 0),
            "index_topk_tok needs index_heads and index_dim": (a["index_topk_tok"] > 0) & ((a["index_heads"] <= 0) | (a["index_dim"] <= 0)),
        }


@dataclass(frozen=True)
class Ffn(Arrays):
    """Feed-forward blocks: parameters [count] per layer of their kind, float64, broadcasting against the designs."""

    n_dense_layers: np.ndarray
    dense_params: np.ndarray  # one dense layer's FFN
    n_moe_layers: np.ndarray
    expert_params: np.ndarray  # one routed expert
    shared_params: np.ndarray  # all shared experts of one layer
    router_params: np.ndarray
    latent_params: np.ndarray  # down- and up-projection around the experts of a latent MoE layer
    norm_params: np.ndarray  # in front of (and behind) one FFN
    dense_matmul_params: np.ndarray  # the same counts without biases: what multiplies a token
    expert_matmul_params: np.ndarray
    shared_matmul_params: np.ndarray
    router_matmul_params: np.ndarray
    n_experts: np.ndarray
    n_active_experts: np.ndarray
    d_expert: np.ndarray
    d_expert_in: np.ndarray  # width of the tokens sent to experts: d_model, or d_expert_latent
    d_ff: np.ndarray
    d_shared: np.ndarray  # all shared experts of one layer side by side


@dataclass(frozen=True)
class Census(Arrays):
    """What a model consists of; every array is float64, broadcasts against the designs, and is 0-d where nothing varies."""

    n_params: np.ndarray
    n_active_params: np.ndarray  # touched by one token, both embedding tables included (a tied table once)
    n_active_params_excl_in: np.ndarray  # without the input table (and without positions); a tied table is the input table
    n_active_params_excl_both: np.ndarray  # without either table
    embedding_params: np.ndarray  # one table, vocab * d_model
    head_params: np.ndarray  # LM head matrix, also when it is the embedding table itself
    n_matmul_params_per_tok: np.ndarray  # multiplied with each token in the blocks: no embedding, head, norm, bias
    norm_params: np.ndarray  # of the residual stream, all layers and the final one
    mtp_params: np.ndarray  # all multi-token-prediction modules; not part of n_params
    mtp_active_params: np.ndarray
    n_layers: np.ndarray
    d_model: np.ndarray
    vocab: np.ndarray
    full: Mixer
    window: Mixer
    linear: Mixer
    ffn: Ffn


def census(arch: dict) -> Census:
    """Counts of a filled architecture.

    n_params = V d (2 - tied) + positions d + final norm + sum over mixers and FFNs of layers x weights per layer;
    n_active = n_params - moe layers x (E - k) x expert. MTP modules are counted apart. Exact for the kinds in attention/.

    >>> llama2_7b = dict(n_layers=32, d_model=4096, n_heads=32, attention="mha", d_ff=11008, vocab=32000)
    >>> int(census(fill(llama2_7b)).n_params)
    6738415616
    >>> 2 * 32000 * 4096 + 4096 + 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096)
    6738415616
    """
    full = mixers(arch["attention"], arch, window=False)
    window = mixers(arch["attention"], arch, window=True)
    linear = mixers(arch["linear_attention"], arch, window=False)
    ffn = _ffn(arch)
    kinds = (full, window, linear)
    d, table = arch["d_model"], arch["vocab"] * arch["d_model"]
    final_norm = layer_norm_params(arch | {"norms_per_layer": 2.0})
    idle_experts = ffn.n_moe_layers * (ffn.n_experts - ffn.n_active_experts) * ffn.expert_params
    moe_layer = ffn.n_experts * ffn.expert_params + ffn.shared_params + ffn.router_params + ffn.latent_params
    blocks = sum(m.n_layers * (m.params_tp + m.params_kv + m.params_rep) for m in kinds)
    blocks = blocks + ffn.n_dense_layers * ffn.dense_params + ffn.n_moe_layers * moe_layer
    blocks = blocks + (ffn.n_dense_layers + ffn.n_moe_layers) * ffn.norm_params + final_norm
    positions = arch["learned_positions"] * d
    tables = table * (2 - arch["tied_embeddings"])
    active = blocks - idle_experts
    matmul = sum(m.n_layers * m.matmul_params for m in kinds)
    matmul = matmul + ffn.n_dense_layers * ffn.dense_matmul_params
    moe_matmul = ffn.n_active_experts * ffn.expert_matmul_params + ffn.shared_matmul_params
    matmul = matmul + ffn.n_moe_layers * (moe_matmul + ffn.router_matmul_params + ffn.latent_params)
    mtp, mtp_active = _mtp(arch, full, ffn)
    counts = (
        blocks + tables + positions, active + tables + positions,
        active + tables - table, active,
        table, table, matmul, _stream_norms(arch, kinds, ffn, final_norm), mtp, mtp_active,
        arch["n_layers"], d, arch["vocab"],
    )  # fmt: skip
    return Census(*(np.asarray(c, dtype=float) for c in counts), full, window, linear, ffn)


def _stream_norms(arch: dict, kinds, ffn: Ffn, final_norm):
    blocks = sum(m.n_layers for m in kinds) + ffn.n_dense_layers + ffn.n_moe_layers
    return blocks * layer_norm_params(arch) + final_norm


def _n_moe_layers(arch: dict) -> np.ndarray:
    layers = np.floor((arch["n_ffn_layers"] - arch["n_dense_layers"]) / np.maximum(arch["moe_every"], 1))
    return np.where(arch["n_experts"] > 0, np.maximum(layers, 0), 0.0)


def _ffn(arch: dict) -> Ffn:
    """FFN parameters: g d d_ff + biases with g = 3 matrices when gated, 2 when not; experts act on d_expert_latent if given."""
    d, experts = arch["d_model"], arch["n_experts"]
    matrices = 2 + arch["ffn_gated"]
    moe = experts > 0
    width = np.where(arch["d_expert_latent"] > 0, arch["d_expert_latent"], d)
    dense = matrices * d * arch["d_ff"]
    expert = np.where(moe, matrices * width * arch["d_expert"], 0.0)
    shared = np.where(moe, arch["n_shared_experts"] * matrices * d * arch["d_shared"] + arch["shared_gate"] * d, 0.0)
    # a linear router, or an MLP of width r (ZAYA): d r + 2 r^2 + r E weights, a norm and three biases
    hidden = arch["d_router"]
    mlp = np.asarray(hidden) > 0
    router = np.where(mlp, hidden * (d + 2 * hidden + experts), d * experts) * moe
    expert_bias = arch["expert_bias"] * ((matrices - 1) * arch["d_expert"] + width)
    n_moe = _n_moe_layers(arch)
    values = (
        arch["n_ffn_layers"] - n_moe,
        dense + arch["ffn_bias"] * ((matrices - 1) * arch["d_ff"] + d),
        n_moe,
        expert + np.where(moe, expert_bias, 0.0),
        shared,
        router + (arch["router_bias"] * experts + 4 * hidden) * moe,
        np.where(moe & (arch["d_expert_latent"] > 0), 2 * d * arch["d_expert_latent"], 0.0),
        layer_norm_params(arch),
        dense, expert, shared, router,
        experts, np.where(moe, arch["n_active_experts"], 0.0), arch["d_expert"], width, arch["d_ff"],
        np.where(moe, arch["n_shared_experts"] * arch["d_shared"], 0.0),
    )  # fmt: skip
    return Ffn(*(np.asarray(v, dtype=float) for v in values))


def _mtp(arch: dict, full: Mixer, ffn: Ffn) -> tuple[np.ndarray, np.ndarray]:
    """MTP modules, all and active: each one decoder layer of the last kind, a 2 d x d projection and three norms.

    Embedding and head are those of the main model. Source: DeepSeek-V3, arXiv 2412.19437, section 2.2.
    """
    d, moe = arch["d_model"], ffn.n_moe_layers > 0
    experts = np.where(moe, ffn.expert_params, 0.0)
    rest = np.where(moe, ffn.shared_params + ffn.router_params + ffn.latent_params, ffn.dense_params)
    layer = full.params_tp + full.params_kv + full.params_rep + ffn.norm_params + rest
    layer = layer + 2 * d * d + 3 * layer_norm_params(arch | {"norms_per_layer": 2.0})
    n = arch["n_mtp_layers"]
    return n * (layer + ffn.n_experts * experts), n * (layer + ffn.n_active_experts * experts)


def kv_bytes_per_tok_layer(mixer: Mixer, kv_bits) -> np.ndarray:
    """Cached bytes of one token in one layer, scales included. [byte], shape of mixer against kv_bits

    bytes = quantised b / 8 + 2 x elements kept in 16 bit + scales; b = kv_bits, 4.5 for 4-bit formats (16-element blocks with
    an 8-bit scale, NVFP4); MLA in 8 bit: 512 + 16 + 128 = 656 B (FlashMLA), 16 bit: 2 (512 + 64) = 1,152 B.

    >>> arch = fill(dict(n_layers=61, d_model=7168, vocab=129280, n_heads=128, attention="mla", d_ff=18432))
    >>> kv_bytes_per_tok_layer(census(arch).full, np.array([16, 8])).tolist()
    [1152.0, 656.0]
    """
    bits = np.where(np.asarray(kv_bits) == 4, 4.5, kv_bits)
    exact = mixer.kv_elems_16bit * np.maximum(np.asarray(kv_bits), 16) / 8
    return mixer.kv_elems_quantised * bits / 8 + exact + mixer.kv_scale_bytes_fp8 * (np.asarray(kv_bits) <= 8)


def kv_bytes_per_tok(counts: Census, kv_bits) -> np.ndarray:
    """Cached bytes per token over all caching layers, windowed ones included, index keys excluded. [byte]

    >>> arch = fill(dict(n_layers=80, d_model=8192, n_heads=64, n_kv_heads=8))
    >>> float(kv_bytes_per_tok(census(arch), 16)) == 80 * 2 * 8 * 128 * 2
    True
    """
    return sum(m.n_layers * kv_bytes_per_tok_layer(m, kv_bits) for m in (counts.full, counts.window))


def index_bytes_per_tok(counts: Census) -> np.ndarray:
    """Cached index keys of sparse attention per token, over all layers: fp8 with one fp32 scale per key. [byte]

    DeepSeek-V3.2 (arXiv 2512.02556, section 2.1) runs its indexer in fp8: 128 + 4 = 132 B per token and layer.
    """
    elems = counts.full.index_elems_per_tok
    return counts.full.n_layers * (elems + 4.0 * (elems > 0))
