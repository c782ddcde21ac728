"""The file of measures without labels, and the means, intervals and agreements that are made of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from redundancy_eval import costs_file, explain_file, taxonomy
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.explain_file import Document, Explained
from redundancy_eval.uncertainty import OVERALL, Settings, measures
from redundancy_eval.uncertainty.join import join
from tests.helpers.runs import DEMO_TASKS, sweep, table_of

ENCODERS = ("clip", "convnext", "pix2struct", "eva02")
MASKS = ((), *((name,) for name in ENCODERS), ENCODERS, *(tuple(e for e in ENCODERS if e != n) for n in ENCODERS))
ORDER = {"clip": 1, "convnext": 2, "pix2struct": 3, "eva02": 4}  # as the CURs of `sweep`


def explained(documents=6, **changes):
    """KL grows with the encoder's place in the order; attention of encoders kept alone falls with it."""
    rng = np.random.default_rng(0)
    told = tuple(Document(task, str(i), f"{task} {i // 2}", 1 + i) for task in DEMO_TASKS for i in range(documents))
    size = [0.0, *(ORDER[name] for name in ENCODERS), 10.0, *(9.0 - ORDER[name] for name in ENCODERS)]
    values = np.outer(size, np.ones(len(told))) * (1 + 0.02 * rng.random((len(size), len(told))))
    made = Explained(
        "eagle_masked", "demo", ENCODERS, {}, taxonomy.LMMS_EVAL, MASKS, told, {"kl": values, "attention_kl": values},
        {"rank": (1.0, 2.0, 3.0, 4.0), "difference": (0.4, 0.3, 0.2, 0.1)}, ((1.0,) * 4,) * 4, {"documents": len(told)},
    )  # fmt: skip
    return replace(made, **changes)


def test_what_is_written_is_read(tmp_path):
    path, given = tmp_path / "explain.json", explained()
    values = {**given.values, "again": np.where(np.arange(len(MASKS))[:, None] == 0, given.values["kl"], np.nan)}
    given = replace(given, values=values, arguments={"site": "projected"})
    explain_file.write(given, path)
    found = explain_file.read(path)
    assert replace(found, values={}) == replace(given, values={})
    for name, rows in given.values.items():
        assert np.allclose(found.values[name], rows, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("schema", 9, "schema 9; this version reads 1"),
        ("masks", ["clip"] * 10, "masks must be different"),
        ("masks", ["sam"], "unknown encoder 'sam'"),
        ("values", {"kl": [[1.0]]}, "a row of 1 values, not 30"),
        ("values", {"kl": [["x"] * 30] * 10}, "'x' is no number"),
        ("values", {"magic": []}, "'magic' is no measure"),
        ("values", {"kl": [[0.0] * 30]}, "not a row for each mask"),
        ("documents", [["t", "0", "i", 0]], "0 is no number of tokens"),
        ("cka", [[1.0] * 4], "cka has not a row for each encoder"),
        ("model", None, None),
    ],
)
def test_damage_is_told_with_the_file(tmp_path, key, value, match):
    path = tmp_path / "explain.json"
    explain_file.write(explained(), path)
    content = json.loads(path.read_text())
    if match is None:
        del content[key]
    else:
        content[key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=match or "KeyError: 'model'") as error:
        explain_file.read(path)
    assert str(error.value).startswith(f"{path}: ")


def test_the_other_command_s_file_is_called_by_its_name(tmp_path):
    for mine, other, key, read in (
        ("explain", "cost", "measured_on", explain_file.read),
        ("cost", "explain", "encoder_values", costs_file.read),
    ):
        path = tmp_path / "any.json"
        path.write_text(json.dumps({"schema": 1, key: {}}))
        with pytest.raises(DataError) as error:
            read(path)
        assert (
            str(error.value) == f"{path} is what redundancy-eval {other} writes; --{other} takes it, --{mine} does not"
        )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SetupError, match="no such file"):
        explain_file.read(tmp_path / "explain.json")


def test_arguments_that_change_what_masks_mean_must_be_the_runs():
    runs = ("eagle_masked", "demo", ENCODERS)
    explain_file.check_fits(explained(), *runs, {"dtype": "bfloat16", "pretrained": "x", "site": "encoder"}, "f")
    explain_file.check_fits(explained(arguments={"dtype": "float32"}), *runs, {"device": "cuda"}, "f")
    for there, told in (
        ({"ablation": "mean"}, "explains ablation zero; the runs are of mean"),
        ({"conv_template": "llama3"}, "explains conv_template unset; the runs are of llama3"),
    ):
        with pytest.raises(DataError, match=told):
            explain_file.check_fits(explained(), *runs, there, "f")
    with pytest.raises(DataError, match="encoders clip.convnext.pix2struct.eva02; the runs are of clip"):
        explain_file.check_fits(explained(), "eagle_masked", "demo", ("clip",), {}, "f")


