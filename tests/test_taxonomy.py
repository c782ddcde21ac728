"""Taxonomies: the shipped ones are the paper's, and a user's own file is checked."""

import json

import pytest

from redundancy_eval import taxonomy
from redundancy_eval.errors import SetupError

PAPER = {
    "General": ["GQA", "MMBench", "MME", "SEED-I"],
    "Knowledge": ["AI2D", "MathVista", "SQA-I", "MMMU"],
    "OCR & Chart": ["DocVQA", "ChartQA", "OCRBench", "TextVQA"],
    "Vision-Centric": ["CV-Bench", "MMVP", "RealWorldQA"],
}


def members(chosen):
    return {
        category: [b.name for b in chosen.benchmarks if b.category == category and not b.name.startswith("demo ")]
        for category in chosen.categories
    }


def test_shipped_taxonomies():
    assert members(taxonomy.load("paper")) == PAPER
    five = members(taxonomy.load())
    assert list(five) == ["General", "Knowledge", "OCR", "Chart", "Vision-Centric"]
    assert five["Chart"] == ["ChartQA"] and sorted(five["OCR"] + five["Chart"]) == sorted(PAPER["OCR & Chart"])
    for benchmark in taxonomy.load("paper").benchmarks:
        assert sum(benchmark.weights.values()) == pytest.approx(1) or not benchmark.weights
        if not benchmark.name.startswith("demo "):
            assert {"lmms-eval", "vlmevalkit"} <= set(benchmark.sources)


def test_mmvp_by_pairs():
    by_pairs = taxonomy.load("paper", True)
    (mmvp,) = (b for b in by_pairs.benchmarks if b.name.startswith("MMVP"))
    assert mmvp.name == "MMVP pairs" and mmvp.rule == "all" and mmvp.category == "Vision-Centric"


OWN = {
    "schema": 2,
    "taxonomies": {"mine": {"Seeing": ["GQA", "My bench"], "Reading": ["TextVQA"]}},
    "benchmarks": {"My bench": {"lmms-eval": [{"task": "mine", "metric": "acc", "score": "acc.score"}]}},
}


def load(tmp_path, content, name="own.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    taxonomy.load.cache_clear()
    return taxonomy.load(str(path))


def test_a_file_of_one_s_own_adds_to_the_shipped_benchmarks(tmp_path):
    mine = load(tmp_path, OWN)
    assert mine.name == "mine" and mine.categories == ("Seeing", "Reading")
    assert [(b.name, b.category) for b in mine.benchmarks] == [
        ("GQA", "Seeing"),
        ("My bench", "Seeing"),
        ("TextVQA", "Reading"),
    ]
    assert mine.benchmarks[1].sources["lmms-eval"][0][0].scale == 100
    two = {**OWN, "taxonomies": {**OWN["taxonomies"], "other": {"All": ["MME"]}}}
    with pytest.raises(SetupError, match="holds the taxonomies mine, other; say which one with .*two.json:NAME"):
        load(tmp_path, two, "two.json")
    assert taxonomy.load(f"{tmp_path / 'two.json'}:other").categories == ("All",)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("{", "not JSON"),
        ({"schema": 1}, '"schema": 2'),
        ({"taxonomies": {}}, "must map a name to categories"),
        ({"taxonomies": {"mine": ["GQA"]}}, "must map a name to categories"),
        ({"taxonomies": {"mine": {"A": ["Nothing"]}}}, "unknown benchmark 'Nothing'; known: GQA, "),
        ({"taxonomies": {"mine": {"A": ["GQA"], "B": ["GQA"]}}}, "in two categories: GQA"),
        (
            {"benchmarks": {"My bench": {"rule": "median"}}},
            "rule must be one of items, all, items and all; not 'median'",
        ),
        ({"benchmarks": {"My bench": {"weights": {"a": 0.4}}}}, "weights sum to 0.4, not to 1"),
        ({"benchmarks": {"My bench": {"lmms": []}}}, "unknown key 'lmms'"),
        ({"benchmarks": {"My bench": {"lmms-eval": [{"task": "mine"}]}}}, "My bench: .*metric"),
        (
            {"benchmarks": {"My bench": {"lmms-eval": [{"task": "mine", "metric": "a", "scales": 1}]}}},
            "My bench: .*scales",
        ),
        (
            {"benchmarks": {"My bench": {"lmms-eval": [{"task": "mine", "metric": "a", "score": "best: a"}]}}},
            "no rule 'best'",
        ),
    ],
)
def test_wrong_files(tmp_path, change, match):
    with pytest.raises(SetupError, match=match) as error:
        load(tmp_path, change if isinstance(change, str) else {**OWN, **change})
    assert "own.json" in str(error.value) and "\n" not in str(error.value)


def test_no_such_taxonomy():
    with pytest.raises(SetupError, match="taxonomy must be one of five, paper, or a JSON file; not 'six'"):
        taxonomy.load("six")
