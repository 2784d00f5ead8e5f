"""The cheapest life at a given quality, and what the equal-balance heuristic costs against it."""

from typing import NamedTuple

import numpy as np

from codesign.lifecycle.scaling_law import CENTRAL, REPEAT_VALUE, bisect, effective_tokens, excess_of_compute, tokens_for_effective


class Point(NamedTuple):
    """A lifecycle at the target quality: size, tokens, amounts, total, kappa (inf where unreachable)."""

    n_scale: np.ndarray
    tok: np.ndarray
    pretrain: np.ndarray
    rl: np.ndarray
    inference: np.ndarray
    total: np.ndarray
    kappa: np.ndarray


class Lifecycle(NamedTuple):
    """A reference design (scale 1), its target quality and what each phase takes; one unit for all amounts.

    n_eff [1]; c_eq_flop: quality to hold [FLOP]; per_pretrain_tok: amount per pretraining token; rl,
    inference: lifetime amounts; elasticity: d ln amount / d ln size of (pretraining, RL, inference) [1], 1
    for FLOP.
    """

    n_eff: np.ndarray
    c_eq_flop: np.ndarray
    per_pretrain_tok: np.ndarray
    rl: np.ndarray
    inference: np.ndarray
    elasticity: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unique_tok: float = np.inf
    law: object = CENTRAL


def lifecycle_point(share, life):
    """Lifecycle of the size and tokens that split the reducible loss as (share, 1 - share) between N and D.

    N = (A / (share X))^(1/alpha),  D' = (B / ((1 - share) X))^(1/beta),  X = X(c_eq),  x = N / N_eff;
    pretrain = p x^e1 D,  rl = R x^e2,  inference = I x^e3.   Every point of this curve has the same quality.

    share in (0, 1) [1] (1/2 is about compute-optimal, larger is smaller and longer-trained); life:
    `Lifecycle`. Returns `Point`.

    >>> point = lifecycle_point([0.4, 0.5, 0.6], Lifecycle(1e10, 1e23, 6e10, 0.0, 0.0))
    >>> int(np.argmin(point.total)) == 1
    True
    """
    law, share = life.law, np.asarray(share, float)
    excess = excess_of_compute(life.c_eq_flop, law)
    n_scale = (law.A / (share * excess)) ** (1.0 / law.alpha) / life.n_eff
    d_eff = (law.B / ((1.0 - share) * excess)) ** (1.0 / law.beta)
    tok = tokens_for_effective(d_eff, life.unique_tok)
    pretrain = life.per_pretrain_tok * n_scale ** life.elasticity[0] * tok
    rl = life.rl * n_scale ** life.elasticity[1]
    inference = life.inference * n_scale ** life.elasticity[2]
    total = pretrain + rl + inference
    kappa = 1.0 + (rl + inference) / pretrain
    return Point(n_scale, tok, pretrain, rl, inference, total, kappa)


def _highest_share(life):
    """Largest share of the loss that size may carry before the data wall is out of reach."""
    wall = np.asarray(life.unique_tok, float) * (1.0 + REPEAT_VALUE)
    excess = excess_of_compute(life.c_eq_flop, life.law)
    return np.clip(1.0 - life.law.B * wall**-life.law.beta / excess * (1.0 + 1e-9), 0.0, 1.0 - 1e-7)


def _solve_share(rising, life):
    shape = np.broadcast_shapes(*(np.shape(x) for x in life[:5]), np.shape(life.unique_tok))
    high = np.broadcast_to(_highest_share(life), shape)
    low = np.broadcast_to(1e-7, shape)
    return bisect(rising, low, np.maximum(high, low)), high > low


def unbalanced_optimum(life):
    """Size and tokens of least lifecycle amount at fixed quality: the bar for the equal-balance heuristic.

    On the curve of `lifecycle_point` (s = share) the amount falls while
      pretrain (e1 - (alpha/beta) s/(1-s) dlnD/dlnD') + e2 rl + e3 inference > 0
    With unit elasticities and fresh data this is `first_order_kappa`; solved by bisection in s.

    life: `Lifecycle` (arrays broadcast). Returns `Point`; total is inf where the quality is out of reach.

    >>> best = unbalanced_optimum(Lifecycle(1e10, 1e23, 6e10, 0.0, 0.0))
    >>> round(float(best.total / 1e23), 6), round(float(best.kappa), 6)
    (1.0, 1.0)
    """
    law, (e_pretrain, e_rl, e_inference) = life.law, life.elasticity

    def rising(share):
        point = lifecycle_point(share, life)
        repeats = np.maximum(point.tok / np.asarray(life.unique_tok, float) - 1.0, 0.0)
        tok = np.where(np.isfinite(point.tok), point.tok, 1.0)
        fresh = np.exp(-repeats / REPEAT_VALUE) * tok / effective_tokens(tok, life.unique_tok)
        longer = law.alpha / law.beta * share / (1.0 - share) / np.maximum(fresh, 1e-300)
        return point.pretrain * (longer - e_pretrain) > e_rl * point.rl + e_inference * point.inference

    share, reachable = _solve_share(rising, life)
    return _reached(lifecycle_point(share, life), reachable)


def balanced_point(life):
    """Size and tokens at which pretraining takes as much as inference, at the same quality (the heuristic).

    Solves pretrain(s) = inference(s) on the curve of `lifecycle_point`. Returns `Point`; inf where there is
    none.

    >>> point = balanced_point(Lifecycle(1e10, 1e23, 6e10, 0.0, 1e23))
    >>> round(float(point.pretrain / point.inference), 6)
    1.0
    """

    def rising(share):
        point = lifecycle_point(share, life)
        return point.pretrain > point.inference

    share, reachable = _solve_share(rising, life)
    point = lifecycle_point(share, life)
    met = np.abs(point.pretrain - point.inference) < 1e-3 * point.inference
    return _reached(point, reachable & met)


def _reached(point, reachable):
    return Point(*(np.where(reachable, x, np.inf) for x in point))


def balance_regret(life):
    """Cost of the equal-balance heuristic over the optimum of the same quality: total / total_best - 1 [1].

    >>> 0 <= float(balance_regret(Lifecycle(1e10, 1e23, 6e10, 1e22, 1e23))) < 0.2
    True
    """
    best, heuristic = unbalanced_optimum(life).total, balanced_point(life).total
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(heuristic), np.maximum(heuristic / best - 1.0, 0.0), np.inf)
