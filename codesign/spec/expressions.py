"""Safe arithmetic for `when`, `where`, `derived`: a whitelist of Python's grammar on numpy; never `eval`.

An expression is numbers, text in quotes, names, `+ - * / // % **`, comparisons (chained too), `and or
not`, `x in (a, b)`, `a if c else b` and the functions below.  A dotted name is one token.  Values may be
scalars or arrays that broadcast.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from codesign.spec.arithmetic import ARITHMETIC, COMPARISONS, EXACT, FUNCTIONS, Value, any_equal
from codesign.spec.errors import Diagnostic, SpecError, nearest

MAX_CHARS = 2000
MAX_DEPTH = 100
MAX_EXPONENT = 64
Run = Callable[[Mapping[str, Value]], Value]
Names = Iterable[str] | Mapping[str, type] | None
Functions = Mapping[str, tuple[Callable[..., Value], int, float]]  # action, least and most arguments


class ExpressionError(SpecError):
    """An expression that cannot be used; `col` counts from 1 inside its text."""

    def __init__(self, text: str, col: int, message: str, hint: str | None = None) -> None:
        self.text, self.col, self.message, self.hint = text, col, message, hint
        super().__init__(Diagnostic(message, None, None, col, hint, text))


@dataclass(frozen=True, eq=False)
class Expression:
    """A compiled expression: its text, the names it reads, and its kind (number, text, truth, any)."""

    text: str
    names: tuple[str, ...]
    kind: str
    _run: Run

    def evaluate(self, env: Mapping[str, Value]) -> Value:
        """An array if any input is one, else a Python scalar; division by zero gives inf or nan."""
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(self._run(env))
        except KeyError as error:
            raise ExpressionError(self.text, 1, f"no value for '{error.args[0]}'") from None
        except TypeError:  # also numpy's "no loop for these types"
            raise ExpressionError(self.text, 1, "this mixes text and numbers") from None
        return result if result.ndim else result.item()

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process as text: compiled code holds closures."""
        return compile, (self.text, self.names)


def compile(text: str, names: Names = None, *, strict: bool = True, more: Functions | None = None) -> Expression:
    """Parse `text`.  `names`: the dotted names it may use, optionally with their types; `more`: functions beyond the usual ones.

    Without `names`, or where `strict` is off, a name that is not known is taken as it stands.
    """
    if not isinstance(text, str):
        raise ExpressionError(str(text), 1, "expected an expression in quotes", 'write for example "n_experts > 0"')
    if not text.strip():
        raise ExpressionError(text, 1, "the expression is empty")
    if len(text) > MAX_CHARS:
        raise ExpressionError(text[:80], 1, f"the expression is longer than {MAX_CHARS} characters")
    builder = _Builder(text, names, strict and names is not None, FUNCTIONS | (more or {}))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(builder.source, mode="eval")
        built = builder.build(tree.body)
    except SyntaxError as error:
        raise ExpressionError(text, *_syntax(text, error)) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExpressionError(text, 1, "the expression is nested too deeply") from None
    return Expression(text, tuple(dict.fromkeys(builder.found)), built.kind, built.run)


def resolve(name: str, names: Iterable[str]) -> tuple[str | None, list[str]]:
    """(full name, all candidates): the name itself, or the only one that ends in `.name`."""
    names = list(names)
    if name in names:
        return name, [name]
    candidates = [full for full in names if full.endswith("." + name)]
    return (candidates[0] if len(candidates) == 1 else None), candidates


class _Built(NamedTuple):
    run: Run
    kind: str  # number, text, truth, any
    is_constant: bool = False


