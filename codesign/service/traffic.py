"""Traffic of a service as numbers, and what follows from it before any hardware is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.physics.arrays import Arrays
from codesign.service import batching
from codesign.service.queueing import mean_wait_s

RENTED_WHOLE = 144  # largest domain that is rented or bought as one: a rack; TPU pods are let by the slice


@dataclass(frozen=True)
class Stages:
    """Demand over the product's life in steps: share of the life and demand over its mean of each, whether the fleet follows them."""

    share: tuple[float, ...] = (1.0,)
    level: tuple[float, ...] = (1.0,)
    follows: bool = False

    @property
    def highest(self) -> float:
        """Demand of the largest stage over the mean."""
        return max(self.level)


CONSTANT = Stages()


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
    batching: np.ndarray | float = batching.PAGED  # how a batch is filled and its cache reserved
    reuse_s: np.ndarray | float = 0.0  # time until a prefix is used again; 0: keeping it costs nothing
    keep_usd_per_byte_s: np.ndarray | float = 0.0  # price of holding it (`service.tiers`)
    keep_in_hbm: np.ndarray | float = 0.0  # 1: at the rent of the device's own memory instead
    keep_bytes_per_s: np.ndarray | float = np.inf  # bandwidth between its place and a device
    keep_latency_s: np.ndarray | float = 0.0
    stages: Stages = CONSTANT  # how the mean is spread over the life; `peak_to_mean` is that of a day


def progress_tok(traffic: Traffic):
    """(mean, variance) of the answer tokens that a sequence seen in flight already has.

    Seen in flight, answers are length-biased and uniformly done: E[X] = E[L^2] / (2 E[L]) = osl (1 + cv^2) / 2,
    E[X^2] = E[L^3] / (3 E[L]) = osl^2 (1 + cv^2)^3 / 3 for lognormal lengths.
    """
    spread = 1.0 + (traffic.osl_sd_tok / np.maximum(traffic.osl_tok, 1.0)) ** 2
    mean = 0.5 * traffic.osl_tok * spread
    return mean, traffic.osl_tok**2 * (spread**3 / 3.0 - spread**2 / 4.0)


def mean_context(traffic: Traffic, n_seq=1.0):
    """Mean context of a decoding sequence [tok]: isl + E[progress]; in a static batch of n_seq the padded prompt and half the longest answer."""
    context = traffic.isl_tok + progress_tok(traffic)[0]
    if not np.any(np.asarray(traffic.batching) == batching.STATIC):
        return context
    prompt, answer = batching.padded(traffic, n_seq)
    return np.where(traffic.batching == batching.STATIC, prompt + 0.5 * answer, context)


def held_tokens(traffic: Traffic, n_seq):
    """Cache tokens per sequence such that `n_seq` sequences of one rank fit at the wanted percentile of occupancy.

    The sum over n_seq sequences in flight is close to normal: mean + z sd / sqrt(n), sd^2 = sd_isl^2 + var(progress).  Contiguous and
    static caches reserve more (`service.batching`).

    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 0, 0, 1, 1, 1, 1)))
    >>> bool(held_tokens(t, 1e12) < 1101), bool(held_tokens(t, 1.0) > 1200)
    (True, True)
    """
    mean, variance = progress_tok(traffic)
    deviation = np.sqrt(traffic.isl_sd_tok**2 + variance)
    paged = traffic.isl_tok + mean + traffic.occupancy_z * deviation / np.sqrt(np.maximum(n_seq, 1.0))
    if not np.any(np.asarray(traffic.batching)):
        return paged
    whole = np.where(traffic.batching == batching.STATIC, sum(batching.padded(traffic, n_seq)), batching.reserved_tok(traffic))
    return np.where(traffic.batching == batching.PAGED, paged, whole)


