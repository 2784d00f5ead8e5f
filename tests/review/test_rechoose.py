"""Layouts chosen again under doubt: against the search itself, against brute force, and never worse than what is archived."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import studies
from codesign import rechoose as anew
from codesign import robustness
from codesign.assumptions import draw, factors_of, sources_of
from codesign.decision import decide
from codesign.decision_text import decide_text
from codesign.rescore import points_of
from codesign.run import run
from codesign.search import pareto

N = 120


@pytest.fixture(scope="module")
def sampled(small):
    found = robustness.sample(small.study, small.run, N)
    return SimpleNamespace(all=found, front=robustness.on_front(found.values, found.holds))


@pytest.fixture(scope="module")
def found(small, sampled):
    return anew.rechoose(small.study, small.run, sampled.all, sampled.front)


def test_the_draws_of_candidates_are_those_of_the_front(small, sampled):
    """More points under the same seed: the old ones are drawn as before."""
    records = small.run.front.to_dict("records")
    extra = points_of(small.study.problem, [*records, *records[:3]])
    sources = sources_of(small.study, extra)
    again = draw(sources, N, 0)
    for mine, z, theirs, w in zip(sources, again, sampled.all.sources, sampled.all.draws, strict=True):
        assert mine.name == theirs.name
        assert np.allclose(np.broadcast_to(z, (N, z.shape[1]))[:, mine.group[: len(records)]], w[:, theirs.group])


def test_without_doubt_nothing_moves(certain):
    sampled = robustness.sample(certain.study, certain.run, 5)
    r = anew.rechoose(certain.study, certain.run, sampled, robustness.on_front(sampled.values, sampled.holds))
    assert (r.p_front == 1).all() and (r.p_holds == 1).all() and not r.p_better.any()
    assert r.regret == pytest.approx(0.0, abs=1e-9) and r.left == pytest.approx(0.0, abs=1e-9)


def test_a_choice_can_only_help(found):
    assert (found.p_holds[:, 1] >= found.p_holds[:, 0] - 1e-12).all()
    known = np.isfinite(found.regret)
    assert (found.left[known] >= -1e-12).all() and (found.left[known] <= found.regret[known] + 1e-12).all()
    assert ((0 <= found.p_front) & (found.p_front <= 1)).all() and found.n_samples == N


def test_what_is_archived_is_a_candidate(small, sampled, found):
    """And designs come in the order of their share, those asked for first."""
    records, design = anew.candidates(small.study.problem, small.run, sampled.all, found.rows)
    ids = small.run.front["design_id"].to_numpy()
    for d, row in enumerate(found.rows):
        mine = [r for r, owner in zip(records, design, strict=True) if owner == d]
        for archived in small.run.front[ids == ids[row]].to_dict("records"):
            assert any(all(r[k] == archived[k] for k in archived if anew._is_layout(k)) for r in mine)
    last = len(ids) - 1
    assert anew.best_designs(small.run, sampled.front.mean(axis=0), (last,))[0] == last
    assert len(set(ids[found.rows])) == len(found.rows) <= anew.N_DESIGNS


def test_candidates_are_what_the_search_would_choose(tmp_path):
    """Where only demand, price and the time of all layouts alike are in doubt, the search under a draw is exact: the best of the candidates are
    its choice, in draws that the candidates were not taken from too."""
    nothing = dict.fromkeys(("quality", "drafts", "power", "model", "utilisation"), 0)
    life = {"budget": "3 MUSD", "pretrain_tok": {"solve": "budget"}, "unique_tok": "20 Ttok"}  # balance is weighed on layouts as archived
    study = studies.study(tmp_path, {"uncertainty": nothing | {"price": 0.3, "demand": 0.4}, "lifecycle": life})
    result = run(study, tmp_path / "out")
    sampled = robustness.sample(study, result, 3 * anew.N_SEARCHES)
    rows = anew.best_designs(result, np.ones(len(result.front)), ())
    records, design = anew.candidates(study.problem, result, sampled, rows)
    values, holds, picked = anew._scored(study, result, sampled, records, 0)
    goals, near = [g.column for g in study.setting.goals], 0
    factors = factors_of(sampled.sources, sampled.draws)
    described = anew.described(study.problem, study.problem.values_of(result.front.iloc[rows].to_dict("records")), len(rows))
    tried = range(anew.N_SEARCHES, len(picked), 12)
    for s in tried:
        here = {k: np.broadcast_to(v, (sampled.n, sampled.points.n))[s, rows] for k, v in factors.items()}
        rate = sampled.points.rl_rate[rows]
        batch = anew.laid_out(study.setting, described, rate, here, "time.decode")
        for d in range(len(rows)):
            theirs = np.stack([batch.points[g][batch.design == d] for g in goals], axis=1)
            theirs = robustness.coordinates(sampled.points, theirs * robustness._signs(sampled.points), sampled.log)
            mine = values[s][(design == d) & holds[s]]
            mine = mine[pareto.nondominated(mine)]
            covered = [np.any((mine <= t + 1e-9).all(axis=1)) for t in theirs]
            near += np.mean(covered) if covered else 1.0
    assert near / (len(tried) * len(rows)) > 0.95


def test_better_is_what_a_loop_finds():
    rng = np.random.default_rng(0)
    here, table, allowed = rng.normal(size=(4, 3)), rng.normal(size=(50, 3)), rng.random(50) < 0.8
    out = anew._better(here, table, allowed[None, :])
    for d in range(4):
        for j in range(3):
            others = [k for k in range(3) if k != j]
            free = [row[j] for row, fine in zip(table, allowed, strict=True) if fine and (row[others] <= here[d, others]).all()]
            assert out[d, j] == pytest.approx(max(here[d, j] - min(free, default=np.inf), 0.0))


def test_decide_says_it(small):
    answer = decide(small.study, small.run, 60, anew=True)
    rows = answer["anew"]["designs"]
    picked = {small.run.point(p["id"])["design_id"] for p in answer["picks"]}
    shown = {small.run.point(r["id"])["design_id"] for r in rows}
    assert picked <= shown and len(rows) <= anew.N_DESIGNS and decide(small.study, small.run, 60)["anew"] is None
    text = decide_text(answer, {p["id"]: "" for p in answer["picks"]})
    assert f"with layouts chosen again in each of {answer['anew']['samples']} samples" in text and "within limits" in text


def test_the_bar_of_a_front_of_two_hundred(small):
    """200 points under 2,000 draws and ten designs laid out again: 20 s, in CPU seconds, because the machine may be shared."""
    front, parts = small.run.front, []
    for k in range(200 // len(front) + 1):
        parts.append(front.assign(id=front["id"] + 1000 * k, design_id=front["design_id"] + 100_000 * k))
    table = pd.concat(parts, ignore_index=True).head(200)
    wide = type(small.run)(small.run.path, small.run.manifest, table)
    start = time.process_time()
    sampled = robustness.sample(small.study, wide, 2000)
    result = anew.rechoose(small.study, wide, sampled, robustness.on_front(sampled.values, sampled.holds))
    assert time.process_time() - start < 20 and len(result.rows) == anew.N_DESIGNS
