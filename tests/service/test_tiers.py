"""Tiers of the cache against a plain re-implementation, and what must fall or rise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codesign import catalog
from codesign.service import tiers
from codesign.spec.errors import UserError
from studies import study

USD_PER_S = 2.9 / 3600
NAMES = ("host_dram", "nvme", "remote_flash", "hdd")


def all_tiers() -> tiers.Tier:
    records = [catalog.load("memory", n) for n in NAMES]
    hold = [tiers.hbm_holding_price(USD_PER_S, 141e9), *(tiers.holding_price(r["price"]) for r in records)]
    return tiers.Tier(np.array(hold), np.array([np.inf, *(r["bandwidth"] for r in records)]), np.array([0.0, *(r["latency"] for r in records)]))


def plain(n_bytes: float, reuse_s: float, recompute_usd: float) -> tuple[str, float]:
    """The cheapest of keeping in each tier and computing again, one by one."""
    choices = {"recompute": recompute_usd, "hbm": n_bytes * USD_PER_S / 141e9 * reuse_s}
    for name in NAMES:
        record = catalog.load("memory", name)
        years = 4 * 365.25 * 86400
        choices[name] = n_bytes * (2.0 * record["price"] / years * reuse_s + 2 * USD_PER_S / record["bandwidth"])
    return min(choices.items(), key=lambda pair: pair[1])


@pytest.mark.parametrize("reuse_s", [0.01, 1.0, 60.0, 300.0, 3600.0, 86400.0, 86400.0 * 60])
@pytest.mark.parametrize("recompute_usd", [1e-6, 1e-3, 1.0])
def test_the_chosen_tier_is_the_cheapest(reuse_s, recompute_usd):
    n_bytes = 7000 * 70_000.0
    index, usd = tiers.best_tier(n_bytes, all_tiers(), reuse_s, recompute_usd, USD_PER_S)
    name, least = plain(n_bytes, reuse_s, recompute_usd)
    assert ("recompute" if index < 0 else ("hbm", *NAMES)[int(index)]) == name and float(usd) == pytest.approx(least, rel=1e-12)


def test_longer_waits_move_down_and_end_in_recomputation():
    found = [int(tiers.best_tier(5e8, all_tiers(), t, 5e-3, USD_PER_S)[0]) for t in np.geomspace(1e-3, 1e9, 60)]
    kept = [i for i in found if i >= 0]
    assert kept == sorted(kept) and found[-1] == -1 and kept[0] == 0 and len(set(kept)) >= 3


def test_break_even_is_where_keeping_costs_as_much_as_computing():
    t = all_tiers()
    times = tiers.break_even_s(5e8, t, 5e-3, USD_PER_S)
    for i, reuse_s in enumerate(times):
        one = t.take(np.array([i]))
        if reuse_s > 0:
            assert tiers.keep_usd(5e8, one, reuse_s, USD_PER_S).item() == pytest.approx(5e-3)
    assert all(np.diff(times[times > 0][:2]) > 0)


def test_loads_in_parallel_are_shorter_and_never_below_the_latency():
    flash = all_tiers().take(np.array([2]))
    seconds = [tiers.load_s(1e9, flash, n).item() for n in (1, 2, 8)]
    assert seconds == sorted(seconds, reverse=True) and min(seconds) > flash.latency_s.item() and math.isclose(seconds[0], 1e9 / 10e9 + 100e-6)


CHAT = {
    "base": {"model": "llama-3.1-8b", "precision": {"weight_bits": 8, "act_bits": 8, "kv_bits": 8}},
    "hardware": {"train": "h100_sxm_node", "serve": "h200_sxm_node"},
    "space": {"serving.kv_tier": ["none", "hbm", "host_dram", "nvme"]},
    "workload": {"use": "chat", "isl": 8192, "prefix": 7000, "osl": 400, "reuse": "5 min", "demand": "1e5 tok/s", "lifetime": "1 yr"},
    "layout": {"serve": {"n_tp": [1], "n_dp": [1], "n_pp": [1], "batch": [16]}, "train": {"n_devices": [64], "n_tp": [1], "n_pp": [1]}},
    "lifecycle": {"pretrain_tok": "1 Ttok"}, "slo": {}, "constraints": {}, "objectives": {"usd_per_mtok": "minimize", "ttft": "minimize"},
}  # fmt: skip


def by_place(folder, **workload):
    """Place -> point of a study in which the place is the only choice."""
    given = CHAT | {"workload": CHAT["workload"] | workload}
    found = {}
    for i, place in enumerate(CHAT["space"]["serving.kv_tier"]):
        problem = study(folder, given).problem
        batch = problem.evaluate(np.array([[i]]))
        found[place] = {k: float(np.ravel(v)[0]) for k, v in batch.points.items() if np.asarray(v).dtype.kind == "f"}
    return found


def test_a_place_in_a_study_costs_holding_moving_and_loading(tmp_path):
    now, later = by_place(tmp_path), by_place(tmp_path, reuse="10 min")
    n_bytes = 32 * 2 * 8 * 128 * 7000.0  # layers x (key, value) x heads x width x tokens, one byte each
    for place, hold in (("hbm", USD_PER_S / 141e9), ("host_dram", tiers.holding_price(18.8e-9)), ("nvme", tiers.holding_price(0.14e-9))):
        more = (later[place]["usd_per_mtok"] - now[place]["usd_per_mtok"]) / 1e6 * 400
        assert more == pytest.approx(n_bytes * float(hold) * 300.0, rel=1e-6), place
    assert now["host_dram"]["ttft_s"] - now["hbm"]["ttft_s"] == pytest.approx(n_bytes / 55e9 + 10e-6, rel=1e-6)
    moved = 2 * n_bytes * USD_PER_S * (1 / 10e9 - 1 / 55e9) + n_bytes * 300.0 * float(tiers.holding_price(0.14e-9) - tiers.holding_price(18.8e-9))
    assert (now["nvme"]["usd_per_mtok"] - now["host_dram"]["usd_per_mtok"]) / 1e6 * 400 == pytest.approx(moved, rel=1e-6)


def test_computing_again_takes_longer_and_more_arithmetic(tmp_path):
    found = by_place(tmp_path)
    assert found["none"]["ttft_s"] > 2 * found["hbm"]["ttft_s"] and found["none"]["inference_flop"] > 2 * found["hbm"]["inference_flop"]
    assert by_place(tmp_path, reuse="100 h")["none"]["usd_per_mtok"] == pytest.approx(found["none"]["usd_per_mtok"])


@pytest.mark.parametrize("change", [{"serving": {"kv_tier": "dram9"}, "space": {"precision.kv_bits": [8, 16]}}, {"space": {"precision.kv_bits": [8, 16]}}])
def test_places_without_a_name_or_a_time_are_refused(tmp_path, change):
    with pytest.raises(UserError, match=r"no place for caches|where do prefixes wait"):
        study(tmp_path, CHAT | change)
    with pytest.raises(UserError, match="for how long"):
        study(tmp_path, CHAT | {"workload": {k: v for k, v in CHAT["workload"].items() if k != "reuse"}})
