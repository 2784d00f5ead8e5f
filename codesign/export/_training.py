"""How it is trained: layout, memory, step, batch and learning-rate schedules, failures and checkpoints, reinforcement learning."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, gcd
from typing import Any

import numpy as np

from codesign.explain import layout_text
from codesign.export import _recipe as recipe
from codesign.export._refusal import ELSEWHERE
from codesign.export._subject import Subject, plain
from codesign.physics import failures
from codesign.physics.layout import Layout, make_layout
from codesign.physics.phases import rl, train
from codesign.physics.phases.train import OFFLOAD, RECOMPUTE, Job


def place(s: Subject, role: str, n_devices: int) -> dict[str, Any]:
    """Hardware of a pool, as orders and racks are counted: devices, nodes, scale-up domains."""
    record, chip = s.hardware(role), s.chip(role)
    domain = int(chip.scale_up_size)
    node = int(record.get("devices_per_tray") or record.get("scale_up", {}).get("size", 1))
    return {
        "hardware": str(plain(s.values[f"hardware.{role}"])), "accelerator": record.get("title") or record["name"], "n_devices": n_devices,
        "n_devices_per_node": node, "n_nodes": ceil(n_devices / node), "n_devices_per_scale_up_domain": domain,
        "n_scale_up_domains": ceil(n_devices / domain), "usd_per_device_s": plain(chip.usd_per_s), "all_in_w_per_device": plain(chip.all_in_w),
    }  # fmt: skip


def unexpressed(s: Subject) -> list[tuple[str, str]]:
    """(feature, what to use instead) of a job that no launcher of ours can be told."""
    job, found = s.job, []
    if plain(job.recompute) == RECOMPUTE.index("reversible"):
        found.append(("reversible blocks", ELSEWHERE))
    if plain(job.offload):
        found.append((f"{OFFLOAD[int(plain(job.offload))]} offload to the host", ELSEWHERE))
    if plain(job.n_sites) > 1:
        found.append(("training over several sites", ELSEWHERE))
    return found


def layout(s: Subject) -> dict[str, Any]:
    """The training job: degrees, batch, what one step takes and where its time goes."""
    job, found = s.job, next(row for row in s.explained["layout"] if row["unit"] == "train")
    bounds = next(row for row in s.explained["bounds"] if row["unit"] == "train")
    step_s = s.number("train.step_s")
    low_s, high_s = s.within("train", "train", step_s)
    return {
        **place(s, "train", s.count("train.n_devices")), "layout": layout_text(s.point, "train"), **s.degrees("train"),
        "zero_stage": s.count("train.zero"), "recompute": RECOMPUTE[s.count("train.recompute")], "n_interleave": plain(job.n_interleave),
        "offload": OFFLOAD[int(plain(job.offload))], "n_sites": int(plain(job.n_sites)), "n_steps_between_site_exchanges": int(plain(job.sync_every)),
        "seq_tok": plain(job.seq_tok), "micro_batch_seq": s.count("train.micro_batch"), "global_batch_seq": plain(job.global_batch),
        "global_batch_tok": plain(s.number("global_batch_tok")), "n_micro_batches_per_step": plain(train.n_micro(job, s.layout("train"))),
        "step_s": step_s, "step_low_s": low_s, "step_high_s": high_s, "mfu_frac": found["mfu_frac"],
        "mfu_low_frac": found["mfu_frac"] * step_s / high_s, "mfu_high_frac": min(found["mfu_frac"] * step_s / low_s, 1.0),
        "tok_per_s": s.number("global_batch_tok") / step_s,
        "tok_per_s_per_device": s.number("global_batch_tok") / step_s / s.count("train.n_devices"),
        "bubble_s": found["bubble_s"], "exposed_exchange_s": found["exchange_s"], "optimizer_s": found["update_s"],
        **_rest_of_step(s, found, bounds["estimate_s"], plain(train.n_micro(job, s.layout("train")))),
        "micro_batch_s": bounds["estimate_s"], "micro_batch_lower_s": bounds["lower_s"], "micro_batch_upper_s": bounds["upper_s"],
        "bound": bounds["bound"],
    }  # fmt: skip


def _rest_of_step(s: Subject, found: dict[str, Any], micro_s: float, n_micro: int) -> dict[str, float]:
    """What a step takes beside micro-batches, bubble, exchange and update: a fixed part, and exposed offload or exchange of sites."""
    fixed_s = float(s.chip("train").training.step_s)
    rest = s.number("train.step_s") - n_micro * micro_s - sum(found[key] for key in ("bubble_s", "exchange_s", "update_s")) - fixed_s
    return {"fixed_s": fixed_s, "other_exposed_s": max(rest, 0.0) if abs(rest) > 1e-6 * s.number("train.step_s") else 0.0}


def ramp_extra_steps(s: Subject) -> int:
    """Steps that the batch ramp adds before any step of the full batch."""
    return batch_schedule(s)["n_steps"] - cost(s)["n_steps"]


def memory(s: Subject, unit: str) -> dict[str, Any]:
    """Bytes per class on the fullest device, their sum and what may be used."""
    classes = {row["class"]: row["bytes"] for row in s.explained["memory"] if row["unit"] == unit}
    total, capacity = sum(classes.values()), s.explained["capacity"][unit]
    return {
        **{f"{name}_bytes": plain(value) for name, value in classes.items()},
        "total_bytes": plain(total), "usable_bytes": plain(capacity), "used_frac": total / capacity,
    }  # fmt: skip


def stage_layers(n_layers: int, n_chunks: int) -> list[int]:
    """Layers over the chunks of a pipeline as evenly as they go, the longer ones first.

    >>> stage_layers(7, 3)
    [3, 2, 2]
    """
    each, longer = divmod(n_layers, n_chunks)
    return [each + (i < longer) for i in range(n_chunks)]


def stage_memory(s: Subject) -> list[dict[str, Any]]:
    """Layers and bytes per class on a device of each pipeline stage; layers count as the model's mean layer."""
    at, job = s.layout("train"), s.job
    n_pp, v = int(at.n_pp), int(job.n_interleave)
    chunks = np.array(stage_layers(s.shape["n_layers"], n_pp * v)).reshape(v, n_pp)
    classes = train.stage_memory_classes(s.train_scene, at, job, np.arange(n_pp, dtype=float), chunks.sum(axis=0).astype(float))
    rows = [{f"{name}_bytes": float(values[i]) for name, values in classes.items()} for i in range(n_pp)]
    return [{"stage": i, "n_layers": int(chunks[:, i].sum()), **row, "total_bytes": sum(row.values())} for i, row in enumerate(rows)]


