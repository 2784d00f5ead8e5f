"""The genetic algorithm as an Optuna sampler, for studies that live in a storage or that Optuna drives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from codesign.search.ga import GeneticAlgorithm

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study


class GASampler(BaseSampler):
    """Deals out the generations of a `GeneticAlgorithm` one trial at a time.

    A generation is bred when the last one has been dealt, from every trial finished by then: with one process
    and batches of `engine.n_batch` that is exactly the algorithm; with several, late trials count for the
    generation after. Trials that are in the study already are learned from before the first is proposed.
    """

    def __init__(self, space: dict[str, BaseDistribution], engine: GeneticAlgorithm) -> None:
        self.engine = engine
        self._space = space
        self._told: set[int] = set()  # numbers of the trials that the engine has learned from

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every variable, always: inactive ones keep their fixed position."""
        return self._space

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The next design of the generation."""
        if self.engine.generation_dealt:
            self._learn(study)
        index, _ = self.engine.ask(1)
        if not len(index):
            return {}  # no new design can be found; the variables are drawn independently
        return {name: int(position) for name, position in zip(search_space, index[0], strict=True)}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """A random position, for a variable that the space does not know or a space that is exhausted."""
        n_choices = len(param_distribution.choices) if hasattr(param_distribution, "choices") else param_distribution.high + 1
        return int(self.engine.rng.integers(n_choices))

    def _learn(self, study: Study) -> None:
        """Tell the engine every finished trial that it does not know yet."""
        done = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.number not in self._told]
        if done:
            self._told.update(trial.number for trial in done)
            index = np.array([[trial.params[name] for name in self._space] for trial in done], np.int64)
            self.engine.tell(index, np.array([trial.values for trial in done]), _violations(done))


def _violations(trials: Sequence[FrozenTrial]) -> np.ndarray:
    """Constraints by name, (n, C), without those that the dashboard's list repeats under numbers."""
    named = [{key: value for key, value in trial.constraints.items() if not key.isdigit()} for trial in trials]
    names = sorted({key for constraints in named for key in constraints})
    return np.array([[constraints.get(name, 0.0) for name in names] for constraints in named]).reshape(len(trials), len(names))
