"""A report: what is written, printed and verified, and the command line around it."""

import csv
import json
import shutil
import subprocess
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from redundancy_eval import api
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError
from redundancy_eval.options import Options
from redundancy_eval.reports import latex, markdown, report, verify, write
from redundancy_eval.reports.cells import HOLE, Cell, figure, interval, p_value
from redundancy_eval.reports.model import names
from redundancy_eval.reports.tables import Row, Table
from tests.helpers import frames
from tests.helpers.runs import GENERAL, csv_of, right, sweep, table_of, write_run

FILES = {"report.md", "report.json", "preview.tex", "main.tex", "captions.txt", "report.html"}


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_report_command_writes_the_same_bytes_whatever_the_order(tmp_path, capsys):
    folder = sweep(tmp_path / "runs")
    assert main(["report", str(folder), "-o", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert "| without eva02" in printed and "Signature: `model:eagle_masked|" in printed
    assert "|level:95|margin:2|family:4x5`" in printed
    masks = sorted(map(str, folder.iterdir()), reverse=True)
    assert main(["report", *masks, "-o", str(tmp_path / "two")]) == 0
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert one == two and one["report.md"].decode() == printed
    tables = {name.partition(".")[0] for name in one} - {"report", "preview", "main", "captions"}
    assert tables >= {"verdicts", "cur", "ig", "scores", "variants", "selection", "keeps", "floor", "benchmarks"}
    assert set(one) >= FILES | {f"{name}.tex" for name in tables} and "verdicts.csv" not in one


def test_csv_json_and_markdown_hold_the_same_numbers(tmp_path):
    table = table_of(sweep(tmp_path / "runs"))
    write.write(report.build([table]), tmp_path / "out")
    with (tmp_path / "out" / "cur.csv").open() as handle:
        rows = {(row["encoder"], row["category"]): row for row in csv.DictReader(handle)}
    (content,) = json.loads((tmp_path / "out" / "report.json").read_text())["models"]
    cells = {(cell["encoder"], cell["place"]): cell for cell in content["analysis"]["cells"]}
    for encoder in table.encoders:
        row, cell = rows[encoder, "OCR"], cells[encoder, "OCR"]
        assert float(row["value"]) == content["cur"][encoder]["OCR"] == frames.cur(table).loc[encoder, "OCR"]
        assert [float(row[name]) for name in ("low", "high", "se", "df")] == [
            cell["cur"][name] for name in ("low", "high", "se", "df")
        ]
        assert row["verdict"] == cell["verdict"] and float(row["p_adjusted"]) == cell["p_adjusted"]
        assert float(row["low"]) < float(row["value"]) < float(row["high"]) and row["method"].endswith(", t")
    assert rows["clip", "Chart"]["low"] == "" and "not clear of 0" in rows["clip", "Chart"]["reason"]
    assert "16.7 & 20.00 &" in (tmp_path / "out" / "cur.tex").read_text()
    best = pd.read_csv(tmp_path / "out" / "variants.csv").set_index(["variant", "category"])
    assert list(best.index.levels[0]) == ["3 encoders: without clip", "full model"]
    assert best.loc[("3 encoders: without clip", "Overall"), "change"] == -10
    assert np.isnan(best.loc[("full model", "OCR"), "change"])


def test_errors_on_the_command_line(tmp_path, capsys):
    write_run(tmp_path, "clip+det", {GENERAL: right(3)})
    write_run(tmp_path, "det+clip", {GENERAL: right(3)})
    assert main(["report", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith("redundancy-eval: error: two runs of drop=clip+eva02")
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(tmp_path), "--taxonomy", "ours"]) == 2
    assert "taxonomy must be one of five, paper" in capsys.readouterr().err


def test_latex_shows_any_name_literally():
    assert latex.escape(r"a_b & 50% {x} \n ~^#$") == (
        r"a\_b \& 50\% \{x\} \textbackslash{}n \textasciitilde{}\textasciicircum{}\#\$"
    )


def printed(values, models="m", **more):
    """A table with the rows a, b, ..."""
    rows = tuple(
        Row(model, chr(97 + i), tuple(each if isinstance(each, Cell) else Cell(each) for each in row))
        for model in models
        for i, row in enumerate(values)
    )
    columns = tuple(f"c_{i}" for i in range(len(values[0])))
    options = {"spans": ("OCR & Chart",) * len(columns), "ranked": True, "better": True, **more}
    return Table("t", "title", "mask", columns, rows, **options)


def test_latex_spans_arrows_and_marks():
    table = printed([[0.104, 1.0], [0.096, 2.0], [0.9, Cell(text=HOLE)], [0.9, 3.0]])
    lines = latex.tabular(table, ["one\nline"]).splitlines()
    assert lines[:3] == ["% one line", r"\begin{tabular}{lrr}", r"\toprule"]
    assert lines[3:5] == [r" & \multicolumn{2}{c}{OCR \& Chart} \\", r"\cmidrule(lr){2-3}"]
    assert lines[5] == r"mask & c\_0 $\uparrow$ & c\_1 $\uparrow$ \\"
    # Ties are marked alike, on the rounded values; a hole is neither best nor second.
    assert lines[7:11] == [
        r"a & \underline{0.10} & 1.00 \\",
        r"b & \underline{0.10} & \underline{2.00} \\",
        r"c & \textbf{0.90} & -- \\",
        r"d & \textbf{0.90} & \textbf{3.00} \\",
    ]
    assert r"\textbf" not in latex.tabular(printed([[1.0], [1.0]])) and "uparrow" not in latex.tabular(
        printed([[1.0]], better=False)
    )
    two = latex.tabular(printed([[1.0]], models=("a_1", "b")))
    assert r"\multicolumn{2}{l}{\textit{a\_1}} \\" in two and r"\textbf" not in two


def test_latex_puts_intervals_under_numbers_and_stars_beside():
    table = printed([[Cell(12.04, -9.96, 34.0, stars="**"), Cell(text="[redundant]")]], ranked=False)
    lines = latex.tabular(table).splitlines()
    assert lines[0] == r"\begin{tabular}{lrl}"
    assert lines[-4:-2] == [
        r"a & 12.0$^{**}$ & {[}redundant{]} \\",
        r" & {\scriptsize [$-$10.0, 34.0]} &  \\",
    ]
    assert "scriptsize" not in latex.tabular(table, intervals=False)
    said = replace(table, stem="cur", caption="What it is.", brackets="Brackets: 95 % intervals.")
    assert latex.caption(said).startswith("What it is. Brackets: 95 % intervals. * p < .05, ")
    assert "Brackets" not in latex.caption(said, intervals=False)


def test_captions_and_intervals_are_for_the_user_to_choose(tmp_path, capsys):
    runs = str(sweep(tmp_path / "runs"))
    assert main(["report", runs, "-o", str(tmp_path / "with"), "--level", "90", "--margin", "5"]) == 0
    assert main(["report", runs, "-o", str(tmp_path / "without"), "--intervals", "none"]) == 0
    with_, without = written(tmp_path / "with"), written(tmp_path / "without")
    assert b"scriptsize" in with_["cur.tex"] and b"scriptsize" not in without["cur.tex"]
    said = with_["captions.txt"].decode()
    assert "scores.tex: Score in each category (points). Brackets: 90 % intervals over questions, clustered" in said
    assert "margin: 5 % of the full score" in said and b"Brackets" not in without["captions.txt"]
    assert b"|level:90|margin:5|family:4x5" in with_["report.md"] and b"[" in without["report.md"]
    narrow, wide = (next(csv.DictReader(f["scores.csv"].decode().splitlines())) for f in (with_, without))
    assert float(wide["low"]) < float(narrow["low"]) < float(narrow["high"]) < float(wide["high"])


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--level", "0.95", "--level is in percent, from 50 to below 100, such as 95; not 0.95"),
        ("--level", "100", "not 100"),
        ("--confidence", "nan", "--level is in percent"),
        ("--margin", "0", "--margin is in percent of the full score, such as 2; not 0"),
        ("--seed", "-1", "--seed is a whole number from 0; not -1"),
    ],
)
def test_levels_and_margins_that_make_no_sense(tmp_path, capsys, flag, value, says):
    assert main(["report", str(csv_of(tmp_path, "x,none,GQA,60,10")), flag, value]) == 2
    assert says in capsys.readouterr().err


