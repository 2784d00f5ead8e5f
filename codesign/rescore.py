"""Archived points scored again under other assumptions: the same designs on the same layouts, thousands of rows in one vectorized call.

A row is a point of the front (an index) with a factor for each assumption that differs.  The functions are those that scored the
point in the first place; nothing is interpolated.  Legend: P points, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from codesign import clips, lifecycle_columns
from codesign import evaluate as pipeline
from codesign.evaluate import Designs
from codesign.lifecycle import quality
from codesign.physics.hardware import Chip, slower
from codesign.physics.layout import Layout, layout_of_row
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill
from codesign.physics.precision import Precision
from codesign.problem import StudyProblem
from codesign.service.traffic import Traffic
from codesign.setting import Setting
from codesign.units import serve_unit, serving, training
from codesign.units.energy import Meter
from codesign.units.survivors import Survivors

CHUNK = 8192  # rows scored at once: the arrays of one chunk stay in cache
OPTIONS = ("micro_batch", "recompute", "zero")  # of a training layout, besides those that only some studies vary
SUMS = ("usd_per_tok", "reference_usd_per_tok", "j_per_tok", "power_w", "ttft_s", "n_devices")  # what two pools add up
MEMORY = "memory"  # violation of rows whose kept layout no longer fits its devices

Factors = Mapping[str, np.ndarray]
"""Assumption -> factor per row: time.<phase>, price.<role>, power.<role>, demand, lifetime, utilisation, drafts, ttft, quality, budget."""


@dataclass(frozen=True)
class Points:
    """Archived points as arrays (P,): designs, and per unit the layout, sequences per rank and options that were archived."""

    setting: Setting
    designs: Designs
    layouts: dict[str, Layout]
    leads: dict[str, np.ndarray]
    job: dict[str, np.ndarray]
    batch_tok: np.ndarray
    rl_rate: np.ndarray
    meters: dict[str, Meter]  # by role, only where the study reads energy
    cheapest: dict[str, np.ndarray] = field(default_factory=dict)  # what balance looks at: each phase's cheapest layout / the archived one

    @property
    def n(self) -> int:
        return self.designs.n


def points_of(problem: StudyProblem, rows: list[dict[str, Any]]) -> Points:
    """Points from rows of the results table that are on the front."""
    clips.refuse_review(problem.setting)
    setting, values = problem.setting, problem.values_of(rows)
    codes = {v.name: np.unique(values[v.name], return_inverse=True)[1] for v in problem.space.variables}
    designs = pipeline.describe(setting, values, codes) if values else pipeline.describe(setting, {}, {})
    designs = replace(designs, n=len(rows))
    units = ("train", *setting.roles)
    layouts = {u: layout_of_row(lambda k, u=u: [r.get(f"{u}.{k}") for r in rows]) for u in units}
    leads = {u: np.array([float(r[f"{u}.batch"]) for r in rows]) / layouts[u].n_dp for u in setting.roles}
    options = (*OPTIONS, *(k for k in training.MORE if f"train.{k}" in rows[0]))
    job = {k: np.array([float(r[f"train.{k}"]) for r in rows]) for k in options}
    batch_tok = np.array([float(r["global_batch_tok"]) for r in rows])
    rl_rate, _ = pipeline.reinforce(setting, designs)
    rate = np.broadcast_to(rl_rate, (len(rows),))
    points = Points(setting, designs, layouts, leads, job, batch_tok, rate, _meters(setting, designs))
    return replace(points, cheapest=_cheapest(points)) if setting.life.values_cheapest else points


def _meters(setting: Setting, designs: Designs) -> dict[str, Meter]:
    """Scenes in joules of the pools whose energy the study reads."""
    rows, train = np.arange(designs.n), {}
    if "train_energy_used_j" in setting.columns_read:
        precision = _train_precision(setting, designs)
        train = {"train": pipeline.meter_of(setting, designs, "train", rows, precision, training=True)}
    found = {r: pipeline.meter_of(setting, designs, r, rows, designs.precision) for r in setting.roles}
    return {role: meter for role, meter in (found | train).items() if meter is not None}


def _train_precision(setting: Setting, designs: Designs) -> Precision:
    bits = np.asarray(designs.values.get("precision.train_bits", setting.life.train_bits), dtype=float)
    bits = np.broadcast_to(bits, (designs.n,))
    return Precision(bits, np.float64(16.0), bits)


def _cheapest(points: Points) -> dict[str, np.ndarray]:
    """Amount of each phase on its cheapest layout over that on the archived one (P,): at most 1."""
    setting, designs, rows = points.setting, points.designs, np.arange(points.n)
    train, serve = (
        _training(points, rows, points.designs.chips["train"], {}),
        _serving(points, rows, designs.traffic, designs.chips, {}),
    )
    best = pipeline.train(setting, designs, None).best | pipeline.serve(setting, designs, None).best
    own = {"device_s_per_tok": train["device_s_per_tok"], "reference_usd_per_tok": serve["reference_usd_per_tok"]}
    return {key: best[key] / value for key, value in own.items()}


def score(
    points: Points,
    rows: np.ndarray,
    factors: Factors,
    chips: Mapping[str, Chip] | None = None,
    keep: Sequence[str] = (),
):
    """Columns (N,), all or those to `keep`, and largest signed violation (N,) by name of the points `rows` under `factors`.

    `chips` replaces the hardware of each row, by role.
    """
    parts = []
    for start in range(0, max(len(rows), 1), CHUNK):
        part = slice(start, start + CHUNK)
        here = {k: v if np.size(v) == 1 else v[part] for k, v in factors.items()}
        own = {role: chip.take(np.arange(len(rows))[part]) for role, chip in (chips or {}).items()}
        columns, violations = _score(points, rows[part], here, own)
        parts.append(({k: v for k, v in columns.items() if not keep or k in keep}, violations))
    columns = {k: np.concatenate([p[0][k] for p in parts]) for k in parts[0][0]}
    return columns, {k: np.concatenate([p[1][k] for p in parts]) for k in parts[0][1]}


def _score(points: Points, rows, factors: Factors, chips: Mapping[str, Chip]):
    f = lambda key: factors.get(key, np.float64(1.0))  # noqa: E731
    base, n = points.designs, len(rows)
    hardware = {role: priced(chips.get(role) or chip.take(rows), role, factors) for role, chip in base.chips.items()}
    traffic, life = traffic_under(base.traffic.take(rows), factors), points.setting.life
    designs = _take(base, rows, hardware, traffic)
    life = replace(
        life, lifetime_s=life.lifetime_s * f("lifetime"), budget=life.budget * f("budget"), global_batch_tok=points.batch_tok[rows],
        target_c_eq_flop=life.target_c_eq_flop / f("quality"),
    )  # fmt: skip
    setting = replace(points.setting, traffic=traffic, life=life)
    train, serve = (
        _training(points, rows, hardware["train"], factors),
        _serving(points, rows, traffic, hardware, factors),
    )
    best = {
        k: (train | serve)[k] * (points.cheapest[k][rows] if points.cheapest else 1.0)
        for k in ("device_s_per_tok", "reference_usd_per_tok")
    }
    all_rows = np.arange(n)
    units = (Survivors(all_rows, {k: np.broadcast_to(v, (n,)) for k, v in unit.items()}, n, best) for unit in (train, serve))
    rl_rate = points.rl_rate[rows] * f("time.rl")
    columns, violations = lifecycle_columns.fill(setting, designs, *units, rl_rate, (all_rows, all_rows, all_rows))
    columns = {k: np.broadcast_to(v, (n,)) for k, v in columns.items()}
    return columns | _corrected(setting, columns, violations, factors), violations | {
        MEMORY: np.where(train["fits"] & serve["fits"], -1.0, 1.0)
    }


def _corrected(setting: Setting, columns, violations, factors: Factors) -> dict[str, np.ndarray]:
    """Columns with an error of their own (quality law, queueing), and their bounds looked at again."""
    changed = {}
    if "quality" in factors:
        law, ln_c = setting.law, np.log(factors["quality"])
        ln_n = ln_c * law.beta / (law.alpha + law.beta)  # along compute-optimal models: N ~ C^(beta / (alpha + beta))
        changed = {"c_eq_flop": columns["c_eq_flop"] * np.exp(ln_c)} | {k: columns[k] * np.exp(ln_n) for k in ("n_eq", "n_eff")}
        changed |= {k: columns[k] + ln_n for k in ("q_mixed", "q_reason")}
        changed |= {
            f"{b}_logit": quality.readout(b, changed[a]) for b, a in quality.READ_OFF.items() if f"{b}_logit" in columns and a in changed
        }
        if setting.returns:
            changed["n_reason"] = columns["n_reason"] * np.exp(ln_n)
            changed |= lifecycle_columns.returned(setting, changed["n_reason"], columns["rl_tok"])
        changed["loss"] = law.E + (columns["loss"] - law.E) * np.exp(-law.alpha * ln_n)
    if "ttft" in factors:
        changed["ttft_s"] = columns["ttft_s"] * factors["ttft"]
        if "ttft" in violations:
            violations["ttft"] = changed["ttft_s"] / setting.max_ttft_s - 1.0
    for limit in setting.limits:
        if limit.column in changed:
            violations[limit.name] = limit.violation(changed[limit.column])
    return changed


def _take(base: Designs, rows, chips, traffic: Traffic) -> Designs:
    def pick(v):
        return v if np.size(v) == 1 else np.ravel(v)[rows]

    return Designs(
        {k: pick(v) for k, v in base.values.items()}, len(rows), {k: pick(v) for k, v in base.shape.items()}, base.census.take(rows),
        pick(base.buildable), base.precision.take(rows), chips, pick(base.tok_per_text), {},
        tuple({k: pick(v) for k, v in part.items()} for part in base.domain) if base.domain else None, traffic,
    )  # fmt: skip


def priced(chip: Chip, role: str, factors: Factors) -> Chip:
    """The chip at another price and power; what balance is valued at stays the catalog's."""
    price, power = factors.get(f"price.{role}"), factors.get(f"power.{role}")
    chip = chip if price is None else replace(chip, usd_per_s=chip.usd_per_s * price)
    return chip if power is None else replace(chip, all_in_w=chip.all_in_w * power)


