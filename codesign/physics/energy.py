"""Joules by cause: a chip whose rates are work per joule, so that every phase that counts seconds also counts joules.

Arithmetic, memory and links are priced per FLOP and per byte.  `in_joules` turns those prices into a Chip whose peaks are FLOP/J and
whose bandwidths are byte/J: evaluated on it, the operators of a phase take joules where they took seconds, with the same counts and no
second description of any phase.  Efficiencies are 1 and fixed times 0: what waits costs idle power, which is counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.physics.hardware import ByBits, Chip
from codesign.physics.kernels import Ledger


@dataclass(frozen=True)
class EnergyFit(Arrays):
    """Energy prices of one chip: shares of its TDP, joules per byte by where the byte goes, power that never sleeps."""

    idle_frac: np.ndarray  # of TDP: drawn by a chip that does nothing
    full_load_frac: np.ndarray  # of TDP: drawn by large matrix products
    sustained_frac: np.ndarray  # of the dense peak: what large matrix products reach then
    arithmetic_frac: np.ndarray  # of the energy per FLOP: multipliers and adders; the rest moves operands on the chip
    on_chip_j_per_byte: np.ndarray  # a byte from the memory controller to the registers
    hbm_j_per_byte: np.ndarray  # a byte of HBM read or written, device and PHY
    scale_up_j_per_byte: np.ndarray  # a byte sent inside the domain, all its hops
    scale_out_j_per_byte: np.ndarray
    pue: np.ndarray  # facility over IT power
    drawn_frac: np.ndarray  # of a machine's provisioned IT power: what it draws with its chips at full load


def j_per_flop(tdp_w, peak_flop_per_s, fit: EnergyFit):
    """Energy of one FLOP of a large matrix product, operand delivery included: (full load - idle) TDP / (sustained x peak).

    Power is the same at every operand width (661.7 W in fp8 and 662.8 W in bf16 on an H200), so energy per FLOP falls as the peak
    rises.  Parameters: tdp_w [W], peak_flop_per_s [FLOP/s] at the operand width, dense.  Returns [J/FLOP].  Valid for chips that large
    products bring near their TDP.

    >>> fit = EnergyFit(*(np.float64(v) for v in (0.1, 0.9, 0.8, 0.2, 0, 0, 0, 0, 1, 1)))
    >>> round(float(j_per_flop(700.0, 1e15, fit)) * 1e12, 3)
    0.7
    """
    return (fit.full_load_frac - fit.idle_frac) * tdp_w / (fit.sustained_frac * peak_flop_per_s)


def in_joules(chip: Chip, fit: EnergyFit, far: bool = False) -> Chip:
    """`chip` (of the ideal engine) in which a second is a joule; sends cost inside the domain only, or with `far` only beyond it.

    A collective that lets its two tiers run at the same time shows the slower one, so each tier is weighed with the other one free.
    """
    free = np.float64(np.inf)
    near, wide = (free, 1.0 / fit.scale_out_j_per_byte) if far else (1.0 / fit.scale_up_j_per_byte, free)
    return replace(
        chip,
        peak_flop_per_s=ByBits(*(1.0 / j_per_flop(chip.tdp_w, peak, fit) for peak in vars(chip.peak_flop_per_s).values())),
        hbm_bytes_per_s=1.0 / (fit.on_chip_j_per_byte + fit.hbm_j_per_byte),
        scale_up_peer_bytes_per_s=free,
        scale_up=replace(chip.scale_up, bytes_per_s=near),
        scale_out=replace(chip.scale_out, bytes_per_s=wide),
    )


def by_part(near: Ledger, far: Ledger, fit: EnergyFit) -> dict[str, np.ndarray]:
    """Joules of one device by cause, from the ledgers of a phase on the two chips of `in_joules`."""
    compute, memory, sent = (sum(getattr(op, f"{name}_s") for op in near.work) for name in ("compute", "memory", "network"))
    delivery = fit.on_chip_j_per_byte / (fit.on_chip_j_per_byte + fit.hbm_j_per_byte)
    return {
        "arithmetic": compute * fit.arithmetic_frac,
        "on_chip": compute * (1.0 - fit.arithmetic_frac) + memory * delivery,
        "hbm": memory * (1.0 - delivery),
        "scale_up": sent,
        "scale_out": sum(op.network_s for op in far.work),
    }


def standing_w(chip: Chip, fit: EnergyFit) -> dict[str, np.ndarray]:
    """Power [W] that flows whatever a device does: the chip's idle power, and its share of host, switches and fans.

    host = drawn x all-in power / PUE - full load x TDP: what a machine draws with its chips at full load, less what the chips draw then.
    All-in power is provisioned, and machines draw less: 8 H100 near full use at most 8.4 of the 10.2 kW that their node is rated for
    (arXiv 2412.08602).  Valid at load; no source tells how much less the host of idle chips draws, so it is constant.

    >>> from types import SimpleNamespace as S
    >>> fit = EnergyFit(*(np.float64(v) for v in (0.1, 0.9, 0.8, 0.2, 0, 0, 0, 0, 1.25, 0.8)))
    >>> [float(v) for v in standing_w(S(tdp_w=700.0, all_in_w=1250.0), fit).values()]
    [70.0, 170.0]
    """
    host = fit.drawn_frac * chip.all_in_w / fit.pue - fit.full_load_frac * chip.tdp_w
    return {"idle": fit.idle_frac * chip.tdp_w, "host": np.maximum(host, 0.0)}
