"""What `codesign evaluate`, `explain` and `list` show: rack, shared devices, help of every flag, several names, kinds."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from codesign import point_check
from codesign.cli import main
from codesign.evaluate_flags import FLAGS
from codesign.listing import KINDS

POINT = ["evaluate", "--model", "llama-3.1-8b", "--system", "gb200_nvl72"]


def shown(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(args))
    assert result.exit_code == code, result.output
    return result.output


def test_a_limit_of_a_rack_prints_its_bill():
    wide = ("--scale-up-size", "144", "--rack-power", "40000")
    text, rack = shown(*POINT, *wide), json.loads(shown(*POINT, *wide, "--json"))["rack"]
    assert "rack   a domain of 144 devices" in text and f"{rack['largest_copper']:g} devices, ended by power" in text
    assert "rack   " not in shown(*POINT) and "rack" not in json.loads(shown(*POINT, "--json"))


@pytest.mark.parametrize(
    ("system", "flag", "words"),
    [("gb200_nvl72", ("--rack-power", "100"), "not one device of 'gb200_nvl72' fits a rack within its limit of power"),
     ("tpu_v5p", ("--rack-cables", "5000"), "joins its devices as a torus")],
)  # fmt: skip
def test_racks_that_cannot_be_are_refused(system, flag, words):
    assert words in shown("evaluate", "--model", "llama-3.1-8b", "--system", system, *flag, code=2)


def test_decode_beside_prefill_says_that_its_cost_includes_the_prompts():
    together, alone = (json.loads(shown(*POINT, "--phase", p, "--json"))["decode"] for p in ("prefill,decode", "decode"))
    assert together["usd_per_mtok"] / alone["usd_per_mtok"] == pytest.approx(together["tpot_s"] / alone["tpot_s"])
    assert "adding prefill's counts it twice" in shown(*POINT)
    assert "counts it twice" not in shown(*POINT, "--phase", "decode")


def test_a_domain_has_a_whole_number_of_devices():
    assert "scale_up_size = 0 must be a whole number of at least 1" in shown(*POINT, "--scale-up-size", "0", code=2)


def test_every_flag_is_a_key_and_has_its_words():
    assert set(FLAGS) == set(point_check.DEFAULTS) - {"architecture"}
    for command in main.commands.values():
        for option in command.params:
            assert option.param_type_name == "argument" or option.help, f"{command.name} {option.opts}"


def test_several_names_are_explained_one_by_one():
    assert [a["name"] for a in json.loads(shown("explain", "overlap", "n_ffn", "--json"))] == ["overlap", "n_ffn"]
    assert json.loads(shown("explain", "serve", "memory", "--json"))["name"] == "serve memory"
    missed = shown("explain", "overlaq", "n_ffm", code=2)
    assert "'overlap'" in missed and "'n_ffn'" in missed


def test_list_without_a_kind_lists_the_kinds():
    assert [row["kind"] for row in json.loads(shown("list", "--json"))] == list(KINDS)
