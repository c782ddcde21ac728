"""The paper's fifteen benchmarks through lmms-eval itself, on made-up documents, and read back."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

import datasets
from lmms_eval import utils

from redundancy_eval import api, sample, scores, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.options import Options
from redundancy_eval.readers import find
from tests.helpers import leaderboard_data

pytestmark = pytest.mark.framework

ROOT = Path(__file__).resolve().parents[2]
# Our task -> the leaderboard's.
THEIRS = {
    "gqa": "gqa", "mmbench": "mmbench_en_dev_static", "mme": "mme", "seedbench": "seedbench", "ai2d": "ai2d",
    "mathvista": "mathvista_testmini_format", "scienceqa": "scienceqa_img", "mmmu": "mmmu_val", "docvqa": "docvqa_val",
    "ocrbench": "ocrbench", "textvqa": "textvqa_val", "chartqa": "chartqa", "cv_bench": "cv_bench", "mmvp": "mmvp",
    "realworldqa": "realworldqa",
}  # fmt: skip
# MathVista's own task does not load without a judge's key.
LEADERBOARD = [*(task for task in THEIRS.values() if "mathvista" not in task), "cv_bench_2d", "cv_bench_3d"]
GARBAGE = ["The quick brown fox", "A brown fox", "foxes eat a lot and no more", "", "1.0 B. 1.0 C. 2.0 D.", "Dogs."]


def replies(data, kind):
    """Replies by task and document: right ones, garbage, or a mixture."""
    every = {**data}
    every["cv_bench_2d"], every["cv_bench_3d"] = (
        [doc for doc in data["cv_bench"] if doc["type"] == side] for side in ("2D", "3D")
    )
    perception = taxonomy.benchmark("MME").weights
    for ours, theirs in THEIRS.items():
        every[f"redundancy_{ours}"] = [
            doc
            for doc in data[theirs]
            if (ours != "mme" or doc["category"] in perception) and (ours != "seedbench" or doc["data_type"] == "image")
        ]

    def reply(number, doc):
        wrong = kind == "garbage" or (kind == "mixed" and number % 5 in (1, 3))
        return GARBAGE[number % len(GARBAGE)] if wrong else doc["answer"]

    return {task: [reply(number, doc) for number, doc in enumerate(docs)] for task, docs in every.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Perfect replies as the full model, mixed ones as drop=clip, garbage as drop=sam."""
    folder = tmp_path_factory.mktemp("hub")
    data = leaderboard_data.write(folder)
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch

    masks, lines = {"none": "perfect", "clip": "mixed", "sam": "garbage"}, []
    for mask, kind in masks.items():
        (folder / f"{mask}.json").write_text(json.dumps(replies(data, kind)))
        lines.append([
            "--model", "scripted", "--log_samples", "--model_args", f"answers={mask}.json,pretrained=x,drop={mask}",
            "--output_path", f"out/{mask}", "--tasks", ",".join(["redundancy_paper", *LEADERBOARD]),
            "--include_path", str(lmms_eval_launch.task_folder()),
        ])  # fmt: skip
    (folder / "lines.json").write_text(json.dumps(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_DATASETS_CACHE": str(folder / "cache"), "OPENAI_API_KEY": "", "PLACES": "places.json"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.scripted_lmms_eval", "lines.json"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    for mask in masks:
        written = list((folder / "out" / mask).rglob("*_results.json"))
        assert written, done.stderr[-3000:]
        for path in written:  # the file of answers is no part of the model
            path.write_text(path.read_text().replace(f"answers={mask}.json,", ""))
    return folder


def table(folder, benchmark, alternative):
    """The table of one benchmark from one of the tasks that report it."""
    five = taxonomy.load("five")
    chosen = replace(benchmark, category="General", sources={"lmms-eval": (alternative,)})
    one = replace(five, benchmarks=(chosen,))
    tasks = {part.task for part in alternative}
    found = [
        replace(run, tasks={k: v for k, v in run.tasks.items() if k in tasks})
        for run in find.read([folder / "out"], five)
    ]
    (made,) = scores.tables(found, one, ["clip", "sam"])
    return made


ALTERNATIVES = [
    pytest.param(benchmark, alternative, id="+".join(part.task for part in alternative) + f" {benchmark.name}")
    for benchmark in (*taxonomy.load("paper").benchmarks, taxonomy.benchmark("MMVP pairs"))
    for alternative in benchmark.sources.get("lmms-eval", ())
    if all(part.task.startswith("redundancy_") or part.task in LEADERBOARD for part in alternative)
    and not benchmark.name.startswith("demo ")
]


@pytest.mark.parametrize(("benchmark", "alternative"), ALTERNATIVES)
def test_recomputed_scores_are_the_framework_s(runs, benchmark, alternative):
    made = table(runs, benchmark, alternative)  # a headline that does not follow from the samples raises
    full, mixed, garbage = made.points[:, 0]
    assert full > 85 and full >= mixed >= garbage
    unchecked = any("unchecked" in note for note in made.notes)
    assert unchecked == bool(alternative[0].reason)
    if alternative[0].task.startswith("redundancy_"):
        assert mixed < full and garbage == 0, "garbage earns nothing"
        assert len(made.samples[benchmark.name].documents) == made.documents[0]


def test_all_fifteen_stand_in_one_table(runs):
    (made,) = api.read([runs / "out"], Options("paper", encoders=("clip", "sam")))
    assert len(made.benchmarks) == 15 and made.masks == ((), ("clip",), ("sam",))
    assert all(name.startswith("redundancy_") for name in made.tasks)
    assert any(
        "CV-Bench is redundancy_cv_bench; also run, left out: cv_bench, cv_bench_2d+cv_bench_3d" in n
        for n in made.notes
    )
    pairs = made.samples["MME"]
    assert len(set(pairs.clusters)) == 10 and len(pairs.documents) == 20
    assert len(set(made.samples["GQA"].clusters)) < len(made.samples["GQA"].documents)
    (by_pairs,) = api.read([runs / "out"], Options("paper", True, encoders=("clip", "sam")))
    assert [b.name for b in by_pairs.benchmarks if b.name.startswith("MMVP")] == ["MMVP pairs"]


def test_clusters_and_strata_are_known_before_anything_is_asked(runs):
    told = json.loads((runs / "places.json").read_text())
    assert len(told) == 15 + len(LEADERBOARD) and [n for n in told if told[n] is None] == ["mmbench_en_dev_static"]
    (run,) = find.read([runs / "out" / "none"], taxonomy.load())
    for task, places in told.items():
        if places is not None:
            found = run.tasks[task].samples(sample.part_of("lmms-eval", task))
            later = zip(found.documents, found.clusters, found.strata, strict=True)
            assert {str(n): tuple(place) for n, place in enumerate(places) if place} == {d: (c, s) for d, c, s in later}


SAME = ("gqa", "mme", "ai2d", "scienceqa", "docvqa", "ocrbench", "textvqa", "chartqa")


@pytest.mark.parametrize("ours", SAME)
def test_scoring_is_the_leaderboard_s_where_that_credits_no_garbage(runs, ours):
    (benchmark,) = (
        b for b in taxonomy.load("paper").benchmarks if b.sources["lmms-eval"][0][0].task == f"redundancy_{ours}"
    )
    mine, theirs = benchmark.sources["lmms-eval"][:2]
    np.testing.assert_allclose(table(runs, benchmark, mine).points, table(runs, benchmark, theirs).points)


# What of a leaderboard's task may differ in ours, beside names, scoring and login.
_OURS = {"task", "dataset_kwargs", "process_docs", "process_results", "metric_list", "metadata", "cluster_key", "tag",
         "filter_list", "generation_kwargs", "model_specific_generation_kwargs", "model_specific_target_kwargs",
         "doc_to_messages", "lmms_eval_specific_kwargs", "include"}  # fmt: skip
_DIFFERENT = {
    "gqa": {"doc_to_visual"}, "ai2d": {"doc_to_target"}, "textvqa": {"doc_to_target"},
    "mathvista": {"doc_to_visual", "doc_to_text"},
}  # fmt: skip


@pytest.mark.parametrize("ours", THEIRS)
def test_our_tasks_are_the_leaderboard_s_but_for_what_the_docs_say(ours, monkeypatch):
    import lmms_eval.tasks

    monkeypatch.setenv("OPENAI_API_KEY", "none")  # MathVista's module wants one to be imported
    folder = Path(lmms_eval.tasks.__file__).parent
    (path,) = (
        p
        for p in folder.rglob("*.yaml")
        if f'task: "{THEIRS[ours]}"' in p.read_text() or f"task: {THEIRS[ours]}\n" in p.read_text()
    )
    theirs = utils.load_yaml_config(str(path))
    mine = utils.load_yaml_config(str(ROOT / "tasks" / "paper" / f"redundancy_{ours}.yaml"))
    for key in (set(mine) | set(theirs)) - _OURS - _DIFFERENT.get(ours, set()):
        a, b = (getattr(c.get(key), "__qualname__", c.get(key)) for c in (mine, theirs))
        assert a == b, key
    prompts = (theirs.get("lmms_eval_specific_kwargs") or {}).get("default")
    if ours != "mathvista":
        assert (mine.get("lmms_eval_specific_kwargs") or {}).get("default") == prompts
    limit = theirs.get("generation_kwargs", {}).get("max_new_tokens")
    assert mine["generation_kwargs"]["max_new_tokens"] <= (limit or 1024)
    assert mine["generation_kwargs"]["do_sample"] is False
    assert "token" not in (mine.get("dataset_kwargs") or {})


def test_mathvista_s_prompt_is_the_leaderboard_s(runs, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    from lmms_eval.tasks.mathvista import utils as theirs

    from redundancy_eval.tasks.paper import utils as ours

    settings = {"shot_type": "format-prompt", "shot": 0, "use_caption": False, "use_ocr": False}
    for doc in leaderboard_data.write(runs / "again")["mathvista_testmini_format"]:
        doc = {"choices": None, "unit": None, **doc}
        assert ours.mathvista_text(doc) == theirs.mathvista_doc_to_text(doc, settings)


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """`redundancy-eval tasks --check` beside data sets of the hub's names: exit code, and what it printed."""
    leaderboard_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "level", logging.WARNING)  # which the command changes

    def run():
        code = main(["tasks", "--check"])
        return code, *capsys.readouterr()

    return run


def test_check_tries_the_documents_of_the_hub(check):
    code, out, error = check()
    assert code == 0 and out.count(" ok\n") == 15, out + error


def test_check_says_what_is_missing_or_out_of_reach(check, tmp_path):
    (path,) = (tmp_path / "lmms-lab-encoder" / "DocVQA").rglob("*.parquet")
    datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "c")).remove_columns("answers").to_parquet(path)
    (tmp_path / "echo840").rename(tmp_path / "elsewhere")
    code, out, error = check()
    assert code == 2 and "2 of 15 benchmarks" in error
    assert "KeyError: 'answers'" in out and "not loaded: Couldn't reach 'echo840/OCRBench'" in out
