"""Scale-up domains from racks: against a scalar reference, NVL72 and NVL576 as published, limits, prices, spares."""

import numpy as np
import pytest
from physics_cases import changed, chip_of, plain
from reference import rack as reference

from codesign.physics import rack as physics
from codesign.scenario import make_rack
from codesign.search import exhaustive
from codesign.spec.errors import SpecError
from studies import study

SIZES = (1, 7, 8, 36, 71, 72, 73, 100, 144, 288, 576, 1024, 2592, 2600)
HARDWARE = ("gb200_nvl72", "h100_sxm_node", "b200_sxm_node", "vr200_nvl72")
HALLS = ({}, {"power": 40e3}, {"power": 60e3, "n_spare": 8}, {"medium": "copper"}, {"weight": 700.0}, {"n_cables": 3000})


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("hall", HALLS, ids=str)
def test_against_the_scalar_reference(hardware, hall):
    chip, rack = chip_of(hardware), make_rack(hardware, hall)
    got = physics.domain(chip, rack, np.array(SIZES, dtype=float))
    for i, n in enumerate(SIZES):
        for name, want in vars(reference.domain(plain(chip), plain(rack), n)).items():
            value = np.broadcast_to(getattr(got, name), (len(SIZES),))[i]
            np.testing.assert_allclose(value, want, rtol=1e-9, atol=1e-12, err_msg=f"{n}: {name}")


def test_nvl72_is_one_copper_rack_and_the_largest():
    chip, rack = chip_of("gb200_nvl72"), make_rack("gb200_nvl72", {})
    what = physics.domain(chip, rack, 72.0)
    assert (float(what.n_cables), float(what.n_switches), float(what.n_racks), float(what.n_optics)) == (5184, 18, 1, 0)
    assert float(what.power_w) == pytest.approx(123.6e3, rel=0.02) and float(what.weight_kg) == pytest.approx(1360, rel=0.01)
    size, what_ends_it = physics.largest_copper_domain(chip, rack)
    assert float(size) == 72 and physics.LIMITS[int(what_ends_it)] == "cables"


def test_nvl576_costs_what_was_published():
    """5.6 MUSD of parts, 9,700 USD per device, 38,800 with the vendor's margin (SemiAnalysis, GB200 Hardware Architecture)."""
    what = physics.domain(chip_of("gb200_nvl72"), make_rack("gb200_nvl72", {}), 576.0)
    assert (float(what.n_switches), float(what.n_optics)) == (288 + 144, 5184)
    assert float(what.extra_usd) == pytest.approx(38_800, rel=0.03)


def test_two_racks_of_36_need_162_cables_between_them():
    what = physics.domain(chip_of("gb200_nvl72"), make_rack("gb200_nvl72", {"power": 67e3}), 72.0)
    assert (float(what.n_racks), float(what.n_optics)) == (2, 2 * 162)


@pytest.mark.parametrize("hall, ends", [
    ({"power": 40e3}, "power"), ({"weight": 500.0}, "weight"), ({"n_cables": 2000}, "cables"), ({"n_cables": 10**6}, "slots"),
])  # fmt: skip
def test_the_limit_that_binds_is_named(hall, ends):
    rack = make_rack("gb200_nvl72", hall)
    size, limit = physics.largest_copper_domain(chip_of("gb200_nvl72"), rack)
    assert physics.LIMITS[int(limit)] == ends
    over = physics.violations(chip_of("gb200_nvl72"), make_rack("gb200_nvl72", hall | {"medium": "copper"}), size + 1)
    assert over[ends] > 0 and physics.violations(chip_of("gb200_nvl72"), rack, size + 1)[ends] < 0


