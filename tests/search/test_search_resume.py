"""A run that was killed, interrupted or cut short continues to the result of an unbroken one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy import SMALL, Toy, same_search

from codesign.search import joint, samplers
from codesign.search.checkpoint import Checkpoint
from codesign.search.loop import Hooks, Settings
from codesign.spec.errors import UserError

EXACT = [name for name in samplers.names() if samplers.resumes(name) and not samplers.describe(name).missing]


def after(n_batches):
    """A stop hook that lets `n_batches` pass."""
    calls = iter(range(10**6))
    return lambda: next(calls) >= n_batches


def trials_of(outcome):
    return outcome.study and [(t.number, t.params, t.values, t.constraints) for t in outcome.study.trials]


@pytest.mark.parametrize("sampler", EXACT)
def test_interrupted_twice_equals_unbroken(sampler, tmp_path):
    few = sampler == "tpe"
    settings = Settings(
        sampler,
        {"population_size": 20} if "nsga" in sampler else {},
        trials=40 if few else 260,
        batch=10 if few else None,
    )
    warm = np.concatenate(list(Toy(SMALL).enumerate(10_000)))[[5, 700, 99]]
    whole = joint.run(Toy(SMALL), settings, Hooks(warm_start=warm))
    for n_batches in (1, 2):
        part = joint.run(Toy(SMALL), settings, Hooks(checkpoint=tmp_path / "log", stop=after(n_batches), warm_start=warm))
        assert (part.stop_reason == "stopped" and 0 < part.n_trials < settings.trials) or sampler in (
            "qmc",
            "random",
        )
    toy = Toy(SMALL)
    outcome = joint.run(toy, settings, Hooks(checkpoint=tmp_path / "log", warm_start=warm))
    same_search(whole, outcome)
    assert trials_of(whole) == trials_of(outcome)
    assert [entry[::2] for entry in whole.history] == [entry[::2] for entry in outcome.history]
    assert toy.n_evaluated < outcome.n_designs and not outcome.notes


@pytest.mark.parametrize("sampler", ["ga", "nsga2", "random"])
def test_more_trials_are_accepted(sampler, tmp_path):
    whole = joint.run(Toy(SMALL), Settings(sampler, trials=330))
    joint.run(Toy(SMALL), Settings(sampler, trials=120), Hooks(checkpoint=tmp_path / "log"))
    same_search(whole, joint.run(Toy(SMALL), Settings(sampler, trials=330), Hooks(checkpoint=tmp_path / "log")))
    finished = Toy(SMALL)
    same_search(whole, joint.run(finished, Settings(sampler, trials=330), Hooks(checkpoint=tmp_path / "log")))
    assert finished.n_evaluated == 0


def test_samplers_without_saved_state_continue_with_a_note(tmp_path):
    settings = Settings("optuna.samplers:RandomSampler", trials=60, batch=20)
    joint.run(Toy(SMALL), settings, Hooks(checkpoint=tmp_path / "log", stop=after(1)))
    outcome = joint.run(Toy(SMALL), settings, Hooks(checkpoint=tmp_path / "log"))
    assert outcome.n_trials == 60 and "not repeated" in outcome.notes[0]


@pytest.mark.parametrize("change", [{"seed": 1}, {"sampler": "random"}, {"options": {"least": 20}}, {"batch": 7}])
def test_a_different_search_is_refused(change, tmp_path):
    joint.run(Toy(SMALL), Settings(trials=60), Hooks(checkpoint=tmp_path / "log"))
    with pytest.raises(UserError, match=f"{next(iter(change))} was"):
        joint.run(Toy(SMALL), Settings(**({"trials": 60} | change)), Hooks(checkpoint=tmp_path / "log"))
    with pytest.raises(UserError, match="space was"):
        joint.run(Toy(SMALL, layouts_inside=True), Settings(trials=60), Hooks(checkpoint=tmp_path / "log"))


def test_a_torn_record_is_cut_off(tmp_path):
    for n_cut in (1, 13, 700):
        path = tmp_path / f"log{n_cut}"
        log = Checkpoint(path, {"seed": 1})
        log.append({"a": np.arange(3), "text": np.array(["x", "yy"], dtype=object)}, {"n": 1})
        whole = path.read_bytes()
        log.append({"a": np.arange(1000)}, {"n": 2})
        path.write_bytes(path.read_bytes()[:-n_cut])
        again = Checkpoint(path, {"seed": 1})
        [(arrays, meta)] = again.records
        assert meta == {"n": 1} and arrays["a"].tolist() == [0, 1, 2] and arrays["text"].tolist() == ["x", "yy"]
        assert path.read_bytes() == whole
        again.append({}, {"n": 3})
        assert [meta["n"] for _, meta in Checkpoint(path, {"seed": 1}).records] == [1, 3]


def test_what_is_no_checkpoint_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("something else entirely, and long enough")
    with pytest.raises(UserError, match="not a search checkpoint"):
        Checkpoint(path, {})
    assert path.read_text().startswith("something else")
    with pytest.raises(TypeError, match="column odd"):
        Checkpoint(tmp_path / "new", {}).append({"odd": np.array([{}, None], dtype=object)}, {})


RUN = """
import sys, time
sys.path.insert(0, {here!r})
from toy import SMALL, Toy
from codesign.search import exhaustive, joint
from codesign.search.loop import Hooks, Settings

class Slow(Toy):
    def evaluate(self, index):
        time.sleep(0.03)
        return super().evaluate(index)

if {sampler!r} == "exhaustive":
    exhaustive.run(Slow(SMALL), chunk=40, checkpoint={path!r})
else:
    joint.run(Slow(SMALL), Settings({sampler!r}, trials=1000), Hooks(checkpoint={path!r}))
"""


@pytest.mark.parametrize("sampler", ["ga", "nsga2", "exhaustive"])
def test_kill_9_loses_at_most_what_is_in_flight(sampler, tmp_path):
    from codesign.search import exhaustive

    path = tmp_path / "search.log"
    code = RUN.format(here=str(Path(__file__).parent), sampler=sampler, path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 40_000) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    toy = Toy(SMALL)
    if sampler == "exhaustive":
        whole, outcome = exhaustive.run(Toy(SMALL), chunk=40), exhaustive.run(toy, chunk=40, checkpoint=path)
    else:
        settings = Settings(sampler, trials=1000)
        whole, outcome = joint.run(Toy(SMALL), settings), joint.run(toy, settings, Hooks(checkpoint=path))
    same_search(whole, outcome)
    assert 0 < toy.n_evaluated < whole.n_designs
