"""The pipeline of a study of video: what a diffusion transformer costs to serve.  No training and no quality: no law covers either.

The same designs, hardware, fleets, search and results as those of language models; `units.clip_unit` is its only unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign.law_inputs import per_design
from codesign.physics.operators import make_scene
from codesign.physics.phases import denoise
from codesign.setting import Setting
from codesign.spec.errors import UserError
from codesign.units.clip_unit import clip_pool
from codesign.units.serve_unit import Need
from codesign.units.survivors import Survivors

CLIP_COLUMNS = ("usd_per_video_s", "usd_per_clip", "clip_s", "clip_latency_s", "j_per_video_s")  # of such studies alone
SHARED_COLUMNS = ("serve_devices", "serve_power_w", "serve_load_frac", "serve_usd", "lifecycle_usd", "n_params", "n_active_params")
QUANTITIES = {"usd_per_tok": (), "ttft_s": ("clip_latency_s",), "tpot_s": ("clip_s",), "n_devices": ("serve_devices",),
              "power_w": ("serve_power_w",), "j_per_tok": ("j_per_video_s",), "held_tok_per_s": ("serve_load_frac",)}  # fmt: skip
EXPORTS = ("csv", "optuna")  # targets that read the table and nothing about language models
NO_REVIEW = "a study of video has no measured errors and no alternatives to weigh yet"


def nothing(n: int) -> Survivors:
    """Training that is not part of the study: one row per design that costs nothing."""
    return Survivors(np.arange(n), {}, n, {"device_s_per_tok": np.zeros(n)})


def serve(setting: Setting, designs, scene, first, layouts) -> Survivors:
    """Serving layouts of the parts `first` worth keeping."""
    read = setting.columns_read
    quantities = tuple(q for q, names in QUANTITIES.items() if not names or read & {*names})
    grid = setting.grids["serve"] if layouts is None else layouts["serve"]
    return clip_pool(
        scene, grid, designs.traffic.take(first), setting.clip, setting.clip_seconds, Need(quantities), len(first), layouts is not None
    )


def fill(setting: Setting, designs, serving: Survivors, rows) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All columns (P,) and signed violations of the points."""
    d, _, s = rows
    sv = {k: v[s] for k, v in serving.columns.items()}
    video_s = setting.traffic.demand_tok_per_s * setting.life.lifetime_s
    n_params = per_design(denoise.n_params(make_scene(designs.census, designs.chips["serve"], designs.precision), setting.clip), d)
    columns = {
        "usd_per_video_s": sv["usd_per_tok"], "usd_per_clip": sv["usd_per_tok"] * setting.clip_seconds,
        "clip_s": sv["tpot_s"] * setting.clip_seconds, "clip_latency_s": sv["ttft_s"], "j_per_video_s": sv["j_per_tok"],
        "serve_devices": sv["n_devices"], "serve_power_w": sv["power_w"],
        "serve_load_frac": setting.traffic.demand_tok_per_s / sv["held_tok_per_s"],
        "serve_usd": sv["usd_per_tok"] * video_s, "lifecycle_usd": sv["usd_per_tok"] * video_s,
        "n_params": n_params, "n_active_params": n_params,
    }  # fmt: skip
    keys = ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp", "batch", "n_replicas", "n_devices", "memory_bytes", "step_s")
    columns |= {f"serve.{k}": sv[k] for k in keys}
    columns |= {k: per_design(v, d) for k, v in designs.domain[0].items()} if designs.domain else {}
    violations = {k: per_design(v, d) for k, v in designs.domain[1].items()} if designs.domain else {}
    violations |= {limit.name: limit.violation(columns[limit.column]) for limit in setting.limits}
    return columns, {k: np.broadcast_to(v, d.shape) for k, v in violations.items()}


def violation_names(setting: Setting) -> tuple[str, ...]:
    return tuple(limit.name for limit in setting.limits)


def explain(setting: Setting, scene, layout, point) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(ledger of one pass, memory classes, row of the layout table) of one archived point."""
    ledger = denoise.step(scene, layout, setting.clip, detail=True)
    row = {
        "n_devices": int(layout.n_devices),
        "n_replicas": int(point["serve.n_replicas"]),
        "batch": 1,
        "step_s": float(point["serve.step_s"]),
    }
    return ledger, denoise.memory_classes(scene, layout, setting.clip), row


def refuse_review(setting: Setting) -> None:
    """Commands that weigh errors or change assumptions know language models only."""
    if setting.clip is not None:
        raise UserError(NO_REVIEW, hint="codesign front, show and report work; ask again with --set, and compare the fronts")


def unknown(name: str, is_clip: bool) -> str | None:
    """Why a column is not there in this kind of study; None where it is."""
    known = name in (*CLIP_COLUMNS, *SHARED_COLUMNS) or name.startswith("rack_")
    if is_clip and not known:
        return f"'{name}' is not known of video: nothing is trained, and no quality law covers diffusion models"
    return f"'{name}' is of studies with 'workload.clip'" if not is_clip and name in CLIP_COLUMNS else None
