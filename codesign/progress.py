"""The progress line of a run, on stderr: a bar in a terminal, one line per 10 % elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Quiet:
    """No terminal: one line per tenth."""

    def __init__(self) -> None:
        self._tenth = -1

    def announce(self, plan: Any) -> None:
        print(f"{plan.method}: {plan.reason}", file=sys.stderr)

    def update(self, done: int, total: int | None, n_front: int, hypervolume: float, layouts_per_s: float) -> None:
        tenth = int(10 * done / total) if total else 0
        if tenth > self._tenth:
            self._tenth = tenth
            print(
                f"{done:,}/{total or '?'} designs  front {n_front}  hypervolume {hypervolume:.3f}  {layouts_per_s / 1e6:.2f}M layouts/s",
                file=sys.stderr,
            )


class Bar(Quiet):
    """A rich progress bar with rate, front size, hypervolume and time left."""

    def __init__(self, progress: Any) -> None:
        super().__init__()
        self._progress, self._task, self._method = progress, None, "search"

    def announce(self, plan: Any) -> None:
        self._progress.console.print(f"[dim]{plan.method}: {plan.reason}[/dim]", highlight=False)
        self._method = plan.method

    def update(self, done: int, total: int | None, n_front: int, hypervolume: float, layouts_per_s: float) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._method, total=total, front=n_front, hv=hypervolume, rate=layouts_per_s)
        self._progress.update(self._task, completed=done, front=n_front, hv=f"{hypervolume:.3f}", rate=f"{layouts_per_s / 1e6:.2f}M")


@contextmanager
def bar() -> Iterator[Quiet]:
    """A progress display that suits where stderr goes."""
    if not sys.stderr.isatty():
        yield Quiet()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} layouts/s"),
        TextColumn("front {task.fields[front]}"), TextColumn("hv {task.fields[hv]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as progress:
        yield Bar(progress)


def each(items: Sequence[T], label: str) -> Iterator[T]:
    """The items, and on stderr how many are done: a bar in a terminal, one line per tenth elsewhere; nothing for a few."""
    if len(items) < 5:
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, label, console=Console(stderr=True), transient=True)
    else:
        for i, item in enumerate(items):
            if 10 * i // len(items) > 10 * (i - 1) // len(items):
                print(f"{i}/{len(items)} {label}", file=sys.stderr, flush=True)
            yield item
