"""How far every printed number may be off, and which designs cannot be told apart.

Each source of error of the model and the quality law is moved by one standard deviation to either side and the points are scored again:
e = (ln f(+) - ln f(-)) / 2.  What a column may be off by is sigma^2 = sum e^2; the difference of two designs keeps
sum_shared (e_a - e_b)^2 + sum_own (e_a^2 + e_b^2 - 2 rho_ab e_a e_b): on one chip only the own parts, on two chips both.
Prices and demand are not in it: they are the study's word, and `codesign decide` varies them.  Legend: P points, K sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from codesign.assumptions import Source, alike, factors_of, sources_of
from codesign.rescore import points_of, score
from codesign.results import Run
from codesign.study import Study

COLUMNS = (
    "tpot_s",
    "ttft_s",
    "usd_per_mtok",
    "train_s",
    "train_usd",
    "lifecycle_usd",
    "c_eq_flop",
    "energy_j_per_tok",
    "serve_devices",
    "pretrain_tok",
)
REACH = np.log(1000.0)  # a source that moves a column further than that (nothing left to train with) moves it by that


@dataclass(frozen=True)
class Intervals:
    """Points (P,) with the effect of every source on every column, in ln: effects {column: (K, P)}."""

    ids: np.ndarray
    values: dict[str, np.ndarray]
    effects: dict[str, np.ndarray]
    sources: list[Source]
    level: float

    @property
    def z(self) -> float:
        return NormalDist().inv_cdf(0.5 * (1.0 + self.level))

    def sigma(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """(shared, own) standard deviation of ln of a column (P,)."""
        own = np.array([not source.is_shared for source in self.sources], dtype=bool)
        squares = self.effects[column] ** 2
        return np.sqrt(squares[~own].sum(axis=0)), np.sqrt(squares[own].sum(axis=0))

    def bounds(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) that hold the true value with probability `level` (P,)."""
        factor = np.exp(self.z * np.hypot(*self.sigma(column)))
        return self.values[column] / factor, self.values[column] * factor

    def sigma_of_difference(self, column: str, row: int) -> np.ndarray:
        """Standard deviation of ln of the ratio to point `row`, at every point (P,)."""
        total = np.zeros(len(self.ids))
        for source, effect in zip(self.sources, self.effects[column], strict=True):
            total = total + effect**2 + effect[row] ** 2 - 2.0 * alike(source, row) * effect * effect[row]
        return np.sqrt(np.maximum(total, 0.0))

    def alike(self, column: str, row: int) -> np.ndarray:
        """Points (P,) that cannot be told apart from point `row` in a column: their ratio lies inside its own interval around 1."""
        gap = np.abs(np.log(self.values[column] / self.values[column][row]))
        return gap <= self.z * self.sigma_of_difference(column, row)

    def record(self, row: int) -> dict[str, dict[str, float]]:
        """{column: value, lower, upper, sigma_shared, sigma_own} of one point, plain numbers."""
        out = {}
        for column, values in self.values.items():
            (low, high), (shared, own) = self.bounds(column), self.sigma(column)
            out[column] = {"value": float(values[row]), "lower": float(low[row]), "upper": float(high[row]),
                           "sigma_shared": float(shared[row]), "sigma_own": float(own[row])}  # fmt: skip
        return out


def intervals_of(study: Study, run: Run, ids: Sequence[int] | None = None) -> Intervals:
    """Intervals of the points with these ids (the whole front if None): every objective and the columns of COLUMNS that are positive."""
    front = run.front if ids is None else run.front.set_index("id", drop=False).loc[list(ids)]
    if study.setting.clip:  # nobody has measured how wrong these predictions are
        return Intervals(front["id"].to_numpy(), {}, {}, [], study.file.uncertainty.level)
    points = points_of(study.problem, front.to_dict("records"))
    sources = [s for s in sources_of(study, points) if s.kind != "study"]
    wanted = tuple(dict.fromkeys((*run.objectives, *COLUMNS)))
    n, signs = points.n, np.array([1.0, -1.0])
    moved = [factors_of([s], [np.repeat(signs[:, None], s.group.max() + 1, axis=1)]) for s in sources]
    keys = {key for factors in moved for key in factors}
    ones = np.ones((2, n))
    stacked = {key: np.stack([ones, *(factors.get(key, ones) for factors in moved)]).ravel() for key in keys}
    columns, _ = score(points, np.tile(np.arange(n), 2 * (len(sources) + 1)), stacked, keep=wanted)
    values, effects = {}, {}
    for column in wanted:
        table = columns[column].reshape(len(sources) + 1, 2, n)
        if np.all(table[0, 0] > 0):
            logs = np.log(np.maximum(table, np.finfo(float).tiny))
            logs = np.clip(logs - logs[0, 0], -REACH, REACH)
            values[column], effects[column] = table[0, 0], 0.5 * (logs[1:, 0] - logs[1:, 1])
    return Intervals(front["id"].to_numpy(), values, effects, sources, study.file.uncertainty.level)
