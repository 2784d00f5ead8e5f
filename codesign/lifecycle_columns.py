"""From combinations of training and serving layouts to every column of a point: tokens, quality, USD, time, energy, balance.

Legend: A designs, P points; `d`, `t`, `s` index each point's design, training row and serving row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.lifecycle import balance, critical_batch, quality, quality_factors, quality_validity
from codesign.lifecycle.quality_factors import WEIGHT_FORMATS
from codesign.physics import architecture as arch
from codesign.physics.operators import causal_pairs
from codesign.setting import Setting

TOKEN_VIOLATION = "tokens"
REFUSED = "quality refused"
UNREACHABLE = 1e9  # device-seconds per token when no RL layout fits: finite, so that 0 tokens of it cost nothing


def violation_names(setting: Setting) -> tuple[str, ...]:
    """Violations after structure and memory: tokens, quality range, latency ceilings, balance, the study's limits."""
    names = [TOKEN_VIOLATION, REFUSED]
    names += [name for name, top in (("ttft", setting.max_ttft_s), ("tpot", setting.max_tpot_s)) if np.isfinite(top)]
    names += ["full attention"] if setting.life.median_context_tok > 32768 and not setting.life.long_context_penalty else []
    names += ["balance"] if setting.life.max_ratio else []
    return (*names, *(limit.name for limit in setting.limits))


@dataclass
class Rates:
    """Per point: what a token of each phase costs, and what serving costs over the life."""

    train_usd_per_s: np.ndarray  # per device
    device_s_per_tok: np.ndarray
    rl_usd_per_tok: np.ndarray
    rl_device_s_per_tok: np.ndarray
    serve_usd: np.ndarray
    serve_device_s: np.ndarray
    in_tok: np.ndarray
    out_tok: np.ndarray


def fill(setting: Setting, designs, training, serving, rl_rate, rows):
    """All columns (P,) and signed violations {name: (P,)} of the points `rows` = (d, t, s)."""
    d, t, s = rows
    tr = {k: v[t] for k, v in training.columns.items()}
    sv = {k: v[s] for k, v in serving.columns.items()}
    census = designs.census.take(d)
    rates = _rates(setting, designs, tr, sv, rl_rate, d)
    flop = _flop_per_tok(setting, designs, d)
    tokens = _tokens(setting, designs, training, serving, rl_rate, rates, flop, tr, d)
    columns = _quality(setting, designs, tokens, d)
    columns |= _money(setting, designs, rates, tokens, tr, sv, d)
    columns |= _work(setting, designs, training, serving, rl_rate, tokens, flop, rates, d)
    columns["n_params"], columns["n_active_params"] = census.n_params + 0.0 * d, census.n_active_params + 0.0 * d
    kv_bits = designs.precision.kv_bits
    columns["kv_bytes_per_tok"] = np.broadcast_to(arch.kv_bytes_per_tok(designs.census, kv_bits), (designs.n,))[d]
    columns["tok_per_param"] = columns["pretrain_tok"] / census.n_active_params
    columns |= _layout_columns(setting, tr, sv)
    violations = _violations(setting, designs, columns, tokens, d)
    return columns, violations


def _per_design(value, d):
    """(P,) rows of a per-design value, scalars included."""
    return np.ravel(value)[d] if np.size(value) > 1 else np.full(d.size, float(np.ravel(value)[0]))


def _rates(setting: Setting, designs, tr, sv, rl_rate, d) -> Rates:
    traffic, life = setting.traffic, setting.life
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    fresh = np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0) / traffic.osl_tok
    rl_price = _per_design(designs.chips["rl"].usd_per_s, d)
    rate = np.minimum(rl_rate[d], UNREACHABLE)
    return Rates(
        train_usd_per_s=_per_design(designs.chips["train"].usd_per_s, d),
        device_s_per_tok=tr["device_s_per_tok"],
        rl_usd_per_tok=rate * rl_price,
        rl_device_s_per_tok=rate,
        serve_usd=sv["usd_per_tok"] * out_tok,
        serve_device_s=sv["n_devices"] * life.lifetime_s,
        in_tok=out_tok * fresh * _per_design(designs.tok_per_text, d),
        out_tok=out_tok * _per_design(designs.tok_per_text, d),
    )


