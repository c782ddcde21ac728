"""What a checkpoint's config.json may say, family by family; no torch needed.

Every key is read, or must have the value that is supported, or is known to decide nothing, or is refused by its name:
a setting that is passed over in silence would give the numbers of another model. Keys that no list names pass where
their value switches nothing on (null, false, "", [], {}) and where they begin with `_`, which transformers keeps for
itself.

Sources: transformers, configuration_utils.py (4.31 to 5.24) and the models' configuration files; NVlabs/EAGLE at
fef95f1, train.py:1036-1180 and eagle/model/eagle_arch.py; cambrian-mllm/cambrian at 539ffc3,
cambrian/train/train_fsdp.py:1552-1761 and cambrian/model/cambrian_arch.py; tsb0601/MMVP at 7635005,
LLaVA/llava/train/train.py:824-960; haotian-liu/LLaVA's released configs; deepseek-ai/DeepSeek-VL at 681bffb;
NVlabs/Eagle at 783f656, Eagle2_5/eaglevl/, and huggingface/transformers at 981d34c,
models/eagle2/configuration_eagle2.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from redundancy_eval.errors import SetupError


@dataclass(frozen=True)
class Kind:
    """What the value of a key must be: in words, and a test."""

    words: str
    fits: Callable[[Any], bool]

    def or_null(self) -> "Kind":
        """The same, or null."""
        return Kind(f"{self.words} or null", lambda value: value is None or self.fits(value))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return (_whole(value) or isinstance(value, float)) and abs(cast(float, value)) < float("inf")


def _ids(value: object) -> bool:
    tokens: list[Any] = value if isinstance(value, list) else [value]
    return all(_whole(token) and abs(token) < 2**31 for token in tokens)


SIZE = Kind("a whole number above 0", lambda value: _whole(value) and 0 < value < 2**31)
LAYERS = Kind("a whole number from 1 to 1000", lambda value: _whole(value) and 1 <= value <= 1000)
COUNT = Kind("a whole number from 0", lambda value: _whole(value) and 0 <= value < 2**31)
INDEX = Kind("a whole number", _whole)
NUMBER = Kind("a number", _number)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
IDS = Kind("a token id, or a list of them, or null", lambda value: value is None or _ids(value))
ABOVE = Kind("a number above 0, or true or false", lambda v: isinstance(v, bool) or (_number(v) and 0 < v < 2**31))
DEPTHS = Kind("a list of depths", lambda value: isinstance(value, list) and all(map(LAYERS.fits, value)))
SMALL_SIZES = Kind(
    "a list of whole numbers from 0 to 100000",
    lambda value: isinstance(value, list) and all(_whole(x) and 0 <= x <= 100_000 for x in value),
)
SIZES = Kind("a list of whole numbers", lambda value: isinstance(value, list) and all(map(_whole, value)))
TEXTS = Kind("a list of texts", lambda v: isinstance(v, list) and all(isinstance(text, str) for text in v))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
OBJECTS = Kind("an object of objects", lambda v: isinstance(v, dict) and all(isinstance(x, dict) for x in v.values()))
_ACTS = (
    "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "quick_gelu", "relu", "tanh",
)  # fmt: skip
ACTIVATION = Kind(f"one of {', '.join(_ACTS)}", lambda value: value in _ACTS)


@dataclass(frozen=True)
class Keys:
    """The keys of a config, or of a part of it.

    `read` are used; `fixed` must have the one value (the first; another spelling of it may follow); `idle` decide
    nothing; `parts` are objects with keys of their own; `required` must be there.
    """

    read: Mapping[str, Kind] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    parts: Mapping[str, "Keys"] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def __or__(self, more: "Keys") -> "Keys":
        return Keys(
            {**self.read, **more.read},
            {**self.fixed, **more.fixed},
            self.idle | more.idle,
            {**self.parts, **more.parts},
            (*self.required, *more.required),
        )


def words(text: str) -> frozenset[str]:
    """Names, by blanks."""
    return frozenset(text.split())


def each(kind: Kind, names: str) -> dict[str, Kind]:
    """The same kind for several keys."""
    return dict.fromkeys(names.split(), kind)


def of_type(model_type: str) -> Keys:
    """What a part of a config must call itself, where it says so."""
    return Keys(fixed={"model_type": (model_type,)})


def check(config: Mapping[str, Any], keys: Keys, where: str = "config.json") -> None:
    """Refuse a config with a key that is neither read nor known to decide nothing.

    Args:
        config: of a checkpoint.
        keys: of its family.
        where: the file, for messages.

    Raises:
        SetupError: the key, and what it must be.
    """
    for path, value in quantised(config):
        method = value.get("quant_method") or value.get("quantization_method") if isinstance(value, dict) else None
        raise SetupError(
            f"{where}: {path}{f' ({method})' if method else ''}: quantised checkpoints are not supported; "
            "take one in bfloat16, float16 or float32"
        )
    _check(config, keys, where, "")
    for name, sizes in (config.get("encoder_configs") or {}).items():
        for key, value in sizes.items():
            kind = _kind_of_size(key)
            if not kind.fits(value):
                raise SetupError(f"{where}: encoder_configs[{name!r}]: {key} must be {kind.words}; not {_shown(value)}")


def _kind_of_size(key: str) -> Kind:
    """What a size in `encoder_configs` must be; which ones an encoder has, it knows itself."""
    if key in ("depth", "layers", "num_hidden_layers"):
        return LAYERS
    if key == "depths":
        return DEPTHS
    if key in ("dims", "downsample_channels", "global_attn_indexes", "window_block_indexes"):
        return SMALL_SIZES
    if key in ("hidden_act", "dense_act_fn"):
        return ACTIVATION
    return ABOVE


def _check(config: Mapping[str, Any], keys: Keys, where: str, start: str) -> None:
    for key, value in config.items():
        name = f"{start}{key}"
        if key in keys.read:
            if not keys.read[key].fits(value):
                raise SetupError(f"{where}: {name} must be {keys.read[key].words}; not {_shown(value)}")
        elif key in keys.fixed:
            if not any(value == only and isinstance(value, bool) == isinstance(only, bool) for only in keys.fixed[key]):
                raise SetupError(f"{where}: {name} must be {keys.fixed[key][0]}; not {_shown(value)}")
        elif key in keys.parts:
            if value is None and key not in keys.required:
                continue
            if not isinstance(value, dict):
                raise SetupError(f"{where}: {name} must be an object; not {_shown(value)}")
            _check(value, keys.parts[key], where, f"{name}.")
        elif key not in keys.idle and not key.startswith("_") and not _off(value):
            raise SetupError(
                f"{where}: {name} is {_shown(value)}, a setting that is not known here and may decide answers"
            )

    absent = [key for key in keys.required if key not in config]
    if absent:
        raise SetupError(f"{where} lacks {', '.join(start + key for key in absent)}")


def _off(value: object) -> bool:
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def quantised(config: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """Where a config says that its weights are quantised: (path of the key, value), parts of the config too."""
    for key, value in config.items():
        if key in ("quantization_config", "compression_config", "quantization") and not _off(value):
            yield f"{start}{key}", value
        elif isinstance(value, dict) and start.count(".") < 10:
            yield from quantised(value, f"{start}{key}.")


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
            raise SetupError(f"{source} must be an object; not {_shown(told)}")
        for key, value in (told or {}).items():
            own, value = ("rope_type", _kind(value)) if key in ("type", "rope_type") else (key, value)
            if value is not None and found.setdefault(own, value) != value:
                raise SetupError(f"{source or key}: {key} is {_shown(value)}, but elsewhere {_shown(found[own])}")
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
        raise SetupError(f"partial_rotary_factor must be 1; not {_shown(found['partial_rotary_factor'])}")
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
        fits = isinstance(value, list) and bool(value) and all(_number(x) and x > 0 for x in value)
    else:
        fits = _number(value) and value > 0 and (key != "factor" or value >= 1)
    if not fits:
        raise SetupError(f"rotary positions: {key} is {_shown(value)}")


# --- parts that families share -------------------------------------------------------------------------------------

# What transformers writes into every config and its models do not compute with. Answers are drawn as the frameworks ask
# (greedily), so settings of generation in a config decide nothing; what ends an answer is read in masked.py.
_EVERY = words(
    "architectures model_type transformers_version torch_dtype dtype use_cache auto_map attn_implementation "
    "use_flash_attn name_or_path gradient_checkpointing torchscript use_bfloat16 tf_legacy_loss return_dict "
    "output_attentions output_hidden_states output_scores return_dict_in_generate id2label label2id num_labels "
    "finetuning_task problem_type task_specific_params tokenizer_class prefix sep_token_id decoder_start_token_id "
    "chunk_size_feed_forward remove_invalid_values tie_encoder_decoder initializer_range initializer_factor "
    # generation
    "max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty "
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size num_return_sequences "
    # dropout is off when a model answers
    "attention_dropout dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop hidden_dropout_prob "
    "attention_probs_dropout_prob drop_path_rate"
)
EVERY = Keys(idle=_EVERY)

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
_LLAMA = _LANGUAGE | Keys(
    read={**each(FLAG, "attention_bias mlp_bias"), **each(SIZE.or_null(), "head_dim")},
    idle=words("pretraining_tp"),  # sliced matrix products: the same sums
)
LLAMA = _LLAMA | Keys(required=_SIZES_OF_LANGUAGE)
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
_VISION = EVERY | Keys(
    read={
        **each(SIZE, "hidden_size intermediate_size num_attention_heads image_size patch_size"),
        **each(LAYERS, "num_hidden_layers"),
        **each(NUMBER, "layer_norm_eps"),
        **each(ACTIVATION, "hidden_act"),
    },
    fixed={"num_channels": (3,)},
    idle=words(
        "projection_dim tie_word_embeddings bos_token_id eos_token_id pad_token_id vision_use_head num_image_tokens"
    ),  # of the head that compares pictures with texts, which no family uses
)
CLIP_VISION = _VISION
CLIP = EVERY | Keys(
    parts={"vision_config": CLIP_VISION, "vision_config_dict": CLIP_VISION},
    idle=words("text_config text_config_dict logit_scale_init_value projection_dim tie_word_embeddings"),
)
SIGLIP_VISION = _VISION
SAM_VISION = _VISION | Keys(
    read={
        **each(SIZE, "output_channels mlp_dim"),
        **each(NUMBER, "mlp_ratio"),
        **each(COUNT, "window_size"),
        **each(SIZES, "global_attn_indexes"),
        **each(FLAG, "qkv_bias use_abs_pos use_rel_pos"),
    },
    idle=words("intermediate_size num_pos_feats"),
)
DINOV2 = EVERY | Keys(
    read={
        **each(SIZE, "hidden_size num_attention_heads image_size patch_size mlp_ratio"),
        **each(LAYERS, "num_hidden_layers"),
        **each(NUMBER, "layer_norm_eps"),
        **each(FLAG, "use_swiglu_ffn qkv_bias"),
        **each(ACTIVATION, "hidden_act"),
    },
    fixed={"num_channels": (3,)},
    # of its use as a backbone; the layer scale is a tensor of the file
    idle=words(
        "apply_layernorm reshape_hidden_states out_features out_indices stage_names layerscale_value use_mask_token "
        "tie_word_embeddings"
    ),
)

# --- families ------------------------------------------------------------------------------------------------------

# How LLaVA's training code was run; what it trained lies in the file.
_TRAINING = words(
    "freeze_mm_mlp_adapter tune_mm_mlp_adapter freeze_mm_vision_resampler tune_mm_vision_resampler mm_projector_lr "
    "use_mm_proj tokenizer_padding_side freeze_vision tune_mm_mlp_adapter_intern mm_vision_sampler_lr"
)
_LLAVA = Keys(
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

EAGLE = (
    LLAMA
    | _LLAVA
    | Keys(
        read={
            **each(TEXT, "mm_vision_tower"),
            **each(SIZE, "image_size grid_size"),
            **each(SIZE.or_null(), "mm_hidden_size tokenizer_model_max_length"),
            **each(OBJECTS, "encoder_configs"),
        },
        fixed={"mm_projector_type": ("mlp2x_gelu",)},
        idle=words(
            # passed over by Eagle's towers (hr_clip_encoder.py, multi_backbone_...encoder.py)
            "mm_vision_select_layer mm_vision_select_feature mm_projector_query_number "
            # the encoders' weights, trained on or not, lie in the checkpoint
            "unfreeze_mm_vision_tower mm_vision_tower_lr"
        ),
    )
)

_CAMBRIAN = _LLAVA | Keys(
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


def cambrian(config: Mapping[str, Any]) -> Keys:
    """Keys of a Cambrian-1 checkpoint, on Phi-3 or on Llama."""
    return (PHI3 if language_of(config) == "phi3" else LLAMA) | _CAMBRIAN


def language_of(config: Mapping[str, Any]) -> str:
    """`phi3` or `llama`, told from `model_type` or `architectures`; "" for another."""
    architectures = config.get("architectures")
    named = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    told = f"{config.get('model_type')} {' '.join(named)}".lower()
    return next((name for name in ("phi3", "llama") if name in told), "")


IMOF = (
    LLAMA
    | _LLAVA
    | Keys(
        read={
            **each(TEXT, "mm_vision_tower"),
            **each(SIZE, "mm_hidden_size image_size grid_size"),
            **each(INDEX, "mm_vision_select_layer"),
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


def _deepseek_tower(model: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Keys:
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


_DEEPSEEK_ORIGINAL = EVERY | Keys(
    read=each(OBJECTS, "encoder_configs"),
    idle=words("tie_word_embeddings bos_token_id eos_token_id pad_token_id"),  # the language model's own count
    parts={
        "language_config": _LLAMA | of_type("llama"),
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
                        "high_res_cfg": _deepseek_tower(
                            "sam", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
                        ),
                        "low_res_cfg": _deepseek_tower("siglip", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
                    },
                )
            },
        ),
    },
)
_DEEPSEEK_NATIVE = EVERY | Keys(
    read=each(FLAG.or_null(), "tie_word_embeddings"),
    idle=words("image_token_id bos_token_id eos_token_id pad_token_id"),
    parts={
        "text_config": _LLAMA | of_type("llama"),
        "vision_config": SIGLIP_VISION | of_type("siglip_vision_model"),
        "high_res_vision_config": SAM_VISION | of_type("sam_vision_model"),
    },
)  # what a part leaves out is transformers' default


def deepseek_vl(config: Mapping[str, Any]) -> Keys:
    """Keys of DeepSeek-VL-7B, as released or as transformers converts it."""
    return _DEEPSEEK_NATIVE if config.get("model_type") == "deepseek_vl_hybrid" else _DEEPSEEK_ORIGINAL


EAGLE2 = EVERY | Keys(
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
            parts={"siglip_vision_config": SIGLIP_VISION | of_type("siglip_vision_model")},
        ),
    },
    required=("llm_config", "vision_config"),
)
