"""Reading a run for the command line: filter and sort fronts, compare, share of hypervolume, scenarios of `evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codesign.meanings import is_read
from codesign.objectives import canonical
from codesign.results import JOURNAL, Run, load_results
from codesign.screen import bound_text, human, label, operators_text, table
from codesign.spec import expressions, yamlio
from codesign.spec.errors import UserError, did_you_mean
from codesign.spec.units import in_si, show
from codesign.study import Study, open_study


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
        names = [part.strip() for part in by.split(",") if part.strip()]
        columns = [_column(front, name.removeprefix("-")) for name in names]
        return front.sort_values(columns, ascending=[not n.startswith("-") for n in names])
    first, direction = next(iter(objectives.items()))
    return front.sort_values(first, ascending=direction == "minimize") if len(front) else front


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
    metrics = [c for c in run.table.columns if c in run.objectives] + ["train_usd", "train_s", "serve_usd", "lifecycle_usd", "ttft_s", "n_params"]
    ratios = [
        {"name": n, "a": _plain(points[0][n]), "b": _plain(points[1][n]), "ratio": _plain(points[1][n] / points[0][n])}
        for n in dict.fromkeys(metrics) if n in points[0] and points[0][n]
    ]  # fmt: skip
    return {"ids": ids, "differs": differs, "metrics": ratios, "why": _why(details), "sentences": _sentences(details)}


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
            found.append(f"{a['unit']} {a['phase']}: {show(a['estimate_s'], 's')} -> {show(b['estimate_s'], 's')} ({ratio:.2f}x), mostly {bound}")
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
    return {"runs": [str(r.path) for r in runs], "differs": differs, "metrics": metrics, "why": [], "sentences": []}


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
    return {"hypervolume": ours, "reference_hypervolume": whole, "share": ours / whole if whole else 0.0, "reference_is_exact": exact.manifest["exact"]}


def compare_text(answer: dict[str, Any]) -> str:
    """`compare` as text: only what differs, then the metrics, then why."""
    names = [f"#{i}" for i in answer["ids"]] if "ids" in answer else ["first", "second"]
    headers = {"a": names[0], "b": names[1]}
    rows = [{"name": d["name"], "a": human(d["a"], d["name"]), "b": human(d["b"], d["name"])} for d in answer["differs"]]
    blocks = [table(rows, ["name", "a", "b"], headers) if rows else "nothing differs in variables and layouts"]
    rows = [{"name": m["name"], "a": human(m["a"], m["name"].split()[-1]), "b": human(m["b"], m["name"].split()[-1]), "ratio": f"{m['ratio']:.2f}x"} for m in answer["metrics"]]
    blocks.append(table(rows, ["name", "a", "b", "ratio"], headers))
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


def point_text(answer: dict[str, Any]) -> str:
    """`evaluate` for people."""
    arch = answer["architecture"]
    lines = [f"parameters {show(arch['n_params'], '')}, active {show(arch['n_active_params'], '')}, KV cache {show(arch['kv_bytes_per_tok'], 'byte')} per token"]
    for phase in ("prefill", "decode", "train"):
        if phase not in answer:
            continue
        part = answer[phase]
        main = {"prefill": ("ttft_s", "tok_per_s", "usd_per_mtok"), "decode": ("tpot_s", "step_s", "tok_per_s", "usd_per_mtok"),
                "train": ("step_s", "tok_per_s_per_device", "mfu_frac", "usd_per_mtok")}[phase]  # fmt: skip
        verdict = "fits" if part["fits"] else f"DOES NOT FIT: {part['overflow']} overflow{'s' if part['overflow'] == 'kv' else ''}"
        spent = {"estimate_s": sum(o["time_s"] for o in part["operators"]), "bound": part["bound"]} | part["causes"]
        what = {"prefill": "one prompt", "decode": "one step", "train": "one micro-batch"}[phase]
        lines += ["", f"{phase}   " + "   ".join(f"{label(k)} {human(part[k], k)}" for k in main)]
        lines.append(f"  {'memory':<24}{show(part['memory_bytes'], 'byte')} of {show(part['capacity_bytes'], 'byte')} usable: {verdict}")
        lines += [f"  {what:<24}{bound_text(spent)}", operators_text(part["operators"])]
        lines += [energy_text(part["energy"])] if "energy" in part else []
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
