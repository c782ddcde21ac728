"""`redundancy-eval calibrate`: statistics of the encoders over a sample of images, for other ablations than zero."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import environment, usage
from redundancy_eval.errors import SetupError

_EXAMPLE = """\
redundancy-eval calibrate --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --task redundancy_gqa -o x5.safetensors"""
_OF_A_MASK = ("drop", "keep", "ablation", "calibration")


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "calibrate", run, _flags, extra="models", example=_EXAMPLE,
        help="statistics of the encoders over a sample of images, for other ablations than zero",
        description="Run every encoder of a model over a sample of images and write what ablation=predicted, mean, "
        "noise and shuffle need to a file: --model_args pretrained=...,drop=clip,ablation=predicted,calibration=FILE.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    usage.add(parser, "--model", required=True, metavar="MODEL", help="eagle_masked, hf_masked, ...")
    usage.add(parser, "--model_args", required=True, metavar="ARGS", help="pretrained=...,site=...,...; no mask")
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("--images", metavar="FOLDER", help="take the images of a folder, by name")
    sample.add_argument("--task", metavar="TASK", help="take images of an lmms-eval task, spread over it")
    usage.add(parser, "--count", type=int, default=500, metavar="N", help="how many images (default 500)")
    usage.add(parser, "--batch_size", type=int, default=4, metavar="N", help="images at once (default 4)")
    usage.add_out(parser, "the file, *.safetensors", required=True, metavar="FILE")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the file; returns 0."""
    from redundancy_eval import model_args

    arguments = model_args.parse(args.model_args, "--model_args")
    with environment.needed("calibrate", "models"):
        from redundancy_eval.model_wrappers import pictures
        from redundancy_eval.model_wrappers.masking import calibration
    if set(arguments) & set(_OF_A_MASK):
        raise SetupError("a calibration is made of the full model: leave drop, keep, ablation and calibration out")
    if args.count < 1 or args.batch_size < 1:
        raise SetupError(f"--count and --batch_size must be positive; not {args.count} and {args.batch_size}")
    calibration.check_out(Path(args.out))
    if args.images:
        images = pictures.in_folder(Path(args.images), args.count)
    else:
        with environment.needed("calibrate --task", "lmms-eval"):
            from redundancy_eval.model_wrappers.hosts.lmms_eval import task_images
        images = task_images.spread(str(args.task), args.count)
    print(calibration.make(args.model, arguments, images, args.batch_size, Path(args.out)))
    if args.task:
        print(f"the images are those of questions that {args.task} asks; no question and no label was looked at")
    return 0
