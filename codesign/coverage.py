"""How much of the space a run covers: designs evaluated, designs excluded by proof, and what the others could still add to the front."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign.problem import StudyProblem
from codesign.search import exclusion, pareto
from codesign.search.exclusion import Missing
from codesign.search.outcome import SearchOutcome


def coverage(outcome: SearchOutcome, problem: StudyProblem, space_rows: int, scale: pareto.Scaling | None) -> dict[str, Any]:
    """Entries of the manifest: rows covered, those of them excluded by a bound, and what could be missing."""
    return {
        "rows_covered": rows_covered(outcome, problem, space_rows),
        "rows_pruned_by_bound": outcome.n_excluded * problem.rows_per_design,
        "n_excluded": outcome.n_excluded,
        "missing_bound": missing_bound(outcome, problem, scale),
    }


def rows_covered(outcome: SearchOutcome, problem: StudyProblem, space_rows: int) -> int:
    """Layout rows that were tried or excluded before.  Designs count once, although trials may repeat one at another speed tier."""
    if outcome.exact:
        return space_rows
    if outcome.method == "joint":
        return min(outcome.n_designs * len(problem.layout_grids), space_rows)
    whole = outcome.method == "exhaustive" or outcome.sampled
    n = outcome.n_designs + outcome.n_excluded if whole else len(_evaluated(outcome, problem))
    return n * problem.rows_per_design


def missing_bound(outcome: SearchOutcome, problem: StudyProblem, scale: pareto.Scaling | None) -> dict[str, Any]:
    """`volume_share`: the most that could be missing, as a share of the hypervolume of the true front; `kind`: exact, bound (of every design
    that was not evaluated), estimate (of a sample of them) or none; `text`: the same in words."""
    if outcome.exact:
        return {"kind": "exact", "volume_share": 0.0, "n_left": 0, "text": "nothing"}
    if problem.unbounded:
        names = ", ".join(problem.unbounded)
        return _none(f"unknown: nothing bounds {names} before layouts are timed")
    if scale is None:
        return _none("unknown: no feasible point to compare with")
    front = np.stack([outcome.front[o.name] for o in problem.objectives], axis=1)
    known, n_skip = _evaluated(outcome, problem), 0
    if outcome.method == "exhaustive":
        known, n_skip = known[:0], outcome.n_trials
    found = exclusion.missing(problem, front, scale, known, n_skip)
    return _none("nothing is left to look at") if found is None else _in_words(found)


def _none(text: str) -> dict[str, Any]:
    return {"kind": "none", "volume_share": None, "n_left": None, "text": text}


def _evaluated(outcome: SearchOutcome, problem: StudyProblem) -> np.ndarray:
    """Designs of which every layout was tried, each once (N, V)."""
    index = outcome.designs.index[:, : len(problem.variables)]
    return index[:0] if outcome.method == "joint" else np.unique(index, axis=0)


def _in_words(found: Missing) -> dict[str, Any]:
    share, kind = found.volume_share, "bound" if found.is_bound else "estimate"
    basis = "the designs not evaluated" if found.is_bound else f"{found.n_looked_at:,} random designs"
    text = f"bounds exclude {found.excluded_share:.0%} of {basis}"
    if found.n_left == 0:
        text = "nothing: bounds exclude all designs that were not evaluated"
    elif share is not None:
        limit = "at most" if found.is_bound else "perhaps"
        text += f"; the others could add {limit} {share:.0%} of the hypervolume" + ("" if found.is_bound else " (of a sample: no bound)")
    return {"kind": kind, "volume_share": share, "n_left": found.n_left, "excluded_share": found.excluded_share, "text": text}
