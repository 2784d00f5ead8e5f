"""The operators and functions of expressions, on scalars and numpy arrays alike.

Integers stay integers while they are exact and become floats beyond 2^53, so that a product of counts
never wraps around; division by zero gives inf or nan instead of numpy's silent integer 0.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Value = Any  # float | int | bool | str | np.ndarray of these
EXACT = 2**53


def _peak(value: Value) -> int | None:
    """Largest magnitude of an integer value; None for anything else."""
    array = np.asarray(value)
    if array.dtype.kind not in "ib":
        return None
    return max(-int(array.min()), int(array.max())) if array.size else 0


def _exactly(action: Callable[..., Any], bound: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    """Integer arithmetic while `bound` of the largest magnitudes is below 2^53, float arithmetic beyond."""

    def run(a: Value, b: Value) -> Value:
        peaks = _peak(a), _peak(b)
        if None in peaks:
            return action(a, b)
        kind = np.int64 if bound(*peaks) < EXACT else np.float64
        return action(np.asarray(a, kind), np.asarray(b, kind))

    return run


def _modulo(action: Callable[..., Any]) -> Callable[[Value, Value], Value]:
    """// and % with nan where the divisor is 0: numpy's 0 would make every number a multiple of 0."""

    def run(a: Value, b: Value) -> Value:
        a, b = (np.asarray(x, np.int64) if np.asarray(x).dtype.kind == "b" else np.asarray(x) for x in (a, b))
        zero = b == 0
        return np.where(zero, np.nan, action(a, np.where(zero, 1, b))) if np.any(zero) else action(a, b)

    return run


def _power(a: Value, b: Value) -> Value:
    result = np.float_power(a, b)
    return _whole(result) if _peak(a) is not None and _peak(b) is not None and np.all(np.asarray(b) >= 0) else result


def _whole(value: Value) -> Value:
    """A float result as integers where all of them are exact."""
    array = np.asarray(value)
    return array.astype(np.int64) if array.dtype.kind == "f" and np.all(np.abs(array) < EXACT) else array


def _round(a: Value, digits: Value = 0) -> Value:
    places = int(np.asarray(digits).flat[0])
    return _whole(np.round(a)) if places == 0 else np.round(a, places)


def _divides(a: Value, b: Value) -> Value:
    """Whether a divides b (0 divides nothing)."""
    return np.equal(ARITHMETIC[ast.Mod](b, a), 0)


def any_equal(value: Value, options: list[Value]) -> Value:
    result = np.equal(value, options[0])
    for option in options[1:]:
        result = np.logical_or(result, np.equal(value, option))
    return result


def _fold(action: Callable[..., Any]) -> Callable[..., Value]:
    def run(first: Value, *rest: Value) -> Value:
        for value in rest:
            first = action(first, value)
        return first

    return run


COMPARISONS = {
    ast.Eq: np.equal, ast.NotEq: np.not_equal, ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}  # fmt: skip
ARITHMETIC: dict[type, Callable[[Value, Value], Value]] = {
    ast.Add: _exactly(np.add, operator.add),
    ast.Sub: _exactly(np.subtract, operator.add),
    ast.Mult: _exactly(np.multiply, operator.mul),
    ast.Div: np.true_divide,
    ast.FloorDiv: _modulo(np.floor_divide),
    ast.Mod: _modulo(np.remainder),
    ast.Pow: _power,
}
FUNCTIONS: dict[str, tuple[Callable[..., Value], int, float]] = {  # action, least and most arguments
    "min": (_fold(np.minimum), 2, math.inf),
    "max": (_fold(np.maximum), 2, math.inf),
    "abs": (np.abs, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "log": (np.log, 1, 1),
    "log2": (np.log2, 1, 1),
    "log10": (np.log10, 1, 1),
    "exp": (np.exp, 1, 1),
    "ceil": (lambda a: _whole(np.ceil(a)), 1, 1),
    "floor": (lambda a: _whole(np.floor(a)), 1, 1),
    "round": (_round, 1, 2),
    "where": (np.where, 3, 3),
    "clip": (lambda a, low, high: np.minimum(np.maximum(a, low), high), 3, 3),
    "divides": (_divides, 2, 2),
}
