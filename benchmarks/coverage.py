"""Coverage of the intervals, size of the tests and wrong verdicts, where the truth is known exactly.

    python -m benchmarks.coverage [--repeats 300] [--only few|gap|whole|other]

Benchmarks are drawn from populations with known scores and CURs and go through the functions that `report` calls. Four
parts: `few` (single categories with few documents, images or changes), `gap` (IG), `whole` (fifteen benchmarks in four
categories, with verdicts), `other` (six scenarios that were chosen after the method and its code were fixed). Prints
Markdown; cells below 93 % are bold. The Monte Carlo error of a share of 95 % is 0.7 at 1,000 repetitions, 1.3 at 300.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redundancy_eval.statistics import covariance, cur, draws, gap, intervals, verdicts
from redundancy_eval.statistics.covariance import Array, Estimates, Scores
from tests.core.statistics.populations import Population, Sizes, few, four, many, one, population, two

MARGIN, DRAWS = 0.02, 10_000
MME = (30, 30, 30, 30, 147, 170, 200, 200, 200, 20)  # image pairs of its ten subtasks


@dataclass(frozen=True)
class Bench:
    """A benchmark: strata of populations, how many clusters are drawn of each, and their weights."""

    strata: tuple[Population, ...]
    clusters: tuple[int, ...]
    weights: tuple[float, ...] = (1.0,)
    unit: float = 1.0  # documents behind one of the denominators' units

    @property
    def truth(self) -> Array:
        """(masks,) scores."""
        return np.asarray(sum(w * p.scores for w, p in zip(self.weights, self.strata, strict=True)))

    def draw(self, rng: np.random.Generator, scale: float = 1.0) -> Scores:
        """Scores of clusters drawn at random."""
        counts = [max(8, round(scale * count)) if scale != 1 else count for count in self.clusters]
        parts = [p.draw(rng, count) for p, count in zip(self.strata, counts, strict=True)]
        names = np.repeat([str(i) for i in range(len(parts))], counts)
        weights = {str(i): w for i, w in enumerate(self.weights)}
        x, d = np.concatenate([x for x, _ in parts], axis=1), np.concatenate([d for _, d in parts])
        return covariance.benchmark(x, d, names, weights)


class Tally:
    """Hits by name."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, *values: float) -> None:
        """Count."""
        self.found[name].extend(float(value) for value in values)

    def percent(self, name: str) -> str:
        """The share; bold where an interval covers less than 93 %."""
        share = 100 * float(np.mean(self.found[name]))
        return f"**{share:.1f}**" if share < 93 else f"{share:.1f}"

    def mean(self, name: str) -> float:
        """Plain mean."""
        return float(np.mean(self.found[name]))


def within(low: Array | float, high: Array | float, truth: Array | float) -> Array:
    """Whether the truth is inside, rounding apart."""
    return np.atleast_1d((np.asarray(low) - 1e-12 <= truth) & (np.asarray(truth) <= np.asarray(high) + 1e-12))


def tally_score(tally: Tally, name: str, scores: Scores, truth: float) -> None:
    """The full model's score."""
    _, low, high = intervals.score_intervals(scores)
    tally.add(name, *within(low[0], high[0], truth))


def tally_curs(tally: Tally, name: str, found: Estimates, truth: Array) -> None:
    """CURs, those without an interval apart."""
    low, high = intervals.t_interval(found)
    known = ~np.isnan(low)
    tally.add(name, *within(low, high, truth)[known])
    tally.add(f"{name} n/a", *~known)
    tally.add(f"{name} half width", *((high - low) / 2)[known])


def tally_gap(tally: Tally, name: str, found: Estimates, truth: Array, label: str) -> None:
    """IG with its interval and the test."""
    ig = gap.information_gap(found, draws.generator(0, label), count=DRAWS)
    if not np.isnan(ig.low):
        tally.add(name, *within(ig.low, ig.high, truth.max() - truth.min()))
        tally.add(f"{name} claimed", ig.p <= 0.05)
        tally.add(f"{name} value", ig.value)
        tally.add(f"{name} width", ig.high - ig.low)


