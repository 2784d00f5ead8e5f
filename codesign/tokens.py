"""How many tokens each point trains on, by the study's rule; and the prices and necessary work that the rules weigh.

Legend: A designs, P points; `d` is each point's design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.law_inputs import base_size, per_design
from codesign.lifecycle import balance, critical_batch, quality, quality_validity
from codesign.physics.operators import causal_pairs
from codesign.setting import Setting

ACCEPTED_WASTE = 1.15  # tokens processed per useful one at the default batch: what labs pay for more parallelism; estimate
UNREACHABLE = 1e9  # device-seconds per token when no RL layout fits: finite, so that 0 tokens of it cost nothing


@dataclass
class Rates:
    """Per point: what a token of each phase costs, and what serving costs over the life."""

    train_usd_per_s: np.ndarray  # per device
    device_s_per_tok: np.ndarray
    rl_usd_per_tok: np.ndarray
    rl_device_s_per_tok: np.ndarray
    serve_usd: np.ndarray
    in_tok: np.ndarray
    out_tok: np.ndarray


def rates_of(setting: Setting, designs, tr, sv, rl_rate, d) -> Rates:
    traffic, life = setting.traffic, setting.life
    out_tok = traffic.demand_tok_per_s * life.lifetime_s
    fresh = np.maximum(traffic.isl_tok - per_design(designs.traffic.prefix_tok, d), 1.0) / traffic.osl_tok
    rl_price = per_design(designs.chips["rl"].usd_per_s, d)
    rate = np.minimum(rl_rate[d], UNREACHABLE)
    return Rates(
        train_usd_per_s=per_design(designs.chips["train"].usd_per_s, d),
        device_s_per_tok=tr["device_s_per_tok"],
        rl_usd_per_tok=rate * rl_price,
        rl_device_s_per_tok=rate,
        serve_usd=sv["usd_per_tok"] * out_tok,
        in_tok=out_tok * fresh * per_design(designs.tok_per_text, d),
        out_tok=out_tok * per_design(designs.tok_per_text, d),
    )


def flop_per_tok(setting: Setting, designs, d) -> dict[str, np.ndarray]:
    """Necessary FLOP per token of each phase (P,)."""
    values = necessary_flop(designs.census, designs.traffic, np.float64(setting.life.seq_tok), setting.rl)
    return {k: per_design(v, d) for k, v in values.items()}


def necessary_flop(census, traffic, seq_tok, rl) -> dict[str, np.ndarray]:
    """FLOP per token of each phase (A,): matmul and causal attention, no layout."""
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
    c_rl = balance.rl_flop_per_param(reference=2.0 * rl.n_forward, update=6.0 * rl.reuse)
    return {
        "train": 6.0 * weights + 3.0 * attention(seq_tok),
        "rl": c_rl * weights + 0.5 * c_rl * attention(np.float64(rl.prompt_tok + rl.gen_tok)),
        "prefill": 2.0 * weights + attention(np.maximum(traffic.isl_tok - traffic.prefix_tok, 1.0), traffic.prefix_tok),
        "decode": 2.0 * weights + decode,
    }


def global_batch_seq(setting: Setting, designs) -> np.ndarray:
    """Sequences per optimizer step (A,): the study's, else the largest power of two that wastes at most ACCEPTED_WASTE.

    The critical batch needs tokens; before they are solved, `_expected_tok` stands in (only the power of two below about
    its square root enters), and the waste of the true pair is charged afterwards.
    """
    life = setting.life
    if life.global_batch_tok is not None:
        return np.broadcast_to(np.maximum(np.round(life.global_batch_tok / life.seq_tok), 1.0), (designs.n,))
    tok = designs.values.get("lifecycle.pretrain_tok")
    if tok is None:
        tok = life.pretrain_tok if life.pretrain_rule == "fixed" else _expected_tok(setting, designs)
    tok = np.maximum(np.broadcast_to(tok, (designs.n,)), 1e9)
    batch = critical_batch.max_batch_tok(tok, ACCEPTED_WASTE) / life.seq_tok
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


def solve(setting: Setting, designs, training, serving, rl_rate, rates: Rates, flop, tr, d) -> Tok:
    """Tokens by the study's rule.  Budget and balance buy *processed* tokens; a batch beyond the critical one wastes some."""
    life = setting.life
    batch_tok = global_batch_seq(setting, designs)[d] * life.seq_tok
    named = designs.values.get("lifecycle.pretrain_tok")
    rl_named = designs.values.get("lifecycle.rl_tok")
    rl_fixed = per_design(rl_named if rl_named is not None else life.rl_tok, d)
    price, rl_price, share = balance_prices(setting, designs, training, rl_rate, flop, d)
    per_pre, per_rl = price if life.rl_rule == "balance" else 1.0, rl_price
    k = np.where(rl_price > 0, per_pre / np.where(rl_price > 0, rl_price, 1.0), 0.0) if life.rl_rule == "balance" else 0.0
    rule = "fixed" if named is not None else life.pretrain_rule
    if rule == "budget":
        out = balance.tokens_from_budget(
            life.budget, **_budget_prices(setting, rates, flop),
            rl_tok=0.0 if life.rl_rule == "balance" else rl_fixed, rl_per_pretrain_tok=k,
        )  # fmt: skip
    elif rule == "balance":
        inference = share(inference_work(setting, designs, serving, flop, d))
        out = balance.tokens_from_balance(inference, price, per_rl_tok=per_rl if life.rl_rule == "balance" else None, rl_tok=rl_fixed)
    elif rule == "min_cost":
        out = from_quality(setting, designs, d, rl_fixed)
    else:
        tok = per_design(named if named is not None else life.pretrain_tok, d)
        out = balance.tokens_fixed(tok, k * tok if life.rl_rule == "balance" else rl_fixed)
    if rule == "budget":
        out = _no_waste(out, most_useful(setting, designs, tr, d), k)
    if rule == "budget" and life.max_ratio:
        amount = share(inference_work(setting, designs, serving, flop, d))
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
    no_rl = (needs_rl & ~np.isfinite(rl_rate[d])) | (out.rl_tok < 0) | (out.pretrain_tok < 0)  # derived names can be negative
    return Tok(useful, spent, np.where(no_rl, 0.0, out.rl_tok), np.where(no_rl, 1.0, out.violation), batch_tok)


