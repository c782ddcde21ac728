"""Odd checkpoints: what config, weight files and tokenizer say is used, known to decide nothing, or refused."""

import argparse
import json
import logging
import os
import re
import shutil
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity, weights
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import language_keys, language_models, registry
from redundancy_eval.model_wrappers.families.cambrian import card as cambrian_card
from redundancy_eval.model_wrappers.families.imof import card as imof_card
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Numbers, Prompt
from redundancy_eval.model_wrappers.sweeps import engines
from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_imof,
    tiny_mgm,
    tiny_prismatic,
)
from tests.masking.test_ablations import picture

pytestmark = pytest.mark.models

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny Eagle with its weights in one safetensors file."""
    return tiny.write(tmp_path_factory.mktemp("checkpoints") / "source", "clip-448;convnext-1024")


@pytest.fixture(scope="module")
def sources(source, tmp_path_factory):
    """One tiny checkpoint for each family: (folder, other arguments)."""
    root = tmp_path_factory.mktemp("families")
    cambrian, encoders = tiny_cambrian.write(root / "cambrian")
    phi3, _ = tiny_cambrian.write(root / "phi3", "phi3", vocab_size=512)
    imof, towers = tiny_imof.write(root / "imof")
    mgm, convnext = tiny_mgm.write(root / "mgm")
    return {
        "eagle_masked": (source, {}),
        "cambrian_masked": (cambrian, {"encoder_weights": str(encoders)}),
        "phi3": (phi3, {"encoder_weights": str(encoders)}),
        "imof_masked": (imof, {"encoder_weights": str(towers)}),
        "deepseek_vl_masked": (tiny_deepseek_vl.write(root / "deepseek_vl"), {}),
        "eagle2_masked": (tiny_eagle2.write(root / "eagle2"), {}),
        "deepseek_ocr_masked": (tiny_deepseek_ocr.write(root / "deepseek_ocr"), {"base_size": "128"}),
        "prismatic_masked": (tiny_prismatic.write(root / "prismatic", "openvla")[0], {}),
        "mgm_masked": (mgm, {"encoder_weights": str(convnext)}),
    }


def bent(folder, tmp_path, tensors=None, config=None, name="bent", **files):
    """A copy with changed tensors, config and small JSON files."""
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    told = json.loads((copy / "config.json").read_text())
    for path, value in (config or {}).items():
        *parts, key = path.split(".")
        part = told
        for step in parts:
            part = part.setdefault(step, {})
        part.pop(key, None) if value is ... else part.update({key: value})
    (copy / "config.json").write_text(json.dumps(told))
    if tensors:
        held = load_file(copy / "model.safetensors")
        tensors(held)
        save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    for stem, changes in files.items():
        path = copy / f"{stem}.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**old, **changes}))
    return copy


def load(folder, model_id="eagle_masked", **options):
    return loading.load(model_id.replace("phi3", "cambrian_masked"), str(folder), device="cpu", **options)


def refused(folder, match, model_id="eagle_masked", **options):
    with pytest.raises(SetupError, match=match) as error:
        load(folder, model_id, **options)
    text = str(error.value)
    assert "\n" not in text and "\x1b" not in text


def logits(subject, name="document 0", template=None):
    """Of the first token of an answer; where an image must stand in its place, without one."""
    own = subject.model.max_images == 1 and subject.model.__class__.__name__ == "Cambrian"
    prompt = Prompt("What?", () if own else (picture(1),), name)
    sequences, visuals = subject.embed_prompts([prompt])
    inputs, attention = subject.batch(sequences)
    with torch.inference_mode(), subject.model.prefill(visuals, [0]):
        return subject.model.language_model(inputs_embeds=inputs, attention_mask=attention).logits[0, -1]


# --- config.json ---------------------------------------------------------------------------------------------------

PARTS = {  # where each family's config describes its language model
    "eagle_masked": "", "cambrian_masked": "", "phi3": "", "imof_masked": "", "deepseek_vl_masked": "text_config.",
    "eagle2_masked": "llm_config.", "deepseek_ocr_masked": "", "prismatic_masked": "text_config.", "mgm_masked": "",
}  # fmt: skip


@pytest.mark.parametrize("model_id", PARTS)
def test_unknown_and_quantised_settings_are_refused_in_every_family_and_part(sources, tmp_path, model_id):
    folder, options = sources[model_id]
    for number, (path, value, match) in enumerate(
        (
            ("sliding_chunk", 7, "config.json: sliding_chunk is 7, a setting that is not known here"),
            ("quantization_config", {"quant_method": "gptq"}, r"config.json: quantization_config \(gptq\): quantised"),
            (
                f"{PARTS[model_id]}quantization_config",
                {"bits": 4},
                "quantization_config: quantised checkpoints are not",
            ),
            (f"{PARTS[model_id]}rotary_pct", 0.5, "rotary_pct is 0.5, a setting that is not known here"),
            (
                f"{PARTS[model_id]}num_attention_heads",
                "2",
                "num_attention_heads must be a whole number above 0; not '2'",
            ),
            (
                f"{PARTS[model_id]}num_hidden_layers",
                2**31 - 1,
                "num_hidden_layers must be a whole number from 1 to 1000",
            ),
        )
    ):
        refused(bent(folder, tmp_path, config={path: value}, name=str(number)), match, model_id, **options)
    idle = {f"{PARTS[model_id]}new_setting": None, "other_setting": False, "_private": 3, "use_cache": True}
    config = json.loads((bent(folder, tmp_path, config=idle) / "config.json").read_text())
    registry.family(model_id.replace("phi3", "cambrian_masked")).check(config)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": None}, "config.json: hidden_size must be a whole number above 0; not None"),
        ({"hidden_size": ...}, "config.json lacks hidden_size"),
        ({"hidden_size": True}, "hidden_size must be a whole number above 0; not True"),
        ({"num_attention_heads": 3}, "transformers takes no llama of this config: .*not a multiple"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 2, no multiple of num_key_value_heads 3"),
        ({"hidden_act": "softsign"}, "hidden_act must be one of silu, "),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end must be False; not True"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "mm_patch_merge_type must be flat; not 'spatial_unpad'"),
        ({"compression_config": {"format": "pack"}}, "compression_config: quantised"),
        ({"encoder_configs": []}, "encoder_configs must be an object of objects"),
        (
            {"encoder_configs.clip-448.hidden_size": "wide"},
            r"encoder_configs\['clip-448'\]: hidden_size must be a number",
        ),
        (
            {"encoder_configs.clip-448.num_hidden_layers": 10**22},
            "num_hidden_layers must be a whole number from 1 to 10",
        ),
        ({"encoder_configs.convnext-1024.depths": []}, "config.json: no model can be built of it"),
        (
            {"encoder_configs.convnext-1024.depths": [10**9, 1, 1, 1]},
            "depths must be a list of depths",
        ),
        ({"mm_vision_tower": ";"}, "mm_vision_tower names no encoder: ';'"),
        (
            {"mm_vision_tower": "clip-448;convnext-512"},
            "mm_vision_tower names 'convnext-512', whose sizes are not known",
        ),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "positions of kind 'spiral' are not known"),
        (
            {"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}},
            "is 'dynamic', but elsewhere 'lin",
        ),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4}, "rope_theta is 10000.0, but elsewhere 500000.0"),
        ({"rope_scaling": {"type": "linear"}}, "positions of kind linear need factor"),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, "factor is '4'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0, "mrope_section": [1]}}, "no setting 'mrope_section'"),
        ({"rope_scaling": [1]}, "rope_scaling must be an object or null"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1; not 0.5"),
        ({"eos_token_id": "2"}, "eos_token_id must be a token id"),
    ],
)
def test_configs_that_cannot_be_read_rightly(source, tmp_path, change, match):
    refused(bent(source, tmp_path, config=change), match)


@pytest.mark.parametrize("text", ["[]", "{", '{"a":' * 100_000, b"\xff\xfe", '{"model_type": NaN}'])
def test_damaged_configs_are_one_line(source, tmp_path, text):
    copy = bent(source, tmp_path)
    (copy / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(copy, "config.json|not an Eagle")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_in_a_files_place_does_not_hang(source, tmp_path):
    for name in ("config.json", "model.safetensors"):
        copy = bent(source, tmp_path, name=name)
        (copy / name).unlink()
        os.mkfifo(copy / name)
        refused(copy, "no regular file|no weights in")


def test_a_plan_refuses_what_loading_does(source, tmp_path):
    with pytest.raises(SetupError, match="mm_use_im_start_end must be False"):
        operations.skeleton("eagle_masked", bent(source, tmp_path, config={"mm_use_im_start_end": True}), {})


def test_configs_as_released_pass():
    """Keys that the releases and their kin have, as far as they are known."""
    llava = {
        "_name_or_path": "lmsys/vicuna-13b-v1.5", "architectures": ["LlavaLlamaForCausalLM"], "bos_token_id": 1,
        "eos_token_id": 2, "freeze_mm_mlp_adapter": False, "freeze_mm_vision_resampler": False, "hidden_act": "silu",
        "hidden_size": 5120, "image_aspect_ratio": "pad", "image_grid_pinpoints": None, "initializer_range": 0.02,
        "intermediate_size": 13824, "max_length": 4096, "max_position_embeddings": 4096, "mm_hidden_size": 1024,
        "mm_projector_lr": 2e-5, "mm_projector_type": "mlp2x_gelu", "mm_resampler_type": None,
        "mm_use_im_patch_token": True, "mm_use_im_start_end": False, "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336", "model_type": "llava",
        "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 40, "pad_token_id": 0,
        "pretraining_tp": 2, "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False,
        "torch_dtype": "float16", "transformers_version": "4.31.0", "tune_mm_mlp_adapter": False,
        "tune_mm_vision_resampler": False, "unfreeze_mm_vision_tower": False, "use_cache": True, "use_mm_proj": True,
        "vocab_size": 32000, "tokenizer_model_max_length": 2048, "tokenizer_padding_side": "right",
    }  # fmt: skip
    registry.family("imof_masked").check(llava)
    eagle = {
        **llava, "model_type": "eagle_llama", "mm_vision_tower": "clip-448;convnext-1024", "freeze_vision": False,
        "mm_projector_query_number": 128, "mm_patch_merge_type": "flat", "attention_bias": False, "mlp_bias": False,
        "attention_dropout": 0.0, "tune_mm_mlp_adapter_intern": False, "unfreeze_mm_vision_tower": True,
    }  # fmt: skip
    registry.family("eagle_masked").check(eagle)
    qwen2 = {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28}
    qwen2 |= {key: llava[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}
    qwen2 |= {
        "num_attention_heads": 40,
        "id2label": {"0": "LABEL_0"},
        "top_k": 50,
        "pruned_heads": {},
        "is_decoder": False,
    }
    vision = {
        "model_type": "MOB", "moe_version_type": "convnext_512_siglip_448", "hidden_size": "lazy_calculation",
        "delay_load": True, "grid_size": 32, "image_size": {"siglip": 448}, "radio_img_size": 512,
    }  # fmt: skip
    top = {"model_type": "eagle_chat", "loss_version": "efficient_v2_cp_head", "efficient_loss": True, "vocab_size": -1}
    registry.family("eagle2_masked").check(
        {**top, "llm_config": qwen2, "vision_config": vision, "mlp_checkpoint": True}
    )
    # transformers writes what differs from its defaults
    native = {"model_type": "deepseek_vl_hybrid", "text_config": {"model_type": "llama", "num_hidden_layers": 30}}
    registry.family("deepseek_vl_masked").check({**native, "image_token_id": 100015, "dtype": "float16"})


# --- rotary positions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_id",
    [
        "eagle_masked", "cambrian_masked", "imof_masked", "deepseek_vl_masked", "eagle2_masked", "prismatic_masked",
        "mgm_masked",
    ],
)  # fmt: skip
def test_rotary_positions_under_old_and_new_keys(sources, tmp_path, model_id):
    folder, options = sources[model_id]
    part = PARTS[model_id]
    scaled = {"factor": 4.0}
    ways = {
        "plain": {},
        "rope_type": {"rope_scaling": {"rope_type": "linear", **scaled}},
        "type": {"rope_scaling": {"type": "linear", **scaled}},
        "parameters": {"rope_parameters": {"rope_type": "linear", **scaled, "rope_theta": 10000.0}, "rope_theta": ...},
        "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": ...},
    }
    found = {}
    for name, change in ways.items():
        change = {"rope_theta": 10000.0, "rope_scaling": ..., **change}
        copy = bent(folder, tmp_path, config={part + key: value for key, value in change.items()}, name=name)
        found[name] = logits(load(copy, model_id, **options))
    assert torch.equal(found["type"], found["rope_type"]) and torch.equal(found["parameters"], found["type"])
    assert not torch.equal(found["type"], found["plain"]) and not torch.equal(found["theta"], found["plain"])


def test_phi3_knows_its_own_scaling_only():
    config = tiny_cambrian.config("phi3")
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    own = language_keys.rope({**config, "rope_scaling": {"type": "su", **factors}}, language_keys.PHI3_ROPE_KINDS, True)
    assert own["rope_type"] == "longrope"
    for kind in ("yarn", "linear"):
        with pytest.raises(SetupError, match=f"kind '{kind}' are not known for this model; known: default, longrope"):
            language_models.phi3({**config, "rope_scaling": {"type": kind, "factor": 2.0}})


# --- weight files --------------------------------------------------------------------------------------------------


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


# --- heads, encoders, tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_id",
    [
        "eagle_masked", "cambrian_masked", "imof_masked", "deepseek_vl_masked", "eagle2_masked", "deepseek_ocr_masked",
        "prismatic_masked", "mgm_masked",
    ],
)  # fmt: skip
def test_a_tied_head_need_not_be_in_the_file(sources, tmp_path, model_id):
    folder, options = sources[model_id]
    head = next(name for name in load_file(folder / "model.safetensors") if name.endswith(HEAD))
    without = lambda tensors: tensors.pop(head)  # noqa: E731
    tie = f"{PARTS[model_id]}tie_word_embeddings"
    tied = load(bent(folder, tmp_path, without, {tie: True}, "tied"), model_id, **options).model.language_model
    assert torch.equal(tied.lm_head.weight, tied.get_input_embeddings().weight)
    own = load(bent(folder, tmp_path, None, {tie: True}, "own"), model_id, **options).model.language_model
    assert not torch.equal(own.lm_head.weight, own.get_input_embeddings().weight)
    refused(bent(folder, tmp_path, without, {tie: False}, "none"), f"missing.*: {re.escape(head)}", model_id, **options)


@pytest.mark.parametrize("text", ["convnext-1024;", "convnext-1024", ";convnext-1024"])
def test_an_eagle_may_have_one_encoder(tmp_path, text):
    folder = tiny.write(tmp_path / "one", "convnext-1024")
    expected = logits(load(folder))
    subject = load(bent(folder, tmp_path, config={"mm_vision_tower": text}))
    assert subject.encoder_names == ("convnext",) and torch.equal(logits(subject), expected)


def test_encoders_that_were_trained_on_are_refused_and_copies_that_differ_named(tmp_path, caplog):
    folder, towers = tiny_imof.write(tmp_path / "imof")
    refused(
        bent(folder, tmp_path, config={"unfreeze_mm_vision_tower": True}, name="told"),
        "unfreeze_mm_vision_tower must be False; not True", "imof_masked", encoder_weights=str(towers),
    )  # fmt: skip
    for key in ("mm_vision_tower_lr", "mm_tunable_parts"):
        refused(
            bent(folder, tmp_path, config={key: 2e-6}, name=key), f"{key} is 2e-06", "imof_masked",
            encoder_weights=str(towers),
        )  # fmt: skip
    original = load_file(towers / tiny_imof.CLIP / "model.safetensors")
    copies = {f"model.vision_tower.vision_tower.{name}": value.half() for name, value in original.items()}
    load(bent(folder, tmp_path, lambda t: t.update(copies), name="same"), "imof_masked", encoder_weights=str(towers))
    assert "differs" not in caplog.text
    name = "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
    changed = {**copies, name: copies[name] + 1}
    load(bent(folder, tmp_path, lambda t: t.update(changed), name="other"), "imof_masked", encoder_weights=str(towers))
    assert f"{name} differs from" in caplog.text


@pytest.mark.parametrize(
    ("repository", "config", "tensors", "match"),
    [
        (
            tiny_imof.CLIP,
            {"vision_config.quantization_config": {"bits": 8}},
            None,
            "vision_config.quantization_config: qu",
        ),
        (tiny_imof.CLIP, {"vision_config.windows": 4}, None, "vision_config.windows is 4, a setting that is not known"),
        (
            tiny_imof.CLIP,
            {},
            lambda t: t.update({"vision_model.new": torch.ones(1)}),
            "none of this model's: vision_mod",
        ),
        (imof_card.DINO, {"num_register_tokens": 4}, None, "num_register_tokens is 4, a setting that is not known"),
        (
            imof_card.DINO,
            {},
            lambda t: t.pop("encoder.layer.0.attention.attention.key.bias"),
            r"attention\.key\.bias$",
        ),
        (
            imof_card.DINO,
            {},
            lambda t: t.update({"encoder.layer.0.mlp.fc1.weight": torch.ones(40, 16).char()}),
            "int8",
        ),
    ],
)
def test_encoders_repositories_are_read_as_strictly(sources, tmp_path, repository, config, tensors, match):
    folder, options = sources["imof_masked"]
    towers = shutil.copytree(options["encoder_weights"], tmp_path / "towers")
    changed = bent(towers / repository, tmp_path, tensors, config)
    shutil.rmtree(towers / repository)
    changed.rename(towers / repository)
    refused(folder, match, "imof_masked", encoder_weights=str(towers))


def test_the_text_side_of_encoders_repositories_is_skipped(sources, tmp_path):
    folder, options = sources["cambrian_masked"]
    towers = shutil.copytree(options["encoder_weights"], tmp_path / "towers")
    for name in ("siglip", "convnext"):
        path = towers / cambrian_card.REPOSITORIES[name] / "open_clip_model.safetensors"
        more = {
            key: torch.ones(1) for key in ("text.ln_final.weight", "visual.head.proj.weight", "token_embedding.weight")
        }
        save_file({**load_file(path), **more}, path)
    clip = towers / cambrian_card.REPOSITORIES["clip"] / "config.json"
    clip.write_text(json.dumps({**json.loads(clip.read_text()), "vision_config_dict": None, "text_config_dict": None}))
    load(folder, "cambrian_masked", encoder_weights=str(towers))
    save_file({**load_file(path), "visual.attention.weight": torch.ones(1)}, path)
    refused(folder, "none of this model's: visual.attention.weight", "cambrian_masked", encoder_weights=str(towers))


def test_tokenizers_that_put_tokens_behind_a_text(source, tmp_path):
    told = json.loads((source / "tokenizer.json").read_text())
    processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
    }  # fmt: skip
    assert told["added_tokens"][2]["content"] == "</s>"
    refused(bent(source, tmp_path, tokenizer={"post_processor": processor}), "puts </s> into prompts")


def test_tokenizers_without_a_vocabulary_or_of_another_model(source, tmp_path):
    copy = bent(source, tmp_path, name="empty")
    (copy / "tokenizer.json").unlink()
    refused(copy, "tokenizer")
    subject = load(source)
    subject.model.language_model.set_input_embeddings(torch.nn.Embedding(40, 32))
    with pytest.raises(SetupError, match="document 3: the tokenizer gives token .* but the model has embeddings of 40"):
        subject.prompt_ids(Prompt("What?", (), "document 3"))


def test_a_template_that_is_not_known_is_asked_for(tmp_path):
    tokenizer = SimpleNamespace(get_vocab=lambda: {"<|im_start|>": 6, "<|im_end|>": 7})
    with pytest.raises(SetupError, match="trained with a template that is not known here; conv_template= says which"):
        loading.told_template(tokenizer, tmp_path)
    assert loading.told_template(SimpleNamespace(get_vocab=dict), tmp_path) == "vicuna_v1"


def test_an_answer_ends_at_the_tokenizers_end_token_too(source, tmp_path, caplog):
    copy = bent(source, tmp_path, generation_config={"eos_token_id": 1})
    assert load(copy).eos == [1, 2] and load(source).eos == [2]
    assert "eos_token_id is [1]; 2 (</s>), the tokenizer's end token, ends answers too" in caplog.text
    for value in ("2", 2.0, True, [2, None], -1, {"a": 2}):
        shutil.rmtree(copy)
        refused(bent(source, tmp_path, generation_config={"eos_token_id": value}), "eos_token_id must be a token id")
    (copy / "generation_config.json").write_text("[")
    refused(copy, "generation_config.json is not valid JSON")


def test_settings_of_generation_that_are_not_applied_are_named(source, tmp_path, caplog):
    load(bent(source, tmp_path, generation_config={"repetition_penalty": 1.05, "temperature": 0.6}))
    assert "not applied to answers: repetition_penalty=1.05" in caplog.text


# --- logits that are not numbers -----------------------------------------------------------------------------------


def overflowing(tensors):
    """The same function in float32, with values between that float16 cannot hold."""
    tensors["model.layers.1.mlp.up_proj.weight"] *= 2.0**18
    tensors["model.layers.1.mlp.down_proj.weight"] /= 2.0**18


def test_logits_that_are_not_numbers_are_refused_with_document_mask_and_type(source, tmp_path):
    copy = bent(source, tmp_path, overflowing)
    half = load(copy, dtype="float16", drop="convnext")
    prompts = [Prompt("What?", (picture(1),), f"task document {number}") for number in (4, 5)]
    match = (
        "task document 4, drop=convnext: the logits are not numbers; float16 overflows .try dtype=bfloat16 or float32"
    )
    with pytest.raises(SetupError, match=match):
        half.generate(prompts, 4)
    with pytest.raises(SetupError, match=match):
        half.loglikelihood(prompts, ["a", "b"])
    engine = engines.start(load(copy, dtype="float16"), ["none", "convnext"], 2**20)
    with pytest.raises(SetupError, match="task document 4, drop=none: the logits are not numbers"):
        engine.answer([(engine.ask(prompts[0]), "none"), (engine.ask(prompts[0]), "convnext")], 4)
    assert load(copy, dtype="float32").generate(prompts, 4) == load(source).generate(prompts, 4)


def test_the_first_sequence_whose_logits_are_not_numbers_is_named():
    found = Numbers(["a", "b"], torch.bfloat16)
    scores = torch.zeros(4, 3)
    scores[0, 1] = -float("inf")  # what a processor forbids
    assert found(None, scores) is scores
    for value in (float("nan"), float("inf")):
        scores[2, 0] = value  # two beams each
        with pytest.raises(SetupError, match=r"b: the logits are not numbers; in bfloat16 \(try dtype=float32\)"):
            found(None, scores)
    ended = Numbers(["a", "b"], torch.bfloat16, [2])
    tokens = torch.tensor([[5], [5], [2], [5]])
    assert ended(tokens, scores) is scores  # what comes behind the end of an answer
    with pytest.raises(SetupError, match="b: the logits"):
        ended(torch.full((4, 1), 5), scores)


def test_checkpoint_reads_a_tensor_whose_reading_fails_in_one_line(tmp_path):
    def get(key):
        raise RuntimeError("first\nsecond")

    with pytest.raises(SetupError, match=r"cannot read x in .*a: first$"):
        weights._tensor(tmp_path / "a", "x", get)
