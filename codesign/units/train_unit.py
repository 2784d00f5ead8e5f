"""All training layouts of many designs, reduced to the rates that a study can tell apart; and the RL unit built on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.operators import Scene
from codesign.physics.phases import rl
from codesign.service.traffic import Traffic
from codesign.units import training
from codesign.units.candidates import Grid, with_devices
from codesign.units.energy import TOTAL, Meter
from codesign.units.reduce import nondominated_per_design
from codesign.units.serve_unit import Timer
from codesign.units.survivors import Survivors, minimum_per_design

NUMBERS = ("step_s", "s_per_tok", "device_s_per_tok", "n_devices", "memory_bytes")


def training_unit(
    scene: Scene,
    grid: Grid,
    seq_tok,
    global_batch,
    quantities,
    n: int,
    max_devices=np.inf,
    paired: bool = False,
    meter: Meter | None = None,
) -> Survivors:
    """Survivors with seconds and device-seconds per token, devices, memory, degrees.  scene of n designs, global_batch [seq] (n,)."""
    if paired:
        rows, best, counts = _paired(scene, grid, seq_tok, global_batch, n, meter)
    else:
        rows, best, counts = _swept(scene, grid, seq_tok, global_batch, quantities, max_devices, n, meter)
    design = rows.pop("design")
    ok = np.flatnonzero(rows["n_devices"] <= max_devices)
    keep = ok[nondominated_per_design(design[ok], [rows[q][ok] for q in quantities])]
    rows = {k: v[keep] for k, v in rows.items()}
    pair = rows.pop("pair")
    layout = with_devices(grid.layout.take(pair), rows["n_devices"])
    rows |= {k: np.broadcast_to(v, pair.shape) for k, v in layout.columns.items()}
    rows |= {k: v[pair] for k, v in grid.extras.items()}
    return Survivors(design[keep], rows, n, {"device_s_per_tok": best}, *counts)


def _swept(scene: Scene, grid: Grid, seq_tok, global_batch, quantities, max_devices, n: int, meter: Meter | None):
    """Every pair and device count; each chunk is reduced at once, so memory stays small."""
    timer, parts, best = training.TrainingTimer(scene, grid, seq_tok, global_batch, n, meter), [], np.full(n, np.inf)
    for design, pair, rows in timer.chunks():
        fits = rows["fits"]
        full = {k: np.broadcast_to(rows[k], fits.shape) for k in _numbers(meter)}
        cheapest = np.min(np.where(fits, full["device_s_per_tok"], np.inf), axis=0)
        np.minimum(best, minimum_per_design(cheapest, design, n), out=best)
        col, lead = np.nonzero((fits & (full["n_devices"] <= max_devices)).T)  # sorted by pair, hence by design
        keep = nondominated_per_design(design[col], [full[q][lead, col] for q in quantities])
        col, lead = col[keep], lead[keep]
        parts.append({k: full[k][lead, col] for k in full} | {"design": design[col], "pair": pair[col]})
    counts = timer.n_candidates, timer.n_timed, timer.n_feasible
    if not parts:
        return _no_rows(meter), best, counts
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}, best, counts


def _numbers(meter: Meter | None) -> tuple[str, ...]:
    return NUMBERS if meter is None else (*NUMBERS, TOTAL)


def _no_rows(meter: Meter | None) -> dict[str, np.ndarray]:
    return {k: np.zeros(0) for k in _numbers(meter)} | {"design": np.zeros(0, dtype=int), "pair": np.zeros(0, dtype=int)}


def _paired(scene: Scene, grid: Grid, seq_tok, global_batch, n: int, meter: Meter | None):
    """Flat search: design i with layout i on leading[i] devices."""
    best, (here, layout, job) = np.full(n, np.inf), _whole(scene, grid, seq_tok, global_batch, n)
    if here.size == 0:
        return _no_rows(meter), best, (n, 0, 0)
    timed = training.time_training(scene.take(here), layout, job)
    if meter is not None:
        timed |= training.joules(meter.take(here), layout, job, timed)
    good = timed["fits"]
    rows = {k: np.broadcast_to(timed[k], good.shape)[good] for k in _numbers(meter)}
    best[here[good]] = rows["device_s_per_tok"]
    return rows | {"design": here[good], "pair": here[good]}, best, (n, here.size, int(good.sum()))


def _whole(scene: Scene, grid: Grid, seq_tok, global_batch, n: int):
    """(rows, their layouts, their jobs) of a flat search whose degrees divide the model, the devices and the batch."""
    layout = with_devices(grid.layout, grid.leading)
    ok = training.consistent(layout, training.job_of(grid.extras, seq_tok, global_batch)) & training.shape_fits(scene, layout)
    here = np.flatnonzero(np.broadcast_to(ok, (n,)))
    job = training.job_of({k: v[here] for k, v in grid.extras.items()}, seq_tok, training.pick(global_batch, here))
    return here, layout.take(here), job


def fitting(scene: Scene, grid: Grid, seq_tok, global_batch, n: int, max_devices=np.inf) -> np.ndarray:
    """Whether design i can be trained with layout i on leading[i] devices, by structure and memory (n,); nothing is timed."""
    here, layout, job = _whole(scene, grid, seq_tok, global_batch, n)
    out = np.zeros(n, dtype=bool)
    if here.size:
        out[here] = training.memory_of(scene.take(here), layout, job)[1] & (layout.n_devices <= max_devices)
    return out


@dataclass(frozen=True)
class RlJob:
    """How RL generates and learns: lengths [tok], spread, passes.  Defaults are design assumptions, all overridable."""

    prompt_tok: float = 1024.0
    gen_tok: float = 8192.0
    longest_over_mean: float = 4.0
    n_forward: float = 2.0  # reference policy and old log-probabilities (GRPO-style, arXiv 2402.03300)
    batch_seq: float = 512.0
    reuse: float = 1.0  # optimizer passes over each rollout
    asynchronous: float = 0.0  # 1: rollouts go on while the policy learns, so a batch does not wait for its longest answer


def rl_device_s_per_tok(serve: Scene, train: Scene, serve_grid: Grid, train_grid: Grid, job: RlJob, n: int) -> tuple[np.ndarray, int]:
    """Device-seconds per generated token (n,) with the best rollout, forward and update layout of each design.

    The three phases take turns on one pool, so each may use its own layout; weights are resharded once per step
    (`rl.weight_sync_s`, small against a rollout and left out of the rate).  Returns (rate, layouts timed).
    """
    one = np.float64(1.0)
    traffic = Traffic(*(np.float64(v) for v in (job.prompt_tok, job.gen_tok, 0.0, 0.6 * job.gen_tok, 0.0)), one, one, one, one)
    rollout, n_timed = np.full(n, np.inf), 0
    timer = Timer(serve, serve_grid, traffic, n, paired=False)
    for design, pair, sc, layout, lead in timer.chunks():
        rows = timer.decode(design, pair, sc, layout, lead)
        longest = 1.0 if job.asynchronous else job.longest_over_mean
        stretch = rl.rollout_stretch(rows["step_s"][:1], rows["step_s"], longest)
        cost = np.where(rows["fits"], stretch * layout.n_devices / rows["tok_per_s"], np.inf)
        n_timed += cost.size
        np.minimum(rollout, minimum_per_design(np.min(cost, axis=0), design, n), out=rollout)
    forward, n_pre = _forward_rate(serve, serve_grid, traffic, job, n)
    update, _, n_train = _update_rate(train, train_grid, job, n)
    return rl.device_s_per_tok(rollout, forward, update, job.n_forward, job.reuse), n_timed + n_pre + n_train


def _forward_rate(scene: Scene, grid: Grid, traffic: Traffic, job: RlJob, n: int):
    """Device-seconds per generated token of one scoring pass over prompt and answer."""
    whole = Traffic(np.float64(job.prompt_tok + job.gen_tok), *(getattr(traffic, f) for f in list(vars(traffic))[1:]))
    timer = Timer(scene, Grid(grid.layout, np.ones(1)), whole, n, paired=False)
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
    timer, best = training.TrainingTimer(scene, grid, np.float64(seq), np.float64(job.batch_seq), n), np.full(n, np.inf)
    for design, _, rows in timer.chunks():
        cost = np.min(np.where(rows["fits"], rows["device_s_per_tok"] * seq / job.gen_tok, np.inf), axis=0)
        np.minimum(best, minimum_per_design(cost, design, n), out=best)
    return best, timer.n_candidates, timer.n_timed
