"""`measure` and `calibrate --kind kernels` on a machine that is made up: its kernels obey planted constants, the fit finds them."""

import csv
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from codesign import catalog
from codesign.cli import main
from codesign.evidence import measure
from codesign.evidence.kernel_calibration import calibrate_kernels
from codesign.evidence.measure import COLUMNS, Unsupported, plan
from codesign.evidence.rows import COLUMNS as READ
from codesign.spec.errors import UserError

PLANTED = {"t0": 9e-6, "compute": 0.55, "memory": 0.7}
REDUCE = {"one_shot_t0": 8e-6, "one_shot": 0.4, "two_shot_t0": 30e-6, "two_shot": 0.6}


class FakeMachine:
    """An H200 by name: every kernel takes what PLANTED says, within 2 % from run to run; no fp8."""

    name, n_devices, software = "NVIDIA H200", 4, "made up"

    def __init__(self, noise=0.02):
        self.rng, self.noise = np.random.default_rng(0), noise
        self.chip = catalog.load("accelerators", "h200_sxm")

    def seconds(self, p):
        if p.dtype == "fp8":
            raise Unsupported("no fp8 here")
        bandwidth, link = self.chip["hbm"]["bandwidth"], self.chip["scale_up"]["bandwidth"]
        if p.kernel == "gemm":
            work = 2.0 * p.m * p.n * p.k / (PLANTED["compute"] * self.chip["peak"]["bf16"])
            exact = PLANTED["t0"] + max(work, 2.0 * (p.n * p.k + p.m * (p.n + p.k)) / (PLANTED["memory"] * bandwidth))
        elif p.kernel == "hbm":
            exact = 3e-6 + p.n_bytes / (0.9 * bandwidth)
        elif p.kernel == "attention_decode":
            exact = 20e-6 + 4.0 * p.batch * p.n_kv_heads * p.d_head * p.context_tok / (0.6 * bandwidth)
        else:
            n, b = p.n_devices, p.n_bytes
            exact = min(REDUCE["one_shot_t0"] + (n - 1) * b / (REDUCE["one_shot"] * link),
                        REDUCE["two_shot_t0"] + 2 * (n - 1) / n * b / (REDUCE["two_shot"] * link))  # fmt: skip
        return exact * float(np.exp(self.rng.normal(0.0, self.noise)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(CSV, what the command said) of the made-up machine."""
    target = tmp_path_factory.mktemp("measured") / "h200.csv"
    return target, measure.run(str(target), None, measure.KERNELS, False, lambda text: None, FakeMachine())


def test_the_table_is_what_calibrate_reads(measured):
    target, said = measured
    with target.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert (
        set(COLUMNS) <= set(READ["kernels"]) and f"written: {len(found)} kernels" in said and not target.with_name("h200.csv.part").exists()
    )
    assert {row["accelerator"] for row in found} == {"h200_sxm"} and len({row["id"] for row in found}) == len(found)
    assert (
        "skipped  gemm-fp8-m1-n1024-k1024: no fp8 here" in said
        and "calibrate" in said
        and all(0 < float(row["spread"]) < 0.3 for row in found)
    )


def test_planted_kernels_are_found(measured):
    found = calibrate_kernels(measured[0], None, None)
    cells = {(cell.op, cell.key): cell for cell in found.cells}
    assert set(cells) == {("gemm", "bf16"), ("attention_decode", "bf16"), ("all_reduce", "2"), ("all_reduce", "4")}
    for name, value in PLANTED.items():
        assert cells["gemm", "bf16"].values[name] == pytest.approx(value, rel=0.05), name
    attention = cells["attention_decode", "bf16"]
    assert attention.values["t0"] == pytest.approx(20e-6, rel=0.1) and attention.values["memory"] == pytest.approx(0.6, rel=0.05)
    for name, value in REDUCE.items():
        assert cells["all_reduce", "4"].values[name] == pytest.approx(value, rel=0.15), name
    assert found.hbm == pytest.approx(0.9, rel=0.05)
    for cell in found.cells:
        assert cell.residual < 0.03 < np.median(np.abs(cell.before)) and np.median(np.abs(cell.held_out)) < 0.04


def test_the_engine_file_carries_the_kernels_into_predictions(measured, tmp_path):
    target = tmp_path / "mine.yaml"
    result = CliRunner().invoke(main, ["calibrate", str(measured[0]), "--kind", "kernels", "-o", str(target), "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    mine, base = (catalog.kernel_constants(engine, "h200_sxm") for engine in (target, "generic"))
    assert mine["gemm"]["bf16"]["t0"] == pytest.approx(9e-6, rel=0.05) and mine["gemm"]["fp8"] == base["gemm"]["fp8"]
    assert mine["all_reduce"][8]["two_shot"] == pytest.approx(base["all_reduce"][8]["two_shot"]) and mine["gemm"]["bf16"]["residual"] < 0.03
    assert answer["warnings"] == [] and answer["n_rows"] > 50
    words = answer["next"].split()
    assert CliRunner().invoke(main, words[1:]).exit_code == 0
    shown = CliRunner().invoke(main, ["calibrate", str(measured[0]), "--kind", "kernels", "-o", str(target)])
    assert "gemm bf16" in shown.stdout and "copy: 0.9" in shown.stdout


def test_what_rows_cannot_tell_stays(tmp_path):
    """Small matrices show the fixed time only."""
    machine = FakeMachine(noise=0.005)
    probes = [measure.Probe("gemm", "bf16", m=m, n=256, k=256) for m in (1, 2, 4, 8, 16, 32)]
    rows, _ = measure.measure(machine, probes, "h200_sxm", "test")
    (tmp_path / "small.csv").write_text(measure.csv_text(rows), encoding="utf-8")
    (cell,) = calibrate_kernels(tmp_path / "small.csv", None, None).cells
    assert cell.posterior.free.tolist() == [True, False, False] and not cell.posterior.told[1:].any()
    assert cell.values["t0"] == pytest.approx(9e-6, rel=0.03)


def test_bad_tables_are_refused_with_a_remedy(measured, tmp_path):
    def refused(text, *args):
        path = tmp_path / "bad.csv"
        path.write_text(text, encoding="utf-8")
        result = CliRunner().invoke(main, ["calibrate", str(path), "--kind", "kernels", "-o", str(tmp_path / "out.yaml"), *args])
        assert result.exit_code == 2 and not (tmp_path / "out.yaml").exists(), result.output
        return result.stderr

    lines = measured[0].read_text(encoding="utf-8").splitlines()
    assert "no column 'time_us'" in refused("accelerator,kernel,dtype\nh200_sxm,gemm,bf16\n")
    assert "a fit needs 4" in refused("\n".join(lines[:3]))
    assert "several chips" in refused("\n".join([*lines[:6], lines[6].replace("h200_sxm", "h100_sxm")]))
    assert "kernel 'softmax' is not one of" in refused("accelerator,kernel,dtype,time_us\nh200_sxm,softmax,bf16,3\n")
    assert "gemm needs m, n, k" in refused("accelerator,kernel,dtype,time_us\nh200_sxm,gemm,bf16,3\n")


def test_without_torch_or_a_gpu_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(main, ["measure", "-o", str(tmp_path / "x.csv")])
    assert (
        result.exit_code == 2 and "needs PyTorch" in result.stderr and "codesign[measure]" in result.stderr and not list(tmp_path.iterdir())
    )
    wrong = CliRunner().invoke(main, ["measure", "-o", str(tmp_path / "x.csv"), "--kernels", "gemm,softmax"])
    assert wrong.exit_code == 2 and "unknown kernels: softmax" in wrong.stderr
    assert CliRunner().invoke(main, ["measure", "-o", "x.yaml"]).exit_code == 2


def test_devices_are_recognised_by_their_own_name():
    known = {
        "NVIDIA H200": "h200_sxm",
        "NVIDIA H100 80GB HBM3": "h100_sxm",
        "NVIDIA H100 PCIe": "h100_pcie",
        "NVIDIA A100-SXM4-80GB": "a100_80g_sxm",
        "NVIDIA GeForce RTX 4090": "rtx_4090",
        "NVIDIA H200 NVL": "h200_nvl",
        "AMD Instinct MI300X": "mi300x",
        "CPU": None,
    }
    assert {name: measure.recognise(name) for name in known} == known
    machine = FakeMachine()
    machine.name = "Some Chip 9000"
    with pytest.raises(UserError, match="--accelerator"):
        measure.run("x.csv", None, measure.KERNELS, True, lambda text: None, machine)


def test_the_plan_fits_the_machine():
    assert {p.n_devices for p in plan(4) if p.kernel == "all_reduce"} == {2, 4} and not [p for p in plan(1) if p.kernel == "all_reduce"]
    assert len(plan(1, quick=True)) < 0.5 * len(plan(1)) and len({p.id for p in plan(8)}) == len(plan(8))


def test_torch_runs_the_kernels_on_a_cpu():
    """The way is the same as on a GPU but for the clock and the graph; needs PyTorch."""
    torch = pytest.importorskip("torch")
    from codesign.evidence.torch_machine import TorchMachine

    machine = TorchMachine(torch, "cpu")
    probes = [measure.Probe("gemm", "bf16", m=16, n=64, k=64), measure.Probe("gemm", "fp8", m=16, n=64, k=64), measure.Probe("hbm", "bf16", n_bytes=1 << 16),
              measure.Probe("attention_decode", "bf16", batch=2, context_tok=64, n_heads=4, n_kv_heads=2, d_head=16),
              measure.Probe("all_reduce", "bf16", n_bytes=1 << 12, n_devices=2)]  # fmt: skip
    rows, skipped = measure.measure(machine, probes, "h200_sxm", "test")
    assert [row["kernel"] for row in rows] == ["gemm", "hbm", "attention_decode", "all_reduce"] and "fp8" in skipped[0][0]
    assert all(float(row["time_us"]) > 0 for row in rows)
