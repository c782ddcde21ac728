"""What a run in VLMEvalKit says about itself, and the folder that follows from it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from redundancy_eval import model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit.arguments import Arguments
from redundancy_eval.model_wrappers.masking import checked_arguments

_DISTRIBUTIONS = ("ms-vlmeval", "vlmeval", "nvidia-vlmeval")


def describe(asked: Arguments, command: Sequence[str]) -> dict[str, Any]:
    """What the mask's folder says about its run, but for `resolved`.

    Raises:
        SetupError: the checkpoint can't be found, or the mask names an unknown encoder.
    """
    given = model_args.parse(asked.model_args, "--model_args")
    if asked.published:
        given = {**asked.published.arguments, **given, "as_published": "yes"}
    tokens = given.get("max_new_tokens", "1")
    if not tokens.isdigit() or int(tokens) < 1:
        raise SetupError(f"max_new_tokens must be a positive number; not {tokens!r}")
    checked_arguments.check(asked.model, given, ("max_new_tokens", "as_published"))
    text = ",".join(f"{key}={value}" for key, value in given.items())
    typed = [part.replace(asked.judge_key, "[REDACTED]") if asked.judge_key else part for part in command]
    record = run_record.describe(asked.model, text, {}, ["vlmevalkit", *typed])
    rest = {key: value for key, value in given.items() if key not in ("drop", "keep")}
    record["arguments"], record["passed"] = {"drop": record["mask"], **rest}, asked.told
    record["judge"] = f"{asked.judge}@{asked.judge_base_url}" if asked.judge_base_url else asked.judge
    record["versions"] = {**record["versions"], **version()}
    if asked.sample is not None:
        record["sample"] = asked.sample.as_json({})
    return record


def resolved(record: Mapping[str, Any], batch_size: object) -> dict[str, Any]:
    """A record with how the model runs; after `load_framework`, which gives this process its own GPUs."""
    return {**record, "resolved": run_record.resolved(record["model"], record["arguments"], device(), batch_size)}


def device() -> str:
    """Where a model of ours runs in VLMEvalKit, unless its arguments say otherwise; as masked.load chooses."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def version() -> dict[str, str]:
    """VLMEvalKit's distribution and version, under its name in records; {} where it is not installed."""
    for name in _DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            return {"vlmevalkit": f"{name} {metadata.version(name)}"}
    return {}


def digest(record: Mapping[str, Any]) -> str:
    """Short hash of what decides results beside the mask, so that VLMEvalKit never resumes another run's answers."""
    ran = record.get("resolved", {})
    decides = [
        model_args.deciding(record["arguments"], full=record["mask"] == "none"),
        *(record.get(key) for key in ("passed", "judge", "checkpoint", "calibration", "versions")),
        *(ran.get(key) for key in ("dtype", "device", "device_name", "attention")),
        ran.get("batch_size") if ran.get("dtype") in model_args.HALF else None,  # there it decides answers
        identity.EPOCH,
        *(record[key] for key in ("pruned",) if key in record),
        # A sweep makes room for another sample in the same folder.
        *(record["sample"][key] for key in ("count", "seed") if "sample" in record and "sweep" not in record),
    ]
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=4).hexdigest()


def folder_name(record: Mapping[str, Any]) -> str:
    """Folder of a run, and its model's name to VLMEvalKit: model, mask, and a hash of all else that decides."""
    return f"{record['model']}_drop-{record['mask']}_{digest(record)}"


def own_arguments(record: Mapping[str, Any]) -> dict[str, str]:
    """The model's own arguments."""
    return {key: value for key, value in record["arguments"].items() if key != "as_published"}
