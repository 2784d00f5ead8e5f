"""One optimizer step of training: micro-batches through a pipeline, gradients exchanged, weights updated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import collectives, memory, offload, operators, sites
from codesign.physics.arrays import Arrays
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout
from codesign.physics.operators import ACT_BYTES, Scene

RECOMPUTE = ("none", "selective", "full", "reversible")
OFFLOAD = ("none", "optimizer", "activations", "both")
GRADIENT_BYTES = 4.0  # Megatron-LM accumulates and reduces bf16 training's gradients in fp32
OPTIMIZER_BYTES = 12.0  # fp32 master weights and two Adam moments (ZeRO, arXiv 1910.02054 section 3.1)
ELEMENTWISE_LAUNCHES = 8.0  # kernels per layer and forward pass
OPTIMIZER_TRAFFIC_BYTES = 30.0  # read gradient, master, 2 moments; write master, 2 moments and the 16-bit weight


@dataclass(frozen=True)
class Job(Arrays):
    """A training job: sequence length, sequences per micro-batch and rank, global batch in sequences, memory options."""

    seq_tok: np.ndarray
    micro_batch: np.ndarray
    global_batch: np.ndarray
    recompute: np.ndarray  # index into RECOMPUTE
    zero: np.ndarray  # ZeRO stage 0-3
    n_interleave: np.ndarray | float = 1.0  # virtual stages per device
    offload: np.ndarray | float = 0.0  # index into OFFLOAD: what waits in the host's memory
    n_sites: np.ndarray | float = 1.0  # data-parallel copies joined by slow links
    sync_every: np.ndarray | float = 1.0  # optimizer steps between exchanges of the sites


def n_micro(job: Job, layout: Layout):
    """Micro-batches per pipeline and step: global_batch / (n_dp micro_batch)."""
    return job.global_batch / (layout.n_dp * job.micro_batch)


@dataclass
class Step:
    """Times [s] of one optimizer step."""

    step_s: np.ndarray
    micro_s: np.ndarray
    bubble_s: np.ndarray
    exchange_s: np.ndarray
    update_s: np.ndarray
    ledger: Ledger


def step(scene: Scene, layout: Layout, job: Job, detail: bool = False) -> Step:
    """T = n_micro t_micro + bubble + exposed gradient exchange + optimizer + fixed cost per step.

    t_micro: forward and backward of one micro-batch on the fullest stage; bubble t_micro (pp - 1) / v: 1F1B and its interleaved
    form, arXiv 2104.04473 section 2.2.  ZeRO 0-2 exchange hides behind one micro-batch, ZeRO 3 behind all of them, and at most
    the share that the engine overlaps.  The update streams 30 bytes per parameter of the shard.
    """
    ledger = micro_batch(scene, layout, job, detail)
    micro_s = ledger.time_s
    count = n_micro(job, layout)
    bubble_s = micro_s * (layout.n_pp - 1.0) / job.n_interleave
    exchange = gradient_exchange(scene, layout, job, count)
    exposed = exchange - np.minimum(scene.chip.dp_overlap * exchange, np.where(job.zero == 3, count, 1.0) * micro_s)
    dense, experts = shard_params(scene, layout)
    dense_ways, expert_ways = zero_ways(layout, job, at_stage=1)
    update_s = OPTIMIZER_TRAFFIC_BYTES * (dense / dense_ways + experts / expert_ways) / scene.rates.elementwise.bytes_per_s
    total = count * micro_s + bubble_s + exposed + update_s + scene.chip.training.step_s
    if np.any(np.asarray(job.n_sites) > 1):
        total = total + sites.exposed_s(scene.census.n_params, job.n_sites, job.sync_every, micro_s, scene.chip)
    if np.any(np.asarray(job.offload) > 0):
        shard = dense / dense_ways + experts / expert_ways
        total = total + offload.exposed_s(
            shard, kept_bytes(scene, layout, job, fullest_stage_layers(scene, layout)), count, micro_s, update_s, job.offload, scene.chip
        )
    return Step(total, micro_s, bubble_s, exposed, update_s, ledger)


def micro_batch(scene: Scene, layout: Layout, job: Job, detail: bool = False) -> Ledger:
    """Forward, backward and recomputation of one micro-batch on the fullest stage.

    GEMMs run 3 times (forward, input and weight gradients), collectives twice; attention once forward and 2.5 times its FLOP
    backward (which recomputes the scores, arXiv 2307.08691 section 3) at a lower rate.  Full recomputation, and the inversion of
    reversible blocks (arXiv 1707.04585), add one forward of everything, selective recomputation redoes the cheap operators between GEMMs (arXiv 2205.05198 section 4).
    """
    ledger = Ledger(detail)
    share = memory.stage_share(scene.census, layout)
    again = np.where(job.recompute >= 2, 1.0, 0.0)
    gemm, wire = share * (3.0 + again), share * (2.0 + again)
    n_tok = job.micro_batch * job.seq_tok / layout.n_cp
    for _, mixer, cached in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok, share=gemm)
        attention(ledger, scene, layout, job, mixer, cached, share)
    if scene.has_dense_ffn():
        operators.dense_ffn(ledger, scene, layout, n_tok, share=gemm)
    if scene.has_moe():
        n_group = n_tok * layout.n_etp * layout.n_ep / layout.n_tp  # = micro_batch seq n_dp / n_edp
        local_experts = scene.census.ffn.n_experts / layout.n_ep
        exposed = 1.0 - scene.chip.training.ep_overlap * scene.chip.training.ep_hidden
        operators.routed_experts(ledger, scene, layout, n_group, local_experts, gemm, 1.0, scene.chip.training.expert_m0_tok)
        operators.shared_experts(ledger, scene, layout, n_tok, share=gemm)
        operators.expert_traffic(ledger, scene, layout, n_tok, n_group, wire * exposed, scene.chip.training.ep_once)
    tensor_exchange(ledger, scene, layout, n_tok, wire)
    elementwise(ledger, scene, layout, job, n_tok, share)
    operators.context_exchange(ledger, scene, layout, n_tok * layout.n_cp, share * 2.0)
    head(ledger, scene, layout, n_tok)
    weight_traffic(ledger, scene, layout)
    operators.pipeline_hops(ledger, scene, layout, n_tok, repeat=2.0 / np.maximum(layout.n_pp - 1.0, 1.0) * job.n_interleave)
    wait_for_host(ledger, scene, share, again)
    return ledger


def attention(ledger: Ledger, scene: Scene, layout: Layout, job: Job, mixer, cached, share) -> None:
    """Fused causal attention: FLOP x (1 + again + 2.5 / b) (1 + s0/S) (1 + h/d_head), b = rate of the backward / forward.

    Achieved rate by head width and by direction: FlashAttention-2, arXiv 2307.08691 figures 4-6 (causal, A100 and H100).
    """
    fit = scene.chip.training
    again = np.where(job.recompute >= 2, 1.0, 0.0)
    passes = (1.0 + again + 2.5 / fit.attention_backward) * (1.0 + fit.attention_half / np.maximum(mixer.d_v, 1.0))
    operators.prefill_attention(
        ledger, scene, layout, mixer, cached, job.micro_batch, job.seq_tok, 0.0, share * passes, 1.0, fit.attention_s0_tok
    )


def head(ledger: Ledger, scene: Scene, layout: Layout, n_tok) -> None:
    """LM head forward and backward in 16 bit, and the loss: the fp32 softmax and its gradient pass over the logits four times.

    They run on the last stage, which holds L - (pp - 1) ceil(L / pp) layers (0 at least) where the others hold ceil(L / pp): only
    what makes it slower than the others counts, max(0, t_head - t_blocks (1 - last / ceil)).
    """
    census, weights = scene.census, scene.census.head_params / layout.n_tp
    n_bytes = weights * ACT_BYTES + n_tok * weights / census.d_model * ACT_BYTES
    logits = 4.0 * n_tok * census.vocab / layout.n_tp * 4.0 * scene.chip.training.traffic
    alone = Ledger()
    alone.kernel("LM head", scene.rates.head, 1.0, 2.0 * n_tok * weights, n_bytes, repeat=3.0)
    alone.kernel("softmax and loss", scene.rates.elementwise, 4.0, 0.0, logits)
    layers = np.ceil(census.n_layers / layout.n_pp)
    last = np.maximum(census.n_layers - (layout.n_pp - 1.0) * layers, 0.0)
    shown = np.maximum(1.0 - ledger.time_s * (1.0 - last / layers) / alone.time_s, 0.0)
    ledger.kernel("LM head", scene.rates.head, 1.0, 2.0 * n_tok * weights, n_bytes, repeat=3.0 * shown)
    ledger.kernel("softmax and loss", scene.rates.elementwise, 4.0, 0.0, logits, repeat=shown)


def tensor_exchange(ledger: Ledger, scene: Scene, layout: Layout, n_tok, wire) -> None:
    """TP: reduce-scatter and all-gather (an all-reduce without sequence parallelism) around every attention and dense FFN.

    Ring over NCCL, not overlapped, and the skew of ranks that launch apart: once per pair of collectives.
    """
    if np.all(np.asarray(layout.n_tp) == 1):
        return
    census, chip = scene.census, scene.chip
    local_moe = (layout.n_cp * layout.n_dp == 1) * census.ffn.n_moe_layers
    n = census.full.n_layers + census.window.n_layers + census.linear.n_layers + census.ffn.n_dense_layers + local_moe
    latency, transfer = collectives.shard_exchange(n_tok * census.d_model * ACT_BYTES, layout.n_tp, chip)
    start = (2.0 * latency + chip.training.sync_s) * (layout.n_tp > 1)
    ledger.network("TP exchange", start, 2.0 * (1.0 - chip.training.tp_overlap) * transfer, repeat=n * wire)


def elementwise(ledger: Ledger, scene: Scene, layout: Layout, job: Job, n_tok, share) -> None:
    """Memory-bound kernels between GEMMs, sharded over TP by sequence parallelism; backward moves 1.5 x the forward traffic.

    Elements per token, layer and forward pass: two norms and two residual additions read and write 10 d, rotary embedding
    and bias 2 (h d_qk + kv), the activation reads and writes 3 x its width (gated) per FFN, an MoE layer sorts its k copies in
    and out (2 x 2 k d).  Recomputation repeats the forward part.  Counted from the unfused operators of a transformer block
    (arXiv 2205.05198 section 4); `traffic` is what the stack's fusion leaves of them.  Below 16 bit every operand is cast once:
    2 bytes read, a row-wise and a column-wise copy written, for the inputs and outputs of all GEMMs.
    """
    census, ffn = scene.census, scene.census.ffn
    d = census.d_model
    heads = sum(m.n_layers * (m.n_heads + m.kv_shards) * m.d_qk for _, m, _ in scene.mixers())
    width = ffn.n_dense_layers * ffn.d_ff + ffn.n_moe_layers * (ffn.n_active_experts * ffn.d_expert + ffn.d_shared)
    elements = census.n_layers * 10.0 * d + 2.0 * heads + 3.0 * width + 4.0 * ffn.n_moe_layers * ffn.n_active_experts * ffn.d_expert_in
    passes = 2.5 + np.where(job.recompute >= 1, 1.0, 0.0)
    n_launches = ELEMENTWISE_LAUNCHES * census.n_layers
    tok = n_tok / layout.n_tp * scene.chip.training.traffic
    ledger.kernel("norms and glue", scene.rates.elementwise, n_launches * passes, 0.0, elements * ACT_BYTES * tok * passes, repeat=share)
    narrow = (scene.weight_bytes < ACT_BYTES) & scene.chip.has_8_bit
    if np.any(narrow):
        copies = 2.0 * ffn.n_moe_layers * ffn.n_active_experts * ffn.d_expert_in
        operands = 4.0 * d * census.n_layers + copies + census.n_matmul_params_per_tok / d
        cast = operands * (ACT_BYTES + 2.0 * scene.weight_bytes) * n_tok / layout.n_tp
        ledger.kernel("casts", scene.rates.elementwise, 0.0, 0.0, scene.chip.training.casts * cast * narrow, repeat=share)


def weight_traffic(ledger: Ledger, scene: Scene, layout: Layout) -> None:
    """Each micro-batch adds its weight gradients to the fp32 sums: 4 bytes read and 4 written per parameter of the stage."""
    dense, experts = shard_params(scene, layout)
    ledger.kernel("gradient sums", scene.rates.elementwise, 0.0, 0.0, 2.0 * GRADIENT_BYTES * (dense + experts))


def wait_for_host(ledger: Ledger, scene: Scene, share, again) -> None:
    """The device waits where the host needs longer to launch than the device to run.

    dense  max(t, (2 + again) h): the host runs ahead through the micro-batch
    MoE    max(t / (3 + again), h) + max(t (2 + again) / (3 + again), (1 + again) h): in every layer's forward pass the host waits for
           the tokens per expert, which only the device knows, so what it saves in the backward pass comes too late
    h = (1 - graphed) (layers host + MoE layers host_moe), one pass; the forward pass is a third of the time (a fourth if repeated).
    """
    fit, census = scene.chip.training, scene.census
    h = share * (1.0 - fit.graphed) * (census.n_layers * fit.host_s + census.ffn.n_moe_layers * fit.host_moe_s)
    forward = ledger.time_s / (3.0 + again)
    apart = np.maximum(h - forward, 0.0) + np.maximum((1.0 + again) * h - (2.0 + again) * forward, 0.0)
    ahead = np.maximum((2.0 + again) * h - ledger.time_s, 0.0)
    ledger.fixed("host launches", np.where(census.ffn.n_moe_layers > 0, apart, ahead))


def shard_params(scene: Scene, layout: Layout):
    """(dense, expert) parameters on the fullest device before ZeRO: its stage's blocks and the tables it holds."""
    dense, experts = memory.block_params(scene, layout)
    share = memory.stage_share(scene.census, layout)
    return share * dense + memory.table_params(scene, layout), share * experts


