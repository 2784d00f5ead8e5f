"""Hardware as the evaluator sees it: an accelerator with what its system changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.catalog import derived, loader
from codesign.catalog.schema import OVERRIDES
from codesign.spec import yamlio


def hardware(name: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The accelerator record of a system (or of an accelerator by itself) after the system's overrides.

    A name may derive what does not exist yet (`b200_sxm_node with hbm_bandwidth=1.1`), and so may a file with `base:` and `scale:`.
    Adds `system`, `accelerator` (names), `devices_per_tray`, `server` and `rack` where the system states them.  A domain of another
    size than the torus that the chip is sold in loses `torus_dims`: the layout of a partial torus is for physics to decide.
    """
    if isinstance(name, str) and derived.WITH in name:
        base, _, factors = name.partition(derived.WITH)
        return derived.scaled(hardware(base.strip()), derived.parse(factors), base.strip()) | {"system": name}
    system = _system(name)
    if "base" in system:
        record = hardware(system["base"])
        record["system"] = system["name"]
    else:
        record = loader.load("accelerators", system["accelerator"])
        record["accelerator"], record["system"] = record["name"], system.get("name", record["name"])
    if "rent" in system.get("price", {}):
        system["price"].setdefault("kind", "stated by the system")
    derived.replaced_memory(record, system.get("hbm", {}), record["system"], str(system.get("base", system.get("accelerator"))))
    for key in OVERRIDES:
        if key in system:
            record[key] = {**record.get(key, {}), **system[key]}
    own = system.get("hbm", {})
    if "capacity" in own and "usable" not in own:
        record["hbm"].pop("usable", None)  # of the memory that was replaced
    if "type" in own:
        record["memory"] = {**record.get("memory", {}), "type": own["type"]}
    for key in ("devices_per_tray", "server", "rack"):
        if key in system:
            record[key] = system[key]
    record["provenance"] |= system["provenance"]
    if "scale" in system:
        derived.scaled(record, system["scale"], str(system.get("base", system.get("accelerator"))))
    scale_up = record.get("scale_up", {})
    if math.prod(scale_up.get("torus_dims", [])) != scale_up.get("size"):
        scale_up.pop("torus_dims", None)
    return record


def _system(name: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The system record; a chip by itself is the system that changes nothing."""
    is_chip = isinstance(name, str) and not loader.known("systems", name) and loader.known("accelerators", name)
    if not is_chip and isinstance(name, str | Path) and Path(name).is_file():
        is_chip = not {"accelerator", "base"} & set(yamlio.load_plain(name))
    return {"accelerator": str(name), "provenance": {}} if is_chip else loader.load("systems", name)
