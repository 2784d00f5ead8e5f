"""Quality of a design: effective parameters, equivalent compute, mixed, reasoning and knowledge axes, errors.

Reading order: `quality_factors` (what each choice is worth in parameters), `scaling_law` (loss and equivalent
compute), this file (axes and their uncertainty), `quality_validity` (where none of it should be believed).
"""

from typing import NamedTuple

import numpy as np

from codesign.lifecycle.quality_factors import (
    DEFAULT,
    WEIGHT_FORMATS,
    attention_factor,
    factor_table,
    kv_factor,
    linear_factor,
    moe_multiplier,
    quant_coefficient,
    quant_factor,
    shape_factor,
    sparsity,
    training_factor,
    window_factor,
)
from codesign.lifecycle.quality_validity import refusals, warnings
from codesign.lifecycle.scaling_law import (
    CENTRAL,
    LAWS,
    POOLED,
    QualityLaw,
    effective_tokens,
    equivalent_compute,
    excess_loss,
    law_from_dict,
    loss,
    tokens_for_quality,
    useful_training_tok,
)

__all__ = [
    "CENTRAL",
    "DEFAULT",
    "LAWS",
    "POOLED",
    "READ_OFF",
    "SIGMA_LN_KNOW_BITS",
    "WEIGHT_FORMATS",
    "QualityLaw",
    "Sigma",
    "assess",
    "attention_factor",
    "benchmark_readout",
    "effective_params",
    "effective_tokens",
    "equivalent_compute",
    "factor_table",
    "kv_factor",
    "law_from_dict",
    "law_params",
    "linear_factor",
    "loss",
    "moe_multiplier",
    "q_know_bits",
    "q_loss",
    "q_mixed",
    "q_reason",
    "quant_coefficient",
    "quant_factor",
    "readout",
    "refusals",
    "shape_factor",
    "sigma_ln_c_eq",
    "sigma_ln_n_eff",
    "sigma_q_reason",
    "simpleqa_readout",
    "tokens_for_quality",
    "training_factor",
    "useful_training_tok",
    "warnings",
    "window_factor",
]


def law_params(n_params, n_active_params_excl_in, vocab, d_model, tied):
    """(N_a, N_t) as the laws count them: no input embedding; a tied table counts once, as the LM head.

    N_t = n_params - vocab d_model (untied) or n_params (tied);  N_a = n_active_params_excl_in

    n_params, n_active_params_excl_in, vocab, d_model [1]; tied [bool]. Returns two arrays [1].

    >>> [float(x) for x in law_params(1100.0, 1000.0, 10, 10, False)]
    [1000.0, 1000.0]
    """
    table = np.where(tied, 0.0, np.asarray(vocab, float) * d_model)
    n_active = np.asarray(n_active_params_excl_in, float)
    return n_active, np.maximum(np.asarray(n_params, float) - table, n_active)


def effective_params(n_active, n_total, tok=0.0, *, c_quant=0.0, f=DEFAULT, **design):
    """Parameters of the dense MHA bf16 model with the same loss at the same tokens.

    N_eff = N_a m s f_attn f_window f_linear f_long f_train f_kv f_quant(D/N_a)

    n_active, n_total [1] of `law_params`; tok D [tok] (matters only with c_quant > 0); c_quant [1] of
    `quant_coefficient`; design: keywords of `factor_table`. Returns n_eff [1]. Uncertainty: `sigma_ln_n_eff`.

    >>> n = effective_params(37e9, 671e9, granularity=7, attention="mla", aspect_ratio=7168 / 61)
    >>> round(float(n) / 1e9)
    172
    """
    n_eff = np.asarray(n_active, float)
    for factor in factor_table(n_active, n_total, f=f, **design).values():
        n_eff = n_eff * factor
    return n_eff * quant_factor(np.asarray(tok, float) / n_active, c_quant, f)


