"""What users of one replica feel: ways to fill a batch, and percentiles of the time to first token and per output token.

    codesign evaluate --phase batching --model llama-2-13b --accelerator a100_40g_sxm --isl 161 --osl 338
    codesign evaluate --phase prefill,decode,service --model llama-3.1-70b --accelerator h200_sxm --n-tp 4 --batch 64
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign.physics.layout import Layout
from codesign.physics.operators import Scene
from codesign.physics.phases import decode, prefill
from codesign.service import batching, queueing
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.spec.errors import Diagnostic
from codesign.units import serving

LEVELS = (0.5, 0.9, 0.99)


def problems(phases: list[str]) -> list[Diagnostic]:
    """What a scenario that asks for percentiles lacks."""
    if "service" in phases and not {"prefill", "decode"} <= {*phases}:
        return [Diagnostic("the phase service needs prefill and decode beside it", hint="--phase prefill,decode,service")]
    return []


def service_point(s: Mapping[str, Any], pre: Mapping[str, Any], dec: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Waits and percentiles of a colocated replica that holds `batch` sequences in flight.

    Requests arrive at batch / (osl TPOT) per second (Little's law) and each brings one prefill; a rank whose prompts alone need more time
    than there is cannot be served, and says so.
    """
    n_ranks = float(layout.n_dp)
    rate = s["batch"] / (s["osl"] * dec["tpot_s"])
    service_s = pre["forward_s"] / float(layout.n_pp)
    busy = rate * service_s / n_ranks
    cv = s["isl"] * s["isl_cv"] / max(s["isl"] - s["prefix"], 1)
    queue_s = float(queueing.mean_wait_s(service_s, busy, 1.0, cv))
    step_s, p = dec["step_s"], float(queueing.waits_probability(busy))
    out = {"requests_per_s": rate, "prefill_busy_frac": busy, "alignment_s": 0.5 * step_s, "queue_s": queue_s,
           "ttft_s": 0.5 * step_s + queue_s + pre["ttft_s"]}  # fmt: skip
    for level in LEVELS:
        name = f"p{100 * level:.0f}_s"
        out[f"ttft_{name}"] = float(queueing.ttft_quantile(level, step_s, queue_s, p, pre["ttft_s"], cv))
        stall = dec["interference_s"]
        out[f"tpot_{name}"] = float(queueing.tpot_quantile(level, step_s, stall, service_s, s["osl"], s["accepted"]))
    return out


def batching_point(scene: Scene, layout: Layout, s: Mapping[str, Any], chunked: bool) -> list[dict[str, Any]]:
    """The three ways to fill a batch, each at the number of sequences per rank that serves most and fits, for lognormal lengths."""
    numbers = (s["isl"], s["osl"], s["isl"] * s["isl_cv"], s["osl"] * s["osl_cv"], s["prefix"], s["accepted"], 1 + s["n_draft"], 1, 1)
    given, out = [np.float64(v) for v in numbers], []
    per_rank = np.unique(np.round(np.geomspace(1, 4096, 97)))[:, None]
    for name, kind in batching.KINDS.items():
        traffic = Traffic(*given, chunked=np.bool_(chunked), batching=np.float64(kind))
        prompt = serving.prompt_of(traffic)
        pre = serving.time_prefill(scene, layout, traffic, prefill.fullest_experts(scene, layout, prompt))
        touched = decode.fullest_experts(scene, layout, decode.Load(per_rank * layout.n_dp, 0.0, traffic.q_tok))
        rows = serving.time_decode(scene, layout, per_rank, traffic, touched, pre)
        rate = np.ravel(np.where(rows["fits"], rows["tok_per_s"], 0.0))
        i = int(np.argmax(rate))
        found = {"name": name, "fits": bool(rate[i] > 0), "sequences": float(per_rank[i, 0] * layout.n_dp), "tok_per_s": float(rate[i]),
                 "tpot_s": float(np.ravel(rows["tpot_s"])[i]), "usd_per_mtok": _usd(scene.chip, layout.n_devices, rate[i]),
                 "held_tok": float(np.ravel(np.broadcast_to(service.held_tokens(traffic, per_rank), per_rank.shape))[i])}  # fmt: skip
        out.append(found)
    return out


def _usd(chip, n_devices, tok_per_s: float) -> float | None:
    usd = float(chip.usd_per_s * n_devices / tok_per_s * 1e6) if tok_per_s > 0 else np.inf
    return usd if np.isfinite(usd) else None
