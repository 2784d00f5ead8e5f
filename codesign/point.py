"""One point, no study: `codesign evaluate`.  A scenario mapping in, plain numbers out (JSON keys of the public interface)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from codesign import catalog, life_point, point_parts, service_point
from codesign.physics import memory
from codesign.physics.architecture import DEFAULTS as ARCHITECTURE
from codesign.physics.architecture import Census, census, fill, kv_bytes_per_tok, problems
from codesign.physics.hardware import Chip
from codesign.physics.interleave import busy_of
from codesign.physics.kernels import BOUNDS, Ledger, dominant
from codesign.physics.layout import Layout
from codesign.physics.operators import Scene, make_scene
from codesign.physics.phases import decode, denoise, prefill, train
from codesign.physics.precision import Precision, compute_bits
from codesign.point_check import PRECISION, RACK, SHARES, TIMED, TRAIN_BITS, checked
from codesign.scenario import engine_mixing, make_chip, make_energy, with_network
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.spec.errors import Diagnostic, UserError, did_you_mean
from codesign.units import energy, serving


def evaluate_point(scenario: Mapping[str, Any], detail: bool = False) -> dict[str, Any]:
    """Architecture, and each asked phase, of one model on one layout of one chip.  Keys as in the README's reference.

    `detail` adds `operators` (time by cause, bound), `memory` (bytes by class) and `energy` (J per token by cause) to every phase,
    and `rack`: what a domain of `scale_up_size` devices takes, which a limit of a rack (`rack_power`, ...) adds by itself.

    Prefill and decode of one answer share their devices: decode's `tpot_s`, `usd_per_mtok` and standing energy (idle, host) include the time
    that the prompts of its own requests take (`interference_s`); adding prefill's counts it twice.  Asked alone, each has its devices to itself.
    """
    s = checked(scenario)
    if s["system"] is None and s["accelerator"] is None:
        return _without_hardware(s)
    counts, scene, bits = _scene(s)
    layout = point_parts.layout_of(s, has_moe=bool(counts.ffn.n_moe_layers > 0))
    point_parts.check_possible(layout, counts)
    phases = s["phase"].split(",")
    out: dict[str, Any] = {
        "architecture": _counted(counts, bits),
        "layout": {**{k: int(v) for k, v in layout.columns.items()}, "n_devices": int(layout.n_devices)},
        "precision": dict(bits),
        "hardware": _hardware(scene.chip, bits),
    }
    if "prefill" in phases:
        out["prefill"] = _prefill(scene, layout, s, detail)
    if "decode" in phases:
        pre = out.get("prefill")
        out["decode"] = _decode(scene, layout, s, pre, detail)
    if "batching" in phases:
        out["batching"] = service_point.batching_point(scene, layout, s, _mixing(s) == "chunked")
    if "service" in phases:
        out["service"] = service_point.service_point(s, out["prefill"], out["decode"], layout)
    if "train" in phases:
        out["train"] = _train(counts, scene.chip, layout, s, detail)
    if "denoise" in phases:
        out["denoise"] = _denoise(scene, layout, s, detail)
    if {"quality", "life"} & {*phases}:
        out |= _worth(s, bits, phases)
    if detail and not isinstance(s["system"] or s["accelerator"], Chip):
        for phase in {*phases} & {*TIMED}:
            out[phase]["energy"] = _energy(counts, s, layout, bits, phase, out[phase])
    limits = {k: s[k] for k in RACK}
    asked = any(v is not None for v in limits.values())
    if (detail or asked) and not isinstance(s["system"] or s["accelerator"], Chip):
        out |= point_parts.racked(s["system"] or s["accelerator"], scene.chip, limits, asked)
    return out


def _counted(counts: Census, bits: Mapping[str, float]) -> dict[str, float]:
    names = ("n_params", "n_active_params", "n_active_params_excl_in", "n_active_params_excl_both")
    return {k: float(getattr(counts, k)) for k in names} | {"kv_bytes_per_tok": float(kv_bytes_per_tok(counts, bits["kv_bits"]))}


def _without_hardware(s: Mapping[str, Any]) -> dict[str, Any]:
    """Quality and life in FLOP need no chip."""
    counts, released = _model(s["model"], s["architecture"])
    bits = {k: float(released[k] if s[k] is None else s[k]) for k in PRECISION}
    return {"architecture": _counted(counts, bits), "precision": bits, **_worth(s, bits, s["phase"].split(","))}


def _worth(s: Mapping[str, Any], bits: Mapping[str, float], phases: list[str]) -> dict[str, Any]:
    """Quality and life of the model (`life_point`)."""
    architecture = _record(s["model"], s["architecture"])["architecture"]
    found = {"quality": life_point.quality_point(architecture, bits, s)}
    if "life" in phases:
        priced = (lambda shape: _usd_per_tok(s, shape)) if s["of"] == "usd" else None
        found["life"] = life_point.life_point(architecture, bits, s, found["quality"], priced)
    return found


def _usd_per_tok(s: Mapping[str, Any], architecture: Mapping[str, Any]) -> dict[str, float]:
    """USD per token of each phase on the scenario's layout; an output token carries its prompt, RL costs what its FLOP cost in training."""
    asked = {k: v for k, v in s.items() if v is not None} | {"architecture": dict(architecture), "phase": "train,prefill,decode"}
    answer = evaluate_point(asked)
    usd = {k: answer[k]["usd_per_mtok"] / 1e6 for k in ("train", "prefill", "decode")}
    prompt = max(s["isl"] - s["prefix"], 1) / s["osl"]
    return {
        "pretrain": usd["train"],
        "rl": usd["decode"] + (4.0 + 6.0) / 6.0 * usd["train"],
        "inference": usd["decode"] + prompt * usd["prefill"],
    }


