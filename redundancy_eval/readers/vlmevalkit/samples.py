"""Per-sample scores from VLMEvalKit's files: predictions, joined with the verdicts on them."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redundancy_eval.errors import DataError
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers.vlmevalkit import files as kit
from redundancy_eval.readers.vlmevalkit import judged, spreadsheets
from redundancy_eval.readers.vlmevalkit.judged import Reading, Row
from redundancy_eval.runs import Samples, reply_digest
from redundancy_eval.sample import Place, alone
from redundancy_eval.taxonomy import Part

NO_VERDICTS = "no samples were logged"
# Columns that belong to the reply or its verdict, not to the question: they may differ between masks.
_REPLY = re.compile(r"prediction|raw_prediction|thinking|extra_records|hit|log|eval_.*")
_VERDICT = ("index", "prediction", "log", "hit", "g_index", "res")  # what every file of verdicts may hold
_MILLION = 1_000_000  # rotation k of MMBench's question i has the index k * 10^6 + i
_LONG = 200  # characters; no index, cluster or stratum is longer, and an array holds each at the width of the longest


@dataclass(frozen=True)
class Files:
    """Where a data set's results lie: folder, model and data set (`stem`), and the judge in the names of files."""

    stem: Path
    judge: str | None

    def predictions(self) -> Path | None:
        """The replies to all questions."""
        return kit.existing(self.stem, "")

    def verdicts(self, part: Part) -> Path | None:
        """The table that holds the scores."""
        return kit.existing(self.stem, part.samples.replace("{judge}", self.judge or ""))


@dataclass(frozen=True)
class _Document:
    """What is scored as one: a question, or all rotations of one, with its row of verdicts (or of predictions)."""

    index: str
    asked: Sequence[Row]
    line: int
    row: Row


def read(files: Files, part: Part, reading: Reading, exact: bool, lenient: Leniency) -> Samples | None:
    """Samples with scores, or, where no file holds verdicts, without; None where there are no predictions.

    Args:
        files: of the data set.
        part: how a sample is scored.
        reading: how options are read from texts, where the score is made anew.
        exact: whether the judge is exact matching.
        lenient: which kinds of bad data are warnings.

    Raises:
        DataError: a file is damaged, or verdicts do not belong to the predictions.
    """
    asked_path, path = files.predictions(), files.verdicts(part)
    if asked_path is None:
        return None
    asked = _asked(asked_path, lenient)
    _note_formulas(asked_path, asked, lenient)
    keep = _where(part.where)
    groups = _groups(asked_path, {index: row for index, (_, row) in asked.items() if keep(row)}, part)
    if path is None:
        lines = {index: asked[index] for index in groups}
    else:
        lines = {i: (line, row) for i, (line, row) in _verdicts(path, part, lenient).items() if keep(row)}
        if set(lines) != set(groups):
            only = sorted(set(lines) ^ set(groups))[0]
            lenient.refuse("truncated", f"{path}: document {only} is only here or only in {asked_path.name}")
            return None
    found = [
        _Document(i, [asked[m][1] for m in groups[i]], *lines[i]) for i in sorted(lines, key=lambda i: (len(i), i))
    ]
    missing = np.array([any(map(_is_missing, _replies(document))) for document in found], dtype=np.bool_)
    scores = np.full(len(found), np.nan)
    if path is not None:
        _check_verdicts(path, found, exact, lenient)
        scores = _scores(path, found, part, reading)
        missing |= _without_verdict(path, found, part, lenient)
    return _samples(path or asked_path, part, found, scores, missing, "" if path else NO_VERDICTS)


def _samples(
    path: Path,
    part: Part,
    found: Sequence[_Document],
    scores: NDArray[np.float64],
    missing: NDArray[np.bool_],
    reason: str,
) -> Samples:
    rows = [(document.index, document.row) for document in found]
    replies = [_replies(document) for document in found]
    digests = np.array([_reply_digest(texts) for texts in replies], dtype=np.uint64)
    return Samples(
        path,
        np.array([document.index for document in found], dtype=np.str_),
        np.array([document.line for document in found], dtype=np.int64),
        np.array([_digest(document.asked) for document in found], dtype=np.uint64),
        scores,
        np.array([_short(name) for name in _clusters(path, part, rows)], dtype=np.str_),
        np.array([_short(_stratum(part, document.row)) for document in found], dtype=np.str_),
        missing,
        np.zeros(len(found), dtype=np.bool_),  # VLMEvalKit does not count tokens
        digests,
        np.array([not any(text.strip() for text in texts) for texts in replies], dtype=np.bool_),
        digests,
        reason=reason,
    )


