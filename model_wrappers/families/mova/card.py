"""What is said of MoVA without its code.

Sources of the keys: TempleX98/MoVA at 52f83e5, mova/model/arch.py:43-75, mova/train/train.py of LLaVA that it is built
on. The released config.json could not be read.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    INDEX,
    LAYERS,
    OBJECTS,
    SIZE,
    SIZES,
    TEXT,
    TEXTS,
    Keys,
    each,
    words,
)
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA, LLAVA

BASE = "clip"
EXPERTS = ("dinov2", "vary", "codetr", "pix2struct", "deplot", "biomedclip", "sam")
ENCODERS = (BASE, *EXPERTS)  # the order of `mm_vision_tower`, which the original code takes for granted


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a MoVA checkpoint, in order.

    Raises:
        SetupError: no MoVA config.
    """
    listed = config.get("mm_vision_tower")
    if config.get("model_type") != "mova_llama" or not isinstance(listed, list) or len(listed) != len(ENCODERS):
        raise SetupError(
            f"not a MoVA checkpoint: model_type is {config.get('model_type')!r} (expected 'mova_llama') and "
            f"mm_vision_tower is {listed!r} (expected a list of {len(ENCODERS)})"
        )
    return ENCODERS


_KEYS = (
    LLAMA
    | LLAVA
    | Keys(
        read={
            **each(TEXTS, "mm_vision_tower"),
            **each(SIZES, "expert_channels"),
            **each(SIZE, "image_feat_size mm_hidden_size topk_experts num_routing_tokens"),
            **each(LAYERS, "num_projector_layers"),
            **each(INDEX, "mm_vision_select_layer"),
            **each(TEXT, "mm_projector_text_encoder"),
            **each(SIZE.or_null(), "tokenizer_model_max_length"),
            **each(OBJECTS, "encoder_configs"),
        },
        fixed={"mm_projector_type": ("mov_adapter",), "mm_vision_select_feature": ("patch",)},
        idle=words(
            # of training: what was trained lies in the file (arch.py writes `topk`, and reads `topk_experts`)
            "mm_projector_freeze_text_encoder ft_vision_tower ft_vision_tower_last_n_layer mm_vision_tower_lr "
            "unfreeze_mm_vision_tower topk"
        ),
        required=(
            "expert_channels", "image_feat_size", "mm_hidden_size", "topk_experts", "num_routing_tokens",
            "num_projector_layers", "mm_vision_select_layer", "mm_projector_text_encoder", "mm_projector_type",
            # without it the original code crops
            "image_aspect_ratio",
        ),
    )
)  # fmt: skip

FAMILY = Family(
    model_id="mova_masked",
    title="MoVA (CLIP and seven experts that the language model chooses for each question)",
    model="redundancy_eval.model_wrappers.families.mova.model:Mova",
    default="zongzhuofan/llama3-mova-8b",
    encoders=encoders,
    keys=lambda config: _KEYS,
    checkpoints=(Checkpoint("zongzhuofan/llama3-mova-8b", ENCODERS, "mova_llama3", "see its card; Llama 3 inside"),),
    sites=("encoder",),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.mova.recording:MovaRecording",
    costs={
        "clip": (292.7, 1837),
        "dinov2": (1108.1, 3478),
        "vary": (90.9, 974),
        "codetr": (310.6, 4691),
        "pix2struct": (512.8, 2479),
        "deplot": (91.8, 498),
        "biomedclip": (85.8, 35),
        "sam": (637.0, 5961),
    },
    pool=EXPERTS,
    skipped="always, but for clip under routing=fixed; and experts that no question of a batch is routed to",
    settings={
        "encoder_weights": "folder that holds the vocabulary bert-large-uncased; default: the hub",
        "routing": "whose choice of experts counts: free (default; the masked model's, a dropped expert is out of the "
        "pool) or fixed (the full model's, a dropped expert is replaced)",
    },
)
