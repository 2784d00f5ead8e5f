"""A finished search as an Optuna study that optuna-dashboard opens: the front and an even sample."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from codesign.results import write_atomically
from codesign.search.designs import Table
from codesign.search.optuna_io import CONSTRAINTS, frozen_trial, open_study, readable, space
from codesign.search.outcome import SearchOutcome
from codesign.search.problem import Problem, maximised
from codesign.spec.errors import UserError

HOST = "127.0.0.1"  # nobody else's machine
N_TRIALS = 2000  # the dashboard sends all trials to the browser at once: 3,000 are 12 MB and take 18 s


def write_journal(
    problem: Problem,
    outcome: SearchOutcome,
    path: str | Path,
    name: str = "codesign",
    n_trials: int = N_TRIALS,
) -> str | None:
    """Write the study to a journal file, replacing it at once. Returns a note when trials were left out."""
    log = _Memory()
    study = open_study(problem, storage=JournalStorage(log), name=name)
    note = fill(study, problem, outcome, n_trials)
    text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in log.entries)
    write_atomically(Path(path), lambda part: part.write_text(text))
    return note


def serve(journal: Path, port: int) -> None:
    """optuna-dashboard on a journal file, until Ctrl-C."""
    try:
        import optuna_dashboard
    except ImportError:
        raise UserError("optuna-dashboard is not installed", hint="pip install 'codesign[dashboard]'") from None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} of this machine cannot be opened: {error}", hint="choose another one with --port") from None
    optuna_dashboard.run_server(JournalStorage(JournalFileBackend(str(journal))), host=HOST, port=port)


def to_study(problem: Problem, outcome: SearchOutcome, name: str = "codesign", n_trials: int = N_TRIALS) -> optuna.Study:
    """The same study in memory."""
    study = open_study(problem, name=name)
    fill(study, problem, outcome, n_trials)
    return study


def fill(study: optuna.Study, problem: Problem, outcome: SearchOutcome, n_trials: int) -> str | None:
    """Add designs as finished trials, by id: the front and, up to `n_trials`, a sample of the others."""
    table, note = _chosen(outcome, n_trials)
    values = _finite(table.objectives, outcome.designs.objectives, maximised(problem))
    on_front = np.isin(table.design_id, outcome.front.get("design_id", ()))
    distributions = space(problem)
    study.add_trials(
        frozen_trial(
            {name: int(position) for name, position in zip(distributions, row, strict=True)},
            distributions,
            value,
            broken,
            outcome.constraint_names,
            system_attrs={CONSTRAINTS: broken.tolist()},
            user_attrs={"design_id": int(number), "on_front": bool(front), "design": readable(problem, row)}
            | _reasons(outcome.constraint_names, broken),
        )
        for number, row, value, broken, front in zip(table.design_id, table.index, values, table.violations, on_front, strict=True)
    )
    if note:
        study.set_user_attr("note", note)
    return note


def _reasons(names: Iterable[str], violations: np.ndarray) -> dict[str, str]:
    """Constraints that a design breaks, in words: the dashboard shows no names of constraints."""
    broken = [name for name, value in zip(names, violations, strict=True) if value > 0]
    return {"killed_by": ", ".join(broken)} if broken else {}


def _chosen(outcome: SearchOutcome, n_trials: int) -> tuple[Table, str | None]:
    designs = outcome.designs
    if len(designs) <= n_trials and not outcome.sampled:
        return designs, None
    front = np.isin(designs.design_id, outcome.front.get("design_id", ()))
    best = _even(np.flatnonzero(front), n_trials)
    rows = np.sort(np.concatenate([best, _even(np.flatnonzero(~front), n_trials - len(best))]))
    if len(rows) == outcome.n_designs:
        return designs.take(rows), None
    of_front = "all" if len(best) == front.sum() else f"{len(best):,}"
    kept = f"{of_front} {front.sum():,} of the front and an even sample of the others" if len(best) else "an even sample"
    return designs.take(rows), f"the Optuna storage holds {len(rows):,} of {outcome.n_designs:,} designs: {kept}"


def _even(rows: np.ndarray, n: int) -> np.ndarray:
    """At most `n` of the rows, evenly spaced."""
    return rows if len(rows) <= n else rows[np.linspace(0, len(rows) - 1, n).astype(int)]


def _finite(objectives: np.ndarray, all_objectives: np.ndarray, maximise: tuple[bool, ...]) -> np.ndarray:
    """Objectives, with the worst known value (or 0) where nothing fits: Optuna accepts no NaN."""
    sign = np.where(maximise, -1.0, 1.0)
    worst = np.max(np.where(np.isnan(all_objectives), -np.inf, all_objectives * sign), axis=0, initial=-np.inf) * sign
    return np.where(np.isnan(objectives), np.where(np.isfinite(worst), worst, 0.0), objectives)


class _Memory(BaseJournalBackend):
    """A journal in memory, so that the file is written once and not trial by trial."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.entries[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.entries.extend(json.loads(json.dumps(logs)))
