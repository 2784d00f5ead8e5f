"""Hugging Face `config.json` of the architecture: the family that has exactly these parameters.

The file describes the model to be trained, in 16 bit: what it is quantised to for serving is not part of it, and routing
constants that no dimension depends on (expert groups, scaling factor) are neutral.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codesign.export._serving import max_context_tok
from codesign.export._subject import Subject, subject
from codesign.results import Run
from codesign.spec.errors import Diagnostic, UserError
from codesign.study import Study

Shape = dict[str, Any]
SHORT_THETA, LONG_THETA = 10_000.0, 500_000.0  # rotary base up to 4,096 tokens, and Llama 3's (arXiv 2407.21783 section 3.2)


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`config.json`, or a UserError that names what no family has."""
    return {"config.json": json.dumps(config_of(subject(study, run, point_id)), indent=2) + "\n"}


def config_of(s: Subject) -> dict[str, Any]:
    """The config of a point."""
    return config(s.shape, context_of(s))


def context_of(s: Subject) -> int:
    """Positions of the model: its training sequence, or the longest request that it is to serve where that is longer.

    What the base model was stretched to says nothing about this one, and engines refuse requests beyond this number.
    """
    return max(int(s.setting.life.seq_tok), max_context_tok(s))


def rotary_base(context_tok: int) -> float:
    return SHORT_THETA if context_tok <= 4096 else LONG_THETA


def config(shape: Shape, context_tok: int) -> dict[str, Any]:
    """Keys of the config of a filled architecture (plain numbers)."""
    family, shape = _family(features(shape)), shape | {"context_tok": context_tok}
    head = {"architectures": [family.model], "model_type": family.model_type, "dtype": "bfloat16"}
    return head | _body(shape) | family.keys(shape)


# What a design can have beside plain grouped-query attention and gated FFNs: name -> (what it is called, test).
FEATURES: dict[str, tuple[str, Callable[[Shape], bool]]] = {
    "mla": ("multi-head latent attention (attention: mla)", lambda a: a["attention"] == "mla"),
    "other attention": ("this kind of attention (attention)", lambda a: a["attention"] not in ("mha", "gqa", "mqa", "mla")),
    "linear": ("linear or state-space layers (n_linear_layers)", lambda a: a["n_linear_layers"] > 0),
    "no attention": ("layers without a token mixer (n_attention_layers)",
                     lambda a: a["n_attention_layers"] + a["n_linear_layers"] != a["n_layers"]),
    "no ffn": ("layers without an FFN (n_ffn_layers)", lambda a: a["n_ffn_layers"] != a["n_layers"]),
    "indexer": ("an indexer of sparse attention (index_topk_tok)", lambda a: a["index_topk_tok"] > 0 or a["index_heads"] > 0),
    "full query": ("queries projected in one step (q_lora_rank: 0)", lambda a: a["attention"] == "mla" and a["q_lora_rank"] == 0),
    "window": ("a sliding window in every layer (window_tok)", lambda a: a["n_window_layers"] > 0 and a["n_full_layers"] == 0),
    "mixed window": ("a sliding window in some layers (global_every)", lambda a: a["n_window_layers"] > 0 and a["n_full_layers"] > 0),
    "window heads": ("other KV heads in windowed layers (n_window_kv_heads)",
                     lambda a: a["n_window_layers"] > 0 and a["n_window_kv_heads"] != a["n_kv_heads"]),
    "value width": ("value heads of another width (d_head_v)", lambda a: a["attention"] != "mla" and a["d_head_v"] != a["d_head"]),
    "uneven heads": ("n_heads that do not divide d_model", lambda a: a["d_model"] % a["n_heads"] != 0),
    "odd head": ("an odd head width, which rotary positions cannot have (d_head)", lambda a: _rotary(a) % 2 != 0),
    "qk norm": ("norms of queries and keys (qk_norm)", lambda a: a["qk_norm"] > 0 and not a["qk_norm_full"]),
    "wide qk norm": ("norms over all query heads at once (qk_norm_full)", lambda a: a["qk_norm"] > 0 and a["qk_norm_full"] > 0),
    "qkv bias": ("biases of q, k and v alone (attention_bias without output_bias)",
                 lambda a: a["attention_bias"] > 0 and not a["output_bias"]),
    "attention bias": ("biases of q, k, v and the output (attention_bias, output_bias)",
                       lambda a: a["attention_bias"] > 0 and a["output_bias"] > 0),
    "output bias": ("a bias of the output alone (output_bias)", lambda a: a["output_bias"] > 0 and not a["attention_bias"]),
    "output gate": ("gated attention outputs (output_gate)", lambda a: a["output_gate"] > 0),
    "sinks": ("attention sinks (attention_sinks)", lambda a: a["attention_sinks"] > 0),
    "positions": ("learned positions (learned_positions)", lambda a: a["learned_positions"] > 0),
    "norms": ("another number of norms per layer (norms_per_layer)", lambda a: a["norms_per_layer"] != 2),
    "norm bias": ("norms with a bias (norm_bias)", lambda a: a["norm_bias"] > 0),
    "plain ffn": ("FFNs without a gate (ffn_gated: 0)", lambda a: not a["ffn_gated"]),
    "ffn bias": ("biases in dense FFNs (ffn_bias)", lambda a: a["ffn_bias"] > 0),
    "moe": ("routed experts (n_experts)", lambda a: a["n_experts"] > 0),
    "dense first": ("leading dense layers (n_dense_layers)", lambda a: a["n_experts"] > 0 and a["n_dense_layers"] > 0),
    "moe every": ("experts in every n-th layer (moe_every)", lambda a: a["n_experts"] > 0 and a["moe_every"] > 1),
    "dense first, moe every": ("leading dense layers and experts in every n-th (n_dense_layers, moe_every)",
                               lambda a: a["n_experts"] > 0 and a["moe_every"] > 1 and a["n_dense_layers"] > 0),
    "shared": ("shared experts (n_shared_experts)", lambda a: a["n_experts"] > 0 and a["n_shared_experts"] > 0),
    "shared width": ("shared experts that are not a whole number of routed ones (d_shared)",
                     lambda a: a["n_experts"] > 0 and (a["n_shared_experts"] * a["d_shared"]) % a["d_expert"] != 0),
    "shared gate": ("a gate on the shared expert (shared_gate)", lambda a: a["n_experts"] > 0 and a["shared_gate"] > 0),
    "latent experts": ("experts on narrower tokens (d_expert_latent)", lambda a: a["n_experts"] > 0 and a["d_expert_latent"] > 0),
    "expert bias": ("biases in experts (expert_bias)", lambda a: a["n_experts"] > 0 and a["expert_bias"] > 0),
    "router bias": ("a bias of the router (router_bias)", lambda a: a["n_experts"] > 0 and a["router_bias"] > 0),
    "deep router": ("a router of several layers (d_router)", lambda a: a["n_experts"] > 0 and a["d_router"] > 0),
    "mtp": ("multi-token-prediction modules (n_mtp_layers)", lambda a: a["n_mtp_layers"] > 0),
}  # fmt: skip


