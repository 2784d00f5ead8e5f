"""Megatron-LM and torchtitan: every count is the design's and multiplied once; what they cannot express is refused."""

import argparse
import ast
import dataclasses
import math
import re
import tomllib

import launched
import plans
import pytest
from test_export_hf import CASES, shape_of
from test_training_plan import points

import studies
from codesign import export
from codesign.export import hf, megatron, torchtitan
from codesign.export._subject import subject
from codesign.run import run
from codesign.spec import yamlio
from codesign.spec.errors import UserError


def exported(kind, target, n=5):
    """[(point, plan, files)]; points that the target refuses are left out."""
    study, found = plans.searched(kind)
    out = []
    for i in points(kind, n):
        plan = yamlio.parse(export.export("training-plan", study, found, i)["training-plan.yaml"]).data
        try:
            out.append((found.point(i), plan, export.export(target, study, found, i)))
        except UserError as error:
            assert target == "torchtitan" and "hint" in str(error)
    return out


@pytest.mark.parametrize("kind", plans.KINDS)
def test_megatron_equals_the_design(kind):
    rows = exported(kind, "megatron")
    assert rows
    for point, plan, files in rows:
        text, job, rate = files["megatron.sh"], plan["training"], plan["learning_rate"]
        o, n = launched.options(text, launched.MEGATRON), launched.counts(text)
        stage = o.tensor_model_parallel_size * o.context_parallel_size
        n_dp = n["n_devices"] // (stage * o.pipeline_model_parallel_size)
        assert n["n_devices"] == point["train.n_devices"] and n_dp == point["train.n_dp"] == n["n_dp"]
        assert o.global_batch_size == o.micro_batch_size * n_dp * job["n_micro_batches_per_step"] == job["global_batch_seq"]
        ep, etp = o.expert_model_parallel_size or 1, o.expert_tensor_parallel_size or 1
        assert (o.tensor_model_parallel_size, ep) == (job["n_tp"], job["n_ep"])
        assert stage * n_dp == etp * ep * n["n_edp"] or not o.num_experts
        words = launched.words(text)
        assert int(words[words.index("--nnodes") + 1]) * int(words[words.index("--nproc-per-node") + 1]) == n["n_devices"]
        assert (o.train_iters, o.lr_decay_iters, o.lr_warmup_iters) == (plan["pretraining"]["n_steps"],) * 2 + (rate["warmup_steps"],)
        assert o.train_iters * o.global_batch_size * o.seq_length == pytest.approx(plan["tokens"]["processed_tok"], rel=1e-4)
        assert o.lr == pytest.approx(rate["peak"], rel=1e-3) and o.lr_wsd_decay_iters == rate["cooldown_steps"]
        assert o.save_interval == plan["checkpoints"]["checkpoint_interval_steps"]
        assert (o.recompute_granularity or "none") == job["recompute"]
        assert bool(o.fp8_format) == (plan["precision"]["train_bits"] == 8) and o.bf16
        assert (o.use_distributed_optimizer, o.use_megatron_fsdp) == (job["zero_stage"] == 1, job["zero_stage"] > 1)
        connections = int(re.search(r"CUDA_DEVICE_MAX_CONNECTIONS=(\d+)", text)[1])
        assert launched.megatron_refuses(o, n["n_devices"], connections) == []
        padded = o.make_vocab_size_divisible_by * o.tensor_model_parallel_size
        assert o.vocab_size % padded == 0  # nothing is padded, so nothing is added


@pytest.mark.parametrize("kind", plans.KINDS)
def test_megatron_parameters(kind):
    """The sum of the tensors that these options make is the design's parameter count."""
    for point, _, files in exported(kind, "megatron"):
        o = launched.options(files["megatron.sh"], launched.MEGATRON)
        assert by_hand(o) == point["n_params"]


def by_hand(o):
    d, heads = o.hidden_size, o.num_attention_heads
    if o.multi_latent_attention:
        q = d * o.q_lora_rank + o.q_lora_rank + o.q_lora_rank * heads * (o.qk_head_dim + o.qk_pos_emb_head_dim)
        kv = d * (o.kv_lora_rank + o.qk_pos_emb_head_dim) + o.kv_lora_rank + o.kv_lora_rank * heads * (o.qk_head_dim + o.v_head_dim)
        attention = q + kv + heads * o.v_head_dim * d
    else:
        groups = o.num_query_groups or heads
        attention = d * o.kv_channels * (heads + 2 * groups) + heads * o.kv_channels * d + (2 * o.kv_channels if o.qk_layernorm else 0)
    dense = 3 * d * o.ffn_hidden_size
    moe = (
        0
        if not o.num_experts
        else 3 * d * (o.num_experts * o.moe_ffn_hidden_size + (o.moe_shared_expert_intermediate_size or 0)) + d * o.num_experts
    )
    layers = [bool(o.num_experts)] * o.num_layers if not o.moe_layer_freq else spread(o.moe_layer_freq)
    assert len(layers) == o.num_layers
    tables = o.vocab_size * d * (2 if o.untie_embeddings_and_output_weights else 1)
    return tables + d + sum(attention + 2 * d + (moe if is_moe else dense) for is_moe in layers)


