"""Statistics against independent ones, on errors whose answer is known."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from scipy.stats import kendalltau

from codesign.evidence import baselines, score, spread
from codesign.evidence.case import Case
from codesign.evidence.contrasts import contrasts, speedups
from codesign.evidence.predict import Prediction
from codesign.evidence.rows import Row
from codesign.evidence.spread import Residual
from codesign.evidence.validation import Line, Validation


def line(err, number=0, group="g", measured=10.0, tp=1, is_moe=False, metric="tpot_ms", **cells):
    phase = "train" if metric == "tokens_per_s_per_gpu" else "e2e"
    cells = {"isl": 100, "osl": 100, "source": f"source of {group}", "model": "m", **cells}
    case = Case(
        Row(f"r{number}", number, cells),
        phase,
        cells["model"],
        cells.get("chip", "h100_sxm"),
        "vllm",
        "bf16",
        is_moe,
        (),
        {metric: measured},
    )
    scenario = {"n_tp": tp, "n_dp": 1, "n_pp": 1}
    prediction = Prediction({metric: measured * exp(err)}, scenario, {"train": {"mfu_frac": 0.5 * exp(err)}})
    return Line(f"r{number}", phase, group, metric, measured, measured * exp(err), measured * exp(err - 0.2), measured * exp(err + 0.2), err,
                baseline_err=2 * err, case=case, prediction=prediction)  # fmt: skip


def validation(lines, kind="inference"):
    return Validation(kind, "here.csv", len(lines), tuple(lines), 1.0)


def test_record_pools_rows_or_counts_every_group_once():
    lines = [line(0.01, i, "large") for i in range(20)] + [line(0.5, 20, "a"), line(-0.3, 21, "b")]
    pooled, balanced = score.record(lines, "all"), score.record(lines, "all", balanced=True)
    assert pooled["median_abs_err"] == pytest.approx(0.01) and balanced["median_abs_err"] == pytest.approx(0.3)
    assert balanced["median_bias"] == pytest.approx(0.01) and balanced["n_groups"] == 3
    assert pooled["coverage"] == pytest.approx(20 / 22) and balanced["coverage"] == pytest.approx(1 / 3)
    assert pooled["median_log_width"] == pytest.approx(0.4)


def test_weighted_quantile_is_that_of_repeated_values():
    values = [0.4, 0.1, 0.9, 0.2]
    assert score.quantile(values, 0.5) == pytest.approx(np.quantile(values, 0.5))
    assert score.quantile(values, 1.0) == 0.9 and score.quantile([3.0], 0.9) == 3.0
    assert score.quantile([1.0, 9.0], 0.9, [1e6, 1.0]) == pytest.approx(1.0, abs=8)


def test_tau_is_that_of_scipy_without_near_ties():
    rng = np.random.default_rng(1)
    measured, predicted = np.log(1.2) * rng.permutation(12), rng.normal(size=12)
    predicted[3] = predicted[7]
    tau, n_pairs = score.kendall(measured, predicted)
    assert n_pairs == 66 and tau == pytest.approx(kendalltau(measured, predicted).statistic)


def test_pairs_within_five_percent_are_not_ordered():
    tau, n_pairs = score.kendall(np.log([1.0, 1.04, 2.0, 2.08]), np.log([2.0, 1.0, 4.0, 3.0]))
    assert (tau, n_pairs) == (1.0, 4)
    assert score.kendall(np.log([1.0, 1.01]), np.array([0.0, 1.0])) == (0.0, 0)


def test_sweeps_have_four_rows_and_weigh_by_pairs():
    good = [line(0.0, i, measured=2.0**i) for i in range(6)]
    bad = [line(-2 * log(2.0**i), 10 + i, measured=2.0**i, osl=7) for i in range(4)]
    few = [line(0.0, 20 + i, measured=2.0**i, osl=9) for i in range(3)]
    found = score.sweeps([*good, *bad, *few])
    assert [(s["n_pairs"], s["kendall_tau"]) for s in found] == [(15, 1.0), (6, -1.0)]
    assert score.mean_tau(found) == pytest.approx(9 / 21) and score.mean_tau([]) is None


def test_one_constant_mfu_is_the_middle_of_its_groups_and_errs_by_the_rest():
    lines = [line(0.3, i, f"g{i}", metric="tokens_per_s_per_gpu") for i in range(3)]
    lines[2] = replace(lines[2], prediction=Prediction({}, {}, {"train": {"mfu_frac": 1.0 * exp(0.3)}}))
    mfu = baselines.constant_mfu(lines)
    assert mfu == {"dense 16-bit": pytest.approx(0.5)}  # measured MFU 0.5, 0.5, 1.0 whatever was predicted
    errors = baselines.mfu_errors(lines, mfu)
    assert errors["r0"] == pytest.approx(0.0) and errors["r2"] == pytest.approx(log(0.5))
    left = baselines.left_out_errors(lines)
    assert left["r0"] == pytest.approx(0.5 * log(2.0)) and left["r2"] == pytest.approx(log(0.5))
    assert baselines.left_out_errors(lines[:1]) == {}


def test_tp_speedups_match_all_but_tp():
    lines = [line(0.0, 1, tp=1, measured=16.0, batch_or_concurrency=8), line(0.1, 2, tp=2, measured=10.0, batch_or_concurrency=8),
             line(0.9, 3, tp=2, measured=9.0, batch_or_concurrency=64)]  # fmt: skip
    (found,) = speedups(validation(lines))
    assert (found["doubling"], found["n"], found["measured"]) == ("TP1 -> TP2", 1, pytest.approx(1.6))
    assert found["median_abs_err"] == pytest.approx(0.1) and found["roofline_median_abs_err"] == pytest.approx(0.2)


def test_contrasts_are_ratios_of_token_rates():
    a = replace(line(0.3, metric="tokens_per_s_per_gpu", measured=100.0), id="fms-llama2-7b-a100")
    b = replace(line(0.5, metric="tokens_per_s_per_gpu", measured=200.0), id="fms-llama2-7b-h100")
    (found,) = contrasts(validation([a, b], "training"))
    assert found["measured"] == pytest.approx(2.0) and found["predicted"] == pytest.approx(2.0 * exp(0.2)) and not found["within"]


def simulated(n_chips=40, n_models=10, shared=0.2, own=0.1, seed=3):
    rng = np.random.default_rng(seed)
    return [
        Residual("decode", "dense", "tables", f"c{c}", f"m{m}", f"s{c % 7}", f"{c} {m}", offset + rng.normal(0.0, own))
        for c, offset in enumerate(rng.normal(0.0, shared, n_chips))
        for m in range(n_models)
    ]


def test_spread_finds_the_shared_and_the_own_part():
    found, n, n_groups = spread.fit(simulated())["decode", "dense", "tables"]
    assert (n, n_groups) == (400, 400)
    assert found.shared == pytest.approx(0.2, rel=0.25) and found.own == pytest.approx(0.1, rel=0.15)


def test_thin_cells_borrow_and_priors_widen():
    table = spread.fit(simulated())
    same, priors = table["decode", "moe", "tables"][0], table["decode", "dense", "priors"][0]
    assert same.total == pytest.approx(table["decode", "dense", "tables"][0].total)
    assert priors.total == pytest.approx(1.5 * same.total)


def test_left_out_coverage_of_simulated_errors_is_eighty_percent():
    rows = simulated()
    for by in ("chip", "model", "source"):
        found = spread.coverage(rows, by)
        assert found["coverage_low"] <= 0.8 <= found["coverage_high"] and found["width_over_error"] < 4.5
    assert spread.coverage(rows, "chip")["n_groups"] == 40
    low, high = spread.bootstrap(np.array([1.0, 1.0, 0.0, 0.0]), [[0, 1], [2, 3]])
    assert (low, high) == (0.0, 1.0)  # two groups: nothing is known about the share