def traffic_under(traffic: Traffic, factors: Factors) -> Traffic:
    """Demand, utilisation (the peak that capacity is bought for) and what drafts gain, changed."""
    changes = {}
    if "demand" in factors:
        changes["demand_tok_per_s"] = traffic.demand_tok_per_s * factors["demand"]
    if "utilisation" in factors:
        changes["peak_to_mean"] = traffic.peak_to_mean / factors["utilisation"]
    if "drafts" in factors:
        changes["accepted_tok"] = np.clip(1.0 + (traffic.accepted_tok - 1.0) * factors["drafts"], 1.0, traffic.q_tok)
    return replace(traffic, **changes)


def _scene(points: Points, rows, chip: Chip, precision: Precision, factor, training_scene: bool = False):
    designs = points.designs
    text = designs.tok_per_text if np.size(designs.tok_per_text) == 1 else designs.tok_per_text[rows]
    chip = chip if factor is None else slower(chip, factor)
    return make_scene(designs.census.take(rows), chip, precision, training=training_scene, tok_per_text=text)


def _training(points: Points, rows, chip: Chip, factors: Factors) -> dict[str, np.ndarray]:
    life = points.setting.life
    precision = _train_precision(points.setting, points.designs).take(rows)
    scene = _scene(points, rows, chip, precision, factors.get("time.train"), True)
    layout, extras = points.layouts["train"].take(rows), {k: v[rows] for k, v in points.job.items()}
    job = training.job_of(extras, np.float64(life.seq_tok), np.round(points.batch_tok[rows] / life.seq_tok))
    found = training.time_training(scene, layout, job)
    if "train" in points.meters:
        used = training.joules(points.meters["train"].take(rows), layout, job, found)
        found |= {k: v * factors.get("power.train", 1.0) for k, v in used.items()}
    return found | layout.columns | extras


