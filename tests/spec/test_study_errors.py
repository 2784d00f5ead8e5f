"""What a user reads when a study is wrong: every file in bad_specs with the exact text beside it.

After a change of wording: `CODESIGN_UPDATE_MESSAGES=1 pytest tests/spec/test_study_errors.py`, then read the diff.
"""

from __future__ import annotations

import copy
import os
import random
import shlex
from pathlib import Path

import pytest

from codesign.spec.choices import Legal
from codesign.spec.errors import Problem, SpecError, did_you_mean
from codesign.spec.space import Late
from codesign.spec.study_file import StudyFile, load_study, new_study, templates
from codesign.spec.yamlio import dump, parse

HERE = Path(__file__).parent / "bad_specs"
INTEGERS = "n_layers d_model n_heads n_kv_heads d_ff n_experts n_active_experts d_expert"
LEGAL = {
    **{f"architecture.{name}": Legal(int) for name in INTEGERS.split()},
    "architecture.attention": Legal(str), "architecture.tied_embeddings": Legal(bool), "precision.weight_bits": Legal(int),
    "precision.kv_bits": Legal(int), "slo.tpot": Legal(float, "s"), "hardware.serve": Legal(str), "lifecycle.rl_tok": Legal(float, "tok"),
    "train.n_tp": Legal(int), "serve.n_tp": Legal(int), "serve.scale_up_size": Legal(int),
}  # fmt: skip
FIXED = {
    "architecture.d_ff": 4096,
    "architecture.n_heads": 128,
    "architecture.n_layers": 61,
    "architecture.d_model": 7168,
}
LATE = Late(frozenset({"n_params"}), lambda values: {"n_params": 1e9 + 0.0 * next(iter(values.values()))})
OBJECTIVES = ("c_eq_flop", "usd_per_mtok", "tpot", "ttft", "train_days", "train_usd", "energy_per_tok")


def check(study: StudyFile):
    """As `study.py` does: the space with the catalog's names, the names of objectives."""
    for name in study.objectives:
        if name not in OBJECTIVES:
            yield Problem(
                ("objectives", name),
                f"unknown objective '{name}'",
                did_you_mean(name, OBJECTIVES),
                at_key=True,
            )
    try:
        study.parse_space(LEGAL, FIXED, LATE)
    except SpecError as error:
        yield from error.diagnostics


def options(text: str) -> dict:
    """`--set` and `--scenario` from the first line of a file."""
    line = text.partition("\n")[0]
    words = shlex.split(line.removeprefix("# options:")) if line.startswith("# options:") else []
    pairs = list(zip(words[::2], words[1::2], strict=True))
    scenario = next((value for key, value in pairs if key == "--scenario"), None)
    return {"overrides": [value for key, value in pairs if key == "--set"], "scenario": scenario}


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda path: path.stem)
def test_messages(path, monkeypatch):
    monkeypatch.chdir(HERE)
    with pytest.raises(SpecError) as caught:
        load_study(path.name, **options(path.read_text()), check=check)
    text, expected = str(caught.value) + "\n", path.with_suffix(".txt")
    if os.environ.get("CODESIGN_UPDATE_MESSAGES"):
        expected.write_text(text)
    assert text == expected.read_text()
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.path and diagnostic.message


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"\x7fELF\0\0")
    for path, words in (
        (tmp_path, "folder"),
        (tmp_path / "b.yaml", "binary"),
        (tmp_path / "c.yaml", "no such file"),
    ):
        with pytest.raises(SpecError, match=words):
            load_study(path)


