"""Plans of serving steps from the outside: `evaluate`, studies, searches, exports, energy, screens."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from codesign import explain, export, screen
from codesign.cli import main
from codesign.point import evaluate_point
from codesign.problem import layout_names
from codesign.rescore import points_of, score
from codesign.run import run
from codesign.spec.errors import UserError
from codesign.study import open_study

BASE = {"model": "deepseek-v3", "system": "gb200_nvl72", "weight_bits": 8, "act_bits": 8, "isl": 2000, "osl": 500, "batch": 2560}
STUDY = """
version: 1
name: plans
question: Which of all plans pays?
base: {model: deepseek-v3, precision: {weight_bits: 8, act_bits: 8}}
hardware: {train: h100_sxm_node, serve: gb200_nvl72}
space: {precision.kv_bits: [8, 16]}
workload: {use: chat, demand: 2 Mtok/s, lifetime: 1 yr}
slo: {ttft: 5 s}
lifecycle: {pretrain_tok: 14.8 Ttok}
objectives: {usd_per_mtok: minimize, tpot: minimize, energy_used_j_per_tok: minimize}
layout:
  train: {n_devices: [2048], n_tp: [8], n_pp: [8], micro_batch: [1]}
  serve: {n_tp: [1, 2], n_dp: [4, 16, 40, 64], n_pp: [1, 2], batch: [4, 64, 192], n_ffn: [0, 16, 32], overlap: [none, two_batch], n_ffn_x: [1, 2]}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    (folder / "plans.yaml").write_text(STUDY)
    study = open_study(folder / "plans.yaml")
    return study, run(study, folder / "run")


def test_evaluate_takes_a_plan():
    point = evaluate_point(BASE | {"phase": "prefill,decode", "n_dp": 40, "n_ffn": 32, "n_micro": 3}, detail=True)
    assert point["layout"]["n_devices"] == 72 and point["layout"]["n_ep"] == 32 and point["layout"]["n_micro"] == 3
    for phase, key in (("decode", "step_s"), ("prefill", "forward_s")):
        part = point[phase]
        assert set(part["busy"]) == {"attention devices", "FFN devices", "links between them"}
        assert sum(part["causes"][f"{k}_s"] for k in ("compute", "memory", "network", "fixed")) == pytest.approx(part[key], rel=1e-9)
    assert point["decode"]["tok_per_s"] == pytest.approx(2560 / point["decode"]["tpot_s"])
    alone = evaluate_point(BASE | {"phase": "decode", "n_dp": 40, "n_ep": 40 // 5, "n_etp": 5})
    assert "busy" not in alone["decode"] and "n_ffn" not in alone["layout"]


def test_plain_words_are_no_plan():
    given = {"phase": "prefill,decode", "n_dp": 64}
    plain = {"overlap": "none", "n_ffn_x": 1, "n_gather": 1}
    assert evaluate_point(BASE | given | plain) == evaluate_point(BASE | given)


WRONG = {
    "--overlap dualpipe": "not one of none, two_batch",
    "--n-micro 3": "n_micro counts micro-batches between attention and FFN devices",
    "--n-ffn 32 --overlap two_batch": "overlap is for attention and FFN on the same devices",
    "--n-tp 4 --n-ffn-x 3": "n_ffn_x = 3 does not divide n_tp = 4",
    "--n-ffn 0": "n_ffn = 0 must be a whole number of at least 1",
    "--n-ffn 32 --n-ep 48": "n_ffn = 32 is not a multiple of n_etp n_ep = 48",
    "--n-ffn 24": "n_ep = 24 does not divide 256 experts",
    "--overlap two_batch --phase train": "overlap is for serving",
}


@pytest.mark.parametrize("flags", WRONG)
def test_what_cannot_be_said_is_refused(flags):
    given = ["evaluate", "--model", "deepseek-v3", "--system", "gb200_nvl72", "--phase", "decode", *flags.split()]
    answer = CliRunner().invoke(main, given)
    assert answer.exit_code == 2 and WRONG[flags] in answer.stderr


def test_dense_cuts_need_dense_layers():
    with pytest.raises(UserError, match="the model has none"):
        evaluate_point({"model": "qwen3-235b-a22b", "system": "gb200_nvl72", "phase": "decode", "n_tp": 4, "n_ffn_x": 2})


def test_a_study_finds_plans_and_scores_them_again(finished):
    study, result = finished
    rows = result.front.to_dict("records")
    assert {"serve.n_ffn", "serve.n_micro", "serve.overlap"} <= set(rows[0])
    columns, _ = score(points_of(study.problem, rows), np.arange(len(rows)), {})
    for name in ("usd_per_mtok", "tpot_s", "ttft_s", "energy_used_j_per_tok"):
        np.testing.assert_allclose(columns[name], [row[name] for row in rows], rtol=1e-9, err_msg=name)


def test_every_layout_has_a_name_of_its_own(finished):
    texts = layout_names(finished[0].problem.layout_grids["serve"])
    assert len(set(texts)) == len(texts) and any("-ffn32m3" in t for t in texts) and any("-two_batch-x2" in t for t in texts)


def test_screens_say_who_waits(finished):
    study, result = finished
    row = dict(result.front.to_dict("records")[0])
    row |= {"serve.n_tp": 1.0, "serve.n_dp": 40.0, "serve.n_etp": 1.0, "serve.n_ep": 32.0, "serve.n_edp": 1.0, "serve.n_pp": 1.0}
    row |= {"serve.n_ffn": 32.0, "serve.n_micro": 2.0, "serve.overlap": 0.0, "serve.n_ffn_x": 1.0, "serve.batch": 40.0 * 64}
    detail = explain.explain_point(study.problem, row)
    text = screen.point_screen(row, detail, result)
    assert "tp1dp40ep32-ffn32m2" in text and "attention devices" in text and "FFN devices" in text
    assert screen.layouts_text(row, ["serve"]) == "serve tp1dp40ep32-ffn32m2 on 72"
    assert any("busy" in bound for bound in detail["bounds"]) and json.dumps(detail)


def test_exports_refuse_what_engines_are_not_told(finished, tmp_path):
    study, result = finished
    front = result.front
    planned = front[(front["serve.overlap"] > 0) | (front["serve.n_ffn"] > 0) | (front["serve.n_ffn_x"] > 1)]
    if planned.empty:
        pytest.skip("no plan on this front")
    point_id = int(planned["id"].iloc[0])
    with pytest.raises(UserError, match=r"cannot express") as error:
        export.export("vllm", study, result, point_id)
    assert "search with layout: {serve:" in error.value.diagnostics[0].hint
    assert "n_devices_per_replica" in export.export("training-plan", study, result, point_id)["training-plan.yaml"]