def measure(benches: Sequence[Bench], rng: np.random.Generator, repeats: int) -> tuple[Tally, Array]:
    """One category: score, CURs and IG."""
    truth = np.mean([bench.truth for bench in benches], axis=0)
    curs, tally = 1 - truth[1:] / truth[0], Tally()
    for number in range(repeats):
        scores = covariance.mean([bench.draw(rng) for bench in benches])
        found = cur.curs(scores, 0, range(1, len(truth)))
        tally_score(tally, "score", scores, truth[0])
        tally_curs(tally, "CUR", found, curs)
        if len(curs) > 1:
            tally_gap(tally, "IG", found, curs, str(number))
    return tally, curs


def single(
    rng: np.random.Generator,
    sizes: Sizes,
    clusters: int,
    score: float,
    curs: Sequence[float],
    flips: float | Sequence[float],
    **more: object,
) -> Bench:
    """A benchmark of one stratum."""
    count = {one: 60_000, many: 6_000}.get(sizes, 20_000)
    return Bench((population(rng, sizes, score, curs, flips, count, **more),), (clusters,))


def mme(rng: np.random.Generator, score: float, curs: Sequence[float], flips: float, least: int = 1) -> Bench:
    """Ten small strata of image pairs; `least` > 1 takes a part of them."""
    strata = [population(rng, two, score, curs, flips, 8_000, rule="items and all") for _ in MME]
    return Bench(tuple(strata), tuple(max(4, count // least) for count in MME), (0.1,) * 10)


def few_scenarios(rng: np.random.Generator) -> Mapping[str, list[Bench]]:
    """The specification's section 1."""
    circular = {"alike": 0.6, "rule": "all"}
    return {
        "N=200, CUR 0, 6 % flips": [single(rng, one, 200, 0.75, [0], 0.06)],
        "N=200, CUR .5 %, only losses (0.75 expected)": [single(rng, one, 200, 0.75, [0.005], 0)],
        "N=200, CUR 1.3 %, only losses (2 expected)": [single(rng, one, 200, 0.75, [0.0134], 0)],
        "N=240, CUR 2 %, 1 % flips": [single(rng, one, 240, 0.75, [0.02], 0.01)],
        "N=240, score .99, CUR 1 %, only losses": [single(rng, one, 240, 0.99, [0.01], 0)],
        "N=1000, CUR .2 %, only losses": [single(rng, one, 1000, 0.65, [0.002], 0)],
        "4 x N=240 (category), CUR .5 %, only losses": [single(rng, one, 240, 0.75, [0.005], 0) for _ in range(4)],
        "score .06, CUR 30 %, N=200": [single(rng, one, 200, 0.06, [0.3], 0.02)],
        "CUR 83 %, N=200": [single(rng, one, 200, 0.7, [0.83], 0.02)],
        "N=1000, CUR -16 %": [single(rng, one, 1000, 0.65, [-0.16], 0.06)],
        "MME, ten strata of 20 to 200 pairs": [mme(rng, 0.8, [0.02], 0.08)],
        "GQA sizes, 12 images, CUR 2 %": [single(rng, many, 12, 0.62, [0.02], 0.06)],
        "GQA sizes, 12 images, CUR 10 %": [single(rng, many, 12, 0.62, [0.1], 0.06)],
        "GQA sizes, 12 images, CUR 80 %": [single(rng, many, 12, 0.62, [0.8], 0.06)],
        "GQA sizes, 40 images, CUR 2 %": [single(rng, many, 40, 0.62, [0.02], 0.06)],
        "GQA sizes, 40 images, CUR 1 %, .5 % flips": [single(rng, many, 40, 0.62, [0.01], 0.005)],
        "GQA sizes, 398 images, CUR 2 %": [single(rng, many, 398, 0.62, [0.02], 0.06)],
        "TextVQA graded, 300 images": [single(rng, few, 300, 0.6, [0.05], 0.12, graded=True)],
        "MMBench circular, 150 groups": [single(rng, four, 150, 0.8, [0.03], 0.06, **circular)],
        "General at 1/10 (40 images, 116 groups, MME/5, 500)": [
            single(rng, many, 40, 0.62, [0.01], 0.06),
            single(rng, four, 116, 0.8, [-0.01], 0.06, **circular),
            mme(rng, 0.8, [0.02], 0.08, 5),
            single(rng, few, 500, 0.7, [0], 0.06),
        ],
    }


def gap_scenarios(rng: np.random.Generator) -> Mapping[str, list[Bench]]:
    """The specification's section 2."""
    noisy = [0.02, 0.02, 0.02, 0.02, 0.25]
    given: list[tuple[str, Sizes, list[float], float | list[float], int]] = [
        ("IG 0, 2 encoders, N=240", one, [0, 0], 0.06, 240),
        ("IG 0, 5, N=240", one, [0] * 5, 0.06, 240),
        ("IG 0, 5, N=240, one noisy mask", one, [0] * 5, noisy, 240),
        ("IG 0, 5, N=1000, one noisy mask", one, [0] * 5, noisy, 1000),
        ("IG 0, 5 of CUR 10 %, N=1000", one, [0.1] * 5, 0.06, 1000),
        ("IG 0, 5, 60 GQA images", many, [0] * 5, 0.06, 60),
        ("IG 0, 3, 15 GQA images", many, [0] * 3, 0.06, 15),
        ("1 %, 5, N=1000", one, [0, 0, 0, 0, 0.01], 0.06, 1000),
        ("4 % spread, 5, N=1000", one, [0.02, 0.01, 0, -0.01, -0.02], 0.06, 1000),
        ("4 % two groups, 5, N=1000", one, [0.04, 0.04, 0, 0, 0], 0.06, 1000),
        ("3 %, 2, N=240", one, [0.03, 0], 0.06, 240),
        ("10 %, 5, N=240", one, [0.1, 0.05, 0.02, 0, 0], 0.06, 240),
        ("80 %, 5, N=1000", one, [0.8, 0.05, 0.02, 0.01, 0], 0.06, 1000),
        ("21 % with a harmful one, 4, N=1000", one, [0.05, 0.01, 0, -0.16], 0.06, 1000),
        ("10 %, 5, 60 GQA images", many, [0.1, 0.05, 0.02, 0, 0], 0.06, 60),
    ]
    return {name: [single(rng, sizes, n, 0.65, curs, flips)] for name, sizes, curs, flips, n in given}


def other_scenarios(rng: np.random.Generator) -> Mapping[str, list[Bench]]:
    """Six that were chosen after the code was fixed."""
    return {
        "chart questions, graded, 500 images, 15 % flips, CUR 4, 1 %": [
            single(rng, few, 500, 0.55, [0.04, 0.01], 0.15, graded=True)
        ],
        "60 GQA images + 90 circular groups + 250 documents, CUR -5, 2, 0 %": [
            single(rng, many, 60, 0.6, [-0.05, 0.02, 0], 0.05),
            single(rng, four, 90, 0.85, [-0.05, 0.02, 0], 0.05, alike=0.6, rule="all"),
            single(rng, one, 250, 0.5, [-0.05, 0.02, 0], 0.05),
        ],
        "score .03, N=500, CUR 50, 10 %": [single(rng, one, 500, 0.03, [0.5, 0.1], 0.01)],
        "40 pairs, both right, CUR 8, 0, 20 %": [single(rng, two, 40, 0.75, [0.08, 0, 0.2], 0.06, rule="all")],
        "masks that change other answers, N=300, 12 % flips, CUR 1, 0, 0, -1 %": [
            single(rng, one, 300, 0.65, [0.01, 0, 0, -0.01], 0.12, agree=0.05)
        ],
        "changes in few images, 80 GQA images, CUR 3, 0 %": [
            single(rng, many, 80, 0.62, [0.03, 0], 0.05, together=0.7)
        ],
    }


# name: cluster sizes, clusters of each stratum, weights, score, rule, graded (the paper's fifteen at full size)
FIFTEEN: Mapping[str, Mapping[str, tuple[Sizes, tuple[int, ...], tuple[float, ...], float, str, bool]]] = {
    "General": {
        "GQA": (many, (398,), (1,), 0.62, "items", False),
        "MMBench": (four, (1164,), (1,), 0.85, "all", False),
        "MME": (two, MME, (0.1,) * 10, 0.85, "items and all", False),
        "SEED-I": (one, (14232,), (1,), 0.71, "items", False),
    },
    "Knowledge": {
        "AI2D": (few, (1900,), (1,), 0.74, "items", False),
        "MathVista": (one, (1000,), (1,), 0.38, "items", False),
        "SQA-I": (one, (2017,), (1,), 0.70, "items", False),
        "MMMU": (one, (900,), (1,), 0.37, "items", False),
    },
    "OCR & Chart": {
        "DocVQA": (four, (1286,), (1,), 0.72, "items", True),
        "ChartQA": (few, (1560,), (1,), 0.67, "items", False),
        "OCRBench": (one, (1000,), (1,), 0.55, "items", False),
        "TextVQA": (few, (3166,), (1,), 0.70, "items", True),
    },
    "Vision-Centric": {
        "CV-Bench": (one, (633, 633, 1372), (0.25, 0.25, 0.5), 0.66, "items", False),
        "MMVP": (two, (150,), (1,), 0.62, "items", False),
        "RealWorldQA": (one, (765,), (1,), 0.63, "items", False),
    },
}
# CURs by category, after the paper's figures.
X5 = {
    "General": [0.0140, 0.0195, 0.0063, 0.1005, 0.0020],
    "Knowledge": [0.0182, 0.0496, 0.0204, 0.0679, 0.0117],
    "OCR & Chart": [0.0104, 0.3030, 0.0422, 0.1331, 0.0009],
    "Vision-Centric": [0.0016, 0.0253, 0.0101, 0.1731, 0.0025],
}
CAMBRIAN = {
    "General": [0.012, 0.012, -0.0265, 0.013],
    "Knowledge": [0.036, 0.113, -0.003, 0.031],
    "OCR & Chart": [0.019, 0.749, 0.030, 0.027],
    "Vision-Centric": [-0.0136, 0.0143, -0.1614, 0.0557],
}
ZERO = {name: [0.0] * 5 for name in X5}
FLIPS = (0.05, 0.06, 0.04, 0.06, 0.03)


def fifteen(rng: np.random.Generator, curs: Mapping[str, Sequence[float]]) -> dict[str, list[Bench]]:
    """The fifteen benchmarks with these CURs."""
    made: dict[str, list[Bench]] = {}
    for category, benchmarks in FIFTEEN.items():
        u = curs[category]
        for sizes, clusters, weights, score, rule, graded in benchmarks.values():
            count = {many: 4_000, one: 30_000}.get(sizes, 12_000)
            strata = tuple(
                population(rng, sizes, score, u, FLIPS[: len(u)], count, rule=rule, graded=graded) for _ in clusters
            )
            unit = 1.0 if rule == "items" else {two: 2.0, four: 3.0}[sizes]
            made.setdefault(category, []).append(Bench(strata, clusters, weights, unit))
    return made


def whole(categories: Mapping[str, list[Bench]], rng: np.random.Generator, scale: float, repeats: int) -> Tally:
    """Whole tables: intervals of categories and overall, and families of verdicts."""
    true = [np.mean([bench.truth for bench in benches], axis=0) for benches in categories.values()]
    u = np.stack([1 - s[1:] / s[0] for s in true])
    rows, tally = range(1, len(true[0])), Tally()
    for number in range(repeats):
        drawn = [covariance.mean([bench.draw(rng, scale) for bench in benches]) for benches in categories.values()]
        found = [cur.curs(scores, 0, rows) for scores in drawn]
        for k, scores in enumerate(drawn):
            tally_score(tally, "category score", scores, true[k][0])
            tally_curs(tally, "category CUR", found[k], u[k])
            tally_gap(tally, "category IG", found[k], u[k], f"{k} {number}")
        overall = cur.overall_curs(drawn, 0, rows)
        tally_score(tally, "overall score", covariance.mean(drawn), float(np.mean([s[0] for s in true])))
        tally_curs(tally, "overall CUR", overall, u.mean(axis=0))
        tally_gap(tally, "overall IG", overall, u.mean(axis=0), f"overall {number}")
        tally_words(tally, "", found, u)
        tally_words(tally, "overall ", [overall], u.mean(axis=0)[None])
    return tally


def tally_words(tally: Tally, family: str, found: Sequence[Estimates], truth: Array) -> None:
    """Whether a family of verdicts holds a wrong claim, and how many cells are decided."""
    values = np.stack([each.values for each in found])
    p = verdicts.holm(np.stack([verdicts.p_difference(each) for each in found]))
    equal = verdicts.holm(np.stack([verdicts.p_equivalence(each, MARGIN) for each in found]))
    words = verdicts.verdicts(values, p, equal)
    positive, negative = (np.char.startswith(words, w) for w in (verdicts.NEEDED, verdicts.DETRIMENTAL))
    zero = np.abs(truth) < 1e-9
    wrong = (positive & (zero | (truth < 0))) | (negative & (zero | (truth > 0)))
    redundant = (words == verdicts.REDUNDANT) & (np.abs(truth) >= MARGIN)
    tally.add(f"{family}wrong sign", wrong.any())
    tally.add(f"{family}wrong redundant", redundant.any())
    counts = Counter(words.ravel().tolist())
    tally.add(f"{family}undecided", counts[verdicts.UNDECIDED] / words.size)


def print_few(scenarios: Mapping[str, list[Bench]], rng: np.random.Generator, repeats: int) -> None:
    """Scores, CURs and, where there are several encoders, IG."""
    print(
        "| scenario | score | CUR | CUR n/a | half width of CUR | IG | IG > 0 claimed |\n|---|---|---|---|---|---|---|"
    )
    for name, benches in scenarios.items():
        tally, _ = measure(benches, rng, repeats)
        ig = [tally.percent("IG"), f"{100 * tally.mean('IG claimed'):.1f}"] if "IG" in tally.found else ["", ""]
        lost, half = 100 * tally.mean("CUR n/a"), 100 * tally.mean("CUR half width")
        cells = [name, tally.percent("score"), tally.percent("CUR"), f"{lost:.1f}", f"{half:.2f}", *ig]
        print("| " + " | ".join(cells) + " |", flush=True)


def print_gap(scenarios: Mapping[str, list[Bench]], rng: np.random.Generator, repeats: int) -> None:
    """IG."""
    print("| true IG, encoders, N | mean estimate | coverage | mean width | IG > 0 claimed |\n|---|---|---|---|---|")
    for name, benches in scenarios.items():
        tally, _ = measure(benches, rng, repeats)
        value, width, claimed = (100 * tally.mean(f"IG {what}") for what in ("value", "width", "claimed"))
        print(f"| {name} | {value:.2f} | {tally.percent('IG')} | {width:.1f} | {claimed:.1f} |", flush=True)


def print_whole(rng: np.random.Generator, repeats: int) -> None:
    """The whole procedure."""
    kinds = ("category score", "category CUR", "category IG", "overall score", "overall CUR", "overall IG")
    print(f"| fifteen benchmarks | {' | '.join(kinds)} | IG > 0 claimed | family with a wrong sign | wrong redundant |"
          " undecided cells | overall: wrong sign | wrong redundant |")  # fmt: skip
    print("|---" * 13 + "|")
    for name, curs, scale in (
        ("X5-like, full size", X5, 1.0),
        ("X5-like, one tenth", X5, 0.1),
        ("all CUR 0, full size", ZERO, 1.0),
        ("all CUR 0, one tenth", ZERO, 0.1),
        ("Cambrian-8B-like, one tenth", CAMBRIAN, 0.1),
    ):
        tally = whole(fifteen(rng, curs), rng, scale, repeats if scale < 1 else max(2, repeats // 2))
        words = ("category IG claimed", "wrong sign", "wrong redundant", "undecided")
        shares = [f"{100 * tally.mean(w):.1f}" for w in (*words, "overall wrong sign", "overall wrong redundant")]
        print("| " + " | ".join([name, *map(tally.percent, kinds), *shares]) + " |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300, help="of each scenario; whole tables at full size: half")
    parser.add_argument("--only", choices=("few", "gap", "whole", "other"))
    args = parser.parse_args()
    for seed, part in enumerate(("few", "gap", "whole", "other")):
        if args.only not in (None, part):
            continue
        rng, started = np.random.default_rng(20261129 + seed), time.perf_counter()
        print(f"\n{part}, {args.repeats} repetitions\n")
        if part == "whole":
            print_whole(rng, args.repeats)
        elif part == "gap":
            print_gap(gap_scenarios(rng), rng, args.repeats)
        else:
            print_few((few_scenarios if part == "few" else other_scenarios)(rng), rng, args.repeats)
        print(f"\n({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
