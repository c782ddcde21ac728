"""Spreadsheets whose cells are formulas, or lie where no table has any."""

import os
import zipfile

import pandas as pd
import pytest

from redundancy_eval.errors import DataError
from redundancy_eval.readers.vlmevalkit import spreadsheets

NAMESPACE = "http://schemas.openxmlformats.org"
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


def book(path, sheet, strings="", name="worksheets/sheet1.xml"):
    """A workbook with one sheet, as small as can be."""
    relations = f"{NAMESPACE}/officeDocument/2006/relationships"
    main = f'xmlns="{NAMESPACE}/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, kind, target in (("_rels/.rels", "officeDocument", "xl/workbook.xml"),
                                   ("xl/_rels/workbook.xml.rels", "worksheet", name)):  # fmt: skip
            told = f'<Relationship Id="r" Type="{relations}/{kind}" Target="{target}"/>'
            if kind == "worksheet":
                told += f'<Relationship Id="s" Type="{relations}/sharedStrings" Target="sharedStrings.xml"/>'
            archive.writestr(
                part, f'<Relationships xmlns="{NAMESPACE}/package/2006/relationships">{told}</Relationships>'
            )
        sheets = '<sheets><sheet name="S" sheetId="1" r:id="r"/></sheets>'
        archive.writestr("xl/workbook.xml", f'<workbook {main} xmlns:r="{relations}">{sheets}</workbook>')
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{strings}</sst>")
        archive.writestr(f"xl/{name}", f"<worksheet {main}><sheetData>{sheet}</sheetData></worksheet>")
    return path


TEXT = '<c r="A1" t="s"><v>0</v></c>'


def test_sheets_of_any_writer_are_read(tmp_path):
    strings = "<si><t>index</t></si><si><t>=5</t></si>"
    plain = f'<row r="1">{TEXT}<c r="B1"><f>1+1</f><v>2</v></c></row>'
    bare = '<row><c t="s"><v>0</v></c><c><f>1+1</f><v>2</v></c></row>'
    quoted = plain.replace('"', "'")
    for number, (sheet, name) in enumerate(((plain, "first"), (quoted, "sheet1"), (bare, "sheet7"))):
        name = f"worksheets/{name}.xml"
        path = book(tmp_path / f"{number}.xlsx", sheet, strings, name)
        assert spreadsheets.read(path) == [["index", spreadsheets.FORMULA]]
        assert spreadsheets.count_rows(path) == 1
        assert spreadsheets.mentions(path, "=5") and not spreadsheets.mentions(path, "=6")


@pytest.mark.parametrize(
    "astray",
    [
        "<row><c r='XFD1048576'><v>1</v></c></row>",
        '<row><c s="1" r="XFD1048576"><v>1</v></c></row>',
        '<row r="1048576"><c/></row><row r="2"><c r="XFD2"><v>1</v></c></row>',
        '<row><c x=">" r="XFD1048576"><v>1</v></c></row>',
        '<row r="99999999999999999999999"><c/></row>',
        '<row><c r="A99999999999999999999999"/></row>',
    ],
)
def test_cells_astray_are_found_however_they_are_written(tmp_path, astray):
    path = book(
        tmp_path / "a.xlsx", f'<row r="1">{TEXT}</row>{astray}', "<si><t>index</t></si>", "worksheets/other.xml"
    )
    with pytest.raises(DataError, match=r"a\.xlsx: .*(a cell lies astray|damaged)"):
        spreadsheets.read(path)


def test_what_unpacks_to_more_than_a_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheets, "_MOST_BYTES", 10**6)
    path = book(tmp_path / "bomb.xlsx", f"<row>{TEXT}</row>" + " " * 10**6, "<si><t>index</t></si>")
    assert path.stat().st_size < 10**4
    with pytest.raises(DataError, match=r"bomb\.xlsx: 1,00.,... bytes, packed; this is no table of answers"):
        spreadsheets.read(path)


def test_one_long_text_in_many_cells_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheets, "_MOST_TEXT", 10**6)
    rows = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>1</v></c></row>' for n in range(1, 2000))
    strings = f"<si><t>index</t></si><si><t>{'x' * 1000}</t></si>"
    with pytest.raises(DataError, match=r"a\.xlsx: 2,0..,... bytes of text in its cells"):
        spreadsheets.read(book(tmp_path / "a.xlsx", rows, strings))
    assert len(spreadsheets.read(book(tmp_path / "b.xlsx", rows.replace("<v>1<", "<v>0<"), strings))) == 1999


def test_a_pipe_is_no_spreadsheet(tmp_path):
    os.mkfifo(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"a\.xlsx: no regular file"):
        spreadsheets.read(tmp_path / "a.xlsx")
