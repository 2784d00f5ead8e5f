"""One design and the page around it in a real browser: details, comparison, commands, hostile names, 10,000 rows, poor data."""

import json
import os
import re
from pathlib import Path

import pytest
from reading import brushes, drag_axis, expected, hash_value, n_selected
from synthetic import COLUMNS, HOSTILE, payload

from codesign.report import write
from codesign.report.html import _plain

pytestmark = pytest.mark.browser
MODES = [(420, "light"), (420, "dark"), (1240, "light"), (1240, "dark")]


def test_commands_name_existing_designs(page, data):
    texts = page.locator("#picks [data-copy]").evaluate_all("nodes => nodes.map(node => node.dataset.copy)")
    assert texts == [f"codesign export runs/{data['title']} {pick['id']} --to training-plan" for pick in data["picks"]]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#picks [data-copy]").first.click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == texts[0]


def test_pointing_and_clicking_choose_a_design(page):
    page.locator("#scatter").scroll_into_view_if_needed()
    box = page.locator("#scatter").bounding_box()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.55 * box["height"])
    name = page.locator("#tip b").inner_text()
    assert re.fullmatch(r"#\d+", name)
    page.mouse.down()
    page.mouse.up()
    assert page.locator("#design-body .lede b").inner_text() == name
    assert f"codesign show runs/moe-on-nvl72 {name[1:]}" in page.inner_text("#design-body")


def test_scatter_by_keyboard(page):
    page.focus("#scatter")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    name = page.locator("#tip b").inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#design-body .lede b").inner_text() == name
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_chosen_design_shows_its_parts(page, data):
    text = page.inner_text("#design-body")
    for part in (
        "Where the time goes",
        "Memory per device",
        "Cost",
        "Lifecycle: USD by phase",
        "Room left",
        "memory bound",
        "binding",
    ):
        assert part in text
    detail = data["details"][str(data["picks"][0]["id"])]
    decode = [op for op in detail["operators"] if op["phase"] == "decode"]
    widths = page.locator(".phase").first.locator("> .bar .seg").evaluate_all("nodes => nodes.map(node => parseFloat(node.style.width))")
    full = max(sum(op["time_s"] for op in decode), detail["bounds"][0]["upper_s"]) * 1.04
    assert sum(widths) == pytest.approx(100 * sum(op["time_s"] for op in decode) / full, rel=0.01)


def test_intervals_stand_beside_their_values(page, data):
    detail = data["details"][str(data["picks"][0]["id"])]["intervals"]["tpot_s"]
    low, high = (float(f"{1000 * detail[key]:.3g}") for key in ("lower", "upper"))
    assert f"{low:g}\u00a0ms to {high:g}\u00a0ms" in page.locator("#design-body .headline").text_content()


def test_confidence_of_the_picks(page, data):
    text, [knee, cheapest, fastest] = page.inner_text("#sure").replace("\u00a0", " "), data["decision"]["picks"]
    assert "256 samples" in text and text.count("62 %") == 3 and "98 %" in text
    assert f"decode time on gb200 1.4× (under 1 %) breaks a limit, then #{cheapest['id']}" in text
    assert f"#{fastest['id']}: 3% more quality for 9% more cost" in text
    assert f"{1000 * knee['debiased']['tpot_s']:.3g}" in text
    page.locator("#sure").get_by_role("button", name=f"#{fastest['id']}").click()
    assert page.locator("#design-body .lede b").inner_text() == f"#{fastest['id']}"
    page.click("#to-sure")
    page.wait_for_function("document.activeElement.id === 'sure'")


def test_hand_over_to_any_target(page, data):
    assert page.locator("#export-target option").all_inner_texts() == data["exports"]
    page.select_option("#export-target", "vllm")
    said = page.locator("#design-body .export [data-copy]").get_attribute("data-copy")
    assert said == f"codesign export runs/moe-on-nvl72 {data['picks'][0]['id']} --to vllm"


def test_side_by_side_says_how_many_times(visit, url, data):
    rows, ids = data["rows"], [row["id"] for row in data["picks"]][:2]
    page = visit(f"{url}#pins={json.dumps(ids, separators=(',', ':'))}")
    first, second = (rows["tpot_s"][rows["id"].index(i)] for i in ids)
    assert f"{float(f'{second / first:.3g}'):g}× the first" in page.locator("#compare tr", has_text="TPOT").first.inner_text()


def test_three_pins_side_by_side(page, data):
    ids = [row["id"] for row in data["picks"]]
    boxes = page.locator("#selection tbody input")
    for k in range(4):
        boxes.nth(k).check()
    assert len(hash_value(page, "pins")) == 3
    assert page.locator("#compare table").first.locator("thead th").count() == 3
    assert "Cost of serving" in page.inner_text("#compare")
    page.goto(page.url.split("#")[0] + f"#pins={json.dumps(ids, separators=(',', ':'))}")
    page.reload()
    assert "Decode on serve, by cause" in page.inner_text("#compare")
    page.locator("#compare").get_by_role("button", name=f"Unpin {ids[0]}").click()
    assert hash_value(page, "pins") == ids[1:]


