"""Parameter, cache and FLOP counts: against released checkpoints, by hand, and by their own identities."""

import doctest
import importlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from codesign.physics import attention
from codesign.physics.architecture import (
    DEFAULTS,
    census,
    fill,
    index_bytes_per_tok,
    kv_bytes_per_tok,
    kv_bytes_per_tok_layer,
    problems,
)

MODELS = Path(__file__).parents[2] / "codesign" / "catalog" / "models"

# parameters() of the `transformers` 5.23.0 classes on the meta device, full-size configs
EXACT = {
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "qwen3.5-397b-a17b": 396_346_350_336,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v3": 671_026_404_352,
    "deepseek-v3.2": 671_877_929_216,
    "moonlight-16b-a3b": 15_960_108_544,
    "glm-5": 743_911_199_232,
    "glm-4.5": 352_797_814_784,
    "glm-4.5-air": 106_852_245_504,
    "gpt-oss-120b": 116_829_156_672,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-27b": 27_009_002_240,
    "phi-3-mini-4k": 3_821_079_552,
    "olmo-2-7b": 7_298_617_344,
    "olmo-3-32b": 32_234_279_936,
    "olmoe-1b-7b": 6_919_161_856,
    "minimax-m2": 228_689_748_992,
    "minimax-text-01": 456_089_655_296,
    "llama-4-maverick-17b-128e": 400_711_848_960,
    "nemotron-h-8b": 8_100_852_736,
    "nemotron-3-nano-30b-a3b": 31_577_937_344,
}
DENSE = dict(n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, d_ff=14336, vocab=128256)
V3 = dict(
    n_layers=61, d_model=7168, vocab=129280, attention="mla", n_heads=128, q_lora_rank=1536, kv_lora_rank=512,
    d_head_nope=128, d_head_rope=64, d_head_v=128, d_ff=18432, n_dense_layers=3, n_experts=256, n_active_experts=8,
    d_expert=2048, n_shared_experts=1, n_mtp_layers=1,
)  # fmt: skip


def architecture(name: str) -> dict:
    return fill(yaml.safe_load((MODELS / f"{name}.yaml").read_text())["architecture"])


@pytest.mark.parametrize("name", EXACT)
def test_total_equals_the_checkpoint(name):
    assert int(census(architecture(name)).n_params) == EXACT[name]


def test_one_known_difference():
    # MiMo has sinks in its 39 window layers only; a flag cannot say so: 9 layers x 64 heads too many
    assert int(census(architecture("mimo-v2-flash")).n_params) == 308_778_768_832 + 9 * 64


def test_parts_add_up_to_the_whole():
    for name in (
        "deepseek-v3",
        "gemma-3-27b",
        "qwen3-next-80b-a3b",
        "nemotron-3-super-120b-a12b",
        "gpt-3-175b",
    ):
        arch = architecture(name)
        c = census(arch)
        mixers = sum(m.n_layers * (m.params_tp + m.params_kv + m.params_rep) for m in (c.full, c.window, c.linear))
        moe = c.ffn.n_experts * c.ffn.expert_params + c.ffn.shared_params + c.ffn.router_params + c.ffn.latent_params
        ffn = c.ffn.n_dense_layers * c.ffn.dense_params + c.ffn.n_moe_layers * moe
        norms = (c.ffn.n_dense_layers + c.ffn.n_moe_layers) * c.ffn.norm_params
        final = c.d_model * (1 + arch["norm_bias"])
        positions = arch["learned_positions"] * c.d_model
        tables = c.embedding_params * (2 - arch["tied_embeddings"])
        assert mixers + ffn + norms + final + positions + tables == c.n_params, name


def test_active_conventions():
    c = census(fill(V3))
    assert c.n_active_params == c.n_params - 58 * (256 - 8) * 3 * 7168 * 2048
    assert c.n_active_params - c.n_active_params_excl_in == 129280 * 7168
    assert c.n_active_params_excl_in - c.n_active_params_excl_both == 129280 * 7168
    tied = census(fill(DENSE | {"tied_embeddings": True}))
    assert tied.n_active_params - tied.n_active_params_excl_in == 128256 * 4096
    assert tied.n_active_params_excl_in == tied.n_active_params_excl_both
    assert tied.head_params == tied.embedding_params


def test_matmul_params_leave_out_tables_norms_and_biases():
    c = census(fill(DENSE))
    assert c.n_matmul_params_per_tok == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert c.norm_params == 65 * 4096
    assert c.n_active_params_excl_both == c.n_matmul_params_per_tok + c.norm_params
    biased = census(fill(DENSE | {"attention_bias": True, "ffn_bias": True}))
    assert biased.n_matmul_params_per_tok == c.n_matmul_params_per_tok
    assert biased.n_params - c.n_params == 32 * (4096 + 2 * 1024 + 2 * 14336 + 4096)


