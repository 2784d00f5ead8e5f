"""A calibration of kernels as text, as JSON, and as the engine file that `--engine` and studies name."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from codesign import catalog
from codesign.evidence.calibration_text import checked_target, digest, error_of, tree_lines
from codesign.evidence.kernel_calibration import Cell, KernelCalibration, calibrate_kernels
from codesign.spec.units import show

KIND = "kernels"
HBM_RANGE = (0.6, 1.02)  # of the catalog's bandwidth: a copy outside says that chip or measurement are not what they seem


def run(data: str, kind: str, output: str, chip: str | None, engine: str | None) -> KernelCalibration:
    """Calibrate and write the engine file."""
    target = checked_target(output)
    found = calibrate_kernels(data, chip, engine, kind)
    target.write_text(file_text(found, target), encoding="utf-8")
    catalog.load("engines", target)  # what was written must be what the tool reads
    return found


def summary(c: KernelCalibration, output: str) -> dict[str, Any]:
    """Everything `calibrate --kind kernels --json` prints; SI units."""
    return {
        "file": output, "data": str(c.path), "sha256": digest(c.path), "kind": "kernels", "chip": c.chip, "engine": c.engine, "n_rows": c.n_rows,
        "cells": [_cell(cell) for cell in c.cells], "hbm_of_catalog": c.hbm, "warnings": warnings(c),
        "skipped": [{"id": name, "reason": reason} for name, reason in c.skipped], "next": next_command(c, output),
    }  # fmt: skip


def _cell(cell: Cell) -> dict[str, Any]:
    sd = cell.posterior.sd * np.array(list(cell.values.values()))
    return {
        "kernel": cell.op, "key": cell.key, "n_rows": len(cell.before),
        "constants": [{"name": name, "before": cell.start[name], "after": value, "sd": float(s), "moved": bool(free), "told": bool(told)}
                      for (name, value), s, free, told in zip(cell.values.items(), sd, cell.posterior.free, cell.posterior.told, strict=True)],
        "before": error_of(cell.before), "after": error_of(cell.after), "cross_validated": error_of(cell.held_out),
    }  # fmt: skip


def warnings(c: KernelCalibration) -> list[str]:
    found = []
    if c.hbm is not None and not HBM_RANGE[0] <= c.hbm <= HBM_RANGE[1]:
        found.append(
            f"a copy reaches {c.hbm:.2f} of the catalog's HBM bandwidth of {c.chip}: is it that chip, and was nothing else running?"
        )
    for cell in c.cells:
        if error_of(cell.held_out)["median_abs_err"] > error_of(cell.before)["median_abs_err"]:
            found.append(f"{cell.op} {cell.key}: left-out rows are predicted no better than by the catalog")
    return found


def screen(c: KernelCalibration, output: str) -> str:
    """The answer for a terminal."""
    lines = [f"{c.engine} on {c.chip}: {c.n_rows} rows", ""]
    lines += [f"{'kernel':<24}{'rows':>5}  {'error before':>13}{'after':>8}{'left out':>10}   constants"]
    for cell in c.cells:
        errors = [error_of(e)["median_abs_err"] for e in (cell.before, cell.after, cell.held_out)]
        lines.append(
            f"{cell.op + ' ' + cell.key:<24}{len(cell.before):>5}  {errors[0]:>13.1%}{errors[1]:>8.1%}{errors[2]:>10.1%}   {_constants(cell)}"
        )
    if c.hbm is not None:
        lines += ["", f"copy: {c.hbm:.2f} of the catalog's HBM bandwidth"]
    lines += [f"skipped  {name}: {why}" for name, why in c.skipped]
    lines += [f"warning  {text}" for text in warnings(c)]
    return "\n".join([*lines, "", f"next  {next_command(c, output)}"])


def _constants(cell: Cell) -> str:
    parts = []
    for (name, value), free, told in zip(cell.values.items(), cell.posterior.free, cell.posterior.told, strict=True):
        change = (
            f"{_figure(name, cell.start[name])} -> {_figure(name, value)}"
            if free
            else f"{_figure(name, value)} ({'agrees' if told else 'not told'})"
        )
        parts.append(f"{name} {change}")
    return ", ".join(parts)


def _figure(name: str, value: float) -> str:
    return show(value, "s") if name.endswith("t0") else f"{value:.3g}"


def next_command(c: KernelCalibration, output: str) -> str:
    return f"codesign evaluate --engine {output} --accelerator {c.chip} --model llama-3.1-8b --batch 32 --phase prefill,decode"


def file_text(c: KernelCalibration, target: Path) -> str:
    """The engine file: the fitted constants of every kernel, with their residual; everything else is the base's."""
    tree: dict[str, Any] = {}
    for cell in c.cells:
        if cell.posterior.free.any():
            tree.setdefault(cell.op, {})[cell.key] = {name: _written(name, value) for name, value in cell.values.items()} | {
                "residual": cell.residual
            }
    if "all_reduce" in tree:  # the loader takes all group sizes from one table
        for n, row in catalog.kernel_constants(c.engine, c.chip)["all_reduce"].items():
            tree["all_reduce"].setdefault(str(n), {name: _written(name, value) for name, value in row.items()})
    head = [
        f"# {c.engine} on {c.chip}, kernels timed in {c.path.name}, fitted by `codesign calibrate --kind kernels`.  What is not here is {c.engine}'s.",
        f"name: {target.stem}",
        f'title: "{c.engine} on {c.chip}, own kernels"',
        f"base: {c.engine}",
        f'source: "{c.path.name} (sha256 {digest(c.path)}), {c.n_rows} rows; codesign calibrate --kind kernels"',
        f"date: {date.today().isoformat()}",
        "confidence: measured",
        "",
    ]
    return "\n".join([*head, *tree_lines({"kernels": {c.chip: tree}}, (), {})]) + "\n"


def _written(name: str, value: float) -> float | str:
    return f"{value * 1e6:.6f} us" if name.endswith("t0") else value
