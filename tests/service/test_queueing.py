"""Waits and lengths against event simulations and Monte Carlo: seeds fixed, tolerances a few standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.point import evaluate_point
from codesign.service import batching, queueing
from codesign.service.traffic import Traffic, held_tokens, mean_context
from codesign.spec.errors import UserError


def simulate(interval_s, prefill_s, busy, cv, n=60_000, servers=1, seed=0):
    """Time to first token of n requests: wait for the next departure, for a free server in order of arrival, then the own prefill."""
    rng = np.random.default_rng(seed)
    s = np.sqrt(np.log1p(cv**2))
    own = prefill_s * np.exp(s * rng.standard_normal(n) - 0.5 * s**2)
    arrivals = np.cumsum(rng.exponential(prefill_s / (busy * servers), n))
    free, queue = np.zeros(servers), np.empty(n)
    for i in range(n):
        first = int(np.argmin(free))
        start = max(arrivals[i], free[first])
        queue[i], free[first] = start - arrivals[i], start + own[i]
    return rng.uniform(0, interval_s, n) + queue + own, queue


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("cv", [0.0, 1.0])
def test_ttft_percentiles_match_an_event_simulation(busy, cv):
    total, queue = simulate(0.03, 0.1, busy, cv)
    mean = queueing.mean_wait_s(0.1, busy, 1.0, cv)
    assert mean == pytest.approx(np.mean(queue), rel=0.12, abs=1e-3)
    for level in (0.5, 0.9, 0.99):
        found = queueing.ttft_quantile(level, 0.03, mean, queueing.waits_probability(busy), 0.1, cv)
        assert found == pytest.approx(np.quantile(total, level), rel=0.20 if level == 0.99 else 0.10), (busy, cv, level)


def test_many_servers_wait_as_in_a_simulation():
    _, queue = simulate(0.03, 0.1, 0.8, 0.0, servers=8)
    assert queueing.mean_wait_s(0.1, 0.8, 8.0) == pytest.approx(np.mean(queue), rel=0.25)
    assert queueing.waits_probability(0.8, 8.0) == pytest.approx(np.mean(queue > 1e-12), abs=0.15)


def test_tpot_percentiles_match_a_simulation():
    rng = np.random.default_rng(1)
    n_steps, step_s, prefill_s, per_step = 400, 0.02, 0.2, 0.05
    tpot = step_s + prefill_s * rng.poisson(per_step, (4000, n_steps)).mean(axis=1)
    for level in (0.5, 0.9, 0.99):
        found = queueing.tpot_quantile(level, step_s, per_step * prefill_s, prefill_s, n_steps)
        assert found == pytest.approx(np.quantile(tpot, level), rel=0.03)


def test_percentiles_rise_with_level_load_and_spread():
    def ttft(level=0.9, busy=0.5, cv=0.5):
        mean = queueing.mean_wait_s(0.1, busy, 1.0, cv)
        return float(queueing.ttft_quantile(level, 0.03, mean, queueing.waits_probability(busy), 0.1, cv))

    for name, values in (("level", (0.5, 0.9, 0.99)), ("busy", (0.1, 0.5, 0.9)), ("cv", (0.0, 0.5, 1.5))):
        found = [ttft(**{name: v}) for v in values]
        assert found == sorted(found) and found[0] < found[-1], name


def test_a_train_that_leaves_later_serves_more():
    """A departure every T with fixed time t0 carries (T - t0)/b sequences: simulated as a loop over departures."""
    for interval_s in (0.01, 0.02, 0.05):
        carried = [(interval_s - 0.005) / 1e-4 for _ in range(10)]
        assert queueing.departure_load(interval_s, 0.005, 1e-4) == pytest.approx(np.sum(carried) / (10 * interval_s) * 1e-4)


def traffic(kind: str, cv: float = 1.0) -> Traffic:
    return Traffic(*(np.float64(v) for v in (512, 256, 256, 256 * cv, 0, 1, 1, 1, 1)), batching=np.float64(batching.KINDS[kind]))


@pytest.mark.parametrize("n", [1, 8, 64])
@pytest.mark.parametrize("cv", [0.3, 1.0])
def test_longest_of_a_batch_is_that_of_random_draws(n, cv):
    rng = np.random.default_rng(2)
    s = np.sqrt(np.log1p(cv**2))
    drawn = 256 * np.exp(s * rng.standard_normal((20_000, n)) - 0.5 * s**2)
    assert batching.longest_tok(256.0, 256.0 * cv, float(n)) == pytest.approx(drawn.max(axis=1).mean(), rel=0.02)


def test_static_batches_in_a_simulation():
    """Useful tokens per step of padded batches: a batch ends with its longest answer."""
    rng = np.random.default_rng(3)
    s = np.sqrt(np.log(2.0))
    answers = 256 * np.exp(s * rng.standard_normal((5000, 16)) - 0.5 * s**2)
    useful = answers.sum() / (16 * answers.max(axis=1).sum())
    assert batching.useful_share(traffic("static"), np.float64(16)) == pytest.approx(useful, rel=0.02)


def test_pages_hold_less_than_reservations_and_padding_most_context():
    held = {kind: float(held_tokens(traffic(kind), np.float64(32))) for kind in batching.KINDS}
    assert held["paged"] < held["contiguous"] and held["paged"] < held["static"]
    assert mean_context(traffic("static"), np.float64(32)) > mean_context(traffic("paged"), np.float64(32))


CASE = {"model": "llama-2-13b", "accelerator": "a100_40g_sxm", "isl": 161, "osl": 338, "isl_cv": 1.0, "osl_cv": 1.0}


def test_paged_serves_more_than_contiguous_more_than_static():
    found = {r["name"]: r["tok_per_s"] for r in evaluate_point(CASE | {"phase": "batching"})["batching"]}
    assert found["paged"] > found["contiguous"] > 0 and found["paged"] > 2 * found["static"] > 0
    even = {r["name"]: r["tok_per_s"] for r in evaluate_point(CASE | {"phase": "batching", "isl_cv": 0.0, "osl_cv": 0.0})["batching"]}
    assert even["paged"] / even["static"] < found["paged"] / found["static"]


def test_service_phase_reports_percentiles_in_order():
    asked = {"model": "llama-3.1-70b", "accelerator": "h200_sxm", "n_tp": 4, "batch": 64, "isl": 2048, "osl": 512, "phase": "prefill,decode,service"}
    found = evaluate_point(asked)["service"]
    assert found["ttft_p50_s"] < found["ttft_p90_s"] < found["ttft_p99_s"] and found["tpot_p50_s"] < found["tpot_p99_s"]
    more = evaluate_point(asked | {"batch": 128})["service"]
    assert more["prefill_busy_frac"] > found["prefill_busy_frac"] and more["ttft_p99_s"] > found["ttft_p99_s"]
    with pytest.raises(UserError, match="needs prefill and decode"):
        evaluate_point(asked | {"phase": "service"})
