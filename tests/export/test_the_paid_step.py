"""What is launched is what the plan pays for: the step's assumptions, the router of the family, MTP modules, sums that add up."""

import json
from types import SimpleNamespace

import launched
import numpy as np
import plans
import pytest
from test_training_plan import points

from codesign import export
from codesign.catalog.hf import read_config
from codesign.export import hf, megatron
from codesign.export._subject import subject
from codesign.physics.architecture import census, fill


def first(kind):
    study, run = plans.searched(kind)
    return study, run, points(kind, 1)[0]


@pytest.mark.parametrize("kind", ["moe", "dense", "latent"])
def test_megatron_runs_the_step_that_is_paid(kind):
    study, run, i = first(kind)
    s = subject(study, run, i)
    text = export.export("megatron", study, run, i)["megatron.sh"]
    o = launched.options(text, launched.MEGATRON)
    assert float(s.train_scene.chip.dp_overlap) > 0 and o.overlap_grad_reduce
    assert o.overlap_param_gather == (s.count("train.zero") > 0)
    assert "The predicted step assumes: 90% of the gradient exchange" in text and "no CUDA graphs; recomputation" in text
    spread = s.count("train.n_ep") * s.count("train.n_etp") > 1
    assert o.moe_enable_deepep == (spread and s.shape["n_experts"] > 0)
    family = json.loads(export.export("hf", study, run, i)["config.json"])["model_type"]
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
    study, run, i = first("latent")
    s = subject(study, run, i)
    assert s.n_mtp_left_out == 1 and float(s.census.mtp_params) > 0
    config = json.loads(export.export("hf", study, run, i)["config.json"])
    assert config.get("num_nextn_predict_layers", 0) == 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, numbers = census(fill(read_config(tmp_path)["architecture"])), run.point(i)
    assert (read.n_params, read.n_active_params, read.mtp_params) == (numbers["n_params"], numbers["n_active_params"], 0)
    assert "mtp" not in export.export("megatron", study, run, i)["megatron.sh"]
    plan = export.export("training-plan", study, run, i)
    assert "MTP module is left out: nothing drafts" in plan["training-plan.md"] and "n_mtp_layers: " not in plan["training-plan.yaml"]
    assert "more training FLOP" not in plan["training-plan.md"]
    assert hf.features(s.shape) & {"mtp"} == set()
