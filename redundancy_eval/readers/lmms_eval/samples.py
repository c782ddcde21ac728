"""Samples that lmms-eval logged: the score, cluster and stratum of each document, as the taxonomy says."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from redundancy_eval import files, forms
from redundancy_eval.errors import DataError, Hole
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Samples, reply_digest
from redundancy_eval.sample import Place, alone
from redundancy_eval.taxonomy import Part

# How older releases spelt a number (mme/mme.yaml up to 0.2.4).
FORMERLY = {"mme_perception_score": "mme_percetion_score"}
_NO_SCORE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def read(
    results: Path, task: str, documents: int | None, tokens: int | None, lenient: Leniency, part: Part
) -> Samples | None:
    """The samples of a task; None when they were not logged.

    Args:
        results: the results file that they belong to.
        task: of lmms-eval.
        documents: how many the results count, where they do.
        tokens: the limit of a reply, where there is one.
        lenient: which kinds of bad data are warnings.
        part: what the task reports, and where its samples hold it.

    Raises:
        DataError: the file is damaged, or a sample holds no score.
        Hole: no sample counts.
    """
    path = _samples_path(results, task)
    if path is None:
        return None
    score, place, read_as = _score(part), placing(part), _as_scored(part)
    lines: dict[str, int] = {}
    rows: dict[str, tuple[int, float, str, str, bool, str | None, str | None]] = {}
    for number, record in _records(path, lenient):
        if record is None:
            return None
        doc_id = str(record["doc_id"])
        if doc_id in lines:
            first = lines[doc_id]
            lenient.refuse(
                "duplicate-samples",
                f"{path}:{number}: document {doc_id} was already on line {first}; two runs wrote this file",
            )
        lines[doc_id] = number
        where = place(record, doc_id)
        if where is None:
            continue
        value = np.nan if score is None else _points(score, record, part, f"{path}:{number}")
        counts = record.get("token_counts") or [None]
        used = (counts[0] or {}).get("output_tokens") or 0
        capped = tokens is not None and used >= tokens
        reply = _text_of(record, "resps", "filtered_resps")
        answer = _text_of(record, "filtered_resps", "resps") if read_as is None else read_as(record)
        rows[doc_id] = (_digest(record), value, *where, capped, reply, answer)
    if documents is not None and len(lines) != documents:
        lenient.refuse("truncated", f"{path}:{len(lines)}: {len(lines)} samples, but {results.name} counts {documents}")
        return None
    if lines and not rows:
        raise Hole(f"{path}: no sample has the field {part.where}")
    order = sorted(rows, key=lambda doc_id: (len(doc_id), doc_id))
    return Samples(
        path,
        np.array(order, dtype=np.str_),
        np.array([lines[doc_id] for doc_id in order], dtype=np.int64),
        np.array([rows[doc_id][0] for doc_id in order], dtype=np.uint64),
        np.array([rows[doc_id][1] for doc_id in order], dtype=np.float64),
        np.array([rows[doc_id][2] for doc_id in order], dtype=np.str_),
        np.array([rows[doc_id][3] for doc_id in order], dtype=np.str_),
        np.zeros(len(order), dtype=np.bool_),
        np.array([rows[doc_id][4] for doc_id in order], dtype=np.bool_),
        np.array([reply_digest(rows[doc_id][5]) for doc_id in order], dtype=np.uint64),
        np.array([_is_blank(rows[doc_id][5]) for doc_id in order], dtype=np.bool_),
        np.array([reply_digest(rows[doc_id][6]) for doc_id in order], dtype=np.uint64),
        read_as is not None,
        "" if score else part.reason or "its samples hold no scores",
    )


def placing(part: Part) -> Callable[[Mapping[str, Any], object], Place | None]:
    """How a sample and its document's number tell cluster and stratum; None of a sample that does not count."""
    cluster, stratum, where = _text(part.cluster), _text(part.stratum), part.where

    def place(record: Mapping[str, Any], doc_id: object) -> Place | None:
        if where and where not in record:
            return None
        return cluster(record) or alone(doc_id), stratum(record)

    return place


def _samples_path(results: Path, task: str) -> Path | None:
    """Where the samples of a task are; None when they were not logged."""
    if results.name.startswith("results_"):
        names = [f"samples_{task}_{results.name.removeprefix('results_').removesuffix('.json')}"]
    else:
        names = [f"{results.name.removesuffix('_results.json')}_samples_{task}"]
    there = (results.with_name(name + ending) for name in names for ending in (".jsonl", ".jsonl.gz"))
    return next((path for path in there if path.exists()), None)


