"""`codesign calibrate --kind kernels`: constants of single kernels from times of single kernels, as `codesign measure` writes them.

gemm              t = t0 + max(2 m n k / (compute peak), (n k width + 2 m (n + k)) / (memory bandwidth))
attention_decode  t = t0 + 4 batch kv_heads d_head context / (memory bandwidth)
all_reduce        t = min(a1 + (n-1) b / (e1 link), a2 + 2 (n-1)/n b / (e2 link))
hbm               bytes over time: reported beside the catalog's bandwidth, not fitted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign import catalog
from codesign.evidence import fit
from codesign.evidence.rows import Row, load
from codesign.spec.errors import UserError, did_you_mean

PRIOR_SD = 0.5  # of ln(constant): the catalog is where the fit starts, the kernel's own times decide
LEAST_ROWS = 4
CAPS = {"compute": 1.0, "memory": 1.0, "one_shot": 2.0, "two_shot": 2.0}  # a switch that multicasts passes 1
FITTED = ("gemm", "attention_decode", "all_reduce")
SIZES = {"gemm": ("m", "n", "k"), "attention_decode": ("batch", "context_tok", "n_kv_heads", "d_head"), "all_reduce": ("n_devices", "n_bytes"),
         "hbm": ("n_bytes",)}  # fmt: skip
BYTES = {"bf16": 2.0, "fp8": 1.0}


@dataclass(frozen=True)
class Cell:
    """The constants of one kernel in one format (or of one group size), fitted: coordinates are ln(constant / catalog)."""

    op: str
    key: str
    start: Mapping[str, float]
    posterior: fit.Posterior
    before: np.ndarray
    after: np.ndarray
    held_out: np.ndarray

    @property
    def values(self) -> dict[str, float]:
        return {name: value * float(np.exp(x)) for (name, value), x in zip(self.start.items(), self.posterior.x, strict=True)}

    @property
    def residual(self) -> float:
        return float(np.median(np.abs(self.after)))


@dataclass(frozen=True)
class KernelCalibration:
    path: Path
    chip: str
    engine: str
    cells: tuple[Cell, ...]
    n_rows: int
    hbm: float | None  # largest bandwidth of a copy / the catalog's
    skipped: tuple[tuple[str, str], ...]


def calibrate_kernels(path: str | Path, chip: str | None = None, engine: str | None = None, kind: str = "kernels") -> KernelCalibration:
    """Fit every kernel that the rows can tell; refuses (UserError) where none is."""
    rows = load(path, kind)
    chip = _only(path, "accelerator", [catalog.find("accelerators", row.text("accelerator")).name for row in rows],
                 catalog.find("accelerators", chip).name if chip else None)  # fmt: skip
    rows = [row for row in rows if catalog.find("accelerators", row.text("accelerator")).name == chip]
    engine = catalog.find("engines", engine or rows[0].text("engine") or "generic").name
    if engine == "ideal":
        raise UserError(
            "the ideal engine has no constants to fit: it is the bare roofline",
            hint="--engine generic, or the engine whose kernels were timed",
        )
    record, constants = catalog.load("accelerators", chip), catalog.kernel_constants(engine, chip)
    parts, skipped = _sorted(rows)
    cells = []
    for (op, key), members in parts.items():
        if op in FITTED:
            found = _fit(op, key, members, record, constants)
            cells += [found] if isinstance(found, Cell) else []
            skipped += [] if isinstance(found, Cell) else [(row.id, found) for row in members]
    if not any(cell.posterior.free.any() for cell in cells):
        raise UserError(
            f"{path}: {len(rows)} rows of {chip} move no constant, so there is nothing to write", hint=_why_nothing(cells, skipped)
        )
    return KernelCalibration(Path(path), chip, engine, tuple(cells), len(rows), _hbm(parts, record), tuple(skipped))


def _why_nothing(cells: Sequence[Cell], skipped: Sequence[tuple[str, str]]) -> str:
    if cells:
        return f"what they tell agrees with the catalog; median error {np.median(np.abs(np.concatenate([c.before for c in cells]))):.1%}"
    return "; ".join(sorted({why for _, why in skipped})) or "rows of kernel gemm, attention_decode or all_reduce are fitted"


def _only(path: str | Path, what: str, names: Sequence[str], asked: str | None) -> str:
    there = sorted(set(names))
    if asked is None and len(there) > 1:
        raise UserError(f"{path} has rows of several chips: {', '.join(there)}", hint="say which one with --chip; the file describes one")
    if asked is not None and asked not in there:
        raise UserError(f"{path} has no row of chip '{asked}'", hint=did_you_mean(asked, there, f"{what}s in the file"))
    return asked or there[0]


def _sorted(rows: Sequence[Row]) -> tuple[dict[tuple[str, str], list[Row]], list[tuple[str, str]]]:
    """Rows by (kernel, format or group size), and what cannot be used."""
    parts: dict[tuple[str, str], list[Row]] = {}
    skipped = []
    for row in rows:
        op, dtype = row.text("kernel"), row.text("dtype")
        missing = [column for column in SIZES.get(op, ()) if row[column] is None]
        if op not in SIZES:
            skipped.append((row.id, f"kernel '{op}' is not one of {', '.join(SIZES)}"))
        elif dtype not in BYTES:
            skipped.append((row.id, f"dtype '{dtype}' is not one of {', '.join(BYTES)}"))
        elif missing:
            skipped.append((row.id, f"{op} needs {', '.join(missing)}"))
        else:
            parts.setdefault((op, str(row["n_devices"]) if op == "all_reduce" else dtype), []).append(row)
    return parts, skipped


def _fit(op: str, key: str, rows: Sequence[Row], record: Mapping[str, Any], constants: Mapping[str, Any]) -> Cell | str:
    """The cell, or why there is none."""
    if len(rows) < LEAST_ROWS:
        return f"{op} {key}: {len(rows)} rows, a fit needs {LEAST_ROWS} or more"
    if op == "gemm" and key not in record["peak"]:
        return f"{record['name']} has no {key} arithmetic in the catalog"
    table = constants[op].get(int(key)) if op == "all_reduce" else constants[op][key]
    if table is None:
        return f"the catalog has no all-reduce of {key} devices to start from"
    start = {name: value for name, value in table.items() if name != "residual" and value > 0 and (op == "gemm" or name != "compute")}
    seconds, measured = _model(op, rows, record), np.log([row["time_us"] * 1e-6 for row in rows])

    def errors(x: np.ndarray) -> np.ndarray:
        return np.log(seconds({name: value * np.exp(shift) for (name, value), shift in zip(start.items(), x, strict=True)})) - measured

    high = np.array([np.log(CAPS[name] / value) if name in CAPS else np.log(20.0) for name, value in start.items()])
    prior = fit.Prior(np.full(len(start), PRIOR_SD), np.full(len(start), -np.log(20.0)), np.maximum(high, 1e-6))
    found = fit.solve(errors, np.ones(len(rows)), prior)
    groups = [str(i) for i in range(len(rows))]
    held_out = np.zeros(len(rows))
    for i in range(fit.N_FOLDS):
        fold = np.arange(len(rows)) % fit.N_FOLDS == i
        if fold.any() and not fold.all():
            held_out[fold] = errors(fit.refit(errors, found, ~fold, groups, prior))[fold]
    return Cell(op, key, start, found, errors(np.zeros(len(start))), errors(found.x), held_out)


def _model(op: str, rows: Sequence[Row], record: Mapping[str, Any]) -> Callable[[Mapping[str, float]], np.ndarray]:
    """Seconds of every row (N,) at given constants; the equations of the module's head."""
    size = {name: np.array([row[name] for row in rows], dtype=float) for name in SIZES[op]}
    width = np.array([BYTES[row.text("dtype")] for row in rows])
    bandwidth = record["hbm"]["bandwidth"]
    if op == "gemm":
        peak = np.array([record["peak"][row.text("dtype")] for row in rows])
        m, n, k = size["m"], size["n"], size["k"]
        flop, moved = 2.0 * m * n * k, n * k * width + 2.0 * m * (n + k)
        return lambda c: c["t0"] + np.maximum(flop / (c["compute"] * peak), moved / (c["memory"] * bandwidth))
    if op == "attention_decode":
        moved = 2.0 * size["batch"] * size["n_kv_heads"] * size["d_head"] * size["context_tok"] * width
        return lambda c: c["t0"] + moved / (c["memory"] * bandwidth)
    n, b, link = size["n_devices"], size["n_bytes"], record["scale_up"]["bandwidth"]
    return lambda c: np.minimum(
        c["one_shot_t0"] + (n - 1.0) * b / (c["one_shot"] * link), c["two_shot_t0"] + 2.0 * (n - 1.0) / n * b / (c["two_shot"] * link)
    )


def _hbm(parts: Mapping[tuple[str, str], Sequence[Row]], record: Mapping[str, Any]) -> float | None:
    rates = [row["n_bytes"] / (row["time_us"] * 1e-6) for (op, _), rows in parts.items() if op == "hbm" for row in rows]
    return max(rates) / record["hbm"]["bandwidth"] if rates else None
