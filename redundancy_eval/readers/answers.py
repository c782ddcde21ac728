"""Questions, references, answers and pictures of single documents, from a framework's own files.

The caller knows the files' paths; what is not there is left out.
"""

import base64
import binascii
import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from redundancy_eval import files
from redundancy_eval.answers import Asked
from redundancy_eval.errors import DataError
from redundancy_eval.readers.vlmevalkit import spreadsheets
from redundancy_eval.table import Mask, ScoreTable
from redundancy_eval.taxonomy import LMMS_EVAL, VLMEVALKIT

_OPTIONS = "ABCDEFGH"
_LONGEST = 2**27  # characters of a cell; csv refuses longer ones


@dataclass(frozen=True)
class Reply:
    """A line of a framework's file: the question as asked, the reference, the answer that was scored."""

    question: str
    reference: str
    answer: str


Read = Callable[[Path, Iterable[str]], Mapping[str, Reply]]
Picture = Callable[[str], bytes | None]


def no_picture(document: str) -> bytes | None:
    """The picture of a document where none is at hand."""
    return None


@dataclass(frozen=True)
class Part:
    """One task behind a benchmark: its file under each mask, how it is read, and where its pictures are."""

    read: Read
    paths: Mapping[Mask, Path]
    picture: Picture = no_picture


@dataclass(frozen=True)
class FromFiles:
    """Answers from files: `parts` holds the tasks of each benchmark, in the order of the taxonomy.

    Where a benchmark has several, its documents are called `0:12`, `1:12`, as in a table.
    """

    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)

    def asked(self, benchmark: str, documents: Sequence[str]) -> Mapping[str, Asked]:
        """As an `Answers` tells it."""
        found: dict[str, Asked] = {}
        for number, part in enumerate(self.parts.get(benchmark, ())):
            own = {_bare(name): name for name in documents if _number(name, self.parts[benchmark]) == number}
            replies = {tuple(sorted(mask)): part.read(path, own) for mask, path in part.paths.items()} if own else {}
            for bare, name in own.items():
                there = {mask: each[bare] for mask, each in sorted(replies.items()) if bare in each}
                if there:
                    first = next(iter(there.values()))
                    answers = {mask: reply.answer for mask, reply in there.items()}
                    found[name] = Asked(first.question, first.reference, answers)
        return found

    def picture(self, benchmark: str, document: str) -> bytes | None:
        """As an `Answers` tells it."""
        parts = self.parts.get(benchmark, ())
        number = _number(document, parts)
        return parts[number].picture(_bare(document)) if number < len(parts) else None


def no_pictures(task: str) -> Picture:
    """Pictures of a task where none are at hand."""
    return no_picture


def lmu_data(data: str) -> Picture:
    """Pictures of a data set of VLMEvalKit, from $LMUData: written out, or in its table."""
    told = os.environ.get("LMUData")  # noqa: SIM112 - VLMEvalKit's name
    root = Path(told) if told and Path(told).exists() else Path.home() / "LMUData"
    written, table = image_folder(root / "images" / data), root / f"{data}.tsv"
    kept = image_table(table) if table.is_file() else no_picture
    return lambda document: written(document) or kept(document)


def of(table: ScoreTable, pictures: Callable[[str], Picture] = no_pictures) -> FromFiles:
    """Answers behind a table, where its framework logged them.

    Args:
        table: of one model.
        pictures: task -> where its documents' pictures are.
    """
    read = {LMMS_EVAL: lmms_eval, VLMEVALKIT: vlmevalkit}.get(table.framework)
    if read is None:
        return FromFiles()
    return FromFiles(
        {
            benchmark: [Part(read, paths, pictures(task)) for task, paths in tasks]
            for benchmark, tasks in table.files.items()
        }
    )


def _number(name: str, parts: Sequence[Part]) -> int:
    """Which of a benchmark's tasks a document is of."""
    return int(name.partition(":")[0]) if len(parts) > 1 else 0


def _bare(name: str) -> str:
    """A document's name within its task."""
    head, colon, rest = name.partition(":")
    return rest if colon and head.isdigit() else name


def lmms_eval(path: Path, documents: Iterable[str]) -> dict[str, Reply]:
    """Replies of some documents (by `doc_id`) from a samples file of lmms-eval, plain or gzipped.

    Lines that are none are passed over: where scores were read from the file, they were blank or excused.
    """
    wanted, found = set(documents), {}
    files.check_regular(path)
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for line in _until_damaged(lines):
            try:
                entry = json.loads(line)
                document = str(entry["doc_id"])
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if document in wanted:
                found[document] = Reply(*(_plain(entry.get(name)) for name in ("input", "target", "filtered_resps")))
    return found


def _until_damaged(lines: Iterable[bytes]) -> Iterator[bytes]:
    with suppress(OSError, EOFError, zlib.error):  # a gzipped file that was cut
        yield from lines


def _plain(value: Any) -> str:
    """A text as it is; of a list with one text, that; anything else as JSON."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def vlmevalkit(path: Path, documents: Iterable[str]) -> dict[str, Reply]:
    """Replies of some documents (by `index`) from a table of predictions of VLMEvalKit, xlsx or tsv.

    Raises:
        DataError: it is no such table.
    """
    wanted, found = set(documents), {}
    for row in _rows(path):
        document = row.get("index", "")
        if document not in wanted or document in found:
            continue
        options = [f"{letter}. {row[letter]}" for letter in _OPTIONS if row.get(letter)]
        question = "\n".join(filter(None, [row.get("hint", ""), row.get("question", ""), *options]))
        found[document] = Reply(question, row.get("answer", ""), row.get("prediction", ""))
    return found


def _rows(path: Path) -> Iterator[dict[str, str]]:
    files.check_regular(path)
    if path.suffix == ".xlsx":
        names, *cells = spreadsheets.read(path) or [[]]
        for line in cells:
            yield {str(name): _cell(value) for name, value in zip(names, line, strict=False)}
        return
    csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","):
                yield {str(name): value or "" for name, value in row.items() if isinstance(value, str | None)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no table of predictions ({error})") from None


def _cell(value: Any) -> str:
    """A cell as text; what was a whole number is one again."""
    if value == spreadsheets.FORMULA:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def image_folder(folder: Path) -> Picture:
    """Pictures that VLMEvalKit wrote out, `LMUData/images/DATA/INDEX.{jpg,png}`; None for those that are not there."""

    def picture(document: str) -> bytes | None:
        names = [name for name in (f"{document}.jpg", f"{document}.png", f"{document}_1.jpg") if _inside(name)]
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        return found.read_bytes() if found else None

    return picture


def _inside(name: str) -> bool:
    """Whether a file's name leads nowhere else."""
    return Path(name).name == name


def image_table(path: Path) -> Picture:
    """Pictures in the base64 of a data set's table (`LMUData/DATA.tsv`); an entry may name another row's.

    Raises:
        DataError: it is no such table.
    """

    @lru_cache(maxsize=1)
    def encoded() -> dict[str, str]:
        return {row.get("index", ""): row.get("image", "") for row in _rows(path)}

    def picture(document: str) -> bytes | None:
        text = encoded().get(document, "")
        if len(text) <= 64:  # VLMEvalKit: an image that short is the index of the row that holds it
            text = encoded().get(text, "")
        try:
            return base64.b64decode(text, validate=True) or None
        except (binascii.Error, ValueError):
            return None

    return picture
