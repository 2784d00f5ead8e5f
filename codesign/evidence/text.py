"""The accuracy table as text for a terminal and for docs/accuracy.md, as JSON, and as one CSV line per metric."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codesign.evidence import contrasts, score, spread
from codesign.evidence.validation import Validation

PER_ROW = ("id", "phase", "group", "metric", "measured", "predicted", "lower", "upper", "err", "skipped")
SHOWN_GROUPS = 12
FITTED = {
    "training": "the training constants of the engines were fitted to these rows (scripts/fit_training.py), with one value for all models; refitted "
    "without what they are then scored on, median over groups:",
    "inference": "kernel constants come from kernel tables, not from these rows; the habits of the engines (glue kernels, how prompts are mixed in) "
    "were chosen while looking at them",
}
Rows = Sequence[Sequence[str]]


def summary(v: Validation) -> dict[str, Any]:
    """Everything `validate --json` prints."""
    out: dict[str, Any] = {
        "kind": v.kind, "file": str(v.path), "n_rows": v.n_rows, "n_scored": len({line.id for line in v.scored}),
        "rows_per_s": v.n_rows / v.wall_s, "overall": score.overall(v), "groups": score.groups(v), "margins": score.margins(v), "sweeps": score.sweeps(v.scored),
        "skipped": score.skipped(v), "baselines": score.baseline_records(v), "notes": notes(v),
    }  # fmt: skip
    if v.kind == "training":
        out |= {"contrasts": contrasts.contrasts(v), "constant_mfu": v.mfu}
    else:
        out |= {"tp_speedups": contrasts.speedups(v)}
    if v.is_shipped:
        out |= {"left_out_coverage": spread.coverage_table(v.scored), "fitted": FITTED[v.kind]}
        out |= {"held_out": spread.held_out()["splits"]} if v.kind == "training" else {}
    return out


def notes(v: Validation) -> list[dict[str, Any]]:
    """What the mapping assumed, with the number of rows, most first."""
    counts = Counter(note for _, note in {(line.id, note) for line in v.scored for note in line.notes})
    return [{"note": note, "n": n} for note, n in counts.most_common()]


def write_per_row(path: str | Path, validations: Sequence[Validation]) -> None:
    """One line per (id, metric) with the columns PER_ROW."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PER_ROW)
        for v in validations:
            for line in v.lines:
                writer.writerow([_cell(getattr(line, name)) for name in PER_ROW])


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def screen(v: Validation) -> str:
    """The answer for a terminal."""
    s = summary(v)
    blocks = [
        f"{v.kind}: {s['n_scored']} of {v.n_rows} rows of {v.path} predicted, {s['rows_per_s']:.0f} rows/s; error = ln(predicted / measured)",
        plain(overall_table(s)),
        plain(margin_table(s["margins"])),
        f"groups, worst of {len(s['groups'])}\n" + plain(group_table(s["groups"][:SHOWN_GROUPS])),
        *([effect] if (effect := _effects(s, plain)) else []),
    ]
    if s.get("left_out_coverage"):
        blocks.append("80 % intervals, fitted with whole groups left out\n" + plain(coverage_table(s["left_out_coverage"])))
    if s["skipped"]:
        blocks.append("skipped\n" + "\n".join(f"  {r['n']:>4}  {r['reason']}" for r in s["skipped"][:SHOWN_GROUPS]))
    if s["notes"]:
        blocks.append("assumed\n" + "\n".join(f"  {r['n']:>4}  {r['note']}" for r in s["notes"][:SHOWN_GROUPS]))
    if v.is_shipped:
        blocks.append("\n".join([s["fitted"], *([plain(held_out_table(s["held_out"]))] if "held_out" in s else [])]))
    return "\n\n".join(blocks)


def markdown(v: Validation) -> str:
    """The published accuracy table of one kind."""
    s = summary(v)
    title = {"training": "Training", "inference": "Serving"}[v.kind]
    blocks = [
        f"## {title}",
        f"{s['n_scored']} of {v.n_rows} rows predicted.",
        fenced(overall_table(s)),
        fenced(margin_table(s["margins"])),
        _effects(s, fenced),
    ]
    if s.get("left_out_coverage"):
        blocks += ["Coverage of the 80 % intervals, fitted with whole groups left out:", fenced(coverage_table(s["left_out_coverage"]))]
    blocks += ["Constants: " + s["fitted"], *([fenced(held_out_table(s["held_out"]))] if "held_out" in s else [])] if v.is_shipped else []
    blocks += ["Groups, worst first:", fenced(group_table(s["groups"]))]
    blocks += ["Skipped rows:", fenced([["reason", "rows"], *([r["reason"], str(r["n"])] for r in s["skipped"])])] if s["skipped"] else []
    blocks += (
        ["Assumed where rows are silent:", fenced([["assumption", "rows"], *([r["note"], str(r["n"])] for r in s["notes"])])]
        if s["notes"]
        else []
    )
    return "\n\n".join(block for block in blocks if block)


