"""Jitter, sites, offload and reversible blocks: closed forms by hand, Monte Carlo, monotone where physics is."""

import math

import numpy as np
import pytest
from physics_cases import changed, chip_of, counts_of, layout_of, precision_of, scene_of

from codesign.physics import collectives, jitter, offload, sites
from codesign.physics.jitter import Jitter
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, train
from codesign.point import evaluate_point
from codesign.units import training


def jitter_of(mean=0.0, stall=0.0, probability=0.0):
    return Jitter(*(np.float64(v) for v in (mean, stall, probability)))


def job_of(**changes):
    values = {"seq_tok": 4096, "micro_batch": 1, "global_batch": 512, "recompute": 1, "zero": 1}
    return train.Job(**{k: np.float64(v) for k, v in (values | changes).items()})


def learner(model="llama-3.1-70b", **changes):
    return make_scene(counts_of(model), changed(chip_of("h100_sxm_node"), **changes), precision_of(), training=True)


@pytest.mark.parametrize("n", [1, 2, 8, 72, 576])
def test_the_slowest_of_n_by_sum_and_by_simulation(n):
    want = 0.0 if n == 1 else 3e-6 * sum(1 / k for k in range(1, n + 1)) + 1e-3 * (1 - (1 - 1e-4) ** n)
    assert float(jitter.slowest_s(n, jitter_of(3e-6, 1e-3, 1e-4))) == pytest.approx(want, rel=1e-9)
    if n > 1:
        drawn = np.random.default_rng(0).exponential(3e-6, (4000, n)).max(axis=1).mean()
        assert float(jitter.slowest_s(n, jitter_of(3e-6))) == pytest.approx(drawn, rel=0.05)


def test_one_slow_server_in_a_hundred():
    """Dean and Barroso: 1 % slow servers, fan-out 100: 63 % of requests are slow."""
    assert float(jitter.slowest_s(100, jitter_of(stall=1.0, probability=0.01))) == pytest.approx(0.634, abs=0.001)


def test_every_collective_waits_once_per_round_and_on_its_tier():
    quiet = chip_of("h100_sxm_node")
    near = changed(quiet, scale_up__jitter=jitter_of(1e-6))
    far = changed(quiet, scale_out__jitter=jitter_of(1e-6))
    h8, h16 = (sum(1 / k for k in range(1, n + 1)) * 1e-6 for n in (8, 16))

    def added(function, chip, *args):
        return float(function(*args, chip)[0] - function(*args, quiet)[0])

    assert added(collectives.shard_exchange, near, 1e6, 8.0) == pytest.approx(h8)
    assert added(collectives.shard_exchange, far, 1e6, 8.0) == pytest.approx(0.0, abs=1e-15)
    assert added(collectives.shard_exchange, far, 1e6, 16.0) == pytest.approx(h16)
    assert added(collectives.all_reduce, near, 1e3, 8.0) == pytest.approx(h8)  # one shot
    assert added(collectives.all_reduce, near, 1e9, 8.0) == pytest.approx(2 * h8)  # reduce-scatter, all-gather
    assert added(collectives.expert_exchange, far, 8.0, 8, 7168, 1.0, 16.0) == pytest.approx(h16)
    assert added(collectives.hop, far, 1e6, 8.0) == pytest.approx(1.5e-6)


def test_one_device_never_waits():
    load = decode.Load(np.float64(8), np.float64(1000))
    quiet, loud = (
        scene_of(model="llama-2-7b", engine="generic", **c)
        for c in ({}, {"scale_up__jitter": jitter_of(1.0), "scale_out__jitter": jitter_of(1.0)})
    )
    assert float(decode.step(quiet, layout_of(), load, 0.0).time_s) == float(decode.step(loud, layout_of(), load, 0.0).time_s)


def test_more_jitter_and_more_members_never_help():
    load = decode.Load(np.float64(64), np.float64(2000))

    def step(mean, tp):
        scene = scene_of(model="llama-3.1-70b", chip="gb200_nvl72", engine="generic", scale_up__jitter=jitter_of(mean))
        return float(decode.step(scene, layout_of(n_tp=tp), load, 0.0).time_s)

    assert np.all(np.diff([step(mean, 8) for mean in (0.0, 1e-6, 1e-5, 1e-4)]) > 0)
    lost = [step(1e-5, tp) - step(0.0, tp) for tp in (2, 4, 8)]
    assert np.all(np.diff(lost) > 0)


@pytest.mark.parametrize("n_sites, every", [(2, 1), (4, 1), (2, 100), (8, 500)])
def test_sites_by_hand(n_sites, every):
    scene = learner(site_bytes_per_s=np.float64(25e9), site_rtt_s=np.float64(0.06))
    layout = layout_of(n_tp=8, n_dp=64)
    one, many = (train.step(scene, layout, job_of(n_sites=m, sync_every=every)) for m in (1, n_sites))
    whole = 2 * (n_sites - 1) / n_sites * 4 * counts_of("llama-3.1-70b").n_params / 25e9 + 0.12
    overlap = float(scene.chip.dp_overlap)
    exposed = (whole - min(overlap * whole, float(many.micro_s))) / every
    assert float(many.micro_s) == float(one.micro_s)
    inner = float(many.exchange_s + many.update_s - one.exchange_s - one.update_s)  # smaller rings, larger shards
    assert float(many.step_s - one.step_s) == pytest.approx(exposed + inner, rel=1e-9)


