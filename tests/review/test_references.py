"""Designs that exist beside a front: the same physics as the search, their own tokens, and reasons for what they break."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

import studies
from codesign import references
from codesign.cli import main
from codesign.evidence import rows
from codesign.export._subject import subject
from codesign.lifecycle.vocabulary import tok_per_base_tok
from codesign.results import Run
from codesign.spec import Reference, read_references
from codesign.spec.errors import SpecError, UserError
from codesign.study import open_study

SHIPPED = rows.shipped("inference")


def placed(small, *texts):
    return references.named(small.study, small.run, texts)


@pytest.fixture(scope="module")
def copied(small, tmp_path_factory):
    """A model file with the shape of a design of the front, and that point."""
    folder, i = tmp_path_factory.mktemp("copied"), small.ids[len(small.ids) // 2]
    one, point = subject(small.study, small.run, i), small.run.point(i)
    shape = {k: (int(v) if isinstance(v, (int, float)) else v) for k, v in one.shape.items() if k != "n_window_layers"}
    bits = {k: float(one.values[f"precision.{k}"] if np.ndim(one.values[f"precision.{k}"]) == 0 else one.values[f"precision.{k}"][0])
            for k in ("weight_bits", "kv_bits", "act_bits")}  # fmt: skip
    flags = ("tied_embeddings norm_bias attention_bias output_bias output_gate qk_norm qk_norm_full attention_sinks ffn_gated ffn_bias "
             "shared_gate expert_bias router_bias").split()  # fmt: skip
    shape |= {k: bool(shape[k]) for k in flags if k in shape}
    entry = {"name": "mine", "source": "test", "date": "2026-11", "confidence": "estimate", "architecture": shape, "precision": bits}
    (folder / "mine.yaml").write_text(yaml.safe_dump(entry))
    return folder / "mine.yaml", point


def test_a_design_of_the_front_lands_on_it(small, copied):
    """The same shape and precision, tokens by the study's rule: one of its points is the archived one."""
    path, point = copied
    (one,) = placed(small, str(path))
    goals = list(small.run.objectives)
    assert one["feasible"] and one["point"]["n_params"] == point["n_params"]
    assert any(all(p[g] == pytest.approx(point[g], rel=1e-9) for g in goals) for p in one["points"])
    on = [references.place(small.run, p)["on_front_as"] for p in one["points"]]
    assert point["id"] in on


