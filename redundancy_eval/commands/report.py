"""`redundancy-eval report`: finished runs as score, CUR and IG tables."""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import usage
from redundancy_eval.errors import SetupError

_EXAMPLE = """\
redundancy-eval report runs/x5 -o tables/x5
redundancy-eval report outputs/ --encoders clip,sam --mask-of 'x5:eagle-x5=none' --mask-of 'x5:eagle-x5-noclip=clip'
redundancy-eval report scores.csv"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "report", run, _flags, example=_EXAMPLE,
        help="turn finished runs into score, CUR and IG tables",
        description="Read finished runs of lmms-eval or VLMEvalKit, or a CSV of scores, and print and write scores per "
        "mask, best variants, CUR per encoder, and IG. The mask of each run is read from its model arguments (drop=, "
        "keep=), or given with --mask-of.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval import report_flags, taxonomy
    from redundancy_eval.leniency import KINDS

    parser.add_argument(
        "runs", nargs="+", metavar="RUNS",
        help="output folders of lmms-eval, work folders of VLMEvalKit, *_results.json files, or CSV files with the "
        "columns model,mask,benchmark,score and, if known, n",
    )  # fmt: skip
    usage.add_out(parser, "folder for report.md, report.json, *.csv and *.tex")
    usage.add(
        parser, "--taxonomy", default=taxonomy.DEFAULT, metavar="NAME",
        help="categories: five (OCR and Chart apart; default), paper (OCR & Chart as one), or a JSON file of your own",
    )  # fmt: skip
    usage.add(
        parser, "--encoders", metavar="A,B,...", default="",
        help="the model's encoders in the checkpoint's order, where they are not known",
    )  # fmt: skip
    usage.add(
        parser, "--mask-of", action="append", default=[], metavar="[MODEL:]PATTERN=DROP",
        help="the mask of runs whose model name, checkpoint or folder fits a pattern with * and ?, e.g. "
        "'*-noclip=clip' or 'x5:runs-x5-full=none'; runs with the same MODEL are masks of one model (may be repeated)",
    )  # fmt: skip
    usage.add(
        parser, "--scale", choices=("1", "100"),
        help="of the scores in CSV files: 1 where they are points, 100 for fractions",
    )  # fmt: skip
    usage.add(parser, "--mmvp-pairs", action="store_true", help="score MMVP by pairs instead of by question")
    usage.add(
        parser, "--lenient", metavar="KIND,...", default="",
        help="make these kinds of bad data warnings under the table (below)",
    )  # fmt: skip
    usage.add(parser, "--open", action="store_true", help="open the page when it is written")
    report_flags.add(parser)
    kinds = "\n".join(f"  {kind:18}{meaning}" for kind, meaning in KINDS.items())
    usage.end(parser, f"kinds of bad data for --lenient, and what then happens:\n{kinds}")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print and write the tables; returns 0."""
    from redundancy_eval import api, report_flags, shown
    from redundancy_eval.reports import markdown, report, write

    options = api.Options(
        args.taxonomy,
        args.mmvp_pairs,
        _names(args.encoders.lower()),
        tuple(args.mask_of),
        _names(args.lenient),
        None if args.scale is None else float(args.scale),
        **report_flags.given(args),
    )
    if args.out is None and (args.open or options.figures or args.cost or args.reference or args.compare):
        raise SetupError("--open, --figures, --cost, --reference and --compare are for what is written: say -o OUT")
    usage.step("reading the runs")
    tables = api.read(args.runs, options, rerun=args.rerun)
    besides = api.additions(tables, options, args.cost, args.reference)
    usage.step("intervals and tests")
    made = report.build(tables, options, besides.others, api.explained(tables, args.explain))
    usage.step("tables, page and figures")
    files = [] if args.out is None else write.write(made, Path(args.out), args.runs, besides)
    usage.step("")
    print(markdown.text(made), end="", flush=True)  # last: whoever reads this may go away
    if files:
        print(f"\n{len(files)} files written to {shown.text(args.out)}", file=sys.stderr)
        if args.open:
            webbrowser.open((Path(args.out) / write.PAGE).resolve().as_uri())
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
