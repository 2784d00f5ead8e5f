"""The vectorised evaluator against an independent scalar implementation, written from the equations, at 1e-9."""

from types import SimpleNamespace as Record

import numpy as np
import pytest
from physics_cases import (
    CHIPS,
    ENGINES,
    MODELS,
    architecture,
    chip_of,
    counts_of,
    plain,
    precision_of,
    random_layout,
)
from reference import machine, scalar, service
from reference.counts import model_of, total_params

from codesign.physics.experts import touched_fullest, touched_mean
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.service.traffic import Traffic
from codesign.units import serve_unit, serving, training
from codesign.units.candidates import Grid

RTOL = 1e-9
DOMAINS = (None, None, 4.0, 16.0, 6.0)  # as sold, smaller, larger, and one that groups do not divide
N_PER_MODEL = 20
TEXT = 1.07  # tokens of the design's vocabulary for the text of one token of demand


def draw(seed: int):
    """One random configuration: model, chip, engine, precision, layout, load."""
    rng = np.random.default_rng(seed)
    model = MODELS[seed % len(MODELS)]
    chip = chip_of(str(rng.choice(CHIPS)), str(rng.choice(ENGINES)), DOMAINS[rng.integers(len(DOMAINS))])
    bits = dict(zip(("weight_bits", "kv_bits", "act_bits"), (int(v) for v in rng.choice([4, 8, 16], 3)), strict=True))
    return rng, model, chip, bits


CASES = range(N_PER_MODEL * len(MODELS))


def close(got, want, what=""):
    np.testing.assert_allclose(float(got), want, rtol=RTOL, atol=1e-300, err_msg=what)


def same_clock(ledger, clock):
    close(ledger.time_s, clock.time, "time")
    close(ledger.fixed_s, clock.fixed, "fixed")
    close(ledger.slack_s, clock.slack, "slack")
    totals = ledger.totals()
    for got, want in zip((totals["lower_s"], totals["upper_s"]), clock.bounds(), strict=True):
        close(got, want, "bound")
    assert clock.bounds()[0] <= clock.time * (1 + 1e-12) and clock.time <= clock.bounds()[1] * (1 + 1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_counts(model):
    m, counts = model_of(architecture(model)), counts_of(model)
    close(counts.n_params, total_params(m, architecture(model).get("learned_positions", 0)))
    close(counts.n_matmul_params_per_tok, m.matmul)
    close(counts.head_params, m.table)


@pytest.mark.parametrize("seed", CASES)
def test_decode(seed):
    rng, model, chip, bits = draw(seed)
    layout = random_layout(rng, counts_of(model))
    batch, context, q = float(rng.integers(1, 2000)), float(rng.integers(1, 200_000)), float(rng.choice([1, 1, 3]))
    scene, reference = make_scene(counts_of(model), chip, precision_of(**bits)), scalar.Scene(architecture(model), plain(chip), bits)
    load = decode.Load(np.float64(batch), np.float64(context), np.float64(q))
    touched = decode.fullest_experts(scene, layout, load)
    want = scalar.decode(reference, plain(layout), batch, context, q)
    close(touched, want.touched)
    same_clock(decode.step(scene, layout, load, touched, detail=True), want.clock)
    close(decode.weights_read(scene, layout, touched), want.weight_bytes)
    mean = decode.mean_experts(scene, layout, load) if scene.has_moe() else 0.0
    close(decode.weights_read(scene, layout, mean), want.weight_bytes_mean)
    used = sum(decode.memory_classes(scene, layout, load, np.float64(context), 512.0).values())
    close(used, scalar.decode_memory(reference, plain(layout), batch, context, q, 512.0), "memory")


@pytest.mark.parametrize("seed", CASES)
def test_prefill(seed):
    rng, model, chip, bits = draw(seed)
    layout = random_layout(rng, counts_of(model))
    new, prefix = float(rng.integers(1, 60_000)), float(rng.choice([0, 1, 5000, 100_000]))
    scene = make_scene(counts_of(model), chip, precision_of(**bits))
    prompt = prefill.Prompt(np.float64(new), np.float64(prefix))
    ledger = prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt), detail=True)
    want = scalar.prefill(scalar.Scene(architecture(model), plain(chip), bits), plain(layout), new, prefix)
    same_clock(ledger, want.clock)
    close(prefill.ttft(ledger.time_s, layout, prompt), want.ttft_s)
    close(prefill.tokens_per_s(ledger.time_s, layout, prompt), want.tok_per_s)
    for got, expected in zip(prefill.flop(scene, prompt), (want.flop_matmul, want.flop_attention), strict=True):
        close(got, expected, "flop")
    close(sum(prefill.memory_classes(scene, layout, prompt).values()), want.memory_bytes, "memory")


