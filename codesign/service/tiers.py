"""Where the cache of a conversation waits for its next turn: HBM, host memory, flash, disk, or nowhere (recomputed).

One prefix of S tokens is written once, held for the reuse time t, and read back:

    cost(t) = S k (w t + 2 r)        w holding price [USD/(byte s)], r link price [USD/byte] for the write and the read, k bytes per token
    recompute = S p                  p price of computing a prompt token [USD/tok]

so each tier is a line in t, the cheapest tier is their lower envelope, and two tiers break even at t = 2 (r_b - r_a) / (w_a - w_b).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.service.traffic import Traffic

AMORTISED_S = 4 * 365.25 * 86400.0  # life over which bought memory is written off: 4 years, as the servers it sits in; estimate
UPKEEP = 2.0  # all-in price of held bytes over their purchase: host, power, redundancy, space between files; estimate
RECOMPUTE, HBM = "none", "hbm"  # names of places beside those of the catalog: nowhere, and the device's own memory


@dataclass(frozen=True)
class Tier(Arrays):
    """A place for caches, per device: price of holding a byte for a second, bandwidth to and from the device, latency of a read."""

    hold_usd_per_byte_s: np.ndarray
    bytes_per_s: np.ndarray
    latency_s: np.ndarray


def holding_price(usd_per_byte):
    """Price of holding a byte for a second in bought memory: purchase x upkeep / life.  usd_per_byte [USD/byte].  Returns [USD/(byte s)].

    >>> f"{float(holding_price(18.8e-9)) * 1e9 * 3600:.5f} USD per GB and hour"
    '0.00107 USD per GB and hour'
    """
    return np.asarray(usd_per_byte, dtype=float) * UPKEEP / AMORTISED_S


def hbm_holding_price(usd_per_s, hbm_bytes):
    """Price of a byte of HBM for a second: the device that could have served somebody else, usd_per_s / hbm_bytes.  Returns [USD/(byte s)].

    >>> f"{float(hbm_holding_price(2.9 / 3600, 141e9)) * 1e9 * 3600:.4f} USD per GB and hour"
    '0.0206 USD per GB and hour'
    """
    return usd_per_s / np.asarray(hbm_bytes, dtype=float)


def load_s(n_bytes, tier: Tier, n_devices=1.0):
    """Seconds to read a cache back, its parts on `n_devices` in parallel: latency + bytes / (n bandwidth).  n_bytes [byte].  Returns [s].

    >>> float(load_s(1e9, Tier(np.float64(0), np.float64(50e9), np.float64(0)), 2))
    0.01
    """
    return tier.latency_s + n_bytes / (np.asarray(n_devices, dtype=float) * tier.bytes_per_s)


def move_usd(n_bytes, tier: Tier, usd_per_s, blocking=1.0):
    """Price of one write and one read: device time while bytes move, 2 bytes / bandwidth x usd_per_s x blocking.

    n_bytes [byte], usd_per_s of one device [USD/s], blocking: share of the transfer for which the device cannot do other work (1: all of
    it, the pessimistic end; layer-wise prefetch hides most).  HBM moves nothing.  Returns [USD].

    >>> float(move_usd(50e9, Tier(np.float64(0), np.float64(50e9), np.float64(0)), 0.001))
    0.002
    """
    return 2.0 * n_bytes / tier.bytes_per_s * usd_per_s * blocking


def keep_usd(n_bytes, tier: Tier, reuse_s, usd_per_s, blocking=1.0):
    """Price of keeping a cache from one use to the next: bytes w t + `move_usd`.  n_bytes [byte], reuse_s t [s].  Returns [USD].

    >>> float(keep_usd(1e9, Tier(np.float64(1e-12), np.float64(np.inf), np.float64(0)), 3600.0, 0.001))
    3.6
    """
    return n_bytes * tier.hold_usd_per_byte_s * reuse_s + move_usd(n_bytes, tier, usd_per_s, blocking)


def break_even_s(n_bytes, tier: Tier, recompute_usd, usd_per_s, blocking=1.0):
    """Longest reuse time for which keeping beats computing again: (recompute - move) / (bytes w), 0 where moving alone costs more.

    n_bytes [byte], recompute_usd of the same prefix [USD].  Returns [s].

    >>> float(break_even_s(1e9, Tier(np.float64(1e-12), np.float64(np.inf), np.float64(0)), 3.6, 0.001))
    3600.0
    """
    return np.maximum(recompute_usd - move_usd(n_bytes, tier, usd_per_s, blocking), 0.0) / (n_bytes * tier.hold_usd_per_byte_s)


def best_tier(n_bytes, tiers: Tier, reuse_s, recompute_usd, usd_per_s, blocking=1.0):
    """(index, USD) of the cheapest way to have the prefix again after `reuse_s`; index -1: compute it again.

    tiers: fields (T,); n_bytes, reuse_s, recompute_usd scalar or (N, 1).  Returns index and cost [USD], (N,) or scalar.

    >>> fast_slow = Tier(np.array([1e-11, 1e-14]), np.array([np.inf, 1e9]), np.zeros(2))
    >>> [int(best_tier(1e9, fast_slow, t, 1.0, 0.001)[0]) for t in (0.1, 3600.0, 1e6)]
    [0, 1, -1]
    """
    costs = keep_usd(n_bytes, tiers, reuse_s, usd_per_s, blocking)
    index, least = np.argmin(costs, axis=-1), np.min(costs, axis=-1)
    again = np.reshape(recompute_usd, np.shape(least)) if np.size(recompute_usd) == np.size(least) else recompute_usd
    return np.where(least < again, index, -1), np.minimum(least, again)


def kept_in(traffic: Traffic, tiers: Mapping[str, Tier], names) -> Traffic:
    """The traffic when prefixes wait in the places `names`, one per design: `none` (computed again), `hbm`, or a key of `tiers`.

    >>> base = Traffic(*(np.float64(v) for v in (1000, 200, 0, 0, 400, 1, 1, 1, 1)))
    >>> kept_in(base, {}, np.array(["none", "hbm"])).prefix_tok.tolist()
    [0.0, 400.0]
    """
    names = np.atleast_1d(np.asarray(names, dtype=str))
    one = {RECOMPUTE: Tier(*np.zeros(1), np.inf, 0.0), HBM: Tier(*np.zeros(1), np.inf, 0.0), **tiers}
    found = [one[name] for name in names.tolist()]
    hold, speed, latency = (np.array([float(getattr(tier, k)) for tier in found]) for k in ("hold_usd_per_byte_s", "bytes_per_s", "latency_s"))
    return replace(
        traffic, prefix_tok=np.where(names == RECOMPUTE, 0.0, traffic.prefix_tok), keep_usd_per_byte_s=hold,
        keep_in_hbm=(names == HBM).astype(float), keep_bytes_per_s=speed, keep_latency_s=latency,
    )  # fmt: skip
