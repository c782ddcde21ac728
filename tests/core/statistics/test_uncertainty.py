"""The join of statistics and a table: labels, reasons for what is not known, and the same bytes in any order."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval import masks as mask_names
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.statistics import covariance, cur, games, planning, verdicts
from redundancy_eval.table import SampleScores
from redundancy_eval.uncertainty import OVERALL, Settings, analyse, plain, results
from redundancy_eval.uncertainty.join import join
from tests.core.statistics import tables
from tests.core.statistics.tables import CHARTS, ENCODERS, GENERAL, GROUPS, STRATA, every


@pytest.fixture(scope="module")
def usual():
    return tables.usual()


@pytest.fixture(scope="module")
def analysis(usual):
    return analyse(usual)


def text(found):
    return json.dumps(plain(found), sort_keys=True)


def of(items, **wanted):
    """The one item with these fields."""
    found = [each for each in items if all(getattr(each, key) == value for key, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def single(count=120, seed=3, **changes):
    """A table of one benchmark in one category."""
    made = tables.samples(np.random.default_rng(seed), every(ENCODERS), count, **changes)
    return tables.table([(GENERAL, made)], categories=["General"])


def with_samples(table, name, **changes):
    return replace(table, samples={**table.samples, name: replace(table.samples[name], **changes)})


# What is known


def test_points_are_those_of_the_table(usual, analysis):
    for mask, row in zip(usual.masks, usual.points, strict=True):
        for benchmark, value in zip(usual.benchmarks, row, strict=True):
            assert analysis.score(mask, benchmark.name).value == pytest.approx(value, abs=1e-10)
    categories = usual.categories(usual.row(()))
    assert [analysis.score((), name).value for name in ("General", "OCR")] == pytest.approx(categories)
    assert analysis.score((), OVERALL).value == pytest.approx(categories.mean())
    assert analysis.score(("sam", "clip"), OVERALL) == analysis.score(("clip", "sam"), OVERALL) is not None
    assert analysis.score(("siglip",), OVERALL) is None


def test_curs_are_those_of_the_table(usual, analysis):
    for name, row in zip(usual.encoders, usual.cur(), strict=True):
        found = [analysis.cell(name, place).cur.value for place in ("General", "OCR", OVERALL)]
        assert found == pytest.approx([*row, row.mean()])
    with pytest.raises(KeyError):
        analysis.cell("siglip", OVERALL)


def test_every_interval_holds_its_value_and_has_no_reason(analysis):
    numbers = [each.points for each in analysis.scores] + [each.cur for each in analysis.cells]
    numbers += [each.ig for each in analysis.gaps] + [each.shapley for each in analysis.shares]
    numbers += [each.at_full for each in analysis.pairs] + [each.contexts for each in analysis.pairs]
    numbers += [each.points for each in analysis.best] + [each.to_full for each in analysis.best]
    numbers += [each.floor_corrected for each in analysis.cells] + [each.headroom for each in analysis.floors]
    numbers += [each.share for each in analysis.changed] + [each.of_headroom for each in analysis.shares]
    for number in numbers:
        assert number.low <= number.value + 1e-9 and number.value <= number.high + 1e-9
        assert number.high > number.low and number.method and number.clusters and not number.reason


def test_numbers_are_those_of_the_statistics(usual, analysis):
    joined = join(usual)
    general = covariance.mean([place.scores for place in joined.benchmarks[:2]])
    found = cur.curs(general, 0, joined.singles)
    for name, value, se, df in zip(joined.encoders, found.values, found.se, found.df, strict=True):
        cell = analysis.cell(name, "General")
        assert (cell.cur.value, cell.cur.se, cell.cur.df) == (value, se, df)
    p = np.stack([verdicts.p_difference(cur.curs(place.scores, 0, joined.singles)) for place in joined.categories])
    adjusted = [[analysis.cell(name, place.name).p_adjusted for name in joined.encoders] for place in joined.categories]
    np.testing.assert_array_equal(adjusted, verdicts.holm(p))


def test_shapley_values_give_the_headroom(analysis):
    for floor in analysis.floors:
        total = sum(each.shapley.value for each in analysis.shares if each.place == floor.place)
        assert total == pytest.approx(floor.headroom.value)
        parts = sum(each.of_headroom.value for each in analysis.shares if each.place == floor.place)
        assert parts == pytest.approx(1)
        if floor.place == OVERALL:
            assert sum(each.points.value for each in analysis.moebius) == pytest.approx(
                analysis.score((), OVERALL).value
            )
            assert analysis.moebius[0].points.value == pytest.approx(floor.points.value)
        together = of(analysis.shared, place=floor.place)
        assert together.together == floor.headroom
    full, none = analysis.score((), "OCR").value, analysis.score(ENCODERS, "OCR").value
    assert of(analysis.floors, place="OCR").headroom.value == pytest.approx(full - none)


def test_verdicts_follow_from_what_stands_beside_them(analysis):
    for cell in analysis.cells:
        word = verdicts.verdicts(
            [cell.cur.value], [cell.p_adjusted], [cell.p_equivalence_adjusted], positive=verdicts.RELIED_ON
        )
        assert cell.verdict == word[0]
        assert np.isnan(cell.documents_to_decide) == (cell.verdict != verdicts.UNDECIDED)
        family = 3 if cell.place == OVERALL else 6
        assert cell.smallest_margin == pytest.approx(planning.smallest_margin(cell.cur.se, family))
        if cell.verdict == verdicts.UNDECIDED:
            need = verdicts.documents_to_decide([cell.cur.value], [cell.cur.se], cell.documents, 0.02, family)[0]
            assert need <= cell.documents_to_decide <= 1.1 * need
    assert analysis.cell("eva02", OVERALL).verdict == verdicts.RELIED_ON
    assert analysis.cell("eva02", "General").documents == 320


def test_needed_is_said_of_predicted_outputs_only(usual, analysis):
    predicted = analyse(usual, predicted=True)
    assert predicted.cell("eva02", OVERALL).verdict == verdicts.NEEDED
    assert text(predicted).replace('"needed', '"relied on') == text(analysis)


def test_redundant_everywhere_is_as_sure_as_its_least_sure_category(analysis):
    for each in analysis.everywhere:
        cells = [analysis.cell(each.encoder, place) for place in ("General", "OCR")]
        assert each.p == max(cell.p_equivalence for cell in cells)


def test_an_encoder_that_changes_nothing_is_redundant_everywhere():
    rng = np.random.default_rng(4)
    found = tables.samples(rng, every(ENCODERS), 4000, losses={"sam": 0.0, "clip": 0.3, "eva02": 0.5})
    same = found.scores.copy()
    for row, mask in enumerate(every(ENCODERS)):
        if mask == ("sam",):
            same[row] = same[0]
    analysis = analyse(tables.table([(GENERAL, replace(found, scores=same))], categories=["General"]))
    assert analysis.cell("sam", "General").verdict == verdicts.REDUNDANT
    assert [each.redundant for each in analysis.everywhere] == [False, False, True]
    assert analysis.encoders == ("clip", "eva02", "sam")
    assert analysis.cell("sam", "General").cur.df == np.inf and '"df": null' in text(analysis)


def test_best_masks_and_those_that_suffice(usual, analysis):
    overall = {mask: usual.categories(usual.row(mask)).mean() for mask in usual.masks}
    for best in analysis.best:
        size = [mask for mask in usual.masks if len(ENCODERS) - len(mask) == best.kept]
        assert best.run == best.possible == len(size)
        assert best.points.value == pytest.approx(max(overall[mask] for mask in size))
        assert best.mask in best.not_told_apart
        assert best.to_full.value == pytest.approx(best.points.value - overall[()])
        assert best.after_selection <= best.points.value + 0.1
    for keeps in analysis.keeps:
        if keeps.by_the_numbers is not None:
            row = tuple(name for name in ENCODERS if name in keeps.by_the_numbers)
            assert overall[row] >= keeps.share * overall[()]
        if keeps.shown is not None:
            assert len(keeps.shown) <= len(keeps.by_the_numbers)
    assert [keeps.share for keeps in analysis.keeps] == [0.9, 0.95, 0.99]
    assert analysis.keeps[0].shown is not None  # at 90 %, which no subset could show of 100 %


def test_routers_of_categories_are_means(analysis):
    parts = [of(analysis.routers, place=name) for name in (GENERAL.name, GROUPS.name)]
    general = of(analysis.routers, place="General")
    assert general.oracle == pytest.approx(np.mean([part.oracle for part in parts]))
    assert np.isfinite(parts[1].checked) and np.isnan(parts[0].checked)
    assert all(part.masks == 8 for part in parts)


def test_the_signature_says_what_was_set(usual, analysis):
    assert analysis.signature == "level:95|margin:2|family:3x2"
    assert analyse(usual, Settings(0.9, 0.01, 7)).signature == "level:90|margin:1|family:3x2|seed:7"


def test_other_settings_are_used(usual, analysis):
    wider = analyse(usual, Settings(level=0.99)).cell("sam", "OCR").cur
    assert wider.low < analysis.cell("sam", "OCR").cur.low
    loose = analyse(usual, Settings(margin=0.5))
    assert loose.cell("sam", "OCR").verdict == verdicts.REDUNDANT
    assert analyse(usual, Settings(seed=1)).gaps[0].null != analysis.gaps[0].null


@pytest.mark.parametrize("wrong", [{"level": 95}, {"level": 0.3}, {"margin": 0}, {"margin": 2}, {"seed": -1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(SetupError):
        Settings(**wrong)


# The same bytes


@settings(max_examples=3, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_order_changes_no_byte(usual, analysis, random):
    masks, encoders = list(range(len(usual.masks))), list(usual.encoders)
    random.shuffle(masks)
    random.shuffle(encoders)
    shuffled = {}
    for name, found in usual.samples.items():
        rows = list(range(len(found.documents)))
        random.shuffle(rows)
        shuffled[name] = SampleScores(
            found.documents[rows], found.scores[masks][:, rows], found.clusters[rows], found.strata[rows]
        )
    renamed = tuple(tuple(name for name in encoders if name in usual.masks[row]) for row in masks)
    other = replace(usual, encoders=tuple(encoders), masks=renamed, points=usual.points[masks], samples=shuffled)
    assert text(analyse(other)) == text(analysis)


# What is not known, and why


def test_an_encoder_that_was_not_run_leaves_the_others():
    every_mask = every(ENCODERS)
    table = tables.usual(masks=[mask for mask in every_mask if mask != ("sam",)])
    analysis = analyse(table)
    cell = analysis.cell("sam", "General")
    assert np.isnan(cell.cur.value) and cell.verdict == verdicts.NOT_KNOWN
    assert cell.cur.reason == f"drop=sam has no score on {GENERAL.name}"
    assert np.isfinite(analysis.cell("clip", OVERALL).cur.low)
    for gap in analysis.gaps:
        assert np.isnan(gap.ig.value) and "drop=sam" in gap.ig.reason
    assert all(np.isnan(each.shapley.value) and "7 of them run" in each.shapley.reason for each in analysis.shares)
    pairs = {each.encoders: each for each in analysis.pairs if each.place == OVERALL}
    assert np.isfinite(pairs["clip", "eva02"].at_full.low) and np.isnan(pairs["clip", "sam"].at_full.value)
    assert pairs["clip", "sam"].at_full_word == games.NOT_KNOWN
    assert np.isnan(of(analysis.shared, place=OVERALL).points.value)
    assert [(best.kept, best.run, best.possible) for best in analysis.best] == [(2, 2, 3), (1, 3, 3)]


def test_a_hole_in_one_benchmark_is_a_hole_in_its_category_and_overall(usual):
    points = usual.points.copy()
    points[usual.masks.index(("sam",)), 0] = np.nan
    found = usual.samples[GENERAL.name].scores.copy()
    found[usual.masks.index(("sam",))] = np.nan
    analysis = analyse(with_samples(replace(usual, points=points), GENERAL.name, scores=found))
    assert np.isnan(analysis.cell("sam", "General").cur.value) and np.isnan(analysis.cell("sam", OVERALL).cur.value)
    assert np.isfinite(analysis.cell("sam", "OCR").cur.low)
    assert np.isfinite(analysis.score(("sam",), GROUPS.name).low)


def test_leave_one_out_tables_say_what_they_can():
    analysis = analyse(tables.usual(masks=mask_names.leave_one_out(ENCODERS)))
    assert all(
        np.isnan(each.shapley.value) and "needs 8 masks; 5 of them run" in each.shapley.reason
        for each in analysis.shares
    )
    assert all(each.at_full_word == each.contexts_word == games.NOT_KNOWN for each in analysis.pairs)
    assert np.isfinite(of(analysis.shared, place=OVERALL).points.low)
    assert np.isfinite(analysis.cell("clip", OVERALL).floor_corrected.low)


def test_two_encoders_have_one_column_of_interactions():
    encoders = ("clip", "eva02")
    analysis = analyse(tables.usual(encoders=encoders))
    pair = of(analysis.pairs, place=OVERALL)
    assert pair.contexts is None and pair.contexts_word == "" and np.isfinite(pair.at_full.low)
    assert pair.at_full.value == pytest.approx(-of(analysis.shared, place=OVERALL).points.value)


def test_one_encoder_has_no_gap():
    analysis = analyse(tables.usual(encoders=("eva02",)))
    assert "one encoder" in analysis.gaps[0].ig.reason and np.isnan(analysis.gaps[0].ig.value)
    assert analysis.pairs == analysis.shares == () and np.isfinite(analysis.cell("eva02", OVERALL).cur.low)


def test_guessed_encoders_have_no_gap_no_floor_and_no_shares(usual):
    analysis = analyse(replace(usual, guessed=True))
    assert all("not known" in gap.ig.reason and np.isnan(gap.ig.value) for gap in analysis.gaps)
    assert analysis.floors == analysis.shares == analysis.pairs == analysis.best == analysis.keeps == ()
    assert np.isfinite(analysis.cell("clip", OVERALL).cur.low)
    assert "not known" in analysis.cell("clip", OVERALL).floor_corrected.reason
    assert any("no IG, floor" in note for note in analysis.notes)


def test_no_full_model():
    analysis = analyse(tables.usual(masks=every(ENCODERS)[1:]))
    assert all(np.isnan(cell.cur.value) and "drop=none has no score" in cell.cur.reason for cell in analysis.cells)
    assert np.isfinite(analysis.score(("sam",), OVERALL).low)
    assert all(np.isnan(router.by_task) and router.reason for router in analysis.routers)
    assert any(
        note == "best masks are not compared with the full model: drop=none has no score on photos"
        for note in analysis.notes
    )


def test_points_without_samples_have_no_interval():
    rng = np.random.default_rng(0)
    photos = tables.samples(rng, every(ENCODERS))
    table = tables.table([(GENERAL, photos), (CHARTS, np.linspace(40, 60, 8))])
    analysis = analyse(table)
    cell = analysis.cell("clip", "OCR")
    assert np.isfinite(cell.cur.value) and np.isnan(cell.cur.low) and "no samples" in cell.cur.reason
    assert np.isfinite(analysis.cell("clip", "General").cur.low)
    overall = analysis.cell("clip", OVERALL)
    assert np.isfinite(overall.cur.value) and np.isnan(overall.cur.low) and CHARTS.name in overall.cur.reason
    assert overall.verdict == verdicts.NOT_KNOWN and np.isnan(of(analysis.gaps, place=OVERALL).null)
    assert np.isfinite(analysis.best[0].points.value) and np.isnan(analysis.best[0].after_selection)
    assert analysis.best[0].not_told_apart == () and analysis.keeps[0].shown is None and analysis.keeps[0].reason
    assert of(analysis.routers, place="OCR").reason and of(analysis.routers, place=OVERALL).reason


def test_n_alone_gives_unpaired_intervals():
    paired = single(400)
    points = paired.points[:, 0]
    table = tables.table([(GENERAL, points)], categories=["General"], documents=(400,))
    alone, both = analyse(table), analyse(paired)
    for name in ENCODERS:
        assert alone.cell(name, "General").cur.value == pytest.approx(both.cell(name, "General").cur.value)
        assert alone.cell(name, "General").cur.se > both.cell(name, "General").cur.se
    assert "unpaired" in alone.cell("sam", "General").cur.method
    assert any("independent between masks" in note and GENERAL.name in note for note in alone.notes)
    assert "unpaired" not in both.cell("sam", "General").cur.method


@pytest.mark.parametrize("benchmark", [GROUPS, STRATA])
def test_n_alone_does_not_do_where_the_score_is_no_plain_mean(benchmark):
    category = benchmark.category
    table = tables.table([(benchmark, np.linspace(40, 60, 8))], categories=[category], documents=(400,))
    found = analyse(table).cell("clip", category).cur
    assert np.isnan(found.low) and "no plain mean" in found.reason


def test_samples_of_another_number_are_not_used(usual):
    points = usual.points.copy()
    points[usual.masks.index(("clip",)), 0] += 0.01
    analysis = analyse(replace(usual, points=points))
    cell = analysis.cell("clip", "General")
    assert np.isfinite(cell.cur.value) and np.isnan(cell.cur.low)
    assert "the samples of photos give" in cell.cur.reason and "of the table" in cell.cur.reason
    assert np.isfinite(analysis.cell("sam", "General").cur.low)
    assert np.isfinite(analysis.cell("clip", "OCR").cur.low)
    assert analysis.score(("clip",), "photos").reason == cell.cur.reason


def test_one_image_for_all_questions():
    analysis = analyse(single(60, cluster=60))
    found = analysis.cell("clip", "General").cur
    assert np.isfinite(found.value) and np.isnan(found.low) and "one image or group is all of photos" in found.reason


def test_few_images_are_marked():
    found = analyse(single(60, cluster=12)).cell("eva02", "General").cur
    assert found.df < 10 and found.note.startswith("few images (df ")


def test_a_full_score_not_clear_of_0():
    made = tables.samples(np.random.default_rng(1), every(ENCODERS), 100, score=0.0)
    scores = made.scores.copy()
    scores[0, :3] = 1
    table = tables.table([(GENERAL, replace(made, scores=scores))], categories=["General"])
    cell = analyse(table).cell("clip", "General")
    assert cell.cur.value == 1 and "not clear of 0 (3.0 points" in cell.cur.reason
    assert cell.verdict == verdicts.NOT_KNOWN
    assert "headroom 3.0 +-" in cell.floor_corrected.reason


def test_a_full_score_of_0_has_no_cur():
    made = tables.samples(np.random.default_rng(1), every(ENCODERS), 100, score=0.0)
    analysis = analyse(tables.table([(GENERAL, made)], categories=["General"]))
    assert np.isnan(analysis.cell("clip", "General").cur.value) and analysis.cell("clip", "General").cur.reason
    assert np.isnan(analysis.gaps[0].ig.value) and analysis.gaps[0].ig.reason


def test_a_category_without_benchmarks_leaves_overall_unknown():
    made = tables.samples(np.random.default_rng(1), every(ENCODERS))
    analysis = analyse(tables.table([(GENERAL, made)]))
    assert np.isfinite(analysis.cell("eva02", "General").cur.low)
    assert "no benchmark of OCR was run" in analysis.cell("eva02", OVERALL).cur.reason
    assert "no benchmark of OCR was run" in of(analysis.gaps, place="OCR").ig.reason
    assert not any(each.redundant for each in analysis.everywhere)


def missing(benchmark, cluster):
    """A table with a missing answer of the mask sam, its points those of the answers that are there."""
    made = tables.samples(np.random.default_rng(2), every(ENCODERS), 120, cluster, score=0.8)
    scores = made.scores.copy()
    row = every(ENCODERS).index(("sam",))
    scores[row, 7] = np.nan
    kept = np.ones(120, dtype=bool)
    kept[7 // cluster * cluster : 7 // cluster * cluster + cluster if benchmark.rule != "items" else 8] = False
    if benchmark.rule == "items":
        kept[:] = True
        kept[7] = False
    points = tables.points(made, benchmark)
    points[row] = tables.points(
        SampleScores(made.documents[kept], made.scores[row : row + 1, kept], made.clusters[kept], made.strata[kept]),
        benchmark,
    )[0]
    table = tables.table([(benchmark, made)], categories=["General"])
    return with_samples(replace(table, points=points[:, None]), benchmark.name, scores=scores)


@pytest.mark.parametrize(("benchmark", "cluster"), [(GENERAL, 1), (GENERAL, 4), (GROUPS, 4)])
def test_missing_answers_that_were_excused(benchmark, cluster):
    analysis = analyse(missing(benchmark, cluster))
    assert np.isfinite(analysis.cell("sam", "General").cur.low)
    assert any("missing answers" in note and benchmark.name in note for note in analysis.notes)
    assert of(analysis.routers, place=benchmark.name).reason == f"answers are missing on {benchmark.name}"
    assert (
        of(analysis.changed, encoder="sam", place="General").share.reason == f"answers are missing on {benchmark.name}"
    )
    assert np.isfinite(of(analysis.changed, encoder="clip", place="General").share.low)


# The second run


def again(table, share, seed=0):
    rng, found = np.random.default_rng(seed), {}
    for name, samples in table.samples.items():
        full = samples.scores[table.masks.index(())]
        second = np.where(rng.random(len(full)) < share, 1 - full, full)
        order = rng.permutation(len(full))
        found[name] = SampleScores(
            samples.documents[order], second[None, order], samples.clusters[order], samples.strata[order]
        )
    return found


def test_a_second_run_is_a_yardstick():
    table = single(3000, losses={"sam": 0.0, "clip": 0.02, "eva02": 0.5})
    analysis = analyse(table, rerun=again(table, 0.03))
    rerun = of(analysis.reruns, place="General")
    assert rerun.share.value == pytest.approx(0.03, abs=0.01) and rerun.share.low < 0.03 < rerun.share.high
    assert rerun.cur.low <= rerun.cur.value <= rerun.cur.high and abs(rerun.cur.value) < 0.05
    flags = {each.encoder: each.no_more_than_rerun for each in analysis.changed if each.place == "General"}
    assert flags == {"sam": True, "clip": True, "eva02": False}
    assert not any("second time" in note for note in analysis.notes)
    without = analyse(table)
    assert all(each.no_more_than_rerun is None for each in without.changed) and without.reruns == ()
    assert results.plain(without.cells) == results.plain(analysis.cells)  # it widens no interval
    assert any("second time" in note for note in without.notes)


def test_a_second_run_of_some_benchmarks(usual):
    second = again(usual, 0.02)
    del second[CHARTS.name]
    analysis = analyse(usual, rerun=second)
    assert np.isfinite(of(analysis.reruns, place="General").share.low)
    assert of(analysis.reruns, place="OCR").share.reason == f"{CHARTS.name} has no second run"
    assert of(analysis.reruns, place=OVERALL).cur.reason == f"{CHARTS.name} has no second run"


def test_a_second_run_of_other_documents(usual):
    second = again(usual, 0.02)
    name = GENERAL.name
    other = replace(second[name], documents=np.char.add("x", second[name].documents))
    with pytest.raises(DataError, match="other documents on photos: document"):
        analyse(usual, rerun={**second, name: other})
