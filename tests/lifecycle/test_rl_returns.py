"""What RL returns: the published curve, its ceiling, no quality for free, and where nothing is ranked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import catalog
from codesign.life_point import quality_point
from codesign.lifecycle import rl_returns
from codesign.lifecycle.rl_returns import MOST_ROLLOUTS, ReturnCurve, cannot_rank, gain_frac, pass_frac, reasoning_size
from codesign.search import exhaustive
from codesign.spec.errors import SpecError
from studies import study

examples = settings(max_examples=60, deadline=None)
sizes = st.floats(9, 12).map(lambda x: 10**x)
rollouts = st.floats(0, 8).map(lambda x: 10**x)
more = st.floats(1.0, 20.0)
curves = st.builds(ReturnCurve, st.floats(0.05, 0.4), st.floats(0.45, 0.95), st.floats(0.5, 3), st.floats(1e5, 1e7))


def of_model(name: str, tok: float, rl_tok: float | None = None):
    given_ = {"pretrain_tok": tok, "unique_tok": None, "weight_format": None, "train_precision": "bf16", "rl_tok": rl_tok}
    return quality_point(catalog.load("models", name)["architecture"], {"weight_bits": 16, "kv_bits": 16, "act_bits": 16}, given_)


def test_the_curve_is_the_published_one():
    """arXiv 2510.13786 Table 1: half of the gain at C_mid, A at the end; GPU-hours per rollout cancel."""
    curve = ReturnCurve()
    c = np.array([0.0, 0.5, 1.0, 2.0, 10.0]) * curve.mid_rollouts
    expected = 0.30 + (0.610 - 0.30) * np.array([0.0, *(1 / (1 + (1 / x) ** 1.92) for x in (0.5, 1, 2, 10))])
    np.testing.assert_allclose(pass_frac(curve.n_reason, c), expected, rtol=1e-12)
    assert curve.mid_rollouts == pytest.approx(2542 / 1.5 * 768, rel=2e-3)
    assert 10909 / (100e3 / 7400) * 2048 == pytest.approx(curve.mid_rollouts, rel=0.3)  # the other batch size, a check of the unit


def test_the_reference_is_the_model_it_was_measured_on():
    q = of_model("llama-3.1-8b", 15e12)
    assert np.exp(q["q_reason"]) == pytest.approx(ReturnCurve().n_axis, rel=2e-3)
    assert q["n_reason"] == pytest.approx(ReturnCurve().n_reason, rel=2e-3)


def test_the_ceiling_of_a_mixture_it_has_not_seen():
    """Llama 4 Scout: A = 0.710 in Table 1, with +- 0.02 between repeated runs; nothing was fitted to it."""
    q = of_model("llama-4-scout-17b-16e", 40e12)
    assert float(pass_frac(q["n_reason"], 1e12)) == pytest.approx(0.710, abs=0.02)


@examples
@given(sizes, rollouts, more, curves)
def test_rl_helps_ever_less_and_never_beyond_the_ceiling(n, c, k, curve):
    one, other = pass_frac(n, np.array([c, c * k]), curve)
    ceiling = float(pass_frac(n, 1e300, curve))
    assert float(pass_frac(n, 0.0, curve)) <= one <= other + 1e-12 <= ceiling + 1e-9 < 1.0
    assert 0.0 <= float(gain_frac(c, curve)) < 1.0


@examples
@given(sizes, rollouts, more, curves)
def test_a_better_base_is_never_worse_and_rl_cannot_replace_it(n, c, k, curve):
    assert pass_frac(n * k, c, curve) >= pass_frac(n, c, curve) - 1e-12
    assert pass_frac(n, 1e300, curve) <= pass_frac(n * k, 1e300, curve) + 1e-12


@examples
@given(st.floats(20, 27), st.floats(10, 13.5).map(lambda x: 10**x), more)
def test_reasoning_size_rises_with_parameters_and_tokens(q, tok, k):
    base = reasoning_size(q, tok)
    assert reasoning_size(q + np.log(k), tok) >= base
    assert reasoning_size(q, tok * k) >= base


def test_no_pretraining_is_no_reasoning(tmp_path):
    changes = {
        "lifecycle": {"pretrain_tok": "1 ktok", "rl_tok": "100 Gtok"},
        "objectives": {"rl_pass_frac": "maximize", "lifecycle_usd": "minimize"},
    }
    out = exhaustive.run(study(tmp_path, changes).problem)
    assert not len(out.front_index)
    assert sum(out.killed.values()) == out.n_designs


def test_a_study_pays_for_what_rl_returns(tmp_path):
    changes = {
        "lifecycle": {"pretrain_tok": "6 Ttok"},
        "space": {"architecture.n_layers": [32, 48], "lifecycle.rl_tok": ["0 tok", "10 Gtok", "100 Gtok", "1 Ttok"]},
        "objectives": {"rl_pass_frac": "maximize", "lifecycle_usd": "minimize"},
    }
    out = exhaustive.run(study(tmp_path, changes).problem)
    front = out.front
    order = np.argsort(front["rl_pass_frac"])
    assert np.all(np.diff(front["lifecycle_usd"][order]) > 0)
    assert front["rl_tok"].max() / 8192 <= MOST_ROLLOUTS
    assert out.killed == {"RL return": 2}  # 1 Ttok in 8,192-token answers is beyond what was measured
    bound = exhaustive.run(study(tmp_path, changes | {"constraints": {"rl_gain_frac": ">= 0.5"}}).problem)
    assert np.all(bound.front["rl_gain_frac"] >= 0.5) and bound.killed["rl_gain_frac"] == 4


def test_what_nobody_measured_is_not_ranked():
    assert cannot_rank(2.7e10, MOST_ROLLOUTS) == 0 and cannot_rank(2.7e10, 1.01 * MOST_ROLLOUTS) > 0
    assert cannot_rank(1e9, 1e6) > 0 and cannot_rank(1e13, 1e6) > 0 and np.isfinite(cannot_rank(0.0, 0.0))
    q = of_model("llama-3.1-8b", 15e12, 1e13)
    assert q["rl_pass_frac"] is None and "45 million" in q["rl_cannot_rank"][0]
    assert round(MOST_ROLLOUTS / 1e6) == 45 and rl_returns.SIZES == (0.5e9, 200e9)  # the numbers that the message names


def test_a_curve_that_falls_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"would lower the pass rate from 0.7 to 0.61"):
        study(tmp_path, {"lifecycle": {"pretrain_tok": "2 Ttok", "rl": {"returns": {"start": 0.7}}}})
