"""Whether masks were made alike: what every field of a results file decides, and the checks between runs.

A field decides a kind of `--lenient` (runs that differ are refused, or warned of), or nothing (FREE), or is looked at
elsewhere (OWN). A field that stands in no list here is one of another release; runs that differ in it get a note.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from redundancy_eval import model_args
from redundancy_eval.leniency import Leniency
from redundancy_eval.runs import Run, Samples

FREE = "free"
OWN = "own"
UNKNOWN = "unknown"

# Of lmms-eval's results file.
RESULTS = {
    "results": OWN, "configs": OWN, "config": OWN, "n-samples": OWN, "lmms_eval_version": OWN,
    "versions": "version", "task_hashes": "version",
    "n-shot": "prompt", "system_instruction": "prompt", "system_instruction_sha": "prompt",
    "fewshot_as_multiturn": "prompt", "chat_template": "prompt", "chat_template_sha": "prompt",
    "groups": FREE, "group_subtasks": FREE, "higher_is_better": FREE, "git_hash": FREE, "git_branch": FREE,
    "date": FREE, "usage": FREE, "efficiency": FREE, "throughput": FREE, "model_source": FREE, "model_name": FREE,
    "model_name_sanitized": FREE, "start_time": FREE, "end_time": FREE, "total_evaluation_time_seconds": FREE,
    "time": FREE, "pretty_env_info": FREE, "upper_git_hash": FREE, "eval_args": FREE, "samples": FREE,
    "transformers_version": OWN, "model_configs": FREE,
}  # fmt: skip
# Of its `config`, and of what that holds as `resolved_cli_args`.
CONFIG = {
    "model": OWN, "model_args": OWN, "batch_size": OWN, "device": OWN, "resolved_cli_args": OWN, "predict_only": OWN,
    "limit": "limit", "offset": "limit",
    "gen_kwargs": "generation", "max_tokens": "generation", "repeats": "generation", "seed": "generation",
    "random_seed": "generation", "numpy_seed": "generation", "torch_seed": "generation", "fewshot_seed": "generation",
    "num_fewshot": "prompt", "system_instruction": "prompt", "apply_chat_template": "prompt",
    "fewshot_as_multiturn": "prompt", "force_simple": "prompt", "process_with_media": "prompt",
    "reasoning_tags": "scoring",
    "model_backend": FREE, "batch_sizes": FREE, "use_cache": FREE, "bootstrap_iters": FREE, "config": FREE,
    "process_docs_parallel": FREE, "tasks": FREE, "launcher_args": FREE, "max_batch_size": FREE, "output_path": FREE,
    "cache_requests": FREE, "check_integrity": FREE, "write_out": FREE, "log_samples": FREE, "show_config": FREE,
    "wandb_log_samples": FREE, "swanlab_log_samples": FREE, "log_samples_suffix": FREE, "include_path": FREE,
    "verbosity": FREE, "wandb_args": FREE, "swanlab_args": FREE, "timezone": FREE, "hf_hub_log_args": FREE,
    "trust_remote_code": FREE, "agentic_trace_mode": FREE, "tui": FREE, "baseline": FREE, "power_analysis": FREE,
    "effect_size": FREE, "alpha": FREE, "power": FREE, "correlation": FREE, "std_a": FREE, "std_b": FREE,
    "model_num_parameters": FREE, "model_dtype": OWN, "model_revision": FREE, "model_sha": FREE,
}  # fmt: skip
# Of each task's settings in `configs`. Functions count by their names.
TASK = {
    "task": FREE, "task_alias": FREE, "tag": FREE, "group": FREE, "group_alias": FREE, "include": FREE,
    "dataset_path": "dataset", "dataset_name": "dataset", "dataset_kwargs": "dataset", "training_split": "dataset",
    "validation_split": "dataset", "test_split": "dataset", "fewshot_split": "dataset", "full_docs": "dataset",
    "process_docs": "dataset",
    "doc_to_text": "prompt", "doc_to_visual": "prompt", "doc_to_messages": "prompt", "doc_to_target": "prompt",
    "doc_to_choice": "prompt", "description": "prompt", "target_delimiter": "prompt", "fewshot_delimiter": "prompt",
    "fewshot_config": "prompt", "num_fewshot": "prompt", "use_prompt": "prompt", "prompt": "prompt",
    "model_specific_prompt_kwargs": "prompt", "lmms_eval_specific_kwargs": "prompt", "gold_alias": "prompt",
    "generation_kwargs": "generation", "model_specific_generation_kwargs": "generation", "repeats": "generation",
    "output_type": "scoring", "process_results": "scoring", "process_results_use_image": "scoring",
    "metric_list": "scoring", "filter_list": "scoring", "score_key": "scoring", "cluster_key": "scoring",
    "auto_strip_thinking": "scoring", "reasoning_tags": "scoring", "model_specific_target_kwargs": "scoring",
    "should_decontaminate": FREE, "doc_to_decontamination_query": FREE, "weight_by_size": FREE,
    "metadata": "version",
}  # fmt: skip
# Of a line of lmms-eval's samples; what a task's scorer adds to it is looked at where the taxonomy says.
SAMPLE = {
    "doc_id": OWN, "input": "prompt", "target": "prompt", "resps": OWN, "filtered_resps": OWN, "token_counts": OWN,
    "doc_hash": FREE, "doc": FREE, "arguments": FREE, "input_media": FREE,
}  # fmt: skip
# Of our own records.
RECORD = {
    "schema": OWN, "model": OWN, "encoders": OWN, "mask": OWN, "arguments": OWN, "files": OWN, "resolved": OWN,
    "checkpoint": "weights", "calibration": "calibration", "versions": "versions", "judge": "judge",
    "passed": "judge", "data": "dataset", "command": FREE, "sweep": FREE, "feeds": OWN, "routed": OWN,
    "calibrated": OWN, "pruned": OWN, "sample": OWN,
}  # fmt: skip
# Whose versions decide answers or scores; the others of a record (datasets) decode and store.
READING = "vlmevalkit-options"  # how VLMEvalKit's version reads an option from a text, where a score depends on it
VERSIONS = ("lmms-eval", "vlmevalkit", READING, "torch", "transformers", "timm", "redundancy-eval")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CREDENTIALS = ("token", "use_auth_token")  # of dataset_kwargs: who may fetch, not what


def deciding(fields: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What fields decide: kind -> field -> canonical value, without what is empty.

    Args:
        fields: of a results file, or of a part of it.
        table: what each decides, such as TASK.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        kind = table.get(name, UNKNOWN)
        if name == "dataset_kwargs" and isinstance(value, dict):
            value = {key: part for key, part in value.items() if key not in _CREDENTIALS}
        if kind not in (FREE, OWN) and value not in (None, "", [], {}, False):
            found.setdefault(kind, {})[name] = _ADDRESS.sub("", json.dumps(value, sort_keys=True))
    return found


def _calibration(run: Run) -> str | None:
    """What a run says of the sample of images behind its stand-ins, in words."""
    found = dict(run.calibration)
    sample = str(found.pop("sample", "unknown"))
    rest = ", ".join(f"{key} {value}" for key, value in sorted(found.items()))
    return f"{sample} ({rest})" if found else None


def check_settings(runs: Sequence[Run], task: str, lenient: Leniency) -> None:
    """Check that runs asked for a task in the same way: everything in their settings, and the count of documents.

    Raises:
        DataError: two runs differ, with both files and the first difference.
    """
    first = runs[0]
    for other in runs[1:]:
        where = f"{first.path} and {other.path}, task {task}"
        a, b = first.tasks[task], other.tasks[task]
        for kind, field, left, right in _differences(_joined(first, task), _joined(other, task)):
            said = f"{where}: runs differ in {kind}: {field}: {_short(left)} and {_short(right)}"
            if kind == UNKNOWN:
                lenient.note(f"{said}; what {field} decides is not known here")
            else:
                lenient.refuse(kind, said)
        if None not in (a.documents, b.documents) and a.documents != b.documents:
            lenient.refuse("documents", f"{where}: runs differ in documents: {a.documents} and {b.documents}")
    drawn = [run for run in runs if '"do_sample": true' in str(_joined(run, task).get("generation", {}))]
    if drawn:
        lenient.note(f"task {task} drew its answers (do_sample): differences between masks hold the draw, too")


def _joined(run: Run, task: str) -> dict[str, dict[str, Any]]:
    joined = {kind: dict(fields) for kind, fields in run.settings.items()}
    for kind, fields in run.tasks[task].settings.items():
        joined.setdefault(kind, {}).update(fields)
    return joined


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    for kind in dict.fromkeys([*a, *b]):
        left, right = a.get(kind, {}), b.get(kind, {})
        for field in dict.fromkeys([*left, *right]):
            if left.get(field) != right.get(field):
                yield kind, field, left.get(field), right.get(field)


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def check_runs(runs: Sequence[Run], lenient: Leniency) -> None:
    """Check what holds for whole runs: weights, versions, precision, arguments of given masks.

    Raises:
        DataError: two runs differ.
    """
    if any(run.until for run in runs):
        _same(runs, "limit", lambda run: str(run.until or "asked at once"), lenient, "--until ")
    own = [run for run in runs if run.group is None]  # a group is its user's word
    _same(own, "weights", lambda run: run.weights, lenient)
    for name in VERSIONS:
        said = {id(run): run.versions.get(name, "") for run in runs}
        for vague in (False, True):  # a git tree and a version say nothing of each other
            telling = [run for run in runs if said[id(run)] and said[id(run)].startswith("unknown") is vague]
            _same(telling, "versions", lambda run, said=said: said[id(run)], lenient, f"{name} ")  # type: ignore[misc]
    _tell_unversioned(runs, lenient)
    _check_precision([run for run in runs if run.framework != "csv"], lenient)
    _check_told([run for run in runs if run.told], lenient)
    for feeder, fed in sorted(
        {(name, other) for run in runs for name, others in run.feeds.items() for other in others}
    ):
        lenient.note(
            f"{feeder} feeds {fed}: dropping {feeder} changes what {fed} sees, so its CUR is not its own share alone"
        )
    silent = [run for run in runs if not run.recorded]
    if silent and len(silent) < len(runs):
        lenient.note(
            f"no record (redundancy_eval.json) is beside {_listed(silent)}: with what versions, weights and precision "
            "it ran is not known"
        )


def check_calibrations(runs: Sequence[Run], lenient: Leniency) -> None:
    """Check that all masks' stand-ins are of one sample: as recorded; of runs without record, of one file.

    Raises:
        DataError: two runs differ.
    """
    masked = [run for run in runs if not run.is_full]
    _same(masked, "calibration", _calibration, lenient)
    silent = [run for run in masked if not run.calibration and run.arguments.get("ablation", "zero") != "zero"]
    _same(silent, "calibration", lambda run: run.arguments.get("calibration"), lenient)


def check_reruns(runs: Sequence[Run], again: Sequence[Run], lenient: Leniency) -> None:
    """Check that a second run is of the same weights; it may differ in batch size, device and versions.

    Raises:
        DataError: it is of others, or the first run once more.
    """
    for second in again:
        _same([*(run for run in runs if run.is_full), second], "weights", lambda run: run.weights, lenient)


def _tell_unversioned(runs: Sequence[Run], lenient: Leniency) -> None:
    """Name the runs that do not tell their framework's version, where others do."""
    silent = [run for run in runs if run.framework not in run.versions]
    if silent and len(silent) < len(runs):
        framework = silent[0].framework
        lenient.note(f"{framework}'s version is not recorded by {_listed(silent)}: it is not known to agree")


