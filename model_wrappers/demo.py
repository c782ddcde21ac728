"""`redundancy-eval demo`: every mask of the bundled checkpoint, evaluated by lmms-eval, and the tables."""

import contextlib
import io
import os
import shutil
import sys
import time
from pathlib import Path

from redundancy_eval import masks, readers, scores
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import families, hub
from redundancy_eval.reports import write

MODEL = "eagle_masked"


def main(out: Path, batch_size: int, limit: int | None) -> int:
    """Evaluate, print and write; returns the exit code.

    Raises:
        SetupError: `out` holds something else than an earlier demo, or lmms-eval failed.
    """
    runs = out / "runs"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not runs.is_dir())):
        raise SetupError(f"{out} exists and is not the folder of an earlier demo; choose another with -o")
    shutil.rmtree(runs, ignore_errors=True)
    encoders = families.encoders_of(MODEL, hub.DEMO)
    every = masks.every(encoders)
    # Everything is bundled: never ask the network, and keep the framework quiet unless it fails.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    started = time.monotonic()
    print(f"{len(every)} masks of {', '.join(encoders)} on the demo benchmark, each evaluated by lmms-eval", flush=True)
    for number, mask in enumerate(every, 1):
        label = masks.label(mask, encoders)
        _evaluate(label, runs, batch_size, limit)
        spent = time.monotonic() - started
        left = spent / number * (len(every) - number)
        print(f"[{number}/{len(every)}] drop={label:<28} {spent:4.0f} s, about {left:4.0f} s left", flush=True)
    options = readers.Options(encoders=encoders)
    tables = scores.read([runs], options)
    print(f"\n{write.markdown(tables)}")
    files = write.write(tables, out / "tables", options)
    print(f"{len(files)} files in {out / 'tables'}, lmms-eval's own results in {runs}")
    return 0


def _evaluate(label: str, runs: Path, batch_size: int, limit: int | None) -> None:
    from redundancy_eval.model_wrappers import lmms_eval_run

    arguments = ["--model", MODEL, "--model_args", f"pretrained={hub.DEMO},drop={label},dtype=float32"]
    arguments += ["--tasks", "redundancy_demo", "--batch_size", str(batch_size), "--device", "cpu"]
    arguments += ["--log_samples", "--output_path", str(runs), "--verbosity", "WARNING"]
    if limit:
        arguments += ["--limit", str(limit)]
    talk = io.StringIO()
    try:
        with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
            lmms_eval_run.run(arguments)
    except (Exception, SystemExit):
        sys.stderr.write(talk.getvalue())
        raise
