"""The test documents of the demo benchmark; `python -m redundancy_eval.tasks.demo.documents` writes their files."""

import json
from pathlib import Path
from random import Random
from typing import Any

from redundancy_eval.tasks.demo import scenes

PER_CATEGORY = 240
SEED = 2507


def documents(category: str, count: int = PER_CATEGORY, seed: int = SEED) -> list[dict[str, Any]]:
    """Test questions of one category, each about an image of its own; every third one is multiple choice.

    A document holds `question_id`, `category`, `scene` (JSON text that `scenes.draw` understands), `prompt` and
    `answer` (for multiple choice the letter).
    """
    rng = Random(f"{seed}-{category}")
    made: list[dict[str, Any]] = []
    for index in range(count):
        scene = scenes.make_scene(category, rng, test=True)
        questions = scenes.ask(category, scene, rng)
        question = questions[index // 3 % len(questions)]
        options, answer = scenes.as_choice(question, rng) if index % 3 == 2 else (None, question.answer)
        made.append(
            {
                "question_id": f"{category}-{index:03d}",
                "category": category,
                "scene": json.dumps(scene, separators=(",", ":")),
                "prompt": scenes.prompt(question.text, options),
                "answer": answer,
            }
        )
    return made


def main() -> None:
    """Write one JSON-lines file a category beside this module."""
    for category in scenes.CATEGORIES:
        lines = [json.dumps(document) + "\n" for document in documents(category)]
        Path(__file__).with_name(f"{category}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
