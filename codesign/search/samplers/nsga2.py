"""NSGA-II of Optuna (Deb et al. 2002, doi:10.1109/4235.996017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import NSGAIISampler

RESUMES = True
NEEDS = ()
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> NSGAIISampler:
    """With the options of optuna.samplers.NSGAIISampler."""
    from optuna.samplers import NSGAIISampler

    return construct(NSGAIISampler, seed, options)


def batch(sampler: NSGAIISampler) -> int:
    """One generation."""
    return sampler.population_size or 1
