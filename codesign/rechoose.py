"""Layouts chosen again in every draw: what the best designs of a front are worth to a team that can still change how they run.

An architecture is trained once; a layout is a launch script.  `robustness` keeps both as archived, so part of the regret that it finds is no
regret: it goes away with another layout.  Here the search itself lays the best designs out again, all layouts of its grids, under many of the
draws; whatever it chooses in any of them is a candidate, every candidate is scored under all draws, and a design takes its best ones
in each.  Legend: D designs, C candidates, S draws, P points of the front, M objectives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codesign import evaluate as pipeline
from codesign.assumptions import draw, factors_of, sources_of
from codesign.evaluate import Designs
from codesign.lifecycle_columns import fill
from codesign.physics.hardware import slower
from codesign.problem import StudyProblem
from codesign.rescore import points_of, priced, traffic_under
from codesign.results import Batch, Run
from codesign.robustness import Sampled, coordinates, far_capped, scored
from codesign.search import pareto
from codesign.setting import Setting
from codesign.study import Study
from codesign.units.serve_unit import DEGREES
from codesign.units.survivors import cross

N_DESIGNS = 10  # laid out again
N_SEARCHES = 48  # draws under which the whole grid of layouts is tried
MAX_ROWS, MAX_CANDIDATES = 600_000, 2_000  # candidates x draws scored (fewer draws beyond); candidates, those chosen most often first
NOTHING = 1e-9  # of an objective (ln, or natural units): what is no gain


@dataclass(frozen=True)
class Rechosen:
    """Of D designs, each by its point of the front that stays there most often (rows of the front): with layouts chosen again."""

    rows: np.ndarray
    n_candidates: int
    n_samples: int
    p_front: np.ndarray  # (D, 2) share of draws in which one of its points is on the front: in the archived layouts, in any layout
    p_holds: np.ndarray  # (D, 2) share in which one of its points keeps every limit: likewise
    p_better: np.ndarray  # (D,) of the draws in which the point holds, those in which another layout improves an objective at no loss
    regret: np.ndarray  # (D, M) of the point against everything, its own other layouts included
    left: np.ndarray  # (D, M) what of it no other layout of the design would have saved


def rechoose(study: Study, run: Run, sampled: Sampled, front: np.ndarray, seed: int = 0, first: tuple[int, ...] = ()) -> Rechosen:
    """`front` (S, P): on the front as archived; `first`: rows of the front whose designs come first, such as the picks."""
    rows = best_designs(run, front.mean(axis=0), first)
    records, design = candidates(study.problem, run, sampled, rows)
    values, holds, picked = _scored(study, run, sampled, records, seed)
    ids = run.front["design_id"].to_numpy()
    rest = np.flatnonzero(~np.isin(ids, ids[rows]))
    n, all_designs = len(picked), np.arange(len(rows))
    p_front, total, own, better = np.zeros(len(rows)), *(np.zeros((len(rows), values.shape[2])) for _ in range(2)), np.zeros(len(rows))
    owner = np.concatenate([np.full(len(rest), -1), design])
    mine, held = owner == all_designs[:, None], sampled.holds[np.ix_(picked, rows)]
    for at, s in enumerate(picked):
        table, alive = np.concatenate([sampled.values[s, rest], values[at]]), np.concatenate([sampled.holds[s, rest], holds[at]])
        best = np.flatnonzero(alive)[pareto.nondominated(table[alive])] if alive.any() else np.zeros(0, dtype=int)
        p_front += np.isin(all_designs, owner[best])
        here = sampled.values[s, rows]
        saved, by_layout = _better(here, table, alive), _better(here, table, alive & mine)
        total, own = total + held[at][:, None] * saved, own + held[at][:, None] * by_layout
        better += held[at] & np.any(by_layout > NOTHING, axis=1)
    times = held.sum(axis=0)
    as_archived = [np.array([table[np.ix_(picked, ids == ids[r])].any(axis=1).mean() for r in rows]) for table in (front, sampled.holds)]
    holds_anew = np.array([holds[:, design == d].any(axis=1).mean() for d in all_designs])
    with np.errstate(invalid="ignore", divide="ignore"):
        return Rechosen(
            rows, len(design), n, np.stack([as_archived[0], p_front / n], axis=1), np.stack([as_archived[1], holds_anew], axis=1),
            better / times, total / times[:, None], (total - own) / times[:, None],
        )  # fmt: skip


def best_designs(run: Run, share: np.ndarray, first: tuple[int, ...]) -> np.ndarray:
    """(D,) for each design the row of its point that is on the front most often; designs of `first` before the rest."""
    ids = run.front["design_id"].to_numpy()
    order = np.r_[np.array(first, dtype=int), np.argsort(-share, kind="stable")]
    designs = list(dict.fromkeys(ids[order].tolist()))[:N_DESIGNS]
    named = {ids[row]: row for row in reversed(first)}
    return np.array([named[d] if d in named else np.flatnonzero(ids == d)[np.argmax(share[ids == d])] for d in designs], dtype=int)


def candidates(problem: StudyProblem, run: Run, sampled: Sampled, rows: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
    """(records as the archive has them, position of the design of each (C,)): the archived points of the designs at `rows`, and whatever the
    search chooses for them under the first draws of what all designs share."""
    front = run.front
    ids = front["design_id"].to_numpy()
    found: dict[tuple, tuple[dict[str, Any], int]] = {}
    times: Counter = Counter()

    def add(record: dict[str, Any], d: int, n: int = 1) -> None:
        key = (d, *(float(v) for k, v in sorted(record.items()) if _is_layout(k)))
        found.setdefault(key, (record, d))
        times[key] += n

    for d, row in enumerate(rows):
        for record in front[ids == ids[row]].to_dict("records"):
            add({k: v for k, v in record.items() if v == v}, d, N_SEARCHES + 1)
    shared = [(s, z) for s, z in zip(sampled.sources, sampled.draws, strict=True) if s.is_shared]
    factors = factors_of([s for s, _ in shared], [z[:N_SEARCHES] for _, z in shared])
    values = problem.values_of(front.iloc[rows].to_dict("records"))
    designs = described(problem, values, len(rows))
    rate, _ = pipeline.reinforce(problem.setting, designs)
    for i in range(min(N_SEARCHES, sampled.n)):
        here = {k: np.broadcast_to(v, (v.shape[0], sampled.points.n))[i, rows] for k, v in factors.items()}
        batch = laid_out(problem.setting, designs, rate, here, "time.prefill" if i % 2 else "time.decode")
        for j, d in enumerate(batch.design):
            add({k: v[j].item() for k, v in batch.points.items()}, int(d))
    records, design = zip(*(found[key] for key, _ in times.most_common(MAX_CANDIDATES)), strict=True)
    return list(records), np.array(design)


def _is_layout(name: str) -> bool:
    unit, dot, leaf = name.partition(".")
    options = ("micro_batch", "recompute", "zero", "offload", "n_sites", "sync_every", "batch", "n_devices")
    return bool(dot) and unit in ("train", "serve", "prefill", "decode") and (leaf in options or leaf in DEGREES)


def described(problem: StudyProblem, values: Mapping[str, np.ndarray], n: int) -> Designs:
    """n designs of which every unit is laid out for itself, even where they share parts: each may have its own hardware factors."""
    designs = pipeline.describe(problem.setting, dict(values), {k: np.arange(n) for k in values}, share=False)
    return designs if values else replace(designs, n=n, groups={k: (np.arange(n), np.arange(n)) for k in designs.groups})


def laid_out(setting: Setting, designs: Designs, rl_rate, factors: Mapping[str, np.ndarray], shared_pool: str) -> Batch:
    """The search's choice among all layouts under factors (D,); a pool that does both phases is as slow as one of them."""
    whole, one = np.arange(designs.n), np.ones(designs.n)
    key = {"train": "time.train", "serve": shared_pool, "prefill": "time.prefill", "decode": "time.decode"}
    chips = {r: priced(chip.take(whole), r, factors) for r, chip in designs.chips.items()}
    chips = {r: slower(chip, factors.get(key[r], one)) if r in key else chip for r, chip in chips.items()}
    changed = {k: v[0] for k, v in factors.items() if k in ("demand", "utilisation", "drafts")}  # the same for all designs
    designs = replace(designs, chips=chips, traffic=traffic_under(designs.traffic, changed))
    setting = replace(setting, traffic=traffic_under(setting.traffic, changed))
    units = pipeline.train(setting, designs, None), pipeline.serve(setting, designs, None)
    rows = cross(*units)
    columns, violations = fill(setting, designs, *units, rl_rate * factors.get("time.rl", one), rows)
    return pipeline.judge(setting, designs, *units, rows[0], columns, violations, 0)


