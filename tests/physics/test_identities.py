"""Closed forms and identities of the physics that can be checked by hand."""

import numpy as np
import pytest
from physics_cases import CHIPS, ENGINES, MODELS, chip_of, counts_of, layout_of, random_layout, scene_of

from codesign.physics import collectives, failures, memory, operators
from codesign.physics.architecture import kv_bytes_per_tok
from codesign.physics.experts import touched_fullest, touched_mean
from codesign.physics.kernels import BOUNDS
from codesign.physics.phases import decode, prefill, train
from codesign.point import evaluate_point
from codesign.service import traffic as service
from codesign.service.traffic import Traffic


def step(scene, layout=None, batch=1.0, context=1.0, q=1.0):
    layout = layout_of() if layout is None else layout
    load = decode.Load(np.float64(batch), np.float64(context), np.float64(q))
    return decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load), detail=True)


def op(ledger, name):
    return next(o for o in ledger.ops if o.name == name)


def job(seq=4096, micro=1, batch=8, recompute=1, zero=1, interleave=1):
    return train.Job(*(np.float64(v) for v in (seq, micro, batch, recompute, zero, interleave)))


def traffic_of(**changes):
    values = dict(isl_tok=1000, osl_tok=200, isl_sd_tok=0, osl_sd_tok=0, prefix_tok=0, accepted_tok=1, q_tok=1, demand_tok_per_s=1e4,
                  peak_to_mean=1)  # fmt: skip
    return Traffic(**{k: np.float64(v) for k, v in (values | changes).items()})


# --- cache and weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, bits, n_bytes",
    [
        ("llama-2-7b", 16, 32 * 2 * 32 * 128 * 2),
        ("llama-3.1-70b", 16, 80 * 2 * 8 * 128 * 2),
        ("llama-3.1-70b", 8, 80 * 2 * 8 * 128),
        ("llama-3.1-70b", 4, 80 * 2 * 8 * 128 * 0.5625),
        ("deepseek-v3", 16, 61 * 1152),
        ("deepseek-v3", 8, 61 * 656),
        ("qwen3-next-80b-a3b", 16, 12 * 2 * 2 * 256 * 2),
        ("gemma-3-27b", 16, 62 * 2 * 16 * 128 * 2),
    ],
)
def test_kv_bytes_per_token(model, bits, n_bytes):
    assert kv_bytes_per_tok(counts_of(model), bits) == n_bytes


def test_a_window_caps_the_cache_of_its_layers():
    scene, tokens = scene_of("gemma-3-27b"), 100_000.0
    per_layer = 2 * 16 * 128 * 2
    want = (10 * tokens + 52 * 1024) * per_layer
    assert memory.kv_cache(scene, layout_of(), 1.0, tokens) == pytest.approx(want)


def test_kv_per_device():
    """GQA divides by min(tp, KV heads), MLA by nothing under TP, both by cp; PP by nothing when its stages are all busy."""
    llama, v3 = scene_of("llama-3.1-70b"), scene_of("deepseek-v3")

    def ratio(scene, n_seq=1.0, **degrees):
        return memory.kv_cache(scene, layout_of(**degrees), n_seq, 1000.0) / memory.kv_cache(scene, layout_of(), 1.0, 1000.0)

    assert ratio(llama, n_tp=8) == pytest.approx(1 / 8)
    assert ratio(llama, n_tp=16) == pytest.approx(1 / 8)
    assert ratio(v3, n_tp=8) == pytest.approx(1)
    assert ratio(v3, n_cp=4) == pytest.approx(1 / 4)
    assert ratio(llama, n_seq=4.0, n_pp=4) == pytest.approx(1)


def test_linear_layers_hold_a_constant_state():
    scene = scene_of("nemotron-h-8b")
    cached = [memory.kv_cache(scene, layout_of(), 1.0, s) for s in (0.0, 1e4, 2e4)]
    assert cached[0] > 0 and cached[2] - cached[1] == pytest.approx(cached[1] - cached[0])
    assert cached[1] - cached[0] == pytest.approx(4 * 2 * 8 * 128 * 2 * 1e4)  # 4 attention layers of 8 KV heads


