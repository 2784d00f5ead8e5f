"""What the report page shows, as plain data: columns, rows, picks, details, assumptions with their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import catalog
from codesign.clips import EXPORTS
from codesign.decision import decide
from codesign.explain import explain_point, front_notes
from codesign.intervals import intervals_of
from codesign.meanings import LAYOUT, is_read
from codesign.objectives import COLUMNS
from codesign.picks import picks, value_of_codesign
from codesign.problem import TIER
from codesign.reference_text import page_rows
from codesign.references import references_of
from codesign.results import Run
from codesign.robustness import quick_samples
from codesign.spec import Reference
from codesign.spec.errors import SpecError
from codesign.study import Study

MAX_REASONS = 2  # why the front is outside the fitted range, in the note about it
MAX_DETAILS = 250  # designs whose operators travel with the page (7.5 kB and 5 ms each), evenly over the front; picks always do
P_FRONT = "p_front"  # column of the page alone
MAX_ROWS, MAX_FRONT_ROWS = 10_000, 3_000  # of the page: a front row is ten times as wide as a sampled one; 6 MB in all
GROUPS = {"architecture": "architecture", "precision": "precision", "hardware": "hardware", "lifecycle": "lifecycle", "slo": "deployment"}
HIDDEN = {"on_front", "feasible", "killed_by", "id", "design_id", "point", "quality_refused"}
LABELS = {  # what a column is called on the page; its name is in the tooltip, for --by and --where
    "p_front": "Share of samples on the front",
    "c_eq_flop": "Quality, c_eq", "n_eq": "Quality, n_eq", "n_eff": "Effective parameters", "loss": "Training loss",
    "q_mixed": "Mixed axis", "q_reason": "Reasoning axis", "q_know_bits": "Knowledge axis", "usd_per_mtok": "Cost of serving",
    "usd_per_mtok_input": "Cost of prompts", "usd_per_mtok_output": "Cost of decode", "usd_per_task": "Cost of a task",
    "tpot_s": "TPOT", "ttft_s": "TTFT", "tok_per_s_per_user": "User speed", "energy_j_per_tok": "Energy per token",
    "serve_devices": "Serving devices", "serve_power_w": "Serving power", "serve_usd": "Serving cost", "train_s": "Training time",
    "train_devices": "Training devices", "train_usd": "Training cost", "train_energy_j": "Training energy", "rl_s": "RL time",
    "rl_usd": "RL cost", "lifecycle_usd": "Lifecycle cost", "lifecycle_energy_j": "Lifecycle energy", "pretrain_tok": "Useful tokens",
    "pretrain_spent_tok": "Processed tokens", "rl_tok": "RL tokens", "pretrain_flop": "Pretraining compute", "rl_flop": "RL compute",
    "inference_flop": "Inference compute", "balance_ratio": "Balance ratio", "tok_per_param": "Tokens per active parameter",
    "n_params": "Parameters", "n_active_params": "Active parameters", "kv_bytes_per_tok": "KV per token",
    "sigma_ln_c_eq": "Sigma of quality", "sigma_ln_c_eq_own": "Own sigma of quality", "slo.tpot": "Speed tier",
    "usd_per_video_s": "Cost per second", "usd_per_clip": "Cost per clip", "clip_s": "Time per clip", "clip_latency_s": "Clip latency",
    "j_per_video_s": "Energy per second", "serve_load_frac": "Load of the fleet", "train_power_w": "Training power",
    "facility_power_w": "Facility power", "rl_pass_frac": "Pass rate after RL", "rl_gain_frac": "Gain of RL", "n_reason": "Reasoning size",
}  # fmt: skip
SHORT = {"n_replicas": "replicas", "n_devices": "devices", "micro_batch": "micro-batch", "zero": "ZeRO", "memory_bytes": "memory",
         "step_s": "step time", "tok_per_s": "throughput", "mfu_frac": "MFU", "scale_up_size": "domain"}  # fmt: skip


def report_payload(study: Study, run: Run, exports: Sequence[str] = (), more: Sequence[Reference] = ()) -> dict[str, Any]:
    """The page's data.  Pure: reads the run's table and the catalog, writes nothing.  exports: targets that the page offers; more: references
    beside the study's own."""
    manifest, front = run.manifest, run.front
    n_samples = quick_samples(study, len(front)) if len(front) and not study.setting.clip else 0
    decision = decide(study, run, n_samples) if n_samples else {}
    chosen = decision.get("picks") or picks(front, run.objectives)
    if decision:
        run = _with_confidence(run, decision["points"])
    table = _page_rows(run.table, [pick["id"] for pick in chosen])
    command = f"codesign run {manifest['study_path']}" + (f" --seed {manifest['seed']}" if manifest["method"] != "exhaustive" else "")
    shown = columns(run)
    visible = ["id", "on_front", "feasible", "killed_by", *(c["name"] for c in shown)]
    base = study.setting.base
    rows = {name: _cells(table, name, base) for name in visible} if len(table) else {name: [] for name in visible}
    value = value_of_codesign(front, run.objectives)
    n = max(manifest["n_designs"], 1)
    return {
        "title": study.name, "question": study.file.question, "run": str(run.path), "version": manifest["version"],
        "created": manifest["created"], "seed": manifest["seed"], "method": manifest["method"], "exact": manifest["exact"],
        "command": command,
        "counts": {k: manifest[k] for k in ("n_designs", "n_layouts", "n_feasible", "n_front", "space_designs", "space_rows",
                                            "wall_s", "layouts_per_s", "hypervolume")} | _points_and_designs(table),
        "killed": {k: v / n for k, v in sorted(manifest["killed"].items(), key=lambda kv: -kv[1])},
        "columns": shown, "rows": rows, "total_rows": manifest["n_designs"],
        "picks": chosen, "details": _details(study, run, chosen),
        "references": page_rows(references_of(study, run, more), run.objectives),
        "codesign": value or {}, "warnings": warnings(study, front, manifest), "history": manifest["history"],
        "assumptions": assumptions(study), "study_yaml": study.file.resolved_yaml(),
        "exports": [e for e in exports if study.setting.clip is None or e in EXPORTS], "level": study.file.uncertainty.level,
        "decision": {key: decision[key] for key in ("samples", "picks", "measurements") if decision} | {"wanted": study.file.uncertainty.samples},
        "reproduce": [command, f"codesign front {run.path}", f"codesign show {run.path} ID"],
    }  # fmt: skip


