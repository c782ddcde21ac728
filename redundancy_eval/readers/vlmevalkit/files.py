"""VLMEvalKit's files: which lie in a folder, of which model and data set, and the tables in them.

Files are found by exact name and columns by their names, never by position. Known layouts: ms-vlmeval writes
`WORK/MODEL/MODEL_DATASET*`, upstream `WORK/MODEL/T<time>/MODEL_DATASET*` with links to them in `WORK/MODEL`. Pickles
are never opened.
"""

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import files
from redundancy_eval.errors import DataError
from redundancy_eval.readers.vlmevalkit import spreadsheets
from redundancy_eval.taxonomy import VLMEVALKIT, Taxonomy

RUN_FOLDER = re.compile(r"T(\d{8})(?:-(\d{6})|_G([0-9a-f]{7,40}))?(?:[-_].*)?")
TABLES = (".xlsx", ".tsv")
# What a data set that was run leaves behind, without and with the parts that name a judge.
OWN = (*TABLES, "_acc.csv", "_acc.json", "_score.csv", "_score.json")
_READ = (*TABLES, ".csv", ".json")
_NUMBERS = re.compile(r"(.+)_acc\.(?:csv|json)")  # names of judges stand in no such file
_JUDGES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}  # how VLMEvalKit shortens these in file names


def known(taxonomy: Taxonomy) -> set[str]:
    """The data sets of a taxonomy."""
    return {part.task for part in taxonomy.parts(VLMEVALKIT)}


def model_folder(folder: Path) -> Path:
    """The model's folder: upstream's folder of a run lies in it."""
    return folder.parent if RUN_FOLDER.fullmatch(folder.name) else folder


def models(folder: Path, names: Collection[str], known: Collection[str]) -> list[str]:
    """The models whose results lie in a folder, as its files' names spell them.

    Args:
        folder: its name is the model's, unless someone renamed it.
        names: of its files.
        known: names of data sets that tell a model's name from a data set's, where the folder was renamed.
    """
    own = model_folder(folder).name
    if any(f"{own}_{name}{ending}" in names for name in known for ending in OWN):
        return [own]
    pattern = re.compile(rf"(.+)_({'|'.join(map(re.escape, sorted(known, key=len, reverse=True)))})\.(?:xlsx|tsv)")
    found = [match for name in names if known and (match := pattern.fullmatch(name))]
    # A prediction file by itself could be anyone's table.
    told = {match[1] for match in found if any(name.startswith(f"{match[1]}_{match[2]}_") for name in names)}
    return sorted(told) or ([own] if data_sets(own, names) else [])


def data_sets(model: str, names: Iterable[str], told: Iterable[str] = ()) -> list[str]:
    """The data sets that a model has results on, by the names of its files.

    Data sets begin alike, and what is made of a data set begins as it does: MMBench_DEV_EN_V11 is a data set of its
    own, MathVista_MINI_gpt-4o-mini what a judge made of another.

    Args:
        model: as the files' names begin.
        names: of the files.
        told: data sets that are known to have been run.
    """
    rests = [name.removeprefix(f"{model}_") for name in names if name.startswith(f"{model}_")]
    tables = {rest.rpartition(".")[0] for rest in rests if rest.endswith(TABLES)}
    made = {name for name in tables if any(rest.startswith(f"{name}_") and rest.endswith(_READ) for rest in rests)}
    with_numbers = {match[1] for rest in rests if (match := _NUMBERS.fullmatch(rest))}

    def of_another(name: str, others: Collection[str]) -> bool:
        return any(name.startswith(f"{other}_") for other in others)

    sure = {name for name in with_numbers if name in tables or not of_another(name, tables)}
    sure |= {name for name in told if name in tables or name in with_numbers}
    return sorted(sure | {name for name in made if not of_another(name, made | sure)})


