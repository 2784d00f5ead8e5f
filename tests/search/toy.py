"""A small roofline co-design problem with the evaluator's interface, cheap enough to enumerate.

Fourteen discrete variables, one of them conditional; cost and latency with a roofline, loss by a Chinchilla
law (arXiv:2203.15556, equation 10); memory, divisibility, batch and balance constraints.
`Toy(layouts_inside=True)` is the nested form: the four layout variables are not searched but swept inside
`evaluate`, so a design brings several points.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

LAYOUT = ("n_tp", "n_ep", "n_pp", "batch")
CHOICES = {
    "d_model": (2048, 4096, 6144, 8192, 12288, 16384),
    "n_layers": (32, 48, 64, 80, 96),
    "n_kv_heads": (8, 16),
    "n_experts": (1, 16, 64, 128, 256),
    "n_active": (2, 4, 8),
    "ffn": ("narrow", "wide"),
    "weight_bits": (4, 8, 16),
    "kv_bits": (8, 16),
    "domain": ("node", "half_rack", "rack"),
    "n_tp": (1, 2, 4, 8, 16),
    "n_ep": (1, 2, 4, 8, 16),
    "n_pp": (1, 2, 4, 8),
    "batch": (8, 16, 32, 64, 128, 256),
    "tok_per_param": (10, 20, 60, 200),
}
SMALL = {  # 6,912 flat points: small enough for a quadratic brute force
    "d_model": (2048, 4096, 8192),
    "n_layers": (32, 64),
    "n_kv_heads": (8,),
    "n_experts": (1, 16, 64),
    "n_active": (2, 8),
    "ffn": ("narrow",),
    "weight_bits": (4, 16),
    "kv_bits": (8,),
    "domain": ("node", "rack"),
    "n_tp": (1, 4, 8),
    "n_ep": (1, 8),
    "n_pp": (1, 2),
    "batch": (16, 128),
    "tok_per_param": (20, 200),
}
MIDDLE = CHOICES | {  # 829,440 flat points
    "d_model": (2048, 4096, 8192, 12288),
    "n_layers": (32, 64, 96),
    "n_kv_heads": (8,),
    "n_experts": (1, 16, 64, 128),
    "ffn": ("narrow",),
    "n_active": (2, 8),
    "domain": ("node", "rack"),
    "n_tp": (1, 2, 4, 8),
    "n_ep": (1, 4, 8),
    "n_pp": (1, 2, 4),
    "batch": (8, 32, 64, 128, 256),
}
UNORDERED = ("ffn", "domain")


@dataclass(frozen=True)
class Variable:
    name: str
    choices: tuple
    ordered: bool = True


@dataclass(frozen=True)
class Objective:
    name: str
    direction: str


@dataclass
class Batch:
    """Stand-in for codesign.results.Batch."""

    points: dict
    design: np.ndarray
    objectives: np.ndarray
    violations: np.ndarray
    n_layouts: int
    n_candidates: int
    n_feasible: int
    killed: dict = field(default_factory=dict)


class Toy:
    constraint_names = ("memory", "divisible", "batch", "balance")

    def __init__(self, choices=None, layouts_inside=False, objectives=("usd_per_mtok", "tpot_s", "n_eff")):
        choices = CHOICES if choices is None else choices
        searched = [name for name in choices if not (layouts_inside and name in LAYOUT)]
        self.variables = tuple(Variable(name, choices[name], name not in UNORDERED) for name in searched)
        self.objectives = tuple(Objective(name, "maximize" if name == "n_eff" else "minimize") for name in objectives)
        self.sizes = tuple(len(variable.choices) for variable in self.variables)
        self.inside = {name: choices[name] for name in LAYOUT} if layouts_inside else {}
        self.n_evaluated = 0
        self.asked = []  # index rows of every design that evaluate() was asked for

    @cached_property
    def n_designs(self):
        return sum(len(index) for index in self.enumerate(65536))

    def _column(self, index, name):
        names = [variable.name for variable in self.variables]
        return index[:, names.index(name)]

    def canonical(self, index):
        index = np.array(index)
        dense = np.array([n <= 1 for n in self._choices("n_experts")])[self._column(index, "n_experts")]
        self._column(index, "n_active")[dense] = 0
        return index

    def valid(self, index):
        """Structural filter: more experts than active ones."""
        experts, active = self._value(index, "n_experts"), self._value(index, "n_active")
        return (experts == 1) | (experts >= 4 * active)

    def _choices(self, name):
        return next(variable.choices for variable in self.variables if variable.name == name)

    def _value(self, index, name):
        choices = self._choices(name)
        values = np.arange(len(choices)) if isinstance(choices[0], str) else np.array(choices, float)
        return values[self._column(index, name)]

    def enumerate(self, chunk):
        n_raw = int(np.prod(self.sizes))
        for start in range(0, n_raw, chunk):
            index = np.stack(np.unravel_index(np.arange(start, min(start + chunk, n_raw)), self.sizes), axis=1)
            yield index[(self.canonical(index) == index).all(axis=1) & self.valid(index)]

    def evaluate(self, index):
        index = np.asarray(index)
        self.n_evaluated += len(index)
        self.asked.append(index.copy())
        columns = {v.name: self._value(index, v.name)[:, None] for v in self.variables}
        if self.inside:
            grid = np.meshgrid(*[np.array(values, float) for values in self.inside.values()], indexing="ij")
            columns |= {name: axis.reshape(1, -1) for name, axis in zip(self.inside, grid, strict=True)}
        values, violations = physics(columns)
        return self._batch(columns, values, violations)

    def _batch(self, columns, values, violations):
        raw = np.stack(np.broadcast_arrays(*[values[o.name] for o in self.objectives]), axis=-1)  # (A, L, M)
        broken = np.stack(np.broadcast_arrays(*violations), axis=-1)  # (A, L, C)
        feasible = (broken <= 0).all(axis=-1)
        total = np.maximum(broken, 0).sum(axis=-1)
        cheapest = np.where(feasible, raw[..., 0], np.inf)
        best = np.where(feasible.any(axis=1), cheapest.argmin(axis=1), total.argmin(axis=1))
        rows = np.arange(len(raw))
        objectives = np.where((broken[rows, best, 0] > 0)[:, None], np.nan, raw[rows, best])  # nothing fits: no values at all
        design, layout = np.nonzero(feasible)
        points = {o.name: raw[design, layout, m] for m, o in enumerate(self.objectives)}
        points |= {name: np.broadcast_to(columns[name], feasible.shape)[design, layout] for name in LAYOUT}
        killed = {name: int((broken[..., c] > 0).sum()) for c, name in enumerate(self.constraint_names)}
        return Batch(
            points,
            design,
            objectives,
            broken[rows, best],
            feasible.size,
            feasible.size,
            int(feasible.sum()),
            killed,
        )


def physics(c):
    """Objectives and signed violations of broadcastable columns."""
    d, layers, moe = c["d_model"], c["n_layers"], c["n_experts"] > 1
    attention = layers * d * d * (2 + 2 * c["n_kv_heads"] / 32)
    dense = layers * 3 * d * d * np.where(c["ffn"] == 0, 2.667, 4.0)
    active = attention + np.where(moe, dense / 8 * c["n_active"], dense)
    total = attention + np.where(moe, dense / 8 * c["n_experts"], dense)
    kv_bytes = c["batch"] / c["n_ep"] / c["n_pp"] * 16384 * 256 * layers * c["n_kv_heads"] * c["kv_bits"] / 8
    kv_bytes = kv_bytes / np.minimum(c["n_tp"], c["n_kv_heads"])
    tpot = step_s(c, attention, dense, active, kv_bytes)
    price = np.array([2.0, 2.6, 3.2])[np.asarray(c["domain"], int)] / 3600
    usd = c["n_tp"] * c["n_ep"] * price * tpot / c["batch"] * 1e6 * (1 + 0.02 * c["n_pp"])
    factor = np.where(c["weight_bits"] == 4, 0.93, 1.0) * np.where(c["kv_bits"] == 8, 0.985, 1.0)
    n_eff = active**0.6 * total**0.4 * factor * (1 + 0.03 * np.log2(c["n_kv_heads"] / 8))
    loss = 406.4 / n_eff**0.34 + 410.7 / (c["tok_per_param"] * active) ** 0.28  # above the irreducible 1.69
    values = {"usd_per_mtok": usd, "tpot_s": tpot, "n_eff": 1 / loss}
    return values, limits(c, active, total, kv_bytes)


def step_s(c, attention, dense, active, kv_bytes):
    """One decode step: the larger of compute and memory time, then network and fixed time."""
    n_tp, n_ep, n_pp, batch, experts = c["n_tp"], c["n_ep"], c["n_pp"], c["batch"], c["n_experts"]
    touched = experts * (1 - (1 - c["n_active"] / experts) ** batch)
    read = attention + np.where(experts > 1, dense / 8 * touched / n_ep, dense)
    link = np.where(n_tp * n_ep <= np.array([8, 32, 72])[np.asarray(c["domain"], int)], 450e9, 50e9)
    reduce = np.where(n_tp > 1, 4 * batch / n_ep * c["d_model"] / link + 10e-6, 0)
    dispatch = np.where(n_ep > 1, 4 * batch / n_ep * c["d_model"] / link + 15e-6, 0)
    compute = 2 * active * batch / (n_tp * n_ep) / np.where(c["weight_bits"] <= 8, 1.6e15, 0.8e15)
    memory = (read / n_tp * c["weight_bits"] / 8 + kv_bytes * n_pp) / 3.35e12
    return np.maximum(compute, memory) + c["n_layers"] * (reduce + dispatch + 20e-6) + n_pp * 30e-6


def limits(c, active, total, kv_bytes):
    """Signed violations: memory, divisibility, sequences per rank, balance of compute within 10."""
    n_tp, n_ep, n_pp, batch = c["n_tp"], c["n_ep"], c["n_pp"], c["batch"]
    fits = (total / (n_tp * n_ep * n_pp) * c["weight_bits"] / 8 + kv_bytes) / 80e9 - 1
    uneven = (c["n_kv_heads"] % n_tp > 0) + (c["n_experts"] % n_ep > 0) + (c["n_layers"] % n_pp > 0)
    work = np.broadcast_arrays(6 * active * c["tok_per_param"] * active, 2 * active * 4e13, 2 * active * 6e12)
    balance = np.log10(np.max(work, axis=0) / np.min(work, axis=0)) - 1
    return fits, uneven.astype(float), n_ep * n_pp / batch - 1, balance


def front_points(toy, outcome):
    """Objective values of the archived front, (F, M)."""
    return np.stack([outcome.front[o.name] for o in toy.objectives], axis=1)


def same_search(one, other):
    """Assert that two outcomes hold the same designs and the same front, in the same order."""
    for name in ("design_id", "index", "objectives", "violations"):
        np.testing.assert_array_equal(getattr(one.designs, name), getattr(other.designs, name))
        np.testing.assert_array_equal(getattr(one.closest, name), getattr(other.closest, name))
    assert one.front.keys() == other.front.keys()
    for name, column in one.front.items():
        np.testing.assert_array_equal(column, other.front[name])
    np.testing.assert_array_equal(one.front_index, other.front_index)
    for name in (
        "n_designs",
        "n_feasible_designs",
        "n_layouts",
        "n_candidates",
        "n_feasible",
        "n_trials",
        "killed",
    ):
        assert getattr(one, name) == getattr(other, name), name
