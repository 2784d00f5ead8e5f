"""Quality and life of one model without a study: what the law says about it, and what its size should have been.

codesign evaluate --phase quality --model deepseek-v3 --pretrain-tok 14.8e12
codesign evaluate --phase quality,life --model llama-3.1-70b --pretrain-tok 15e12 --out-tok 1e13 --rl-tok 1e11
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from codesign.constraints import REASONS
from codesign.law_inputs import base_size, design_quality
from codesign.lifecycle import balance, optimum, quality, quality_validity, rl_returns, scaling_law
from codesign.physics.architecture import census, fill
from codesign.physics.precision import Precision
from codesign.service.traffic import Traffic
from codesign.setting import Life
from codesign.spec.errors import Diagnostic, UserError, did_you_mean
from codesign.spec.units import show
from codesign.tokens import necessary_flop
from codesign.units.train_unit import RlJob

COLUMNS = (
    "n_eff",
    "c_eq_flop",
    "n_eq",
    "loss",
    "q_mixed",
    "q_reason",
    "q_know_bits",
    "sigma_ln_n_eff",
    "sigma_ln_c_eq",
    "sigma_ln_c_eq_own",
)
PHASES = ("pretrain", "rl", "inference")
LENGTHS = ("n_layers", "d_model", "d_ff", "d_expert", "n_heads", "n_kv_heads", "d_shared")  # what grows when a model is scaled
MOST_SPREAD = 2.0  # of ln c_eq: beyond a factor 7 either way nothing is compared


def problems(s: Mapping[str, Any], phases: list[str]) -> list[Diagnostic]:
    """What is missing or impossible in a scenario that asks for quality or a life."""
    found = []
    if {"quality", "life"} & {*phases} and not s["pretrain_tok"]:
        found.append(Diagnostic("quality needs pretraining tokens", hint="--pretrain-tok 15e12"))
    for key in ("pretrain_tok", "rl_tok", "out_tok", "unique_tok"):
        if s[key] is not None and not (np.isfinite(s[key]) and s[key] >= 0):
            found.append(Diagnostic(f"{key} = {s[key]} must be a number of tokens, 0 or more"))
    if s["weight_format"] is not None and s["weight_format"] not in quality.WEIGHT_FORMATS:
        hint = did_you_mean(str(s["weight_format"]), quality.WEIGHT_FORMATS, "formats")
        found.append(Diagnostic(f"unknown weight_format '{s['weight_format']}'", hint=hint))
    if s["of"] not in ("flop", "usd"):
        found.append(Diagnostic(f"of = {s['of']!r} is neither flop nor usd"))
    if "life" in phases and s["of"] == "usd" and not {"train", "prefill", "decode"} <= {*phases}:
        found.append(
            Diagnostic("a life in USD needs the phases train, prefill and decode too", hint="--phase quality,train,prefill,decode,life")
        )
    return found


def quality_point(architecture: Mapping[str, Any], bits: Mapping[str, float], s: Mapping[str, Any]) -> dict[str, Any]:
    """Quality columns of one model trained on `pretrain_tok`; numbers are None where the law may not rank it, with the reasons."""
    setting, designs = _subject(architecture, bits, s)
    n_active, n_total, design = design_quality(setting, designs)
    if s["weight_format"]:
        design["c_fmt"] = np.float64(quality.WEIGHT_FORMATS[s["weight_format"]].c_fmt)
    tok, unique = np.float64(s["pretrain_tok"]), np.float64(s["unique_tok"] or np.inf)
    found = quality.assess(n_active, n_total, tok, unique_tok=unique, **design)
    shape = designs.shape
    width = shape["n_heads"] * shape["d_head_v"] / shape["d_model"]
    keys = ("granularity", "weight_bits", "c_fmt", "act_bits", "kv_bits", "train_bits")
    refused = quality_validity.refusals(n_active, n_total, tok, unique_tok=unique, head_width_ratio=width, **{k: design[k] for k in keys})
    why = [sentence for sentence, mask in refused.items() if np.any(mask)]
    why += ["error bar wider than a factor 7 of equivalent compute"] if float(found["sigma_ln_c_eq_own"]) > MOST_SPREAD else []
    doubts = quality_validity.warnings(
        n_active,
        n_total,
        tok,
        n_eff=found["n_eff"],
        c_eq_flop=found["c_eq_flop"],
        unique_tok=unique,
        **{k: design[k] for k in quality_validity.WARNED_BY},
    )
    columns = {k: None if why else float(np.ravel(found[k])[0]) for k in COLUMNS}
    n_reason = rl_returns.reasoning_size(found["q_reason"], found["d_eff"])
    columns["n_reason"] = None if why else float(np.ravel(n_reason)[0])
    axes = {**found, "n_total": n_total}
    columns |= {f"{b}_logit": None if why else float(np.ravel(quality.readout(b, axes[axis]))[0]) for b, axis in quality.READ_OFF.items()}
    factors = {k.removeprefix("factor_"): float(np.ravel(v)[0]) for k, v in found.items() if k.startswith("factor_")}
    return columns | {
        "n_active": float(n_active), "n_total": float(n_total), "tok_per_param": float(tok / n_active), "factors": factors,
        "can_rank": not why, "cannot_rank": why, "warnings": [sentence for sentence, mask in doubts.items() if np.any(mask)],
    } | ({} if why or s["rl_tok"] is None else _returned(n_reason, s["rl_tok"]))  # fmt: skip


def _returned(n_reason, rl_tok: float) -> dict[str, Any]:
    """What RL returns on the ScaleRL curve, in answers of the default length; the number is None where the curve may not rank."""
    rollouts = rl_tok / RlJob().gen_tok
    refused = float(np.ravel(rl_returns.cannot_rank(n_reason, rollouts))[0]) > 0
    pass_frac = None if refused else float(np.ravel(rl_returns.pass_frac(n_reason, rollouts))[0])
    why = [REASONS["RL return"].removeprefix("cannot rank: ")] if refused else []
    return {"rl_pass_frac": pass_frac, "rl_gain_frac": None if refused else float(rl_returns.gain_frac(rollouts)), "rl_cannot_rank": why}


def _subject(architecture: Mapping[str, Any], bits: Mapping[str, float], s: Mapping[str, Any]):
    """(setting, designs) with the few fields that `law_inputs` reads."""
    shape = fill(dict(architecture))
    train_bits = {"fp8": 8.0, "mxfp8": 8.0, "fp4": 4.0, "nvfp4": 4.0}.get(s["train_precision"], 16.0)
    setting = SimpleNamespace(life=Life(train_bits=train_bits), law=scaling_law.CENTRAL)
    precision = Precision(*(np.float64(bits[k]) for k in ("weight_bits", "kv_bits", "act_bits")))
    return setting, SimpleNamespace(census=census(shape), shape=shape, precision=precision, values={})


def life_point(architecture, bits, s: Mapping[str, Any], quality_: Mapping[str, Any], priced: Callable | None = None) -> dict[str, Any]:
    """Whole life of a model of this quality: amounts per phase, the size and tokens of least total, and what balance costs.

    Amounts are necessary FLOP, or USD of the given layout (`priced`: architecture -> USD per token of each phase).  The optimum holds the
    quality and the service fixed and lets size and tokens vary (`lifecycle.optimum.unbalanced_optimum`); elasticities of each phase to size
    come from the same evaluation of a model of half the size.
    """
    if not quality_["can_rank"]:
        raise UserError([Diagnostic(f"cannot rank: {why}") for why in quality_["cannot_rank"]])
    rates = [_rates(a, s, priced) for a in (architecture, _scaled(architecture, 0.5, priced is not None))]
    sizes = [float(census(fill(dict(a))).n_active_params_excl_in) for a in (architecture, _scaled(architecture, 0.5, priced is not None))]
    growth = [np.log(rates[0][k] / rates[1][k]) / np.log(sizes[0] / sizes[1]) if rates[0][k] > 0 else 1.0 for k in PHASES]
    out_tok, rl_tok, tok = (np.float64(s[k] or 0.0) for k in ("out_tok", "rl_tok", "pretrain_tok"))
    setting, designs = _subject(architecture, bits, s)
    n_base = np.float64(base_size(setting, designs)[1])
    target = np.float64(quality_["c_eq_flop"])
    life = optimum.Lifecycle(
        n_base, target, np.float64(rates[0]["pretrain"]), np.float64(rates[0]["rl"] * rl_tok), np.float64(rates[0]["inference"] * out_tok),
        tuple(map(float, growth)), np.float64(s["unique_tok"] or np.inf),
    )  # fmt: skip
    best, even = optimum.unbalanced_optimum(life), optimum.balanced_point(life)
    own = {"pretrain": rates[0]["pretrain"] * tok, "rl": rates[0]["rl"] * rl_tok, "inference": rates[0]["inference"] * out_tok}
    return {
        "of": s["of"], "elasticity": dict(zip(PHASES, map(float, growth), strict=True)),
        "own": _shares(own, 1.0, tok, quality_["n_active"]),
        "optimum": _amounts(best, quality_["n_active"]) | _against_compute_optimal(best, n_base, quality_["n_active"], life),
        "balanced": _amounts(even, quality_["n_active"]),
        "regret": _finite(even.total / best.total - 1.0), "own_regret": _finite(sum(own.values()) / best.total - 1.0),
    }  # fmt: skip


def _rates(architecture, s: Mapping[str, Any], priced: Callable | None) -> dict[str, float]:
    """Amount per pretraining token, RL token and output token (which carries its prompt)."""
    if priced is not None:
        return priced(architecture)
    numbers = (s["isl"], s["osl"], 0, 0, s["prefix"], 1, 1, 1, 1)
    traffic = Traffic(*(np.float64(v) for v in numbers))
    flop = necessary_flop(census(fill(dict(architecture))), traffic, np.float64(s["seq_len"]), RlJob())
    prompt = max(s["isl"] - s["prefix"], 1) / s["osl"]
    return {"pretrain": float(flop["train"]), "rl": float(flop["rl"]), "inference": float(flop["decode"] + prompt * flop["prefill"])}


def _scaled(architecture: Mapping[str, Any], factor: float, depth_only: bool) -> dict[str, Any]:
    """A model of about `factor` times the size: all lengths by its cube root, or the depth alone (every layout stays possible)."""
    if depth_only:
        n_dense = architecture.get("n_dense_layers", 0)
        return dict(architecture) | {"n_layers": max(round(architecture["n_layers"] * factor), n_dense + 1)}
    root = factor ** (1.0 / 3.0)
    full = fill(dict(architecture))
    lengths = {k: float(architecture.get(k, full[k])) * root for k in LENGTHS if k in architecture}
    depths = {k: float(architecture[k]) * root for k in ("n_full_layers", "n_linear_layers", "n_dense_layers") if architecture.get(k)}
    fixed = {k: float(full[k]) for k in ("d_head", "d_head_v") if architecture.get("attention", "gqa") != "mla"}
    return dict(architecture) | fixed | lengths | depths


def _amounts(point: optimum.Point, n_active: float) -> dict[str, float | None]:
    own = {k: float(getattr(point, k)) for k in PHASES}
    return _shares(own, float(point.n_scale), float(point.tok), n_active)


def _shares(amounts: Mapping[str, float], n_scale: float, tok: float, n_active: float) -> dict[str, float | None]:
    total = sum(amounts.values())
    values = {"n_scale": n_scale, "tok": tok, "tok_per_param": tok / (n_active * n_scale), "total": total}
    values |= {f"{k}_share": v / total for k, v in amounts.items()} | {"kappa": total / amounts["pretrain"]}
    return {k: _finite(v) for k, v in (dict(amounts) | values).items()}


def _against_compute_optimal(best: optimum.Point, n_base, n_active: float, life: optimum.Lifecycle) -> dict[str, float | None]:
    """The optimum beside the model that would be compute-optimal for the same pretraining compute, counted in effective parameters."""
    n_eff = n_base * best.n_scale
    n, tok = scaling_law.compute_optimal(6.0 * n_eff * best.tok, life.law)
    return {"n_over_compute_optimal": _finite(n_eff / n), "tok_per_param_over_compute_optimal": _finite(best.tok / n_eff / (tok / n)),
            "tok_per_active_over_compute_optimal": _finite(best.tok / (n_active * best.n_scale) / (tok / n)),
            "first_order_kappa": _finite(balance.first_order_kappa(n_eff, best.tok, life.law))}  # fmt: skip


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def text(answer: Mapping[str, Any]) -> str:
    """Quality and life for people."""
    q, lines = answer["quality"], []
    if q["can_rank"]:
        own = np.exp(q["sigma_ln_c_eq"])
        lines.append(f"quality   {q['c_eq_flop']:.2e} FLOP-equivalents (1 sigma: factor {own:.2g})"
                     f"   effective parameters {show(q['n_eff'], '')}"
                     f"   {q['tok_per_param']:,.0f} tokens per active parameter")  # fmt: skip
        if q.get("rl_pass_frac") is not None:
            lines.append(f"  RL      pass rate {q['rl_pass_frac']:.2f} on checked mathematics, {q['rl_gain_frac']:.0%} of what RL can add")
        lines += [f"  RL      cannot rank: {why}" for why in q.get("rl_cannot_rank", [])]
        lines.append("  factors " + "   ".join(f"{k} {v:.3g}" for k, v in q["factors"].items() if v != 1.0))
    lines += [f"quality   cannot rank: {why}" for why in q["cannot_rank"]] + [f"  warning {text}" for text in q["warnings"]]
    if "life" in answer:
        life = answer["life"]
        lines.append(f"\nlife in {life['of'].upper()}   size x   tokens    per active   pretraining      RL   inference     total")
        for name in ("own", "optimum", "balanced"):
            lines.append(f"  {name:<11}{_row(life[name])}")
        best = life["optimum"]
        lines.append(
            f"  equal pretraining and inference cost {_percent(life['regret'])} more than the optimum, "
            f"this model {_percent(life['own_regret'])}"
        )
        if best["n_over_compute_optimal"]:
            lines.append(f"  optimum against compute-optimal: size x {best['n_over_compute_optimal']:.2g}, tokens per parameter x "
                         f"{best['tok_per_param_over_compute_optimal']:.3g}")  # fmt: skip
    return "\n".join(lines)


def _row(point: Mapping[str, float | None]) -> str:
    if point["total"] is None:
        return "out of reach: no tokens bring a smaller or larger model to this quality"
    parts = [f"{point[f'{k}_share']:.0%}" for k in PHASES]
    shares = f"{parts[0]:>14}{parts[1]:>8}{parts[2]:>12}"
    return f"{point['n_scale']:9.3g}  {show(point['tok'], 'tok'):>9}{point['tok_per_param']:11,.0f}{shares}{point['total']:12.2e}"


def _percent(share: float | None) -> str:
    return "without bound" if share is None else f"{100 * share:.2g} %"