class _Builder:
    """Turns a syntax tree into nested closures, refusing everything that is not listed."""

    def __init__(self, text: str, names: Names, strict: bool, functions: Functions) -> None:
        self.text, self.strict, self.functions = text, strict, functions
        self.source = "".join(" " if c in "\n\t\r" else c for c in text)
        indent = len(self.source) - len(self.source.lstrip())
        self.source, self.indent = self.source.strip(), indent
        self.names = names if isinstance(names, Mapping) else dict.fromkeys(names or (), object)
        self.found: list[str] = []
        self.depth = 0

    def build(self, node: ast.expr) -> _Built:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.error(node, *_REFUSED.get(type(node), ("this is not allowed in an expression", None)))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(node, f"the expression is nested more than {MAX_DEPTH} levels deep")
        built = method(node)
        self.depth -= 1
        if built.is_constant and built.kind == "number" and not isinstance(node, ast.Constant):
            self._check_finite(node, built)
        return built

    def error(self, node: ast.AST, message: str, hint: str | None = None) -> ExpressionError:
        col = len(self.source.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))
        return ExpressionError(self.text, col + self.indent + 1, message, hint)

    def number(self, node: ast.expr) -> _Built:
        built = self.build(node)
        if built.kind == "text":
            raise self.error(node, "a number is needed here, this is text")
        return built

    def _check_finite(self, node: ast.expr, built: _Built) -> None:
        with np.errstate(all="ignore"):
            if not np.all(np.isfinite(built.run({}))):
                raise self.error(node, "this is not a finite number")

    def _constant(self, node: ast.Constant) -> _Built:
        value = node.value
        if isinstance(value, bool):
            return _Built(lambda env: value, "truth", True)
        if isinstance(value, str):
            return _Built(lambda env: value, "text", True)
        if not isinstance(value, int | float) or not abs(value) < 1e300:
            raise self.error(node, "only finite numbers, text, True and False are allowed")
        number = value if abs(value) < EXACT else float(value)
        return _Built(lambda env: number, "number", True)

    def _name(self, node: ast.Name) -> _Built:
        return self._lookup(node, node.id)

    def _attribute(self, node: ast.Attribute) -> _Built:
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self.error(
                node,
                "attributes of a value are not allowed",
                "only dotted names such as architecture.n_heads",
            )
        return self._lookup(node, ".".join([inner.id, *reversed(parts)]))

    def _lookup(self, node: ast.expr, name: str) -> _Built:
        if name in ("true", "false") and name not in self.names:
            return _Built(lambda env: name == "true", "truth", True)
        full, candidates = resolve(name, self.names)
        if full is None and not candidates and not self.strict:
            full = name
        if full is None and candidates:
            listed = ", ".join(sorted(candidates))
            raise self.error(node, f"'{name}' could be any of: {listed}", "write the full name")
        if full is None:
            raise self.error(node, f"unknown name '{name}'", self._hint(name))
        self.found.append(full)
        kind = _KINDS.get(self.names.get(full, object), "any")
        return _Built(lambda env: _leaf(env[full]), kind)

    def _hint(self, name: str) -> str:
        if name in self.functions:
            return f"'{name}' is a function: write {name}(...)"
        leaves = [full.rpartition(".")[2] for full in self.names]
        close = nearest(name, [*self.names, *leaves])
        return f"did you mean '{close}'?" if close else f"if it is text, write '{name}' in quotes"

    def _unaryop(self, node: ast.UnaryOp) -> _Built:
        if isinstance(node.op, ast.Not):
            inner = self.number(node.operand)
            return _Built(lambda env: np.logical_not(inner.run(env)), "truth", inner.is_constant)
        if isinstance(node.op, ast.Invert):
            raise self.error(node, "'~' is not allowed", "write 'not'")
        inner, sign = self.number(node.operand), -1 if isinstance(node.op, ast.USub) else 1
        return _Built(lambda env: np.multiply(sign, inner.run(env)), "number", inner.is_constant)

    def _binop(self, node: ast.BinOp) -> _Built:
        action = ARITHMETIC.get(type(node.op))
        if action is None:
            symbol, remedy = _WRONG_OPERATORS.get(type(node.op), ("this operator", None))
            raise self.error(node, f"{symbol} is not allowed in an expression", remedy)
        left, right = self.number(node.left), self.number(node.right)
        is_constant = left.is_constant and right.is_constant
        if isinstance(node.op, ast.Pow) and right.is_constant and abs(right.run({})) > MAX_EXPONENT:
            raise self.error(node.right, f"exponents beyond {MAX_EXPONENT} are not allowed")
        return _Built(lambda env: action(left.run(env), right.run(env)), "number", is_constant)

    def _boolop(self, node: ast.BoolOp) -> _Built:
        parts = [self.number(value) for value in node.values]
        action = np.logical_and if isinstance(node.op, ast.And) else np.logical_or

        def run(env: Mapping[str, Value]) -> Value:
            result = parts[0].run(env)
            for part in parts[1:]:
                result = action(result, part.run(env))
            return result

        return _Built(run, "truth", all(part.is_constant for part in parts))

    def _compare(self, node: ast.Compare) -> _Built:
        left, checks = self.build(node.left), []
        previous = node.left
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                options = self._options(right_node, left, previous)
                checks.append((None if isinstance(op, ast.In) else np.logical_not, left, options))
                continue
            if type(op) not in COMPARISONS:
                raise self.error(node, "'is' is not allowed", "write '=='")
            right = self.build(right_node)
            self._comparable(right_node, op, left, right)
            checks.append((COMPARISONS[type(op)], left, right))
            left, previous = right, right_node

        def run(env: Mapping[str, Value]) -> Value:
            result: Value = True
            for compare, a, b in checks:
                if isinstance(b, list):
                    hit = any_equal(a.run(env), [option.run(env) for option in b])
                    hit = hit if compare is None else compare(hit)
                else:
                    hit = compare(a.run(env), b.run(env))
                result = hit if result is True else np.logical_and(result, hit)
            return result

        return _Built(run, "truth")

    def _comparable(self, node: ast.expr, op: ast.cmpop, left: _Built, right: _Built) -> None:
        kinds = {left.kind, right.kind} - {"any"}
        if "text" in kinds and len(kinds) > 1:
            raise self.error(node, "text cannot be compared with a number")
        if "text" in kinds and not isinstance(op, ast.Eq | ast.NotEq):
            raise self.error(node, "text has no order", "use == or !=")

    def _options(self, node: ast.expr, left: _Built, left_node: ast.expr) -> list[_Built]:
        if not isinstance(node, ast.Tuple | ast.List) or not node.elts:
            raise self.error(node, "'in' needs a list of values", "write for example: x in (8, 16)")
        options = [self.build(element) for element in node.elts]
        for element, option in zip(node.elts, options, strict=True):
            self._comparable(element, ast.Eq(), left, option)
        return options

    def _ifexp(self, node: ast.IfExp) -> _Built:
        return self._choose(node, node.test, node.body, node.orelse)

    def _choose(self, node: ast.expr, test: ast.expr, yes: ast.expr, no: ast.expr) -> _Built:
        condition, a, b = self.number(test), self.build(yes), self.build(no)
        if len({a.kind, b.kind} & {"text", "number"}) == 2:
            raise self.error(node, "one branch is text, the other a number")
        return _Built(
            lambda env: np.where(condition.run(env), a.run(env), b.run(env)),
            a.kind if a.kind == b.kind else "any",
        )

    def _call(self, node: ast.Call) -> _Built:
        if not isinstance(node.func, ast.Name) or node.func.id not in self.functions:
            if not isinstance(node.func, ast.Name):
                raise self.error(node, "only the functions of expressions can be called")
            name = node.func.id
            close = nearest(name, self.functions)
            hint = f"did you mean '{close}'?" if close else "functions: " + ", ".join(sorted(self.functions))
            raise self.error(node, f"'{name}' is not one of the functions of expressions", hint)
        name = node.func.id
        action, least, most = self.functions[name]
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            raise self.error(node, f"{name}() takes plain values only")
        if not least <= len(node.args) <= most:
            count = f"{least}" if least == most else f"{least} or more" if most > 9 else f"{least} to {most}"
            raise self.error(node, f"{name}() takes {count} value{'' if count == '1' else 's'}, not {len(node.args)}")
        if name == "where":
            return self._choose(node, *node.args)
        parts = [self.number(arg) for arg in node.args]
        kind = "truth" if name == "divides" else "number"
        return _Built(lambda env: action(*(part.run(env) for part in parts)), kind, all(p.is_constant for p in parts))


