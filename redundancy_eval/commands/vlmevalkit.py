"""`redundancy-eval vlmevalkit`: one mask in VLMEvalKit."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import usage

_EXAMPLE = """\
redundancy-eval vlmevalkit --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B,drop=clip \\
    --data MMBench_DEV_EN ChartQA_TEST --batch-size 8 -o runs/x5
redundancy-eval vlmevalkit ... --sample 200  # 200 random rows of each data set, the same under every mask"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "vlmevalkit", run, _flags, passes_on=True, extra="vlmevalkit", example=_EXAMPLE,
        help="evaluate one mask in VLMEvalKit (takes VLMEvalKit's own arguments)",
        description="Evaluate a model under one mask in VLMEvalKit. Results go to OUT/MODEL_drop-MASK_HASH, so that "
        "neither masks nor settings share a folder; the exit code is not 0 when a data set has no result. The same "
        "command continues a run that was stopped.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import arguments

    arguments.add_flags(parser)
    usage.end(parser, usage.MASKS)
    usage.end(parser, "all other arguments are VLMEvalKit's own: --mode, --verbose, ...")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate one mask; returns 0."""
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import arguments, launch

    launch.run(arguments.read(args, rest), rest, args.typed[1:])
    return 0
