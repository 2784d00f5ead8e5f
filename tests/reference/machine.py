"""One chip and its network in plain Python: kernel rates, collectives, the fullest device's experts.  No numpy.

A chip is a plain nested namespace of floats with the field names of codesign's Chip; the equations are written from
the design page (section 4) and the facts on kernels and collectives.
"""

from __future__ import annotations

import math
from types import SimpleNamespace as Record


class Clock:
    """Adds t = n t0 + max(FLOP/rate, bytes/bandwidth) of kernels and latency + transfer of messages."""

    def __init__(self) -> None:
        self.time = self.fixed = self.slack = 0.0
        self.compute = self.memory = self.network = self.overhead = 0.0

    def kernel(self, rate, launches, flop, n_bytes, times=1.0, lends=True) -> None:
        if times == 0.0:
            return
        compute, memory, t0 = flop / rate.flop_per_s, n_bytes / rate.bytes_per_s, launches * rate.t0
        self.time += times * (t0 + max(compute, memory))
        self.fixed += times * t0
        self.slack += times * max(memory - compute, 0.0) * lends
        self.compute += times * compute
        self.memory += times * memory

    def send(self, cost, times=1.0) -> None:
        latency, transfer = cost
        self.time += times * (latency + transfer)
        self.fixed += times * latency
        self.network += times * transfer

    def wait(self, seconds) -> None:
        self.time += seconds
        self.overhead += seconds

    def bounds(self):
        """(everything overlapped, nothing overlapped)."""
        parts = self.compute, self.memory, self.network
        return max(parts), sum(parts) + self.fixed + self.overhead


def width(bits, chip) -> int:
    """Operand width that the chip multiplies at: the next wider one that it has."""
    if bits <= 4 and chip.has_4_bit:
        return 4
    return 8 if bits <= 8 and chip.has_8_bit else 16


def at(by_bits, bits: int) -> float:
    return getattr(by_bits, f"at_{bits}")


def stored(bits) -> float:
    """Bytes of a stored element; four bits carry an 8-bit scale per 16 elements."""
    return 0.5625 if bits == 4 else bits / 8


def rates(chip, precision: dict, is_mla: bool, training: bool = False) -> Record:
    """Achieved rates of every kind of kernel at this precision."""
    gemm_bits = width(max(precision["weight_bits"], precision["act_bits"]), chip)
    math_bits = width(max(8, precision["act_bits"]), chip)
    cache_bits = 16 if precision["kv_bits"] >= 16 else 8
    peak, hbm = chip.peak_flop_per_s, chip.hbm_bytes_per_s

    def rate(fit, compute_bits, memory_bits):
        return Record(
            t0=at(fit.t0_s, memory_bits),
            flop_per_s=at(fit.compute, compute_bits) * at(peak, compute_bits),
            bytes_per_s=at(fit.memory, memory_bits) * hbm,
        )

    out = Record(
        gemm=rate(chip.gemm, gemm_bits, gemm_bits),
        experts=rate(chip.experts, gemm_bits, gemm_bits),
        prefill=rate(chip.prefill_attention, math_bits, math_bits),
        cache=rate(chip.mla_decode if is_mla else chip.decode_attention, math_bits, cache_bits),
        glue=Record(t0=chip.gemm.t0_s.at_16, flop_per_s=math.inf, bytes_per_s=chip.gemm.memory.at_16 * hbm),
    )
    stored_bits = int(precision["weight_bits"])
    if stored_bits < gemm_bits:  # weights widen on their way to the multiplier: another kernel, same arithmetic
        out.gemm.t0 = at(chip.weight_only.t0_s, stored_bits)
        out.gemm.bytes_per_s = at(chip.weight_only.memory, stored_bits) * hbm
    out.head = out.gemm
    if training:
        fit = chip.training
        dense = at(fit.compute, gemm_bits) * at(peak, gemm_bits)
        out.head = Record(t0=chip.gemm.t0_s.at_16, flop_per_s=fit.compute.at_16 * peak.at_16, bytes_per_s=out.gemm.bytes_per_s)
        out.gemm.flop_per_s, out.experts.flop_per_s = dense, at(fit.experts, gemm_bits) * dense
        out.prefill.flop_per_s = fit.attention * peak.at_16
    return out


def in_training(chip) -> Record:
    """The chip with collectives slowed by the kernels beside them, and the memory that a training process may fill."""
    links = {}
    for tier in ("scale_up", "scale_out"):
        old = vars(getattr(chip, tier))
        links[tier] = Record(**(old | {k: old[k] * chip.training.network for k in ("gather", "all_to_all")}))
    return Record(**(vars(chip) | links | {"usable_frac": chip.training.usable_frac}))


def inside(n, stride, chip) -> float:
    """Members of a group of n devices, `stride` apart, in one scale-up domain."""
    return min(n, max(math.floor(chip.scale_up_size / stride), 1))


