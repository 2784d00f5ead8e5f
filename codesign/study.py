"""A study file resolved: names looked up, every problem found at once, one `StudyProblem` ready to search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codesign import catalog, objectives
from codesign.asked import column_problems, video_problems
from codesign.constraints import Limit
from codesign.given import clip_of, law_of, life_of, returns_of, rl_job_of, traffic_of, workload_of
from codesign.legal import PLACE, kinds_of, legal_variables, roles_of
from codesign.physics import architecture as arch
from codesign.physics.arrays import stack
from codesign.physics.energy import in_joules
from codesign.physics.layout import OVERLAP
from codesign.physics.phases.train import OFFLOAD, RECOMPUTE
from codesign.physics.rack import device_limits
from codesign.point import TRAIN_BITS
from codesign.problem import TIER, StudyProblem
from codesign.scenario import make_chip, make_energy, make_rack, make_tier, with_network
from codesign.search import samplers
from codesign.service import tiers as kv_tiers
from codesign.setting import Goal, Joules, Pool, Setting
from codesign.spec import StudyFile, load_study
from codesign.spec.errors import Diagnostic, Problem, SpecError, UserError, did_you_mean
from codesign.spec.space import Late, Space
from codesign.units.candidates import Grid, serving_grid, training_grid
from codesign.units.clip_unit import clip_grid

DEFAULT_TIERS_S = tuple(v / 1e3 for v in (4, 6, 8, 12, 16, 24, 35, 50, 80, 120, 200))
LATE = ("n_params", "n_active_params", "kv_bytes_per_tok")


@dataclass(frozen=True)
class Study:
    """A resolved study: the file, the workload record, and the problem to search."""

    file: StudyFile
    workload: dict[str, Any]
    model: dict[str, Any]
    problem: StudyProblem

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def setting(self) -> Setting:
        return self.problem.setting


def open_study(path: str | Path, overrides: Iterable[str] = (), scenario: str | None = None) -> Study:
    """Load, check and resolve a study file; a SpecError carries all its problems with file:line:col."""
    file = load_study(path, overrides, scenario, check=check)
    return resolve(file)


def check(file: StudyFile) -> Iterator[Problem | Diagnostic]:
    """What only the catalog and the column registry can know."""
    names = list(_names(file))
    yield from names
    yield from column_problems(file)
    yield from video_problems(file)
    yield from _lifecycle(file)
    yield from _caches(file)
    yield from sampler_problems(file, file.search.method in ("nested", "joint"))
    if not any(isinstance(p, Diagnostic) or p.path[:1] in (("base",), ("hardware",), ("rack",)) for p in names):
        yield from _variables(file)
        yield from _domains(file)


def _names(file: StudyFile) -> Iterator[Problem | Diagnostic]:
    for path, kind, name in _named(file):
        try:
            catalog.hardware(name) if kind == "hardware" else catalog.load(kind, name)
        except SpecError as error:
            for d in error.diagnostics:  # a problem inside the user's own file keeps its own place
                yield Problem(path, d.message, d.hint) if d.path is None else d
    if file.lifecycle.train_precision and file.lifecycle.train_precision not in TRAIN_BITS:
        hint = did_you_mean(file.lifecycle.train_precision, TRAIN_BITS, "formats")
        yield Problem(("lifecycle", "train_precision"), f"unknown training precision '{file.lifecycle.train_precision}'", hint)
    for key, value in file.base.architecture.items():
        if key not in arch.DEFAULTS:
            yield Problem(
                ("base", "architecture", key), f"unknown architecture key '{key}'", did_you_mean(key, arch.DEFAULTS, "keys"), True
            )
        elif key in arch.TEXT and value not in kinds_of(key):
            close = did_you_mean(str(value), kinds_of(key), "known kinds")
            yield Problem(("base", "architecture", key), f"'{value}' is none of {', '.join(kinds_of(key))}", close)


def _named(file: StudyFile) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(place, kind, name) of everything that the catalog must know."""
    yield ("base", "model"), "models", file.base.model
    yield ("engine",), "engines", file.engine
    if file.lifecycle.train_engine:
        yield ("lifecycle", "train_engine"), "engines", file.lifecycle.train_engine
    if file.serving.engine:
        yield ("serving", "engine"), "engines", file.serving.engine
    if file.rack and file.rack.use:
        yield ("rack", "use"), "racks", file.rack.use
    for role, name in file.hardware:
        if name is not None:
            yield ("hardware", role), "hardware", name
    if file.workload is not None and file.workload.use:
        yield ("workload", "use") if isinstance(file.workload.use, str) else ("workload",), "workloads", file.workload.use
    for name, variable in file.space.items():
        if name.startswith("hardware."):
            for choice in variable.choices or ():
                yield ("space", name), "hardware", str(choice)
    for name in file.prices:
        yield ("prices", name), "hardware", name
    yield from ((("references", i), "models", known.model) for i, known in enumerate(file.references) if known.model is not None)