def q_loss(n_eff):
    """Loss axis: ln of dense-equivalent parameters at the same tokens [1]; rises with n_eff [1].

    >>> round(float(q_loss(1e9)), 3)
    20.723
    """
    return np.log(n_eff)


def q_mixed(n_eff):
    """Mixed axis (MMLU class): equals the loss axis; read it out with `benchmark_readout` [1].

    In-lab regressions weigh ln(N_t/N_a) by 0.61 +- 0.10 of ln N_a (arXiv 2505.09388 Tables 3-8), as m does at
    r = 16.

    >>> float(q_mixed(1.0))
    0.0
    """
    return q_loss(n_eff)


def q_reason(n_eff, moe, ratio, f=DEFAULT):
    """Reasoning axis (BBH, GSM8K, MATH): sparsity counts less.  Q = ln(N_eff / m) + 0.40 ln r

    n_eff [1]; moe m [1]; ratio r = clip(N_t/N_a, 1, 64) [1]. Returns Q [1]; +-0.12 on the 0.40.
    Source: arXiv 2505.09388 Tables 3-8 with lab fixed effects; arXiv 2508.18672 (reasoning saturates with
    sparsity).

    >>> bool(q_reason(4e9, 4.0, 16.0) == np.log(1e9) + 0.4 * np.log(16.0))
    True
    """
    return np.log(n_eff) - np.log(moe) + f.reason_weight * np.log(ratio)


def q_know_bits(n_total, weight_bits=16, c_fmt=1.0, exposures=1000.0):
    """Facts the weights can hold: bits = 2 N_t h_exposure h_bits.

    h_exposure: 1 at 1,000 exposures, 0.5 at 100, 0 at 10 (linear in log10);  h_bits: 1 for >= 8 bits and
    4-bit QAT, 0.8 for group-wise 4 bits, 0.35 for naive 4 bits (interpolated in the damage coefficient), 0 at
    ten times that.

    n_total [1]; weight_bits [bit]; c_fmt [1]; exposures of a fact in training [1]. Returns capacity [bit].
    Source: arXiv 2404.05405 (2 bits/parameter at int8, 0.7 at int4; MoE loses 1.3x only); valid 1M-0.5B
    parameters.

    >>> [round(float(q_know_bits(1e9, b, c)) / 1e9, 2) for b, c in ((16, 1), (4, 0.15), (4, 1), (4, 3))]
    [2.0, 2.0, 1.6, 0.7]
    """
    seen = np.clip(0.5 + 0.5 * (np.log10(np.maximum(exposures, 1.0)) - 2.0), 0.0, 1.0)
    damage = quant_coefficient(weight_bits, c_fmt)
    kept = np.interp(damage, [0.15, 1.0, 3.0, 30.0], [1.0, 0.8, 0.35, 0.0])
    return 2.0 * np.asarray(n_total, float) * seen * kept


# logit slope per ln N_eff at 1B and 10B; the line through both reproduces 100B (arXiv 2505.09388 Tables 3-8)
BENCHMARK_SLOPES = {
    "mmlu": (0.60, 0.41),
    "mmlu_pro": (0.85, 0.45),
    "supergpqa": (0.71, 0.42),
    "gpqa": (1.4, 0.62),
    "bbh": (1.1, 0.62),
    "gsm8k": (1.3, 0.53),
    "math": (0.76, 0.36),
}


def benchmark_readout(axis, benchmark="mmlu"):
    """Logit of the chance-corrected score, relative to a 1B dense model of the same lab.

    d logit / d ln N = max(0, s1 + (s10 - s1) log10(N/1e9)), integrated from N = 1e9

    axis: ln N_eff [1] (`q_mixed` or `q_reason`); benchmark: key of `BENCHMARK_SLOPES`. Returns logit [1].
    The slope falls with size: a constant slope over-predicts gains above 30B by 2-4x. Valid 0.5-200B, one
    harness.

    >>> [round(float(benchmark_readout(np.log(n))), 2) for n in (1e9, 1e10, 1e11)]
    [0.0, 1.16, 1.89]
    """
    s1, s10 = BENCHMARK_SLOPES[benchmark]
    bend = (s1 - s10) / np.log(10.0)
    x = np.minimum(np.asarray(axis, float) - np.log(1e9), s1 / bend)
    return s1 * x - 0.5 * bend * x * x


