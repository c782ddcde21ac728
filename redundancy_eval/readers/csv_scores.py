"""Read scores from a plain CSV file: `model,mask,benchmark,score` and, if known, `n`."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redundancy_eval import masks
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Run, TaskResult
from redundancy_eval.taxonomy import CSV, Part, Taxonomy

COLUMNS = ("model", "mask", "benchmark", "score")
# What float() would also take (1_000, full-width digits, nan) is a slip of the pen here.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True)
class Reader:
    """Reads CSV files of scores.

    `taxonomy` says how benchmarks are called, `lenient` which kinds of bad data are warnings, and `scale` what a score
    is multiplied with to be points: 1, or 100 for fractions. Not told, a score that could be either is refused.
    """

    taxonomy: Taxonomy
    lenient: Leniency
    scale: float | None = None
    framework: str = CSV

    def find(self, found: Iterable[Path]) -> list[Path]:
        """None: a table among other files could be anyone's, so each is named by itself."""
        return []

    def read(self, path: Path) -> list[Run]:
        """One run for each (model, mask) of a file; scores become points (0..100).

        Raises:
            DataError: a column is missing, or a line is wrong, with the line.
        """
        names = {benchmark.name.lower(): benchmark.name for benchmark in self.taxonomy.benchmarks}
        found: dict[tuple[str, str], dict[str, TaskResult]] = {}
        for where, row in _rows(path):
            model, mask, benchmark, text = (row[name] for name in COLUMNS)
            if not model or not mask or not benchmark:
                raise DataError(f"{where}: model, mask and benchmark must be given, and nothing after the columns")
            score, count = _points(text, self.scale, where), row.get("n", "")
            if count and not _COUNT.fullmatch(count):
                raise DataError(f"{where}: score {text!r} or n {count!r} is not a number")
            benchmark = names.get(benchmark.lower(), benchmark)
            tasks = found.setdefault((model, mask), {})
            if benchmark in tasks:
                self.lenient.refuse("duplicate-runs", f"{where}: a second score of {model}, mask {mask} on {benchmark}")
            documents = int(count) if count else None
            tasks[benchmark] = TaskResult(benchmark, documents, {}, partial(_headline, score), lambda part: None)
            try:
                _arguments(mask)
            except SetupError as error:
                raise DataError(f"{where}: {error}") from None
        if not found:
            raise DataError(f"{path}:1: no scores")
        return [Run(path, CSV, model, _arguments(mask), {}, tasks) for (model, mask), tasks in found.items()]


def _rows(path: Path) -> list[tuple[str, Mapping[str, str]]]:
    """Each line's place and its cells by column.

    Raises:
        DataError: the file is no table of scores.
    """
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        cells = [(f"{path}:{reader.line_num}", [cell.strip() for cell in row]) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a table ({error})") from None
    if not cells:
        return []
    header = cells[0][1]
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise DataError(f"{path}:1: no column {absent[0]!r}; a table of scores has {', '.join(COLUMNS)} and n if known")
    twice = [name for name in (*COLUMNS, "n") if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}:1: two columns {twice[0]!r}")
    rows: list[tuple[str, Mapping[str, str]]] = []
    for where, row in cells[1:]:
        if len(row) != len(header):
            raise DataError(f"{where}: model, mask and benchmark must be given, and nothing after the columns")
        rows.append((where, dict(zip(header, row, strict=True))))
    return rows


def _points(text: str, scale: float | None, where: str) -> float:
    """A score in points, 0..100.

    Raises:
        DataError: it is no number, or could be a fraction or points.
    """
    if not _NUMBER.fullmatch(text):
        raise DataError(f"{where}: score {text!r} is not a number")
    value = float(text)
    if scale is None and 0 < value <= 1:
        raise DataError(
            f"{where}: a score of {text} may be a fraction or points: say --scale 100 (fractions) or --scale 1 (points)"
        )
    if scale == 100 and value > 1:
        raise DataError(f"{where}: a score of {text} is no fraction, as --scale 100 says")
    return value * (1.0 if scale is None else scale)


def _arguments(mask: str) -> dict[str, str]:
    """A mask as model arguments: `clip+sam`, `none`, `all`, or `keep=clip`.

    Raises:
        SetupError: a part of it cannot be an encoder's name.
    """
    key, equals, rest = mask.partition("=")
    if equals and key in ("drop", "keep"):
        return {key: masks.check_names(rest)}
    return {"drop": masks.check_names(mask)}


def _headline(score: float, part: Part) -> float:
    return score
