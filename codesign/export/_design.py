"""What is to be built: dimensions, parameters by part, tokens, precision, predicted quality and the gates on the way to it."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from codesign import law_inputs
from codesign.export._recipe import BRANCH_FRAC
from codesign.export._subject import Z_80, Subject, plain
from codesign.export._training import ramp_extra_steps
from codesign.lifecycle import critical_batch, quality
from codesign.lifecycle.scaling_law import excess_of_compute

GATE_FRACS = (0.10, 0.25, 0.50, 1.00)
FORMATS = {16: "bf16", 8: "fp8", 4: "nvfp4"}
RESIDUAL = 0.13  # rms of ln: what the quality law states of its own fit (docs/model.md, Error); nothing is known of drops alone
LATENT = ("q_lora_rank", "kv_lora_rank", "d_head_nope", "d_head_rope")
EXPERTS = ("n_experts", "n_active_experts", "d_expert", "n_shared_experts", "d_shared", "n_dense_layers", "moe_every")


def identity(s: Subject) -> dict[str, Any]:
    """Where the design comes from."""
    manifest = s.run.manifest
    return {
        "study": s.study.name, "question": s.study.file.question, "run": str(s.run.path), "id": plain(s.point["id"]),
        "design_id": plain(s.point["design_id"]), "base_model": s.study.model["name"], "codesign_version": manifest["version"],
        "searched": manifest["created"], "method": manifest["method"], "is_exact": manifest["exact"],
        "objectives": {name: s.number(name) for name in s.run.objectives},
    }  # fmt: skip


def architecture(s: Subject) -> dict[str, Any]:
    """Every dimension that this kind of model has; keys of other kinds are left out, switches that are off too."""
    shape = dict(s.shape)
    drop = {"d_head", "n_kv_heads"} if shape["attention"] == "mla" else set(LATENT)
    if not shape["n_experts"]:
        drop |= set(EXPERTS)
    elif s.census.ffn.n_dense_layers == 0:
        drop |= {"d_ff"}
    if not shape["n_window_layers"]:
        drop |= {"window_tok", "n_full_layers", "n_window_kv_heads"}
    if not shape["n_linear_layers"]:
        drop |= {key for key in shape if key.startswith("linear_")} | {"n_attention_layers"}
    drop |= {"global_every"} | ({"d_head_v"} if shape["d_head_v"] == shape["d_head"] else set())
    return {key: value for key, value in shape.items() if key not in drop and value != 0}


def parameters(s: Subject) -> dict[str, Any]:
    """Parameter counts; those under `by_part` add up to n_params."""
    c, ffn = s.census, s.census.ffn
    mixers = {name: getattr(c, name) for name in ("full", "window", "linear")}
    norms = c.norm_params
    parts: dict[str, float] = {
        # norms of the residual stream are counted with their block; they are shown apart here
        "attention": sum(m.n_layers * (m.params_tp + m.params_kv + m.params_rep) for m in mixers.values())
        - sum(m.n_layers for m in mixers.values()) * ffn.norm_params,
        "dense_ffn": ffn.n_dense_layers * ffn.dense_params,
        "routed_experts": ffn.n_moe_layers * ffn.n_experts * ffn.expert_params,
        "shared_experts": ffn.n_moe_layers * ffn.shared_params,
        "router": ffn.n_moe_layers * (ffn.router_params + ffn.latent_params),
        "norms": norms,
    }
    parts["embedding_and_head"] = c.n_params - sum(parts.values())
    counts = {
        "n_params": c.n_params, "n_active_params": c.n_active_params, "n_active_params_excl_in": c.n_active_params_excl_in,
        "n_mtp_params": 0.0 if s.n_mtp_left_out else c.mtp_params, "n_mtp_layers_left_out": s.n_mtp_left_out,
    }  # fmt: skip
    by_part = {name: round(float(np.ravel(value)[0])) for name, value in parts.items()}
    return {name: plain(value) for name, value in counts.items()} | {"by_part": {k: v for k, v in by_part.items() if v}}


def tokens(s: Subject) -> dict[str, Any]:
    """Pretraining tokens: useful ones count in the quality law, processed ones pass through the machine."""
    useful, spent = s.number("pretrain_tok"), s.number("pretrain_spent_tok")
    unique = s.setting.life.unique_tok
    return {
        "useful_tok": useful, "processed_tok": spent, "processed_over_useful": spent / useful,
        "useful_tok_per_active_param": s.number("tok_per_param"), "unique_tok": plain(unique),
        "n_epochs": spent / unique if np.isfinite(unique) else None, "seq_tok": plain(s.setting.life.seq_tok),
    }  # fmt: skip


def precision(s: Subject) -> dict[str, Any]:
    """Number formats of training and serving."""
    bits = {key: plain(s.values[f"precision.{key}"]) for key in ("weight_bits", "kv_bits", "act_bits")}
    is_weight_only = bits["weight_bits"] == 4 and bits["act_bits"] > 4
    return {
        "train_bits": plain(s.train_bits), "train_format": s.study.file.lifecycle.train_precision or FORMATS[int(s.train_bits)],
        "train_weights_format": "bf16, fp32 master weights and Adam moments in the optimizer", "gradient_format": "fp32",
        **bits, "kv_format": FORMATS[int(bits["kv_bits"])], "act_format": FORMATS[int(bits["act_bits"])],
        "weight_format": "int4 or mxfp4, in groups" if is_weight_only else FORMATS[int(bits["weight_bits"])],
    }  # fmt: skip


def predicted(s: Subject) -> dict[str, Any]:
    """Quality columns of the run with their 80 % interval."""
    middle, width = s.number("c_eq_flop"), float(np.exp(Z_80 * s.number("sigma_ln_c_eq")))
    return {
        "c_eq_flop": middle, "c_eq_low_flop": middle / width, "c_eq_high_flop": middle * width, "interval": "80 %",
        "n_eq": s.number("n_eq"), "n_eff": s.number("n_eff"), "loss_deployed_nat": s.number("loss"),
        "law": s.setting.law.name, "law_source": s.setting.law.source,
    }  # fmt: skip


def assess(s: Subject, useful_tok: float, law, deployed: bool) -> dict[str, float]:
    """Quality columns at some number of useful tokens: of the model as served, or as trained (16-bit weights and cache)."""
    n_active, n_total, design = law_inputs.design_quality(s.setting, s.designs)
    if not deployed:
        design = design | {"weight_bits": 16.0, "act_bits": 16.0, "kv_bits": 16.0}
    laws = {"law": law, "alternative": s.setting.alternative}
    out = quality.assess(n_active, n_total, useful_tok, unique_tok=s.setting.life.unique_tok, **laws, **design)
    return {name: float(np.ravel(out[name])[0]) for name in ("loss", "c_eq_flop", "sigma_ln_c_eq")}


def gates(s: Subject) -> dict[str, Any]:
    """Predicted loss on the way, of the model as trained and annealed; absolute values hold for the law's own corpus only."""
    law, batch = s.setting.law, s.number("global_batch_tok")
    spent, train_s = s.number("pretrain_spent_tok"), s.number("train_s")
    extra = ramp_extra_steps(s)
    rows: list[dict[str, Any]] = []
    before: dict[str, float] = {}
    for frac in GATE_FRACS:
        useful = s.number("pretrain_tok") if frac == 1 else float(critical_batch.useful_tok(frac * spent, batch))
        here = {x.name: assess(s, useful, x, deployed=False)["loss"] for x in (law, s.setting.alternative)}
        drops = [before[name] - here[name] for name in here] if before else []
        low, high = drop_band(*drops) if drops else (None, None)
        rows.append({
            "tok_frac": frac, "processed_tok": frac * spent, "useful_tok": useful,
            "step": ceil(frac * spent / batch - 1e-9) + extra, "at_s": frac * train_s,
            **_interval(s, useful), "drop_nat": drops[0] if drops else None,
            "drop_low_nat": low, "drop_high_nat": high,
        })  # fmt: skip
        before = here
    branch_tok = BRANCH_FRAC * spent * sum(GATE_FRACS[:-1])
    return {
        "loss_of": "model as trained, 16-bit weights, after a cooldown; level of the law's corpus and tokeniser",
        "rows": rows, "loss_deployed_nat": s.number("loss"),
        "branch_cooldown_frac": BRANCH_FRAC, "branch_extra_tok": branch_tok,
        "branch_extra_s": branch_tok / spent * train_s, "branch_extra_usd": branch_tok / spent * s.number("train_usd"),
        "branches_in_budget": False,
    }  # fmt: skip


def drop_band(drop_nat: float, other_nat: float) -> tuple[float, float]:
    """80 % band around a predicted drop of the loss: lognormal, by how far another law is from it and by the law's own residual.

    >>> low, high = drop_band(0.0160, 0.0230)
    >>> f"{low:.4f} {high:.4f}"
    '0.0111 0.0231'
    >>> drop_band(0.0160, 0.0160)[0] < 0.0160
    True
    """
    width = float(np.exp(Z_80 * np.hypot(np.log(other_nat / drop_nat) / np.sqrt(2.0), RESIDUAL)))
    return drop_nat / width, drop_nat * width


def _interval(s: Subject, useful_tok: float) -> dict[str, float]:
    """Loss with its 80 % interval: that of ln c_eq, carried back through the law."""
    law = s.setting.law
    out = assess(s, useful_tok, law, deployed=False)
    width = np.exp(Z_80 * out["sigma_ln_c_eq"])
    low, high = (law.E + float(excess_of_compute(out["c_eq_flop"] * f, law)) for f in (width, 1.0 / width))
    return {"loss_nat": out["loss"], "loss_low_nat": low, "loss_high_nat": high}
