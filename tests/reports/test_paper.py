"""The paper's numbers: those of facts, marked how they are known; beside ours only where both mean the same."""

import math
from dataclasses import replace

import pytest

from redundancy_eval import taxonomy
from redundancy_eval.errors import SetupError
from redundancy_eval.reports import paper
from redundancy_eval.uncertainty import OVERALL
from tests.reports.made_up import PAPER, like_the_paper


@pytest.fixture(scope="module")
def x5():
    return like_the_paper()


def number(numbers, **wanted):
    (found,) = [each for each in numbers if all(getattr(each, key) == value for key, value in wanted.items())]
    return found


def test_numbers_are_the_paper_s():
    name, numbers, differs = paper.published("/some/where/Eagle-X5-7B/")
    assert name == "Eagle-X5 7B" and differs
    full = number(numbers, quantity="score", place=OVERALL, dropped=0)
    assert full.value == 64.93 and full.kind == "quoted" and math.isnan(full.error)
    cur = number(numbers, quantity="CUR", encoder="eva02", place="General")
    assert cur.value == 10.05 and cur.kind == "digitised" and 0 < cur.error < 0.1
    assert number(numbers, quantity="score", place=OVERALL, dropped=2, of="mean").value == 56.13
    assert number(paper.published("NVEagle/Eagle-X4-8B-Plus")[1], quantity="IG", place=OVERALL).value == 70.27


def test_every_number_is_marked_and_belongs_to_a_known_encoder_and_category():
    for checkpoint in (
        "nyu-visionx/cambrian-8b",
        "nvidia/Eagle2-9B",
        "MMVP/MoF_Models",
        "deepseek-ai/deepseek-vl-7b-chat",
    ):
        for each in paper.published(checkpoint)[1]:
            assert each.kind in ("quoted", "digitised", "computed") and each.source
            assert each.place in (*taxonomy.load("paper").categories, OVERALL)
            assert (each.kind == "quoted") or each.error > 0


def test_mean_of_category_curs_is_the_overall_cur():
    for checkpoint in ("nyu-visionx/cambrian-8b", "NVEagle/Eagle-X5-7B", "MMVP/MoF_Models"):
        numbers = paper.published(checkpoint)[1]
        for each in numbers:
            if each.quantity == "CUR" and each.place == OVERALL:
                four = [
                    n.value for n in numbers if n.quantity == "CUR" and n.encoder == each.encoder and n.place in PAPER
                ]
                assert len(four) == 4 and sum(four) / 4 == pytest.approx(each.value, abs=0.01)


def test_ours_stands_beside_theirs(x5):
    found = paper.compare(x5.model)
    for row in found.rows:
        each = row.published
        if each.quantity == "CUR":
            assert row.ours.value == 100 * x5.cell(each.encoder, each.place).cur.value
            meet = row.ours.low <= each.value + each.error and each.value - each.error <= row.ours.high
            assert row.apart is not meet
        assert math.isnan(row.ours.value) or row.difference == row.ours.value - each.value
    full = number([row.published for row in found.rows], quantity="score", place=OVERALL, dropped=0)
    (ours,) = [row.ours for row in found.rows if row.published == full]
    assert ours == x5.score((), OVERALL)
    best = next(row for row in found.rows if row.published.dropped == 2 and row.published.of == "best")
    assert best.ours.value == max(x5.score(m, OVERALL).value for m in x5.table.masks if len(m) == 2)
    assert best.apart is None and math.isnan(best.ours.low)
    assert "These numbers come from lmms-eval" in found.differs
    assert len(paper.rows(found)) == len(found.rows) and len(paper.curs(found)) == 5 * 5


def test_what_was_not_run_is_not_compared():
    some = like_the_paper(masks=((), ("clip",), ("sam",)), costs=False)
    for row in paper.compare(some.model).rows:
        if row.published.quantity == "IG" or (row.published.quantity == "score" and row.published.dropped):
            assert math.isnan(row.ours.value) and row.ours.reason and row.apart is None


def test_other_categories_and_models_are_refused(x5):
    five = replace(x5.table, taxonomy=replace(x5.table.taxonomy, name="five"))
    with pytest.raises(SetupError, match="--taxonomy paper; this table has five"):
        paper.compare(replace(x5.model, table=five))
    with pytest.raises(SetupError, match="no numbers on demo"):
        paper.published("demo")
