"""Claims: data alone decides, the closed forms come out, and a verdict follows its numbers."""

from __future__ import annotations

import ast
import doctest
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.evidence import claims, claims_text, pins, reductions, scenes, textplot
from codesign.spec.errors import UserError

ROOM = Path(claims.__file__).parent
MODULES = (claims, claims_text, pins, scenes, reductions, textplot)


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
        ("C25", "capacity", 3, 1e-9), ("C25", "bandwidth", 614e9 / 8e12, 1e-3), ("C08", "narrow", 256 / 176, 1e-9), ("C10", "fast_size", 64, 0.13),
        ("C19", "low", 32e9 / 1.64e12, 0.01), ("C17", "cables", 5184, 1e-12), ("C17", "largest", 72, 1e-12), ("C20", "time", 4 / 3, 0.05),
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


def test_a_resource_brings_at_most_its_share(answers):
    """10 % more of one resource brings between nothing and 10 %, and all resources of one workload together at most that."""
    gains = {n.name: n.value for n in answers["C29"].numbers if n.unit == "%" and "watt" not in n.name}
    assert all(-1e-9 <= v <= 0.1 for v in gains.values())
    assert sum(v for k, v in gains.items() if k.endswith("_b200") and "train" not in k) <= 0.1 + 1e-9


@pytest.mark.parametrize(
    "claim, old, new, verdict",
    [
        ("C25", "hbm_bandwidth=0.07675", "hbm_bandwidth=0.9", "does not hold"),
        ("C10", "scale_up_size: [8, 16, 32, 64, 72, 144, 288, 576]", "scale_up_size: [64, 72]", "does not hold"),
        ("C08", "n: 176", "n: 256", "does not hold"),
        ("C30", "note.old: 0.35", "note.old: 0.95", "does not hold"),
        ("C29", "peak=1.1", "peak=2", "does not hold"),
        ("C35", "phase: decode", "phase: decode, engine: ideal", "does not hold"),
    ],
)
def test_another_scenario_turns_the_verdict(tmp_path, claim, old, new, verdict):
    text = (claims.FOLDER / f"{claim}.yaml").read_text(encoding="utf-8")
    assert old in text
    assert claims.judge(claims.load(_written(tmp_path / "mine.yaml", text.replace(old, new)))).verdict == verdict


def test_a_derived_chip_errs_with_its_base():
    """The same constants are off in both: twice the bandwidth halves a memory-bound step whatever the kernels reach."""
    given = {"phase": "decode", "model": "llama-3.1-8b", "isl": 64, "engine": "generic"}
    scene = scenes.Scene(given=given, rows=[{"accelerator": name} for name in ("h200_sxm", "h200_sxm with hbm_bandwidth=2")])
    assert {shift.hardware for shift in scene.shifts()} == {"h200_sxm"} and len(scene.shifts()) == 4
    for shift in scene.shifts():
        moved, middle = scene.table(shift)["decode.step_s"], scene.table()["decode.step_s"]
        assert (moved > middle).all() if shift.resource in ("memory", "fixed") else (moved >= middle).all()


def test_another_base_keeps_the_factors_of_derived_chips():
    """DDR under an H200 is still DDR; a change that takes away what a claim compares leaves no verdict."""
    answer = claims.judge(claims.load("C25"), {"accelerator": "h200_sxm"})
    assert answer.tables["dense"]["accelerator"][1].startswith("h200_sxm with") and answer.numbers[0].value < 0.5
    assert "nothing to compare" in claims.judge(claims.load("C29"), {"accelerator": "h200_sxm"}).because


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
    for change, word in (
        ("{if: gain > 1.9,", "{when: 1,"),
        ("a.decode.tok_per_s", "a.nothing"),
        ("sweep:", "swep:"),
        ("phase: decode", "phase: lunch"),
    ):
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


STUDY = """
id: MINE
title: a test
statement: a test
source: a test
scenarios:
  pools:
    evaluator: study
    given:
      study:
        base: {model: llama-3.1-8b}
        hardware: {train: h100_sxm_node, serve: h200_sxm_node}
        space: {precision.weight_bits: [8, 16]}
        workload: {use: chat, demand: 1e5 tok/s, lifetime: 1 yr}
        lifecycle: {pretrain_tok: 1 Ttok}
        layout: {train: {n_devices: [64], n_tp: [1], n_pp: [1]}, serve: {n_tp: [1], batch: [8, 64]}}
        objectives: {usd_per_mtok: minimize, tpot: minimize}
    rows: [{hardware.serve: h100_sxm_node}, {hardware.serve: h200_sxm_node}]
quantities: [{name: ratio, value: "lowest(pick(pools.usd_per_mtok, pools.hardware.serve == 'h100_sxm_node')) / lowest(pools.usd_per_mtok)",
              meaning: ratio}]
verdict: [{if: ratio >= 1, then: holds, because: "{ratio}"}, {then: does not hold, because: "{ratio}"}]
"""


def test_a_study_is_a_scenario_too(tmp_path):
    answer = claims.judge(claims.load(_written(tmp_path / "mine.yaml", STUDY)))
    assert answer.verdict == "holds" and set(answer.tables["pools"]["precision.weight_bits"]) <= {8.0, 16.0}
    with pytest.raises(UserError, match="nothing"):
        claims.judge(claims.load(_written(tmp_path / "mine.yaml", STUDY.replace("base: {model: llama-3.1-8b}", "base: {model: nothing}"))))