def _points_and_designs(table) -> dict[str, int]:
    """Feasible points of the page, and the designs that they belong to: one on the front has a point for every layout that pays."""
    points = table[table["feasible"]] if len(table) else table
    return {"n_points": len(points), "n_designs_of_points": int(points["design_id"].nunique()) if len(points) else 0}


def _with_confidence(run: Run, points: list[dict[str, Any]]) -> Run:
    """The run with how often each point is on the front as a column of its table."""
    shares = {point["id"]: point["p_front"] for point in points}
    return replace(run, table=run.table.assign(**{P_FRONT: run.table["id"].map(shares).astype(float)}))


def _page_rows(table, ids: Sequence[int]):
    """Rows of the page: the front and a sample of the rest, each evenly thinned where it is too long; designs of `ids` always."""
    if len(table) <= MAX_FRONT_ROWS:
        return table
    best, named = table["on_front"].to_numpy(bool), table["id"].isin(ids).to_numpy()
    front, rest = np.flatnonzero(best & ~named), np.flatnonzero(~best & ~named)
    front = evenly(front, MAX_FRONT_ROWS - int(named.sum()))
    rest = evenly(rest, MAX_ROWS - int(named.sum()) - len(front))
    return table.iloc[np.concatenate([np.sort(np.concatenate([np.flatnonzero(named), front])), rest])]


def evenly(rows: np.ndarray, n: int) -> np.ndarray:
    """At most `n` of the rows, evenly spaced."""
    return rows if len(rows) <= n else rows[np.linspace(0, len(rows) - 1, n).astype(int)]


def columns(run: Run) -> list[dict[str, Any]]:
    """Searched variables and what follows from them, objectives, layouts, then the registered metrics."""
    return [_column(run, name, group) for name in run.table.columns if (group := _group(run, name))]


def _group(run: Run, name: str) -> str | None:
    """Group of a column on the page; None for what it does not show."""
    head, dot, _ = name.partition(".")
    if name in HIDDEN:
        return None
    if name in run.objectives:
        return "objective"
    if dot:
        return GROUPS.get(head, "hardware" if name in run.variables else "deployment")
    return "metric" if name in COLUMNS or name == P_FRONT else None


def _column(run: Run, name: str, group: str) -> dict[str, Any]:
    """What the page has to know about one column."""
    known, values = COLUMNS.get(name), run.table[name]
    unit, meaning = (known.unit, known.meaning) if known else _unit_and_meaning(name)
    numeric = values.dtype.kind in "if"
    present = values[run.table["feasible"]].dropna() if numeric else values[:0]
    wide = len(present) > 0 and bool((present > 0).all()) and float(present.max() / present.min()) > 50
    return {
        "name": name, "label": _label(name), "unit": unit, "group": group, "meaning": meaning,
        "direction": "max" if name == P_FRONT else {"min": "min", "max": "max"}.get(known.better) if known else None,
        "log": wide, "categorical": not numeric,
        "derived": name.partition(".")[0] in GROUPS and name not in (*run.variables, TIER),  # follows from others: on no axis
    }  # fmt: skip


def _unit_and_meaning(name: str) -> tuple[str, str]:
    if name == P_FRONT:
        return "", "share of the samples of everything uncertain in which the design is on the front and within every limit"
    if name == TIER:
        return "s", "the speed tier that the design was laid out for: a target of tpot_s"
    return LAYOUT.get(name.rpartition(".")[2], ("", ""))


