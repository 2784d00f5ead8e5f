"""Arguments of Megatron-LM's pretrain_gpt.py as a launch script: architecture, layout, batch, precision, schedule."""

from __future__ import annotations

from typing import Any

from codesign.export import _checks, _servers, _training, hf
from codesign.export._refusal import ELSEWHERE, refuse
from codesign.export._shell import Options, Variable, nodes_of, script
from codesign.export._subject import Subject, subject
from codesign.results import Run
from codesign.study import Study

VERSION = "Megatron-LM core 0.16 (megatron/training/arguments.py)"
HAS = {  # names of hf.FEATURES that its GPT model has beside plain grouped-query attention and gated FFNs
    "mla", "full query", "window", "mixed window", "uneven heads", "qk norm", "qkv bias", "sinks", "norm bias", "plain ffn",
    "moe", "dense first", "moe every", "dense first, moe every", "shared", "shared width", "mtp",
}  # fmt: skip
FP8 = [("--fp8-format", "hybrid"), ("--fp8-recipe", "tensorwise")]
SHARDING = {0: [], 1: [("--use-distributed-optimizer",)]} | {
    stage: [("--use-megatron-fsdp",), ("--data-parallel-sharding-strategy", strategy), ("--ckpt-format", "fsdp_dtensor")]
    for stage, strategy in ((2, "optim_grads"), (3, "optim_grads_params"))
}
AUX_LOSS = 1e-2  # the start that Megatron-LM's own help recommends for its load-balancing loss
SIGMOID = {"deepseek_v3", "deepseek_v32", "glm4_moe"}  # families whose router adds a correction bias to sigmoid scores
SEQUENCE_LOSS = 1e-4  # DeepSeek-V3's complement to the bias, arXiv 2412.19437 section 4.2


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`megatron.sh`, or a UserError that names what Megatron-LM has not."""
    s = subject(study, run, point_id)
    _checks.same_constants(s)
    job = _training.layout(s)
    refuse("Megatron-LM", [*((hf.FEATURES[name][0], ELSEWHERE) for name in sorted(hf.features(s.shape) - HAS)), *_unlaid(s, job),
                           *_training.unexpressed(s)])  # fmt: skip
    n_nodes, each = nodes_of(job["n_devices"], job["n_devices_per_node"])
    groups = {
        "architecture": _shape(s, job["n_tp"]), "attention": _attention(s.shape), "experts": _experts(s.shape, _dispatcher(s, job)),
        "layout": [*_layout(s.shape, job), *_overlap(s, job)], "batch": _batch(job, hf.context_of(s)), "precision and memory": _memory(s, job),
        "schedule": _schedule(s),
        "checkpoints": [
            ("--save", Variable("CHECKPOINTS")), ("--load", Variable("CHECKPOINTS")),
            ("--save-interval", _training.reliability(s)["checkpoint_interval_steps"]),
            *([("--async-save",)] if job["zero_stage"] < 2 else []),  # it writes torch_dist alone, FSDP needs another format
        ],
        "data": [("--data-path", Variable("DATA")), ("--split", "999,1,0"), ("--tokenizer-type", "HuggingFaceTokenizer"),
                 ("--tokenizer-model", Variable("TOKENIZER"))],
    }  # fmt: skip
    variables = {"MEGATRON": "./Megatron-LM", "DATA": "./data/text_document", "TOKENIZER": "./tokenizer",
                 "CHECKPOINTS": "./checkpoints", "NODE_RANK": "0", "HEAD": "localhost"}  # fmt: skip
    command = ["env", f"CUDA_DEVICE_MAX_CONNECTIONS={1 if job['zero_stage'] < 2 else 32}", "torchrun", "--nnodes", n_nodes, "--nproc-per-node", each,
               "--node-rank", Variable("NODE_RANK"), "--master-addr", Variable("HEAD"), Variable("MEGATRON/pretrain_gpt.py")]  # fmt: skip
    return {"megatron.sh": script(_notes(s, job, n_nodes), variables, groups, command)}


def _notes(s: Subject, job: dict[str, Any], n_nodes: int) -> list[str]:
    used = _training.memory(s, "train")
    return [
        f"{_servers.served_name(s)}: pretraining.  Options as {VERSION} has them.",
        f"n_devices={job['n_devices']} n_nodes={n_nodes} n_micro_batches_per_step={job['n_micro_batches_per_step']} n_dp={job['n_dp']} n_edp={job['n_edp']}",
        f"Memory of the fullest device: {used['total_bytes'] / 1e9:.1f} GB expected, {used['usable_bytes'] / 1e9:.1f} GB usable.",
        f"The batch is constant, as the budget assumes; training-plan.yaml has the ramp.  The tokenizer must have {s.shape['vocab']} entries.",
        _assumed(s, job),
        f"Learning rate: {_training.learning_rate(s)['source']}",
        *([f"Start it on each of {n_nodes} nodes with NODE_RANK=0..{n_nodes - 1} and HEAD=<host of node 0>."] if n_nodes > 1 else []),
    ]


def _unlaid(s: Subject, job: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if job["zero_stage"] >= 2 and job["n_pp"] > 1:
        found.append((f"ZeRO stage {job['zero_stage']} with pipeline stages (train: zero, n_pp)", "search with zero: [1] or n_pp: [1]"))
    if s.shape["vocab"] % job["n_tp"]:
        found.append(("a vocabulary that its tensor parallelism does not divide (vocab, train: n_tp)", "search with another vocab or n_tp"))
    if s.train_bits not in (8, 16):
        found.append((f"{s.train_bits:g}-bit training (precision.train_bits)", "search with 8 or 16"))
    return found


def _shape(s: Subject, n_tp: int) -> Options:
    """The vocabulary is not padded: what it must divide by follows from it."""
    a = s.shape
    per_rank = next(n for n in (128, 64, 32, 16, 8, 4, 2, 1) if a["vocab"] % (n * n_tp) == 0)
    return [
        ("--num-layers", a["n_layers"]), ("--hidden-size", a["d_model"]), ("--ffn-hidden-size", a["d_ff"] or a["d_expert"]),
        ("--vocab-size", a["vocab"]), ("--make-vocab-size-divisible-by", per_rank),
        *([("--swiglu",)] if a["ffn_gated"] else []), ("--disable-bias-linear",),
        ("--normalization", "LayerNorm" if a["norm_bias"] else "RMSNorm"),
        *([] if a["tied_embeddings"] else [("--untie-embeddings-and-output-weights",)]),
        ("--position-embedding-type", "rope"), ("--rotary-base", int(hf.rotary_base(hf.context_of(s)))), ("--attention-dropout", 0), ("--hidden-dropout", 0),
        *([("--mtp-num-layers", a["n_mtp_layers"])] if a["n_mtp_layers"] else []),
    ]  # fmt: skip


def _attention(a: dict[str, Any]) -> Options:
    """MLA keeps its norms of the latents behind the same switch as norms of queries and keys."""
    if a["attention"] == "mla":
        return [
            ("--multi-latent-attention",), ("--num-attention-heads", a["n_heads"]), ("--kv-channels", a["d_head_v"]), ("--qk-layernorm",),
            ("--rope-type", "rope"),
            *([("--q-lora-rank", a["q_lora_rank"])] if a["q_lora_rank"] else []), ("--kv-lora-rank", a["kv_lora_rank"]),
            ("--qk-head-dim", a["d_head_nope"]), ("--qk-pos-emb-head-dim", a["d_head_rope"]), ("--v-head-dim", a["d_head_v"]),
        ]  # fmt: skip
    options: list[tuple[Any, ...]] = [("--num-attention-heads", a["n_heads"]), ("--kv-channels", a["d_head"])]
    if a["n_kv_heads"] != a["n_heads"]:
        options += [("--group-query-attention",), ("--num-query-groups", a["n_kv_heads"])]
    options += [("--qk-layernorm",)] if a["qk_norm"] else []
    options += [("--add-qkv-bias",)] if a["attention_bias"] else []
    options += [("--softmax-type", "learnable")] if a["attention_sinks"] else []
    if a["n_window_layers"]:  # a token sees itself and the window - 1 before it
        options += [("--window-size", f"{a['window_tok'] - 1},0")]
        windowed = [kind == "sliding_attention" for kind in hf.layer_kinds(a)]
        options += [("--window-attn-skip-freq", pattern(windowed))] if a["n_full_layers"] else []
    return options


def _experts(a: dict[str, Any], dispatcher: Options = ()) -> Options:
    if not a["n_experts"]:
        return []
    shared = a["n_shared_experts"] * a["d_shared"]
    return [
        ("--num-experts", a["n_experts"]), ("--moe-router-topk", a["n_active_experts"]), ("--moe-ffn-hidden-size", a["d_expert"]),
        *([("--moe-shared-expert-intermediate-size", shared)] if shared else []),
        *([("--moe-layer-freq", pattern(_moe_layers(a)))] if not all(_moe_layers(a)) else []),
        ("--moe-grouped-gemm",), *dispatcher, ("--moe-router-dtype", "fp32"), *_router(a),
    ]  # fmt: skip


def _dispatcher(s: Subject, job: dict[str, Any]) -> Options:
    """DeepEP where the step sends a token once to each domain; it needs NVIDIA devices and more than one rank to send to."""
    if _sends_once(s) and job["n_ep"] * job["n_etp"] > 1:
        return [("--moe-token-dispatcher-type", "flex"), ("--moe-enable-deepep",)]
    return [("--moe-token-dispatcher-type", "alltoall")]


def _sends_once(s: Subject) -> bool:
    vendor = str(s.hardware("train").get("vendor") or "NVIDIA").upper()
    return float(s.train_scene.chip.training.ep_once) > 0 and vendor == "NVIDIA"


def _router(a: dict[str, Any]) -> Options:
    """Scores as the family of `config.json` has them; Megatron-LM takes the bias with sigmoid scores only."""
    if not hf.families(a) & SIGMOID:
        return [("--moe-aux-loss-coeff", AUX_LOSS)]
    return [
        ("--moe-router-score-function", "sigmoid"), ("--moe-router-enable-expert-bias",),
        ("--moe-router-load-balancing-type", "seq_aux_loss"), ("--moe-aux-loss-coeff", SEQUENCE_LOSS),
    ]  # fmt: skip


def _moe_layers(a: dict[str, Any]) -> list[bool]:
    """Dense layers first, then experts in every n-th."""
    first, every = a["n_dense_layers"], a["moe_every"]
    return [i >= first and (i - first + 1) % every == 0 for i in range(a["n_layers"])]


def pattern(flags: list[bool]) -> str:
    """Layers as Megatron-LM's list expression.

    >>> pattern([False] * 3 + [True] * 2)
    '[0]*3+[1]*2'
    """
    runs: list[list[int]] = []
    for flag in map(int, flags):
        if runs and runs[-1][0] == flag:
            runs[-1][1] += 1
        else:
            runs.append([flag, 1])
    return "+".join(f"[{flag}]*{n}" for flag, n in runs)


def _layout(a: dict[str, Any], job: dict[str, Any]) -> Options:
    n_chunks = job["n_pp"] * job["n_interleave"]
    options: list[tuple[Any, ...]] = [
        ("--tensor-model-parallel-size", job["n_tp"]), ("--pipeline-model-parallel-size", job["n_pp"]), ("--context-parallel-size", job["n_cp"]),
    ]  # fmt: skip
    options += [("--sequence-parallel",)] if job["n_tp"] > 1 else []
    if a["n_experts"]:
        options += [("--expert-model-parallel-size", job["n_ep"]), ("--expert-tensor-parallel-size", job["n_etp"])]
    if a["n_layers"] % n_chunks:
        options += [("--pipeline-model-parallel-layout", stages(a["n_layers"], n_chunks, a["n_mtp_layers"]))]
    elif job["n_interleave"] > 1:
        options += [("--num-virtual-stages-per-pipeline-rank", job["n_interleave"])]
    return options


def _overlap(s: Subject, job: dict[str, Any]) -> Options:
    """What the step hides behind computation; parameters are gathered where the optimizer is sharded."""
    chip, options = s.train_scene.chip, []
    if float(chip.dp_overlap) > 0 and job["n_dp"] * job["n_cp"] > 1:
        options += [("--overlap-grad-reduce",), *([("--overlap-param-gather",)] if job["zero_stage"] else [])]
    if float(chip.training.tp_overlap) > 0 and job["n_tp"] > 1:
        options += [("--tp-comm-overlap",)]
    return options


def _assumed(s: Subject, job: dict[str, Any]) -> str:
    """What the predicted step rests on beside layout and batch, in a line: an option below, or a thing to set up."""
    chip = s.train_scene.chip
    fit, hidden = chip.training, float(chip.dp_overlap)
    found = [
        f"{hidden:.0%} of the gradient exchange can hide behind computation (--overlap-grad-reduce)"
        if hidden
        else "no hidden gradient exchange"
    ]
    if job["n_tp"] > 1:
        found.append(f"{float(fit.tp_overlap):.0%} of tensor-parallel transfers hide (--tp-comm-overlap)")
    if s.shape["n_experts"] and job["n_ep"] * job["n_etp"] > 1:
        once = float(fit.ep_once) > 0
        found.append(
            "a token is sent once to each scale-up domain (DeepEP)" if once else "a token is sent to every expert's rank (all-to-all)"
        )
        if once and not _sends_once(s):
            found[-1] += ", which alltoall below does not do: install a dispatcher for these devices that does"
        share = float(fit.ep_overlap) * float(fit.ep_hidden)
        found.append(f"{share:.0%} of dispatch and combine hide (--overlap-moe-expert-parallel-comm, to be added and tested)" if share
                     else "dispatch and combine are exposed")  # fmt: skip
    graphed = float(fit.graphed)
    found.append(f"CUDA graphs replay {graphed:.0%} of the launches (--cuda-graph-impl and --cuda-graph-scope, to be added and tested)" if graphed
                 else "no CUDA graphs")  # fmt: skip
    return f"The predicted step assumes: {'; '.join(found)}; recomputation {job['recompute']}."


def stages(n_layers: int, n_chunks: int, n_mtp: int = 0) -> str:
    """Layers over stages as evenly as they go, the longer ones first.

    >>> stages(7, 3, 1)
    'Et*3|t*2|t*2m*1L'
    """
    parts = [f"t*{n}" for n in _training.stage_layers(n_layers, n_chunks)]
    return "E" + "|".join(parts) + (f"m*{n_mtp}" if n_mtp else "") + "L"


def _batch(job: dict[str, Any], context_tok: int) -> Options:
    return [
        ("--micro-batch-size", job["micro_batch_seq"]), ("--global-batch-size", job["global_batch_seq"]),
        ("--seq-length", job["seq_tok"]), ("--max-position-embeddings", context_tok),
    ]  # fmt: skip


def _memory(s: Subject, job: dict[str, Any]) -> Options:
    """Selective recomputation redoes norms and the product inside experts, which is what the design counts."""
    again = {
        "none": [],
        "selective": [("--recompute-granularity", "selective"), ("--recompute-modules", "layernorm", *(["moe_act"] if s.shape["n_experts"] else []))],
        "full": [("--recompute-granularity", "full"), ("--recompute-method", "uniform"), ("--recompute-num-layers", 1)],
    }  # fmt: skip
    return [("--bf16",), *(FP8 if s.train_bits == 8 else []), *again[job["recompute"]], *SHARDING[job["zero_stage"]]]


def _schedule(s: Subject) -> Options:
    rate, n_steps = _training.learning_rate(s), _training.cost(s)["n_steps"]
    return [
        ("--train-iters", n_steps), ("--lr", f"{rate['peak']:.4g}"), ("--min-lr", rate["final"]), ("--lr-decay-style", "WSD"),
        ("--lr-wsd-decay-style", "minus_sqrt"), ("--lr-warmup-iters", rate["warmup_steps"]), ("--lr-decay-iters", n_steps),
        ("--lr-wsd-decay-iters", rate["cooldown_steps"]), ("--optimizer", "adam"), ("--adam-beta1", rate["beta1"]), ("--adam-beta2", rate["beta2"]),
        ("--weight-decay", rate["weight_decay"]), ("--clip-grad", rate["gradient_clip_norm"]),
    ]  # fmt: skip
