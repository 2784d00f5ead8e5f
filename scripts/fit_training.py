"""Fit of the training constants in catalog/engines/{generic,megatron,fsdp}.yaml to the published training runs.

    python scripts/fit_training.py [--left-out]

Least squares (soft-L1) on ln(predicted / measured) of the token rate; every group (source x model x chip x precision) counts once, rows of
unstated recomputation count half.  Priors are lognormal, from kernel tables and papers (notes in the YAML).  Prints value, prior and error,
copy what moved into the `training` blocks.  `--left-out` refits with each source, publication and chip left out and writes the errors on
what was left out to codesign/evidence/data/training_held_out.json, which `codesign validate` prints.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import codesign
from codesign.evidence import rows, training
from codesign.evidence.case import Skip
from codesign.physics.hardware import ByBits
from codesign.physics.layout import Layout, make_layout
from codesign.physics.operators import make_scene
from codesign.physics.phases import train
from codesign.physics.precision import Precision
from codesign.point import NETWORK, SHARES, TRAIN_BITS, _chip, _model

HELD_OUT = Path(codesign.__file__).parent / "evidence" / "data" / "training_held_out.json"
SCALE = 0.1  # residual at which soft-L1 turns linear
CHIPS = ("a100", "h100", "b200", "gb200", "tpu_v4", "tpu_v5e", "tpu_v6e")
# name: (prior, sd of its logarithm)
PRIORS = {
    "sustained": (0.9, 0.1), "sustained_narrow": (0.95, 0.08), "attention": (0.9, 0.2), "attention_backward": (0.75, 0.2),
    "attention_s0": (200.0, 0.7), "attention_half": (28.0, 0.2), "experts_16": (0.75, 0.2), "experts_8": (0.55, 0.2), "expert_m0": (64.0, 0.3),
    "traffic": (1.0, 0.4), "network": (1.0, 0.15), "sync": (250e-6, 0.3), "host": (0.65e-3, 0.25), "host_moe": (2.5e-3, 0.3), "ep_hidden": (0.5, 0.3), "step": (10e-3, 1.0),
    "fsdp attention on Hopper": (0.75, 0.25), "megatron traffic": (0.8, 0.25), "megatron tp_overlap": (0.7, 0.15), "google traffic": (0.9, 0.2),
    **{f"sustained {chip}": (1.0, 0.08) for chip in CHIPS},
}  # fmt: skip
NAMES = tuple(PRIORS)
CENTRE, WIDTH = np.log([p for p, _ in PRIORS.values()]), np.array([s for _, s in PRIORS.values()])


def merged(records):
    """Structure of arrays from scalar structures."""
    head = records[0]
    columns = {}
    for field in dataclasses.fields(head):
        values = [getattr(r, field.name) for r in records]
        columns[field.name] = merged(values) if dataclasses.is_dataclass(values[0]) else np.array([np.asarray(v).item() for v in values])
    return replace(head, **columns)


class Runs:
    """All scenarios of all rows as arrays; of a row's options the fastest that fits is scored, as `codesign validate` does."""

    def __init__(self) -> None:
        self.cases = []
        for row in rows.load(None, "training"):
            try:
                self.cases.append(training.case(row))
            except Skip as reason:
                print(row.id, reason, file=sys.stderr)
        options = [(i, o) for i, case in enumerate(self.cases) for o in case.options]
        self.row = np.array([i for i, _ in options])
        models, chips = {}, {}
        for _, o in options:
            models.setdefault(repr(o["model"]), _model(o["model"])[0])
            chips.setdefault(self._hardware(o), _chip(*self._hardware(o)))
        self.census, self.chip = (
            merged([models[repr(o["model"])] for _, o in options]),
            merged([chips[self._hardware(o)] for _, o in options]),
        )
        degrees = np.array([[o.get(f"n_{k}", 1) for k in ("tp", "cp", "dp", "pp", "etp", "ep")] for _, o in options], dtype=float).T
        self.layout = Layout(*(np.asarray(v, dtype=float) for v in vars(make_layout(*degrees)).values()))
        keys = ("seq_len", "micro_batch", "global_batch", "recompute", "zero", "n_interleave")
        jobs = [[train.RECOMPUTE.index(o[k]) if k == "recompute" else o[k] for k in keys] for _, o in options]
        self.job = train.Job(*np.array(jobs, dtype=float).T)
        self.bits = np.array([TRAIN_BITS[o["train_precision"]] for _, o in options], dtype=float)
        self.family = np.array([self._family(case.chip) for case in self.cases])[self.row]
        self.stack = np.array([case.engine for case in self.cases])[self.row]
        self.measured = np.array([self._rate(case) for case in self.cases])
        self.is_moe = np.array([case.is_moe for case in self.cases])
        self.group = np.unique([case.group for case in self.cases], return_inverse=True)[1]
        self.unstated = np.array(["recompute" in case.assumed for case in self.cases])
        scene = self._scene(self.chip)
        self.used = sum(train.memory_classes(scene, self.layout, self.job).values()) + 0.0 * self.bits
        self.fits = self.used <= scene.chip.hbm_bytes * scene.chip.usable_frac
        self.base = {name: self._shipped(name) for name in ("sustained", "sustained_narrow")}

    @staticmethod
    def _hardware(o):
        same = (None, None, o["scale_out_bandwidth"], *(o.get(k) for k in (*NETWORK, *SHARES)))
        return (o.get("system") or o.get("accelerator"), o["engine"], *same)

    @staticmethod
    def _family(chip: str) -> str:
        return next(c for c in sorted(CHIPS, key=len, reverse=True) if chip.startswith(c))

    @staticmethod
    def _rate(case) -> float:
        (metric, value), o = next(iter(case.measured.items())), case.options[0]
        devices = np.prod([o.get(f"n_{k}", 1) for k in ("tp", "cp", "dp", "pp")])
        return value if metric == "tokens_per_s_per_gpu" else o["global_batch"] * o["seq_len"] / value / devices

    def _shipped(self, name: str):
        """Derates in the catalog now, divided out before new ones are applied."""
        from codesign import catalog

        values = {}
        for hardware, engine, *_ in {self._hardware(o) for case in self.cases for o in case.options}:
            values[hardware, engine] = catalog.kernel_constants(engine, catalog.hardware(hardware))["stack"][name]
        return np.array([values[self._hardware(o)[:2]] for case in self.cases for o in case.options])

    def _scene(self, chip):
        return make_scene(self.census, chip, Precision(self.bits, np.full(self.bits.size, 16.0), self.bits), training=True)

    def trained(self, x):
        """Chips with the constants exp(x)."""
        p, fit = dict(zip(NAMES, np.exp(x), strict=True)), self.chip.training
        own = p["sustained"] * np.select([self.family == c for c in CHIPS], [p[f"sustained {c}"] for c in CHIPS])
        wide = own / self.base["sustained"]
        narrow = wide * p["sustained_narrow"] / self.base["sustained_narrow"]
        google, megatron = np.char.startswith(self.family, "tpu"), self.stack == "megatron"
        eager = (self.stack == "fsdp") & (self.family == "h100")
        at_16 = np.where(eager, 0.63 * p["fsdp attention on Hopper"], fit.attention / ATTENTION)
        return replace(self.chip, training=replace(
            fit,
            compute=ByBits(fit.compute.at_16 * wide, fit.compute.at_8 * narrow, fit.compute.at_4 * narrow),
            attention=at_16 * p["attention"], attention_backward=p["attention_backward"], attention_s0_tok=p["attention_s0"],
            attention_half=p["attention_half"], experts=ByBits(p["experts_16"], p["experts_8"], p["experts_8"]), expert_m0_tok=p["expert_m0"],
            traffic=p["traffic"] * np.where(megatron, p["megatron traffic"], np.where(google, p["google traffic"], 1.0)),
            network=p["network"], tp_overlap=np.where(megatron & (self.chip.dp_overlap > 0), min(p["megatron tp_overlap"], 1.0), 0.0),
            sync_s=p["sync"] * ~google, host_s=p["host"] * ~google, host_moe_s=p["host_moe"] * ~google, ep_hidden=min(p["ep_hidden"], 1.0), step_s=p["step"],
        ))  # fmt: skip

    def errors(self, x):
        """ln(predicted / measured) per row."""
        step_s = train.step(self._scene(self.trained(x)), self.layout, self.job).step_s
        order = np.lexsort((np.where(self.fits, step_s, self.used), ~self.fits, self.row))
        best = order[np.unique(self.row[order], return_index=True)[1]]
        rate = self.job.global_batch * self.job.seq_tok / step_s / self.layout.n_devices
        return np.log(rate[best] / self.measured)

    def fit(self, rows=None, start=CENTRE):
        rows = np.ones(len(self.cases), dtype=bool) if rows is None else rows
        weight = np.where(self.unstated, 0.7, 1.0)[rows] / np.sqrt(np.bincount(self.group[rows])[self.group[rows]])

        def residuals(x):
            e = self.errors(x)[rows] / SCALE
            return np.concatenate([np.sign(e) * np.sqrt(2.0 * np.sqrt(1.0 + e**2) - 2.0) * weight, (x - CENTRE) / WIDTH])

        return least_squares(residuals, start, diff_step=1e-3, max_nfev=25).x

    def median(self, errors, rows) -> float:
        return float(np.median([np.median(np.abs(errors[rows & (self.group == g)])) for g in np.unique(self.group[rows])]))


