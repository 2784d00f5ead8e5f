"""Hugging Face configs: every family against the catalog and against `transformers` itself; what is refused, and how it is said."""

import json
import os
from pathlib import Path

import pytest
import yaml

from codesign import catalog
from codesign.catalog.hf import read_config
from codesign.catalog.hf_families import FAMILIES
from codesign.physics.architecture import census, fill, problems
from codesign.spec.errors import SpecError

MODELS = Path(catalog.__file__).parent / "models"


def config(model_type, layers, hidden, heads, groups, ffn, vocab, context, **more) -> dict:
    return {
        "model_type": model_type, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": groups, "intermediate_size": ffn, "vocab_size": vocab,
        "max_position_embeddings": context, "torch_dtype": "bfloat16",
    } | more  # fmt: skip


def latent(
    model_type,
    layers,
    hidden,
    heads,
    ffn,
    vocab,
    context,
    moe,
    experts,
    active,
    dense,
    q=1536,
    nope=128,
    v=128,
    **more,
):
    return config(
        model_type, layers, hidden, heads, heads, ffn, vocab, context, moe_intermediate_size=moe, n_routed_experts=experts,
        n_shared_experts=1, num_experts_per_tok=active, first_k_dense_replace=dense, moe_layer_freq=1, q_lora_rank=q,
        kv_lora_rank=512, qk_nope_head_dim=nope, qk_rope_head_dim=64, v_head_dim=v, n_group=1, topk_group=1,
    ) | more  # fmt: skip


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}
DELTA = dict(linear_conv_kernel_dim=4, linear_key_head_dim=128, linear_num_key_heads=16, linear_num_value_heads=32,
             linear_value_head_dim=128, decoder_sparse_step=1, mlp_only_layers=[])  # fmt: skip
