"""A tiny random Eagle of all five encoders in the released format; real code, small numbers."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.eagle import model as eagle

TOWERS = "clip-448;convnext-1024;sam-1024;det-1024;pix2struct-1024"
SMALL = {
    "clip-448": dict(
        input_size=32, patch_size=8, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    ),
    "convnext-1024": dict(input_size=64, depths=[1, 1, 1, 1], dims=[8, 8, 16, 24]),
    "sam-1024": dict(
        input_size=64, patch_size=8, hidden_size=16, output_channels=4, num_hidden_layers=2, num_attention_heads=2,
        mlp_dim=24, window_size=3, global_attn_indexes=[1],
    ),
    "det-1024": dict(
        input_size=64, patch_size=8, window_size=3, embed_dim=16, depth=2, num_heads=2, window_block_indexes=[0],
        pretrain_img_size=32,
    ),
    "pix2struct-1024": dict(
        input_size=64, max_patches=17, output_grid=4, hidden_size=24, d_ff=32, d_kv=8, num_hidden_layers=2,
        num_attention_heads=2, seq_len=8,
    ),
}  # fmt: skip
CHANNELS = {"clip-448": 32, "convnext-1024": 24, "sam-1024": 16, "det-1024": 16, "pix2struct-1024": 24}


def config(towers: str = TOWERS, **changes) -> dict:
    names = towers.split(";")
    demo = hub.read_config(hub.locate("demo"))
    return {
        **demo,
        "mm_vision_tower": towers,
        "mm_hidden_size": sum(CHANNELS[name] for name in names),
        "image_size": 64,
        "grid_size": 4,
        "encoder_configs": {name: SMALL[name] for name in names},
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tokenizer_model_max_length": 128,
        **changes,
    }


def write(folder: Path, towers: str = TOWERS, seed: int = 0, **changes) -> Path:
    """Write a random checkpoint in the released format and return its folder."""
    torch.manual_seed(seed)
    settings = config(towers, **changes)
    model = eagle.Eagle(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {model.release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(hub.locate("demo") / name, folder)
    return folder
