"""Designs that exist, beside a front: known models, models of one's own, measured deployments.

A model is taken as released (its shape, its precision, the tokens it was trained on where they are known) and laid out on the study's
hardware for the study's requests, every layout tried, as the search tries them; what the study searches in architecture and precision is
left out.  It is shown whatever it breaks, with the reason.  A measured deployment keeps its measured figures, with its own conditions, beside
what the model computes for those conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import catalog, reference_notes
from codesign import evaluate as pipeline
from codesign import study as studies
from codesign.catalog import loader
from codesign.constraints import REASONS, in_words
from codesign.evidence import inference, predict, rows
from codesign.evidence.case import Skip
from codesign.lifecycle_columns import fill
from codesign.objectives import COST_COLUMNS
from codesign.physics import architecture as arch
from codesign.picks import swap
from codesign.problem import TIER
from codesign.results import Run
from codesign.scenario import make_chip
from codesign.search import pareto
from codesign.setting import Goal, Setting
from codesign.spec import Reference, read_references
from codesign.spec.errors import UserError
from codesign.spec.units import show
from codesign.study import LATE, Study
from codesign.units.survivors import cross

MAX_DESIGNS = 2_048  # hardware and other choices a reference is tried with; evenly thinned beyond
MAX_POINTS = 16  # of a reference, evenly over its own front
NEAR = 1e-9
LEAST = 0.01  # sum of relative excesses over limits that counts as equal; our judgement
ALIKE = 0.25  # of the lengths of requests, within which a measurement is set against the front; our judgement
FITS = ("train memory", "serve memory", "structure")
BUDGET, TARGET = "its whole life", "its quality"  # violations of a model whose tokens are given


def references_of(study: Study, run: Run, more: Iterable[Reference] = ()) -> list[dict[str, Any]]:
    """Every reference of the study, and `more`, placed beside the front; plain JSON types.

    {name, kind: model | measured, source, feasible, reasons, notes, point: every column or None, points: its own front in the objectives,
    place: {beaten_by, gains, beats, nearest, sentence} or None}
    """
    found = []
    for reference in (*study.file.references, *more):
        try:
            found.append(_placed(study, run, reference))
        except UserError as error:  # a file that was moved since is no reason to refuse the report
            what = reference.name or reference.model or reference.measured
            kind = "measured" if reference.measured else "model"
            found.append(_unplaced(what, kind, "", [error.diagnostics[0].message]) | {"place": None})
    return found


def named(study: Study, run: Run, texts: Sequence[str]) -> list[dict[str, Any]]:
    """As `references_of`, for references given by text; what cannot be read is the user's error.  Without any, those of the study."""
    return [_placed(study, run, reference) for reference in read_references(list(texts))] if texts else references_of(study, run)


def _placed(study: Study, run: Run, reference: Reference) -> dict[str, Any]:
    one = _measured(study, reference) if reference.measured else _model(study, reference)
    ranked = one["point"] and one.pop("is_alike", True)
    if one["kind"] == "model" and one["point"]:
        one["notes"] += reference_notes.other_bits(study, run, one["point"])
    return one | {"place": place(run, one["point"]) if ranked else None}


def _unplaced(name: str, kind: str, source: str, reasons: list[str], notes: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "source": source, "feasible": False, "reasons": reasons, "notes": [*notes], "point": None, "points": [],
    }  # fmt: skip


# ---- a model -----------------------------------------------------------------------------------------------


