"""Quasi-random (Sobol) points of Optuna: an even cover of the space, no learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import QMCSampler

RESUMES = True
NEEDS = ()
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> QMCSampler:
    """With the options of optuna.samplers.QMCSampler."""
    from optuna.samplers import QMCSampler

    return construct(QMCSampler, seed, options, scramble=True, warn_asynchronous_seeding=False)


def batch(sampler: QMCSampler) -> int:
    """Nothing is learned, so batches may be large."""
    return 200
