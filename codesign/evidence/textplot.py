"""Curves as text: a frame of characters with a letter per curve, for terminals and pages alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT = 64, 16
MARKS = "ox+*#@%&"

Curve = tuple[str, Sequence[float], Sequence[float]]  # name, x, y


def draw(curves: Sequence[Curve], x_name: str, log: str = "xy", show_x: Callable[[float], str] = "{:.3g}".format,
         show_y: Callable[[float], str] = "{:.3g}".format) -> str:  # fmt: skip
    """The curves in one frame; `log`: which axes are logarithmic.  Points that cannot be shown on such an axis are left out.

    >>> print(draw([("line", [1, 10, 100], [1, 10, 100])], "x").splitlines()[0].strip()[:3])
    100
    """
    points = [(i, *p) for i, (_, xs, ys) in enumerate(curves) for p in _shown(xs, ys, log)]
    if not points:
        return "nothing to plot"
    axes = [_axis([p[k + 1] for p in points], name in log) for k, name in enumerate("xy")]
    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    for i, (_, xs, ys) in enumerate(curves):
        shown = sorted(_shown(xs, ys, log))
        for (x0, y0), (x1, y1) in pairwise(shown):  # a light line between points
            steps = max(abs(_cell(x1, axes[0], WIDTH) - _cell(x0, axes[0], WIDTH)), 1)
            for s in range(1, steps):
                ends = _place((x0, y0), axes), _place((x1, y1), axes)
                column, row = (round(a + (b - a) * s / steps) for a, b in zip(*ends, strict=True))
                rows[row][column] = "." if rows[row][column] == " " else rows[row][column]
        for point in shown:
            column, row = _place(point, axes)
            rows[row][column] = MARKS[i % len(MARKS)]
    low, high = ([show(_value(a, end)) for end in (0.0, 1.0)] for a, show in zip(axes, (show_x, show_y), strict=True))
    labels = [high[1], *[""] * (HEIGHT - 2), high[0]]
    margin = max(map(len, labels))
    frame = [f"{label:>{margin}} |{''.join(row)}".rstrip() for label, row in zip(labels, rows, strict=True)]
    foot = f"{low[0]}{x_name:^{max(WIDTH - len(low[0]) - len(low[1]), 1)}}{low[1]}"
    legend = [f"{'':{margin}}  {MARKS[i % len(MARKS)]} {name}" for i, (name, _, _) in enumerate(curves)]
    return "\n".join([*frame, f"{'':{margin}} +{'-' * WIDTH}", f"{'':{margin}}  {foot}".rstrip(), *legend])


def _shown(xs, ys, log: str) -> list[tuple[float, float]]:
    kept = zip(map(float, xs), map(float, ys), strict=True)
    return [(x, y) for x, y in kept if math.isfinite(x) and math.isfinite(y) and (x > 0 or "x" not in log) and (y > 0 or "y" not in log)]


def _axis(values: list[float], is_log: bool) -> tuple[float, float, bool]:
    ends = (math.log(min(values)), math.log(max(values))) if is_log else (min(values), max(values))
    return (*ends, is_log) if ends[1] > ends[0] else (ends[0] - 0.5, ends[0] + 0.5, is_log)


def _cell(value: float, axis: tuple[float, float, bool], n: int) -> int:
    low, high, is_log = axis
    share = ((math.log(value) if is_log else value) - low) / (high - low)
    return int(np.clip(round(share * (n - 1)), 0, n - 1))


def _place(point: tuple[float, float], axes) -> tuple[int, int]:
    return _cell(point[0], axes[0], WIDTH), HEIGHT - 1 - _cell(point[1], axes[1], HEIGHT)


def _value(axis: tuple[float, float, bool], share: float) -> float:
    value = axis[0] + share * (axis[1] - axis[0])
    return math.exp(value) if axis[2] else value
