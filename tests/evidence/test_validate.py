"""The command on slices of the shipped measurements, and the published table on all of them."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from codesign import uncertainty
from codesign.cli import main
from codesign.evidence import plot, score, spread, text, validate
from codesign.evidence.rows import KINDS, load, shipped

ROOT = Path(__file__).resolve().parents[2]
RECORD = {"phase", "group", "metric", "n", "median_abs_err", "p90_abs_err", "median_bias", "kendall_tau", "coverage", "median_log_width"}
SLICE = {
    "training": ("seqsel-gpt3", "fms-llama2-7b", "mb-qwen3-30b-a3b-h100", "zoo-qwen235-gb200-bf16"),
    "inference": ("gptfast-0", "inx-00", "trt10-00", "lcpp-06", "trt06-00", "trt05p-00", "nim-0"),
}


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    """{kind: a CSV with a few rows of the shipped file}."""
    folder, found = tmp_path_factory.mktemp("slices"), {}
    for kind in KINDS:
        with shipped(kind).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        found[kind] = folder / f"{kind}.csv"
        with found[kind].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([rows[0], *(r for r in rows[1:] if r[0].startswith(SLICE[kind]))])
    return found


def run(*words):
    return CliRunner().invoke(main, ["validate", *map(str, words)])


@pytest.mark.parametrize("kind", KINDS)
def test_per_row_file_has_one_line_per_row_and_metric(sliced, kind, tmp_path):
    out = tmp_path / "out.csv"
    result = run(sliced[kind], "--kind", kind, "--per-row", out)
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(out.open(encoding="utf-8", newline="")))
    assert list(lines[0]) == ["id", "phase", "group", "metric", "measured", "predicted", "lower", "upper", "err", "skipped"]
    assert len({(r["id"], r["metric"]) for r in lines}) == len(lines)
    assert {r["id"] for r in lines} == {row.id for row in load(sliced[kind], kind)}
    for r in lines:
        if r["skipped"]:
            assert not r["predicted"] and not r["err"]
        else:
            measured, predicted, lower, upper = (float(r[k]) for k in ("measured", "predicted", "lower", "upper"))
            assert lower < predicted < upper and measured > 0
            assert measured * 2.718281828 ** float(r["err"]) == pytest.approx(predicted, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_json_has_the_public_keys(sliced, kind):
    answer = json.loads(run(sliced[kind], "--kind", kind, "--json").stdout)
    assert {"overall", "groups", "sweeps", "skipped", "baselines"} <= set(answer)
    for record in (*answer["overall"], *answer["groups"]):
        assert set(record) >= RECORD
    assert {"name", "median_abs_err"} <= set(answer["baselines"][0])
    assert all({"kendall_tau", "n_pairs", "group", "metric"} <= set(s) for s in answer["sweeps"])
    assert sum(s["n"] for s in answer["skipped"]) + answer["n_scored"] == answer["n_rows"]


def test_predictions_are_those_of_evaluate(sliced):
    found = validate(sliced["training"], "training")
    line = next(line for line in found.scored if line.id == "fms-llama2-7b-h100")
    again = json.loads(CliRunner().invoke(main, [
        "evaluate", "--json", "--phase", "train", "--model", "llama-2-7b", "--accelerator", "h100_sxm", "--n-dp", "96", "--micro-batch", "2",
        "--global-batch", "192", "--seq-len", "4096", "--zero", "3", "--recompute", "none", "--scale-out-bandwidth", "12.5e9",
        "--engine", "fsdp",
    ]).stdout)  # fmt: skip
    assert again["train"]["tok_per_s_per_device"] == pytest.approx(line.predicted, rel=1e-6)


def test_unstated_recomputation_is_the_fastest_that_fits(sliced):
    found = validate(sliced["training"], "training")
    line = next(line for line in found.scored if line.id.startswith("zoo-") and "recompute" in line.case.assumed)
    assert line.prediction.answer["train"]["fits"] and len(line.case.options) == 3
    assert any(note.startswith("recompute not stated") for note in line.notes)


def test_a_full_cache_makes_requests_wait_instead_of_batching_them(sliced):
    found = validate(sliced["inference"], "inference")
    by_id = {(line.id, line.metric): line for line in found.scored}
    some, many = by_id["nim-06", "tpot_ms"], by_id["nim-08", "tpot_ms"]  # 150 and 250 requests, the cache of two H100 full in both
    assert some.prediction.scenario["batch"] == many.prediction.scenario["batch"] < 150
    assert many.predicted == some.predicted
    assert many.prediction.notes == ("cache cannot hold all requests: the others wait",)


def test_explain_shows_operators_and_the_command(sliced):
    training = run(sliced["training"], "--explain", "seqsel-gpt3-175b-full")
    assert training.exit_code == 0
    for word in ("tokens_per_s_per_gpu", "dense FFN", "one of", "gradient exchange", "codesign evaluate", "n_layers: 96"):
        assert word in training.stdout
    serving = run(sliced["inference"], "--explain", "inx-001")
    assert "attention over cache" in serving.stdout and "mostly" in serving.stdout
    assert "prefill interference" in run(sliced["inference"], "--explain", "nim-08").stdout
    assert "operators" in json.loads(run(sliced["inference"], "--explain", "inx-001", "--json").stdout)["answer"]["decode"]
    skipped = run(sliced["inference"], "--explain", "lcpp-062")
    assert "skipped: weight_bits is not 4, 8 or 16: 4.9" in skipped.stdout
    wrong = run(sliced["inference"], "--explain", "inx-0001")
    assert wrong.exit_code == 2 and "did you mean 'inx-001'" in wrong.output


def test_plot_is_one_offline_page_and_data_stays_data(sliced, tmp_path):
    hostile = tmp_path / "hostile.csv"
    text_ = sliced["inference"].read_text(encoding="utf-8")
    hostile.write_text(text_.replace("inx-001", "</script><script>alert(1)</script>{{data}}"), encoding="utf-8")
    page = tmp_path / "page.html"
    assert run(hostile, "--plot", page).exit_code == 0
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|@import|url\(", html) and html.count("<script") == 2 and "{{script}}" not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])
    assert any("{{data}}" in p["id"] for p in data["points"]) and all(p["lower"] < p["predicted"] < p["upper"] for p in data["points"])


def test_a_users_minimal_file_needs_no_kind(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("phase,gpu,model,tpot_ms,isl,osl,batch_or_concurrency\ndecode,H100-SXM,llama-3.1-8b,8.1,100,100,1\n", encoding="utf-8")
    result = run(mine)
    assert result.exit_code == 0 and "1 of 1 rows" in result.stdout and "weight_bits not stated: as released" in result.stdout


def test_bad_files_exit_2_and_nothing_predicted_exits_1(tmp_path):
    assert run(tmp_path / "none.csv", "--kind", "training").exit_code == 2
    mine = tmp_path / "mine.csv"
    mine.write_text("phase,gpu,model,tpot_ms\ndecode,abacus,llama-3.1-8b,8\n", encoding="utf-8")
    result = run(mine)
    assert result.exit_code == 1 and "chip not in the catalog: abacus" in result.output


def test_intervals_widen_with_level_and_without_tables():
    low, high = uncertainty.interval("inference", "decode", "tables", False, 10.0)
    wide_low, wide_high = uncertainty.interval("inference", "decode", "tables", False, 10.0, level=0.95)
    assert wide_low < low < 10.0 < high < wide_high and low * high == pytest.approx(100.0)
    assert uncertainty.chip_class("h200_sxm_node", "vllm") == "tables" and uncertainty.chip_class("tpu_v5e") == "priors"
    for phase in ("prefill", "e2e", "offline", "ttft"):
        for moe in (False, True):
            assert uncertainty.spread("inference", phase, "priors", moe).total > uncertainty.spread("inference", phase, "tables", moe).total


@pytest.fixture(scope="module")
def everything():
    return [validate(None, kind) for kind in KINDS]


@pytest.mark.slow
def test_published_page_is_current(everything):
    spec = importlib.util.spec_from_file_location("write_accuracy", ROOT / "scripts" / "write_accuracy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    stale = script.stale(script.PAGE.read_text(encoding="utf-8"), everything)
    assert not stale, (
        "a median error moved by more than 2 points: scripts/fit_uncertainty.py, then scripts/write_accuracy.py\n" + "\n".join(stale)
    )


@pytest.mark.slow
def test_all_measurements_are_answered_and_better_than_the_roofline(everything):
    training, inference = everything
    assert len({line.id for line in training.scored}) == 349 and len({line.id for line in inference.scored}) >= 925
    bare = {r["group"]: r["median_abs_err"] for r in score.baseline_records(inference)}
    assert all(r["median_abs_err"] < bare[r["group"]] for r in score.overall(inference))
    mfu = {(r["name"], r["group"]): r["median_abs_err"] for r in score.baseline_records(training)}
    assert mfu["constant MFU", "dense"] == pytest.approx(0.117, abs=0.01) and mfu["constant MFU", "MoE"] == pytest.approx(0.165, abs=0.01)
    assert all(json.dumps(text.summary(v), allow_nan=False) and plot.render([v]) for v in everything)


@pytest.mark.slow
def test_spreads_are_those_of_these_residuals(everything):
    fitted = spread.fit([r for v in everything for r in spread.residuals(v.scored)])
    off = {
        key: (s.total, uncertainty.SPREADS[key].total)
        for key, (s, _, _) in fitted.items()
        if abs(s.total / uncertainty.SPREADS[key].total - 1) > 0.15
    }
    assert not off, f"run scripts/fit_uncertainty.py: {off}"
