"""Sweeps in lmms-eval and VLMEvalKit: the files of separate runs, whoever is killed; foreign folders are left alone.

Everything that needs a framework runs in other processes: one import of it serves most of them. What they left behind
is looked at here.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import api, masks, records
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from redundancy_eval.options import Options
from redundancy_eval.store import HEADER
from tests.helpers import tiny, tiny_cambrian, tiny_hf, vlmevalkit_data
from tests.helpers.outcomes import Outcomes
from tests.helpers.runs import DEMO_TASKS

pytestmark = [pytest.mark.framework, pytest.mark.models]

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT),
}  # fmt: skip
ENCODERS = ("clip", "convnext", "pix2struct", "eva02")
EVERY = [masks.label(mask, ENCODERS) for mask in masks.every(ENCODERS)]
ONE_OUT = ["none", *ENCODERS, "all"]
LIMIT = 7  # odd, so that two processes get unequal shares
QUESTIONS = LIMIT * len(DEMO_TASKS)
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
TIMES = ("date", "start_time", "end_time", "total_evaluation_time_seconds")
STAMP = re.compile(r"^\d{8}_\d{6}_")


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
        assert process.wait(800) == 0, (self.root / "0.stderr").read_text()[-3000:]
        (self.jobs / "seconds").write_text(f"{time.monotonic() - started:.0f}\n")

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


# --- lmms-eval -----------------------------------------------------------------------------------------------------


def sweep(out, *more, given="pretrained=demo,dtype=float32", tasks="redundancy_demo", limit=LIMIT):
    """A command line."""
    return ["sweep", "--model", "eagle_masked", "--model_args", given, "--tasks", tasks, "--device", "cpu",
            "--limit", str(limit), "--output_path", out, *more]  # fmt: skip


def separate(out, mask):
    """The command line of a separate run."""
    return ["run", "--model", "eagle_masked", "--model_args", f"pretrained=demo,dtype=float32,drop={mask}", "--tasks",
            "redundancy_demo", "--device", "cpu", "--limit", str(LIMIT), "--batch_size", "8", "--log_samples",
            "--output_path", out]  # fmt: skip


# Where the processes of a chain are killed, one after the other: what, and the time at which it happens. Behind the
# first ones all answers are there, or nothing could be killed any more.
_RANDOM = random.Random(20261122)
CHAINS = {
    "first": [
        ("flush", 1), ("write", 1), ("flush", _RANDOM.randint(2, 5)), ("write", _RANDOM.randint(2, 5)),
        ("samples", _RANDOM.randint(1, 4)), ("clear", 1), ("record", 1), ("manifest", _RANDOM.randint(2, 5)),
        ("clear", _RANDOM.randint(2, 6)), ("samples", _RANDOM.randint(6, 15)), ("done", 1),
    ],
    "second": [
        ("write", _RANDOM.randint(3, 9)), ("flush", _RANDOM.randint(3, 9)), ("record", _RANDOM.randint(2, 4)),
        ("manifest", 1), ("samples", _RANDOM.randint(10, 30)), ("clear", _RANDOM.randint(3, 6)),
        ("manifest", _RANDOM.randint(2, 4)), ("done", 1),
    ],
    "whenever": [("seconds", _RANDOM.uniform(0.1, 1.5)) for _ in range(8)],
}  # fmt: skip
HOOKED_CHAIN = [("flush", 1), ("write", 2)]  # within the first mask, and within the second


@pytest.fixture(scope="module")
def lmms(tmp_path_factory):
    """Everything that shares one import of lmms-eval, in two lanes."""
    if find_spec("lmms_eval") is None:
        pytest.skip("needs the extra lmms-eval")
    place = Place(tmp_path_factory.mktemp("lmms"), "lmms-eval")
    job, root = place.job, place.root
    (root / "masks.txt").write_text("# two masks\nclip\n\n  eva02 + clip  \nclip\n")
    shutil.copytree(hub.locate("demo"), root / "other" / "demo")
    shutil.copytree(hub.locate("demo"), root / "checkpoint")
    weights = root / "other" / "demo" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 64
    weights.write_bytes(content)
    tiny_hf.llava(root / "llava")
    hooked = ["--model", "masked", "--tasks", "redundancy_demo_ocr", "--limit", "2", "--log_samples",
              "--device", "cpu", "--output_path", "hooked"]  # fmt: skip
    base = f"base=llava_hf,encoders=clip:model.model.vision_tower,pretrained={root / 'llava'}"
    base += ",device_map=cpu,dtype=float32"

    killed_hooked = ["sweep", *hooked[:-1], "hooked killed", "--model_args", base]

    def chain(name):
        command = sweep(name, "--batch_size", "24" if name == "first" else "40")
        note, kills = f"{name}.note", enumerate(CHAINS[name])
        killed = [job(f"{name} {number}", command, note=note, kill=kill, at=at) for number, (kill, at) in kills]
        return [*killed, job(f"{name} end", command, command, note=note)]

    first = [
        job("whole", sweep("whole"), fresh=True, note="whole.note"),
        job("separate", *(separate("separate", mask) for mask in EVERY)),
        *chain("second"),
        *chain("whenever"),
        job(
            "hooked",
            ["sweep", *hooked, "--model_args", base],
            ["run", *hooked[:-1], "unhooked", "--model_args", f"{base},drop=all"],
        ),
        *(
            job(f"hooked killed {number}", killed_hooked, note="hooked.note", kill=kill, at=at)
            for number, (kill, at) in enumerate(HOOKED_CHAIN)
        ),
        job("hooked end", killed_hooked, killed_hooked, note="hooked.note"),
    ]
    slow = sweep("slow", "--masks", "none;clip")
    second = [
        {**job("slow", slow, note="slow.note", seconds=0.5), "background": True},
        {**job("meanwhile", slow), "wait_for": str(root / "slow.note")},
        *chain("first"),
        job("one out", sweep("more", "--masks", "leave-one-out"), note="one_out.note"),
        job("every", sweep("more", "--masks", "every"), note="every.note"),
        job("other tasks", sweep("more", tasks="redundancy_demo_ocr")),
        job("other limit", sweep("more", limit=LIMIT - 1)),
        job("other arguments", sweep("more", given="pretrained=demo,dtype=float32,attn_implementation=eager")),
        job("other dtype", sweep("more", given="pretrained=demo,dtype=bfloat16")),
        job("list", sweep("list", "--masks", "clip;clip+eva02"), note="list.note"),
        job("file", sweep("list", "--masks", "@masks.txt"), note="file.note"),
        job("foreign run", separate("foreign", "all")),
        job("foreign", sweep("foreign"), note="foreign.note"),
        job("checkpoint", sweep("changed", "--masks", "none;all", given="pretrained=checkpoint")),
        job("copied", ["copy", str(weights), "checkpoint"]),
        job("changed", sweep("changed", "--masks", "none;all", given="pretrained=checkpoint")),
        job("changed, more", sweep("changed", "--masks", "every", given="pretrained=checkpoint"), note="changed.note"),
        job("wrong", sweep("w", "--config", "a.yaml"), sweep("w", tasks="no_such_task"), sweep("w,w"),
            ["sweep", "--model", "eagle_masked", "--output_path", "w"]),
    ]  # fmt: skip
    place.run_lanes(first, second)
    return place


def lmms_files(folder):
    """Name without the date -> content of a mask's files: lines of samples, and results as lmms-eval tells them."""
    found = {}
    for path in folder.rglob("*_*.json*"):
        if not STAMP.match(path.name):
            continue
        text = path.read_text(encoding="utf-8")
        name = f"{path.parent.name}/{STAMP.sub('', path.name)}"
        assert name not in found
        found[name] = json.loads(ADDRESS.sub("", text)) if path.name.endswith("_results.json") else text
    return found


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def check_files(folder, other, differing=()):
    """Fail unless two folders hold the files of one evaluation; results may differ in times, and in these of config."""
    here, there = lmms_files(folder), lmms_files(other)
    assert set(here) == set(there) == {f"demo/samples_{task}.jsonl" for task in DEMO_TASKS} | {"demo/results.json"}
    (mine,), (theirs,) = ([found.pop("demo/results.json")] for found in (here, there))
    assert here == there, "samples differ"
    assert without(mine, *TIMES, "config") == without(theirs, *TIMES, "config")
    assert set(mine) == set(theirs) and set(TIMES) < set(mine)
    for known in (mine["config"], theirs["config"]):
        known.update({f"resolved_cli_args.{key}": value for key, value in known.pop("resolved_cli_args").items()})
    found = {key for key, _ in mine["config"].items() ^ theirs["config"].items()}
    assert found - set(BATCH) == set(differing), found
    assert mine["config"]["model"] == "eagle_masked" and mine["config"]["model_args"].startswith("pretrained=demo,")
    return mine


