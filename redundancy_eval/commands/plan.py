"""`redundancy-eval plan`: what a sweep will ask and what it will take, before it is started."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import environment, usage

_EXAMPLE = """\
redundancy-eval plan --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --tasks redundancy_paper -o runs/x5"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "plan", run, _flags, passes_on=True, example=_EXAMPLE,
        help="what a sweep will ask and take, before it (takes the sweep's arguments)",
        description="Tell what a sweep will ask and what it will take before it is started: documents, images, passes "
        "of the encoders, prompts, operations and memory, beside those of a separate run for each mask, and what is "
        "answered already. Data sets are fetched as the sweep would fetch them; the model's weights are not read and "
        "need not be there.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import settings

    usage.add(parser, "--json", action="store_true", help="the numbers as JSON")
    settings.add_flags(parser, FRAMEWORKS.values())


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the plan; returns 0."""
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.sweeps import settings

    asked = settings.read(args, rest, args.typed)
    with environment.needed("plan", args.framework):
        from redundancy_eval.model_wrappers.sweeps import plan, plan_text
    made = plan.make(asked, FRAMEWORKS[args.framework])
    print(plan_text.as_json(made) + "\n" if args.json else plan_text.text(made), end="")
    return 0
