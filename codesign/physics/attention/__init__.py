"""Token mixers of one decoder layer: one file per kind, found by its file name.

A kind is a module with one docstring line of meaning, `STATE` (False: caches keys and values per token; True: carries
a constant state) and `mixer(arch, window) -> Mixer`, where `arch` is a filled architecture (physics.architecture.fill).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from codesign.physics.arrays import Arrays


@dataclass(frozen=True)
class Mixer(Arrays):
    """One kind of token mixer, per layer; every field is float64 and broadcasts against the designs (a constant stays 0-d).

    Parameters are weights [count] per layer, by how tensor parallelism shards them; attention costs are
    FLOP per (query, key) pair over all heads; cache sizes are elements per token and layer.
    """

    n_layers: np.ndarray  # layers of this kind in the model
    params_tp: np.ndarray  # divided by n_tp
    params_kv: np.ndarray  # divided by min(n_tp, kv_shards): K and V projections of GQA
    params_rep: np.ndarray  # held by every TP rank: norms, MLA down-projections, indexer
    matmul_params: np.ndarray  # of all the above, those multiplied with each token (no norms, biases, convolutions)
    n_heads: np.ndarray
    kv_shards: np.ndarray  # largest number of TP ranks that hold different parts of the cache or state
    d_qk: np.ndarray  # width of one query head in prefill
    d_v: np.ndarray  # width of one value head in prefill
    kv_elems_per_tok: np.ndarray  # cached elements = quantised + 16bit
    kv_elems_quantised: np.ndarray  # of these, stored at kv_bits
    kv_elems_16bit: np.ndarray  # of these, never below 16 bit
    kv_scale_bytes_fp8: np.ndarray  # [byte] scales per token and layer when kv_bits = 8
    span_tok: np.ndarray  # [tok] most keys one query attends to (inf: all)
    flop_per_pair_prefill: np.ndarray  # [FLOP] scores and weighted values, one query x one key
    flop_per_pair_decode: np.ndarray  # [FLOP] the same in decode form (MLA: absorbed)
    index_flop_per_pair: np.ndarray  # [FLOP] sparse-attention indexer, over all keys
    index_elems_per_tok: np.ndarray  # cached index-key elements per token and layer
    state_bytes: np.ndarray  # [byte] constant state per sequence and layer
    state_flop_per_tok: np.ndarray  # [FLOP] recurrence and convolution per token and layer
    n_gemm: np.ndarray  # projection kernels launched per layer


def build(**values) -> Mixer:
    """A Mixer whose unnamed fields are zero and whose fields are all float64 arrays."""
    filled = {f.name: 0.0 for f in fields(Mixer)} | values
    return Mixer(**{name: np.asarray(value, dtype=float) for name, value in filled.items()})


@cache
def kinds(state: bool | None = None) -> tuple[str, ...]:
    """Names of the mixers in this folder; `state` selects the constant-state (True) or caching (False) ones."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    return tuple(name for name in names if state is None or state == module(name).STATE)


@cache
def module(kind: str) -> ModuleType:
    """The module of one kind; a KeyError names the kinds there are."""
    try:
        return import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError:
        known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
        raise KeyError(f"no attention kind {kind!r}; known: {', '.join(known)}") from None


def mixers(kind_of_row, arch: dict, window: bool) -> Mixer:
    """Mixers of a batch in which each row may have its own kind: one vectorized call per kind present.

    `kind_of_row` is a str or a unicode array that broadcasts against `arch`; rows of kind "none" are zero.
    """
    if window and not arch["n_window_layers"].any():
        return build()
    present = np.unique(kind_of_row)
    if present.size == 1:
        return build() if present[0] == "none" else module(str(present[0])).mixer(arch, window)
    shape = np.broadcast_shapes(*(np.shape(v) for v in arch.values()))
    kind_of_row = np.broadcast_to(kind_of_row, shape)
    out = {f.name: np.zeros(shape) for f in fields(Mixer)}
    for kind in present[present != "none"]:
        mask = kind_of_row == kind
        subset = {k: v if np.ndim(v) == 0 else np.broadcast_to(v, shape)[mask] for k, v in arch.items()}
        part = module(str(kind)).mixer(subset, window)
        for name, values in out.items():
            values[mask] = getattr(part, name)
    return Mixer(**out)


def layer_norm_params(arch: dict) -> np.ndarray:
    """Norm weights in front of (and behind) one block: half of `norms_per_layer`, doubled by a norm bias. [count]"""
    return arch["norms_per_layer"] / 2 * arch["d_model"] * (1 + arch["norm_bias"])


def indexer(arch: dict, d_query_in) -> dict[str, np.ndarray]:
    """Lightning indexer of DeepSeek sparse attention: which keys each query attends to.

    score(t, s) = sum_j w_j(t) relu(q_j(t) . k(s)),  j = 1..index_heads, width index_dim; one key per token, shared by heads.
    weights = d_query_in H D (queries) + d D (keys) + d H (head weights) + 2 D (key LayerNorm); zero when index_heads = 0.
    `d_query_in` [count]: width the index queries are projected from (q_lora_rank in MLA, else d_model).
    Source: DeepSeek-V3.2 report, arXiv 2512.02556, section 2.1; layout of the released `inference/model.py`.

    >>> arch = {"index_heads": 64, "index_dim": 128, "d_model": 7168}
    >>> 1536 * 64 * 128 + 7168 * 128 + 7168 * 64, int(indexer(arch, 1536)["matmul"])
    (13959168, 13959168)
    """
    h, width, d = arch["index_heads"], arch["index_dim"], arch["d_model"]
    on = np.asarray(h) > 0
    matmul = d_query_in * h * width + (d * width + d * h) * on
    return {
        "matmul": matmul,
        "params": matmul + 2 * width * on,
        "flop_per_pair": 2 * h * width,
        "elems_per_tok": width * on,
        "n_gemm": 2 * on,
    }


def state_bytes(state_elems, channels, taps) -> np.ndarray:
    """Constant state of a linear layer per sequence: 4 B per recurrent element and 2 B per remembered convolution input. [byte]

    Serving engines keep the recurrence in fp32 and the convolution window in the 16-bit activation type.

    >>> state_bytes(2, 10, 4)
    68
    """
    return 4 * state_elems + 2 * channels * (taps - 1)
