"""NSGA-III of Optuna (Deb and Jain 2014, doi:10.1109/TEVC.2013.2281535), for three and more objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import NSGAIIISampler

RESUMES = True
NEEDS = ()
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> NSGAIIISampler:
    """With the options of optuna.samplers.NSGAIIISampler."""
    from optuna.samplers import NSGAIIISampler

    return construct(NSGAIIISampler, seed, options)


def batch(sampler: NSGAIIISampler) -> int:
    """One generation."""
    return sampler.population_size or 1
