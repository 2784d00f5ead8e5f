"""Reading an evidence CSV: typed cells, every problem of the file at once with its row and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from codesign.spec.errors import Diagnostic, UserError, nearest

KINDS = ("training", "inference")
MOST_PROBLEMS = 20
# How a cell is read.  text; count: whole, >= 1; count0: whole, >= 0; real: > 0; flag: 0 or 1.
COLUMNS: dict[str, dict[str, str]] = {
    "training": {
        **dict.fromkeys("id source model catalog_model attention gpu precision recompute sharding flops_convention notes routing".split(), "text"),
        **dict.fromkeys("layers hidden heads kv_heads ffn vocab top_k moe_ffn seq_len global_batch_seqs micro_batch_seqs "
                        "tp cp pp vp ep dp gpus d_head qk_nope_dim v_head_dim".split(), "count"),
        **dict.fromkeys("n_experts shared_experts dense_layers q_lora_rank kv_lora_rank qk_rope_dim window_tok global_every mtp_layers".split(), "count0"),
        "gated_ffn": "flag",
        **dict.fromkeys("measured_tflops_per_gpu tokens_per_s_per_gpu step_time_s mfu".split(), "real"),
    },
    "inference": {
        **dict.fromkeys("id source model gpu precision_label engine engine_version phase notes accelerator catalog_model".split(), "text"),
        **dict.fromkeys("n_gpus tp ep pp dp batch_or_concurrency".split(), "count"),
        **dict.fromkeys("isl osl".split(), "count0"),
        **dict.fromkeys("weight_bits kv_bits act_bits request_rate output_tokens_per_s_total output_tokens_per_s_per_gpu tokens_per_s_per_user "
                        "ttft_ms tpot_ms total_tokens_per_s latency_s mfu".split(), "real"),
    },
    "kernels": {
        **dict.fromkeys("id source accelerator engine kernel dtype notes".split(), "text"),
        **dict.fromkeys("m n k batch context_tok n_heads n_kv_heads d_head n_bytes n_devices".split(), "count"),
        **dict.fromkeys("time_us spread".split(), "real"),
    },
}  # fmt: skip
# Of each tuple at least one column must be there; the rest of the format may be missing.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "training": (("gpu",), ("precision",), ("seq_len",), ("global_batch_seqs",), ("tokens_per_s_per_gpu", "step_time_s"), ("layers", "catalog_model", "model")),
    "inference": (("phase",), ("accelerator", "gpu"), ("catalog_model", "model"),
                  ("tpot_ms", "ttft_ms", "latency_s", "total_tokens_per_s", "output_tokens_per_s_total")),
    "kernels": (("accelerator",), ("kernel",), ("dtype",), ("time_us",)),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement: typed cells by column, None where empty or absent."""

    id: str
    line: int
    cells: dict[str, Any]

    def __getitem__(self, column: str) -> Any:
        return self.cells.get(column)

    def text(self, column: str) -> str:
        return self.cells.get(column) or ""


def shipped(kind: str) -> Path:
    """The published measurements that come with the package."""
    return Path(str(resources.files("codesign.evidence") / "data" / f"{kind}.csv"))


def load(path: str | Path | None, kind: str) -> list[Row]:
    """Rows of an evidence CSV (without a path: the shipped one).  Unreadable file, missing columns, bad cells -> UserError."""
    if kind not in COLUMNS:
        raise UserError(f"unknown kind of evidence '{kind}'", hint=f"one of {', '.join(COLUMNS)}")
    path = Path(path) if path is not None else shipped(kind)
    header, records = _read(path)
    _check_header(path, kind, header)
    problems: list[Diagnostic] = []
    rows = [_row(path, kind, header, line, cells, problems) for line, cells in records]
    problems += _repeated(path, rows)
    if problems:
        more = len(problems) - MOST_PROBLEMS
        rest = [Diagnostic(f"... and {more} more problems of this kind", str(path))] if more > 0 else []
        raise UserError([*problems[:MOST_PROBLEMS], *rest])
    return rows


def kind_of(path: str | Path) -> str:
    """Kind of a CSV by its columns; UserError where they fit neither format."""
    header = set(_read(Path(path))[0])
    found = [kind for kind in KINDS if all(set(names) & header for names in REQUIRED[kind])]
    if len(found) != 1:
        hint = "; ".join(f"{kind} needs {', '.join(' or '.join(names) for names in REQUIRED[kind])}" for kind in KINDS)
        raise UserError(
            Diagnostic("neither training nor inference evidence by its columns: say which with --kind", str(path), 1, hint=hint)
        )
    return found[0]


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            records = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            Diagnostic(f"cannot be read: {reason}", str(path), hint=f"a CSV file in UTF-8, as {shipped(KINDS[0]).parent}")
        ) from None
    if not header:
        raise UserError(Diagnostic("is empty", str(path), hint="the first line names the columns"))
    return header, records


def _check_header(path: Path, kind: str, header: list[str]) -> None:
    found = []
    for names in REQUIRED[kind]:
        if not set(names) & set(header):
            close = nearest(names[0], header)
            hint = f"is it '{close}'? rename that column" if close else f"columns here: {', '.join(header[:12]) or 'none'}"
            found.append(Diagnostic(f"no column '{' or '.join(names)}': {kind} evidence needs it", str(path), 1, hint=hint))
    found += [
        Diagnostic(f"column '{name}' occurs twice", str(path), 1) for name in sorted({n for n in header if n and header.count(n) > 1})
    ]
    if found:
        if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
            found = [Diagnostic("cells are not separated by commas", str(path), 1, hint="export the table with ',' between cells")]
        raise UserError(found)


def _row(path: Path, kind: str, header: list[str], line: int, cells: list[str], problems: list[Diagnostic]) -> Row:
    if len(cells) > len(header):
        problems.append(
            Diagnostic(f"row has {len(cells)} cells, the header {len(header)}", str(path), line, hint="quote cells that contain a comma")
        )
    typed: dict[str, Any] = {}
    raw = dict(zip(header, (cell.strip() for cell in cells), strict=False))
    name = raw.get("id") or f"row-{line}"
    for column, how in COLUMNS[kind].items():
        cell = raw.get(column, "")
        typed[column] = None
        if cell:
            try:
                typed[column] = cell if how == "text" else _number(cell, how)
            except ValueError as error:
                problems.append(Diagnostic(f"row '{name}', column '{column}': '{cell[:40]}' {error}", str(path), line))
    return Row(name, line, typed)


def _number(cell: str, how: str) -> float | int:
    """The number in a cell; ValueError says what is wrong with it."""
    try:
        value = float(cell)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    if how == "real":
        if value <= 0:
            raise ValueError("must be above 0")
        return value
    least = 1 if how == "count" else 0
    if not value.is_integer() or value < least:
        raise ValueError(f"must be a whole number of at least {least}")
    if how == "flag" and value > 1:
        raise ValueError("must be 0 or 1")
    return int(value)


def _repeated(path: Path, rows: Iterable[Row]) -> list[Diagnostic]:
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        if row.id in seen:
            found.append(Diagnostic(f"id '{row.id}' is already that of line {seen[row.id]}", str(path), row.line, hint="ids must differ"))
        seen.setdefault(row.id, row.line)
    return found
