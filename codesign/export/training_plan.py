"""A training plan to start from and to sign: every number of the design as YAML, and the same as a page to read."""

from __future__ import annotations

from math import hypot, log
from statistics import NormalDist
from typing import Any

from codesign.export import _checks, _design, _serving, _training
from codesign.export._page import page
from codesign.export._subject import Z_80, Subject, subject
from codesign.results import Run
from codesign.spec import yamlio
from codesign.study import Study

FORMAT = 1
HEADER = "# Training plan.  SI units by the suffix of each key; counts begin with n_.  To change a number, search again.\n"


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`training-plan.yaml` and `training-plan.md`, the same plan for programs and for people."""
    s = subject(study, run, point_id)
    _checks.same_constants(s)
    content = plan(s)
    return {"training-plan.yaml": HEADER + yamlio.dump(content, block=True), "training-plan.md": page(content)}


def plan(s: Subject) -> dict[str, Any]:
    """The plan as plain data, section by section in reading order."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "design": _design.identity(s),
        "architecture": _design.architecture(s),
        "parameters": _design.parameters(s),
        "tokens": _design.tokens(s),
        "precision": _design.precision(s),
        "quality": _design.predicted(s),
        "training": _training.layout(s),
        "training_memory": _training.memory(s, "train"),
        "training_memory_by_stage": _training.stage_memory(s),
        "pretraining": _training.cost(s),
        "batch_schedule": _training.batch_schedule(s),
        "learning_rate": _training.learning_rate(s),
        "checkpoints": _training.reliability(s),
        "evaluation_gates": _design.gates(s),
        "rl": _training.reinforcement(s),
        "serving": _serving.fleets(s),
        "service": _serving.service_level(s),
    }
    content["lifecycle"] = _lifecycle(s, content["batch_schedule"]["ramp_extra_usd"] + content["evaluation_gates"]["branch_extra_usd"])
    content["risks"] = _checks.risks(s, content)
    content["measure_first"] = _checks.measurements(s)
    content["assumptions"] = _checks.assumptions(s)
    return content


def _lifecycle(s: Subject, extra_usd: float) -> dict[str, Any]:
    """All of it together, in money, energy and necessary work; `extra_usd`: what the plan adds to the budgeted training."""
    keys = ("lifecycle_usd", "lifecycle_energy_j", "train_usd", "rl_usd", "serve_usd", "pretrain_flop", "rl_flop", "inference_flop")
    life = s.setting.life
    budget = life.budget if life.pretrain_rule == "budget" and life.budget_of == "usd" else None
    return {key: s.number(key) for key in keys} | {
        "balance_ratio": s.number("balance_ratio"), "balance_of": life.balance_of, "with_gates_and_ramp_usd": s.number("lifecycle_usd") + extra_usd,
        "budget_usd": budget, "over_budget_frac": over_budget_frac(s, extra_usd, budget) if budget else None,
    }  # fmt: skip


def over_budget_frac(s: Subject, extra_usd: float, budget_usd: float) -> float:
    """Chance that the whole life costs more than the budget at the plan's tokens: P(total > budget), total lognormal.

    ln total has the median of training (middle of its 80 % interval, extras and RL in proportion) and serving, and the two parts' own errors
    weighted by their money and added in squares.
    """
    low, high = s.within("train", "train", 1.0)
    training = (s.number("train_usd") + s.number("rl_usd") + extra_usd) * (low * high) ** 0.5
    serving, sigma_train = s.number("serve_usd"), log(high / low) / (2.0 * Z_80)
    ends = s.interval("usd_per_mtok")
    sigma = hypot(training * sigma_train, serving * log(ends[1] / ends[0]) / (2.0 * Z_80)) / (training + serving)
    return 1.0 - NormalDist().cdf(log(budget_usd / (training + serving)) / max(sigma, 1e-9))
