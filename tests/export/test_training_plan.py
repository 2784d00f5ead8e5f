"""Training plans: every number is the design's, the parts add up, and nothing that a user named gets out of its place."""

import dataclasses
import doctest
import importlib
import itertools
import math
import re
from pathlib import Path

import numpy as np
import plans
import pytest

from codesign import export, tables, uncertainty
from codesign.export import _design, training_plan
from codesign.export._subject import subject
from codesign.lifecycle import critical_batch
from codesign.physics import failures, memory
from codesign.spec import yamlio
from codesign.spec.errors import UserError

DEGREES = ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp")
KINDS = ("moe", "dense", "disaggregated", "latent")
MODULES = sorted(p.stem for p in Path(export.__file__).parent.glob("*.py") if p.stem != "__init__")


def points(kind, n=6):
    """Ids spread over the front of a run."""
    _, run = plans.searched(kind)
    ids = run.front["id"].to_numpy()
    return [int(i) for i in ids[np.unique(np.linspace(0, len(ids) - 1, n).astype(int))]]


@pytest.fixture(scope="module", params=KINDS)
def exported(request):
    """[(study, run, point, plan read back from its YAML, page)] of some points of a run."""
    study, run = plans.searched(request.param)
    out = []
    for i in points(request.param):
        files = export.export("training-plan", study, run, i)
        assert set(files) == {"training-plan.yaml", "training-plan.md"}
        out.append((study, run, run.point(i), yamlio.parse(files["training-plan.yaml"]).data, files["training-plan.md"]))
    return out


