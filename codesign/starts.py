"""Where a sampled search begins: published models, moved to the nearest design of the study's space."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign import catalog
from codesign.physics import architecture as arch
from codesign.problem import StudyProblem
from codesign.spec.errors import SpecError
from codesign.spec.space import Variable


def warm_start(problem: StudyProblem) -> np.ndarray:
    """Canonical, valid positions (N, V) of the catalog's models, each once; variables that no model has are spread over their choices."""
    rows = [row for number, model in enumerate(_models()) if (row := _row(problem, model, number)) is not None]
    if not rows:
        return np.empty((0, len(problem.variables)), np.int64)
    index = problem.canonical(np.array(rows, np.int64))
    index = index[problem.valid(index)]
    return index[np.sort(np.unique(index, axis=0, return_index=True)[1])]


def _models() -> list[dict[str, Any]]:
    """Values by dotted variable name of every model that can be evaluated, in the order of their names."""
    found = []
    for name in sorted(catalog.names("models")):
        try:
            record = catalog.load("models", name)
        except SpecError:
            continue  # a broken entry is reported where it is used, not here
        if not record.get("not_evaluable"):
            full = arch.DEFAULTS | record["architecture"]
            values = {f"architecture.{k}": v for k, v in full.items()}
            found.append(values | {f"precision.{k}": v for k, v in (record.get("precision") or {}).items()})
    return found


def _row(problem: StudyProblem, model: dict[str, Any], number: int) -> list[int] | None:
    """The nearest choice of every variable; None for a model of another kind (an attention, say, that the space does not have)."""
    row = []
    for variable in problem.variables:
        n = variable.n_active
        if variable.name not in model:
            row.append(number % n)
            continue
        position = _nearest(variable, model[variable.name])
        if position is None:
            return None
        row.append(position)
    return row


def _nearest(variable: Variable, value: Any) -> int | None:
    """Position of the choice nearest in ratio; of text, of the same text."""
    choices = variable.choices[: variable.n_active]
    if isinstance(value, str) or any(isinstance(choice, str) for choice in choices):
        return choices.index(value) if value in choices else None
    distance = np.abs(np.log((1.0 + np.array(choices, dtype=float)) / (1.0 + float(value))))
    return int(np.argmin(distance))
