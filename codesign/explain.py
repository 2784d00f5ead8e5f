"""One point in full: time per operator with its bound, memory by class, cost split, lifecycle shares, constraint slack.

The same functions that scored the point run again with their ledgers kept, on this design and these layouts only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign import clips
from codesign import evaluate as pipeline
from codesign.law_inputs import base_size, design_quality
from codesign.lifecycle import quality, quality_validity
from codesign.meanings import is_read
from codesign.objectives import COLUMNS
from codesign.physics.interleave import busy_of
from codesign.physics.kernels import BOUNDS, Ledger, dominant
from codesign.physics.layout import Layout, layout_of_row
from codesign.physics.operators import Scene, make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.physics.precision import Precision
from codesign.problem import StudyProblem, layout_text
from codesign.service import traffic as service
from codesign.units import serving
from codesign.units.training import MORE

UNSPENT = "money is left: more training tokens {}"
BINDING = 1.01  # tokens within this factor of a limit are held back by it


def explain_point(problem: StudyProblem, point: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about one archived point, as plain JSON types.  `point`: its row of the results table."""
    setting = problem.setting
    values = problem.values_of([point])
    codes = {v.name: np.zeros(1, dtype=int) for v in problem.space.variables}
    designs = pipeline.describe(setting, values, codes)
    out: dict[str, Any] = {"layout": [], "operators": [], "bounds": [], "memory": [], "capacity": {}}
    if setting.clip:
        return _clip(setting, designs, point, out)
    _train(setting, designs, point, out)
    for role in setting.roles:
        _serve(setting, designs, point, role, out)
    out["cost"] = [{"name": name, "usd": float(point[key])} for name, key in
                   (("pretraining", "train_usd"), ("RL", "rl_usd"), ("serving", "serve_usd"))]  # fmt: skip
    out["lifecycle"] = _lifecycle(setting, designs, point)
    out["balance"] = {"of": setting.life.balance_of, "ratio": float(point["balance_ratio"]), "max_ratio": setting.life.max_ratio}
    out["slack"] = slack(setting, point)
    left = [row["slack_frac"] for row in out["slack"] if row["constraint"] == "budget"]
    spare = [UNSPENT.format(_token_limit(setting, designs, point))] if left and left[0] > 0.005 else []
    out["notes"] = spare + [
        sentence
        for sentence, mask in notes(setting, designs, point["pretrain_tok"], point["n_eff"], point["c_eq_flop"]).items()
        if mask.any()
    ]
    known = setting.base | {k: v[0] for k, v in values.items()}
    out["not_read"] = [v.name for v in problem.space.variables if not is_read(v.name, known.get)]
    return out


def _clip(setting, designs, point, out) -> dict[str, Any]:
    """One point of a study of video."""
    scene, layout = _scene(designs, "serve", designs.precision), _layout(point, "serve")
    ledger, classes, row = clips.explain(setting, scene, layout, point)
    _add(out, "serve", "denoise", ledger)
    _remember(out, "serve", scene, classes)
    out["layout"].append({"unit": "serve", "text": layout_text(point, "serve"), **row})
    out["cost"] = [{"name": "serving", "usd": float(point["serve_usd"])}]
    return out | {"lifecycle": [], "balance": None, "slack": slack(setting, point), "notes": [], "not_read": []}


def front_notes(problem: StudyProblem, front) -> dict[str, float]:
    """Sentence -> share of the front's points (rows of the results table) that it holds for, largest first."""
    if front.empty or problem.setting.clip:
        return {}
    values = problem.values_of(front.to_dict("records"))
    designs = pipeline.describe(problem.setting, values, {name: np.arange(len(front)) for name in values})
    found = notes(problem.setting, designs, *(front[c].to_numpy(float) for c in ("pretrain_tok", "n_eff", "c_eq_flop")))
    shares = {sentence: float(np.mean(mask)) for sentence, mask in found.items()}
    return {sentence: share for sentence, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0}


def _layout(point: Mapping[str, Any], unit: str) -> Layout:
    return layout_of_row(lambda name: point.get(f"{unit}.{name}"))


def _first(structure):
    return structure.take(np.zeros(1, dtype=int)).compact()


