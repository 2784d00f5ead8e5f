"""From catalog records to the arrays that physics reads: chips under an engine, models, precisions, traffic.

The only room that knows both vocabularies.  Nothing is computed here but unit bookkeeping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import catalog
from codesign.physics.energy import EnergyFit
from codesign.physics.hardware import ByBits, Chip, KernelFit, Link, Reduction, Reductions, TrainingFit
from codesign.physics.jitter import Jitter
from codesign.physics.rack import Rack
from codesign.service import batching
from codesign.service.tiers import Tier, holding_price
from codesign.service.traffic import Traffic
from codesign.spec.errors import Diagnostic, UserError

DTYPE = {16: "bf16", 8: "fp8", 4: "fp4"}
NO_PRICE = float("nan")
GEMM_K_HALF = 115.0  # our fit of H200 bf16 GEMM by depth at m = n = 4096, ai-dynamo/aiconfigurator @095f58a, after t0
PIPELINE_HOP_S = 10e-6  # point-to-point latency, ai-dynamo/aiconfigurator @095f58a systems/*.yaml p2p_latency
COPY_FRAC = 20.0 / 132.0  # SMs of an H800 that dispatch and combine occupy, DeepSeek-V3 report, arXiv 2412.19437 section 3.2.2
TOKEN_IMBALANCE = 1.3  # fullest expert rank / mean, prefill-size batches, power-law routing; same tables, 1.1-1.7


def make_chip(hardware: str | Mapping[str, Any], engine: str | Mapping[str, Any] = "generic", **overrides: float | None) -> Chip:
    """Scalar Chip of an accelerator or system under an engine.

    overrides: `scale_up_size` (a smaller or larger domain), `usd_per_s` (your own price).
    """
    record = catalog.hardware(hardware)
    if reason := record.get("not_evaluable"):
        raise UserError([Diagnostic(f"hardware '{record['name']}' cannot be evaluated: {reason}")])
    engine_record = catalog.load("engines", engine)
    ideal = engine_record["name"] == "ideal"
    k = catalog.kernel_constants(engine, record)
    return Chip(
        **_device(record), **_links(record, k, overrides.get("scale_up_size"), ideal), **_kernels(k, ideal), **_habits(engine_record),
        **_prices(record, overrides.get("usd_per_s")),
    )  # fmt: skip


def _device(record: Mapping[str, Any]) -> dict[str, Any]:
    host = record.get("host") or {}
    return {
        "peak_flop_per_s": _peaks(record["peak"]),
        "has_8_bit": np.bool_("fp8" in record["peak"]),
        "has_4_bit": np.bool_("fp4" in record["peak"]),
        "hbm_bytes": _f(record["hbm"].get("usable") or record["hbm"]["capacity"]),
        "hbm_bytes_per_s": _f(record["hbm"]["bandwidth"]),
        "host_bytes_per_s": _f(host.get("bandwidth") or np.inf),
        "host_memory_bytes": _f(host.get("memory") or np.inf),
        "tdp_w": _f(record.get("power", {}).get("tdp", np.nan)),
        "all_in_w": _f(_all_in(record)),
    }


def _links(record: Mapping[str, Any], k: Mapping[str, Any], size: float | None, ideal: bool) -> dict[str, Any]:
    scale_up = record["scale_up"]
    out_bytes_per_s = (record.get("scale_out") or {}).get("bandwidth") or scale_up["bandwidth"]
    return {
        "scale_up_size": _f(size or scale_up.get("size", 1)),
        "scale_up_peer_bytes_per_s": _f(scale_up.get("peer_bandwidth") or scale_up.get("link_bandwidth") or np.inf),
        "torus_side": _f(max(scale_up["torus_dims"]) if scale_up.get("torus_dims") else np.inf),
        "scale_up": _link(scale_up["bandwidth"], k["nccl"]["all_gather"], k["all_to_all"]["scale_up"], ideal),
        "scale_out": _link(out_bytes_per_s, k["nccl"]["scale_out"], k["all_to_all"]["scale_out"], ideal),
        "reductions": _reductions(k["all_reduce"]),
    }


def _link(bytes_per_s: float, gather: Mapping[str, float], exchange: Mapping[str, float], ideal: bool) -> Link:
    return Link(
        bytes_per_s=_f(bytes_per_s), gather=_f(gather["efficiency"]), gather_t0_s=_f(gather["t0"]),
        all_to_all=_f(exchange["efficiency"]), all_to_all_t0_s=_f(exchange["t0"]), p2p_t0_s=_f(0.0 if ideal else PIPELINE_HOP_S),
    )  # fmt: skip


def _kernels(k: Mapping[str, Any], ideal: bool) -> dict[str, Any]:
    return {
        "gemm": _fit(k["gemm"]),
        "weight_only": _weight_only(k["gemm"]),
        "gemm_k_half": _f(0.0 if ideal else GEMM_K_HALF),
        "decode_attention": _fit(k["attention_decode"], compute=k["attention_prefill"]),
        "mla_decode": _fit(k["mla_decode"]),
        "prefill_attention": _fit(k["attention_prefill"], memory=k["attention_decode"]),
        "prefill_s0_tok": _f(k["attention_prefill"]["bf16"].get("s0", 0.0)),
        "experts": _fit(k["experts"]),
        "expert_m0_tok": _f(k["experts"]["bf16"].get("m0", 0.0)),
        "token_imbalance": _f(1.0 if ideal else TOKEN_IMBALANCE),
        "copy_frac": _f(0.0 if ideal else COPY_FRAC),
        "training": _training(k),
        "dp_overlap": _f(k["stack"].get("dp_overlap", 0.0)),
    }


def _habits(engine: Mapping[str, Any]) -> dict[str, Any]:
    """What a serving engine spends and reserves beside its kernels."""
    scheduler = {"step_overhead": 0.0, "per_sequence_overhead": 0.0, "glue_kernels": 0.0} | engine.get("scheduler", {})
    memory = {"reserve": 0.0, "usable_fraction": 1.0} | engine.get("memory", {})
    return {
        "elementwise_n": _f(scheduler["glue_kernels"]),
        "step_overhead_s": _f(scheduler["step_overhead"]),
        "sequence_overhead_s": _f(scheduler["per_sequence_overhead"]),
        "reserve_bytes": _f(memory["reserve"]),
        "usable_frac": _f(memory["usable_fraction"]),
    }


def _prices(record: Mapping[str, Any], own: float | None) -> dict[str, Any]:
    """The price that is paid, and the catalog's as the reference of balances."""
    rent = (record.get("price") or {}).get("rent")
    paid = own if own is not None else rent if rent is not None else NO_PRICE
    return {"usd_per_s": _f(paid), "reference_usd_per_s": _f(rent if rent is not None else paid)}


