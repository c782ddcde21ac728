"""`redundancy-eval demo`: every mask of the bundled checkpoint, evaluated by lmms-eval, and the tables.

Each encoder is also dropped with a linear stand-in in its place: what the model relies on, and what it needs.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import usage
from redundancy_eval.errors import SetupError

_MODEL = "eagle_masked"
_MARK = ".demo"  # in the folder of runs: a demo wrote what lies there
_RUNS, _PREDICTED = "runs", "runs-predicted"
_PICTURES = 500  # drawn for the calibration, of the training split


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "demo", run, _flags, extra="lmms-eval", example="redundancy-eval demo --limit 40",
        help="evaluate every mask of the bundled model in lmms-eval and print its CUR and IG",
        description="Evaluate every mask of the bundled demo checkpoint on the bundled demo benchmark inside "
        "lmms-eval, offline on a CPU, then each encoder dropped with a linear stand-in in its place; print and write "
        "the tables.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    usage.add_out(parser, "results folder (default demo_results)", default="demo_results")
    usage.add(parser, "--limit", type=int, metavar="N", help="only the first N questions of each task")
    usage.add(
        parser, "--batch_size", default="auto", metavar="N", help="answers that are given together (default auto)"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate, print and write; returns 0."""
    from PIL import Image

    from redundancy_eval import api, masks
    from redundancy_eval.model_wrappers import process
    from redundancy_eval.model_wrappers.checkpoints import hub
    from redundancy_eval.model_wrappers.families import registry
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
    from redundancy_eval.model_wrappers.masking.calibration import check_out, make
    from redundancy_eval.model_wrappers.sweeps import run as sweep_run
    from redundancy_eval.model_wrappers.sweeps.settings import Settings
    from redundancy_eval.reports import markdown, report, write
    from redundancy_eval.tasks.demo import scenes

    if args.limit is not None and args.limit < 1:
        raise SetupError(f"--limit must be positive; not {args.limit}")
    out = Path(args.out)
    runs, predicted, calibration, tables = (
        out / name for name in (_RUNS, _PREDICTED, "calibration.safetensors", "tables")
    )
    passed = ["--tasks", "redundancy_demo", "--device", "cpu", "--verbosity", "WARNING"]
    passed += ["--limit", str(args.limit)] if args.limit is not None else []

    def sweep(arguments: str, of: str, folder: Path) -> None:
        typed = ("redundancy-eval", *args.typed)
        asked = Settings(_MODEL, arguments, of, str(folder), args.batch_size, None, tuple(passed), typed)
        sweep_run.run(asked, FRAMEWORKS["lmms-eval"], quiet=True)

    clear(out)
    check_out(calibration)
    model = {"pretrained": hub.DEMO, "dtype": "float32"}
    given = ",".join(f"{name}={value}" for name, value in model.items())
    encoders = registry.encoders_of(_MODEL, hub.DEMO)
    # Everything is bundled: never ask the network.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    count = len(masks.every(encoders))
    print(f"{count} masks of {', '.join(encoders)} on the demo benchmark, evaluated by lmms-eval", flush=True)
    sweep(given, "every", runs)
    print(f"the same with linear stand-ins, from {_PICTURES} training pictures without labels", flush=True)
    sample = [Image.fromarray(pixels) for pixels in scenes.training_pictures(_PICTURES)]
    with process.silence():
        make(_MODEL, {**model, "device": "cpu"}, sample, 50, calibration)
    # The full model is the same; all encoders dropped are the floor.
    sweep(f"{given},ablation=predicted,calibration={calibration}", ";".join([*encoders, "all"]), predicted)
    options = api.Options(encoders=encoders, figures=("pdf", "png"), images=True)
    scores = api.read([runs, predicted], options)
    besides = api.additions(scores, options)
    made = report.build(scores, options, besides.others)
    files = write.write(made, tables, additions=besides)
    print(f"\n{markdown.text(made)}")
    print(f"{len(files)} files in {tables}, lmms-eval's own results in {runs} and {predicted}")
    print(f"to look at: {tables / write.PAGE}")
    return 0


def clear(out: Path) -> None:
    """Make the folder ready: what an earlier demo's sweeps left in it goes, whatever lies beside that stays.

    Raises:
        SetupError: it is no folder, or its folders of runs are not an earlier demo's.
    """
    from redundancy_eval.model_wrappers.sweeps import folders

    both = [out / _RUNS, out / _PREDICTED]
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not both[0].is_dir())):
        raise SetupError(f"{out} exists and is not the folder of an earlier demo; choose another with -o")
    for runs in both:
        if runs.is_symlink() or (runs.exists() and any(runs.iterdir()) and not (runs / _MARK).is_file()):
            raise SetupError(f"{runs} holds something else than an earlier demo; choose another folder with -o")
    for runs in both:
        runs.mkdir(parents=True, exist_ok=True)
        (runs / _MARK).touch()
        for path in runs.iterdir():
            if path.is_dir() and not path.is_symlink() and (path.name == "store" or (path / folders.MARK).is_file()):
                shutil.rmtree(path)
        (runs / folders.DONE).unlink(missing_ok=True)
