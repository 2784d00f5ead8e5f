"""Global batch against wasted tokens: why training days cannot be bought with unlimited data parallelism.

All batches are in tokens per optimizer step. The trade-off is the hyperbola of arXiv 1812.06162:
reaching one loss with S steps and T = B S tokens obeys (S/S_min - 1)(T/T_min - 1) = 1, i.e. T = T_min (1 +
B/B_crit), B_crit = T_min/S_min; the critical batch grows with the token count and hardly with model size
(arXiv 2410.21676, 2505.13738).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchLaw:
    """B_crit = coefficient D^power [tok]: the batch at which the same loss needs twice the tokens."""

    name: str
    coefficient: float
    power: float
    source: str


# Zhang's batch is defined by 20 % more tokens, so B_crit = B / 0.2; its published fits in N and D agree with
# each other only for D in millions of tokens and batches in sequences of 512 (their context), which is what
# is used here. The two independent laws then differ by 10 % at 3e9 tokens and by 17 % at 15e12.
BATCH_LAWS = {
    "bergsma": BatchLaw(
        "bergsma",
        0.0471 * 2048,
        0.462,
        "arXiv 2505.13738: B_crit = 0.0471 D^0.462 sequences of 2048, R2 0.94, <= 3.3B parameters",
    ),
    "zhang": BatchLaw(
        "zhang",
        22.91 * 512 * 1e6**-0.47 / 0.2,
        0.47,
        "arXiv 2410.21676: 22.91 (D/1e6)^0.47 sequences of 512 at 20 % overhead, 85M-1.2B parameters, C4",
    ),
}
DEFAULT = BATCH_LAWS["bergsma"]
_FIXED_POINT_STEPS = 40  # the map contracts by at least 0.47 per step: 1e-13


def critical_batch_tok(tok, law=DEFAULT):
    """Batch at which a run needs twice the tokens of a run with tiny batches: B_crit = c D^p [tok].

    tok: training tokens D at small batch [tok], any shape. Source: `law.source`. Fitted to about 1e11 tokens;
    frontier runs (15e12) extrapolate 100x, and optimizers such as Muon tolerate more.

    >>> [f"{float(critical_batch_tok(3e9, law)):.1e}" for law in BATCH_LAWS.values()]
    ['2.3e+06', '2.5e+06']
    """
    return law.coefficient * np.asarray(tok, float) ** law.power


def reference_batch_tok(tok):
    """Batch of the runs behind the scaling laws: the loss-optimal 0.0306 D^0.383 sequences of 2048 tokens.

    Returns B_ref [tok]. Source: arXiv 2505.13738 (R2 0.98). At the 1.4e12 tokens of Chinchilla it gives
    2.8e6, within the 1.5-3e6 that model was trained with (arXiv 2203.15556 Table 1).

    >>> f"{float(reference_batch_tok(1.4e12)):.1e}"
    '2.8e+06'
    """
    return 0.0306 * 2048 * np.asarray(tok, float) ** 0.383


def token_waste(batch_tok, tok, law=DEFAULT):
    """Tokens to process per token that the quality law counts.

    A law fitted to runs of batch B_ref has the factor 1 + B_ref/B_crit inside its D already, so relative to
    it
      w = max(1, (1 + B/B_crit(D)) / (1 + B_ref(D)/B_crit(D))) = max(1, (B_crit + B) / (B_crit + B_ref))

    batch_tok B [tok], tok: D of the quality law [tok], broadcastable. Returns w [1]: 1 for B <= B_ref, rising
    with B, falling with D. Source: arXiv 1812.06162 with `critical_batch_tok`.

    >>> [round(float(token_waste(b, 15e12)), 2) for b in (1e6, 16e6, 63e6)]
    [1.0, 1.07, 1.45]
    """
    critical = critical_batch_tok(tok, law)
    return np.maximum(1.0, (critical + np.asarray(batch_tok, float)) / (critical + reference_batch_tok(tok)))


def max_batch_tok(tok, waste, law=DEFAULT):
    """Largest batch within a limit w >= 1 on token waste: B = w (B_crit + B_ref) - B_crit [tok].

    >>> b = max_batch_tok(1e12, 1.2)
    >>> round(float(token_waste(b, 1e12)), 9)
    1.2
    """
    critical = critical_batch_tok(tok, law)
    return np.maximum(np.asarray(waste, float), 1.0) * (critical + reference_batch_tok(tok)) - critical


def n_steps(batch_tok, tok, law=DEFAULT):
    """Optimizer steps for the quality of D tokens: D w(B, D) / B [1]; never below D / (B_crit + B_ref).

    >>> round(float(n_steps(1e6, 1e12)), -3)
    1000000.0
    """
    return np.asarray(tok, float) * token_waste(batch_tok, tok, law) / np.asarray(batch_tok, float)


def useful_tok(processed_tok, batch_tok, law=DEFAULT, n_rounds=_FIXED_POINT_STEPS):
    """Tokens the quality law may count of T processed in batches of B: the D solving D w(B, D) = T.

    D <- T / w(B, D), a contraction because w falls more slowly than D^-0.47. processed_tok T, batch_tok B
    [tok]. Returns D [tok], <= T; with fewer `n_rounds` a value above it.

    >>> d = useful_tok(20e12, 63e6)
    >>> round(float(d * token_waste(63e6, d)) / 1e12, 9)
    20.0
    """
    processed = np.asarray(processed_tok, float)
    tok = processed
    for _ in range(n_rounds):
        tok = processed / token_waste(batch_tok, np.maximum(tok, 1.0), law)
    return tok
