"""Joules per token of the units: what activity draws by cause, and the power that flows while devices are held."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.physics.energy import EnergyFit, by_part, standing_w
from codesign.physics.experts import touched_mean
from codesign.physics.layout import Layout
from codesign.physics.operators import Scene
from codesign.physics.phases import decode, prefill, train
from codesign.service.traffic import Traffic, mean_context
from codesign.units import serving

TOTAL = "energy_used_j_per_tok"


@dataclass(frozen=True)
class Meter(Arrays):
    """The scenes of `physics.energy.in_joules` (all but scale-out; scale-out alone), and the prices behind them."""

    near: Scene
    far: Scene
    fit: EnergyFit


def one_stage(layout: Layout) -> Layout:
    """The layout with its pipeline stages laid end to end: what one micro-batch costs all of them (sends between stages left out)."""
    return replace(layout, n_pp=np.ones_like(np.asarray(layout.n_pp)))


def decode_joules(meter: Meter, layout: Layout, per_rank, traffic: Traffic) -> dict[str, np.ndarray]:
    """J per output token by cause: joules of one step on the mean device x devices of a stage / tokens of a micro-batch.

    Parameters: per_rank sequences in flight per attention rank [seq], broadcasting with layout (N,).  Returns [J/tok].
    """
    flat = one_stage(layout)
    n_seq = decode.micro_batch(per_rank * layout.n_dp, layout)
    load = decode.Load(n_seq * layout.n_dp, mean_context(traffic), traffic.q_tok)
    touched = decode.mean_experts(meter.near, flat, load) if meter.near.has_moe() else 0.0
    parts = by_part(*(decode.step(scene, flat, load, touched, detail=True) for scene in (meter.near, meter.far)), meter.fit)
    drafted = 1.0 + (traffic.q_tok - 1.0) / meter.near.census.n_layers  # a draft module is one layer more
    return {k: v * flat.n_stage * drafted / (load.batch * traffic.accepted_tok) for k, v in parts.items()}


def prefill_joules(meter: Meter, layout: Layout, traffic: Traffic, transfers: bool = False) -> dict[str, np.ndarray]:
    """J per output token by cause that prompts cost, each brings `osl` of them; `transfers`: and sending their cache to another pool."""
    flat, prompt, touched = one_stage(layout), serving.prompt_of(traffic), 0.0
    if meter.near.has_moe():
        ffn = meter.near.census.ffn
        touched = touched_mean(ffn.n_experts, ffn.n_active_experts, prefill.group_tokens(flat, prompt), flat.n_ep)
    parts = by_part(*(prefill.forward(scene, flat, prompt, touched, detail=True) for scene in (meter.near, meter.far)), meter.fit)
    parts = {k: v * flat.n_stage / (flat.n_dp * traffic.osl_tok) for k, v in parts.items()}
    if transfers:
        parts["scale_out"] = parts["scale_out"] + serving.kv_transfer_s(meter.far, flat, traffic) * flat.n_tp / traffic.osl_tok
    return parts


def serving_columns(meter: Meter, parts: list[dict[str, np.ndarray]], n_devices, tok_per_s) -> dict[str, np.ndarray]:
    """Columns `energy_*_j_per_tok` of a pool of `n_devices` charged devices that serves `tok_per_s` output tokens: they add up to TOTAL.

    facility = (PUE - 1) x everything else.
    """
    joules = {k: sum(part[k] for part in parts) for k in parts[0]}
    joules |= {k: w * n_devices / tok_per_s for k, w in standing_w(meter.near.chip, meter.fit).items()}
    joules["facility"] = (meter.fit.pue - 1.0) * sum(joules.values())
    return {f"energy_{k}_j_per_tok": v for k, v in joules.items()} | {TOTAL: sum(joules.values())}


def training_parts(meter: Meter, layout: Layout, job: train.Job) -> dict[str, np.ndarray]:
    """J per token of one optimizer step by cause: micro-batches, gradient exchange and update of all devices / tokens of the step."""
    flat = one_stage(layout)
    near, far = (train.step(scene, flat, job, detail=True) for scene in (meter.near, meter.far))
    parts = {k: v * train.n_micro(job, layout) for k, v in by_part(near.ledger, far.ledger, meter.fit).items()}
    delivery = meter.fit.on_chip_j_per_byte / (meter.fit.on_chip_j_per_byte + meter.fit.hbm_j_per_byte)
    parts["on_chip"] = parts["on_chip"] + near.update_s * delivery
    parts["hbm"] = parts["hbm"] + near.update_s * (1.0 - delivery)
    parts["scale_up"] = parts["scale_up"] + near.exchange_s
    parts["scale_out"] = parts["scale_out"] + far.exchange_s
    return {k: v * flat.n_stage / (job.global_batch * job.seq_tok) for k, v in parts.items()}


def training_joules(meter: Meter, layout: Layout, job: train.Job, device_s_per_tok, goodput) -> dict[str, np.ndarray]:
    """`{TOTAL: J per token}` of training at the wall: activity / goodput (lost work is done twice), and standing power x device-seconds."""
    activity = sum(training_parts(meter, layout, job).values()) / goodput
    standing = sum(standing_w(meter.near.chip, meter.fit).values()) * device_s_per_tok
    return {TOTAL: meter.fit.pue * (activity + standing)}
