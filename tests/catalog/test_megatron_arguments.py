"""Files of Megatron-LM arguments: as scripts, texts and YAML; what is missing, misspelt or contradictory is said with its line."""

import pytest

from codesign import catalog
from codesign.physics.architecture import census, fill
from codesign.spec.errors import SpecError

QWEN3_4B = """--swiglu --num-layers 36 --hidden-size 2560 --ffn-hidden-size 9728 --num-attention-heads 32 --group-query-attention
--num-query-groups 8 --use-rotary-position-embeddings --disable-bias-linear --normalization "RMSNorm" --norm-epsilon 1e-6
--vocab-size 151936 --kv-channels 128 --qk-layernorm"""
# the 671B shape as recipes write it (arXiv 2412.19437, section 4.2)
DEEPSEEK = """#!/bin/bash
set -e
NUM_LAYERS=${NUM_LAYERS:-61}
HIDDEN=7168
MOE=2048
moe_options=" \\
    --num-experts 256 --moe-router-topk 8 --moe-ffn-hidden-size ${MOE} \\
    --moe-shared-expert-intermediate-size 2048 --moe-router-group-topk 4 --moe-router-num-groups 8 \\
    --moe-layer-freq '([0]*3+[1]*58)' "   # three dense layers
ARGS=(
    --num-layers "$NUM_LAYERS" --hidden-size=$HIDDEN --ffn-hidden-size 18432   # widths
    --multi-latent-attention --num-attention-heads 128 --kv-channels 128 --qk-layernorm --q-lora-rank 1536 --kv-lora-rank 512
    --qk-head-dim 128 --qk-pos-emb-head-dim 64 --v-head-dim 128
    --swiglu --disable-bias-linear --normalization RMSNorm --untie-embeddings-and-output-weights --position-embedding-type rope
    --vocab-size 129280 --mtp-num-layers 1 --seq-length 4096 --train-iters 1000 --global-batch-size 15360)
torchrun --nproc-per-node 8 pretrain_gpt.py "${ARGS[@]}" $moe_options
"""
YAML = """
ENV_VARS: {CUDA_DEVICE_MAX_CONNECTIONS: 1}
MODEL_ARGS:
  --num-layers: 32
  --hidden-size: 4096
  --ffn-hidden-size: 14336
  --num-attention-heads: 32
  --group-query-attention: true
  --num-query-groups: 8
  --swiglu: true
  --disable-bias-linear: true
  --untie-embeddings-and-output-weights: true
  --normalization: RMSNorm
  --position-embedding-type: rope
  --vocab-size: 128256
  --sequence-parallel: true
"""
NESTED = """
language_model:
  num_layers: 32
  hidden_size: 4096
  ffn_hidden_size: 14336
  num_attention_heads: 32
  num_query_groups: 8
  group_query_attention: true
  add_bias_linear: false
  activation_func: swiglu
  normalization: RMSNorm
  untie_embeddings_and_output_weights: true
  kv_channels: null
  multi_latent_attention: false
vocab_size: 128256
use_rotary_position_embeddings: true
"""


def load(folder, text, name="args.sh"):
    (folder / name).write_text(text)
    return catalog.load("models", folder / name)


@pytest.mark.parametrize(("text", "name", "model"), [
    (QWEN3_4B, "a.txt", "qwen3-4b"), (DEEPSEEK, "a.sh", "deepseek-v3"), (YAML, "a.yaml", "llama-3.1-8b"), (NESTED, "b.yaml", "llama-3.1-8b"),
])  # fmt: skip
def test_known_models_are_those_of_the_catalog(tmp_path, text, name, model):
    ours, theirs = census(fill(load(tmp_path, text, name)["architecture"])), census(fill(catalog.load("models", model)["architecture"]))
    for field in ("n_params", "n_active_params", "mtp_params"):
        assert float(getattr(ours, field)) == float(getattr(theirs, field)), field
    assert float(ours.full.kv_elems_per_tok) == float(theirs.full.kv_elems_per_tok)


