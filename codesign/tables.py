"""Reading a run for the command line: filter and sort fronts, compare, share of hypervolume, scenarios of `evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codesign import clips, life_point, two_fronts
from codesign.attribution import waterfall
from codesign.decision import HALF, quick
from codesign.decision_text import front_cells, interval_cell, robust_line, waterfall_text
from codesign.intervals import intervals_of
from codesign.meanings import is_read
from codesign.objectives import canonical
from codesign.physics.kernels import BOUNDS
from codesign.results import JOURNAL, Run, load_results
from codesign.screen import bound_text, busy_text, human, label, layouts_text, operators_text, rack_text, table
from codesign.spec import expressions, yamlio
from codesign.spec.errors import UserError, did_you_mean
from codesign.spec.units import in_si, show
from codesign.study import Study, open_study
from codesign.why_not import why_not


def study_of(run: Run) -> Study:
    """The study that a run directory belongs to."""
    return open_study(run.path / "study.yaml")


def select(front: pd.DataFrame, by: str | None, condition: str | None, objectives: dict[str, str]) -> pd.DataFrame:
    """Rows that satisfy `condition`, sorted by the columns of `by` (first objective, best first, if absent)."""
    if condition:
        compiled = expressions.compile(_canonical_names(in_si(condition)), list(front.columns))
        keep = compiled.evaluate({name: _values(front[name]) for name in compiled.names})
        front = front[np.broadcast_to(np.asarray(keep, dtype=bool), (len(front),))]
    if by:
        return front.sort_values(named(front, by), ascending=[not n.startswith("-") for n in _parts(by)])
    first, direction = next(iter(objectives.items()))
    return front.sort_values(first, ascending=direction == "minimize") if len(front) else front


def named(front: pd.DataFrame, text: str | None) -> list[str]:
    """Columns that a comma-separated list names, by column, alias or unique leaf; a leading `-` is for sorting."""
    return [_column(front, name.removeprefix("-")) for name in _parts(text or "")]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _values(column: pd.Series) -> np.ndarray:
    """A column as an expression reads it: text as text, an empty cell of it as ''."""
    return column.to_numpy() if column.dtype.kind in "biuf" else column.fillna("").astype(str).to_numpy(dtype=str)


def _canonical_names(text: str) -> str:
    """Study aliases (tpot) as columns (tpot_s) in an expression."""
    import re

    return re.sub(r"[A-Za-z_][\w.]*", lambda m: canonical(m[0]), text)


def _column(frame: pd.DataFrame, name: str) -> str:
    if canonical(name) in frame:
        return canonical(name)
    leaves = [c for c in frame.columns if c.split(".")[-1] == name]
    if len(leaves) == 1:
        return leaves[0]
    if leaves:
        raise UserError(f"'{name}' could mean {', '.join(leaves)}", hint="write the dotted name")
    raise UserError(f"no column '{name}'", hint=did_you_mean(name, map(str, frame.columns), "columns"))


def varying(run: Run, rows: pd.DataFrame) -> list[str]:
    """Searched variables that differ within the shown rows."""
    return [v for v in run.variables if rows[v].nunique(dropna=False) > 1]


def clean(row: dict[str, Any]) -> dict[str, Any]:
    """A row as plain JSON types: empty cells and infinities become None."""
    return {k: _plain(v) for k, v in row.items()}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [clean(row) for row in rows.to_dict("records")]


def without_unread(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the cells emptied of variables that designs of its kind do not read."""
    return {name: value if is_read(name, row.get) else None for name, value in row.items()}


