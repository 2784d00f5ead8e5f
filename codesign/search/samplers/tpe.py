"""Tree-structured Parzen estimator of Optuna (arXiv:2304.11127), for few trials; about 20 ms per trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.search.problem import Problem
from codesign.search.samplers import construct

if TYPE_CHECKING:
    from optuna.samplers import TPESampler

RESUMES = True
NEEDS = ()
MAX_OBJECTIVES = None


def build(problem: Problem, seed: int | None, options: dict[str, Any]) -> TPESampler:
    """With the options of optuna.samplers.TPESampler."""
    from optuna.samplers import TPESampler

    return construct(TPESampler, seed, options, multivariate=True, group=True, constant_liar=True)


def batch(sampler: TPESampler) -> int:
    """A model is refitted after every trial."""
    return 1
