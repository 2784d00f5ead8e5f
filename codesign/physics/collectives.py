"""Time of a collective: latency and transfer over two tiers (scale-up inside the domain, scale-out between domains).

Every function returns (latency [s], transfer [s]).  `n` is the size of the group, `inside` how many of its members share
one scale-up domain.  A group of one costs nothing.
"""

from __future__ import annotations

import numpy as np

from codesign.physics.hardware import Chip
from codesign.physics.jitter import waits


def members_inside(n, stride, chip: Chip):
    """Members of a group of n devices, `stride` apart, that share one scale-up domain: min(n, max(1, domain / stride)).

    >>> from types import SimpleNamespace as S
    >>> float(members_inside(16, 1, S(scale_up_size=8))), float(members_inside(4, 8, S(scale_up_size=8)))
    (8.0, 1.0)
    """
    return np.minimum(n, np.maximum(np.floor(chip.scale_up_size / stride), 1.0))


def scale_up_bandwidth(n, chip: Chip):
    """Bandwidth [byte/s, one direction] that one device reaches inside a group of n members of its domain.

    switch: the whole link; full mesh: n - 1 links of a pair (an MI300X pair sees 64 GB/s, not 448); torus: log2 n links (two
    neighbours share one, a 2 x 2 x 2 cube three, then all of them).
    """
    n_links = np.maximum(n - 1.0, 1.0)
    torus = np.isfinite(chip.torus_side)
    if np.any(torus):
        n_links = np.where(torus, np.log2(np.maximum(n, 2.0)), n_links)
    return np.minimum(chip.scale_up.bytes_per_s, n_links * chip.scale_up_peer_bytes_per_s)


def all_reduce(n_bytes, n, chip: Chip, stride=1):
    """All-reduce of `n_bytes` per device over a group of n.

    inside one domain: min(one-shot  a1 + (n-1) b / (e1 link),  two-shot  a2 + 2 (n-1)/n b / (e2 link)), constants by n;
    across domains:    reduce-scatter and all-gather inside, ring of 2 (m-1)/m (b / n_inside) over the m domains outside.
    Source of the two regimes: engine all-reduce kernels in ai-dynamo/aiconfigurator @095f58a tables.
    """
    inside = members_inside(n, stride, chip)
    outside = n / inside
    link, fit = scale_up_bandwidth(inside, chip), chip.reductions.pick(inside)
    one_shot = (inside - 1.0) * n_bytes / (fit.one_shot * link)
    ring = 2.0 * (inside - 1.0) / inside * n_bytes / (fit.two_shot * link)
    take_one = (fit.one_shot_t0_s + one_shot <= fit.two_shot_t0_s + ring) & (outside <= 1.0)
    latency = np.where(take_one, fit.one_shot_t0_s, fit.two_shot_t0_s) * (inside > 1.0)
    transfer = np.where(take_one, one_shot, ring)
    if np.any(outside > 1.0):
        crossing = outside > 1.0
        far = 2.0 * (outside - 1.0) / outside * (n_bytes / inside) / (chip.scale_out.gather * chip.scale_out.bytes_per_s)
        latency = latency + crossing * 2.0 * chip.scale_out.gather_t0_s
        transfer = transfer + np.where(crossing, far, 0.0)
    return _late(latency, n, outside > 1.0, chip, take_one), transfer


def shard_exchange(n_bytes, n, chip: Chip, stride=1):
    """Reduce-scatter or all-gather of `n_bytes` (the full tensor) over n, both tiers: (n-1)/n b / (e link)."""
    inside = members_inside(n, stride, chip)
    outside = n / inside
    near = (inside - 1.0) / inside * n_bytes / (chip.scale_up.gather * scale_up_bandwidth(inside, chip))
    far = (outside - 1.0) / outside * (n_bytes / inside) / (chip.scale_out.gather * chip.scale_out.bytes_per_s)
    latency = chip.scale_up.gather_t0_s * (inside > 1.0) + chip.scale_out.gather_t0_s * (outside > 1.0)
    return _late(latency, n, outside > 1.0, chip), near + far


