"""The serving unit: prefill and decode on one pool (colocated) or on two pools joined by a KV transfer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import memory
from codesign.physics.experts import touched_fullest
from codesign.physics.layout import Layout, fits_shape
from codesign.physics.operators import Scene, index_key_bytes
from codesign.physics.phases import decode, prefill
from codesign.service import batching
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.units.candidates import Grid


@dataclass
class Pairs:
    """Design-layout pairs that passed the shape and weight checks, and what was rejected before timing."""

    design: np.ndarray
    layout: np.ndarray
    n_candidates: int


def feasible_pairs(scene: Scene, grid: Grid, n: int, paired: bool = False) -> Pairs:
    """Cheap feasibility first: degrees divide the model, weights leave room on the fullest device.  scene of n designs, grid (L,).

    `paired`: design i is tried with layout i only (flat search) instead of with all of them.
    """
    domain = scene.chip.scale_up_size
    side = scene if paired else scene.column()
    limit = domain if paired else np.reshape(domain, (-1, 1))
    ok = fits_shape(grid.layout, side.census)
    need = memory.serving_weights(side, grid.layout) + side.chip.reserve_bytes
    ok = ok & (need <= side.chip.hbm_bytes * side.chip.usable_frac) & (grid.layout.n_tp <= limit)
    if paired:
        here = np.flatnonzero(np.broadcast_to(ok, (n,)))
        return Pairs(here, here, n)
    design, layout = np.nonzero(np.broadcast_to(ok, (n, grid.layout.n_tp.size)))
    return Pairs(design, layout, n * grid.n_rows)


class ExpertTable:
    """Experts read by the fullest device, computed once per distinct (E, k) and (ep, tokens) and looked up per pair.

    tokens_per_group (B, L) and key (L,): layouts with equal key share an entry.
    """

    def __init__(self, scene: Scene, layout: Layout, tokens_per_group, key) -> None:
        ffn = scene.census.ffn
        shape = np.stack(np.broadcast_arrays(np.atleast_1d(ffn.n_experts), np.atleast_1d(ffn.n_active_experts)), axis=1)
        designs, d_code = np.unique(shape, axis=0, return_inverse=True)
        _, first, l_code = np.unique(key, return_index=True, return_inverse=True)
        table = touched_fullest(
            designs[:, 0, None, None], designs[:, 1, None, None], tokens_per_group[None, :, first], layout.n_ep[None, None, first]
        )
        self._flat = np.ascontiguousarray(np.moveaxis(table, 1, 0)).reshape(table.shape[1], -1)  # (B, Ud * Ul)
        self._design = np.ravel(d_code) * first.size
        self._layout = np.ravel(l_code)

    def rows(self, design, pair):
        """(B, N) entries of the pairs."""
        base = self._design[design] if self._design.size > 1 else self._design[0]
        return np.take(self._flat, base + self._layout[pair], axis=1)


def decode_table(scene: Scene, grid: Grid, traffic: Traffic) -> ExpertTable | None:
    """Experts read per decode step for every (design, layout, sequences per rank)."""
    if not scene.has_moe():
        return None
    layout = grid.layout
    ranks = layout.n_dp / (layout.n_edp * layout.n_pp * layout.n_pieces)
    tokens = np.maximum(grid.leading[:, None] * ranks, 1.0) * traffic.q_tok
    return ExpertTable(scene, layout, tokens, layout.n_ep * 1e6 + ranks)


def prefill_table(scene: Scene, grid: Grid, traffic: Traffic) -> ExpertTable | None:
    """Experts read per prefill chunk for every (design, layout)."""
    if not scene.has_moe():
        return None
    layout = grid.layout
    tokens = np.broadcast_to(prefill.group_tokens(layout, prompt_of(traffic)), (1, layout.n_tp.size))
    return ExpertTable(scene, layout, tokens, layout.n_ep * 1e6 + layout.n_dp / (layout.n_edp * layout.n_pieces))


def time_decode(scene: Scene, layout: Layout, per_rank, traffic: Traffic, touched, pre=None) -> dict[str, np.ndarray]:
    """Decode rows: scene and layout (N,), sequences per rank (B, 1), touched (B, N); `pre`: prefill rows of the same pool.

    tpot = (step + stall) / accepted, stall from `service.interference`; memory at the 99th percentile of occupancy, with
    the working set of a prefill chunk where prompts share the pool.
    """
    load = decode.Load(per_rank * layout.n_dp, service.mean_context(traffic, per_rank), traffic.q_tok)
    ledger = decode.step(scene, layout, load, touched)
    step_s, stall_s, chunk_tok, busy_s = ledger.time_s + draft_s(scene, layout, traffic.q_tok, ledger.time_s), 0.0, 0.0, 0.0
    if pre is not None:
        n_chunks, chunk_tok = prompt_of(traffic).n_chunks, chunk_of(traffic)
        stall_s = service.interference(per_rank / layout.n_pp, traffic, pre["forward_s"], pre["fixed_s"], ledger.slack_s, n_chunks)
        busy_s = per_rank * traffic.accepted_tok / traffic.osl_tok * pre["forward_s"] / layout.n_pp
    tpot_s = (step_s + stall_s) / traffic.accepted_tok
    used, fits = decode_memory(scene, layout, per_rank, traffic, chunk_tok)
    rows = {
        "tpot_s": tpot_s,
        "step_s": step_s,
        "tok_per_s": load.batch / tpot_s,
        "prefill_busy_frac": busy_s / (step_s + stall_s),
        "fits": fits,
        "memory_bytes": used,
    }
    return rows | static_rows(layout, per_rank, traffic, step_s, pre) if pre is not None and traffic.batching == batching.STATIC else rows


def decode_memory(scene: Scene, layout: Layout, per_rank, traffic: Traffic, chunk_tok=0.0):
    """Bytes on the fullest device at the 99th percentile of occupancy, and whether they fit."""
    load = decode.Load(per_rank * layout.n_dp, 0.0, traffic.q_tok)
    used = sum(decode.memory_classes(scene, layout, load, service.held_tokens(traffic, per_rank), chunk_tok).values())
    return used, used <= scene.chip.hbm_bytes * scene.chip.usable_frac


def static_rows(layout: Layout, per_rank, traffic: Traffic, step_s, pre) -> dict[str, np.ndarray]:
    """What a padded batch that starts and ends together changes: tokens per second from the time of the whole batch [s], no stall in between,
    and a first token after half the running batch and the prompts of one's own."""
    batch_s, prompts_s = batching.static_batch_s(traffic, per_rank, step_s, pre["forward_s"] / layout.n_pp)
    tok_per_s = per_rank * layout.n_dp * traffic.osl_tok / batch_s
    wait_s = 0.5 * batch_s + prompts_s
    return {
        "tpot_s": step_s / traffic.accepted_tok,
        "tok_per_s": tok_per_s,
        "prefill_busy_frac": prompts_s / batch_s,
        "batch_wait_s": wait_s,
    }