@pytest.mark.parametrize("seed", CASES)
def test_train(seed):
    rng, model, chip, _ = draw(seed)
    bits = {"weight_bits": int(rng.choice([8, 16])), "kv_bits": 16}
    bits["act_bits"] = bits["weight_bits"]
    layout = random_layout(rng, counts_of(model))
    micro, per_rank, seq = int(rng.choice([1, 2, 4])), int(rng.integers(1, 40)), int(rng.choice([2048, 8192]))
    values = (seq, micro, micro * per_rank * float(layout.n_dp), rng.integers(3), rng.integers(4), rng.choice([1, 2]))
    job = train.Job(*(np.float64(v) for v in values))
    scene = make_scene(counts_of(model), chip, precision_of(**bits), training=True)
    got = train.step(scene, layout, job, detail=True)
    want = scalar.train(scalar.Scene(architecture(model), plain(chip), bits, training=True), plain(layout), plain(job))
    same_clock(got.ledger, want.clock)
    for name in ("step_s", "exchange_s", "update_s", "bubble_s"):
        close(getattr(got, name), getattr(want, name), name)
    close(train.model_flop(scene, job), want.flop)
    close(sum(train.memory_classes(scene, layout, job).values()), want.memory_bytes, "memory")
    if job.n_interleave == 1:
        rows = training.time_training(scene, layout, job)
        for name in ("s_per_tok", "device_s_per_tok", "fits"):
            close(rows[name], getattr(want, name), name)


