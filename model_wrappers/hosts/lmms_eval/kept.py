"""`masked` while a sweep runs: the base model is loaded once, and its answers are in the store as they are given."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from loguru import logger
from PIL import Image
from tqdm import tqdm

from redundancy_eval import masks
from redundancy_eval.model_wrappers import pictures, process
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked, copied
from redundancy_eval.model_wrappers.masking import ablations, hooks
from redundancy_eval.model_wrappers.masking.dice import Dice
from redundancy_eval.model_wrappers.masking.loading import one_line_errors
from redundancy_eval.model_wrappers.sweeps.wrapped import DRAWN, Answers
from redundancy_eval.store import Key, Stored, canonical, prompt_hash

_TOGETHER = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # whose processes must call the model equally often

_SUMS = "lmms_eval.models.model_utils"


class Kept(Hooked):
    """A wrapped lmms-eval model under one of a sweep's masks."""

    bases: dict[str, Any]
    answers: Answers
    keys: Sequence[tuple[Key, tuple[str, ...]]] = ()  # of the requests that are asked one by one; hashes of pictures

    def _build(self, base: str, settings: dict[str, Any]) -> Any:
        key = repr((base, settings))
        if key not in self.bases:
            self.bases[key] = super()._build(base, settings)
        return self.bases[key]

    def clean(self) -> None:
        """Nothing of the base: the next mask uses it too."""
        self.places.clear()

    def generate_until(self, requests: list[Instance]) -> list[Any]:
        """The mask's answers: what the store has, then what can be asked one by one, then the rest together."""
        with one_line_errors():
            reason = self.answers.reason or self._neighbours()
            if reason:
                self.answers.say(reason)
            found = [None if reason else self._known(request) for request in requests]
            self.answers.ask(known[0] for known in found if known)
            places: dict[Key, int] = {}  # lmms-eval repeats requests to give processes equal shares
            for place, known in enumerate(found):
                if known is not None and known[0] not in self.answers.store:
                    places.setdefault(known[0], place)
            self.keys = [known for place, known in enumerate(found) if known and places.get(known[0]) == place]
        given: dict[Key, Any] = {}
        if self.keys:
            told = super().generate_until([requests[place] for place in places.values()])
            given = {key: reply for (key, _), reply in zip(self.keys, told, strict=True)}
        self.keys = ()
        together = [request for request, known in zip(requests, found, strict=True) if known is None]
        rest = iter(super().generate_until(together) if together else ())
        return [next(rest) if known is None else self._reply(known[0], given) for known in found]

    def loglikelihood(self, requests: list[Instance]) -> list[Any]:
        """As in a separate run."""
        self.answers.say("likelihoods are no texts")
        return super().loglikelihood(requests)

    def generate_until_multi_round(self, requests: list[Instance]) -> list[Any]:
        """As in a separate run."""
        self.answers.say("later rounds depend on earlier ones")
        return super().generate_until_multi_round(requests)

    def _reply(self, key: Key, given: dict[Key, Any]) -> Any:
        if key in given:
            return given[key]
        stored = self.answers.store.get(key)
        assert stored is not None
        run_record.tell_feeds(stored.notes)
        return reply(stored)

    def _neighbours(self) -> str:
        """Why an answer may be another when its request is put alone."""
        size = getattr(self.base, "batch_size", getattr(self.base, "batch_size_per_gpu", 1))
        if str(size) != "1":
            return f"in batches of {size} an answer may depend on its neighbours"
        kind = str(getattr(getattr(self.base, "accelerator", None), "distributed_type", "")).rpartition(".")[2]
        return f"with {kind} all processes must ask equally often" if kind in _TOGETHER else ""

    def _known(self, request: Instance) -> tuple[Key, tuple[str, ...]] | None:
        """A request's key in the store, and hashes of its pictures; None where its answer is not kept."""
        chat = callable(request.args[1])
        settings, show = (request.args[2], request.args[1]) if chat else request.args[1:3]
        context, *_, doc_id, task, split = request.args
        place = task, split, doc_id, context
        if place not in self.answers.looked:
            with pictures.named(f"task {task}, document {doc_id}"):
                shown = show(pictures.within(self.task_dict[task][split][doc_id]))
                self.answers.looked[place] = _of_messages(context, shown) if chat else _of_pictures(context, shown)
        told, generation = self.answers.looked[place], _json(settings)
        if told is None or generation is None or settings.get("do_sample") or (settings.get("temperature") or 0) > 0:
            why = "shows something else than pictures" if told is None else "draws its answers"
            self.answers.say(f"{task} {why if generation else 'is asked with settings that are no JSON'}")
            return None
        label = masks.label(self.mask, self.encoder_names)
        return Key(task, split, str(doc_id), prompt_hash(told[0]), generation, label), told[1]

    def _check_pictures(self, requests: list[Instance]) -> None:
        """Once for each document, whatever the number of masks."""
        new = [request for request in requests if request.args[-3:] not in self.answers.checked]
        super()._check_pictures(new)
        self.answers.checked.update(request.args[-3:] for request in new)

    def _put(self, kind: str, requests: list[Instance], hooked: hooks.Hooks) -> Any:
        """Requests one by one, each kept; together from where the base draws random numbers."""
        if not self.keys:
            return super()._put(kind, requests, hooked)
        replies: list[Any] = []
        title = f"drop={masks.label(self.mask, self.encoder_names)}"
        fed = tuple(hooks.told(self.mask, self.feeds))
        for request, (key, hashes) in zip(tqdm(requests, title, disable=self.rank != 0), self.keys, strict=True):
            dice = Dice()
            with _quietly():
                told = super()._put(kind, [copied(request)], hooked)
            hooked.check_errors()
            if dice.rolled():
                dice.put_back()
                self.answers.say(DRAWN)
                return [*replies, *super()._put(kind, requests[len(replies) :], hooked)]
            stored = as_stored(told[0], hashes, fed)
            if stored is None:
                self.answers.say("the base model tells more of an answer than the store holds")
            else:
                self.answers.keep(key, stored)
            replies += told
        return replies


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the bar of progress, and the sums, that a wrapper shows for each call."""
    logger.disable(_SUMS)
    try:
        with process.silence():
            yield
    finally:
        logger.enable(_SUMS)


def as_stored(answer: Any, images: tuple[str, ...], notes: tuple[str, ...]) -> Stored | None:
    """A base model's answer as the store holds it; None where that is not all of it."""
    counts: tuple[int | None, int | None] = None, None
    if isinstance(answer, GenerationResult):
        tokens = answer.token_counts
        if tokens is not None:
            counts = tokens.input_tokens, tokens.output_tokens
            if tokens.reasoning_tokens is not None or counts == (None, None):
                return None
        answer = answer.text
    return Stored(answer, *counts, False, images, notes) if isinstance(answer, str) else None


