"""Confidence in a terminal: intervals beside values, picks and what would change them, shadow prices, why-not, waterfalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.screen import human, label, table, unit_of
from codesign.spec.units import show

NOT_APART = "~"  # cannot be told apart from the best of its column
OTHER = "*"  # stands on another layout than the design it is set beside
MARK = "!"  # leaves the front in more than half of the samples
MAX_MEASUREMENTS = 6
NEGLIGIBLE = 5e-4  # relative change that is not worth a cell


def interval_cell(value: float, low: float, high: float, column: str) -> str:
    """`18 ms (15-22)`, `3.9e23 FLOP (1.7-8.7)`: the interval in the unit and prefix of the value."""
    text = human(value, column)
    number = text.split()[0].replace(",", "")
    try:
        scale = value / float(number)
    except (ValueError, ZeroDivisionError):
        return text
    if "e" in number:
        scale = 10.0 ** int(number.split("e")[1])
    return f"{text} ({_short(low / scale)}-{_short(high / scale)})"


def _short(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.2g}"


def front_cells(intervals: Mapping[str, Any], columns: Sequence[str], alike: Mapping[str, bool]) -> dict[str, str]:
    """Objectives of one front row with their intervals, marked where they cannot be told apart from the best of the front."""
    cells = {}
    for column in columns:
        if column in intervals:
            i = intervals[column]
            cells[column] = interval_cell(i["value"], i["lower"], i["upper"], column) + (f" {NOT_APART}" if alike.get(column) else "  ")
    return cells


def intervals_block(record: Mapping[str, Mapping[str, float]], alike: Mapping[str, Sequence[int]], n_front: int, level: float) -> str:
    """`show`: every predicted column with its interval, the two parts of its error, and how many points it cannot be told apart from."""
    rows = []
    for column, i in record.items():
        others = alike.get(column)
        rows.append({
            "column": label(column), "value": interval_cell(i["value"], i["lower"], i["upper"], column),
            "shared": _sigma(i["sigma_shared"]),
            "own": _sigma(i["sigma_own"]), "alike": "" if others is None else f"{len(others)} of {n_front - 1}",
        })  # fmt: skip
    headers = {
        "value": f"value ({level:.0%} interval)",
        "shared": "shared error",
        "own": "own error",
        "alike": "cannot be told apart from",
    }
    note = (
        "shared: the chip's or the law's, the same for every design on it; own: this design's.  "
        "Tokens that a budget, a balance or a target sets are solved again.  Prices and demand: codesign decide"
    )
    return "uncertainty of the model\n" + table(rows, ["column", "value", "shared", "own", "alike"], headers) + f"\n{note}"


def _sigma(sigma: float) -> str:
    return "-" if sigma < 5e-4 else f"{100 * sigma:.0f} %"


def robust_line(samples: int, picks: Sequence[Mapping[str, Any]]) -> str:
    """The line of the last screen: how often each pick stays on the front when everything uncertain is drawn."""
    parts = [f"{p['name']} {p['p_front']:.0%}{' ' + MARK if p['leaves_front'] else ''}" for p in picks]
    return f"on the front in {samples} draws of all that is uncertain ({MARK}: in fewer than half): {', '.join(parts)}"


def decide_text(answer: Mapping[str, Any], lines: Mapping[int, str]) -> str:
    """`codesign decide`: each pick with reasons, doubts and turning points; what to measure first.  lines: id -> design in words."""
    n, points = answer["samples"], answer["points"]
    blocks = [f"{n:,} samples of {len(answer['sources'])} sources of error, {len(points)} points of the front of {answer['run']}"]
    blocks += [_pick_block(p, lines) for p in answer["picks"]]
    rows = [{
        "what": m["how"], "learns": m["source"], "removes": f"{m['removes_frac']:.0%}",
        "usd": "-" if m["usd"] is None else show(m["usd"], "USD"),
        "per": "-" if m["removes_frac_per_kusd"] is None else f"{m['removes_frac_per_kusd']:.1%}",
    } for m in answer["measurements"] if m["removes_frac"] >= 0.01][:MAX_MEASUREMENTS]  # fmt: skip
    if rows:
        headers = {"what": "measurement", "removes": "regret removed", "usd": "cost", "per": "per 1000 USD"}
        found = table(rows, ["what", "learns", "removes", "usd", "per"], headers)
        blocks.append("worth knowing before the knee is chosen: most regret removed per USD first, what has no price last\n" + found)
    blocks += [_anew_block(answer["anew"])] if answer["anew"] else []
    return "\n\n".join(blocks)


def _anew_block(anew: Mapping[str, Any]) -> str:
    """The best designs if their layouts may still change: on the front, within limits, and what no other layout would save."""
    rows = []
    for d in anew["designs"]:
        both = [(c, d["regret"][c], d["regret_left"][c]) for c in d["regret"] if d["regret"][c] is not None]
        rows.append({"id": f"#{d['id']}", "front": _changes(*d["p_front"]), "limits": _changes(*d["p_holds"]),
                     "better": "-" if d["p_better"] is None else f"{d['p_better']:.0%}",
                     "regret": ", ".join(f"{_named(c)} {_changes(a, b)}" for c, a, b in both)})  # fmt: skip
    headers = {"id": "design", "front": "on the front", "limits": "within limits", "better": "another layout is better", "regret": "regret"}
    head = (f"with layouts chosen again in each of {anew['samples']:,} samples: {anew['layouts']:,} layouts of the {len(rows)} best designs "
            "(as laid out -> laid out again; regret against both)")  # fmt: skip
    foot = ("Not the shares of the picks above: there one point counts, as laid out, in every sample; here a design counts, by any of its points\n"
            "on the front (left), or by any layout, against layouts chosen again of these designs and the rest as archived (right).\n"
            "Which to use: above, if layout and design are fixed together; right, if the design is fixed now and its layout later")  # fmt: skip
    return head + "\n" + table(rows, list(headers), headers) + "\n" + foot


def _changes(before: float, after: float) -> str:
    return f"{before:.0%} -> {after:.0%}"


def _pick_block(pick: Mapping[str, Any], lines: Mapping[int, str]) -> str:
    mark = f"  {MARK} leaves the front in more than half" if pick["leaves_front"] else ""
    head = f"{pick['name']}  #{pick['id']}  {lines[pick['id']]}"
    values = [_expected(pick, c) for c in pick["predicted"]]
    regret = ", ".join(f"{_named(c)} {v:.0%}" for c, v in pick["regret"].items() if v is not None)
    rows = [("why", pick["reason"]), ("gives up", pick["gives_up"])]
    rows += [("instead", f"#{n['id']}: {n['sentence']}") for n in pick["neighbours"]]
    chosen = "" if pick["p_chosen"] is None else f", would be picked again in {pick['p_chosen']:.0%}"
    rows.append(
        (
            "sure",
            f"on the front in {pick['p_front']:.0%} of the samples, within every limit in {pick['p_holds']:.0%}{chosen}{mark}",
        )
    )
    if pick["p_chosen"] is not None:
        rows.append(("expect", ", ".join(values) + "  (debiased: the chosen one looks better than it is)"))
    rows.append(("regret", f"{regret}: what hindsight could have improved at no loss in the rest, on average"))
    rows += [("flips", _flip_text(f)) for f in pick["flips"]]
    return head + "\n" + "\n".join(f"  {name:<10}{text}" for name, text in rows)


def _expected(pick: Mapping[str, Any], column: str) -> str:
    before, after = pick["predicted"][column], pick["debiased"][column]
    if before and abs(after / before - 1.0) < 0.005:
        return f"{_named(column)} {human(before, column)}"
    return f"{_named(column)} {human(before, column)} -> {human(after, column)}"


def _named(column: str) -> str:
    return "quality" if column in ("c_eq_flop", "n_eq", "n_eff") else label(column)


def _flip_text(flip: Mapping[str, Any]) -> str:
    side = "above" if flip["factor"] > 1 else "below"
    value = f" ({show(flip['value'], flip['unit'])})" if flip["value"] is not None and flip["unit"] else ""
    where = f"{abs(flip['sigmas']):.2g} standard deviations" if flip["assumption"] == "quality law" else f"{flip['factor']:.3g}x{value}"
    then = "nothing holds every limit" if flip["becomes"] is None else f"#{flip['becomes']} is the better choice"
    chance = f"{flip['probability']:.0%}" if flip["probability"] >= 0.005 else "below 1%"
    broken = "it breaks a limit, and " if flip["breaks_a_limit"] else ""
    return f"{flip['assumption']} {side} {where}: {broken}{then}  (chance {chance})"


def sensitivity_text(answer: Mapping[str, Any], line: str) -> str:
    """`codesign sensitivity`: shadow prices of resources and assumptions, elasticities to the shape, exchange rates."""
    goals = list(answer["objectives"])
    blocks = [f"#{answer['id']}  {line}\n  " + "   ".join(f"{label(g)} {human(answer['base'][g], g)}" for g in goals)]
    blocks.append(f"what +{answer['step']:.0%} of each resource changes: with the same layout | with the best layout at which no other objective is worse\n"
                  + _shadow(answer["resources"], goals, lambda r: f"{r['hardware']} ({', '.join(r['roles'])}): {r['name']}"))  # fmt: skip
    blocks.append(
        f"what +{answer['step']:.0%} of each assumption changes, in the same way\n"
        + _shadow(answer["assumptions"], goals, lambda r: r["name"])
    )
    if answer["architecture"]:
        blocks.append(
            "one step of each searched variable, on its best layout (elasticity: % per %)\n"
            + _steps(answer["architecture"], goals, answer["id"])
        )
    if answer["exchange"]:
        blocks.append("\n".join(_exchange(e, answer) for e in answer["exchange"]))
    return "\n\n".join(blocks)


def _shadow(rows: Sequence[Mapping[str, Any]], goals: Sequence[str], name) -> str:
    shown, silent = [], []
    extras = [c for c in ("serve.tok_per_s", "train.step_s") if any((r["kept"] or {}).get(c) is not None for r in rows)]
    for row in rows:
        kept, anew = row["kept"] or {}, row["anew"] or {}
        if (
            row["kept"] is not None
            and not any(abs(v or 0.0) > NEGLIGIBLE for v in (*kept.values(), *anew.values()))
            and None not in anew.values()
        ):
            silent.append(name(row))
            continue
        line = {"name": name(row)}
        line |= {g: f"{_percent(kept.get(g)) if row['kept'] else 'no fit'} | {_percent(anew.get(g)) if row['anew'] else ''}" for g in goals}
        shown.append(line | {c: _percent(kept.get(c)) for c in extras})
    headers = {"name": "", "serve.tok_per_s": "replica tok/s", "train.step_s": "train step"} | {g: label(g) for g in goals}
    text = table(shown, ["name", *goals, *extras], headers) if shown else "nothing changes"
    cells = [str(row.get(g)) for row in shown for g in goals]
    note = "\n. : nothing changes" if any(cell.startswith(". |") or cell.endswith("| .") for cell in cells) else ""
    note += "\n- : no layout keeps the other objectives" if any(cell.endswith("| -") for cell in cells) else ""
    return text + note + (f"\nno effect: {'; '.join(silent)}" if silent else "")


def _percent(value: float | None) -> str:
    if value is None:
        return "-"
    return "." if abs(value) < NEGLIGIBLE else f"{100 * value:+.1f}%"


def _steps(rows: Sequence[Mapping[str, Any]], goals: Sequence[str], at: int) -> str:
    out = []
    for row in rows:
        short = row["variable"].startswith(("architecture.", "precision."))
        cells = {"variable": row["variable"].split(".", 1)[-1] if short else row["variable"],
                 "step": f"{row['from']} -> {row['to']}"}  # fmt: skip
        for g in goals:
            change, elasticity = (row["change"] or {}).get(g), (row["elasticity"] or {}).get(g)
            cells[g] = (
                "infeasible" if row["change"] is None else _percent(change) + (f" ({elasticity:+.2f})" if elasticity is not None else "")
            )
        notes = ["" if row["in_space"] else "outside the space", f"{OTHER} {row['layout']}" if row["layout"] else ""]
        out.append(cells | {"note": "; ".join(n for n in notes if n)})
    text = table(out, ["variable", "step", *goals, "note"], {g: label(g) for g in goals} | {"note": ""})
    return text + (
        f"\n{OTHER} another layout or batch than that of #{at}, named here: part of the change is its"
        if any(r["layout"] for r in rows)
        else ""
    )


def _exchange(row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    pays = label(row["pays"])
    if row["to"] is None:
        return f"+10 % quality for {pays}: no point of the front has it"
    unit = unit_of(row["pays"])
    rest = (
        "the rest held"
        if row["rest_held"]
        else "the rest not held: "
        + ", ".join(f"{label(c)} {_percent(v)}" for c, v in row["changes"].items() if c != row["pays"] and c in answer["objectives"])
    )
    change = f"{'+' if row['change'] >= 0 else '-'}{show(abs(row['change']), unit)} ({_percent(row['changes'][row['pays']])})"
    return (f"+10 % quality costs at least {change} of {pays} (#{row['to']}, {rest}), {row['serve_kw']:+.3g} kW of serving power, "
            f"{'+' if row['lifecycle_usd'] >= 0 else '-'}{show(abs(row['lifecycle_usd']), 'USD')} over the life")  # fmt: skip


def why_not_text(answer: Mapping[str, Any]) -> str:
    """`show --why-not`: what would change, and who pays."""
    changed = ", ".join(f"{k.split('.', 1)[-1]} {v['from']} -> {v['to']}" for k, v in answer["changed"].items())
    lines = [f"#{answer['id']} with {changed}: {answer['verdict']}", *answer["notes"]]
    if answer["changes"]:
        rows = []
        for column, change in answer["changes"].items():
            better = None if not change else (change > 0) == (answer["objectives"][column] == "maximize")
            rows.append({"objective": label(column), "value": human(answer["point"][column], column), "change": _percent(change),
                         "": "" if better is None or _percent(change) == "." else "gains" if better else "pays"})  # fmt: skip
        lines.append(table(rows, ["objective", "value", "change", ""]))
    return "\n".join(lines)


def waterfall_text(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """`compare`: what each cause adds to each objective; the last line is the whole difference."""
    ends = {m["name"]: (m["a"], m["b"]) for m in metrics}
    shown = [c for c in columns if rows and c in rows[0] and c in ends]
    out = [{"cause": r["cause"], "detail": r["detail"]} | {c: _signed(r[c], ends[c][0], c) for c in shown} for r in rows]
    out.append({"cause": "together", "detail": ""} | {c: _signed(ends[c][1] - ends[c][0], ends[c][0], c) for c in shown})
    return "where the difference comes from (Shapley shares: they sum to it)\n" + table(
        out, ["cause", "detail", *shown], {c: label(c) for c in shown} | {"detail": ""}
    )


def _signed(value: float, base: float, column: str) -> str:
    if not value or abs(value) < 1e-9 * abs(base):
        return "."
    percent = f" ({100 * value / base:+.0f}%)" if base else ""
    return f"{'+' if value > 0 else '-'}{human(abs(value), column)}{percent}"
