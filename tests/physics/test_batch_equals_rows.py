"""A batch is its rows: no result depends on what else is evaluated, in which order, or in which chunks."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from physics_cases import architecture, changed, chip_of, random_layout

from codesign.physics.architecture import DEFAULTS, census, fill
from codesign.physics.arrays import stack
from codesign.physics.layout import Layout
from codesign.physics.operators import make_scene
from codesign.physics.phases import decode, prefill, train
from codesign.physics.precision import Precision
from codesign.study import open_study
from codesign.units import serve_unit, training

FAMILIES = {
    "moe": ("qwen3-235b-a22b", "deepseek-v3", "gpt-oss-120b", "deepseek-v3.2"),
    "dense": ("llama-3.1-70b", "gemma-3-27b", "llama-2-7b"),
    "mixed": ("llama-3.1-70b", "deepseek-v3", "gemma-3-27b", "qwen3-next-80b-a3b", "nemotron-h-8b", "gpt-oss-120b"),
}
CHIPS = ("h100_sxm_node", "gb200_nvl72", "mi300x_node")
N = 24

STUDY = """
version: 1
name: rows
question: Does a batch equal its rows?
base: {model: qwen3-235b-a22b}
engine: vllm
hardware: {train: h100_sxm_node, serve: h200_sxm_node}
space:
  architecture.n_layers: {choices: [48, 94]}
  architecture.n_experts: {choices: [32, 64, 128]}
  architecture.attention: {choices: [gqa, mla]}
  precision.weight_bits: {choices: [8, 16]}
  hardware.serve: {choices: [h200_sxm_node, gb200_nvl72]}
workload: {use: chat, demand: 1e5 tok/s}
slo: {ttft: 4 s}
lifecycle: {pretrain_tok: 10 Ttok, rl_tok: 0}
objectives: {c_eq_flop: maximize, usd_per_mtok: minimize, tpot: minimize}
constraints: {train_days: "<= 400 day", train_devices: "<= 16384"}
"""


@cache
def batch(family: str, seed: int = 0):
    """N random designs of a family as one batch: (architectures, chips, precision, layouts, loads) as arrays."""
    rng = np.random.default_rng(seed)
    names = [str(rng.choice(FAMILIES[family])) for _ in range(N)]
    given = [DEFAULTS | architecture(n) for n in names]
    columns = {k: np.array([g[k] for g in given]) for k in DEFAULTS}
    chips = [chip_of(str(rng.choice(CHIPS)), "vllm") for _ in names]
    precision = Precision(*(rng.choice([8.0, 16.0], N) for _ in range(3)))
    layouts = [random_layout(rng, census(fill(g))) for g in given]
    layout = Layout(*(np.array([getattr(lay, f) for lay in layouts]) for f in layouts[0].columns))
    return columns, stack(chips), precision, layout, rng.integers(1, 3000, N).astype(float), rng.integers(10, 100_000, N).astype(float)


def results(columns, chips, precision, layout, sequences, context):
    """Every phase's times and bytes of a batch, as (name, (n,) array)."""
    n = sequences.size
    serve = make_scene(census(fill(columns)), chips, precision)
    learn = make_scene(census(fill(columns)), chips, Precision(precision.act_bits, np.float64(16), precision.act_bits), training=True)
    load, prompt = decode.Load(sequences, context), prefill.Prompt(context)
    job = train.Job(np.float64(4096), np.float64(1), 8.0 * layout.n_dp, np.float64(1), np.float64(1))
    touched = decode.fullest_experts(serve, layout, load)
    out = {
        "decode": decode.step(serve, layout, load, touched).time_s,
        "weights": decode.weights_read(serve, layout, touched),
        "prefill": prefill.forward(serve, layout, prompt, prefill.fullest_experts(serve, layout, prompt)).time_s,
        "train": train.step(learn, layout, job).step_s,
    }
    out |= {f"decode {k}": v for k, v in decode.memory_classes(serve, layout, load, context).items()}
    out |= {f"train {k}": v for k, v in train.memory_classes(learn, layout, job).items()}
    return {k: np.broadcast_to(v, (n,)) for k, v in out.items()}


def rows_of(args, index):
    columns, chips, precision, layout, sequences, context = args
    return (
        {k: v[index] for k, v in columns.items()},
        chips.take(index),
        precision.take(index),
        layout.take(index),
        sequences[index],
        context[index],
    )


