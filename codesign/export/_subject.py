"""One archived point, and everything that its exports read: its design rebuilt, its chips, its layouts, its explanation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from codesign import catalog, uncertainty
from codesign import evaluate as pipeline
from codesign.explain import explain_point
from codesign.intervals import intervals_of
from codesign.physics.hardware import Chip
from codesign.physics.layout import DEGREES, PLAIN, Layout, layout_of_row
from codesign.physics.operators import Scene, make_scene
from codesign.physics.phases.train import Job
from codesign.physics.precision import Precision
from codesign.results import Run
from codesign.setting import Setting
from codesign.spec.errors import UserError
from codesign.study import Study
from codesign.units.training import MORE

Z_80 = 1.2816  # standard normal quantile of 90 %: both sides together an 80 % interval
HINT = "open the study.yaml of the run"


@dataclass(frozen=True)
class Subject:
    """A point of a run with its study.  `values`: every dotted variable of the design, base values included."""

    study: Study
    run: Run
    point: dict[str, Any]
    values: dict[str, Any]
    designs: pipeline.Designs

    @property
    def setting(self) -> Setting:
        return self.study.setting

    @cached_property
    def explained(self) -> dict[str, Any]:
        """Operators, bounds, memory and notes, as `codesign show` has them."""
        return explain_point(self.study.problem, self.point)

    @cached_property
    def shape(self) -> dict[str, Any]:
        """Filled architecture as plain numbers; whole ones are int.  A module of multi-token prediction that nothing drafts with is left out."""
        filled = {key: plain(value) for key, value in self.designs.shape.items()}
        return filled | ({"n_mtp_layers": 0} if self.n_mtp_left_out else {})

    @property
    def n_mtp_left_out(self) -> int:
        """Modules of multi-token prediction that the base model has and this design does not serve with: the study drafts no tokens."""
        return 0 if self.setting.traffic.q_tok > 1.0 else int(plain(self.designs.shape["n_mtp_layers"]))

    @cached_property
    def census(self):
        return _first(self.designs.census)

    def number(self, column: str) -> float:
        return float(self.point[column])

    def count(self, column: str) -> int:
        """A column that must hold a whole number."""
        value = self.number(column)
        if value % 1:
            where = f"{self.run.path}: {column} of point {self.point['id']}"
            raise UserError(f"{where} is {value}, not a whole number", hint="run the study again")
        return int(value)

    def degrees(self, unit: str) -> dict[str, int]:
        return {name: self.count(f"{unit}.{name}") for name in (*DEGREES, *PLAIN) if name in DEGREES or f"{unit}.{name}" in self.point}

    def layout(self, unit: str) -> Layout:
        return layout_of_row(self.degrees(unit).get)

    def chip(self, role: str) -> Chip:
        return _first(self.designs.chips[role])

    def hardware(self, role: str) -> dict[str, Any]:
        """Catalog record of the hardware that the design uses in a role."""
        return catalog.hardware(str(plain(self.values[f"hardware.{role}"])))

    def within(self, role: str, phase: str, predicted: float) -> tuple[float, float]:
        """80 % interval of a predicted time of a pool: train, prefill or decode on the design's chip."""
        file = self.study.file
        own = file.lifecycle.train_engine if role == "train" else file.serving.engine or file.engine
        engine = file.engine if file.engine == "ideal" else own or "generic"
        chips = uncertainty.chip_class(str(plain(self.values[f"hardware.{role}"])), engine)
        kind, is_moe = "training" if role == "train" else "inference", self.shape["n_experts"] > 0
        low, high = uncertainty.interval(kind, phase, chips, is_moe, predicted)
        return float(low), float(high)

    @cached_property
    def _doubt(self) -> dict[str, dict[str, float]]:
        return intervals_of(self.study, self.run, [int(self.point["id"])]).record(0)

    def interval(self, column: str) -> tuple[float, float]:
        """80 % interval of a column as `codesign show` has it: tokens that follow from a budget, a balance or a target are solved again."""
        found = self._doubt[column]
        low, high = (found["value"] * np.exp(sign * Z_80 * np.hypot(found["sigma_shared"], found["sigma_own"])) for sign in (-1.0, 1.0))
        return float(low), float(high)

    @property
    def solves_tokens(self) -> bool:
        """Whether the study's rule sets the pretraining tokens."""
        return self.setting.life.pretrain_rule != "fixed" and "lifecycle.pretrain_tok" not in self.values

    @property
    def train_bits(self) -> float:
        return float(plain(self.values.get("precision.train_bits", self.setting.life.train_bits)))

    @cached_property
    def train_scene(self) -> Scene:
        bits = np.float64(self.train_bits)
        return make_scene(self.census, self.chip("train"), Precision(bits, np.float64(16.0), bits), training=True)

    @cached_property
    def job(self) -> Job:
        seq_tok = self.setting.life.seq_tok
        batch = round(self.number("global_batch_tok") / seq_tok)
        fixed = (self.number(f"train.{name}") for name in ("recompute", "zero"))
        more = {k: np.float64(self.number(f"train.{k}")) for k in MORE if f"train.{k}" in self.point}
        return Job(np.float64(seq_tok), np.float64(self.number("train.micro_batch")), np.float64(batch), *map(np.float64, fixed), **more)


def subject(study: Study, run: Run, point_id: int) -> Subject:
    """The point with its design rebuilt; a UserError when the run has no such point or belongs to another study."""
    point = run.point(point_id)
    space = study.problem.space
    if run.variables != [v.name for v in space.variables]:
        raise UserError(f"{run.path} is not a run of study '{study.name}': they vary different things", hint=HINT)
    index = space.canonical(np.array([[_position(run, point, v) for v in space.variables]], dtype=int).reshape(1, -1))
    values = space.values(index)
    codes = {name: np.zeros(1, dtype=int) for name in values}
    designs = pipeline.describe(study.setting, values, codes)
    return Subject(study, run, point, dict(study.setting.base) | values, designs)


def _position(run: Run, point: dict[str, Any], variable) -> int:
    """Position of the point's value among the variable's choices; an empty cell is the canonical one."""
    value = point.get(variable.name)
    if value is None or value == "" or value != value:
        return variable.canonical
    for position, choice in enumerate(variable.choices):
        if choice == value:
            return position
    raise UserError(f"{run.path}: {variable.name} = {value} is not a choice of the study any more", hint=HINT)


def _first(structure):
    return structure.take(np.zeros(1, dtype=int)).compact()


def plain(value: Any) -> Any:
    """A one-element array or scalar as int, float, bool or str; not-a-number and infinity are None."""
    if isinstance(value, str | bool) or value is None:
        return value
    item = np.ravel(value)[0].item()
    if isinstance(item, float):
        return None if not np.isfinite(item) else int(item) if item.is_integer() and abs(item) < 2**53 else item
    return item
