"""Glue the report together: a page, its style, its scripts and the data become one offline HTML file.

`render` is a pure function of the payload. Everything a user or a catalog named travels as JSON inside a
script tag that browsers do not execute, and the scripts put it on the page as text only, never as markup.
"""

import html
import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    "charts.js",
    "store.js",
    "canvas.js",
    "scatter.js",
    "parallel.js",
    "explorer.js",
    "design.js",
    "sure.js",
    "page.js",
)
MAX_ROWS = 10_000
N_DIGITS = 6  # three are shown; six keep the order of near ties at half the size
COLUMN_KEYS = ("name", "label", "unit", "group", "meaning", "direction", "log", "categorical")
REQUIRED_ROWS = ("id", "on_front", "feasible", "killed_by")
DEFAULTS = {
    "question": "",
    "version": "",
    "created": "",
    "seed": None,
    "method": "",
    "exact": False,
    "command": "",
    "counts": {},
    "killed": {},
    "picks": [],
    "details": {},
    "references": [],
    "exports": [],
    "level": 0.8,
    "decision": {},
    "codesign": {},
    "warnings": [],
    "history": [],
    "assumptions": [],
    "study_yaml": "",
    "reproduce": [],
}


def render(payload: Mapping) -> str:
    """The whole report as HTML text. `payload` is SI, column-oriented; NaN and infinities become null."""
    data = {**DEFAULTS, **_plain(payload)}
    data.setdefault("run", f"runs/{data.get('title', '')}")
    data.setdefault("total_rows", len(data.get("rows", {}).get("id", ())))
    _check(data)
    data["rows"] = {name: _without_tail(cells) for name, cells in data["rows"].items()}
    parts = {
        "title": html.escape(data["title"]),
        "style": _read("style.css"),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # One pass, so that a placeholder inside the data is data.
    return re.sub(r"\{\{(title|style|script|data)\}\}", lambda match: parts[match[1]], _read("page.html"))


def write(payload: Mapping, path: str | os.PathLike) -> Path:
    """Render to `path`; a reader sees the old file or the whole new one, never a part."""
    path = Path(path)
    text = render(payload)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


@cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _plain(value):
    """JSON types only: numpy scalars and arrays become Python's, numbers that are not finite become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _short(value: float) -> float | int:
    """Rounded to the page's digits; whole numbers without their `.0`, which JSON does not need."""
    rounded = float(f"{value:.{N_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _without_tail(cells: list) -> list:
    """Without the empty cells at the end, which the page puts back: sampled designs have few columns and stand last."""
    end = len(cells)
    while end and cells[end - 1] is None:
        end -= 1
    return cells[:end]


def _check(data: dict) -> None:
    """A payload that cannot be drawn is the caller's bug, named here rather than in a browser's console."""
    rows = data.get("rows", {})
    missing = [name for name in REQUIRED_ROWS if name not in rows]
    missing += [column["name"] for column in data["columns"] if column["name"] not in rows]
    if missing:
        raise ValueError(f"report rows lack the columns {', '.join(missing)}")
    n_rows = len(rows["id"])
    if n_rows > MAX_ROWS:
        raise ValueError(f"a report holds at most {MAX_ROWS} rows, got {n_rows}: keep the front and a sample")
    ragged = [name for name, values in rows.items() if len(values) != n_rows]
    if ragged:
        raise ValueError(f"report columns differ in length from id ({n_rows}): {', '.join(ragged)}")
    for column in data["columns"]:
        absent = [key for key in COLUMN_KEYS if key not in column]
        if absent:
            raise ValueError(f"report column {column['name']} lacks {', '.join(absent)}")
    known = set(rows["id"])
    strangers = [str(pick["id"]) for pick in data["picks"] if pick["id"] not in known]
    if strangers:
        raise ValueError(f"report picks are not among the rows: {', '.join(strangers)}")
