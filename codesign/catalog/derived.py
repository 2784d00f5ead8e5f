"""Accelerators that do not exist yet: a catalog one with some figures scaled or replaced.

In one line, wherever hardware is named:   gb200_nvl72 with hbm_bandwidth=1.1, price=0.9
As a file of its own:   {base: b200_sxm_node, hbm: {type: DDR5, capacity: 1 TB, bandwidth: 614 GB/s}, scale: {price: 0.6}}

Kernels keep the fractions of peak and bandwidth that were measured on the base: a what-if about the machine, not about its software.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesign.catalog.schema import DTYPES
from codesign.spec.errors import Diagnostic, SpecError, did_you_mean

SCALES: dict[str, tuple[str, ...]] = {
    "hbm_bandwidth": ("hbm.bandwidth",),
    "hbm_capacity": ("hbm.capacity", "hbm.usable"),
    "peak": tuple(f"peak.{dtype}" for dtype in DTYPES),
    **{f"peak_{dtype}": (f"peak.{dtype}",) for dtype in DTYPES},
    "scale_up_bandwidth": ("scale_up.bandwidth", "scale_up.peer_bandwidth", "scale_up.link_bandwidth"),
    "scale_up_size": ("scale_up.size",),
    "scale_out_bandwidth": ("scale_out.bandwidth",),
    "host_bandwidth": ("host.bandwidth",),
    "power": ("power.tdp", "power.all_in"),
    "price": ("price.rent", "price.own"),
}
"""What `scale` and `with` may name -> the figures of a record that it multiplies."""
WITH = " with "


def parse(text: str) -> dict[str, float]:
    """`hbm_bandwidth=1.1, price=0.9` as factors.

    >>> parse("hbm_bandwidth=1.1, price=0.9")
    {'hbm_bandwidth': 1.1, 'price': 0.9}
    """
    factors: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = (p.strip() for p in part.partition("="))
        try:
            factors[key] = float(value.removesuffix("x"))
        except ValueError:
            hint = "factors, such as 'b200_sxm with hbm_bandwidth=1.1, price=0.9'; other figures go into a file with 'base:'"
            raise SpecError(Diagnostic(f"'{part.strip()}' is no factor of a derived accelerator", hint=hint)) from None
    return factors


def scaled(record: dict[str, Any], factors: Mapping[str, float], base: str) -> dict[str, Any]:
    """The record with its figures multiplied; provenance says of what they are multiples.  Changes and returns `record`."""
    wrong = [Diagnostic(f"'{key}' cannot be scaled", hint=did_you_mean(key, SCALES, "figures")) for key in factors if key not in SCALES]
    wrong += [
        Diagnostic(f"{key} = {value:g}: a factor is a number above 0") for key, value in factors.items() if not 0 < value < float("inf")
    ]
    if wrong:
        raise SpecError(wrong)
    for key, factor in factors.items():
        touched = [dotted for dotted in SCALES[key] if _multiply(record, dotted, factor)]
        if not touched:
            raise SpecError(Diagnostic(f"{base} has no {key.replace('_', ' ')} to scale", hint="state the figure in a file with 'base:'"))
        for dotted in touched:
            origin = record["provenance"].get(dotted, {"unit": ""})
            record["provenance"][dotted] = origin | {
                "source": f"{factor:g} x {base}, a what-if",
                "date": "none",
                "confidence": "estimate",
            }
    return record


def _multiply(record: dict[str, Any], dotted: str, factor: float) -> bool:
    block, _, leaf = dotted.partition(".")
    value = (record.get(block) or {}).get(leaf)
    if not isinstance(value, (int, float)):
        return False
    record[block][leaf] = round(value * factor) if isinstance(value, int) else value * factor
    return True
