"""Figures: what is drawn are the analysis's numbers, labels do not meet, files are those that journals take."""

import csv
import io
import math
import warnings
from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from redundancy_eval.errors import SetupError
from redundancy_eval.reports import figures, paper
from redundancy_eval.reports.figures import style
from redundancy_eval.reports.looks import ink, looks
from redundancy_eval.reports.model import Other
from redundancy_eval.reports.subject import Reference
from redundancy_eval.uncertainty import OVERALL
from tests.reports.made_up import ENCODERS, like_the_paper, subject, table, with_stand_ins


def beside_others(made):
    """With one reference, which is the model's own full run beside its mask of one encoder."""
    return replace(made, references=(Reference.of(made.model, made.model, made.encoders[:1]),))


@pytest.fixture(scope="module")
def four():
    return beside_others(subject(documents=60))


@pytest.fixture(scope="module")
def groups(four):
    """Every number of encoders from 2 to 6, and up to three models."""
    other = beside_others(
        subject("Cambrian-1-8B", encoders=("siglip", "clip", "dinov2", "convnext"), documents=40, seed=1)
    )
    small = subject("DeepSeek-VL-7B", encoders=("sam", "siglip"), documents=40, seed=2)
    five = beside_others(subject("Eagle-X5-7B", encoders=ENCODERS[:5], documents=40, seed=3))
    return {
        "2": [beside_others(small)],
        "3": [beside_others(subject(encoders=ENCODERS[:3], documents=40, categories=("General", "OCR & Chart")))],
        "4": [four],
        "5": [five],
        "6": [beside_others(subject(encoders=ENCODERS, documents=40))],
        "two models": [other, small],
        "three models": [five, other, small],
    }


def shown(stem, subjects):
    """What a figure shows: models that were run with stand-ins where it is about these."""
    return [with_stand_ins(each) for each in subjects] if stem == "need" else subjects


def artists(figure, gid):
    return [each for each in figure.findobj() if each.get_gid() == gid]


