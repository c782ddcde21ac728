"""A transformers model with hooks: what its modules need not compute again under another mask."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import subjects

from gpu.check import Check, equal, swept
from redundancy_eval.model_wrappers.sweeps import engines

LABELS = ("none", "sam", "siglip", "all")


def hf_masked(check: Check) -> Iterator[dict[str, Any]]:
    """DeepSeek-VL-7B in transformers' own code: a sweep in which modules remember, and one in which they do not."""
    check.forget()
    full = subjects.hooked(check.tiny, check.device, check.dtype)
    yield {"parameters": sum(parameter.numel() for parameter in full.model.parameters())}
    words = full.model.config.text_config.vocab_size
    asked, size = check.questions(2 if check.tiny else check.documents, words=words), 8
    swept(check, LABELS, asked[:1], size, full)  # to warm up
    forgetful = mock.patch.object(engines.remembered, "sharable", lambda *_: [])
    found = {}
    for name, way in (("with_memory", nullcontext()), ("without", forgetful)):
        with way:
            found[name], told = swept(check, LABELS, asked, size, full)
        yield {name: told}
    yield equal(found["with_memory"], found["without"])
