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
