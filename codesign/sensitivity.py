"""Shadow prices of one design: what +10 % of each resource, of each assumption and of each shape is worth in every objective.

`kept`: the archived layouts on the changed machine, every objective at once.  `anew`: layouts chosen again, and each objective as good
as it gets while the others are no worse than they were: the true shadow price, since a larger memory is worth nothing to a batch that
does not grow.  Legend: R changes, M objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import evaluate as pipeline
from codesign.evaluate import Batch
from codesign.objectives import COLUMNS, COST_COLUMNS
from codesign.physics.arrays import stack
from codesign.physics.hardware import ByBits, Chip, stretched
from codesign.problem import StudyProblem, layout_text
from codesign.rescore import MEMORY, Points, points_of, score
from codesign.results import Run
from codesign.setting import Joules, Pool, Setting
from codesign.study import Study

STEP = 1.10
SLACK = 1e-6  # relative: what still counts as no worse
QUALITY_GAIN = 1.10
LATENCY = ("tpot_s", "ttft_s")


def _peak(*widths: str) -> Callable[[Chip, float], Chip]:
    """Peak at an operand width, and at narrower ones that the chip lacks (they run at it)."""

    def change(chip: Chip, f: float) -> Chip:
        peak, chosen = chip.peak_flop_per_s, set(widths)
        if "at_16" in chosen and not chip.has_8_bit:
            chosen.add("at_8")
        if "at_8" in chosen and not chip.has_4_bit:
            chosen.add("at_4")
        return replace(chip, peak_flop_per_s=ByBits(**{k: v * (f if k in chosen else 1.0) for k, v in vars(peak).items()}))

    return change


def _link(name: str) -> Callable[[Chip, float], Chip]:
    def change(chip: Chip, f: float) -> Chip:
        link = getattr(chip, name)
        peer = {"scale_up_peer_bytes_per_s": chip.scale_up_peer_bytes_per_s * f} if name == "scale_up" else {}
        return replace(chip, **{name: replace(link, bytes_per_s=link.bytes_per_s * f)}, **peer)

    return change


def _field(name: str) -> Callable[[Chip, float], Chip]:
    return lambda chip, f: replace(chip, **{name: getattr(chip, name) * f})


POWER = "power"
RESOURCES: dict[str, Callable[[Chip, float], Chip]] = {
    "HBM bandwidth": _field("hbm_bytes_per_s"),
    "HBM capacity": _field("hbm_bytes"),
    "16-bit peak": _peak("at_16"),
    "8-bit peak": _peak("at_8"),
    "4-bit peak": _peak("at_4"),
    "scale-up bandwidth": _link("scale_up"),
    "scale-out bandwidth": _link("scale_out"),
    "bandwidth between sites": _field("site_bytes_per_s"),
    "bandwidth to the host": _field("host_bytes_per_s"),
    "fixed times (launches, hops)": lambda chip, f: stretched(chip, 1.0, f),
    "price": _field("usd_per_s"),
    POWER: lambda chip, f: chip,  # every energy follows it, so it is a factor on the pool and not on a field of the chip
}


def _in_traffic(*names: str) -> Callable[[Setting, float], Setting]:
    return lambda setting, f: replace(setting, traffic=replace(setting.traffic, **{n: getattr(setting.traffic, n) * f for n in names}))


def _in_life(name: str) -> Callable[[Setting, float], Setting]:
    return lambda setting, f: replace(setting, life=replace(setting.life, **{name: getattr(setting.life, name) * f}))


ASSUMPTIONS: dict[str, Callable[[Setting, float], Setting]] = {
    "demand": _in_traffic("demand_tok_per_s"),
    "prompt length": _in_traffic("isl_tok", "isl_sd_tok", "prefix_tok"),
    "answer length": _in_traffic("osl_tok", "osl_sd_tok"),
    "peak to mean (1 / utilisation)": _in_traffic("peak_to_mean"),
    "lifetime": _in_life("lifetime_s"),
    "budget": _in_life("budget"),
    "pretraining tokens": _in_life("pretrain_tok"),
    "unique tokens": _in_life("unique_tok"),
    "quality asked for": _in_life("target_c_eq_flop"),
}
TIMES = {
    "training time": "time.train",
    "RL time": "time.rl",
    "prefill time": "time.prefill",
    "decode time": "time.decode",
}


def sensitivity(study: Study, run: Run, point_id: int) -> dict[str, Any]:
    """Resources, assumptions, architecture and exchange rates around one point; changes are relative (-0.09: 9 % less)."""
    row = run.point(point_id)
    points = points_of(study.problem, [row])
    goals = list(run.objectives)
    return {
        "id": point_id, "step": STEP - 1.0, "objectives": run.objectives, "base": {g: float(row[g]) for g in goals},
        "resources": _resources(study.problem, points, row), "assumptions": _assumptions(study.problem, points, row),
        "architecture": _architecture(study.problem, row), "exchange": exchange(run, row),
    }  # fmt: skip


def _resources(problem: StudyProblem, points: Points, row: dict[str, Any]) -> list[dict[str, Any]]:
    own = {role: _chip(points, role) for role in points.setting.pools if role != "rl" or points.rl_rate.any()}
    names = {role: _hardware(points, role) for role in own}
    found = {"bandwidth between sites": own["train"].site_bytes_per_s, "bandwidth to the host": own["train"].host_bytes_per_s}
    there = [name for name in RESOURCES if np.isfinite(found.get(name, 0.0))]  # a study without sites has no link between them
    changes = [(hardware, resource) for hardware in dict.fromkeys(names.values()) for resource in there]
    variants = {role: [chip, *(RESOURCES[r](chip, STEP) if names[role] == h else chip for h, r in changes)] for role, chip in own.items()}
    stacked = {role: stack(chips) for role, chips in variants.items()}
    n = len(changes) + 1
    watts = {role: np.array([1.0, *(STEP if names[role] == h and r == POWER else 1.0 for h, r in changes)]) for role in own}
    power = {f"power.{role}": factor for role, factor in watts.items()}
    columns, broken = score(points, np.zeros(n, dtype=int), power, stacked, kept_columns(points.setting))
    batch = _on_machines(problem, row, stacked, watts)
    same = None if batch is None else _anew(points.setting, batch, 0, row)
    rows = []
    for i, (hardware, resource) in enumerate(changes, start=1):
        roles = [role for role in own if names[role] == hardware]
        kept = _relative({k: v[i] for k, v in columns.items()}, {k: v[0] for k, v in columns.items()})
        rows.append({"hardware": hardware, "roles": roles, "name": resource, "kept": kept if broken[MEMORY][i] <= 0 else None,
                     "anew": None if batch is None else _beyond(_anew(points.setting, batch, i, row), same)})  # fmt: skip
    return rows


def _beyond(change: dict[str, float | None], same: dict[str, float | None]) -> dict[str, float | None]:
    """Changes beyond what the unchanged machine already reaches."""
    return {k: None if v is None or same[k] is None else (1.0 + v) / (1.0 + same[k]) - 1.0 for k, v in change.items()}


def kept_columns(setting: Setting) -> tuple[str, ...]:
    """What is reported at kept layouts: the objectives, and the two rates that whole replicas and token rules hide."""
    return (*(g.column for g in setting.goals), *([] if setting.disaggregated else ["serve.tok_per_s"]), "train.step_s")


def _chip(points: Points, role: str) -> Chip:
    """The point's chip in a role, every field a scalar."""
    return points.designs.chips[role].take(np.zeros(1, dtype=int)).map(lambda v: np.ravel(v)[0])


