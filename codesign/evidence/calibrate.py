"""`codesign calibrate`: the constants of one chip under one engine, fitted to the user's own measurements.

Rows are mapped and predicted as `codesign validate` does.  What a row leaves open (recomputation, the batch that the cache holds) is settled
once per round and not inside the fit.  The result is an engine file that says only what moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from codesign import catalog
from codesign.evidence import fit
from codesign.evidence.case import Case, Skip
from codesign.evidence.predict import Prediction, predict
from codesign.evidence.rows import load
from codesign.evidence.tunables import Tunable, engine_mapping, tunables
from codesign.evidence.validation import PRIMARY, case_of
from codesign.scenario import make_chip
from codesign.spec.errors import UserError, did_you_mean

LEAST_ROWS = 3
ROUNDS = 2  # what a row leaves open is settled at the catalog's constants, then once more at the fitted ones
EXACT_FOLDS = 8  # more folds are refitted on the slopes of the full fit: each round costs a prediction of all rows per constant
NO_EFFECT = 1e-4  # change of a prediction by one prior width below which no row depends on a constant


@dataclass(frozen=True)
class Calibration:
    """A finished fit: candidates with coordinates, errors of every row before, after and left out."""

    path: Path
    kind: str
    engine: str
    chip: str
    tunables: tuple[Tunable, ...]
    posterior: fit.Posterior  # of the candidates that some row depends on: `depends`
    depends: np.ndarray
    cases: tuple[Case, ...]
    before: np.ndarray
    after: np.ndarray
    held_out: np.ndarray
    scheme: str
    skipped: tuple[tuple[str, str], ...]

    def whole(self, values: np.ndarray, missing: float = 0.0) -> np.ndarray:
        """Values of the candidates that rows depend on, as values of all candidates."""
        out = np.full(len(self.tunables), missing, dtype=float)
        out[self.depends] = values
        return out

    @cached_property
    def moved(self) -> list[tuple[Tunable, float, float]]:
        """(tunable, coordinate, its standard deviation) of what was fitted."""
        x, sd = self.whole(self.posterior.x), self.whole(self.posterior.sd)
        free = self.whole(self.posterior.free)
        return [(t, float(x[i]), float(sd[i])) for i, t in enumerate(self.tunables) if free[i]]

    @cached_property
    def stayed(self) -> list[tuple[Tunable, str]]:
        """(tunable, why the data cannot tell) of the others."""
        free, place = self.whole(self.posterior.free), np.cumsum(self.depends) - 1
        return [(t, self._why(place[i]) if self.depends[i] else "no row depends on it") for i, t in enumerate(self.tunables) if not free[i]]

    def _why(self, k: int) -> str:
        """It is seen and agrees; alone it would be seen, but another constant acts the same way; or it acts too little."""
        if self.posterior.told[k]:
            return f"the rows agree with the catalog within {fit.MOVES:g} sd"
        names = [t.name for t, depends in zip(self.tunables, self.depends, strict=True) if depends]
        sd = np.array([t.sd for t, depends in zip(self.tunables, self.depends, strict=True) if depends])
        effect = self.posterior.information * np.outer(sd, sd)
        if 1.0 / np.sqrt(1.0 + effect[k, k]) <= fit.TELLS:
            strength = np.sqrt(np.diag(effect))
            alike = np.abs(effect[k]) / np.maximum(strength[k] * strength, 1e-12) * (np.arange(len(sd)) != k)
            return f"the rows cannot tell it from {names[int(np.argmax(alike))]}"
        shift = float(np.sqrt(np.mean((self.posterior.jacobian[:, k] * sd[k]) ** 2)))
        return f"one prior width moves the predictions by {shift:.1%}, their scatter is {self.posterior.sigma:.1%}"

    @property
    def mapping(self) -> dict[str, Any]:
        return engine_mapping(self.engine, self.chip, [(t, x) for t, x, _ in self.moved])


def calibrate(path: str | Path, kind: str, chip: str | None = None, engine: str | None = None) -> Calibration:
    """Fit the constants of one chip and engine to a CSV; refuses (UserError) what it cannot identify."""
    cases, skipped = _cases(path, kind)
    chip = _only("chip", chip, cases, lambda case: _accelerator(case.chip), path)
    cases, skipped = _choose(cases, skipped, lambda case: _accelerator(case.chip), chip)
    engine = _only("engine", engine, cases, lambda case: case.engine, path)
    cases, skipped = _choose(cases, skipped, lambda case: case.engine, engine)
    if engine == "ideal":
        raise UserError(
            "the ideal engine has no constants to fit: it is the bare roofline", hint="name the engine of the runs in the column `engine`"
        )
    runs = Runs(kind, engine, chip, cases)
    if len(runs.cases) < LEAST_ROWS:
        raise UserError(
            f"{path}: {len(runs.cases)} rows of {chip} can be predicted, a fit needs {LEAST_ROWS} or more",
            hint=_reasons([*skipped, *runs.skipped]),
        )
    return _fit(Path(path), runs, skipped)


class Runs:
    """Rows with everything settled that is not a constant, and their errors as a function of the coordinates."""

    def __init__(self, kind: str, engine: str, chip: str, cases: Sequence[Case]) -> None:
        self.kind, self.engine, self.chip = kind, engine, chip
        self.tunables = tunables(kind, engine, chip)
        self.skipped: list[tuple[str, str]] = []
        self.cases: list[Case] = []
        self._settled: list[Prediction] = []
        self.settle([], cases)

    @property
    def groups(self) -> list[str]:
        return [case.group for case in self.cases]

    def settle(self, moved: Sequence[tuple[Tunable, float]], cases: Sequence[Case] | None = None) -> np.ndarray:
        """Errors (N,) in full, at given constants; batch, recomputation and the like of every row are chosen anew."""
        chips, kept, settled = self._chips(moved), [], []
        for case in self.cases if cases is None else cases:
            try:
                settled.append(predict(self._on(case, case.options, chips)))
                kept.append(case)
            except Skip as reason:
                self.skipped.append((case.row.id, str(reason)))
        self.cases, self._settled = kept, settled
        return self._errors(settled)

    def errors(self, moved: Sequence[tuple[Tunable, float]]) -> np.ndarray:
        """Errors (N,) at given constants, with what a row leaves open as it was settled last."""
        chips = self._chips(moved)
        answers = []
        for case, settled in zip(self.cases, self._settled, strict=True):
            batch = settled.scenario.get("batch") if self.kind == "inference" else None
            answers.append(predict(self._on(case, (settled.scenario,), chips), batch=batch))
        return self._errors(answers)

    def _chips(self, moved: Sequence[tuple[Tunable, float]]) -> dict[str, Any]:
        mapping = engine_mapping(self.engine, self.chip, moved) | {"name": self.engine}
        return _Lazy(lambda name: make_chip(name, mapping))

    @staticmethod
    def _on(case: Case, options: Sequence[Mapping[str, Any]], chips: Mapping[str, Any]) -> Case:
        """The case on chips of our own making."""
        own = chips[_hardware(case)]
        return replace(case, options=tuple({k: v for k, v in option.items() if k != "system"} | {"accelerator": own} for option in options))

    def _errors(self, predictions: Sequence[Prediction]) -> np.ndarray:
        pairs = ((next(iter(case.measured.items())), p.values) for case, p in zip(self.cases, predictions, strict=True))
        return np.array([log(values[metric] / measured) for (metric, measured), values in pairs])


class _Lazy(dict):
    """Chips by hardware name, made on first use."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Any:
        self[name] = self._make(name)
        return self[name]