def expert_exchange(n_tok, n_active, d_model, bytes_per_element, n, chip: Chip, stride=1, once_per_domain=False):
    """Dispatch (or combine) of `n_tok` tokens per device to the experts of a group of n.

    t = a + tok k d bytes share / (e link), with the share that leaves the device, 1 - 1/n, inside the domain and the
    remote share 1 - inside/n over scale-out; the two tiers run at the same time, the slower one counts.  k is at most n
    copies (one per rank).  `once_per_domain` (throughput kernels, DeepEP "normal"): one copy per rank inside, at the rate of a gather, and
    one per domain outside that needs the token, n (1 - (1 - 1/n)^k) of n places under uniform routing.  On a torus each byte travels side/4 hops on average, so the link carries side/4 as much.
    Fits DeepEP on H100 (e 0.91-0.97 of the NIC) and NVLink two-sided on GB200 (0.5-0.66); ai-dynamo/aiconfigurator @095f58a.
    """
    inside = members_inside(n, stride, chip)
    crossing = inside < n
    payload = n_tok * np.minimum(n_active, n) * d_model * bytes_per_element
    near = payload * (inside - 1.0) / n * _hops(n, chip) / (chip.scale_up.all_to_all * scale_up_bandwidth(inside, chip))
    far = payload * (n - inside) / n / (chip.scale_out.all_to_all * chip.scale_out.bytes_per_s)
    if np.any(once_per_domain):
        sent = np.maximum(np.minimum(n_active, n), 1.0)
        once_far = far * np.minimum(_places(n_active, n / inside) / sent, 1.0)
        # whatever enters a domain is passed on inside it: (inside - 1)/inside of the copies, not (inside - 1)/n
        once_near = near * (n / inside) * _places(n_active, n) / sent * chip.scale_up.all_to_all / chip.scale_up.gather
        near, far = np.where(once_per_domain, once_near, near), np.where(once_per_domain, once_far, far)
    latency = np.where(crossing, chip.scale_out.all_to_all_t0_s, chip.scale_up.all_to_all_t0_s) * (n > 1)
    return _late(latency, n, crossing, chip), np.maximum(near, far)


def group_exchange(n_bytes, n, chip: Chip):
    """Sends from one group of devices to another, `n` devices in all, that lie side by side in the same domains.

    t = a + max( b inside/n / (e link),  b (1 - inside/n) / (e NIC) ):  b bytes of the device that sends or receives most, to peers
    that are spread evenly; efficiencies and fixed times are those of the expert exchange, whose messages these are.

    Parameters: n_bytes [byte], n [-], broadcasting.  Returns (latency [s], transfer [s]).  Source: the M2N transfers of MegaScale-Infer
    (arXiv 2504.02263 section 5); a group that fits one domain sends nothing over the NIC.
    """
    inside = members_inside(n, 1, chip)
    crossing = inside < n
    near = n_bytes * inside / n * _hops(n, chip) / (chip.scale_up.all_to_all * scale_up_bandwidth(inside, chip))
    far = n_bytes * (n - inside) / n / (chip.scale_out.all_to_all * chip.scale_out.bytes_per_s)
    latency = np.where(crossing, chip.scale_out.all_to_all_t0_s, chip.scale_up.all_to_all_t0_s)
    return _late(latency, n, crossing, chip), np.maximum(near, far)


def _hops(n, chip: Chip):
    """Links that a message between two of n devices takes: a quarter of the side of a torus, one elsewhere."""
    return np.where(np.isfinite(chip.torus_side), np.maximum(np.minimum(chip.torus_side, n) / 4.0, 1.0), 1.0)


def _places(n_active, n):
    """Expected places out of n that hold at least one of k experts: n (1 - (1 - 1/n)^k)."""
    return -n * np.expm1(n_active * np.log1p(-np.minimum(1.0 / n, 1.0 - 1e-15)))


def hop(n_bytes, stride, chip: Chip):
    """Point-to-point send of `n_bytes` to the device `stride` further on (next pipeline stage)."""
    near = 2.0 * stride <= chip.scale_up_size
    bandwidth = np.where(near, scale_up_bandwidth(2.0, chip), chip.scale_out.bytes_per_s)
    return _late(np.where(near, chip.scale_up.p2p_t0_s, chip.scale_out.p2p_t0_s), 2.0, near, chip, outer=False), n_bytes / bandwidth


def _late(latency, n, crossing, chip: Chip, one_round=True, outer=True):
    """Latency with the wait for the slowest member, once or twice; unchanged where links have no jitter.

    `crossing`: the group leaves the domain (with `outer` false: it stays inside).
    """
    near, far = chip.scale_up.jitter, chip.scale_out.jitter
    if near is None and far is None:
        return latency
    return waits(latency, n, np.asarray(crossing) == outer, near, far, 2.0 - np.asarray(one_round))
