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
from codesign.physics.operators import Scene
from codesign.physics.precision import Precision
from codesign.setting import Setting
from codesign.units import floor
from codesign.units.floor import ROUNDING, Floor

N_STEPS = 12
BLOCK = 1024  # designs whose rows are timed at once
# Columns that are bounded from below, and those that are bounded from above.
LEAST = ("usd_per_mtok", "usd_per_task", "serve_usd", "tpot_s", "ttft_s", "energy_j_per_tok", "serve_power_w", "serve_devices",
         "train_devices", "train_power_w", "facility_power_w", "train_usd", "train_s", "train_energy_j", "lifecycle_usd", "n_params",
         "n_active_params", "kv_bytes_per_tok", "loss")  # fmt: skip
MOST = ("c_eq_flop", "n_eq", "tok_per_s_per_user")
QUALITY_SLACK = 1e-7  # relative: quality passes through bisections and logarithms of what the evaluator computes in another order


@dataclass
class _Serving:
    """Floors of A designs per step (A, J); inf: no layout of the step fits or meets the ceilings."""

    n_devices: np.ndarray
    power_w: np.ndarray
    usd_per_tok: np.ndarray
    j_per_tok: np.ndarray
    tpot_s: np.ndarray
    ttft_s: np.ndarray
    cheapest_usd_per_tok: np.ndarray  # (A, 1) of any layout that fits, however slow, at the catalog's prices: what balance looks at


def bound(setting: Setting, values: dict[str, np.ndarray], codes: dict[str, np.ndarray]) -> np.ndarray:
    """(A, J, M): each feasible point of design a is, for some step j, at least [a, j] in all minimised objectives; inf: no such point."""
    designs = describe(setting, values, codes)
    n = designs.n
    serving = _serving(setting, designs)
    training = _training(setting, designs)
    tok, spent = _tokens(setting, designs, serving, training)
    best = _best_values(setting, designs, serving, training, tok, spent)
    possible = np.isfinite(serving.usd_per_tok) & (designs.buildable & np.isfinite(training))[:, None] & (tok >= 0)
    for limit in setting.limits:
        if limit.op == "<=" and limit.column in LEAST:
            possible = possible & (best[limit.column] <= limit.bound + ROUNDING * abs(limit.bound))
        if limit.op == ">=" and limit.column in MOST:
            possible = possible & (best[limit.column] >= limit.bound - ROUNDING * abs(limit.bound))
    goals = [np.broadcast_to(_minimised(best, g.column, g.maximize), (n, possible.shape[1])) for g in setting.goals]
    return np.where(possible[:, :, None], np.stack(goals, axis=2), np.inf)


def unbounded(setting: Setting) -> tuple[str, ...]:
    """What nothing is known about before layouts are timed: with such an objective, or layouts of that kind, no design can be excluded."""
    if setting.clip is not None:
        return ("studies of video",)
    if any(setting.grids[role].layout.plan is not None for role in setting.roles):
        return ("layouts with a plan (overlap, FFNs apart)",)
    return tuple(g.column for g in setting.goals if g.column not in (*LEAST, *MOST))


def _minimised(best: dict[str, np.ndarray], column: str, maximize: bool) -> np.ndarray:
    value = best.get(column)
    if value is None:
        return np.full((1, 1), -np.inf)
    return -value if maximize else value


def _serving(setting: Setting, designs: Designs) -> _Serving:
    """Floors per step: a twelfth of the decades of TPOT between the fastest and the slowest floor."""
    first, back = designs.groups["serve"]
    flow = designs.traffic.take(first)

    def pool(role: str, *phases: str) -> tuple[Scene, Floor]:
        scene = scene_of(designs, role, first, designs.precision)
        return scene, _in_blocks(scene, setting.grids[role], flow, phases, first.size)

    ceilings = setting.max_tpot_s, setting.max_ttft_s
    n_steps = N_STEPS if any(g.column in ("tpot_s", "tok_per_s_per_user") for g in setting.goals) else 1
    if setting.disaggregated:
        (prompter, prompts), (answerer, answers) = pool("prefill", "prefill"), pool("decode", "decode")
        answers.ttft_s = answers.ttft_s + np.min(prompts.ttft_s, axis=1, keepdims=True)
        least = np.min(prompts.device_s_per_tok, axis=1, keepdims=True)
        own = _paid(answerer, flow, _steps(answers, *ceilings, n_steps), answers, keeps=False)
        total = [a + b for a, b in zip(own, _paid(prompter, flow, (least, 0.0, 0.0), prompts), strict=True)]
    else:
        scene, rows = pool("serve", "prefill", "decode")
        total = _paid(scene, flow, _steps(rows, *ceilings, n_steps), rows)
    return _Serving(*(np.broadcast_to(v, (first.size, np.shape(v)[1]))[back] for v in total))