def _model(study: Study, reference: Reference) -> dict[str, Any]:
    """The model's own front on the study's hardware; of it the cheapest point stands for the model."""
    record = catalog.load("models", reference.model)
    name, source = reference.name or record["name"], str(record.get("source") or "")
    if reason := record.get("not_evaluable"):
        return _unplaced(name, "model", source, [f"cannot be evaluated: {reason}"])
    if study.setting.clip:
        return _unplaced(name, "model", source, ["the study makes video, and this model writes text"])
    file, tok, notes = _alone(study, reference, record)
    own = studies.resolve(file)
    setting = own.setting
    if tok:
        life = replace(setting.life, pretrain_rule="fixed", pretrain_tok=tok, unique_tok=np.inf)  # their data, not the study's
        setting = replace(setting, life=life)
    values, codes = _choices(own)
    setting = replace(setting, base=setting.base | {"architecture.vocab": study.setting.base["architecture.vocab"]})
    columns, broken, why = _points(setting, study.setting, values, codes)
    if why:
        return _unplaced(name, "model", source, why, notes)
    at = _front(setting, columns, broken)
    shape = _shape_columns(setting, values)
    notes += reference_notes.processed(tok, columns, at[0])
    points = [shape | {k: _plain(v[i]) for k, v in columns.items()} | _tier(setting, columns["tpot_s"][i]) for i in at]
    reasons = [_in_words(k, float(v[at[0]]), study.setting) for k, v in broken.items() if v[at[0]] > 0]
    goals = [g.column for g in study.setting.goals]
    return {"name": name, "kind": "model", "source": source, "feasible": not reasons, "reasons": reasons, "notes": notes, "point": points[0],
            "points": [{g: p[g] for g in goals} for p in points]}  # fmt: skip


def _alone(study: Study, reference: Reference, record: Mapping[str, Any]):
    """(study file of this model alone, its training tokens or None, notes)."""
    given, file = study.file, study.file
    own_tok = (
        (record.get("training_tok") or {}).get("value") if isinstance(record.get("training_tok"), Mapping) else record.get("training_tok")
    )
    tok = reference.pretrain_tok or own_tok
    dropped = {f"architecture.{k}" for k in (*arch.DEFAULTS, *arch.TEXT)} | {
        k for k in given.space if k.startswith(("architecture.", "precision."))
    }
    dropped |= {"lifecycle.pretrain_tok"} if tok else set()
    derived, gone = dict(given.derived), {*dropped, *LATE}
    for _ in range(len(derived) + 1):  # a formula may read another one
        out = {k for k, text in derived.items() if k in dropped or _reads(text, gone)}
        gone |= out
        derived = {k: v for k, v in derived.items() if k not in out}
    space = {k: v.model_copy(update={"when": None, "otherwise": None}) if v.when and _reads(v.when, gone) else v
             for k, v in given.space.items() if k not in gone}  # fmt: skip
    where = [text for text in given.where if not _reads(text, gone)]
    base = given.base.model_copy(update={"model": reference.model, "architecture": {}, "precision": dict(reference.precision)})
    file = file.model_copy(update={"base": base, "space": space, "derived": derived, "where": where})
    is_file = not loader.known("models", reference.model)
    said = "as given" if reference.pretrain_tok else "as your file says" if is_file else "as published"
    notes = [f"trained on {show(tok, 'tok')}, {said}" if tok else "trained on as many tokens as the study's rule gives it"]
    notes += [f"read from {reference.model}"] if is_file else []
    return file, tok, notes + ([str(record["note"])] if record.get("note") else [])


def _tok_of(record: Mapping[str, Any]) -> float | None:
    """Tokens that a model was trained on, where its record knows them."""
    known = record.get("training_tok")
    return known.get("value") if isinstance(known, Mapping) else known


def _reads(text: str, names: set[str]) -> bool:
    """Whether an expression names one of `names`, in full or by its last part."""
    leaves = {name.rpartition(".")[2] for name in names}
    return any(word in names or word in leaves for word in re.findall(r"[A-Za-z_][\w.]*", str(text)))


def _choices(own: Study) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(values, codes) (A,) of the choices that are left: hardware, domains, places of caches; and the model's own vocabulary, whose tokens
    carry another share of text than those of the study's."""
    space, values = own.problem.space, {}
    if space.variables:
        index = next(iter(space.enumerate(64 * MAX_DESIGNS)), np.zeros((0, len(space.variables)), dtype=int))
        index = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), MAX_DESIGNS)).astype(int))]
        values = space.values(index)
    n = len(next(iter(values.values()))) if values else 1
    values |= {"architecture.vocab": np.full(n, own.setting.base["architecture.vocab"])}
    return values, {k: np.unique(v, return_inverse=True)[1] for k, v in values.items()}


