"""The page: its numbers are the analysis's, its words follow from verdicts, its texts are data."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.answers import Asked
from redundancy_eval.reports import digits, figures, page, paper
from redundancy_eval.reports.page import drill, texts, verdict
from redundancy_eval.reports.subject import Subject
from redundancy_eval.statistics import verdicts
from redundancy_eval.uncertainty import OVERALL, analyse
from tests.reports.made_up import ENCODERS, changed, like_the_paper, subject, with_stand_ins


class Elements(HTMLParser):
    """Counts elements, and keeps the cells of tables by their table's id."""

    def __init__(self, text):
        super().__init__()
        self.counts, self.tables, self.table, self.row, self.attributes = {}, {}, None, None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes += attributes
        if tag == "table":
            self.table = self.tables.setdefault(given.get("id", ""), [])
        elif tag == "tr" and self.table is not None:
            self.row = []
            self.table.append(self.row)
        elif tag in ("td", "th") and self.row is not None:
            self.row.append(given.get("data-v"))

    def handle_endtag(self, tag):
        if tag == "table":
            self.table = self.row = None


class MadeUp:
    """Answers that name their document and mask; `text` is added to each."""

    def __init__(self, text="", picture=None):
        self.text, self.image, self.calls = text, picture, []

    def asked(self, benchmark, documents):
        self.calls.append((benchmark, tuple(documents)))
        masks = [(), *((name,) for name in ENCODERS), tuple(sorted(ENCODERS[:4]))]
        return {
            document: Asked(
                f"{benchmark} {document}?{self.text}",
                f"yes{self.text}",
                {mask: f"{document} {'+'.join(mask)}{self.text}" for mask in masks},
            )
            for document in documents
        }

    def picture(self, benchmark, document):
        return self.image


@pytest.fixture(scope="module")
def four():
    return subject(documents=60)


@pytest.fixture(scope="module")
def three(four):
    other = subject("Cambrian-1-8B", encoders=("siglip", "clip", "mine"), documents=30, seed=1)
    small = subject("DeepSeek-VL-7B", encoders=("sam", "siglip"), documents=30, seed=2, costs=False)
    return [four, other, small]


def test_tables_hold_the_analysis_s_numbers(four):
    tables = Elements(page.build([four])).tables
    for row, name in zip(tables["m0-cur-cur"][1:], four.order, strict=True):
        for v, place in zip(row[2:], four.places, strict=True):
            assert float(v) == pytest.approx(100 * four.cell(name, place).cur.value, rel=1e-5, abs=1e-9)
    for row, name in zip(tables["m0-cur-floor"][1:], four.order, strict=True):
        found = four.cell(name, OVERALL).floor_corrected.value
        assert (row[2] == "" and math.isnan(found)) or float(row[2]) == pytest.approx(100 * found, rel=1e-5)
    for row, mask in zip(tables["m0-masks"][1:], four.by_score, strict=True):
        shown = [float(v) for v in row[2 : 2 + len(four.places)]]
        assert shown == pytest.approx([four.score(mask, place).value for place in four.places], rel=1e-5)
        change = float(row[2 + len(four.places)])
        assert change == pytest.approx(four.score(mask, OVERALL).value - four.score((), OVERALL).value, abs=1e-3)
    for row, mask in zip(tables["m0-benchmarks"][1:], sorted(four.table.masks, key=len), strict=True):
        assert [float(v) for v in row[1:]] == pytest.approx(list(four.table.row(mask)), rel=1e-5)


def test_the_same_input_gives_the_same_page_and_it_is_closed(four):
    samples = {four.name: drill.sample(four, MadeUp())}
    one, two = (page.build([four], samples) for _ in range(2))
    assert one == two
    found = Elements(one)
    assert found.counts["script"] == found.counts["style"] == 1 and "link" not in found.counts
    names = {name for name, _ in found.attributes}
    assert "style" not in names and not any(name.startswith("on") for name in names)
    targets = [value for name, value in found.attributes if name in ("src", "href")]
    assert targets and all(value.startswith(("#", "data:")) for value in targets)
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in found.attributes if name == "href"} <= set(ids)


