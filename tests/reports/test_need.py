"""Runs under zeros and with linear stand-ins: which are one model's, and what a report says of them."""

import csv
import json

import pytest

from redundancy_eval import api, records, stand_ins
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.reports import captions, headline, report, write
from redundancy_eval.uncertainty import Settings
from tests.helpers.runs import DEMO_TASKS, write_run, write_sweep

GUESS = ",ablation=predicted,calibration=c.safetensors"
ZEROS = {"none": 0, "clip": 0, "convnext": 20, "pix2struct": 60, "eva02": 50, "all": 120}
PREDICTED = {"none": 0, "clip": 0, "convnext": 12, "pix2struct": 0, "eva02": 25, "all": 110}


def runs(folder, lost, args="", **bend):
    """Of 200 documents a task, 150 are right, less those that each mask loses."""
    tasks = DEMO_TASKS[: bend.pop("tasks", 5)]
    made = {drop: {t: [0] * n + [1] * (150 - n) + [0] * 50 for t in tasks} for drop, n in lost.items()}
    return write_sweep(folder, made, args=args, **bend)


@pytest.fixture
def both(tmp_path):
    return runs(tmp_path / "zeros", ZEROS), runs(tmp_path / "predicted", PREDICTED, GUESS)


def without_full(lost):
    return {drop: n for drop, n in lost.items() if drop != "none"}


def say(folder, drop, **calibration):
    (path,) = (folder / f"drop-{drop}").glob("ck/*_results.json")
    records.write({"model": "eagle_masked", "mask": drop, "calibration": calibration}, path.parent)


