"""The masked models in VLMEvalKit's own launcher, started as a user starts it; offline, on made-up data sets.

Everything that needs VLMEvalKit runs in other processes: one import of it (twelve seconds) serves most of them. What
they left behind is looked at here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("vlmeval") is None:
    pytest.skip("needs the extra vlmevalkit", allow_module_level=True)

import numpy as np

from redundancy_eval import api, records
from redundancy_eval.cli import main
from redundancy_eval.options import Options
from redundancy_eval.readers.vlmevalkit.files import table
from redundancy_eval.readers.vlmevalkit.judged import plain
from tests.helpers.outcomes import free_port
from tests.helpers.vlmevalkit_lanes import (
    CAMBRIAN_MASKS,
    CHOICE,
    COMPARED,
    DATA,
    EAGLE_MASKS,
    FEW,
    OFFLINE,
    SECRET,
    made_world,
    run_all,
    wrong,
)

pytestmark = [pytest.mark.framework, pytest.mark.models]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with made_world(tmp_path_factory.mktemp("vlmevalkit")) as made:
        yield made


@pytest.fixture(scope="module")
def ran(world):
    return run_all(world)


def tables(path):
    """A report's tables; all that they need is told by the runs."""
    return api.read([path], Options("paper"))


def report(world, out, capsys):
    assert main(["report", str(world.root / out), "--taxonomy", "paper", "-o", str(world.root / "tables" / out)]) == 0
    return capsys.readouterr().out


# --- every mask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "model", "masks", "data"), [
    ("eagle", "eagle_masked", EAGLE_MASKS, DATA), ("cambrian", "cambrian_masked", CAMBRIAN_MASKS, tuple(FEW)),
])  # fmt: skip
def test_every_mask_is_evaluated_and_reported(ran, world, job, model, masks, data, capsys):
    ran.done(job)
    printed = report(world, job, capsys)
    (made,) = tables(world.root / job)
    assert len(made.masks) == len(masks) and made.encoders == tuple(masks[1 : 1 + len(made.encoders)])
    assert len(made.benchmarks) == len(data) and not np.isnan(made.points).any()
    assert f"|encoders:{'+'.join(made.encoders)}|masks:{len(masks)}/{2 ** len(made.encoders)}|" in printed
    assert "|judge:exact_matching|" in printed and "|vlmevalkit:ms-vlmeval 0.0.20|redundancy-eval:" in printed
    for drop in masks:
        record = records.read([ran.at(job, model, drop)])
        assert record["mask"] == record["arguments"]["drop"] == drop and record["model"] == model
    answers = [[tuple(ran.predictions(job, name, model, drop).values()) for name in data] for drop in masks]
    assert len(set(map(tuple, answers))) == len(masks), "some masks answer alike"


@pytest.mark.parametrize("model", COMPARED)
def test_answers_are_those_of_the_lmms_eval_side(ran, model):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    job = model.partition("_")[0]
    ran.done(f"{job} lmms")
    answers = json.loads((ran.jobs / f"{model}.answers.json").read_text())
    assert tuple(answers) == tuple(COMPARED[model])
    for drop, of_mask in answers.items():
        assert set(of_mask) == set(DATA if job == "eagle" else FEW)
        for name, expected in of_mask.items():
            assert ran.predictions(job, name, model, drop) == {i: plain(text) for i, text in expected.items()}
            assert drop == "all" or len(set(expected.values())) > 1, "all questions get the same answer"


def test_batches_answer_as_single_questions_do(ran):
    ran.done("single")
    ran.done("cambrian single")
    for drop in ("none", "clip"):
        for name in DATA:
            assert ran.predictions("single", name, drop=drop) == ran.predictions("eagle", name, drop=drop)
    for name in FEW:
        wanted = ran.predictions("cambrian", name, "cambrian_masked", "dinov2")
        assert ran.predictions("cambrian single", name, "cambrian_masked", "dinov2") == wanted
    assert ran.at("single").name == ran.at("eagle").name


