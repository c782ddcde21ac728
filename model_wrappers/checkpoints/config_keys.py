"""What a checkpoint's config.json may say: the lists of keys are the families' and the encoders'; no torch needed.

Every key is read, or must have the value that is supported, or is known to decide nothing, or is refused by its name:
a setting that is passed over in silence would give the numbers of another model. Keys that no list names pass where
their value switches nothing on (null, false, "", [], {}) and where they begin with `_`, which transformers keeps for
itself.

Source: transformers, configuration_utils.py (4.31 to 5.24) and the models' configuration files.
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


def number(value: object) -> bool:
    """Whether a value of JSON is a finite number."""
    return (_whole(value) or isinstance(value, float)) and abs(cast(float, value)) < float("inf")


def _ids(value: object) -> bool:
    tokens: list[Any] = value if isinstance(value, list) else [value]
    return all(_whole(token) and abs(token) < 2**31 for token in tokens)


SIZE = Kind("a whole number above 0", lambda value: _whole(value) and 0 < value < 2**31)
LAYERS = Kind("a whole number from 1 to 1000", lambda value: _whole(value) and 1 <= value <= 1000)
COUNT = Kind("a whole number from 0", lambda value: _whole(value) and 0 <= value < 2**31)
INDEX = Kind("a whole number", _whole)
NUMBER = Kind("a number", number)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
IDS = Kind("a token id, or a list of them, or null", lambda value: value is None or _ids(value))
ABOVE = Kind("a number above 0, or true or false", lambda v: isinstance(v, bool) or (number(v) and 0 < v < 2**31))
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
            read={**self.read, **more.read},
            fixed={**self.fixed, **more.fixed},
            idle=self.idle | more.idle,
            parts={**self.parts, **more.parts},
            required=(*self.required, *more.required),
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
                raise SetupError(f"{where}: encoder_configs[{name!r}]: {key} must be {kind.words}; not {shown(value)}")


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
                raise SetupError(f"{where}: {name} must be {keys.read[key].words}; not {shown(value)}")
        elif key in keys.fixed:
            if not any(value == only and isinstance(value, bool) == isinstance(only, bool) for only in keys.fixed[key]):
                raise SetupError(f"{where}: {name} must be {keys.fixed[key][0]}; not {shown(value)}")
        elif key in keys.parts:
            if value is None and key not in keys.required:
                continue
            if not isinstance(value, dict):
                raise SetupError(f"{where}: {name} must be an object; not {shown(value)}")
            _check(value, keys.parts[key], where, f"{name}.")
        elif key not in keys.idle and not key.startswith("_") and not _off(value):
            raise SetupError(
                f"{where}: {name} is {shown(value)}, a setting that is not known here and may decide answers"
            )

    absent = [key for key in keys.required if key not in config]
    if absent:
        raise SetupError(f"{where} lacks {', '.join(start + key for key in absent)}")


def _off(value: object) -> bool:
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def shown(value: object) -> str:
    """A value for a message, at most about 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def quantised(config: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """Where a config says that its weights are quantised: (path of the key, value), parts of the config too."""
    for key, value in config.items():
        if key in ("quantization_config", "compression_config", "quantization") and not _off(value):
            yield f"{start}{key}", value
        elif isinstance(value, dict) and start.count(".") < 10:
            yield from quantised(value, f"{start}{key}.")


# What transformers writes into every config and its models do not compute with. Answers are drawn as the frameworks ask
# (greedily), so settings of generation in a config decide nothing; what ends an answer is read in masking/loading.py.
EVERY = Keys(
    idle=words(
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
)
