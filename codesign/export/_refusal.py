"""Saying no to a design that a target cannot express: which feature, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable

from codesign.spec.errors import Diagnostic, UserError

ELSEWHERE = "search without it, or export to training-plan, which states every dimension"


def refuse(who: str, found: Iterable[tuple[str, str]]) -> None:
    """A UserError with every (feature, what to use instead), each remedy once; nothing when there is none."""
    rows = list(found)
    last = {instead: i for i, (_, instead) in enumerate(rows)}
    problems = [
        Diagnostic(f"{who} cannot express {feature}", hint=instead if last[instead] == i else None)
        for i, (feature, instead) in enumerate(rows)
    ]
    if problems:
        raise UserError(problems)