def simpleqa_readout(n_total):
    """Logit of SimpleQA of a base model: -3.83 + 0.432 ln(N_t / 1e9) [1], sigma 0.45 logit across labs.

    n_total [1]. Source: 15 public base models, SimpleQA (arXiv 2411.04368); post-training can move it by 2
    logits.

    >>> round(float(simpleqa_readout(1e9)), 2)
    -3.83
    """
    return -3.83 + 0.432 * np.log(np.asarray(n_total, float) / 1e9)


READ_OFF = {  # the axis that each benchmark is read off
    **dict.fromkeys(("mmlu", "mmlu_pro", "supergpqa", "gpqa"), "q_mixed"),
    **dict.fromkeys(("bbh", "gsm8k", "math"), "q_reason"),
    "simpleqa": "n_total",
}


def readout(benchmark, axis):
    """Logit of a benchmark from its axis of `READ_OFF`: `benchmark_readout`, or `simpleqa_readout` of total parameters [1].

    >>> round(float(readout("math", np.log(1e10))), 2), round(float(readout("simpleqa", 1e11)), 2)
    (1.29, -1.84)
    """
    return simpleqa_readout(axis) if benchmark == "simpleqa" else benchmark_readout(axis, benchmark)


def sigma_ln_n_eff(n_eff, ratio=1.0, tok_per_param=20.0):
    """One-sigma error of ln N_eff of one design [1].

    sigma = 0.25 + 0.35 max(0, log10(N_eff / 1e11)) + 0.15 [r > 32] + 0.2 [D/N_a > 2000]

    n_eff [1]; ratio N_t/N_a [1]; tok_per_param D/N_a [tok]. Source: judgement from the 0.13 rms of the MoE
    fit and 1 % of loss converted at the local slope; differences below one sigma are not a ranking.

    >>> [round(float(sigma_ln_n_eff(n)), 2) for n in (1e10, 1e12)]
    [0.25, 0.6]
    """
    size = 0.35 * np.maximum(0.0, np.log10(np.asarray(n_eff, float) / 1e11))
    sparse = np.where(np.asarray(ratio) > 32, 0.15, 0.0)
    return 0.25 + size + sparse + np.where(np.asarray(tok_per_param) > 2000, 0.2, 0.0)


def sigma_q_reason(sigma_n, ratio):
    """One-sigma error of the reasoning axis: sigma_n and 0.12 ln r (the weight's error) in quadrature [1].

    >>> round(float(sigma_q_reason(0.25, 16.0)), 2)
    0.42
    """
    return np.hypot(sigma_n, 0.12 * np.log(ratio))


# SimpleQA scatters by 0.45 logit between labs at 0.432 logit per ln N_t (`simpleqa_readout`)
SIGMA_LN_KNOW_BITS = 0.45 / 0.432


class Sigma(NamedTuple):
    """One-sigma errors of ln c_eq: own (this design's), shared (the law's, common to all designs), total."""

    own: np.ndarray
    shared: np.ndarray
    total: np.ndarray


