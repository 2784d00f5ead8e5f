"""Gated DeltaNet: linear attention that decays and corrects a matrix state by the delta rule (arXiv 2412.06464)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, build, layer_norm_params, state_bytes

STATE = True


def mixer(arch: dict, window: bool) -> Mixer:
    """Recurrent mixer with q, k heads of width d_k, v heads of width d_v and one d_k x d_v state per v head.

    S_t = a_t S_(t-1) (I - b_t k_t k_t^T) + b_t v_t k_t^T,  o_t = S_t q_t, then a gated norm and the output projection;
    weights  in: d (2 H_k d_k + 2 H_v d_v) (q, k, v, gate) + 2 d H_v (a, b), out: H_v d_v d, short convolutions over q, k, v;
    state    H_v d_k d_v in fp32, and the last `linear_conv` - 1 inputs of the convolution;
    work     7 H_v d_k d_v FLOP per token: decay 1, S k 2, outer product 2, S q 2; convolution 2 x taps x channels.
    Chunked prefill does the same work within a factor of about 2. `window` has no meaning here.
    Source: arXiv 2412.06464 equation 10; layer layout of transformers `qwen3_next`.

    >>> from codesign.physics.architecture import fill  # one Qwen3-Next linear layer
    >>> m = mixer(fill(dict(n_layers=48, n_linear_layers=36, d_model=2048, n_heads=16, n_kv_heads=2, d_head=256,
    ...     linear_attention="gated_deltanet", linear_k_heads=16, linear_v_heads=32, linear_d_k=128, linear_d_v=128)), window=False)
    >>> float(m.matmul_params) == 2048 * (2 * 2048 + 2 * 4096 + 2 * 32) + 4096 * 2048
    True
    >>> float(m.state_bytes) == 32 * 128 * 128 * 4 + 8192 * 3 * 2
    True
    """
    d, heads, d_k, d_v = arch["d_model"], arch["linear_v_heads"], arch["linear_d_k"], arch["linear_d_v"]
    taps = arch["linear_conv"]
    keys, values = arch["linear_k_heads"] * d_k, heads * d_v
    channels = 2 * keys + values
    matmul = d * (2 * keys + 2 * values + 2 * heads) + values * d
    state = heads * d_k * d_v
    return build(
        n_layers=arch["n_linear_layers"],
        params_tp=matmul + taps * channels + 2 * heads,  # with the decay's A_log and dt_bias
        params_rep=layer_norm_params(arch) + d_v,
        matmul_params=matmul,
        n_heads=heads,
        kv_shards=heads,
        d_qk=d_k,
        d_v=d_v,
        state_bytes=state_bytes(state, channels, taps),
        state_flop_per_tok=7 * state + 2 * taps * channels,
        n_gemm=3,
    )
