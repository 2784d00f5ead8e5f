"""What a study file says about its requests, its life and its quality law, as the numbers that the pipeline reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import catalog
from codesign.lifecycle import scaling_law
from codesign.lifecycle.rl_returns import ReturnCurve
from codesign.lifecycle.scaling_law import QualityLaw
from codesign.objectives import RL_COLUMNS
from codesign.physics.phases.denoise import Clip
from codesign.point import TRAIN_BITS
from codesign.scenario import make_traffic
from codesign.service.traffic import CONSTANT, Stages, Traffic
from codesign.setting import Life
from codesign.spec import StudyFile
from codesign.spec.errors import Problem, SpecError
from codesign.units.train_unit import RlJob

UTILISATION = 0.8  # of capacity at peak demand: a fleet sized to 100 % queues without end; estimate, `workload.utilisation` overrides
YEAR_S = 365.25 * 86400.0


def workload_of(file: StudyFile) -> dict[str, Any]:
    """The workload record: one class, or the mean of a mix weighted by requests, with the study's own lengths over it."""
    given = file.workload
    if given.clip:  # a second of video stands where an output token does
        return {"name": "video", "isl": {"mean": 1.0}, "osl": {"mean": 1.0}}
    if given.mix:
        record = _mixed([(catalog.load("workloads", c.use), c.share) for c in given.mix])
    else:
        record = catalog.load("workloads", given.use) if given.use else {"name": "own", "isl": {"mean": 1024.0}, "osl": {"mean": 256.0}}
    for key, value in (("isl", given.isl), ("osl", given.osl)):
        if value is not None:
            record[key] = dict(record[key]) | {"mean": value}
    if given.prefix is not None:
        record["prefix_hit"] = min(given.prefix / record["isl"]["mean"], 0.999)
    return record


def _mixed(parts: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
    """One class with the mixture's mean and variance of lengths: sigma from E[x^2] of the lognormal parts."""
    record: dict[str, Any] = {"name": " + ".join(w["name"] for w, _ in parts), "provenance": {}}
    for key in ("isl", "osl"):
        mean = sum(share * w[key]["mean"] for w, share in parts)
        square = sum(share * w[key]["mean"] ** 2 * np.exp(w[key].get("sigma", 0.0) ** 2) for w, share in parts)
        record[key] = {"mean": mean, "sigma": float(np.sqrt(np.log(max(square / mean**2, 1.0))))}
    record["prefix_hit"] = sum(s * w.get("prefix_hit", 0.0) * w["isl"]["mean"] for w, s in parts) / record["isl"]["mean"]
    record["context"] = {"median": max(w.get("context", {}).get("median", 0.0) for w, _ in parts)}
    record["tok_per_task"] = sum(s * w.get("tok_per_task", w["osl"]["mean"]) for w, s in parts)
    record["peak_to_mean"] = max(w.get("peak_to_mean", 1.0) for w, _ in parts)
    return record


def traffic_of(file: StudyFile, workload: Mapping[str, Any]) -> Traffic:
    """Requests per second, their lengths, and how they are served."""
    if clip := file.workload.clip:
        busy = (file.workload.peak_to_mean or 1.0) / (file.workload.utilisation or UTILISATION)
        return make_traffic(workload, clip.per_hour * clip.seconds / 3600.0, busy)
    given, stages = file.workload, file.workload.demand.stages(file.workload.lifetime or YEAR_S)
    mean = sum(share * rate for share, rate in stages)
    peak = given.peak_to_mean or given.demand.peak_to_mean or workload.get("peak_to_mean", 1.0)
    made = make_traffic(workload, mean, peak / (given.utilisation or UTILISATION), file.serving, file.serving.engine or file.engine)
    curve = Stages(tuple(s for s, _ in stages), tuple(r / mean for _, r in stages), given.demand.fleet == "staged")
    return replace(made, reuse_s=np.float64(given.reuse or 0.0), stages=curve if len(stages) > 1 else CONSTANT)


def life_of(file: StudyFile, workload: Mapping[str, Any]) -> Life:
    """Tokens, budget, balance and lifetime."""
    given, tokens = file.lifecycle, file.lifecycle.pretrain_tok
    budget, budget_of = 0.0, "usd"
    if given.budget is not None:
        b = given.budget
        budget, budget_of = (b.usd, "usd") if b.usd else (b.flop, "flop") if b.flop else (b.devices * b.days * 86400.0, "device_s")
    rl = given.rl_tok
    return Life(
        pretrain_rule=(tokens.solve if tokens is not None and tokens.solve else "fixed"),
        pretrain_tok=(tokens.tok or 0.0) if tokens is not None else 0.0,
        target_c_eq_flop=(tokens.quality or 0.0) if tokens is not None else 0.0,
        rl_rule="balance" if rl is not None and rl.solve else "fixed", rl_tok=(rl.tok or 0.0) if rl is not None else 0.0,
        budget=budget, budget_of=budget_of,
        balance_of=given.balance.of if given.balance else "flop", max_ratio=given.balance.max_ratio if given.balance else None,
        unique_tok=given.unique_tok or np.inf, global_batch_tok=given.global_batch_tok,
        train_bits=float(TRAIN_BITS[given.train_precision or "bf16"]), seq_tok=given.seq_tok or 4096.0,
        lifetime_s=file.workload.lifetime or YEAR_S,
        tok_per_task=workload.get("tok_per_task") or workload["osl"]["mean"],
        median_context_tok=workload.get("context", {}).get("median", 0.0),
        min_full_fraction=file.quality.min_full_fraction if file.quality.min_full_fraction is not None else 0.125,
        long_context_penalty=file.quality.long_context_penalty or 0.0,
    )  # fmt: skip


def clip_of(file: StudyFile) -> tuple[Clip | None, float]:
    """What is denoised, and how long it plays [s]; (None, 0) in a study of text."""
    given = file.workload.clip
    if given is None:
        return None, 0.0
    return Clip(*(np.float64(getattr(given, k)) for k in ("n_tok", "text_tok", "n_steps", "n_guidance"))), given.seconds


def rl_job_of(file: StudyFile) -> RlJob:
    """Reinforcement learning: prompts, answers, passes."""
    given = file.lifecycle.rl.model_dump(exclude_none=True, exclude={"returns"})
    return RlJob(**given)


def returns_of(file: StudyFile, columns: set[str]) -> ReturnCurve | None:
    """The curve of what RL returns, where the study asks for it."""
    given = file.lifecycle.rl.returns
    if given is None and not columns & RL_COLUMNS:
        return None
    return ReturnCurve(**given.model_dump(exclude_none=True)) if given else ReturnCurve()


def law_of(file: StudyFile) -> QualityLaw:
    """The law that the study names, or reads from a file of the user's."""
    name = file.quality.law
    if name is None or name in scaling_law.LAWS:
        return scaling_law.LAWS[name or "central"]
    from codesign.spec import yamlio

    try:
        return scaling_law.law_from_dict(yamlio.load_plain(name))
    except (OSError, ValueError) as error:
        known = ", ".join(scaling_law.LAWS)
        raise SpecError([file.place(Problem(("quality", "law"), str(error), f"a file of your own, or one of {known}"))]) from None
