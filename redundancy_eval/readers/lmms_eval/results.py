"""Results files of lmms-eval as they are: what was run, under which mask, with which numbers.

Known layouts: TIME_results.json with TIME_samples_TASK.jsonl (0.3 to 0.7), results_TIME.json with
samples_TASK_TIME.jsonl (0.2.1 to 0.2.3), results.json (0.1, 0.2.0; its samples are not read), and any of them under
another name. Samples may be gzipped.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from redundancy_eval import compare, files, forms, masks, model_args, pruned, records, sample
from redundancy_eval.errors import DataError, Hole, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers.lmms_eval import samples
from redundancy_eval.readers.lmms_eval.samples import FORMERLY
from redundancy_eval.runs import Run, TaskResult
from redundancy_eval.taxonomy import LMMS_EVAL, Part

_OWN_NAME = re.compile(r"\d{8}_\d{6}_results\.json|results_\d{4}-\d\d-\d\dT[\d.:-]+\.json")


@dataclass(frozen=True)
class Reader:
    """Reads results files; `lenient` says which kinds of bad data are warnings."""

    lenient: Leniency = field(default_factory=Leniency)
    framework: str = LMMS_EVAL

    def find(self, found: Iterable[Path]) -> list[Path]:
        """The results files among files.

        Tasks write other *_results.json beside them (submissions/mmbench_en_dev_static_results.json), so one with a
        name that lmms-eval does not give is opened.
        """
        return sorted(path for path in found if _OWN_NAME.fullmatch(path.name) or _is_renamed(path))

    def read(self, path: Path) -> list[Run]:
        """The run of a results file; its samples are read when asked for.

        Raises:
            DataError: the file is damaged, or a record beside it contradicts it.
        """
        return [_read(path, self.lenient)]


def _is_renamed(path: Path) -> bool:
    if path.suffix != ".json" or "results" not in path.name:
        return False
    content = files.read_any_json(path)
    return isinstance(content, dict) and {"results", "config"} <= set(content)


def _read(path: Path, lenient: Leniency) -> Run:
    content = forms.check(files.read_json(path), forms.Results, path)
    config, fields = content["config"], cast(Mapping[str, Any], content)
    record, hashes = _record(path)
    arguments = model_args.parse(config.get("model_args"), path)
    small = pruned.of(record["pruned"], path) if "pruned" in record else None
    for name in ("drop", "keep"):
        if arguments.get(name) == "":
            raise DataError(
                f"{path}: {name}= is empty in the model arguments: which encoders were dropped is not known"
            )
    arguments = arguments if small is None else small.as_mask(arguments)
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
        drawn = sample.of_task(record, task)
        for kind, more in (*compare.deciding(own, compare.RESULTS).items(), *sample.settings(drawn).items()):
            decided.setdefault(kind, {}).update(more)
        limit = tokens if isinstance(tokens, int) else None
        tasks[task] = TaskResult(
            task,
            documents,
            decided,
            partial(_headline, path, task, metrics),
            partial(samples.read, path, task, documents, limit, lenient),
            sample=drawn,
        )
    named = (part.partition(":")[0].strip().lower() for part in arguments.get("encoders", "").split("+"))
    return Run(
        path,
        LMMS_EVAL,
        str(config.get("model")),
        arguments,
        _settings(fields, config),
        tasks,
        tuple(record.get("encoders", ())) or tuple(filter(None, named)),
        _versions(content, record),
        failures=failures,
        weights=record.get("checkpoint"),
        calibration=record.get("calibration") or {},
        resolved=_resolved(config, arguments, record),
        recorded=bool(record),
        hashes=hashes,
        feeds=record.get("feeds", {}),
        routed=record.get("routed", {}),
        calibrated=record.get("calibrated", 0),
        pruned="" if small is None else small.label,
        until=records.until(records.find(list(path.parents)[:2])) if record else None,
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
    names = (part.metric, FORMERLY.get(part.metric))
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