def interference(n_seq, traffic: Traffic, prefill_s, prefill_fixed_s, slack_s, n_chunks=1.0):
    """Seconds by which prefill lengthens the mean decode step of a colocated rank (of one micro-batch, where stages form a pipeline).

    n_seq accepted / osl prompts arrive per step (each of the n_seq sequences ends after osl / accepted steps).
    alternating:  (C / OSL) T_prefill, the prompts stop the decode;
    chunked:      (C / OSL) T_prefill - min(f, 1) (slack + fixed time of one chunk), f = (C / OSL) n_chunks the share of steps that carry a
                  chunk: there it rides in the same kernels, brings no launches of its own and fills the time in which weights
                  stream and arithmetic waits (attention over a cache has none to lend: each sequence reads its own).

    Parameters: n_seq [seq], prefill_s and prefill_fixed_s of one prompt [s], slack_s of one decode step [s], n_chunks [1].  Returns [s].
    """
    arrivals = n_seq * traffic.accepted_tok / traffic.osl_tok
    shared = np.minimum(arrivals * n_chunks, 1.0) * (slack_s + prefill_fixed_s / n_chunks)
    mixed = np.maximum(arrivals * prefill_s - shared, 0.0)
    return np.where(traffic.chunked, mixed, arrivals * prefill_s)


def prompt_queue(traffic: Traffic, prefill_s, busy_frac, n_ranks=1.0):
    """Mean wait of a prompt behind others, as long as prompts are uneven: M/G/c of `queueing.mean_wait_s` with the spread of prompt lengths.

    W = (1 + cv^2)/2 T rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)),  cv = isl_sd / isl: every prompt has the same share cached, and its time
    follows its length

    Parameters: prefill_s T of a mean prompt [s], busy_frac rho share of the ranks' time that goes into prefill [-], n_ranks c that share
    one queue (1: prompts are bound to a rank on arrival).  Returns [s].

    >>> even, uneven = (Traffic(*(np.float64(v) for v in (1000, 200, sd, 0, 0, 1, 1, 1, 1))) for sd in (0, 1000))
    >>> round(float(prompt_queue(even, 0.1, 0.5)), 3), round(float(prompt_queue(uneven, 0.1, 0.5)), 3)
    (0.05, 0.1)
    """
    return mean_wait_s(prefill_s, busy_frac, n_ranks, traffic.isl_sd_tok / traffic.isl_tok)


def charged_devices(n_replicas, n_devices, domain):
    """Devices paid for: whole domains, idle devices of an occupied one included; pods beyond RENTED_WHOLE are rented by the slice.

    replica <= domain:  ceil(R / floor(domain / n)) domain;   larger:  R ceil(n / domain) domain;   pod:  R n.

    >>> float(charged_devices(33, 2, 8)), float(charged_devices(1, 64, 72)), float(charged_devices(3, 12, 8)), float(charged_devices(3, 16, 8960))
    (72.0, 72.0, 48.0, 48.0)
    """
    n_devices = np.asarray(n_devices, dtype=float)
    shared = np.ceil(n_replicas / np.maximum(np.floor(domain / n_devices), 1.0)) * domain
    alone = n_replicas * np.ceil(n_devices / domain) * domain
    return np.where(np.asarray(domain) > RENTED_WHOLE, n_replicas * n_devices, np.where(n_devices <= domain, shared, alone))


def replicas(traffic: Traffic, tok_per_s):
    """Replicas that carry the peak of the largest stage: ceil(demand x its level x peak_to_mean / capacity)."""
    return np.ceil(traffic.demand_tok_per_s * traffic.stages.highest * traffic.peak_to_mean / tok_per_s)


def over_life(traffic: Traffic, tok_per_s, of_replicas):
    """Mean over the life of what so many replicas are: sum of share x f(replicas of the stage); f(largest) where the fleet stays as it is.

    of_replicas: replicas of a stage -> its quantity, such as the devices charged.

    >>> t = Traffic(*(np.float64(v) for v in (1000, 200, 0, 0, 0, 1, 1, 100, 1)), stages=Stages((0.75, 0.25), (0.5, 2.5), True))
    >>> float(replicas(t, 50.0)), float(over_life(t, 50.0, lambda n: n))
    (5.0, 2.0)
    """
    stages = traffic.stages
    if not stages.follows:
        return of_replicas(replicas(traffic, tok_per_s))
    peak = traffic.demand_tok_per_s * traffic.peak_to_mean / tok_per_s
    return sum(share * of_replicas(np.ceil(peak * level)) for share, level in zip(stages.share, stages.level, strict=True))
