"""A tiny random I-MoF in the released layout: a LLaVA-1.5 folder and the encoders' repositories beside it."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.imof import card as imof_card
from redundancy_eval.model_wrappers.families.imof import model as imof

CLIP = "openai/clip-vit-large-patch14-336"
GRID, CHANNELS, HIDDEN = 4, 16, 32
VISION = dict(
    image_size=56, patch_size=14, hidden_size=CHANNELS, intermediate_size=24, num_hidden_layers=3,
    num_attention_heads=2, projection_dim=8,
)  # fmt: skip
TEXT = dict(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16,
    max_position_embeddings=8, projection_dim=8, eos_token_id=2, bos_token_id=1, pad_token_id=0,
)  # fmt: skip
DINO = dict(
    image_size=70, patch_size=14, hidden_size=CHANNELS, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2,
)  # fmt: skip


def config(**changes) -> dict:
    demo = hub.read_config(hub.locate("demo"))
    for key in [key for key in demo if key.startswith("mm_") or key in ("encoder_configs", "image_size", "grid_size")]:
        del demo[key]
    return {
        **demo,
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": CLIP,
        "mm_hidden_size": CHANNELS,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": False,
        "image_aspect_ratio": "pad",
        "image_size": 56,
        "grid_size": GRID,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        **changes,
    }


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)


def write(folder: Path, seed: int = 0, **changes) -> tuple[Path, Path]:
    """Write a random checkpoint and its encoders; return the checkpoint's folder and that for `encoder_weights`."""
    torch.manual_seed(seed)
    towers = folder / "towers"
    for repository, module in (
        (CLIP, CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))),
        (imof_card.DINO, Dinov2Model(Dinov2Config(**DINO))),
    ):
        randomise(module)
        module.save_pretrained(towers / repository)
    settings, checkpoint = config(**changes), folder / "checkpoint"
    model = imof.IMof(settings, keep=())
    randomise(model)
    tensors = {}
    for own, value in model.state_dict().items():
        name = own.removeprefix("language_model.").replace("projectors.clip.", "model.mm_projector.")
        tensors[name.replace("projectors.dinov2.", "model.dino_mm_projector.")] = value.detach().clone().contiguous()
    # A training run saves its encoders too; nothing reads these copies.
    for copy in ("vision_tower.vision_tower.vision_model", "dino_tower.vision_tower", "dino_tower.clip_vision_tower"):
        tensors[f"model.{copy}.norm.weight"] = torch.zeros(3)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(3)
    checkpoint.mkdir(parents=True)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(hub.locate("demo") / name, checkpoint)
    return checkpoint, towers
