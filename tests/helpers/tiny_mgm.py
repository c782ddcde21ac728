"""A tiny random MGM-HD in the released format: with CLIP, and a copy of ConvNeXt, whose repository lies beside it."""

import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.mgm import card as mgm_card
from redundancy_eval.model_wrappers.families.mgm import model as mgm

HIDDEN, CHANNELS, SIDE, VIEWS = 32, 16, 4, 5
CLIP = dict(
    image_size=56, patch_size=14, hidden_size=CHANNELS, intermediate_size=24, num_hidden_layers=3,
    num_attention_heads=2,
)  # fmt: skip
CONVNEXT = dict(depths=[1, 1, 1, 1], dims=[4, 6, 8, 12])


def config(**changes) -> dict:
    demo = hub.read_config(hub.locate("demo"))
    same = {key: demo[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id") if key in demo}
    return {
        **same,
        "architectures": ["MiniGeminiLlamaForCausalLM"],  # and no model_type, as MGM-7B-HD
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 200,
        "image_aspect_ratio": "pad",
        "image_global": True,
        "image_grid": 2,
        "image_size_aux": 64,
        "mm_hidden_size": CHANNELS,
        "mm_hidden_size_aux": sum(CONVNEXT["dims"]),
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": f"model_zoo/OpenAI/{mgm_card.CLIP}",
        "mm_vision_tower_aux": f"model_zoo/OpenAI/{mgm_card.CONVNEXT}",
        "optimize_vision_tower": False,
        "optimize_vision_tower_aux": False,
        "encoder_configs": {"clip": CLIP, "convnext": CONVNEXT},
        **changes,
    }


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)


def write_convnext(folder: Path) -> dict[str, torch.Tensor]:
    """ConvNeXt's repository, as ORG/NAME; returns its tensors by the names of timm."""
    trunk = timm.create_model("convnext_large", **CONVNEXT, num_classes=0, global_pool="")
    randomise(trunk)
    repository = folder / mgm_card.CONVNEXT_REPOSITORY
    repository.mkdir(parents=True)
    held = {key: value.detach().clone().contiguous() for key, value in trunk.state_dict().items()}
    tensors = {f"visual.trunk.{key}": value for key, value in held.items()}
    save_file({**tensors, "logit_scale": torch.zeros(())}, repository / "open_clip_model.safetensors")
    told = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_large", "timm_model_pretrained": False}}}
    (repository / "open_clip_config.json").write_text(json.dumps(told))
    return held


def write(folder: Path, seed: int = 0, **changes) -> tuple[Path, Path]:
    """Write a random checkpoint and ConvNeXt; return the checkpoint's folder and that for `encoder_weights`."""
    torch.manual_seed(seed)
    convnext = write_convnext(folder / "towers")
    settings, checkpoint = config(**changes), folder / "checkpoint"
    model = mgm.Mgm(settings, ("clip",))
    randomise(model)
    tensors = {model.release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    clip = "model.vision_tower.vision_tower.vision_model."
    behind = [name for name in tensors if name.startswith(f"{clip}encoder.layers.1.")]  # the layer that nothing reads
    tensors |= {name.replace("layers.1.", "layers.2."): torch.ones_like(tensors[name]) for name in behind}
    tensors |= {f"{clip}post_layernorm.{name}": torch.ones(CHANNELS) for name in ("weight", "bias")}
    # The releases' copy is rounded.
    copies = {name: value.bfloat16() for name, value in convnext.items() if name.startswith(("stem.", "stages."))}
    tensors |= {f"model.vision_tower_aux.vision_{name}": value for name, value in copies.items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(3)
    checkpoint.mkdir(parents=True)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(hub.locate("demo") / name, checkpoint)
    return checkpoint, folder / "towers"
