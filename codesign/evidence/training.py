"""A row of training evidence as scenarios of `evaluate_point`."""

from __future__ import annotations

from typing import Any

from codesign.evidence.case import Case, Skip, catalog_model, hardware, node_network
from codesign.evidence.rows import Row
from codesign.physics.phases.train import RECOMPUTE
from codesign.point import TRAIN_BITS

ARCHITECTURE = {
    "n_layers": "layers", "d_model": "hidden", "vocab": "vocab", "n_heads": "heads", "n_kv_heads": "kv_heads", "d_head": "d_head",
    "d_ff": "ffn", "ffn_gated": "gated_ffn", "q_lora_rank": "q_lora_rank", "kv_lora_rank": "kv_lora_rank", "d_head_nope": "qk_nope_dim",
    "d_head_rope": "qk_rope_dim", "d_head_v": "v_head_dim", "window_tok": "window_tok", "global_every": "global_every",
    "n_mtp_layers": "mtp_layers", "n_experts": "n_experts", "n_active_experts": "top_k", "d_expert": "moe_ffn",
    "n_shared_experts": "shared_experts", "n_dense_layers": "dense_layers",
}  # fmt: skip
ATTENTION = ("mha", "gqa", "mqa", "mla")
ZERO = {"none": 0, "ddp": 0, "zero0": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3, "hsdp": 3}
ZERO_UNSTATED = 1  # Megatron's distributed optimizer, the usual choice since 2022
MICRO_BATCHES = (1, 2, 4, 8)
INTERLEAVINGS = (1, 2, 4)
# Training stack by what the source calls itself; anything else runs on the generic constants.
STACKS = {"nemo": "megatron", "megatron-core": "megatron", "megatron-bridge": "megatron", "megatron-moe": "megatron", "mcore": "megatron",
          "llm-foundry": "fsdp", "fsdp": "fsdp", "torchtitan": "fsdp"}  # fmt: skip
METRICS = ("tokens_per_s_per_gpu", "step_time_s")
# Settings of the run that its notes name; the first mark that stands there counts, a row without one runs by the habit of its stack.
SETTINGS: dict[str, tuple[tuple[str, float], ...]] = {
    "dp_overlap": (("overlap features off", 0.0), ("gradient bucketing off", 0.0)),
    "ep_overlap": (("a2a overlap", 1.0), ("all-to-all overlap", 1.0)),
    "ep_once": (("deepep", 1.0), ("hybridep", 1.0), ("plain all-to-all", 0.0), ("nccl all-to-all", 0.0)),
    "graphed": (("no cuda graphs", 0.0), ("full-iteration cuda graphs", 1.0), ("cuda graphs of router", 0.25), ("cuda graphs", 0.5)),
}


def case(row: Row) -> Case:
    """Scenario options of a training row; what the row leaves open is ranged over, and said in `assumed`."""
    measured = next(({m: row[m]} for m in METRICS if row[m] is not None), None)
    if measured is None:
        raise Skip("no measured value: tokens_per_s_per_gpu and step_time_s are empty")
    chip, chip_name = hardware(row, "gpu")
    model, model_name, is_moe = _model(row)
    precision = row.text("precision").lower()
    if precision not in TRAIN_BITS:
        raise Skip(f"training precision '{precision}' is not one of {', '.join(TRAIN_BITS)}")
    degrees, notes = _layout(row, is_moe)
    zero = ZERO.get(row.text("sharding").lower(), ZERO_UNSTATED)
    if row.text("sharding").lower() not in ZERO:
        notes.append(f"sharding not stated: ZeRO-{ZERO_UNSTATED}")
    base = chip | degrees | {
        "model": model, "phase": "train", "train_precision": precision, "seq_len": _needed(row, "seq_len"),
        "global_batch": _needed(row, "global_batch_seqs"), "zero": zero, "n_interleave": row["vp"] or 1,
        "scale_out_bandwidth": node_network(row),
    }  # fmt: skip
    base["engine"] = stack = _stack(row)
    base |= _settings(row.text("notes").lower())
    assumed, options = _options(row, base)
    if row.text("routing") == "balanced":
        notes.append("forced-balanced routing")
    return Case(row, "train", model_name, chip_name, stack, precision, is_moe, options, measured, tuple(notes), assumed)