def test_every_class_and_id_that_the_script_asks_for_is_there(three):
    text = page.build(three, {three[0].name: drill.sample(three[0], MadeUp())})
    found = Elements(text)
    ids = {value for name, value in found.attributes if name == "id"}
    assert {value for name, value in found.attributes if name == "data-copy"} <= ids
    assert {"theme", "model", "m0", "m1", "m2", "comparison"} <= ids
    assert text.count('class="model"') == 3 and "Side by side" in text


def test_comparison_stands_first(three):
    text = page.build(three)
    rows = Elements(text).tables["comparison"][1:]
    for row, each in zip(rows, three, strict=True):
        assert float(row[1]) == pytest.approx(each.score((), OVERALL).value, rel=1e-5)
        assert float(row[3]) == pytest.approx(100 * each.gap(OVERALL).ig.value, rel=1e-5)
    assert text.index("comparison") < text.index('class="lead"')


def with_verdicts(four, words):
    """The same analysis with other verdicts: encoder -> (overall, in the first category)."""
    cells = []
    for cell in four.analysis.cells:
        overall, first = words.get(cell.encoder, (cell.verdict, cell.verdict))
        word = overall if cell.place == OVERALL else first if cell.place == four.places[1] else verdicts.UNDECIDED
        cells.append(replace(cell, verdict=word, documents_to_decide=1200.0))
    return changed(four, analysis=replace(four.analysis, cells=tuple(cells)))


def test_the_verdict_names_what_is_relied_on_and_what_is_not(four):
    rely, red = verdicts.RELIED_ON, verdicts.REDUNDANT
    words = {"clip": (red, red), "convnext": (rely, rely), "sam": (rely, rely), "eva02": (rely, rely)}
    first, more = verdict.headline(with_verdicts(four, words))
    assert (
        first == "The model relies on 3 of its 4 encoders: EVA-02, SAM and ConvNeXt. Dropped alone, CLIP is redundant."
    )
    change = four.change(("clip",), OVERALL)
    assert more.startswith("Without it the score changes by ") and "95 % interval" in more
    assert digits.value(change, sign=True) in more and "10 % of FLOPs and 7 % of weights go." in more


def test_what_is_redundant_overall_and_relied_on_somewhere_is_said_at_once(four):
    rely, red = verdicts.RELIED_ON, verdicts.REDUNDANT
    words = {"clip": (red, rely), "convnext": (red, red), "sam": (rely, rely), "eva02": (rely, rely)}
    first, more = verdict.headline(with_verdicts(four, words))
    assert "Dropped alone, ConvNeXt and CLIP are redundant. But General relies on CLIP (CUR " in first
    assert more.startswith("Without both together the score changes by ")


def test_undecided_and_detrimental_have_their_words(four):
    worse, unsure = verdicts.DETRIMENTAL, verdicts.UNDECIDED
    words = {"clip": (worse, worse), "convnext": (unsure, unsure), "sam": (unsure, unsure), "eva02": (unsure, unsure)}
    first, more = verdict.headline(with_verdicts(four, words))
    assert first.startswith("The model is not shown to rely on any one of its 4 encoders")
    assert "It scores higher without CLIP." in first and "EVA-02, SAM and ConvNeXt are undecided." in more
    words["convnext"] = words["sam"] = (verdicts.RELIED_ON,) * 2
    assert (
        "EVA-02 is undecided (about 1,200 documents would decide)." in verdict.headline(with_verdicts(four, words))[1]
    )


def test_needed_is_said_only_where_the_verdicts_say_so(four):
    assert "needed" not in re.sub("“Needed”", "", page.build([four])).lower().split("<script>")[0].split("</style>")[1]
    words = {name: (verdicts.NEEDED, verdicts.NEEDED) for name in four.encoders}
    made = with_verdicts(changed(four, table=replace(four.table, ablation="predicted")), words)
    assert verdict.headline(made)[0].startswith("The model needs all of its 4 encoders: ")


