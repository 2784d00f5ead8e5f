"""Joules: against a scalar reference, closed forms, and what an H200 was measured to draw."""

import numpy as np
import pytest
from physics_cases import architecture, chip_of, counts_of, layout_of, plain, precision_of
from reference import energy as reference
from reference import scalar

from codesign.physics import energy
from codesign.physics.operators import make_scene
from codesign.physics.phases.train import Job
from codesign.point import evaluate_point
from codesign.scenario import make_energy
from codesign.service.traffic import Traffic
from codesign.units.energy import TOTAL, Meter, decode_joules, prefill_joules, serving_columns, training_parts

DENSE = ("llama-3.1-70b", "llama-2-7b", "gemma-3-27b", "nemotron-h-8b")
MOE_ON_ONE = ("qwen3-235b-a22b", "gpt-oss-120b")


def meter_of(model, hardware="h200_sxm_node", bits=(16, 16, 16), training=False):
    chip, fit = chip_of(hardware, "ideal"), make_energy(hardware)
    scenes = (make_scene(counts_of(model), energy.in_joules(chip, fit, far=far), precision_of(*bits), training) for far in (False, True))
    return Meter(*scenes, fit)


def traffic_of(isl=1000, osl=500, prefix=0, q=1):
    return Traffic(*(np.float64(v) for v in (isl, osl, 0, 0, prefix, 1, q, 1e4, 1.5)))


