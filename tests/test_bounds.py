"""The proof obligation of exclusion: no layout of any design does better than the design's bound, and the front is the same with bounds and without."""

from __future__ import annotations

import numpy as np
import pytest
from test_exact import CASES

from codesign.evaluate import evaluate
from codesign.search import exclusion, exhaustive, pareto
from codesign.search.problem import maximised
from codesign.units.candidates import Grid
from studies import SMALL, study

FEW = {"train": {"n_tp": [1, 8], "n_pp": [1, 4], "n_ep": [1, 8, 64], "micro_batch": [1], "recompute": ["none", "full"], "n_devices": [64, 2048]},
       "serve": {"n_tp": [1, 2, 8], "n_dp": [1, 4, 32], "n_pp": [1, 2], "batch": [1, 8, 100, 512]}}  # fmt: skip
APART = {"train": FEW["train"], "prefill": {"n_tp": [1, 2, 8], "n_dp": [1, 4], "n_pp": [1, 2]},
         "decode": {"n_tp": [1, 4], "n_dp": [1, 8], "n_pp": [1, 3], "batch": [1, 16, 100]}}  # fmt: skip
THREE = {"c_eq_flop": "maximize", "usd_per_mtok": "minimize", "tpot": "minimize"}
FIXED = {"pretrain_tok": "5 Ttok", "rl_tok": 0}
DEEPSEEK = {
    "base": {"model": "deepseek-v3"}, "hardware": {"train": "h100_sxm_node", "serve": "gb200_nvl72"},
    "space": {"architecture.attention": ["gqa", "mla"], "architecture.n_experts": [64, 256], "precision.weight_bits": [4, 8, 16],
              "serve.scale_up_size": [8, 72]},
    "lifecycle": {"budget": "150 MUSD", "pretrain_tok": {"solve": "budget"}, "rl_tok": {"solve": "balance"},
                  "balance": {"of": "usd", "max_ratio": 4}, "unique_tok": "20 Ttok"},
    "constraints": {"train_days": "<= 120 day", "train_devices": "<= 4096"}, "layout": FEW, "objectives": THREE,
}  # fmt: skip
DENSE = {
    "base": {"model": "llama-3.1-8b"}, "hardware": {"train": "h100_sxm_node", "serve": "h200_sxm_node"}, "layout": FEW,
    "space": {"architecture.n_layers": [16, 32], "architecture.n_kv_heads": [1, 8, 32], "precision.kv_bits": [8, 16],
              "hardware.serve": ["h100_sxm_node", "mi300x_node", "tpu_v6e_pod"]},
    "lifecycle": FIXED, "objectives": THREE, "constraints": {},
}  # fmt: skip
STUDIES = {name: CASES[name] for name in CASES} | {
    "latent attention, racks, drafts, balance": DEEPSEEK | {"workload": {"use": "long-context-agent", "demand": "2e4 tok/s", "lifetime": "1 yr"}},
    "chunked prompts": DEEPSEEK | {"serving": {"mixing": "chunked"}},
    "multi-token prediction": DEEPSEEK | {"serving": {"n_draft_tok": 2}},
    "dense, chips, latency": DENSE,
    "dense, chunked, time to first token": DENSE | {
        "serving": {"mixing": "chunked"}, "objectives": {"ttft": "minimize", "usd_per_mtok": "minimize", "tok_per_s_per_user": "maximize"}},
    "static batches": DENSE | {"serving": {"batching": "static"}, "slo": {}},
    "contiguous caches": DENSE | {"serving": {"batching": "contiguous"}},
    "prefixes that wait": DENSE | {
        "space": {"serving.kv_tier": ["none", "hbm", "host_dram", "nvme"], "architecture.n_kv_heads": [2, 8], "precision.kv_bits": [8, 16]},
        "workload": {"use": "chat", "isl": 16384, "prefix": 14000, "osl": 400, "reuse": "5 min", "demand": "1e5 tok/s", "lifetime": "1 yr"},
        "slo": {"ttft": "3 s", "tpot": "50 ms"}, "objectives": THREE | {"ttft": "minimize"}},
    "pools apart, prefixes that wait": DENSE | {
        "serving": {"mode": "disaggregated"}, "layout": APART, "hardware": {"train": "h100_sxm_node", "prefill": "b200_sxm_node", "decode": "h200_sxm_node"},
        "space": {"architecture.n_layers": [16, 32], "serving.kv_tier": ["none", "hbm", "nvme"]},
        "workload": {"use": "chat", "isl": 16384, "prefix": 14000, "osl": 400, "reuse": "5 min", "demand": "1e5 tok/s", "lifetime": "1 yr"}},
    "quality given": DENSE | {
        "lifecycle": {"pretrain_tok": {"solve": "min_cost", "quality": "3e22 FLOP"}, "rl_tok": 0},
        "objectives": {"lifecycle_usd": "minimize", "tpot": "minimize", "train_days": "minimize"}},
    "a fleet of one's own": DENSE | {"lifecycle": {"budget": {"devices": 512, "days": 90}, "pretrain_tok": {"solve": "budget"}, "rl_tok": 0}},
    "power and energy": DENSE | {"objectives": {"energy_j_per_tok": "minimize", "serve_power": "minimize", "c_eq_flop": "maximize", "train_energy_j": "minimize"}},
    "tokens as a variable, windows": DENSE | {
        "lifecycle": {"rl_tok": 0},
        "base": {"model": "gemma-3-27b"}, "space": {"lifecycle.pretrain_tok": ["1 Ttok", "10 Ttok"], "architecture.global_every": [1, 6], "precision.weight_bits": [4, 16]},
        "objectives": {"loss": "minimize", "usd_per_mtok": "minimize", "train_usd": "minimize", "tpot": "minimize"}},
}  # fmt: skip


