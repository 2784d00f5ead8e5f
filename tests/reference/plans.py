"""Serving steps whose parts run at the same time, in plain Python: one row of stations, simulated micro-batch by micro-batch where that is
how long they take, and the FFN cuts of Pope et al. (2211.05102).  Beside `reference.scalar`; no numpy, no codesign.

A layout has, beside its degrees, `plan` with overlap, n_ffn, n_micro, n_ffn_x, n_gather.
"""

from __future__ import annotations

import math
from types import SimpleNamespace as Record

from reference import scalar
from reference.machine import Clock, all_reduce, dispatch, experts_of_fullest, half_reduce, inside, link, stage_hop
from reference.scalar import ACT, CHUNK


class Station:
    """One micro-batch's kernels and messages on one group of devices; takes what a Clock takes."""

    def __init__(self) -> None:
        self.work, self.wire = Clock(), Clock()
        self.kernel, self.wait, self.send = self.work.kernel, self.work.wait, self.wire.send

    @property
    def time(self):
        return self.work.time + self.wire.time


def pieces(lay) -> float:
    return lay.plan.n_micro if lay.plan.n_ffn else 1 + lay.plan.overlap


def _apart(lay) -> bool:
    return lay.plan.n_ffn > 0


def _stage(lay) -> float:
    return lay.n_tp * lay.n_cp * lay.n_dp


def round_trip(times, n_micro, rounds=400) -> float:
    """Mean time per round of `n_micro` customers on a ring of stations that serve one at a time, first come first served: by simulation."""
    free, ready, start = [0.0] * len(times), [0.0] * int(n_micro), 0.0
    for turn in range(2 * rounds):
        if turn == rounds:
            start = max(ready)
        for customer in range(int(n_micro)):
            for station, seconds in enumerate(times):
                begin = max(free[station], ready[customer])
                free[station] = ready[customer] = begin + seconds
    return (max(ready) - start) / rounds


def finish(lay, parts, once, copy=0.0) -> float:
    """Seconds of a step from its stations (attention, FFN, way there, way back) and what is done once."""
    m = pieces(lay)
    if _apart(lay):
        attention, ffn, there, back = (p.time for p in parts)
        slowest = max(attention, ffn, there, back)
        return max(m * slowest, attention + ffn + there + back) + once.time
    work, wire = sum(p.work.time for p in parts), sum(p.wire.time for p in parts)
    if m == 1:
        return work + wire + once.time
    return 2 * max(wire, work + copy * wire) + once.time


def crossing(n_bytes, n, chip):
    """Bytes to devices spread evenly over the n of a replica's stage: near ones over the links of the domain, the others over the NIC."""
    near = inside(n, 1, chip)
    hops = max(min(chip.torus_side, n) / 4, 1) if math.isfinite(chip.torus_side) else 1
    up = n_bytes * near / n * hops / (chip.scale_up.all_to_all * link(near, chip))
    out = n_bytes * (1 - near / n) / (chip.scale_out.all_to_all * chip.scale_out.bytes_per_s)
    return (chip.scale_out if near < n else chip.scale_up).all_to_all_t0_s, max(up, out)


def _both(*costs):
    return tuple(sum(parts) for parts in zip(*costs, strict=True))


def dense_ffn(station, scene, lay, n_tok, times, prompts) -> None:
    """A dense FFN cut along d_ff, along both, or with weights gathered from g devices for one g-th of the tokens."""
    m, chip, plan = scene.m, scene.chip, lay.plan
    n = lay.n_etp if _apart(lay) else lay.n_tp
    g = plan.n_gather if prompts else 1
    x = 1 if g > 1 else plan.n_ffn_x
    here, tok, inputs = m.dense * g / n, n_tok / g, round(m.dense_matmul / (m.d * m.d_ff)) - 1
    rows = m.d_ff * x * g / n  # depth of the last product
    narrow = 1 + chip.gemm_k_half / (3 * max(rows, 1.0)) + inputs / (inputs + 1) * chip.gemm_k_half * (x - 1) / m.d
    moved = here * scene.weight_bytes * (2 if g > 1 else 1) + tok * ACT * (2 * m.d / x + here / m.d * x)
    station.kernel(scene.rate.gemm, 2, 2 * tok * here * narrow, moved, m.n_dense * times)
    if x > 1:
        stream, inner = n_tok * ACT * m.d / x, n_tok * ACT * m.d_ff / (n / x)
        y_group, x_group = half_reduce(stream, n / x, chip, x), (half_reduce(inner * inputs, x, chip, 1), half_reduce(inner, x, chip, 1))
        station.send(_both(y_group, y_group, *x_group), m.n_dense * times)
    if g > 1:
        part = half_reduce(tok * m.d * ACT, n / g, chip, 1)
        station.send(half_reduce(here * scene.weight_bytes, g, chip, n / g), m.n_dense * times)
        station.send(_both(part, part), m.n_dense * times)


