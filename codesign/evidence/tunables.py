"""What a calibration may move: a few factors on the constants that one engine has for one chip, each with a prior and bounds.

A factor is common to kernels that share a cause (all fixed times of kernels, all achieved HBM bandwidths), because a user's rows can tell
causes apart, not kernels.  Coordinates x are 0 at the catalog's value: x = ln(factor), or, for costs whose catalog value may be zero,
x = (value - catalog) / step.  The prior is normal with mean 0: width by the confidence of the figure, or one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign import catalog
from codesign.catalog.kernels import KEYS

PRIOR_SD = {"measured": 0.10, "vendor": 0.20, "estimate": 0.30}
WIDEST = 4.0  # a factor beyond 1/4 to 4 says that rows or mapping are wrong, not the constant
MOST_STEPS = 40.0
KERNELS = ("gemm", "experts", "attention_decode", "mla_decode", "attention_prefill")
GROUPS = {"bf16": ("bf16", "w8a16", "w4a16"), "fp8": ("fp8",), "fp4": ("fp4",)}
"""Formats that share an arithmetic unit: weight-only GEMMs multiply in 16 bit."""
FORMATS = tuple(f for formats in GROUPS.values() for f in formats)
SECONDS, SHARE = "s", ""

Path = tuple[str, ...]  # keys of the engine file, from the top


@dataclass(frozen=True)
class Figure:
    """One constant of the catalog: where the engine file would state it, its value, its cap (shares of a peak end at 1)."""

    path: Path
    value: float
    cap: float = np.inf


@dataclass(frozen=True)
class Tunable:
    """One coordinate of the fit.  The first figure stands for the others in reports."""

    name: str
    unit: str
    figures: tuple[Figure, ...]
    confidence: str
    step: float = 0.0  # > 0: additive, in units of `step`
    sd: float = field(default=1.0)  # of x

    @property
    def bounds(self) -> tuple[float, float]:
        """Limits of x: seconds stay positive, shares stay below their cap."""
        if self.step:
            return min(-self.figures[0].value / self.step, -1e-9), MOST_STEPS
        room = max(f.cap / f.value for f in self.figures)
        return -np.log(WIDEST), max(min(np.log(WIDEST), np.log(room)), 1e-6)

    def values(self, x: float) -> tuple[float, ...]:
        """Figures at coordinate x."""
        if self.step:
            return tuple(max(f.value + self.step * x, 0.0) for f in self.figures)
        return tuple(min(f.value * float(np.exp(x)), max(f.cap, f.value)) for f in self.figures)


def tunables(kind: str, engine: str, chip: str) -> list[Tunable]:
    """Candidates of a kind for one catalog engine on one accelerator, whether or not some rows can identify them."""
    facts = _Facts(engine, chip)
    found = _training(facts) if kind == "training" else _inference(facts)
    return [t for t in found if t.figures]


def engine_mapping(base: str, chip: str, moved: Sequence[tuple[Tunable, float]]) -> dict[str, Any]:
    """The engine file that these coordinates make, as plain data: base, and the figures that differ."""
    tree: dict[str, Any] = {"base": base}
    for tunable, x in moved:
        for figure, value in zip(tunable.figures, tunable.values(x), strict=True):
            place = tree
            for key in figure.path[:-1]:
                place = place.setdefault(key, {})
            place[figure.path[-1]] = f"{value * 1e6:.6f} us" if tunable.unit == SECONDS else value
    _whole_all_reduce(tree, base, chip)
    return tree


def _whole_all_reduce(tree: dict[str, Any], base: str, chip: str) -> None:
    """The loader takes all group sizes from one table, so a table that moves one constant states the others as they are."""
    moved = tree.get("kernels", {}).get(chip, {}).get("all_reduce")
    if moved is None:
        return
    for n, cell in catalog.kernel_constants(base, chip)["all_reduce"].items():
        shipped = {k: f"{v * 1e6:.6f} us" if k.endswith("t0") else v for k, v in cell.items()}
        moved[str(n)] = shipped | moved.get(str(n), {})


class _Facts:
    """The constants of an engine on a chip, with the confidence of each."""

    def __init__(self, engine: str, chip: str) -> None:
        self.engine, self.chip = engine, chip
        self.constants = catalog.kernel_constants(engine, chip)
        self.records = {name: catalog.load("engines", name) for name in _chain(engine)}
        self.scheduler = {"step_overhead": 0.0, "per_sequence_overhead": 0.0} | self.records[engine].get("scheduler", {})

    def cells(self, ops: Sequence[str], formats: Sequence[str], constant: str, cap: float = np.inf) -> Iterator[Figure]:
        """One constant of several kernels, in the operand formats that stand in `formats`."""
        for op in ops:
            for key in KEYS.get(op, ()) if op != "all_reduce" else self.constants[op]:
                if (not formats or str(key) in formats) and constant in self.constants[op].get(key, {}):
                    yield Figure(("kernels", self.chip, op, str(key), constant), self.constants[op][key][constant], cap)

    def kernel(self, name: str, ops: Sequence[str], constants: Sequence[str], formats: Sequence[str] = (), cap: float = 1.0) -> Tunable:
        unit = SECONDS if constants[0].endswith("t0") else SHARE
        figures = tuple(f for c in constants for f in self.cells(ops, formats, c, np.inf if unit else cap) if f.value > 0)
        confidence = self._confidence(figures[0].path) if figures else "estimate"
        return Tunable(name, unit, figures, confidence, sd=PRIOR_SD[confidence])

    def stack(self, name: str, *constants: str, unit: str = SHARE, cap: float = np.inf) -> Tunable:
        """Constants of the training stack; a zero is structural (a compiler has no host time per layer) and stays."""
        known = {c: self.constants["stack"].get(c, 0.0) for c in constants}
        figures = tuple(Figure(("training", "by_chip", self.chip, c), v, cap) for c, v in known.items() if v > 0)
        stated = (r["provenance"].get(f"training.{constants[0]}") for r in self.records.values())
        confidence = next((origin["confidence"] for origin in stated if origin), "estimate")
        return Tunable(name, unit, figures, confidence, sd=PRIOR_SD[confidence])

    def overhead(self, name: str, constant: str, step: float) -> Tunable:
        return Tunable(name, SECONDS, (Figure(("scheduler", constant), self.scheduler[constant]),), "estimate", step=step)

    def _confidence(self, path: Path) -> str:
        """That of the row in the engine's own table; what is borrowed or a prior is an estimate."""
        _, chip, op, key, constant = path
        origin = self.constants["origin"].get(f"{op}.{key}") or self.constants["origin"].get(op, "")
        if origin in ("", "none") or "prior" in origin or "(like" in origin:
            return "estimate"
        provenance = self.records[origin.split(" ")[0]]["provenance"]
        rows = (provenance.get(f"kernels.{chip}.{op}.{k}.{constant}") for k in (key, f"{key}_block", "any"))
        return next((row["confidence"] for row in rows if row), "estimate")


