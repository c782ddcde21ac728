"""What readers tell of each reply: a hash of its text, and whether it is empty."""

import json

import pytest

from redundancy_eval import taxonomy
from redundancy_eval.readers import find
from redundancy_eval.readers.mask_of import MaskOf
from redundancy_eval.runs import reply_digest
from tests.helpers.runs import write_run

TASK = "redundancy_demo_general"


def samples_of(run, task):
    (part,) = (part for part in taxonomy.load().parts(run.framework) if part.task == task)
    return run.tasks[task].samples(part)


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ({"filtered_resps": "B "}, "B "),
        ({"filtered_resps": ["B "]}, "B "),
        ({"resps": [["B "]], "filtered_resps": "B"}, "B "),
        ({"filtered_resps": " \n"}, " \n"),
        ({"filtered_resps": [[-1.5, True]]}, None),
        ({}, None),
    ],
)
def test_lmms_eval_s_samples_tell_replies(tmp_path, said, reply):
    write_run(tmp_path, "none", {TASK: [1, 0]})
    (path,) = tmp_path.rglob("*.jsonl")
    first, second = map(json.loads, path.read_text().splitlines())
    path.write_text(json.dumps(first | said) + "\n" + json.dumps(second | {"filtered_resps": "yes"}) + "\n")
    (run,) = find.read([tmp_path], taxonomy.load())
    samples = samples_of(run, TASK)
    assert samples.replies.tolist() == [reply_digest(reply), reply_digest("yes")]
    assert samples.empty.tolist() == [bool(reply) and not reply.strip(), False]


def test_vlmevalkit_s_predictions_tell_replies(tmp_path):
    stem = tmp_path / "x5" / "x5_GQA_TestDev_Balanced"
    stem.parent.mkdir()
    said = ["yes", " ", "yes ", "yes"]
    for name, column in (("", "answer"), ("_results", "eval_score")):
        rows = [("index", "prediction", column), *((n, f'"{text}"', 1) for n, text in enumerate(said))]
        stem.with_name(f"{stem.name}{name}.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    (run,) = find.read([tmp_path], taxonomy.load(), told=[MaskOf.parse("x5=none")])
    samples = samples_of(run, "GQA_TestDev_Balanced")
    assert samples.replies.tolist() == list(map(reply_digest, said))
    assert samples.empty.tolist() == [False, True, False, False]
