"""All training layouts of many designs, reduced to the rates that a study can tell apart; and the RL unit built on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.operators import Scene
from codesign.physics.phases import rl
from codesign.service.traffic import Traffic
from codesign.units import training
from codesign.units.candidates import Grid, with_devices
from codesign.units.reduce import nondominated_per_design
from codesign.units.serve_unit import Timer
from codesign.units.survivors import Survivors, minimum_per_design

EXTRAS = ("micro_batch", "recompute", "zero")


def training_unit(scene: Scene, grid: Grid, seq_tok, global_batch, quantities, max_devices=np.inf, paired: bool = False) -> Survivors:
    """Survivors with seconds and device-seconds per token, devices, memory, degrees.  scene (U,), global_batch [seq] (U,)."""
    n = scene.length()
    if paired:
        rows, n_candidates, n_timed = _paired(scene, grid, seq_tok, global_batch, n)
    else:
        rows, n_candidates, n_timed = training.training_rows(scene, grid, seq_tok, global_batch)
    if not rows or rows["design"].size == 0:
        names = ("step_s", "s_per_tok", "device_s_per_tok", "n_devices", "memory_bytes", *EXTRAS, *vars(grid.layout))
        best = {"device_s_per_tok": np.full(n, np.inf)}
        return Survivors(np.zeros(0, dtype=int), {k: np.zeros(0) for k in names}, n, best, n_candidates, n_timed, 0)
    n_feasible = rows["design"].size
    order = np.argsort(rows["design"], kind="stable")
    rows = {k: v[order] for k, v in rows.items()}
    best = {"device_s_per_tok": minimum_per_design(rows["device_s_per_tok"], rows["design"], n)}
    ok = np.flatnonzero(rows["n_devices"] <= max_devices)
    keep = ok[nondominated_per_design(rows["design"][ok], [rows[q][ok] for q in quantities])]
    rows = {k: v[keep] for k, v in rows.items()}
    pair = rows.pop("layout")
    devices = grid.leading[rows.pop("lead")]
    layout = with_devices(grid.layout.take(pair), devices)
    rows |= {k: np.broadcast_to(v, pair.shape) for k, v in vars(layout).items()}
    rows |= {k: grid.extras[k][pair] for k in EXTRAS}
    return Survivors(rows.pop("design"), rows, n, best, n_candidates, n_timed, n_feasible)


def _paired(scene: Scene, grid: Grid, seq_tok, global_batch, n: int):
    """Flat search: design i with layout i on leading[i] devices."""
    layout = with_devices(grid.layout, grid.leading)
    job = training.job_of(grid.extras, seq_tok, global_batch)
    ok = training.consistent(layout, job) & training.shape_fits(scene, layout)
    here = np.flatnonzero(np.broadcast_to(ok, (n,)))
    if here.size == 0:
        return {}, n, 0
    flat_job = training.job_of({k: v[here] for k, v in grid.extras.items()}, seq_tok, training.pick(global_batch, here))
    timed = training.time_training(scene.take(here), layout.take(here), flat_job)
    good = timed.pop("fits")
    rows = {k: np.broadcast_to(v, good.shape)[good] for k, v in timed.items()}
    return rows | {"design": here[good], "layout": here[good], "lead": here[good]}, n, here.size


@dataclass(frozen=True)
class RlJob:
    """How RL generates and learns: lengths [tok], spread, passes.  Defaults are design assumptions, all overridable."""

    prompt_tok: float = 1024.0
    gen_tok: float = 8192.0
    longest_over_mean: float = 4.0
    n_forward: float = 2.0  # reference policy and old log-probabilities (GRPO-style, arXiv 2402.03300)
    batch_seq: float = 512.0


def rl_device_s_per_tok(serve: Scene, train: Scene, serve_grid: Grid, train_grid: Grid, job: RlJob) -> tuple[np.ndarray, int]:
    """Device-seconds per generated token (U,) with the best rollout, forward and update layout of each design.

    The three phases take turns on one pool, so each may use its own layout; weights are resharded once per step
    (`rl.weight_sync_s`, negligible against a rollout and left out of the rate).  Returns (rate, layouts timed).
    """
    n = serve.length()
    one = np.float64(1.0)
    traffic = Traffic(*(np.float64(v) for v in (job.prompt_tok, job.gen_tok, 0.0, 0.6 * job.gen_tok, 0.0)), one, one, one, one)
    rollout, n_timed = np.full(n, np.inf), 0
    timer = Timer(serve, serve_grid, traffic, paired=False)
    for design, pair, sc, layout, lead in timer.chunks():
        rows = timer.decode(design, pair, sc, layout, lead)
        stretch = rl.rollout_stretch(rows["step_s"][:1], rows["step_s"], job.longest_over_mean)
        cost = np.where(rows["fits"], stretch * layout.n_devices / rows["tok_per_s"], np.inf)
        n_timed += cost.size
        np.minimum(rollout, minimum_per_design(np.min(cost, axis=0), design, n), out=rollout)
    forward, n_pre = _forward_rate(serve, serve_grid, traffic, job, n)
    update, _, n_train = _update_rate(train, train_grid, job, n)
    return rl.device_s_per_tok(rollout, forward, update, job.n_forward), n_timed + n_pre + n_train


def _forward_rate(scene: Scene, grid: Grid, traffic: Traffic, job: RlJob, n: int):
    """Device-seconds per generated token of one scoring pass over prompt and answer."""
    whole = Traffic(np.float64(job.prompt_tok + job.gen_tok), *(getattr(traffic, f) for f in list(vars(traffic))[1:]))
    timer = Timer(scene, Grid(grid.layout, np.ones(1)), whole, paired=False)
    best, n_timed = np.full(n, np.inf), 0
    for design, pair, sc, layout, _ in timer.chunks(8192):
        rows = timer.prefill(design, pair, sc, layout)
        cost = np.where(rows["fits"], layout.n_devices / (rows["prompts_per_s"] * job.gen_tok), np.inf)
        n_timed += cost.size
        np.minimum(best, minimum_per_design(cost, design, n), out=best)
    return best, n_timed


def _update_rate(scene: Scene, grid: Grid, job: RlJob, n: int):
    """Device-seconds per generated token of the policy update (prompt tokens ride along)."""
    seq = job.prompt_tok + job.gen_tok
    rows, n_candidates, n_timed = training.training_rows(scene, grid, np.float64(seq), np.float64(job.batch_seq))
    if not rows:
        return np.full(n, np.inf), n_candidates, n_timed
    order = np.argsort(rows["design"], kind="stable")
    cost = rows["device_s_per_tok"][order] * seq / job.gen_tok
    return minimum_per_design(cost, rows["design"][order], n), n_candidates, n_timed

