"""Which keys a catalog file may have, and the SI unit of each figure.

A field is a unit of `spec.units` ('byte', 'byte/s', '' for a ratio or count), `int` (a whole number), `text`, `texts`, `ints`, `flag`,
or a choice of words.  `*` stands for any name.
"""

from __future__ import annotations

from typing import Any

CHOICES = {
    "topology": ("switch", "mesh", "torus", "pcie"),
    "confidence": ("measured", "vendor", "estimate"),
    "mixing": ("alternating", "chunked"),
    "term": ("3yr", "1yr", "on_demand", "spot", "list"),
}
PROVENANCE = ("source", "date", "confidence")
DTYPES = ("fp32", "tf32", "bf16", "fp8", "int8", "fp6", "fp4", "int4")

_ALL = {"name": "text", "title": "text", "aliases": "texts", "not_evaluable": "text"}

_CHIP: dict[str, Any] = {
    "peak": dict.fromkeys(DTYPES, "FLOP/s"),
    "hbm": {"type": "text", "capacity": "byte", "usable": "byte", "bandwidth": "byte/s"},
    "memory": {"type": "text"},
    "scale_up": {
        "bandwidth": "byte/s", "peer_bandwidth": "byte/s", "link_bandwidth": "byte/s", "n_links": "int", "size": "int",
        "hop_latency": "s", "topology": "topology", "torus_dims": "ints", "technology": "text",
    },
    "scale_out": {"bandwidth": "byte/s", "technology": "text"},
    "host": {"bandwidth": "byte/s", "memory": "byte", "technology": "text"},
    "power": {"tdp": "W", "all_in": "W"},
    "price": {"rent": "USD/s", "own": "USD/s", "kind": "text"},
}  # fmt: skip

ACCELERATOR = {
    **_CHIP,
    "like": "text",
    "vendor": "text", "year": "int", "process": "text", "clock": "text", "matrix_unit": "text", "n_sm": "int", "n_matrix_units": "int",
    "l2": {"capacity": "byte"}, "llc": {"capacity": "byte"},
    "sram": {"capacity": "byte", "per_sm": "byte", "distributed": "byte"},
    "measured": {"mamf_bf16": "FLOP/s", "mamf_fp8": "FLOP/s", "host_bandwidth": "byte/s"},
}  # fmt: skip

SYSTEM = {
    **_CHIP,
    "accelerator": "text",
    "base": "text", "scale": {"*": ""},  # of one that does not exist yet: the hardware it is derived from, and factors on its figures
    "devices_per_tray": "int",
    "server": {"devices": "int", "power": "W", "weight": "kg", "price": "USD"},
    "rack": {
        "devices": "int", "n_racks": "int", "n_compute_trays": "int", "n_switch_trays": "int", "n_switches": "int", "n_cables": "int",
        "power": "W", "power_peak": "W", "tray_power": "W", "weight": "kg", "price": "USD", "infrastructure": "USD",
        "cooling": "text", "medium": "text",
        "optics": {"n_modules": "int", "module_power": "W", "price": "USD"},
    },
}  # fmt: skip

_FIT = {"t0": "s", "compute": "", "memory": "", "residual": ""}
_ROUND = {"t0": "s", "efficiency": "", "residual": ""}
OPS: dict[str, dict[str, str]] = {  # constants of a cell; cells are keyed by dtype, all_reduce by group size, the last two by what or where
    "gemm": _FIT,
    "attention_decode": {"t0": "s", "memory": "", "residual": ""},
    "mla_decode": _FIT,
    "attention_prefill": {"t0": "s", "compute": "", "s0": "tok", "residual": ""},
    "experts": {**_FIT, "m0": "tok"},
    "training": {"compute": "", "residual": ""},
    "all_reduce": {"one_shot_t0": "s", "one_shot": "", "two_shot_t0": "s", "two_shot": "", "residual": ""},
    "nccl": _ROUND,
    "all_to_all": _ROUND,
}
_STACK = {  # constants of a training stack
    "sustained": "", "sustained_narrow": "", "attention": "", "attention_backward": "", "attention_s0": "tok", "attention_half": "", "experts_16": "", "experts_8": "", "expert_m0": "tok",
    "traffic": "", "casts": "", "network": "", "tp_overlap": "", "ep_overlap": "", "ep_hidden": "", "ep_once": "", "graphed": "", "dp_overlap": "",
    "sync": "s", "host": "s", "host_moe": "s", "usable": "", "step": "s",
}  # fmt: skip
_TABLE = {"*": {op: {"*": cell} for op, cell in OPS.items()}}

ENGINE = {
    "base": "text",
    "version": "text",
    "kernels": _TABLE,
    "priors": _TABLE,
    "like": {"*": {"chips": "texts", "residual": ""}},
    "dtype_like": {"*": "texts"},
    "scheduler": {"step_overhead": "s", "per_sequence_overhead": "s", "glue_kernels": "", "mixing": "mixing"},
    "memory": {"reserve": "byte", "usable_fraction": ""},
    "training": {**_STACK, "by_vendor": {"*": _STACK}, "by_chip": {"*": _STACK}},
}

