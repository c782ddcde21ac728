"""Cells of an xlsx file: within bounds, and told apart from formulas.

VLMEvalKit's own writer (xlsxwriter with its defaults) turns a text that begins with `=` into a formula. What the text
was is lost then, and a reader is told 0.

The reader lays a whole table out at once and ends the process where memory does not suffice, so a file is measured
first: how much it unpacks to, how many cells it has, how far apart they lie, how often they repeat a long text.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from python_calamine import CalamineWorkbook

from redundancy_eval import files
from redundancy_eval.errors import DataError

FORMULA = "\x00formula"  # stands for a cell that holds one
_QUOTED = rb"""(?:"[^"]*"|'[^']*')"""
_ATTRIBUTES = rb"((?:\s+[\w:.-]+\s*=\s*" + _QUOTED + rb")*)\s*/?>"
_CELL = re.compile(rb"<(?:\w+:)?c" + _ATTRIBUTES + rb"(\s*<(?:\w+:)?f\b)?")
_ROW = re.compile(rb"<(?:\w+:)?row" + _ATTRIBUTES)
_PLAIN = re.compile(rb'<c r="([A-Z]{1,9})(\d{1,18})"[^<>]*>')
_PLAIN_FORMULA = re.compile(rb'<c r="([A-Z]{1,9})(\d{1,18})"[^<>]*>\s*<f\b')
_CELL_TAG = re.compile(rb"<(?:\w+:)?c[\s/>]")
_ROW_TAG = re.compile(rb"<(?:\w+:)?row[\s/>]")
_PLACE = re.compile(rb"""\sr\s*=\s*["']([A-Za-z]*)(\d+)["']""")
_INDEX = re.compile(rb">\s*(\d{1,9})\s*</(?:\w+:)?v>")
_TEXT = re.compile(rb"<(?:\w+:)?si[\s/>]")
_SHEET = re.compile(rb"<(?:\w+:)?sheet\s[^>]*?\w+:id\s*=\s*[\"']([^\"']+)[\"']")
_TARGET = re.compile(rb"""<(?:\w+:)?Relationship\s[^>]*>""")
_MOST_BYTES = 2**29  # of all parts, unpacked
_MOST_CELLS = 5_000_000
_MOST_EMPTY = 100  # places of the table that is laid out, for each cell that is there
_MOST_TEXT = 2**30  # bytes of all cells' texts


@dataclass(frozen=True)
class _Sheet:
    """How large a sheet is, and where (row, column), from 0, it has formulas."""

    rows: int
    cells: int
    formulas: tuple[tuple[int, int], ...]


def read(path: Path) -> list[list[Any]]:
    """The first sheet's cells, row by row; FORMULA where a cell holds a formula.

    Raises:
        DataError: the file is damaged, or larger than a table of answers can be.
    """
    sheet = _measure(path)
    try:
        cells = CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    except BaseException as error:  # calamine's errors have no common class, and a panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    for row, column in sheet.formulas:
        if row < len(cells) and column < len(cells[row]):
            cells[row][column] = FORMULA
    return cells


def count_rows(path: Path) -> int:
    """Rows of the first sheet.

    Raises:
        DataError: the file is damaged.
    """
    return _measure(path).rows


def mentions(path: Path, text: str) -> bool:
    """Whether a text stands anywhere in the file.

    Raises:
        DataError: the file is damaged.
    """
    return any(text.encode() in content for _, content in _parts(path))