def _small(station, scene, weights, launches, n_tok, times):
    n_bytes = weights * scene.weight_bytes + n_tok * ACT * (2 * scene.m.d + weights / scene.m.d)
    station.kernel(scene.rate.gemm, launches, 2 * n_tok * weights, n_bytes, scene.m.n_moe * times)


def feed_forward(parts, scene, lay, n_tok, n_group, touched, times, holders, prompts=False) -> None:
    attention, ffn = parts[:2]
    m, chip, apart = scene.m, scene.chip, _apart(lay)
    n_ffn = lay.plan.n_ffn if apart else _stage(lay)
    held = max(n_tok * _stage(lay) / holders * lay.n_etp / n_ffn, 1.0) if apart else n_tok
    if m.n_dense:
        dense_ffn(ffn, scene, lay, held, times, prompts)
    local = m.n_moe if lay.n_cp * lay.n_dp == 1 and not apart else 0
    uncut = 0 if apart or (lay.plan.n_ffn_x > 1 or (prompts and lay.plan.n_gather > 1)) else m.n_dense
    blocks = sum(x.n_layers for x in m.mixers.values()) + uncut + local
    attention.send(all_reduce(n_tok * m.d * ACT, lay.n_tp, chip), blocks * times)
    if m.n_moe:
        _routed(ffn, scene, lay, n_group, touched, times)
        if apart:
            _small(attention, scene, m.router + m.latent, 1, n_tok, times)
            if m.shared:
                _small(ffn, scene, m.shared / lay.n_etp, 1, held, times)
        else:
            _small(ffn, scene, m.shared / lay.n_tp + m.router + m.latent, 2 if m.shared else 1, n_tok, times)
            _exchange(ffn, scene, lay, n_tok, n_group, times, holders)
    if apart:
        _between(parts, scene, lay, n_tok, held, n_group, times, holders)


def _routed(station, scene, lay, n_group, touched, times) -> None:
    m, chip = scene.m, scene.chip
    each, routed = m.expert / lay.n_etp, n_group * m.k / lay.n_ep * (chip.token_imbalance if lay.n_ep > 1 else 1)
    flop = 2 * each * (routed + touched * min(chip.expert_m0_tok, max(scalar.TILE, routed / touched)))
    station.kernel(scene.rate.experts, 1, flop, touched * each * scene.weight_bytes + 2 * routed * m.d_expert_in * ACT, m.n_moe * times)


def _exchange(station, scene, lay, n_tok, n_group, times, holders) -> None:
    m, chip = scene.m, scene.chip
    if lay.n_cp * lay.n_dp == 1:
        return
    for element in (scene.send_bytes, ACT):
        station.send(dispatch(n_tok / holders, m.k, m.d_expert_in, element, lay.n_ep, chip, lay.n_etp), m.n_moe * times)
    received = n_group * min(m.k, lay.n_ep) / lay.n_ep
    station.send(all_reduce(received * m.d_expert_in * ACT, lay.n_etp, chip), m.n_moe * times)
    station.send(half_reduce(n_tok * m.d * ACT, holders, chip, 1), m.n_moe * times)


def _between(parts, scene, lay, n_tok, held, n_group, times, holders) -> None:
    """Attention devices to FFN devices and back; the busier end of the links counts."""
    attention, ffn, there, back = parts
    m, chip, n_ffn = scene.m, scene.chip, lay.plan.n_ffn
    to_experts, to_shared = min(m.k, lay.n_ep) * m.d_expert_in, m.d if m.shared else 0
    for station, element in ((there, scene.send_bytes), (back, ACT)):
        for elements, layers in ((to_experts + to_shared, m.n_moe), (m.d, m.n_dense)):
            sent = n_tok / holders * elements * element
            cost = crossing(max(sent, sent * _stage(lay) / n_ffn), _stage(lay) + n_ffn, chip)
            station.send(cost, layers * times)
    received = n_group * to_experts / lay.n_ep + held * to_shared
    for elements, layers in ((received, m.n_moe), (held * m.d, m.n_dense)):
        ffn.send(all_reduce(elements * ACT, lay.n_etp, chip), layers * times)
    attention.send(half_reduce(n_tok * m.d * ACT, holders, chip, 1), (m.n_moe + m.n_dense) * times)


