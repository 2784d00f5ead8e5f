"""The phases of serving and training in plain Python, one configuration at a time: the slow reference of the evaluator.

Written from section 4 of the design and the equations in the docstrings of codesign.physics; no numpy, no codesign.
`Scene` is one model on one chip at one precision; a layout is any record with n_tp, n_cp, n_dp, n_pp, n_etp, n_ep, n_edp.
"""

from __future__ import annotations

import math
from types import SimpleNamespace as Record

from reference.counts import cached_bytes, model_of
from reference.machine import (
    Clock,
    all_reduce,
    dispatch,
    experts_of_fullest,
    experts_of_mean,
    half_reduce,
    in_training,
    rates,
    stage_hop,
    stored,
)  # fmt: skip

ACT = 2.0  # bytes of an activation between kernels
CHUNK = 8192.0  # tokens of a prefill chunk
TILE = 16.0  # rows of the narrowest tile of a grouped GEMM
GRADIENT, OPTIMIZER, UPDATE_TRAFFIC = 4.0, 12.0, 30.0  # bytes per parameter
FAILURE_DEVICE_S = 16384 * 54 * 86400.0 / 419  # Llama 3, arXiv 2407.21783 Table 5
RESTART_S, CHECKPOINT_S = 480.0, 15.0


class Scene:
    """What does not depend on the layout.  `tok_per_text`: tokens of this vocabulary for the text of one token of demand."""

    def __init__(self, architecture: dict, chip: Record, precision: dict, training: bool = False, tok_per_text: float = 1.0) -> None:
        self.m, self.training, self.tok_per_text = model_of(architecture), training, tok_per_text
        self.chip = in_training(chip) if training else chip
        self.rate = rates(chip, precision, self.m.is_mla, training)
        self.weight_bytes = stored(precision["weight_bits"])
        self.send_bytes = min(stored(precision["act_bits"]), ACT)
        self.cached = {name: cached_bytes(x, precision["kv_bits"]) for name, x in self.m.mixers.items()}


# --- operators -------------------------------------------------------------------------------------------------------------


def _matrix(clock, scene, launches, weights, n_tok, times, narrow=1.0, ends=2.0, lends=True):
    """Weights times tokens: 2 tok W FLOP (x `narrow` for shallow shards), reads W, and activations in and out."""
    n_bytes = weights * scene.weight_bytes + n_tok * ACT * (ends * scene.m.d + weights / scene.m.d)
    clock.kernel(scene.rate.gemm, launches, 2 * n_tok * weights * narrow, n_bytes, times, lends)


def _mixer_weights(x, lay):
    return x.w_tp / lay.n_tp + x.w_kv / min(lay.n_tp, max(x.shards, 1)) + x.w_rep


def _projections(clock, scene, lay, x, n_tok, times):
    depth = max(x.w_tp / (2 * scene.m.d * lay.n_tp), 1.0)
    _matrix(clock, scene, x.n_gemm, _mixer_weights(x, lay), n_tok, x.n_layers * times, 1 + 0.5 * scene.chip.gemm_k_half / depth)


def _dense(clock, scene, lay, n_tok, times):
    m = scene.m
    narrow = 1 + scene.chip.gemm_k_half / (3 * max(m.d_ff / lay.n_tp, 1.0))
    _matrix(clock, scene, 2, m.dense / lay.n_tp, n_tok, m.n_dense * times, narrow)


