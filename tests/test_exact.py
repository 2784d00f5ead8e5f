"""The front of `exhaustive` is the brute-force front: every design with every combination of layouts, nothing reduced away."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from codesign.evaluate import evaluate
from codesign.search import exhaustive, nested, pareto
from codesign.search.loop import Settings
from codesign.units.candidates import Grid
from studies import study

CASES = {
    "balance, latency, cost": {},
    "energy objective and power cap": {
        "objectives": {"c_eq_flop": "maximize", "energy_j_per_tok": "minimize", "usd_per_mtok": "minimize", "tpot": "minimize"},
        "constraints": {"serve_power": "<= 300 kW", "train_days": "<= 200 day"},
    },
    "energy by cause": {
        "objectives": {
            "energy_used_j_per_tok": "minimize", "train_energy_used_j": "minimize", "usd_per_mtok": "minimize", "tpot": "minimize",
        },
        "lifecycle": {"pretrain_tok": "2 Ttok", "rl_tok": 0},
    },
    "training time and devices as objectives": {
        "objectives": {"c_eq_flop": "maximize", "train_days": "minimize", "train_devices": "minimize", "lifecycle_usd": "minimize"},
        "lifecycle": {"pretrain_tok": "2 Ttok", "rl_tok": 0},
    },
    "time to first token as objective": {
        "objectives": {"ttft": "minimize", "usd_per_mtok": "minimize", "c_eq_flop": "maximize"},
        "lifecycle": {"pretrain_tok": {"solve": "balance"}, "balance": {"of": "flop", "max_ratio": 10}},
    },
    "staged fleet under a power cap": {
        "workload": {"use": "chat", "demand": {"life": [["0 month", "3e3 tok/s"], ["4 month", "4e4 tok/s"]], "fleet": "staged"}, "lifetime": "1 yr"},
        "objectives": {"c_eq_flop": "maximize", "facility_power": "minimize", "usd_per_mtok": "minimize", "serve_load_frac": "maximize"},
        "constraints": {"facility_power": "<= 400 kW"},
    },
    "plans of serving steps": {
        "space": {"architecture.n_layers": [32, 48], "precision.weight_bits": [8, 16]},
        "layout": {
            "train": {"n_tp": [1], "n_pp": [1, 4], "n_ep": [8], "micro_batch": [1], "recompute": ["selective"], "n_devices": [64, 256]},
            "serve": {"n_tp": [1, 2], "n_dp": [1, 4], "n_pp": [1], "batch": [4, 64], "n_ffn": [0, 2, 8], "n_micro": [1, 2],
                      "overlap": ["none", "two_batch"]},
        },
        "lifecycle": {"pretrain_tok": "2 Ttok"},
        "objectives": {"ttft": "minimize", "usd_per_mtok": "minimize", "tpot": "minimize", "energy_used_j_per_tok": "minimize"},
    },
    "pools apart": {
        "serving": {"mode": "disaggregated"},
        "hardware": {"train": "h100_sxm_node", "prefill": "h100_sxm_node", "decode": "h200_sxm_node"},
        "space": {"architecture.n_layers": [32, 48], "precision.weight_bits": [8, 16]},
        "layout": {
            "train": {"n_tp": [1], "n_pp": [1, 4], "n_ep": [8], "micro_batch": [1], "recompute": ["selective"], "n_devices": [64, 256]},
            "prefill": {"n_tp": [1, 2], "n_dp": [1, 2], "n_pp": [1]}, "decode": {"n_tp": [1, 2], "n_dp": [1, 4], "n_pp": [1], "batch": [4, 64]},
        },
        "lifecycle": {"pretrain_tok": "2 Ttok"},
        "objectives": {"ttft": "minimize", "usd_per_mtok": "minimize", "tpot": "minimize", "energy_used_j_per_tok": "minimize"},
    },
}  # fmt: skip


def brute_force(problem) -> np.ndarray:
    """Objective rows of every feasible (design, layout of each unit) combination, then their front.  (F, M)"""
    index = np.concatenate(list(problem.enumerate(1000)))
    grids = problem.layout_grids
    pairs = {unit: list(product(range(g.layout.n_tp.size), range(g.leading.size))) for unit, g in grids.items()}
    rows = []
    for combination in product(*pairs.values()):
        layouts = {}
        for (unit, grid), (row, lead) in zip(grids.items(), combination, strict=True):
            at = np.full(len(index), row)
            layouts[unit] = Grid(grid.layout.take(at), grid.leading[np.full(len(index), lead)], {k: v[at] for k, v in grid.extras.items()})
        values = problem.space.values(index)
        codes = {v.name: index[:, i] for i, v in enumerate(problem.space.variables)}
        batch = evaluate(problem.setting, values, codes, layouts)
        rows.append(np.stack([batch.points[o.name] for o in problem.objectives], axis=1))
    points = np.concatenate(rows)
    return points[pareto.nondominated(points, [o.direction == "maximize" for o in problem.objectives])]


def rounded(points: np.ndarray) -> list[tuple]:
    """Points as a sorted set at 9 digits: of equal points either search may keep one."""
    return sorted({tuple(float(f"{v:.9g}") for v in row) for row in points})


@pytest.mark.parametrize("name", CASES)
def test_exhaustive_front_is_the_brute_force_front(name, tmp_path):
    problem = study(tmp_path, CASES[name]).problem
    found = exhaustive.run(problem)
    ours = np.stack([found.front[o.name] for o in problem.objectives], axis=1)
    expected = brute_force(problem)
    assert len(expected) > 1
    assert rounded(ours) == rounded(expected)
    assert found.exact


def test_sampled_search_reaches_the_exact_front(tmp_path):
    problem = study(tmp_path).problem
    exact = exhaustive.run(problem)
    sampled = nested.run(replace(problem, sampled=True), Settings("ga", trials=2000, seed=3))
    names = [o.name for o in problem.objectives]
    assert rounded(np.stack([sampled.front[n] for n in names], 1)) == rounded(np.stack([exact.front[n] for n in names], 1))
