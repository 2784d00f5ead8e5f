"""Studies that others read: constraints, names and values through Optuna and through optuna-dashboard; shared
storages.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from wsgiref.util import setup_testing_defaults

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from toy import SMALL, Toy, front_points

from codesign.search import dashboard, exhaustive, joint, optuna_io
from codesign.search.loop import Hooks, Settings
from codesign.spec.errors import UserError


def load(path, name="codesign"):
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def served(path):
    """Trials as optuna-dashboard sends them to the browser."""
    wsgi = pytest.importorskip("optuna_dashboard").wsgi
    app = wsgi(JournalStorage(JournalFileBackend(str(path))))

    def get(url):
        environ = {"PATH_INFO": url, "QUERY_STRING": "after=0"}
        setup_testing_defaults(environ)
        return json.loads(b"".join(app(environ, lambda *_: None)))

    [study] = get("/api/studies")["study_summaries"]
    return get(f"/api/studies/{study['study_id']}")["trials"]


@pytest.mark.parametrize("sampler", ["ga", "nsga2", "exhaustive"])
def test_journal_of_a_finished_run(sampler, tmp_path):
    toy = Toy(SMALL)
    outcome = exhaustive.run(toy) if sampler == "exhaustive" else joint.run(toy, Settings(sampler, trials=350))
    note = dashboard.write_journal(toy, outcome, tmp_path / "study.log", "toy", 400)
    study = load(tmp_path / "study.log", "toy")
    assert study.metric_names == ["usd_per_mtok", "tpot_s", "n_eff"]
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE", "MAXIMIZE"]
    assert study.user_attrs["choices d_model"] == list(SMALL["d_model"])
    assert len(study.trials) == min(len(outcome.designs), 400) and (note is None) == (len(outcome.designs) <= 400)
    by_id = {trial.user_attrs["design_id"]: trial for trial in study.trials}
    assert set(outcome.front["design_id"].tolist()) <= set(by_id)
    for row in range(0, len(outcome.designs), 97):
        trial = by_id.get(int(outcome.designs.design_id[row]))
        if trial:
            assert [trial.constraints[name] for name in outcome.constraint_names] == outcome.designs.violations[row].tolist()
            assert list(trial.params.values()) == outcome.designs.index[row].tolist()
            assert trial.user_attrs["design"] == optuna_io.readable(toy, outcome.designs.index[row])
    feasible = {trial.user_attrs["design_id"] for trial in study.best_trials}
    assert feasible <= {trial.user_attrs["design_id"] for trial in study.trials if trial.user_attrs["on_front"]}
    for sent, trial in zip(served(tmp_path / "study.log"), study.trials, strict=True):
        assert sent["constraints"] == [trial.constraints[name] for name in outcome.constraint_names]
        assert len(sent["values"]) == 3 and len(sent["params"]) == len(toy.variables)


def test_a_dashboard_study_is_capped_and_says_so(tmp_path):
    toy = Toy(SMALL)
    outcome = exhaustive.run(toy)
    note = dashboard.write_journal(toy, outcome, tmp_path / "study.log", n_trials=100)
    study = load(tmp_path / "study.log")
    assert len(study.trials) == 100
    assert note == study.user_attrs["note"] and note.startswith(f"the Optuna storage holds 100 of {toy.n_designs:,} designs: ")
    n_front = len(np.unique(outcome.front["design_id"]))
    assert sum(trial.user_attrs["on_front"] for trial in study.trials) == n_front
    in_memory = dashboard.to_study(toy, outcome, n_trials=100)
    assert [trial.values for trial in in_memory.trials] == [trial.values for trial in study.trials]


def test_a_search_straight_into_a_journal_resumes_from_it(tmp_path):
    url = f"journal:{tmp_path / 'study.log'}"
    first = joint.run(Toy(SMALL), Settings("nsga2", trials=60), Hooks(storage=url))
    toy = Toy(SMALL)
    both = joint.run(toy, Settings("nsga2", trials=100), Hooks(storage=url))
    assert both.n_trials == 100 and len(load(tmp_path / "study.log").trials) == 100
    assert set(map(tuple, first.designs.index)) <= set(map(tuple, both.designs.index))
    assert both.n_designs == len(np.unique(both.designs.index, axis=0)) > first.n_designs + 15  # not the same designs again
    everything = front_points(toy, first)
    best = front_points(toy, both)
    assert all((best * [1, 1, -1] <= point * [1, 1, -1]).all(axis=1).any() for point in everything)
    for sent in served(tmp_path / "study.log"):
        assert len(sent["constraints"]) == len(both.constraint_names)


class MeetingToy(Toy):
    """Holds its first batch until every worker has asked for one: a fast worker must not finish the study alone."""

    def __init__(self, space, barrier):
        super().__init__(space)
        self.barrier = barrier

    def evaluate(self, index):
        if self.barrier is not None:
            self.barrier.wait(timeout=60)
            self.barrier = None
        return super().evaluate(index)


def _worker(url, seed, barrier):
    joint.run(MeetingToy(SMALL, barrier), Settings("ga", trials=80, seed=seed, batch=20), Hooks(storage=url))


def test_two_processes_share_a_study(tmp_path):
    url = f"journal:{tmp_path / 'study.log'}"
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    workers = [spawn.Process(target=_worker, args=(url, seed, barrier)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    study = load(tmp_path / "study.log")
    assert 80 <= len(study.trials) <= 100
    merged = joint.run(Toy(SMALL), Settings("ga", trials=80, seed=3), Hooks(storage=url))
    assert merged.n_trials == len(study.trials) and merged.n_designs <= len(study.trials)
    pids = {trial.user_attrs["codesign:worker"] for trial in study.trials}
    assert len(pids) == 2


def test_trials_of_a_dead_worker_are_failed(tmp_path):
    url = f"journal:{tmp_path / 'study.log'}"
    toy = Toy(SMALL)
    study = optuna_io.open_study(toy, storage=url)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = f"{os.uname().nodename}:{os.getpid()}"
    for worker in (f"{os.uname().nodename}:{dead.pid}", mine, "elsewhere:1"):
        study.ask(optuna_io.space(toy)).set_user_attr("codesign:worker", worker)
    study.ask()
    joint.run(toy, Settings("random", trials=20), Hooks(storage=url))
    states = [trial.state.name for trial in load(tmp_path / "study.log").trials[:4]]
    assert states == ["FAIL", "RUNNING", "RUNNING", "RUNNING"]


def test_sqlite_works_for_few_trials_and_is_refused_for_many(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    outcome = joint.run(Toy(SMALL), Settings("random", trials=5, batch=5), Hooks(storage=url))
    assert outcome.n_trials == 5
    with pytest.raises(UserError, match="20 trials a second"):
        joint.run(Toy(SMALL), Settings("random", trials=5000), Hooks(storage=url))


def test_bad_storages_are_the_users_error(tmp_path):
    for url in ("nonsense://x", "journal:/no/such/folder/x.log"):
        with pytest.raises(UserError, match="cannot open"):
            joint.run(Toy(SMALL), Settings("random", trials=5), Hooks(storage=url))
    url = f"journal:{tmp_path / 'study.log'}"
    joint.run(Toy(SMALL), Settings("random", trials=5), Hooks(storage=url))
    with pytest.raises(UserError, match="different search space"):
        joint.run(Toy(SMALL, layouts_inside=True), Settings("random", trials=5), Hooks(storage=url))


def test_space_is_integers_where_ordered_and_categories_elsewhere():
    kinds = {name: type(distribution).__name__ for name, distribution in optuna_io.space(Toy(SMALL)).items()}
    assert kinds["d_model"] == "IntDistribution" and kinds["domain"] == "CategoricalDistribution"