def most_useful(setting: Setting, designs, tr, d):
    """Processed tokens beyond which more of them help nobody: refused by the quality law, damaging after 4-bit rounding, or
    past a bound on training time."""
    life = setting.life
    n_active, n_base, c_quant = base_size(setting, designs)
    most = np.minimum(quality_validity.MAX_TOK_PER_PARAM * n_active, quality_validity.MAX_EPOCHS * life.unique_tok) * (1.0 - 1e-9)
    most = quality.useful_training_tok(n_base, n_active, most, c_quant, setting.law, life.unique_tok)
    days = [x.bound for x in setting.limits if x.column == "train_s" and x.op == "<="]
    return np.minimum(per_design(most, d), min(days) * (1.0 - 1e-9) / tr["s_per_tok"] if days else np.inf)


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
        return {"per_pretrain_tok": flop["train"], "committed": inference, "per_rl_tok": flop["rl"]}
    if setting.life.budget_of == "device_s":
        return {
            "per_pretrain_tok": rates.device_s_per_tok,
            "committed": 0.0,
            "per_rl_tok": rates.rl_device_s_per_tok,
        }  # the fleet trains; serving has its own devices
    return {
        "per_pretrain_tok": rates.device_s_per_tok * rates.train_usd_per_s,
        "committed": rates.serve_usd,
        "per_rl_tok": rates.rl_usd_per_tok,
    }


def balance_prices(setting: Setting, designs, training, rl_rate, flop, d):
    """Amount of each phase per token on necessary work, or on the cheapest layout at the catalog's prices: neither waste nor
    a what-if price can buy balance."""
    if setting.life.balance_of == "flop":
        return flop["train"], flop["rl"], lambda inference: inference["flop"]
    cheapest = training.best["device_s_per_tok"] * np.broadcast_to(designs.chips["train"].reference_usd_per_s, (designs.n,))
    rl_price = rl_rate * np.broadcast_to(designs.chips["rl"].reference_usd_per_s, (designs.n,))
    return cheapest[d], np.minimum(rl_price[d], UNREACHABLE), lambda inference: inference["usd"]


def inference_work(setting: Setting, designs, serving, flop, d):
    traffic, life = setting.traffic, setting.life
    out_tok = traffic.demand_tok_per_s * life.lifetime_s * per_design(designs.tok_per_text, d)
    in_tok = out_tok * np.maximum(traffic.isl_tok - per_design(designs.traffic.prefix_tok, d), 1.0) / traffic.osl_tok
    return {
        "flop": flop["prefill"] * in_tok + flop["decode"] * out_tok,
        "usd": serving.best["reference_usd_per_tok"][d] * traffic.demand_tok_per_s * life.lifetime_s,
    }


def from_quality(setting: Setting, designs, d, rl_fixed):
    n_active, n_base, c_quant = base_size(setting, designs)
    return balance.tokens_from_quality(
        per_design(n_base, d), setting.life.target_c_eq_flop, law=setting.law, unique_tok=setting.life.unique_tok,
        n_active=per_design(n_active, d), c_quant=per_design(c_quant, d), rl_tok=rl_fixed,
    )  # fmt: skip