def check_files(runs: Iterable[Run], lenient: Leniency) -> None:
    """Check that results are as they were when their record was written.

    Raises:
        DataError: one was changed since.
    """
    for run in runs:
        altered = run.altered()
        if altered:
            more = f" (and {len(altered) - 1} more of its files)" if len(altered) > 1 else ""
            lenient.refuse("changed", f"{altered[0]} was changed since it was written: its sha256 is another{more}")


def _same(
    runs: Sequence[Run], kind: str, tell: Callable[[Run], object], lenient: Leniency, what: str = "", after: str = ""
) -> None:
    """Refuse two runs that tell different things; those that tell nothing (None) are passed over."""
    for a, b in pairwise(run for run in runs if tell(run) is not None):
        if tell(a) != tell(b):
            said = f"{a.path} and {b.path}: runs differ in {kind}: {what}{tell(a)!r} and {tell(b)!r}{after}"
            lenient.refuse(kind, said)


def _check_precision(runs: Sequence[Run], lenient: Leniency) -> None:
    """Number format, and what decides answers in half precision beside it: batch size and device."""
    _same(runs, "dtype", lambda run: run.resolved.get("dtype"), lenient)
    _same(runs, "attention", lambda run: run.resolved.get("attention"), lenient)
    told = {run.resolved.get("dtype") for run in runs}
    half = [name for name in model_args.HALF if name in told]
    if None in told:
        reason = " (dtype=auto is another on each device)"
        _same(runs, "dtype", lambda run: run.resolved.get("device"), lenient, "device ", reason)
        unknown = [run for run in runs if "dtype" not in run.resolved]
        if len(runs) > 1:
            lenient.note(f"the number format (dtype) of {len(unknown)} of {len(runs)} runs is not known to agree")
    for task in sorted({task for run in runs for task in run.tasks}):  # tasks may have batch sizes of their own
        mine = [run for run in runs if task in run.tasks]
        if half:
            reason = f", task {task}; in {half[0]} that decides answers"
            _same(mine, "batch", lambda run: run.resolved.get("batch_size"), lenient, "batch size ", reason)
        for name, what in (("device", "devices"), ("device_name", "devices"), ("batch_size", "batch sizes")):
            found = sorted({str(value) for run in mine if (value := run.resolved.get(name))})
            if len(found) > 1 and (half or None in told):
                said = f"the runs of {task} had different {what} ({', '.join(found)})"
                lenient.note(f"{said}; in half precision that changes answers")


