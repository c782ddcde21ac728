"""What a sweep and the plan of one are asked for: their own flags, read and checked; no torch needed."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from redundancy_eval import model_args, sample, usage
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.sweeps import masks
from redundancy_eval.model_wrappers.sweeps.route import Framework
from redundancy_eval.sample import Sample
from redundancy_eval.until import Until

AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """A sweep: `masks` as typed, `batch_size` a number or `auto`, `memory` in bytes (None: the default).

    `sample` is of each task's documents (None: all), `until` the look that it is of where they are asked in rounds.
    `passed` are the framework's own arguments, `command` is what was typed, as it may be written down.
    """

    model: str
    model_args: str
    masks: str
    out: str
    batch_size: str
    memory: int | None
    passed: tuple[str, ...]
    command: tuple[str, ...]
    sample: Sample | None = None
    until: Until | None = None

    def __post_init__(self) -> None:
        """Refuse a batch size that is none.

        Raises:
            SetupError: so it is.
        """
        size = self.batch_size
        if size != AUTO and (not size.isdigit() or int(size) < 1):
            raise SetupError(f"--batch_size must be auto or a positive number; not {size!r}")

    @property
    def given(self) -> dict[str, str]:
        """The model's arguments.

        Raises:
            SetupError: they cannot be read, or hold a mask.
        """
        given = model_args.parse(self.model_args, "--model_args")
        if {"drop", "keep"} & set(given):
            raise SetupError(
                "a sweep sets the masks itself: leave drop= and keep= out of --model_args, and use --masks"
            )
        return given


def add_flags(parser: usage.Parser, frameworks: Collection[Framework]) -> None:
    """Add the flags to a command's parser.

    Args:
        parser: of the command.
        frameworks: the first is the default.
    """
    names, preset = tuple(framework.name for framework in frameworks), next(iter(masks.PRESETS))
    usage.add(
        parser, "--model", required=True, choices=registry.MODELS, metavar="MODEL", help=", ".join(registry.MODELS)
    )
    usage.add(
        parser, "--model_args", default="", metavar="ARGS", help="pretrained=..., as for `run`; without drop= and keep="
    )
    usage.add(
        parser, "--masks", default=preset, metavar="MASKS",
        help=f"{', '.join(masks.PRESETS)} (default {preset}; each with the full model and all encoders dropped), a "
        "list in quotes: 'none;clip;clip+sam;all', or @FILE with a mask in each line",
    )  # fmt: skip
    usage.add(parser, "--framework", choices=names, default=names[0], help=f"default {names[0]}")
    usage.add_out(parser, "folder for everything", *(framework.out_flag for framework in frameworks), required=True)
    usage.add(
        parser, "--batch_size", default=AUTO, metavar="N",
        help="sequences (a document under a mask) that are answered together; auto (default) finds a size",
    )  # fmt: skip
    usage.add(
        parser, "--feature_memory", type=float, metavar="GIB",
        help="memory for encoders' outputs (default: a tenth of this machine's)",
    )  # fmt: skip
    sample.add_flags(parser)
    own = "; ".join(f"{framework.some_flags}, ... ({framework.name})" for framework in frameworks)
    usage.end(parser, f"all other arguments are the framework's own: {own}")


def read(args: argparse.Namespace, rest: Sequence[str], command: Sequence[str]) -> Settings:
    """The settings that were typed.

    Args:
        args: with the flags of `add_flags`, and `out`.
        rest: the arguments that are the framework's.
        command: what was typed, from the command's name on.

    Raises:
        SetupError: a number makes no sense.
    """
    memory = args.feature_memory
    if memory is not None and memory < 0:
        raise SetupError(f"--feature_memory must not be negative; not {memory:g}")
    return Settings(
        args.model, args.model_args, args.masks, args.out, args.batch_size,
        None if memory is None else int(memory * 2**30), tuple(rest), tuple(written(command)), sample.read(args),
    )  # fmt: skip


def written(command: Sequence[str]) -> list[str]:
    """A command line as it may be written down: secrets are left out, also where they stand once more."""
    secrets = []
    for place, part in enumerate(command):
        name, assigned, value = part.partition("=")
        if name.startswith("--") and model_args.is_secret(name):
            secrets.append(value if assigned else "".join(command[place + 1 : place + 2]))
    told: list[str] = model_args.without_secrets(["redundancy-eval", *command])
    for secret in filter(None, secrets):
        told = [part.replace(secret, model_args.REDACTED) for part in told]
    return told
