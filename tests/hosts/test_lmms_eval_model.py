"""The lmms-eval side of the masked models, called as the framework calls it."""

import subprocess
import sys

import pytest

pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from redundancy_eval import records
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model
from redundancy_eval.model_wrappers.hosts.lmms_eval import plugin as lmms_eval_plugin
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.store import KNOWN
from tests.helpers import tiny

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "eagle")


def image(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def model(folder):
    made = lmms_eval_model.class_of("eagle_masked")(pretrained=str(folder), drop="det", batch_size="2", device="cpu")
    made.task_dict = {"t": {"test": [{"images": [image(i)] * (i != 1)} for i in range(3)] + [{"images": ["clip.mp4"]}]}}
    return made


def request(model, doc_id, context="What is it?", **generation):
    arguments = (context, {"until": ["\n\n"], **generation}, lambda doc: doc["images"], doc_id, "t", "test")
    return SimpleNamespace(args=arguments)


def test_plugin_registers_our_ids():
    from lmms_eval.models import MODEL_REGISTRY_V2

    ids = [manifest.model_id for manifest in lmms_eval_plugin.manifests()]
    assert set(registry.FAMILIES) < set(ids) and {"hf_masked", "masked"} < set(ids)
    for name in ids:
        assert MODEL_REGISTRY_V2.get_model_class(name).__module__.startswith("redundancy_eval.")
    assert MODEL_REGISTRY_V2.get_model_class("eagle_masked") is lmms_eval_model.class_of("eagle_masked")


def test_answers_come_in_order_of_the_requests(model):
    requests = [request(model, i, "What is it? " * (i + 1), max_new_tokens=4 + i % 2) for i in range(3)]
    kept = [dict(r.args[1]) for r in requests]
    answers = model.generate_until(requests)
    for i, answer in enumerate(answers):
        prompt = Prompt("What is it? " * (i + 1), tuple(model.task_dict["t"]["test"][i]["images"]))
        assert answer.text == model.masked.generate([prompt], 4 + i % 2)[0].text
        assert answer.token_counts.output_tokens <= 4 + i % 2
    assert [dict(r.args[1]) for r in requests] == kept  # the framework's cache keys on them


def test_answers_end_at_until(model):
    whole = model.generate_until([request(model, 0, max_new_tokens=12)])[0].text
    cut = whole[len(whole) // 2]
    assert model.generate_until([request(model, 0, max_new_tokens=12, until=[cut])])[0].text == whole.split(cut)[0]


def test_video_is_refused_in_one_line(model, capsys):
    with pytest.raises(SystemExit) as stop:
        model.generate_until([request(model, 3)])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert "eagle_masked takes images only; task t gives str (video or audio)" in error


def test_loglikelihood_is_a_loss_and_clean_frees_the_model(model):
    requests = [
        SimpleNamespace(args=("What is it?", " red", lambda doc: doc["images"], 0, "t", "test")),
        SimpleNamespace(args=("What is it?", lambda doc: " blue", lambda doc: doc["images"], 1, "t", "test")),
    ]
    losses = model.loglikelihood(requests)
    prompt = Prompt("What is it?", tuple(model.task_dict["t"]["test"][0]["images"]))
    total, greedy = model.masked.loglikelihood([prompt], [" red"])[0]
    assert losses[0] == (pytest.approx(-total, abs=1e-4), greedy) and losses[1][0] > 0
    model.clean()
    assert not hasattr(model, "masked")


def test_a_run_s_record_keeps_secrets_out():
    command = ["--hf_hub_log_args", "hub_results_org=me,token=hf_abc", "--wandb_args", "api_key=xyz,project=p"]
    record = run_record.describe("eagle_masked", "pretrained=demo,drop=eva", {}, ["run", *command])
    assert record["mask"] == "eva02" and record["encoders"][-1] == "eva02"
    assert record["command"][3:] == [
        "hub_results_org=me,token=[REDACTED]", "--wandb_args", "api_key=[REDACTED],project=p",
    ]  # fmt: skip
    assert "mask" not in run_record.describe("llava", "pretrained=x", {}, [])


@pytest.mark.parametrize("batch_size", ["auto", 0, "-1"])
def test_batch_size_must_be_a_number(folder, batch_size, capsys):
    with pytest.raises(SystemExit):
        lmms_eval_model.class_of("eagle_masked")(pretrained=str(folder), batch_size=batch_size)
    assert "batch_size must be a positive number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "limit", "settings"),
    [
        ({"temperature": 0, "top_p": None, "max_new_tokens": 16}, 16, {"do_sample": False}),
        ({}, 1024, {"do_sample": False}),
        ({"temperature": 0, "top_p": 0.5, "do_sample": True}, 1024, {"do_sample": False}),
        ({"temperature": 0.2, "top_p": 0.5}, 1024, {"do_sample": True, "temperature": 0.2, "top_p": 0.5}),
        ({"temperature": 0.2, "do_sample": False, "num_beams": 3}, 1024, {"do_sample": False, "num_beams": 3}),
    ],
)
def test_generation_is_greedy_unless_asked(given, limit, settings):
    assert lmms_eval_model.generation_settings(given) == (limit, settings, [])
    assert lmms_eval_model.generation_settings({"until": "\n"})[2] == ["\n"]
    assert lmms_eval_model.generation_settings({"until": ["", "###"]})[2] == ["###"]


def test_eager_attention_gives_the_same_answers(folder, model):
    prompt = Prompt("What is it?", (image(0),))
    eager = loading.load("eagle_masked", str(folder), "det", device="cpu", attn_implementation="eager")
    assert eager.model.language_model.config._attn_implementation == "eager"
    assert eager.generate([prompt], 8) == model.masked.generate([prompt], 8)


def test_a_run_that_asks_nothing_keeps_what_an_earlier_one_found_out(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    run_record.keep_record({"mask": "sam", "feeds": {"sam": ["clip"]}}, tmp_path, [tmp_path / "a.json"])
    run_record.keep_record({"mask": "sam"}, tmp_path, [])
    kept = records.read([tmp_path])
    assert kept["feeds"] == {"sam": ["clip"]} and list(kept["files"]) == ["a.json"]


def test_what_is_chosen_is_counted_over_the_runs_of_a_folder(tmp_path):
    pool = registry.FAMILIES["mova_masked"].pool
    for notes, more, expected in (
        (["routed sam+vary", "cut", "routed none"], {}, {"questions": 2, "sam": 1, "vary": 1}),
        (["routed sam"], {}, {"questions": 3, "sam": 2, "vary": 1}),
        (["cut"], {}, {"questions": 3, "sam": 2, "vary": 1}),
        (["routed vary"], {"sweep": True}, {"questions": 1, "vary": 1}),  # which asks all of its questions again
    ):
        run_record.FOUND.clear()
        run_record.tell_counts(notes)
        run_record.keep_record({"model": "mova_masked", "mask": "none", **more, **run_record.FOUND}, tmp_path, [])
        assert records.read([tmp_path])["routed"] == {"questions": 0, **dict.fromkeys(pool, 0), **expected}


def test_prompts_with_images_of_the_calibration_are_counted_over_the_runs_of_a_folder(tmp_path):
    for notes, more, expected in (
        (["cut", KNOWN, KNOWN], {}, 2),
        ([KNOWN], {}, 3),
        (["cut"], {}, 3),
        ([KNOWN], {"sweep": True}, 1),  # which asks all of its questions again
    ):
        run_record.FOUND.clear()
        run_record.tell_counts(notes)
        run_record.keep_record({"model": "eagle_masked", "mask": "sam", **more, **run_record.FOUND}, tmp_path, [])
        assert records.read([tmp_path])["calibrated"] == expected


@pytest.mark.parametrize(("cpu", "device"), [("", "cuda"), ("true", "cpu")])
def test_the_device_that_is_recorded_is_the_one_that_accelerate_chooses(monkeypatch, cpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "a GPU")
    monkeypatch.setenv("ACCELERATE_USE_CPU", cpu)
    found = run_record.resolved("eagle_masked", {})
    assert found["device"] == device and found["dtype"] == {"cuda": "bfloat16", "cpu": "float32"}[device]


def test_vlmevalkit_gives_processes_their_gpus_before_torch_is_asked_for_one():
    """A GPU that torch has looked at before `CUDA_VISIBLE_DEVICES` is set would be every process's."""
    code = (
        "import sys\nfrom redundancy_eval.model_wrappers.hosts.vlmevalkit import arguments, record\n"
        "command = '--model eagle_masked --model_args pretrained=demo,drop=clip --data MME --work-dir out'\n"
        "asked, _ = arguments.parse(command.split())\n"
        "assert record.describe(asked, [])['mask'] == 'clip' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
