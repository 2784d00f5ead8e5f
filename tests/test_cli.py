"""The command line as a user meets it: streams, exit codes, messages, files that are whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from codesign.cli import main
from studies import SMALL

FAST = {
    **SMALL, "lifecycle": {"pretrain_tok": "2 Ttok"},
    "space": {"architecture.n_layers": [32, 48], "precision.weight_bits": [8, 16]},
}  # fmt: skip


def call(*args: str, code: int = 0):
    result = CliRunner().invoke(main, list(args))
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def write(folder: Path, changes=None, name="study.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump({**FAST, **(changes or {})}, sort_keys=False), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    call("run", write(folder), "--out", str(folder / "out"))
    return folder / "out"


def test_run_json_has_the_public_keys(tmp_path):
    result = call("run", write(tmp_path), "--out", str(tmp_path / "out"), "--json")
    summary = json.loads(result.stdout)
    wanted = {"method", "n_designs", "n_layouts", "n_feasible", "n_front", "hypervolume", "exact", "space_designs", "space_rows", "wall_s",
              "layouts_per_s", "front_csv", "report"}  # fmt: skip
    assert wanted <= set(summary)
    assert summary["method"] == "exhaustive" and summary["exact"] is True
    assert summary["n_designs"] == summary["space_designs"] == 4
    assert Path(summary["front_csv"]).is_file() and Path(summary["report"]).is_file()


def test_front_csv_columns_in_the_public_order(run_dir):
    columns = list(pd.read_csv(run_dir / "front.csv").columns)
    assert columns[:2] == ["id", "design_id"]
    assert columns[2:4] == ["architecture.n_layers", "precision.weight_bits"]
    objectives = columns.index("c_eq_flop")
    assert {"c_eq_flop", "usd_per_mtok", "tpot_s"} <= set(columns[4 : objectives + 3])
    for unit in ("train", "serve"):
        assert {f"{unit}.{k}" for k in ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp")} <= set(columns)


def test_listings_read_the_run_and_keep_data_on_stdout(run_dir):
    rows = json.loads(call("front", str(run_dir), "--json", "-n", "3").stdout)
    assert len(rows) == 3
    first = str(rows[0]["id"])
    assert "memory per device" in call("show", str(run_dir), first).stdout
    shown = json.loads(call("show", str(run_dir), first, "--json").stdout)
    assert {"point", "operators", "memory", "layout", "slack", "lifecycle"} <= set(shown)
    assert json.loads(call("compare", str(run_dir), first, str(rows[1]["id"]), "--json").stdout)["ids"]
    share = json.loads(call("hypervolume", str(run_dir), "--reference", str(run_dir), "--json").stdout)
    assert share["share"] == pytest.approx(1.0)
    fast = call("front", str(run_dir), "--where", "tpot < 0.02", "--by=-c_eq_flop", "--csv").stdout
    assert fast.splitlines()[0].startswith("id,design_id")


def test_show_adds_up(run_dir):
    """Time per operator adds up to the phase's estimate, cost parts to the lifecycle, bounds enclose the estimate."""
    first = json.loads(call("front", str(run_dir), "--json", "-n", "1").stdout)[0]
    shown = json.loads(call("show", str(run_dir), str(first["id"]), "--json").stdout)
    for bound in shown["bounds"]:
        total = sum(o["time_s"] for o in shown["operators"] if (o["unit"], o["phase"]) == (bound["unit"], bound["phase"]))
        assert total == pytest.approx(bound["estimate_s"], rel=1e-9)
        assert bound["lower_s"] <= bound["estimate_s"] * (1 + 1e-9) and bound["estimate_s"] <= bound["upper_s"] * (1 + 1e-9)
    assert sum(c["usd"] for c in shown["cost"]) == pytest.approx(first["lifecycle_usd"])
    memory = sum(m["bytes"] for m in shown["memory"] if m["unit"] == "serve")
    assert memory == pytest.approx(first["serve.memory_bytes"])


