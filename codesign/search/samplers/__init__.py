"""Samplers: one file each, found by its name. Any class of Optuna's works too, as `module:Class`.

A sampler file has a docstring (its first line is shown in listings), the constants RESUMES (a continued run
proposes exactly what an unbroken one would), NEEDS (modules beyond our own dependencies) and MAX_OBJECTIVES,
and the functions `build(problem, seed, options)` -> Optuna sampler and `batch(sampler)` -> trials to ask for
together. A file may also have `engine(problem, seed, options, batch)`, which proposes designs without Optuna
trials where no storage asks for them.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.search.problem import Problem
from codesign.spec.errors import UserError, nearest

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from codesign.search.ga import GeneticAlgorithm
    from codesign.search.loop import Settings
    from codesign.search.optuna_io import TrialProposer


@dataclass(frozen=True)
class SamplerInfo:
    """One line of `codesign list samplers`."""

    name: str
    summary: str
    resumes: bool
    missing: tuple[str, ...]  # modules that would have to be installed
    max_objectives: int | None


def names() -> list[str]:
    """All sampler names, from the folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def describe(name: str) -> SamplerInfo:
    """What a sampler is and whether it can run here."""
    module = _module(name)
    missing = tuple(need for need in module.NEEDS if importlib.util.find_spec(need) is None)
    return SamplerInfo(name, (module.__doc__ or "").splitlines()[0], module.RESUMES, missing, module.MAX_OBJECTIVES)


def create(name: str, problem: Problem, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[BaseSampler, int]:
    """An Optuna sampler by name or `module:Class`, and how many trials suit it at a time."""
    from codesign.search.optuna_io import quiet

    quiet()
    options = dict(options or {})
    if ":" in name:
        sampler = construct(_imported(name), seed, options)
        return sampler, getattr(sampler, "population_size", None) or 1
    module = _usable(name, len(problem.objectives))
    sampler = module.build(problem, seed, options)
    return sampler, module.batch(sampler)


def proposer(
    problem: Problem,
    settings: Settings,
    constraint_names: tuple[str, ...],
    storage: str | None,
    study_name: str,
) -> GeneticAlgorithm | TrialProposer:
    """Where a search gets its designs from: an engine of our own where there is one, else Optuna trials."""
    if storage is None and ":" not in settings.sampler:
        module = _usable(settings.sampler, len(problem.objectives))
        if hasattr(module, "engine"):
            return module.engine(problem, settings.seed, dict(settings.options), settings.batch)
    from codesign.search import optuna_io

    study = optuna_io.open_study(problem, None, storage, study_name, settings.trials or 0)
    n_before = len(study.get_trials(deepcopy=False))
    # Joining a study with the seed that began it would only propose its first designs again.
    seed = int(np.random.SeedSequence([settings.seed, n_before]).generate_state(1)[0]) if n_before else settings.seed
    study.sampler, batch = create(settings.sampler, problem, seed, settings.options)
    return optuna_io.TrialProposer(problem, study, constraint_names, settings.batch or batch, storage is not None)


def has_engine(name: str) -> bool:
    """Whether designs are proposed without Optuna trials, so that all points of a design can be learned from."""
    return ":" not in name and hasattr(_module(name), "engine")


def resumes(name: str) -> bool:
    """Whether a continued run proposes exactly what an unbroken one would. Not known of `module:Class`."""
    return ":" not in name and describe(name).resumes


def construct(cls: Callable, seed: int | None, options: dict[str, Any], **defaults: Any) -> Any:
    """`cls` with defaults, options and, where it takes one, a seed. An unknown option is the user's error."""
    known = inspect.signature(cls).parameters
    for option in options:
        if option not in known:
            close = nearest(option, known)
            hint = f"did you mean {close}?" if close else f"options: {', '.join(known)}"
            raise UserError(f"sampler {cls.__name__} has no option {option!r}", hint=hint)
    seeded = {"seed": seed} if "seed" in known else {}
    try:
        return cls(**(seeded | defaults | options))
    except (TypeError, ValueError) as error:
        raise UserError(f"sampler {cls.__name__} does not accept its options: {error}") from error


def _module(name: str) -> ModuleType:
    if name not in names():
        close = nearest(name, names())
        hint = f"did you mean {close}?" if close else f"samplers: {', '.join(names())}, or module:Class"
        raise UserError(f"unknown sampler {name!r}", hint=hint)
    return importlib.import_module(f"{__name__}.{name}")


def check(name: str, n_objectives: int | None = None) -> None:
    """A UserError where no sampler has this name or, with `n_objectives`, where it cannot run on so many here."""
    if ":" in name:
        _imported(name)
    elif n_objectives is None:
        _module(name)
    else:
        _usable(name, n_objectives)


def _usable(name: str, n_objectives: int) -> ModuleType:
    """The sampler's file, once it is sure that it can run here on so many objectives."""
    module, info = _module(name), describe(name)
    if info.missing:
        raise UserError(
            f"sampler {name} needs {', '.join(info.missing)}, which is not installed",
            hint=f"pip install {' '.join(info.missing)}",
        )
    if info.max_objectives is not None and n_objectives > info.max_objectives:
        raise UserError(
            f"sampler {name} handles {info.max_objectives} objective, not {n_objectives}",
            hint="use ga, nsga2 or tpe",
        )
    return module


def _imported(path: str) -> type:
    """The class behind `module:Class`: a sampler, so that a study file cannot call anything else."""
    from optuna.samplers import BaseSampler

    module_name, _, class_name = path.partition(":")
    if not (module_name == "optuna" or module_name.startswith(("optuna.", "optunahub.", "optuna_integration."))):
        # a study file must not be able to run code of its choosing; a sampler of your own is a file in this folder
        raise UserError(
            f"sampler '{path}': only classes of optuna, optunahub and optuna_integration may be named",
            hint="a sampler of your own is one file in codesign/search/samplers/",
        )
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"cannot import sampler {path!r}: {error}", hint="write it as package.module:Class") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseSampler)):
        raise UserError(
            f"{path!r} is not an Optuna sampler",
            hint="it must be a class derived from optuna.samplers.BaseSampler",
        )
    return cls
