"""Cells of an xlsx file: within bounds, and told apart from formulas.

VLMEvalKit's own writer (xlsxwriter with its defaults) turns a text that begins with `=` into a formula. What the text
was is lost then, and a reader is told 0.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

from python_calamine import CalamineWorkbook

from redundancy_eval.errors import DataError

FORMULA = "\x00formula"  # stands for a cell that holds one
_CELL = re.compile(rb'<c\b[^>]*?\br="([A-Z]{1,3})(\d{1,7})"[^>]*>(<f\b)?')
_MOST_BYTES = 2**31  # of a sheet, unpacked
_MOST_EMPTY = 1000  # places of the table that is laid out, for each cell that is there


def read(path: Path) -> list[list[Any]]:
    """The first sheet's cells, row by row; FORMULA where a cell holds a formula.

    Raises:
        DataError: the file is damaged, or its few cells span a table that no memory holds.
    """
    formulas = _scan(path)
    try:
        cells = CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    except Exception as error:  # calamine's errors have no common class
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    for row, column in formulas:
        if row < len(cells) and column < len(cells[row]):
            cells[row][column] = FORMULA
    return cells


def _scan(path: Path) -> list[tuple[int, int]]:
    """Places (row, column) of the first sheet's formulas, from 0, before a table is laid out."""
    try:
        with zipfile.ZipFile(path) as archive:
            sheets = [info for info in archive.infolist() if re.fullmatch(r"xl/worksheets/sheet1\.xml", info.filename)]
            if not sheets:
                return []
            if sheets[0].file_size > _MOST_BYTES:
                raise DataError(
                    f"{path}: a sheet of {sheets[0].file_size:,} bytes, packed; this is no table of answers"
                )
            text = archive.read(sheets[0])
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    rows = columns = count = 0
    formulas = []
    for letters, digits, formula in _CELL.findall(text):
        row, column = int(digits), _column(letters)
        rows, columns, count = max(rows, row), max(columns, column), count + 1
        if formula:
            formulas.append((row - 1, column - 1))
    if rows * columns > _MOST_EMPTY * max(count, 1000):
        raise DataError(
            f"{path}: {count:,} cells in a table of {rows:,} rows and {columns:,} columns; a cell lies astray"
        )
    return formulas


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number
