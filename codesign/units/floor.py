"""What no layout of a unit can beat: times, device-seconds and memory of whole families of layouts at once, always from below.

A family is all serving layouts with one n_tp and n_cp, with or without further ranks (n_dp); its members differ in n_dp, n_pp, n_etp and
n_ep.  What depends on n_tp, n_cp and the sequences x = batch per rank / n_pp of one stage is exact, by the operators of the phases.  The rest is
bounded: as few experts read as in any member, their exchange at its least, no sends between stages, stages that divide the layers evenly,
fractions of replicas.  Each operator's time rises with its FLOP, bytes and latency, so the sum lies below that of every member.

Legend: X values of x, A designs, G families; arrays (X, A, G).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import collectives, memory, operators
from codesign.physics.experts import touched_fullest
from codesign.physics.failures import goodput_frac
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout, fits_shape
from codesign.physics.operators import ACT_BYTES, Scene
from codesign.physics.phases import prefill, train
from codesign.service import batching
from codesign.service import traffic as service
from codesign.service.traffic import RENTED_WHOLE, Traffic
from codesign.units import serving
from codesign.units.candidates import Grid

ROUNDING = 1e-9  # relative: what a bound gives away so that rounding cannot put it above what it bounds


@dataclass(frozen=True)
class Families:
    """Layouts of a grid by (n_tp, n_cp, is there a second rank): `layout` (1, G), and which rows of the grid belong to each."""

    grid: Grid
    layout: Layout
    members: tuple[np.ndarray, ...]
    n_pp: np.ndarray  # (G,) most stages of a member
    n_experts_ways: np.ndarray  # (G,) most devices that the experts of a member are spread over
    n_ep: np.ndarray  # (G,) fewest expert ranks of a member

    @property
    def one(self) -> Layout:
        """One expert rank: tokens and experts are then given per device."""
        unit = np.float64(1.0)
        return Layout(self.layout.n_tp, self.layout.n_cp, self.layout.n_dp, unit, unit, unit, self.layout.n_edp)

    @property
    def spread(self) -> np.ndarray:
        """Whether a member has several attention ranks (1, G): experts are then exchanged between them."""
        return self.layout.n_cp * self.layout.n_dp > 1

    @property
    def devices(self) -> np.ndarray:
        """Devices of one attention rank and stage (1, G)."""
        return self.layout.n_tp * self.layout.n_cp


def families(grid: Grid) -> Families:
    """The families of a serving grid."""
    layout = grid.layout
    key = np.stack([layout.n_tp, layout.n_cp, np.where(layout.n_dp > 1, 2.0, 1.0)])
    rows, back = np.unique(key, axis=1, return_inverse=True)
    members = tuple(np.flatnonzero(np.ravel(back) == i) for i in range(rows.shape[1]))
    tp, cp, dp = (row[None, :] for row in rows)
    one = np.ones_like(tp)
    own = Layout(tp, cp, dp, one, one, one, tp * cp * dp)
    most = [[np.max(values[rows]) for rows in members] for values in (layout.n_pp, layout.n_ep * layout.n_etp)]
    return Families(grid, own, members, *(np.array(m) for m in most), np.array([np.min(layout.n_ep[rows]) for rows in members]))


def stage_sequences(grid: Grid) -> np.ndarray:
    """Distinct x = batch per rank / n_pp of the grid, rising. (X,)"""
    return np.unique(grid.leading[:, None] / np.unique(grid.layout.n_pp)[None, :])


def least_touched(scene: Scene, fam: Families, group_tok) -> tuple[np.ndarray, np.ndarray]:
    """(experts that the fullest device reads / n_etp, the least of each family (X, A, G); whether a member can be built (A, G)).

    group_tok: function of the ranks that share one copy of the experts, n_dp / n_edp (L,) -> tokens per expert group (X, L).
    """
    ffn, layout = scene.census.ffn, fam.grid.layout
    shape = np.stack(np.broadcast_arrays(np.ravel(ffn.n_experts), np.ravel(ffn.n_active_experts)), axis=1)
    kinds, back = np.unique(shape, axis=0, return_inverse=True)
    tok = group_tok(layout.n_dp / layout.n_edp)
    table = touched_fullest(kinds[:, 0, None, None], kinds[:, 1, None, None], tok[None], layout.n_ep[None, None, :]) / layout.n_etp
    whole = np.floor(kinds[:, 0, None] / layout.n_ep) == kinds[:, 0, None] / layout.n_ep  # (U, L)
    table = np.where(whole[:, None, :] | (kinds[:, 0, None, None] == 0), table, np.inf)
    least = np.stack([np.min(table[:, :, rows], axis=2) for rows in fam.members], axis=2)  # (U, X, G)
    can = np.isfinite(least[:, 0, :])
    least = np.moveaxis(np.where(np.isfinite(least), least, 0.0), 1, 0)
    back = np.ravel(back)
    return (least[:, back, :], can[back]) if kinds.shape[0] > 1 else (least, can)


def _experts(ledger: Ledger, scene: Scene, fam: Families, n_tok, own_tok, touched, holders, share=1.0) -> None:
    """Routed and shared experts and their exchange.  own_tok: tokens of the expert group per device, before routing to k experts.

    The exchange moves (1 - 1/n_ep) of its payload over both tiers at the same time: never faster than over the sum of their bandwidths.
    """
    ffn, chip, layout = scene.census.ffn, scene.chip, fam.layout
    skew = np.minimum(chip.token_imbalance, 1.0)
    operators.routed_experts(ledger, scene, fam.one, own_tok * skew, touched, share)
    operators.shared_experts(ledger, scene, layout, n_tok, share)
    repeat = ffn.n_moe_layers * share * fam.spread
    near, far = chip.scale_up, chip.scale_out
    latency = np.minimum(near.all_to_all_t0_s, far.all_to_all_t0_s) * (fam.n_ep > 1)
    rate = near.all_to_all * near.bytes_per_s + far.all_to_all * far.bytes_per_s
    payload = n_tok / holders * np.minimum(ffn.n_active_experts, fam.n_ep) * ffn.d_expert_in * (1.0 - 1.0 / fam.n_ep)
    for n_bytes in (scene.send_bytes, ACT_BYTES):
        ledger.network("expert exchange", latency, payload * n_bytes / rate, repeat=repeat)
    if np.any(holders > 1):
        ledger.network("TP all-gather", *collectives.shard_exchange(n_tok * scene.census.d_model * ACT_BYTES, holders, chip), repeat=repeat)


def decode_ledger(scene: Scene, fam: Families, x, traffic: Traffic, touched) -> Ledger:
    """One decode step of x sequences per rank and stage, from below.  scene and traffic (A, 1), x (X, 1, 1)."""
    ledger, layout = Ledger(), fam.layout
    n_seq = np.ceil(x)
    n_tok, context = n_seq * traffic.q_tok, service.mean_context(traffic, x)
    for _, mixer, cached in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok)
        operators.decode_attention(ledger, scene, layout, mixer, cached, n_seq, context, traffic.q_tok)
    if scene.has_dense_ffn():
        operators.dense_ffn(ledger, scene, layout, n_tok)
    if scene.has_moe():
        _experts(ledger, scene, fam, n_tok, x * traffic.q_tok / fam.devices, touched, fam.devices)
    operators.tensor_reductions(ledger, scene, layout, n_tok)
    operators.elementwise(ledger, scene, n_tok)
    operators.lm_head(ledger, scene, layout, n_tok)
    ledger.fixed("scheduler", scene.chip.step_overhead_s + scene.chip.sequence_overhead_s * n_seq)
    return ledger


def prefill_ledger(scene: Scene, fam: Families, traffic: Traffic, touched) -> Ledger:
    """One prompt per rank through all stages, from below. (A, G)"""
    ledger, layout, prompt = Ledger(), fam.layout, serving.prompt_of(traffic)
    chunks = prompt.n_chunks
    n_tok = prompt.new_tok / chunks / layout.n_cp
    for _, mixer, cached in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok, chunks)
        operators.prefill_attention(ledger, scene, layout, mixer, cached, 1.0, prompt.new_tok, prompt.prefix_tok, n_launches=chunks)
    if scene.has_dense_ffn():
        operators.dense_ffn(ledger, scene, layout, n_tok, chunks)
    if scene.has_moe():
        _experts(ledger, scene, fam, n_tok, n_tok / layout.n_tp, touched, layout.n_tp, chunks)
    operators.tensor_reductions(ledger, scene, layout, n_tok, chunks)
    operators.elementwise(ledger, scene, n_tok, chunks)
    operators.context_exchange(ledger, scene, layout, prompt.seen_tok, chunks)
    operators.lm_head(ledger, scene, layout, 1.0)
    ledger.fixed("scheduler", scene.chip.step_overhead_s * chunks)
    return ledger


@dataclass
class Floor:
    """The least that serving layouts can take, one row per family and x: (A, R), inf where none fits."""

    device_s_per_tok: np.ndarray  # per output token
    tpot_s: np.ndarray
    ttft_s: np.ndarray


def pool_floor(scene: Scene, grid: Grid, traffic: Traffic, phases: tuple[str, ...]) -> Floor:
    """Floor of a pool that runs `phases` ("prefill", "decode").  scene and traffic of A designs."""
    fam, side, flow = families(grid), scene.column(), traffic.column()
    x = stage_sequences(grid)[:, None, None] if "decode" in phases else np.ones((1, 1, 1))
    can = fits_shape(_shape_only(fam.layout), side.census) & (fam.layout.n_tp <= side.chip.scale_up_size)
    pre = dec = None
    if "prefill" in phases:
        touched, whole = _prompt_experts(scene, fam, flow)
        can, pre = can & whole, prefill_ledger(side, fam, flow, touched)
    if "decode" in phases:
        touched, whole = _step_experts(scene, fam, x, traffic)
        can, dec = can & whole & _fits(side, fam, x, flow), decode_ledger(side, fam, x, flow, touched)
    device_s, tpot_s, ttft_s = _decoded(side, fam, x, flow, pre, dec) if dec is not None else _prompts_only(side, fam, flow, pre)
    return Floor(*_flat(np.where(can, v * (1.0 - ROUNDING), np.inf) for v in (device_s, tpot_s, ttft_s)))


def _flat(rows) -> list[np.ndarray]:
    """(X, A, G) arrays as (A, X G), contiguous, so that one pass reduces a design."""
    rows = np.broadcast_arrays(*rows, np.zeros((1, 1, 1)))[:-1]
    return [np.ascontiguousarray(np.moveaxis(v, 0, 1)).reshape(v.shape[1], -1) for v in rows]


def _shape_only(layout: Layout) -> Layout:
    """The family's degrees on a single rank without experts: what `fits_shape` asks of n_tp."""
    one = np.ones_like(layout.n_tp)
    return Layout(layout.n_tp, layout.n_cp, one, one, one, one, layout.n_tp * layout.n_cp)


