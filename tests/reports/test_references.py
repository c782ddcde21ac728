"""Other models as rows without masks: differences are paired by document, and only of what both have."""

import math
from dataclasses import replace

import numpy as np
import pytest

from redundancy_eval.errors import SetupError
from redundancy_eval.reports import figures, page
from redundancy_eval.reports.subject import Reference
from redundancy_eval.uncertainty import OVERALL
from redundancy_eval.uncertainty.references import differences
from tests.reports.made_up import ENCODERS, subject, table
from tests.reports.test_page import Elements


@pytest.fixture(scope="module")
def four():
    return subject(documents=60)


def shuffled(made, order):
    """The same table with the documents in another order."""
    samples = {
        name: replace(
            s,
            documents=s.documents[order],
            scores=s.scores[:, order],
            clusters=s.clusters[order],
            strata=s.strata[order],
        )
        for name, s in made.samples.items()
    }
    return replace(made, samples=samples)


def of(found, place):
    return next(each.points for each in found if each.place == place)


def test_a_model_less_its_own_mask_is_minus_the_mask_s_change(four):
    order = np.random.default_rng(0).permutation(60)
    found = differences(four.table, ("clip", "sam"), shuffled(four.table, order))
    for place in four.places:
        expected = four.change(("clip", "sam"), place)
        ours = of(found, place)
        assert ours.value == pytest.approx(-expected.value) and ours.low == pytest.approx(-expected.high)
        assert "jackknife" in ours.method


def test_other_documents_are_not_paired(four):
    other = table(encoders=ENCODERS[:4], documents=60, seed=0)
    renamed = {
        name: replace(s, documents=np.array([f"x{d}" for d in s.documents])) for name, s in other.samples.items()
    }
    found = differences(four.table, ("sam",), replace(other, samples=renamed))
    paired = differences(four.table, ("sam",), other)
    assert of(found, OVERALL).value == pytest.approx(of(paired, OVERALL).value)
    assert "unpaired" in of(found, OVERALL).method
    wide, narrow = (of(each, OVERALL).high - of(each, OVERALL).low for each in (found, paired))
    assert wide > narrow


def test_only_categories_with_the_same_benchmarks_are_compared(four):
    other = table(encoders=ENCODERS[:4], documents=60)
    fewer = replace(
        other, benchmarks=other.benchmarks[1:], tasks=other.tasks[1:], points=other.points[:, 1:],
        documents=other.documents[1:],
    )  # fmt: skip
    found = differences(four.table, ("sam",), fewer)
    assert math.isnan(of(found, "General").value) and math.isnan(of(found, OVERALL).value)
    assert of(found, "OCR").value == pytest.approx(-four.change(("sam",), "OCR").value)


def test_what_cannot_be_compared_is_refused(four):
    with pytest.raises(SetupError, match="the mask was not run"):
        some = subject(masks=((), ("clip",)), documents=20, costs=False)
        differences(some.table, ("sam",), some.table)
    with pytest.raises(SetupError, match="same taxonomy"):
        differences(four.table, (), replace(four.table, taxonomy=replace(four.table.taxonomy, name="paper")))
    with pytest.raises(SetupError, match="has no encoder dinov2"):
        Reference.of(four.model, four.model, ("dinov2",))


def test_references_stand_in_figure_and_page(four):
    student = subject("student", encoders=ENCODERS[:2], documents=60, seed=0)
    kept = Reference.of(student.model, four.model, ("clip", "convnext"))
    assert kept.mask == ("sam", "eva02")
    beside = replace(four, references=(kept, Reference.of(student.model, four.model)))
    figure = figures.draw("retrained", [beside])
    drawn = [each for each in figure.findobj() if each.get_gid() == "OCR|student"]
    assert {each.get_xdata()[0] for each in drawn} == {r.difference("OCR").value for r in beside.references}
    rows = Elements(page.build([beside])).tables["m0-references-table"][1:]
    assert float(rows[0][2]) == pytest.approx(student.score((), OVERALL).value, rel=1e-5)
    assert float(rows[1][1]) == pytest.approx(kept.difference(OVERALL).value, rel=1e-5)
    assert "retrained.csv" in figures.files([beside], ())