def boxes(figure):
    """Every text that is seen, and where: of tick labels, those inside their axis's range."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.findobj(mpl.axes.Axes)
    ticks = [(tick, axis) for each in axes for axis in (each.xaxis, each.yaxis) for tick in axis.get_major_ticks()]
    unseen = {text for each in axes if not each.get_visible() for text in each.findobj(mpl.text.Text)}
    for tick, axis in ticks:
        low, high = sorted(axis.get_view_interval())
        if not low <= tick.get_loc() <= high:
            unseen |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(mpl.text.Text) if t not in unseen and t.get_visible() and t.get_text().strip()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


@pytest.mark.parametrize("stem", figures.FIGURES)
@pytest.mark.parametrize(
    "group",
    ["4", "three models", *(pytest.param(n, marks=pytest.mark.slow) for n in ("2", "3", "5", "6", "two models"))],
)
def test_labels_do_not_meet_and_stay_inside(groups, stem, group):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.draw(stem, shown(stem, groups[group]))
    with style.paper():  # fonts are looked up when they are measured
        seen = boxes(figure)
    assert len(seen) > 3
    for (one, a), (two, b) in combinations(seen, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or up <= 1, f"{one!r} and {two!r} overlap by {across:.0f} x {up:.0f} dots"
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in seen:
        inside = min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text!r} is cut"


@pytest.mark.parametrize("stem", figures.FIGURES)
@pytest.mark.parametrize("width", [style.COLUMN, style.TEXT, style.PAGE])
def test_width_is_the_one_asked_for(four, stem, width):
    assert figures.draw(stem, shown(stem, [four]), width).get_size_inches()[0] == width


def test_cur_is_drawn_as_analysed(four):
    forest, heat = figures.draw("cur_forest", [four]), figures.draw("cur_heat", [four])
    for cell in four.analysis.cells:
        (point,) = artists(forest, f"{cell.place}|{cell.encoder}")
        assert point.get_xdata()[0] == pytest.approx(100 * cell.cur.value)
        clear = cell.cur.low > 0 or cell.cur.high < 0
        assert (point.get_markerfacecolor() == "white") is not clear
        assert point.get_marker() == looks([cell.encoder])[cell.encoder].marker
        (number,) = artists(heat, f"{cell.place}|{cell.encoder}")
        assert float(number.get_text().replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * cell.cur.value, abs=0.051)
        assert (number.get_style() == "italic") is not clear
    lines = [tuple(line.get_xdata()) for line in forest.findobj(mpl.lines.Line2D)]
    for cell in four.analysis.cells:
        assert (100 * cell.cur.low, 100 * cell.cur.high) in lines


def test_curve_shows_every_mask_and_its_ends(four):
    figure = figures.draw("drop_curve", [four])
    (dots,) = artists(figure, "masks")
    masks = sorted(four.table.masks, key=len)
    assert list(dots.get_ydata()) == [four.score(mask, OVERALL).value for mask in masks]
    best, worst, mean = (artists(figure, name)[0].get_ydata() for name in ("best", "worst", "mean"))
    for kept in four.analysis.best:
        assert best[4 - kept.kept] == pytest.approx(kept.points.value)
    assert worst[1] == min(four.score((name,), OVERALL).value for name in four.encoders)
    assert mean[1] == pytest.approx(np.mean([four.score((name,), OVERALL).value for name in four.encoders]))
    assert artists(figure, "all dropped")[0].get_ydata()[0] == pytest.approx(four.floor(OVERALL).points.value)


def test_several_models_share_an_axis_in_percent_of_full(groups):
    figure = figures.draw("drop_curve", groups["three models"])
    tops = {axis.get_ylim() for axis in figure.axes}
    assert len(tops) == 1
    assert all(line.get_ydata()[0] == 100 for line in artists(figure, "full model"))


def test_subsets_are_bars_above_what_they_keep(four):
    figure = figures.draw("subsets", [four])
    top = figure.axes[0]
    heights = [bar.get_height() for bar in top.patches]
    assert heights == [four.score(mask, OVERALL).value for mask in four.by_score] and heights == sorted(heights)[::-1]
    for name in four.encoders:
        (dots,) = artists(figure, f"kept|{name}")
        assert list(dots.get_xdata()) == [x for x, mask in enumerate(four.by_score) if name not in mask]


def test_more_masks_than_fit_are_cut_to_the_best_and_the_floor(groups):
    figure = figures.draw("subsets", groups["6"])
    (subject,) = groups["6"]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert len(heights) == 25 and heights[-1] == pytest.approx(subject.floor(OVERALL).points.value)
    assert len(figures.FIGURES["subsets"].rows(groups["6"])) == 64


def test_frontier_is_what_no_other_beats_in_both(four):
    rows = figures.FIGURES["pareto"].rows([four])
    assert len(rows) == 16
    for row in rows:
        beaten = any(
            other["of_full"] <= row["of_full"] and other["score"] >= row["score"] and other is not row
            and (other["of_full"], other["score"]) != (row["of_full"], row["score"])
            for other in rows
        )  # fmt: skip
        assert row["frontier"] is not beaten or any(
            other is not row and (other["of_full"], other["score"]) == (row["of_full"], row["score"]) for other in rows
        )
    figure = figures.draw("pareto", [four])
    assert [text.get_text() for text in artists(figure, "name")] == [row["label"] for row in rows if row["frontier"]]


def test_shares_are_drawn_as_analysed(four):
    figure = figures.draw("shares", [four])
    for share in four.analysis.shares:
        if share.place != OVERALL:
            continue
        assert artists(figure, f"shapley|{share.encoder}")[0].get_xdata()[0] == share.shapley.value
        lost = four.score((), OVERALL).value - four.score((share.encoder,), OVERALL).value
        assert artists(figure, f"lost|{share.encoder}")[0].get_xdata()[0] == pytest.approx(lost)
    for pair in four.pairs(OVERALL):
        (text,) = artists(figure, f"pair|{'+'.join(four.ordered(pair.encoders))}")
        shown = float(text.get_text().replace("\N{MINUS SIGN}", "-"))
        assert shown == pytest.approx(pair.contexts.value, abs=0.051)
        assert (text.get_style() == "normal") is (pair.contexts_word in ("substitutes", "complements"))


def test_files_are_the_same_bytes_and_hold_their_fonts(four, tmp_path):
    before = dict(mpl.rcParams)
    one, two = (figures.files([four], ("pdf", "svg")) for _ in range(2))
    assert one == two
    assert dict(mpl.rcParams) == before
    pdf = one["cur_forest.pdf"]
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf
    written = figures.write([with_stand_ins(four)], tmp_path / "figures", ("png",))
    assert {path.name for path in written} == {path.name for path in (tmp_path / "figures").iterdir()}
    assert len([path for path in written if path.suffix == ".png"]) == len(figures.FIGURES)


def test_csv_tells_what_is_shown(four):
    made = figures.files([four], ())
    assert not [name for name in made if name.endswith(("pdf", "png"))]
    rows = list(csv.DictReader(io.StringIO(made["cur_forest.csv"].decode())))
    for row in rows:
        cell = four.cell(row["encoder"], row["place"])
        assert float(row["cur"]) == pytest.approx(100 * cell.cur.value) and row["verdict"] == cell.verdict
    assert len(rows) == len(four.analysis.cells)


def test_captions_say_the_level_the_margin_and_the_documents(four):
    made = figures.files([with_stand_ins(four)], ())
    text, tex = made["captions.txt"].decode(), made["captions.tex"].decode()
    assert "95 % intervals" in text and "margin of 2 % of the full score" in text
    assert "300 documents of 5 benchmarks" in text
    assert r"margin of 2 \% of the full score" in tex and tex.count(r"\caption{") == len(figures.FIGURES)


def test_what_cannot_be_drawn_says_why(tmp_path):
    encoders = ENCODERS[:3]
    some = subject(encoders=encoders, masks=((), *((name,) for name in encoders), encoders), costs=False, documents=30)
    made = figures.files([some], ("png",))
    text = made["captions.txt"].decode()
    assert "pareto: not drawn, what masks cost is not known" in text and "pareto.png" not in made
    assert "shares: not drawn, Shapley values need all 2^n masks" in text
    with pytest.raises(SetupError, match="no figure pareto"):
        figures.draw("pareto", [some])


def test_without_samples_points_stand_and_intervals_do_not():
    made = subject(samples=False, documents=40)
    assert all(math.isnan(row["low"]) or row["low"] < row["cur"] for row in figures.FIGURES["cur_forest"].rows([made]))
    assert set(figures.files([made], ("png",)))


def test_names_are_no_formulas_and_no_markup():
    bad = r"$\frac{a}{b}$ {\bf x} 100% _x_"
    made = subject(bad, documents=20, encoders=ENCODERS[:2])
    other = subject("=1+1", documents=20, encoders=ENCODERS[:2])
    files = figures.files([made, other], ("svg",))
    assert b"'=1+1" in files["cur_forest.csv"]
    assert r"\$\textbackslash{}frac" in files["captions.tex"].decode()


def test_an_encoder_looks_the_same_in_every_model():
    assert looks(["sam", "clip"])["clip"] == looks(["clip", "mine", "yours"])["clip"]
    strangers = looks(["b", "a", "clip", "c"])
    assert len({(look.colour, look.marker) for look in strangers.values()}) == 4


@pytest.mark.parametrize(
    ("colour", "expected"), [((1, 1, 1), "black"), ((0, 0, 0), "white"), ((0.7, 0.1, 0.17), "white")]
)
def test_ink_can_be_read(colour, expected):
    assert ink(*colour) == expected


def test_what_is_needed_and_the_paper_s_numbers_stand_beside_a_cur(four):
    x5 = like_the_paper()
    beside = replace(with_stand_ins(x5), paper=paper.compare(x5.model))
    figure = figures.draw("cur_forest", [beside])
    for (encoder, place), published in paper.curs(beside.paper).items():
        drawn = artists(figure, f"paper|{place}|{encoder}")
        assert any(published.value in np.atleast_1d(line.get_xdata()) for line in drawn if hasattr(line, "get_xdata"))
        (bar,) = artists(figure, f"needed|{place}|{encoder}")
        assert bar.get_xdata()[0] == pytest.approx(100 * beside.needed(encoder, place).cur.value)
    text = figures.caption("cur_forest", [beside])
    assert "so what is needed" in text and "the paper's numbers" in text
    assert "needed" not in figures.caption("cur_forest", [four])


def test_a_dumbbell_runs_from_zeros_to_stand_ins(four):
    retrained = Other("without sam", ("clip", "convnext", "eva02"), table(seed=5))
    beside = with_stand_ins(four)
    beside = replace(beside, model=beside.model.with_retrained([retrained]))
    figure = figures.draw("need", [beside])
    for place in beside.places:
        for encoder in beside.encoders:
            for name, cell in (("zeros", beside.cell(encoder, place)), ("stand-ins", beside.needed(encoder, place))):
                (point,) = artists(figure, f"{name}|{place}|{encoder}")
                assert point.get_xdata()[0] == pytest.approx(100 * cell.cur.value)
                assert (point.get_markerfacecolor() == "white") is (name == "zeros")
        (diamond,) = artists(figure, f"retrained|{place}|sam")
        assert diamond.get_xdata()[0] == pytest.approx(100 * beside.model.retrained["sam", place].value)
        assert not artists(figure, f"retrained|{place}|clip")
    assert "Diamonds" in figures.caption("need", [beside]) and "Under zeros." in figures.caption("subsets", [beside])
    rows = list(csv.DictReader(io.StringIO(figures.files([beside], ())["need.csv"].decode())))
    assert len(rows) == len(beside.places) * 4 and "need.csv" not in figures.files([four], ())
    assert [row["encoder"] for row in rows if row["retrained"]] == ["sam"] * len(beside.places)