# What lmms-eval writes of its own arguments: where to, and how many at once.
BATCHES = re.compile(r"\|batch:\w+")
ARGUMENTS = ("resolved_cli_args.output_path", "resolved_cli_args.hf_hub_log_args")
BATCH = ("batch_size", "resolved_cli_args.batch_size")
OWN = ("command", "resolved", "files")  # of a record, what a sweep's and a separate run's differ in


@pytest.mark.parametrize("mask", EVERY)
def test_every_mask_s_files_are_those_of_a_separate_run(lmms, mask):
    lmms.done("whole")
    lmms.done("separate")
    mine, theirs = (lmms.root / out / f"drop-{mask}" for out in ("whole", "separate"))
    results = check_files(mine, theirs, ARGUMENTS)
    assert results["config"]["model_args"] == f"pretrained=demo,dtype=float32,drop={mask}"
    assert results["n-samples"]["redundancy_demo_ocr"] == {"original": 240, "effective": LIMIT}
    record, other = records.read([mine]), records.read([theirs])
    assert without(record, "sweep", *OWN) == without(other, *OWN) and record["sweep"] is True
    assert without(record["resolved"], "batch_size") == without(other["resolved"], "batch_size")
    manifest = json.loads((mine / "manifest.json").read_text())
    assert manifest["mask"] == mask and manifest["versions"] == record["versions"]


