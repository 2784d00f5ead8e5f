"""TOML and model flavor of torchtitan: architecture, layout, batch, precision, recomputation, schedule."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codesign.export import _checks, _servers, _training, hf
from codesign.export._markup import line
from codesign.export._refusal import ELSEWHERE, refuse
from codesign.export._shell import comment, nodes_of
from codesign.export._subject import Subject, subject
from codesign.results import Run
from codesign.study import Study

VERSION = "torchtitan 0.2.2 (torchtitan/config/job_config.py; 0.3 has no TOML)"
FLAVOR, MODULE = "codesign", "torchtitan_flavor"
AGAIN = {"none": {"mode": "none"}, "selective": {"mode": "selective", "selective_ac_option": "op"}, "full": {"mode": "full"}}


@dataclass(frozen=True)
class Recipe:
    """A model of torchtitan: where its flavors are, what it may have besides plain attention, and its dimensions."""

    name: str
    flavors: str
    arguments: str
    always: frozenset[str]
    maybe: frozenset[str]
    keys: Callable[[dict[str, Any]], dict[str, Any]]

    def lacks(self, has: set[str]) -> set[str]:
        return (has - self.always - self.maybe) | {f"no {name}" for name in self.always - has}


# What else tells its recipes apart, beside hf.FEATURES.
OWN: dict[str, str] = {
    "tied": "tied embeddings (tied_embeddings)", "wide heads": "heads whose widths do not add up to d_model (d_head)",
    "pipeline": "pipeline stages (train: n_pp)", "no mla": "attention other than MLA (attention)", "no moe": "a model without experts",
}  # fmt: skip


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`torchtitan.toml` and `torchtitan_flavor.py`, which names the dimensions; or a UserError that says what it has not."""
    s = subject(study, run, point_id)
    _checks.same_constants(s)
    job = _training.layout(s)
    recipe = _recipe(s, job)
    refuse("torchtitan", [*_unlaid(s, job), *_training.unexpressed(s)])
    n_nodes, each = nodes_of(job["n_devices"], job["n_devices_per_node"])
    used = _training.memory(s, "train")
    said = [
        f"{_servers.served_name(s)}: pretraining.  Keys as {VERSION} has them.",
        f"n_devices={job['n_devices']} n_nodes={n_nodes} n_micro_batches_per_step={job['n_micro_batches_per_step']}",
        f"Memory of the fullest device: {used['total_bytes'] / 1e9:.1f} GB expected, {used['usable_bytes'] / 1e9:.1f} GB usable.",
        f"Learning rate: {_training.learning_rate(s)['source']}",
        f"Start: PYTHONPATH=. torchrun --nnodes {n_nodes} --nproc-per-node {each} -m torchtitan.train --job.config_file torchtitan.toml",
        *(["FSDP shards gradients too, so memory lies below the design's ZeRO stage 1"] if job["zero_stage"] == 1 else []),
    ]
    return {"torchtitan.toml": "\n".join(map(comment, said)) + "\n" + toml(_config(s, job, recipe)), f"{MODULE}.py": _flavor(s, recipe)}


def _recipe(s: Subject, job: dict[str, Any]) -> Recipe:
    """The first recipe that has all of it, or what the nearest lacks in an error."""
    a = s.shape
    has = hf.features(a) | ({"tied"} if a["tied_embeddings"] else set()) | ({"pipeline"} if job["n_pp"] > 1 else set())
    has |= {"wide heads"} if a["attention"] != "mla" and a["n_heads"] * a["d_head"] != a["d_model"] else set()
    has -= {"uneven heads"} if "wide heads" in has or "mla" in has else set()
    nearest = min(RECIPES, key=lambda recipe: len(recipe.lacks(has)))
    names = {name: text for name, (text, _) in hf.FEATURES.items()} | OWN
    instead = f"export to megatron, which has most of it; or {ELSEWHERE}"
    refuse(f"torchtitan (nearest recipe {nearest.name})", [(names[name], instead) for name in sorted(nearest.lacks(has))])
    return nearest


