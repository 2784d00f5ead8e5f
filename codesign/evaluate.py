"""The pipeline, in reading order: what is a design -> what can train it -> what can serve it -> what does RL cost ->
which combinations matter -> how many tokens -> how good -> what does it cost -> which are feasible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from codesign import clips, lifecycle_columns, tokens
from codesign.constraints import WORST
from codesign.lifecycle.vocabulary import tok_per_base_tok
from codesign.objectives import COST_COLUMNS, ENERGY_COLUMNS
from codesign.physics import architecture as arch
from codesign.physics import rack
from codesign.physics.operators import Scene, make_scene
from codesign.physics.precision import Precision
from codesign.results import Batch
from codesign.service import tiers
from codesign.service.traffic import Traffic
from codesign.setting import Setting
from codesign.units import clip_unit, serve_unit, train_unit
from codesign.units.energy import TOTAL, Meter
from codesign.units.reduce import nondominated_per_design, one_row_each
from codesign.units.survivors import Survivors, cross

PRECISION_KEYS = ("weight_bits", "kv_bits", "act_bits")
# Variables that each unit reads, by the beginning of their names: designs equal in these share the unit's rows.
PARTS = {
    "train": ("architecture.", "hardware.train", "train.", "precision.train_bits", "lifecycle.pretrain_tok", "derived."),
    "serve": ("architecture.", "precision.", "hardware.", "serve.", "prefill.", "decode.", "workload.", "serving.", "derived."),
    "rl": ("architecture.", "precision.", "hardware.rl", "rl.", "derived."),
}
EXTRA_QUANTITIES = {  # of serving: what a column needs kept apart, beside money and latency
    "j_per_tok": {"energy_j_per_tok", "lifecycle_energy_j"},
    "n_devices": {"serve_devices"},
    "power_w": {"serve_power_w", "facility_power_w"},
    "held_tok_per_s": {"serve_load_frac"},
}


@dataclass
class Designs:
    """A described batch: architecture counts (A,), precision, chips per role, and which part of each design a unit reads."""

    values: dict[str, np.ndarray]
    n: int
    shape: dict[str, np.ndarray]
    census: arch.Census
    buildable: np.ndarray
    precision: Precision
    chips: dict[str, object]
    tok_per_text: np.ndarray  # tokens of the design's vocabulary per token of the base vocabulary
    groups: dict[str, tuple[np.ndarray, np.ndarray]]  # unit -> (first design of each distinct part, part of each design)
    domain: tuple[dict, dict] | None  # columns and violations of racks
    traffic: Traffic  # requests, with what each design does with their prefixes


Prices = Callable[[dict[str, np.ndarray], dict[str, np.ndarray], str], dict[str, np.ndarray]]


def evaluate(
    setting: Setting, values: dict[str, np.ndarray], codes: dict[str, np.ndarray], layouts=None, tier_s=None, prices: Prices | None = None
) -> Batch:
    """Score A designs.

    values: dotted variable -> (A,) array; codes: the same as small integers (equal code, equal value), used to evaluate a
    part that several designs share only once; layouts: unit -> Grid with one layout per design (flat search), else every
    candidate of the setting's grids is tried; tier_s: TPOT asked of each design, which chooses its representative point;
    prices: `cheapest` of this setting with a memory, for flat searches, which meet a design many times.
    """
    designs = describe(setting, values, codes, share=layouts is None)
    training = clips.nothing(designs.n) if setting.clip else train(setting, designs, layouts)
    serving = serve(setting, designs, layouts)
    rows = cross(training, serving)
    if setting.clip:
        columns, violations = clips.fill(setting, designs, serving, rows)
        return judge(setting, designs, training, serving, rows[0], columns, violations, 0, tier_s)
    if layouts is None:
        rl_rate, n_rl = reinforce(setting, designs)
    else:
        rl_rate, n_rl = _priced(setting, values, codes, training, serving, rows[0], prices or partial(cheapest, setting)), 0
    columns, violations = lifecycle_columns.fill(setting, designs, training, serving, rl_rate, rows)
    return judge(setting, designs, training, serving, rows[0], columns, violations, n_rl, tier_s)


def describe(setting: Setting, values, codes, share: bool = True) -> Designs:
    """Architecture, precision and hardware of every design; parts that designs share are found by their variables."""
    n = len(next(iter(values.values()))) if values else 1
    merged = setting.base | values
    shape = arch.fill({k.split(".", 1)[1]: v for k, v in merged.items() if k.startswith("architecture.")})
    buildable = ~np.any([np.broadcast_to(mask, (n,)) for mask in arch.problems(shape).values()], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        census = arch.census(shape)
    precision = Precision(*(np.asarray(merged[f"precision.{k}"], dtype=float) for k in PRECISION_KEYS))
    chips = {role: _chip(setting, merged, role) for role in setting.pools}
    groups = {unit: _group(codes, n, prefixes, share) for unit, prefixes in PARTS.items()}
    varied = values.get("architecture.vocab")
    tok_per_text = np.float64(1.0) if varied is None else tok_per_base_tok(varied, setting.base["architecture.vocab"])
    place = merged.get("serving.kv_tier")
    traffic = setting.traffic if place is None else tiers.kept_in(setting.traffic, setting.tiers, place)
    return Designs(values, n, shape, census, buildable, precision, chips, tok_per_text, groups, _domain(setting, merged), traffic)


def _chip(setting: Setting, merged, role: str):
    """Chip of a role per design (A,): the chosen hardware, and a scale-up domain cut or extended where the study varies it."""
    return _sized(setting, merged, role, _chosen(setting, merged, role, setting.pools[role].chips))


def _chosen(setting: Setting, merged, role: str, records):
    """What `records` (H,) say about the hardware that each design has chosen for a role (A,)."""
    names, name = setting.pools[role].names, merged.get(f"hardware.{role}")
    if len(names) == 1 or name is None:
        return records.compact() if len(names) == 1 else records.take(0)
    index = {n: i for i, n in enumerate(names)}
    return records.take(np.array([index[str(v)] for v in np.atleast_1d(name)]))


def _sized(setting: Setting, merged, role: str, chip):
    """The chip in the domain that the study gives it: as it is sold, cut, or built from racks."""
    size, racks = merged.get(f"{role}.scale_up_size"), setting.pools[role].racks
    if size is None:
        return chip
    size = np.asarray(size, dtype=float)
    if racks is None:
        return replace(chip, scale_up_size=size)
    kind = _chosen(setting, merged, role, racks)
    return rack.with_domain(chip, kind, rack.domain(chip, kind, size), rack.domain(chip, kind, chip.scale_up_size))


def _domain(setting: Setting, merged) -> tuple[dict, dict] | None:
    """(columns (A,), violations (A,)) of the serving (or decode) pool's scale-up domains; None where the study has no racks."""
    role = setting.roles[-1]
    pool, size = setting.pools[role], merged.get(f"{role}.scale_up_size")
    if pool.racks is None or size is None:
        return None
    chip, kind = (_chosen(setting, merged, role, records) for records in (pool.chips, pool.racks))
    size = np.asarray(size, dtype=float)
    what = vars(rack.domain(chip, kind, size))
    columns = {f"rack_{k}": v for k, v in what.items() if k not in ("n_devices", "extra_w")}
    return columns, {f"rack {k}": v for k, v in rack.violations(chip, kind, size).items()}


