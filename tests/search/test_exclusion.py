"""Designs excluded by bounds change nothing but the time: neither the front, nor its ids, nor what a resumed run finds."""

import numpy as np
import pytest
from toy import SMALL, Toy, front_points, same_search

from codesign.search import exclusion, exhaustive, nested, pareto
from codesign.search.exclusion import Fence
from codesign.search.loop import Settings

MAXIMISE = (False, False, True)


class Bounded(Toy):
    """The toy with bounds: a tenth below its best value in each objective, per layout batch size as a step."""

    unbounded = ()
    slack = 0.9

    def __init__(self, *args, **kwargs):
        super().__init__(SMALL, *args, layouts_inside=True, **kwargs)
        self.n_bounded = 0

    def bound(self, index):
        self.n_bounded += len(index)
        quiet = Toy(SMALL, layouts_inside=True)
        batch = quiet.evaluate(index)
        points = pareto.minimised(np.stack([batch.points[o.name] for o in self.objectives], axis=1), MAXIMISE)
        out = np.full((len(index), 2, 3), np.inf)
        step = (points[:, 1] > 0.01).astype(int)
        for axis in range(3):
            np.minimum.at(out[:, :, axis], (batch.design, step), points[:, axis])
        return np.where(out > 0, out * self.slack, out / self.slack)

    def sample(self, n):
        return np.random.default_rng(0).integers(0, self.sizes, (n, len(self.sizes)))


class Wrong(Bounded):
    """Bounds that promise less than designs do."""

    slack = 1.5


@pytest.fixture(autouse=True)
def small_spaces_too(monkeypatch):
    monkeypatch.setattr(exclusion, "LEAST_DESIGNS", 1)
    monkeypatch.setattr(exclusion, "LEAST_SHARE", 0.01)


def same_front(one, other):
    assert one.front.keys() == other.front.keys()
    for name, column in one.front.items():
        np.testing.assert_array_equal(column, other.front[name])


def test_the_front_and_its_ids_stay():
    whole, bounded = exhaustive.run(Bounded(), exclude=False), exhaustive.run(Bounded(), chunk=37)
    same_front(whole, bounded)
    assert bounded.exact and bounded.stop_reason == exhaustive.COVERED
    assert bounded.n_excluded > 0 and bounded.n_designs + bounded.n_excluded == whole.n_designs == bounded.n_trials
    assert not whole.n_excluded and whole.stop_reason == exhaustive.COMPLETE


def test_chunks_and_cores_exclude_the_same_designs(monkeypatch):
    runs = []
    for chunk, n in ((20, 1), (50, 4), (7000, 2)):
        monkeypatch.setattr("codesign.search.crew.n_cores", lambda n=n: n)
        runs.append(exhaustive.run(Bounded(), chunk=chunk))
    for other in runs[1:]:
        same_search(runs[0], other)
        assert runs[0].n_excluded == other.n_excluded


def test_an_interrupted_run_keeps_its_fence(tmp_path):
    whole = exhaustive.run(Bounded(), chunk=20)
    calls = iter(range(100))
    part = exhaustive.run(Bounded(), chunk=20, checkpoint=tmp_path / "log", stop=lambda: next(calls) > 4)
    assert not part.exact and 0 < part.n_trials < whole.n_trials
    rest = Bounded()
    same_search(whole, exhaustive.run(rest, chunk=20, checkpoint=tmp_path / "log"))
    assert rest.n_bounded == whole.n_trials - part.n_trials  # no second search for a fence, no second look at what was done
    again = Bounded()
    same_search(whole, exhaustive.run(again, chunk=20, checkpoint=tmp_path / "log"))
    assert again.n_bounded == 0


def test_a_broken_promise_is_reported_and_the_front_not_called_exact(tmp_path):
    outcome = exhaustive.run(Wrong(), checkpoint=tmp_path / "log")
    assert not outcome.exact and "a bound is wrong" in outcome.notes[0] and "d_model" in outcome.notes[0]
    resumed = exhaustive.run(Wrong(), checkpoint=tmp_path / "log")
    assert not resumed.exact and "a bound is wrong" in resumed.notes[0]


def test_bounds_that_exclude_little_are_not_used(monkeypatch):
    monkeypatch.setattr(exclusion, "LEAST_SHARE", 1.01)
    toy = Bounded()
    outcome = exhaustive.run(toy)
    assert outcome.n_excluded == 0 and outcome.exact and toy.n_bounded <= exclusion.PILOT


def test_objectives_without_a_bound_exclude_nothing():
    class Partly(Bounded):
        unbounded = ("n_eff",)

    toy = Partly()
    assert exhaustive.run(toy).n_excluded == 0 and toy.n_bounded == 0
    assert exclusion.missing(toy, np.ones((1, 3)), pareto.scaling(np.ones((1, 3))), np.empty((0, len(toy.variables)), int)) is None


def test_a_fence_excludes_what_is_strictly_beaten_in_every_step():
    fence = Fence(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]))
    bounds = np.array([
        [[2.0, 3.0], [3.0, 2.0]],  # both beaten
        [[2.0, 3.0], [0.5, 9.0]],  # the second is not
        [[2.0, 2.0], [np.inf, np.inf]],  # equal to a point: it could be that point
        [[2.0, 2.1], [np.inf, np.inf]],
        [[np.inf, np.inf], [np.inf, np.inf]],  # impossible
        [[-np.inf, 9.0], [9.0, 9.0]],
    ])  # fmt: skip
    assert fence.excludes(bounds).tolist() == [True, False, False, True, True, False]


def test_a_large_fence_agrees_with_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    points = -np.abs(rng.normal(size=(1000, 3)))
    points = 2.0 + points / np.linalg.norm(points, axis=1, keepdims=True)  # an eighth of a sphere: none beats another
    bounds = rng.uniform(0.9, 2.6, size=(500, 2, 3))
    bounds[:50, 0] = points[:50]
    expected = ((points <= bounds[..., None, :]).all(-1) & (points < bounds[..., None, :]).any(-1)).any(-1).all(-1)
    assert (Fence(points).excludes(bounds) == expected).all() and 0.05 < expected.mean() < 0.95


@pytest.mark.parametrize("n", [20, 60])
def test_what_could_be_missing_is_never_less_than_what_is(n):
    toy = Bounded()
    exact = front_points(toy, exhaustive.run(toy))
    found = nested.run(toy, Settings(trials=n, seed=1))
    front = front_points(toy, found)
    scale = pareto.scaling(front, MAXIMISE)
    lost = 1 - pareto.hypervolume(front, scale) / pareto.hypervolume(np.concatenate([front, exact]), scale)
    missing = exclusion.missing(toy, front, scale, found.designs.index)
    assert missing.is_bound and missing.n_looked_at == toy.n_designs - found.n_designs
    assert lost <= missing.volume_share <= 1
    if lost > 0:
        assert missing.n_left > 0
