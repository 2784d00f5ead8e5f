"""Commands and YAML that start TensorRT-LLM: one pair of files per pool, with layout, batch, precision and memory of the design."""

from __future__ import annotations

from typing import Any

from codesign.export import _servers
from codesign.export._refusal import refuse
from codesign.export._servers import HEAD, Server, cached, notes, quantised, servers
from codesign.export._shell import Beside, Variable, comment, script
from codesign.export._subject import subject
from codesign.results import Run
from codesign.spec import yamlio
from codesign.study import Study

VERSION = "TensorRT-LLM 1.4 (tensorrt_llm/llmapi/llm_args.py)"
WEIGHTS = {  # (weight, activation bits): what the folder must hold; the engine reads the method from there
    (16, 16): "bf16",
    (8, 8): "quantised beforehand to FP8 (NVIDIA Model Optimizer)",
    (8, 16): "quantised beforehand, W8A16 (NVIDIA Model Optimizer)",
    (4, 16): "quantised beforehand, W4A16_AWQ (NVIDIA Model Optimizer)",
    (4, 8): "quantised beforehand, W4A8_AWQ (NVIDIA Model Optimizer)",
    (4, 4): "quantised beforehand to NVFP4 (NVIDIA Model Optimizer)",
}
CACHE = {16: "auto", 8: "fp8", 4: "nvfp4"}


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`trtllm-serve.sh` and `.yaml`, or a pair each for prefill and decode where the pools are apart."""
    s, files = subject(study, run, point_id), {}
    foreign = {role: s.hardware(role) for role in s.setting.roles if str(s.hardware(role).get("vendor") or "NVIDIA").upper() != "NVIDIA"}
    refuse("TensorRT-LLM", [(f"{record.get('title') or record['name']} ({role}): it runs on NVIDIA devices only",
                             "export to vllm or sglang") for role, record in foreign.items()])  # fmt: skip
    for server in servers(s, "TensorRT-LLM"):
        name, checkpoint = f"trtllm-{server.role}", quantised("TensorRT-LLM", WEIGHTS, server)
        said = notes(s, server, VERSION, checkpoint)
        files[f"{name}.yaml"] = "\n".join(map(comment, said)) + "\n" + yamlio.dump(_config(server), block=True)
        files[f"{name}.sh"] = _script(server, said, f"{name}.yaml")
    return files


def _script(server: Server, said: list[str], config: str) -> str:
    """More than one node goes through the launcher of the batch system."""
    n_nodes, each = server.nodes
    where = (
        ["srun", "--nodes", n_nodes, "--ntasks", server.n_devices, "--ntasks-per-node", each, "trtllm-llmapi-launch"] if n_nodes > 1 else []
    )
    said = [note for note in said if not note.startswith("Start it on each")]
    return script(
        said,
        {"MODEL": _servers.MODEL},
        {"everything else is in the YAML": [("--config", Beside(config))]},
        [*where, "trtllm-serve", "serve", Variable("MODEL")],
    )


def _config(server: Server) -> dict[str, Any]:
    if server.n_dp > 1 and server.n_tp > 1:
        refuse("TensorRT-LLM", [(f"attention that is both data and tensor parallel ({server.role}: n_dp, n_tp)",
                                 "search with n_tp: [1] or n_dp: [1], or export to vllm or sglang")])  # fmt: skip
    used = server.memory
    rest = used["weights_bytes"] + used["activations_bytes"] + used["reserve_bytes"]  # the fraction is of what these leave free
    step_tok = server.step_tok_per_rank if server.is_chunked else max(server.step_tok_per_rank, server.max_len_tok)
    config: dict[str, Any] = {
        "tensor_parallel_size": server.n_stage, "pipeline_parallel_size": server.n_pp, "enable_attention_dp": server.n_dp > 1,
    }  # fmt: skip
    if server.n_ep * server.n_etp > 1:
        config |= {"moe_expert_parallel_size": server.n_ep, "moe_tensor_parallel_size": server.n_etp}
    config |= {
        "gpus_per_node": server.nodes[1], "max_batch_size": server.max_seqs_per_rank, "max_num_tokens": step_tok,
        "max_seq_len": server.max_len_tok, "enable_chunked_prefill": server.is_chunked and server.chunk_tok > 0,
        "kv_cache_config": {
            "dtype": cached("TensorRT-LLM", CACHE, server), "enable_block_reuse": server.prefix_caching,
            "free_gpu_memory_fraction": server.fraction(used["usable_bytes"] - rest, server.hbm_bytes - rest),
        },
        "cuda_graph_config": {"enable_padding": True, "max_batch_size": server.max_seqs_per_rank},
    }  # fmt: skip
    if server.n_draft_tok:
        own = {"decoding_type": "Eagle3", "speculative_model": _servers.DRAFT} if server.drafter == HEAD else {"decoding_type": "MTP"}
        config["speculative_config"] = own | {"max_draft_len": server.n_draft_tok}
    if server.role != "serve":
        config["cache_transceiver_config"] = {"backend": "DEFAULT", "max_tokens_in_buffer": server.max_len_tok}
    return config