def spread(expression):
    """Megatron-LM evaluates it; here its parts are multiplied out."""
    return [flag for part in expression.split("+") for flag in ast.literal_eval(part.split("*")[0]) * int(part.split("*")[1])]


def test_the_stand_in_for_megatron_refuses():
    """It would notice: an option that is none, a choice or a type that is not Megatron-LM's, sizes that its checks refuse."""
    found = plans.searched("dense")
    text = export.export("megatron", *found, points("dense", 1)[0])["megatron.sh"]
    o = launched.options(text, launched.MEGATRON)
    for bad in ("--num-layerz 1", "--lr-decay-style wsd", "--num-layers 1.5", "--window-size a,b"):
        changed = text.replace("    # attention\n", f"    # attention\n    {bad}\n", 1)
        with pytest.raises((argparse.ArgumentError, SystemExit)):
            launched.options(changed, launched.MEGATRON)
    n = launched.counts(text)["n_devices"]
    assert launched.megatron_refuses(o, n, 1) == launched.megatron_refuses(o, n, 32) or o.tensor_model_parallel_size > 1
    o.global_batch_size += 1
    assert launched.megatron_refuses(o, n, 1) == ["batch"]


def test_stages_and_patterns():
    for n_layers, n_chunks in ((61, 8), (7, 3), (5, 5), (48, 32)):
        parts = megatron.stages(n_layers, n_chunks).removeprefix("E").removesuffix("L").split("|")
        sizes = [int(part.removeprefix("t*")) for part in parts]
        assert len(parts) == n_chunks and sum(sizes) == n_layers and max(sizes) == math.ceil(n_layers / n_chunks)
    assert spread(megatron.pattern([False, True, True, False])) == [0, 1, 1, 0]
    a = shape_of(CASES["qwen3 moe every"][1])
    assert sum(megatron._moe_layers(a)) == 3 and not megatron._moe_layers(a)[0]
    o = launched.parser(launched.MEGATRON).parse_args(
        [str(w) for option in megatron._attention(shape_of(CASES["gpt-oss windows"][1])) for w in option]
    )
    assert o.window_size == "63,0" and spread(o.window_attn_skip_freq) == [1, 0, 1, 0, 1, 0] and o.softmax_type == "learnable"


@pytest.mark.parametrize("kind", plans.KINDS)
def test_torchtitan_equals_the_design(kind):
    for point, plan, files in exported(kind, "torchtitan"):
        assert set(files) == {"torchtitan.toml", "torchtitan_flavor.py"}
        config, job, n = tomllib.loads(files["torchtitan.toml"]), plan["training"], launched.counts(files["torchtitan.toml"])
        at, batch = config["parallelism"], config["training"]
        n_dp = at["data_parallel_replicate_degree"] * at["data_parallel_shard_degree"]
        stage = n_dp * at["context_parallel_degree"] * at["tensor_parallel_degree"]
        assert stage * at["pipeline_parallel_degree"] == n["n_devices"] == point["train.n_devices"]
        assert stage // (at["expert_parallel_degree"] * at["expert_tensor_parallel_degree"]) == point["train.n_edp"]
        accumulated = batch["global_batch_size"] // (batch["local_batch_size"] * n_dp)
        inside = batch["local_batch_size"] // at.get("pipeline_parallel_microbatch_size", batch["local_batch_size"])
        assert accumulated * inside == job["n_micro_batches_per_step"] and batch["global_batch_size"] == job["global_batch_seq"]
        assert batch["steps"] == plan["pretraining"]["n_steps"] and batch["seq_len"] == job["seq_tok"]
        assert config["activation_checkpoint"]["mode"] == job["recompute"]
        assert bool(config["model"]["converters"]) == (plan["precision"]["train_bits"] == 8)
        assert config["lr_scheduler"]["decay_ratio"] * batch["steps"] == pytest.approx(plan["learning_rate"]["cooldown_steps"])
        assert config["optimizer"]["lr"] == plan["learning_rate"]["peak"]
        assert config["checkpoint"]["interval"] == plan["checkpoints"]["checkpoint_interval_steps"]


def test_torchtitan_flavor_names_the_dimensions():
    study, found = plans.searched("dense")
    s = subject(study, found, points("dense", 1)[0])
    tree = ast.parse(torchtitan._flavor(s, torchtitan.RECIPES[0]))
    call = tree.body[-1].value
    keys = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    width = keys["multiple_of"] * math.ceil(int(keys["ffn_dim_multiplier"] * int(8 * keys["dim"] / 3)) / keys["multiple_of"])
    assert width == s.shape["d_ff"] and keys["dim"] == s.shape["d_model"] and keys["n_layers"] == s.shape["n_layers"]
    assert {type(node).__name__ for node in tree.body} == {"Expr", "ImportFrom", "Assign"}


