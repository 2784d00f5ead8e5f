"""From asked designs to what a search keeps of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.search import pareto
from codesign.search.designs import Table
from codesign.search.problem import Batch, Index, Problem, maximised

# Violation column that searches append: 1 where a design is structurally invalid or nothing fits.
EXTRA = "valid"
# Columns that the archive carries for a search and that are taken out at the end.
INDEX, VALUES, VIOLATIONS = "_design_index", "_design_objectives", "_design_violations"


@dataclass
class Part:
    """The reduced result of one evaluated batch: what the archive, the table and the counters need."""

    rows: Table
    objectives: np.ndarray  # (K, M) points that no other point of the batch dominates
    columns: dict[str, np.ndarray]  # (K, ...) their payload
    counts: Counter
    killed: Counter
    broken: Index | None = None  # (W, V) designs that did better than their bounds: proof that a bound is wrong

    @classmethod
    def without_designs(cls, problem: Problem, index: Index, counts: Counter) -> Part:
        """No design of `index` was evaluated."""
        n_goals = len(problem.objectives)
        return cls(Table.empty(index.shape[1], n_goals, len(problem.constraint_names) + 1), np.empty((0, n_goals)), {}, counts, Counter())


def reduce_batch(problem: Problem, batch: Batch, index: Index, design_id: np.ndarray) -> Part:
    """Keep of a batch what can still matter. Runs in worker threads: it reads nothing that changes."""
    n_points = len(batch.design)
    columns = [batch.points[o.name] if n_points else np.empty(0) for o in problem.objectives]
    points = np.stack(columns, axis=1).astype(float)
    usable = np.asarray(batch.points.get("feasible", np.ones(n_points, bool)), bool)
    front = np.flatnonzero(usable)
    front = front[pareto.nondominated(points[front], maximised(problem))]
    design = np.asarray(batch.design)[front]
    values = np.where(np.isfinite(batch.objectives), batch.objectives, np.nan)
    broken = np.asarray(batch.violations, dtype=float)
    # A design for which nothing fits must not pass as feasible, whatever its named constraints say.
    unfit = np.isnan(values).any(axis=1) & ~(broken > 0).any(axis=1)
    rows = Table(design_id, index, values, np.column_stack([broken, unfit.astype(float)]))
    columns = {name: np.asarray(column)[front] for name, column in batch.points.items()}
    columns |= {
        "design_id": design_id[design],
        INDEX: index[design],
        VALUES: values[design],
        VIOLATIONS: rows.violations[design],
    }
    counts = Counter(
        n_designs=len(rows),
        n_feasible_designs=int((rows.violations <= 0).all(axis=1).sum()),
        n_layouts=int(batch.n_layouts),
        n_candidates=int(batch.n_candidates),
        n_feasible=int(batch.n_feasible),
    )
    return Part(rows, points[front], columns, counts, Counter(batch.killed))


def score(problem: Problem, index: Index, design_id: np.ndarray) -> Part:
    """Evaluate and reduce, in the problem's own way where it has one (`exclusion.Fenced`)."""
    own = getattr(problem, "score", None)
    if own is not None:
        return own(index, design_id)
    return reduce_batch(problem, problem.evaluate(index), index, design_id)


def pack(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """The rows and front candidates of some batches as named arrays, for a checkpoint."""
    if not parts:
        return {}
    rows = Table.union(part.rows for part in parts)
    arrays = {f"rows.{name}": column for name, column in vars(rows).items()}
    arrays["points"] = np.concatenate([part.objectives for part in parts])
    found = [part for part in parts if len(part.objectives)] or parts[:1]
    columns = {name: np.concatenate([part.columns[name] for part in found]) for name in found[0].columns}
    return arrays | {f"column.{name}": column for name, column in columns.items()}


def unpack(arrays: dict[str, np.ndarray]) -> Part | None:
    """The inverse of `pack`; None when it packed nothing. Counters are not part of it."""
    if "points" not in arrays:
        return None
    rows, columns = Table(**group(arrays, "rows.")), group(arrays, "column.")
    return Part(rows, arrays["points"], columns, Counter(), Counter())


def group(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