def features(shape: Shape) -> set[str]:
    """Names of what a design has beside plain attention and FFNs."""
    return {name for name, (_, test) in FEATURES.items() if test(shape)}


def families(shape: Shape) -> set[str]:
    """Type of the one family that has exactly this design, or nothing."""
    try:
        return {_family(features(shape)).model_type}
    except UserError:
        return set()


def _rotary(shape: Shape) -> int:
    return shape["d_head_rope"] if shape["attention"] == "mla" else shape["d_head"]


@dataclass(frozen=True)
class Family:
    """A `transformers` model class: what every model of it has, what it may have besides, and its own keys."""

    model_type: str
    model: str
    always: frozenset[str]
    maybe: frozenset[str]
    keys: Callable[[Shape], dict[str, Any]]

    def misses(self, has: set[str]) -> set[str]:
        """What the design has and the family cannot have."""
        return has - self.always - self.maybe

    def adds(self, has: set[str]) -> set[str]:
        """What the family always has and the design has not."""
        return set(self.always) - has


def _family(has: set[str]) -> Family:
    """The first family that has all of it and nothing else, or the nearest one in an error."""
    nearest = min(FAMILIES, key=lambda f: len(f.misses(has)) + len(f.adds(has)))
    if not nearest.misses(has) and not nearest.adds(has):
        return nearest
    title = f"no Hugging Face family is exactly this design; the nearest, {nearest.model_type},"
    hint = "search without it, or export to training-plan, which states every dimension"
    found = [Diagnostic(f"{title} cannot have {FEATURES[name][0]}", hint=hint) for name in sorted(nearest.misses(has))]
    found += [Diagnostic(f"{title} always has {FEATURES[name][0]}", hint=hint) for name in sorted(nearest.adds(has))]
    raise UserError(found)


