"""What is said of Cambrian-1 without its code.

Sources of the keys: cambrian-mllm/cambrian at 539ffc3, cambrian/train/train_fsdp.py:1552-1761 and
cambrian/model/cambrian_arch.py.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    COUNT,
    INDEX,
    LAYERS,
    OBJECTS,
    SIZE,
    SIZES,
    TEXTS,
    Keys,
    each,
    words,
)
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family, Published
from redundancy_eval.model_wrappers.families.language_keys import LLAMA, LLAVA, PHI3

# Name of an encoder of Cambrian-1 -> the hub repository of its weights.
REPOSITORIES = {
    "siglip": "timm/ViT-SO400M-14-SigLIP-384",
    "clip": "openai/clip-vit-large-patch14-336",
    "dinov2": "facebook/dinov2-giant",
    "convnext": "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
}


def repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """The hub repository of each encoder of Cambrian-1."""
    return REPOSITORIES


# Beginning of an entry of Cambrian's `mm_vision_tower_aux_list` -> name of the encoder.
TOWERS = {
    "siglip/": "siglip", "openai/clip": "clip", "facebook/dinov2": "dinov2", "clip-convnext": "convnext",
}  # fmt: skip


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a Cambrian-1 checkpoint, in the order of its `mm_vision_tower_aux_list`.

    Raises:
        SetupError: no Cambrian-1 config, an unknown tower, or one encoder named twice.
    """
    listed = config.get("mm_vision_tower_aux_list")
    if config.get("mm_projector_type") != "sva" or not isinstance(listed, list):
        raise SetupError(
            f"not a Cambrian-1 checkpoint: mm_projector_type is {config.get('mm_projector_type')!r} (expected 'sva') "
            f"and mm_vision_tower_aux_list is {listed!r}"
        )
    names: list[str] = []
    if not listed or not all(isinstance(tower, str) for tower in listed):
        raise SetupError(f"mm_vision_tower_aux_list must be a list of towers; not {listed!r}")
    for tower in listed:
        name = next((name for start, name in TOWERS.items() if tower.lower().startswith(start)), None)
        if name is None or name in names:
            raise SetupError(f"unknown or repeated tower {tower!r} in mm_vision_tower_aux_list {listed!r}")
        names.append(name)
    return tuple(names)


_KEYS = LLAVA | Keys(
    read={
        **each(TEXTS, "mm_vision_tower_aux_list"),
        **each(SIZES, "mm_vision_tower_aux_token_len_list query_num_list"),
        **each(SIZE, "image_token_len vision_hidden_size stride_of_vision_sampler_layers"),
        **each(LAYERS, "connector_depth"),
        **each(COUNT, "image_position num_of_vision_sampler_layers start_of_vision_sampler_layers"),
        **each(INDEX, "mm_vision_select_layer"),
        **each(SIZE.or_null(), "tokenizer_model_max_length"),
        **each(OBJECTS, "encoder_configs"),
    },
    fixed={
        "mm_projector_type": ("sva",),
        "mm_vision_select_feature": ("patch",),
        "connector_only": (False,),
        "num_query_group": (1,),
        "mm_use_im_patch_token": (False,),
        # the checkpoint holds no encoders: the ones that are loaded are the originals
        "unfreeze_mm_vision_tower": (False, None),
    },
    # what training wrote and inference computes anew from the towers (cambrian_arch.py:83, 113, 172)
    idle=words(
        "mm_hidden_size mm_vision_tower vision_tower_aux_token_len_list spmd_debug spmd_fsdp_sharding spmd_mesh"
    ),
    required=(
        "mm_vision_tower_aux_token_len_list", "image_token_len", "image_position", "vision_hidden_size",
        "connector_depth", "num_of_vision_sampler_layers", "start_of_vision_sampler_layers",
        "stride_of_vision_sampler_layers",
    ),
)  # fmt: skip


def keys(config: Mapping[str, Any]) -> Keys:
    """Keys of a Cambrian-1 checkpoint, on Phi-3 or on Llama."""
    return (PHI3 if language_of(config) == "phi3" else LLAMA) | _KEYS


def language_of(config: Mapping[str, Any]) -> str:
    """`phi3` or `llama`, as `model_type` or `architectures` says; "" for another."""
    architectures = config.get("architectures")
    named = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    told = f"{config.get('model_type')} {' '.join(named)}".lower()
    return next((name for name in ("phi3", "llama") if name in told), "")


FAMILY = Family(
    model_id="cambrian_masked",
    title="Cambrian-1 (spatial vision aggregator, in the connector and inside the language model)",
    model="redundancy_eval.model_wrappers.families.cambrian.model:Cambrian",
    default="nyu-visionx/cambrian-8b",
    encoders=encoders,
    keys=keys,
    checkpoints=tuple(
        Checkpoint(f"nyu-visionx/cambrian-{size}", ("siglip", "clip", "dinov2", "convnext"), template, licence)
        for size, template, licence in (
            ("phi3-3b", "phi3", "see its card; Phi-3 inside"),
            ("8b", "llama_3", "see its card; Llama 3 inside"),
            ("13b", "vicuna_v1", "see its card; Vicuna inside"),
        )
    ),
    sites=("encoder", "projected"),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.cambrian.recording:CambrianRecording",
    costs={"siglip": (413.0, 666), "clip": (303.5, 381), "dinov2": (1136.5, 1786), "convnext": (843.4, 6335)},
    skipped="always, but for siglip under site=projected with global_context=keep",
    settings={
        "encoder_weights": "folder that holds the encoders' hub repositories as ORG/NAME; default: the hub",
        "global_context": "with site=projected and siglip dropped: keep (default, as the paper's authors) or zero",
        "dino_positions": "how DINOv2's position table is resized: offset (default, as trained) or size",
    },
    # VLMEvalKit's vlm/cambrian.py, and the authors' cambrian_arch.py for the site
    published=Published(
        arguments={"site": "projected", "dtype": "float16", "long_prompt": "cut"},
        generation={},
        max_new_tokens=2048,
        joint="\n",
        one_image=True,
        own_choice_wording=False,
        impossible={
            "phi3": "Cambrian-1 3B: its prompt was not in the model's own template, so that the samplers inside the "
            "language model wrote to other places than the image's"
        },
    ),
    repositories=repositories,
    images_first=True,  # where the samplers inside the language model look for them
)
