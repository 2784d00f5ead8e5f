"""All serving layouts of many designs, timed in chunks and reduced to the rows that a study can tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.operators import Scene
from codesign.service.traffic import Traffic
from codesign.units import serving
from codesign.units.candidates import Grid
from codesign.units.reduce import nondominated_per_design
from codesign.units.survivors import Survivors, cross, minimum_per_design

CHUNK = 1024  # pairs timed at once: x 11 batch sizes = 11k rows, about 90 KB an array, inside L2
INFO = ("step_s", "tok_per_s", "n_replicas", "n_devices", "memory_bytes", "usd_per_tok", "j_per_tok", "tpot_s", "ttft_s",
        "prefill_frac", "batch")  # fmt: skip
DEGREES = ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp")


@dataclass(frozen=True)
class Need:
    """What a study asks of serving: quantities that must be kept apart, latency ceilings [s]."""

    quantities: tuple[str, ...] = ("usd_per_tok", "tpot_s")
    max_tpot_s: float = np.inf
    max_ttft_s: float = np.inf


def colocated(scene: Scene, grid: Grid, traffic: Traffic, need: Need, paired=None) -> Survivors:
    """One pool: prefill stalls decode.  scene (U,); returns survivors with TPOT, TTFT, USD and J per output token."""
    pairs = serving.feasible_pairs(scene, grid, scene.chip.scale_up_size, paired)
    parts = [_time_colocated(scene, grid, traffic, pairs, slice(i, i + CHUNK), paired) for i in range(0, pairs.design.size, CHUNK)]
    return collect(parts, pairs, serving.n_designs(scene), need, grid)


def _time_colocated(scene, grid, traffic, pairs, part, paired):
    design, pair = pairs.design[part], pairs.layout[part]
    sc, lay = scene.take(design), grid.layout.take(pair)
    lead = grid.leading[:, None] if paired is None else grid.leading[pair][None, :]
    pre = serving.time_prefill(sc, lay, traffic, serving.prefill_tables(scene, grid, traffic, design, pair))
    touched = serving.decode_tables(scene, grid, traffic, design, pair, paired)
    dec = serving.time_decode(sc, lay, lead, traffic, touched, pre["forward_s"], serving.chunk_of(traffic))
    money = serving.fleet(traffic, dec["tok_per_s"], lay.n_devices, sc.chip.scale_up_size, sc.chip)
    stall_frac = 1.0 - dec["step_s"] / (dec["tpot_s"] * traffic.accepted_tok)
    rows = dec | money | {
        "ttft_s": pre["ttft_s"] + 0.5 * dec["step_s"], "prefill_frac": stall_frac, "batch": lead * lay.n_dp,
    }  # fmt: skip
    return rows, design, pair, lay


def prefill_pool(scene: Scene, grid: Grid, traffic: Traffic, need: Need, paired=None) -> Survivors:
    """A pool of its own for prompts: TTFT with KV transfer, USD and J per *output* token (each brings isl/osl prompt tokens)."""
    one = Grid(grid.layout, np.ones(1)) if paired is None else Grid(grid.layout, np.ones(grid.layout.n_tp.size))
    pairs = serving.feasible_pairs(scene, one, scene.chip.scale_up_size, paired)
    parts = []
    for i in range(0, pairs.design.size, CHUNK * 8):
        design, pair = pairs.design[i : i + CHUNK * 8], pairs.layout[i : i + CHUNK * 8]
        sc, lay = scene.take(design), one.layout.take(pair)
        pre = serving.time_prefill(sc, lay, traffic, serving.prefill_tables(scene, one, traffic, design, pair))
        out_tok_per_s = pre["prompts_per_s"] * traffic.osl_tok
        money = serving.fleet(traffic, out_tok_per_s, lay.n_devices, sc.chip.scale_up_size, sc.chip)
        rows = money | {
            "ttft_s": pre["ttft_s"] + serving.kv_transfer_s(sc, lay, traffic), "tok_per_s": out_tok_per_s, "fits": pre["fits"],
            "memory_bytes": pre["memory_bytes"], "step_s": pre["forward_s"], "tpot_s": 0.0, "prefill_frac": 1.0, "batch": lay.n_dp,
        }  # fmt: skip
        parts.append(({k: np.broadcast_to(v, (1, design.size)) for k, v in rows.items()}, design, pair, lay))
    limits = Need(tuple(q for q in need.quantities if q != "tpot_s"), np.inf, need.max_ttft_s)
    if "ttft_s" not in limits.quantities:
        limits = Need((*limits.quantities, "ttft_s"), np.inf, need.max_ttft_s)
    return collect(parts, pairs, serving.n_designs(scene), limits, one)


def decode_pool(scene: Scene, grid: Grid, traffic: Traffic, need: Need, paired=None) -> Survivors:
    """A pool of its own for decode: no prefill stall; the wait for the running step counts into TTFT."""
    pairs = serving.feasible_pairs(scene, grid, scene.chip.scale_up_size, paired)
    parts = []
    for i in range(0, pairs.design.size, CHUNK):
        design, pair = pairs.design[i : i + CHUNK], pairs.layout[i : i + CHUNK]
        sc, lay = scene.take(design), grid.layout.take(pair)
        lead = grid.leading[:, None] if paired is None else grid.leading[pair][None, :]
        touched = serving.decode_tables(scene, grid, traffic, design, pair, paired)
        dec = serving.time_decode(sc, lay, lead, traffic, touched)
        money = serving.fleet(traffic, dec["tok_per_s"], lay.n_devices, sc.chip.scale_up_size, sc.chip)
        rows = dec | money | {"ttft_s": 0.5 * dec["step_s"], "prefill_frac": 0.0, "batch": lead * lay.n_dp}
        parts.append((rows, design, pair, lay))
    quantities = tuple(dict.fromkeys((*need.quantities, "tpot_s")))
    return collect(parts, pairs, serving.n_designs(scene), Need(quantities, need.max_tpot_s, need.max_ttft_s), grid)


def collect(parts, pairs, n_designs: int, need: Need, grid: Grid) -> Survivors:
    """Rows that fit and meet the ceilings, reduced per design; minima over what fits tell why a design has none."""
    kept, designs = [], []
    best = {key: np.full(n_designs, np.inf) for key in ("tpot_s", "ttft_s", "usd_per_tok")}
    n_timed = n_feasible = 0
    for rows, design, pair, layout in parts:
        shape = np.broadcast_shapes(*(np.shape(v) for v in rows.values()), (1, design.size))
        full = {k: np.broadcast_to(v, shape) for k, v in rows.items()}
        fits = full["fits"]
        for key, values in best.items():
            column = np.min(np.where(fits, full[key], np.inf), axis=0)
            np.minimum(values, minimum_per_design(column, design, n_designs), out=values)
        ok = fits & (full["tpot_s"] <= need.max_tpot_s) & (full["ttft_s"] <= need.max_ttft_s)
        col, lead = np.nonzero(ok.T)  # sorted by pair, hence by design
        n_timed += int(np.prod(shape))
        n_feasible += col.size
        keep = nondominated_per_design(design[col], [full[q][lead, col] for q in need.quantities])
        col, lead = col[keep], lead[keep]
        found = {k: full[k][lead, col] for k in INFO}
        found |= {k: getattr(layout, k)[col] if np.size(getattr(layout, k)) > 1 else np.full(col.size, float(getattr(layout, k))) for k in DEGREES}
        kept.append(found)
        designs.append(design[col])
    if not kept:
        empty = {k: np.zeros(0) for k in (*INFO, *DEGREES)}
        return Survivors(np.zeros(0, dtype=int), empty, n_designs, best, pairs.n_candidates, 0, 0)
    design = np.concatenate(designs)
    columns = {k: np.concatenate([part[k] for part in kept]) for k in kept[0]}
    keep = nondominated_per_design(design, [columns[q] for q in need.quantities])  # designs may span chunks
    columns = {k: v[keep] for k, v in columns.items()}
    return Survivors(design[keep], columns, n_designs, best, pairs.n_candidates, n_timed, n_feasible)


def join_pools(prefill: Survivors, decode: Survivors, need: Need) -> Survivors:
    """Combinations of a prefill and a decode pool: USD and J add, TTFT adds the wait, TPOT is decode's."""
    design, a, b = cross(prefill, decode)
    p, d = prefill.columns, decode.columns
    joined = {k: p[k][a] + d[k][b] for k in ("usd_per_tok", "j_per_tok", "ttft_s", "n_devices")}
    joined |= {"tpot_s": d["tpot_s"][b], "step_s": d["step_s"][b], "tok_per_s": d["tok_per_s"][b]}
    joined["prefill_frac"] = p["usd_per_tok"][a] / joined["usd_per_tok"]
    for name, columns, rows in (("prefill", p, a), ("decode", d, b)):
        for key in ("n_replicas", "n_devices", "memory_bytes", "batch", *DEGREES):
            joined[f"{name}.{key}"] = columns[key][rows]
    ok = np.flatnonzero(joined["ttft_s"] <= need.max_ttft_s)
    keep = ok[nondominated_per_design(design[ok], [joined[q][ok] for q in need.quantities])]
    best = {
        "tpot_s": decode.best["tpot_s"],
        "ttft_s": prefill.best["ttft_s"] + decode.best["ttft_s"],
        "usd_per_tok": prefill.best["usd_per_tok"] + decode.best["usd_per_tok"],
    }
    columns = {k: v[keep] for k, v in joined.items()}
    counts = (getattr(prefill, k) + getattr(decode, k) for k in ("n_candidates", "n_timed", "n_feasible"))
    return Survivors(design[keep], columns, prefill.n_designs, best, *counts)


