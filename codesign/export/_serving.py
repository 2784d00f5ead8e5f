"""How it is served: fleets with the parameters that an engine is launched with, what users get, what it costs."""

from __future__ import annotations

from math import ceil
from typing import Any

from codesign.explain import layout_text
from codesign.export import _recipe as recipe
from codesign.export._subject import Subject, plain
from codesign.export._training import memory, place
from codesign.given import UTILISATION
from codesign.service import traffic as service
from codesign.units import serving as unit


def fleets(s: Subject) -> dict[str, Any]:
    """One entry per pool: `serve`, or `prefill` and `decode`."""
    return {role: _fleet(s, role) for role in s.setting.roles}


def _fleet(s: Subject, role: str) -> dict[str, Any]:
    degrees, charged = s.degrees(role), s.count(f"{role}.n_devices")
    per_replica = int(s.layout(role).n_devices)
    n_replicas = s.count(f"{role}.n_replicas")
    where = place(s, role, charged)
    lifetime_s = s.setting.life.lifetime_s
    return {
        "phase": {"serve": "prefill and decode", "prefill": "prefill", "decode": "decode"}[role], **where,
        "n_replicas": n_replicas, "n_devices_per_replica": per_replica, "n_idle_devices": charged - n_replicas * per_replica,
        "layout": layout_text(s.point, role), **degrees, "memory": memory(s, role), "launch": _launch(s, role, degrees),
        "usd_per_s": charged * where["usd_per_device_s"], "serve_usd": charged * where["usd_per_device_s"] * lifetime_s,
        "power_w": charged * where["all_in_w_per_device"],
    }  # fmt: skip


def _launch(s: Subject, role: str, degrees: dict[str, int]) -> dict[str, Any]:
    """Engine-neutral launch parameters of one replica."""
    traffic, batch = s.setting.traffic, s.count(f"{role}.batch")
    per_rank = ceil(batch / degrees["n_dp"])
    bits = {key: plain(s.values[f"precision.{key}"]) for key in ("weight_bits", "kv_bits", "act_bits")}
    out: dict[str, Any] = {"batch_seq": batch, "max_num_seqs_per_rank": per_rank, "max_model_len_tok": max_context_tok(s), **bits}
    if role != "prefill":
        held = float(service.held_tokens(traffic, per_rank))
        out |= {"kv_pool_tok_per_rank": ceil(per_rank * held), "n_draft_tok": n_draft_tok(s)}
    if role != "decode":
        out |= {"prefill_chunk_tok": ceil(float(unit.chunk_of(traffic))), "prefix_caching": bool(traffic.prefix_tok > 0)}
    if role == "serve":
        out["prefill_mixed_with_decode"] = "chunked" if traffic.chunked else "alternating"
        arriving = per_rank * traffic.accepted_tok / traffic.osl_tok * unit.prompt_of(traffic).new_tok  # as many requests begin as end
        out["prompt_tok_per_step_and_rank"] = ceil(float(arriving) - 1e-9)
    return out


def n_draft_tok(s: Subject) -> int:
    """Tokens drafted per step and sequence."""
    return plain(s.setting.traffic.q_tok - 1.0)


def max_context_tok(s: Subject) -> int:
    """Prompt and answer that the wanted percentile of requests keep within, in whole KiTok."""
    traffic = s.setting.traffic
    mean = float(traffic.isl_tok + traffic.osl_tok)
    spread = float((traffic.isl_sd_tok**2 + traffic.osl_sd_tok**2) ** 0.5)
    return 1024 * ceil(recipe.request_tok(mean, spread, float(traffic.occupancy_z)) / 1024)


def service_level(s: Subject) -> dict[str, Any]:
    """What users get and what it costs at the mean load, with the study's ceilings."""
    setting, traffic = s.setting, s.setting.traffic
    tpot_low_s, tpot_high_s = s.interval("tpot_s")
    busy = float(s.study.file.workload.utilisation or UTILISATION)
    return {
        "demand_tok_per_s": plain(traffic.demand_tok_per_s), "peak_to_mean": plain(traffic.peak_to_mean) * traffic.stages.highest * busy,
        "busy_at_peak_frac": busy, "tpot_low_s": tpot_low_s, "tpot_high_s": tpot_high_s, "isl_tok": plain(traffic.isl_tok),
        "osl_tok": plain(traffic.osl_tok), "prefix_tok": plain(traffic.prefix_tok), "lifetime_s": setting.life.lifetime_s,
        "tpot_s": s.number("tpot_s"), "tpot_limit_s": plain(setting.max_tpot_s), "ttft_s": s.number("ttft_s"),
        "ttft_limit_s": plain(setting.max_ttft_s), "tok_per_s_per_user": s.number("tok_per_s_per_user"),
        "usd_per_mtok": s.number("usd_per_mtok"), "usd_per_mtok_input": s.number("usd_per_mtok_input"),
        "usd_per_mtok_output": s.number("usd_per_mtok_output"), "energy_j_per_tok": s.number("energy_j_per_tok"),
        "kv_bytes_per_tok": s.number("kv_bytes_per_tok"), "serve_devices": s.count("serve_devices"),
        "serve_usd": s.number("serve_usd"), "serve_power_w": s.number("serve_power_w"),
    }  # fmt: skip
