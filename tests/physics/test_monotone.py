"""Guard rails against the optimizer: better hardware never hurts, more work never helps, nothing comes for free."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_cases import (
    CHIPS,
    ENGINES,
    MODELS,
    changed,
    chip_of,
    counts_of,
    layout_of,
    precision_of,
    random_layout,
)

from codesign.physics import collectives, memory
from codesign.physics.architecture import census, fill, kv_bytes_per_tok
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.units import serving

ROUND = 1 + 1e-9
quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)

FASTER = {
    "HBM bandwidth": ("hbm_bytes_per_s",),
    "peak": ("peak_flop_per_s__at_16", "peak_flop_per_s__at_8", "peak_flop_per_s__at_4"),
    "scale-up link": ("scale_up__bytes_per_s", "scale_up_peer_bytes_per_s"),
    "scale-out link": ("scale_out__bytes_per_s",),
}


@st.composite
def situations(draw, engines=ENGINES, chips=CHIPS):
    """(model, chip under an engine, bits, layout, batch, context)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    model = draw(st.sampled_from(MODELS))
    chip = chip_of(draw(st.sampled_from(chips)), draw(st.sampled_from(engines)), draw(st.sampled_from([None, 2.0, 8.0, 64.0])))
    bits = (draw(st.sampled_from([8, 16])), 16, draw(st.sampled_from([8, 16])))
    layout = random_layout(rng, counts_of(model))
    return model, chip, bits, layout, float(rng.integers(1, 3000)), float(rng.integers(1, 150_000))


def decode_s(counts, chip, bits, layout, batch, context):
    scene = make_scene(counts, chip, precision_of(*bits))
    load = decode.Load(np.float64(batch), np.float64(context))
    return float(decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load)).time_s)


def prefill_s(counts, chip, bits, layout, new, prefix=0.0):
    scene = make_scene(counts, chip, precision_of(*bits))
    prompt = prefill.Prompt(np.float64(new), np.float64(prefix))
    return float(prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt)).time_s)


def train_s(counts, chip, bits, layout, seq, zero=1.0, per_rank=8):
    scene = make_scene(counts, chip, precision_of(*bits), training=True)
    job = train.Job(*(np.float64(v) for v in (seq, 1, per_rank * layout.n_dp, 1, zero)))
    return float(train.step(scene, layout, job).step_s)


def all_phases(counts, chip, bits, layout, batch, context):
    return (
        decode_s(counts, chip, bits, layout, batch, context),
        prefill_s(counts, chip, bits, layout, context),
        train_s(counts, chip, bits, layout, 4096.0),
    )


@pytest.mark.parametrize("what", FASTER)
@quick
@given(situations(), st.sampled_from([1.01, 2.0, 50.0]))
def test_faster_hardware_never_slows_a_phase(what, situation, factor):
    model, chip, *rest = situation
    better = chip
    for path in FASTER[what]:
        target = chip
        for part in path.split("__"):
            target = getattr(target, part)
        better = changed(better, **{path: target * factor})
    for fast, slow in zip(all_phases(counts_of(model), better, *rest), all_phases(counts_of(model), chip, *rest), strict=True):
        assert fast <= slow * ROUND


@quick
@given(situations(), st.floats(1.0, 5.0))
def test_longer_context_is_never_faster(situation, factor):
    model, chip, bits, layout, batch, context = situation
    counts = counts_of(model)
    assert decode_s(counts, chip, bits, layout, batch, context * factor) * ROUND >= decode_s(counts, chip, bits, layout, batch, context)
    shorter, longer = prefill_s(counts, chip, bits, layout, context), prefill_s(counts, chip, bits, layout, context * factor)
    assert longer * ROUND >= shorter
    assert prefill_s(counts, chip, bits, layout, context, 5000.0) * ROUND >= shorter  # a cached prefix only adds pairs


@quick
@given(situations(engines=("ideal",)), st.integers(1, 64), st.integers(1, 8))
def test_larger_batch_never_lowers_throughput(situation, small, factor):
    """Whole micro-batches on every rank and stage; ideal engine, so no overhead grows with the batch."""
    model, chip, bits, layout, _, context = situation
    unit = float(layout.n_dp * layout.n_pp)
    rate = [unit * n / decode_s(counts_of(model), chip, bits, layout, unit * n, context) for n in (small, small * factor)]
    assert rate[1] * ROUND >= rate[0]


@quick
@given(situations(), st.integers(1, 500))
def test_larger_batch_never_shortens_a_step(situation, more):
    model, chip, bits, layout, batch, context = situation
    args = counts_of(model), chip, bits, layout
    assert decode_s(*args, batch + more, context) * ROUND >= decode_s(*args, batch, context)


@quick
@given(situations(engines=("ideal",)))
def test_fewer_weight_bits_never_slow_the_ideal_engine(situation):
    model, chip, _, layout, batch, context = situation
    times = [decode_s(counts_of(model), chip, (w, 16, 16), layout, batch, context) for w in (16, 8, 4)]
    assert times[2] <= times[1] * ROUND and times[1] <= times[0] * ROUND


@quick
@given(situations(engines=("ideal",)), st.sampled_from([(8.0, 4.0), (72.0, 8.0), (16.0, 2.0), (64.0, 1.0), (8.0, 6.0)]))
def test_smaller_domain_is_never_faster(situation, sizes):
    """A domain of 6 is left out of training: its expert exchange crosses once per domain, so a group of 8 that is cut in 6 and 2
    sends little over the NIC and less over the links."""
    model, chip, bits, layout, batch, context = situation
    wide, narrow = (all_phases(counts_of(model), changed(chip, scale_up_size=np.float64(s)), bits, layout, batch, context) for s in sizes)
    for name, fast, slow in zip(("decode", "prefill", "train"), wide, narrow, strict=True):
        assert slow * ROUND >= fast or (name == "train" and 6.0 in sizes), name