def _scene(designs, role: str, precision: Precision, training: bool = False) -> Scene:
    chip = _first(designs.chips[role])
    return make_scene(_first(designs.census), chip, _first(precision), training=training)


def _add(out: dict[str, Any], unit: str, phase: str, ledger: Ledger) -> None:
    for op in ledger.ops:
        if float(np.max(op.time_s)) > 0:
            parts = {k: float(np.ravel(getattr(op, k))[0]) for k in ("time_s", "compute_s", "memory_s", "network_s", "fixed_s")}
            out["operators"].append({"unit": unit, "phase": phase, "name": op.name, "bound": BOUNDS[int(np.ravel(op.bound)[0])], **parts})
    totals = ledger.totals()
    numbers = {k: float(np.ravel(v)[0]) for k, v in totals.items()}
    out["bounds"].append({
        "unit": unit, "phase": phase, "lower_s": numbers["lower_s"], "estimate_s": float(np.ravel(ledger.time_s)[0]),
        "upper_s": numbers["upper_s"], "bound": str(np.ravel(dominant(totals))[0]),
    } | ({"busy": busy} if (busy := busy_of(ledger)) else {}))  # fmt: skip


def _remember(out: dict[str, Any], unit: str, scene: Scene, classes: Mapping[str, Any]) -> None:
    out["memory"] += [{"unit": unit, "class": k, "bytes": float(np.ravel(v)[0])} for k, v in classes.items()]
    out["capacity"][unit] = float(scene.chip.hbm_bytes * scene.chip.usable_frac)


def _train(setting, designs, point, out) -> None:
    bits = np.float64(point.get("precision.train_bits", setting.life.train_bits))
    scene = _scene(designs, "train", Precision(bits, np.float64(16.0), bits), training=True)
    layout = _layout(point, "train")
    job = train.Job(
        np.float64(setting.life.seq_tok), np.float64(point["train.micro_batch"]),
        np.float64(round(point["global_batch_tok"] / setting.life.seq_tok)),
        np.float64(point["train.recompute"]), np.float64(point["train.zero"]),
        **{k: np.float64(point[f"train.{k}"]) for k in MORE if f"train.{k}" in point},
    )  # fmt: skip
    result = train.step(scene, layout, job, detail=True)
    _add(out, "train", "micro-batch", result.ledger)
    _remember(out, "train", scene, train.memory_classes(scene, layout, job))
    n_devices = float(layout.n_devices)
    peak = float(scene.chip.peak_flop_per_s.pick(bits))
    out["layout"].append({
        "unit": "train", "text": layout_text(point, "train"), "n_devices": int(n_devices), "batch": int(job.global_batch),
        "n_micro": int(train.n_micro(job, layout)), "step_s": float(result.step_s),
        "mfu_frac": float(train.model_flop(scene, job) / (result.step_s * n_devices * peak)),
        "bubble_s": float(result.bubble_s), "exchange_s": float(result.exchange_s), "update_s": float(result.update_s),
    })  # fmt: skip


def _serve(setting, designs, point, role: str, out) -> None:
    scene, layout, traffic = _scene(designs, role, designs.precision), _layout(point, role), designs.traffic
    row = {"unit": role, "text": layout_text(point, role), "n_devices": int(layout.n_devices),
           "n_replicas": int(point[f"{role}.n_replicas"]), "batch": int(point[f"{role}.batch"])}  # fmt: skip
    out["layout"].append(row)
    prompt = serving.prompt_of(traffic)
    if role in ("serve", "prefill"):
        ledger = prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt), detail=True)
        _add(out, role, "prefill", ledger)
    if role == "prefill":
        _remember(out, role, scene, prefill.memory_classes(scene, layout, prompt))
        return
    load = decode.Load(np.float64(point[f"{role}.batch"]), service.mean_context(traffic), traffic.q_tok)
    ledger = decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load), detail=True)
    _add(out, role, "decode", ledger)
    per_rank = decode.sequences_per_rank(load.batch, layout)
    chunk = serving.chunk_of(traffic) if role == "serve" else 0.0
    _remember(out, role, scene, decode.memory_classes(scene, layout, load, service.held_tokens(traffic, per_rank), chunk))


