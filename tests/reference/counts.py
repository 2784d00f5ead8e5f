"""Counts of one model in plain Python: parameters, FLOP, cached elements.  No numpy, no import from codesign.

Written from the equations of the mixers (papers named there) as an independent check of codesign.physics.architecture.
"""

from __future__ import annotations

import math
from types import SimpleNamespace as Record

MIXER_FIELDS = (
    "n_layers w_tp w_kv w_rep w_matmul heads shards d_qk d_v elems quantised exact scale_bytes span "
    "pair_prefill pair_decode index_pair index_elems state_bytes state_flop n_gemm"
).split()


def model_of(architecture: dict) -> Record:
    """Every count that a phase needs, from the `architecture:` mapping of a catalog entry."""
    a = _with_defaults(architecture)
    m = Record(n_layers=a.n_layers, d=a.d_model, vocab=a.vocab, tied=bool(a.tied_embeddings))
    m.norm = a.d_model * (1 + a.norm_bias)  # weights of one norm of the residual stream
    softmax = {"mla": _latent, "cca": _convolved}.get(a.attention, _grouped)
    m.mixers = {
        "full": softmax(a, m, a.n_full_layers, window=False),
        "window": softmax(a, m, a.n_window_layers, window=True),
        "linear": _linear(a, m),
    }
    m.mixers = {name: mixer for name, mixer in m.mixers.items() if mixer.n_layers > 0}
    m.is_mla = a.attention == "mla" and a.n_full_layers > 0
    _feed_forward(a, m)
    m.table = a.vocab * a.d_model
    m.matmul = sum(x.n_layers * x.w_matmul for x in m.mixers.values()) + m.n_dense * m.dense_matmul
    m.matmul += m.n_moe * (a.n_active_experts * m.expert_matmul + m.shared + m.router_matmul + m.latent)
    return m


def total_params(m: Record, learned_positions: float = 0.0) -> float:
    """All parameters: tables, blocks, final norm."""
    blocks = sum(x.n_layers * (x.w_tp + x.w_kv + x.w_rep) for x in m.mixers.values())
    blocks += m.n_dense * m.dense + m.n_moe * (m.n_experts * m.expert + m.shared + m.router + m.latent)
    blocks += (m.n_dense + m.n_moe) * m.ffn_norm
    return blocks + m.norm + m.table * (1 if m.tied else 2) + learned_positions * m.d


def cached_bytes(mixer: Record, kv_bits: float) -> float:
    """Cached bytes of one token in one layer: 4-bit formats carry their scales, MLA keeps its rotary part in 16 bit."""
    width = {4: 4.5, 8: 8.0, 16: 16.0}[int(kv_bits)]
    return mixer.quantised * width / 8 + mixer.exact * 2 + (mixer.scale_bytes if kv_bits <= 8 else 0.0)


