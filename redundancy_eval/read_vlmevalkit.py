"""Read VLMEvalKit work folders as they are: predictions, per-sample verdicts and headline numbers of one model.

Files are found by exact name and columns by their names, never by position. Known layouts: ms-vlmeval writes
`WORK/MODEL/MODEL_DATASET*`, upstream `WORK/MODEL/T<time>/MODEL_DATASET*` with links to them in `WORK/MODEL`. Pickles
are never opened. Rules of recomputation were checked against ms-vlmeval 0.0.20 and upstream e8e78f05.
"""

import ast
import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from redundancy_eval import sidecar, spreadsheets
from redundancy_eval.errors import DataError
from redundancy_eval.files import read_json
from redundancy_eval.runs import Leniency, Run, Samples, TaskResult, reply_digest
from redundancy_eval.taxonomy import Part, Taxonomy

FRAMEWORK = "vlmevalkit"
_RUN_FOLDER = re.compile(r"T\d{8}[-_].+")
# Texts that VLMEvalKit and its model wrappers write in place of a reply that could not be had.
_FAILED = re.compile(
    r"Fail(?:ed)? to obtain answer|^Image Decode Error$|^Chat Mode: Failed with all possible conversation turns"
)
_JUDGES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}  # how VLMEvalKit shortens these in file names
# What a data set that was run leaves behind, without and with the parts that name a judge.
_OWN = (".xlsx", ".tsv", "_acc.csv", "_acc.json", "_score.csv", "_score.json")
_VERDICT = ("index", "prediction", "log", "hit", "g_index")  # what every file of verdicts may hold
# What pandas reads as no value.
_NO_VALUE = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MILLION = 1_000_000  # rotation k of MMBench's question i has the index k * 10^6 + i

Row = Mapping[str, str]


def find(folder: Path, taxonomy: Taxonomy) -> list[Path]:
    """Every folder below a folder that holds a model's results on one of the taxonomy's data sets."""
    names = {part.task for part in taxonomy.parts(FRAMEWORK)}
    found = []
    for where, _, files in os.walk(folder):
        path = Path(where)
        known = {f"{_model(path)}_{name}" for name in names}
        stems = {re.sub(r"(_acc|_score)?\.(xlsx|tsv|csv|json)$", "", f) for f in files if not (path / f).is_symlink()}
        # A run of ours that was stopped has a hole with a reason, even where it left no results.
        stopped = "status.json" in files and not (path / "status.json").is_symlink() and any(sidecar.read(_told(path)))
        if known & stems or stopped:
            found.append(path)
    return sorted(found)


def read(folder: Path, taxonomy: Taxonomy, lenient: Leniency) -> Run:
    """Read one model's folder; samples are read when asked for.

    Raises:
        DataError: a file is damaged.
    """
    model = _model(folder)
    status = _status(folder)
    told_us = sidecar.read(_told(folder))
    place = (told_us.get("judge") or "").partition("@")[2]
    tasks, failures = {}, {}
    judged = {part.task: "{judge}" in part.file + part.samples for part in taxonomy.parts(FRAMEWORK)}
    for name in sorted(judged):
        told = status.get(name, {})
        stem = folder / f"{model}_{name}"
        error = told.get("error_message") or told.get("skip_reason")
        if told.get("error_message") == "":  # of an exception that says nothing
            error = "an exception without a message"
        if error:
            failures[name] = f"VLMEvalKit says: {str(error).strip().splitlines()[0]}"
        elif told.get("status") in ("pending", "infer", "eval"):
            failures[name] = f"VLMEvalKit was stopped at stage {told['status']!r}, or is still running"
        if not any(stem.with_name(stem.name + ending).is_file() for ending in _OWN):
            continue
        if error:
            continue  # numbers of an earlier attempt may still lie there
        judge = _judge(stem, told.get("judge_model")) if judged[name] else None
        tasks[name] = TaskResult(
            name,
            None,
            {"judge": {"judge": f"{judge}@{place}" if judge and place else judge}},
            partial(_headline, stem, judge),
            partial(_samples, stem, judge, lenient),
        )
    return Run(
        folder,
        FRAMEWORK,
        str(told_us.get("model", model)),
        told_us.get("arguments", {}),
        {},
        tasks,
        tuple(told_us.get("encoders", ())),
        told_us.get("versions", {}),
        failures=failures,
        weights=told_us.get("checkpoint"),
    )


