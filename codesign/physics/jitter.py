"""Delay as a distribution: a synchronous exchange waits for the slowest of its members."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from codesign.physics.arrays import Arrays

EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True)
class Jitter(Arrays):
    """Delay of one member of an exchange beyond the fixed time: exponential, and a rare long stall."""

    mean_s: np.ndarray
    stall_s: np.ndarray
    stall_probability: np.ndarray  # that a member stalls in one exchange


def harmonic(n):
    """H_n = 1 + 1/2 + ... + 1/n = digamma(n + 1) + gamma [1]; any n >= 0.

    >>> round(float(harmonic(8)), 4), float(harmonic(1))
    (2.7179, 1.0)
    """
    return digamma(np.asarray(n, dtype=float) + 1.0) + EULER_GAMMA


def slowest_s(n, jitter: Jitter):
    """Expected wait for the slowest of n members: s H_n + d (1 - (1 - p)^n) [s]; 0 for a group of one.

    The first part is the expected maximum of n exponential delays of mean s, the second the chance that any of n stalls
    (J. Dean and L. A. Barroso, CACM 56(2), 2013: 1 % slow servers make 63 % of 100-fold requests slow) times the stall: an upper bound of
    the maximum of both.  Members delay independently.  Parameters: n members [1].

    >>> j = Jitter(np.float64(1e-6), np.float64(0.0), np.float64(0.0))
    >>> [round(float(slowest_s(n, j)) * 1e6, 2) for n in (1, 8, 72, 576)]
    [0.0, 2.72, 4.86, 6.93]
    """
    stall = jitter.stall_s * -np.expm1(n * np.log1p(-np.minimum(jitter.stall_probability, 1.0 - 1e-15)))
    return (jitter.mean_s * harmonic(n) + stall) * (np.asarray(n) > 1)


def waits(latency, n, crossing, near: Jitter | None, far: Jitter | None, n_rounds=1.0):
    """`latency` [s] and the waits of `n_rounds` rounds of an exchange over n members, by the tier that its slowest link belongs to."""
    inside = 0.0 if near is None else slowest_s(n, near)
    outside = inside if far is None else slowest_s(n, far)
    return latency + n_rounds * np.where(crossing, outside, inside)
