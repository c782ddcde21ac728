"""`redundancy-eval demo`: every mask of the bundled checkpoint, evaluated by lmms-eval, and the tables."""

import os
import shutil
from pathlib import Path

from redundancy_eval import api, masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.options import Options
from redundancy_eval.reports import markdown, report, write

MODEL = "eagle_masked"
_MARK = ".demo"  # in the folder of the runs: a demo wrote what lies there


def main(out: Path, batch_size: str, limit: int | None) -> int:
    """Evaluate, print and write; returns the exit code.

    Raises:
        SetupError: an argument makes no sense, `out` holds something else than an earlier demo, or lmms-eval failed.
    """
    runs, tables = out / "runs", out / "tables"
    arguments = _arguments(runs, batch_size, limit)
    clear(out)
    encoders = registry.encoders_of(MODEL, hub.DEMO)
    # Everything is bundled: never ask the network.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    count = len(masks.every(encoders))
    print(f"{count} masks of {', '.join(encoders)} on the demo benchmark, evaluated by lmms-eval", flush=True)
    sweep_run.run(arguments, quiet=True)
    options = Options(encoders=encoders)
    made = report.build(api.read([runs], options), options)
    files = write.write(made, tables)
    print(f"\n{markdown.text(made)}")
    print(f"{len(files)} files in {tables}, lmms-eval's own results in {runs}")
    return 0


def clear(out: Path) -> None:
    """Make the folder ready: what an earlier demo's sweep left in it goes, whatever lies beside that stays.

    Raises:
        SetupError: it is no folder, or its `runs` is not an earlier demo's.
    """
    runs = out / "runs"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not runs.is_dir())):
        raise SetupError(f"{out} exists and is not the folder of an earlier demo; choose another with -o")
    if runs.is_symlink() or (runs.exists() and any(runs.iterdir()) and not (runs / _MARK).is_file()):
        raise SetupError(f"{runs} holds something else than an earlier demo; choose another folder with -o")
    runs.mkdir(parents=True, exist_ok=True)
    (runs / _MARK).touch()
    for path in runs.iterdir():
        if path.is_dir() and not path.is_symlink() and (path.name == "store" or (path / sweep_run.MARK).is_file()):
            shutil.rmtree(path)
    (runs / sweep_run.DONE).unlink(missing_ok=True)


def _arguments(runs: Path, batch_size: str, limit: int | None) -> list[str]:
    """What the demo's sweep is given.

    Raises:
        SetupError: one makes no sense.
    """
    if limit is not None and limit < 1:
        raise SetupError(f"--limit must be positive; not {limit}")
    arguments = ["--model", MODEL, "--model_args", f"pretrained={hub.DEMO},dtype=float32", "--masks", "every"]
    arguments += ["--tasks", "redundancy_demo", "--batch_size", batch_size, "--device", "cpu"]
    arguments += ["--output_path", str(runs), "--verbosity", "WARNING"]
    arguments += ["--limit", str(limit)] if limit is not None else []
    sweep_run.check(sweep_run.parser().parse_known_args(arguments)[0])
    return arguments