def test_the_report_is_that_of_separate_runs(lmms, capsys):
    (swept,) = api.read([lmms.root / "whole"])
    said = [each.said for each in swept.samples.values()]
    assert said and all((each.log_probability < 0).all() and not each.reason for each in said)
    store, printed = lmms.root / "whole" / "store", []
    store.rename(store.with_name("aside"))  # separate runs have none, so their report knows no confidence
    for out in ("whole", "separate"):
        assert main(["report", str(lmms.root / out), "-o", str(lmms.root / f"tables {out}")]) == 0
        printed.append(BATCHES.sub("", capsys.readouterr().out))
    store.with_name("aside").rename(store)
    assert printed[0] == printed[1] and "masks:16/16" in printed[0]
    here, there = (lmms.root / f"tables {out}" for out in ("whole", "separate"))
    here, there = (
        {path.name: BATCHES.sub("", path.read_text()) for path in folder.iterdir()} for folder in (here, there)
    )
    assert here == there and len(here) > 8
    (table,) = api.read([lmms.root / "whole"])
    assert len({tuple(row) for row in table.points.T}) > 6 or len(table.points) > 6


def test_a_sweep_asks_each_question_once_and_loads_the_model_once(lmms):
    notes = lmms.notes("whole.note")
    assert [said["loaded"] for said in notes if "loaded" in said] == ["none"]
    check_asked(notes)
    put = asked(notes)
    assert set(put.values()) == {1}
    # Where all encoders are dropped, equal questions are asked once.
    by_mask = Counter(label for label, _ in put)
    assert by_mask.pop("all") <= QUESTIONS and by_mask == dict.fromkeys(EVERY[:-1], QUESTIONS)
    assert check_store(lmms.root / "whole", QUESTIONS * 16) == 0
    check_nothing_torn(lmms.root / "whole")
    printed = lmms.said("whole")
    assert f"{QUESTIONS * 16} answers: 16 masks of {QUESTIONS} questions" in printed
    assert "[16/16] drop=all: whole/drop-all" in printed and "noise floor" not in printed


@pytest.mark.parametrize("name", CHAINS)
def test_killed_anywhere_it_goes_on(lmms, name):
    for number, kill in enumerate(CHAINS[name]):
        wanted = ([-9],) if kill[0] != "seconds" else ([-14], [0])
        assert lmms.codes(f"{name} {number}") in wanted, (kill, lmms.said(f"{name} {number}")[-2000:])
    lmms.done(f"{name} end")
    notes, out = lmms.notes(f"{name}.note"), lmms.root / name
    stored = check_asked(notes)
    torn = check_store(out, QUESTIONS * 16)
    assert name == "whenever" or torn == sum(kill == "write" for kill, _ in CHAINS[name])
    assert stored <= set(asked(notes))
    check_nothing_torn(out)
    assert folders(out) == folders(lmms.root / "whole")
    for mask in EVERY:
        check_files(out / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)
    assert lmms.said(f"{name} end", 1) == f"finished: 16 masks in {name}\n"
    stopped = sum(kill in ("flush", "write", "seconds") for kill, _ in CHAINS[name])
    assert sum("loaded" in said for said in notes) <= 1 + stopped


def test_two_sweeps_do_not_work_in_one_folder(lmms):
    assert lmms.codes("meanwhile") == [2] and lmms.error("meanwhile") == "another sweep is at work in slow"
    lmms.done("slow")
    check_store(lmms.root / "slow", QUESTIONS * 2)
    check_nothing_torn(lmms.root / "slow")
    for mask in ("none", "clip"):
        check_files(lmms.root / "slow" / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)


def test_a_finished_sweep_returns_at_once(lmms):
    before = {path: path.stat().st_mtime_ns for path in (lmms.root / "whole").rglob("*")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "redundancy_eval", *sweep("whole")],
        cwd=lmms.root, env={**os.environ, **OFFLINE}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == ["finished: 16 masks in whole"]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    assert "redundancy_eval" in imported
    assert not imported & {"torch", "lmms_eval", "vlmeval", "transformers", "accelerate", "datasets", "timm", "PIL"}
    assert {path: path.stat().st_mtime_ns for path in (lmms.root / "whole").rglob("*")} == before


def damage(path, how):
    if how == "lost":
        path.unlink()
    elif how == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize("how", ["lost", "shorter", "longer"])
