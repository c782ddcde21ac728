"""`--sample N` in sweeps and separate runs of both frameworks: what is asked, kept, written down and reported."""

import json
import os
from importlib.util import find_spec
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import api, records, sample, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.sweeps import folders
from redundancy_eval.options import Options
from redundancy_eval.readers import find
from redundancy_eval.readers.vlmevalkit import files as kit_files
from redundancy_eval.readers.vlmevalkit import samples as kit_samples
from tests.helpers import leaderboard_data, tiny, vlmevalkit_data
from tests.helpers.runs import DEMO_TASKS
from tests.helpers.sweep_places import Place, asked, check_store
from tests.sweeps.test_sweep_runs import ARGUMENTS, check_files

pytestmark = [pytest.mark.framework, pytest.mark.models]

OCR = "redundancy_demo_ocr"
PAPER = ("redundancy_mme", "redundancy_cv_bench", "redundancy_mmbench", "redundancy_mmvp")


def command(kind, out, *more, tasks=OCR, drop=None):
    given = "pretrained=demo,dtype=float32" + f",drop={drop}" * (drop is not None)
    masks = ["--masks", "none;clip"] if kind == "sweep" else ["--log_samples", "--batch_size", "8"]
    return [kind, "--model", "eagle_masked", "--model_args", given, "--tasks", tasks, "--device", "cpu", *masks,
            "-o", out, *more]  # fmt: skip


@pytest.fixture(scope="module")
def lmms(tmp_path_factory):
    """Everything that shares one import of lmms-eval."""
    if find_spec("lmms_eval") is None:
        pytest.skip("needs the extra lmms-eval")
    place = Place(tmp_path_factory.mktemp("lmms"), "lmms-eval")
    leaderboard_data.write(place.root)
    job = place.job
    grown = [job(f"to {n}", command("sweep", "grown", "--sample", str(n)), note=f"{n}.note") for n in (3, 6)]
    jobs = [
        *grown,
        job("again", command("sweep", "grown", "--sample", "6"), note="again.note"),
        job("group", command("sweep", "group", "--sample", "4", "--masks", "clip", tasks="redundancy_demo")),
        job("separate", command("run", "separate", "--sample", "4", tasks="redundancy_demo", drop="clip")),
        job("smaller", command("run", "separate", "--sample", "3", drop="clip")),
        job("seed", command("run", "seed", "--sample", "4", "--sample-seed", "1", tasks="redundancy_demo")),
        job("paper", command("run", "paper", "--sample", "8", tasks=",".join(PAPER))),
        job("wrong", command("run", "w", "--sample", "4", "--limit", "5"),
            command("sweep", "w", "--sample", "4", "--offset", "5"),
            command("run", "w", "--sample", "4", tasks="mmbench_en_dev_static")),
    ]  # fmt: skip
    with mock.patch.dict(os.environ, {"HF_DATASETS_CACHE": str(place.root / "cache"), "OPENAI_API_KEY": ""}):
        place.run_lanes(jobs)
    return place


def documents(folder, task):
    """Numbers of the documents in a task's samples."""
    (path,) = folder.rglob(f"*_samples_{task}.jsonl")
    return [json.loads(line)["doc_id"] for line in path.read_text().splitlines()]


def n_samples(folder):
    (path,) = folder.rglob("2*_results.json")  # others are submissions of tasks
    return {task: (n["effective"], n["original"]) for task, n in json.loads(path.read_text())["n-samples"].items()}


def test_a_larger_sample_asks_what_is_new_and_writes_results_anew(lmms):
    for name in ("to 3", "to 6", "again"):
        lmms.done(name)
    first, second = (asked(lmms.notes(f"{n}.note")) for n in (3, 6))
    assert sum(first.values()) == sum(second.values()) == 2 * 3 and not set(first) & set(second)
    check_store(lmms.root / "grown", 2 * 6)
    assert "finished: 2 masks" in lmms.said("again") and not asked(lmms.notes("again.note"))
    for mask in ("none", "clip"):
        folder = lmms.root / "grown" / f"drop-{mask}"
        assert len(documents(folder, OCR)) == 6 and n_samples(folder) == {OCR: (6, 240)}
        told = records.read([folder])["sample"]
        assert (told["count"], told["seed"]) == (6, 0) and told["tasks"][OCR]["of"] == 240
        assert told["tasks"][OCR]["drawn"] == 6 and told["tasks"][OCR]["strata"] == {"": [6, 240]}
    assert json.loads((folder / "manifest.json").read_text())["decides"]["sample"] == "6@0"


