"""From result folders to tables: numbers, holes, refusals."""

import json
import shutil

import numpy as np
import pytest

from redundancy_eval import api, records, scores, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.options import Options
from redundancy_eval.readers import find
from redundancy_eval.reports import cells, markdown, report
from redundancy_eval.reports.model import names
from tests.helpers import frames
from tests.helpers.runs import DEMO_TASKS, GENERAL, MASKS, csv_of, right, sweep, table_of, write_run, write_sweep


def test_numbers_of_a_sweep(tmp_path):
    table = table_of(sweep(tmp_path))
    assert table.encoders == ("clip", "convnext", "pix2struct", "eva02")
    frame = frames.scores(table)
    assert frame.loc["none"].tolist() == [80, 70, 60, 50, 40, 60]
    assert frame.loc["convnext", "OCR"] == 40
    assert frame.loc["all", "Overall"] == pytest.approx((30 + 20 + 10 + 0 + 0) / 5)
    cur = frames.cur(table)
    assert cur.loc["clip", "General"] == pytest.approx(1 / 8)
    assert cur.loc["eva02", "Chart"] == pytest.approx(4 / 5)
    assert cur.loc["clip", "Overall"] == pytest.approx(np.mean([1 / 8, 1 / 7, 1 / 6, 1 / 5, 1 / 4]))


def test_the_paper_s_four_categories_join_ocr_and_chart(tmp_path):
    frame = frames.scores(table_of(sweep(tmp_path), "paper"))
    assert list(frame.columns) == ["General", "Knowledge", "OCR & Chart", "Vision-Centric", "Overall"]
    assert frame.loc["none", "OCR & Chart"] == 55


def test_samples_are_paired_by_document(tmp_path):
    table = table_of(sweep(tmp_path))
    paired = table.samples["demo general"]
    assert paired.documents.tolist() == [str(i) for i in range(10)] and paired.scores.shape == (6, 10)
    np.testing.assert_allclose(100 * paired.scores.mean(axis=1), table.points[:, 0])


def test_documents_are_those_of_their_scores(tmp_path):
    for drop, wrong in (("none", 2), ("clip", 11)):
        write_run(tmp_path, drop, {GENERAL: [int(i != wrong) for i in range(12)]})
    paired = table_of(tmp_path).samples["demo general"]
    assert [paired.documents[row == 0].tolist() for row in paired.scores] == [["2"], ["11"]]


def test_a_missing_mask_is_a_hole_with_a_reason(tmp_path):
    folder = sweep(tmp_path)
    for path in (folder / "drop-convnext").rglob("*"):
        if path.name.endswith("_results.json"):
            content = json.loads(path.read_text())
            for part in ("results", "configs"):
                del content[part][GENERAL]
            path.write_text(json.dumps(content))
    table = table_of(folder)
    assert np.isnan(frames.scores(table).loc["convnext", ["General", "Overall"]]).all()
    assert np.isnan(frames.cur(table).loc["convnext", ["General", "Overall"]]).all()
    assert frames.cur(table).loc["convnext", "OCR"] == pytest.approx(2 / 6)
    assert f"no run of drop=convnext on demo general ({GENERAL})" in table.notes
    shutil.rmtree(folder / "drop-eva02")
    assert any("eva02" in note and "undefined" in note for note in table_of(folder).notes)


def test_full_score_zero_and_missing_full_model_are_undefined(tmp_path):
    table = table_of(write_sweep(tmp_path / "a", {drop: {GENERAL: right(0)} for drop in MASKS}))
    assert frames.cur(table)["General"].isna().all() and any("scores 0" in note for note in table.notes)
    table = table_of(write_sweep(tmp_path / "b", {drop: {GENERAL: right(5)} for drop in MASKS[1:]}))
    assert frames.cur(table).isna().all(axis=None) and any("full model" in note for note in table.notes)


def refused(folder, match, **options):
    with pytest.raises((DataError, SetupError), match=match) as error:
        table_of(folder, **options)
    assert "\n" not in str(error.value)


def test_two_runs_of_one_mask(tmp_path):
    folder = sweep(tmp_path)
    write_run(folder, "clip", {GENERAL: right(3)}, stamp="20261121_130000")
    refused(
        folder, r"two runs of drop=clip on task redundancy_demo_general: .*120000_results.json and .*130000_results"
    )


def test_one_mask_spelt_in_two_ways(tmp_path):
    folder = sweep(tmp_path)
    write_run(folder, "det", {GENERAL: right(3)})
    refused(folder, "two runs of drop=eva02")


