"""Pretraining, RL and inference: what each phase must do, how balanced they are, and tokens from balance.

Balance is counted on *necessary* work: FLOP that every layout must do, or the amount (USD, device-seconds) of
each phase's cheapest feasible layout. A dearer or slower choice therefore never makes a design look better
balanced. Amounts valued in USD must use the study's reference prices, not those of a what-if: otherwise a
dearer serving chip would ask for, and be granted, more pretraining tokens.
"""

from typing import NamedTuple

import numpy as np

from codesign.lifecycle.quality_factors import quant_factor
from codesign.lifecycle.scaling_law import (
    CENTRAL,
    effective_tokens,
    equivalent_compute,
    excess_loss,
    tokens_for_quality,
    useful_training_tok,
)

TRAIN_FLOP_PER_PARAM = 6.0  # forward 2, backward 4; arXiv 2001.08361 section 2.1
FORWARD_FLOP_PER_PARAM = 2.0
_FAR_TOK = 1e22  # tokens that stand for "without limit"
_MAX_VIOLATION = 1e6


class Phases(NamedTuple):
    """One amount per phase, all in the same unit (FLOP, USD, device-seconds, kWh)."""

    pretrain: np.ndarray
    rl: np.ndarray
    inference: np.ndarray


def rl_flop_per_param(rollout=2.0, reference=0.0, update=6.0):
    """RL work per parameter and generated token: rollout + reference / reward forward + update [FLOP].

    Default 8 (rollout and update); add 2 for each further forward pass of a model of the policy's size
    (reference policy, log-probability recomputation, reward model).

    >>> rl_flop_per_param(), rl_flop_per_param(reference=2.0)
    (8.0, 10.0)
    """
    return rollout + reference + update


def compute(
    n_matmul,
    *,
    pretrain_tok=0.0,
    rl_tok=0.0,
    in_tok=0.0,
    out_tok=0.0,
    c_rl=8.0,
    train_attention_flop=0.0,
    rl_attention_flop=0.0,
    prefill_attention_flop=0.0,
    decode_attention_flop=0.0,
):
    """Necessary FLOP of each phase over the product's life.

    pretrain = (6 N + a_train) D,   rl = (c_rl N + a_rl) D_rl,   inference = (2 N + a_pre) D_in + (2 N +
    a_dec) D_out

    n_matmul N: parameters multiplied per token (active, without input embedding) [1]; *_tok: tokens over the
    life [tok], in_tok without prefix-cached ones, rl_tok generated ones; c_rl of `rl_flop_per_param` [FLOP];
    *_attention_flop: attention FLOP per token of that phase, all passes [FLOP/tok]. Returns `Phases` [FLOP].

    >>> compute(1e9, pretrain_tok=1e12, rl_tok=1e11, in_tok=3e12, out_tok=1e12)
    Phases(pretrain=6e+21, rl=8e+20, inference=8e+21)
    """
    forward = FORWARD_FLOP_PER_PARAM * n_matmul
    return Phases(
        (TRAIN_FLOP_PER_PARAM * n_matmul + train_attention_flop) * pretrain_tok,
        (c_rl * n_matmul + rl_attention_flop) * rl_tok,
        (forward + prefill_attention_flop) * in_tok + (forward + decode_attention_flop) * out_tok,
    )


def ratio(pretrain, rl, inference):
    """Imbalance: largest over smallest amount among the phases above 0 [1]; 1 for fewer than two of them.

    >>> ratio(6.0, [2.0, 0.0], 3.0).tolist()
    [3.0, 2.0]
    """
    amounts = np.stack(np.broadcast_arrays(*(np.asarray(x, float) for x in (pretrain, rl, inference))))
    active = amounts > 0
    smallest = np.min(np.where(active, amounts, np.inf), axis=0)
    largest = np.max(np.where(active, amounts, 0.0), axis=0)
    return np.where(largest > 0, largest / np.where(largest > 0, smallest, 1.0), 1.0)


def cheapest(amount, feasible, axis=-1):
    """Amount of a phase's cheapest feasible layout: min over an axis of layouts; inf where none is feasible.

    amount: any unit, feasible [bool], broadcastable; axis: the layouts. What balance in USD is counted on.

    >>> cheapest([[3.0, 1.0], [3.0, 1.0]], [[True, False], [True, True]]).tolist()
    [3.0, 1.0]
    """
    return np.min(np.where(feasible, np.asarray(amount, float), np.inf), axis=axis)


