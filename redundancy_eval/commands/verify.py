"""`redundancy-eval verify`: every number of a written report, anew from the runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import usage


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "verify", run, _flags, example="redundancy-eval verify tables/x5 runs/x5",
        help="recompute every number of a written report from the runs",
        description="Make the report in OUT anew from the runs, with the options that it was made with, and fail on "
        "any difference, with file and line.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval import report_flags

    parser.add_argument("out", metavar="OUT", help="a folder that `report -o` wrote")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="the runs behind it")
    report_flags.add_inputs(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Compare; returns 0."""
    from redundancy_eval import api, report_flags, shown
    from redundancy_eval.reports import json_file, report
    from redundancy_eval.reports import verify as comparison

    out = Path(args.out)
    options = json_file.options_of(out)
    report_flags.check_inputs(options, args)
    tables = api.read(args.runs, options, rerun=args.rerun)
    besides = api.additions(tables, options, args.cost, args.reference)
    made = report.build(tables, options, besides.others, api.explained(tables, args.explain))
    numbers, files = comparison.verify(made, out, besides)
    print(f"{numbers} numbers in {files} files of {shown.text(out)} follow from the runs")
    told = comparison.told(made)
    if told:  # the report that is checked says so itself
        print("\n".join(["read as the report says:", *(f"  {line}" for line in told)]))
    return 0