def meter_of(setting: Setting, designs: Designs, role: str, rows, precision: Precision, training=False) -> Meter | None:
    """The scenes of the designs `rows` in joules; None where the study reads no energy."""
    records = setting.pools[role].joules
    if records is None:
        return None
    merged = setting.base | designs.values
    chosen = _chosen(setting, merged, role, records)
    parts = designs.census.take(rows), precision.take(rows)
    near, far = (_sized(setting, merged, role, chip).take(rows) for chip in (chosen.near, chosen.far))
    scenes = (make_scene(parts[0], chip, parts[1], training=training) for chip in (near, far))
    return Meter(*scenes, chosen.fit.take(rows))


def _group(codes, n: int, prefixes, share: bool):
    used = [code for name, code in codes.items() if name.startswith(prefixes)]
    if not share:
        return np.arange(n), np.arange(n)
    if not used:
        return np.zeros(1, dtype=int), np.zeros(n, dtype=int)
    _, first, back = np.unique(np.stack(used, axis=1), axis=0, return_index=True, return_inverse=True)
    return first, np.ravel(back)


def scene_of(designs: Designs, role: str, rows, precision: Precision, training=False) -> Scene:
    """Scene of the designs `rows` on the chip of `role`."""
    per_text = designs.tok_per_text if np.size(designs.tok_per_text) == 1 else designs.tok_per_text[rows]
    parts = designs.census.take(rows), designs.chips[role].take(rows), precision.take(rows)
    return make_scene(*parts, training=training, tok_per_text=per_text)


