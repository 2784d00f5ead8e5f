"""Serve commands: every count is the design's and multiplied once, limits are per rank where the engine's are, names stay words."""

import dataclasses
import json
import math
import subprocess

import launched
import plans
import pytest
from test_training_plan import points

import studies
from codesign import export
from codesign.export import _serving
from codesign.run import run
from codesign.spec import yamlio
from codesign.spec.errors import UserError

ENGINES = ("vllm", "sglang", "trtllm")
CASES = [(kind, engine) for kind in plans.KINDS for engine in ENGINES]


def exported(kind, engine, n=4):
    """[(study, point, plan, files)] of some points that the engine can serve."""
    study, found = plans.searched(kind)
    out = []
    for i in points(kind, n):
        plan = yamlio.parse(export.export("training-plan", study, found, i)["training-plan.yaml"]).data
        try:
            out.append((study, found.point(i), plan, export.export(engine, study, found, i)))
        except UserError as error:
            assert engine == "trtllm" and any(why in str(error) for why in ("NVIDIA devices only", "both data and tensor parallel"))
    assert out
    return out


def degrees(engine, files, role):
    """(tp, dp, pp, ep or None, sequences of one rank, step tokens of one rank, fraction, options) as the engine reads them."""
    if engine == "vllm":
        o = launched.options(files[f"vllm-{role}.sh"], launched.VLLM)
        tp, dp = o.tensor_parallel_size, o.data_parallel_size or 1
        return tp, dp, o.pipeline_parallel_size, tp * dp if o.enable_expert_parallel else 1, o.max_num_seqs, o.max_model_len, o
    if engine == "sglang":
        o = launched.options(files[f"sglang-{role}.sh"], launched.SGLANG)
        dp = o.attn_dp_size or 1
        assert o.tp_size % dp == 0 and o.max_running_requests % dp == 0 and (o.chunked_prefill_size or 0) % dp == 0
        return o.tp_size // dp, dp, o.pp_size, o.ep_size or 1, o.max_running_requests // dp, o.context_length, o
    assert launched.options(files[f"trtllm-{role}.sh"], launched.TRTLLM).config == f"$(dirname $0)/trtllm-{role}.yaml"
    o = yamlio.parse(files[f"trtllm-{role}.yaml"]).data
    dp = o["tensor_parallel_size"] if o["enable_attention_dp"] else 1
    ep = o.get("moe_expert_parallel_size", 1)
    assert ep * o.get("moe_tensor_parallel_size", o["tensor_parallel_size"]) == o["tensor_parallel_size"]
    return o["tensor_parallel_size"] // dp, dp, o["pipeline_parallel_size"], ep, o["max_batch_size"], o["max_seq_len"], o


@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_counts_equal_the_design(kind, engine):
    for study, point, plan, files in exported(kind, engine):
        suffixes = (".sh", ".yaml") if engine == "trtllm" else (".sh",)
        assert set(files) == {f"{engine}-{role}{suffix}" for role in study.setting.roles for suffix in suffixes}
        for role in study.setting.roles:
            tp, dp, pp, ep, seqs, length, _ = degrees(engine, files, role)
            n = launched.counts(files[f"{engine}-{role}.sh"])
            assert (tp, pp, ep) == tuple(point[f"{role}.{key}"] for key in ("n_tp", "n_pp", "n_ep"))
            copies = n["n_servers"] / point[f"{role}.n_replicas"]
            assert dp * copies == point[f"{role}.n_dp"]
            assert tp * dp * pp == n["n_devices_per_server"] == n["n_nodes_per_server"] * n["n_devices_per_node"]
            assert n["n_servers"] * n["n_devices_per_server"] == n["n_devices"]
            assert n["n_devices"] + n["n_idle_devices"] == point[f"{role}.n_devices"]
            assert seqs == math.ceil(point[f"{role}.batch"] / point[f"{role}.n_dp"])
            assert length == plan["serving"][role]["launch"]["max_model_len_tok"]


@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_memory_and_precision_equal_the_design(kind, engine):
    for study, _, plan, files in exported(kind, engine):
        for role in study.setting.roles:
            *_, seqs, _, o = degrees(engine, files, role)
            used = plan["serving"][role]["memory"]
            hbm = float(study.setting.pools[role].chips.hbm_bytes[study.setting.pools[role].names.index(plan["serving"][role]["hardware"])])
            fixed = used["activations_bytes"] + used["reserve_bytes"]
            allowed = allowed_bytes(engine, o, hbm, fixed, used["weights_bytes"])
            assert used["usable_bytes"] - 2e-4 * hbm <= allowed <= used["usable_bytes"] and used["total_bytes"] <= used["usable_bytes"]
            cache = o["kv_cache_config"]["dtype"] if engine == "trtllm" else o.kv_cache_dtype
            assert (cache == "auto") == (plan["precision"]["kv_bits"] == 16)
            assert seqs >= 1


