"""From a row to a scenario: what is stated is used, what is open is ranged over, what is unknown is skipped."""

import pytest

from codesign.evidence import inference, training
from codesign.evidence.case import Skip, node_network
from codesign.evidence.rows import COLUMNS, Row
from codesign.point import SHARES, evaluate_point

DENSE = {
    "source": "arXiv 1 (id 7)", "model": "tiny", "layers": 8, "hidden": 1024, "heads": 16, "kv_heads": 4, "ffn": 4096, "vocab": 32000, "gated_ffn": 1,
    "attention": "gqa", "seq_len": 2048, "global_batch_seqs": 64, "micro_batch_seqs": 2, "tp": 2, "pp": 2, "vp": 1, "gpus": 16, "gpu": "A100-80G-SXM",
    "precision": "bf16", "recompute": "none", "sharding": "zero1", "tokens_per_s_per_gpu": 30000.0,
}  # fmt: skip
MOE = DENSE | {
    "ffn": None,
    "n_experts": 64,
    "top_k": 8,
    "moe_ffn": 512,
    "shared_experts": 1,
    "dense_layers": 0,
    "ep": 4,
    "routing": "balanced",
}
SERVED = {
    "phase": "e2e", "model": "Llama-3.1-70B", "accelerator": "H200-SXM", "gpu": "H200", "n_gpus": 4, "tp": 4, "weight_bits": 8.0, "act_bits": 8.0,
    "engine": "vLLM", "isl": 1024, "osl": 256, "batch_or_concurrency": 32, "tpot_ms": 12.0, "ttft_ms": 80.0,
}  # fmt: skip


def row(cells, **changes):
    cells = {k: v for k, v in {**cells, **changes}.items() if v is not None}
    kind = "inference" if "phase" in cells else "training"
    assert not set(cells) - set(COLUMNS[kind])
    return Row("x", 2, cells)


def test_a_training_row_carries_its_own_dimensions():
    case = training.case(row(DENSE, notes="8-GPU nodes, 800 Gb/s inter-node"))
    (scenario,) = case.options
    assert scenario["model"]["architecture"] == {
        "n_layers": 8, "d_model": 1024, "vocab": 32000, "n_heads": 16, "n_kv_heads": 4, "d_ff": 4096, "ffn_gated": True, "attention": "gqa",
    }  # fmt: skip
    assert (scenario["n_tp"], scenario["n_pp"], scenario["n_dp"], scenario["zero"]) == (2, 2, 4, 1)
    assert scenario["scale_out_bandwidth"] == 12.5e9 and "dp_overlap" not in scenario
    assert case.group == "arXiv 1 | tiny | a100_80g_sxm | bf16" and case.publication == "arXiv 1"
    assert evaluate_point(scenario)["train"]["tok_per_s_per_device"] > 0


@pytest.mark.parametrize(
    ("notes", "settings"),
    [
        ("DeepEP + 1F1B EP all-to-all overlap; 8x50 GB/s", {"ep_once": 1.0, "ep_overlap": 1.0}),
        ("plain all-to-all; grad-accum 512", {"ep_once": 0.0}),
        ("recipe: NCCL all-to-all, no CUDA graphs", {"ep_once": 0.0, "graphed": 0.0}),
        ("recipe: HybridEP, full-iteration CUDA graphs", {"ep_once": 1.0, "graphed": 1.0}),
        ("gradient bucketing off", {"dp_overlap": 0.0}),
        ("token-dropless", {}),
    ],
)
def test_settings_of_the_stack_from_the_notes(notes, settings):
    (scenario,) = training.case(row(DENSE, notes=notes)).options
    assert {k: v for k, v in scenario.items() if k in SHARES} == settings
    assert evaluate_point(scenario)["train"]["step_s"] > 0


def test_blank_ffn_means_that_every_layer_is_moe():
    case = training.case(row(MOE))
    (scenario,) = case.options
    arch = scenario["model"]["architecture"]
    assert case.is_moe and "d_ff" not in arch and (arch["n_active_experts"], arch["d_expert"], arch["d_shared"]) == (8, 512, 512)
    assert (scenario["n_ep"], scenario["n_etp"]) == (4, 1) and "forced-balanced routing" in case.notes
    assert evaluate_point(scenario)["architecture"]["n_active_params"] < evaluate_point(scenario)["architecture"]["n_params"]


def test_what_a_training_row_leaves_open_is_ranged_over():
    case = training.case(row(DENSE, recompute="unknown", micro_batch_seqs=None, sharding="unknown", vp=None))
    assert case.assumed == ("recompute", "micro-batch", "interleaving")
    tried = {(o["recompute"], o["micro_batch"], o["n_interleave"]) for o in case.options}
    assert tried == {(r, m, v) for r in ("none", "selective", "full") for m in (1, 2, 4, 8) for v in (1, 2, 4)}
    assert any("sharding" in note for note in case.notes)


def test_a_training_row_without_dimensions_takes_a_catalog_model():
    bare = {k: v for k, v in DENSE.items() if k not in ("layers", "hidden", "heads")}
    assert training.case(row(bare, model="Llama-3.1-8B")).options[0]["model"] == "llama-3.1-8b"
    with pytest.raises(Skip, match="model not in the catalog: tiny"):
        training.case(row(bare))