def zero_ways(layout: Layout, job: Job, at_stage):
    """Ways that (dense, expert) state is sharded when ZeRO is at least `at_stage`: dp cp for dense weights, edp for experts,
    inside one site."""
    on, (dense, experts) = job.zero >= at_stage, ranks(layout, job)
    return np.where(on, dense, 1.0), np.where(on, experts, 1.0)


def ranks(layout: Layout, job: Job):
    """Ranks that share (dense, expert) gradients inside one site: dp cp and edp, over the sites."""
    if not np.any(np.asarray(job.n_sites) > 1):
        return layout.n_dp * layout.n_cp, layout.n_edp
    return layout.n_dp * layout.n_cp / job.n_sites, layout.n_edp / job.n_sites


def gradient_exchange(scene: Scene, layout: Layout, job: Job, count):
    """Seconds of data-parallel communication per step, before overlap.

    ZeRO 0-2: reduce-scatter of fp32 gradients and all-gather of 16-bit weights (ZeRO 0: the same ring as an all-reduce).
    ZeRO 3 gathers the weights in forward and backward of every micro-batch and scatters its gradients
    in 16 bit (the usual FSDP mixed precision): 3 x 2 bytes.
    """
    dense, experts = shard_params(scene, layout)
    per_step = np.where(job.zero == 0, 2.0 * GRADIENT_BYTES, GRADIENT_BYTES + ACT_BYTES)
    n_bytes = np.where(job.zero == 3, count * 3.0 * ACT_BYTES, per_step)
    n_dense, n_experts = ranks(layout, job)
    lat_d, t_dense = collectives.shard_exchange(n_bytes * dense, n_dense, scene.chip, layout.n_tp)
    lat_e, t_expert = collectives.shard_exchange(n_bytes * experts, n_experts, scene.chip, layout.n_etp * layout.n_ep)
    return lat_d + t_dense + np.where(experts > 0, lat_e + t_expert, 0.0)