def test_another_sample_makes_room_and_nothing_else_does(tmp_path):
    decides = {"tasks": "a", "files": {}}
    (tmp_path / "result").write_text("x")
    folders.write_manifest(tmp_path, "none", {**decides, folders.SAMPLE: "3@0"}, ["redundancy-eval", "sweep"])
    assert folders.finished(tmp_path, {**decides, folders.SAMPLE: "3@0"})
    assert not folders.finished(tmp_path, {**decides, folders.SAMPLE: "4@0"})
    assert not folders.finished(tmp_path, decides), "all documents are another sample"
    with pytest.raises(SetupError, match="tasks differs"):
        folders.finished(tmp_path, {"tasks": "b", "files": {}, folders.SAMPLE: "3@0"})


def test_a_group_s_tasks_each_get_their_own_sample_and_a_separate_run_the_same(lmms):
    lmms.done("group")
    lmms.done("separate")
    mine, theirs = (lmms.root / name / "drop-clip" for name in ("group", "separate"))
    check_files(mine, theirs, ARGUMENTS)
    assert n_samples(mine) == dict.fromkeys(DEMO_TASKS, (4, 240))
    drawn = [documents(mine, task) for task in DEMO_TASKS]
    assert all(len(numbers) == 4 for numbers in drawn) and len(set(map(tuple, drawn))) == 5


def test_a_folder_holds_one_sample(lmms):
    assert lmms.codes("smaller") == [2] and "sample.count differs: 4 there, 3 here" in lmms.error("smaller")


def test_report_tells_of_the_sample_and_refuses_two(lmms, capsys):
    lmms.done("seed")
    out, other = str(lmms.root / "grown"), str(lmms.root / "seed")
    assert main(["report", out]) == 0
    said = capsys.readouterr().out
    assert "a random sample of 6 of 240 documents (seed 0): demo OCR" in said and "|sample:6@0|" in said
    assert main(["report", str(lmms.root / "separate"), other]) == 3
    said = capsys.readouterr().err
    assert "runs differ in limit: sample: 4 of 240 documents (seed 0) and 4 of 240 documents (seed 1)" in said


def test_clusters_are_whole_and_what_they_will_be_in_the_samples(lmms):
    lmms.done("paper")
    folder = lmms.root / "paper" / "drop-none"
    told = records.read([folder])["sample"]["tasks"]
    (run,) = find.read([folder], taxonomy.load())
    for task in PAPER:
        part = sample.part_of("lmms-eval", task)
        found = run.tasks[task].samples(part)
        clusters = dict(zip(*_counted(found), strict=True))
        assert len(clusters) == told[task]["clusters"][0] and len(found.documents) == told[task]["drawn"]
        strata = {name: int((found.strata == name).sum()) for name in told[task]["strata"]}
        assert strata == {name: drawn for name, (drawn, _) in told[task]["strata"].items()}
    assert n_samples(folder)["redundancy_mme"] == (8, 20)  # four pairs
    mme = run.tasks["redundancy_mme"].samples(sample.part_of("lmms-eval", "redundancy_mme"))
    assert sorted(_counted(mme)[1]) == [2, 2, 2, 2] and len(set(mme.strata)) == 4
    cv = told["redundancy_cv_bench"]["strata"]
    assert all(drawn for drawn, _ in cv.values()) and set(cv) == set(taxonomy.benchmark("CV-Bench").weights)
    (table,) = api.read([folder], Options())
    assert any("MME is undefined: no documents of" in note for note in table.notes)
    assert any("a random sample of 8 of 20 documents in 4 of 10 clusters (seed 0)" in note for note in table.notes)


def _counted(found):
    names, counts = np.unique(np.char.add(np.char.add(found.strata, "|"), found.clusters), return_counts=True)
    return names.tolist(), counts.tolist()


def test_what_chooses_documents_otherwise_is_refused(lmms):
    assert lmms.codes("wrong") == [2, 2, 2]
    assert "--sample and --limit both choose documents" in lmms.error("wrong", 0)
    assert "--sample and --offset both choose documents" in lmms.error("wrong", 1)
    assert "which questions of mmbench_en_dev_static belong together" in lmms.error("wrong", 2)
    assert not (lmms.root / "w").exists()


