"""Record what the slow sentencepiece tokenizers of old transformers give, to check ours against them.

    python record_slow_tokens.py slow_tokens.json

Run it once in each environment with an old transformers (4.31.0, 4.37.0, 4.44.2; no torch is needed): each run adds its
ids to the file, and the first one makes the tokenizer and the texts. `tests/families/test_slow_tokens.py` reads them.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece
import transformers

transformers.logging.set_verbosity_error()

LINES = """USER: What is shown in the picture? ASSISTANT: The picture shows a cat and two dogs.
Which word is written here, and where is it? Answer with the option's letter from the given choices directly.
  def f(x):
      return x + 1    # two  spaces   three    four
Ein kleiner Bär läuft über die Straße. Какой город на картинке? 这是什么？
A. yes B. no C. 1,234.5 D. the tag <image> and </s>
What is in the image? Is it a cat?  the  tag   a   b    a    b
"""
BLANKS = ["", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\x00", "\x1c", "\x85", "▁", " ▁"]
WORDS = [
    "What",
    "is the word",
    "a",
    "23",
    "?",
    "ASSISTANT:",
    "Bär",
    "картинке",
    "这是什么",
    "ما هذا",
    "🙂",
    "e\u0301",
    "ﬁ",
    "<unk",
]
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<|user|>", "<|left|>", "[word]", "plain"]


def token(text: str, **flags: bool) -> dict[str, Any]:
    """A token as tokenizer_config.json states it."""
    none = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": text, **none, **flags}


BASE = {
    "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "pad_token": "<unk>", "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False,
    "sp_model_kwargs": {},
}  # fmt: skip
STATED = {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>")}
# As Phi-3 has them, and other kinds.
MORE = {
    **STATED, "2": token("</s>", rstrip=True), "420": token("<pad>"), "421": token("<|user|>", rstrip=True),
    "422": token("<|left|>", lstrip=True), "423": token("[word]", single_word=True, special=False),
    "424": token("plain", normalized=True, special=False),
}  # fmt: skip
PLAIN = {name: text for name, text in BASE.items() if name.endswith("_token")}
MAP = {name: token(PLAIN[name], rstrip=name == "eos_token") for name in ("bos_token", "eos_token", "unk_token")}
for stated in MAP.values():
    del stated["special"]  # the old layout has no such key
FOLDERS: dict[str, dict[str, Any]] = {
    "not legacy": {"tokenizer_config.json": {**BASE, "legacy": False, "added_tokens_decoder": STATED}},
    "legacy": {"tokenizer_config.json": {**BASE, "legacy": True, "added_tokens_decoder": STATED}},
    "not told": {"tokenizer_config.json": {**BASE, "added_tokens_decoder": STATED}},
    "added": {"tokenizer_config.json": {**BASE, "legacy": False, "added_tokens_decoder": MORE}},
    "no prefix": {
        "tokenizer_config.json": {**BASE, "legacy": False, "add_prefix_space": False, "added_tokens_decoder": STATED}
    },
    "old layout": {
        "tokenizer_config.json": {**BASE, "legacy": False, "pad_token": None},
        "special_tokens_map.json": {**MAP, "pad_token": "<pad>"},
        "added_tokens.json": {"<pad>": 420, "<|user|>": 421},
    },
    "old layout, legacy": {
        "tokenizer_config.json": {**BASE, "legacy": True, "pad_token": None},
        "special_tokens_map.json": PLAIN,
        "added_tokens.json": {"<pad>": 420},
    },
}


def vocabulary() -> bytes:
    """A sentencepiece model of Llama's kind with 420 pieces."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES.splitlines() * 20), model_writer=made, model_type="bpe", vocab_size=420,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.99, pad_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return made.getvalue()


def texts() -> list[str]:
    """Blanks of all kinds at both ends, special tokens in the text, other scripts, and mixtures."""
    draw = random.Random(0)
    ends = [blank + word + blank for blank in BLANKS for word in ("What", "</s>")]
    ends += [f" {word}" for word in WORDS] + [f" a {word}\n" for word in SPECIAL]
    pairs = ["".join(pair) for pair in itertools.product(SPECIAL[1:5], repeat=2)]
    mixed = [
        "".join(draw.choice(draw.choice([BLANKS, WORDS, SPECIAL])) for _ in range(draw.randint(2, 6)))
        for _ in range(80)
    ]
    return list(dict.fromkeys(["", " What is shown?\nA. yes\nB. no ASSISTANT:", *ends, *pairs, *mixed]))


def ids(vocabulary: bytes, files: dict[str, Any], texts: list[str]) -> list[list[int]]:
    """What this transformers gives for texts."""
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            Path(place, name).write_text(json.dumps(content), encoding="utf-8")
        Path(place, "tokenizer.model").write_bytes(vocabulary)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, use_fast=False)
    if tokenizer.is_fast:
        sys.exit(f"transformers {transformers.__version__} has no slow tokenizers")
    return [tokenizer(text).input_ids for text in texts]


def main() -> None:
    """Add this environment's ids to the file."""
    path = Path(sys.argv[1])
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not found:
        found = {"vocabulary": base64.b64encode(vocabulary()).decode(), "folders": FOLDERS, "texts": texts(), "ids": {}}
    made = base64.b64decode(found["vocabulary"])
    found["ids"][transformers.__version__] = {
        name: [" ".join(map(str, one)) for one in ids(made, files, found["texts"])]
        for name, files in found["folders"].items()
    }
    path.write_text(json.dumps(found, indent=0), encoding="utf-8")


main()
