"""The report in a real browser. Numbers are compared with numpy on the same rows, never pixels.

The Chromium is Debian's (or any): CODESIGN_CHROMIUM names it, else the first `chromium` on the path.
"""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from synthetic import COLUMNS, HOSTILE, payload

from codesign.report import write
from codesign.report.html import _plain

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CODESIGN_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MODES = [(420, "light"), (420, "dark"), (1240, "light"), (1240, "dark")]
N_ROWS = 600


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium: set CODESIGN_CHROMIUM or install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def data():
    return _plain(payload(N_ROWS))


@pytest.fixture(scope="module")
def url(folder, data):
    return write(data, folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def tabs(browser):
    """New offline tabs that write down every console error, page error and request that is not for a file."""
    context = browser.new_context(offline=True)
    complaints: list[str] = []

    def note(text, wanted):
        if wanted:
            complaints.append(text)

    def new_tab():
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: note(said.text, said.type in ("error", "warning")))
        page.on("pageerror", lambda error: note(str(error), True))
        page.on(
            "request",
            lambda sent: note(sent.url, not sent.url.startswith(("file:", "blob:", "data:", "about:"))),
        )
        return page

    new_tab.complaints, new_tab.idle = complaints, []
    return new_tab


@pytest.fixture
def visit(tabs):
    """Open an address; the page must stay silent and ask for nothing but files. Tabs are used again."""
    used = []

    def open_page(address, width=1240, scheme="light"):
        page = tabs.idle.pop() if tabs.idle else tabs()
        used.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        assert page.evaluate("document.documentElement.dataset.ready"), "the page did not finish drawing"
        return page

    open_page.complaints = tabs.complaints
    yield open_page
    for page in used:
        page.goto("about:blank")
    tabs.idle.extend(used)
    found, tabs.complaints[:] = list(tabs.complaints), []
    assert found == []


@pytest.fixture
def page(visit, url):
    return visit(url)


def n_selected(page) -> int:
    return int(page.inner_text("#count").split(" of ")[0].replace(",", ""))


def hash_value(page, key):
    found = parse_qs(urlsplit(page.url).fragment).get(key)
    return json.loads(found[0]) if found else None


def brushes(page) -> dict:
    """Limits that the page says it filters by, {column: (lo, hi)}."""
    limit = lambda value, end: end if value is None else value  # noqa: E731
    return {name: (limit(lo, -np.inf), limit(hi, np.inf)) for name, lo, hi in hash_value(page, "f") or []}


def inside(data, name, lo, hi) -> np.ndarray:
    values = np.array(data["rows"][name], dtype=float)
    return (values >= lo) & (values <= hi)


def expected(data, limits, feasible_only=True) -> np.ndarray:
    mask = np.array(data["rows"]["feasible"]) if feasible_only else np.ones(len(data["rows"]["id"]), bool)
    for name, (lo, hi) in limits.items():
        mask = mask & inside(data, name, lo, hi)
    return mask


def drag_axis(page, label, start, end):
    """Drag along the axis with this label, from and to shares of the stage's height."""
    heads = page.locator("#parallel-box .head > span:first-child").all_inner_texts()
    canvas = page.locator("#parallel")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x = box["x"] + (heads.index(label) + 0.5) * box["width"] / len(heads)
    page.mouse.move(x, box["y"] + start * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + end * box["height"], steps=4)
    page.mouse.up()


def table_ids(page) -> list[int]:
    while page.locator("#more").is_visible():
        page.click("#more")
    return [
        int(text)
        for text in page.locator("#selection tbody tr").evaluate_all(
            "rows => rows.map(row => row.dataset.id)"
        )
    ]


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
    assert page.inner_text("#count") == f"{n_brushed:,} of {n_brushed:,} selected"
    assert expected(data, limits).sum() == n_brushed
    assert page.locator("#keep").is_disabled()


def test_infeasible_rows_name_their_constraint(page, data):
    page.check("#infeasible")
    dead = ~np.array(data["rows"]["feasible"])
    assert page.inner_text("#count") == f"{N_ROWS:,} of {N_ROWS:,} selected ({dead.sum()} infeasible)"
    table_ids(page)
    row = int(np.flatnonzero(dead)[0])
    note = page.locator(f'#selection tr[data-id="{data["rows"]["id"][row]}"] small').inner_text()
    assert note == f"killed by {data['rows']['killed_by'][row]}"


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


def test_state_travels_in_the_address(page, visit, data):
    drag_axis(page, "Cost of serving", 0.3, 0.7)
    page.click("#keep")
    drag_axis(page, "Layers", 0.0, 0.45)
    page.select_option("#axis-c", "hardware.serve")
    page.uncheck("#log-x")
    page.check("#infeasible")
    page.locator("#selection tbody input").first.check()
    pinned = hash_value(page, "pins")
    second = visit(page.url)
    assert second.inner_text("#count") == page.inner_text("#count")
    assert second.locator("#axis-c").input_value() == "hardware.serve"
    assert not second.locator("#log-x").is_checked()
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
    table = list(
        csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline=""))
    )
    rows = np.flatnonzero(expected(data, brushes(page)))
    assert [int(row["id"]) for row in table] == [data["rows"]["id"][i] for i in rows]
    assert set(table[0]) == set(data["rows"])
    for name in ("usd_per_mtok", "c_eq_flop", "lifecycle.pretrain_tok"):
        assert [float(row[name]) for row in table] == [data["rows"][name][i] for i in rows]
    gaps = [data["rows"]["architecture.n_kv_heads"][i] is None for i in rows]
    assert [row["architecture.n_kv_heads"] == "" for row in table] == gaps


def test_commands_name_existing_designs(page, data):
    texts = page.locator("#picks [data-copy]").evaluate_all("nodes => nodes.map(node => node.dataset.copy)")
    assert texts == [
        f"codesign export runs/{data['title']} {pick['id']} --to training-plan" for pick in data["picks"]
    ]
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
    widths = (
        page.locator(".phase")
        .first.locator("> .bar .seg")
        .evaluate_all("nodes => nodes.map(node => parseFloat(node.style.width))")
    )
    full = max(sum(op["time_s"] for op in decode), detail["bounds"][0]["upper_s"]) * 1.04
    assert sum(widths) == pytest.approx(100 * sum(op["time_s"] for op in decode) / full, rel=0.01)


def test_three_pins_side_by_side(page, data):
    ids = [row["id"] for row in data["picks"]]
    boxes = page.locator("#selection tbody input")
    for k in range(4):
        boxes.nth(k).check()
    assert len(hash_value(page, "pins")) == 3
    assert page.locator("#compare thead th").count() == 3
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
                source["rows"][name] = [
                    None if k % 3 else value for k, value in enumerate(source["rows"][name])
                ]
    page = visit(write(source, folder / f"{case.replace(' ', '-')}.html").as_uri())
    if case == "nothing feasible":
        assert "Nothing met every constraint" in page.inner_text("#answer")
        page.check("#infeasible")
        assert n_selected(page) == 60
    elif case == "empty":
        assert "No design was evaluated" in page.inner_text("#answer")