ATTENTION = 0.883  # `training.attention` in the catalog now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left-out", action="store_true")
    args = parser.parse_args()
    runs = Runs()
    x = runs.fit()
    for name, value in zip(NAMES, np.exp(x), strict=True):
        print(f"{name:28s} {value:10.4g}   prior {PRIORS[name][0]:.4g} x/ {np.exp(PRIORS[name][1]):.2f}")

    def show(title, errors):
        print(f"{title:34s} dense {runs.median(errors, ~runs.is_moe):.3f}   MoE {runs.median(errors, runs.is_moe):.3f}")

    show("median error over groups: fitted", runs.errors(x))
    if not args.left_out:
        return
    splits = {"source": lambda c: c.source, "publication": lambda c: c.publication, "chip": lambda c: runs._family(c.chip)}
    held_out = []
    for title, of in splits.items():
        key, errors = np.array([of(case) for case in runs.cases]), np.zeros(len(runs.cases))
        for value in np.unique(key):
            errors[key == value] = runs.errors(runs.fit(key != value, x))[key == value]
        show(f"each {title} left out", errors)
        medians = {"dense": runs.median(errors, ~runs.is_moe), "moe": runs.median(errors, runs.is_moe)}
        held_out.append({"left_out": title, "n": np.unique(key).size} | {k: round(v, 4) for k, v in medians.items()})
        if title == "publication":
            unseen = {case.row.id: round(float(e), 4) for case, e in zip(runs.cases, errors, strict=True)}
    HELD_OUT.write_text(json.dumps({"splits": held_out, "errors_publication_left_out": unseen}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