def _hardware(points: Points, role: str) -> str:
    value = points.designs.values.get(f"hardware.{role}")
    return str(points.setting.pools[role].names[0] if value is None else np.ravel(value)[0])


def _on_machines(problem: StudyProblem, row: dict[str, Any], stacked: dict[str, Chip], watts: dict[str, np.ndarray]) -> Batch | None:
    """One design on R machines, every layout of each: machines are hardware choices that the catalog does not have.

    None where the study reads what its racks are made of: a machine that is not in the catalog has no rack.
    """
    n, setting = max(chip.length() for chip in stacked.values()), problem.setting
    if any(column.startswith("rack_") for column in setting.columns_read):
        return None
    labels = tuple(str(i) for i in range(n))
    pools = dict(setting.pools)
    for role, chip in stacked.items():
        joules, names = pools[role].joules, pools[role].names
        if joules is not None:
            at = names.index(str(row.get(f"hardware.{role}") or names[0]))
            near, far = (stretched(c.take(np.full(n, at)), 1.0 / watts[role]) for c in (joules.near, joules.far))
            joules = Joules(near, far, joules.fit.take(np.full(n, at)))
        pools[role] = Pool(labels, replace(chip, all_in_w=chip.all_in_w * watts[role]), joules)
    values = {
        k: np.repeat(v, n) for k, v in problem.values_of([row]).items() if not k.endswith("scale_up_size")
    }  # the chips have it already
    values |= {f"hardware.{role}": np.array(labels) for role in stacked}
    codes = {k: np.arange(n) if k.startswith("hardware.") else np.zeros(n, dtype=int) for k in values}
    return pipeline.evaluate(replace(problem.setting, pools=pools), values, codes)


