"""`redundancy-eval sweep`: every mask of a model in one command."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import usage
from redundancy_eval.errors import UsageError

_EXAMPLE = """\
redundancy-eval sweep --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --tasks redundancy_paper -o runs/x5
redundancy-eval report runs/x5 -o tables/x5
redundancy-eval sweep ... --sample 200       # a random sample; the same with --sample 400 asks 200 more
redundancy-eval sweep ... --until 2          # in rounds, until every CUR is known to +-2 %
torchrun --nproc_per_node 8 -m redundancy_eval sweep ...     # several GPUs or nodes"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "sweep", run, _flags, passes_on=True, example=_EXAMPLE,
        help="evaluate every mask at once (takes the framework's own arguments)",
        description="Evaluate a model under many masks at once: the model is loaded once, each encoder runs once for "
        "an image, then every mask is answered in batches. Results are those of separate runs, in a folder for each "
        "mask. The same command continues a sweep that was stopped, and returns at once when nothing is left to do. "
        "Exit code 2: results are missing (listed).",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import settings

    usage.add(
        parser, "--until", type=float, metavar="MARGIN",
        help="ask in rounds, larger and larger random samples of each task, until every CUR of the categories (and "
        "overall) is known to +-MARGIN percent points, or all was asked; report's intervals and words allow for that",
    )  # fmt: skip
    usage.add(parser, "--looks", type=int, metavar="K", help="rounds of --until at most (default 5)")
    settings.add_flags(parser, FRAMEWORKS.values())


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sweep; returns 0."""
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import run as sweep_run
    from redundancy_eval.model_wrappers.sweeps import settings

    asked, framework = settings.read(args, rest, args.typed), FRAMEWORKS[args.framework]
    if args.until is None and args.looks is not None:
        raise UsageError("--looks needs --until MARGIN")
    if args.until is None:
        sweep_run.run(asked, framework)
        return 0
    from redundancy_eval.model_wrappers.sweeps import rounds

    rounds.run(asked, rounds.Rounds(args.until, rounds.LOOKS if args.looks is None else args.looks), framework)
    return 0
