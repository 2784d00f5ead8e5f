"""All serving layouts of many designs, timed in chunks and reduced to the rows that a study can tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.layout import DEGREES, PLAIN
from codesign.physics.operators import Scene
from codesign.physics.phases import decode, prefill
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.units import energy, serving
from codesign.units.candidates import Grid
from codesign.units.energy import Meter
from codesign.units.reduce import nondominated_per_design
from codesign.units.survivors import Survivors, cross, minimum_per_design

CHUNK = 4096  # pairs timed at once: x 11 batch sizes = 45k rows; smaller chunks leave the second core waiting for the interpreter
INFO = ("step_s", "tok_per_s", "n_replicas", "n_devices", "memory_bytes", "usd_per_tok", "j_per_tok", "power_w", "held_tok_per_s",
        "tpot_s", "ttft_s", "prefill_frac", "batch", "usd_in", "usd_out")  # fmt: skip
BEST = ("tpot_s", "ttft_s", "usd_per_tok", "reference_usd_per_tok")


@dataclass(frozen=True)
class Need:
    """What a study asks of serving: quantities that must be kept apart, latency ceilings [s]."""

    quantities: tuple[str, ...] = ("usd_per_tok", "tpot_s")
    max_tpot_s: float = np.inf
    max_ttft_s: float = np.inf


class Timer:
    """Times the pairs of one pool chunk by chunk.  `paired`: design i with layout i at leading[i] only (flat search)."""

    def __init__(self, scene: Scene, grid: Grid, traffic: Traffic, n: int, paired: bool, meter: Meter | None = None) -> None:
        self.scene, self.grid, self.traffic, self.paired, self.meter = scene, grid, traffic, paired, meter
        self.pairs = serving.feasible_pairs(scene, grid, n, paired)
        tables = not paired
        self._decode = serving.decode_table(scene, grid, traffic) if tables else None
        self._prefill = serving.prefill_table(scene, grid, traffic) if tables and np.size(traffic.prefix_tok) == 1 else None

    def chunks(self, size: int = CHUNK):
        """(design, pair, scene, layout, leading) of up to `size` pairs at a time."""
        size = size * 8 if self.paired else size  # one row a pair instead of one per batch size
        for i in range(0, self.pairs.design.size, size):
            design, pair = self.pairs.design[i : i + size], self.pairs.layout[i : i + size]
            lead = self.grid.leading[pair][None, :] if self.paired else self.grid.leading[:, None]
            yield design, pair, self.scene.take(design), self.grid.layout.take(pair), lead

    def prefill(self, design, pair, scene, layout) -> dict[str, np.ndarray]:
        if self._prefill is not None:
            touched = self._prefill.rows(design, pair)[0]
        else:
            touched = prefill.fullest_experts(scene, layout, serving.prompt_of(self.traffic.take(design)))
        return serving.time_prefill(scene, layout, self.traffic.take(design), touched)

    def decode(self, design, pair, scene, layout, lead, pre=None) -> dict[str, np.ndarray]:
        if self._decode is not None:
            touched = self._decode.rows(design, pair)
        else:
            touched = decode.fullest_experts(scene, layout, decode.Load(lead * layout.n_dp, 0.0, self.traffic.q_tok))
        return serving.time_decode(scene, layout, lead, self.traffic.take(design), touched, pre)

    def joules(self, design, layout, lead, n_devices, phases: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Energy columns of the pairs; none unless the study reads one."""
        return pool_joules(self.meter.take(design), layout, lead, n_devices, self.traffic.take(design), phases) if self.meter else {}

    def fleet(self, tok_per_s, scene, layout) -> dict[str, np.ndarray]:
        return serving.fleet(self.traffic, tok_per_s, layout.n_devices, scene)


def fitting(scene: Scene, grid: Grid, traffic: Traffic, role: str, n: int) -> np.ndarray:
    """Whether design i can be served by layout i with leading[i] sequences per rank, by structure and memory (n,); nothing is timed.

    `role`: what the pool does: serve (both phases), prefill or decode.
    """
    pairs, out = serving.feasible_pairs(scene, grid, n, paired=True), np.zeros(n, dtype=bool)
    here = pairs.design
    if here.size:
        parts = scene.take(here), grid.layout.take(here)
        own, chunk = traffic.take(here), serving.chunk_of(traffic.take(here)) if role == "serve" else 0.0
        if role == "prefill":
            out[here] = serving.prefill_memory(*parts, own)[1]
        else:
            out[here] = serving.decode_memory(*parts, grid.leading[here], own, chunk)[1]
    return out


