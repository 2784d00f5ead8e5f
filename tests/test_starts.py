"""Sampled searches begin with published models, and end when the front stops growing."""

from dataclasses import replace

import numpy as np

from codesign import starts
from codesign.search import exhaustive, nested, pareto
from codesign.search.loop import Hooks, Settings
from codesign.search.problem import maximised
from studies import study


def test_warm_start_rows_are_valid_designs_near_published_models(tmp_path):
    problem = study(tmp_path, {"space": {"architecture.n_layers": [16, 32, 48, 64], "architecture.n_experts": [64, 128, 256]}}).problem
    index = starts.warm_start(problem)
    assert 1 < len(index) == len(np.unique(index, axis=0))
    assert problem.valid(index).all() and (problem.canonical(index) == index).all()
    variables = dict(zip([v.name for v in problem.variables], range(2), strict=True))
    qwen3 = [problem.variables[variables["architecture.n_layers"]].choices.index(48), 1]  # qwen3-30b-a3b: 48 layers, 128 experts
    assert qwen3 in index.tolist()


def test_a_model_of_another_attention_is_left_out(tmp_path):
    problem = study(tmp_path, {"space": {"architecture.attention": ["gqa", "mla"], "architecture.n_layers": [32, 48]}}).problem
    name = [v.name for v in problem.variables].index("architecture.attention")
    assert starts._nearest(problem.variables[name], "mha") is None and starts._nearest(problem.variables[name], "mla") == 1


def test_warm_designs_come_first_and_the_front_is_the_exact_one(tmp_path):
    problem = study(tmp_path).problem
    start = starts.warm_start(problem)
    exact = exhaustive.run(problem)
    outcome = nested.run(problem, Settings(trials=200), Hooks(warm_start=start))
    assert outcome.designs.index[: len(start)].tolist() == start.tolist()
    assert outcome.exact and outcome.stop_reason == "every design evaluated"
    names = [o.name for o in problem.objectives]
    points = [np.stack([found.front[n] for n in names], 1) for found in (exact, outcome)]
    scaling = pareto.scaling(points[0], maximised(problem))
    assert np.isclose(*[pareto.hypervolume(p, scaling) for p in points], rtol=1e-12)


def test_optuna_trials_carry_a_speed_tier_and_our_algorithm_does_not(tmp_path):
    from codesign.run import searched_problem

    small = study(tmp_path)
    tiered = study(tmp_path, {"search": {"sampler": "nsga2"}})
    assert not searched_problem(small, "nested", stored=False).sampled
    assert searched_problem(small, "nested", stored=True).sampled and searched_problem(tiered, "nested", stored=False).sampled
    assert not searched_problem(tiered, "joint", stored=True).sampled
    assert searched_problem(small, "nested", False) == replace(small.problem)


def test_the_estimate_times_neighbours_as_an_enumeration_meets_them(tmp_path):
    from codesign.run import plan

    space = {"architecture.n_layers": {"range": [20, 59]}, "architecture.n_experts": [64, 128], "precision.weight_bits": [8, 16],
             "architecture.d_expert": [512, 768, 1024, 1536]}  # fmt: skip
    problem = study(tmp_path, {"space": space}).problem
    estimate = plan(study(tmp_path, {"space": space})).seconds
    outcome = exhaustive.run(problem)
    assert estimate / 8 < outcome.seconds < 8 * estimate  # the machine is shared: an order of magnitude is what a choice of method needs
    assert plan(study(tmp_path, {"space": {}})).space_designs == 1
