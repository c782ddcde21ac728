"""The bundled checkpoint: it really sees, its batches answer as single prompts do, and it stays small."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.model_wrappers import masking
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.tasks.demo import scenes, utils
from tests.hosts.test_demo_benchmark import CATEGORIES, read

pytestmark = [pytest.mark.models, pytest.mark.slow]


def ask(model, documents, batch=60):
    """Answers to demo documents, asked in batches."""
    prompts = [Prompt(d["prompt"], tuple(utils.doc_to_visual(d)), d["question_id"]) for d in documents]
    answers = []
    for start in range(0, len(prompts), batch):
        answers += model.generate(prompts[start : start + batch], 16)
    return answers


def accuracy(model):
    scores = {}
    for category in CATEGORIES:
        documents = read(category)
        answers = ask(model, documents)
        right = [utils.is_right(a.text, d["answer"]) for a, d in zip(answers, documents, strict=True)]
        scores[category] = 100 * sum(right) / len(right)
    return scores


@pytest.fixture(scope="module")
def full():
    return loading.load("eagle_masked", "demo", device="cpu", dtype="float32")


def test_the_full_model_is_25_points_above_the_blind_one_in_every_category(full):
    blind = native.MaskedModel(
        full.model, full.tokenizer, full.model.encoder_names, template=full.template, eos=full.eos
    )
    seeing, floor = accuracy(full), accuracy(blind)
    assert all(seeing[category] >= floor[category] + 25 for category in CATEGORIES), (seeing, floor)


@pytest.mark.parametrize("drop", ["none", "convnext"])
def test_batches_answer_as_single_prompts_do(full, drop):
    """Every eighth document in float32; no near-ties on the demo."""
    mask = () if drop == "none" else (drop,)
    model = native.MaskedModel(full.model, full.tokenizer, mask, template=full.template, eos=full.eos)
    documents = [document for category in CATEGORIES for document in read(category)[::8]]
    assert ask(model, documents) == ask(model, documents, batch=1)


def test_four_encoders_of_different_kind_and_resolution(full):
    assert full.model.encoder_names == ("clip", "convnext", "pix2struct", "eva02")
    sizes = {tower.name: (tower.module.__name__, tower.config["input_size"]) for tower in full.model.towers}
    assert len({kind for kind, _ in sizes.values()}) == 4 and len({size for _, size in sizes.values()}) >= 2
    assert full.model.image_size == scenes.SIZE


def test_the_checkpoint_is_in_the_released_format_and_small(full):
    folder = hub.locate("demo")
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 20e6
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["EagleLlamaForCausalLM"] and config["mm_vision_tower"].count(";") == 3
    assert sum(parameter.numel() for parameter in full.model.parameters()) < 3e6


def test_the_lines_of_the_readme():
    model = masking.load("eagle_masked", "demo", drop="clip", device="cpu")
    (image,) = utils.doc_to_visual(read("ocr")[0])
    (answer,) = model.generate([masking.Prompt("What is shown?", (image,))], max_new_tokens=8)
    assert answer.new_tokens and model.mask == ("clip",)
