"""What is said of Prismatic and OpenVLA without their code.

Sources: TRI-ML/prismatic-vlms at 874c5bb, prismatic/conf/models.py, prismatic/models/{materialize,registry}.py,
scripts/pretrain.py; openvla/openvla at c8f03f4, prismatic/extern/hf/configuration_prismatic.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    EVERY,
    FLAG,
    IDS,
    OBJECTS,
    SIZE,
    SIZES,
    TEXT,
    Keys,
    Kind,
    each,
    of_type,
    words,
)
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family
from redundancy_eval.model_wrappers.families.language_keys import LLAMA_PART

POLICIES = ("resize-naive", "resize-crop", "letterbox")


@dataclass(frozen=True)
class Encoder:
    """A vision encoder: its timm model, its hub repository, its activation and its released sizes."""

    timm_model: str
    repository: str
    sizes: Mapping[str, Any]
    activation: str = "gelu"


@dataclass(frozen=True)
class Vision:
    """One vision encoder, or two whose channels are concatenated in this order, and the side of their pixels."""

    image_size: int
    encoders: Mapping[str, Encoder]


_LARGE = dict(depth=24, embed_dim=1024, num_heads=16, patch_size=14)
_SO400M = dict(depth=27, embed_dim=1152, num_heads=16, patch_size=14)
_DINO = {"dinov2": Encoder("vit_large_patch14_reg4_dinov2", "timm/vit_large_patch14_reg4_dinov2.lvd142m", _LARGE)}


def _siglip(size: int, repository: str) -> dict[str, Encoder]:
    return {"siglip": Encoder(f"vit_so400m_patch14_siglip_{size}", f"timm/{repository}", _SO400M)}


def _clip(size: int, activation: str) -> dict[str, Encoder]:
    name = f"vit_large_patch14_clip_{size}"
    return {"clip": Encoder(name, f"timm/{name}.openai", _LARGE, activation)}


_SIGLIP_224, _SIGLIP_384 = _siglip(224, "ViT-SO400M-14-SigLIP"), _siglip(384, "ViT-SO400M-14-SigLIP-384")
# `vision_backbone_id` -> encoders; the repositories are those of timm 0.9.10. CLIP alone has the quick GELU that it was
# trained with (clip_vit.py:26), CLIP beside DINOv2 the exact one (dinoclip_vit.py passes none).
VISIONS = {
    "dinosiglip-vit-so-224px": Vision(224, _DINO | _SIGLIP_224),
    "dinosiglip-vit-so-384px": Vision(384, _DINO | _SIGLIP_384),
    "dinoclip-vit-l-336px": Vision(336, _DINO | _clip(336, "gelu")),
    "dinov2-vit-l": Vision(224, _DINO),
    "siglip-vit-so400m": Vision(224, _SIGLIP_224),
    "siglip-vit-so400m-384px": Vision(384, _SIGLIP_384),
    "clip-vit-l": Vision(224, _clip(224, "quick_gelu")),
    "clip-vit-l-336px": Vision(336, _clip(336, "quick_gelu")),
}


@dataclass(frozen=True)
class Language:
    """A language model: its hub repository, the prompt builder of models on it, and its sizes."""

    repository: str
    template: str
    sizes: Mapping[str, Any]


# What these Llamas' config.json say; the embeddings have rows for a padding token, padded to a multiple of 64.
_LLAMA2 = dict(vocab_size=32064, max_position_embeddings=4096, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
_7B = _LLAMA2 | dict(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32
)
_13B = _LLAMA2 | dict(
    hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40, num_key_value_heads=40
)
# `llm_backbone_id` -> language model (prismatic/models/backbones/llm/llama2.py).
LANGUAGES = {
    "llama2-7b-pure": Language("meta-llama/Llama-2-7b-hf", "prismatic_pure", _7B),
    "llama2-13b-pure": Language("meta-llama/Llama-2-13b-hf", "prismatic_pure", _13B),
    "llama2-7b-chat": Language("meta-llama/Llama-2-7b-chat-hf", "prismatic_llama2", _7B),
    "llama2-13b-chat": Language("meta-llama/Llama-2-13b-chat-hf", "prismatic_llama2", _13B),
    "vicuna-v15-7b": Language("lmsys/vicuna-7b-v1.5", "prismatic_vicuna", _7B),
    "vicuna-v15-13b": Language("lmsys/vicuna-13b-v1.5", "prismatic_vicuna", _13B),
}


def converted(config: Mapping[str, Any]) -> bool:
    """Whether a config is of the form that transformers reads (OpenVLA, converted Prismatic), not the original's."""
    return config.get("model_type") in ("prismatic", "openvla")


