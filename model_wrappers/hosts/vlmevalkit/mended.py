"""VLMEvalKit without faults of its evaluation that would change scores, fail, or show a judge's key."""

import importlib
import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redundancy_eval import model_args

_PNG = ("1", "L", "LA", "I", "I;16", "I;16B", "P", "RGB", "RGBA")  # what it can hold


@contextmanager
def mended(judge: str, judge_key: str | None) -> Iterator[None]:
    """VLMEvalKit without six faults of its evaluation.

    Pictures of kinds that PNG has not (CMYK) are not written; circular evaluations that end in the same second share a
    file in /tmp; a judge that does not answer is replaced by exact matching, under the judge's name; the judge's key
    stands in the log; a reply that begins with `=` becomes a formula; sets that need a judge (MathVista) call a remote
    one where exact matching, which asks no one, was wanted.
    """
    from vlmeval.api.base import BaseAPI
    from vlmeval.dataset.utils import multiple_choice

    from redundancy_eval.model_wrappers.pictures import eight_bits

    make, stamp = logging.getLogRecordFactory(), getattr(multiple_choice, "timestr", None)

    def redacted(*args: Any, **settings: Any) -> logging.LogRecord:
        record = make(*args, **settings)
        said = told = record.getMessage()
        for secret in filter(None, (judge_key, os.environ.get("OPENAI_API_KEY"))):
            told = told.replace(secret, model_args.REDACTED)
        told = model_args.redacted(told)
        if told != said:
            record.msg, record.args = told, ()
        return record

    def as_text(self: Any, *arguments: Any, **settings: Any) -> None:
        if settings.get("engine") == "xlsxwriter":
            plain = {"strings_to_formulas": False, "strings_to_urls": False}
            settings["engine_kwargs"] = {"options": plain, **(settings.get("engine_kwargs") or {})}
        to_excel(self, *arguments, **settings)

    def writable(*arguments: Any, **settings: Any) -> Any:
        image = decode(*arguments, **settings)
        return image if image.mode in _PNG else eight_bits(image).convert("RGB")

    smp: Any = importlib.import_module("vlmeval.smp.vlm")
    decode, smp.decode_base64_to_image = smp.decode_base64_to_image, writable
    frames: Any = importlib.import_module("pandas").DataFrame
    to_excel, frames.to_excel = frames.to_excel, as_text
    logging.setLogRecordFactory(redacted)
    multiple_choice.timestr = lambda *_: uuid.uuid4().hex
    working = BaseAPI.working
    if judge == "exact_matching":
        BaseAPI.working = lambda self: False
    try:
        with warnings.catch_warnings():
            if judge != "exact_matching":
                warnings.filterwarnings("error", "OPENAI API is not working properly, will use exact matching")
            yield
    finally:
        logging.setLogRecordFactory(make)
        multiple_choice.timestr = stamp
        frames.to_excel = to_excel
        BaseAPI.working = working
        smp.decode_base64_to_image = decode


@contextmanager
def gloo_without_gpu() -> Iterator[None]:
    """VLMEvalKit asks for NCCL, which needs GPUs."""
    import torch
    import torch.distributed

    original = torch.distributed.init_process_group

    def start(backend: str | None = None, **settings: Any) -> None:
        original(backend if torch.cuda.is_available() else "gloo", **settings)

    torch.distributed.init_process_group = start
    try:
        yield
    finally:
        torch.distributed.init_process_group = original
