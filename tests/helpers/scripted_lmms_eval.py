"""lmms-eval with a model that replies from a file.

    python -m tests.helpers.scripted_lmms_eval --model scripted --tasks ...

`--model_args answers=FILE.json` names that file: a list of replies by document for each task. Other arguments of a
masked model (`pretrained`, `drop`, `keep`) are taken and stand in the results, but change nothing. PLACES=FILE.json in
the environment asks where each document belongs, before anything is asked of the model.
"""

import json
import os
from pathlib import Path

from lmms_eval import evaluator
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms


class Scripted(lmms):
    is_simple = True

    def __init__(self, answers: str, pretrained: str = "", drop: str = "", keep: str = "", **settings):
        super().__init__()
        self.answers = json.loads(Path(answers).read_text(encoding="utf-8"))

    def generate_until(self, requests):
        return [self.reply(*request.args) for request in requests]

    def reply(self, prompt, settings, doc_to_visual, doc_id, task, split):
        assert doc_to_visual(self.task_dict[task][split][doc_id]), "a document without a picture"
        text = self.answers[task][doc_id]
        return GenerationResult(text, TokenCounts(input_tokens=len(prompt.split()), output_tokens=len(text.split())))

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError


def telling_places(path, original=evaluator.evaluate):
    """lmms-eval's `evaluate` that first writes down where each document belongs; null where that is refused."""
    from lmms_eval.evaluator_utils import get_task_list

    from redundancy_eval.errors import SetupError
    from redundancy_eval.model_wrappers.hosts.lmms_eval.sampled import places

    def of(found):
        try:
            return places(found.task_name, found.task)
        except SetupError:
            return None

    def evaluate(lm, task_dict, *arguments, **settings):
        Path(path).write_text(json.dumps({found.task_name: of(found) for found in get_task_list(task_dict)}))
        return original(lm, task_dict, *arguments, **settings)

    return evaluate


if __name__ == "__main__":
    from lmms_eval.cli.dispatch import main
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    MODEL_REGISTRY_V2.register_manifest(ModelManifest("scripted", "tests.helpers.scripted_lmms_eval.Scripted"))
    if "PLACES" in os.environ:
        evaluator.evaluate = telling_places(os.environ["PLACES"])
    main()
