"""Flat searches: a row that cannot fit is known without timing it, and what a design costs at best is looked up once."""

from dataclasses import replace

import numpy as np
import pytest
from test_exact import CASES

from codesign import evaluate as pipeline
from codesign.cheapest import Cheapest
from codesign.problem import StudyProblem
from codesign.search import joint, pareto, samplers
from codesign.search.loop import Hooks, Settings
from studies import SMALL, study


def rows(problem: StudyProblem, n: int, seed: int = 0) -> np.ndarray:
    """Distinct canonical, valid rows."""
    rng = np.random.default_rng(seed)
    index = problem.canonical(np.stack([rng.integers(0, len(v.choices), n) for v in problem.variables], axis=1))
    return np.unique(index[problem.valid(index)], axis=0)


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_known_before_it_is_timed(name, tmp_path):
    changes = {k: v for k, v in CASES[name].items() if k != "layout"}  # all layouts of the tool, most of which do not fit
    problem = replace(study(tmp_path, changes, {k: v for k, v in SMALL.items() if k != "layout"}).problem, flat=True)
    index = rows(problem, 600)
    fits = problem.fitting(index)
    of_layout = problem.evaluate(index).violations[:, : problem.constraint_names.index("serve memory") + 1]
    slow = (of_layout > 0).any(axis=1) & fits  # what fits may still be too slow to have a point, and nothing else
    assert not (~(of_layout > 0).any(axis=1) & ~fits).any()
    ceilings = [i for i, n in enumerate(problem.constraint_names) if n in ("ttft", "tpot")]
    assert not slow.any() or (ceilings and 0 < fits.mean() < 1)
    assert 0 < fits.mean() < 1


def test_cheapest_layouts_do_not_depend_on_what_was_asked_before(tmp_path):
    """Batches, single rows and a fresh memory agree, also where a derived value is coded anew in every batch."""
    changes = {"derived": {"architecture.d_expert": "48 * n_layers"}}
    problem = replace(study(tmp_path, changes).problem, flat=True)
    index = rows(problem, 200)
    values, codes = problem._decoded(index)
    memory = Cheapest(problem.setting)
    for unit in pipeline.PARTS:
        expected = pipeline.cheapest(problem.setting, values, codes, unit)
        for part in (slice(3, 7), slice(None), slice(0, 1)):
            found = memory({k: v[part] for k, v in values.items()}, {k: v[part] for k, v in codes.items()}, unit)
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[k], expected[k][part]) for k in found)


def test_designs_that_train_on_other_tokens_do_not_share_training_rows(tmp_path):
    """Tokens choose the global batch, and the batch the step."""
    changes = {
        "space": {"lifecycle.pretrain_tok": ["2e11 tok", "2e13 tok"], "architecture.n_layers": [32, 48]}, "constraints": {},
        "lifecycle": {"rl_tok": 0}, "objectives": {"c_eq_flop": "maximize", "train_days": "minimize"},
    }  # fmt: skip
    problem = study(tmp_path, changes).problem
    index = np.concatenate(list(problem.enumerate(100)))
    together = problem.evaluate(index).objectives
    assert np.array_equal(together, np.concatenate([problem.evaluate(row[None]).objectives for row in index]))


def test_the_default_sampler_proposes_only_flat_rows_that_fit(tmp_path):
    problem = replace(study(tmp_path, {"layout": {}}).problem, flat=True)
    engine = samplers.proposer(problem, Settings(seed=4), (), None, "")
    for _ in range(4):
        index, _ = engine.ask(engine.n_batch)
        assert len(index) and problem.fitting(index).all()
        batch = problem.evaluate(index)
        engine.tell(index, np.nan_to_num(batch.objectives, nan=1e9), batch.violations)


def children(problem: StudyProblem, chance: float, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """(offspring, its two parents) when layouts alone change with this chance."""
    monkeypatch.setattr("codesign.search.ga.P_RELAY", chance)
    engine = samplers.proposer(problem, Settings(seed=4), (), None, "")
    engine._parents = np.stack([np.zeros(len(problem.variables), int), np.array([len(v.choices) - 1 for v in problem.variables])])
    return engine._children(4000), engine._parents


def test_layouts_are_inherited_whole_and_may_change_alone(tmp_path, monkeypatch):
    problem = replace(study(tmp_path).problem, flat=True)
    n = len(problem.space.variables)
    assert problem.blocks == ("",) * n + ("train", "train", "serve", "serve")
    crossed, parents = children(problem, 0.0, monkeypatch)
    whole = [(crossed[:, n : n + 2] == parent[n : n + 2]).all(axis=1) for parent in parents]
    assert np.mean(whole[0] | whole[1]) > 0.75  # the rest is mutation; half, if degrees and devices were inherited apart
    relaid, _ = children(problem, 1.0, monkeypatch)
    assert all((relaid[:, :n] == parent[:n]).all(axis=1).any() for parent in parents)
    assert np.logical_or(*((relaid[:, :n] == parent[:n]).all(axis=1) for parent in parents)).all()
    assert not (relaid[:, None, n:] == parents[:, n:]).all(axis=2).any(axis=1).all()


def test_a_flat_space_where_nothing_fits_is_searched_all_the_same(tmp_path):
    train = {"n_tp": [1], "n_pp": [1], "n_ep": [1], "n_devices": [64]}
    changes = {"base": {"model": "deepseek-v3"}, "space": {"architecture.n_layers": [56, 60, 64]}, "layout": {"train": train}}
    problem = replace(study(tmp_path, changes).problem, flat=True)
    outcome = joint.run(problem, Settings(trials=60, seed=1), Hooks())
    assert outcome.n_designs and not len(outcome.front_index) and outcome.killed.get("train memory")


def test_flat_search_reaches_the_exact_front(tmp_path):
    """On the exact front's scale, of a study with balance, RL and a budget."""
    from codesign.search import exhaustive

    problem = study(tmp_path).problem
    exact = exhaustive.run(problem)
    points = np.stack([exact.front[o.name] for o in problem.objectives], axis=1)
    scale = pareto.scaling(points, (True, False, False))
    found = joint.run(replace(problem, flat=True), Settings(trials=6000, seed=2), Hooks(scale))
    assert found.history[-1][2] == pytest.approx(pareto.hypervolume(points, scale), rel=1e-9)