def test_training_state_is_18_bytes_per_parameter():
    scene = scene_of("llama-2-7b", training=True)
    classes = train.memory_classes(scene, layout_of(), job(zero=0))
    state = sum(classes[k] for k in ("weights", "gradients", "optimizer"))
    assert state == pytest.approx(18 * float(counts_of("llama-2-7b").n_params), rel=1e-3)
    sharded = train.memory_classes(scene, layout_of(n_dp=8), job(zero=1))
    assert sharded["optimizer"] == pytest.approx(classes["optimizer"] / 8) and sharded["gradients"] == classes["gradients"]


# --- rooflines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["llama-3.1-70b", "llama-2-7b", "gemma-3-27b"])
def test_ideal_decode_of_one_sequence_streams_the_weights(model):
    scene = scene_of(model)
    ledger = step(scene)
    weights = decode.weights_read(scene, layout_of(), 0.0)
    assert ledger.time_s == pytest.approx(float(weights / scene.chip.hbm_bytes_per_s), rel=2e-3)
    assert weights == pytest.approx(
        2 * float(counts_of(model).n_active_params_excl_in if model != "gemma-3-27b" else counts_of(model).n_active_params), rel=1e-3
    )


def test_one_device_sends_nothing():
    for model in MODELS:
        ledger = step(scene_of(model, engine="generic"), batch=64.0, context=4096.0)
        assert all(o.network_s == 0 for o in ledger.ops)
        assert all(o.time_s == 0 for o in ledger.ops if "all-" in o.name or "expert dispatch" in o.name)


