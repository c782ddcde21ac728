"""Token ids as the fast tokenizers of transformers 4.40 gave them, through which Prismatic's prompts go.

They put a blank before every piece of a text between special tokens, so that a turn after `</s>` begins with a space
piece; those of transformers 5, and the slow ones of all releases, do so at the beginning of the text alone.

Source: transformers 4.40.1, convert_slow_tokenizer.py (`LlamaConverter`); TRI-ML/prismatic-vlms at 874c5bb,
prismatic/models/backbones/llm/{base_llm,llama2}.py (the padding token that is added).
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub

PAD = "<PAD>"
_FAST = "tokenizer.json"


def read(folder: Path, config: Any) -> Any:
    """The tokenizer in a folder, with a padding token.

    Args:
        folder: of the tokenizer.
        config: a transformers config of its language model.

    Raises:
        SetupError: it cannot be read, or puts no token before a text.
    """
    tokenizer = hub.read_tokenizer(folder, config)
    backend = tokenizer.backend_tokenizer
    if (folder / _FAST).is_file():
        stated = Tokenizer.from_file(str(folder / _FAST))
        backend.normalizer, backend.pre_tokenizer = stated.normalizer, stated.pre_tokenizer
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
    if tokenizer.pad_token != PAD:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if tokenizer("a").input_ids[0] != tokenizer.bos_token_id:
        raise SetupError(f"the tokenizer in {folder} puts no token before a text, after which images go")
    return tokenizer
