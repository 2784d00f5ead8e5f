"""What is known: accelerators, systems, engines, models, prices, workloads and memory tiers as YAML files, every figure with its source.

    load("accelerators", "H200-SXM")["hbm"]["bandwidth"]      4.8e12, in byte/s
    hardware("gb200_nvl72")                                    the accelerator with what the system changes
    kernel_constants("vllm", "gb300")                          fitted constants, gaps filled by the rules of the engine files
    sources(record)                                            (dotted key, SI value, SI unit, source, date, confidence) of every figure

A YAML file of your own works wherever a name does, by path; so does a mapping.  A system of your own needs two lines, and may override
any key of its accelerator (`hbm`, `peak`, `scale_up`, `scale_out`, `host`, `power`, `price`):

    # my-node.yaml
    accelerator: h200_sxm            # a name, or the path of a chip file beside this one
    scale_up: {size: 16}
    price: {rent: 2.40 USD/h}

What does not exist yet is derived: `gb200_nvl72 with hbm_bandwidth=1.1` wherever hardware is named, or a file with `base: b200_sxm_node`,
figures of its own and `scale: {hbm_bandwidth: 1.1}` (see `derived.py`).

A quantity is `80 GB`, or `{value: 80 GB, source: ..., date: 2026-08, confidence: measured | vendor | estimate, note: ...}`; `source`,
`date` and `confidence` of a block hold for everything inside it.
"""

from codesign.catalog.kernels import kernel_constants
from codesign.catalog.loader import Entry, find, known, load, names
from codesign.catalog.provenance import sources
from codesign.catalog.schema import KINDS
from codesign.catalog.systems import hardware

__all__ = ["KINDS", "Entry", "find", "hardware", "kernel_constants", "known", "load", "names", "sources"]
