"""What VLMEvalKit takes for a model while a sweep runs: stored answers of one mask, asked for all masks at once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import card
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as kit
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep


def swept(model_id: str, label: str, sweep: Sweep, given: Mapping[str, str], published: card.Published | None) -> Any:
    """What VLMEvalKit takes for the model under a mask: answers from the store."""
    limit = kit.token_limit(given, published)

    class Swept(kit.Worded):
        def set_dump_image(self, dump_image_func: Any) -> None:
            """Called before each data set: all its questions are answered now."""
            super().set_dump_image(dump_image_func)
            dataset = dump_image_func.__self__
            self.questions = {}
            with kit.fatal_errors(dataset.dataset_name):
                for index, message in kit.coming(self, dataset):
                    text, paths = kit.question(message, published, model_id)
                    show = partial(kit.pictures, paths)
                    asked = Question(dataset.dataset_name, "", index, text, limit, {}, show, kit.reworded(message))
                    self.questions[kit.message_key(message)] = asked
                sweep.fill(list(self.questions.values()), dataset.dataset_name, process.rank() == 0)

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            """The stored answer."""
            with kit.fatal_errors(str(dataset)):
                stored = sweep.answer(self.questions[kit.message_key(message)], label)
                run_record.tell_feeds(stored.notes)
                run_record.tell_counts(stored.notes)
                return stored.text

    return Swept(published)