def draft_s(scene: Scene, layout: Layout, q_tok, step_s):
    """Time to propose the drafts of one step: each is one layer's share of the step and a read of the LM head (an MTP module
    is one decoder layer that shares the head; DeepSeek-V3, arXiv 2412.19437 section 2.2).  0 without drafts."""
    n_draft = q_tok - 1.0
    if not np.any(np.asarray(n_draft) > 0):
        return 0.0
    head_s = scene.census.head_params / layout.n_tp * scene.weight_bytes / scene.rates.gemm.bytes_per_s + scene.rates.gemm.t0_s
    return n_draft * (step_s / scene.census.n_layers + head_s)


def prompt_of(traffic: Traffic) -> prefill.Prompt:
    return prefill.Prompt(np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0), traffic.prefix_tok)


def chunk_of(traffic: Traffic):
    """Tokens of one prefill chunk."""
    prompt = prompt_of(traffic)
    return prompt.new_tok / prompt.n_chunks


def time_prefill(scene: Scene, layout: Layout, traffic: Traffic, touched) -> dict[str, np.ndarray]:
    """Prefill rows (N,): forward time of one prompt per rank, TTFT without queueing, prompt tokens per second."""
    prompt = prompt_of(traffic)
    ledger = prefill.forward(scene, layout, prompt, touched)
    forward_s = ledger.time_s
    used, fits = prefill_memory(scene, layout, traffic)
    return {
        "forward_s": forward_s,
        "fixed_s": ledger.fixed_s,
        "ttft_s": prefill.ttft(forward_s, layout, prompt),
        "prompts_per_s": layout.n_dp * layout.n_pp / forward_s,
        "memory_bytes": used,
        "fits": fits,
    }