def designs(problem) -> np.ndarray:
    return np.concatenate(list(problem.enumerate(1000)))


def below(problem, bound, design, points) -> np.ndarray:
    """Whether each point is met or beaten by a step of its design's bound."""
    slack = 1e-12 * np.abs(points)[:, None, :]
    return (bound[design] <= points[:, None, :] + slack).all(axis=2).any(axis=1)


def objective_rows(problem, batch) -> np.ndarray:
    return pareto.minimised(np.stack([batch.points[o.name] for o in problem.objectives], axis=1), maximised(problem))


@pytest.mark.parametrize("name", STUDIES)
def test_no_point_of_a_design_beats_its_bound(name, tmp_path):
    problem = study(tmp_path, STUDIES[name], SMALL).problem
    index = designs(problem)
    bound, batch = problem.bound(index), problem.evaluate(index)
    assert len(batch.design) > 0
    assert below(problem, bound, batch.design, objective_rows(problem, batch)).all()
    assert not len(exclusion.broken(problem, bound, batch))


@pytest.mark.parametrize(
    "name", ["balance, latency, cost", "time to first token as objective", "pools apart", "latent attention, racks, drafts, balance"]
)
def test_no_single_layout_beats_the_bound(name, tmp_path):
    """The same for combinations of layouts that the evaluator would reduce away, drawn at random."""
    problem = study(tmp_path, STUDIES[name], SMALL).problem
    index, rng = designs(problem), np.random.default_rng(0)
    bound, grids, n_points = problem.bound(index), problem.layout_grids, 0
    codes = {v.name: index[:, i] for i, v in enumerate(problem.space.variables)}
    for _ in range(40):
        layouts = {}
        for unit, grid in grids.items():
            row, lead = (rng.integers(0, n, len(index)) for n in (grid.layout.n_tp.size, grid.leading.size))
            layouts[unit] = Grid(grid.layout.take(row), grid.leading[lead], {k: v[row] for k, v in grid.extras.items()})
        batch = evaluate(problem.setting, problem.space.values(index), codes, layouts)
        n_points += len(batch.design)
        assert below(problem, bound, batch.design, objective_rows(problem, batch)).all()
    assert n_points > 1


def same_front(one, other) -> None:
    assert one.front.keys() == other.front.keys() and len(one.front["design_id"]) == len(other.front["design_id"])
    for name, column in one.front.items():
        np.testing.assert_array_equal(column, other.front[name], err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        "balance, latency, cost",
        "latent attention, racks, drafts, balance",
        "dense, chunked, time to first token",
        "prefixes that wait",
        "quality given",
    ],
)
def test_the_front_is_the_same_with_bounds_and_without(name, tmp_path, monkeypatch):
    for key, value in (("LEAST_DESIGNS", 1), ("LEAST_SHARE", 0.0)):
        monkeypatch.setattr(exclusion, key, value)
    problem = study(tmp_path, STUDIES[name], SMALL).problem
    bounded = exhaustive.run(problem, chunk=7)
    same_front(bounded, exhaustive.run(problem, exclude=False))
    assert bounded.exact and bounded.n_designs + bounded.n_excluded == problem.n_designs


