"""Read lmms-eval result folders as they are: what was run, under which mask, with which numbers and documents."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redundancy_eval.errors import DataError, SetupError

RECORD = "redundancy_eval.json"  # what `redundancy-eval run` writes beside a run
RECORD_SCHEMA = 1


@dataclass(frozen=True)
class Samples:
    """The samples file of one task: per document its digest (what was asked) and the whole record."""

    path: Path
    records: Mapping[int, Mapping[str, Any]]
    lines: Mapping[int, int]

    def digest(self, doc_id: int) -> str:
        """Hash of what was asked and what was right, to tell whether two runs saw the same document."""
        record = self.records[doc_id]
        asked = json.dumps([record.get("input"), record.get("target")], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()


@dataclass(frozen=True)
class TaskResult:
    """One task of a run: its metrics (without filter names), document count, settings and samples if logged."""

    task: str
    metrics: Mapping[str, float]
    documents: int
    settings: Mapping[str, Any]
    samples: Samples | None


@dataclass(frozen=True)
class Run:
    """One lmms-eval results file."""

    path: Path
    model: str
    arguments: Mapping[str, str]
    settings: Mapping[str, Any]
    tasks: Mapping[str, TaskResult]
    encoders: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def checkpoint(self) -> str:
        """What `pretrained=` says, or the model id."""
        return self.arguments.get("pretrained", self.model)

    @property
    def mask(self) -> tuple[str, str]:
        """`drop` and `keep` as given; empty when not."""
        return self.arguments.get("drop", ""), self.arguments.get("keep", "")


# Arguments of a run that do not change which model answers: the mask itself, and where and how fast it runs.
_NOT_IDENTITY = {"drop", "keep", "device", "batch_size"}


def identity(run: Run) -> tuple[Any, ...]:
    """What must be equal for two runs to be masks of one model: model id, checkpoint, remaining model arguments."""
    rest = {key: value for key, value in run.arguments.items() if key not in _NOT_IDENTITY}
    return run.model, tuple(sorted(rest.items()))


def results_files(paths: Iterable[str | Path]) -> list[Path]:
    """Every lmms-eval results file named by, or below, the paths.

    Raises:
        SetupError: a path does not exist or holds no results.
    """
    found: dict[Path, None] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise SetupError(f"no such file or folder: {given}")
        here = [given] if given.is_file() else sorted(given.rglob("*_results.json"))
        if not here:
            raise SetupError(f"no lmms-eval results (*_results.json) in {given}")
        found.update(dict.fromkeys(path.resolve() for path in here))
    return list(found)


def parse_model_args(text: Any, path: Path) -> dict[str, str]:
    """lmms-eval's `config.model_args` as a dictionary of texts.

    Raises:
        DataError: a part is no `key=value`.
    """
    if isinstance(text, Mapping):
        return {str(key): str(value) for key, value in text.items()}
    arguments = {}
    for part in filter(None, (piece.strip() for piece in str(text or "").split(","))):
        key, separator, value = part.partition("=")
        if not separator:
            raise DataError(f"{path}: cannot read config.model_args {text!r}: {part!r} is no key=value")
        arguments[key.strip()] = value.strip()
    return arguments


def read(paths: Iterable[str | Path]) -> list[Run]:
    """Read every run named by, or below, the paths.

    Raises:
        SetupError: a path does not exist or holds no results.
        DataError: a file is damaged, or its numbers and samples do not fit together.
    """
    return [read_results(path) for path in results_files(paths)]


def read_results(path: Path) -> Run:
    """Read one results file with the sample files beside it.

    Raises:
        DataError: the file or a samples file is damaged.
    """
    content = _json(path)
    config = content.get("config")
    if not isinstance(config, dict) or not isinstance(content.get("results"), dict):
        raise DataError(f"{path}: not an lmms-eval results file (no `config` or `results`)")
    record = _record(path)
    versions = dict(record.get("versions", {}))
    if "lmms-eval" not in versions and not str(content.get("lmms_eval_version", "")).startswith("unknown"):
        versions["lmms-eval"] = str(content.get("lmms_eval_version", ""))
    tasks = {}
    for task, settings in content.get("configs", {}).items():
        metrics = content["results"].get(task)
        if metrics is None:
            raise DataError(f"{path}: task {task} was configured but has no results")
        counts = content.get("n-samples", {}).get(task, {})
        tasks[task] = TaskResult(
            task,
            _metrics(metrics, path, task),
            int(counts.get("effective", -1)),
            {
                "version": content.get("versions", {}).get(task),
                "shots": content.get("n-shot", {}).get(task),
                "generation": settings.get("generation_kwargs"),
                "prompt": settings.get("lmms_eval_specific_kwargs"),
                "dataset": [settings.get(key) for key in ("dataset_path", "dataset_name", "test_split")],
            },
            _samples(path, task, int(counts.get("effective", -1))),
        )
    limits = {key: config.get(key) for key in ("limit", "offset", "gen_kwargs")}
    limits["system_instruction"] = content.get("system_instruction")
    return Run(
        path,
        str(config.get("model")),
        parse_model_args(config.get("model_args"), path),
        limits,
        tasks,
        tuple(record.get("encoders", ())),
        versions,
    )


def _metrics(metrics: Mapping[str, Any], path: Path, task: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in metrics.items():
        name, comma, _ = key.partition(",")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not comma or not number or name.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
            continue
        if name in found and found[name] != value:
            raise DataError(f"{path}: task {task} reports {name} twice, under two filters, with different values")
        found[name] = float(value)
    return found


def _samples(results: Path, task: str, documents: int) -> Samples | None:
    stamp = results.name.removesuffix("_results.json")
    path = results.with_name(f"{stamp}_samples_{task}.jsonl")
    if not path.exists():
        return None
    records: dict[int, Mapping[str, Any]] = {}
    lines: dict[int, int] = {}
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                record = json.loads(line)
                doc_id = record["doc_id"]
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{path}:{number}: truncated or damaged sample") from None
            if doc_id in records:
                raise DataError(
                    f"{path}:{number}: document {doc_id} was already on line {lines[doc_id]}; two runs wrote this file"
                )
            records[doc_id], lines[doc_id] = record, number
    if documents >= 0 and len(records) != documents:
        raise DataError(f"{path}:{len(records)}: {len(records)} samples, but {results.name} counts {documents}")
    return Samples(path, records, lines)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: truncated or damaged JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}:1: not a JSON object")
    return content


def _record(results: Path) -> dict[str, Any]:
    for folder in list(results.parents)[:2]:
        path = folder / RECORD
        if path.is_file():
            record = _json(path)
            if record.get("schema") != RECORD_SCHEMA:
                raise DataError(f"{path}: schema {record.get('schema')!r}; this version reads {RECORD_SCHEMA}")
            return record
    return {}


def sample_value(record: Mapping[str, Any], path: str) -> float | None:
    """A number inside a sample record by its dotted path; None when it is absent."""
    value: Any = record
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def check_same(runs: Sequence[Run], tasks: Iterable[str]) -> None:
    """Check that runs differ in nothing but the mask: limits, task settings, and the documents where logged.

    Raises:
        DataError: two runs differ, with both files and the first difference.
    """
    for task in tasks:
        mine = [run for run in runs if task in run.tasks]
        for run in mine[1:]:
            _check_pair(mine[0], run, task)


def _check_pair(first: Run, other: Run, task: str) -> None:
    where = f"{first.path} and {other.path}, task {task}"
    a, b = first.tasks[task], other.tasks[task]
    pairs = {**_differences(first.settings, other.settings), **_differences(a.settings, b.settings)}
    for key, (left, right) in pairs.items():
        raise DataError(f"{where}: runs differ in {key}: {left!r} and {right!r}")
    if a.documents != b.documents:
        raise DataError(f"{where}: runs differ in documents: {a.documents} and {b.documents}")
    if a.samples is None or b.samples is None:
        return
    only = sorted(set(a.samples.records) ^ set(b.samples.records))
    if only:
        owner = a.samples if only[0] in a.samples.records else b.samples
        raise DataError(
            f"{owner.path}:{owner.lines[only[0]]}: document {only[0]} of task {task} is in one mask's run only "
            f"({len(only)} such documents)"
        )
    for doc_id in a.samples.records:
        if a.samples.digest(doc_id) != b.samples.digest(doc_id):
            raise DataError(
                f"{b.samples.path}:{b.samples.lines[doc_id]}: document {doc_id} of task {task} was asked or scored "
                f"otherwise than in {a.samples.path}:{a.samples.lines[doc_id]}"
            )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a[key], b[key]) for key in a if a[key] != b.get(key)}
