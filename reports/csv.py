"""Tables as CSV, for spreadsheets and scripts: a line for each number, everything in columns of its own."""

import csv
import io
import math
import re
from collections.abc import Sequence

from redundancy_eval import shown
from redundancy_eval.reports.report import Report
from redundancy_eval.reports.tables import Record

# Some spreadsheets take full-width signs too, and in some countries `;` parts cells.
_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")


def files(report: Report) -> dict[str, str]:
    """Name -> text of a file for each table that has records."""
    return {f"{table.stem}.csv": text(table.records) for table in report.tables if table.records}


def text(records: Sequence[Record]) -> str:
    """Rows as CSV; the first one names the columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([cell(name) for name in records[0]])
    for record in records:
        writer.writerow([_value(value) for value in record.values()])
    return out.getvalue()


def _value(value: object) -> str:
    """Numbers as they are, empty where there is none; texts that no spreadsheet runs."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return cell(value) if isinstance(value, str) else str(value)


def cell(text: str) -> str:
    """Text as a cell of a CSV file that no spreadsheet takes for a formula."""
    return _FORMULA.sub(r"\1'", shown.text(text))
