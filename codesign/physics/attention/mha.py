"""Multi-head attention: every query head has its own key and value head (arXiv 1706.03762)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, gqa

STATE = False


def mixer(arch: dict, window: bool) -> Mixer:
    """Grouped-query attention with n_kv_heads = n_heads: cache 2 h d_head elements per token and layer.

    >>> from codesign.physics.architecture import fill  # one Llama-2-7B layer
    >>> arch = fill(dict(n_layers=32, d_model=4096, n_heads=32, d_ff=11008, vocab=32000, attention="mha"))
    >>> float(mixer(arch, window=False).kv_elems_per_tok) == 2 * 32 * 128
    True
    """
    heads = arch["n_heads"]
    return gqa.mixer(arch | {"n_kv_heads": heads, "n_window_kv_heads": heads}, window)