@pytest.mark.parametrize("file", ["*_results.json", "*_samples_redundancy_demo_ocr.jsonl", "redundancy_eval.json"])
def test_a_changed_file_of_a_finished_sweep_is_told(lmms, file, how, tmp_path, monkeypatch, capsys):
    shutil.copytree(lmms.root / "whole", tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    assert main(sweep("whole")) == 0
    capsys.readouterr()
    (path,) = Path("whole/drop-clip").rglob(file)
    damage(path, how)
    assert main(sweep("whole")) == 3
    said = capsys.readouterr().err
    assert said == (
        f"redundancy-eval: error: {path} was lost or changed since the sweep wrote it; "
        "delete whole/drop-clip to have it again\n"
    )


def test_other_masks_of_the_same_sweep_use_what_is_there(lmms):
    lmms.done("one out")
    lmms.done("every")
    before, behind = (lmms.notes(f"{name}.note") for name in ("one_out", "every"))
    assert {label for label, _ in asked(before)} == set(ONE_OUT)
    assert {label for label, _ in asked(behind)} == set(EVERY) - set(ONE_OUT)
    out = lmms.root / "more"
    assert check_store(out, QUESTIONS * 16) == 0
    check_nothing_torn(out)
    for mask in EVERY:
        check_files(out / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)
        manifest = json.loads((out / f"drop-{mask}" / "manifest.json").read_text())
        assert manifest["command"][-1] == ("leave-one-out" if mask in ONE_OUT else "every"), "written anew"
    assert json.loads((out / "sweep.json").read_text())["folders"] == [f"drop-{mask}" for mask in EVERY]


def test_masks_as_a_list_and_as_a_file(lmms):
    lmms.done("list")
    lmms.done("file")
    assert folders(lmms.root / "list") == ["drop-clip", "drop-clip+eva02"]
    assert {label for label, _ in asked(lmms.notes("list.note"))} == {"clip", "clip+eva02"}
    assert lmms.notes("file.note") == [{"rank": "0", "start": True}], "the same masks in other words"
    for mask in ("clip", "clip+eva02"):
        check_files(lmms.root / "list" / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)


def test_another_sweep_does_not_go_into_the_same_folder(lmms):
    for name, what, there, here in [
        ("other tasks", "tasks", "redundancy_demo", "redundancy_demo_ocr"),
        ("other limit", "limit", f"{LIMIT}.0", f"{LIMIT - 1}.0"),
        ("other arguments", "arguments.attn_implementation", "sdpa", "eager"),
        ("other dtype", "arguments.dtype", "float32", "bfloat16"),
    ]:
        assert lmms.codes(name) == [2]
        assert lmms.error(name) == (
            f'more/drop-none holds a sweep that was made otherwise: {what} differs: "{there}" there, "{here}" here; '
            "use another output folder"
        )
    check_nothing_torn(lmms.root / "more")


def test_results_of_a_separate_run_are_left_alone(lmms):
    lmms.done("foreign run")
    assert lmms.codes("foreign") == [2]
    assert lmms.error("foreign") == "foreign/drop-all holds results that no sweep wrote; use another output folder"
    assert not asked(lmms.notes("foreign.note")), "said when hours of answers were given"
    assert folders(lmms.root / "foreign") == ["drop-all"]
    check_files(lmms.root / "foreign" / "drop-all", lmms.root / "separate" / "drop-all", ARGUMENTS)


def test_a_changed_checkpoint_is_refused(lmms):
    lmms.done("checkpoint")
    lmms.done("copied")
    assert identity.of({"": lmms.root / "checkpoint"}) != identity.of({"": hub.locate("demo")})
    for name in ("changed", "changed, more"):
        assert lmms.codes(name) == [2]
        assert re.fullmatch(
            r"changed/drop-\w+ holds a sweep that was made otherwise: checkpoint\.checkpoint\.weights\."
            r'model\.safetensors\.blocks differs: "\w+" there, "\w+" here; use another output folder',
            lmms.error(name),
        )
    assert not asked(lmms.notes("changed.note")) and folders(lmms.root / "changed") == ["drop-all", "drop-none"]


def test_what_lmms_eval_would_not_do_is_refused(lmms):
    assert lmms.codes("wrong") == [2, 2, 2, 2]
    said = [
        "run evaluates one mask; with --config use lmms-eval itself",
        "lmms-eval failed: ValueError: Tasks not found: no_such_task",
        "lmms-eval cannot write to a path with a comma: w,w",
    ]
    for number, wanted in enumerate(said):
        assert lmms.error("wrong", number).startswith(wanted)


def test_masked_models_of_lmms_eval_s_own(lmms):
    lmms.done("hooked")
    assert folders(lmms.root / "hooked") == ["drop-all", "drop-none"]
    here, there = (lmms_files(lmms.root / out / "drop-all") for out in ("hooked", "unhooked"))
    (samples,) = (name for name in here if "samples" in name)
    assert here[samples] == there[samples]
    assert here[samples] != lmms_files(lmms.root / "hooked" / "drop-none")[samples]
    assert check_store(lmms.root / "hooked", 4) == 0 and "4 answers: 2 masks of 2 questions\n" in lmms.said("hooked")


def test_killed_a_sweep_of_another_wrapper_s_model_goes_on_by_answers(lmms):
    for number in range(len(HOOKED_CHAIN)):
        assert lmms.codes(f"hooked killed {number}") == [-9], lmms.said(f"hooked killed {number}")[-2000:]
    lmms.done("hooked end")
    notes, out = lmms.notes("hooked.note"), lmms.root / "hooked killed"
    check_asked(notes)
    assert asked(notes).total() == 5, "the one whose line was half written twice, the others once"
    assert check_store(out, 4) == 1
    check_nothing_torn(out)
    for label in ("none", "all"):
        here, there = (lmms_files(lmms.root / name / f"drop-{label}") for name in ("hooked", "hooked killed"))
        for name in here:
            if "samples" in name:
                assert here[name] == there[name]
            else:  # throughput is time, too
                assert without(here[name], *TIMES, "config", "throughput") == without(
                    there[name], *TIMES, "config", "throughput"
                )
    assert lmms.said("hooked end", 1) == "finished: 2 masks in hooked killed\n"


NO_MASK = "--masks must be every, leave-one-out, keep-one, 'MASK;MASK;...' or @FILE; not "


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--masks", "clip;siglip"], "unknown encoder 'siglip'; this model has: clip, convnext, pix2struct, eva02"),
        (["--masks", "clip;1"], "encoders go by name, not by number (1): an index means different encoders in diff"),
        (["--masks", ""], NO_MASK + "''"),
        (["--masks", " ; ;"], NO_MASK + "' ; ;'"),
        (["--masks", "@nowhere"], "--masks @nowhere: No such file or directory"),
        (["--masks", "@empty"], NO_MASK + "'@empty'"),
        (["--masks", "everything"], "unknown encoder 'everything'; this model has: clip, convnext, pix2struct, eva02"),
        (["--model_args", "pretrained=demo,drop=clip"], "a sweep sets the masks itself: leave drop= and keep= out of"),
        (["--model_args", "pretrained=demo,keep=clip"], "a sweep sets the masks itself: leave drop= and keep= out of"),
        (["--model_args", "pretrained=demo,clip"], "--model_args: cannot read model arguments 'pretrained=demo,clip'"),
        (["--model_args", "pretrained=nowhere/at-all"], "cannot get nowhere/at-all from the hub"),
        (["--batch_size", "0"], "--batch_size must be auto or a positive number; not '0'"),
        (["--batch_size", "many"], "--batch_size must be auto or a positive number; not 'many'"),
        (["--feature_memory", "-1"], "--feature_memory must not be negative; not -1"),
    ],
)
def test_mistakes_are_one_line(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("# nothing\n")
    assert main(sweep("out", *more)) in (2, 3)
    printed = capsys.readouterr().err
    assert printed.startswith(f"redundancy-eval: error: {said}") and printed.count("\n") == 1
    assert not Path("out").exists()


# --- several processes ---------------------------------------------------------------------------------------------


def torchrun(place, command, **inject):
    """Run a sweep in two processes; returns exit code and what was said."""
    if inject.get("note"):
        inject["note"] = str(place.root / inject["note"])
    flags = ["--nproc_per_node", "2", "--master_port", "29591", "-m", "tests.helpers.offline_sweep"]
    tool = Path(sys.executable).parent / "torchrun"
    process = place.start(tool, *flags, *command, OFFLINE_INJECT=json.dumps(inject), **getattr(place, "env", {}))
    try:
        code = process.wait(300)
    finally:
        process.kill()
    number = len(list(place.root.glob("*.stderr"))) - 1
    return code, (place.root / f"{number}.stderr").read_text(errors="replace")


def single(place, command, **inject):
    """Run a sweep in one process."""
    inject["note"] = str(place.root / inject["note"])
    process = place.start(
        sys.executable, "-m", "tests.helpers.offline_sweep", *command, OFFLINE_INJECT=json.dumps(inject),
        **getattr(place, "env", {}),
    )  # fmt: skip
    assert process.wait(300) == 0


def rounded(content):
    """Deviations depend, in the last digit, on the order of documents."""
    return json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 12))


