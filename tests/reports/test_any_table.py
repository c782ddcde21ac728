"""Whatever was run: a report is made, its lines have their columns, and nothing is printed as nan."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.reports import csv, json_file, latex, markdown, report
from tests.reports.test_headline import table


@st.composite
def tables(draw):
    encoders = draw(st.permutations(["sam", "clip", "dino"]))[: draw(st.integers(1, 3))]
    every = [mask for size in range(len(encoders) + 1) for mask in combinations(encoders, size)]
    masks = tuple(sorted(draw(st.sets(st.sampled_from(every), min_size=1)), key=every.index))
    documents = draw(st.sampled_from([1, 2, 8, 40]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    scores = (rng.random((len(masks), documents)) < draw(st.sampled_from([0.0, 0.6, 1.0]))).astype(float)
    if draw(st.booleans()):
        scores[draw(st.integers(0, len(masks) - 1)), draw(st.integers(0, documents - 1))] = np.nan
    made = table(scores, masks=masks, encoders=tuple(encoders), guessed=draw(st.booleans()))
    if draw(st.booleans()):
        again = {name: replace(each, scores=np.ones((1, documents))) for name, each in made.samples.items()}
        made = replace(made, rerun=dict(list(again.items())[: draw(st.integers(0, 2))]))
    if draw(st.booleans()):
        made = replace(made, samples={}, documents=(None, documents))
    return made


@settings(max_examples=12, deadline=None)
@given(tables())
def test_any_table_can_be_reported(made):
    whole = report.build([made, replace(made, checkpoint="other")])
    for each in whole.tables:
        assert {len(row.cells) for row in each.rows} <= {len(each.columns)}, each.stem
        assert len({tuple(record) for record in each.records}) <= 1, each.stem
    printed = markdown.text(whole)
    assert " nan" not in printed and "[nan" not in printed
    assert all(markdown.literal(said.sentence) in printed for said in whole.models)
    assert all("nan" not in text for text in latex.files(whole).values())
    assert all(",nan" not in text for text in csv.files(whole).values())
    assert "NaN" not in json_file.text(whole, [])
