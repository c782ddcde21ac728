"""Texts and pictures of single documents: from a framework's files, joined to the scores by document."""

import base64
import gzip
import json

import numpy as np
import pytest

from redundancy_eval import read
from redundancy_eval.answers import Answers, Asked
from redundancy_eval.cli import main
from redundancy_eval.readers import answers
from redundancy_eval.readers.answers import FromFiles, Part, Reply
from tests.helpers.runs import DEMO_TASKS, sweep, write_sweep


def line(doc_id, **more):
    return json.dumps({"doc_id": doc_id, "input": f"q{doc_id}", "target": "red", "filtered_resps": ["blue"], **more})


def test_a_table_s_documents_stand_in_the_order_of_their_scores(tmp_path):
    """Twelve documents: `10` comes before `2` as a text, and after it as a number."""
    right = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1]
    runs = {drop: {task: right for task in DEMO_TASKS} for drop in ("none", "clip", "all")}
    runs["clip"] = runs["all"] = {task: right[::-1] for task in DEMO_TASKS}
    (table,) = read([write_sweep(tmp_path, runs)])
    paired = table.samples["demo general"]
    found = dict(zip(paired.documents.tolist(), paired.scores[table.masks.index(())], strict=True))
    assert found == {str(i): value for i, value in enumerate(right)}
    found = dict(zip(paired.documents.tolist(), paired.scores[table.masks.index(("clip",))], strict=True))
    assert found == {str(i): value for i, value in enumerate(right[::-1])}


def test_lmms_eval_s_samples(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(
        "\n".join([line(0), line(2), line(10, filtered_resps=["a", "b"], target=["x", "y"]), line(3, input=None)])
    )
    found = answers.lmms_eval(path, ["2", "10", "3", "77"])
    assert found == {
        "2": Reply("q2", "red", "blue"),
        "10": Reply("q10", '["x", "y"]', '["a", "b"]'),
        "3": Reply("", "red", "blue"),
    }
    packed = tmp_path / "samples.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert answers.lmms_eval(packed, ["2"]) == {"2": Reply("q2", "red", "blue")}


@pytest.mark.parametrize("bad", ["", "{", "[]", '{"input": "no id"}', "[" * 100_000, "\udcff"])
def test_lines_that_are_no_samples_are_passed_over(tmp_path, bad):
    """The scores' reader has judged the file: blank lines are nothing to it, damaged ones were excused."""
    path = tmp_path / "samples.jsonl"
    path.write_bytes(f"{bad}\n{line(0)}\n".encode("utf-8", "surrogateescape"))
    assert set(answers.lmms_eval(path, ["0"])) == {"0"}
    packed = tmp_path / "samples.jsonl.gz"
    packed.write_bytes(gzip.compress(f"{line(0)}\n".encode() * 9)[:-9])
    assert set(answers.lmms_eval(packed, ["0", "1"])) <= {"0"}


def test_a_page_is_written_where_tables_are(tmp_path, capsys):
    """A blank last line is nothing to the tables, so nor to the page."""
    runs = sweep(tmp_path / "runs")
    for path in runs.rglob("*_samples_*.jsonl"):
        path.write_text(path.read_text() + "\n")
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 0
    assert "question " in (tmp_path / "out" / "report.html").read_text()


def test_vlmevalkit_s_tables(tmp_path):
    import pandas as pd

    rows = {
        "index": [5, 11], "hint": ["Look closely.", ""], "question": ["What is it?", "=1+1"], "A": ["cat", "two"],
        "B": ["dog", "three"], "answer": ["A", "B"], "prediction": ["A", "It is B"],
    }  # fmt: skip
    text = tmp_path / "demo_X.tsv"
    pd.DataFrame(rows).to_csv(text, sep="\t", index=False)
    expected = Reply("Look closely.\nWhat is it?\nA. cat\nB. dog", "A", "A")
    assert answers.vlmevalkit(text, ["5"]) == {"5": expected}
    assert answers.vlmevalkit(text, ["11"])["11"].question == "=1+1\nA. two\nB. three"


def test_answers_are_joined_by_mask_and_task(tmp_path):
    paths = {}
    for number in range(2):
        for mask in ((), ("sam", "clip")):
            path = tmp_path / f"{number}{''.join(mask)}.jsonl"
            path.write_text(line(7, filtered_resps=f"{number}{len(mask)}") + "\n" + line(8, filtered_resps="no"))
            paths[number, mask] = path
    part = [Part(answers.lmms_eval, {mask: paths[n, mask] for mask in ((), ("sam", "clip"))}) for n in range(2)]
    source: Answers = FromFiles({"two parts": part, "one": part[:1]})
    assert source.asked("two parts", ["1:7"]) == {"1:7": Asked("q7", "red", {(): "10", ("clip", "sam"): "12"})}
    assert source.asked("one", ["7", "9"]) == {"7": Asked("q7", "red", {(): "00", ("clip", "sam"): "02"})}
    assert source.asked("none of them", ["7"]) == {}
    assert source.picture("one", "7") is None and source.picture("none of them", "7") is None


def test_pictures_of_a_folder_lead_nowhere_else(tmp_path):
    (tmp_path / "X").mkdir()
    (tmp_path / "X" / "5.jpg").write_bytes(b"five")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    picture = answers.image_folder(tmp_path / "X")
    assert picture("5") == b"five" and picture("6") is None and picture("../secret") is None


def test_pictures_of_a_table_may_name_another_row_s(tmp_path):
    content = base64.b64encode(bytes(np.arange(200, dtype=np.uint8))).decode()
    path = tmp_path / "X.tsv"
    path.write_text(f"index\timage\tquestion\n1\t{content}\ta\n2\t1\tb\n3\tnot base64!\tc\n")
    picture = answers.image_table(path)
    assert picture("1") == picture("2") == bytes(range(200))
    assert picture("3") is None and picture("4") is None
