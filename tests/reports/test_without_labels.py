"""The section Without labels: beside CUR in every form of the report, and left out where no answers are known."""

from dataclasses import replace

import pytest

from redundancy_eval import options
from redundancy_eval.reports import csv, json_file, latex, markdown, page, report
from tests.reports import made_up


@pytest.fixture(scope="module")
def table():
    return made_up.table(documents=40)


def test_every_form_shows_it_beside_cur(table):
    made = report.build([table], options.Options())
    text = markdown.text(made)
    (line,) = (line for line in text.splitlines() if line.startswith("| full model, asked again"))
    assert "### Without labels" in text and "### Rank correlation with CUR" in text and line.count("–") == 4
    assert "a harmful encoder looks like one that is relied on" in text
    assert "Answers are compared as they were given." in text
    records = made.table("without_labels").records
    places = {(each["mask"], each["place"]) for each in records}
    masks, named = len(table.masks), 2 * len(table.benchmarks) + 1
    assert len(places) == len(records) == masks * named
    found = made.models[0].model.analysis.without_labels.of(["eva02"], "OCR")
    (record,) = (each for each in records if (each["mask"], each["place"]) == ("without eva02", "OCR"))
    assert record["changed_value"] == found.changed.value > 0 and record["expected_value"] == found.expected.value
    assert {"without_labels.csv", "without_labels_ranks.csv"} <= set(csv.files(made))
    assert {"without_labels.tex", "without_labels_ranks.tex"} <= set(latex.files(made))
    assert '"without_labels": {' in json_file.text(made, [])
    shown = page.build([made_up.subject(documents=40)])
    assert "Without labels</h" in shown and "more than when asked again" in shown


def test_without_answers_there_is_no_section(table):
    bare = {name: replace(each, said=None) for name, each in table.samples.items()}
    made = report.build([replace(table, samples=bare)], options.Options())
    assert not {"without_labels", "without_labels_ranks"} & {each.stem for each in made.tables}
    subject = made_up.changed(made_up.subject(documents=40), analysis=made.models[0].model.analysis)
    assert "Without labels</h" not in page.build([subject])


def test_where_nobody_asked_again_there_is_no_column_for_it(table):
    once = {
        name: replace(each, said=replace(each.said, alone=float("nan") + each.said.alone))
        for name, each in table.samples.items()
    }
    made = report.build([replace(table, samples=once)], options.Options()).table("without_labels")
    assert "above asking again" not in made.columns and {len(row.cells) for row in made.rows} == {len(made.columns)}