def test_workers_exclude_the_same_designs(tmp_path, monkeypatch):
    for key, value in (("LEAST_DESIGNS", 1), ("LEAST_SHARE", 0.0)):
        monkeypatch.setattr(exclusion, key, value)
    problem = study(tmp_path, STUDIES["dense, chunked, time to first token"], SMALL).problem
    threads, processes = exhaustive.run(problem, chunk=5), exhaustive.run(problem, chunk=5, workers=2)
    same_front(threads, processes)
    assert threads.n_excluded == processes.n_excluded > 0


SPACE = {
    "architecture.n_layers": [16, 24, 32, 48, 61, 80], "architecture.d_model": [2048, 4096, 7168], "architecture.n_heads": [16, 32, 64, 128],
    "architecture.n_kv_heads": [1, 2, 8], "architecture.attention": ["gqa", "mla"], "architecture.n_experts": [0, 16, 96, 128, 256],
    "architecture.n_active_experts": [2, 4, 8], "architecture.d_expert": [512, 1536, 2048], "architecture.n_mtp_layers": [0, 1],
    "architecture.vocab": [32000, 128256], "precision.weight_bits": [4, 8, 16], "precision.kv_bits": [8, 16], "precision.act_bits": [8, 16],
    "hardware.serve": ["h100_sxm_node", "gb200_nvl72", "mi300x_node", "tpu_v6e_pod", "b200_sxm_node"], "hardware.train": ["h100_sxm_node", "gb200_nvl72"],
}  # fmt: skip
LIVES = [
    FIXED, DEEPSEEK["lifecycle"], {"budget": "30 MUSD", "pretrain_tok": {"solve": "budget"}, "rl_tok": "100 Gtok"},
    {"pretrain_tok": {"solve": "balance"}, "rl_tok": {"solve": "balance"}, "balance": {"of": "flop", "max_ratio": 9}},
    {"budget": "1e25 FLOP", "pretrain_tok": {"solve": "budget"}, "balance": {"of": "flop", "max_ratio": 20}, "rl_tok": {"solve": "balance"}},
]  # fmt: skip
CHOICES = {
    "lifecycle": LIVES,
    "objectives": [THREE, {"ttft": "minimize", "lifecycle_usd": "minimize", "c_eq_flop": "maximize"},
                   {"serve_devices": "minimize", "tpot": "minimize", "n_eq": "maximize"}],
    "serving": [{}, {"mixing": "chunked"}, {"mode": "disaggregated"}],
    "constraints": [{}, {"train_days": "<= 200 day", "usd_per_mtok": "<= 20 USD/Mtok"}, {"serve_power": "<= 3 MW", "c_eq_flop": ">= 1e23 FLOP"}],
    "slo": [{}, {"ttft": "2 s", "tpot": "60 ms"}],
}  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_random_spaces_keep_the_promise(seed, tmp_path):
    rng = np.random.default_rng(seed)
    pick = {key: choices[rng.integers(len(choices))] for key, choices in CHOICES.items()}
    space = {name: sorted(rng.choice(values, min(2, len(values)), replace=False).tolist()) for name, values in SPACE.items()}
    names = rng.choice(list(space), 7, replace=False)
    space = {name: values if name in names else values[:1] for name, values in space.items()}
    space["architecture.d_ff"] = [8192]
    if pick["serving"].get("mode"):
        pick["hardware"] = {"train": "h100_sxm_node", "prefill": "h100_sxm_node", "decode": "gb200_nvl72"}
        pick["layout"] = APART
        space.pop("hardware.serve")
    changes = DEEPSEEK | pick | {"space": space}
    changes.setdefault("layout", FEW)
    problem = study(tmp_path, changes, SMALL).problem
    index = designs(problem)
    bound, batch = problem.bound(index), problem.evaluate(index)
    assert below(problem, bound, batch.design, objective_rows(problem, batch)).all()