def _check_told(runs: Sequence[Run], lenient: Leniency) -> None:
    """Name what runs differ in whose masks were told: they are one model by their user's word alone."""
    models = sorted({run.model for run in runs})
    if len(models) > 1:
        lenient.note(f"the masks of --mask-of are of different model ids: {', '.join(models)}")
    for name in sorted({name for run in runs for name in run.arguments} - {"drop", "keep"}):
        values = sorted({run.arguments.get(name, "nothing") for run in runs})
        if len(values) > 1 and model_args.KINDS.get(name) != "place":
            said = " and ".join(model_args.redacted(f"{name}={value}") for value in values)
            lenient.note(f"the masks of --mask-of differ in {said}")


def _listed(runs: Sequence[Run]) -> str:
    names = [str(run.path) for run in runs]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_documents(samples: Sequence[Samples], task: str, lenient: Leniency) -> None:
    """Check that masks were asked the same documents in the same words.

    Raises:
        DataError: two differ, with file and line of the first document.
    """
    for other in samples[1:]:
        first = samples[0]
        if not np.array_equal(first.documents, other.documents):
            only = np.setxor1d(first.documents, other.documents)
            owner = first if only[0] in first.documents else other
            line = owner.lines[np.flatnonzero(owner.documents == only[0])[0]]
            lenient.refuse(
                "documents",
                f"{owner.path}:{line}: document {only[0]} of task {task} is in one mask's run only "
                f"({len(only)} such documents)",
            )
            continue
        other_way = np.flatnonzero(first.digests != other.digests)
        if len(other_way):
            place = other_way[0]
            lenient.refuse(
                "prompt",
                f"{other.path}:{other.lines[place]}: document {other.documents[place]} of task {task} was asked or "
                f"scored otherwise than in {first.path}:{first.lines[place]}",
            )
