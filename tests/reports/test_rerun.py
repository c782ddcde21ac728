"""A second run of the full model: how many answers change by themselves."""

import json
import shutil

import pytest

from redundancy_eval import api
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.reports import report
from tests.helpers.runs import DEMO_TASKS, MASKS, right, write_run, write_sweep

N = 100


@pytest.fixture
def runs(tmp_path):
    table = {drop: {task: right(80 - 2 * i, N) for task in DEMO_TASKS} for i, drop in enumerate(MASKS)}
    return write_sweep(tmp_path / "runs", table)


def second(folder, scores=None, drop="none", tasks=DEMO_TASKS, **bend):
    """A second run whose answers to two of the hundred questions differ."""
    values = [0, *right(79, N - 2), 1] if scores is None else scores
    return write_run(folder, drop, dict.fromkeys(tasks, values), **bend).parents[1]


def rows(made):
    (table,) = [each for each in made.tables if each.stem == "changed"]
    return table.columns, {row.label: row.cells for row in table.rows}


def test_a_second_run_is_a_yardstick(runs, tmp_path):
    again = second(tmp_path / "again")
    made = report.build(api.read([runs], rerun=[again]))
    columns, found = rows(made)
    assert columns[-1] == "overall it changes" and found["second run"][-2].value == pytest.approx(2)
    assert found["without clip"][-2].value == pytest.approx(2) and found["without eva02"][-2].value == pytest.approx(8)
    assert found["without eva02"][-1].text == "may be more than a second run"
    said = "in a second run of the full model 2.0 % [1.1, 3.7] of the answers have another score, overall CUR 0.0 % ["
    assert [note for note in made.models[0].notes if note.startswith(said)]
    assert not any("was not run a second time" in note for note in made.models[0].notes)
    once = report.build(api.read([runs]))
    assert any("was not run a second time" in note for note in once.models[0].notes)
    columns, found = rows(once)
    assert columns[-1] == "Overall" and "second run" not in found
    kept, before = ([repr(t.rows) for t in each.tables if t.stem != "changed"] for each in (made, once))
    assert kept == before  # it changes no other number


def test_every_line_of_a_csv_file_has_its_columns(runs, tmp_path):
    other, again = second(tmp_path / "x", checkpoint="NVEagle/Eagle-X5-7B"), second(tmp_path / "again")
    made = report.build(api.read([runs, other], rerun=[again]))
    with_records = [table for table in made.tables if table.records]
    assert len(with_records) >= 10
    for table in with_records:
        assert {tuple(record) for record in table.records} == {tuple(table.records[0])}, table.stem
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}, table.stem


def test_a_second_run_inside_the_runs_is_none_of_them(runs, tmp_path):
    again = second(runs / "again")
    with pytest.raises(DataError, match="two runs of drop=none"):
        api.read([runs])
    (inside,) = api.read([runs], rerun=[again])
    (outside,) = api.read([path for path in runs.iterdir() if path.name != "again"], rerun=[again])
    assert inside.points.tolist() == outside.points.tolist() and set(inside.rerun) == set(outside.rerun)


def test_what_is_no_second_run_of_the_full_model_is_refused(runs, tmp_path):
    with pytest.raises(SetupError, match="--rerun is a second run of the full model, but encoders are dropped"):
        api.read([runs], rerun=[second(tmp_path / "a", drop="clip")])
    with pytest.raises(SetupError, match="whose first run of the full model is not here"):
        api.read([runs], rerun=[second(tmp_path / "b", checkpoint="another")])
    with pytest.raises(SetupError, match="--rerun holds all the runs"):
        api.read([runs], rerun=[runs])
    with pytest.raises(DataError, match="runs differ in limit"):
        api.read([runs], rerun=[second(tmp_path / "c", limit=50)])
    with pytest.raises(DataError, match="document 0 of task redundancy_demo_general was asked or scored otherwise"):
        api.read([runs], rerun=[second(tmp_path / "d", wording="!")])
    with pytest.raises(DataError, match="runs differ in documents"):
        api.read([runs], rerun=[second(tmp_path / "e", scores=right(79, N - 1))])
    with pytest.raises(SetupError, match="no such file or folder"):
        api.read([runs], rerun=[tmp_path / "nowhere"])


def test_benchmarks_without_a_second_run_are_named(runs, tmp_path):
    made = report.build(api.read([runs], rerun=[second(tmp_path / "again", tasks=DEMO_TASKS[:2])]))
    _, found = rows(made)
    assert [cell.text for cell in found["second run"]] == ["", "", "n/a", "n/a", "n/a", "n/a", "–"]
    assert any("the second run (OCR, Overall): demo OCR has no second run" in note for note in made.models[0].notes)


def test_verify_wants_the_second_run_too(runs, tmp_path, capsys):
    again, out = second(tmp_path / "again"), tmp_path / "out"
    assert main(["report", str(runs), "--rerun", str(again), "-o", str(out)]) == 0
    assert json.loads((out / "report.json").read_text())["options"]["rerun"] is True
    assert main(["verify", str(out), str(runs), "--rerun", str(again)]) == 0
    capsys.readouterr()
    assert main(["verify", str(out), str(runs)]) == 2
    assert "the report was made with a second run of the full model: name it with --rerun" in capsys.readouterr().err
    shutil.rmtree(again)
    third = second(tmp_path / "again", scores=right(80, N))
    assert main(["verify", str(out), str(runs), "--rerun", str(third)]) == 3
    assert main(["report", str(runs), "-o", str(tmp_path / "once")]) == 0
    assert main(["verify", str(tmp_path / "once"), str(runs), "--rerun", str(third)]) == 2
