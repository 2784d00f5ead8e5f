"""The registry of export targets, and files on disk: plain names, all or none, nothing of the user's lost."""

import csv
import io
import json
from pathlib import Path

import plans
import pytest

from codesign import export
from codesign.catalog.hf import read_config
from codesign.export.csv import _cell
from codesign.physics.architecture import census, fill
from codesign.spec.errors import UserError


def first(kind):
    study, run = plans.searched(kind)
    return study, run, int(run.front["id"].iloc[0])


def test_targets_are_the_files_of_the_folder():
    stems = {p.stem for p in Path(export.__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    assert {name.replace("-", "_") for name in export.targets()} == stems
    assert {"training-plan", "hf", "csv"} <= set(export.targets())


@pytest.mark.parametrize("target", export.targets())
def test_every_target(target):
    sentence = export.describe(target)
    assert sentence.endswith(".") and len(sentence) < 200
    study, run, point = first("moe")
    before = run.table.copy()
    files = export.export(target, study, run, point)
    assert files == export.export(target, study, run, point)
    assert run.table.equals(before)
    for name, text in files.items():
        assert Path(name).name == name and text.endswith("\n") and "\r" not in text


@pytest.mark.parametrize("name", ["training_plan", "hff", "_subject", "../os", ""])
def test_unknown_target(name):
    study, run, point = first("moe")
    with pytest.raises(UserError, match="unknown export target"):
        export.export(name, study, run, point)


def test_write_and_write_again(tmp_path):
    folder = tmp_path / "a" / "b"
    assert export.write({"x.txt": "1\n", "y.txt": "2\n"}, folder) == [folder / "x.txt", folder / "y.txt"]
    export.write({"x.txt": "new\n"}, folder)  # our own, unchanged since
    assert (folder / "x.txt").read_text() == "new\n" and (folder / "y.txt").read_text() == "2\n"
    export.write({"y.txt": "3\n"}, folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(["x.txt", "y.txt", export.RECORD])


def test_what_the_user_wrote_is_kept(tmp_path):
    export.write({"x.txt": "1\n", "y.txt": "2\n"}, tmp_path)
    (tmp_path / "x.txt").write_text("mine\n")
    (tmp_path / "z.txt").write_text("mine too\n")
    with pytest.raises(UserError, match=r"other contents in x\.txt, z\.txt"):
        export.write({"x.txt": "2\n", "y.txt": "9\n", "z.txt": "3\n"}, tmp_path)
    assert [(tmp_path / name).read_text() for name in ("x.txt", "y.txt", "z.txt")] == ["mine\n", "2\n", "mine too\n"]
    export.write({"x.txt": "2\n", "z.txt": "mine too\n"}, tmp_path, force=True)
    assert (tmp_path / "x.txt").read_text() == "2\n"


def test_a_file_that_says_the_same_is_no_conflict(tmp_path):
    (tmp_path / "x.txt").write_text("same\n")
    export.write({"x.txt": "same\n"}, tmp_path)


def test_things_in_the_way(tmp_path):
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(UserError, match=r"other contents in x\.txt"):
        export.write({"x.txt": "1\n"}, tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        export.write({"x.txt": "1\n"}, tmp_path, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export.write({"x.txt": "1\n"}, tmp_path / "file" / "inside")
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere" / "secret")
    with pytest.raises(UserError, match=r"other contents in link\.txt"):
        export.write({"link.txt": "1\n"}, tmp_path)
    assert not list(tmp_path.glob(".*.part"))


def test_a_broken_record_protects_everything(tmp_path):
    export.write({"x.txt": "1\n"}, tmp_path)
    (tmp_path / export.RECORD).write_text("[1, 2")
    with pytest.raises(UserError):
        export.write({"x.txt": "2\n"}, tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", ".", "a\\b", "a\nb", "a\0b", export.RECORD])
def test_names_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(UserError, match="not a plain file name"):
        export.write({"ok.txt": "1\n", name: "2\n"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", plans.KINDS)
def test_csv_is_one_row_of_everything(kind):
    study, run, point = first(kind)
    head, *rows = csv.reader(io.StringIO(export.export("csv", study, run, point)["design.csv"]))
    assert len(rows) == 1 and len(rows[0]) == len(head) == len(set(head))
    row, mine = dict(zip(head, rows[0], strict=True)), run.point(point)
    for name, value in mine.items():
        if name in row and isinstance(value, float) and value == value:
            assert float(row[name]) == value
    assert {
        "study",
        "id",
        "c_eq_flop",
        "train.n_tp",
        "architecture.d_model",
        "architecture.vocab",
        "hardware.train",
        "precision.kv_bits",
    } <= set(head)
    assert not {"point", "on_front", "killed_by"} & set(head)
    assert (row["study"], int(row["id"]), row["base.model"]) == (study.name, point, study.model["name"])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_csv_cells_are_no_formulas(text):
    assert _cell(text) == "'" + text
    assert _cell(-1.5) == "-1.5" and _cell(None) == ""


@pytest.mark.parametrize("kind", plans.KINDS)
def test_hf_configs_of_a_run(kind, tmp_path):
    study, run = plans.searched(kind)
    for _, point in run.front.groupby("design_id").first().iterrows():
        files = export.export("hf", study, run, int(point["id"]))
        assert set(files) == {"config.json"} and json.loads(files["config.json"])
        (tmp_path / "config.json").write_text(files["config.json"])
        theirs = census(fill(read_config(tmp_path)["architecture"]))
        assert float(theirs.n_params) == point["n_params"]
        assert float(theirs.n_active_params) == point["n_active_params"]