def with_network(chip: Chip, network: Mapping[str, Any]) -> Chip:
    """The chip under the delays and site links of a study's `network` section (plain data, SI)."""
    jitters = {}
    for tier in ("scale_up", "scale_out"):
        given = network.get(tier)
        if given:
            jitters[tier] = Jitter(*(_f(given.get(key) or 0.0) for key in ("jitter", "stall", "stall_probability")))
    site = network.get("site") or {}
    return replace(
        chip, **{tier: replace(getattr(chip, tier), jitter=jitter) for tier, jitter in jitters.items()},
        site_bytes_per_s=_f(site.get("bandwidth") or np.inf), site_rtt_s=_f(site.get("rtt") or 0.0), site_max_devices=_f(site.get("max_devices") or np.inf),
    )  # fmt: skip


def make_energy(hardware: str | Mapping[str, Any], energy: str | Mapping[str, Any] = "joules") -> EnergyFit:
    """Energy prices of an accelerator or system: one catalog entry for all chips, and the chip's kind of memory."""
    record, fit = catalog.hardware(hardware), catalog.load("energy", energy)
    kind = str(record.get("memory", {}).get("type", "")).upper()
    named = [name for name in fit["memory"] if kind.startswith(name.upper())]  # the longest name that fits: HBM2e before HBM2
    bits = fit["memory"][max(named, key=len)] if named else fit["memory"]["other"]
    chip, link = fit["chip"], fit["link"]
    pue = catalog.load("prices", "energy")["default"]["pue"]
    return EnergyFit(*(_f(v) for v in (chip["idle"], chip["full_load"], chip["sustained"], chip["arithmetic"], fit["on_chip"], bits,
                                       link["scale_up"], link["scale_out"], pue, fit["node"]["drawn"])))  # fmt: skip


