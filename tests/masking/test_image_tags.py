"""An image tag in a question's text is a word where pictures come apart from it."""

import pytest

pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from types import SimpleNamespace

import numpy as np
from PIL import Image

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.sweeps import engines
from tests.helpers import tiny, tiny_hf

pytestmark = pytest.mark.models
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
TAGGED = "Which shows a picture?\nA. cat\nB. the tag <image>\n"


def message(*parts):
    return [
        {"type": "image", "value": part} if part.endswith(".png") else {"type": "text", "value": part} for part in parts
    ]


def test_vlmevalkit_s_texts_hold_words():
    kit = pytest.importorskip("redundancy_eval.model_wrappers.hosts.vlmevalkit.model", exc_type=ImportError)
    words = TAGGED.replace("<image>", "image")
    assert kit.question(message("1.png", TAGGED)) == (words, ["1.png"]) and kit.reworded(message("1.png", TAGGED))
    assert kit.question(message(TAGGED, "1.png")) == (words, ["1.png"])
    between = message("Look at <image>: ", "1.png", " and ", "2.png", ".")
    assert kit.question(between) == ("Look at image: <image> and <image>.", ["1.png", "2.png"])
    assert not kit.reworded(message("1.png", "What?"))


def requests(**texts):
    return [
        SimpleNamespace(args=(text, {}, None, number, task, "test"))
        for task, written in texts.items()
        for number, text in enumerate(written)
    ]


def test_lmms_eval_s_tags_are_places_where_most_texts_of_a_task_have_one():
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval.model import worded

    asked = requests(
        choice=["What?", TAGGED, "Who?"], places=["<image> What?", "Is <image> red?", "Nothing named."], one=[TAGGED]
    )
    assert worded(asked) == {"choice"}


@pytest.fixture(scope="module")
def eagle(tmp_path_factory):
    return loading.load("eagle_masked", str(tiny.write(tmp_path_factory.mktemp("e") / "eagle")), device="cpu")


def test_the_picture_stands_in_front_and_the_prompt_is_listed(eagle):
    asked = Prompt(templates.as_words(TAGGED), (PICTURE,), "Tag 2.png", True)
    plain = Prompt("Who?", (PICTURE,), "Tag 1.png")
    ids = eagle.prompt_ids(asked)
    front = eagle.prompt_ids(plain)
    assert ids.index(templates.IMAGE_ID) == front.index(templates.IMAGE_ID) and ids.count(templates.IMAGE_ID) == 1
    assert loading.remarks(eagle) == [
        "1 prompts have image tags that are words, or that do not fit their images, which were put in front: Tag 2.png"
    ]


def test_lmms_eval_s_models_and_sweeps_ask_the_same(eagle):
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model
    from redundancy_eval.model_wrappers.hosts.lmms_eval import swept as lmms_eval_swept

    doc = {"t": {"test": [{"image": PICTURE}] * 3}}
    model = SimpleNamespace(task_dict=doc, model_id="eagle_masked", worded={"t"})
    made = lmms_eval_model.MaskedLmms._prompt(model, TAGGED, lambda doc: [doc["image"]], 1, "t", "test")
    sweep = SimpleNamespace(task_dict=doc, _images=lambda *where: (PICTURE,))
    request = SimpleNamespace(args=(TAGGED, {}, lambda doc: [doc["image"]], 1, "t", "test"))
    question, _ = lmms_eval_swept.Swept.question(sweep, request, {"t"})
    for prompt in (made, question.prompt()):
        assert (prompt.text, prompt.reworded) == (templates.as_words(TAGGED), True)
    assert not lmms_eval_swept.Swept.question(sweep, request, ())[0].reworded


def test_hf_masked_takes_no_tag_for_its_image_token(tmp_path):
    subject = loading.transformers_model(
        str(tiny_hf.llava(tmp_path / "llava")), "clip:model.vision_tower", "clip", device="cpu"
    )
    (answer,) = subject.generate([Prompt(TAGGED, (PICTURE,), "Tag 2.png")], 4)
    assert [answer] == subject.generate([Prompt(templates.as_words(TAGGED), (PICTURE,))], 4)
    assert subject.moved == ["Tag 2.png"]
    asked = engines.Looped(subject, {"clip": subject}).ask(Prompt(TAGGED, (PICTURE,)))
    assert asked.notes == ("moved",)