def test_mtp_module_is_counted_apart():
    # arXiv 2412.19437: one MTP module of DeepSeek-V3 has 11.5e9 parameters of its own (14e9 with the shared tables)
    c = census(fill(V3))
    assert 11.4e9 < float(c.mtp_params) < 11.7e9
    assert c.n_params == census(fill(V3 | {"n_mtp_layers": 0})).n_params
    assert c.mtp_active_params == c.mtp_params - (256 - 8) * 3 * 7168 * 2048


def test_cache_bytes():
    latent = census(fill(V3))
    assert kv_bytes_per_tok(latent, np.array([16, 8])).tolist() == [61 * 1152, 61 * 656]
    grouped = census(fill(DENSE))
    assert kv_bytes_per_tok(grouped, np.array([16, 8, 4])).tolist() == [
        32 * 4096,
        32 * 2048,
        32 * 2048 * 4.5 / 8,
    ]
    gemma = architecture("gemma-2-9b")
    assert kv_bytes_per_tok(census(gemma), 16) == 42 * 2 * 8 * 256 * 2  # window layers included
    assert kv_bytes_per_tok_layer(census(architecture("mimo-v2-flash")).window, 16) == 8 * (192 + 128) * 2


def test_sparse_indexer():
    c = census(architecture("deepseek-v3.2"))
    assert c.full.span_tok == 2048
    assert c.full.index_flop_per_pair == 2 * 64 * 128
    assert index_bytes_per_tok(c) == 61 * 132
    assert kv_bytes_per_tok(c, 16) == 61 * 1152
    assert index_bytes_per_tok(census(fill(V3))) == 0


def test_mla_decode_intensity_of_the_design_page():
    # FLOP per cached 16-bit byte with 128 heads: 2 x 128 x 1088 / 1152 = 242
    m = census(fill(V3)).full
    assert round(float(m.flop_per_pair_decode / (2 * m.kv_elems_per_tok))) == 242
    assert m.kv_shards == 1


def test_window_layers():
    arch = fill(dict(n_layers=48, d_model=4096, n_heads=64, n_kv_heads=4, n_window_kv_heads=8, d_head=192, d_head_v=128,
                     window_tok=128, n_full_layers=9, vocab=1, d_ff=1))  # fmt: skip
    c = census(arch)
    assert (c.full.n_layers, c.window.n_layers) == (9, 39)
    assert (c.full.kv_shards, c.window.kv_shards) == (4, 8)
    assert (c.full.span_tok, c.window.span_tok) == (np.inf, 128)
    every = fill(DENSE | {"window_tok": 512, "global_every": np.array([0, 1, 4, 6])})
    assert every["n_full_layers"].tolist() == [0, 32, 8, 5]


def test_mixed_batch_equals_single_designs():
    kinds = np.array(["gqa", "mla", "mha", "mqa", "gqa"])
    linear = np.array(["none", "none", "gated_deltanet", "mamba2", "kda"])
    d_model = np.array([4096, 5120, 2048, 4096, 8192])
    batch = DENSE | dict(
        attention=kinds, linear_attention=linear, n_linear_layers=np.array([0, 0, 24, 8, 16]), d_model=d_model, window_tok=512,
        global_every=4, d_head=128, qk_norm=np.array([0, 1, 0, 1, 0]), n_experts=np.array([0, 64, 0, 8, 0]), n_active_experts=4,
        d_expert=1024,
    )  # fmt: skip
    together = census(fill(batch))
    for i in range(5):
        one = {k: v[i] if isinstance(v, np.ndarray) else v for k, v in batch.items()}
        alone = census(fill(one))
        assert together.n_params[i] == alone.n_params
        assert together.n_matmul_params_per_tok[i] == alone.n_matmul_params_per_tok
        for part in ("full", "window", "linear", "ffn"):
            for f in fields(getattr(alone, part)):
                value = getattr(getattr(together, part), f.name)
                value = value if value.ndim == 0 else value[i]
                assert value == getattr(getattr(alone, part), f.name), (part, f.name, i)


