"""The explorer and single designs in a notebook cell.

from codesign.report.notebook import design, explorer
explorer(load_results("runs/quickstart"))
design(load_results("runs/quickstart"), 19)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from codesign import payload
from codesign.explain import explain_point
from codesign.report.html import render
from codesign.results import Run
from codesign.spec.units import show
from codesign.study import open_study

CAUSES = {"compute": "#3767c8", "memory": "#d8822a", "network": "#2b9a76", "fixed": "#8c96a3"}


@dataclass(frozen=True)
class Explorer:
    """The whole report inside a frame that can reach nothing outside itself."""

    page: str
    height_px: int

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{int(self.height_px)}px;border:0"
        return f'<iframe sandbox="allow-scripts allow-downloads" style="{style}" srcdoc="{escape(self.page, quote=True)}"></iframe>'


def explorer(run: Run, height_px: int = 900) -> Explorer:
    """The run's report, to be shown as the value of a cell."""
    return Explorer(render(payload.report_payload(open_study(run.path / "study.yaml"), run)), height_px)


@dataclass(frozen=True)
class Design:
    """One archived point: `point` is its row, `detail` what `codesign show --json` prints."""

    run: Run
    point: dict[str, Any]

    @cached_property
    def detail(self) -> dict[str, Any]:
        return explain_point(open_study(self.run.path / "study.yaml").problem, self.point)

    def _repr_html_(self) -> str:
        columns = [c for c in payload.columns(self.run) if c["group"] not in ("deployment", "metric")]
        columns.sort(key=lambda c: c["group"] != "objective")
        rows = [(c["label"], text(self.point[c["name"]], c["unit"])) for c in columns if self.point[c["name"]] == self.point[c["name"]]]
        rows += [(f"{one['unit']} layout", f"{one['text']} on {one['n_devices']:,} devices") for one in self.detail["layout"]]
        title = f"<p><b>{escape(str(self.run.manifest['name']))} #{int(self.point['id'])}</b></p>"
        return title + _table(rows) + "<p>Time by operator</p>" + "".join(map(self._phase, self.detail["bounds"]))

    def _phase(self, bound: dict[str, Any]) -> str:
        """A phase as a bar of its operators, coloured by what binds each."""
        ops = [op for op in self.detail["operators"] if (op["unit"], op["phase"]) == (bound["unit"], bound["phase"])]
        total = sum(op["time_s"] for op in ops) or 1.0
        parts = "".join(
            f'<span title="{escape(op["name"])}: {show(op["time_s"], "s")}, {op["bound"]} bound" style="display:inline-block;height:14px;'
            f'width:{90 * op["time_s"] / total:.3f}%;background:{CAUSES[op["bound"]]};border-right:1px solid #fff"></span>'
            for op in sorted(ops, key=lambda op: -op["time_s"])
        )
        said = f"{escape(bound['phase'])} on {escape(bound['unit'])}: {show(bound['estimate_s'], 's')}, {bound['bound']} bound"
        return f'<div>{said}<div style="white-space:nowrap">{parts}</div></div>'


def design(run: Run, point_id: int) -> Design:
    """One design of a run; an unknown id is a UserError."""
    return Design(run, run.point(point_id))


def text(value: Any, unit: str) -> str:
    """A cell: counts in full, FLOP with its power of ten, other quantities with a human prefix."""
    if isinstance(value, str):
        return value
    if unit == "FLOP":
        return f"{float(value):.3g} FLOP"
    return show(float(value), unit) if unit else f"{float(value):,.4g}" if float(value) % 1 else f"{float(value):,.0f}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><th style="text-align:left">{escape(a)}</th><td style="text-align:left">{escape(b)}</td></tr>' for a, b in rows)
    return f"<table>{cells}</table>"
