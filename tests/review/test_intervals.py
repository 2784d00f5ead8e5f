"""Intervals: the measured spread comes out where one phase is all of a column, and comparisons keep only what differs."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.intervals import intervals_of
from codesign.rescore import points_of, score
from codesign.robustness import sample
from codesign.uncertainty import spread


@pytest.fixture(scope="module")
def doubt(small):
    return intervals_of(small.study, small.run)


def test_training_time_carries_the_measured_spread_of_training(small, doubt):
    """With fixed layouts the step is the chip's times; train_usd under a budget is not.  The step itself is moved by exactly sigma."""
    points = points_of(small.study.problem, small.run.front.to_dict("records"))
    own = spread("training", "train", "tables", True).own
    base, _ = score(points, np.arange(points.n), {}, keep=("train.step_s",))
    slow, _ = score(points, np.arange(points.n), {"time.train": np.exp(np.full(points.n, own))}, keep=("train.step_s",))
    assert np.log(slow["train.step_s"] / base["train.step_s"]) == pytest.approx(own)


def test_tpot_is_off_by_decode_and_prefill_and_nothing_else(small, doubt):
    shared, own = doubt.sigma("tpot_s")
    decode, prefill = (spread("inference", phase, "tables", True) for phase in ("decode", "prefill"))
    wide = 1.5  # chips without kernel tables
    assert (own >= decode.own * 0.5).all() and (own <= wide * prefill.own * 1.01).all()
    assert (shared <= wide * prefill.shared * 1.01).all()


def test_bounds_hold_the_value_and_widen_with_the_level(doubt):
    for column in doubt.values:
        low, high = doubt.bounds(column)
        assert (low <= doubt.values[column]).all() and (doubt.values[column] <= high).all()


def test_a_point_cannot_be_told_apart_from_itself(doubt):
    for column in doubt.values:
        for row in (0, len(doubt.ids) - 1):
            assert doubt.alike(column, row)[row]
            assert doubt.sigma_of_difference(column, row)[row] == pytest.approx(0.0, abs=1e-9)


def test_designs_on_one_chip_compare_tighter_than_on_two(small, doubt):
    """The shared part cancels between designs on the same chip and adds up between chips."""
    hardware = small.run.front["hardware.serve"].to_numpy()
    shared, own = doubt.sigma("tpot_s")
    row = 0
    difference = doubt.sigma_of_difference("tpot_s", row)
    same = (hardware == hardware[row]) & (np.arange(len(hardware)) != row)
    other = hardware != hardware[row]
    limit = np.sqrt(own**2 + own[row] ** 2)
    assert (difference[same] <= 1.35 * limit[same] + 1e-9).all()
    assert (difference[other] ** 2 >= 0.9 * (shared[other] ** 2 + shared[row] ** 2)).all()


def test_intervals_agree_with_sampling(small, doubt):
    """Linear propagation against 400 draws of the model's errors only, at the point's own TPOT."""
    from codesign.assumptions import draw, factors_of

    points = points_of(small.study.problem, small.run.front.to_dict("records"))
    draws = draw(doubt.sources, 400, 5)
    factors = {k: v.ravel() for k, v in factors_of(doubt.sources, draws).items()}
    columns, _ = score(points, np.tile(np.arange(points.n), 400), factors, keep=("tpot_s",))
    spread_of = np.log(columns["tpot_s"].reshape(400, -1)).std(axis=0)
    assert spread_of == pytest.approx(np.hypot(*doubt.sigma("tpot_s")), rel=0.2)


def test_without_uncertainty_there_is_no_interval(certain):
    doubt = intervals_of(certain.study, certain.run)
    low, high = doubt.bounds("tpot_s")
    assert low == pytest.approx(high)
    assert sample(certain.study, certain.run, 2).holds.all()