MIXED = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
MAVERICK = config(
    "llama4_text", 48, 5120, 40, 8, 8192, 202048, 1048576, head_dim=128, attention_chunk_size=8192, interleave_moe_layer_step=2,
    intermediate_size_mlp=16384, num_experts_per_tok=1, num_local_experts=128, attention_bias=False,
)  # fmt: skip
CONFIGS = {
    "llama-3.1-70b": config("llama", 80, 8192, 64, 8, 28672, 128256, 131072, attention_bias=False, mlp_bias=False),
    "llama-3.2-1b": config("llama", 16, 2048, 32, 8, 8192, 128256, 131072, head_dim=64, tie_word_embeddings=True),
    "mistral-7b-v0.1": config("mistral", 32, 4096, 32, 8, 14336, 32000, 32768, sliding_window=4096),
    "mixtral-8x7b": config("mixtral", 32, 4096, 32, 8, 14336, 32000, 32768, num_local_experts=8, num_experts_per_tok=2,
                           sliding_window=None),
    "qwen2.5-7b": config("qwen2", 28, 3584, 28, 4, 18944, 152064, 131072, use_sliding_window=False, sliding_window=131072,
                         max_window_layers=28),
    "qwen3-32b": config("qwen3", 64, 5120, 64, 8, 25600, 151936, 40960, head_dim=128, use_sliding_window=False),
    "qwen3-30b-a3b": config("qwen3_moe", 48, 2048, 32, 4, 6144, 151936, 40960, head_dim=128, moe_intermediate_size=768,
                            num_experts=128, num_experts_per_tok=8, decoder_sparse_step=1, mlp_only_layers=[]),
    "qwen3-next-80b-a3b": config("qwen3_next", 48, 2048, 16, 2, 5120, 151936, 262144, head_dim=256, moe_intermediate_size=512,
                                 num_experts=512, num_experts_per_tok=10, shared_expert_intermediate_size=512,
                                 full_attention_interval=4, **DELTA),
    "qwen3.5-397b-a17b": {"model_type": "qwen3_5_moe", "vision_config": {"depth": 27}, "text_config": config(
        "qwen3_5_moe_text", 60, 4096, 32, 2, None, 248320, 262144, head_dim=256, attn_output_gate=True, layer_types=MIXED * 15,
        moe_intermediate_size=1024, num_experts=512, num_experts_per_tok=10, shared_expert_intermediate_size=1024,
        mtp_num_hidden_layers=1, **(DELTA | {"linear_num_value_heads": 64}))},
    "deepseek-v2": latent("deepseek_v2", 60, 5120, 128, 12288, 102400, 131072, 1536, 160, 6, 1, n_shared_experts=2),
    "deepseek-v3": latent("deepseek_v3", 61, 7168, 128, 18432, 129280, 163840, 2048, 256, 8, 3, num_nextn_predict_layers=1,
                          quantization_config=FP8),
    "deepseek-v3.2": latent("deepseek_v32", 61, 7168, 128, 18432, 129280, 163840, 2048, 256, 8, 3, index_n_heads=64,
                            index_head_dim=128, index_topk=2048, num_nextn_predict_layers=1, quantization_config=FP8),
    "kimi-k2": latent("kimi_k2", 61, 7168, 64, 18432, 163840, 131072, 2048, 384, 8, 1, quantization_config=FP8),
    "glm-5": latent("glm_moe_dsa", 78, 6144, 64, 12288, 154880, 202752, 2048, 256, 8, 3, q=2048, nope=192, v=256,
                    num_nextn_predict_layers=1),
    "moonlight-16b-a3b": latent("deepseek_v3", 27, 2048, 16, 11264, 163840, 8192, 1408, 64, 6, 1, q=None, n_shared_experts=2),
    "gpt-oss-120b": config("gpt_oss", 36, 2880, 64, 8, 2880, 201088, 131072, head_dim=64, num_local_experts=128,
                           num_experts_per_tok=4, experts_per_token=4, sliding_window=128, attention_bias=True,
                           layer_types=["sliding_attention", "full_attention"] * 18,
                           quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}),
    "gemma-2-9b": config("gemma2", 42, 3584, 16, 8, 14336, 256000, 8192, head_dim=256, sliding_window=4096),
    "gemma-3-4b": {"model_type": "gemma3", "vision_config": {"hidden_size": 1152}, "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "sliding_window": 1024, "vocab_size": 262144}},
    "gemma-3-27b": config("gemma3_text", 62, 5376, 32, 16, 21504, 262144, 131072, head_dim=128, sliding_window=1024,
                          sliding_window_pattern=6),
    "phi-3-mini-4k": config("phi3", 32, 3072, 32, 32, 8192, 32064, 4096, sliding_window=None),
    "olmo-2-7b": config("olmo2", 32, 4096, 32, 32, 11008, 100352, 4096),
    "olmo-3-32b": config("olmo3", 64, 5120, 40, 8, 27648, 100352, 65536, sliding_window=4096),
    "olmoe-1b-7b": config("olmoe", 16, 2048, 16, 16, 1024, 50304, 4096, num_experts=64, num_experts_per_tok=8),
    "glm-4.5": config("glm4_moe", 92, 5120, 96, 8, 12288, 151552, 131072, head_dim=128, moe_intermediate_size=1536,
                      n_routed_experts=160, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3,
                      attention_bias=True, use_qk_norm=True, num_nextn_predict_layers=1),
    "minimax-m2": config("minimax_m2", 62, 3072, 48, 8, 1536, 200064, 196608, head_dim=128, num_local_experts=256,
                         num_experts_per_tok=8, use_qk_norm=True, sliding_window=None, quantization_config=FP8),
    "llama-4-maverick-17b-128e": {"model_type": "llama4", "text_config": MAVERICK, "vision_config": {"hidden_size": 1408}},
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2",
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_ctx": 1024,
}


def read(folder: Path, keys) -> dict:
    file = folder / "config.json"
    file.write_text(keys if isinstance(keys, str) else json.dumps(keys))
    return read_config(file)


