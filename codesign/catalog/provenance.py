"""From what a catalog file says to SI numbers, each with its unit, source, date and confidence."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from codesign.catalog.schema import CHOICES, PROVENANCE
from codesign.spec import units
from codesign.spec.errors import UserError, did_you_mean

UNSTATED = {"source": "not stated", "date": "undated", "confidence": "estimate"}
"""What a figure of a user's own file carries when the file says nothing."""

_FACTORS: dict[tuple[str, str], tuple[float, float]] = {  # (multiply, divide); only a short cut: pint takes 0.2 s to import
    ("GB", "byte"): (1e9, 1), ("GiB", "byte"): (2**30, 1), ("MB", "byte"): (1e6, 1), ("MiB", "byte"): (2**20, 1),
    ("KiB", "byte"): (1024, 1), ("TB", "byte"): (1e12, 1), ("PB", "byte"): (1e15, 1),
    ("GB/s", "byte/s"): (1e9, 1), ("TB/s", "byte/s"): (1e12, 1),
    ("TFLOP/s", "FLOP/s"): (1e12, 1), ("PFLOP/s", "FLOP/s"): (1e15, 1),
    ("W", "W"): (1, 1), ("kW", "W"): (1e3, 1), ("h", "s"): (3600, 1), ("ns", "s"): (1, 1e9), ("s", "s"): (1, 1), ("ms", "s"): (1, 1e3), ("us", "s"): (1, 1e6),
    ("USD", "USD"): (1, 1), ("MUSD", "USD"): (1e6, 1), ("GUSD", "USD"): (1e9, 1),
    ("USD/h", "USD/s"): (1, 3600), ("USD/GB", "USD/byte"): (1, 1e9),
    ("USD/kWh", "USD/J"): (1, 3.6e6), ("USD/kW/month", "USD/s/W"): (1, 2629800e3), ("tok", "tok"): (1, 1), ("Ttok", "tok"): (1e12, 1),
    ("yr", "s"): (31557600, 1), ("kg", "kg"): (1, 1), ("pJ/bit", "J/byte"): (8, 1e12),
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ([A-Za-z/]+)")


class Problem(NamedTuple):
    """One thing wrong in a file; `path` is the tuple of keys that `spec.yamlio` gives positions for."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None
    at_key: bool = False


@lru_cache(4096, typed=True)
def quantity(value: str | float, unit: str) -> float:
    """`units.quantity` without importing pint for the units that the catalog uses.

    >>> quantity("3.35 TB/s", "byte/s"), quantity("2.00 USD/h", "USD/s") * 3600
    (3350000000000.0, 2.0)
    """
    if type(value) in (int, float) and value == value and unit in units.COUNTS:
        return float(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    factor = _FACTORS.get((match[2], unit)) if match else None
    if factor is None:
        return units.quantity(value, unit)
    return float(match[1]) * factor[0] / factor[1]


class Reader:
    """Walks one raw record beside its table of fields; collects SI values, provenance and every problem."""

    def __init__(self) -> None:
        self.provenance: dict[str, dict[str, str]] = {}
        self.problems: list[Problem] = []

    def record(self, raw: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """The record in SI units; its `provenance` maps dotted key -> unit, source, date, confidence (and note)."""
        read = self._block(raw, fields, (), UNSTATED)
        for key in PROVENANCE:
            if isinstance(raw, dict) and key in raw:
                read[key] = str(raw[key])
        read["provenance"] = self.provenance
        return read

    def _block(self, raw: Any, fields: dict[str, Any], path: tuple, above: dict[str, str]) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self._wrong(path, "expected a block of 'key: value' lines here")
            return {}
        here = self._inherit(raw, path, above)
        read: dict[str, Any] = {}
        for key, value in raw.items():
            field = fields.get(str(key), fields.get("*") if key not in (*PROVENANCE, "note") else None)
            if field is not None:
                read[str(key)] = self._value(value, field, (*path, key), here)
            elif key == "note":
                read["note"] = str(value)
            elif key not in PROVENANCE:
                known = [k for k in (*fields, *PROVENANCE, "note") if k != "*"]
                self.problems.append(Problem((*path, key), f"unknown key '{key}'", did_you_mean(str(key), known, "known keys"), True))
        return read

    def _inherit(self, raw: dict[str, Any], path: tuple, above: dict[str, str]) -> dict[str, str]:
        given = {key: str(raw[key]) for key in PROVENANCE if key in raw}
        if given.get("confidence", "estimate") not in CHOICES["confidence"]:
            self._wrong((*path, "confidence"), f"confidence is one of {', '.join(CHOICES['confidence'])}")
        return {**above, **given}

    def _value(self, raw: Any, field: Any, path: tuple, above: dict[str, str]) -> Any:
        if isinstance(field, dict):
            return self._block(raw, field, path, above)
        if isinstance(raw, dict):
            known = ("value", *PROVENANCE, "note")
            unknown = [key for key in raw if key not in known]
            for key in unknown:
                hint = did_you_mean(str(key), known, "known keys")
                self.problems.append(Problem((*path, key), f"unknown key '{key}'", hint, True))
            if "value" not in raw:
                self._wrong(path, "a figure written as a block needs 'value:'")
                return None
            note = {"note": str(raw["note"])} if "note" in raw else {}
            return self._scalar(raw["value"], field, (*path, "value"), {**self._inherit(raw, path, above), **note}, path)
        return self._scalar(raw, field, path, above, path)

    def _scalar(self, raw: Any, field: str, path: tuple, origin: dict[str, str], key: tuple) -> Any:
        if field in _READERS:
            good, what = _READERS[field]
            if not good(raw):
                self._wrong(path, f"expected {what}")
                return None
            if field == "int":
                self.provenance[".".join(map(str, key))] = {"unit": "", **origin}
            return raw
        if field in CHOICES:
            if raw not in CHOICES[field]:
                self._wrong(path, f"expected one of {', '.join(CHOICES[field])}")
            return raw
        try:
            number = quantity(raw, field) if isinstance(raw, str | int | float) else units.quantity(raw, field)
        except UserError as error:
            self._wrong(path, error.diagnostics[0].message, error.diagnostics[0].hint)
            return None
        self.provenance[".".join(map(str, key))] = {"unit": field, **origin}
        return number

    def _wrong(self, path: tuple, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(path, message, hint))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_READERS: dict[str, tuple[Any, str]] = {
    "int": (_is_int, "a whole number"),
    "flag": (lambda v: isinstance(v, bool), "true or false"),
    "text": (lambda v: isinstance(v, str | int | float) and not isinstance(v, bool), "text"),
    "texts": (lambda v: isinstance(v, list) and all(isinstance(i, str | int) for i in v), "a list of names, such as [a, b]"),
    "ints": (lambda v: isinstance(v, list) and all(_is_int(i) for i in v), "a list of whole numbers, such as [16, 16]"),
}


def sources(record: dict[str, Any]) -> list[tuple[str, float, str, str, str, str]]:
    """Every figure of a loaded record as (dotted key, SI value, SI unit, source, date, confidence)."""
    rows = []
    for key, origin in record.get("provenance", {}).items():
        value = lookup(record, key)
        if value is not None:
            rows.append((key, value, origin["unit"], *(origin[name] for name in PROVENANCE)))
    return rows


def lookup(record: dict[str, Any], dotted: str) -> Any:
    """The value at a dotted key of a nested record, None where there is none."""
    value: Any = record
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
