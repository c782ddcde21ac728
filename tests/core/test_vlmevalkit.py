"""Work folders that VLMEvalKit itself wrote, on made-up benchmarks under the official names, and read back."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# Importing it would switch off certificate checks and gradients in this process.
if find_spec("vlmeval") is None:
    pytest.skip("needs the extra vlmevalkit", allow_module_level=True)

from redundancy_eval import api, records, scores, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.leniency import Leniency
from redundancy_eval.options import Options
from redundancy_eval.readers import find
from redundancy_eval.readers.mask_of import MaskOf
from tests.helpers import vlmevalkit_data

pytestmark = pytest.mark.framework

ROOT = Path(__file__).resolve().parents[2]
MASKS = ("x5:full=none", "x5:noclip=clip", "x5:nosam=sam")
OPTIONS = Options("paper", encoders=("clip", "sam"), mask_of=MASKS)
LENIENT = replace(OPTIONS, lenient=("missing-answers",))
GARBAGE = ("The quick brown fox", "1.0 B. 1.0 C. 2.0 D.", "")
# Answers that are right in part, or in another spelling.
HALF = {
    "DocVQA_VAL": {"1": "January 5 1998", "2": "John Smyth"}, "TextVQA_VAL": {"2": "5:40"},
    "ChartQA_TEST": {"1": "14.5", "3": "0.6"}, "GQA_TestDev_Balanced": {"1": "No", "2": "Yes."},
    "OCRBench": {"1": "The word is centre.", "10": "\\frac{1}{2}x"}, "MathVista_MINI": {"1": "The answer is (B) 12"},
}  # fmt: skip
FAILED = {"SEEDBench_IMG": ("6",), "MMBench_DEV_EN": ("1000004",), "OCRBench": ("4",)}


def replies(frames):
    full = {name: vlmevalkit_data.right(name, frame) for name, frame in frames.items()}
    mixed = {
        name: {index: GARBAGE[n % 3] if n % 5 in (1, 3) else reply for n, (index, reply) in enumerate(right.items())}
        | HALF.get(name, {})
        | dict.fromkeys(FAILED.get(name, ()), "Failed to obtain answer via API.")
        for name, right in full.items()
    }
    garbage = {name: {index: GARBAGE[n % 3] for n, index in enumerate(right)} for name, right in full.items()}
    return {"full": full, "noclip": mixed, "nosam": garbage}


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlmevalkit")
    (folder / "data").mkdir()
    answers = replies(vlmevalkit_data.write(folder / "data"))
    (folder / "answers.json").write_text(json.dumps(answers))
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.scripted_vlmevalkit", "answers.json", "--stub-judge",
         "--data", *answers["full"], "--model", *answers, "--work-dir", "out", "--judge", "exact_matching"],
        cwd=folder, env={**os.environ, "LMUData": str(folder / "data"), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (folder / "out" / "nosam" / "status.json").is_file(), done.stderr[-3000:]
    return folder / "out"


@pytest.fixture
def out(written, tmp_path):
    """A copy to damage, with its pickles replaced by what no one could load."""
    shutil.copytree(written, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.pkl"):
        path.write_bytes(b"not a pickle")
    return tmp_path / "out"


def table(out, options=OPTIONS, only=None):
    """The one table of a work folder; `only` names one benchmark to look at."""
    chosen = taxonomy.load(options.taxonomy)
    if only:
        chosen = replace(chosen, benchmarks=(replace(taxonomy.benchmark(only), category="General"),))
    lenient = Leniency(options.lenient)
    runs = find.read([out], chosen, lenient, [MaskOf.parse(text) for text in options.mask_of])
    (made,) = scores.tables(runs, chosen, options.encoders, lenient=lenient)
    return made


NAMES = [b.name for b in taxonomy.load("paper").benchmarks if not b.name.startswith("demo ")] + ["MMVP pairs"]


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_scores_are_the_framework_s(written, name):
    made = table(written, LENIENT, only=name)  # a headline that does not follow from the rows raises
    full, mixed, garbage = made.points[:, 0]
    assert full > 85 and full > mixed > garbage == 0
    parts = taxonomy.benchmark(name).sources["vlmevalkit"][0]
    (run,) = (
        r
        for r in find.read([written], taxonomy.load("paper"), told=[MaskOf.parse(m) for m in MASKS])
        if r.model == "full"
    )
    assert not np.isnan([run.tasks[part.task].headline(part) for part in parts]).any()
    assert made.samples[name].scores.shape == (3, made.documents[0])


def test_all_fifteen_stand_in_one_table(written, capsys):
    arguments = [str(written), "--taxonomy", "paper", "--encoders", "clip,sam", "--lenient", "missing-answers"]
    for told in MASKS:
        arguments += ["--mask-of", told]
    assert main(["report", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "| full model " in printed and "Signature: `model:full|checkpoint:x5|encoders:clip+sam|" in printed
    assert "judge:exact_matching|vlmevalkit:" in printed
    made = table(written)
    assert len(made.benchmarks) == 15 and made.masks == ((), ("clip",), ("sam",))


@pytest.mark.parametrize(("name", "count"), [("SEED-I", 1), ("MMBench", 1), ("OCRBench", 1)])
def test_failed_answers_are_missing_not_wrong(written, name, count):
    made = table(written, only=name)
    assert np.isnan(made.points[1, 0]) and not np.isnan(made.points[[0, 2], 0]).any()
    assert any(f"drop=clip: {count} of " in note and "missing, so it has no score" in note for note in made.notes)
    lenient = table(written, LENIENT, only=name)
    assert lenient.points[1, 0] > 0 and any("the score is that of the others" in note for note in lenient.notes)
    assert np.isnan(made.samples[name].scores[1]).sum() == count


def test_circular_groups_are_clusters(written):
    made = table(written, only="MMBench")
    assert len(made.samples["MMBench"].documents) == len(set(made.samples["MMBench"].clusters)) == 6


def move_upstream(out):
    """Upstream's layout: files in a folder for each run, links to them beside it."""
    for folder in (path for path in out.iterdir() if path.name != "logs"):
        inner = folder / "T20261122-101010"
        shutil.rmtree(inner, ignore_errors=True)
        inner.mkdir()
        for path in list(folder.iterdir()):
            if path.is_file():
                path.rename(inner / path.name)
                (folder / path.name).symlink_to(Path(inner.name) / path.name)


