"""Bits: what a weight, an activation or a cached element costs in bytes, and at which dtype the chip multiplies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.arrays import Arrays

# Four-bit formats carry their scales: NVFP4 has one fp8 scale per 16 elements (NVIDIA NVFP4 format), 4 + 8/16 = 4.5 bits.
BITS_STORED = {16: 16.0, 8: 8.0, 4: 4.5}


@dataclass(frozen=True)
class Precision(Arrays):
    """Bits per stored weight, per cached KV element, per activation.  Each field: scalar or (A,), one of 4, 8, 16."""

    weight_bits: np.ndarray
    kv_bits: np.ndarray
    act_bits: np.ndarray


def stored_bytes(bits):
    """Bytes of one stored element, scales included.

    bytes = bits / 8, and 4.5 / 8 for four-bit formats (one fp8 scale per block of 16: NVFP4).

    Parameters: bits [bit], any shape.  Returns [byte/element], same shape.

    >>> float(stored_bytes(8)), float(stored_bytes(4))
    (1.0, 0.5625)
    """
    bits = np.asarray(bits, dtype=float)
    return np.where(bits == 4, BITS_STORED[4], bits) / 8.0


def compute_bits(weight_bits, act_bits, has_8_bit, has_4_bit):
    """Operand width of the multiplication: the wider of weight and activation, raised to what the chip has.

    A width that the chip lacks means weight-only storage: the product runs at the next wider dtype, never at a zero or
    infinite peak.  Parameters: bits [bit] and booleans, broadcasting.  Returns 4, 8 or 16 [bit].

    >>> int(compute_bits(4, 16, True, True)), int(compute_bits(8, 8, False, False)), int(compute_bits(4, 4, True, False))
    (16, 16, 8)
    """
    wide = np.maximum(weight_bits, act_bits)
    return np.where((wide <= 4) & has_4_bit, 4, np.where((wide <= 8) & has_8_bit, 8, 16))
