"""Training over several sites: data-parallel copies joined by slow links, every step or every few hundred."""

from __future__ import annotations

import numpy as np

from codesign.physics.hardware import Chip

LOCAL_STEP_WASTE = 0.03  # further tokens per doubling of copies that step on their own; our reading of arXiv 2503.09799 (DiLoCo up to 10e9)
OUTER_BYTES = 4.0  # fp32 difference of the weights per parameter (arXiv 2311.08105); fp32 gradients when every step is exchanged


def exchange_s(n_params, n_sites, chip: Chip):
    """Exchange of all parameters between m sites, once: 2 (m-1)/m x 4 B x N / (link of a site) + 2 round trips, 0 for one site [s].

    Ring all-reduce over the sites, each with `site_bytes_per_s` [byte/s] for all its devices together and direction.

    >>> from types import SimpleNamespace as S
    >>> float(exchange_s(1e9, 2, S(site_bytes_per_s=1e9, site_rtt_s=0.05)))
    4.1
    """
    ring = 2.0 * (n_sites - 1.0) / n_sites * OUTER_BYTES * n_params / chip.site_bytes_per_s
    return (ring + 2.0 * chip.site_rtt_s) * (np.asarray(n_sites) > 1)


def exposed_s(n_params, n_sites, sync_every, micro_s, chip: Chip):
    """Seconds per optimizer step that the exchange between sites adds: (t - min(overlap t, t_micro)) / H.

    sync_every H = 1: every step, hidden behind one micro-batch as the exchange inside a site is; H > 1: each site takes H steps of its own
    (DiLoCo, arXiv 2311.08105; H = 500 there).  Parameters: n_params of the whole model [1], micro_s [s].
    """
    whole = exchange_s(n_params, n_sites, chip)
    return (whole - np.minimum(chip.dp_overlap * whole, micro_s)) / sync_every


def token_waste(n_sites, sync_every):
    """Tokens processed per token that counts: 1 + 0.03 log2 m where m sites step on their own between exchanges, else 1 [1].

    >>> float(token_waste(8, 500)), float(token_waste(8, 1)), float(token_waste(1, 500))
    (1.09, 1.0, 1.0)
    """
    return 1.0 + LOCAL_STEP_WASTE * np.log2(n_sites) * (np.asarray(sync_every) > 1)
