"""Quality and life of one model (`evaluate --phase quality,life`): optimum against a plain scan, refusals, monotonicity, RL recipes."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.point import evaluate_point
from codesign.spec.errors import UserError
from studies import study

LIFE = {"phase": "quality,life", "model": "llama-3.1-70b", "pretrain_tok": 15e12, "out_tok": 1e13, "rl_tok": 2e12, "isl": 1024, "osl": 512}
ALPHA, BETA, A, B = 0.3478, 0.3658, 482.01, 2085.43  # arXiv 2404.10102


def scanned(answer) -> tuple[float, float, float]:
    """(least total, size, tokens) over a fine grid of sizes, in plain Python."""
    quality, life = answer["quality"], answer["life"]
    n_eff, growth, own = quality["n_eff"], life["elasticity"], life["own"]
    excess = A * n_eff**-ALPHA + B * own["tok"] ** -BETA
    best = (float("inf"), 0.0, 0.0)
    for i in range(4000):
        x = 10 ** (-1.0 + i / 2000)
        left = excess - A * (n_eff * x) ** -ALPHA
        if left <= 0:
            continue
        tok = (B / left) ** (1 / BETA)
        amounts = {k: own[k] * x ** growth[k] for k in ("pretrain", "rl", "inference")}
        phases = amounts["pretrain"] * tok / own["tok"], amounts["rl"], amounts["inference"]
        best = min(best, (sum(phases), x, tok))
    return best


@pytest.mark.parametrize("model, out_tok", [("llama-3.1-70b", 1e13), ("llama-3.1-70b", 1e12), ("deepseek-v3", 1e14)])
def test_optimum_is_the_best_of_a_scan(model, out_tok):
    answer = evaluate_point(LIFE | {"model": model, "out_tok": out_tok})
    total, size, tok = scanned(answer)
    best = answer["life"]["optimum"]
    assert best["total"] == pytest.approx(total, rel=1e-4) and best["total"] <= total * (1 + 1e-9)
    assert best["n_scale"] == pytest.approx(size, rel=0.02) and best["tok"] == pytest.approx(tok, rel=0.03)
    assert answer["life"]["own_regret"] >= 0 and answer["life"]["regret"] >= 0


def test_a_life_of_three_times_pretraining():
    """First-order condition with these exponents: kappa = 3 gives N x 0.214 and D/N x 21.7."""
    found = [evaluate_point(LIFE | {"rl_tok": 0, "out_tok": 10**e})["life"]["optimum"] for e in np.linspace(12, 14, 9)]
    kappa = [f["first_order_kappa"] for f in found]
    for name, value in (("n_over_compute_optimal", 0.214), ("tok_per_param_over_compute_optimal", 21.7)):
        assert np.exp(np.interp(np.log(3), np.log(kappa), np.log([f[name] for f in found]))) == pytest.approx(value, rel=0.01)
    assert all(f["first_order_kappa"] == pytest.approx(f["kappa"], rel=0.03) for f in found)


def test_more_traffic_wants_a_smaller_model_trained_for_longer():
    found = [evaluate_point(LIFE | {"out_tok": v})["life"]["optimum"] for v in (1e12, 1e13, 1e14)]
    assert [f["n_scale"] for f in found] == sorted((f["n_scale"] for f in found), reverse=True)
    for name in ("tok_per_param", "kappa", "total"):
        assert [f[name] for f in found] == sorted(f[name] for f in found)


def test_life_in_usd_uses_the_prices_of_the_layout():
    chip = {"system": "h200_sxm_node", "n_tp": 8, "batch": 64, "phase": "quality,train,prefill,decode,life", "of": "usd"}
    cheap, dear = (evaluate_point(LIFE | chip | {"usd_per_h": v})["life"] for v in (2.0, 4.0))
    assert dear["own"]["total"] == pytest.approx(2 * cheap["own"]["total"])
    assert dear["optimum"]["n_scale"] == pytest.approx(cheap["optimum"]["n_scale"])  # all phases twice as dear: the same design
    alone = evaluate_point({k: v for k, v in (LIFE | chip).items()} | {"phase": "train,prefill,decode", "architecture": None})
    assert cheap["own"]["pretrain"] * 2 == pytest.approx(LIFE["pretrain_tok"] * alone["train"]["usd_per_mtok"] / 1e6 / 2.9 * 4.0, rel=1e-6)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pretrain_tok": 1e17}, "cannot rank: tokens per active parameter above 20,000"),
        ({"rl_tok": -1.0}, "rl_tok"), ({"pretrain_tok": None}, "needs pretraining tokens"), ({"of": "eur"}, "neither flop nor usd"),
        ({"of": "usd", "accelerator": "h100_sxm"}, "needs the phases"), ({"weight_format": "int5"}, "weight_format"),
        ({"unique_tok": 1e11}, "more than 16 epochs"), ({"model": "kimi-k2", "architecture": {"n_experts": 2048}}, "ratio above 64"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_says_so(change, words):
    with pytest.raises(UserError, match=words):
        evaluate_point(LIFE | change)


def test_a_refused_quality_shows_no_number():
    answer = evaluate_point({"phase": "quality", "model": "llama-3.1-8b", "pretrain_tok": 1e16})["quality"]
    assert not answer["can_rank"] and answer["c_eq_flop"] is None and answer["cannot_rank"]
    shown = CliRunner().invoke(main, ["evaluate", "--phase", "quality", "--model", "llama-3.1-8b", "--pretrain-tok", "1e16"])
    assert shown.exit_code == 0 and "cannot rank" in shown.output and "FLOP-equivalents" not in shown.output


def test_weight_formats_lose_in_order():
    asked = {"phase": "quality", "model": "llama-3.1-70b", "pretrain_tok": 15e12, "weight_bits": 4}
    kept = [evaluate_point(asked | {"weight_format": f})["quality"]["n_eff"] for f in ("int4_qat", "nvfp4", "int4_group", "int4_channel")]
    assert kept == sorted(kept, reverse=True)


def test_rl_recipes_reuse_costs_updates_and_asynchrony_saves_the_wait(tmp_path):
    def rl_usd(**recipe):
        given = {"lifecycle": {"pretrain_tok": "1 Ttok", "rl_tok": "10 Gtok", "rl": {"gen_tok": "4 ktok", **recipe}}, "slo": {}}
        space = {"architecture.n_layers": [48], "precision.weight_bits": [8]}
        problem = study(tmp_path, given | {"space": space, "constraints": {}}).problem
        return float(problem.evaluate(np.zeros((1, len(problem.variables)), dtype=int)).points["rl_usd"][0])

    plain, reused, running = rl_usd(), rl_usd(reuse=2), rl_usd(asynchronous=True)
    assert reused > plain > running
