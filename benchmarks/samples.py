"""What a random sample of a finished sweep's questions would have said: how wide, and how far from all questions.

    python -m benchmarks.samples RUNS                    # folders of finished runs of one model, such as the demo's
    python -m benchmarks.samples RUNS --counts 20 40 80 --seeds 200
    python -m benchmarks.samples RUNS --sweep 40         # and what a sweep of 40 questions a task costs, anew

For each count, over the seeds: the half width of the interval of overall CURs in % (the mean over encoders), how far
they lie from the CURs of all questions, and how often the interval holds those; then the same of the categories' CURs.
Intervals are about all questions that could have been asked, so they hold those of a finished benchmark more often than
95 %. Single drops alone are looked at.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redundancy_eval import api, metrics
from redundancy_eval.sample import Sample
from redundancy_eval.statistics import sampling
from redundancy_eval.table import ScoreTable
from redundancy_eval.uncertainty import OVERALL, Analysis, analyse


def drawn(table: ScoreTable, sample: Sample) -> ScoreTable:
    """A table of a sample of each benchmark's documents."""
    points, kept = table.points.copy(), {}
    for column, (benchmark, task) in enumerate(zip(table.benchmarks, table.tasks, strict=True)):
        found = table.samples[benchmark.name]
        at = sampling.sample(found.clusters, found.strata, sample.count, sample.seed, task)
        kept[benchmark.name] = replace(
            found,
            documents=found.documents[at],
            scores=found.scores[:, at],
            clusters=found.clusters[at],
            strata=found.strata[at],
        )
        mine = kept[benchmark.name]
        sums = metrics.cluster_sums(mine.scores, mine.clusters, mine.strata, benchmark.rule)
        points[:, column] = 100 * metrics.benchmark_score(sums, benchmark.weights)
    return replace(table, points=points, samples=kept, documents=tuple(len(s.documents) for s in kept.values()))


def singles(table: ScoreTable) -> ScoreTable:
    """A table of the full model, of single drops, and of nothing."""
    kept = [at for at, mask in enumerate(table.masks) if len(mask) in (0, 1, len(table.encoders))]
    samples = {name: replace(found, scores=found.scores[kept], said=None) for name, found in table.samples.items()}
    return replace(table, masks=tuple(table.masks[at] for at in kept), points=table.points[kept], samples=samples)


def curs(analysis: Analysis, places: Sequence[str]) -> np.ndarray:
    """CURs (encoders x places, 3) in %: value, low, high."""
    cells = [analysis.cell(encoder, place).cur for encoder in analysis.encoders for place in places]
    return 100 * np.array([(cell.value, cell.low, cell.high) for cell in cells], dtype=np.float64)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 40, 80, 160])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--sweep", type=int, help="also time `redundancy-eval sweep --sample N` of the demo")
    given = parser.parse_args()
    (read,) = api.read(given.runs)
    table = singles(read)
    categories = [name for name in table.taxonomy.categories if any(b.category == name for b in table.benchmarks)]
    whole = analyse(table)
    print("| questions of a task | overall CUR: half width | off by | held | categories: half width | off by | held |")
    print("|---|---|---|---|---|---|---|")
    for count in given.counts:
        made = [analyse(drawn(table, Sample(count, seed))) for seed in range(given.seeds)]
        rows = []
        for places in ([OVERALL], categories):
            truth = curs(whole, places)[:, 0]
            value, low, high = np.moveaxis(np.stack([curs(each, places) for each in made]), -1, 0)
            held = np.where(np.isnan(low), np.nan, (low <= truth) & (truth <= high))
            rows += [np.nanmean((high - low) / 2), np.nanmean(np.abs(value - truth)), 100 * np.nanmean(held)]
        print(f"| {count} | {' | '.join(f'{number:.1f}' for number in rows)} |", flush=True)
    half = np.nanmean((curs(whole, [OVERALL])[:, 2] - curs(whole, [OVERALL])[:, 1]) / 2)
    print(f"all questions: half width of overall CURs {half:.1f}")
    if given.sweep:
        print(f"sweep --sample {given.sweep}: {cost(given.sweep)}")


def cost(count: int) -> str:
    """CPU and wall seconds of a sweep of the demo under every mask, of so many questions a task."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, "-m", "redundancy_eval", "sweep", "--model", "eagle_masked", "--model_args",
             "pretrained=demo,dtype=float32", "--tasks", "redundancy_demo", "--device", "cpu", "-o", out,
             "--sample", str(count)],
            check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{spent:.0f} CPU s, {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    main()