def prefill_memory(scene: Scene, layout: Layout, traffic: Traffic):
    """Bytes on the fullest device with one prompt per rank, and whether they fit."""
    used = sum(prefill.memory_classes(scene, layout, prompt_of(traffic)).values())
    return used, used <= scene.chip.hbm_bytes * scene.chip.usable_frac


def cache_bytes(scene: Scene, tok):
    """Bytes of the cache of `tok` tokens of one sequence, all layers: windows no longer than their span, states as they are."""
    total = 0.0
    for name, mixer, cached in scene.mixers():
        kept = np.minimum(tok, mixer.span_tok) if name == "window" else tok
        total = total + mixer.n_layers * (kept * (cached + index_key_bytes(mixer)) + mixer.state_bytes)
    return total


def kv_transfer_s(scene: Scene, layout: Layout, traffic: Traffic):
    """Seconds to send one prompt's cache from the prefill to the decode pool over the NICs of one prefill rank's TP group."""
    return cache_bytes(scene, traffic.isl_tok) / (layout.n_tp * scene.chip.scale_out.bytes_per_s)


def kept_prefix(scene: Scene, layout: Layout, traffic: Traffic):
    """(USD per output token, at the catalog's price, seconds of one load) of prefixes that wait for their next use.

    USD = bytes (w t + 2 / bandwidth x device price) / osl per request (`service.tiers`), w the tier's price or, in HBM, the device's rent per
    byte;  load = latency + bytes / (devices of a rank x bandwidth).
    """
    n_bytes, chip = cache_bytes(scene, traffic.prefix_tok) * (traffic.prefix_tok > 0), scene.chip

    def usd(usd_per_s):
        hold = traffic.keep_usd_per_byte_s + traffic.keep_in_hbm * usd_per_s / chip.hbm_bytes
        return n_bytes * (hold * traffic.reuse_s + 2.0 / traffic.keep_bytes_per_s * usd_per_s) / traffic.osl_tok

    n_devices = layout.n_tp * layout.n_cp * layout.n_pp
    load_s = (traffic.keep_latency_s + n_bytes / (n_devices * traffic.keep_bytes_per_s)) * (n_bytes > 0)
    return usd(chip.usd_per_s), usd(chip.reference_usd_per_s), load_s


def fleet(traffic: Traffic, replica_tok_per_s, n_devices, scene: Scene) -> dict[str, np.ndarray]:
    """Whole replicas and devices charged for the peak of the largest stage; devices and capacity held on average over the life; W, USD and
    J per mean output token (of the base vocabulary)."""
    chip = scene.chip
    capacity = replica_tok_per_s / scene.tok_per_text
    n_replicas = service.replicas(traffic, capacity)

    def charged(replicas):
        return service.charged_devices(replicas, n_devices, chip.scale_up_size)

    largest = charged(n_replicas)
    follows = traffic.stages.follows
    held, held_replicas = (service.over_life(traffic, capacity, f) for f in (charged, np.asarray)) if follows else (largest, n_replicas)
    return {
        "n_replicas": n_replicas,
        "n_devices": largest,
        "held_devices": held,
        "held_tok_per_s": held_replicas * capacity,
        "usd_per_tok": held * chip.usd_per_s / traffic.demand_tok_per_s,
        "reference_usd_per_tok": held * chip.reference_usd_per_s / traffic.demand_tok_per_s,
        "power_w": largest * chip.all_in_w,
        "j_per_tok": held * chip.all_in_w / traffic.demand_tok_per_s,
    }