def test_evaluations_do_not_meet_in_a_file(ran):
    """VLMEvalKit names a file in /tmp after the second, so that masks that are evaluated side by side share it."""
    ran.done("single")
    written = (ran.jobs / "written").read_text().split()
    shared = [path for path in written if str(ran.world.root) not in path]
    assert len(set(shared)) == 2 and not [path for path in shared if re.search(r"/\d{14}\.", path)]


# --- failures ------------------------------------------------------------------------------------------------------


def test_a_crash_in_the_model_ends_the_run(ran):
    assert ran.codes("crash") == [2]
    assert ran.error("crash") == "drop=none on MME failed: RuntimeError: no memory, as it were"
    ran.done("crash report")
    printed = ran.said("crash report", stream="out")
    assert "no results on MME; VLMEvalKit was stopped at stage 'infer', or is still running" in printed
    assert "tasks:ChartQA_TEST|" in printed
    ran.done("crash again")
    assert len(ran.record("crash again")) == 20, "VLMEvalKit had saved 10 of 30 answers"
    assert ran.predictions("crash", "MME") == ran.predictions("eagle", "MME")


def test_wrong_arguments_end_in_one_line(ran, world):
    expected = wrong(world)
    assert ran.codes("wrong") == [code for _, _, code, _ in expected]
    for number, (_, _, _, said) in enumerate(expected):
        assert said in ran.error("wrong", number)
        assert "Traceback" not in ran.said("wrong", number)
    assert "; did you mean MMBench_DEV_EN" in ran.error("wrong", 0)
    assert ran.codes("no data folder") == ran.codes("elsewhere") == [2]
    assert "nowhere is no folder (VLMEvalKit would take ~/LMUData instead)" in ran.error("no data folder")
    assert "MMEVAL_ROOT would put VLMEvalKit's results elsewhere than --work-dir" in ran.error("elsewhere")


def test_a_failed_evaluation_is_an_error_beside_the_results_of_others(ran, world, capsys):
    assert ran.codes("mathvista") == [2]
    said = ran.error("mathvista")
    assert said.startswith("VLMEvalKit failed on MathVista_MINI: ") and "requires a working OPENAI API" in said
    assert "ChartQA_TEST" not in said and str(ran.at("mathvista")) in said
    printed = report(world, "mathvista", capsys)
    assert "tasks:ChartQA_TEST|" in printed
    assert "no results on MathVista_MINI; VLMEvalKit says: " in printed
    assert "exact_matching" not in [model for _, _, model in world.judge.asked], "no one is asked"


# --- stopped and continued -----------------------------------------------------------------------------------------


def test_a_killed_run_is_a_hole_and_then_goes_on(ran, world):
    assert ran.codes("kill 1") == [-9]
    assert [said["name"].partition(" ")[0] for said in ran.record("kill 1")] == ["ChartQA_TEST"] * 6 + ["MME"] * 12
    ran.done("kill 1 report")
    printed = ran.said("kill 1 report", stream="out")
    assert "no results on MME; VLMEvalKit was stopped at stage 'infer', or is still running" in printed
    assert "tasks:ChartQA_TEST|" in printed
    assert ran.codes("kill 2") == [0, -9]  # the lock file of a killed process does not stop it
    ran.done("kill 3")
    assert len(ran.record("kill 3")) == 10, "VLMEvalKit had saved 20 of 30 answers"
    for name in ("ChartQA_TEST", "MME"):
        assert ran.predictions("killed", name) == ran.predictions("eagle", name)
    (made,) = tables(world.root / "killed")
    assert [b.name for b in made.benchmarks] == ["MME", "ChartQA"] and not np.isnan(made.points).any()


def test_a_run_that_was_killed_in_its_evaluation_is_a_hole(ran, world, tmp_path, capsys):
    shutil.copytree(world.root / "eagle", tmp_path / "eagle")
    (folder,) = (tmp_path / "eagle").glob("*drop-clip_*")
    for path in (*folder.glob("*_MMMU_DEV_VAL_acc.csv"), *folder.glob("*_MMMU_DEV_VAL_*_result.xlsx")):
        path.unlink()
    status = json.loads((folder / "status.json").read_text())
    status["datasets"]["MMMU_DEV_VAL"]["status"] = "eval"
    (folder / "status.json").write_text(json.dumps(status))
    (made,) = tables(tmp_path / "eagle")
    assert np.isnan(made.points).sum() == 1 and "drop=clip: the framework reports no number for MMMU" in made.notes