def _points(score: Callable[[Mapping[str, Any]], float], record: Mapping[str, Any], part: Part, where: str) -> float:
    """A sample's score, 0..1."""
    try:
        value = score(record)
    except _NO_SCORE:
        raise DataError(f"{where}: no score {part.score} in the sample") from None
    if not 0 <= value <= 1:
        raise DataError(f"{where}: the score {part.score} of document {record['doc_id']} is {value:g}, outside 0..1")
    return value


def _records(path: Path, lenient: Leniency) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line number and record of every line; None for a damaged one that is excused."""
    files.check_regular(path)
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if number == 1:
                    files.check_fetched(line, path)
                if line.strip():
                    yield number, _sample(line, f"{path}:{number}")
    except (OSError, EOFError, zlib.error, _Damaged) as error:
        lenient.refuse(
            "truncated", str(error) if isinstance(error, _Damaged) else f"{path}:{number}: damaged ({error})"
        )
        yield number, None


class _Damaged(Exception):
    """A line that is no sample."""


def _sample(line: bytes, where: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], forms.check(files.parse_json(line, where), forms.Sample, where))
    except DataError as error:
        raise _Damaged(f"{where}: truncated or damaged sample ({str(error).removeprefix(f'{where}: ')})") from None


def _text_of(record: Mapping[str, Any], *fields: str) -> str | None:
    """The first text in the first field there is; lmms-eval leaves out `resps` where its filters changed nothing."""
    found = next((record[field] for field in fields if field in record), None)
    while isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, str) else None


def _is_blank(reply: str | None) -> bool:
    return reply is not None and not reply.strip()


def _digest(record: Mapping[str, Any]) -> int:
    """Hash of what was asked and what is right, to tell whether two runs saw the same document."""
    asked = f"{record.get('input')!r} {record.get('target')!r}"
    return int.from_bytes(hashlib.blake2b(asked.encode(), digest_size=8).digest(), "big")


def _score(part: Part) -> Callable[[Mapping[str, Any]], float] | None:
    """How a sample's score is read: a path, `path == path`, or a rule of ours and a path."""
    if not part.score:
        return None
    left, equals, right = part.score.partition(" == ")
    if equals:
        a, b = _value(left), _value(right)
        return lambda record: float(str(a(record)).strip().lower() == str(b(record)).strip().lower())
    rule, colon, path = part.score.partition(": ")
    if colon:
        get, judge = _value(path), _RULES[rule]
        return lambda record: judge(get(record))
    get = _value(part.score)
    return lambda record: _number(get(record))


def _as_scored(part: Part) -> Callable[[Mapping[str, Any]], str] | None:
    """What is compared with the right answer, where samples hold it; None where replies alone are known."""
    rule, colon, path = part.score.partition(": ")
    if colon and rule == "mmmu":
        readings = _value(path)
        return lambda record: repr(readings(record)["parsed_pred"])
    left, equals, _ = part.score.partition(" == ")
    if not equals:
        return None
    compared = _value(left)
    return lambda record: str(compared(record)).strip().lower()


def _number(value: Any) -> float:
    if not isinstance(value, bool | int | float):
        raise TypeError(value)
    return float(value)


def _value(path: str) -> Callable[[Mapping[str, Any]], Any]:
    names = path.split(".")

    def value(record: Mapping[str, Any]) -> Any:
        found: Any = record
        for name in names:
            former = FORMERLY.get(name)
            found = found[former if former in found and name not in found else name]
        return found

    return value


def _text(path: str) -> Callable[[Mapping[str, Any]], str]:
    """A value of a record as a text; "" where it is absent, or no path is given."""
    if not path:
        return lambda record: ""
    get = _value(path)

    def text(record: Mapping[str, Any]) -> str:
        try:
            return str(get(record))
        except (KeyError, TypeError):
            return ""

    return text


def _mmmu(sample: Mapping[str, Any]) -> float:
    """lmms-eval's verdict on an MMMU sample: any reading equal to the letter, or to the open answer.

    Source: evaluate_mmmu, eval_multi_choice and eval_open of MMMU's own evaluation (lmms_eval/tasks/mmmu/utils.py).
    """
    gold = sample["answer"] if isinstance(sample["answer"], list) else [sample["answer"]]
    if sample["question_type"] == "multiple-choice":
        return float(any(reading in gold for reading in sample["parsed_pred"]))
    right = [form for answer in gold for form in _mmmu_forms(answer)]
    for candidates in sample["parsed_pred"]:
        for candidate in candidates:
            if isinstance(candidate, str):
                if any(isinstance(form, str) and form in candidate for form in right):
                    return 1.0
            elif candidate in right:
                return 1.0
    return 0.0


def _mmmu_forms(answer: str) -> list[float | str]:
    text = answer.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


_RULES: dict[str, Callable[[Any], float]] = {"mmmu": _mmmu}
