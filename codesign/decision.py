"""`codesign decide`: the named picks of a front, how sure each is, what would change it, and what is worth measuring first."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from codesign import robustness
from codesign.assumptions import Source
from codesign.intervals import Intervals, intervals_of
from codesign.picks import gives_up, neighbours, picks, rule_of
from codesign.rechoose import rechoose
from codesign.results import Run
from codesign.robustness import Sampled, Sweep
from codesign.spec.errors import UserError
from codesign.study import Study

MAX_FLIPS = 3  # per pick: those that need the smallest surprise
HALF = 0.5  # a pick that leaves the front in more than this share of the samples is marked
BENCH_S, STEP_BENCH_S, STEP_DEVICES = (
    4 * 3600.0,
    2 * 3600.0,
    64.0,
)  # half a day on one replica; training steps on 64 devices: our estimates
PROXY_SHARE, LADDER_SHARE = (
    0.01,
    0.02,
)  # of the pretraining cost: a proxy run per finalist, a scaling ladder; our estimates
N_FINALISTS = 4  # designs that a round of measurements compares


def decide(study: Study, run: Run, n_samples: int | None = None, seed: int = 0, anew: bool = False) -> dict[str, Any]:
    """Picks, points, sources and measurements as plain JSON types; `anew`: and the best designs with layouts chosen again in each draw."""
    if run.front.empty:
        raise UserError(
            f"{run.path}: nothing on the front, so there is nothing to decide",
            hint="relax a limit; `codesign run` names the one that binds",
        )
    sampled = robustness.sample(study, run, n_samples, seed)
    front = robustness.on_front(sampled.values, sampled.holds)
    regret = robustness.regret(sampled)
    swept = robustness.sweeps(sampled)
    doubt = intervals_of(study, run)
    chosen = [*picks(run.front, run.objectives), _most_robust(run, front, regret)]
    return {
        "run": str(run.path), "samples": sampled.n, "seed": seed, "points_scored": sampled.values.shape[0] * sampled.values.shape[1],
        "picks": [_pick(run, sampled, front, regret, swept, pick, doubt) for pick in chosen],
        "anew": _anew(study, run, sampled, front, seed, chosen) if anew else None,
        "measurements": _measurements(run, sampled, front),
        "points": _points(run, sampled, front, regret),
        "sources": [{"name": s.name, "kind": s.kind, "sigma": s.width, "basis": s.basis} for s in sampled.sources],
    }  # fmt: skip


@dataclass(frozen=True)
class Quick:
    """Share of a quick round of draws in which each point (by id) is on the front."""

    n_samples: int
    share: dict[int, float]


def quick(study: Study, run: Run) -> Quick | None:
    """The check at the end of a run, a fraction of a second; None for a front of thousands, where `codesign decide` takes its time."""
    n = robustness.quick_samples(study, len(run.front))
    if not n:
        return None
    sampled = robustness.sample(study, run, n)
    share = robustness.on_front(sampled.values, sampled.holds).mean(axis=0)
    return Quick(sampled.n, dict(zip(run.front["id"].tolist(), share.tolist(), strict=True)))


def _most_robust(run: Run, front: np.ndarray, regret: np.ndarray) -> dict[str, Any]:
    """The point that is on the front in most samples; of equals the one of least regret."""
    row = int(np.lexsort((np.nan_to_num(regret, nan=np.inf).sum(axis=1), -front.mean(axis=0)))[0])
    return {"name": "most robust", "id": int(run.front["id"].iloc[row]), "reason": "on the front, within every limit, in the most samples",
            "gives_up": gives_up(run.front, row, run.objectives)}  # fmt: skip


def _pick(run: Run, sampled: Sampled, front: np.ndarray, regret: np.ndarray, swept: list[Sweep], pick: dict[str, Any], doubt: Intervals):
    """A pick with how sure it is, its neighbours whose gain is more than error, and what would change it."""
    row = int(np.flatnonzero(run.front["id"] == pick["id"])[0])
    rule = rule_of(pick["name"], run.objectives)
    optimism, share = robustness.debias(sampled, front, rule)
    changes = robustness.flips(swept, row, rule, robustness.width_of(sampled.base))
    if pick["name"] == "most robust":  # not chosen for its values: they are not flattered, and only a broken limit changes it
        optimism, share = np.zeros_like(optimism), np.full_like(share, np.nan)
        changes = [c for c in changes if c["broken"]]
    noise = {name: doubt.sigma_of_difference(name, row) for name in run.objectives if name in doubt.values}
    p_front = float(front[:, row].mean())
    return pick | {
        "neighbours": neighbours(run.front, row, run.objectives, noise=noise), "p_front": p_front, "p_holds": float(sampled.holds[:, row].mean()),
        "p_chosen": None if np.isnan(share[row]) else float(share[row]), "leaves_front": p_front < HALF,
        "regret": _regret(run, regret[row], sampled), "predicted": {n: float(run.front[n].iloc[row]) for n in run.objectives},
        "debiased": _debiased(run, row, optimism, sampled), "flips": [_flip(run, sampled, f) for f in changes[:MAX_FLIPS]],
    }  # fmt: skip


def _anew(study: Study, run: Run, sampled: Sampled, front: np.ndarray, seed: int, chosen: list[dict[str, Any]]) -> dict[str, Any]:
    """The designs of the picks and the next best, with layouts chosen again in each draw."""
    ids = run.front["id"].to_numpy()
    found = rechoose(study, run, sampled, front, seed, tuple(int(np.flatnonzero(ids == pick["id"])[0]) for pick in chosen))
    rows = [{
        "id": int(ids[row]), "p_front": found.p_front[i].tolist(), "p_holds": found.p_holds[i].tolist(),
        "p_better": float(found.p_better[i]) if np.isfinite(found.p_better[i]) else None,
        "regret": _regret(run, found.regret[i], sampled), "regret_left": _regret(run, found.left[i], sampled),
    } for i, row in enumerate(found.rows)]  # fmt: skip
    return {"samples": found.n_samples, "layouts": found.n_candidates, "designs": rows}


def _debiased(run: Run, row: int, optimism: np.ndarray, sampled: Sampled) -> dict[str, float]:
    """Objectives with the optimism of the selection taken off (in ln where the axis is positive)."""
    out = {}
    for j, (name, direction) in enumerate(run.objectives.items()):
        sign = -1.0 if direction == "maximize" else 1.0
        value = float(run.front[name].iloc[row])
        out[name] = float(value * np.exp(-sign * optimism[j])) if sampled.log[j] else float(value - sign * optimism[j])
    return out


def _regret(run: Run, row: np.ndarray, sampled: Sampled) -> dict[str, float | None]:
    """Mean share by which each objective could have been better at no loss in the others, had one known (1 - e^-r where positive)."""
    return {
        name: None if not np.isfinite(row[j]) else float(1.0 - np.exp(-row[j])) if sampled.log[j] else float(row[j])
        for j, name in enumerate(run.objectives)
    }


def _flip(run: Run, sampled: Sampled, found: dict[str, Any]) -> dict[str, Any]:
    source, factor = found["source"], found["factor"]
    value = _base_value(sampled, source)
    becomes = None if found["becomes"] < 0 else int(run.front["id"].iloc[found["becomes"]])
    return {
        "assumption": source.name, "factor": factor, "value": None if value is None else value * factor, "unit": source.unit,
        "sigmas": found["sigmas"], "probability": NormalDist().cdf(-abs(found["sigmas"])), "becomes": becomes,
        "breaks_a_limit": found["broken"],
    }  # fmt: skip


def _base_value(sampled: Sampled, source: Source) -> float | None:
    """What an assumption is taken to be, where it has a unit: demand, the rent or the power of a chip."""
    key = next(iter(source.sigma))
    if key == "demand":
        return float(sampled.points.setting.traffic.demand_tok_per_s)
    what, _, role = key.partition(".")
    if what in ("price", "power"):
        pool = sampled.points.setting.pools[role]
        column = pool.chips.usd_per_s if what == "price" else pool.chips.all_in_w
        return float(np.ravel(column)[pool.names.index(source.hardware)]) * (3600.0 if what == "price" else 1.0)
    return None


def _points(run: Run, sampled: Sampled, front: np.ndarray, regret: np.ndarray) -> list[dict[str, Any]]:
    holds, p = sampled.holds.mean(axis=0), front.mean(axis=0)
    ids = run.front["id"].tolist()
    rows = [
        {
            "id": int(ids[i]),
            "p_front": float(p[i]),
            "p_holds": float(holds[i]),
            "regret": _regret(run, regret[i], sampled),
        }
        for i in range(len(ids))
    ]
    return sorted(rows, key=lambda r: -r["p_front"])


def _measurements(run: Run, sampled: Sampled, front: np.ndarray) -> list[dict[str, Any]]:
    """What each measurement would remove of the expected regret of choosing the knee now, best per USD first."""
    _, shares = robustness.worth_of_knowing(sampled, None)
    _, picked = robustness.debias(sampled, front, None)
    finalists = np.argsort(-picked)[:N_FINALISTS]
    rows = []
    for source, share in zip(sampled.sources, shares, strict=True):
        how, usd = _price_of(run, sampled, source, finalists)
        per_kusd = None if not usd else float(share / usd * 1e3)
        rows.append({"source": source.name, "how": how, "usd": usd, "removes_frac": float(share), "removes_frac_per_kusd": per_kusd,
                     "finalists": [int(run.front["id"].iloc[i]) for i in finalists] if source.kind == "own" else []})  # fmt: skip
    return sorted(rows, key=lambda r: (-(r["removes_frac_per_kusd"] or 0.0), -r["removes_frac"]))


def _price_of(run: Run, sampled: Sampled, source: Source, finalists: np.ndarray) -> tuple[str, float | None]:
    """(what to do, USD) to learn a source; None where no measurement on machines would tell."""
    key = next(iter(source.sigma))
    what, _, phase = key.partition(".")
    points, table = sampled.points, run.front
    if what == "quality":
        usd = float(table["train_usd"].median())
        if source.is_shared:
            return f"a scaling ladder of one's own, {LADDER_SHARE:.0%} of a pretraining run", LADDER_SHARE * usd
        usd = float(table["train_usd"].iloc[finalists].sum())
        return f"a proxy run of each finalist, {PROXY_SHARE:.0%} of its compute", PROXY_SHARE * usd
    if what == "price":
        return "a written quote", None
    if what not in ("time", "ttft"):
        return "no benchmark tells", None
    phase = phase or "prefill"
    role = phase if phase in points.setting.pools else "serve"
    rent = float(np.max(points.setting.pools[role].chips.usd_per_s))
    if phase in ("train", "rl"):
        n = 1 if source.is_shared else len(finalists)
        which = f"on {source.hardware}" if source.is_shared else "of each finalist"
        return f"a hundred training steps {which}, {STEP_DEVICES:.0f} devices", n * STEP_BENCH_S * STEP_DEVICES * rent
    devices = points.layouts[role].n_devices[finalists]
    if source.is_shared:
        return f"serve a model of this kind on one replica of {source.hardware or 'the fleet'}", float(np.max(devices)) * BENCH_S * rent
    return "serve each finalist with random weights in its own layout", float(np.sum(devices)) * BENCH_S * rent
