"""Scenes, layouts and plain records that the physics tests share."""

from functools import cache
from types import SimpleNamespace as Record

import numpy as np

from codesign import catalog
from codesign.physics.architecture import census, fill
from codesign.physics.arrays import Arrays
from codesign.physics.layout import Layout, fits_shape, make_layout
from codesign.physics.operators import make_scene
from codesign.physics.precision import Precision
from codesign.scenario import make_chip

MODELS = (
    "llama-3.1-70b", "qwen3-235b-a22b", "deepseek-v3", "deepseek-v3.2", "gpt-oss-120b", "gemma-3-27b", "qwen3-next-80b-a3b",
    "nemotron-h-8b", "llama-2-7b", "minimax-text-01", "zaya1-8b", "nemotron-3-super-120b-a12b", "kda and mla",
)  # fmt: skip
# no catalog entry that can be evaluated has this pair of mixers
KDA_AND_MLA = dict(
    n_layers=27, d_model=2304, vocab=163840, attention="mla", n_heads=32, linear_attention="kda", n_linear_layers=20, linear_d_v=128,
    d_ff=9216, n_dense_layers=1, n_experts=256, n_active_experts=8, d_expert=1024, n_shared_experts=1,
)  # fmt: skip
CHIPS = ("h100_sxm", "h200_sxm_node", "gb200_nvl72", "mi300x_node", "tpu_v5p_pod", "a100_sxm_node")
ENGINES = ("ideal", "generic", "vllm")


@cache
def architecture(model: str) -> dict:
    return KDA_AND_MLA if model == "kda and mla" else catalog.load("models", model)["architecture"]


@cache
def counts_of(model: str):
    return census(fill(architecture(model)))


@cache
def chip_of(name: str, engine: str = "generic", scale_up_size: float | None = None):
    return make_chip(name, engine, scale_up_size=scale_up_size, usd_per_s=2.0 / 3600)


def precision_of(weight_bits=16, kv_bits=16, act_bits=16) -> Precision:
    return Precision(*(np.asarray(v, dtype=float) for v in (weight_bits, kv_bits, act_bits)))


def scene_of(model="llama-3.1-70b", chip="h100_sxm", engine="ideal", bits=(16, 16, 16), training=False, **changes):
    """Scene of a catalog model; `changes` replace fields of the chip."""
    return make_scene(counts_of(model), changed(chip_of(chip, engine), **changes), precision_of(*bits), training=training)


def changed(record: Arrays, **changes):
    """A copy of a structure of arrays with some fields replaced; `a__b` names field b of the nested structure a."""
    new = record.map(lambda v: v)
    for path, value in changes.items():
        *parents, name = path.split("__")
        target = new
        for parent in parents:
            target = getattr(target, parent)
        if name not in vars(target):
            raise KeyError(path)
        vars(target)[name] = value
    return new


def layout_of(**degrees) -> Layout:
    return Layout(*(np.float64(v) for v in make_layout(**degrees).columns.values()))


def plain(record: Arrays) -> Record:
    """Nested namespaces of Python floats: what the scalar reference takes."""
    return Record(**{k: plain(v) if isinstance(v, Arrays) else np.asarray(v).item() for k, v in vars(record).items()})


def random_layout(rng, counts, n_pp=(1, 2, 4), n_cp=(1, 1, 2)) -> Layout:
    """A layout that divides the model; MoE models spread experts over the stage, over part of it, or cut them."""
    moe = bool(counts.ffn.n_moe_layers > 0)
    while True:
        tp, cp, dp, pp = (int(rng.choice(c)) for c in ((1, 2, 4, 8), n_cp, (1, 1, 2, 8, 16), n_pp))
        stage = tp * cp * dp
        etp = int(rng.choice([1, tp])) if moe else 1
        ep = int(rng.choice([stage // etp, max(stage // etp // 2, 1), 1])) if moe else 1
        layout = make_layout(tp, cp, dp, pp, etp, ep)
        if bool(fits_shape(layout, counts)):
            return layout_of(n_tp=tp, n_cp=cp, n_dp=dp, n_pp=pp, n_etp=etp, n_ep=ep)
