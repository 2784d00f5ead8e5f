"""Expressions mean what Python means, on arrays, and nothing outside the whitelist gets through."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.spec.expressions import ExpressionError, compile

NAMES = {
    "architecture.n_heads": int, "architecture.attention": str, "train.n_tp": int, "serve.n_tp": int, "n_params": float, "x": float,
    "architecture.tied": bool, "anything": object,
}  # fmt: skip
ENV = {
    "architecture.n_heads": np.array([8, 16, 32]), "architecture.attention": np.array(["gqa", "mla", "mha"]), "train.n_tp": 2,
    "serve.n_tp": np.array([0, 2, 4]), "n_params": 1e12, "x": 2.5, "architecture.tied": np.array([True, False, True]), "anything": "t",
}  # fmt: skip

GOOD = [
    ("n_heads * 2", [16, 32, 64]), ("attention == 'gqa'", [True, False, False]), ("attention != 'gqa' and n_heads > 16", [False, False, True]),
    ("attention in ('gqa', 'mla')", [True, True, False]), ("attention not in ['gqa']", [False, True, True]), ("not tied", [False, True, False]),
    ("8 < n_heads <= 16", [False, True, False]), ("divides(serve.n_tp, n_heads)", [False, True, True]), ("min(n_heads, 20, 12)", [8, 12, 12]),
    ("where(n_heads > 8, 1, 0)", [0, 1, 1]), ("n_heads if attention == 'gqa' else 0", [8, 0, 0]), ("2 ** n_heads", [256, 65536, 2**32]),
    ("clip(n_heads, 10, 20)", [10, 16, 20]), ("ceil(n_heads / 3)", [3, 6, 11]), ("-n_heads // 3", [-3, -6, -11]), ("x", 2.5),
    ("train.n_tp + 1", 3), ("round(x * 1.1, 1)", 2.8), ("true and tied", [True, False, True]), ("anything == 't'", True),
    ("log2(n_heads)", [3, 4, 5]), ("abs(-x) + sqrt(4)", 4.5), ("n_params <= 2e12", True), ("n_heads\n  > 8", [False, True, True]),
    ("n_heads * 10**15 * 10**5", [8e20, 1.6e21, 3.2e21]), ("architecture.n_heads % 3", [2, 1, 2]), ("1 / (n_heads - 8) > 1e9", [True, False, False]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), GOOD, ids=lambda item: str(item)[:30])
def test_values(text, value):
    found = compile(text, NAMES).evaluate(ENV)
    np.testing.assert_array_equal(found, value)
    assert isinstance(found, np.ndarray) == isinstance(value, list)


def test_integers_stay_integers_and_never_wrap():
    assert compile("n_heads * n_heads // 2", NAMES).evaluate(ENV).dtype == np.int64
    big = {"architecture.n_heads": np.array([3_000_000_000])}
    assert compile("n_heads * n_heads * n_heads", NAMES).evaluate(big)[0] == pytest.approx(2.7e28)
    assert compile("n_heads", NAMES).evaluate({"architecture.n_heads": 10**30}) == 1e30


def test_names_are_full_and_unique():
    assert compile("n_heads + train.n_tp + n_heads", NAMES).names == ("architecture.n_heads", "train.n_tp")
    assert compile("foo.bar > 1").names == ("foo.bar",)
    assert compile("foo + n_heads", NAMES, strict=False).names == ("foo", "architecture.n_heads")


BAD = [  # text, column, part of the message, part of the hint
    ("n_tp > 1", 1, "could be any of: serve.n_tp, train.n_tp", "full name"),
    ("1 + n_hed", 5, "unknown name 'n_hed'", "'n_heads'"),
    ("attention == gqa", 14, "unknown name 'gqa'", "in quotes"),
    ("attention < 'x'", 13, "text has no order", "=="),
    ("attention == 3", 14, "text cannot be compared", None),
    ("attention + 1", 1, "a number is needed", None),
    ("n_heads and attention", 13, "a number is needed", None),
    ("1 if x else 'a'", 1, "one branch is text", None),
    ("__import__('os')", 1, "not one of the functions", "functions:"),
    ("minimum(1, 2)", 1, "not one of the functions", "'min'"),
    ("'a'.upper()", 1, "only the functions", None),
    ("(1).real", 1, "attributes of a value", None),
    ("n_heads.__class__", 1, "unknown name", None),
    ("n_heads[0]", 1, "indexing", None),
    ("[y for y in x]", 1, "comprehensions", None),
    ("lambda: 1", 1, "functions cannot be defined", None),
    ("(y := 3)", 2, "assignment", "=="),
    ("n_heads = 3", 9, "'=' does not compare", "=="),
    ("n_heads && x", 9, "'&&'", "and"),
    ("!tied", 1, "'!'", "not"),
    ("x is 1", 1, "'is'", "=="),
    ("x ^ 2", 1, "'^'", "**"),
    ("x & 1", 1, "'&'", "and"),
    ("f'{x}'", 1, "f-strings", None),
    ("1j", 1, "only finite numbers", None),
    ("None", 1, "only finite numbers", None),
    ("9**9**9", 4, "exponents beyond", None),
    ("x ** 1000", 6, "exponents beyond", None),
    ("1 / 0", 1, "not a finite number", None),
    ("x + exp(1000)", 5, "not a finite number", None),
    ("x in (1)", 7, "'in' needs a list", "(8, 16)"),
    ("x in ()", 6, "'in' needs a list", None),
    ("min(1)", 1, "takes 2 or more values, not 1", None),
    ("min", 1, "unknown name", "is a function"),
    ("min(*x)", 1, "plain values only", None),
    ("", 1, "empty", None),
    ("n_heads +", 9, "ends too early", None),
    ("(n_heads", 1, "never closed", None),
    ("é é", 3, "not a valid expression", None),
    ("\x00", 1, "not a valid expression", None),
    ("(" * 500, 201, "", None),
    ("-" * 1500 + "1", None, "nested", None),
    ("1" * 2500, 1, "longer than", None),
    ("9" * 400, 1, "only finite numbers", None),
    (3, 1, "in quotes", None),
]


@pytest.mark.parametrize(("text", "col", "message", "hint"), BAD, ids=lambda item: repr(item)[:30])
def test_refused_with_column_and_remedy(text, col, message, hint):
    with pytest.raises(ExpressionError) as caught:
        compile(text, NAMES)
    assert message in caught.value.message
    assert col is None or caught.value.col == col
    assert hint is None or hint in caught.value.hint


def test_values_of_the_wrong_kind_are_an_error_not_a_traceback():
    for text in ("anything + 1", "anything > 3"):
        with pytest.raises(ExpressionError, match="mixes text and numbers"):
            compile(text, NAMES).evaluate(ENV)
    with pytest.raises(ExpressionError, match="no value for 'x'"):
        compile("x", NAMES).evaluate({})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("nx_heads.0123456789+-*/%()<>=!'\" ,andortif", max_size=60))
def test_any_text_compiles_or_is_refused(text):
    try:
        compile(text, NAMES)
    except ExpressionError as error:
        assert error.message and str(error)


ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
LEAF = st.sampled_from(["a", "b", "c"]) | st.integers(0, 9) | st.sampled_from([0.5, 2.25])
TREE = st.recursive(
    LEAF,
    lambda inner: (
        st.tuples(st.sampled_from([*ARITHMETIC, *COMPARE, "and", "or", "min", "max"]), inner, inner)
        | st.tuples(st.sampled_from(["not", "neg", "abs"]), inner)
        | st.tuples(st.just("if"), inner, inner, inner)
    ),
    max_leaves=10,
)


def render(tree) -> str:
    if not isinstance(tree, tuple):
        return str(tree)
    op, *parts = tree
    a, *rest = (f"({render(part)})" for part in parts)
    if op in ("not", "neg"):
        return f"{'not ' if op == 'not' else '-'}{a}"
    if op in ("min", "max", "abs"):
        return f"{op}({', '.join([a, *rest])})"
    return f"{rest[0]} if {a} else {rest[1]}" if op == "if" else f"{a} {op} {rest[0]}"


def reference(tree, env):
    """One scalar at a time, by Python's own operators."""
    if not isinstance(tree, tuple):
        return env[tree] if isinstance(tree, str) else tree
    op, *parts = tree
    values = [reference(part, env) for part in parts]
    if any(isinstance(value, float) and math.isnan(value) for value in values):
        return math.nan
    simple = {
        "min": min,
        "max": max,
        "abs": abs,
        "neg": lambda v: -v,
        "not": lambda v: not v,
        **ARITHMETIC,
        **COMPARE,
    }
    logic = {
        "and": lambda p, q: bool(p) and bool(q),
        "or": lambda p, q: bool(p) or bool(q),
        "if": lambda t, y, n: y if t else n,
    }
    try:
        return (simple | logic)[op](*values)
    except ZeroDivisionError:
        return math.nan


@settings(max_examples=400, deadline=None)
@given(TREE, st.lists(st.tuples(*[st.integers(-4, 9)] * 3), min_size=1, max_size=5))
def test_arrays_agree_with_python_one_by_one(tree, rows):
    expected = [reference(tree, dict(zip("abc", row, strict=True))) for row in rows]
    if any(isinstance(value, float) and not math.isfinite(value) for value in expected):
        return  # division by zero: nan or inf by numpy's rules, tested above
    env = {name: np.array([row[i] for row in rows]) for i, name in enumerate("abc")}
    try:
        found = compile(render(tree), {"a": int, "b": int, "c": int}).evaluate(env)
    except ExpressionError as error:
        assert "not a finite number" in error.message  # a constant part such as 1/0 in a branch not taken
        return
    np.testing.assert_allclose(np.broadcast_to(found, (len(rows),)).astype(float), np.array(expected, dtype=float), rtol=1e-12)