def _step_experts(scene: Scene, fam: Families, x, traffic: Traffic):
    if not scene.has_moe():
        return 0.0, True
    return least_touched(scene, fam, lambda ranks: np.maximum(x[:, :, 0] * ranks, 1.0) * traffic.q_tok)


def _prompt_experts(scene: Scene, fam: Families, flow: Traffic):
    if not scene.has_moe():
        return 0.0, True
    prompt = serving.prompt_of(flow)
    chunk = np.min(prompt.new_tok / prompt.n_chunks)  # the shortest chunk of all designs reads the fewest experts
    touched, whole = least_touched(scene, fam, lambda ranks: (chunk * ranks)[None, :])
    return touched[0], whole


def _fits(side: Scene, fam: Families, x, flow: Traffic):
    """Whether a member may fit: weights spread over the most devices, the cache of x sequences on a stage."""
    dense, experts = memory.block_params(side, fam.one)
    weights = (dense + experts / fam.n_experts_ways) / fam.n_pp * side.weight_bytes
    held = np.minimum(service.held_tokens(flow, x), service.held_tokens(flow, x * fam.n_pp))
    used = side.chip.reserve_bytes + weights + memory.kv_cache(side, fam.layout, x, held)
    return used * (1.0 - ROUNDING) <= side.chip.hbm_bytes * side.chip.usable_frac