def test_sites_spread_as_far_as_links_allow():
    """Tokens per second against the bandwidth between two sites: rises to the single site's, at H = 100 a hundred times sooner."""
    layout, tok = layout_of(n_tp=8, n_dp=64), []
    for gbit in (10, 100, 1000, 10000):
        scene = learner(site_bytes_per_s=np.float64(gbit * 1e9 / 8), site_rtt_s=np.float64(0.03))
        tok.append([1 / float(training.time_training(scene, layout, job_of(n_sites=2, sync_every=h))["s_per_tok"]) for h in (1, 100)])
    alone = 1 / float(training.time_training(learner(), layout, job_of())["s_per_tok"])
    tok = np.array(tok)
    assert np.all(np.diff(tok, axis=0) > 0) and tok[0, 1] > 5 * tok[0, 0]
    assert tok[-1, 0] == pytest.approx(alone, rel=0.02) and tok[-1, 1] == pytest.approx(alone / 1.03, rel=0.02)


def test_uneven_sites_are_no_layout():
    layout = layout_of(n_tp=8, n_dp=6)
    assert bool(training.consistent(layout, job_of(global_batch=48, n_sites=2)))
    assert not bool(training.consistent(layout, job_of(global_batch=48, n_sites=4)))


def test_waste_of_local_steps():
    assert float(sites.token_waste(2, 500)) == 1.03 and float(sites.token_waste(4, 1)) == 1.0


def test_the_optimizer_on_the_host():
    """ZeRO-Offload: 12 bytes a parameter leave the device; 4 bytes cross the link and 28 are streamed by the host each step."""
    scene, layout = learner(), layout_of(n_tp=8, n_dp=8)
    here, there = (train.memory_classes(scene, layout, job_of(offload=m)) for m in (0, 1))
    assert float(there["optimizer"]) == 0 and float(there["activations"]) == float(here["activations"])
    shard = float(here["optimizer"]) / 12
    slow, fast = (train.step(scene, layout, job_of(offload=m)) for m in (1, 0))
    want = shard * 32 / (0.88 * float(scene.chip.host_bytes_per_s)) - float(fast.update_s)
    assert float(slow.step_s - fast.step_s) == pytest.approx(want, rel=1e-9)


def test_activations_on_the_host():
    scene, layout = learner(), layout_of(n_tp=8, n_pp=2, n_dp=4)
    here, there = (train.memory_classes(scene, layout, job_of(recompute=0, offload=m)) for m in (0, 2))
    assert float(there["activations"]) < 0.2 * float(here["activations"])
    kept = float(train.kept_bytes(scene, layout, job_of(recompute=0), scene.census.n_layers))
    fast, slow = (train.step(scene, layout, job_of(recompute=0, offload=m)) for m in (0, 2))
    per_micro = max(kept / (0.88 * float(scene.chip.host_bytes_per_s)) - float(fast.micro_s), 0.0)
    assert float(slow.step_s - fast.step_s) == pytest.approx(per_micro * 512 / 4, rel=1e-9, abs=1e-12)


def test_a_host_has_limits():
    layout = layout_of(n_tp=8)
    small = learner(host_memory_bytes=np.float64(1e9))
    assert not bool(training.time_training(small, layout, job_of(offload=1))["fits"])
    held = train.state_classes(small, layout, job_of())
    assert float(offload.host_bytes(held, 3)) == pytest.approx(float(held["optimizer"] + held["activations"]))


def test_reversible_blocks_store_two_streams_and_cost_a_forward():
    """Activations do not grow with depth; the time is that of full recomputation (RevNet, arXiv 1707.04585)."""
    scene, layout = learner(), layout_of(n_tp=8)
    memory = {
        mode: float(train.memory_classes(scene, layout, job_of(recompute=i))["activations"]) for i, mode in enumerate(train.RECOMPUTE)
    }
    assert memory["none"] > memory["selective"] > memory["full"] > memory["reversible"]
    assert float(train.kept_bytes(scene, layout, job_of(recompute=3), scene.census.n_layers)) == pytest.approx(4096 * 2 * 2 * 8192 / 8)
    full, reverse, none = (float(train.step(scene, layout, job_of(recompute=m)).micro_s) for m in (2, 3, 0))
    assert reverse == full and 1.15 < full / none < 1.4


def test_evaluate_takes_them_all():
    base = {"model": "llama-3.1-70b", "system": "h100_sxm_node", "phase": "train", "n_tp": 8, "n_dp": 16, "global_batch": 256}
    plain = evaluate_point(base)["train"]
    slow = evaluate_point(base | {"n_sites": 2, "site_bandwidth": 12.5e9, "site_rtt": 0.03, "scale_out_jitter": 1e-3})["train"]
    assert slow["step_s"] > plain["step_s"] and slow["memory_bytes"] > plain["memory_bytes"]
    away = evaluate_point(base | {"offload": "both", "recompute": "reversible"})["train"]
    assert away["memory_bytes"] < plain["memory_bytes"] and away["step_s"] > plain["step_s"]
    assert math.isclose(evaluate_point(base | {"sync_every": 5})["train"]["step_s"], plain["step_s"])