def _told(folder: Path) -> list[Path]:
    """Where a run of ours says what it is: the model's folder, above upstream's folder of a run."""
    return [folder, folder.parent] if _RUN_FOLDER.fullmatch(folder.name) else [folder]


def _model(folder: Path) -> str:
    return folder.parent.name if _RUN_FOLDER.fullmatch(folder.name) else folder.name


def _status(folder: Path) -> dict[str, Any]:
    path = folder / "status.json"
    return dict(read_json(path).get("datasets", {})) if path.is_file() else {}


def _judge(stem: Path, told: str | None) -> str | None:
    """The judge as file names spell it; None when no file carries one."""
    if told:
        return _JUDGES.get(told, told) if _table_path(stem, f"_{_JUDGES.get(told, told)}_result") else told
    start = f"{stem.name}_"
    rests = [path.name.removeprefix(start) for path in stem.parent.iterdir() if path.name.startswith(start)]
    # Data sets begin alike: MMBench_DEV_EN_V11's files are not MMBench_DEV_EN's by a judge called V11_...
    others = {rest.rpartition(".")[0] for rest in rests if rest.endswith((".xlsx", ".tsv"))}
    found = [re.fullmatch(r"(.+)(?:_result\.(?:xlsx|tsv)|_score\.csv)", rest) for rest in rests]
    names = {match[1] for match in found if match}
    names = {name for name in names if not any(name.startswith(f"{other}_") for other in others)}
    if len(names) > 1:
        raise DataError(f"{stem.parent}: results of {stem.name} by several judges: {', '.join(sorted(names))}")
    return names.pop() if names else None


def _table_path(stem: Path, suffix: str) -> Path | None:
    for ending in (".xlsx", ".tsv"):
        path = stem.with_name(stem.name + suffix + ending)
        if path.is_file():
            return path
    return None


