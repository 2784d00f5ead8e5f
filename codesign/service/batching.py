"""Three ways to fill a batch: paged and continuous, contiguous and continuous, static and padded.

paged        a sequence holds the tokens that it has; a finished one is replaced at once (vLLM, arXiv 2309.06180; Orca, OSDI 2022)
contiguous   the same, but a sequence reserves the longest request that may come, whatever it will use
static       a batch starts together, padded to its longest prompt, and ends with its longest answer
"""

from __future__ import annotations

import numpy as np

PAGED, CONTIGUOUS, STATIC = 0.0, 1.0, 2.0
KINDS = {"paged": PAGED, "contiguous": CONTIGUOUS, "static": STATIC}
RESERVED_FOR = 100.0  # a contiguous cache is sized for the longest of so many requests: ShareGPT's 500 tokens reserve about the 2,048 of Orca (arXiv 2309.06180)
_Z = np.linspace(-8.0, 12.0, 401)  # standard normal grid of the integral below


def longest_tok(mean_tok, sd_tok, n):
    """Expected longest of n lognormal lengths [tok].

    E[max] = integral of exp(mu + s z) n Phi(z)^(n-1) phi(z) dz,   s^2 = ln(1 + (sd/mean)^2),   mu = ln mean - s^2/2

    mean_tok, sd_tok [tok]; n requests [1], real; they broadcast.  Exact for independent lengths; trapezoid on 401 points (relative error
    below 1e-4 up to sd = 3 mean, n = 1e4).

    >>> [round(float(v)) for v in longest_tok(200.0, 200.0, np.array([1.0, 8.0, 64.0]))]
    [200, 531, 1075]
    """
    from scipy.special import log_ndtr

    mean, sd, n = (np.asarray(v, dtype=float)[..., None] for v in (mean_tok, sd_tok, n))
    s = np.sqrt(np.log1p((sd / np.maximum(mean, 1e-9)) ** 2))
    log_mean = np.log(np.maximum(mean, 1e-9)) - 0.5 * s**2
    density = np.log(n) + (n - 1.0) * log_ndtr(_Z) - 0.5 * _Z**2 - 0.5 * np.log(2.0 * np.pi)
    values = np.exp(log_mean + s * _Z + density)
    return np.trapezoid(values, _Z, axis=-1)


def padded(traffic, n_seq):
    """(prompt, answer) lengths to which a static batch of n_seq sequences is padded [tok].

    >>> from codesign.service.traffic import Traffic
    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 200, 0, 1, 1, 1, 1)))
    >>> [round(float(v)) for v in padded(t, np.float64(8))]
    [1000, 531]
    """
    n = np.maximum(n_seq, 1.0)
    return longest_tok(traffic.isl_tok, traffic.isl_sd_tok, n), longest_tok(traffic.osl_tok, traffic.osl_sd_tok, n)


def reserved_tok(traffic):
    """Tokens that a contiguous cache reserves per sequence: the longest prompt and answer of RESERVED_FOR requests [tok].

    >>> from codesign.service.traffic import Traffic
    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 500, 200, 0, 1, 1, 1, 1)))
    >>> 1200 < float(reserved_tok(t)) < 10000
    True
    """
    return sum(longest_tok(m, s, RESERVED_FOR) for m, s in ((traffic.isl_tok, traffic.isl_sd_tok), (traffic.osl_tok, traffic.osl_sd_tok)))


def useful_share(traffic, n_seq):
    """Share of a static batch's slots and steps that yield a token somebody asked for: mean answer / longest of the batch [1].

    >>> from codesign.service.traffic import Traffic
    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 200, 0, 1, 1, 1, 1)))
    >>> round(float(useful_share(t, np.float64(8))), 2)
    0.38
    """
    return traffic.osl_tok / padded(traffic, n_seq)[1]


def static_batch_s(traffic, n_seq, step_s, prefill_s):
    """(time that a static batch of n_seq takes, of which its prompts) [s].

    T = n (longest isl / isl) T_prefill + longest osl x step.   n_seq sequences, step_s [s], prefill_s of one mean prompt [s].

    >>> from codesign.service.traffic import Traffic
    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 0, 0, 1, 1, 1, 1)))
    >>> [round(float(v), 3) for v in static_batch_s(t, np.float64(8), 0.02, 0.1)]
    [4.8, 0.8]
    """
    prompt, answer = padded(traffic, n_seq)
    prompts_s = n_seq * prefill_s * prompt / np.maximum(traffic.isl_tok, 1.0)
    return prompts_s + answer / traffic.accepted_tok * step_s, prompts_s