def test_two_processes_do_not_share_a_folder(ran):
    assert ran.codes("meanwhile") == [2]
    assert ran.error("meanwhile") == f"another process is at work in {ran.at('slow')}"
    ran.done("slow")
    assert ran.predictions("slow", "ChartQA_TEST") == ran.predictions("eagle", "ChartQA_TEST")


def test_settings_have_folders_of_their_own(ran, world):
    ran.done("settings")
    folders = {path.name: records.read([path]) for path in (world.root / "settings").glob("eagle_masked_*")}
    assert len(folders) == 4
    assert len(ran.record("settings")) == 6 + 6 + 3 + 6  # the second and third command found all answers
    limits = sorted(record["arguments"]["max_new_tokens"] for record in folders.values())
    assert limits == ["6", "6", "6", "7"]
    assert sum("--limit" in record["passed"] for record in folders.values()) == 1
    ran.done("judge")
    assert ran.at("judge").name not in folders


def test_a_judge_of_one_s_own(ran, world, capsys):
    ran.done("judge")
    path, authorization, model = world.judge.asked[0]
    assert (path, authorization, model) == ("/v1/chat/completions", f"Bearer {SECRET}", "my-judge")
    printed = report(world, "judge", capsys)
    assert f"|judge:my-judge@{world.url}|" in printed
    assert records.read([ran.at("judge")])["command"].count("--judge-key=[REDACTED]") == 1
    # Where no judge answers, VLMEvalKit would match exactly and name the files after the judge.
    assert ran.codes("no judge") == [2]
    said = "VLMEvalKit failed on MMMU_DEV_VAL: OPENAI API is not working properly, will use exact matching"
    assert ran.error("no judge").startswith(said)
    assert not list((world.root / "no judge").rglob("*_acc.csv"))
    for out in ("judge", "no judge"):
        files = [path for path in (world.root / out).rglob("*") if path.is_file()]
        assert len(files) >= 5 and any(path.suffix == ".log" for path in files)
        assert not [path for path in files if SECRET.encode() in path.read_bytes()]
        assert SECRET not in ran.said(out) + ran.said(out, stream="out")


def test_replies_that_spreadsheets_misread(ran, world):
    """VLMEvalKit writes `None` and reads no value; and 7 among no values comes back as 7.0."""
    ran.done("odd replies")
    (made,) = tables(world.root / "odd")
    assert [b.name for b in made.benchmarks] == ["MME", "SEED-I", "ChartQA"] and not np.isnan(made.points).any()
    assert made.points[0, :2].min() > 0


def test_inference_and_evaluation_apart(ran):
    assert ran.codes("modes") == [2, 0, 0]
    assert "VLMEvalKit failed on ChartQA_TEST: No infer result found" in ran.error("modes")
    assert (ran.at("modes") / f"{ran.at('modes').name}_ChartQA_TEST_acc.csv").is_file()
    assert ran.predictions("modes", "ChartQA_TEST") == ran.predictions("eagle", "ChartQA_TEST")


def test_data_sets_of_one_s_own(ran):
    """Multiple choice is scored; open questions are answered, but VLMEvalKit does not know how to score them."""
    assert ran.codes("own") == [2]
    said = ran.error("own")
    assert "VLMEvalKit failed on OwnOpen: an exception without a message; see its log (delete " in said
    assert len(ran.record("own")) == 7 + 6 and len(ran.predictions("own", "OwnOpen")) == 6
    assert (ran.at("own") / f"{ran.at('own').name}_OwnChoice_acc.csv").is_file()
    ran.done("own published")
    assert all("Answer with the option’s letter" in said["text"] for said in ran.record("own published"))


# --- as published --------------------------------------------------------------------------------------------------