def test_other_tasks_of_one_mask_may_come_from_another_run(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(3)})
    write_run(tmp_path, "none", {DEMO_TASKS[1]: right(4)}, stamp="20261121_130000")
    assert table_of(tmp_path).points.tolist() == [[30, 40]]


@pytest.mark.parametrize(
    ("bend", "match"),
    [
        (dict(limit=4), "limit"),
        (dict(version=2.0), "version"),
        (dict(generation={"max_new_tokens": 4}), "generation"),
        (dict(wording="!"), r"samples_redundancy_demo_general.jsonl:1: document 0 .* was asked"),
    ],
)
def test_masks_that_differ_in_settings_or_questions(tmp_path, bend, match):
    write_run(tmp_path, "none", {GENERAL: right(3)})
    write_run(tmp_path, "clip", {GENERAL: right(2)}, **bend)
    refused(tmp_path, match)


def test_a_checkpoint_that_changed_between_the_masks(tmp_path, capsys):
    folder = write_sweep(tmp_path / "runs", {drop: {GENERAL: right(5)} for drop in ("none", "clip", "all")})
    for drop, digest in (("none", "aa"), ("clip", "bb")):  # nothing is told of "all"
        records.write({"checkpoint": digest}, folder / f"drop-{drop}" / "ck")
    command = ["report", str(folder), "--taxonomy", "five", "-o", str(tmp_path / "out")]
    assert main(command) == 3
    assert "runs differ in weights: 'bb' and 'aa'" in capsys.readouterr().err
    assert main([*command, "--lenient", "weights"]) == 0
    records.write({"checkpoint": "aa"}, folder / "drop-clip" / "ck")
    assert table_of(folder).points.tolist() == [[50], [50], [50]]
    other = write_run(tmp_path / "other", "none", {DEMO_TASKS[1]: right(4)}, stamp="20261121_130000").parent
    records.write({"checkpoint": "bb"}, other)
    shutil.copytree(tmp_path / "other", folder / "another task")
    refused(folder, "runs differ in weights")


def test_masks_that_differ_in_documents(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(3)})
    path = write_run(tmp_path, "clip", {GENERAL: right(2)})
    samples = next(path.parent.glob("*.jsonl"))
    samples.write_text(samples.read_text().replace('"doc_id": 9', '"doc_id": 17'))
    refused(tmp_path, r"\.jsonl:10: document \d+ of task redundancy_demo_general is in one mask's run only")
    write_run(tmp_path, "eva02", {GENERAL: right(3, 12)}, samples=False)
    shutil.rmtree(tmp_path / "drop-clip")
    refused(tmp_path, "differ in documents: 12 and 10")


def test_truncated_and_doubled_files(tmp_path):
    path = write_run(tmp_path, "none", {GENERAL: right(3)})
    samples, text = next(path.parent.glob("*.jsonl")), next(path.parent.glob("*.jsonl")).read_text()
    samples.write_text(text[:-20])
    refused(tmp_path, r"\.jsonl:10: truncated")
    samples.write_text("".join(text.splitlines(keepends=True)[:-1]))
    refused(tmp_path, r"\.jsonl:9: 9 samples, but .* counts 10")
    samples.write_text(text + text)
    refused(tmp_path, r"\.jsonl:11: document 0 was already on line 1")
    samples.write_text(text)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    refused(tmp_path, r"_results.json:\d+: truncated")


def test_headline_must_follow_from_the_samples(tmp_path):
    path = write_run(tmp_path, "none", {GENERAL: right(3)})
    path.write_text(path.read_text().replace("0.3", "0.4"))
    refused(tmp_path, "reports 40.0+ points, but its samples give 30.0")


def test_points_outside_the_scale(tmp_path):
    path = write_run(tmp_path, "none", {GENERAL: right(3)}, samples=False)
    path.write_text(path.read_text().replace("0.3", "30"))
    refused(tmp_path, "outside 0..100")


def test_unknown_metric_task_encoder_path(tmp_path):
    write_run(tmp_path / "a", "none", {GENERAL: right(3)}, metric="other", samples=False)
    refused(tmp_path / "a", "has no number 'accuracy'")
    write_run(tmp_path / "b", "none", {"some_task": right(3)})
    refused(tmp_path / "b", "none of the tasks is in the taxonomy")
    write_run(tmp_path / "c", "siglip", {GENERAL: right(3)})
    refused(tmp_path / "c", "unknown encoder 'siglip'; this model has: clip, convnext, pix2struct, eva02")
    (tmp_path / "d").mkdir()
    refused(tmp_path / "d", "no results of lmms-eval")
    refused(tmp_path / "e", "no such file")


