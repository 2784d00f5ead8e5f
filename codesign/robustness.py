"""How sure a front is: its points scored again under thousands of draws of everything uncertain.

For each point: the probability of being on the front and of keeping every limit, and the regret (what the best other choice would have
saved with hindsight).  For each pick: its value debiased for the winner's curse, the assumption that would change it and at which value,
and what a measurement would be worth.  Legend: P points, S samples, M objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.assumptions import Source, draw, factors_of, sources_of
from codesign.rescore import Points, points_of, score
from codesign.results import Run
from codesign.search import pareto
from codesign.study import Study

MAX_ROWS = 1_000_000  # samples x points scored; a larger front gets fewer samples
MAX_PAIRS = 60_000_000  # comparisons of points for regret; more samples than that allows are thinned evenly
WITHIN = 1e-9  # relative: a limit that a point sits on is not broken by rounding
BROKEN_LOSS = 1.0  # loss of a broken limit in the decision: the width of the front; our judgement
WORST_LOSS = 2.0  # widths of the front beyond which a choice is simply lost
FLIP = 0.05  # a decision flips when another choice is better by this share of the front's width: a nearer one is as good
FAR = np.log(1000.0)  # a point a thousand times worse than predicted (no money left for training) is no worse than that
QUICK_ROWS = 400_000  # samples x points of the check at the end of a run: two seconds, and all samples of a front of 200 points
MIN_SAMPLES, MAX_QUICK_POINTS = 20, 12_000  # of a quick round


@dataclass(frozen=True)
class Sampled:
    """Objectives of every point in every sample, minimised: ln where the base front is positive. values (S, P, M), holds (S, P)."""

    points: Points
    sources: list[Source]
    draws: list[np.ndarray]
    base: np.ndarray
    values: np.ndarray
    holds: np.ndarray
    log: np.ndarray

    @property
    def n(self) -> int:
        return len(self.values)


def sample(study: Study, run: Run, n_samples: int | None = None, seed: int = 0) -> Sampled:
    """Draw and score.  The same seed gives the same samples."""
    front = run.front.to_dict("records")
    points = points_of(study.problem, front)
    wanted = n_samples or study.file.uncertainty.samples
    n = max(min(wanted, MAX_ROWS // max(points.n, 1)), 2)
    sources = sources_of(study, points)
    draws = draw(sources, n, seed)
    factors = {k: v.ravel() for k, v in factors_of(sources, draws).items()}
    objectives, holds = scored(points, np.tile(np.arange(points.n), n), factors)
    base, _ = scored(points, np.arange(points.n), {})
    log = (base * _signs(points) > 0).all(axis=0)
    base = coordinates(points, base, log)
    values = coordinates(points, objectives, log).reshape(n, points.n, -1)
    return Sampled(
        points,
        sources,
        draws,
        base,
        far_capped(values, base, log),
        holds.reshape(n, points.n),
        log,
    )


def quick_samples(study: Study, n_points: int) -> int:
    """Samples for a round over a front, as the last screen and the report show it: those of `codesign decide` (the first of the same seed, and
    so the same figures) where they take seconds, fewer on a front of hundreds, 0 on one of many thousands."""
    if not 0 < n_points <= MAX_QUICK_POINTS:
        return 0
    return min(max(QUICK_ROWS // n_points, MIN_SAMPLES), study.file.uncertainty.samples)


def _signs(points: Points) -> np.ndarray:
    return np.array([-1.0 if goal.maximize else 1.0 for goal in points.setting.goals])


def coordinates(points: Points, objectives: np.ndarray, log: np.ndarray) -> np.ndarray:
    """Minimised coordinates (N, M): ln on `log` axes."""
    signs = _signs(points)
    natural = objectives * signs
    return np.where(log, signs * np.log(np.maximum(natural, np.finfo(float).tiny)), objectives)


def far_capped(values: np.ndarray, base: np.ndarray, log: np.ndarray) -> np.ndarray:
    """Values (S, P, M) no further than FAR from what was predicted (P, M)."""
    return np.where(log, np.minimum(values, base + FAR), values)


def scored(points: Points, rows: np.ndarray, factors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(minimised objectives (N, M), whether every limit holds (N,))."""
    names = tuple(goal.column for goal in points.setting.goals)
    columns, violations = score(points, rows, factors, keep=names)
    holds = np.max(np.stack(list(violations.values())), axis=0) <= WITHIN
    return np.stack([columns[n] for n in names], axis=1) * _signs(points), holds