def test_without_intervals_no_verdict_is_given():
    made = subject(samples=False, documents=40)
    cells = [
        replace(c, verdict=verdicts.NOT_KNOWN, cur=replace(c.cur, reason="no samples")) for c in made.analysis.cells
    ]
    made = changed(made, analysis=replace(made.analysis, cells=tuple(cells)))
    assert verdict.headline(made)[0] == "No overall verdict is given: no samples."
    assert "redundant" not in page.build([made]).split("<main")[1].split("<h2")[0]


@pytest.mark.parametrize("n", [1, 2, 6])
def test_any_number_of_encoders(n):
    found = Elements(page.build([subject(encoders=ENCODERS[:n], documents=20)]))
    assert len(found.tables["m0-masks"]) == 1 + 2**n and len(found.tables["m0-cur-cur"]) == 1 + n


def test_masks_that_were_not_run_are_told(four):
    some = subject(encoders=ENCODERS[:3], masks=((), ("clip",), ("sam",)), costs=False, documents=30)
    text = page.build([some])
    assert "No Shapley values" in text and "3 of 8 masks were run" in text and "n/a" in text
    assert "m0-cost" not in text


def test_doubts_are_made_by_rule(four):
    noted = changed(
        four, table=replace(four.table, notes=("warning (limit): masks differ", "3 answers are empty", "4 empty"))
    )
    found = verdict.doubts(noted)
    assert found[0] == "warning (limit): masks differ" and "3 answers are empty (and 1 more like this)" in found
    assert any("what the model relies on, not what it could not do without" in doubt for doubt in found)
    assert len(found) <= 7


def test_examples_are_a_bounded_seeded_sample(four):
    answers = MadeUp()
    found = drill.sample(four, answers, most=2)
    assert found == drill.sample(four, MadeUp(), most=2) != drill.sample(four, MadeUp(), most=2, seed=1)
    cells = {}
    for each in found.examples:
        samples = four.table.samples[each.benchmark]
        place = samples.documents.tolist().index(each.document)
        scores = {mask: samples.scores[four.table.masks.index(mask), place] for mask in four.table.masks}
        assert each.encoders == tuple(n for n in four.order if abs(scores[()] - scores[(n,)]) >= 0.5)
        assert [said.score for said in each.said] == [scores[said.mask] for said in each.said]
        assert all(said.text == f"{each.document} {'+'.join(sorted(said.mask))}" for said in each.said)
        for name in each.encoders:
            kind = "lost" if scores[()] > scores[(name,)] else "gained"
            assert kind in each.kinds
            cells[each.benchmark, name, kind] = cells.get((each.benchmark, name, kind), 0) + 1
    assert set(range(1, 3)) & set(cells.values()) and len(found.examples) <= 2 * 2 * 4 * 5
    single = np.array([four.table.masks.index((name,)) for name in four.encoders])
    turned = sum(int((abs(s.scores[0] - s.scores[single]) >= 0.5).any(0).sum()) for s in four.table.samples.values())
    assert found.turned == turned
    assert {name for name, _ in answers.calls} == {b.name for b in four.table.benchmarks}