@pytest.mark.parametrize("model", MODELS)
def test_infinite_bandwidth_leaves_compute(model):
    scene = scene_of(model, hbm_bytes_per_s=np.inf)
    ledger = step(scene, batch=64.0, context=4096.0)
    used = [o for o in ledger.ops if o.time_s > 0]
    assert used and all(BOUNDS[int(o.bound)] == "compute" for o in used)
    flop = sum(float(o.flop) for o in ledger.ops)
    assert ledger.time_s == pytest.approx(flop / 989e12, rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_decode_multiplies_every_active_weight_once(model):
    """Without narrow shards and padding: 2 x active weights x tokens, within 1 % (norms and convolutions ride along)."""
    ledger = step(scene_of(model), batch=64.0, context=0.0)
    flop = sum(float(o.flop) for o in ledger.ops if "cache" not in o.name)
    counts = counts_of(model)
    assert flop == pytest.approx(64 * 2 * float(counts.n_matmul_params_per_tok + counts.head_params), rel=0.01)


def test_b_star_of_an_h100_is_its_ridge():
    """A bf16 GEMM turns compute-bound at about peak/bandwidth = 295 tokens; activations shift it by a few."""
    scene = scene_of("llama-3.1-70b", "h100_sxm")
    bound = [BOUNDS[int(op(step(scene, batch=b), "dense FFN").bound)] for b in (280.0, 330.0)]
    assert pytest.approx(295, abs=1) == 989e12 / 3.35e12 and bound == ["memory", "compute"]


@pytest.mark.parametrize("chip, bound", [("h100_sxm", "memory"), ("h200_sxm", "compute")])
def test_mla_decode_intensity(chip, bound):
    """2 h 1088 / (576 x 2) = 242 FLOP/byte for 128 heads in bf16: below the ridge of an H100, above that of an H200."""
    attention = op(step(scene_of("deepseek-v3", chip), batch=64.0, context=8192.0), "attention over cache")
    assert pytest.approx(242, abs=0.5) == 2 * 128 * 1088 / 1152
    assert attention.flop / attention.bytes == pytest.approx(2 * 128 * 1088 / 1152, rel=1e-9)
    assert BOUNDS[int(attention.bound)] == bound


def test_mla_intensity_rises_with_drafts_and_falls_with_tp():
    attention = op(step(scene_of("deepseek-v3"), batch=64.0, context=8192.0, q=3.0), "attention over cache")
    assert attention.flop / attention.bytes == pytest.approx(3 * 2 * 128 * 1088 / 1152)
    attention = op(step(scene_of("deepseek-v3"), layout_of(n_tp=8), 64.0, 8192.0), "attention over cache")
    assert attention.flop / attention.bytes == pytest.approx(2 * 16 * 1088 / 1152)


def test_sparse_attention_reads_its_selection_and_all_index_keys():
    scene = scene_of("deepseek-v3.2", bits=(8, 16, 8))
    near, far = (op(step(scene, context=s), "attention over cache") for s in (4096.0, 8192.0))
    assert float(far.bytes - near.bytes) / (61 * 4096) == pytest.approx(132, abs=4.1)  # one fp8 index key of 128, with or without scale
    assert float(far.flop - near.flop) == pytest.approx(61 * 4096 * 2 * 64 * 128)


# --- experts ---------------------------------------------------------------------------------------------------------------


def test_experts_touched_by_the_fullest_device():
    """DeepSeek-V3 on 64 devices: 10 x the mean at one token, 1.15 x at 64; all of them in the end."""
    ratios = [float(touched_fullest(256, 8, b, 64) / touched_mean(256, 8, b, 64)) for b in (1.0, 64.0)]
    assert ratios[0] == pytest.approx(10, rel=0.05) and ratios[1] == pytest.approx(1.15, abs=0.01)
    assert touched_fullest(256, 8, 1e7, 64) == pytest.approx(4)
    assert touched_fullest(256, 8, 37.0, 1) == pytest.approx(float(touched_mean(256, 8, 37.0, 1)))


def test_experts_touched_by_simulation():
    rng = np.random.default_rng(0)
    n_tok, trials, ep = 48, 2000, 16
    picks = np.argpartition(rng.random((trials, n_tok, 128)), 8, axis=2)[:, :, :8]
    hit = np.zeros((trials, 128), dtype=bool)
    np.put_along_axis(hit, picks.reshape(trials, -1), True, axis=1)
    fullest = hit.reshape(trials, ep, -1).sum(axis=2).max(axis=1).mean()
    assert touched_fullest(128, 8, n_tok, ep) == pytest.approx(fullest, rel=0.01)


# --- bounds, tensor parallelism, training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_lower_estimate_upper(seed):
    rng = np.random.default_rng(seed)
    model = str(rng.choice(MODELS))
    layout, scene = random_layout(rng, counts_of(model)), scene_of(model, str(rng.choice(CHIPS)), str(rng.choice(ENGINES)))
    ledger = step(scene, layout, float(rng.integers(1, 500)), float(rng.integers(1, 1e5)))
    totals = ledger.totals()
    assert totals["lower_s"] <= ledger.time_s * (1 + 1e-12) and ledger.time_s <= totals["upper_s"] * (1 + 1e-12)
    assert sum(totals[f"{b}_s"] for b in BOUNDS) == pytest.approx(float(ledger.time_s), rel=1e-12)
    assert sum(float(o.time_s) for o in ledger.ops) == pytest.approx(float(ledger.time_s), rel=1e-12)


def test_tensor_parallel_speed_up_is_sublinear():
    """Measured at concurrency <= 8: 1.43 x for TP1 -> 2, 2.1 x for TP1 -> 8; a bare roofline claims nearly 8."""
    times = {tp: float(step(scene_of("qwen3-next-80b-a3b", engine="generic"), layout_of(n_tp=tp), 4.0, 2048.0).time_s) for tp in (1, 2)}
    dense = {tp: float(step(scene_of("llama-2-7b", engine="vllm"), layout_of(n_tp=tp), 4.0, 2048.0).time_s) for tp in (1, 2, 4, 8)}
    ideal = {tp: float(step(scene_of("llama-2-7b"), layout_of(n_tp=tp), 4.0, 2048.0).time_s) for tp in (1, 8)}
    gains = [dense[1] / dense[2], dense[2] / dense[4], dense[4] / dense[8]]
    assert times[1] / times[2] < 2
    assert 1 < gains[2] < gains[1] < gains[0] < 1.9 and dense[1] / dense[8] < 4 and 6 < ideal[1] / ideal[8] < 8


def test_a_large_ideal_training_step_runs_at_the_peak():
    scene, one = scene_of("llama-2-7b", training=True), layout_of()
    run = job(micro=8, batch=64, recompute=0, zero=0)
    mfu = float(train.model_flop(scene, run) / (train.step(scene, one, run).step_s * 989e12))
    assert 0.85 < mfu <= 1.0  # the rest: norms, activations and logits through HBM
    full = float(train.step(scene, one, job(micro=8, batch=64, recompute=2, zero=0)).step_s / train.step(scene, one, run).step_s)
    assert full == pytest.approx(4 / 3, rel=0.03)


def test_model_flop_is_6nd_plus_causal_attention():
    scene, run = scene_of("llama-2-7b", training=True), job(seq=2048, batch=1)
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 4096 * 32000
    assert train.model_flop(scene, run) == pytest.approx(2048 * (6 * weights + 3 * 32 * 2049 / 2 * 2 * 2 * 4096))


def test_prefill_flop_and_causal_pairs():
    scene = scene_of("llama-3.1-70b")
    matmul, attention = prefill.flop(scene, prefill.Prompt(np.float64(1000)))
    blocks = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
    assert matmul == pytest.approx(2 * 1000 * blocks + 2 * 128256 * 8192)
    assert attention == pytest.approx(80 * 1000 * 1001 / 2 * 4 * 64 * 128)
    for span in (np.inf, 512.0):  # a prompt in two pieces sees the same pairs
        whole = operators.causal_pairs(3000.0, 0.0, span)
        assert operators.causal_pairs(1200.0, 0.0, span) + operators.causal_pairs(1800.0, 1200.0, span) == pytest.approx(float(whole))
    brute = sum(min(i + 1, 7) for i in range(5, 30))
    assert operators.causal_pairs(25.0, 5.0, 7.0) == brute


def test_pipeline_bubble():
    scene, lay, run = scene_of("llama-3.1-70b", training=True), layout_of(n_tp=8, n_pp=8), job(batch=32)
    result = train.step(scene, lay, run)
    assert result.bubble_s / result.micro_s == pytest.approx(7)
    assert train.step(scene, lay, job(batch=32, interleave=2)).bubble_s / result.micro_s == pytest.approx(3.5, rel=0.01)


# --- network and service ---------------------------------------------------------------------------------------------------


def test_all_reduce_by_hand():
    chip = chip_of("h100_sxm", "ideal", 8.0)
    for n_bytes, n, want in ((1e6, 1, 0.0), (1e6, 2, 1e6 / 450e9), (1e6, 8, 2 * 7 / 8 * 1e6 / 450e9)):
        latency, transfer = collectives.all_reduce(n_bytes, float(n), chip)
        assert latency == 0 and transfer == pytest.approx(want)
    _, two_nodes = collectives.all_reduce(1e6, 16.0, chip)
    assert two_nodes == pytest.approx(2 * 7 / 8 * 1e6 / 450e9 + 2 * 1 / 2 * 1e6 / 8 / 50e9)


def test_a_mesh_pair_shares_one_link():
    chip = chip_of("mi300x_node", "ideal")
    assert [float(collectives.scale_up_bandwidth(n, chip)) for n in (2.0, 4.0, 8.0)] == [64e9, 192e9, 448e9]


@pytest.mark.parametrize("n, remote", [(8, 0.0), (16, 0.5), (64, 0.875)])
def test_remote_share_of_expert_traffic(n, remote):
    """1 - 8/n leaves an 8-device node: 16 tokens x top-8 x 7168 x 1 byte over a 50 GB/s NIC."""
    chip = chip_of("h100_sxm", "ideal", 8.0)
    _, transfer = collectives.expert_exchange(16.0, 8.0, 7168.0, 1.0, float(n), chip)
    near = 16 * 8 * 7168 * 7 / n / 450e9
    assert transfer == pytest.approx(max(16 * 8 * 7168 * remote / 50e9, near))


def test_deepep_on_h100():
    """Published: H100, 64 devices over InfiniBand, fp8 dispatch 1.09 us and bf16 combine 2.16 us per token; 8 devices 0.194 and 0.454."""
    chip = chip_of("h100_sxm_node", "vllm")
    for n, width, us in ((64, 1.0, 1.09), (64, 2.0, 2.16), (16, 1.0, 0.644)):
        per_tok = collectives.expert_exchange(1.0, 8.0, 7168.0, width, float(n), chip)[1] * 1e6
        assert per_tok == pytest.approx(us, rel=0.12)


def test_interference():
    """100 sequences of 500 tokens: a prompt every fifth step, alone or inside the step; at most one chunk per step finds room."""
    args = (np.float64(100), traffic_of(osl_tok=500), 0.3, 0.1)
    chunked = [float(service.interference(*args, slack)) for slack in (0.0, 0.02, 1.0)]
    stopped = traffic_of(osl_tok=500)
    alternating = service.interference(np.float64(100), Traffic(**{**vars(stopped), "chunked": np.bool_(False)}), 0.3, 0.1, 1.0)
    assert alternating == pytest.approx(100 / 500 * 0.3)
    assert chunked == pytest.approx([0.2 * (0.3 - 0.1), 0.2 * (0.3 - 0.1 - 0.02), 0.0])
    assert service.interference(*args, 0.02, 2.0) == pytest.approx(0.2 * (0.3 - 0.1 - 2 * 0.02))
    assert service.interference(*args, 0.002, 10.0) == pytest.approx(0.2 * 0.3 - (0.002 + 0.1 / 10))


def test_little_and_the_fleet():
    assert service.replicas(traffic_of(peak_to_mean=2), 3000.0) == 7
    charged = [
        float(service.charged_devices(r, n, domain)) for r, n, domain in ((33, 2, 8), (1, 64, 72), (2, 36, 72), (2, 40, 72), (2, 100, 72))
    ]
    assert charged == [72, 72, 72, 144, 288]
    assert service.charged_devices(3, 16, 8960) == 48  # a pod is let by the slice


def wall_over_work(every, mtbf, stall, restart):
    """Daly's expected time of a long job over its work: M e^(R/M) (e^((t + d)/M) - 1) / t."""
    return mtbf * np.exp(restart / mtbf) * np.expm1((every + stall) / mtbf) / every


def test_failures_and_daly():
    n = np.array([1.0, 1e3, 1e4, 1e5])
    share = failures.goodput_frac(n)
    assert np.all(np.diff(share) < 0) and share[0] > 0.99 and share[-1] > 0.5
    best, mtbf = failures.checkpoint_interval_s(n), failures.mean_time_between_failures_s(n)
    args = mtbf, failures.CHECKPOINT_S, failures.RESTART_S
    assert share == pytest.approx(1 / wall_over_work(best, *args), rel=1e-12)
    assert np.all(share <= 1 / (1 + np.sqrt(2 * failures.CHECKPOINT_S / mtbf) + failures.RESTART_S / mtbf))  # the first order is optimistic
    young = np.sqrt(2 * failures.CHECKPOINT_S * mtbf)
    for other in (0.9 * best, 1.1 * best, young):
        assert np.all(wall_over_work(other, *args) >= wall_over_work(best, *args))


@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 0.1, 0.5, 1.0, 1.9])
def test_the_interval_is_dalys_closed_form_and_near_the_numerical_optimum(ratio):
    """Equation 37 by hand, and against the minimum over intervals: within 1 % of its loss for d < M / 2."""
    mtbf = float(failures.mean_time_between_failures_s(1e4))
    d = ratio * mtbf
    got = float(failures.checkpoint_interval_s(1e4, d))
    x = d / (2 * mtbf)
    assert got == pytest.approx(np.sqrt(2 * d * mtbf) * (1 + np.sqrt(x) / 3 + x / 9) - d, rel=1e-12)
    every = mtbf * np.exp(np.linspace(np.log(1e-4), np.log(10), 200_001))
    exact = wall_over_work(every, mtbf, d, 0.0).min()
    assert wall_over_work(got, mtbf, d, 0.0) == pytest.approx(exact, rel=0.01 if ratio <= 0.5 else 0.05)


def test_checkpoints_slower_than_failures_are_written_once_per_failure():
    mtbf = float(failures.mean_time_between_failures_s(1e5))
    assert float(failures.checkpoint_interval_s(1e5, 2 * mtbf)) == float(failures.checkpoint_interval_s(1e5, 5 * mtbf)) == mtbf
    assert 0 <= float(failures.goodput_frac(1e12)) < 1e-100  # nothing survives, and nothing overflows


def test_a_pipeline_mixes_prompts_like_its_stages_apart():
    """Four stages of 64 sequences each meet as many prompts per step as one device with 64: TPOT differs by the hops alone."""
    common = {
        "model": "qwen3-30b-a3b",
        "system": "h200_sxm_node",
        "n_tp": 4,
        "n_etp": 4,
        "n_ep": 1,
        "isl": 2000,
        "osl": 400,
        "phase": "prefill,decode",
    }
    apart = evaluate_point({**common, "batch": 64})["decode"]
    piped = evaluate_point({**common, "batch": 256, "n_pp": 4})["decode"]
    assert apart["tpot_s"] - apart["step_s"] > 1e-4
    assert piped["tpot_s"] == pytest.approx(apart["tpot_s"], rel=0.02) and piped["tpot_s"] >= apart["tpot_s"]
