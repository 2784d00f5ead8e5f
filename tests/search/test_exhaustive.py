"""Enumeration against a brute force that knows neither chunks nor archives."""

import os
import signal

import numpy as np
import pytest
from test_pareto import brute_force
from toy import SMALL, Toy, front_points, same_search

from codesign.search import exhaustive, pareto

MAXIMISE = (False, False, True)


@pytest.mark.parametrize("inside", [False, True])
def test_front_is_that_of_a_brute_force(inside):
    toy = Toy(SMALL, layouts_inside=inside)
    outcome = exhaustive.run(toy, chunk=97)
    everything = toy.evaluate(np.concatenate(list(toy.enumerate(10**6))))
    points = np.stack([everything.points[o.name] for o in toy.objectives], axis=1)
    expected = points[brute_force(points * [1, 1, -1])]
    assert outcome.exact and outcome.stop_reason == "every design evaluated"
    assert front_points(toy, outcome).tolist() == expected.tolist()
    assert outcome.n_designs == toy.n_designs == len(outcome.designs)
    assert outcome.n_layouts == everything.n_layouts and outcome.killed == everything.killed
    again = toy.evaluate(outcome.front_index[:1])  # the design of a front row brings that row's point back
    assert front_points(toy, outcome)[0].tolist() in np.stack([again.points[o.name] for o in toy.objectives], 1).tolist()


def test_nested_and_flat_spaces_have_the_same_front():
    flat, nested = Toy(SMALL), Toy(SMALL, layouts_inside=True)
    fronts = [np.unique(front_points(toy, exhaustive.run(toy)), axis=0) for toy in (flat, nested)]
    np.testing.assert_array_equal(*fronts)


def test_chunks_and_threads_change_nothing(monkeypatch):
    runs = []
    for chunk, n in ((50, 1), (50, 4), (7000, 2)):
        monkeypatch.setattr("codesign.search.crew.n_cores", lambda n=n: n)
        runs.append(exhaustive.run(Toy(SMALL), chunk=chunk))
    for other in runs[1:]:
        same_search(runs[0], other)
        assert runs[0].front["design_id"].tolist() == other.front["design_id"].tolist()


def test_a_long_table_is_thinned_evenly_and_keeps_the_front():
    toy = Toy(SMALL)
    outcomes = [exhaustive.run(toy, chunk=chunk, n_rows=500) for chunk in (64, 1000)]
    same_search(*outcomes)
    outcome = outcomes[0]
    assert outcome.sampled and outcome.n_designs == toy.n_designs
    assert 250 <= len(outcome.designs) <= 500 + len(outcome.front["design_id"])
    assert np.isin(outcome.front["design_id"], outcome.designs.design_id).all()
    low = (outcome.designs.design_id < toy.n_designs / 2).mean()
    assert 0.4 < low < 0.6


def test_history_and_progress():
    calls = []
    toy = Toy(SMALL)
    outcome = exhaustive.run(toy, chunk=100, progress=lambda *call: calls.append(call))
    evaluations, seconds, volume = np.array(outcome.history).T
    assert (np.diff(evaluations) > 0).all() and (np.diff(seconds) >= 0).all() and (np.diff(volume) >= 0).all()
    assert evaluations[-1] == toy.n_designs
    done, total, n_front, hypervolume, rate = calls[-1]
    assert (done, total, n_front) == (toy.n_designs, toy.n_designs, len(front_points(toy, outcome)))
    assert hypervolume == outcome.history[-1][2] and rate > 0
    assert len(calls) <= 2 + 5 * outcome.seconds


def test_given_scaling_is_used():
    toy = Toy(SMALL)
    scaling = pareto.scaling(front_points(toy, exhaustive.run(toy)), MAXIMISE)
    outcome = exhaustive.run(toy, chunk=100, reference=scaling)
    assert outcome.scaling == scaling
    assert outcome.history[-1][2] == pytest.approx(pareto.hypervolume(front_points(toy, outcome), scaling))


def test_interrupted_enumeration_continues_where_it_was(tmp_path):
    class Pressed(Toy):
        def evaluate(self, index):
            if self.n_evaluated > 1500 and not os.path.exists(tmp_path / "pressed"):  # noqa: PTH110
                (tmp_path / "pressed").touch()
                os.kill(os.getpid(), signal.SIGINT)
            return super().evaluate(index)

    whole = exhaustive.run(Toy(SMALL), chunk=60)
    first = exhaustive.run(Pressed(SMALL), chunk=60, checkpoint=tmp_path / "search.log")
    assert first.interrupted and not first.exact and 0 < first.n_designs < whole.n_designs
    second = Toy(SMALL)
    outcome = exhaustive.run(second, chunk=60, checkpoint=tmp_path / "search.log")
    assert second.n_evaluated == whole.n_designs - first.n_designs
    assert outcome.exact and not outcome.interrupted
    same_search(whole, outcome)
    third = Toy(SMALL)
    same_search(whole, exhaustive.run(third, chunk=60, checkpoint=tmp_path / "search.log"))
    assert third.n_evaluated == 0


@pytest.mark.parametrize("limit", [{"time_limit_s": 0.0}, {"stop": lambda: True}])
def test_limits_end_the_enumeration_without_claiming_to_be_exact(limit):
    outcome = exhaustive.run(Toy(SMALL), chunk=10, **limit)
    assert not outcome.exact and outcome.n_designs == 0 and not outcome.interrupted
    assert outcome.stop_reason in ("time limit", "stopped")


def test_nothing_feasible_names_the_closest_design():
    class Impossible(Toy):
        def evaluate(self, index):
            batch = super().evaluate(index)
            batch.points = {name: column[:0] for name, column in batch.points.items()}
            batch.design = batch.design[:0]
            batch.violations = batch.violations + 1e-3 + np.abs(batch.violations.min())
            return batch

    toy = Impossible(SMALL)
    outcome = exhaustive.run(toy)
    assert len(outcome.front["design_id"]) == 0 and outcome.n_feasible_designs == 0 and outcome.scaling is None
    assert "usd_per_mtok" in outcome.front and outcome.front_index.shape == (0, len(toy.variables))
    total = np.maximum(outcome.designs.violations, 0).sum(axis=1)
    assert outcome.closest.design_id[0] == outcome.designs.design_id[total.argmin()]