def test_groups_fold_and_unfold(page):
    n_heads = page.locator("#parallel-box .head").count()
    page.click("[data-group=architecture]")
    assert page.locator("#parallel-box .head").count() == n_heads - 10
    page.click("[data-group=metric]")
    assert page.locator("#parallel-box .head").count() == n_heads - 10 + 6
    assert page.locator("[data-group=metric]").get_attribute("aria-expanded") == "true"


def test_hostile_names_appear_as_text(visit, folder):
    hostile = payload(200, hostile=True)
    page = visit(write(hostile, folder / "hostile.html").as_uri())
    page.check("#infeasible")
    page.select_option("#axis-c", "hardware.serve")
    page.locator("#selection tbody .link").first.click()
    drag_axis(page, "TPOT" + HOSTILE, 0.2, 0.8)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, #title b, a[href^=javascript]").count() == 0
    assert page.inner_text("h1") == "moe-on-nvl72" + HOSTILE
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_policy_refuses_what_is_not_in_the_file(visit, url):
    page = visit(url)
    blocked = page.evaluate("""() => new Promise(done => {
        document.addEventListener("securitypolicyviolation", event => done(event.violatedDirective));
        const script = document.createElement("script");
        script.src = "https://example.invalid/x.js";
        document.head.append(script);
    })""")
    assert blocked.startswith("script-src")
    visit.complaints[:] = [text for text in visit.complaints if "example.invalid" not in text]


def test_screen_readers_find_their_way(page):
    tree = page.locator("body").aria_snapshot()
    for role in (
        "status",
        'combobox "Horizontal"',
        'combobox "Colour"',
        'columnheader "Design"',
        'heading "The answer"',
        "navigation",
    ):
        assert role in tree, role
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select")].filter(node =>
        !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length)).length""")
    assert nameless == 0


@pytest.mark.parametrize(("width", "scheme"), MODES)
def test_no_sideways_scroll(visit, url, width, scheme, tmp_path):
    page = visit(url, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    artifacts = os.environ.get("CODESIGN_SCREENSHOTS")  # for human eyes, never compared
    if artifacts or (width, scheme) == (1240, "light"):
        target = Path(artifacts or tmp_path)
        target.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target / f"report-{width}-{scheme}.png", full_page=True)


def test_ten_thousand_rows_are_quick(visit, folder):
    big = payload(10_000)
    page = visit(write(big, folder / "big.html").as_uri())
    assert float(page.evaluate("document.documentElement.dataset.ready")) < 2000
    seconds = page.evaluate("""async () => {
        const input = document.querySelector('[aria-label="TPOT maximum in ms"]'), start = performance.now();
        input.value = "20";
        input.dispatchEvent(new Event("change"));
        await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        return (performance.now() - start) / 1000;
    }""")
    assert n_selected(page) == expected(_plain(big), brushes(page)).sum()
    assert seconds < 1  # 0.1-0.2 s on an idle machine


def bare(rows, columns=()):
    keys = ("name", "label", "unit", "group", "meaning", "direction", "log", "categorical")
    return {
        "title": "bare",
        "rows": rows,
        "columns": [dict(zip(keys, column, strict=True)) for column in columns],
    }


@pytest.mark.parametrize("case", ["empty", "one row", "nothing feasible", "no objectives", "gaps"])
def test_poor_data_still_opens(visit, folder, case):
    one = {"id": [7], "on_front": [True], "feasible": [True], "killed_by": [None]}
    if case == "empty":
        source = bare({name: [] for name in one})
    elif case == "one row":
        source = bare({**one, "tpot_s": [0.01]}, [c for c in COLUMNS if c[0] == "tpot_s"])
    else:
        source = payload(60)
        if case == "nothing feasible":
            source["rows"].update(feasible=[False] * 60, on_front=[False] * 60, killed_by=["memory"] * 60)
            source.update(picks=[], details={}, history=[], exact=True)
        elif case == "no objectives":
            source["columns"] = [c for c in source["columns"] if c["group"] != "objective"]
        else:
            for name in ("tpot_s", "c_eq_flop", "usd_per_mtok"):
                source["rows"][name] = [None if k % 3 or k > 40 else value for k, value in enumerate(source["rows"][name])]
    page = visit(write(source, folder / f"{case.replace(' ', '-')}.html").as_uri())
    if case == "nothing feasible":
        assert "Nothing met every constraint" in page.inner_text("#answer")
        page.check("#infeasible")
        assert n_selected(page) == 60
    elif case == "gaps":
        assert n_selected(page) == sum(source["rows"]["feasible"])
        assert page.evaluate("document.querySelectorAll('#selection tbody tr').length") == min(50, sum(source["rows"]["feasible"]))
    elif case == "empty":
        assert "No design was evaluated" in page.inner_text("#answer")
