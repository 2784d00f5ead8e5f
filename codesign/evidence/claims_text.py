"""What `codesign claims` shows: all verdicts as a table, one claim with its numbers, tables and plot, and the page docs/claims.md."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from codesign.evidence import textplot
from codesign.evidence.claims import Answer, show_number
from codesign.screen import human, table, unit_of

WIDE = 110
ORDER = ("holds", "holds with a condition", "does not hold", "not settled", "needs")


def screen(answers: Sequence[Answer]) -> str:
    """Two lines per judged claim, the second its condition or reason as far as the terminal is wide, then what the others need."""
    judged = [a for a in answers if a.verdict != "needs"]
    rows = [
        {"id": a.claim.id, "verdict": a.verdict, "statement": a.claim.title, "claimed": a.claim.claimed, "computed": _computed(a)}
        for a in judged
    ]  # fmt: skip
    blocks = []
    if rows:
        head, *lines = table(rows, ["id", "verdict", "statement", "claimed", "computed"]).splitlines()
        indent = " " * (max(len(a.claim.id) for a in judged) + 2)
        width = shutil.get_terminal_size((WIDE, 24)).columns
        reasons = [textwrap.shorten(a.because, max(width - len(indent), 40), placeholder=" ...") for a in judged]
        blocks.append("\n".join([head, *(f"{line}\n{indent}{said}" for line, said in zip(lines, reasons, strict=True))]))
    waiting = [f"{a.claim.id}  {a.claim.title}: needs {a.because}" for a in answers if a.verdict == "needs"]
    if waiting:
        blocks.append("not computed yet\n" + "\n".join(waiting))
    return "\n\n".join(blocks)


def _computed(answer: Answer) -> str:
    return answer.numbers[0].text if answer.numbers else "none"


def summary(answers: Sequence[Answer]) -> str:
    """`12 hold, 5 hold with a condition, ...`"""
    counts = Counter(a.verdict for a in answers)
    return ", ".join(f"{counts[v]} {v}" for v in ORDER if counts[v])


def one(answer: Answer) -> str:
    """A claim in full."""
    claim = answer.claim
    head = [f"{claim.id}  {claim.title}", "", textwrap.fill(claim.statement, WIDE), f"source    {claim.source}"]
    if answer.verdict == "needs":
        return "\n".join([*head, "", f"not computed yet: needs {answer.because}"])
    verdict = textwrap.fill(f"verdict   {answer.verdict}: {answer.because}", WIDE, subsequent_indent=" " * 10)
    if not answer.numbers:
        return "\n".join([*head, verdict])
    blocks = ["\n".join([*head, verdict, f"evidence  {answer.evidence}"])]
    blocks.append(table(quantities(answer), ["quantity", "claimed", "computed", "of"]))
    blocks += [f"{name}\n{table(rows, columns)}" for name, rows, columns in tables(answer)]
    blocks += [drawn] if (drawn := plot(answer)) else []
    blocks += [textwrap.fill(claim.note, WIDE)] if claim.note else []
    return "\n\n".join(blocks)


def quantities(answer: Answer) -> list[dict[str, str]]:
    """Computed beside claimed."""
    return [
        {"quantity": n.name, "claimed": show_number(n.claimed, n.unit) if isinstance(n.claimed, float) else n.claimed or "",
         "computed": n.text, "of": n.meaning} for n in answer.numbers
    ]  # fmt: skip


def tables(answer: Answer) -> list[tuple[str, list[dict[str, Any]], list[str]]]:
    """(scenario, rows, columns) of every table that the claim shows."""
    out = []
    for shown in answer.claim.show:
        data = answer.tables[shown.scenario]
        n = len(next(iter(data.values())))
        rows = [{c: _cell(data[c][i], c) for c in shown.columns} for i in range(n)]
        out.append((shown.scenario, rows, shown.columns))
    return out


def _cell(value: Any, column: str) -> str:
    value = value.item() if hasattr(value, "item") else value
    leaf = column.rpartition(".")[2]
    name = leaf if unit_of(leaf) else f"_{leaf}"  # so that `bytes` alone has a unit too
    if isinstance(value, float) and not unit_of(name):
        return "-" if np.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return human(value, name)


def plot(answer: Answer) -> str:
    """The claim's picture, or nothing."""
    what = answer.claim.plot
    if what is None:
        return ""
    data = answer.tables[what.scenario]
    groups = dict.fromkeys(data[what.by].tolist()) if what.by else (None,)
    curves = []
    for group in groups:
        keep = data[what.by] == group if what.by else np.ones(len(data[what.x]), dtype=bool)
        for y in what.y:
            own = [_cell(group, what.by)] if what.by else []
            name = " ".join([*own, *([y] if len(what.y) > 1 or not what.by else [])])
            curves.append((name, data[what.x][keep], data[y][keep]))
    title = f"{', '.join(what.y)} against {what.x}"
    return f"{title}\n{textplot.draw(curves, what.x, what.log, lambda v: _cell(v, what.x), lambda v: _cell(v, what.y[0]))}"


