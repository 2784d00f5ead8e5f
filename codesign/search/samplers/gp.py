"""Gaussian process of Optuna: at most a few hundred very expensive evaluations; about 1 s per trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import GPSampler

RESUMES = False
NEEDS = ("torch",)
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> GPSampler:
    """With the options of optuna.samplers.GPSampler."""
    from optuna.samplers import GPSampler

    return construct(GPSampler, seed, options)


def batch(sampler: GPSampler) -> int:
    """A model is refitted after every trial."""
    return 1
