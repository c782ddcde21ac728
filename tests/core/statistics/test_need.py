"""Relied on and needed: the difference is paired, the words are one for each pair of verdicts."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from redundancy_eval.statistics import covariance, cur, verdicts
from redundancy_eval.uncertainty import OVERALL, Settings, analyse
from redundancy_eval.uncertainty.need import needs
from tests.core.statistics import tables
from tests.core.statistics.tables import CHARTS, ENCODERS, GENERAL

ZEROS = [
    "relied on", "relied on, below margin", "redundant", "detrimental", "detrimental, below margin", "undecided", "n/a",
]  # fmt: skip
PREDICTED = [word.replace("relied on", "needed") for word in ZEROS]


def with_guess(zeros, back=0.6, seed=5):
    """The same runs with linear stand-ins: a share of the changed answers comes back, of a cluster as a whole."""
    rng, samples = np.random.default_rng(seed), {}
    for name, each in zeros.samples.items():
        full = each.scores[zeros.masks.index(())]
        names, which = np.unique(each.clusters, return_inverse=True)
        kept = (rng.uniform(size=(len(each.scores), len(names))) < back)[:, which]
        samples[name] = replace(each, scores=np.where(kept, full, each.scores))
    columns = [tables.points(samples[b.name], b) for b in zeros.benchmarks]
    return replace(zeros, ablation="predicted", samples=samples, points=np.stack(columns, axis=1))


def of(zeros, predicted, **settings):
    chosen = Settings(**settings)
    return needs(zeros, predicted, analyse(zeros, chosen), analyse(predicted, chosen, predicted=True))


def number(found, encoder, place):
    return next(each.difference for each in found if (each.encoder, each.place) == (encoder, place))


@pytest.fixture(scope="module")
def usual():
    return tables.usual()


def test_every_pair_of_verdicts_has_one_word():
    words = {pair: verdicts.need(*pair) for pair in product(ZEROS, PREDICTED)}
    assert set(words.values()) == {
        "needed", "needed, below margin", "replaceable", "redundant", "harmful", "harmful, below margin", "undecided",
        "n/a",
    }  # fmt: skip
    for (zeros, predicted), word in words.items():
        assert (word == "n/a") == ("n/a" in (zeros, predicted))
        if zeros == "n/a" or predicted == "n/a":
            continue
        assert word.startswith("needed") == predicted.startswith("needed")
        assert (word == "replaceable") == (zeros == "relied on" and predicted == "redundant")
        assert word != "undecided" or "undecided" in (zeros, predicted)
        if predicted == "undecided":
            assert word == "undecided"
    assert words["redundant", "redundant"] == words["relied on, below margin", "redundant"] == "redundant"
    assert words["detrimental", "redundant"] == words["redundant", "detrimental"] == "harmful"


def test_the_difference_is_that_of_the_two_curs(usual):
    predicted = with_guess(usual)
    found = of(usual, predicted)
    zero, other = (analyse(table) for table in (usual, predicted))
    for encoder, place in product(ENCODERS, ("General", "OCR", OVERALL)):
        difference = number(found, encoder, place)
        expected = zero.cell(encoder, place).cur.value - other.cell(encoder, place).cur.value
        assert difference.value == pytest.approx(expected, abs=1e-12)
        assert difference.low < difference.value < difference.high and "jackknife" in difference.method


def test_its_error_is_the_jackknife_of_the_difference():
    """Leave one document out, by hand; one benchmark of single documents, one category."""
    made = tables.samples(np.random.default_rng(2), tables.every(ENCODERS), 90, losses={"eva02": 0.4})
    zeros = tables.table([(GENERAL, made)], categories=["General"])
    predicted = with_guess(zeros)
    row = zeros.masks.index(("eva02",))
    full, lost, back = (
        zeros.samples["photos"].scores[0], zeros.samples["photos"].scores[row], predicted.samples["photos"].scores[row],
    )  # fmt: skip
    n = len(full)

    def statistic(keep):
        return (back[keep].sum() - lost[keep].sum()) / full[keep].sum()

    left_out = np.array([statistic(np.arange(n) != i) for i in range(n)])
    jackknife = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    a = np.array([statistic(np.full(n, True)), 1, 1]) / full.mean()  # gradient in full, with zeros, with the guess
    pseudo_unit = (a**2).sum() / n**2
    se = number(of(zeros, predicted), "eva02", "General").se
    assert se == pytest.approx(math.sqrt(jackknife + pseudo_unit), rel=0.02)
    unpaired = math.sqrt(lost.var() / n + back.var() / n) / full.mean()
    assert se < 0.8 * unpaired


def test_the_same_answers_differ_by_nothing(usual):
    same = replace(usual, ablation="predicted")
    for each in of(usual, same):
        assert each.difference.value == 0 and each.difference.low < 0 < each.difference.high
        assert each.verdict not in ("replaceable", "n/a")


def test_order_of_documents_masks_and_encoders_changes_no_byte(usual):
    predicted = with_guess(usual)
    order = np.random.default_rng(0).permutation(160)
    moved = {
        name: replace(
            s, documents=s.documents[order], scores=s.scores[:, order], clusters=s.clusters[order],
            strata=s.strata[order],
        )
        for name, s in predicted.samples.items()
    }  # fmt: skip
    assert of(usual, predicted) == of(usual, replace(predicted, samples=moved))


def test_what_was_not_asked_of_both_is_not_compared(usual):
    predicted = with_guess(usual)
    fewer = replace(
        predicted, benchmarks=predicted.benchmarks[1:], tasks=predicted.tasks[1:], points=predicted.points[:, 1:],
        documents=predicted.documents[1:],
    )  # fmt: skip
    found = of(usual, fewer)
    for each in found:
        assert (each.place == "OCR") == math.isfinite(each.difference.value)
        if each.place != "OCR":
            assert each.verdict == "n/a" and "not run both under zeros and with linear" in each.difference.reason


def test_a_mask_that_was_not_run_and_samples_that_are_not_there(usual):
    predicted = with_guess(usual)
    row = predicted.masks.index(("clip",))
    kept = [i for i in range(len(predicted.masks)) if i != row]
    some = replace(
        predicted, masks=tuple(predicted.masks[i] for i in kept), points=predicted.points[kept],
        samples={name: replace(s, scores=s.scores[kept]) for name, s in predicted.samples.items()},
    )  # fmt: skip
    found = of(usual, some)
    missing = number(found, "clip", "OCR")
    assert math.isnan(missing.value) and "drop=clip (predicted) has no score" in missing.reason
    assert number(found, "sam", "OCR") == number(of(usual, predicted), "sam", "OCR")
    bare = replace(predicted, samples={})
    one = number(of(usual, bare), "sam", "OCR")
    assert math.isfinite(one.value) and math.isnan(one.low) and one.reason


def test_a_full_score_near_zero_has_no_difference():
    made = tables.samples(np.random.default_rng(2), tables.every(ENCODERS), 60, score=0.05)
    zeros = tables.table([(CHARTS, made)], categories=["OCR"])
    each = number(of(zeros, with_guess(zeros)), "clip", "OCR")
    assert math.isnan(each.low) and "not clear of 0" in each.reason


def test_differences_of_many_samples_are_covered():
    """Truth: 30 % of answers are lost with zeros, half of them come back."""
    rng, hits, repeats = np.random.default_rng(1), 0, 400
    for _ in range(repeats):
        full = (rng.random(200) < 0.8).astype(float)
        zeros = full * (rng.random(200) >= 0.3)
        back = np.where(rng.random(200) < 0.5, full, zeros)
        x = np.stack([full, zeros, back])
        found = cur.differences([covariance.benchmark(x, np.ones(200))], 0, [1], [2])
        hits += abs(found.values[0] - 0.15) <= 1.97 * found.se[0]
    assert 0.925 <= hits / repeats <= 0.985