def by_document(text):
    return sorted(text.splitlines(), key=lambda line: json.loads(line)["doc_id"])


FEW_MASKS = ("none", "clip+pix2struct", "all")


def test_two_processes_answer_as_one_does(lmms):
    command = sweep("two", "--masks", ";".join(FEW_MASKS))
    code, said = torchrun(lmms, command, note="two.note")
    assert code == 0, said[-3000:]
    out, notes = lmms.root / "two", lmms.notes("two.note")
    check_asked(notes)
    put = asked(notes)
    assert set(put.values()) == {1}, [one for one, count in put.items() if count > 1][:5]
    assert {said["rank"] for said in notes if "asked" in said} == {"0", "1"}
    assert check_store(out, QUESTIONS * 3) == 0 and len(list((out / "store").glob("answers-*"))) == 2
    check_nothing_torn(out)
    for mask in FEW_MASKS:
        here, there = (lmms_files(folder / f"drop-{mask}") for folder in (out, lmms.root / "whole"))
        for name in there:
            if "samples" in name:
                assert by_document(here[name]) == by_document(there[name])
            else:
                assert rounded(here[name]["results"]) == rounded(there[name]["results"])
    assert said.count("[3/3] drop=all") == 1 and f"{QUESTIONS * 3} answers: 3 masks" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_command_and_one_process_goes_on(lmms, rank):
    name = f"rank {rank}"
    command = sweep(name, "--masks", ";".join(FEW_MASKS), "--batch_size", "9")
    note = f"{name}.note"
    code, said = torchrun(lmms, command, note=note, kill="flush", at=3 + rank, rank=rank)
    out, (killed,) = lmms.root / name, [said["killed"] for said in lmms.notes(note) if "killed" in said]
    assert code != 0 and "SIGKILL" in said and time.time() - killed < 60
    assert not (out / "sweep.json").exists()
    half = len(check_asked(lmms.notes(note)))
    assert 0 < half < QUESTIONS * 3
    single(lmms, command, note=note)
    check_asked(lmms.notes(note))
    assert check_store(out, QUESTIONS * 3) <= 1
    check_nothing_torn(out)
    for mask in FEW_MASKS:
        check_files(out / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)


