"""Reading launch files back: the shell as a shell splits it, options as a parser takes them."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

VLLM = """tensor-parallel-size:int pipeline-parallel-size:int data-parallel-size:int enable-expert-parallel nnodes:int node-rank:str master-addr:str
max-num-seqs:int max-model-len:int max-num-batched-tokens:int enable-chunked-prefill no-enable-chunked-prefill enable-prefix-caching
no-enable-prefix-caching quantization:str kv-cache-dtype:str gpu-memory-utilization:float speculative-config:str kv-transfer-config:str
served-model-name:str"""  # vLLM 0.33.0, vllm/engine/arg_utils.py
SGLANG = """model-path:str tp-size:int pp-size:int attn-dp-size:int enable-dp-lm-head ep-size:int nnodes:int node-rank:str dist-init-addr:str
max-running-requests:int context-length:int chunked-prefill-size:int enable-mixed-chunk disable-radix-cache quantization:str kv-cache-dtype:str
mem-fraction-static:float speculative-algorithm:str speculative-draft-model-path:str speculative-num-steps:int speculative-eagle-topk:int
speculative-num-draft-tokens:int disaggregation-mode:str served-model-name:str"""  # SGLang 0.5.23, srt/arg_groups/fields
TRTLLM = "config:str"  # TensorRT-LLM 1.4, tensorrt_llm/commands/serve.py
MEGATRON = "\n".join(
    line for line in (Path(__file__).parent / "megatron_options.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
)


def frequency(text: str) -> str:
    """Megatron-LM's moe_freq_type: a whole number, or a list expression of these characters alone."""
    if "[" not in text:
        int(text)
    elif re.search(r"[^,\d\[\]()+*]", text):
        raise ValueError(text)
    return text


def numbers(text: str) -> str:
    """Its tuple_type: whole numbers between commas."""
    [int(part) for part in text.strip("()").split(",")]
    return text


TYPES = {"int": int, "float": float, "str": str, "moe_freq_type": frequency, "tuple_type": numbers}


def parser(spec: str) -> argparse.ArgumentParser:
    """A parser that knows these options and no others: `name:type` in one line, or `name type choices` in a line each."""
    out = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    rows = [line.split() for line in spec.splitlines()] if " int\n" in spec else [option.split(":") for option in spec.split()]
    for name, *rest in rows:
        kind, choices = (*rest, "switch")[0], (*rest, "", "")[1]
        how = {"action": "store_true"} if kind == "switch" else {"type": TYPES[kind.rstrip("+*")]}
        how |= {"nargs": kind[-1]} if kind[-1] in "+*" else {}
        out.add_argument(f"--{name}", **how, **({"choices": choices.split(",")} if choices else {}))
    return out


def words(text: str) -> list[str]:
    return shlex.split(text, comments=True)


def options(text: str, spec: str) -> argparse.Namespace:
    """Options of the script's ARGS; an unknown one fails."""
    found = words(text)
    start = found.index("ARGS=(")
    o = parser(spec).parse_args(found[start + 1 : found.index(")", start)])
    if len(getattr(o, "moe_aux_loss_coeff", None) or []) == 1:
        (o.moe_aux_loss_coeff,) = o.moe_aux_loss_coeff  # as its validate_args does
    return o


def megatron_refuses(o: argparse.Namespace, n_devices: int, connections: int) -> list[str]:
    """What Megatron-LM's validate_args (the same commit) would stop at, of what our options can get wrong."""
    tp, pp, cp = o.tensor_model_parallel_size, o.pipeline_model_parallel_size, o.context_parallel_size
    ep, chunks = o.expert_model_parallel_size or 1, o.num_virtual_stages_per_pipeline_rank
    laid = o.pipeline_model_parallel_layout
    rules = {
        "world size": n_devices % (tp * pp * cp) == 0,
        "two pipeline layouts": not (chunks and laid),
        "stages of the layout": not laid or (laid.count("|") + 1) % pp == 0,
        "layers over stages": bool(laid) or o.num_layers % (pp * (chunks or 1)) == 0,
        "interleaving": not chunks or pp > 1,
        "FSDP": not o.use_megatron_fsdp or (o.ckpt_format == "fsdp_dtensor" and connections != 1),
        "checkpoint format": o.ckpt_format != "fsdp_dtensor" or o.use_megatron_fsdp,
        "asynchronous saving": not o.async_save or o.ckpt_format in (None, "torch_dist"),
        "connections": max(tp, cp) == 1 or o.use_megatron_fsdp or connections == 1,
        "sequence parallel": tp > 1 or not o.sequence_parallel,
        "sequence over ranks": cp == 1 or o.seq_length % (2 * cp) == 0,
        "positions": o.max_position_embeddings >= o.seq_length,
        "learning rate": o.min_lr <= o.lr and o.lr_warmup_iters + o.lr_wsd_decay_iters <= o.train_iters,
        "saving": o.save_interval > 0,
        "grouped products": o.bf16 or not o.moe_grouped_gemm,
        "recomputation": o.recompute_granularity != "selective" or o.recompute_method is None,
        "experts": ep == 1 or (o.num_experts and o.num_experts % ep == 0),
        "MTP": not o.mtp_num_layers or o.position_embedding_type == "rope",
        "rope": o.rope_type is None or o.multi_latent_attention or o.rope_type == "rope",
        "gathered parameters": not o.overlap_param_gather
        or (o.overlap_grad_reduce and (o.use_distributed_optimizer or o.use_megatron_fsdp)),
        "overlapped tensor parallelism": not o.tp_comm_overlap or o.sequence_parallel,
        "DeepEP": not o.moe_enable_deepep or o.moe_token_dispatcher_type == "flex",
        "flexible dispatcher": o.moe_token_dispatcher_type != "flex" or ep * (o.expert_tensor_parallel_size or tp) > 1,
        "bias of experts": not o.moe_router_enable_expert_bias or o.moe_router_score_function == "sigmoid",
        "batch": o.global_batch_size % (o.micro_batch_size * (n_devices // (tp * pp * cp))) == 0,
    }
    return [name for name, holds in rules.items() if not holds]


def counts(text: str) -> dict[str, int]:
    """Counts of a launch file's notes."""
    return {name: int(n) for name, n in re.findall(r"\b(n_\w+)=(\d+)", text)}