def test_eagle_is_asked_as_the_authors_did(ran, world):
    """vlmeval/vlm/eagle_x.py: its wording of choices, images in front, vicuna_v1, drawn answers of 512 tokens."""
    ran.done("published")
    ran.done("published again")
    asked = ran.record("published")
    assert {said["limit"] for said in asked} == {512} and {said["dtype"] for said in asked} == {"torch.float32"}
    drawn = {"do_sample": True, "temperature": 0.2, "top_p": 0.5, "top_k": 50}
    assert all(said["settings"] == drawn and said["batch"] == 1 for said in asked)
    before = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n"
    )
    hinted = (
        "Hint: Acid means a pH below 7.\nWhich soil is acid?\nA. sample 1\nB. sample 2\n\nAnswer with the option’s "
        "letter from the given choices directly.  ASSISTANT:"
    )
    plain = (
        "What is shown?\nA. a teddy bear\nB. a rabbit\nC. a cat\nD. a dog\n\nAnswer with the option’s letter from the "
        "given choices directly.  ASSISTANT:"
    )
    chart = "How many bars are there?\nAnswer the question using a single word or phrase. ASSISTANT:"
    rendered = {said["name"]: said["rendered"] for said in asked}
    assert rendered["MMBench_DEV_EN 1.png"] == before + plain
    assert rendered["MMBench_DEV_EN 4.png"] == before + hinted
    assert rendered["ChartQA_TEST 1.png"] == before + chart
    record = records.read([ran.at("published")])["arguments"]
    assert record["as_published"] == "yes" and record["conv_template"] == "vicuna_v1" and record["dtype"] == "float32"
    assert ran.at("published").name.rpartition("_")[2] != ran.at("eagle").name.rpartition("_")[2]


def test_drawn_answers_come_again(ran):
    """In another order, in batches and in another folder; but each document and mask has draws of its own."""
    seeds = {}
    for said in ran.record("published"):
        seeds.setdefault(said["mask"], {})[said["name"]] = said["seed"]
    assert set(seeds) == {"none", "clip"} and len(seeds["none"]) == 19 + 6
    for of_mask in seeds.values():
        assert len(set(of_mask.values())) == len(of_mask)
    assert not set(seeds["none"].values()) & set(seeds["clip"].values())
    assert {said["name"]: said["seed"] for said in ran.record("published again")} == seeds["none"]
    for name in CHOICE:
        assert ran.predictions("published again", name) == ran.predictions("published", name)
    assert ran.predictions("published", "MMBench_DEV_EN") != ran.predictions("published", "MMBench_DEV_EN", drop="clip")


def test_cambrian_is_masked_where_the_authors_did(ran, world, capsys):
    ran.done("published cambrian")
    for drop in ("none", "clip"):
        folder = ran.at("published cambrian", "cambrian_masked", drop)
        assert records.read([folder])["arguments"]["site"] == "projected"
    asked = ran.record("published cambrian")
    assert {(said["site"], said["limit"], said["batch"]) for said in asked} == {("projected", 2048, 1)}
    assert all(said["settings"] == {} for said in asked)
    assert asked[0]["text"] == (
        "<image>\nQuestion: What is shown?\nOptions:\nA. a teddy bear\nB. a rabbit\nC. a cat\nD. a dog\n"
        "Please select the correct answer from the options above. \n"
    )
    for drop in ("none", "clip"):
        ours = [ran.predictions("cambrian", name, "cambrian_masked", drop) for name in CHOICE]
        theirs = [ran.predictions("published cambrian", name, "cambrian_masked", drop) for name in CHOICE]
        assert (ours == theirs) is (drop == "none"), "the site changes what is left of a dropped encoder"
    assert "|site:projected|" in report(world, "published cambrian", capsys)


# --- models that others wrapped ------------------------------------------------------------------------------------


