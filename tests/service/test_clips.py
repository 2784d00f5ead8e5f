"""Studies of video: a diffusion transformer as the serving unit, against one point and by hand; what they refuse."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose

from codesign.cli import main
from codesign.evaluate import evaluate
from codesign.point import evaluate_point
from codesign.search import exhaustive, pareto
from codesign.service.queueing import mean_wait_s
from codesign.spec.errors import SpecError, UserError
from codesign.units.candidates import Grid
from studies import study

CLIP = {"n_tok": "75600 tok", "seconds": "5 s", "per_hour": 300, "text_tok": "512 tok", "n_steps": 50, "n_guidance": 2}
VIDEO = {
    "version": 1, "name": "video", "base": {"model": "llama-2-13b", "architecture": {"ffn_gated": 0, "vocab": 64}},
    "hardware": {"serve": "h100_sxm_node"},
    "space": {"hardware.serve": ["h100_sxm_node", "mi300x_node"], "precision.weight_bits": [8, 16]},
    "workload": {"clip": CLIP, "lifetime": "1 yr", "peak_to_mean": 2, "utilisation": 0.8},
    "objectives": {"usd_per_video_s": "minimize", "clip_latency": "minimize", "serve_devices": "minimize"},
}  # fmt: skip


def video(folder, **changes):
    return study(folder, changes, VIDEO)


def test_a_point_is_that_of_evaluate_and_its_fleet_is_counted_by_hand(tmp_path):
    front = exhaustive.run(video(tmp_path).problem).front
    assert len(front["clip_s"]) > 3
    for i in range(len(front["clip_s"])):
        bits, n = int(front["precision.weight_bits"][i]), {k: int(front[f"serve.{k}"][i]) for k in ("n_tp", "n_cp", "n_dp")}
        given = {"model": "llama-2-13b", "architecture": {"ffn_gated": 0, "vocab": 64}, "system": str(front["hardware.serve"][i]), "phase": "denoise",
                 "weight_bits": bits, "n_tok": 75600, "text_tok": 512, "n_steps": 50, "guidance": 2, "batch": n["n_dp"], **n}  # fmt: skip
        one = evaluate_point(given)["denoise"]
        assert_allclose(front["serve.step_s"][i], one["step_s"], rtol=1e-9)
        assert_allclose(front["clip_s"][i], one["clip_s"], rtol=1e-9)
        devices, clip_s = n["n_tp"] * n["n_cp"] * n["n_dp"], front["clip_s"][i]
        replicas = math.ceil(300 / 3600 * clip_s * 2 / 0.8)
        charged = math.ceil(replicas / max(8 // devices, 1)) * 8 if devices <= 8 else replicas * math.ceil(devices / 8) * 8
        assert (front["serve.n_replicas"][i], front["serve_devices"][i]) == (replicas, charged)
        busy = 300 / 3600 * clip_s / replicas
        assert_allclose(front["clip_latency_s"][i], clip_s + mean_wait_s(clip_s, busy, replicas), rtol=1e-9)
        assert_allclose(front["serve_load_frac"][i], busy, rtol=1e-9)
        assert_allclose(front["usd_per_clip"][i], 5 * front["usd_per_video_s"][i], rtol=1e-12)
        assert_allclose(front["serve_usd"][i], front["usd_per_clip"][i] * 300 * 365.25 * 24, rtol=1e-9)
        assert_allclose(front["n_params"][i], 14.05e9, rtol=0.01)  # Wan 2.1 14B, cross-attention included (arXiv 2503.20314)


def test_the_front_is_the_brute_force_front(tmp_path):
    problem = video(tmp_path).problem
    index, grid, rows = np.concatenate(list(problem.enumerate(100))), problem.layout_grids["serve"], []
    for row, lead in product(range(grid.layout.n_tp.size), range(grid.leading.size)):
        at = np.full(len(index), row)
        layouts = {"serve": Grid(grid.layout.take(at), grid.leading[np.full(len(index), lead)])}
        codes = {v.name: index[:, i] for i, v in enumerate(problem.space.variables)}
        batch = evaluate(problem.setting, problem.space.values(index), codes, layouts)
        rows.append(np.stack([batch.points[o.name] for o in problem.objectives], axis=1))
    every = np.concatenate(rows)
    best = every[pareto.nondominated(every, [False] * 3)]
    found = exhaustive.run(problem)
    ours = np.stack([found.front[o.name] for o in problem.objectives], axis=1)
    assert {tuple(np.round(np.log(r), 9)) for r in best} == {tuple(np.round(np.log(r), 9)) for r in ours}


@pytest.mark.parametrize("method", ["nested", "joint"])
def test_sampled_searches_know_video_too(method, tmp_path):
    path = Path(__file__).parents[2] / "studies" / "video-clips.yaml"
    given = ("run", path, "--set", f"search.method={method}", "--trials", "60", "--out", tmp_path / "run")
    shown = CliRunner().invoke(main, [str(a) for a in given])
    assert shown.exit_code == 0 and "cheapest" in shown.output


def test_more_work_is_never_cheaper_or_sooner(tmp_path):
    base = exhaustive.run(video(tmp_path).problem).front
    for change in ({"n_tok": "151200 tok"}, {"n_steps": 100}, {"n_guidance": 3}, {"text_tok": "4096 tok"}):
        more = exhaustive.run(video(tmp_path, workload={**VIDEO["workload"], "clip": {**CLIP, **change}}).problem).front
        for column in ("usd_per_video_s", "clip_latency_s"):
            assert more[column].min() >= base[column].min() * (1 - 1e-12), change
    quick = exhaustive.run(video(tmp_path, workload={**VIDEO["workload"], "clip": {**CLIP, "n_steps": 4, "n_guidance": 1}}).problem).front
    assert quick["clip_s"].min() < base["clip_s"].min() / 10


@pytest.mark.parametrize(("limit", "name"), [("<= 1 s", "clip_latency"), ("<= 1 kW", "serve_power")])
def test_a_bound_that_no_fleet_meets_is_named(limit, name, tmp_path):
    out = exhaustive.run(video(tmp_path, constraints={name: limit}).problem)
    assert out.killed == {name: out.n_designs}


REFUSED = [
    ({"objectives": {"c_eq_flop": "maximize", "usd_per_video_s": "minimize"}}, "'c_eq_flop' is not known of video: nothing is trained, and no quality law"),
    ({"constraints": {"tpot": "<= 1 s"}}, "is not known of video"),
    ({"lifecycle": {"pretrain_tok": "2 Ttok"}}, "a study of video does not train"),
    ({"workload": {"clip": CLIP, "demand": "1 tok/s"}}, "'demand' is of text"),
    ({"workload": {"clip": {**CLIP, "n_steps": 0}}}, "must be at least 1; found 0"),
    ({"workload": {"clip": {**CLIP, "per_hour": -3}}}, "must be more than 0; found -3"),
    ({"workload": {"clip": {**CLIP, "n_tok": "0 tok"}}}, "must be finite and more than 0"),
    ({"slo": {"ttft": "1 s"}}, "ttft and tpot are of text"),
    ({"base": {"model": "deepseek-v3"}}, "dense models with full attention"),
    ({"space": {"lifecycle.rl_tok": ["1 Gtok", "2 Gtok"]}}, "lifecycle.rl_tok"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_questions_that_video_cannot_answer(change, words, tmp_path):
    with pytest.raises(SpecError) as caught:
        video(tmp_path, **change)
    assert words in str(caught.value)


def test_text_does_not_know_the_columns_of_video(tmp_path):
    with pytest.raises(SpecError, match=r"'clip_s' is of studies with 'workload\.clip'"):
        study(tmp_path, {"objectives": {"clip_s": "minimize", "c_eq_flop": "maximize"}})


def test_the_commands_of_a_run(tmp_path):
    path = Path(__file__).parents[2] / "studies" / "video-clips.yaml"
    call = lambda *args: CliRunner().invoke(main, [str(a) for a in args])  # noqa: E731
    run = tmp_path / "run"
    shown = call("run", path, "--out", run)
    assert shown.exit_code == 0 and "cheapest" in shown.output and f"codesign show {run}" in shown.output
    assert (run / "report.html").stat().st_size > 10_000
    rows = json.loads(call("front", run, "--json").output)
    point = call("show", run, rows[0]["id"])
    assert point.exit_code == 0 and "serve denoise:" in point.output and "cross attention" in point.output
    assert call("export", run, rows[0]["id"], "--to", "csv", "-o", tmp_path / "csv").exit_code == 0
    for args in (
        ("decide", run),
        ("sensitivity", run, rows[0]["id"]),
        ("export", run, rows[0]["id"], "--to", "vllm", "-o", tmp_path / "x"),
    ):
        refused = call(*args)
        assert refused.exit_code == 2 and "study of video" in refused.output, args


def test_review_is_refused_from_python_too(tmp_path):
    from codesign.rescore import points_of

    with pytest.raises(UserError, match="study of video"):
        points_of(video(tmp_path).problem, [])