# --- VLMEvalKit ----------------------------------------------------------------------------------------------------

DATA = ("MME", "CV-Bench-2D", "MMBench_DEV_EN", "MMVP", "MMMU_DEV_VAL")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Everything that shares one import of VLMEvalKit."""
    if find_spec("vlmeval") is None:
        pytest.skip("needs the extra vlmevalkit")
    place = Place(tmp_path_factory.mktemp("vlmevalkit"), "vlmevalkit")
    root = place.root
    eagle = tiny.write(root / "eagle", "clip-448;convnext-1024", seed=2, tokenizer_model_max_length=1024)
    (root / "data").mkdir()
    place.frames = vlmevalkit_data.write(root / "data", vlmevalkit_data.noise)
    env = {"LMUData": str(root / "data")}

    def job(name, kind, out, *more, data=DATA, **inject):
        start = ["sweep", "--framework", "vlmevalkit", "--masks", "none;all"] if kind == "sweep" else ["vlmevalkit"]
        given = f"pretrained={eagle},max_new_tokens=4" + ",drop=all" * (kind != "sweep")
        line = [*start, "--model", "eagle_masked", "--model_args", given, "--data", *data, "-o", out, *more]
        return place.job(name, line, env=env, **inject)

    place.run_lanes([
        job("4", "sweep", "grown", "--sample", "4", note="4.note"),
        job("12", "sweep", "grown", "--sample", "12", note="12.note"),
        job("separate", "run", "separate", "--sample", "12"),
        job("limit", "sweep", "w", "--sample", "4", "--limit", "3"),
    ])  # fmt: skip
    return place


def test_rows_of_vlmevalkit_are_whole_groups_and_a_larger_sample_asks_what_is_new(kit, capsys):
    for name in ("4", "12", "separate"):
        kit.done(name)
    first, second = (set(asked(kit.notes(f"{n}.note"))) for n in (4, 12))
    assert first and second and not first & second
    found = sorted((kit.root / "grown").glob("eagle_masked_drop-*"))
    assert [folder.name.split("_")[2] for folder in found] == ["drop-all", "drop-none"]
    for folder in found:
        told = records.read([folder])["sample"]
        assert (told["count"], told["seed"]) == (12, 0) and set(told["tasks"]) == set(DATA)
        for name in DATA:
            part = sample.part_of("vlmevalkit", name)
            (path,) = folder.glob(f"*_{name}.xlsx")
            rows = [{**row, "index": str(row["index"])} for row in _rows(path)]
            places = [place for place in kit_samples.places(path, rows, part) if place]
            frame = kit.frames[name].astype(object).fillna("").astype(str).to_dict("records")
            every = [place for place in kit_samples.places(path, frame, part) if place]
            assert len(places) == len(rows) == told["tasks"][name]["drawn"], "documents that do not count"
            assert len(rows) >= 12 or len(rows) == len(every) == told["tasks"][name]["of"]
            assert len(set(places)) == told["tasks"][name]["clusters"][0]
            if part.cluster != "pair":
                assert all(places.count(place) == every.count(place) for place in set(places))
            strata = [len({stratum for _, stratum in found}) for found in (places, every)]
            assert strata[0] == min(strata[1], len(set(places))), "a stratum is empty though there was room"
    assert main(["report", str(kit.root / "grown")]) == 0
    said = capsys.readouterr().out
    assert "a random sample of 12 of" in said and "|sample:12@0|" in said


def test_a_separate_run_in_vlmevalkit_draws_the_same(kit):
    (mine,) = (kit.root / "grown").glob("*drop-all_*")
    (theirs,) = (kit.root / "separate").glob("*drop-all_*")
    assert mine.name != theirs.name  # which holds its sample in its name: it makes no room for another
    assert records.read([mine])["sample"] == records.read([theirs])["sample"]
    for name in DATA:
        (a,), (b,) = (folder.glob(f"*_{name}.xlsx") for folder in (mine, theirs))
        assert _rows(a) == _rows(b)


def test_limit_beside_a_sample_is_refused_in_vlmevalkit_too(kit):
    assert kit.codes("limit") == [2] and "--sample and --limit both choose documents" in kit.error("limit")


def _rows(path):
    return list(kit_files.table(path))
