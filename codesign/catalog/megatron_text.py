"""Arguments of Megatron-LM as people keep them: a shell script, a text file, or YAML; with the line of each.  Nothing is executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codesign.spec import yamlio
from codesign.spec.errors import Diagnostic, SpecError

_CONTINUED = re.compile(r"\\\r?\n")
_ASSIGNED = re.compile(r"(\w+)\+?=(.*)", re.S)
_VARIABLE = re.compile(r"\$\{(\w+)(?::?[-=]([^}]*))?\}|\$(\w+)")
_MAX_PASSES = 8  # of a variable that names another one
MARKS = ("num-layers", "hidden-size")  # what makes a YAML file one of Megatron's


class Given(NamedTuple):
    """A value as written (None: a flag without one), and where."""

    value: Any
    line: int | None


Arguments = dict[str, list[Given]]


def read(path: Path) -> Arguments:
    """Every `--name value` of a file, in the order of the file; names without dashes in front, `-` inside."""
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(yamlio.load(path))
    return _from_shell(yamlio.read_text(path), path)


def is_yaml(raw: Any) -> bool:
    """Whether plain YAML data holds Megatron's arguments and not an entry of the catalog."""
    return isinstance(raw, dict) and "architecture" not in raw and any(_name(path[-1]) in MARKS for path, _ in _leaves(raw))


def _from_yaml(document: yamlio.Document) -> Arguments:
    """`--num-layers: 32`, `num_layers: 32`, or either inside a mapping (MODEL_ARGS, language_model); `true` is a flag, `false` its absence."""
    found: Arguments = {}
    for path, value in _leaves(document.data):
        if value is not None:
            mark = document.positions.get(yamlio.dotted(path))
            found.setdefault(_name(path[-1]), []).append(Given(None if value is True else value, mark[0] if mark else None))
    return found


def _leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items() if isinstance(data, dict) else ():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _name(key: str) -> str:
    return key.removeprefix("--").replace("_", "-")


def _from_shell(text: str, path: Path) -> Arguments:
    """Arguments wherever they stand in the text, in arrays and quoted lists too; variables of the file that have one value are put in."""
    assigned: dict[str, set[str]] = {}
    words = list(_words(text, 1, path, assigned))
    values = {name: next(iter(found)) for name, found in assigned.items() if len(found) == 1}
    out: Arguments = {}
    for (word, line), following in zip(words, [*words, ("--", 0)][1:], strict=True):
        if not re.match(r"--[A-Za-z]", word):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = None if following[0].startswith("--") or following[0] == ")" else following[0]
        out.setdefault(name.replace("_", "-"), []).append(Given(None if value is None else _filled(value, values), line))
    return out


def _words(text: str, first: int, path: Path, assigned: dict[str, set[str]]) -> Iterator[tuple[str, int]]:
    """(word, line); a variable that is assigned is noted, and a list of arguments in its quotes is split in its turn."""
    lexer = shlex.shlex(_CONTINUED.sub(" \n", text), posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        for word in lexer:
            line, assignment = first + lexer.lineno - 1, _ASSIGNED.fullmatch(word)
            if "--" in word and re.search(r"\s", word):
                line -= word.count("\n")
                yield from _words(assignment[2] if assignment else word, line, path, assigned)
            elif assignment and not word.startswith("--"):
                assigned.setdefault(assignment[1], set()).add(assignment[2])
            else:
                closing = word.endswith(")") and word.count(")") > word.count("(")
                yield (word[:-1] if closing and len(word) > 1 else word), line
    except ValueError as error:
        raise SpecError(Diagnostic(f"cannot be split into arguments: {error}", str(path), first + lexer.lineno - 1)) from None


def _filled(value: str, values: dict[str, str]) -> str:
    """The value with the file's variables, or their defaults, put in; what is not known stays as it is."""

    def put(match: re.Match) -> str:
        name = match[1] or match[3]
        known = values.get(name)
        if known is not None and f"{{{name}" not in known:
            return known
        own = re.fullmatch(rf"\$\{{{name}:?[-=]([^}}]*)\}}", known or "")  # NAME=${NAME:-default}
        return own[1] if own else match[2] if match[2] is not None else match[0]

    for _ in range(_MAX_PASSES):
        before, value = value, _VARIABLE.sub(put, value)
        if value == before:
            break
    return value
