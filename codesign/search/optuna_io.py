"""Designs as Optuna trials: search space, study, ask and tell, and continuing where a study was left."""

from __future__ import annotations

import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from codesign.search.problem import Index, Problem, Told, fingerprint
from codesign.spec.errors import UserError

CONSTRAINTS = "constraints"  # list that optuna-dashboard 0.21 reads; Optuna 5 writes `constraints:<name>`
_SPACE = "codesign:space"
_WORKER = "codesign:worker"
_OVER = "codesign:over"  # whether the run that began a shared study has ended
_WAITS_S = (1, 2, 4, 8, 15)  # before a storage that does not answer is asked again
_SQLITE_TRIALS = 2000  # SQLite takes 20 trials a second


def quiet() -> None:
    """Keep Optuna off the screen: its log, and its warnings of experimental interfaces and fallbacks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", module="optuna")


def space(problem: Problem) -> dict[str, BaseDistribution]:
    """One distribution per variable, over positions: integers where ordered, categories elsewhere."""
    return {v.name: _distribution(len(v.choices), v.ordered) for v in problem.variables}


def _distribution(n_choices: int, ordered: bool) -> BaseDistribution:
    return IntDistribution(0, n_choices - 1) if ordered else CategoricalDistribution(tuple(range(n_choices)))


def readable(problem: Problem, row: Sequence[int]) -> dict[str, Any]:
    """The values behind a row of positions, as JSON."""
    return {v.name: _json(v.choices[int(i)]) for v, i in zip(problem.variables, row, strict=True)}


def _json(choice: object) -> Any:
    return choice if choice is None or isinstance(choice, (bool, int, float, str)) else str(choice)


def _opened(storage: str | BaseStorage | None, tries: int = 5) -> BaseStorage | None:
    """The storage; of processes that come to an empty database together one makes its tables, and the others, who collide, come again."""
    for left in reversed(range(tries)):
        try:
            return _storage(storage)
        except Exception as error:
            if not left or not re.search("unique|already exists|duplicate", str(error), re.I):
                raise
            time.sleep(0.2 * (tries - left))
    return None


def open_study(
    problem: Problem,
    sampler: BaseSampler | None = None,
    storage: str | BaseStorage | None = None,
    name: str = "codesign",
    n_trials: int = 0,
) -> optuna.Study:
    """Create a study for the problem, or join the one of that name.

    `storage` is None (memory), `journal:PATH`, a URL (`grpc://HOST:PORT` is Optuna's proxy), or a storage.
    """
    quiet()
    place = re.sub(r"//[^/@]*@", "//***@", str(storage))  # passwords stay off the screen
    if isinstance(storage, str) and storage.startswith("sqlite") and n_trials > _SQLITE_TRIALS:
        raise UserError(
            f"SQLite stores about 20 trials a second; {n_trials} trials are too many for it",
            hint="use a journal file (--storage journal:PATH) or PostgreSQL",
        )
    try:
        study = optuna.create_study(
            storage=_opened(storage),
            sampler=sampler,
            study_name=name,
            load_if_exists=True,
            directions=[objective.direction for objective in problem.objectives],
        )
    except Exception as error:  # whatever the database driver raises, the user's URL is the cause
        raise UserError(f"cannot open the study {name!r} in {place}: {_masked(error, storage)}") from error
    known = study.user_attrs.get(_SPACE)
    if known is not None and known != fingerprint(problem):
        raise UserError(
            f"the study {name!r} in {place} belongs to a different search space, objectives or constraints",
            hint="use another study name or storage",
        )
    if known is None:
        study.set_metric_names([objective.name for objective in problem.objectives])
        for variable in problem.variables:
            study.set_user_attr(f"choices {variable.name}", [_json(choice) for choice in variable.choices])
        study.set_user_attr(_SPACE, fingerprint(problem))
    return study


def _masked(error: Exception, storage: object) -> str:
    """The error's text without the password that the storage URL may hold."""
    secret = re.search(r"//[^/@]*:([^/@]+)@", str(storage))
    return str(error).replace(secret[1], "***") if secret else str(error)


def _storage(url: str | BaseStorage | None) -> BaseStorage:
    if not isinstance(url, str):
        return url or optuna.storages.InMemoryStorage()
    if url.startswith("grpc://"):
        host, _, port = url.removeprefix("grpc://").partition(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
    path = url.removeprefix("journal:")
    if path != url or "://" not in url:
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        return JournalStorage(JournalFileBackend(path.removeprefix("//")))
    if url.startswith("postgresql://") and not find_spec("psycopg2"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)  # the driver that codesign[cluster] installs
    if url.startswith("postgresql"):  # a connection is tried before it is used: the server may have restarted
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True}))
    return optuna.storages.get_storage(url)


