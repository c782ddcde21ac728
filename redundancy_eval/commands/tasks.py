"""`redundancy-eval tasks`: categories and benchmarks, and where our task files are."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval import environment, usage

_EXAMPLE = """\
redundancy-eval tasks --taxonomy paper
lmms-eval --include_path "$(redundancy-eval tasks --path)" --tasks redundancy_paper ..."""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "tasks", run, _flags, extra="lmms-eval", example=_EXAMPLE,
        help="list categories and benchmarks, or the folder of our task files",
        description="List the categories, their benchmarks, and the tasks of each framework that `report` reads for "
        "them, first choice first.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval import taxonomy

    usage.add(parser, "--path", action="store_true", help="print the folder for lmms-eval's --include_path")
    usage.add(
        parser, "--check", action="store_true",
        help="load the first four documents of each benchmark from the hub and try what our tasks do with them",
    )  # fmt: skip
    usage.add(
        parser, "--taxonomy", default=taxonomy.DEFAULT, metavar="NAME",
        help=f"five, paper, or a file (default {taxonomy.DEFAULT})",
    )  # fmt: skip


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the list, or the folder, or what a check of the data found; returns 0."""
    from redundancy_eval import taxonomy
    from redundancy_eval.reports import markdown

    if args.path:
        from redundancy_eval.model_wrappers.hosts.lmms_eval import launch

        print(launch.task_folder())
        return 0
    if args.check:
        with environment.needed("tasks --check", "lmms-eval"):
            from redundancy_eval.tasks import check
        return check.main()
    rows = [["category", "benchmark", "framework", "tasks, first choice first", "metric", "times"]]
    for benchmark in taxonomy.load(args.taxonomy).benchmarks:
        for framework, alternatives in benchmark.sources.items():
            for parts in alternatives:
                tasks = " + ".join(part.task for part in parts)
                rows.append(
                    [benchmark.category, benchmark.name, framework, tasks, parts[0].metric, f"{parts[0].scale:g}"]
                )
    print(markdown.grid(rows))
    return 0