def _asked(path: Path, lenient: Leniency) -> dict[str, tuple[int, Row]]:
    """Line and row of every prediction."""
    asked: dict[str, tuple[int, Row]] = {}
    for line, row in enumerate(kit.table(path), 2):
        index = _index(row, path, line)
        if index in asked:
            lenient.refuse("duplicate-samples", f"{path}:{line}: document {index} stands twice")
        field(row, "prediction", path, line)
        asked[index] = (line, row)
    return asked


def _verdicts(path: Path, part: Part, lenient: Leniency) -> dict[str, tuple[int, Row]]:
    """Line and row of every verdict."""
    columns = {*_VERDICT, part.score, part.cluster, part.stratum, part.where.partition("=")[0]}
    any_column = part.samples == "" or ": " in part.score  # a rule may look at any column
    found: dict[str, tuple[int, Row]] = {}
    for line, row in enumerate(kit.table(path, () if any_column else columns), 2):
        index = _index(row, path, line)
        if index in found:
            lenient.refuse("duplicate-samples", f"{path}:{line}: document {index} stands twice")
        found[index] = (line, row)
    return found


def _index(row: Row, path: Path, line: int) -> str:
    index = field(row, "index", path, line)
    if len(index) > _LONG:
        raise DataError(f"{path}:{line}: an index of {len(index)} characters")
    return index


def field(row: Row, name: str, path: Path, line: int) -> str:
    """A cell of a row.

    Raises:
        DataError: there is no such column.
    """
    if name not in row:
        raise DataError(f"{path}:{line}: no column {name!r}")
    return row[name]


def _where(condition: str) -> Callable[[Row], bool]:
    """`column=a|b`: rows with one of these values; all rows when empty."""
    if not condition:
        return lambda row: True
    column, _, values = condition.partition("=")
    wanted = set(values.split("|"))
    return lambda row: row.get(column) in wanted


def _note_formulas(path: Path, asked: Mapping[str, tuple[int, Row]], lenient: Leniency) -> None:
    lost = sum(row["prediction"] == spreadsheets.FORMULA for _, row in asked.values())
    if lost:
        lenient.warnings.append(
            f"{path}: {lost} of {len(asked)} predictions began with '=' and were written as formulas; what they "
            "said is lost, and VLMEvalKit scored 0 in their place"
        )


def _groups(path: object, asked: Mapping[str, Row], part: Part) -> dict[str, list[str]]:
    """The indices that make a document: one, or, where a verdict stands for all rotations of a question, these."""
    if part.cluster != "g_index":
        return {index: [index] for index in asked}
    groups: dict[str, list[str]] = {}
    for index in sorted(asked, key=lambda index: _whole(index, path)):
        groups.setdefault(str(_whole(index, path) % _MILLION), []).append(index)
    without = next((base for base in groups if base not in asked), None)
    if without is not None:
        raise DataError(f"{path}: document {without} was asked in rotation only ({groups[without][0]})")
    return groups


def _whole(index: str, path: object) -> int:
    if not re.fullmatch(r"-?\d{1,18}", index):
        raise DataError(f"{path}: index {index!r} is no whole number")
    return int(index)


def _replies(document: _Document) -> list[str]:
    return [row["prediction"] for row in document.asked]


def _is_missing(reply: str) -> bool:
    return reply == spreadsheets.FORMULA or judged.failed(reply)


def _reply_digest(replies: Sequence[str]) -> int:
    """Rotations that were all answered alike count as that one text."""
    if spreadsheets.FORMULA in replies:
        return 0
    return reply_digest("\x1f".join(replies if len(set(replies)) > 1 else replies[:1]))


def _digest(asked: Sequence[Row]) -> int:
    """Hash of what was asked, in all rotations, and of what is right."""
    digest = hashlib.blake2b(digest_size=8)
    for row in asked:
        columns = _of_question(tuple(row))
        digest.update("\x1f".join([*columns, *(row[name] for name in columns), "\x1e"]).encode())
    return int.from_bytes(digest.digest(), "big")


