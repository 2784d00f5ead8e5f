"""README and docs tell the truth: their commands run, their YAML loads, their links lead somewhere, their names exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from codesign.cli import main
from codesign.listing import KINDS
from codesign.meanings import explain
from codesign.objectives import ALIASES, COLUMNS, Column
from codesign.spec import yamlio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import refresh_docs as pages  # noqa: E402

DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURES = ROOT / "docs" / "cases.md"  # its text argues from its figures, so these must be today's
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
OPTIONS = ROOT / "tests" / "golden" / "cli_options.txt"
STALE = "the page shows what is no longer so; run scripts/refresh_docs.py"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return page.name


def all_blocks():
    return [pytest.param(block, id=f"{page.name}:{block.line}") for page in DOCS for block in pages.blocks(read(page))]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Path:
    """One finished quickstart for all pages."""
    folder = tmp_path_factory.mktemp("quickstart")
    for name in ("studies", "spaces"):
        shutil.copytree(ROOT / name, folder / name)
    here = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(main, ["run", "studies/quickstart.yaml"])
    finally:
        os.chdir(here)
    assert result.exit_code == 0, result.output
    (folder / "screen.txt").write_text(result.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def workspace(quickstart, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(pages.workspace(tmp_path, quickstart / pages.RUN))
    return tmp_path


def run(command: str) -> str:
    args, head = pages.words(command)
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}\n{STALE}"
    return "".join(result.stdout.splitlines(keepends=True)[:head])


@pytest.mark.parametrize("page", pages.PAGES, ids=named)
def test_every_command_of_a_page_runs(page, workspace):
    n = 0
    for block in pages.blocks(read(page)):
        pages.write_file(block, workspace)
        for command in block.commands:
            if pages.is_run(command) and command != pages.QUICKSTART:
                output = run(command)
                n += 1
                if page == FIGURES and block.kind == "text":
                    same_figures(block.body.partition("\n")[2], output, command)
    assert n >= 2


def same_figures(shown: str, real: str, command: str) -> None:
    """The same words, and numbers within 3 % (the last of three digits); how long something took is nobody's figure."""
    shown, real = (re.sub(r"^wall_s.*\n", "", text.rstrip(), flags=re.M) for text in (shown, real))
    blank = [re.sub(r"[ #]+", " ", re.sub(r"\d[\d,.]*(e[+-]?\d+)?", "0", text)) for text in (shown, real)]
    assert blank[0] == blank[1], f"{command}\n{real}\n{STALE}"
    for a, b in zip(*(NUMBER.findall(text.replace(",", "")) for text in (shown, real)), strict=True):
        assert float(a) == pytest.approx(float(b), rel=0.03), f"{command}: {a} is now {b}\n{STALE}"


