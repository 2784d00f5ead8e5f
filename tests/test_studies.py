"""Every shipped study and space: it loads, it counts, some of its designs work, and it says what it asks."""

from pathlib import Path

import numpy as np
import pytest

from codesign.spec import load_study, yamlio
from codesign.study import open_study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
SPACES = sorted((ROOT / "spaces").glob("*.yaml"))
SAMPLE = 48


def _stem(path):
    return path.stem


def _scenarios():
    return [(path, name) for path in STUDIES for name in yamlio.load_plain(path).get("scenarios") or {}]


def _sample(problem):
    """Up to SAMPLE valid designs of a space."""
    designs = np.unique(problem.space.canonical(problem.space.sample(SAMPLE, seed=0)), axis=0)
    return designs[problem.valid(designs)]


def test_enough_are_shipped():
    assert len(STUDIES) >= 8
    assert len(SPACES) >= 6


def test_names_are_those_of_the_files_and_unique():
    named = [(path, yamlio.load_plain(path)["name"]) for path in (*STUDIES, *SPACES)]
    assert [name for _, name in named] == [path.stem for path, _ in named]
    names = [name for _, name in named]
    assert len(set(names)) == len(names)  # `from: NAME` looks beside the study first


@pytest.mark.parametrize("path", STUDIES, ids=_stem)
def test_a_study_says_what_it_asks(path):
    head = path.read_text(encoding="utf-8").split("version:")[0]
    study = load_study(path)
    assert study.question.endswith("?")
    assert f"codesign run studies/{path.name}" in head
    assert sum(line.startswith("# ") for line in head.splitlines()) >= 5
    assert 2 <= len(study.objectives) <= 5


@pytest.mark.parametrize("path", STUDIES, ids=_stem)
def test_some_designs_of_a_study_are_feasible(path):
    problem = open_study(path).problem
    assert problem.space.n_designs().n > 1
    assert problem.space.n_valid().n > 1
    designs = _sample(problem)
    batch = problem.evaluate(designs)
    feasible = np.all(batch.violations <= 0, axis=1)
    assert np.all(np.isfinite(batch.violations))
    assert feasible.any(), batch.killed
    assert np.all(np.isfinite(batch.objectives[feasible]))
    for goal in problem.setting.goals:
        assert np.all(batch.points[goal.column] > 0)


@pytest.mark.parametrize(("path", "scenario"), _scenarios(), ids=lambda v: getattr(v, "stem", v))
def test_some_designs_of_a_scenario_are_feasible(path, scenario):
    problem = open_study(path, scenario=scenario).problem
    batch = problem.evaluate(_sample(problem))
    assert np.all(batch.violations <= 0, axis=1).any(), batch.killed


@pytest.mark.parametrize("path", SPACES, ids=_stem)
def test_a_space_is_used_and_described(path):
    data = yamlio.load_plain(path)
    assert data["version"] == 1
    assert data["description"]
    assert len(data["space"]) >= 3
    starts = [(yamlio.load_plain(study).get("space") or {}).get("from") for study in STUDIES]
    assert path.stem in starts
