"""Whether the demo's verdicts are right: its model asked thousands of fresh questions of the same kind.

    python benchmarks/demo_truth.py --report demo_results/tables --count 2400

The demo benchmark has 240 questions a category; the code that made them makes as many more as wanted, with another
seed, from the same held-out split. The model is asked those under the full mask, each single drop and all dropped; the
CURs, exact to about a third of the report's intervals, stand for the truth. Printed are how many of the report's
intervals hold them, and each verdict beside what the truth would say.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from redundancy_eval import metrics
from redundancy_eval.model_wrappers.masking import Prompt, load
from redundancy_eval.model_wrappers.sweeps import engines
from redundancy_eval.tasks.demo import documents, scenes, utils

SEED = 711  # not the benchmark's
LONGEST = 16  # tokens of an answer, as in the task files
NAMES = {"ocr": "OCR", "chart": "Chart", "general": "General", "knowledge": "Knowledge",
         "vision_centric": "Vision-Centric"}  # fmt: skip

Right = dict[str, dict[str, np.ndarray]]  # category -> mask -> (documents,) 0 or 1


def right(count: int, labels: Sequence[str], batch: int = 32) -> Right:
    """Whether the answers to fresh questions under some masks are right."""
    full = load("eagle_masked", "demo", drop="none", dtype="float32", device="cpu")
    engine = engines.start(full, labels, None)
    found: Right = {}
    for category in scenes.CATEGORIES:
        answers: dict[str, list[bool]] = {label: [] for label in labels}
        for part in _parts(documents.documents(category, count, SEED), batch):
            prompts = [Prompt(d["prompt"], (Image.fromarray(scenes.draw(json.loads(d["scene"]))),)) for d in part]
            asked = [engine.ask(prompt) for prompt in prompts]
            batch_of_all = [(one, label) for label in labels for one in asked]
            replies = engine.answer(batch_of_all, LONGEST)
            for place, (reply, (_, label)) in enumerate(zip(replies, batch_of_all, strict=True)):
                answers[label].append(utils.is_right(reply.answer.text, part[place % len(part)]["answer"]))
        found[NAMES[category]] = {label: np.array(each, dtype=float) for label, each in answers.items()}
        print(category, {label: round(100 * float(np.mean(each)), 2) for label, each in answers.items()}, flush=True)
    return found


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def curs(
    right: dict[str, dict[str, np.ndarray]], encoders: Sequence[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    """(encoder, place) -> CUR and its standard error, from paired differences."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for name in encoders:
        of_places = []
        for place, of_mask in right.items():
            full, without = of_mask["none"], of_mask[name]
            value = float(metrics.cur(full.mean(), without.mean()))
            # Each document's share in the ratio, linearised.
            share = (full - without - value * full) / full.mean()
            of_places.append((value, float(share.std(ddof=1) / np.sqrt(len(share)))))
            found[name, place] = of_places[-1]
        values, errors = map(np.array, zip(*of_places, strict=True))
        found[name, "Overall"] = float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))
    return found


def wrong(verdict: str, truth: float, error: float, margin: float) -> bool:
    """Whether a verdict is surely wrong; `undecided` says nothing."""
    low, high = truth - 2 * error, truth + 2 * error
    outside = low >= margin or high <= -margin
    judged = {"relied on": high <= 0, "needed": high <= 0, "detrimental": low >= 0, "redundant": outside}
    return judged.get(verdict, False)


def main() -> None:
    """Ask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True, help="folder of the demo's tables")
    parser.add_argument("--count", type=int, default=2400, help="fresh questions of each category")
    args = parser.parse_args()
    torch.set_num_threads(1)
    analysis = json.loads((args.report / "report.json").read_text(encoding="utf-8"))["models"][0]["analysis"]
    encoders = analysis["encoders"]
    truth = curs(right(args.count, ["none", *encoders]), encoders)
    margin = analysis["settings"]["margin"]
    held = mistaken = words = 0
    print("\n| encoder | place | CUR of the report, % | truth, % | held | verdict | wrong |")
    print("|---|---|---|---|---|---|---|")
    for cell in analysis["cells"]:
        value, error = truth[cell["encoder"], cell["place"]]
        number, verdict = cell["cur"], cell["verdict"]
        inside = number["low"] <= value <= number["high"]
        bad = wrong(verdict, value, error, margin)
        held, mistaken, words = held + inside, mistaken + bad, words + (verdict != "undecided")
        interval = f"{100 * number['value']:.1f} [{100 * number['low']:.1f}, {100 * number['high']:.1f}]"
        print(f"| {cell['encoder']} | {cell['place']} | {interval} | {100 * value:.2f} +-{100 * error:.2f} | "
              f"{'yes' if inside else 'no'} | {verdict} | {'yes' if bad else 'no'} |")  # fmt: skip
    total = len(analysis["cells"])
    print(f"\n{held} of {total} intervals hold the truth")
    print(f"{mistaken} of {words} verdicts are wrong, {total - words} are undecided")


if __name__ == "__main__":
    main()
