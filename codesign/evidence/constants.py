"""`codesign list constants`: every figure that the evaluator reads, one row each, with unit, source, date, confidence and residual.

Figures of the catalog carry their provenance.  Those of the code (laws, factors, a few habits of engines) are read with the comment that
stands beside them, so that there is one place to keep right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from codesign import catalog

SHOWN = ["name", "value", "unit", "residual", "confidence", "date", "source"]
KINDS = ("accelerators", "systems", "engines", "prices", "memory")
OFFERS = ("rates.", "rentals.")  # of price books: the one that counts is the accelerator's price.rent
BY_SUFFIX = {"_S": "s", "_BYTES": "byte", "_TOK": "tok", "_FLOP_PER_PARAM": "FLOP"}
# module -> constants whose comment is their source
MODULES: dict[str, tuple[str, ...]] = {
    "scenario": ("GEMM_K_HALF", "PIPELINE_HOP_S", "TOKEN_IMBALANCE"),
    "physics.precision": ("BITS_STORED",),
    "physics.operators": ("INDEX_SCALE_BYTES", "ACT_BYTES", "NARROWEST_TILE_TOK"),
    "physics.phases.prefill": ("CHUNK_TOK",),
    "physics.phases.train": ("GRADIENT_BYTES", "OPTIMIZER_BYTES", "ELEMENTWISE_LAUNCHES", "OPTIMIZER_TRAFFIC_BYTES"),
    "physics.failures": ("DEVICE_S_BETWEEN_FAILURES", "RESTART_S", "CHECKPOINT_S"),
    "service.traffic": ("RENTED_WHOLE",),
    "given": ("UTILISATION",),
    "tokens": ("ACCEPTED_WASTE",),
    "uncertainty": ("PRIOR_WIDENING",),
    "evidence.predict": ("MAX_SEQUENCES", "REQUESTS_PER_SLOT"),
    "lifecycle.scaling_law": ("REPEAT_VALUE",),
    "lifecycle.balance": ("TRAIN_FLOP_PER_PARAM", "FORWARD_FLOP_PER_PARAM"),
    "lifecycle.quality": ("BENCHMARK_SLOPES", "SIGMA_LN_KNOW_BITS"),
    "lifecycle.quality_factors": ("LONG_CONTEXT_TOK",),
    "lifecycle.quality_validity": ("MAX_TOK_PER_PARAM", "MAX_EPOCHS"),
}
UNITS = {
    "BITS_STORED": "bit",
    "DEVICE_S_BETWEEN_FAILURES": "s",
    "TOKEN_IMBALANCE": "1",
    "E": "nat",
    "A": "nat",
    "B": "nat",
    "window_free_tok": "tok",
    "quant_gamma_bits": "bit",
}


class Constant(NamedTuple):
    """One row.  `residual`: relative, of the fit that the figure comes from, or half of its 1-sigma range."""

    name: str
    value: float
    unit: str
    source: str
    date: str
    confidence: str
    residual: float | None = None


def constants() -> list[Constant]:
    """Catalog first, then laws, then the constants of the code."""
    return [*_catalog(), *_laws(), *_factors(), *_spreads(), *_code()]


def _catalog() -> Iterator[Constant]:
    for kind in KINDS:
        for name in catalog.names(kind):
            record = catalog.load(kind, name)
            inherited = catalog.load(kind, record["base"])["provenance"] if "base" in record else {}
            for key, value, unit, source, date, confidence in catalog.sources(record):
                own = key.startswith("kernels.") or inherited.get(key) is None or inherited[key] != record["provenance"][key]
                if own and not key.endswith(".residual") and not (kind == "prices" and key.startswith(OFFERS)):
                    yield Constant(f"{kind}.{name}.{key}", value, unit or "1", source, date, confidence, _residual(record, key))


def _residual(record: Mapping[str, Any], key: str) -> float | None:
    """Of the kernel cell that a figure stands in."""
    place: Any = record
    for part in key.split(".")[:-1]:
        place = place.get(part, place.get(int(part)) if part.isdigit() else None) if isinstance(place, Mapping) else None
    found = place.get("residual") if isinstance(place, Mapping) else None
    return found if isinstance(found, float) else None


def _laws() -> Iterator[Constant]:
    from codesign.lifecycle.critical_batch import BATCH_LAWS
    from codesign.lifecycle.scaling_law import LAWS

    for room, laws in (("quality law", LAWS), ("critical batch", BATCH_LAWS)):
        for name, law in laws.items():
            numbers = {f.name: getattr(law, f.name) for f in fields(law) if isinstance(getattr(law, f.name), float)}
            for key, value in numbers.items():
                unit = "tok" if key == "coefficient" else UNITS.get(key, "1")
                yield Constant(f"{room}.{name}.{key}", value, unit, law.source, _date(law.source), "measured")


def _factors() -> Iterator[Constant]:
    from codesign.lifecycle.quality_factors import DEFAULT, RANGES, WEIGHT_FORMATS

    said = _comments("lifecycle.quality_factors")
    for f in fields(DEFAULT):
        low_high = RANGES.get(f.name)
        spread = (low_high[1] - low_high[0]) / 2.0 / getattr(DEFAULT, f.name) if low_high else None
        for suffix, value in _numbers(getattr(DEFAULT, f.name)):
            yield _said(f"quality factor.{f.name}{suffix}", value, UNITS.get(f.name, "1"), said.get(f.name, ""))._replace(residual=spread)
    for name, form in WEIGHT_FORMATS.items():
        spread = (form.high - form.low) / 2.0 / form.c_fmt if form.c_fmt else None
        yield _said(f"quality factor.weight format.{name}.c_fmt", form.c_fmt, "1", form.source)._replace(residual=spread)


def _spreads() -> Iterator[Constant]:
    from codesign.uncertainty import SPREADS

    source = "scripts/fit_uncertainty.py on codesign/evidence/data/*.csv: residuals of `codesign validate`"
    for key, spread in SPREADS.items():
        for part in ("shared", "own"):
            yield Constant(f"uncertainty.{'.'.join(key)}.{part}", getattr(spread, part), "1", source, "2026", "measured")


def _code() -> Iterator[Constant]:
    for module, names in MODULES.items():
        loaded, said = import_module(f"codesign.{module}"), _comments(module)
        for name in names:
            unit = UNITS.get(name) or next((u for s, u in BY_SUFFIX.items() if name.endswith(s)), "1")
            for suffix, value in _numbers(getattr(loaded, name)):
                yield _said(f"{module}.{name}{suffix}", value, unit, said.get(name, ""))


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """(suffix of the name, number) of a number, or of every number in a dictionary, tuple or dataclass."""
    if isinstance(value, int | float):
        yield "", float(value)
        return
    items = value.items() if isinstance(value, Mapping) else vars(value).items() if is_dataclass(value) else enumerate(value)
    for key, item in items:
        yield from ((f".{key}{rest}", number) for rest, number in _numbers(item))


def _said(name: str, value: float, unit: str, comment: str) -> Constant:
    return Constant(name, value, unit, comment or "definition", _date(comment), _confidence(comment))


def _confidence(comment: str) -> str:
    """What a comment claims; one that names no evidence is an estimate."""
    if re.search(r"estimate|assumption", comment):
        return "estimate"
    if re.search(r"vendor|default|format|protocol", comment):
        return "vendor"
    return "measured" if re.search(r"arXiv|\bfit|tables?\b|evaluation|SimpleQA", comment) else "estimate"


def _date(source: str) -> str:
    """Year and month of the newest arXiv number in a source."""
    found = sorted(f"20{year}-{month}" for year, month in re.findall(r"\b(\d\d)(\d\d)\.\d{4,5}\b", source))
    return found[-1] if found else "undated"


def _comments(module: str) -> dict[str, str]:
    """{name: comment}: behind the assignment, in the lines above it, or with the assignment in the line before ('same ...' adds to that)."""
    path = Path(str(import_module(f"codesign.{module}").__file__))
    said: dict[str, str] = {}
    above, last = [], ""  # comment lines above; comment of the assignment in the line before
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        assigned = re.match(r"(\w+)\s*(?::[^=]+)?=[^=]", text)
        if text.startswith("#"):
            above, last = ([] if last else above) + [text.lstrip("# ")], ""
        elif assigned:
            behind = text.partition("  # ")[2]
            comment = behind if behind and not behind.startswith("fmt:") else " ".join(above) or last
            last = f"{comment} ({last})" if comment.startswith("same") else comment
            said.setdefault(assigned[1], last)
            above = [] if behind else above
        else:
            above, last = [], ""
    return said