def _label(name: str) -> str:
    """`Cost of serving`, `train TP`, `n_layers`."""
    unit, dot, leaf = name.partition(".")
    if name in LABELS or not dot or unit in GROUPS:
        return LABELS.get(name, leaf or name)
    degree = leaf in LAYOUT and leaf.startswith("n_") and leaf not in SHORT
    return f"{unit} {leaf[2:].upper() if degree else SHORT.get(leaf, leaf)}"


def _json(series) -> list[Any]:
    return [None if v is None or (isinstance(v, float) and not np.isfinite(v)) else v.item() if hasattr(v, "item") else v for v in series]


def _cells(table, name: str, base: dict[str, Any]) -> list[Any]:
    """A column of the page; empty where a design does not read the variable."""
    read = is_read(name, lambda key: table[key] if key in table else base.get(key))
    cells = _json(table[name])
    return cells if read.all() else [v if r else None for v, r in zip(cells, np.broadcast_to(read, len(cells)), strict=True)]


def _details(study: Study, run: Run, chosen) -> dict[str, Any]:
    """Everything about the picks and an even selection of the front, with intervals."""
    front = run.front
    if front.empty or study.setting.clip:
        return {}
    spread = evenly(front["id"].to_numpy(), MAX_DETAILS)
    ids = list(dict.fromkeys([*(pick["id"] for pick in chosen), *(int(i) for i in spread)]))
    by_id, doubt = front.set_index("id", drop=False), intervals_of(study, run, ids)
    bounds = {column: np.stack(doubt.bounds(column)).T.tolist() for column in doubt.values}
    found = {str(i): explain_point(study.problem, by_id.loc[i].to_dict()) for i in ids}
    for row, detail in enumerate(found.values()):
        detail["intervals"] = {column: dict(zip(("lower", "upper"), ends[row], strict=True)) for column, ends in bounds.items()}
    return found


def warnings(study: Study, front, manifest) -> list[str]:
    """Sentences about the limits of the result, most general first."""
    found = list(manifest["notes"])
    if not manifest["exact"]:
        n, whole = f"{manifest['n_designs']:,}", f"{manifest['space_designs']:,}"
        tried = f"{n} designs with one layout each, of {whole} designs" if manifest["method"] == "joint" else f"{n} of {whole} designs"
        found.append(f"sampled, not exhaustive: {tried} ({manifest['stop_reason']})")
    if outside := front_notes(study.problem, front):
        reasons = (f"{_short(sentence)} ({share:.0%} of it)" for sentence, share in list(outside.items())[:MAX_REASONS])
        found.append(f"the front lies outside the fitted range of the quality law, or where evidence is thin: {', '.join(reasons)}")
    if "sigma_ln_c_eq" in front and len(front):
        sigma = float(front["sigma_ln_c_eq"].median())
        found.append(f"quality is known to a factor {np.exp(sigma):.2g} (one sigma): nearer designs are not ranked by it")
    if "estimate" in _confidences(study):
        found.append("some hardware figures are estimates; see the assumptions")
    return found + [note for note in (manifest.get("storage_note"),) if note]


def _short(sentence: str) -> str:
    return sentence.partition(":")[0].removesuffix(" is outside the fitted range of the quality law")


def _confidences(study: Study) -> set[str]:
    return {row["confidence"] for row in assumptions(study) if row["name"].split(".", 1)[0] in study.setting.pools}


def assumptions(study: Study) -> list[dict[str, Any]]:
    """Every catalog figure that the study used, with unit, source, date and confidence; and the rules that are judgement."""
    rows = []
    for role, pool in study.setting.pools.items():
        for name in pool.names:
            rows += _sourced(catalog.hardware(name), f"{role}.{name}")
    rows += _sourced(study.workload, "workload")
    life = study.setting.life
    rows.append(
        {
            "name": "quality law",
            "value": study.setting.law.name,
            "unit": "",
            "source": study.setting.law.source,
            "date": "",
            "confidence": "measured",
        }
    )
    rows.append({"name": "lifetime", "value": life.lifetime_s, "unit": "s", "source": "study", "date": "", "confidence": "estimate"})
    rows.append(
        {
            "name": "demand",
            "value": float(study.setting.traffic.demand_tok_per_s),
            "unit": "tok/s",
            "source": "study",
            "date": "",
            "confidence": "estimate",
        }
    )
    return rows


def _sourced(record: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    try:
        found = catalog.sources(record)
    except (KeyError, SpecError):
        return []
    return [
        {
            "name": f"{prefix}.{key}",
            "value": value,
            "unit": unit,
            "source": source or "",
            "date": str(date or ""),
            "confidence": confidence or "",
        }
        for key, value, unit, source, date, confidence in found
    ]