def model_flop(scene: Scene, job: Job):
    """FLOP that one step needs: 3 x (2 W tok + causal attention), LM head at every position, no recomputation."""
    census = scene.census
    tok = job.global_batch * job.seq_tok
    weights = census.n_matmul_params_per_tok + census.head_params
    attention = 0.0
    for _, mixer, _ in scene.mixers():
        pairs = operators.causal_pairs(job.seq_tok, 0.0, mixer.span_tok) / job.seq_tok
        index = (job.seq_tok + 1.0) / 2.0 * mixer.index_flop_per_pair
        per_tok = pairs * mixer.flop_per_pair_prefill + index + mixer.state_flop_per_tok
        attention = attention + mixer.n_layers * per_tok
    return 3.0 * tok * (2.0 * weights + attention)


def activation_bytes_per_tok_layer(scene: Scene, layout: Layout, job: Job):
    """Bytes of activations kept per token and layer on one device (flash attention, sequence parallel inside TP).

    none:       [2 (2 d + h (d_qk + d_v) + 2 kv + (g - 1) FFN width) + a (2 d + FFN width + k d)] / tp: norm inputs, q k v and the
                attention output, inputs of the activation in 16 bit; inputs of GEMMs (MoE copies too) in their operand width a
    selective:  norm outputs and the activation product are redone: [2 (...) + a k d] / tp
    full:       2 d / tp, the layer's input; reversible: `memory_classes`.
    After arXiv 2205.05198 equations 1-6, with GQA widths, g = 3 (gated FFN) or 2 matrices, and without the 5 a s term.
    """
    census, ffn = scene.census, scene.census.ffn
    d = census.d_model
    heads = 0.0
    for _, mixer, _ in scene.mixers():
        width = mixer.n_heads * (mixer.d_qk + mixer.d_v) + 2.0 * mixer.kv_shards * mixer.d_qk
        heads = heads + mixer.n_layers / census.n_layers * width
    moe_share = ffn.n_moe_layers / census.n_layers
    dense, routed = (1.0 - moe_share) * ffn.d_ff, moe_share * (ffn.n_active_experts * ffn.d_expert + ffn.d_shared)
    gates = dense * (_matrices(ffn.dense_matmul_params, d * ffn.d_ff) - 1.0)
    gates = gates + routed * (_matrices(ffn.expert_matmul_params, ffn.d_expert_in * ffn.d_expert) - 1.0)
    copies = moe_share * ffn.n_active_experts * d  # dispatched copies of the token
    operand = np.minimum(scene.weight_bytes, ACT_BYTES)
    inputs = copies + np.where(job.recompute == 0, 2.0 * d + dense + routed, 0.0)
    kept = ACT_BYTES * (2.0 * d + heads + gates) + operand * inputs
    return np.where(job.recompute == 2, ACT_BYTES * d, kept) / layout.n_tp