def patiently(call: Callable[[], Any]) -> Any:
    """`call`, again while the storage does not answer: a database may restart.  Then a UserError, for trials are safe in it."""
    for wait_s in (*_WAITS_S, None):
        try:
            return call()
        except optuna.exceptions.StorageInternalError as error:
            if wait_s is None:
                raise UserError(
                    f"the storage has not answered for {sum(_WAITS_S)} s: {error}",
                    hint="finished trials are safe in it; run the same command again when it is back",
                ) from error
            time.sleep(wait_s)


class TrialProposer:
    """Any Optuna sampler behind the interface `ask`, `tell`, `state`, `restore` of the search loop."""

    def __init__(
        self,
        problem: Problem,
        study: optuna.Study,
        constraint_names: Sequence[str],
        n_batch: int,
        shared: bool,
    ) -> None:
        self.study = study
        self._n_batch, self._n_told = n_batch, 0
        self._problem, self._space = problem, space(problem)
        self._constraint_names = tuple(constraint_names)
        self._shared = shared  # other processes work on this study, and people look at it while it runs
        self._pending: list[optuna.Trial] = []
        self._mine: set[int] = set()
        self._n_read = 0  # trials that `state` has reported
        self._study_attrs: dict[str, Any] = {}
        if shared:
            _bury(study)

    @property
    def n_batch(self) -> int:
        """Trials to ask for next: to a multiple of the batch, so that continued runs ask as unbroken ones."""
        return self._n_batch - self._n_told % self._n_batch

    @property
    def n_trials(self) -> int:
        """Finished trials of the study."""
        return len(patiently(partial(self.study.get_trials, deepcopy=False, states=(TrialState.COMPLETE,))))

    def enqueue(self, index: Index) -> None:
        """Propose these designs first."""
        for row in index:
            self.study.enqueue_trial(self._params(row))

    def ask(self, n: int) -> tuple[Index, NDArray[np.int64]]:
        """Positions and numbers of `n` new trials. (n, V), (n,)"""
        for _ in range(n):
            trial = patiently(self._ask_one)
            self._pending.append(trial)
            self._mine.add(trial.number)
        return self._rows(self._pending), np.array([trial.number for trial in self._pending], np.int64)

    def _ask_one(self) -> optuna.Trial:
        trial = self.study.ask(self._space)
        if self._shared:
            trial.set_user_attr(_WORKER, f"{socket.gethostname()}:{os.getpid()}")
        return trial

    def tell(self, index: Index, values: np.ndarray, violations: np.ndarray) -> None:
        """Finish the trials of the last `ask`."""
        rows = zip(self._pending, index, values.tolist(), violations.tolist(), strict=True)
        for row in rows:
            patiently(partial(self._tell_one, *row))
        self._n_told += len(self._pending)
        self._pending = []

    def _tell_one(self, trial: optuna.Trial, row: np.ndarray, value: list[float], broken: list[float]) -> None:
        """All of it may be repeated: a trial is finished by its last line, and once."""
        for name, amount in zip(self._constraint_names, broken, strict=True):
            trial.set_constraint(name, amount)
        if self._shared:  # for the dashboard; in memory nobody reads it and samplers count it twice
            self.study._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, broken)
            trial.set_user_attr("design", readable(self._problem, row))
        self.study.tell(trial, value, skip_if_finished=True)

    @property
    def is_over(self) -> bool:
        """Whether the run that began this study has ended."""
        return bool(patiently(lambda: self.study.user_attrs).get(_OVER))

    def declare(self, over: bool) -> None:
        """Write down whether the run goes on."""
        patiently(partial(self.study.set_user_attr, _OVER, over))

    def abandon(self) -> None:
        """Mark trials that were asked for and will not be told."""
        for trial in self._pending:
            self.study.tell(trial, state=TrialState.FAIL)
        self._pending = []

    def foreign(self) -> tuple[Index, NDArray[np.int64]]:
        """Positions and numbers of trials that others finished since the last call."""
        if not self._shared:
            return np.empty((0, len(self._space)), np.int64), np.empty(0, np.int64)
        finished = patiently(partial(self.study.get_trials, deepcopy=False, states=(TrialState.COMPLETE,)))
        done = [trial for trial in finished if trial.number not in self._mine]
        self._mine.update(trial.number for trial in done)
        return self._rows(done), np.array([trial.number for trial in done], np.int64)

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """What the study and its sampler hold beyond the told values, since the last call."""
        trials = self.study.get_trials(deepcopy=False)[self._n_read :]
        trials = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        self._n_read += len(trials)
        attrs = self.study._storage.get_study_system_attrs(self.study._study_id)
        changed = {name: value for name, value in attrs.items() if self._study_attrs.get(name) != value}
        self._study_attrs.update(changed)
        own = [_without_constraints(trial.system_attrs) for trial in trials]
        arrays, states = _generator_states(self.study.sampler)
        return arrays, {"trials": own, "study": changed, "generators": states}

    def restore(self, told: Sequence[Told], states: Sequence[tuple[dict[str, np.ndarray], dict]]) -> None:
        """Rebuild the study from what was told, batch by batch, and the states saved with it."""
        attrs = [own for _, meta in states for own in meta["trials"]]
        rows = [row for batch in told for row in zip(*batch, strict=True)]
        for (index, values, violations), own in zip(rows, attrs, strict=True):
            params, names = self._params(index), self._constraint_names
            trial = frozen_trial(params, self._space, values, violations, names, system_attrs=own)
            self.study.add_trial(trial)
        self._n_read = self._n_told = len(rows)
        self._mine.update(range(len(rows)))
        for _, meta in states:
            self._study_attrs.update(meta["study"])
        for name, value in self._study_attrs.items():
            self.study._storage.set_study_system_attr(self.study._study_id, name, value)
        _set_generator_states(self.study.sampler, *states[-1])

    def _params(self, row: Sequence[int]) -> dict[str, int]:
        return {name: int(position) for name, position in zip(self._space, row, strict=True)}

    def _rows(self, trials: Sequence[optuna.Trial | FrozenTrial]) -> Index:
        rows = [[trial.params[name] for name in self._space] for trial in trials]
        return np.array(rows, np.int64).reshape(-1, len(self._space))


