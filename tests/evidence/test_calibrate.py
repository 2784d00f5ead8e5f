"""Calibration: constants that are planted are found, those that rows cannot tell stay, and the file does what it says."""

import csv
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner

from codesign import catalog
from codesign.cli import main
from codesign.evidence import fit
from codesign.evidence.calibrate import calibrate
from codesign.evidence.tunables import engine_mapping, tunables
from codesign.point import evaluate_point

CHIP, ENGINE = "h200_sxm", "vllm"
PLANTED = {"HBM efficiency": 0.8, "kernel fixed time": 1.5}


def planted_engine(planted=PLANTED):
    found = {t.name: t for t in tunables("inference", ENGINE, CHIP)}
    return engine_mapping(ENGINE, CHIP, [(found[name], math.log(factor)) for name, factor in planted.items()])


def decode_row(model, bits, batch, isl, engine, **more):
    same = {"isl": isl, "osl": 128, "weight_bits": bits, "act_bits": bits, "kv_bits": 16}
    point = evaluate_point({"model": model, "accelerator": CHIP, "engine": engine, "phase": "decode", "batch": batch, **same})
    return {"id": f"{model}-{batch}-{isl}", "model": model, "accelerator": CHIP, "engine": ENGINE, "phase": "decode", "n_gpus": 1, "tp": 1,
            "batch_or_concurrency": batch, **same, "tpot_ms": point["decode"]["tpot_s"] * 1e3} | more  # fmt: skip


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def rows():
    models = (("llama-3.1-8b", 16), ("qwen3-0.6b", 16), ("llama-3.1-70b", 8), ("qwen3-32b", 8))
    return [decode_row(m, bits, batch, isl, planted_engine()) for m, bits in models for batch in (1, 8, 32, 128) for isl in (512, 4096)]