# --- VLMEvalKit ----------------------------------------------------------------------------------------------------

FEW = {"MMBench_DEV_EN": (1, 2), "MME": range(1, 31), "ChartQA_TEST": range(1, 5), "OCRBench": (1, 4, 10)}
KIT_MASKS = {"eagle_masked": ("none", "clip", "convnext", "all"), "cambrian_masked": ("none", "siglip+clip", "all")}
KIT_DATA = {"eagle_masked": tuple(FEW), "cambrian_masked": ("MMBench_DEV_EN", "MME", "OCRBench")}
KIT_CHAIN = [
    ("lock", 1), ("flush", 1), ("write", 2), ("record", 1), ("flush", _RANDOM.randint(2, 4)), ("eval", 2),
    ("clear", 1), ("manifest", 1), ("eval", _RANDOM.randint(3, 5)), ("clear", _RANDOM.randint(2, 5)), ("record", 1),
    ("manifest", 2), ("done", 1),
]  # fmt: skip
QUICK = ("MME", "OCRBench")
SECRET = "sk-nobody-may-read-this"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Everything that shares one import of VLMEvalKit, in two lanes."""
    if find_spec("vlmeval") is None:
        pytest.skip("needs the extra vlmevalkit")
    place = Place(tmp_path_factory.mktemp("vlmevalkit"), "vlmevalkit")
    root = place.root
    length = dict(tokenizer_model_max_length=1024, max_position_embeddings=2048)
    eagle = tiny.write(root / "eagle", "clip-448;convnext-1024", seed=2, tokenizer_model_max_length=1024)
    cambrian, towers = tiny_cambrian.write(root / "cambrian", **length)
    phi3, _ = tiny_cambrian.write(root / "phi3", "phi3", **length)
    tiny_hf.llava(root / "llava")
    place.given = {
        "eagle_masked": {"pretrained": eagle},
        "cambrian_masked": {"pretrained": cambrian, "encoder_weights": towers},
        "masked": {"base": "tiny_llava", "encoders": "clip:model.model.vision_tower", "pretrained": root / "llava"},
    }
    (root / "data").mkdir()
    frames = vlmevalkit_data.write(root / "data", vlmevalkit_data.noise)
    place.rows = {}
    for name, numbers in FEW.items():
        rows = frames[name][(frames[name]["index"] % vlmevalkit_data.TURN).isin(numbers)]
        rows.to_csv(root / "data" / f"{name}.tsv", sep="\t", index=False)
        place.rows[name] = len(rows)
    place.env = {"LMUData": str(root / "data")}

    def job(name, *commands, **inject):
        return place.job(name, *commands, env=place.env, **inject)

    def command(kind, out, *more, model="eagle_masked", data=tuple(FEW), **arguments):
        given = {**place.given[model], "max_new_tokens": 6, **arguments}
        text = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
        start = ["sweep", "--framework", "vlmevalkit"] if kind == "sweep" else ["vlmevalkit", "--batch-size", "4"]
        return [*start, "--model", model, "--model_args", text, "--data", *data, "--work-dir", out, *more]

    place.command = command
    killed = command("sweep", "killed", "--batch_size", "30", data=QUICK)
    hooked = command("sweep", "hooked killed", model="masked", data=("OCRBench",))
    hidden = ("--judge", "my-judge", "--judge-base-url", "http://127.0.0.1:9/v1", "--judge-key", SECRET)
    published = dict(model="cambrian_masked", data=QUICK, dtype="float32")
    first = [
        job("eagle", *[command("sweep", "eagle sweep")] * 2, note="eagle.note"),
        job("eagle separate", *(command("run", "eagle separate", drop=mask) for mask in KIT_MASKS["eagle_masked"])),
        *(job(f"killed {n}", killed, note="killed.note", kill=kill, at=at) for n, (kill, at) in enumerate(KIT_CHAIN)),
        job("killed end", killed, killed, note="killed.note"),
        job("unkilled", command("sweep", "unkilled", data=QUICK)),
    ]
    second = [
        {**job("mathvista", command(
            "sweep", "mathvista", "--masks", "none;all", "--judge-retry", "1", data=("MathVista_MINI", "OCRBench")
        )), "background": True},
        job("cambrian", command("sweep", "cambrian sweep", "--masks", ";".join(KIT_MASKS["cambrian_masked"]),
                                model="cambrian_masked", data=KIT_DATA["cambrian_masked"]), note="cambrian.note"),
        job("cambrian separate", *(
            command("run", "cambrian separate", model="cambrian_masked", drop=mask, data=KIT_DATA["cambrian_masked"])
            for mask in KIT_MASKS["cambrian_masked"]
        )),
        job("published", command("sweep", "published", "--as-published", "--masks", "clip;all", **published), *(
            command("run", "published separate", "--as-published", drop=mask, **published) for mask in ("clip", "all")
        )),
        job("drawn", command("sweep", "drawn", "--as-published", data=QUICK)),
        job("phi3", command("sweep", "phi3 sweep", "--as-published", **published, pretrained=phi3)),
        job("judge", command("sweep", "judge", *hidden, "--masks", "none", data=("OCRBench",))),
        job("hooked", command("sweep", "hooked", model="masked", data=QUICK),
            command("run", "hooked separate", model="masked", data=QUICK, drop="all")),
        job("hooked killed", hooked, note="hooked.note", kill="flush", at=2),
        job("hooked end", hooked, hooked, note="hooked.note"),
        job("other data", command("sweep", "eagle sweep", "--masks", "none", data=QUICK)),
        job("wrong", command("sweep", "w", data=("MMBench_DEV_ENN",)), command("sweep", "w", "--limit", "many"),
            command("sweep", "w", nonsense="1"), command("sweep", "w", "--masks", "siglip")),
    ]  # fmt: skip
    first.append(second.pop(-2))  # behind the sweep in whose folder it is refused
    place.run_lanes(first, second)
    return place


def kit_files(folder):
    """Name -> content of what VLMEvalKit wrote for a mask, without times, and its own record of the run."""
    found = {}
    for path in folder.iterdir():
        if path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name != "docProps/core.xml"]  # which holds the time
                found[path.name] = [(name, archive.read(name)) for name in sorted(names)]
        elif path.suffix in (".csv", ".pkl") or path.name.endswith("_score.json"):
            found[path.name] = path.read_bytes()
    return found


def check_kit(place, out, other, model, mask):
    """Fail unless a mask's files are those of another folder."""
    mine, theirs = (place.root / part for part in (out, other))
    (mine,), (theirs,) = (list(part.glob(f"{model}_drop-{mask}_*")) for part in (mine, theirs))
    assert mine.name == theirs.name
    here, there = kit_files(mine), kit_files(theirs)
    assert set(here) == set(there) and len(here) > 3
    assert not [name for name in here if here[name] != there[name]]
    kept = [records.read([folder]) for folder in (mine, theirs)]
    assert without(kept[0], "sweep", *OWN) == without(kept[1], "sweep", *OWN)
    statuses = [json.loads((folder / "status.json").read_text())["datasets"] for folder in (mine, theirs)]
    assert {name: told["status"] for name, told in statuses[0].items()} == {
        name: told["status"] for name, told in statuses[1].items()
    }
    return mine


