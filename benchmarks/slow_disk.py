"""What reading the next images while the model works saves, with images that come slowly.

    python benchmarks/slow_disk.py --milliseconds 50

The bundled model answers the demo's first questions of each task under every mask, each image after a wait as of a slow
disk; once reading ahead, once reading each image when its turn has come. Answers must be the same.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from redundancy_eval import masks
from redundancy_eval.model_wrappers.masking.loading import load
from redundancy_eval.model_wrappers.sweeps import sweep as module
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.store import Store
from redundancy_eval.tasks.demo import scenes, utils


def questions(count: int, wait: float) -> list[Question]:
    """The first questions of each of the demo's tasks."""

    def show(document: dict[str, Any]) -> tuple[Image.Image, ...]:
        time.sleep(wait)
        return tuple(utils.doc_to_visual(document))

    found = []
    for path in sorted(Path(scenes.__file__).parent.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[:count]):
            document = json.loads(line)
            found.append(
                Question(path.stem, "test", str(number), document["prompt"], 16, {}, lambda d=document: show(d))
            )
    return found


def in_turn(load: Callable[[Any], Any], items: Iterable[Any], *_: Any) -> Iterator[Any]:
    """What `ahead` gives, without a thread."""
    return map(load, items)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, default=50)
    parser.add_argument("--count", type=int, default=40, help="questions of each of five tasks")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model = load("eagle_masked", "demo", drop="none", dtype="float32", device="cpu")
    labels = [masks.label(mask, model.encoder_names) for mask in masks.every(model.encoder_names)]
    asked = questions(args.count, args.milliseconds / 1000)
    ahead, times, answers = module.ahead, {"in turn": [], "ahead": []}, []
    for _ in range(args.repeats):
        for name, way in (("in turn", in_turn), ("ahead", ahead)):
            module.ahead = way
            with tempfile.TemporaryDirectory() as folder:
                kept = Store(Path(folder), "demo")
                work = module.Sweep(lambda: model, labels, kept)
                begun = time.perf_counter()
                work.fill(asked, show=False)
                times[name].append(time.perf_counter() - begun)
                answers.append([work.answer(q, label).text for q in asked for label in labels])
    assert all(each == answers[0] for each in answers), "the answers differ"
    waits = len(asked) * args.milliseconds / 1000
    print(f"{len(asked)} images, {waits:.1f} s of waiting, {len(labels)} masks, {len(answers[0])} equal answers")
    for name, each in times.items():
        print(f"{name:8s} {min(each):6.1f} s (of {', '.join(f'{one:.1f}' for one in each)})")


if __name__ == "__main__":
    main()
