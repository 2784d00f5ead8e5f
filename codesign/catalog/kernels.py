"""Kernel constants of one engine on one accelerator, gaps filled by declared rules.

For each constant the first table that has it wins: the engine's own row of the chip; the base engine's row; the same two for the chips
that this chip is declared to be `like`; last the priors (chip, vendor, default).  Network constants of a PCIe card come from the `pcie`
priors before those of a chip that it computes like.  Inside a table a dtype may stand for a close relative
(`dtype_like`).  What was borrowed is wider: residual = sqrt(residual^2 + transfer^2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from codesign.catalog import loader
from codesign.catalog.schema import DTYPES, OPS

ANY = "any"
NETWORK = ("all_reduce", "nccl", "all_to_all")
GEMM_DTYPES = (*DTYPES, "w8a16", "w4a16")
"""Operand formats of matrix products; wXa16 = X-bit weights, 16-bit arithmetic."""
KEYS = {
    **dict.fromkeys(("gemm", "experts"), GEMM_DTYPES),
    "training": ("bf16", "fp8", "fp4"),
    **dict.fromkeys(("attention_decode", "mla_decode", "attention_prefill"), ("bf16", "fp8")),
    "nccl": ("all_reduce", "all_gather", "all_to_all", "scale_out"),
    "all_to_all": ("scale_up", "scale_out"),
}
"""Cells that every accelerator gets.  all_reduce is keyed by group size, for the sizes that were measured."""
TRANSFER = 0.15
"""Residual of constants borrowed by a chip file that says `like: another chip` itself; the engine files state theirs."""


def kernel_constants(engine: str | Path | Mapping[str, Any], accelerator: str | Mapping[str, Any]) -> dict[str, Any]:
    """{op: {dtype or tier: {constant: SI value}}}, plus all_reduce {group size: {...}}, `stack` {constant of training: value} and `origin` {"op.key": where from}.

    Constants per op are those of `schema.OPS`; `residual` is the median relative error of the fit.
    """
    if isinstance(engine, str) and isinstance(accelerator, str):
        return loader.copy(_resolved(engine, accelerator))
    chip = accelerator if isinstance(accelerator, Mapping) else loader.load("accelerators", accelerator)
    return _resolve(_chain(loader.load("engines", engine)), chip)


@lru_cache(256)
def _resolved(engine: str, accelerator: str) -> dict[str, Any]:
    return _resolve(_chain(loader.load("engines", engine)), loader.load("accelerators", accelerator))


def _chain(engine: dict[str, Any]) -> list[dict[str, Any]]:
    """The engine, its base, the base's base, ..."""
    engines = [engine]
    while base := engines[-1].get("base"):
        engines.append(loader.load("engines", base))
    return engines


def _resolve(engines: list[dict[str, Any]], chip: Mapping[str, Any]) -> dict[str, Any]:
    own, like, priors = _tables(engines, chip)
    on_pcie = _priors(engines, ("pcie",)) if chip.get("scale_up", {}).get("topology") == "pcie" else []
    relatives = {dtype: names for engine in reversed(engines) for dtype, names in engine.get("dtype_like", {}).items()}
    constants: dict[str, Any] = {"origin": {}}
    for op, keys in KEYS.items():
        tables = own + on_pcie * (op in NETWORK) + like + priors
        constants[op] = {}
        for key in keys:
            cell, origin = _cell(tables, op, (key, *relatives.get(key, ()), ANY))
            constants[op][key], constants["origin"][f"{op}.{key}"] = cell, origin
    for where, transfer, table in own + on_pcie + like + priors:  # group sizes of different tables are never mixed
        if "all_reduce" in table:
            cells = {int(n): cell for n, cell in table["all_reduce"].items() if n != "note"}
            constants["all_reduce"] = {n: {**c, "residual": math.hypot(c["residual"], transfer)} for n, c in cells.items()}
            constants["origin"]["all_reduce"] = where
            break
    constants["stack"] = _stack(engines, chip)
    return constants


def _stack(engines: list[dict[str, Any]], chip: Mapping[str, Any]) -> dict[str, float]:
    """Constants of the training stack: the engine's over its base's, each with what it says of the chip's vendor and of the chip.

    A chip without a row of its own takes that of the first chip that it is like.
    """
    vendor, merged = str(chip.get("vendor", "")).lower(), {}
    for engine in reversed(engines):
        block = engine.get("training", {})
        rows = block.get("by_chip", {})
        known = next((c for c in (chip["name"], *_likeness(engines, chip)["chips"]) if c in rows), None)
        merged |= (
            {k: v for k, v in block.items() if not k.startswith("by_")} | block.get("by_vendor", {}).get(vendor, {}) | rows.get(known, {})
        )
    return {k: v for k, v in merged.items() if isinstance(v, (int, float))}


def _likeness(engines: list[dict[str, Any]], chip: Mapping[str, Any]) -> dict[str, Any]:
    stated = {"chips": [loader.find("accelerators", chip["like"]).name] if "like" in chip else [], "residual": TRANSFER}
    return next((e["like"][chip["name"]] for e in engines if chip["name"] in e.get("like", {})), stated)


_Table = tuple[str, float, dict[str, Any]]  # where, transfer residual, {op: {key: cell}}


def _tables(engines: list[dict[str, Any]], chip: Mapping[str, Any]) -> tuple[list[_Table], list[_Table], list[_Table]]:
    """The chip's own tables, those of the chips it is like, and the priors, each in the order of preference."""
    name, vendor = chip["name"], str(chip.get("vendor", "")).lower()
    like = _likeness(engines, chip)
    measured = [(c, e) for c in (name, *like["chips"]) for e in engines if c in e.get("kernels", {})]
    own = [(f"{e['name']} {c}", 0.0, e["kernels"][c]) for c, e in measured if c == name]
    others = [(f"{e['name']} {c} (like {c})", like["residual"], e["kernels"][c]) for c, e in measured if c != name]
    return own, others, _priors(engines, (name, *like["chips"], vendor, "default"))


def _priors(engines: list[dict[str, Any]], groups: tuple[str, ...]) -> list[_Table]:
    return [(f"{e['name']} prior {g}", 0.0, e["priors"][g]) for g in groups for e in engines if g in e.get("priors", {})]


def _cell(tables: list[_Table], op: str, keys: tuple[str, ...]) -> tuple[dict[str, float], str]:
    cell: dict[str, float] = {}
    origin = "none"
    for where, transfer, table in tables:
        row = table.get(op, {})
        found = next((row[key] for key in keys if key in row), {})
        for constant in OPS[op]:
            if constant in found and constant not in cell:
                borrowed = constant == "residual" and transfer
                cell[constant] = math.hypot(found[constant], transfer) if borrowed else found[constant]
                origin = where if origin == "none" else origin
    return cell, origin