def _leaf(value: Value) -> Value:
    """A value from the environment; integers too big for int64 become floats."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= EXACT:
        return float(value)
    return value.astype(float) if isinstance(value, np.ndarray) and value.dtype.kind in "Ou" else value


def _syntax(text: str, error: SyntaxError) -> tuple[int, str, str | None]:
    """Column, message and remedy of a syntax error."""
    col = min(max(error.offset or 1, 1) + len(text) - len(text.lstrip()), len(text.rstrip()) or 1)
    for wrong, right in (("&&", "and"), ("||", "or"), ("!", "not"), ("=<", "<="), ("=>", ">=")):
        at = text.replace("!=", "  ").find(wrong)
        if at >= 0:
            return at + 1, f"'{wrong}' is not understood", f"write '{right}'"
    stripped = text.replace("==", "  ").replace("<=", "  ").replace(">=", "  ").replace("!=", "  ")
    if "=" in stripped:
        return stripped.index("=") + 1, "'=' does not compare", "write '=='"
    if error.offset is not None and not 0 < error.offset <= len(text.strip()) and error.msg == "invalid syntax":
        return len(text.rstrip()), "the expression ends too early", None
    if "never closed" in error.msg or "unmatched" in error.msg or "unterminated string" in error.msg:
        return col, error.msg.partition(" (detected")[0], None
    return col, "this is not a valid expression", None


_KINDS: dict[type, str] = {int: "number", float: "number", bool: "truth", str: "text"}
_WRONG_OPERATORS = {
    ast.BitAnd: ("'&'", "write 'and'"), ast.BitOr: ("'|'", "write 'or'"),
    ast.BitXor: ("'^'", "write '**' for a power"),
    ast.MatMult: ("'@'", None), ast.LShift: ("'<<'", None), ast.RShift: ("'>>'", None),
}  # fmt: skip
_REFUSED: dict[type, tuple[str, str | None]] = {
    ast.Subscript: ("indexing with [ ] is not allowed", None),
    ast.Lambda: ("functions cannot be defined here", None),
    ast.ListComp: ("comprehensions are not allowed", None),
    ast.SetComp: ("comprehensions are not allowed", None),
    ast.DictComp: ("comprehensions are not allowed", None),
    ast.GeneratorExp: ("comprehensions are not allowed", None),
    ast.NamedExpr: ("assignment is not allowed", "write '==' to compare"),
    ast.JoinedStr: ("f-strings are not allowed", None),
    ast.Tuple: ("a list of values is only allowed after 'in'", None),
    ast.List: ("a list of values is only allowed after 'in'", None),
}
