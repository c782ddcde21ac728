"""VLMEvalKit's questions put to the lmms-eval side of the masked models, for comparison with what it got itself."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

from PIL import Image


def main(path):
    """Answer `data` under every mask of `drops`; `out` gets mask -> data set -> index -> answer."""
    asked = SimpleNamespace(**json.loads(Path(path).read_text(encoding="utf-8")))
    from vlmeval.dataset import build_dataset

    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model

    made, answers = lmms_eval_model.class_of(asked.model), {}
    for drop in asked.drops:
        model = made(**asked.arguments, drop=drop, batch_size=asked.batch_size, device="cpu")
        answers[drop] = {name: ask(model, name, build_dataset(name), asked.max_new_tokens) for name in asked.data}
    Path(asked.out).write_text(json.dumps(answers))
    return 0


def ask(model, name, dataset, max_new_tokens):
    rows = [dataset.data.iloc[place] for place in range(len(dataset.data))]
    prompts = [text_and_images(dataset.build_prompt(row)) for row in rows]
    model.task_dict = {name: {"test": [images for _, images in prompts]}}
    generation = {"max_new_tokens": max_new_tokens, "until": []}
    requests = [
        SimpleNamespace(args=(text, dict(generation), lambda doc: doc, place, name, "test"))
        for place, (text, _) in enumerate(prompts)
    ]
    results = model.generate_until(requests)
    return {str(row["index"]): result.text for row, result in zip(rows, results, strict=True)}


def text_and_images(message):
    """Images between texts are told by `<image>`; the others come before or behind the text."""
    kinds = "".join(part["type"][0] for part in message)
    between = not re.fullmatch("i*t*|t*i*", kinds)
    text = "".join(part["value"] if part["type"] == "text" else "<image>" * between for part in message)
    return text, [Image.open(part["value"]).convert("RGB") for part in message if part["type"] == "image"]
