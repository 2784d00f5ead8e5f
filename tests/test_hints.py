"""What people ask next: names of the catalog, layouts, the right spelling, a change that is no variable."""

import json
import re

from test_cli import call, run_dir  # noqa: F401


def test_explain_knows_the_catalog_and_layouts():
    """A chip by any of its names, with the source of each figure once; a layout string in words."""
    chip = json.loads(call("explain", "H100", "--json").stdout)
    assert chip["name"] == "h100_sxm" and {"hbm.capacity", "peak.bf16", "price.rent"} <= {f["figure"] for f in chip["figures"]}
    assert all(f["source"] and f["confidence"] in ("measured", "vendor", "estimate") for f in chip["figures"])
    text = call("explain", "h100_sxm").stdout
    assert "80 GB" in text and text.count("gpu-specs.ts") == 1 and "[1]" in text
    for name in ("gb200_nvl72", "deepseek-v3", "chat", "generic", "hbm3e"):
        assert call("explain", name).stdout.splitlines()[0].split() == ["name", name]
    layout = json.loads(call("explain", "tp2pp2dp4ep8", "--json").stdout)
    assert layout["devices"].startswith("16 ") and "= 1 copies" in layout["experts"] and "2 pipeline stages" in layout["meaning"]
    assert "did you mean 'h100_sxm'" in call("explain", "h100_sxmm", code=2).stderr


def test_suggestions_are_names_that_the_list_has():
    listed = {row["name"] for row in json.loads(call("list", "models", "--json").stdout)}
    said = call("evaluate", "--model", "deepseek-r11", "--accelerator", "h100_sxm", code=2).stderr
    assert re.search(r"did you mean '([^']+)'", said)[1] in listed and "also called 'DeepSeek-R1'" in said
    aliases = {row["name"]: row["aliases"] for row in json.loads(call("list", "objectives", "--json").stdout)}
    assert "tpot" in aliases["tpot_s"]


def test_hints_of_why_not(run_dir):  # noqa: F811
    point = json.loads(call("front", str(run_dir), "-n", "1", "--json").stdout)[0]["id"]
    said = call("show", str(run_dir), str(point), "--why-not", "train.n_tp=8", code=2).stderr
    assert "--set 'layout.train.n_tp=[8]'" in said
    names = call("show", str(run_dir), str(point), "--why-not", "zzz=8", code=2).stderr.partition("variables: ")[2].strip().split(", ")
    assert names and len(names) == len(set(names)) and not any("." in name for name in names)


def test_a_claim_about_one_chip_speaks_of_one():
    said = call("claims", "C04", "--set", "accelerator=a100_80g_sxm").stdout
    assert "this chip offers 153" in " ".join(said.split()) and "as little as" not in said


def test_an_export_without_a_target_lists_them(run_dir):  # noqa: F811
    said = call("export", str(run_dir), "0", code=2).stderr
    assert "--to says what for" in said and "training-plan" in said and "vllm" in said


def test_signs_in_tables_are_explained():
    """What a dot, a dash and the order of rows mean stands where they are."""
    from codesign.decision_text import _shadow, decide_text

    row = {"name": "price", "kept": {"tpot_s": 0.0, "usd_per_mtok": 0.1}, "anew": {"tpot_s": 0.731, "usd_per_mtok": None}}
    text = _shadow([row], ["tpot_s", "usd_per_mtok"], lambda r: r["name"])
    assert ". | +73.1%" in text and ". : nothing changes" in text and "- : no layout keeps the other objectives" in text
    rows = [{"how": "serve", "source": "decode", "removes_frac": 0.2, "usd": 10.0, "removes_frac_per_kusd": 20.0}]
    said = decide_text({"samples": 1, "points": [], "run": "r", "sources": [], "picks": [], "measurements": rows, "anew": None}, {})
    assert "most regret removed per USD first" in said


def test_compare_says_what_its_counts_count(run_dir):  # noqa: F811
    ids = [str(row["id"]) for row in json.loads(call("front", str(run_dir), "--json").stdout)]
    texts = [call("compare", str(run_dir), ids[0], other).stdout for other in ids[1:]]
    assert all(("n_devices: of the whole pool" in text) == (".n_devices " in text or ".n_replicas " in text) for text in texts)


def test_front_shows_further_columns(run_dir):  # noqa: F811
    head = call("front", str(run_dir), "--columns", "train_usd,tpot").stdout.splitlines()[0].split()
    assert "train_usd" in head and head.count("tpot_s") == 1 and head[-1] == "layout"
    assert "no column 'nix'" in call("front", str(run_dir), "--columns", "nix", code=2).stderr
