"""One row in full: what was measured, what it was mapped to, and where the predicted time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign import screen
from codesign.evidence.text import percent
from codesign.evidence.validation import Line, Validation
from codesign.point import evaluate_point
from codesign.spec.errors import UserError, did_you_mean
from codesign.spec.units import show


def explain(validations: Sequence[Validation], row_id: str) -> dict[str, Any]:
    """The row's lines, scenario, notes and the evaluator's answer with operators.  An unknown id is a UserError."""
    found = [line for v in validations for line in v.lines if line.id == row_id]
    if not found:
        raise UserError(f"no row '{row_id}'", hint=did_you_mean(row_id, {line.id for v in validations for line in v.lines}, "ids"))
    first = found[0]
    out: dict[str, Any] = {
        "id": row_id, "phase": first.phase, "group": first.group, "skipped": first.skipped, "notes": list(first.notes),
        "row": {k: v for k, v in first.case.row.cells.items() if v is not None} if first.case else {},
        "metrics": [_metric(line) for line in found],
    }  # fmt: skip
    if first.prediction is not None:
        scenario = {k: v for k, v in first.prediction.scenario.items() if v is not None}
        out |= {"scenario": scenario, "answer": evaluate_point(scenario, detail=True)}
    return out


def _metric(line: Line) -> dict[str, Any]:
    return {k: getattr(line, k) for k in ("metric", "measured", "predicted", "lower", "upper", "err", "baseline_err")}


def explain_text(answer: Mapping[str, Any]) -> str:
    """`explain` for people."""
    lines = [f"{answer['id']}  {answer['phase']}  {answer['group']}"]
    if answer["skipped"]:
        return "\n".join([*lines, f"skipped: {answer['skipped']}"])
    for m in answer["metrics"]:
        lines.append(f"  {m['metric']:<28} measured {m['measured']:.5g}   predicted {m['predicted']:.5g} ({m['lower']:.4g} to {m['upper']:.4g})"
                     f"   error {percent(m['err'], True)}   baseline {percent(m['baseline_err'], True)}")  # fmt: skip
    if answer["row"].get("notes"):
        lines.append(f"  row says   {answer['row']['notes']}")
    lines += [f"  assumed    {note}" for note in answer["notes"]]
    lines.append(f"  scenario   {_command(answer['scenario'])}")
    for phase in ("prefill", "decode", "train"):
        if part := answer["answer"].get(phase):
            lines += ["", *_phase(phase, part)]
    return "\n".join(lines)


def _phase(phase: str, part: Mapping[str, Any]) -> list[str]:
    bound = {"estimate_s": sum(op["time_s"] for op in part["operators"]), "bound": part["bound"]}
    bound |= {k: part["causes"][k] for k in ("lower_s", "upper_s")}
    title = f"train, one of {part['n_micro']} micro-batches" if phase == "train" else phase
    lines = [f"{title}: {screen.bound_text(bound)}", screen.operators_text(part["operators"])]
    if phase == "train":
        parts = ", ".join(f"{name.replace('_', ' ')} {show(value, 's')}" for name, value in part["parts_s"].items())
        lines.append(f"  step {show(part['step_s'], 's')} = {parts}; MFU {part['mfu_frac']:.1%}")
    if part.get("interference_s"):
        lines.append(f"  prefill interference {show(part['interference_s'], 's')} per step")
    memory = ", ".join(f"{m['class']} {show(m['bytes'], 'byte')}" for m in part["memory"])
    lines.append(f"  memory {show(part['memory_bytes'], 'byte')} of {show(part['capacity_bytes'], 'byte')} usable: {memory}")
    return lines


def _command(scenario: Mapping[str, Any]) -> str:
    """The scenario as a command; a model of the row's own dimensions is written out behind it."""
    flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in scenario.items() if not isinstance(v, Mapping))
    own = scenario["model"].get("architecture") if isinstance(scenario.get("model"), Mapping) else None
    return f"codesign evaluate {flags}" + (f"   with model {{{', '.join(f'{k}: {v}' for k, v in own.items())}}}" if own else "")
