"""Odd weight files: what they hold is read, or refused with its name."""

import argparse
import json
import logging

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from redundancy_eval.model_wrappers.families import registry
from tests.helpers.bent import PARTS, bent, load, logits, refused

pytestmark = pytest.mark.models

HEAD = "lm_head.weight"


def as_bin(folder, how):
    """Replace the safetensors file by one that torch writes."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    how(tensors, folder / "pytorch_model.bin")
    return folder


def old(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def test_files_that_torch_wrote_load_old_ones_too(source, tmp_path):
    expected = logits(load(source))
    for name, how in (("old", old), ("zip", torch.save)):
        assert torch.equal(logits(load(as_bin(bent(source, tmp_path, name=name), how))), expected)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (lambda t, path: torch.save({"args": argparse.Namespace(lr=1), **t}, path), r"more than tensors \(argparse"),
        (lambda t, path: old({"args": argparse.Namespace(lr=1), **t}, path), r"more than tensors \(argparse"),
        (lambda t, path: torch.save({"state_dict": t, "epoch": 3}, path), "holds 'state_dict', 'epoch', not tensors"),
        (lambda t, path: torch.save(list(t.values()), path), "holds a list, not tensors by name"),
        (lambda t, path: torch.save({"step": 3, **t}, path), "holds 'step', not tensors"),
        (lambda t, path: path.write_bytes(b""), "cannot read .*pytorch_model.bin"),
        (lambda t, path: path.write_bytes(b"PK\x03\x04 no zip"), "cannot read .*pytorch_model.bin"),
    ],
)
def test_files_that_hold_more_than_tensors(source, tmp_path, how, match):
    refused(as_bin(bent(source, tmp_path), how), match)


def two_sets(folder):
    """Zeros in shards of .bin files beside the folder's safetensors file."""
    tensors = load_file(folder / "model.safetensors")
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    index = {tensor: names[number % 2] for number, tensor in enumerate(tensors)}
    for name in names:
        torch.save({tensor: tensors[tensor] * 0 for tensor in tensors if index[tensor] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_of_two_sets_of_weights_transformers_is_read_and_the_other_named(source, tmp_path, caplog):
    both = two_sets(bent(source, tmp_path))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(logits(load(both)), logits(load(source)))
    assert "model.safetensors is read; not read: pytorch_model.bin.index.json" in caplog.text
    assert identity.of({"checkpoint": both}) == identity.of({"checkpoint": source})
    # In the order of transformers: the file, its index, the .bin file, its index.
    found = [str(weights) for weights in hub.weight_sets(both)]
    (both / "model.safetensors").rename(both / "model-1.safetensors")
    torch.save({}, both / "pytorch_model.bin")
    (both / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-1.safetensors"}}))
    assert found == ["model.safetensors", "pytorch_model.bin.index.json"]
    assert [str(weights) for weights in hub.weight_sets(both)] == [
        "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    ]  # fmt: skip
    assert torch.equal(logits(load(both)), logits(load(source)))
    for name in ("model.safetensors.index.json", "pytorch_model.bin"):
        (both / name).unlink()
    assert not load(both).model.language_model.lm_head.weight.any()  # the shards of zeros


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[]", "is not a JSON object"),
        ("{}", "weight_map names no weight files"),
        ('{"weight_map": []}', "weight_map names no weight files"),
        ('{"weight_map": {"x": 5}}', "weight_map has 5 for 'x', no file's name"),
        ('{"weight_map": {"x": null}}', "weight_map has None for 'x'"),
        ('{"weight_map": {"x": "model.safe', "is not valid JSON"),
        ('{"weight_map": {"x": "../private/a.safetensors"}}', "names a file outside of its folder"),
        ('{"weight_map": {"x": "/etc/a.safetensors"}}', "names a file outside of its folder"),
        ('{"weight_map": {"x": "a/../../b.safetensors"}}', "names a file outside of its folder"),
        ('{"weight_map": {"x": "..\\\\b.safetensors"}}', "names a file outside of its folder"),
        ('{"weight_map": {"x": "config.json"}}', "which is no .safetensors file"),
    ],
)
def test_damaged_indexes_are_named(source, tmp_path, text, match, kept):
    copy = bent(source, tmp_path)
    if not kept:
        (copy / "model.safetensors").rename(copy / "other.safetensors")
    (copy / "model.safetensors.index.json").write_text(text)
    refused(copy, rf"model\.safetensors\.index\.json.*{match}")
    with pytest.raises(SetupError, match=match):
        identity.of({"checkpoint": copy})


def test_tensors_that_stand_in_two_files(source, tmp_path):
    copy = bent(source, tmp_path)
    (copy / "model.safetensors").rename(copy / "a.safetensors")
    save_file({HEAD: torch.zeros(2)}, copy / "b.safetensors")
    index = {"x": "a.safetensors", "y": "b.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    refused(copy, "lm_head.weight stands in two weight files")


def quantise(kind, scale):
    def change(tensors):
        for name in [name for name in tensors if name.endswith("_proj.weight") and ".layers." in name]:
            tensors[name] = tensors[name].to(kind)
            if scale:
                tensors[name.replace(".weight", scale)] = torch.ones(1)

    return change


@pytest.mark.parametrize(
    ("kind", "scale", "match"),
    [
        (torch.float8_e4m3fn, ".weight_scale", "is float8_e4m3fn: quantised checkpoints are not supported"),
        (torch.float8_e5m2, "", "is float8_e5m2: quantised"),
        (torch.int8, ".SCB", "is int8: quantised"),
        (torch.float16, ".weight_scale_inv", "weight_scale_inv: quantised"),
    ],
)
def test_quantised_tensors_are_refused_without_a_word_in_the_config(source, tmp_path, kind, scale, match):
    refused(bent(source, tmp_path, quantise(kind, scale)), match)


def test_what_lies_beside_the_weights(source, tmp_path):
    refused(bent(source, tmp_path, name="lora", adapter_config={"r": 8}), "holds an adapter .*merge it into its base")
    refused(bent(source, tmp_path, name="gptq", quantize_config={"bits": 4}), "quantize_config.json: quantised")
    adapter = bent(source, tmp_path, name="alone", adapter_config={"r": 8})
    (adapter / "model.safetensors").unlink()
    with pytest.raises(SetupError, match=r"no weights in .* \(the folder holds an adapter"):
        identity.of({"checkpoint": adapter})
    (adapter / "config.json").unlink()
    refused(adapter, r"config.json is missing \(the folder holds an adapter")
    apart = bent(source, tmp_path, lambda t: [t.pop(name) for name in list(t) if "mm_projector" in name], name="apart")
    torch.save({}, apart / "mm_projector.bin")
    refused(apart, r"4 tensors are missing.*: model\.mm_projector\.0\.bias, .*\(mm_projector\.bin beside: merge")


@pytest.mark.parametrize("model_id", PARTS)
def test_every_tensor_has_its_released_name(sources, tmp_path, model_id):
    """The names in messages are those of the file: what is taken out is what is missed."""
    folder, options = sources[model_id]
    model = load(folder, model_id, **options).model
    released = set(load_file(folder / "model.safetensors"))
    places = registry.folders(model_id.replace("phi3", "cambrian_masked"), {"pretrained": str(folder), **options})
    elsewhere = tuple(f"encoders.{name}." for name in places)
    own = [name for name in model.state_dict() if not name.startswith(elsewhere)]
    named = {model.release(name).replace("model.vision_model.", "model.vision_model.vision_model.")
             if model_id == "deepseek_vl_masked" else model.release(name) for name in own}  # fmt: skip
    assert named <= released
    assert all(model.rename(name) is None for name in released - named)
    for name in places.keys() - {"checkpoint"}:
        tower, (weights,) = model.encoders[name], hub.weight_files(places[name])
        assert {tower.release(key) for key in tower.state_dict()} <= set(load_file(weights)), name
