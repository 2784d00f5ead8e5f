"""What a study's answer rests on and how far each assumption may be off: sources of error, and draws of them.

Errors of predicted times are measured (`uncertainty.SPREADS`): a part that all designs on one chip share, and a part of a design's
own.  The quality law has a part per design and a part that all share (the other published law).  Own parts are alike between designs that
are alike: the correlation is exp(-d^2 / 2) at a distance of d doublings in what differs (another kind of attention, chip or format counts
as one).  That length is our estimate: the models behind the measured own parts differ by doublings.  Prices, demand, utilisation, drafts
and power are the study's (`uncertainty:`).  Every factor is lognormal.  Legend: P points, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from codesign.lifecycle_columns import quality_columns
from codesign.objectives import ENERGY_COLUMNS
from codesign.rescore import Points, score
from codesign.study import Study
from codesign.uncertainty import chip_class, spread

PHASES = {"train": ("train", "training"), "prefill": ("prefill", "inference"), "decode": ("decode", "inference")}
N_WAVES = 256  # of the random field; correlations are off by 1/16 where designs are far apart, by nothing where they are near
WATTS = {"energy_j_per_tok", "serve_power_w", "lifecycle_energy_j", "train_energy_j"}


@dataclass(frozen=True)
class Source:
    """One thing that may be otherwise.  sigma: assumption -> one standard deviation of ln of its factor (P,), signed.

    group (P,): points with equal numbers share a draw (one draw for all when it is shared); place (G, F): where each group stands, in
    doublings of what tells groups apart, for own parts.
    """

    name: str
    kind: str  # model | own | quality | study
    sigma: dict[str, np.ndarray]
    group: np.ndarray
    basis: str  # measured | estimate | the other law
    unit: str = ""  # what a factor on it means, where its value can be named
    hardware: str = ""
    place: np.ndarray | None = None

    @property
    def is_shared(self) -> bool:
        return self.place is None

    @property
    def width(self) -> float:
        """Largest standard deviation over points and assumptions."""
        return max(float(np.max(np.abs(s))) for s in self.sigma.values())


def sources_of(study: Study, points: Points) -> list[Source]:
    """Every source of error that a point of this study feels; those without width are left out."""
    given, setting = study.file.uncertainty, study.setting
    found = [*_speeds(study, points, given.model), *_waiting(study, points, given.model), *_law(points, given.quality)]
    for hardware, roles in _hardware(points).items():
        found.append(
            _of_study(
                f"price of {hardware}",
                {f"price.{r}": given.price * m for r, m in roles.items()},
                points.n,
                "USD/h",
                hardware,
            )
        )
        if setting.columns_read & (WATTS | ENERGY_COLUMNS):
            found.append(
                _of_study(
                    f"power of {hardware}",
                    {f"power.{r}": given.power * m for r, m in roles.items()},
                    points.n,
                    "W",
                    hardware,
                )
            )
    found.append(_of_study("demand", {"demand": np.full(points.n, given.demand)}, points.n, "tok/s"))
    found.append(_of_study("utilisation", {"utilisation": np.full(points.n, given.utilisation)}, points.n))
    if float(setting.traffic.q_tok) > 1:
        found.append(_of_study("tokens gained by drafts", {"drafts": np.full(points.n, given.drafts)}, points.n))
    return [source for source in found if source.width > 0]


def _of_study(name: str, sigma: dict[str, np.ndarray], n: int, unit: str = "", hardware: str = "") -> Source:
    return Source(name, "study", sigma, np.zeros(n, dtype=int), "estimate", unit, hardware)


def _names(points: Points, role: str) -> np.ndarray:
    """Hardware of a role at every point (P,)."""
    pool, varied = points.setting.pools[role], points.designs.values.get(f"hardware.{role}")
    return np.full(points.n, pool.names[0]) if varied is None else np.broadcast_to(np.asarray(varied, dtype=str), (points.n,))


def _roles(points: Points) -> list[str]:
    return [r for r in points.setting.pools if r != "rl" or points.rl_rate.any()]


def _hardware(points: Points) -> dict[str, dict[str, np.ndarray]]:
    """Hardware -> role -> which points use it there (P,), as 0 or 1."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for role in _roles(points):
        names = _names(points, role)
        for name in dict.fromkeys(names.tolist()):
            out.setdefault(name, {})[role] = (names == name).astype(float)
    return out


def _spreads(study: Study, points: Points, role: str, phase: str, kind: str):
    """(shared, own) standard deviations of a phase at every point (P,), and the hardware (P,)."""
    names, engine = _names(points, role), engine_of(study, role)
    is_moe = np.broadcast_to(np.asarray(points.designs.census.ffn.n_moe_layers) > 0, (points.n,))
    rows = [spread(kind, phase, chip_class(name, engine), bool(moe)) for name, moe in zip(names.tolist(), is_moe.tolist(), strict=True)]
    return np.array([r.shared for r in rows]), np.array([r.own for r in rows]), names


def engine_of(study: Study, role: str) -> str:
    """The engine whose constants time a role, as `study._pools` chooses it."""
    file = study.file
    own = file.lifecycle.train_engine if role == "train" else file.serving.engine or file.engine
    return file.engine if file.engine == "ideal" else own or "generic"


def _role_of(points: Points, phase: str) -> str:
    return phase if phase in points.setting.pools else "serve"


