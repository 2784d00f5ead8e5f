"""Effective parameters: one factor per architecture or precision choice, relative to a dense MHA bf16 model.

Every factor multiplies the *parameter count* a scaling law sees (never adds nats to the loss): an ablation
measured at one scale is converted to a parameter multiplier there and carried, which is stable over scale
where nats are not. All constants live in `Factors`, so that a user's file can replace any of them; `RANGES`
gives their 1-sigma ranges.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factors:
    """Constants of the factors below; the comments give their sources. Replace with `dataclasses.replace`."""

    # ln m = (a ln r - b ln^2 r) g(G): fitted to 14 efficiency equivalences from arXiv 2507.17702 (Eq. 13),
    # 2507.20534 (section 2.3), 2502.05172 (Table 3), 2505.09388 and 2401.06066; rms error 0.13 in ln m
    moe_a: float = 0.809
    moe_b: float = 0.0905
    moe_ratio_max: float = 64.0  # the quadratic turns at r = 87; nothing published supports m beyond 64
    # g(G) = (g0 + g1 l + g2 l^2) / norm, l = log2 G: arXiv 2507.17702 Eq. 13 with log2 G, log10 C, at C =
    # 1e22
    granularity: tuple[float, float, float, float] = (0.444, 0.117, -0.0167, 0.649)
    granularity_max: float = 32.0
    # hinge in ln(d_model / n_layers): refit of the public runs of arXiv 2502.06857 (20 shapes, <= 2B)
    shape_k: float = 0.0371
    shape_alpha: float = 0.2615
    shape_wide: float = 46.0
    shape_deep_k: float = 0.0178
    shape_deep_alpha: float = 0.275
    shape_deep: float = 8.0
    mqa: float = 0.75  # arXiv 2305.13245 Table 1 and 2405.04434 Table 8 (they disagree: geometric middle)
    gqa: float = 0.95  # same, 8 or more KV heads
    mla: float = 1.10  # arXiv 2405.04434 Table 9
    mla_rank: float = 512.0  # latent width of those ablations; narrower pays like fewer KV heads (assumption)
    window_free_ratio: float = 5.0  # arXiv 2503.19786 Fig. 3: up to 5 local per global layer is free
    window_slope: float = 0.015  # per further local layer: 7:1 costs 0.03 ppl at 2B, i.e. 3 % of parameters
    window_free_tok: float = 1024.0
    window_halving: float = 0.03  # per halving of the window below 1024 (assumption)
    kda: float = 1.05  # arXiv 2510.26692: 3:1 KDA:MLA against MLA, 1.16x compute efficiency at <= 1.7B active
    linear_free_ratio: float = 3.0  # same: 7:1 is worse than 3:1
    linear_slope: float = 0.02  # per further linear layer (assumption)
    train_fp8: float = 0.97  # arXiv 2412.19437 App. B.1: < 0.25 % of loss
    train_fp4: float = 0.90  # converted from the loss gaps of FP4 recipes (estimate)
    quant_level: float = 0.38  # Qwen2 GPTQ/AWQ MMLU table (72B, 7B, 1.5B, 0.5B), arXiv 2407.10671 models
    quant_power: float = 0.25  # weak end of arXiv 2411.04330 (0.34-0.5)
    quant_gamma_bits: float = 0.5907  # arXiv 2411.04330 Table 2: damage falls by e every 0.59 bit
    quant_act: float = 1.0  # 4-bit activations without a recipe cost as much as 4-bit weights (assumption)
    kv_4bit: float = 0.95  # per-channel keys; llama.cpp PR 7412, ollama PR 6279: 8 bits are free
    reason_weight: float = 0.40  # of ln r on reasoning; arXiv 2505.09388 Tables 3-8, lab fixed effects


DEFAULT = Factors()

RANGES = {  # 1-sigma range of each uncertain constant, for sampling and for the error bar of a pick
    "moe_a": (0.716, 0.902),
    "moe_b": (0.0675, 0.1135),
    "shape_k": (0.0, 0.0534),
    "mqa": (0.30, 0.95),
    "gqa": (0.55, 1.00),
    "mla": (1.00, 1.40),
    "kda": (0.90, 1.16),
    "train_fp8": (0.85, 1.00),
    "train_fp4": (0.75, 0.97),
    "quant_level": (0.15, 0.61),
    "kv_4bit": (0.80, 1.00),
    "reason_weight": (0.28, 0.52),
}


@dataclass(frozen=True)
class WeightFormat:
    """Deployed weight format: damage c_fmt relative to group-wise 4-bit, its range, bits, activation bits."""

    c_fmt: float
    low: float
    high: float
    weight_bits: float
    act_bits: float
    source: str


WEIGHT_FORMATS = {
    "bf16": WeightFormat(0.0, 0.0, 0.0, 16, 16, "reference"),
    "fp8": WeightFormat(0.0, 0.0, 0.0, 8, 8, "arXiv 2411.02355: W8A8-FP lossless"),
    "int8": WeightFormat(0.0, 0.0, 0.0, 8, 8, "arXiv 2411.02355; Qwen2 table: at noise level"),
    "int4_group": WeightFormat(1.0, 0.6, 1.5, 4, 16, "GPTQ / AWQ, groups <= 128: Qwen2 quantisation table"),
    "int4_channel": WeightFormat(3.0, 1.5, 5.0, 4, 16, "plain rounding: LLaMA-1, GPTQ-for-LLaMa README"),
    "nvfp4": WeightFormat(0.35, 0.15, 0.7, 4, 4, "Nemotron 3 Nano NVFP4 evaluation, calibrated"),
    "mxfp4": WeightFormat(0.7, 0.35, 1.5, 4, 4, "coarser scales: upper end of NVFP4 (estimate)"),
    "int4_qat": WeightFormat(0.15, 0.0, 0.4, 4, 16, "vendor claims: gpt-oss, Kimi K2 Thinking"),
}


def sparsity(n_active, n_total, f=DEFAULT):
    """Total-to-active ratio that the multiplier may use: r = clip(N_t / N_a, 1, 64).

    n_active, n_total: parameters without the input embedding [1], any broadcastable shape. Returns r [1].

    >>> sparsity([10e9, 1e9], [10e9, 100e9]).tolist()
    [1.0, 64.0]
    """
    return np.clip(np.asarray(n_total, float) / np.asarray(n_active, float), 1.0, f.moe_ratio_max)


def granularity_factor(granularity, f=DEFAULT):
    """How well fine experts use sparsity.  g = (0.444 + 0.117 l - 0.0167 l^2)/0.649, l = log2 clip(G, 1, 32)

    granularity: G = 2 d_model / d_expert [1] (definition of arXiv 2507.17702); NaN or <= 0 counts as G = 1.
    Valid 1-16 (source); g peaks at G = 11 with 1.00. Returns g [1], <= 1.

    >>> [round(float(granularity_factor(g)), 2) for g in (1, 2, 4, 8, 11, 32)]
    [0.68, 0.84, 0.94, 0.99, 1.0, 0.94]
    """
    g = np.asarray(granularity, float)
    l = np.log2(np.clip(np.where(g > 0, g, 1.0), 1.0, f.granularity_max))
    c0, c1, c2, norm = f.granularity
    return np.minimum((c0 + c1 * l + c2 * l * l) / norm, 1.0)


def moe_multiplier(n_active, n_total, granularity, f=DEFAULT):
    """Dense-equivalent parameters per active parameter of a mixture of experts.

    ln m = (0.809 ln r - 0.0905 ln^2 r) g(G),  r = clip(N_t/N_a, 1, 64)

    n_active, n_total [1] without input embedding, granularity G = 2 d_model/d_expert [1]. Returns m [1], 1 <=
    m <= r. Sources: 14 equivalences of arXiv 2507.17702, 2507.20534, 2502.05172, 2505.09388, 2401.06066.
    Valid r <= 33, G 1-16; extrapolated to r = 64 and constant beyond (refused there).

    >>> round(float(moe_multiplier(37e9, 18 * 37e9, 11)), 2)
    4.86
    >>> float(moe_multiplier(70e9, 70e9, float("nan")))
    1.0
    """
    x = np.log(sparsity(n_active, n_total, f))
    return np.exp((f.moe_a * x - f.moe_b * x * x) * granularity_factor(granularity, f))


def shape_factor(aspect_ratio, f=DEFAULT):
    """Cost in parameters of a model that is too wide or too deep.

    s = exp(-(0.0371/0.2615) max(0, ln(AR/46))^2) exp(-(0.0178/0.275) min(0, ln(AR/8))^2)

    aspect_ratio: AR = d_model / n_layers [1]. Returns s [1], 1 between AR 8 and 46.
    Source: refit of arXiv 2502.06857's runs (leave-one-shape-out error 0.48 %). Valid AR 8-130, <= 2B
    parameters.

    >>> [round(float(shape_factor(ar)), 2) for ar in (32, 128, 256)]
    [1.0, 0.86, 0.66]
    """
    x = np.log(np.asarray(aspect_ratio, float))
    wide = np.maximum(x - np.log(f.shape_wide), 0.0)
    deep = np.minimum(x - np.log(f.shape_deep), 0.0)
    return np.exp(-f.shape_k / f.shape_alpha * wide**2 - f.shape_deep_k / f.shape_deep_alpha * deep**2)


def attention_factor(kind, n_heads, n_kv_heads, kv_lora_rank=512, f=DEFAULT):
    """Parameters' worth of sharing keys and values between heads.

    MHA (n_kv = n_heads): 1.00;  GQA: 0.75 + 0.20 log2(min(n_kv, 8))/3  (0.95 from 8 KV heads);  MQA (n_kv =
    1): 0.75; MLA: 1.10, less 0.20/3 per halving of the latent below 512.

    kind: "mha" | "gqa" | "mqa" | "mla" (string or array); the first three are told apart by n_kv_heads alone.
    n_heads, n_kv_heads, kv_lora_rank [1]. Returns factor [1].
    More heads have no factor of their own: they count through their parameters (arXiv 2507.20534 reports a
    gain, GLM-4.5 none). Sources: arXiv 2305.13245 Table 1, 2405.04434 Tables 8-9. Valid 1-30B active.

    >>> [round(float(attention_factor("gqa", 64, k)), 3) for k in (1, 2, 4, 8, 16, 64)]
    [0.75, 0.817, 0.883, 0.95, 0.95, 1.0]
    >>> attention_factor(["mla", "mha"], 128, 128).tolist()
    [1.1, 1.0]
    """
    n_heads, n_kv_heads = np.asarray(n_heads, float), np.asarray(n_kv_heads, float)
    per_halving = (f.gqa - f.mqa) / 3.0
    shared = f.mqa + per_halving * np.log2(np.clip(n_kv_heads, 1.0, 8.0))
    grouped = np.where(n_kv_heads >= n_heads, 1.0, shared)
    lost = np.log2(f.mla_rank / np.clip(np.asarray(kv_lora_rank, float), 1.0, f.mla_rank))
    return np.where(np.asarray(kind) == "mla", f.mla - per_halving * lost, grouped)


def window_factor(window_fraction, window_tok, f=DEFAULT):
    """Cost of sliding-window layers for ordinary (short) contexts.

    ln w = -0.015 max(0, local:global - 5) - 0.03 log2(1024 / window) below 1024 tokens

    window_fraction: windowed layers / attention layers [1]; window_tok [tok] (ignored without windowed
    layers). Returns factor [1], <= 1. Source: arXiv 2503.19786 Fig. 3 (1:1 to 7:1, 2B and 9B); the slope is
    the 0.03 ppl of 7:1. Blind to long-context damage: see `long_context_factor`.

    >>> [round(float(window_factor(x, 1024)), 3) for x in (0, 5 / 6, 7 / 8)]
    [1.0, 1.0, 0.97]
    """
    local = np.clip(np.asarray(window_fraction, float), 0.0, 1.0)
    ratio = np.minimum(local / np.maximum(1.0 - local, 1e-9), 60.0)
    halvings = np.log2(f.window_free_tok / np.clip(np.asarray(window_tok, float), 16.0, f.window_free_tok))
    cost = f.window_slope * np.maximum(ratio - f.window_free_ratio, 0.0) + f.window_halving * halvings
    return np.where(local > 0, np.exp(-cost), 1.0)


def linear_factor(linear_fraction, kind, f=DEFAULT):
    """Worth of linear-attention or state-space layers, relative to the full attention they replace.

    KDA: 1 + 0.05 min(ratio, 3)/3; other kinds: 1;  both less 0.02 per linear layer beyond 3 per full layer.

    linear_fraction: linear layers / all layers [1]; kind: "none" | "kda" | any other kind (string or array).
    Returns factor [1]. Source: arXiv 2510.26692 (3:1 best, 7:1 worse; 0.65-3B active). Short contexts only.

    >>> [round(float(linear_factor(x, "kda")), 2) for x in (0, 0.75, 0.875)]
    [1.0, 1.05, 0.97]
    """
    share = np.clip(np.asarray(linear_fraction, float), 0.0, 1.0)
    ratio = np.minimum(share / np.maximum(1.0 - share, 1e-9), 40.0)
    gain = np.where(np.asarray(kind) == "kda", f.kda - 1.0, 0.0)
    gain = gain * np.minimum(ratio / f.linear_free_ratio, 1.0)
    excess = np.maximum(ratio - f.linear_free_ratio, 0.0)
    return 1.0 + gain - f.linear_slope * excess


LONG_CONTEXT_TOK = 32768.0


def long_context_factor(full_fraction, context_tok, penalty):
    """What the user charges non-full attention when the workload's contexts are long: no public law exists.

    f = 1 - penalty (1 - full)   where the median context is above 32,768 tokens, else 1

    full_fraction: full-attention layers / all layers [1]; context_tok: median context [tok]; penalty in [0,
    1) [1].

    >>> float(long_context_factor(0.25, 65536, 0.2))
    0.85
    """
    full = np.clip(np.asarray(full_fraction, float), 0.0, 1.0)
    charged = 1.0 - np.clip(penalty, 0.0, 0.99) * (1.0 - full)
    return np.where(np.asarray(context_tok, float) > LONG_CONTEXT_TOK, charged, 1.0)


def full_layers_violation(full_fraction, context_tok, min_full_fraction=0.125):
    """The other guard for long contexts: a minimum share of full layers (7:1 is the sparsest ablated).

    v = min_full - full above 32,768 tokens of median context, else <= 0 [1]; <= 0 is feasible.

    >>> full_layers_violation([0.0, 0.25], 65536).tolist()
    [0.125, -0.125]
    """
    short = np.asarray(context_tok, float) <= LONG_CONTEXT_TOK
    gap = min_full_fraction - np.asarray(full_fraction, float)
    return np.where(short, np.minimum(gap, 0.0), gap)


def training_factor(train_bits, f=DEFAULT):
    """Cost of training precision: 1.00 at 16 bits, 0.97 at 8 (fine-grained FP8), 0.90 at 4.

    train_bits [bit], linear in log2 between. Returns factor [1]. Sources: arXiv 2412.19437 section 3.3 and
    App. B.1 (< 0.25 % of loss at 16B and 230B MoE); FP4 is an estimate.

    >>> training_factor([16, 8, 4]).tolist()
    [1.0, 0.97, 0.9]
    """
    return np.interp(np.log2(np.asarray(train_bits, float)), [2, 3, 4], [f.train_fp4, f.train_fp8, 1.0])


def quant_coefficient(weight_bits, c_fmt=1.0, act_bits=16, fmt_act_bits=16, f=DEFAULT):
    """Damage coefficient of the deployed precision, in units of group-wise 4-bit weights.

    c = c_fmt exp(-(bits - 4)/0.5907) below 8 bits, 0 from 8;  + the same with c = 1 for activations below 8
    bits that the format's own recipe does not cover (NVFP4's and MXFP4's c_fmt already contain 4-bit
    activations).

    weight_bits, act_bits, fmt_act_bits [bit]; c_fmt [1] of `WEIGHT_FORMATS`. Returns c [1], >= 0.
    Source: level from `WEIGHT_FORMATS`, slope per bit from arXiv 2411.04330 Table 2. Below 4 bits: refused
    without QAT.

    >>> quant_coefficient([16, 8, 4], 1.0).tolist()
    [0.0, 0.0, 1.0]
    >>> float(quant_coefficient(4, 0.35, act_bits=4, fmt_act_bits=4))
    0.35
    """

    def damage(bits):
        bits = np.asarray(bits, float)
        return np.where(bits >= 8, 0.0, np.exp(-(np.maximum(bits, 1.0) - 4.0) / f.quant_gamma_bits))

    act_bits = np.asarray(act_bits, float)
    uncovered = np.where(act_bits < np.asarray(fmt_act_bits, float), damage(act_bits), 0.0)
    return np.asarray(c_fmt, float) * damage(weight_bits) + f.quant_act * uncovered


def quant_damage(tok_per_param, c_quant, f=DEFAULT):
    """What quantisation costs in ln parameters: h = 0.38 c (D/N_a / 1000)^0.25 [1]; see `quant_factor`.

    >>> round(float(quant_damage(1000, 1.0)), 2)
    0.38
    """
    x = np.asarray(tok_per_param, float) / 1000.0
    return f.quant_level * np.asarray(c_quant, float) * x**f.quant_power


def quant_factor(tok_per_param, c_quant, f=DEFAULT):
    """Parameters left after post-training quantisation; over-trained models lose more.

    f_quant = exp(-0.38 c (D/N_a / 1000)^0.25)

    tok_per_param: D/N_a [tok]; c_quant [1] of `quant_coefficient`. Returns factor [1] in (0, 1]; -ln f is
    +-60 %. Sources: Qwen2 INT4 tables (D/N 97-24,000); exponent from the weak end of arXiv 2411.04330. For
    MoE, D/N_a is the pessimistic choice.

    >>> round(float(quant_factor(1000, 1.0)), 3), float(quant_factor(1000, 0.0))
    (0.684, 1.0)
    """
    return np.exp(-quant_damage(tok_per_param, c_quant, f))


def kv_factor(kv_bits, f=DEFAULT):
    """Cost of a quantised KV cache: 1 from 8 bits; 0.95^(2^(4 - bits)) below (each bit doubles -ln f).

    kv_bits [bit]. Returns factor [1]. Sources: llama.cpp PR 7412 and ollama PR 6279 (8 bits free), 4 bits
    with per-channel keys; the doubling is an assumption.

    >>> [round(float(kv_factor(b)), 3) for b in (16, 8, 4, 2)]
    [1.0, 1.0, 0.95, 0.815]
    """
    bits = np.asarray(kv_bits, float)
    return np.where(bits >= 8, 1.0, f.kv_4bit ** (2.0 ** (4.0 - bits)))


def factor_table(
    n_active,
    n_total,
    *,
    granularity=1.0,
    aspect_ratio=32.0,
    attention="mha",
    n_heads=1,
    n_kv_heads=1,
    kv_lora_rank=512,
    window_fraction=0.0,
    window_tok=1024,
    linear_fraction=0.0,
    linear_attention="none",
    context_tok=0.0,
    long_context_penalty=0.0,
    train_bits=16,
    kv_bits=16,
    f=DEFAULT,
):
    """Every token-independent factor by name; their product times N_a is N_eff before quantisation.

    Arguments as in the functions of the same names; the defaults are the dense MHA bf16 reference (all
    factors 1). Returns dict name -> factor [1]; MoE first, so that `reasoning` can leave it out.

    >>> {k: float(v) for k, v in factor_table(1e9, 1e9).items() if v != 1}
    {}
    """
    full = (1.0 - np.asarray(linear_fraction, float)) * (1.0 - np.asarray(window_fraction, float))
    return {
        "moe": moe_multiplier(n_active, n_total, granularity, f),
        "shape": shape_factor(aspect_ratio, f),
        "attention": attention_factor(attention, n_heads, n_kv_heads, kv_lora_rank, f),
        "window": window_factor(window_fraction, window_tok, f),
        "linear": linear_factor(linear_fraction, linear_attention, f),
        "long_context": long_context_factor(full, context_tok, long_context_penalty),
        "train": training_factor(train_bits, f),
        "kv": kv_factor(kv_bits, f),
    }