def test_latent_attention_from_its_ranks():
    mla = {"kv_lora_rank": 512, "q_lora_rank": 0, "qk_nope_dim": 128, "qk_rope_dim": 64, "v_head_dim": 128, "d_head": 128}
    arch = training.case(row(DENSE, **mla)).options[0]["model"]["architecture"]
    assert (arch["attention"], arch["d_head_rope"], arch["d_head_v"]) == ("mla", 64, 128)


@pytest.mark.parametrize(("change", "reason"), [
    ({"gpu": "Cerebras-9"}, "chip not in the catalog: Cerebras-9"),
    ({"tokens_per_s_per_gpu": None}, "no measured value"),
    ({"dp": 3}, "layout identity broken: tp x cp x pp x dp = 12, gpus = 16"),
    ({"precision": "int4"}, "training precision 'int4'"),
    ({"global_batch_seqs": 66}, "global batch 66 is not a multiple of dp = 4"),
    ({"seq_len": None}, "seq_len is empty"),
    ({"attention": "psychic"}, "attention 'psychic' is not one of mha"),
    ({"n_experts": 64, "top_k": 2, "moe_ffn": 512, "ep": 3}, "not a multiple of ep = 3"),
])  # fmt: skip
def test_training_rows_are_skipped_with_the_reason(change, reason):
    with pytest.raises(Skip, match=reason):
        training.case(row(DENSE, **change))


def test_a_serving_row_becomes_a_scenario():
    case = inference.case(row(SERVED))
    (scenario,) = case.options
    assert scenario == {
        "accelerator": "h200_sxm", "model": "llama-3.1-70b", "engine": "vllm", "phase": "prefill,decode", "weight_bits": 8, "act_bits": 8,
        "n_tp": 4, "n_pp": 1, "n_dp": 1, "isl": 1024, "osl": 256, "batch": 32,
    }  # fmt: skip
    assert case.measured == {"tpot_ms": 12.0, "ttft_ms": 80.0}
    assert "kv_bits not stated: as released" in case.notes


@pytest.mark.parametrize(("text", "name"), [
    ("TensorRT-LLM (trtllm-bench throughput)", "trtllm"), ("NIM (TensorRT-LLM)", "trtllm"), ("vLLM", "vllm"), ("sglang", "sglang"),
    ("llama.cpp", "generic"), ("ideal", "ideal"),
])  # fmt: skip
def test_the_engine_column_selects_the_engine(text, name):
    case = inference.case(row(SERVED, engine=text))
    assert case.engine == name
    assert any("not in the catalog: generic" in note for note in case.notes) == (name == "generic")


@pytest.mark.parametrize(("ep", "n_ep", "n_etp"), [(1, 1, 4), (4, 4, 1), (2, 2, 2), (None, None, None)])
def test_expert_layouts(ep, n_ep, n_etp):
    scenario = inference.case(row(SERVED, model="qwen3-30b-a3b", ep=ep)).options[0]
    assert (scenario.get("n_ep"), scenario.get("n_etp")) == (n_ep, n_etp)


def test_attention_dp_from_the_notes():
    offline = {
        **SERVED,
        "phase": "offline",
        "tp": None,
        "output_tokens_per_s_total": 9e3,
        "notes": "page says enable_attention_dp option used",
    }
    scenario = inference.case(row(offline, model="deepseek-v3", n_gpus=8)).options[0]
    assert (scenario["n_tp"], scenario["n_dp"]) == (1, 8)


@pytest.mark.parametrize(("stated", "bits"), [(4.5, 4), (8.5, 8), (16.0, 16)])
def test_bits_with_their_scales(stated, bits):
    assert inference.case(row(SERVED, weight_bits=stated)).options[0]["weight_bits"] == bits


@pytest.mark.parametrize(("change", "reason"), [
    ({"accelerator": "Apple M3"}, "chip not in the catalog: Apple M3"),
    ({"model": "GPT-J 6B"}, "model not in the catalog: GPT-J 6B"),
    ({"weight_bits": 4.9}, "weight_bits is not 4, 8 or 16: 4.9"),
    ({"tpot_ms": None, "ttft_ms": None}, "no measured value"),
    ({"n_gpus": 8}, "layout identity broken: tp x pp x dp = 4, n_gpus = 8"),
    ({"phase": "chat"}, "phase 'chat'"),
    ({"batch_or_concurrency": None}, "batch_or_concurrency is empty"),
    ({"isl": None}, "isl is empty"),
    ({"osl": 0}, "osl is empty"),
    ({"model": "mixtral-8x7b", "ep": 3}, "not a multiple of ep = 3"),
    ({"accelerator": None, "gpu": None}, "no chip named"),
    ({"accelerator": "wse-3"}, "chip cannot be evaluated"),
])  # fmt: skip
def test_serving_rows_are_skipped_with_the_reason(change, reason):
    with pytest.raises(Skip, match=reason):
        inference.case(row(SERVED, **change))


@pytest.mark.parametrize(("notes", "expected"), [
    ("8-GPU nodes, 800 Gb/s inter-node; use_checkpoint", 12.5e9), ("4x100Gb RoCE per node", 6.25e9), ("FSDP; 1600 Gbps/node RoCE", 25e9),
    ("8x50 GB/s IB per node", 50e9), ("GCP A3 (8x200 Gb/s TCPX per VM, from memory)", 25e9), ("published bandwidth 1397.31 GB/s per GPU", None), ("", None),
])  # fmt: skip
def test_network_of_a_node_from_the_notes(notes, expected):
    assert node_network(row(DENSE, notes=notes or None)) == expected
