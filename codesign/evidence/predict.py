"""Predicting what a measurement would be: `evaluate_point` on the row's scenario, in the unit of the data column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codesign import catalog
from codesign.evidence.case import Case, Skip
from codesign.point import evaluate_point
from codesign.spec.errors import UserError

# Engines that admit a request only when its whole answer fits in the cache (TensorRT-LLM documentation, capacity scheduler policy
# GUARANTEED_NO_EVICT, the default); the others admit on the prompt and preempt, so that the mean occupancy fills the cache.
RESERVES_ANSWER = ("trtllm",)
MAX_SEQUENCES = 2048  # per attention rank in an offline run: default max_batch_size of trtllm-bench and TensorRT-LLM

REQUESTS_PER_SLOT = 10.0  # num_prompts = 10 x concurrency, the protocol of InferenceX and of vLLM's serving benchmark


@dataclass(frozen=True)
class Prediction:
    """Predicted value per metric, the scenario that was scored, and what the evaluator answered."""

    values: Mapping[str, float]
    scenario: Mapping[str, Any]
    answer: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def predict(case: Case, engine: str | None = None, batch: int | None = None) -> Prediction:
    """Prediction of a case; `engine` replaces the row's own (the bare roofline is `ideal`), `batch` the one that is searched."""
    try:
        if case.phase == "train":
            return _train(case, engine)
        scenario = dict(case.options[0])
        if engine:
            scenario["engine"] = engine
        serve = {"decode": _decode, "prefill": _prefill, "e2e": _served, "offline": _served}[case.phase]
        return serve(case, scenario, batch)
    except UserError as error:
        raise Skip(str(error).replace("\n  hint:", ";").replace("\n", " ")) from None


def _train(case: Case, engine: str | None) -> Prediction:
    """The fastest option that fits; where none does, the one that needs least memory."""
    tried = []
    for option in case.options:
        scenario = dict(option) | ({"engine": engine} if engine else {})
        answer = evaluate_point(scenario)
        part = answer["train"]
        rank = (not part["fits"], part["step_s"] if part["fits"] else part["memory_bytes"])
        tried.append((rank, len(tried), scenario, answer))
    _, _, scenario, answer = min(tried)
    part = answer["train"]
    key = {"recompute": "recompute", "micro-batch": "micro_batch", "interleaving": "n_interleave"}
    notes = [f"{name} not stated: fastest that fits, {scenario[key[name]]}" for name in case.assumed]
    if not part["fits"]:
        notes.append(f"does not fit by our memory model ({part['overflow']}), though it ran")
    values = {"tokens_per_s_per_gpu": part["tok_per_s_per_device"], "step_time_s": part["step_s"]}
    return Prediction({m: values[m] for m in case.measured}, scenario, answer, tuple(notes))


def _decode(case: Case, scenario: dict[str, Any], _: int | None) -> Prediction:
    answer = evaluate_point(scenario)
    return Prediction({"tpot_ms": answer["decode"]["tpot_s"] * 1e3}, scenario, answer, _overflow(answer["decode"]))


def _prefill(case: Case, scenario: dict[str, Any], _: int | None) -> Prediction:
    """Latency of a static batch of prompts: T + (n - 1) (T - fixed) for n prompts per rank, which share kernel launches."""
    answer = evaluate_point(scenario)
    part = answer["prefill"]
    latency_s = _batch_prefill_s(scenario, part)
    values = {
        "ttft_ms": latency_s * 1e3,
        "latency_s": latency_s,
        "total_tokens_per_s": scenario["batch"] * scenario["isl"] / latency_s,
    }
    return Prediction({m: values[m] for m in case.measured}, scenario, answer, _overflow(part))


def _batch_prefill_s(scenario: Mapping[str, Any], part: Mapping[str, Any]) -> float:
    more = math.ceil(scenario["batch"] / scenario["n_dp"]) - 1
    return part["ttft_s"] + more * (part["forward_s"] - part["fixed_s"]) / scenario["n_pp"]


