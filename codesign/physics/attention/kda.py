"""Kimi delta attention: gated DeltaNet whose decay has one rate per key channel (arXiv 2510.26692)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, build, layer_norm_params, state_bytes

STATE = True


def mixer(arch: dict, window: bool) -> Mixer:
    """Recurrent mixer with H heads, keys of width d_k, values of width d_v and one d_k x d_v state per head.

    S_t = (I - b_t k_t k_t^T) Diag(a_t) S_(t-1) + b_t k_t v_t^T,  o_t = S_t^T q_t;
    weights  q, k: d H d_k each, v and out: d H d_v each, b: d H, decay: d d_v + d_v H d_k, gate: d d_v + d_v H d_v,
             short convolutions over q, k and v without bias;
    state    H d_k d_v in fp32, and the last `linear_conv` - 1 inputs of the convolutions;
    work     7 H d_k d_v FLOP per token: decay 1, S k 2, outer product 2, S q 2; convolution 2 x taps x channels.
    Source: Kimi Linear, arXiv 2510.26692, section 3 and 4 (neural parameterisation).

    >>> from codesign.physics.architecture import fill  # one Kimi-Linear-48B layer
    >>> arch = fill(dict(n_layers=27, n_linear_layers=20, d_model=2304, n_heads=32, d_head=128, linear_attention="kda"))
    >>> float(mixer(arch, window=False).matmul_params) == 2304 * (4 * 4096 + 32 + 2 * 128) + 2 * 128 * 4096
    True
    """
    d, heads, d_k, d_v = arch["d_model"], arch["linear_v_heads"], arch["linear_d_k"], arch["linear_d_v"]
    taps = arch["linear_conv"]
    keys, values = heads * d_k, heads * d_v
    channels = 2 * keys + values
    sharded = d * (2 * keys + 2 * values + heads) + d_v * (keys + values)
    state = heads * d_k * d_v
    return build(
        n_layers=arch["n_linear_layers"],
        params_tp=sharded + taps * channels + keys + heads,  # with dt_bias per channel and A_log per head
        params_rep=layer_norm_params(arch) + 2 * d * d_v + d_v,
        matmul_params=sharded + 2 * d * d_v,
        n_heads=heads,
        kv_shards=heads,
        d_qk=d_k,
        d_v=d_v,
        state_bytes=state_bytes(state, channels, taps),
        state_flop_per_tok=7 * state + 2 * taps * channels,
        n_gemm=4,
    )
