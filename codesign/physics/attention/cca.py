"""Compressed convolutional attention: GQA in a narrow latent whose queries and keys pass two short convolutions (arXiv 2510.04476)."""

from __future__ import annotations

from dataclasses import replace

from codesign.physics.attention import Mixer, gqa

STATE = False
TAPS = 2  # of each of the two convolutions, the only setting published


def mixer(arch: dict, window: bool) -> Mixer:
    """Grouped-query attention whose h d_head is smaller than d_model, after a depthwise and a per-head convolution of (q, k).

    Beyond GQA: channels c = (h + g) d_head; weights 2 c (depthwise) + 2 c d_head (one group per head) + biases, and a
    temperature per KV head; state: the last two q, k inputs and half of the previous token's values, 16 bit.
    Source: arXiv 2510.04476 section 3; layer layout of transformers `zaya`.

    >>> from codesign.physics.architecture import fill  # one ZAYA1-8B layer
    >>> arch = fill(dict(n_layers=40, d_model=2048, n_heads=8, n_kv_heads=2, d_head=128, attention="cca"))
    >>> float(mixer(arch, window=False).matmul_params) == 2 * 2048 * 1024 + 2 * 2048 * 256 + 2 * 1280 * 128
    True
    """
    base = gqa.mixer(arch, window)
    groups, width = base.kv_shards, arch["d_head"]
    channels = (arch["n_heads"] + groups) * width
    per_head = TAPS * channels * width
    return replace(
        base,
        params_tp=base.params_tp + per_head + TAPS * channels + 2 * channels + groups,
        matmul_params=base.matmul_params + per_head,
        state_bytes=2.0 * (2 * (TAPS - 1) * channels + groups * arch["d_head_v"] / 2),
        state_flop_per_tok=2.0 * TAPS * channels,
        n_gemm=base.n_gemm + 1,
    )