def test_upstream_s_folders_and_tsv_files_read_alike(out):
    want = table(out, LENIENT).points
    move_upstream(out)
    np.testing.assert_array_equal(table(out, LENIENT).points, want)
    for path in list(out.rglob("*.xlsx")):
        if not path.is_symlink():
            frame = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
            frame.to_csv(path.with_suffix(".tsv"), sep="\t", index=False)
            path.unlink()
    np.testing.assert_array_equal(table(out, LENIENT).points, want)
    again = out / "full" / "T20261123-101010"
    again.mkdir()
    for path in (out / "full" / "T20261122-101010").glob("full_GQA*"):
        shutil.copy(path, again)
    np.testing.assert_array_equal(table(out, LENIENT).points, want)  # copies are one run
    (again / "full_GQA_TestDev_Balanced_acc.csv").write_text('"Overall"\n"100"\n')
    with pytest.raises(DataError, match="two runs of drop=none on task GQA_TestDev_Balanced.*T20261123.*newer"):
        table(out, LENIENT)
    table(out, replace(LENIENT, lenient=("missing-answers", "duplicate-runs")))


def test_runs_of_ours_tell_their_masks_in_either_layout(out):
    want = table(out, LENIENT).points
    for name, drop in (("full", "none"), ("noclip", "clip"), ("nosam", "sam")):
        arguments = {"pretrained": "x5", "drop": drop}
        records.write({"model": "eagle_masked", "encoders": ["clip", "sam"], "arguments": arguments}, out / name)
    told = replace(LENIENT, mask_of=(), encoders=())
    np.testing.assert_array_equal(table(out, told).points, want)
    move_upstream(out)
    for name in ("full", "noclip", "nosam"):  # the record stays where it was written
        (out / name / records.NAME).unlink()
        (out / name / "T20261122-101010" / records.NAME).rename(out / name / records.NAME)
    np.testing.assert_array_equal(table(out, told).points, want)


