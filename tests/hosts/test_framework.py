"""The real thing: lmms-eval itself, started as a user starts it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

from redundancy_eval import compare, records, scores, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts.lmms_eval import launch
from redundancy_eval.readers import find
from redundancy_eval.taxonomy import Part
from tests.helpers import tiny
from tests.helpers.outcomes import free_port
from tests.helpers.runs import DEMO_TASKS

pytestmark = [pytest.mark.framework, pytest.mark.models]
BIN = Path(sys.executable).parent


def command(*arguments, cwd, check=True, **env):
    """Run one of our or lmms-eval's commands offline; returns the finished process."""
    done = subprocess.run(
        [str(BIN / arguments[0]), *map(str, arguments[1:])],
        cwd=cwd, capture_output=True, text=True, timeout=600,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def arguments(out, model_args="pretrained=demo,drop=clip", limit=12, tasks="redundancy_demo"):
    return ["--model", "eagle_masked", "--model_args", model_args, "--tasks", tasks, "--log_samples",
            "--batch_size", "8", "--limit", limit, "--output_path", out]  # fmt: skip


def results(folder):
    """Scores per task and answers per document of the one run below a folder."""
    (run,) = find.read([folder], taxonomy.load())
    found, answers = {}, {}
    for task, result in run.tasks.items():
        part = Part(task, "accuracy", score="accuracy.score")
        samples = result.samples(part)
        found[task] = (result.headline(part), samples.scores.tolist())
        for line in samples.path.read_text().splitlines():
            record = json.loads(line)
            answers[task, record["doc_id"]] = record["filtered_resps"], record["accuracy"]
    return found, answers


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    command("redundancy-eval", "run", *arguments("out"), cwd=folder)
    return folder


def test_run_gives_each_mask_its_own_folder_and_record(ours):
    assert [path.name for path in (ours / "out").iterdir()] == ["drop-clip"]
    record = json.loads((ours / "out" / "drop-clip" / records.NAME).read_text())
    assert record["encoders"] == ["clip", "convnext", "pix2struct", "eva02"] and record["mask"] == "clip"
    assert record["versions"]["lmms-eval"] == "0.7.3" and record["command"][:2] == ["redundancy-eval", "run"]
    found, answers = results(ours)
    assert set(found) == set(DEMO_TASKS) and len(answers) == 5 * 12
    (run,) = find.read([ours], taxonomy.load())
    (table,) = scores.tables([run], taxonomy.load(), known_encoders=registry.known_encoders)
    assert table.masks == (("clip",),) and table.signature.count("lmms-eval:0.7.3") == 1


def test_plain_lmms_eval_writes_equal_scores(ours, tmp_path):
    path = command("redundancy-eval", "tasks", "--path", cwd=tmp_path).stdout.strip()
    command("lmms-eval", *arguments("out"), "--include_path", path, cwd=tmp_path)
    assert results(tmp_path) == results(ours)


def test_two_processes_score_as_one_does(ours, tmp_path):
    flags = ["--nproc_per_node", "2", "--master_port", free_port(), "-m"]
    command("torchrun", *flags, "redundancy_eval", "run", *arguments("out", limit=11), cwd=tmp_path)
    found, answers = results(tmp_path)
    single = {key: value for key, value in results(ours)[1].items() if key[1] < 11}
    assert answers == single and len(answers) == 5 * 11
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drop-clip"]


def test_a_dead_rank_is_a_failure(tmp_path):
    flags = ["--nproc_per_node", "2", "--master_port", "29572", "-m"]
    bad = tiny.write(tmp_path / "small", tokenizer_model_max_length=40)
    done = command(
        "torchrun",
        *flags,
        "redundancy_eval",
        "run",
        *arguments("out", f"pretrained={bad},drop=clip"),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0 and "the model's limit is 40" in done.stderr


def test_every_field_that_lmms_eval_writes_is_classified(ours):
    (path,) = (ours / "out").rglob("*_results.json")
    content = json.loads(path.read_text())
    typed = content["config"]["resolved_cli_args"]
    unlisted = set(content) - set(compare.RESULTS)
    unlisted |= {*content["config"], *typed} - set(compare.CONFIG)
    unlisted |= {name for settings in content["configs"].values() for name in settings} - set(compare.TASK)
    for samples in path.parent.glob("*.jsonl"):
        for line in samples.read_text().splitlines():
            unlisted |= set(json.loads(line)) - set(compare.SAMPLE) - {"accuracy"}
    assert unlisted == set()


def test_what_was_resolved_stands_in_the_record(ours):
    record = records.read([ours / "out" / "drop-clip"])
    assert record["resolved"] == {
        "device": "cpu", "batch_size": "8", "processes": 1, "dtype": "float32", "attention": "sdpa"
    }  # fmt: skip
    names = sorted(path.relative_to(ours / "out" / "drop-clip").as_posix() for path in (ours / "out").rglob("demo/*"))
    assert sorted(record["files"]) == names and len(names) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(checkpoint="0" * 16), "checkpoint differs"),
        (lambda r: r["versions"].update(torch="2.0.0"), "versions.torch differs"),
        (lambda r: r["resolved"].update(dtype="bfloat16"), "resolved.dtype differs"),
    ],
)
def test_a_folder_takes_no_results_of_another_model(ours, tmp_path, monkeypatch, capsys, change, said):
    shutil.copytree(ours / "out", tmp_path / "out")
    path = tmp_path / "out" / "drop-clip" / records.NAME
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    assert main(["run", *map(str, arguments("out", tasks="redundancy_demo_ocr"))]) == 2
    assert f"holds results of another run: {said}" in capsys.readouterr().err
    assert json.loads(path.read_text()) == record and len(list(tmp_path.rglob("*_results.json"))) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--use_cache", "cache"], "--use_cache answers by model arguments"),
        (["--apply_chat_template"], "eagle_masked puts prompts into its own template"),
        (["--gen_kwargs", "max_new_token=1"], "--gen_kwargs max_new_token: the models here take max_new_tokens,"),
    ],
)
def test_arguments_that_would_not_do_what_they_say(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *map(str, arguments("out")), *more]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


