"""What independent reviews found missing in physics and pipeline, each with the statement that must hold since its repair."""

from dataclasses import replace

import numpy as np
import pytest
from physics_cases import architecture, changed, chip_of, counts_of, layout_of, precision_of, scene_of

from codesign.physics import collectives, failures, memory
from codesign.physics.architecture import census, fill, index_bytes_per_tok
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.point import evaluate_point
from codesign.service import traffic as service
from codesign.service.traffic import Traffic
from codesign.spec.errors import UserError
from codesign.study import open_study
from codesign.units import serve_unit, serving
from codesign.units.candidates import Grid


def decode_ledger(scene, layout, batch=8.0, context=100_000.0):
    load = decode.Load(np.float64(batch), np.float64(context))
    return decode.step(scene, layout, load, decode.fullest_experts(scene, layout, load), detail=True)


def prefill_ledger(scene, layout, new, prefix=0.0):
    prompt = prefill.Prompt(np.float64(new), np.float64(prefix))
    return prefill.forward(scene, layout, prompt, prefill.fullest_experts(scene, layout, prompt), detail=True)


def sent_s(ledger):
    return sum(float(o.network_s) for o in ledger.ops)


def traffic_of(**changes):
    values = dict(isl_tok=1000, osl_tok=1000, isl_sd_tok=0, osl_sd_tok=0, prefix_tok=0, accepted_tok=1, q_tok=1, demand_tok_per_s=1, peak_to_mean=1)  # fmt: skip
    return Traffic(**{k: np.float64(v) for k, v in (values | changes).items()})


# --- nothing for free ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [lambda s, lay: decode_ledger(s, lay), lambda s, lay: prefill_ledger(s, lay, 100_000.0)])
def test_context_parallel_ranks_exchange_something(run):
    assert sent_s(run(scene_of("llama-3.1-70b", engine="generic"), layout_of(n_cp=8))) > 0


def test_every_prefill_chunk_launches_its_attention():
    ledger = prefill_ledger(scene_of("llama-3.1-70b", engine="generic"), layout_of(n_tp=8), 16 * 8192.0)
    attention = next(o for o in ledger.ops if o.name == "attention")
    assert attention.fixed_s == pytest.approx(16 * 80 * float(chip_of("h100_sxm").prefill_attention.t0_s.at_16))


def test_the_fullest_stage_sets_the_pace_of_decode():
    scene = scene_of("deepseek-v3", "h200_sxm_node", bits=(8, 16, 8))
    whole, staged = (decode_ledger(scene, layout_of(n_dp=8, n_ep=8, n_pp=pp), 64.0 * pp, 2000.0) for pp in (1, 4))
    layers = [sum(float(o.time_s) for o in lg.ops if o.name not in ("LM head", "pipeline hop")) for lg in (whole, staged)]
    assert layers[1] >= layers[0] * 64 / 61 * (1 - 1e-9)


def test_the_fullest_stage_sets_the_pace_of_prefill():
    scene, prompt = scene_of("deepseek-v3", "h200_sxm_node", bits=(8, 16, 8)), prefill.Prompt(np.float64(4096))
    rates = [
        float(prefill.tokens_per_s(prefill_ledger(scene, layout_of(n_pp=pp), 4096.0).time_s, layout_of(n_pp=pp), prompt)) for pp in (1, 4)
    ]
    assert rates[1] <= 4 * rates[0] * 61 / 64 * 1.01


def test_ranks_of_a_context_also_exchange_the_prefix():
    scene = scene_of("llama-3.1-70b")
    sent = [sent_s(prefill_ledger(scene, layout_of(n_cp=8), 8192.0, prefix)) for prefix in (0.0, 100_000.0)]
    assert sent[1] > sent[0]


def test_a_recurrence_has_no_partial_outputs_to_sum():
    model = "qwen3-next-80b-a3b"
    ledger = decode_ledger(scene_of(model, engine="generic"), layout_of(n_cp=2))
    n_bytes = 8 * 16 * (256 + 1) * 2  # 8 sequences, 16 heads of 256 and a softmax weight each, 12 attention layers
    once = sum(collectives.all_reduce(np.float64(n_bytes), 2.0, chip_of("h100_sxm")))
    assert sum(float(o.time_s) for o in ledger.ops if o.name == "CP reduction") == pytest.approx(12 * float(once))


