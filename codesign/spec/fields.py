"""Types of the values in a study file: from what YAML gives to plain Python, or what was expected."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from codesign.spec.errors import BadValue
from codesign.spec.units import dimension, is_quantity, quantity

Scalar = str | int | float | bool


class Keys(BaseModel):
    """A mapping with known keys: nothing else may stand in it, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)


def found(value: Any) -> str:
    """How a message names a value that was found."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else f"'{value}'" if isinstance(value, str) else f"{value}"


def _quantity(unit: str, example: str, least: float = 0.0, *, above: bool = True) -> Any:
    """A field type: text such as `example` becomes a float in `unit`, above (or at least) `least`."""

    def check(value: Any) -> Any:
        number = quantity(value, unit)
        if number < least or (above and number == least) or number == float("inf"):
            raise BadValue(f"must be finite and {'more than' if above else 'at least'} {least:g}; found {value}")
        return number

    schema = {"type": ["string", "number"], "examples": [example], "unit": unit}
    return Annotated[float, BeforeValidator(check), WithJsonSchema(schema)]


def _integer(value: Any) -> Any:
    """Whole numbers, also as 2e3 or '2 k'; neither true nor 2.5."""
    if isinstance(value, str) and is_quantity(value):
        value = quantity(value, "")
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise BadValue(f"expected a whole number, found {found(value)}")
    return int(value)


def _number(value: Any) -> Any:
    return quantity(value, "")


Seconds = _quantity("s", "30 ms")
Tokens = _quantity("tok", "8 ktok")
TokensOrNone = _quantity("tok", "0 tok", above=False)
Flop = _quantity("FLOP", "1e25 FLOP")
Usd = _quantity("USD", "200 MUSD")
Watts = _quantity("W", "130 kW")
Kilograms = _quantity("kg", "1.4 Mg")
BytesPerSecond = _quantity("byte/s", "100 GB/s")
UsdPerSecond = _quantity("USD/s", "2.00 USD/h")
Integer = Annotated[int, BeforeValidator(_integer)]
Number = Annotated[float, BeforeValidator(_number)]
Share = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1)]


def _scalars(value: Any) -> Any:
    for key, item in value.items() if isinstance(value, dict) else ():
        if not isinstance(item, Scalar):
            raise BadValue(
                f"'{key}' must be one plain value, found {found(item)}",
                hint="several values belong in 'space'",
            )
    return value


Overrides = Annotated[dict[str, Any], BeforeValidator(_scalars)]


def _candidates(value: Any) -> Any:
    """A degree's candidates from `8`, `[1, 2, 4]` or `{powers_of_two: [1, 8]}`."""
    if isinstance(value, dict) and list(value) == ["powers_of_two"] and isinstance(value["powers_of_two"], list):
        low, high = (_integer(item) for item in (*value["powers_of_two"], 0, 0)[:2])
        value = [2**i for i in range(31) if low <= 2**i <= high]
    values = [_integer(item) for item in (value if isinstance(value, list) else [value])]
    if not values or min(values) < 0 or len(set(values)) < len(values):
        raise BadValue(
            "expected different whole numbers, none negative",
            hint="write [1, 2, 4] or {powers_of_two: [1, 8]}",
        )
    return tuple(values)


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


_DEGREE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        {"type": "object", "properties": {"powers_of_two": {"type": "array"}}, "additionalProperties": False},
    ]
}


def _counts(value: Any) -> Any:
    values = _candidates(value)
    if min(values) < 1:
        raise BadValue("expected whole numbers of at least 1", hint="1 is the ordinary form")
    return values


Counts = Annotated[tuple[int, ...], BeforeValidator(_counts), WithJsonSchema(_DEGREE_SCHEMA)]
Degrees = Annotated[tuple[int, ...], BeforeValidator(_candidates), WithJsonSchema(_DEGREE_SCHEMA)]
Recompute = Annotated[tuple[Literal["none", "selective", "full", "reversible"], ...], BeforeValidator(_names)]
Overlap = Annotated[tuple[Literal["none", "two_batch"], ...], BeforeValidator(_names)]
Offload = Annotated[tuple[Literal["none", "optimizer", "activations", "both"], ...], BeforeValidator(_names)]


_BOUND = re.compile(r"\s*(<=|>=)\s*(.*\S)\s*", re.S)


def _divided(value: Any) -> Any:
    return value if isinstance(value, str) else _integer(value)


Divided = Annotated[int | str, BeforeValidator(_divided)]


class Bound(Keys):
    """One side of a constraint."""

    op: Literal["<=", ">="]
    """Direction."""
    text: str
    """The limit as written, `120 day` or `16384`."""

    def limit(self, unit: str) -> float:
        """The limit as a float in the column's SI unit."""
        return quantity(self.text, unit)


def _bounds(value: Any) -> Any:
    bounds = []
    for item in value if isinstance(value, list) else [value]:
        match = _BOUND.fullmatch(item) if isinstance(item, str) else None
        if match is None:
            limit = item.strip("<>= ") if isinstance(item, str) else item
            raise BadValue(f"expected a bound, found {found(item)}", hint=f'write "<= {limit}" or ">= {limit}"')
        if is_quantity(match[2]):
            dimension(match[2])  # refuses unknown units already here
        else:
            quantity(match[2], "")
        bounds.append(Bound(op=match[1], text=match[2]))
    return tuple(bounds)


_BOUND_SCHEMA = {"type": "string", "pattern": "^ *(<=|>=) *.+", "examples": ["<= 120 day"]}
Bounds = Annotated[
    tuple[Bound, ...],
    Field(min_length=1, max_length=2),
    BeforeValidator(_bounds),
    WithJsonSchema({"anyOf": [_BOUND_SCHEMA, {"type": "array", "items": _BOUND_SCHEMA, "maxItems": 2}]}),
]
