"""CMA-ES of Optuna (arXiv:1604.00772), for one objective on ordered variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import CmaEsSampler

RESUMES = False
NEEDS = ("cmaes",)
MAX_OBJECTIVES = 1


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> CmaEsSampler:
    """With the options of optuna.samplers.CmaEsSampler."""
    from optuna.samplers import CmaEsSampler

    return construct(CmaEsSampler, seed, options)


def batch(sampler: CmaEsSampler) -> int:
    """Trials of one CMA-ES generation; more would only wait for it."""
    return 10
