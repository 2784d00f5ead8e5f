"""Price sheets: ratios in the range of public lists, and what must follow from more context, speed or sparsity."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from click.testing import CliRunner

from codesign import pricesheet
from codesign.cli import main
from codesign.spec.errors import UserError


@pytest.fixture(scope="module")
def sheets():
    return {m: pricesheet.sheet(m, "gb200_nvl72") for m in ("deepseek-v3", "deepseek-v3.2", "llama-3.1-70b")}


def test_outputs_cost_more_than_inputs_and_inputs_more_than_cached_ones(sheets):
    for sheet in sheets.values():
        for row in sheet["contexts"]:
            assert row["output"] is None or row["output"] > row["input"] > row["cached"] > 0
    assert 2 < sheets["deepseek-v3"]["ratios"]["output_over_input"] < 10


def test_sparse_attention_is_flat_and_its_cache_is_read_for_less(sheets):
    """First-party lists: cached over input 0.26 for V3, 0.10 for V3.2; x2 beyond 200k for full attention, flat for sparse."""
    full, sparse = sheets["deepseek-v3"]["ratios"], sheets["deepseek-v3.2"]["ratios"]
    assert sparse["cached_over_input"] < full["cached_over_input"]
    assert sparse["input_long_over_short"] < 1.7 < 2.0 < full["input_long_over_short"]
    rows = zip(sheets["deepseek-v3"]["contexts"], sheets["deepseek-v3.2"]["contexts"], strict=True)
    assert all(b["output"] < a["output"] for a, b in rows)


def test_speed_costs_and_waiting_saves(sheets):
    multiples = [r["multiple"] for r in sheets["deepseek-v3.2"]["speeds"]]
    assert multiples == sorted(multiples) and multiples[1] == 1.0 and 2 < multiples[2] < 7  # 2.5 x speed for 2-7 x cost
    for sheet in sheets.values():
        assert sheet["batch"]["input_multiple"] < 0.6 and sheet["batch"]["output_multiple"] < 0.6  # public batch discount: half


def test_keeping_longer_costs_more_by_the_write_and_less_by_the_hour(sheets):
    for sheet in sheets.values():
        writes, hours = ([r[k] for r in sheet["caches"]] for k in ("usd_per_mtok", "per_mtok_h"))
        assert writes == sorted(writes) and hours == sorted(hours, reverse=True)


def test_lists_are_beside_with_their_deviation(sheets):
    row = sheets["deepseek-v3.2"]["lists"][1]
    assert row["provider"] == "DeepSeek" and row["source"] and row["date"]
    assert row["output_deviation"] == pytest.approx(sheets["deepseek-v3.2"]["contexts"][0]["output"] / 0.42 - 1)
    assert abs(row["output_deviation"]) < 0.6 and abs(row["input_deviation"]) < 0.6


def test_ratios_are_beside_those_of_lists(sheets):
    """Output over input, cached over input, the step of long contexts and the price of speed: computed, public, deviation."""
    ratios = {r["name"]: r for r in sheets["deepseek-v3"]["ratios_beside_lists"]}
    out = ratios["output / input"]
    assert [p["value"] for p in out["public"]] == pytest.approx([0.90 / 0.24, 1.10 / 0.27])
    assert [p["deviation"] for p in out["public"]] == pytest.approx([out["computed"] / p["value"] - 1 for p in out["public"]])
    assert abs(out["public"][1]["deviation"]) < 0.3
    assert 2 < ratios["output at 125 / 50 tok/s"]["computed"] < 7 and ratios["output at 125 / 50 tok/s"]["source"]
    shown = pricesheet.text(sheets["deepseek-v3"])
    for name, row in ratios.items():
        assert f"{name} " in shown and (row["note"] in shown)
    assert "first party 4.07 (" in shown


def test_hybrids_are_flatter_than_full_attention(sheets):
    """From 8k to 128k a prompt token of full attention costs 2.5-3.3 x; linear layers with a few full ones under twice."""

    def step(sheet):
        rows = {r["context_tok"]: r["input"] for r in sheet["contexts"]}
        return rows[131072] / rows[8192]

    hybrid = step(pricesheet.sheet("minimax-text-01", "gb200_nvl72"))
    assert hybrid < step(sheets["deepseek-v3.2"]) < 2 < min(step(sheets[m]) for m in ("deepseek-v3", "llama-3.1-70b"))


def test_dearer_capacity_scales_every_price(sheets):
    twice = pricesheet.sheet("deepseek-v3", "gb200_nvl72", peak=2 * pricesheet.PEAK)
    for a, b in zip(sheets["deepseek-v3"]["contexts"], twice["contexts"], strict=True):
        assert b["input"] == pytest.approx(2 * a["input"]) and b["cached"] == pytest.approx(2 * a["cached"])


@pytest.mark.parametrize(
    "args, words",
    [(["nothing"], "unknown model"), (["kimi-k3"], "cannot be evaluated"),
     (["deepseek-v3", "--system", "nowhere"], "unknown")],
)  # fmt: skip
def test_what_cannot_be_priced_says_why(args, words):
    result = CliRunner().invoke(main, ["prices", *args])
    assert result.exit_code == 2 and words in result.output and "Traceback" not in result.output


def test_speeds_that_no_layout_reaches_have_no_price_and_say_why():
    for model, system in (("llama-3.1-405b", "l40s_node"), ("kimi-k2", "a100_40g_sxm"), ("llama-3.1-405b", "tpu_v5p")):
        shown = CliRunner().invoke(main, ["prices", model, "--system", system])
        assert shown.exit_code == 0, shown.output
        assert "none: no layout meets the asked speed (" in shown.output and "50 tok/s at 8,192 tokens" in shown.output


def test_widths_are_those_of_evaluate():
    result = CliRunner().invoke(main, ["prices", "llama-3.1-8b", "--weight-bits", "3", "--kv-bits", "5"])
    assert result.exit_code == 2 and all(f"{words} is not one of 4, 8, 16" in result.output for words in ("weight_bits = 3", "kv_bits = 5"))


def test_batches_are_fine_enough_to_meet_a_speed_closely():
    """Between two batches an eighth of a step's time changes at most, so the fastest affordable one is near the asked speed."""
    steps = [b / a for a, b in pairwise(pricesheet.BATCHES)]
    assert max(steps[3:]) < 1.27 and pricesheet.BATCHES[0] == 1 and pricesheet.BATCHES[-1] == 1024
    offer = pricesheet.Subject("llama-3.1-405b", "gb200_nvl72").output_usd(8192, 50.0)
    assert 0.97 / 50 < offer.tpot_s <= 1 / 50


def test_the_head_says_what_is_assumed(sheets):
    v3, llama = (pricesheet.text(sheets[m]).splitlines()[1] for m in ("deepseek-v3", "llama-3.1-70b"))
    assert "1 draft token (MTP), 85% accepted" in v3 and "no drafts" in llama
    assert all("kept for 5 min" in head and "50 tok/s or faster" in head for head in (v3, llama))
    assert sheets["deepseek-v3"]["assumed"]["cached_for_s"] == 300.0


def test_command_prints_text_and_json():
    shown = CliRunner().invoke(main, ["prices", "gpt-oss-120b"])
    assert shown.exit_code == 0 and "public list" in shown.output and "batch, within a day" in shown.output
    data = json.loads(CliRunner().invoke(main, ["prices", "gpt-oss-120b", "--system", "h200_sxm_node", "--json"]).output)
    assert data["contexts"][0]["input"] > 0
    with pytest.raises(UserError, match="no price"):
        pricesheet.sheet("llama-3.1-8b", "rtx_3090")
