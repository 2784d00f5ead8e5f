"""Grouped-query attention: groups of query heads share one key and one value head (arXiv 2305.13245)."""

from __future__ import annotations

import numpy as np

from codesign.physics.attention import Mixer, build, indexer, layer_norm_params

STATE = False


def mixer(arch: dict, window: bool) -> Mixer:
    """Softmax attention with h query heads, g key/value heads of widths d_qk = d_head and d_v.

    weights  q: d h d_qk (twice with an output gate, arXiv 2505.06708), k and v: d g (d_qk + d_v), out: h d_v d;
    cache    g (d_qk + d_v) elements per token;   attention  2 h (d_qk + d_v) FLOP per (query, key) pair.
    `window` selects the sliding-window layers: n_window_kv_heads and a span of window_tok.
    Every argument of `arch` and every result: shape of the designs, counts [1]. Exact for any dims.

    >>> from codesign.physics.architecture import fill  # one Llama-3.1-8B layer
    >>> m = mixer(fill(dict(n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, d_ff=14336, vocab=128256)), window=False)
    >>> float(m.params_tp) == 2 * 4096 * 4096, float(m.params_kv) == 2 * 4096 * 1024, float(m.kv_elems_per_tok)
    (True, True, 2048.0)
    """
    d, h, d_qk, d_v = arch["d_model"], arch["n_heads"], arch["d_head"], arch["d_head_v"]
    g = arch["n_window_kv_heads"] if window else arch["n_kv_heads"]
    query, value = h * d_qk, h * d_v
    out_matmul = value * d
    # the gate multiplies the attention output, so its width is that of the value heads
    in_matmul = d * (query + arch["output_gate"] * value)
    kv_matmul = d * g * (d_qk + d_v)
    norm = arch["qk_norm"] * np.where(arch["qk_norm_full"] > 0, query + g * d_qk, 2 * d_qk)
    sinks = arch["attention_sinks"] * h
    index = indexer(arch, d) if not window else indexer(arch | {"index_heads": 0.0}, d)
    qkv_bias = arch["attention_bias"]
    sparse_span = np.where(arch["index_topk_tok"] > 0, arch["index_topk_tok"], np.inf)
    elems = g * (d_qk + d_v)
    flop = 2 * h * (d_qk + d_v)
    return build(
        n_layers=arch["n_window_layers"] if window else arch["n_full_layers"],
        params_tp=in_matmul + out_matmul + qkv_bias * query + arch["output_bias"] * d + sinks,
        params_kv=kv_matmul + qkv_bias * elems,
        params_rep=layer_norm_params(arch) + norm + index["params"],
        matmul_params=in_matmul + out_matmul + kv_matmul + index["matmul"],
        n_heads=h,
        kv_shards=g,
        d_qk=d_qk,
        d_v=d_v,
        kv_elems_per_tok=elems,
        kv_elems_quantised=elems,
        span_tok=arch["window_tok"] if window else sparse_span,
        flop_per_pair_prefill=flop,
        flop_per_pair_decode=flop,
        index_flop_per_pair=index["flop_per_pair"],
        index_elems_per_tok=index["elems_per_tok"],
        n_gemm=2 + index["n_gemm"],
    )