def on_front(values: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """(S, P) whether each point keeps its limits and no other that keeps them dominates it."""
    out = np.zeros(holds.shape, dtype=bool)
    for s in range(len(values)):
        out[s, holds[s]] = pareto.nondominated(values[s, holds[s]])
    return out


def regret(sampled: Sampled) -> np.ndarray:
    """(P, M) how much better each objective could have been at no loss in the others (ln, or natural units): mean over the samples
    in which the point keeps its limits; NaN where it never does."""
    n, p, m = sampled.values.shape
    step = max(1, int(np.ceil(n * p * p * m / MAX_PAIRS)))
    total, times, rows = np.zeros((p, m)), np.zeros(p), range(0, n, step)
    for s in rows:
        here, holds = sampled.values[s], sampled.holds[s]
        worse = here[:, None, :] > here[None, :, :] + 1e-12  # [q, p, m]: q is worse than p
        n_worse = worse.sum(axis=2)
        for j in range(m):
            free = (n_worse - worse[:, :, j] == 0) & holds[:, None]
            best = np.min(np.where(free, here[:, j, None], np.inf), axis=0)
            total[:, j] += np.where(holds, here[:, j] - np.minimum(best, here[:, j]), 0.0)
        times += holds
    with np.errstate(invalid="ignore"):
        return total / times[:, None]


def losses(values: np.ndarray, allowed: np.ndarray, rule: int | None, width: np.ndarray) -> np.ndarray:
    """(S, P) what each choice is worse by than the best of every objective among the allowed points of its sample, in widths (M,) of the
    base front: distance to that corner (knee, rule None), or objective `rule`; inf where a point is not allowed."""
    ideal = np.min(values, axis=1, where=allowed[..., None], initial=np.inf)
    with np.errstate(invalid="ignore"):
        scaled = (values - ideal[:, None]) / width
    found = np.linalg.norm(scaled, axis=2) if rule is None else scaled[..., rule]
    return np.where(allowed, found, np.inf)


def width_of(base: np.ndarray) -> np.ndarray:
    """(M,) extent of a front (P, M) on every axis; 1 where it has none.  It sets how much of one objective is worth how much of another."""
    width = np.ptp(base, axis=0)
    return np.where(width > 1e-12, width, 1.0)


def choose(values: np.ndarray, allowed: np.ndarray, rule: int | None, width: np.ndarray) -> np.ndarray:
    """(S,) the pick of each sample: the knee (rule None), or the best in objective `rule`; -1 where no point is allowed."""
    loss = losses(values, allowed, rule, width)
    return np.where(allowed.any(axis=1), np.argmin(loss, axis=1), -1)


def debias(sampled: Sampled, front: np.ndarray, rule: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(median optimism (M,) of the chosen point's coordinates, share of samples in which each point is chosen (P,)).

    Winner's curse by the parametric bootstrap: were the predictions the truth, and each sample a prediction of them, the point chosen in a
    sample would look better there than it is by median(value in the sample - true value); the pick itself looks as much better.
    """
    chosen = choose(sampled.values, front, rule, width_of(sampled.base))
    rows = np.flatnonzero(chosen >= 0)
    share = np.bincount(chosen[rows], minlength=sampled.points.n) / max(sampled.n, 1)
    if not rows.size:
        return np.zeros(sampled.base.shape[1]), share
    common = np.median(sampled.values[rows] - sampled.base, axis=(0, 1))  # what most points shift by is no selection
    optimism = np.median(sampled.values[rows, chosen[rows]] - sampled.base[chosen[rows]], axis=0) - common
    return np.minimum(optimism, 0.0), share


@dataclass(frozen=True)
class Sweep:
    """One shared source moved alone: z (T,) standard deviations, values (T, P, M), holds (T, P)."""

    source: Source
    z: np.ndarray
    values: np.ndarray
    holds: np.ndarray


def sweeps(sampled: Sampled, n_steps: int = 97, reach: float = 4.0) -> list[Sweep]:
    """Every shared source alone, its factor between 1 / reach and reach (the quality law within 3 standard deviations); at most `n_steps`
    values of each, fewer where the front is large."""
    points, out, shared = sampled.points, [], [s for s in sampled.sources if s.is_shared]
    n_steps = min(n_steps, max(MAX_ROWS // max(points.n * len(shared), 1), 16) | 1)
    for source in shared:
        z_max = 3.0 if source.kind == "quality" else np.log(reach) / source.width
        z = np.linspace(-z_max, z_max, n_steps)
        factors = {k: v.ravel() for k, v in factors_of([source], [z[:, None]]).items()}
        objectives, holds = scored(points, np.tile(np.arange(points.n), n_steps), factors)
        values = coordinates(points, objectives, sampled.log).reshape(n_steps, points.n, -1)
        out.append(Sweep(source, z, values, holds.reshape(n_steps, points.n)))
    return out


def flips(swept: list[Sweep], pick: int, rule: int | None, width: np.ndarray) -> list[dict[str, Any]]:
    """The nearest values on either side at which the pick breaks a limit, or another choice beats it by FLIP of the front's width.

    Rows: {source, factor, sigmas, becomes (row of the front; -1: nothing holds its limits), broken}, nearest in standard deviations first.
    """
    found = []
    for s in swept:
        loss, middle = losses(s.values, s.holds, rule, width), len(s.z) // 2
        with np.errstate(invalid="ignore"):
            lost = ~s.holds[:, pick] | (loss[:, pick] > loss.min(axis=1) + FLIP + loss[middle, pick] - loss[middle].min())
        for side in (np.arange(middle + 1, len(s.z)), np.arange(middle - 1, -1, -1)):
            if lost[side].any():
                at = side[np.argmax(lost[side])]
                edge = 0.5 * (s.z[at] + s.z[at - np.sign(at - middle)])  # between the last that keeps the pick and the first that does not
                becomes = int(np.argmin(loss[at])) if s.holds[at].any() else -1
                found.append({"source": s.source, "factor": float(np.exp(edge * s.source.width)), "sigmas": float(edge), "becomes": becomes,
                              "broken": bool(~s.holds[at, pick])})  # fmt: skip
    return sorted(found, key=lambda f: abs(f["sigmas"]))


def loss_of(sampled: Sampled, rule: int | None) -> np.ndarray:
    """(S, P) what a choice costs in the decision: its distance from the base ideal in the box of the base front (knee), or the objective
    in widths of the front; a broken limit costs BROKEN_LOSS more."""
    scaled = (sampled.values - sampled.base.min(axis=0)) / width_of(sampled.base)
    loss = np.linalg.norm(np.maximum(scaled, 0.0), axis=2) if rule is None else scaled[..., rule]
    return np.minimum(loss, WORST_LOSS) + BROKEN_LOSS * ~sampled.holds


def worth_of_knowing(sampled: Sampled, rule: int | None) -> tuple[float, np.ndarray]:
    """(expected regret of deciding now, share of it that knowing each source exactly would remove).

    Regret = min_p E[loss] - E[min_p loss].  Knowing source k: E[loss | its draw] by a quadratic fit in the draw, then the best
    point of each draw (value of partial information by regression, Strong, Oakley & Brennan 2014, doi:10.1177/0272989X13505910), less what
    the same fit finds in shuffled draws, where there is nothing to find.
    """
    loss = loss_of(sampled, rule)
    now = loss.mean(axis=0).min()
    regret_now = float(now - loss.min(axis=1).mean())
    rng = np.random.default_rng(1)
    found = []
    for source, z in zip(sampled.sources, sampled.draws, strict=True):
        feature = z[:, source.group]
        real, nothing = (now - _fitted(loss, f).min(axis=1).mean() for f in (feature, feature[rng.permutation(len(feature))]))
        found.append(max(real - max(nothing, 0.0), 0.0))
    return regret_now, np.array(found) / max(regret_now, 1e-12)


def _fitted(loss: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Mean of loss (S, P) given z (S, P), point by point: a quadratic in z by least squares on Hermite polynomials."""
    second = (z**2 - 1.0) / np.sqrt(2.0)
    centred = loss - loss.mean(axis=0)
    return loss.mean(axis=0) + z * (z * centred).mean(axis=0) + second * (second * centred).mean(axis=0)
