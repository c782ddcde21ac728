"""Spreadsheets whose cells are formulas, or lie where no table has any."""

import zipfile

import pandas as pd
import pytest

from redundancy_eval import spreadsheets
from redundancy_eval.errors import DataError

REPLIES = ["=5", "====", "=A", "no = here", "N/A"]


def test_replies_that_became_formulas_are_told_apart(tmp_path):
    pytest.importorskip("xlsxwriter")
    frame = pd.DataFrame({"index": range(5), "question": ["q"] * 5, "prediction": REPLIES})
    frame.to_excel(tmp_path / "lost.xlsx", index=False, engine="xlsxwriter")  # as VLMEvalKit writes
    header, *rows = spreadsheets.read(tmp_path / "lost.xlsx")
    assert header == ["index", "question", "prediction"]
    assert [row[2] for row in rows] == [spreadsheets.FORMULA] * 3 + REPLIES[3:]
    plain = {"options": {"strings_to_formulas": False}}
    frame.to_excel(tmp_path / "kept.xlsx", index=False, engine="xlsxwriter", engine_kwargs=plain)
    assert [row[2] for row in spreadsheets.read(tmp_path / "kept.xlsx")[1:]] == REPLIES


@pytest.mark.parametrize("cell", ["XFD1048576", "A1048576", "ZZZ9999999"])
def test_a_cell_astray_asks_for_no_memory(tmp_path, cell):
    pytest.importorskip("xlsxwriter")
    pd.DataFrame({"index": [1], "prediction": ["A"]}).to_excel(tmp_path / "a.xlsx", index=False, engine="xlsxwriter")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for info in old.infolist():
            text = old.read(info)
            if info.filename.endswith("sheet1.xml"):
                text = text.replace(b"</sheetData>", f'<row><c r="{cell}"><v>1</v></c></row></sheetData>'.encode())
            new.writestr(info.filename, text)
    with pytest.raises(DataError, match="a cell lies astray"):
        spreadsheets.read(tmp_path / "b.xlsx")


def test_what_is_no_spreadsheet_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"a\.xlsx: damaged"):
        spreadsheets.read(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("hello.txt", "no sheet")
    with pytest.raises(DataError, match=r"b\.xlsx: damaged"):
        spreadsheets.read(tmp_path / "b.xlsx")
