"""Work folders of VLMEvalKit as they are: what was run and judged how, with which numbers and samples."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from redundancy_eval import compare, files, forms, model_args, pruned, records, sample
from redundancy_eval.errors import Hole
from redundancy_eval.leniency import Leniency
from redundancy_eval.readers.vlmevalkit import files as kit
from redundancy_eval.readers.vlmevalkit import judged, samples
from redundancy_eval.readers.vlmevalkit.judged import Reading
from redundancy_eval.runs import Run, Samples, TaskResult
from redundancy_eval.taxonomy import VLMEVALKIT, Part, Taxonomy

_EXACT = "exact_matching"
# When VLMEvalKit changed how it reads an option from a text, as folders of runs are dated; newest first.
_CHANGES = (("20260617", Reading.AFTER_ANSWER_IS), ("20250804", Reading.AMONG_LAST), ("", Reading.ANYWHERE))
# Commits and releases that are known here; a folder's date is that of the run, which can be later than its commit's.
_READINGS = {
    "989e33b2": Reading.ANYWHERE, "c3371551": Reading.AMONG_LAST, "b77b16fb": Reading.AMONG_LAST,
    "ee9c0f6a": Reading.AMONG_LAST, "354a485c": Reading.AMONG_LAST, "ms-vlmeval 0.0.20": Reading.AMONG_LAST,
    "a67ace50": Reading.AFTER_ANSWER_IS, "e8e78f05": Reading.AFTER_ANSWER_IS,
}  # fmt: skip


@dataclass(frozen=True)
class _Told:
    """What a folder says of its run: VLMEvalKit's status.json, our record, and upstream's name of the folder."""

    folder: Path
    status: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def data_sets(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each data set."""
        return self.status.get("datasets") or {}

    @property
    def version(self) -> str | None:
        """The kit's version: a release as our record has it, upstream's commit."""
        name = kit.RUN_FOLDER.fullmatch(self.folder.name)
        recorded = self.record.get("versions", {}).get(VLMEVALKIT)
        if recorded and not name:  # in a release's folder the commit is that of whatever git tree surrounds it
            return str(recorded)
        commit = name[3] if name and name[3] else self.status.get("commit")
        commit = commit if commit and commit != "unknown" else None
        return f"{recorded} {commit}" if recorded and commit else commit or recorded

    @property
    def date(self) -> str:
        """The day of upstream's run, YYYYMMDD; "" where it is not told."""
        name = kit.RUN_FOLDER.fullmatch(self.folder.name)
        return name[1] if name else ""

    def judge(self, data_set: str) -> str | None:
        """The judge that was asked for."""
        told = self.data_sets.get(data_set, {}).get("judge_model")
        return told or (self.record.get("judge") or "").partition("@")[0] or None

    def reading(self) -> Reading | None:
        """How its version reads options; None where that is not known."""
        version = self.version or ""
        return next((reading for known, reading in _READINGS.items() if known in version), None)


@dataclass(frozen=True)
class Reader:
    """Reads models' folders; the taxonomy tells data sets from other files, `lenient` which bad data are warnings."""

    taxonomy: Taxonomy
    lenient: Leniency
    framework: str = VLMEVALKIT

    def find(self, found: Iterable[Path]) -> list[Path]:
        """The folders of files that hold a model's results, or a run of ours that was stopped."""
        known = kit.known(self.taxonomy)
        names: dict[Path, list[str]] = {}
        for path in found:
            if not path.is_symlink():
                names.setdefault(path.parent, []).append(path.name)
        return sorted(
            where for where, files in names.items() if kit.models(where, files, known) or _stopped(where, files)
        )

    def read(self, path: Path) -> list[Run]:
        """A folder's runs: one, unless results of several models were put together; samples are read when asked for.

        Raises:
            DataError: a file is damaged.
        """
        status = path / "status.json"
        content = files.read_json(status) if status.exists() and not status.is_symlink() else {}
        told = _Told(path, forms.check(content, forms.Status, status), records.read(_record_folders(path)))
        names = [each.name for each in path.iterdir() if not each.is_symlink()]
        models = kit.models(path, names, kit.known(self.taxonomy)) or [kit.model_folder(path).name]
        return [_read(told, model, names, self.taxonomy, self.lenient) for model in models]


def _stopped(folder: Path, names: Sequence[str]) -> bool:
    """A run of ours has a hole with a reason, even where it left no results."""
    return "status.json" in names and records.find(_record_folders(folder)) is not None


def _record_folders(folder: Path) -> list[Path]:
    """Where a run of ours says what it is: the model's folder, above upstream's folder of a run."""
    return list(dict.fromkeys([folder, kit.model_folder(folder)]))