def _flop_per_tok(setting: Setting, designs, d) -> dict[str, np.ndarray]:
    """Necessary FLOP per token of each phase (P,): matmul and causal attention, no layout."""
    census, traffic, life = designs.census, setting.traffic, setting.life
    weights = census.n_matmul_params_per_tok + census.head_params

    def attention(new_tok, prefix_tok=0.0):
        total = 0.0
        for mixer in (census.full, census.window, census.linear):
            pairs = causal_pairs(new_tok, prefix_tok, mixer.span_tok) / new_tok * mixer.flop_per_pair_prefill
            index = causal_pairs(new_tok, prefix_tok, np.inf) / new_tok * mixer.index_flop_per_pair
            total = total + mixer.n_layers * (pairs + index + mixer.state_flop_per_tok)
        return total

    context = traffic.isl_tok + traffic.osl_tok / 2.0
    window = [(m, np.minimum(context, m.span_tok)) for m in (census.full, census.window)]
    # absorbed MLA multiplies more than it must: necessary work is the smaller of the two forms
    decode = sum(m.n_layers * span * np.minimum(m.flop_per_pair_decode, m.flop_per_pair_prefill) for m, span in window)
    decode = decode + sum(m.n_layers * context * m.index_flop_per_pair for m, _ in window)
    decode = decode + census.linear.n_layers * census.linear.state_flop_per_tok
    train = 6.0 * weights + 3.0 * attention(np.float64(life.seq_tok))
    rl_seq = np.float64(setting.rl.prompt_tok + setting.rl.gen_tok)
    c_rl = balance.rl_flop_per_param(reference=2.0 * setting.rl.n_forward)
    values = {
        "train": train,
        "rl": c_rl * weights + 0.5 * c_rl * attention(rl_seq),
        "prefill": 2.0 * weights + attention(np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0), traffic.prefix_tok),
        "decode": 2.0 * weights + decode,
    }
    return {k: _per_design(v, d) for k, v in values.items()}


def global_batch_seq(setting: Setting, designs: Designs) -> np.ndarray:
    """Sequences per optimizer step (A,): the study's, else the largest power of two within the critical batch.

    The critical batch needs tokens; before they are solved, `_expected_tok` stands in (only the power of two below about
    its square root enters), and the waste of the true pair is charged afterwards.
    """
    life = setting.life
    if life.global_batch_tok:
        return np.full(designs.n, max(round(life.global_batch_tok / life.seq_tok), 1.0))
    tok = designs.values.get("lifecycle.pretrain_tok")
    if tok is None:
        tok = life.pretrain_tok if life.pretrain_rule == "fixed" else _expected_tok(setting, designs)
    batch = critical_batch.critical_batch_tok(np.maximum(np.broadcast_to(tok, (designs.n,)), 1e9)) / life.seq_tok
    return np.exp2(np.floor(np.log2(np.maximum(batch, 8.0))))


def _expected_tok(setting: Setting, designs):
    """Tokens of the order that the rule will solve for (A,): half the budget at 40 % MFU, or a third of the served tokens."""
    life, chip = setting.life, designs.chips["train"]
    per_tok = 6.0 * designs.census.n_active_params
    seconds = per_tok / (0.4 * chip.peak_flop_per_s.at_16)
    if life.pretrain_rule == "budget":
        price = {"usd": seconds * chip.usd_per_s, "flop": per_tok, "device_s": seconds}[life.budget_of]
        return 0.5 * life.budget / price
    if life.pretrain_rule == "balance":
        return setting.traffic.demand_tok_per_s * life.lifetime_s / 3.0 + 0.0 * per_tok
    return 50.0 * designs.census.n_active_params