def test_tensor_parallel_ranks_all_run_the_whole_indexer():
    """DeepSeek-V3.2-Exp inference/model.py: `Indexer` holds and scores all index heads on every rank."""
    scene, pairs = scene_of("deepseek-v3.2", bits=(8, 16, 8)), 65536 * 65537 / 2
    flop = [sum(float(o.flop) for o in prefill_ledger(scene, layout_of(n_tp=tp), 65536.0).ops if o.name == "attention") for tp in (1, 8)]
    index = 61 * pairs * 2 * 64 * 128
    assert flop[1] == pytest.approx(index + (flop[0] - index) / 8)


def test_experts_of_a_latent_moe_read_the_latent():
    scene, layout = scene_of("nemotron-3-super-120b-a12b"), layout_of(n_dp=8, n_ep=8)
    experts = [next(o for o in prefill_ledger(scene, layout, n).ops if o.name == "routed experts") for n in (4096.0, 8192.0)]
    assert float(experts[1].bytes - experts[0].bytes) == pytest.approx(40 * 4096 * 22 * 2 * 1024 * 2, rel=1e-6)


def test_accepted_drafts_cost_their_verification():
    base = {"model": "llama-3.1-70b", "system": "h100_sxm_node", "phase": "decode", "n_tp": 8, "batch": 256}
    plain, drafted = (evaluate_point(base | d)["decode"] for d in ({}, {"n_draft": 3, "accepted": 3.0}))
    assert drafted["step_s"] > plain["step_s"] and 3 * drafted["tpot_s"] > drafted["step_s"]  # verifying, and proposing
    with pytest.raises(UserError):
        evaluate_point(base | {"accepted": 3.0})


@pytest.mark.parametrize("degrees", [{"n_tp": 3}, {"n_tp": 1, "n_pp": 200}, {"n_tp": 4, "n_ep": 4}])
def test_impossible_degrees_are_refused(degrees):
    with pytest.raises(UserError):
        evaluate_point({"model": "llama-3.1-70b", "system": "h100_sxm_node", "phase": "decode"} | degrees)


# --- network ---------------------------------------------------------------------------------------------------------------


def test_a_hop_on_a_mesh_uses_one_link():
    assert collectives.hop(64e6, 1.0, chip_of("mi300x_node", "ideal"))[1] == pytest.approx(1e-3)


def test_two_neighbours_on_a_torus_use_one_link():
    assert collectives.scale_up_bandwidth(2.0, chip_of("tpu_v5p_pod", "ideal")) <= 2 * 90e9


@pytest.mark.parametrize(
    "chip, engine, n, n_bytes, us",  # ai-dynamo/aiconfigurator @095f58a, engine all-reduce kernels
    [("h100_sxm", "vllm", 8, 2**20, 15.0), ("h100_sxm", "vllm", 8, 2**22, 30.8), ("h200_sxm", "vllm", 8, 2**20, 14.1),
     ("gb200", "vllm", 4, 2**14, 5.4), ("gb300", "trtllm", 16, 2**20, 8.3), ("gb300", "trtllm", 8, 2**22, 15.2)],
)  # fmt: skip
def test_all_reduce_against_the_measured_kernels(chip, engine, n, n_bytes, us):
    seconds = sum(collectives.all_reduce(float(n_bytes), float(n), chip_of(chip, engine, 72.0 if "gb" in chip else 8.0)))
    assert float(seconds) * 1e6 == pytest.approx(us, rel=0.35)


def test_a_token_that_enters_a_domain_once_is_passed_on_inside():
    """16 devices in domains of 8, a NIC that costs nothing: 16 (1 - (15/16)^8) copies per token, 7 of 8 of them over a link."""
    chip = changed(chip_of("h100_sxm", "ideal", 8.0), scale_out__bytes_per_s=np.inf)
    transfer = collectives.expert_exchange(1.0, 8.0, 7168.0, 2.0, 16.0, chip, once_per_domain=True)[1]
    assert transfer == pytest.approx(16 * (1 - (15 / 16) ** 8) * 7 / 8 * 7168 * 2 / 450e9)


