"""Formulas are documented: every public function says what it is, quantities say their unit, examples run."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "codesign"
ROOMS = ("physics", "service", "lifecycle", "units")
UNIT = re.compile(
    r"\[[^\]]*\]|\b(bytes?|bits?|tok|tokens?|sequences?|seq|FLOPs?|seconds?|USD|J|joules?|W|watts?|counts?|devices?|experts?|layers?|params?|"
    r"parameters|share|fraction|ratio|pairs|replicas|widths?|ways|kernels?|time|latency)\b",
    re.IGNORECASE,
)
QUANTITY = re.compile(
    r"_(s|bytes|tok|flop|usd|w|j|frac|per_s|per_tok|bytes_per_tok|params|devices)$|^(time|flop|ttft|step|replicas|held|mean_context|interference)"
)


def modules():
    for room in ROOMS:
        yield from sorted((PACKAGE / room).rglob("*.py"))


def public_functions(path: Path):
    """Module-level functions and methods without an underscore, other than properties of data classes and overloads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


CASES = [(path, node) for path in modules() for node in public_functions(path)]


def name_of(path: Path) -> str:
    return ".".join(("codesign", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path, node", CASES, ids=[f"{name_of(p)}.{n.name}" for p, n in CASES])
def test_public_function(path, node):
    text = ast.get_docstring(node)
    trivial = len(node.body) == 1 and isinstance(node.body[0], ast.Return)
    assert text or trivial, f"{path}:{node.lineno}: {node.name} has no docstring"
    if text and QUANTITY.search(node.name) and not node.name.startswith("with_"):
        assert UNIT.search(text), f"{path}:{node.lineno}: {node.name} names no unit"


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_module(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"
    result = doctest.testmod(importlib.import_module(name_of(path)))
    assert result.failed == 0
