"""Taxonomies: the shipped ones are the paper's, and a user's own file is checked."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def with_tasks(*tasks, **benchmark):
    """OWN whose benchmark is one alternative of these tasks (each a dict over a task with a metric)."""
    parts = [{"task": "mine", "metric": "acc", "score": "acc.score", **task} for task in tasks]
    return {"benchmarks": {"My bench": {"lmms-eval": [parts], **benchmark}}}


def load(tmp_path, content, name="own.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
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
        ({"more": 1}, "unknown key 'more'"),
        ({"benchmarks": {"gqa": {}}}, "'gqa' is one of the shipped benchmarks; call yours otherwise"),
        ({"benchmarks": ["GQA"]}, '"benchmarks" must map a name'),
        ({"benchmarks": {"My bench": []}}, '"benchmarks" must map a name'),
        ({"taxonomies": {"Paper": {"A": ["GQA"]}}}, "'Paper' is one of the shipped taxonomies; call yours otherwise"),
        ({"taxonomies": {"five|encoders:all": {"A": ["GQA"]}}}, r"the name of a taxonomy must not hold '\|'"),
        ({"taxonomies": {"mine": {"A\u202e": ["GQA"]}}}, r"the name of a category must not hold '\\u202e'"),
        ({"taxonomies": {"mine": {"A\n": ["GQA"]}}}, "category .* is no name"),
        ({"taxonomies": {"mine": {"": ["GQA"]}}}, "category '' is no name"),
        ({"taxonomies": {"mine": {"Overall": ["GQA"]}}}, "a category cannot be called 'Overall'"),
        ({"taxonomies": {"mine": {"Encoder": ["GQA"]}}}, "a category cannot be called 'Encoder'"),
        ({"taxonomies": {"mine": {"A change": ["GQA"]}}}, "a category cannot be called 'A change'"),
        ({"taxonomies": {"mine": {"a": ["GQA"], "A": ["MME"]}}}, "two categories have one name, but for case"),
        ({"taxonomies": {"mine": {"A": "GQA"}}}, "must be a list of benchmarks; not 'GQA'"),
        ({"taxonomies": {"mine": {"A": []}}}, "must be a list of benchmarks"),
        ({"taxonomies": {"mine": {"A": [["GQA"]]}}}, "must be a list of benchmarks"),
        ({"taxonomies": {"mine": {}}}, "no categories"),
        ({"taxonomies": {"mine": {"A": ["MMVP"], "B": ["MMVP pairs"]}}}, "would count in MMVP and in MMVP pairs"),
        ({"benchmarks": {"mask": {}}}, "a benchmark cannot be called 'mask'"),
        ({"benchmarks": {"My bench": {"rule": ["all"]}}}, r"rule must be one of .*; not \['all'\]"),
        ({"benchmarks": {"My bench": {"weights": {"a": 2, "b": -1}}}}, "weights must map names to positive numbers"),
        ({"benchmarks": {"My bench": {"weights": {"a": True}}}}, "weights must map names to positive numbers"),
        ({"benchmarks": {"My bench": {"lmms-eval": {"task": "mine"}}}}, "lmms-eval must be a list of tasks"),
        ({"benchmarks": {"My bench": {"lmms-eval": ["mine"]}}}, "a task must be an object"),
        ({"benchmarks": {"My bench": {"lmms-eval": [[]]}}}, "an empty list of tasks"),
        (with_tasks({"decimals": -5}), "decimals must be a whole number from 0 to 12; not -5"),
        (with_tasks({"decimals": 2.5}), "decimals must be a whole number"),
        (with_tasks({"scale": 0}), "scale must be a positive number; not 0"),
        (with_tasks({"scale": float("inf")}), "scale must be a positive number; not inf"),
        (with_tasks({"metric": None}), "metric must be a text; not None"),
        (with_tasks({"row": {"split": 1}}), "row must be texts by column"),
        (with_tasks({"null_is_zero": "no"}), "null_is_zero must be true or false"),
        (with_tasks({"headline_documents": 0}), "headline_documents must be a positive whole number"),
        (with_tasks({"headline_weights": {"a": 0.7, "b": 0.7}}), "headline_weights must be"),
        (with_tasks({"weight": 0.9}), "weights sum to 0.9, not to 1"),
        (with_tasks({"weight": 0.9}, {"task": "b", "weight": 0.9}), "weights sum to 1.8, not to 1"),
        (with_tasks({"weight": 0.5}, {"task": "b"}), "give all of its tasks a weight, or none"),
        (with_tasks({}, {}), "task mine would count twice"),
        (
            {
                "taxonomies": {"mine": {"A": ["My bench"], "B": ["Other"]}},
                "benchmarks": {name: {"lmms-eval": [{"task": "t", "metric": "a"}]} for name in ("My bench", "Other")},
            },
            "task t would count in My bench and in Other",
        ),
    ],
)
def test_wrong_files(tmp_path, change, match):
    with pytest.raises(SetupError, match=match) as error:
        load(tmp_path, change if isinstance(change, str) else {**OWN, **change})
    assert "own.json" in str(error.value) and "\n" not in str(error.value)


def test_an_error_names_the_line(tmp_path):
    with pytest.raises(SetupError, match=r"own.json:15: benchmark My bench: decimals must be"):
        load(tmp_path, json.dumps({**OWN, **with_tasks({"decimals": -1})}, indent=1))
    for text in (
        '{"schema": 2,\n"taxonomies": {"mine": {"A": ["GQA"],\n"A": ["MME"]}}}',
        '{"schema": 2, "taxonomies": {"x": {"A": ["GQA"]}},\n "benchmarks": {},\n "benchmarks": {}}',
    ):
        with pytest.raises(SetupError, match="own.json:3: '.*' stands twice"):
            load(tmp_path, text)
    with pytest.raises(SetupError, match=r"own.json:2: not JSON"):
        load(tmp_path, '{\n"schema"}')
    with pytest.raises(SetupError, match=r"own.json: not JSON"):
        load(tmp_path, "[" * 100_000)


ODD = [None, True, -1, 1.5, float("nan"), 10**400, "", "x", "a|b", "\x1b", [], ["x"], [[]], {}, {"x": 1}, {"": None}]


def places(content, path=()):
    """Where something stands in JSON content."""
    yield path
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_stands_in_a_file_is_taken_or_refused_in_one_line(tmp_path, data):
    parts = [
        {"task": "t", "metric": "m", "weight": 0.5},
        {"task": "u", "metric": "m", "weight": 0.5, "row": {"a": "b"}},
    ]
    bench = {"rule": "all", "weights": {"a": 0.5, "b": 0.5}, "lmms-eval": [parts[0] | {"weight": 1}, parts]}
    content = json.loads(json.dumps({**OWN, "benchmarks": {"My bench": bench}}))
    *path, last = data.draw(st.sampled_from([place for place in places(content) if place]))
    target = content
    for key in path:
        target = target[key]
    if data.draw(st.booleans()):
        target[last] = data.draw(st.sampled_from(ODD))
    elif isinstance(target, dict):
        target[data.draw(st.sampled_from(["", "x", "\x1b", "Overall", "GQA"]))] = target.pop(last)
    try:
        load(tmp_path, content)
    except SetupError as error:
        assert "own.json" in str(error)


def test_tasks_may_share_a_file_where_conditions_part_them(tmp_path):
    halves = with_tasks({"where": "split=a", "weight": 0.5}, {"where": "split=b", "weight": 0.5})
    assert len(load(tmp_path, {**OWN, **halves}).benchmarks[1].sources["lmms-eval"][0]) == 2


def test_a_file_is_known_by_its_content(tmp_path):
    first = load(tmp_path, OWN)
    assert re.fullmatch("mine@[0-9a-f]{12}", first.label) and taxonomy.load("paper").label == "paper"
    assert load(tmp_path, json.dumps(OWN) + " ").label != first.label
    assert load(tmp_path, OWN).label == first.label


def test_no_such_taxonomy():
    with pytest.raises(SetupError, match="taxonomy must be one of five, paper, or a JSON file; not 'six'"):
        taxonomy.load("six")
