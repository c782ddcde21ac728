"""What lmms-eval calls for a document of the demo benchmark."""

import json
from functools import lru_cache
from typing import Any

from PIL import Image

from redundancy_eval.tasks.demo import scenes


@lru_cache(maxsize=256)
def _image(scene: str) -> Image.Image:
    return Image.fromarray(scenes.draw(json.loads(scene)))


def doc_to_visual(doc: dict[str, Any]) -> list[Image.Image]:
    """The image of a document."""
    return [_image(doc["scene"]).copy()]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    """The words put to the model."""
    return doc["prompt"]


def is_right(answer: str, target: str) -> bool:
    """Exact match, blind to case, surrounding blanks and a final full stop."""
    return answer.strip().rstrip(".").strip().lower() == target.lower()


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Score of one answer, with the question id."""
    score = float(is_right(results[0], doc["answer"]))
    return {"accuracy": {"question_id": doc["question_id"], "score": score}}


def mean_accuracy(results: list[dict[str, Any]]) -> float:
    """Share of right answers, 0..1."""
    return sum(result["score"] for result in results) / len(results)
