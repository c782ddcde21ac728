"""Random samples: what is drawn of a task, what a record says of it, and what a report makes of that."""

import argparse
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval import files, records, sample, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError, UsageError
from redundancy_eval.readers.lmms_eval.samples import placing
from redundancy_eval.readers.vlmevalkit import samples as kit
from redundancy_eval.sample import Sample
from tests.helpers.runs import DEMO_TASKS, sweep, table_of

places = st.lists(st.none() | st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy")), max_size=40)


@settings(deadline=None)
@given(places, st.integers(1, 50))
def test_what_does_not_count_is_not_drawn(found, count):
    drawn = Sample(count).draw("task", found)
    own = [place for place in found if place]
    assert drawn.documents == len(own) and drawn.clusters[1] == len(set(own))
    assert all(found[number] for number in drawn.chosen)
    assert sum(part for part, _ in drawn.strata.values()) == len(drawn.chosen) >= min(count, len(own))
    assert sum(of for _, of in drawn.strata.values()) == len(own)
    told = sample.of_task({"sample": Sample(count, 3).as_json({"task": drawn})}, "task")
    few, all_of_them = drawn.clusters
    middle = f" in {few} of {all_of_them} clusters" if all_of_them < len(own) else ""
    assert sample.words(told) == f"{len(drawn.chosen)} of {len(own)} documents{middle} (seed 3)"
    assert not sample.of_task({}, "task") and not sample.settings({})


def test_every_task_whose_score_needs_its_groups_tells_them():
    refused = set()
    for benchmark in taxonomy.load().benchmarks:
        for framework, alternatives in benchmark.sources.items():
            for part in (part for parts in alternatives for part in parts):
                try:
                    assert sample.part_of(framework, part.task) == part
                except SetupError as error:
                    refused.add(part.task)
                    assert "use redundancy_mmbench" in str(error)
    assert refused == {"mmbench_en_dev", "mmbench_en_dev_static"}
    assert sample.part_of("lmms-eval", "a_task_of_ones_own") is None


def test_places_are_those_that_statistics_read():
    place = placing(sample.part_of("lmms-eval", "mme"))
    assert place({"mme_perception_score": {"question_id": "a.png", "category": "count"}}, 7) == ("a.png", "count")
    assert place({"mme_cognition_score": {"question_id": "a.png", "category": "code_reasoning"}}, 7) is None
    assert placing(sample.part_of("lmms-eval", "gqa"))({}, 7) == ("document 7", "")

    def of(task, *rows):
        return kit.places("x.tsv", rows, sample.part_of("vlmevalkit", task))

    assert of("MMBench_DEV_EN", {"index": "5"}, {"index": "1000005"}, {"index": "6"}) == [
        ("5", ""),
        ("5", ""),
        ("6", ""),
    ]
    assert of("MMVP", *({"index": index} for index in ("3", "1", "4", "2"))) == [
        ("1", ""),
        ("0", ""),
        ("1", ""),
        ("0", ""),
    ]
    assert of("CV-Bench-3D", {"index": "5"}) == [("document 5", "Omni3D")]
    rows = [{"index": "5", "category": "OCR", "image_path": "a"}, {"index": "6", "category": "code_reasoning"}]
    assert of("MME", *rows) == [("a", "OCR"), None]
    with pytest.raises(DataError, match="index 'x' is no whole number"):
        of("MMVP", {"index": "x"})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sample", "0"], "argument --sample: a whole number from 1 on is wanted; not '0'"),
        (["--sample", "0.5"], "not '0.5'"),
        (["--sample", "²"], "not '²'"),
        (["--sample", "5", "--sample-seed", "-1"], "a whole number from 0 on is wanted; not '-1'"),
        (["--sample_seed", "1"], "--sample-seed needs --sample N"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep", "plan", "vlmevalkit"])
def test_mistakes_are_one_line(command, more, said, capsys):
    pytest.importorskip("torch", reason="commands that evaluate import it")
    start = [command, "--model", "eagle_masked", "--model_args", "pretrained=demo"]
    start += ["--data", "MME"] if command == "vlmevalkit" else ["--tasks", "redundancy_demo_ocr"]
    assert main([*start, "-o", "w", *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and f"(see redundancy-eval {command} --help)" in err


def test_flags():
    def read(count, seed=None):
        return sample.read(argparse.Namespace(sample=count, sample_seed=seed))

    assert read(None) is None and read(5) == Sample(5, 0) and str(read(200, 7)) == "200@7"
    sample.refuse(None, "--limit", True)
    sample.refuse(Sample(5), "--limit", False)
    with pytest.raises(UsageError, match="--sample and --limit both choose documents"):
        sample.refuse(Sample(5), "--limit", True)


def sampled(folder, *other, tasks=DEMO_TASKS, seed=0, count=10):
    """A sweep whose records tell of a sample: another one for the masks in `other`."""
    sweep(folder)
    for path in folder.glob("drop-*"):
        start = 30 if path.name.removeprefix("drop-") in other else 20
        drawn = Sample(count, seed).draw("task", [(str(number), "") for number in range(start)])
        record = {"model": "eagle_masked", "sample": Sample(count, seed).as_json(dict.fromkeys(tasks, drawn))}
        files.write_json(path / records.NAME, {"schema": 1, **record})
    return folder


def test_a_report_says_that_it_is_of_a_sample(tmp_path):
    table = table_of(sampled(tmp_path, seed=4))
    (note,) = (note for note in table.notes if "random sample" in note)
    assert note.startswith("a random sample of 10 of 20 documents (seed 4), each: demo general, demo knowledge")
    assert "|sample:10@4|" in table.signature
    assert "sample" not in table_of(sweep(tmp_path / "all")).signature
    assert not any("random sample" in note for note in table_of(sampled(tmp_path / "whole", count=20)).notes)


def test_masks_of_two_samples_are_refused(tmp_path, capsys):
    sampled(tmp_path, "clip")
    said = "runs differ in limit: sample: 10 of 20 documents (seed 0) and 10 of 30 documents (seed 0)"
    with pytest.raises(DataError) as error:
        table_of(tmp_path)
    assert "drop-clip" in str(error.value) and said.split("sample")[0] in str(error.value)
    assert main(["report", str(tmp_path), "--lenient", "limit"]) == 0
    assert "of 30 documents (seed 0)" in capsys.readouterr().out


def test_a_sample_beside_all_documents_is_refused(tmp_path):
    sampled(tmp_path)
    path = tmp_path / "drop-all" / records.NAME
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "sample"}))
    with pytest.raises(
        DataError, match=r"sample: 10 of 20 documents \(seed 0\) and nothing|sample: nothing and 10 of 20"
    ):
        table_of(tmp_path)


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda told: told.update(count="ten"), r"sample\.count: expected int"),
        (
            lambda told: told["tasks"]["redundancy_demo_ocr"].update(clusters=[1]),
            r"clusters: expected array of length 2",
        ),
        (lambda told: told["tasks"].update(redundancy_demo_ocr={}), r"the key drawn is missing"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, bend, said):
    sampled(tmp_path)
    path = tmp_path / "drop-all" / records.NAME
    content = json.loads(path.read_text())
    bend(content["sample"])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        table_of(tmp_path)
