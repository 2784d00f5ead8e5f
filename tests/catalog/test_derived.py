"""Accelerators that do not exist yet: scaled by name, replaced by file, refused with a reason."""

from __future__ import annotations

import pytest

from codesign import catalog
from codesign.catalog.derived import SCALES
from codesign.point import evaluate_point
from codesign.scenario import make_chip
from codesign.spec.errors import UserError


def test_a_scaled_name_changes_that_figure_and_nothing_else():
    base, derived = catalog.hardware("b200_sxm_node"), catalog.hardware("b200_sxm_node with hbm_bandwidth=1.1, price=0.9")
    assert derived["hbm"]["bandwidth"] == pytest.approx(1.1 * base["hbm"]["bandwidth"])
    assert derived["price"]["rent"] == pytest.approx(0.9 * base["price"]["rent"])
    assert derived["hbm"]["capacity"] == base["hbm"]["capacity"] and derived["peak"] == base["peak"]
    origin = derived["provenance"]["hbm.bandwidth"]
    assert origin["confidence"] == "estimate" and "1.1 x" in origin["source"]
    assert catalog.hardware("b200_sxm_node")["hbm"]["bandwidth"] == base["hbm"]["bandwidth"]  # the catalog is untouched


@pytest.mark.parametrize("key", [k for k in SCALES if not k.startswith("peak_")])
def test_every_figure_can_be_scaled(key):
    name = "mi300x" if key == "scale_up_bandwidth" else "b200_sxm"
    assert catalog.hardware(f"{name} with {key}=2")


def test_kernels_are_those_of_the_base():
    base, derived = make_chip("h200_sxm"), make_chip("h200_sxm with hbm_bandwidth=2")
    assert derived.gemm.memory.at_16 == base.gemm.memory.at_16 and derived.hbm_bytes_per_s == 2 * base.hbm_bytes_per_s


def test_a_file_replaces_the_memory(tmp_path):
    path = tmp_path / "b200-ddr.yaml"
    path.write_text("base: b200-sxm\nhbm: {type: DDR5, capacity: 1 TB, bandwidth: 614 GB/s}\nscale: {price: 0.6}\n")
    record, base = catalog.hardware(str(path)), catalog.hardware("b200_sxm")
    assert record["hbm"]["capacity"] == 1e12 and record["hbm"]["bandwidth"] == 614e9 and record["memory"]["type"] == "DDR5"
    assert record["peak"] == base["peak"] and record["price"]["rent"] == pytest.approx(0.6 * base["price"]["rent"])
    assert record["system"] == "b200-ddr" and record["accelerator"] == "b200_sxm"
    point = {"model": "llama-3.1-8b", "phase": "decode", "engine": "ideal"}
    slow, fast = (evaluate_point(point | {"accelerator": name})["decode"]["step_s"] for name in (str(path), "b200_sxm"))
    assert slow / fast == pytest.approx(8000 / 614, rel=0.05)


@pytest.mark.parametrize(("own", "words"), [("", "no capacity and no bandwidth"), (", capacity: 1 TB", "has type DDR5 but no bandwidth")])
def test_memory_of_another_type_needs_its_figures(tmp_path, own, words):
    path = tmp_path / "b200-ddr.yaml"
    path.write_text(f"base: b200-sxm\nhbm: {{type: DDR5{own}}}\n")
    with pytest.raises(UserError, match=words):
        catalog.hardware(str(path))
    path.write_text("base: b200-sxm\nhbm: {type: HBM3E, capacity: 288 GB}\n")  # of the same type some figures may stay
    assert catalog.hardware(str(path))["hbm"]["capacity"] == 288e9


def test_a_file_may_stand_on_a_system(tmp_path):
    path = tmp_path / "half-rack.yaml"
    path.write_text("base: gb200_nvl72\nscale: {scale_up_size: 0.5}\n")
    assert catalog.hardware(str(path))["scale_up"]["size"] == 36


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b200_sxm with hbm_bandwith=1.1", ["'hbm_bandwith' cannot be scaled", "hbm_bandwidth"]),
        ("b200_sxm with price=-1", ["price = -1", "above 0"]),
        ("b200_sxm with price=cheap", ["'price=cheap' is no factor"]),
        ("b200_sxm with ", ["is no factor"]),
        ("b2000 with price=1", ["unknown", "b200"]),
        ("h100_pcie with peak_fp4=2", ["h100_pcie has no peak fp4"]),
        ("b200_sxm with scale_up_size=0.1", ["domains of 8 devices", "no whole number of at least 1", "0.25"]),
        ("gb200_nvl72 with scale_up_size=1.1", ["no whole number of at least 1"]),
    ],
)
def test_bad_derivations_are_refused(name, words):
    with pytest.raises(UserError) as error:
        catalog.hardware(name)
    text = str(error.value) + " ".join(d.hint or "" for d in error.value.diagnostics)
    assert all(word in text for word in words), text