@pytest.fixture(scope="module")
def calibrated(rows, tmp_path_factory):
    """(JSON of the command, the engine file, the CSV)."""
    folder = tmp_path_factory.mktemp("calibrated")
    data, target = write(folder / "mine.csv", rows), folder / "mine-engine.yaml"
    result = CliRunner().invoke(main, ["calibrate", str(data), "--kind", "inference", "-o", str(target), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), target, data


def test_planted_constants_are_found_and_the_others_stay(calibrated):
    answer, _, _ = calibrated
    factors = {row["name"]: row["factor"] for row in answer["moved"]}
    assert factors == pytest.approx(PLANTED, rel=0.05)
    why = {row["name"]: row["reason"] for row in answer["stayed"]}
    assert why["all-reduce bandwidth"] == "no row depends on it"
    assert "scatter" in why["compute efficiency fp8"]
    assert answer["after"]["median_abs_err"] < 0.02 < 0.2 < answer["before"]["median_abs_err"]
    assert answer["cross_validated"]["scheme"] == "each group left out"
    assert answer["cross_validated"]["median_abs_err"] < 0.5 * answer["before"]["median_abs_err"]


def test_the_file_carries_its_origin_and_moves_predictions_toward_the_data(calibrated, rows):
    answer, target, _ = calibrated
    record = catalog.load("engines", target)
    assert record["base"] == ENGINE
    origin = record["provenance"][f"kernels.{CHIP}.gemm.bf16.t0"]
    assert origin["confidence"] == "measured" and re.search(rf"mine\.csv \(sha256 {answer['sha256']}\), {len(rows)} rows", origin["source"])
    row = rows[0]
    flags = [
        "--model",
        row["model"],
        "--accelerator",
        CHIP,
        "--phase",
        "decode",
        "--batch",
        row["batch_or_concurrency"],
        "--isl",
        row["isl"],
        "--osl",
        128,
    ]

    def predicted(engine):
        result = CliRunner().invoke(main, ["evaluate", *map(str, flags), "--engine", str(engine), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["decode"]["tpot_s"] * 1e3

    assert abs(math.log(predicted(target) / row["tpot_ms"])) < 0.2 * abs(math.log(predicted(ENGINE) / row["tpot_ms"]))


def test_the_next_command_runs(calibrated):
    words = calibrated[0]["next"].split()
    assert words[0] == "codesign" and CliRunner().invoke(main, words[1:]).exit_code == 0


def test_a_study_takes_the_file(calibrated, tmp_path):
    from codesign.study import open_study

    target, study = calibrated[1], tmp_path / "study.yaml"
    (tmp_path / target.name).write_text(target.read_text(encoding="utf-8"), encoding="utf-8")
    CliRunner().invoke(main, ["new", str(study), "--from", "dense"])
    study.write_text(f"{study.read_text(encoding='utf-8')}\nengine: ./{target.name}\n", encoding="utf-8")  # beside the study, not beside us
    t0 = [open_study(str(study), given).problem.setting.pools["serve"].chips.gemm.t0_s.at_16 for given in ((), (f"engine={ENGINE}",))]
    assert float(t0[0][0] / t0[1][0]) == pytest.approx(1.5, rel=0.05)


def test_a_training_fit_moves_what_its_rows_show(tmp_path):
    """Rows of a chip whose GEMMs run at 0.85 of the catalog's fraction, one group per model size."""
    found = {t.name: t for t in tunables("training", "generic", "b200_sxm")}
    slower = engine_mapping("generic", "b200_sxm", [(found["GEMM compute fraction bf16"], math.log(0.85))])
    shapes = {"small": (24, 2048, 16, 8192), "large": (32, 4096, 32, 14336)}
    rows = []
    for name, (layers, hidden, heads, ffn) in shapes.items():
        for micro in (1, 2, 4):
            arch = {
                "n_layers": layers,
                "d_model": hidden,
                "n_heads": heads,
                "n_kv_heads": 8,
                "d_ff": ffn,
                "vocab": 128256,
                "attention": "gqa",
                "ffn_gated": True,
            }
            job = {
                "seq_len": 4096,
                "global_batch": 8 * micro,
                "micro_batch": micro,
                "recompute": "selective",
                "zero": 1,
                "n_dp": 8,
                "scale_out_bandwidth": None,
            }
            train = evaluate_point(
                {"model": {"name": name, "architecture": arch}, "accelerator": "b200_sxm", "engine": slower, "phase": "train"} | job
            )["train"]
            rows.append({"id": f"{name}-{micro}", "model": name, "layers": layers, "hidden": hidden, "heads": heads, "kv_heads": 8, "ffn": ffn, "vocab": 128256,
                         "attention": "gqa", "gated_ffn": 1, "gpu": "b200_sxm", "precision": "bf16", "recompute": "selective", "sharding": "zero1", "seq_len": 4096,
                         "global_batch_seqs": 8 * micro, "micro_batch_seqs": micro, "dp": 8, "gpus": 8, "tokens_per_s_per_gpu": train["tok_per_s_per_device"]})  # fmt: skip
    c = calibrate(write(tmp_path / "runs.csv", rows), "training")
    moved = {t.name: math.exp(x) for t, x, _ in c.moved}
    assert moved["GEMM compute fraction bf16"] == pytest.approx(0.85, abs=0.04)
    assert np.median(np.abs(c.after)) < 0.3 * np.median(np.abs(c.before))


def refused(path, *args):
    result = CliRunner().invoke(main, ["calibrate", str(path), "--kind", "inference", "-o", str(path.parent / "out.yaml"), *args])
    assert result.exit_code == 2 and not (path.parent / "out.yaml").exists(), result.output
    return result.stderr


def test_bad_input_is_refused_with_a_remedy(rows, tmp_path):
    two = write(tmp_path / "two.csv", rows[:2])
    assert "a fit needs 3" in refused(two)
    chips = write(tmp_path / "chips.csv", [*rows[:4], rows[4] | {"accelerator": "h100_sxm"}])
    assert "several chips: h200_sxm (4 rows), h100_sxm (1 rows)" in (said := refused(chips)) and "--chip" in said
    models = write(tmp_path / "models.csv", [row | {"model": "my-secret-model"} for row in rows])
    assert "no row can be predicted" in (said := refused(models)) and "model not in the catalog: my-secret-model" in said
    good = write(tmp_path / "good.csv", rows)
    assert "no row of engine 'sglang'" in refused(good, "--engine", "sglang")
    result = CliRunner().invoke(main, ["calibrate", str(good), "--kind", "inference", "-o", "mine.csv"])
    assert result.exit_code == 2 and "must end in .yaml" in result.stderr


def test_rows_that_agree_with_the_catalog_write_nothing(tmp_path):
    same = [decode_row("llama-3.1-8b", 16, batch, isl, ENGINE) for batch in (1, 16, 128) for isl in (512, 4096)]
    assert "move no constant" in refused(write(tmp_path / "same.csv", same))


def test_two_causes_that_act_alike_stay_at_the_prior():
    """e = a + b: the data know the sum only, so each keeps more than 0.7 of its prior width."""
    prior = fit.Prior(np.array([0.3, 0.3]), np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    found = fit.solve(lambda x: np.full(20, 0.2 - x.sum()), np.ones(20), prior)
    assert not found.told.any() and not found.x.any()


def test_an_outlier_does_not_move_the_fit():
    prior = fit.Prior(np.array([0.3]), np.array([-1.0]), np.array([1.0]))
    e = np.full(12, 0.15)
    e[3] = 2.0
    assert fit.solve(lambda x: e - x[0], np.ones(12), prior).x[0] == pytest.approx(0.15, abs=0.03)


def test_every_constant_has_value_unit_and_source():
    result = CliRunner().invoke(main, ["list", "constants", "--json"])
    found = json.loads(result.stdout)
    names = [row["name"] for row in found]
    assert len(found) > 2000 and len(set(names)) == len(names)
    for row in found:
        assert isinstance(row["value"], float | int) and row["unit"] and row["source"] and row["date"], row
        assert row["source"] != "not stated" and row["confidence"] in ("measured", "vendor", "estimate"), row
    for part in (
        "engines.vllm.kernels.h200_sxm.gemm.bf16.t0",
        "quality law.central.alpha",
        "accelerators.h200_sxm.hbm.bandwidth",
        "engines.generic.training.host",
    ):
        assert part in names
