"""Claims under `--set`: each fails alone and says why, no chip is compared with itself, unknown keys are refused."""

from __future__ import annotations

import json
import warnings

import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.evidence import claims, claims_text, pins


def run(*words: str):
    return CliRunner().invoke(main, ["claims", *words])


@pytest.fixture(scope="module")
def pinned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {a.claim.id: a for a in claims.judge_all((), {"accelerator": "mi300x"})}


def test_every_claim_answers_under_a_pin(pinned):
    """No error of one stops the others, none is an internal one, and numpy has nothing to warn of."""
    assert list(pinned) == claims.names()
    silent = {name for name, a in pinned.items() if a.because.startswith(claims.PINNED)}
    assert silent == {"C09", "C17", "C26", "C27", "C29", "C30", "C31", "C35"}
    for name in silent:
        assert pinned[name].verdict == claims.UNSETTLED and "Error" not in pinned[name].because
        assert ("nothing to compare" in pinned[name].because) != (name == "C17")
    assert "a system such as gb200_nvl72 is needed, mi300x is a chip alone" in pinned["C17"].because


def test_no_verdict_reads_a_number_that_is_none(pinned):
    for name, answer in pinned.items():
        assert answer.because.startswith(claims.PINNED) or " none" not in answer.because, name


def test_what_a_pin_leaves_to_compare_is_still_judged(pinned):
    """One chip is enough for shapes of a product (C08), formats (C12), a drain time (C19), DDR under it (C25) and its price sheet (C24)."""
    for name in ("C08", "C12", "C19", "C24", "C25"):
        assert not pinned[name].because.startswith(claims.PINNED), name
    assert pinned["C19"].numbers[0].value == pytest.approx(192e9 / 5.3e12, rel=0.01)


@pytest.mark.parametrize("name, accelerator", [("C27", "h200_sxm"), ("C35", "b200_sxm"), ("C09", "h100_sxm")])
def test_a_chip_against_itself_is_no_comparison(name, accelerator):
    answer = claims.judge(claims.load(name), {"accelerator": accelerator})
    assert answer.verdict == claims.UNSETTLED and "nothing to compare" in answer.because


def test_merged_quantities_are_those_with_two_sides():
    """C19: the lowest of one chip is a number; the H200 filled to 85 % stands in a scenario of its own."""
    assert pins.merged(claims.load("C19"), {"accelerator": "mi300x"}) == set()
    assert {"gap", "top", "parts"} <= pins.merged(claims.load("C35"), {"accelerator": "mi300x"})
    assert pins.merged(claims.load("C35"), {"isl": 4096}) == set()


def test_command_answers_with_zero_and_shows_why():
    listed = run("C17", "C24", "C26", "C27", "C31", "--set", "accelerator=mi300x", "--json")
    assert listed.exit_code == 0 and [a["verdict"] for a in json.loads(listed.stdout)].count("not settled") == 4
    shown = run("C17", "--set", "accelerator=mi300x")
    assert shown.exit_code == 0 and "cannot say with this pin" in shown.stdout


def test_unknown_keys_and_names_are_refused_all_at_once():
    refused = run("C02", "--set", "foo=1", "--set", "bacth=4", "--set", "accelerator=mi300y")
    assert refused.exit_code == 2
    for words in ("--set foo", "--set bacth", "did you mean 'batch'", "'mi300y'"):
        assert words in refused.stderr
    assert "act_bits" in refused.stderr  # nothing is near foo: the keys are listed


def test_the_table_shows_the_condition(pinned, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    lines = claims_text.screen(list(pinned.values())).splitlines()
    assert "evidence" not in lines[0] and len(lines) == 1 + 2 * len(pinned)
    for answer, line, said in zip(pinned.values(), lines[1::2], lines[2::2], strict=True):
        assert line.startswith(answer.claim.id) and answer.verdict in line
        assert len(said) <= 90 and answer.because.startswith(said.strip().removesuffix(" ..."))
    assert claims_text.as_json(pinned["C01"])["evidence"] == pinned["C01"].evidence != ""


def test_progress_goes_to_stderr():
    result = run("C03", "C04", "C12", "C18", "C19", "--json")
    assert "0/5 claims" in result.stderr and "4/5 claims" in result.stderr
    assert len(json.loads(result.stdout)) == 5
