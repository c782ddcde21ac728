"""`redundancy-eval parity`: our port of a model against tensors recorded from the original code."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import environment, usage


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "parity", run, _flags, extra="models", example="redundancy-eval parity recorded/",
        help="check a port against tensors recorded from the original code",
        description="Run every recorded input and condition of a folder through our port, starting from the image "
        "and the messages, and compare pixels, token ids, features, logits and greedy tokens. Exit code 1: beyond "
        "the tolerance.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder with checkpoint/, inputs/ and expected/")
    usage.add(parser, "--tolerance", type=float, default=1e-4, help="largest max|a-b|/max|b| (default 1e-4)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Compare; returns 0, or 1 beyond the tolerance."""
    with environment.needed("parity", "models"):
        from redundancy_eval.model_wrappers.masking import parity
    return parity.main(Path(args.folder), args.tolerance)
