"""Money, energy and fleets: integers are integers, idle devices are charged, dearer is never cheaper."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from codesign.lifecycle import economics as eco

examples = settings(max_examples=60, deadline=None)
positive = st.floats(-2, 4).map(lambda x: 10**x)
counts = st.integers(1, 500)


@examples
@given(positive, st.floats(1, 5), positive, counts, st.sampled_from([1, 8, 64, 72]))
def test_fleet_is_whole_replicas_in_whole_domains(mean, peak, capacity, size, domain):
    n = eco.n_replicas(mean, peak, capacity)
    devices = eco.charged_devices(n, size, domain)
    assert n == np.rint(n) and devices % domain == 0
    assert n * capacity >= mean * peak * (1 - 1e-9)
    assert devices >= n * size
    assert (n - 1) * capacity < mean * peak * (1 + 1e-9)


@examples
@given(positive, st.floats(1, 5), positive, st.floats(1, 10), counts)
def test_slower_replicas_and_higher_peaks_never_cost_less(mean, peak, capacity, k, size):
    base = eco.charged_devices(eco.n_replicas(mean, peak, capacity), size, 72)
    assert eco.charged_devices(eco.n_replicas(mean, peak, capacity / k), size, 72) >= base
    assert eco.charged_devices(eco.n_replicas(mean, peak * k, capacity), size, 72) >= base


def test_exact_multiples_need_no_extra_replica():
    assert eco.n_replicas(0.3, 1.0, 0.1) == 3


def test_nothing_to_serve_and_nothing_that_serves():
    assert eco.n_replicas(0.0, 2.0, 10.0) == 0.0
    assert eco.n_replicas(1.0, 2.0, 0.0) == np.inf
    assert eco.usd_per_tok(1.0, 8, 0.0) == np.inf
    assert eco.duration_s(0.0, 0.0) == 0.0 and eco.duration_s(1.0, 0.0) == np.inf


def test_idle_devices_of_a_domain_are_charged():
    assert eco.charged_devices(1, 64, 72) == 72
    assert eco.charged_devices(9, 8, 72) == 72
    assert eco.charged_devices(10, 8, 72) == 144
    assert eco.charged_devices(3, 80, 72) == 3 * 144


def test_usd_per_mtok_and_task_by_hand():
    devices = eco.charged_devices(eco.n_replicas(1e5, 2.0, 6e4), 32, 72)
    assert devices == 144
    usd = eco.usd_per_mtok(devices * 3.0 / 3600, 1e5)
    assert_allclose(usd, 144 * 3.0 / 3600 / 1e5 * 1e6)
    assert_allclose(eco.usd_per_task(usd, 2e4), usd * 0.02)


def test_energy_by_hand():
    joule = eco.energy_j_per_tok(1000.0, 8, 4000.0, pue=1.1)
    assert_allclose(joule, 2.2)
    kwh = eco.energy_kwh(1000.0, 8, 3600.0, pue=1.1)
    assert_allclose(kwh * eco.KWH_J, joule * 4000.0 * 3600.0)
    assert_allclose(eco.energy_usd(kwh, 0.1), 0.88)


def test_arrays_broadcast_designs_against_prices():
    assert eco.usd_per_tok(np.ones((4, 1)), 8, np.ones((1, 5))).shape == (4, 5)
    assert eco.phase_usd(np.ones((4, 1)), 8, np.ones(5)).shape == (4, 5)
