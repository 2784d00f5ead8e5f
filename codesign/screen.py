"""What people see in a terminal: short tables, SI prefixes, three digits.  Returns text; prints nothing."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesign.objectives import COLUMNS
from codesign.spec.units import show

BAR = 16
LABELS = {
    "tok_per_s": "throughput",
    "tok_per_s_per_device": "throughput",
    "tok_per_s_per_user": "user speed",
    "mfu_frac": "MFU",
    "usd_per_video_s": "cost per second",
}
LABEL = 14  # width of the labels of the last screen


def human(value: Any, column: str = "") -> str:
    """A cell: quantities with prefix and unit by their column, counts with separators, the rest as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, (list, tuple, dict)):  # keys of two studies that are compared
        items = [f"{k}: {human(v)}" for k, v in value.items()] if isinstance(value, dict) else [human(v) for v in value]
        return ", ".join(items)
    if isinstance(value, (str, bool)):
        return str(value)
    unit = unit_of(column)
    if not unit and float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    if unit == "FLOP":
        return f"{value:.2e} FLOP".replace("e+", "e")  # 1e25 is how the field says it
    return show(float(value), unit)


def unit_of(column: str) -> str:
    """Unit of a column by registry, else by the suffix of its name."""
    known = COLUMNS.get(column)
    if known is not None:
        return known.unit
    for suffix, unit in (("_bytes", "byte"), ("_bytes_per_s", "byte/s"), ("tok_per_s_per_device", "tok/s/device"), ("tok_per_s", "tok/s"), ("_flop_per_s", "FLOP/s"),
                         ("_usd", "USD"), ("_flop", "FLOP"), ("_tok", "tok"), ("_w", "W"), ("_s", "s")):  # fmt: skip
        if column.endswith(suffix):
            return unit
    return "s" if column == "slo.tpot" else "USD/h" if column.endswith("usd_per_h") else ""


def figures_text(figures: list[dict[str, str]]) -> str:
    """Figures of a catalog entry with their confidence and date; each source once, below."""
    numbers = {source: f"[{n}]" for n, source in enumerate(dict.fromkeys(f["source"] for f in figures), start=1)}
    rows = [f | {"source": numbers[f["source"]]} for f in figures]
    return "\n".join([table(rows, list(figures[0])), "", *(f"{n} {source}" for source, n in numbers.items())])


def table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], headers: Mapping[str, str] | None = None) -> str:
    """Right-aligned columns without rules; text columns left-aligned."""
    columns = list(columns)
    head = [(headers or {}).get(c, c) for c in columns]
    cells = [[human(row.get(c), c) for c in columns] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in cells), 0) if cells else len(h) for i, h in enumerate(head)]
    left = [all(isinstance(row.get(c), str) or row.get(c) is None for row in rows) and bool(rows) for c in columns]

    def line(parts: Sequence[str]) -> str:
        return "  ".join(p.ljust(w) if is_left else p.rjust(w) for p, w, is_left in zip(parts, widths, left, strict=True)).rstrip()

    return "\n".join([line(head), *(line(r) for r in cells)])


def design_text(point: Mapping[str, Any]) -> str:
    """`671B-A37B mla 64h 256e/8 w4 kv8`: a design in the words of the field."""
    total, active = point.get("n_params"), point.get("n_active_params")
    parts = [f"{_short(total)}-A{_short(active)}" if active and total and active < 0.999 * total else _short(total)]
    get = lambda key: point.get(f"architecture.{key}")  # noqa: E731
    if isinstance(get("attention"), str):
        parts.append(get("attention"))
    if _given(get("n_heads")):
        parts.append(f"{int(get('n_heads'))}h")
    if _given(get("n_experts")) and get("n_experts") > 0:
        active_text = f"/{int(get('n_active_experts'))}" if _given(get("n_active_experts")) else ""
        parts.append(f"{int(get('n_experts'))}e{active_text}")
    for key, label in (("weight_bits", "w"), ("kv_bits", "kv"), ("act_bits", "a")):
        value = point.get(f"precision.{key}")
        if _given(value):
            parts.append(f"{label}{int(value)}")
    hardware = [str(v) for k, v in point.items() if k.startswith("hardware.") and isinstance(v, str)]
    return " ".join([*parts, *hardware])