def messages(folder: Path, keys) -> str:
    with pytest.raises(SpecError) as caught:
        read(folder, keys)
    return str(caught.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_gives_the_catalog_entry(name, tmp_path):
    imported = read(tmp_path, CONFIGS[name])
    record = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
    theirs, ours = fill(imported["architecture"]), fill(record["architecture"])
    differing = {key: (str(theirs[key]), str(ours[key])) for key in ours if (theirs[key] != ours[key]).any()}
    # how the full layers are written may differ, how many there are may not
    known = {"n_mtp_layers"} if "num_nextn" not in str(CONFIGS[name]) else set()
    assert not set(differing) - {"global_every"} - known, differing
    assert imported["precision"] == record["precision"]
    assert imported["context_tok"] == float(record["context_tok"].removesuffix(" tok"))
    assert not any(mask.any() for mask in problems(theirs).values())


def test_gpt2(tmp_path):
    record = read(tmp_path, GPT2)
    assert int(census(fill(record["architecture"])).n_params) == 124_439_808  # the released checkpoint
    assert record["context_tok"] == 1024


def test_a_folder_and_the_loader(tmp_path):
    (tmp_path / "my-model").mkdir()
    read(tmp_path / "my-model", CONFIGS["llama-3.1-70b"])
    record = catalog.load("models", str(tmp_path / "my-model"))
    assert record["name"] == "my-model"
    assert record["architecture"]["n_kv_heads"] == 8
    assert "note" not in record


def test_a_vision_tower_is_named_as_left_out(tmp_path):
    assert "without vision_config" in read(tmp_path, CONFIGS["llama-4-maverick-17b-128e"])["note"]


def test_window_at_least_as_long_as_the_context_is_none(tmp_path):
    architecture = read(tmp_path, config("phi3", 32, 3072, 32, 32, 8192, 32064, 131072, sliding_window=262144))["architecture"]
    assert "window_tok" not in architecture


def test_qwen2_window_layers(tmp_path):
    keys = config(
        "qwen2",
        28,
        3584,
        28,
        4,
        18944,
        152064,
        131072,
        use_sliding_window=True,
        sliding_window=4096,
        max_window_layers=21,
    )
    architecture = read(tmp_path, keys)["architecture"]
    assert (architecture["window_tok"], architecture["n_full_layers"]) == (4096, 21)


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        (None, (16, 16, 16)),
        (FP8, (8, 16, 8)),
        ({"quant_method": "mxfp4"}, (4, 16, 16)),
        ({"quant_method": "awq", "bits": 4}, (4, 16, 16)),
        ({"quant_method": "gptq", "bits": 8}, (8, 16, 16)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, (4, 16, 16)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, (4, 8, 4)),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, (8, 8, 8)),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None,
          "config_groups": {"group_0": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}}}, (8, 16, 8)),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 4}, "input_activations": None}}}, (4, 16, 16)),
    ],
)  # fmt: skip
def test_quantization(quantization, bits, tmp_path):
    precision = read(tmp_path, CONFIGS["llama-3.1-70b"] | {"quantization_config": quantization})["precision"]
    assert (precision["weight_bits"], precision["kv_bits"], precision["act_bits"]) == bits


def test_quantization_in_a_file_of_its_own(tmp_path):
    quantization = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))
    assert read(tmp_path, CONFIGS["qwen3-32b"])["precision"] == {
        "weight_bits": 4,
        "kv_bits": 8,
        "act_bits": 4,
    }


def test_unknown_quantization_is_said(tmp_path):
    record = read(tmp_path, CONFIGS["qwen3-32b"] | {"quantization_config": {"quant_method": "vptq"}})
    assert "'vptq'" in record["note"] and record["precision"]["weight_bits"] == 16


def test_unknown_family_with_standard_keys_is_a_best_effort(tmp_path):
    dense = read(tmp_path, CONFIGS["llama-3.1-70b"] | {"model_type": "brand_new"})
    assert "brand_new" in dense["note"] and "best effort" in dense["note"]
    assert int(census(fill(dense["architecture"])).n_params) == 70_553_706_496
    sparse = read(
        tmp_path,
        {k: v for k, v in CONFIGS["deepseek-v3"].items() if k != "quantization_config"} | {"model_type": "own_moe"},
    )
    assert int(census(fill(sparse["architecture"])).n_params) == 671_026_404_352


def test_unknown_family_with_unknown_layers_is_refused(tmp_path):
    text = messages(
        tmp_path,
        CONFIGS["llama-3.1-70b"] | {"model_type": "jamba9", "mamba_d_state": 16, "hybrid_override_pattern": "M*"},
    )
    assert "hybrid_override_pattern, mamba_d_state" in text and "by hand" in text


