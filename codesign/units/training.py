"""The training unit: every layout and device count of the grid, reduced to rates per token."""

from __future__ import annotations

import numpy as np

from codesign.physics.failures import goodput_frac
from codesign.physics.layout import Layout, fits_shape
from codesign.physics.operators import Scene
from codesign.physics.phases import train
from codesign.units.candidates import Grid, with_devices


def job_of(grid_extras: dict, seq_tok, global_batch) -> train.Job:
    return train.Job(seq_tok, grid_extras["micro_batch"], global_batch, grid_extras["recompute"], grid_extras["zero"])


def time_training(scene: Scene, layout: Layout, job: train.Job) -> dict[str, np.ndarray]:
    """Training rows: step time, seconds and device-seconds per token (failures included), memory check.  Shapes broadcast."""
    step_s = train.step(scene, layout, job).step_s
    n_devices = layout.n_devices
    s_per_tok = step_s / (job.global_batch * job.seq_tok) / goodput_frac(n_devices)
    used = sum(train.memory_classes(scene, layout, job).values())
    return {
        "step_s": step_s,
        "s_per_tok": s_per_tok,
        "device_s_per_tok": s_per_tok * n_devices,
        "n_devices": n_devices + 0.0 * step_s,
        "memory_bytes": used,
        "fits": used <= scene.chip.hbm_bytes * scene.chip.usable_frac,
    }


def shape_fits(scene: Scene, layout: Layout):
    """Degrees divide the model; data-parallel ranks are checked with the device count in `consistent`."""
    loose = Layout(layout.n_tp, layout.n_cp, layout.n_etp * layout.n_ep, layout.n_pp, layout.n_etp, layout.n_ep,
                   layout.n_tp * layout.n_cp)  # fmt: skip
    return fits_shape(loose, scene.census) & (layout.n_tp <= scene.chip.scale_up_size)


def consistent(layout: Layout, job: train.Job):
    """Rows with whole data-parallel ranks, whole expert copies and at least one whole micro-batch per rank."""
    micro = train.n_micro(job, layout)
    whole = (layout.n_dp >= 1) & (layout.n_dp % 1 == 0) & (layout.n_edp >= 1) & (layout.n_edp % 1 == 0)
    return whole & (micro >= 1) & (micro % 1 == 0)


def training_rows(scene: Scene, grid: Grid, seq_tok, global_batch, chunk: int = 1024):
    """Timed rows of (A,) designs: dict of flat arrays with `design`, `layout`, `lead` indices; infeasible rows dropped.

    Returns (rows, n_candidates, n_timed).
    """
    n = scene.length()
    design, pair = np.nonzero(np.broadcast_to(shape_fits(scene.column(), grid.layout), (n, grid.layout.n_tp.size)))
    parts, n_timed = [], 0
    devices = grid.leading[:, None]
    for start in range(0, design.size, chunk):
        d, p = design[start : start + chunk], pair[start : start + chunk]
        layout = with_devices(grid.layout.take(p), devices)
        batch = pick(global_batch, d)
        job = job_of({k: v[p] for k, v in grid.extras.items()}, seq_tok, batch)
        ok = consistent(layout, job)
        lead, col = np.nonzero(ok)
        if lead.size == 0:
            continue
        flat = Layout(*(np.broadcast_to(v, ok.shape)[lead, col] for v in vars(layout).values()))
        flat_job = job_of({k: v[p[col]] for k, v in grid.extras.items()}, seq_tok, pick(batch, col))
        timed = time_training(scene.take(d[col]), flat, flat_job)
        n_timed += lead.size
        good = timed.pop("fits")
        kept = {k: np.broadcast_to(v, good.shape)[good] for k, v in timed.items()}
        parts.append(kept | {"design": d[col][good], "layout": p[col][good], "lead": lead[good]})
    rows = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]} if parts else {}
    return rows, n * grid.n_rows, n_timed


def pick(values, index):
    """Rows `index` of a per-design value, or the value itself when it is one for all."""
    return values if np.size(values) == 1 else values[index]