def _scored(study: Study, run: Run, sampled: Sampled, records: list[dict[str, Any]], seed: int):
    """(values (S, C, M), whether they hold (S, C), draws taken): candidates under the very draws of the front."""
    front = run.front.to_dict("records")
    points = points_of(study.problem, [*front, *records])
    sources = sources_of(study, points)
    draws = draw(sources, sampled.n, seed)
    columns = np.arange(len(front), points.n)
    picked = np.unique(np.linspace(0, sampled.n - 1, max(min(sampled.n, MAX_ROWS // len(columns)), 1)).astype(int))
    factors = {k: v[picked][:, columns].ravel() for k, v in factors_of(sources, draws).items()}
    objectives, holds = scored(points, np.tile(columns, len(picked)), factors)
    base, _ = scored(points, columns, {})
    shape = (len(picked), len(columns))
    values = coordinates(points, objectives, sampled.log).reshape(*shape, -1)
    return far_capped(values, coordinates(points, base, sampled.log), sampled.log), holds.reshape(shape), picked


def _better(here: np.ndarray, table: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(D, M) how much better each objective of `here` (D, M) could be at no loss in the others, among the allowed (D or 1, N) rows of a table (N, M)."""
    worse = table[None, :, :] > here[:, None, :] + 1e-12
    n_worse, out = worse.sum(axis=2), np.zeros_like(here)
    for j in range(here.shape[1]):
        free = (n_worse - worse[:, :, j] == 0) & allowed
        best = np.min(np.where(free, table[None, :, j], np.inf), axis=1)
        out[:, j] = here[:, j] - np.minimum(best, here[:, j])
    return out