@pytest.mark.parametrize("name", templates())
def test_templates_load_and_round_trip(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(new_study(name))
    study = load_study(path)
    again_path = tmp_path / "resolved.yaml"
    again_path.write_text(study.resolved_yaml())
    again = load_study(again_path)
    assert again.model_dump() == study.model_dump() and again.resolved_yaml() == study.resolved_yaml()
    for scenario in study.scenarios:
        assert load_study(path, scenario=scenario).model_dump() != study.model_dump()
    assert new_study(name).startswith("#")


def test_unknown_template():
    with pytest.raises(SpecError, match="unknown template 'mo'"):
        new_study("mo")


STUDY = """\
base: {model: my/model.json, architecture: {vocab: 1000}}
hardware: {serve: gb200_nvl72}
space: {from: base, architecture.n_heads: [16, 32], architecture.d_ff: null}
where: n_heads > 8
workload: chat
slo: {itl: 30 ms}
lifecycle: {pretrain_tok: 15 Ttok, budget: "3e25 FLOP", rl_tok: {solve: balance}}
objectives: {c_eq_flop: maximize, usd_per_mtok: minimize}
constraints: {tpot: [">= 1 ms", "<= 30 ms"]}
search: {trials: 2e3, batch: 1k}
scenarios: {big: {architecture.n_layers: 80, workload.demand: 5 Mtok/s, objectives.tpot: minimize}}
"""
SPACE = """\
space: {architecture.n_layers: {range: [8, 16]}, architecture.n_heads: [1], architecture.d_ff: [1, 2], slo.tpot: [8 ms]}
derived: {ratio: n_layers / n_heads}
where: ["n_layers > 9"]
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "base.yaml").write_text(SPACE)
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "model.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text(STUDY)
    return tmp_path / "mine.yaml"


def test_a_space_of_the_tool_is_found_from_anywhere(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_text(STUDY.replace("from: base", "from: moe-shape").replace("where: n_heads > 8\n", ""))
    assert "architecture.d_expert" in load_study(path).space
    path.write_text(STUDY.replace("from: base", "from: moe-shap"))
    with pytest.raises(SpecError, match=r"did you mean 'moe-shape'(.|\n)*looked in .*spaces, and among those that come with codesign"):
        load_study(path)


def test_included_space_short_forms_and_paths(path):
    study = load_study(path)
    assert study.name == "mine" and study.base.model == str(path.parent / "my" / "model.json")
    assert list(study.space) == ["architecture.n_layers", "architecture.n_heads", "slo.tpot"]
    assert study.space["architecture.n_heads"].choices == [16, 32]
    assert study.where == ["n_heads > 8", "n_layers > 9"] and list(study.derived) == ["ratio"]
    assert study.workload.use == "chat" and study.slo.tpot == 0.03
    assert study.lifecycle.pretrain_tok.tok == 15e12 and study.lifecycle.budget.flop == 3e25
    assert study.search.trials == 2000 and study.search.batch == 1000
    assert [bound.limit("s") for bound in study.constraints["tpot"]] == [0.001, 0.03]
    assert study.positions["slo.itl"] == (6, 7) and study.path == path
    space = study.parse_space(LEGAL, FIXED)
    assert space.variables[2].choices == (0.008,) and space.n_valid().n == 14


def test_scenario_then_options(path):
    study = load_study(
        path,
        ["architecture.n_layers=61", "search.trials=500", "slo.itl=5 ms", "workload.isl=8k"],
        "big",
    )
    assert study.space["architecture.n_layers"].choices == [61]
    assert study.workload.use == "chat" and study.workload.demand.tok_per_s == 5e6 and study.workload.isl == 8000
    assert study.search.trials == 500 and study.slo.tpot == 0.005 and "tpot" in study.objectives


OPTIONS = [
    (
        "space.architecture.n_layers={range: [8, 10]}",
        lambda s: s.space["architecture.n_layers"].range == [8, 10],
    ),
    ("space.architecture.n_layers.range=[8, 9]", lambda s: s.space["architecture.n_layers"].range == [8, 9]),
    ("n_layers=[8, 9]", lambda s: s.space["architecture.n_layers"].choices == [8, 9]),
    ("hardware.serve=h200_sxm_node", lambda s: s.hardware.serve == "h200_sxm_node"),
    ("slo.tpot=9 ms", lambda s: s.space["slo.tpot"].choices == ["9 ms"]),
    ("constraints.train_days=<= 60 day", lambda s: s.constraints["train_days"][0].limit("day") == 60),
    ("constraints.train_days=>= 60 day", lambda s: s.constraints["train_days"][0].op == ">="),
    ("lifecycle.budget=5 MUSD", lambda s: s.lifecycle.budget.usd == 5e6),
    ("base.architecture.vocab=2000", lambda s: s.base.architecture["vocab"] == 2000),
    ("constraints={}", lambda s: s.constraints == {}),
    ("slo=null", lambda s: s.slo.tpot is None),
    ("where=[]", lambda s: s.where == []),
    ("precision.weight_bits=8", lambda s: s.space["precision.weight_bits"].choices == [8]),
    ("question=a=b, c", lambda s: s.question == "a=b, c"),
]


@pytest.mark.parametrize(("option", "holds"), OPTIONS, ids=[option for option, _ in OPTIONS])
def test_options(path, option, holds, tmp_path):
    study = load_study(path, [option])
    assert holds(study)
    again = tmp_path / "again.yaml"
    again.write_text(study.resolved_yaml())
    assert holds(load_study(again))


def test_problems_in_options_point_into_the_option(path):
    with pytest.raises(SpecError) as caught:
        load_study(path, ["search={trials: 5, sed: 3}"])
    assert str(caught.value).splitlines()[:3] == [
        "--set: unknown key 'sed' in 'search'",
        "    search={trials: 5, sed: 3}",
        "                       ^",
    ]


def test_a_study_cannot_be_changed(path):
    with pytest.raises(Exception, match="frozen"):
        load_study(path).name = "other"


def test_the_schema_describes_every_key():
    from codesign.spec.schema import json_schema

    schema = json_schema()

    def keys(node, path=""):
        for name, entry in node.get("properties", {}).items():
            yield f"{path}.{name}", entry
        for inner in node.get("anyOf", ()):
            yield from keys(inner, path)
        for name, entry in node.get("$defs", {}).items():
            yield from keys(entry, name)

    def described(entry):
        target = schema["$defs"].get(str(entry.get("$ref", "")).rpartition("/")[2], {})
        return entry.get("description") or target.get("description")

    listed = list(keys(schema))
    assert len(listed) > 90 and [name for name, entry in listed if not described(entry)] == []
    assert schema["title"] == "codesign study"
    assert "name" not in schema["required"] and set(schema["required"]) == {"base", "objectives"}


def test_resolved_text_is_yaml_1_2(path):
    data = parse(load_study(path).resolved_yaml()).data
    assert data["search"] == {"trials": 2000.0, "batch": "1k"} and "from" not in data["space"]


WEIRD = [
    None,
    5,
    -1.5,
    True,
    "",
    "x",
    "8 ms",
    "<= 5 s",
    [],
    [1],
    ["x", None],
    {},
    {"a": 1},
    {"choices": 3},
    {1: 2},
    float("inf"),
    10**400,
]
WEIRD_KEYS = [
    "slo.tpot",
    "base",
    "base.model",
    "space",
    "space.x",
    "slo.tpot.x",
    "workload.mix",
    "a.b",
    "scenarios",
    "layout.train",
    7,
]


def spoil(data, rng):
    """One random value replaced, removed or added somewhere."""
    target = data
    while True:
        inner = [v for v in (target.values() if isinstance(target, dict) else target) if isinstance(v, dict | list) and v]
        if not inner or rng.random() < 0.3:
            break
        target = rng.choice(inner)
    keys = list(target) if isinstance(target, dict) else list(range(len(target)))
    if isinstance(target, dict) and rng.random() < 0.3:
        target[rng.choice(WEIRD_KEYS)] = rng.choice(WEIRD)
    elif keys and rng.random() < 0.2:
        del target[rng.choice(keys)]
    elif keys:
        target[rng.choice(keys)] = copy.deepcopy(rng.choice(WEIRD))


def test_spoilt_studies_are_refused_in_words_or_load(tmp_path):
    rng, path = random.Random(1), tmp_path / "x.yaml"
    n_refused = 0
    for i in range(300):
        data = parse(new_study(templates()[i % 3])).data
        for _ in range(rng.randrange(1, 4)):
            spoil(data, rng)
        path.write_text(dump(data))
        option = f"{rng.choice(WEIRD_KEYS)}={rng.choice(['5', '[1', '{a: 1}', '8 ms', 'null', '[]', '<= 3'])}"
        try:
            load_study(path, [option] if i % 2 else [], rng.choice([None, "no-rl"]), check=check)
        except SpecError as error:
            n_refused += 1
            assert error.diagnostics and str(error)
    assert n_refused > 200


def test_truncated_studies_are_refused_in_words_or_load(tmp_path):
    text, path = new_study("dense"), tmp_path / "x.yaml"
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        try:
            load_study(path)
        except SpecError as error:
            assert error.diagnostics and str(error)
