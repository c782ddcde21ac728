"""Subjects with made-up answers, for figures and the page."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np

from redundancy_eval.reports.model import Model
from redundancy_eval.reports.subject import Costs, Subject
from redundancy_eval.table import SampleScores, ScoreTable
from redundancy_eval.taxonomy import Benchmark, Taxonomy
from redundancy_eval.uncertainty import Settings, analyse

ENCODERS = ("clip", "convnext", "sam", "eva02", "pix2struct", "siglip")
CATEGORIES = ("General", "Knowledge", "OCR", "Chart", "Vision-Centric")


def benchmark(name, category):
    return Benchmark(name, category)


def every(encoders):
    return tuple(chain.from_iterable(combinations(encoders, k) for k in range(len(encoders) + 1)))


def table(encoders=ENCODERS[:4], categories=CATEGORIES, documents=60, masks=None, samples=True, seed=0, model="demo",
          per_category=1, notes=()):  # fmt: skip
    """Answers that depend on a weight for each encoder: the first is of no use, the later ones of more and more."""
    rng = np.random.default_rng(seed)
    masks = every(encoders) if masks is None else masks
    benchmarks = tuple(
        benchmark(f"{category.lower()} {i}" if per_category > 1 else f"bench {category}", category)
        for category in categories
        for i in range(per_category)
    )
    weight = np.arange(len(encoders)) / max(1, sum(range(len(encoders))))
    points, held = np.zeros((len(masks), len(benchmarks))), {}
    for b, bench in enumerate(benchmarks):
        hard = rng.uniform(size=documents)
        scores = np.zeros((len(masks), documents))
        for m, mask in enumerate(masks):
            ability = 0.15 + 0.7 * sum(w for w, name in zip(weight, encoders, strict=True) if name not in mask)
            scores[m] = hard < ability
        flips = rng.uniform(size=scores.shape) < 0.01
        scores = np.where(flips, 1 - scores, scores)
        names = np.array([str(i) for i in range(documents)])
        held[bench.name] = SampleScores(names, scores, names, np.full(documents, ""))
        points[:, b] = 100 * scores.mean(axis=1)
    return ScoreTable(
        model, f"org/{model}", "lmms-eval", tuple(encoders), tuple(masks),
        Taxonomy("five", tuple(categories), benchmarks), benchmarks,
        tuple(b.name for b in benchmarks), points, (documents,) * len(benchmarks), held if samples else {},
        tuple(notes), f"model:{model}|ablation:zero",
    )  # fmt: skip


def subject(name="demo", costs=True, settings=None, **more):
    made, settings = table(model=name, **more), settings or Settings()
    paid = Costs(
        made.masks,
        {"FLOPs": [1 - 0.1 * len(m) for m in made.masks], "weights": [1 - 0.07 * len(m) for m in made.masks]},
        "Counted, not measured.",
    )
    return Subject.of(Model(name, made, analyse(made, settings)), paid if costs else None)


def changed(subject, **parts):
    """A subject whose model's name, table or analysis is another."""
    costs = parts.pop("costs", subject.costs)
    return replace(subject, model=replace(subject.model, **parts), costs=costs)


PAPER = ("General", "Knowledge", "OCR & Chart", "Vision-Centric")


def with_stand_ins(subject, back=0.5):
    """A model that was run with linear stand-ins too: of the answers that a mask changes, this share comes back."""
    samples = {}
    for name, each in subject.table.samples.items():
        full = each.scores[subject.table.masks.index(())]
        kept = np.random.default_rng(9).uniform(size=each.scores.shape) < back
        samples[name] = replace(each, scores=np.where(kept, full, each.scores))
    points = np.stack([100 * samples[b.name].scores.mean(axis=1) for b in subject.table.benchmarks], axis=1)
    made = replace(subject.table, ablation="predicted", samples=samples, points=points)
    other = Model(f"{subject.name}, predicted", made, analyse(made, subject.analysis.settings, predicted=True))
    return replace(subject, model=subject.model.with_stand_ins(other))


def like_the_paper(**more):
    """A checkpoint that the paper has numbers on, in the paper's categories."""
    encoders = ("clip", "convnext", "sam", "eva02", "pix2struct")
    made = subject("Eagle-X5-7B", encoders=encoders, categories=PAPER, documents=40, **more)
    return changed(made, table=replace(made.table, taxonomy=replace(made.table.taxonomy, name="paper")))