def decode(scene, lay, batch, context, q=1.0) -> Record:
    """One step of `batch` sequences under a plan."""
    m, chip, count = scene.m, scene.chip, pieces(lay)
    parts, once = tuple(Station() for _ in range(4)), Clock()
    in_hand = math.ceil(math.ceil(batch / lay.n_dp) / lay.n_pp)
    n_seq = math.ceil(in_hand / count)
    n_tok, n_group = n_seq * q, max(batch / (lay.n_edp * lay.n_pp * count), 1.0) * q
    pace = lay.n_pp * math.ceil(m.n_layers / lay.n_pp) / m.n_layers
    touched = experts_of_fullest(m.n_experts, m.k, n_group, lay.n_ep) if m.n_moe else 0.0
    for name, x in m.mixers.items():
        scalar._projections(parts[0], scene, lay, x, n_tok, pace)
        scalar._cache_attention(parts[0], scene, lay, name, x, n_seq, context, q, pace)
    feed_forward(parts, scene, lay, n_tok, n_group, touched, pace, lay.n_tp * lay.n_cp)
    scalar._glue(parts[0], scene, n_tok, pace)
    scalar._head(parts[0], scene, lay, n_tok)
    _hops(parts[0], scene, lay, n_tok, 1)
    once.wait(chip.step_overhead_s + chip.sequence_overhead_s * in_hand)
    return Record(step_s=finish(lay, parts, once), parts=parts, once=once, touched=touched)


def _hops(station, scene, lay, n_tok, times):
    """To the next stage, which begins behind the FFN devices of this one."""
    if lay.n_pp > 1:
        cost = stage_hop(n_tok / lay.n_tp * scene.m.d * ACT, _stage(lay) + lay.plan.n_ffn, scene.chip)
        station.send(cost, (lay.n_pp - 1) * times)


def prefill(scene, lay, new, prefix=0.0) -> Record:
    """One prompt per attention rank under a plan, every chunk in pieces."""
    m, chip, count = scene.m, scene.chip, pieces(lay)
    parts, once = tuple(Station() for _ in range(4)), Clock()
    chunks = max(math.ceil(new / CHUNK), 1)
    n_tok, n_group = new / chunks / lay.n_cp / count, new / chunks * lay.n_dp / lay.n_edp / count
    touched = experts_of_fullest(m.n_experts, m.k, n_group, lay.n_ep) if m.n_moe else 0.0
    pace = lay.n_pp * math.ceil(m.n_layers / lay.n_pp) / m.n_layers
    for name, x in m.mixers.items():
        scalar._projections(parts[0], scene, lay, x, n_tok, chunks * pace)
        scalar._causal_attention(parts[0], scene, lay, name, x, 1 / count, new, prefix, pace, chunks)
    feed_forward(parts, scene, lay, n_tok, n_group, touched, chunks * pace, lay.n_tp, prompts=True)
    scalar._glue(parts[0], scene, n_tok, chunks * pace)
    seen = prefix + sum((i + 1) * new / chunks for i in range(chunks)) / chunks
    scalar._context_exchange(parts[0], scene, lay, seen / count, chunks * pace)
    _hops(parts[0], scene, lay, n_tok, chunks)
    scalar._head(once, scene, lay, 1)
    once.wait(chip.step_overhead_s * chunks)
    return Record(forward_s=finish(lay, parts, once, chip.copy_frac), parts=parts, once=once, touched=touched)


def memory(scene, lay, n_seq, held_tok, n_tok, holders) -> float:
    """Bytes on the fullest device of either group."""
    m, wide = scene.m, scene.weight_bytes
    share = math.ceil(m.n_layers / lay.n_pp) / m.n_layers
    cache = scalar.kv_cache(scene, lay, n_seq, held_tok)
    stream = n_tok * ACT * 4 * m.d + min(n_tok, 256) * m.vocab / lay.n_tp * 4
    if not _apart(lay):
        own = scalar._serving_memory(scene, lay, n_seq, held_tok, n_tok)
        return own + (m.dense * lay.plan.n_gather / lay.n_tp * wide if lay.plan.n_gather > 1 and m.n_dense else 0.0)
    mixers = sum(x.n_layers * scalar._mixer_weights(x, lay) for x in m.mixers.values()) + m.n_moe * (m.router + m.latent)
    attention = (share * mixers + scalar._tables(scene, lay)) * wide + cache + stream
    copies = (m.n_dense * m.dense + m.n_moe * m.shared) / lay.n_etp
    experts = m.n_moe * math.ceil(m.n_experts / lay.n_ep) * m.expert / lay.n_etp if m.n_moe else 0.0
    held = max(n_tok * _stage(lay) / holders * lay.n_etp / lay.plan.n_ffn, 1.0)
    width = 4 * m.d + 2 * min(m.k, lay.n_ep) * m.d_expert_in + 3 * max(m.d_ff, m.k * m.d_expert) / lay.n_etp
    return max(attention, share * (copies + experts) * wide + held * ACT * width) + scene.chip.reserve_bytes