def own_files(folder: Path, model: str, name: str, others: Iterable[str]) -> list[Path]:
    """What a model's run on a data set left in a folder and can be read, without that of `others` that begin alike.

    Raises:
        DataError: a pipe or socket stands among them.
    """
    stem = f"{model}_{name}"
    longer = [f"{model}_{other}" for other in others if other.startswith(f"{name}_")]
    mine = [path for path in sorted(folder.iterdir()) if re.match(rf"{re.escape(stem)}[._]", path.name)]
    mine = [path for path in mine if path.suffix in _READ and not path.is_symlink()]
    mine = [path for path in mine if not any(re.match(rf"{re.escape(other)}[._]", path.name) for other in longer)]
    for path in mine:
        files.check_regular(path)
    return mine


def judge_in_names(stem: Path, told: str | None) -> str | None:
    """The judge as the names of a data set's files spell it; None when no file carries one.

    Args:
        stem: folder, model and data set.
        told: the judge's name, where something else tells it.

    Raises:
        DataError: there are results by several judges, and nothing tells which one counts.
    """
    start = f"{stem.name}_"
    rests = [path.name.removeprefix(start) for path in stem.parent.iterdir() if path.name.startswith(start)]
    # Data sets begin alike: MMBench_DEV_EN_V11's files are not MMBench_DEV_EN's by a judge called V11_...
    others = {rest.rpartition(".")[0] for rest in rests if rest.endswith(TABLES)}
    found = [re.fullmatch(r"(.+)(?:_result\.(?:xlsx|tsv)|_score\.csv)", rest) for rest in rests]
    names = {match[1] for match in found if match}
    names = {name for name in names if not any(name.startswith(f"{other}_") for other in others)}
    if told is not None and as_in_names(told) in names:
        return as_in_names(told)
    if len(names) > 1:
        raise DataError(f"{stem.parent}: results of {stem.name} by several judges: {', '.join(sorted(names))}")
    return names.pop() if names else None


def as_in_names(judge: str) -> str:
    """A judge's name as VLMEvalKit spells it in the names of files."""
    return _JUDGES.get(judge, judge)


def existing(stem: Path, suffix: str, endings: Sequence[str] = TABLES) -> Path | None:
    """The file with one of the endings, if there is one.

    Raises:
        DataError: a pipe or socket stands in its place.
    """
    for ending in endings:
        path = stem.with_name(stem.name + suffix + ending)
        if path.exists():
            files.check_regular(path)
            return path
    return None


def table(path: Path, only: Collection[str] = ()) -> list[dict[str, str]]:
    """The rows of an xlsx, tsv or csv file as texts; `only` these columns, where they are there.

    Raises:
        DataError: the file is damaged.
    """
    cells: list[list[Any]] = spreadsheets.read(path) if path.suffix == ".xlsx" else _separated(path)
    if not cells:
        raise DataError(f"{path}:1: an empty table")
    header = [_text(cell) for cell in cells[0]]
    if any(len(row) != len(header) for row in cells):
        line = next(i for i, row in enumerate(cells, 1) if len(row) != len(header))
        raise DataError(f"{path}:{line}: truncated row")
    picked = [(place, name) for place, name in enumerate(header) if not only or name in only]
    if len({name for _, name in picked}) < len(picked):
        twice = next(name for _, name in picked if header.count(name) > 1)
        raise DataError(f"{path}:1: two columns {twice!r}")
    rows = []
    for row in cells[1:]:
        rows.append({name: cell if type(cell := row[place]) is str else _text(cell) for place, name in picked})
    return rows


def count_rows(path: Path) -> int:
    """Rows of a table, without its header.

    Raises:
        DataError: the file is damaged.
    """
    return max((spreadsheets.count_rows(path) if path.suffix == ".xlsx" else len(_separated(path))) - 1, 0)


def mentions(path: Path, text: str) -> bool:
    """Whether a text without quotes or markup stands anywhere in a table.

    Raises:
        DataError: the file is damaged.
    """
    if path.suffix == ".xlsx":
        return spreadsheets.mentions(path, text)
    files.check_regular(path)
    return text.encode() in path.read_bytes()


def _separated(path: Path) -> list[list[str]]:
    files.check_regular(path)
    csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle, delimiter="\t" if path.suffix == ".tsv" else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    while rows and not rows[-1]:  # blank lines at the end
        rows.pop()
    return rows


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
