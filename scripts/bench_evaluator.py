"""Speed of the evaluator: fully timed layouts/s and whole flat designs/s, beside a plain Python loop over the scalar reference.

    python scripts/bench_evaluator.py [--json] [--designs N] [--seconds S] [--most ROWS] [--exhaustive]

Fixed public seed; MoE, MLA and the two-tier network on (H200 8-GPU nodes, experts over up to 8 nodes).  `layouts_per_s` counts
rows that were timed with their memory check, in every phase of their unit; pruned candidates are counted apart.  `batches`: cost of a row by
how many are asked for at once, of flat designs (above SLICE rows in slices on all cores, as searches do) and of layouts swept in one call.
`share_of_arithmetic` and `share_of_memory`: element operations and bytes read and written by numpy per layout, counted, times layouts/s, over what
a = b * c + d reaches in cache and in memory on the same cores in the same run; most of the bytes stay in cache, so the second may pass 1.
`--exhaustive`: the enumeration of a study of 10^9 layout rows, which is more than 10^11 flat designs because units are timed apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine_limits import Counted, counting, limits

from codesign import catalog
from codesign.constraints import Limit
from codesign.evaluate import evaluate
from codesign.physics.arrays import stack
from codesign.scenario import make_chip, make_traffic
from codesign.search.evaluation import n_cores
from codesign.setting import Goal, Life, Pool, Setting
from codesign.units.candidates import Grid, serving_grid, training_grid

SEED = 20260901
SLICE = 16384  # flat designs scored at once
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
    start, cpu, total, i = time.perf_counter(), time.process_time(), 0, 0
    with ThreadPoolExecutor(n_cores()) as pool:
        while time.perf_counter() - start < seconds:
            jobs = [pool.submit(work, i + k) for k in range(2 * n_cores())]
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


def batches(study: Setting, most: float, layouts_per_design: float) -> list[dict[str, float]]:
    """Cost of a row, and the largest memory of the process so far, for 1, 10, ... `most` rows."""
    rows = []
    for n in [10**k for k in range(8) if 10**k <= most]:
        parts = [min(SLICE, n - start) for start in range(0, n, SLICE)]
        whole = {size: (*designs(size), flat_layouts(study, size)) for size in set(parts)}  # equal slices cost what different ones cost
        rows.append(timed("flat designs", lambda whole=whole, parts=parts: flat_rows(study, whole, parts)))
    for n in [10**k for k in range(4, 8) if 10**k <= most]:
        asked = designs(max(1, round(n / layouts_per_design)))
        rows.append(timed("layouts", lambda asked=asked: evaluate(study, *asked).n_layouts))
    return rows


def flat_rows(study: Setting, whole: dict[int, tuple], parts: list[int]) -> int:
    """Score slices of so many flat designs on all cores; how many they were."""
    with ThreadPoolExecutor(n_cores()) as pool:
        for part in pool.map(lambda size: len(evaluate(study, *whole[size]).violations), parts):
            assert part in whole
    return sum(parts)


def timed(form: str, work) -> dict[str, float]:
    """One batch after another until 0.2 s have passed."""
    start, cpu, n, n_calls = time.perf_counter(), time.process_time(), 0, 0
    while not n_calls or time.perf_counter() - start < 0.2:
        n, n_calls = n + work(), n_calls + 1
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"form": form, "rows": n / n_calls, "us_per_row": 1e6 * wall / n, "cpu_us_per_row": 1e6 * cpu / n, "peak_rss_bytes": peak_rss()}


def peak_rss() -> float:
    """Largest resident memory of this process so far [byte]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def memory_per_design(study: Setting, n: int = 1024) -> dict[str, float]:
    """Bytes that numpy holds at most while designs are swept, and bytes of their result, per design."""
    asked = designs(n)
    tracemalloc.start()
    batch = evaluate(study, *asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(v.nbytes for v in batch.points.values()) + batch.objectives.nbytes + batch.violations.nbytes
    return {"bytes_per_design": peak / n, "result_bytes_per_design": kept / n}


def shares(study: Setting, layouts_per_s: float, n: int = 256) -> dict[str, float]:
    """Work of a layout, counted, and its share of what the machine can do."""
    values, codes = designs(n)
    with counting() as so_far:
        n_layouts = evaluate(study, {k: v.view(Counted) for k, v in values.items()}, codes).n_layouts
        operations, n_bytes = (amount / n_layouts for amount in so_far())
    top = limits(n_cores())
    return {
        "operations_per_layout": operations,
        "bytes_per_layout": n_bytes,
        "machine_operations_per_s": top["operations_per_s"],
        "machine_bytes_per_s": top["bytes_per_s"],
        "share_of_arithmetic": layouts_per_s * operations / top["operations_per_s"],
        "share_of_memory": layouts_per_s * n_bytes / top["bytes_per_s"],
    }


def enumeration() -> dict[str, float]:
    """A study of 10^9 layout rows, enumerated."""
    from bench_search import ROOT, STUDIES

    from codesign.search import exhaustive
    from codesign.study import open_study

    name, overrides = STUDIES["moe-on-nvl72"]
    problem = open_study(ROOT / "studies" / f"{name}.yaml", overrides).problem
    n_flat = float(problem.n_designs) * np.prod([float(grid.n_rows) for grid in problem.layout_grids.values()])
    cpu, outcome = time.process_time(), exhaustive.run(problem)
    return {
        "space_designs": float(problem.space.n_designs().n),
        "space_rows": float(problem.space.n_designs().n) * problem.rows_per_design,
        "flat_designs": n_flat,
        "exact": outcome.exact,
        "n_front": len(outcome.front_index),
        "seconds": outcome.seconds,
        "cpu_s": time.process_time() - cpu,
        "peak_rss_bytes": peak_rss(),
    }


def figures(study: Setting, n_designs: int, seconds: float) -> dict[str, float]:
    """Rates of layouts and of flat designs, and of the scalar re-implementation."""
    asked = [designs(n_designs, SEED + i) for i in range(4)]
    sweep = lambda i: evaluate(study, *asked[i % 4])  # noqa: E731
    layouts, layouts_cpu = measure(sweep, lambda b: b.n_layouts, seconds)
    one = sweep(0)
    flat_asked, flat = [designs(SLICE, SEED + 10 + i) for i in range(4)], flat_layouts(study, SLICE)
    flat_rate, flat_cpu = measure(lambda i: evaluate(study, *flat_asked[i % 4], flat), lambda b: b.n_layouts / 2, seconds)  # 2 units
    return {
        "layouts_per_s": layouts,
        "candidates_per_s": layouts * one.n_candidates / one.n_layouts,
        "designs_per_s": flat_rate,
        "swept_designs_per_s": layouts / one.n_layouts * n_designs,
        "layouts_per_cpu_s": layouts_cpu,  # of one core, whatever else the machine does
        "designs_per_cpu_s": flat_cpu,
        "scalar_designs_per_s": scalar_rate(min(seconds, 3.0)),
        "timed_share_of_candidates": one.n_layouts / one.n_candidates,
        "layouts_per_design": one.n_layouts / n_designs,
        "n_threads": n_cores(),
        "seed": SEED,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--designs", type=int, default=1024, help="designs per call of the sweep")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--most", type=float, default=1e7, help="rows of the largest batch")
    parser.add_argument("--exhaustive", action="store_true", help="enumerate 10^9 layout rows too (a minute)")
    args = parser.parse_args()
    study = setting()
    table = batches(study, args.most, evaluate(study, *designs(64)).n_layouts / 64)  # first, so that the peak of memory is theirs
    result = figures(study, args.designs, args.seconds)
    result |= memory_per_design(study) | shares(study, result["layouts_per_s"])
    if args.exhaustive:
        result |= {f"exhaustive_{k}": v for k, v in enumeration().items()}
    if args.json:
        print(json.dumps(result | {"batches": table}, indent=1))
        return
    for key, value in result.items():
        print(f"{key:<28}{value:,.4g}" if isinstance(value, float) else f"{key:<28}{value}")
    for row in table:
        print(f"{row['form']:<14}{row['rows']:>14,.0f} rows{row['us_per_row']:>12.3g} us a row{row['cpu_us_per_row']:>12.3g} CPU us"
              f"{row['peak_rss_bytes'] / 1e6:>8,.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