def sigma_ln_c_eq(n_eff, d_eff, sigma_n, law=CENTRAL, alternative=POOLED):
    """Error of ln c_eq, propagated from ln N_eff and from the choice of law.

    own    = sigma_n dln c_eq/dln N_eff = sigma_n ((alpha+beta)/beta) A N_eff^-alpha / X,   X = L - E
    shared = |ln c_eq(law) - ln c_eq(alternative)| / sqrt(2)   (standard deviation of two laws at the same
    N_eff, D_eff)

    n_eff [1], d_eff [tok], sigma_n [1] of `sigma_ln_n_eff`. Returns `Sigma` [1]. At the compute optimum the
    elasticity is 1; an over-trained small model's quality hangs more on N. Compare designs by `own`, quote
    `total`.

    >>> [round(float(s), 2) for s in sigma_ln_c_eq(1e10, 1e13, 0.25)]
    [0.4, 0.06, 0.4]
    """
    excess = excess_loss(n_eff, d_eff, law)
    size = law.A * np.asarray(n_eff, float) ** -law.alpha
    own = sigma_n * (law.alpha + law.beta) / law.beta * size / excess
    c_eq, _ = equivalent_compute(loss(n_eff, d_eff, law), law)
    other, _ = equivalent_compute(loss(n_eff, d_eff, alternative), alternative)
    shared = np.abs(np.log(c_eq) - np.log(other)) / np.sqrt(2.0)
    return Sigma(own, shared, np.hypot(own, shared))


def assess(
    n_active,
    n_total,
    tok,
    *,
    unique_tok=np.inf,
    weight_bits=16,
    c_fmt=1.0,
    act_bits=16,
    fmt_act_bits=16,
    exposures=1000.0,
    law=CENTRAL,
    alternative=POOLED,
    **design,
):
    """All quality columns of a batch of designs, from parameters, tokens, precision and shape.

    n_active, n_total [1] of `law_params`; tok, unique_tok [tok]; weight_bits, act_bits, fmt_act_bits [bit];
    c_fmt [1]; design: keywords of `factor_table`. Everything broadcasts. Returns dict of arrays: n_eff, d_eff
    [tok], useful_tok [tok], loss [nat], c_eq_flop [FLOP], n_eq, q_loss, q_mixed, q_reason, q_know_bits [bit],
    sigma_ln_n_eff, sigma_q_reason, sigma_ln_c_eq_own, sigma_ln_c_eq_shared, sigma_ln_c_eq and one
    factor_<name> per factor. No layout, batch or rack size enters: quality cannot depend on them.

    >>> q = assess(37e9, 671e9, 14.8e12, granularity=7, attention="mla", aspect_ratio=7168 / 61, train_bits=8)
    >>> f"{float(q['c_eq_flop']):.1e} FLOP"
    '1.2e+25 FLOP'
    """
    f = law.factors
    factors = factor_table(n_active, n_total, f=f, **design)
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    c_quant = quant_coefficient(weight_bits, c_fmt, act_bits, fmt_act_bits, f)
    useful = useful_training_tok(n_base, n_active, tok, c_quant, law, unique_tok)
    quant = quant_factor(useful / np.asarray(n_active, float), c_quant, f)
    n_eff, d_eff = n_base * quant, effective_tokens(useful, unique_tok)
    ratio = sparsity(n_active, n_total, f)
    loss_nat = loss(n_eff, d_eff, law)
    c_eq_flop, n_eq = equivalent_compute(loss_nat, law)
    sigma_n = sigma_ln_n_eff(n_eff, np.asarray(n_total) / n_active, np.asarray(tok) / n_active)
    sigma_c = sigma_ln_c_eq(n_eff, d_eff, sigma_n, law, alternative)
    return {
        "n_eff": n_eff,
        "d_eff": d_eff,
        "useful_tok": useful,
        "loss": loss_nat,
        "c_eq_flop": c_eq_flop,
        "n_eq": n_eq,
        "q_loss": q_loss(n_eff),
        "q_mixed": q_mixed(n_eff),
        "q_reason": q_reason(n_eff, factors["moe"], ratio, f),
        "q_know_bits": q_know_bits(n_total, weight_bits, c_fmt, exposures),
        "sigma_q_reason": sigma_q_reason(sigma_n, ratio),
        "sigma_ln_n_eff": sigma_n,
        "sigma_ln_c_eq_own": sigma_c.own,
        "sigma_ln_c_eq_shared": sigma_c.shared,
        "sigma_ln_c_eq": sigma_c.total,
        **{f"factor_{name}": value for name, value in factors.items()},
        "factor_quant": quant,
    }
