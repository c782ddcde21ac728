"""What is said without labels: shares with intervals, reasons for what is not known, agreement with CUR."""

import math
from dataclasses import replace

import numpy as np
import pytest

from redundancy_eval.table import Said
from redundancy_eval.uncertainty import OVERALL, Settings, analyse, without_labels
from redundancy_eval.uncertainty.join import join
from tests.core.statistics import tables


def with_answers(table, change=lambda said: said):
    """A table whose answers are hashes of scores and of a guess that differs with a mask now and then."""
    rng, samples = np.random.default_rng(3), {}
    for name, each in table.samples.items():
        guessed = rng.random(each.scores.shape) < 0.05
        guessed[0] = False
        answers = (1 + 2 * (each.scores > 0) + guessed).astype(np.uint64)
        documents = len(each.documents)
        said = Said(
            answers, False, np.log(rng.uniform(0.2, 1, documents)), (rng.random(documents) < 0.05).astype(float)
        )
        samples[name] = replace(each, said=change(said))
    return replace(table, samples=samples)


def analysed(table):
    return without_labels.analyse(join(table), Settings())


@pytest.fixture(scope="module")
def usual():
    return with_answers(tables.usual())


def changed_of(table, name, mask):
    said = table.samples[name].said
    return said.answers[table.masks.index(mask)] != said.answers[table.masks.index(())]


def test_shares_are_means_over_documents_and_then_over_benchmarks_and_categories(usual):
    found = analysed(usual)
    photos, groups = (changed_of(usual, name, ("eva02",)).mean() for name in ("photos", "MMBench"))
    parts, strata = changed_of(usual, "parts", ("eva02",)), usual.samples["parts"].strata
    weighted = 0.25 * parts[strata == "a"].mean() + 0.75 * parts[strata == "b"].mean()
    charts = changed_of(usual, "charts", ("eva02",)).mean()
    for place, share in (
        ("photos", photos), ("parts", weighted), ("General", (photos + groups) / 2),
        (OVERALL, ((photos + groups) / 2 + (charts + weighted) / 2) / 2),
    ):  # fmt: skip
        number = found.of(["eva02"], place).changed
        assert number.value == pytest.approx(share) and number.low < share < number.high
    expected = found.of(["eva02"], "photos").expected
    p = np.exp(usual.samples["photos"].said.log_probability)
    assert expected.value == pytest.approx(100 * (p * changed_of(usual, "photos", ("eva02",))).mean())
    assert {each.mask for each in found.masks} == {tuple(sorted(m)) for m in usual.masks if m}


def test_what_changes_by_itself_is_taken_off(usual):
    found, said = analysed(usual), usual.samples["photos"].said
    itself = next(each for each in found.full if each.place == "photos")
    assert itself.alone.value == pytest.approx(said.alone.mean()) and itself.alone.low > 0
    assert itself.confidence.value == pytest.approx(100 * np.exp(said.log_probability).mean())
    each = found.of(["clip"], "photos")
    assert each.above_noise.value == pytest.approx(each.changed.value - itself.alone.value)
    assert each.above_noise.low < each.above_noise.value < each.above_noise.high


def test_what_is_not_known_is_no_zero_and_has_a_reason():
    def bare(said):
        answers = said.answers.copy()
        answers[1, 3] = 0
        nothing = np.full(len(said.alone), np.nan)
        return replace(said, answers=answers, log_probability=nothing, alone=nothing, reason="no store")

    table = with_answers(tables.usual(), bare)
    found, lacking = analysed(table), table.masks[1]
    for place in ("photos", "General", OVERALL):
        each = found.of(lacking, place)
        assert math.isnan(each.changed.value) and "are not known" in each.changed.reason
        whole = found.of(table.masks[2], place)
        assert whole.changed.value > 0 and not whole.changed.reason
        assert math.isnan(whole.above_noise.value) and whole.above_noise.reason == without_labels.NOT_MEASURED
        assert math.isnan(whole.expected.value) and whole.expected.reason == "no store"
    assert {each.spearman.reason for each in found.ranks if each.measure == "expected"} == {"no store"}


def test_without_samples_nothing_is_said(usual):
    table = replace(usual, samples={})
    found = analysed(table)
    assert all(math.isnan(each.changed.value) and each.changed.reason for each in found.masks)
    assert all(math.isnan(each.kendall.value) and each.kendall.reason for each in found.ranks)


def test_no_changed_answer_claims_no_certainty(usual):
    same = with_answers(tables.usual(), lambda said: replace(said, answers=np.ones_like(said.answers)))
    each = analysed(same).of(["clip"], "photos")
    assert each.changed.value == each.changed.low == 0 < each.changed.high


def test_agreement_is_whole_where_answers_change_as_scores_do():
    def right_or_wrong(table):
        samples = {
            name: replace(each, said=replace(each.said, answers=(1 + (each.scores > 0)).astype(np.uint64)))
            for name, each in table.samples.items()
        }
        return replace(table, samples=samples)

    encoders = ("a", "b", "c", "d")
    masks = tables.every(encoders)
    rng, losses = np.random.default_rng(5), {"a": 0.02, "b": 0.15, "c": 0.35, "d": 0.6}
    made = [(b, tables.samples(rng, masks, 400, 1, losses)) for b in (tables.GENERAL, tables.CHARTS)]
    table = right_or_wrong(with_answers(tables.table(made, encoders)))
    for each in analysed(table).ranks:
        assert each.count == (4 if each.over == "encoders" else 8)
        if each.over == "encoders":
            assert each.spearman.value == each.kendall.value == 1 and each.spearman.low > 0.7
        assert -1 <= each.kendall.low <= each.kendall.value <= each.kendall.high <= 1
    two = tables.table([(tables.GENERAL, tables.samples(rng, tables.every(("a", "b")), 60))], ("a", "b"))
    reasons = {e.over: e.kendall.reason for e in analysed(with_answers(two)).ranks}
    assert "fewer than 3" in reasons["encoders"]


def test_neither_the_order_of_documents_nor_of_masks_counts(usual):
    order = np.random.default_rng(8).permutation(len(usual.samples["photos"].documents))
    moved = {
        name: replace(
            each, documents=each.documents[order], scores=each.scores[::-1][:, order], clusters=each.clusters[order],
            strata=each.strata[order], said=replace(each.said, answers=each.said.answers[::-1]).take(order),
        )
        for name, each in usual.samples.items()
    }  # fmt: skip
    other = replace(usual, samples=moved, masks=usual.masks[::-1], points=usual.points[::-1])
    assert analyse(other).without_labels == analyse(usual).without_labels