TEX = shutil.which("pdflatex") and subprocess.run(["kpsewhich", "standalone.cls"], capture_output=True).stdout


@pytest.mark.skipif(not TEX, reason="no TeX with standalone.cls here")
def test_tables_compile_without_warnings(tmp_path):
    first, second = table_of(sweep(tmp_path / "a"), "paper"), table_of(sweep(tmp_path / "b"), "paper")
    write.write(report.build([first, second], Options(figures=("pdf",))), tmp_path)
    for name in ("preview.tex", "main.tex"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name], cwd=tmp_path, capture_output=True
        )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0 and " pages" in said, said[-2000:]
        assert "Warning" not in said and "Overfull" not in said and "Underfull" not in said, said
    assert b"figures/cur_forest.pdf" in (tmp_path / "main.tex").read_bytes()


def test_markdown_rounds_and_marks_holes():
    cells = [Cell(12.347), Cell(text=HOLE), Cell(-0.001), Cell(), Cell(12.347, 11.5, 13.2), Cell(12.347, 11.3, 13.4)]
    assert [figure(cell) for cell in cells] == ["12.35", "–", "0.00", "n/a", "12.35", "12.3"]
    assert interval(cells[-1]) == "[11.3, 13.4]" and interval(cells[0]) == ""
    assert [p_value(p) for p in (0.0004, 0.0341, 0.5, 1.0, float("nan"))] == ["< .001", ".034", ".5", "1", "n/a"]
    assert "b\\|c" in markdown.grid([["a", "b|c"]])


