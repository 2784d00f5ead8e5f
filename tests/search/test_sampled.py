"""The sampled loop: quality against the exact front, repeats, limits, interruption, reproducibility."""

import os
import signal
import threading
from functools import lru_cache

import numpy as np
import pytest
from toy import MIDDLE, SMALL, Toy, front_points, same_search

from codesign.search import exhaustive, joint, nested, pareto
from codesign.search.loop import Hooks, Settings

MAXIMISE = (False, False, True)


@lru_cache
def exact(layouts_inside):
    toy = Toy(MIDDLE, layouts_inside)
    front = front_points(toy, exhaustive.run(toy))
    scaling = pareto.scaling(front, MAXIMISE)
    return scaling, pareto.hypervolume(front, scaling)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nested_reaches_99_percent_with_a_hundredth_of_the_designs(seed):
    toy = Toy(MIDDLE, layouts_inside=True)
    scaling, volume = exact(True)
    outcome = nested.run(toy, Settings(trials=600, seed=seed), Hooks(reference=scaling))
    assert outcome.method == "nested" and outcome.n_designs == 600 <= toy.n_designs / 5
    assert pareto.hypervolume(front_points(toy, outcome), scaling) >= 0.99 * volume


@pytest.mark.parametrize("seed", [0, 1])
def test_joint_reaches_99_percent(seed):
    toy = Toy(MIDDLE)
    scaling, volume = exact(False)
    outcome = joint.run(toy, Settings(trials=10_000, seed=seed), Hooks(reference=scaling))
    assert outcome.method == "joint" and outcome.n_designs < toy.n_designs / 60
    assert outcome.history[-1][2] >= 0.99 * volume


@pytest.mark.parametrize("sampler", ["ga", "nsga2", "random", "tpe"])
def test_no_design_is_evaluated_twice(sampler):
    toy = Toy(SMALL)
    outcome = joint.run(toy, Settings(sampler, trials=100 if sampler == "tpe" else 1000))
    asked = np.concatenate(toy.asked)
    assert len(asked) == len(np.unique(asked, axis=0)) == outcome.n_designs == len(outcome.designs)
    assert (toy.canonical(asked) == asked).all() and toy.valid(asked).all()
    assert outcome.n_trials == (100 if sampler == "tpe" else 1000)
    if sampler != "ga":
        assert outcome.n_designs < outcome.n_trials  # the others do repeat themselves
        assert len(outcome.study.trials) == outcome.n_trials
        assert outcome.killed["where"] > 0


def test_a_repeated_design_is_told_its_known_values():
    toy = Toy(SMALL)
    study = joint.run(toy, Settings("random", trials=1500)).study
    told, n_repeated = {}, 0
    for trial in study.trials:
        row = toy.canonical(np.array([list(trial.params.values())]))
        if toy.valid(row)[0] and not np.isnan(toy.evaluate(row).objectives).any():
            key = tuple(row[0])
            n_repeated += key in told
            assert told.setdefault(key, (trial.values, trial.constraints)) == (
                trial.values,
                trial.constraints,
            )
    assert n_repeated > 10


@pytest.mark.parametrize("sampler", ["ga", "nsga2", "nsga3", "random", "qmc", "tpe"])
def test_same_seed_same_search(sampler):
    settings = Settings(sampler, trials=40 if sampler == "tpe" else 300, seed=3)
    one, other = (joint.run(Toy(SMALL), settings) for _ in range(2))
    same_search(one, other)
    assert [entry[::2] for entry in one.history] == [entry[::2] for entry in other.history]
    different = joint.run(Toy(SMALL), Settings(sampler, trials=settings.trials, seed=4))
    assert different.designs.index.tolist() != one.designs.index.tolist()


def test_a_small_space_is_exhausted_and_then_exact():
    toy = Toy(SMALL, layouts_inside=True)
    outcome = nested.run(toy, Settings(trials=100_000))
    assert outcome.stop_reason == "every design evaluated" and outcome.exact
    truth = exhaustive.run(toy)
    assert np.unique(front_points(toy, outcome), axis=0).tolist() == np.unique(front_points(toy, truth), axis=0).tolist()


