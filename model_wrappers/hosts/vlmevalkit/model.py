"""The masked models as VLMEvalKit sees them; imported in its launcher's process only.

VLMEvalKit makes the wording of a question and calls one sample at a time. With a batch size, the coming samples of the
data set are answered ahead, together; answers stay the same.
"""

import hashlib
import string
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from types import MethodType
from typing import Any

import pandas as pd
import torch
from PIL import Image
from vlmeval.dataset import DATASET_TYPE
from vlmeval.vlm.base import BaseModel

from redundancy_eval import environment
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import pictures as readable
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import card, registry, templates
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.store import KNOWN

# VLMEvalKit sets no limit for a data set; this is what its own wrappers of Eagle and DeepSeek-VL take.
MAX_NEW_TOKENS = 512

Message = Sequence[Mapping[str, Any]]


@contextmanager
def fatal_errors(what: str) -> Iterator[None]:
    """End the process on any error: VLMEvalKit would go on without the answers, and other ranks would wait for it."""
    with loading.one_line_errors():
        try:
            yield
        except (SystemExit, KeyboardInterrupt):
            raise
        except Exception as error:
            if isinstance(error, loading.OURS):
                raise
            if isinstance(error, ImportError):
                raise SetupError(environment.explain(what, "vlmevalkit", error)) from error
            traceback.print_exc()
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SetupError(f"{what} failed: {type(error).__name__}: {reason}") from error


def question(message: Message, published: card.Published | None = None, model_id: str = "") -> tuple[str, list[str]]:
    """VLMEvalKit's message -> text and paths of its images.

    Images in front of or after the text go where the model's template puts images; those between texts stand where
    they are, but for models that take them in front only. As published, all stand in front.
    """
    kinds = [part["type"] for part in message]
    if not {"text", "image"}.issuperset(kinds):
        raise SetupError(f"the masked models take texts and images only; not {(set(kinds) - {'text', 'image'}).pop()}")
    paths = [str(part["value"]) for part in message if part["type"] == "image"]
    # A tag in a text is a word there: pictures come as parts of their own.
    texts = [templates.as_words(part["value"]) for part in message if part["type"] == "text"]
    if published:
        paths = paths[:1] if published.one_image else paths
        return templates.IMAGE * len(paths) + "\n" + published.joint.join(texts), paths
    if sum(a != b for a, b in pairwise(kinds)) <= 1 or registry.images_first(model_id):
        return "".join(texts), paths
    rest = iter(texts)
    return "".join(templates.IMAGE if kind == "image" else next(rest) for kind in kinds), paths


def reworded(message: Message) -> bool:
    """Whether a text of a message has image tags, which `question` makes words."""
    return any(part["type"] == "text" and templates.IMAGE in part["value"] for part in message)


def token_limit(arguments: Mapping[str, str], published: card.Published | None) -> int:
    """Most new tokens of an answer."""
    return int(arguments.get("max_new_tokens") or (published.max_new_tokens if published else MAX_NEW_TOKENS))


def pictures(paths: Sequence[str]) -> tuple[Image.Image, ...]:
    """The images in files, decoded.

    Raises:
        DataError: one cannot be read.
    """
    images = []
    for path in paths:
        with readable.named(str(path), "delete it, and VLMEvalKit writes it anew from the data set"):
            images.append(readable.read(path))
    return tuple(images)


def name_rows(dataset: Any) -> None:
    """Let a data set name the row whose picture it cannot write to a file, and end there."""

    def naming(build: Any) -> Any:
        def built(self: Any, line: Any, *rest: Any, **settings: Any) -> Any:
            row = line["index"] if hasattr(line, "keys") else f"at place {line}"
            with (
                fatal_errors(dataset.dataset_name),
                readable.named(f"{dataset.dataset_name}.tsv, row with index {row}"),
            ):
                return build(line, *rest, **settings)

        return MethodType(built, dataset)

    if "dump_image" not in vars(dataset):
        dataset.dump_image, dataset.build_prompt = naming(dataset.dump_image), naming(dataset.build_prompt)


class Worded(BaseModel):
    """The wording of questions: VLMEvalKit's, or as published.

    Args:
        published: ask as the paper's authors did, where given.
    """

    INTERLEAVE = True

    def __init__(self, published: card.Published | None = None):
        super().__init__()
        self.published = published

    def set_dump_image(self, dump_image_func: Any) -> None:
        """Called before each data set, with its method that writes images to files."""
        name_rows(dump_image_func.__self__)
        super().set_dump_image(dump_image_func.__self__.dump_image)

    def use_custom_prompt(self, dataset: str) -> bool:
        """Whether the wording is not VLMEvalKit's: that of its Eagle wrapper for multiple choice, as published."""
        if self.published is None or not self.published.own_choice_wording:
            return False
        return "MMMU" not in dataset and (DATASET_TYPE(dataset) == "MCQ" or dataset == "MMVet")

    def build_prompt(self, line: Any, dataset: str) -> list[dict[str, Any]]:
        """The wording of VLMEvalKit's Eagle wrapper (vlmeval/vlm/eagle_x.py, build_prompt)."""
        images = [{"type": "image", "value": path} for path in self.dump_image(line, dataset)]
        return [{"type": "text", "value": eagle_wording(line, dataset)}, *images]

    def chat_inner(self, message: Any, dataset: str | None = None) -> str:
        """Not offered: the benchmarks of the paper are single-turn."""
        with fatal_errors(str(dataset)):
            raise SetupError("the masked models answer single-turn data sets only")


