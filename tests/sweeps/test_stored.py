"""What a sweep stores: nothing is asked again, and no answer of another model is taken."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
from redundancy_eval.model_wrappers.masking import ablations
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps.masks import encoders_of
from redundancy_eval.model_wrappers.sweeps.settings import Settings
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.store import Key, Store, Stored
from tests.helpers.sweeping import SHORT, agree, fill, labels, load, question, questions, store, watching

pytestmark = [pytest.mark.models, pytest.mark.slow]


def test_nothing_stored_is_asked_again(made, tmp_path):
    kind, asked = "eagle", questions("eagle")

    def never():
        raise AssertionError("the model is loaded though everything is answered")

    with store(tmp_path) as kept:
        fill(made, kind, kept, asked[:3], names=labels(kind)[:7])
    with store(tmp_path) as kept:
        Sweep(never, labels(kind)[:7], kept).fill(asked[:3], show=False)
        with watching() as seen:
            fill(made, kind, kept, asked)  # more documents, and more masks
    wanted = {(label, one.document) for label in labels(kind) for one in asked}
    before = {(label, one.document) for label in labels(kind)[:7] for one in asked[:3]}
    assert set(seen.asked) <= wanted - before and len(seen.asked) == len(set(seen.asked))
    with store(tmp_path) as kept:
        assert len(kept) == len(wanted) and not kept.conflicts
        Sweep(never, labels(kind), kept).fill(asked, show=False)
        Sweep(never, [], kept).fill(asked, show=False)


def test_a_question_that_comes_again_is_asked_once(made, expected, tmp_path):
    """lmms-eval repeats questions so that processes have equally many."""
    kind, asked = "eagle", questions("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, [*asked, asked[-1], *asked[:2]], 64)
        agree(made, expected(kind), kept, asked, kind)
    assert len(seen.asked) == len(set(seen.asked)) and not kept.conflicts


def test_a_stored_answer_counts_even_where_the_model_would_answer_otherwise(made, tmp_path):
    one = question("plain")
    hashes = tuple(map(ablations.image_hash, one.images()))
    with store(tmp_path) as kept:
        kept.add(one.key("clip"), Stored("as answered before", 9, 1, False, hashes))
        kept.flush()
        done = fill(made, "eagle", kept, [one])
        assert done.answer(one, "clip").text == "as answered before" and not kept.conflicts


def test_a_changed_image_of_a_document_is_refused(made, tmp_path):
    with store(tmp_path) as kept:
        fill(made, "eagle", kept, questions("eagle", SHORT), names=["none", "clip"])
        count = len(kept)
        changed = questions("eagle", SHORT, change=10)
        with pytest.raises(
            DataError, match=r"the images of task document .* differ from those when drop=none was answ"
        ):
            fill(made, "eagle", kept, changed, names=["none", "clip", "sam"])
        assert len(kept) == count
        with pytest.raises(DataError, match="differ from those when"):  # also where nothing is left to ask
            fill(made, "eagle", kept, changed, names=["none", "clip"])
    with store(tmp_path) as kept:
        assert len(kept) == count
        fill(made, "eagle", kept, questions("eagle", SHORT), names=["none", "clip", "sam"])
        assert len(kept) == count // 2 * 3


def who(model, arguments, **changes):
    """What a store belongs to, as the command makes it."""
    given = {**arguments, **changes}
    framework, encoders = FRAMEWORKS["lmms-eval"], encoders_of(model, given)
    route = SimpleNamespace(
        model=model, base={}, model_arguments=given, resolved=lambda: run_record.resolved(model, given, "cpu", "auto")
    )
    typed = ",".join(f"{key}={value}" for key, value in given.items() if key not in ("drop", "keep"))
    around = sweep_run.surroundings(Settings(model, typed, "every", "out", "auto", None, (), ()), framework)
    around["checkpoint"] = identity.of(registry.folders(model, given))
    return sweep_run.who(route, framework, encoders, around)


def test_an_encoder_that_every_mask_drops_does_not_run(made, expected, tmp_path):
    kind, asked, names = "eagle", questions("eagle"), ["clip", "clip+sam"]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, asked, names=names)
        agree(made, expected(kind), kept, asked, kind, names=names)
    assert {name for _, name in seen.encoded} == {"convnext", "sam", "pix2struct"}


def test_a_store_of_another_model_is_refused(made, images, tmp_path):
    model, arguments = made("cambrian projected")
    arguments = {**arguments, "site": "encoder"}
    copy = {
        "pretrained": str(shutil.copytree(arguments["pretrained"], tmp_path / "copy")),
        "encoder_weights": str(shutil.copytree(arguments["encoder_weights"], tmp_path / "towers")),
    }
    files = {}
    for name, count in (("one", 2), ("other", 3)):
        files[name] = tmp_path / f"{name}.safetensors"
        given = ",".join(f"{key}={value}" for key, value in {**arguments, "device": "cpu"}.items())
        command = ["calibrate", "--model", model, "--model_args", given, "--images", str(images), "--count", str(count)]
        assert main([*command, "-o", str(files[name])]) == 0
    with Store.open(tmp_path / "store", who(model, arguments)) as kept:
        kept.add(Key("task", "test", "1", "a", "{}", "none"), Stored("red", 1, 1, False))
    # The same model: from a copy elsewhere, told in other words, on another device.
    for same in (copy, {"dtype": "float32"}, {"dtype": "fp32"}, {"device": "cpu"}, {"drop": "clip"}):
        assert len(Store.open(tmp_path / "store", who(model, arguments, **same))) == 1, same
    for change, said in [
        ({"dtype": "bfloat16"}, "arguments.dtype differs"),
        ({"site": "projected"}, "arguments.site differs"),
        ({"ablation": "mean", "calibration": str(files["one"])}, "arguments.ablation differs"),
        ({"calibration": str(files["one"])}, "calibration differs"),
        ({"conv_template": "llama_3"}, "arguments.conv_template differs"),
        ({"attn_implementation": "eager"}, "arguments.attn_implementation differs"),
        ({"long_prompt": "error"}, "arguments.long_prompt differs"),
        ({"global_context": "zero"}, "arguments.global_context differs"),
    ]:
        with pytest.raises(SetupError, match=said):
            Store.open(tmp_path / "store", who(model, arguments, **change))
    mean = {"ablation": "mean", "calibration": str(files["one"])}
    Store.open(tmp_path / "mean", who(model, arguments, **mean))
    shutil.copy(files["one"], tmp_path / "moved.safetensors")
    Store.open(tmp_path / "mean", who(model, arguments, **{**mean, "calibration": str(tmp_path / "moved.safetensors")}))
    with pytest.raises(SetupError, match="calibration differs"):
        Store.open(tmp_path / "mean", who(model, arguments, **{**mean, "calibration": str(files["other"])}))
    for part in ("pretrained", "encoder_weights"):
        weights = sorted(Path(copy[part]).rglob("*.safetensors"))[0]
        content = bytearray(weights.read_bytes())
        content[-2] ^= 1
        weights.write_bytes(content)
        with pytest.raises(SetupError, match=r"weights\..*blocks differs"):
            Store.open(tmp_path / "store", who(model, arguments, **{part: copy[part]}))


def test_what_cannot_be_asked_is_told_and_costs_no_answer(made, tmp_path):
    model, arguments = made("cambrian")
    strict = {**arguments, "long_prompt": "error", "many_images": "error"}
    with store(tmp_path) as kept:
        done = Sweep(lambda: load(model, strict), labels("cambrian"), kept, 16)
        done.fill(questions("cambrian", SHORT), show=False)
        for name, said in (("two", "2 images; this architecture takes 1"), ("long", ".* the model's limit is 160")):
            with pytest.raises(DataError, match=f"task document {name}: {said}"):
                done.fill(questions("cambrian", ("plain", name)), show=False)
        with pytest.raises(SetupError, match="other draws its answers, .*: a sweep is greedy"):
            done.fill([question("plain", task="other", draw=True)], show=False)
    with store(tmp_path) as kept:
        assert len(kept) == len(SHORT) * 16
