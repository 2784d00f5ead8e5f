"""What the page says, and what numpy finds in the same rows."""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np

N_ROWS = 600


def n_selected(page) -> int:
    return int(page.inner_text("#count").split(" of ")[0].replace(",", ""))


def hash_value(page, key):
    found = parse_qs(urlsplit(page.evaluate("location.href")).fragment).get(key)  # page.url lags behind
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
    return [int(text) for text in page.locator("#selection tbody tr").evaluate_all("rows => rows.map(row => row.dataset.id)")]
