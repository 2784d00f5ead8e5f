"""Scenarios as tables: one row per combination of a sweep, each row a call of one of the tool's general evaluators."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from codesign import catalog, pricesheet, uncertainty
from codesign.catalog.derived import WITH
from codesign.evidence.reductions import REDUCTIONS
from codesign.physics import tiles
from codesign.physics.hardware import ByBits, Chip, KernelFit, Link, Reduction
from codesign.point import evaluate_point
from codesign.scenario import make_chip
from codesign.spec import expressions
from codesign.study import open_study

Table = dict[str, np.ndarray]
Row = dict[str, Any]
HARDWARE = {"accelerator", "system"}
NOTE = "note"  # keys `note.<name>` of a row are columns that no evaluator reads
RESOURCES = ("compute", "memory", "network", "fixed")


class Shift(NamedTuple):
    """One kind of constants of one chip, moved by one standard deviation of the published residuals."""

    hardware: str
    engine: str
    resource: str


class Scene(BaseModel):
    """What is evaluated: `given` for all rows, `rows` one mapping each, `sweep` key -> values (all combinations).

    `columns` adds columns, each an expression over the ones before it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    evaluator: str = "point"
    given: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [{}]
    sweep: dict[str, list[Any]] = {}
    columns: dict[str, str] = {}

    def changed(self, changes: Mapping[str, Any]) -> Scene:
        """The scenario with some keys pinned to one value; keys that it does not use stay out, a chip replaces a system.

        Of a sweep over chips derived from others the factors stay.
        """
        mine = {k: v for k, v in changes.items() if self.used & (HARDWARE if k in HARDWARE else {k})}
        gone = {*mine, *(HARDWARE if HARDWARE & {*mine} else ())}
        keep = lambda part: {k: v for k, v in part.items() if k not in gone}  # noqa: E731
        rows = list(map(keep, self.rows))
        rows = [row for i, row in enumerate(rows) if row not in rows[:i]]
        derived = {key: _derived(mine[key], values) for key, values in self.sweep.items() if key in HARDWARE & {*mine}}
        derived = {key: names for key, names in derived.items() if len(names) > 1}
        given = {k: v for k, v in (keep(self.given) | mine).items() if k not in derived}
        return Scene(evaluator=self.evaluator, given=given, rows=rows, sweep=keep(self.sweep) | derived, columns=self.columns)

    @property
    def used(self) -> set[str]:
        """Keys that the scenario gives."""
        return {*self.given, *self.sweep, *(k for row in self.rows for k in row)}

    def values(self, key: str) -> list[str]:
        """The different values of a key over all cases, as text; of hardware, whichever key names it."""
        names = HARDWARE & self.used if key in HARDWARE else {key} & self.used
        found = [str(v) for name in names for v in self.sweep.get(name, [row.get(name, self.given.get(name)) for row in self.rows])]
        return list(dict.fromkeys(found))

    @cached_property
    def cases(self) -> list[Row]:
        """Every row's scenario mapping."""
        combinations = [dict(zip(self.sweep, values, strict=True)) for values in product(*self.sweep.values())]
        return [_nested(self.given | row | combination) for row in self.rows for combination in combinations]

    @cached_property
    def results(self) -> list[list[Row]]:
        """What the evaluator says about every case."""
        return [self._evaluate(case, None) for case in self.cases]

    def _evaluate(self, case: Row, shift: Shift | None) -> list[Row]:
        given = {k: v for k, v in case.items() if k != NOTE}
        return [
            _flat({k: v for k, v in case.items() if k != "study"}) | _flat(result) for result in EVALUATORS[self.evaluator](given, shift)
        ]

    def table(self, shift: Shift | None = None) -> Table:
        """All rows as columns; under a shift the cases that name its chip are evaluated again."""
        cases = zip(self.cases, self.results, strict=True)
        concerned = lambda case: shift is not None and (shift.hardware, shift.engine) in chips_of(case)  # noqa: E731
        found = [row for case, known in cases for row in (self._evaluate(case, shift) if concerned(case) else known)]
        keys = dict.fromkeys(k for row in found for k in row)
        table = {k: _array([row.get(k) for row in found]) for k in keys}
        for name, text in self.columns.items():
            value = expressions.compile(text, list(table), more=REDUCTIONS).evaluate(table)
            table[name] = np.broadcast_to(np.asarray(value), (len(found),))
        return table

    def shifts(self) -> list[Shift]:
        """What may be off: the four kinds of constants of every chip, except under the ideal engine, where nothing is fitted."""
        pairs = {pair for case in self.cases for pair in chips_of(case) if pair[1] != "ideal"} if self.evaluator in FITTED else ()
        return [Shift(*pair, resource) for pair in sorted(pairs) for resource in RESOURCES]

    def evidence(self) -> str:
        """`prior constants` where a chip has no measured kernels, else `model`."""
        pairs = {(s.hardware, s.engine) for s in self.shifts()}
        return "prior constants" if any(uncertainty.chip_class(*pair) == "priors" for pair in pairs) else "model"