@pytest.mark.parametrize(("model", "mask"), [(model, mask) for model in KIT_MASKS for mask in KIT_MASKS[model]])
def test_vlmevalkit_s_files_are_those_of_a_separate_run(kit, model, mask):
    name = model.partition("_")[0]
    kit.done(name)
    kit.done(f"{name} separate")
    folder = check_kit(kit, f"{name} sweep", f"{name} separate", model, mask)
    assert json.loads((folder / "manifest.json").read_text())["mask"] == mask


@pytest.mark.parametrize("model", KIT_MASKS)
def test_a_sweep_in_vlmevalkit_asks_each_question_once(kit, model, capsys):
    name = model.partition("_")[0]
    out, notes = kit.root / f"{name} sweep", kit.notes(f"{name}.note")
    count = sum(kit.rows[data] for data in KIT_DATA[model])
    assert [said["loaded"] for said in notes if "loaded" in said] == ["none"]
    put = asked(notes)
    assert set(put.values()) == {1} and len(check_asked(notes)) == len(put)
    by_mask = Counter(label for label, _ in put)
    assert by_mask.pop("all") <= count and set(by_mask.values()) == {count}
    assert check_store(out, count * len(KIT_MASKS[model])) == 0
    check_nothing_torn(out)
    if model == "eagle_masked":
        assert kit.said("eagle", 1) == "finished: 4 masks in eagle sweep\n"
    printed, store = [], out / "store"
    store.rename(store.with_name("aside"))  # separate runs have none, so their report knows no confidence
    for folder in (f"{name} sweep", f"{name} separate"):
        assert main(["report", str(kit.root / folder), "--taxonomy", "paper"]) == 0
        printed.append(BATCHES.sub("", capsys.readouterr().out))
    store.with_name("aside").rename(store)
    assert printed[0] == printed[1] and f"masks:{len(KIT_MASKS[model])}/" in printed[0]
    (table,) = api.read([out], Options("paper"))
    assert len(table.masks) == len(KIT_MASKS[model]) and len(table.benchmarks) == len(KIT_DATA[model])