def _without_constraints(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attrs.items() if not name.startswith(CONSTRAINTS)}


def frozen_trial(
    params: dict[str, int],
    distributions: dict[str, BaseDistribution],
    values: np.ndarray,
    violations: np.ndarray,
    constraint_names: Sequence[str],
    **attrs: dict,
) -> FrozenTrial:
    """A finished trial with named constraints."""
    constraints = dict(zip(constraint_names, np.asarray(violations).tolist(), strict=True))
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        values=np.asarray(values).tolist(),
        constraints=constraints,
        **attrs,
    )


def _bury(study: optuna.Study) -> None:
    """Fail trials that a dead process of this host left running; nobody will ever tell them."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = trial.user_attrs.get(_WORKER, ":").rpartition(":")
        if host == socket.gethostname() and not _alive(int(pid)):
            study.tell(trial.number, state=TrialState.FAIL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _generators(thing: object, found: set[int]) -> Iterator[np.random.RandomState | np.random.Generator]:
    """Every random generator inside a sampler, each once, in the order of its attributes."""
    if id(thing) in found:
        return
    found.add(id(thing))
    if isinstance(thing, (np.random.RandomState, np.random.Generator)):
        yield thing
        return
    if type(thing).__name__ == "LazyRandomState":  # creates its generator on first use
        yield from _generators(thing.rng, found)  # type: ignore[attr-defined]
    elif type(thing).__module__.startswith(("optuna", "codesign")) or isinstance(thing, BaseSampler):
        for value in list(getattr(thing, "__dict__", {}).values()):
            yield from _generators(value, found)


def _generator_states(sampler: BaseSampler) -> tuple[dict[str, np.ndarray], list[dict]]:
    arrays, states = {}, []
    for number, generator in enumerate(_generators(sampler, set())):
        legacy = isinstance(generator, np.random.RandomState)
        state = dict(generator.get_state(legacy=False) if legacy else generator.bit_generator.state)
        inner = dict(state["state"])
        if "key" in inner:  # 624 words: an array is a quarter of its JSON
            arrays[f"generator.{number}"] = inner.pop("key")
        states.append(state | {"state": inner})
    return arrays, states


def _set_generator_states(sampler: BaseSampler, arrays: dict[str, np.ndarray], meta: dict) -> None:
    pairs = zip(_generators(sampler, set()), meta["generators"], strict=True)
    for number, (generator, state) in enumerate(pairs):
        key = arrays.get(f"generator.{number}")
        state = state | {"state": state["state"] | ({} if key is None else {"key": key})}
        if isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
