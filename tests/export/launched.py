"""Reading launch files back: the shell as a shell splits it, options as a parser takes them."""

from __future__ import annotations

import argparse
import re
import shlex

VLLM = """tensor-parallel-size:int pipeline-parallel-size:int data-parallel-size:int enable-expert-parallel nnodes:int node-rank:str master-addr:str
max-num-seqs:int max-model-len:int max-num-batched-tokens:int enable-chunked-prefill no-enable-chunked-prefill enable-prefix-caching
no-enable-prefix-caching quantization:str kv-cache-dtype:str gpu-memory-utilization:float speculative-config:str kv-transfer-config:str
served-model-name:str"""  # vLLM 0.33.0, vllm/engine/arg_utils.py
SGLANG = """model-path:str tp-size:int pp-size:int attn-dp-size:int enable-dp-lm-head ep-size:int nnodes:int node-rank:str dist-init-addr:str
max-running-requests:int context-length:int chunked-prefill-size:int enable-mixed-chunk disable-radix-cache quantization:str kv-cache-dtype:str
mem-fraction-static:float speculative-algorithm:str speculative-draft-model-path:str speculative-num-steps:int speculative-eagle-topk:int
speculative-num-draft-tokens:int disaggregation-mode:str served-model-name:str"""  # SGLang 0.5.23, srt/arg_groups/fields
TRTLLM = "config:str"  # TensorRT-LLM 1.4, tensorrt_llm/commands/serve.py
MEGATRON = """num-layers:int hidden-size:int ffn-hidden-size:int vocab-size:int make-vocab-size-divisible-by:int swiglu disable-bias-linear normalization:str
untie-embeddings-and-output-weights position-embedding-type:str rotary-base:int attention-dropout:float hidden-dropout:float mtp-num-layers:int
num-attention-heads:int kv-channels:int group-query-attention num-query-groups:int qk-layernorm add-qkv-bias softmax-type:str window-size:str
window-attn-skip-freq:str multi-latent-attention rope-type:str q-lora-rank:int kv-lora-rank:int qk-head-dim:int qk-pos-emb-head-dim:int v-head-dim:int
num-experts:int moe-router-topk:int moe-ffn-hidden-size:int moe-shared-expert-intermediate-size:int moe-layer-freq:str moe-grouped-gemm
moe-token-dispatcher-type:str moe-router-dtype:str moe-aux-loss-coeff:float tensor-model-parallel-size:int pipeline-model-parallel-size:int
context-parallel-size:int sequence-parallel expert-model-parallel-size:int expert-tensor-parallel-size:int pipeline-model-parallel-layout:str
num-virtual-stages-per-pipeline-rank:int micro-batch-size:int global-batch-size:int seq-length:int max-position-embeddings:int bf16 fp8-format:str
fp8-recipe:str recompute-granularity:str recompute-modules:list recompute-method:str recompute-num-layers:int use-distributed-optimizer
use-megatron-fsdp data-parallel-sharding-strategy:str ckpt-format:str train-iters:int lr:float min-lr:float lr-decay-style:str lr-wsd-decay-style:str
lr-warmup-iters:int lr-decay-iters:int lr-wsd-decay-iters:int optimizer:str adam-beta1:float adam-beta2:float weight-decay:float clip-grad:float
save:str load:str save-interval:int async-save data-path:str split:str tokenizer-type:str tokenizer-model:str"""  # Megatron-LM core 0.16
TYPES = {"int": int, "float": float, "str": str}


def parser(spec: str) -> argparse.ArgumentParser:
    """A parser that knows these options and no others."""
    out = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for option in spec.split():
        name, _, kind = option.partition(":")
        how = {"nargs": "+"} if kind == "list" else {"type": TYPES[kind]} if kind else {"action": "store_true"}
        out.add_argument(f"--{name}", **how)
    return out


def words(text: str) -> list[str]:
    return shlex.split(text, comments=True)


def options(text: str, spec: str) -> argparse.Namespace:
    """Options of the script's ARGS; an unknown one fails."""
    found = words(text)
    start = found.index("ARGS=(")
    return parser(spec).parse_args(found[start + 1 : found.index(")", start)])


def counts(text: str) -> dict[str, int]:
    """Counts of a launch file's notes."""
    return {name: int(n) for name, n in re.findall(r"\b(n_\w+)=(\d+)", text)}
