"""Every row of a CSV predicted beside its measurement: the lines that everything else in this room counts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path

from codesign import uncertainty
from codesign.evidence import baselines, inference, training
from codesign.evidence.case import Case, Skip
from codesign.evidence.predict import Prediction, predict
from codesign.evidence.rows import Row, load, shipped

PRIMARY = {
    "train": "tokens_per_s_per_gpu",
    "decode": "tpot_ms",
    "e2e": "tpot_ms",
    "prefill": "ttft_ms",
    "offline": "output_tokens_per_s_total",
}


@dataclass(frozen=True)
class Line:
    """One metric of one row: measured, predicted with its interval, signed error ln(predicted / measured), and the baseline's."""

    id: str
    phase: str
    group: str
    metric: str
    measured: float | None = None
    predicted: float | None = None
    lower: float | None = None
    upper: float | None = None
    err: float | None = None
    skipped: str = ""
    baseline_err: float | None = None  # inference: bare roofline; training: one constant MFU
    case: Case | None = field(default=None, repr=False, compare=False)
    prediction: Prediction | None = field(default=None, repr=False, compare=False)

    @property
    def spread_phase(self) -> str:
        return "ttft" if self.phase == "e2e" and self.metric == "ttft_ms" else self.phase

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.case.notes if self.case else ()) + (self.prediction.notes if self.prediction else ())


@dataclass(frozen=True)
class Validation:
    """All lines of one CSV.  `lines` holds scored and skipped ones; `mfu` the constants of the training baseline."""

    kind: str
    path: Path
    n_rows: int
    lines: tuple[Line, ...]
    wall_s: float
    mfu: dict[str, float] = field(default_factory=dict)

    @property
    def is_shipped(self) -> bool:
        return self.path == shipped(self.kind)

    @property
    def scored(self) -> list[Line]:
        return [line for line in self.lines if not line.skipped]

    @property
    def skipped(self) -> list[Line]:
        return [line for line in self.lines if line.skipped]


def validate(path: str | Path | None, kind: str, rows: Iterable[Row] | None = None) -> Validation:
    """Predict every row of a CSV (without a path: the shipped one), or only `rows` of it."""
    start = time.perf_counter()
    rows = load(path, kind) if rows is None else list(rows)
    lines = tuple(line for row in rows for line in _lines(kind, row))
    mfu: dict[str, float] = {}
    if kind == "training":
        scored = [line for line in lines if not line.skipped]
        mfu = baselines.constant_mfu(scored)
        errors = baselines.mfu_errors(scored, mfu)
        lines = tuple(replace(line, baseline_err=errors.get(line.id)) for line in lines)
    where = Path(path) if path is not None else shipped(kind)
    return Validation(kind, where, len(rows), lines, time.perf_counter() - start, mfu)


def case_of(kind: str, row: Row) -> Case:
    """The row as scenarios; Skip says why it cannot be one."""
    return (training if kind == "training" else inference).case(row)


def _lines(kind: str, row: Row) -> list[Line]:
    case = None
    try:
        case = case_of(kind, row)
        prediction = predict(case)
        roofline = _roofline(case, prediction) if kind == "inference" else {}
    except Skip as reason:
        phase = case.phase if case else "train" if kind == "training" else row.text("phase").lower()
        group = case.group if case else " | ".join(filter(None, (row.text("source"), row.text("model"), row.text("gpu"))))
        metric = PRIMARY.get(phase, "")
        return [Line(row.id, phase, group, metric, row[metric] if metric else None, skipped=str(reason), case=case)]
    return [_line(kind, case, prediction, metric, roofline.get(metric)) for metric in prediction.values]


def _roofline(case: Case, prediction: Prediction) -> dict[str, float]:
    """Errors of the bare roofline at the batch that was scored."""
    bare = (
        predict(case, engine="ideal", batch=prediction.scenario["batch"])
        if "batch" in prediction.scenario
        else predict(case, engine="ideal")
    )
    return {metric: log(value / case.measured[metric]) for metric, value in bare.values.items()}


def _line(kind: str, case: Case, prediction: Prediction, metric: str, baseline_err: float | None) -> Line:
    measured, predicted = case.measured[metric], prediction.values[metric]
    line = Line(case.row.id, case.phase, case.group, metric, measured, predicted, err=log(predicted / measured),
                baseline_err=baseline_err, case=case, prediction=prediction)  # fmt: skip
    chip = uncertainty.chip_class(case.chip, case.engine)
    lower, upper = uncertainty.interval(kind, line.spread_phase, chip, case.is_moe, predicted)
    return replace(line, lower=float(lower), upper=float(upper))