def test_means_are_of_benchmarks_then_categories_in_clusters_of_images():
    given = explained(documents=4)
    chosen = taxonomy.load()
    found = {place.name: place for place in measures.places(given, "kl", chosen)}
    assert list(found) == [
        *(f"demo {name}" for name in ("general", "knowledge", "OCR", "chart", "vision-centric")),
        *chosen.categories, measures.MEAN,
    ]  # fmt: skip
    row, mine = MASKS.index(("eva02",)), slice(8, 12)
    values = given.values["kl"][row]
    assert found["demo OCR"].scores.values[row] == pytest.approx(values[mine].mean())
    assert found["demo OCR"].scores.clusters == 2 and found["demo OCR"].documents == 4
    per_category = [values[start : start + 4].mean() for start in range(0, 20, 4)]
    assert found[measures.MEAN].scores.values[row] == pytest.approx(np.mean(per_category))
    tokens = {place.name: place for place in measures.places(given, "kl", chosen, measures.TOKEN)}
    assert tokens["demo OCR"].scores.values[row] == pytest.approx(values[mine].sum() / 10)
    numbers = measures.numbers(found["demo OCR"], 0.95)
    assert numbers[0].value == numbers[0].low == numbers[0].high == 0
    spread = np.array([values[8:10].mean(), values[10:12].mean()])
    assert numbers[row].se == pytest.approx(spread.std(ddof=1) / np.sqrt(2))
    assert 0 <= numbers[row].low < numbers[row].value < numbers[row].high


def test_what_cannot_be_known_says_why():
    one = explained(documents=1)
    (number,) = {n.reason for n in measures.numbers(measures.places(one, "kl", taxonomy.load())[0], 0.95)}
    assert number == measures.ONE_IMAGE
    values = {"attention_kl": np.full_like(one.values["kl"], np.nan)}
    (number, *_) = measures.numbers(
        measures.places(replace(one, values=values), "attention_kl", taxonomy.load())[0], 0.95
    )
    assert np.isnan(number.value) and number.reason == measures.NO_IMAGES


def test_a_task_of_no_benchmark_is_in_no_category():
    given = explained(documents=2)
    given = replace(given, documents=tuple(replace(each, task="my_task") for each in given.documents))
    (place,) = measures.places(given, "kl", taxonomy.load())
    assert (place.name, place.kind, place.documents) == ("my_task", "benchmark", 10)


@pytest.fixture
def joined(tmp_path):
    return join(table_of(sweep(tmp_path / "runs")))


ORDERING = {("kl", False): 1, ("attention_kl", False): 1, ("attention_kl", True): 1, ("rank", False): 1}


def test_agreement_with_cur(joined):
    found = {(each.measure, each.kept): each for each in measures.agreements(explained(), joined, Settings())}
    assert list(found) == [*ORDERING, ("difference", False)]
    for key, each in found.items():
        sign = ORDERING.get(key, -1)
        assert each.kendall.value == pytest.approx(sign) and each.spearman.value == pytest.approx(sign), key
        assert each.chance == pytest.approx(1 / 24 if sign > 0 else 1) and each.encoders == len(ENCODERS)
        assert len(each.categories) == 5
        assert each.kendall.low <= each.kendall.value <= each.kendall.high
    assert -1 <= found["kl", False].cells.value <= 1 and np.isnan(found["rank", False].cells.value)


def test_one_image_gives_no_interval(joined):
    found = measures.agreements(explained(documents=2), joined, Settings())[0]  # both show the same
    assert found.kendall.value == 1 and np.isnan(found.kendall.low) and found.kendall.reason == measures.UNKNOWN


def test_the_interval_of_an_agreement_is_over_documents(joined):
    first = explained()
    keep = [column for column, each in enumerate(first.documents) if each.task in DEMO_TASKS[:2]]
    part = replace(
        first, documents=tuple(first.documents[column] for column in keep),
        values={name: rows[:, keep] for name, rows in first.values.items()},
    )  # fmt: skip
    found = measures.agreements(part, joined, Settings())[0]
    assert found.kendall.value == 1 == found.kendall.high and -1 < found.kendall.low < 1  # ten documents a category
    assert found.cells.low <= found.cells.value <= found.cells.high
    assert measures.agreements(part, joined, Settings())[0] == found


def test_only_what_both_know_is_compared(joined):
    given = explained()
    few = [column for column, each in enumerate(given.documents) if each.task in DEMO_TASKS[2:3]]
    part = replace(
        given, documents=tuple(given.documents[c] for c in few),
        values={name: rows[:, few] for name, rows in given.values.items()},
    )  # fmt: skip
    found = measures.agreements(part, joined, Settings())[0]
    assert found.categories == ("OCR",) and np.isnan(found.cells.value)
    alone = replace(given, masks=MASKS[:3], values={"kl": given.values["kl"][:3]}, encoder_values={})
    assert measures.agreements(alone, joined, Settings()) == []
    beside = measures.beside(part, joined.table, Settings())
    ocr = next(place for place in joined.categories if place.name == "OCR")
    at = joined.masks.index(("clip",))
    assert beside.cur["clip"].value == pytest.approx(1 - ocr.scores.values[at] / ocr.scores.values[0])
    whole = measures.beside(given, joined.table, Settings())
    cur = joined.table.cur().mean(axis=1)
    assert [whole.cur[name].value for name in ENCODERS] == pytest.approx(list(cur)) and OVERALL not in whole.cur