def _points(setting: Setting, asked: Setting, values, codes):
    """(columns (P,), signed violations (P,), reasons where no point exists): points that keep every limit of the study; where there are
    none, the points of all layouts that fit, of which the one that breaks the limits least comes first."""
    found = _laid_out(setting, setting, values, codes)
    if found is None or not np.any(_worst(found[1]) <= 0):
        bounded = (Goal(x.column, x.op.startswith(">")) for x in setting.limits)  # what is bounded is a goal now, so that its best is kept
        goals = (*setting.goals, *bounded, Goal("tpot_s", False), Goal("ttft_s", False))
        loose = replace(setting, limits=(), max_tpot_s=np.inf, max_ttft_s=np.inf, goals=goals)
        found = _laid_out(loose, setting, values, codes)
    if found is None:
        batch = pipeline.evaluate(setting, values, codes)
        names = pipeline.constraint_names(setting)
        least = batch.violations[int(np.argmin(np.maximum(batch.violations, 0.0).sum(axis=1)))]
        hit = [n for n, v in zip(names, least, strict=True) if v > 0 and n in FITS]
        return {}, {}, [REASONS[n] for n in hit] or ["no layout fits"]
    columns, violations = found
    return columns, violations | _of_rule(asked, setting, columns), []


def _laid_out(tried: Setting, judged: Setting, values, codes):
    """Columns and violations of every combination of layouts that `tried` keeps, judged by another setting; None where there is none."""
    designs = pipeline.describe(tried, values, codes)
    units = pipeline.train(tried, designs, None), pipeline.serve(tried, designs, None)
    rows_ = cross(*units)
    if not rows_[0].size or not np.all(np.broadcast_to(designs.buildable, (designs.n,))):
        return None
    rate, _ = pipeline.reinforce(tried, designs)
    columns, violations = fill(judged, designs, *units, rate, rows_)
    chosen = {k: np.broadcast_to(v, (designs.n,))[rows_[0]] for k, v in designs.values.items()}
    return {k: np.broadcast_to(v, rows_[0].shape) for k, v in (columns | chosen).items()}, violations


def _of_rule(asked: Setting, setting: Setting, columns) -> dict[str, np.ndarray]:
    """What the study's rule for tokens asks of a model whose tokens are given (P,): its life within the budget, its quality on target."""
    life, given = asked.life, setting.life
    if given.pretrain_rule == life.pretrain_rule:
        return {}
    if life.pretrain_rule == "budget":
        spent = {"usd": columns["lifecycle_usd"], "flop": columns["pretrain_flop"] + columns["rl_flop"] + columns["inference_flop"],
                 "device_s": (columns["train_s"] + columns["rl_s"]) * columns["train_devices"]}[life.budget_of]  # fmt: skip
        return {BUDGET: spent / life.budget - 1.0}
    if life.pretrain_rule == "min_cost":
        return {TARGET: 1.0 - columns["c_eq_flop"] / life.target_c_eq_flop}
    return {}


def _in_words(name: str, violation: float, setting: Setting) -> str:
    if name == BUDGET:
        return f"its whole life takes {1 + violation:.3g} times the budget"
    if name == TARGET:
        return f"its quality is {1 - violation:.2g} of the one asked for"
    return in_words(name, violation, setting.limits)