def test_every_missing_key_is_named_at_once(tmp_path):
    text = messages(tmp_path, {"model_type": "deepseek_v3", "hidden_size": 7168, "n_routed_experts": 256})
    for key in (
        "num_hidden_layers",
        "vocab_size",
        "num_attention_heads",
        "kv_lora_rank",
        "num_experts_per_tok",
        "moe_intermediate_size",
    ):
        assert key in text
    assert "missing keys" in messages(tmp_path, {}) and "hidden_size" in messages(tmp_path, {})


@pytest.mark.parametrize("value", ["many", 0, -4, 2.5, True, [32], float("nan")])
def test_wrong_values_are_named(value, tmp_path):
    assert "num_hidden_layers" in messages(tmp_path, CONFIGS["llama-3.1-70b"] | {"num_hidden_layers": value})


@pytest.mark.parametrize(
    "change",
    [
        {"layer_types": 3, "sliding_window": 128},
        {"quantization_config": {"config_groups": {"a": 3}}},
        {"num_attention_heads": None},
    ],
)
def test_odd_shapes_are_errors_not_crashes(change, tmp_path):
    assert messages(tmp_path, CONFIGS["llama-3.1-70b"] | {"use_sliding_window": True} | change)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"model_type": "llama",}', "\x00", "[" * 100_000])
def test_what_is_not_a_config(text, tmp_path):
    assert "config.json" in messages(tmp_path, text)


def test_no_file(tmp_path):
    with pytest.raises(SpecError, match=r"config\.json"):
        read_config(tmp_path)
    with pytest.raises(SpecError, match=r"absent\.json"):
        read_config(tmp_path / "absent.json")


# --- against transformers itself: shapes small enough to build in a moment, unlike any released model
SHAPE = dict(num_hidden_layers=4, hidden_size=96, num_attention_heads=6, num_key_value_heads=2, intermediate_size=80, vocab_size=211,
             head_dim=16, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2)  # fmt: skip
MOE = dict(num_experts=8, num_local_experts=8, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
           first_k_dense_replace=1, n_shared_experts=2, n_group=1, topk_group=1)  # fmt: skip
LATENT = dict(q_lora_rank=20, kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=10)
SMALL = {
    **{kind: {} for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "olmo3")},
    "mixtral": MOE, "olmoe": MOE, "minimax_m2": MOE, "gpt_oss": MOE,
    "qwen2_moe": MOE | {"shared_expert_intermediate_size": 40, "decoder_sparse_step": 2},
    "qwen3_moe": MOE | {"decoder_sparse_step": 2},
    "qwen3_next": MOE | DELTA | {"full_attention_interval": 4, "shared_expert_intermediate_size": 40},
    "qwen3_5_moe_text": MOE | DELTA | {"full_attention_interval": 4, "shared_expert_intermediate_size": 40},
    "deepseek_v2": MOE | LATENT, "deepseek_v3": MOE | LATENT,
    "deepseek_v32": MOE | LATENT | {"index_n_heads": 3, "index_head_dim": 8, "index_topk": 16},
    "glm_moe_dsa": MOE | LATENT | {"index_n_heads": 3, "index_head_dim": 8, "index_topk": 16},
    "glm4_moe": MOE | {"attention_bias": True, "use_qk_norm": True},
    "llama4_text": MOE | {"interleave_moe_layer_step": 2, "intermediate_size_mlp": 72},
    "gpt2": {"n_layer": 3, "n_embd": 96, "n_head": 6, "n_positions": 128, "n_ctx": 128, "n_inner": 200},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SMALL))
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_equal_those_of_transformers(kind, tied, tmp_path):
    torch = pytest.importorskip("torch")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    keys = (SHAPE if kind != "gpt2" else {"vocab_size": 211}) | SMALL[kind] | {"tie_word_embeddings": tied}
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(mapping[kind](**keys))
    model.tie_weights()
    theirs = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    ours = census(fill(read(tmp_path, keys | {"model_type": kind})["architecture"])).n_params
    assert int(ours) == theirs


def test_every_family_is_tested():
    tested = set(SMALL) | {keys.get("model_type") for keys in CONFIGS.values()}
    tested |= {keys["text_config"]["model_type"] for keys in CONFIGS.values() if "text_config" in keys}
    # the rest share every reader with a family that is tested
    assert set(FAMILIES) - tested == {"ministral", "gemma", "qwen3_5_text"}