def allowed_bytes(engine, o, hbm, fixed, weights):
    """What the engine may use of a device, by its own definition of its fraction: of all, of all but activations, of what is left."""
    if engine == "vllm":
        return o.gpu_memory_utilization * hbm
    if engine == "sglang":
        return o.mem_fraction_static * hbm + fixed
    return o["kv_cache_config"]["free_gpu_memory_fraction"] * (hbm - weights - fixed) + weights + fixed


def test_step_tokens_hold_a_chunk_and_every_sequence():
    for _, _, plan, files in exported("moe", "vllm"):
        o, launch = launched.options(files["vllm-serve.sh"], launched.VLLM), plan["serving"]["serve"]["launch"]
        prompts = o.max_num_batched_tokens - o.max_num_seqs
        assert 0 <= prompts - max(launch["prefill_chunk_tok"], launch["prompt_tok_per_step_and_rank"]) < 64
        assert o.enable_chunked_prefill


def test_a_step_takes_in_the_prompts_that_come():
    """As many requests begin as end: each sequence brings isl / osl computed prompt tokens a step, cached ones left out."""
    study, found = plans.searched("moe")
    traffic = study.setting.traffic
    for i in points("moe", 4):
        launch = yamlio.parse(export.export("training-plan", study, found, i)["training-plan.yaml"]).data["serving"]["serve"]["launch"]
        steady = launch["max_num_seqs_per_rank"] * float((traffic.isl_tok - traffic.prefix_tok) / traffic.osl_tok)
        assert 0 <= launch["prompt_tok_per_step_and_rank"] - steady < 1


def test_drafts_and_hand_over():
    for _, _, _, files in exported("disaggregated", "vllm"):
        roles = {role: launched.options(files[f"vllm-{role}.sh"], launched.VLLM) for role in ("prefill", "decode")}
        assert all(
            json.loads(o.speculative_config) == {"method": "eagle3", "model": "./draft", "num_speculative_tokens": 1}
            for o in roles.values()
        )
        assert [json.loads(o.kv_transfer_config)["kv_role"] for o in roles.values()] == ["kv_producer", "kv_consumer"]
    for _, _, _, files in exported("disaggregated", "sglang"):
        o = launched.options(files["sglang-decode.sh"], launched.SGLANG)
        assert (o.disaggregation_mode, o.speculative_num_steps, o.speculative_num_draft_tokens) == ("decode", 1, 2)
    for _, _, _, files in exported("disaggregated", "trtllm"):
        config = yamlio.parse(files["trtllm-decode.yaml"]).data
        assert config["speculative_config"]["max_draft_len"] == 1 and config["cache_transceiver_config"]["backend"] == "DEFAULT"


@pytest.mark.parametrize("engine", ENGINES)
def test_how_prefill_is_mixed(engine, tmp_path):
    for mixing in ("chunked", "alternating"):
        (tmp_path / mixing).mkdir()
        study = studies.study(tmp_path / mixing, plans.DENSE | {"serving": {"mixing": mixing}})
        files = export.export(engine, study, found := run(study, tmp_path / mixing / "run"), int(found.front["id"].iloc[0]))
        *_, length, o = degrees(engine, files, "serve")
        if engine == "sglang":
            assert o.enable_mixed_chunk == (mixing == "chunked") and o.chunked_prefill_size > 0
        elif engine == "vllm":
            assert (o.enable_chunked_prefill, o.no_enable_chunked_prefill) == ((True, False) if mixing == "chunked" else (False, True))
            assert mixing == "chunked" or o.max_num_batched_tokens >= length
        else:
            assert o["enable_chunked_prefill"] == (mixing == "chunked")


BROKEN = {
    "context parallelism": ({"n_cp": 2.0, "n_tp": 1.0, "n_dp": 1.0, "n_ep": 2.0, "n_etp": 1.0, "n_edp": 1.0}, ENGINES),
    "tensor parallelism inside experts": ({"n_tp": 2.0, "n_dp": 2.0, "n_ep": 2.0, "n_etp": 2.0, "n_edp": 1.0}, ("vllm",)),
    "both data and tensor parallel": ({"n_tp": 2.0, "n_dp": 2.0, "n_ep": 4.0, "n_etp": 1.0, "n_edp": 1.0}, ("trtllm",)),
    "copies of experts": ({"n_tp": 2.0, "n_dp": 1.0, "n_ep": 1.0, "n_etp": 1.0, "n_edp": 2.0}, ENGINES),
}


