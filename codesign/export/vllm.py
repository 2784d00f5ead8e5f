"""Commands that start vLLM: one script per pool, with layout, batch, precision and memory of the design."""

from __future__ import annotations

import json
from typing import Any

from codesign.export import _servers
from codesign.export._refusal import refuse
from codesign.export._servers import HEAD, Engine, Server
from codesign.export._shell import Options, Variable
from codesign.results import Run
from codesign.study import Study

VERSION = "vLLM 0.33.0 (vllm/engine/arg_utils.py)"
WEIGHTS: dict[tuple[int, int], tuple[str | None, str]] = {  # (weight, activation bits): --quantization, what the folder must hold
    (16, 16): (None, "bf16"),
    (8, 8): ("fp8", "bf16, made fp8 while loading, or an fp8 checkpoint"),
    (8, 16): ("int8_per_channel_weight_only", "bf16, made int8 while loading"),
    (4, 16): ("compressed-tensors", "quantised beforehand to 4 bit in groups, activations 16 bit (llm-compressor W4A16)"),
    (4, 8): ("compressed-tensors", "quantised beforehand to 4 bit in groups, activations fp8 (llm-compressor W4AFP8)"),
    (4, 4): ("modelopt_fp4", "quantised beforehand to NVFP4 (NVIDIA Model Optimizer)"),
}
CACHE = {16: "auto", 8: "fp8", 4: "nvfp4"}
TRANSFER = {"prefill": "kv_producer", "decode": "kv_consumer"}


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`vllm-serve.sh`, or `vllm-prefill.sh` and `vllm-decode.sh` where the pools are apart."""
    return ENGINE.scripts(study, run, point_id)


def _layout(server: Server) -> Options:
    """vLLM spreads experts over all ranks of a stage (EP) or cuts each over all of them, nothing between."""
    if server.n_etp > 1 and server.n_ep > 1:
        refuse("vLLM", [(f"tensor parallelism inside experts beside expert parallelism ({server.role}: n_etp)",
                         "search with n_etp: [1], or export to sglang or trtllm")])  # fmt: skip
    n_nodes, _ = server.nodes
    options: list[tuple[Any, ...]] = [("--tensor-parallel-size", server.n_tp), ("--pipeline-parallel-size", server.n_pp)]
    options += [("--data-parallel-size", server.n_dp)] if server.n_dp > 1 else []
    options += [("--enable-expert-parallel",)] if server.n_ep > 1 else []
    if n_nodes > 1:
        options += [("--nnodes", n_nodes), ("--node-rank", Variable("NODE_RANK")), ("--master-addr", Variable("HEAD"))]
    return options


def _batch(server: Server) -> Options:
    """Limits are per data-parallel rank.  A prompt that is not chunked needs a step as long as itself."""
    step_tok = server.step_tok_per_rank if server.is_chunked else max(server.step_tok_per_rank, server.max_len_tok)
    return [
        ("--max-num-seqs", server.max_seqs_per_rank), ("--max-model-len", server.max_len_tok), ("--max-num-batched-tokens", step_tok),
        ("--enable-chunked-prefill" if server.is_chunked else "--no-enable-chunked-prefill",),
        ("--enable-prefix-caching" if server.prefix_caching else "--no-enable-prefix-caching",),
    ]  # fmt: skip


def _drafts(server: Server) -> Options:
    if not server.n_draft_tok:
        return []
    own = {"method": "eagle3", "model": _servers.DRAFT} if server.drafter == HEAD else {"method": "mtp"}
    return [("--speculative-config", json.dumps(own | {"num_speculative_tokens": server.n_draft_tok}))]


def _transfer(server: Server) -> Options:
    if server.role not in TRANSFER:
        return []
    return [("--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": TRANSFER[server.role]}))]


def _memory(server: Server) -> Options:
    return [("--gpu-memory-utilization", server.fraction(server.memory["usable_bytes"], server.hbm_bytes))]


def _others(server: Server) -> str:
    """Nodes behind the first have no API."""
    return '[ "$NODE_RANK" -eq 0 ] || ARGS+=(--headless)' if server.nodes[0] > 1 else ""


ENGINE = Engine(
    "vLLM", VERSION, ("vllm", "serve", Variable("MODEL")), WEIGHTS, CACHE,
    layout=_layout, batch=_batch, memory=_memory, drafts=_drafts, transfer=_transfer, last=_others,
)  # fmt: skip