def test_unknown_checkpoint_needs_its_encoders_only_where_it_matters(tmp_path):
    for drop in ("none", "sam", "clip"):
        write_run(tmp_path, drop, {GENERAL: right(3)}, checkpoint="me/unseen")
    table = table_of(tmp_path)
    assert table.encoders == ("clip", "sam") and any("inferred" in note for note in table.notes)
    assert table_of(tmp_path, encoders=["clip", "sam", "eva02"]).encoders == ("clip", "sam", "eva02")
    write_run(tmp_path, "all", {GENERAL: right(3)}, checkpoint="me/unseen")
    refused(tmp_path, "say so with --encoders")


def test_a_run_without_pretrained_is_the_family_s_default():
    from redundancy_eval.model_wrappers.families import registry

    assert registry.known_encoders("eagle_masked", "eagle_masked") == ("clip", "convnext", "sam", "eva02", "pix2struct")
    assert registry.known_encoders("eagle_masked", "me/unseen") == registry.known_encoders("llava", "demo") == ()


def test_runs_of_another_checkpoint_or_dtype_are_another_model(tmp_path):
    write_run(tmp_path / "a", "none", {GENERAL: right(3)})
    write_run(tmp_path / "b", "none", {GENERAL: right(4)}, args=",dtype=float16")
    made = scores.tables(find.read([tmp_path], taxonomy.load()), taxonomy.load(), encoders=["clip"])
    assert len(made) == 2 and names(made) == ["demo", "demo (2)"]


def lenient(folder, *kinds, **options):
    return api.read([folder], Options(lenient=kinds, encoders=("clip", "convnext", "pix2struct", "eva02"), **options))


@pytest.mark.parametrize(
    ("kind", "bend"),
    [
        ("limit", dict(limit=4)),
        ("version", dict(version=2.0)),
        ("generation", dict(generation={"max_new_tokens": 4})),
        ("prompt", dict(wording="!")),
    ],
)
def test_named_kinds_become_warnings_under_the_table(tmp_path, kind, bend):
    write_run(tmp_path, "none", {GENERAL: right(4)})
    write_run(tmp_path, "clip", {GENERAL: right(2)}, **bend)
    refused(tmp_path, f"--lenient {kind} makes this a warning")
    (table,) = lenient(tmp_path, kind)
    assert table.points[:, 0].tolist() == [40, 20]
    (note,) = [note for note in table.notes if note.startswith(f"warning ({kind}): ")]
    assert note in markdown.text(report.build([table]))


def test_masks_that_differ_in_documents_may_be_scored_each_on_its_own(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(4)})
    write_run(tmp_path, "clip", {GENERAL: right(2, 8)})
    (table,) = lenient(tmp_path, "documents")
    assert table.points[:, 0].tolist() == [40, 25] and table.samples["demo general"].scores.shape == (2, 8)


def test_the_newest_of_two_runs_and_the_last_of_two_samples_may_count(tmp_path):
    write_run(tmp_path / "a", "none", {GENERAL: right(5)}, stamp="20261121_130000")
    write_run(tmp_path / "a", "none", {GENERAL: right(4)})
    assert lenient(tmp_path / "a", "duplicate-runs")[0].points.tolist() == [[50]]
    path = write_run(tmp_path / "b", "none", {GENERAL: right(4)})
    samples = next(path.parent.glob("*.jsonl"))
    text = samples.read_text()
    samples.write_text(text.replace('"score": 1.0', '"score": 0.0') + text)
    assert lenient(tmp_path / "b", "duplicate-samples")[0].points.tolist() == [[40]]


def test_without_sound_samples_the_framework_s_number_may_stand(tmp_path):
    path = write_run(tmp_path / "a", "none", {GENERAL: right(3)})
    samples = next(path.parent.glob("*.jsonl"))
    samples.write_text(samples.read_text()[:-20])
    (table,) = lenient(tmp_path / "a", "truncated")
    assert table.points.tolist() == [[30]] and not table.samples
    path = write_run(tmp_path / "b", "none", {GENERAL: right(3)})
    path.write_text(path.read_text().replace("0.3", "0.4"))
    assert lenient(tmp_path / "b", "headline")[0].points.tolist() == [[40]]
    with pytest.raises(SetupError, match="--lenient knows documents, .*; not 'all'"):
        lenient(tmp_path / "b", "all")


