"""Designs are sampled; the evaluator sweeps every layout of each. For spaces too large to enumerate."""

from __future__ import annotations

from codesign.search.loop import Hooks, Settings, search
from codesign.search.outcome import SearchOutcome
from codesign.search.problem import Problem


def run(problem: Problem, settings: Settings | None = None, hooks: Hooks | None = None) -> SearchOutcome:
    """Sample designs: `problem.variables` are the design's, and a trial is a design with all its layouts."""
    return search(problem, settings or Settings(), hooks or Hooks(), "nested")
