"""The explorer in a real browser: filters, plots and table.  Numbers are compared with numpy on the same rows, never pixels."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from reading import N_ROWS, brushes, drag_axis, expected, hash_value, n_selected, table_ids

pytestmark = pytest.mark.browser


def test_opens_clean_and_offline(page, data):
    assert page.inner_text("h1") == data["title"]
    assert n_selected(page) == sum(data["rows"]["feasible"])
    assert page.locator("#picks article").count() == 3


def test_brush_counts_what_numpy_counts(page, data):
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    limits = brushes(page)
    lo, hi = limits["usd_per_mtok"]
    assert min(data["rows"]["usd_per_mtok"]) < lo < hi < max(data["rows"]["usd_per_mtok"])
    assert n_selected(page) == expected(data, limits).sum() > 0


def test_brush_reaches_past_both_ends(page, data):
    drag_axis(page, "TPOT", 0.01, 0.99)
    assert n_selected(page) == sum(data["rows"]["feasible"])
    drag_axis(page, "TPOT", 0.5, 0.5)  # a click on the axis clears its brush
    drag_axis(page, "TPOT", 0.99, 0.6)
    assert brushes(page)["tpot_s"][0] == -np.inf
    assert n_selected(page) == expected(data, brushes(page)).sum() > 0


def test_two_brushes_intersect_and_reset(page, data):
    drag_axis(page, "Cost of serving", 0.2, 0.7)
    drag_axis(page, "Layers", 0.0, 0.45)
    limits = brushes(page)
    assert set(limits) == {"usd_per_mtok", "architecture.n_layers"}
    mask = expected(data, limits)
    assert n_selected(page) == mask.sum() > 0
    assert sorted(table_ids(page)) == sorted(np.array(data["rows"]["id"])[mask])
    page.select_option("#axis-x", "tpot_s")
    page.select_option("#axis-y", "architecture.attention")
    page.select_option("#axis-c", "hardware.serve")
    assert n_selected(page) == mask.sum()
    page.click("#reset")
    assert n_selected(page) == sum(data["rows"]["feasible"])
    assert brushes(page) == {}


def test_brush_on_few_values_snaps_to_them(page, data):
    drag_axis(page, "Experts", 0.0, 0.5)
    lo, hi = brushes(page)["architecture.n_experts"]
    assert {lo, hi} <= set(data["rows"]["architecture.n_experts"])
    assert hi == 512
    drag_axis(page, "Experts", 0.2, 0.35)  # pressed inside the brush: it moves down
    assert brushes(page)["architecture.n_experts"][1] < 512


def test_keyboard_brushes(page, data):
    least = page.get_by_label("TPOT minimum in ms")
    least.fill("10")
    least.press("Enter")
    page.get_by_label("TPOT maximum in ms").fill("20")
    page.get_by_label("TPOT maximum in ms").press("Tab")
    np.testing.assert_allclose(brushes(page)["tpot_s"], (0.01, 0.02), rtol=1e-12)
    assert n_selected(page) == expected(data, brushes(page)).sum() > 0
    page.get_by_label("Filter Attention").select_option(label="mla")
    mla = np.array(data["rows"]["architecture.attention"]) == "mla"
    assert n_selected(page) == (expected(data, {"tpot_s": brushes(page)["tpot_s"]}) & mla).sum()
    page.get_by_role("button", name=re.compile("Remove filter: TPOT")).click()
    assert n_selected(page) == (expected(data, {}) & mla).sum()


def test_rectangle_in_the_scatter(page, data):
    page.locator("#scatter").scroll_into_view_if_needed()
    box = page.locator("#scatter").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=3)
    page.mouse.up()
    assert set(brushes(page)) == {"usd_per_mtok", "c_eq_flop"}
    assert n_selected(page) == expected(data, brushes(page)).sum() > 0


def test_keep_and_exclude(page, data):
    n_all = n_selected(page)
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    limits, n_brushed = brushes(page), n_selected(page)
    page.click("#exclude")
    assert n_selected(page) == n_all - n_brushed
    page.get_by_role("button", name=re.compile("Remove filter: excluded")).click()
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    page.click("#keep")
    assert page.inner_text("#count") == f"{n_brushed:,} of {n_brushed:,} points selected"
    assert expected(data, limits).sum() == n_brushed
    assert page.locator("#keep").is_disabled()


def test_infeasible_rows_name_their_constraint(page, data):
    page.check("#infeasible")
    dead = ~np.array(data["rows"]["feasible"])
    assert page.inner_text("#count") == f"{N_ROWS:,} of {N_ROWS:,} points selected ({dead.sum()} infeasible)"
    table_ids(page)
    row = int(np.flatnonzero(dead)[0])
    note = page.locator(f'#selection tr[data-id="{data["rows"]["id"][row]}"] small').inner_text()
    assert note == f"killed by {data['rows']['killed_by'][row]}"


def test_each_constraint_that_killed_is_in_the_key(page, data):
    page.check("#infeasible")
    why = [name for name, fine in zip(data["rows"]["killed_by"], data["rows"]["feasible"], strict=True) if not fine]
    said = page.locator("#key li").all_inner_texts()
    for name in set(why):
        assert any(f"{name.replace('_', ' ')} ({why.count(name)})" in text for text in said)


def test_front_only(page, data):
    page.check("#front")
    assert n_selected(page) == sum(data["rows"]["on_front"])
    assert page.locator("#infeasible").is_disabled()
    drag_axis(page, "TPOT", 0.5, 0.99)
    limits = brushes(page)
    assert n_selected(page) == (expected(data, limits) & np.array(data["rows"]["on_front"])).sum() > 0
    page.uncheck("#front")
    assert n_selected(page) == expected(data, limits).sum()


def test_what_follows_from_others_is_on_no_axis(page, data):
    heads = page.locator("#parallel-box .head > span:first-child").all_inner_texts()
    assert "Width of heads" not in heads and page.locator("#selection th[data-column='architecture.d_head']").count() == 1
    assert "Width of heads" in page.inner_text("#design-body")


def test_staircase_is_the_front_of_the_pair(page, data):
    keep = np.array(data["rows"]["feasible"])
    usd = np.array(data["rows"]["usd_per_mtok"])[keep]
    flop = np.array(data["rows"]["c_eq_flop"])[keep]
    order = np.lexsort((-flop, usd))
    best = np.concatenate([[-np.inf], np.maximum.accumulate(flop[order])[:-1]])
    assert f"through {(flop[order] > best).sum()} selected designs" in page.inner_text("#staircase")


def test_table_sorts_with_empty_cells_last(page, data):
    page.click("#selection th[data-column='architecture.n_kv_heads'] button")
    head = page.locator("#selection th[data-column='architecture.n_kv_heads']")
    assert head.get_attribute("aria-sort") == "ascending"
    values = dict(zip(data["rows"]["id"], data["rows"]["architecture.n_kv_heads"], strict=True))
    shown = [values[i] for i in table_ids(page)]
    numbers = [value for value in shown if value is not None]
    assert numbers == sorted(numbers)
    assert shown[len(numbers) :] == [None] * (len(shown) - len(numbers))


def test_designs_that_exist_beside_the_front(page, visit, data):
    """A row each, with its values; on the plots they can be switched off, and the address remembers it."""
    rows = page.locator("#references tbody tr")
    assert rows.count() == len(data["references"])
    for i, one in enumerate(data["references"]):
        text = rows.nth(i).inner_text()
        assert one["name"] in text and one["place"] in text and all(f"Breaks: {reason}" in text for reason in one["reasons"])
    assert "3×10²⁴ FLOP" in rows.nth(0).inner_text() and rows.nth(2).inner_text().count("–") == 3
    assert "a model that exists" in page.inner_text("#key") and "a measured deployment" in page.inner_text("#key")
    with_them = page.evaluate(PIXELS)
    page.uncheck("#known")
    assert "a model that exists" not in page.inner_text("#key") and page.evaluate(PIXELS) != with_them
    assert not visit(page.url).locator("#known").is_checked()


PIXELS = "[...document.querySelectorAll('#scatter-box canvas, #parallel-box canvas')].map(canvas => canvas.toDataURL()).join()"


def test_state_travels_in_the_address(page, visit, data):
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    page.click("#keep")
    drag_axis(page, "Layers", 0.0, 0.45)
    page.select_option("#axis-c", "hardware.serve")
    page.uncheck("#log-x")
    page.check("#infeasible")
    page.check("#front")
    page.locator("#selection tbody input").first.check()
    pinned = hash_value(page, "pins")
    second = visit(page.url)
    assert second.inner_text("#count") == page.inner_text("#count")
    assert second.locator("#axis-c").input_value() == "hardware.serve"
    assert not second.locator("#log-x").is_checked() and second.locator("#front").is_checked()
    assert hash_value(second, "pins") == pinned
    assert second.locator(".chip").all_inner_texts() == page.locator(".chip").all_inner_texts()
    assert visit(page.url.split("#")[0]).locator(".chip").count() == 0


@pytest.mark.parametrize(
    "fragment",
    ["#f=[[[", "#f=7&k=1&sort=2&x=%22nobody%22", "#pins=[-5]&chosen=%22x%22&closed=[9]", "#answer"],
)
def test_a_mangled_address_opens_the_plain_page(visit, url, data, fragment):
    assert n_selected(visit(url + fragment)) == sum(data["rows"]["feasible"])


def test_csv_is_the_selection(page, data):
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    with page.expect_download() as download:
        page.click("#csv")
    table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline="")))
    rows = np.flatnonzero(expected(data, brushes(page)))
    assert [int(row["id"]) for row in table] == [data["rows"]["id"][i] for i in rows]
    assert set(table[0]) == set(data["rows"])
    for name in ("usd_per_mtok", "c_eq_flop", "lifecycle.pretrain_tok"):
        assert [float(row[name]) for row in table] == [data["rows"][name][i] for i in rows]
    gaps = [data["rows"]["architecture.n_kv_heads"][i] is None for i in rows]
    assert [row["architecture.n_kv_heads"] == "" for row in table] == gaps
