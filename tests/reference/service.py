"""Traffic, colocation and fleet of one configuration in plain Python, and one whole flat design as a single call."""

from __future__ import annotations

import math
from types import SimpleNamespace as Record

from reference import scalar

POD = 144  # devices of the largest domain that is rented whole; a larger one is let by the slice
BUSIEST = 0.98  # utilisation at which the queue is cut off


def progress(t):
    """(mean, variance) of the answer tokens behind a sequence seen in flight: a length-biased lognormal length L, uniformly done.

    L of an answer has E[L^m] = osl^m (1 + cv^2)^(m (m - 1) / 2); seen in flight E[X^m] = E[L^(m + 1)] / ((m + 1) E[L]).
    """
    growth = 1 + (t.osl_sd_tok / max(t.osl_tok, 1.0)) ** 2
    first, second = (t.osl_tok**m * growth ** (m * (m + 1) / 2) / (m + 1) for m in (1, 2))
    return first, second - first**2


def held_tokens(t, n_seq):
    """Cache tokens per sequence at the wanted percentile of the sum over the sequences of a rank."""
    mean, variance = progress(t)
    return t.isl_tok + mean + t.occupancy_z * math.sqrt((t.isl_sd_tok**2 + variance) / max(n_seq, 1.0))


def queue(t, service_s, busy, servers=1):
    """Mean wait of an M/G/c queue: that with exponential service, T rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)) (Sakasegawa 1977), times
    (1 + cv^2)/2 for prompts that spread like their lengths (Pollaczek-Khinchine for c = 1)."""
    busy = min(busy, BUSIEST)
    exponential_s = service_s * busy ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - busy))
    return 0.5 * (1 + (t.isl_sd_tok / t.isl_tok) ** 2) * exponential_s


def stall(t, n_seq, forward_s, fixed_s, slack_s, n_chunks):
    """Seconds that prompts add to the mean step: all of their time, or, chunked, what is left of a chunk that shares the launches
    of a step and fills its waiting time; at most one chunk per step finds that room."""
    prompts = n_seq * t.accepted_tok / t.osl_tok
    if not t.chunked:
        return prompts * forward_s
    chunks = prompts * n_chunks
    room = slack_s + fixed_s / n_chunks
    return max(chunks * forward_s / n_chunks - min(chunks, 1.0) * room, 0.0)


