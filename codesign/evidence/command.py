"""What `codesign validate` does, apart from parsing flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codesign.evidence import plot, text
from codesign.evidence.explain import explain, explain_text
from codesign.evidence.rows import KINDS, kind_of
from codesign.evidence.validation import Validation, validate


def run(data: str | None, kind: str | None) -> list[Validation]:
    """Validations of a file (its kind by its columns unless given), or of the shipped measurements, of both kinds unless given."""
    kinds = [kind] if kind else KINDS if data is None else [kind_of(data)]
    return [validate(data, k) for k in kinds]


def write(validations: list[Validation], per_row: str | None, page: str | None) -> list[Path]:
    """The files that were asked for."""
    if per_row:
        text.write_per_row(per_row, validations)
    if page:
        plot.write(page, validations)
    return [Path(p) for p in (per_row, page) if p]


def answer(validations: list[Validation], row_id: str | None, as_json: bool) -> Any:
    """JSON-ready mapping or text: one row explained, else the accuracy tables."""
    if row_id is not None:
        explained = explain(validations, row_id)
        return explained if as_json else explain_text(explained)
    if not as_json:
        return "\n\n".join(text.screen(v) for v in validations)
    found = {v.kind: text.summary(v) for v in validations}
    return found if len(validations) > 1 else next(iter(found.values()))
