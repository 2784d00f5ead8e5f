"""The table that the defaults were chosen from: closed forms, rows, and the default sampler against the others."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codesign.search import joint, pareto
from codesign.search.loop import Hooks, Settings

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from closed_forms import Rugged, Sphere  # noqa: E402


@pytest.mark.parametrize("form", [Sphere, Rugged])
def test_closed_front_is_reached_at_distance_zero_and_never_beaten(form):
    problem, rng = form(), np.random.default_rng(0)
    sizes = [len(v.choices) for v in problem.variables]
    index = rng.integers(0, sizes, (20_000, len(sizes)))
    front = problem.front()
    both = np.concatenate([front, problem.evaluate(index).objectives])
    kept = pareto.nondominated(np.round(both, 12))
    assert kept[len(front) :].sum() == 0 and kept.sum() == pareto.nondominated(np.round(front, 12)).sum() > 20
    scaling = pareto.scaling(front, log=[False] * front.shape[1])
    assert pareto.hypervolume(front, scaling) > 0.1


@pytest.mark.parametrize("form", [Sphere, Rugged])
def test_default_sampler_reaches_99_percent_of_a_closed_front(form):
    problem = form()
    scaling = pareto.scaling(problem.front(), log=[False] * len(problem.objectives))
    outcome = joint.run(problem, Settings(trials=20_000), Hooks(scaling))
    assert outcome.history[-1][2] >= 0.99 * pareto.hypervolume(problem.front(), scaling)


def test_script_prints_a_row_per_space_method_and_budget(tmp_path):
    command = [
        sys.executable,
        "scripts/bench_search.py",
        "--json",
        "--spaces",
        "dense-on-8gpu",
        "sphere",
        "--methods",
        "ga",
        "nsga2",
        "--seconds",
        "2",
    ]
    done = subprocess.run([*command, "--cache", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {(r["space"], r["form"], r["method"]) for r in rows} >= {("dense-on-8gpu", "nested", "ga"), ("sphere", "joint", "nsga2")}
    assert all({"budget", "evaluations", "seconds", "share"} <= set(row) for row in rows)
    end = {(r["space"], r["form"], r["method"]): r["share"] for r in rows if r["budget"] == "end"}
    assert end["dense-on-8gpu", "nested", "ga"] >= 0.99 and end["sphere", "joint", "ga"] > end["sphere", "joint", "nsga2"]
    assert any(r["budget"] == 100 and r["evaluations"] <= 100 for r in rows)


def test_time_of_nested_functions_counts_once():
    import time
    from types import SimpleNamespace

    import overhead

    thing = SimpleNamespace(inner=lambda: time.sleep(0.05))
    thing.outer = lambda: (time.sleep(0.02), thing.inner())
    kinds, overhead.KINDS = overhead.KINDS, {"a": ((thing, "outer"),), "b": ((thing, "inner"),)}
    try:
        with overhead.stopwatch() as spent:
            thing.outer()
    finally:
        overhead.KINDS = kinds
    assert 0.02 <= spent["a"] < 0.05 <= spent["b"]


def test_every_timed_function_of_a_run_exists():
    import overhead

    assert all(callable(getattr(owner, name)) for functions in overhead.KINDS.values() for owner, name in functions)


@pytest.mark.slow
def test_a_method_without_its_package_says_so():
    done = subprocess.run([sys.executable, "scripts/bench_search.py", "--json", "--spaces", "sphere", "--methods", "gp", "--seconds", "2"],
                          cwd=ROOT, capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        import torch  # noqa: F401
    except ImportError:
        assert json.loads(done.stdout)[0]["reason"] == "torch is not installed"