def _experts(clock, scene, lay, n_tok, n_group, touched, times, wire_times, skew=None, half=None, once=False, holders=None):
    """Routed experts of the fullest device, shared experts and router, and the messages between ranks."""
    m, chip = scene.m, scene.chip
    if not m.n_moe:
        return
    skew = 1.0 if lay.n_ep == 1 else chip.token_imbalance if skew is None else skew
    routed = n_group * m.k / lay.n_ep * skew
    each = m.expert / lay.n_etp
    half = (
        chip.expert_m0_tok if half is None else half
    )  # tokens per expert at which a tile is half full; narrow batches get narrower tiles, down to TILE rows
    flop = 2 * each * (routed + touched * min(half, max(TILE, routed / touched)))
    n_bytes = touched * each * scene.weight_bytes + 2 * routed * m.d_expert_in * ACT
    clock.kernel(scene.rate.experts, 1, flop, n_bytes, m.n_moe * times)
    _matrix(clock, scene, 2 if m.shared else 1, m.shared / lay.n_tp + m.router + m.latent, n_tok, m.n_moe * times)
    if lay.n_cp * lay.n_dp == 1:
        return  # every rank holds the tokens: the combine is the reduction over the tensor-parallel group
    wire = m.n_moe * wire_times
    for element in (scene.send_bytes, ACT):
        clock.send(dispatch(n_tok / (holders or lay.n_tp), m.k, m.d_expert_in, element, lay.n_ep, chip, lay.n_etp, once), wire)
    received = n_group * min(m.k, lay.n_ep) / lay.n_ep
    clock.send(all_reduce(received * m.d_expert_in * ACT, lay.n_etp, chip), wire)
    clock.send(half_reduce(n_tok * m.d * ACT, holders or lay.n_tp, chip, 1), wire)


def _tensor_reductions(clock, scene, lay, n_tok, times):
    m = scene.m
    blocks = sum(x.n_layers for x in m.mixers.values()) + m.n_dense + (m.n_moe if lay.n_cp * lay.n_dp == 1 else 0)
    clock.send(all_reduce(n_tok * m.d * ACT, lay.n_tp, scene.chip), blocks * times)


def _glue(clock, scene, n_tok, times):
    n = scene.chip.elementwise_n
    clock.kernel(scene.rate.glue, n, 0.0, n * 2 * n_tok * scene.m.d * ACT, scene.m.n_layers * times, lends=False)


def _head(clock, scene, lay, n_tok, times=1.0):
    _matrix(clock, scene, 1, scene.m.table / lay.n_tp, n_tok, times, ends=0.0, lends=False)


def _hops(clock, scene, lay, n_tok, times):
    if lay.n_pp > 1:
        stride = lay.n_tp * lay.n_cp * lay.n_dp
        clock.send(stage_hop(n_tok / lay.n_tp * scene.m.d * ACT, stride, scene.chip), (lay.n_pp - 1) * times)


def pairs(new, prefix, span=math.inf):
    """(query, key) pairs of causal attention in which no query sees more than `span` keys."""

    def triangle(n):
        return n * (n + 1) / 2 if n <= span else span * (span + 1) / 2 + (n - span) * span

    return triangle(new + prefix) - triangle(prefix)


def _key_bytes(x):
    """One token's index key in one layer: fp8 elements and one fp32 scale."""
    return x.index_elems + 4.0 if x.index_elems else 0.0


def _kv_ways(x, lay):
    """Ranks of one tensor-parallel group that hold different keys and values."""
    return min(lay.n_tp, max(x.shards, 1))


def _context_exchange(clock, scene, lay, seen, times):
    """Context parallelism: each rank gathers the 16-bit keys and values of all tokens seen; a recurrence hands over a small state."""
    for name, x in scene.m.mixers.items():
        if name != "linear":
            whole = seen * x.elems / _kv_ways(x, lay) * ACT
            clock.send(half_reduce(whole, lay.n_cp, scene.chip, lay.n_tp), x.n_layers * times)


def _causal_attention(clock, scene, lay, name, x, n_seq, new, prefix, times, launches=1, s0=None):
    ways, total = lay.n_tp * lay.n_cp, new + prefix
    ramp = 1 + (scene.chip.prefill_s0_tok if s0 is None else s0) / max(min(total, x.span), 1.0)
    index = pairs(new, prefix) * x.index_pair * lay.n_tp  # every tensor-parallel rank runs all of the indexer
    flop = pairs(new, prefix, x.span) * x.pair_prefill * ramp + index + new * x.state_flop
    n_bytes = total * scene.cached[name] / _kv_ways(x, lay) / lay.n_cp
    clock.kernel(scene.rate.prefill, launches, n_seq * flop / ways, n_seq * n_bytes, x.n_layers * times)


