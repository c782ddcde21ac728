"""Read lmms-eval result folders as they are: what was run, under which mask, with which numbers and samples.

Known layouts: TIME_results.json with TIME_samples_TASK.jsonl (0.3 to 0.7), results_TIME.json with
samples_TASK_TIME.jsonl (0.2.1 to 0.2.3), results.json (0.1, 0.2.0; its samples are not read), and any of them under
another name. Samples may be gzipped.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from redundancy_eval import compare, files, forms, masks, model_args, records
from redundancy_eval.errors import DataError, Hole, SetupError
from redundancy_eval.readers.runs import Leniency, Run, Samples, TaskResult, reply_digest
from redundancy_eval.taxonomy import Part

FRAMEWORK = "lmms-eval"
_OWN_NAME = re.compile(r"\d{8}_\d{6}_results\.json|results_\d{4}-\d\d-\d\dT[\d.:-]+\.json")
# How older releases spelt a number (mme/mme.yaml up to 0.2.4).
_FORMERLY = {"mme_perception_score": "mme_percetion_score"}
_NO_SCORE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def find(found: Iterator[Path]) -> list[Path]:
    """The results files among files.

    Tasks write other *_results.json beside them (submissions/mmbench_en_dev_static_results.json), so one with a name
    that lmms-eval does not give is opened.
    """
    return sorted(path for path in found if _OWN_NAME.fullmatch(path.name) or _is_renamed(path))


def _is_renamed(path: Path) -> bool:
    if path.suffix != ".json" or "results" not in path.name:
        return False
    content = files.read_any_json(path)
    return isinstance(content, dict) and {"results", "config"} <= set(content)


def read(path: Path, lenient: Leniency) -> Run:
    """Read one results file; its samples are read when asked for.

    Raises:
        DataError: the file is damaged, or a record beside it contradicts it.
    """
    content = forms.check(files.read_json(path), forms.Results, path)
    config, fields = content["config"], cast(Mapping[str, Any], content)
    record, hashes = _record(path)
    arguments = model_args.parse(config.get("model_args"), path)
    for name in ("drop", "keep"):
        if arguments.get(name) == "":
            raise DataError(
                f"{path}: {name}= is empty in the model arguments: which encoders were dropped is not known"
            )
    _check_record(path, record, config, arguments, lenient)
    tasks, failures = {}, {}
    predicted = config.get("predict_only") or (config.get("resolved_cli_args") or {}).get("predict_only")
    for task, settings in _configs(content).items():
        metrics = content["results"].get(task)
        if metrics is None:
            failures[task] = "lmms-eval configured it and reports no results"
            continue
        if predicted or any(name.startswith("bypass,") for name in metrics):
            failures[task] = "it was run with --predict_only, which scores nothing"
            continue
        documents = ((content.get("n-samples") or {}).get(task) or {}).get("effective")
        tokens = (settings.get("generation_kwargs") or {}).get("max_new_tokens")
        own = {name: part[task] for name, part in fields.items() if _of_tasks(name, part) and task in part}
        decided = compare.deciding(cast(Mapping[str, Any], settings), compare.TASK)
        for kind, more in compare.deciding(own, compare.RESULTS).items():
            decided.setdefault(kind, {}).update(more)
        limit = tokens if isinstance(tokens, int) else None
        tasks[task] = TaskResult(
            task,
            documents,
            decided,
            partial(_headline, path, task, metrics),
            partial(_samples, path, task, documents, limit, lenient),
        )
    named = (part.partition(":")[0].strip().lower() for part in arguments.get("encoders", "").split("+"))
    return Run(
        path,
        FRAMEWORK,
        str(config.get("model")),
        arguments,
        _settings(fields, config),
        tasks,
        tuple(record.get("encoders", ())) or tuple(filter(None, named)),
        _versions(content, record),
        failures=failures,
        weights=record.get("checkpoint"),
        calibration=compare.calibration(record),
        resolved=_resolved(config, arguments, record),
        recorded=bool(record),
        hashes=hashes,
        feeds=record.get("feeds", {}),
    )


def _configs(content: forms.Results) -> Mapping[str, forms.TaskConfig]:
    """Settings of each task; where the file has none, no settings for what it has results of."""
    return content.get("configs") or {task: {} for task in content["results"]}


def _of_tasks(name: str, part: Any) -> bool:
    """Whether a field holds something for each task."""
    return isinstance(part, dict) and name in ("versions", "n-shot", "task_hashes")


def _settings(fields: Mapping[str, Any], config: forms.RunConfig) -> dict[str, dict[str, Any]]:
    typed = config.get("resolved_cli_args") or {}
    found = compare.deciding({**typed, **config}, compare.CONFIG)
    whole = {name: part for name, part in fields.items() if not _of_tasks(name, part)}
    for kind, more in compare.deciding(whole, compare.RESULTS).items():
        found.setdefault(kind, {}).update(more)
    return found


def _record(path: Path) -> tuple[dict[str, Any], dict[Path, str]]:
    """The record of a results file, and the hashes of the run's files; nothing where it names other results."""
    folder = records.find(list(path.parents)[:2])
    if folder is None:
        return {}, {}
    record = records.read([folder])
    if path.relative_to(folder).as_posix() not in record.get("files", {path.relative_to(folder).as_posix(): ""}):
        return {}, {}
    start = path.name.removesuffix("_results.json")
    hashes = records.hashes(folder)
    return record, {file: digest for file, digest in hashes.items() if file.name.startswith(start)}


