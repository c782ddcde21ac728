"""What host work beside the model saves: images that come slowly and are large, and a device that is waited for.

    python -m benchmarks.slow_disk                            images that come after 50 ms each
    python -m benchmarks.slow_disk --side 3000 --device 50 --masks leave-one-out --batch 8
                                                              large ones, and a device that takes 50 ms an answer

The bundled model answers the demo's first questions of each task, each image after a wait as of a slow disk: with all
host work in turn, with images read ahead, and with all host work (reading, tokenising, preprocessing) ahead. A device
is a wait after the model's own work in which the CPU is free, as with a GPU. Answers must be the same.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from redundancy_eval.model_wrappers.masking.loading import load
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.model_wrappers.sweeps import masks as presets
from redundancy_eval.model_wrappers.sweeps import sweep as module
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.store import Store
from redundancy_eval.tasks.demo import scenes, utils


def questions(count: int, wait: float, side: int) -> list[Question]:
    """The first questions of each of the demo's tasks, on their own pictures or on large ones in JPEG."""

    def slow(show: Callable[[], Image.Image]) -> tuple[Image.Image, ...]:
        time.sleep(wait)
        return (show(),)

    found = []
    for path in sorted(Path(scenes.__file__).parent.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[:count]):
            document = json.loads(line)
            (picture,) = utils.doc_to_visual(document)
            show = jpeg(picture, side) if side else picture.copy
            images = partial(slow, show)
            found.append(Question(path.stem, "test", str(number), document["prompt"], 16, {}, images))
    return found


def jpeg(picture: Image.Image, side: int) -> Callable[[], Image.Image]:
    """Decodes a picture, as large as said, from JPEG."""
    written = io.BytesIO()
    picture.resize((side, side * 3 // 4)).save(written, "JPEG")
    return lambda: Image.open(io.BytesIO(written.getvalue())).convert("RGB")


def in_turn(load: Callable[[Any], Any], items: Iterable[Any], *_: Any) -> Iterator[Any]:
    """What `ahead` gives, without a thread."""
    return map(load, items)


def waiting(answer: Callable[..., Any], each: float) -> Callable[..., Any]:
    """A device's answers: the model's, after so many seconds for each."""

    def late(self: Any, batch: Any, *rest: Any, **settings: Any) -> Any:
        replies = answer(self, batch, *rest, **settings)
        time.sleep(each * len(batch))
        return replies

    return late


WAYS = {
    "in turn": [(module, "ahead", in_turn), (engines.Native, "prepare", lambda *_: 0)],
    "images ahead": [(engines.Native, "prepare", lambda *_: 0)],
    "all ahead": [],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, default=50, help="until an image is there (default 50)")
    parser.add_argument("--side", type=int, default=0, help="columns of large images (default: the demo's own)")
    parser.add_argument("--device", type=float, default=0, help="milliseconds of a device for each answer (default 0)")
    parser.add_argument("--masks", default="every", help="as for `redundancy-eval sweep` (default: every)")
    parser.add_argument("--batch", default="auto", help="sequences together, and questions in a window (default auto)")
    parser.add_argument("--count", type=int, default=40, help="questions of each of five tasks")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model = load("eagle_masked", "demo", drop="none", dtype="float32", device="cpu")
    labels = presets.read(args.masks, model.encoder_names)
    asked = questions(args.count, args.milliseconds / 1000, args.side)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    answers = []
    with mock.patch.object(engines.Native, "answer", waiting(engines.Native.answer, args.device / 1000)):
        for _ in range(args.repeats):
            for name, way in WAYS.items():
                with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                    for owner, what, stand_in in way:
                        stack.enter_context(mock.patch.object(owner, what, stand_in))
                    work = module.Sweep(lambda: model, labels, Store(Path(folder), "demo"), args.batch)
                    begun, used = time.perf_counter(), time.process_time()
                    work.fill(asked, show=False)
                    times[name].append((time.perf_counter() - begun, time.process_time() - used))
                    answers.append([work.answer(q, label) for q in asked for label in labels])
    assert all(each == answers[0] for each in answers), "the answers differ"
    waits = len(asked) * args.milliseconds / 1000
    print(f"{len(asked)} images, {waits:.1f} s of waiting for them, {len(labels)} masks, ", end="")
    print(f"{args.device * len(answers[0]) / 1000:.1f} s of the device; {len(answers[0])} equal answers")
    for name, each in times.items():
        best, cpu = min(each)
        print(f"{name:12s} {best:6.1f} s (of {', '.join(f'{one:.1f}' for one, _ in each)}), {cpu:.1f} s of the CPU")


if __name__ == "__main__":
    main()