def _read(told: _Told, model: str, names: Sequence[str], taxonomy: Taxonomy, lenient: Leniency) -> Run:
    folder, record = told.folder, told.record
    parts = {part.task: part for part in taxonomy.parts(VLMEVALKIT)}
    others = kit.data_sets(model, names, told.data_sets)
    tasks, failures = {}, {}
    readings: set[Reading | None] = set()
    for name in sorted({*parts, *others}):
        why, ended = _failure(told.data_sets.get(name, {}))
        if why and name in parts:
            failures[name] = why
        if ended or (name not in others and not any(f"{model}_{name}{ending}" in names for ending in kit.OWN)):
            continue  # after an error, numbers of an earlier attempt may still lie there
        found = tuple(kit.own_files(folder, model, name, others))
        if name in parts:
            tasks[name], reading = _task(told, folder / f"{model}_{name}", parts[name], found, lenient)
            readings.add(reading)
        else:
            tasks[name] = TaskResult(name, None, {}, lambda part: math.nan, lambda part: None, found)
    versions = {**record.get("versions", {})}
    if told.version:
        versions[VLMEVALKIT] = told.version
    if readings - {None}:
        versions[compare.READING] = "+".join(sorted(reading.value for reading in readings if reading))
    own = pruned.of(record["pruned"], folder / records.NAME) if "pruned" in record else None
    arguments = record.get("arguments", {})
    return Run(
        folder,
        VLMEVALKIT,
        str(record.get("model", model)),
        arguments if own is None else own.as_mask(arguments),
        _settings(told),
        tasks,
        tuple(record.get("encoders", ())),
        versions,
        failures=failures,
        weights=record.get("checkpoint"),
        calibration=record.get("calibration") or {},
        resolved={name: str(value) for name, value in record.get("resolved", {}).items()},
        recorded=bool(record),
        hashes=_hashes(told, tasks.values()),
        feeds=record.get("feeds", {}),
        routed=record.get("routed", {}),
        calibrated=record.get("calibrated", 0),
        pruned="" if own is None else own.label,
        until=records.until(records.find(_record_folders(folder))),
    )


def _hashes(told: _Told, tasks: Iterable[TaskResult]) -> dict[Path, str]:
    """Hashes of the files that are read, as they were when they were written."""
    record = records.find(_record_folders(told.folder))
    read_here = {path for task in tasks for path in task.files}
    return {path: digest for path, digest in (records.hashes(record) if record else {}).items() if path in read_here}


def _failure(status: Mapping[str, Any]) -> tuple[str, bool]:
    """Why a data set has no results, and whether it ended so (else it was stopped and may have some)."""
    error = status.get("error_message")
    if error is not None or status.get("skip_reason"):
        said = (str(error or status.get("skip_reason") or "").strip() or "an exception without a message").splitlines()
        return f"VLMEvalKit says: {said[0]}", True
    if status.get("status") in ("pending", "infer", "eval"):
        return f"VLMEvalKit was stopped at stage {status['status']!r}, or is still running", False
    return "", False


def _settings(told: _Told) -> dict[str, dict[str, Any]]:
    """What a record tells of the arguments that were passed on to VLMEvalKit and hold for all data sets."""
    passed, found = list(told.record.get("passed", [])), dict[str, dict[str, Any]]()
    while passed:
        name = passed.pop(0)
        values = [passed.pop(0)] if passed and not passed[0].startswith("--") else []
        if name == "--limit":
            found["limit"] = {"limit": " ".join(values)}
        elif name not in ("--judge", "--judge-base-url"):
            found.setdefault("judge", {})[name] = model_args.redacted(" ".join(values)) or "given"
    return found


def _settings_of(told: _Told, name: str, judge: str | None) -> dict[str, dict[str, Any]]:
    """What holds for a data set: who judged, and the hash of the data file that was asked."""
    data = told.record.get("data", {}).get(name)
    own = {"judge": {"judge": judge} if judge else {}, "dataset": {"data file": data} if data else {}}
    return {**own, **sample.settings(sample.of_task(told.record, name))}


def _task(
    told: _Told, stem: Path, part: Part, found: tuple[Path, ...], lenient: Leniency
) -> tuple[TaskResult, Reading | None]:
    """A data set of the taxonomy, and how options were read in it, where its score depends on that."""
    asks = "{judge}" in part.file + part.samples
    in_names = kit.judge_in_names(stem, told.judge(part.task)) if asks else None
    where = samples.Files(stem, in_names)
    path = where.verdicts(part)
    judge = _judge(told, part.task, in_names, path, lenient) if asks or part.samples == "_auxmatch" else None
    exact = (judge or "").startswith(_EXACT)
    reading, telling = Reading.AMONG_LAST, None
    if part.score.startswith("mathvista") and path is not None:
        reading, telling = _reading(told, where, part, in_names, lenient)
    asked = where.predictions()
    # Where verdicts do not tell how many questions there were, predictions do.
    count = asked is not None and (path is None or part.cluster == "g_index")
    result = TaskResult(
        part.task,
        kit.count_rows(asked) if count and asked else None,
        _settings_of(told, part.task, judge),
        partial(_headline, where, lenient),
        partial(_samples, where, reading, exact, lenient),
        found,
        sample.of_task(told.record, part.task),
    )
    return result, telling


