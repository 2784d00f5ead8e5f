"""Serving steps under a plan: two batches in turn, FFNs on devices of their own, dense FFNs cut in two dimensions or gathered."""

from dataclasses import replace

import numpy as np
import pytest
from physics_cases import (
    CHIPS,
    ENGINES,
    MODELS,
    architecture,
    changed,
    chip_of,
    counts_of,
    layout_of,
    plain,
    precision_of,
    random_layout,
    scene_of,
)
from reference import plans, scalar

from codesign.physics import feed_forward, memory
from codesign.physics.architecture import census, fill
from codesign.physics.layout import PLAIN, Layout, fits_shape, with_plan
from codesign.physics.operators import ACT_BYTES, make_scene
from codesign.physics.phases import decode, prefill
from codesign.units.candidates import serving_grid

KINDS = ("plain", "two_batch", "apart", "2-D", "gathered")
RTOL = 1e-9


def planned(rng, counts, kind):
    """A random layout that divides the model, with a plan of this kind; dense cuts of a model without dense layers change nothing."""
    base = random_layout(rng, counts)
    moe, tp = bool(counts.ffn.n_moe_layers > 0), int(base.n_tp)
    cuts = [n for n in (1, 2, 4, 8) if tp % n == 0] if counts.ffn.n_dense_layers > 0 else [1]
    if kind != "apart":
        plan = {"overlap": float(kind == "two_batch" or rng.integers(2)) if kind != "plain" else 0.0}
        name = {"2-D": "n_ffn_x", "gathered": "n_gather"}.get(kind)
        return with_plan(base, plan | ({name: float(rng.choice(cuts))} if name else {}))
    etp = int(rng.choice([1, 2]))
    ep = int(rng.choice([n for n in (1, 2, 4, 8, 16, 32) if counts.ffn.n_experts % n == 0])) if moe else 1
    copies = int(rng.choice([1, 2]))
    degrees = {"n_etp": np.float64(etp), "n_ep": np.float64(ep), "n_edp": np.float64(copies)}
    return with_plan(replace(base, **degrees), {"n_ffn": float(etp * ep * copies), "n_micro": float(rng.integers(1, 5))})


def case(seed):
    rng = np.random.default_rng(seed)
    model, kind = MODELS[seed % len(MODELS)], KINDS[(seed // len(MODELS)) % len(KINDS)]
    chip = chip_of(str(rng.choice(CHIPS)), str(rng.choice(ENGINES)), [None, 4.0, 16.0, 6.0][rng.integers(4)])
    bits = dict(zip(("weight_bits", "kv_bits", "act_bits"), (int(v) for v in rng.choice([4, 8, 16], 3)), strict=True))
    return rng, model, chip, bits, planned(rng, counts_of(model), kind)


def decoded(scene, layout, batch, context, q=1.0, detail=False):
    load = decode.Load(np.float64(batch), np.float64(context), np.float64(q))
    return decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load), detail=detail)


def prefilled(scene, layout, new, prefix=0.0, detail=False):
    prompt = prefill.Prompt(np.float64(new), np.float64(prefix))
    return prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt), detail=detail)


def seconds(ledger, *names):
    return float(sum(op.time_s for op in ledger.ops if op.name in names))


# --- against the scalar reference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(130))
def test_steps_against_the_reference(seed):
    rng, model, chip, bits, layout = case(seed)
    scene, reference = make_scene(counts_of(model), chip, precision_of(**bits)), scalar.Scene(architecture(model), plain(chip), bits)
    batch, context, q = float(rng.integers(1, 3000)), float(rng.integers(1, 100_000)), float(rng.choice([1, 3]))
    got, want = decoded(scene, layout, batch, context, q), plans.decode(reference, plain(layout), batch, context, q)
    np.testing.assert_allclose(float(got.time_s), want.step_s, rtol=RTOL)
    for part, station in zip(got.parts.stations, want.parts, strict=True):
        np.testing.assert_allclose(float(part.time_s), station.time, rtol=RTOL, atol=1e-15)
    new, prefix = float(rng.integers(1, 40_000)), float(rng.choice([0, 5000]))
    got, want = prefilled(scene, layout, new, prefix), plans.prefill(reference, plain(layout), new, prefix)
    np.testing.assert_allclose(float(got.time_s), want.forward_s, rtol=RTOL)
    used = memory.serving_classes(scene, layout, 7.0, 3000.0, 500.0, layout.n_tp)
    wanted = plans.memory(reference, plain(layout), 7.0, 3000.0, 500.0, float(layout.n_tp))
    np.testing.assert_allclose(float(sum(used.values())), wanted, rtol=RTOL)