def chips_of(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(hardware, engine) pairs that a case names.  A derived chip has the kernels of its base, so what is off there is off in both."""
    name = case.get("system") or case.get("accelerator")
    return [(name.partition(WITH)[0], case.get("engine", "generic"))] if isinstance(name, str) else []


def _derived(name: str, values: list[Any]) -> list[str]:
    """A sweep over hardware on another base.

    >>> _derived("h200_sxm", ["b200_sxm", "b200_sxm with price=0.5", "h100_sxm"])
    ['h200_sxm', 'h200_sxm with price=0.5']
    """
    return list(dict.fromkeys(name + "".join(str(value).partition(WITH)[1:]) for value in values))


def _nested(flat: Row) -> Row:
    """Dotted keys as nested mappings: `architecture.n_heads: 64` changes one dimension."""
    out: Row = {}
    for key, value in flat.items():
        head, _, rest = key.partition(".")
        if rest:
            out[head] = {**out.get(head, {}), rest: value}
        else:
            out[head] = {**out.get(head, {}), **value} if isinstance(value, dict) else value
    return out


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Row:
    """Nested results as dotted columns; lists of named mappings (operators, memory classes) by name."""
    out: Row = {}
    for key, value in tree.items():
        name = prefix + ".".join(map(_word, str(key).split(".")))
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping) and {"name", "class", "phase"} & {*value[0]}:
            for item in value:
                key = next(k for k in ("name", "class", "phase") if k in item)
                out |= _flat({k: v for k, v in item.items() if k != key}, f"{name}.{_word(item[key])}.")
        elif isinstance(value, (int, float, str, bool, np.generic)) or value is None:
            out[name] = value
    return out


def _word(text: Any) -> str:
    """A name that an expression can hold.

    >>> _word("shared experts, router")
    'shared_experts_router'
    """
    return re.sub(r"\W+", "_", str(text)).strip("_")


def _array(values: list[Any]) -> np.ndarray:
    if any(isinstance(v, str) for v in values):
        return np.array(["" if v is None else str(v) for v in values])
    return np.array([np.nan if v is None else float(v) for v in values])


def point(case: Row, shift: Shift | None) -> list[Row]:
    """`codesign evaluate`: one model on one layout of one chip."""
    if shift is not None:
        name = str(case.get("system") or case.get("accelerator"))
        chip = _shifted_chip(name, shift, case.get("scale_up_size"), case.get("usd_per_h"), "train" in str(case.get("phase")))
        case = {k: v for k, v in case.items() if k != "system"} | {"accelerator": chip}
    return [evaluate_point(case, detail=True)]


@lru_cache(256)
def _shifted_chip(name: str, shift: Shift, scale_up_size: float | None, usd_per_h: float | None, training: bool) -> Chip:
    usd_per_s = None if usd_per_h is None else usd_per_h / 3600.0
    return shifted(make_chip(name, shift.engine, scale_up_size=scale_up_size, usd_per_s=usd_per_s), shift, training)


def shifted(chip: Chip, shift: Shift, training: bool = False) -> Chip:
    """The chip with one kind of constants worse by one standard deviation of the residuals behind its predictions.

    compute: achieved FLOP/s;  memory: achieved HBM bandwidth;  network: achieved link bandwidth;  fixed: time per kernel and message.
    """
    kind = uncertainty.chip_class(shift.hardware, shift.engine)
    phase = ("training", "train") if training else ("inference", "prefill" if shift.resource == "compute" else "decode")
    factor = float(np.exp(-uncertainty.spread(*phase, kind, False).total))
    return _moved(chip, shift.resource, factor)


def _moved(part: Any, resource: str, factor: float) -> Any:
    """`part` and everything inside it with one kind of constants scaled; fixed times grow by 1 / factor."""
    changes: dict[str, Any] = {}
    scale = 1.0 / factor if resource == "fixed" else factor
    for name, value in vars(part).items():
        if isinstance(value, (KernelFit, Link, Reduction)) or hasattr(value, "at_2") or name == "training":
            changes[name] = _moved(value, resource, factor)
        elif _resource_of(part, name) == resource:
            changes[name] = value.map(lambda v: v * scale) if isinstance(value, ByBits) else value * scale
    return replace(part, **changes)


def _resource_of(part: Any, name: str) -> str | None:
    if name.endswith("t0_s"):
        return "fixed"
    if isinstance(part, (Link, Reduction)):
        return "network" if name in ("gather", "all_to_all", "one_shot", "two_shot") else None
    if isinstance(part, KernelFit):
        return name if name in ("compute", "memory") else None
    training = {"compute": "compute", "attention": "compute", "traffic": None, "sync_s": "fixed", "host_s": "fixed"}
    return training.get(name) if not isinstance(part, Chip) else None


def prices(case: Row, shift: Shift | None) -> list[Row]:
    """`codesign prices`: the price sheet of one model on one system.  Its layouts are chosen anew, so no shift applies."""
    bits = {k: case[k] for k in ("weight_bits", "kv_bits", "act_bits") if k in case}
    hardware = case.get("system") or case["accelerator"]
    return [pricesheet.sheet(case["model"], hardware, case.get("engine", "generic"), bits, case.get("peak", pricesheet.PEAK))]


def study(case: Row, shift: Shift | None) -> list[Row]:
    """Every non-dominated point of every design of a small study: `study` is its file, other keys are as `--set` takes them."""
    changes = [f"{key}={json.dumps(value)}" for key, value in _flat({k: v for k, v in case.items() if k != "study"}).items()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(json.dumps({"version": 1, "name": "claim", "question": "claim"} | case["study"]), encoding="utf-8")
        problem = open_study(file, changes).problem
    index = np.array(list(product(*(range(len(v.choices)) for v in problem.space.variables))))
    index = np.unique(problem.space.canonical(index), axis=0)
    batch = problem.evaluate(index[problem.valid(index)])
    columns = {k: np.broadcast_to(v, (batch.design.size,)) for k, v in batch.points.items()}
    return [{k: v[i].item() for k, v in columns.items()} for i in range(batch.design.size)]


def gemm(case: Row, shift: Shift | None) -> list[Row]:
    """Useful share of the arithmetic of one matrix product m x k by k x n, cut into tiles that run in waves over a chip's processors."""
    m, n, k, *tile = (float(case[key]) for key in ("m", "n", "k", "tile_m", "tile_n", "tile_k"))
    n_sm = float(catalog.hardware(case["accelerator"])["n_sm"])
    occupied = float(tiles.occupied_flop(m, n, k, *tile, n_sm))
    return [{"n_sm": n_sm, "flop": 2 * m * n * k, "occupied_flop": occupied, "useful_frac": 2 * m * n * k / occupied}]


EVALUATORS: dict[str, Callable[[Row, Shift | None], list[Row]]] = {"point": point, "prices": prices, "study": study, "gemm": gemm}
FITTED = {"point"}  # evaluators whose numbers stand on fitted constants