class Tokens(NamedTuple):
    """Solved tokens [tok] and a signed violation [1] (<= 0 feasible; else 0 tokens); never NaN."""

    pretrain_tok: np.ndarray
    rl_tok: np.ndarray
    violation: np.ndarray


def _tokens(feasible, pretrain_tok, rl_tok, violation):
    arrays = np.broadcast_arrays(feasible, pretrain_tok, rl_tok, violation)
    feasible, pretrain_tok, rl_tok, violation = arrays
    signed = np.where(feasible, np.minimum(violation, 0.0), np.maximum(violation, 1e-9))
    signed = np.clip(np.nan_to_num(signed, nan=1.0), -_MAX_VIOLATION, _MAX_VIOLATION)
    return Tokens(np.where(feasible, pretrain_tok, 0.0), np.where(feasible, rl_tok, 0.0), signed)


def _amount(x):
    """Array in which "no feasible layout" (inf or NaN) is inf."""
    return np.nan_to_num(np.asarray(x, float), nan=np.inf, posinf=np.inf)


def tokens_fixed(pretrain_tok, rl_tok=0.0):
    """Tokens the user named [tok]; violation 0.

    >>> float(tokens_fixed(15e12).pretrain_tok)
    15000000000000.0
    """
    return _tokens(True, np.asarray(pretrain_tok, float), rl_tok, 0.0)


def device_seconds(n_devices, days):
    """Budget of a fixed fleet: devices * days * 86,400 [device s], for `tokens_from_budget` in that unit.

    >>> device_seconds(512, 90)
    3981312000.0
    """
    return n_devices * days * 86400.0


def tokens_from_budget(
    budget,
    per_pretrain_tok,
    *,
    committed=0.0,
    per_rl_tok=0.0,
    rl_tok=0.0,
    rl_per_pretrain_tok=0.0,
):
    """Tokens that the rest of a budget buys.

    D = (budget - committed - p_rl D_rl0) / (p + p_rl k),   D_rl = D_rl0 + k D
    violation = (committed + p_rl D_rl0 - budget) / budget

    All amounts in one unit (USD, FLOP, device s). budget; committed: serving and other fixed amounts;
    per_pretrain_tok p, per_rl_tok p_rl: amount per token; rl_tok D_rl0: fixed RL tokens [tok];
    rl_per_pretrain_tok k [1]: RL tokens per pretraining token, e.g. p/p_rl of the balance unit where RL takes
    as much as pretraining. Broadcasts. Exhausted budget or no feasible layout (inf): 0 tokens and a positive
    violation. Returns `Tokens`.

    >>> t = tokens_from_budget(200e6, 8e-6, committed=[40e6, 250e6], per_rl_tok=2e-6, rl_per_pretrain_tok=4)
    >>> [round(x / 1e12, 3) for x in t.pretrain_tok.tolist()], t.violation.tolist()
    ([10.0, 0.0], [-0.8, 0.25])
    """
    budget, price = np.asarray(budget, float), _amount(per_pretrain_tok)
    rl_price = _amount(per_rl_tok)
    with np.errstate(invalid="ignore"):
        fixed = _amount(committed) + np.where(np.asarray(rl_tok) > 0, rl_price * rl_tok, 0.0)
        price = price + np.where(np.asarray(rl_per_pretrain_tok) > 0, rl_price * rl_per_pretrain_tok, 0.0)
        left = budget - fixed
        feasible = (left > 0) & np.isfinite(price) & (price > 0)
        tok = np.where(feasible, left / np.where(feasible, price, 1.0), 0.0)
        violation = np.where(np.isfinite(price), -left / np.maximum(budget, 1e-300), _MAX_VIOLATION)
    return _tokens(feasible, tok, rl_tok + rl_per_pretrain_tok * tok, violation)


def tokens_from_balance(inference, per_pretrain_tok, *, per_rl_tok=None, rl_tok=0.0):
    """Tokens at which pretraining (and RL, where per_rl_tok is given) takes as much as inference.

    D = inference / p,   D_rl = inference / p_rl

    inference: lifetime amount; per_pretrain_tok p, per_rl_tok p_rl: amount per token; one unit (FLOP, or USD
    of each phase's cheapest feasible layout at reference prices). rl_tok: RL tokens where they are not
    balanced [tok]. No inference or no feasible layout: 0 tokens, positive violation. Returns `Tokens`.

    >>> t = tokens_from_balance(6e21, 6e9, per_rl_tok=8e9)
    >>> float(t.pretrain_tok), float(t.rl_tok)
    (1000000000000.0, 750000000000.0)
    """
    amount, price = _amount(inference), _amount(per_pretrain_tok)
    rl_price = _amount(1.0 if per_rl_tok is None else per_rl_tok)
    known = np.isfinite(amount) & np.isfinite(price) & np.isfinite(rl_price)
    feasible = known & (amount > 0) & (price > 0) & (rl_price > 0)
    share = np.where(feasible, amount, 0.0)
    balanced_rl = rl_tok if per_rl_tok is None else share / np.where(feasible, rl_price, 1.0)
    tok = share / np.where(feasible, price, 1.0)
    return _tokens(feasible, tok, balanced_rl, np.where(feasible, 0.0, 1.0))


