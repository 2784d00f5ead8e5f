"""From combinations of training and serving layouts to every column of a point: tokens, quality, USD, time, energy, balance.

Legend: A designs, P points; `d`, `t`, `s` index each point's design, training row and serving row.
"""

from __future__ import annotations

import numpy as np

from codesign.law_inputs import design_quality, per_design
from codesign.lifecycle import balance, quality, quality_factors, quality_validity, rl_returns
from codesign.objectives import ENERGY_COLUMNS, READOUTS
from codesign.physics import architecture as arch
from codesign.physics.layout import DEGREES, PLAIN
from codesign.physics.rack import LIMITS
from codesign.setting import Setting
from codesign.tokens import Rates, Tok, balance_prices, flop_per_tok, inference_work, rates_of, solve
from codesign.units.energy import TOTAL
from codesign.units.training import MORE

TOKEN_REASONS = {"budget": "budget", "min_cost": "target quality"}  # why a rule leaves a design without tokens; else "tokens"
REFUSED = "quality refused"
RL_RETURN = "RL return"


def violation_names(setting: Setting) -> tuple[str, ...]:
    """Violations after structure and memory: tokens, quality range, latency ceilings, balance, the study's limits."""
    names = [_token_reason(setting), REFUSED, *([RL_RETURN] if setting.returns else [])]
    names += [name for name, top in (("ttft", setting.max_ttft_s), ("tpot", setting.max_tpot_s)) if np.isfinite(top)]
    names += [f"rack {limit}" for limit in LIMITS] if setting.pools[setting.roles[-1]].racks is not None else []
    names += ["full attention"] if setting.life.median_context_tok > 32768 and not setting.life.long_context_penalty else []
    names += ["balance"] if setting.life.max_ratio else []
    return (*names, *(limit.name for limit in setting.limits))


def _token_reason(setting: Setting) -> str:
    return TOKEN_REASONS.get(setting.life.pretrain_rule, "tokens")


def fill(setting: Setting, designs, training, serving, rl_rate, rows):
    """All columns (P,) and signed violations {name: (P,)} of the points `rows` = (d, t, s)."""
    d, t, s = rows
    tr = {k: v[t] for k, v in training.columns.items()}
    sv = {k: v[s] for k, v in serving.columns.items()}
    census = designs.census.take(d)
    rates = rates_of(setting, designs, tr, sv, rl_rate, d)
    flop = flop_per_tok(setting, designs, d)
    tokens = solve(setting, designs, training, serving, rl_rate, rates, flop, tr, d)
    columns = quality_columns(setting, designs, tokens.useful, d)
    if setting.returns:
        columns |= returned(setting, columns["n_reason"], tokens.rl)
    columns |= _money(setting, designs, rates, tokens, tr, sv, d)
    columns |= _work(setting, designs, training, serving, rl_rate, tokens, flop, rates, d)
    columns["n_params"], columns["n_active_params"] = census.n_params + 0.0 * d, census.n_active_params + 0.0 * d
    kv_bits = designs.precision.kv_bits
    columns["kv_bytes_per_tok"] = np.broadcast_to(arch.kv_bytes_per_tok(designs.census, kv_bits), (designs.n,))[d]
    columns["tok_per_param"] = columns["pretrain_tok"] / census.n_active_params
    columns |= _layout_columns(setting, tr, sv)
    columns |= {k: per_design(v, d) for k, v in designs.domain[0].items()} if designs.domain else {}
    violations = _violations(setting, designs, columns, tokens, d)
    return columns, violations


def _gather(values: dict, d):
    return {k: (np.ravel(v)[d] if np.size(v) > 1 else v) for k, v in values.items()}