def make_rack(hardware: str | Mapping[str, Any], limits: Mapping[str, Any]) -> Rack:
    """The rack of a study (`limits`: its section) around the devices of an accelerator or system."""
    record, kind = catalog.hardware(hardware), catalog.load("racks", limits.get("use") or "oberon")
    own = {k: v for k, v in limits.items() if v is not None and k in ("n_cables", "power", "weight")}
    limit, switch, optics, device = kind["limit"] | own, kind["switch"], kind["optics"], kind["device"]
    weight = device["weight"]
    if record.get("server", {}).get("weight"):
        weight = record["server"]["weight"] / record["server"]["devices"]
    money, spare = catalog.load("prices", "energy")["default"], limits.get("n_spare")
    values = (
        limit["n_cables"], limit["power"], limit["air_power"], limit["weight"], limit["n_slots"], kind["cable"]["lane"], switch["n_ports"],
        switch["port"], switch["per_tray"], switch["power"], switch["price"], switch["hop"], optics["bandwidth"], optics["power"],
        optics["price"], kind["cooling"]["price"], weight, record.get("devices_per_tray") or device["per_tray"], kind["frame"]["weight"],
        kind["repair"], catalog.load("prices", "capex")["life"], money["electricity"], money["pue"], -1.0 if spare is None else spare,
    )  # fmt: skip
    return Rack(*(_f(v) for v in values), is_copper=np.bool_(limits.get("medium") == "copper"))


def engine_mixing(engine: str | Mapping[str, Any]) -> str:
    """How an engine mixes prefill with decode unless told otherwise: `alternating` or `chunked`."""
    return catalog.load("engines", engine).get("scheduler", {}).get("mixing", "alternating")


def make_traffic(
    workload: Mapping[str, Any], demand_tok_per_s: float, peak_to_mean: float = 1.0, serving: Any = None, engine: str = "generic"
) -> Traffic:
    """Traffic of one workload record: lognormal lengths from mean and sigma, prefix hits as a share of the prompt.

    `serving` (a study's section): drafts give (1 - a^(n+1)) / (1 - a) tokens per step when each is accepted with probability a
    given the one before it (arXiv 2211.17192 equation 1); percentile of occupancy; how prefill and decode are mixed.
    """
    from statistics import NormalDist

    isl, osl = workload["isl"], workload["osl"]
    spread = [length["mean"] * np.sqrt(np.expm1(length.get("sigma", 0.0) ** 2)) for length in (isl, osl)]
    n_draft, accept = (serving.n_draft_tok, serving.draft_acceptance) if serving else (0, 0.0)
    accepted = (1.0 - accept ** (n_draft + 1)) / (1.0 - accept) if accept < 1 else n_draft + 1.0
    prefix = np.floor(workload.get("prefix_hit", 0.0) * isl["mean"])
    values = (isl["mean"], osl["mean"], *spread, prefix, accepted if n_draft else 1.0, 1.0 + n_draft, demand_tok_per_s, peak_to_mean)
    z = NormalDist().inv_cdf(serving.memory_percentile if serving else 0.99)
    chunked = ((serving.mixing if serving else None) or engine_mixing(engine)) == "chunked"
    kind = batching.KINDS[serving.batching if serving else "paged"]
    return Traffic(*(np.float64(v) for v in values), occupancy_z=np.float64(z), chunked=np.bool_(chunked), batching=np.float64(kind))


def make_tier(name: str) -> Tier:
    """One device's share of a memory tier of the catalog."""
    record = catalog.load("memory", name)
    return Tier(holding_price(record["price"]), _f(record["bandwidth"]), _f(record.get("latency", 0.0)))


