"""Fronts against the definition, hypervolume against closed forms and a second implementation, archive
against one pass.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.search import pareto


def brute_force(points):
    """Pareto front by definition; of equal rows the first."""
    keep = np.isfinite(points).all(axis=1)
    for i in range(len(points)):
        for j in range(len(points)):
            dominated = (points[j] <= points[i]).all() and (points[j] < points[i]).any()
            if keep[i] and np.isfinite(points[j]).all() and (dominated or (j < i and (points[j] == points[i]).all())):
                keep[i] = False
    return keep


clouds = st.integers(1, 5).flatmap(
    lambda m: hnp.arrays(
        float,
        st.tuples(st.integers(0, 40), st.just(m)),
        elements=st.integers(0, 4).map(float) | st.just(np.nan),
    )
)


@given(clouds)
def test_front_is_the_definition_with_duplicates_once(points):
    assert (pareto.nondominated(points) == brute_force(points)).all()


@given(clouds, st.data())
def test_maximised_axes_are_negated_ones(points, data):
    maximise = data.draw(st.lists(st.booleans(), min_size=points.shape[1], max_size=points.shape[1]))
    signs = np.where(maximise, -1.0, 1.0)
    assert (pareto.nondominated(points, maximise) == brute_force(points * signs)).all()


def test_chunks_do_not_change_the_front(monkeypatch):
    points = np.random.default_rng(0).integers(0, 30, (5000, 3)).astype(float)
    whole = pareto.nondominated(points)
    monkeypatch.setattr(pareto, "CHUNK", 64)
    assert (pareto.nondominated(points) == whole).all()


@given(clouds, st.integers(1, 7), st.integers(1, 5))
def test_archive_equals_one_pass_however_it_is_fed(points, batch, n_pending):
    archive = pareto.Archive(n_pending=n_pending)
    feasible = np.arange(len(points)) % 3 > 0
    for start in range(0, len(points), batch):
        part = slice(start, start + batch)
        archive.add(
            points[part],
            feasible[part],
            {"row": np.arange(len(points))[part], "name": points[part].astype(str)},
        )
    rows = np.flatnonzero(feasible)
    expected = rows[pareto.nondominated(points[rows])]
    front = archive.front()
    assert len(archive) == len(expected)
    if len(points):
        assert front["row"].tolist() == expected.tolist()
        assert front["name"].tolist() == points[expected].astype(str).tolist()


def test_archive_memory_stays_bounded():
    archive = pareto.Archive(n_pending=100)
    rng = np.random.default_rng(0)
    for _ in range(200):
        archive.add(rng.random((50, 2)))
        assert archive._n_rows <= 2 * archive._n_front + 150


def test_hypervolume_closed_forms():
    square = pareto.Scaling((False, False), (False, False), (0.0, 0.0), (1.0, 1.0))
    assert pareto.hypervolume([[0.0, 0.0]], square) == pytest.approx(1.0)
    assert pareto.hypervolume([[0.1, 0.1]], square) == pytest.approx(1.0 / 1.21)
    assert pareto.hypervolume([[0.1, 0.6], [0.6, 0.1]], square) == pytest.approx((1.0 - 0.25) / 1.21)
    assert pareto.hypervolume([[1.2, 0.0]], square) == 0.0  # beyond the reference point
    assert pareto.hypervolume([[np.nan, 0.0]], square) == 0.0
    assert pareto.hypervolume(np.empty((0, 2)), square) == 0.0
    cube = pareto.Scaling((False,) * 4, (False,) * 4, (0.0,) * 4, (1.0,) * 4)
    assert pareto.hypervolume(np.full((1, 4), 0.55), cube) == pytest.approx(0.5**4)


def test_scaling_is_logarithmic_on_positive_axes_and_minimises_all():
    front = np.array([[1.0, 1e3, -5.0], [10.0, 1e5, -1.0], [100.0, 1e6, 0.0]])
    scaling = pareto.scaling(front, maximise=(False, True, False))
    assert scaling.log == (True, True, False)
    np.testing.assert_allclose(scaling.apply(front), [[0, 1, 0], [0.5, 1 / 3, 0.8], [1, 0, 1]], atol=1e-12)
    same_in_other_units = pareto.scaling(front * [3600, 1e-6, 1], maximise=(False, True, False))
    np.testing.assert_allclose(same_in_other_units.apply(front * [3600, 1e-6, 1]), scaling.apply(front), atol=1e-12)
    assert pareto.Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_axes_without_spread_get_a_width_of_their_own():
    flat = pareto.scaling([[2.0, -3.0, 0.0]])
    assert pareto.hypervolume([[2.0, -3.0, 0.0]], flat) == pytest.approx(1.0)
    np.testing.assert_allclose(flat.apply([[2.0 * np.e, 0.0, 1.0]]), [[1, 1, 1]])
    assert np.isfinite(flat.apply([[0.0, -3.0, 0.0]])).all()  # zero on a logarithmic axis


def test_hypervolume_agrees_with_optuna():
    from optuna._hypervolume import compute_hypervolume

    for n_axes in (2, 3, 4):
        points = np.random.default_rng(n_axes).lognormal(size=(80, n_axes))
        scaling = pareto.scaling(points[pareto.nondominated(points)])
        expected = compute_hypervolume(scaling.apply(points).clip(max=1.1), np.full(n_axes, 1.1)) / 1.1**n_axes
        assert pareto.hypervolume(points, scaling) == pytest.approx(expected, rel=1e-12)


def test_approximate_hypervolume_of_large_fronts_is_close_and_repeats():
    rng = np.random.default_rng(0)
    sphere = np.abs(rng.normal(size=(4500, 5)))
    points = 1 - sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    box = pareto.Scaling((False,) * 5, (False,) * 5, (0.0,) * 5, (1.0,) * 5)
    approximate = pareto.hypervolume(points, box, exact=False)
    assert approximate == pareto.hypervolume(points, box, exact=False)
    assert approximate == pytest.approx(pareto.hypervolume(points, box), rel=2e-3)


def test_knee_is_the_point_nearest_to_the_ideal():
    points = np.array([[1.0, 100.0], [3.0, 9.0], [100.0, 1.0], [np.nan, 1.0]])
    assert pareto.knee(points, pareto.scaling(points)) == 1