def test_a_second_identical_run_resumes_and_agrees(tmp_path):
    path, out = write(tmp_path), str(tmp_path / "out")
    first = json.loads(call("run", path, "--out", out, "--json").stdout)
    ids = pd.read_csv(first["front_csv"])["id"].tolist()
    again = json.loads(call("run", path, "--out", out, "--json", "--resume").stdout)
    assert pd.read_csv(again["front_csv"])["id"].tolist() == ids
    assert {k: first[k] for k in ("n_designs", "n_front", "hypervolume")} == {k: again[k] for k in ("n_designs", "n_front", "hypervolume")}


def test_a_changed_study_is_refused_by_name_of_the_difference(tmp_path):
    path, out = write(tmp_path), str(tmp_path / "out")
    call("run", path, "--out", out)
    error = call("run", path, "--out", out, "--set", "slo.ttft=2 s", code=2).stderr
    assert "slo.ttft" in error and "--out" in error


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "not empty" in call("run", write(tmp_path), "--out", str(tmp_path / "mine"), code=2).stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_nothing_feasible_is_exit_1_and_names_the_closest_design(tmp_path):
    result = call("run", write(tmp_path, {"constraints": {"train_days": "<= 1 s"}}), "--out", str(tmp_path / "out"), code=1)
    assert "closest design" in result.stderr and "train_days is " in result.stderr and "times its limit" in result.stderr
    assert "killed by" in result.stdout


def test_a_budget_that_serving_exceeds_is_said_in_words(tmp_path):
    change = {"lifecycle": {"budget": "20 kUSD", "pretrain_tok": {"solve": "budget"}}}
    result = call("run", write(tmp_path, change), "--out", str(tmp_path / "out"), code=1)
    assert "killed by     budget 100%" in result.stdout
    assert "serving and RL alone cost" in result.stderr and "times the whole budget" in result.stderr


def test_a_model_that_fits_nowhere(tmp_path):
    change = {"base": {"model": "llama-3.1-405b"}, "hardware": {"train": "rtx_4090", "serve": "rtx_4090"}, "prices": {"rtx_4090": "0.3 USD/h"},
              "space": {"precision.weight_bits": [8, 16]}, "layout": {}}  # fmt: skip
    result = call("run", write(tmp_path, change), "--out", str(tmp_path / "out"), code=1)
    assert "memory" in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "nope.yaml"], ["nope.yaml"]),
        (["front", "nowhere"], ["nowhere", "no such directory"]),
        (["show", "RUN", "99999"], ["99999"]),
        (["front", "RUN", "--by", "tpott"], ["tpott", "did you mean"]),
        (["front", "RUN", "--where", "__import__('os').system('x')"], ["error"]),
        (["export", "RUN", "0", "--to", "pdf"], ["pdf", "training-plan"]),
        (["list", "accelerator"], ["accelerators"]),
        (["explain", "tpoot"], ["did you mean"]),
        (["evaluate", "--model", "llama-3.1-70b"], ["no hardware"]),
        (["evaluate", "--model", "lama-3.1-70b", "--accelerator", "h100_sxm"], ["did you mean"]),
        (["evaluate", "--model", "deepseek-v3", "--accelerator", "h100_sxm", "--n-tp", "3", "--n-ep", "5"], ["edp"]),
        (["evaluate", "--model", "llama-3.1-8b", "--accelerator", "h100_sxm", "--n-pp", "40"], ["32 layers", "n_pp at most 32"]),
        (["evaluate", "--model", "llama-3.1-8b", "--accelerator", "h100_sxm", "--n-ep", "4"], ["no experts", "leave --n-ep out"]),
        (
            ["evaluate", "--model", "llama-3.1-70b", "--accelerator", "h100_sxm", "--weight-bits", "5", "--batch", "0"],
            ["weight_bits", "batch"],
        ),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_2(args, words, run_dir):
    result = call(*[str(run_dir) if a == "RUN" else a for a in args], code=2)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def edit_table(out, change):
    change(pd.read_parquet(out / "results.parquet")).to_parquet(out / "results.parquet")


def edit_manifest(out, **changes):
    path = out / "manifest.json"
    kept = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not None}
    path.write_text(json.dumps(kept))


