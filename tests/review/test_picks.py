"""Named picks on small fronts."""

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
    assert picks.gives_up(front, 0, OBJECTIVES) == "1/2.6 of the best quality"