def fitting(setting: Setting, values, codes, layouts) -> np.ndarray:
    """Whether each design (A,) can be built with its layout of every unit: structure and memory, without timing anything.

    What a flat search may ask before it proposes a row; no row that passes here fails for one of these reasons in `evaluate`.
    """
    designs = describe(setting, values, codes, share=False)
    rows, ok = np.arange(designs.n), designs.buildable
    if setting.clip:
        return ok & clip_unit.fitting(scene_of(designs, "serve", rows, designs.precision), layouts["serve"], setting.clip, designs.n)
    scene = scene_of(designs, "train", rows, _train_precision(setting, designs), training=True)
    batch = tokens.global_batch_seq(setting, designs)
    ok = ok & train_unit.fitting(scene, layouts["train"], np.float64(setting.life.seq_tok), batch, designs.n, _most_devices(setting))
    for role in setting.roles:
        scene = scene_of(designs, role, rows, designs.precision)
        ok = ok & serve_unit.fitting(scene, layouts[role], designs.traffic, role, designs.n)
    return ok


def _train_precision(setting: Setting, designs: Designs) -> Precision:
    bits = np.asarray(designs.values.get("precision.train_bits", setting.life.train_bits), dtype=float)
    bits = np.broadcast_to(bits, (designs.n,))
    return Precision(bits, np.float64(16.0), bits)


def _most_devices(setting: Setting) -> float:
    return min((x.bound for x in setting.limits if x.column == "train_devices" and x.op == "<="), default=np.inf)


def train(setting: Setting, designs: Designs, layouts) -> Survivors:
    """Training layouts worth keeping: the cheapest, and the fast ones where days or devices are bounded or minimised."""
    first, back = designs.groups["train"]
    precision = _train_precision(setting, designs)
    scene = scene_of(designs, "train", first, precision, training=True)
    read = setting.columns_read
    quantities = ["device_s_per_tok"]
    if read & {"train_s", "rl_s"}:
        quantities.append("s_per_tok")
    if "train_devices" in {g.column for g in setting.goals} or read & {"train_power_w", "facility_power_w"}:
        quantities.append("n_devices")
    meter = meter_of(setting, designs, "train", first, precision, training=True) if "train_energy_used_j" in read else None
    quantities += [TOTAL] if meter is not None else []
    batch = tokens.global_batch_seq(setting, designs)[first]
    paired = layouts is not None
    grid = setting.grids["train"] if layouts is None else layouts["train"]
    out = train_unit.training_unit(
        scene, grid, np.float64(setting.life.seq_tok), batch, quantities, len(first), _most_devices(setting), paired, meter
    )
    return out.expand(back)


def serve(setting: Setting, designs: Designs, layouts) -> Survivors:
    """Serving layouts worth keeping, in one pool or two."""
    first, back = designs.groups["serve"]
    if setting.clip:
        return clips.serve(setting, designs, scene_of(designs, "serve", first, designs.precision), first, layouts).expand(back)
    read = setting.columns_read
    quantities = ["usd_per_tok"]
    for key, names in (("tpot_s", {"tpot_s", "tok_per_s_per_user"}), ("ttft_s", {"ttft_s"})):
        goals = {g.column for g in setting.goals}
        if goals & names or (key == "tpot_s" and setting.tiers_s):
            quantities.append(key)
    several = len(setting.pools[setting.roles[0]].names) > 1 or setting.disaggregated
    for key, names in EXTRA_QUANTITIES.items():
        if read & names and (key != "j_per_tok" or several):
            quantities.append(key)
    quantities += [c for c in ENERGY_COLUMNS & read if c != "train_energy_used_j"]
    quantities += [q for q, name in (("usd_in", "usd_per_mtok_input"), ("usd_out", "usd_per_mtok_output")) if name in read]
    need = serve_unit.Need(tuple(quantities), setting.max_tpot_s, setting.max_ttft_s)
    paired = layouts is not None

    def pool(role):
        scene = scene_of(designs, role, first, designs.precision)
        meter = meter_of(setting, designs, role, first, designs.precision)
        return (
            scene,
            setting.grids[role] if layouts is None else layouts[role],
            designs.traffic.take(first),
            need,
            len(first),
            paired,
            meter,
        )

    if not setting.disaggregated:
        return serve_unit.colocated(*pool("serve")).expand(back)
    parts = serve_unit.prefill_pool(*pool("prefill")), serve_unit.decode_pool(*pool("decode"))
    return serve_unit.join_pools(*parts, need).expand(back)