def edit(path, change):
    """Change the rows of an xlsx file."""
    frame = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
    change(frame).to_excel(path, index=False)


def prediction(row, text):
    def change(frame):
        frame.loc[row, "prediction"] = text
        return frame

    return change


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("MMVP", "MMVP"),
        ("MME", "MME"),
        ("MathVista", "MathVista_MINI"),
        ("CV-Bench", "CV-Bench-2D"),
        ("SEED-I", "SEEDBench_IMG"),
    ],
)
def test_verdicts_of_earlier_predictions_are_refused(out, name, file):
    edit(out / "full" / f"full_{file}.xlsx", prediction(0, "something else"))
    with pytest.raises(
        DataError, match=r"full_.*:\d+: the verdict belongs to another prediction than 'something else'"
    ):
        table(out, only=name)
    table(out, replace(LENIENT, lenient=("missing-answers", "stale")), only=name)


def test_a_reply_that_was_asked_again_but_not_judged_again_is_refused(out):
    for path in ("full_MMVP.xlsx", "full_MMVP_exact_matching_result.xlsx"):
        edit(out / "full" / path, prediction(0, "A"))
    edit(
        out / "full" / "full_MMVP_exact_matching_result.xlsx",
        lambda frame: frame.assign(
            hit=["0", *frame["hit"][1:]], log=["Match Log: Failed in Prefetch, no GPT-based ...", *frame["log"][1:]]
        ),
    )
    with pytest.raises(DataError, match="the verdict belongs to another prediction than 'A'"):
        table(out, only="MMVP")


def test_a_number_that_does_not_follow_is_refused(out):
    path = out / "full" / "full_AI2D_TEST_acc.csv"
    path.write_text(path.read_text().replace('"1.0"', '"0.9"', 1).replace("1.0", "0.9", 1))
    with pytest.raises(DataError, match=r"AI2D_TEST reports 90\.0+ points, but its samples give 100\.0+"):
        table(out, only="AI2D")
    made = table(out, replace(OPTIONS, lenient=("headline",)), only="AI2D")
    assert made.points[0, 0] == pytest.approx(90)


