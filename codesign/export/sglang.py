"""Commands that start SGLang: one script per pool, with layout, batch, precision and memory of the design."""

from __future__ import annotations

from typing import Any

from codesign.export import _servers
from codesign.export._servers import HEAD, Engine, Server
from codesign.export._shell import Options, Variable
from codesign.results import Run
from codesign.study import Study

VERSION = "SGLang 0.5.23 (python/sglang/srt/arg_groups)"
WEIGHTS: dict[tuple[int, int], tuple[str | None, str]] = {  # (weight, activation bits): --quantization, what the folder must hold
    (16, 16): (None, "bf16"),
    (8, 8): ("fp8", "bf16, made fp8 while loading, or an fp8 checkpoint"),
    (8, 16): ("compressed-tensors", "quantised beforehand to 8 bit in groups, activations 16 bit (llm-compressor W8A16)"),
    (4, 16): ("compressed-tensors", "quantised beforehand to 4 bit in groups, activations 16 bit (llm-compressor W4A16)"),
    (4, 8): ("w4afp8", "quantised beforehand to int4 in groups, activations fp8"),
    (4, 4): ("modelopt_fp4", "quantised beforehand to NVFP4 (NVIDIA Model Optimizer)"),
}
CACHE = {16: "auto", 8: "fp8_e4m3", 4: "nvfp4"}


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`sglang-serve.sh`, or `sglang-prefill.sh` and `sglang-decode.sh` where the pools are apart."""
    return ENGINE.scripts(study, run, point_id)


def _layout(server: Server) -> Options:
    """--tp-size counts every device of a stage, attention ranks included."""
    n_nodes, _ = server.nodes
    options: list[tuple[Any, ...]] = [("--tp-size", server.n_stage), ("--pp-size", server.n_pp)]
    options += [("--attn-dp-size", server.n_dp), ("--enable-dp-lm-head",)] if server.n_dp > 1 else []
    options += [("--ep-size", server.n_ep)] if server.n_ep > 1 else []
    if n_nodes > 1:
        options += [("--nnodes", n_nodes), ("--node-rank", Variable("NODE_RANK")), ("--dist-init-addr", Variable("HEAD:20000"))]
    return options


def _batch(server: Server) -> Options:
    """Both totals are divided by the attention ranks."""
    options: list[tuple[Any, ...]] = [
        ("--max-running-requests", server.max_seqs_per_rank * server.n_dp), ("--context-length", server.max_len_tok),
    ]  # fmt: skip
    if server.chunk_tok:
        options += [("--chunked-prefill-size", server.chunk_tok * server.n_dp)]
    options += [("--enable-mixed-chunk",)] if server.role == "serve" and server.is_chunked else []
    return options + ([] if server.prefix_caching else [("--disable-radix-cache",)])


def _drafts(server: Server) -> Options:
    if not server.n_draft_tok:
        return []
    own = [("--speculative-algorithm", "EAGLE3"), ("--speculative-draft-model-path", _servers.DRAFT)]
    return [
        *(own if server.drafter == HEAD else [("--speculative-algorithm", "NEXTN")]),
        ("--speculative-num-steps", server.n_draft_tok), ("--speculative-eagle-topk", 1),
        ("--speculative-num-draft-tokens", server.n_draft_tok + 1),
    ]  # fmt: skip


def _memory(server: Server) -> Options:
    """Its fraction is of weights and cache only."""
    used = server.memory
    static = used["usable_bytes"] - used["activations_bytes"] - used["reserve_bytes"]
    return [("--mem-fraction-static", server.fraction(static, server.hbm_bytes))]


def _transfer(server: Server) -> Options:
    return [] if server.role == "serve" else [("--disaggregation-mode", server.role)]


ENGINE = Engine(
    "SGLang", VERSION, ("python", "-m", "sglang.launch_server", "--model-path", Variable("MODEL")), WEIGHTS, CACHE,
    layout=_layout, batch=_batch, memory=_memory, drafts=_drafts, transfer=_transfer,
)  # fmt: skip
