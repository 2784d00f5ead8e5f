"""Waterfalls sum exactly, whatever interacts."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.attribution import shapley, waterfall


@pytest.mark.parametrize("n", [1, 3, 6])
def test_shapley_values_sum_to_the_difference(n):
    values = np.random.default_rng(n).normal(size=2**n)
    assert shapley(values, n).sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


def test_a_cause_that_does_nothing_gets_nothing_and_equals_get_the_same():
    masks = np.arange(8)
    values = ((masks & 1) + (masks >> 1 & 1)) ** 2.0  # players 0 and 1 alike, player 2 idle
    assert shapley(values, 3) == pytest.approx([2.0, 2.0, 0.0])


def test_every_pair_of_designs_is_explained_to_the_last_digit(small):
    front, goals = small.run.front, list(small.run.objectives)
    rows = front.to_dict("records")
    for a, b in [(0, len(rows) - 1), (1, len(rows) // 2), (len(rows) - 1, 0)]:
        causes = waterfall(small.study.problem, rows[a], rows[b], goals)
        for goal in goals:
            assert sum(c[goal] for c in causes) == pytest.approx(rows[b][goal] - rows[a][goal], rel=1e-9, abs=1e-12 * abs(rows[a][goal]))


def test_a_design_against_itself_has_no_causes(small):
    row = small.run.front.to_dict("records")[0]
    assert waterfall(small.study.problem, row, dict(row), list(small.run.objectives)) == []