def told(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the model."""
    return config if converted(config) else config["model"]


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of a checkpoint, in the order of the concatenation: DINOv2, then SigLIP or CLIP; or one alone.

    Raises:
        SetupError: no Prismatic config, or one with other encoders.
    """
    model = config if converted(config) else config.get("model")
    named = model.get("vision_backbone_id") if isinstance(model, Mapping) else None
    if not isinstance(named, str):
        raise SetupError(
            f"not a Prismatic or OpenVLA checkpoint: model_type is {config.get('model_type')!r} (expected 'openvla' or "
            "'prismatic') and no part `model` names a vision_backbone_id"
        )
    if named not in VISIONS:
        raise SetupError(f"vision_backbone_id is {named!r}; supported are {', '.join(VISIONS)}")
    return tuple(VISIONS[named].encoders)


def vision(config: Mapping[str, Any]) -> Vision:
    """The vision encoders that a config names."""
    return VISIONS[told(config)["vision_backbone_id"]]


def repositories(config: Mapping[str, Any]) -> dict[str, str]:
    """The hub repository of each encoder; {} for the converted form, which holds them."""
    if converted(config):
        return {}
    encoders(config)
    return {name: encoder.repository for name, encoder in vision(config).encoders.items()}


def language(config: Mapping[str, Any]) -> Language:
    """The language model that a config names.

    Raises:
        SetupError: one that is not supported.
    """
    named = told(config).get("llm_backbone_id")
    if named not in LANGUAGES:
        raise SetupError(
            f"llm_backbone_id is {named!r}; supported are {', '.join(LANGUAGES)} (no pair of encoders was released on "
            "another)"
        )
    return LANGUAGES[named]


def tokenizer(config: Mapping[str, Any]) -> str:
    """The hub repository of the tokenizer, that of the language model; "" for the converted form, which holds it."""
    return "" if converted(config) else language(config).repository


_POLICY = Kind(f"one of {', '.join(POLICIES)}", lambda value: value in POLICIES)
_ACTS = Kind(
    "a list of null, 'gelu' or 'quick_gelu'",
    lambda v: isinstance(v, list) and all(act in (None, "gelu", "quick_gelu") for act in v),
)
_TIMM = Kind("a list of timm models' names", lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v))
_MODEL = Keys(
    read={
        **each(TEXT, "vision_backbone_id llm_backbone_id arch_specifier"),
        "image_resize_strategy": _POLICY,
        **each(SIZE, "llm_max_length"),
    },
    required=("vision_backbone_id", "llm_backbone_id", "image_resize_strategy"),
)
_TRAINED = words(
    "epochs max_steps global_batch_size per_device_batch_size learning_rate weight_decay max_grad_norm "
    "lr_scheduler_type warmup_ratio train_strategy"
)
_TRAINING = {f"{stage}_{key}" for stage in ("align", "finetune") for key in _TRAINED} | words(
    "type model_id enable_gradient_checkpointing enable_mixed_precision_training reduce_in_full_precision"
)
_LANGUAGE = LLAMA_PART | of_type("llama")
_ORIGINAL = Keys(
    read=each(OBJECTS, "encoder_configs"),
    # Where the encoders were trained on (`full-finetune`), the file holds them; the original code passes them over and
    # OpenVLA's copy of it reads them. No pair was released so.
    fixed={"stage": ("finetune",)},
    idle=words(
        "dataset pretrained_checkpoint run_id run_root_dir seed hf_token trackers wandb_project wandb_entity"
    ),  # of the training run
    parts={
        "model": _MODEL | Keys(idle=frozenset(_TRAINING)),
        "text_config": _LANGUAGE,
    },
    required=("model",),
)
_CONVERTED = (
    EVERY
    | _MODEL
    | Keys(
        read={
            **each(SIZE, "n_action_bins pad_to_multiple_of"),
            **each(OBJECTS, "encoder_configs"),
            **each(OBJECTS.or_null(), "norm_stats"),
            **each(IDS, "pad_token_id bos_token_id eos_token_id"),
            "timm_model_ids": _TIMM,
            "timm_override_act_layers": _ACTS,
            "image_sizes": SIZES,
            "use_fused_vision_backbone": FLAG.or_null(),
        },
        fixed={"output_projector_states": (False,)},
        idle=words("hf_llm_id tie_word_embeddings is_composition"),
        parts={"text_config": _LANGUAGE},
    )
)


