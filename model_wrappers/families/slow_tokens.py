"""Token ids as the slow sentencepiece tokenizers of old transformers gave them, with which prompts were trained.

Transformers 5 has the fast ones alone, which differ where a text begins with a space, around special tokens, and in
odd characters. Which rules hold depends on the release of transformers that the original code pins; all were compared
on thousands of texts (tests/recordings/slow_tokens.json, examples/record_slow_tokens.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub

SPACE = "▁"
VOCABULARY, SLOW = "tokenizer.model", "LlamaTokenizer"
Release = tuple[int, int]
_ADDED_AS_STATED: Release = (4, 34)  # from here on, added tokens are as tokenizer_config.json says
_PREFIX_AS_STATED: Release = (4, 40)  # from here on, `add_prefix_space` is read
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Added:
    """A token that is looked for in the text before anything else, and what it takes with it."""

    id: int
    special: bool
    lstrip: bool
    rstrip: bool
    single_word: bool


def read(folder: Path, config: Any, release: Release | None) -> Any:
    """A checkpoint's tokenizer, with the ids of old releases for the pieces of a prompt (`prompts.tokenize`).

    Args:
        folder: the checkpoint.
        config: a transformers config of its language model.
        release: of the transformers that the original code reads it with, if that is a slow one.

    Raises:
        SetupError: it cannot be read.
    """
    tokenizer, stated = hub.read_tokenizer(folder, config), _file(folder, "tokenizer_config.json")
    if release and stated.get("tokenizer_class") == SLOW and (folder / VOCABULARY).is_file():
        try:
            tokenizer.piece_ids = SlowTokens(folder, stated, tokenizer, release)
        except (TypeError, ValueError, KeyError, AttributeError, OSError, RuntimeError) as error:
            raise SetupError(f"cannot read the tokenizer in {folder}: {error}") from error
    return tokenizer


class SlowTokens:
    """Texts -> token ids, by the rules of a release of transformers.

    Args:
        folder: a checkpoint with a `tokenizer.model`.
        config: its tokenizer_config.json.
        fast: the tokenizer that transformers reads from it, for the special tokens.
        release: of the transformers whose rules hold, e.g. (4, 44).

    Raises:
        SetupError: tokens would be drawn.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], fast: Any, release: Release):
        from sentencepiece import SentencePieceProcessor

        if config.get("sp_model_kwargs"):
            raise SetupError(f"{folder}: sp_model_kwargs {config['sp_model_kwargs']!r} in its tokenizer are not known")
        self.fast = fast
        self.legacy = bool(True if config.get("legacy") is None else config["legacy"])
        self.early = release < _ADDED_AS_STATED
        self.prefix = release < _PREFIX_AS_STATED or bool(config.get("add_prefix_space", True))
        self.model = SentencePieceProcessor(model_file=str(folder / VOCABULARY))
        if not self.legacy and not self.early:
            self.model.override_normalizer_spec(add_dummy_prefix=False)
        self.added = _added(folder, config, fast, self.early)

    @cached_property
    def _cuts(self) -> re.Pattern[str]:
        longest_first = sorted(self.added, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def __call__(self, text: str) -> list[int]:
        """Token ids of a text, with what the tokenizer puts before and after it."""
        around = self.fast("").input_ids
        bos = around[: bool(around) and around[0] == self.fast.bos_token_id]
        return [*bos, *map(self._id, self._tokens(text)), *around[len(bos) :]]

    def _id(self, token: str) -> int:
        return self.added[token].id if token in self.added else int(self.model.piece_to_id(token))

    def _tokens(self, text: str) -> list[str]:
        if self.legacy:
            return self._split(text)
        if self.early or text:
            text = (SPACE if self.prefix else "") + text.replace(SPACE, " ")
        tokens = self._split(text)
        after_space = self.added.get(tokens[1]) if len(tokens) > 1 and tokens[0] == SPACE else None
        return tokens[1:] if after_space and after_space.special and not self.early else tokens

    def _split(self, text: str) -> list[str]:
        """Tokens of a text that may hold added ones."""
        parts = [part for part in self._cuts.split(text) if part] if self.added else [text]
        for place, part in enumerate(parts):
            added = self.added.get(part)
            if added is None:
                continue
            left, right = parts[place - 1] if place else "", parts[place + 1] if place + 1 < len(parts) else ""
            if added.rstrip and right:
                parts[place + 1] = right.lstrip()
            if added.lstrip and left:
                parts[place - 1] = left.rstrip()
            if added.single_word and left and left[-1] != " ":
                parts[place - 1 : place + 1] = [parts[place - 1] + part, ""]
            elif added.single_word and right and right[0] != " ":
                parts[place : place + 2] = ["", part + parts[place + 1]]
        return [token for part in parts if part for token in ([part] if part in self.added else self._pieces(part))]

    def _pieces(self, text: str) -> list[str]:
        """Tokens of a text without added ones."""
        if self.legacy:
            return list(self.model.encode(text, out_type=str))
        if self.early:
            return self._early_pieces(text)
        if not text.startswith((SPACE, " ")):
            return list(self.model.encode(text, out_type=str))
        # Sentencepiece strips blanks at the beginning, so something stands before them and is cut off again.
        unknown = str(self.fast.unk_token)
        tokens, length = self.model.encode(unknown + text, out_type=str), len(self.model.encode(unknown))
        return list(tokens[length:] if len(tokens) >= length else tokens)

    def _early_pieces(self, text: str) -> list[str]:
        first = text.startswith(SPACE)
        text = text[1:] if first else text
        tokens = list(self.model.encode(text, out_type=str))
        if first or text.startswith(" ") or not tokens or not tokens[0].startswith(SPACE):
            return tokens
        return [tokens[0][1:]] * (len(tokens[0]) > 1) + tokens[1:]


def _added(folder: Path, config: Mapping[str, Any], fast: Any, early: bool) -> dict[str, Added]:
    """The tokens that are looked for in a text first."""
    stated = {} if early else config.get("added_tokens_decoder") or {}
    file = {} if stated else _file(folder, "special_tokens_map.json")
    # What is stated of a token; None where that is its text alone: early ones then let it take blanks around it.
    told: dict[str, Any] = {token["content"]: token for token in stated.values()}
    told |= {} if stated else dict.fromkeys(_file(folder, "added_tokens.json"))
    named = {name: {**config, **file}.get(name) for name in _NAMED}
    more = [token for source in (config, file) for token in source.get("additional_special_tokens") or []]
    special = {_text(token) for token in [*named.values(), *more] if token}
    for name, token in named.items():
        if isinstance(token, str) and not told.get(token):
            told[token] = None if name in file else {}
    told |= {token["content"]: token for token in [*named.values(), *more] if isinstance(token, dict)}
    for token in filter(None, map(_text, more)):
        told.setdefault(token, None)
    alone = {"lstrip": early, "rstrip": early}
    return {
        text: _flagged(id, alone if told[text] is None else told[text], text in special)
        for id, text in ((id, token.content) for id, token in fast.added_tokens_decoder.items())
        if text in told
    }


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _flagged(id: int, flags: Mapping[str, Any], special: bool) -> Added:
    return Added(id, special, *(bool(flags.get(name)) for name in ("lstrip", "rstrip", "single_word")))


def _file(folder: Path, name: str) -> dict[str, Any]:
    return hub.read_config(folder, name) if (folder / name).is_file() else {}
