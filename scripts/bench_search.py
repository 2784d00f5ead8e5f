"""Share of the exact front against evaluations and seconds: every sampler on shipped studies and on closed forms.

    python scripts/bench_search.py [--json] [--full] [--spaces NAME ...] [--methods NAME ...] [--seeds N] [--seconds S] [--overhead]

Shipped spaces are enumerated first (the exact front is kept in --cache until a line of the package changes). Then every method runs
on the same evaluator: `nested` proposes designs, `joint` designs with one layout each. `ga` is the default of `codesign run`,
`ga-optuna` the same algorithm as an Optuna sampler, `pymoo` its NSGA-II; the others are Optuna's own, asked for in batches of a
generation so that the evaluator is called as rarely as for ours. A row says how far a method had come by a budget of evaluations, at the end of its time
(`end`) and when it reached 99 % (`99 %`): medians over seeds, with the worst share and CPU seconds beside the wall clock. A method whose
package is not installed has one row that says so. `--overhead` measures whole runs instead: which share of them is storage and bookkeeping.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from closed_forms import Rugged, Sphere

from codesign.search import exhaustive, joint, nested, pareto
from codesign.search.loop import Hooks, Settings
from codesign.search.optuna_io import TrialProposer, open_study
from codesign.search.outcome import Tracker
from codesign.search.problem import maximised, sizes
from codesign.study import open_study as load

ROOT = Path(__file__).parents[1]
FRONTIER = ("space.architecture.n_layers=[40, 48, 56, 64, 72, 80]", "space.architecture.d_model=[5120, 7168, 9216]",
            "space.architecture.d_expert=[1024, 2048, 3072]", "space.serve.scale_up_size=[8, 72]")  # fmt: skip
STUDIES = {
    "dense-on-8gpu": ("dense-on-8gpu-nodes", ()),
    "precision": ("precision", ()),
    "quickstart": ("quickstart", ()),
    "moe-on-nvl72": ("moe-on-nvl72", FRONTIER),  # 1.2e9 of its 1.4e10 rows, so that the exact front takes a minute
}
CLOSED = {"sphere": Sphere, "rugged": Rugged}
METHODS = ("ga", "ga-optuna", "nsga2", "nsga3", "tpe", "gp", "qmc", "random", "pymoo")
BUDGETS = (100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000)
ENOUGH = 0.9995  # of the exact front's hypervolume: a run ends here, there is nothing left to compare
TARGET = 0.99


@dataclass
class Case:
    """A problem with its exact front."""

    space: str
    form: str
    problem: Any
    scaling: pareto.Scaling
    volume: float
    rows: float


@dataclass
class Curve:
    """One run: evaluations, wall and CPU seconds, share, at every mark of the search."""

    evaluations: np.ndarray
    seconds: np.ndarray
    cpu_s: np.ndarray
    share: np.ndarray

    def at(self, row: int) -> tuple[float, float, float, float]:
        return tuple(float(column[row]) for column in (self.evaluations, self.seconds, self.cpu_s, self.share))

    def by_budget(self, budget: int):
        """The last mark within the budget; None where the run ended before it."""
        return self.at(np.flatnonzero(self.evaluations <= budget)[-1]) if self.evaluations[-1] >= budget >= self.evaluations[0] else None

    def at_target(self):
        """The first mark at 99 %; None where it was not reached."""
        reached = np.flatnonzero(self.share >= TARGET)
        return self.at(reached[0]) if len(reached) else None


class PymooProposer:
    """pymoo's NSGA-II on positions, behind the interface of the search loop."""

    def __init__(self, problem, seed: int, n_constraints: int, seconds: float) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        top = np.array(sizes(problem)) - 1
        repair = {"vtype": float, "repair": RoundingRepair()}
        self._sign = np.where(maximised(problem), -1.0, 1.0)
        self._n_constraints = n_constraints
        self._algorithm = NSGA2(
            100, IntegerRandomSampling(), crossover=SBX(prob=1.0, eta=3.0, **repair), mutation=PM(prob=1.0, eta=3.0, **repair)
        )
        space = Problem(n_var=len(top), n_obj=len(self._sign), n_ieq_constr=n_constraints, xl=0, xu=top, vtype=int)
        self._algorithm.setup(space, termination=("time", 10 * seconds), seed=seed, verbose=False)
        self.n_batch, self._n = 100, 0

    def ask(self, n: int):
        """The next generation, whole."""
        self._infills = self._algorithm.ask()
        index = np.asarray(self._infills.get("X"), dtype=np.int64)
        self._n += len(index)
        return index, np.arange(self._n - len(index), self._n)

    def tell(self, index: np.ndarray, values: np.ndarray, violations: np.ndarray) -> None:
        """Objectives minimised, violations as they are."""
        self._infills.set("F", values * self._sign)
        self._infills.set("G", violations)
        for individual in self._infills:
            individual.evaluated.update({"F", "G"})
        self._algorithm.tell(infills=self._infills)