class Uncounted(Toy):
    """A toy that does not know its size."""

    n_designs = None


@pytest.mark.parametrize("sampler, reason", [("ga", "no new design found"), ("random", "the sampler only repeats designs")])
def test_an_exhausted_space_of_unknown_size_ends_the_search(sampler, reason):
    toy = Uncounted({name: values[:1] for name, values in SMALL.items()} | {"n_layers": (32, 64), "batch": (16, 128)})
    outcome = joint.run(toy, Settings(sampler, trials=100_000))
    assert outcome.stop_reason == reason and outcome.n_designs == 4 and not outcome.exact


def test_limits():
    toy = Toy(MIDDLE)
    assert joint.run(toy, Settings(trials=None, time_limit_s=0.0)).stop_reason == "time limit"
    assert joint.run(toy, Settings(trials=70)).n_trials == 70
    assert joint.run(toy, Settings(), Hooks(stop=lambda: True)).stop_reason == "stopped"
    flat = joint.run(toy, Settings(trials=None, flat_gain=1e-3))
    assert flat.stop_reason == "hypervolume flat" and 500 <= flat.n_designs < 60_000
    assert joint.run(toy, Settings("random", trials=45, batch=20)).n_trials == 45


def test_values_told_where_nothing_fits_are_the_worst_seen():
    toy = Toy(SMALL)
    study = joint.run(toy, Settings("random", trials=600)).study
    unfit = [trial for trial in study.trials if trial.constraints["memory"] > 0]
    seen = np.array([trial.values for trial in study.trials if max(trial.constraints.values()) <= 0])
    assert unfit and np.isfinite([trial.values for trial in study.trials]).all()
    last = unfit[-1].values
    assert last[0] >= seen[:, 0].max() and last[1] >= seen[:, 1].max() and last[2] <= seen[:, 2].min()


def test_warm_start_is_proposed_first():
    toy = Toy(SMALL)
    rows = np.concatenate(list(toy.enumerate(10_000)))[[5, 700, 99]]
    for sampler in ("ga", "nsga2"):
        outcome = joint.run(toy, Settings(sampler, trials=150), Hooks(warm_start=rows))
        assert outcome.designs.index[:3].tolist() == rows.tolist()
        assert outcome.n_trials == 150


def test_ctrl_c_ends_at_a_batch_boundary_with_everything():
    class Pressed(Toy):
        def evaluate(self, index):
            if self.n_evaluated == 100:
                os.kill(os.getpid(), signal.SIGINT)
            return super().evaluate(index)

    before = signal.getsignal(signal.SIGINT)
    outcome = joint.run(Pressed(SMALL), Settings(trials=1000, batch=50))
    assert signal.getsignal(signal.SIGINT) is before
    assert outcome.interrupted and outcome.stop_reason == "interrupted" and outcome.n_designs == 150
    same_search(outcome, joint.run(Toy(SMALL), Settings(trials=150, batch=50)))


def test_runs_outside_the_main_thread():
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(joint.run(Toy(SMALL), Settings(trials=100))))
    thread.start()
    thread.join()
    same_search(outcomes[0], joint.run(Toy(SMALL), Settings(trials=100)))


def test_the_room_prints_nothing(capfd, recwarn):
    for sampler in ("ga", "nsga2", "tpe", "qmc"):
        joint.run(Toy(SMALL), Settings(sampler, trials=30))
    exhaustive.run(Toy(SMALL))
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn]


def test_one_objective():
    toy = Toy(SMALL, objectives=("usd_per_mtok",))
    best = front_points(toy, exhaustive.run(toy))
    for sampler in ("ga", "tpe"):
        outcome = joint.run(toy, Settings(sampler, trials=60 if sampler == "tpe" else 2000))
        assert len(outcome.front["design_id"]) == 1
    assert joint.run(toy, Settings(trials=2000)).front["usd_per_mtok"] == best[:, 0]
