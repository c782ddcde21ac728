"""A tiny random Cambrian-1 in the released layout: a folder without encoders, and theirs beside it."""

import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, LlamaConfig

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.cambrian import card as cambrian_card
from redundancy_eval.model_wrappers.families.cambrian import model as cambrian

SIGLIP, CLIP, DINO, CONVNEXT = RELEASED = (
    "siglip/CLIP-ViT-SO400M-14-384",
    "openai/clip-vit-large-patch14-336",
    "facebook/dinov2-giant-res378",
    "clip-convnext-XXL-multi-stage",
)
GRID, WINDOW = 4, 4  # queries a side, and how much finer ConvNeXt's map is
TIMM = {
    SIGLIP: dict(img_size=40, patch_size=8, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2.0),
    CONVNEXT: dict(depths=[1, 1, 1, 1], dims=[4, 6, 8, 12]),
}
CLIP_VISION = dict(
    image_size=32, patch_size=8, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
    projection_dim=8,
)  # fmt: skip
CLIP_TEXT = dict(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=16,
    max_position_embeddings=8, projection_dim=8, eos_token_id=2, bos_token_id=1, pad_token_id=0,
)  # fmt: skip
DINO_VISION = dict(
    image_size=56, patch_size=8, hidden_size=20, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2,
    use_swiglu_ffn=True,
)  # fmt: skip


def tokenizer():
    return hub.read_tokenizer(hub.locate("demo"), LlamaConfig())


def image_position(template: str) -> int:
    """Where the template puts the image of a first turn that begins with it."""
    text = templates.TEMPLATES[template].render([f"{templates.IMAGE}\nWhat?"])
    return templates.tokenize(tokenizer(), text).index(templates.IMAGE_ID)


def config(language: str = "llama", **changes) -> dict:
    demo = hub.read_config(hub.locate("demo"))
    same = {key: demo[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id") if key in demo}
    return {
        **same,
        "model_type": f"cambrian_{language}",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2 if language == "phi3" else 1,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "use_cache": False,
        "tokenizer_model_max_length": 160,
        "image_position": image_position("phi3" if language == "phi3" else "vicuna_v1"),
        "mm_vision_tower_aux_list": list(RELEASED),
        "mm_vision_tower_aux_token_len_list": [GRID**2] * 3 + [(GRID * WINDOW) ** 2],
        "mm_projector_type": "sva",
        "mm_vision_select_layer": -2,
        "image_token_len": GRID**2,
        "num_query_group": 1,
        "query_num_list": [GRID**2],
        "connector_only": False,
        "connector_depth": 2,
        "vision_hidden_size": 32,
        "num_of_vision_sampler_layers": 2,
        "start_of_vision_sampler_layers": 0,
        "stride_of_vision_sampler_layers": 2,
        "encoder_configs": {
            **TIMM,
            CLIP: {"hidden_size": CLIP_VISION["hidden_size"]},
            DINO: {"hidden_size": DINO_VISION["hidden_size"], "input_size": 40},
            CONVNEXT: {**TIMM[CONVNEXT], "input_size": 64},
        },
        **changes,
    }


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)


def write_encoders(folder: Path) -> Path:
    """The four repositories, as ORG/NAME."""
    for name, module in (
        ("clip", CLIPModel(CLIPConfig(text_config=CLIP_TEXT, vision_config=CLIP_VISION, projection_dim=8))),
        ("dinov2", Dinov2Model(Dinov2Config(**DINO_VISION))),
    ):
        randomise(module)
        module.save_pretrained(folder / cambrian_card.REPOSITORIES[name])
    for name, model, sizes in (
        ("siglip", "vit_so400m_patch14_siglip_384", {**TIMM[SIGLIP], "num_classes": 0}),
        ("convnext", "convnext_xxlarge", {**TIMM[CONVNEXT], "num_classes": 0, "global_pool": ""}),
    ):
        trunk = timm.create_model(model, **sizes)
        randomise(trunk)
        repository = folder / cambrian_card.REPOSITORIES[name]
        repository.mkdir(parents=True)
        tensors = {f"visual.trunk.{key}": value.clone().contiguous() for key, value in trunk.state_dict().items()}
        save_file({**tensors, "logit_scale": torch.zeros(())}, repository / "open_clip_model.safetensors")
        told = {"model_cfg": {"vision_cfg": {"timm_model_name": model, "timm_model_pretrained": False}}}
        (repository / "open_clip_config.json").write_text(json.dumps(told))
    return folder


def write(folder: Path, language: str = "llama", seed: int = 0, **changes) -> tuple[Path, Path]:
    """Write a random checkpoint and its encoders; return the checkpoint's folder and that for `encoder_weights`."""
    torch.manual_seed(seed)
    settings, checkpoint = config(language, **changes), folder / "checkpoint"
    model = cambrian.Cambrian(settings)
    randomise(model)
    tensors = {model.release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(3)
    checkpoint.mkdir(parents=True)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(hub.locate("demo") / name, checkpoint)
    return checkpoint, write_encoders(folder / "towers")