def pool_joules(meter: Meter, layout, lead, n_devices, traffic: Traffic, phases: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Energy columns of a pool that runs `phases`; prompts without answers beside them send their cache."""
    parts = [energy.decode_joules(meter, layout, lead, traffic)] if "decode" in phases else []
    if "prefill" in phases:
        parts.append(energy.prefill_joules(meter, layout, traffic, transfers="decode" not in phases))
    return energy.serving_columns(meter, parts, n_devices, traffic.demand_tok_per_s)


def colocated(
    scene: Scene, grid: Grid, traffic: Traffic, need: Need, n: int, paired: bool = False, meter: Meter | None = None
) -> Survivors:
    """One pool: prefill stalls decode.  scene of n designs; returns survivors with TPOT, TTFT, USD and J per output token."""
    timer, parts = Timer(scene, grid, traffic, n, paired, meter), []
    for design, pair, sc, layout, lead in timer.chunks():
        pre = timer.prefill(design, pair, sc, layout)
        rows = timer.decode(design, pair, sc, layout, lead, pre)
        rows |= timer.fleet(rows["tok_per_s"], sc, layout)
        rows |= shared_pool(pre, rows, layout, lead, traffic)
        rows |= kept(rows, sc, layout, traffic.take(design))
        rows |= timer.joules(design, layout, lead, rows["held_devices"], ("prefill", "decode"))
        parts.append((rows, design, layout))
    return collect(parts, timer, n, need)


def shared_pool(pre, rows, layout, lead, traffic: Traffic) -> dict[str, np.ndarray]:
    """What follows for a pool that does both: a prompt waits for half a running step and behind the other prompts of its rank;
    in static batches it waits for the batch."""
    if "batch_wait_s" in rows:
        return {"ttft_s": rows["batch_wait_s"], "prefill_frac": rows["prefill_busy_frac"], "batch": lead * layout.n_dp}
    queue_s = service.prompt_queue(traffic, pre["forward_s"] / layout.n_pp, rows["prefill_busy_frac"])
    return {
        "ttft_s": pre["ttft_s"] + 0.5 * rows["step_s"] + queue_s,
        "prefill_frac": 1.0 - rows["step_s"] / (rows["tpot_s"] * traffic.accepted_tok),
        "batch": lead * layout.n_dp,
    }


def kept(rows, scene: Scene, layout, traffic: Traffic) -> dict[str, np.ndarray]:
    """Cost and time to first token with what prefixes cost while they wait and are loaded; {} where nobody says for how long they wait."""
    if not np.any(np.asarray(traffic.reuse_s) > 0):
        return {}
    usd, reference_usd, load_s = serving.kept_prefix(scene, layout, traffic)
    more = {"usd_per_tok": usd, "reference_usd_per_tok": reference_usd, "ttft_s": load_s}
    return {k: rows[k] + v for k, v in more.items()}


def prompt_pool(rows, scene: Scene, layout, traffic: Traffic) -> dict[str, np.ndarray]:
    """What follows for a pool of prompts: its ranks share one queue, filled by the mean demand of the largest stage; then the cache is sent."""
    tok_per_s = rows["prompts_per_s"] * traffic.osl_tok
    busy = traffic.demand_tok_per_s * traffic.stages.highest * scene.tok_per_text / (rows["n_replicas"] * tok_per_s)
    queue_s = service.prompt_queue(traffic, rows["forward_s"] / layout.n_pp, busy, rows["n_replicas"] * layout.n_dp)
    return {
        "ttft_s": rows["ttft_s"] + queue_s + serving.kv_transfer_s(scene, layout, traffic), "tok_per_s": tok_per_s,
        "step_s": rows["forward_s"], "tpot_s": 0.0, "prefill_frac": 1.0, "batch": layout.n_dp,
    }  # fmt: skip


def answer_pool(rows, layout, lead) -> dict[str, np.ndarray]:
    """What follows for a pool of answers: the first token waits for half a running step."""
    return {"ttft_s": 0.5 * rows["step_s"], "prefill_frac": 0.0, "batch": lead * layout.n_dp}


def prefill_pool(
    scene: Scene, grid: Grid, traffic: Traffic, need: Need, n: int, paired: bool = False, meter: Meter | None = None
) -> Survivors:
    """A pool of its own for prompts: TTFT with queue and KV transfer, USD and J per *output* token (each brings isl/osl prompt tokens)."""
    one = Grid(grid.layout, np.ones(grid.layout.n_tp.size if paired else 1))
    timer, parts = Timer(scene, one, traffic, n, paired, meter), []
    for design, pair, sc, layout, lead in timer.chunks(CHUNK * 8):
        rows = timer.prefill(design, pair, sc, layout)
        rows |= timer.fleet(rows["prompts_per_s"] * traffic.osl_tok, sc, layout)
        rows |= prompt_pool(rows, sc, layout, traffic)
        rows |= kept(rows, sc, layout, traffic.take(design))
        rows |= timer.joules(design, layout, lead, rows["held_devices"], ("prefill",))
        parts.append(({k: np.broadcast_to(v, (1, design.size)) for k, v in rows.items()}, design, layout))
    quantities = dict.fromkeys((*(q for q in need.quantities if q != "tpot_s"), "ttft_s"))
    return collect(parts, timer, n, Need(tuple(quantities), np.inf, need.max_ttft_s))


def decode_pool(
    scene: Scene, grid: Grid, traffic: Traffic, need: Need, n: int, paired: bool = False, meter: Meter | None = None
) -> Survivors:
    """A pool of its own for decode: no prefill stall; the wait for the running step counts into TTFT."""
    timer, parts = Timer(scene, grid, traffic, n, paired, meter), []
    for design, pair, sc, layout, lead in timer.chunks():
        rows = timer.decode(design, pair, sc, layout, lead)
        rows |= timer.fleet(rows["tok_per_s"], sc, layout)
        rows |= answer_pool(rows, layout, lead)
        rows |= timer.joules(design, layout, lead, rows["held_devices"], ("decode",))
        parts.append((rows, design, layout))
    quantities = tuple(dict.fromkeys((*need.quantities, "tpot_s")))
    return collect(parts, timer, n, Need(quantities, need.max_tpot_s, need.max_ttft_s))


def collect(parts, timer: Timer, n_designs: int, need: Need) -> Survivors:
    """Rows that fit and meet the ceilings, reduced per design; minima over what fits tell why a design has none."""
    kept, designs = [], []
    best = {key: np.full(n_designs, np.inf) for key in BEST}
    n_timed = n_feasible = 0
    for rows, design, layout in parts:
        rows |= {"usd_in": rows["usd_per_tok"] * rows["prefill_frac"], "usd_out": rows["usd_per_tok"] * (1.0 - rows["prefill_frac"])}
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
        found = {k: full[k][lead, col] for k in (*INFO, *(k for k in full if k.startswith("energy_")))}
        found |= {k: np.broadcast_to(v, design.shape)[col] for k, v in layout.columns.items()}
        kept.append(found)
        designs.append(design[col])
    if not kept:
        empty = {k: np.zeros(0) for k in (*INFO, *timer.grid.layout.columns)}
        return Survivors(np.zeros(0, dtype=int), empty, n_designs, best, timer.pairs.n_candidates, 0, 0)
    design = np.concatenate(designs)
    columns = {k: np.concatenate([part[k] for part in kept]) for k in kept[0]}
    keep = nondominated_per_design(design, [columns[q] for q in need.quantities])  # designs may span chunks
    columns = {k: v[keep] for k, v in columns.items()}
    return Survivors(design[keep], columns, n_designs, best, timer.pairs.n_candidates, n_timed, n_feasible)


def join_pools(prompts: Survivors, answers: Survivors, need: Need) -> Survivors:
    """Combinations of a prefill and a decode pool: USD and J add, TTFT adds the wait, TPOT is decode's."""
    design, a, b = cross(prompts, answers)
    p, d = prompts.columns, answers.columns
    joined = {k: p[k][a] + d[k][b] for k in ("usd_per_tok", "j_per_tok", "power_w", "ttft_s", "n_devices", "usd_in", "usd_out")}
    joined |= {k: p[k][a] + d[k][b] for k in p if k.startswith("energy_")}
    joined |= {k: d[k][b] for k in ("tpot_s", "step_s", "tok_per_s", "held_tok_per_s")}
    joined["prefill_frac"] = p["usd_per_tok"][a] / joined["usd_per_tok"]
    for name, columns, rows in (("prefill", p, a), ("decode", d, b)):
        for key in ("n_replicas", "n_devices", "memory_bytes", "batch", *DEGREES, *(k for k in PLAIN if k in columns)):
            joined[f"{name}.{key}"] = columns[key][rows]
    ok = np.flatnonzero(joined["ttft_s"] <= need.max_ttft_s)
    keep = ok[nondominated_per_design(design[ok], [joined[q][ok] for q in need.quantities])]
    best = {
        "tpot_s": answers.best["tpot_s"],
        "ttft_s": prompts.best["ttft_s"] + answers.best["ttft_s"],
        **{k: prompts.best[k] + answers.best[k] for k in ("usd_per_tok", "reference_usd_per_tok")},
    }
    columns = {k: v[keep] for k, v in joined.items()}
    counts = (getattr(prompts, k) + getattr(answers, k) for k in ("n_candidates", "n_timed", "n_feasible"))
    return Survivors(design[keep], columns, prompts.n_designs, best, *counts)
