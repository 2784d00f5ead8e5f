"""Families of Hugging Face configs: which key of a `config.json` sets which key of `architecture`.

A family is a list of readers and the keys that its configs may leave out; each reader asks the config for keys by name,
so that one message can list every key that is missing or wrong. A new family is one entry in FAMILIES.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


class Config:
    """A config's keys, with the problems met while reading them."""

    def __init__(self, keys: dict, defaults: dict):
        self.keys = {k: v for k, v in keys.items() if v is not None}
        self.defaults = defaults
        self.missing: list[str] = []
        self.wrong: list[str] = []
        self.notes: list[str] = []

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of `names` that the config states, else the family's default, else `default`."""
        for source in (self.keys, self.defaults):
            for name in names:
                if name in source:
                    return source[name]
        return default

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; without a default an absent key is a problem."""
        value = self.get(*names, default=default)
        if value is None:
            self.missing.append(" or ".join(names))
            return least
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value % 1 or value < least:
            self.wrong.append(f"{names[0]}: {value!r} is not a whole number of at least {least}")
            return least
        return int(value)

    def items(self, name: str) -> list:
        """A list; an absent key is an empty one."""
        value = self.get(name, default=[])
        if not isinstance(value, list):
            self.wrong.append(f"{name}: {value!r} is not a list")
            return []
        return value

    def flag(self, *names: str, default: bool = False) -> bool:
        return bool(self.get(*names, default=default))


Reader = Callable[[Config, dict], None]


def _body(c: Config, a: dict) -> None:
    a["n_layers"] = c.count("num_hidden_layers", "n_layer", "num_layers")
    a["d_model"] = c.count("hidden_size", "n_embd", "d_model")
    a["vocab"] = c.count("vocab_size")
    if c.flag("tie_word_embeddings"):
        a["tied_embeddings"] = True


def _heads(c: Config, a: dict) -> None:
    """Softmax attention with separate key and value heads; `d_head` is stated even where the config leaves it to d_model / heads."""
    heads = c.count("num_attention_heads", "n_head")
    groups = c.count("num_key_value_heads", default=heads)
    a["attention"] = "mha" if groups == heads else "mqa" if groups == 1 else "gqa"
    a["n_heads"] = heads
    if a["attention"] == "gqa":
        a["n_kv_heads"] = groups
    a["d_head"] = c.count("head_dim", default=a["d_model"] // heads)
    if c.flag("attention_bias"):
        a["attention_bias"] = True


def _latent(c: Config, a: dict) -> None:
    """MLA; a `q_lora_rank` of null means queries are projected in one step."""
    a["attention"] = "mla"
    a["n_heads"] = c.count("num_attention_heads")
    a["q_lora_rank"] = c.count("q_lora_rank", default=0, least=0)
    a["kv_lora_rank"] = c.count("kv_lora_rank")
    a["d_head_nope"] = c.count("qk_nope_head_dim")
    a["d_head_rope"] = c.count("qk_rope_head_dim")
    a["d_head_v"] = c.count("v_head_dim")
    if c.flag("attention_bias"):
        a.update(attention_bias=True, output_bias=True)
    if c.get("index_topk"):
        a["index_heads"], a["index_dim"] = c.count("index_n_heads"), c.count("index_head_dim")
        a["index_topk_tok"] = c.count("index_topk")


def _window(c: Config, a: dict) -> None:
    """Sliding-window or chunked layers, from `layer_types` where given, else from the family's pattern."""
    window = c.get("sliding_window", "attention_chunk_size")
    context = c.count("max_position_embeddings", default=0, least=0)
    if not window or not c.flag("use_sliding_window", default=True) or (context and window >= context):
        return
    layers, types = a["n_layers"], c.items("layer_types")
    patterns = (
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "no_rope_layer_interval",
        "global_attn_every_n_layers",
    )
    every = c.count(*patterns, default=0, least=0)
    if types:
        n_full, n_window = types.count("full_attention"), _count_windowed(types)
    elif c.get("max_window_layers") is not None:
        n_full = min(c.count("max_window_layers", least=0), layers)
        n_window = layers - n_full
    else:
        n_full = layers // every if every else 0
        n_window = layers - n_full
    if n_window:
        a["window_tok"] = c.count("sliding_window", "attention_chunk_size")
        if every and not types:
            a["global_every"] = every
        elif n_full:
            a["n_full_layers"] = n_full


def _count_windowed(types: list) -> int:
    return sum(kind in ("sliding_attention", "chunked_attention") for kind in types)


