"""Robust least squares with priors, and what the data can tell: nothing here knows what the coordinates mean.

    minimise  sum_i w_i^2 softL1(e_i(x) / sigma) + sum_k softL1(x_k / sd_k),      e = ln(predicted / measured)

Rows of one group share part of their error, so a group counts as the square root of its rows.  sigma is the scatter of the rows after the
fit, pooled with PRIOR_ROWS rows of PRIOR_SIGMA (the usual residual of calibrated kernels) so that a few rows cannot claim perfection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import least_squares

PRIOR_SIGMA, PRIOR_ROWS = 0.05, 2.0
FAR = 1.0  # prior widths at which the penalty of a constant stops growing by its square
TURN = 1.5  # scatters at which a residual stops counting by its square
TELLS = 0.7  # posterior / prior width above which the data say nothing of a coordinate
MOVES = 1.5  # widths from the catalog's value below which the data agree with it; 2 would bias those that share its cause
MOST_CANDIDATES = 10  # constants that may move together: 1,024 sets
STEP = 0.02  # of the finite differences
N_FOLDS = 5
MOST_EVALUATIONS = 10

Errors = Callable[[np.ndarray], np.ndarray]  # x (K,) -> ln(predicted / measured) (N,)


@dataclass(frozen=True)
class Prior:
    """sd and bounds of every coordinate (K,); the mean is 0.  Beyond FAR widths the penalty grows linearly: most constants are near the
    catalog's value, but one that is off (another software version, a power cap) may be off by much, and must not push its share to others."""

    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def precision(self, x: np.ndarray) -> np.ndarray:
        """Weight of x^2 (K,) that has the slope of the penalty at x: 1 / sd^2 near 0, less far out."""
        return self.sd**-2.0 / np.sqrt(1.0 + (x / (FAR * self.sd)) ** 2)


@dataclass(frozen=True)
class Posterior:
    """A fit: coordinates, their standard deviations with all others open, what the data can tell, what of that moves, scatter of the rows."""

    x: np.ndarray
    sd: np.ndarray
    told: np.ndarray
    free: np.ndarray
    sigma: float
    errors: np.ndarray
    jacobian: np.ndarray  # of the errors, at x
    information: np.ndarray  # of the data alone (K, K)


def group_weights(groups: Sequence[str]) -> np.ndarray:
    """Weight of every row (N,): squares of a group add up to the root of its rows, all squares to N.

    >>> group_weights(["a", "a", "a", "a", "b"]).round(2).tolist()
    [0.91, 0.91, 0.91, 0.91, 1.29]
    """
    _, index, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    square = counts[index] ** -0.5
    return np.sqrt(square * len(index) / square.sum())


def solve(errors: Errors, weights: np.ndarray, prior: Prior, start: Posterior | None = None) -> Posterior:
    """All coordinates with their priors first; then those that the data can tell and that they move, the others at the prior."""
    n, k = len(weights), len(prior.sd)
    x, sigma = (start.x, start.sigma) if start else (np.zeros(k), 2.0 * PRIOR_SIGMA)
    e, jacobian = linearise(errors, x, prior)
    x = _least_squares(_linear(e, jacobian, x), x, np.ones(k, dtype=bool), weights, sigma, prior)
    e, jacobian = linearise(errors, x, prior)
    sigma = scatter(e, weights, n, int(np.any(jacobian != 0, axis=0).sum()))
    told = tells(x, _information(e, jacobian, weights, sigma), prior)
    free = _moving(x, _information(e, jacobian, weights, sigma), told, prior)
    if free.any():
        x = _least_squares(errors, np.where(free, x, 0.0), free, weights, sigma, prior)
    else:
        x = np.zeros(k)
    e, jacobian = linearise(errors, x, prior)
    sigma = scatter(e, weights, n, int(free.sum()))
    information = _information(e, jacobian, weights, sigma)
    return Posterior(x, posterior_sd(x, information, prior), told, free, sigma, e, jacobian, information)


def _moving(x: np.ndarray, information: np.ndarray, told: np.ndarray, prior: Prior) -> np.ndarray:
    """What has to move (K,): the set of told coordinates, the others at the catalog's value, that explains the rows best, where every
    member must improve the objective by MOVES^2, as if it were MOVES widths away.

    The objective is taken as quadratic around its optimum x: Q(y) = (y - x)' (information + prior precision) (y - x).  All sets are tried, because two causes
    that act alike trade places: leaving out one after the other may keep the wrong one of them.
    """
    a = information + np.diag(prior.precision(x))
    candidates = np.flatnonzero(told)
    candidates = candidates[np.argsort(-np.abs(x[candidates]) / posterior_sd(x, information, prior)[candidates])][:MOST_CANDIDATES]
    best, lowest = np.zeros(len(x), dtype=bool), x @ a @ x
    for size in range(1, len(candidates) + 1):
        for chosen in combinations(candidates, size):
            stay = np.setdiff1d(np.arange(len(x)), chosen)
            inside = list(chosen)
            shift = np.linalg.solve(a[np.ix_(inside, inside)], a[np.ix_(inside, stay)] @ x[stay])  # y - x of the members, the others at 0
            rest = x[stay] @ a[np.ix_(stay, stay)] @ x[stay] - x[stay] @ a[np.ix_(stay, inside)] @ shift
            if rest + MOVES**2 * size < lowest:
                best, lowest = np.isin(np.arange(len(x)), inside), rest + MOVES**2 * size
    return best