@st.composite
def shapes(draw):
    heads = draw(st.sampled_from([8, 16, 32]))
    shape = dict(n_layers=draw(st.integers(4, 100)), d_model=heads * 128, vocab=32000, n_heads=heads, n_kv_heads=8, d_ff=1024 * draw(st.integers(1, 20)))  # fmt: skip
    if draw(st.booleans()):
        shape |= dict(n_experts=64, n_active_experts=4, d_expert=512, n_dense_layers=draw(st.integers(0, 3)))
    if draw(st.booleans()):
        shape |= dict(attention="mla")
    elif draw(st.booleans()):
        shape |= dict(window_tok=1024, global_every=draw(st.integers(1, 6)))
    return shape


@quick
@given(shapes(), st.integers(1, 7), st.sampled_from([1, 2, 4]))
def test_more_layers_are_never_fewer_bytes(shape, more, pp):
    layout, chip = layout_of(n_tp=2, n_pp=pp), chip_of("h100_sxm", "generic")
    small, large = (census(fill(shape | {"n_layers": shape["n_layers"] + n})) for n in (0, more))
    assert large.n_params > small.n_params
    if not shape.get("global_every"):  # a longer model may have the same number of full layers, but never fewer bytes in all
        assert kv_bytes_per_tok(large, 16) > kv_bytes_per_tok(small, 16)
    scenes = [make_scene(c, chip, precision_of()) for c in (small, large)]
    for n_bytes in (lambda s: memory.serving_weights(s, layout), lambda s: memory.kv_cache(s, layout, 8.0, 5000.0)):
        assert n_bytes(scenes[1]) * ROUND >= n_bytes(scenes[0])


# --- nothing is free -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_every_kernel_and_message_has_a_fixed_time(model):
    """No latency for free: at least four kernels per layer and every message of a measured engine start late."""
    counts, layout = counts_of(model), layout_of(n_tp=2, n_dp=4, n_pp=2, n_ep=8 if counts_of(model).ffn.n_moe_layers > 0 else 1)
    if not counts.ffn.n_moe_layers > 0:
        layout = layout_of(n_tp=8, n_pp=2)
    scene = make_scene(counts, chip_of("h100_sxm_node", "generic"), precision_of())
    load = decode.Load(np.float64(8), np.float64(1))
    ledger = decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load), detail=True)
    used = [o for o in ledger.ops if o.time_s > 0 and o.name != "scheduler"]
    assert all(o.fixed_s > 0 for o in used)
    assert ledger.fixed_s > 4 * counts.n_layers * 1e-6
    assert {"TP all-reduce", "pipeline hop"} <= {o.name for o in used}


def test_a_pipeline_hop_costs_more_outside_the_domain():
    chip = chip_of("h100_sxm_node", "generic")
    near, far = (sum(map(float, collectives.hop(1e6, stride, chip))) for stride in (4.0, 8.0))
    assert 0 < near < far


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-v3", "gemma-3-27b", "nemotron-h-8b"])
def test_batches_end_at_the_memory(model):
    scene = make_scene(counts_of(model), chip_of("h200_sxm_node", "generic"), precision_of(8, 16, 16))
    layout = layout_of(n_tp=8) if model != "deepseek-v3" else layout_of(n_dp=8, n_ep=8)
    capacity = scene.chip.hbm_bytes * scene.chip.usable_frac
    fits = [
        sum(decode.memory_classes(scene, layout, decode.Load(np.float64(b), np.float64(2000)), 2000.0).values()) <= capacity
        for b in (1, 1e5, 1e7)
    ]
    assert fits[0] and not fits[2]


def traffic_of(**changes):
    values = dict(isl_tok=1000, osl_tok=500, isl_sd_tok=0, osl_sd_tok=0, prefix_tok=0, accepted_tok=1, q_tok=1, demand_tok_per_s=1e4, peak_to_mean=1.5)  # fmt: skip
    return Traffic(**{k: np.float64(v) for k, v in (values | changes).items()})


@given(st.floats(1.0, 1e7), st.integers(1, 128), st.integers(1, 72), st.floats(1.0, 10.0))
@quick
def test_fleet_is_whole_and_price_only_raises_cost(rate, n_devices, domain, dearer):
    chip = changed(chip_of("h100_sxm", "generic"), scale_up_size=np.float64(domain))
    rows = [serving.fleet(traffic_of(), np.float64(rate), np.float64(n_devices), make_scene(counts_of("llama-2-7b"), c, precision_of()))
            for c in (chip, changed(chip, usd_per_s=chip.usd_per_s * dearer))]  # fmt: skip
    assert rows[0]["n_replicas"] % 1 == 0 and rows[0]["n_devices"] >= rows[0]["n_replicas"] * n_devices * (1 - 1e-12)
    assert rows[1]["usd_per_tok"] >= rows[0]["usd_per_tok"]
    assert rows[1]["j_per_tok"] == rows[0]["j_per_tok"]
    assert rows[1]["reference_usd_per_tok"] == rows[0]["reference_usd_per_tok"]  # balance is not bought with a what-if price


@given(st.floats(1.0, 1e5), st.floats(0.0, 3.0), st.integers(1, 1000))
@quick
def test_held_tokens_shrink_towards_the_mean(osl, cv, n_seq):
    t = traffic_of(osl_tok=osl, osl_sd_tok=osl * cv)
    held = [float(service.held_tokens(t, n)) for n in (n_seq, n_seq * 4, 1e12)]
    assert held[0] >= held[1] >= held[2] * (1 - 1e-9) and held[2] >= 1000 + osl / 2 * (1 - 1e-9)