@lru_cache(maxsize=100)
def _of_question(columns: tuple[str, ...]) -> list[str]:
    return sorted(name for name in columns if not _REPLY.fullmatch(name))


def columns_of_places(part: Part) -> list[str]:
    """The columns that tell where a question belongs."""
    return list(dict.fromkeys(["index", part.cluster, part.stratum, part.where.partition("=")[0]]))


def places(path: object, rows: Sequence[Row], part: Part) -> list[Place | None]:
    """Cluster and stratum of each question, as `read` will find them; None where it does not count.

    Args:
        path: for errors.
        rows: with the columns of `columns_of_places`, as far as there are such.
        part: of the data set.

    Raises:
        DataError: an index is no number where that decides it.
    """
    keep = _where(part.where)
    asked = {row["index"]: row for row in rows if keep(row)}
    if part.cluster == "g_index":
        clusters = {index: base for base, members in _groups(path, asked, part).items() for index in members}
    else:
        clusters = dict(zip(asked, _clusters(path, part, list(asked.items())), strict=True))
    return [(clusters[row["index"]], _stratum(part, row)) if keep(row) else None for row in rows]


def _clusters(path: object, part: Part, rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Cluster of each document (index, row): a column, `pair` (consecutive by number), else the document itself."""
    if part.cluster == "pair":
        numbers = sorted((index for index, _ in rows), key=lambda index: _whole(index, path))
        place = {index: number for number, index in enumerate(numbers)}
        return [str(place[index] // 2) for index, _ in rows]
    return [row.get(part.cluster, "") or alone(index) for index, row in rows]


def _stratum(part: Part, row: Row) -> str:
    """A column, or `=NAME`."""
    return part.stratum[1:] if part.stratum.startswith("=") else row.get(part.stratum, "")


def _short(name: str) -> str:
    """A name that is no longer than any real one; a longer one's hash."""
    return name if len(name) <= _LONG else hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _check_verdicts(path: Path, found: Sequence[_Document], exact: bool, lenient: Leniency) -> None:
    """Verdicts belong to the predictions beside them, and were all made in one way."""
    for document in found:
        asked, said = document.asked[0], f"{path}:{document.line}: the verdict"
        if spreadsheets.FORMULA in _replies(document):
            continue
        if judged.stale(asked, document.row):
            lenient.refuse("stale", f"{said} belongs to another prediction than {_cut(asked['prediction'])!r}")
        elif exact and judged.judged_by_someone(document.row, asked["prediction"]):
            lenient.refuse("judge", f"{said} was made by a judge, others or the file's name tell of exact matching")


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _scores(path: Path, found: Sequence[_Document], part: Part, reading: Reading) -> NDArray[np.float64]:
    score = judged.score(part, reading)
    scores = np.zeros(len(found))
    for place, document in enumerate(found):
        where = f"{path}:{document.line}"
        try:
            scores[place] = score(document.row)
        except judged.UNREADABLE:
            raise DataError(f"{where}: no score {part.score} in the row of document {document.index}") from None
        if not 0 <= scores[place] <= 1:
            raise DataError(f"{where}: document {document.index} scores {scores[place]:g}, outside 0..1")
    return scores


def _without_verdict(path: Path, found: Sequence[_Document], part: Part, lenient: Leniency) -> NDArray[np.bool_]:
    """Documents whose verdict is none: the judge gave up, or VLMEvalKit drew an option."""
    given_up = np.array([judged.gave_up(document.row) for document in found], dtype=np.bool_)
    at_random = np.array([judged.drawn(document.row.get("log", "")) for document in found], dtype=np.bool_)
    if given_up.any():
        lenient.warnings.append(
            f"{path}: {given_up.sum()} of {len(found)} verdicts on {part.task} are missing (the judge did not answer)"
        )
    if at_random.any():
        drawn = f"{path}: {at_random.sum()} of {len(found)} verdicts on {part.task} were drawn at random"
        said = f"{drawn} (no one could read the reply)"
        if "drawn" in lenient.kinds:
            lenient.refuse("drawn", said)
            return given_up
        lenient.warnings.append(f"{said}; they are none (--lenient drawn counts them)")
    return given_up | at_random
