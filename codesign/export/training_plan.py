"""A training plan to start from and to sign: every number of the design as YAML, and the same as a page to read."""

from __future__ import annotations

from typing import Any

from codesign.export import _checks, _design, _serving, _training
from codesign.export._page import page
from codesign.export._subject import Subject, subject
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
        "lifecycle": _lifecycle(s),
    }
    content["risks"] = _checks.risks(s, content)
    content["measure_first"] = _checks.measurements(s)
    content["assumptions"] = _checks.assumptions(s)
    return content


def _lifecycle(s: Subject) -> dict[str, Any]:
    """All of it together, in money, energy and necessary work."""
    keys = ("lifecycle_usd", "lifecycle_energy_j", "train_usd", "rl_usd", "serve_usd", "pretrain_flop", "rl_flop", "inference_flop")
    return {key: s.number(key) for key in keys} | {"balance_ratio": s.number("balance_ratio"), "balance_of": s.setting.life.balance_of}