def cost(s: Subject) -> dict[str, Any]:
    """Wall-clock time, money and energy of pretraining, failures included.

    Intervals at these tokens are the step's; `*_if_solved_again_*` are those of `codesign show`, where a slower machine gets fewer tokens.
    """
    n_steps = s.number("pretrain_spent_tok") / s.number("global_batch_tok")
    low, high = s.within("train", "train", 1.0)
    again = {f"{name}_{end}_{unit}": value for name, unit in (("train", "s"), ("train", "usd"))
             for end, value in zip(("low_if_solved_again", "high_if_solved_again"), s.interval(f"{name}_{unit}"), strict=True)}  # fmt: skip
    return {
        **(again if s.solves_tokens else {}),
        **{f"{name}_{end}_{unit}": s.number(f"{name}_{unit}") * factor for name, unit in (("train", "s"), ("train", "usd"))
           for end, factor in (("low", low), ("high", high))},
        "n_steps": ceil(n_steps - 1e-9), "ideal_s": n_steps * s.number("train.step_s"),
        "goodput_frac": float(failures.goodput_frac(s.count("train.n_devices"))), "train_s": s.number("train_s"),
        "train_usd": s.number("train_usd"), "train_energy_j": s.number("train_energy_j"), "pretrain_flop": s.number("pretrain_flop"),
    }  # fmt: skip


def reliability(s: Subject) -> dict[str, Any]:
    """Expected failures, and how often to write how large a checkpoint."""
    n, train_s = s.count("train.n_devices"), s.number("train_s")
    mtbf, interval = float(failures.mean_time_between_failures_s(n)), float(failures.checkpoint_interval_s(n))
    size = (train.ACT_BYTES + train.OPTIMIZER_BYTES) * float(s.census.n_params)
    return {
        "mean_time_between_failures_s": mtbf, "n_failures_expected": train_s / mtbf, "checkpoint_interval_s": interval,
        "checkpoint_interval_steps": max(round(interval / s.number("train.step_s")), 1), "checkpoint_bytes": plain(size),
        "checkpoint_holds": "bf16 weights, fp32 master weights and two Adam moments of every parameter, once",
        "min_storage_write_bytes_per_s": size / interval, "assumed_checkpoint_stall_s": failures.CHECKPOINT_S,
        "assumed_restart_s": failures.RESTART_S, "lost_work_per_failure_s": interval / 2.0 + failures.RESTART_S,
        "source": "interval: J. T. Daly, FGCS 22(3), 2006, equation 37; failures per device-hour: Llama 3, arXiv 2407.21783 Table 5",
    }  # fmt: skip