def _given(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _short(value: float | None) -> str:
    if not value:
        return "?"
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def layouts_text(point: Mapping[str, Any], units: Sequence[str], objectives: Iterable[str] = ()) -> str:
    """`serve tp1dp64ep64 on 64`: layout and devices of one replica, per serving unit; of training too where it is an objective."""
    from codesign.problem import layout_text

    trains, parts = any(name.startswith("train_") for name in objectives), []
    for unit in units:
        if (unit != "train" or trains) and _given(point.get(f"{unit}.n_tp")):
            stage = point[f"{unit}.n_tp"] * point[f"{unit}.n_cp"] * point[f"{unit}.n_dp"] + (point.get(f"{unit}.n_ffn") or 0)
            n = int(stage * point[f"{unit}.n_pp"])
            parts.append(f"{unit} {layout_text(point, unit)} on {n}")
    return ", ".join(parts)


def plan_text(plan: Any, n_variables: int, study: str) -> str:
    """`codesign check`: how large a valid study is, how it will be searched, how long all of it would take."""
    about = "" if plan.is_exact_count else "about "
    lines = [
        ("space", f"{about}{plan.space_designs:,} designs, {plan.space_rows:.3g} layout rows, {n_variables} variables"),
        ("feasible", f"{plan.feasible_share:.0%} of a random sample"),
        ("exhaustive", _all_text(plan)),
        ("method", f"{plan.method}: {plan.reason}"),
        ("next", f"codesign run {study}"),
    ]
    return "\n".join([f"{study} is a valid study", *(f"{name:<{LABEL}}{text}" for name, text in lines)])


def _all_text(plan: Any) -> str:
    """How long an exact front takes, and how much of that bounds save."""
    text = show(plan.seconds, "s") if plan.seconds else "under a second"
    if plan.excluded_share:
        return f"{text}: bounds exclude about {plan.excluded_share:.0%} of the designs without evaluating them"
    return f"{text}: every design is evaluated, because nothing bounds {', '.join(plan.unbounded)}" if plan.unbounded else text


def last_screen(manifest: Mapping[str, Any], picks: Sequence[Mapping[str, Any]], points: Mapping[int, Mapping[str, Any]],
                value: Mapping[str, Any] | None, warnings: Sequence[str], folder: str,
                doubts: Mapping[str, Any] | None = None) -> str:  # fmt: skip
    """The twelve lines after a run: counts, what killed designs, picks, value of co-design, warnings, report, next command.

    doubts: {cells: {id: {column: value with interval}}, sure: how often each pick stays on the front}.
    """
    n = max(manifest["n_designs"], 1)
    lines = [(manifest["method"], _counts_text(manifest, n))]
    killed = sorted(manifest["killed"].items(), key=lambda kv: -kv[1])
    if killed:
        lines.append(("killed by", "   ".join(f"{name} {count / n:.0%}" for name, count in killed[:6])))
    shown = _pick_lines(manifest, [points[pick["id"]] for pick in picks], (doubts or {}).get("cells", {}))
    lines += zip([pick["name"] for pick in picks], shown, strict=True)
    if doubts and doubts["sure"]:
        lines.append(("sure", doubts["sure"]))
    if value:
        lines.append(("co-design", value["sentence"]))
    if not manifest["exact"] and manifest.get("missing_bound"):
        lines.append(("missing", manifest["missing_bound"]["text"]))
    lines += [("note", w) for w in warnings[:3]]
    lines.append(("report", f"{folder}/report.html"))
    if picks:
        then = "export {} {} --to training-plan" if "train" in manifest["units"] else "show {} {}"
        lines.append(("next", f"codesign {then.format(shlex.quote(str(folder)), picks[0]['id'])}"))
    return "\n".join(f"{label:<{LABEL}}{text}" for label, text in lines)


def _counts_text(manifest: Mapping[str, Any], n: int) -> str:
    """Designs, layouts per second, feasible share, front, and the time: of all parts where a run was continued."""
    kind = "exact" if manifest["exact"] else manifest["stop_reason"]
    time = show(manifest["wall_s"], "s")
    if manifest["wall_here_s"] < 0.999 * manifest["wall_s"]:
        time += f" in all, {show(manifest['wall_here_s'], 's')} of it now"
    per_design = manifest["space_rows"] / max(manifest["space_designs"], 1)
    excluded = f" of {_count(n + manifest['n_excluded'])}, the others excluded by bounds" if manifest.get("n_excluded") else ""
    return (
        f"{_count(manifest['n_designs'])} designs{excluded} x {_count(per_design)} layouts   {_count(manifest['layouts_per_s'])} layouts/s   "
        f"feasible {manifest['n_feasible'] / n:.0%}   front {manifest['n_front']}   ({kind}, {time})"
    )


def _pick_lines(manifest: Mapping[str, Any], points: Sequence[Mapping[str, Any]], doubts: Mapping[int, Mapping[str, str]]) -> list[str]:
    """Picks as aligned columns: id, design, serving layout, then every objective with its name, and its interval where it is known."""

    def cell(p, c):
        return f"{label(c)} {doubts.get(int(p['id']), {}).get(c) or human(p[c], c)}"

    goals, units = manifest["objectives"], manifest["units"]
    told = ("architecture.", "precision.", "hardware.", "slo.")  # by the design's own words, or by a goal
    own = [v for v in manifest["variables"] if not v.startswith(told) and len({str(p.get(v)) for p in points}) > 1]
    own_text = [[f"{v.rsplit('.', 1)[-1]} {human(p.get(v), v)}" for v in own] for p in points]
    rows = [
        [f"#{p['id']}", design_text(p), *mine, layouts_text(p, units, goals), *(cell(p, c) for c in goals)]
        for p, mine in zip(points, own_text, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def label(column: str) -> str:
    """What a column is called beside its value and unit: `tpot_s` is tpot, `usd_per_mtok` is cost."""
    name = column if column.endswith("per_s") else re.sub(r"_(s|flop|w|j|j_per_tok)$", "", column)
    return LABELS.get(column) or re.sub(r"^usd_per_mtok", "cost", name)


def closest_text(closest: Mapping[str, Any] | None) -> str:
    """What a user may relax when nothing is feasible."""
    if not closest:
        return "nothing is feasible"
    design = ", ".join(f"{k}={v}" for k, v in closest["design"].items())
    return f"nothing is feasible; of the closest design ({design}) {', and '.join(closest['sentences'])}"


def _count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.0f}"


def point_screen(point: Mapping[str, Any], detail: Mapping[str, Any], run: Any) -> str:
    """`codesign show`: the design, its layouts, where time goes, what fills memory, what it costs, what is left of each bound."""
    blocks = [f"#{int(point['id'])}  {design_text(point)}"]
    names = [*(n for n in run.variables if n not in detail["not_read"]), *run.objectives]
    blocks.append(_pairs({n: point.get(n) for n in dict.fromkeys(names)}))
    blocks.append("layout\n" + table(detail["layout"], ["unit", "text", "n_devices", "n_replicas", "batch", "step_s", "mfu_frac"],
                                     {"text": "layout", "n_devices": "devices/replica", "n_replicas": "replicas", "step_s": "step", "mfu_frac": "MFU"}))  # fmt: skip
    for bound in detail["bounds"]:
        key = (bound["unit"], bound["phase"])
        ops = [o for o in detail["operators"] if (o["unit"], o["phase"]) == key]
        blocks.append(f"{' '.join(key)}: {bound_text(bound)}\n{busy_text(bound)}{operators_text(ops)}")
    blocks.append("memory per device\n" + "\n".join(_memory_lines(detail)))
    if bound := detail["balance"]:
        life = table(detail["lifecycle"], ["phase", "tok", "flop", "usd", "energy_j"], {"flop": "FLOP", "usd": "USD", "energy_j": "J"})
        most = f", at most {bound['max_ratio']:g}" if bound["max_ratio"] else ""
        blocks.append(f"life\n{life}\nbalance of {bound['of']}: largest / smallest {bound['ratio']:.3g}{most}")
    if detail["slack"]:
        rows = [{"constraint": s["constraint"], "value": show(s["value"], s["unit"]), "limit": show(s["limit"], s["unit"]),
                 "left": f"{s['slack_frac']:.0%}"} for s in detail["slack"]]  # fmt: skip
        blocks.append("bounds\n" + table(rows, ["constraint", "value", "limit", "left"]))
    blocks += [f"note  {n}" for n in detail["notes"]]
    return "\n\n".join(blocks)


def bound_text(bound: Mapping[str, Any]) -> str:
    """Time of one phase between its bounds, and what binds."""
    low, high = show(bound["lower_s"], "s"), show(bound["upper_s"], "s")
    return f"{show(bound['estimate_s'], 's')}  (all overlapped {low}, nothing overlapped {high}), mostly {bound['bound']}"


def busy_text(bound: Mapping[str, Any]) -> str:
    """`  at work   attention devices 100%, FFN devices 78%`, where micro-batches overlap; else nothing."""
    if "busy" not in bound:
        return ""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in bound["busy"].items())
    return f"  {'at work':<24}{shares} of the time; operators below are of all micro-batches\n"


def operators_text(operators: Sequence[Mapping[str, Any]]) -> str:
    """Time per operator of one phase, largest first, with the binding bound and a bar."""
    ops = sorted(operators, key=lambda o: -o["time_s"])
    total, lines = max(sum(o["time_s"] for o in ops), 1e-30), []
    for op in ops:
        share = op["time_s"] / total
        lines.append(f"  {op['name']:<24}{show(op['time_s'], 's'):>10}  {share:>4.0%} {'#' * round(share * BAR):<{BAR}}  {op['bound']}")
    return "\n".join(lines)


def meaning_text(answer: Mapping[str, Any]) -> str:
    """`codesign explain` of one name, with its figures where it has some."""
    lines = [f"{k:<10}{v}" for k, v in answer.items() if v and k != "figures"]
    return "\n".join([*lines, *(["", figures_text(answer["figures"])] if answer.get("figures") else [])])


def rack_text(rack: Mapping[str, float]) -> str:
    """The bill of a scale-up domain, and what one copper rack holds."""
    r = {k: f"{v:,.0f}" for k, v in rack.items() if k != "ended_by"}
    allowed = ", ".join(f"{k.removesuffix('_allows')} {r[k]}" for k in rack if k.endswith("_allows"))
    bill = (
        ("racks", f"{r['n_racks']}, the fullest {show(rack['power_w'], 'W')} and {r['weight_kg']} kg"),
        (
            "links",
            f"{r['n_cables']} copper pairs if all in one rack, {r['n_switches']} switches in {r['n_tiers']} tier(s), {r['n_optics']} optics",
        ),
        ("beyond one copper rack", f"{show(rack['extra_w'], 'W')} and {rack['extra_usd']:,.0f} USD more per device (not in cost above)"),
        ("spares", f"{r['n_spare']} devices, the domain is up {rack['availability_frac']:.2%} of the time"),
        ("one copper rack holds", f"{r['largest_copper']} devices, ended by {rack['ended_by']} ({allowed})"),
    )
    return "\n".join([f"rack   a domain of {r['n_devices']} devices", *(f"  {k:<24}{v}" for k, v in bill)])


def _memory_lines(detail: Mapping[str, Any]) -> list[str]:
    lines = []
    for unit, capacity in detail["capacity"].items():
        classes = [m for m in detail["memory"] if m["unit"] == unit]
        used = sum(m["bytes"] for m in classes)
        parts = ", ".join(f"{m['class']} {show(m['bytes'], 'byte')}" for m in classes)
        lines.append(f"  {unit:<8} {show(used, 'byte')} of {show(capacity, 'byte')} usable ({used / capacity:.0%}): {parts}")
    return lines


def _pairs(values: Mapping[str, Any]) -> str:
    width = max((len(k) for k in values), default=0)
    return "\n".join(f"  {k:<{width}}  {human(v, k)}" for k, v in values.items())
