"""What a search returns, and the bookkeeping of every method: archive, counters, history, progress."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from codesign.search import pareto
from codesign.search.designs import Table
from codesign.search.evaluation import EXTRA, INDEX, VALUES, VIOLATIONS, Part
from codesign.search.problem import Index, Problem, maximised

if TYPE_CHECKING:
    import optuna

# done, total, n_front, hypervolume, layouts_per_s
Progress = Callable[[int, int | None, int, float, float], None]

COUNTS = ("n_designs", "n_feasible_designs", "n_layouts", "n_candidates", "n_feasible", "n_excluded")
_REPORT_S = 0.2  # at most five progress calls a second
_MARK_GROWTH = 1.05  # of the evaluations between entries of the history: not of time, so that it repeats


@dataclass
class SearchOutcome:
    """The result of one search, the same for every method."""

    method: str
    exact: bool  # every valid design was evaluated
    stop_reason: str
    interrupted: bool
    seconds: float
    front: dict[str, np.ndarray]  # columns of the archived Pareto front, with design_id
    front_index: Index  # (F, V) design of each front row
    designs: Table  # evaluated designs, with representative objectives and violations; see `sampled`
    sampled: bool  # `designs` is an even sample that holds at least every design of the front
    closest: Table  # one row (none before the first batch): the design that violates least
    n_designs: int  # distinct designs evaluated
    n_feasible_designs: int
    n_trials: int  # designs proposed, repeated and invalid ones included
    n_layouts: int
    n_candidates: int
    n_feasible: int
    n_excluded: int  # designs that were not evaluated, because a bound proves that they cannot reach the front
    killed: dict[str, int]
    history: list[tuple[int, float, float]]  # (evaluations, seconds, hypervolume)
    scaling: pareto.Scaling | None  # given, or frozen early in the run; None while nothing feasible was found
    constraint_names: tuple[str, ...]  # columns of designs.violations
    study: optuna.Study | None = None
    seconds_before: float = 0.0  # of `seconds`, those of the runs that this one resumed
    notes: list[str] = field(default_factory=list)


class Tracker:
    """Archive, counters, hypervolume history and progress of a running search."""

    def __init__(
        self,
        problem: Problem,
        reference: pareto.Scaling | None = None,
        progress: Progress | None = None,
        total: int | None = None,
    ) -> None:
        self.maximise = maximised(problem)
        self.archive = pareto.Archive(self.maximise)
        self.closest = Table.empty(len(problem.variables), len(problem.objectives), len(problem.constraint_names) + 1)
        self.constraint_names = (*problem.constraint_names, EXTRA)
        self.counts: Counter = Counter()
        self.killed: Counter = Counter()
        self.history: list[tuple[int, float, float]] = []
        self.scaling = reference
        self.seconds_before = 0.0  # time spent by the runs that this one resumes
        self._progress = progress
        self._total = total
        self._start = time.perf_counter()
        self._reported = 0.0
        self._next_mark = 1.0

    @property
    def seconds(self) -> float:
        """Wall time of the search so far, resumed runs included."""
        return self.seconds_before + self.seconds_here

    @property
    def seconds_here(self) -> float:
        """Wall time of this process."""
        return time.perf_counter() - self._start

    def absorb(self, part: Part) -> None:
        """Take in one evaluated batch."""
        self.archive.add(part.objectives, None, part.columns)
        self.counts.update(part.counts)
        self.killed.update(part.killed)
        self.consider(part.rows)

    def consider(self, rows: Table) -> None:
        """Keep the design that violates least, first come first kept."""
        if len(rows):
            best = rows.take(np.argmin(_excess(rows), keepdims=True))
            if not len(self.closest) or _excess(best)[0] < _excess(self.closest)[0]:
                self.closest = best

    def mark(self, force: bool = False) -> None:
        """Append to the history when enough evaluations have passed since its last entry."""
        n = self.counts["n_designs"]
        due = n >= self._next_mark or (force and (not self.history or self.history[-1][0] < n))
        if not due or n == 0:
            return
        if self.scaling is None and len(self.archive) > (0 if force else len(self.maximise)):
            self.scaling = pareto.scaling(self.archive.objectives, self.maximise)
        if self.scaling is not None:
            volume = pareto.hypervolume(self.archive.objectives, self.scaling, exact=False)
            self.history.append((n, self.seconds, volume))
        if not force:  # a forced entry is where a run ended; resumed, it keeps the schedule of an unbroken one
            self._next_mark = max(n + 1.0, n * _MARK_GROWTH)

    @property
    def hypervolume(self) -> float:
        """The latest entry of the history; 0 before the first."""
        return self.history[-1][2] if self.history else 0.0

    def flat(self, gain: float, share: float = 0.3, n_least: int = 500) -> bool:
        """Whether the hypervolume rose by less than `gain` of itself in the last `share` of evaluations."""
        n = self.counts["n_designs"]
        before = [value for count, _, value in self.history if count <= (1 - share) * n]
        return bool(n >= n_least and before and 0.0 < self.hypervolume <= before[-1] + gain * self.hypervolume)

    def report(self, done: int, force: bool = False) -> None:
        """Call the progress hook, at most five times a second and never for more than a tenth of the time."""
        now, at_end = time.perf_counter(), self._total is not None and done >= self._total
        if self._progress is None or ((now < self._reported or at_end) and not force):
            return  # the end is reported once, with the hypervolume that is saved
        rate = self.counts["n_layouts"] / max(self.seconds, 1e-9)
        self._progress(done, self._total, len(self.archive), self.hypervolume, rate)
        self._reported = max(now + _REPORT_S, now + 10 * (time.perf_counter() - now))

    def state(self) -> dict:
        """Everything but the archive, for a checkpoint."""
        return {
            "counts": dict(self.counts),
            "killed": dict(self.killed),
            "history": self.history,
            "seconds": self.seconds,
            "scaling": self.scaling.to_dict() if self.scaling else None,
            "next_mark": self._next_mark,
        }

    def restore(self, state: dict) -> None:
        """The inverse of `state`, before the search continues."""
        self.counts, self.killed = Counter(state["counts"]), Counter(state["killed"])
        self.history = [(int(n), seconds, value) for n, seconds, value in state["history"]]
        self.seconds_before, self._next_mark = state["seconds"], state["next_mark"]
        if self.scaling is None and state["scaling"]:
            self.scaling = pareto.Scaling.from_dict(state["scaling"])

    def outcome(self, designs: Table, sampled: bool, **rest: object) -> SearchOutcome:
        """Close the books."""
        self.mark(force=True)
        front = self.archive.front()
        index = designs.index[:0]
        if front:  # no columns are known before the first batch
            index = front.pop(INDEX)
            of_front = Table(front["design_id"], index, front.pop(VALUES), front.pop(VIOLATIONS))
            designs = Table.union([designs, of_front]) if sampled else designs
        counts = {name: self.counts[name] for name in COUNTS}
        return SearchOutcome(
            front=front,
            front_index=index,
            designs=designs,
            sampled=sampled,
            closest=self.closest,
            seconds=self.seconds,
            seconds_before=self.seconds_before,
            killed=dict(self.killed),
            history=self.history,
            scaling=self.scaling,
            constraint_names=self.constraint_names,
            **counts,
            **rest,
        )


def _excess(rows: Table) -> np.ndarray:
    """Total violation, (N,)."""
    return np.maximum(rows.violations, 0.0).sum(axis=1)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a search can finish its batch; the second one raises."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def handler(_signal: int, _frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
