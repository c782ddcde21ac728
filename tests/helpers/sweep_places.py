"""Folders in which sweeps run in other processes, and checks of what they left there."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from redundancy_eval.store import HEADER
from tests.helpers.outcomes import Outcomes, free_port

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT),
}  # fmt: skip
LIMIT = 7  # odd, so that two processes get unequal shares
# A report's signature, and a record, tell of batches and times of their own.
BATCHES = re.compile(r"\|batch:\w+")
OWN = ("command", "resolved", "files")  # of a record, what a sweep's and a separate run's differ in


class Place(Outcomes):
    """A folder in which commands run, and what they left there."""

    def __init__(self, root, framework):
        super().__init__(root / "jobs")
        self.root, self.framework = root, framework

    def start(self, *command, **env):
        """Start a process; what it says goes to files."""
        number = len(list(self.root.glob("*.stderr")))
        out, err = ((self.root / f"{number}.{stream}").open("w") for stream in ("stdout", "stderr"))
        env = {**os.environ, **OFFLINE, **env}
        return subprocess.Popen(list(map(str, command)), cwd=self.root, env=env, stdout=out, stderr=err)

    def run_lanes(self, *lanes):
        """Run lists of jobs side by side."""
        path = self.jobs / "lanes.json"
        path.write_text(json.dumps(lanes))
        started = time.monotonic()
        process = self.start(sys.executable, "-m", "tests.helpers.offline_sweep", self.framework, path)
        assert process.wait(800) == 0, self.errors()[-3000:]
        (self.jobs / "seconds").write_text(f"{time.monotonic() - started:.0f}\n")

    def errors(self):
        """What the process that was started last said."""
        number = len(list(self.root.glob("*.stderr"))) - 1
        return (self.root / f"{number}.stderr").read_text(errors="replace")

    def job(self, name, *commands, env=(), **inject):
        if inject.get("note"):
            inject["note"] = str(self.root / inject["note"])
        return {"name": name, "commands": commands, "inject": inject, "env": dict(env)}

    def notes(self, name):
        """What was asked and stored, by whom, in order."""
        path = self.root / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def folders(out):
    """Folders of masks."""
    return sorted(path.name for path in out.iterdir() if path.is_dir() and path.name not in ("store", "logs"))


def asked(notes):
    """How often each (mask, document) was put to a model."""
    return Counter(tuple(one) for said in notes for one in said.get("asked", ()))


def check_asked(notes):
    """Fail if a document was put to a model under a mask after the answer was on disk."""
    stored, waiting = set(), {}
    for said in notes:
        mine = waiting.setdefault(said["rank"], [])
        if "start" in said:
            mine.clear()
        for one in map(tuple, said.get("asked", ())):
            assert one not in stored, f"{one} was stored, and asked again"
            mine.append(one)
        if "flushed" in said:
            stored.update(mine)
            mine.clear()
    assert stored
    return stored


def check_store(out, count):
    """Fail unless the store holds so many answers, each once; returns how many lines were left half written."""
    found, torn = Counter(), 0
    for shard in (out / "store").glob("answers-*.jsonl"):
        *lines, rest = shard.read_text(encoding="utf-8").split("\n")
        torn += bool(rest)
        for answer in map(json.loads, lines):
            found[tuple(answer[name] for name in ("task", "split", "document", "prompt", "generation", "mask"))] += 1
    assert set(found.values()) == {1} and len(found) == count
    return torn


def check_nothing_torn(out):
    """Fail if anything but whole folders, the store and the list of all is there."""
    extra = {"logs"} & {path.name for path in out.iterdir()}
    assert {path.name for path in out.iterdir()} == {*folders(out), "store", "sweep.json", ".sweep.lock", *extra}
    for folder in (out / name for name in folders(out)):
        manifest = json.loads((folder / "manifest.json").read_text())
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        files = {name for name in files if not Path(name).name.startswith(".")}
        assert files == {file["path"] for file in manifest["files"]} | {"manifest.json"}
        assert not list(folder.glob(".manifest*"))
    assert json.loads((out / "sweep.json").read_text())["folders"]
    assert {path.name for path in (out / "store").iterdir() if not path.name.startswith("answers-")} == {HEADER}


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def sweep(out, *more, given="pretrained=demo,dtype=float32", tasks="redundancy_demo", limit=LIMIT):
    """A command line."""
    return ["sweep", "--model", "eagle_masked", "--model_args", given, "--tasks", tasks, "--device", "cpu",
            "--limit", str(limit), "--output_path", out, *more]  # fmt: skip


def torchrun(place, command, **inject):
    """Run a sweep in two processes; returns exit code and what was said."""
    if inject.get("note"):
        inject["note"] = str(place.root / inject["note"])
    flags = ["--nproc_per_node", "2", "--master_port", free_port(), "-m", "tests.helpers.offline_sweep"]
    tool = Path(sys.executable).parent / "torchrun"
    process = place.start(tool, *flags, *command, OFFLINE_INJECT=json.dumps(inject), **getattr(place, "env", {}))
    try:
        code = process.wait(300)
    finally:
        process.kill()
    return code, place.errors()