def flat_design(seed: int):
    """Arguments of `evaluate_flat_design` and the same things as arrays."""
    rng, model, chip, bits = draw(seed)
    learn = chip_of(str(rng.choice(CHIPS)), "generic")
    lay_t, lay_s = random_layout(rng, counts_of(model)), random_layout(rng, counts_of(model))
    job = Record(seq_tok=4096.0, micro_batch=1.0, global_batch=float(8 * lay_t.n_dp), recompute=1.0, zero=1.0, n_interleave=1.0)
    isl, osl = float(rng.integers(100, 30_000)), float(rng.integers(16, 4000))
    traffic = Traffic(
        *(np.float64(v) for v in (isl, osl, isl * 0.5, osl * rng.random(), rng.choice([0, isl // 3]), rng.choice([1, 1.8]), 2, 1e6, 1.5)),
        chunked=np.bool_(rng.integers(2)),
    )
    return model, bits, learn, chip, lay_t, job, lay_s, float(rng.choice([1, 8, 100])), traffic


@pytest.mark.parametrize("seed", range(80))
def test_serving(seed):
    model, bits, _, chip, _, _, layout, per_rank, traffic = flat_design(seed)
    want = service.colocated(
        scalar.Scene(architecture(model), plain(chip), bits, tok_per_text=TEXT), plain(layout), per_rank, plain(traffic)
    )
    scene = make_scene(counts_of(model), chip, precision_of(**bits), tok_per_text=np.float64(TEXT))
    pre = serving.time_prefill(scene, layout, traffic, prefill.fullest_experts(scene, layout, serving.prompt_of(traffic)))
    load = decode.Load(per_rank * layout.n_dp, np.float64(0), traffic.q_tok)
    rows = serving.time_decode(scene, layout, np.float64(per_rank), traffic, decode.fullest_experts(scene, layout, load), pre)
    rows |= serving.fleet(traffic, rows["tok_per_s"], layout.n_devices, scene)
    names = ("tpot_s", "step_s", "tok_per_s", "memory_bytes", "fits", "prefill_busy_frac", "n_replicas", "n_devices")
    for name in (*names, "usd_per_tok", "reference_usd_per_tok", "j_per_tok"):
        close(rows[name], getattr(want, name), name)
    same_unit(scene, layout, per_rank, traffic, want)


@pytest.mark.parametrize("seed", range(20))
def test_whole_flat_design(seed):
    model, bits, learn, chip, lay_t, job, lay_s, per_rank, traffic = flat_design(seed)
    want = service.evaluate_flat_design(
        architecture(model), bits, plain(learn), plain(chip), plain(lay_t), job, plain(lay_s), per_rank, plain(traffic)
    )
    timed = training.time_training(
        make_scene(counts_of(model), learn, precision_of(), training=True), lay_t,
        train.Job(*(np.float64(v) for v in (job.seq_tok, job.micro_batch, job.global_batch, job.recompute, job.zero))),
    )  # fmt: skip
    for name in ("step_s", "s_per_tok", "memory_bytes", "fits"):
        close(timed[name], getattr(want.train, name), f"train {name}")
    same_unit(make_scene(counts_of(model), chip, precision_of(**bits)), lay_s, per_rank, traffic, want.serve)


def same_unit(scene, layout, per_rank, traffic, want):
    """The unit itself, which adds the queue to the TTFT."""
    same_row(serve_unit.colocated, scene, layout, per_rank, traffic, want, ("tpot_s", "ttft_s", "step_s"))


def same_row(unit, scene, layout, per_rank, traffic, want, names):
    """A unit on this one layout: it keeps the row when it fits."""
    grid = Grid(layout.map(lambda v: v[None]), np.array([per_rank]))
    found = unit(scene, grid, traffic, serve_unit.Need(), 1, paired=True)
    kept = want.fits and layout.n_tp <= scene.chip.scale_up_size
    assert found.design.size == kept
    for name in (*names, "memory_bytes", "n_replicas", "n_devices", "usd_per_tok", "j_per_tok") if kept else ():
        close(found.columns[name][0], getattr(want, name), f"unit {name}")


@pytest.mark.parametrize("seed", range(100, 150))
def test_pools_apart(seed):
    model, bits, _, chip, _, _, layout, per_rank, traffic = flat_design(seed)
    scene, reference = make_scene(counts_of(model), chip, precision_of(**bits)), scalar.Scene(architecture(model), plain(chip), bits)
    prompts = service.prefill_pool(reference, plain(layout), plain(traffic))
    same_row(serve_unit.prefill_pool, scene, layout, 1.0, traffic, prompts, ("ttft_s",))
    answers = service.decode_pool(reference, plain(layout), per_rank, plain(traffic))
    same_row(serve_unit.decode_pool, scene, layout, per_rank, traffic, answers, ("ttft_s", "tpot_s", "step_s"))


@pytest.mark.parametrize(
    "experts, active, ep", [(256, 8, 64), (256, 8, 1), (128, 8, 16), (64, 6, 64), (16, 1, 4), (8, 2, 8), (512, 10, 32)]
)
@pytest.mark.parametrize("n_tok", [1.0, 2.5, 17.0, 64.0, 1000.0, 1e5])
def test_experts_of_the_fullest_device(experts, active, ep, n_tok):
    close(touched_fullest(experts, active, n_tok, ep), machine.experts_of_fullest(experts, active, n_tok, ep))
    close(touched_mean(experts, active, n_tok, ep), machine.experts_of_mean(experts, active, n_tok, ep))
