"""What the launchers of both frameworks share: what a run says about itself, and its place among processes."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, masks, model_args
from redundancy_eval.model_wrappers import families

OURS = (*families.FAMILIES, *families.HOOKED)
_PACKAGES = ("torch", "transformers", "timm")


def describe(model: str, given: str | None, packages: Mapping[str, str], command: Sequence[str]) -> dict[str, Any]:
    """What a mask's folder says about its run; without mask and encoders for a model that is not ours.

    Args:
        model: model id.
        given: its model arguments.
        packages: name in the record -> distribution, of the framework and what else it answers with.
        command: what was typed behind `redundancy-eval`.

    Raises:
        SetupError: the checkpoint can't be found, or the mask names an unknown encoder.
    """
    record: dict[str, Any] = {"model": model}
    if model in OURS:
        arguments = model_args.parse(given, "--model_args")
        if model in families.HOOKED:
            encoders = tuple(families.parse_encoders(arguments.get("encoders")))
        else:
            encoders = families.encoders_of(model, arguments.get("pretrained"), arguments.get("revision"))
        mask = masks.dropped(encoders, arguments.get("drop"), arguments.get("keep"))
        record.update(encoders=list(encoders), mask=masks.label(mask, encoders))
        if arguments.get("calibration"):
            from redundancy_eval.model_wrappers import ablations

            known = ablations.identity(Path(arguments["calibration"]))
            record["calibration"] = {key: known[key] for key in ("model", "checkpoint", "site", "count", "sample")}
    versions = {name: metadata.version(package) for name, package in packages.items()}
    versions |= {name: metadata.version(name) for name in _PACKAGES}
    record["versions"] = {"redundancy-eval": __version__} | versions
    record["command"] = ["redundancy-eval", *map(model_args.redacted, command)]
    return record


def rank() -> int:
    """Number of this process among those that torchrun or accelerate started."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun or accelerate started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def argv(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """The frameworks read sys.argv themselves."""
    saved, sys.argv = sys.argv, [program, *arguments]
    try:
        yield
    finally:
        sys.argv = saved