def test_killed_anywhere_in_vlmevalkit_it_goes_on(kit):
    for number, kill in enumerate(KIT_CHAIN):
        assert kit.codes(f"killed {number}") == [-9], (kill, kit.said(f"killed {number}")[-2000:])
    kit.done("killed end")
    kit.done("unkilled")
    out, count = kit.root / "killed", sum(kit.rows[name] for name in QUICK)
    check_asked(kit.notes("killed.note"))
    assert check_store(out, count * 4) == sum(kill == "write" for kill, _ in KIT_CHAIN)
    check_nothing_torn(out)
    for mask in KIT_MASKS["eagle_masked"]:
        check_kit(kit, "killed", "unkilled", "eagle_masked", mask)
    assert kit.said("killed end", 1) == "finished: 4 masks in killed\n"


def test_a_data_set_without_a_result_is_told_beside_those_with_one(kit, capsys):
    assert kit.codes("mathvista") == [2]
    said = kit.error("mathvista")
    assert said.startswith("results are missing for 2 of 2 masks: drop=none: VLMEvalKit failed on MathVista_MINI: ")
    assert said.count("requires a working OPENAI API") == 2 and "drop=all: VLMEvalKit failed on MathVista_MINI" in said
    assert "OCRBench" not in said
    out = kit.root / "mathvista"
    assert not (out / "sweep.json").exists() and len(folders(out)) == 2
    for folder in folders(out):
        assert not (out / folder / "manifest.json").exists()
        assert (out / folder / f"{folder}_OCRBench_score.json").exists()
    assert main(["report", str(out), "--taxonomy", "paper"]) == 0
    printed = capsys.readouterr().out
    assert "no results on MathVista_MINI; VLMEvalKit says: " in printed and "tasks:OCRBench|" in printed
    assert check_store(out, 2 * (kit.rows["OCRBench"] + 9)) == 0


def test_as_published(kit):
    kit.done("published")
    for mask in ("clip", "all"):
        check_kit(kit, "published", "published separate", "cambrian_masked", mask)
    assert kit.codes("drawn") == [2] and "--as-published draws eagle_masked's answers" in kit.error("drawn")
    assert kit.codes("phi3") == [2]
    assert "--as-published cannot give what was done for Cambrian-1 3B" in kit.error("phi3")
    assert not list((kit.root / "phi3 sweep").rglob("answers-*"))


def test_a_judge_s_key_is_written_nowhere(kit):
    kit.done("judge")
    files = [path for path in (kit.root / "judge").rglob("*") if path.is_file()]
    assert len(files) > 5 and not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert "my-judge@http://127.0.0.1:9/v1" in next((kit.root / "judge").glob("*/redundancy_eval.json")).read_text()


def test_masked_models_of_vlmevalkit_s_own(kit):
    kit.done("hooked")
    check_kit(kit, "hooked", "hooked separate", "masked", "all")
    assert len(folders(kit.root / "hooked")) == 2
    assert check_store(kit.root / "hooked", 2 * sum(kit.rows[name] for name in QUICK)) == 0


def test_killed_a_sweep_of_vlmevalkit_s_own_model_goes_on_by_answers(kit):
    assert kit.codes("hooked killed") == [-9], kit.said("hooked killed")[-2000:]
    kit.done("hooked end")
    out, notes, count = kit.root / "hooked killed", kit.notes("hooked.note"), 2 * kit.rows["OCRBench"]
    assert len(check_asked(notes)) == count and asked(notes).total() == count
    assert check_store(out, count) == 0
    check_nothing_torn(out)
    for mask in ("none", "all"):
        (mine,), (theirs,) = (list(part.glob(f"masked_drop-{mask}_*")) for part in (out, kit.root / "hooked"))
        here, there = (
            {name: told for name, told in kit_files(part).items() if "OCRBench" in name} for part in (mine, theirs)
        )
        assert here and here == there
    assert kit.said("hooked end", 1) == "finished: 2 masks in hooked killed\n"


def test_mistakes_in_vlmevalkit_are_one_line(kit):
    assert kit.codes("wrong") == [2, 2, 2, 2]
    said = {
        0: "VLMEvalKit has no data set 'MMBench_DEV_ENN'",
        1: "argument --limit: invalid int value: 'many' (see redundancy-eval sweep --help)",
        2: "eagle_masked has no argument 'nonsense'",
        3: "unknown",
    }
    for number, wanted in said.items():
        assert kit.error("wrong", number).startswith(wanted)
    assert kit.codes("other data") == [2]
    assert " holds a sweep that was made otherwise: data differs: " in kit.error("other data")


def test_two_processes_in_vlmevalkit(kit):
    command = kit.command("sweep", "two", "--masks", "none;clip;all", data=("MME",))
    code, said = torchrun(kit, command, note="two.note")
    assert code == 0, said[-3000:]
    out, notes = kit.root / "two", kit.notes("two.note")
    check_asked(notes)
    assert set(asked(notes).values()) == {1} and {said["rank"] for said in notes if "asked" in said} == {"0", "1"}
    assert check_store(out, kit.rows["MME"] * 3) == 0
    check_nothing_torn(out)
    for mask in ("none", "clip", "all"):
        (mine,) = out.glob(f"eagle_masked_drop-{mask}_*")
        (theirs,) = (kit.root / "unkilled").glob(f"eagle_masked_drop-{mask}_*")
        here, there = kit_files(mine), kit_files(theirs)
        assert here and {name: there.get(name) for name in here} == here
