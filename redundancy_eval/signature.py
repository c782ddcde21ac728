"""The one line under a table that says how to get it again."""

import json
from collections.abc import Sequence

from redundancy_eval import compare, shown
from redundancy_eval.grouping import Model
from redundancy_eval.runs import Run
from redundancy_eval.taxonomy import CSV, Taxonomy

OWN = "redundancy-eval"


def line(model: Model, taxonomy: Taxonomy, tasks: Sequence[str], documents: Sequence[int | None]) -> str:
    """The signature of a table; what is not known of runs is left out of it.

    Args:
        model: whose table it is.
        taxonomy: that it follows.
        tasks: behind each benchmark.
        documents: of each benchmark.
    """
    from redundancy_eval import __version__

    runs = model.runs
    first = first_of(runs)
    masked = _masked(runs)
    limits = {json.loads(value) for run in runs if (value := run.settings.get("limit", {}).get("limit"))}
    drawn = {(told["count"], told["seed"]) for run in runs for task in run.tasks.values() if (told := task.sample)}
    given, words = masked.arguments, _unsaid(masked)
    unversioned = "scores" if model.framework == CSV else "unknown"
    parts = {
        "model": first.model,
        "checkpoint": checkpoint(runs),
        "encoders": "+".join(model.encoders) + "+?" * model.guessed,
        "masks": f"{len(model.masks)}/{'?' if model.guessed else 2 ** len(model.encoders)}",
        "pruned": ",".join(sorted({run.pruned for run in runs if run.pruned})),
        "ablation": ablation(runs),
        "calibration": str(masked.calibration.get("sample") or given.get("calibration", "")),
        "images": str(masked.calibration.get("count", "")),
        "site": given.get("site", words.get("site", "")),
        "dtype": _resolved(runs, "dtype") or given.get("dtype", words.get("dtype", "")),
        "device": "+".join(filter(None, (_resolved(runs, "device"), _resolved(runs, "device_name")))),
        "attention": _resolved(runs, "attention"),
        "batch": _resolved(runs, "batch_size"),
        "processes": _resolved(runs, "processes"),
        "taxonomy": taxonomy.label,
        "tasks": "+".join(tasks),
        "documents": "unknown" if None in documents else str(sum(filter(None, documents))),
        "limit": "+".join(sorted(map(str, limits))),
        "sample": "+".join(f"{count}@{seed}" for count, seed in sorted(drawn)),
        "judge": "+".join(sorted(_judges(runs))),
        **{name: _version(runs, name) for name in compare.VERSIONS if name not in (model.framework, OWN)},
        model.framework: _version(runs, model.framework) or unversioned,
        OWN: __version__,
    }
    return "|".join(f"{key}:{shown.text(value, also='|`')}" for key, value in parts.items() if value)


def first_of(runs: Sequence[Run]) -> Run:
    """The run that a model is called after: the full model's, where it was run."""
    return next((run for run in runs if run.is_full), runs[0])


def checkpoint(runs: Sequence[Run]) -> str:
    """What a model's checkpoint is called."""
    first = first_of(runs)
    return first.group or first.checkpoint


def ablation(runs: Sequence[Run]) -> str:
    """What stands in for dropped outputs; "told" where the user gave the masks, "" where nothing tells."""
    masked = _masked(runs)
    return masked.arguments.get("ablation", _unsaid(masked).get("ablation", ""))


def arguments(runs: Sequence[Run]) -> dict[str, str]:
    """Model arguments of the masked runs, but for the mask."""
    return {name: value for name, value in _masked(runs).arguments.items() if name not in ("drop", "keep")}


def _masked(runs: Sequence[Run]) -> Run:
    return next((run for run in runs if not run.is_full), first_of(runs))


def _unsaid(run: Run) -> dict[str, str]:
    """What holds where a run's arguments do not say so."""
    if run.framework == CSV:
        return {}
    words = {"ablation": "zero", "site": "encoder", "dtype": "auto"}
    return dict.fromkeys(words, "told") if run.told else words


def _resolved(runs: Sequence[Run], name: str) -> str:
    return "+".join(sorted({run.resolved[name] for run in runs if name in run.resolved}))


def _version(runs: Sequence[Run], name: str) -> str:
    return "+".join(sorted({run.versions[name] for run in runs if name in run.versions}))


def _judges(runs: Sequence[Run]) -> set[str]:
    settings = (result.settings.get("judge", {}) for run in runs for result in run.tasks.values())
    return {str(judge) for fields in settings if (judge := fields.get("judge"))}