def png(side, noise=True):
    import io

    from PIL import Image

    pixels = (
        np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        if noise
        else np.zeros((side, side, 3))
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_pictures_are_small_and_have_a_budget(four):
    pytest.importorskip("PIL")
    uri = drill.thumbnail(png(400))
    assert uri.startswith("data:image/webp;base64,") and len(uri) < 20_000
    assert drill.thumbnail(png(40, noise=False)).startswith("data:image/")
    assert drill.thumbnail(b"no picture") == "" and drill.thumbnail(b"<svg onload='x'/>") == ""
    plain = drill.sample(four, MadeUp())
    texts_alone = sum(drill._size(each) for each in plain.examples)
    found = drill.sample(four, MadeUp(picture=png(200)), room=texts_alone + 3 * len(uri))
    total = sum(len(each.picture) for each in found.examples)
    assert 0 < total <= 3 * len(uri)
    assert found.without_picture == sum(not each.picture for each in found.examples) > 0


ANY = st.text(st.characters(), max_size=60) | st.sampled_from(
    [
        "<script>x</script>",
        "</style><b>",
        '"><img src=x onerror=1>',
        "{{ 7*7 }}{% raw %}",
        "<!--",
        "]]>",
        "&lt;",
        "\u202e",
        "\ud800",
    ]
)


@settings(max_examples=12, deadline=None)
@given(text=ANY)
def test_any_text_leaves_the_page_s_elements_alone(four, text):
    def build(added):
        """Elements of a page that holds a text wherever texts from outside can stand."""
        noted = changed(
            four, name=f"m{added}", table=replace(four.table, notes=(f"n{added}",), signature=f"s{added}"),
            costs=replace(four.costs, columns={f"c{added}": [1.0] * 16}, note=f"n{added}"),
        )  # fmt: skip
        sample = drill.sample(four, MadeUp(added), most=1)
        return Elements(page.build([noted], {noted.name: sample})).counts

    assert build(text) == build("x")


def test_texts_are_bounded_and_hide_nothing():
    assert texts.clip("a\u202eb\x1b[0m\u200b") == r"a\u202eb\x1b[0m\u200b"
    long = texts.clip("W" * 1_000_000)
    assert len(long) < 320 and long.endswith("… (1,000,000 characters)")
    assert texts.lines("one\r\ntwo\x0cthree") == "one\ntwo\nthree"
    assert len(texts.name("n" * 500)) < 110


def test_page_is_written_whole(four, tmp_path):
    path = page.write([changed(four, name="lone \ud800 surrogate")], tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_with_stand_ins_what_is_needed_comes_first(four):
    """CLIP tells nothing; what EVA-02 tells, the others do not; the guess replaces SAM."""
    rely, red, need = verdicts.RELIED_ON, verdicts.REDUNDANT, verdicts.NEEDED
    zeros = with_verdicts(four, dict.fromkeys(("convnext", "sam", "eva02"), (rely, rely)) | {"clip": (red, red)})
    made = with_stand_ins(zeros)
    predicted = with_verdicts(
        Subject.of(made.model.stand_ins),
        {"eva02": (need, need), "sam": (red, need), "convnext": (need, need), "clip": (red, red)},
    )
    both = replace(made, model=made.model.with_stand_ins(predicted.model))
    first, more = verdict.headline(both)
    names = re.sub(r" \((?:CUR )?[\d.]+ %\)", "", first)
    assert names.startswith(
        "The model needs 2 of its 4 encoders: EVA-02 and ConvNeXt. The others replace SAM, on which it relies. Dropped "
        "alone, CLIP is redundant. But General needs SAM"
    )
    assert f"EVA-02 (CUR {digits.value(both.needed('eva02', OVERALL).cur, 100)} %)" in first
    assert (
        f"Under zeros it relies on EVA-02 (CUR {digits.value(both.cell('eva02', OVERALL).cur, 100)} %), SAM (" in more
    )
    assert "another order" not in more and ". With stand-ins for CLIP and SAM the score changes by " in more
    change = both.stand_ins.change(("clip", "sam"), OVERALL)
    assert digits.value(change, sign=True) in more and change.value != both.change(("clip", "sam"), OVERALL).value
    text = page.build([both])
    found = Elements(text)
    assert 'class="word v-replaceable">replaceable' in text and "Encoders together under zeros" in text
    assert next(iter(found.tables)) == "m0-need-table" and {"m0-cur-needed", "m0-cur-cur"} <= set(found.tables)
    for row, name in zip(found.tables["m0-need-table"][1:], both.order, strict=True):
        stands_in, zero, difference = map(float, row[2:])
        assert stands_in == pytest.approx(100 * both.needed(name, OVERALL).cur.value, rel=1e-5)
        assert zero == pytest.approx(100 * both.cell(name, OVERALL).cur.value, rel=1e-5)
        assert difference == pytest.approx(zero - stands_in, abs=1e-3)
    assert len(found.tables["m0-masks"][1]) == len(Elements(page.build([four])).tables["m0-masks"][1]) + 1
    told = replace(both.model.stand_ins, table=replace(both.model.stand_ins.table, notes=("warning (limit): less",)))
    warned = replace(both, model=replace(both.model, stand_ins=told))
    assert verdict.doubts(warned)[0] == "warning (limit): less"
    assert "with stand-ins: warning (limit): less" in page.build([warned])
    with pytest.raises(ValueError, match="ablation=predicted"):
        replace(four.model, stand_ins=four.model)


def test_without_stand_ins_nothing_is_called_needed(four):
    body = page.build([four]).split("</style>")[1].split("<script>")[0]
    assert "m0-need" not in body and "stand-ins" not in body.split("Definitions")[0]
    alone = Subject.of(with_stand_ins(four).model.stand_ins)  # run under `predicted` alone
    assert verdict.headline(alone)[0].startswith("The model needs ") and "relies" not in verdict.headline(alone)[0]


@settings(max_examples=8, deadline=None)
@given(text=ANY)
def test_any_name_leaves_the_page_s_elements_alone_with_stand_ins(text):
    def build(added):
        made = with_stand_ins(
            subject(encoders=("clip", f"e{added}"), documents=12, categories=("General", f"c{added}"))
        )
        return Elements(page.build([made])).counts

    assert build(text) == build("x")


def test_the_paper_s_numbers_stand_on_the_page():
    x5 = like_the_paper()
    compared = replace(x5, paper=paper.compare(x5.model))
    text = page.build([compared])
    rows = Elements(text).tables["m0-paper-table"][1:]
    assert len(rows) == len(compared.paper.rows)
    assert [float(row[2]) for row in rows] == [row.published.value for row in compared.paper.rows]
    assert "Known to differ" in text and "digitised" in text


def test_of_one_category_alone_that_is_shown_first():
    made = subject(documents=60)
    keep = [i for i, b in enumerate(made.table.benchmarks) if b.category == "OCR"]
    alone = replace(
        made.table, benchmarks=tuple(made.table.benchmarks[i] for i in keep), points=made.table.points[:, keep],
        tasks=tuple(made.table.tasks[i] for i in keep), documents=(60,),
        samples={"bench OCR": made.table.samples["bench OCR"]},
    )  # fmt: skip
    model = replace(made.model, table=alone, analysis=analyse(alone))
    ocr = Subject.of(model)
    assert ocr.main == "OCR" and ocr.places == (OVERALL, "OCR")
    text = page.build([ocr])
    assert "The model relies on" in text and "ocr score" in text
    assert set(figures.files([ocr], ("svg",))) >= {"cur_forest.svg", "drop_curve.svg", "subsets.svg", "shares.svg"}


def test_of_some_categories_each_is_said():
    made = subject(documents=60, categories=("General", "OCR"))
    third = replace(made.table.taxonomy, categories=("General", "OCR", "Chart"))
    some = replace(made.table, taxonomy=third)
    part = Subject.of(replace(made.model, table=some, analysis=analyse(some)))
    first, more = verdict.headline(part)
    assert first == "No overall verdict is given: no benchmark of Chart was run."
    assert "General: " in more and "OCR: " in more and "relied on" in more
    page.build([part])


def test_a_redundant_encoder_that_stands_in_for_another_is_told(four):
    red = verdicts.REDUNDANT
    pairs = [
        replace(pair, at_full_word="substitutes", at_full=replace(pair.at_full, value=-14.4, low=-16.0, high=-12.0))
        if set(pair.encoders) == {"clip", "eva02"} and pair.place == OVERALL
        else replace(pair, at_full_word="no interaction shown")
        for pair in four.analysis.pairs
    ]
    made = with_verdicts(four, {"clip": (red, red)})
    made = changed(made, analysis=replace(made.analysis, pairs=tuple(pairs)))
    assert "CLIP and EVA-02 stand in for each other: dropping both costs 14.4 points more" in verdict.headline(made)[1]