def front_rows(run: Run, rows: pd.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the front as plain records with their uncertainty, and notes about them.

    A record's `uncertainty` has, per column, the interval, the two parts of its error and whether it can be told apart from the best of
    the whole front.
    """
    records_ = records(rows)
    notes = [f"{len(rows)} of {len(run.front)} points; codesign show {run.path} ID explains one"]
    if not records_:
        return records_, notes
    names = list(run.objectives)
    best = [int(run.front["id"].iloc[_best(run, n)]) for n in names]
    ids = list(dict.fromkeys([*(int(r["id"]) for r in records_), *best]))
    doubt = intervals_of(study_of(run), run, ids)
    alike = {n: doubt.alike(n, ids.index(b)) for n, b in zip(names, best, strict=True) if n in doubt.values}
    for i, row in enumerate(records_):
        found = doubt.record(i)
        row["uncertainty"] = {k: v | ({"like_best": bool(alike[k][i])} if k in alike else {}) for k, v in found.items()}
    notes.append(f"(intervals: {doubt.level:.0%}; ~ cannot be told apart from the best of the front in that column)")
    return records_, notes


def _best(run: Run, name: str) -> int:
    values = run.front[name].to_numpy(float)
    return int(np.argmax(values) if run.objectives[name] == "maximize" else np.argmin(values))


def with_intervals(run: Run, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records for a table: objectives as text with interval and mark, layouts in words, unread variables empty."""
    out = []
    for row in rows:
        like_best = {k: v.get("like_best", False) for k, v in row["uncertainty"].items()}
        cells = front_cells(row["uncertainty"], list(run.objectives), like_best)
        out.append(without_unread(row) | cells | {"layout": layouts_text(row, run.manifest["units"], run.objectives)})
    return out


def doubt_of(run: Run, point_id: int) -> dict[str, Any]:
    """Intervals of one point, and which other points of the front it cannot be told apart from, by objective."""
    doubt = intervals_of(study_of(run), run)
    row = int(np.flatnonzero(doubt.ids == point_id)[0])
    alike = {n: [int(i) for i in doubt.ids[doubt.alike(n, row)] if i != point_id] for n in run.objectives if n in doubt.values}
    return {"level": doubt.level, "columns": doubt.record(row), "alike": alike}


def doubts_of_picks(study: Study, run: Run, chosen: list[dict[str, Any]]) -> dict[str, Any] | None:
    """For the last screen: the knee's intervals, and how often each pick stays on the front in a quick round of draws."""
    if not chosen or study.setting.clip:
        return None
    knee = intervals_of(study, run, [chosen[0]["id"]]).record(0)
    cells = {chosen[0]["id"]: {c: interval_cell(v["value"], v["lower"], v["upper"], c) for c, v in knee.items()}}
    found = quick(study, run)
    if found is None:
        return {"cells": cells, "sure": None}
    marks = [p | {"p_front": found.share[p["id"]], "leaves_front": found.share[p["id"]] < HALF} for p in chosen]
    return {"cells": cells, "sure": robust_line(found.n_samples, marks)}


def why_not_of(run: Run, point_id: int, change: str) -> dict[str, Any]:
    """What would happen if a design were changed, as plain JSON types."""
    answer = why_not(study_of(run), run, point_id, change)
    return answer | {"point": clean(answer["point"]) if answer["point"] else None}


def compare_points(path: str, first: str, second: str) -> dict[str, Any]:
    """Two designs of one run: variables and layouts that differ, metrics with ratios, time by cause of each phase."""
    from codesign.explain import explain_point

    run = load_results(path)
    try:
        ids = [int(first), int(second)]
    except ValueError:
        raise UserError(f"'{first}' and '{second}' must be ids of points", hint="codesign compare RUN ID ID, or RUN RUN") from None
    points = [without_unread(run.point(i)) for i in ids]
    study = study_of(run)
    details = [explain_point(study.problem, p) for p in points]
    named = [*run.variables, *(c for c in run.table.columns if "." in c and c not in run.variables)]
    differs = [{"name": n, "a": _plain(points[0][n]), "b": _plain(points[1][n])} for n in named if not _same(points[0][n], points[1][n])]
    metrics = [c for c in run.table.columns if c in run.objectives] + [
        "train_usd",
        "train_s",
        "serve_usd",
        "lifecycle_usd",
        "ttft_s",
        "n_params",
    ]
    ratios = [
        {"name": n, "a": _plain(points[0][n]), "b": _plain(points[1][n]), "ratio": _plain(points[1][n] / points[0][n])}
        for n in dict.fromkeys(metrics) if n in points[0] and points[0][n]
    ]  # fmt: skip
    clips.refuse_review(study.setting)
    causes = waterfall(study.problem, run.point(ids[0]), run.point(ids[1]), list(run.objectives))
    doubt = intervals_of(study, run, ids)
    told = [
        {"name": n, "sigma": float(doubt.sigma_of_difference(n, 0)[1]), "apart": not bool(doubt.alike(n, 0)[1])}
        for n in run.objectives if n in doubt.values
    ]  # fmt: skip
    return {"ids": ids, "differs": differs, "metrics": ratios, "waterfall": causes, "told_apart": told, "level": doubt.level,
            "why": _why(details), "sentences": _sentences(details) + _apart(told, ids, doubt.level)}  # fmt: skip


def _apart(told: list[dict[str, Any]], ids: list[int], level: float) -> list[str]:
    """Which differences are larger than what the model may be off by when it compares the two."""
    near = [f"{label(t['name'])} (one sigma of the ratio {math.expm1(t['sigma']):.0%})" for t in told if not t["apart"]]
    if ids[0] == ids[1]:
        return [f"#{ids[0]} twice: the same point"]
    if not near:
        return [f"the two are told apart in every objective ({level:.0%})"]
    return [f"#{ids[0]} and #{ids[1]} cannot be told apart ({level:.0%}) in {', '.join(near)}"]


def _same(a: Any, b: Any) -> bool:
    both_empty = all(v is None or (isinstance(v, float) and math.isnan(v)) for v in (a, b))
    return both_empty or a == b


def _why(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds per operator of both designs, the operators that changed most first."""
    rows: dict[tuple[str, str, str], list[float]] = {}
    for i, detail in enumerate(details):
        for op in detail["operators"]:
            rows.setdefault((op["unit"], op["phase"], op["name"]), [0.0, 0.0])[i] += op["time_s"]
    out = [{"unit": k[0], "phase": k[1], "operator": k[2], "a_s": v[0], "b_s": v[1], "change_s": v[1] - v[0]} for k, v in rows.items()]
    return sorted(out, key=lambda r: -abs(r["change_s"]))


def _sentences(details: list[dict[str, Any]]) -> list[str]:
    found = []
    for a in details[0]["bounds"]:
        b = next((x for x in details[1]["bounds"] if (x["unit"], x["phase"]) == (a["unit"], a["phase"])), None)
        if b and a["estimate_s"] > 0:
            ratio = b["estimate_s"] / a["estimate_s"]
            bound = a["bound"] if a["bound"] == b["bound"] else f"{a['bound']} -> {b['bound']}"
            found.append(
                f"{a['unit']} {a['phase']}: {show(a['estimate_s'], 's')} -> {show(b['estimate_s'], 's')} ({ratio:.2f}x), mostly {bound}"
            )
    return found


def compare_runs(first: str, second: str) -> dict[str, Any]:
    """Two runs: settings that differ, counts, and the hypervolume of both fronts on one common scale."""
    from codesign.run import _flat

    runs = [load_results(p) for p in (first, second)]
    if runs[0].objectives != runs[1].objectives:
        raise UserError(f"the runs have different objectives: {', '.join(runs[0].objectives)} and {', '.join(runs[1].objectives)}",
                        hint="only runs with the same objectives can be compared")  # fmt: skip
    flat = [_flat(yamlio.load(r.path / "study.yaml").data) for r in runs]
    keys = sorted({*flat[0], *flat[1]})
    differs = [{"name": k, "a": flat[0].get(k), "b": flat[1].get(k)} for k in keys if flat[0].get(k) != flat[1].get(k)]
    union = pd.concat([r.front[list(r.objectives)] for r in runs])
    volumes = _volumes([r.front for r in runs], union, runs[0].objectives)
    metrics = [{"name": "hypervolume (common scale)", "a": volumes[0], "b": volumes[1], "ratio": volumes[1] / max(volumes[0], 1e-12)}]
    for name, direction in runs[0].objectives.items():
        best = [float(r.front[name].max() if direction == "maximize" else r.front[name].min()) for r in runs if len(r.front)]
        if len(best) == 2:
            metrics.append({"name": f"best {name}", "a": best[0], "b": best[1], "ratio": best[1] / best[0]})
    for key in ("n_designs", "n_front", "wall_s"):
        a, b = (r.manifest[key] for r in runs)
        metrics.append({"name": key, "a": a, "b": b, "ratio": b / max(a, 1e-12)})
    fronts = two_fronts.compare(*runs) if all(len(r.front) for r in runs) else {}
    return {"runs": [str(r.path) for r in runs], "differs": differs, "metrics": metrics, "fronts": fronts, "why": [],
            "sentences": two_fronts.sentences(fronts)}  # fmt: skip


def _volumes(fronts, reference: pd.DataFrame, objectives: dict[str, str]) -> list[float]:
    from codesign.search import pareto

    maximise = [d == "maximize" for d in objectives.values()]
    names = list(objectives)
    if reference.empty:
        return [0.0 for _ in fronts]
    whole = reference.to_numpy(float)
    scale = pareto.scaling(whole[pareto.nondominated(whole, maximise)], maximise)
    return [pareto.hypervolume(f[names].to_numpy(float), scale) if len(f) else 0.0 for f in fronts]


def hypervolume_share(path: str, reference: str) -> dict[str, Any]:
    """Hypervolume of a run's front on the scale of a reference front, and their ratio."""
    run, exact = load_results(path), load_results(reference)
    if set(run.objectives) != set(exact.objectives):
        raise UserError("the runs have different objectives", hint="use a reference run of the same study")
    ours, whole = _volumes([run.front, exact.front], exact.front[list(exact.objectives)], exact.objectives)
    return {
        "hypervolume": ours,
        "reference_hypervolume": whole,
        "share": ours / whole if whole else 0.0,
        "reference_is_exact": exact.manifest["exact"],
    }


POOLS = "n_devices: of the whole pool, idle ones of its domains too; batch, tok/s and memory: of one of its n_replicas, or of its fullest device"


def compare_text(answer: dict[str, Any]) -> str:
    """`compare` as text: only what differs, then the metrics, then why."""
    names = [f"#{i}" for i in answer["ids"]] if "ids" in answer else ["first", "second"]
    headers = {"a": names[0], "b": names[1]}
    tier = {"slo.tpot": "speed tier"}  # the tier a point falls in, not the study's limit
    rows = [
        {"name": tier.get(d["name"], d["name"]), "a": human(d["a"], d["name"]), "b": human(d["b"], d["name"])} for d in answer["differs"]
    ]
    blocks = [table(rows, ["name", "a", "b"], headers) if rows else "nothing differs in variables and layouts"]
    if any(d["name"].endswith((".n_replicas", ".n_devices")) for d in answer["differs"]):
        blocks[0] += f"\n{POOLS}"
    rows = [
        {
            "name": m["name"],
            "a": human(m["a"], m["name"].split()[-1]),
            "b": human(m["b"], m["name"].split()[-1]),
            "ratio": f"{m['ratio']:.2f}x",
        }
        for m in answer["metrics"]
    ]
    blocks.append(table(rows, ["name", "a", "b", "ratio"], headers))
    if answer.get("waterfall"):
        blocks.append(waterfall_text(answer["waterfall"], answer["metrics"], [m["name"] for m in answer["metrics"]]))
    if answer["why"]:
        rows = [
            {"phase": f"{w['unit']} {w['phase']}", "operator": w["operator"], "a": show(w["a_s"], "s"), "b": show(w["b_s"], "s"),
             "change": ("+" if w["change_s"] > 0 else "-") + show(abs(w["change_s"]), "s")} for w in answer["why"][:10]
        ]  # fmt: skip
        blocks.append("time by operator, largest change first\n" + table(rows, ["phase", "operator", "a", "b", "change"], headers))
    return "\n\n".join([*blocks, *answer["sentences"]])


def read_scenario(path: str) -> dict[str, Any]:
    """A scenario file of `evaluate`: keys as the flags, with - or _; lengths and times may be quantities."""
    document = yamlio.load(Path(path))
    if not isinstance(document.data, dict):
        raise UserError(f"{path}: expected a mapping such as {{model: llama-3.1-70b, accelerator: h200_sxm, batch: 64}}")
    scenario = {str(k).replace("-", "_"): v for k, v in document.data.items()}
    if isinstance(scenario.get("phase"), list):
        scenario["phase"] = ",".join(map(str, scenario["phase"]))
    return scenario


def point_text(answer: dict[str, Any], with_rack: bool = False) -> str:
    """`evaluate` for people."""
    arch = answer["architecture"]
    lines = [
        f"parameters {show(arch['n_params'], '')}, active {show(arch['n_active_params'], '')}, KV cache {show(arch['kv_bytes_per_tok'], 'byte')} per token"
    ]
    for phase in ("prefill", "decode", "train", "denoise"):
        if phase not in answer:
            continue
        part = answer[phase]
        main = {"prefill": ("ttft_s", "tok_per_s", "usd_per_mtok"), "decode": ("tpot_s", "step_s", "tok_per_s", "usd_per_mtok"),
                "train": ("step_s", "tok_per_s_per_device", "mfu_frac", "usd_per_mtok"),
                "denoise": ("clip_s", "step_s", "usd_per_clip")}[phase]  # fmt: skip
        verdict = "fits" if part["fits"] else f"DOES NOT FIT: {part['overflow']} overflow{'s' if part['overflow'] == 'kv' else ''}"
        spent = {"estimate_s": sum(part["causes"][f"{name}_s"] for name in BOUNDS), "bound": part["bound"]} | part["causes"]
        what = {"prefill": "one prompt", "decode": "one step", "train": "one micro-batch", "denoise": "one pass"}[phase]
        lines += ["", f"{phase}   " + "   ".join(f"{label(k)} {human(part[k], k)}" for k in main)]
        lines.append(f"  {'memory':<24}{show(part['memory_bytes'], 'byte')} of {show(part['capacity_bytes'], 'byte')} usable: {verdict}")
        lines += [f"  {what:<24}{bound_text(spent)}", busy_text(part) + operators_text(part["operators"])]
        lines += [energy_text(part["energy"])] if "energy" in part else []
    if "prefill" in answer and answer.get("decode", {}).get("interference_s"):
        lines += [
            "",
            "note  decode shares its devices with its prompts: its cost and standing energy (idle, host) include their time;",
            "      adding prefill's counts it twice",
        ]
    if with_rack and "rack" in answer:
        lines += ["", rack_text(answer["rack"])]
    if "service" in answer:
        lines += [
            "",
            "service   "
            + "   ".join(
                f"{k.removesuffix('_s')} {human(v, k)}" for k, v in answer["service"].items() if k.endswith("_s") and "per_s" not in k
            ),
        ]
    if "batching" in answer:
        lines += ["", table(answer["batching"], ["name", "sequences", "held_tok", "tok_per_s", "tpot_s", "usd_per_mtok", "fits"])]
    if "quality" in answer:
        lines += ["", life_point.text(answer)]
    return "\n".join(lines)


def energy_text(energy: dict[str, Any]) -> str:
    """J per token at the wall, its largest causes, and the power of a chip while the phase runs."""
    total = energy["j_per_tok"]
    causes = sorted(energy["by_cause_j_per_tok"].items(), key=lambda item: -item[1])[:4]
    shares = ", ".join(f"{name.replace('_', ' ')} {joules / total:.0%}" for name, joules in causes)
    return f"  {'energy':<24}{show(total, 'J/tok')} at the wall: {shares};  a chip draws {energy['chip_w']:.0f} of {energy['tdp_w']:.0f} W"


def serve_dashboard(path: str, port: int) -> None:
    """optuna-dashboard on the run's journal, until Ctrl-C."""
    from codesign.search import dashboard

    journal = load_results(path).path / JOURNAL
    if not journal.is_file():
        raise UserError(f"{journal}: not there", hint="run the study again")
    dashboard.serve(journal, port)
