"""One step of a diffusion transformer (DiT): all latent tokens of an image or video pass the model, each attends to all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics import memory, operators
from codesign.physics.arrays import Arrays
from codesign.physics.kernels import Ledger
from codesign.physics.layout import Layout
from codesign.physics.operators import ACT_BYTES, Scene


@dataclass(frozen=True)
class Clip(Arrays):
    """What is generated: latent tokens, text tokens that each block attends to (0: none), steps, passes per step, clips at a time."""

    n_tok: np.ndarray  # (1 + (frames - 1)/4) (height/16) (width/16): 75,600 for 81 frames of 720 x 1280 (Wan 2.1, arXiv 2503.20314)
    text_tok: np.ndarray | float = 0.0
    n_steps: np.ndarray | float = 50.0
    n_guidance: np.ndarray | float = 2.0  # classifier-free guidance: with and without the text (arXiv 2207.12598)
    batch: np.ndarray | float = 1.0  # clips per data-parallel rank


def flop(scene: Scene, clip: Clip):
    """(matmul, attention) FLOP of one forward pass over one clip: 2 W tok + cross-attention, and 2 h (d_qk + d_v) per pair of all tok^2."""
    census = scene.census
    matmul, attention = 2.0 * census.n_matmul_params_per_tok * clip.n_tok, 0.0
    for _, mixer, _ in scene.mixers():
        cross = _cross_params(scene, mixer) * (clip.text_tok > 0)
        matmul = matmul + mixer.n_layers * cross * (clip.n_tok + clip.text_tok)
        attention = attention + mixer.n_layers * mixer.flop_per_pair_prefill * clip.n_tok * (clip.n_tok + clip.text_tok)
    return matmul, attention


def _cross_params(scene: Scene, mixer):
    """Projections of cross-attention per layer: queries and output for clip tokens, keys and values for text, 4 d h d_head."""
    return 4.0 * scene.census.d_model * mixer.n_heads * mixer.d_qk


def n_params(scene: Scene, clip: Clip):
    """Parameters of the blocks and tables, with those of cross-attention where there is text."""
    cross = sum(m.n_layers * _cross_params(scene, m) for _, m, _ in scene.mixers())
    return scene.census.n_params + cross * (np.asarray(clip.text_tok) > 0)


def step(scene: Scene, layout: Layout, clip: Clip, detail: bool = False) -> Ledger:
    """Serial time [s] of one forward pass over the clips of one rank: T = sum over operators of t0 + max(compute, memory), + network.

    Context parallelism splits tokens and gathers keys and values, tensor parallelism as in prefill; modulation by the step (adaLN) is
    one small product per layer and left out.  Dense models with full attention (scene (A, 1) or (N,), layout (1, L) or (N,)).
    """
    ledger = Ledger(detail)
    n_tok = clip.batch * clip.n_tok / layout.n_cp
    for _, mixer, _ in scene.mixers():
        operators.projections(ledger, scene, layout, mixer, n_tok)
        ramp = 1.0 + scene.chip.prefill_s0_tok / np.maximum(clip.n_tok, 1.0)
        split = layout.n_tp * layout.n_cp
        work = clip.batch * clip.n_tok * clip.n_tok * mixer.flop_per_pair_prefill * ramp / split
        kept = 4.0 * n_tok * mixer.n_heads * mixer.d_qk * ACT_BYTES / layout.n_tp  # queries, keys, values in; outputs out
        ledger.kernel("attention", scene.rates.prefill, 1.0, work, kept, repeat=mixer.n_layers)
        if np.any(np.asarray(clip.text_tok) > 0):
            _cross_attention(ledger, scene, layout, clip, mixer, n_tok)
    operators.dense_ffn(ledger, scene, layout, n_tok)
    operators.tensor_reductions(ledger, scene, layout, n_tok)
    operators.elementwise(ledger, scene, n_tok)
    operators.context_exchange(ledger, scene, layout, clip.batch * clip.n_tok)
    operators.pipeline_hops(ledger, scene, layout, n_tok)
    return ledger


def _cross_attention(ledger: Ledger, scene: Scene, layout: Layout, clip: Clip, mixer, n_tok) -> None:
    weights = _cross_params(scene, mixer) / layout.n_tp
    text = clip.batch * clip.text_tok
    n_bytes = weights * scene.weight_bytes + n_tok * ACT_BYTES * (2.0 * scene.census.d_model + weights / scene.census.d_model / 2.0)
    ledger.kernel("cross projections", scene.rates.gemm, 2.0, weights * (n_tok + text), n_bytes, repeat=mixer.n_layers)
    work = n_tok * clip.text_tok * mixer.flop_per_pair_prefill / layout.n_tp
    kept = 2.0 * n_tok * mixer.n_heads * mixer.d_qk * ACT_BYTES / layout.n_tp
    ledger.kernel("cross attention", scene.rates.prefill, 1.0, work, kept, repeat=mixer.n_layers)


def clip_s(step_s, clip: Clip, layout: Layout):
    """Seconds from noise to one finished clip: steps x passes x step, passes spread over data-parallel ranks as far as there are any.

    >>> one = Layout(*(np.float64(v) for v in (1, 1, 2, 1, 1, 1, 1)))
    >>> float(clip_s(2.0, Clip(np.float64(1)), one))
    100.0
    """
    return clip.n_steps * np.ceil(clip.n_guidance / layout.n_dp) * step_s


def memory_classes(scene: Scene, layout: Layout, clip: Clip) -> dict[str, np.ndarray]:
    """Bytes per class on one device: weights with cross-attention, activations of one block; no cache."""
    cross = sum(m.n_layers * _cross_params(scene, m) for _, m, _ in scene.mixers()) * (clip.text_tok > 0)
    n_tok = clip.batch * clip.n_tok / layout.n_cp
    return {
        "weights": memory.serving_weights(scene, layout) + cross * scene.weight_bytes / (layout.n_tp * layout.n_pp),
        "activations": memory.serving_activations(scene, layout, n_tok),
        "reserve": scene.chip.reserve_bytes,
    }