def test_shapes_broadcast_and_rows_are_taken():
    column = census(fill(DENSE | {"d_model": np.array([[4096], [8192]]), "attention": np.array([["gqa"], ["mla"]])}))
    assert column.n_params.shape == (2, 1)
    flat = census(fill(DENSE | {"d_model": np.array([2048, 4096, 8192])}))
    taken = flat.take(np.array([2, 0]))
    assert taken.n_params.tolist() == flat.n_params[[2, 0]].tolist()
    assert taken.full.params_kv.tolist() == flat.full.params_kv[[2, 0]].tolist()
    assert float(taken.vocab) == 128256


def test_every_field_is_a_float_array():
    c = census(fill(V3))
    for part in (c, c.full, c.window, c.linear, c.ffn):
        for f in fields(part):
            value = getattr(part, f.name)
            if f.name not in ("full", "window", "linear", "ffn"):
                assert isinstance(value, np.ndarray) and value.dtype == float, f.name


def test_fill_derives_and_is_idempotent():
    for arch in (V3, DENSE, {"attention": "mha", "n_heads": 12, "d_model": 768, "n_layers": 12}):
        once = fill(arch)
        assert set(DEFAULTS) <= set(once)
        twice = fill(once)
        for key, value in once.items():
            assert np.array_equal(value, twice[key]), key
    assert fill({"n_heads": 32, "d_model": 4096})["d_head"] == 128
    assert fill(V3)["d_head"] == 192 and fill(V3)["n_kv_heads"] == 128
    assert fill(V3 | {"attention": "gqa", "n_kv_heads": 8})["d_head"] == 128  # the width of the value heads
    assert fill(DENSE | {"attention": "mla"})["kv_lora_rank"] == 512
    with pytest.raises(KeyError, match="n_lyers"):
        fill({"n_lyers": 3})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"n_kv_heads": 7}, "n_heads is not a multiple of n_kv_heads"),
        ({"d_head": 0, "d_model": 1000}, "d_head is not a whole number"),
        (
            {"n_experts": 8, "n_active_experts": 9, "d_expert": 8},
            "n_active_experts must lie between 1 and n_experts",
        ),
        ({"n_experts": 8, "n_active_experts": 1}, "experts need a d_expert"),
        ({"n_linear_layers": 8}, "n_linear_layers need a linear_attention"),
        (
            {"n_linear_layers": 40, "linear_attention": "kda"},
            "n_linear_layers + n_attention_layers exceed n_layers",
        ),
        ({"window_tok": 128, "n_full_layers": 40}, "n_full_layers exceed the attention layers"),
        ({"d_ff": 0}, "dense layers need a d_ff"),
        ({"index_topk_tok": 2048}, "index_topk_tok needs index_heads and index_dim"),
        ({"n_dense_layers": 33}, "n_dense_layers exceed n_ffn_layers"),
        ({"n_layers": 0}, "n_layers, d_model, n_heads and vocab must be at least 1"),
    ],
)
def test_structural_problems(change, rule):
    assert not any(mask.any() for mask in problems(fill(DENSE)).values())
    assert problems(fill(DENSE | change))[rule].all()


@pytest.mark.parametrize("kind", attention.kinds())
def test_every_kind_in_the_folder(kind):
    module = attention.module(kind)
    assert module.__doc__ and "arXiv" in module.__doc__
    state = module.STATE
    keys = {"linear_attention": kind, "n_linear_layers": 8} if state else {"attention": kind}
    small, large = fill(DENSE | keys), fill(DENSE | keys | {"d_model": 8192, "d_head": 256})
    m = module.mixer(small, window=False)
    bigger = module.mixer(large, window=False)
    for f in fields(m):
        value = getattr(m, f.name)
        assert value >= 0 and (np.isfinite(value) or f.name == "span_tok"), f.name
    params = m.params_tp + m.params_kv + m.params_rep
    assert params == np.floor(params) and params >= m.matmul_params > 0
    assert bigger.matmul_params > m.matmul_params
    assert (m.kv_elems_per_tok > 0) != state
    assert not state or m.state_bytes > 0
    assert m.kv_elems_per_tok == m.kv_elems_quantised + m.kv_elems_16bit
    assert m.n_gemm >= 2


def test_kinds_are_told_apart():
    assert set(attention.kinds(state=True)) == {"gated_deltanet", "mamba2", "lightning", "kda"}
    assert {"gqa", "mha", "mqa", "mla"} <= set(attention.kinds(state=False))
    with pytest.raises(KeyError, match=r"known: .*gqa"):
        attention.module("no_such_kind")


@pytest.mark.parametrize("name", ["architecture", "attention", *(f"attention.{kind}" for kind in attention.kinds())])
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(f"codesign.physics.{name}"))
    assert result.failed == 0 and result.attempted > 0
