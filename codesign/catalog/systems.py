"""Hardware as the evaluator sees it: an accelerator with what its system changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.catalog import loader
from codesign.catalog.schema import OVERRIDES
from codesign.spec import yamlio


def hardware(name: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The accelerator record of a system (or of an accelerator by itself) after the system's overrides.

    Adds `system`, `accelerator` (names), `devices_per_tray`, `server` and `rack` where the system states them.  A domain of another
    size than the torus that the chip is sold in loses `torus_dims`: the layout of a partial torus is for physics to decide.
    """
    system = _system(name)
    record = loader.load("accelerators", system["accelerator"])
    record["accelerator"], record["system"] = record["name"], system.get("name", record["name"])
    if "rent" in system.get("price", {}):
        system["price"].setdefault("kind", "stated by the system")
    for key in OVERRIDES:
        if key in system:
            record[key] = {**record.get(key, {}), **system[key]}
    for key in ("devices_per_tray", "server", "rack"):
        if key in system:
            record[key] = system[key]
    record["provenance"] |= system["provenance"]
    scale_up = record.get("scale_up", {})
    if math.prod(scale_up.get("torus_dims", [])) != scale_up.get("size"):
        scale_up.pop("torus_dims", None)
    return record


def _system(name: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The system record; a chip by itself is the system that changes nothing."""
    is_chip = isinstance(name, str) and not loader.known("systems", name) and loader.known("accelerators", name)
    if not is_chip and isinstance(name, str | Path) and Path(name).is_file():
        is_chip = "accelerator" not in yamlio.load_plain(name)
    return {"accelerator": str(name), "provenance": {}} if is_chip else loader.load("systems", name)
