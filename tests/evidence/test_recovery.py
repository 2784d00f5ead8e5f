"""Calibration on data of known origin: planted constants and noise in, the constants within their stated uncertainty out."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import test_calibrate as made
from click.testing import CliRunner

from codesign import catalog
from codesign.cli import main
from codesign.evidence import fit
from codesign.evidence.calibrate import calibrate
from codesign.study import open_study

MODELS = (("llama-3.1-8b", 16), ("qwen3-0.6b", 16), ("llama-3.1-70b", 8), ("qwen3-32b", 8))
NOISE = 0.03


@pytest.mark.parametrize(
    ("seed", "planted"), [(1, {"HBM efficiency": 0.85, "kernel fixed time": 1.5}), (2, {"HBM efficiency": 0.7, "kernel fixed time": 1.47})]
)
def test_planted_constants_come_back_from_noisy_rows(seed, planted, tmp_path):
    """Both lie 2 to 4 prior widths off, and the time of a scheduler step looks much like that of the kernels."""
    rng, engine = np.random.default_rng(seed), made.planted_engine(planted)
    rows = [made.decode_row(m, bits, batch, isl, engine) for m, bits in MODELS for batch in (1, 8, 32, 128) for isl in (512, 4096)]
    for row in rows:
        row["tpot_ms"] *= math.exp(rng.normal(0.0, NOISE))
    found = calibrate(made.write(tmp_path / "noisy.csv", rows), "inference")
    moved = {t.name: (x, sd) for t, x, sd in found.moved}
    for name, factor in planted.items():
        x, sd = moved[name]
        assert abs(x - math.log(factor)) < 2.5 * sd, name
    assert np.median(np.abs(found.after)) < 1.2 * NOISE < np.median(np.abs(found.before))


def toy(rng, n=40):
    """e = ln of a sum of three times with known shares, as a function of ln factors on the first two and seconds on the third."""
    parts = rng.uniform(0.2, 1.0, (n, 2))
    prior = fit.Prior(np.array([0.1, 0.1, 1.0]), np.array([-1.4, -1.4, -1e-9]), np.array([1.4, 1.4, 40.0]))

    def model(x):
        return np.log(parts[:, 0] * np.exp(x[0]) + parts[:, 1] * np.exp(x[1]) + 0.05 * x[2])

    return model, prior


def test_stated_uncertainty_covers_the_truth():
    """200 planted constants, half of them far outside their prior: the truth lies within 2 sd as often as it should."""
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        model, prior = toy(rng)
        truth = np.array([*rng.normal(0.0, 0.25, 2), 0.0])
        data = model(truth) + rng.normal(0.0, NOISE, 40)
        found = fit.solve(lambda x, model=model, data=data: model(x) - data, np.ones(40), prior)
        inside.extend(np.abs(found.x - truth)[:2] <= 2.0 * found.sd[:2])
    assert np.mean(inside) > 0.88


def test_what_is_far_off_is_not_pushed_onto_its_neighbour():
    rng = np.random.default_rng(0)
    model, prior = toy(rng)
    data = model(np.array([0.5, 0.0, 0.0])) + rng.normal(0.0, NOISE, 40)
    found = fit.solve(lambda x: model(x) - data, np.ones(40), prior)
    assert found.free[0] and found.x[0] == pytest.approx(0.5, abs=2.0 * found.sd[0])
    assert np.all(np.abs(found.x[1:]) <= 2.0 * found.sd[1:])


def test_a_fold_is_refitted_where_it_leads():
    """The left-out fit comes close to one that never saw the fold, though slopes at the full fit lead elsewhere."""
    rng = np.random.default_rng(3)
    model, prior = toy(rng)
    groups = ["a"] * 20 + ["b"] * 20
    truth = model(np.array([0.8, 0.0, 0.0])), model(np.array([-0.8, 0.0, 0.0]))
    data = np.concatenate([truth[0][:20], truth[1][20:]]) + rng.normal(0.0, 0.01, 40)

    def errors(x):
        return model(x) - data

    keep = np.array(groups) == "a"
    full = fit.solve(errors, fit.group_weights(groups), prior)
    alone = fit.solve(lambda x: errors(x)[keep], fit.group_weights(groups[:20]), prior).x
    gap = [np.abs(errors(fit.refit(errors, full, keep, groups, prior, n)) - errors(alone)).max() for n in (0, 1)]
    assert gap[1] < 0.05 and gap[1] <= gap[0]


def test_a_calibrated_training_engine_works_in_a_study(tmp_path):
    """An engine file of one's own as `lifecycle.train_engine` slows training and leaves serving alone; `evaluate --engine` takes it too."""
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nbase: megatron\nsource: our runs\ndate: 2026-11\ntraining: {sustained: 0.5}\n", encoding="utf-8"
    )
    study = tmp_path / "study.yaml"
    CliRunner().invoke(main, ["new", str(study), "--from", "dense"])
    chips = [open_study(str(study), given).problem.setting.pools for given in ((), (f"lifecycle.train_engine={tmp_path / 'mine.yaml'}",))]
    rate = [
        SimpleNamespace(**{role: float(np.ravel(pools[role].chips.training.compute.at_16)[0]) for role in ("train", "serve")})
        for pools in chips
    ]
    assert rate[1].train < 0.7 * rate[0].train and rate[1].serve == rate[0].serve
    words = (
        "evaluate --model llama-3.1-8b --accelerator h100_sxm --phase train --n-dp 8 --micro-batch 1 --global-batch 64 --zero 3 --engine"
    )
    assert CliRunner().invoke(main, [*words.split(), str(tmp_path / "mine.yaml")]).exit_code == 0
    assert catalog.load("engines", tmp_path / "mine.yaml")["base"] == "megatron"
