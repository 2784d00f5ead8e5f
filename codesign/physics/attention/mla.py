"""Multi-head latent attention: keys and values are up-projections of one cached latent (arXiv 2405.04434)."""

from __future__ import annotations

import numpy as np

from codesign.physics.attention import Mixer, build, indexer, layer_norm_params

STATE = False


def mixer(arch: dict, window: bool) -> Mixer:
    """Latent attention, h heads, latent width c = kv_lora_rank, rotary part r, head parts n (no position) and v (value).

    weights  down: d q + d (c + r), replicated under TP; up: q h (n + r) (d h (n + r) without q_lora_rank) and c h (n + v); out: h v d;
    cache    c + r elements per token, one copy for all heads, hence kv_shards = 1; in fp8 the r part stays 16 bit and
             each token carries four fp32 scales (FlashMLA: 512 + 16 + 128 = 656 B);
    prefill  2 h (n + r + v) FLOP per pair, keys and values expanded;
    decode   2 h (2 c + r), W_UK absorbed into the query and W_UV into the output.
    Source: DeepSeek-V2, arXiv 2405.04434, equations 9-17 and appendix C; FlashMLA README for the fp8 layout.

    >>> from codesign.physics.architecture import fill  # one DeepSeek-V3 layer
    >>> m = mixer(fill(dict(n_layers=61, d_model=7168, n_heads=128, attention="mla", q_lora_rank=1536, kv_lora_rank=512,
    ...     d_head_nope=128, d_head_rope=64, d_head_v=128, d_ff=18432, vocab=129280)), window=False)
    >>> float(m.matmul_params) == 7168 * (1536 + 576) + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
    True
    >>> float(m.flop_per_pair_prefill) == 2 * 128 * 320, float(m.flop_per_pair_decode) == 2 * 128 * 1088
    (True, True)
    """
    d, h, rank = arch["d_model"], arch["n_heads"], arch["q_lora_rank"]
    latent, rope, nope, d_v = arch["kv_lora_rank"], arch["d_head_rope"], arch["d_head_nope"], arch["d_head_v"]
    low_rank = np.asarray(rank) > 0
    query_in = np.where(low_rank, rank, d)
    down = d * (rank + latent + rope)
    up = query_in * h * (nope + rope) + latent * h * (nope + d_v)
    out = h * d_v * d
    biases = arch["attention_bias"] * (rank + latent + rope)
    # an output gate is a separate full-width projection, as in Kimi K3
    gate = arch["output_gate"] * d * h * d_v
    index = indexer(arch | {"index_heads": 0.0}, query_in) if window else indexer(arch, query_in)
    sparse_span = np.where(arch["index_topk_tok"] > 0, arch["index_topk_tok"], np.inf)
    return build(
        n_layers=arch["n_window_layers"] if window else arch["n_full_layers"],
        params_tp=up + out + gate + arch["output_bias"] * d + arch["attention_sinks"] * h,
        params_rep=layer_norm_params(arch) + down + rank + latent + biases + index["params"],
        matmul_params=down + up + out + gate + index["matmul"],
        n_heads=h,
        kv_shards=1.0,
        d_qk=nope + rope,
        d_v=d_v,
        kv_elems_per_tok=latent + rope,
        kv_elems_quantised=latent,
        kv_elems_16bit=rope,
        kv_scale_bytes_fp8=16.0,
        span_tok=arch["window_tok"] if window else sparse_span,
        flop_per_pair_prefill=2 * h * (nope + rope + d_v),
        flop_per_pair_decode=2 * h * (2 * latent + rope),
        index_flop_per_pair=index["flop_per_pair"],
        index_elems_per_tok=index["elems_per_tok"],
        n_gemm=3 + low_rank + index["n_gemm"],
    )
