"""The sampled search, shared by `nested` and `joint`: ask for a batch, evaluate what is new, tell all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codesign.search import samplers
from codesign.search.checkpoint import Checkpoint
from codesign.search.crew import Crew, crew
from codesign.search.designs import Known, Table
from codesign.search.evaluation import INDEX, VALUES, VIOLATIONS, Part, group, pack, unpack
from codesign.search.outcome import Progress, SearchOutcome, Tracker, interruptible
from codesign.search.pareto import Scaling, nondominated
from codesign.search.problem import Index, Problem, Told, fingerprint, sizes

_BARREN_BATCHES, _BARREN_TRIALS = 5, 200  # so many without a new design, and more will not bring one
_NONE_VALUE = 0.0  # told where nothing fits and no value was ever seen; the violation is what ranks it


@dataclass(frozen=True)
class Settings:
    """How to sample. `trials` counts proposals; None means until another limit."""

    sampler: str = "ga"
    options: dict[str, Any] = field(default_factory=dict)
    trials: int | None = 2000
    seed: int = 0
    time_limit_s: float | None = None
    batch: int | None = None  # trials asked for together; None: what suits the sampler
    flat_gain: float | None = None  # stop when the hypervolume rose by less in the last 30 % of evaluations


@dataclass(frozen=True)
class Hooks:
    """What a caller may plug in."""

    reference: Scaling | None = None  # scale of the hypervolume; without one it is that of the first front
    progress: Progress | None = None
    stop: Callable[[], bool] | None = None
    warm_start: Index | None = None  # designs to propose first
    checkpoint: str | Path | None = None  # file to continue from and to save to
    storage: str | None = None  # Optuna storage used directly instead of memory and checkpoint
    study_name: str = "codesign"
    joins: bool = False  # this process helps a run that another one began in the storage, and ends with it
    workers: int | None = None  # processes that score designs; None: threads, one per core
    dask: str | None = None  # address of a Dask scheduler whose workers score designs
    proposer: Any = None  # takes the place of the sampler: ask, tell, enqueue, n_batch (scripts/bench_search.py compares others so)


def search(problem: Problem, settings: Settings, hooks: Hooks, method: str) -> SearchOutcome:
    """Run to a limit, a flat hypervolume, an exhausted space, `stop` or Ctrl-C, and to the end of a batch."""
    run = _Run(problem, settings, hooks)
    with interruptible() as pressed, crew(problem, hooks.workers, hooks.dask) as run.crew:
        try:
            run.resume()
            while (reason := run.halt(pressed.is_set())) is None:
                run.step()
            run.save()
            run.declare(over=reason != "interrupted")
        except KeyboardInterrupt:
            # A second Ctrl-C cuts a batch in two. What is half done is not saved and will be done again.
            reason = "interrupted"
            run.abandon()
    return run.outcome(method, reason)


def _with_points(told: Told, parts: list[Part], maximise: Sequence[bool]) -> Told:
    """What is told of designs, and a row more for each further point of theirs that no other of the batch beats."""
    parts = [part for part in parts if len(part.objectives)]
    if not parts:
        return told
    points, index, values, violations = (
        np.concatenate([*columns])
        for columns in zip(*((p.objectives, *(p.columns[name] for name in (INDEX, VALUES, VIOLATIONS))) for p in parts), strict=True)
    )
    # a part knows only its own slice of the batch: looked at together, so that the number of slices changes nothing
    more = nondominated(points, maximise) & (points != values).any(axis=1)
    extra = index[more], points[more], violations[more]
    return tuple(np.concatenate(pair) for pair in zip(told, extra, strict=True))


class _Run:
    """One search in progress."""

    crew: Crew

    def __init__(self, problem: Problem, settings: Settings, hooks: Hooks) -> None:
        self._problem, self._settings, self._hooks = problem, settings, hooks
        self._tracker = Tracker(problem, hooks.reference, hooks.progress, settings.trials)
        self._known = Known(sizes(problem), len(problem.objectives), len(self._tracker.constraint_names))
        self._worst = np.full(len(problem.objectives), -np.inf)  # of each objective, minimised
        self._sign = np.where(self._tracker.maximise, -1.0, 1.0)
        self.proposer = hooks.proposer or samplers.proposer(
            problem, settings, self._tracker.constraint_names, hooks.storage, hooks.study_name
        )
        self._shared = hooks.storage is not None
        identity = {
            "method": "sampled",
            "space": fingerprint(problem),
            "sampler": settings.sampler,
            "options": settings.options,
            "seed": settings.seed,
            "batch": settings.batch,
        }
        self._log = Checkpoint(hooks.checkpoint, identity) if hooks.checkpoint and not self._shared else None
        self._unsaved: list[tuple[tuple[np.ndarray, ...], list[Part]]] = []
        self.n_trials = 0
        self._n_barren_batches = self._n_barren_trials = 0
        self._exhausted = False
        self._notes: list[str] = [self._log.note] if self._log and self._log.note else []
        self._n_space: int | None = getattr(problem, "n_designs", None)

    def halt(self, pressed: bool) -> str | None:
        """Why the search should end now, or None."""
        settings, tracker = self._settings, self._tracker
        barren = self._n_barren_batches >= _BARREN_BATCHES and self._n_barren_trials >= _BARREN_TRIALS
        late = settings.time_limit_s is not None and tracker.seconds_here >= settings.time_limit_s
        reasons = (
            ("interrupted", pressed),
            ("the run that it joined is over", self._hooks.joins and self.proposer.is_over),
            ("stopped", self._hooks.stop is not None and self._hooks.stop()),
            ("trials reached", settings.trials is not None and self.n_trials >= settings.trials),
            ("every design evaluated", self._complete),
            ("no new design found", self._exhausted),
            ("the sampler only repeats designs", barren),
            ("time limit", late),
            ("hypervolume flat", settings.flat_gain is not None and tracker.flat(settings.flat_gain)),
        )
        return next((reason for reason, applies in reasons if applies), None)

    @property
    def _complete(self) -> bool:
        return self._n_space is not None and len(self._known) >= self._n_space

    def step(self) -> None:
        """One batch."""
        n = self.proposer.n_batch
        if self._settings.trials is not None:
            n = min(n, self._settings.trials - self.n_trials)
        index, numbers = self.proposer.ask(n)
        self._exhausted = not len(index)
        if self._exhausted:
            return
        parts = self._evaluate(index, numbers)
        told = (index, *self._values(index))
        if getattr(self.proposer, "takes_points", False):
            told = _with_points(told, parts, self._tracker.maximise)
        self.proposer.tell(*told)
        self.n_trials += len(index)
        n_new = sum(len(part.rows) for part in parts)
        self._n_barren_batches = 0 if n_new else self._n_barren_batches + 1
        self._n_barren_trials = 0 if n_new else self._n_barren_trials + len(index)
        if self._shared:
            self._join()
        self._tracker.mark()
        if self._log:
            self._unsaved.append((told, parts))
            if self._log.due:
                self.save()
        self._tracker.report(self.n_trials)

    def _evaluate(self, index: Index, numbers: np.ndarray) -> list[Part]:
        """Score the valid designs that are not known yet, each once."""
        index = self._problem.canonical(index)
        valid = self._problem.valid(index)
        if not valid.all():
            self._tracker.killed["where"] += int((~valid).sum())
        new = np.flatnonzero(valid & (self._known.find(index) < 0))
        new = new[self._known.first_of_each(index[new])]
        if not len(new):
            return []
        parts = self.crew.score_all(index[new], numbers[new])
        for part in parts:
            self._tracker.absorb(part)
            self._learn(part.rows)
        return parts

    def _learn(self, rows: Table) -> None:
        self._known.add(rows)
        values = np.where(np.isfinite(rows.objectives), rows.objectives * self._sign, -np.inf)
        self._worst = np.maximum(self._worst, values.max(axis=0, initial=-np.inf))

    def _values(self, index: Index) -> tuple[np.ndarray, np.ndarray]:
        """What to tell of each design: objectives (n, M), signed violations (n, C + 1).

        Optuna accepts no NaN. Where nothing fits, the value told is the worst that any design has had so far,
        and a positive violation says that it is not to be believed. Repeated designs are told what is known.
        """
        row = self._known.find(self._problem.canonical(index))
        known, table = row >= 0, self._known.table
        values = np.full((len(index), len(self._sign)), np.nan)
        violations = np.zeros((len(index), table.violations.shape[1]))
        violations[~known, -1] = 1.0
        values[known], violations[known] = table.objectives[row[known]], table.violations[row[known]]
        worst = np.where(np.isfinite(self._worst), self._worst * self._sign, _NONE_VALUE)
        return np.where(np.isnan(values), worst, values), violations

    def _join(self) -> None:
        """Take in what others finished in a shared study; evaluating again is cheaper than storing points."""
        index, numbers = self.proposer.foreign()
        if len(index):
            self._evaluate(index, numbers)
        self.n_trials = self.proposer.n_trials

    def resume(self) -> None:
        """Continue from the checkpoint or the shared study, then propose what is left of the warm start."""
        told = []
        for arrays, meta in self._log.records if self._log else ():
            told.append(tuple(group(arrays, "told.").values()))
            if part := unpack(arrays):
                self._tracker.archive.add(part.objectives, None, part.columns)
                self._tracker.consider(part.rows)
                self._learn(part.rows)
            self._tracker.restore(meta["tracker"])
            self.n_trials = meta["n_trials"]
            self._n_barren_batches, self._n_barren_trials = meta["barren"]
        if told:
            states = [(group(arrays, "state."), meta["proposer"]) for arrays, meta in self._log.records]
            self.proposer.restore(told, states)
            self._log.records.clear()
            if not samplers.resumes(name := self._settings.sampler):
                self._notes.append(f"the state of {name} cannot be saved: continued, not repeated exactly")
        if self._shared:
            self.declare(over=False)
            self._join()
        if self._hooks.warm_start is not None:
            self.proposer.enqueue(self._hooks.warm_start[self.n_trials :])

    def save(self) -> None:
        """Write what happened since the last record."""
        if not self._log or not self._unsaved:
            return
        columns = zip(*(told for told, _ in self._unsaved), strict=True)
        index, values, violations = (np.concatenate(column) for column in columns)
        arrays = {"told.index": index, "told.values": values, "told.violations": violations}
        arrays |= pack([part for _, parts in self._unsaved for part in parts])
        state, meta = self.proposer.state()
        arrays |= {f"state.{name}": array for name, array in state.items()}
        meta = {"tracker": self._tracker.state(), "proposer": meta, "n_trials": self.n_trials}
        self._log.append(arrays, meta | {"barren": [self._n_barren_batches, self._n_barren_trials]})
        self._unsaved = []

    def declare(self, over: bool) -> None:
        """Tell the processes that joined whether there is anything left to do."""
        if self._shared and not self._hooks.joins:
            self.proposer.declare(over)

    def abandon(self) -> None:
        """Release trials that were asked for and will not be told, which others would wait for."""
        if self._shared:
            self.proposer.abandon()

    def outcome(self, method: str, reason: str) -> SearchOutcome:
        """Close the books."""
        outcome = self._tracker.outcome(
            self._known.table,
            sampled=False,
            method=method,
            exact=self._complete,
            stop_reason=reason,
            interrupted=reason == "interrupted",
            n_trials=self.n_trials,
            study=getattr(self.proposer, "study", None),
            notes=self._notes,
        )
        self._tracker.report(self.n_trials, force=True)
        return outcome