def _matrices(params, area):
    """Matrices of an FFN: 3 when gated, 2 when not."""
    return params / np.maximum(area, 1.0)


def memory_classes(scene: Scene, layout: Layout, job: Job) -> dict[str, np.ndarray]:
    """Bytes per class on the fullest device (the first stage holds the most micro-batches in flight); offloaded state is elsewhere."""
    held = state_classes(scene, layout, job)
    return _without_offloaded(held, scene, layout, job, fullest_stage_layers(scene, layout))


def state_classes(scene: Scene, layout: Layout, job: Job) -> dict[str, np.ndarray]:
    """Bytes per class of the fullest device's state, wherever it waits."""
    in_flight = np.minimum(layout.n_pp * (1.0 + (layout.n_pp - 1.0) / (layout.n_pp * job.n_interleave) * (job.n_interleave > 1)),
                           np.maximum(n_micro(job, layout), 1.0))  # fmt: skip
    kept = kept_bytes(scene, layout, job, fullest_stage_layers(scene, layout))
    state = _state_bytes(layout, job, *shard_params(scene, layout))
    return state | {"activations": _held_bytes(scene, layout, job, in_flight * kept, 1.0), "reserve": scene.chip.reserve_bytes}


def stage_memory_classes(scene: Scene, layout: Layout, job: Job, stage, n_layers) -> dict[str, np.ndarray]:
    """Bytes per class on a device of each pipeline stage, with every layer taken as the model's mean layer.

    stage: 0-based, n_layers: of that stage; both (n_pp,).  In flight are n_pp - stage micro-batches (1F1B), and interleaved over v chunks
    (2 (n_pp - stage - 1) + (v - 1) n_pp + 1) / v (Megatron-LM, arXiv 2104.04473 section 2.2).  The embedding lies on the first stage, head
    and logits on the last.
    """
    census, v = scene.census, job.n_interleave
    is_first, is_last = stage == 0, stage == layout.n_pp - 1
    interleaved = (2.0 * (layout.n_pp - stage - 1.0) + (v - 1.0) * layout.n_pp + 1.0) / v
    in_flight = np.minimum(np.where(v > 1, interleaved, layout.n_pp - stage), np.maximum(n_micro(job, layout), 1.0))
    ends = np.where(is_first, census.embedding_params, 0.0) + np.where(is_last, census.head_params, 0.0)
    tables = np.where(is_first & is_last, memory.table_params(scene, layout), ends / layout.n_tp)
    share = n_layers / census.n_layers
    dense, experts = memory.block_params(scene, layout)
    state = _state_bytes(layout, job, share * dense + tables, share * experts)
    held = _held_bytes(scene, layout, job, in_flight * kept_bytes(scene, layout, job, n_layers), np.where(is_last, 1.0, 0.0))
    state |= {"activations": held, "reserve": np.broadcast_to(scene.chip.reserve_bytes, np.shape(stage))}
    return _without_offloaded(state, scene, layout, job, n_layers)