def _cache_attention(clock, scene, lay, name, x, n_seq, context, q, times):
    """New tokens against the cache; the shards of a context sum their outputs, each head with its softmax weight."""
    keys, tp, cp = min(context, x.span), lay.n_tp, lay.n_cp
    n_bytes = keys * scene.cached[name] / _kv_ways(x, lay) / cp + context * _key_bytes(x) / cp + 2 * x.state_bytes / tp
    flop = q * (keys * x.pair_decode / tp / cp + context * x.index_pair / cp + x.state_flop / tp)
    clock.kernel(scene.rate.cache, 1, n_seq * flop, n_seq * n_bytes, x.n_layers * times, lends=False)
    if name != "linear":
        partial = n_seq * q * x.heads / tp * (x.d_v + 1) * ACT
        clock.send(all_reduce(partial, cp, scene.chip, tp), x.n_layers * times)


# --- memory ----------------------------------------------------------------------------------------------------------------


def _fullest_share(scene, lay):
    return math.ceil(scene.m.n_layers / lay.n_pp) / scene.m.n_layers


def _block_weights(scene, lay):
    """(dense, expert) parameters of all layers on one device, were it to hold them all; without the norms of the FFNs."""
    m = scene.m
    dense = sum(x.n_layers * _mixer_weights(x, lay) for x in m.mixers.values()) + m.n_dense * m.dense / lay.n_tp
    if not m.n_moe:
        return dense, 0.0
    dense += m.n_moe * (m.shared / lay.n_tp + m.router + m.latent)
    return dense, m.n_moe * math.ceil(m.n_experts / lay.n_ep) * m.expert / lay.n_etp


def _tables(scene, lay):
    both = scene.m.table * (1 if scene.m.tied else 2)
    return (both if lay.n_pp == 1 else scene.m.table) / lay.n_tp


def serving_weights(scene, lay):
    return (_fullest_share(scene, lay) * sum(_block_weights(scene, lay)) + _tables(scene, lay)) * scene.weight_bytes


def _kept_tok(name, x, held):
    """Tokens whose cache a layer keeps: the newest of a window; a sparse selection needs all to choose from."""
    return min(held, x.span) if name == "window" else held


def cache_of_sequence(scene, held):
    """Bytes that a sequence of `held` tokens has in all layers together."""
    return sum(
        x.n_layers * (_kept_tok(name, x, held) * (scene.cached[name] + _key_bytes(x)) + x.state_bytes) for name, x in scene.m.mixers.items()
    )


def kv_cache(scene, lay, n_seq, held):
    total = 0.0
    for name, x in scene.m.mixers.items():
        kept = _kept_tok(name, x, held)
        per_tok = scene.cached[name] / _kv_ways(x, lay) / lay.n_cp + _key_bytes(x) / lay.n_cp
        total += math.ceil(x.n_layers / lay.n_pp) * (kept * per_tok + x.state_bytes / lay.n_tp)  # whole layers of each kind
    return n_seq * total


def _serving_memory(scene, lay, n_seq, held, n_tok):
    m = scene.m
    widest = max(m.d_ff / lay.n_tp, m.k * m.d_expert / lay.n_etp)
    working = n_tok * ACT * (4 * m.d + 3 * widest) + min(n_tok, 256) * m.vocab / lay.n_tp * 4
    return serving_weights(scene, lay) + kv_cache(scene, lay, n_seq, held) + working + scene.chip.reserve_bytes


def _fits(scene, used):
    return used <= scene.chip.hbm_bytes * scene.chip.usable_frac


# --- phases ----------------------------------------------------------------------------------------------------------------


