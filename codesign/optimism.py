"""Before a layout is timed: what no layout of a design can beat, objective by objective.

A design gets one vector per *step*, a range of time per output token: every point of the design is met or beaten by the vector of a step in
every objective.  One vector for all would be useless, because cheap layouts are slow and fast ones dear.  Costs and times come from
`units.floor`; tokens are at most what the floor of training and serving leaves of the budget, and quality never falls with tokens;
what depends on the design alone is exact.  Other objectives than LEAST and MOST are bounded by nothing.

Legend: A designs, J steps, M objectives; all minimised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign import tokens
from codesign.evaluate import Designs, describe, scene_of
from codesign.law_inputs import design_quality, per_design
from codesign.lifecycle import critical_batch, quality
from codesign.physics import architecture as arch
from codesign.physics.precision import Precision
from codesign.setting import Setting
from codesign.units import floor
from codesign.units.floor import ROUNDING, Floor

N_STEPS = 8
# Columns that are bounded from below, and those that are bounded from above.
LEAST = ("usd_per_mtok", "usd_per_task", "serve_usd", "tpot_s", "ttft_s", "energy_j_per_tok", "serve_power_w", "serve_devices",
         "train_devices", "train_usd", "train_s", "train_energy_j", "lifecycle_usd", "n_params", "n_active_params", "kv_bytes_per_tok",
         "loss")  # fmt: skip
MOST = ("c_eq_flop", "n_eq", "tok_per_s_per_user")
QUALITY_SLACK = 1e-7  # relative: quality passes through bisections and logarithms of what the evaluator computes in another order


@dataclass
class _Serving:
    """Floors of A designs per step (A, J); inf: no layout of the step fits or meets the ceilings."""

    n_devices: np.ndarray
    usd_per_tok: np.ndarray
    j_per_tok: np.ndarray
    tpot_s: np.ndarray
    ttft_s: np.ndarray


def bound(setting: Setting, values: dict[str, np.ndarray], codes: dict[str, np.ndarray]) -> np.ndarray:
    """(A, J, M): each feasible point of design a is, for some step j, at least [a, j] in all minimised objectives; inf: no such point."""
    designs = describe(setting, values, codes)
    n = designs.n
    serving = _serving(setting, designs)
    training = _training(setting, designs)
    tok, spent = _tokens(setting, designs, np.min(serving.usd_per_tok, axis=1), training)
    best = _best_values(setting, designs, serving, training, tok, spent)
    possible = np.isfinite(serving.usd_per_tok) & (designs.buildable & np.isfinite(training) & (tok >= 0))[:, None]
    for limit in setting.limits:
        if limit.op == "<=" and limit.column in LEAST:
            possible = possible & (best[limit.column] <= limit.bound + ROUNDING * abs(limit.bound))
        if limit.op == ">=" and limit.column in MOST:
            possible = possible & (best[limit.column] >= limit.bound - ROUNDING * abs(limit.bound))
    goals = [np.broadcast_to(_minimised(best, g.column, g.maximize), (n, possible.shape[1])) for g in setting.goals]
    return np.where(possible[:, :, None], np.stack(goals, axis=2), np.inf)


def unbounded(setting: Setting) -> tuple[str, ...]:
    """Objectives for which nothing is known before layouts are timed: with one of them no design can be excluded."""
    return tuple(g.column for g in setting.goals if g.column not in (*LEAST, *MOST))


def _minimised(best: dict[str, np.ndarray], column: str, maximize: bool) -> np.ndarray:
    value = best.get(column)
    if value is None:
        return np.full((1, 1), -np.inf)
    return -value if maximize else value


def _serving(setting: Setting, designs: Designs) -> _Serving:
    """Floors per step; a step is an eighth of the decades of TPOT between the fastest floor and the ceiling."""
    first, back = designs.groups["serve"]
    flow = designs.traffic.take(first)

    def pool(role: str, *phases: str) -> Floor:
        return floor.pool_floor(scene_of(designs, role, first, designs.precision), setting.grids[role], flow, phases)

    if setting.disaggregated:
        rows = _joined(pool("prefill", "prefill"), pool("decode", "decode"))
    else:
        rows = pool("serve", "prefill", "decode")
    ok = (rows.tpot_s <= setting.max_tpot_s) & (rows.ttft_s <= setting.max_ttft_s) & np.isfinite(rows.usd_per_tok)
    ok = np.broadcast_to(ok, rows.usd_per_tok.shape)
    split = any(g.column in ("tpot_s", "tok_per_s_per_user") for g in setting.goals)
    stepped = _steps(rows, ok, N_STEPS if split else 1, setting.max_tpot_s)
    return _Serving(*(v[back] for v in vars(stepped).values()))


def _joined(prompts: Floor, answers: Floor) -> Floor:
    """A pool of prompts at its best beside each row of the pool of answers."""
    least = {k: np.min(v, axis=(0, 2))[None, :, None] for k, v in vars(prompts).items()}
    return Floor(**{k: v if k == "tpot_s" else v + least[k] for k, v in vars(answers).items()})


def _steps(rows: Floor, ok: np.ndarray, n_steps: int, ceiling_s: float) -> _Serving:
    """The least of each quantity over the rows of each step (A, J)."""
    tpot = np.where(ok, rows.tpot_s, np.inf)
    fastest = np.min(tpot, axis=(0, 2))
    slowest = np.minimum(np.max(np.where(ok, rows.tpot_s, 0.0), axis=(0, 2)), ceiling_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.log(slowest / fastest) / n_steps
        position = np.log(tpot / fastest[None, :, None]) / np.where(width > 0, width, 1.0)[None, :, None]
    step = np.clip(np.nan_to_num(position, nan=0.0, posinf=0.0), 0, n_steps - 1).astype(int)
    here = [ok & (step == j) for j in range(n_steps)]
    return _Serving(
        **{k: np.stack([np.min(np.where(h, v, np.inf), axis=(0, 2)) for h in here], axis=1) for k, v in vars(rows).items()}
    )


def _training(setting: Setting, designs: Designs) -> np.ndarray:
    """Device-seconds per pretraining token, from below (A,)."""
    first, back = designs.groups["train"]
    bits = np.broadcast_to(np.asarray(designs.values.get("precision.train_bits", setting.life.train_bits), dtype=float), (designs.n,))
    scene = scene_of(designs, "train", first, Precision(bits, np.float64(16.0), bits), training=True)
    rate = floor.training_floor(scene, setting.grids["train"], np.float64(setting.life.seq_tok))
    return np.broadcast_to(rate, first.shape)[back]


def _most_devices(setting: Setting) -> float:
    bounds = [x.bound for x in setting.limits if x.column == "train_devices" and x.op == "<="]
    return min([float(np.max(setting.grids["train"].leading)), *bounds])


def _tokens(setting: Setting, designs: Designs, usd_per_tok, training) -> tuple[np.ndarray, np.ndarray]:
    """(useful tokens at most, -1 where there can be none; processed tokens at least) of every design (A,)."""
    life, every = setting.life, np.arange(designs.n)
    named = designs.values.get("lifecycle.pretrain_tok")
    rule = "fixed" if named is not None else life.pretrain_rule
    batch_tok = tokens.global_batch_seq(setting, designs) * life.seq_tok
    if rule == "balance":
        return np.full(designs.n, np.inf), np.zeros(designs.n)
    if rule == "budget":
        most = np.minimum(_bought(setting, designs, usd_per_tok, training), _most_useful(setting, designs, training, every))
        return np.where(most > 0, critical_batch.useful_tok(np.maximum(most, 1.0), batch_tok), -1.0), np.zeros(designs.n)
    if rule == "min_cost":
        solved = tokens.from_quality(setting, designs, every, np.zeros(designs.n))
        tok = np.where(solved.violation > 0, -1.0, solved.pretrain_tok)
    else:
        tok = np.broadcast_to(np.asarray(named if named is not None else life.pretrain_tok, dtype=float), (designs.n,))
    return tok, np.maximum(tok, 0.0) * critical_batch.token_waste(batch_tok, np.maximum(tok, 1.0))


def _most_useful(setting: Setting, designs: Designs, training, every):
    return tokens.most_useful(setting, designs, {"s_per_tok": training / _most_devices(setting)}, every)


def _bought(setting: Setting, designs: Designs, usd_per_tok, training):
    """Tokens that the budget buys at the floors of serving and training (A,); 0 where serving alone costs more.

    With RL in balance each USD of pretraining brings one of RL, at the reference prices of the two pools.
    """
    life, traffic = setting.life, setting.traffic
    every, chip = np.arange(designs.n), designs.chips["train"]
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    if life.budget_of == "usd":
        committed, price, valued = usd_per_tok * out_tok, training * chip.usd_per_s, training * chip.reference_usd_per_s
        rl = designs.chips["rl"]
        per_rl = rl.usd_per_s / np.where(rl.reference_usd_per_s > 0, rl.reference_usd_per_s, np.inf)
        if life.rl_rule == "balance" and life.balance_of == "usd":
            price = price + valued * per_rl
    elif life.budget_of == "device_s":
        committed, price = 0.0, training
    else:
        flop = tokens.flop_per_tok(setting, designs, every)
        text = per_design(designs.tok_per_text, every)
        fresh = np.maximum(traffic.isl_tok - per_design(designs.traffic.prefix_tok, every), 1.0) / traffic.osl_tok
        committed, price = (flop["prefill"] * fresh + flop["decode"]) * out_tok * text, flop["train"]
    left = np.maximum(life.budget - committed * np.ones(designs.n), 0.0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(price) & (left > 0), left / price, 0.0) * (1.0 + ROUNDING)


def _quality(setting: Setting, designs: Designs, tok) -> dict[str, np.ndarray]:
    """Quality at `tok` tokens, as `quality.assess` computes it (A,)."""
    n_active, n_total, design = design_quality(setting, designs)
    law, unique = setting.law, setting.life.unique_tok
    bits = {k: design.pop(k) for k in ("weight_bits", "c_fmt", "act_bits", "fmt_act_bits")}
    factors = quality.factor_table(n_active, n_total, f=law.factors, **design)
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    c_quant = quality.quant_coefficient(*bits.values(), law.factors)
    tok = np.maximum(np.minimum(tok, 1e30) / designs.tok_per_text, 1.0)
    useful = quality.useful_training_tok(n_base, n_active, tok, c_quant, law, unique)
    n_eff = n_base * quality.quant_factor(useful / n_active, c_quant, law.factors)
    loss = quality.loss(n_eff, quality.effective_tokens(useful, unique), law)
    c_eq_flop, n_eq = quality.equivalent_compute(loss, law)
    up = 1.0 + QUALITY_SLACK
    return {"c_eq_flop": c_eq_flop * up, "n_eq": n_eq * up, "loss": loss * (1.0 - QUALITY_SLACK)}


def _best_values(setting: Setting, designs: Designs, serving: _Serving, training, tok, spent) -> dict[str, np.ndarray]:
    """The best that each column can be, (A, J) or (A, 1), for the columns LEAST and MOST."""
    life, traffic = setting.life, setting.traffic
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    train_usd = training * designs.chips["train"].usd_per_s * spent
    usd = serving.usd_per_tok * 1e6
    best = {
        "usd_per_mtok": usd, "usd_per_task": usd * life.tok_per_task / 1e6, "serve_usd": serving.usd_per_tok * out_tok,
        "tpot_s": serving.tpot_s, "ttft_s": serving.ttft_s, "tok_per_s_per_user": 1.0 / serving.tpot_s,
        "energy_j_per_tok": serving.j_per_tok, "serve_power_w": serving.j_per_tok * traffic.demand_tok_per_s,
        "serve_devices": serving.n_devices, "train_devices": np.min(setting.grids["train"].leading).reshape(1, 1),
        "lifecycle_usd": serving.usd_per_tok * out_tok + train_usd[:, None] * (1.0 - ROUNDING),
    }  # fmt: skip
    more = {
        "train_usd": train_usd,
        "train_s": training / _most_devices(setting) * spent,
        "train_energy_j": training * designs.chips["train"].all_in_w * spent,
        "n_params": designs.census.n_params,
        "n_active_params": designs.census.n_active_params,
        "kv_bytes_per_tok": arch.kv_bytes_per_tok(designs.census, designs.precision.kv_bits),
    }
    more |= _quality(setting, designs, tok)
    return best | {k: np.broadcast_to(v, (designs.n,))[:, None] for k, v in more.items()}
