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
    size = (record.get("scale_up") or {}).get("size")
    if size and not wrong and "scale_up_size" in factors and not _is_whole(size * factors["scale_up_size"]):
        left = f"{base} has domains of {size:g} devices, {factors['scale_up_size']:g} of it is no whole number of at least 1"
        wrong.append(
            Diagnostic(f"scale_up_size: {left}", hint=f"a factor such as {2 / size:g}, for 2 devices" if size > 2 else "such as 2")
        )
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


def _is_whole(value: float) -> bool:
    return value > 0.5 and abs(value - round(value)) < 1e-6 * value


def replaced_memory(record: Mapping[str, Any], own: Mapping[str, Any], name: str, base: str) -> None:
    """Refuse memory of another type without its figures: those of the base are of the memory that it replaces."""
    before = str(record.get("memory", {}).get("type", "")).upper()
    missing = [key for key in ("capacity", "bandwidth") if key not in own]
    if "type" in own and str(own["type"]).upper() != before and missing:
        raise SpecError(Diagnostic(
            f"{name}: hbm has type {own['type']} but no {' and no '.join(missing)}; {base} has {before or 'memory'} with other figures",
            hint="state both per device: hbm: {type: DDR5, capacity: 1 TB, bandwidth: 614 GB/s}",
        ))  # fmt: skip


def _multiply(record: dict[str, Any], dotted: str, factor: float) -> bool:
    block, _, leaf = dotted.partition(".")
    value = (record.get(block) or {}).get(leaf)
    if not isinstance(value, (int, float)):
        return False
    record[block][leaf] = round(value * factor) if isinstance(value, int) or leaf == "size" else value * factor
    return True