class MaskedVlm(Worded):
    """A masked model of ours.

    Args:
        model_id: `eagle_masked`, ...
        arguments: its model arguments, and `max_new_tokens`.
        batch_size: how many samples are answered together.
        published: ask and answer as the paper's authors did, where given.
    """

    def __init__(
        self,
        model_id: str,
        arguments: Mapping[str, str],
        batch_size: int = 1,
        published: card.Published | None = None,
    ):
        super().__init__(published)
        given = {key: value for key, value in arguments.items() if key != "max_new_tokens"}
        self.model_id, self.batch_size = model_id, batch_size
        self.limit = token_limit(arguments, published)
        self.settings = dict(published.generation) if published else {}
        with fatal_errors(f"loading {model_id}"):
            self.masked = loading.load(model_id, **given)
            template = getattr(self.masked, "template", None)
            for name, done in published.impossible.items() if published else ():
                if template is templates.TEMPLATES[name]:
                    raise SetupError(f"--as-published cannot give what was done for {done}")
        self.capped = 0
        self._coming: Iterator[tuple[str, Message]] = iter(())
        self._answers: dict[Any, str] = {}

    def set_dump_image(self, dump_image_func: Any) -> None:
        """Called before each data set, with its method that writes images to files."""
        super().set_dump_image(dump_image_func)
        self._coming, self._answers = coming(self, dump_image_func.__self__), {}

    def generate_inner(self, message: Message, dataset: str | None = None) -> str:
        """Answer a message, and with it the next ones of the data set."""
        key = message_key(message)
        if key not in self._answers:
            batch = [message]
            if self.batch_size > 1:
                for _, ahead in self._coming:  # rows that were answered in an earlier run are passed over
                    if message_key(ahead) == key:
                        batch += [following for _, following in islice(self._coming, self.batch_size - 1)]
                        break
            self._answers = dict(zip(map(message_key, batch), self.answer(batch, str(dataset)), strict=True))
        return self._answers[key]

    def answer(self, batch: Sequence[Message], dataset: str) -> list[str]:
        """Answers to messages, together; one by one where they are drawn, as each has its own seed."""
        with fatal_errors(f"drop={self.masked.mask_label} on {dataset}"):
            asked = [self.prompt(message, dataset) for message in batch]
            groups = [[prompt] for prompt in asked] if self.settings.get("do_sample") else [asked]
            answers, known = [], len(self.masked.known)
            for group in groups:
                if self.settings.get("do_sample"):
                    torch.manual_seed(self._seed(group[0]))
                answers += self.masked.generate(group, self.limit, **self.settings)
            self.capped += sum(answer.capped for answer in answers)
            run_record.tell_feeds(self.masked.feeds())
            run_record.tell_counts(note for answer in answers for note in answer.notes)
            run_record.tell_counts([KNOWN] * (len(self.masked.known) - known))
            return [answer.text for answer in answers]

    def prompt(self, message: Message, dataset: str) -> Prompt:
        """What is put to the model for a message."""
        text, paths = question(message, self.published, self.model_id)
        name = f"{dataset} {' '.join(Path(path).name for path in paths)}"
        return Prompt(text, pictures(paths), name, reworded(message))

    def _seed(self, prompt: Prompt) -> int:
        """Of an answer that is drawn: from document (its images' names and its text) and mask."""
        told = "\x1f".join([self.masked.mask_label, prompt.name, prompt.text])
        return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=4).digest(), "big")

    def remarks(self) -> list[str]:
        """What to say when all is done: answers that were stopped, prompts that were changed."""
        stopped = [f"{self.capped} answers were stopped by the token limit"] if self.capped else []
        return stopped + loading.remarks(self.masked)


def coming(model: BaseModel, dataset: Any) -> Iterator[tuple[str, Message]]:
    """Index and message of what VLMEvalKit will put to a model in this process, in its order (vlmeval/inference.py)."""
    rows = dataset.data.iloc[process.rank() :: process.world_size()]
    name = dataset.dataset_name
    own = not getattr(dataset, "force_use_dataset_prompt", False) and model.use_custom_prompt(name)
    for place in range(len(rows)):
        line = rows.iloc[place]
        built = model.build_prompt(line, dataset=name) if own else dataset.build_prompt(line)
        yield str(line["index"]), model.preproc_content(built)


def message_key(message: Message) -> tuple[tuple[str, str], ...]:
    """What tells messages apart: texts and paths."""
    return tuple((part["type"], str(part["value"])) for part in message)


def eagle_wording(line: Mapping[str, Any], dataset: str) -> str:
    """The question as VLMEvalKit's Eagle wrapper words it for multiple choice and MM-Vet."""
    question = line["question"]
    if dataset == "MMVet":
        return f"{question}\nAnswer the question directly. "
    options = "".join(f"{x}. {line[x]}\n" for x in string.ascii_uppercase if x in line and not pd.isna(line[x]))
    hint = f"Hint: {line['hint']}\n" if "hint" in line and not pd.isna(line["hint"]) else ""
    ending = "\nAnswer with the option’s letter from the given choices directly. "
    return f"{hint}{question}\n" + (options + ending if options else "Answer the question directly. ")