def _settings(notes: str) -> dict[str, float]:
    """Shares of overlap, of deduplicated expert traffic and of graphed launches that the notes state."""
    found = {key: next((value for mark, value in marks if mark in notes), None) for key, marks in SETTINGS.items()}
    return {key: value for key, value in found.items() if value is not None}


def _stack(row: Row) -> str:
    """Engine of the row: its `engine` column where it has one, else by the name of the source."""
    text = f"{row.text('engine')} {row.text('source')}".lower()
    return next((engine for mark, engine in STACKS.items() if mark in text), "generic")


def _model(row: Row) -> tuple[dict[str, Any] | str, str, bool]:
    """(model for the evaluator, its name, is MoE): the row's own dimensions where they are complete, else a catalog model."""
    own = {key: row[column] for key, column in ARCHITECTURE.items() if row[column] is not None}
    name = row.text("model") or "own dimensions"
    has_ffn = "d_ff" in own or own.get("n_experts", 0) > 0
    if has_ffn and all(key in own for key in ("n_layers", "d_model", "vocab", "n_heads")):
        if "ffn_gated" in own:
            own["ffn_gated"] = bool(own["ffn_gated"])
        own["attention"] = "mla" if own.get("kv_lora_rank") else row.text("attention").lower() or "gqa"
        if own["attention"] not in ATTENTION:
            raise Skip(f"attention '{own['attention']}' is not one of {', '.join(ATTENTION)}")
        if "n_experts" in own:
            own["d_shared"] = own.get("d_expert", 0)
        return {"name": name, "architecture": own}, name, own.get("n_experts", 0) > 0
    known, is_moe = catalog_model(row)
    return known, known, is_moe


def _layout(row: Row, is_moe: bool) -> tuple[dict[str, int], list[str]]:
    """Degrees with dp = gpus / (tp cp pp) where it is not stated; a broken identity is skipped."""
    tp, cp, pp, gpus = row["tp"] or 1, row["cp"] or 1, row["pp"] or 1, row["gpus"]
    dp = row["dp"] or (gpus // (tp * cp * pp) if gpus else 1)
    if gpus is not None and tp * cp * pp * dp != gpus:
        raise Skip(f"layout identity broken: tp x cp x pp x dp = {tp * cp * pp * dp}, gpus = {gpus}")
    degrees = {"n_tp": tp, "n_cp": cp, "n_pp": pp, "n_dp": dp}
    notes = []
    if is_moe:
        ep = row["ep"] or 1
        if (tp * cp * dp) % ep:
            raise Skip(f"layout identity broken: tp x cp x dp = {tp * cp * dp} is not a multiple of ep = {ep}")
        degrees |= {"n_ep": ep, "n_etp": 1}
        if tp > 1:
            notes.append("expert TP not stated: 1")
    return degrees, notes


def _options(row: Row, base: dict[str, Any]) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    """(what is assumed, scenarios): one per recomputation mode or micro-batch that the row may have run with."""
    stated = row.text("recompute").lower()
    modes = (stated,) if stated in RECOMPUTE else RECOMPUTE[:3]  # published runs are not reversible
    per_rank, rest = divmod(base["global_batch"], base["n_dp"])
    if rest:
        raise Skip(f"global batch {base['global_batch']} is not a multiple of dp = {base['n_dp']}")
    micro = row["micro_batch_seqs"]
    sizes = (micro,) if micro else tuple(m for m in MICRO_BATCHES if per_rank % m == 0)
    stages = _interleavings(row, base)
    assumed = (
        (("recompute",) if len(modes) > 1 else ())
        + (("micro-batch",) if micro is None else ())
        + (("interleaving",) if len(stages) > 1 else ())
    )
    options = (base | {"recompute": m, "micro_batch": s, "n_interleave": v} for m in modes for s in sizes for v in stages)
    return assumed, tuple(options)


def _interleavings(row: Row, base: dict[str, Any]) -> tuple[int, ...]:
    """Virtual stages that the row may have run with: those that cut the layers of a stage evenly, with whole rounds of micro-batches."""
    if row["vp"] or base["n_pp"] == 1 or row["layers"] is None:
        return (row["vp"] or 1,)
    per_stage, rest = divmod(row["layers"], base["n_pp"])
    return tuple(v for v in INTERLEAVINGS if v == 1 or (rest == 0 and per_stage % v == 0))


def _needed(row: Row, column: str) -> Any:
    if row[column] is None:
        raise Skip(f"{column} is empty")
    return row[column]