def _lifecycle(setting, designs, point) -> list[dict[str, Any]]:
    rows = []
    watts = {role: float(np.ravel(designs.chips[role].all_in_w)[0]) for role in ("train", "rl")}
    price = {role: float(np.ravel(designs.chips[role].usd_per_s)[0]) for role in ("train", "rl")}
    for phase, flop, usd, tok, role in (
        ("pretrain", "pretrain_flop", "train_usd", "pretrain_tok", "train"),
        ("rl", "rl_flop", "rl_usd", "rl_tok", "rl"),
    ):
        device_s = float(point[usd]) / price[role]
        rows.append({"phase": phase, "flop": float(point[flop]), "usd": float(point[usd]), "device_s": device_s,
                     "energy_j": device_s * watts[role], "tok": float(point[tok])})  # fmt: skip
    out_tok = float(setting.traffic.demand_tok_per_s) * setting.life.lifetime_s
    rows.append({
        "phase": "inference", "flop": float(point["inference_flop"]), "usd": float(point["serve_usd"]),
        "device_s": float(point["serve_devices"]) * setting.life.lifetime_s,
        "energy_j": float(point["energy_j_per_tok"]) * out_tok, "tok": out_tok,
    })  # fmt: skip
    return rows


def slack(setting, point: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every bound of the study with the point's value and what is left of it (negative: broken)."""
    rows = [("ttft", "ttft_s", "<=", setting.max_ttft_s), ("tpot", "tpot_s", "<=", setting.max_tpot_s)]
    rows += [("balance", "balance_ratio", "<=", setting.life.max_ratio or np.inf)]
    rows += [(x.name, x.column, x.op, x.bound) for x in setting.limits]
    if setting.life.pretrain_rule == "budget" and setting.life.budget_of == "usd":
        rows.append(("budget", "lifecycle_usd", "<=", setting.life.budget))
    out = []
    for name, column, op, bound in rows:
        if np.isfinite(bound):
            value = float(point[column])
            left = (bound - value) / abs(bound) * (1.0 if op == "<=" else -1.0)
            out.append({"constraint": name, "limit": float(bound), "value": value, "unit": COLUMNS[column].unit, "slack_frac": left})
    return out


def _token_limit(setting, designs, point: Mapping[str, Any]) -> str:
    """What keeps a design from spending its budget on more tokens: the nearest of the limits that `tokens.solve` sets."""
    life, spent = setting.life, float(point["pretrain_spent_tok"])
    n_active, n_base, c_quant = base_size(setting, designs)
    epochs, ratio = quality_validity.MAX_EPOCHS * life.unique_tok, quality_validity.MAX_TOK_PER_PARAM * n_active
    useful = quality.useful_training_tok(n_base, n_active, np.minimum(epochs, ratio), c_quant, setting.law, life.unique_tok)
    top = {
        f"are not allowed: they would be seen more than {quality_validity.MAX_EPOCHS:g} times each (unique_tok)": epochs,
        f"are not allowed: {quality_validity.MAX_TOK_PER_PARAM:,.0f} processed per active parameter (input embedding apart) is as far "
        "as the quality law is asked": ratio,
        "would not help this design: after the rounding of its weights they cost more quality than they bring": useful,
    }
    days = [x.bound for x in setting.limits if x.column == "train_s" and x.op == "<="]
    if days:
        top["are not allowed: the limit on train_days binds"] = spent * min(days) / float(point["train_s"])
    if life.max_ratio:
        top["are not allowed: the limit on the balance binds"] = spent * life.max_ratio / max(float(point["balance_ratio"]), 1e-30)
    numbers = {text: float(np.ravel(value)[0]) for text, value in top.items()}
    text = min(numbers, key=numbers.__getitem__)
    return text if numbers[text] < spent * BINDING else "would not help this design"


def notes(setting, designs, tok, n_eff, c_eq_flop) -> dict[str, np.ndarray]:
    """Where designs lie outside the range in which the quality law was fitted or checked: sentence -> mask of designs."""
    n_active, n_total, design = design_quality(setting, designs)
    return quality_validity.warnings(
        n_active,
        n_total,
        tok,
        n_eff=n_eff,
        c_eq_flop=c_eq_flop,
        unique_tok=setting.life.unique_tok,
        **{k: design[k] for k in quality_validity.WARNED_BY},
    )
