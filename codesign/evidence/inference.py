"""A row of serving evidence as a scenario of `evaluate_point`."""

from __future__ import annotations

from typing import Any

from codesign.evidence.case import Case, Skip, catalog_model, engine, hardware
from codesign.evidence.rows import Row

PHASES = {"decode": "decode", "prefill": "prefill", "e2e": "prefill,decode", "offline": "prefill,decode"}
METRICS = {  # in the order of preference; e2e scores TPOT and TTFT, or, of static batches, the throughput
    "decode": ("tpot_ms",),
    "prefill": ("ttft_ms", "latency_s", "total_tokens_per_s"),
    "offline": ("output_tokens_per_s_total", "total_tokens_per_s"),
}
SHORT_CONTEXT_TOK = 512  # of single-stream rows that do not say their context; 2-4 % of the bytes of a 7B model
# ModelOpt checkpoints of TensorRT-LLM carry an fp8 cache (kv_cache_quant_algo in hf_quant_config.json of NVIDIA's FP8 and FP4 models);
# vLLM and SGLang keep the cache at the activation dtype unless told otherwise (kv_cache_dtype: auto).
FP8_CACHE = ("trtllm",)
SCALES_BITS = 0.6  # a stated 4.5 bit per weight is a 4-bit format with its scales (q4_0, NVFP4), 4.8 is not


def case(row: Row) -> Case:
    """Scenario of an inference row."""
    phase = row.text("phase").lower()
    if phase not in PHASES:
        raise Skip(f"phase '{phase}' is not one of {', '.join(PHASES)}")
    measured = _measured(row, phase)
    chip, chip_name = hardware(row, "accelerator", "gpu")
    model, is_moe = catalog_model(row)
    runtime, note = engine(row)
    notes = [note] if note else []
    scenario = chip | {"model": model, "engine": runtime, "phase": PHASES[phase]}
    scenario |= _bits(row, runtime, notes) | _layout(row, is_moe, notes) | _lengths(row, phase, notes)
    precision = row.text("precision_label").lower() or "w{}".format(row["weight_bits"] or "?")
    return Case(row, phase, model, chip_name, runtime, precision, is_moe, (scenario,), measured, tuple(notes))


def _measured(row: Row, phase: str) -> dict[str, float]:
    if phase == "e2e":
        found = {m: row[m] for m in ("tpot_ms", "ttft_ms") if row[m] is not None}
        if "tpot_ms" not in found and row["output_tokens_per_s_total"] is not None:
            found = {"output_tokens_per_s_total": row["output_tokens_per_s_total"]}
    else:
        found = next(({m: row[m]} for m in METRICS[phase] if row[m] is not None), {})
    if not found:
        wanted = "tpot_ms" if phase == "e2e" else ", ".join(METRICS[phase])
        raise Skip(f"no measured value: {wanted} empty")
    return found


def _bits(row: Row, runtime: str, notes: list[str]) -> dict[str, float]:
    """Bits of weights, cache and activations; unstated ones are those in which the model was released."""
    bits = {}
    for column in ("weight_bits", "kv_bits", "act_bits"):
        stated = row[column]
        if stated is None and column == "kv_bits" and runtime in FP8_CACHE and bits.get("weight_bits", 16) <= 8:
            bits[column] = 8
            notes.append("kv_bits not stated: 8, as in the checkpoints of this engine")
            continue
        if stated is None:
            notes.append(f"{column} not stated: as released")
            continue
        match = next((b for b in (4, 8, 16) if b <= stated < b + SCALES_BITS), None)
        if match is None:
            raise Skip(f"{column} is not 4, 8 or 16: {stated:g}")
        bits[column] = match
    return bits


def _layout(row: Row, is_moe: bool, notes: list[str]) -> dict[str, int]:
    tp, pp, dp, ep, gpus = row["tp"], row["pp"] or 1, row["dp"], row["ep"], row["n_gpus"]
    if dp is None and is_moe and "enable_attention_dp" in row.text("notes") and gpus:
        tp, dp = 1, gpus // pp
        notes.append("attention-DP over all devices, from the notes")
    if tp is None:
        tp = max((gpus or 1) // (pp * (dp or 1)), 1)
        notes.append(f"tp not stated: {tp}")
    dp = dp or 1
    if gpus is not None and tp * pp * dp != gpus:
        raise Skip(f"layout identity broken: tp x pp x dp = {tp * pp * dp}, n_gpus = {gpus}")
    degrees = {"n_tp": tp, "n_pp": pp, "n_dp": dp}
    if not is_moe:
        return degrees
    if ep is None:
        notes.append("ep not stated: experts spread over the replica")
        return degrees
    if (tp * dp) % ep:
        raise Skip(f"layout identity broken: tp x dp = {tp * dp} is not a multiple of ep = {ep}")
    return degrees | {"n_ep": ep, "n_etp": tp * dp // ep}


def _lengths(row: Row, phase: str, notes: list[str]) -> dict[str, Any]:
    isl, osl, batch = row["isl"], row["osl"], row["batch_or_concurrency"]
    if isl is None and phase == "decode":
        isl, osl = SHORT_CONTEXT_TOK, 1
        notes.append(f"context not stated: {SHORT_CONTEXT_TOK} tok")
    if isl is None or (isl == 0 and phase != "decode"):
        raise Skip("isl is empty")
    if not osl and phase in ("e2e", "offline"):
        raise Skip("osl is empty")
    if batch is None and phase in ("decode", "e2e"):
        raise Skip("batch_or_concurrency is empty")
    return {"isl": isl, "osl": max(osl or 1, 1), "batch": batch or 1}
