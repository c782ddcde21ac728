"""Read lmms-eval result folders as they are: what was run, under which mask, with which numbers and samples."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from redundancy_eval import model_args, sidecar
from redundancy_eval.errors import DataError
from redundancy_eval.runs import Leniency, Run, Samples, TaskResult, reply_digest
from redundancy_eval.taxonomy import Part

FRAMEWORK = "lmms-eval"
# Tasks write other *_results.json beside these (submissions/mmbench_en_dev_static_results.json).
_RESULTS = re.compile(r"\d{8}_\d{6}_results\.json")


def find(folder: Path) -> list[Path]:
    """Every results file below a folder."""
    return sorted(path for path in folder.rglob("*_results.json") if _RESULTS.fullmatch(path.name))


def read(path: Path, lenient: Leniency) -> Run:
    """Read one results file; its samples are read when asked for.

    Raises:
        DataError: the file is damaged.
    """
    content = sidecar.read_json(path)
    config = content.get("config")
    if not isinstance(config, dict) or not isinstance(content.get("results"), dict):
        raise DataError(f"{path}: not an lmms-eval results file (no `config` or `results`)")
    told = sidecar.read(list(path.parents)[:2])
    versions = dict(told.get("versions", {}))
    if "lmms-eval" not in versions and not str(content.get("lmms_eval_version", "")).startswith("unknown"):
        versions["lmms-eval"] = str(content.get("lmms_eval_version", ""))
    tasks = {}
    for task, settings in content.get("configs", {}).items():
        metrics = content["results"].get(task)
        if metrics is None:
            raise DataError(f"{path}: task {task} was configured but has no results")
        documents = content.get("n-samples", {}).get(task, {}).get("effective")
        tokens = (settings.get("generation_kwargs") or {}).get("max_new_tokens")
        tasks[task] = TaskResult(
            task,
            documents,
            {
                "version": [content.get("versions", {}).get(task), content.get("n-shot", {}).get(task)],
                "generation": [settings.get("generation_kwargs"), config.get("gen_kwargs")],
                "prompt": [settings.get("lmms_eval_specific_kwargs"), content.get("system_instruction")],
                "dataset": [settings.get(key) for key in ("dataset_path", "dataset_name", "test_split")],
            },
            partial(_headline, path, task, metrics),
            partial(_samples, path, task, documents, tokens, lenient),
        )
    arguments = model_args.parse(config.get("model_args"), path)
    named = (part.partition(":")[0].strip().lower() for part in arguments.get("encoders", "").split("+"))
    return Run(
        path,
        FRAMEWORK,
        str(config.get("model")),
        arguments,
        {"limit": [config.get("limit"), config.get("offset")]},
        tasks,
        tuple(told.get("encoders", ())) or tuple(filter(None, named)),
        versions,
        weights=told.get("checkpoint"),
    )


def _headline(path: Path, task: str, metrics: Mapping[str, Any], part: Part) -> float:
    """The task's number called `part.metric`, under whatever filter; NaN where the framework reports none."""
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name, comma, _ = key.partition(",")
        if comma and name == part.metric:
            found[key] = 0.0 if value is None and part.null_is_zero else value
    values = set(map(str, found.values()))
    if not found:
        raise DataError(f"{path}: task {task} has no number {part.metric!r} in its results")
    if len(values) > 1:
        raise DataError(f"{path}: task {task} reports {part.metric} under two filters, with different values")
    value = next(iter(found.values()))
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: task {task}: {part.metric} is {value!r}, not a number")
    return float(value)


def _samples(
    results: Path, task: str, documents: int | None, tokens: int | None, lenient: Leniency, part: Part
) -> Samples | None:
    """The samples file of a task; None when it was not logged."""
    stamp = results.name.removesuffix("_results.json")
    path = results.with_name(f"{stamp}_samples_{task}.jsonl")
    if not path.exists():
        return None
    score, cluster, stratum = _score(part), _text(part.cluster), _text(part.stratum)
    where = part.where
    lines: dict[int, int] = {}
    rows: dict[int, tuple[int, float, str, str, bool, str | None]] = {}
    for number, record in _records(path, lenient):
        if record is None:
            return None
        doc_id = record["doc_id"]
        if doc_id in lines:
            first = lines[doc_id]
            lenient.refuse(
                "duplicate-samples",
                f"{path}:{number}: document {doc_id} was already on line {first}; two runs wrote this file",
            )
        lines[doc_id] = number
        if where and where not in record:
            continue
        try:
            value = score(record) if score else np.nan
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path}:{number}: no score {part.score} in the sample") from None
        counts = record.get("token_counts") or [None]
        used = (counts[0] or {}).get("output_tokens") or 0
        key = cluster(record) or f"document {doc_id}"
        capped = tokens is not None and used >= tokens
        rows[doc_id] = (_digest(record), value, key, stratum(record), capped, _reply(record))
    if documents is not None and len(lines) != documents:
        lenient.refuse("truncated", f"{path}:{len(lines)}: {len(lines)} samples, but {results.name} counts {documents}")
        return None
    order = sorted(rows)
    return Samples(
        path,
        np.array(order, dtype=np.int64),
        np.array([lines[doc_id] for doc_id in order], dtype=np.int64),
        np.array([rows[doc_id][0] for doc_id in order], dtype=np.uint64),
        np.array([rows[doc_id][1] for doc_id in order], dtype=np.float64),
        np.array([rows[doc_id][2] for doc_id in order], dtype=np.str_),
        np.array([rows[doc_id][3] for doc_id in order], dtype=np.str_),
        np.zeros(len(order), dtype=np.bool_),
        np.array([rows[doc_id][4] for doc_id in order], dtype=np.bool_),
        np.array([reply_digest(rows[doc_id][5]) for doc_id in order], dtype=np.uint64),
        np.array([rows[doc_id][5] is not None and not rows[doc_id][5].strip() for doc_id in order], dtype=np.bool_),
        "" if score else part.reason or "its samples hold no scores",
    )


def _records(path: Path, lenient: Leniency) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line number and record of every line; None for a damaged one that is excused."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            try:
                record = json.loads(line)
                record["doc_id"].__index__()
            except (ValueError, KeyError, TypeError, AttributeError):
                lenient.refuse("truncated", f"{path}:{number}: truncated or damaged sample")
                yield number, None
                return
            yield number, record


def _reply(record: Mapping[str, Any]) -> str | None:
    """The first text that was answered; lmms-eval leaves out `resps` where its filters changed nothing."""
    found = record.get("resps", record.get("filtered_resps"))
    while isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, str) else None


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
    return lambda record: float(get(record))


def _value(path: str) -> Callable[[Mapping[str, Any]], Any]:
    names = path.split(".")

    def value(record: Mapping[str, Any]) -> Any:
        found: Any = record
        for name in names:
            found = found[name]
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
