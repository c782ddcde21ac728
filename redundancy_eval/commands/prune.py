"""`redundancy-eval prune`: a checkpoint without some encoders, which answers as the mask that drops them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import environment, usage
from redundancy_eval.errors import SetupError

_EXAMPLE = """\
redundancy-eval prune --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B,drop=clip+pix2struct \\
    -o x5-pruned --check 4"""


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "prune", run, _flags, extra="models", example=_EXAMPLE,
        help="write a checkpoint without some encoders, which answers as their mask does",
        description="Write a checkpoint without the encoders that drop= (or keep=) in --model_args says, which answers "
        "as that mask of the whole model does: their tensors go, the fusion stays, config.json remembers the mask; "
        "with --refit a linear guess of what they told goes into what stays. Reports show it in the mask's row.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    usage.add(parser, "--model", required=True, metavar="MODEL", help="eagle_masked, ...")
    usage.add(parser, "--model_args", required=True, metavar="ARGS", help="pretrained=...,drop=...,...")
    usage.add(
        parser, "--slice", action="store_true",
        help="cut the fusion too, to a plain release of fewer encoders (Eagle X): the same answers, not the same bits",
    )  # fmt: skip
    usage.add(
        parser, "--refit", metavar="FILE",
        help="the best linear guess from those that stay stands in for those that go (FILE of calibrate)",
    )  # fmt: skip
    usage.add(
        parser, "--check", type=int, default=0, metavar="N",
        help="compare embeddings and answers of N images under the mask and of the pruned checkpoint",
    )  # fmt: skip
    usage.add(parser, "--images", metavar="FOLDER", help="images for --check (default: random ones)")
    usage.add_out(parser, "folder of the new checkpoint", required=True, metavar="FOLDER")
    usage.end(parser, usage.MASKS)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the checkpoint; returns 0, or 1 where --check found a difference."""
    from redundancy_eval import model_args

    arguments = model_args.parse(args.model_args, "--model_args")
    if args.refit is not None:
        if arguments.keys() & {"ablation", "calibration"}:
            raise SetupError("--refit is ablation=predicted with its calibration: leave both out of --model_args")
        arguments |= {"ablation": "predicted", "calibration": args.refit}
    if args.check < 0 or (args.images and not args.check):
        raise SetupError("--images is for --check N, and N is a number of images")
    with environment.needed("prune", "models"):
        from redundancy_eval.model_wrappers import pictures
        from redundancy_eval.model_wrappers.prune import checking, writing
    out = Path(args.out)
    asked = writing.read(args.model, arguments, args.slice)
    images = pictures.in_folder(Path(args.images), args.check) if args.images else checking.pictures(args.check)
    print(writing.described(writing.write(asked, out, args.slice), out))
    if not images:
        return 0
    found = checking.compare(args.model, arguments, out, images)
    print(found.described())
    return 0 if found.passed(exact=not args.slice and args.refit is None) else 1
