"""Many processes: whoever scores the designs, and whoever dies, the front is the one that a single process finds."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from servers import postgresql
from toy import SMALL, Toy, front_points, same_search

from codesign.search import exhaustive, joint, optuna_io
from codesign.search.crew import Processes
from codesign.search.evaluation import score
from codesign.search.loop import Hooks, Settings
from codesign.spec.errors import UserError

HERE = Path(__file__).parent


class Slow(Toy):
    """Slow enough for somebody to be killed in the middle."""

    def evaluate(self, index):
        time.sleep(0.05)
        return super().evaluate(index)


class Deadly(Toy):
    """Nobody survives scoring it."""

    def evaluate(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_processes_find_what_threads_find():
    one, many = exhaustive.run(Toy(SMALL), chunk=500), exhaustive.run(Toy(SMALL), chunk=500, workers=2)
    same_search(one, many)
    sampled = [joint.run(Toy(SMALL), Settings(trials=900, seed=4), Hooks(workers=n)) for n in (None, 2)]
    same_search(*sampled)


def test_a_sampled_search_does_not_depend_on_the_number_of_cores(monkeypatch):
    runs = []
    for n in (1, 3):
        monkeypatch.setattr("codesign.search.crew.n_cores", lambda n=n: n)
        monkeypatch.setattr("codesign.search.crew._LEAST_SLICE", 10)
        runs.append(joint.run(Toy(SMALL, layouts_inside=True), Settings(trials=120, seed=4)))
    same_search(*runs)


def test_a_killed_process_loses_nothing():
    whole = exhaustive.run(Toy(SMALL), chunk=100)
    killed = []

    def kill():
        while not killed:
            children = multiprocessing.active_children()
            if len(children) > 1:
                time.sleep(1.0)
                os.kill(children[0].pid, signal.SIGKILL)
                killed.append(children[0].pid)
            time.sleep(0.01)

    threading.Thread(target=kill, daemon=True).start()
    outcome = exhaustive.run(Slow(SMALL), chunk=100, workers=2)
    assert killed
    same_search(whole, outcome)


def test_designs_that_kill_every_worker_are_a_clear_message():
    with pytest.raises(UserError, match="workers died 5 times"), Processes(Deadly(SMALL), 1) as hands:
        hands.result(hands.submit(np.zeros((1, len(Toy(SMALL).variables)), int), np.zeros(1, int)))


def test_a_part_survives_the_journey():
    toy = Toy(SMALL, layouts_inside=True)
    index = next(toy.enumerate(200))
    with Processes(toy, 1) as hands:
        there = hands.result(hands.submit(index, np.arange(len(index))))
    here = score(toy, index, np.arange(len(index)))
    assert here.counts == there.counts and here.objectives.tobytes() == there.objectives.tobytes()


def test_dask_workers_may_die():
    """A real scheduler and two real worker processes on loopback; one is killed in the middle."""
    distributed = pytest.importorskip("distributed", reason="pip install 'codesign[dask]'")
    whole = exhaustive.run(Toy(SMALL), chunk=100)
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, env=environment) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        timer = threading.Timer(1.5, os.kill, (pids[0], signal.SIGKILL))
        timer.start()
        outcome = exhaustive.run(Slow(SMALL), chunk=100, dask=cluster.scheduler_address)
        timer.join()
    same_search(whole, outcome)


def test_no_scheduler_is_the_users_error(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("codesign.search.crew._TIMEOUT_S", 1)
    with pytest.raises(UserError, match="no Dask scheduler answers"):
        exhaustive.run(Toy(SMALL), dask="tcp://127.0.0.1:9")


TINY = {"d_model": (2048, 4096), "n_experts": (1, 16), "domain": ("node",)}  # 32 designs: workers can finish it

WORKER = """
import sys; sys.path.insert(0, {here!r})
from toy import SMALL, Toy
from codesign.search import joint
from codesign.search.loop import Hooks, Settings
toy = Toy(SMALL | {tiny!r}, layouts_inside=True)
joint.run(toy, Settings("ga", trials={n}, seed=int(sys.argv[1]), batch=5), Hooks(storage={url!r}, joins=True))
"""


@pytest.mark.slow
def test_postgresql_workers_may_die_and_the_server_may_restart():
    """Two of four workers are killed and the server goes away: every design counts once, and the front is that of one process alone."""
    n, toy = 400, Toy(SMALL | TINY, layouts_inside=True)
    alone = exhaustive.run(toy)
    with postgresql() as (url, restart):
        study = optuna_io.open_study(toy, storage=url)
        code = WORKER.format(here=str(HERE), n=n, url=url, tiny=TINY)
        workers = [subprocess.Popen([sys.executable, "-c", code, str(seed)], stderr=subprocess.PIPE) for seed in range(4)]
        done = lambda: len(study.get_trials(deepcopy=False, states=(optuna_io.TrialState.COMPLETE,)))  # noqa: E731
        for victim, least in zip(workers[:2], (5, 12), strict=True):
            while done() < least:
                assert any(worker.poll() is None for worker in workers), workers[0].stderr.read().decode()
                time.sleep(0.1)
            assert victim.poll() is None
            victim.kill()
        restart()
        assert [worker.wait(timeout=120) for worker in workers[2:]] == [0, 0], workers[2].stderr.read().decode()
        outcome = joint.run(toy, Settings("ga", trials=n, seed=9), Hooks(storage=url))
        trials = optuna_io.patiently(lambda: study.get_trials(deepcopy=False))
    states = Counter(trial.state.name for trial in trials)
    assert states["RUNNING"] + states["FAIL"] <= 2 * 5 + 4  # what the dead were at, and what the restart cut
    assert toy.n_designs <= outcome.n_trials == states["COMPLETE"] < n
    params = {tuple(sorted(t.params.items())) for t in trials if t.state.name == "COMPLETE"}
    assert outcome.exact and len(outcome.designs) == toy.n_designs <= len(params)
    assert len(np.unique(outcome.designs.index, axis=0)) == toy.n_designs
    fronts = [{tuple(row) for row in front_points(toy, o).tolist()} for o in (outcome, alone)]
    assert fronts[0] == fronts[1]