def keys(config: Mapping[str, Any]) -> Keys:
    """Keys of the original's config, or of the converted form's."""
    return _CONVERTED if converted(config) else _ORIGINAL


_HUB = "TRI-ML/prismatic-vlms"
_SIGLIP_PAIR, _CLIP_PAIR = ("dinov2", "siglip"), ("dinov2", "clip")
_WEIGHTS = "MIT; Llama 2 inside"


def _released(name: str, pair: tuple[str, ...], template: str) -> Checkpoint:
    return Checkpoint(f"{_HUB}/{name}", pair, template, _WEIGHTS)


FAMILY = Family(
    model_id="prismatic_masked",
    title="Prismatic and OpenVLA (DINOv2 with SigLIP or CLIP, channel concatenation)",
    model="redundancy_eval.model_wrappers.families.prismatic.model:Prismatic",
    default=f"{_HUB}/prism-dinosiglip+7b",
    encoders=encoders,
    keys=keys,
    # The pairs of prismatic/models/registry.py, all that were released, and the models of one of their encoders that
    # were trained in the same way: what a masked pair may be set beside (docs/families.md).
    checkpoints=(
        *(
            _released(f"prism-dinosiglip{kind}", _SIGLIP_PAIR, "prismatic_pure")
            for kind in ("+7b", "+13b", "-controlled+7b", "-controlled+13b", "-224px+7b", "-224px-controlled+7b")
        ),
        *(
            _released(f"{pair}-{policy}+7b", encoders_, "prismatic_vicuna")
            for pair, encoders_ in (("dinosiglip-384px", _SIGLIP_PAIR), ("dinoclip-336px", _CLIP_PAIR))
            for policy in ("letterbox", "resize-naive")
        ),
        *(
            _released(f"prism-{name}-controlled{size}", (name,), "prismatic_pure")
            for name in ("siglip", "clip")
            for size in ("+7b", "+13b")
        ),
        _released("clip-336px-resize-naive+7b", ("clip",), "prismatic_vicuna"),
        _released("siglip-384px-letterbox+7b", ("siglip",), "prismatic_vicuna"),
        _released("siglip-384px-resize-naive+7b", ("siglip",), "prismatic_vicuna"),
        Checkpoint("openvla/openvla-7b", _SIGLIP_PAIR, "openvla", _WEIGHTS),
        Checkpoint("openvla/openvla-7b-v01", _SIGLIP_PAIR, "openvla_v01", _WEIGHTS),
    ),
    sites=("encoder",),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.prismatic.recording:PrismaticRecording",
    costs={"dinov2": (291.1, 476), "siglip": (397.7, 642), "clip": (290.9, 366)},  # at 384, 384 and 336 pixels
    skipped="always",
    settings={
        "encoder_weights": "folder that holds the encoders' hub repositories as ORG/NAME; default: the hub (OpenVLA "
        "holds its own)",
        "tokenizer": "folder or hub id of the tokenizer; default: the checkpoint's, or that of its language model on "
        "the hub",
        "actions": "OpenVLA: the data set (a key of norm_stats) in whose units actions are shown; default: the only "
        "one, or the numbers of the bins",
    },
    repositories=repositories,
    tokenizer=tokenizer,
    images_first=True,  # whatever the text says, they come right after its first token
)
