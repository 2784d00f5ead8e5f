"""Optimizer, learning-rate and batch schedules that published runs used, as functions of a design's compute, tokens and batch.

None of this enters the search: a training plan needs it to be complete, and says where it comes from.
"""

from __future__ import annotations

import numpy as np

from codesign.lifecycle import critical_batch

ADAM = {"optimizer": "AdamW", "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1, "gradient_clip_norm": 1.0}
ADAM_SOURCE = "DeepSeek-V3, arXiv 2412.19437 section 4.2"
WARMUP_STEPS = 2000  # DeepSeek LLM, arXiv 2401.02954 section 2.3; DeepSeek-V3 the same
COOLDOWN_FRAC = 0.2  # last share of the tokens, learning rate to 0 as 1 - sqrt(x): arXiv 2405.18392 section 3
BRANCH_FRAC = 0.1  # cooldown of a gate's side branch: 10 % is enough in arXiv 2404.06395 section 4
LEARNING_RATE_SOURCE = (
    "peak 0.3118 C^-0.1250: DeepSeek LLM, arXiv 2401.02954 equation 1 (fitted at 1e17-2e19 FLOP, extrapolated here; within 30 % of the "
    "peaks of DeepSeek LLM 7B and 67B and of DeepSeek-V3); warmup, constant, cooldown 1 - sqrt: arXiv 2405.18392, 2404.06395"
)
RAMP_SOURCE = (
    "the batch grows while the critical batch does (B_crit = c D^0.462, arXiv 2505.13738) and reaches its final size "
    "within the first 3.2 % of the tokens, as DeepSeek-V3's (469e9 of 14.8e12, arXiv 2412.19437 section 4.2)"
)
RAMP_FRAC = 469e9 / 14.8e12
MAX_DOUBLINGS = 3  # DeepSeek-V3 grew its batch fivefold (3,072 to 15,360 sequences), Llama 3 405B fourfold (arXiv 2407.21783)


def peak_learning_rate(c_flop):
    """Peak learning rate of AdamW for a training compute: eta = 0.3118 C^-0.1250 [1].

    c_flop [FLOP], without embedding lookups. Source: DeepSeek LLM, arXiv 2401.02954 equation 1; fitted at 1e17-2e19 FLOP on
    dense models. Published peaks: 4.2e-4 (7B, 2e12 tokens), 3.2e-4 (67B, 2e12), 2.2e-4 (DeepSeek-V3, 14.8e12, 37B active).

    >>> [f"{peak_learning_rate(6 * n * d):.1e}" for n, d in ((7e9, 2e12), (67e9, 2e12), (37e9, 14.8e12))]
    ['4.2e-04', '3.2e-04', '2.7e-04']
    """
    return 0.3118 * c_flop**-0.1250


def optimal_batch_tok(c_flop):
    """Batch of lowest loss for a training compute: B = 0.2920 C^0.3271 [tok].

    c_flop [FLOP]. Source: DeepSeek LLM, arXiv 2401.02954 equation 1. DeepSeek LLM 7B used 2,304 sequences of 4,096, 67B 4,608.

    >>> [round(optimal_batch_tok(6 * n * 2e12) / 4096) for n in (7e9, 67e9)]
    [2247, 4704]
    """
    return 0.2920 * c_flop**0.3271


def ramp(batch_seq: int, seq_tok: float, spent_tok: float) -> list[tuple[float, int]]:
    """Stages (tokens processed at their end [tok], batch [seq]) of a batch that doubles up to `batch_seq`; the last one runs to the end.

    A batch B is right from the tokens D on at which B_crit(D) = c D^p = B, so each doubling takes 2^(1/p) as many tokens as
    the one before: D_k = D_end 2^(-k/p), with D_end = min((B/c)^(1/p), 3.2 % of all tokens).

    >>> [(f"{tok:.1e}", batch) for tok, batch in ramp(15360, 4096.0, 14.8e12)]
    [('2.3e+10', 1920), ('1.0e+11', 3840), ('4.7e+11', 7680), ('1.5e+13', 15360)]
    """
    law = critical_batch.DEFAULT
    end = min((batch_seq * seq_tok / law.coefficient) ** (1.0 / law.power), RAMP_FRAC * spent_tok)
    n = next(k for k in range(MAX_DOUBLINGS, -1, -1) if batch_seq % 2**k == 0)
    stages = [(end * 2.0 ** (-(k - 1) / law.power), batch_seq // 2**k) for k in range(n, 0, -1)]
    return [*stages, (spent_tok, batch_seq)]


def request_tok(mean_tok, sd_tok, z) -> float:
    """Length that all but the share beyond the normal quantile z of requests keep within [tok].

    exp(ln m - s^2/2 + z s),  s^2 = ln(1 + (sd/m)^2): a lognormal of the requests' mean m and deviation (Fenton-Wilkinson for
    the sum of prompt and answer).

    >>> request_tok(1000.0, 0.0, 2.326), round(request_tok(1366.0, 700.0, 2.326))
    (1000.0, 3738)
    """
    s2 = np.log1p((sd_tok / mean_tok) ** 2)
    return float(mean_tok * np.exp(z * np.sqrt(s2) - s2 / 2.0))