def _judge(told: _Told, name: str, in_names: str | None, path: Path | None, lenient: Leniency) -> str | None:
    """Who judged: what the verdicts' log says counts first, then what the run says, then the file's name."""
    asked_for = told.judge(name)
    named = kit.as_in_names(asked_for) if asked_for else in_names
    if named != _EXACT and path is not None and kit.mentions(path, judged.EXACT):
        lenient.warnings.append(
            f"{path}: the judge was {named}, by the file's name or status, but the log says that no one was asked "
            f"({_EXACT})"
        )
        return _EXACT
    if asked_for and in_names and kit.as_in_names(asked_for) != in_names:
        lenient.warnings.append(
            f"{path}: the verdicts are {in_names}'s by their file's name, the run asked {asked_for}"
        )
    place = (told.record.get("judge") or "").partition("@")[2]
    return f"{named}@{place}" if named and named != _EXACT and place else named


def _reading(
    told: _Told, where: samples.Files, part: Part, judge: str | None, lenient: Leniency
) -> tuple[Reading, Reading | None]:
    """How options were read, for scores that are made anew; second: the same, if another would give other scores."""
    expected = next(reading for since, reading in _CHANGES if told.date >= since)
    silent = Leniency(tuple(lenient.kinds))
    scores = {}
    for reading in Reading:
        found = samples.read(where, part, reading, False, silent)
        if found is None:
            return expected, None
        scores[reading] = found.scores
    if all(np.array_equal(scores[expected], other) for other in scores.values()):
        return expected, None
    known = told.reading()
    if known:
        return known, known
    points = _headline_as_reported(where, part) * part.scale
    fitting = [reading for reading in Reading if abs(100 * float(scores[reading].mean()) - points) < 1e-6]
    chosen = expected if expected in fitting or not fitting else fitting[-1]
    if not (told.date and expected in fitting):
        lenient.warnings.append(
            f"{where.stem}: VLMEvalKit's version is not known, and options are read by its rule {chosen.value}"
            + (", which gives the number that it reports" if fitting else "")
        )
    return chosen, chosen if len(fitting) == 1 else None


def _samples(where: samples.Files, reading: Reading, exact: bool, lenient: Leniency, part: Part) -> Samples | None:
    return samples.read(where, part, reading, exact, lenient)


def _headline(where: samples.Files, lenient: Leniency, part: Part) -> float:
    """The number that VLMEvalKit reports; NaN where it reports none.

    Raises:
        Hole: it counts answers as wrong that failed.
    """
    if where.verdicts(part) is None:
        found = samples.read(where, part, Reading.AMONG_LAST, False, Leniency(tuple(lenient.kinds)))
        if found is not None and found.missing.any():
            said = (
                f"{where.stem.parent}: {found.missing.sum()} of {len(found.missing)} answers on {part.task} are missing"
            )
            if "missing-answers" not in lenient.kinds:
                raise Hole(f"{said}, and there are no verdicts on the others (--lenient missing-answers)")
            lenient.refuse("missing-answers", f"{said}; without verdicts on the others, VLMEvalKit's number is shown")
    return _headline_as_reported(where, part)


def _headline_as_reported(where: samples.Files, part: Part) -> float:
    """The number in VLMEvalKit's own file.

    `part.metric` may name alternatives ("Average|Overall": the first column that exists) or a condition ("Overall if
    Average": only where that other column exists); both tell versions apart whose columns changed meaning.

    Raises:
        Hole: the file holds no such number.
        DataError: it is damaged.
    """
    path = kit.existing(where.stem, part.file.replace("{judge}", where.judge or ""), (".csv", ".json"))
    if path is None:
        return math.nan
    rows = _json_rows(path) if path.suffix == ".json" else kit.table(path)
    rows = [row for row in rows if all(str(row.get(key)) == value for key, value in part.row.items())]
    if len(rows) != 1:
        wanted = ", ".join(f"{key}={value}" for key, value in part.row.items()) or "the only"
        raise Hole(f"{path}: {len(rows)} rows where {wanted} one is wanted")
    names, _, condition = part.metric.partition(" if ")
    column = next((name for name in names.split("|") if name in rows[0]), None)
    if column is None:
        raise Hole(f"{path}: no column {names!r}")
    if condition and condition not in rows[0]:
        return math.nan
    return _number(rows[0][column], f"{path}: {column}")


def _json_rows(path: Path) -> list[Mapping[str, Any]]:
    content = files.parse_json(path.read_bytes(), path)
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in rows):
        raise Hole(f"{path}: not a table of numbers")
    return rows


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        shown = repr(value) if len(str(value)[:100]) < 100 else "something"
        raise Hole(f"{where} is {shown}, not a number") from None
    if math.isinf(number):
        raise Hole(f"{where} is {value!r}, not a number")
    return number
