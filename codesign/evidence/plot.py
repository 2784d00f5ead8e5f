"""Predicted against measured as one HTML file that works offline: log-log, with hover, filters and the command that explains a point."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codesign.evidence import score
from codesign.evidence.text import percent
from codesign.evidence.validation import Line, Validation

HERE = Path(__file__).parent


def render(validations: Sequence[Validation]) -> str:
    """The page as text.  Everything a row named travels as JSON and reaches the page as text only, never as markup."""
    data = {
        "points": [_point(v, line) for v in validations for line in v.scored],
        "tables": [_row(v, r) for v in validations for r in score.overall(v)],
        "skipped": [{"reason": r["reason"], "n": r["n"]} for v in validations for r in score.skipped(v)],
    }
    parts = {
        "title": html.escape(f"predicted against measured: {', '.join(v.path.name for v in validations)}"),
        "script": (HERE / "plot.js").read_text(encoding="utf-8"),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = (HERE / "plot.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(title|script|data)\}\}", lambda match: parts[match[1]], page)


def write(path: str | os.PathLike, validations: Sequence[Validation]) -> Path:
    """Render to `path`; a reader sees the old file or the whole new one."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(render(validations), encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _point(v: Validation, line: Line) -> dict[str, Any]:
    case = line.case
    command = (
        f"codesign validate --kind {v.kind} --explain {line.id}"
        if v.is_shipped
        else f"codesign validate {v.path} --kind {v.kind} --explain {line.id}"
    )
    return {
        "id": line.id, "series": f"{line.phase} {line.metric}", "class": "MoE" if case.is_moe else "dense",
        "measured": _six(line.measured), "predicted": _six(line.predicted), "lower": _six(line.lower), "upper": _six(line.upper),
        "error": percent(line.err, True), "model": case.model, "chip": case.chip, "precision": case.precision,
        "engine": case.engine if v.kind == "inference" else "", "source": case.source, "notes": list(line.notes), "command": command,
    }  # fmt: skip


def _row(v: Validation, r: dict[str, Any]) -> list[str]:
    return [
        r["group"],
        str(r["n"]),
        percent(r["median_abs_err"]),
        percent(r["p90_abs_err"]),
        percent(r["median_bias"], True),
        f"{r['coverage']:.0%}",
    ]


def _six(value: float) -> float:
    return float(f"{value:.6g}")