def slug(title: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def cases() -> list:
    """(heading, text) of every section of the cases."""
    found = re.split(r"^## (.+)$", read(FIGURES), flags=re.M)[1:]
    return [pytest.param(text, id=slug(title)) for title, text in zip(found[::2], found[1::2], strict=True)]


@pytest.mark.parametrize("text", cases())
def test_no_figure_of_a_case_stands_in_its_text_alone(text):
    """Each is printed by a command of its section, or asked for in its study."""
    blocks = list(pages.blocks(text))
    study = re.search(r"studies/[\w-]+\.yaml", text)[0]
    asked = read(ROOT / study)
    space = re.search(r"^\s+from: ([\w-]+)", asked, re.M)
    asked += read(ROOT / "spaces" / f"{space[1]}.yaml") if space else ""
    known = {float(n.replace(",", "")) for n in NUMBER.findall(asked + "".join(block.body for block in blocks))}
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", pages.FENCE.sub("", text))
    alone = [n for n in NUMBER.findall(prose) if float(n.replace(",", "")) not in known]
    assert not alone, f"no command prints {', '.join(alone)}"
    assert all(f"**{part}" in text for part in ("Answer", "Why", "What surprised", "What it cannot know"))


def test_the_screens_shown_have_the_shape_of_the_real_one(quickstart):
    """Labels and order of the lines: numbers move with the model, the screen must not."""

    def labels(text):
        return [re.match(r"best quality|[\w-]+|killed by", line)[0] for line in text.splitlines() if line]

    real = labels((quickstart / "screen.txt").read_text(encoding="utf-8"))
    for page in (ROOT / "README.md", ROOT / "docs" / "tutorial.md"):
        shown = next(b.body for b in pages.blocks(read(page)) if b.commands[:1] in (["scripts/quickstart"], [pages.QUICKSTART]))
        assert set(labels(shown.partition("\n")[2])) == set(real), STALE


@pytest.mark.parametrize("name", ["quickstart", "test", "setup"])
def test_the_two_commands_exist(name):
    script = ROOT / "scripts" / name
    assert name == "setup" or os.access(script, os.X_OK)  # setup is sourced by the others
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert name == "setup" or f"scripts/{name}" in read(ROOT / "README.md")


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.values[0].kind == "yaml"])
def test_yaml_blocks_load(block):
    assert isinstance(yamlio.parse(block.body).data, dict)


def commands() -> dict[str, click.Command]:
    return main.commands


def test_every_command_is_documented_and_has_help():
    text = "\n".join(read(page) for page in DOCS)
    for name, command in commands().items():
        assert command.help, f"{name} has no help"
        assert f"codesign {name}" in text or f"`{name}`" in text, f"no page mentions {name}"
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_commands_that_are_shown_but_not_run_exist():
    for page in pages.PAGES:
        for block in pages.blocks(read(page)):
            for command in block.commands:
                if command.startswith("codesign ") and not pages.is_run(command):
                    args = pages.words(command)[0]
                    known = {option for p in commands()[args[0]].params for option in p.opts}
                    assert {a for a in args[1:] if a.startswith("-")} <= known


def test_options_are_what_they_were():
    """A new flag is a decision: add it to tests/golden/cli_options.txt, and to the page where people will look for it."""
    lines = []
    for name, command in commands().items():
        lines += [f"{name} {p.name.upper()}" for p in command.params if isinstance(p, click.Argument)]
        lines += [f"{name} {'/'.join(p.opts)}" for p in command.params if isinstance(p, click.Option)]
    assert "\n".join(lines) + "\n" == OPTIONS.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_links_resolve(page):
    prose = pages.FENCE.sub("", read(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), target
        if anchor:
            assert anchor in {slug(title) for title in re.findall(r"^#+ (.+)$", read(there), re.M)}, target


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_files_that_are_named_exist(page):
    made = {block.file for block in pages.blocks(read(page)) if block.file}
    for name in re.findall(r"`((?:[\w.-]+/)*[\w*.-]+\.(?:py|csv|sh))`", pages.FENCE.sub("", read(page))):
        near = (ROOT, ROOT / "codesign", ROOT / "codesign" / "evidence" / "data")
        assert name in made or any(list(folder.glob(name)) for folder in near), f"{name} in {page.name}"


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_names_in_pages_are_known_to_explain(page):
    """Objectives, constraints and columns in the YAML blocks, and every `codesign explain NAME` in the prose."""
    text = read(page)
    asked = set(re.findall(r"codesign explain ([a-z][\w.]*)", text))
    for block in pages.blocks(text):
        if block.kind == "yaml":
            data = yamlio.parse(block.body).data
            asked |= {*data.get("objectives", {}), *data.get("constraints", {})}
    asked |= set(re.findall(r"constraints\.(\w+)=", text))
    asked |= set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) & {*COLUMNS, *ALIASES}
    for name in asked - {"tok_per_j"}:  # the objective that the how-to adds
        assert explain(name)["name"]
    for kind in re.findall(r"codesign list (\w+)", text):
        assert kind in KINDS