def test_faster_links_and_tighter_halls_never_allow_more():
    rack, chip = make_rack("gb200_nvl72", {}), chip_of("gb200_nvl72")
    base = float(physics.largest_copper_domain(chip, rack)[0])
    for change in ({"scale_up__bytes_per_s": 1800e9}, {"all_in_w": np.float64(5000.0)}):
        assert float(physics.largest_copper_domain(changed(chip, **change), rack)[0]) < base
    sizes = np.arange(1.0, 1025.0)
    for name in ("n_cables", "n_tiers", "n_switches", "n_racks", "n_optics"):
        assert np.all(np.diff(getattr(physics.domain(chip, rack, sizes), name)) >= 0), name


def test_a_domain_as_sold_costs_its_rent_and_the_repairs():
    chip, rack = chip_of("gb200_nvl72"), make_rack("gb200_nvl72", {})
    sold = physics.domain(chip, rack, 72.0)
    same = physics.with_domain(chip, rack, sold, sold)
    assert float(same.usd_per_s) == pytest.approx(float(chip.usd_per_s / sold.availability_frac))
    larger = physics.with_domain(chip, rack, physics.domain(chip, rack, 144.0), sold)
    assert float(larger.usd_per_s) > float(same.usd_per_s) and float(larger.all_in_w) > float(same.all_in_w)
    assert float(larger.reductions.at_8.two_shot_t0_s - chip.reductions.at_8.two_shot_t0_s) == pytest.approx(2 * 500e-9)


def test_spares_pay_once_a_domain_is_large():
    rack = make_rack("gb200_nvl72", {})
    kept, up = physics.spares(np.array([8.0, 72.0, 576.0, 1024.0]), rack)
    assert kept.tolist()[0] == 0 and kept[2] > 0 and kept[3] >= kept[2]
    cost = np.array([8.0, 72.0, 576.0, 1024.0]) / (np.array([8.0, 72.0, 576.0, 1024.0]) - kept) / up
    assert np.all(cost < 1.03)  # with spares a large domain loses hardly more than a small one
    assert float(physics.availability(576.0, 4.0, 0.0, 12 * 3600.0)) < 0.9


RACKED = {
    "hardware": {"train": "h100_sxm_node", "serve": "gb200_nvl72"}, "space": {"serve.scale_up_size": [8, 64, 144, 576]},
    "objectives": {"usd_per_mtok": "minimize", "tpot": "minimize"}, "lifecycle": {"pretrain_tok": "2 Ttok"},
    "layout": {"serve": {"n_tp": [1], "n_dp": [4, 32], "n_pp": [1], "batch": [4, 64]}}, "rack": {},
}  # fmt: skip


def test_a_study_prices_and_names(tmp_path):
    found = exhaustive.run(study(tmp_path, RACKED).problem)
    assert found.exact and {"rack_n_optics", "rack_n_racks", "rack_availability_frac"} <= set(found.front)
    copper = study(tmp_path, RACKED | {"rack": {"medium": "copper", "power": "60 kW"}}).problem
    batch = copper.evaluate(np.concatenate(list(copper.enumerate(100))))
    assert np.sum(np.all(batch.violations <= 0, axis=1)) == 1
    assert set(batch.killed) == {"rack power", "rack cables"}


@pytest.mark.parametrize("changes, message", [
    ({"rack": {"power": "1 kW"}}, "not one device of 'gb200_nvl72' fits a rack within its limit of power"),
    ({"rack": {}, "space": {"precision.weight_bits": [8, 16]}}, "no scale-up domain is varied"),
    ({"hardware": {"train": "h100_sxm_node", "serve": "mi300x_node"}}, "joins its devices as a mesh"),
    ({"rack": {"use": "obberon"}}, "unknown rack 'obberon'"),
    ({"space": {"serve.scale_up_size": [100_000]}}, "three tiers of 72-port switches reach 93312 devices"),
])  # fmt: skip
def test_racks_that_cannot_exist_are_refused(tmp_path, changes, message):
    with pytest.raises(SpecError) as caught:
        study(tmp_path, RACKED | changes)
    assert message in str(caught.value)
