"""Independent random points: the baseline that every other sampler should beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import RandomSampler

RESUMES = True
NEEDS = ()
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> RandomSampler:
    """With the options of optuna.samplers.RandomSampler."""
    from optuna.samplers import RandomSampler

    return construct(RandomSampler, seed, options)


def batch(sampler: RandomSampler) -> int:
    """Nothing is learned, so batches may be large."""
    return 200