def reinforce(setting: Setting, designs: Designs) -> tuple[np.ndarray, int]:
    """Device-seconds per RL token (A,); nothing is timed when the study does no RL."""
    if not needs_rl(setting, designs.values):
        return np.zeros(designs.n), 0
    first, back = designs.groups["rl"]
    bits = np.broadcast_to(np.asarray(setting.life.train_bits, dtype=float), (designs.n,))
    learn = scene_of(designs, "rl", first, Precision(bits, np.float64(16.0), bits), training=True)
    roll = scene_of(designs, "rl", first, designs.precision)
    rate, n_timed = train_unit.rl_device_s_per_tok(
        roll, learn, setting.grids["rl.rollout"], setting.grids["rl.update"], setting.rl, len(first)
    )
    return rate[back], n_timed


def cheapest(setting: Setting, values, codes, unit: str) -> dict[str, np.ndarray]:
    """What a unit costs on the best layout that each design (A,) has for it, whatever layout is tried."""
    designs = describe(setting, values, codes)
    if unit == "rl":
        return {"rl": reinforce(setting, designs)[0]}
    return (train if unit == "train" else serve)(setting, designs, None).best


def _priced(setting: Setting, values, codes, training, serving, design, prices: Prices) -> np.ndarray:
    """Device-seconds per RL token (A,) of a flat search; balance looks at the cheapest layouts, not at the sampled ones.

    Only designs whose sampled layouts all fit (`design` of their points) are swept for it: the others are dead already.
    """
    alive, weighed = np.unique(design), setting.life.values_cheapest
    rl_rate = np.full(training.n_designs, np.inf if needs_rl(setting, values) else 0.0)
    if not alive.size or not (weighed or needs_rl(setting, values)):
        return rl_rate
    values, codes = ({k: v[alive] for k, v in columns.items()} for columns in (values, codes))
    for unit, known in (("train", training.best), ("serve", serving.best)) if setting.life.values_cheapest else ():
        for name, best in prices(values, codes, unit).items():
            known[name][alive] = best
    rl_rate[alive] = prices(values, codes, "rl")["rl"]
    return rl_rate


def needs_rl(setting: Setting, values) -> bool:
    """Whether the study does any RL."""
    life = setting.life
    return life.rl_rule != "fixed" or bool(life.rl_tok) or "lifecycle.rl_tok" in values


def judge(setting: Setting, designs: Designs, training, serving, design, columns, violations, n_rl: int, tier_s=None) -> Batch:
    """Which points are feasible, which of each design's are not dominated, what its honest vector is, why it died."""
    broken = np.max(np.stack(list(violations.values())), axis=0) if violations else np.zeros(design.size)
    feasible = (broken <= 0) & designs.buildable[design]
    goals = np.stack([columns[g.column] * (-1.0 if g.maximize else 1.0) for g in setting.goals], axis=1)
    keep = np.flatnonzero(feasible & np.all(np.isfinite(goals), axis=1))
    keep = keep[np.lexsort((columns["lifecycle_usd"][keep], design[keep]))]  # of equal points the cheaper life is kept
    keep = keep[nondominated_per_design(design[keep], list(goals[keep].T))]
    points = {k: v[keep] for k, v in columns.items()} | {"point": _ordinal(design[keep])}
    points |= {k: np.broadcast_to(v, (designs.n,))[design[keep]] for k, v in designs.values.items()}
    if setting.tiers_s:
        asked = np.full(designs.n, setting.tiers_s[-1]) if tier_s is None else tier_s
        violations["speed tier"] = columns["tpot_s"] / asked[design] - 1.0
    best, worst, killed = _per_design(setting, designs, training, serving, design, goals, violations)
    signs = np.array([-1.0 if g.maximize else 1.0 for g in setting.goals])
    return Batch(
        points=points, design=design[keep], objectives=best * signs, violations=worst,
        n_layouts=training.n_timed + serving.n_timed + n_rl, n_candidates=training.n_candidates + serving.n_candidates,
        n_feasible=training.n_feasible + serving.n_feasible, killed=killed,
    )  # fmt: skip


