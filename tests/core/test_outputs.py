"""What commands write never costs a file that they did not write themselves."""

import os
import subprocess
import sys

import pytest

from redundancy_eval import cli
from redundancy_eval.errors import SetupError
from tests.helpers.runs import DEMO_TASKS, write_run

CSV = "model,mask,benchmark,score\nx,none,ChartQA,60\nx,clip,ChartQA,50\nx,sam,ChartQA,40\n"


@pytest.fixture
def scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scores.csv"
    path.write_text(CSV)
    return path


def refused(capsys, *arguments):
    assert cli.main([*map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not said.out
    return said.err


def test_a_report_never_replaces_what_it_read(scores, tmp_path, capsys):
    said = refused(capsys, "report", "scores.csv", "-o", ".")
    assert "would write over scores.csv, which is read here" in said
    assert scores.read_text() == CSV and list(tmp_path.iterdir()) == [scores]


@pytest.mark.parametrize("hard", [False, True])
def test_nor_through_a_link(scores, tmp_path, capsys, hard):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scores.csv").hardlink_to(scores) if hard else (out / "scores.csv").symlink_to(scores)
    assert "would write over" in refused(capsys, "report", "scores.csv", "-o", "out")
    assert scores.read_text() == CSV and (out / "scores.csv").exists() and len(list(out.iterdir())) == 1


def test_a_report_replaces_only_files_of_an_earlier_report(scores, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "cur.csv").write_text("mine")
    assert "which no report wrote" in refused(capsys, "report", "scores.csv", "-o", "out")
    assert (out / "cur.csv").read_text() == "mine" and len(list(out.iterdir())) == 1
    (out / "cur.csv").rename(out / "notes.txt")
    assert cli.main(["report", "scores.csv", "-o", "out"]) == 0
    scores.write_text(CSV.replace("40", "30"))
    assert cli.main(["report", "scores.csv", "-o", "out"]) == 0
    assert "50.00" in (out / "report.md").read_text() and (out / "notes.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    (out / "report.json").write_text("{}")  # no report's list any more
    capsys.readouterr()
    assert "which no report wrote" in refused(capsys, "report", "scores.csv", "-o", "out")
    scores.unlink()
    (out / "report.json").unlink()
    (tmp_path / "file").write_text("")
    scores.write_text(CSV)
    assert "is no folder" in refused(capsys, "report", "scores.csv", "-o", "file")


@pytest.mark.parametrize("arguments", [["report", "scores.csv"], ["demo"]])
def test_an_empty_path_is_refused(scores, capsys, arguments):
    assert "-o/--out: it is empty" in refused(capsys, *arguments, "-o", "")


def test_files_are_written_before_the_terminal_is(tmp_path):
    write_run(tmp_path / "runs", "none", {DEMO_TASKS[0]: [1, 0]})
    write_run(tmp_path / "runs", "clip", {DEMO_TASKS[0]: [0, 0]})
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads
    done = subprocess.run(
        [sys.executable, "-m", "redundancy_eval", "report", "runs", "-o", "out"],
        cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert (tmp_path / "out" / "report.md").exists() and "Traceback" not in done.stderr


def test_a_terminal_that_cannot_show_a_character_gets_the_rest(tmp_path):
    (tmp_path / "scores.csv").write_text(CSV.replace("x,sam,ChartQA,40\n", ""), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "redundancy_eval", "report", "scores.csv", "--encoders", "clip,sam", "-o", "out"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "clip" in done.stdout and (tmp_path / "out" / "report.md").exists()


def test_a_demo_removes_nothing_that_no_demo_wrote(tmp_path, capsys):
    kept = tmp_path / "work" / "runs" / "x5" / "answers.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("two weeks of answers")
    for more in (["--batch_size", "0"], ["--limit", "0"], []):
        refused(capsys, "demo", "-o", tmp_path / "work", *more)
        assert kept.read_text() == "two weeks of answers"


def test_a_later_demo_makes_room_and_leaves_the_rest(tmp_path):
    pytest.importorskip("transformers")
    from redundancy_eval.commands import demo
    from redundancy_eval.model_wrappers.sweeps import folders

    demo.clear(tmp_path)
    runs = tmp_path / "runs"
    for name in ("drop-clip", "mine"):
        (runs / name).mkdir()
        (runs / name / "results.json").write_text("{}")
    (runs / "drop-clip" / folders.MARK).touch()
    (runs / "store").mkdir()
    (runs / folders.DONE).write_text("{}")
    demo.clear(tmp_path)
    assert sorted(path.name for path in runs.iterdir()) == [".demo", "mine"]
    (runs / ".demo").unlink()
    with pytest.raises(SetupError, match="holds something else than an earlier demo"):
        demo.clear(tmp_path)
    assert (runs / "mine" / "results.json").exists()


def test_a_calibration_replaces_calibrations_only(tmp_path, capsys):
    pytest.importorskip("torch")
    from redundancy_eval.model_wrappers.masking import calibration

    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for path in (notes, tmp_path):
        with pytest.raises(SetupError, match="-o "):
            calibration.check_out(path)
        refused(
            capsys, "calibrate", "--model", "eagle_masked", "--model_args", "pretrained=demo", "--images", tmp_path,
            "-o", path,
        )  # fmt: skip
    assert notes.read_text() == "mine"
    calibration.check_out(tmp_path / "new.safetensors")