def same(got, want):
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_physics_row_by_row(family):
    args = batch(family)
    whole = results(*args)
    alone = [results(*rows_of(args, np.array([i]))) for i in range(N)]
    same({k: np.concatenate([r[k] for r in alone]) for k in whole}, whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_physics_permuted(family):
    args = batch(family, 1)
    order = np.random.default_rng(2).permutation(N)
    whole = results(*args)
    same(results(*rows_of(args, order)), {k: v[order] for k, v in whole.items()})


def test_columns_against_rows():
    """(A, 1) designs against (1, L) layouts give the same numbers as every pair by itself."""
    columns, chips, precision, layout, _, _ = batch("moe")
    scene = make_scene(census(fill(columns)), chips, precision)
    side, row = scene.column(), layout.map(lambda v: v[None, :])
    load = decode.Load(64.0 * row.n_dp, np.float64(2000.0))
    table = decode.step(side, row, load, decode.fullest_experts(side, row, load)).time_s
    assert table.shape == (N, N)
    for i, j in ((0, 0), (3, 17), (20, 5)):
        one, lay = scene.take(np.array([i])), layout.take(np.array([j]))
        pair = decode.Load(64.0 * lay.n_dp, np.float64(2000.0))
        np.testing.assert_allclose(table[i, j], decode.step(one, lay, pair, decode.fullest_experts(one, lay, pair)).time_s[0], rtol=1e-12)


# --- the pipeline ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "study.yaml"
    path.write_text(STUDY)
    return open_study(path).problem


def designs_of(problem):
    return np.concatenate(list(problem.enumerate(1000)))


def same_batch(problem, got, want, order=None):
    order = np.arange(len(want.objectives)) if order is None else order
    np.testing.assert_allclose(got.objectives, want.objectives[order], rtol=1e-12)
    np.testing.assert_allclose(got.violations, want.violations[order], rtol=1e-12, atol=1e-12)
    for i, design in enumerate(order):
        np.testing.assert_allclose(points_of(problem, got, i), points_of(problem, want, design), rtol=1e-12)


def points_of(problem, found, design):
    table = np.stack([found.points[o.name][found.design == design] for o in problem.objectives], axis=1)
    return table[np.lexsort(table.T)]


def test_evaluate_row_by_row(problem):
    index = designs_of(problem)
    whole = problem.evaluate(index)
    assert np.isfinite(whole.objectives).all(axis=1).sum() > 20
    for i in range(0, len(index), 5):
        same_batch(problem, problem.evaluate(index[i : i + 1]), whole, np.array([i]))


def test_evaluate_permuted_and_repeated(problem):
    index = designs_of(problem)
    order = np.random.default_rng(0).permutation(len(index))
    whole = problem.evaluate(index)
    same_batch(problem, problem.evaluate(index[order]), whole, order)
    twice = np.concatenate([order[:7], order[:7]])
    same_batch(problem, problem.evaluate(index[twice]), whole, twice)


@pytest.mark.parametrize("size", [7, 100, 100_000])
def test_chunk_size_changes_nothing(problem, monkeypatch, size):
    index = designs_of(problem)
    whole = problem.evaluate(index)
    monkeypatch.setattr(serve_unit, "CHUNK", size)
    for timer in (serve_unit.Timer, training.TrainingTimer):
        monkeypatch.setattr(timer.chunks, "__defaults__", (size,))
    again = problem.evaluate(index)
    same_batch(problem, again, whole)
    assert (again.n_layouts, again.n_feasible, again.killed) == (whole.n_layouts, whole.n_feasible, whole.killed)


def test_a_price_only_raises_usd(problem):
    """Tokens are fixed, so a dearer fleet buys nothing: no USD column of any design falls, no other column moves."""
    index = designs_of(problem)
    setting = problem.setting
    pools = {k: type(p)(p.names, changed(p.chips, usd_per_s=p.chips.usd_per_s * 1.7)) for k, p in setting.pools.items()}
    cheap = problem.evaluate(index)
    dear = type(problem)(problem.space, type(setting)(**{**vars(setting), "pools": pools})).evaluate(index)
    for name in ("usd_per_mtok", "serve_usd", "train_usd", "lifecycle_usd", "usd_per_task"):
        low = [np.min(b.points[name][b.design == d]) for d in np.unique(cheap.design) for b in (cheap, dear)]
        assert np.all(np.array(low[1::2]) > np.array(low[0::2])), name
    np.testing.assert_allclose(dear.violations, cheap.violations, rtol=1e-9, atol=1e-9)


def test_flat_search_finds_what_the_sweep_finds(problem):
    """All serving layouts of two designs, proposed one by one, hold the sweep's cheapest and fastest points."""
    two = designs_of(problem)[[0, -1]]
    swept, flat = problem.evaluate(two), replace(problem, flat=True)
    names, grids = [v.name for v in flat.variables], flat.layout_grids
    serve = grids["serve"]
    which, rows, leads = (m.ravel() for m in np.meshgrid([0, 1], np.arange(serve.layout.n_tp.size), np.arange(serve.leading.size)))
    index = np.zeros((rows.size, len(names)), dtype=int)
    index[:, : two.shape[1]] = two[which]
    index[:, names.index("serve.layout")], index[:, names.index("serve.batch")] = rows, leads
    for design in (0, 1):
        row, lead = _train_row(grids["train"], {k: v[swept.design == design] for k, v in swept.points.items()})
        index[which == design, names.index("train.layout")], index[which == design, names.index("train.n_devices")] = row, lead
    found = flat.evaluate(index)
    for design in (0, 1):
        for name in ("usd_per_mtok", "tpot_s"):
            best = [b.points[name][d == design].min() for b, d in ((found, which[found.design]), (swept, swept.design))]
            assert best[0] == pytest.approx(best[1], rel=1e-12), name


def _train_row(grid, points):
    """Position in the grid of the training layout of a design's first point."""
    first = {k: v[0] for k, v in points.items() if k.startswith("train.")}
    degrees = ("n_tp", "n_cp", "n_pp", "n_etp", "n_ep")
    here = np.all([getattr(grid.layout, k) == first[f"train.{k}"] for k in degrees], axis=0)
    here &= np.all([grid.extras[k] == first[f"train.{k}"] for k in ("micro_batch", "recompute", "zero")], axis=0)
    return int(np.flatnonzero(here)[0]), int(np.flatnonzero(grid.leading == first["train.n_devices"])[0])