@dataclass
class Tok:
    """Tokens of each point: pretraining tokens that count, tokens processed, RL tokens, signed violation."""

    useful: np.ndarray
    spent: np.ndarray
    rl: np.ndarray
    violation: np.ndarray
    batch_tok: np.ndarray


def _tokens(setting: Setting, designs, training, serving, rl_rate, rates: Rates, flop, tr, d) -> Tok:
    """Tokens by the study's rule.  Budget and balance buy *processed* tokens; a batch beyond the critical one wastes some."""
    life = setting.life
    batch_tok = global_batch_seq(setting, designs)[d] * life.seq_tok
    named = designs.values.get("lifecycle.pretrain_tok")
    rl_named = designs.values.get("lifecycle.rl_tok")
    rl_fixed = _per_design(rl_named if rl_named is not None else life.rl_tok, d)
    price, rl_price, share = _balance_prices(setting, designs, training, rl_rate, flop, d)
    per_pre, per_rl = price if life.rl_rule == "balance" else 1.0, rl_price
    k = np.where(rl_price > 0, per_pre / np.where(rl_price > 0, rl_price, 1.0), 0.0) if life.rl_rule == "balance" else 0.0
    rule = "fixed" if named is not None else life.pretrain_rule
    if rule == "budget":
        out = balance.tokens_from_budget(
            life.budget, **_budget_prices(setting, rates, flop),
            rl_tok=0.0 if life.rl_rule == "balance" else rl_fixed, rl_per_pretrain_tok=k,
        )  # fmt: skip
    elif rule == "balance":
        inference = share(_inference(setting, designs, serving, flop, d))
        out = balance.tokens_from_balance(inference, price, per_rl_tok=per_rl if life.rl_rule == "balance" else None, rl_tok=rl_fixed)
    elif rule == "min_cost":
        out = _from_quality(setting, designs, d, rl_fixed)
    else:
        tok = _per_design(named if named is not None else life.pretrain_tok, d)
        out = balance.tokens_fixed(tok, k * tok if life.rl_rule == "balance" else rl_fixed)
    if rule == "budget":
        out = _no_waste(out, _most_useful(setting, designs, rates, tr, d), k)
    if rule == "budget" and life.max_ratio:
        amount = share(_inference(setting, designs, serving, flop, d))
        fixed_rl = rl_price * rl_fixed if life.rl_rule == "fixed" else np.inf
        out = _within_balance(out, life.max_ratio, price, amount, np.where(fixed_rl > 0, fixed_rl, np.inf), k)
    if rule in ("budget", "balance"):
        useful, spent = critical_batch.useful_tok(np.maximum(out.pretrain_tok, 1.0), batch_tok), out.pretrain_tok
        useful = np.where(spent > 0, useful, 0.0)
    else:
        useful = out.pretrain_tok
        spent = useful * critical_batch.token_waste(batch_tok, np.maximum(useful, 1.0))
        if rule == "min_cost" and life.rl_rule == "balance":
            out = out._replace(rl_tok=k * useful)
    needs_rl = (life.rl_rule == "balance") | (rl_fixed > 0)
    no_rl = needs_rl & ~np.isfinite(rl_rate[d])
    return Tok(useful, spent, np.where(no_rl, 0.0, out.rl_tok), np.where(no_rl, 1.0, out.violation), batch_tok)


def _most_useful(setting: Setting, designs, rates: Rates, tr, d):
    """Processed tokens beyond which more of them help nobody: refused by the quality law, damaging after 4-bit rounding, or
    past a bound on training time."""
    life = setting.life
    n_active, n_total, design = design_quality(setting, designs)
    names = ("weight_bits", "act_bits", "c_fmt", "fmt_act_bits")
    factors = quality.factor_table(n_active, n_total, f=setting.law.factors, **{k: v for k, v in design.items() if k not in names})
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    c_quant = quality.quant_coefficient(*(design[k] for k in ("weight_bits", "c_fmt", "act_bits", "fmt_act_bits")))
    most = np.minimum(quality_validity.MAX_TOK_PER_PARAM * n_active, quality_validity.MAX_EPOCHS * life.unique_tok) * (1.0 - 1e-9)
    most = quality.useful_training_tok(n_base, n_active, most, c_quant, setting.law, life.unique_tok)
    days = [x.bound for x in setting.limits if x.column == "train_s" and x.op == "<="]
    return np.minimum(_per_design(most, d), min(days) * (1.0 - 1e-9) / tr["s_per_tok"] if days else np.inf)