@pytest.mark.parametrize("name", ["gpt-oss", "ministral", "qwen2", "glm", "deepseek sparse", "deepseek biases, mtp"])
def test_torchtitan_refuses_what_its_recipes_have_not(name):
    study, found = plans.searched("dense")
    s = subject(study, found, points("dense", 1)[0])
    s.__dict__["shape"] = shape_of(CASES[name][1])
    with pytest.raises(UserError, match="cannot express") as error:
        torchtitan._recipe(s, {"n_pp": 1})
    assert "export to megatron" in str(error.value)


@pytest.mark.parametrize(("changes", "feature"), [
    ({"n_pp": 2}, "pipeline stages"), ({"tied": 1, "n_pp": 2}, "pipeline stages|tied embeddings"),
])  # fmt: skip
def test_torchtitan_recipes_and_pipelines(changes, feature):
    study, found = plans.searched("dense")
    s = subject(study, found, points("dense", 1)[0])
    tied = {"tied_embeddings": changes.get("tied", 0)}
    s.__dict__["shape"] = shape_of((CASES["qwen3 moe"][1] if not tied["tied_embeddings"] else CASES["llama"][1]) | tied)
    with pytest.raises(UserError, match=feature):
        torchtitan._recipe(s, {"n_pp": changes["n_pp"]})
    assert torchtitan._recipe(s, {"n_pp": 1}).name == "qwen3"


def test_recipes_by_shape():
    study, found = plans.searched("dense")
    s = subject(study, found, points("dense", 1)[0])
    for name, recipe in (
        ("llama", "llama3"),
        ("llama wide heads", "qwen3"),
        ("qwen3", "qwen3"),
        ("qwen3 moe", "qwen3"),
        ("deepseek full query", "deepseek_v3"),
    ):
        s.__dict__["shape"] = shape_of(CASES[name][1])
        assert torchtitan._recipe(s, {"n_pp": 1}).name == recipe


@pytest.mark.parametrize("target", ["megatron", "torchtitan"])
@pytest.mark.parametrize(("architecture", "feature"), [({"norms_per_layer": 4}, "norms_per_layer"), ({"output_gate": 1}, "output_gate")])
def test_shapes_that_are_refused(target, architecture, feature, tmp_path):
    space = {"architecture.n_layers": [24]} | {f"architecture.{key}": [value] for key, value in architecture.items()}
    study = studies.study(tmp_path, plans.DENSE | {"space": space})
    found = run(study, tmp_path / "run")
    with pytest.raises(UserError, match=feature):
        export.export(target, study, found, int(found.front["id"].iloc[0]))


def test_layouts_that_are_refused():
    study, found = plans.searched("dense")
    s = subject(study, found, points("dense", 1)[0])
    job = {"n_tp": 2, "n_cp": 1, "n_pp": 2, "n_ep": 1, "n_etp": 1, "n_dp": 4, "zero_stage": 3, "n_interleave": 1}
    assert ["ZeRO stage 3" in text for text, _ in megatron._unlaid(s, job)] == [True]
    assert megatron._unlaid(s, job | {"n_pp": 1}) == []
    assert ["whole replicas" in text for text, _ in torchtitan._unlaid(s, job | {"zero_stage": 0})] == [True]
    moe = dataclasses.replace(s)
    moe.__dict__["shape"] = shape_of(CASES["qwen3 moe"][1])
    assert ["whole experts" in text for text, _ in torchtitan._unlaid(moe, job)] == [True]
    assert ["inside experts" in text for text, _ in torchtitan._unlaid(moe, job | {"n_ep": 2, "n_etp": 2})] == [True]


@pytest.mark.parametrize("target", ["megatron", "torchtitan"])
def test_hostile_names(target):
    study, found = plans.searched("hostile")
    named = dataclasses.replace(study, file=study.file.model_copy(update={"name": plans.HOSTILE + '"""\nimport os'}))
    point = points("hostile", 1)[0]
    files, plain = (export.export(target, x, found, point) for x in (named, study))
    for name, text in files.items():
        assert len(text.splitlines()) == len(plain[name].splitlines())
        if name.endswith(".toml"):
            mine = tomllib.loads(text)
            assert mine | {"job": None} == tomllib.loads(plain[name]) | {"job": None}
        elif name.endswith(".sh"):
            assert launched.words(text) == launched.words(plain[name])
        else:
            assert text == plain[name]


def test_optuna_storage_opens(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    from codesign.results import JOURNAL

    study, found = plans.searched("moe")
    point = points("moe", 1)[0]
    files = export.export("optuna", study, found, point)
    assert set(files) == {JOURNAL, "optuna.md"}
    export.write(files, tmp_path)
    opened = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL))))
    design = int(found.point(point)["design_id"])
    assert any(t.user_attrs["design_id"] == design for t in opened.trials) and f"== {design})" in files["optuna.md"]
    gone = dataclasses.replace(found, path=tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read"):
        export.export("optuna", study, gone, point)


def test_every_feature_has_a_name():
    assert set(hf.FEATURES) >= megatron.HAS
    named = set(hf.FEATURES) | set(torchtitan.OWN)
    for recipe in torchtitan.RECIPES:
        assert recipe.always | recipe.maybe <= named and {f"no {name}" for name in recipe.always} <= set(torchtitan.OWN)