def _domains(file: StudyFile) -> Iterator[Problem]:
    """A domain larger than the hardware's is other hardware: racks say what it takes, or it has a price of its own."""
    legal, varied = legal_variables(file), [f"{role}.scale_up_size" for role in roles_of(file)]
    if file.rack and not set(varied) & set(file.space):
        yield Problem(
            ("rack",),
            "no scale-up domain is varied, so racks have nothing to build",
            f"add '{varied[-1]}: [8, 72, 144]' to the space",
            True,
        )
    for role, key in zip(roles_of(file), varied, strict=True):
        names = file.choices(f"hardware.{role}", legal[f"hardware.{role}"]) or (dict(file.hardware).get(role) or file.hardware.serve,)
        for name in names if key in file.space and all(names) else ():
            if file.rack:
                yield from _rack(file, str(name), key, max(file.choices(key, legal[key]), default=0))
                continue
            size = catalog.hardware(str(name))["scale_up"]["size"]
            if max(file.choices(key, legal[key]), default=0) > size:
                yield Problem(("space", key), f"'{name}' has a scale-up domain of {size} devices; larger ones cannot be had",
                              "add 'rack: {}' to build them from racks, or write a system file: {accelerator: ..., scale_up: {size: ...}, price: {rent: ...}}")  # fmt: skip


def _rack(file: StudyFile, name: str, key: str, largest: float) -> Iterator[Problem]:
    """Racks that cannot exist around this hardware."""
    topology = catalog.hardware(name)["scale_up"].get("topology", "switch")
    if topology != "switch":
        yield Problem(
            ("rack",), f"'{name}' joins its devices as a {topology}; racks are modelled for switched domains", "leave 'rack' out", True
        )
        return
    rack, chip = make_rack(name, file.rack.model_dump()), make_chip(name)
    for limit, n in device_limits(chip, rack).items():
        if n < 1:
            yield Problem(
                ("rack",), f"not one device of '{name}' fits a rack within its limit of {limit}", f"raise the limit of {limit}", True
            )
    most = float(rack.n_ports**3 / 4)
    if largest > most:
        yield Problem(("space", key), f"three tiers of {rack.n_ports:g}-port switches reach {most:g} devices", "choose smaller domains")


def _caches(file: StudyFile) -> Iterator[Problem]:
    """Prefixes that wait need a place and a time."""
    known = (kv_tiers.RECOMPUTE, kv_tiers.HBM, *catalog.names("memory"))
    if file.serving.kv_tier is not None and file.serving.kv_tier not in known:
        yield Problem(
            ("serving", "kv_tier"), f"'{file.serving.kv_tier}' is no place for caches", did_you_mean(file.serving.kv_tier, known, "places")
        )
    kept, reuse = file.serving.kv_tier or PLACE in file.space, file.workload is not None and file.workload.reuse
    if file.workload is not None and kept and not reuse:
        yield Problem(
            ("workload",), "prefixes wait somewhere, but for how long?", "write 'reuse: 5 min', the time until a prefix is used again", True
        )
    if reuse and not kept:
        yield Problem(
            ("workload", "reuse"), "where do prefixes wait until then?", "write 'serving: {kv_tier: host_dram}', or vary serving.kv_tier"
        )


