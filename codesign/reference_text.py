"""References beside a front, in words: for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.picks import LABELS
from codesign.screen import design_text, human, label, layouts_text


def place_text(found: Sequence[Mapping[str, Any]], run: Any) -> str:
    """`codesign place`: one block per reference: what it is, its values, where it sits, what it breaks."""
    if not found:
        return "this study names no references: codesign place RUN deepseek-v3, or `references: [deepseek-v3]` in the study"
    return "\n\n".join(_block(one, run.objectives, run.manifest["units"]) for one in found)


def _block(one: Mapping[str, Any], objectives: Mapping[str, str], units: Sequence[str]) -> str:
    point = one["point"] or {}
    values = [f"{label(g)} {human(point[g], g)}" for g in objectives if point.get(g) is not None]
    rows = (
        [("design", "   ".join(t for t in (design_text(point), layouts_text(point, units)) if t))]
        if one["kind"] == "model" and point
        else []
    )
    rows += [("values", "   ".join(values))] if values else []
    rows += [("beside it", one["place"]["sentence"])] if one["place"] else []
    rows += [("could be", gains_text(one["place"], objectives))] if one["place"] and one["place"]["gains"] else []
    rows += [("breaks", reason) for reason in one["reasons"]] + [("note", note) for note in one["notes"]]
    return one["name"] + "\n" + "\n".join(f"  {name:<10}{text}" for name, text in rows)


def gains_text(place: Mapping[str, Any], objectives: Mapping[str, str]) -> str:
    """What the front offers at no loss in the other objectives: `cost 62% less (#12), quality 2.1 times (#4)`."""
    parts = []
    for goal, gain in place["gains"].items():
        ratio = gain["ratio"]
        change = f"{ratio:.2g} times" if ratio >= 2 else f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'}"
        parts.append(f"{LABELS.get(goal, label(goal))} {change} (#{gain['id']})")
    return f"at no loss in the rest: {', '.join(parts)}"


def page_rows(found: Sequence[Mapping[str, Any]], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """References as the report takes them."""
    return [{
        "name": one["name"], "kind": one["kind"], "feasible": one["feasible"], "values": one["point"] or {}, "others": one["points"][1:],
        "place": one["place"]["sentence"] if one["place"] else "",
        "gains": gains_text(one["place"], objectives) if one["place"] and one["place"]["gains"] else "",
        "reasons": one["reasons"], "notes": one["notes"], "source": one["source"],
    } for one in found]  # fmt: skip
