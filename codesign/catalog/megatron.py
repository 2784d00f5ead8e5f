"""A file of Megatron-LM arguments -> a model record of the catalog.

Names, defaults and meanings are those of Megatron-LM core 0.16 (megatron/training/arguments.py, core/transformer/transformer_config.py):
tied embeddings, biases, LayerNorm and learned positions unless an argument says otherwise.  Arguments that do not shape the model
(parallelism, optimizer, data) are passed over; those that give it a part that is not modelled here are refused.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from codesign.catalog.megatron_text import Arguments, Given, read
from codesign.spec import yamlio
from codesign.spec.errors import Diagnostic, SpecError

COUNTS = (
    "num-layers hidden-size ffn-hidden-size num-attention-heads kv-channels num-query-groups vocab-size padded-vocab-size seq-length "
    "max-position-embeddings q-lora-rank kv-lora-rank qk-head-dim qk-pos-emb-head-dim v-head-dim num-experts moe-router-topk "
    "moe-ffn-hidden-size moe-shared-expert-intermediate-size mtp-num-layers global-batch-size train-iters train-samples"
).split()
FLAGS = (
    "swiglu geglu quick-geglu untie-embeddings-and-output-weights disable-bias-linear group-query-attention qk-layernorm add-qkv-bias "
    "multi-latent-attention use-rotary-position-embeddings moe-shared-expert-gate attention-output-gate squared-relu"
).split()
TEXTS = ("normalization", "position-embedding-type", "softmax-type", "window-size", "window-attn-skip-freq", "moe-layer-freq")
READ = (*COUNTS, *FLAGS, *TEXTS)
ALIASES = {"num-moe-experts": "num-experts", "moe-num-experts": "num-experts", "gated-linear-unit": "swiglu"}  # of configs in YAML
# parts of a model that are not in this list of arguments' meanings
FOREIGN = re.compile(r"(hybrid|mamba|is-hybrid|linear-attention|linear-(key|value|conv)|dsa-|experimental-attention|cross-attention|encoder-|"
                     r"retro-|heterogeneous|moe-latent|mhc-|engram|n-hash)")  # fmt: skip
NEAR = {  # other arguments of Megatron-LM that look like those above
    "decoder-num-layers", "moe-router-group-topk", "moe-router-num-groups", "recompute-num-layers", "decoder-seq-length", "eval-iters",
    "micro-batch-size", "moe-expert-capacity-factor", "num-layers-at-start-in-bf16", "num-layers-at-end-in-bf16", "moe-router-dtype",
    "sft-samples", "eval-samples", "make-vocab-size-divisible-by", "extra-vocab-size", "head-dim", "train-samples", "lr-warmup-samples",
}  # fmt: skip
ALIKE = 0.86  # of names: from here a name that Megatron-LM does not have is taken for a misspelt one
# Megatron-LM's defaults of MLA widths (MLATransformerConfig)
LATENT = {"q-lora-rank": 512, "kv-lora-rank": 512, "qk-head-dim": 128, "qk-pos-emb-head-dim": 64, "v-head-dim": 128}


class Reader:
    """A file's arguments, with the problems met while reading them."""

    def __init__(self, given: Arguments, path: Path) -> None:
        self.path, self.problems, self.notes = path, [], []
        self.given: dict[str, Given] = {}
        for name, found in given.items():
            self._take(ALIASES.get(name, name), found)
        if (linear := given.get("add-bias-linear")) and linear[-1].value is False:
            self.given["disable-bias-linear"] = Given(None, linear[-1].line)
        if (act := given.get("activation-func")) and str(act[-1].value).lower() in ("swiglu", "silu", "geglu"):
            self.given.setdefault("swiglu", Given(None, act[-1].line))

    def wrong(self, name: str, message: str, hint: str | None = None) -> None:
        line = self.given[name].line if name in self.given else None
        self.problems.append(Diagnostic(f"--{name}: {message}", str(self.path), line, hint=hint))

    def _take(self, name: str, found: list[Given]) -> None:
        if name in READ:
            values = list(dict.fromkeys(str(one.value) for one in found))
            self.given[name] = found[-1]
            if len(values) > 1:
                lines = ", ".join(f"{one.value} (line {one.line})" for one in found)
                self.wrong(name, f"several values: {lines}", "keep the one that is run")
        elif FOREIGN.search(name) and found[-1].value not in (False, "0", 0):
            message = f"--{name} gives the model a part that is not modelled here"
            self.problems.append(
                Diagnostic(message, str(self.path), found[0].line, hint="write a catalog entry by hand: `docs/how-to.md`, Add a model")
            )
        elif name not in NEAR and (close := difflib.get_close_matches(name, READ, 1, ALIKE)):
            self.problems.append(
                Diagnostic(f"Megatron-LM has no argument --{name}", str(self.path), found[0].line, hint=f"did you mean '--{close[0]}'?")
            )

    def has(self, name: str) -> bool:
        return name in self.given and self.given[name].value is not False

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; without a default an absent argument is a problem."""
        if name not in self.given:
            if default is None:
                self.problems.append(Diagnostic(f"--{name} is missing", str(self.path)))
            return least if default is None else default
        value = self.given[name].value
        number = yamlio.scalar(value) if isinstance(value, str) and len(value) < yamlio.MAX_DIGITS else value
        if isinstance(number, bool) or not isinstance(number, int | float) or number != number or number % 1 or number < least:
            known = isinstance(value, str) and "$" in value
            hint = "write the number: its variable has no value in this file, or several" if known else None
            self.wrong(name, f"'{value}' is not a whole number of at least {least}" if value is not None else "has no value", hint)
            return least
        return int(number)

    def text(self, name: str, default: str = "") -> str:
        return str(self.given[name].value) if name in self.given else default


def read_arguments(path: str | Path) -> dict[str, Any]:
    """The model record of a file of Megatron-LM arguments; a SpecError names every argument that is missing, unknown or contradicts another.

    Keys as `hf.read_config`; training_tok {value, source} where the file says how long it trains.
    """
    path = Path(path)
    found = read(path)
    r = Reader(found, path)
    if not r.given and not r.problems:
        raise SpecError(Diagnostic("holds no Megatron-LM arguments", str(path), hint="such as: --num-layers 32 --hidden-size 4096 ..."))
    architecture = _body(r) | _attention(r) | _ffn(r)
    context = r.count("max-position-embeddings", r.count("seq-length", 4096))
    tok = _training_tok(r)
    if any(name.replace("_", "-").endswith("parallel-size") for name in found):
        r.notes.append("its parallel layout is not used: every layout is tried")
    if r.problems:
        raise SpecError(list(dict.fromkeys(r.problems)))
    record = {
        "name": path.stem.lower(), "aliases": [], "source": f"{path} (Megatron-LM arguments)", "architecture": architecture,
        "precision": {"weight_bits": 16.0, "kv_bits": 16.0, "act_bits": 16.0}, "context_tok": float(context), "published": {},
        "training_tok": {"value": float(tok), "source": str(path)} if tok else None,
    }  # fmt: skip
    return record | ({"note": "; ".join(r.notes)} if r.notes else {})


def _training_tok(r: Reader) -> int:
    """Tokens of the job that the arguments describe; 0 where they do not say."""
    n_samples = r.count("train-samples", 0, 0) or r.count("train-iters", 0, 0) * r.count("global-batch-size", 0, 0)
    return n_samples * r.count("seq-length", 0, 0)


def _body(r: Reader) -> dict[str, Any]:
    a: dict[str, Any] = {"n_layers": r.count("num-layers"), "d_model": r.count("hidden-size")}
    if r.has("vocab-size") or r.has("padded-vocab-size"):
        a["vocab"] = r.count("vocab-size" if r.has("vocab-size") else "padded-vocab-size")
    else:
        hint = "the tokenizer decides it there: add '--vocab-size N', its number of entries"
        r.problems.append(Diagnostic("--vocab-size is missing", str(r.path), hint=hint))
    if not r.has("untie-embeddings-and-output-weights"):
        a["tied_embeddings"] = True
    if r.text("normalization", "LayerNorm") != "RMSNorm":
        a["norm_bias"] = True
    positions = "rope" if r.has("use-rotary-position-embeddings") else r.text("position-embedding-type", "learned_absolute")
    if positions == "learned_absolute":
        a["learned_positions"] = r.count("max-position-embeddings", r.count("seq-length", 0, 0))
    if mtp := r.count("mtp-num-layers", 0, 0):
        a["n_mtp_layers"] = mtp
    return a


def _attention(r: Reader) -> dict[str, Any]:
    n_heads, biased = r.count("num-attention-heads"), not r.has("disable-bias-linear")
    a: dict[str, Any] = {"n_heads": n_heads} | ({"output_bias": True} if biased else {})
    if biased or r.has("add-qkv-bias"):
        a["attention_bias"] = True
    if r.has("attention-output-gate"):
        a["output_gate"] = True
    if r.has("multi-latent-attention"):
        if r.has("group-query-attention"):
            r.wrong("group-query-attention", "contradicts --multi-latent-attention, which has no query groups")
        width = {name: r.count(name, 0 if name == "q-lora-rank" else default, 0) for name, default in LATENT.items()}
        keys = ("q_lora_rank", "kv_lora_rank", "d_head_nope", "d_head_rope", "d_head_v")
        return a | {"attention": "mla"} | dict(zip(keys, width.values(), strict=True))
    a["d_head"] = _head_width(r, n_heads)
    groups = n_heads
    if r.has("group-query-attention"):
        groups = r.count("num-query-groups", 1)
        if n_heads % groups:
            r.wrong("num-query-groups", f"{groups} does not divide the {n_heads} heads")
    elif r.has("num-query-groups") and r.count("num-query-groups") not in (1, n_heads):
        r.wrong("num-query-groups", "has no effect without --group-query-attention", "add --group-query-attention, or take it out")
    a["attention"] = "mha" if groups == n_heads else "mqa" if groups == 1 else "gqa"
    a |= {"n_kv_heads": groups} if a["attention"] == "gqa" else {}
    a |= {"qk_norm": True} if r.has("qk-layernorm") else {}
    a |= {"attention_sinks": True} if r.text("softmax-type", "vanilla") == "learnable" else {}
    return a | _window(r)


def _head_width(r: Reader, n_heads: int) -> int:
    if r.has("kv-channels"):
        return r.count("kv-channels")
    width = r.count("hidden-size") if r.has("hidden-size") else n_heads
    if width % n_heads:
        r.wrong("num-attention-heads", f"{n_heads} heads do not divide --hidden-size {width}", "say their width with --kv-channels")
    return max(width // n_heads, 1)


def _window(r: Reader) -> dict[str, Any]:
    """`--window-size LEFT,RIGHT`: a token sees itself and LEFT before it; in the pattern 1 is a windowed layer, 0 a full one."""
    if not r.has("window-size"):
        return {}
    sizes = re.findall(r"-?\d+", r.text("window-size"))
    if not sizes or int(sizes[0]) < 0:
        r.wrong("window-size", f"'{r.text('window-size')}' is no window", "write LEFT,RIGHT, such as 127,0")
        return {}
    window = {"window_tok": int(sizes[0]) + 1}
    n_layers, pattern = r.count("num-layers"), r.text("window-attn-skip-freq")
    if not pattern:
        return window
    if pattern.isdigit() and int(pattern) > 0:
        return window | {"global_every": int(pattern)}
    flags = _layers(r, "window-attn-skip-freq", pattern, n_layers)
    full = n_layers - sum(flags)
    return window | ({"n_full_layers": full} if full else {})


def _ffn(r: Reader) -> dict[str, Any]:
    gated, biased, d_model = (
        any(map(r.has, ("swiglu", "geglu", "quick-geglu"))),
        not r.has("disable-bias-linear"),
        r.count("hidden-size", 1),
    )
    if gated and r.has("squared-relu"):
        r.wrong("squared-relu", "contradicts a gated activation (--swiglu)")
    default = int(4 * d_model * 2 / 3) // 64 * 64 if gated else 4 * d_model
    d_ff = r.count("ffn-hidden-size", default)
    a: dict[str, Any] = ({} if gated else {"ffn_gated": False}) | ({"ffn_bias": True} if biased else {})
    if not r.has("num-experts"):
        for name in ("moe-router-topk", "moe-ffn-hidden-size", "moe-layer-freq", "moe-shared-expert-intermediate-size"):
            if r.has(name):
                r.wrong(name, "has no meaning without --num-experts", "add --num-experts, or take it out")
        return a | {"d_ff": d_ff}
    return a | _experts(r, d_ff, biased)


def _experts(r: Reader, d_ff: int, biased: bool) -> dict[str, Any]:
    a: dict[str, Any] = {"n_experts": r.count("num-experts"), "n_active_experts": r.count("moe-router-topk", 2),
                         "d_expert": r.count("moe-ffn-hidden-size", d_ff)}  # fmt: skip
    if a["n_active_experts"] > a["n_experts"]:
        r.wrong("moe-router-topk", f"{a['n_active_experts']} is more than the {a['n_experts']} experts")
    a |= {"expert_bias": True} if biased else {}
    if shared := r.count("moe-shared-expert-intermediate-size", 0, 0):
        n = (
            shared // a["d_expert"] if shared % a["d_expert"] == 0 else 1
        )  # several of an expert's width are one that is as wide as they are
        a |= {"n_shared_experts": n} | ({} if n * a["d_expert"] == shared else {"d_shared": shared})
        a |= {"shared_gate": True} if r.has("moe-shared-expert-gate") else {}
    return a | _moe_layers(r, d_ff)


def _moe_layers(r: Reader, d_ff: int) -> dict[str, Any]:
    """Dense layers first, or experts in every n-th layer; `--moe-layer-freq N` puts them into layers 0, N, 2N, ..."""
    n_layers, pattern = r.count("num-layers"), r.text("moe-layer-freq", "1")
    flags = [i % int(pattern) == 0 for i in range(n_layers)] if pattern.isdigit() and int(pattern) else None
    flags = _layers(r, "moe-layer-freq", pattern, n_layers) if flags is None else flags
    n_moe, first = sum(flags), flags.index(True) if True in flags else n_layers
    if n_moe == n_layers:
        return {}
    if n_moe == n_layers - first:
        return {"d_ff": d_ff, "n_dense_layers": first}
    if n_moe and n_layers // (n_layers // n_moe) == n_moe:
        return {"d_ff": d_ff, "moe_every": n_layers // n_moe}
    r.wrong("moe-layer-freq", f"'{pattern}' is neither leading dense layers nor experts in every n-th of the {n_layers} layers")
    return {}


def _layers(r: Reader, name: str, pattern: str, n_layers: int) -> list[bool]:
    """Megatron-LM's list expression, `[0]*3+[1]*58` or `([1]*3+[0])*4`, for every layer."""
    flags = flags_of(pattern)
    if flags is None:
        r.wrong(name, f"'{pattern}' is no pattern of layers", "write it as '[0]*3+[1]*58'")
    elif len(flags) != n_layers:
        r.wrong(name, f"'{pattern}' is for {len(flags)} layers, and --num-layers is {n_layers}")
    return flags if flags is not None and len(flags) == n_layers else [True] * n_layers


def flags_of(pattern: str) -> list[bool] | None:
    """A list expression as flags; None where it is not one.

    >>> flags_of("[0]*2+[1]*3"), flags_of("([1,0])*2"), flags_of("__import__('os')")
    ([False, False, True, True, True], [True, False, True, False], None)
    """
    text = pattern.replace(" ", "")
    whole = re.fullmatch(r"\((.*)\)(?:\*(\d{1,4}))?", text)
    if whole and "(" not in whole[1]:
        inner = flags_of(whole[1])
        return inner * int(whole[2] or 1) if inner is not None else None
    out: list[bool] = []
    for part in text.split("+"):
        match = re.fullmatch(r"\[([01](?:,[01])*)\](?:\*(\d{1,4}))?", part)
        if match is None:
            return None
        out += [flag == "1" for flag in match[1].split(",")] * int(match[2] or 1)
    return out