def decode(scene, lay, batch, context, q=1.0) -> Record:
    """One step of `batch` sequences in one replica; pipeline stages hold one micro-batch each and wait for the fullest stage."""
    m, chip, clock = scene.m, scene.chip, Clock()
    per_rank = math.ceil(batch / lay.n_dp)
    n_seq = math.ceil(per_rank / lay.n_pp)
    n_tok, n_group = n_seq * q, max(batch / (lay.n_edp * lay.n_pp), 1.0) * q
    pace = lay.n_pp * math.ceil(m.n_layers / lay.n_pp) / m.n_layers
    touched = experts_of_fullest(m.n_experts, m.k, n_group, lay.n_ep) if m.n_moe else 0.0
    mean = experts_of_mean(m.n_experts, m.k, n_group, lay.n_ep) if m.n_moe else 0.0
    for name, x in m.mixers.items():
        _projections(clock, scene, lay, x, n_tok, pace)
        _cache_attention(clock, scene, lay, name, x, n_seq, context, q, pace)
    _dense(clock, scene, lay, n_tok, pace)
    _experts(clock, scene, lay, n_tok, n_group, touched, pace, pace, holders=lay.n_tp * lay.n_cp)
    _tensor_reductions(clock, scene, lay, n_tok, pace)
    _glue(clock, scene, n_tok, pace)
    _head(clock, scene, lay, n_tok)
    _hops(clock, scene, lay, n_tok, 1)
    clock.wait(chip.step_overhead_s + chip.sequence_overhead_s * n_seq)

    def read(experts):
        blocks = _block_weights(scene, lay)[0] + m.n_moe * experts * m.expert / lay.n_etp
        return (_fullest_share(scene, lay) * blocks + m.table / lay.n_tp) * scene.weight_bytes

    return Record(
        clock=clock, step_s=clock.time, per_rank=per_rank, n_seq=n_seq, touched=touched,
        weight_bytes=read(touched), weight_bytes_mean=read(mean),
    )  # fmt: skip


def drafting(scene, lay, q, step_s):
    """Seconds to propose q - 1 drafts: each runs one decoder layer and reads the LM head (DeepSeek-V3, 2412.19437, section 2.2)."""
    head_s = scene.rate.gemm.t0 + scene.m.table / lay.n_tp * scene.weight_bytes / scene.rate.gemm.bytes_per_s
    return (q - 1) * (step_s / scene.m.n_layers + head_s)


def decode_memory(scene, lay, batch, held, q=1.0, chunk=0.0):
    per_rank = math.ceil(batch / lay.n_dp)
    return _serving_memory(scene, lay, per_rank, held, max(math.ceil(per_rank / lay.n_pp) * q, chunk))


def prefill(scene, lay, new, prefix=0.0) -> Record:
    """One prompt per attention rank, chunk after chunk; logits of the last position."""
    m, chip, clock = scene.m, scene.chip, Clock()
    chunks = max(math.ceil(new / CHUNK), 1)
    n_tok, n_group = new / chunks / lay.n_cp, new / chunks * lay.n_dp / lay.n_edp
    touched = experts_of_fullest(m.n_experts, m.k, n_group, lay.n_ep) if m.n_moe else 0.0
    pace = lay.n_pp * math.ceil(m.n_layers / lay.n_pp) / m.n_layers
    all_chunks = chunks * pace
    for name, x in m.mixers.items():
        _projections(clock, scene, lay, x, n_tok, all_chunks)
        _causal_attention(clock, scene, lay, name, x, 1, new, prefix, pace, chunks)
    _dense(clock, scene, lay, n_tok, all_chunks)
    _experts(clock, scene, lay, n_tok, n_group, touched, all_chunks, all_chunks)
    _tensor_reductions(clock, scene, lay, n_tok, all_chunks)
    _glue(clock, scene, n_tok, all_chunks)
    _context_exchange(clock, scene, lay, prefix + sum((i + 1) * new / chunks for i in range(chunks)) / chunks, all_chunks)
    _head(clock, scene, lay, 1)
    _hops(clock, scene, lay, n_tok, chunks)
    clock.wait(chip.step_overhead_s * chunks)
    flop_attention = sum(
        x.n_layers * (pairs(new, prefix, x.span) * x.pair_prefill + pairs(new, prefix) * x.index_pair + new * x.state_flop)
        for x in m.mixers.values()
    )
    used = _serving_memory(scene, lay, 1, new + prefix, n_tok)
    return Record(
        clock=clock, forward_s=clock.time, ttft_s=clock.time * (chunks + lay.n_pp - 1) / (chunks * lay.n_pp),
        tok_per_s=lay.n_dp * lay.n_pp * new / clock.time, prompts_per_s=lay.n_dp * lay.n_pp / clock.time,
        chunk_tok=new / chunks, n_chunks=chunks,
        flop_matmul=2 * m.matmul * new + 2 * m.table, flop_attention=flop_attention, memory_bytes=used, fits=_fits(scene, used),
    )  # fmt: skip


