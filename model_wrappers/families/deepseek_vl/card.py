"""What is said of DeepSeek-VL-7B without its code.

Sources of the keys: deepseek-ai/DeepSeek-VL at 681bffb.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    EVERY,
    FLAG,
    OBJECTS,
    SIZE,
    TEXT,
    Keys,
    each,
    of_type,
    words,
)
from redundancy_eval.model_wrappers.encoders.vision_keys import SAM_VISION, VISION
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA_PART


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a DeepSeek-VL-7B checkpoint, original or converted: SAM (high resolution) and SigLIP (low).

    Raises:
        SetupError: no such config; DeepSeek-VL-1.3B, which has one encoder.
    """
    kind = config.get("model_type")
    if kind == "deepseek_vl_hybrid":
        return ("sam", "siglip")
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    if kind == "deepseek_vl" or (kind == "multi_modality" and vision.get("cls") == "CLIPVisionTower"):
        raise SetupError("DeepSeek-VL-1.3B has one vision encoder (SigLIP): there is nothing to compare it with")
    if kind != "multi_modality" or vision.get("cls") != "HybridVisionTower":
        raise SetupError(
            f"not a DeepSeek-VL-7B checkpoint: model_type is {kind!r} (expected 'multi_modality' or "
            f"'deepseek_vl_hybrid') and the vision tower {vision.get('cls')!r}"
        )
    return ("sam", "siglip")


def _tower(mean: tuple[float, ...], std: tuple[float, ...]) -> Keys:
    return Keys(
        read={**each(TEXT, "model_name"), **each(SIZE, "image_size")},
        fixed={
            "pixel_mean": (list(mean),),
            "pixel_std": (list(std),),
            "select_feature": ("same",),
            "select_layer": (-1,),
        },
        idle=words("output_dim ckpt_path"),  # follows from the tensors; where training began
    )


_ORIGINAL = EVERY | Keys(
    read=each(OBJECTS, "encoder_configs"),
    idle=words("tie_word_embeddings bos_token_id eos_token_id pad_token_id"),  # the language model's own count
    parts={
        "language_config": LLAMA_PART | of_type("llama"),
        "aligner_config": EVERY
        | Keys(
            idle=words("cls"),
            # sizes follow from the tensors; depth and type are read
            parts={"params": Keys(idle=words("input_dim n_embed depth projector_type"))},
        ),
        "vision_config": EVERY
        | Keys(
            read=each(TEXT, "cls"),
            parts={
                "params": Keys(
                    fixed={"concat_type": ("tuple",)},
                    idle=words("freeze_high freeze_low"),
                    parts={
                        "high_res_cfg": _tower(
                            (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
                        ),
                        "low_res_cfg": _tower((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
                    },
                )
            },
        ),
    },
)
_NATIVE = EVERY | Keys(
    read=each(FLAG.or_null(), "tie_word_embeddings"),
    idle=words("image_token_id bos_token_id eos_token_id pad_token_id"),
    parts={
        "text_config": LLAMA_PART | of_type("llama"),
        "vision_config": VISION | of_type("siglip_vision_model"),
        "high_res_vision_config": SAM_VISION | of_type("sam_vision_model"),
    },
)  # what a part leaves out is transformers' default


def keys(config: Mapping[str, Any]) -> Keys:
    """Keys of DeepSeek-VL-7B, as released or as transformers converts it."""
    return _NATIVE if config.get("model_type") == "deepseek_vl_hybrid" else _ORIGINAL


FAMILY = Family(
    model_id="deepseek_vl_masked",
    title="DeepSeek-VL-7B (two halves of one vector)",
    model="redundancy_eval.model_wrappers.families.deepseek_vl.model:DeepseekVl",
    default="deepseek-ai/deepseek-vl-7b-chat",
    encoders=encoders,
    keys=keys,
    checkpoints=tuple(
        Checkpoint(hub_id, ("sam", "siglip"), "deepseek", "DeepSeek model licence")
        for hub_id in ("deepseek-ai/deepseek-vl-7b-chat", "deepseek-community/deepseek-vl-7b-chat")
    ),
    sites=("encoder",),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.deepseek_vl.recording:DeepseekVlRecording",
    costs={"sam": (96.4, 972), "siglip": (303.7, 381)},
    skipped="always",
    settings={"processor": "original (default: pixels as the original code makes them) or native (transformers')"},
)
