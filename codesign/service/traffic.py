"""Traffic of a service as numbers, and what follows from it before any hardware is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.arrays import Arrays


@dataclass(frozen=True)
class Traffic(Arrays):
    """One class of requests.  Lengths are means [tok] with standard deviations over requests."""

    isl_tok: np.ndarray  # prompt tokens per request, cached prefix included
    osl_tok: np.ndarray  # generated tokens per request
    isl_sd_tok: np.ndarray
    osl_sd_tok: np.ndarray
    prefix_tok: np.ndarray  # of the prompt, tokens whose cache is already there
    accepted_tok: np.ndarray  # tokens gained per decode step and sequence (1 without speculation)
    q_tok: np.ndarray  # tokens computed per decode step and sequence (1 + drafts)
    demand_tok_per_s: np.ndarray  # output tokens per second, mean
    peak_to_mean: np.ndarray
    occupancy_z: np.ndarray | float = 2.326  # standard normal quantile at which KV memory must suffice (99 %)
    chunked: np.ndarray | bool = True  # prompts ride inside decode steps, instead of stopping them


def mean_context(traffic: Traffic):
    """Mean context of a decoding sequence: isl + osl/2."""
    return traffic.isl_tok + traffic.osl_tok / 2.0


def held_tokens(traffic: Traffic, n_seq):
    """Cache tokens per sequence such that `n_seq` sequences of one rank fit at the wanted percentile of occupancy.

    A sequence seen in flight is length-biased: it holds isl + osl/2 (1 + cv^2) on average, and its answer is uniformly
    done, so var = sd_isl^2 + (osl^2 / 12)(1 + 3 cv^2).  The sum over n_seq is close to normal: mean + z sd / sqrt(n).

    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 0, 0, 1, 1, 1, 1)))
    >>> bool(held_tokens(t, 1e12) < 1101), bool(held_tokens(t, 1.0) > 1200)
    (True, True)
    """
    cv2 = (traffic.osl_sd_tok / np.maximum(traffic.osl_tok, 1.0)) ** 2
    mean = traffic.isl_tok + 0.5 * traffic.osl_tok * (1.0 + cv2)
    variance = traffic.isl_sd_tok**2 + traffic.osl_tok**2 / 12.0 * (1.0 + 3.0 * cv2)
    return mean + traffic.occupancy_z * np.sqrt(variance / np.maximum(n_seq, 1.0))


def interference(n_seq, traffic: Traffic, prefill_s, prefill_fixed_s, slack_s):
    """Seconds by which prefill lengthens one decode step of a colocated rank.

    n_seq accepted / osl prompts arrive per step (each of the n_seq sequences ends after osl / accepted steps).
    alternating:  (C / OSL) T_prefill, the prompts stop the decode;
    chunked:      max((C / OSL) (T_prefill - its fixed time) - slack, 0): a chunk rides in the same kernels as the decode
                  tokens, so it brings no launches of its own and fills the time in which weights stream and arithmetic waits.

    Parameters: n_seq [seq], prefill_s and prefill_fixed_s of one prompt [s], slack_s of one decode step [s].  Returns [s].
    """
    arrivals = n_seq * traffic.accepted_tok / traffic.osl_tok
    mixed = np.maximum(arrivals * (prefill_s - prefill_fixed_s) - slack_s, 0.0)
    return np.where(traffic.chunked, mixed, arrivals * prefill_s)


def prompt_queue(prefill_s, busy_frac):
    """Mean wait of a prompt behind other prompts of its rank: M/D/1, W = rho T / (2 (1 - rho)).

    Parameters: prefill_s of one prompt [s], busy_frac share of the rank's time that goes into prefill [-] (clipped at 0.98).
    Returns [s].  Source: Pollaczek-Khinchine with constant service time.

    >>> round(float(prompt_queue(0.1, 0.5)), 3)
    0.05
    """
    rho = np.clip(busy_frac, 0.0, 0.98)
    return prefill_s * rho / (2.0 * (1.0 - rho))


def occupied_devices(n_devices, domain):
    """Devices charged per replica when a domain is rented whole: idle devices of an occupied domain are paid for.

    n <= domain: domain / floor(domain / n);  n > domain: ceil(n / domain) domain.

    >>> float(occupied_devices(64, 72)), float(occupied_devices(2, 8)), float(occupied_devices(12, 8))
    (72.0, 2.0, 16.0)
    """
    n_devices = np.asarray(n_devices, dtype=float)
    within = domain / np.maximum(np.floor(domain / n_devices), 1.0)
    return np.where(n_devices <= domain, within, np.ceil(n_devices / domain) * domain)


def replicas(traffic: Traffic, tok_per_s):
    """Replicas that carry the peak: ceil(demand peak_to_mean / capacity)."""
    return np.ceil(traffic.demand_tok_per_s * traffic.peak_to_mean / tok_per_s)