def _worst(violations: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.max(np.stack(list(violations.values())), axis=0)


def _front(setting: Setting, columns, violations) -> list[int]:
    """Rows of the model's own front among those that break the fewest limits, the cheapest first, at most MAX_POINTS evenly; where every row
    breaks one, the cheapest of those that break least stands before them."""
    table = np.stack(list(violations.values()))
    n_broken, excess = np.sum(table > 0, axis=0), np.sum(np.maximum(table, 0.0), axis=0)
    rows_ = np.flatnonzero(n_broken == n_broken.min())
    rows_ = rows_[np.lexsort((columns["lifecycle_usd"][rows_], excess[rows_]))]  # of equal points the first is kept
    goals = np.stack([columns[g.column] * (-1.0 if g.maximize else 1.0) for g in setting.goals], axis=1)[rows_]
    rows_ = rows_[pareto.nondominated(goals)] if np.isfinite(goals).all() else rows_[:1]
    cost = next((g.column for g in setting.goals if g.column in COST_COLUMNS), setting.goals[0].column)
    rows_ = rows_[np.lexsort((columns["lifecycle_usd"][rows_], columns[cost][rows_]))]
    found = rows_[np.unique(np.linspace(0, len(rows_) - 1, min(len(rows_), MAX_POINTS)).astype(int))].tolist()
    if n_broken.min() == 0:
        return found
    least = np.flatnonzero((n_broken == n_broken.min()) & (excess <= excess[n_broken == n_broken.min()].min() + LEAST))
    first = int(least[np.lexsort((columns["lifecycle_usd"][least], columns[cost][least]))[0]])
    return [first, *(i for i in found if i != first)][:MAX_POINTS]


def _shape_columns(setting: Setting, values) -> dict[str, Any]:
    """Architecture and precision under the names of variables."""
    merged = {k: v for k, v in setting.base.items() if k.startswith("architecture.")} | {k: v[0] for k, v in values.items()}
    shape = arch.fill({k.split(".", 1)[1]: v for k, v in merged.items() if k.startswith("architecture.")})
    out = {f"architecture.{k}": _plain(v) for k, v in shape.items() if k in (*arch.DEFAULTS, *arch.TEXT)}
    return out | {k: _plain(v) for k, v in setting.base.items() if k.startswith("precision.")}


def _tier(setting: Setting, tpot_s: float) -> dict[str, float]:
    tiers = setting.tiers_s
    return {TIER: next((t for t in tiers if t >= tpot_s * (1 - 1e-12)), tiers[-1])} if tiers else {}


def _plain(value: Any) -> Any:
    value = np.asarray(value).ravel()[0].item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---- a measured deployment ---------------------------------------------------------------------------------


def _measured(study: Study, reference: Reference) -> dict[str, Any]:
    """A row of inference evidence: what was measured, in its own conditions, beside what the model computes for them.

    Money is the study's rent of the devices over the measured output: full load, no head-room, prompts of that measurement.  Quality is that of
    the released model.
    """
    path, _, wanted = reference.measured.rpartition("#")
    row = next((r for r in rows.load(path or None, "inference") if r.id == wanted), None)
    if row is None:
        raise UserError(f"{path}: no row with id '{wanted}'", hint="write FILE.csv#ID, the id of a row")
    try:
        case = inference.case(row)
        told = predict.predict(case)
    except Skip as reason:
        raise UserError(f"row '{wanted}' of {path} cannot be used: {reason}") from None
    values = {k.removesuffix("_ms") + "_s": v / 1e3 for k, v in case.measured.items() if k.endswith("_ms")}
    values |= _rent(study, row, case.chip)
    released = _model(study, Reference(model=case.model))["point"] if _tok_of(catalog.load("models", case.model)) else None
    values |= {k: released[k] for k in ("c_eq_flop", "n_eq", "n_eff", "loss", "n_params", "n_active_params")} if released else {}
    computed = [_compared(k, v, told.values[k]) for k, v in case.measured.items()]
    goals = [g.column for g in study.setting.goals]
    return {
        "name": reference.name or f"{case.model} on {row['n_gpus'] or '?'} {case.chip}", "kind": "measured", "source": case.source,
        "feasible": True, "reasons": [], "notes": [_conditions(study, row, case), *computed], "point": values,
        "points": [{g: values.get(g) for g in goals}], "is_alike": _is_alike(study, row),
    }  # fmt: skip


def _compared(metric: str, measured: float, computed: float) -> str:
    name, shown = metric.replace("_", " "), [show(v / 1e3, "s") if metric.endswith("_ms") else f"{v:.4g}" for v in (measured, computed)]
    return f"{name.removesuffix(' ms')} {shown[0]} measured, {shown[1]} computed for the same requests ({computed / measured - 1:+.0%})"


def _is_alike(study: Study, row) -> bool:
    """Whether the measured requests are about as long as the study's, so that the figures may be compared."""
    traffic = study.setting.traffic
    pairs = ((row["isl"], float(traffic.isl_tok)), (row["osl"], float(traffic.osl_tok)))
    return all(given and abs(given / asked - 1.0) <= ALIKE for given, asked in pairs)


def _rent(study: Study, row, chip: str) -> dict[str, float]:
    """USD per million output tokens, where a throughput with prompts in it was measured."""
    per_s = row["output_tokens_per_s_total"] or (row["output_tokens_per_s_per_gpu"] or 0.0) * (row["n_gpus"] or 0)
    if not per_s and all(row[k] for k in ("tpot_ms", "ttft_ms", "osl", "batch_or_concurrency")):  # Little's law of a closed loop
        per_s = row["batch_or_concurrency"] * row["osl"] / (row["ttft_ms"] + row["osl"] * row["tpot_ms"]) * 1e3
    if not per_s or not row["n_gpus"]:
        return {}
    price = make_chip(chip, "ideal", usd_per_s=studies.own_price(study.file, chip)).usd_per_s
    return {"usd_per_mtok": float(row["n_gpus"] * price / per_s * 1e6)} if np.isfinite(price) else {}


def _conditions(study: Study, row, case) -> str:
    sizes = [
        f"{label} {row[key]:g}" for key, label in (("isl", "isl"), ("osl", "osl"), ("batch_or_concurrency", "concurrency")) if row[key]
    ]
    traffic = study.setting.traffic
    other = f"; not ranked: the study's requests are isl {float(traffic.isl_tok):.0f}, osl {float(traffic.osl_tok):.0f}"
    return f"measured by {case.source} ({case.engine}, {case.phase}): {', '.join(sizes)}{'' if _is_alike(study, row) else other}"


# ---- where it sits -----------------------------------------------------------------------------------------


def place(run: Run, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where a point sits beside the front, in the objectives that it has.

    gains: objective -> {id, ratio}: the best that the front offers at no loss in the others; beaten_by: ids at least as good in all and better
    in one, the largest gain first; beats: how many points of the front it is better than; nearest: {id, sentence}; on_front_as: id of an equal.
    """
    front, goals = run.front, [g for g in run.objectives if point.get(g) is not None]
    if front.empty or not goals:
        return None
    maximise = [run.objectives[g] == "maximize" for g in goals]
    mine, theirs = np.array([float(point[g]) for g in goals]), front[goals].to_numpy(float)
    signs, near, ids = np.where(maximise, -1.0, 1.0), NEAR * np.abs(mine), front["id"].to_numpy()
    no_worse, better = theirs * signs <= mine * signs + near, theirs * signs < mine * signs - near
    box = pareto.scaling(theirs, maximise)
    apart = box.apply(mine[None]) - box.apply(theirs)  # in widths of the front: how much better each of its points is
    beating = np.flatnonzero(no_worse.all(axis=1) & better.any(axis=1))
    beating = beating[np.argsort(-apart[beating].sum(axis=1), kind="stable")]
    at, same = int(np.argmin(np.linalg.norm(apart, axis=1))), np.flatnonzero((no_worse & ~better).all(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = theirs / mine
    words = {i: swap(dict(zip(goals, ratios[i].tolist(), strict=True)), run.objectives) for i in {at, *beating[:1].tolist()}}
    found = {
        "objectives": goals, "on_front_as": int(ids[same[0]]) if same.size else None, "beaten_by": [int(i) for i in ids[beating]],
        "gains": _gains(goals, ids, no_worse, better, apart, ratios), "beats": int(np.sum((~better).all(axis=1) & (~no_worse).any(axis=1))),
        "nearest": {"id": int(ids[at]), "sentence": words[at]},
    }  # fmt: skip
    return found | {"sentence": _sentence(found, words[int(beating[0])] if beating.size else "")}


def _gains(goals, ids, no_worse, better, apart, ratios) -> dict[str, dict[str, Any]]:
    """Objective -> {id, ratio} of the best point that is no worse in the others."""
    out = {}
    for j, goal in enumerate(goals):
        free = np.flatnonzero(np.delete(no_worse, j, axis=1).all(axis=1) & better[:, j])
        if free.size:
            best = free[np.argmax(apart[free, j])]
            out[goal] = {"id": int(ids[best]), "ratio": float(ratios[best, j])}
    return out


def _sentence(found: Mapping[str, Any], gained: str) -> str:
    n = len(found["beaten_by"])
    if found["on_front_as"] is not None:
        return f"it is on the front, as #{found['on_front_as']}"
    if n:
        also = f", and {n - 1} more {'is' if n == 2 else 'are'} at least as good in everything" if n > 1 else ""
        return f"#{found['beaten_by'][0]} has {gained.removesuffix(' for nothing')}{also}"
    near = f"nearest is #{found['nearest']['id']}: {found['nearest']['sentence']}"
    if found["beats"]:
        return f"better in everything than {found['beats']} of the front; {near}"
    return f"no design of the front is as good in everything; {near}"
