"""The flags of `report` that say how sure its numbers are, and how `verify` is given a second run."""

import argparse
from collections.abc import Sequence
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.options import FIGURES, INTERVALS, Options


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command's parser."""
    parser.add_argument(
        "--level", "--confidence", type=float, default=95.0, metavar="PERCENT",
        help="level of intervals and tests (default 95)",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float, default=2.0, metavar="PERCENT",
        help="share of the full score below which an encoder is redundant, to be set before looking (default 2)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws behind IG and the best masks")
    parser.add_argument(
        "--intervals", choices=INTERVALS, default=INTERVALS[0], help="in LaTeX: under the numbers (default), or none"
    )
    parser.add_argument(
        "--figures", default="none", metavar="KIND,...",
        help=f"draw the figures into OUT/figures: {', '.join(FIGURES)}, or none (default)",
    )  # fmt: skip
    parser.add_argument(
        "--images", action="store_true",
        help="show the documents' images in the page: of VLMEvalKit from $LMUData, of lmms-eval from its data sets "
        "(lmms-eval must be installed; the data may be fetched)",
    )  # fmt: skip
    add_rerun(parser)


def add_rerun(parser: argparse.ArgumentParser) -> None:
    """Add the flag for a second run."""
    parser.add_argument(
        "--rerun", action="append", default=[], metavar="PATH",
        help="a second run of the full model, with another batch size for instance: how many answers change by "
        "themselves in half precision (may be repeated)",
    )  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as fields of Options."""
    return {
        "level": args.level / 100, "margin": args.margin / 100, "seed": args.seed, "intervals": args.intervals,
        "rerun": bool(args.rerun), "images": args.images,
        "figures": tuple(kind for kind in args.figures.replace(" ", "").split(",") if kind and kind != "none"),
    }  # fmt: skip


def check_rerun(options: Options, rerun: Sequence[str]) -> None:
    """Refuse to verify a report without the second run that it was made with, or with one that it was not.

    Raises:
        SetupError: see above.
    """
    if options.rerun and not rerun:
        raise SetupError("the report was made with a second run of the full model: name it with --rerun")
    if rerun and not options.rerun:
        raise SetupError("the report was made without --rerun")