def _f(value: Any) -> np.float64:
    return np.float64(value)


def _peaks(peak: Mapping[str, float]) -> ByBits:
    """Dense peaks by operand width; a missing narrow dtype repeats the next wider one (it is stored, not multiplied)."""
    at_16 = peak.get("bf16") or peak.get("fp32")
    if not at_16:
        at_16 = peak["fp8"] / 2.0  # a chip that states only its fp8 peak (Trainium3): systolic arrays halve per doubling
    at_8 = peak.get("fp8") or at_16
    return ByBits(_f(at_16), _f(at_8), _f(peak.get("fp4") or at_8))


def _by_bits(value) -> ByBits:
    return ByBits(*(_f(value(DTYPE[bits])) for bits in (16, 8, 4)))


def _fit(cells: Mapping[str, Any], compute: Mapping[str, Any] | None = None, memory: Mapping[str, Any] | None = None) -> KernelFit:
    """Constants of one operator by width; 4-bit attention does not exist and repeats 8 bit."""

    def column(source: Mapping[str, Any], key: str) -> ByBits:
        return _by_bits(lambda d: (source.get(d) or source["fp8"]).get(key, 1.0 if key != "t0" else 0.0))

    return KernelFit(column(cells, "t0"), column(compute or cells, "compute"), column(memory or cells, "memory"))


def _weight_only(cells: Mapping[str, Any]) -> KernelFit:
    """Constants of weight-only GEMMs by weight width (16 bit repeats the ordinary one)."""
    rows = [cells["bf16"], cells.get("w8a16") or cells["bf16"], cells.get("w4a16") or cells["bf16"]]
    return KernelFit(*(ByBits(*(_f(row.get(key, 1.0)) for row in rows)) for key in ("t0", "compute", "memory")))


STACK = (
    "attention_backward", "attention_s0", "attention_half", "experts", "expert_m0", "traffic", "casts", "network", "tp_overlap", "ep_overlap", "ep_hidden",
    "ep_once", "graphed", "sync", "host", "host_moe", "usable", "step",
)  # fmt: skip
BARE = dict.fromkeys(
    ("sustained", "sustained_narrow", "attention", "attention_backward", "experts_16", "experts_8", "network", "usable"), 1.0
)


def _training(k: Mapping[str, Any]) -> TrainingFit:
    """Constants of the training stack: GEMMs by chip and width, the rest from the engine's `training` block (absent: bare)."""
    stack = BARE | k["stack"]
    values = {name: _f(stack.get(name, 0.0)) for name in STACK}
    values["experts"] = ByBits(_f(stack["experts_16"]), _f(stack["experts_8"]), _f(stack["experts_8"]))
    derate = {"bf16": stack["sustained"], "fp8": stack["sustained"] * stack["sustained_narrow"]}
    compute = _by_bits(lambda d: k["training"][d]["compute"] * derate.get(d, derate["fp8"]))
    return TrainingFit(compute, _f(k["attention_prefill"]["bf16"]["compute"] * stack["attention"]), *values.values())


def _reductions(table: Mapping[int, Mapping[str, float]]) -> Reductions:
    """All-reduce constants by group size.  A size that was not measured takes the next larger one that was, else the largest,
    unchanged."""
    sizes = sorted(table)

    def at(n: int) -> Reduction:
        row = table[next((size for size in sizes if size >= n), sizes[-1])]
        return Reduction(*(_f(row[key]) for key in ("one_shot_t0", "one_shot", "two_shot_t0", "two_shot")))

    return Reductions(*(at(n) for n in (2, 4, 8, 16)))


def _all_in(record: Mapping[str, Any]) -> float:
    """All-in provisioned power per device [W]: host, network and facility included; without a survey figure 1.7 x TDP, the
    mean over the surveyed chips (SemiAnalysis July 2026: H100 1.96, B200 1.71, GB200 1.56, MI300X 1.85, MI355X 1.49)."""
    power = record.get("power", {})
    return power.get("all_in") or 1.7 * power.get("tdp", np.nan)