def train(scene, lay, job) -> Record:
    """One optimizer step.  job: seq_tok, micro_batch, global_batch, recompute (0 none, 1 selective, 2 full), zero, n_interleave."""
    m, chip, clock = scene.m, scene.chip, Clock()
    fit = chip.training
    share, again = _fullest_share(scene, lay), 1.0 if job.recompute == 2 else 0.0
    n_tok = job.micro_batch * job.seq_tok / lay.n_cp
    gemm, wire = share * (3 + again), share * (2 + again)
    for name, x in m.mixers.items():
        _projections(clock, scene, lay, x, n_tok, gemm)
        passes = (1 + again + 2.5 / fit.attention_backward) * (1 + fit.attention_half / max(x.d_v, 1.0))
        _causal_attention(clock, scene, lay, name, x, job.micro_batch, job.seq_tok, 0.0, share * passes, s0=fit.attention_s0_tok)
    n_group = job.micro_batch * job.seq_tok * lay.n_dp / lay.n_edp
    _dense(clock, scene, lay, n_tok, gemm)
    exposed = wire * (1 - fit.ep_overlap * fit.ep_hidden)
    _experts(clock, scene, lay, n_tok, n_group, m.n_experts / lay.n_ep, gemm, exposed, 1.0, fit.expert_m0_tok, once=fit.ep_once == 1)
    _around_blocks(clock, scene, lay, n_tok, wire)
    _context_exchange(clock, scene, lay, job.micro_batch * job.seq_tok, share * 2)
    _between_gemms(clock, scene, lay, n_tok, share, 3.5 if job.recompute else 2.5)
    _loss(clock, scene, lay, n_tok)
    dense, experts = _stage_weights(scene, lay)
    clock.kernel(scene.rate.glue, 0, 0.0, 2 * GRADIENT * (dense + experts))  # fp32 gradient sums, read and written
    _hops(clock, scene, lay, n_tok, 2 / max(lay.n_pp - 1, 1) * job.n_interleave)
    clock.wait(_launches(m, fit, share, again, clock.time))
    count = job.global_batch / (lay.n_dp * job.micro_batch)
    exchange = _gradients(scene, lay, job, count, dense, experts)
    hidden = min(chip.dp_overlap * exchange, clock.time * (count if job.zero == 3 else 1))
    shards = (lay.n_dp * lay.n_cp, lay.n_edp) if job.zero >= 1 else (1, 1)
    update = UPDATE_TRAFFIC * (dense / shards[0] + experts / shards[1]) / scene.rate.glue.bytes_per_s
    bubble = clock.time * (lay.n_pp - 1) / job.n_interleave
    step_s = count * clock.time + bubble + exchange - hidden + update + fit.step_s
    used = sum(train_memory(scene, lay, job, count).values())
    n_devices = lay.n_tp * lay.n_cp * lay.n_dp * lay.n_pp
    mtbf = FAILURE_DEVICE_S / n_devices
    half = CHECKPOINT_S / (2 * mtbf)
    every = math.sqrt(2 * CHECKPOINT_S * mtbf) * (1 + math.sqrt(half) / 3 + half / 9) - CHECKPOINT_S if half < 1 else mtbf
    goodput = every / (mtbf * math.exp(RESTART_S / mtbf) * (math.exp((every + CHECKPOINT_S) / mtbf) - 1))
    s_per_tok = step_s / (job.global_batch * job.seq_tok) / goodput
    return Record(
        clock=clock, step_s=step_s, exchange_s=exchange - hidden, update_s=update, bubble_s=bubble, memory_bytes=used,
        fits=_fits(scene, used), s_per_tok=s_per_tok, device_s_per_tok=s_per_tok * n_devices, flop=_model_flop(scene, job),
    )  # fmt: skip