def table(path: Path, only: Collection[str] = ()) -> list[dict[str, str]]:
    """The rows of an xlsx, tsv or csv file as texts; `only` these columns, where they are there.

    Raises:
        DataError: the file is damaged.
    """
    cells: list[list[Any]]
    try:
        if path.suffix == ".xlsx":
            cells = spreadsheets.read(path)
        else:
            csv.field_size_limit(1 << 30)
            with path.open(encoding="utf-8", newline="") as handle:
                cells = [list(row) for row in csv.reader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: damaged or not a table ({error})") from None
    if not cells:
        raise DataError(f"{path}:1: an empty table")
    header = [_text(cell) for cell in cells[0]]
    if any(len(row) != len(header) for row in cells):
        line = next(i for i, row in enumerate(cells, 1) if len(row) != len(header))
        raise DataError(f"{path}:{line}: truncated row")
    picked = [(place, name) for place, name in enumerate(header) if not only or name in only]
    rows = []
    for row in cells[1:]:
        rows.append({name: cell if type(cell := row[place]) is str else _text(cell) for place, name in picked})
    return rows


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _headline(stem: Path, judge: str | None, part: Part) -> float:
    """The number that VLMEvalKit reports; NaN where it reports none.

    `part.metric` may name alternatives ("Average|Overall": the first column that exists) or a condition ("Overall if
    Average": only where that other column exists); both tell versions apart whose columns changed meaning.
    """
    file = part.file.replace("{judge}", judge or "")
    found = [p for ending in (".csv", ".json") if (p := stem.with_name(stem.name + file + ending)).is_file()]
    if not found:
        return float("nan")
    path = found[0]
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: truncated or damaged JSON ({error})") from None
        rows = [dict(row) for row in (content if isinstance(content, list) else [content])]
    else:
        rows = table(path)
    rows = [row for row in rows if all(str(row.get(key)) == value for key, value in part.row.items())]
    if len(rows) != 1:
        wanted = ", ".join(f"{key}={value}" for key, value in part.row.items()) or "the only"
        raise DataError(f"{path}: {len(rows)} rows where {wanted} one is wanted")
    names, _, condition = part.metric.partition(" if ")
    column = next((name for name in names.split("|") if name in rows[0]), None)
    if column is None:
        raise DataError(f"{path}: no column {names!r}")
    if condition and condition not in rows[0]:
        return float("nan")
    try:
        return float(rows[0][column])
    except ValueError:
        raise DataError(f"{path}: {column} is {rows[0][column]!r}, not a number") from None


def _samples(stem: Path, judge: str | None, lenient: Leniency, part: Part) -> Samples | None:
    """Per-sample scores, joined with the predictions; None when either file is not there."""
    asked_path, path = _table_path(stem, ""), _table_path(stem, part.samples.replace("{judge}", judge or ""))
    if asked_path is None or path is None:
        return None
    asked: dict[str, Row] = {}
    for line, row in enumerate(table(asked_path), 2):
        index = _field(row, "index", asked_path, line)
        if index in asked:
            lenient.refuse("duplicate-samples", f"{asked_path}:{line}: document {index} stands twice")
        asked[index] = row
    lost = sum(row.get("prediction") == spreadsheets.FORMULA for row in asked.values())
    if lost:
        lenient.warnings.append(
            f"{asked_path}: {lost} of {len(asked)} predictions began with '=' and were written as formulas; what they "
            "said is lost, and VLMEvalKit scored 0 in their place"
        )
    keep, score = _where(part.where), _score(part)
    columns = {*_VERDICT, part.score, part.cluster, part.stratum, part.where.partition("=")[0]}
    judged_here = part.samples == "" or ": " in part.score  # a rule may look at any column
    verdicts = enumerate(table(path, () if judged_here else columns), 2)
    rows = {_field(row, "index", path, line): (line, row) for line, row in verdicts if keep(row)}
    whole = {index for index, row in asked.items() if keep(row)}
    groups: dict[str, list[str]] = {}
    if part.cluster == "g_index":  # circular: a verdict stands for all rotations of a question
        for index in sorted(whole):
            groups.setdefault(str(int(index) % _MILLION), []).append(index)
        whole = set(groups)
    if set(rows) != whole:
        only = sorted(set(rows) ^ whole)[0]
        lenient.refuse("truncated", f"{path}: document {only} is only here or only in {asked_path.name}")
        return None
    order = sorted(rows, key=lambda index: (len(index), index))
    clusters = _clusters(part, order, rows)
    scores, missing, digests, empty = [], [], [], []
    for index in order:
        line, row = rows[index]
        replies = [asked[member]["prediction"] for member in groups.get(index, [index])]
        if spreadsheets.FORMULA not in replies:
            _check_fresh(asked[index], row, path, line, lenient)
        missing.append(any(reply == spreadsheets.FORMULA or _FAILED.search(reply) for reply in replies))
        # Rotations that were all answered alike count as that one text.
        known = "\x1f".join(replies if len(set(replies)) > 1 else replies[:1])
        digests.append(0 if spreadsheets.FORMULA in replies else reply_digest(known))
        empty.append(spreadsheets.FORMULA not in replies and not any(reply.strip() for reply in replies))
        try:
            scores.append(score(row))
        except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise DataError(f"{path}:{line}: no score {part.score} in the row of document {index}") from None
    stratum = part.stratum.removeprefix("=")
    question = sorted(set(next(iter(asked.values()), {})) - {"prediction"})
    return Samples(
        path,
        np.array(order, dtype=np.str_),
        np.array([rows[index][0] for index in order], dtype=np.int64),
        np.array([_digest(asked[index], question) for index in order], dtype=np.uint64),
        np.array(scores, dtype=np.float64),
        np.array(clusters, dtype=np.str_),
        np.array(
            [stratum if part.stratum.startswith("=") else rows[i][1].get(stratum, "") for i in order], dtype=np.str_
        ),
        np.array(missing, dtype=np.bool_),
        np.zeros(len(order), dtype=np.bool_),  # VLMEvalKit does not count tokens
        np.array(digests, dtype=np.uint64),
        np.array(empty, dtype=np.bool_),
    )


def _field(row: Row, name: str, path: Path, line: int) -> str:
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


def _clusters(part: Part, order: Sequence[str], rows: Mapping[str, tuple[int, Row]]) -> list[str]:
    """Cluster of each document: a column, `pair` (consecutive by number), else the document itself."""
    if part.cluster == "pair":
        place = {index: number for number, index in enumerate(sorted(order, key=int))}
        return [str(place[index] // 2) for index in order]
    return [rows[index][1].get(part.cluster, "") or f"document {index}" for index in order]


def _digest(row: Row, columns: Sequence[str]) -> int:
    asked = "\x1f".join([*columns, *(row[name] for name in columns)])
    return int.from_bytes(hashlib.blake2b(asked.encode(), digest_size=8).digest(), "big")


def _check_fresh(asked: Row, verdict: Row, path: Path, line: int, lenient: Leniency) -> None:
    """VLMEvalKit resumes by file name, so a verdict can belong to an earlier prediction."""
    prediction, judged = asked["prediction"], verdict.get("prediction", "")
    log = verdict.get("log", "")
    stale = _blank(prediction) != _blank(judged)
    if log.startswith("Match Log: ") and "Failed in Prefetch" not in log and "randomly generate" not in log:
        # The text that the option was read from: the prediction, or a judge's reply where it names none.
        options = {letter: asked[letter] for letter in ascii_uppercase if asked.get(letter)}
        if _blank(log.removeprefix("Match Log: ").removesuffix(". ")) != _blank(prediction):
            stale |= _infer(prediction, options) is not None
    if "Failed in Prefetch" in log and "g_index" not in verdict:  # circular groups can fail by another rotation
        stale |= verdict.get("hit") == "0" and prediction.strip(" .()") == asked.get("answer")
    if stale:
        lenient.refuse(
            "stale", f"{path}:{line}: the verdict belongs to another prediction than {asked['prediction']!r}"
        )


def _blank(text: str) -> str:
    """A reply as it is compared: xlsx files escape control characters, once more with each time they are written.

    Where VLMEvalKit reads its own file, `N/A` is no value, and a column of numbers loses how they were written.
    """
    for _ in range(3):
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    text = text.strip()
    try:
        return "" if text in _NO_VALUE else str(float(text))
    except ValueError:
        return text


def _score(part: Part) -> Callable[[Row], float]:
    rule, colon, column = part.score.partition(": ")
    if colon:
        judge = _RULES[rule]
        return lambda row: judge(row, row[column])
    return lambda row: (
        {"True": 1.0, "False": 0.0}[row[part.score]] if row[part.score] in ("True", "False") else float(row[part.score])
    )


def _best(row: Row, matches: str) -> float:
    """ChartQA: right if it matches one of the answers."""
    return float(max(ast.literal_eval(matches)))


def _anls(row: Row, distances: str) -> float:
    """DocVQA: 1 - the smallest normalized edit distance, 0 below one half."""
    similarity = 1 - min(ast.literal_eval(distances))
    return float(similarity) if similarity >= 0.5 else 0.0


def _ocrbench(row: Row, prediction: str) -> float:
    """OCRBench: one of the answers occurs in the prediction (vlmeval/dataset/image_vqa.py, OCRBench)."""
    formula = row["category"] == "Handwritten Mathematical Expression Recognition"

    def plain(text: object) -> str:
        words = str(text).strip().replace("\n", " ")
        return words.replace(" ", "") if formula else words.lower()

    return float(any(plain(answer) in plain(prediction or "nan") for answer in ast.literal_eval(row["answer"])))


def _mathvista(row: Row, extracted: str) -> float:
    """MathVista: the judge's extraction is the right option, integer or float (vlmeval/dataset/utils/mathvista.py)."""
    extracted = extracted or "nan"
    if row["question_type"] == "multi_choice":
        options = {chr(65 + i): str(text) for i, text in enumerate(ast.literal_eval(row["choices"]))}
        return float(_infer(extracted, options) == row["answer_option"])
    kinds: dict[str, Callable[[str], float]] = {"integer": int, "float": float}
    if row["answer_type"] not in kinds:
        return float(row["answer"] == "None")
    try:
        return float(kinds[row["answer_type"]](extracted) == kinds[row["answer_type"]](row["answer"]))
    except ValueError:
        return 0.0


_REJECTED = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def _infer(answer: str, options: Mapping[str, str]) -> str | None:
    """VLMEvalKit's reading of a reply without a judge (vlmeval/utils/matching_util.py, can_infer)."""
    if "Failed to obtain answer via API" not in answer:
        if any(text in answer for text in _REJECTED):
            return "Z"
        words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
        found = [letter for letter in options if letter in words]
        if len(found) == 1 and words.index(found[0]) > len(words) - 5:
            return found[0]
        if not found and "Z" in words:
            return "Z"
    lowered = answer.lower()
    if len(lowered) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, text in options.items() if text.lower() in lowered]
    return named[0] if len(named) == 1 else None


_RULES: dict[str, Callable[[Row, str], float]] = {
    "max": _best,
    "anls": _anls,
    "ocrbench": _ocrbench,
    "mathvista": _mathvista,
}
