"""Conformance of every file in the samplers folder, and the errors for what is not in it."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from toy import SMALL, Toy

from codesign.search import joint, samplers
from codesign.search.loop import Settings
from codesign.spec.errors import UserError


@pytest.mark.parametrize("name", samplers.names())
def test_every_sampler_runs_a_batch(name):
    info = samplers.describe(name)
    assert info.summary and info.name == name
    if info.missing:
        pytest.skip(f"{name} needs {', '.join(info.missing)}")
    objectives = ("usd_per_mtok", "tpot_s", "n_eff")[: info.max_objectives]
    toy = Toy(SMALL, objectives=objectives)
    outcome = joint.run(toy, Settings(name, trials=60))
    assert outcome.n_trials == 60 and outcome.n_designs > 20
    sampler, batch = samplers.create(name, toy, seed=0)
    assert batch >= 1
    importlib.import_module("optuna")
    assert isinstance(sampler, sys.modules["optuna"].samplers.BaseSampler)


@pytest.mark.parametrize("name", samplers.names())
def test_missing_modules_and_unsuitable_problems_are_the_users_error(name, monkeypatch):
    module = importlib.import_module(f"codesign.search.samplers.{name}")
    monkeypatch.setattr(module, "NEEDS", ("no_such_module",))
    with pytest.raises(UserError, match="no_such_module"):
        joint.run(Toy(SMALL), Settings(name))
    monkeypatch.setattr(module, "NEEDS", ())
    if module.MAX_OBJECTIVES:
        with pytest.raises(UserError, match="objective"):
            joint.run(Toy(SMALL), Settings(name))


def test_a_class_of_optuna_by_its_path():
    settings = Settings("optuna.samplers:NSGAIISampler", {"population_size": 20}, trials=60)
    outcome = joint.run(Toy(SMALL), settings)
    assert type(outcome.study.sampler).__name__ == "NSGAIISampler"
    ours = joint.run(Toy(SMALL), Settings("nsga2", {"population_size": 20}, trials=60))
    assert outcome.designs.index.tolist() == ours.designs.index.tolist()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("nsga", {}, "did you mean nsga"),
        ("quite_other", {}, "samplers: cmaes, ga"),
        ("ga", {"leest": 3}, "did you mean least"),
        ("ga", {"least": 1}, "least"),
        ("ga", {"sizes": [1]}, "no option 'sizes'"),
        ("nsga2", {"population_size": 1}, "population_size"),
        ("subprocess:Popen", {"args": "true"}, "only classes of optuna"),
        ("no_such_module:Class", {}, "only classes of optuna"),
        ("optuna.samplers:Nothing", {}, "cannot import"),
        (":", {}, "only classes of optuna"),
    ],
)
def test_errors_say_what_to_do(name, options, message):
    with pytest.raises(UserError, match=message):
        joint.run(Toy(SMALL), Settings(name, options))


def test_listing_and_enumeration_do_not_import_optuna():
    code = (
        "import sys; from codesign.search import samplers, exhaustive, nested, joint\n"
        "[samplers.describe(name) for name in samplers.names()]\n"
        "assert 'optuna' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_reach_the_sampler():
    sampler, batch = samplers.create("nsga2", Toy(SMALL), 0, {"population_size": 33})
    assert batch == sampler.population_size == 33
    outcome = joint.run(Toy(SMALL), Settings("ga", {"least": 10, "most": 10}, trials=40))
    assert np.isfinite(outcome.history[-1][2])