def _serving(points: Points, rows, traffic: Traffic, chips: Mapping[str, Chip], factors: Factors) -> dict[str, np.ndarray]:
    if not points.setting.disaggregated:
        return _shared_pool(points, rows, traffic, chips["serve"], factors)
    prompts = _prompts(points, rows, traffic, chips["prefill"], "prefill", factors)
    answers = _answers(points, rows, traffic, chips["decode"], "decode", factors)
    joined = {k: prompts[k] + answers[k] for k in (*SUMS, *(k for k in prompts if k.startswith("energy_")))}
    joined |= {k: answers[k] for k in ("tpot_s", "step_s", "tok_per_s", "held_tok_per_s")} | {
        "prefill_frac": prompts["usd_per_tok"] / joined["usd_per_tok"]
    }
    return joined | {"fits": prompts["fits"] & answers["fits"]}


def _shared_pool(points: Points, rows, traffic: Traffic, chip: Chip, factors: Factors):
    layout, lead = points.layouts["serve"].take(rows), points.leads["serve"][rows]
    pre, scene = _timed_prompt(points, rows, traffic, chip, layout, factors)
    found, scene = _timed_answer(points, rows, traffic, chip, layout, lead, factors, pre)
    found |= serving.fleet(traffic, found["tok_per_s"], layout.n_devices, scene)
    found |= serve_unit.shared_pool(pre, found, layout, lead, traffic) | {"fits": found["fits"] & pre["fits"]}
    found |= serve_unit.kept(found, scene, layout, traffic)
    return found | layout.columns | _joules(points, rows, traffic, "serve", layout, lead, found, factors, ("prefill", "decode"))