def _parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every part that may hold cells or texts; each is read whole, so its checksum is checked."""
    files.check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [info for info in archive.infolist() if info.filename.lower().endswith((".xml", ".rels"))]
            size = sum(info.file_size for info in parts)
            if size > _MOST_BYTES:
                raise DataError(f"{path}: {size:,} bytes, packed; this is no table of answers")
            for info in parts:
                yield info.filename.lower(), archive.read(info)
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    except Exception as error:
        if type(error).__module__ == "zlib":
            raise DataError(f"{path}: damaged or not a table ({error})") from None
        raise


def _measure(path: Path) -> _Sheet:
    files.check_regular(path)
    state = path.stat()
    return _measured(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1000)  # what is counted first is read later
def _measured(path: Path, size: int, changed: int) -> _Sheet:
    parts = dict(_parts(path))
    strings = [content for name, content in parts.items() if name.endswith("sharedstrings.xml")]
    sheets = {name: content for name, content in parts.items() if "worksheets/" in name and name.endswith(".xml")}
    measured = {name: _measure_sheet(path, content) for name, content in sheets.items()}
    texts = [len(text) for text in _TEXT.split(b"".join(strings))[1:]]
    for name, content in sheets.items():
        _check_texts(path, content, measured[name].cells, texts)
    first = _first_sheet(parts)
    if first not in measured:
        raise DataError(f"{path}: damaged or not a table (no sheet)")
    return measured[first]


def _measure_sheet(path: Path, content: bytes) -> _Sheet:
    places = _PLAIN.findall(content)
    if len(places) == len(_CELL_TAG.findall(content)):  # as every writer has it: each cell says where it is
        cells = len(places)
        rows = max(map(int, {digits for _, digits in places}), default=0)
        columns = max(map(_column, {letters for letters, _ in places}), default=0)
        found = _PLAIN_FORMULA.findall(content) if b"<f" in content else []
        formulas = [(int(digits) - 1, _column(letters) - 1) for letters, digits in found]
    else:
        rows, columns, cells, formulas = _measure_tags(path, content)
    if cells > _MOST_CELLS:
        raise DataError(f"{path}: {cells:,} cells; this is no table of answers")
    if rows * columns > _MOST_EMPTY * max(cells, 10_000):
        raise DataError(
            f"{path}: {cells:,} cells in a table of {rows:,} rows and {columns:,} columns; a cell lies astray"
        )
    return _Sheet(rows, cells, tuple(formulas))


def _measure_tags(path: Path, content: bytes) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Rows, columns, cells and formulas of a sheet whose cells may follow from the cell before."""
    rows = columns = row = column = cells = 0
    formulas = []
    found = sorted([*_ROW.finditer(content), *_CELL.finditer(content)], key=lambda tag: tag.start())
    if len(found) != len(_CELL_TAG.findall(content)) + len(_ROW_TAG.findall(content)):
        raise DataError(f"{path}: damaged or not a table (cells that are written in an unusual way)")
    for tag in found:
        place = _PLACE.search(tag[1])
        if tag.re is _ROW:
            row, column = int(place[2][:20]) if place else row + 1, 0
        else:
            cells += 1
            row, column = (int(place[2][:20]), _column(place[1])) if place else (row, column + 1)
            if tag[2]:
                formulas.append((row - 1, column - 1))
        rows, columns = max(rows, row), max(columns, column)
    return rows, columns, cells, formulas


def _check_texts(path: Path, sheet: bytes, cells: int, texts: list[int]) -> None:
    """Refuse cells that all repeat one long text: each gets a copy of it; `texts` are the lengths."""
    if cells * max(texts, default=0) <= _MOST_TEXT:
        return
    size = sum(texts[int(index)] for index in _INDEX.findall(sheet) if int(index) < len(texts))
    if size > _MOST_TEXT:
        raise DataError(f"{path}: {size:,} bytes of text in its cells; this is no table of answers")


def _first_sheet(parts: dict[str, bytes]) -> str:
    """The part that holds the first sheet, as the workbook names it."""
    sheet = _SHEET.search(parts.get("xl/workbook.xml", b""))
    for relation in _TARGET.findall(parts.get("xl/_rels/workbook.xml.rels", b"")):
        told = dict(re.findall(rb"""\s(\w+)\s*=\s*["']([^"']*)["']""", relation))
        if sheet and told.get(b"Id") == sheet[1]:
            target = told.get(b"Target", b"").decode("utf-8", "replace").lower()
            return target.lstrip("/") if target.startswith("/") else f"xl/{target.removeprefix('./')}"
    return "xl/worksheets/sheet1.xml"


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters[:9].upper():
        number = number * 26 + letter - ord("A") + 1
    return number
