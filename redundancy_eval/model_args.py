"""Model arguments (`--model_args key=value,...`): how they are read, and which of them decide an answer."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from redundancy_eval.errors import DataError, SetupError

# What an argument decides: `mask` which encoders are dropped; `stand-in` what takes their place, so nothing in the
# full model; `place` where and how fast the model runs, so no answer (rounding aside); `answer` all else.
KINDS = {
    "drop": "mask",
    "keep": "mask",
    "ablation": "stand-in",
    "calibration": "stand-in",
    "ablation_seed": "stand-in",
    "site": "stand-in",
    "global_context": "stand-in",
    "chain": "stand-in",
    "routing": "stand-in",
    "device": "place",
    "device_map": "place",
    "batch_size": "place",
    "max_batch_size": "place",
    "pretrained": "answer",
    "revision": "answer",
    "base": "answer",
    "encoders": "answer",
    "encoder_weights": "answer",
    "tokenizer": "answer",
    "actions": "answer",
    "dtype": "answer",
    "attn_implementation": "answer",
    "conv_template": "answer",
    "long_prompt": "answer",
    "many_images": "answer",
    "dino_positions": "answer",
    "image_mode": "answer",
    "processor": "answer",
    "max_tiles": "answer",
    "mode": "answer",
    "base_size": "answer",
    "image_size": "answer",
    "crop_mode": "answer",
    "max_new_tokens": "answer",
    "as_published": "answer",
}

# What people also call the number formats that torch knows.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
HALF = ("bfloat16", "float16")

# Names whose values are secrets. What ends in such a key or a password is one; a token is by whom it is for, as there
# are max_new_tokens and pad_token, too.
_SECRET_NAME = (
    r"(?:[\w.-]*(?:"
    r"(?:api|access|account|auth|client|deploy|encryption|judge|license|master|private|secret|shared|signing|ssh|storage"
    r"|subscription|verifier)[_-]?keys?"
    r"|password|passwd|passphrase|secret|credentials?|authorization|connection[_-]?string)"
    r"|(?:[\w.-]*[_.-])?(?:access|api|auth|bearer|csrf|deploy|gh|github|gitlab|hf|hub|hugging_?face|jwt|jupyter|oauth"
    r"|openai|refresh|sas|security|service|session|wandb)[_-]?token"
    r"|(?:[\w.-]*[_.-])?(?:pwd|cookies?|netrc)"
    r"|token|key|auth)"
)
_BARE = r"(?:(?:bearer|basic|token)\s+)?(?:\[REDACTED\]|[^\s,;&'\"\\)\]}]+)"  # a header says its kind first
_QUOTED = r"(?P<q>\\{0,8}[\"'])(?:(?!(?P=q)).)*(?P=q)"
_ASSIGNED = re.compile(rf"(?<![\w.-])(?P<name>(?:--?)?{_SECRET_NAME}=)(?:{_QUOTED}|{_BARE})", re.IGNORECASE)
_TYPED = re.compile(rf"(?<!\S)(?P<name>--{_SECRET_NAME}\s+)(?:{_QUOTED}|[^\s-]\S*)", re.IGNORECASE)
_LISTED = re.compile(  # in JSON, also within a text in JSON; in a list of words
    rf"(?P<name>(?P<n>\\{{0,8}}[\"'])(?:{_SECRET_NAME}(?P=n)\s*:|--{_SECRET_NAME}(?P=n)\s*,)\s*)"
    rf"(?:\[[^\]]*\]|{_QUOTED}|{_BARE})",
    re.IGNORECASE,
)
_WHOLE_NAME = re.compile(rf"-{{0,2}}{_SECRET_NAME}", re.IGNORECASE)
# user:password@ after a scheme, or in front of a host.
_USER = re.compile(r"(?<![a-z0-9+.-])(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@\"']*(?:@[^\s/@\"']*)*@", re.IGNORECASE)
_HOST_USER = re.compile(
    r"(?<![\w./:@%+-])[\w.%+-]+:[^\s/@:,\"']+@"
    r"(?=(?:[\w-]+\.)+[a-z]{2,}\b|localhost\b|\d+\.\d+\.\d+\.\d+)",
    re.IGNORECASE,
)
_HINT = re.compile(r"[=@]|--|[\"']\s*:")  # without one of these there is nothing to redact
REDACTED = "[REDACTED]"
ALWAYS_SAID = ("drop", "keep", "pretrained")  # empty, they are a script's slip: a variable that was not set


def parse(text: Any, where: str | Path) -> dict[str, str]:
    """lmms-eval's `--model_args` (or `config.model_args`) as a dictionary of texts.

    Args:
        text: `key=value,key=value`, or a mapping.
        where: what the error names: an option of the command line, or the path of a file.

    Raises:
        SetupError: on the command line, a part is no `key=value`, one stands twice, or a mask or checkpoint is empty.
        DataError: the same in a file.
    """
    if isinstance(text, Mapping):
        told = {key: value for key, value in text.items() if value is not None or key not in ALWAYS_SAID}
        pairs = [(str(key), str(value)) for key, value in told.items()]
    else:
        pairs = [_pair(part, text, where) for part in _parts(str(text or ""))]
    given: dict[str, str] = {}
    for key, value in pairs:
        if key in ALWAYS_SAID and not value.strip():
            raise _refusal(where, empty(key))
        if given.setdefault(key, value) != value:
            raise _refusal(where, f"{key}= stands twice in the model arguments: {given[key]!r} and {value!r}")
    return given


def empty(key: str) -> str:
    """What is wrong with one of ALWAYS_SAID that is empty."""
    return f"{key}= is empty; name {'a checkpoint' if key == 'pretrained' else 'encoders, or none'}, or leave it out"


def _parts(text: str) -> list[str]:
    """A text's parts between commas, but for those within quotes, braces and brackets, as lmms-eval has it.

    Where one of these is not closed (an apostrophe in a path), all commas count.
    """
    ends, depth, quote = [-1], 0, ""
    for i, character in enumerate(text):
        if character in "\"'" and text[i - 1 : i] != "\\":
            quote = "" if character == quote else quote or character
        elif not quote:
            depth += (character in "{[") - (character in "}]")
            if character == "," and depth == 0:
                ends.append(i)
    if depth or quote:
        ends = [-1, *(i for i, character in enumerate(text) if character == ",")]
    ends.append(len(text))
    return [part for a, b in pairwise(ends) if (part := text[a + 1 : b].strip())]


def _pair(part: str, text: Any, where: str | Path) -> tuple[str, str]:
    key, separator, value = part.partition("=")
    if not separator:
        raise _refusal(where, f"cannot read model arguments {text!r}: {part!r} is not of the form NAME=VALUE")
    return key.strip(), value.strip()


def _refusal(where: str | Path, message: str) -> SetupError | DataError:
    return (DataError if isinstance(where, Path) else SetupError)(f"{where}: {message}")


def deciding(arguments: Mapping[str, str], full: bool = False) -> dict[str, str]:
    """The arguments beside the mask that decide an answer; with `full`, an answer of the full model."""
    left_out = {"mask", "place", "secret"} | ({"stand-in"} if full else set())
    return {key: value for key, value in sorted(arguments.items()) if kind(key) not in left_out}


def kind(name: str) -> str:
    """What an argument decides, see KINDS; `secret` is a key or password, which decides nothing."""
    return KINDS.get(name) or ("secret" if is_secret(name) else "answer")


def is_secret(name: str) -> bool:
    """Whether the value after a name is kept out of sight."""
    return _WHOLE_NAME.fullmatch(name) is not None


def redacted(text: str) -> str:
    """A text without the values of keys, tokens and passwords, and without `user:password@` in addresses."""
    if not _HINT.search(text):
        return text
    text = _USER.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _HOST_USER.sub(f"{REDACTED}@", text)
    for pattern in (_LISTED, _ASSIGNED, _TYPED):
        text = pattern.sub(_without_value, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    quote = match["q"] or ""
    return f"{match['name']}{quote}{REDACTED}{quote}"


def without_secrets(content: Any) -> Any:
    """JSON content of which every text is redacted, the values of secret names as a whole."""
    if isinstance(content, Mapping):
        return {key: REDACTED if _hides(key, value) else without_secrets(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        items = list(content)
        return [
            REDACTED if i and isinstance(item, str) and _is_option(items[i - 1]) else without_secrets(item)
            for i, item in enumerate(items)
        ]
    return redacted(content) if isinstance(content, str) else content


def _hides(key: Any, value: Any) -> bool:
    return isinstance(key, str) and is_secret(key) and value is not None


def _is_option(text: Any) -> bool:
    """Whether the next word of a command line is a secret."""
    return isinstance(text, str) and text.startswith("--") and is_secret(text)
