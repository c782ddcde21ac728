"""What the part of a config that describes a language model may say, and what LLaVA's training writes beside it.

No torch needed. Sources: transformers' configuration files; haotian-liu/LLaVA's released configs.
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
    SIZE,
    TEXTS,
    Keys,
    each,
    number,
    shown,
    words,
)  # fmt: skip

# --- rotary positions ----------------------------------------------------------------------------------------------

# Kind of scaling -> keys that it must have, and those that it may have.
_ROPE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "yarn": (
        ("factor",),
        ("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
         "truncate"),
    ),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "longrope": (("short_factor", "long_factor"), ("factor", "attention_factor", "original_max_position_embeddings")),
}  # fmt: skip
_ROPE_KINDS = tuple(_ROPE)
# Phi-3's own code knows one scaling, first called `su`; its `yarn` was another formula than transformers' has now.
PHI3_ROPE_KINDS = ("default", "longrope")


def rope(
    config: Mapping[str, Any], kinds: tuple[str, ...] = _ROPE_KINDS, partial: bool = False, theta: float = 10000.0
) -> dict[str, Any]:
    """Rotary positions as transformers 5 takes them, of a config that says them in its way or in an older one.

    `rope_parameters` (transformers 5), `rope_scaling` with `rope_type` (2024) or `type` (before), and `rope_theta`
    beside them; where several say the same thing, they must agree.

    Args:
        config: the language model's part.
        kinds: of scaling that the model has.
        partial: whether the model can turn a part of a head only (`partial_rotary_factor`).
        theta: the base where the config is silent.

    Raises:
        SetupError: an unknown kind or key, a value that is none, or two that differ.
    """
    found: dict[str, Any] = {}
    beside = {key: config.get(key) for key in ("rope_theta", "partial_rotary_factor")}
    for source, told in (
        ("rope_parameters", config.get("rope_parameters")), ("rope_scaling", config.get("rope_scaling")), ("", beside),
    ):  # fmt: skip
        if told is not None and not isinstance(told, Mapping):
            raise SetupError(f"{source} must be an object; not {shown(told)}")
        for key, value in (told or {}).items():
            own, value = ("rope_type", _kind(value)) if key in ("type", "rope_type") else (key, value)
            if value is not None and found.setdefault(own, value) != value:
                raise SetupError(f"{source or key}: {key} is {shown(value)}, but elsewhere {shown(found[own])}")
    kind = found.setdefault("rope_type", "default")
    if kind not in kinds:
        raise SetupError(f"rotary positions of kind {kind!r} are not known for this model; known: {', '.join(kinds)}")
    must, may = _ROPE[kind]
    absent = [key for key in must if key not in found]
    if absent:
        raise SetupError(f"rotary positions of kind {kind} need {', '.join(absent)}")
    for key, value in found.items():
        if key not in ("rope_type", "rope_theta", "partial_rotary_factor", *must, *may):
            raise SetupError(f"rotary positions of kind {kind} have no setting {key!r}")
        _check_rope(key, value)
    if found.get("partial_rotary_factor", 1) != 1 and not partial:
        raise SetupError(f"partial_rotary_factor must be 1; not {shown(found['partial_rotary_factor'])}")
    if not partial:
        found.pop("partial_rotary_factor", None)
    return {"rope_theta": theta, **found}


def _kind(value: object) -> object:
    return "longrope" if value == "su" else value


def _check_rope(key: str, value: Any) -> None:
    if key == "rope_type":
        return
    if key == "truncate":
        fits = isinstance(value, bool)
    elif key in ("short_factor", "long_factor"):
        fits = isinstance(value, list) and bool(value) and all(number(x) and x > 0 for x in value)
    else:
        fits = number(value) and value > 0 and (key != "factor" or value >= 1)
    if not fits:
        raise SetupError(f"rotary positions: {key} is {shown(value)}")


# --- language models ---------------------------------------------------------------------------------------------

_LANGUAGE = EVERY | Keys(
    read={
        **each(SIZE, "vocab_size hidden_size intermediate_size num_attention_heads max_position_embeddings"),
        **each(LAYERS, "num_hidden_layers"),
        **each(SIZE.or_null(), "num_key_value_heads"),
        **each(NUMBER, "rms_norm_eps"),
        **each(NUMBER.or_null(), "rope_theta partial_rotary_factor"),
        **each(OBJECT.or_null(), "rope_scaling rope_parameters"),
        **each(FLAG.or_null(), "tie_word_embeddings"),
        **each(ACTIVATION, "hidden_act"),
        **each(IDS, "bos_token_id eos_token_id pad_token_id"),
    },
)
_SIZES_OF_LANGUAGE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LLAMA_PART = _LANGUAGE | Keys(
    read={**each(FLAG, "attention_bias mlp_bias"), **each(SIZE.or_null(), "head_dim")},
    idle=words("pretraining_tp"),  # sliced matrix products: the same sums
)
LLAMA = LLAMA_PART | Keys(required=_SIZES_OF_LANGUAGE)
PHI3 = _LANGUAGE | Keys(
    read={**each(SIZE.or_null(), "sliding_window"), **each(SIZE, "original_max_position_embeddings")},
    required=_SIZES_OF_LANGUAGE,
)
QWEN2 = _LANGUAGE | Keys(
    read={
        **each(FLAG, "use_sliding_window"),
        **each(SIZE.or_null(), "sliding_window"),
        **each(COUNT, "max_window_layers"),
        **each(TEXTS.or_null(), "layer_types"),
    },
    required=_SIZES_OF_LANGUAGE,
)

# --- LLaVA ---------------------------------------------------------------------------------------------------------

# How LLaVA's training code was run; what it trained lies in the file.
_TRAINING = words(
    "freeze_mm_mlp_adapter tune_mm_mlp_adapter freeze_mm_vision_resampler tune_mm_vision_resampler mm_projector_lr "
    "use_mm_proj tokenizer_padding_side freeze_vision tune_mm_mlp_adapter_intern mm_vision_sampler_lr"
)
LLAVA = Keys(
    fixed={
        "image_aspect_ratio": ("pad",),
        "mm_use_im_start_end": (False,),
        "mm_patch_merge_type": ("flat",),
    },
    idle=_TRAINING
    # adds a token to the tokenizer, which no prompt has (builder.py)
    | words("mm_use_im_patch_token")
    # of the cutting of pictures (image_aspect_ratio anyres)
    | words("image_grid_pinpoints image_crop_resolution image_split_resolution"),
)
