"""A resolved study as numbers: everything the pipeline reads, nothing it would have to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from codesign.constraints import Limit
from codesign.lifecycle.rl_returns import ReturnCurve
from codesign.lifecycle.scaling_law import CENTRAL, POOLED, QualityLaw
from codesign.physics.arrays import Arrays
from codesign.physics.energy import EnergyFit
from codesign.physics.hardware import Chip
from codesign.physics.phases.denoise import Clip
from codesign.physics.rack import Rack
from codesign.service.tiers import Tier
from codesign.service.traffic import Traffic
from codesign.units.candidates import Grid
from codesign.units.train_unit import RlJob


@dataclass(frozen=True)
class Joules(Arrays):
    """The hardware choices priced in joules (`physics.energy.in_joules`), (H,)."""

    near: Chip
    far: Chip
    fit: EnergyFit


@dataclass(frozen=True)
class Pool:
    """Hardware choices of one role: names, and their chips stacked (H,)."""

    names: tuple[str, ...]
    chips: Chip
    joules: Joules | None = None  # only where the study reads energy
    racks: Rack | None = None  # (H,), only where the study gives domains a rack


@dataclass(frozen=True)
class Goal:
    """One objective: a column and whether it is to be raised."""

    column: str
    maximize: bool


@dataclass(frozen=True)
class Life:
    """Lifecycle rules.  Tokens are fixed numbers (`*_tok`) unless a rule solves for them."""

    pretrain_rule: str = "fixed"  # fixed | budget | balance | min_cost
    pretrain_tok: float = 0.0
    target_c_eq_flop: float = 0.0
    rl_rule: str = "fixed"  # fixed | balance
    rl_tok: float = 0.0
    budget: float = 0.0
    budget_of: str = "usd"  # usd | flop | device_s
    balance_of: str = "usd"
    max_ratio: float | None = None
    unique_tok: float = np.inf
    global_batch_tok: float | None = None
    train_bits: float = 16.0
    seq_tok: float = 4096.0
    lifetime_s: float = 365.25 * 86400.0
    tok_per_task: float = 1000.0
    median_context_tok: float = 0.0
    min_full_fraction: float = 0.125
    long_context_penalty: float = 0.0

    @property
    def values_cheapest(self) -> bool:
        """Whether something is computed from what each phase costs on its cheapest layout."""
        return self.balance_of == "usd" and (self.max_ratio is not None or self.rl_rule == "balance" or self.pretrain_rule == "balance")


@dataclass(frozen=True)
class Setting:
    """Base values by dotted name, pools by role, traffic, life, goals, limits, candidate grids by unit."""

    base: dict[str, object]
    pools: dict[str, Pool]
    traffic: Traffic
    life: Life
    goals: tuple[Goal, ...]
    limits: tuple[Limit, ...]
    disaggregated: bool
    grids: dict[str, Grid]
    max_tpot_s: float = np.inf
    max_ttft_s: float = np.inf
    tiers: Mapping[str, Tier] = field(default_factory=dict)  # places where prefixes may wait, by name
    tiers_s: tuple[float, ...] = ()  # speed tiers a design may be asked for; () when the study has none
    rl: RlJob = field(default_factory=RlJob)
    clip: Clip | None = None  # a study of video: what is made, and how long it is [s]
    clip_seconds: float = 0.0
    returns: ReturnCurve | None = None  # only where the study reads what RL returns
    law: QualityLaw = CENTRAL
    alternative: QualityLaw = POOLED

    @property
    def roles(self) -> tuple[str, ...]:
        return ("prefill", "decode") if self.disaggregated else ("serve",)

    @property
    def units(self) -> tuple[str, ...]:
        """Pools whose layouts are tried: training, then serving; a study of video does not train."""
        return self.roles if self.clip is not None else ("train", *self.roles)

    @property
    def columns_read(self) -> set[str]:
        """Columns that an objective or a limit looks at."""
        return {g.column for g in self.goals} | {limit.column for limit in self.limits}
