"""Every shipped study: what the search archives is scored again to the same numbers, so that no feature of a study is forgotten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codesign.rescore import points_of, score
from codesign.study import open_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_archived_points_come_back(path):
    problem = open_study(path).problem
    if problem.setting.clip:
        pytest.skip("studies of video are not scored again: nobody has measured their errors")
    index = np.unique(problem.space.sample(200, 0), axis=0)
    index = index[problem.space.valid(index)]
    index = index[np.unique(np.linspace(0, len(index) - 1, 60).astype(int))]
    batch = problem.evaluate(index)
    n = min(batch.design.size, 25)
    assert n, "no sampled design is feasible"
    rows = [{k: v[i].item() for k, v in batch.points.items()} for i in range(n)]
    columns, violations = score(points_of(problem, rows), np.arange(n), {})
    shared = [k for k, v in columns.items() if k in batch.points]
    assert len(shared) > 40
    for name in shared:
        assert columns[name] == pytest.approx(np.asarray(batch.points[name][:n], dtype=float), rel=1e-9), name
    assert max(float(v.max()) for v in violations.values()) <= 1e-9