def _ordinal(design) -> np.ndarray:
    """Number of each point within its design, 0, 1, ...; `design` is sorted."""
    starts = np.flatnonzero(np.r_[True, design[1:] != design[:-1]]) if design.size else np.zeros(0, dtype=int)
    counts = np.diff(np.r_[starts, design.size])
    return np.arange(design.size) - np.repeat(starts, counts)


def constraint_names(setting: Setting) -> tuple[str, ...]:
    """Violation columns of a Batch, in order: structure and memory first, then tokens and the study's own limits."""
    tier = ("speed tier",) if setting.tiers_s else ()
    if setting.clip:
        return ("structure", "train memory", "serve memory", *clips.violation_names(setting))
    return ("structure", "train memory", "serve memory", *lifecycle_columns.violation_names(setting), *tier)


def _per_design(setting: Setting, designs: Designs, training, serving, design, goals, violations):
    """(A, M) honest vectors, (A, C) violations of the least-broken point, reason -> designs killed.

    The vector of a design is its cheapest feasible point: lowest in the goals in the order in which costs come first.
    """
    n, names = designs.n, constraint_names(setting)
    worst = np.full((n, len(names)), -1.0)
    worst[:, 0] = np.where(designs.buildable, -1.0, 1.0)
    for column, unit in ((1, training), (2, serving)):
        nothing = ~np.isfinite(unit.best["device_s_per_tok" if column == 1 else "usd_per_tok"])
        worst[:, column] = np.where(nothing, 1.0, -1.0)
    table = np.stack([violations[name] for name in names[3:]], axis=1) if len(names) > 3 else np.zeros((design.size, 0))
    total = np.sum(np.maximum(table, 0.0), axis=1)
    rank = np.arange(design.size) if one_row_each(design) else np.lexsort((_cheapness(setting, goals), total, design))
    starts = np.flatnonzero(np.r_[True, design[rank][1:] != design[rank][:-1]]) if design.size else np.zeros(0, dtype=int)
    chosen, owner = rank[starts], design[rank[starts]]
    worst[owner, 3:] = table[chosen]
    missing = np.setdiff1d(np.arange(n), owner, assume_unique=True)
    worst[missing, 3:] = _latency_violation(setting, serving, missing, names[3:])
    best = np.full((n, goals.shape[1]), np.nan)
    best[owner] = goals[chosen]
    best[~np.isfinite(best).all(axis=1)] = np.nan
    dead = np.any(worst > 0, axis=1)
    killed = {}
    if dead.any():
        first = np.argmax(worst[dead] > 0, axis=1)  # memory kills before latency is looked at
        for i, count in zip(*np.unique(first, return_counts=True), strict=True):
            killed[names[i]] = int(count)
    return best, np.clip(worst, -WORST, WORST), killed


def _cheapness(setting: Setting, goals):
    """Order among feasible points of one design: its first cost goal, else its first goal."""
    cost = [i for i, g in enumerate(setting.goals) if g.column in COST_COLUMNS] or [0]
    return goals[:, cost[0]]


def _latency_violation(setting: Setting, serving, rows, names):
    """Violations of designs without a point: how far their fastest fitting layout is from the latency ceilings."""
    out = np.full((rows.size, len(names)), -1.0)
    for j, name in enumerate(names):
        key, ceiling = {"ttft": ("ttft_s", setting.max_ttft_s), "tpot": ("tpot_s", setting.max_tpot_s)}.get(name, (None, 0))
        if key and np.isfinite(ceiling):
            value = serving.best[key][rows]
            out[:, j] = np.where(np.isfinite(value), np.maximum(value / ceiling - 1.0, -1.0), -1.0)
    return out
