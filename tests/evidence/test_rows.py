"""Reading a CSV: every problem at once, with row and column; what the format lets a user leave out."""

import pytest

from codesign.evidence.rows import KINDS, REQUIRED, kind_of, load, shipped
from codesign.spec.errors import UserError

MINIMAL = "phase,gpu,model,tpot_ms,isl,osl,batch_or_concurrency\ndecode,H100-SXM,llama-3.1-8b,8.1,100,100,1\n"


def write(folder, text, name="mine.csv"):
    path = folder / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_measurements_load(kind):
    rows = load(None, kind)
    assert len(rows) == {"training": 349, "inference": 1021}[kind]
    assert len({row.id for row in rows}) == len(rows)
    assert kind_of(shipped(kind)) == kind


def test_only_required_columns_are_required(tmp_path):
    (row,) = load(write(tmp_path, MINIMAL), "inference")
    assert (row.id, row["tpot_ms"], row["tp"], row["notes"]) == ("row-2", 8.1, None, None)
    assert kind_of(tmp_path / "mine.csv") == "inference"


def test_excel_byte_order_mark_and_blank_lines_are_harmless(tmp_path):
    rows = load(write(tmp_path, ("\ufeff" + MINIMAL.replace("\n", "\r\n") + ",,,,,,\r\n\r\n").encode("utf-8")), "inference")
    assert len(rows) == 1


def test_every_bad_cell_is_named_with_row_and_column(tmp_path):
    head = "id,phase,gpu,model,tpot_ms,isl,osl,batch_or_concurrency,tp\n"
    path = write(tmp_path, head + "a,decode,h100_sxm,llama-3.1-8b,fast,1,1,1,1\nb,decode,h100_sxm,llama-3.1-8b,-3,1,1,1,1.5\n"
                 + "b,decode,h100_sxm,llama-3.1-8b,nan,1,1,0,1\n")  # fmt: skip
    with pytest.raises(UserError) as error:
        load(path, "inference")
    text = str(error.value)
    for part in ("mine.csv:2: row 'a', column 'tpot_ms': 'fast' is not a number", "mine.csv:3: row 'b', column 'tpot_ms': '-3' must be above 0",
                 "column 'tp': '1.5' must be a whole number of at least 1", "'nan' is not a finite number", "id 'b' is already that of line 3",
                 "column 'batch_or_concurrency': '0' must be a whole number"):  # fmt: skip
        assert part in text
    assert "6 problems" in text


def test_a_thousand_bad_cells_do_not_flood_the_screen(tmp_path):
    path = write(tmp_path, MINIMAL + "decode,h100_sxm,llama-3.1-8b,x,1,1,1\n" * 1000)
    with pytest.raises(UserError) as error:
        load(path, "inference")
    assert "980 more problems" in str(error.value) and len(str(error.value).splitlines()) < 60


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_column_is_named_at_once(tmp_path, kind):
    with pytest.raises(UserError) as error:
        load(write(tmp_path, "id,notes\na,b\n"), kind)
    assert len(error.value.diagnostics) == len(REQUIRED[kind])


def test_a_nearly_right_column_name_is_suggested(tmp_path):
    with pytest.raises(UserError, match="is it 'fase'"):
        load(write(tmp_path, MINIMAL.replace("phase", "fase")), "inference")


@pytest.mark.parametrize(("content", "words"), [
    ("", "is empty"),
    (b"\xff\xfe\x00bad", "cannot be read"),
    (MINIMAL.replace(",", ";"), "not separated by commas"),
    ("phase,gpu,gpu,model,tpot_ms\n", "occurs twice"),
    (MINIMAL + "decode,h100_sxm,llama-3.1-8b,8,1,1,1,what,is,this\n", "row has 10 cells, the header 7"),
])  # fmt: skip
def test_a_file_that_is_no_csv_says_so(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        load(write(tmp_path, content), "inference")


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "nothing.csv", "training")
    with pytest.raises(UserError, match="unknown kind"):
        load(None, "quality")
    with pytest.raises(UserError, match="say which with --kind"):
        kind_of(write(tmp_path, "id,notes\n"))
