"""Model arguments (`--model_args key=value,...`): how they are read, and which of them decide an answer."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.errors import DataError

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
    "device": "place",
    "device_map": "place",
    "batch_size": "place",
    "max_batch_size": "place",
    "pretrained": "answer",
    "revision": "answer",
    "base": "answer",
    "encoders": "answer",
    "encoder_weights": "answer",
    "dtype": "answer",
    "attn_implementation": "answer",
    "conv_template": "answer",
    "long_prompt": "answer",
    "many_images": "answer",
    "dino_positions": "answer",
    "image_mode": "answer",
    "processor": "answer",
    "max_tiles": "answer",
    "max_new_tokens": "answer",
    "as_published": "answer",
}

# What people also call the number formats that torch knows.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}

# Values that frameworks keep out of their own files, and so do we.
_SECRET = re.compile(r"((?:token|secret|password|api_key)=)[^,]+", re.IGNORECASE)


def parse(text: Any, where: str | Path) -> dict[str, str]:
    """lmms-eval's `--model_args` (or `config.model_args`) as a dictionary of texts.

    Args:
        text: `key=value,key=value`, or a mapping.
        where: what the error names.

    Raises:
        DataError: a part is no `key=value`.
    """
    if isinstance(text, Mapping):
        return {str(key): str(value) for key, value in text.items()}
    arguments: dict[str, str] = {}
    for part in split(str(text or "")):
        key, separator, value = part.partition("=")
        if not separator:
            raise DataError(f"{where}: cannot read model arguments {text!r}: {part!r} is no key=value")
        if key.strip() in arguments:
            raise DataError(f"{where}: {key.strip()} is given twice in the model arguments")
        arguments[key.strip()] = value.strip()
    return arguments


def split(text: str) -> list[str]:
    """The parts between commas, where a comma within quotes, braces or brackets parts nothing.

    As lmms-eval reads JSON and lists among model arguments (lmms_eval/utils.py, simple_parse_args_string); where a
    quote or bracket is never closed, every comma parts.
    """
    parts, depth, quote = [""], 0, ""
    for before, character in zip(f" {text}", text, strict=False):
        if character in "\"'" and before != "\\":
            quote = "" if character == quote else quote or character
        elif not quote and character in "{[":
            depth += 1
        elif not quote and character in "}]":
            depth -= 1
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    whole = parts if not quote and depth == 0 else text.split(",")
    return [part.strip() for part in whole if part.strip()]


def deciding(arguments: Mapping[str, str], full: bool = False) -> dict[str, str]:
    """The arguments beside the mask that decide an answer; with `full`, an answer of the full model."""
    left_out = {"mask", "place", "stand-in"} if full else {"mask", "place"}
    return {key: value for key, value in sorted(arguments.items()) if KINDS.get(key, "answer") not in left_out}


def redacted(text: str) -> str:
    """Text of a command without the values of tokens and passwords."""
    return _SECRET.sub(r"\1[REDACTED]", text)
