"""What `codesign evaluate` may be asked: keys, defaults, and every problem of a scenario at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign import life_point, service_point
from codesign.physics.layout import OVERLAP
from codesign.physics.phases import train
from codesign.spec.errors import Diagnostic, UserError, nearest

PHASES = ("prefill", "decode", "batching", "service", "train", "denoise", "quality", "life")
TIMED = ("prefill", "decode", "train")
PRECISION = ("weight_bits", "kv_bits", "act_bits")
SHARES = ("dp_overlap", "ep_overlap", "ep_once", "graphed")  # of the training stack; stated in [0, 1] they replace the engine's habit
TRAIN_BITS = {"bf16": 16, "fp16": 16, "fp8": 8, "mxfp8": 8, "nvfp4": 4, "fp4": 4}
RACK = ("rack_power", "rack_weight", "rack_cables")  # limits of one rack
RANGES = (
    ("isl_cv", 0.0, 5.0), ("osl_cv", 0.0, 5.0), ("scale_out_bandwidth", 0.0, np.inf), ("site_bandwidth", 1.0, np.inf),
    *((key, 0.0, 1.0) for key in SHARES), *((key, 0.0, 3600.0) for key in ("site_rtt", "scale_up_jitter", "scale_out_jitter")),
    *((key, 1.0, np.inf) for key in RACK),
)  # fmt: skip
COUNTS = (
    "n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "batch", "isl", "osl", "micro_batch", "global_batch", "seq_len", "n_sites", "sync_every",
    "n_tok", "n_steps", "guidance", "n_ffn", "n_micro", "n_ffn_x", "n_gather", "scale_up_size",
)  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "model": None, "accelerator": None, "system": None, "engine": "generic", "phase": "prefill,decode",
    "n_tp": 1, "n_cp": 1, "n_dp": None, "n_pp": 1, "n_etp": 1, "n_ep": None,
    "overlap": "none", "n_ffn": None, "n_micro": None, "n_ffn_x": 1, "n_gather": 1,
    "batch": 1, "isl": 1024, "osl": 1024, "prefix": 0, "accepted": 1.0, "n_draft": 0, "mixing": None,
    "micro_batch": 1, "global_batch": None, "seq_len": 4096, "recompute": "selective", "zero": 1, "n_interleave": 1,
    "weight_bits": None, "kv_bits": None, "act_bits": None, "train_precision": "bf16", "usd_per_h": None, "scale_up_size": None,
    "scale_out_bandwidth": None, "dp_overlap": None, "ep_overlap": None, "ep_once": None, "graphed": None, "architecture": None,
    "pretrain_tok": None, "rl_tok": None, "out_tok": None, "isl_cv": 0.5, "osl_cv": 1.0, "unique_tok": None, "of": "flop",
    "weight_format": None,
    "offload": "none", "n_sites": 1, "sync_every": 1, "site_bandwidth": None, "site_rtt": 0.0, "scale_up_jitter": None, "scale_out_jitter": None,
    "rack_power": None, "rack_weight": None, "rack_cables": None, "n_tok": 75600, "text_tok": 512, "n_steps": 50, "guidance": 2,
}  # fmt: skip


def checked(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults filled in; all problems of the scenario at once."""
    found = [Diagnostic(f"unknown key '{k}'", hint=_did_you_mean(k)) for k in scenario if k not in DEFAULTS]
    s = DEFAULTS | {k: v for k, v in scenario.items() if v is not None and k in DEFAULTS}
    if s["model"] is None:
        found.append(Diagnostic("no model given", hint="--model NAME, or the path of a config.json; `codesign list models`"))
    if s["system"] is None and s["accelerator"] is None and not {*str(s["phase"]).split(",")} <= {"quality", "life"}:
        found.append(Diagnostic("no hardware given", hint="--accelerator NAME or --system NAME; `codesign list accelerators`"))
    unknown = [p for p in str(s["phase"]).split(",") if p not in PHASES]
    if unknown:
        found.append(Diagnostic(f"unknown phase '{unknown[0]}'", hint=f"any of {', '.join(PHASES)}, separated by commas"))
    for key in COUNTS:
        least = 0 if key == "isl" and "prefill" not in str(s["phase"]) else 1  # decode from an empty context is a fair question
        if s[key] is not None and not (_is_count(s[key]) and s[key] >= least):
            found.append(Diagnostic(f"{key} = {s[key]} must be a whole number of at least {least}"))
    if _is_count(s["isl"]) and not (0 <= s["prefix"] < max(s["isl"], 1)):
        found.append(Diagnostic(f"prefix = {s['prefix']} must be at least 0 and below isl = {s['isl']}"))
    if not 1.0 <= s["accepted"] <= 1 + s["n_draft"]:
        found.append(
            Diagnostic(f"accepted = {s['accepted']} tokens per step with n_draft = {s['n_draft']}", hint="between 1 and 1 + n_draft")
        )
    found += bits_problems({key: s[key] for key in PRECISION})
    if s["recompute"] not in train.RECOMPUTE:
        found.append(Diagnostic(f"recompute = {s['recompute']!r} is not one of {', '.join(train.RECOMPUTE)}"))
    if s["offload"] not in train.OFFLOAD:
        found.append(Diagnostic(f"offload = {s['offload']!r} is not one of {', '.join(train.OFFLOAD)}"))
    if s["zero"] not in (0, 1, 2, 3):
        found.append(Diagnostic(f"zero = {s['zero']} is not one of 0, 1, 2, 3"))
    for key, low, high in RANGES:
        if s[key] is not None and not low <= s[key] <= high:
            found.append(Diagnostic(f"{key} = {s[key]} must lie between {low:g} and {high:g}"))
    if s["train_precision"] not in TRAIN_BITS:
        found.append(Diagnostic(f"train_precision = {s['train_precision']!r} is not one of {', '.join(TRAIN_BITS)}"))
    found += _plan_problems(s)
    found += service_point.problems(str(s["phase"]).split(","))
    found += life_point.problems(s, str(s["phase"]).split(","))
    if found:
        raise UserError(found)
    return s


