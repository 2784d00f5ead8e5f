"""Quantities with units, at the edge only: text to SI floats and back.

Inside the program every number is SI (byte, s, FLOP, USD, W, J, tok, seq, device, m, kg).  GB is 1e9 bytes
and GiB is 2^30.  A small pint registry knows the units; it is built on first use because importing pint
takes longer than `codesign --help` may.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from codesign.spec.errors import BadValue, nearest

COUNTS = ("", "tok", "seq", "device", "bit", "nat")
"""Units in which a bare number is not ambiguous: ratios and things one can count."""

_DEFINITIONS = """
K- = 1e3 = _ = k-
M- = 1e6
G- = 1e9
T- = 1e12
P- = 1e15
E- = 1e18
Z- = 1e21
Ki- = 1024
Mi- = 1048576
Gi- = 1073741824
Ti- = 1099511627776
s = [time] = _ = second
ms = 1e-3 s
us = 1e-6 s = _ = µs = μs
ns = 1e-9 s
min = 60 s = _ = minute
h = 3600 s = _ = hour
day = 86400 s
week = 604800 s
month = 30.4375 day
yr = 365.25 day = _ = year
byte = [information] = _ = B
bit = byte / 8
FLOP = [operations] = _ = flop
J = [energy] = _ = joule
mJ = 1e-3 J
uJ = 1e-6 J
nJ = 1e-9 J
pJ = 1e-12 J
W = J / s = _ = watt
mW = 1e-3 W
Wh = 3600 J
USD = [money] = _ = usd
tok = [token] = _ = token
seq = [sequence] = _ = sequence
device = [device] = _ = GPU
m = [length] = _ = metre
mm = 1e-3 m
kg = [mass]
K = 1e3 = _ = k
M = 1e6
G = 1e9
T = 1e12
percent = 1e-2
nat = 1
"""

_SPELLING = {  # what people write, and what they should write instead
    "hr": "h", "hrs": "h", "sec": "s", "d": "day", "mo": "month", "y": "yr", "dollar": "USD",
    "FLOPS": "FLOP/s", "Bps": "B/s", "bps": "bit/s", "b": "bit", "gpu": "device",
}  # fmt: skip
_PREFIXES = ("", "K", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti")

_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\.?inf)(?![\d.,_])\s*(.*?)\s*", re.S)
_UNIT = re.compile(r"(1?\s*/\s*)?[^\W\d_%$]+(\^-?\d)?(\s*[ */]\s*[^\W\d_%$]+(\^-?\d)?)*")
_IN_EXPRESSION = re.compile(
    r"(?P<text>'[^']*'|\"[^\"]*\")|(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*(?P<unit>[^\W\d_][\w]*(?:/[^\W\d_]\w*)*)"
)
_NAME = re.compile(r"[^\W\d_]+")


class UnitError(BadValue):
    """A quantity that cannot be read, or whose unit does not fit its field."""


def quantity(value: str | float, unit: str) -> float:
    """`'80 GB'`, or a bare number where `unit` is a count or ratio, as a float in `unit` (SI: 'byte/s').

    >>> quantity("3.35 TB/s", "byte/s"), quantity("120 day", "s"), quantity(0.5, "")
    (3350000000000.0, 10368000.0, 0.5)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"expected {expected(unit)}, found {_kind(value)}")
    number, text = (value, "") if not isinstance(value, str) else _split(value, unit)
    if isinstance(number, int) and abs(number) > 1e300:  # no float can hold it
        raise UnitError(f"expected {expected(unit)}, found a number too large to use")
    if math.isnan(number):
        raise UnitError(f"expected {expected(unit)}, found not-a-number")
    if not text:
        if unit in COUNTS:
            return float(number)
        raise UnitError(f"a unit is missing: expected {expected(unit)}")
    factor, dimension = _unit(text)
    unit_factor, unit_dimension = _unit(unit)
    if not dimension and unit in COUNTS and factor > 1:  # '8k' tokens
        return float(number) * factor
    if dimension != unit_dimension:
        raise UnitError(f"unit '{text}' is {bracket(_spell(dimension))}, this field is {bracket(unit)}")
    return _scale(float(number), factor, unit_factor)


