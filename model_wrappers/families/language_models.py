"""The language models of the families, built from what a config says (language_keys.py lists its keys)."""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, Phi3Config, Qwen2Config

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import language_keys

_SHARED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps",
    "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_LLAMA = (*_SHARED, "tie_word_embeddings", "attention_bias", "mlp_bias", "head_dim")
_PHI3 = (*_SHARED, "tie_word_embeddings", "original_max_position_embeddings", "sliding_window")
_QWEN2 = (*_SHARED, "use_sliding_window", "sliding_window", "max_window_layers", "layer_types")


def llama(config: Mapping[str, Any], attention: str | None = None) -> LlamaConfig:
    """A Llama, of its part of a config.

    Raises:
        SetupError: sizes that do not fit each other, or rotary positions that are not known.
    """
    return _made(LlamaConfig, config, _LLAMA, language_keys.rope(config), attention)


def phi3(config: Mapping[str, Any], attention: str | None = None) -> Phi3Config:
    """A Phi-3, of its part of a config.

    The sliding window is the config's: Phi-3-mini-4k says 2047, and both the original code and transformers then mask
    what is further back.

    Raises:
        SetupError: as for `llama`.
    """
    rope = language_keys.rope(config, language_keys.PHI3_ROPE_KINDS, partial=True)
    return _made(Phi3Config, config, _PHI3, rope, attention)


def qwen2(config: Mapping[str, Any], attention: str | None = None) -> Qwen2Config:
    """A Qwen2, of its part of a config; its output layer is a tensor of its own.

    Raises:
        SetupError: as for `llama`.
    """
    return _made(Qwen2Config, config, _QWEN2, language_keys.rope(config), attention, tie_word_embeddings=False)


def tied(*configs: Mapping[str, Any]) -> dict[str, str]:
    """The output layer's tensor and that of the embeddings, where one of these parts of a config ties the two."""
    one = any(config.get("tie_word_embeddings") for config in configs)
    return {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"} if one else {}


def _made(
    kind: Any,
    config: Mapping[str, Any],
    keys: tuple[str, ...],
    rope: dict[str, Any],
    attention: str | None,
    **more: Any,
) -> Any:
    told = {key: config[key] for key in keys if key in config}
    if told.get("tie_word_embeddings", False) is None:
        del told["tie_word_embeddings"]
    try:
        made = kind(**told, **more, rope_parameters=rope, attn_implementation=attention)
    except Exception as error:
        # transformers refuses in many ways what its checks of types and sizes find.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(f"transformers takes no {kind.model_type} of this config: {reason}") from error
    if made.num_attention_heads % made.num_key_value_heads:
        raise SetupError(
            f"num_attention_heads is {made.num_attention_heads}, no multiple of num_key_value_heads "
            f"{made.num_key_value_heads}"
        )
    return made
