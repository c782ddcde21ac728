"""`redundancy-eval run`: one mask in lmms-eval."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import sample, usage

_EXAMPLE = """\
redundancy-eval run --model eagle_masked --model_args pretrained=demo,drop=clip \\
    --tasks redundancy_demo --batch_size 32 --log_samples -o out
redundancy-eval run ... --sample 200         # 200 random questions of each task, the same under every mask"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "run", run, _flags, passes_on=True, extra="lmms-eval", example=_EXAMPLE,
        help="evaluate one mask in lmms-eval (takes lmms-eval's own arguments)",
        description="Evaluate a model under one mask in lmms-eval. Added to lmms-eval itself: our task folder is "
        "searched for tasks; results go to OUT/drop-MASK, so that masks never share a folder; and the exit code is "
        "not 0 when lmms-eval wrote no results.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.model_wrappers.families.registry import MODELS

    usage.add(parser, "--model", metavar="MODEL", help=f"{', '.join(MODELS)}, or another of lmms-eval's")
    usage.add(parser, "--model_args", metavar="ARGS", help="pretrained=...,drop=...,...")
    usage.add_out(parser, "folder for results", "--output_path")
    sample.add_flags(parser)
    usage.end(parser, usage.MASKS)
    usage.end(parser, "all other arguments are lmms-eval's own: --tasks, --limit, ... (lmms-eval --help lists them)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate one mask; returns 0."""
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch

    arguments = list(rest)
    for name, value in (("--model", args.model), ("--model_args", args.model_args), ("--output_path", args.out)):
        arguments += [name, value] if value is not None else []
    launch.run(arguments, args.typed, sample.read(args))
    return 0