def _fit(path: Path, runs: Runs, skipped: Sequence[tuple[str, str]]) -> Calibration:
    everything = runs.tunables
    before = runs.settle([])
    depends = _depends(runs, everything)
    some = [t for t, d in zip(everything, depends, strict=True) if d]
    prior = _prior(some)
    weights = fit.group_weights(runs.groups)

    def errors(x: np.ndarray) -> np.ndarray:
        return runs.errors(list(zip(some, x, strict=True)))

    posterior, after = None, before
    for _ in range(ROUNDS if some else 0):
        posterior = fit.solve(errors, weights, prior, posterior)
        after = runs.settle(list(zip(some, posterior.x, strict=True)))
    if posterior is None or not posterior.told.any():
        raise UserError(
            f"{path}: {len(runs.cases)} rows of {runs.chip} identify no constant: every one stays at the catalog's value",
            hint=_wanted(runs.kind),
        )
    if not posterior.free.any():
        hint = f"what they identify agrees with the catalog within {fit.MOVES:g} sd; median error {np.median(np.abs(before)):.1%}"
        raise UserError(f"{path}: {len(runs.cases)} rows of {runs.chip} move no constant, so there is nothing to write", hint=hint)
    held_out, scheme = _cross_validate(runs, some, posterior, prior)
    return Calibration(path, runs.kind, runs.engine, runs.chip, tuple(everything), posterior, depends, tuple(runs.cases), before, after,
                       held_out, scheme, (*skipped, *runs.skipped))  # fmt: skip


