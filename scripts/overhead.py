"""Where the time of a whole `codesign run` goes, and what an Optuna storage on PostgreSQL takes (`bench_search.py --overhead`)."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codesign import payload, results, run
from codesign.report import html
from codesign.search import crew, ga, samplers
from codesign.search import dashboard as journal
from codesign.search.checkpoint import Checkpoint
from codesign.study import open_study

ROOT = Path(__file__).parents[1]
# Kind of time -> functions of the main thread that take it; what a search does beside these is bookkeeping too.
KINDS: dict[str, tuple[tuple[Any, str], ...]] = {
    "planning": ((run, "plan"), (run, "warm_start")),
    "evaluating": ((crew.Crew, "result"),),
    "proposing": ((ga.GeneticAlgorithm, "ask"), (ga.GeneticAlgorithm, "tell"), (samplers, "proposer")),
    "storage": ((Checkpoint, "append"), (Checkpoint, "__init__"), (journal, "write_journal"), (run, "save")),
    "reporting": ((html, "write"), (payload, "report_payload")),
    "bookkeeping": ((run, "_search"), (run, "tabulate"), (run, "_manifest"), (results, "load_results")),
}


@contextmanager
def stopwatch() -> Iterator[Counter]:
    """Seconds by kind while the block runs; of nested functions only the innermost counts."""
    spent, stack, before = Counter(), [], []
    for kind, functions in KINDS.items():
        for owner, name in functions:
            before.append((owner, name, getattr(owner, name)))
            setattr(owner, name, _timed(getattr(owner, name), kind, spent, stack))
    try:
        yield spent
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _timed(function: Callable, kind: str, spent: Counter, stack: list) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        stack.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            whole = time.perf_counter() - start
            spent[kind] += whole - stack.pop()
            if stack:
                stack[-1] += whole

    return call


def rows(studies: dict[str, tuple[str, tuple[str, ...]]]) -> Iterator[dict[str, Any]]:
    """One row per study and method: seconds of a whole run by kind, and the share of storage and bookkeeping, with and without the report."""
    for name, (study, overrides) in studies.items():
        for method in ("exhaustive", "nested"):
            with tempfile.TemporaryDirectory() as folder:
                resolved = open_study(ROOT / "studies" / f"{study}.yaml", (*overrides, f"search.method={method}"))
                start = time.perf_counter()
                with stopwatch() as spent:
                    found = run.run(resolved, Path(folder) / "run")
                seconds = time.perf_counter() - start
            kept = spent["storage"] + spent["bookkeeping"]
            shares = {"share": kept / seconds, "share_without_report": kept / (seconds - spent["reporting"])}
            row = {"space": name, "method": method, "n_designs": found.manifest["n_designs"], "seconds": seconds}
            yield row | {f"{kind}_s": spent[kind] for kind in KINDS} | shares


def postgresql_row(n_trials: int = 60) -> dict[str, Any]:
    """Trials per second of one process with its study on a PostgreSQL server of loopback; only reported."""
    sys.path.insert(0, str(ROOT / "tests"))
    from servers import postgresql

    study, row = open_study(ROOT / "studies/quickstart.yaml", ("search.method=nested",)), {"space": "quickstart", "method": "postgresql"}
    try:
        with postgresql() as (url, _), tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            found = run.run(study, Path(folder) / "run", trials=n_trials, storage=url)
            seconds = time.perf_counter() - start
        return row | {"n_designs": found.manifest["n_designs"], "seconds": seconds, "trials_per_s": n_trials / found.manifest["search_s"]}
    except BaseException as error:  # a test that is skipped says why
        if type(error).__name__ != "Skipped":
            raise
        return row | {"reason": str(error)}


def text_of(row: dict[str, Any]) -> str:
    """A line of the table."""
    lead = f"{row['space']:<15}{row['method']:<12}"
    if "reason" in row:
        return f"{lead}not measured: {row['reason']}"
    lead += f"{row['n_designs']:>8,} designs{row['seconds']:>8.2f} s  "
    if "trials_per_s" in row:
        return f"{lead}{row['trials_per_s']:.1f} trials/s"
    kinds = "  ".join(f"{kind} {row[f'{kind}_s']:.2f}" for kind in KINDS)
    return f"{lead}{kinds}    storage and bookkeeping {row['share']:.0%}, {row['share_without_report']:.0%} without the report"