def _check_record(
    path: Path, record: Mapping[str, Any], config: forms.RunConfig, arguments: Mapping[str, str], lenient: Leniency
) -> None:
    """Refuse a record that tells of another run than the results do."""
    encoders = record.get("encoders", ())
    said = {"model": record.get("model"), "mask": record.get("mask"), **record.get("resolved", {})}
    ran: dict[str, Any] = {"model": config.get("model"), **_told(config, arguments)}
    if encoders and record.get("mask"):
        with suppress(SetupError):  # a name that the model has not is found where the table is made
            dropped = masks.dropped(encoders, arguments.get("drop"), arguments.get("keep"))
            ran["mask"] = masks.label(dropped, encoders)
    others = [
        name
        for name in ran
        if name != "batch_size" and None not in (ran[name], said.get(name)) and ran[name] != said[name]
    ]
    if others:
        a, b = (", ".join(f"{name} {told[name]}" for name in others) for told in (said, ran))
        lenient.refuse("record", f"{path}: the record beside it is of another run: it says {a}; the results say {b}")


def _told(config: forms.RunConfig, arguments: Mapping[str, str]) -> dict[str, str]:
    """How the model ran, as far as a results file says."""
    dtype = arguments.get("dtype") or str(config.get("model_dtype") or "").removeprefix("torch.")
    device = arguments.get("device") or config.get("device") or ""
    batch = config.get("batch_size")
    told = {
        "dtype": "" if dtype == "auto" else model_args.DTYPES.get(dtype, dtype),
        "device": device.partition(":")[0],
        "batch_size": "" if batch is None else str(batch),
        "attention": arguments.get("attn_implementation", ""),
    }
    return {name: value for name, value in told.items() if value}


def _resolved(config: forms.RunConfig, arguments: Mapping[str, str], record: Mapping[str, Any]) -> dict[str, str]:
    recorded = {name: str(value) for name, value in record.get("resolved", {}).items()}
    return {**recorded, **_told(config, arguments)}


def _versions(content: forms.Results, record: Mapping[str, Any]) -> dict[str, str]:
    """Versions as recorded; a results file knows the git tree that lmms-eval was started in, of whatever project."""
    found = dict(record.get("versions", {}))
    said = content.get("lmms_eval_version") or ""
    if said and "lmms-eval" not in found and not said.startswith("unknown"):
        found["lmms-eval"] = f"unknown (git {said})" if "@" in said else said
    return found


def _headline(path: Path, task: str, metrics: Mapping[str, Any], part: Part) -> float:
    """The task's number called `part.metric`, under whatever filter; NaN where the framework reports none.

    Raises:
        Hole: there is no such number.
    """
    names = (part.metric, _FORMERLY.get(part.metric))
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name, comma, _ = key.partition(",")
        if comma and name in names:
            found[key] = 0.0 if value is None and part.null_is_zero else value
    values = set(map(str, found.values()))
    if not found:
        raise Hole(f"{path}: task {task} has no number {part.metric!r} in its results")
    if len(values) > 1:
        raise Hole(f"{path}: task {task} reports {part.metric} under two filters, with different values")
    value = next(iter(found.values()))
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Hole(f"{path}: task {task}: {part.metric} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise Hole(f"{path}: task {task}: {part.metric} is beyond any number of points") from None


def _samples_path(results: Path, task: str) -> Path | None:
    """Where the samples of a task are; None when they were not logged."""
    if results.name.startswith("results_"):
        names = [f"samples_{task}_{results.name.removeprefix('results_').removesuffix('.json')}"]
    else:
        names = [f"{results.name.removesuffix('_results.json')}_samples_{task}"]
    there = (results.with_name(name + ending) for name in names for ending in (".jsonl", ".jsonl.gz"))
    return next((path for path in there if path.exists()), None)


def _samples(
    results: Path, task: str, documents: int | None, tokens: int | None, lenient: Leniency, part: Part
) -> Samples | None:
    """The samples of a task; None when they were not logged."""
    path = _samples_path(results, task)
    if path is None:
        return None
    score, cluster, stratum = _score(part), _text(part.cluster), _text(part.stratum)
    where = part.where
    lines: dict[str, int] = {}
    rows: dict[str, tuple[int, float, str, str, bool, str | None]] = {}
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
        if where and where not in record:
            continue
        value = np.nan if score is None else _points(score, record, part, f"{path}:{number}")
        counts = record.get("token_counts") or [None]
        used = (counts[0] or {}).get("output_tokens") or 0
        key = cluster(record) or f"document {doc_id}"
        capped = tokens is not None and used >= tokens
        rows[doc_id] = (_digest(record), value, key, stratum(record), capped, _reply(record))
    if documents is not None and len(lines) != documents:
        lenient.refuse("truncated", f"{path}:{len(lines)}: {len(lines)} samples, but {results.name} counts {documents}")
        return None
    if lines and not rows:
        raise Hole(f"{path}: no sample has the field {where}")
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
        "" if score else part.reason or "its samples hold no scores",
    )


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


def _reply(record: Mapping[str, Any]) -> str | None:
    """The first text that was answered; lmms-eval leaves out `resps` where its filters changed nothing."""
    found = record.get("resps", record.get("filtered_resps"))
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


def _number(value: Any) -> float:
    if not isinstance(value, bool | int | float):
        raise TypeError(value)
    return float(value)


def _value(path: str) -> Callable[[Mapping[str, Any]], Any]:
    names = path.split(".")

    def value(record: Mapping[str, Any]) -> Any:
        found: Any = record
        for name in names:
            former = _FORMERLY.get(name)
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
