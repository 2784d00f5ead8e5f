"""Quantities to SI and back, and what is said about those that make no sense."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.spec.units import UnitError, dimension, is_quantity, quantity, show

SI = [
    ("80 GB", "byte", 8e10), ("80GiB", "byte", 80 * 2**30), ("3.35 TB/s", "byte/s", 3.35e12), ("989 TFLOP/s", "FLOP/s", 9.89e14),
    ("2.00 USD/h", "USD/s", 2 / 3600), ("0.41 USD/Mtok", "USD/tok", 4.1e-7), ("35 ms", "s", 0.035), ("20 us", "s", 20e-6),
    ("120 day", "s", 120 * 86400), ("9 month", "s", 9 * 30.4375 * 86400), ("1 yr", "s", 365.25 * 86400), ("200 MUSD", "USD", 2e8),
    ("30 Ttok", "tok", 3e13), ("2e6 tok/s", "tok/s", 2e6), ("1.37 kW", "W", 1370), ("3 kWh", "J", 1.08e7), ("400 Gbit/s", "byte/s", 5e10),
    ("4 bit", "bit", 4), (8192, "tok", 8192), ("128k tok", "tok", 128e3), ("8k", "tok", 8000), ("128 Kitok", "tok", 131072),
    ("5 %", "", 0.05), (0.5, "", 0.5), ("32k", "", 32000), ("12 pJ/bit", "J/byte", 96e-12), ("3e25 FLOP", "FLOP", 3e25),
    ("2 days", "s", 172800), ("1.5 ZFLOP", "FLOP", 1.5e21), ("10 USD/device/h", "USD/device/s", 10 / 3600), ("-3 ms", "s", -0.003),
    ("0.5 USD/Mtok", "USD/Mtok", 0.5), (1.9, "nat", 1.9),
]  # fmt: skip


@pytest.mark.parametrize(("text", "unit", "value"), SI)
def test_quantity_in_si(text, unit, value):
    assert quantity(text, unit) == pytest.approx(value, rel=1e-15)


def test_milliseconds_are_the_nearest_float():
    assert all(quantity(f"{n} ms", "s") == n / 1000 for n in range(1, 2000))


WRONG = [
    ("80 GB/s", "s", "unit 'GB/s' is [byte/s], this field is [s]"), ("3 USD/hr", "USD/s", "unknown unit 'USD/hr'"),
    ("3 TFLOPS", "FLOP/s", "unknown unit 'TFLOPS'"), ("3 Gb/s", "byte/s", "unknown unit 'Gb/s'"), ("3 mtok", "tok", "unknown unit 'mtok'"),
    ("16,384", "tok", "cannot read '16,384'"), (True, "", "expected a number, found true or false"), (8, "s", "a unit is missing"),
    ("8", "s", "a unit is missing"), ("abc", "s", "cannot read 'abc'"), ("9 s^9^9", "s", "cannot read the unit"), ("", "s", "cannot read ''"),
    ([1], "s", "found a list"), (None, "s", "found nothing"), (math.nan, "", "not-a-number"), ("8 ms", "", "unit 'ms' is [s], this field is a plain number"),
    ("5 s; import os", "s", "cannot read the unit"), ("1 (s)", "s", "cannot read the unit"), ("5 " + "s" * 500, "s", "cannot read the unit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "unit", "words"), WRONG, ids=lambda item: str(item)[:20])
def test_wrong_quantities(text, unit, words):
    with pytest.raises(UnitError) as caught:
        quantity(text, unit)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "unit", "right"),
    [("3 USD/hr", "USD/s", "USD/h"), ("3 TFLOPS", "FLOP/s", "TFLOP/s"), ("3 Gb/s", "byte/s", "Gbit/s"), ("3 mtok", "tok", "Mtok"),
     ("3 GBps", "byte/s", "GB/s"), ("9 mnth", "s", "month")],
)  # fmt: skip
def test_the_right_spelling_is_suggested(text, unit, right):
    with pytest.raises(UnitError) as caught:
        quantity(text, unit)
    assert caught.value.hint == f"did you mean '{right}'?"


def test_what_counts_as_a_quantity():
    assert is_quantity("8 ms") and is_quantity("200 MUSD") and is_quantity("5 %")
    assert not any(is_quantity(x) for x in ("gqa", "8", 8, "1:30", "h100_sxm", "8 <= x", None))
    assert dimension("200 MUSD") == "USD" and dimension("3 kW") == "W" and dimension("5 %") == "" and dimension("GB/s") == "byte/s"


SHOWN = [
    (8e10, "byte", "80 GB"), (3.35e12, "byte/s", "3.35 TB/s"), (0.018, "s", "18 ms"), (2e-6, "s", "2 us"), (10368000, "s", "120 day"),
    (2 / 3600, "USD/s", "2 USD/h"), (4.1e-7, "USD/tok", "0.41 USD/Mtok"), (2e8, "USD", "200 MUSD"), (3e13, "tok", "30 Ttok"),
    (16384, "", "16384"), (16384, "device", "16384 device"), (0, "s", "0 s"), (0.123456, "", "0.123"), (1370, "W", "1.37 kW"),
    (9.89e14, "FLOP/s", "989 TFLOP/s"), (1e25, "FLOP", "1e25 FLOP"), (999.9e9, "byte", "1 TB"), (math.inf, "s", "inf s"),
    (3.6e12, "J", "1 GWh"), (96e-12, "J/byte", "96 pJ/byte"),
    (31557600.0, "s", "365 day"), (2e5, "tok/s", "200 ktok/s"), (9868, "tok/s", "9870 tok/s"), (16384, "tok", "16384 tok"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "unit", "text"), SHOWN)
def test_show(value, unit, text):
    assert show(value, unit) == text


@given(
    st.floats(1e-12, 1e28) | st.floats(-1e28, -1e-12),
    st.sampled_from(
        [
            "byte",
            "byte/s",
            "s",
            "FLOP",
            "FLOP/s",
            "USD",
            "USD/s",
            "USD/tok",
            "tok",
            "tok/s",
            "W",
            "J",
            "J/byte",
            "",
            "device",
        ]
    ),
)
def test_what_is_shown_reads_back(value, unit):
    assert quantity(show(value, unit), unit) == pytest.approx(value, rel=0.0051)


def test_importing_the_room_is_cheap_and_lazy():
    code = "import sys, codesign.spec, codesign.spec.errors, codesign.spec.units, codesign.spec.yamlio; " \
        "print([m for m in ('numpy', 'pint', 'pydantic', 'pandas', 'optuna', 'scipy') if m in sys.modules])"  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    code = "import sys, codesign.spec.schema; print([m for m in ('numpy', 'pint', 'pandas', 'optuna') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
