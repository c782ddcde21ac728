"""What is said of Eagle2-9B without its code.

Sources of the keys: NVlabs/Eagle at 783f656, Eagle2_5/eaglevl/, and huggingface/transformers at 981d34c,
models/eagle2/configuration_eagle2.py.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    EVERY,
    FLAG,
    OBJECT,
    SIZE,
    TEXT,
    Keys,
    each,
    of_type,
    words,
)
from redundancy_eval.model_wrappers.encoders.vision_keys import VISION
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import QWEN2


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an Eagle2 checkpoint with two towers: SigLIP and ConvNeXt, concatenated in this order.

    Raises:
        SetupError: no such config, or one with another set of towers.
    """
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, dict) else {}
    if config.get("model_type") != "eagle_chat" or vision.get("model_type") != "MOB":
        raise SetupError(
            f"not an Eagle2-9B checkpoint: model_type is {config.get('model_type')!r} (expected 'eagle_chat') "
            f"with a vision tower {vision.get('model_type')!r} (expected 'MOB')"
        )
    if vision.get("moe_version_type") != "convnext_512_siglip_448":
        raise SetupError(f"unknown towers {vision.get('moe_version_type')!r}; known: convnext_512_siglip_448")
    return ("siglip", "convnext")


_KEYS = EVERY | Keys(
    read={
        **each(SIZE.or_null(), "force_image_size"),
        **each(SIZE, "max_dynamic_patch"),
        **each(FLAG, "use_thumbnail"),
        **each(FLAG.or_null(), "tie_word_embeddings"),
    },
    fixed={
        "downsample_ratio": (0.5,),
        "keep_aspect_ratio": (False,),
        "pre_feature_reduction": (False,),
        "dynamic_image_size": (True,),
        "min_dynamic_patch": (1,),
        "pad2square": (False,),
        "template": ("qwen2-chat",),
        "use_backbone_lora": (0,),
        "use_llm_lora": (0,),
    },
    # training, and a layer that the towers pass over; the vocabulary is the language model's
    idle=words(
        "efficient_loss loss_version mlp_checkpoint select_layer vocab_size bos_token_id eos_token_id pad_token_id"
    ),
    parts={
        "llm_config": QWEN2 | of_type("qwen2"),
        "vision_config": EVERY
        | Keys(
            read={
                **each(TEXT, "moe_version_type"),
                **each(TEXT.or_null(), "vision_path"),
                **each(SIZE, "convnext_img_size"),
                **each(OBJECT, "convnext_config"),
            },
            fixed={"normalize_type": ("siglip",)},
            # of other sets of towers, or what is computed anew (siglip_vision_tower.py, convnext_encoder.py)
            idle=words(
                "delay_load freeze_backbones grid_size hidden_size image_size input_image_size mm_vision_select_layer "
                "vision_tower vision_tower_siglip_path vision_tower_convnext_path vision_tower_radio_path "
                "siglip_img_size radio_img_size tie_word_embeddings bos_token_id eos_token_id pad_token_id"
            ),
            parts={"siglip_vision_config": VISION | of_type("siglip_vision_model")},
        ),
    },
    required=("llm_config", "vision_config"),
)

FAMILY = Family(
    model_id="eagle2_masked",
    title="Eagle2-9B (tiles, channel concatenation, LayerNorm over it)",
    model="redundancy_eval.model_wrappers.families.eagle2.model:Eagle2",
    default="nvidia/Eagle2-9B",
    encoders=encoders,
    keys=lambda config: _KEYS,
    checkpoints=(Checkpoint("nvidia/Eagle2-9B", ("siglip", "convnext"), "qwen2-chat", "CC-BY-NC-4.0"),),
    sites=("encoder",),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.eagle2.recording:Eagle2Recording",
    costs={"siglip": (413.3, 974), "convnext": (843.4, 1584)},
    skipped="always",
    settings={"max_tiles": "most tiles of an image, the thumbnail not counted (default: the checkpoint's)"},
)
