"""Sweeps in lmms-eval: the files of separate runs, whoever is killed; foreign folders are left alone.

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
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import api, masks, records
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from tests.helpers import tiny_hf
from tests.helpers.runs import DEMO_TASKS
from tests.helpers.sweep_places import (
    BATCHES,
    LIMIT,
    OFFLINE,
    OWN,
    Place,
    asked,
    check_asked,
    check_nothing_torn,
    check_store,
    folders,
    sweep,
    torchrun,
    without,
)

pytestmark = [pytest.mark.framework, pytest.mark.models]

ENCODERS = ("clip", "convnext", "pix2struct", "eva02")
EVERY = [masks.label(mask, ENCODERS) for mask in masks.every(ENCODERS)]
ONE_OUT = ["none", *ENCODERS, "all"]
FEW_MASKS = ("none", "clip+pix2struct", "all")
QUESTIONS = LIMIT * len(DEMO_TASKS)
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
TIMES = ("date", "start_time", "end_time", "total_evaluation_time_seconds")
STAMP = re.compile(r"^\d{8}_\d{6}_")


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
SWEPT = {"first": EVERY, "second": EVERY, "whenever": FEW_MASKS}
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
        command += ["--masks", ";".join(SWEPT[name])] if SWEPT[name] != EVERY else []
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
ARGUMENTS = ("resolved_cli_args.output_path", "resolved_cli_args.hf_hub_log_args")
BATCH = ("batch_size", "resolved_cli_args.batch_size")


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
    swept = SWEPT[name]
    for number, kill in enumerate(CHAINS[name]):
        wanted = ([-9],) if kill[0] != "seconds" else ([-14], [0])
        assert lmms.codes(f"{name} {number}") in wanted, (kill, lmms.said(f"{name} {number}")[-2000:])
    lmms.done(f"{name} end")
    notes, out = lmms.notes(f"{name}.note"), lmms.root / name
    stored = check_asked(notes)
    torn = check_store(out, QUESTIONS * len(swept))
    assert name == "whenever" or torn == sum(kill == "write" for kill, _ in CHAINS[name])
    assert stored <= set(asked(notes))
    check_nothing_torn(out)
    assert folders(out) == sorted(f"drop-{mask}" for mask in swept)
    for mask in swept:
        check_files(out / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)
    assert lmms.said(f"{name} end", 1) == f"finished: {len(swept)} masks in {name}\n"
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
    heavy = {"torch", "lmms_eval", "vlmeval", "transformers", "accelerate", "datasets", "timm", "PIL", "numpy"}
    assert not imported & heavy
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


# --- several processes ---------------------------------------------------------------------------------------------


def rounded(content):
    """Deviations depend, in the last digit, on the order of documents."""
    return json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 12))


def by_document(text):
    return sorted(text.splitlines(), key=lambda line: json.loads(line)["doc_id"])


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


@pytest.fixture(scope="module")
def one_killed(lmms):
    """By rank: what two processes, of which that one was killed, left. One process then goes on with each sweep."""
    found, jobs = {}, []
    for rank in (0, 1):
        name = f"rank {rank}"
        command = sweep(name, "--masks", ";".join(FEW_MASKS), "--batch_size", "9")
        code, said = torchrun(lmms, command, note=f"{name}.note", kill="flush", at=3 + rank, rank=rank)
        finished = (lmms.root / name / "sweep.json").exists()
        found[rank] = SimpleNamespace(
            code=code, said=said, ended=time.time(), notes=lmms.notes(f"{name}.note"), finished=finished
        )
        jobs.append(lmms.job(f"{name} end", command, note=f"{name}.note"))
    lmms.run_lanes(jobs)
    return found


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_command_and_one_process_goes_on(lmms, one_killed, rank):
    name, before = f"rank {rank}", one_killed[rank]
    out, (killed,) = lmms.root / name, [said["killed"] for said in before.notes if "killed" in said]
    assert before.code != 0 and "SIGKILL" in before.said and before.ended - killed < 60
    assert not before.finished
    assert 0 < len(check_asked(before.notes)) < QUESTIONS * 3
    lmms.done(f"{name} end")
    check_asked(lmms.notes(f"{name}.note"))
    assert check_store(out, QUESTIONS * 3) <= 1
    check_nothing_torn(out)
    for mask in FEW_MASKS:
        check_files(out / f"drop-{mask}", lmms.root / "whole" / f"drop-{mask}", ARGUMENTS)