def _no_waste(out, most, k):
    """Budgeted tokens, at most `most`: money that buys nothing useful is left over instead of being burnt."""
    tok = np.minimum(out.pretrain_tok, most)
    return out._replace(pretrain_tok=tok, rl_tok=np.where(np.asarray(k) > 0, k * tok, out.rl_tok))


def _within_balance(out, max_ratio, price, inference, fixed_rl, k):
    """Budgeted tokens, but no more than the balance allows: money may be left over.

    Without this cap a wasteful layout, a dearer chip or a slower engine would buy fewer tokens and so *become* balanced.
    """
    smallest = np.minimum(np.where(inference > 0, inference, np.inf), fixed_rl)
    cap = np.where(np.isfinite(smallest), max_ratio * smallest / price, np.inf)
    tok = np.minimum(out.pretrain_tok, cap)
    return out._replace(pretrain_tok=tok, rl_tok=np.where(np.asarray(k) > 0, k * tok, out.rl_tok))


def _budget_prices(setting: Setting, rates: Rates, flop):
    """(price per pretraining token, committed amount and price per RL token as keywords) in the budget's unit."""
    if setting.life.budget_of == "flop":
        inference = flop["prefill"] * rates.in_tok + flop["decode"] * rates.out_tok
        return _Prices(flop["train"], inference, flop["rl"])
    if setting.life.budget_of == "device_s":
        return _Prices(rates.device_s_per_tok, 0.0, rates.rl_device_s_per_tok)  # the fleet trains; serving has its own devices
    return _Prices(rates.device_s_per_tok * rates.train_usd_per_s, rates.serve_usd, rates.rl_usd_per_tok)


def _Prices(per_tok, committed, per_rl):  # noqa: N802 - reads as a constructor
    return {"per_pretrain_tok": per_tok, "committed": committed, "per_rl_tok": per_rl}


def _balance_prices(setting: Setting, designs, training, rl_rate, flop, d):
    """Amount of each phase per token on necessary work, or on the cheapest layout at the catalog's prices: neither waste nor
    a what-if price can buy balance."""
    if setting.life.balance_of == "flop":
        return flop["train"], flop["rl"], lambda inference: inference["flop"]
    cheapest = training.best["device_s_per_tok"] * np.broadcast_to(designs.chips["train"].reference_usd_per_s, (designs.n,))
    rl_price = rl_rate * np.broadcast_to(designs.chips["rl"].reference_usd_per_s, (designs.n,))
    return cheapest[d], np.minimum(rl_price[d], UNREACHABLE), lambda inference: inference["usd"]


def _inference(setting: Setting, designs, serving, flop, d):
    traffic, life = setting.traffic, setting.life
    out_tok = traffic.demand_tok_per_s * life.lifetime_s * _per_design(designs.tok_per_text, d)
    in_tok = out_tok * np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0) / traffic.osl_tok
    return {"flop": flop["prefill"] * in_tok + flop["decode"] * out_tok, "usd": serving.best["reference_usd_per_tok"][d] * traffic.demand_tok_per_s * life.lifetime_s}