def _ffn(c: Config, a: dict) -> None:
    a["d_ff"] = c.count("intermediate_size", "ffn_dim", "n_inner")


def _experts_only(c: Config, a: dict) -> None:
    """Every FFN is an MoE whose experts have the width `intermediate_size`."""
    _routed(c, a, width="intermediate_size")


def _routed(c: Config, a: dict, width: str = "moe_intermediate_size") -> None:
    a["n_experts"] = c.count("n_routed_experts", "num_local_experts", "num_experts")
    a["n_active_experts"] = c.count("num_experts_per_tok", "experts_per_token", "num_experts_per_token")
    a["d_expert"] = c.count(width)
    if a["n_active_experts"] > a["n_experts"]:
        c.wrong.append(f"num_experts_per_tok: {a['n_active_experts']} is more than the {a['n_experts']} experts")


def _experts_after_dense(c: Config, a: dict) -> None:
    """DeepSeek's pattern: leading dense layers, then routed and shared experts of one width."""
    _ffn(c, a)
    if not c.get("n_routed_experts"):
        return
    _routed(c, a)
    first = c.count("first_k_dense_replace", default=0, least=0)
    if first:
        a["n_dense_layers"] = first
    if c.count("moe_layer_freq", default=1) > 1:
        a["moe_every"] = c.count("moe_layer_freq")
    shared = c.count("n_shared_experts", default=0, least=0)
    if shared:
        a["n_shared_experts"] = shared


def _experts_every(c: Config, a: dict) -> None:
    """Qwen's pattern: an MoE in every `decoder_sparse_step`-th layer except `mlp_only_layers`; one gated shared expert or none."""
    only_dense = len(c.items("mlp_only_layers"))
    step = c.count("decoder_sparse_step", default=1)
    if only_dense or step > 1:
        _ffn(c, a)
    _routed(c, a)
    if only_dense:
        a["n_dense_layers"] = only_dense
    if step > 1:
        a["moe_every"] = step
    shared = c.count("shared_expert_intermediate_size", default=0, least=0)
    if shared:
        a.update(n_shared_experts=1, d_shared=shared, shared_gate=True)


def _experts_interleaved(c: Config, a: dict) -> None:
    """Llama 4: an MoE with one shared expert in every `interleave_moe_layer_step`-th layer, wider dense FFNs between."""
    step = c.count("interleave_moe_layer_step", default=1)
    if step > 1:
        a.update(d_ff=c.count("intermediate_size_mlp"), moe_every=step)
    _experts_only(c, a)
    a["n_shared_experts"] = 1


def _delta(c: Config, a: dict) -> None:
    """Gated-DeltaNet layers between the full-attention ones."""
    layers, types = a["n_layers"], c.items("layer_types")
    full = types.count("full_attention") if types else layers // c.count("full_attention_interval", default=4)
    a.update(linear_attention="gated_deltanet", n_linear_layers=layers - full)
    a["linear_k_heads"], a["linear_v_heads"] = (
        c.count("linear_num_key_heads"),
        c.count("linear_num_value_heads"),
    )
    a["linear_d_k"], a["linear_d_v"] = c.count("linear_key_head_dim"), c.count("linear_value_head_dim")
    a["linear_conv"] = c.count("linear_conv_kernel_dim")


def _always(**keys: Any) -> Reader:
    """What a family has whatever its config says."""
    return lambda c, a: a.update(keys)


def _qk_norm_if_used(c: Config, a: dict) -> None:
    if c.flag("use_qk_norm"):
        a["qk_norm"] = True


def _mtp(c: Config, a: dict) -> None:
    modules = c.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0)
    if modules:
        a["n_mtp_layers"] = modules


def _gpt2(c: Config, a: dict) -> None:
    _body(c, a)
    _heads(c, a)
    a["d_ff"] = c.count("n_inner", default=4 * a["d_model"])
    a.update(ffn_gated=False, attention_bias=True, output_bias=True, ffn_bias=True, norm_bias=True)
    a["learned_positions"] = c.count("n_positions", "n_ctx")


def _block_biases(c: Config, a: dict) -> None:
    """Llama's `attention_bias` covers the output projection too."""
    if c.flag("attention_bias"):
        a["output_bias"] = True
    if c.flag("mlp_bias"):
        a["ffn_bias"] = True


_LLAMA: tuple[Reader, ...] = (_body, _heads, _window, _ffn)
_DEEPSEEK: tuple[Reader, ...] = (_body, _latent, _experts_after_dense, _mtp)
_QK = _always(qk_norm=True)
_WIDE_QK = _always(qk_norm=True, qk_norm_full=True)
_GATED = _always(qk_norm=True, output_gate=True)
_DSA = {"index_head_dim": 128, "index_topk": 2048}


