"""Key `workload.demand` of a study file: a constant, the hours of a day, or stages of the product's life."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from codesign.spec.errors import BadValue
from codesign.spec.fields import Keys, found
from codesign.spec.units import is_quantity, quantity

RATE_HINT = "write '1e5 tok/s', or a list of rates for a day"


def _rate(value: Any) -> float:
    rate = quantity(value, "tok/s")
    if rate == float("inf") or rate < 0:
        raise BadValue(f"demand must be finite and at least 0; found {value}")
    return rate


def _constant(value: Any) -> float:
    rate = quantity(value, "tok/s")
    if not 0 < rate < float("inf"):
        raise BadValue(f"demand must be more than 0, and finite; found {value}", hint=RATE_HINT)
    return rate


def _day(value: Any) -> tuple[float, ...]:
    """Rates of a day in equal slices; bare numbers are a shape, for stages that say how much."""
    if not isinstance(value, list) or not value:
        raise BadValue(f"expected the rates of a day, found {'an empty list' if value == [] else found(value)}", hint=RATE_HINT)
    if any(isinstance(v, str) and is_quantity(v) for v in value):
        rates = tuple(_rate(v) for v in value)
    else:
        rates = tuple(quantity(v, "") for v in value)
    if min(rates) < 0:
        raise BadValue(f"demand cannot be negative; entry {1 + rates.index(min(rates))} of the day is {value[rates.index(min(rates))]}")
    if not 0 < sum(rates) < float("inf"):
        raise BadValue("demand must be finite, and more than 0 at some time of the day")
    return rates


def _life(value: Any) -> tuple[tuple[float, float], ...]:
    """Stages: (start [s], rate [tok/s])."""
    hint = "write [[0 month, 1e4 tok/s], [6 month, 5e4 tok/s]]: from when, how much"
    if not isinstance(value, list) or not value:
        raise BadValue(f"expected stages of the life, found {'an empty list' if value == [] else found(value)}", hint=hint)
    wrong = next((v for v in value if not isinstance(v, list) or len(v) != 2), None)
    if wrong is not None:
        raise BadValue(f"a stage is a time and a rate, found {found(wrong) if not isinstance(wrong, list) else wrong}", hint=hint)
    stages = tuple((quantity(time, "s"), _rate(rate)) for time, rate in value)
    if stages[0][0] != 0:
        raise BadValue(f"the curve begins at {value[0][0]}; nothing is said about demand before that", hint="begin with [0 month, ...]")
    for i, (one, other) in enumerate(pairwise(stages)):
        if other[0] <= one[0]:
            raise BadValue(f"the times of a curve must rise; {value[i + 1][0]} comes after {value[i][0]}")
    if sum(rate for _, rate in stages) <= 0:
        raise BadValue("demand must be more than 0 in some stage")
    return stages


_SCHEMA = {"type": ["string", "number"], "examples": ["1e5 tok/s"], "unit": "tok/s"}
_DAY_SCHEMA = {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1, "unit": "tok/s"}
_LIFE_SCHEMA = {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}, "minItems": 1}


class Demand(Keys):
    """Output tokens per second: a mean, the rates of a day, or stages of the life; `1e5 tok/s` or a list of either is enough."""

    tok_per_s: Annotated[float, BeforeValidator(_constant), WithJsonSchema(_SCHEMA)] | None = None
    """Mean over time."""
    day: Annotated[tuple[float, ...], BeforeValidator(_day), WithJsonSchema(_DAY_SCHEMA)] | None = None
    """Rates over a day in equal slices: their largest sizes the fleet, their mean is sold.  Beside `life`, only their shape counts."""
    life: Annotated[tuple[tuple[float, float], ...], BeforeValidator(_life), WithJsonSchema(_LIFE_SCHEMA)] | None = None
    """Stages `[from when, mean rate]` over the product's life, such as `[[0 month, 1e4 tok/s], [6 month, 5e4 tok/s]]`."""
    fleet: Literal["peak", "staged"] | None = None
    """`peak` (if absent): devices for the largest stage are held all life; `staged`: the fleet follows the stages of `life`."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {"life" if value and isinstance(value[0], list) else "day": value}
        if not isinstance(value, dict):
            return {"tok_per_s": value}
        given = {key for key in ("tok_per_s", "day", "life") if value.get(key) is not None}
        if set(value) <= set(cls.model_fields) and given not in ({"tok_per_s"}, {"day"}, {"life"}, {"day", "life"}):
            raise BadValue("a demand is a mean rate, the rates of a day, or stages of a life", hint="write '1e5 tok/s', or {life: [...]}")
        if value.get("fleet") is not None and "life" not in given:
            raise BadValue("the fleet has no stages to follow", hint="add 'life: [[0 month, 1e4 tok/s], ...]', or leave 'fleet' out")
        shape = isinstance(value.get("day"), list) and not any(isinstance(v, str) for v in value["day"]) and value["day"]
        if shape and "life" not in given:
            raise BadValue("these numbers are the shape of a day, but of how many tokens?", hint="write their unit, tok/s, or add 'life'")
        return value

    @property
    def peak_to_mean(self) -> float | None:
        """Largest slice of the day over its mean; None where no day is given."""
        return max(self.day) * len(self.day) / sum(self.day) if self.day and len(self.day) > 1 else None

    def stages(self, lifetime_s: float) -> tuple[tuple[float, float], ...]:
        """(share of the life, mean rate [tok/s]) of every stage."""
        if self.life is None:
            return ((1.0, self.tok_per_s or sum(self.day) / len(self.day)),)
        ends = [*(start for start, _ in self.life[1:]), lifetime_s]
        return tuple(((end - start) / lifetime_s, rate) for (start, rate), end in zip(self.life, ends, strict=True))