def test_stages_hold_the_model(exported):
    """Stages add up to the model, none holds more than the fullest device is said to, and one stage is the fullest device."""
    for study, run, point, plan, page in exported:
        stages, fullest = plan["training_memory_by_stage"], plan["training_memory"]
        assert len(stages) == point["train.n_pp"] and sum(row["n_layers"] for row in stages) == plan["architecture"]["n_layers"]
        s = subject(study, run, int(point["id"]))
        for row in stages:
            for key in ("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "total_bytes"):
                assert row[key] <= fullest[key] * (1 + 1e-9)
            parts = ("weights", "gradients", "optimizer", "activations", "reserve")
            assert row["total_bytes"] == pytest.approx(sum(row[f"{key}_bytes"] for key in parts))
        if len(stages) == 1:
            assert stages[0]["total_bytes"] == pytest.approx(fullest["total_bytes"])
        else:
            assert "by pipeline stage" in page and stages[0]["activations_bytes"] >= stages[-2]["activations_bytes"]
            dense, experts = (float(np.sum(n)) for n in memory.block_params(s.train_scene, s.layout("train")))
            tables = float(s.census.embedding_params + s.census.head_params) / point["train.n_tp"]
            if plan["training"]["zero_stage"] < 2:
                assert sum(row["gradients_bytes"] for row in stages) == pytest.approx(4.0 * (dense + experts + tables))


def test_intervals_hold_their_values(exported):
    for study, run, point, plan, _ in exported:
        job, cost, service = plan["training"], plan["pretraining"], plan["service"]
        assert job["step_low_s"] < job["step_s"] < job["step_high_s"] and job["mfu_low_frac"] < job["mfu_frac"] < job["mfu_high_frac"]
        assert cost["train_high_s"] / cost["train_s"] == pytest.approx(job["step_high_s"] / job["step_s"])
        assert cost["train_low_usd"] < cost["train_usd"] < cost["train_high_usd"]
        is_moe = plan["parameters"]["n_params"] > plan["parameters"]["n_active_params"]
        low, high = uncertainty.interval("training", "train", "tables", is_moe, job["step_s"])
        assert (job["step_low_s"], job["step_high_s"]) == pytest.approx((low, high))
        assert service["tpot_low_s"] < service["tpot_s"] < service["tpot_high_s"]
        late = [row for row in plan["risks"] if "train_days ends at" in row["text"]]
        limits = [row["limit"] for row in subject(study, run, int(point["id"])).explained["slack"] if row["constraint"] == "train_days"]
        assert bool(late) == any(limit < cost["train_high_s"] for limit in limits)


def test_peak_is_the_workloads(exported):
    for study, _, _, plan, _ in exported:
        service = plan["service"]
        assert service["peak_to_mean"] == pytest.approx(study.workload["peak_to_mean"])
        assert service["peak_to_mean"] / service["busy_at_peak_frac"] == pytest.approx(float(study.setting.traffic.peak_to_mean))


def test_training_equals_the_design(exported):
    for study, _, point, plan, _ in exported:
        job = plan["training"]
        for key in DEGREES:
            assert job[key] == point[f"train.{key}"] and isinstance(job[key], int)
        assert job["n_tp"] * job["n_cp"] * job["n_dp"] * job["n_pp"] == job["n_devices"] == point["train_devices"]
        assert job["n_etp"] * job["n_ep"] * job["n_edp"] * job["n_pp"] == job["n_devices"]
        assert job["global_batch_tok"] == point["global_batch_tok"] == job["global_batch_seq"] * job["seq_tok"]
        assert job["micro_batch_seq"] * job["n_dp"] * job["n_micro_batches_per_step"] == job["global_batch_seq"]
        assert (job["zero_stage"], job["micro_batch_seq"]) == (point["train.zero"], point["train.micro_batch"])
        assert job["recompute"] == ("none", "selective", "full")[int(point["train.recompute"])]
        assert job["step_s"] == point["train.step_s"]
        assert job["hardware"] == study.setting.pools["train"].names[0]
        assert 0 < job["mfu_frac"] < 1
        assert (job["n_nodes"] - 1) * job["n_devices_per_node"] < job["n_devices"] <= job["n_nodes"] * job["n_devices_per_node"]


def test_memory_equals_the_design(exported):
    for _, _, point, plan, _ in exported:
        pools = {"train": plan["training_memory"]} | {role: fleet["memory"] for role, fleet in plan["serving"].items()}
        for unit, used in pools.items():
            classes = [v for k, v in used.items() if k.endswith("_bytes") and k not in ("total_bytes", "usable_bytes")]
            assert sum(classes) == pytest.approx(used["total_bytes"], rel=1e-12)
            assert used["total_bytes"] == pytest.approx(point[f"{unit}.memory_bytes"], rel=1e-9)
            assert used["total_bytes"] <= used["usable_bytes"]


def test_serving_equals_the_design(exported):
    for study, _, point, plan, _ in exported:
        assert set(plan["serving"]) == set(study.setting.roles)
        for role, fleet in plan["serving"].items():
            for key in (*DEGREES, "n_replicas", "n_devices"):
                assert fleet[key] == point[f"{role}.{key}"] and isinstance(fleet[key], int)
            assert fleet["n_tp"] * fleet["n_cp"] * fleet["n_dp"] * fleet["n_pp"] == fleet["n_devices_per_replica"]
            assert fleet["n_replicas"] * fleet["n_devices_per_replica"] + fleet["n_idle_devices"] == fleet["n_devices"]
            assert fleet["n_idle_devices"] >= 0
            launch = fleet["launch"]
            assert launch["batch_seq"] == point[f"{role}.batch"]
            assert launch["max_num_seqs_per_rank"] * fleet["n_dp"] >= launch["batch_seq"]
            assert launch["max_model_len_tok"] >= plan["service"]["isl_tok"] + plan["service"]["osl_tok"]
        service = plan["service"]
        assert sum(f["n_devices"] for f in plan["serving"].values()) == service["serve_devices"] == point["serve_devices"]
        assert sum(f["serve_usd"] for f in plan["serving"].values()) == pytest.approx(point["serve_usd"], rel=1e-9)
        assert sum(f["power_w"] for f in plan["serving"].values()) == pytest.approx(point["serve_power_w"], rel=1e-9)
        for key in ("tpot_s", "ttft_s", "usd_per_mtok", "usd_per_mtok_input", "usd_per_mtok_output", "energy_j_per_tok"):
            assert service[key] == point[key]


def test_time_money_and_energy_follow_from_each_other(exported):
    for _, _, point, plan, _ in exported:
        run, job = plan["pretraining"], plan["training"]
        for key in ("train_s", "train_usd", "train_energy_j", "pretrain_flop"):
            assert run[key] == point[key]
        assert run["ideal_s"] / run["goodput_frac"] == pytest.approx(run["train_s"], rel=1e-9)
        assert run["train_s"] * job["n_devices"] * job["usd_per_device_s"] == pytest.approx(run["train_usd"], rel=1e-9)
        assert run["train_s"] * job["n_devices"] * job["all_in_w_per_device"] == pytest.approx(run["train_energy_j"], rel=1e-9)
        assert run["n_steps"] == math.ceil(plan["tokens"]["processed_tok"] / job["global_batch_tok"])
        life = plan["lifecycle"]
        assert life["train_usd"] + life["rl_usd"] + life["serve_usd"] == pytest.approx(life["lifecycle_usd"], rel=1e-9)


def test_parameters_add_up(exported):
    for _, _, point, plan, _ in exported:
        counts, shape = plan["parameters"], plan["architecture"]
        assert sum(counts["by_part"].values()) == counts["n_params"] == point["n_params"]
        assert counts["n_active_params"] == point["n_active_params"]
        tables = 1 if shape.get("tied_embeddings") else 2
        assert counts["by_part"]["embedding_and_head"] == tables * shape["vocab"] * shape["d_model"]
        if "n_experts" in shape:
            experts = plan["parameters"]["by_part"]["routed_experts"]
            moe_layers = shape["n_layers"] - shape.get("n_dense_layers", 0)
            assert experts == 3 * shape["d_model"] * shape["d_expert"] * shape["n_experts"] * moe_layers


def test_the_architecture_is_the_designs(exported):
    for study, _, point, plan, _ in exported:
        for variable in study.problem.space.variables:
            room, _, key = variable.name.partition(".")
            value = point[variable.name]
            if value == value and room == "architecture":
                assert plan["architecture"][key] == value
            if room == "precision":
                assert plan["precision"][key] == value
        if plan["architecture"]["attention"] != "mla":
            assert not {"kv_lora_rank", "q_lora_rank", "d_head_rope"} & set(plan["architecture"])
            assert {"d_head", "n_kv_heads"} <= set(plan["architecture"])


def test_tokens(exported):
    for study, _, point, plan, _ in exported:
        tokens = plan["tokens"]
        assert (tokens["useful_tok"], tokens["processed_tok"]) == (point["pretrain_tok"], point["pretrain_spent_tok"])
        assert tokens["useful_tok_per_active_param"] == point["tok_per_param"]
        unique = study.setting.life.unique_tok
        assert tokens["n_epochs"] == (pytest.approx(point["pretrain_spent_tok"] / unique) if np.isfinite(unique) else None)


def test_gates_follow_the_quality_law(exported):
    for study, run, point, plan, _ in exported:
        rows = plan["evaluation_gates"]["rows"]
        assert [row["tok_frac"] for row in rows] == [0.1, 0.25, 0.5, 1.0]
        losses = [row["loss_nat"] for row in rows]
        assert losses == sorted(losses, reverse=True)
        for row, before in zip(rows, [None, *rows], strict=False):
            assert row["loss_low_nat"] < row["loss_nat"] < row["loss_high_nat"]
            assert row["at_s"] == pytest.approx(row["tok_frac"] * point["train_s"])
            if before is not None:
                assert row["drop_nat"] == pytest.approx(before["loss_nat"] - row["loss_nat"])
                assert row["drop_low_nat"] < row["drop_nat"] / 1.1 and row["drop_high_nat"] > row["drop_nat"] * 1.1
        s = subject(study, run, int(point["id"]))
        served = _design.assess(s, point["pretrain_tok"], study.setting.law, deployed=True)
        assert served["loss"] == pytest.approx(point["loss"], rel=1e-12)
        assert plan["evaluation_gates"]["loss_deployed_nat"] == point["loss"] >= rows[-1]["loss_nat"] - 1e-12
        assert rows[-1]["step"] == plan["batch_schedule"]["n_steps"]
        assert plan["quality"]["c_eq_low_flop"] < point["c_eq_flop"] < plan["quality"]["c_eq_high_flop"]


def test_the_ramp_is_one_that_the_job_can_run(exported):
    for _, _, _, plan, _ in exported:
        stages, job = plan["batch_schedule"]["stages"], plan["training"]
        assert stages[0]["from_tok"] == 0 and stages[-1]["to_tok"] == plan["tokens"]["processed_tok"]
        for a, b in itertools.pairwise(stages):
            assert a["to_tok"] == b["from_tok"] and a["global_batch_seq"] < b["global_batch_seq"]
        last = stages[-1]
        assert [last[k] for k in ("global_batch_seq", "n_devices", "n_dp")] == [job[k] for k in ("global_batch_seq", "n_devices", "n_dp")]
        for stage in stages:
            assert stage["n_dp"] * stage["micro_batch_seq"] * stage["n_micro_batches_per_step"] == stage["global_batch_seq"]
            assert job["n_tp"] * job["n_cp"] * job["n_pp"] * stage["n_dp"] == stage["n_devices"] <= job["n_devices"]
            assert job["n_etp"] * job["n_ep"] * job["n_pp"] * stage["n_edp"] == stage["n_devices"]
            if stage is not last:  # no batch before the tokens at which it is critical
                assert stage["to_tok"] <= plan["tokens"]["processed_tok"] * 0.032
                following, law = 2 * stage["global_batch_tok"], critical_batch.DEFAULT
                assert stage["to_tok"] <= 1.0001 * (following / law.coefficient) ** (1 / law.power)
        assert plan["batch_schedule"]["ramp_extra_s"] >= -1e-9


def test_steps_with_and_without_the_ramp(exported):
    """Stages hold whole steps of their batch; the cooldown starts at the same token either way, in the last stage."""
    for _, _, _, plan, page in exported:
        ramp, rate, job = plan["batch_schedule"], plan["learning_rate"], plan["training"]
        for stage in ramp["stages"]:
            assert stage["n_steps"] == math.ceil((stage["to_tok"] - stage["from_tok"]) / stage["global_batch_tok"] - 1e-9)
        assert ramp["n_steps"] == sum(stage["n_steps"] for stage in ramp["stages"]) >= plan["pretraining"]["n_steps"]
        assert page.count(f"{ramp['n_steps']:,}") >= 3
        end = rate["cooldown_from_tok"] + rate["cooldown_steps"] * job["global_batch_tok"]
        assert end == pytest.approx(plan["tokens"]["processed_tok"])
        assert rate["cooldown_from_tok"] > ramp["stages"][-1]["from_tok"]
        assert rate["peak_if_scaled_to_batch"] <= rate["peak"]


def test_one_definition_of_every_interval(exported):
    """Beside the interval at these tokens stands that of `codesign show`, where the study's rule sets the tokens; tpot has one."""
    for study, run, point, plan, page in exported:
        shown = tables.doubt_of(run, int(point["id"]))["columns"]
        service, cost = plan["service"], plan["pretraining"]
        assert (service["tpot_low_s"], service["tpot_high_s"]) == pytest.approx(
            (shown["tpot_s"]["lower"], shown["tpot_s"]["upper"]), rel=1e-3
        )
        assert ("train_low_if_solved_again_s" in cost) == (study.setting.life.pretrain_rule != "fixed") == ("rule again" in page)
        for name in ("train_s", "train_usd"):
            stem, unit = name.split("_")
            held, solved = (cost.get(f"{stem}_{end}_{unit}") for end in ("high", "high_if_solved_again"))
            assert (solved or held) == pytest.approx(shown[name]["upper"], rel=1e-3)


def test_what_a_lead_would_object_to_is_said(exported):
    """Contexts beyond the training sequence, modules that cost nothing in the model, exchanges that need several machines."""
    for _, _, point, plan, _ in exported:
        risks = " ".join(row["text"] for row in plan["risks"])
        longest = max(fleet["launch"]["max_model_len_tok"] for fleet in plan["serving"].values())
        assert ("extending its context" in risks) == (longest > plan["training"]["seq_tok"])
        assert ("more training FLOP" in risks) == (plan["parameters"]["n_mtp_params"] > 0)
        for row in plan["measure_first"]:
            pool = plan["training"] if row["unit"] == "train" else plan["serving"][row["unit"]]
            if row["operator"].startswith("expert dispatch"):
                assert row["n_devices"] == pool["n_ep"] * pool["n_etp"]
            assert 1 <= row["n_devices"] <= max(pool["n_devices"], pool.get("n_devices_per_replica", 1))
        assert any(row["name"].startswith("rl.") for row in plan["assumptions"]) == (point["rl_tok"] > 0)


def test_learning_rate_and_checkpoints(exported):
    for _, _, point, plan, _ in exported:
        rate, kept = plan["learning_rate"], plan["checkpoints"]
        assert rate["peak"] == pytest.approx(0.3118 * point["pretrain_flop"] ** -0.125)
        assert rate["cooldown_from_step"] + rate["cooldown_steps"] == plan["batch_schedule"]["n_steps"]
        assert kept["checkpoint_bytes"] == 14 * point["n_params"]
        assert kept["checkpoint_interval_s"] == pytest.approx(float(failures.checkpoint_interval_s(point["train.n_devices"])))
        assert kept["n_failures_expected"] == pytest.approx(point["train_s"] / kept["mean_time_between_failures_s"])


def test_rl(exported):
    for study, run, point, plan, _ in exported:
        rl = plan["rl"]
        if point["rl_tok"] == 0:
            assert rl is None
            continue
        assert (rl["rl_tok"], rl["rl_s"], rl["rl_usd"]) == (point["rl_tok"], point["rl_s"], point["rl_usd"])
        assert rl["rl_s"] * rl["n_devices"] * rl["usd_per_device_s"] == pytest.approx(rl["rl_usd"], rel=1e-9)
        assert rl["n_rollouts"] == math.ceil(point["rl_tok"] / study.setting.rl.gen_tok)
        told = [risk["text"] for risk in plan["risks"] if risk["kind"] == "RL"]
        assert any("longest rollout" in text for text in told) == (rl["s_per_step"] < rl["longest_rollout_s"])
        assert any("new weights" in text for text in told) == (rl["weight_sync_s"] > 0.05 * rl["s_per_step"])
        replica = rl["n_devices_of_least_replica"]  # it holds the weights, one device less would not
        hbm = float(subject(study, run, int(point["id"])).chip("rl").hbm_bytes)
        assert (replica - 1) * hbm < 2 * point["n_params"] <= replica * hbm


def test_measurements_cover_each_phase(exported):
    for study, _, _, plan, _ in exported:
        phases = {}
        for row in plan["measure_first"]:
            phases.setdefault((row["unit"], row["phase"]), []).append(row["share_frac"])
            assert row["expected_s"] > 0 and row["run"]
        assert all(0.8 <= sum(shares) <= 1 + 1e-9 for shares in phases.values())
        pools = ("prefill", "decode") if study.setting.disaggregated else ("serve", "serve")
        assert set(phases) == {("train", "micro-batch"), (pools[0], "prefill"), (pools[1], "decode")}
        assert {row["confidence"] for row in plan["assumptions"]} >= {"estimate"}


UNITS = (
    "s",
    "bytes",
    "tok",
    "flop",
    "usd",
    "j",
    "w",
    "nat",
    "frac",
    "seq",
    "bits",
    "mtok",
    "device",
    "devices",
    "stage",
    "steps",
    "step",
    "rank",
    "user",
)
PURE = {
    "format", "id", "design_id", "peak", "final", "value", "beta1", "beta2", "weight_decay", "gradient_clip_norm", "peak_to_mean", "balance_ratio",
    "peak_if_scaled_to_batch", "sweep_peaks", "longest_over_mean", "processed_over_useful", "useful_tok_per_active_param", "rollouts_in_flight_needed",
    "usd_per_mtok_input", "usd_per_mtok_output",
}  # fmt: skip


def numbers(node, key=""):
    """Keys of numbers; those of the architecture, of parameter counts and of the study's objectives are names of their own."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from numbers(value, name) if name not in ("architecture", "by_part", "objectives") else ()
    elif isinstance(node, list):
        for value in node:
            yield from numbers(value, key)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield key


def test_every_quantity_says_its_unit(exported):
    for _, _, _, plan, _ in exported:
        bare = {key for key in numbers(plan) if not key.startswith("n_") and key.rpartition("_")[2] not in UNITS}
        assert bare <= PURE, sorted(bare - PURE)


def test_the_page_shows_the_plan(exported):
    for _, _, _, plan, page in exported:
        assert f"{plan['training']['n_devices']:,} in {plan['training']['n_nodes']:,} nodes" in page
        assert f"`{plan['training']['layout']}`" in page
        assert f"**{plan['parameters']['n_params']:,}**" in page
        for fleet in plan["serving"].values():
            assert f"{fleet['n_replicas']:,}, each of {fleet['n_devices_per_replica']} device" in page
        assert all(f"{row['loss_nat']:.4f}" in page for row in plan["evaluation_gates"]["rows"])
        assert not re.search(r"\bnan\b|\binf\b|None|np\.", page)
        assert page.count("* **") == len(plan["risks"])
        assert _ragged(page) == []


def _ragged(page):
    """Table rows with another number of cells than their head."""
    wrong, width = [], 0
    for line in page.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if cells and width and cells != width:
            wrong.append(line)
        width = cells
    return wrong


def test_hostile_names_stay_in_their_place():
    study, run = plans.searched("hostile")
    files = export.export("training-plan", study, run, points("hostile", 1)[0])
    plan, page = yamlio.parse(files["training-plan.yaml"]).data, files["training-plan.md"]
    assert plan["design"]["question"] == plans.HOSTILE
    assert "\n" in plan["design"]["base_model"] and "<script>" in plan["design"]["base_model"]
    assert set(plan) == set(yamlio.parse(_plain_files()["training-plan.yaml"]).data)
    assert headings(page) == headings(_plain_files()["training-plan.md"])
    outside = re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", page))
    assert "<" not in outside and "](" not in outside and _ragged(page) == []
    assert all(name.isascii() and "/" not in name for name in files)


def _plain_files():
    study, run = plans.searched("dense")
    return export.export("training-plan", study, run, points("dense", 1)[0])


def headings(page):
    return [line for line in page.splitlines() if line.startswith("#")][1:]


@pytest.mark.parametrize("target", export.targets())
def test_wrong_points_and_studies(target):
    study, run = plans.searched("moe")
    with pytest.raises(UserError, match="no point with id 987654321"):
        export.export(target, study, run, 987654321)
    other, _ = plans.searched("dense")
    with pytest.raises(UserError, match="is not a run of study"):
        export.export(target, other, run, points("moe", 1)[0])


def test_a_choice_that_the_study_no_longer_has():
    study, run = plans.searched("moe")
    table = run.table.copy()
    table["architecture.n_layers"] = 33
    with pytest.raises(UserError, match="is not a choice of the study any more"):
        export.export("csv", study, dataclasses.replace(run, table=table), points("moe", 1)[0])


def test_a_run_of_other_constants_is_refused():
    study, run = plans.searched("moe")
    table = run.table.copy()
    table["train.step_s"] *= 1.01
    with pytest.raises(UserError, match="computed with other constants"):
        export.export("training-plan", study, dataclasses.replace(run, table=table), points("moe", 1)[0])


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"codesign.export.{name}")).failed == 0


def test_sections_in_reading_order():
    study, run = plans.searched("moe")
    plan = training_plan.plan(subject(study, run, points("moe", 1)[0]))
    assert list(plan)[:5] == ["format", "design", "architecture", "parameters", "tokens"] and list(plan)[-1] == "assumptions"
