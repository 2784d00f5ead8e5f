"""The serving unit of a video diffusion transformer: replicas that make one clip at a time, and the fleet that meets the demand.

A second of video is to this unit what an output token is to a language model: demand, cost and energy are per second of video.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from codesign.physics.layout import make_layout
from codesign.physics.operators import Scene
from codesign.physics.phases import denoise
from codesign.physics.phases.denoise import Clip
from codesign.service.queueing import mean_wait_s
from codesign.service.traffic import Traffic
from codesign.units import serving
from codesign.units.candidates import Grid
from codesign.units.serve_unit import Need, Timer, collect
from codesign.units.survivors import Survivors

DEGREES = {"n_tp": (1, 2, 4, 8), "n_cp": (1, 2, 4, 8, 16), "n_dp": (1, 2), "n_pp": (1,)}


def clip_grid(n_guidance: int, max_devices: float, choices: dict | None = None) -> Grid:
    """Layouts of one replica: tokens over cp, matrices over tp, the passes of a step over dp.  One clip at a time: its tokens fill a chip."""
    degrees = DEGREES | {k: v for k, v in (choices or {}).items() if k in DEGREES}
    rows = [r for r in product(*degrees.values()) if r[0] * r[1] * r[2] <= max_devices and r[2] <= n_guidance]
    tp, cp, dp, pp = np.array(rows, dtype=float).reshape(-1, 4).T
    return Grid(make_layout(tp, cp, dp, pp, np.ones_like(tp), np.ones_like(tp)).map(np.asarray), np.ones(1))


def clip_pool(scene: Scene, grid: Grid, traffic: Traffic, clip: Clip, clip_seconds: float, need: Need, n: int, paired=False) -> Survivors:
    """Replicas of n designs.  Rows of `serve_unit.collect` with seconds of video for tokens: tpot = seconds of work per second of video,
    ttft = mean time until a clip is finished, W_q + clip_s, W_q of an M/D/c queue over the replicas."""
    timer, parts = Timer(scene, grid, traffic, n, paired), []
    for design, _, sc, layout, _ in timer.chunks():
        step_s = denoise.step(sc, layout, clip).time_s
        clip_s = denoise.clip_s(step_s, clip, layout)
        rate = clip_seconds / clip_s
        rows = serving.fleet(traffic, rate, layout.n_devices, sc)
        busy = traffic.demand_tok_per_s * traffic.stages.highest / (rows["n_replicas"] * rate)
        used = sum(denoise.memory_classes(sc, layout, clip).values())
        rows |= {
            "step_s": step_s, "tok_per_s": rate, "tpot_s": 1.0 / rate, "ttft_s": clip_s + mean_wait_s(clip_s, busy, rows["n_replicas"]),
            "prefill_frac": 0.0, "batch": 1.0, "memory_bytes": used, "fits": used <= sc.chip.hbm_bytes * sc.chip.usable_frac,
        }  # fmt: skip
        parts.append(({k: np.broadcast_to(v, (1, design.size)) for k, v in rows.items()}, design, layout))
    return collect(parts, timer, n, need)


def fitting(scene: Scene, grid: Grid, clip: Clip, n: int) -> np.ndarray:
    """Whether each of n designs fits its layout of `grid` (n,): degrees divide the model, memory suffices."""
    pairs, ok = serving.feasible_pairs(scene, grid, n, paired=True), np.zeros(n, dtype=bool)
    sc, layout = scene.take(pairs.design), grid.layout.take(pairs.layout)
    used = sum(denoise.memory_classes(sc, layout, clip).values())
    ok[pairs.design] = used <= sc.chip.hbm_bytes * sc.chip.usable_frac
    return ok