def link(members, chip) -> float:
    """Switch: the whole link.  Mesh: one link to each other member of the group.  Torus: one link to each axis neighbour that
    a cube of so many members has, log2 of its size."""
    if math.isinf(chip.scale_up_peer_bytes_per_s):
        return chip.scale_up.bytes_per_s
    n_links = math.log2(members) if math.isfinite(chip.torus_side) else members - 1
    return min(chip.scale_up.bytes_per_s, max(n_links, 1) * chip.scale_up_peer_bytes_per_s)


def reduction_of(members, chip) -> Record:
    """Measured constants of the smallest measured group that is not smaller; groups beyond 16 take those of 16."""
    for size in (2, 4, 8):
        if members <= size:
            return getattr(chip.reductions, f"at_{size}")
    return chip.reductions.at_16


def all_reduce(n_bytes, n, chip, stride=1):
    """One domain: the faster of one-shot (everybody reads all) and two-shot (reduce-scatter, all-gather), as measured at that
    size.  Several domains: two-shot inside, then a ring over the domains for each member's part, there and back."""
    near = inside(n, stride, chip)
    domains = n / near
    latency = transfer = 0.0
    if near > 1:
        fit, speed = reduction_of(near, chip), link(near, chip)
        one_shot = fit.one_shot_t0_s, (near - 1) * n_bytes / (fit.one_shot * speed)
        two_shot = fit.two_shot_t0_s, 2 * (near - 1) / near * n_bytes / (fit.two_shot * speed)
        latency, transfer = min(one_shot, two_shot, key=sum) if domains == 1 else two_shot
    if domains > 1:
        latency += 2 * chip.scale_out.gather_t0_s
        transfer += 2 * (domains - 1) / domains * (n_bytes / near) / (chip.scale_out.gather * chip.scale_out.bytes_per_s)
    return latency, transfer


def half_reduce(n_bytes, n, chip, stride):
    """Ring reduce-scatter or all-gather of a tensor of n_bytes: every member sends what the others do not have, tier by tier."""
    near = inside(n, stride, chip)
    domains = n / near
    latency = transfer = 0.0
    if near > 1:
        latency += chip.scale_up.gather_t0_s
        transfer += (near - 1) / near * n_bytes / (chip.scale_up.gather * link(near, chip))
    if domains > 1:
        latency += chip.scale_out.gather_t0_s
        transfer += (domains - 1) / domains * n_bytes / near / (chip.scale_out.gather * chip.scale_out.bytes_per_s)
    return latency, transfer


def places(k, n) -> float:
    """Mean number of n places that get at least one of k uniform picks."""
    return n * (1 - (1 - 1 / n) ** k)


def dispatch(n_tok, k, d_model, element_bytes, n, chip, stride, once=False):
    """Tokens to the ranks of their experts (or back): min(k, n) copies each, both tiers at the same time.

    `once`: one copy per rank at the rate of a gather inside, one per domain outside."""
    if n == 1:
        return 0.0, 0.0
    near = inside(n, stride, chip)
    payload = n_tok * min(k, n) * d_model * element_bytes
    hops = max(min(chip.torus_side, n) / 4, 1) if math.isfinite(chip.torus_side) else 1
    up = payload * (near - 1) / n * hops / (chip.scale_up.all_to_all * link(near, chip))
    out = payload * (n - near) / n / (chip.scale_out.all_to_all * chip.scale_out.bytes_per_s)
    if once:
        copies = max(min(k, n), 1)
        up *= n / near * places(k, n) / copies * chip.scale_up.all_to_all / chip.scale_up.gather
        out *= min(places(k, n / near) / copies, 1.0)
    tier = chip.scale_out if near < n else chip.scale_up
    return tier.all_to_all_t0_s, max(up, out)


def stage_hop(n_bytes, stride, chip):
    """To the same rank of the next pipeline stage, `stride` devices on: one scale-up link where two stages share a domain."""
    if 2 * stride <= chip.scale_up_size:
        return chip.scale_up.p2p_t0_s, n_bytes / link(2, chip)
    return chip.scale_out.p2p_t0_s, n_bytes / chip.scale_out.bytes_per_s


def experts_of_fullest(n_experts, k, n_tok, n_ep) -> float:
    """E[max over n_ep devices of experts touched], each of E/ep experts touched with p = 1 - (1 - k/E)^B.

    sum over j = 0 .. E/ep - 1 of 1 - F(j)^ep with F the binomial distribution function, summed term by term.
    """
    held = math.ceil(n_experts / n_ep)
    p = 1.0 - (1.0 - min(k / n_experts, 1.0)) ** n_tok
    total = below = 0.0
    for j in range(held):
        below += math.comb(held, j) * p**j * (1.0 - p) ** (held - j)
        total += 1.0 - min(below, 1.0) ** n_ep
    return total


def experts_of_mean(n_experts, k, n_tok, n_ep) -> float:
    return n_experts / n_ep * (1.0 - (1.0 - min(k / n_experts, 1.0)) ** n_tok)
