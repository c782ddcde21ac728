"""What the parts of the check share: sizes, the time that is left, the loaded model, how a sweep is timed."""

import gc
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import subjects
import torch

from redundancy_eval import masks
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Masked
from redundancy_eval.model_wrappers.sweeps import sweep
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, FULL
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.settings import AUTO
from redundancy_eval.store import Store

NEW = 8  # tokens of an answer
ANSWER = {"min_new_tokens": NEW}
WORDS = (6, 40)  # of a question: batches are padded, as with real questions, so attention gets a mask


@dataclass
class Check:
    """What all parts share: sizes, the time that is left, the loaded model, what earlier parts found."""

    tiny: bool
    device: torch.device
    dtype: torch.dtype
    subject: str
    documents: int
    ends: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    _model: MaskedModel | None = None

    @property
    def full(self) -> MaskedModel:
        """The full model, made when it is first asked for."""
        if self._model is None:
            module = subjects.random(self.subject, self.device, self.dtype)
            self._model = MaskedModel(
                module,
                subjects.tokenizer(module.language_model.config.vocab_size),
                template=templates.TEMPLATES["vicuna_v1"],
            )
        return self._model

    def forget(self) -> None:
        """Free the model for another."""
        self._model = None
        free(self.device)

    @property
    def labels(self) -> list[str]:
        """All masks."""
        names = self.full.encoder_names
        return [masks.label(mask, names) for mask in masks.every(names)]

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def shorter(self) -> list[str]:
        """The full model, each encoder dropped, and all dropped."""
        names = self.full.encoder_names
        return [masks.label(mask, names) for mask in masks.leave_one_out(names)]

    def questions(self, count: int, start: int = 0, words: int | None = None) -> list[Question]:
        """Documents, each with an image of its own; `words` are those of the tokenizer, by default the full model's."""
        words = words or self.full.model.language_model.config.vocab_size
        asked = subjects.documents(count + start, 1, words, WORDS)[start:]
        return [
            Question("t", "", str(number), text, NEW, ANSWER, lambda image=image: [image])
            for number, (text, image) in enumerate(asked, start)
        ]


def free(device: torch.device) -> None:
    """Give back what nobody holds, and count peaks anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> float | None:
    """Most GiB of the GPU that were reserved since the last `free`."""
    return round(torch.cuda.max_memory_reserved() / 2**30, 2) if device.type == "cuda" else None


def seconds(function: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What a call gives, and the seconds until the device was done with it."""
    synchronize(device)
    started = time.perf_counter()
    made = function()
    synchronize(device)
    return made, time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def swept(
    check: Check,
    labels: Sequence[str],
    questions: Sequence[Question],
    batch: int | str = AUTO,
    model: Masked | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """A sweep into a store of its own: answers by mask and document, and what it took."""
    free(check.device)
    full = model or check.full
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store", {"check": check.subject}) as kept:
        one = sweep.Sweep(lambda: full, labels, kept, batch)
        _, spent = seconds(lambda: one.fill(questions, show=False), check.device)
        answers = {f"{key.mask}|{key.document}": stored.text for key, stored in kept.items()}
    given = {key: text for key, text in answers.items() if not key.startswith(ALONE)}
    told = {
        "seconds": round(spent, 3),
        "answers": len(given),
        "batch_size": one.batch_size,
        "peak_gib": peak(check.device),
    }
    return answers, told


def noise(answers: Mapping[str, str]) -> tuple[int, int]:
    """How many second answers of the full model differ from the first, and of how many."""
    alone = {key: text for key, text in answers.items() if key.startswith(ALONE)}
    return sum(text != answers[key.replace(ALONE, FULL)] for key, text in alone.items()), len(alone)


def equal(answers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, int]:
    """How many answers under masks are the same in both."""
    keys = [key for key in answers if not key.startswith(ALONE)]
    return {"equal": sum(answers[key] == others[key] for key in keys), "answers": len(keys)}


def nvidia_smi(fields: str) -> str:
    """What nvidia-smi tells of the GPUs; "" where it is not there."""
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    return ""
