"""`redundancy-eval demo`: every mask of the bundled checkpoint, evaluated by lmms-eval, and the tables."""

import os
import shutil
from pathlib import Path

from redundancy_eval import masks, readers, scores
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import families, hub
from redundancy_eval.reports import write

MODEL = "eagle_masked"


def main(out: Path, batch_size: str, limit: int | None) -> int:
    """Evaluate, print and write; returns the exit code.

    Raises:
        SetupError: `out` holds something else than an earlier demo, or lmms-eval failed.
    """
    runs = out / "runs"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not runs.is_dir())):
        raise SetupError(f"{out} exists and is not the folder of an earlier demo; choose another with -o")
    shutil.rmtree(runs, ignore_errors=True)
    encoders = families.encoders_of(MODEL, hub.DEMO)
    # Everything is bundled: never ask the network.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    count = len(masks.every(encoders))
    print(f"{count} masks of {', '.join(encoders)} on the demo benchmark, evaluated by lmms-eval", flush=True)
    _sweep(runs, batch_size, limit)
    options = readers.Options(encoders=encoders)
    tables = scores.read([runs], options)
    print(f"\n{write.markdown(tables)}")
    files = write.write(tables, out / "tables", options)
    print(f"{len(files)} files in {out / 'tables'}, lmms-eval's own results in {runs}")
    return 0


def _sweep(runs: Path, batch_size: str, limit: int | None) -> None:
    from redundancy_eval.model_wrappers import sweep_run

    arguments = ["--model", MODEL, "--model_args", f"pretrained={hub.DEMO},dtype=float32", "--masks", "every"]
    arguments += ["--tasks", "redundancy_demo", "--batch_size", batch_size, "--device", "cpu"]
    arguments += ["--output_path", str(runs), "--verbosity", "WARNING"]
    if limit:
        arguments += ["--limit", str(limit)]
    sweep_run.run(arguments, quiet=True)
