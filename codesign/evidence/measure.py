"""`codesign measure`: what to time on the machine at hand, and the CSV that `codesign calibrate --kind kernels` eats.

Shapes are chosen so that the three constants of a kernel, t = t0 + max(FLOP / (eP peak), bytes / (eB bandwidth)), can be told apart: tiny
ones show t0, many rows the arithmetic, few rows the memory.  How a kernel is run and timed is the machine's business (`torch_machine.py`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

from codesign import catalog
from codesign.spec.errors import UserError

KERNELS = ("gemm", "hbm", "attention_decode", "all_reduce")
DTYPES = ("bf16", "fp8")
REPEATS = 5
COLUMNS = ("id", "source", "accelerator", "engine", "kernel", "dtype", "m", "n", "k", "batch", "context_tok", "n_heads", "n_kv_heads", "d_head",
           "n_bytes", "n_devices", "time_us", "spread", "notes")  # fmt: skip
ENGINE = "generic"  # plain library kernels belong to no serving engine


@dataclass(frozen=True)
class Probe:
    """One kernel to time; what does not apply is None."""

    kernel: str
    dtype: str
    m: int | None = None
    n: int | None = None
    k: int | None = None
    batch: int | None = None
    context_tok: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    d_head: int | None = None
    n_bytes: int | None = None
    n_devices: int | None = None

    @property
    def id(self) -> str:
        sizes = [f"{key}{value}" for key, value in asdict(self).items() if isinstance(value, int)]
        return "-".join([self.kernel, self.dtype, *sizes])


class Unsupported(Exception):
    """The machine cannot run this probe; the text says why."""


class Machine(Protocol):
    """What is measured: a device with a name, how many of them, and seconds of one run of a probe."""

    name: str
    n_devices: int
    software: str

    def seconds(self, probe: Probe) -> float: ...


def plan(n_devices: int, kernels: Sequence[str] = KERNELS, quick: bool = False) -> list[Probe]:
    """Probes of the asked kernels, small first; `quick` takes every other size."""
    step = 2 if quick else 1
    found: list[Probe] = []
    if "gemm" in kernels:
        rows, sides = (
            (1, 16, 64, 256, 1024, 4096, 16384)[::step],
            ((1024, 1024), (4096, 4096), (8192, 8192), (4096, 14336), (14336, 4096))[::step],
        )
        found += [Probe("gemm", dtype, m=m, n=n, k=k) for dtype in DTYPES for n, k in sides for m in rows]
    if "hbm" in kernels:
        found += [Probe("hbm", "bf16", n_bytes=1 << p) for p in range(20, 33, 2 * step)]
    if "attention_decode" in kernels:
        shapes = [(batch, context) for batch in (1, 8, 32, 128)[::step] for context in (512, 4096, 32768) if batch * context <= 1 << 21]
        found += [Probe("attention_decode", "bf16", batch=b, context_tok=s, n_heads=32, n_kv_heads=8, d_head=128) for b, s in shapes]
    if "all_reduce" in kernels:
        sizes = [n for n in (2, 4, 8, 16) if n <= n_devices]
        found += [Probe("all_reduce", "bf16", n_devices=n, n_bytes=1 << p) for n in sizes for p in range(14, 29, 2 * step)]
    return found


def measure(machine: Machine, probes: Sequence[Probe], accelerator: str, source: str, echo: Callable[[str], None] = lambda text: None):
    """(rows of the CSV, [(id, why not)]): median of REPEATS runs, spread = (slowest - fastest) / median."""
    rows, skipped = [], []
    for i, probe in enumerate(probes, 1):
        try:
            times = [machine.seconds(probe) for _ in range(REPEATS)]
        except Unsupported as reason:
            skipped.append((probe.id, str(reason)))
            continue
        middle = median(times)
        echo(f"{i:>4} of {len(probes)}  {probe.id:<60}{middle * 1e6:>12.1f} us")
        rows.append({"id": probe.id, "source": source, "accelerator": accelerator, "engine": ENGINE, "notes": machine.software,
                     "time_us": f"{middle * 1e6:.3f}", "spread": f"{max((max(times) - min(times)) / middle, 1e-6):.4g}"}
                    | {key: value for key, value in asdict(probe).items() if value is not None})  # fmt: skip
    return rows, skipped


def csv_text(rows: Sequence[dict]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def recognise(device_name: str) -> str | None:
    """Catalog name of a device such as 'NVIDIA A100-SXM4-80GB': every part of the name but `sxm` stands in it, and no other name says more."""
    words = device_name.lower().replace("-", " ").replace("_", " ").split()
    found: dict[str, int] = {}
    for name in catalog.names("accelerators"):
        bare, *rest = name.split("_")
        parts = [part for part in rest if part != "sxm"]
        if bare in words and all(any(word.startswith(part) for word in words) for part in parts):
            found[name] = len(parts)
    best = [name for name, n in found.items() if n == max(found.values())]
    return best[0] if len(best) == 1 else None


def chosen(text: str) -> tuple[str, ...]:
    """Kernels of a comma-separated list; every unknown one at once."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if wrong := [name for name in names if name not in KERNELS]:
        raise UserError(f"unknown kernels: {', '.join(wrong)}", hint=f"any of {', '.join(KERNELS)}, separated by commas")
    return names or KERNELS


def report(output: str, rows: Sequence[dict], skipped: Sequence[tuple[str, str]]) -> str:
    """What could not be timed and why, what was written, and the next command."""
    left_out = [f"skipped  {name}: {why}" for name, why in skipped]
    return "\n".join(
        [*left_out, f"{output} written: {len(rows)} kernels", f"next  codesign calibrate {output} --kind kernels -o my-engine.yaml"]
    )


def run(
    output: str, accelerator: str | None, kernels: Sequence[str], quick: bool, echo: Callable[[str], None], machine: Machine | None = None
) -> str:
    """Measure this machine and write the CSV; what to say of it.  An unusable file name or chip is refused before the work starts."""
    target = Path(output)
    if target.suffix != ".csv":
        raise UserError(f"'{output}' must end in .csv: it is a table of measurements", hint=f"-o {target.with_suffix('.csv')}")
    if not target.parent.is_dir():
        raise UserError(f"no folder '{target.parent}'", hint="make it first, or write the file elsewhere")
    chip = catalog.find("accelerators", accelerator).name if accelerator else None
    if machine is None:
        from codesign.evidence.torch_machine import open_machine

        machine = open_machine()
    chip = chip or recognise(machine.name)
    if chip is None:
        raise UserError(
            f"the device '{machine.name}' is not one accelerator of the catalog",
            hint="name it: --accelerator NAME; `codesign list accelerators`",
        )
    rows, skipped = measure(machine, plan(machine.n_devices, kernels, quick), chip, f"codesign measure on {machine.name}", echo)
    if not rows:
        raise UserError(
            f"{machine.name} could run none of the kernels",
            hint="; ".join(sorted({why for _, why in skipped})) or "ask for others: --kernels",
        )
    beside = target.with_name(target.name + ".part")
    beside.write_text(csv_text(rows), encoding="utf-8")
    beside.replace(target)
    return report(output, rows, skipped)
