"""Who scores designs: threads of this process, processes of this machine, or the workers of a Dask cluster.

All three take slices of designs and give back reduced parts; the search merges them in order, so a front does not depend on who
found it. A worker that dies costs the slices that it was scoring, and those are given out again: a slice is merged once, when it
arrives, and never twice.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.search.evaluation import Part, n_cores, score
from codesign.search.problem import Index, Problem
from codesign.spec.errors import UserError

_ATTEMPTS = 5  # times that one slice is given out before the workers count as broken
_LEAST_SLICE = 256  # designs for which a worker is worth its overhead
_TIMEOUT_S = 20  # for a Dask scheduler to answer


@dataclass
class Job:
    """One slice of designs, given to a worker."""

    index: Index
    design_id: np.ndarray
    future: Future
    n_attempts: int = 1


class Crew:
    """Threads: they share the problem, and numpy lets them run side by side."""

    def __init__(self, problem: Problem, n_workers: int | None = None) -> None:
        self.n_workers = n_workers or n_cores()
        self._problem = problem
        self._pool = self._hire()

    def _hire(self) -> Executor:
        return ThreadPoolExecutor(self.n_workers)

    def _call(self, index: Index, design_id: np.ndarray) -> Future:
        return self._pool.submit(score, self._problem, index, design_id)

    def submit(self, index: Index, design_id: np.ndarray) -> Job:
        """Have designs scored."""
        return Job(index, design_id, self._call(index, design_id))

    def result(self, job: Job) -> Part:
        """The reduced result of a job, given out again where its worker died."""
        while True:
            try:
                return job.future.result()
            except Exception as error:
                if not self._lost(error):
                    raise
                if job.n_attempts >= _ATTEMPTS:
                    raise UserError(
                        f"workers died {_ATTEMPTS} times over the same {len(job.index)} designs: {error}",
                        hint="is there enough memory? What was found is saved: run again with fewer workers",
                    ) from error
                self._replace_dead()
                job.future, job.n_attempts = self._call(job.index, job.design_id), job.n_attempts + 1

    def _lost(self, error: Exception) -> bool:
        """Whether the error is a worker's death and not the evaluator's."""
        return isinstance(error, BrokenExecutor)

    def _replace_dead(self) -> None:
        """Make sure that the next job finds a worker."""

    def score_all(self, index: Index, design_id: np.ndarray) -> list[Part]:
        """Score designs in as many slices as there are workers. The parts come in the order of the designs."""
        n_slices = max(1, min(self.n_workers, len(index) // _LEAST_SLICE))
        slices = zip(np.array_split(index, n_slices), np.array_split(design_id, n_slices), strict=True)
        return [self.result(job) for job in [self.submit(*rows) for rows in slices]]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


class Processes(Crew):
    """Processes of this machine: no shared interpreter, at the price of sending every part."""

    def __init__(self, problem: Problem, n_workers: int) -> None:
        self._blob = pickle.dumps(problem)
        super().__init__(problem, n_workers)

    def _hire(self) -> Executor:
        context = multiprocessing.get_context("spawn")  # forking a process that has threads can hang
        return ProcessPoolExecutor(self.n_workers, context, initializer=_ignore_ctrl_c)

    def _call(self, index: Index, design_id: np.ndarray) -> Future:
        try:
            return self._pool.submit(_score_pickled, self._blob, index, design_id)
        except BrokenExecutor:
            self._replace_dead()
            return self._pool.submit(_score_pickled, self._blob, index, design_id)

    def _replace_dead(self) -> None:
        """A pool with a dead worker takes no more jobs: hire a new one, once for all jobs that were lost with it."""
        if getattr(self._pool, "_broken", False):
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._hire()


class DaskCluster(Crew):
    """Workers of a Dask cluster at `address`; they need the same version of codesign and see no file of ours."""

    def __init__(self, problem: Problem, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UserError("--dask needs Dask, which is not installed", hint="pip install 'codesign[dask]'") from error
        self._blob = pickle.dumps(problem)
        try:
            self._client = Client(address, timeout=_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(f"no Dask scheduler answers at {address}: {error}", hint="start one with `dask scheduler`") from error
        n_threads = sum(worker["nthreads"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values())
        super().__init__(problem, max(n_threads, 1))

    def _hire(self) -> Executor:
        return self._client.get_executor(pure=False, retries=_ATTEMPTS)

    def _call(self, index: Index, design_id: np.ndarray) -> Future:
        return self._pool.submit(_score_pickled, self._blob, index, design_id)

    def _lost(self, error: Exception) -> bool:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        return isinstance(error, (KilledWorker, FutureCancelledError))

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False)
        self._client.close()


def crew(problem: Problem, n_processes: int | None = None, dask: str | None = None) -> Crew:
    """Workers for a search: a Dask cluster, processes, or as many threads as there are cores."""
    if dask:
        return DaskCluster(problem, dask)
    return Processes(problem, n_processes) if n_processes else Crew(problem)


def _score_pickled(blob: bytes, index: Index, design_id: np.ndarray) -> Part:
    """Score on a worker."""
    return score(_unpickled(blob), index, design_id)


@lru_cache(maxsize=2)
def _unpickled(blob: bytes) -> Any:
    """The problem, built once per worker."""
    return pickle.loads(blob)


def _ignore_ctrl_c() -> None:
    """Ctrl-C reaches every process of a terminal; the search decides when its workers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
