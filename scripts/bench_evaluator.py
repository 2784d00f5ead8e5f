"""Speed of the evaluator: fully timed layouts/s and whole flat designs/s, beside a plain Python loop over the scalar reference.

    python scripts/bench_evaluator.py [--json] [--designs N] [--seconds S]

Fixed public seed; MoE, MLA and the two-tier network on (H200 8-GPU nodes, experts over up to 8 nodes).  `layouts_per_s` counts
rows that were timed with their memory check, in every phase of their unit; pruned candidates are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from codesign import catalog
from codesign.constraints import Limit
from codesign.evaluate import evaluate
from codesign.physics.arrays import stack
from codesign.scenario import make_chip, make_traffic
from codesign.setting import Goal, Life, Pool, Setting
from codesign.units.candidates import Grid, serving_grid, training_grid

SEED = 20260901
DIMENSIONS = {
    "architecture.n_layers": np.arange(40, 84, 4),
    "architecture.d_model": np.arange(4096, 9216, 1024),
    "architecture.n_heads": np.array([32, 64, 96, 128]),
    "architecture.n_experts": np.array([64, 128, 256, 512]),
    "architecture.n_active_experts": np.array([4, 8, 16]),
    "architecture.d_expert": np.arange(1024, 3584, 512),
    "precision.weight_bits": np.array([4, 8, 16]),
    "precision.kv_bits": np.array([8, 16]),
}


def setting() -> Setting:
    """DeepSeek-V3 as base, trained on H100 and served from H200 8-GPU nodes."""
    model = catalog.load("models", "deepseek-v3")
    base = {f"architecture.{k}": v for k, v in model["architecture"].items()} | {f"precision.{k}": v for k, v in model["precision"].items()}
    train, serve = "h100_sxm_node", "h200_sxm_node"
    base |= {"hardware.train": train, "hardware.rl": train, "hardware.serve": serve}
    pools = {role: Pool((name,), stack([make_chip(name)])) for role, name in (("train", train), ("rl", train), ("serve", serve))}
    traffic = make_traffic(catalog.load("workloads", "chat"), 1e6)
    goals = (Goal("c_eq_flop", True), Goal("usd_per_mtok", False), Goal("tpot_s", False))
    limits = (Limit("train_days", "train_s", "<=", 120 * 86400.0),)
    grids = {"train": training_grid(True, 16384.0), "serve": serving_grid(True, 64)}
    return Setting(base, pools, traffic, Life(pretrain_tok=15e12), goals, limits, False, grids, max_ttft_s=2.0)


def designs(n: int, seed: int = SEED) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(values, codes) of n random designs."""
    rng = np.random.default_rng(seed)
    codes = {name: rng.integers(0, len(choices), n) for name, choices in DIMENSIONS.items()}
    return {name: DIMENSIONS[name][code].astype(float) for name, code in codes.items()}, codes


def flat_layouts(study: Setting, n: int) -> dict[str, Grid]:
    """One random layout of every unit per design, among those that are likely to pass the cheap checks: a flat search's survivors."""
    rng = np.random.default_rng(SEED + 1)
    out = {}
    for unit, least in (("train", 8), ("serve", 32)):
        grid = study.grids[unit]
        size = grid.layout.n_tp * grid.layout.n_pp * (grid.layout.n_dp if unit == "serve" else grid.layout.n_ep)
        row = rng.choice(np.flatnonzero((size >= least) & (size <= 64)), n)
        lead = rng.choice(np.flatnonzero(grid.leading >= (1024 if unit == "train" else 1)), n)
        out[unit] = Grid(grid.layout.take(row), grid.leading[lead], {k: v[row] for k, v in grid.extras.items()})
    return out


def measure(work, n_rows_of, seconds: float) -> tuple[float, float]:
    """(rows per second of the wall clock, rows per CPU second) of `work(i)` on all cores for about `seconds`, after a warm-up call."""
    work(0)
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    start, cpu, total, i = time.perf_counter(), time.process_time(), 0, 0
    with ThreadPoolExecutor(n_threads) as pool:
        while time.perf_counter() - start < seconds:
            jobs = [pool.submit(work, i + k) for k in range(2 * n_threads)]
            i += len(jobs)
            total += sum(n_rows_of(job.result()) for job in jobs)
    return total / (time.perf_counter() - start), total / (time.process_time() - cpu)


def scalar_rate(seconds: float) -> float | None:
    """Flat designs per second of the independent scalar re-implementation that the tests compare against."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    try:
        from reference import flat
    except ImportError:
        return None
    values, _ = designs(64)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        flat({k: float(v[n % 64]) for k, v in values.items()})
        n += 1
    return n / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--designs", type=int, default=1024, help="designs per call of the sweep")
    parser.add_argument("--seconds", type=float, default=6.0)
    args = parser.parse_args()
    study = setting()
    batches = [designs(args.designs, SEED + i) for i in range(4)]
    sweep = lambda i: evaluate(study, *batches[i % 4])  # noqa: E731
    layouts, layouts_cpu = measure(sweep, lambda b: b.n_layouts, args.seconds)
    one = sweep(0)
    n_flat = 16384
    flat_batches = [designs(n_flat, SEED + 10 + i) for i in range(4)]
    flat = flat_layouts(study, n_flat)
    flat_rate, flat_cpu = measure(lambda i: evaluate(study, *flat_batches[i % 4], flat), lambda b: b.n_layouts / 2, args.seconds)  # 2 units
    scalar = scalar_rate(min(args.seconds, 3.0))
    result = {
        "layouts_per_s": layouts,
        "candidates_per_s": layouts * one.n_candidates / one.n_layouts,
        "designs_per_s": flat_rate,
        "swept_designs_per_s": layouts / one.n_layouts * args.designs,
        "layouts_per_cpu_s": layouts_cpu,  # of one core, whatever else the machine does
        "designs_per_cpu_s": flat_cpu,
        "scalar_designs_per_s": scalar,
        "timed_share_of_candidates": one.n_layouts / one.n_candidates,
        "n_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seed": SEED,
    }
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for key, value in result.items():
            print(f"{key:<28}{value:,.4g}" if isinstance(value, float) else f"{key:<28}{value}")


if __name__ == "__main__":
    main()