def _hardware(chip: Chip, bits: Mapping[str, float]) -> dict[str, float | None]:
    """The chip as this precision finds it: nominal figures, per device, links per direction."""
    peak = chip.peak_flop_per_s.pick(compute_bits(bits["weight_bits"], bits["act_bits"], chip.has_8_bit, chip.has_4_bit))
    values = {
        "peak_flop_per_s": peak, "hbm_bytes": chip.hbm_bytes, "hbm_bytes_per_s": chip.hbm_bytes_per_s,
        "ridge_flop_per_byte": peak / chip.hbm_bytes_per_s, "drain_s": chip.hbm_bytes / chip.hbm_bytes_per_s,
        "scale_up_size": chip.scale_up_size, "scale_up_bytes_per_s": chip.scale_up.bytes_per_s,
        "scale_out_bytes_per_s": chip.scale_out.bytes_per_s, "tdp_w": chip.tdp_w, "all_in_w": chip.all_in_w,
        "usd_per_h": chip.usd_per_s * 3600.0,
    }  # fmt: skip
    return {k: float(v) if np.isfinite(v) else None for k, v in values.items()}


def _per_s(usd_per_h: float | None) -> float | None:
    return None if usd_per_h is None else usd_per_h / 3600.0


NETWORK = ("scale_up_jitter", "scale_out_jitter", "site_bandwidth", "site_rtt")
SCENE = ("engine", "scale_up_size", "usd_per_h", "scale_out_bandwidth", *NETWORK, *SHARES, "weight_bits", "kv_bits", "act_bits")


def _scene(s: Mapping[str, Any]) -> tuple[Census, Scene, dict[str, float]]:
    """Census, scene and bits of a scenario.  What the catalog names is built once: reading it costs more than an evaluation."""
    hardware, rest = s["system"] or s["accelerator"], tuple(s[k] for k in SCENE)
    known = (
        _is_shipped("models", s["model"]) and not s["architecture"],
        _is_shipped("hardware", hardware) and _is_shipped("engines", s["engine"]),
    )
    counts, released = _known_model(s["model"]) if known[0] else _model(s["model"], s["architecture"])
    if all(known):
        return counts, *_known_scene(s["model"], hardware, *rest)
    return counts, *_make_scene(counts, released, (_known_chip if known[1] else _chip)(hardware, *rest[:-3]), rest[-3:])


def _is_shipped(kind: str, name: Any) -> bool:
    return isinstance(name, str) and _is_known(kind, name)


@lru_cache(1024)
def _is_known(kind: str, name: str) -> bool:
    return any(catalog.known(k, name) for k in (("systems", "accelerators") if kind == "hardware" else (kind,)))


