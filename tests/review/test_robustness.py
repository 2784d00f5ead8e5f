"""Robustness against what must hold whatever the numbers: certainty, symmetry, reproducibility, brute force on small cases."""

from __future__ import annotations

import time

import numpy as np
import pytest

from codesign import robustness
from codesign.assumptions import alike, draw, sources_of
from codesign.decision import decide
from codesign.rescore import points_of


@pytest.fixture(scope="module")
def sampled(small):
    return robustness.sample(small.study, small.run, 200)


def test_without_uncertainty_every_point_stays_and_nothing_is_regretted(certain):
    found = robustness.sample(certain.study, certain.run, 5)
    assert not found.sources
    front = robustness.on_front(found.values, found.holds)
    assert front.all() and found.holds.all()
    assert robustness.regret(found).max() == pytest.approx(0.0, abs=1e-9)
    answer = decide(certain.study, certain.run, 5)
    for pick in answer["picks"]:
        assert pick["p_front"] == 1.0 and not pick["leaves_front"] and not pick["flips"]
        assert pick["debiased"] == pytest.approx(pick["predicted"])
    assert answer["measurements"] == []


def test_sources_are_measured_errors_and_stated_doubts(small, sampled):
    names = {s.name for s in sampled.sources}
    assert {"demand", "utilisation", "quality law", "quality of each design", "decode time of each design"} <= names
    assert any(n.startswith("decode time on ") for n in names) and any(n.startswith("price of ") for n in names)
    points = points_of(small.study.problem, small.run.front.to_dict("records"))
    used = np.asarray(points.designs.values["hardware.serve"], dtype=str)
    for source in sources_of(small.study, points):
        if source.name.startswith("decode time on "):
            assert (source.sigma["time.decode"][used != source.hardware] == 0).all()


def test_draws_have_unit_variance_and_the_stated_correlation(sampled):
    own = next(s for s in sampled.sources if s.name == "quality of each design")
    z = draw([own], 4000, 3)[0][:, own.group]
    assert z.std(axis=0) == pytest.approx(np.ones(z.shape[1]), abs=0.06)
    measured = np.corrcoef(z.T)[0]
    assert measured == pytest.approx(alike(own, 0), abs=0.2)
    same = own.group == own.group[0]
    assert measured[same] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_samples(small, sampled):
    again = robustness.sample(small.study, small.run, 200)
    assert np.array_equal(again.values, sampled.values) and np.array_equal(again.holds, sampled.holds)


def test_front_of_a_sample_is_that_of_brute_force(sampled):
    front = robustness.on_front(sampled.values[:20], sampled.holds[:20])
    for s in range(20):
        values, holds = sampled.values[s], sampled.holds[s]
        for p in range(sampled.points.n):
            dominated = any(holds[q] and (values[q] <= values[p]).all() and (values[q] < values[p]).any() for q in range(sampled.points.n))
            assert front[s, p] == (holds[p] and not dominated)


def test_regret_of_two_points_by_hand(sampled):
    from dataclasses import replace

    two = np.array([[[0.0, 0.0], [0.3, 0.0]]])  # the second is 0.3 worse in the first objective and equal in the other
    case = replace(sampled, values=two, holds=np.ones((1, 2), bool), base=two[0])
    assert robustness.regret(case) == pytest.approx(np.array([[0.0, 0.0], [0.3, 0.0]]))


def test_optimism_of_a_pick_grows_with_noise_and_has_the_right_sign():
    rng = np.random.default_rng(0)
    from types import SimpleNamespace

    base = np.zeros((30, 2))
    values = rng.normal(0.0, 0.2, (4000, 30, 2))
    case = SimpleNamespace(values=values, base=base, n=4000, points=SimpleNamespace(n=30))
    optimism, share = robustness.debias(case, np.ones((4000, 30), bool), 0)
    expected = -0.2 * 2.043  # mean of the largest of 30 standard normals
    assert optimism[0] == pytest.approx(expected, rel=0.05) and abs(optimism[1]) < 0.02
    assert share.sum() == pytest.approx(1.0)


def test_knowing_what_decides_is_worth_all_and_knowing_noise_nothing():
    from types import SimpleNamespace

    rng = np.random.default_rng(0)
    z = rng.standard_normal((3000, 1))
    values = np.stack([np.concatenate([z, -z], axis=1)], axis=2)  # two points, one objective: the better one is decided by z
    shared = SimpleNamespace(group=np.zeros(2, int))
    case = SimpleNamespace(values=values, base=np.array([[0.0], [1.0]]), holds=np.ones((3000, 2), bool), n=3000,
                           sources=[shared, shared], draws=[z, rng.standard_normal((3000, 1))])  # fmt: skip
    regret, shares = robustness.worth_of_knowing(case, 0)
    assert regret > 0.3 and shares[0] == pytest.approx(1.0, abs=0.1) and shares[1] < 0.02


def test_a_limit_on_the_edge_is_broken_in_half_of_the_samples(small):
    """A TTFT ceiling exactly at the prediction holds in about half of the samples."""
    from dataclasses import replace

    points = points_of(small.study.problem, small.run.front.to_dict("records")[:1])
    tight = replace(points, setting=replace(points.setting, max_ttft_s=float(small.run.front["ttft_s"].iloc[0])))
    sources = sources_of(small.study, tight)
    from codesign.assumptions import factors_of

    factors = {k: v.ravel() for k, v in factors_of(sources, draw(sources, 2000, 0)).items()}
    _, holds = robustness.scored(tight, np.zeros(2000, int), factors)
    assert 0.35 < holds.mean() < 0.65


def test_two_hundred_points_and_two_thousand_samples_take_seconds(small):
    """The bar is 20 s; CPU seconds, because the machine may be shared."""
    rows = small.run.front.to_dict("records")
    points = points_of(small.study.problem, (rows * (200 // len(rows) + 1))[:200])
    sources = sources_of(small.study, points)
    from codesign.assumptions import factors_of

    start = time.process_time()
    factors = {k: v.ravel() for k, v in factors_of(sources, draw(sources, 2000, 0)).items()}
    robustness.scored(points, np.tile(np.arange(200), 2000), factors)
    assert time.process_time() - start < 20.0


def test_decision_names_five_picks_with_reasons(small):
    answer = decide(small.study, small.run, 100)
    assert [p["name"] for p in answer["picks"]] == ["knee", "cheapest", "fastest", "best quality", "most robust"]
    for pick in answer["picks"]:
        assert pick["reason"] and pick["gives_up"] and pick["neighbours"]
        assert 0.0 <= pick["p_front"] <= pick["p_holds"] <= 1.0
        assert pick["leaves_front"] == (pick["p_front"] < 0.5)
    robust = answer["picks"][-1]
    assert robust["p_front"] == max(p["p_front"] for p in answer["points"])
    assert all(m["removes_frac"] >= 0 for m in answer["measurements"])