MISTAKES = {
    "pretrained=NVEagle/Eagle-X5-7B,drop=clip": "cannot get NVEagle/Eagle-X5-7B from the hub",
    "pretrained=.,drop=clip": "no checkpoint in .: config.json is missing",
    "pretrained=demo,drop=siglip": "unknown encoder 'siglip'; this model has: clip, convnext, pix2struct, eva02",
    "pretrained=demo,drop=clip,mask=sam": "eagle_masked has no argument 'mask'",
}


@pytest.mark.parametrize("model_args", MISTAKES)
def test_mistakes_are_one_line_and_a_failure(tmp_path, monkeypatch, capsys, model_args):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["run", *map(str, arguments("out", model_args, 2))]) == 2
    told(capsys.readouterr().err, MISTAKES[model_args], tmp_path)


@pytest.mark.parametrize("model_args", list(MISTAKES)[2:])
def test_mistakes_are_a_failure_in_plain_lmms_eval_too(tmp_path, monkeypatch, capsys, model_args):
    from lmms_eval.cli.dispatch import main as lmms_eval_main

    monkeypatch.chdir(tmp_path)
    asked = ["lmms-eval", "--include_path", launch.task_folder(), *arguments("out", model_args, 2)]
    monkeypatch.setattr(sys, "argv", list(map(str, asked)))
    with pytest.raises(SystemExit, match="^2$"):
        lmms_eval_main()
    told(capsys.readouterr().err, MISTAKES[model_args], tmp_path)


def told(stderr, message, folder):
    said = [line for line in stderr.splitlines() if line.startswith("redundancy-eval: error:")]
    assert len(said) == 1 and message in said[0]
    assert not list(folder.rglob("*_results.json"))


def test_run_fails_where_lmms_eval_would_exit_0(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *map(str, arguments("out", tasks="no_such_task"))]) == 2
    assert "lmms-eval failed: ValueError: Tasks not found: no_such_task" in capsys.readouterr().err


def test_run_says_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^0$"):
        main(["run", "--help"])
    printed = capsys.readouterr().out
    assert "drop=clip+sam" in printed and "lmms-eval --help" in printed
    assert main(["run", "--model", "eagle_masked", "--tasks", "gqa"]) == 2
    assert "run needs -o (--output_path)" in capsys.readouterr().err


def test_demo_prints_and_writes_the_tables(tmp_path):
    done = command("redundancy-eval", "demo", "--limit", "8", "--batch_size", "40", cwd=tmp_path)
    assert "[16/16] drop=all" in done.stderr and "Information Gap (%)" in done.stdout
    assert done.stdout.startswith("16 masks of ") and done.stdout.count("| without clip ") >= 2
    tables = tmp_path / "demo_results" / "tables"
    assert {"ig.tex", "ig.csv", "cur.csv", "scores.tex", "report.json"} <= {path.name for path in tables.iterdir()}
    content = json.loads((tables / "report.json").read_text())["models"][0]
    assert len(content["scores"]) == 16 and content["documents"]["demo OCR"] == 8
    runs = sorted(path.name for path in (tmp_path / "demo_results" / "runs").glob("drop-*"))
    assert len(runs) == 16 and "drop-none" in runs and "drop-clip+eva02" in runs
    guessed = sorted(path.name for path in (tmp_path / "demo_results" / "runs-predicted").glob("drop-*"))
    assert guessed == ["drop-all", "drop-clip", "drop-convnext", "drop-eva02", "drop-pix2struct"]
    assert "Relied on and needed" in done.stdout and "|ablation:predicted|calibration:" in done.stdout
    both = [f"demo_results/{name}" for name in ("runs", "runs-predicted")]
    again = command("redundancy-eval", "report", *both, "-o", "again", cwd=tmp_path)
    assert "Signature" in again.stdout
    assert (tmp_path / "again" / "cur.csv").read_bytes() == (tables / "cur.csv").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep me")
    assert command("redundancy-eval", "demo", "-o", "other", cwd=tmp_path, check=False).returncode == 2
    assert (tmp_path / "other" / "mine.txt").exists()