def cases(names, cache: Path) -> Iterator[Case]:
    """The problems asked for, both forms of a study."""
    for name in names:
        if name in CLOSED:
            problem = CLOSED[name]()
            scaling = pareto.scaling(problem.front(), log=[False] * len(problem.objectives))
            volume = pareto.hypervolume(problem.front(), scaling)
            yield Case(name, "joint", problem, scaling, volume, float(problem.n_designs))
            continue
        study, overrides = STUDIES[name]
        problem = load(ROOT / "studies" / f"{study}.yaml", overrides).problem
        front = exact_front(name, problem, cache)
        scaling = pareto.scaling(front, maximised(problem))
        volume = pareto.hypervolume(front, scaling)
        rows = float(problem.space.n_designs().n) * problem.rows_per_design
        for form in ("nested", "joint"):
            yield Case(name, form, replace(problem, flat=form == "joint"), scaling, volume, rows)


def exact_front(name: str, problem, cache: Path) -> np.ndarray:
    """Objectives of the exact front, enumerated once per version of the code."""
    digest = hashlib.sha256(repr((STUDIES[name], sizes(problem))).encode())
    for path in sorted([*ROOT.glob("codesign/**/*.py"), *ROOT.glob("codesign/**/*.yaml"), *ROOT.glob("s*/*.yaml")]):
        digest.update(path.read_bytes())
    path = cache / f"{name}-{digest.hexdigest()[:16]}.npy"
    if not path.is_file():
        start, cpu = time.perf_counter(), time.process_time()
        outcome = exhaustive.run(problem)
        assert outcome.exact
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{name}: exact front of {outcome.n_designs:,} designs in {wall:.1f} s ({cpu:.1f} CPU s)", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack([outcome.front[o.name] for o in problem.objectives], axis=1))
    return np.load(path)


def curve(case: Case, method: str, seed: int, seconds: float) -> Curve:
    """Run one method until it has found everything or its time is over."""
    problem = replace(case.problem, sampled=True) if case.form == "nested" and method != "ga" else case.problem  # a speed tier per trial
    settings = Settings(method.removesuffix("-optuna"), trials=None, seed=seed, time_limit_s=seconds)
    names, clock = Tracker(problem).constraint_names, [(0.0, 0.0)]
    wall, cpu, latest = time.perf_counter(), time.process_time(), [0.0]

    def progress(_done, _total, _n_front, volume: float, _rate) -> None:
        clock.append((time.perf_counter() - wall, time.process_time() - cpu))
        latest[0] = volume

    proposer = None
    if method == "pymoo":
        proposer, settings = PymooProposer(problem, seed, len(names), seconds), replace(settings, sampler="random")
    elif method == "ga-optuna":
        from codesign.search import samplers

        sampler, batch = samplers.create("ga", problem, seed)
        proposer = TrialProposer(problem, open_study(problem, sampler), names, batch, shared=False)
    hooks = Hooks(case.scaling, progress, stop=lambda: latest[0] >= ENOUGH * case.volume, proposer=proposer)
    outcome = (joint if case.form == "joint" else nested).run(problem, settings, hooks)
    clock.append((time.perf_counter() - wall, time.process_time() - cpu))
    evaluations, walls, volumes = np.array(outcome.history or [(outcome.n_designs, outcome.seconds, 0.0)]).T
    return Curve(evaluations, walls, np.interp(walls, *np.array(clock).T), volumes / case.volume)


