"""Score tables of made-up answers with known structure."""

from dataclasses import replace
from itertools import combinations

import numpy as np

from redundancy_eval import metrics
from redundancy_eval.table import SampleScores, ScoreTable
from redundancy_eval.taxonomy import Benchmark, Taxonomy

ENCODERS = ("sam", "clip", "eva02")  # the checkpoint's order, not the alphabet's
GENERAL = Benchmark("photos", "General")
CHARTS = Benchmark("charts", "OCR")
GROUPS = Benchmark("MMBench", "General", rule="all")
STRATA = Benchmark("parts", "OCR", weights={"a": 0.25, "b": 0.75})


def every(encoders):
    return [mask for size in range(len(encoders) + 1) for mask in combinations(encoders, size)]


def samples(rng, masks, documents=120, cluster=1, losses=None, strata=("",), score=0.7, graded=False):
    """Answers of all masks: each encoder in `losses` turns a share of right ones wrong; drops of all lose most."""
    losses = losses or {}
    worth = rng.choice([0.1, 0.3, 0.7, 0.9], size=documents) if graded else 1.0
    right = (rng.random(documents) < score) * worth
    rows = []
    for mask in masks:
        kept = right.copy()
        for name in mask:
            kept *= rng.random(documents) >= losses.get(name, 0.02)
        rows.append(kept * ((rng.random(documents) < 0.3) | (len(mask) < len(ENCODERS))))
    number = np.arange(documents)
    return SampleScores(
        np.array([f"{i:05d}" for i in number]),
        np.array(rows, dtype=float),
        np.array([f"image {i // cluster}" for i in number]),
        np.array([strata[i // cluster % len(strata)] for i in number]),
    )


def points(found, benchmark):
    sums = metrics.cluster_sums(found.scores, found.clusters, found.strata, benchmark.rule)
    return 100 * metrics.benchmark_score(sums, benchmark.weights)


def table(found, encoders=ENCODERS, masks=None, categories=("General", "OCR"), **changes):
    """A table of (benchmark, samples or points)."""
    masks = tuple(masks or every(encoders))
    benchmarks = tuple(benchmark for benchmark, _ in found)
    columns = [points(each, b) if isinstance(each, SampleScores) else np.asarray(each, float) for b, each in found]
    made = ScoreTable(
        "model", "checkpoint", "lmms-eval", tuple(encoders), masks, Taxonomy("test", tuple(categories), benchmarks),
        benchmarks, tuple(b.name for b in benchmarks), np.stack(columns, axis=1),
        tuple(len(each.documents) if isinstance(each, SampleScores) else None for _, each in found),
        {b.name: each for b, each in found if isinstance(each, SampleScores)}, (), "",
    )  # fmt: skip
    return replace(made, **changes)


def usual(seed=0, masks=None, encoders=ENCODERS, documents=160):
    """Two categories of two benchmarks: single documents, circular groups, images, strata."""
    rng = np.random.default_rng(seed)
    masks = masks or every(encoders)
    losses = {"eva02": 0.4, "sam": 0.02, "clip": 0.02}
    return table(
        [
            (GENERAL, samples(rng, masks, documents, 1, losses)),
            (GROUPS, samples(rng, masks, documents, 4, losses, score=0.9)),
            (CHARTS, samples(rng, masks, documents, 8, losses, graded=True)),
            (STRATA, samples(rng, masks, documents, 1, losses, ("a", "b"))),
        ],
        encoders,
        masks,
    )