def quality_columns(setting: Setting, designs, useful, d) -> dict[str, np.ndarray]:
    """Quality columns and the refusal violation of points that train on `useful` tokens (P,).  Where tokens are the same for all points of a design, computed once each."""
    n_active, n_total, design = design_quality(setting, designs)
    tok = np.maximum(useful / per_design(designs.tok_per_text, d), 1.0)  # the law's tokens carry the base vocabulary's text
    keys, first, back = np.unique(np.stack([d.astype(float), tok]), axis=1, return_index=True, return_inverse=True)
    u, tok = d[first], tok[first]
    del keys
    row = {k: np.broadcast_to(v, np.broadcast_shapes(np.shape(v), (u.size,))) for k, v in _gather(design, u).items()}
    na, nt = per_design(n_active, u), per_design(n_total, u)
    read = sorted(setting.columns_read & READOUTS)
    out = quality.assess(na, nt, tok, unique_tok=setting.life.unique_tok, law=setting.law, alternative=setting.alternative, **row)
    refused = quality_validity.refusals(
        na, nt, tok, unique_tok=setting.life.unique_tok, granularity=row["granularity"], weight_bits=row["weight_bits"],
        c_fmt=row["c_fmt"], act_bits=row["act_bits"], kv_bits=row["kv_bits"], train_bits=row["train_bits"],
        head_width_ratio=per_design(designs.shape["n_heads"] * designs.shape["d_head_v"] / designs.shape["d_model"], u),
    )  # fmt: skip
    out |= {f"{b}_logit": quality.readout(b, {**out, "n_total": nt}[axis]) for b, axis in quality.READ_OFF.items() if f"{b}_logit" in read}
    if setting.returns:
        out["n_reason"] = rl_returns.reasoning_size(out["q_reason"], out["d_eff"], setting.law)
    names = ["c_eq_flop", "n_eq", "n_eff", "loss", "q_mixed", "q_reason", "q_know_bits", "sigma_ln_c_eq", "sigma_ln_c_eq_own", *read]
    names += ["n_reason"] if setting.returns else []
    columns = {k: np.broadcast_to(out[k], (u.size,)) for k in names}
    columns["quality_refused"] = np.any([np.broadcast_to(v, (u.size,)) for v in refused.values()], axis=0).astype(float)
    none = useful[first] <= 0
    columns |= {k: np.where(none, 0.0, columns[k]) for k in ("c_eq_flop", "n_reason") if k in columns}
    back = np.ravel(back)
    return {k: v[back] for k, v in columns.items()}


def returned(setting: Setting, n_reason, rl_tok) -> dict[str, np.ndarray]:
    """Columns of what `rl_tok` RL tokens return to models of this reasoning size (P,)."""
    rollouts = rl_tok / setting.rl.gen_tok
    return {
        "rl_gain_frac": rl_returns.gain_frac(rollouts, setting.returns) + 0.0 * n_reason,
        "rl_pass_frac": rl_returns.pass_frac(n_reason, rollouts, setting.returns),
    }


def _money(setting: Setting, designs, rates: Rates, tokens: Tok, tr, sv, d) -> dict[str, np.ndarray]:
    life, traffic = setting.life, setting.traffic
    train_device_s = rates.device_s_per_tok * tokens.spent
    rl_device_s = rates.rl_device_s_per_tok * tokens.rl
    train_w = per_design(designs.chips["train"].all_in_w, d)
    rl_w = per_design(designs.chips["rl"].all_in_w, d)
    usd_per_mtok = sv["usd_per_tok"] * 1e6
    fresh = np.maximum(traffic.isl_tok - per_design(designs.traffic.prefix_tok, d), 1.0) / traffic.osl_tok
    columns = {
        "usd_per_mtok": usd_per_mtok,
        "usd_per_mtok_input": usd_per_mtok * sv["prefill_frac"] / fresh,
        "usd_per_mtok_output": usd_per_mtok * (1.0 - sv["prefill_frac"]),
        "usd_per_task": usd_per_mtok * life.tok_per_task / 1e6,
        "tpot_s": sv["tpot_s"],
        "ttft_s": sv["ttft_s"],
        "tok_per_s_per_user": 1.0 / sv["tpot_s"],
        "energy_j_per_tok": sv["j_per_tok"],
        "serve_devices": sv["n_devices"],
        "serve_power_w": sv["power_w"],
        "serve_load_frac": traffic.demand_tok_per_s / sv["held_tok_per_s"],
        "serve_usd": rates.serve_usd,
        "train_s": tr["s_per_tok"] * tokens.spent,
        "train_devices": tr["n_devices"],
        "train_usd": train_device_s * rates.train_usd_per_s,
        "train_energy_j": train_device_s * train_w,
        "train_power_w": tr["n_devices"] * np.maximum(train_w, rl_w * (tokens.rl > 0)),
        "rl_s": rl_device_s / tr["n_devices"],
        "rl_usd": rates.rl_usd_per_tok * tokens.rl,
        "pretrain_tok": tokens.useful,
        "pretrain_spent_tok": tokens.spent,
        "rl_tok": tokens.rl,
        "global_batch_tok": tokens.batch_tok,
    }
    columns |= {k: v for k, v in sv.items() if k in ENERGY_COLUMNS}
    if TOTAL in tr:
        columns["train_energy_used_j"] = tr[TOTAL] * tokens.spent
    columns["lifecycle_usd"] = columns["train_usd"] + columns["rl_usd"] + columns["serve_usd"]
    columns["facility_power_w"] = columns["train_power_w"] + columns["serve_power_w"]
    served_tok = traffic.demand_tok_per_s * life.lifetime_s
    columns["lifecycle_energy_j"] = columns["train_energy_j"] + rl_device_s * rl_w + sv["j_per_tok"] * served_tok
    return columns