def rows_of(case: Case, method: str, curves: list[Curve]) -> Iterator[dict[str, Any]]:
    """One row per budget that most seeds reached, one for the end, one for 99 % (nulls where most seeds did not reach it)."""
    lead = {"space": case.space, "rows": case.rows, "form": case.form, "method": method, "n_seeds": len(curves)}
    for budget in (*BUDGETS, "end", "99 %"):
        if budget == "end":
            found = [c.at(-1) for c in curves]
        else:
            found = [c.at_target() if budget == "99 %" else c.by_budget(budget) for c in curves]
        met = [f for f in found if f is not None]
        if 2 * len(met) > len(curves):
            evaluations, seconds, cpu_s, share = np.median(met, axis=0)
            worst = min(f[3] for f in met)
            yield lead | {
                "budget": budget,
                "evaluations": int(evaluations),
                "seconds": seconds,
                "cpu_s": cpu_s,
                "share": share,
                "share_worst": worst,
            }
        elif budget == "99 %":
            yield lead | {"budget": budget, "evaluations": None, "seconds": None, "cpu_s": None, "share": None, "share_worst": None}


def missing(method: str) -> str | None:
    """Why a method cannot run here."""
    from codesign.search import samplers

    needs = ("pymoo",) if method == "pymoo" else samplers.describe(method.removesuffix("-optuna")).missing
    absent = [name for name in needs if find_spec(name) is None]
    return f"{', '.join(absent)} is not installed" if absent else None


def text_of(row: dict[str, Any]) -> str:
    if "reason" in row:
        return f"{row['space']:<14}{row['form']:<8}{row['method']:<10}not measured: {row['reason']}"
    if row["seconds"] is None:
        return f"{row['space']:<14}{row['form']:<8}{row['method']:<10}{row['budget']!s:>7}  not reached"
    return (f"{row['space']:<14}{row['form']:<8}{row['method']:<10}{row['budget']!s:>7}{row['evaluations']:>9,}"
            f"{row['seconds']:>9.2f} s{row['cpu_s']:>8.2f} CPU s{row['share']:>9.4f}  worst {row['share_worst']:.4f}")  # fmt: skip


def whole_runs(names, as_json: bool) -> None:
    """The table of `--overhead`."""
    import overhead

    rows = []
    for row in (*overhead.rows({name: STUDIES[name] for name in names}), overhead.postgresql_row()):
        rows.append(row)
        print(overhead.text_of(row), file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        print(json.dumps(rows, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="5 seeds and 30 s a run instead of 1 and 4")
    parser.add_argument("--spaces", nargs="+", choices=(*STUDIES, *CLOSED), default=(*STUDIES, *CLOSED))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--forms", nargs="+", choices=("nested", "joint"), default=("nested", "joint"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--seconds", type=float)
    default_cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "codesign"
    parser.add_argument("--cache", type=Path, default=default_cache, help="where exact fronts are kept")
    parser.add_argument("--overhead", action="store_true", help="where the time of whole runs goes, instead of shares")
    args = parser.parse_args()
    if args.overhead:
        whole_runs([name for name in args.spaces if name in STUDIES], args.json)
        return
    n_seeds, seconds = args.seeds or (5 if args.full else 1), args.seconds or (30.0 if args.full else 4.0)
    rows = []
    for case in cases(args.spaces, args.cache):
        for method in args.methods if case.form in args.forms else ():
            if reason := missing(method):
                found = [{"space": case.space, "form": case.form, "method": method, "budget": "end", "reason": reason}]
            else:
                found = list(rows_of(case, method, [curve(case, method, seed, seconds) for seed in range(n_seeds)]))
            rows += found
            for row in found if not args.json else [r for r in found if r["budget"] in ("end", "99 %")]:
                print(text_of(row), file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