def _speeds(study: Study, points: Points, scale: float) -> Iterable[Source]:
    """Errors of the three phases; RL rolls out by decoding, on its own chip or the same, and carries decode's error there."""
    phases = list(PHASES.items()) + ([("rl", ("decode", "inference"))] if points.rl_rate.any() else [])
    for phase, (fitted, kind) in phases:
        shared, own, names = _spreads(study, points, _role_of(points, phase), fitted, kind)
        for name in dict.fromkeys(names.tolist()):
            sigma = {f"time.{phase}": scale * shared * (names == name)}
            yield Source(f"{phase} time on {name}", "model", sigma, np.zeros(points.n, dtype=int), "measured", "", name)
        yield _own(f"{phase} time of each design", {f"time.{phase}": scale * own}, _work(points, phase))


def _own(name: str, sigma: dict[str, np.ndarray], where: np.ndarray) -> Source:
    """A source of errors of each design's own; where (P, F) in doublings."""
    place, group = np.unique(where, axis=0, return_inverse=True)
    return Source(name, "own", sigma, group.ravel(), "measured", place=place)


def _doublings(values: np.ndarray) -> list[np.ndarray]:
    """Coordinates (P,) in which a doubling of a number, or another name, is a distance of one."""
    if values.dtype.kind in "biuf":
        return [np.log2(np.maximum(values.astype(float), 0.5))]
    return [(values == name) / np.sqrt(2.0) for name in np.unique(values)]


def _design(points: Points, *prefixes: str) -> list[np.ndarray]:
    """Coordinates of the searched variables whose names begin so; a constant first, for a study that varies none."""
    named = [_doublings(np.asarray(v)) for k, v in points.designs.values.items() if k.startswith(prefixes)]
    return [np.zeros(points.n), *(column for columns in named for column in columns)]


def _work(points: Points, phase: str) -> np.ndarray:
    """What a phase runs (P, F): model, formats, chip and layout; batch sizes run the same kernels and are left out."""
    unit = phase if phase in points.layouts else "train" if phase in ("train", "rl") else "serve"
    degrees = [v if k == "overlap" else np.log2(np.maximum(v, 1.0)) for k, v in points.layouts[unit].columns.items()]
    return np.stack([*_design(points, "architecture.", "precision.", f"hardware.{unit}"), *degrees], axis=1)


def _waiting(study: Study, points: Points, scale: float) -> Iterable[Source]:
    """What TTFT is off by beyond the prefill itself: queues and schedulers."""
    role = _role_of(points, "prefill")
    whole, prompt = (_spreads(study, points, role, phase, "inference")[:2] for phase in ("ttft", "prefill"))
    shared, own = (scale * np.sqrt(np.maximum(w**2 - p**2, 0.0)) for w, p in zip(whole, prompt, strict=True))
    if "ttft_s" in points.setting.columns_read or np.isfinite(points.setting.max_ttft_s):
        yield Source("waiting before the first token", "model", {"ttft": shared}, np.zeros(points.n, dtype=int), "measured")
        yield _own("waiting before the first token, of each design", {"ttft": own}, _work(points, "prefill"))


def _law(points: Points, scale: float) -> Iterable[Source]:
    """Own part from the extrapolation of size and sparsity; shared part towards the other published law, with its sign."""
    rows, setting = np.arange(points.n), points.setting
    columns, _ = score(points, rows, {}, keep=("sigma_ln_c_eq_own", "c_eq_flop", "pretrain_tok"))
    other = quality_columns(replace(setting, law=setting.alternative), points.designs, columns["pretrain_tok"], rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.log(other["c_eq_flop"] / columns["c_eq_flop"]) / np.sqrt(2.0)  # standard deviation of two laws
    shift = np.where(np.isfinite(shift), shift, 0.0)
    yield Source("quality law", "quality", {"quality": scale * shift}, np.zeros(points.n, dtype=int), "the other law")
    where = [*_design(points, "architecture.", "precision."), np.log2(np.maximum(columns["pretrain_tok"], 1.0))]
    yield _own("quality of each design", {"quality": scale * columns["sigma_ln_c_eq_own"]}, np.stack(where, axis=1))


def draw(sources: list[Source], n_samples: int, seed: int = 0) -> list[np.ndarray]:
    """Standard normal numbers of every source (S, groups); of a shared source (S, 1)."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n_samples, 1)) if s.place is None else _field(s.place, n_samples, rng) for s in sources]


def _field(place: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers (S, G) of unit variance with correlation exp(-d^2 / 2) between places (G, F).

    z(x) = m^-1/2 sum_k a_k cos(w_k x) + b_k sin(w_k x), all of a, b, w standard normal: the variance is exactly 1, the correlation
    mean_k cos(w_k (x - y)).  Source: random Fourier features, Rahimi & Recht 2007.
    """
    phase = place @ rng.standard_normal((place.shape[1], N_WAVES))
    waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(N_WAVES)
    return rng.standard_normal((n_samples, 2 * N_WAVES)) @ waves.T


def alike(source: Source, row: int) -> np.ndarray:
    """Correlation (P,) of a source's error at every point with that at point `row`."""
    if source.place is None:
        return np.ones(len(source.group))
    distance = np.linalg.norm(source.place - source.place[source.group[row]], axis=1)
    return np.exp(-0.5 * distance**2)[source.group]


def factors_of(sources: list[Source], draws: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Assumption -> factor (S, P): exp(sum over sources of sigma z)."""
    logs: dict[str, np.ndarray] = {}
    for source, z in zip(sources, draws, strict=True):
        for key, sigma in source.sigma.items():
            change = sigma * z[:, source.group]
            logs[key] = logs[key] + change if key in logs else change
    return {key: np.exp(value) for key, value in logs.items()}
