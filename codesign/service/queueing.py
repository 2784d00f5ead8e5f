"""How long requests wait, as percentiles: the departure of the next step, the queue behind other prompts, prompts of unequal length.

A first token needs W = U + Q + P: U uniform on one step (the train that leaves next), Q the queue (0 with probability 1 - p, else about
exponential), P the request's own prefill.  Closed forms where they exist, checked against an event simulation in the tests.
"""

from __future__ import annotations

import numpy as np

BUSIEST = 0.98  # utilisation at which the queue is cut off
_NODES = 24  # equally likely prompt lengths that stand for their distribution
_HALVINGS = 60


def mean_wait_s(service_s, busy_frac, n_servers=1.0, service_cv=0.0):
    """Mean wait in an M/G/c queue [s]: W = (1 + cv^2)/2 x T rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)).

    service_s T mean service time [s], busy_frac rho [-], n_servers c, service_cv: its coefficient of variation.  Source: exact for c = 1
    (Pollaczek-Khinchine); Sakasegawa 1977 with the two-moment factor beyond.

    >>> round(float(mean_wait_s(0.1, 0.5)), 3), round(float(mean_wait_s(0.1, 0.5, 1.0, 1.0)), 3)
    (0.05, 0.1)
    """
    rho = np.clip(busy_frac, 0.0, BUSIEST)
    power = np.sqrt(2.0 * (np.asarray(n_servers) + 1.0)) - 1.0
    return 0.5 * (1.0 + np.asarray(service_cv) ** 2) * service_s * rho**power / (n_servers * (1.0 - rho))


def waits_probability(busy_frac, n_servers=1.0):
    """Probability that an arrival finds every server busy: about rho^(sqrt(2 (c + 1)) - 1); exactly rho for c = 1 [1].

    Source: the wait of `mean_wait_s` over that of a customer who waits, T/(c (1 - rho)) in M/M/c (Sakasegawa 1977).

    >>> float(waits_probability(0.6)), bool(waits_probability(0.6, 10.0) < 0.2)
    (0.6, True)
    """
    return np.clip(busy_frac, 0.0, BUSIEST) ** (np.sqrt(2.0 * (np.asarray(n_servers) + 1.0)) - 1.0)


def wait_cdf(t_s, interval_s, mean_queue_s, probability):
    """Probability that alignment and queue together take at most t [1].

    U uniform on (0, T);  Q = 0 with 1 - p, else exponential with mean m = E[Q]/p:
    t < T:  t/T - p m/T (1 - e^(-t/m));     t >= T:  1 - p m/T (e^(T/m) - 1) e^(-t/m)

    t_s, interval_s T, mean_queue_s E[Q] [s]; probability p.  Returns [1].

    >>> round(float(wait_cdf(0.5, 1.0, 0.0, 0.0)), 3), round(float(wait_cdf(3.0, 1e-9, 1.0, 1.0)), 3)
    (0.5, 0.95)
    """
    p = np.maximum(probability, 1e-12)
    m = np.maximum(np.asarray(mean_queue_s, dtype=float) / p, 1e-12)
    step = np.maximum(interval_s, 1e-12)
    t = np.maximum(np.asarray(t_s, dtype=float), 0.0)
    early = t / step - p * m / step * -np.expm1(-t / m)
    # (e^(T/m) - 1) e^(-t/m), without overflow
    late = 1.0 - p * m / step * (np.exp(-np.maximum(t - step, 0.0) / m) - np.exp(-t / m))
    return np.where(t < step, early, late)


def ttft_quantile(level, interval_s, mean_queue_s, probability, prefill_s, prefill_cv=0.0):
    """Time to first token that a share `level` of requests does not exceed [s].

    interval_s: step that the request waits to join; mean_queue_s and probability of `mean_wait_s`, `waits_probability`; prefill_s of a mean
    prompt, prefill_cv of its spread (lognormal, time in proportion to length).  All broadcast; solved by bisection.  Valid for Poisson
    arrivals and a queue in equilibrium; the exponential tail is up to a fifth too long at the 99th percentile for equal prompts at low load
    (event simulation, tests/service).

    >>> round(float(ttft_quantile(0.5, 1.0, 0.0, 0.0, 2.0)), 3)
    2.5
    """
    from scipy.special import ndtri

    arrays = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (interval_s, mean_queue_s, probability, prefill_s, prefill_cv)))
    interval_s, mean_queue_s, probability, prefill_s, prefill_cv = (a[..., None] for a in arrays)
    s = np.sqrt(np.log1p(prefill_cv**2))
    own = prefill_s * np.exp(s * ndtri((np.arange(_NODES) + 0.5) / _NODES) - 0.5 * s**2)
    low = np.zeros(arrays[0].shape)
    high = arrays[0] + 40.0 * (arrays[1] / np.maximum(arrays[2], 1e-9) + 1e-9) + np.max(own, axis=-1)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        left = middle[..., None] - own
        reached = np.mean(np.where(left >= 0, wait_cdf(left, interval_s, mean_queue_s, probability), 0.0), axis=-1) >= level
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return high


def tpot_quantile(level, step_s, stall_s, prefill_s, osl_tok, accepted_tok=1.0):
    """Time per output token that a share `level` of answers does not exceed [s]: prompts that interrupt an answer come at random.

    Over an answer's n = osl / accepted steps the expected interruptions are N = n stall/T_prefill, Poisson:
    TPOT = (step + stall + z sqrt(stall T_prefill / n)) / accepted,   z the normal quantile of level

    step_s, stall_s mean per step, prefill_s of one prompt [s], osl_tok [tok].  Valid for N of several; exact mean.

    >>> float(tpot_quantile(0.5, 0.02, 0.01, 0.2, 400.0)), round(float(tpot_quantile(0.99, 0.02, 0.01, 0.2, 400.0)), 4)
    (0.03, 0.0352)
    """
    from scipy.special import ndtri

    n = np.maximum(np.asarray(osl_tok, dtype=float) / accepted_tok, 1.0)
    return (step_s + stall_s + ndtri(level) * np.sqrt(np.maximum(stall_s, 0.0) * prefill_s / n)) / accepted_tok


def departure_load(interval_s, fixed_s, per_sequence_s):
    """Share of a device's largest rate that a departure every `interval_s` serves: a train of B sequences takes fixed + B x each.

    B = (T - t0)/b tokens per departure, rate B/T, largest 1/b:   load = 1 - t0/T

    interval_s T, fixed_s t0 (weights, launches), per_sequence_s b (cache of one sequence, only checked to be positive) [s].  Returns [1].

    >>> float(departure_load(0.020, 0.005, 1e-4))
    0.75
    """
    share = 1.0 - np.asarray(fixed_s, dtype=float) / interval_s
    return np.where(np.asarray(per_sequence_s) > 0, np.clip(share, 0.0, 1.0), 0.0)