@pytest.fixture
def recipes(workspace, monkeypatch):
    """The Python files of the how-to, put where their rooms find them."""
    found = {}
    for block in pages.blocks(read(ROOT / "docs" / "how-to.md")):
        if block.kind == "python":
            found[block.file] = block.body
            if block.file.startswith("codesign/"):
                file = workspace / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.body, encoding="utf-8")
                name = block.file.removesuffix(".py").replace("/", ".")
                room = import_module(name.rpartition(".")[0])
                monkeypatch.setattr(room, "__path__", [*room.__path__, str(file.parent)])
                monkeypatch.delitem(sys.modules, name, raising=False)
    return found


def test_recipe_attention_kind(recipes):
    import doctest

    from codesign.physics import attention
    from codesign.point import evaluate_point

    tied = attention.module("tied")
    assert tied.__doc__ and doctest.testmod(tied).failed == 0
    model = {"name": "m", "architecture": dict(n_layers=36, d_model=4096, vocab=151936, n_heads=32, n_kv_heads=8, d_head=128, d_ff=14336)}
    scenario = {"accelerator": "h100_sxm", "batch": 64, "phase": "decode"}
    grouped, shared = (
        evaluate_point({"model": model | {"architecture": model["architecture"] | {"attention": kind}}} | scenario)
        for kind in ("gqa", "tied")
    )
    assert 2 * shared["architecture"]["kv_bytes_per_tok"] == grouped["architecture"]["kv_bytes_per_tok"]
    assert grouped["architecture"]["n_params"] - shared["architecture"]["n_params"] == 36 * 4096 * 8 * 128
    assert shared["decode"]["step_s"] < grouped["decode"]["step_s"]


def test_recipe_export_target(recipes, monkeypatch):
    from codesign import export, tables
    from codesign.results import load_results

    monkeypatch.setattr(export, "targets", lambda: ("summary",))
    result = load_results(pages.RUN)
    files = export.export("summary", tables.study_of(result), result, int(result.front["id"].iloc[0]))
    assert list(files) == ["summary.txt"] and files["summary.txt"].count("\n") == 3
    assert export.describe("summary").endswith(".")


def test_recipe_sampler(recipes):
    from codesign.search import samplers

    assert "small_nsga2" in samplers.names()
    command = f"{pages.QUICKSTART} --set search.method=nested --set search.sampler=small_nsga2 --trials 40 --seed 1 --out runs/small"
    assert "front" in run(command)


def test_recipe_objective(recipes, monkeypatch):
    from codesign import lifecycle_columns

    money = lifecycle_columns._money

    def with_the_line(*args):
        columns = money(*args)
        exec(recipes["lifecycle_columns.py"], {"columns": columns})
        return columns

    monkeypatch.setattr(lifecycle_columns, "_money", with_the_line)
    monkeypatch.setitem(COLUMNS, "tok_per_j", None)  # undone afterwards
    exec(recipes["objectives.py"], {"COLUMNS": COLUMNS, "Column": Column})
    assert explain("tok_per_j")["unit"] == "tok/J"
    out = run(
        f"{pages.QUICKSTART} --set architecture.n_layers=40 --set architecture.attention=mla --set precision.weight_bits=8 "
        "--set 'objectives={c_eq_flop: maximize, tok_per_j: maximize}' --set 'constraints.tok_per_j=>= 0.1 tok/J' --out runs/joules"
    )
    assert "tok/J" in out


def test_recipe_python(recipes, capsys):
    exec(recipes[""], {})
    assert capsys.readouterr().out.split()[-1] in ("compute", "memory", "network", "fixed")


def test_recipe_figures(recipes, capsys):
    pytest.importorskip("matplotlib")
    exec(recipes["figures.py"], {})
    assert all(Path(f"{name}.svg").stat().st_size > 10_000 for name in ("front", "parallel", "times"))