def _relative(values: dict[str, Any], base: dict[str, Any]) -> dict[str, float | None]:
    """Relative change of every column; None where it has no value or no base."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {k: float(v / base[k] - 1.0) for k, v in values.items()}
    return {k: v if np.isfinite(v) else None for k, v in ratios.items()}


def _anew(setting: Setting, batch: Batch, design: int, base: dict[str, Any]) -> dict[str, float | None]:
    """Best relative change of each objective over the design's points at which no other objective is worse; None where there is none."""
    signs = {g.column: -1.0 if g.maximize else 1.0 for g in setting.goals}
    here = {k: batch.points[k][batch.design == design] * sign for k, sign in signs.items()}
    no_worse = {k: v <= base[k] * signs[k] + SLACK * abs(base[k]) for k, v in here.items()}
    out: dict[str, float | None] = {}
    for k, values in here.items():
        allowed = np.all([no_worse[other] for other in here if other != k], axis=0)
        best = values[allowed].min(initial=np.inf) * signs[k]
        out[k] = float(best / base[k] - 1.0) if np.isfinite(best) and base[k] else None
    return out


def _assumptions(problem: StudyProblem, points: Points, row: dict[str, Any]) -> list[dict[str, Any]]:
    setting, rows = points.setting, []
    names = kept_columns(setting)
    base, _ = score(points, np.zeros(1, dtype=int), {}, keep=names)
    values = problem.values_of([row])
    codes = {k: np.zeros(1, dtype=int) for k in values}
    for name, change in ASSUMPTIONS.items():
        other = change(setting, STEP)
        if _unread(name, setting, values):
            continue
        columns, _ = score(replace(points, setting=other), np.zeros(1, dtype=int), {}, keep=names)
        batch = pipeline.evaluate(other, values, codes)
        rows.append({"name": name, "kept": _relative(_first(columns), _first(base)), "anew": _anew(setting, batch, 0, row)})
    for name, key in TIMES.items():
        if key != "time.rl" or points.rl_rate.any():
            columns, _ = score(points, np.zeros(1, dtype=int), {key: np.array([STEP])}, keep=names)
            rows.append({"name": name, "kept": _relative(_first(columns), _first(base)), "anew": None})
    return rows


def _first(columns: dict[str, np.ndarray]) -> dict[str, float]:
    return {k: float(v[0]) for k, v in columns.items()}


def _unread(name: str, setting: Setting, values: dict[str, np.ndarray]) -> bool:
    """Whether the study's rules never look at an assumption."""
    life = setting.life
    return {
        "budget": not life.budget, "quality asked for": not life.target_c_eq_flop, "unique tokens": not np.isfinite(life.unique_tok),
        "pretraining tokens": life.pretrain_rule != "fixed" or "lifecycle.pretrain_tok" in values,
    }.get(name, False)  # fmt: skip