def _depends(runs: Runs, everything: Sequence[Tunable]) -> np.ndarray:
    """Which candidates (K,) any row depends on at all."""
    start = runs.errors([])
    return np.array([np.max(np.abs(runs.errors([(t, min(t.sd, 0.9 * t.bounds[1]))]) - start)) > NO_EFFECT * t.sd for t in everything])


def _prior(some: Sequence[Tunable]) -> fit.Prior:
    return fit.Prior(np.array([t.sd for t in some]), *(np.array([t.bounds[i] for t in some]) for i in (0, 1)))


def _cross_validate(runs: Runs, some: Sequence[Tunable], posterior: fit.Posterior, prior: fit.Prior) -> tuple[np.ndarray, str]:
    """(errors (N,) of every row by constants fitted without its fold, what a fold is)."""
    scheme, held_out = fit.folds(runs.groups)
    out = np.zeros(len(runs.cases))
    exact = 1 if len(held_out) <= EXACT_FOLDS else 0
    for fold in held_out:
        x = fit.refit(lambda x: runs.errors(list(zip(some, x, strict=True))), posterior, ~fold, runs.groups, prior, exact)
        out[fold] = runs.errors(list(zip(some, x, strict=True)))[fold]
    return out, scheme


def _cases(path: str | Path, kind: str) -> tuple[list[Case], list[tuple[str, str]]]:
    cases, skipped = [], []
    for row in load(path, kind):
        try:
            case = case_of(kind, row)
            metric = _metric(case)
            cases.append(replace(case, measured={metric: case.measured[metric]}))
        except Skip as reason:
            skipped.append((row.id, str(reason)))
    if not cases:
        raise UserError(f"{path}: no row can be predicted", hint=_reasons(skipped))
    return cases, skipped


def _metric(case: Case) -> str:
    """The metric that is fitted: the phase's own, else any but the TTFT under load."""
    if PRIMARY[case.phase] in case.measured:
        return PRIMARY[case.phase]
    found = next((m for m in case.measured if not (case.phase == "e2e" and m == "ttft_ms")), None)
    if found is None:
        raise Skip("the TTFT of a loaded server is queueing, not a constant of the chip")
    return found


def _hardware(case: Case) -> str:
    return case.options[0].get("system") or case.options[0]["accelerator"]


def _accelerator(hardware: str) -> str:
    return catalog.hardware(hardware)["accelerator"]


def _only(what: str, asked: str | None, cases: Sequence[Case], of: Any, path: str | Path) -> str:
    """The chip or engine that is meant: the asked one, or the only one there is."""
    counts = Counter(map(of, cases))
    listed = ", ".join(f"{name} ({n} rows)" for name, n in counts.most_common())
    if asked is None:
        if len(counts) > 1:
            raise UserError(f"{path} has rows of several {what}s: {listed}", hint=f"say which one with --{what}; the file describes one")
        return next(iter(counts))
    kind = "accelerators" if what == "chip" else "engines"
    name = _accelerator(asked) if what == "chip" and catalog.known("systems", asked) else catalog.find(kind, asked).name
    if name not in counts:
        raise UserError(f"{path} has no row of {what} '{name}'", hint=did_you_mean(name, counts, f"{what}s in the file"))
    return name


def _choose(cases: Sequence[Case], skipped: Sequence[tuple[str, str]], of: Any, name: str) -> tuple[list[Case], list[tuple[str, str]]]:
    others = [(case.row.id, f"of {of(case)}, not {name}") for case in cases if of(case) != name]
    return [case for case in cases if of(case) == name], [*skipped, *others]


def _reasons(skipped: Sequence[tuple[str, str]]) -> str:
    counts = Counter(reason for _, reason in skipped)
    return "; ".join(f"{n} x {reason}" for reason, n in counts.most_common(5)) or "add rows"


def _wanted(kind: str) -> str:
    if kind == "training":
        return "measure at several micro-batches, model sizes and device counts"
    return "measure batch 1 to 256 of a small and a large model, and prefill of long prompts"