def design_quality(setting: Setting, designs):
    """(n_active, n_total, keywords of quality.assess) of every design (A,), as the laws count parameters."""
    census, shape, life = designs.census, designs.shape, setting.life
    n_active, n_total = quality.law_params(
        census.n_params, census.n_active_params_excl_both + census.head_params, census.vocab, census.d_model, shape["tied_embeddings"]
    )
    attention = np.maximum(shape["n_attention_layers"], 1.0)
    bits = designs.precision
    four, plain = WEIGHT_FORMATS["nvfp4"].c_fmt, WEIGHT_FORMATS["int4_group"].c_fmt
    train_bits = designs.values.get("precision.train_bits", life.train_bits)
    together = (np.asarray(bits.act_bits) <= 4) & (np.asarray(bits.weight_bits) <= 4)  # NVFP4 is a format of both
    design = {
        "weight_bits": bits.weight_bits, "act_bits": bits.act_bits, "kv_bits": bits.kv_bits, "train_bits": train_bits,
        "c_fmt": np.where(together, four, plain), "fmt_act_bits": np.where(together, 4, 16),
        "granularity": np.where(shape["n_experts"] > 0, 2.0 * shape["d_model"] / np.maximum(shape["d_expert"], 1.0), 1.0),
        "aspect_ratio": shape["d_model"] / shape["n_layers"],
        "attention": shape["attention"], "n_heads": shape["n_heads"], "n_kv_heads": shape["n_kv_heads"],
        "kv_lora_rank": shape["kv_lora_rank"],
        "window_fraction": shape["n_window_layers"] / attention, "window_tok": np.maximum(shape["window_tok"], 1.0),
        "linear_fraction": shape["n_linear_layers"] / shape["n_layers"], "linear_attention": shape["linear_attention"],
        "context_tok": life.median_context_tok, "long_context_penalty": life.long_context_penalty,
    }  # fmt: skip
    return n_active, n_total, design


def _gather(values: dict, d):
    return {k: (np.ravel(v)[d] if np.size(v) > 1 else v) for k, v in values.items()}


def _from_quality(setting: Setting, designs, d, rl_fixed):
    n_active, n_total, design = design_quality(setting, designs)
    names = ("weight_bits", "act_bits", "c_fmt", "fmt_act_bits")
    factors = quality.factor_table(n_active, n_total, f=setting.law.factors, **{k: v for k, v in design.items() if k not in names})
    n_base = np.prod(np.broadcast_arrays(np.asarray(n_active, float), *factors.values()), axis=0)
    c_quant = quality.quant_coefficient(design["weight_bits"], design["c_fmt"], design["act_bits"], design["fmt_act_bits"])
    return balance.tokens_from_quality(
        _per_design(n_base, d), setting.life.target_c_eq_flop, law=setting.law, unique_tok=setting.life.unique_tok,
        n_active=_per_design(n_active, d), c_quant=_per_design(c_quant, d), rl_tok=rl_fixed,
    )  # fmt: skip


def _quality(setting: Setting, designs, tokens: Tok, d) -> dict[str, np.ndarray]:
    """Quality columns and the refusal violation.  Where tokens are the same for all points of a design, computed once each."""
    n_active, n_total, design = design_quality(setting, designs)
    tok = np.maximum(tokens.useful / _per_design(designs.tok_per_text, d), 1.0)  # the law's tokens carry the base vocabulary's text
    keys, first, back = np.unique(np.stack([d.astype(float), tok]), axis=1, return_index=True, return_inverse=True)
    u, tok = d[first], tok[first]
    del keys
    row = {k: np.broadcast_to(v, np.broadcast_shapes(np.shape(v), (u.size,))) for k, v in _gather(design, u).items()}
    na, nt = _per_design(n_active, u), _per_design(n_total, u)
    out = quality.assess(na, nt, tok, unique_tok=setting.life.unique_tok, law=setting.law, alternative=setting.alternative, **row)
    refused = quality_validity.refusals(
        na, nt, tok, unique_tok=setting.life.unique_tok, granularity=row["granularity"], weight_bits=row["weight_bits"],
        c_fmt=row["c_fmt"], act_bits=row["act_bits"], kv_bits=row["kv_bits"], train_bits=row["train_bits"],
        head_width_ratio=_per_design(designs.shape["n_heads"] * designs.shape["d_head_v"] / designs.shape["d_model"], u),
    )  # fmt: skip
    names = ("c_eq_flop", "n_eq", "n_eff", "loss", "q_mixed", "q_reason", "q_know_bits", "sigma_ln_c_eq", "sigma_ln_c_eq_own")
    columns = {k: np.broadcast_to(out[k], (u.size,)) for k in names}
    columns["quality_refused"] = np.any([np.broadcast_to(v, (u.size,)) for v in refused.values()], axis=0).astype(float)
    none = tokens.useful[first] <= 0
    columns["c_eq_flop"] = np.where(none, 0.0, columns["c_eq_flop"])
    back = np.ravel(back)
    return {k: v[back] for k, v in columns.items()}