def test_verify_finds_a_number_that_the_runs_do_not_give(tmp_path, capsys):
    runs, out = sweep(tmp_path / "runs"), tmp_path / "out"
    assert main(["report", str(runs), "-o", str(out), "--taxonomy", "paper"]) == 0
    assert main(["verify", str(out), str(runs)]) == 0
    assert f"numbers in {len(written(out))} files" in capsys.readouterr().out
    tex = out / "cur.tex"
    whole = tex.read_text()
    tex.write_text(whole.replace("12.5 ", "12.6 ", 1))
    assert main(["verify", str(out), str(runs)]) == 3
    line = 1 + whole[: whole.index("12.5 ")].count("\n")
    assert f"cur.tex:{line}: printed is" in capsys.readouterr().err
    tex.write_text(whole.replace("redundancy-eval:0", "redundancy-eval:9"))
    assert main(["verify", str(out), str(runs)]) == 0
    tex.unlink()
    assert main(["verify", str(out), str(runs)]) == 3 and "cur.tex is missing" in capsys.readouterr().err
    write_run(runs, "clip", {GENERAL: right(1)})
    assert main(["verify", str(out), str(runs)]) == 3
    assert main(["verify", str(runs), str(runs)]) == 2


def test_verify_says_what_it_takes_from_the_report(tmp_path, capsys):
    path = csv_of(tmp_path, "x,none,GQA,0.6,10", "x,clip,GQA,0.5,9")
    out = tmp_path / "out"
    command = ["report", str(path), "-o", str(out), "--encoders", "clip,sam", "--lenient", "documents,headline"]
    assert main([*command, "--scale", "100", "--taxonomy", "paper"]) == 0
    capsys.readouterr()
    assert main(["verify", str(out), str(path)]) == 0
    said = capsys.readouterr().out
    assert "follow from the runs\nread as the report says:\n" in said
    assert "--encoders clip,sam: the report's word" in said and "--scale 100: the report's word" in said
    assert "--lenient documents: 1 warning\n" in said and "--lenient headline: no warnings\n" in said
    assert "--taxonomy paper: paper\n" in said and "--mask-of" not in said


def test_verify_names_told_masks(tmp_path, capsys):
    for name, drop in (("full", "none"), ("without", "clip")):
        path = write_run(tmp_path / "runs" / name, drop, {GENERAL: right(3)}, checkpoint=name)
        path.write_text(path.read_text().replace(f",drop={drop}", "").replace("eagle_masked", "llava"))
    rules = ["--mask-of", "x:full=none", "--mask-of", "x:without=clip"]
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "out"), *rules]) == 0
    assert main(["verify", str(tmp_path / "out"), str(tmp_path / "runs")]) == 0
    assert "--mask-of x:without=clip: these runs' mask is the report's word" in capsys.readouterr().out


@pytest.mark.parametrize(
    "bent",
    [
        {"encoders": "clip"},
        {"mask_of": [1]},
        {"lenient": None},
        {"taxonomy": 5},
        {"scale": 3},
        {"more": 1},
        {"scale": "x"},
        {"level": 2},
        {"margin": "x"},
        {"intervals": "some"},
    ],
)
def test_verify_of_options_of_another_kind(tmp_path, capsys, bent):
    path = csv_of(tmp_path, "x,none,GQA,60,10", "x,clip,GQA,50,10")
    assert main(["report", str(path), "-o", str(tmp_path / "out")]) == 0
    written = tmp_path / "out" / "report.json"
    content = json.loads(written.read_text())
    content["options"].update(bent)
    written.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out"), str(path)]) == 3
    assert "report.json: options." in capsys.readouterr().err


def test_names_are_told_apart_in_any_order(tmp_path):
    for models in (("a/x", "b/x", "x (2)"), ("x (2)", "a/x", "b/x"), ("a/x", "x (2)", "b/x")):
        path = csv_of(tmp_path, *(f"{model},{mask},GQA,60,10" for model in models for mask in ("none", "clip")))
        assert len(set(names(api.read([path])))) == 3


def test_a_long_report_is_compared_in_no_time(tmp_path, monkeypatch):
    lines = [line for number in range(20_000) for line in (r"\midrule", f"m{number} & {number}.00")]
    monkeypatch.setattr(write, "files", lambda *_: {"cur.tex": "\n".join(lines).encode()})
    started = time.process_time()
    for change, match in (
        ({}, None),
        ({39_999: "m19999 & 5.00"}, "cur.tex:40000: printed is 'm19999 & 5.00', the runs give 'm19999 & 19999.00'"),
        ({39_998: ""}, "cur.tex:39999: printed is '', the runs give"),
    ):
        (tmp_path / "cur.tex").write_text("\n".join(change.get(i, line) for i, line in enumerate(lines)))
        with pytest.raises(DataError, match=match) if match else nullcontext():
            verify.verify(report.Report((), (), Options()), tmp_path)
    assert time.process_time() - started < 5