def _work(setting: Setting, designs, training, serving, rl_rate, tokens: Tok, flop, rates: Rates, d) -> dict[str, np.ndarray]:
    """Necessary FLOP per phase and the balance between phases."""
    work = {
        "pretrain_flop": flop["train"] * tokens.spent,
        "rl_flop": flop["rl"] * tokens.rl,
        "inference_flop": flop["prefill"] * rates.in_tok + flop["decode"] * rates.out_tok,
    }
    if setting.life.balance_of == "flop":
        amounts = tuple(work.values())
    else:
        price, rl_price, _ = balance_prices(setting, designs, training, rl_rate, flop, d)
        inference = inference_work(setting, designs, serving, flop, d)["usd"]
        amounts = price * tokens.spent, rl_price * tokens.rl, inference
    return work | {"balance_ratio": balance.ratio(*amounts)}


def _layout_columns(setting: Setting, tr, sv) -> dict[str, np.ndarray]:
    """Layout degrees per unit under `<unit>.<degree>`."""
    extras = ("micro_batch", "recompute", "zero", *(k for k in MORE if k in tr))
    out = {f"train.{k}": tr[k] for k in (*DEGREES, "n_devices", *extras, "memory_bytes", "step_s")}
    if setting.disaggregated:
        return out | {k: v for k, v in sv.items() if "." in k}
    plan = (k for k in PLAIN if k in sv)
    return out | {f"serve.{k}": sv[k] for k in (*DEGREES, *plan, "batch", "n_replicas", "n_devices", "memory_bytes", "step_s", "tok_per_s")}


def _violations(setting: Setting, designs, columns, tokens: Tok, d) -> dict[str, np.ndarray]:
    out = {_token_reason(setting): tokens.violation, REFUSED: columns["quality_refused"] * 2.0 - 1.0}
    if setting.returns:
        out[RL_RETURN] = rl_returns.cannot_rank(columns["n_reason"], tokens.rl / setting.rl.gen_tok, setting.returns)
    for name, key, top in (("ttft", "ttft_s", setting.max_ttft_s), ("tpot", "tpot_s", setting.max_tpot_s)):
        if np.isfinite(top):
            out[name] = columns[key] / top - 1.0
    out |= {k: per_design(v, d) for k, v in designs.domain[1].items()} if designs.domain else {}
    if "full attention" in violation_names(setting):
        shape = designs.shape
        full = shape["n_full_layers"] / shape["n_layers"]
        gap = quality_factors.full_layers_violation(full, setting.life.median_context_tok, setting.life.min_full_fraction)
        out["full attention"] = per_design(gap, d)
    if setting.life.max_ratio:
        out["balance"] = np.minimum(columns["balance_ratio"] / setting.life.max_ratio * (1.0 - 1e-9) - 1.0, 1e6)
    for limit in setting.limits:
        out[limit.name] = limit.violation(columns[limit.column])
    return {k: np.broadcast_to(v, d.shape) for k, v in out.items()}