def _chip(hardware: Any, engine: Any, scale_up_size: float | None = None, usd_per_h: float | None = None,
          scale_out_bandwidth: float | None = None, *rest: float | None) -> Chip:  # fmt: skip
    """Chip of a scenario; `rest`: NETWORK, then SHARES."""
    network, shares = rest[: len(NETWORK)], rest[len(NETWORK) :]
    chip = hardware if isinstance(hardware, Chip) else make_chip(hardware, engine, scale_up_size=scale_up_size, usd_per_s=_per_s(usd_per_h))
    if scale_out_bandwidth is not None:
        chip = replace(chip, scale_out=replace(chip.scale_out, bytes_per_s=np.float64(scale_out_bandwidth)))
    if any(network):
        near, far, bandwidth, rtt = network
        tiers = {name: {"jitter": jitter} for name, jitter in (("scale_up", near), ("scale_out", far)) if jitter}
        chip = with_network(chip, tiers | {"site": {"bandwidth": bandwidth, "rtt": rtt}})
    stated = {k: np.float64(v) for k, v in zip(SHARES, shares, strict=False) if v is not None}
    if not stated:
        return chip
    if stated.get("dp_overlap") == 0.0:
        stated = {"tp_overlap": np.float64(0.0)} | stated  # a run without overlap overlaps nothing
    dp_overlap = stated.pop("dp_overlap", chip.dp_overlap)
    return replace(chip, dp_overlap=dp_overlap, training=replace(chip.training, **stated))


def _model(name: Any, architecture: Mapping[str, Any] | None = None) -> tuple[Census, Mapping[str, float]]:
    """(census, precision in which the model was released)."""
    model = _record(name, architecture)
    return _counts(model), model.get("precision") or {"weight_bits": 16, "kv_bits": 16, "act_bits": 16}