def _launches(m, fit, share, again, device_s):
    """Seconds that the device waits for the host: pass by pass where experts report their tokens, else over the whole micro-batch."""
    one_pass = share * (1 - fit.graphed) * (m.n_layers * fit.host_s + m.n_moe * fit.host_moe_s)
    if m.n_moe == 0:
        return max(one_pass * (2 + again) - device_s, 0.0)
    forward, back = device_s / (3 + again), device_s * (2 + again) / (3 + again)
    return max(one_pass - forward, 0.0) + max(one_pass * (1 + again) - back, 0.0)


def _around_blocks(clock, scene, lay, n_tok, times):
    """TP: gather before and scatter after every attention and dense FFN, partly hidden; ranks wait for the last one once."""
    if lay.n_tp == 1:
        return
    m, fit = scene.m, scene.chip.training
    blocks = sum(x.n_layers for x in m.mixers.values()) + m.n_dense + (m.n_moe if lay.n_cp * lay.n_dp == 1 else 0)
    latency, transfer = half_reduce(n_tok * m.d * ACT, lay.n_tp, scene.chip, 1)
    clock.send((2 * latency + fit.sync_s, 2 * transfer * (1 - fit.tp_overlap)), blocks * times)


def _between_gemms(clock, scene, lay, n_tok, share, passes):
    """Kernels between the GEMMs of a training step, sharded over TP: norms, residuals, rotary, activation, sorting of the tokens of
    experts; casts to narrow operands; softmax and loss on the logits."""
    m, fit = scene.m, scene.chip.training
    streams = 2 * (1 + 1) + 2 * (2 + 1)  # two norms read and write the stream, two additions read two and write one
    moved = m.n_layers * streams * m.d + 2 * sum(x.n_layers * (x.heads + x.shards) * x.d_qk for x in m.mixers.values())
    moved += 3 * (m.n_dense * m.d_ff + m.n_moe * (m.k * m.d_expert + m.d_shared)) + 4 * m.n_moe * m.k * m.d_expert_in
    mine = n_tok / lay.n_tp
    clock.kernel(scene.rate.glue, 8 * m.n_layers * passes, 0.0, moved * ACT * mine * fit.traffic * passes, share)
    if scene.weight_bytes < ACT and scene.chip.has_8_bit:
        operands = 4 * m.d * m.n_layers + 2 * m.n_moe * m.k * m.d_expert_in + m.matmul / m.d
        clock.kernel(scene.rate.glue, 0, 0.0, fit.casts * operands * (ACT + 2 * scene.weight_bytes) * mine, share)


def _loss(clock, scene, lay, n_tok):
    """Head and loss of the last stage, as far as the layers that it lacks do not make up for them."""
    m, columns, most = scene.m, scene.m.table / lay.n_tp, math.ceil(scene.m.n_layers / lay.n_pp)
    head = 2 * n_tok * columns, columns * ACT + n_tok * ACT * columns / m.d
    loss = 4 * n_tok / lay.n_tp * m.vocab * 4.0 * scene.chip.training.traffic
    alone = Clock()
    alone.kernel(scene.rate.head, 1, *head, 3)
    alone.kernel(scene.rate.glue, 4, 0.0, loss)
    lacking = (most - max(m.n_layers - (lay.n_pp - 1) * most, 0)) / most
    shown = max(alone.time - lacking * clock.time, 0.0) / alone.time
    clock.kernel(scene.rate.head, 1, *head, 3 * shown)
    clock.kernel(scene.rate.glue, 4, 0.0, loss, shown)


