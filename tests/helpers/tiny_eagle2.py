"""A tiny random Eagle2-9B in the released format; real code, small numbers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel

from redundancy_eval.model_wrappers.families.eagle2 import model as eagle2

ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "</img>")
SIGLIP_FIRST, CONVNEXT_FIRST = "MOB:palisiglip;convnext-1024", "MOB:convnext-1024;palisiglip"


def config(vision_path: str = SIGLIP_FIRST, **changes) -> dict:
    """Tiles of 56 pixels: 4 x 4 patches, 2 x 2 tokens."""
    return {
        "architectures": ["Eagle2ChatModel"],
        "auto_map": {
            "AutoConfig": "configuration_eagle_chat.Eagle2ChatConfig",
            "AutoModelForCausalLM": "modeling_eagle_chat.Eagle2ChatModel",
        },
        "model_type": "eagle_chat",
        "template": "qwen2-chat",
        "downsample_ratio": 0.5,
        "force_image_size": 56,
        "max_dynamic_patch": 6,
        "use_thumbnail": True,
        "select_layer": -1,
        "llm_config": {
            "model_type": "qwen2", "vocab_size": 256 + len(ADDED), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 1000000.0,
            "max_position_embeddings": 4096, "eos_token_id": 256, "use_sliding_window": False,
        },
        "vision_config": {
            "model_type": "MOB",
            "moe_version_type": "convnext_512_siglip_448",
            "normalize_type": "siglip",
            "vision_path": vision_path,
            "convnext_img_size": 64,
            "convnext_config": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 24]},
            "siglip_vision_config": {
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 56,
            },
        },
        **changes,
    }  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """Qwen2's tokenizer files with one token for each byte, and the added tokens behind them."""
    letters = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    added = {token: 256 + index for index, token in enumerate(ADDED)}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(ADDED[1:]),
        "added_tokens_decoder": {
            str(index): dict(content=t, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
            for t, index in added.items()
        },
    }
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write(folder: Path, vision_path: str = SIGLIP_FIRST, seed: int = 0, **changes) -> Path:
    """Write a random checkpoint in the released format and return its folder."""
    torch.manual_seed(seed)
    settings = config(vision_path, **changes)
    model = eagle2.Eagle2(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {model.release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    # Released files hold a pooling head and a classifier that nothing computes with.
    for name, head in (("siglip", "vision_model.head.probe"), ("convnext", "head.fc.weight")):
        tower = f"vision_model.vision_model.vision_towers.{model.file_order.index(name)}.vision_tower."
        tensors[tower + head] = torch.ones(1, 1, 3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    # As in the release, this does not say what ends an answer.
    (folder / "generation_config.json").write_text('{"_from_model_config": true}')
    write_tokenizer(folder)
    return folder