def _with_defaults(given: dict) -> Record:
    zero = (
        "tied_embeddings learned_positions norm_bias n_attention_layers n_kv_heads d_head d_head_v attention_bias output_bias "
        "output_gate qk_norm qk_norm_full attention_sinks q_lora_rank kv_lora_rank d_head_nope d_head_rope window_tok global_every "
        "n_full_layers n_window_kv_heads index_heads index_dim index_topk_tok n_linear_layers linear_k_heads linear_v_heads "
        "linear_d_k linear_d_v d_ff ffn_bias n_ffn_layers n_dense_layers n_experts n_active_experts d_expert n_shared_experts "
        "d_shared shared_gate d_expert_latent expert_bias router_bias d_router n_mtp_layers"
    ).split()
    a = Record(**dict.fromkeys(zero, 0.0), attention="gqa", linear_attention="none")
    a.norms_per_layer, a.linear_groups, a.linear_d_state, a.linear_conv, a.ffn_gated, a.moe_every = 2.0, 1.0, 128.0, 4.0, 1.0, 1.0
    for key, value in given.items():
        setattr(a, key, value if isinstance(value, str) else float(value))
    if a.attention == "mla":
        for key, width in (("kv_lora_rank", 512), ("d_head_nope", 128), ("d_head_rope", 64), ("d_head_v", 128)):
            setattr(a, key, getattr(a, key) or float(width))
    a.d_head = a.d_head or a.d_head_v or a.d_model / a.n_heads
    a.d_head_v = a.d_head_v or a.d_head
    a.n_kv_heads = {"mha": a.n_heads, "mqa": 1.0}.get(a.attention, a.n_kv_heads or a.n_heads)
    a.n_window_kv_heads = a.n_window_kv_heads or a.n_kv_heads
    a.n_attention_layers = a.n_attention_layers or a.n_layers - a.n_linear_layers
    a.n_ffn_layers = a.n_ffn_layers or a.n_layers
    if not a.window_tok:
        a.n_full_layers = a.n_attention_layers
    elif not a.n_full_layers:
        a.n_full_layers = float(a.n_attention_layers // a.global_every) if a.global_every else 0.0
    a.n_window_layers = a.n_attention_layers - a.n_full_layers
    a.d_shared = a.d_shared or a.d_expert
    a.linear_v_heads = a.linear_v_heads or a.n_heads
    a.linear_k_heads = a.linear_k_heads or a.linear_v_heads
    a.linear_d_v = a.linear_d_v or a.d_head
    a.linear_d_k = a.linear_d_k or a.linear_d_v
    return a


def _mixer(**values) -> Record:
    return Record(**(dict.fromkeys(MIXER_FIELDS, 0.0) | values))


def _block_norm(a: Record, m: Record) -> float:
    return a.norms_per_layer / 2 * m.norm


def _indexer(a: Record, query_in: float, on: bool):
    """(matmul weights, other weights) of the lightning indexer, arXiv 2512.02556 section 2.1."""
    if not (on and a.index_heads):
        return 0.0, 0.0
    return query_in * a.index_heads * a.index_dim + a.d_model * a.index_dim + a.d_model * a.index_heads, 2 * a.index_dim


def _index_fields(a: Record, on: bool) -> dict:
    on = on and a.index_heads > 0
    return {"index_pair": 2 * a.index_heads * a.index_dim, "index_elems": a.index_dim} if on else {}


def _span(a: Record, window: bool) -> float:
    return a.window_tok if window else a.index_topk_tok or math.inf


def _grouped(a: Record, m: Record, n_layers: float, window: bool) -> Record:
    """MHA, GQA, MQA: q d h d_qk, k and v d g (d_qk + d_v), out h d_v d; a gate on the output doubles the value width."""
    d, h = a.d_model, a.n_heads
    g = a.n_window_kv_heads if window else a.n_kv_heads
    q, v, kv = h * a.d_head, h * a.d_head_v, g * (a.d_head + a.d_head_v)
    index, index_rest = _indexer(a, d, not window)
    projections = d * q + v * d + (d * v if a.output_gate else 0.0)
    qk_norms = a.qk_norm * (q + g * a.d_head if a.qk_norm_full else 2 * a.d_head)
    return _mixer(
        n_layers=n_layers, w_tp=projections + a.attention_bias * q + a.output_bias * d + a.attention_sinks * h,
        w_kv=d * kv + a.attention_bias * kv, w_rep=_block_norm(a, m) + qk_norms + index + index_rest,
        w_matmul=projections + d * kv + index, heads=h, shards=g, d_qk=a.d_head, d_v=a.d_head_v,
        elems=kv, quantised=kv, span=_span(a, window), pair_prefill=2 * h * (a.d_head + a.d_head_v),
        pair_decode=2 * h * (a.d_head + a.d_head_v), n_gemm=4.0 if index else 2.0, **_index_fields(a, not window),
    )  # fmt: skip


def _convolved(a: Record, m: Record, n_layers: float, window: bool) -> Record:
    """CCA, arXiv 2510.04476 section 3: GQA whose queries and keys pass a depthwise and a per-head convolution of two taps each,
    with biases, and whose keys have a temperature.  Remembered in 16 bit: an input of either convolution, half of the values."""
    x = _grouped(a, m, n_layers, window)
    channels = (x.heads + x.shards) * a.d_head
    per_head = 2 * channels * a.d_head
    x.w_tp += per_head + 2 * channels + 2 * channels + x.shards
    x.w_matmul += per_head
    x.state_bytes, x.state_flop = 2 * (2 * channels + x.shards * a.d_head_v / 2), 2 * 2 * channels
    x.n_gemm += 1
    return x


def _latent(a: Record, m: Record, n_layers: float, window: bool) -> Record:
    """MLA, arXiv 2405.04434: down d q + d (c + r), up q h (n + r) + c h (n + v), out h v d; one latent for all heads."""
    d, h, c, r, n, v, q = a.d_model, a.n_heads, a.kv_lora_rank, a.d_head_rope, a.d_head_nope, a.d_head_v, a.q_lora_rank
    query_in = q or d
    down, up, out = d * (q + c + r), query_in * h * (n + r) + c * h * (n + v), h * v * d
    gate = d * h * v if a.output_gate else 0.0
    index, index_rest = _indexer(a, query_in, not window)
    return _mixer(
        n_layers=n_layers, w_tp=up + out + gate + a.output_bias * d + a.attention_sinks * h,
        w_rep=_block_norm(a, m) + down + q + c + a.attention_bias * (q + c + r) + index + index_rest,
        w_matmul=down + up + out + gate + index, heads=h, shards=1.0, d_qk=n + r, d_v=v, elems=c + r, quantised=c, exact=r,
        scale_bytes=16.0, span=_span(a, window), pair_prefill=2 * h * (n + r + v), pair_decode=2 * h * (2 * c + r),
        n_gemm=3.0 + (q > 0) + (2.0 if index else 0.0), **_index_fields(a, not window),
    )  # fmt: skip


def _linear(a: Record, m: Record) -> Record:
    """Constant-state mixers: gated DeltaNet (2412.06464), KDA (2510.26692), Mamba-2 (2405.21060), lightning (2501.08313)."""
    kind, d, h, dk, dv, taps = a.linear_attention, a.d_model, a.linear_v_heads, a.linear_d_k, a.linear_d_v, a.linear_conv
    if kind == "none":
        return _mixer()
    if kind == "gated_deltanet":
        keys, values, state, work, rep, gemm = a.linear_k_heads * dk, h * dv, h * dk * dv, 7, dv, 3.0
        channels, matmul = 2 * keys + values, d * (2 * keys + 2 * values + 2 * h) + values * d
        sharded, d_qk = matmul + taps * channels + 2 * h, dk
    elif kind == "kda":
        keys, values, state, work, gemm = h * dk, h * dv, h * dk * dv, 7, 4.0
        channels, sharded = 2 * keys + values, d * (2 * keys + 2 * values + h) + dv * (keys + values)
        matmul, rep, d_qk = sharded + 2 * d * dv, 2 * d * dv + dv, dk
        sharded += taps * channels + keys + h
    elif kind == "mamba2":
        inner, shared = h * dv, a.linear_groups * a.linear_d_state
        channels, state, work, rep, gemm, d_qk = inner + 2 * shared, inner * a.linear_d_state, 5, 0.0, 2.0, a.linear_d_state
        matmul = d * (inner + channels + h) + inner * d
        sharded = matmul + (taps + 1) * channels + 3 * h + inner
    else:  # lightning
        state, work, rep, gemm, channels, taps, d_qk = h * dk * dv, 5, 0.0, 3.0, 0.0, 1.0, dk
        matmul = d * h * (2 * dk + 3 * dv)
        sharded = matmul + h * dv
    return _mixer(
        n_layers=a.n_linear_layers, w_tp=sharded, w_rep=_block_norm(a, m) + rep, w_matmul=matmul, heads=h, shards=h, d_qk=d_qk,
        d_v=dv, state_bytes=4 * state + 2 * channels * (taps - 1), state_flop=work * state + 2 * taps * channels, n_gemm=gemm,
    )  # fmt: skip


def _feed_forward(a: Record, m: Record) -> None:
    """Dense and MoE blocks: 3 matrices when gated, 2 when not; router linear or a small MLP; shared experts side by side."""
    d, k = a.d_model, 2.0 + a.ffn_gated
    is_moe = a.n_experts > 0
    m.n_moe = float(max((a.n_ffn_layers - a.n_dense_layers) // a.moe_every, 0)) if is_moe else 0.0
    m.n_dense = a.n_ffn_layers - m.n_moe
    m.dense_matmul = k * d * a.d_ff
    m.dense = m.dense_matmul + a.ffn_bias * ((k - 1) * a.d_ff + d)
    width = a.d_expert_latent or d
    m.expert_matmul = k * width * a.d_expert if is_moe else 0.0
    m.expert = m.expert_matmul + a.expert_bias * ((k - 1) * a.d_expert + width) * is_moe
    m.shared = (a.n_shared_experts * k * d * a.d_shared + a.shared_gate * d) * is_moe
    m.router_matmul = (a.d_router * (d + 2 * a.d_router + a.n_experts) if a.d_router else d * a.n_experts) * is_moe
    m.router = m.router_matmul + (a.router_bias * a.n_experts + 4 * a.d_router) * is_moe
    m.latent = 2 * d * a.d_expert_latent * is_moe
    m.ffn_norm = _block_norm(a, m)
    m.n_experts, m.k, m.d_expert, m.d_expert_in, m.d_ff = a.n_experts, a.n_active_experts * is_moe, a.d_expert, width, a.d_ff
    m.d_shared = a.n_shared_experts * a.d_shared * is_moe
