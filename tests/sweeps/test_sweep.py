"""The engine of a sweep answers as separate models do."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps.masks import ALONE
from redundancy_eval.store import Key, Stored
from tests.helpers.sweeping import (
    ENCODERS,
    ONE_IMAGE,
    SHORT,
    agree,
    alone,
    fill,
    labels,
    picture,
    question,
    questions,
    store,
    told,
    watching,
)

pytestmark = [pytest.mark.models, pytest.mark.slow]
# --- the answers of separate runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_mask_answers_as_a_model_of_its_own(made, expected, kind, tmp_path):
    asked, wanted = questions(kind), expected(kind)
    with store(tmp_path) as kept:
        fill(made, kind, kept, asked)
        agree(made, wanted, kept, asked, kind)
        assert len(kept) == len(asked) * len(labels(kind)) and not kept.conflicts
    notes = {one.document: kept.get(one.key("none")).notes for one in asked}
    if kind == "mova":
        routed = {name: own[-1] for name, own in notes.items() if own}
        assert all(note.startswith("routed ") for note in routed.values()) and set(routed) == {*notes} - {"no image"}
        assert len(set(routed.values())) > 1, "experts are chosen for each question"
        notes = {name: own[:-1] for name, own in notes.items()}
    if kind != "hf":
        limited = kind not in ("eagle2", "mova") and not kind.startswith("imof")  # which have no limit of their own
        assert notes["long"] == ("cut",) * limited and notes["misplaced"] == ("moved",)
        assert notes["two"] == ("first",) * (kind in ONE_IMAGE)
    assert len(kept.get(question("two").key("none")).images) == 2, "images that are left out count too"
    assert not notes["plain"] and not kept.get(question("no image").key("none")).images
    # Without this, little would be compared.
    texts = {label: tuple(wanted[label][one.document] for one in asked) for label in wanted}
    if kind != "eagle2":  # whose tiny tokenizer shows every answer as the same unprintable bytes
        assert len(set(texts.values())) > 0.7 * len(texts)
        assert len({wanted["none"][name][0] for name in ("plain", "same text", "wide", "no image")}) > 1


def test_answers_are_those_of_the_masks_that_were_asked_for(made, expected, tmp_path):
    kind, asked, names = "eagle", questions("eagle"), ["clip", "convnext+sam", "all"]
    with store(tmp_path) as kept:
        done = fill(made, kind, kept, asked, names=names)
        agree(made, expected(kind), kept, asked, kind, names=names)
        assert {key.mask for key, _ in kept.items()} == set(names)
        assert told(done.answer(asked[0], "clip")) == expected(kind)["clip"]["plain"]
        with pytest.raises(DataError, match="task document plain: no answer under drop=none in the store"):
            done.answer(asked[0], "none")


ABLATED = [
    (k, f)
    for f in ("eagle", "cambrian projected", "eagle2", "deepseek_ocr", "hf")
    for k in ("mean", "noise", "shuffle")
]
PREDICTED = [
    ("predicted", family)
    for family in ("eagle", "cambrian", "imof", "deepseek_vl", "eagle2", "deepseek_ocr", "prismatic")
]


PAIR = {"eagle": "convnext+sam", "cambrian": "clip+dinov2", "cambrian projected": "clip+dinov2"}


@pytest.mark.parametrize(("kind", "family"), ABLATED + PREDICTED)
def test_ablations_are_those_of_separate_runs(made, expected, family, kind, images, tmp_path):
    model, arguments = made(family)
    file = tmp_path / "calibration.safetensors"
    given = ",".join(f"{key}={value}" for key, value in {**arguments, "device": "cpu"}.items())
    if kind == "predicted":  # a few images have fewer places than channels
        images = tmp_path / "more"
        images.mkdir()
        for seed in range(1, 13):
            picture(seed, (60 + 90 * (seed % 2), 50)).save(images / f"{seed}.png")
    assert main(["calibrate", "--model", model, "--model_args", given, "--images", str(images), "-o", str(file)]) == 0
    # Not every seed will do for `hf`: SAM feeds CLIP, and where both stand-ins are of one image nothing is masked.
    ablated = {**arguments, "ablation": kind, "calibration": str(file), "ablation_seed": "4"}
    asked = questions(family, ("plain", "same text", "wide", "no image", "two"))
    # All masks where stand-ins depend on them, and at one site; else none, each, all and a pair.
    every = (kind, family) in (("predicted", "eagle"), ("noise", "cambrian projected"))
    names = [label for label in labels(family) if every or label.count("+") < 1 or label == PAIR.get(family)]
    wanted = {label: alone(model, ablated, label, asked) for label in names}
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, ablated), family, kept, asked, names=names)
        agree(lambda _: (model, ablated), wanted, kept, asked, family, names=names)
    blindly = Counter(name for label, name in seen.asked if label == "all")
    constant = kind in ("mean", "predicted")
    blind = {"eagle": 2, "eagle2": 1, "deepseek_vl": 2, "cambrian": 1, "imof": 2, "deepseek_ocr": 2, "prismatic": 2}
    shared = blind.get(family, 0) if constant else 0
    assert sum(blindly.values()) == len(asked) - shared
    if family != "eagle2":
        zeros = expected(family)
        assert any(wanted[label][name] != zeros[label][name] for label in names for name in ("plain", "wide"))


# --- no pixel comes through ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_all_dropped_mask_is_answered_once_for_a_prompt(made, kind, tmp_path):
    names = ("plain", "same image", "same text", "wide", "no image", "other limit")
    some = ["none", ENCODERS[kind][0], "all"]
    with store(tmp_path) as kept, watching() as seen:
        done = fill(made, kind, kept, questions(kind, names), 5, names=some)
        again = questions(kind, names, task="task again")
        done.fill(again, show=False)
    put = Counter(label for label, _ in seen.asked)
    assert {put.pop(label) for label in some[:2]} == {2 * len(names)}
    # The text of `plain` comes with a picture of the same size and with a wide one, whose layout some families see.
    layouts = {"cambrian": 5, "eagle2": 5, "cambrian projected": 2 * len(names), "hf": 2 * len(names)}
    assert put == {"all": layouts.get(kind, 4)}
    assert {told(kept.get(one.key("all"))) for one in again} == {
        told(kept.get(one.key("all"))) for one in questions(kind, names)
    }


def test_siglip_s_other_use_decides_what_the_all_dropped_mask_sees(made, tmp_path):
    """Under site=projected Cambrian's SigLIP runs although it is dropped, unless its global context is zeroed too."""
    model, arguments = made("cambrian projected")
    asked = questions("cambrian projected", ("plain", "same text"))
    for context, count, needed in (("keep", 2, ("siglip",)), ("zero", 1, ())):
        ours = {**arguments, "global_context": context}
        with store(tmp_path, context) as kept, watching() as seen:
            done = fill(lambda _, ours=ours: (model, ours), "cambrian projected", kept, asked, names=["clip", "all"])
        assert Counter(label for label, _ in seen.asked) == {"clip": 2, "all": count}
        assert done.engine.views["all"].needed() == needed
        for label in ("clip", "all"):
            wanted = alone(model, ours, label, asked)
            assert {one.document: told(kept.get(one.key(label))) for one in asked} == wanted


