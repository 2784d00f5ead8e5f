"""What a notebook shows: runs, designs, the explorer in a frame, figures in one call; names stay text."""

import dataclasses

import finished
import pytest

from codesign.report import figures, notebook
from codesign.spec.errors import UserError

HOSTILE = '<img src=x onerror="alert(1)">$x$'


@pytest.fixture(scope="module")
def run():
    return finished.searched()


def test_a_run_shows_its_front(run):
    page = run._repr_html_()
    assert page.count("<tr") == 1 + min(len(run.front), 21) and "usd_per_mtok" in page
    named = dataclasses.replace(run, manifest=run.manifest | {"name": HOSTILE})
    assert HOSTILE not in named._repr_html_() and "&lt;img" in named._repr_html_()


def test_a_design_shows_shape_layout_and_time(run):
    shown = notebook.design(run, int(run.front["id"].iloc[0]))
    page = shown._repr_html_()
    for part in ("n_layers", "serve layout", "decode on serve", "bound", shown.detail["layout"][0]["text"]):
        assert part in page
    named = dataclasses.replace(shown, run=dataclasses.replace(run, manifest=run.manifest | {"name": HOSTILE}))
    assert HOSTILE not in named._repr_html_()
    with pytest.raises(UserError, match="no point with id"):
        notebook.design(run, 10**6)


@pytest.mark.browser
def test_the_explorer_works_inside_a_frame(run, visit, tmp_path):
    (tmp_path / "cell.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{notebook.explorer(run)._repr_html_()}", encoding="utf-8")
    page = visit((tmp_path / "cell.html").as_uri(), ready=False)
    frame = page.frame_locator("iframe")
    assert frame.locator("h1").inner_text() == run.manifest["name"]
    assert frame.locator("#count").inner_text().startswith(f"{int(run.table['feasible'].sum()):,} of")
    frame.get_by_label("front only").check()
    assert frame.locator("#count").inner_text().startswith(f"{len(run.front):,} of")


def test_figures_draw_the_front(run, tmp_path):
    pytest.importorskip("matplotlib")
    figure = figures.front(run)
    rest, dots = figure.axes[0].collections
    assert len(rest.get_offsets()) == (run.table["feasible"] & ~run.table["on_front"]).sum() and len(dots.get_offsets()) == len(run.front)
    assert figure.axes[0].get_xlabel() == "Cost of serving, USD/Mtok"
    again = figures.front(run, x="tpot", y="n_params")
    assert again.axes[0].get_xlabel() == "TPOT, ms"
    lines = figures.parallel(run).axes[0].lines
    assert sum(len(line.get_xdata()) > 2 for line in lines) == len(run.front)
    figure.savefig(tmp_path / "front.svg")
    with pytest.raises(UserError, match="tpto"):
        figures.front(run, x="tpto")


def test_times_add_up(run):
    pytest.importorskip("matplotlib")
    ids = [int(i) for i in run.front["id"].iloc[:2]]
    figure, detail = figures.times(run, *ids), notebook.design(run, ids[0]).detail
    bound = detail["bounds"][0]
    ops = [op["time_s"] for op in detail["operators"] if (op["unit"], op["phase"]) == (bound["unit"], bound["phase"])]
    widths = [bar.get_width() for bar in figure.axes[0].patches if bar.get_y() < 0.4]
    assert sum(widths) == pytest.approx(1e3 * sum(ops))


def test_names_with_dollars_are_no_formulas(run):
    pytest.importorskip("matplotlib")
    named = dataclasses.replace(run, manifest=run.manifest | {"name": HOSTILE + "$\\frac{"})
    figures.front(named).canvas.draw()