def test_a_full_model_of_another_checkpoint(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(4)}, checkpoint="demo")
    write_run(tmp_path, "clip", {GENERAL: right(3)}, checkpoint="other")
    refused(
        tmp_path, r"masked run of eagle_masked pretrained=other, but the full model is another: .*pretrained=demo in"
    )
    tables = lenient(tmp_path, "checkpoint")
    assert {t.checkpoint for t in tables} == {"demo", "other"} and all(
        "warning (checkpoint)" in t.notes[0] for t in tables
    )


def test_the_full_model_serves_every_ablation_and_site(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(8)})
    for ablation, count in (("zero", 4), ("mean", 6)):
        write_run(tmp_path / ablation, "clip", {GENERAL: right(count)}, args=f",ablation={ablation},calibration=c")
    mean, zero = lenient(tmp_path)
    assert zero.points[:, 0].tolist() == [80, 40] and mean.points[:, 0].tolist() == [80, 60]
    assert "ablation:mean|calibration:c|" in mean.signature and "ablation:zero|" in zero.signature


def test_masks_of_other_people_s_runs_are_told(tmp_path):
    for name, count in (("x-full", 8), ("x-noclip", 6)):
        path = write_run(tmp_path, "none", {GENERAL: right(count)}, checkpoint=name)
        moved = tmp_path / name
        moved.mkdir()
        for file in path.parent.iterdir():
            file.rename(moved / file.name)
        text = (moved / path.name).read_text().replace(",drop=none", "").replace("eagle_masked", "llava")
        (moved / path.name).write_text(text)
    told = dict(mask_of=("x:x-full=none", "x:x-noclip=clip"))
    (table,) = lenient(tmp_path, **told)
    assert table.checkpoint == "x" and table.masks == ((), ("clip",)) and table.points[:, 0].tolist() == [80, 60]
    with pytest.raises(SetupError, match="--mask-of must be"):
        lenient(tmp_path, mask_of=("x-full",))
    with pytest.raises(SetupError, match="'\\*' both match this run"):
        lenient(tmp_path, mask_of=("x-full=none", "*=clip"))


def test_answers_at_the_length_limit_are_counted(tmp_path):
    path = write_run(tmp_path, "none", {GENERAL: right(3)})
    samples = next(path.parent.glob("*.jsonl"))
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    for record in records:
        record["token_counts"] = [{"input_tokens": 9, "output_tokens": 16 if record["doc_id"] < 2 else 15}]
    samples.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "drop=none: 2 of 10 answers on demo general reached the length limit" in table_of(tmp_path).notes


CSV = """model,mask,benchmark,score,n
x5,none,GQA,64.0,12578
x5,clip,GQA,62.5,12578
x5,none,mmvp,70,
x5,all,gqa,40,12578
x4,none,GQA,60,100
"""


def test_a_csv_of_scores(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    path.write_text(CSV)
    (x5, x4) = api.read([path], Options("paper", encoders=("clip", "sam")))
    assert x5.masks == ((), ("clip",), ("clip", "sam")) and x4.points.tolist() == [[60]]
    np.testing.assert_array_equal(x5.points, [[64, 70], [62.5, np.nan], [40, np.nan]])
    assert x5.documents == (12578, None) and "framework" not in x5.signature
    assert any("scores from a CSV file" in note for note in x5.notes) and not x5.samples
    assert main(["report", str(path), "--encoders", "clip,sam"]) == 0
    assert "scores from a CSV file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("x5,none,GQA,64,9", ":7: a second score of x5, mask none on GQA"),
        ("x5,sam,GQA,high,9", ":7: score 'high'"),
        ("x5,sam,GQA,64,many", ":7: score '64' or n 'many' is not a number"),
        ("x5,,GQA,64,9", ":7: model, mask and benchmark must be given"),
        ("x5,sam,GQA,64,9,extra", ":7: .* nothing after the columns"),
        ("x5,sam,GQA,640,12578", "gives 640 points, outside 0..100"),
        ("x5,sam,GQA,64,9", "differ in documents: 12578 and 9"),
        ("x5,dino,GQA,64,12578", "unknown encoder 'dino'"),
    ],
)
def test_wrong_lines_of_a_csv(tmp_path, line, match):
    path = tmp_path / "scores.csv"
    path.write_text(CSV + line + "\n")
    with pytest.raises((DataError, SetupError), match=match):
        api.read([path], Options("paper", encoders=("clip", "sam")))