def tokens_from_quality(
    n_eff,
    c_eq_flop,
    *,
    law=CENTRAL,
    unique_tok=np.inf,
    n_active=None,
    c_quant=0.0,
    rl_tok=0.0,
):
    """Tokens that a target quality needs (mode `min_cost`).

    violation = ln(c_eq_target / c_eq_best), c_eq_best at the most useful number of tokens.

    Arguments as in `scaling_law.tokens_for_quality`; rl_tok passes through [tok]. Returns `Tokens`.

    >>> t = tokens_from_quality([1e10, 1e9], 1e23)
    >>> (t.pretrain_tok > 0).tolist(), (t.violation <= 0).tolist()
    ([True, False], [True, False])
    """
    tok = tokens_for_quality(n_eff, c_eq_flop, law, unique_tok, n_active=n_active, c_quant=c_quant)
    n_active = n_eff if n_active is None else n_active
    best = useful_training_tok(n_eff, n_active, _FAR_TOK, c_quant, law, unique_tok)
    n_best = n_eff * quant_factor(best / np.asarray(n_active, float), c_quant, law.factors)
    excess = excess_loss(n_best, effective_tokens(best, unique_tok), law)
    c_best, _ = equivalent_compute(law.E + excess, law)
    return _tokens(np.isfinite(tok), tok, rl_tok, np.log(np.asarray(c_eq_flop, float) / c_best))


TOKEN_MODES = {
    "fixed": tokens_fixed,
    "budget": tokens_from_budget,
    "balance": tokens_from_balance,
    "min_cost": tokens_from_quality,
}


def solve_tokens(mode, *args, **kwargs):
    """Pretraining and RL tokens of every design by one of `TOKEN_MODES`, called with its own arguments.

    >>> float(solve_tokens("budget", 1e24, 6e10).pretrain_tok)
    16666666666666.666
    """
    return TOKEN_MODES[mode](*args, **kwargs)


def first_order_kappa(n_eff, d_eff, law=CENTRAL):
    """Lifecycle multiple that makes a choice of (N, D) optimal: how much dearer parameters are than 6 N D.

    Minimising L at fixed 6 N D + c_rl N D_rl + 2 N D_inf gives  alpha A N^-alpha = kappa beta B D^-beta,
    kappa = 1 + (c_rl D_rl + 2 D_inf)/(6 D) = C_total / C_pretrain.

    n_eff [1] effective parameters, d_eff [tok]. Returns kappa [1]: 1 at the compute optimum, above it when
    over-trained. Source: arXiv 2401.00448 Eq. 3 (first-order condition derived). DeepSeek-V3's choice implies
    1.8.

    >>> round(float(first_order_kappa(4.8 * 37e9, 14.8e12)), 1)
    1.8
    """
    size = law.alpha * law.A * np.asarray(n_eff, float) ** -law.alpha
    return size / (law.beta * law.B * np.asarray(d_eff, float) ** -law.beta)


def lifecycle_kappa(pretrain, rl, inference):
    """Whole life over pretraining: kappa = (pretrain + rl + inference) / pretrain [1]; 3 in full balance.

    >>> float(lifecycle_kappa(1.0, 1.0, 1.0))
    3.0
    """
    pretrain = np.asarray(pretrain, float)
    return (pretrain + rl + inference) / pretrain


def kappa_shift(kappa, law=CENTRAL):
    """How the optimum moves at fixed pretraining compute when the rest of life counts.

    N*/N_chin = kappa^(-1/(alpha+beta)),   (D/N)*/(D/N)_chin = kappa^(2/(alpha+beta))

    kappa [1]. Returns (size factor [1], tokens-per-parameter factor [1]). Source: `first_order_kappa`.

    >>> [round(float(x), 2) for x in kappa_shift(3.0)]
    [0.21, 21.74]
    """
    root = np.asarray(kappa, float) ** (1.0 / (law.alpha + law.beta))
    return 1.0 / root, root**2