def _prompts(points: Points, rows, traffic: Traffic, chip: Chip, role: str, factors: Factors):
    layout = points.layouts[role].take(rows)
    found, scene = _timed_prompt(points, rows, traffic, chip, layout, factors)
    found |= serving.fleet(traffic, found["prompts_per_s"] * traffic.osl_tok, layout.n_devices, scene)
    found |= serve_unit.prompt_pool(found, scene, layout, traffic)
    found |= serve_unit.kept(found, scene, layout, traffic)
    return found | _joules(points, rows, traffic, role, layout, 1.0, found, factors, ("prefill",))


def _answers(points: Points, rows, traffic: Traffic, chip: Chip, role: str, factors: Factors):
    layout, lead = points.layouts[role].take(rows), points.leads[role][rows]
    found, scene = _timed_answer(points, rows, traffic, chip, layout, lead, factors)
    found |= serving.fleet(traffic, found["tok_per_s"], layout.n_devices, scene)
    found |= serve_unit.answer_pool(found, layout, lead)
    return found | _joules(points, rows, traffic, role, layout, lead, found, factors, ("decode",))


def _joules(points: Points, rows, traffic: Traffic, role: str, layout: Layout, lead, found, factors: Factors, phases: tuple[str, ...]):
    """Energy columns of a pool, where the study reads energy: all of them follow the power of the chip."""
    if role not in points.meters:
        return {}
    used = serve_unit.pool_joules(points.meters[role].take(rows), layout, lead, found["held_devices"], traffic, phases)
    return {k: v * factors.get(f"power.{role}", 1.0) for k, v in used.items()}


def _timed_prompt(points: Points, rows, traffic: Traffic, chip: Chip, layout: Layout, factors: Factors):
    scene = _scene(points, rows, chip, points.designs.precision.take(rows), factors.get("time.prefill"))
    touched = prefill.fullest_experts(scene, layout, serving.prompt_of(traffic))
    return serving.time_prefill(scene, layout, traffic, touched), scene


def _timed_answer(points: Points, rows, traffic: Traffic, chip: Chip, layout: Layout, lead, factors: Factors, pre=None):
    scene = _scene(points, rows, chip, points.designs.precision.take(rows), factors.get("time.decode"))
    touched = decode.fullest_experts(scene, layout, decode.Load(lead * layout.n_dp, 0.0, traffic.q_tok))
    return serving.time_decode(scene, layout, lead, traffic, touched, pre), scene