# --- half precision ------------------------------------------------------------------------------------------------


def test_in_half_precision_the_full_model_answers_twice(made, tmp_path, capsys):
    model, arguments = made("eagle")
    half, asked = {**arguments, "dtype": "bfloat16"}, questions("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, half), "eagle", kept, asked, 16)
    count = len(asked)
    assert Counter(key.mask for key, _ in kept.items()) == dict.fromkeys([*labels("eagle"), ALONE], count)
    assert Counter(label for label, _ in seen.asked)["none"] == 2 * count
    differ = sum(kept.get(one.key("none")).text != kept.get(one.key(ALONE)).text for one in asked)
    *_, line = sweep_run.summary(kept, labels("eagle"))
    assert line == (
        "noise floor: the full model, answered alone and among the masks, differs in "
        f"{differ} of {count} answers ({100 * differ / count:.2f} %)"
    )
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, half), "eagle", kept, asked)
    assert not seen.asked


def test_the_noise_floor_counts_pairs_that_differ(tmp_path):
    with store(tmp_path) as kept:
        for number, (text, again) in enumerate([("a", "a"), ("a", "b"), ("b", "a"), ("c", "c"), ("d", None)]):
            for mask, said in (("none", text), (ALONE, again), ("clip", "x")):
                if said is not None:
                    kept.add(Key("t", "s", str(number), "p", "{}", mask), Stored(said, 1, 1, mask == "clip", (), ()))
    lines = sweep_run.summary(kept, ["none", "clip"])
    assert lines[-1].endswith("differs in 2 of 4 answers (50.00 %)")
    assert any("clip" in line and "5 stopped by the token limit" in line for line in lines)
    assert not any("unanswered" in line for line in lines)
    assert any("all" in line and "5 unanswered" in line for line in sweep_run.summary(kept, ["none", "all"]))


def test_in_full_precision_nothing_is_answered_twice(made, tmp_path):
    with store(tmp_path) as kept:
        fill(made, "eagle", kept, questions("eagle", SHORT))
    assert {key.mask for key, _ in kept.items()} == set(labels("eagle"))
    assert not any("noise" in line for line in sweep_run.summary(kept, labels("eagle")))
    model, arguments = made("eagle")
    with store(tmp_path, "without the full model") as kept:
        half = {**arguments, "dtype": "bfloat16"}
        fill(lambda _: (model, half), "eagle", kept, questions("eagle", SHORT), names=["clip", "all"])
    assert {key.mask for key, _ in kept.items()} == {"clip", "all"}
