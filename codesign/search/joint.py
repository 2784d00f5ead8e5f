"""Designs and layouts are sampled together, in one flat space."""

from __future__ import annotations

from codesign.search.loop import Hooks, Settings, search
from codesign.search.outcome import SearchOutcome
from codesign.search.problem import Problem


def run(problem: Problem, settings: Settings | None = None, hooks: Hooks | None = None) -> SearchOutcome:
    """Sample flat designs: `problem.variables` include the layout's. The loop is that of `nested`."""
    return search(problem, settings or Settings(), hooks or Hooks(), "joint")