def test_numbers_without_samples_are_said_to_be_unchecked(tmp_path):
    write_run(tmp_path, "none", {GENERAL: right(3)}, samples=False)
    note = "demo general is the framework's number, unchecked: no samples were logged"
    assert table_of(tmp_path).points.tolist() == [[30]] and note in table_of(tmp_path).notes


def test_what_cannot_be_read_or_written_is_one_line(tmp_path, capsys):
    (tmp_path / "latin.csv").write_bytes(b"model,mask,benchmark,score\nx,none,GQA\xe9,1\n")
    assert main(["report", str(tmp_path / "latin.csv")]) == 3
    assert "not UTF-8 text" in capsys.readouterr().err
    (tmp_path / "scores.csv").write_text(CSV)
    (tmp_path / "taken").write_text("a file, no folder")
    command = ["report", str(tmp_path / "scores.csv"), "--encoders", "clip,sam", "-o", str(tmp_path / "taken" / "x")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("redundancy-eval: error: ")


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("x,none,GQA,62.1\nx,clip,GQA,0.583", ":3: a score of 0.583 may be a fraction or points: say --scale 100"),
        ("x,none,GQA,0.6\nx,clip,GQA,0.5", ":2: a score of 0.6 may be a fraction or points"),
        ("x,none,GQA,6_2.1\nx,clip,GQA,58", ":2: score '6_2.1' .*is not a number"),
        ("x,none,GQA,\uff16\uff12\nx,clip,GQA,58", ":2: score .* is not a number"),
        ("x,none,GQA,nan\nx,clip,GQA,58", ":2: score 'nan' is not a number"),
        ("x,none,GQA,60\nx,full,GQA,58", ":3: 'full' is no encoder's name; the full model's mask is none"),
        ("x,none,GQA,60\nx,../../x,GQA,58", ":3: '../../x' is no encoder's name"),
        ("x,none,GQA,60\nx,det,GQA,50\nx,eva02,GQA,58", "two runs of"),
    ],
)
def test_scores_that_could_mean_something_else(tmp_path, lines, match):
    path = tmp_path / "scores.csv"
    path.write_text(f"model,mask,benchmark,score\n{lines}\n", encoding="utf-8")
    with pytest.raises((DataError, SetupError), match=match):
        api.read([path], Options("paper"))


