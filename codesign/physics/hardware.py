"""A chip and its network as numbers that broadcast, and the kernel rates it reaches at given precisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.physics.jitter import Jitter
from codesign.physics.kernels import Rate
from codesign.physics.precision import Precision, compute_bits


@dataclass(frozen=True)
class ByBits(Arrays):
    """One constant at 16, 8 and 4 bit operands."""

    at_16: np.ndarray
    at_8: np.ndarray
    at_4: np.ndarray

    def pick(self, bits):
        """The constant at operand width `bits` (4, 8, 16)."""
        return np.where(np.asarray(bits) == 16, self.at_16, np.where(np.asarray(bits) == 8, self.at_8, self.at_4))


@dataclass(frozen=True)
class KernelFit(Arrays):
    """Fixed time [s] and achieved fractions of the dense peak and of the HBM bandwidth, by operand width."""

    t0_s: ByBits
    compute: ByBits
    memory: ByBits


@dataclass(frozen=True)
class Link(Arrays):
    """One tier of the network as one device sees it, per direction: bandwidth, and fixed time and achieved fraction per collective."""

    bytes_per_s: np.ndarray
    gather: np.ndarray  # ring all-gather and reduce-scatter
    gather_t0_s: np.ndarray
    all_to_all: np.ndarray
    all_to_all_t0_s: np.ndarray
    p2p_t0_s: np.ndarray
    jitter: Jitter | None = None  # None: every message takes its fixed time, no more


@dataclass(frozen=True)
class Reduction(Arrays):
    """All-reduce kernels of an engine at one group size: one-shot (every rank reads all) and two-shot (reduce-scatter, all-gather)."""

    one_shot_t0_s: np.ndarray
    one_shot: np.ndarray
    two_shot_t0_s: np.ndarray
    two_shot: np.ndarray


@dataclass(frozen=True)
class Reductions(Arrays):
    """Reduction constants by group size; a size in between takes those of the next larger one."""

    at_2: Reduction
    at_4: Reduction
    at_8: Reduction
    at_16: Reduction

    def pick(self, n) -> Reduction:
        """Constants of groups of n."""
        rows = [vars(r) for r in (self.at_2, self.at_4, self.at_8, self.at_16)]

        def choose(name):
            two, four, eight, more = (row[name] for row in rows)
            return np.where(n <= 2, two, np.where(n <= 4, four, np.where(n <= 8, eight, more)))

        return Reduction(*(choose(name) for name in rows[0]))


@dataclass(frozen=True)
class TrainingFit(Arrays):
    """What a training stack reaches on a chip: other kernels, other shapes and a sustained clock than in serving."""

    compute: ByBits  # dense GEMMs, fraction of the dense peak, by operand width
    attention: np.ndarray  # fused attention of wide heads over long sequences, forward, fraction of the 16-bit peak
    attention_backward: np.ndarray  # rate of its backward / forward
    attention_s0_tok: np.ndarray  # F (1 + s0/S): blocks that the causal mask cuts, short rows
    attention_half: np.ndarray  # F (1 + h/d_head): exponentials per multiplication grow as heads get narrow
    experts: ByBits  # plateau of grouped expert GEMMs / that of dense ones
    expert_m0_tok: np.ndarray  # tokens per expert at which they reach half of it
    traffic: np.ndarray  # bytes of the kernels between GEMMs / those of the operator list (fusion lowers, fp32 copies raise it)
    casts: np.ndarray  # share of the operand casts that are kernels of their own (compilers fuse them)
    network: np.ndarray  # bandwidth of collectives beside running kernels / that of collectives alone
    tp_overlap: np.ndarray  # share of TP transfers that hides behind the GEMMs beside them
    ep_overlap: np.ndarray  # 1: dispatch and combine run behind the other micro-batch; 0: in its way
    ep_hidden: np.ndarray  # share of them that such a schedule hides
    ep_once: np.ndarray  # 1: a token crosses once to each domain that needs it (DeepEP, HybridEP); 0: to every expert's rank (NCCL)
    graphed: np.ndarray  # share of the host's launches that CUDA graphs replay
    sync_s: np.ndarray  # start-up and skew of a TP or EP collective between ranks that launch apart
    host_s: np.ndarray  # host time to launch one pass of one layer (Python, dispatcher, launch)
    host_moe_s: np.ndarray  # the same for an MoE block: routing, permutation, grouped GEMMs
    usable_frac: np.ndarray  # share of HBM that a training process fills
    step_s: np.ndarray  # fixed cost of an optimizer step: data, logging, clipping, launch of the update


@dataclass(frozen=True)
class Chip(Arrays):
    """One accelerator inside its system, under one engine.  Every field scalar or (H,); peaks are dense, links per direction."""

    peak_flop_per_s: ByBits
    has_8_bit: np.ndarray
    has_4_bit: np.ndarray
    hbm_bytes: np.ndarray
    hbm_bytes_per_s: np.ndarray
    reserve_bytes: np.ndarray  # runtime, graphs, communication buffers
    usable_frac: np.ndarray  # share of HBM that the engine may fill
    scale_up_size: np.ndarray
    scale_up_peer_bytes_per_s: np.ndarray  # full mesh or torus: link between two neighbours; inf on a switch
    torus_side: np.ndarray  # devices along one torus axis; inf when not a torus
    scale_up: Link
    scale_out: Link
    reductions: Reductions
    gemm: KernelFit
    weight_only: KernelFit  # fixed time and bandwidth of GEMMs that widen 8- or 4-bit weights on the fly
    gemm_k_half: np.ndarray  # depth k at which a GEMM reaches half of its plateau (shards narrower than this starve)
    decode_attention: KernelFit
    mla_decode: KernelFit
    prefill_attention: KernelFit
    prefill_s0_tok: np.ndarray  # F (1 + s0/S): short prompts fill the chip badly
    experts: KernelFit
    expert_m0_tok: np.ndarray  # eP = plateau m / (m + m0), m tokens per expert and device
    elementwise_n: np.ndarray  # elementwise kernels per block (norms, residual, activation, quantise) that are not fused
    training: TrainingFit
    step_overhead_s: np.ndarray
    sequence_overhead_s: np.ndarray
    token_imbalance: np.ndarray  # tokens on the fullest expert rank / mean, at large batch
    dp_overlap: np.ndarray  # share of the gradient exchange that hides behind the backward pass
    tdp_w: np.ndarray
    all_in_w: np.ndarray
    usd_per_s: np.ndarray
    reference_usd_per_s: np.ndarray  # the catalog's price: balance is valued at it, so that no what-if price buys tokens
    site_bytes_per_s: np.ndarray | float = np.inf  # from one site to the others, all its devices together, one direction
    site_rtt_s: np.ndarray | float = 0.0
    site_max_devices: np.ndarray | float = np.inf
    host_bytes_per_s: np.ndarray | float = np.inf  # from a device to its host's memory, one direction
    host_memory_bytes: np.ndarray | float = np.inf  # a device's share of it
    copy_frac: np.ndarray | float = 0.0  # share of the processors that move messages while the others compute


@dataclass(frozen=True)
class Kernels(Arrays):
    """Rates of the kernels of one design on one chip: the constants after its precision has been chosen."""

    gemm: Rate
    experts: Rate
    attention: Rate  # decode attention over the cache: KV heads, or the MLA latent
    prefill: Rate
    elementwise: Rate
    head: Rate  # LM head: 16 bit in training, as the GEMMs in serving


def in_training(chip: Chip) -> Chip:
    """The chip with the network and the memory that a training stack leaves it."""

    def slower(link: Link) -> Link:
        return replace(link, gather=link.gather * chip.training.network, all_to_all=link.all_to_all * chip.training.network)

    return replace(chip, scale_up=slower(chip.scale_up), scale_out=slower(chip.scale_out), usable_frac=chip.training.usable_frac)


def stretched(chip: Chip, rates=1.0, times=1.0) -> Chip:
    """The chip with all peaks and bandwidths times `rates` and all fixed times times `times` [1], scalars or (N,)."""

    def scaled(value, scale):
        return value.map(lambda v: v * scale) if isinstance(value, Arrays) else value * scale

    def walk(structure):
        changes = {}
        for name, value in vars(structure).items():
            if name.endswith(("bytes_per_s", "flop_per_s")):
                changes[name] = scaled(value, rates)
            elif name.endswith("_s") and not name.endswith("usd_per_s"):
                changes[name] = scaled(value, times)
            elif isinstance(value, Arrays):
                changes[name] = walk(value)
        return replace(structure, **changes)

    return walk(chip)


def slower(chip: Chip, factor) -> Chip:
    """The chip at 1 / factor of its speed: every time in every ledger is `factor` times as long, nothing else changes."""
    return stretched(chip, 1.0 / factor, factor)


def _rate(fit: KernelFit, chip: Chip, math_bits, fit_bits=None) -> Rate:
    bits = math_bits if fit_bits is None else fit_bits
    return Rate(
        t0_s=fit.t0_s.pick(bits),
        flop_per_s=fit.compute.pick(math_bits) * chip.peak_flop_per_s.pick(math_bits),
        bytes_per_s=fit.memory.pick(bits) * chip.hbm_bytes_per_s,
    )


def kernels(chip: Chip, precision: Precision, is_mla, training: bool = False) -> Kernels:
    """Kernel rates at the design's precision.

    GEMMs multiply at the wider of weight and activation bits that the chip has; attention math runs at the activation
    bits; the cache is streamed at the bandwidth achieved for its own width.  Training replaces the compute fractions of
    GEMMs, experts and attention by those fitted on training runs (other kernels, other shapes, a sustained clock).
    """
    gemm_bits = compute_bits(precision.weight_bits, precision.act_bits, chip.has_8_bit, chip.has_4_bit)
    math_bits = compute_bits(8, precision.act_bits, chip.has_8_bit, chip.has_4_bit)
    kv_bits = np.where(np.asarray(precision.kv_bits) >= 16, 16, 8)
    gemm, experts = _rate(chip.gemm, chip, gemm_bits), _rate(chip.experts, chip, gemm_bits)
    widened = np.asarray(precision.weight_bits) < gemm_bits
    if np.any(widened):
        only = _rate(chip.weight_only, chip, gemm_bits, precision.weight_bits)
        gemm = Rate(np.where(widened, only.t0_s, gemm.t0_s), gemm.flop_per_s, np.where(widened, only.bytes_per_s, gemm.bytes_per_s))
    prefill, head = _rate(chip.prefill_attention, chip, math_bits), gemm
    if training:
        fit, at_16 = chip.training, chip.peak_flop_per_s.at_16
        trained = fit.compute.pick(gemm_bits) * chip.peak_flop_per_s.pick(gemm_bits)
        gemm = Rate(gemm.t0_s, trained, gemm.bytes_per_s)
        experts = Rate(experts.t0_s, fit.experts.pick(gemm_bits) * trained, experts.bytes_per_s)
        prefill = Rate(prefill.t0_s, fit.attention * at_16, prefill.bytes_per_s)
        head = Rate(chip.gemm.t0_s.at_16, fit.compute.at_16 * at_16, gemm.bytes_per_s)
    return Kernels(
        gemm=gemm,
        experts=experts,
        attention=_decode_rate(chip, math_bits, kv_bits, np.asarray(is_mla)),
        prefill=prefill,
        elementwise=Rate(chip.gemm.t0_s.at_16, np.inf, chip.gemm.memory.at_16 * chip.hbm_bytes_per_s),
        head=head,
    )


def _decode_rate(chip: Chip, math_bits, kv_bits, is_mla) -> Rate:
    heads, latent = (_rate(fit, chip, math_bits, kv_bits) for fit in (chip.decode_attention, chip.mla_decode))
    return Rate(
        np.where(is_mla, latent.t0_s, heads.t0_s),
        np.where(is_mla, latent.flop_per_s, heads.flop_per_s),
        np.where(is_mla, latent.bytes_per_s, heads.bytes_per_s),
    )
