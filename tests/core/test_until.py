"""A look of a sweep in rounds: what is recorded, what it makes of intervals and words, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from redundancy_eval import api, deciding, records, taxonomy
from redundancy_eval.errors import DataError
from redundancy_eval.options import Options
from redundancy_eval.reports import captions, json_file, report
from redundancy_eval.statistics import sequential
from redundancy_eval.uncertainty import OVERALL, Settings, analyse, plain
from redundancy_eval.until import Until, of
from tests.core.statistics.tables import CHARTS, ENCODERS, GENERAL, every, samples, table
from tests.helpers.runs import DEMO_TASKS, sweep

LOOK = Until(2.0, 5, sequential.fractions(5)[:2])
TOLD = {**LOOK.as_json()}


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(5)
    masks = every(ENCODERS)
    losses = {"clip": 0.2, "sam": 0.01}
    return table([(b, samples(rng, masks, 400, losses=losses)) for b in (GENERAL, CHARTS)], masks=masks)


def test_what_is_recorded_is_read_again():
    assert TOLD["level"] == pytest.approx(0.994265, abs=1e-6) and (TOLD["look"], TOLD["looks"]) == (2, 5)
    assert of(json.loads(json.dumps(TOLD)), "manifest.json") == LOOK and of(None, "manifest.json") is None
    assert str(LOOK) == "2@look 2 of 5"


@pytest.mark.parametrize(
    "change",
    [
        {"fractions": [0.5, 0.25]}, {"fractions": []}, {"fractions": [0.1, 1.5]}, {"look": 3}, {"looks": 1},
        {"margin": "two"}, {"fractions": [0.0, 0.5]},
    ],
)  # fmt: skip
def test_a_damaged_look_is_refused(change):
    with pytest.raises(DataError, match="until"):
        of({**TOLD, **change}, "manifest.json")


def test_intervals_and_words_are_at_the_nominal_level(made):
    ordinary, look = analyse(made), analyse(replace(made, until=LOOK))
    level = sequential.nominal_level(LOOK.fractions)
    same = replace(analyse(made, Settings(level=level)), notes=look.notes, signature=look.signature)
    assert plain(look) == plain(same)  # all of it, words included
    for a, b in zip(ordinary.cells, look.cells, strict=True):
        assert a.cur.value == b.cur.value and b.cur.high - b.cur.low > 1.3 * (a.cur.high - a.cur.low)
    assert (
        look.settings.level == level
        and "level:95|" in look.signature
        and look.signature.endswith("until:2@look 2 of 5")
    )
    (note,) = (note for note in look.notes if "in rounds" in note)
    assert "look 2 of 5" in note and "99.43 %" in note and "95 %" in note
    assert analyse(replace(made, until=LOOK), Settings(level=0.9)).settings.level == pytest.approx(
        sequential.nominal_level(LOOK.fractions, 0.9)
    )


def test_a_report_says_so(made):
    told = report.build([replace(made, until=LOOK)], Options())
    assert "99.43 % intervals" in told.table("cur").brackets and "in rounds" in " ".join(told.models[0].notes)
    (model,) = json.loads(json_file.text(told, []))["models"]
    assert model["until"] == TOLD and model["analysis"]["settings"]["level"] == pytest.approx(0.994265, abs=1e-6)
    both = report.build([made, replace(made, until=LOOK, checkpoint="other")], Options())
    assert "95 or 99.43 % intervals" in both.table("cur").brackets
    assert captions.of("cur", [both.models[0].model], Settings())[1].startswith("Brackets: 95 % intervals")


def test_the_widest_is_that_of_the_report(made):
    for until in (None, LOOK):
        found = deciding.widest(replace(made, until=until))
        cells = analyse(replace(made, until=until)).cells
        halves = {(c.encoder, c.place): (c.cur.high - c.cur.low) / 2 for c in cells}
        assert found.half == max(halves.values()) == halves[found.encoder, found.place]
        assert OVERALL in {place for _, place in halves}


def test_what_is_not_known_is_widest(made):
    zero = {**made.samples, "charts": replace(made.samples["charts"], scores=made.samples["charts"].scores * 0)}
    points = made.points.copy()
    points[:, 1] = 0
    found = deciding.widest(replace(made, samples=zero, points=points))
    assert math.isinf(found.half) and found.place in ("OCR", OVERALL) and "not clear of 0" in found.reason
    # A category of which nothing is asked is not watched, nor overall then.
    only = replace(made, benchmarks=made.benchmarks[:1], tasks=made.tasks[:1], points=made.points[:, :1],
                   documents=made.documents[:1])  # fmt: skip
    assert deciding.widest(only).place == "General"


def test_what_is_asked_by_category():
    five = taxonomy.load()
    assert deciding.asked({DEMO_TASKS[0]: 9, "other": 3}, "lmms-eval", five) == {"General": [9]}
    assert deciding.asked({"other": 3}, "lmms-eval", five) == {}


def look(folder, until):
    """Write into each mask's folder that its results are of a look."""
    for each in folder.glob("drop-*"):
        results = each / "ck"
        records.write({"model": "eagle_masked", "mask": each.name.removeprefix("drop-"), "sweep": True}, results)
        told = {"until": until.as_json()} if until else {}
        (results / records.MANIFEST).write_text(json.dumps({"schema": 1, "files": [], "decides": told}))


def test_runs_tell_their_look(tmp_path):
    folder = sweep(tmp_path / "runs")
    look(folder, LOOK)
    (found,) = api.read([folder])
    assert found.until == LOOK
    look(folder, None)
    (found,) = api.read([folder])
    assert found.until is None


@pytest.mark.parametrize("other", [None, Until(2.0, 5, LOOK.fractions[:1]), Until(3.0, 5, LOOK.fractions)])
def test_masks_of_different_looks_are_refused(tmp_path, other):
    folder = sweep(tmp_path / "runs")
    look(folder, LOOK)
    one = tmp_path / "one"
    one.mkdir()
    (folder / "drop-clip").rename(one / "drop-clip")
    look(one, other)
    with pytest.raises(DataError, match="differ in limit: --until"):
        api.read([folder, one])
    (found,) = api.read([folder, one], Options(lenient=("limit",)))
    assert found.until is not None and any("--until" in note for note in found.notes)