def as_json(answer: Answer) -> dict[str, Any]:
    """One claim for machines: SI numbers."""
    claim = answer.claim
    numbers = [n.model_dump() | {k: _finite(getattr(n, k)) for k in ("value", "low", "high")} for n in answer.numbers]
    return {"id": claim.id, "title": claim.title, "statement": claim.statement, "source": claim.source, "claimed": claim.claimed,
            "verdict": answer.verdict, "because": answer.because, "evidence": answer.evidence, "quantities": numbers}  # fmt: skip


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


PAGE = """# Claims

What people say about LLM hardware, serving, training and architecture, and what the model computes about it. Written by
`codesign claims -o docs/claims.md`; `codesign claims C07` shows one claim with its tables and plot, `codesign claims C07 --set
accelerator=mi300x` the same on another chip. A claim is one YAML file in `codesign/evidence/data/claims/`: scenarios for the evaluator,
expressions over its columns, and rules from numbers to a verdict. Intervals are 80 %: each chip's four kinds of fitted constants
(arithmetic, memory, network, fixed time) are moved by one standard deviation of the published residuals, and the effects added in
squares; scenarios with `engine: ideal` are bare physics and have none. A verdict that such an interval would turn is *not settled*, and
so is one whose figures a pin leaves without a value, as where it leaves one of the chips that a claim compares.
Evidence: `model` stands on constants fitted to measured kernels, `prior constants` on estimates for chips without measurements.

"""


def page(answers: Sequence[Answer]) -> str:
    """docs/claims.md."""
    judged = [a for a in answers if a.verdict != "needs"]
    lines = [f"{len(judged)} claims: {summary(judged)}.", "", "| id | statement | claimed | computed | verdict |", "|---|---|---|---|---|"]
    cells = ((f"[{a.claim.id}](#{_anchor(a)})", a.claim.title, a.claim.claimed, _computed(a), a.verdict) for a in judged)
    lines += [f"| {' | '.join(row)} |" for row in cells]
    waiting = [a for a in answers if a.verdict == "needs"]
    if waiting:
        lines += ["", "Not computed yet:", ""] + [f"- {a.claim.id} {a.claim.title}: needs {a.because}" for a in waiting]
    return PAGE + "\n".join(lines) + "\n\n" + "\n".join(map(_section, judged))


def _anchor(answer: Answer) -> str:
    kept = "".join(c for c in f"{answer.claim.id} {answer.claim.title}".lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _section(answer: Answer) -> str:
    claim = answer.claim
    rows = [f"| {q['of']} | {q['claimed']} | {q['computed']} |" for q in quantities(answer)]
    parts = [f"## {claim.id} {claim.title}", f"*{claim.statement}* ({claim.source})"]
    parts += [f"**{answer.verdict}**: {answer.because}." + (f" Evidence: {answer.evidence}." if answer.evidence else "")]
    if not answer.numbers:
        return "\n\n".join(parts) + "\n"
    parts += ["\n".join(["| quantity | claimed | computed |", "|---|---|---|", *rows])]
    parts += [f"```text\n{drawn}\n```"] if (drawn := plot(answer)) else []
    parts += [claim.note] if claim.note else []
    return "\n\n".join(parts) + "\n"
