"""Tile and wave quantisation of one matrix product.  Bare counting, used to judge shapes; the fitted kernel constants hold its mean."""

from __future__ import annotations

import numpy as np


def waves(m, n, tile_m, tile_n, n_sm):
    """Waves of thread blocks: ceil(tiles / n_sm), one tile per processor at a time [1].

    Source: NVIDIA, Matrix Multiplication Background User's Guide, sections 3.1-3.2: 256 x 128 tiles run in waves of 108 on an A100.

    >>> float(waves(2304, 1536, 256, 128, 108)), float(waves(2304, 1537, 256, 128, 108))
    (1.0, 2.0)
    """
    return np.ceil(np.ceil(m / tile_m) * np.ceil(n / tile_n) / n_sm)


def occupied_flop(m, n, k, tile_m, tile_n, tile_k, n_sm):
    """FLOP that the chip could have done while an (m x k) by (k x n) product runs: 2 waves n_sm tile_m tile_n k', k' in whole tiles.

    The useful share is 2 m n k over it: padding at the edges and processors that idle in the last wave are lost.

    >>> 2 * 2304 * 1536 * 4096 / float(occupied_flop(2304, 1536, 4096, 256, 128, 64, 108))
    1.0
    >>> round(2 * 8192 * 4064 * 8192 / float(occupied_flop(8192, 4064, 8192, 256, 128, 64, 132)), 3)
    0.962
    """
    return 2.0 * waves(m, n, tile_m, tile_n, n_sm) * n_sm * tile_m * tile_n * np.ceil(k / tile_k) * tile_k
