"""Tiers of the cache against a plain re-implementation, and what must fall or rise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codesign import catalog
from codesign.service import tiers

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
