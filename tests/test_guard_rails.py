"""Guard rails against the optimiser: nothing that costs more, or is worse, may improve what a study finds."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from codesign import catalog
from codesign.search import exhaustive
from codesign.spec.errors import SpecError
from studies import SMALL, study


def points(problem) -> tuple[np.ndarray, int]:
    """(front objectives, all minimised; number of feasible designs)."""
    out = exhaustive.run(problem)
    signs = [-1.0 if o.direction == "maximize" else 1.0 for o in problem.objectives]
    names = [o.name for o in problem.objectives]
    if not len(out.front_index):
        return np.zeros((0, len(names))), 0
    return np.stack([out.front[n] * s for n, s in zip(names, signs, strict=True)], axis=1), out.n_feasible_designs


def assert_no_better(worse: np.ndarray, base: np.ndarray) -> None:
    """Every point of `worse` is matched or beaten in every objective by a point of `base`."""
    for point in worse:
        tolerance = 1e-9 * np.abs(point)
        assert np.any(np.all(base <= point + tolerance, axis=1)), point


LIVES = {
    "budget": SMALL["lifecycle"],
    "balance of usd": {"pretrain_tok": {"solve": "balance"}, "rl_tok": {"solve": "balance"}, "balance": {"of": "usd", "max_ratio": 4}, "unique_tok": "20 Ttok"},
    "min cost": {"pretrain_tok": {"solve": "min_cost", "quality": "1e23 FLOP"}},
}  # fmt: skip


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("prices", [{"h100_sxm": "9 USD/h"}, {"mi300x": "9 USD/h"}])
def test_a_higher_price_never_improves_anything(life, prices, tmp_path):
    cost = {"lifecycle": LIVES[life], "objectives": {"c_eq_flop": "maximize", "lifecycle_usd": "minimize", "tpot": "minimize"}}
    base, n_base = points(study(tmp_path, cost).problem)
    dearer, n_dearer = points(study(tmp_path, {**cost, "prices": prices}).problem)
    assert len(base)
    assert n_dearer <= n_base
    assert_no_better(dearer, base)


def weaker_chip(folder, **changes) -> str:
    """H100 as a user's own file, with some figures replaced."""
    chip = {
        "name": "weaker", "vendor": "NVIDIA", "year": 2022, "source": "test", "date": "2026-01", "confidence": "estimate", "like": "h100_sxm",
        "peak": {"bf16": "989 TFLOP/s", "fp8": "1979 TFLOP/s"}, "hbm": {"capacity": "80 GB", "bandwidth": "3.35 TB/s"},
        "scale_up": {"bandwidth": "450 GB/s", "size": 8, "topology": "switch"}, "scale_out": {"bandwidth": "50 GB/s"},
        "power": {"tdp": "700 W"}, "price": {"rent": "2 USD/h"},
    }  # fmt: skip
    for key, value in changes.items():
        head, leaf = key.split("_", 1)
        chip[head] = {**chip[head], leaf: value}
    path = folder / f"chip-{'-'.join(changes) or 'base'}.yaml"
    path.write_text(yaml.safe_dump(chip), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("change", [{"hbm_bandwidth": "1.5 TB/s"}, {"hbm_capacity": "60 GB"}, {"peak_bf16": "500 TFLOP/s"}])
@pytest.mark.parametrize("pool", ["train", "serve"])
def test_a_weaker_chip_never_improves_anything(change, pool, tmp_path):
    fixed = {"lifecycle": {"pretrain_tok": "2 Ttok", "rl_tok": "0.1 Ttok"}}
    space = {k: v for k, v in SMALL["space"].items() if k != "hardware.serve"}
    other = {"train": "h100_sxm_node", "serve": "h100_sxm_node"}
    full = {**fixed, "space": space, "hardware": {**other, pool: weaker_chip(tmp_path)}}
    weak = {**fixed, "space": space, "hardware": {**other, pool: weaker_chip(tmp_path, **change)}}
    base, n_base = points(study(tmp_path, full).problem)
    worse, n_worse = points(study(tmp_path, weak).problem)
    assert n_worse <= n_base
    assert_no_better(worse, base)


def test_a_smaller_domain_on_the_same_rack_is_never_faster(tmp_path):
    change = {"hardware": {"train": "h100_sxm_node", "serve": "gb200_nvl72"}, "lifecycle": {"pretrain_tok": "2 Ttok"},
              "space": {"architecture.n_layers": [48]}, "layout": {**SMALL["layout"], "serve": {"n_tp": [1], "n_dp": [1, 16], "n_pp": [1], "batch": [8, 128]}},
              "objectives": {"tpot": "minimize", "usd_per_mtok": "minimize"}}  # fmt: skip
    base, _ = points(study(tmp_path, {**change, "space": {**change["space"], "serve.scale_up_size": [72]}}).problem)
    small, _ = points(study(tmp_path, {**change, "space": {**change["space"], "serve.scale_up_size": [8]}}).problem)
    assert base[:, 0].min() <= small[:, 0].min()


def test_no_unbounded_batch(tmp_path):
    """More sequences than memory holds are infeasible, at the 99th percentile of occupancy."""
    huge = {**SMALL["layout"], "serve": {"n_tp": [1], "n_dp": [1], "n_pp": [1], "batch": [100_000]}}
    problem = study(tmp_path, {"layout": huge}).problem
    out = exhaustive.run(problem)
    assert not len(out.front_index)
    assert out.killed == {"serve memory": out.n_designs}


def test_counts_are_integers(tmp_path):
    front = exhaustive.run(study(tmp_path).problem).front
    for name, values in front.items():
        if ("." in name and name.split(".")[-1].startswith("n_")) or name in ("serve_devices", "train_devices"):
            assert np.all(values == np.round(values)), name


def test_quality_does_not_depend_on_layout_batch_or_rack(tmp_path):
    front = exhaustive.run(study(tmp_path, {"lifecycle": {"pretrain_tok": "2 Ttok"}}).problem).front
    for design in np.unique(front["design_id"]):
        assert np.unique(front["c_eq_flop"][front["design_id"] == design]).size == 1


def test_every_shipped_accelerator_with_a_peak_gets_finite_rates():
    from codesign.scenario import make_chip

    for name in catalog.names("accelerators"):
        if catalog.load("accelerators", name).get("not_evaluable"):
            continue
        for engine in ("ideal", "generic", "vllm"):
            chip = make_chip(name, engine)
            for value in (
                *vars(chip.peak_flop_per_s).values(),
                chip.hbm_bytes_per_s,
                chip.scale_up.bytes_per_s,
                chip.scale_out.bytes_per_s,
            ):
                assert np.isfinite(value), name
                assert value > 0, name


def test_a_smaller_vocabulary_is_no_free_lunch(tmp_path):
    """Demand and training text are converted through tokens per character."""
    space = {"architecture.vocab": [2_000, 151_936]}
    problem = study(
        tmp_path,
        {"space": space, "lifecycle": {"pretrain_tok": "2 Ttok"}, "objectives": {"c_eq_flop": "maximize", "usd_per_mtok": "minimize"}},
    ).problem
    batch = problem.evaluate(np.array([[0], [1]]))
    small, large = (
        batch.points["inference_flop"][batch.design == i].min() / batch.points["n_active_params"][batch.design == i].min() for i in (0, 1)
    )
    assert small > 1.2 * large


@pytest.mark.parametrize("name", ["n_eff", "q_mixed", "q_reason", "q_know_bits", "mmlu_logit", "simpleqa_logit"])
def test_quality_that_does_not_see_tokens_is_no_objective_where_tokens_vary(name, tmp_path):
    """Else the search trains on nothing at all; beside one that sees them it may stand."""
    goals = {name: "maximize", "lifecycle_usd": "minimize"}
    with pytest.raises(SpecError, match=f"{name} ignores tokens"):
        study(tmp_path, {"objectives": goals})
    assert study(tmp_path, {"objectives": {**goals, "c_eq_flop": "maximize"}}).problem
    assert study(tmp_path, {"objectives": goals, "lifecycle": {"pretrain_tok": "2 Ttok"}}).problem


def test_benchmarks_flatten_on_a_front_where_a_constant_slope_would_not(tmp_path):
    """The readout buys less per USD than its axis does: the last logit of size is dearer than a straight line would say."""
    change = {"lifecycle": {"pretrain_tok": "2 Ttok"}, "space": {"architecture.n_layers": [16, 32, 48, 64, 96]}, "constraints": {},
              "objectives": {"mmlu_logit": "maximize", "simpleqa_logit": "maximize", "lifecycle_usd": "minimize"}}  # fmt: skip
    front = exhaustive.run(study(tmp_path, change).problem).front
    order = np.argsort(front["q_mixed"])
    q, logit = front["q_mixed"][order], front["mmlu_logit"][order]
    q, keep = np.unique(q, return_index=True)
    slopes = np.diff(logit[keep]) / np.diff(q)
    assert len(slopes) > 2 and np.all(np.diff(slopes) < 0)
    np.testing.assert_allclose(front["simpleqa_logit"] + 3.83, 0.432 * np.log(front["q_know_bits"] / 2 / 1e9), rtol=1e-9)