def refit(errors: Errors, at: Posterior, keep: np.ndarray, groups: Sequence[str], prior: Prior, n_exact: int = 1) -> np.ndarray:
    """Coordinates (K,) from the rows `keep` (N,) alone, for cross-validation, whose held-out rows are then predicted in full.

    Errors are linear around the full fit, then `n_exact` times around what came out, so that a fold far from the full fit is not judged there.
    """
    weights = group_weights([g for g, kept in zip(groups, keep, strict=True) if kept])
    x = solve(_linear(at.errors[keep], at.jacobian[keep], at.x), weights, prior).x
    for _ in range(n_exact):
        e, jacobian = linearise(errors, x, prior)
        x = solve(_linear(e[keep], jacobian[keep], x), weights, prior).x
    return x


def _linear(e: np.ndarray, jacobian: np.ndarray, at: np.ndarray) -> Errors:
    return lambda x: e + jacobian @ (x - at)


def folds(groups: Sequence[str]) -> tuple[str, list[np.ndarray]]:
    """(name of the scheme, held-out masks (N,)): whole groups where there are two or more, else every fifth row."""
    names = np.asarray(groups)
    if len(set(groups)) > 1:
        return "each group left out", [names == g for g in sorted(set(groups))]
    count = min(N_FOLDS, len(names))
    return f"{count} folds of one group", [np.arange(len(names)) % count == i for i in range(count)]


def linearise(errors: Errors, x: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """(errors (N,), their Jacobian (N, K)) at x, by differences that stay inside the bounds."""
    e = errors(x)
    columns = []
    for k in range(len(x)):
        step = STEP if x[k] + STEP <= prior.high[k] else -STEP
        columns.append((errors(x + step * (np.arange(len(x)) == k)) - e) / step)
    return e, np.stack(columns, axis=1)


def scatter(e: np.ndarray, weights: np.ndarray, n: int, n_free: int) -> float:
    """sigma of the rows: soft-L1 sum of squares over the degrees of freedom, pooled with the prior."""
    z = e / (TURN * PRIOR_SIGMA)
    tamed = 2.0 * (np.sqrt(1.0 + z**2) - 1.0) * (TURN * PRIOR_SIGMA) ** 2
    return float(np.sqrt((PRIOR_ROWS * PRIOR_SIGMA**2 + np.sum(weights**2 * tamed)) / (PRIOR_ROWS + max(n - n_free, 0))))


def tells(x: np.ndarray, information: np.ndarray, prior: Prior) -> np.ndarray:
    """Which coordinates the data can tell (K,): posterior width at most TELLS of the prior's at x, all others free."""
    return posterior_sd(x, information, prior) <= TELLS * prior.precision(x) ** -0.5


def posterior_sd(x: np.ndarray, information: np.ndarray, prior: Prior) -> np.ndarray:
    return np.sqrt(np.diag(np.linalg.inv(information + np.diag(prior.precision(x)))))


def _information(e: np.ndarray, jacobian: np.ndarray, weights: np.ndarray, sigma: float) -> np.ndarray:
    curvature = weights**2 / sigma**2 / np.sqrt(1.0 + (e / (TURN * sigma)) ** 2)
    return jacobian.T @ (curvature[:, None] * jacobian)


def _least_squares(errors: Errors, x: np.ndarray, free: np.ndarray, weights: np.ndarray, sigma: float, prior: Prior) -> np.ndarray:
    """x with its free coordinates at the optimum.  soft-L1 is put into the residuals by hand: its width differs between rows and prior."""
    scale, at = TURN * sigma, np.flatnonzero(free)

    def whole(y: np.ndarray) -> np.ndarray:
        full = np.where(free, 0.0, x)
        full[at] = y
        return full

    def residuals(y: np.ndarray) -> np.ndarray:
        return np.concatenate([TURN * weights * _softened(errors(whole(y)) / scale), FAR * _softened(y / (FAR * prior.sd[at]))])

    def jacobian(y: np.ndarray) -> np.ndarray:
        e, full = _linear_part(errors, whole(y), at, prior)
        slopes = weights * _soft_slope(e / scale) / sigma
        return np.concatenate([slopes[:, None] * full, np.diag(_soft_slope(y / (FAR * prior.sd[at])) / prior.sd[at])])

    inside = np.clip(x[at], prior.low[at], prior.high[at])
    found = least_squares(
        residuals, inside, jacobian, bounds=(prior.low[at], prior.high[at]), max_nfev=MOST_EVALUATIONS, ftol=1e-6, xtol=1e-3
    )
    return whole(found.x)


def _linear_part(errors: Errors, x: np.ndarray, at: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    def few(y: np.ndarray) -> np.ndarray:
        full = x.copy()
        full[at] = y
        return errors(full)

    return linearise(few, x[at], Prior(prior.sd[at], prior.low[at], prior.high[at]))


def _soft_slope(z: np.ndarray) -> np.ndarray:
    """d r / d z of `_softened`."""
    soft = _softened(z)
    return np.where(np.abs(soft) > 1e-6, z / (np.sqrt(1.0 + z**2) * np.where(soft == 0, 1.0, soft)), 1.0)


def _softened(z: np.ndarray) -> np.ndarray:
    """r with r^2 = 2 (sqrt(1 + z^2) - 1), the soft-L1 loss of z."""
    return np.sign(z) * np.sqrt(2.0 * (np.sqrt(1.0 + z**2) - 1.0))