def test_the_report_says_what_is_needed_and_verify_finds_it_again(both, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["report", *map(str, both), "-o", str(out), "--figures", "svg"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "demo, with the other encoders' linear guess in place of what is dropped: the model needs eva02 (CUR 16.7 % "
        "[14.0, 19.4]; under zeros 33.3 %) and convnext (CUR 8.0 % [6.0, 10.0]; under zeros 13.3 %); pix2struct (CUR "
        "0.00 % [-0.37, 0.37]; under zeros 40.0 %) is relied on under zeros, and replaceable by the others; clip (CUR "
        "0.00 % [-0.37, 0.37]; under zeros 0.00 %) is redundant either way (less than 2 % of the score).\n\n"
        "demo: the model relies on pix2struct"
    )
    assert "\n\ndemo, predicted: the model needs eva02" in printed
    assert printed.index("### Relied on and needed (CUR, %)") < printed.index("### Verdicts")
    with (out / "need.csv").open() as handle:
        rows = {(row["encoder"], row["category"]): row for row in csv.DictReader(handle)}
    assert len(rows) == 24 and {key[1] for key in rows} >= {"Overall", "OCR"}
    overall = rows["pix2struct", "Overall"]
    assert (overall["verdict"], overall["zeros_verdict"], overall["predicted_verdict"]) == (
        "replaceable", "relied on", "redundant",
    )  # fmt: skip
    assert float(overall["difference_value"]) == float(overall["zeros_cur"]) - float(overall["predicted_cur"]) == 0.4
    assert 0 < float(overall["difference_low"]) < 0.4 < float(overall["difference_high"])
    zeros, predicted = json.loads((out / "report.json").read_text())["models"]
    assert zeros["stand_ins"] == predicted["name"] == "demo, predicted" and predicted["stand_ins"] is None
    assert printed.startswith(zeros["need"]) and predicted["need"] == ""
    assert {each["verdict"] for each in zeros["needs"] if each["place"] == "Overall"} == {
        "needed", "replaceable", "redundant",
    }  # fmt: skip
    assert "& replaceable" in (out / "need.tex").read_text() and r"\input{need.tex}" in (out / "main.tex").read_text()
    assert (out / "figures" / "need.svg").is_file() and (out / "need_subsets.csv").is_file()
    assert (out / "report.html").read_text().count('class="model"') == 1
    assert main(["verify", str(out), *map(str, both)]) == 0
    (out / "need.csv").write_text((out / "need.csv").read_text().replace("replaceable", "needed", 1))
    assert main(["verify", str(out), *map(str, both)]) == 3


def test_prompts_with_images_of_the_calibration_are_counted(both):
    about = "show images that the calibration of the stand-ins was made of (no question or label was looked at)"
    for drop, count in (("clip", 7), ("eva02", 7), ("convnext", 6)):
        (path,) = (both[1] / f"drop-{drop}").glob("ck/*_results.json")
        records.write({"model": "eagle_masked", "mask": drop, "calibrated": count}, path.parent)
    zeros, predicted = api.read(both)
    assert f"7 prompts {about}" in predicted.notes and not any("show images" in note for note in zeros.notes)
    (path,) = (both[1] / "drop-clip").glob("ck/*_results.json")
    told = {"model": "eagle_masked", "mask": "clip", "calibrated": 7, "resolved": {"processes": 2}}
    records.write(told, path.parent)
    assert f"at least 7 prompts {about}" in api.read(both)[1].notes


def test_the_full_model_need_not_be_asked_twice(both, tmp_path):
    once = runs(tmp_path / "once", without_full(PREDICTED), GUESS)
    twice, alone = (report.build(api.read(folders)) for folders in (both, (both[0], once)))
    assert twice.models[0].model.needs == alone.models[0].model.needs
    back = report.build(api.read([runs(tmp_path / "z", without_full(ZEROS)), both[1]]))
    assert {said.need for said in back.models} == {twice.models[0].need, ""}


def test_two_full_models_that_score_otherwise_are_refused(both, tmp_path):
    path = write_run(both[1], "none", {t: [0] + [1] * 150 + [0] * 49 for t in DEMO_TASKS}, args=GUESS)
    with pytest.raises(DataError, match="the full model was asked twice, under zero and predicted, and 2 of 200 docum"):
        api.read(both)
    path.unlink()
    assert len(api.read(both)) == 2
    limited = runs(tmp_path / "limited", PREDICTED, GUESS, limit=200)
    with pytest.raises(DataError, match="runs differ in limit"):
        api.read([both[0], limited])
    other = runs(tmp_path / "other", PREDICTED, GUESS, wording="!")
    with pytest.raises(DataError, match="was asked or scored otherwise"):
        api.read([both[0], other])


def test_two_calibrations_are_refused(tmp_path):
    folder = runs(tmp_path, {"none": 0, "clip": 1}, GUESS)
    runs(tmp_path, {"eva02": 5}, GUESS.replace("c.", "other."))
    with pytest.raises(DataError, match=r"differ in calibration: 'c.safetensors' and 'other.safetensors'"):
        api.read([folder])
    for drop in ("none", "clip", "eva02"):  # one file by two paths
        say(folder, drop, sample="0001", count="500")
    (table,) = api.read([folder])
    assert len(table.masks) == 3 and "|ablation:predicted|calibration:0001|images:500|" in table.signature
    say(folder, "eva02", sample="0002", count="500")
    with pytest.raises(DataError, match=r"differ in calibration: '0001 \(count 500\)' and '0002"):
        api.read([folder])


@pytest.mark.parametrize("args", [",site=projected", ",dtype=bfloat16", ",revision=x"])
def test_runs_of_another_site_or_precision_are_no_partner(both, tmp_path, args):
    other = runs(tmp_path / "other", PREDICTED, GUESS + args)
    assert stand_ins.partners(api.read([both[0], other])) == {}
    assert stand_ins.partners(api.read([other, *both])) == {1: 2}
    with pytest.raises(SetupError, match="two sets of runs of demo with ablation=predicted"):
        stand_ins.partners([*api.read(both), *api.read([both[1]])])


def test_a_guess_that_changes_no_answer_is_no_error(tmp_path):
    for folder, args in (("predicted", GUESS), ("zeros", "")):
        runs(tmp_path / folder, {"none": 0, "clip": 0}, args, tasks=1)
        for path in (tmp_path / folder).rglob("*.jsonl"):
            lines = [{**json.loads(line), "filtered_resps": "yes"} for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (table,) = api.read([tmp_path / "predicted"])
    assert "drop=clip with its linear stand-in changed none of 200 answers of the full model" in table.notes
    with pytest.raises(DataError, match="the mask was hardly applied"):
        api.read([tmp_path / "zeros"])


def test_a_retrained_model_stands_beside_what_is_needed(both, tmp_path, capsys):
    other = runs(tmp_path / "other", {"none": 15}, checkpoint="retrained")
    given = ["--reference", f"r:clip+convnext+pix2struct={other}"]
    out = tmp_path / "out"
    assert main(["report", *map(str, both), "-o", str(out), *given]) == 0
    printed = capsys.readouterr().out
    assert "| 10.0 [7.8, 12.2] | needed" in printed and "not over trainings" in printed
    with (out / "need.csv").open() as handle:
        rows = {row["encoder"]: row for row in csv.DictReader(handle) if row["category"] == "Overall"}
    assert float(rows["eva02"]["retrained_value"]) == pytest.approx(0.1) and rows["clip"]["retrained_value"] == ""
    assert main(["verify", str(out), *map(str, both), *given]) == 0
    assert "Diamonds" in (out / "report.html").read_text()


def test_each_word_is_said(both):
    zeros, _ = report.build(api.read(both)).models
    assert headline.need(report.build(api.read([both[0]])).models[0].model) == ""
    few = runs(both[0].parent / "few", {"none": 0, "clip": 1, "convnext": 3, "pix2struct": 0, "eva02": 5}, GUESS)
    said = report.build(api.read([both[0], few])).models[0].need
    assert "the model needs eva02 (CUR 3.3 % [" in said or "eva02 (CUR 3.3 %" in said
    assert "redundant either way" in said and "replaceable by the others" in said
    caption, _ = captions.of("need", [zeros.model], Settings(margin=0.03))
    assert "both lose less than 3 %" in caption and "upper bound" in caption and "Retrained" not in caption


def test_the_order_of_the_runs_decides_no_name(both):
    names = [[said.model.name for said in report.build(api.read(each)).models] for each in (both, both[::-1])]
    assert names == [["demo", "demo, predicted"], ["demo, predicted", "demo"]]


def test_runs_with_stand_ins_alone_say_needed(both):
    made = report.build(api.read([both[1]]))
    (said,) = made.models
    assert said.model.name == "demo" and said.need == "" and "the model needs eva02" in said.sentence
    assert "need" not in [table.stem for table in made.tables]
    assert "Relied on" not in made.table("verdicts").caption


def test_a_report_replaces_the_figures_of_an_earlier_one_and_no_others(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("a.svg", "b.svg"):
        (tmp_path / "figures" / name).touch()
    (tmp_path / "report.json").write_text(json.dumps({"schema": 3, "options": {}, "files": ["figures/a.svg", "b.svg"]}))
    write.check_out(tmp_path, ["report.md", "figures/a.svg"], [])
    with pytest.raises(SetupError, match=r"figures/b.svg, which no report wrote"):
        write.check_out(tmp_path, ["figures/a.svg", "figures/b.svg"], [])
