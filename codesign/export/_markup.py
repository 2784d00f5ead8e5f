"""Markdown in which every value is data: text that somebody named is shown, never interpreted."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from codesign.spec.units import show

UNITS = ("s", "tok", "byte", "FLOP", "USD", "J", "W", "tok/s", "byte/s", "USD/s", "USD/device/s")
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)")  # an underscore inside a word is plain text


def text(value: Any) -> str:
    """Somebody's words as text inside a line: no markup, no line breaks, no control characters.

    >>> print(text("a|b\\n# [c](d) <e> _f_ g_h"))
    a\\|b # \\[c\\](d) \\<e\\> \\_f\\_ g_h
    """
    return _SPECIAL.sub(r"\\\g<0>", line(value))


def code(value: Any) -> str:
    """A name in a code span, which also holds inside a table."""
    return f"`{line(value).replace('`', chr(39)).replace('|', '/') or '-'}`"


def line(value: Any) -> str:
    """Somebody's words on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def amount(value: Any, unit: str) -> str:
    """A quantity in SI with a human prefix; a dash where there is none."""
    return "-" if value is None else show(float(value), unit)


def figure(value: Any) -> str:
    """A number without a unit: counts in full, others whole from 100 on and with three digits below.

    >>> figure(16384), figure(1312.4), figure(0.5), figure(None)
    ('16,384', '1,312', '0.5', '-')
    """
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class _Human(string.Formatter):
    """`{key:unit}` a quantity, `{key:code}` a name, `{key}` escaped text or a plain number, `{key:.1%}` as Python has it."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in UNITS:
            return amount(value, format_spec)
        if format_spec == "code":
            return code(value)
        if isinstance(value, str):
            return text(value)
        return format(value, format_spec) if format_spec and value is not None else figure(value)


def say(template: str, values: Mapping[str, Any]) -> str:
    """A sentence of ours around values of the plan.

    >>> say("{step_s:s}, {n} of {name}, {frac:.0%}", {"step_s": 0.0125, "n": 16384, "name": "a*b", "frac": 0.25})
    '12.5 ms, 16,384 of a\\\\*b, 25%'
    """
    return _Human().vformat(template, (), values)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a table, an empty line behind it."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(row) + " |" for row in lines), ""]


def facts(values: Mapping[str, Any], **sentences: str) -> list[str]:
    """A table of two columns: label (its underscores are spaces) and sentence."""
    return table(("", ""), [(label.replace("_", " "), say(template, values)) for label, template in sentences.items()])
