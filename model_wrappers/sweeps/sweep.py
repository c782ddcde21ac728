"""Every mask of one model at once: each image is encoded once, then every mask is fused and answered in batches.

Documents come one after the other, each under all masks, so that what the encoders give for an image is used while it
is at hand. Answers go to a response store as they are given; what is there already is never asked again.
"""

import gc
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from tqdm import tqdm

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.masking import ablations, hf
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.model_wrappers.sweeps.ahead import ahead
from redundancy_eval.model_wrappers.sweeps.engines import Asked, Reply
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, FULL
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.settings import AUTO
from redundancy_eval.store import Key, Store, Stored

_ROOM = 2**29  # bytes of a window's images and of what is made of them, and of those that wait for the next
FIRST_GUESS = 32  # sequences in a batch; a GPU gets more as long as they fit
_CPU_CACHE = 2**30  # bytes of a batch's keys and values on a CPU, where larger batches are not faster
_LOOKED_AT = 8  # documents of a task whose answers are all known, of which the images are looked at
_USUAL = 1024  # tokens of a prompt with its image


def first_guess(device: str, cache: int) -> int:
    """Sequences in the first batches of `auto`.

    Args:
        device: `cpu` or another type of torch's.
        cache: bytes of a token's keys and values; 0 where they are not known.
    """
    most = _CPU_CACHE // (_USUAL * cache) if device == "cpu" and cache else FIRST_GUESS
    return max(1, min(FIRST_GUESS, most))


Window = list[tuple[Question, Asked]]


@dataclass
class Job:
    """What is to be answered: a mask and the questions of the chunk that the one answer holds for.

    `place` is that of the first question.
    """

    mask: str
    place: int
    questions: list[tuple[Question, Asked]]


