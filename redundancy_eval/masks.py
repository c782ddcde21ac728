"""Masks: which encoders of a model are dropped. Parsing, canonical form and enumeration; names only, never indices."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from pathlib import Path

from redundancy_eval.errors import SetupError

# What people also call an encoder -> its name here. Applied only when the model has no encoder of the typed name.
ALIASES = {
    "det": "eva02", "eva": "eva02", "eva-02": "eva02", "eva_02": "eva02", "eva02-l": "eva02",
    "dino": "dinov2", "dino-v2": "dinov2", "dino_v2": "dinov2",
    "conv": "convnext", "convnext-xxl": "convnext", "conv-next": "convnext",
    "pix": "pix2struct", "pix2": "pix2struct", "pix2-struct": "pix2struct",
    "sam-l": "sam", "sam-b": "sam", "clip-l": "clip", "clip-448": "clip", "siglip-so400m": "siglip",
}  # fmt: skip


RESERVED = ("none", "all", "full", "keep", "drop")  # words about masks, not names
_LONGEST_LIST = 64 * 2**20  # bytes; a million masks
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)


def check_name(name: str) -> str:
    """A name that an encoder can have: letters, digits, `_`, `-`, `.`, with a letter in front.

    Raises:
        SetupError: it can have no such name.
    """
    if name.lower() in RESERVED:
        raise SetupError(f"{name!r} is no encoder's name; the full model's mask is none, all encoders dropped is all")
    if not _NAME.fullmatch(name):
        raise SetupError(f"{name!r} is no encoder's name: letters, digits, _, - and . with a letter in front")
    return name


def check_names(text: str) -> str:
    """A mask's text whose names encoders can have; `none` and `all` are masks, too.

    Raises:
        SetupError: one can have no such name, or it is empty.
    """
    if text.lower() not in ("none", "all"):
        for name in text.split("+"):
            check_name(name.strip())
    return text


def names(text: str) -> frozenset[str]:
    """The encoders that a mask's text names, in lower case and under their names here; of no model in particular."""
    listed = (part.strip().lower() for part in text.split("+"))
    return frozenset(ALIASES.get(name, name) for name in listed if name not in ("", "none"))


def resolve(name: str, encoders: Sequence[str]) -> str:
    """The model's own name for what the user typed.

    Args:
        name: as typed; case and surrounding blanks do not matter, aliases are understood.
        encoders: the model's encoders in its order.

    Raises:
        SetupError: the model has no such encoder, or the name is a number.
    """
    typed = name.strip().lower()
    listed = ", ".join(encoders)
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", typed):
        raise SetupError(
            f"encoders go by name, not by number ({typed}): an index means different encoders in different "
            f"checkpoints. This model has, in order: {listed}"
        )
    for candidate in (typed, ALIASES.get(typed, typed)):
        if candidate in encoders:
            return candidate
    raise SetupError(f"unknown encoder {name.strip()!r}; this model has: {listed}")


def dropped(encoders: Sequence[str], drop: object = None, keep: object = None) -> tuple[str, ...]:
    """The mask that `drop=` or `keep=` asks for: dropped encoders in the model's order, () for the full model.

    Args:
        encoders: the model's encoders in its order.
        drop: names joined by `+`, or `none`, or `all`; None or an empty text when not given.
        keep: the same for the encoders that stay.

    Raises:
        SetupError: both are given, or a name is unknown.
    """
    drop_text, keep_text = ("" if value is None else str(value).strip() for value in (drop, keep))
    if drop_text and keep_text:
        raise SetupError(f"give drop= or keep=, not both; this model has: {', '.join(encoders)}")
    named = _names(keep_text or drop_text, encoders)
    return tuple(name for name in encoders if (name in named) != bool(keep_text))


def _names(text: str, encoders: Sequence[str]) -> set[str]:
    word = text.lower()
    if word in ("", "none"):
        return set()
    if word == "all":
        return set(encoders)
    return {resolve(part, encoders) for part in text.split("+")}


def label(mask: Sequence[str], encoders: Sequence[str], whole: bool = True) -> str:
    """Canonical text of a mask: `none`, `all`, or the dropped encoders in the model's order joined by `+`.

    Args:
        mask: names of the dropped encoders.
        encoders: the model's encoders in its order.
        whole: whether they are all that it has.
    """
    names = [name for name in encoders if name in mask]
    if whole and len(names) == len(encoders):
        return "all"
    return "+".join(names) or "none"


def read_list(path: Path) -> list[str]:
    """The lines of the file in `--masks @FILE`, with a mask in each.

    Raises:
        SetupError: it is no text file of a list's size (a device, a pipe, ...), or cannot be read.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # before it is opened: a pipe would wait for ever
            raise SetupError(f"--masks @{path}: no regular file")
        if size > _LONGEST_LIST:
            raise SetupError(f"--masks @{path}: longer than a list of masks is ({_LONGEST_LIST:,} bytes)")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SetupError(f"--masks @{path}: {error.strerror}") from None
    except ValueError:
        raise SetupError(f"--masks @{path}: not UTF-8 text") from None


def every(encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """All 2^n masks, fewest dropped first, from the full model to the one with all encoders dropped."""
    return list(chain.from_iterable(combinations(encoders, size) for size in range(len(encoders) + 1)))


def leave_one_out(encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """The full model, each encoder dropped alone, and all dropped."""
    return _distinct([(), *((name,) for name in encoders), tuple(encoders)])


def keep_one(encoders: Sequence[str]) -> list[tuple[str, ...]]:
    """The full model, each encoder kept alone, and all dropped."""
    alone = (tuple(other for other in encoders if other != name) for name in encoders)
    return _distinct([(), *alone, tuple(encoders)])


def _distinct(masks: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(masks))