def test_fractions_are_told(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    path.write_text("model,mask,benchmark,score\nx,none,GQA,0.6\nx,clip,GQA,0.45\nx,sam,GQA,0\n")
    (points,) = api.read([path], Options("paper", scale=100))
    assert points.points.ravel().tolist() == [60, 45, 0]
    (small,) = api.read([path], Options("paper", scale=1))
    assert small.points.ravel().tolist() == [0.6, 0.45, 0]
    assert main(["report", str(path), "--scale", "100", "-o", str(tmp_path / "out")]) == 0
    assert main(["verify", str(tmp_path / "out"), str(path)]) == 0  # with the scale that the report was made with
    path.write_text("model,mask,benchmark,score\nx,none,GQA,0.6\nx,clip,GQA,45\n")
    with pytest.raises(DataError, match=":3: a score of 45 is no fraction"):
        api.read([path], Options("paper", scale=100))


def test_two_columns_of_one_name(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("model,mask,benchmark,score,score\nx,none,GQA,60,10\n")
    with pytest.raises(DataError, match=r":1: two columns 'score'"):
        api.read([path])


def test_many_encoders_need_no_list_of_all_masks(tmp_path):
    path = tmp_path / "scores.csv"
    names = [f"e{number}" for number in range(40)]
    lines = ["x,none,GQA,50", *(f"x,{name},GQA,40" for name in names), "x,e1+e0,GQA,30"]
    path.write_text("model,mask,benchmark,score\n" + "\n".join(lines) + "\n")
    (table,) = api.read([path])
    assert table.masks == ((), *((name,) for name in names), ("e0", "e1")) and len(table.encoders) == 40


def test_encoders_named_twice_are_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(CSV)
    with pytest.raises(SetupError, match="--encoders names clip twice"):
        api.read([path], Options(encoders=("clip", "clip", "sam")))


def test_encoders_that_are_not_known_have_no_gap(tmp_path):
    path = csv_of(tmp_path, *(f"x,{mask},ChartQA,{score},10" for mask, score in (("none", 60), ("clip", 45))))
    options = Options(str(one_category(tmp_path)))
    (table,) = api.read([path], options)
    assert table.guessed and list(frames.scores(table).index) == ["none", "clip"]
    assert frames.cur(table).loc["clip", "Reading"] == 0.25 and gaps(table) == ["n/a", "n/a"]
    assert any("there may be others, so IG is undefined" in note for note in table.notes)
    best = next(t for t in report.build([table]).tables if t.stem == "variants")
    assert [row.label for row in best.rows] == ["full model", "1 dropped: without clip (best of 1/?)"]
    assert "encoders:clip+?|masks:2/?|" in table.signature
    (told,) = api.read([path], Options(options.taxonomy, encoders=("clip",)))
    assert gaps(told) == ["n/a", "n/a"] and "|masks:2/2|" in told.signature  # of one encoder


def gaps(table):
    (found,) = [table for table in report.build([table]).tables if table.stem == "ig"]
    return [cells.figure(cell) for cell in found.rows[0].cells]


def one_category(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"schema": 2, "taxonomies": {"mine": {"Reading": ["ChartQA"]}}}')
    return path


def test_runs_of_a_model_that_is_not_known_have_no_gap_either(tmp_path):
    for drop in ("none", "clip", "sam"):
        write_run(tmp_path, drop, {GENERAL: right(3)}, checkpoint="me/unseen")
    table = table_of(tmp_path)
    assert frames.cur(table)["General"].tolist() == [0, 0] and set(gaps(table)) == {"n/a"}
    write_run(tmp_path, "a b", {GENERAL: right(3)}, checkpoint="me/unseen")
    refused(tmp_path, "drop-a b.*: 'a b' is no encoder's name")


def test_two_names_of_one_encoder(tmp_path):
    path = csv_of(tmp_path, "x,none,GQA,62,9", "x,det,GQA,50,9", "x,eva02,GQA,58,9")
    with pytest.raises(DataError, match="two runs of one mask: det and eva02 both call the encoder eva02"):
        api.read([path])


def test_a_full_score_that_is_rounding_gives_no_rate(tmp_path):
    path = csv_of(tmp_path, "x,none,GQA,1e-300,9", "x,clip,GQA,58,9")
    (table,) = api.read([path], Options(scale=1))
    assert frames.cur(table).isna().all(axis=None) and "the full model scores 0 on: GQA" in table.notes


def test_encoders_that_contradict_the_record_are_refused(tmp_path):
    for drop in ("none", "clip"):
        path = write_run(tmp_path, drop, {GENERAL: right(3)}, checkpoint="me/unseen")
        records.write({"encoders": ["clip", "convnext", "sam"]}, path.parent)
    for given in (("clip", "convnext"), ("clip", "convnext", "eva02"), ("convnext", "clip", "sam")):
        refused(tmp_path, "--encoders .* contradicts the record of .*drop-.*: clip,convnext,sam", encoders=given)
    assert table_of(tmp_path, encoders=("clip", "convnext", "sam")).encoders == ("clip", "convnext", "sam")
    write_run(tmp_path / "demo", "none", {GENERAL: right(3)})
    refused(tmp_path / "demo", "contradicts what is known of demo", encoders=("clip", "convnext"))


@pytest.mark.parametrize("recorded", [["clip", "clip"], [1, 2], ["a|b"], ["none"], [["clip"]], ["clip\n"]])
def test_recorded_encoders_that_are_no_names(tmp_path, recorded):
    path = write_run(tmp_path, "none", {GENERAL: right(3)}, checkpoint="me/unseen")
    records.write({"encoders": recorded}, path.parent)
    refused(tmp_path, "drop-none.*(is no encoder's name|is recorded twice|expected str, got)")


def test_a_taxonomy_of_one_s_own_is_signed_with_its_content(tmp_path, capsys):
    path = csv_of(tmp_path, "x,none,ChartQA,62,9", "x,clip,ChartQA,50,9")
    command = ["report", str(path), "--taxonomy", str(one_category(tmp_path)), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    label = taxonomy.load(str(tmp_path / "own.json")).label
    assert f"|taxonomy:{label}|" in capsys.readouterr().out and label.startswith("mine@")
    (tmp_path / "own.json").write_text((tmp_path / "own.json").read_text() + " ")
    assert main(["verify", str(tmp_path / "out"), str(path)]) == 3


def test_a_csv_without_its_columns(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("model,score\nx,1\n")
    with pytest.raises(DataError, match=r"scores.csv:1: no column 'mask'"):
        api.read([path])
