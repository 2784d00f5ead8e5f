"""Launch scripts for bash in which every value is data: quoted where it is a word, one line where it is a comment."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesign.export._markup import line

Options = Sequence[tuple[Any, ...]]  # each a flag and its values


class Variable(str):
    """Name of a variable of the script, and what follows its value in the same word."""


class Beside(str):
    """Name of a file that lies in the folder of the script."""


def word(value: Any) -> str:
    """One word of a command.

    >>> word("a; rm -rf *"), word(Variable("MODEL")), word(8)
    ("'a; rm -rf *'", '"$MODEL"', '8')
    >>> print(word(Beside("serve.yaml")))
    "$(dirname "$0")/serve.yaml"
    """
    if isinstance(value, Beside):
        return f'"$(dirname "$0")/{value}"'
    return f'"${value}"' if isinstance(value, Variable) else shlex.quote(str(value))


def comment(text: Any) -> str:
    """A comment, whatever the text holds.

    >>> comment("x\\nrm -rf *")
    '# x rm -rf *'
    """
    return f"# {line(text)}"


def script(
    notes: Iterable[Any], variables: Mapping[str, str], groups: Mapping[str, Options], command: Sequence[Any], last: str = ""
) -> str:
    """Comments, variables that the environment may set, the array ARGS by group, a `last` line of ours, and the command."""
    array = []
    for title, options in groups.items():
        array += [f"    {comment(title)}"] if options else []
        array += ["    " + " ".join(word(part) for part in option) for option in options]
    return "\n".join([
        "#!/usr/bin/env bash", *(comment(note) for note in notes), "set -euo pipefail", "",
        *(f'{name}="${{{name}:-{value}}}"' for name, value in variables.items()), "",
        "ARGS=(", *array, ")", *([last] if last else []), "",
        " ".join(["exec", *(word(part) for part in command)]) + ' "${ARGS[@]}"', "",
    ])  # fmt: skip


def nodes_of(n_devices: int, n_per_node: int) -> tuple[int, int]:
    """(nodes, processes on each) whose product is the number of devices.

    >>> nodes_of(4, 8), nodes_of(64, 8), nodes_of(12, 8)
    ((1, 4), (8, 8), (2, 6))
    """
    each = next(n for n in range(min(n_devices, n_per_node), 0, -1) if n_devices % n == 0)
    return n_devices // each, each
