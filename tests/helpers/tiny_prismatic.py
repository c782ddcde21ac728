"""A tiny random Prismatic in the original's layout or in the one that transformers reads; real code, small numbers."""

import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.prismatic import card, names
from redundancy_eval.model_wrappers.families.prismatic import model as prismatic

SIZES = {  # 4 x 4 tokens of an image of 224 pixels
    "dinov2": dict(depth=3, embed_dim=16, num_heads=2, patch_size=56, init_values=0.1),
    "siglip": dict(depth=3, embed_dim=24, num_heads=2, patch_size=56),
    "clip": dict(depth=3, embed_dim=24, num_heads=2, patch_size=56),
}
TEXT = dict(
    vocab_size=576, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=512,
)  # fmt: skip
PAIR = "dinosiglip-vit-so-224px"
STATS = {"toy_set": {"action": {"q01": [-1.0, -0.5, 0.0], "q99": [1.0, 0.5, 2.0]}, "num_trajectories": 1}}


def config(form: str, pair: str = PAIR, **changes) -> dict:
    """`form` is original, prismatic or openvla; changes are of the part that describes the model."""
    described = {
        "vision_backbone_id": pair,
        "llm_backbone_id": "llama2-7b-pure",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "image_resize_strategy": "resize-naive",
        "llm_max_length": 96,
        **changes,
    }
    ours = {"text_config": TEXT, "encoder_configs": {name: SIZES[name] for name in card.VISIONS[pair].encoders}}
    if form == "original":
        return {"model": {"model_id": "tiny", **described}, "stage": "finetune", "run_id": "tiny", "seed": 7, **ours}
    more = {"norm_stats": STATS, "n_action_bins": 256} if form == "openvla" else {}
    return {"model_type": form, "pad_to_multiple_of": 64, "pad_token_id": 512, **described, **ours, **more}


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)


def encoders(pair: str) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of whole encoders in timm's names, DINOv2's positions for another grid."""
    made = {}
    for name, encoder in card.VISIONS[pair].encoders.items():
        size = 280 if name == "dinov2" else card.VISIONS[pair].image_size
        tower = timm.create_model(encoder.timm_model, img_size=size, num_classes=0, **SIZES[name])
        randomise(tower)
        made[name] = {key: value.detach().clone().contiguous() for key, value in tower.state_dict().items()}
    return made


def write(folder: Path, form: str = "original", seed: int = 0, **changes) -> tuple[Path, Path]:
    """Write a random checkpoint, and its encoders beside it; return its folder and that for `encoder_weights`."""
    torch.manual_seed(seed)
    checkpoint, towers = folder / "checkpoint", folder / "towers"
    settings = config(form, **changes)
    model = prismatic.Prismatic(settings, keep=())
    randomise(model)
    own = {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}
    checkpoint.mkdir(parents=True)
    pair = changes.get("pair", PAIR)
    if form == "original":
        parts: dict = {"projector": {}, "llm_backbone": {}}
        for key, value in own.items():
            part, _, name = names.original_release(key).removeprefix("model/").partition("/")
            parts[part][name] = value
        (checkpoint / "checkpoints").mkdir()
        torch.save({"model": parts}, checkpoint / "checkpoints" / "latest-checkpoint.pt")
        for name, tensors in encoders(pair).items():
            place = towers / card.VISIONS[pair].encoders[name].repository
            place.mkdir(parents=True)
            save_file(tensors, place / "model.safetensors")
    else:
        tensors = {names.converted_release(key): value for key, value in own.items()}
        for place, (name, held) in enumerate(encoders(pair).items()):
            if name == "dinov2":  # the converted form has them for its own grid
                tokens = (card.VISIONS[pair].image_size // 56) ** 2
                held["pos_embed"] = torch.randn(1, tokens, SIZES[name]["embed_dim"])
            tensors |= {names.encoder_release(place, key): value for key, value in held.items()}
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(hub.locate("demo") / name, checkpoint)
    return checkpoint, towers