def fleet(t, scene, tok_per_s, n_devices) -> Record:
    """Whole replicas for the peak; the devices of an occupied domain are all paid, those of a pod one by one."""
    chip, domain = scene.chip, scene.chip.scale_up_size
    n_replicas = math.ceil(t.demand_tok_per_s * scene.tok_per_text * t.peak_to_mean / tok_per_s)
    if domain > POD:
        charged = n_replicas * n_devices
    elif n_devices <= domain:
        charged = math.ceil(n_replicas / (domain // n_devices)) * domain
    else:
        charged = n_replicas * math.ceil(n_devices / domain) * domain
    return Record(
        n_replicas=n_replicas, n_devices=charged, usd_per_tok=charged * chip.usd_per_s / t.demand_tok_per_s,
        reference_usd_per_tok=charged * chip.reference_usd_per_s / t.demand_tok_per_s,
        j_per_tok=charged * chip.all_in_w / t.demand_tok_per_s,
    )  # fmt: skip


def colocated(scene, lay, per_rank, t) -> Record:
    """Prefill and decode on one pool: TPOT with interference, TTFT with the wait for half a step and for other prompts, memory
    with a prompt chunk, fleet and price."""
    batch = per_rank * lay.n_dp
    pre = scalar.prefill(scene, lay, max(t.isl_tok - t.prefix_tok, 1.0), t.prefix_tok)
    out = scalar.decode(scene, lay, batch, t.isl_tok + progress(t)[0], t.q_tok)
    step_s = out.step_s + scalar.drafting(scene, lay, t.q_tok, out.step_s)
    wait = stall(t, per_rank / lay.n_pp, pre.forward_s, pre.clock.fixed, out.clock.slack, pre.n_chunks)
    tpot_s = (step_s + wait) / t.accepted_tok
    busy = per_rank * t.accepted_tok / t.osl_tok * pre.forward_s / lay.n_pp / (step_s + wait)
    used = scalar.decode_memory(scene, lay, batch, held_tokens(t, per_rank), t.q_tok, pre.chunk_tok)
    capacity = scene.chip.hbm_bytes * scene.chip.usable_frac
    rows = fleet(t, scene, batch / tpot_s, lay.n_tp * lay.n_cp * lay.n_dp * lay.n_pp)
    return Record(
        tpot_s=tpot_s, step_s=step_s, tok_per_s=batch / tpot_s, ttft_s=pre.ttft_s + 0.5 * step_s + queue(t, pre.forward_s / lay.n_pp, busy),
        prefill_busy_frac=busy, memory_bytes=used, fits=used <= capacity, prefill=pre, **vars(rows),
    )  # fmt: skip


def prefill_pool(scene, lay, t) -> Record:
    """Prompts on devices of their own: they queue for a rank, and the cache travels to the decode pool over the NICs of one rank's
    tensor-parallel group."""
    pre = scalar.prefill(scene, lay, max(t.isl_tok - t.prefix_tok, 1.0), t.prefix_tok)
    tok_per_s = pre.prompts_per_s * t.osl_tok
    rows = fleet(t, scene, tok_per_s, lay.n_tp * lay.n_cp * lay.n_dp * lay.n_pp)
    busy = t.demand_tok_per_s * scene.tok_per_text / (rows.n_replicas * tok_per_s)
    queue_s = queue(t, pre.forward_s / lay.n_pp, busy, rows.n_replicas * lay.n_dp)  # one queue for the ranks of all replicas
    send_s = scalar.cache_of_sequence(scene, t.isl_tok) / (lay.n_tp * scene.chip.scale_out.bytes_per_s)
    ttft_s = pre.ttft_s + queue_s + send_s
    return Record(ttft_s=ttft_s, memory_bytes=pre.memory_bytes, fits=pre.fits, **vars(rows))


def decode_pool(scene, lay, per_rank, t) -> Record:
    """Answers on devices of their own: no prompt lengthens a step or needs working memory."""
    out = scalar.decode(scene, lay, per_rank * lay.n_dp, t.isl_tok + progress(t)[0], t.q_tok)
    step_s = out.step_s + scalar.drafting(scene, lay, t.q_tok, out.step_s)
    tpot_s = step_s / t.accepted_tok
    used = scalar.decode_memory(scene, lay, per_rank * lay.n_dp, held_tokens(t, per_rank), t.q_tok)
    rows = fleet(t, scene, per_rank * lay.n_dp / tpot_s, lay.n_tp * lay.n_cp * lay.n_dp * lay.n_pp)
    fits = used <= scene.chip.hbm_bytes * scene.chip.usable_frac
    return Record(tpot_s=tpot_s, step_s=step_s, ttft_s=0.5 * step_s, memory_bytes=used, fits=fits, **vars(rows))


def evaluate_flat_design(
    architecture: dict, precision: dict, train_chip, serve_chip, train_layout, job, serve_layout, per_rank, traffic, train_bits=16
) -> Record:
    """One flat design: a training step, a prompt and a decode step, each with one layout, timed, with memory and price.

    Chips and layouts are nested namespaces of floats; `job` as in scalar.train; `traffic` has the fields of service.traffic.Traffic.
    """
    learn = scalar.Scene(architecture, train_chip, {"weight_bits": train_bits, "kv_bits": 16, "act_bits": train_bits}, training=True)
    serve = scalar.Scene(architecture, serve_chip, precision)
    return Record(train=scalar.train(learn, train_layout, job), serve=colocated(serve, serve_layout, per_rank, traffic))
