"""What is said of MGM (Mini-Gemini) without its code.

Sources of the keys: dvlab-research/MGM at 769820c, mgm/model/mgm_arch.py, mgm/model/multimodal_encoder/ and
mgm/train/train.py.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    FLAG,
    INDEX,
    OBJECTS,
    SIZE,
    TEXT,
    Keys,
    each,
    words,
)
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA, LLAVA

# The releases were written by two states of the original code; the older one calls itself Mini-Gemini.
ARCHITECTURES = ("MGMLlamaForCausalLM", "MiniGeminiLlamaForCausalLM")
MODEL_TYPES = ("mgm", "mini_gemini")
# Last part of the path in `mm_vision_tower` and `mm_vision_tower_aux` of every release. The original code tells towers
# and their sizes by words in these paths, which stand for folders that its users make.
CLIP = "clip-vit-large-patch14-336"
CONVNEXT = "openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"
CONVNEXT_REPOSITORY = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an MGM checkpoint: CLIP, whose tokens ask, and ConvNeXt, whose map is asked.

    The config of MGM-7B-HD has no `model_type`, so `architectures` counts too.

    Raises:
        SetupError: no MGM config, another language model than Llama, or other towers than the releases'.
    """
    kind, architectures = config.get("model_type"), config.get("architectures")
    told = [name for name in (kind, *(architectures if isinstance(architectures, list) else ())) if name is not None]
    if not told or any(name not in (*MODEL_TYPES, *ARCHITECTURES) for name in told):
        raise SetupError(
            f"not an MGM checkpoint on Llama (7B, 8B, 13B): model_type is {kind!r} (expected 'mgm', or none) and "
            f"architectures is {architectures!r} (expected {ARCHITECTURES[0]} or {ARCHITECTURES[1]})"
        )
    for key, known in (("mm_vision_tower", CLIP), ("mm_vision_tower_aux", CONVNEXT)):
        path = config.get(key)
        if not isinstance(path, str) or path.rstrip("/").rpartition("/")[2] != known:
            raise SetupError(f"{key} is {path!r}; the only one that is known here is {known}")
    return ("clip", "convnext")


def repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """ConvNeXt's own repository, which the original code reads unless the config says that ConvNeXt was trained.

    The releases hold a copy, rounded to bfloat16, that is not read (mgm_arch.py:216-219). CLIP's weights are those of
    the checkpoint in any case (:213).
    """
    return {} if config.get("optimize_vision_tower_aux") else {"convnext": CONVNEXT_REPOSITORY}


_KEYS = (
    LLAMA
    | LLAVA
    | Keys(
        read={
            **each(TEXT, "mm_vision_tower mm_vision_tower_aux"),
            **each(TEXT.or_null(), "image_aspect_ratio"),
            **each(SIZE, "mm_hidden_size mm_hidden_size_aux image_size_aux image_grid"),
            **each(FLAG, "image_global"),
            **each(FLAG.or_null(), "optimize_vision_tower_aux"),
            **each(INDEX, "mm_vision_select_layer"),
            **each(SIZE.or_null(), "tokenizer_model_max_length"),
            **each(OBJECTS, "encoder_configs"),
        },
        fixed={
            "mm_projector_type": ("mlp2x_gelu",),
            "mm_vision_select_feature": ("patch",),
            "aux_img_fold": (False, None),
            "aux_with_fpn": (False, None),
        },
        # how training ran: CLIP's weights, trained or not, lie in the checkpoint; dropping paths is for training
        idle=words("optimize_vision_tower unfreeze_mm_vision_tower mm_vision_tower_lr drop_path"),
        required=(
            "mm_projector_type", "mm_hidden_size", "mm_hidden_size_aux", "image_size_aux", "mm_vision_select_layer",
        ),
    )
)  # fmt: skip

_LICENCE = "CC-BY-NC-4.0; {} inside"
FAMILY = Family(
    model_id="mgm_masked",
    title="MGM, Mini-Gemini (CLIP tokens mine a ConvNeXt map)",
    model="redundancy_eval.model_wrappers.families.mgm.model:Mgm",
    default="YanweiLi/MGM-7B-HD",
    encoders=encoders,
    keys=lambda config: _KEYS,
    checkpoints=tuple(
        Checkpoint(f"YanweiLi/MGM-{size}{high}", ("clip", "convnext"), template, _LICENCE.format(base))
        for high in ("-HD", "")
        for size, template, base in (
            ("7B", "vicuna_v1", "Vicuna"),
            ("8B", "mgm_llama_3", "Llama 3"),
            ("13B", "vicuna_v1", "Vicuna"),
        )
    ),
    sites=("encoder", "projected"),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.mgm.recording:MgmRecording",
    costs={"clip": (303.5, 1830), "convnext": (196.2, 3231)},  # of an image in HD; without, 366 and 808
    skipped="always",
    settings={
        "encoder_weights": "folder that holds ConvNeXt's hub repository as ORG/NAME; default: the hub",
    },
    repositories=repositories,
)
