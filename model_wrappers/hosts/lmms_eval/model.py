"""The masked models as lmms-eval sees them (`lmms-eval --model eagle_masked --model_args drop=clip`)."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval import utils
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger
from PIL import Image
from tqdm import tqdm

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Answer, Masked, Prompt
from redundancy_eval.store import KNOWN, Stored

# The default of the original lmms-eval wrapper of Eagle, for tasks that set no limit.
MAX_NEW_TOKENS = 1024
_GENERATION = ("temperature", "top_p", "top_k", "num_beams", "repetition_penalty", "min_new_tokens")
HONOURED = ("max_new_tokens", "do_sample", "until", *_GENERATION)


def generation_settings(gen_kwargs: dict[str, Any]) -> tuple[int, dict[str, Any], list[str]]:
    """lmms-eval's generation arguments -> (token limit, transformers settings, texts that end an answer)."""
    until = gen_kwargs.get("until") or []
    until = [until] if isinstance(until, str) else list(until)
    settings = {key: gen_kwargs[key] for key in _GENERATION if gen_kwargs.get(key) is not None}
    temperature = settings.get("temperature", 0)
    settings["do_sample"] = bool(gen_kwargs.get("do_sample", temperature > 0)) and temperature > 0
    if not settings["do_sample"]:
        for key in ("temperature", "top_p", "top_k"):
            settings.pop(key, None)
    return int(gen_kwargs.get("max_new_tokens", MAX_NEW_TOKENS)), settings, [text for text in until if text]


def images(visuals: Any, task: str, model_id: str) -> tuple[Image.Image, ...]:
    """A document's images, as a task gives them, decoded.

    Raises:
        SetupError: they are no images.
        OSError: one cannot be read (see pictures.eight_bits).
    """
    for visual in visuals or ():
        if not isinstance(visual, Image.Image):
            raise SetupError(
                f"{model_id} takes images only; task {task} gives {type(visual).__name__} (video or audio)"
            )
    return tuple(map(pictures.eight_bits, visuals or ()))


def shown(documents: Any, doc_to_visual: Any, doc_id: int, task: str, model_id: str) -> tuple[Image.Image, ...]:
    """The images of a document of a task.

    Raises:
        SetupError: they are no images.
        DataError: one cannot be read.
    """
    with pictures.named(f"task {task}, document {doc_id}"):
        # Before the task sees them: many convert to RGB, which shows pictures of 16 bits white.
        return images(doc_to_visual(pictures.within(documents[doc_id])), task, model_id)


def worded(requests: Sequence[Instance]) -> set[str]:
    """Tasks in whose texts an image tag is a word: most have none. In others it is the image's place."""
    tags: dict[str, list[bool]] = {}
    for request in requests:
        tags.setdefault(request.args[-2], []).append(templates.IMAGE in request.args[0])
    return {task for task, found in tags.items() if 2 * sum(found) <= len(found)}


def result(answer: Answer | Stored, until: list[str]) -> GenerationResult:
    """An answer as lmms-eval takes it, cut at the first of the texts that end it."""
    text = answer.text
    for end in until:
        text = text.split(end)[0]
    # Without the token that ends an answer, so that the token limit is reached by capped ones only.
    assert answer.new_tokens is not None  # our models count them
    new = answer.new_tokens - (not answer.capped)
    return GenerationResult(text, TokenCounts(input_tokens=answer.prompt_tokens, output_tokens=new))


class MaskedLmms(lmms):
    """A masked model; `class_of` makes the class of each model id."""

    is_simple = True
    model_id = ""
    worded: Collection[str] = ()  # tasks in whose texts an image tag is a word

    def __init__(
        self,
        pretrained: str | None = None,
        drop: object = None,
        keep: object = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **settings: Any,
    ):
        super().__init__()
        with loading.one_line_errors():
            if not str(batch_size).isdigit() or int(batch_size) < 1:
                raise SetupError(f"batch_size must be a positive number; not {batch_size!r}")
            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            many = self._world_size > 1 or not device
            self.device = self.accelerator.device if many else torch.device(str(device))
            self.batch_size = int(batch_size)
            self.masked: Masked = loading.load(
                self.model_id, pretrained, drop, keep, **{"device": self.device, **settings}
            )
        kept = [name for name in self.masked.encoder_names if name not in self.masked.mask]
        logger.info(f"{self.model_id}: drop={self.masked.mask_label}; encoders that run: {', '.join(kept) or 'none'}")

    def clean(self) -> None:
        """Free the model after the evaluation."""
        del self.masked

    def _prompt(self, context: str, doc_to_visual: Any, doc_id: int, task: str, split: str) -> Prompt:
        text = templates.as_words(context) if task in self.worded else context
        visuals = shown(self.task_dict[task][split], doc_to_visual, doc_id, task, self.model_id)
        return Prompt(text, visuals, f"{task} document {doc_id}", text != context)

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests in batches of equal generation settings, longest first."""
        order = utils.Collator(
            [request.args for request in requests],
            lambda args: (-len(args[0]), args[0]),
            group_fn=lambda args: args[1],
            grouping=True,
        )
        results, capped, known = [], 0, len(self.masked.known)
        self.worded = worded(requests)
        progress = tqdm(total=len(requests), disable=self.rank != 0, desc=f"drop={self.masked.mask_label}")
        with loading.one_line_errors():
            for chunk in order.get_batched(n=self.batch_size):
                limit, settings, until = generation_settings(chunk[0][1])
                batch = [self._prompt(context, visual, *where) for context, _, visual, *where in chunk]
                for answer in self.masked.generate(batch, limit, **settings):
                    capped += answer.capped
                    run_record.tell_counts(answer.notes)
                    results.append(result(answer, until))
                progress.update(len(chunk))
        progress.close()
        if capped:
            logger.warning(f"drop={self.masked.mask_label}: {capped} answers were stopped by the token limit")
        run_record.tell_feeds(self.masked.feeds())
        run_record.tell_counts([KNOWN] * (len(self.masked.known) - known))
        for remark in loading.remarks(self.masked):
            logger.warning(f"drop={self.masked.mask_label}: {remark}")
        return order.get_original(results)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(negative log-likelihood, greedy) of each continuation; lmms-eval compares losses, smallest first."""
        results = []
        self.worded = worded(requests)
        with loading.one_line_errors():
            for start in range(0, len(requests), self.batch_size):
                batch, continuations = [], []
                for request in requests[start : start + self.batch_size]:
                    context, continuation, visual, doc_id, task, split = request.args
                    if not isinstance(continuation, str):
                        continuation = continuation(self.task_dict[task][split][doc_id])
                    batch.append(self._prompt(context, visual, doc_id, task, split))
                    continuations.append(continuation)
                scored = self.masked.loglikelihood(batch, continuations)
                results += [(-total, greedy) for total, greedy in scored]
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered: the benchmarks of the paper are single-turn."""
        with loading.one_line_errors():
            raise SetupError(f"{self.model_id} answers single-turn tasks only")


@cache
def class_of(model_id: str) -> type[MaskedLmms]:
    """The class of a model id, as lmms-eval makes models by classes: EagleMasked of `eagle_masked`."""
    title = registry.FAMILIES[model_id].title if model_id in registry.FAMILIES else "A transformers model, with hooks"
    name = "".join(part.title() for part in model_id.split("_"))
    return type(name, (MaskedLmms,), {"__doc__": f"{title}.", "__module__": __name__, "model_id": model_id})


def __getattr__(name: str) -> Any:
    # lmms-eval looks classes up by module and name; the plug-in gives it model ids for names.
    if name in registry.FAMILIES or name == registry.HF_MASKED:
        return class_of(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
