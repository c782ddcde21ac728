"""Time and memory of all statistics: 32 masks x 15 benchmarks x 5,000 documents, beside a bound.

    python benchmarks/uncertainty.py [--documents 5000] [--encoders 5] [--repeats 3]

The table is made up in memory (reading is measured by reading.py). The bound is what no method can do without: one pass
over the answers that sums every mask's scores by cluster, and one matrix product for the covariances. Each repeat is a
process of its own, so that its peak memory is its own; the memory is what the statistics need above the table.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from redundancy_eval import masks, metrics, taxonomy, uncertainty
from redundancy_eval.table import Said, SampleScores, ScoreTable

ENCODERS = ("clip", "convnext", "sam", "eva02", "pix2struct", "siglip", "dinov2")


def table(documents: int, encoders: tuple[str, ...]) -> ScoreTable:
    """A full table on the paper's fifteen benchmarks: each encoder changes some answers, images hold two questions."""
    chosen = taxonomy.load("paper")
    benchmarks = tuple(b for b in chosen.benchmarks if not b.name.startswith("demo "))
    every = tuple(masks.every(encoders))
    rng = np.random.default_rng(0)
    samples, points = {}, []
    for benchmark in benchmarks:
        names = np.array(list(benchmark.weights) or [""])
        number = np.arange(documents)
        right = rng.random(documents) < 0.65
        flips = rng.random((len(encoders), documents)) < 0.03
        scores = np.stack([right ^ flips[[name in mask for name in encoders]].any(axis=0) for mask in every])
        made = SampleScores(
            number.astype(str),
            scores.astype(np.float64),
            np.char.add("image ", (number // 2).astype(str)),
            names[number // 2 % len(names)],
            Said(1 + scores.astype(np.uint64), False, np.log(rng.random(documents)), np.zeros(documents)),
        )
        sums = metrics.cluster_sums(made.scores, made.clusters, made.strata, benchmark.rule)
        points.append(100 * metrics.benchmark_score(sums, benchmark.weights))
        samples[benchmark.name] = made
    return ScoreTable(
        "model", "checkpoint", "lmms-eval", encoders, every, chosen, benchmarks, tuple(b.name for b in benchmarks),
        np.stack(points, axis=1), (documents,) * len(benchmarks), samples, (), "",
    )  # fmt: skip


def bound(made: ScoreTable) -> float:
    """Seconds of one pass over the answers and the products."""
    parts = [np.unique(s.clusters, return_inverse=True)[1] for s in made.samples.values()]
    started = time.perf_counter()
    for samples, index in zip(made.samples.values(), parts, strict=True):
        sums = np.stack([np.bincount(index, weights=row) for row in samples.scores])
        sums -= sums.mean(axis=1, keepdims=True)
        sums @ sums.T
    return time.perf_counter() - started


def peak() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def once(documents: int, encoders: tuple[str, ...]) -> None:
    """One measurement: bound, seconds, CPU seconds, MiB above the table."""
    made = table(documents, encoders)
    least = bound(made)
    before = peak()
    started, worked = time.perf_counter(), time.process_time()
    uncertainty.analyse(made)
    print(least, time.perf_counter() - started, time.process_time() - worked, peak() - before)


def main() -> None:
    """Measure in processes of their own and print the shortest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--encoders", type=int, default=5, choices=range(1, len(ENCODERS) + 1))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        return once(args.documents, ENCODERS[: args.encoders])
    command = [sys.executable, __file__, "--once", f"--documents={args.documents}", f"--encoders={args.encoders}"]
    runs = [
        [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]
        for _ in range(args.repeats)
    ]
    least, seconds, worked, memory = (min(values) for values in zip(*runs, strict=True))
    print(f"{2**args.encoders} masks x 15 benchmarks x {args.documents:,} documents, best of {args.repeats}")
    print(f"bound (sums and products)  {least:6.2f} s")
    print(f"all statistics             {seconds:6.2f} s ({worked:.2f} s of CPU)   +{memory:.0f} MiB above the table")


if __name__ == "__main__":
    main()
