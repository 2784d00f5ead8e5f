"""The page's data from a run: units and labels, groups, and rows that keep to the page's size whatever the run's."""

import dataclasses

import finished
import numpy as np
import pandas as pd
import pytest

from codesign import payload
from codesign.decision import decide
from codesign.intervals import intervals_of
from codesign.report import html, render
from codesign.robustness import quick_samples
from codesign.spec import Reference
from codesign.study import open_study


@pytest.fixture(scope="module")
def run():
    return finished.searched()


def page(run):
    return payload.report_payload(open_study(run.path / "study.yaml"), run, ["hf"])


def test_columns_have_units_labels_and_groups(run):
    known = {c["name"]: c for c in payload.columns(run)}
    assert known["serve.tok_per_s"]["unit"] == "tok/s" and known["serve.step_s"]["unit"] == "s"
    assert (known["train.n_tp"]["label"], known["serve.memory_bytes"]["label"]) == ("train TP", "serve memory")
    assert known["architecture.n_layers"]["group"] == "architecture" and known["hardware.serve"]["categorical"]
    assert known["usd_per_mtok"]["group"] == "objective" and not any(c["derived"] for c in known.values() if c["name"] in run.variables)
    assert all(c["label"] and c["meaning"] for c in known.values() if c["group"] in ("objective", "metric", "deployment"))


def test_every_design_of_a_small_front_has_its_details(run):
    assert set(page(run)["details"]) == {str(i) for i in run.front["id"]}


def test_confidence_is_that_of_decide(run):
    data, study = page(run), open_study(run.path / "study.yaml")
    told = decide(study, run)  # as the command does
    assert [(pick["name"], pick["id"], pick["p_front"]) for pick in data["picks"]] == [
        (p["name"], p["id"], p["p_front"]) for p in told["picks"]
    ]
    assert data["decision"]["samples"] == quick_samples(study, len(run.front)) == data["decision"]["wanted"] == told["samples"]
    shares = dict(zip(data["rows"]["id"], data["rows"]["p_front"], strict=True))
    assert all(shares[point["id"]] == pytest.approx(point["p_front"]) for point in told["points"])
    assert all(shares[i] is None for i in run.table["id"][~run.table["on_front"]])


def test_details_have_the_intervals_of_show(run):
    data, study = page(run), open_study(run.path / "study.yaml")
    doubt = intervals_of(study, run)
    for row, i in enumerate(doubt.ids):
        said = data["details"][str(i)]["intervals"]
        assert set(said) == set(doubt.values) >= set(run.objectives)
        for column, ends in doubt.record(row).items():
            assert said[column] == pytest.approx({key: ends[key] for key in ("lower", "upper")})
            assert ends["lower"] <= ends["value"] <= ends["upper"]


def test_points_are_not_designs(run):
    """A design on the front has a row for each layout that pays; both numbers are on the page."""
    counts, table = page(run)["counts"], run.table[run.table["feasible"]]
    assert (counts["n_points"], counts["n_designs_of_points"]) == (len(table), table["design_id"].nunique())
    assert counts["n_designs_of_points"] == counts["n_feasible"] <= counts["n_points"]


def test_references_are_on_the_page(run):
    study = open_study(run.path / "study.yaml")
    (one,) = payload.report_payload(study, run, (), [Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok")])["references"]
    assert set(run.objectives) <= set(one["values"]) and all(set(other) == set(run.objectives) for other in one["others"])
    assert one["place"] and len(render(page(run) | {"references": [one]})) < len(render(page(run))) + 12_000


def test_a_long_run_keeps_to_the_page(run):
    """Picks stay, the front goes before the rest, and the page stays below 6 MB."""
    copies = pd.concat([run.table.assign(id=run.table["id"] + k * len(run.table)) for k in range(1200)], ignore_index=True)
    long = dataclasses.replace(run, table=copies)
    data = page(long)
    shown = np.array(data["rows"]["on_front"])
    assert len(shown) == payload.MAX_ROWS <= html.MAX_ROWS and shown.sum() == payload.MAX_FRONT_ROWS
    assert {pick["id"] for pick in data["picks"]} <= set(data["rows"]["id"])
    assert len(data["details"]) <= payload.MAX_DETAILS + len(data["picks"])
    assert len(render(data).encode()) < 6e6