@pytest.mark.parametrize("seed", range(65))
def test_causes_add_up_and_bounds_hold(seed):
    _, model, chip, bits, layout = case(seed)
    scene = make_scene(counts_of(model), chip, precision_of(**bits))
    for ledger in (decoded(scene, layout, 300.0, 4000.0, detail=True), prefilled(scene, layout, 9000.0, detail=True)):
        totals, time_s = ledger.totals(), float(ledger.time_s)
        assert sum(float(totals[f"{k}_s"]) for k in ("compute", "memory", "network", "fixed")) == pytest.approx(time_s, rel=1e-12)
        assert totals["lower_s"] <= time_s * (1 + 1e-12) and time_s <= totals["upper_s"] * (1 + 1e-12)
        assert max(float(v) for v in ledger.busy.values()) <= 1 + 1e-12


@pytest.mark.parametrize("times", [(1.0, 1.0), (3.0, 1.0), (1.0, 0.2, 1.1, 0.3), (1.0, 0.4, 1.0, 0.4), (0.3, 2.0, 0.3, 2.0)])
@pytest.mark.parametrize("n_micro", [1, 2, 3, 4])
def test_a_ring_of_stations_turns_at_its_slowest_or_at_its_length(times, n_micro):
    assert plans.round_trip(times, n_micro) == pytest.approx(max(n_micro * max(times), sum(times)), rel=1e-9)


def test_a_plan_that_changes_nothing_changes_nothing():
    for seed in range(len(MODELS)):
        _, model, chip, bits, layout = case(seed)
        scene, bare = make_scene(counts_of(model), chip, precision_of(**bits)), replace(layout, plan=None)
        assert bool(layout.is_consistent) and float(layout.n_devices) == float(bare.n_devices)
        for run, args in ((decoded, (300.0, 4000.0)), (prefilled, (20000.0, 100.0))):
            with_it, without = run(scene, layout, *args, detail=True), run(scene, bare, *args, detail=True)
            for name in ("time_s", "fixed_s", "slack_s"):
                np.testing.assert_allclose(getattr(with_it, name), getattr(without, name), rtol=1e-12)
            for name, value in without.totals().items():
                np.testing.assert_allclose(with_it.totals()[name], value, rtol=1e-12)
        np.testing.assert_allclose(memory.serving_weights(scene, layout), memory.serving_weights(scene, bare), rtol=0)


@pytest.mark.parametrize("model", ["deepseek-v3", "llama-3.1-70b", "gpt-oss-120b"])
def test_a_batch_of_plans_is_its_rows(model):
    rng, scene = np.random.default_rng(3), scene_of(model, "gb200_nvl72", "generic", (8, 8, 8))
    rows = [planned(rng, counts_of(model), KINDS[i % len(KINDS)]) for i in range(25)]
    together = with_plan(
        Layout(*(np.array([row.columns[k] for row in rows]) for k in list(rows[0].columns)[:7])),
        {k: np.array([row.columns[k] for row in rows]) for k in PLAIN},
    )
    for run, args in ((decoded, (500.0, 8000.0)), (prefilled, (12000.0, 0.0))):
        ledger = run(scene, together, *args)
        for i, row in enumerate(rows):
            alone = run(scene, row, *args)
            for name in ("time_s", "fixed_s", "slack_s"):
                assert np.broadcast_to(getattr(ledger, name), (25,))[i] == pytest.approx(float(getattr(alone, name)), rel=1e-12, abs=1e-18)


# --- closed forms ----------------------------------------------------------------------------------------------------------


