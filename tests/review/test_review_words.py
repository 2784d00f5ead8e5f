"""Words of the review commands that a reader took for something else."""

from __future__ import annotations

import json

from click.testing import CliRunner

from codesign import decision_text, sensitivity, tables
from codesign.cli import main
from codesign.problem import layout_text


def call(*args: object, code: int = 0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result


def test_a_point_beside_itself_is_the_same_point(small):
    i = small.ids[0]
    assert f"#{i} twice: the same point" in call("compare", small.path, i, i).stdout


def test_show_and_compare_refuse_an_id_alike(small):
    a = small.ids[0]
    others = [int(i) for i in small.run.table["id"] if int(i) not in small.ids][:1]
    for wrong in (10**6, *others):
        assert call("show", small.path, wrong, code=2).stderr == call("compare", small.path, a, wrong, code=2).stderr


def test_a_tier_is_called_a_tier():
    answer = {"ids": [1, 2], "differs": [{"name": "slo.tpot", "a": 0.016, "b": 0.024}], "metrics": [], "why": [], "sentences": []}
    text = tables.compare_text(answer)
    assert "speed tier" in text and "slo.tpot" not in text and "16 ms" in text


def test_the_second_table_of_decide_says_against_what_it_counts(small):
    answer = json.loads(call("decide", small.path, "--samples", 40, "--json").stdout)
    text = decision_text.decide_text(answer, {p["id"]: "" for p in answer["picks"]})
    assert "Not the shares of the picks above" in text and "Which to use" in text
    share = {p["id"]: p["p_front"] for p in answer["points"]}
    ids = small.run.front.set_index("id")["design_id"]
    for d in answer["anew"]["designs"]:  # a design is on the front wherever one of its points is
        ours = [share[i] for i in ids.index[ids == ids[d["id"]]]]
        assert d["p_front"][0] >= max(ours) - 1e-9 or answer["anew"]["samples"] < answer["samples"]


def test_a_step_onto_another_layout_is_marked(small):
    answer = json.loads(call("sensitivity", small.path, small.ids[0], "--json").stdout)
    text = call("sensitivity", small.path, small.ids[0]).stdout
    named = [row["layout"] for row in answer["architecture"] if row["layout"]]
    assert ("\n* another layout or batch" in text) == bool(named) and all(f"* {layout}" in text for layout in named)
    row = small.run.point(small.ids[0])
    own = f"{layout_text(row, 'serve')} batch {int(row['serve.batch'])}"
    assert sensitivity._other_layout(small.study.setting, row, row) == "" and not any(own == n.removeprefix("serve ") for n in named)
    moved = row | {"serve.batch": 2 * row["serve.batch"]}
    assert (
        sensitivity._other_layout(small.study.setting, row, moved) == f"serve {layout_text(row, 'serve')} batch {int(moved['serve.batch'])}"
    )