def batch_schedule(s: Subject) -> dict[str, Any]:
    """Growing batch, each stage with a layout that can run it and what that costs beside the constant batch of the run."""
    job, spent = s.job, s.number("pretrain_spent_tok")
    stages, start, extra_s = [], 0.0, 0.0
    full_s_per_tok = _s_per_tok(s, s.layout("train"), job)
    for end, batch in recipe.ramp(int(job.global_batch), float(job.seq_tok), spent):
        fitting = _stage(s, batch)
        if fitting is None:
            continue  # too small a batch for this layout: the next stage starts at once
        here, stage_job = fitting
        extra_s += (end - start) * (_s_per_tok(s, here, stage_job) - full_s_per_tok)
        stages.append({
            "from_tok": plain(start), "to_tok": plain(end), "global_batch_seq": batch, "global_batch_tok": plain(batch * job.seq_tok),
            "n_devices": plain(here.n_devices), "n_dp": plain(here.n_dp), "n_edp": plain(here.n_edp),
            "micro_batch_seq": plain(stage_job.micro_batch), "n_micro_batches_per_step": plain(train.n_micro(stage_job, here)),
            "n_steps": ceil((end - start) / (batch * job.seq_tok) - 1e-9),
        })  # fmt: skip
        start = end
    extra_s /= float(failures.goodput_frac(s.count("train.n_devices")))
    return {
        "stages": stages, "n_steps": sum(stage["n_steps"] for stage in stages), "ramp_extra_s": extra_s, "ramp_extra_usd": extra_s / s.number("train_s") * s.number("train_usd"),
        "ramp_in_budget": False, "optimal_batch_tok": recipe.optimal_batch_tok(s.number("pretrain_flop")), "source": recipe.RAMP_SOURCE,
    }  # fmt: skip


def _stage(s: Subject, batch: int) -> tuple[Layout, Job] | None:
    """Layout and job of a smaller batch: the same if it divides, else smaller micro-batches, else fewer data-parallel ranks."""
    full, job = s.layout("train"), replace(s.job, global_batch=np.float64(batch))
    n_dp = int(full.n_dp)
    if batch % (n_dp * int(job.micro_batch)) == 0:
        return full, job
    job = replace(job, micro_batch=np.float64(1.0))
    ranks = n_dp if batch % n_dp == 0 else gcd(n_dp, batch)
    degrees = (full.n_tp, full.n_cp, ranks, full.n_pp, full.n_etp, full.n_ep)
    here = Layout(*(np.float64(v) for v in make_layout(*degrees).columns.values()))
    used = sum(train.memory_classes(s.train_scene, here, job).values())
    return (here, job) if bool(here.is_consistent) and used <= s.explained["capacity"]["train"] else None


def _s_per_tok(s: Subject, here: Layout, job: Job) -> float:
    return float(train.step(s.train_scene, here, job).step_s / (job.global_batch * job.seq_tok))


def learning_rate(s: Subject) -> dict[str, Any]:
    """Peak by the rule, its schedule in steps, and the sweep that should confirm it."""
    c_flop, n_steps = s.number("pretrain_flop"), cost(s)["n_steps"]
    peak, cooldown = recipe.peak_learning_rate(c_flop), round(recipe.COOLDOWN_FRAC * n_steps)
    share = s.number("global_batch_tok") / recipe.optimal_batch_tok(c_flop)
    return {
        "schedule": "warmup, constant, cooldown (WSD)", "peak": peak, "warmup_steps": min(recipe.WARMUP_STEPS, max(n_steps // 10, 1)),
        "cooldown_steps": cooldown, "cooldown_from_step": n_steps - cooldown + ramp_extra_steps(s),
        "cooldown_from_tok": s.number("pretrain_spent_tok") - cooldown * s.number("global_batch_tok"), "cooldown_shape": "1 - sqrt(progress)", "final": 0.0,
        "peak_if_scaled_to_batch": peak * min(share, 1.0) ** 0.5, "sweep_peaks": [peak * f for f in (0.5, 0.71, 1.0, 1.41)],
        **recipe.ADAM, "optimizer_source": recipe.ADAM_SOURCE, "source": recipe.LEARNING_RATE_SOURCE,
    }  # fmt: skip


def reinforcement(s: Subject) -> dict[str, Any] | None:
    """The RL phase; None when the design does none."""
    job, tok = s.setting.rl, s.number("rl_tok")
    if tok <= 0:
        return None
    n, rl_s = s.count("train.n_devices"), s.number("rl_s")
    n_rollouts = ceil(tok / job.gen_tok)
    n_steps = ceil(n_rollouts / job.batch_seq)
    chip = s.chip("rl")
    energy = next(row["energy_j"] for row in s.explained["lifecycle"] if row["phase"] == "rl")
    weights = float(train.ACT_BYTES * s.census.n_params)
    n_least = ceil(weights / float(chip.hbm_bytes))
    longest_s = job.longest_over_mean * job.gen_tok * s.number("tpot_s")
    return {
        **place(s, "rl", n), "rl_tok": tok, "prompt_tok": job.prompt_tok, "gen_tok": job.gen_tok,
        "longest_over_mean": job.longest_over_mean, "n_rollouts": n_rollouts, "rollouts_per_step": plain(job.batch_seq),
        "n_steps": n_steps, "n_forward_passes": job.n_forward, "rl_s": rl_s, "s_per_step": rl_s / n_steps,
        "longest_rollout_s": longest_s, "rollouts_in_flight_needed": ceil(n_rollouts / rl_s * longest_s),
        "rl_usd": s.number("rl_usd"), "rl_energy_j": energy, "rl_flop": s.number("rl_flop"),
        "weight_sync_s": float(rl.weight_sync_s(weights, n_least, chip.scale_out.bytes_per_s)), "n_devices_of_least_replica": n_least,
        "layout": "each phase (rollout, scoring, update) on the layout that costs it least; not kept by the search",
    }  # fmt: skip
