"""What commands take beside the model: CPU seconds (user and system) and wall seconds of whole processes.

    python benchmarks/start.py                  help, start with 16 masks of 10 questions, a finished sweep's return
    python benchmarks/start.py --demo           and the whole demo; --limit N asks N questions of each task

The least of `--repeats` is shown, as other work only adds. In a checkout of another commit it tells what that one took.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

_TASK_INDEX = """
from lmms_eval import __main__
import contextlib, time
from redundancy_eval import tasks
try:
    from redundancy_eval.model_wrappers.hosts.lmms_eval.task_index import read_once
except ImportError:  # of an older commit
    read_once = contextlib.nullcontext
start = time.process_time()
with read_once():
    __main__.TaskManager("ERROR", include_path=[*tasks.__path__])
print(time.process_time() - start)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    ours = [sys.executable, "-m", "redundancy_eval"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:

        def took(name: str, *command: str, repeats: int = asked.repeats) -> list[str]:
            found, said = [], []
            for number in range(repeats):
                before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                filled = [part.replace("NUMBER", str(number)) for part in command]
                done = subprocess.run(filled, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True)
                now = resource.getrusage(resource.RUSAGE_CHILDREN)
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr}")
                cpu = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
                found.append((cpu, time.perf_counter() - start))
                said.append(done.stdout)
            print(f"{name:<42} {min(c for c, _ in found):8.2f} {min(w for _, w in found):8.2f}", flush=True)
            return said

        print(f"{'':<42} {'CPU s':>8} {'wall s':>8}")
        took("redundancy-eval --help", *ours, "--help")
        took("redundancy-eval sweep --help", *ours, "sweep", "--help")
        sweep = [*ours, "sweep", "--model", "eagle_masked", "--model_args", "pretrained=demo,dtype=float32"]
        sweep += ["--tasks", "redundancy_demo", "--limit", "2", "--device", "cpu", "-o"]
        took("a sweep: 16 masks of 10 questions", *sweep, "outNUMBER")
        took("the same, finished", *sweep, "out0")
        spent = took("imports of lmms-eval, and its task index", sys.executable, "-c", _TASK_INDEX)
        print(f"{'  of which its task index':<42} {min(map(float, spent)):8.2f}")
        if asked.demo:
            limit = [] if asked.limit is None else ["--limit", str(asked.limit)]
            took("redundancy-eval demo", *ours, "demo", *limit, "-o", "demo", repeats=1)


if __name__ == "__main__":
    main()