@pytest.mark.parametrize("model", (*DENSE, *MOE_ON_ONE))
@pytest.mark.parametrize("hardware", ["h200_sxm_node", "b200_sxm_node", "a100_sxm_node"])
@pytest.mark.parametrize("bits, tp", [((16, 16, 16), 1), ((8, 8, 8), 1), ((4, 16, 16), 2), ((8, 16, 16), 8)])
def test_against_the_scalar_reference(model, hardware, bits, tp):
    tp = 1 if model in MOE_ON_ONE else tp
    layout, meter, fit = layout_of(n_tp=tp), meter_of(model, hardware, bits), plain(make_energy(hardware))
    chip = plain(chip_of(hardware, "ideal"))
    scene = scalar.Scene(architecture(model), chip, dict(zip(("weight_bits", "kv_bits", "act_bits"), bits, strict=True)))
    traffic, per_rank = traffic_of(), 24.0
    decoded = scalar.decode(scene, plain(layout), per_rank, 1250.0)
    prompted = scalar.prefill(scene, plain(layout), 1000.0)
    got = [decode_joules(meter, layout, np.float64(per_rank), traffic), prefill_joules(meter, layout, traffic)]
    clocks = (decoded.clock, per_rank), (prompted.clock, 500.0)
    want = [{k: v * tp / n for k, v in reference.parts(clock, chip, fit).items()} for clock, n in clocks]
    for one, other in zip(got, want, strict=True):
        for name, joules in other.items():
            np.testing.assert_allclose(float(one[name]), joules, rtol=1e-9, atol=1e-30, err_msg=name)
    columns = serving_columns(meter, got, np.float64(16), np.float64(3e4))
    both = {k: sum(part[k] for part in want) for k in want[0]}
    for name, joules in reference.served(both, chip, fit, 16.0, 3e4).items():
        np.testing.assert_allclose(float(columns[f"energy_{name}_j_per_tok"]), joules, rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("phase", ["decode", "prefill", "train"])
def test_causes_add_up_and_a_token_costs_less_than_the_power_that_is_provided(phase):
    scenario = {"model": "llama-3.1-70b", "system": "h100_sxm_node", "n_tp": 8, "phase": phase, "batch": 64, "isl": 2000, "osl": 400}
    answer = evaluate_point(scenario, detail=True)[phase]["energy"]
    assert sum(answer["by_cause_j_per_tok"].values()) == pytest.approx(answer["j_per_tok"])
    assert answer["tdp_w"] * 0.115 < answer["chip_w"] < answer["tdp_w"]


def test_one_sequence_pays_for_every_weight():
    """Batch 1: HBM energy is weight bytes times the price of a byte; arithmetic 2 FLOP a weight."""
    meter, traffic = meter_of("llama-2-7b"), traffic_of(isl=1, osl=2)
    parts = decode_joules(meter, layout_of(), np.float64(1), traffic)
    weights = counts_of("llama-2-7b").n_params - counts_of("llama-2-7b").embedding_params
    assert float(parts["hbm"]) == pytest.approx(2 * weights * 3.9 * 8e-12, rel=0.01)
    flop = 2 * weights * 0.22 * (0.946 - 0.115) * 700 / (0.77 * 989e12)
    assert float(parts["arithmetic"]) == pytest.approx(flop, rel=0.01)


def test_batching_spreads_the_weights_not_the_arithmetic():
    meter, traffic = meter_of("llama-3.1-70b"), traffic_of()
    one, many = (decode_joules(meter, layout_of(n_tp=4), np.float64(n), traffic) for n in (1, 64))
    assert float(one["arithmetic"]) == pytest.approx(float(many["arithmetic"]), rel=1e-6)
    assert float(one["hbm"]) > 20 * float(many["hbm"])
    falling = [float(sum(decode_joules(meter, layout_of(n_tp=4), np.float64(n), traffic).values())) for n in (1, 2, 8, 64, 512)]
    assert np.all(np.diff(falling) < 0)


def test_expert_traffic_by_hand_on_both_tiers():
    """A 256-expert group of 16 devices in nodes of 8: k copies, 7/16 stay in the node, 8/16 leave it; bytes out and back."""
    meter, layout = meter_of("deepseek-v3", bits=(8, 8, 8)), layout_of(n_dp=16, n_ep=16)
    parts = decode_joules(meter, layout, np.float64(32), traffic_of())
    sent = 58 * 8 * 7168 * (1 + 2)  # layers x copies x width x (fp8 out, 16 bit back), bytes per token
    assert float(parts["scale_out"]) == pytest.approx(sent * 8 / 16 * 37.5 * 8e-12, rel=1e-6)
    assert float(parts["scale_up"]) == pytest.approx(sent * 7 / 16 * 11 * 8e-12, rel=1e-6)


def test_training_costs_six_flop_per_weight_and_token():
    meter, layout = meter_of("llama-3.1-70b", "h100_sxm_node", training=True), layout_of(n_tp=8, n_pp=4, n_dp=16)
    job = Job(*(np.float64(v) for v in (4096, 1, 512, 1, 1)))
    parts = training_parts(meter, layout, job)
    flop = 6 * counts_of("llama-3.1-70b").n_params * 0.22 * (0.946 - 0.115) * 700 / (0.77 * 989e12)
    assert 1.0 < float(parts["arithmetic"]) / flop < 1.1  # attention on top, the input table not multiplied
    again = training_parts(meter, layout, Job(*(np.float64(v) for v in (4096, 1, 512, 2, 1))))
    assert float(again["arithmetic"]) / float(parts["arithmetic"]) == pytest.approx(4 / 3, rel=0.03)  # full recomputation


@pytest.mark.parametrize("batch", [1, 4, 16, 32])
def test_an_h200_draws_what_was_measured_in_decode(batch):
    """arXiv 2605.11999: 137-300 W in decode on an H200, four kinds of attention, batches of production size."""
    scenario = {"model": "qwen3-8b", "accelerator": "h200_sxm", "engine": "vllm", "phase": "decode", "batch": batch, "isl": 2000,
                "osl": 500, "weight_bits": 16, "kv_bits": 16, "act_bits": 16}  # fmt: skip
    assert 137 < evaluate_point(scenario, detail=True)["decode"]["energy"]["chip_w"] < 310


def test_narrow_arithmetic_takes_the_same_power():
    """fp8 and bf16 products drew 661.7 and 662.8 W on an H200: energy per FLOP falls as the peak rises."""
    fit, chip = make_energy("h200_sxm"), chip_of("h200_sxm", "ideal")
    at_16, at_8 = (energy.j_per_flop(chip.tdp_w, peak, fit) for peak in (chip.peak_flop_per_s.at_16, chip.peak_flop_per_s.at_8))
    assert float(at_16 / at_8) == pytest.approx(1979 / 989, rel=1e-3)


def test_a_node_of_h100_draws_what_was_measured():
    """arXiv 2412.08602: at most 8.4 kW of 10.2 rated, 8 H100 near full use; our provisioned power of the node is another source's."""
    fit, chip = make_energy("h100_sxm_node"), chip_of("h100_sxm_node", "ideal")
    host = float(energy.standing_w(chip, fit)["host"])
    assert 8 * (host + float(fit.full_load_frac * chip.tdp_w)) == pytest.approx(8400, rel=0.05)
    assert 300 < host < 450


@pytest.mark.parametrize(
    "name", ["a100_sxm_node", "h200_sxm_node", "b200_sxm_node", "gb200_nvl72", "mi300x_node", "mi355x_node", "l40s_node"]
)
def test_every_host_draws_something(name):
    assert float(energy.standing_w(chip_of(name, "ideal"), make_energy(name))["host"]) > 50


def test_total_is_named_once():
    assert TOTAL == "energy_used_j_per_tok"