def _lifecycle(file: StudyFile) -> Iterator[Problem]:
    if file.workload is not None and file.workload.clip is not None:
        return
    if file.lifecycle.pretrain_tok is None and "lifecycle.pretrain_tok" not in file.space:
        yield Problem(("lifecycle", "pretrain_tok"), "no pretraining tokens are given", "write '15 Ttok', or {solve: budget}", True)
    if file.workload is None or file.workload.demand is None:
        yield Problem(
            ("workload",), "no demand is given: output tokens per second that the service must carry", "write 'demand: 1e5 tok/s'", True
        )


def sampler_problems(file: StudyFile, is_sampled: bool) -> Iterator[Problem]:
    """A sampler that does not exist or, where the space will be sampled, that cannot run here."""
    try:
        samplers.check(file.search.sampler, len(file.objectives) if is_sampled else None)
    except UserError as error:
        yield Problem(("search", "sampler"), error.diagnostics[0].message, error.diagnostics[0].hint)


def _variables(file: StudyFile) -> list[Diagnostic]:
    """Problems of the space that need the base model."""
    try:
        _space(file, _base(file, catalog.load("models", file.base.model)))
    except SpecError as error:
        return error.diagnostics
    return []


def resolve(file: StudyFile) -> Study:
    """Look every name up and build the problem.  `file` has passed `check`."""
    model = catalog.load("models", file.base.model)
    if reason := model.get("not_evaluable"):
        raise SpecError([file.place(Problem(("base", "model"), f"model '{model['name']}' cannot be evaluated: {reason}"))])
    base = _base(file, model)
    tiers = _tiers(file)
    space = _space(file, base)
    workload = workload_of(file)
    traffic = traffic_of(file, workload)
    life = life_of(file, workload)
    goals = tuple(Goal(objectives.canonical(n), d == "maximize") for n, d in file.objectives.items())
    goals = tuple(dict.fromkeys(goals))
    setting = Setting(
        base=base, pools=_pools(file, space), traffic=traffic, life=life, goals=goals, limits=_limits(file),
        disaggregated=file.serving.mode == "disaggregated", grids={},
        max_tpot_s=min(file.slo.tpot or np.inf, tiers[-1] if tiers and TIER in file.space else np.inf, _ceiling(file, "tpot_s")),
        max_ttft_s=min(file.slo.ttft or np.inf, _ceiling(file, "ttft_s")),
        tiers={n: make_tier(n) for n in _places(space, base) if n not in (kv_tiers.RECOMPUTE, kv_tiers.HBM)}, tiers_s=tiers, rl=rl_job_of(file), law=law_of(file),
        **dict(zip(("clip", "clip_seconds"), clip_of(file), strict=True)),
    )  # fmt: skip
    setting = replace(setting, grids=_grids(file, setting, space, base), returns=returns_of(file, setting.columns_read))
    return Study(file, workload, model, StudyProblem(space, setting))


def _base(file: StudyFile, model: Mapping[str, Any]) -> dict[str, Any]:
    """Base values by dotted name.  Widths that a varied variable must be able to change are left to `fill`."""
    architecture = dict(model["architecture"]) | dict(file.base.architecture)
    if "architecture.attention" in file.space and architecture.get("attention") == "mla":
        architecture.pop("d_head", None)
    precision = {"weight_bits": 16, "kv_bits": 16, "act_bits": 16} | dict(model.get("precision") or {}) | dict(file.base.precision)
    base = {f"architecture.{k}": v for k, v in architecture.items()} | {f"precision.{k}": v for k, v in precision.items()}
    given = {role: name for role, name in file.hardware if name is not None}
    first = next(iter(given.values()), None) or next(str(v.choices[0]) for n, v in file.space.items() if n.startswith("hardware."))
    for role in roles_of(file):
        fallback = {"rl": given.get("train"), "prefill": given.get("serve"), "decode": given.get("serve")}.get(role)
        base[f"hardware.{role}"] = given.get(role) or fallback or first
    return base | ({PLACE: file.serving.kv_tier} if file.serving.kv_tier else {})


