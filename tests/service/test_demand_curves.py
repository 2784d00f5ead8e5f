"""Demand over a day and over the product's life: what is paid, how full the fleet is, what a site must supply, and refused curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from codesign.constraints import in_words
from codesign.search import exhaustive
from codesign.spec.errors import SpecError
from studies import SMALL, study

LIFE = [["0 month", "2e4 tok/s"], ["3 month", "6e5 tok/s"], ["9 month", "1e5 tok/s"]]
SHARES, RATES = (0.25, 0.5, 0.25), (2e4, 6e5, 1e5)
MEAN = sum(s * r for s, r in zip(SHARES, RATES, strict=True))


def front(folder, demand, **changes):
    given = {"workload": {"use": "chat", "demand": demand, "lifetime": "12 month", **changes.pop("workload", {})}}
    given |= {"lifecycle": {"pretrain_tok": "2 Ttok"}, "objectives": {"c_eq_flop": "maximize", "usd_per_mtok": "minimize"}}
    return exhaustive.run(study(folder, given | changes).problem)


def test_a_curve_of_one_level_is_the_constant(tmp_path):
    level = [["0 month", "2e4 tok/s"], ["5 month", "2e4 tok/s"]]
    constant = front(tmp_path, "2e4 tok/s").front
    for fleet in ("peak", "staged"):
        curve = front(tmp_path, {"life": level, "fleet": fleet}).front
        for name in ("usd_per_mtok", "serve_devices", "serve_power_w", "serve_load_frac", "ttft_s", "lifecycle_usd", "energy_j_per_tok"):
            assert_allclose(curve[name], constant[name], rtol=1e-12)


@pytest.mark.parametrize("fleet", ["peak", "staged"])
def test_cost_load_and_power_integrate_over_the_curve(fleet, tmp_path):
    """Against the sum over stages by hand: a replica of n devices, whole domains of 8, 80 % of capacity used at the peak of a day."""
    workload = {"peak_to_mean": 2.0, "utilisation": 0.8}
    found = front(tmp_path, {"life": LIFE, "fleet": fleet}, workload=workload, space={"architecture.n_layers": [32, 48]}).front
    for row in range(len(found["usd_per_mtok"])):
        point = {k: float(v[row]) for k, v in found.items() if np.issubdtype(v.dtype, np.number)}
        n = point["serve.n_tp"] * point["serve.n_cp"] * point["serve.n_dp"] * point["serve.n_pp"]
        needed = [math.ceil(rate * 2.0 / 0.8 / point["serve.tok_per_s"]) for rate in RATES]
        charged = [math.ceil(k / (8 // n)) * 8 for k in needed]
        if fleet == "peak":
            needed, charged = [max(needed)] * 3, [max(charged)] * 3
        held = sum(s * c for s, c in zip(SHARES, charged, strict=True))
        year = MEAN * 12 * 30.4375 * 86400
        rent = point["serve_usd"] / (held * 12 * 30.4375 * 86400)  # USD per device-second
        assert point["serve_devices"] == max(charged) and point["serve.n_replicas"] == max(needed)
        assert_allclose(point["usd_per_mtok"], point["serve_usd"] / year * 1e6, rtol=1e-12)
        assert 1.5 < rent * 3600 < 3.5
        replicas = sum(s * k for s, k in zip(SHARES, needed, strict=True))
        assert_allclose(point["serve_load_frac"], MEAN / (replicas * point["serve.tok_per_s"]), rtol=1e-12)
        per_device_w = point["serve_power_w"] / max(charged)
        assert_allclose(point["energy_j_per_tok"], held * per_device_w / MEAN, rtol=1e-12)


def test_following_the_stages_is_never_dearer_and_needs_no_fewer_devices(tmp_path):
    bought, rented = (front(tmp_path, {"life": LIFE, "fleet": fleet}).front for fleet in ("peak", "staged"))
    assert rented["usd_per_mtok"].min() < bought["usd_per_mtok"].min()
    assert rented["serve_load_frac"].max() > bought["serve_load_frac"].max()
    assert bought["serve_load_frac"].max() <= MEAN / max(RATES)


def test_a_day_profile_sizes_the_fleet_and_its_scale_does_not_matter_beside_a_life(tmp_path):
    day = ["1e4 tok/s", "2e4 tok/s", "3e4 tok/s", "2e4 tok/s"]
    traffic = study(tmp_path, {"workload": {"use": "chat", "demand": day}}).setting.traffic
    assert (float(traffic.demand_tok_per_s), float(traffic.peak_to_mean)) == (2e4, 1.5 / 0.8)
    for shape in ([1, 2, 3, 2], [10, 20, 30, 20], day):
        traffic = study(
            tmp_path, {"workload": {"use": "chat", "demand": {"life": LIFE, "day": shape}, "lifetime": "12 month"}}
        ).setting.traffic
        assert_allclose([float(traffic.demand_tok_per_s), float(traffic.peak_to_mean)], [MEAN, 1.5 / 0.8])


def test_a_power_cap_binds_and_is_named(tmp_path):
    goals = {"objectives": {"c_eq_flop": "maximize", "usd_per_mtok": "minimize", "train_days": "minimize"}}
    free = front(tmp_path, "2e5 tok/s", **goals)
    cap = free.front["train_power_w"].max()  # the largest job alone draws all of it
    assert_allclose(free.front["facility_power_w"], free.front["serve_power_w"] + free.front["train_power_w"])
    capped = front(tmp_path, "2e5 tok/s", constraints={"facility_power": f"<= {cap} W"}, **goals)
    assert len(capped.front_index) and np.all(capped.front["facility_power_w"] <= cap)
    assert capped.front["train_s"].min() > free.front["train_s"].min()
    nothing = front(tmp_path, "2e5 tok/s", constraints={"facility_power": "<= 20 kW"}, **goals)
    assert not len(nothing.front_index)
    assert nothing.killed == {"facility_power": nothing.n_designs}
    assert in_words("facility_power", 0.5).startswith("facility_power")


REFUSED = [
    ("0 tok/s", "must be more than 0"),
    ("-5 tok/s", "must be more than 0, and finite; found -5 tok/s"),
    ([], "an empty list"),
    (["1 tok/s", "-2 tok/s"], "found -2 tok/s"),
    ([1, 2, 1], "of how many tokens"),
    ({"life": []}, "an empty list"),
    ({"life": [["0 month", "1 tok/s"], ["6 month", "-1 tok/s"]]}, "found -1 tok/s"),
    ({"life": LIFE, "day": [1, -2, 4]}, "entry 2 of the day is -2"),
    ({"life": [["1 month", "1 tok/s"]]}, "begins at 1 month"),
    ([["0 month", "1 tok/s"], ["6 month", "2 tok/s"], ["3 month", "2 tok/s"]], "3 month comes after 6 month"),
    ({"life": [["0 month", "1 tok/s"], ["14 month", "2 tok/s"]]}, "begins after 426 days, but the life ends after 365"),
    ({"life": [["0 month"]]}, "a time and a rate"),
    ({"life": [["0 month", "0 tok/s"]]}, "more than 0 in some stage"),
    ({"tok_per_s": "1 tok/s", "fleet": "staged"}, "no stages to follow"),
    ({"tok_per_s": "1 tok/s", "day": ["1 tok/s"]}, "a mean rate, the rates of a day, or stages"),
    ({"shape": 3}, "unknown key 'shape'"),
]  # fmt: skip


@pytest.mark.parametrize(("demand", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_curves_that_say_nothing_are_refused_in_words(demand, words, tmp_path):
    workload = {**SMALL["workload"], "demand": demand, "lifetime": "12 month"}
    with pytest.raises(SpecError) as caught:
        study(tmp_path, {"workload": workload})
    assert words in str(caught.value)
    assert "demand" in str(caught.value)
