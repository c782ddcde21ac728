"""A pruned checkpoint answers as its mask does, under further ones too, and is never taken for the whole model."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval import masks, pruned
from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import calibration, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.prune import checking, writing
from redundancy_eval.model_wrappers.sweeps import masks as sweep_masks
from tests.helpers import tiny, tiny_models
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models


IMAGES = [picture(0), picture(1, (40, 70))]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Model id -> model arguments of a tiny checkpoint."""
    return tiny_models.write(tmp_path_factory.mktemp("tiny"))


def load(model_id, given, **more):
    return loading.load(model_id, device="cpu", **{**given, **more})


def prune(model_id, given, out, slicing=False, **more):
    return writing.write(writing.read(model_id, {**given, **more}, slicing), out, slicing)


def answers(model):
    """Embeddings of each image, and greedy answers."""
    embeddings = [visual.embeddings for visual in model.visuals(IMAGES)]
    replies = [model.generate([Prompt("What is it?", (image,))], 6)[0] for image in IMAGES]
    return embeddings, replies


def assert_same(first, second):
    for a, b in zip(first[0], second[0], strict=True):
        assert torch.equal(a, b)
    assert first[1] == second[1]


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_every_mask_answers_to_the_bit_in_both_precisions(checkpoints, tmp_path, model_id):
    given = checkpoints[model_id]
    names = registry.encoders_of(model_id, given["pretrained"])
    whole = {dtype: load(model_id, given, dtype=dtype) for dtype in ("float32", "bfloat16")}
    every = masks.every(names)[1:]
    for mask in every if len(names) < 5 else [*every[:5], *every[12:15], every[-1]]:  # Eagle: one, two and all
        label = masks.label(mask, names)
        out = tmp_path / label
        prune(model_id, given, out, drop=label)
        own = {**given, "pretrained": str(out)}
        for dtype, full in whole.items():
            small = load(model_id, own, dtype=dtype)
            assert small.mask == mask
            assert_same(answers(small), answers(full.under(mask)))


@pytest.mark.parametrize("model_id", list(registry.FAMILIES))
def test_it_loads_under_every_further_mask(checkpoints, tmp_path, model_id):
    given = checkpoints[model_id]
    names = registry.encoders_of(model_id, given["pretrained"])
    whole, gone = load(model_id, given), names[0]
    prune(model_id, given, tmp_path / "small", drop=gone)
    own = {**given, "pretrained": str(tmp_path / "small")}
    for more in [names[1:2], names[1:], names[:1]]:
        mask = tuple(name for name in names if name in (gone, *more))
        small = load(model_id, own, drop="+".join(more))
        assert small.mask == mask
        assert_same(answers(small), answers(whole.under(mask)))
    kept = load(model_id, own, keep=names[-1])
    assert kept.mask == names[:-1]
    with pytest.raises(SetupError, match=f"pruned of {gone}, so {gone} cannot be kept"):
        load(model_id, own, keep=gone)


def test_the_encoder_s_tensors_go_and_all_others_stay(checkpoints, tmp_path):
    for model_id, prefix in (
        ("eagle_masked", "model.vision_tower.vision_towers.0."),
        ("eagle2_masked", "vision_model.model_0."),
    ):
        given, out = checkpoints[model_id], tmp_path / model_id
        first = registry.encoders_of(model_id, given["pretrained"])[0]
        before = load_file(f"{given['pretrained']}/model.safetensors")
        said = prune(model_id, given, out, drop=first)
        after = load_file(out / "model.safetensors")
        gone = set(before) - set(after)
        assert gone and len(gone) == said["tensors_dropped"]
        shared = {name.split(".")[: prefix.count(".")][-1] for name in gone}
        assert len(shared) == 1
        assert all(torch.equal(before[name], value) for name, value in after.items())


