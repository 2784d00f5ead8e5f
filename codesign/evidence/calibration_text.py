"""A calibration as text, as JSON, as the engine file that studies name, and as the command to type next."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from codesign import catalog
from codesign.evidence.calibrate import Calibration, calibrate
from codesign.evidence.tunables import SECONDS
from codesign.spec.errors import UserError
from codesign.spec.units import show

FLAGS = ("system", "accelerator", "model", "n_tp", "n_dp", "n_pp", "n_ep", "n_etp", "batch", "isl", "osl", "seq_len", "micro_batch", "global_batch",
         "train_precision", "weight_bits", "kv_bits", "act_bits")  # fmt: skip


def run(data: str, kind: str, output: str, chip: str | None, engine: str | None) -> Calibration:
    """Calibrate and write the engine file."""
    target = checked_target(output)
    found = calibrate(data, kind, chip, engine)
    target.write_text(file_text(found, target), encoding="utf-8")
    catalog.load("engines", target)  # what was written must be what the tool reads
    return found


def checked_target(output: str) -> Path:
    """The engine file to write; an unusable name is refused before the work starts."""
    target = Path(output)
    if target.suffix not in (".yaml", ".yml"):
        raise UserError(f"'{output}' must end in .yaml: it is a catalog file", hint=f"-o {target.with_suffix('.yaml')}")
    if catalog.known("engines", target.stem):
        raise UserError(f"'{target.stem}' is an engine of the catalog", hint="choose another file name, such as -o my-engine.yaml")
    if not target.parent.is_dir():
        raise UserError(f"no folder '{target.parent}'", hint="make it first, or write the file elsewhere")
    return target


def error_of(errors: np.ndarray) -> dict[str, float]:
    size = np.abs(errors)
    return {"median_abs_err": float(np.median(size)), "p90_abs_err": float(np.quantile(size, 0.9)), "median_bias": float(np.median(errors))}


def summary(c: Calibration, output: str) -> dict[str, Any]:
    """Everything `calibrate --json` prints; SI units."""
    return {
        "file": output, "data": str(c.path), "sha256": digest(c.path), "kind": c.kind, "chip": c.chip, "engine": c.engine,
        "n_rows": len(c.cases), "n_groups": len({case.group for case in c.cases}), "scatter": c.posterior.sigma,
        "moved": [_moved(*row) for row in c.moved],
        "stayed": [{"name": t.name, "value": t.figures[0].value, "unit": t.unit or "1", "confidence": t.confidence, "reason": why} for t, why in c.stayed],
        "before": error_of(c.before), "after": error_of(c.after), "cross_validated": error_of(c.held_out) | {"scheme": c.scheme},
        "warnings": warnings(c), "skipped": [{"id": name, "reason": reason} for name, reason in c.skipped], "next": next_command(c, output),
    }  # fmt: skip


def _moved(tunable: Any, x: float, sd: float) -> dict[str, Any]:
    before, after = tunable.figures[0].value, tunable.values(x)[0]
    return {
        "name": tunable.name, "key": ".".join(tunable.figures[0].path), "unit": tunable.unit or "1", "before": before, "after": after,
        "sd": sd * (tunable.step or after), "factor": None if tunable.step else float(np.exp(x)), "n_figures": len(tunable.figures),
        "confidence_before": tunable.confidence,
    }  # fmt: skip


def warnings(c: Calibration) -> list[str]:
    """What the user should know before trusting the file."""
    before, held_out = (error_of(e)["median_abs_err"] for e in (c.before, c.held_out))
    found = []
    if held_out > before:
        found.append(
            f"left-out rows are predicted no better than by the catalog ({held_out:.1%} against {before:.1%}): the fit may hold on these rows only"
        )
    if len({case.group for case in c.cases}) == 1:
        found.append("all rows are one group (source, model, chip, precision): nothing says that the constants carry over to another model")
    at_limit = [t.name for t, x, _ in c.moved if min(x - t.bounds[0], t.bounds[1] - x) < 1e-3]
    return found + [f"{name} ended at its bound: check the rows (units, precision, batch)" for name in at_limit]


def screen(c: Calibration, output: str) -> str:
    """The answer for a terminal."""
    lines = [
        f"{c.engine} on {c.chip}: {len(c.cases)} rows in {len({case.group for case in c.cases})} groups, {len(c.skipped)} skipped",
        "",
        "moved",
    ]
    for row in map(lambda r: _moved(*r), c.moved):
        more = f"   and {row['n_figures'] - 1} more" if row["n_figures"] > 1 else ""
        factor = f"x {row['factor']:.3f}" if row["factor"] is not None else ""
        lines.append(
            f"  {row['name']:<30}{_figure(row['before'], row['unit']):>10} -> {_figure(row['after'], row['unit']):<10} +- {_figure(row['sd'], row['unit']):<9}{factor:<9}{row['key']}{more}"
        )
    lines += ["", "stayed at the catalog's value"]
    lines += [f"  {t.name:<30}{why}" for t, why in c.stayed]
    lines += ["", f"{'':<24}{'median error':>14}{'P90':>9}{'bias':>9}"]
    for name, errors in (("before", c.before), ("after", c.after), (f"{c.scheme}", c.held_out)):
        e = error_of(errors)
        lines.append(f"  {name:<22}{e['median_abs_err']:>14.1%}{e['p90_abs_err']:>9.1%}{e['median_bias']:>+9.1%}")
    if c.skipped:
        lines += ["", "skipped", *(f"  {n:>4} x {reason}" for reason, n in Counter(reason for _, reason in c.skipped).most_common())]
    lines += [f"warning  {text}" for text in warnings(c)]
    return "\n".join([*lines, "", f"next  {next_command(c, output)}", f"      in a study: engine: {_in_study(output)}"])


def _figure(value: float, unit: str) -> str:
    return show(value, unit) if unit == SECONDS else f"{value:.3g}"


def next_command(c: Calibration, output: str) -> str:
    """`codesign evaluate` of the first row under the new file."""
    option = c.cases[0].options[0]
    given = {
        k: option[k]
        for k in FLAGS
        if option.get(k) is not None and not (k.startswith("n_") and option[k] == 1 and k not in ("n_tp", "n_etp"))
    }
    if isinstance(given.get("model"), Mapping):  # a row with dimensions of its own: any model of the catalog will do
        given["model"] = "llama-3.1-8b"
        given = {k: v for k, v in given.items() if k not in ("n_ep", "n_etp")}
    phase = "train" if c.kind == "training" else "prefill,decode"
    flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in given.items())
    return f"codesign evaluate --engine {output} --phase {phase} {flags}"


def _in_study(output: str) -> str:
    path = Path(output)
    return output if path.is_absolute() else f"./{path.as_posix()}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def file_text(c: Calibration, target: Path) -> str:
    """The engine file: what moved, each figure with the catalog's value; everything else is the base's."""
    before, after, out = (error_of(e)["median_abs_err"] for e in (c.before, c.after, c.held_out))
    head = [
        f"# {c.engine} on {c.chip}, calibrated with {c.path.name} by `codesign calibrate`.  What is not here is {c.engine}'s.",
        f"name: {target.stem}",
        f'title: "{c.engine} on {c.chip}, calibrated"',
        f"base: {c.engine}",
        f'source: "{c.path.name} (sha256 {digest(c.path)}), {len(c.cases)} rows; codesign calibrate, residual {after:.3f}"',
        f"date: {date.today().isoformat()}",
        "confidence: measured",
        "note: >-",
        f"  median error of the rows: {before:.1%} before, {after:.1%} after, {out:.1%} with {c.scheme}.",
        *(f"  {t.name}: {_change(t, x, sd)}." for t, x, sd in c.moved),
        "",
    ]
    notes = {f.path: f"catalog {_figure(f.value, t.unit)}, {_change(t, x, sd)}" for t, x, sd in c.moved for f in t.figures}
    return "\n".join([*head, *tree_lines({k: v for k, v in c.mapping.items() if k != "base"}, (), notes)]) + "\n"


def _change(tunable: Any, x: float, sd: float) -> str:
    if tunable.step:
        return f"{show(tunable.values(x)[0], SECONDS)} +- {show(sd * tunable.step, SECONDS)}"
    return f"x {np.exp(x):.3f} +- {sd:.1%}"


def tree_lines(tree: Mapping[str, Any], path: tuple[str, ...], notes: Mapping[tuple[str, ...], str]) -> list[str]:
    lines, indent = [], "  " * len(path)
    for key, value in tree.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *tree_lines(value, here, notes)]
            continue
        text = value if isinstance(value, str) else f"{value:.5g}"
        lines.append(f'{indent}{key}: {{value: {text}, note: "{notes[here]}"}}' if here in notes else f"{indent}{key}: {text}")
    return lines
