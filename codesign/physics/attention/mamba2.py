"""Mamba-2: state-space mixer with a scalar decay per head (arXiv 2405.21060)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, build, layer_norm_params, state_bytes

STATE = True


def mixer(arch: dict, window: bool) -> Mixer:
    """State-space mixer: H heads of width P = linear_d_v, state size N = linear_d_state, B and C shared in G groups.

    S_t = a_t S_(t-1) + dt_t x_t B_t^T,  y_t = S_t C_t + D x_t, then a gated norm and the output projection;
    weights  in: d (2 H P + 2 G N + H) (gate, x, B, C, dt), out: H P d, convolution over x, B, C with bias;
    state    H P N in fp32, and the last `linear_conv` - 1 inputs of the convolution;
    work     5 H P N FLOP per token: decay 1, outer product 2, S C 2; convolution 2 x taps x channels.
    Source: arXiv 2405.21060 section 7 and listing 1; layer layout of transformers `mamba2` / `nemotron_h`.

    >>> from codesign.physics.architecture import fill  # one Nemotron-H-8B Mamba layer
    >>> m = mixer(fill(dict(n_layers=52, n_linear_layers=24, d_model=4096, n_heads=32, linear_attention="mamba2",
    ...     linear_v_heads=128, linear_d_v=64, linear_groups=8, linear_d_state=128)), window=False)
    >>> float(m.matmul_params) == 4096 * (2 * 8192 + 2 * 8 * 128 + 128) + 8192 * 4096
    True
    """
    d, heads, width, taps = arch["d_model"], arch["linear_v_heads"], arch["linear_d_v"], arch["linear_conv"]
    inner, shared = heads * width, arch["linear_groups"] * arch["linear_d_state"]
    channels = inner + 2 * shared
    matmul = d * (inner + channels + heads) + inner * d
    state = inner * arch["linear_d_state"]
    return build(
        n_layers=arch["n_linear_layers"],
        # convolution with bias; A_log, D and dt_bias per head; the gated norm lies on the sharded width
        params_tp=matmul + (taps + 1) * channels + 3 * heads + inner,
        params_rep=layer_norm_params(arch),
        matmul_params=matmul,
        n_heads=heads,
        kv_shards=heads,
        d_qk=arch["linear_d_state"],
        d_v=width,
        state_bytes=state_bytes(state, channels, taps),
        state_flop_per_tok=5 * state + 2 * taps * channels,
        n_gemm=2,
    )
