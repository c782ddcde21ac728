"""What others wrote reaches terminals and files as text: seen, in its place, without keys, never run."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval import model_args, records, shown
from redundancy_eval.cli import main
from redundancy_eval.reports import csv as csv_tables
from redundancy_eval.reports import markdown
from tests.helpers.runs import DEMO_TASKS, write_run


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\rd\x00\x7f\x9b", r"a\nb\tc\rd\x00\x7f\x9b"),
        ("\u202egnp.exe\u2066\u200b\u2028\ufeff", r"\u202egnp.exe\u2066\u200b\u2028\ufeff"),
        ("a\xa0b \U000e0041\ud800", r"a\xa0b \U000e0041\ud800"),
        ("模型 é 🦅 a_b-c.d/e", "模型 é 🦅 a_b-c.d/e"),
    ],
)
def test_what_cannot_be_seen_is_shown_by_its_number(text, seen):
    assert shown.text(text) == seen
    assert json.loads(shown.json_text(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


@given(st.text())
def test_a_line_is_one_and_can_be_printed(text):
    line = shown.line(text)
    assert len(line.splitlines()) <= 1 and not any(map(shown.unseen, line))
    assert shown.json_text(json.dumps([text], ensure_ascii=False)).isascii() or not any(
        map(shown.unseen, shown.json_text(json.dumps([text], ensure_ascii=False)))
    )


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("b|c", r"b\|c"),
        ("b\\|c", r"b\\\|c"),
        ("`rm`", r"\`rm\`"),
        ("<img src=x>", r"\<img src=x>"),
        ("![x](http://a)", r"![x]\(http://a)"),
        ("demo [lmms-eval] (2)", "demo [lmms-eval] (2)"),
    ],
)
def test_markdown_shows_it_literally(text, seen):
    assert markdown.literal(text) == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+1", "'+1"),
        ("-a", "'-a"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1dA1", "'\uff1dA1"),
        (" =A1", "' =A1"),
        ("a;=A1", "a;'=A1"),
        ("\t=A1", r"\t=A1"),
        ("\r=A1", r"\r=A1"),
        ("Eagle-X5 = best", "Eagle-X5 = best"),
    ],
)
def test_no_spreadsheet_runs_it(text, seen):
    assert csv_tables.cell(text) == seen


NAMES = (
    "x5\x1b[2J\x1b]0;owned\x07",
    "demo`\n\nNote: all is well.\n\n| a |\n|---|\n`",
    "=HYPERLINK(A1)",
    "a\u202eb|c",
    "a\x85b\x0bc\u2028d",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_reach_every_file_as_text(tmp_path, capsys, name):
    runs, out = tmp_path / "runs.csv", tmp_path / "out"
    with runs.open("w", newline="", encoding="utf-8") as handle:
        rows = [(model, mask, "GQA", "60") for model in (name, f"{name}2") for mask in ("none", "clip")]
        csv.writer(handle).writerows([("model", "mask", "benchmark", "score"), *rows])
    if "\n" in name:
        for drop in ("none", "clip"):
            write_run(tmp_path / "runs", drop, {DEMO_TASKS[0]: [1, 0]}, checkpoint=name, samples=False)
        runs = tmp_path / "runs"
    assert main(["report", str(runs), "--encoders", "clip", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    for text in (said, *(path.read_text(encoding="utf-8") for path in out.iterdir())):
        assert not any(map(shown.unseen, text.replace("\n", ""))) and "\nNote: all is well" not in text
    signatures = [line for line in said.splitlines() if line.startswith("Signature")]
    assert all(line.count("`") == 2 and line.count("|encoders:") == 1 for line in signatures)
    for path in out.glob("*.csv"):
        with path.open(encoding="utf-8") as handle:
            assert not any(row[0].startswith(("=", "+", "-", "@")) for row in csv.reader(handle))
    assert main(["verify", str(out), str(runs)]) == 0


def test_numbers_are_not_quoted(tmp_path):
    runs = tmp_path / "runs.csv"
    runs.write_text("model,mask,benchmark,score\nx,none,GQA,40\nx,clip,GQA,50\n")
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 0
    assert "\nx,clip,General,-0.25," in (tmp_path / "out" / "cur.csv").read_text()


def test_errors_show_it_too(tmp_path, capsys):
    for drop in ("none", "clip"):
        write_run(tmp_path, drop, {DEMO_TASKS[0]: [1]}, checkpoint=f"\x1b[2J{drop}", args=",api_key=sk-1,hf_token=hf_1")
    assert main(["report", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert r"pretrained=\x1b[2Jclip" in said and "\x1b" not in said and said.count("\n") == 1
    assert "sk-1" not in said and "hf_1" not in said and "api_key=[REDACTED] hf_token=[REDACTED]" in said


@pytest.mark.parametrize(
    "text",
    [
        "api_key=SECRET,drop=clip",
        "hf_token=SECRET dtype=auto",
        "OPENAI_API_KEY=SECRET",
        "apiKey=SECRET",
        "token=SECRET",
        "--judge-key=SECRET",
        "--judge-key SECRET --limit 3",
        "['--hub-token', 'SECRET', '--limit']",
        "password='SECRET'",
        '{"key": "SECRET", "temperature": 0}',
        "{'api_key': 'SECRET'}",
        r'"{\\"key\\": \\"SECRET\\"}"',
        '--x={"key":"SECRET"}',
        'headers={"Authorization": "Bearer SECRET"}',
        "http://h/?api_key=SECRET&x=1",
        '"api_keys": ["SECRET"]',
        "pretrained=https://me:SECRET@h/x",
        "https://SECRET@h/x",
        "pretrained=me:SECRET@hub.example.org/x",
        "aws_secret_access_key=SECRET",
        "judge_password=SECRET",
        "wandb_args=token=SECRET",
    ],
)
def test_secrets_are_left_out(text):
    assert "SECRET" not in model_args.redacted(text) and "[REDACTED]" in model_args.redacted(text)
    assert model_args.redacted(model_args.redacted(text)) == model_args.redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "max_new_tokens=5,pad_token=x,image_token=<image>,tokenizer=a,image_key=b",
        "qwen:7b@http://localhost:8000/v1",
        "me/model@main",
        "git@github.com:me/x",
        "taxonomy:mine@0123456789ab",
        "{'tokens': 3, 'keys': 4}",
        "clip:m.a+sam:m.b",
    ],
)
def test_what_is_no_secret_stays(text):
    assert model_args.redacted(text) == text


def test_a_record_holds_no_secrets(tmp_path):
    record = {
        "arguments": {"drop": "none", "api_key": "SECRET", "dtype": "float32"},
        "passed": ["--judge-args", '{"key": "SECRET", "temperature": 0}'],
        "command": ["redundancy-eval", "run", "--hf_token", "SECRET"],
        "judge": "mine@http://me:SECRET@localhost",
    }
    records.write(record, tmp_path)
    text = (tmp_path / records.NAME).read_text()
    assert "SECRET" not in text and '"dtype": "float32"' in text and "temperature" in text
    assert record["arguments"]["api_key"] == "SECRET"  # what runs is not changed


def test_a_key_decides_no_answer():
    assert model_args.deciding({"api_key": "a", "dtype": "float32", "pad_token": "x"}) == {
        "dtype": "float32", "pad_token": "x",
    }  # fmt: skip


def test_secrets_stay_out_of_reports(tmp_path, capsys):
    for drop in ("none", "clip"):
        write_run(
            tmp_path / "runs", drop, {DEMO_TASKS[0]: [1]}, checkpoint="https://me:SECRET@h/x", args=",api_key=SECRET"
        )
    assert main(["report", str(tmp_path / "runs"), "--encoders", "clip", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "SECRET" not in said and "checkpoint:https://[REDACTED]@h/x|" in said
    assert not any("SECRET" in path.read_text() for path in (tmp_path / "out").iterdir())