def _unlaid(s: Subject, job: dict[str, Any]) -> list[tuple[str, str]]:
    """Layouts that its meshes cannot have."""
    found, many = [], job["n_tp"] * job["n_cp"] * job["n_pp"] * job["n_ep"] > 1
    if job["zero_stage"] == 0 and job["n_dp"] > 1 and many:
        found.append(("whole replicas (train: zero 0) beside other parallelism", "search with zero: [1], or export to megatron"))
    if s.shape["n_experts"] and job["n_ep"] == 1 and job["n_etp"] != job["n_tp"]:
        found.append(
            (
                "whole experts on tensor-parallel ranks (train: n_ep 1 with n_tp)",
                "search with n_ep above 1 or n_tp: [1], or export to megatron",
            )
        )
    if job["n_ep"] > 1 and job["n_etp"] > 1:
        found.append(("tensor parallelism inside experts (train: n_etp)", "search with n_etp: [1], or export to megatron"))
    if job["n_interleave"] > 1 and -(-s.shape["n_layers"] // _per_stage(s, job)) != job["n_pp"] * job["n_interleave"]:
        found.append(
            ("virtual stages that do not fill the pipeline (train: n_interleave)", "search with layers that divide, or export to megatron")
        )
    if s.train_bits not in (8, 16):
        found.append((f"{s.train_bits:g}-bit training (precision.train_bits)", "search with 8 or 16"))
    return found


def _per_stage(s: Subject, job: dict[str, Any]) -> int:
    return -(-s.shape["n_layers"] // (job["n_pp"] * job["n_interleave"]))


def _config(s: Subject, job: dict[str, Any], recipe: Recipe) -> dict[str, dict[str, Any]]:
    rate, n_steps = _training.learning_rate(s), _training.cost(s)["n_steps"]
    narrow, has_moe = s.train_bits == 8, s.shape["n_experts"] > 0
    local = job["micro_batch_seq"] * (job["n_micro_batches_per_step"] if job["n_pp"] > 1 else 1)  # a pipeline cuts it into micro-batches
    return {
        "job": {"description": line(_servers.served_name(s)), "dump_folder": "./outputs"},
        "experimental": {"custom_import": MODULE},
        "model": {"name": recipe.name, "flavor": FLAVOR, "hf_assets_path": "./tokenizer",
                  "converters": ["quantize.linear.float8", *(["quantize.grouped_mm.float8"] if has_moe else [])] if narrow else []},
        "training": {"local_batch_size": local, "global_batch_size": job["global_batch_seq"], "seq_len": job["seq_tok"], "steps": n_steps,
                     "max_norm": rate["gradient_clip_norm"], "dataset": "c4", "mixed_precision_param": "bfloat16", "mixed_precision_reduce": "float32"},
        "parallelism": _parallelism(s, job),
        "activation_checkpoint": AGAIN[job["recompute"]],
        "optimizer": {"name": "AdamW", "lr": rate["peak"], "beta1": rate["beta1"], "beta2": rate["beta2"], "weight_decay": rate["weight_decay"]},
        "lr_scheduler": {"warmup_steps": rate["warmup_steps"], "decay_ratio": rate["cooldown_steps"] / n_steps, "decay_type": "sqrt",
                         "min_lr_factor": rate["final"]},
        "checkpoint": {"enable": True, "folder": "checkpoint", "interval": _training.reliability(s)["checkpoint_interval_steps"], "async_mode": "async"},
        "compile": {"enable": True},
        **({"quantize.linear.float8": {"recipe_name": "rowwise", "filter_fqns": ["output", "router.gate"]}} if narrow else {}),
        **({"quantize.grouped_mm.float8": {"fqns": ["experts"]}} if narrow and has_moe else {}),
    }  # fmt: skip


def _parallelism(s: Subject, job: dict[str, Any]) -> dict[str, Any]:
    whole = job["zero_stage"] == 0
    keys = {
        "data_parallel_replicate_degree": job["n_dp"] if whole else 1, "data_parallel_shard_degree": 1 if whole else job["n_dp"],
        "fsdp_reshard_after_forward": "always" if job["zero_stage"] == 3 else "never", "tensor_parallel_degree": job["n_tp"],
        "context_parallel_degree": job["n_cp"], "pipeline_parallel_degree": job["n_pp"],
        "expert_parallel_degree": job["n_ep"], "expert_tensor_parallel_degree": job["n_etp"],
    }  # fmt: skip
    if job["n_pp"] > 1:
        keys |= {
            "pipeline_parallel_schedule": "Interleaved1F1B" if job["n_interleave"] > 1 else "1F1B",
            "pipeline_parallel_microbatch_size": job["micro_batch_seq"],
            "pipeline_parallel_first_stage_less_layers": 0, "pipeline_parallel_last_stage_less_layers": 0,
            **({"pipeline_parallel_layers_per_stage": _per_stage(s, job)} if job["n_interleave"] > 1 else {}),
        }  # fmt: skip
    return keys


def _flavor(s: Subject, recipe: Recipe) -> str:
    """Python, because torchtitan keeps dimensions in code: numbers of ours only, no text of the study's."""
    keys = recipe.keys(s.shape) | {"rope_theta": hf.rotary_base(hf.context_of(s)), "max_seq_len": int(s.setting.life.seq_tok)}
    experts = _moe(s.shape) if s.shape["n_experts"] else {}
    fields = [f"    {key}={value!r}," for key, value in keys.items()]
    fields += ["    moe_args=MoEArgs(", *(f"        {key}={value!r}," for key, value in experts.items()), "    ),"] if experts else []
    return "\n".join([
        f'"""Dimensions of the design as a flavor of torchtitan\'s {recipe.name}; `custom_import` of torchtitan.toml loads it."""', "",
        f"from torchtitan.models.{recipe.name} import {recipe.flavors}, {recipe.arguments}",
        *(["from torchtitan.models.moe import MoEArgs"] if experts else []), "",
        f'{recipe.flavors}["{FLAVOR}"] = {recipe.arguments}(', *fields, ")", "",
    ])  # fmt: skip


def _moe(a: dict[str, Any]) -> dict[str, Any]:
    shared = a["n_shared_experts"] * a["d_shared"] // a["d_expert"]
    return {"num_experts": a["n_experts"], "num_shared_experts": shared, "top_k": a["n_active_experts"], "score_before_experts": False}


def _llama(a: dict[str, Any]) -> dict[str, Any]:
    """Its FFN width is the next multiple of `multiple_of` above a share of d_model: 1/d_model of it makes the width exact."""
    return {
        "dim": a["d_model"], "n_layers": a["n_layers"], "n_heads": a["n_heads"], "n_kv_heads": a["n_kv_heads"], "vocab_size": a["vocab"],
        "multiple_of": a["d_ff"], "ffn_dim_multiplier": 1.0 / a["d_model"],
    }  # fmt: skip


def _qwen(a: dict[str, Any]) -> dict[str, Any]:
    keys = {
        "dim": a["d_model"], "n_layers": a["n_layers"], "n_heads": a["n_heads"], "n_kv_heads": a["n_kv_heads"], "head_dim": a["d_head"],
        "vocab_size": a["vocab"], "hidden_dim": a["d_ff"] or a["d_expert"], "qk_norm": bool(a["qk_norm"]),
        "enable_weight_tying": bool(a["tied_embeddings"]),
    }  # fmt: skip
    return keys | ({"moe_enabled": True, "moe_inter_dim": a["d_expert"]} if a["n_experts"] else {})


def _deepseek(a: dict[str, Any]) -> dict[str, Any]:
    """Without YaRN: the context is the training sequence."""
    return {
        "dim": a["d_model"], "n_layers": a["n_layers"], "n_heads": a["n_heads"], "vocab_size": a["vocab"],
        "inter_dim": a["d_ff"] or a["d_expert"], "moe_inter_dim": a["d_expert"], "n_dense_layers": a["n_dense_layers"],
        "q_lora_rank": a["q_lora_rank"], "kv_lora_rank": a["kv_lora_rank"], "qk_nope_head_dim": a["d_head_nope"],
        "qk_rope_head_dim": a["d_head_rope"], "v_head_dim": a["d_head_v"], "rope_factor": 1.0,
    }  # fmt: skip


def _known(name: str, flavors: str, arguments: str, always: set[str], maybe: set[str], keys) -> Recipe:
    return Recipe(name, flavors, arguments, frozenset(always), frozenset(maybe), keys)


RECIPES = (
    _known("llama3", "llama3_args", "TransformerModelArgs", set(), {"pipeline"}, _llama),
    _known("qwen3", "qwen3_args", "Qwen3ModelArgs", set(), {"qk norm", "moe", "shared", "tied", "wide heads", "uneven heads"}, _qwen),
    _known(
        "deepseek_v3",
        "deepseekv3_args",
        "DeepSeekV3ModelArgs",
        {"mla", "moe"},
        {"full query", "dense first", "shared", "pipeline"},
        _deepseek,
    ),
)


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """Tables of plain values as TOML.

    >>> print(toml({"a": {"b": [1, "x"], "c": True}}), end="")
    <BLANKLINE>
    [a]
    b = [1, "x"]
    c = true
    """
    lines = []
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Strings are printable here, so JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)
