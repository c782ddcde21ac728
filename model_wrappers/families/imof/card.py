"""What is said of I-MoF without its code.

Sources of the keys: tsb0601/MMVP at 7635005, LLaVA/llava/train/train.py:824-960.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import INDEX, OBJECTS, SIZE, TEXT, Keys, each, words
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA, LLAVA

DINO = "facebook/dinov2-large"  # named in the original code, not in the config


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an I-MoF checkpoint: CLIP and DINOv2, interleaved in this order.

    Its config is that of LLaVA-1.5, which says nothing of DINOv2; that the checkpoint is one shows in its tensors
    (`model.dino_mm_projector.*`), and loading fails without them.

    Raises:
        SetupError: no LLaVA-1.5 config.
    """
    tower = config.get("mm_vision_tower")
    if config.get("model_type") not in ("llava", "llava_llama") or "clip" not in str(tower):
        raise SetupError(
            f"not an I-MoF checkpoint: model_type is {config.get('model_type')!r} (expected 'llava') "
            f"and mm_vision_tower is {tower!r}"
        )
    return ("clip", "dinov2")


def repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """The hub repository of each encoder of I-MoF."""
    return dict(zip(encoders(config), (config["mm_vision_tower"], DINO), strict=True))


_KEYS = (
    LLAMA
    | LLAVA
    | Keys(
        read={
            **each(TEXT, "mm_vision_tower"),
            **each(SIZE, "mm_hidden_size image_size grid_size"),
            **each(INDEX, "mm_vision_select_layer"),
            **each(OBJECTS, "encoder_configs"),
        },
        fixed={
            "mm_projector_type": ("mlp2x_gelu",),
            "mm_vision_select_feature": ("patch",),
            # the encoders come from repositories of their own: ones that were trained on would be lost
            "unfreeze_mm_vision_tower": (False, None),
        },
        idle=words("tokenizer_model_max_length"),  # of later LLaVAs; this one cuts no prompt
    )
)


FAMILY = Family(
    model_id="imof_masked",
    title="I-MoF (LLaVA-1.5 with interleaved CLIP and DINOv2 tokens)",
    model="redundancy_eval.model_wrappers.families.imof.model:IMof",
    default="MMVP/MoF_Models",
    encoders=encoders,
    keys=lambda config: _KEYS,
    checkpoints=(Checkpoint("MMVP/MoF_Models", ("clip", "dinov2"), "vicuna_v1", "see its card; Vicuna inside"),),
    sites=("encoder", "projected"),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.imof.recording:IMofRecording",
    costs={"clip": (303.5, 381), "dinov2": (304.4, 382)},
    skipped="always",
    settings={
        "encoder_weights": "folder that holds the encoders' hub repositories as ORG/NAME; default: the hub",
        "image_mode": "pad (default: to a square, as trained) or crop (the centre, as the paper's own script)",
    },
    repositories=repositories,
)