def _architecture(problem: StudyProblem, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The neighbouring choices of every searched variable, each on its best layout: changes of all objectives, and elasticities.

    Of a neighbour's points the cheapest that is no slower is compared (the fastest where all are slower).  Elasticity: d ln f / d ln x.
    """
    space, index, steps = problem.space, index_of(problem, row), []
    for v, variable in enumerate(space.variables):
        at = index[v]
        others = (at - 1, at + 1) if variable.ordered else range(variable.n_active)
        for k in others:
            if 0 <= k < variable.n_active and k != at:
                steps.append((variable, at, k, np.where(np.arange(len(index)) == v, k, index)))
    if not steps:
        return []
    designs = space.canonical(np.array([s[3] for s in steps]))
    valid = space.valid(designs)
    batch = problem.evaluate(designs)
    out = []
    for i, (variable, at, k, _) in enumerate(steps):
        x = variable.choices[at], variable.choices[k]
        other = nearest_point(problem.setting, batch, i, row)
        change = None if other is None else _relative({g.column: other[g.column] for g in problem.setting.goals}, row)
        scale = np.log(x[1] / x[0]) if variable.ordered and isinstance(x[0], (int, float)) and min(x) > 0 else 0.0
        elasticity = {g: float(np.log1p(c) / scale) for g, c in change.items() if c is not None and c > -1} if change and scale else None
        out.append(
            {
                "variable": variable.name,
                "from": x[0],
                "to": x[1],
                "in_space": bool(valid[i]),
                "change": change,
                "elasticity": elasticity,
                "layout": "" if other is None else _other_layout(problem.setting, row, other),
            }
        )
    return out


def index_of(problem: StudyProblem, row: dict[str, Any]) -> np.ndarray:
    """Choice positions (V,) of a row of the results table."""
    values = problem.values_of([row])
    return np.array([list(v.choices).index(values[v.name].tolist()[0]) for v in problem.space.variables], dtype=np.int64)


def _other_layout(setting: Setting, row: dict[str, Any], other: dict[str, Any]) -> str:
    """`serve tp8 batch 512`: the serving layouts, and sequences of a replica, that are not those of `row`; '' where all are the same."""
    if setting.clip:
        return ""
    named = {role: [f"{layout_text(p, role)} batch {int(p[f'{role}.batch'])}" for p in (row, other)] for role in setting.roles}
    return ", ".join(f"{role} {there}" for role, (here, there) in named.items() if here != there)


def nearest_point(setting: Setting, batch: Batch, design: int, base: dict[str, Any]) -> dict[str, Any] | None:
    """The design's point that is comparable with `base`; None where nothing is feasible."""
    here = np.flatnonzero(batch.design == design)
    if not here.size:
        return None
    row = here[comparable(setting, {g.column: batch.points[g.column][here] for g in setting.goals}, base)]
    return {k: v[row] for k, v in batch.points.items()}


def comparable(setting: Setting, points: dict[str, np.ndarray], base: dict[str, Any]) -> int:
    """Which of a design's points stands beside `base`: the cheapest that is no slower, else the fastest."""
    goals = [g.column for g in setting.goals]
    speed = [g for g in goals if g in LATENCY]
    cost = next((g for g in goals if g in COST_COLUMNS), goals[0])
    order = points[cost] * (-1.0 if next(g for g in setting.goals if g.column == cost).maximize else 1.0)
    if not speed:
        return int(np.argmin(order))
    fast = np.all([points[g] <= base[g] * 1.02 for g in speed], axis=0)
    return int(np.argmin(np.where(fast, order, np.inf))) if fast.any() else int(np.argmin(points[speed[0]]))


def exchange(run: Run, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What +10 % quality costs in every other objective, and in kW: the point of the front that has it and gives up least of that
    objective while the rest is no worse; where none has, the one that gives up least of it."""
    quality = next((n for n, d in run.objectives.items() if d == "maximize" and COLUMNS[n].better == "max"), None)
    if quality is None:
        return []
    front = run.front
    better = front[front[quality] >= QUALITY_GAIN * row[quality] * (1 - SLACK)]
    out = []
    for name in [n for n in run.objectives if n != quality]:
        rest = [n for n in run.objectives if n not in (quality, name)]
        strict = better[np.all([better[n] <= row[n] * (1 + SLACK) for n in rest], axis=0)] if rest and len(better) else better
        pool = strict if len(strict) else better
        if not len(pool):
            out.append({"pays": name, "to": None})
            continue
        to = pool.loc[pool[name].idxmin()]
        out.append({
            "pays": name, "to": int(to["id"]), "rest_held": bool(len(strict)), "change": float(to[name] - row[name]),
            "changes": {n: float(to[n] / row[n] - 1.0) for n in run.objectives},
            "serve_kw": float(to["serve_power_w"] - row["serve_power_w"]) / 1e3,
            "lifecycle_usd": float(to["lifecycle_usd"] - row["lifecycle_usd"]),
        })  # fmt: skip
    return out