def bits_problems(bits: Mapping[str, Any]) -> list[Diagnostic]:
    """Widths that no kernel has; None is "as released"."""
    return [Diagnostic(f"{key} = {v} is not one of 4, 8, 16") for key, v in bits.items() if v is not None and v not in (4, 8, 16)]


def _plan_problems(s: Mapping[str, Any]) -> list[Diagnostic]:
    """What of a plan cannot stand beside the rest."""
    if s["overlap"] not in OVERLAP:
        return [Diagnostic(f"overlap = {s['overlap']!r} is not one of {', '.join(OVERLAP)}")]
    cut = [key for key in ("n_ffn_x", "n_gather") if s[key] != 1]
    asked = [*cut, *(["overlap"] if s["overlap"] != "none" else []), *(key for key in ("n_ffn", "n_micro") if s[key] is not None)]
    serving_only = {*str(s["phase"]).split(",")} & {"train", "denoise"}
    found = [Diagnostic(f"{key} is for serving", hint="leave it out, or ask for prefill and decode alone") for key in asked if serving_only]
    if s["n_ffn"] is not None:
        found += [
            Diagnostic(f"{key} is for attention and FFN on the same devices", hint="leave it or n_ffn out")
            for key in asked
            if key in (*cut, "overlap")
        ]
    elif s["n_micro"] is not None:
        found.append(
            Diagnostic("n_micro counts micro-batches between attention and FFN devices", hint="say how many of the latter: --n-ffn")
        )
    for key in cut:
        if _is_count(s["n_tp"]) and _is_count(s[key]) and s[key] and s["n_tp"] % s[key]:
            found.append(
                Diagnostic(f"{key} = {s[key]} does not divide n_tp = {s['n_tp']}", hint="it says how the devices of n_tp share a dense FFN")
            )
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and float(value).is_integer()


def _did_you_mean(key: str) -> str | None:
    close = nearest(key, DEFAULTS)
    return f"did you mean '{close}'?" if close else None
