"""What a report shows beside its runs: costs, the paper's numbers, other models; and that `verify` needs them again."""

import csv
import json
from dataclasses import replace

import pytest

from redundancy_eval import costs_file
from redundancy_eval.cli import main
from redundancy_eval.costs_file import CostsFile, MaskCost
from redundancy_eval.errors import SetupError
from redundancy_eval.uncertainty import references
from tests.helpers.runs import DEMO_TASKS, sweep, table_of, write_run

ENCODERS = ("clip", "convnext", "pix2struct", "eva02")


@pytest.fixture
def runs(tmp_path):
    return sweep(tmp_path / "runs")


def told(command, *arguments, capsys):
    code = main([command, *map(str, arguments)])
    return code, capsys.readouterr().err


def cost(path, checkpoint="demo", model="eagle_masked"):
    rows = tuple(
        MaskCost(mask, dict.fromkeys(costs_file.COUNTED, 100.0 - 20 * len(mask)))
        for mask in [(), *((name,) for name in ENCODERS)]
    )
    costs_file.write(CostsFile(model, checkpoint, ENCODERS, {}, {"answer": "8 tokens"}, rows), path)
    return path


def test_costs_stand_in_the_page_and_verify_wants_them(runs, tmp_path, capsys):
    out, file = tmp_path / "out", cost(tmp_path / "cost.json")
    assert told("report", runs, "-o", out, "--cost", file, "--figures", "svg", capsys=capsys)[0] == 0
    assert "FLOPs" in (out / "report.html").read_text() and (out / "figures" / "pareto.csv").is_file()
    assert json.loads((out / "report.json").read_text())["options"]["cost"] is True
    assert told("verify", out, runs, "--cost", file, capsys=capsys) == (0, "")
    code, said = told("verify", out, runs, capsys=capsys)
    assert (
        code == 2 and said == "redundancy-eval: error: the report was made with a file of costs: name it with --cost\n"
    )
    cost(file, checkpoint="another")
    code, said = told("report", runs, "-o", out, "--cost", file, capsys=capsys)
    assert code == 3 and "costs of checkpoint another; the runs are of demo" in said


def test_another_model_stands_beside_a_mask(runs, tmp_path, capsys):
    other = tmp_path / "other"
    write_run(other, "none", {task: [1, 0, 1, 1, 0, 1] for task in DEMO_TASKS}, checkpoint="retrained")
    given = [f"r:convnext+pix2struct+eva02={other}"]
    out = tmp_path / "out"
    assert told("report", runs, "-o", out, "--reference", *given, "--figures", "svg", capsys=capsys)[0] == 0
    with (out / "figures" / "retrained.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert rows and all("r" in row.values() for row in rows)
    assert told("verify", out, runs, "--reference", *given, capsys=capsys) == (0, "")
    assert told("verify", out, runs, "--reference", f"q={other}", capsys=capsys)[0] == 2
    for text, match in (
        ("r", "--reference is NAME=RUNS or NAME:KEPT+KEPT=RUNS"),
        (f"r:={other}", "--reference is NAME=RUNS"),
        (f"r:sam={other}", "demo has no encoder sam"),
        (f"r={tmp_path / 'nowhere'}", "nowhere"),
    ):
        code, said = told("report", runs, "-o", out, "--reference", text, capsys=capsys)
        assert code == 2 and match in said and said.count("\n") == 1


def test_a_reference_of_another_task_is_refused(runs, tmp_path, capsys):
    """Its documents have the same numbers and are others."""
    table, other = (table_of(runs) for _ in range(2))
    other = replace(other, tasks=("another", *other.tasks[1:]))
    with pytest.raises(SetupError, match="is another, that of the masks redundancy_demo_general: ask both"):
        references.differences(table, ("clip",), other)


def test_the_paper_has_numbers_on_its_own_checkpoints_only(runs, tmp_path, capsys):
    code, said = told("report", runs, "-o", tmp_path / "out", "--compare", "paper", capsys=capsys)
    assert code == 2 and said.startswith("redundancy-eval: error: the paper has no numbers on demo; it has on NVEagle/")


def test_open_needs_a_folder(runs, monkeypatch, tmp_path, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert told("report", runs, "-o", tmp_path / "out", "--open", capsys=capsys)[0] == 0
    assert opened == [(tmp_path / "out" / "report.html").resolve().as_uri()]
    code, said = told("report", runs, "--open", capsys=capsys)
    assert code == 2 and "say -o OUT" in said


def test_a_sentence_names_no_part_of_what_it_names():
    found = costs_file.Costs(((),), {"FLOPs": (1.0,), "FLOPs, decode": (1.0,), "bytes, packed": (1.0,)})
    assert found.wholes == ("FLOPs", "bytes, packed")