def _stage_weights(scene, lay):
    dense, experts = _block_weights(scene, lay)
    return _fullest_share(scene, lay) * dense + _tables(scene, lay), _fullest_share(scene, lay) * experts


def _gradients(scene, lay, job, count, dense, experts):
    """Reduce-scatter of fp32 gradients and gather of 16-bit weights; ZeRO-3 gathers twice and scatters per micro-batch, in 16 bit."""
    per_param = {0: 2 * GRADIENT, 1: GRADIENT + ACT, 2: GRADIENT + ACT, 3: count * 3 * ACT}[int(job.zero)]
    total = sum(half_reduce(per_param * dense, lay.n_dp * lay.n_cp, scene.chip, lay.n_tp))
    if experts:
        total += sum(half_reduce(per_param * experts, lay.n_edp, scene.chip, lay.n_etp * lay.n_ep))
    return total


def _model_flop(scene, job):
    m, s = scene.m, job.seq_tok
    attention = sum(
        x.n_layers * (pairs(s, 0, x.span) / s * x.pair_prefill + (s + 1) / 2 * x.index_pair + x.state_flop) for x in m.mixers.values()
    )
    return 3 * job.global_batch * s * (2 * (m.matmul + m.table) + attention)


def _kept(scene, lay, recompute):
    """Activation bytes of one token in one layer on one device (after arXiv 2205.05198, flash attention, sequence parallel)."""
    m = scene.m
    if recompute == 2:
        return ACT * m.d / lay.n_tp
    heads = sum(x.n_layers * (x.heads * (x.d_qk + x.d_v) + 2 * x.shards * x.d_qk) for x in m.mixers.values()) / m.n_layers
    moe = m.n_moe / m.n_layers
    dense, routed = (1 - moe) * m.d_ff, moe * (m.k * m.d_expert + m.d_shared)
    wide = 2 * m.d + heads  # norm inputs; queries, keys, values and the attention's output; inputs of the activation:
    wide += dense * (m.dense_matmul / max(m.d * m.d_ff, 1.0) - 1) + routed * (m.expert_matmul / max(m.d_expert_in * m.d_expert, 1.0) - 1)
    operands = moe * m.k * m.d + (2 * m.d + dense + routed if recompute == 0 else 0.0)
    return (ACT * wide + min(scene.weight_bytes, ACT) * operands) / lay.n_tp


def train_memory(scene, lay, job, count) -> dict:
    """Bytes by class on the first stage, which holds the most micro-batches in flight (1F1B, arXiv 2104.04473)."""
    dense, experts = _stage_weights(scene, lay)

    def sharded(stage):
        return dense / (lay.n_dp * lay.n_cp) + experts / lay.n_edp if job.zero >= stage else dense + experts

    flying = lay.n_pp if job.n_interleave == 1 else lay.n_pp + (lay.n_pp - 1) / job.n_interleave
    n_tok = job.micro_batch * job.seq_tok / lay.n_cp
    stored_layers = min(flying, max(count, 1)) * math.ceil(scene.m.n_layers / lay.n_pp)
    live = n_tok * _kept(scene, lay, 0) if job.recompute else 0.0
    logits = n_tok * scene.m.vocab / lay.n_tp * 6
    return {
        "weights": ACT * sharded(3), "gradients": GRADIENT * sharded(2), "optimizer": OPTIMIZER * sharded(1),
        "activations": stored_layers * n_tok * _kept(scene, lay, job.recompute) + live + logits, "reserve": scene.chip.reserve_bytes,
    }  # fmt: skip
