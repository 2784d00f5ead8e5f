"""Shadow prices against what a roofline must answer, and against the evaluator on really changed hardware."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.run import run
from codesign.sensitivity import sensitivity
from studies import study

DENSE = {
    "version": 1, "name": "decode", "question": "test", "engine": "ideal",
    "base": {"model": "llama-3.1-8b", "precision": {"weight_bits": 16, "kv_bits": 16, "act_bits": 16}},
    "hardware": {"train": "h100_sxm_node", "serve": "h200_sxm"},
    "space": {"architecture.d_ff": [12288, 14336, 16384]},
    "layout": {"train": {"n_tp": [1], "n_pp": [1], "micro_batch": [1], "recompute": ["full"], "n_devices": [64]},
               "serve": {"n_tp": [1], "n_pp": [1], "batch": [1]}},
    "workload": {"use": "chat", "demand": "100 tok/s", "isl": "16 tok", "osl": "512 tok", "prefix": "15 tok"},
    "lifecycle": {"pretrain_tok": "1 Ttok"},
    "objectives": {"tpot": "minimize", "c_eq_flop": "maximize"},
}  # fmt: skip


@pytest.fixture(scope="module")
def bandwidth_bound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decode")
    resolved = study(folder, base=DENSE)
    result = run(resolved, folder / "out")
    return resolved, result, sensitivity(resolved, result, int(result.front["id"].iloc[0]))


def row_of(answer, name, part="resources", role="serve"):
    return next(r for r in answer[part] if r["name"] == name and (part != "resources" or role in r["roles"]))


def test_bandwidth_bound_decode_follows_the_bandwidth(bandwidth_bound):
    """Batch 1 under the bare roofline: TPOT = bytes / bandwidth but for the arithmetic of 16 prompt tokens: elasticity -1 within 2 %."""
    kept = row_of(bandwidth_bound[2], "HBM bandwidth")["kept"]["tpot_s"]
    assert np.log1p(kept) / np.log(1.1) == pytest.approx(-1.0, abs=0.02)
    assert row_of(bandwidth_bound[2], "16-bit peak")["kept"]["tpot_s"] == pytest.approx(0.0, abs=2e-3)
    assert row_of(bandwidth_bound[2], "HBM bandwidth")["kept"]["c_eq_flop"] == 0.0


def test_nothing_in_serving_hears_of_the_training_chip(bandwidth_bound):
    for row in bandwidth_bound[2]["resources"]:
        if row["roles"] == ["train"]:
            assert row["kept"]["tpot_s"] == 0.0


def test_quality_rises_and_speed_falls_with_width(bandwidth_bound):
    steps = [s for s in bandwidth_bound[2]["architecture"] if s["to"] > s["from"]]
    assert steps and all(s["elasticity"]["c_eq_flop"] > 0 and s["elasticity"]["tpot_s"] > 0 for s in steps)


def test_kept_and_anew_agree_with_a_study_on_the_changed_machine(tmp_path, small):
    """+10 % HBM bandwidth by `sensitivity` against the whole pipeline on a derived accelerator."""
    front = small.run.front
    row = front[front["hardware.serve"] == "mi300x_node"].iloc[0]  # it does not train too, so a derived serving chip is the same change
    hardware = row["hardware.serve"]
    answer = sensitivity(small.study, small.run, int(row["id"]))
    faster = study(tmp_path, {"space": {
        "architecture.n_layers": [int(row["architecture.n_layers"])], "architecture.n_experts": [int(row["architecture.n_experts"])],
        "precision.weight_bits": [int(row["precision.weight_bits"])],
        "hardware.serve": [f"{hardware} with hbm_bandwidth=1.1"]}})  # fmt: skip
    batch = faster.problem.evaluate(np.zeros((1, 4), dtype=np.int64))
    found = next(r for r in answer["resources"] if r["name"] == "HBM bandwidth" and "serve" in r["roles"])
    assert found["roles"] == ["serve"]
    same = np.ones(batch.design.size, bool)
    for key in ("n_tp", "n_dp", "n_pp", "batch"):
        same &= batch.points[f"serve.{key}"] == row[f"serve.{key}"]
    if same.any():
        kept = batch.points["tpot_s"][same].min() / row["tpot_s"] - 1.0
        assert found["kept"]["tpot_s"] == pytest.approx(kept, abs=1e-9)
    no_worse = (batch.points["c_eq_flop"] >= row["c_eq_flop"] * (1 - 1e-6)) & (
        batch.points["usd_per_mtok"] <= row["usd_per_mtok"] * (1 + 1e-6)
    )
    assert found["anew"]["tpot_s"] == pytest.approx(batch.points["tpot_s"][no_worse].min() / row["tpot_s"] - 1.0, abs=1e-9)


def test_a_resource_never_hurts_and_a_price_always_costs(small):
    for point in (small.ids[0], small.ids[-1]):
        answer = sensitivity(small.study, small.run, point)
        for row in answer["resources"]:
            if row["name"] in (
                "HBM bandwidth",
                "HBM capacity",
                "scale-up bandwidth",
                "scale-out bandwidth",
                "16-bit peak",
                "8-bit peak",
            ):
                assert row["anew"]["tpot_s"] <= 1e-9 and row["anew"]["usd_per_mtok"] <= 1e-9 and row["anew"]["c_eq_flop"] >= -1e-9, row
        price = next(r for r in answer["resources"] if r["name"] == "price" and "serve" in r["roles"])
        assert price["kept"]["usd_per_mtok"] == pytest.approx(0.1)


def test_exchange_rates_stand_on_points_of_the_front(small):
    front = small.run.front
    worst = int(front.loc[front["c_eq_flop"].idxmin(), "id"])
    for row in sensitivity(small.study, small.run, worst)["exchange"]:
        assert row["to"] in small.ids
        assert row["changes"]["c_eq_flop"] >= 0.1 - 1e-6
    best = int(front.loc[front["c_eq_flop"].idxmax(), "id"])
    assert all(row["to"] is None for row in sensitivity(small.study, small.run, best)["exchange"])