def bandwidth_limit(d_ff, n, **changes):
    """A plain dense model on the ideal engine, with a domain that holds everything."""
    counts = census(fill(dict(n_layers=10, d_model=4096, vocab=1000, n_heads=n, d_head=128, n_kv_heads=n, d_ff=d_ff, ffn_gated=0)))
    return make_scene(counts, changed(chip_of("h200_sxm_node", "ideal"), scale_up_size=np.float64(4096), **changes), precision_of())


@pytest.mark.parametrize("n", [64, 256, 1024])
def test_two_dimensions_win_by_the_root_of_the_devices(n):
    """Pope et al. (2211.05102, section 3.2.2), d_ff = 4 d: 2 t d in one dimension, 8 t d / sqrt(n) in two, at x = sqrt(n) / 2."""
    scene, x = bandwidth_limit(4 * 4096, n), np.sqrt(n) / 2.0
    one, two = (decoded(scene, with_plan(layout_of(n_tp=n), {"n_ffn_x": v}), 4096, 1.0, detail=True) for v in (1.0, x))
    flat = (seconds(one, "TP all-reduce") - seconds(two, "TP all-reduce")) / 10  # what the FFN's all-reduce took in one layer
    cut = seconds(two, "2-D FFN exchange") / 10
    stream = 4096 * 4096 * ACT_BYTES / float(scene.chip.scale_up.bytes_per_s)
    assert flat == pytest.approx(2.0 * (n - 1) / n * stream, rel=1e-9)
    assert cut == pytest.approx(2.0 * stream * ((1 - x / n) / x + 4.0 * x / n * (1 - 1 / x)), rel=1e-9)
    assert flat / cut == pytest.approx(np.sqrt(n) / 4.0, rel=0.35 if n == 64 else 0.16 if n == 256 else 0.05)
    assert one.time_s > two.time_s
    flops = [float(next(op.flop for op in run.ops if op.name == "dense FFN")) for run in (one, two)]
    assert flops[0] == flops[1]


def test_gathered_weights_pay_above_the_tokens_of_the_closed_form():
    """All n devices gathered: the weights travel instead of the tokens, so it pays above t* = W b_w / (2 d b_act), d_ff here."""
    n, d_ff = 16, 2048
    scene = bandwidth_limit(d_ff, n)
    for factor, pays in ((0.8, False), (0.99, False), (1.01, True), (2.0, True)):
        runs = [prefilled(scene, with_plan(layout_of(n_tp=n), {"n_gather": g}), factor * d_ff, detail=True) for g in (1.0, float(n))]
        names = ("TP all-reduce", "FFN weights gather", "gathered FFN exchange")
        sent = [seconds(run, *names) for run in runs]
        assert (sent[1] < sent[0]) == pays
    tokens, wide = 4 * d_ff, {}
    for g in (1.0, 2.0, 4.0, 8.0, 16.0):
        wide[g] = seconds(prefilled(scene, with_plan(layout_of(n_tp=n), {"n_gather": g}), tokens, detail=True), *names)
    assert min(wide, key=wide.get) == pytest.approx(np.sqrt(tokens * n / d_ff), abs=8.0)  # appendix A: N = sqrt(t n / d_ff) = 8
    assert min(wide, key=wide.get) in (8.0, 16.0)


def test_answers_do_not_gather():
    scene = bandwidth_limit(2048, 16)
    times = [float(decoded(scene, with_plan(layout_of(n_tp=16), {"n_gather": g}), 64, 1000.0).time_s) for g in (1.0, 16.0)]
    assert times[0] == times[1]


def free_network(chip):
    inf = np.float64(np.inf)
    return changed(chip, scale_up__bytes_per_s=inf, scale_out__bytes_per_s=inf, scale_up_peer_bytes_per_s=inf, hbm_bytes_per_s=inf)


def apart(n_dp, n_ffn, n_micro, **more):
    degrees = {"n_tp": 1, "n_cp": 1, "n_dp": n_dp, "n_pp": 1, "n_etp": n_ffn, "n_ep": 1, "n_edp": 1} | more
    return with_plan(Layout(*(np.float64(v) for v in degrees.values())), {"n_ffn": float(n_ffn), "n_micro": float(n_micro)})


