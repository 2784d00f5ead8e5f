"""The reviewing commands as people use them: what is printed, what is JSON, what is an error."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from codesign.cli import main


def call(*args: str, code: int = 0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def test_front_has_intervals_and_marks(small):
    shown = call("front", small.path, "-n", 5)
    assert "~" in shown.stdout and "(" in shown.stdout and "cannot be told apart" in shown.stderr
    row = json.loads(call("front", small.path, "--json", "-n", 1).stdout)[0]
    tpot = row["uncertainty"]["tpot_s"]
    assert tpot["lower"] < row["tpot_s"] < tpot["upper"] and tpot["value"] == pytest.approx(row["tpot_s"])
    assert {"sigma_shared", "sigma_own", "like_best"} <= set(tpot)


def test_show_has_the_uncertainty(small):
    assert "uncertainty of the model" in call("show", small.path, small.ids[0]).stdout
    found = json.loads(call("show", small.path, small.ids[0], "--json").stdout)["uncertainty"]
    assert found["level"] == 0.8 and set(found["alike"]) == {"c_eq_flop", "usd_per_mtok", "tpot_s"}


def test_decide_prints_picks_and_measurements(small):
    text = call("decide", small.path, "--samples", 60).stdout
    for word in ("knee", "cheapest", "fastest", "best quality", "most robust", "instead", "sure", "expect", "regret"):
        assert word in text
    answer = json.loads(call("decide", small.path, "--samples", 60, "--json").stdout)
    assert answer["samples"] == 60 and len(answer["picks"]) == 5 and len(answer["points"]) == len(small.ids)
    assert json.loads(call("decide", small.path, "--samples", 60, "--json").stdout) == answer


def test_sensitivity_prints_resources_assumptions_and_shapes(small):
    text = call("sensitivity", small.path, small.ids[0]).stdout
    for word in ("HBM bandwidth", "price", "demand", "decode time", "n_layers", "+10 % quality"):
        assert word in text
    answer = json.loads(call("sensitivity", small.path, small.ids[0], "--json").stdout)
    assert {"resources", "assumptions", "architecture", "exchange"} <= set(answer)


def test_compare_sums_and_says_what_is_told_apart(small):
    a, b = small.ids[0], small.ids[-1]
    text = call("compare", small.path, a, b).stdout
    assert "where the difference comes from" in text and "told apart" in text
    answer = json.loads(call("compare", small.path, a, b, "--json").stdout)
    ends = {m["name"]: m["b"] - m["a"] for m in answer["metrics"]}
    for goal in ("c_eq_flop", "usd_per_mtok", "tpot_s"):
        assert sum(row[goal] for row in answer["waterfall"]) == pytest.approx(ends[goal], rel=1e-9)
    same = json.loads(call("compare", small.path, small.path, "--json").stdout)
    assert same["fronts"]["first_beaten"] == same["fronts"]["second_beaten"] == 0.0


def test_why_not_names_who_pays_or_what_kills(small):
    text = call("show", small.path, small.ids[0], "--why-not", "n_layers=48").stdout
    assert "n_layers" in text
    other = json.loads(call("show", small.path, small.ids[0], "--why-not", "n_layers=40", "--json").stdout)
    assert other["in_space"] is False and other["feasible"] and set(other["changes"]) == {"c_eq_flop", "usd_per_mtok", "tpot_s"}
    dead = json.loads(call("show", small.path, small.ids[0], "--why-not", "n_layers=4000", "--json").stdout)
    assert not dead["feasible"] and dead["broken"] and "infeasible" in dead["verdict"]


def test_why_not_of_a_point_of_the_front_finds_it(small):
    """Asking for the variables of another point leads to a design of the front, or to one that the front beats."""
    front = small.run.front
    row = front.iloc[-1]
    names = ("architecture.n_layers", "architecture.n_experts", "precision.weight_bits", "hardware.serve")
    change = ", ".join(f"{name}={row[name]}" for name in names)
    answer = json.loads(call("show", small.path, small.ids[0], "--why-not", change, "--json").stdout)
    assert answer["feasible"] and ("on the front" in answer["verdict"] or answer["beaten_by"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "{path}", "99999"], ["no point with id 99999", "ids on the front"]),
        (["sensitivity", "{path}", "99999"], ["no point with id 99999"]),
        (["show", "{path}", "{id}", "--why-not", "n_expert=4"], ["'n_expert' is not a variable", "n_experts"]),
        (["show", "{path}", "{id}", "--why-not", "n_experts"], ["is no change", "variable=value"]),
        (["show", "{path}", "{id}", "--why-not", ""], ["--why-not is empty"]),
        (["show", "{path}", "{id}", "--why-not", "n_experts=many"], ["is not a number"]),
        (["show", "{path}", "{id}", "--why-not", "n_experts=1.5"], ["whole number"]),
        (["show", "{path}", "{id}", "--why-not", "hardware.serve=tpu_v9"], ["is not one of hardware.serve", "mi300x_node"]),
        (["decide", "nowhere"], ["no such directory"]),
        (["compare", "{path}", "1", "x"], ["must be ids of points"]),
    ],
)
def test_bad_input_is_one_clear_message(small, args, words):
    result = call(*[a.format(path=small.path, id=small.ids[0]) for a in args], code=2)
    assert all(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_samples_are_checked():
    assert "--samples" in call("decide", "x", "--samples", 1, code=2).stderr
