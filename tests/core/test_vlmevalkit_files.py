"""What VLMEvalKit's files say, in small folders as its versions write them."""

import csv
import json
import os

import numpy as np
import pytest

from redundancy_eval import api, metrics, records, taxonomy
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.options import Options
from redundancy_eval.pruned import Pruned
from redundancy_eval.readers import find
from redundancy_eval.readers.mask_of import MaskOf
from redundancy_eval.readers.vlmevalkit import spreadsheets

OPTIONS = Options(encoders=("clip", "convnext"), mask_of=("x5-full=none", "x5-noclip=clip"))
EXACT = "Match Log: Failed in Prefetch, no GPT-based answer matching under `exact_matching` policy.. "
DRAWN = "Match Log: Failed to predict, thus randomly generate one. . "
SENTENCE = "It is the thing that the arrow points to, as the caption below the drawing says in more words"
GQA = "GQA_TestDev_Balanced"


def write_table(path, rows):
    """Rows (dictionaries) as VLMEvalKit writes tsv and csv files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t", quoting=1)
        writer.writeheader()
        writer.writerows(rows)


def asked(said, **more):
    return [
        {"index": n, "question": f"What is at {n}?", "A": "frog", "B": "egg", "answer": "B", **more, "prediction": text}
        for n, text in enumerate(said, 1)
    ]


def write(folder, said, hits=None, logs=None, *, data="RealWorldQA", judge="exact_matching", model=None, **more):
    """A run on a set of multiple choice; without `hits` "B" is right."""
    stem = folder / f"{model or folder.name}_{data}"
    hits = [int(text == "B") for text in said] if hits is None else hits
    logs = logs or [f"Match Log: {text}. " for text in said]
    rows = asked(said, **more)
    write_table(stem.with_name(f"{stem.name}.tsv"), rows)
    verdicts = [row | {"hit": hit, "log": log} for row, hit, log in zip(rows, hits, logs, strict=True)]
    write_table(stem.with_name(f"{stem.name}_{judge}_result.tsv"), verdicts)
    write_table(stem.with_name(f"{stem.name}_acc.csv"), [{"split": "none", "Overall": sum(hits) / len(hits)}])
    return stem


def write_pair(folder, said=("BBBA", "BBAA"), below="", **more):
    for name, texts in zip(("x5-full", "x5-noclip"), said, strict=True):
        write(folder / name / below, list(texts), model=name, **more)


def read(folder, *lenient, options=OPTIONS):
    (table,) = api.read([folder], Options(**(vars(options) | {"lenient": lenient})))
    return table


def runs(folder, *lenient):
    chosen, told = taxonomy.load(), [MaskOf.parse(text) for text in OPTIONS.mask_of]
    return find.read([folder], chosen, Leniency(lenient), told)


def column(table, name):
    return table.points[:, [b.name for b in table.benchmarks].index(name)].tolist()


# The judge.


@pytest.mark.parametrize("judge", ["openai", "gpt-4o-mini", "a_b-c"])
def test_the_log_tells_who_judged(tmp_path, judge):
    write(tmp_path / "x5-full", [SENTENCE] * 4, [1] * 4, ["Match Log: B. "] * 4, judge=judge)
    write(tmp_path / "x5-noclip", [SENTENCE] * 4, [0] * 4, [EXACT] * 4, judge=judge)
    message = rf"x5-full and .*x5-noclip, task RealWorldQA: runs differ in judge: .*{judge} and exact_matching"
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    notes = " ".join(read(tmp_path, "judge").notes)
    assert f"x5-noclip_RealWorldQA_{judge}_result.tsv: the judge was {judge}" in notes and "no one was asked" in notes


def test_exact_matching_under_whatever_name_is_exact_matching(tmp_path):
    write(tmp_path / "x5-full", ["B", "B"], judge="exact_matching")
    write(tmp_path / "x5-noclip", ["B", "x"], [1, 0], ["Match Log: B. ", EXACT], judge="gpt4")
    assert column(read(tmp_path), "RealWorldQA") == [100, 50]


def test_verdicts_of_a_judge_among_those_of_exact_matching_are_refused(tmp_path):
    write_pair(tmp_path)
    write(tmp_path / "x5-noclip", [SENTENCE, "x"], [1, 0], ["Match Log: B. ", EXACT], judge="openai")
    (tmp_path / "x5-noclip" / "x5-noclip_RealWorldQA_exact_matching_result.tsv").unlink()
    with pytest.raises(DataError, match=r"_openai_result\.tsv:2: the verdict was made by a judge"):
        read(tmp_path)


def test_a_status_that_names_another_judge_than_the_file_is_said(tmp_path):
    write_pair(tmp_path, judge="gpt-4o-mini")
    status = {"datasets": {"RealWorldQA": {"status": "done", "judge_model": "qwen-72b"}}}
    (tmp_path / "x5-full" / "status.json").write_text(json.dumps(status))
    with pytest.raises(DataError, match="runs differ in judge: .*qwen-72b.* and .*gpt-4o-mini"):
        read(tmp_path)
    told = " ".join(read(tmp_path, "judge").notes)
    assert "the verdicts are gpt-4o-mini's by their file's name, the run asked qwen-72b" in told


def test_verdicts_that_were_drawn_are_none(tmp_path):
    write(tmp_path / "x5-full", ["B", "B", SENTENCE], [1, 1, 1], ["Match Log: B. "] * 2 + [DRAWN], judge="gpt4")
    write(tmp_path / "x5-noclip", ["B", "A", "A"], judge="gpt4")
    table = read(tmp_path)
    assert np.isnan(column(table, "RealWorldQA")[0]) and column(table, "RealWorldQA")[1] == pytest.approx(100 / 3)
    assert "1 of 3 verdicts on RealWorldQA were drawn at random" in " ".join(table.notes)
    assert column(read(tmp_path, "drawn"), "RealWorldQA")[0] == 100
    assert column(read(tmp_path, "missing-answers"), "RealWorldQA")[0] == 100


def write_mathvista(
    folder, extracted, right, logs=None, options="['up', 'down', 'level']", model=None, said="It falls."
):
    stem = folder / f"{model or folder.name}_MathVista_MINI"
    rows = [
        {"index": n, "question": f"Curve {n}?", "question_type": "multi_choice", "answer_type": "text",
         "answer": "down", "answer_option": "B", "choices": options, "prediction": said} for n in range(len(extracted))
    ]  # fmt: skip
    logs = logs or ["Succeed"] * len(extracted)
    write_table(stem.with_name(f"{stem.name}.tsv"), rows)
    verdicts = [row | {"res": res, "log": log} for row, res, log in zip(rows, extracted, logs, strict=True)]
    write_table(stem.with_name(f"{stem.name}_gpt4.tsv"), verdicts)
    number = {"Task&Skill": "Overall", "acc": 100 * right / len(extracted)}
    write_table(stem.with_name(f"{stem.name}_gpt4_score.csv"), [number])


def test_a_judge_that_gave_up_leaves_verdicts_missing(tmp_path):
    gave_up = "Try 0: output is It falls., failed to parse.\nAll 5 retries failed.\n"
    write_mathvista(tmp_path / "x5-full", ["B", "B", "A"], 2)
    write_mathvista(tmp_path / "x5-noclip", ["B", "", "A"], 1, ["Succeed", gave_up, "Succeed"])
    table = read(tmp_path)
    assert np.isnan(column(table, "MathVista")[1])
    assert "1 of 3 verdicts on MathVista_MINI are missing (the judge did not answer)" in " ".join(table.notes)
    assert column(read(tmp_path, "missing-answers"), "MathVista")[1] == 50


# Which rule reads an option from a text.

FIRST_WORD = "B is the right option, because the curve goes down all the time in the picture"
ANSWER_IS = "The correct answer is **B**. This can be seen where the line leaves the upper edge of the drawing"


@pytest.mark.parametrize(
    ("text", "below", "status"),
    [
        (FIRST_WORD, "T20250703_G989e33b2", None),
        (FIRST_WORD, "T20250703_Gaaaaaaaa", None),
        (FIRST_WORD, "T20260703-101010", "989e33b2"),
        (ANSWER_IS, "T20260818-120000", "e8e78f05"),
        (ANSWER_IS, "T20260818-120000", "abcdef12"),
        (ANSWER_IS, "T20260301-120000", None),
        (ANSWER_IS, "", None),
        (FIRST_WORD, "", None),
    ],
)
def test_options_are_read_as_the_version_did(tmp_path, text, below, status):
    for name, right in (("x5-full", 3), ("x5-noclip", 2)):
        folder = tmp_path / name / below
        write_mathvista(folder, [text] * right + ["A"] * (4 - right), right, model=name)
        if status:
            (folder / "status.json").write_text(json.dumps({"commit": status}))
    table = read(tmp_path)
    assert column(table, "MathVista") == [75, 50]
    told = "VLMEvalKit's version is not known" in " ".join(table.notes)
    assert told == (below in ("", "T20260301-120000"))


def test_masks_whose_options_were_read_by_two_rules_tell_it(tmp_path):
    write_mathvista(tmp_path / "x5-full", [FIRST_WORD, "A"], 1)
    write_mathvista(tmp_path / "x5-noclip", ["The answer is **B**. It is not A, as one sees from far away", "A"], 1)
    told = {run.versions.get("vlmevalkit-options") for run in runs(tmp_path)}
    assert told == {"before August 2025", "since June 2026"}


# Sets without a file of verdicts.


def write_vqa(folder, said, number, *, question="How many?", below="", **more):
    stem = folder / below / f"{folder.name}_ChartQA_TEST"
    rows = [
        {"index": n, "question": f"{question} {n}", "answer": "['2']", **more, "prediction": s}
        for n, s in enumerate(said)
    ]
    write_table(stem.with_name(f"{stem.name}.tsv"), rows)
    write_table(stem.with_name(f"{stem.name}_acc.csv"), [{"Overall": number}])


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (
            {"said": ["2"] * 3},
            "task ChartQA_TEST: 4 and 3 predictions; document 3 is in .*x5-full/T20250703_G989e33b2 only",
        ),
        ({"question": "In a word, how many?"}, "document 0 of task ChartQA_TEST was asked or scored otherwise"),
        ({"split": "human"}, "document 0 of task ChartQA_TEST was asked or scored otherwise"),
    ],
)
def test_predictions_without_verdicts_are_compared(tmp_path, more, match):
    write_vqa(tmp_path / "x5-full", ["2"] * 4, 100, below="T20250703_G989e33b2")
    write_vqa(tmp_path / "x5-noclip", **({"said": ["2"] * 4, "number": 50, "below": "T20250703_G989e33b2"} | more))
    with pytest.raises(DataError, match=match):
        read(tmp_path)


def test_replies_that_failed_leave_a_hole_without_verdicts_too(tmp_path):
    write_vqa(tmp_path / "x5-full", ["2"] * 4, 100)
    write_vqa(tmp_path / "x5-noclip", ["2", "Failed to obtain answer via API.", "2", "2"], 75)
    table = read(tmp_path)
    assert column(table, "ChartQA")[0] == 100 and np.isnan(column(table, "ChartQA")[1])
    assert "1 of 4 answers on ChartQA_TEST are missing" in " ".join(table.notes)
    assert table.documents == (4,) and "documents:4|" in table.signature
    assert column(read(tmp_path, "missing-answers"), "ChartQA")[1] == 75


# Circular sets.


def write_circular(folder, asked_at, wording="What?"):
    """Two questions; `asked_at` says at which rotations each was asked."""
    stem = folder / f"{folder.name}_MMBench_DEV_EN"
    rows = [
        {"index": turn * 1_000_000 + n, "question": f"{wording if turn else 'What?'} {n}", "A": "x", "B": "y",
         "split": "dev", "answer": "B", "prediction": "B"} for n, turns in asked_at.items() for turn in turns
    ]  # fmt: skip
    write_table(stem.with_name(f"{stem.name}.tsv"), rows)
    verdicts = [
        row | {"g_index": row["index"], "hit": 1, "log": "Succeed During Pre-fetching"}
        for row in rows
        if row["index"] < 1e6
    ]
    write_table(stem.with_name(f"{stem.name}_exact_matching_result.tsv"), verdicts)
    write_table(stem.with_name(f"{stem.name}_acc.csv"), [{"split": "dev", "Overall": 1}])


@pytest.mark.parametrize(
    ("asked_at", "wording", "match"),
    [
        ({1: [0], 2: [0]}, "What?", "4 and 2 predictions; document 1000001 is in .*x5-full only"),
        ({1: [0, 1], 2: [0]}, "What?", "4 and 3 predictions; document 1000002 is in .*x5-full only"),
        ({1: [0, 1], 2: [0, 2]}, "What?", "document 2 of task MMBench_DEV_EN was asked"),
        ({1: [0, 1], 2: [0, 1]}, "Which?", "document 1 of task MMBench_DEV_EN was asked"),
        ({1: [1, 2], 2: [0, 1]}, "What?", r"MMBench_DEV_EN\.tsv: document 1 was asked in rotation only \(1000001\)"),
    ],
)
def test_all_rotations_are_compared(tmp_path, asked_at, wording, match):
    write_circular(tmp_path / "x5-full", {1: [0, 1], 2: [0, 1]})
    write_circular(tmp_path / "x5-noclip", asked_at, wording)
    with pytest.raises(DataError, match=match):
        read(tmp_path)


def test_drawn_options_in_circular_groups(tmp_path):
    for name in ("x5-full", "x5-noclip"):
        write_circular(tmp_path / name, {1: [0, 1], 2: [0, 1]})
    path = tmp_path / "x5-noclip" / "x5-noclip_MMBench_DEV_EN_exact_matching_result.tsv"
    judged = path.with_name("x5-noclip_MMBench_DEV_EN_gpt4_result.tsv")
    log = "Rolling 0 Matched.\nFailed in Rolling 1: Answer is A; Prediction is x; Pre-fetched is B; Match Log is "
    drawn = f"{log}Failed to predict, thus randomly generate one. .\n"
    judged.write_text(
        path.read_text().replace("Succeed During Pre-fetching", drawn, 1).replace('"1"\t"1"', '"1"\t"0"', 1)
    )
    path.unlink()
    (tmp_path / "x5-noclip" / "x5-noclip_MMBench_DEV_EN_acc.csv").write_text("split,Overall\ndev,0.5\n")
    table = read(tmp_path, "judge")
    assert "1 of 2 verdicts on MMBench_DEV_EN were drawn at random" in " ".join(table.notes)


# Versions, folders, names.


def test_the_kit_s_version_is_that_of_its_folder_or_status(tmp_path):
    write_pair(tmp_path / "a", below="T20250703_G989e33b2")
    assert "|vlmevalkit:989e33b2|" in read(tmp_path / "a").signature
    write_pair(tmp_path / "b", below="T20260801-101500")
    for name in ("x5-full", "x5-noclip"):
        path = tmp_path / "b" / name / "T20260801-101500" / "status.json"
        path.write_text(json.dumps({"commit": "e8e78f05"}))
    assert "|vlmevalkit:e8e78f05|" in read(tmp_path / "b").signature
    write(tmp_path / "b" / "x5-noclip", list("AAAA"), model="x5-noclip", data="AI2D_TEST")
    write(tmp_path / "b" / "x5-full", list("BBBB"), model="x5-full", data="AI2D_TEST")
    assert "vlmevalkit's version is not recorded by" in " ".join(read(tmp_path / "b").notes)
    record = {"model": "eagle_masked", "arguments": {"drop": "none"}, "versions": {"vlmevalkit": "ms-vlmeval 0.0.20"}}
    write(tmp_path / "c", ["B"])
    records.write(record, tmp_path / "c")
    (tmp_path / "c" / "status.json").write_text(json.dumps({"commit": "0123abcd"}))  # of the user's own git tree
    (run,) = find.read([tmp_path / "c"], taxonomy.load())
    assert run.versions["vlmevalkit"] == "ms-vlmeval 0.0.20"


def test_folders_may_be_renamed(tmp_path):
    for name, said in (("full", "BBBA"), ("noclip", "BBAA")):
        write(tmp_path / name, list(said), model="x5")
    told = Options(encoders=("clip", "convnext"), mask_of=("full=none", "noclip=clip"))
    table = read(tmp_path, options=told)
    assert column(table, "RealWorldQA") == [75, 50] and table.model == "x5"
    with pytest.raises(SetupError, match="say so with --mask-of 'full=none'"):
        read(tmp_path, options=Options())


def test_models_in_one_folder_are_told_apart(tmp_path):
    for name, said in (("x5-full", "BBBA"), ("x5-noclip", "BBAA")):
        write(tmp_path / "all", list(said), model=name)
    assert column(read(tmp_path), "RealWorldQA") == [75, 50]


def test_anyone_s_table_is_no_run(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "x5-full" / "notes").mkdir()
    (tmp_path / "x5-full" / "notes" / "my_MME.tsv").write_text("a\tb\n")
    assert column(read(tmp_path), "RealWorldQA") == [75, 50]


def test_data_sets_outside_the_taxonomy_are_named(tmp_path):
    write_pair(tmp_path, data="MMStar")
    write_pair(tmp_path, data="MMBench_DEV_EN_V11")
    with pytest.raises(DataError, match=r"in the taxonomy five: MMBench_DEV_EN_V11, MMStar \(--taxonomy FILE"):
        read(tmp_path)
    write_pair(tmp_path)
    write_mathvista(tmp_path / "x5-full", ["B"], 1)
    notes = " ".join(read(tmp_path).notes)
    assert "not in the taxonomy five, left out: MMBench_DEV_EN_V11, MMStar" in notes
    write(tmp_path / "other", ["B"], data="MMStar")  # nobody needs its mask
    assert f"{tmp_path / 'other'}: only data sets that are not in the taxonomy (MMStar)" in " ".join(
        read(tmp_path).notes
    )


@pytest.mark.parametrize(
    "more", [{"thinking": "I look."}, {"extra_records": "{}"}, {"thinking": "", "extra_records": "1"}]
)
def test_columns_of_the_reply_may_differ(tmp_path, more):
    write(tmp_path / "x5-full", list("BBBA"))
    write(tmp_path / "x5-noclip", list("BBAA"), **more)
    assert column(read(tmp_path), "RealWorldQA") == [75, 50]


# Two runs of one mask.


def test_copies_are_one_run_and_a_run_s_own_folder_is_newer_than_what_lies_above_it(tmp_path):
    write_pair(tmp_path, below="T20250703_G989e33b2")
    write_pair(tmp_path)
    assert column(read(tmp_path), "RealWorldQA") == [75, 50]
    (tmp_path / "x5-full" / "x5-full_RealWorldQA.tsv").unlink()  # not all was copied
    assert column(read(tmp_path), "RealWorldQA") == [75, 50]
    write_pair(tmp_path, ("BAAA", "BAAA"))
    with pytest.raises(DataError, match=r"two runs of drop=none .*x5-full and .*T20250703_G989e33b2, the newer one"):
        read(tmp_path)
    assert column(read(tmp_path, "duplicate-runs"), "RealWorldQA") == [75, 50]


@pytest.mark.parametrize("how", ["names", "status", "files"])
def test_the_newest_run_counts(tmp_path, how):
    write(tmp_path / "x5-full", list("BBBB"))
    for name, day, said in (("b", 1, "BAAA"), ("a", 2, "BBBA")):
        below = f"T2025050{day}_G989e33b2" if how == "names" else ""
        write(tmp_path / name / "x5-noclip" / below, list(said), model="x5-noclip")
        folder = tmp_path / name / "x5-noclip" / below
        if how == "status":
            (folder / "status.json").write_text(json.dumps({"created_at": f"2025-05-0{day}T10:00:00+08:00"}))
        for path in folder.iterdir() if how == "files" else ():
            os.utime(path, (1746093600 + 86400 * day,) * 2)
    with pytest.raises(DataError, match=r"two runs of drop=clip .*b/x5-noclip.* and .*a/x5-noclip.*, the newer one"):
        read(tmp_path)
    assert column(read(tmp_path, "duplicate-runs"), "RealWorldQA") == [100, 75]


def test_of_two_runs_of_one_time_none_is_the_newer(tmp_path):
    write(tmp_path / "x5-full", list("BBBB"))
    for name, said in (("a", "BAAA"), ("b", "BBBA")):
        write(tmp_path / name / "x5-noclip", list(said))
        for path in (tmp_path / name / "x5-noclip").iterdir():
            os.utime(path, (1746093600, 1746093600))
    with pytest.raises(DataError, match="which is the newer one cannot be told"):
        read(tmp_path, "duplicate-runs")


# One encoder.


def test_one_encoder_has_no_information_gap(tmp_path):
    write_pair(tmp_path)
    table = read(tmp_path, options=Options(encoders=("clip",), mask_of=OPTIONS.mask_of))
    assert np.isnan(metrics.information_gap(table.cur())).all() and not np.isnan(table.cur()).all()
    assert "with one encoder there is no gap between encoders" in " ".join(table.notes)


# Records of ours.


def recorded(folder, drop, right=3, **more):
    passed = more.pop("passed", ["--judge", "exact_matching"])
    stem = write(folder / f"eagle_masked_drop-{drop}_{right:08}", ["B"] * right + ["A"])
    record = {
        "model": "eagle_masked",
        "encoders": ["clip", "convnext"],
        "arguments": {"pretrained": "x5", "drop": drop},
    }
    records.write({**record, "passed": passed, "judge": "exact_matching", **more}, stem.parent)
    return stem


def test_a_run_of_a_pruned_checkpoint_is_the_mask_of_the_whole_model(tmp_path):
    told = Pruned(("clip", "convnext"), ("clip",), "x5", "source").as_json()
    recorded(tmp_path, "none", 4)
    arguments = {"pretrained": "x5-small", "drop": "none"}
    recorded(tmp_path / "small", "clip", 4, arguments=arguments, pruned=told)
    table = read(tmp_path, options=Options())
    assert table.masks == ((), ("clip",)) and "pruned:clip" in table.signature and "checkpoint:x5|" in table.signature


@pytest.mark.parametrize(
    ("passed", "match"),
    [
        (["--use-verifier"], "runs differ in judge: .*use-verifier"),
        (
            ["--judge-args", '{"temperature": 1, "key": "sk-secret", "api_token": "hf-secret"}'],
            "differ in judge: .*temperature",
        ),
        (["--limit", "4"], "runs differ in limit"),
    ],
)
def test_other_arguments_that_were_passed_are_refused(tmp_path, passed, match):
    recorded(tmp_path, "none", 4)
    recorded(tmp_path, "clip", 4, passed=["--judge", "exact_matching", *passed])
    with pytest.raises(DataError, match=match) as refused:
        read(tmp_path, options=Options())
    assert "-secret" not in str(refused.value)


def test_masks_that_were_asked_another_data_file_are_refused(tmp_path):
    recorded(tmp_path, "none", 4, data={"RealWorldQA": "0123", "MME": "89ab"})
    recorded(tmp_path, "clip", 3, data={"RealWorldQA": "4567"})
    with pytest.raises(DataError, match="task RealWorldQA: runs differ in dataset: data file: (0123|4567) and "):
        read(tmp_path, options=Options())
    recorded(tmp_path, "clip", 3, data={"RealWorldQA": "0123"})
    assert column(read(tmp_path, "documents", options=Options()), "RealWorldQA") == [80, 75]


# Numbers and damage.


@pytest.mark.parametrize("hit", ["100", "-1", "1.01", "nan", "inf", "1e400", "1_0", "x", ""])
def test_scores_outside_0_to_1_are_refused_with_their_line(tmp_path, hit):
    write_pair(tmp_path)
    write(tmp_path / "x5-noclip", ["B", "A"], [1, 0])
    path = tmp_path / "x5-noclip" / "x5-noclip_RealWorldQA_exact_matching_result.tsv"
    path.write_text(path.read_text().replace('"0"\t"Match', f'"{hit}"\t"Match'))
    with pytest.raises(DataError, match=r"_result\.tsv:3: (document 2 scores|no score)"):
        read(tmp_path)


NO_NUMBERS = (
    "[]", "{}", "[1]", "null", '{"Overall": null}', '{"Overall": true}', '{"Overall": 1e400}', '{"Overall": []}',
    '{"Overall": "7_5"}', "[" * 100_000, '{"Overall": 1' + "0" * 5000 + "}", '{"Overall": "x"}', "\xff",
)  # fmt: skip


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_a_number_that_is_none_is_one_line(tmp_path, number):
    write_pair(tmp_path)
    path = tmp_path / "x5-noclip" / "x5-noclip_RealWorldQA_acc.csv"
    path.unlink()
    path.with_suffix(".json").write_bytes(number.encode("latin-1"))
    try:
        table = read(tmp_path)
    except DataError as error:
        assert str(path.with_suffix(".json")) in str(error) and len(str(error)) < 500
    else:
        assert np.isnan(column(table, "RealWorldQA")[1])
        assert "drop=clip: RealWorldQA has no score: x5-noclip/x5-noclip_RealWorldQA_acc.json" in " ".join(table.notes)


NO_STATUS = (
    "[]", '{"datasets": "x"}', '{"datasets": {"RealWorldQA": null}}', '{"datasets": {"RealWorldQA": {"status": 1}}}',
    '{"commit": []}', "[" * 100_000, '{"datasets": {"\\ud800": {}}}', "{",
)  # fmt: skip


@pytest.mark.parametrize("status", NO_STATUS)
def test_a_status_of_another_form_is_one_line(tmp_path, status):
    write_pair(tmp_path)
    (tmp_path / "x5-full" / "status.json").write_text(status)
    with pytest.raises(DataError, match=r"x5-full/status\.json"):
        read(tmp_path)


@pytest.mark.parametrize("error", ["", " ", "CUDA out of memory\nTraceback"])
def test_an_error_in_the_status_is_a_reason(tmp_path, error):
    write_pair(tmp_path)
    write_pair(tmp_path, data="AI2D_TEST")
    status = {"datasets": {"RealWorldQA": {"error_message": error}}}
    (tmp_path / "x5-full" / "status.json").write_text(json.dumps(status))
    said = error.strip().partition("\n")[0] or "an exception without a message"
    assert f"VLMEvalKit says: {said}" in " ".join(read(tmp_path).notes)


NO_LISTS = ["-" * 200_000 + "1", "[" * 200_000, "1" + "0" * 5000, "None", "(", "x"]


@pytest.mark.parametrize("cell", [*NO_LISTS, "[]", "{}", "['a', 1]", "[1e999]"])
@pytest.mark.parametrize(
    ("data", "suffix", "column_"),
    [("ChartQA_TEST", "_results", "eval_match"), ("DocVQA_VAL", "_results", "eval_match"), ("OCRBench", "", "answer")],
)
def test_cells_that_are_no_lists_are_no_scores(tmp_path, data, suffix, column_, cell):
    if data == "OCRBench" and cell not in NO_LISTS:
        return  # lists of any words
    stem = tmp_path / "x5-full" / f"x5-full_{data}"
    row = {"index": 0, "question": "?", "category": "c", column_: cell, "prediction": "a"}
    write_table(stem.with_name(f"{stem.name}.tsv"), [row])
    write_table(stem.with_name(f"{stem.name}{suffix}.tsv"), [row])
    write_table(stem.with_name(f"{stem.name}_acc.csv"), [{"Overall": 100}])
    write_table(stem.with_name(f"{stem.name}_score.csv"), [{"Final Score Norm": 100}])
    with pytest.raises(DataError, match=r"\.tsv:2: (no score|document 0 scores)|but its samples give 0"):
        read(tmp_path, options=Options(encoders=("clip",), mask_of=("x5-full=none",)))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("prediction", "reply", "no column 'prediction'"),
        ("index", "number", "no column 'index'"),
        ("question", "answer", "two columns 'answer'"),
        ('"1"\t"What', f'"{"1" * 5000}"\t"What', "an index of 5000 characters"),
        ('"1"\t"What', '"2"\t"What', "document 2 stands twice"),
    ],
)
def test_tables_of_another_form_are_one_line(tmp_path, old, new, match):
    write_pair(tmp_path)
    path = tmp_path / "x5-full" / "x5-full_RealWorldQA.tsv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=rf"x5-full_RealWorldQA\.tsv:\d: {match}"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".tsv", "_exact_matching_result.tsv", "_acc.csv"])
def test_pipes_among_results_are_refused(tmp_path, suffix):
    write_pair(tmp_path)
    path = tmp_path / "x5-full" / f"x5-full_RealWorldQA{suffix}"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="no regular file"):
        read(tmp_path)


@pytest.mark.parametrize("index", ["x", "", "1.5", "9" * 60])
@pytest.mark.parametrize("data", ["MMBench_DEV_EN", "MMVP"])
def test_indices_that_are_no_numbers_are_one_line(tmp_path, data, index):
    write_pair(tmp_path, data=data, split="dev")
    for path in (tmp_path / "x5-full").glob("*.tsv"):
        path.write_text(path.read_text().replace('"1"\t"What', f'"{index}"\t"What'))
    with pytest.raises(DataError, match=r"is no whole number|only here or only in"):
        read(tmp_path)


def test_long_texts_are_no_wider_arrays(tmp_path):
    """An array of texts holds each at the width of the longest."""
    stem = tmp_path / "x5-full" / "x5-full_MME"
    rows = [
        {
            "index": n,
            "category": "count",
            "image_path": "p" * 10**6,
            "question": "?",
            "answer": "Yes",
            "prediction": "Yes",
        }
        for n in range(4)
    ]
    write_table(stem.with_name("x5-full_MME.tsv"), rows)
    write_table(stem.with_name("x5-full_MME_auxmatch.tsv"), [row | {"score": "True"} for row in rows])
    write_table(stem.with_name("x5-full_MME_score.csv"), [{"perception": 200}])
    (run,) = find.read([tmp_path], taxonomy.load(), told=[MaskOf.parse("x5-full=none")])
    (part,) = (part for part in taxonomy.load().parts("vlmevalkit") if part.task == "MME")
    assert run.tasks["MME"].samples(part).clusters.itemsize < 1000


def test_formulas_stay_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheets, "FORMULA", "<formula>")  # no table of text holds the real mark
    write_pair(tmp_path)
    path = tmp_path / "x5-noclip" / "x5-noclip_RealWorldQA.tsv"
    path.write_text(path.read_text().replace('"B"\n', f'"{spreadsheets.FORMULA}"\n', 1))
    table = read(tmp_path)
    assert np.isnan(column(table, "RealWorldQA")[1]) and "1 of 4 predictions began with '='" in " ".join(table.notes)