def test_tokens_and_context_of_the_job(tmp_path):
    record = load(tmp_path, DEEPSEEK)
    assert record["training_tok"]["value"] == 1000 * 15360 * 4096 and record["context_tok"] == 4096
    assert load(tmp_path, QWEN3_4B)["training_tok"] is None


def test_defaults_are_those_of_megatron(tmp_path):
    a = load(tmp_path, "--num-layers 12 --hidden-size 768 --num-attention-heads 12 --vocab-size 50257 --max-position-embeddings 1024")[
        "architecture"
    ]
    assert a["d_ff"] == 4 * 768 and a["d_head"] == 64 and a["attention"] == "mha" and a["learned_positions"] == 1024
    assert a["tied_embeddings"] and a["norm_bias"] and a["ffn_bias"] and a["attention_bias"] and a["ffn_gated"] is False
    a = load(tmp_path, "--num-layers 12 --hidden-size 768 --num-attention-heads 12 --vocab-size 50257 --swiglu --num-experts 8")[
        "architecture"
    ]
    assert (a["d_expert"], a["n_active_experts"]) == (int(4 * 768 * 2 / 3) // 64 * 64, 2)


@pytest.mark.parametrize(("more", "said"), [
    ("--num-layer 32", "did you mean '--num-layers'?"),
    ("--hidden-size 8192", "several values: 2560 (line 1), 8192 (line 4)"),
    ("--multi-latent-attention", "contradicts --multi-latent-attention"),
    ("--moe-router-topk 4", "no meaning without --num-experts"),
    ("--num-experts 4 --moe-router-topk 8", "8 is more than the 4 experts"),
    ("--num-experts 8 --moe-layer-freq [0]*3+[1]*5", "is for 8 layers, and --num-layers is 36"),
    ("--num-experts 8 --moe-layer-freq exit(1)", "is no pattern of layers"),
    ("--num-experts 8 --moe-layer-freq ([1]*10+[0]*26)", "neither leading dense layers"),
    ("--window-size x", "is no window"),
    ("--squared-relu", "contradicts a gated activation"),
    ("--hybrid-attention-ratio 0.1", "is not modelled here"),
    ("--q-lora-rank $RANK --mtp-num-layers $N", "its variable has no value in this file"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, more, said):
    with pytest.raises(SpecError) as error:
        load(tmp_path, f"{QWEN3_4B}\n{more}")
    assert said in str(error.value) and "args.sh" in str(error.value)
    assert "args.sh:4" in str(error.value) or "args.sh:2" in str(error.value)


def test_all_problems_at_once(tmp_path):
    with pytest.raises(SpecError) as error:
        load(tmp_path, "--num-layers 3x --hidden-size 4096 --num-attention-heads 30 --num-query-groups 8")
    text = str(error.value)
    assert all(
        part in text for part in ("'3x' is not a whole number", "--vocab-size is missing", "30 heads do not divide", "4 problems in")
    )
    assert "without --group-query-attention" in text


@pytest.mark.parametrize("text", ("", "#!/bin/sh\nls\n", "--save 'unclosed"))
def test_a_file_without_arguments(tmp_path, text):
    with pytest.raises(SpecError, match=r"holds no Megatron-LM arguments|cannot be split"):
        load(tmp_path, text)


def test_a_study_takes_it_as_its_base(tmp_path):
    import studies
    from codesign.physics import architecture

    (tmp_path / "mine.sh").write_text(QWEN3_4B)
    resolved = studies.study(tmp_path, {"base": {"model": "mine.sh"}, "space": {"precision.weight_bits": [8, 16]}})
    assert resolved.model["name"] == "mine" and resolved.setting.base["architecture.n_layers"] == 36
    assert architecture.DEFAULTS.keys() >= resolved.model["architecture"].keys()
