"""What went wrong, where, and what to do about it.  Nothing here reads a file or knows a schema."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_WIDTH = 110  # an excerpt is cut around its caret to fit an ordinary terminal


@dataclass(frozen=True)
class Diagnostic:
    """One problem: what, where (1-based line and column), and the remedy."""

    message: str
    path: str | None = None
    line: int | None = None
    col: int | None = None
    hint: str | None = None
    excerpt: str | None = None

    def __str__(self) -> str:
        place = self.path or ""
        if self.path and self.line is not None:
            place += f":{self.line}" + (f":{self.col}" if self.col is not None else "")
        lines = [f"{place}: {self.message}" if place else self.message]
        if self.excerpt is not None and self.col is not None:
            shown, column = _window(self.excerpt, self.col)
            lines += [f"    {shown}", "    " + " " * (column - 1) + "^"]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class Problem(NamedTuple):
    """One problem at a key or value of a study, before anyone has looked up its line and column."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None
    at_key: bool = False
    inside: tuple[str, int] | None = None  # (text of an expression, column in it)


class UserError(Exception):
    """The user's mistake: printed without a traceback, exit code 2."""

    def __init__(self, *problems: Diagnostic | str | Iterable[Diagnostic], hint: str | None = None) -> None:
        self.diagnostics: list[Diagnostic] = []
        for problem in problems:
            if isinstance(problem, str):
                self.diagnostics.append(Diagnostic(problem, hint=hint))
            elif isinstance(problem, Diagnostic):
                self.diagnostics.append(problem)
            else:
                self.diagnostics.extend(problem)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        blocks = [str(diagnostic) for diagnostic in self.diagnostics]
        files = list(dict.fromkeys(d.path for d in self.diagnostics if d.path))
        if files:
            count = len(self.diagnostics)
            blocks.append(f"{count} problem{'' if count == 1 else 's'} in {', '.join(files)}")
        return "\n".join(blocks)


class SpecError(UserError):
    """A file, name or value that the user wrote cannot be used."""


class BadValue(SpecError, ValueError):
    """One wrong value, told without its place: whoever knows the file adds that."""

    @property
    def message(self) -> str:
        return self.diagnostics[0].message

    @property
    def hint(self) -> str | None:
        return self.diagnostics[0].hint


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that looks most like `name`, or None when nothing is close."""
    folded = {_fold(candidate): candidate for candidate in names}
    match = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def did_you_mean(name: str, names: Iterable[str], what: str = "known names") -> str:
    """Hint text for an unknown name: the nearest one, else a short list."""
    names = list(names)
    close = nearest(name, names)
    if close:
        return f"did you mean '{close}'?"
    listed = ", ".join(sorted(names)[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"{what}: {listed}" if names else f"there are no {what}"


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")


def _window(excerpt: str, col: int) -> tuple[str, int]:
    """The part of a source line around `col`, without control characters, and the new column."""
    clean = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in excerpt.rstrip())
    indent = min(len(clean) - len(clean.lstrip()), col - 1)
    clean, col = clean[indent:], col - indent
    if len(clean) <= _WIDTH:
        return clean, col
    start = max(0, min(col - _WIDTH // 2, len(clean) - _WIDTH))
    head, tail = ("..." if start else ""), ("..." if start + _WIDTH < len(clean) else "")
    return head + clean[start : start + _WIDTH] + tail, col - start + len(head)
