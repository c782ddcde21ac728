"""What is said of DeepSeek-OCR and Unlimited-OCR without their code.

Sources of the keys: the hub's files of deepseek-ai/DeepSeek-OCR (a public copy, gustavoMarajo/ia_ds_ocr at ac73f84:
configuration_deepseek_v2.py, modeling_deepseekv2.py) and of baidu/Unlimited-OCR (moyuan10086/Unlimited-OCR-NPU at
7718917); transformers 5.24, models/unlimited_ocr.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    ACTIVATION,
    COUNT,
    EVERY,
    FLAG,
    IDS,
    LAYERS,
    NUMBER,
    OBJECT,
    OBJECTS,
    SIZE,
    SIZES,
    TEXTS,
    Keys,
    each,
    of_type,
    words,
)
from redundancy_eval.model_wrappers.encoders.vision_keys import SAM_VISION, VISION
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family

ENCODERS = ("clip", "sam")
# model_type -> most tiles of an image, as the original code of each has it.
MOST_TILES = {"deepseek_vl_v2": 9, "unlimited-ocr": 32}
NATIVE = "unlimited_ocr"  # transformers' conversion of either
WINDOW = "sliding_window"
# What the config says of the language model at its top and once more in `language_config`.
SIZES_OF_LANGUAGE = (
    "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_attention_heads",
    "num_key_value_heads", "num_hidden_layers", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
    "first_k_dense_replace", "max_position_embeddings", "rms_norm_eps", "rope_theta", "routed_scaling_factor",
    "hidden_act", "sliding_window_size",
)  # fmt: skip


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a checkpoint, original or converted: CLIP and SAM, in the order of their channels.

    Raises:
        SetupError: another model's config; DeepSeek-OCR-2, whose encoders stand in one line.
    """
    kind = config.get("model_type")
    if kind in ("deepseek_ocr2", "deepseek_ocr_2"):
        raise SetupError(
            "DeepSeek-OCR-2 has SAM and, behind it, one encoder whose output alone is used: no two to compare"
        )
    architectures = config.get("architectures")
    architectures = architectures if isinstance(architectures, list) else []
    # DeepSeek-VL2 has the same model_type.
    if kind == NATIVE or kind == "unlimited-ocr" or (kind == "deepseek_vl_v2" and _IS in architectures):
        return ENCODERS
    raise SetupError(
        f"not a DeepSeek-OCR checkpoint: model_type is {kind!r} with architectures {architectures} (expected "
        f"'deepseek_vl_v2' with {_IS!r}, 'unlimited-ocr', or {NATIVE!r})"
    )


_IS = "DeepseekOCRForCausalLM"
_LANGUAGE = EVERY | Keys(
    read={
        **each(
            SIZE,
            "vocab_size hidden_size intermediate_size moe_intermediate_size num_attention_heads n_routed_experts "
            "n_shared_experts num_experts_per_tok max_position_embeddings",
        ),
        **each(LAYERS, "num_hidden_layers"),
        **each(COUNT, "first_k_dense_replace"),
        **each(SIZE.or_null(), f"num_key_value_heads {WINDOW} sliding_window_size"),
        **each(NUMBER, "rms_norm_eps routed_scaling_factor"),
        **each(NUMBER.or_null(), "rope_theta"),
        **each(OBJECT.or_null(), "rope_scaling rope_parameters"),
        **each(FLAG.or_null(), "tie_word_embeddings"),
        **each(FLAG, "attention_bias mlp_bias"),
        **each(ACTIVATION, "hidden_act"),
        **each(IDS, "bos_token_id eos_token_id pad_token_id"),
    },
    fixed={
        "use_mla": (False,),
        "topk_method": ("greedy",),
        "scoring_func": ("softmax",),
        "norm_topk_prob": (False,),
        "moe_layer_freq": (1,),
        "ep_size": (1,),
        "lm_head": (True,),
    },
    # of the other attention (use_mla), of grouped experts (greedy knows no groups), and of training
    idle=words(
        "kv_lora_rank q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim head_dim n_group topk_group "
        "aux_loss_alpha seq_aux pretraining_tp rm_head output_router_logits"
    ),
    required=(
        "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_attention_heads",
        "num_hidden_layers", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
    ),
)  # fmt: skip
_ORIGINAL = _LANGUAGE | Keys(
    read=each(OBJECTS, "encoder_configs"),
    # not read by the original code: its sizes are hard-coded (deepencoder.py:500-530, 1010-1040)
    idle=words("candidate_resolutions global_view_pos tile_tag vision_config"),
    parts={
        "language_config": _LANGUAGE,
        "projector_config": EVERY | Keys(fixed={"projector_type": ("linear",)}, idle=words("input_dim n_embed")),
    },
    required=("use_mla",),  # true where a config is silent
)
_NATIVE = EVERY | Keys(
    read=each(FLAG.or_null(), "tie_word_embeddings"),
    idle=words("image_token_id bos_token_id eos_token_id pad_token_id"),
    parts={
        "text_config": _LANGUAGE
        | of_type("unlimited_ocr_text")
        | Keys(read=each(TEXTS.or_null(), "mlp_layer_types layer_types")),
        "vision_config": EVERY
        | of_type("unlimited_ocr_vision")
        | Keys(
            parts={
                "sam_config": SAM_VISION
                | of_type("unlimited_ocr_sam_vision_model")
                | Keys(read=each(SIZES, "downsample_channels")),
                "encoder_config": VISION | of_type("unlimited_ocr_vision_encoder"),
            }
        ),
    },
    required=("text_config",),
)  # what a part leaves out is transformers' default


def keys(config: Mapping[str, Any]) -> Keys:
    """Keys of a checkpoint, as released or as transformers converts it."""
    return _NATIVE if config.get("model_type") == NATIVE else _ORIGINAL


FAMILY = Family(
    model_id="deepseek_ocr_masked",
    title="DeepSeek-OCR, Unlimited-OCR (SAM feeds CLIP; two halves of one vector)",
    model="redundancy_eval.model_wrappers.families.deepseek_ocr.model:DeepseekOcr",
    default="deepseek-ai/DeepSeek-OCR",
    encoders=encoders,
    keys=keys,
    checkpoints=tuple(
        Checkpoint(hub_id, ENCODERS, "plain", "MIT") for hub_id in ("deepseek-ai/DeepSeek-OCR", "baidu/Unlimited-OCR")
    ),
    sites=("encoder",),
    checked_with="recorded tensors (DeepSeek-OCR)",
    recording="redundancy_eval.model_wrappers.families.deepseek_ocr.recording:DeepseekOcrRecording",
    costs={"clip": (302.6, 162), "sam": (95.6, 977)},  # of a view of 1024 pixels; a tile of 640: 62 and 326
    skipped="but for SAM, which CLIP sees through; `chain=cut` blinds CLIP and skips it",
    settings={
        "mode": "resolution: tiny, small, base, large or gundam (the default: tiles and a global view)",
        "base_size": "side of gundam's global view in pixels (1024)",
        "image_size": "side of the image without tiles in pixels; with tiles it must be 640",
        "crop_mode": "true: tiles and a global view; false: the whole image alone; `mode` says it where left out",
        "max_tiles": "most tiles of an image (default: 9 for DeepSeek-OCR, 32 for Unlimited-OCR)",
        "chain": "keep (the default: a dropped SAM still feeds CLIP) or cut (CLIP sees zeros instead)",
    },
)
