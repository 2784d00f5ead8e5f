"""Static figures in one call each, for papers and notebooks.  They need matplotlib: pip install 'codesign[plot]'.

from codesign.report import figures
figures.front(load_results("runs/quickstart")).savefig("front.pdf")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from codesign import payload
from codesign.explain import explain_point
from codesign.objectives import canonical
from codesign.picks import picks
from codesign.report import notebook
from codesign.results import Run
from codesign.spec.errors import UserError, did_you_mean
from codesign.study import open_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONG_AXIS = 50.0  # a column whose largest value is more than this times its smallest gets a logarithmic axis
HUMAN = {"s": ("ms", 1e3), "byte": ("GB", 1e-9), "J": ("GWh", 1.0 / 3.6e12)}


def front(run: Run, x: str | None = None, y: str | None = None, colour: str | None = None) -> Figure:
    """Feasible designs and the front in two columns, coloured by a third; the objectives unless told otherwise."""
    plt, names = _pyplot(), list(run.objectives)
    costs = [n for n in names if run.objectives[n] == "minimize"] or names
    x = _column(run, x or costs[0])
    y = _column(run, y or next(n for n in [*names, x] if n != x or len(names) == 1))
    colour = _column(run, colour or next((n for n in names if n not in (x, y)), y))
    table, best, known = run.table, run.front, {c["name"]: c for c in payload.columns(run)}
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    rest = table[table["feasible"] & ~table["on_front"]]
    axes.scatter(*(_human(rest[n], known[n]) for n in (x, y)), s=5, c="#b8bfc8", linewidths=0, label="feasible", rasterized=True)
    shade = {"c": _human(best[colour], known[colour]), "cmap": "plasma_r", "edgecolors": "#1c2127", "linewidths": 0.5}
    dots = axes.scatter(*(_human(best[n], known[n]) for n in (x, y)), s=26, label="front", **shade)
    figure.colorbar(dots, ax=axes, label=_title(known[colour]))
    for name, set_scale, set_label in ((x, axes.set_xscale, axes.set_xlabel), (y, axes.set_yscale, axes.set_ylabel)):
        set_scale("log" if _is_long(best[name]) else "linear")
        set_label(_title(known[name]))
    for pick in picks(best, run.objectives):
        row = run.point(pick["id"])
        at = tuple(float(_human(row[n], known[n])) for n in (x, y))
        axes.annotate(f"{pick['name']} #{pick['id']}".replace("$", r"\$"), at, xytext=(7, 4), textcoords="offset points", fontsize=8)
    axes.grid(alpha=0.25)
    axes.set_title(str(run.manifest["name"]).replace("$", r"\$"), loc="left")
    return _done(plt, figure)


def parallel(run: Run) -> Figure:
    """The front in parallel coordinates: what was searched on the left, objectives on the right, coloured by the first objective."""
    plt, best = _pyplot(), run.front
    known = {c["name"]: c for c in payload.columns(run)}
    names = [n for n in run.variables if n in known and best[n].nunique(dropna=False) > 1]
    names += list(run.objectives)
    places = [_places(best[n]) for n in names]
    lead = places[-len(run.objectives)]
    figure, axes = plt.subplots(figsize=(max(6.0, 1.05 * len(names)), 4.2), layout="constrained")
    heights = np.stack(places)
    for line, share in zip(heights.T, lead, strict=True):
        axes.plot(range(len(names)), line, color=plt.get_cmap("plasma_r")(share), alpha=0.6, linewidth=0.9)
    for k, name in enumerate(names):
        axes.axvline(k, color="#66707c", linewidth=0.8)
        for text, height in _ends(best[name], known[name]):
            axes.annotate(text, (k, height), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center")
    axes.set_xticks(range(len(names)), [_title(known[n]).replace(", ", ",\n") for n in names], fontsize=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return _done(plt, figure)


def times(run: Run, *ids: int) -> Figure:
    """Time of every phase of one or more designs, split by what binds each operator."""
    plt, problem = _pyplot(), open_study(run.path / "study.yaml").problem
    details = {i: explain_point(problem, run.point(i)) for i in ids}
    phases = list(dict.fromkeys((b["unit"], b["phase"]) for detail in details.values() for b in detail["bounds"]))
    size = (7.2, 0.7 + (0.45 * len(ids) + 0.75) * len(phases))
    figure, grid = plt.subplots(len(phases), 1, figsize=size, layout="constrained", squeeze=False)
    for axes, (unit, phase) in zip(grid[:, 0], phases, strict=True):
        for row, detail in enumerate(details.values()):
            left = 0.0
            ops = [op for op in detail["operators"] if (op["unit"], op["phase"]) == (unit, phase)]
            for cause, colour in notebook.CAUSES.items():
                width = sum(op["time_s"] for op in ops if op["bound"] == cause) * 1e3
                axes.barh(row, width, left=left, color=colour, label=cause if row == 0 else None)
                left += width
        axes.set_yticks(range(len(ids)), [f"#{i}" for i in ids])
        axes.invert_yaxis()
        axes.set_title(f"{phase} on {unit}, ms, by what binds each operator", loc="left", fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), ncols=4, fontsize=8, loc="outside lower center", frameon=False)
    return _done(plt, figure)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UserError("figures need matplotlib, which is not installed", hint="pip install 'codesign[plot]'") from None
    return pyplot


def _done(plt: Any, figure: Figure) -> Figure:
    """The figure, closed in pyplot: a notebook shows it once, as the value of the cell."""
    plt.close(figure)
    return figure


def _column(run: Run, name: str) -> str:
    name = canonical(name)
    drawable = [c["name"] for c in payload.columns(run) if not c["categorical"]]
    if name not in drawable:
        raise UserError(f"no number of this run is called '{name}'", hint=did_you_mean(name, drawable, "columns"))
    return name


def _is_long(values) -> bool:
    return bool((values > 0).all()) and float(values.max()) > LONG_AXIS * float(values.min())


def _human(values, column: dict[str, Any]):
    return values * HUMAN.get(column["unit"], ("", 1.0))[1]


def _title(column: dict[str, Any]) -> str:
    unit = HUMAN.get(column["unit"], (column["unit"], 1.0))[0]
    return (f"{column['label']}, {unit}" if unit else column["label"]).replace("$", r"\$")


def _places(values) -> np.ndarray:
    """Heights in [0, 1] (N,): classes evenly spaced, numbers in proportion (of their logarithm on a long axis), gaps below the axis."""
    if values.dtype.kind not in "if":
        order = {name: k for k, name in enumerate(sorted(map(str, values.dropna().unique())))}
        return np.array([order.get(str(v), -0.08) / max(len(order) - 1, 1) for v in values])
    numbers = np.log(values.to_numpy(float)) if _is_long(values.dropna()) else values.to_numpy(float)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    return np.nan_to_num((numbers - low) / (high - low if high > low else 1.0), nan=-0.08)


def _ends(values, column: dict[str, Any]) -> list[tuple[str, float]]:
    """(text, height) of every class, or of the least and the largest number."""
    if values.dtype.kind not in "if":
        names = sorted(map(str, values.dropna().unique()))
        return [(name.replace("$", r"\$"), k / max(len(names) - 1, 1)) for k, name in enumerate(names)]
    texts = [notebook.text(v, column["unit"]) for v in (values.min(), values.max())]
    return list(zip(texts, (0.0, 1.0), strict=True))