def _without_offloaded(held, scene: Scene, layout: Layout, job: Job, n_layers):
    if not np.any(np.asarray(job.offload) > 0):
        return held
    return offload.on_device(held, kept_bytes(scene, layout, job, n_layers) / n_layers, job.offload)


def _state_bytes(layout: Layout, job: Job, dense, experts) -> dict[str, np.ndarray]:
    """Weights, gradients and optimizer of (dense, expert) parameters under the job's ZeRO stage."""
    ways3, ways2, ways1 = (zero_ways(layout, job, at_stage=s) for s in (3, 2, 1))
    return {
        "weights": ACT_BYTES * (dense / ways3[0] + experts / ways3[1]),
        "gradients": GRADIENT_BYTES * (dense / ways2[0] + experts / ways2[1]),
        "optimizer": OPTIMIZER_BYTES * (dense / ways1[0] + experts / ways1[1]),
    }


def _held_bytes(scene: Scene, layout: Layout, job: Job, kept, has_head):
    """Activations: those kept for the backward pass, one layer being recomputed, 16-bit logits and their fp32 softmax."""
    n_tok = job.micro_batch * job.seq_tok / layout.n_cp
    one_layer = n_tok * activation_bytes_per_tok_layer(scene, layout, _without_recompute(job))
    logits = n_tok * scene.census.vocab / layout.n_tp * 6.0
    return kept + np.where(job.recompute > 0, one_layer, 0.0) + has_head * logits


def fullest_stage_layers(scene: Scene, layout: Layout):
    return np.ceil(scene.census.n_layers / layout.n_pp)


def kept_bytes(scene: Scene, layout: Layout, job: Job, n_layers):
    """Bytes of activations that one micro-batch leaves on a stage of `n_layers` until its backward pass.

    Layers x tokens x `activation_bytes_per_tok_layer`; reversible blocks find their inputs from their outputs, so only the two streams at the
    end of the stage stay: 2 x 2 B x d / tp a token (arXiv 1707.04585), which takes an architecture built of such blocks.
    """
    n_tok = job.micro_batch * job.seq_tok / layout.n_cp
    kept = n_layers * n_tok * activation_bytes_per_tok_layer(scene, layout, job)
    if not np.any(np.asarray(job.recompute) == 3):
        return kept
    return np.where(job.recompute == 3, n_tok * 2.0 * ACT_BYTES * scene.census.d_model / layout.n_tp, kept)


def _without_recompute(job: Job) -> Job:
    return Job(job.seq_tok, job.micro_batch, job.global_batch, np.float64(0.0), job.zero, job.n_interleave)
