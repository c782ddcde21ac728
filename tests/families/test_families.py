"""Every model id inside lmms-eval: a tiny checkpoint of its own format, each encoder dropped, and the real CLI."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")
pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

from redundancy_eval import api, records, taxonomy
from redundancy_eval.cli import main
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch
from redundancy_eval.model_wrappers.hosts.lmms_eval import plugin as lmms_eval_plugin
from redundancy_eval.readers import find
from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_hf,
    tiny_imof,
    tiny_mgm,
    tiny_mova,
    tiny_prismatic,
)

pytestmark = pytest.mark.framework
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
CLIP = "clip:model.model.vision_tower"
IDS = tuple(lmms_eval_plugin.class_paths())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Model arguments (without mask) and encoders of a tiny checkpoint of each model id."""
    root = tmp_path_factory.mktemp("checkpoints")
    cambrian, cambrian_encoders = tiny_cambrian.write(root / "cambrian")
    imof, imof_encoders = tiny_imof.write(root / "imof")
    prismatic, prismatic_encoders = tiny_prismatic.write(root / "prismatic")
    mgm, convnext = tiny_mgm.write(root / "mgm")
    mova, mova_words = tiny_mova.write(root / "mova")
    ocr, llava = tiny_hf.unlimited_ocr(root / "ocr"), tiny_hf.llava(root / "llava")
    return {
        "eagle_masked": f"pretrained={tiny.write(root / 'eagle')},long_prompt=cut",
        "cambrian_masked": f"pretrained={cambrian},encoder_weights={cambrian_encoders},long_prompt=cut",
        "imof_masked": f"pretrained={imof},encoder_weights={imof_encoders}",
        "deepseek_vl_masked": f"pretrained={tiny_deepseek_vl.write(root / 'deepseek')},long_prompt=cut",
        "eagle2_masked": f"pretrained={tiny_eagle2.write(root / 'eagle2')}",
        "deepseek_ocr_masked": f"pretrained={tiny_deepseek_ocr.write(root / 'deepseek_ocr')},base_size=128",
        "prismatic_masked": f"pretrained={prismatic},encoder_weights={prismatic_encoders},long_prompt=cut",
        "mgm_masked": f"pretrained={mgm},encoder_weights={convnext},long_prompt=cut",
        "mova_masked": f"pretrained={mova},encoder_weights={mova_words}",
        "hf_masked": f"pretrained={ocr},encoders={OCR}",
        "masked": f"base=llava_hf,encoders={CLIP},pretrained={llava},device_map=cpu,dtype=float32",
    }


def encoders_of(model, arguments):
    record = run_record.describe(model, arguments, {}, [])
    return tuple(record["encoders"])


@pytest.fixture(scope="module")
def demo_tasks():
    from lmms_eval.tasks import TaskManager

    return TaskManager("ERROR", include_path=str(lmms_eval_launch.task_folder() / "demo"), include_defaults=False)


@pytest.mark.parametrize("model", IDS)
def test_every_encoder_of_every_model_can_be_dropped(model, checkpoints, demo_tasks):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model

    found = {}
    for drop in ("none", "all", *encoders_of(model, checkpoints[model])):
        made = get_model(model).create_from_arg_string(
            f"{checkpoints[model]},drop={drop}", {"batch_size": 1 if model == "masked" else 2, "device": "cpu"}
        )
        tasks = "redundancy_demo" if drop in ("none", "all") else "redundancy_demo_ocr"
        results = simple_evaluate(
            model=made, tasks=[tasks], task_manager=demo_tasks, limit=2, bootstrap_iters=0, log_samples=True
        )
        count = len(results["configs"])
        assert count == (5 if tasks == "redundancy_demo" else 1)
        found[drop] = [s["filtered_resps"] for task in sorted(results["samples"]) for s in results["samples"][task]]
        assert len(found[drop]) == 2 * count and all(isinstance(answer[0], str) for answer in found[drop])
    if model != "eagle2_masked":  # whose tiny tokenizer shows every answer as the same unprintable bytes
        assert found["all"] != found["none"]


def dropped_of(model, encoders):
    return encoders[0] if model == "hf_masked" else encoders[-1]


@pytest.fixture(scope="module")
def ran(checkpoints, tmp_path_factory):
    """`redundancy-eval run` of every model but Eagle without an encoder, in processes that share lmms-eval's import."""
    root, jobs = tmp_path_factory.mktemp("ran"), []
    for model, given in checkpoints.items():
        dropped = dropped_of(model, encoders_of(model, given))
        asked = ["run", "--model", model, "--model_args", f"{given},drop={dropped}", "--tasks", "redundancy_demo_ocr",
                 "--limit", "2", "--batch_size", "1", "--device", "cpu", "--log_samples",
                 "--output_path", str(root / model)]  # fmt: skip
        jobs.append({"name": model, "commands": [asked]})
    (root / "lanes.json").write_text(json.dumps([[job for job in jobs if job["name"] != "eagle_masked"]]))
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.offline_sweep", "lmms-eval", str(root / "lanes.json")],
        cwd=root, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return root


@pytest.mark.parametrize("model", [name for name in IDS if name != "eagle_masked"])
def test_the_command_line(model, checkpoints, ran):
    encoders, out = encoders_of(model, checkpoints[model]), ran / model
    dropped = dropped_of(model, encoders)
    said = (ran / f"{model}.0.err").read_text()
    assert (ran / f"{model}.codes").read_text().split()[0] == "0", said[-2000:]
    label = dropped if len(encoders) > 1 else "all"
    assert [path.name for path in out.iterdir()] == [f"drop-{label}"]
    (run,) = find.read([out], taxonomy.load())
    assert run.model == model and run.encoders == encoders and run.mask[0] == dropped
    (made,) = api.read([out])
    assert made.masks == ((dropped,),) and made.documents == (2,)
    record = records.read([out / f"drop-{label}"])
    assert record.get("feeds") == ({"sam": ["clip"]} if model == "hf_masked" else None), "SAM's output is CLIP's input"
    routed = record.get("routed", {})
    assert list(routed) == (["questions", *registry.FAMILIES[model].pool] if model == "mova_masked" else [])
    assert routed.get(dropped, 0) == 0 and routed.get("questions", 2) == 2


def test_models_lists_every_family(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for family in registry.FAMILIES.values():
        assert f"## {family.model_id}: " in printed and all(c.hub_id in printed for c in family.checkpoints)
        assert all(f"{name} " in printed for name in family.costs) and all(
            f"{name}: " in printed for name in family.settings
        )
        assert {name for c in family.checkpoints for name in c.encoders} == set(family.costs)
    assert printed.count("recorded tensors") >= sum(len(f.checkpoints) for f in registry.FAMILIES.values())
    assert "CC-BY-NC" in printed and "GFLOPs" in printed
