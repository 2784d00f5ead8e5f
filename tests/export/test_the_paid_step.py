"""What is launched is what the plan pays for: the step's assumptions, the router of the family, MTP modules, sums that add up."""

import json
from types import SimpleNamespace

import launched
import numpy as np
import plans
import pytest
from test_training_plan import points

import studies
from codesign import export
from codesign.catalog.hf import read_config
from codesign.explain import explain_point
from codesign.export import hf, megatron, training_plan
from codesign.export._subject import subject
from codesign.physics.architecture import census, fill
from codesign.run import run


def first(kind):
    study, found = plans.searched(kind)
    return study, found, points(kind, 1)[0]


@pytest.mark.parametrize("kind", ["moe", "dense", "latent"])
def test_megatron_runs_the_step_that_is_paid(kind):
    study, found, i = first(kind)
    s = subject(study, found, i)
    text = export.export("megatron", study, found, i)["megatron.sh"]
    o = launched.options(text, launched.MEGATRON)
    assert float(s.train_scene.chip.dp_overlap) > 0 and o.overlap_grad_reduce
    assert o.overlap_param_gather == (s.count("train.zero") > 0)
    assert "The predicted step assumes: 90% of the gradient exchange" in text and "no CUDA graphs; recomputation" in text
    spread = s.count("train.n_ep") * s.count("train.n_etp") > 1
    assert o.moe_enable_deepep == (spread and s.shape["n_experts"] > 0)
    family = json.loads(export.export("hf", study, found, i)["config.json"])["model_type"]
    assert o.moe_router_enable_expert_bias == (family in megatron.SIGMOID and s.shape["n_experts"] > 0)


def test_the_dispatcher_is_the_steps():
    """All-to-all where the step sends a copy to every expert, where nothing is sent, and on devices without DeepEP."""

    def stand_in(once, vendor="NVIDIA"):
        chip = SimpleNamespace(training=SimpleNamespace(ep_once=np.float64(once)))
        return SimpleNamespace(train_scene=SimpleNamespace(chip=chip), hardware=lambda role: {"vendor": vendor})

    job = {"n_ep": 8, "n_etp": 1}
    flex = [("--moe-token-dispatcher-type", "flex"), ("--moe-enable-deepep",)]
    assert megatron._dispatcher(stand_in(1.0), job) == flex
    for s, at in ((stand_in(0.0), job), (stand_in(1.0), {"n_ep": 1, "n_etp": 1}), (stand_in(1.0, "AMD"), job)):
        assert megatron._dispatcher(s, at) == [("--moe-token-dispatcher-type", "alltoall")]


def test_no_module_of_multi_token_prediction_where_nothing_drafts(tmp_path):
    study, found, i = first("latent")
    s = subject(study, found, i)
    assert s.n_mtp_left_out == 1 and float(s.census.mtp_params) > 0
    config = json.loads(export.export("hf", study, found, i)["config.json"])
    assert config.get("num_nextn_predict_layers", 0) == 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, numbers = census(fill(read_config(tmp_path)["architecture"])), found.point(i)
    assert (read.n_params, read.n_active_params, read.mtp_params) == (numbers["n_params"], numbers["n_active_params"], 0)
    assert "mtp" not in export.export("megatron", study, found, i)["megatron.sh"]
    plan = export.export("training-plan", study, found, i)
    assert "MTP module is left out: nothing drafts" in plan["training-plan.md"] and "n_mtp_layers: " not in plan["training-plan.yaml"]
    assert "more training FLOP" not in plan["training-plan.md"]
    assert hf.features(s.shape) & {"mtp"} == set()


@pytest.mark.parametrize("kind", ["moe", "dense", "latent"])
def test_a_plan_adds_up(kind):
    """Rows of the step make the step; gates and ramp are in the money and in the days; the chance follows the interval."""
    study, found, i = first(kind)
    s = subject(study, found, i)
    plan = training_plan.plan(s)
    job, life = plan["training"], plan["lifecycle"]
    rows = [job[key] for key in ("bubble_s", "exposed_exchange_s", "optimizer_s", "fixed_s", "other_exposed_s")]
    assert job["n_micro_batches_per_step"] * job["micro_batch_s"] + sum(rows) == pytest.approx(job["step_s"]) and job["fixed_s"] > 0
    extra = plan["batch_schedule"]["ramp_extra_usd"] + plan["evaluation_gates"]["branch_extra_usd"]
    assert life["with_gates_and_ramp_usd"] == pytest.approx(life["lifecycle_usd"] + extra)
    assert (life["budget_usd"] is None) == (study.setting.life.pretrain_rule != "budget")
    if life["budget_usd"]:
        chances = [training_plan.over_budget_frac(s, extra, life["budget_usd"] * f) for f in (0.01, 0.9, 1.0, 1.1, 100.0)]
        assert chances == sorted(chances, reverse=True) and chances[0] > 0.999 and chances[-1] < 1e-3
        assert f"{life['over_budget_frac']:.0%}" in export.export("training-plan", study, found, i)["training-plan.md"]


@pytest.mark.parametrize(
    ("limits", "word"), [({"train_days": "<= 30 day"}, "the limit on train_days binds"), ({}, "20,000 processed per active")]
)
def test_money_that_is_left_names_the_limit_that_binds(limits, word, tmp_path):
    rich = {"budget": "1000000 MUSD", "pretrain_tok": {"solve": "budget"}, "global_batch_tok": "4194304 tok"}
    study = studies.study(tmp_path, plans.DENSE | {"lifecycle": rich, "constraints": limits})
    found = run(study, tmp_path / "run")
    (said,) = [x for x in explain_point(study.problem, found.point(int(found.front["id"].iloc[0])))["notes"] if "money is left" in x]
    assert word in said