def test_latency_of_an_all_gather():
    latency, _ = collectives.shard_exchange(1e4, 2.0, chip_of("h100_sxm", "vllm"))
    assert latency < 20e-6


def test_smaller_domain_is_never_faster_with_measured_constants():
    near, far = (sum(collectives.shard_exchange(1e5, 4.0, chip_of("h100_sxm", "vllm", size))) for size in (8.0, 1.0))
    assert far >= near


# --- memory and service ----------------------------------------------------------------------------------------------------


def test_index_keys_are_stored_with_their_scales():
    scene = scene_of("deepseek-v3.2", bits=(8, 16, 8))
    stored = memory.kv_cache(scene, layout_of(), 1.0, 1000.0) - 61 * 1000 * 1152
    assert stored == pytest.approx(1000 * float(index_bytes_per_tok(counts_of("deepseek-v3.2"))))


@pytest.mark.parametrize("model, pp, n_layers", [("nemotron-h-8b", 8, 1), ("gemma-3-1b", 8, 1)])
def test_a_stage_holds_whole_layers(model, pp, n_layers):
    scene, tokens = scene_of(model), 1e6
    one_layer = n_layers * tokens * float(scene.kv_bytes_full)
    assert memory.kv_cache(scene, layout_of(n_pp=pp), 1.0, tokens) >= one_layer


@pytest.mark.parametrize("cv", [0.5, 1.0])
def test_spread_of_sequences_in_flight(cv):
    """In flight: length-biased answers L, uniformly done; E[(U L)^2] = E[L^3] / (3 E[L])."""
    sigma = np.sqrt(np.log1p(cv**2))
    answers = np.random.default_rng(0).lognormal(np.log(1000) - sigma**2 / 2, sigma, 2_000_000)
    weight = answers / answers.mean()
    mean, square = np.mean(weight * answers / 2), np.mean(weight * answers**2 / 3)
    t = traffic_of(isl_tok=0, osl_sd_tok=1000 * cv)
    deviation = (service.held_tokens(t, 1.0) - service.held_tokens(t, 1e30)) / t.occupancy_z
    assert service.held_tokens(t, 1e30) == pytest.approx(mean, rel=0.02)
    assert deviation == pytest.approx(np.sqrt(square - mean**2), rel=0.1)


def test_domains_are_rented_whole():
    t = traffic_of(demand_tok_per_s=33)
    charged = serving.fleet(t, np.float64(1), np.float64(2), scene_of("llama-3.1-70b", "h100_sxm"))["n_devices"]
    assert charged % 8 == 0


def one_row(layout):
    return Grid(layout.map(lambda v: v[None]), np.ones(1))


def test_a_pipeline_serves_prompts_at_its_rate():
    scene, layout, t = scene_of("llama-3.1-70b", "h200_sxm_node"), layout_of(n_pp=4), traffic_of(osl_tok=50)
    pre = serving.time_prefill(scene, layout, t, 0.0)
    rows = serving.time_decode(scene, layout, np.float64(1), t, 0.0, pre)
    found = serve_unit.colocated(scene, one_row(layout), t, serve_unit.Need(), 1, paired=True).columns
    queue_s = found["ttft_s"][0] - pre["ttft_s"] - 0.5 * rows["step_s"]
    assert queue_s == pytest.approx(service.prompt_queue(t, pre["forward_s"] / 4, rows["prefill_busy_frac"]), rel=1e-6)


def test_a_vocabulary_that_needs_more_tokens_keeps_the_pool_busier():
    layout, t = layout_of(n_tp=8), traffic_of(demand_tok_per_s=100)
    plain, wordy = (
        make_scene(counts_of("llama-3.1-70b"), chip_of("h200_sxm_node"), precision_of(), tok_per_text=np.float64(text))
        for text in (1.0, 1.5)
    )
    ttft = [serve_unit.prefill_pool(s, one_row(layout), t, serve_unit.Need(), 1, paired=True).columns["ttft_s"][0] for s in (plain, wordy)]
    assert ttft[1] > ttft[0]