# model_type -> (readers, keys that a config of this family may leave out)
FAMILIES: dict[str, tuple[tuple[Reader, ...], dict]] = {
    "llama": ((*_LLAMA, _block_biases), {"use_sliding_window": False}),
    "mistral": (_LLAMA, {}),
    "ministral": (_LLAMA, {}),
    "mixtral": ((_body, _heads, _window, _experts_only), {}),
    "qwen2": ((*_LLAMA, _always(attention_bias=True)), {"use_sliding_window": False}),
    "qwen2_moe": (
        (_body, _heads, _window, _experts_every, _always(attention_bias=True)),
        {"use_sliding_window": False},
    ),
    "qwen3": ((*_LLAMA, _block_biases, _QK), {"use_sliding_window": False, "head_dim": 128}),
    "qwen3_moe": ((_body, _heads, _window, _experts_every, _block_biases, _QK), {"use_sliding_window": False}),
    "qwen3_next": ((_body, _heads, _delta, _experts_every, _GATED, _mtp), {}),
    "qwen3_5_moe_text": ((_body, _heads, _delta, _experts_every, _GATED, _mtp), {}),
    "qwen3_5_text": ((_body, _heads, _delta, _ffn, _GATED, _mtp), {}),
    "deepseek_v2": (_DEEPSEEK, {}),
    "deepseek_v3": (_DEEPSEEK, {}),
    "deepseek_v32": (_DEEPSEEK, _DSA | {"index_n_heads": 64}),
    "glm_moe_dsa": (_DEEPSEEK, _DSA | {"index_n_heads": 32}),
    "kimi_k2": (_DEEPSEEK, {}),
    "gpt_oss": (
        (_body, _heads, _window, _experts_only,
         _always(output_bias=True, attention_sinks=True, expert_bias=True, router_bias=True)),
        {"attention_bias": True, "_sliding_window_pattern": 2, "head_dim": 64},
    ),
    "gemma": (_LLAMA, {"tie_word_embeddings": True, "head_dim": 256}),
    "gemma2": (
        (*_LLAMA, _always(norms_per_layer=4)),
        {"tie_word_embeddings": True, "_sliding_window_pattern": 2, "head_dim": 256},
    ),
    "gemma3_text": (
        (*_LLAMA, _always(norms_per_layer=4, qk_norm=True)),
        {"tie_word_embeddings": True, "_sliding_window_pattern": 6, "head_dim": 256, "num_attention_heads": 8,
         "num_key_value_heads": 4, "vocab_size": 262208, "max_position_embeddings": 131072},
    ),
    "phi3": (_LLAMA, {}),
    "olmo2": ((*_LLAMA, _WIDE_QK), {}),
    "olmo3": ((*_LLAMA, _WIDE_QK), {"_sliding_window_pattern": 4}),
    "olmoe": ((_body, _heads, _experts_only, _WIDE_QK), {}),
    "glm4_moe": ((_body, _heads, _qk_norm_if_used, _experts_after_dense, _mtp), {}),
    "minimax_m2": ((_body, _heads, _window, _experts_only, _WIDE_QK), {}),
    "llama4_text": ((_body, _heads, _window, _experts_interleaved), {"no_rope_layer_interval": 4}),
    "gpt2": ((_gpt2,), {"tie_word_embeddings": True}),
}  # fmt: skip
ALIASES = {
    "deepseek_v3_2": "deepseek_v32",
    "llama4": "llama4_text",
    "gemma3": "gemma3_text",
    "kimi_k25": "kimi_k2",
}
# keys of layers that no reader above understands: an unknown family that has them is refused, not guessed
FOREIGN = re.compile(r"mamba|ssm|hybrid|rwkv|conv_kernel|linear_(num|key|value)|compress|mixer", re.IGNORECASE)


def guess(c: Config, a: dict) -> None:
    """An unknown family: a Llama-like decoder, with latent attention or experts where the config has their keys."""
    _body(c, a)
    (_latent if c.get("kv_lora_rank") else _heads)(c, a)
    if a["attention"] != "mla":
        _window(c, a)
    if c.get("n_routed_experts"):
        _experts_after_dense(c, a)
    elif c.get("num_local_experts") or c.get("num_experts"):
        (_experts_every if c.get("moe_intermediate_size") else _experts_only)(c, a)
    else:
        _ffn(c, a)
    _qk_norm_if_used(c, a)
    _mtp(c, a)