def _body(a: Shape) -> dict[str, Any]:
    """Keys that every family reads alike.  Tokens of begin and end belong to the tokeniser, which nobody has chosen yet."""
    theta = rotary_base(a["context_tok"])
    return {
        "vocab_size": a["vocab"], "hidden_size": a["d_model"], "num_hidden_layers": a["n_layers"],
        "num_attention_heads": a["n_heads"], "num_key_value_heads": a["n_kv_heads"],
        "intermediate_size": a["d_ff"] or a["n_active_experts"] * a["d_expert"],
        "tie_word_embeddings": bool(a["tied_embeddings"]), "hidden_act": "silu", "rms_norm_eps": 1e-6, "initializer_range": 0.02,
        "max_position_embeddings": a["context_tok"], "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


def _heads(a: Shape) -> dict[str, Any]:
    return {"head_dim": a["d_head"]}


def _windowed(a: Shape) -> dict[str, Any]:
    """One window for every layer, or none."""
    return _heads(a) | {"sliding_window": a["window_tok"] if a["n_window_layers"] else None}


def layer_kinds(a: Shape) -> list[str]:
    """Full layers spread evenly, the last layer of each group full, as every published pattern has them."""
    n, full = a["n_layers"], a["n_full_layers"]
    is_full = [(i + 1) * full // n > i * full // n for i in range(n)]
    return ["full_attention" if f else "sliding_attention" for f in is_full]


def _pattern(a: Shape) -> dict[str, Any]:
    return _windowed(a) | {"layer_types": layer_kinds(a)}


def _qwen(a: Shape) -> dict[str, Any]:
    if not a["n_window_layers"]:
        return _heads(a) | {"use_sliding_window": False, "sliding_window": None}
    return _pattern(a) | {"use_sliding_window": True, "max_window_layers": a["n_full_layers"]}


def _llama(a: Shape) -> dict[str, Any]:
    return _heads(a) | {"attention_bias": bool(a["attention_bias"]), "mlp_bias": bool(a["ffn_bias"])}


def _mixtral(a: Shape) -> dict[str, Any]:
    experts = {"num_local_experts": a["n_experts"], "num_experts_per_tok": a["n_active_experts"]}
    return _windowed(a) | experts | {"intermediate_size": a["d_expert"]}


def _gpt_oss(a: Shape) -> dict[str, Any]:
    """Its model code needs a window even where no layer uses it: one as long as the context."""
    window = a["window_tok"] if a["n_window_layers"] else a["context_tok"]
    return _mixtral(a) | _pattern(a) | {"sliding_window": window, "attention_bias": True}


def _qwen3_moe(a: Shape) -> dict[str, Any]:
    return _heads(a) | {
        "num_experts": a["n_experts"], "num_experts_per_tok": a["n_active_experts"], "moe_intermediate_size": a["d_expert"],
        "decoder_sparse_step": a["moe_every"], "mlp_only_layers": list(range(a["n_dense_layers"])), "norm_topk_prob": True,
        "use_sliding_window": False, "sliding_window": None, "attention_bias": False,
    }  # fmt: skip


def _deepseek_experts(a: Shape) -> dict[str, Any]:
    """Leading dense layers, then routed experts and shared ones, which are one FFN of a multiple of the routed width."""
    shared = a["n_shared_experts"] * a["d_shared"] // a["d_expert"] if a["n_experts"] else 0
    return {
        "n_routed_experts": a["n_experts"], "num_experts_per_tok": a["n_active_experts"], "moe_intermediate_size": a["d_expert"],
        "n_shared_experts": shared, "first_k_dense_replace": a["n_dense_layers"] if a["n_experts"] else a["n_layers"],
        "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0,
        "num_nextn_predict_layers": a["n_mtp_layers"], "attention_bias": bool(a["attention_bias"]),
    }  # fmt: skip


def _glm4_moe(a: Shape) -> dict[str, Any]:
    rotary = {"partial_rotary_factor": 1.0}
    return _heads(a) | _deepseek_experts(a) | {"use_qk_norm": bool(a["qk_norm"])} | rotary


def _deepseek(a: Shape) -> dict[str, Any]:
    latent = {
        "q_lora_rank": a["q_lora_rank"] or None, "kv_lora_rank": a["kv_lora_rank"], "qk_nope_head_dim": a["d_head_nope"],
        "qk_rope_head_dim": a["d_head_rope"], "v_head_dim": a["d_head_v"],
    }  # fmt: skip
    return latent | _deepseek_experts(a)


def _deepseek_sparse(a: Shape) -> dict[str, Any]:
    index = {"index_n_heads": a["index_heads"], "index_head_dim": a["index_dim"], "index_topk": a["index_topk_tok"]}
    return _deepseek(a) | index


def _known(model_type: str, model: str, always: str, maybe: str, keys: Callable[[Shape], dict[str, Any]]) -> Family:
    split = (frozenset(filter(None, text.split("; "))) for text in (always, maybe))
    return Family(model_type, f"{model}ForCausalLM", *split, keys)


# In order of preference: where two fit, the more widely served one comes first.
FAMILIES = (
    _known("llama", "Llama", "", "attention bias; ffn bias", _llama),
    _known("mistral", "Mistral", "", "window; uneven heads", _windowed),
    _known("ministral", "Ministral", "", "window; mixed window; uneven heads", _pattern),
    _known("qwen3", "Qwen3", "qk norm", "window; mixed window; uneven heads", _qwen),
    _known("qwen2", "Qwen2", "qkv bias", "window; mixed window; uneven heads", _qwen),
    _known("mixtral", "Mixtral", "moe", "window; uneven heads", _mixtral),
    _known("qwen3_moe", "Qwen3Moe", "moe; qk norm", "dense first; moe every; uneven heads", _qwen3_moe),
    _known("glm4_moe", "Glm4Moe", "moe", "qk norm; qkv bias; dense first; shared; mtp; uneven heads", _glm4_moe),
    _known("gpt_oss", "GptOss", "moe; attention bias; sinks; expert bias; router bias", "window; mixed window; uneven heads", _gpt_oss),
    _known("deepseek_v3", "DeepseekV3", "mla", "full query; moe; dense first; shared; mtp; attention bias; uneven heads", _deepseek),
    _known("deepseek_v32", "DeepseekV32", "mla; indexer", "moe; dense first; shared; mtp; attention bias; uneven heads", _deepseek_sparse),
)
