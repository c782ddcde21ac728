"""What a report says in words: the sentence at the top, verdicts, and the reasons of what is not known."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from redundancy_eval import taxonomy
from redundancy_eval.cli import main
from redundancy_eval.options import Options
from redundancy_eval.reports import captions, cells, remarks, report
from redundancy_eval.table import SampleScores, ScoreTable
from redundancy_eval.uncertainty import OVERALL, Settings
from tests.helpers.runs import DEMO_TASKS, csv_of, table_of, write_sweep
from tests.reports import made_up

BELOW = "relied on, below margin"
ENCODERS = ("sam", "clip", "dino")  # not in the order of their names
MASKS = ((), ("sam",), ("clip",), ("dino",), ("sam", "clip", "dino"))


def table(scores, masks=MASKS, encoders=ENCODERS, **more):
    """A table of two categories with one benchmark each; `scores` (masks, documents) are those of both."""
    chosen = taxonomy.load("five")
    benchmarks = tuple(b for b in chosen.benchmarks if b.name in ("demo general", "demo chart"))
    chosen = taxonomy.Taxonomy("two", tuple(b.category for b in benchmarks), benchmarks)
    scores = np.asarray(scores, dtype=float)
    names = np.array([f"{i:05}" for i in range(scores.shape[1])])
    samples = SampleScores(names, scores, names, np.full(len(names), ""))
    points = np.repeat(100 * scores.mean(axis=1)[:, None], 2, axis=1)
    return ScoreTable(
        "m", "org/m", "lmms-eval", encoders, masks, chosen, benchmarks, ("a", "b"), points, (scores.shape[1],) * 2,
        {b.name: samples for b in benchmarks}, (), "model:m", **{"ablation": "zero", **more},
    )  # fmt: skip


def answers(*losses, documents=2000, right=0.8, gains=()):
    """Answers of masks that lose (or, after that, gain) so many of the full model's."""
    full = (np.arange(documents) < right * documents).astype(float)
    rows = [full]
    for number, lost in enumerate(losses):
        row = full.copy()
        row[:lost] = 0
        row[documents - (gains[number] if gains else 0) :] = 1
        rows.append(row)
    return np.stack(rows)


def said(scores, **more):
    return report.build([table(scores, **more)]).models[0]


def find(made, stem):
    return next(each for each in made.tables if each.stem == stem)


def words(made):
    return {row.label: [cell.text for cell in row.cells] for row in find(made, "verdicts").rows}


def test_each_verdict_is_said_in_words():
    made = report.build([table(answers(200, 0, 20, 1400))])
    assert words(made) == {"sam": ["relied on"] * 3, "clip": ["redundant"] * 3, "dino": [BELOW] * 3}
    assert made.models[0].sentence == (
        "m: the model relies on sam (CUR 12.5 % [11.4, 13.6]); it relies on dino (CUR 1.25 % [0.86, 1.64]), by less "
        "than the margin of 2 %; dropped alone, clip (CUR 0.00 % [-0.09, 0.09]) is redundant (less than 2 % of the "
        "score), clip in every category; its overall IG of 12.5 % [11.3, 13.6] is more than the 1.2 % that equally "
        "useful encoders would show (p < .001)."
    )


def test_undecided_says_how_many_documents_would_decide():
    made = report.build([table(answers(1, 2, 2, 40, documents=100))])
    sentence = made.models[0].sentence
    assert sentence.startswith("m: clip (CUR 2.5 % [-0.5, 5.5]) is undecided (about 780 documents would decide, these ")
    assert " and sam (CUR 1.2 % [-1.2, 3.7]) is undecided (about 2,100 documents would decide, these are" in sentence
    assert "is no more than the 2.7 % that equally useful" in sentence
    assert words(made)["sam"][-1] == "undecided (2,100)"


def test_a_model_that_is_better_without_an_encoder():
    sentence = said(answers(0, 0, 0, 1400, gains=(200, 0, 0, 0))).sentence
    assert "scores higher without sam (CUR -12.5 % [" in sentence


def test_needed_is_said_of_predicted_outputs_alone():
    one, other = (said(answers(200, 0, 0, 1400), ablation=name).sentence for name in ("zero", "predicted"))
    assert "relies on sam" in one and "needs sam" in other
    relied, needed = (
        captions.of("verdicts", [report.build([table(answers(1, 1, 1, 1), ablation=name)]).models[0].model], Settings())
        for name in ("mean", "predicted")
    )
    assert "where outputs are replaced by mean" in relied[0] and "Relied on" not in needed[0]


def test_leave_one_out_says_what_it_can():
    made = report.build([table(answers(200, 0, 30, 1400))])
    stems = [each.stem for each in made.tables]
    assert "shared" in stems and "shapley" not in stems and "pairs" not in stems
    (overall,) = [row for row in find(made, "shared").rows if row.label == "Overall"]
    assert cells.figure(overall.cells[0]) == "58.5" and cells.figure(overall.cells[1]) == "70.0"
    assert any("Shapley values" in note and "needs 8 masks; 5 of them run" in note for note in made.models[0].notes)


