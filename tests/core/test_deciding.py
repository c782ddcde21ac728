"""What documents can decide before they are asked."""

import math

import pytest

from redundancy_eval import deciding, taxonomy
from redundancy_eval.statistics import planning
from redundancy_eval.uncertainty import OVERALL, Settings, analyse
from tests.helpers.runs import DEMO_TASKS, sweep, table_of

FIVE = taxonomy.load("five", False)


def test_assumptions_give_the_formula():
    found = deciding.decidable({"redundancy_gqa": 12578, "redundancy_mmbench": 4377}, "lmms-eval", 5, FIVE, 0.02)
    (general,) = found
    se = math.sqrt(0.06 / 12578 + 0.06 / 4377) / (2 * 0.65)
    assert general.category == "General" and general.documents == 16955
    assert general.smallest_margin == pytest.approx(planning.smallest_margin(se, 5), abs=1e-6)
    assert general.wanted == math.ceil(16955 * (planning.smallest_margin(se, 5) / 0.02) ** 2)


def test_more_documents_decide_less_and_overall_needs_all_categories():
    few, many = (deciding.decidable(dict.fromkeys(DEMO_TASKS, n), "lmms-eval", 4, FIVE, 0.05) for n in (240, 960))
    assert [each.category for each in few] == [*FIVE.categories, OVERALL]
    for a, b in zip(few, many, strict=True):
        assert b.smallest_margin == pytest.approx(a.smallest_margin / 2, abs=1e-6) and abs(a.wanted - b.wanted) <= 4
    assert few[-1].smallest_margin < min(each.smallest_margin for each in few[:-1])
    assert deciding.decidable({DEMO_TASKS[0]: 240, "other": 9}, "lmms-eval", 4, FIVE, 0.05)[-1].category == "General"


def test_a_pilot_stands_for_the_assumptions(tmp_path):
    table = table_of(sweep(tmp_path / "runs"))
    pilot = analyse(table, Settings())
    asked = dict.fromkeys(DEMO_TASKS, 4000)
    found = {each.category: each for each in deciding.decidable(asked, "lmms-eval", 4, FIVE, 0.02, pilot)}
    cells = [cell for cell in pilot.cells if cell.place == "OCR"]
    least = min(cells, key=lambda cell: abs(cell.cur.value))
    se = least.cur.se * math.sqrt(least.documents / 4000)
    assert found["OCR"].smallest_margin == pytest.approx(planning.smallest_margin(se, 20), abs=1e-6)