def reply(stored: Stored) -> Any:
    """A stored answer as lmms-eval takes it."""
    counts = stored.prompt_tokens, stored.new_tokens
    return stored.text if counts == (None, None) else GenerationResult(stored.text, TokenCounts(*counts))


def _json(settings: Any) -> str | None:
    try:
        return canonical(settings)
    except TypeError:
        return None


def _of_pictures(context: str, shown: Any) -> tuple[str, tuple[str, ...]] | None:
    """Prompt and hashes of what a task shows beside it; None where that is no picture (a video, a sound)."""
    if not all(isinstance(one, Image.Image) for one in shown or ()):
        return None
    return context, tuple(ablations.image_hash(pictures.eight_bits(one)) for one in shown or ())


def _of_messages(context: str, messages: Any) -> tuple[str, tuple[str, ...]] | None:
    """The same of a chat's messages, whose pictures are parts of them."""
    hashes: list[str] = []

    def told(value: Any) -> Any:
        if isinstance(value, Image.Image):
            hashes.append(ablations.image_hash(pictures.eight_bits(value)))
            return ["picture", len(hashes)]
        if isinstance(value, list):
            return [told(part) for part in value]
        if isinstance(value, dict):
            if value.get("type", "text") not in ("text", "image") or isinstance(value.get("url"), str):
                raise TypeError("a video, a sound, or a file whose content is not known")
            return {key: told(part) for key, part in value.items()}
        return value

    try:
        return json.dumps([context, told(messages)], sort_keys=True), tuple(hashes)
    except TypeError:
        return None