def _places(space: Space, base: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the places where prefixes may wait."""
    varied = {v.name: v.choices for v in space.variables}.get(PLACE, ())
    return tuple(map(str, varied)) or ((base[PLACE],) if PLACE in base else ())


def _tiers(file: StudyFile) -> tuple[float, ...]:
    """Speed tiers: those of the space, or a ladder of our own when latency is an objective."""
    named = file.choices(TIER, legal_variables(file)[TIER])
    if named:
        return tuple(sorted(named))
    if {objectives.canonical(n) for n in file.objectives} & {"tpot_s", "tok_per_s_per_user"}:
        ceiling = file.slo.tpot or np.inf
        return tuple(v for v in DEFAULT_TIERS_S if v < ceiling) + ((ceiling,) if np.isfinite(ceiling) else ())
    return ()


def _space(file: StudyFile, base: Mapping[str, Any]) -> Space:
    """Design variables: all of `space` but the speed tier, which chooses among layouts and not among designs."""
    legal = legal_variables(file)
    fixed = {name: base[name] for name in legal if name in base}
    late = Late(frozenset(LATE), partial(late_columns, base))  # and not a lambda, which no worker process could be sent
    return file.parse_space(legal, fixed, late, without={TIER})


def late_columns(base: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameter counts of designs, for `where`."""
    merged = dict(base) | dict(columns)
    shape = arch.fill({k.split(".", 1)[1]: v for k, v in merged.items() if k.startswith("architecture.")})
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = arch.census(shape)
    cached = arch.kv_bytes_per_tok(counts, np.asarray(merged["precision.kv_bits"], dtype=float))
    return {"n_params": counts.n_params, "n_active_params": counts.n_active_params, "kv_bytes_per_tok": cached}


def _pools(file: StudyFile, space: Space) -> dict[str, Pool]:
    pools = {}
    varied = {v.name: v.choices for v in space.variables}
    reads_energy = bool({objectives.canonical(n) for n in (*file.objectives, *file.constraints)} & objectives.ENERGY_COLUMNS)
    for role in roles_of(file):
        given = {role_: name for role_, name in file.hardware if name is not None}
        fallback = {"rl": given.get("train"), "prefill": given.get("serve"), "decode": given.get("serve")}.get(role)
        names = tuple(varied.get(f"hardware.{role}", ())) or (given.get(role) or fallback or next(iter(given.values())),)
        engine = (file.lifecycle.train_engine if role == "train" else file.serving.engine or file.engine) or "generic"
        engine = file.engine if file.engine == "ideal" else engine
        chips = [with_network(make_chip(name, engine, usd_per_s=own_price(file, name)), file.network.model_dump()) for name in names]
        unpriced = [n for n, c in zip(names, chips, strict=True) if not np.isfinite(c.usd_per_s)]
        if unpriced:
            hint = f"add 'prices: {{{unpriced[0]}: 2.00 USD/h}}' to the study"
            raise SpecError([file.place(Problem(("hardware", role), f"no price is known for '{unpriced[0]}'", hint))])
        racks = [make_rack(name, file.rack.model_dump()) for name in names] if file.rack and f"{role}.scale_up_size" in varied else None
        pools[role] = Pool(names, stack(chips), _joules(names) if reads_energy else None, stack(racks) if racks else None)
    return pools


def _joules(names: Iterable[str]) -> Joules:
    """Hardware choices priced in joules."""
    chips, fits = [make_chip(name, "ideal") for name in names], [make_energy(name) for name in names]
    near, far = (stack([in_joules(c, f, far=far) for c, f in zip(chips, fits, strict=True)]) for far in (False, True))
    return Joules(near, far, stack(fits))


def own_price(file: StudyFile, name: str) -> float | None:
    record = catalog.hardware(name)
    for given, price in file.prices.items():
        other = catalog.hardware(given)
        if (
            other["system"] == record["system"]
            or given in (record["accelerator"], record["system"])
            or other["accelerator"] == record["accelerator"]
        ):
            return price
    return None


def _ceiling(file: StudyFile, column: str) -> float:
    """Latency that the study's constraints allow: the layouts kept per design must meet it, as they must an SLO."""
    tops = [x.bound for x in _limits(file) if x.column == column and x.op == "<="]
    if column == "tpot_s":
        tops += [1.0 / x.bound for x in _limits(file) if x.column == "tok_per_s_per_user" and x.op == ">=" and x.bound > 0]
    return min(tops, default=np.inf)


def _limits(file: StudyFile) -> tuple[Limit, ...]:
    limits = []
    for name, bounds in file.constraints.items():
        column = objectives.canonical(name)
        unit = objectives.COLUMNS[column].unit
        several = len(bounds) > 1
        limits += [Limit(f"{name} {b.op}" if several else name, column, b.op, b.limit(unit)) for b in bounds]
    budget = file.lifecycle.budget
    if budget is not None and budget.devices:  # a fleet for a time is a bound on both, not only on their product
        limits += [
            Limit("fleet devices", "train_devices", "<=", float(budget.devices)),
            Limit("fleet days", "train_s", "<=", budget.days * 86400.0),
        ]
    return tuple(limits)


def _grids(file: StudyFile, setting: Setting, space: Space, base: Mapping[str, Any]) -> dict[str, Grid]:
    """Candidate layouts per unit: the tool's, narrowed by the study's `layout`."""
    experts = [v.choices for v in space.variables if v.name == "architecture.n_experts"]
    has_moe = max([float(base.get("architecture.n_experts") or 0), *(float(c) for cs in experts for c in cs)]) > 1
    ceiling = min((x.bound for x in setting.limits if x.column == "train_devices" and x.op == "<="), default=1e9)
    if setting.clip:
        size, own = _largest_domain(setting, space, "serve"), _choices(file.layout.serve)
        return {"serve": clip_grid(int(setting.clip.n_guidance), min(size, 64), own)}
    grids = {"train": training_grid(has_moe, ceiling, _choices(file.layout.train))}
    for role in setting.roles:
        size = _largest_domain(setting, space, role)
        own = _choices(file.layout.serve if role == "serve" else getattr(file.layout, role))
        grids[role] = serving_grid(has_moe, int(max(64, min(size, 128))), own)
    rollout = {"n_pp": (1,), "batch": (8, 32, 128, 512)} | _choices(file.layout.rl)
    grids["rl.rollout"] = serving_grid(has_moe, 64, {k: v for k, v in rollout.items() if k not in ("micro_batch", "recompute", "zero")})
    grids["rl.update"] = training_grid(has_moe, 1024, {"n_devices": (64, 512), "micro_batch": (1,), "n_pp": (1, 4, 8)})
    return grids


def _largest_domain(setting: Setting, space: Space, role: str) -> float:
    varied = [max(v.choices) for v in space.variables if v.name == f"{role}.scale_up_size"]
    return float(max(varied) if varied else np.max(setting.pools[role].chips.scale_up_size))


def _choices(given) -> dict[str, tuple]:
    """Degrees that a study's `layout` names, as the grids take them."""
    if given is None:
        return {}
    out = {k: tuple(v) for k, v in given.model_dump(exclude_none=True).items()}
    for key, names in (("recompute", RECOMPUTE), ("offload", OFFLOAD), ("overlap", OVERLAP)):
        if key in out:
            out[key] = tuple(names.index(v) for v in out[key])
    return out