def _money(setting: Setting, designs, rates: Rates, tokens: Tok, tr, sv, d) -> dict[str, np.ndarray]:
    life, traffic = setting.life, setting.traffic
    train_device_s = rates.device_s_per_tok * tokens.spent
    rl_device_s = rates.rl_device_s_per_tok * tokens.rl
    train_w = _per_design(designs.chips["train"].all_in_w, d)
    rl_w = _per_design(designs.chips["rl"].all_in_w, d)
    usd_per_mtok = sv["usd_per_tok"] * 1e6
    fresh = np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0) / traffic.osl_tok
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
        "serve_power_w": sv["j_per_tok"] * traffic.demand_tok_per_s,
        "serve_usd": rates.serve_usd,
        "train_s": tr["s_per_tok"] * tokens.spent,
        "train_devices": tr["n_devices"],
        "train_usd": train_device_s * rates.train_usd_per_s,
        "train_energy_j": train_device_s * train_w,
        "rl_s": rl_device_s / tr["n_devices"],
        "rl_usd": rates.rl_usd_per_tok * tokens.rl,
        "pretrain_tok": tokens.useful,
        "pretrain_spent_tok": tokens.spent,
        "rl_tok": tokens.rl,
        "global_batch_tok": tokens.batch_tok,
    }
    columns["lifecycle_usd"] = columns["train_usd"] + columns["rl_usd"] + columns["serve_usd"]
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
        price, rl_price, _ = _balance_prices(setting, designs, training, rl_rate, flop, d)
        inference = _inference(setting, designs, serving, flop, d)["usd"]
        amounts = price * tokens.spent, rl_price * tokens.rl, inference
    return work | {"balance_ratio": balance.ratio(*amounts)}


def _layout_columns(setting: Setting, tr, sv) -> dict[str, np.ndarray]:
    """Layout degrees per unit under `<unit>.<degree>`."""
    keys = ("n_tp", "n_cp", "n_dp", "n_pp", "n_etp", "n_ep", "n_edp")
    out = {f"train.{k}": tr[k] for k in (*keys, "n_devices", "micro_batch", "recompute", "zero", "memory_bytes", "step_s")}
    if setting.disaggregated:
        return out | {k: v for k, v in sv.items() if "." in k}
    return out | {f"serve.{k}": sv[k] for k in (*keys, "batch", "n_replicas", "n_devices", "memory_bytes", "step_s", "tok_per_s")}


def _violations(setting: Setting, designs, columns, tokens: Tok, d) -> dict[str, np.ndarray]:
    out = {TOKEN_VIOLATION: tokens.violation, REFUSED: columns["quality_refused"] * 2.0 - 1.0}
    for name, key, top in (("ttft", "ttft_s", setting.max_ttft_s), ("tpot", "tpot_s", setting.max_tpot_s)):
        if np.isfinite(top):
            out[name] = columns[key] / top - 1.0
    if "full attention" in violation_names(setting):
        shape = designs.shape
        full = shape["n_full_layers"] / shape["n_layers"]
        gap = quality_factors.full_layers_violation(full, setting.life.median_context_tok, setting.life.min_full_fraction)
        out["full attention"] = _per_design(gap, d)
    if setting.life.max_ratio:
        out["balance"] = np.minimum(columns["balance_ratio"] / setting.life.max_ratio * (1.0 - 1e-9) - 1.0, 1e6)
    for limit in setting.limits:
        out[limit.name] = limit.violation(columns[limit.column])
    return {k: np.broadcast_to(v, d.shape) for k, v in out.items()}


