"""What the evaluator returns and what a run keeps: tables of evaluated designs with named, SI columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Batch:
    """Evaluation of A asked designs.

    points: columns (P,) of every non-dominated feasible point; design: (P,) row of the asked batch that each belongs to;
    objectives: (A, M) values of each design's representative point, NaN where nothing fits; violations: (A, C), finite,
    <= 0 feasible; killed: reason -> designs that died of it.
    """

    points: dict[str, np.ndarray]
    design: np.ndarray
    objectives: np.ndarray
    violations: np.ndarray
    n_layouts: int = 0
    n_candidates: int = 0
    n_feasible: int = 0
    killed: dict[str, int] = field(default_factory=dict)