def in_si(expression: str) -> str:
    """An expression with its quantities as plain numbers in the units of result columns: SI, prices per token in USD/Mtok.

    >>> in_si("tpot_s < 20 ms and attention == 'gqa' and usd_per_mtok < 0.3 USD/Mtok")
    "tpot_s < 0.02 and attention == 'gqa' and usd_per_mtok < 0.3"
    """

    def number(match: re.Match[str]) -> str:
        if match["text"] or match["unit"] in ("and", "or", "not", "in", "if", "else", "is"):
            return match[0]
        si = dimension(match[0])
        return repr(quantity(match[0], "USD/Mtok" if si == "USD/tok" else si))

    return _IN_EXPRESSION.sub(number, expression)


def is_quantity(value: object) -> bool:
    """Whether `value` is a number with a unit (`'8 ms'`, but neither `'8'` nor `'gqa'`)."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return match is not None and bool(match[2]) and _UNIT.fullmatch(_plain(match[2])) is not None


def dimension(text: str) -> str:
    """The SI unit of a quantity or unit: `dimension('200 MUSD')` is 'USD'."""
    match = _NUMBER.fullmatch(text)
    return _spell(_unit(match[2] if match else text)[1])


def expected(unit: str) -> str:
    """How a message calls a value of this unit."""
    return f"a quantity in {bracket(unit)}, such as '8 {_example(unit)}'" if unit else "a number"


def bracket(unit: str) -> str:
    return f"[{unit}]" if unit else "a plain number"


def show(value: float, unit: str) -> str:
    """`value` in SI `unit` with three significant digits: `show(8e10, 'byte')` is '80 GB'."""
    if unit in _RATES:  # prices read best per hour and per million tokens
        shown, factor = _RATES[unit]
        value, unit = value * factor, shown
    if not math.isfinite(value) or value == 0:
        return f"{value:g} {unit}".rstrip()
    rounded = float(f"{value:.3g}")
    head, slash, rest = unit.partition("/")
    for name, factor, least in _LADDERS.get(head + slash, _LADDERS.get(head, ())) if not (head == "s" and slash) else ():
        if abs(rounded) >= least * (1 - 1e-12) and abs(rounded) / factor < 1e4:
            return f"{float(f'{value / factor:.3g}'):g} {name}{slash}{rest}"
    if unit in COUNTS and float(value).is_integer() and abs(value) < 1e6:
        return f"{value:.0f} {unit}".rstrip()
    return f"{rounded:g} {unit}".rstrip().replace("e+", "e")


def _decades(unit: str, *prefixes: str) -> tuple[tuple[str, float, float], ...]:
    """(shown unit, factor, least value shown so), largest first."""
    powers = {
        "p": -12,
        "n": -9,
        "u": -6,
        "m": -3,
        "": 0,
        "k": 3,
        "K": 3,
        "M": 6,
        "G": 9,
        "T": 12,
        "P": 15,
        "E": 18,
        "Z": 21,
    }
    return tuple((prefix + unit, 10.0 ** powers[prefix], 10.0 ** powers[prefix]) for prefix in prefixes)


_RATES = {"USD/s": ("USD/h", 3600.0), "USD/tok": ("USD/Mtok", 1e6), "USD/device/s": ("USD/device/h", 3600.0)}
_LADDERS = {
    "s": (
        ("yr", 31557600.0, 2 * 31557600.0),
        ("day", 86400.0, 2 * 86400.0),
        ("h", 3600.0, 7200.0),
        ("min", 60.0, 120.0),
        *_decades("s", "", "m", "u", "n"),
    ),
    "byte": (("TB", 1e12, 1e12), ("GB", 1e9, 1e9), ("MB", 1e6, 1e6), ("KB", 1e3, 1e3), ("B", 1.0, 1.0)),
    "FLOP": _decades("FLOP", "Z", "E", "P", "T", "G", "M", "K", ""),
    "W": _decades("W", "G", "M", "k", "", "m"),
    "J": (
        ("GWh", 3.6e12, 3.6e12),
        ("MWh", 3.6e9, 3.6e9),
        ("kWh", 3.6e6, 3.6e6),
        *_decades("J", "k", "", "m", "u", "n", "p"),
    ),
    "USD": _decades("USD", "G", "M", "k", ""),
    "tok": _decades("tok", "T", "G", "M"),
    "tok/": (*_decades("tok", "T", "G", "M"), ("ktok", 1e3, 1e4)),  # rates; a context of 16384 tokens stays one
}


def _split(text: str, unit: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        hint = "write digits without separators, such as 16384" if re.match(r"\s*\d[\d.]*[,_]\d", text) else None
        raise UnitError(f"cannot read '{_clip(text)}': expected {expected(unit)}", hint=hint)
    return float(match[1].replace(".inf", "inf")), match[2]


def _scale(number: float, factor: float, unit_factor: float) -> float:
    """number * factor / unit_factor, dividing where that is exact so that '35 ms' is the float 0.035."""
    ratio = factor / unit_factor
    inverse = round(unit_factor / factor) if ratio < 1 else 0
    return number / inverse if inverse and math.isclose(inverse * ratio, 1, rel_tol=1e-14) else number * ratio


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(_DEFINITIONS.strip().splitlines(), cache_folder=None)


@cache
def _unit(text: str) -> tuple[float, tuple[tuple[str, int], ...]]:
    """SI factor and dimension ((base unit, power), ...) of a unit text."""
    if not text:
        return 1.0, ()
    plain = _plain(text)
    if len(plain) > 60 or not _UNIT.fullmatch(plain):  # also keeps exponent towers away from pint
        raise UnitError(f"cannot read the unit '{_clip(text)}'", hint="write for example 'GB/s', 'USD/h' or 'tok/s'")
    if plain.startswith("/"):
        plain = "1" + plain
    registry = _registry()
    for name in _NAME.findall(plain):
        if name not in registry:
            raise UnitError(f"unknown unit '{_clip(text)}'", hint=_suggest(text, name))
    root = registry.Quantity(1.0, registry.parse_units(plain)).to_root_units()
    powers = {str(base): round(power) for base, power in root.unit_items()}
    return float(root.magnitude), tuple(sorted((base, power) for base, power in powers.items() if power))


def _plain(text: str) -> str:
    """A unit text in the few characters that pint is given."""
    return text.replace("%", "percent").replace("**", "^").replace("·", " ")


def _suggest(text: str, name: str) -> str | None:
    for prefix in _PREFIXES:
        right = _SPELLING.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if right:
            return f"did you mean '{text.replace(name, prefix + right)}'?"
    bases = ("s", "ms", "us", "min", "h", "day", "month", "yr", "W", "J", "kWh", "kg")
    prefixed = (prefix + base for prefix in _PREFIXES for base in ("B", "bit", "byte", "FLOP", "USD", "tok", "W", "seq", "device"))
    close = nearest(name, {**dict.fromkeys(bases), **dict.fromkeys(prefixed)})
    return f"did you mean '{text.replace(name, close)}'?" if close else None


def _spell(powers: tuple[tuple[str, int], ...]) -> str:
    """((byte, 1), (s, -1)) as 'byte/s'."""
    order = ("USD", "FLOP", "byte", "J", "tok", "seq", "device", "kg", "m", "s")
    powers = tuple(sorted(powers, key=lambda item: order.index(item[0]) if item[0] in order else 99))
    if dict(powers).get("J") == 1 and dict(powers).get("s", 0) < 0:  # J/s has a name of its own
        rest = {**dict(powers), "s": dict(powers)["s"] + 1}
        powers = (("W", 1), *((base, power) for base, power in rest.items() if base != "J" and power))
    top = " ".join(base if power == 1 else f"{base}^{power}" for base, power in powers if power > 0)
    bottom = "".join(f"/{base}" if power == -1 else f"/{base}^{-power}" for base, power in powers if power < 0)
    return (top or "1") + bottom if powers else ""


def _example(unit: str) -> str:
    """A unit of this dimension that people use."""
    common = {"byte": "GB", "byte/s": "GB/s", "FLOP/s": "TFLOP/s", "USD/s": "USD/h", "USD/tok": "USD/Mtok"}
    return common.get(unit, unit)


def _kind(value: object) -> str:
    names = {bool: "true or false", dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
