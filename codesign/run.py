"""Run or resume a study: choose the method, search, and write a run directory that nothing can leave half-written."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from codesign.constraints import in_words
from codesign.coverage import coverage
from codesign.problem import TIER, StudyProblem
from codesign.results import FORMAT, JOURNAL, SEALED, Run, digest, load_results, write_atomically
from codesign.search import exclusion, exhaustive, joint, nested, pareto, samplers
from codesign.search.lock import NAME as LOCK
from codesign.search.lock import locked
from codesign.search.loop import Hooks, Settings
from codesign.search.outcome import SearchOutcome
from codesign.search.problem import maximised
from codesign.spec.errors import SpecError, UserError
from codesign.starts import warm_start
from codesign.study import Study, sampler_problems

PILOT_DESIGNS, NEIGHBOURS = 48, 256
LONG_S, ALONE = 10.0, 1.5  # an enumeration for which it pays to ask what bounds save; cost of a design whose neighbours are excluded
MAX_DESIGN_ROWS = 8_000  # sampled designs kept beside the front
CHECKPOINT = "search.ckpt"


@dataclass(frozen=True)
class Plan:
    """What a run will do and why."""

    method: str
    reason: str
    space_designs: int
    is_exact_count: bool
    space_rows: int
    seconds: float  # estimated time of an exhaustive run
    feasible_share: float
    scaling: pareto.Scaling | None = None  # of the pilot's front: what the hypervolume is measured in; None where nothing was feasible
    excluded_share: float = 0.0  # of the designs that bounds would exclude from one
    unbounded: tuple[str, ...] = ()  # objectives because of which they exclude none


def plan(study: Study, seed: int = 0, stored: bool = False) -> Plan:
    """Count the space, time a pilot, and choose: exhaustive when it fits the time limit and no storage asks for trials, else nested."""
    problem, search = study.problem, study.file.search
    count = problem.space.n_designs()
    valid = problem.space.n_valid()
    pilot = problem.space.sample(min(PILOT_DESIGNS, max(count.n, 1)), seed)
    pilot = np.unique(problem.canonical(pilot), axis=0)
    pilot = pilot[problem.valid(pilot)]
    seconds, share, excluded, scale = 0.0, 0.0, 0.0, None
    if len(pilot):
        batch = problem.evaluate(pilot)
        share = float(np.mean(np.all(batch.violations <= 0, axis=1)))
        scale = _front_scaling(problem, batch.points)
        seconds, excluded = _seconds_of_all(problem, pilot, valid.n)
    method, reason = search.method, "the study asks for it"
    if method == "auto":
        fits = valid.is_exact and seconds <= search.time_limit
        method = "exhaustive" if fits else "nested"
        size = f"{valid.n:,} designs" if valid.is_exact else "too many designs to count"
        reason = f"{size}, about {_duration(seconds)} to evaluate all, time limit {_duration(search.time_limit)}"
        if stored:
            method, reason = "nested", "the trials of a storage are sampled"
    if problems := list(sampler_problems(study.file, method != "exhaustive")):
        raise SpecError(map(study.file.place, problems))
    rows = count.n * problem.rows_per_design
    return Plan(method, reason, count.n, count.is_exact, rows, seconds, share, scale, excluded, problem.unbounded)


def _front_scaling(problem: StudyProblem, points: dict[str, np.ndarray]) -> pareto.Scaling | None:
    """Scaling by the front of feasible points; None without any."""
    values, maximise = np.stack([points[o.name] for o in problem.objectives], axis=1), maximised(problem)
    front = values[pareto.nondominated(values, maximise)]
    return pareto.scaling(front, maximise) if len(front) else None


def _seconds_of_all(problem: StudyProblem, pilot: np.ndarray, n: int) -> tuple[float, float]:
    """(time to enumerate n designs, share of them that bounds exclude): judged by a short search, where the whole takes longer than that."""
    each = _seconds_per_design(problem, pilot)
    if each * n < LONG_S or not exclusion.can_exclude(problem):
        return each * n, 0.0
    start = time.perf_counter()
    fence = exclusion.scout(problem, exclusion.FEW_SCOUTS)
    scouts_s, start = time.perf_counter() - start, time.perf_counter()
    excluded = exclusion.excluded_share(problem, fence) if fence is not None else 0.0
    bound_s = (time.perf_counter() - start) / exclusion.PILOT
    if excluded < exclusion.LEAST_SHARE:
        return each * n, 0.0
    left_s = (1.0 - excluded) * each * ALONE
    return min(scouts_s * exclusion.SCOUTS / exclusion.FEW_SCOUTS + n * (bound_s + left_s), each * n), excluded


def _seconds_per_design(problem: StudyProblem, pilot: np.ndarray) -> float:
    """Time of designs that lie side by side, as an enumeration meets them: they share most of their parts, which random designs do not.

    Two blocks of neighbours of a random design: all choices of the variables that vary fastest.
    """
    sizes = [v.n_active for v in problem.space.variables] or [1]
    n_fast = next((n for n in range(1, len(sizes)) if prod(sizes[-n:]) >= NEIGHBOURS), len(sizes))
    block = np.stack(np.unravel_index(np.arange(min(prod(sizes[-n_fast:]), 4 * NEIGHBOURS)), sizes[-n_fast:]), axis=1)
    spent, n = 0.0, 0
    for row in pilot[[0, -1]]:
        index = np.tile(row, (len(block) + 1, 1))  # and the design itself, which is valid
        index[1:, -n_fast:] = block[:, : len(row)]
        index = np.unique(problem.canonical(index), axis=0)
        index = index[problem.valid(index)]
        start = time.perf_counter()
        problem.evaluate(index)
        spent, n = spent + time.perf_counter() - start, n + len(index)
    return spent / n


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def run(
    study: Study, out: str | Path | None = None, *, trials: int | None = None, seed: int | None = None,
    storage: str | None = None, workers: int | None = None, dask: str | None = None, resume: bool = False,
    progress: Callable[..., None] | None = None, announce: Callable[[Plan], None] | None = None,
) -> Run:  # fmt: skip
    """Search and save.  An identical study continues in its directory; another study there is an error that names the difference.

    workers: processes that score designs, instead of threads; dask: a scheduler whose workers do; storage: an Optuna storage that
    other processes join with `work`.
    """
    start = time.perf_counter()
    folder = Path(out) if out is not None else Path("runs") / study.name
    _refuse_foreign(folder, study, resume)
    chosen = plan(study, study.file.search.seed if seed is None else seed, storage is not None)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _refuse_foreign(folder, study, resume)
        _claim(folder, study)
        if announce is not None:
            announce(chosen)
        settings = _settings(study, trials, seed)
        problem = searched_problem(study, chosen.method, storage is not None)
        scale = _saved_scaling(folder) or chosen.scaling
        hooks = Hooks(scale, progress, checkpoint=folder / CHECKPOINT, storage=storage, study_name=study.name, workers=workers, dask=dask)
        outcome = _search(problem, chosen.method, settings, hooks)
        table = tabulate(problem, outcome, folder)
        note = _write_journal(problem, outcome, folder, study.name)
        wall = time.perf_counter() - start
        save(folder, study, table, _manifest(study, problem, outcome, folder, chosen, table, settings, wall, note))
        return load_results(folder)


def work(
    study: Study, storage: str, trials: int | None = None, seed: int | None = None, progress: Callable[..., None] | None = None
) -> SearchOutcome:
    """Join the sampled search of a study in a storage until its trials are done.  Writes no directory: the run that began it does."""
    method = "nested" if study.file.search.method == "auto" else study.file.search.method
    settings = _settings(study, trials, seed)
    own = np.random.SeedSequence(
        [settings.seed, os.getpid(), zlib.crc32(socket.gethostname().encode())]
    )  # not the designs of another worker
    settings = replace(settings, seed=int(own.generate_state(1)[0]), flat_gain=None)  # one process decides when the front is flat
    return _search(
        searched_problem(study, method, True),
        method,
        settings,
        Hooks(progress=progress, storage=storage, study_name=study.name, joins=True),
    )


def _settings(study: Study, trials: int | None, seed: int | None) -> Settings:
    search = study.file.search
    seed = search.seed if seed is None else seed
    return Settings(search.sampler, trials=trials or search.trials, seed=seed, batch=search.batch, flat_gain=search.flat_gain or None)


def searched_problem(study: Study, method: str, stored: bool) -> StudyProblem:
    """The study's problem in the form of a method: layouts are variables in `joint`; a trial of an Optuna sampler in `nested`
    carries a speed tier, because it can report only one point.  Our own algorithm learns from all points of a design."""
    one_vector = stored or not samplers.has_engine(study.file.search.sampler)
    return replace(study.problem, sampled=method == "nested" and one_vector, flat=method == "joint")


def _search(problem: StudyProblem, method: str, settings: Settings, hooks: Hooks) -> SearchOutcome:
    if method == "exhaustive":
        if hooks.storage:
            raise UserError(
                "a storage holds the trials of a sampled search, and this one is exhaustive",
                hint="add --set search.method=nested; or use --workers or --dask",
            )
        return exhaustive.run(
            problem, reference=hooks.reference, progress=hooks.progress, checkpoint=hooks.checkpoint, workers=hooks.workers, dask=hooks.dask
        )
    if method == "nested" and not hooks.joins:
        hooks = replace(hooks, warm_start=warm_start(problem))
    return (joint if method == "joint" else nested).run(problem, settings, hooks)


def _refuse_foreign(folder: Path, study: Study, resume: bool) -> None:
    """Say what is different about the study that is already there.  Writes nothing."""
    path = folder / "study.yaml"
    if path.is_file():
        different = _differences(path.read_text(encoding="utf-8"), study.file.resolved_yaml())
        if different:
            raise UserError(
                f"{folder} holds the results of another study; different: {', '.join(different[:6])}",
                hint="choose another directory with --out, or delete this one",
            )
    elif folder.exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a run directory", hint="choose another directory with --out")
    elif resume:
        raise UserError(f"{folder}: nothing to resume", hint="leave --resume out to start")


def _claim(folder: Path, study: Study) -> None:
    """Take the directory for this study."""
    path = folder / "study.yaml"
    if not path.is_file():
        write_atomically(path, lambda part: part.write_text(study.file.resolved_yaml(), encoding="utf-8"))


def _differences(theirs: str, mine: str) -> list[str]:
    """Dotted keys whose values differ; more trials, another time limit or other references are no difference."""
    from codesign.spec import yamlio

    flat = [_flat(yamlio.parse(text).data) for text in (theirs, mine)]
    free = {"search.trials", "search.time_limit", "search.flat_gain", "question", "references"}
    keys = sorted({*flat[0], *flat[1]} - free)
    return [key for key in keys if flat[0].get(key) != flat[1].get(key)]


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    out: dict[str, Any] = {}
    for key, value in data.items():
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out


def tabulate(problem: StudyProblem, outcome: SearchOutcome, folder: Path):
    """One row per archived point (with every column) and per sampled design (variables, objectives, why it died)."""
    import pandas as pd

    names = [v.name for v in problem.space.variables]
    front = pd.DataFrame({k: v for k, v in outcome.front.items() if k not in names})
    n = len(names)
    if len(front):
        front = pd.concat([_variables(problem, outcome.front_index[:, :n]), front], axis=1)
        tiers = np.array(problem.setting.tiers_s)
        if tiers.size:
            front[TIER] = tiers[np.minimum(np.searchsorted(tiers, front["tpot_s"] * (1 - 1e-12)), tiers.size - 1)]
        front["id"] = _ids(front, folder)
        front = front.sort_values("id").reset_index(drop=True)
    front["on_front"], front["feasible"], front["killed_by"] = True, True, None
    designs = outcome.designs
    others = np.flatnonzero(~np.isin(designs.design_id, front["design_id"] if len(front) else []))
    if len(others) > MAX_DESIGN_ROWS:
        others = others[np.linspace(0, len(others) - 1, MAX_DESIGN_ROWS).astype(int)]
    rest = designs.take(others)
    table = _variables(problem, rest.index[:, :n])
    for i, goal in enumerate(problem.setting.goals):
        table[goal.column] = rest.objectives[:, i]
    broken = rest.violations > 0
    labels = np.array([*outcome.constraint_names, ""], dtype=object)
    first = np.where(broken.any(axis=1), np.argmax(broken, axis=1), len(labels) - 1)
    table["design_id"], table["on_front"], table["feasible"] = rest.design_id, False, ~broken.any(axis=1)
    table["killed_by"] = [labels[i] or None for i in first]
    table["id"] = np.arange(len(table)) + (int(front["id"].max()) + 1 if len(front) else 0)
    lead = ["id", "design_id", *names, *([TIER] if TIER in front else []), *(g.column for g in problem.setting.goals)]
    whole = pd.concat([front, table], ignore_index=True) if len(table) else front
    return whole.reindex(columns=[*lead, *(c for c in whole.columns if c not in lead)])  # all of them, though nothing was evaluated yet


def _variables(problem: StudyProblem, index: np.ndarray):
    """Searched variables; an inactive one is an empty cell."""
    import pandas as pd

    values, active = problem.space.values(index), problem.space.active(index) if len(index) else np.zeros((0, index.shape[1]), bool)
    columns = {}
    for i, v in enumerate(problem.space.variables):
        column = pd.Series(values[v.name])
        columns[v.name] = column.where(active[:, i]) if len(index) and not active[:, i].all() else column
    return pd.DataFrame(columns)


def _ids(front, folder: Path) -> np.ndarray:
    """Integer ids: points that an earlier checkpoint of this run archived keep theirs, new ones count on."""
    import pandas as pd

    keys = list(zip(front["design_id"], front["point"], strict=True))
    path = folder / "results.parquet"
    known: dict[tuple[int, int], int] = {}
    if path.is_file():
        old = pd.read_parquet(path)
        if "point" in old:
            old = old[old["on_front"]]
            known = {(int(d), int(p)): int(i) for d, p, i in zip(old["design_id"], old["point"], old["id"], strict=True)}
    used = set(known.values())
    fresh = (i for i in range(len(keys) + len(used) + 1) if i not in used)
    return np.array([known.get((int(d), int(p))) if (int(d), int(p)) in known else next(fresh) for d, p in keys])


def _write_journal(problem: StudyProblem, outcome: SearchOutcome, folder: Path, name: str) -> str | None:
    """The Optuna storage that optuna-dashboard opens."""
    from codesign.search import dashboard

    return dashboard.write_journal(problem, outcome, folder / JOURNAL, name)


def _manifest(study, problem, outcome, folder: Path, chosen: Plan, table, settings: Settings, wall, note) -> dict[str, Any]:
    points = np.stack([outcome.front[o.name] for o in problem.objectives], axis=1) if len(outcome.front_index) else []
    hypervolume = pareto.hypervolume(points, outcome.scaling, exact=False) if len(points) else 0.0
    front = int(table["on_front"].sum()) if len(table) else 0
    return {
        "format": FORMAT, "name": study.name, "question": study.file.question, "study_path": str(study.file.path),
        "version": _version("codesign"), "python": platform.python_version(),
        "packages": {p: _version(p) for p in ("numpy", "optuna", "moocore", "pandas")},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seed": settings.seed, "trials": settings.trials,
        "method": outcome.method, "method_reason": chosen.reason, "exact": bool(outcome.exact), "stop_reason": outcome.stop_reason,
        "interrupted": outcome.interrupted, "sampler": None if outcome.method == "exhaustive" else study.file.search.sampler,
        "n_designs": outcome.n_designs, "n_layouts": outcome.n_layouts, "n_candidates": outcome.n_candidates,
        "n_feasible": outcome.n_feasible_designs, "n_feasible_layouts": outcome.n_feasible, "n_front": front,
        "hypervolume": hypervolume, "scaling": outcome.scaling.to_dict() if outcome.scaling else None, "closest": _closest(problem, outcome),
        "space_designs": chosen.space_designs, "space_rows": chosen.space_rows,
        **coverage(outcome, study.problem, chosen.space_rows, _front_scaling(problem, outcome.front) if len(points) else None),
        "wall_s": outcome.seconds_before + wall, "wall_here_s": wall, "search_s": outcome.seconds, "layouts_per_s": outcome.n_layouts / max(outcome.seconds, 1e-9),
        "killed": outcome.killed, "history": [list(h) for h in outcome.history],
        "variables": [v.name for v in problem.space.variables],
        "objectives": {o.name: o.direction for o in problem.objectives},
        "units": list(problem.setting.units), "notes": outcome.notes, "storage_note": note,
        "hardware": {role: list(pool.names) for role, pool in problem.setting.pools.items()},
    }  # fmt: skip


def _saved_scaling(folder: Path) -> pareto.Scaling | None:
    """The scale of the run that is continued: a hypervolume means the same from the first save to the last."""
    path = folder / "manifest.json"
    saved = json.loads(path.read_text(encoding="utf-8")).get("scaling") if path.is_file() else None
    return pareto.Scaling.from_dict(saved) if saved else None


def _closest(problem: StudyProblem, outcome: SearchOutcome) -> dict[str, Any] | None:
    """The design that breaks its bounds least, when nothing is feasible: what a user may relax."""
    if len(outcome.front_index) or not len(outcome.closest):
        return None
    row = outcome.closest.index[0]
    design = {v.name: v.choices[int(i)] for v, i in zip(problem.variables, row, strict=True)}
    broken = {n: float(v) for n, v in zip(outcome.constraint_names, outcome.closest.violations[0], strict=True) if v > 0}
    limits = problem.setting.limits
    return {"design": design, "broken": broken, "sentences": [in_words(name, v, limits) for name, v in broken.items()]}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def save(folder: Path, study: Study, table, manifest: dict[str, Any]) -> None:
    """study.yaml (its references may be others now), results.parquet, front.csv, report.html, manifest.json: each whole or not at all, the
    manifest last."""
    from codesign import export, payload
    from codesign.report import html

    write_atomically(folder / "study.yaml", lambda p: p.write_text(study.file.resolved_yaml(), encoding="utf-8"))
    write_atomically(folder / "results.parquet", lambda p: table.to_parquet(p, index=False))
    manifest = manifest | {"sha256": {name: digest((folder / name).read_bytes()) for name in SEALED}}
    front = table[table["on_front"]].drop(columns=["on_front", "feasible", "killed_by"]) if len(table) else table
    write_atomically(folder / "front.csv", lambda p: front.to_csv(p, index=False))
    result = Run(folder, manifest, table)
    html.write(payload.report_payload(study, result, export.targets()), folder / "report.html")
    write_atomically(folder / "manifest.json", lambda p: p.write_text(json.dumps(manifest, indent=1), encoding="utf-8"))
