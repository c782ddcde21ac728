"""The flags of `report` that say how sure its numbers are, and what is read besides the runs; `verify` shares these."""

import argparse
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
    parser.add_argument(
        "--compare", choices=("paper",), default="",
        help="set the models beside the paper's numbers for the same checkpoint (with --taxonomy paper)",
    )  # fmt: skip
    add_inputs(parser)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name what is read besides the runs, which `verify` must be given again."""
    parser.add_argument(
        "--rerun", action="append", default=[], metavar="PATH",
        help="a second run of the full model, with another batch size for instance: how many answers change by "
        "themselves in half precision (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--cost", action="append", default=[], metavar="FILE",
        help="what the masks cost, as redundancy-eval cost wrote it (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--explain", action="append", default=[], metavar="FILE",
        help="what masks change without labels, as redundancy-eval explain wrote it (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--reference", action="append", default=[], metavar="NAME[:KEPT]=RUNS",
        help="runs of another model without masks, beside the full model or the mask that keeps the encoders KEPT: "
        "x2:clip+convnext=runs/x2 (may be repeated)",
    )  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as fields of Options."""
    return {
        "level": args.level / 100, "margin": args.margin / 100, "seed": args.seed, "intervals": args.intervals,
        "rerun": bool(args.rerun), "images": args.images, "cost": bool(args.cost), "compare": args.compare,
        "explain": bool(args.explain),
        "references": tuple(each.partition("=")[0] for each in args.reference),
        "figures": tuple(kind for kind in args.figures.replace(" ", "").split(",") if kind and kind != "none"),
    }  # fmt: skip


def check_inputs(options: Options, args: argparse.Namespace) -> None:
    """Refuse to verify a report without what it was made with, or with what it was not.

    Raises:
        SetupError: see above.
    """
    names = tuple(each.partition("=")[0] for each in args.reference)
    for flag, there, now, what in (
        ("--rerun", options.rerun, bool(args.rerun), "a second run of the full model"),
        ("--cost", options.cost, bool(args.cost), "a file of costs"),
        ("--explain", options.explain, bool(args.explain), "a file of measures without labels"),
        ("--reference", options.references, names, f"other models ({', '.join(options.references)})"),
    ):
        if there and there != now:
            raise SetupError(f"the report was made with {what}: name it with {flag}")
        if now and not there:
            raise SetupError(f"the report was made without {flag}")
