"""VLMEvalKit's own launcher with models that read their replies from a file, on `vlmevalkit_data`'s benchmarks.

    python -m tests.helpers.scripted_vlmevalkit ANSWERS.json [--stub-judge] --data MMVP --model full --work-dir runs ...

ANSWERS.json holds model -> dataset -> {index: reply}; the folder of the TSV files is the environment's LMUData.
`--stub-judge` puts a judge that needs no network in place of the one that MathVista insists on.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path


def main(answers: str, *arguments: str) -> None:
    from vlmeval import run  # first: it chooses the devices before torch is there
    from vlmeval.config import supported_VLM
    from vlmeval.dataset import DATASET_CLASSES, image_vqa

    replies = json.loads(Path(answers).read_text(encoding="utf-8"))
    for name, of_model in replies.items():
        supported_VLM[name] = partial(scripted(), of_model)
    for cls in DATASET_CLASSES:
        for dataset in {dataset for of_model in replies.values() for dataset in of_model}:
            getattr(cls, "DATASET_MD5", {}).pop(dataset, None)  # a known sum would make it fetch the real file
    if "--stub-judge" in arguments:
        image_vqa.build_judge = lambda **_: Judge()
    sys.argv = ["run.py", *(argument for argument in arguments if argument != "--stub-judge")]
    run.main()


def scripted():
    """The model class; in a function because VLMEvalKit has to be imported in the right order."""
    from vlmeval.vlm.base import BaseModel

    class Scripted(BaseModel):
        def __init__(self, replies):
            super().__init__()
            self.replies = replies

        def use_custom_prompt(self, dataset):
            return True

        def build_prompt(self, line, dataset):
            """The benchmark's own prompt; the only call that is told which sample comes next."""
            self.index = str(line["index"])
            return self.dump_image_func.__self__.build_prompt(line)

        def generate_inner(self, message, dataset=None):
            return self.replies[dataset][self.index]

    return Scripted


class Judge:
    """Extracts the last number of a reply, else nothing, from MathVista's request to a judge."""

    def working(self):
        return True

    def generate(self, prompt, **_):
        reply = prompt.rpartition("Model respone: ")[2].removesuffix("Extracted answer:")
        return (re.findall(r"-?\d+\.\d+|-?\d+", reply) or [""])[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
