"""The demo benchmark: same pixels everywhere, test combinations unseen in training, right answers."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.tasks import demo
from redundancy_eval.tasks.demo import documents, scenes

FOLDER = Path(demo.__file__).parent
CATEGORIES = list(scenes.CATEGORIES)


def read(category):
    return [json.loads(line) for line in (FOLDER / f"{category}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("category", CATEGORIES)
def test_documents_are_those_that_the_code_makes(category):
    made = read(category)
    assert made == documents.documents(category)
    assert len(made) >= 200 and len({d["question_id"] for d in made}) == len(made)
    choices = [d for d in made if d["prompt"].endswith("Answer with the letter.")]
    assert len(choices) == len(made) // 3
    assert all(d["answer"] in "ABCD" for d in choices)


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_single_answer_is_worth_much(category):
    answers = Counter(d["answer"] for d in read(category))
    assert max(answers.values()) / sum(answers.values()) < 0.25


@pytest.mark.parametrize("category", CATEGORIES)
def test_training_never_sees_a_test_combination(category):
    make, _ = scenes.CATEGORIES[category]
    rng, test = Random(1), set()
    for _ in range(3000):
        _, key = make(rng)
        if key is not None and scenes.held_out(f"{category} {key}"):
            test.add(key)
    assert test

    def key_of(scene):
        if category == "ocr":
            return scene["word"] if len(scene["word"]) == 3 else None
        if category == "chart":
            return str(scene["bars"])
        if category == "general":
            return str(sorted((shape, colour) for shape, colour, *_ in scene["objects"]))
        if category == "knowledge":
            return f"{scene['country']} {scene['unit']} {scene['x'] // 6} {scene['y'] // 6}"
        (other, other_colour, *_), (first, colour, *_) = scene["objects"]
        return f"{first} {other} {[colour, other_colour]} {scene['side']}"

    train = {key_of(scenes.make_scene(category, rng, test=False)) for _ in range(2000)}
    shown = {key_of(json.loads(document["scene"])) for document in read(category)}
    assert not train & shown
    assert all(scenes.held_out(f"{category} {key}") for key in shown)


def test_images_are_the_same_on_every_machine():
    images = [scenes.draw(json.loads(d["scene"])) for c in CATEGORIES for d in read(c)[:40]]
    digest = hashlib.sha256(np.stack(images).tobytes()).hexdigest()
    assert digest == "2b3c7324883a2a34ea9c6f335c820d8285af7d22579c338893d7ccfb29bf93b5"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CATEGORIES), st.integers(0, 10**6), st.booleans())
def test_scenes_stay_on_the_canvas_and_questions_have_one_answer(category, seed, test):
    rng = Random(seed)
    scene = scenes.make_scene(category, rng, test)
    pixels = scenes.draw(json.loads(json.dumps(scene)))
    assert pixels.shape == (96, 96, 3) and pixels.dtype == np.uint8
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1
    for question in scenes.ask(category, scene, rng):
        options, letter = scenes.as_choice(question, rng)
        assert options["ABCD".index(letter)] == question.answer
        assert len(set(options)) == len(options) >= 2  # a training word may hold two different letters only


def test_what_is_drawn_is_what_is_asked():
    """Counts the red pixels, so that drawing and questions cannot drift apart."""
    scene = {
        "kind": "pair", "paper": [255, 255, 255], "side": "left",
        "objects": [["square", "blue", 70, 50, 14], ["circle", "red", 30, 50, 8]],
    }  # fmt: skip
    pixels = scenes.draw(scene).astype(int)
    red = (pixels == scenes.COLOURS["red"]).all(-1)
    blue = (pixels == scenes.COLOURS["blue"]).all(-1)
    assert abs(red.sum() - np.pi * 64) < 30 and abs(blue.sum() - (2 * 0.88 * 14) ** 2) < 60
    assert np.argwhere(red)[:, 1].max() < np.argwhere(blue)[:, 1].min()
    asked = {q.text: q.answer for q in scenes.ask("vision_centric", scene, Random(0))}
    assert asked["Where is the red circle, seen from the blue square?"] == "left"
    assert asked["Where is the blue square, seen from the red circle?"] == "right"
    assert asked["What colour is the larger shape?"] == "blue"


def test_answers_are_matched_exactly_but_for_case_blanks_and_a_full_stop():
    pytest.importorskip("PIL")
    from redundancy_eval.tasks.demo import utils

    assert utils.is_right(" Red. ", "red") and utils.is_right("B.", "B")
    assert not utils.is_right("red circle", "red") and not utils.is_right("", "red")
    document = read("chart")[0]
    assert utils.process_results(document, [document["answer"]])["accuracy"] == {
        "question_id": document["question_id"], "score": 1.0,
    }  # fmt: skip
    (image,) = utils.doc_to_visual(document)
    assert image.size == (96, 96) and image.mode == "RGB"