def _in_blocks(scene, grid, flow, phases, n: int) -> Floor:
    """`floor.pool_floor` of n designs, so many at once that their rows stay in cache."""
    blocks = [np.arange(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
    parts = [floor.pool_floor(scene.take(b), grid, flow.take(b), phases) for b in blocks]
    parts = [Floor(*(np.broadcast_to(v, (b.size, v.shape[1])) for v in vars(p).values())) for p, b in zip(parts, blocks, strict=True)]
    return Floor(*(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))


def _paid(scene: Scene, flow, steps, rows: Floor, keeps: bool = True) -> list[np.ndarray]:
    """Columns of `_Serving` from the (device-seconds, TPOT, TTFT) of steps: everything that is paid rises with the device-seconds.

    keeps: this pool pays for prefixes that wait.
    """
    device_s, tpot_s, ttft_s = steps
    usd, reference, watt = (np.reshape(getattr(scene.chip, k), (-1, 1)) for k in ("usd_per_s", "reference_usd_per_s", "all_in_w"))
    kept, kept_reference = (np.reshape(v, (-1, 1)) for v in (floor.kept_usd(scene, flow) if keeps else (0.0, 0.0)))
    largest, held = floor.charged(scene, flow, device_s)
    cheapest = floor.charged(scene, flow, np.min(rows.device_s_per_tok, axis=1, keepdims=True))[1]
    demand, down = flow.demand_tok_per_s, 1.0 - ROUNDING
    paid = held * usd / demand + kept, held * watt / demand, cheapest * reference / demand + kept_reference
    usd_per_tok, j_per_tok, cheapest = (v * down for v in paid)
    return [largest, largest * watt * down, usd_per_tok, j_per_tok, tpot_s, ttft_s, cheapest]


def _steps(rows: Floor, max_tpot_s: float, max_ttft_s: float, n_steps: int) -> tuple[np.ndarray, ...]:
    """The least (device-seconds, TPOT, TTFT) over the rows of each step (A, J)."""
    ok = (rows.tpot_s <= max_tpot_s) & (rows.ttft_s <= max_ttft_s) & np.isfinite(rows.device_s_per_tok)
    tpot, seconds, ttft = (np.where(ok, v, np.inf) for v in (rows.tpot_s, rows.device_s_per_tok, rows.ttft_s))
    if n_steps == 1:
        return tuple(np.min(v, axis=1, keepdims=True) for v in (seconds, tpot, ttft))
    design, row = np.nonzero(ok)
    log_s = np.log(tpot[design, row])
    fastest, slowest = np.full(len(ok), np.inf), np.full(len(ok), -np.inf)
    np.minimum.at(fastest, design, log_s)
    np.maximum.at(slowest, design, log_s)
    width = np.where(slowest > fastest, slowest - fastest, 1.0)
    step = np.minimum(((log_s - fastest[design]) / width[design] * n_steps).astype(int), n_steps - 1)
    out = np.full((3, len(ok) * n_steps), np.inf)
    for kept, values in zip(out, (seconds, tpot, ttft), strict=True):
        np.minimum.at(kept, design * n_steps + step, values[design, row])
    return tuple(out.reshape(3, len(ok), n_steps))


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


def _tokens(setting: Setting, designs: Designs, serving: _Serving, training) -> tuple[np.ndarray, np.ndarray]:
    """(useful tokens at most, -1 where there can be none; processed tokens at least) of every design and step (A, J) or (A, 1)."""
    life, every = setting.life, np.arange(designs.n)
    named = designs.values.get("lifecycle.pretrain_tok")
    rule = "fixed" if named is not None else life.pretrain_rule
    batch_tok = tokens.global_batch_seq(setting, designs) * life.seq_tok
    none = np.zeros((designs.n, 1))
    if rule == "balance":
        return none + np.inf, none
    if rule == "budget":
        useful = tokens.most_useful(setting, designs, {"s_per_tok": training / _most_devices(setting)}, every)
        most = np.minimum(_bought(setting, designs, serving, training), useful[:, None])
        return np.where(most > 0, critical_batch.useful_tok(np.maximum(most, 1.0), batch_tok[:, None], n_rounds=4), -1.0), none
    if rule == "min_cost":
        solved = tokens.from_quality(setting, designs, every, np.zeros(designs.n))
        tok = np.where(solved.violation > 0, -1.0, solved.pretrain_tok)
    else:
        tok = np.broadcast_to(np.asarray(named if named is not None else life.pretrain_tok, dtype=float), (designs.n,))
    spent = np.maximum(tok, 0.0) * critical_batch.token_waste(batch_tok, np.maximum(tok, 1.0))
    return tok[:, None], spent[:, None]


def _bought(setting: Setting, designs: Designs, serving: _Serving, training) -> np.ndarray:
    """Tokens that the budget buys at the floors of serving and training (A, J); 0 where serving alone costs more, or breaks the balance.

    With RL in balance each USD of pretraining brings one of RL, at the reference prices of the two pools.
    """
    life, traffic = setting.life, setting.traffic
    every, chip, rl = np.arange(designs.n), designs.chips["train"], designs.chips["rl"]
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    beside = 0.0
    if life.budget_of == "usd":
        committed, rate, value = serving.usd_per_tok * out_tok, chip.usd_per_s, chip.reference_usd_per_s
        if life.rl_rule == "balance" and life.balance_of == "usd":
            beside = value * rl.usd_per_s / np.where(rl.reference_usd_per_s > 0, rl.reference_usd_per_s, np.inf)
    elif life.budget_of == "device_s":
        committed, rate = np.zeros((designs.n, 1)), 1.0
    else:
        flop = tokens.flop_per_tok(setting, designs, every)
        text = per_design(designs.tok_per_text, every)
        fresh = np.maximum(traffic.isl_tok - per_design(designs.traffic.prefix_tok, every), 1.0) / traffic.osl_tok
        committed, rate, training = ((flop["prefill"] * fresh + flop["decode"]) * out_tok * text)[:, None], 1.0, flop["train"]
    left = np.maximum(life.budget - committed, 0.0) * (1.0 + ROUNDING)
    seconds = left / np.reshape(np.asarray(rate + beside, dtype=float), (-1, 1))
    if life.max_ratio and life.budget_of == life.balance_of == "usd":
        most = seconds * np.reshape(value, (-1, 1)) * life.max_ratio * (1.0 + 1e-8)  # that inference may cost beside it
        left = np.where(serving.cheapest_usd_per_tok * out_tok <= most, left, 0.0)
    with np.errstate(invalid="ignore"):
        return np.where((left > 0) & np.isfinite(training)[:, None], seconds / training[:, None], 0.0)


def _quality(setting: Setting, designs: Designs, tok) -> dict[str, np.ndarray]:
    """Quality at `tok` tokens (A, J), as `quality.assess` computes it."""
    n_active, n_total, design = design_quality(setting, designs)
    law, unique = setting.law, setting.life.unique_tok
    bits = {k: design.pop(k) for k in ("weight_bits", "c_fmt", "act_bits", "fmt_act_bits")}
    factors = quality.factor_table(n_active, n_total, f=law.factors, **design)
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    c_quant = quality.quant_coefficient(*bits.values(), law.factors)
    n_base, c_quant, n_active = (np.reshape(v, (-1, 1)) for v in (n_base, c_quant, n_active))
    tok = np.maximum(np.minimum(tok, 1e30) / np.reshape(designs.tok_per_text, (-1, 1)), 1.0)
    useful = quality.useful_training_tok(n_base, n_active, tok, c_quant, law, unique)
    n_eff = n_base * quality.quant_factor(useful / n_active, c_quant, law.factors)
    loss = quality.loss(n_eff, quality.effective_tokens(useful, unique), law)
    c_eq_flop, n_eq = quality.equivalent_compute(loss, law)
    up = 1.0 + QUALITY_SLACK
    return {"c_eq_flop": c_eq_flop * up, "n_eq": n_eq * up, "loss": loss * (1.0 - QUALITY_SLACK)}


def _best_values(setting: Setting, designs: Designs, serving: _Serving, training, tok, spent) -> dict[str, np.ndarray]:
    """The best that each column can be, (A, J) or (A, 1), for the columns LEAST and MOST."""
    life, traffic, chip = setting.life, setting.traffic, designs.chips["train"]
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    training, rate, watt = (np.reshape(v, (-1, 1)) for v in (training, chip.usd_per_s, chip.all_in_w))
    train_usd = training * rate * spent * (1.0 - ROUNDING)
    usd, least = serving.usd_per_tok * 1e6, np.min(setting.grids["train"].leading).reshape(1, 1)
    best = {
        "usd_per_mtok": usd, "usd_per_task": usd * life.tok_per_task / 1e6, "serve_usd": serving.usd_per_tok * out_tok,
        "tpot_s": serving.tpot_s, "ttft_s": serving.ttft_s, "tok_per_s_per_user": 1.0 / serving.tpot_s,
        "energy_j_per_tok": serving.j_per_tok, "serve_power_w": serving.power_w, "serve_devices": serving.n_devices,
        "train_devices": least, "train_power_w": least * watt, "facility_power_w": least * watt * (1.0 - ROUNDING) + serving.power_w,
        "lifecycle_usd": serving.usd_per_tok * out_tok + train_usd, "train_usd": train_usd,
        "train_s": training / _most_devices(setting) * spent * (1.0 - ROUNDING),
        "train_energy_j": training * watt * spent * (1.0 - ROUNDING),
    }  # fmt: skip
    more = {
        "n_params": designs.census.n_params,
        "n_active_params": designs.census.n_active_params,
        "kv_bytes_per_tok": arch.kv_bytes_per_tok(designs.census, designs.precision.kv_bits),
    }
    best |= {k: np.broadcast_to(v, (designs.n,))[:, None] for k, v in more.items()}
    return best | _quality(setting, designs, tok)
