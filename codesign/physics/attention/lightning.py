"""Lightning attention: linear attention with a fixed decay per head and an output gate (arXiv 2401.04658, 2501.08313)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, build, layer_norm_params, state_bytes

STATE = True


def mixer(arch: dict, window: bool) -> Mixer:
    """Linear attention with H heads, key width d_k and value width d_v.

    S_t = a S_(t-1) + k_t v_t^T,  o_t = q_t S_t, then a norm over all heads, a sigmoid gate and the output projection;
    weights  q, k: d H d_k each, v, gate and out: d H d_v each;   state  H d_k d_v in fp32;
    work     5 H d_k d_v FLOP per token: decay 1, outer product 2, q S 2.
    Source: MiniMax-01, arXiv 2501.08313, section 2.2; layer layout of transformers `minimax`.

    >>> from codesign.physics.architecture import fill  # one MiniMax-Text-01 linear layer
    >>> arch = fill(dict(n_layers=80, n_linear_layers=70, d_model=6144, n_heads=64, d_head=128, linear_attention="lightning"))
    >>> m = mixer(arch, window=False)
    >>> float(m.matmul_params) == 5 * 6144 * 64 * 128, float(m.state_bytes) == 64 * 128 * 128 * 4
    (True, True)
    """
    d, heads, d_k, d_v = arch["d_model"], arch["linear_v_heads"], arch["linear_d_k"], arch["linear_d_v"]
    matmul = d * heads * (2 * d_k + 3 * d_v)
    state = heads * d_k * d_v
    return build(
        n_layers=arch["n_linear_layers"],
        params_tp=matmul + heads * d_v,
        params_rep=layer_norm_params(arch),
        matmul_params=matmul,
        n_heads=heads,
        kv_shards=heads,
        d_qk=d_k,
        d_v=d_v,
        state_bytes=state_bytes(state, 0, 1),
        state_flop_per_tok=5 * state,
        n_gemm=3,
    )