EDITS = {  # what somebody did to a run directory -> words of the message
    "a value": (lambda out: edit_table(out, lambda t: t.assign(tpot_s=t.tpot_s / 2)), "results.parquet not what the run wrote"),
    "a column": (lambda out: edit_table(out, lambda t: t.drop(columns=["tpot_s"])), "results.parquet not what the run wrote"),
    "truncated": (lambda out: (out / "results.parquet").write_bytes(b"PAR1"), "results.parquet not what the run wrote"),
    "the study": (lambda out: (out / "study.yaml").open("a").write("# later"), "study.yaml not what the run wrote"),
    "no study": (lambda out: (out / "study.yaml").unlink(), "study.yaml"),
    "old": (lambda out: edit_manifest(out, format=1), "written by another version"),
    "no objectives": (lambda out: edit_manifest(out, objectives=None), "lacks objectives"),
    "other variables": (lambda out: edit_manifest(out, variables=["x"]), "names columns that results.parquet has not: x"),
    "a list": (lambda out: (out / "manifest.json").write_text("[1]"), "written by another version"),
    "no JSON": (lambda out: (out / "manifest.json").write_text("{"), "cannot be read"),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_run_edited_by_hand_is_noticed(what, run_dir, tmp_path):
    change, words = EDITS[what]
    out = Path(shutil.copytree(run_dir, tmp_path / "run"))
    before = {f.name for f in out.iterdir()}
    change(out)
    for command in (["front"], ["report"], ["show", "0"], ["export", "0", "--to", "hf"], ["dashboard"]):
        said = call(command[0], str(out), *command[1:], code=2).stderr
        assert words in said and "hint:" in said
    assert {f.name for f in out.iterdir()} <= before


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A write that fails half-way (file size limit) is a clear message; no part files stay behind."""
    path, out = write(tmp_path), tmp_path / "out"
    call("run", path, "--out", str(out))
    before = {f.name: f.stat().st_size for f in out.iterdir()}
    small = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))"
    )
    limited = f"{small}; from codesign.cli import main; main(['report', {str(out)!r}])"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "error:" in done.stderr and "Traceback" not in done.stderr
    assert {f.name: f.stat().st_size for f in out.iterdir()} == before


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_finishes(tmp_path):
    """SIGINT during an enumeration: exit 130, a loadable run directory, and a resumed run with the front of an unbroken one."""
    space = {"architecture.n_layers": {"range": [20, 59]}, "architecture.n_experts": [64, 128], "precision.weight_bits": [8, 16],
             "architecture.d_expert": [512, 768, 1024, 1536]}  # fmt: skip
    path, out = write(tmp_path, {"space": space}), tmp_path / "out"
    command = [sys.executable, "-m", "codesign.cli", "run", path, "--set", "search.method=nested", "--trials", "2000000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.time() + 60
    while not (out / "search.ckpt").exists() and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    if process.returncode == 0:  # the machine was fast enough to see every design first
        return
    assert process.returncode == 130, stderr
    assert "--resume" in stderr
    assert json.loads(call("front", str(out), "--json").stdout)


def test_a_bug_is_one_line_and_exit_3(monkeypatch):
    from codesign import listing

    def broken(kind):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(listing, "rows", broken)
    monkeypatch.delenv("CODESIGN_TRACEBACK", raising=False)
    text = call("list", "models", code=3).stderr
    assert text.count("\n") == 1 and text.startswith("internal error: RuntimeError: two lines; ") and "CODESIGN_TRACEBACK=1" in text
    monkeypatch.setenv("CODESIGN_TRACEBACK", "1")
    assert "Traceback" in call("list", "models", code=3).stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("space.architecture.attention=[gqa,mlaa]", ["none of", "mqa", "did you mean 'mla'"]),
        ("space.architecture.attention=[gqa,foo]", ["'foo' is none of", "--set"]),
        ("base.architecture.attention=foo", ["'foo' is none of"]),
        ("search.sampler=ngsa2", ["unknown sampler", "did you mean", "nsga2"]),
        ("search.sampler=os:system", ["only classes of optuna"]),
        ("search={method: nested, sampler: cmaes}", ["cmaes"]),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_anything_is_written(option, words, tmp_path):
    for args in (["check", write(tmp_path)], ["run", write(tmp_path), "--out", str(tmp_path / "out")]):
        error = call(*args, "--set", option, code=2).stderr
        assert all(word in error for word in words), error
    assert not (tmp_path / "out").exists()
    call("run", write(tmp_path), "--out", str(tmp_path / "out"))


def test_known_samplers_are_checked_without_optuna(tmp_path):
    path = write(tmp_path, {"search": {"sampler": "nsga2"}})
    code = f"import sys; from codesign.study import open_study; open_study({path!r}); assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compare_runs_that_differ_in_a_list(run_dir, tmp_path):
    change = "space.architecture.n_layers=[32, 40]"
    call("run", write(tmp_path), "--set", change, "--set", "layout.serve.n_tp={powers_of_two: [1, 2]}", "--out", str(tmp_path / "other"))
    text = call("compare", str(run_dir), str(tmp_path / "other")).stdout
    assert "32, 48" in text and "32, 40" in text


def test_last_screen(tmp_path):
    """Picks in columns with labelled values; the law's range in a note; total and own time when continued."""
    path, out = write(tmp_path), str(tmp_path / "out")
    lines = call("run", path, "--out", out).stdout.splitlines()
    picks = [line for line in lines if line.startswith(("knee", "cheapest", "fastest", "best quality"))]
    assert len({line.index("#") for line in picks}) == len({line.index("tpot ") for line in picks}) == 1
    assert all("c_eq " in line and "cost " in line for line in picks)
    assert any("fitted range of the quality law" in line and "tokens per active parameter above 650" in line for line in lines)
    assert "in all" not in lines[0] and "0 of 0" not in "\n".join(lines)
    assert " in all, " in call("run", path, "--out", out).stdout.splitlines()[0]


def test_variables_that_a_design_does_not_read_are_not_shown(tmp_path):
    space = {"architecture.attention": ["mla", "gqa"], "architecture.n_kv_heads": [4, 8]}
    call("run", write(tmp_path, {"space": space}), "--out", str(tmp_path / "out"))
    rows = json.loads(call("front", str(tmp_path / "out"), "--json", "-n", "99").stdout)
    for kind in {row["architecture.attention"] for row in rows}:
        first = next(row for row in rows if row["architecture.attention"] == kind)
        assert ("n_kv_heads" in call("show", str(tmp_path / "out"), str(first["id"])).stdout) == (kind == "gqa")


def test_where_takes_units(run_dir):
    bare = call("front", str(run_dir), "--where", "tpot_s < 0.02 and usd_per_mtok < 0.2", "--csv").stdout
    assert bare == call("front", str(run_dir), "--where", "tpot < 20 ms and usd_per_mtok < 0.2 USD/Mtok", "--csv").stdout
    assert "unknown unit" in call("front", str(run_dir), "--where", "tpot < 20 parsec", code=2).stderr


def test_explain_knows_every_name_that_is_shown(run_dir, tmp_path):
    from codesign.constraints import REASONS
    from codesign.legal import legal_variables
    from codesign.meanings import explain
    from codesign.objectives import ALIASES, COLUMNS
    from codesign.study import open_study

    resolved = open_study(write(tmp_path))
    names = {*COLUMNS, *ALIASES, *REASONS, *legal_variables(resolved.file), *resolved.problem.constraint_names}
    names |= set(pd.read_parquet(run_dir / "results.parquet").columns)
    names |= {
        "balance",
        "speed tier",
        "slo.ttft",
        "lifecycle.budget",
        "search.seed",
        "layout.serve.n_tp",
        "decode.batch",
        "n_tp",
        "kv_bits",
    }
    unknown = [name for name in names if not explain(name)["meaning"]]
    assert not unknown
    assert "did you mean 'serve.n_tp'" in call("explain", "serve.ntp", code=2).stderr
    assert call("explain", "speed", "tier").stdout


def test_check_and_new(tmp_path):
    target = tmp_path / "mine.yaml"
    call("new", str(target), "--from", "dense")
    assert "exists already" in call("new", str(target), code=2).stderr
    answer = json.loads(call("check", write(tmp_path), "--json").stdout)
    assert answer["space_designs"] == 4 and answer["method"] == "exhaustive"
    assert "valid study" in call("check", str(target)).stdout


def test_seeds_reproduce_a_sampled_run(tmp_path):
    path = write(tmp_path, {"space": {**FAST["space"], "architecture.n_experts": [64, 128, 256]}})
    fronts = []
    for name in ("a", "b"):
        call(
            "run",
            path,
            "--set",
            "search.method=nested",
            "--set",
            "search.sampler=nsga2",
            "--trials",
            "60",
            "--seed",
            "5",
            "--out",
            str(tmp_path / name),
        )
        fronts.append((tmp_path / name / "front.csv").read_text())
    assert fronts[0] == fronts[1]


def test_list_models_and_accelerators_have_the_public_keys():
    models = json.loads(call("list", "models", "--json").stdout)
    assert {"name", "n_params", "n_active_params", "published_total", "published_active", "kv_bytes_per_tok", "source"} <= set(models[0])
    chips = json.loads(call("list", "accelerators", "--json").stdout)
    assert {
        "name",
        "hbm_bytes",
        "hbm_bytes_per_s",
        "peak_flop_per_s",
        "scale_up_bytes_per_s",
        "scale_up_size",
        "scale_out_bytes_per_s",
        "tdp_w",
        "usd_per_h",
    } <= set(chips[0])
    for kind in ("systems", "engines", "workloads", "memory", "attention", "samplers", "objectives", "constraints", "exports", "constants"):
        assert json.loads(call("list", kind, "--json").stdout)


def test_evaluate_has_the_public_keys():
    args = ["evaluate", "--model", "deepseek-v3", "--system", "h200_sxm_node", "--engine", "ideal", "--phase", "prefill,decode,train",
            "--n-ep", "64", "--batch", "512", "--isl", "2048", "--osl", "512", "--kv-bits", "8", "--json"]  # fmt: skip
    answer = json.loads(call(*args).stdout)
    assert {"n_params", "n_active_params", "n_active_params_excl_in", "n_active_params_excl_both", "kv_bytes_per_tok"} <= set(
        answer["architecture"]
    )
    assert {
        "step_s",
        "tpot_s",
        "tok_per_s",
        "bound",
        "memory_bytes",
        "weight_bytes",
        "weight_bytes_mean",
        "kv_bytes",
        "usd_per_mtok",
        "fits",
    } <= set(answer["decode"])
    assert {"ttft_s", "tok_per_s", "bound", "usd_per_mtok", "flop_matmul", "flop_attention", "fits"} <= set(answer["prefill"])
    assert {"step_s", "tok_per_s_per_device", "mfu_frac", "memory_bytes", "fits"} <= set(answer["train"])
    assert answer["architecture"]["kv_bytes_per_tok"] == 61 * 656
    assert answer["layout"]["n_dp"] == 64 and answer["layout"]["n_devices"] == 64


def test_evaluate_prints_one_table_per_phase_with_units():
    text = call("evaluate", "--model", "llama-3.1-8b", "--accelerator", "h100_sxm", "--phase", "prefill,decode,train").stdout
    for phase in ("prefill", "decode", "train"):
        assert sum(line.split()[:1] == [phase] for line in text.splitlines()) == 1
    assert " tok/s/device" in text and not any(line.startswith(" ") and not line.startswith("  ") for line in text.splitlines())


def test_evaluate_reads_a_scenario_file_and_flags_win(tmp_path):
    path = tmp_path / "point.yaml"
    path.write_text("model: llama-3.1-70b\naccelerator: h100_sxm\nn-tp: 8\nphase: [decode]\nbatch: 16\n")
    one = json.loads(call("evaluate", str(path), "--json").stdout)
    two = json.loads(call("evaluate", str(path), "--batch", "64", "--json").stdout)
    assert "prefill" not in one
    assert two["decode"]["step_s"] > one["decode"]["step_s"]
