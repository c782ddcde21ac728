"""Odd configs: what config.json says is used, known to decide nothing, or refused."""

import json
import os
import sys

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import language_keys, language_models, registry
from tests.helpers import tiny_cambrian
from tests.helpers.bent import PARTS, bent, load, logits, refused

pytestmark = pytest.mark.models


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