def test_truncated_and_doubled_files_are_refused(out):
    verdicts = out / "full" / "full_AI2D_TEST_exact_matching_result.xlsx"
    edit(verdicts, lambda frame: frame.iloc[1:])
    with pytest.raises(DataError, match=r"document \d+ is only here or only in full_AI2D_TEST.xlsx"):
        table(out, only="AI2D")
    edit(out / "full" / "full_GQA_TestDev_Balanced.xlsx", lambda frame: pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(DataError, match=r"GQA_TestDev_Balanced.xlsx:\d+: document \d+ stands twice"):
        table(out, only="GQA")
    verdicts.write_bytes(verdicts.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged or not a table"):
        table(out, only="AI2D")


def test_masks_that_differ_in_documents_or_questions_are_refused(out):
    for path in ("noclip_AI2D_TEST.xlsx", "noclip_AI2D_TEST_exact_matching_result.xlsx"):
        edit(out / "noclip" / path, lambda frame: frame.assign(question=[f"{q}!" for q in frame["question"]]))
    with pytest.raises(DataError, match="document 1 of task AI2D_TEST was asked or scored otherwise"):
        table(out, only="AI2D")
    for path in (out / "nosam").glob("nosam_SEEDBench_IMG*.xlsx"):
        edit(path, lambda frame: frame.iloc[:-1])
    (out / "nosam" / "nosam_SEEDBench_IMG_acc.csv").unlink()
    with pytest.raises(DataError, match="document .* of task SEEDBench_IMG is in one mask's run only"):
        table(out, LENIENT, only="SEED-I")


def test_mmvp_before_december_2025_reports_questions_as_overall(out):
    want = {name: table(out, only=name).points for name in ("MMVP", "MMVP pairs")}
    for path in out.rglob("*_MMVP_acc.csv"):
        frame = pd.read_csv(path)
        frame["Overall"] = frame.pop("Average")
        frame.to_csv(path, index=False)
    np.testing.assert_array_equal(table(out, only="MMVP").points, want["MMVP"])
    pairs = table(out, only="MMVP pairs")
    np.testing.assert_array_equal(pairs.points, want["MMVP pairs"])
    assert any("reports no number to compare" in note for note in pairs.notes)


def test_data_sets_that_begin_alike_are_told_apart(out):
    """MMBench_DEV_EN_V11 beside it is neither MMBench_DEV_EN nor a judge of it; alone, it is no hole of it either."""
    want = table(out, LENIENT, only="MMBench").points
    for path in list(out.rglob("*_MMBench_DEV_EN*")):
        shutil.copy(path, path.with_name(path.name.replace("DEV_EN", "DEV_EN_V11")))
    for path in out.rglob("status.json"):
        path.unlink()
    np.testing.assert_array_equal(table(out, LENIENT, only="MMBench").points, want)
    for path in list(out.rglob("*_MMBench_DEV_EN*")):
        if "V11" not in path.name:
            path.unlink()
    assert "MMBench" not in [b.name for b in table(out, LENIENT).benchmarks]


def test_headlines_alone_are_said_to_be_unchecked(out):
    for path in out.rglob("*_AI2D_TEST_exact_matching_result.xlsx"):
        path.unlink()
    made = table(out, only="AI2D")
    assert made.points[0, 0] == 100
    assert any("unchecked: no samples were logged; answers that failed count as wrong in it" in n for n in made.notes)


def test_what_failed_is_a_hole_with_vlmevalkit_s_reason(out):
    path = out / "noclip" / "status.json"
    status = json.loads(path.read_text())
    status["datasets"]["MME"]["error_message"] = "CUDA out of memory\nTraceback"
    path.write_text(json.dumps(status))
    made = table(out, LENIENT, only="MME")
    assert np.isnan(made.points[1, 0])
    assert any("no run of drop=clip on MME (MME); VLMEvalKit says: CUDA out of memory" in note for note in made.notes)


def test_masks_must_be_told(out):
    for told, match in (
        ((), "does not record which encoders full dropped; say so with --mask-of 'full=none'"),
        (("full=none", "nothing=clip"), "'nothing' matches no run"),
        ((*MASKS, "x5:no*=sam"), "'noclip' and 'no\\*' both match"),
        (("full",), "must be"),
    ):
        with pytest.raises(SetupError, match=match):
            table(out, replace(OPTIONS, mask_of=told))


def test_frameworks_stand_side_by_side(out, tmp_path):
    from tests.helpers.runs import write_run

    for drop in ("none", "clip", "sam"):
        write_run(tmp_path / "lmms", drop, {"redundancy_demo_general": [1, 0]}, checkpoint="x5")
    made = api.read([out, tmp_path / "lmms"], replace(LENIENT, mask_of=MASKS))
    assert [(t.framework, t.checkpoint, len(t.benchmarks)) for t in made] == [
        ("vlmevalkit", "x5", 15),
        ("lmms-eval", "x5", 1),
    ]
    from redundancy_eval.reports.model import names

    assert names(made) == ["x5 [vlmevalkit]", "x5 [lmms-eval]"]


def test_replies_that_became_formulas_are_missing_and_named(out):
    path = out / "noclip" / "noclip_ChartQA_TEST.xlsx"
    frame = pd.read_excel(path, engine="openpyxl")
    frame["prediction"] = frame["prediction"].astype(object)
    frame.loc[0, "prediction"] = "=14.5"
    frame.to_excel(path, index=False, engine="xlsxwriter")
    (table,) = api.read([out], OPTIONS)
    column = [benchmark.name for benchmark in table.benchmarks].index("ChartQA")
    assert np.isnan(table.row(("clip",))[column]) and not np.isnan(table.row(())[column])
    told = " ".join(table.notes)
    assert f"{path}: 1 of {len(frame)} predictions began with '='" in told and "are missing" in told
    (table,) = api.read([out], LENIENT)
    assert not np.isnan(table.row(("clip",))[column])
