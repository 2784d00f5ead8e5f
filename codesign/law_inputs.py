"""What the quality law reads off a design: parameters as the law counts them, shape, precision."""

from __future__ import annotations

import numpy as np

from codesign.lifecycle import quality
from codesign.lifecycle.quality_factors import WEIGHT_FORMATS
from codesign.setting import Setting

PRECISION_KEYS = ("weight_bits", "act_bits", "c_fmt", "fmt_act_bits")


def per_design(value, d):
    """(P,) rows of a per-design value, scalars included."""
    return np.ravel(value)[d] if np.size(value) > 1 else np.full(d.size, float(np.ravel(value)[0]))


def design_quality(setting: Setting, designs):
    """(n_active, n_total, keywords of quality.assess) of every design (A,)."""
    census, shape, life = designs.census, designs.shape, setting.life
    n_active, n_total = quality.law_params(
        census.n_params, census.n_active_params_excl_both + census.head_params, census.vocab, census.d_model, shape["tied_embeddings"]
    )
    attention = np.maximum(shape["n_attention_layers"], 1.0)
    bits = designs.precision
    four, plain = WEIGHT_FORMATS["nvfp4"].c_fmt, WEIGHT_FORMATS["int4_group"].c_fmt
    train_bits = designs.values.get("precision.train_bits", life.train_bits)
    together = (np.asarray(bits.act_bits) <= 4) & (np.asarray(bits.weight_bits) <= 4)  # NVFP4 is a format of both
    design = {
        "weight_bits": bits.weight_bits, "act_bits": bits.act_bits, "kv_bits": bits.kv_bits, "train_bits": train_bits,
        "c_fmt": np.where(together, four, plain), "fmt_act_bits": np.where(together, 4, 16),
        "granularity": np.where(shape["n_experts"] > 0, 2.0 * shape["d_model"] / np.maximum(shape["d_expert"], 1.0), 1.0),
        "aspect_ratio": shape["d_model"] / shape["n_layers"],
        "attention": shape["attention"], "n_heads": shape["n_heads"], "n_kv_heads": shape["n_kv_heads"],
        "kv_lora_rank": shape["kv_lora_rank"],
        "window_fraction": shape["n_window_layers"] / attention, "window_tok": np.maximum(shape["window_tok"], 1.0),
        "linear_fraction": shape["n_linear_layers"] / shape["n_layers"], "linear_attention": shape["linear_attention"],
        "context_tok": life.median_context_tok, "long_context_penalty": life.long_context_penalty,
    }  # fmt: skip
    return n_active, n_total, design


def base_size(setting: Setting, designs):
    """(n_active, N_eff before quantisation, quantisation coefficient) of every design (A,)."""
    n_active, n_total, design = design_quality(setting, designs)
    rest = {k: v for k, v in design.items() if k not in PRECISION_KEYS}
    factors = quality.factor_table(n_active, n_total, f=setting.law.factors, **rest)
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    return n_active, n_base, quality.quant_coefficient(*(design[k] for k in ("weight_bits", "c_fmt", "act_bits", "fmt_act_bits")))