def _decoded(side: Scene, fam: Families, x, flow: Traffic, pre: Ledger | None, dec: Ledger):
    """(device-seconds per output token, TPOT, TTFT) of rows that decode, with or without prompts in the same pool."""
    prompt = serving.prompt_of(flow)
    step_s, stall_s = dec.time_s + serving.draft_s(side, fam.layout, flow.q_tok, dec.time_s), 0.0
    if pre is not None:
        stall_s = service.interference(x, flow, pre.time_s, pre.fixed_s, dec.slack_s, prompt.n_chunks)
    tpot_s = (step_s + stall_s) / flow.accepted_tok
    device_s = fam.devices * tpot_s / x
    ttft_s = 0.5 * step_s
    if pre is not None:
        ttft_s = ttft_s + _first_token_s(fam, pre, prompt)
    if pre is not None and np.any(flow.batching == batching.STATIC):
        batch_s, prompts_s = batching.static_batch_s(flow, x, step_s, pre.time_s)
        return fam.devices * batch_s / (x * flow.osl_tok), step_s / flow.accepted_tok, 0.5 * batch_s + prompts_s
    return device_s, tpot_s, ttft_s


def _first_token_s(fam: Families, pre: Ledger, prompt: prefill.Prompt):
    """Time of a prompt through the most stages of a member: chunks flow through them, so more stages are never slower."""
    return pre.time_s * (prompt.n_chunks + fam.n_pp - 1.0) / (prompt.n_chunks * fam.n_pp)