def test_published_tokens_and_vocabulary(small):
    """The model's own tokens; its tokens carry another share of text than those of the study's base."""
    one, again = placed(small, "qwen3-30b-a3b")[0], references.references_of(
        small.study, small.run, [Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok", name="own")])[0]  # fmt: skip
    assert one["point"]["pretrain_tok"] == 36e12 and "36 Ttok, as published" in one["notes"][0]
    assert again["name"] == "own" and again["point"]["pretrain_tok"] == 1e12 and "as given" in again["notes"][0]
    ratio = float(tok_per_base_tok(np.array([128256.0]), small.study.setting.base["architecture.vocab"]).ravel()[0])
    served = again["point"]["inference_flop"]
    same = dataclasses.replace(small.study, file=small.study.file)
    base = {**small.study.setting.base, "architecture.vocab": 128256}
    same = dataclasses.replace(same, problem=dataclasses.replace(same.problem, setting=dataclasses.replace(same.setting, base=base)))
    own = references.references_of(same, small.run, [Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok")])[0]
    assert ratio != 1.0 and served == pytest.approx(ratio * own["point"]["inference_flop"], rel=1e-9)


def test_a_fixed_life_over_the_budget_is_said(small):
    (one,) = placed(small, "qwen3-30b-a3b")
    spent = one["point"]["lifecycle_usd"]
    budget = small.study.setting.life.budget
    assert spent > budget and not one["feasible"]
    assert f"its whole life takes {spent / budget:.3g} times the budget" in one["reasons"]
    assert one["place"]["sentence"]


def test_what_does_not_fit_is_said(small):
    (one,) = placed(small, "deepseek-v3")
    assert one["point"] is None and one["place"] is None and not one["feasible"]
    assert any("fits the device memory" in reason for reason in one["reasons"])
    (one,) = placed(small, "kimi-k3")
    assert "cannot be evaluated" in one["reasons"][0] and one["points"] == []


def test_limits_that_are_broken_are_named(tmp_path, small):
    tight = studies.study(tmp_path, {"slo": {"ttft": "1 s", "tpot": "0.1 ms"}, "constraints": {"train_days": "<= 1 day"}})
    (one,) = references.references_of(tight, small.run, [Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok")])
    assert not one["feasible"] and one["point"]["tpot_s"] > 1e-4
    assert {r.split()[0] for r in one["reasons"]} >= {"tpot", "train_days"}


def test_precision_of_a_reference(small):
    plain, four = references.references_of(small.study, small.run, [
        Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok"),
        Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok", precision={"weight_bits": 4})])  # fmt: skip
    assert four["point"]["precision.weight_bits"] == 4 and four["point"]["c_eq_flop"] < plain["point"]["c_eq_flop"]
    assert four["point"]["usd_per_mtok"] < plain["point"]["usd_per_mtok"]  # each at its own cheapest layout


@pytest.mark.parametrize("seed", range(20))
def test_place_is_what_a_loop_finds(seed):
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(size=(40, 3)))
    goals = {"c_eq_flop": "maximize", "usd_per_mtok": "minimize", "tpot_s": "minimize"}
    table = pd.DataFrame(values, columns=list(goals)).assign(id=np.arange(40) + 5, on_front=True)
    mine = np.exp(rng.normal(size=3) * 0.7)
    found = references.place(Run(Path(), {"objectives": goals}, table), dict(zip(goals, mine, strict=True)))
    cost, own = values * [-1, 1, 1], mine * [-1, 1, 1]
    beaten = {5 + i for i in range(40) if all(cost[i] <= own) and any(cost[i] < own)}
    assert set(found["beaten_by"]) == beaten
    assert found["beats"] == sum(all(own <= c) and any(own < c) for c in cost)
    for j, goal in enumerate(goals):
        others = [k for k in range(3) if k != j]
        free = [i for i in range(40) if all(cost[i][others] <= own[others]) and cost[i][j] < own[j]]
        assert (goal in found["gains"]) == bool(free)
        if free:
            assert found["gains"][goal]["id"] == 5 + min(free, key=lambda i: cost[i][j])


def test_a_measured_deployment(small):
    wanted = next(r for r in rows.load(None, "inference") if r["phase"] == "e2e" and r["ttft_ms"] and "llama" in r.text("model").lower())
    (one,) = placed(small, f"{SHIPPED}#{wanted.id}")
    assert one["kind"] == "measured" and one["point"]["tpot_s"] == wanted["tpot_ms"] / 1e3
    assert any("measured" in note and "computed for the same requests" in note for note in one["notes"])
    isl = float(small.study.setting.traffic.isl_tok)
    assert (one["place"] is None) == ("not ranked" in one["notes"][0]) == (abs(wanted["isl"] / isl - 1) > references.ALIKE)
    seconds = (wanted["ttft_ms"] + wanted["osl"] * wanted["tpot_ms"]) / 1e3
    devices_s = wanted["n_gpus"] * seconds / (wanted["batch_or_concurrency"] * wanted["osl"])
    price = one["point"]["usd_per_mtok"] / 1e6 / devices_s * 3600
    assert 0.5 < price < 10  # USD/h of one device
    with pytest.raises(UserError, match="no row with id"):
        placed(small, f"{SHIPPED}#none")


def test_the_study_names_references(tmp_path, small):
    named = studies.study(tmp_path, {"references": ["llama-3.1-8b", {"model": "phi-4", "name": "ours"}]})
    assert [r.model for r in named.file.references] == ["llama-3.1-8b", "phi-4"]
    found = references.named(named, small.run, ())
    assert [one["name"] for one in found] == ["llama-3.1-8b", "ours"]
    for wrong, said in ((["nothere"], "unknown model 'nothere'"), ([{"name": "x"}], "a model or a measured"), ([{"model": "a", "b": 1}], "unknown key"),
                        ([{"measured": "x.csv"}], "measured")):  # fmt: skip
        with pytest.raises(SpecError, match=said):
            studies.study(tmp_path, {"references": wrong})
    assert [r.measured for r in read_references(["a.csv#b"])] == ["a.csv#b"]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_has_a_place_for_known_models(path):
    """A point, or the reason why there is none; what is said to be feasible keeps the limits of the study."""
    study = open_study(path)
    for name in ("deepseek-v3", "llama-3.1-8b"):
        one = references._model(study, Reference(model=name))
        assert bool(one["points"]) == (one["point"] is not None) and (one["feasible"] or one["reasons"])
        if one["feasible"]:
            assert all(limit.violation(one["point"][limit.column]) <= 0 for limit in study.setting.limits)
            assert one["point"]["tpot_s"] <= study.setting.max_tpot_s and one["point"]["ttft_s"] <= study.setting.max_ttft_s


def test_a_file_that_was_moved_is_a_remark(small):
    (one,) = references.references_of(small.study, small.run, [Reference(model="gone/config.json")])
    assert one["point"] is None and "cannot read" in one["reasons"][0]


def test_command_line(small, tmp_path):
    run = CliRunner().invoke(main, ["place", small.path, "llama-3.1-8b", "--json"])
    (one,) = json.loads(run.stdout)
    assert run.exit_code == 0 and one["place"]["sentence"] and set(small.run.objectives) <= set(one["point"])
    run = CliRunner().invoke(main, ["place", small.path, "llama-3.1-8b", "deepseek-v3"])
    assert run.exit_code == 0 and "beside it" in run.stdout and "breaks    no " in run.stdout
    run = CliRunner().invoke(main, ["place", small.path, "llama-31"])
    assert run.exit_code == 2 and "unknown model" in run.output
    run = CliRunner().invoke(main, ["place", small.path])
    assert run.exit_code == 0 and "names no references" in run.stdout
    page = tmp_path / "page.html"
    run = CliRunner().invoke(main, ["report", small.path, "--reference", "llama-3.1-8b", "-o", str(page)])
    assert run.exit_code == 0 and "llama-3.1-8b" in page.read_text()


def test_other_references_are_the_same_study(tmp_path):
    from codesign.run import run
    from codesign.tables import study_of

    first = run(studies.study(tmp_path), tmp_path / "out")
    again = run(studies.study(tmp_path, {"references": "phi-4"}), tmp_path / "out")
    assert len(again.front) == len(first.front) and [r.model for r in study_of(again).file.references] == ["phi-4"]
    assert '"phi-4"' in (tmp_path / "out" / "report.html").read_text()