def test_prompts_also_queue_in_a_pool_of_their_own():
    scene, layout = scene_of("llama-3.1-70b", "h200_sxm_node"), layout_of(n_tp=8)
    full = serving.time_prefill(scene, layout, traffic_of(), 0.0)["prompts_per_s"] * 1000.0
    ttft = [serve_unit.prefill_pool(scene, one_row(layout), traffic_of(demand_tok_per_s=share * full), serve_unit.Need(), 1, paired=True).columns["ttft_s"][0]
            for share in (0.01, 0.95)]  # fmt: skip
    assert ttft[1] > ttft[0]


@pytest.mark.parametrize("model, n_bytes", [("nemotron-h-8b", 4 * 4096 * 1000), ("deepseek-v3.2", 61 * 1152 * 1000)])
def test_kv_transfer_carries_everything_that_decode_needs(model, n_bytes):
    scene = scene_of(model)
    sent = serving.kv_transfer_s(scene, layout_of(), traffic_of()) * scene.chip.scale_out.bytes_per_s
    assert sent > n_bytes * 1.05


def test_goodput_of_llama_3():
    assert failures.goodput_frac(16384) > 0.90


# --- studies ---------------------------------------------------------------------------------------------------------------

SPACE = "{architecture.n_layers: {choices: [20, 60]}}"
STUDY = """
version: 1
name: ceiling
question: Does a ceiling as a constraint leave the designs that the same ceiling as an SLO leaves?
base: {{model: {model}}}
hardware: {{train: h100_sxm_node, serve: h200_sxm_node}}
space: {space}
workload: {{use: chat, demand: 1e5 tok/s}}
slo: {{{slo}}}
lifecycle: {{pretrain_tok: 10 Ttok, rl_tok: 0}}
objectives: {{c_eq_flop: maximize, usd_per_mtok: minimize}}
constraints: {{{constraints}}}
"""


def problem_of(path, model="llama-3.1-70b", slo="ttft: 20 s", constraints='train_days: "<= 4000 day"', space=SPACE):
    path.write_text(STUDY.format(model=model, slo=slo, constraints=constraints, space=space))
    return open_study(path).problem


def batch_of(path, **changes):
    problem = problem_of(path, **changes)
    return problem.evaluate(np.concatenate(list(problem.enumerate(100))))


@pytest.mark.parametrize("slo, limit", [("tpot: 30 ms", 'tpot: "<= 30 ms"'), ("ttft: 60 ms", 'ttft: "<= 60 ms"')])
def test_a_latency_constraint_equals_the_same_slo(tmp_path, slo, limit):
    as_slo, as_limit = batch_of(tmp_path / "a.yaml", slo=slo), batch_of(tmp_path / "b.yaml", slo="ttft: 20 s", constraints=limit)
    assert len(as_slo.design) > 0 and sorted(set(as_limit.design)) == sorted(set(as_slo.design))


def test_necessary_work_contains_the_indexer(tmp_path):
    found = batch_of(tmp_path / "a.yaml", model="deepseek-v3.2")
    per_tok = found.points["pretrain_flop"] / found.points["pretrain_spent_tok"]
    for n_layers, got in zip(np.array([20, 60])[found.design], per_tok, strict=True):
        counts = census(fill(architecture("deepseek-v3.2") | {"n_layers": n_layers}))
        scene = make_scene(counts, chip_of("h100_sxm"), precision_of(), training=True)
        job = train.Job(*(np.float64(v) for v in (4096, 1, 1, 1, 1)))
        assert got == pytest.approx(float(train.model_flop(scene, job)) / 4096, rel=1e-6)


def test_designs_that_share_a_scene(tmp_path):
    """MLA ignores n_kv_heads, so both designs have the same scene in every unit."""
    found = batch_of(tmp_path / "a.yaml", model="deepseek-v3", space="{architecture.n_kv_heads: {choices: [64, 128]}}")
    assert len(found.objectives) == 2


def test_flat_rows_that_share_a_scene(tmp_path):
    problem = replace(problem_of(tmp_path / "a.yaml", space="{precision.weight_bits: {choices: [8, 16]}}"), flat=True)
    index = np.stack([np.random.default_rng(0).integers(0, len(v.choices), 32) for v in problem.variables], axis=1)
    assert len(problem.evaluate(index).objectives) == 32
