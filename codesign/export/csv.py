"""One row with everything known about the design: every column of the run, every dimension, hardware, precision."""

from __future__ import annotations

import csv
import io
from typing import Any

from codesign.export._subject import Subject, plain, subject
from codesign.results import Run
from codesign.study import Study

HIDDEN = ("on_front", "feasible", "killed_by", "point", "quality_refused")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a text cell that begins so


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`design.csv`: a header and one row; SI units by the suffix of each column, an empty cell where nothing applies."""
    row = columns(subject(study, run, point_id))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(row)
    writer.writerow([_cell(value) for value in row.values()])
    return {"design.csv": text.getvalue()}


def columns(s: Subject) -> dict[str, Any]:
    """Column -> value: identity, variables and filled architecture, then the run's columns."""
    manifest = s.run.manifest
    row = {"study": s.study.name, "id": s.point["id"], "design_id": s.point["design_id"], "codesign_version": manifest["version"]}
    row |= {"created": manifest["created"], "base.model": s.study.model["name"]}
    row |= {name: value for name, value in s.values.items() if not name.startswith("architecture.")}
    row |= {f"architecture.{name}": value for name, value in s.shape.items()}
    own = {name: value for name, value in s.point.items() if name not in HIDDEN and name not in row}
    return {name: plain(value) for name, value in (row | own).items()}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
