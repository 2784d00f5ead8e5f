"""Named picks on small fronts."""

import numpy as np
import pandas as pd

from codesign import picks

OBJECTIVES = {"c_eq_flop": "maximize", "usd_per_mtok": "minimize", "tpot_s": "minimize"}


def named(**columns):
    return {p["name"]: p["id"] for p in picks.picks(pd.DataFrame(columns), OBJECTIVES)}


def test_of_equal_quality_the_cheapest_is_named():
    found = named(id=[5, 6, 7], c_eq_flop=[2e24, 2e24, 1e24], usd_per_mtok=[3.0, 1.0, 0.5], tpot_s=[0.01, 0.02, 0.03])
    assert found["best quality"] == 6 and found["cheapest"] == 7 and found["fastest"] == 5


def test_of_equal_cost_the_better_quality_is_named():
    found = named(id=[1, 2, 3], c_eq_flop=[1e24, 2e24, 3e24], usd_per_mtok=[1.0, 1.0, 2.0], tpot_s=[0.01, 0.02, 0.03])
    assert found["cheapest"] == 2


def test_ratios_from_twice_up_are_times():
    front = pd.DataFrame({"id": [1, 2], "c_eq_flop": [1e24, 2.6e24], "usd_per_mtok": [1.0, 1.1], "tpot_s": [0.01, 0.02]})
    assert picks.neighbours(front, 0, OBJECTIVES)[0]["sentence"] == "2.6 times the quality for 10% more cost and 2 times the tpot"
    assert picks.gives_up(front, 0, OBJECTIVES) == "62% less quality than the best"
    assert picks.gives_up(front, 1, OBJECTIVES) == "10% more cost than the best; 2 times the tpot of the best"


def test_a_large_gap_is_no_whole_percent():
    front = pd.DataFrame({"id": [1, 2], "c_eq_flop": [1e21, 1e24], "usd_per_mtok": [1.0, 1.1], "tpot_s": [0.01, 0.02]})
    assert picks.gives_up(front, 0, OBJECTIVES) == "99.9% less quality than the best"


def test_neighbours_whose_gain_is_within_the_error_are_passed_over():
    front = pd.DataFrame(
        {"id": [1, 2, 3], "c_eq_flop": [1.0e24, 1.003e24, 2e24], "usd_per_mtok": [1.0, 1.1, 2.0], "tpot_s": [0.01, 0.011, 0.02]}
    )
    noise = {name: np.array([0.0, 0.3, 0.3]) for name in OBJECTIVES}
    assert [n["id"] for n in picks.neighbours(front, 0, OBJECTIVES)] == [2, 3]
    assert [n["id"] for n in picks.neighbours(front, 0, OBJECTIVES, noise=noise)] == [3]
    (only,) = picks.neighbours(front, 0, OBJECTIVES, noise={name: np.full(3, 2.0) for name in OBJECTIVES})
    assert only["id"] == 2 and only["sentence"].endswith("(within the error of their ratio)")