def _chain(engine: str) -> list[str]:
    names = [engine]
    while base := catalog.load("engines", names[-1]).get("base"):
        names.append(base)
    return names


def _inference(f: _Facts) -> list[Tunable]:
    return [
        f.kernel("kernel fixed time", KERNELS, ("t0",), FORMATS),
        f.kernel("HBM efficiency", KERNELS, ("memory",), FORMATS),
        *(f.kernel(f"compute efficiency {d}", KERNELS, ("compute",), formats) for d, formats in GROUPS.items()),
        f.kernel("all-reduce fixed time", ("all_reduce",), ("one_shot_t0", "two_shot_t0")),
        f.kernel("all-reduce bandwidth", ("all_reduce",), ("one_shot", "two_shot"), cap=2.0),  # a switch that multicasts passes 1
        f.kernel("all-to-all fixed time", ("all_to_all",), ("t0",)),
        f.kernel("all-to-all bandwidth", ("all_to_all",), ("efficiency",)),
        f.overhead("scheduler time per step", "step_overhead", 0.5e-3),
        f.overhead("scheduler time per sequence", "per_sequence_overhead", 5e-6),
    ]


def _training(f: _Facts) -> list[Tunable]:
    derate = {"bf16": f.constants["stack"].get("sustained", 1.0)}
    narrow = derate["bf16"] * f.constants["stack"].get("sustained_narrow", 1.0)
    attention = f.constants["attention_prefill"]["bf16"].get("compute", 1.0)
    return [
        *(f.kernel(f"GEMM compute fraction {d}", ("training",), ("compute",), (d,), cap=1.0 / derate.get(d, narrow)) for d in GROUPS),
        f.stack("attention fraction", "attention", cap=1.0 / attention),
        f.stack("experts fraction 16-bit", "experts_16", cap=1.0),
        f.stack("experts fraction 8-bit", "experts_8", cap=1.0),
        f.stack("traffic between GEMMs", "traffic"),
        f.stack("host time per layer", "host", "host_moe", unit=SECONDS),
        f.stack("start-up of collectives", "sync", unit=SECONDS),
        f.stack("collectives beside kernels", "network", cap=1.0),
        f.kernel("scale-out efficiency", ("nccl",), ("efficiency",), ("scale_out",)),
        f.stack("fixed time per optimizer step", "step", unit=SECONDS),
    ]