def test_what_nothing_computes_with_goes_with_its_encoder(tmp_path):
    folder = tiny.write(tmp_path / "whole")
    path, start = folder / "model.safetensors", "model.vision_tower.vision_towers"
    unused = {f"{start}.{n}.vision_tower.vision_model.embeddings.position_ids": torch.arange(3) for n in (0,)}
    save_file({**load_file(path), **unused}, path, metadata={"format": "pt"})
    prune("eagle_masked", {"pretrained": str(folder), "drop": "clip"}, tmp_path / "small")
    assert not [name for name in load_file(tmp_path / "small/model.safetensors") if name.startswith(f"{start}.0.")]
    prune("eagle_masked", {"pretrained": str(folder), "drop": "sam"}, tmp_path / "other")
    assert set(unused) <= set(load_file(tmp_path / "other/model.safetensors"))


def test_shards_are_streamed_and_indexed(tmp_path):
    folder = tiny.write(tmp_path / "whole")
    tensors = load_file(folder / "model.safetensors")
    parts = [
        {name: value for name, value in tensors.items() if ("vision_towers.0." in name) == first}
        for first in (True, False)
    ]
    parts[1:] = [dict(list(parts[1].items())[::2]), dict(list(parts[1].items())[1::2])]
    (folder / "model.safetensors").unlink()
    place = {}
    for number, part in enumerate(parts, 1):
        save_file(part, folder / f"model-{number:05d}-of-00003.safetensors", metadata={"format": "pt"})
        place |= dict.fromkeys(part, f"model-{number:05d}-of-00003.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    given = {"pretrained": str(folder)}
    prune("eagle_masked", given, tmp_path / "small", drop="clip")
    index = json.loads((tmp_path / "small/model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {f"model-{n:05d}-of-00002.safetensors" for n in (1, 2)}
    assert len(hub.weight_files(tmp_path / "small")) == 2  # the shard of clip alone is not written
    small = load("eagle_masked", {"pretrained": str(tmp_path / "small")})
    assert_same(answers(small), answers(load("eagle_masked", given, drop="clip")))


def test_weights_that_torch_wrote_become_safetensors(tmp_path):
    folder = tiny.write(tmp_path / "whole", tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # tied: one memory, which safetensors refuses
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    prune("eagle_masked", {"pretrained": str(folder)}, tmp_path / "small", drop="eva02")
    assert [path.name for path in hub.weight_files(tmp_path / "small")] == ["model.safetensors"]
    small = load("eagle_masked", {"pretrained": str(tmp_path / "small")})
    assert_same(answers(small), answers(load("eagle_masked", {"pretrained": str(folder)}, drop="eva02")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sliced_eagle_is_a_plain_release_with_the_same_answers(checkpoints, tmp_path, dtype):
    given = checkpoints["eagle_masked"]
    names = registry.encoders_of("eagle_masked", given["pretrained"])
    whole = load("eagle_masked", given, dtype=dtype)
    for mask in [(name,) for name in names] + [("clip", "sam"), ("convnext", "eva02", "pix2struct"), names[1:]]:
        out = tmp_path / masks.label(mask, names)
        prune("eagle_masked", given, out, slicing=True, drop="+".join(mask))
        config = json.loads((out / "config.json").read_text())
        plain = {key: value for key, value in config.items() if key != pruned.KEY}
        assert config["mm_hidden_size"] == sum(tiny.CHANNELS[t] for t in config["mm_vision_tower"].split(";") if t)
        (out / "config.json").write_text(json.dumps(plain))  # as who does not know us reads it
        small = load("eagle_masked", {"pretrained": str(out)}, dtype=dtype)
        assert small.encoder_names == tuple(name for name in names if name not in mask) and not small.mask
        (a, replies), (b, wanted) = answers(small), answers(whole.under(mask))
        for one, other in zip(a, b, strict=True):
            tolerance = 1e-4 if dtype == "float32" else 2e-2
            assert (one - other).abs().max() <= tolerance * other.abs().max()
        assert replies == wanted or dtype == "bfloat16"  # a random model's logits are nearly tied in half precision


def test_a_sliced_one_still_knows_whose_mask_it_is(checkpoints, tmp_path):
    given, out = checkpoints["eagle_masked"], tmp_path / "small"
    prune("eagle_masked", given, out, slicing=True, drop="clip")
    small = load("eagle_masked", {"pretrained": str(out)}, drop="sam+clip")
    assert small.mask == ("sam",) and small.encoder_names == ("convnext", "sam", "eva02", "pix2struct")
    record = run_record.describe("eagle_masked", f"pretrained={out},drop=sam", {}, [])
    assert record["mask"] == "clip+sam" and record["encoders"][0] == "clip"


def test_a_run_of_it_is_recorded_as_the_mask_of_the_source(checkpoints, tmp_path):
    given, out = checkpoints["eagle_masked"], tmp_path / "small"
    prune("eagle_masked", given, out, drop="clip")
    source = run_record.describe("eagle_masked", f"pretrained={given['pretrained']},drop=clip", {}, [])
    own = run_record.describe("eagle_masked", f"pretrained={out}", {}, [])
    for name in ("model", "encoders", "mask", "checkpoint"):
        assert own[name] == source[name]
    told = pruned.of(own["pruned"], "record")
    assert told.weights and told.weights != told.checkpoint == source["checkpoint"]
    assert told.as_mask({"pretrained": str(out), "dtype": "float32"}) == {
        "pretrained": given["pretrained"], "drop": "clip", "dtype": "float32",
    }  # fmt: skip
    with pytest.raises(SetupError, match="a sweep is over the masks of the whole model"):
        sweep_masks.encoders_of("eagle_masked", {"pretrained": str(out)})
    with pytest.raises(SetupError, match="a calibration is made of the whole model"):
        calibration.make("eagle_masked", {"pretrained": str(out)}, IMAGES, 2, tmp_path / "c.safetensors")
    with pytest.raises(SetupError, match="no record beside its results"):
        registry.known_encoders("eagle_masked", str(out))


def test_pruned_again_it_is_still_the_first_one_s_mask(checkpoints, tmp_path):
    given = checkpoints["eagle_masked"]
    prune("eagle_masked", given, tmp_path / "one", drop="clip")
    prune("eagle_masked", {"pretrained": str(tmp_path / "one")}, tmp_path / "two", drop="sam")
    prune("eagle_masked", given, tmp_path / "both", drop="clip+sam")
    configs = [json.loads((tmp_path / name / "config.json").read_text())[pruned.KEY] for name in ("two", "both")]
    assert configs[0] == configs[1]
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("two", "both")]
    assert set(files[0]) == set(files[1])
    with pytest.raises(SetupError, match="nothing to prune"):
        prune("eagle_masked", {"pretrained": str(tmp_path / "one")}, tmp_path / "three", drop="clip")


def test_means_go_with_the_checkpoint(checkpoints, tmp_path):
    given = checkpoints["eagle_masked"]
    for seed in range(3):
        picture(seed).save(tmp_path / f"{seed}.png")
    arguments = f"pretrained={given['pretrained']},device=cpu"
    means = tmp_path / "c.safetensors"
    command = ["calibrate", "--model", "eagle_masked", "--model_args", arguments, "--images", str(tmp_path)]
    assert main([*command, "-o", str(means)]) == 0
    more = {"ablation": "mean", "calibration": str(means)}
    prune("eagle_masked", given, tmp_path / "small", drop="clip", **more)
    own = {"pretrained": str(tmp_path / "small")}
    small, whole = load("eagle_masked", own), load("eagle_masked", given, drop="clip", **more)
    assert_same(answers(small), answers(whole))
    with pytest.raises(SetupError, match="the calibration holds nothing of sam"):
        load("eagle_masked", own, drop="sam").visuals(IMAGES)
    both = load("eagle_masked", own, drop="sam", calibration=str(means))
    assert_same(answers(both), answers(whole.under(("clip", "sam"))))
    with pytest.raises(SetupError, match="ablation=zero: this checkpoint was pruned of clip with ablation=mean"):
        load("eagle_masked", own, ablation="zero")


def test_cambrian_behind_its_projectors(checkpoints, tmp_path):
    given = {**checkpoints["cambrian_masked"], "site": "projected"}
    with pytest.raises(SetupError, match=r"siglip runs although it is dropped"):
        prune("cambrian_masked", given, tmp_path / "kept", drop="siglip")
    prune("cambrian_masked", given, tmp_path / "zero", drop="siglip", global_context="zero")
    own = {**checkpoints["cambrian_masked"], "pretrained": str(tmp_path / "zero")}
    small = load("cambrian_masked", own)
    assert small.site == "projected" and "siglip" not in small.needed()
    assert_same(answers(small), answers(load("cambrian_masked", given, drop="siglip", global_context="zero")))
    for more in ({"global_context": "keep"}, {"site": "encoder"}):
        with pytest.raises(SetupError, match="this checkpoint was pruned of siglip with"):
            load("cambrian_masked", own, **more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "nothing to prune"),
        ({"drop": "none"}, "nothing to prune"),
        ({"drop": "clip", "ablation": "noise"}, "ablation=noise depends on the image"),
        ({"drop": "clip", "ablation": "mean"}, "needs calibration=FILE"),
        ({"drop": "dinov2"}, "unknown encoder"),
        ({"drop": "clip", "site": "projected"}, "site must be one of"),
    ],
)
def test_what_cannot_be_pruned_is_said(checkpoints, tmp_path, more, said):
    with pytest.raises(SetupError, match=said):
        prune("eagle_masked", checkpoints["eagle_masked"], tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_id", ["hf_masked", "masked"])
def test_models_behind_hooks_are_refused(tmp_path, model_id):
    with pytest.raises(SetupError, match="nothing can be left out"):
        prune(model_id, {"pretrained": "x", "drop": "clip"}, tmp_path / "out")


def test_only_eagle_is_sliced_and_never_of_all(checkpoints, tmp_path):
    for model_id in set(registry.FAMILIES) - {"eagle_masked"}:
        with pytest.raises(SetupError, match="--slice"):
            prune(model_id, checkpoints[model_id], tmp_path / "out", slicing=True, drop="all")
    with pytest.raises(SetupError, match="without any encoder"):
        prune("eagle_masked", checkpoints["eagle_masked"], tmp_path / "out", slicing=True, drop="all")
    assert not (tmp_path / "out").exists()


def test_the_command_checks_and_refuses_a_folder_that_is_there(checkpoints, tmp_path, capsys):
    given, out = checkpoints["eagle_masked"], tmp_path / "out"
    command = [
        "prune",
        "--model",
        "eagle_masked",
        "--model_args",
        f"pretrained={given['pretrained']},drop=eva,device=cpu",
    ]
    assert main([*command, "-o", str(out), "--check", "2"]) == 0
    assert "of 2 images, embeddings of 2 are equal to the bit" in capsys.readouterr().out
    assert json.loads((out / "pruned.json").read_text())["mask"] == "eva02"
    assert main([*command, "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "-o", str(tmp_path / "other"), "--slice", "--check", "1"]) == 0


@pytest.mark.parametrize(
    ("sliced", "difference", "precise", "passed"),
    [
        (False, 0.0, True, True),
        (False, 1e-9, True, False),
        (True, 1e-5, True, True),
        (True, 1e-3, True, False),
        (True, 1e-3, False, True),
        (True, 0.1, False, False),
    ],
)
def test_what_a_check_lets_pass(sliced, difference, precise, passed):
    equal = 4 if difference == 0 else 3
    assert checking.Check(4, equal, difference, 4, precise).passed(not sliced) == passed
    assert not checking.Check(4, equal, difference, 3, precise).passed(not sliced)  # an answer differs


@pytest.mark.parametrize(
    "told", [[], {}, {"dropped": ["clip"]}, {"dropped": ["x"], "encoders": ["clip"], "source": "a", "checkpoint": "b"}]
)
def test_a_damaged_note_is_an_error(checkpoints, tmp_path, told):
    out = tiny.write(tmp_path / "whole")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, pruned.KEY: told}))
    with pytest.raises(SetupError, match="redundancy_eval"):
        load("eagle_masked", {"pretrained": str(out)})