def _prompts_only(side: Scene, fam: Families, flow: Traffic, pre: Ledger):
    """The same for a pool of prompts; their cache then travels."""
    ttft_s = _first_token_s(fam, pre, serving.prompt_of(flow)) + serving.kv_transfer_s(side, fam.layout, flow)
    return fam.devices * pre.time_s / flow.osl_tok, np.zeros_like(ttft_s), ttft_s


def charged(scene: Scene, traffic: Traffic, device_s_per_tok) -> tuple[np.ndarray, np.ndarray]:
    """(devices charged for the peak of the largest stage of life, those held on average over the life), from below (A, J).

    At least one domain, and whole domains where they are rented whole; both rise with the device-seconds per output token (A, J).
    """
    text, domain = (np.reshape(v, (-1, 1)) for v in (scene.tok_per_text, np.maximum(scene.chip.scale_up_size, 1.0)))
    busy = device_s_per_tok * (traffic.demand_tok_per_s * traffic.peak_to_mean * text * (1.0 - ROUNDING))

    def at(level: float):
        whole = np.maximum(np.ceil(busy * level / domain), 1.0) * domain
        return np.where(domain > RENTED_WHOLE, np.maximum(busy * level, 1.0), whole)

    stages = traffic.stages
    largest = at(stages.highest)
    return largest, sum(share * at(level) for share, level in zip(stages.share, stages.level, strict=True)) if stages.follows else largest


def kept_usd(scene: Scene, traffic: Traffic):
    """(USD per output token of prefixes that wait, the same at the catalog's price), exact: no layout changes it."""
    if not np.any(np.asarray(traffic.reuse_s) > 0):
        return 0.0, 0.0
    return serving.kept_prefix(scene, _single(), traffic)[:2]


def _single() -> Layout:
    return Layout(*(np.float64(1.0),) * 7)


def training_floor(scene: Scene, grid: Grid, seq_tok) -> np.ndarray:
    """Device-seconds per token that no training layout of the grid can beat, (A,): no bubble, exchange, host wait or optimizer.

    step >= n_micro t_micro and n_devices n_micro / global batch = tp cp pp / micro_batch, so
        device s per token >= tp cp (pp t_micro) / (micro_batch seq) / goodput,
    and pp t_micro >= the time of all layers and the head on one stage: the fullest stage has at least the mean.
    """
    side, layout = scene.column(), grid.layout
    key = np.stack([layout.n_tp, layout.n_cp, grid.extras["micro_batch"], grid.extras["recompute"]])
    tp, cp, micro, again = (row[None, :] for row in np.unique(key, axis=1))
    one, ep = np.ones_like(tp), np.max(layout.n_ep * layout.n_etp)
    own = Layout(tp, cp, one, one, one, one, tp * cp)
    job = train.Job(seq_tok, micro, one, again, one)
    time_s = _micro_s(side, own, job, Layout(tp, cp, one, one, one, one * ep, one))
    can = fits_shape(own, side.census) & (tp <= side.chip.scale_up_size)
    rate = np.where(can, tp * cp * time_s / (micro * seq_tok), np.inf)
    return np.min(rate, axis=1) / goodput_frac(np.min(grid.leading)) * (1.0 - ROUNDING)


def _micro_s(side: Scene, layout: Layout, job: train.Job, wide: Layout):
    """Forward, backward and recomputation of one micro-batch on one stage, experts spread as in `wide`: `train.micro_batch` from below."""
    ledger, ffn, fit = Ledger(), side.census.ffn, side.chip.training
    again = np.where(job.recompute >= 2, 1.0, 0.0)
    n_tok = job.micro_batch * job.seq_tok / layout.n_cp
    for _, mixer, cached in side.mixers():
        operators.projections(ledger, side, layout, mixer, n_tok, share=3.0 + again)
        train.attention(ledger, side, layout, job, mixer, cached, 1.0)
    if side.has_dense_ffn():
        operators.dense_ffn(ledger, side, layout, n_tok, share=3.0 + again)
    if side.has_moe():
        local = ffn.n_experts / wide.n_ep
        operators.routed_experts(ledger, side, layout, n_tok / layout.n_tp, local, 3.0 + again, 1.0, fit.expert_m0_tok)
        operators.shared_experts(ledger, side, layout, n_tok, share=3.0 + again)
    spread = Layout(layout.n_tp, layout.n_cp, 2.0 * layout.n_dp, *(getattr(layout, k) for k in ("n_pp", "n_etp", "n_ep", "n_edp")))
    train.tensor_exchange(ledger, side, spread, n_tok, 2.0 + again)
    train.elementwise(ledger, side, layout, job, n_tok, 1.0)
    operators.context_exchange(ledger, side, layout, n_tok * layout.n_cp, 2.0)
    train.head(ledger, side, layout, n_tok)
    train.weight_traffic(ledger, side, wide)
    return ledger.time_s