def _effects(s: Mapping[str, Any], draw) -> str:
    if s.get("contrasts"):
        return "effects (ratio of token rates, second / first)\n\n" + draw(contrast_table(s["contrasts"]))
    if s.get("tp_speedups"):
        return "TPOT speed-up from doubling TP, matched pairs\n\n" + draw(speedup_table(s["tp_speedups"]))
    return ""


def overall_table(s: Mapping[str, Any]) -> Rows:
    """One line per class, the baseline's median beside ours."""
    names = list(dict.fromkeys(b["name"] for b in s["baselines"]))
    base = {(b["name"], b["group"]): b for b in s["baselines"]}
    head = ["", "n", "groups", "median", "P90", "bias", "tau", "covered", "width/median", *(f"{n}: median" for n in names)]
    rows = []
    for r in s["overall"]:
        others = [percent(base[n, r["group"]]["median_abs_err"]) if (n, r["group"]) in base else "-" for n in names]
        rows.append([r["group"], str(r["n"]), str(r["n_groups"]), *_errors(r), *others])
    return [head, *rows]


def _errors(r: Mapping[str, Any]) -> list[str]:
    tau = "-" if r["kendall_tau"] is None else f"{r['kendall_tau']:.2f}"
    ratio = f"{r['median_log_width'] / max(r['median_abs_err'], 1e-9):.1f}"
    return [percent(r["median_abs_err"]), percent(r["p90_abs_err"]), percent(r["median_bias"], True), tau, f"{r['coverage']:.0%}", ratio]


def group_table(groups: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["group", "metric", "n", "median", "P90", "bias"]
    return [head, *([f"{r['phase']} | {short(r['group'])}", r["metric"], str(r["n"]), percent(r["median_abs_err"]), percent(r["p90_abs_err"]),
                     percent(r["median_bias"], True)] for r in groups)]  # fmt: skip


def margin_table(margins: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["by", "n", "groups", "median", "P90", "bias"]
    return [head, *([f"{r['phase']}, {r['by']} {r['group']}", str(r["n"]), str(r["n_groups"]), percent(r["median_abs_err"]),
                     percent(r["p90_abs_err"]), percent(r["median_bias"], True)] for r in margins)]  # fmt: skip


def contrast_table(found: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["effect", "measured", "predicted", "within 15 %"]
    return [head, *([c["effect"], f"{c['measured']:.2f}", f"{c['predicted']:.2f}", "yes" if c["within"] else "NO"] for c in found)]


def speedup_table(found: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["doubling", "n", "measured", "predicted", "bare roofline", "median error", "bare roofline: error"]
    return [head, *([d["doubling"], str(d["n"]), f"{d['measured']:.2f}", f"{d['predicted']:.2f}", f"{d['roofline']:.2f}",
                     percent(d["median_abs_err"]), percent(d["roofline_median_abs_err"])] for d in found)]  # fmt: skip


def coverage_table(found: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["phase", "left out", "n", "groups", "covered", "90 % of bootstrap", "width/median error"]
    return [head, *([c["phase"], c["left_out"], str(c["n"]), str(c["n_groups"]), f"{c['coverage']:.0%}",
                     f"{c['coverage_low']:.0%} to {c['coverage_high']:.0%}", f"{c['width_over_error']:.1f}"] for c in found)]  # fmt: skip


def held_out_table(found: Sequence[Mapping[str, Any]]) -> Rows:
    head = ["each left out in turn", "how many", "dense", "MoE"]
    return [head, *([r["left_out"], str(r["n"]), percent(r["dense"]), percent(r["moe"])] for r in found)]


def short(group: str, width: int = 100) -> str:
    """A group's name with the middle of a long source left out."""
    source, mark, rest = group.partition(" | ")
    room = max(width - len(mark) - len(rest), 24)
    half = (room - 3) // 2
    return (source if len(source) <= room else f"{source[:half]}...{source[-half:]}") + mark + rest


def percent(value: float, signed: bool = False) -> str:
    return f"{100 * value:{'+' if signed else ''}.1f} %"


def plain(rows: Rows) -> str:
    """First column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows
    )


def fenced(rows: Rows) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])
