"""Archived points scored again: identical without a change, and moved by a change as physics says."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.physics.hardware import slower
from codesign.rescore import MEMORY, points_of, score
from codesign.scenario import make_chip


@pytest.fixture(scope="module")
def points(small):
    return points_of(small.study.problem, small.run.front.to_dict("records"))


def test_without_a_change_every_archived_column_comes_back(small, points):
    columns, violations = score(points, np.arange(points.n), {})
    shared = [c for c in columns if c in small.run.front]
    assert len(shared) > 40
    for name in shared:
        assert columns[name] == pytest.approx(small.run.front[name].to_numpy(float), rel=1e-9), name
    assert max(float(v.max()) for v in violations.values()) <= 1e-9


def test_chunks_do_not_matter(points, monkeypatch):
    rows = np.tile(np.arange(points.n), 3)
    factors = {"time.decode": np.linspace(0.5, 2.0, rows.size)}
    whole, _ = score(points, rows, factors, keep=("tpot_s",))
    monkeypatch.setattr("codesign.rescore.CHUNK", 7)
    parts, _ = score(points, rows, factors, keep=("tpot_s",))
    assert parts["tpot_s"] == pytest.approx(whole["tpot_s"], rel=1e-14)


def test_a_slower_chip_takes_exactly_as_much_longer(points):
    both = {"time.prefill": np.float64(1.5), "time.decode": np.float64(1.5)}
    rows = np.arange(points.n)
    base, _ = score(points, rows, {})
    slow, _ = score(points, rows, both)
    assert slow["tpot_s"] == pytest.approx(1.5 * base["tpot_s"], rel=1e-12)
    train, _ = score(points, rows, {"time.train": np.float64(2.0)})
    assert train["train.step_s"] == pytest.approx(2.0 * base["train.step_s"], rel=1e-12)
    assert train["tpot_s"] == pytest.approx(base["tpot_s"])


def test_slower_changes_speeds_and_nothing_else():
    chip = make_chip("h200_sxm")
    slow = slower(chip, 2.0)
    assert slow.hbm_bytes_per_s == chip.hbm_bytes_per_s / 2 and slow.gemm.t0_s.at_16 == 2 * chip.gemm.t0_s.at_16
    assert slow.hbm_bytes == chip.hbm_bytes and slow.usd_per_s == chip.usd_per_s and slow.gemm.compute.at_16 == chip.gemm.compute.at_16


def test_prices_and_demand_act_on_money_only(points):
    rows = np.arange(points.n)
    base, _ = score(points, rows, {})
    dear, _ = score(points, rows, {"price.serve": np.float64(1.3)})
    assert dear["usd_per_mtok"] == pytest.approx(1.3 * base["usd_per_mtok"])
    assert dear["tpot_s"] == pytest.approx(base["tpot_s"])
    assert (dear["pretrain_tok"] <= base["pretrain_tok"] * (1 + 1e-12)).all()
    more, _ = score(points, rows, {"demand": np.float64(4.0)})
    assert (more["serve_devices"] >= base["serve_devices"]).all()


def test_quality_error_moves_the_law_and_its_relatives(points):
    rows = np.arange(points.n)
    base, _ = score(points, rows, {})
    better, _ = score(points, rows, {"quality": np.float64(2.0)})
    assert better["c_eq_flop"] == pytest.approx(2.0 * base["c_eq_flop"])
    assert (better["loss"] < base["loss"]).all() and (better["n_eq"] > base["n_eq"]).all()


def test_a_layout_that_no_longer_fits_is_said_so(points):
    chips = {role: chip.take(np.arange(points.n)) for role, chip in points.designs.chips.items()}
    from dataclasses import replace

    chips["serve"] = replace(chips["serve"], hbm_bytes=chips["serve"].hbm_bytes * 0.01 + np.zeros(points.n))
    _, violations = score(points, np.arange(points.n), {}, chips)
    assert (violations[MEMORY] > 0).all()