def test_one_image_stands_in_front_where_the_architecture_wants_it(ran):
    assert ran.codes("cambrian mmmu") == [3, 0]
    assert "2 images; this architecture takes 1" in ran.error("cambrian mmmu")
    kept = "1 prompts have too many images for the model; the first were kept: MMMU_DEV_VAL 5_0.png 5_1.png"
    assert kept in ran.said("cambrian mmmu", 1)
    assert {said["rendered"].count("USER: <image>\n") for said in ran.record("cambrian mmmu")} == {1}


def test_a_model_of_vlmevalkit_is_masked(ran, world):
    assert ran.codes("hooked") == [0, 0, 0, 2, 2], ran.said("hooked")[-3000:]
    for name in ("ChartQA_TEST", "MMMU_DEV_VAL"):
        full = ran.predictions("hooked", name, "masked")
        path = world.root / "bare" / "tiny_llava" / f"tiny_llava_{name}.xlsx"
        assert full == {row["index"]: plain(row["prediction"]) for row in table(path)}
        assert full != ran.predictions("hooked", name, "masked", "all")
        assert len(set(full.values())) > 1
    assert "never ran, so nothing was masked" in ran.error("hooked", 3)
    assert "masked needs base=<name in VLMEvalKit's supported_VLM>; 'no_such_model' is none" in ran.error("hooked", 4)
    (made,) = tables(world.root / "hooked")
    assert made.encoders == ("clip",) and made.masks == ((), ("clip",))


def test_any_transformers_model_is_masked(ran):
    ran.done("hf")
    full, blind = (ran.predictions("hf", "ChartQA_TEST", "hf_masked", drop) for drop in ("none", "all"))
    assert full != blind
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    ran.done("hf lmms")
    answers = json.loads((ran.jobs / "hf_masked.answers.json").read_text())
    for drop, found in (("none", full), ("clip", blind)):
        assert found == {i: plain(text) for i, text in answers[drop]["ChartQA_TEST"].items()}


# --- several processes ---------------------------------------------------------------------------------------------


def torchrun(lanes, out, **inject):
    command = lanes.command(out, data=("MME", "ChartQA_TEST"), more=("--batch-size", "2"))
    started = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "torchrun"), "--nproc_per_node", "2", "--master_port", free_port(),
         "-m", "tests.helpers.offline_vlmevalkit", *command[1:]],
        cwd=lanes.world.root, capture_output=True, text=True, timeout=240,
        env={**os.environ, **OFFLINE, "LMUData": str(lanes.world.root / "data"), "OFFLINE_INJECT": json.dumps(inject)},
    )  # fmt: skip
    return done, time.monotonic() - started


def test_two_processes_answer_as_one(ran):
    done, _ = torchrun(ran, "two", record=str(ran.jobs / "two.record"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(ran.record("two")) == 36
    for name in ("MME", "ChartQA_TEST"):
        assert ran.predictions("two", name) == ran.predictions("eagle", name)


def test_one_of_two_processes_is_killed(ran, capsys):
    done, seconds = torchrun(ran, "two killed", kill_at=13, rank=1)
    assert done.returncode != 0 and seconds < 100
    assert "SIGKILL" in done.stderr
    # The other one was killed too, or met a broken connection and noted that.
    told = json.loads((ran.at("two killed") / "status.json").read_text())["datasets"]["MME"]
    assert told["status"] == "infer" or "onnection" in told["error_message"], told
    assert main(["report", str(ran.world.root / "two killed"), "--taxonomy", "paper"]) == 3
    assert "no results on MME" in capsys.readouterr().err
    done, _ = torchrun(ran, "two killed", record=str(ran.jobs / "two killed.record"))
    assert done.returncode == 0, done.stderr[-3000:]
    again = [said for said in ran.record("two killed") if said["name"].startswith("MME") and said["rank"] == "1"]
    assert len(again) == 5, "of its 15 questions, 10 answers were saved"
    for name in ("MME", "ChartQA_TEST"):
        assert ran.predictions("two killed", name) == ran.predictions("eagle", name)


def test_certificates_are_verified_behind_its_import(ran):
    """VLMEvalKit switches that off for the whole process."""
    assert json.loads((ran.jobs / "prepared.json").read_text()) == {"before": True, "after": True}