def test_equal_halves_without_network_are_as_fast_as_one_group():
    """Compute alone, attention and FFN in balance: half of the devices for each takes as long as all of them for both in turn."""
    counts = counts_of("llama-2-7b")
    scene = make_scene(counts, free_network(chip_of("h200_sxm_node", "ideal")), precision_of())

    def parts(context):
        found = decoded(scene, apart(8, 8, 2), 512, context).parts
        return float(found.attention.time_s), float(found.ffn.time_s)

    (a0, ffn), (a1, _) = parts(0.0), parts(1000.0)
    context = 1000.0 * (ffn - a0) / (a1 - a0)  # where attention takes as long as the FFN
    assert context > 0
    together = [float(decoded(scene, layout_of(n_dp=16), 512, context).time_s)]
    halves = [float(decoded(scene, apart(8, 8, m), 512, context).time_s) for m in (1, 2, 4)]
    assert halves[0] == pytest.approx(2.0 * together[0], rel=1e-9)  # one micro-batch: half of the devices always wait
    assert halves[1] == pytest.approx(together[0], rel=1e-9) and halves[2] == pytest.approx(together[0], rel=1e-9)
    uneven = float(decoded(scene, apart(12, 4, 2), 512 * 12 / 8, context).time_s) / 12 * 8
    assert uneven > 1.2 * together[0]


def test_megascale_condition():
    """arXiv 2504.02263 equation 3: from m = 2 (1 + T_c / T_f) on, attention never waits, and more micro-batches bring only fixed time."""
    scene = scene_of("deepseek-v3", "gb200_nvl72", "ideal", (8, 8, 8))
    for m in (1, 2, 3, 4, 6, 8):
        ledger = decoded(scene, apart(32, 32, m, n_etp=1, n_ep=32), 32 * 840, 3000.0)
        a, f, there, back = (float(part.time_s) for part in ledger.parts.stations)
        slowest, link = max(a, f), 0.5 * (there + back)
        if m >= 2.0 * (1.0 + link / slowest):
            assert float(ledger.time_s) == pytest.approx(m * slowest, rel=1e-9)
        if m == 1:
            assert float(ledger.time_s) == pytest.approx(a + f + there + back, rel=1e-9)
        assert float(ledger.time_s) >= max(m * slowest, a + f + there + back) * (1 - 1e-12)


# --- nothing is free -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(0, 130, 2))
def test_faster_hardware_never_slows_a_plan(seed):
    _, model, chip, bits, layout = case(seed)
    faster = {
        "hbm_bytes_per_s": chip.hbm_bytes_per_s, "scale_out__bytes_per_s": chip.scale_out.bytes_per_s,
        "scale_up__bytes_per_s": chip.scale_up.bytes_per_s, "peak_flop_per_s__at_16": chip.peak_flop_per_s.at_16,
    }  # fmt: skip
    for name, value in faster.items():
        scenes = [make_scene(counts_of(model), c, precision_of(**bits)) for c in (chip, changed(chip, **{name: value * 2.0}))]
        for run, args in ((decoded, (900.0, 9000.0)), (prefilled, (7000.0, 0.0))):
            slow, fast = (float(run(scene, layout, *args).time_s) for scene in scenes)
            assert fast <= slow * (1 + 1e-9)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-v3"])
def test_two_batches_cost_what_they_repeat(model):
    """Without anything to hide behind kernels, two halves are slower than the whole: fixed times twice, weights read twice."""
    layout = layout_of(n_tp=8) if model != "deepseek-v3" else layout_of(n_dp=64, n_ep=64)
    chip = chip_of("gb200_nvl72", "generic")
    quiet = changed(
        chip, scale_up__bytes_per_s=np.float64(np.inf), scale_up__all_to_all_t0_s=np.float64(0), scale_up__gather_t0_s=np.float64(0)
    )
    for scene in (make_scene(counts_of(model), c, precision_of()) for c in (chip, quiet)):
        whole, halves = (decoded(scene, with_plan(layout, {"overlap": v}), 64 * 16, 2000.0) for v in (0.0, 1.0))
        kernels = [sum(float(part.kernels.time_s) for part in x.parts.stations) for x in (whole, halves)]
        assert 2.0 * kernels[1] > kernels[0]
        assert float(halves.time_s) >= 2.0 * kernels[1]
    assert float(halves.time_s) > float(whole.time_s)
    assert float(halves.slack_s) == 0.0 and float(halves.fixed_s) == 0.0  # waiting time is lent once