def _record(name: Any, architecture: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model's record; `architecture` replaces some of its dimensions."""
    model = catalog.load("models", name)
    if architecture:
        unknown = [k for k in architecture if k not in ARCHITECTURE]
        if unknown:
            hint = did_you_mean(unknown[0], ARCHITECTURE, "dimensions")
            raise UserError([Diagnostic(f"unknown architecture key '{unknown[0]}'", hint=hint)])
        model["architecture"] = model["architecture"] | dict(architecture)
    return model


def _make_scene(counts: Census, released: Mapping[str, float], chip: Chip, given: Sequence[int | None]) -> tuple[Scene, dict[str, float]]:
    bits = {name: float(released[name] if value is None else value) for name, value in zip(PRECISION, given, strict=True)}
    return make_scene(counts, chip, Precision(*(np.float64(bits[name]) for name in PRECISION))), bits


_known_chip, _known_model, _known_mixing = lru_cache(256)(_chip), lru_cache(256)(_model), lru_cache(64)(engine_mixing)


def _mixing(s: Mapping[str, Any]) -> str:
    return s["mixing"] or (_known_mixing if _is_shipped("engines", s["engine"]) else engine_mixing)(s["engine"])


@lru_cache(1024)
def _known_scene(model: str, hardware: str, *rest: Any) -> tuple[Scene, dict[str, float]]:
    return _make_scene(*_known_model(model), _known_chip(hardware, *rest[:-3]), rest[-3:])


def _counts(model: Mapping[str, Any]):
    if reason := model.get("not_evaluable"):
        raise UserError([Diagnostic(f"model '{model['name']}' cannot be evaluated: {reason}")])
    arch = fill(model["architecture"])
    broken = [Diagnostic(f"model '{model['name']}': {name}") for name, mask in problems(arch).items() if np.any(mask)]
    if broken:
        raise UserError(broken)
    return census(arch)


def _verdict(classes: Mapping[str, Any], scene: Scene, detail: bool) -> dict[str, Any]:
    capacity = scene.chip.hbm_bytes * scene.chip.usable_frac
    total, fits, overflow = memory.verdict(classes, capacity)
    out = {"memory_bytes": float(total), "capacity_bytes": float(capacity), "fits": bool(fits), "overflow": str(overflow) or None}
    if detail:
        out["memory"] = [{"class": k, "bytes": float(v)} for k, v in classes.items()]
    return out


def _explained(ledger: Ledger, detail: bool) -> dict[str, Any]:
    causes = {k: float(v) for k, v in ledger.totals().items()}
    out: dict[str, Any] = {"bound": str(dominant({k: v for k, v in causes.items()})), "causes": causes}
    out |= {f"device_{k}": float(sum(float(getattr(op, k)) for op in ledger.ops)) for k in ("flop", "bytes")}
    if busy := busy_of(ledger):
        out["busy"] = busy
    if detail:
        keys = ("compute_s", "memory_s", "network_s", "fixed_s", "time_s", "flop", "bytes")
        out["operators"] = [
            {"name": op.name, "bound": BOUNDS[int(op.bound)], **{k: float(getattr(op, k)) for k in keys}}
            for op in ledger.ops
            if float(op.time_s) > 0
        ]
    return out


def _energy(counts: Census, s: Mapping[str, Any], layout: Layout, bits: Mapping[str, float], phase: str, timed: Mapping[str, Any]):
    """J per token of the phase by cause, and the power of a chip while it runs."""
    hardware, width = s["system"] or s["accelerator"], np.float64(TRAIN_BITS[s["train_precision"]])
    chip = _chip(hardware, "ideal", s["scale_up_size"], s["usd_per_h"], s["scale_out_bandwidth"])
    precision = Precision(width, np.float64(16.0), width) if phase == "train" else Precision(*(np.float64(bits[k]) for k in PRECISION))
    meter = point_parts.meter(counts, chip, make_energy(hardware), precision, training=phase == "train")
    n_devices = float(layout.n_devices)
    if phase == "train":
        parts, tok_per_s = energy.training_parts(meter, layout, _job(s, layout)), timed["tok_per_s_per_device"] * n_devices
    elif phase == "prefill":
        per_tok = 1.0 / (s["isl"] - s["prefix"])
        parts = {k: v * per_tok for k, v in energy.prefill_joules(meter, layout, _traffic(s, osl=1)).items()}
        tok_per_s = timed["tok_per_s"]
    else:
        per_rank = decode.sequences_per_rank(np.float64(s["batch"]), layout)
        parts, tok_per_s = energy.decode_joules(meter, layout, per_rank, _traffic(s)), timed["tok_per_s"]
    return point_parts.joules(meter, parts, n_devices, tok_per_s)


def _usd_per_mtok(chip, n_devices, tok_per_s) -> float | None:
    usd = float(chip.usd_per_s * n_devices / tok_per_s * 1e6)
    return usd if np.isfinite(usd) else None


def _prefill(scene: Scene, layout: Layout, s: Mapping[str, Any], detail: bool) -> dict[str, Any]:
    prompt = prefill.Prompt(np.float64(s["isl"] - s["prefix"]), np.float64(s["prefix"]))
    ledger = prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt), detail=True)
    tok_per_s = float(prefill.tokens_per_s(ledger.time_s, layout, prompt))
    matmul, attention = prefill.flop(scene, prompt)
    return {
        "ttft_s": float(prefill.ttft(ledger.time_s, layout, prompt)),
        "tok_per_s": tok_per_s,
        "forward_s": float(ledger.time_s),
        "fixed_s": float(ledger.fixed_s),
        "usd_per_mtok": _usd_per_mtok(scene.chip, layout.n_devices, tok_per_s),
        "flop_matmul": float(matmul),
        "flop_attention": float(attention),
        **_verdict(prefill.memory_classes(scene, layout, prompt), scene, detail),
        **_explained(ledger, detail),
    }


def _denoise(scene: Scene, layout: Layout, s: Mapping[str, Any], detail: bool) -> dict[str, Any]:
    given = (np.float64(s[k]) for k in ("n_tok", "text_tok", "n_steps", "guidance"))
    clip = denoise.Clip(*given, batch=np.ceil(np.float64(s["batch"]) / layout.n_dp))
    numbers, classes, ledger = point_parts.denoised(scene, layout, clip)
    return numbers | _verdict(classes, scene, detail) | _explained(ledger, detail)


