"""YAML 1.2 scalars, positions, limits, and clear words for files that cannot be read."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.spec import yamlio
from codesign.spec.errors import SpecError

SCALARS = {
    "1e12": 1e12, "1.0e12": 1e12, "1.0e+12": 1e12, "1e-3": 1e-3, "off": "off", "no": "no", "yes": "yes", "1:30": "1:30", "08": 8,
    "010": 10, "0x1F": 31, "0o17": 15, "-5": -5, "+5": 5, ".5": 0.5, "5.": 5.0, "1_000": "1_000", "2**4": "2**4", "~": None,
    "null": None, "": None, "true": True, "True": True, "'true'": "true", '"5"': "5", ".inf": math.inf, "-.inf": -math.inf,
    "2026-08-01": "2026-08-01", "80 GB": "80 GB", "<= 5": "<= 5", "=": "=",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars_follow_yaml_1_2(text, value, tmp_path):
    found = yamlio.parse(f"a: {text}\nb: 1").data["a"]
    assert found == value and type(found) is type(value)
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {text}\nb: 1")
    assert yamlio.load_plain(path) == yamlio.load(path).data


def test_nan_and_long_numbers():
    assert math.isnan(yamlio.parse("[.nan]").data[0])
    with pytest.raises(SpecError, match="too many digits"):
        yamlio.parse("a: " + "9" * 5000)


def test_positions_of_keys_and_values():
    document = yamlio.parse("space:\n  a.b: {range: [1, 22]}\nwhere: ['x', \"y\"]\n2: é\n")
    assert document.positions["space.a.b"] == (2, 3)
    assert document.positions["space.a.b.range[1]"] == (2, 20)
    assert document.values[("where", 1)] == (3, 14)
    assert document.keys[(2,)] == (4, 1)
    assert document.diagnostic(("space", "a.b", "missing"), "m").col == 8  # nearest parent


def test_aliases_are_copies_with_positions():
    document = yamlio.parse("a: &x {k: [1]}\nb: *x\n")
    assert document.data["b"] == {"k": [1]} and document.data["b"] is not document.data["a"]
    assert document.values[("b",)] == (2, 4) and document.values[("b", "k")] == (1, 11)


BAD = {
    "a: 1\nb: 2\na: 3": (3, 1, "duplicate key 'a'"),
    "a: {b: 1, b: 2}": (1, 11, "duplicate key 'b'"),
    "a: [1, 2": (1, 9, "ends too early"),
    "a: 'x\nb: 1": (2, 5, "ends too early"),
    "a:\n\t- b": (2, 1, "a tab cannot"),
    "a: b: c": (1, 5, "mapping values"),
    "a: @x": (1, 4, "cannot begin with '@'"),
    "": (None, None, "empty"),
    "# only a comment\n": (None, None, "empty"),
    "a: !!python/object/apply:os.system ['true']": (1, 4, "tags"),
    "a: !x {}": (1, 4, "tags"),
    "a: &x [*x]": (1, 8, "contains itself"),
    "a: *nobody": (1, 4, "no anchor"),
    "a: 1\n---\nb: 2": (2, 1, "second YAML document"),
    "? [a]\n: b": (1, 3, "key must be"),
    "null: 1": (1, 1, "key must be"),
    "<<: {a: 1}": (1, 1, "merge keys"),
    "a: \x07": (1, 4, "U+0007"),
    "[" * 5000: (1, 64, "nested more than"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=lambda item: repr(item)[:30])
def test_bad_text_names_its_place(text, expected):
    with pytest.raises(SpecError) as caught:
        yamlio.parse(text, "bad.yaml")
    first = caught.value.diagnostics[0]
    assert (first.line, first.col) == expected[:2] and expected[2] in first.message
    assert "bad.yaml" in str(caught.value)


def test_all_duplicates_are_reported_with_both_places():
    with pytest.raises(SpecError) as caught:
        yamlio.parse("a: 1\na: 2\nb: {c: 1, c: 2}")
    assert [d.hint for d in caught.value.diagnostics] == [
        "it is already given at line 1, column 1",
        "it is already given at line 3, column 5",
    ]


def test_alias_bomb_stops():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(SpecError, match="aliases expand"):
        yamlio.parse("\n".join(lines))


def test_files_that_are_no_files(tmp_path):
    (tmp_path / "near.yaml").write_text("a: 1")
    (tmp_path / "binary.yaml").write_bytes(b"a: \0\1")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    expected = {
        tmp_path: "folder", tmp_path / "nar.yaml": "no such file", tmp_path / "no" / "x.yaml": "no such file",
        tmp_path / "binary.yaml": "binary", tmp_path / "latin.yaml": "not UTF-8",
    }  # fmt: skip
    for path, words in expected.items():
        with pytest.raises(SpecError, match=words) as caught:
            yamlio.load(path)
        assert str(path) in str(caught.value)
    assert yamlio.load(tmp_path / "bom.yaml").data == {"a": 1, "b": 2}
    with pytest.raises(SpecError) as caught:
        yamlio.load(tmp_path / "nar.yaml")
    assert "near.yaml" in caught.value.diagnostics[0].hint


def test_every_truncation_loads_or_says_why():
    text = "a: {b: [1, 'x y', \"q\"], c: |\n  t}\n"
    text = 'version: 1\nspace:\n  a.b: {range: [40, 80], step: 4}\n  c: {choices: [\'x\', "y"]}\nwhere: ["a > 1"]\n' + text
    for end in range(len(text)):
        try:
            yamlio.parse(text[:end])
        except SpecError as error:
            assert error.diagnostics and str(error)


def test_random_bytes_never_crash():
    rng = random.Random(0)
    alphabet = "ab:{}[],'\"\n\t -#&*!|>%@`?0e1.~\x00\x07é\u2028"
    for _ in range(3000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(30)))
        try:
            yamlio.parse(text)
        except SpecError as error:
            assert str(error)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        [
            "1e12",
            "off",
            "010",
            "1:30",
            "<<",
            "- x",
            "a: b",
            "# c",
            " x ",
            "~",
            "=",
            "null",
            "0o7",
            "\x85",
            "!!x",
            "*a",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.integers(-99, 99),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), PLAIN, min_size=1, max_size=4))
def test_dump_and_parse_round_trip(data):
    again = yamlio.parse(yamlio.dump(data)).data
    assert again == data and repr(again) == repr(data)  # repr also tells 1 from 1.0 and True