@pytest.mark.parametrize(("feature", "engine"), [(name, engine) for name, (_, engines) in BROKEN.items() for engine in engines])
def test_what_an_engine_cannot_lay_out(feature, engine, monkeypatch):
    study, found = plans.searched("latent")
    fleets = _serving.fleets
    monkeypatch.setattr(
        _serving,
        "fleets",
        lambda s: {role: fleet | {k: int(v) for k, v in BROKEN[feature][0].items()} for role, fleet in fleets(s).items()},
    )
    with pytest.raises(UserError, match=feature) as error:
        export.export(engine, study, found, points("latent", 1)[0])
    assert "search with" in str(error.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_shapes_that_no_family_has(engine, tmp_path):
    study = studies.study(tmp_path, plans.DENSE | {"space": {"architecture.n_layers": [24], "architecture.norms_per_layer": [4]}})
    found = run(study, tmp_path / "run")
    with pytest.raises(UserError, match="norms_per_layer"):
        export.export(engine, study, found, int(found.front["id"].iloc[0]))


def test_precisions_that_an_engine_has_not(tmp_path):
    study = studies.study(tmp_path, plans.DENSE | {"space": {"architecture.n_layers": [24], "precision.act_bits": [8]}})
    found = run(study, tmp_path / "run")
    for engine in ENGINES:
        with pytest.raises(UserError, match="16-bit weights with 8-bit activations"):
            export.export(engine, study, found, int(found.front["id"].iloc[0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_names_are_words_and_comments(engine, tmp_path):
    study, found = plans.searched("hostile")
    named = dataclasses.replace(
        study, file=study.file.model_copy(update={"name": "x; touch owned $(touch owned) `touch owned` 'q'\ntouch owned"})
    )
    moved = dataclasses.replace(found, path=found.path.parent / "a\ntouch owned; $(touch owned)")
    files = export.export(engine, named, moved, points("hostile", 1)[0])
    plain = export.export(engine, study, found, points("hostile", 1)[0])
    for name, text in files.items():
        assert len(text.splitlines()) <= len(plain[name].splitlines()) + 1  # the served name is one quoted word of two lines
        if name.endswith(".yaml"):
            assert yamlio.parse(text).data == yamlio.parse(plain[name]).data
            continue
        stubs = "vllm() { :; }; python() { :; }; trtllm-serve() { :; }; exec() { :; }\n"
        done = subprocess.run(["bash", "-c", stubs + text], cwd=tmp_path, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and not list(tmp_path.iterdir()), done.stderr


@pytest.mark.parametrize("target", [*ENGINES, "megatron", "torchtitan"])
@pytest.mark.parametrize("kind", plans.KINDS)
def test_files_state_the_plans_memory(kind, target):
    study, found = plans.searched(kind)
    for i in points(kind, 3):
        plan = yamlio.parse(export.export("training-plan", study, found, i)["training-plan.yaml"]).data
        try:
            files = export.export(target, study, found, i)
        except UserError:
            continue
        used = {"train": plan["training_memory"]} | {role: fleet["memory"] for role, fleet in plan["serving"].items()}
        for name, text in files.items():
            if name.endswith(".py"):
                continue
            here = used[name.partition("-")[2].partition(".")[0] or "train"]
            assert f"{here['total_bytes'] / 1e9:.1f} GB expected, {here['usable_bytes'] / 1e9:.1f} GB usable" in text


@pytest.mark.parametrize("kind", ["moe", "dense", "disaggregated", "latent"])
def test_one_context_in_every_file(kind):
    """The model has the positions that it is trained on or served with, whichever is more; the base model's own context is nobody's."""
    study, found = plans.searched(kind)
    for i in points(kind, 2):
        context = json.loads(export.export("hf", study, found, i)["config.json"])["max_position_embeddings"]
        plan = yamlio.parse(export.export("training-plan", study, found, i)["training-plan.yaml"]).data
        longest = max(fleet["launch"]["max_model_len_tok"] for fleet in plan["serving"].values())
        assert context == max(longest, plan["training"]["seq_tok"]) != study.model["context_tok"]
        assert f"--max-position-embeddings {context}" in export.export("megatron", study, found, i)["megatron.sh"]
        for text in export.export("vllm", study, found, i).values():
            assert f"--max-model-len {longest}" in text