def _served(case: Case, scenario: dict[str, Any], batch: int | None) -> Prediction:
    """Closed-loop, static and offline serving at the batch that the cache holds, at most the row's concurrency."""
    asked = scenario["batch"] if case.phase == "e2e" else MAX_SEQUENCES * scenario["n_dp"] * scenario["n_pp"]
    scenario["batch"] = batch or asked
    answer, notes = None, []
    if batch is None:
        phase = "decode" if case.phase == "offline" else scenario["phase"]  # memory is all that is asked of an offline run's first guess
        answer = evaluate_point({**scenario, "phase": phase}, detail=True)
        room, is_tight = _largest_batch(case, scenario, answer["decode"])
        notes = _room_notes(case, asked, room, is_tight)
        scenario["batch"] = min(room, asked)
    if answer is None or case.phase == "offline" or scenario["batch"] != asked:
        answer = evaluate_point(scenario)
    values = _throughput(case, scenario, answer)
    if "tpot_ms" in case.measured:
        values["tpot_ms"] = answer["decode"]["tpot_s"] * 1e3
    if "ttft_ms" in case.measured:
        values["ttft_ms"] = _closed_loop_ttft_s(scenario, answer, asked) * 1e3
    return Prediction({m: values[m] for m in case.measured}, scenario, answer, tuple(notes))


def _room_notes(case: Case, asked: int, room: int, is_tight: bool) -> list[str]:
    notes = ["weights leave no cache by our memory model, though it ran: the whole memory counted"] if is_tight else []
    if case.phase == "offline":
        return [*notes, "batch not stated: largest that fits"]
    return [*notes, "cache cannot hold all requests: the others wait"] if room < asked else notes


def _largest_batch(case: Case, scenario: Mapping[str, Any], part: Mapping[str, Any]) -> tuple[int, bool]:
    """(sequences of one replica whose cache fits beside the other classes, whether only the whole memory without a reserve holds any)."""
    classes = {m["class"]: m["bytes"] for m in part["memory"]}
    per_rank = math.ceil(scenario["batch"] / scenario["n_dp"])
    whole = scenario["engine"] in RESERVES_ANSWER
    per_sequence = (classes["kv"] if whole else part["kv_bytes"]) / per_rank
    room = part["capacity_bytes"] - sum(v for k, v in classes.items() if k != "kv")
    is_tight = room < per_sequence
    if is_tight:
        room = _hbm_bytes(case.chip) - classes["weights"] - classes["activations"]
    return max(math.floor(room / max(per_sequence, 1.0)), 1) * scenario["n_dp"], is_tight


@lru_cache(256)
def _hbm_bytes(chip: str) -> float:
    return catalog.hardware(chip)["hbm"]["capacity"]


def _throughput(case: Case, scenario: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, float]:
    """Output tokens per second: a static batch prefills, then decodes; offline batches are refilled as sequences end."""
    part, batch, osl = answer["decode"], scenario["batch"], scenario["osl"]
    if case.phase == "e2e":
        rate = batch * osl / (_batch_prefill_s(scenario, answer["prefill"]) + osl * part["step_s"])
    else:
        rate = part["tok_per_s"]
    return {"output_tokens_per_s_total": rate, "total_tokens_per_s": rate * (scenario["isl"] + osl) / osl}


def _closed_loop_ttft_s(scenario: Mapping[str, Any], answer: Mapping[str, Any], concurrency: int) -> float:
    """Mean TTFT of a closed loop: half a running step, then one prefill server per rank with the decode as think time.

    Mean value analysis (Reiser and Lavenberg, J. ACM 27, 1980): R(n) = S (1 + Q(n-1)), X(n) = n / (R + Z), Q = X R, with S one
    prefill and Z = osl tpot.  Requests that find no cache wait for a slot: by Little's law C / X - Z.  Load generators send the first
    request of every slot at once: those, one in REQUESTS_PER_SLOT, wait S (n + 1) / 2.
    """
    service_s, think_s = answer["prefill"]["ttft_s"], scenario["osl"] * answer["decode"]["tpot_s"]
    queue, wait_s, rate = 0.0, service_s, 0.0
    for n in range(1, math.ceil(scenario["batch"] / scenario["n_dp"]) + 1):
        wait_s = service_s * (1.0 + queue)
        rate = n / (wait_s + think_s)
        queue = rate * wait_s
    per_rank = math.ceil(concurrency / scenario["n_dp"])
    steady_s = max(wait_s, per_rank / rate - think_s)
    burst_s = service_s * (per_rank + 1) / 2.0
    return steady_s + (burst_s - steady_s) / REQUESTS_PER_SLOT + 0.5 * answer["decode"]["step_s"]


def _overflow(part: Mapping[str, Any]) -> tuple[str, ...]:
    return () if part["fits"] else (f"does not fit by our memory model ({part['overflow']}), though it ran",)