def _decode(scene: Scene, layout: Layout, s: Mapping[str, Any], pre: Mapping[str, Any] | None, detail: bool) -> dict[str, Any]:
    load = decode.Load(np.float64(s["batch"]), np.float64(s["isl"] + s["osl"] / 2.0), np.float64(1 + s["n_draft"]))
    touched = decode.fullest_experts(scene, layout, load)
    ledger = decode.step(scene, layout, load, touched, detail=True)
    per_rank = decode.sequences_per_rank(load.batch, layout)
    stall_s = 0.0
    if pre is not None:
        traffic = _traffic(s)
        n_chunks = serving.prompt_of(traffic).n_chunks
        stall_s = service.interference(per_rank / layout.n_pp, traffic, pre["forward_s"], pre["fixed_s"], ledger.slack_s, n_chunks)
    drafting_s = serving.draft_s(scene, layout, load.q_tok, ledger.time_s)
    tpot_s = float((ledger.time_s + drafting_s + stall_s) / s["accepted"])
    tok_per_s = s["batch"] / tpot_s
    classes = decode.memory_classes(scene, layout, load, np.float64(s["isl"] + s["osl"]))
    mean = decode.mean_experts(scene, layout, load) if scene.has_moe() else 0.0
    return {
        "step_s": float(ledger.time_s),
        "tpot_s": tpot_s,
        "interference_s": float(stall_s),
        "tok_per_s": float(tok_per_s),
        "weight_bytes": float(decode.weights_read(scene, layout, touched)),
        "weight_bytes_mean": float(decode.weights_read(scene, layout, mean)),
        "kv_bytes": float(memory.kv_cache(scene, layout, per_rank, load.context_tok)),
        "usd_per_mtok": _usd_per_mtok(scene.chip, layout.n_devices, tok_per_s),
        **_verdict(classes, scene, detail),
        **_explained(ledger, detail),
    }


def _traffic(s: Mapping[str, Any], osl: int | None = None) -> Traffic:
    """Requests that are all alike."""
    values = (s["isl"], osl or s["osl"], 0, 0, s["prefix"], s["accepted"], 1 + s["n_draft"], 1, 1)
    return Traffic(*(np.float64(v) for v in values), chunked=np.bool_(_mixing(s) == "chunked"))


def _job(s: Mapping[str, Any], layout: Layout) -> train.Job:
    global_batch = s["global_batch"] or s["micro_batch"] * int(layout.n_dp) * int(layout.n_pp)
    zero, mode = np.float64(s["zero"]), np.float64(train.RECOMPUTE.index(s["recompute"]))
    rest = (np.float64(v) for v in (s["n_interleave"], train.OFFLOAD.index(s["offload"]), s["n_sites"], s["sync_every"]))
    return train.Job(*(np.float64(v) for v in (s["seq_len"], s["micro_batch"], global_batch)), mode, zero, *rest)


def _train(counts, chip, layout: Layout, s: Mapping[str, Any], detail: bool) -> dict[str, Any]:
    bits = np.float64(TRAIN_BITS[s["train_precision"]])
    scene = make_scene(counts, chip, Precision(bits, np.float64(16.0), bits), training=True)
    job = _job(s, layout)
    global_batch = int(job.global_batch)
    micro = float(train.n_micro(job, layout))
    if micro < 1 or not micro.is_integer():
        raise UserError([Diagnostic(
            f"global_batch = {global_batch} is not a whole number of micro-batches: n_dp x micro_batch = {int(layout.n_dp) * s['micro_batch']}",
            hint="choose a multiple of n_dp x micro_batch",
        )])  # fmt: skip
    result = train.step(scene, layout, job, detail=True)
    step_s, n_devices = float(result.step_s), float(layout.n_devices)
    tok = float(job.global_batch * job.seq_tok)
    peak = float(chip.peak_flop_per_s.pick(compute_bits(bits, bits, chip.has_8_bit, chip.has_4_bit)))
    flop = float(train.model_flop(scene, job))
    tok_per_s = tok / step_s
    return {
        "step_s": step_s,
        "tok_per_s_per_device": tok_per_s / n_devices,
        "mfu_frac": flop / (step_s * n_devices * peak),
        "flop": flop,
        "global_batch": global_batch,
        "n_micro": int(micro),
        "parts_s": {
            "micro_batches": micro * float(result.micro_s),
            "bubble": float(result.bubble_s),
            "gradient_exchange": float(result.exchange_s),
            "optimizer": float(result.update_s),
        },
        "usd_per_mtok": _usd_per_mtok(chip, n_devices, tok_per_s),
        **_verdict(train.memory_classes(scene, layout, job), scene, detail),
        **_explained(result.ledger, detail),
    }
