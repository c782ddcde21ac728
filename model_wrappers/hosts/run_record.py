"""What a run says about itself, in either framework: the record in a mask's folder."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, files, masks, model_args, records, store
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.sweeps.masks import encoders_of

# What the run under way finds out of its model, which its record says then.
FOUND: dict[str, Any] = {}
_PACKAGES = ("torch", "transformers", "timm")


def describe(
    model: str,
    given: str | None,
    packages: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """What a mask's folder says about its run, but for `resolved`; no mask and encoders for a model that is not ours.

    No GPU is asked for: VLMEvalKit gives each process its own ones later.

    Args:
        model: model id.
        given: its model arguments.
        packages: name in the record -> distribution, of the framework and what else it answers with.
        command: what was typed after `redundancy-eval`.

    Raises:
        SetupError: the checkpoint can't be found, or the mask names an unknown encoder.
    """
    record: dict[str, Any] = {"model": model}
    if model in registry.MODELS:
        arguments = model_args.parse(given, "--model_args")
        asked = arguments.get("drop"), arguments.get("keep")
        own = registry.pruned_of(model, arguments)
        encoders = encoders_of(model, arguments) if own is None else own.encoders
        mask = masks.dropped(encoders, *asked) if own is None else own.mask(*asked)
        record.update(encoders=list(encoders), mask=masks.label(mask, encoders))
        if model != registry.MASKED:  # what weights the base of `masked` reads is not known here
            weights = identity.digest(identity.of(registry.folders(model, arguments)))
            record["checkpoint"] = weights if own is None else own.checkpoint
            if own is not None:
                record["pruned"] = replace(own, weights=weights).as_json()
        if own is not None and own.refitted:
            record["calibration"] = own.sample
        elif arguments.get("calibration"):
            from redundancy_eval.model_wrappers.masking import ablations

            record["calibration"] = ablations.sample(ablations.identity(Path(arguments["calibration"])))
    record["versions"] = versions(packages)
    record["command"] = ["redundancy-eval", *model_args.without_secrets(command)]
    return record


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Versions of what answers and scores: name -> version.

    Args:
        packages: name -> distribution, beside those of our own models.
    """
    named = {**packages, **{name: name for name in _PACKAGES}}
    return {"redundancy-eval": __version__} | {name: metadata.version(package) for name, package in named.items()}


def resolved(
    model: str, arguments: Mapping[str, str], device: str | None = None, batch_size: object = 1
) -> dict[str, Any]:
    """How a model of ours runs here, `auto` put into words; the number format of another model's base is not known.

    Args:
        model: model id.
        arguments: its model arguments.
        device: as given to the framework; None where accelerate chooses, as in lmms-eval.
        batch_size: as typed.

    Raises:
        SetupError: an unknown dtype.
    """
    import torch

    from redundancy_eval.model_wrappers.masking.loading import choose_dtype

    chosen = arguments.get("device") or (device if process.world_size() == 1 else None)
    place = torch.device(chosen or _accelerates())
    found = {"device": place.type, "batch_size": str(batch_size), "processes": process.world_size()}
    if model != registry.MASKED:
        found["dtype"] = str(choose_dtype(arguments.get("dtype", "auto"), place)).removeprefix("torch.")
        found["attention"] = arguments.get("attn_implementation", "sdpa")
    if place.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(place)
    return found


def _accelerates() -> str:
    """The kind of device that accelerate chooses (accelerate/state.py, PartialState.default_device)."""
    import torch

    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t"):
        return "cpu"
    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


def keep_record(record: Mapping[str, Any], folder: Path, written: Iterable[Path]) -> None:
    """Write a record beside the results that it belongs to, and join it with that of earlier ones.

    Args:
        record: of the run that ended.
        folder: the mask's.
        written: the run's files. Not of a sweep, whose manifest lists them.
    """
    before = records.read([folder])
    # A run that asks nothing finds nothing out. Counts are of all results; a sweep counts its own anew.
    kept: dict[str, Any] = {name: before[name] for name in ("feeds", "routed", "calibrated") if name in before}
    if "calibrated" in record and "sweep" not in record:
        record = {**record, "calibrated": record["calibrated"] + before.get("calibrated", 0)}
    if "routed" in record:
        told = [record["routed"], *([before["routed"]] if "routed" in before and "sweep" not in record else [])]
        names = ("questions", *registry.FAMILIES[record["model"]].pool)
        record = {**record, "routed": {name: sum(own.get(name, 0) for own in told) for name in names}}
    if "sample" in record and "sample" in before:
        tasks = {**before["sample"]["tasks"], **record["sample"]["tasks"]}
        record = {**record, "sample": {**record["sample"], "tasks": tasks}}
    mine = {path.relative_to(folder).as_posix(): files.sha256(path) for path in written}
    listed = {**before.get("files", {}), **mine}
    records.write({**kept, **record, **({"files": listed} if listed else {})}, folder)


def check_record(record: Mapping[str, Any], folder: Path) -> None:
    """Refuse to add results to a folder that holds others, made otherwise: its record is one for all of them.

    Raises:
        SetupError: what differs.
    """
    there = records.read([folder])
    if not there:
        return
    other = store.difference(*map(_of_all_results, (there, record)))
    if other:
        raise SetupError(f"{folder} holds results of another run: {other}; use another output folder")


def _of_all_results(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of every task; batch sizes and processes stand in each results file."""
    names = ("model", "mask", "encoders", "checkpoint", "pruned", "calibration", "versions")
    ran = {name: record.get("resolved", {}).get(name) for name in ("dtype", "device", "device_name", "attention")}
    asked = {name: record["sample"][name] for name in ("count", "seed")} if "sample" in record else None
    return {**{name: record.get(name) for name in names}, "resolved": ran, "sample": asked}


def tell_counts(notes: Iterable[str]) -> None:
    """Count notes on questions, for the record of the run that is under way.

    Args:
        notes: `routed dinov2+sam` (the encoders chosen for one), `known` (it has images of the calibration); others
            are passed over.
    """
    for note in notes:
        kind, _, told = note.partition(" ")
        if note == store.KNOWN:
            FOUND["calibrated"] = FOUND.get("calibrated", 0) + 1
        elif kind == "routed":
            counts = FOUND.setdefault("routed", {})
            for name in ("questions", *(told.split("+") if told != "none" else ())):
                counts[name] = counts.get(name, 0) + 1


def tell_feeds(notes: Iterable[str]) -> None:
    """Take notes of the form `sam feeds clip` for the record of the run that is under way."""
    for note in notes:
        feeder, _, fed = note.partition(" feeds ")
        if fed and fed not in FOUND.setdefault("feeds", {}).setdefault(feeder, []):
            FOUND["feeds"][feeder].append(fed)