def test_a_whole_table_has_shapley_values_that_sum_to_the_headroom():
    masks = ((), ("sam",), ("clip",), ("sam", "clip"))
    made = report.build([table(answers(100, 120, 900), masks=masks, encoders=("sam", "clip"))])
    column = [row.cells[-2].value for row in find(made, "shapley").rows]
    assert sum(column) == pytest.approx(45) and "shared" not in [each.stem for each in made.tables]
    (pair,) = find(made, "pairs").rows
    assert pair.label == "sam+clip" and pair.cells[1].text == "substitutes" and cells.figure(pair.cells[0]) == "-34.0"
    assert pair.cells[2].text == "n/a"  # of two encoders there is one context


def test_the_order_of_encoders_is_the_model_s_and_decides_nothing():
    other = ("clip", "dino", "sam")
    moved = tuple(tuple(name for name in other if name in mask) for mask in MASKS)
    one, two = (
        report.build([table(answers(200, 0, 30, 1400), **more)]) for more in ({}, {"encoders": other, "masks": moved})
    )
    assert [row.label for row in find(one, "cur").rows] == list(ENCODERS)
    assert [row.label for row in find(two, "cur").rows] == list(other)
    assert {row.label: row.cells for row in find(one, "cur").rows} == {r.label: r.cells for r in find(two, "cur").rows}
    assert find(one, "gaps").rows == find(two, "gaps").rows


def test_another_seed_draws_anew_and_is_signed():
    scores = answers(200, 0, 30, 1400)
    one, two = (report.build([table(scores)], Options(seed=seed)) for seed in (0, 7))
    assert "seed" not in one.models[0].signature and one.models[0].signature != two.models[0].signature
    assert two.models[0].signature.endswith("|level:95|margin:2|family:3x2|seed:7")
    assert find(one, "gaps").rows != find(two, "gaps").rows and find(one, "cur").rows == find(two, "cur").rows


def test_numbers_without_samples_are_unpaired_or_have_no_interval(tmp_path, capsys):
    lines = [f"x,{mask},{name},{score},{n}" for name, n in (("ChartQA", 2500), ("GQA", ""), ("MME", 9000))
             for mask, score in (("none", 64), ("clip", 60), ("sam", 40))]  # fmt: skip
    assert main(["report", str(csv_of(tmp_path, *lines)), "--encoders", "clip,sam", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Without samples (ChartQA): from the number of documents alone, unpaired" in printed
    with (tmp_path / "out" / "cur.csv").open() as handle:
        rows = {(row["encoder"], row["category"]): row for row in csv.DictReader(handle)}
    chart, general = rows["clip", "Chart"], rows["clip", "General"]
    assert chart["method"] == "unpaired binomials from n alone, t" and float(chart["low"]) > 0
    assert (general["low"], general["verdict"]) == ("", "n/a") and float(general["value"]) == pytest.approx(0.0625)
    assert "n/a or without interval" in printed and "GQA has no samples, and its number of documents is not" in printed


def test_samples_that_do_not_give_the_points_have_no_interval():
    bent = table(answers(200, 0, 30, 1400))
    points = bent.points.copy()
    points[1, 0] += 1
    made = report.build([ScoreTable(**{**vars(bent), "points": points})])
    rows = {row.label: row.cells for row in find(made, "scores").rows}
    assert cells.interval(rows["without sam"][0]) == "" and cells.figure(rows["without sam"][0]) == "71.00"
    assert cells.interval(rows["without clip"][0])
    assert any("the samples of demo general give 70.000000 points, not the 71" in n for n in made.models[0].notes)


def test_where_nothing_can_be_said_overall_categories_speak():
    scores = answers(200, 0, 20, 1400)
    whole = table(scores)
    one = ScoreTable(**{**vars(whole), "samples": dict(list(whole.samples.items())[:1]), "documents": (2000, None)})
    sentence = report.build([one]).models[0].sentence
    assert sentence == (
        "m: no overall verdict is given (demo chart has no samples, and its number of documents is not known); "
        "General: sam relied on, dino relied on, below margin, clip redundant."
    )


def test_few_clusters_are_named(tmp_path):
    sweep = {drop: {DEMO_TASKS[0]: [1, 1, 1, 0, 1, 1]} for drop in ("none", "clip")}
    notes = report.build([table_of(write_sweep(tmp_path, sweep))]).models[0].notes
    assert any(note.startswith("few images or groups") and "General (df 5.0)" in note for note in notes)


def test_how_often_an_encoder_is_chosen_stands_beside_its_cur():
    made = made_up.subject("a/b", encoders=("clip", "sam", "vary"), categories=("G", "K"), documents=20).model
    routed = replace(made, table=replace(made.table, routed={"questions": 8, "sam": 2, "vary": 0}))
    (said,) = set(remarks.notes(routed)) - set(remarks.notes(made))
    curs = {name: cells.figure(cells.of(made.cell(name, OVERALL).cur, 100)) for name in ("sam", "vary")}
    assert said == (
        "the full model chooses encoders for each question; of 8 questions with an image it chose sam for 25.0 %, CUR "
        f"{curs['sam']} %; vary for 0.0 %, CUR {curs['vary']} %. An encoder that is never chosen has CUR 0 by "
        "construction"
    )
