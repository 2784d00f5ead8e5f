"""Claims: data alone decides, the closed forms come out, and a verdict follows its numbers."""

from __future__ import annotations

import ast
import doctest
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.evidence import claims, claims_text, reductions, scenes, textplot
from codesign.spec.errors import UserError

ROOM = Path(claims.__file__).parent
MODULES = (claims, claims_text, scenes, reductions, textplot)


@pytest.fixture(scope="session")
def answers():
    started = time.process_time()
    found = {a.claim.id: a for a in claims.judge_all()}
    found["seconds"] = time.process_time() - started
    return found


def number(answers, claim: str, name: str) -> float:
    return next(n.value for n in answers[claim].numbers if n.name == name)


def test_thirty_six_claims_in_half_a_minute(answers):
    assert [f"C{i:02d}" for i in range(1, 37)] == claims.names()
    assert all(claims.load(name).id == name for name in claims.names())
    assert answers["seconds"] < 30


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_no_claim_has_a_formula_of_its_own(module):
    """No id of a claim in code, and no formula of physics, service or lifecycle within reach: only evaluators and expressions."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text)
    doc = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))}
    words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value not in doc]
    if module is not claims_text:  # whose page gives one as an example
        assert not [w for w in words if any(name in w for name in claims.names())]
    rooms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [r for r in rooms if r.startswith(("codesign.physics.phases", "codesign.service", "codesign.lifecycle"))]


@pytest.mark.parametrize("module", [reductions, scenes, textplot, claims], ids=lambda m: m.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "claim, name, value, tolerance",
    [
        ("C02", "dense", 295.2, 0.01), ("C02", "low", 300, 0.03), ("C02", "high", 300, 0.03), ("C02", "smallest", 37, 0.02),
        ("C03", "dense_floor", 1.0, 0.01), ("C04", "weights", 13.5e9, 0.01), ("C04", "flop", 13.2e9, 0.02), ("C04", "intensity", 1.0, 0.03),
        ("C07", "dense_decode", 2100, 0.03), ("C07", "latent_decode", 4600, 0.05), ("C07", "dense_prefill", 108e3, 0.05),
        ("C07", "latent_prefill", 30e3, 0.06), ("C14", "long", 0.83, 0.05 / 0.83), ("C18", "tpot", 1.0, 0.005), ("C18", "cache", 1.0, 0.001),
        ("C19", "low", 32e9 / 1.64e12, 0.01),
    ],
)  # fmt: skip
def test_closed_forms(answers, claim, name, value, tolerance):
    assert number(answers, claim, name) == pytest.approx(value, rel=tolerance)


def test_drain_times_are_capacity_over_bandwidth(answers):
    chips = answers["C19"].tables["chips"]
    assert (chips["hardware.drain_s"] == chips["hardware.hbm_bytes"] / chips["hardware.hbm_bytes_per_s"]).all()


@pytest.mark.parametrize("claim, change", [("C02", "h200_sxm"), ("C04", "a100_80g_sxm")])
def test_another_chip_may_turn_a_verdict(answers, claim, change):
    """With 4.8 TB/s the ideal batch is 206, not 300; an A100 offers 153 FLOP per byte, not 200."""
    changed = claims.judge(claims.load(claim), {"accelerator": change})
    assert changed.because != answers[claim].because
    assert (changed.verdict, claim) in {("does not hold", "C02"), ("holds with a condition", "C04")}


def test_every_verdict_says_what_it_stands_on(answers):
    for name in claims.names():
        answer = answers[name]
        if answer.verdict == "needs":
            assert answer.because
            continue
        assert answer.evidence in claims.EVIDENCE and answer.numbers and "{" not in answer.because
        assert all(n.low <= n.value <= n.high for n in answer.numbers if n.value == n.value), name


MINE = """
id: MINE
title: a test
statement: a test
source: a test
scenarios: {a: {given: {model: llama-3.1-8b, accelerator: h100_sxm, phase: decode, isl: 64}, sweep: {batch: [1, 2]}}}
quantities: [{name: gain, value: "last(a.decode.tok_per_s) / first(a.decode.tok_per_s)", unit: x, meaning: gain}]
verdict: [{if: gain > 1.9, then: holds, because: "{gain}"}, {then: does not hold, because: "{gain}"}]
"""


def test_a_claim_of_ones_own_and_its_errors(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(MINE, encoding="utf-8")
    assert claims.judge(claims.load(str(file))).verdict == "holds"
    for change, word in (("{if: gain > 1.9,", "{when: 1,"), ("a.decode.tok_per_s", "a.nothing"), ("sweep:", "swep:"), ("phase: decode", "phase: lunch")):
        file.write_text(MINE.replace(change, word), encoding="utf-8")
        result = CliRunner().invoke(main, ["claims", str(file)])
        assert result.exit_code == 2 and "Traceback" not in result.output, change


def test_intervals_decide_between_settled_and_not(tmp_path):
    file = tmp_path / "mine.yaml"
    gain = claims.judge(claims.load(_written(file, MINE))).numbers[0]
    assert gain.low < gain.value < gain.high
    across = MINE.replace("1.9", f"{(gain.low + gain.value) / 2:.6f}")
    assert claims.judge(claims.load(_written(file, across))).verdict == claims.UNSETTLED
    bare = across.replace("model:", "engine: ideal, model:").replace(f"{(gain.low + gain.value) / 2:.6f}", "1.9")
    ideal = claims.judge(claims.load(_written(file, bare))).numbers[0]
    assert ideal.low == ideal.value == ideal.high


def _written(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_command_shows_writes_and_refuses(tmp_path):
    run = CliRunner().invoke
    page = tmp_path / "claims.md"
    shown = run(main, ["claims", "c04", "C19", "-o", str(page)])
    assert shown.exit_code == 0 and "verdict" in shown.output and "against" in shown.output
    assert "## C19" in page.read_text(encoding="utf-8")
    assert run(main, ["claims", "C04", "--json"]).exit_code == 0
    unknown = run(main, ["claims", "C99"])
    assert unknown.exit_code == 2 and "unknown claim" in unknown.output
    with pytest.raises(UserError, match="KEY=VALUE"):
        claims.changes_of(["accelerator"])
