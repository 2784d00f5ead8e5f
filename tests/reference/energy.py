"""Joules in plain Python, another way round than the package: seconds on the bare roofline times the power that flows in them.

A FLOP costs (full load - idle) TDP / (sustained peak), so arithmetic costs the seconds that it takes at the peak times that power;
a byte costs its price times the bytes that the roofline streams in its memory time.
"""

from __future__ import annotations

from types import SimpleNamespace as Record


def parts(clock, chip, fit) -> dict[str, float]:
    """Joules of one device by cause from its clock on the ideal engine; all its messages stay inside the domain of a switch."""
    compute = clock.compute * (fit.full_load_frac - fit.idle_frac) * chip.tdp_w / fit.sustained_frac
    n_bytes, sent = clock.memory * chip.hbm_bytes_per_s, clock.network * chip.scale_up.bytes_per_s
    return {
        "arithmetic": fit.arithmetic_frac * compute,
        "on_chip": (1 - fit.arithmetic_frac) * compute + n_bytes * fit.on_chip_j_per_byte,
        "hbm": n_bytes * fit.hbm_j_per_byte,
        "scale_up": sent * fit.scale_up_j_per_byte,
        "scale_out": 0.0,
    }


def served(activity: dict[str, float], chip: Record, fit: Record, n_devices: float, tok_per_s: float) -> dict[str, float]:
    """J per output token at the wall: activity, standing power over the tokens that the pool sells, and the facility on top."""
    out = dict(activity)
    out["idle"] = fit.idle_frac * chip.tdp_w * n_devices / tok_per_s
    out["host"] = max(fit.drawn_frac * chip.all_in_w / fit.pue - fit.full_load_frac * chip.tdp_w, 0.0) * n_devices / tok_per_s
    out["facility"] = (fit.pue - 1) * sum(out.values())
    return out
