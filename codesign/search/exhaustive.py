"""Every design, no sampler: the ground truth that the sampled methods are measured against."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from codesign.search.checkpoint import Checkpoint
from codesign.search.crew import Crew, Job, crew
from codesign.search.designs import Sample, Table
from codesign.search.evaluation import Part, group, pack, unpack
from codesign.search.exclusion import Fence, Fenced, can_exclude, fence_of
from codesign.search.outcome import Progress, SearchOutcome, Tracker, interruptible
from codesign.search.pareto import Scaling
from codesign.search.problem import Problem, fingerprint

COMPLETE, COVERED = "every design evaluated", "every design evaluated, or excluded by a bound"
CHUNK, LEAST_CHUNK = 4096, 128  # designs that a worker scores at once
FENCED_CHUNK = 16384  # where bounds leave few of them
TABLE_ROWS = 200_000  # evaluated designs kept beside the front


def run(
    problem: Problem,
    *,
    chunk: int | None = None,
    workers: int | None = None,
    dask: str | None = None,
    time_limit_s: float | None = None,
    reference: Scaling | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    checkpoint: str | Path | None = None,
    n_rows: int = TABLE_ROWS,
    exclude: bool = True,
) -> SearchOutcome:
    """Evaluate all that `problem.enumerate(chunk)` yields, chunks in parallel, merged in order.

    `design_id` is the position in the enumeration. Ctrl-C, `stop` and the time limit end at a chunk boundary,
    with what there is. `chunk` is how many designs a worker scores at once (by default an eighth of a small space, so that all
    cores have something to do; larger chunks share more parts between designs). With `checkpoint`, a file, an interrupted enumeration continues where its last record
    ended. `workers`: so many processes instead of a thread per core; `dask`: the cluster of this scheduler.
    """
    n_designs, fenced = getattr(problem, "n_designs", None), exclude and can_exclude(problem)
    chunk = chunk or min(FENCED_CHUNK if fenced else CHUNK, max(LEAST_CHUNK, (n_designs or CHUNK * 8) // 8))
    tracker = Tracker(problem, reference, progress, n_designs)
    state = _State(Sample(tracker.closest, n_rows), saving=checkpoint is not None)
    log = None
    if checkpoint is not None:
        identity = {"method": "exhaustive", "chunk": chunk, "space": fingerprint(problem)}
        log = Checkpoint(checkpoint, identity | ({"bounds": True} if fenced else {}))
        state.restore(tracker, log)
    try:
        reason = _enumerate(problem, chunk, fenced, state, tracker, log, (workers, dask), stop, time_limit_s)
    except KeyboardInterrupt:
        # A second Ctrl-C may have cut a chunk in two: nothing of it is saved, so it will be done again.
        reason = "interrupted"
    tracker.report(state.n_seen, force=True)
    return _outcome(problem, state, tracker, log, reason)


def _enumerate(problem, chunk, fenced, state: _State, tracker: Tracker, log: Checkpoint | None, hands, stop, time_limit_s) -> str:
    """Score the chunks that are left, behind a fence where one pays; why it ended."""
    with interruptible() as pressed:

        def halt() -> str | None:
            return _halt(pressed, stop, tracker, time_limit_s)

        if fenced and state.fence is None and not halt():
            state.build_fence(problem, tracker, log)
        behind = Fenced(problem, state.fence) if state.fence is not None and len(state.fence.points) else problem
        with crew(behind, *hands) as working:
            parts = _Stream(problem, chunk, state.n_chunks, state.n_seen, working)
            try:
                return _take_all(parts, state, tracker, log, halt)
            finally:
                parts.cancel()


def _outcome(problem: Problem, state: _State, tracker: Tracker, log: Checkpoint | None, reason: str) -> SearchOutcome:
    """Close the books.  A bound that a design broke proves that others may be wrong: the front is then not called exact."""
    n_broken = tracker.counts["n_broken"]
    complete = reason == COMPLETE
    if complete and tracker.counts["n_excluded"]:
        reason = COVERED
    notes = [log.note] if log and log.note else []
    if n_broken:
        first = (
            {v.name: v.choices[int(i)] for v, i in zip(problem.variables, state.broken, strict=True)} if state.broken is not None else ""
        )
        notes.append(f"a bound is wrong, please report it: {n_broken:,} designs did better than their bounds; the first {first}")
    return tracker.outcome(
        state.sample.table,
        sampled=state.n_seen > state.sample.cap,
        method="exhaustive",
        exact=complete and not n_broken,
        stop_reason=reason,
        interrupted=reason == "interrupted",
        n_trials=state.n_seen,
        notes=notes,
    )


def _take_all(parts: _Stream, state: _State, tracker: Tracker, log: Checkpoint | None, halt: Callable[[], str | None]) -> str:
    """Take in chunk after chunk until there are no more or `halt` gives a reason; the reason."""
    reason = None
    for part in parts:
        if reason := halt():
            break
        state.take(tracker, part)
        if log and log.due:
            log.append(*state.record(tracker))
    if log:
        log.append(*state.record(tracker))
    return reason or COMPLETE


def _halt(pressed: Event, stop: Callable[[], bool] | None, tracker: Tracker, time_limit_s: float | None) -> str | None:
    if pressed.is_set():
        return "interrupted"
    if stop is not None and stop():
        return "stopped"
    return "time limit" if time_limit_s is not None and tracker.seconds_here >= time_limit_s else None


class _Stream:
    """Scored chunks in the order of the enumeration, a few ahead of the reader."""

    def __init__(
        self,
        problem: Problem,
        chunk: int,
        n_skip: int,
        n_before: int,
        hands: Crew,
    ) -> None:
        self._hands = hands
        self._chunks = enumerate(problem.enumerate(chunk))
        self._n_skip = n_skip
        self._position = n_before  # of the next design in the enumeration
        self._ahead: deque[Job | None] = deque()  # None: a chunk without designs
        self._n_ahead = 2 * hands.n_workers

    def _submit(self) -> None:
        while len(self._ahead) < self._n_ahead:
            number, index = next(self._chunks, (None, None))
            if index is None:
                return
            if number >= self._n_skip:
                ids = np.arange(self._position, self._position + len(index))
                self._position += len(index)
                self._ahead.append(self._hands.submit(index, ids) if len(index) else None)

    def __iter__(self) -> Iterator[Part | None]:
        self._submit()
        while self._ahead:
            job = self._ahead.popleft()
            yield self._hands.result(job) if job else None
            self._submit()

    def cancel(self) -> None:
        """Drop what was not started."""
        for job in self._ahead:
            if job:
                job.future.cancel()


@dataclass
class _State:
    """Where an enumeration stands, and what it has found since the last checkpoint."""

    sample: Sample
    saving: bool  # whether records will be asked for
    n_chunks: int = 0
    n_seen: int = 0

    fence: Fence | None = None
    broken: np.ndarray | None = None  # (V,) a design that did better than its bound

    def __post_init__(self) -> None:
        self._unsaved: list[Part] = []

    def build_fence(self, problem: Problem, tracker: Tracker, log: Checkpoint | None) -> None:
        """Find the fence and write it down, empty where it does not pay."""
        self.fence = fence_of(problem) or Fence(np.empty((0, len(problem.objectives))))
        if log:
            arrays, meta = self.record(tracker)
            log.append(arrays | {"fence.points": self.fence.points}, meta)

    def take(self, tracker: Tracker, part: Part | None) -> None:
        self.n_chunks += 1
        if part is None:
            return
        self.n_seen += part.counts["n_designs"] + part.counts["n_excluded"]
        tracker.absorb(part)
        if self.broken is None and part.broken is not None and len(part.broken):
            self.broken = part.broken[0]
        part.rows = part.rows.take(self.sample.chosen(part.rows.design_id))
        self.sample.add(part.rows)
        if self.saving:
            self._unsaved.append(part)
        tracker.mark()
        tracker.report(self.n_seen)

    def record(self, tracker: Tracker) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and JSON of everything since the last record."""
        parts, self._unsaved = self._unsaved, []
        arrays = pack(parts) | {f"closest.{name}": column for name, column in vars(tracker.closest).items()}
        return arrays, {"tracker": tracker.state(), "n_chunks": self.n_chunks, "n_seen": self.n_seen}

    def restore(self, tracker: Tracker, log: Checkpoint) -> None:
        """Replay the records of `log`."""
        for arrays, meta in log.records:
            tracker.closest = Table(**group(arrays, "closest."))
            if "fence.points" in arrays:
                self.fence = Fence(arrays["fence.points"])
            if part := unpack(arrays):
                self.sample.add(part.rows)
                tracker.archive.add(part.objectives, None, part.columns)
            self.n_chunks, self.n_seen = meta["n_chunks"], meta["n_seen"]
            tracker.restore(meta["tracker"])
        log.records.clear()
