"""`show --why-not` takes what a study file would take: legal values, of a size that can be tried; and says what they mean."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from codesign.cli import main


def why_not(small, change: str, *options: str):
    return CliRunner().invoke(main, ["show", small.path, str(small.ids[0]), "--why-not", change, *options])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("n_experts=-5", "n_experts = -5 is not legal: it must be at least 0"),
        ("n_layers=-28", "n_layers = -28 is not legal"),
        ("n_experts=1e9", "n_experts = 1e+09 is more than can be tried: at most 65,536"),
        ("n_layers=1e300", "more than can be tried"),
        ("n_experts=nan", "must be a whole number"),
        ("n_experts=inf", "must be a whole number"),
    ],
)
def test_illegal_and_absurd_values_are_refused_before_anything_is_computed(small, change, said):
    answer = why_not(small, change)
    assert answer.exit_code == 2 and said in answer.stderr and answer.stdout == ""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("change", "rule"), [("n_layers=0", "must be at least 1"), ("n_experts=1", "n_active_experts must lie between")])
def test_what_cannot_be_built_names_its_rule(small, change, rule):
    answer = json.loads(why_not(small, change, "--json").stdout)
    assert not answer["feasible"] and answer["point"] is None and rule in answer["verdict"]


def test_no_experts_is_a_dense_ffn_and_says_so(small):
    answer = why_not(small, "n_experts=0")
    assert answer.exit_code == 0
    assert "n_experts = 0: a dense FFN of d_ff" in answer.stdout or "dense layers need a d_ff" in answer.stdout