class Sweep:
    """A model that answers under many masks.

    Args:
        load: loads the full model; called when something is to be answered, so a finished sweep loads nothing.
        labels: canonical labels of the masks.
        kept: the response store.
        batch_size: most sequences that are answered together, or `auto`.
        memory: bytes for encoders' outputs; by default a tenth of this machine's memory.
    """

    def __init__(
        self,
        load: Callable[[], MaskedModel | hf.HfMaskedModel],
        labels: Sequence[str],
        kept: Store,
        batch_size: int | str = AUTO,
        memory: int | None = None,
    ):
        self.load, self.labels, self.store, self.memory = load, list(labels), kept, memory
        self.auto = batch_size == AUTO
        self.growing = False  # on a GPU alone, which the loaded model tells
        self.batch_size = FIRST_GUESS if self.auto else int(batch_size)
        self.screen = sys.stderr  # also where the framework's own talk is kept away from it
        self.engine: engines.Native | engines.Looped | None = None
        self.asked: set[Key] = set()  # the questions, under no mask dropped
        self._filled: set[Key] = set()  # of these, those that have all their answers
        self._blind: dict[Hashable, Reply] = {}  # answers that depend on no pixel

    def fill(self, questions: Sequence[Question], title: str = "sweep", show: bool = True) -> None:
        """Answer the questions under every mask, as far as the store lacks them.

        Raises:
            DataError: a question cannot be put to the model, or a document's images differ from before.
            SetupError: not even one sequence fits into memory.
        """
        # lmms-eval repeats questions to give processes equal shares, and asks all of them again for each mask.
        each = {key: q for q in questions if (key := q.key(FULL)) not in self._filled}
        self.asked.update(each)
        if all(q.key(label) in self.store for q in each.values() for label in self.labels):
            self._look_at(list(each.values()))
            self._filled.update(each)
            return
        drawn = next((q for q in each.values() if q.settings.get("do_sample")), None)
        if drawn is not None:
            raise SetupError(f"{drawn.task} draws its answers, which no two runs do alike: a sweep is greedy")
        if self.engine is None:
            self.engine = engines.start(self.load(), self.labels, self.memory)
            if self.auto:
                self.batch_size = first_guess(self.engine.device, self.engine.cache)
                self.growing = self.growing or self.engine.device == "cuda"
        labels = self.labels + ([ALONE] if self.engine.half and FULL in self.labels else [])
        missing = [q for q in each.values() if any(q.key(label) not in self.store for label in labels)]
        total = sum(q.key(label) not in self.store for q in missing for label in labels)
        with tqdm(total=total, desc=title, unit=" answers", disable=not show, file=self.screen) as progress:
            for window in self._windows(missing, labels):
                self._answer(window, labels, progress)
                self.engine.forget(image for _, one in window for image in one.hashes)
        self._filled.update(each)

    def _look_at(self, questions: Sequence[Question]) -> None:
        """Compare some documents' images with those that were answered; the others' show when something is asked.

        Raises:
            DataError: a document's images are others.
        """
        step = max(1, len(questions) // _LOOKED_AT)
        for question in questions[::step]:
            self.store.check_images(question.key(FULL), tuple(map(ablations.image_hash, question.images())))

    def answer(self, question: Question, label: str) -> Stored:
        """The stored answer to a question under a mask.

        Raises:
            DataError: there is none.
        """
        found = self.store.get(question.key(label))
        if found is None:
            raise DataError(f"{question.task} document {question.document}: no answer under drop={label} in the store")
        return found

    def _windows(self, questions: Sequence[Question], labels: Sequence[str]) -> Iterator[Window]:
        """Questions made ready, as many of equal generation settings as fill a batch under one mask.

        They keep the data set's order, in which questions on one image mostly follow each other. Large images make a
        window end early.
        """
        assert self.engine is not None
        window: Window = []
        pictures: dict[str, Image.Image] = {}
        held = 0
        try:
            for question, asked, made in self._ready(sorted(questions, key=lambda q: q.generation), labels):
                if window and question.generation != window[0][0].generation:
                    yield window
                    window, pictures, held = [], {}, 0
                held += made + sum(_bytes(picture) for image, picture in asked.pictures if image not in pictures)
                same = tuple(pictures.setdefault(image, picture) for image, picture in asked.pictures)
                window.append((question, replace(asked, prompt=replace(asked.prompt, images=same))))
                if len(window) >= self.batch_size or held > _ROOM:
                    yield window
                    window, pictures, held = [], {}, 0
            if window:
                yield window
        finally:
            self.engine.forget()

    def _ready(self, questions: Sequence[Question], labels: Sequence[str]) -> Iterator[tuple[Question, Asked, int]]:
        """Questions with all that the model is given of them, and the bytes of it that the encoders are given.

        The next ones are read, tokenised and preprocessed while the model works on these.
        """
        assert self.engine is not None
        engine = self.engine

        def ready(question: Question) -> tuple[Question, Asked, int]:
            prompt = question.prompt()
            asked = engine.ask(prompt, tuple(map(ablations.image_hash, prompt.images)))
            missing = [label for label in labels if question.key(label) not in self.store]
            try:
                return question, asked, engine.prepare(asked, missing)
            except DataError as error:  # of an image, which does not know whose it is
                raise DataError(f"{prompt.name}: {error}") from error

        def weight(found: tuple[Question, Asked, int]) -> int:
            return found[2] + sum(map(_bytes, found[1].prompt.images))

        return ahead(ready, questions, weight, _ROOM, lambda: self.batch_size)

    def _answer(self, window: Sequence[tuple[Question, Asked]], labels: Sequence[str], progress: tqdm) -> None:
        """Answer a window: long prompts first, questions on the same images together, of these each mask's together."""
        longest: dict[tuple[str, ...], int] = {}
        for _, one in window:
            longest[one.hashes] = max(len(one.ids), longest.get(one.hashes, 0))
        order = sorted(longest, key=lambda images: -longest[images])
        jobs = [job for label in labels if label != ALONE for job in self._jobs(window, label)]
        self._save(progress)  # what was known is not kept waiting
        self._work(sorted(jobs, key=lambda job: order.index(window[job.place][1].hashes)), progress)
        if ALONE in labels:
            again = [Job(ALONE, 0, [one]) for one in window if one[0].key(ALONE) not in self.store]
            self._work(again, progress)

    def _jobs(self, asked: Sequence[tuple[Question, Asked]], label: str) -> list[Job]:
        """What a mask has to answer; one job for all questions that are the same where it lets no pixel through."""
        jobs: list[Job] = []
        alike: dict[Hashable, Job] = {}
        for place, (question, one) in enumerate(asked):
            if question.key(label) in self.store:
                continue
            blind = self._blind_key(label, question, one)
            if blind in self._blind:
                self._keep(Job(label, place, [(question, one)]), self._blind[blind])
            elif blind in alike:
                alike[blind].questions.append((question, one))
            else:
                jobs.append(Job(label, place, [(question, one)]))
                if blind is not None:
                    alike[blind] = jobs[-1]
        return jobs

    def _blind_key(self, label: str, question: Question, one: Asked) -> Hashable | None:
        seen = None if self.engine is None else self.engine.seen_blindly(one, label)
        return None if seen is None else (label, seen, question.generation)

    def _work(self, jobs: Sequence[Job], progress: tqdm) -> None:
        waiting = list(jobs)
        while waiting:
            batch = waiting[: self._whole(waiting)]
            del waiting[: len(batch)]
            for job, reply in zip(batch, self._fitting(batch), strict=True):
                self._keep(job, reply)
                blind = self._blind_key(job.mask, *job.questions[0])
                if blind is not None:
                    self._blind[blind] = reply
            self._save(progress)

    def _whole(self, waiting: Sequence[Job]) -> int:
        """How many of the jobs are a batch: with hooks, all masks of an image where that many fit.

        A module is spared where it is given the same images again; an image whose masks were parted would make those
        of some masks others than those of the rest.
        """
        size = self.batch_size
        if not isinstance(self.engine, engines.Looped) or size >= len(waiting):
            return size
        shown = [job.questions[0][1].hashes for job in waiting[: size + 1]]
        return next((n for n in range(size, 0, -1) if shown[n - 1] != shown[size]), size)

    def _save(self, progress: tqdm) -> None:
        before = len(self.store)
        self.store.flush()
        progress.update(len(self.store) - before)

    def _fitting(self, jobs: Sequence[Job]) -> list[Reply]:
        """Answer jobs together, or in smaller batches where memory does not suffice."""
        assert self.engine is not None
        first, _ = jobs[0].questions[0]
        batch = [(job.questions[0][1], FULL if job.mask == ALONE else job.mask) for job in jobs]
        try:
            replies = self.engine.answer(batch, first.limit, jobs[0].mask != ALONE, **first.settings)
        except torch.OutOfMemoryError:
            if len(jobs) == 1:
                raise SetupError("out of memory: not even one sequence fits the device") from None
        else:
            parted = len(self.labels) if isinstance(self.engine, engines.Looped) else 1  # see `_whole`
            if self.growing and len(jobs) > self.batch_size - parted and engines.room_for_twice():
                self.batch_size *= 2
            return replies
        gc.collect()  # what a failed pass left in cycles is memory too
        torch.cuda.empty_cache()
        self.batch_size, self.growing = min(self.batch_size, (len(jobs) + 1) // 2), False
        print(f"out of memory: batches of {self.batch_size} from here on", file=self.screen)
        replies = []
        while len(replies) < len(jobs):  # the size may shrink on the way
            replies += self._fitting(jobs[len(replies) : len(replies) + self.batch_size])
        return replies

    def _keep(self, job: Job, reply: Reply) -> None:
        answer = reply.answer
        for question, one in job.questions:
            notes = (*one.notes, *reply.notes)
            counts = (answer.prompt_tokens, answer.new_tokens, answer.capped)
            stored = Stored(answer.text, *counts, one.hashes, notes, answer.ids, answer.log_probability)
            self.store.add(question.key(job.mask), stored)


def _bytes(picture: Image.Image) -> int:
    return picture.width * picture.height * len(picture.getbands())
