"""Balance of the three phases, tokens solved from it, and the optimum that the heuristic is compared with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from codesign.lifecycle import balance, optimum, quality, scaling_law
from codesign.lifecycle.optimum import Lifecycle
from codesign.lifecycle.quality import CENTRAL, LAWS, POOLED

GADRE = quality.law_from_dict({"alpha": 0.2571, "beta": 0.2571})  # exponents of arXiv 2403.08540
examples = settings(max_examples=60, deadline=None)
positive = st.floats(-3, 3).map(lambda x: 10**x)
maybe_infinite = st.one_of(positive, st.sampled_from([0.0, np.inf, np.nan]))


def test_necessary_flop_by_hand():
    phases = balance.compute(
        2e9,
        pretrain_tok=10.0,
        rl_tok=5.0,
        in_tok=3.0,
        out_tok=2.0,
        c_rl=10.0,
        train_attention_flop=1e9,
        rl_attention_flop=2e9,
        prefill_attention_flop=3e9,
        decode_attention_flop=4e9,
    )
    assert phases == (13e9 * 10, 22e9 * 5, 7e9 * 3 + 8e9 * 2)


def test_ratio_ignores_idle_phases():
    assert balance.ratio(3.0, 0.0, 1.0) == 3.0
    assert balance.ratio(3.0, 0.0, 0.0) == balance.ratio(0.0, 0.0, 0.0) == 1.0
    assert balance.ratio([1.0, 2.0], 2.0, 4.0).tolist() == [4.0, 2.0]
    assert balance.ratio(1.0, 1.0, np.inf) == np.inf


@pytest.mark.parametrize(
    ("law", "table"),
    [
        (CENTRAL, {1.5: (0.57, 3.1), 2: (0.38, 7), 3: (0.21, 22)}),
        (POOLED, {1.5: (0.50, 4.0), 2: (0.31, 11), 3: (0.15, 43)}),
        (GADRE, {1.5: (0.46, 4.8), 2: (0.26, 15), 3: (0.12, 72)}),
    ],
    ids=["central", "pooled", "gadre"],
)
def test_kappa_table(law, table):
    for kappa, (size, tokens_per_param) in table.items():
        n_factor, d_factor = balance.kappa_shift(kappa, law)
        assert_allclose(n_factor, size, atol=0.006)
        assert_allclose(d_factor, tokens_per_param, rtol=0.04)


@pytest.mark.parametrize(
    ("n_active", "n_total", "granularity", "tok", "central", "pooled"),
    [
        (70e9, 70e9, 1, 2.0e12, 1.2, 1.2),  # Llama-2-70B
        (405e9, 405e9, 1, 15.6e12, 1.4, 1.4),  # Llama-3.1-405B
        (37e9, 671e9, 7, 14.8e12, 1.8, 1.8),  # DeepSeek-V3
        (72.7e9, 72.7e9, 1, 18e12, 2.6, 2.4),  # Qwen2.5-72B
        (17e9, 400e9, 1.25, 22e12, 3.0, 2.7),  # Llama-4 Maverick
        (22e9, 235e9, 5.3, 36e12, 3.1, 2.8),  # Qwen3-235B-A22B
        (32.8e9, 32.8e9, 1, 36e12, 4.4, 3.7),  # Qwen3-32B
        (8e9, 8e9, 1, 15e12, 5.2, 4.2),  # Llama-3-8B
    ],
)
def test_implied_kappa_of_public_models(n_active, n_total, granularity, tok, central, pooled):
    n_eff = n_active * quality.moe_multiplier(n_active, n_total, granularity)
    assert_allclose(balance.first_order_kappa(n_eff, tok, CENTRAL), central, rtol=0.04)
    assert_allclose(balance.first_order_kappa(n_eff, tok, POOLED), pooled, rtol=0.04)


def test_kappa_is_one_at_the_compute_optimum_and_three_in_balance():
    assert_allclose(balance.first_order_kappa(*scaling_law.compute_optimal(1e24)), 1.0, rtol=1e-9)
    assert balance.lifecycle_kappa(2.0, 2.0, 2.0) == 3.0


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_optimum_meets_the_first_order_condition_and_beats_a_grid(law):
    life = Lifecycle(1e10, 1e23, 6e10, 4e22, np.logspace(21, 25, 9), law=law)
    best = optimum.unbalanced_optimum(life)
    assert_allclose(balance.first_order_kappa(best.n_scale * 1e10, best.tok, law), best.kappa, rtol=1e-6)
    grid = optimum.lifecycle_point(np.linspace(0.01, 0.99, 400)[:, None], life)
    assert np.all(grid.total.min(axis=0) >= best.total * (1 - 1e-12))
    c_eq, _ = quality.equivalent_compute(quality.loss(best.n_scale * 1e10, best.tok, law), law)
    assert_allclose(c_eq, 1e23, rtol=1e-9)


def test_optimum_follows_the_kappa_shift():
    """With inference alone, the optimum has the size that its kappa predicts at its own 6 N D."""
    best = optimum.unbalanced_optimum(Lifecycle(1e10, 1e23, 6e10, 0.0, 1e24))
    n, _ = scaling_law.compute_optimal(best.pretrain)
    n_factor, _ = balance.kappa_shift(best.kappa)
    assert_allclose(best.n_scale * 1e10, n * n_factor, rtol=1e-6)


@pytest.mark.parametrize("elasticity", [(1.0, 1.0, 1.0), (1.0, 0.9, 0.6), (0.9, 1.0, 1.1)])
@pytest.mark.parametrize("unique_tok", [np.inf, 5e11])
def test_optimum_beats_a_grid_with_elasticities_and_a_data_wall(elasticity, unique_tok):
    life = Lifecycle(1e10, 1e23, 6e10, 1e22, np.logspace(21, 25, 5), elasticity, unique_tok)
    best = optimum.unbalanced_optimum(life)
    grid = optimum.lifecycle_point(np.linspace(0.01, 0.99, 600)[:, None], life)
    assert np.all(grid.total.min(axis=0) >= best.total * (1 - 1e-9))


@examples
@given(positive, positive, st.sampled_from(list(LAWS.values())))
def test_balance_never_beats_the_optimum(rl, inference, law):
    life = Lifecycle(1e10, 1e23, 6e10, rl * 1e22, inference * 1e22, law=law)
    assert optimum.balance_regret(life) >= 0
    assert optimum.balanced_point(life).total >= optimum.unbalanced_optimum(life).total * (1 - 1e-9)


def test_regret_is_small_where_balance_is_nearly_optimal_and_inf_without_inference():
    assert optimum.balance_regret(Lifecycle(1e10, 1e23, 6e10, 0.0, 1e23)) < 0.01
    assert optimum.balance_regret(Lifecycle(1e10, 1e23, 6e10, 0.0, 0.0)) == np.inf
    assert optimum.unbalanced_optimum(Lifecycle(1e10, 1e23, 6e10, 0.0, 0.0, unique_tok=1e6)).total == np.inf


@examples
@given(maybe_infinite, maybe_infinite, maybe_infinite, maybe_infinite, positive, st.sampled_from([0.0, 1.0]))
def test_solved_tokens_are_never_nan(price, committed, rl_price, inference, budget, rl_tok):
    given_rl = dict(committed=committed, per_rl_tok=rl_price)
    solved = [
        balance.tokens_from_budget(budget, price, **given_rl, rl_tok=rl_tok),
        balance.tokens_from_budget(budget, price, **given_rl, rl_per_pretrain_tok=rl_tok),
        balance.tokens_from_balance(inference, price),
        balance.tokens_from_balance(inference, price, per_rl_tok=rl_price),
    ]
    for tokens in solved:
        assert np.all(np.isfinite(tokens)), tokens
        assert tokens.pretrain_tok >= 0 and tokens.rl_tok >= 0
        assert (tokens.violation > 0) == (tokens.pretrain_tok == 0)


@examples
@given(positive, positive, positive, positive, positive, st.floats(1, 10), st.integers(0, 3))
def test_raising_a_price_never_buys_anything(price, serving, rl_price, rl_tok, budget, k, which):
    def quality_of(price, serving, rl_price, device_price):
        solved = balance.tokens_from_budget(
            budget * 1e8,
            price * device_price * 1e-6,
            committed=serving * device_price * 1e7,
            per_rl_tok=rl_price * device_price * 1e-6,
            rl_tok=rl_tok * 1e11,
        )
        c_eq = quality.assess(1e10, 1e10, np.maximum(solved.pretrain_tok, 1.0), weight_bits=4)["c_eq_flop"]
        return solved, c_eq

    prices = [price, serving, rl_price, 1.0]
    dearer = list(prices)
    dearer[which] *= k
    (before, c_before), (after, c_after) = quality_of(*prices), quality_of(*dearer)
    assert after.pretrain_tok <= before.pretrain_tok * (1 + 1e-9)
    assert c_after <= c_before * (1 + 1e-9)
    assert after.violation >= before.violation - 1e-12


layouts = st.lists(st.tuples(positive, st.booleans()), min_size=1, max_size=6)


@examples
@given(layouts, layouts, st.floats(1, 10), st.integers(0, 5))
def test_balance_counts_cheapest_layouts_so_waste_buys_nothing(training, serving, k, which):
    """Making any layout but the cheapest dearer changes neither the ratio nor the tokens."""

    def amounts(options):
        usd, feasible = (np.array(column) for column in zip(*options, strict=True))
        return usd, feasible.astype(bool)

    (train_usd, train_ok), (serve_usd, serve_ok) = amounts(training), amounts(serving)
    per_tok, serve = balance.cheapest(train_usd, train_ok), balance.cheapest(serve_usd, serve_ok)
    before = balance.tokens_from_balance(serve, per_tok)
    wasteful = which % len(serve_usd)
    if serve_ok[wasteful] and serve_usd[wasteful] == serve:
        return
    dearer = serve_usd.copy()
    dearer[wasteful] *= k
    after = balance.tokens_from_balance(balance.cheapest(dearer, serve_ok), per_tok)
    assert after == before


@examples
@given(positive, positive, positive, st.floats(1, 100))
def test_balance_in_flop_knows_no_price_and_a_common_price_cancels_in_usd(n, demand, per_tok, k):
    phases = balance.compute(n * 1e9, in_tok=demand * 1e12, out_tok=demand * 1e12)
    tokens = balance.tokens_from_balance(phases.inference, 6 * n * 1e9)
    assert_allclose(tokens.pretrain_tok, 4 * demand * 1e12 / 6, rtol=1e-9)
    usd, dearer = (balance.tokens_from_balance(demand * x, per_tok * x) for x in (1.0, k))
    assert_allclose(dearer.pretrain_tok, usd.pretrain_tok, rtol=1e-9)


def test_budget_with_rl_as_large_as_pretraining():
    per_pretrain, per_rl = 5e-6, 2e-5
    solved = balance.tokens_from_budget(100e6, per_pretrain, committed=20e6, per_rl_tok=per_rl, rl_per_pretrain_tok=per_pretrain / per_rl)
    assert_allclose(solved.pretrain_tok * per_pretrain, solved.rl_tok * per_rl)
    assert_allclose(solved.pretrain_tok * per_pretrain, 40e6)


def test_budget_of_a_fixed_fleet():
    tok_per_s = 512 * 9000.0
    solved = balance.solve_tokens("budget", balance.device_seconds(512, 90), 512 / tok_per_s)
    assert_allclose(solved.pretrain_tok, tok_per_s * 90 * 86400)


@examples
@given(positive, st.floats(0.1, 3.0), st.sampled_from(sorted(quality.WEIGHT_FORMATS)))
def test_min_cost_tokens_reach_the_target_or_say_by_how_much_not(size, ln_gap, fmt):
    n, form = size * 1e10, quality.WEIGHT_FORMATS[fmt]
    c_quant = quality.quant_coefficient(form.weight_bits, form.c_fmt)
    best = quality.assess(n, n, 1e22, weight_bits=form.weight_bits, c_fmt=form.c_fmt)["c_eq_flop"]
    for target in (best * np.exp(-ln_gap), best * np.exp(ln_gap)):
        solved = balance.solve_tokens("min_cost", n, target, n_active=n, c_quant=c_quant)
        assert_allclose(solved.violation, np.log(target / best), rtol=1e-6, atol=1e-6)
        assert (solved.pretrain_tok > 0) == (target < best)


def test_modes_cover_the_design_page():
    assert set(balance.TOKEN_MODES) == {"fixed", "budget", "balance", "min_cost"}
    assert float(balance.solve_tokens("fixed", 1e12, rl_tok=1e10).rl_tok) == 1e10
