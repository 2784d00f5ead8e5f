"""Multi-query attention: all query heads share one key and one value head (arXiv 1911.02150)."""

from __future__ import annotations

from codesign.physics.attention import Mixer, gqa

STATE = False


def mixer(arch: dict, window: bool) -> Mixer:
    """Grouped-query attention with n_kv_heads = 1: cache 2 d_head elements per token and layer.

    >>> from codesign.physics.architecture import fill  # one PaLM-540B layer
    >>> arch = fill(dict(n_layers=118, d_model=18432, n_heads=48, d_head=256, d_ff=73728, vocab=256000, attention="mqa"))
    >>> float(mixer(arch, window=False).kv_elems_per_tok) == 2 * 256
    True
    """
    return gqa.mixer(arch | {"n_kv_heads": 1.0, "n_window_kv_heads": 1.0}, window)
