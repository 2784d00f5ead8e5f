"""A study as a search problem: rows of choice positions in, evaluated designs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from codesign import optimism
from codesign.cheapest import Cheapest
from codesign.evaluate import constraint_names, evaluate, fitting
from codesign.physics.layout import PLAIN
from codesign.results import Batch
from codesign.setting import Setting
from codesign.spec.space import Space, Variable
from codesign.units.candidates import Grid

TIER = "slo.tpot"
LAYOUT_PARTS = (("tp", "n_tp"), ("cp", "n_cp"), ("pp", "n_pp"), ("dp", "n_dp"), ("etp", "n_etp"), ("ep", "n_ep"))


@dataclass(frozen=True)
class Objective:
    """One axis of the front."""

    name: str
    direction: str


@dataclass(frozen=True)
class StudyProblem:
    """What the search room works on.

    `sampled`: the variables include the speed tier, so that each trial has one honest objective vector; `flat`: they include
    the layout of every unit too.
    """

    space: Space
    setting: Setting
    sampled: bool = False
    flat: bool = False

    @cached_property
    def extra(self) -> tuple[Variable, ...]:
        """Variables beside the design's: speed tier, then layouts."""
        tiers = self.setting.tiers_s if self.sampled else ()
        extra = [_variable(TIER, tiers, ordered=True)] if tiers else []
        for unit, grid in self.layout_grids.items() if self.flat else ():
            extra.append(_variable(f"{unit}.layout", tuple(layout_names(grid)), ordered=True))  # neighbours in the grid are alike
            extra.append(_variable(f"{unit}.{'n_devices' if unit == 'train' else 'batch'}", tuple(grid.leading.tolist()), ordered=True))
        return tuple(extra)

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        return (*self.space.variables, *self.extra)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Unit whose layout each variable describes, "" for the design's own; () where layouts are no variables."""
        units = {f"{unit}.{end}": unit for unit in self.layout_grids for end in ("layout", "batch", "n_devices")}
        own = ("",) * len(self.space.variables)
        return (*own, *(units.get(v.name, "") for v in self.extra)) if self.flat else ()

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(Objective(g.column, "maximize" if g.maximize else "minimize") for g in self.setting.goals)

    @cached_property
    def constraint_names(self) -> tuple[str, ...]:
        return constraint_names(self.setting)

    @property
    def layout_grids(self) -> dict[str, Grid]:
        """Grids of the units whose layouts a design is tried with."""
        return {unit: self.setting.grids[unit] for unit in self.setting.units}

    @cached_property
    def rows_per_design(self) -> int:
        """Candidate layouts of one design, all units, before feasibility."""
        return sum(grid.n_rows for grid in self.layout_grids.values())

    @cached_property
    def n_designs(self) -> int | None:
        """Distinct rows a search can propose, where they can be counted exactly: designs, times tiers and layouts if sampled."""
        count = self.space.n_valid()
        return count.n * prod(len(v.choices) for v in self.extra) if count.is_exact else None

    def canonical(self, index: np.ndarray) -> np.ndarray:
        n = len(self.space.variables)
        return np.concatenate([self.space.canonical(index[:, :n]), index[:, n:]], axis=1)

    def valid(self, index: np.ndarray) -> np.ndarray:
        return self.space.valid(index[:, : len(self.space.variables)])

    def enumerate(self, chunk: int) -> Iterator[np.ndarray]:
        return self.space.enumerate(chunk)

    def evaluate(self, index: np.ndarray) -> Batch:
        """Score canonical, valid designs (A, V)."""
        values, codes = self._decoded(index)
        n = len(self.space.variables)
        rest = {v.name: v.values[index[:, n + i]] for i, v in enumerate(self.extra)}
        return evaluate(self.setting, values, codes, self._layouts(index), rest.get(TIER), self._cheapest)

    def fitting(self, index: np.ndarray) -> np.ndarray:
        """Flat rows whose layouts fit the design by structure and memory (A,), canonical and valid ones: a fifth of what values cost."""
        return fitting(self.setting, *self._decoded(index), self._layouts(index))

    def _decoded(self, index: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Values of the variables and derived names (A,), and codes that tell them apart."""
        design = index[:, : len(self.space.variables)]
        values = self.space.values(design)
        codes = {v.name: design[:, i] for i, v in enumerate(self.space.variables)}
        codes |= {f"derived.{name}": np.unique(values[name], return_inverse=True)[1] for name in self.space.derived if name in values}
        return values, codes

    @cached_property
    def _cheapest(self) -> Cheapest:
        return Cheapest(self.setting)

    def bound(self, index: np.ndarray) -> np.ndarray:
        """What no layout of canonical, valid designs can beat (A, J, M), minimised (`optimism.bound`)."""
        return optimism.bound(self.setting, *self._decoded(index))

    @cached_property
    def unbounded(self) -> tuple[str, ...]:
        """Objectives that no bound covers; the speed tiers and layouts of a sampled search are not bounded either."""
        return optimism.unbounded(self.setting) or tuple(v.name for v in self.extra)

    def sample(self, n: int) -> np.ndarray:
        """n random designs, before `canonical` and `valid`; the same ones every time."""
        return self.space.sample(n)

    def values_of(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Variables and derived values of rows of the results table (A,); an empty cell (inactive) is the canonical choice."""
        rows, variables = list(rows), self.space.variables
        values = {v.name: np.array([native(row, v) for row in rows]) for v in variables}
        if not variables:
            return values
        index = np.array([[list(v.choices).index(value) for value in values[v.name].tolist()] for v in variables]).T
        return values | {k: v for k, v in self.space.values(index).items() if k not in values}

    def _layouts(self, index: np.ndarray) -> dict[str, Grid] | None:
        """One layout per design and unit; None where layouts are no variables."""
        if not self.flat:
            return None
        start = len(self.space.variables) + (1 if self.extra and self.extra[0].name == TIER else 0)
        out = {}
        for i, (unit, grid) in enumerate(self.layout_grids.items()):
            row, lead = index[:, start + 2 * i], index[:, start + 2 * i + 1]
            out[unit] = Grid(grid.layout.take(row), grid.leading[lead], {k: v[row] for k, v in grid.extras.items()})
        return out


def native(row: Mapping[str, Any], variable: Variable) -> Any:
    """The row's value of a variable; an empty cell (inactive) is the canonical choice."""
    value = row.get(variable.name)
    empty = value is None or (isinstance(value, float) and np.isnan(value)) or value == ""
    return variable.choices[variable.canonical] if empty else type(variable.choices[0])(value)


def layout_names(grid: Grid) -> list[str]:
    """Layout strings in the order tp-cp-pp-dp-etp-ep, ones omitted except tp: `tp1dp64ep64`."""
    layout = grid.layout
    parts = [(label, getattr(layout, key)) for label, key in LAYOUT_PARTS]
    extras = (("mb", "micro_batch"), ("rc", "recompute"), ("z", "zero"))
    names = []
    for i in range(layout.n_tp.size):
        name = "".join(f"{k}{int(v[i])}" for k, v in parts if k == "tp" or v[i] != 1)
        name += plan_text(lambda key, i=i: getattr(layout.plan, key)[i] if layout.plan else None)
        names.append(name + "".join(f"-{k}{int(grid.extras[key][i])}" for k, key in extras if key in grid.extras))
    return names


def layout_text(point: Mapping[str, Any], unit: str) -> str:
    """`tp1dp64ep64`: degrees of an archived point in the order tp-cp-pp-dp-etp-ep, ones omitted except tp; then its plan or its sites."""
    degrees = "".join(f"{s}{int(point[f'{unit}.{k}'])}" for s, k in LAYOUT_PARTS if s == "tp" or point[f"{unit}.{k}"] != 1)
    n_sites = point.get(f"{unit}.n_sites") or 1
    if n_sites > 1:  # NaN where the study has none
        degrees += f"-sites{int(n_sites)}every{int(point[f'{unit}.sync_every'])}"
    return degrees + plan_text(lambda name: point.get(f"{unit}.{name}"))


def plan_text(value: Callable[[str], Any]) -> str:
    """`-ffn32m3`, `-two_batch`, `-x4`, `-gather8`: what a plan adds to a layout's name.  value: name -> number or None."""
    plan = {k: value(k) for k in PLAIN}
    plan = {k: PLAIN[k] if v is None or v != v else int(v) for k, v in plan.items()}
    words = (f"-ffn{plan['n_ffn']}m{plan['n_micro']}", "-two_batch", f"-x{plan['n_ffn_x']}", f"-gather{plan['n_gather']}")
    return "".join(w for w, k in zip(words, ("n_ffn", "overlap", "n_ffn_x", "n_gather"), strict=True) if plan[k] != PLAIN[k])


def _variable(name: str, choices: tuple, ordered: bool) -> Variable:
    return Variable(name, choices, ordered, n_active=len(choices))