_LENGTH = {"mean": "tok", "median": "tok", "p90": "tok", "p99": "tok", "sigma": ""}
WORKLOAD = {
    "question": "text", "interactive": "flag", "isl": _LENGTH, "osl": _LENGTH, "prefix_hit": "",
    "context": {"median": "tok"}, "tok_per_task": "tok", "n_calls_per_task": "", "peak_to_mean": "",
    "slo": {"ttft": "s", "tpot": "s"},
}  # fmt: skip

MEMORY = {
    "holds": "text",
    "capacity": "byte",
    "bandwidth": "byte/s",
    "bandwidth_low": "byte/s",
    "bandwidth_high": "byte/s",
    "latency": "s",
    "price": "USD/byte",
    "price_low": "USD/byte",
    "price_high": "USD/byte",
}


def _between(unit: str, **more: Any) -> dict[str, Any]:
    return {"*": {"value": unit, "low": unit, "high": unit, **more}}


ENERGY = {
    "chip": {"idle": "", "full_load": "", "sustained": "", "arithmetic": ""},
    "node": {"drawn": ""},
    "on_chip": "J/byte",
    "memory": {"*": "J/byte"},
    "link": {"scale_up": "J/byte", "scale_out": "J/byte"},
}

RACK = {
    "limit": {"n_cables": "int", "power": "W", "air_power": "W", "weight": "kg", "n_slots": "int"},
    "cable": {"lane": "byte/s"},
    "switch": {"n_ports": "int", "port": "byte/s", "per_tray": "int", "power": "W", "price": "USD", "hop": "s"},
    "optics": {"bandwidth": "byte/s", "power": "W", "price": "USD"},
    "cooling": {"price": "USD"},
    "device": {"weight": "kg", "per_tray": "int"},
    "frame": {"weight": "kg"},
    "repair": "s",
}

PRICE = {
    "rates": {"*": {"own": "USD/s", "own_neocloud": "USD/s", "rent_3yr": "USD/s", "all_in": "W", "kind": "text"}},
    "rentals": {"*": {"accelerator": "text", "term": "term", "price": "USD/s", "low": "USD/s", "high": "USD/s", "place": "text"}},
    "capex": _between("USD", power="W", memory="USD", infrastructure="USD", cost_to_make="USD"),
    "shares": {"*": {"*": ""}},
    "pue": _between(""),
    "electricity": _between("USD/J"),
    "colocation": _between("USD/s/W"),
    "life": "s",
    "default": {"pue": "", "electricity": "USD/J"},
}

_COUNT_FIELDS = (
    "n_layers d_model vocab n_heads n_kv_heads d_head norms_per_layer q_lora_rank kv_lora_rank d_head_nope d_head_rope d_head_v window_tok "
    "global_every n_full_layers n_window_kv_heads index_heads index_dim index_topk_tok learned_positions n_linear_layers linear_k_heads "
    "linear_v_heads linear_d_k linear_d_v linear_groups linear_d_state linear_conv n_attention_layers d_ff n_dense_layers moe_every "
    "n_ffn_layers n_experts n_active_experts d_expert n_shared_experts d_shared d_expert_latent d_router n_mtp_layers"
).split()
_FLAG_FIELDS = (
    "tied_embeddings norm_bias attention_bias output_bias output_gate qk_norm qk_norm_full attention_sinks ffn_gated ffn_bias shared_gate "
    "expert_bias router_bias"
).split()
MODEL = {
    "release": "text", "licence": "text", "hf_id": "text", "family": "text",
    "architecture": {
        **dict.fromkeys(_COUNT_FIELDS, "int"), **dict.fromkeys(_FLAG_FIELDS, "flag"), "attention": "text", "linear_attention": "text",
    },
    "precision": {"weight_bits": "", "kv_bits": "", "act_bits": ""},
    "context_tok": "tok",
    "published": {"n_params": "", "n_active_params": "", "convention": "text"},
    "training_tok": "tok",
}  # fmt: skip

FIELDS: dict[str, dict[str, Any]] = {
    kind: {**_ALL, **fields}
    for kind, fields in {
        "accelerators": ACCELERATOR, "systems": SYSTEM, "engines": ENGINE, "models": MODEL, "prices": PRICE,
        "workloads": WORKLOAD, "memory": MEMORY, "energy": ENERGY, "racks": RACK,
    }.items()
}  # fmt: skip
_RACK_NEEDS = [f"{block}.{key}" if isinstance(keys, dict) else block for block, keys in RACK.items() for key in keys]
REQUIRED: dict[str, tuple[str, ...]] = {  # of entries that can be evaluated
    # the least that physics cannot do without; a chip file of one's own should stay short
    "accelerators": ("peak", "hbm.capacity", "hbm.bandwidth", "scale_up.bandwidth", "scale_up.size"),
    "systems": ("accelerator",),
    "workloads": ("isl.mean", "osl.mean"),
    "memory": ("bandwidth",),
    "racks": tuple(dict.fromkeys(_RACK_NEEDS)),
    "energy": (
        "chip.idle", "chip.full_load", "chip.sustained", "chip.arithmetic", "node.drawn", "on_chip", "memory.other", "link.scale_up", "link.scale_out",
    ),
}  # fmt: skip
KINDS = tuple(FIELDS)
OVERRIDES = tuple(_CHIP)  # what a system may say differently about its accelerator
