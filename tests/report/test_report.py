"""The report as text: one file, nothing from outside, data intact, hostile names inert."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic import HOSTILE, payload

import codesign.report.html as report
from codesign.report import render, write

FOLDER = Path(report.__file__).parent
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


class Tags(HTMLParser):
    """Every start tag with its attributes, as a browser would find them."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def test_one_file_that_asks_for_nothing():
    tags = Tags(render(payload(50))).found
    for tag, attributes in tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,"
    policy = next(a["content"] for t, a in tags if t == "meta" and "content-security" in a.get("http-equiv", "").lower())
    assert policy.startswith(POLICY)


def test_data_survives():
    source = payload(200)
    data = embedded(render(source))
    assert data["rows"]["id"] == source["rows"]["id"]
    assert data["rows"]["on_front"] == source["rows"]["on_front"]
    np.testing.assert_allclose(data["rows"]["tpot_s"], source["rows"]["tpot_s"], rtol=5e-6)
    assert data["study_yaml"] == source["study_yaml"]


def test_numpy_and_gaps_become_json():
    source = payload(5)
    source["rows"]["tpot_s"] = np.array([0.01, np.nan, np.inf, 0.02, 0.03])
    source["rows"]["id"] = np.arange(5)
    source["rows"]["on_front"] = np.array([True, False, False, False, False])
    source["picks"] = []
    source["counts"]["n_front"] = np.int64(1)
    data = embedded(render(source))
    assert data["rows"]["tpot_s"] == [0.01, None, None, 0.02, 0.03]
    assert data["rows"]["on_front"][0] is True
    assert data["counts"]["n_front"] == 1


def test_empty_ends_of_columns_are_left_out():
    source = payload(6)
    source["rows"]["tpot_s"] = [0.01, None, 0.03, None, None, None]
    assert embedded(render(source))["rows"]["tpot_s"] == [0.01, None, 0.03]


def test_pure():
    source = payload(20)
    before = copy.deepcopy(source)
    assert render(source) == render(source)
    assert source == before


def test_hostile_names_stay_data():
    text = render(payload(30, hostile=True))
    assert HOSTILE not in text
    assert [tag for tag, _ in Tags(text).found if tag in ("img", "b", "iframe")] == []
    assert text.count("</script>") == 2
    assert embedded(text)["title"].endswith(HOSTILE)


def test_placeholders_in_data_are_data():
    source = payload(5)
    source["question"] = "{{script}} {{data}} {{style}} \\1 \\g<0>"
    assert embedded(render(source))["question"] == source["question"]


def test_only_required_keys():
    rows = {"id": [1], "on_front": [True], "feasible": [True], "killed_by": [None]}
    data = embedded(render({"title": "bare", "columns": [], "rows": rows}))
    assert data["total_rows"] == 1
    assert data["run"] == "runs/bare"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p["rows"].pop("feasible"), "lack the columns feasible"),
        (lambda p: p["rows"].pop("tpot_s"), "lack the columns tpot_s"),
        (lambda p: p["rows"]["tpot_s"].pop(), "differ in length"),
        (lambda p: p["columns"][0].pop("unit"), "lacks unit"),
        (lambda p: p["picks"][0].update(id=-1), "not among the rows: -1"),
        (lambda p: p["rows"].update({k: v * 1001 for k, v in p["rows"].items()}), "at most 10000 rows"),
    ],
)
def test_a_broken_payload_is_named(spoil, message):
    source = payload(10)
    spoil(source)
    with pytest.raises(ValueError, match=message):
        render(source)


def test_write_is_atomic(tmp_path):
    path = tmp_path / "new" / "report.html"
    assert write(payload(10), path) == path
    first = path.read_text(encoding="utf-8")
    broken = payload(10)
    broken["rows"].pop("id")
    with pytest.raises(ValueError):
        write(broken, path)
    assert path.read_text(encoding="utf-8") == first
    write(payload(11), str(path))
    assert path.read_text(encoding="utf-8") != first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_full_report_is_small():
    assert len(render(payload(report.MAX_ROWS)).encode()) < 3e6


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_scripts_keep_the_rules(path):
    """Strings reach the page as text only; nothing is fetched; each file fits a reader's head."""
    text = path.read_text(encoding="utf-8")
    assert path.name in report.SCRIPTS
    assert len(text.splitlines()) < 400
    for banned in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "</script",
    ):
        assert banned not in text, banned
