"""The training unit: every layout and device count of the grid, reduced to rates per token."""

from __future__ import annotations

import numpy as np

from codesign.physics import offload, sites
from codesign.physics.failures import goodput_frac
from codesign.physics.layout import Layout, fits_shape
from codesign.physics.operators import Scene
from codesign.physics.phases import train
from codesign.units import energy
from codesign.units.candidates import Grid, with_devices
from codesign.units.energy import Meter

MORE = ("offload", "n_sites", "sync_every")  # extras of a grid that only some studies vary
CHUNK = 16384  # pairs timed at once; most terms do not depend on the device count, so the pair axis sets the cache footprint


def job_of(grid_extras: dict, seq_tok, global_batch) -> train.Job:
    """Job of the layouts that `grid_extras` names; what it does not name is off."""
    more = {k: grid_extras[k] for k in MORE if k in grid_extras}
    return train.Job(seq_tok, grid_extras["micro_batch"], global_batch, grid_extras["recompute"], grid_extras["zero"], **more)


def time_training(scene: Scene, layout: Layout, job: train.Job, goodput=None) -> dict[str, np.ndarray]:
    """Training rows: step time, seconds and device-seconds per token (failures included), memory check.  Shapes broadcast.

    goodput: `goodput_frac` of the rows' devices, where the caller knows it in a smaller shape.
    """
    step_s = train.step(scene, layout, job).step_s
    n_devices = layout.n_devices
    s_per_tok = step_s / (job.global_batch * job.seq_tok) / (goodput_frac(n_devices) if goodput is None else goodput)
    used, fits = memory_of(scene, layout, job)
    if np.any(np.asarray(job.n_sites) > 1):
        s_per_tok = s_per_tok * sites.token_waste(job.n_sites, job.sync_every)
    return {
        "step_s": step_s,
        "s_per_tok": s_per_tok,
        "device_s_per_tok": s_per_tok * n_devices,
        "n_devices": n_devices + 0.0 * step_s,
        "memory_bytes": used,
        "fits": fits,
    }


def memory_of(scene: Scene, layout: Layout, job: train.Job):
    """Bytes on the fullest device, and whether they fit there, on the host and, in devices, on the site."""
    used = sum(train.memory_classes(scene, layout, job).values())
    fits = used <= scene.chip.hbm_bytes * scene.chip.usable_frac
    if np.any(np.asarray(job.offload) > 0):
        elsewhere = offload.host_bytes(train.state_classes(scene, layout, job), job.offload)
        fits = fits & (elsewhere <= scene.chip.host_memory_bytes)
    if np.any(np.isfinite(scene.chip.site_max_devices)):
        fits = fits & (layout.n_devices / job.n_sites <= scene.chip.site_max_devices)
    return used, fits


def joules(meter: Meter, layout: Layout, job: train.Job, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Energy of training rows [J/tok]."""
    return energy.training_joules(meter, layout, job, rows["device_s_per_tok"], goodput_frac(layout.n_devices))


def shape_fits(scene: Scene, layout: Layout):
    """Degrees divide the model; data-parallel ranks are checked with the device count in `consistent`."""
    loose = Layout(layout.n_tp, layout.n_cp, layout.n_etp * layout.n_ep, layout.n_pp, layout.n_etp, layout.n_ep,
                   layout.n_tp * layout.n_cp)  # fmt: skip
    return fits_shape(loose, scene.census) & (layout.n_tp <= scene.chip.scale_up_size)


def consistent(layout: Layout, job: train.Job):
    """Rows with whole data-parallel ranks, whole expert copies and at least one whole micro-batch per rank."""
    micro = train.n_micro(job, layout)
    whole = _whole(layout.n_dp) & _whole(layout.n_edp) & _whole(micro)
    if np.any(np.asarray(job.n_sites) > 1):  # every site holds whole copies
        whole = whole & _whole(layout.n_dp / job.n_sites) & _whole(layout.n_edp / job.n_sites)
    return whole


def _whole(count):
    return (count >= 1.0) & (np.floor(count) == count)


class TrainingTimer:
    """Times (design, layout) pairs chunk by chunk, all device counts of the grid at once on the leading axis."""

    def __init__(self, scene: Scene, grid: Grid, seq_tok, global_batch, n: int, meter: Meter | None = None) -> None:
        self.scene, self.grid, self.seq_tok, self.global_batch, self.meter = scene, grid, seq_tok, global_batch, meter
        self.design, self.pair = np.nonzero(np.broadcast_to(shape_fits(scene.column(), grid.layout), (n, grid.layout.n_tp.size)))
        self.n_candidates, self.n_timed, self.n_feasible = n * grid.n_rows, 0, 0

    def chunks(self, size: int = CHUNK):
        """(design (N,), pair (N,), rows {name: (D, N)}) with rows["fits"] false where a row is inconsistent or too large."""
        goodput = goodput_frac(self.grid.leading)[:, None]
        for i in range(0, self.design.size, size):
            design, pair = self.design[i : i + size], self.pair[i : i + size]
            layout = with_devices(self.grid.layout.take(pair), self.grid.leading[:, None])
            job = job_of({k: v[pair] for k, v in self.grid.extras.items()}, self.seq_tok, pick(self.global_batch, design))
            whole = consistent(layout, job)
            rows = time_training(self.scene.take(design), layout, job, goodput)
            rows["fits"] = rows["fits"] & whole
            if self.meter is not None:
                rows |= joules(self.meter.take(design), layout, job, rows)
            self.n_timed += int(np.count_nonzero(whole))
            self.n_feasible += int(np.count_nonzero(rows["fits"]))
            yield design, pair, rows


def pick(values, index):
    """Rows `index` of a per-design value, or the value itself when it is one for all."""
    return values if np.size(values) == 1 else values[index]
