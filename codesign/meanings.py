"""What every name means that a study, a screen or a result shows, and where `codesign explain` finds it.

Columns and reasons stand in `objectives` and `constraints`, keys of a study in the schema; here are the variables of a space, the
columns of layouts, and which variables a design of a given kind does not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codesign import catalog
from codesign.constraints import REASONS
from codesign.objectives import ALIASES, COLUMNS, canonical
from codesign.spec.errors import UserError, did_you_mean
from codesign.spec.units import show

UNITS = {
    "train": "pretraining", "rl": "reinforcement learning", "serve": "colocated serving", "prefill": "the prefill pool",
    "decode": "the decode pool",
}  # fmt: skip

# Columns `<unit>.<name>` of a layout: unit of measurement, meaning.
LAYOUT = {
    "n_tp": ("", "tensor-parallel degree of attention and dense FFN"), "n_cp": ("", "context-parallel degree"),
    "n_dp": ("", "data-parallel degree: gradient ranks in training, attention ranks of one replica in serving"),
    "n_pp": ("", "pipeline stages"), "n_etp": ("", "tensor-parallel degree inside an expert"), "n_ep": ("", "expert-parallel degree"),
    "n_edp": ("", "copies of the expert set: n_tp n_cp n_dp = n_etp n_ep n_edp"),
    "batch": ("seq", "sequences in flight in one replica"), "n_replicas": ("", "replicas of the fleet"),
    "n_devices": ("device", "devices: of the job in training, of the whole fleet in serving"),
    "micro_batch": ("seq", "sequences per micro-batch"), "recompute": ("", "activation recomputation: 0 none, 1 selective, 2 full, 3 reversible blocks"),
    "offload": ("", "training state in the host's memory: 0 none, 1 optimizer, 2 activations, 3 both"),
    "n_sites": ("", "sites of the training job"), "sync_every": ("", "optimizer steps between exchanges of the sites"),
    "zero": ("", "ZeRO stage: 0 nothing, 1 optimizer, 2 and gradients, 3 and weights sharded over data-parallel ranks"),
    "overlap": ("", "two batches: 1 where halves of the batch take turns, one computing while the other's messages travel"),
    "n_ffn": ("device", "devices of one stage that hold its FFNs and nothing else; 0: one group holds both"),
    "n_micro": ("", "micro-batches that go to and fro between attention and FFN devices"),
    "n_ffn_x": ("", "cuts of a dense FFN's weights along d_model, out of n_tp (2-D where above 1; Pope et al. 2022, arXiv 2211.05102)"),
    "n_gather": ("", "devices over which prompts gather the weights of a dense FFN; 1: weights stay where they are (arXiv 2211.05102)"),
    "memory_bytes": ("byte", "memory of the fullest device"), "step_s": ("s", "time of one step"),
    "tok_per_s": ("tok/s", "output tokens per second of one replica"), "mfu_frac": ("", "model FLOP over peak FLOP, recomputation not counted"),
    "scale_up_size": ("device", "devices of one scale-up domain; a variable of a space"),
    "layout": ("", "layout of this unit, a variable of the flat search (method joint)"),
}  # fmt: skip

ARCHITECTURE = {
    "n_layers": "decoder layers", "d_model": "width of the residual stream", "vocab": "entries of the vocabulary",
    "tied_embeddings": "1: input and output embedding share one table", "learned_positions": "learned position embeddings; 0 = none",
    "norms_per_layer": "norms per layer, 2 or 4", "norm_bias": "1: norms have a bias", "attention": "kind of attention (`codesign list attention`)",
    "n_attention_layers": "layers with attention; default: those that are not linear", "n_heads": "query heads",
    "n_kv_heads": "heads of keys and values (gqa)", "d_head": "width of one head", "d_head_v": "width of one value head",
    "attention_bias": "1: projections of queries, keys and values have a bias", "output_bias": "1: output projection has a bias",
    "output_gate": "1: attention output is gated, which doubles the query projection", "qk_norm": "1: queries and keys are normalised per head",
    "qk_norm_full": "1: queries and keys are normalised over all heads", "attention_sinks": "1: one learned sink per head",
    "q_lora_rank": "rank of the query projection (mla); 0 = full", "kv_lora_rank": "width of the latent cache (mla)",
    "d_head_nope": "part of a head without position (mla)", "d_head_rope": "part of a head with rotary position (mla)",
    "window_tok": "tokens that windowed layers see; 0 = no window", "global_every": "every how many attention layers one is full; 0 = none",
    "n_full_layers": "layers with full attention; overrides global_every", "n_window_kv_heads": "KV heads of windowed layers; 0 = n_kv_heads",
    "index_heads": "heads of the sparse-attention indexer", "index_dim": "width of an indexer head", "index_topk_tok": "keys that the indexer keeps; 0 = all",
    "linear_attention": "kind of the linear or state-space layers; none", "n_linear_layers": "linear or state-space layers",
    "linear_k_heads": "key heads of a linear layer", "linear_v_heads": "value heads of a linear layer", "linear_d_k": "key width of a linear head",
    "linear_d_v": "value width of a linear head", "linear_groups": "groups of a Mamba-2 layer", "linear_d_state": "state width of a Mamba-2 layer",
    "linear_conv": "taps of the short convolution", "d_ff": "width of the dense FFN", "ffn_gated": "1: gated FFN, three matrices",
    "ffn_bias": "1: FFN has biases", "n_ffn_layers": "layers with an FFN; default n_layers", "n_dense_layers": "leading layers with a dense FFN",
    "moe_every": "every how many layers one has experts", "n_experts": "routed experts per layer; 0 = dense", "n_active_experts": "routed experts per token",
    "d_expert": "width of one expert", "n_shared_experts": "experts that every token visits", "d_shared": "width of a shared expert; default d_expert",
    "shared_gate": "1: the shared expert is gated", "d_expert_latent": "width to which tokens are projected before experts; 0 = none",
    "expert_bias": "1: experts have biases", "router_bias": "1: the router has a bias", "d_router": "width of the router's input; 0 = d_model",
    "n_mtp_layers": "multi-token-prediction layers",
}  # fmt: skip

SERVING = {"serving.kv_tier": ("", "where prefixes wait for their next use: none (computed again), hbm, or a memory tier of the catalog")}
PRECISION = {
    "precision.weight_bits": ("bit", "bits of the served weights: 4, 8 or 16"),
    "precision.kv_bits": ("bit", "bits of the KV cache: 8 or 16 (4 where a design may)"),
    "precision.act_bits": ("bit", "bits of activations in serving: where weights are as narrow, the compute type"),
    "precision.train_bits": ("bit", "bits of training GEMMs: 16, 8 or 4"),
}  # fmt: skip

# Other columns of results.parquet and front.csv.
OTHER = {
    "id": ("", "number of an archived point, stable over resume"), "design_id": ("", "position in the enumeration, or number of the trial"),
    "point": ("", "number of the point among those of its design"), "on_front": ("", "whether no other archived point is better in every objective"),
    "feasible": ("", "whether every limit is met"), "killed_by": ("", "the first limit that the design breaks (`codesign list constraints`)"),
    "quality_refused": ("", "1: outside the range in which the quality law may rank designs"),
    "global_batch_tok": ("tok", "tokens per optimizer step"),
    "rows_covered": ("", "layout rows of designs that were evaluated, or excluded by a bound; all rows of the space where the front is exact"),
    "rows_pruned_by_bound": ("", "of them, rows of designs that were not evaluated: a point of the front beats what no layout of theirs can beat"),
    "missing_bound": ("", "what a search that did not cover the space may have missed. `volume_share`: the share of the true front's hypervolume that "
                      "designs neither evaluated nor excluded could add if each were as good as its bound; `kind`: bound (all were looked at), "
                      "estimate (a random sample was: no bound), exact (nothing is left), none (an objective has no bound)"),
}  # fmt: skip


def explain(name: str) -> dict[str, Any]:
    """What a name means: a column, a reason for which designs die, a variable, a layout column, or a key of a study."""
    keys = study_keys()
    column = COLUMNS.get(canonical(name))
    if column is not None:
        aliases = [a for a, c in ALIASES.items() if c == canonical(name)]
        return {"name": canonical(name), "aliases": ", ".join(aliases), "unit": column.unit or "1", "better": column.better,
                "meaning": column.meaning, "formula": column.formula, "source": column.source}  # fmt: skip
    if name in REASONS:
        return {"name": name, "meaning": REASONS[name], "see": ", ".join(_endings(name, keys))}
    known = _units_and_meanings() | keys
    ends = [name] if name in known else _endings(name, known)
    if len(ends) == 1:
        return {"name": ends[0], **known[ends[0]]}
    if name in LAYOUT:
        unit, text = LAYOUT[name]
        return {"name": name, "unit": unit or "1", "meaning": text, "see": ", ".join(f"{unit}.{name}" for unit in UNITS)}
    if ends:
        return {"name": name, "meaning": f"could be any of: {', '.join(ends)}"}
    found = _entry(name) or _layout(name)
    if found:
        return found
    entries = [entry for kind in CATALOG for entry in catalog.names(kind)]
    near = [*COLUMNS, *ALIASES, *REASONS, *LAYOUT, *known, *(n.rpartition(".")[2] for n in known), *entries]
    raise UserError(f"nothing is called '{name}'", hint=did_you_mean(name, dict.fromkeys(near), "names"))


def explain_all(names: Sequence[str]) -> list[dict[str, Any]]:
    """One answer per name; several words that are one name (`serve memory`) are one.  All unknown names at once."""
    together = " ".join(names)
    if together in REASONS or " with " in together:
        return [explain(together)]
    out, unknown = [], []
    for name in names:
        try:
            out.append(explain(name))
        except UserError as error:
            unknown += error.diagnostics
    if unknown:
        raise UserError(unknown)
    return out


CATALOG = {  # kinds in the order in which a name is looked up, and which of an entry's figures tell what it is
    "accelerators": ("peak.", "hbm.", "scale_up.", "scale_out.", "power.", "price."), "systems": ("peak.", "hbm.", "scale_up.", "scale_out.", "power.", "price."),
    "models": ("published.", "architecture.n_", "architecture.d_", "context_tok", "training_tok"), "workloads": ("",), "memory": ("",),
    "engines": ("scheduler.", "memory."),
}  # fmt: skip


def _entry(name: str) -> dict[str, Any] | None:
    """A catalog entry: what it is, and its key figures with where they come from."""
    for kind, wanted in CATALOG.items():
        if catalog.known(kind, name):
            entry = catalog.find(kind, name)
            record = catalog.hardware(name) if kind in ("accelerators", "systems") else catalog.load(kind, name)
            figures = [
                {"figure": key, "value": show(float(value), unit), "confidence": confidence, "date": date, "source": source}
                for key, value, unit, source, date, confidence in catalog.sources(record) if key.startswith(wanted)
            ]  # fmt: skip
            said = " ".join(str(record.get("note") or record.get("holds") or record.get("question") or "").split())
            return {"name": entry.name, "aliases": ", ".join(entry.aliases), "kind": f"entry of the catalog: {kind}",
                    "meaning": str(record.get("title") or ""), "note": said, "file": f"codesign/catalog/{kind}/{entry.path.name}",
                    "figures": figures}  # fmt: skip
    return None


def _layout(name: str) -> dict[str, Any] | None:
    """A layout string such as tp1dp8ep8, in words; degrees that it leaves out are 1."""
    match = re.fullmatch(r"tp(\d+)(?:cp(\d+))?(?:pp(\d+))?(?:dp(\d+))?(?:etp(\d+))?(?:ep(\d+))?", name)
    if not match:
        return None
    tp, cp, pp, dp, etp, ep = (int(n or 1) for n in match.groups())
    said = [f"{n} {what}" for n, what in ((tp, "devices share every matrix (tp)"), (cp, "share a sequence (cp)"), (pp, "pipeline stages (pp)"),
                                          (dp, "attention ranks, each with its own sequences (dp)"), (etp, "share one expert (etp)"),
                                          (ep, "groups of experts (ep)")) if n > 1]  # fmt: skip
    copies = tp * cp * dp / (etp * ep)
    experts = f"of a mixture of experts there are n_edp = tp cp dp / (etp ep) = {copies:g} copies" if etp * ep > 1 else ""
    return {"name": name, "kind": "layout of one replica", "meaning": "; ".join(said) or "everything on one device",
            "devices": f"{tp * cp * dp * pp} = tp x cp x dp x pp", "experts": experts,
            "see": "codesign explain n_tp, n_ep; order tp-cp-pp-dp-etp-ep, ones are left out"}  # fmt: skip


def _endings(name: str, known) -> list[str]:
    return [full for full in known if full.endswith(f".{name}")]


def _units_and_meanings() -> dict[str, dict[str, str]]:
    layouts = {f"{unit}.{name}": (measure, f"{text}; of {of}") for unit, of in UNITS.items() for name, (measure, text) in LAYOUT.items()}
    return {name: {"unit": unit or "1", "meaning": text} for name, (unit, text) in {**_variables(), **OTHER, **layouts}.items()}


def _variables() -> dict[str, tuple[str, str]]:
    from codesign.physics.architecture import DEFAULTS

    dims = {f"architecture.{key}": ("", ARCHITECTURE.get(key, "dimension of the model")) for key in DEFAULTS}
    return dims | {f"hardware.{unit}": ("", f"accelerator or system of {text}") for unit, text in UNITS.items()} | PRECISION | SERVING


def study_keys() -> dict[str, dict[str, str]]:
    """Every key of a study, dotted, with its unit where it has one and its description."""
    from codesign.spec import json_schema

    schema = json_schema()
    found: dict[str, dict[str, str]] = {}

    def walk(node: dict[str, Any], prefix: str, depth: int = 0) -> None:
        for key, part in node.get("properties", {}).items():
            name = f"{prefix}.{key}" if prefix else key
            options = [part, *part.get("anyOf", []), *part.get("allOf", [])]
            unit = next((o["unit"] for o in options if o.get("unit")), "")
            found[name] = {"unit": unit, "meaning": part.get("description", "")}
            for option in options:
                reference = option.get("$ref", "").rsplit("/", 1)[-1]
                if reference and depth < 4:
                    target = schema["$defs"][reference]
                    found[name]["meaning"] = found[name]["meaning"] or target.get("description", "")
                    for inner in [target, *target.get("anyOf", [])]:
                        walk(inner, name, depth + 1)

    walk(schema, "")
    return found


# Variables that only some designs read: names, the key that decides, and for which of its values.
READ_BY = (
    (("n_kv_heads", "n_window_kv_heads"), "attention", lambda kind: ~np.isin(kind, ("mha", "mqa", "mla"))),
    (("d_head",), "attention", lambda kind: ~np.isin(kind, ("mla",))),
    (("q_lora_rank", "kv_lora_rank", "d_head_nope", "d_head_rope"), "attention", lambda kind: np.isin(kind, ("mla",))),
    (("n_active_experts", "d_expert", "n_shared_experts", "d_shared", "d_expert_latent"), "n_experts", lambda n: n.astype(float) > 0),
    (
        ("linear_attention", "linear_k_heads", "linear_v_heads", "linear_d_k", "linear_d_v"),
        "n_linear_layers",
        lambda n: n.astype(float) > 0,
    ),
)


def is_read(name: str, value: Callable[[str], Any]) -> np.ndarray:
    """Whether designs of these kinds read the variable `name`, as an array of truth values (0-d: all alike).

    value: dotted variable -> its value or values, None where unknown (then the variable counts as read).

    >>> is_read("architecture.n_kv_heads", {"architecture.attention": ["gqa", "mla"]}.get).tolist()
    [True, False]
    """
    section, _, leaf = name.partition(".")
    for names, key, test in READ_BY if section == "architecture" else ():
        known = value(f"architecture.{key}") if leaf in names else None
        if known is not None:
            return test(np.asarray(known))
    return np.asarray(True)