def test_messages_take_their_share_of_the_processors():
    scene = scene_of("llama-3.1-70b", "h100_sxm", "generic", (8, 16, 8))
    layout = with_plan(layout_of(n_tp=8), {"overlap": 1.0})
    bare = replace(scene, chip=replace(scene.chip, copy_frac=np.float64(0.0)))
    assert float(prefilled(scene, layout, 8192).time_s) > float(prefilled(bare, layout, 8192).time_s)
    assert float(prefilled(bare, layout, 8192).time_s) > 0.5 * float(prefilled(scene, replace(layout, plan=None), 8192).time_s)


def test_each_side_holds_its_own():
    """KV and attention weights on attention devices, experts on the others; both are devices of the replica."""
    scene, layout = scene_of("deepseek-v3", "gb200_nvl72", "generic", (8, 8, 8)), apart(40, 32, 2, n_etp=1, n_ep=32)
    assert float(layout.n_devices) == 72 and bool(layout.is_consistent) and bool(fits_shape(layout, scene.census))
    attention, ffn = (float(v) for v in memory.weights_apart(scene, layout))
    everything = float(memory.serving_weights(scene, layout_of()))
    copies = float(feed_forward.dense_params_apart(scene, layout)[1])  # of dense and shared FFNs: every FFN device has them whole
    assert 32 * ffn + attention - 31 * copies == pytest.approx(everything, rel=1e-3)
    long, short = (memory.serving_classes(scene, layout, 128.0, tok, 128.0, 1.0) for tok in (50_000.0, 1.0))
    assert float(long["weights"]) == attention and float(long["kv"]) > 0
    assert float(short["weights"]) == ffn and float(short["kv"]) == 0.0


def test_energy_counts_both_groups():
    """Joules of a step: FFN operators happen on the FFN devices, whatever part of the attention devices these are."""
    scene = scene_of("deepseek-v3", "gb200_nvl72", "ideal", (8, 8, 8))
    load, work = decode.Load(np.float64(4096), np.float64(1000.0)), {}
    for name, layout in (("together", layout_of(n_dp=32, n_ep=32)), ("apart", apart(64, 32, 1, n_etp=1, n_ep=32))):
        ledger = decode.step(scene, layout, load, decode.mean_experts(scene, layout, load), detail=True)
        work[name] = sum(float(op.flop) for op in ledger.work if op.name == "routed experts") * float(layout.n_stage)
    assert work["apart"] == pytest.approx(work["together"], rel=1e-9)


# --- candidates ------------------------------------------------------------------------------------------------------------


def test_plans_are_tried_once_each():
    degrees = {"n_tp": (1, 4), "n_dp": (8,), "n_pp": (1,), "overlap": (0, 1), "n_ffn": (0, 16), "n_micro": (2, 3), "n_ffn_x": (1, 4)}
    layout = serving_grid(True, 128, degrees).layout
    rows = list(zip(*(v.tolist() for v in layout.columns.values()), strict=True))
    assert len(set(rows)) == len(rows)
    found = {k: v for k, v in layout.columns.items()}
    together = found["n_ffn"] == 0
    assert np.all(found["n_micro"][together] == 1) and set(found["n_micro"][~together]) == {2.0, 3.0}
    assert not np.any(found["overlap"][~together]) and np.all(found["n_ffn_x"][~together] == 1)
    assert np.all(layout.is_consistent) and np.all(found["n_ep"][~together] == 16)
    assert serving_grid(True, 128, {}).layout.plan is None
