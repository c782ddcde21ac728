"""Words, families and the numbers of documents behind them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval.statistics import planning, verdicts
from redundancy_eval.statistics.covariance import Estimates

WORDS = {
    verdicts.NEEDED, verdicts.NEEDED + verdicts.BELOW_MARGIN, verdicts.DETRIMENTAL,
    verdicts.DETRIMENTAL + verdicts.BELOW_MARGIN, verdicts.REDUNDANT, verdicts.UNDECIDED,
}  # fmt: skip
p = st.floats(0, 1)


@given(st.floats(-1, 1), p, p)
def test_there_is_one_word_for_everything(u, p_diff, p_equal):
    word = str(verdicts.verdicts([u], [p_diff], [p_equal])[0])
    assert word in WORDS
    assert (word in (verdicts.REDUNDANT, verdicts.UNDECIDED)) == (p_diff > 0.05)
    assert word.startswith(verdicts.NEEDED) == (p_diff <= 0.05 and u > 0)
    assert (word.endswith(verdicts.BELOW_MARGIN) or word == verdicts.REDUNDANT) == (p_equal <= 0.05)
    other = str(verdicts.verdicts([u], [p_diff], [p_equal], positive=verdicts.RELIED_ON)[0])
    assert other == word.replace(verdicts.NEEDED, verdicts.RELIED_ON)


def test_what_is_not_known_has_no_word():
    said = verdicts.verdicts([np.nan, 0.1, 0.1], [0.01, np.nan, 0.01], [0.9, 0.9, np.nan])
    assert said.tolist() == [verdicts.NOT_KNOWN] * 3


@given(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=6), st.floats(1e-3, 0.1))
def test_a_cur_is_never_sure_to_be_large_and_small_at_once(values, se):
    found = Estimates(np.array(values), np.eye(len(values)) * se**2, np.full(len(values), np.inf))
    differs, within = verdicts.p_difference(found), verdicts.p_equivalence(found, 0.02)
    assert (np.abs(np.stack([differs, within]) - 0.5) <= 0.5).all()
    assert (within[np.abs(values) >= 0.02] >= 0.5).all()


@given(st.lists(st.one_of(st.just(float("nan")), p), min_size=1, max_size=12))
def test_holm_counts_what_was_tested_only(values):
    given_ = np.array(values)
    adjusted = verdicts.holm(given_)
    tested = ~np.isnan(given_)
    np.testing.assert_array_equal(np.isnan(adjusted), ~tested)
    np.testing.assert_array_equal(adjusted[tested], verdicts.holm(given_[tested]))
    assert (adjusted[tested] >= given_[tested]).all() and (adjusted[tested] <= 1).all()
    if tested.any():
        assert adjusted[tested].min() == min(1, given_[tested].min() * tested.sum())


def test_holm_keeps_the_shape():
    assert verdicts.holm([[0.01, 0.2], [0.5, 0.04]]).tolist() == [[0.04, 0.4], [0.5, 0.12]]


def test_documents_that_would_decide_do_decide():
    # Four times the documents halve the SE: then p is where the power is 80 %.
    need = verdicts.documents_to_decide([0.0, 0.1, 0.02], [0.01] * 3, [1000] * 3, 0.02, 1)
    assert need[0] == pytest.approx(planning.documents_from_pilot(1000, 0.01, 0.02))
    assert need[1] == pytest.approx(planning.documents_from_pilot(1000, 0.01, 0.1, differs=True))
    assert need[2] == pytest.approx(planning.documents_from_pilot(1000, 0.01, 0.02, differs=True))  # on the margin
    assert (verdicts.documents_to_decide([0.0], [0.01], [1000], 0.02, 20) > need[0]).all()


def test_nothing_changed_in_mcnemar():
    assert verdicts.mcnemar(0, 0) == verdicts.McNemar(1.0, 1.0)
    assert verdicts.mcnemar(3, 3).exact == 1.0


@pytest.mark.parametrize(
    ("margin", "share", "alone", "family"),
    [(0.01, 0.02, 4054, 7913), (0.02, 0.06, 3040, 5935), (0.05, 0.12, 973, 1899)],
)
def test_planning_table(margin, share, alone, family):
    assert round(planning.documents_for_redundant(margin, 0.65, share)) == alone
    assert round(planning.documents_for_redundant(margin, 0.65, share, family=20)) == family


def test_smallest_margins_of_the_papers_benchmarks():
    # General at full size, 6 % changed answers: GQA's images hold about 65 questions for a question, others one.
    designs = [1 + (31.6 * 2.06 - 1) * 0.02, 1, 1, 1]
    se = planning.category_se([12578, 1164, 1057, 14232], 0.708, designs=designs)
    assert 100 * planning.smallest_margin(se) == pytest.approx(1.1, abs=0.05)
    assert 100 * planning.smallest_margin(se, family=20) == pytest.approx(1.6, abs=0.06)
    assert planning.design_effect([1, 1, 1]) == 1
    assert planning.design_effect([10, 30]) == pytest.approx(1 + (1000 / 40 - 1) * 0.02)


def test_a_cur_that_so_few_changes_cannot_make():
    assert np.isnan(planning.documents_for_needed(0.5, 0.65, share=0.06))
