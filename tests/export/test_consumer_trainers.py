"""transformers, torchtitan and Megatron-LM's core build the exported model without a GPU and count our parameters.  Run by `.ci/extra`.

Megatron-LM's command line (megatron/training) is in its repository alone, not in the package `megatron-core`; what the package has
are the configurations that those options fill and the model, so these are what is checked here.
"""

import ast
import dataclasses
import importlib
import json
import os
import sys

import accepted
import launched
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: .ci/extra installs it")


def n_parameters(model) -> int:
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def test_transformers_counts_our_parameters(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: .ci/extra installs it")
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    seen = set()
    for point, files in accepted.exports("hf"):
        keys = json.loads(files["config.json"])
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(mapping[keys["model_type"]](**keys))
        model.tie_weights()
        assert n_parameters(model) == point["n_params"]
        seen.add((point["id"], point["n_params"]))
    assert len(seen) >= accepted.N_DESIGNS


# ---- torchtitan --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def titan(tmp_path, monkeypatch):
    """Its configuration manager, in a folder that its `custom_import` can import from."""
    found = pytest.importorskip("torchtitan.config", reason="torchtitan 0.2 is not installed: .ci/extra installs it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return found


def read_by_torchtitan(titan, files, folder):
    """(its configuration, the model of our flavor on the meta device)."""
    from torchtitan.protocols.train_spec import get_train_spec

    accepted.put(files, folder)
    config = titan.ConfigManager().parse_args(["--job.config_file", str(folder / "torchtitan.toml")])
    sys.modules.pop("torchtitan_flavor", None)
    importlib.import_module(config.experimental.custom_import)
    spec = get_train_spec(config.model.name)
    arguments = spec.model_args[config.model.flavor]
    arguments.update_from_config(config)
    with torch.device("meta"):
        return config, spec.model_cls(arguments)


def test_torchtitan_takes_ten_designs(titan, tmp_path):
    from torchtitan.distributed.parallel_dims import ParallelDims

    seen = set()
    for point, files in accepted.exports("torchtitan"):
        config, model = read_by_torchtitan(titan, files, tmp_path)
        assert n_parameters(model) == point["n_params"]
        at = config.parallelism
        ParallelDims(
            at.data_parallel_replicate_degree, at.data_parallel_shard_degree, at.context_parallel_degree, at.tensor_parallel_degree,
            at.pipeline_parallel_degree, at.expert_parallel_degree, at.expert_tensor_parallel_degree, int(point["train.n_devices"]),
        )  # fmt: skip
        seen.add((point["id"], files["torchtitan.toml"]))
    assert len(seen) >= accepted.N_DESIGNS


# ---- Megatron-LM -------------------------------------------------------------------------------------------------------------------

RENAMED = {"num_experts": "num_moe_experts", "fp8_format": "fp8"}
SWITCHES = ("swiglu", "disable_bias_linear", "group_query_attention", "untie_embeddings_and_output_weights")
OF_THE_SCRIPT = {  # options of pretrain_gpt.py that no configuration of the core holds
    "vocab_size", "make_vocab_size_divisible_by", "position_embedding_type", "num_virtual_stages_per_pipeline_rank", "micro_batch_size",
    "global_batch_size", "seq_length", "max_position_embeddings", "ckpt_format", "train_iters", "lr_decay_style", "lr_wsd_decay_style",
    "lr_warmup_iters", "lr_decay_iters", "lr_wsd_decay_iters", "save", "load", "save_interval", "async_save", "data_path", "split",
    "tokenizer_type", "tokenizer_model", "use_megatron_fsdp", *SWITCHES,
}  # fmt: skip


@pytest.fixture(scope="module")
def core():
    """One process that stands for a rank, with everything that asks for a CUDA device or Transformer Engine answered."""
    pytest.importorskip("megatron.core", reason="megatron-core is not installed: .ci/extra installs it")
    from megatron.core import parallel_state
    from megatron.core.transformer import multi_latent_attention
    from megatron.core.transformer.moe import grouped_gemm_util

    patch = pytest.MonkeyPatch()
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": "29577", "RANK": "0", "WORLD_SIZE": "1"}.items():
        patch.setenv(name, value)
    patch.setattr(torch.cuda, "current_device", lambda: "meta")
    patch.setattr(grouped_gemm_util, "assert_grouped_gemm_is_available", lambda: None)
    patch.setattr(torch.cuda, "Stream", lambda *_, **__: None)
    patch.setattr(multi_latent_attention, "TELinear", torch.nn.Identity)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    yield importlib.import_module("megatron.core")
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()
    patch.undo()


def fields(o) -> dict:
    """Fields of the core's configuration from options: what Megatron-LM's core_transformer_config_from_args does."""
    outside = OF_THE_SCRIPT if o.multi_latent_attention else {*OF_THE_SCRIPT, "rotary_base"}  # elsewhere it goes to the model itself
    given = {RENAMED.get(k, k): v for k, v in vars(o).items() if v not in (None, False) and k not in outside}
    given |= {key: [int(n) for n in given[key].split(",")] for key in ("window_size",) if key in given}
    given |= {key: spread(given[key]) for key in ("moe_layer_freq", "window_attn_skip_freq") if key in given}
    given |= {"gated_linear_unit": o.swiglu, "activation_func": torch.nn.functional.silu if o.swiglu else torch.nn.functional.gelu}
    given |= {"add_bias_linear": not o.disable_bias_linear, "num_query_groups": o.num_query_groups or o.num_attention_heads}
    return given | {"pipeline_dtype": torch.bfloat16}


def spread(expression: str) -> list[int]:
    parts = (part.split("*") for part in expression.split("+"))
    return [flag for flags, n in parts for flag in ast.literal_eval(flags) * int(n)]


class NoCore(torch.nn.Module):
    """Attention itself has no parameters; the core's own version of it for MLA needs Transformer Engine."""

    def __init__(self, *_, **__):
        super().__init__()


def built(config, o):
    """The whole model on one rank, on the meta device."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec

    spec = get_gpt_decoder_block_spec(config, use_transformer_engine=False)
    for layer in spec.layer_specs:
        layer.submodules.self_attention.submodules.core_attention = NoCore
    with torch.device("meta"):
        return GPTModel(
            config, spec, vocab_size=o.vocab_size, max_sequence_length=o.max_position_embeddings,
            position_embedding_type=o.position_embedding_type,
            share_embeddings_and_output_weights=not o.untie_embeddings_and_output_weights,
        )  # fmt: skip


ON_ONE_RANK = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size", "expert_model_parallel_size",
               "expert_tensor_parallel_size", "sequence_parallel", "pipeline_model_parallel_layout", "pipeline_dtype",
               "mtp_num_layers")  # fmt: skip


def test_megatron_core_takes_ten_designs(core):
    """Its configuration accepts shape, layout and recomputation together; the model that it builds has our parameters."""
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig
    from megatron.core.transformer.transformer_config import MLATransformerConfig, TransformerConfig

    elsewhere = {f.name for kind in (DistributedDataParallelConfig, OptimizerConfig) for f in dataclasses.fields(kind)}
    seen = set()
    for point, files in accepted.exports("megatron"):
        o = launched.options(files["megatron.sh"], launched.MEGATRON)
        kind = MLATransformerConfig if o.multi_latent_attention else TransformerConfig
        own = {f.name for f in dataclasses.fields(kind)}
        given = fields(o)
        assert set(given) <= own | elsewhere, "an option that no configuration knows"
        given = {k: v for k, v in given.items() if k in own}
        assert kind(**given).num_layers == o.num_layers
        whole = {k: v for k, v in given.items() if k not in ON_ONE_RANK}
        model = built(kind(**whole, use_cpu_initialization=True, perform_initialization=False), o)
        assert n_parameters(model) == point["n_params"]
        seen.add((point["id"], files["megatron.sh"]))
    assert len(seen) >= accepted.N_DESIGNS


os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
