"""One measurement as the evaluator sees it, and the names that a CSV may use for chips, models and engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from codesign import catalog
from codesign.evidence.rows import Row

ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrt-llm": "trtllm", "tensorrt": "trtllm"}


class Skip(Exception):
    """A row that is left out; the text is the reason."""


@dataclass(frozen=True)
class Case:
    """A row mapped to scenarios.  Of several options the fastest one that fits memory is scored."""

    row: Row
    phase: str  # train, decode, prefill, e2e, offline
    model: str
    chip: str
    engine: str
    precision: str
    is_moe: bool
    options: tuple[Mapping[str, Any], ...]
    measured: Mapping[str, float]  # metric -> value, in the unit of the data column
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = field(default=())  # what the row does not state and the options range over

    @property
    def source(self) -> str:
        """The publication, without the number of the record in it."""
        return re.sub(r" \(id .*", "", self.row.text("source")) or "own"

    @property
    def publication(self) -> str:
        """Who measured, whatever page or version: rows that share code, people and machines."""
        return re.match(r"arXiv [\d.]+|[^: ]+", self.source)[0]

    @property
    def group(self) -> str:
        """Rows whose errors are not independent: same publication, model, chip and precision."""
        return " | ".join((self.source, self.model, self.chip, self.precision))


def hardware(row: Row, *columns: str) -> tuple[dict[str, str], str]:
    """({system or accelerator: name}, folded catalog name) of the first filled column; unknown chips are skipped."""
    given = next((row[c] for c in columns if row[c]), None)
    if given is None:
        raise Skip("no chip named" if not row["gpu"] else f"chip not in the catalog: {row['gpu']}")
    for kind in ("systems", "accelerators"):
        if catalog.known(kind, given):
            name = catalog.find(kind, given).name
            if reason := _hardware_gap(name):
                raise Skip(f"chip cannot be evaluated: {given}: {reason}")
            return {kind.removesuffix("s"): name}, name
    raise Skip(f"chip not in the catalog: {given}")


@lru_cache(256)
def _hardware_gap(name: str) -> str | None:
    return catalog.hardware(name).get("not_evaluable")


def catalog_model(row: Row) -> tuple[str, bool]:
    """(catalog name of the row's model, is it MoE); unknown ones are skipped."""
    for column in ("catalog_model", "model"):
        if row[column] and catalog.known("models", row[column]):
            name = catalog.find("models", row[column]).name
            gap, is_moe = _model_facts(name)
            if gap:
                raise Skip(f"model cannot be evaluated: {name}: {gap}")
            return name, is_moe
    raise Skip(f"model not in the catalog: {row['catalog_model'] or row['model'] or 'none named'}")


@lru_cache(512)
def _model_facts(name: str) -> tuple[str | None, bool]:
    record = catalog.load("models", name)
    return record.get("not_evaluable"), record.get("architecture", {}).get("n_experts", 0) > 0


def engine(row: Row) -> tuple[str, str | None]:
    """(catalog engine, note): an engine without measured kernels runs on the generic constants."""
    text = row.text("engine")
    if text and catalog.known("engines", text):
        return catalog.find("engines", text).name, None
    for mark, name in ENGINES.items():
        if mark in text.lower():
            return name, None
    return "generic", f"engine '{text}' is not in the catalog: generic" if text else "engine not stated: generic"


def node_network(row: Row, n_per_node: int = 8) -> float | None:
    """Network bandwidth per device [byte/s] where the notes state that of a node, as in "800 Gb/s inter-node" or "4x100Gb RoCE per node"."""
    amount = r"(?:(\d+)x)?(\d+(?:\.\d+)?) ?(Gb/s|Gbps|Gb|GB/s)"
    match = re.search(amount + r"(?=[^;,()]*(?:inter-node|per node|/node|per VM))", row.text("notes"))
    if not match:
        return None
    bits = 8.0 if match[3] == "GB/s" else 1.0
    return float(match[1] or 1) * float(match[2]) * bits / 8.0 * 1e9 / n_per_node
