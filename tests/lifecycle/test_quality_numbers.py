"""Published tables and worked values that the quality model must reproduce."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from codesign.lifecycle import quality, quality_factors, scaling_law
from codesign.lifecycle.quality import CENTRAL, LAWS, POOLED


@pytest.mark.parametrize(
    ("n_active", "n_total", "granularity", "m"),
    [
        (37e9, 671e9, 2 * 7168 / 2048, 4.8),  # DeepSeek-V3
        (32.6e9, 1043e9, 2 * 7168 / 2048, 5.5),  # Kimi K2
        (21e9, 236e9, 2 * 5120 / 1536, 4.1),  # DeepSeek-V2
        (22e9, 235e9, 2 * 4096 / 1536, 3.9),  # Qwen3-235B-A22B
        (17e9, 400e9, 2 * 5120 / 8192, 3.4),  # Llama-4 Maverick
        (3.3e9, 30.5e9, 2 * 2048 / 768, 3.7),  # Qwen3-30B-A3B
        (1e9, 18e9, 11, 4.86),
    ],
)
def test_multiplier_of_public_models(n_active, n_total, granularity, m):
    assert_allclose(quality.moe_multiplier(n_active, n_total, granularity), m, rtol=0.045)


def test_granularity_table():
    table = {1: 0.68, 2: 0.84, 4: 0.94, 8: 0.99, 11: 1.00, 32: 0.94}
    assert_allclose(quality_factors.granularity_factor(list(table)), list(table.values()), atol=0.006)


@pytest.mark.parametrize(
    ("size", "tok_per_param", "minus_ln_f"),
    [
        ("72B", 97, 0.21),
        ("7B", 920, 0.37),
        ("1.5B", 4600, 0.56),
        ("0.5B", 24_000, 0.84),
    ],
)
def test_quantisation_factor_follows_the_qwen2_table(size, tok_per_param, minus_ln_f):
    assert_allclose(-np.log(quality.quant_factor(tok_per_param, 1.0)), minus_ln_f, atol=0.01)


def test_shape_table():
    assert_allclose(quality.shape_factor([46, 128, 256]), [1.0, 0.86, 0.66], atol=0.005)


def test_gqa_rule_of_the_design_page():
    n_kv = np.array([1, 2, 4, 8, 16])
    expected = 0.75 + 0.20 * np.log2(np.minimum(n_kv, 8)) / 3
    assert_allclose(quality.attention_factor("gqa", 64, n_kv), expected)
    assert quality.attention_factor("mqa", 64, 1) == 0.75
    assert quality.attention_factor("mha", 64, 64) == quality.attention_factor("gqa", 8, 8) == 1.0
    assert quality.attention_factor("mla", 128, 128) == 1.10


def test_extra_heads_have_no_factor():
    few = quality.factor_table(1e9, 1e9, attention="gqa", n_heads=32, n_kv_heads=8)
    many = quality.factor_table(1e9, 1e9, attention="gqa", n_heads=256, n_kv_heads=8)
    assert few == many


def test_reference_model_has_every_factor_at_one():
    assert all(value == 1.0 for value in quality.factor_table(1e9, 1e9).values())


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("c_flop", [1e19, 1e22, 5.9e23, 1e26])
def test_compute_optimal_model_is_worth_its_own_compute(law, c_flop):
    n, tok = scaling_law.compute_optimal(c_flop, law)
    c_eq_flop, n_eq = quality.equivalent_compute(quality.loss(n, tok, law), law)
    assert_allclose(c_eq_flop, 6 * n * tok, rtol=1e-9)
    assert_allclose(n_eq, n, rtol=1e-9)
    assert_allclose(c_eq_flop, c_flop, rtol=1e-9)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_compute_optimum_beats_its_neighbours(law):
    n, tok = scaling_law.compute_optimal(1e23, law)
    scale = np.array([0.8, 0.95, 1.05, 1.25])
    assert np.all(quality.loss(n * scale, tok / scale, law) > quality.loss(n, tok, law))


def test_laws_carry_their_constants_and_sources():
    constants = {law.name: (law.E, law.A, law.alpha, law.B, law.beta) for law in LAWS.values()}
    assert constants["central"] == (1.8172, 482.01, 0.3478, 2085.43, 0.3658)
    assert constants["pooled"] == (1.638, 145.0, 0.2771, 652.2, 0.3084)
    assert all("arXiv" in law.source for law in LAWS.values())
    assert_allclose([scaling_law.compute_optimal(6 * 1e10 * 2e11, POOLED)[1] / 1e11], [1.9], rtol=0.1)


def test_loss_flattens_with_size_as_published_law():
    sizes = np.array([1e9, 1e10, 1e11, 1e12])
    halving = scaling_law.CENTRAL.A * ((sizes / 2) ** -CENTRAL.alpha - sizes**-CENTRAL.alpha)
    assert_allclose(halving, [0.097, 0.044, 0.020, 0.009], atol=5e-4)


def test_four_epochs_are_nearly_fresh_and_forty_are_not():
    assert quality.effective_tokens(4e12, 1e12) > 3.7e12
    assert quality.effective_tokens(40e12, 1e12) < 16e12


def test_user_law_replaces_constants_and_factors_and_names_unknown_keys():
    law = quality.law_from_dict({"E": 1.5, "factors": {"mla": 1.0, "granularity": (1.0, 0.0, 0.0, 1.0)}})
    assert law.E == 1.5
    assert quality.assess(1e9, 1e9, 1e11, law=law, attention="mla")["factor_attention"] == 1.0
    assert quality_factors.granularity_factor(5.0, law.factors) == 1.0
    with pytest.raises(ValueError, match="gamma"):
        quality.law_from_dict({"gamma": 1})
    with pytest.raises(ValueError, match="mlaa"):
        quality.law_from_dict({"factors": {"mlaa": 1}})
    with pytest.raises(ValueError, match="above 0"):
        quality.law_from_dict({"alpha": -0.3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.E = 2.0


def test_ranges_contain_the_defaults():
    for name, (low, high) in quality_factors.RANGES.items():
        assert low <= getattr(quality_factors.DEFAULT, name) <= high, name
    for name, form in quality_factors.WEIGHT_FORMATS.items():
        assert form.low <= form.c_fmt <= form.high, name


def test_readout_slopes_are_the_published_ones():
    step = 1e-4
    published = {"mmlu": (0.60, 0.41, 0.22), "mmlu_pro": (0.85, 0.45, 0.05), "supergpqa": (0.71, 0.42, 0.13)}
    at = np.log([1e9, 1e10, 1e11])
    for name, slopes in published.items():
        up, down = (quality.benchmark_readout(at + h, name) for h in (step, -step))
        assert_allclose((up - down) / (2 * step), slopes, atol=0.001)
    top = quality.benchmark_readout(np.log([1e12, 1e13, 1e15]), "gpqa")
    assert top[0] == top[1] == top[2]


def test_knowledge_readout_of_simpleqa():
    assert_allclose(quality.simpleqa_readout([1e9, 671e9]), [-3.83, -3.83 + 0.432 * np.log(671)])


def test_error_bar_steps():
    assert_allclose(quality.sigma_ln_n_eff(1e11), 0.25)
    assert_allclose(quality.sigma_ln_n_eff(1e12, ratio=40, tok_per_param=3000), 0.25 + 0.35 + 0.15 + 0.2)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_error_of_c_eq_is_the_numerical_derivative(law):
    n, d, step = np.array([1e9, 1e10, 2e11]), np.array([5e12, 2e11, 1e13]), 1e-5
    up, down = (quality.equivalent_compute(quality.loss(n * np.exp(h), d, law), law)[0] for h in (step, -step))
    sigma = quality.sigma_ln_c_eq(n, d, 0.3, law)
    assert_allclose(sigma.own, 0.3 * np.log(up / down) / (2 * step), rtol=1e-5)
    assert_allclose(sigma.total, np.hypot(sigma.own, sigma.shared))


def test_elasticity_is_one_at_the_compute_optimum():
    n, tok = scaling_law.compute_optimal(1e24)
    assert_allclose(quality.sigma_ln_c_eq(n, tok, 1.0).own, 1.0, rtol=1e-9)


def test_law_params_tied_and_untied():
    n_a, n_t = quality.law_params([1000.0, 1000.0], [800.0, 900.0], 10, 10, [False, True])
    assert n_t.tolist() == [900.0, 1000.0]
    assert n_a.tolist() == [800.0, 900.0]


def test_warnings_and_refusals_are_sentences_with_masks_of_the_batch():
    args = (np.array([2e9, 37e9]), np.array([200e9, 671e9]), np.array([1e14, 14.8e12]))
    warned = quality.warnings(
        *args, attention="gqa", n_heads=64, n_kv_heads=4, weight_bits=4, context_tok=1e5, full_fraction=0.25, kv_bits=4, unique_tok=2e12
    )
    refused = quality.refusals(*args, weight_bits=[3, 4], unique_tok=2e12)
    for named in (warned, refused):
        assert all(mask.shape == (2,) and mask.dtype == bool and " " in name for name, mask in named.items())
    hit = {name for name, mask in refused.items() if mask[0]}
    assert any("ratio above 64" in name for name in hit)
    assert any("20,000" in name for name in hit)
    assert any("below 4 bits" in name for name in hit)
    assert any("16 epochs" in name for name in hit)
    assert not any(mask[1] for mask in refused.values())
    assert any("fewer than 3B" in name for name, mask in warned.items() if mask[0] and not mask[1])


def test_in_range_design_neither_warned_nor_refused():
    args = (7e9, 7e9, 2e12)
    given = dict(granularity=1.0, weight_bits=16)
    assert not any(mask.any() for mask in quality.refusals(*args, **given).values())
    shape = dict(n_eff=7e9, c_eq_flop=1e23, aspect_ratio=64, attention="gqa", n_heads=32, n_kv_heads=8)
    assert not any(mask.any() for mask in quality.warnings(*args, **given, **shape).values())


def test_qat_below_four_bits_is_a_warning_case_not_a_refusal():
    refused = quality.refusals(30e9, 30e9, 1e13, weight_bits=3, c_fmt=0.15)
    assert not any(mask.any() for mask in refused.values())


def test_assess_broadcasts_designs_against_scenarios():
    out = quality.assess(np.full((5, 1), 1e10), 1e10, np.full((1, 3), 1e12), weight_bits=np.array([16, 8, 4]))
    assert out["c_eq_flop"].shape == (5, 3)
    assert all(np.isfinite(np.asarray(value)).all() for value in out.values())


def test_long_context_guards():
    base = dict(window_fraction=0.75, window_tok=4096)
    short = quality.assess(1e10, 1e10, 1e12, context_tok=8000, long_context_penalty=0.3, **base)
    long = quality.assess(1e10, 1e10, 1e12, context_tok=1e5, long_context_penalty=0.3, **base)
    assert short["factor_long_context"] == 1.0
    assert_allclose(long["factor_long_context"], 1 - 0.3 * 0.75)
    long, short = quality_factors.full_layers_violation(0.05, [1e5, 1e4])
    assert long > 0 >= short
