"""`redundancy-eval tasks --check`: do the hub's documents still have the fields that our tasks rely on?"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from lmms_eval import utils

from redundancy_eval.errors import SetupError

DOCUMENTS = 4
_FOLDER = Path(__file__).parent / "paper"


def main() -> int:
    """Check every task of the paper's benchmarks; returns 0.

    Raises:
        SetupError: a data set could not be loaded, or a document lacks something.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    paths = [p for p in sorted(_FOLDER.glob("redundancy_*.yaml")) if "group_" not in p.name]
    wrong = []
    for path in paths:
        config = utils.load_yaml_config(str(path))
        problem = check(config)
        print(f"{config['task']:26}{config['dataset_path']:32}{problem or 'ok'}", flush=True)
        wrong += [config["task"]] * bool(problem)
    if wrong:
        raise SetupError(
            f"{len(wrong)} of {len(paths)} benchmarks could not be checked or lack something: {', '.join(wrong)}"
        )
    return 0


def check(config: dict[str, Any]) -> str:
    """Ask, show and score the first documents of one task; what went wrong, or an empty text."""
    try:
        stream = datasets.load_dataset(
            config["dataset_path"], config.get("dataset_name"), split=config["test_split"], streaming=True
        )
        features = stream.features
        found = datasets.Dataset.from_list(list(stream.take(DOCUMENTS)), features=features)
    except Exception as error:  # whatever the hub, the network or the format says
        return f"not loaded: {_line(error)}"
    try:
        prepare: Callable[[Any], Any] | None = config.get("process_docs")
        documents = list(prepare(found) if prepare else found)
        if not documents:
            return f"none of the first {DOCUMENTS} documents counts"
        prompts = (config.get("lmms_eval_specific_kwargs") or {}).get("default")
        for document in documents:
            question = config["doc_to_text"](document, prompts) if prompts else config["doc_to_text"](document)
            images = config["doc_to_visual"](document)
            target = config["doc_to_target"]
            right = target(document) if callable(target) else document[target]
            score = config["process_results"](dict(document), ["A"])["accuracy"]["score"]
            if not question or not images or right in (None, "", []) or not 0 <= score <= 1:
                return f"document {document}: no question, image, answer or score"
    except Exception as error:  # a missing column is a KeyError, another type a TypeError, ...
        return f"{type(error).__name__}: {_line(error)}"
    return ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
