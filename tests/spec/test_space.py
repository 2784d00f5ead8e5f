"""A space counts, canonicalises and enumerates exactly; definitions that cannot be are refused with their place."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.spec.choices import Legal
from codesign.spec.definitions import build, parse
from codesign.spec.schema import VariableDefinition
from codesign.spec.space import Late

LEGAL = {
    "architecture.n_layers": Legal(int), "architecture.d_model": Legal(int), "architecture.attention": Legal(str, names=("gqa", "mha", "mla")),
    "architecture.n_heads": Legal(int), "architecture.n_kv_heads": Legal(int), "architecture.d_ff": Legal(int),
    "architecture.window_tok": Legal(int, "tok"), "architecture.tied_embeddings": Legal(bool), "slo.tpot": Legal(float, "s"),
    "hardware.serve": Legal(str), "lifecycle.share": Legal(float), "architecture.n_experts": Legal(int),
}  # fmt: skip


def read(definition, name="architecture.n_layers", **context):
    return parse({name: definition}, legal=LEGAL, **context).variables[0].choices


VALUES = [
    ("architecture.n_layers", {"range": [40, 80], "step": 4}, tuple(range(40, 81, 4))),
    ("architecture.n_layers", {"range": [40, 79], "step": 4}, tuple(range(40, 79, 4))),
    ("architecture.n_layers", {"range": [3, 6]}, (3, 4, 5, 6)),
    ("architecture.n_layers", {"range": [5, 5]}, (5,)),
    ("architecture.n_layers", {"range": [1, 100], "log": True, "n": 3}, (1, 10, 100)),
    ("architecture.n_layers", {"range": [1, 4], "log": True, "n": 10}, (1, 2, 3, 4)),
    ("architecture.n_layers", {"range": ["1k", "4k"], "n": 4}, (1000, 2000, 3000, 4000)),
    ("lifecycle.share", {"range": [0.1, 0.5], "step": 0.1}, (0.1, 0.2, 0.3, 0.4, 0.5)),
    ("lifecycle.share", {"range": [0, 1], "n": 5}, (0.0, 0.25, 0.5, 0.75, 1.0)),
    ("slo.tpot", {"range": ["8 ms", "32 ms"], "log": True, "n": 3}, (0.008, 0.016, 0.032)),
    ("slo.tpot", {"range": ["8 ms", "12 ms"], "step": "2 ms"}, (0.008, 0.01, 0.012)),
    ("slo.tpot", ["8 ms", "0.02 s"], (0.008, 0.02)),
    ("architecture.n_experts", {"powers_of_two": [3, 64]}, (4, 8, 16, 32, 64)),
    ("architecture.n_heads", {"divisors_of": 48, "min": 3, "max": 24}, (3, 4, 6, 8, 12, 16, 24)),
    ("architecture.n_heads", {"divisors_of": "d_model", "max": 5}, (1, 2, 3, 4)),
    ("architecture.attention", ["gqa", "mla"], ("gqa", "mla")),
    ("architecture.attention", "mla", ("mla",)),
    ("architecture.tied_embeddings", [True, False], (True, False)),
    ("architecture.window_tok", [0, "4 ktok"], (0, 4000)),
    ("architecture.n_layers", [4.0, 8], (4, 8)),
]


@pytest.mark.parametrize(("name", "definition", "choices"), VALUES, ids=lambda item: str(item)[:40])
def test_kinds_of_choices(name, definition, choices):
    found = read(definition, name, fixed={"architecture.d_model": 12})
    assert found == choices
    assert [type(value) for value in found] == [LEGAL[name].type] * len(found)


def test_order_is_known():
    assert parse({"a": [4, 8, 16]}).variables[0].ordered and parse({"a": [16, 8]}).variables[0].ordered
    assert not parse({"a": [8, 4, 16]}).variables[0].ordered
    assert not parse({"a": ["x", "y"]}).variables[0].ordered and not parse({"a": [True, False]}).variables[0].ordered


WRONG = [  # definition of architecture.n_layers, path below it, part of the message
    ({"range": [80, 40]}, ("range",), "the range is empty"),
    ({"range": [1, 9], "step": 0}, ("step",), "step must be more than 0"),
    ({"range": [1, 9], "step": -2}, ("step",), "step must be more than 0"),
    ({"range": [1, 9], "step": 1, "n": 3}, ("n",), "not both"),
    ({"range": [0, 9], "log": True, "n": 3}, ("range", 0), "above 0"),
    ({"range": [1, 9], "log": True}, ("log",), "needs 'n'"),
    ({"range": [1, 1e9]}, ("range",), "more than 10,000"),
    ({"range": [1, "9 GB"]}, ("range", 1), "unit 'GB' is [byte]"),
    ({"choices": []}, ("choices",), "no choices"),
    ({"choices": [1, 2, 1]}, ("choices", 2), "already among"),
    ({"choices": [1, 2.5]}, ("choices", 1), "expected a whole number"),
    ({"choices": [1, "x"]}, ("choices", 1), "cannot read 'x'"),
    ({"choices": [1, True]}, ("choices", 1), "true or false"),
    ({"choices": [1, float("inf")]}, ("choices", 1), "finite"),
    ({"choices": [1], "step": 2}, ("step",), "goes with 'range'"),
    ({"choices": [1], "range": [1, 2]}, ("range",), "give one of"),
    ({"when": "n_heads > 1"}, (), "give one of"),
    ({"choices": [1], "else": 3}, ("else",), "needs a 'when'"),
    ({"powers_of_two": [0, 8]}, ("powers_of_two", 0), "begin at 1"),
    ({"powers_of_two": [9, 15]}, ("powers_of_two",), "no value is left"),
    ({"divisors_of": "n_heads"}, ("divisors_of",), "not a base value"),
    ({"divisors_of": 12, "min": 7, "max": 11}, ("divisors_of",), "no value is left"),
    ({"choices": [1], "when": "n_hedas > 1"}, ("when",), "unknown name"),
    ({"choices": [1], "when": "n_heads"}, ("when",), "not a condition"),
    ({"choices": [1], "when": "n_layers > 1"}, ("when",), "circle"),
    ({"choices": [1], "when": "attention == 'gqq'"}, ("when",), "never true"),
    ({"choices": [1], "when": "n_params > 1"}, ("when",), "after a design is complete"),
    ({"choices": [1], "when": "d_ff > 1"}, ("when",), "has no value"),
]


@pytest.mark.parametrize(("definition", "path", "message"), WRONG, ids=lambda item: str(item)[:40])
def test_wrong_definitions(definition, path, message):
    raw = {
        "architecture.n_layers": definition,
        "architecture.n_heads": [1, 2],
        "architecture.attention": ["gqa"],
    }
    definitions = {name: VariableDefinition.model_validate(value) for name, value in raw.items()}
    late = Late(frozenset({"n_params"}), lambda values: {})
    space, problems = build(definitions, legal=LEGAL, fixed={}, late=late)
    assert space is None and len(problems) == 1
    assert problems[0].path == ("space", "architecture.n_layers", *path) and message in problems[0].message


def test_a_pinned_variable_may_settle_a_condition():
    raw = {"architecture.n_kv_heads": {"choices": [4, 8], "when": "attention == 'gqa'", "else": 1}, "architecture.attention": ["mla"]}
    space, problems = build({n: VariableDefinition.model_validate(v) for n, v in raw.items()}, legal=LEGAL, fixed={}, late=None)
    assert not problems and space.n_designs().n == 1


def test_unknown_variables_and_derived_names():
    definitions = {n: VariableDefinition.model_validate([1, 2]) for n in ("architecture.n_layer", "n_heads", "architecture.d_ff")}
    derived = {
        "architecture.d_ff": "n_layer * 2",
        "a": "b + 1",
        "b": "a",
        "bad name": "1",
        "architecture.zzz": "2",
    }
    _, problems = build(definitions, derived, ["n_experts > 1 +"], legal=LEGAL, fixed={})
    told = {(p.path, p.message): p.hint for p in problems}
    assert told[(("space", "architecture.n_layer"), "unknown variable 'architecture.n_layer'")] == "did you mean 'architecture.n_layers'?"
    assert told[(("space", "n_heads"), "unknown variable 'n_heads'")] == "write 'architecture.n_heads'"
    assert (("derived", "architecture.d_ff"), "'architecture.d_ff' is also a variable of the space") in told
    assert (("derived", "a"), "these refer to each other in a circle: a -> b -> a") in told
    assert (("derived", "bad name"), "'bad name' is not a name") in told
    assert (("derived", "architecture.zzz"), "unknown variable 'architecture.zzz'") in told
    assert (("where", 0), "the expression ends too early") in told


def test_conditions_values_and_ties():
    space = parse(
        {
            "architecture.attention": ["gqa", "mla"],
            "architecture.n_kv_heads": {"choices": [4, 8], "when": "attention == 'gqa'", "else": 1},
            "architecture.window_tok": {"choices": [1024, 2048], "when": "n_kv_heads > 4"},
            "architecture.n_heads": [16, 32],
        },
        {"architecture.d_ff": "n_heads * 2.4", "ratio": "n_heads / n_kv_heads"},
        ["ratio <= 8"],
        legal=LEGAL,
        fixed={"architecture.window_tok": 0},
    )
    kv, window = space.variables[1], space.variables[2]
    assert kv.choices == (4, 8, 1) and (kv.n_active, kv.canonical) == (2, 2)
    assert window.choices == (1024, 2048, 0) and window.canonical == 2  # the base value
    rows = space.canonical(np.array([[1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 1, 1], [0, 2, 0, 0], [0, 1, 2, 0]]))
    assert rows.tolist() == [[1, 2, 2, 0], [0, 0, 2, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert space.active(rows)[:, 1].tolist() == [False, True, True, True, True]
    values = space.values(rows)
    assert values["architecture.n_kv_heads"].tolist() == [1, 4, 8, 8, 8]
    assert values["architecture.attention"].tolist() == ["mla", "gqa", "gqa", "gqa", "gqa"]
    assert values["architecture.d_ff"].dtype == np.int64 and values["architecture.d_ff"].tolist() == [
        38,
        38,
        77,
        38,
        38,
    ]
    assert space.valid(rows).tolist() == [False, True, True, True, True]
    assert space.size() == 16 and space.n_designs() == (8, True)
    assert space.n_valid() == (6, True)


def test_late_columns_in_where():
    calls = []

    def compute(values):
        calls.append(set(values))
        return {"n_params": values["architecture.d_model"] * 12.0}

    space = parse(
        {"architecture.d_model": [1, 2, 3], "hardware.serve": ["a", "b"]},
        where=["n_params < 30"],
        legal=LEGAL,
        late=Late(frozenset({"n_params"}), compute),
    )
    assert space.n_valid() == (4, True) and space.n_designs() == (6, True)
    assert sum(len(block) for block in space.enumerate()) == 4
    assert all(seen == {"architecture.d_model"} for seen in calls)


def test_a_space_without_variables_has_one_design():
    space = parse({}, where=["n_heads > 4"], legal=LEGAL, fixed={"architecture.n_heads": 8})
    assert space.size() == 1 and space.n_designs() == (1, True) and space.n_valid() == (1, True)
    assert [block.shape for block in space.enumerate()] == [(1, 0)]
    assert space.canonical(np.zeros((1, 0), int)).shape == (1, 0) and space.active(np.zeros((1, 0), int)).shape == (1, 0)
    assert space.valid(np.zeros((1, 0), int)).tolist() == [True]


def test_estimates_where_counting_would_take_too_long():
    space = parse(
        {f"v{i}": list(range(10)) for i in range(4)} | {"w": {"choices": list(range(5)), "when": "v0 > 4"}},
        where=["v0 + v1 + v2 + v3 < 18"],
    )
    exact, estimate = space.n_valid(), space.n_valid(cap=10)
    assert exact.is_exact and not estimate.is_exact
    assert estimate.n == pytest.approx(exact.n, rel=0.02)


def test_large_spaces_are_counted_at_once_and_enumerated_fast():
    space = parse({f"v{i}": list(range(20)) for i in range(12)}, where=["v0 <= v1", "v2 + v3 < 9"])
    begin = time.perf_counter()
    assert space.n_valid() == (210 * 45 * 20**8, True)
    assert len(next(space.enumerate(4096))) == 4096
    assert time.perf_counter() - begin < 1


@st.composite
def spaces(draw):
    """A few small variables, some of which depend on others, some exclusions."""
    n = draw(st.integers(1, 5))
    order = draw(st.permutations(range(n)))
    raw = {}
    for v in range(n):
        definition = {"choices": list(range(draw(st.integers(1, 4))))}
        before = [u for u in range(n) if order[u] < order[v]]
        if before and draw(st.booleans()):
            u = draw(st.sampled_from(before))
            definition["when"] = draw(st.sampled_from([f"v{u} > 0", f"v{u} != 1", f"d{u} > 3", f"v{u} < 0"]))
            if draw(st.booleans()):
                definition["else"] = draw(st.integers(0, 5))
        raw[f"v{v}"] = definition
    derived = {f"d{v}": f"v{v} * 2 + 1" for v in range(n)}
    where = draw(
        st.lists(
            st.sampled_from([f"v{a} + d{b} < {c}" for a in range(n) for b in range(n) for c in (3, 6)]),
            max_size=2,
        )
    )
    return raw, derived, where


def by_hand(raw, derived, where):
    """All distinct valid designs as dicts of values, one at a time."""
    designs = set()
    for picks in itertools.product(*(definition["choices"] for definition in raw.values())):
        values = dict(zip(raw, picks, strict=True))
        for _ in raw:  # settle chains of conditions
            names = values | {d: eval(text, {}, values) for d, text in derived.items()}
            for name, definition in raw.items():
                if "when" in definition:
                    is_active = eval(definition["when"], {}, names)
                    otherwise = definition.get("else", definition["choices"][0])
                    values[name] = picks[list(raw).index(name)] if is_active else otherwise
                    names = values | {d: eval(text, {}, values) for d, text in derived.items()}
        names = values | {d: eval(text, {}, values) for d, text in derived.items()}
        if all(eval(text, {}, names) for text in where):
            designs.add(tuple(values.values()))
    return designs


@settings(max_examples=150, deadline=None)
@given(spaces(), st.integers(1, 9))
def test_every_distinct_valid_design_exactly_once(drawn, chunk):
    raw, derived, where = drawn
    space = parse(raw, derived, where)
    blocks = list(space.enumerate(chunk))
    assert all(1 <= len(block) <= chunk for block in blocks)
    rows = np.concatenate(blocks) if blocks else np.zeros((0, len(raw)), int)
    assert np.array_equal(space.canonical(rows), rows) and space.valid(rows).all()
    assert len({tuple(row) for row in rows}) == len(rows) == space.n_valid().n
    values = space.values(rows)
    found = {tuple(int(values[name][i]) for name in raw) for i in range(len(rows))}
    assert found == by_hand(raw, derived, where)
    assert space.n_designs().n == sum(len(block) for block in parse(raw, derived).enumerate())
    whole = np.concatenate(list(space.enumerate(10_000))) if blocks else rows
    assert np.array_equal(whole, rows)  # the order does not depend on the chunk
    skipped = list(space.enumerate(chunk, start=3))
    assert np.array_equal(np.concatenate(skipped) if skipped else rows[:0], rows[3:])


@settings(max_examples=100, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_any_positions_become_a_canonical_design(drawn, seed):
    raw, derived, _ = drawn
    space = parse(raw, derived)
    limits = [len(variable.choices) for variable in space.variables]
    index = np.random.default_rng(seed).integers(0, limits, size=(50, len(limits)))
    rows = space.canonical(index)
    assert np.array_equal(space.canonical(rows), rows)
    known = {tuple(row) for block in space.enumerate() for row in block}
    assert {tuple(row) for row in rows} <= known
    active = space.active(rows)
    closed = np.array([variable.canonical for variable in space.variables])
    opened = np.array([variable.n_active for variable in space.variables])
    assert np.all(np.where(active, rows < opened, rows == closed))
