"""Coverage and saving where documents are asked in rounds until every CUR is known to a margin (`sweep --until`).

    python -m benchmarks.until [--repeats 300] [--only NAME] [--equal]
    python -m benchmarks.until --runs RUNS --margin 5 10 [--repeats 300]

Benchmarks are drawn from the populations of `benchmarks.coverage`. At look k a benchmark is asked as many documents as
a share t_k of the largest one has (with `--equal`, its own share t_k), of each stratum's clusters in random order. Of
the stop: coverage of its CURs (category and overall) by the intervals at the look's nominal level, and by ordinary
95 % ones; the lowest cell (encoder, category); the share of documents that was asked. Of all looks: how often a CUR's
nominal intervals hold it at every one, and coverage where one stops as soon as an interval excludes 0. Prints
Markdown; cells below 93 % are bold. The Monte Carlo error of a share of 95 % is 1.3 at 300 repetitions for a single
cell, less for all cells.

With `--runs`, the documents of a finished sweep are asked in rounds in many random orders: what would have been asked,
and how far that is from the whole.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from benchmarks.coverage import CAMBRIAN, X5, ZERO, Bench, fifteen, single
from redundancy_eval import api, deciding, metrics
from redundancy_eval.sample import Sample
from redundancy_eval.statistics import covariance, cur, intervals, sequential, verdicts
from redundancy_eval.statistics.covariance import Array, Estimates
from redundancy_eval.table import SampleScores, ScoreTable
from redundancy_eval.uncertainty import encoders
from redundancy_eval.uncertainty.join import join
from redundancy_eval.until import Until
from tests.core.statistics.populations import many, one

LEVEL, LOOKS = 0.95, 5
MARGIN = 0.02  # of verdicts


@dataclass(frozen=True)
class Order:
    """A benchmark's clusters in the order in which they are asked: of each stratum numerators and denominators."""

    bench: Bench
    strata: tuple[tuple[Array, Array], ...]

    @classmethod
    def draw(cls, bench: Bench, rng: np.random.Generator, scale: float) -> "Order":
        """Clusters drawn at random, a share `scale` of the benchmark's."""
        counts = [max(8, round(scale * count)) for count in bench.clusters]
        return cls(bench, tuple(p.draw(rng, count) for p, count in zip(bench.strata, counts, strict=True)))

    @property
    def documents(self) -> float:
        """How many there are."""
        return self.bench.unit * sum(float(d.sum()) for _, d in self.strata)

    def first(self, wanted: float) -> tuple[covariance.Scores, float]:
        """Scores of about the first `wanted` documents, as many of each stratum as its share (and at least two
        clusters), and how many documents that is."""
        share = min(1.0, wanted / self.documents)
        counts = [max(2, round(share * len(d))) for _, d in self.strata]
        x = np.concatenate([x[:, :n] for (x, _), n in zip(self.strata, counts, strict=True)], axis=1)
        d = np.concatenate([d[:n] for (_, d), n in zip(self.strata, counts, strict=True)])
        names = np.repeat([str(i) for i in range(len(counts))], counts)
        weights = {str(i): w for i, w in enumerate(self.bench.weights)}
        return covariance.benchmark(x, d, names, weights), float(self.bench.unit * d.sum())


@dataclass(frozen=True)
class Look:
    """CURs (categories + overall, encoders) at a look: hits and half widths at the nominal level, ordinary hits."""

    asked: float
    hits: Array
    ordinary: Array
    half: Array
    clear: Array  # nominal interval excludes 0
    ordinary_clear: Array
    wrong_sign: bool


def look(found: Sequence[Estimates], truth: Array, level: float, asked: float) -> Look:
    """What is seen at a look.

    Args:
        found: CURs of each category, then overall.
        truth: (categories + 1, encoders).
        level: nominal.
        asked: documents.
    """
    ends = {at: np.array([intervals.t_interval(each, at) for each in found]) for at in (level, LEVEL)}

    def held(at: float) -> tuple[Array, Array]:
        low, high = ends[at][:, 0], ends[at][:, 1]
        unknown = np.isnan(low)
        return ((low <= truth) & (truth <= high)) | unknown, ((low > 0) | (high < 0)) & ~unknown

    hits, clear = held(level)
    ordinary, ordinary_clear = held(LEVEL)
    half = (ends[level][:, 1] - ends[level][:, 0]) / 2
    p = verdicts.holm(np.stack([verdicts.p_difference(each) for each in found[:-1]]))
    values = np.stack([each.values for each in found[:-1]])
    claimed = p <= 1 - level
    wrong = claimed & ((np.abs(truth[:-1]) < 1e-9) | (np.sign(values) != np.sign(truth[:-1])))
    return Look(asked, hits, ordinary, half, clear, ordinary_clear, bool(wrong.any()))


def looks(
    orders: Sequence[Sequence[Order]], truth: Array, shares: Sequence[float], levels: Sequence[float], equal: bool
) -> list[Look]:
    """Every look at one table.

    Args:
        orders: of each category's benchmarks.
        truth: (categories + 1, encoders) CURs.
        shares: of the largest benchmark's documents.
        levels: nominal, of each look.
        equal: whether all benchmarks are asked the same share, and not the same number as far as they have so many.
    """
    rows, made = range(1, truth.shape[1] + 1), []
    most = max(order.documents for category in orders for order in category)
    for share, level in zip(shares, levels, strict=True):
        seen = [[o.first(share * (o.documents if equal else most)) for o in category] for category in orders]
        categories = [covariance.mean([scores for scores, _ in each]) for each in seen]
        found = [cur.curs(scores, 0, rows) for scores in categories]
        found.append(cur.overall_curs(categories, 0, rows))
        made.append(look(found, truth, level, sum(count for each in seen for _, count in each)))
    return made


def stop(found: Sequence[Look], margin: float) -> int:
    """Number of the look at which all half widths are at most the margin; the last where none is."""
    return next((k for k, each in enumerate(found) if np.all(each.half <= margin)), len(found) - 1)


def first_clear(flags: Array) -> Array:
    """(looks, ...) -> the first look that is set, the last where none is."""
    return np.where(flags.any(axis=0), flags.argmax(axis=0), len(flags) - 1)


def row(
    name: str, table: Mapping[str, list[Bench]], margin: float, scale: float, rng: np.random.Generator, repeats: int,
    equal: bool,
) -> str:  # fmt: skip
    """A line of the table."""
    shares = sequential.fractions(LOOKS)
    levels = [sequential.nominal_level(shares[: k + 1], LEVEL) for k in range(LOOKS)]
    true = [np.mean([bench.truth for bench in benches], axis=0) for benches in table.values()]
    truth = np.stack([1 - s[1:] / s[0] for s in true])
    truth = np.vstack([truth, truth.mean(axis=0)])
    hits, ordinary, always, clear, ordinary_clear, asked, at, wrong = ([] for _ in range(8))
    for _ in range(repeats):
        orders = [[Order.draw(bench, rng, scale) for bench in benches] for benches in table.values()]
        found = looks(orders, truth, shares, levels, equal)
        k = stop(found, margin)
        hits.append(found[k].hits)
        ordinary.append(found[k].ordinary)
        ours, plain = np.stack([each.hits for each in found]), np.stack([each.ordinary for each in found])
        always.append(ours.all(axis=0))
        for flags, held, into in (
            (np.stack([each.clear for each in found]), ours, clear),
            (np.stack([each.ordinary_clear for each in found]), plain, ordinary_clear),
        ):
            into.append(np.take_along_axis(held, first_clear(flags)[None], 0)[0])
        asked.append(found[k].asked / found[-1].asked)
        at.append(k + 1)
        wrong.append(found[k].wrong_sign)
    stops = Counter(at)
    cells = [
        name, f"{100 * margin:g}", f"{100 * np.mean(asked):.0f}", " ".join(f"{k}:{stops[k]}" for k in sorted(stops)),
        _percent(hits), _lowest(hits), _percent(ordinary), _lowest(ordinary), _percent(always), _lowest(always),
        _percent(clear), _percent(ordinary_clear), f"{100 * np.mean(wrong):.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _percent(found: Sequence[Array]) -> str:
    return _bold(100 * float(np.mean(found)))


def _lowest(found: Sequence[Array]) -> str:
    return _bold(100 * float(np.mean(found, axis=0).min()))


def _bold(share: float) -> str:
    return f"**{share:.1f}**" if share < 93 else f"{share:.1f}"


def scenarios(rng: np.random.Generator) -> Mapping[str, tuple[Mapping[str, list[Bench]], float, float]]:
    """Name -> benchmarks by category, margin, scale."""
    x5, zero, cambrian = fifteen(rng, X5), fifteen(rng, ZERO), fifteen(rng, CAMBRIAN)

    def four_of(n: int, curs: Sequence[float], flips: float) -> Mapping[str, list[Bench]]:
        return {name: [single(rng, one, n, 0.75, curs, flips)] for name in "ABCD"}

    images = {"A": [single(rng, many, 400, 0.62, [0.02, 0.1], 0.06)]}
    together = {"A": [single(rng, many, 400, 0.62, [0.03, 0], 0.05, together=0.7)]}
    return {
        "15 benchmarks, X5-like": (x5, 0.03, 1.0),
        "the same, large margin": (x5, 0.05, 1.0),
        "the same, small margin": (x5, 0.025, 1.0),
        "the same, never stops": (x5, 0.003, 1.0),
        "15 benchmarks, all CUR 0": (zero, 0.03, 1.0),
        "15 benchmarks, Cambrian-8B-like": (cambrian, 0.05, 1.0),
        "X5-like, one tenth of the documents": (x5, 0.1, 0.1),
        "all CUR 0, one tenth of the documents": (zero, 0.1, 0.1),
        "4 x N=3,000, CUR 0, 5 %, 6 % flips": (four_of(3000, [0, 0.05], 0.06), 0.03, 1.0),
        "4 x N=3,000, CUR .5, 1 %, only losses": (four_of(3000, [0.005, 0.01], 0), 0.01, 1.0),
        "4 x N=3,000, CUR .2 %, only losses, large margin": (four_of(3000, [0.002], 0), 0.015, 1.0),
        "4 x N=1,000, CUR .2, .5 %, only losses": (four_of(1000, [0.002, 0.005], 0), 0.01, 1.0),
        "400 GQA images, CUR 2, 10 %": (images, 0.03, 1.0),
        "400 GQA images, large margin": (images, 0.06, 1.0),
        "400 GQA images, very large margin": (images, 0.1, 1.0),
        "400 GQA images, changes in few": (together, 0.03, 1.0),
        "the same, large margin (GQA)": (together, 0.06, 1.0),
    }


def wants(alpha: float) -> str:
    """Share asked on average by both kinds of spending, were the variance known."""

    def obrien_fleming_like(share: float, spend: float) -> float:
        return float(4 * stats.norm.sf(stats.norm.isf(spend / 4) / np.sqrt(share)))

    shares = np.array(sequential.fractions(LOOKS))
    wanted = np.exp(np.linspace(np.log(1 / 40), 0, 4000))  # of the documents, were they asked at once
    told = []
    for name, spent in (("Pocock-like", sequential.pocock_like), ("O'Brien-Fleming-like", obrien_fleming_like)):
        z = sequential.bounds(shares, alpha, spent)
        enough = wanted[:, None] * (z / stats.norm.isf(alpha / 2)) ** 2 <= shares
        asked = np.where(enough.any(axis=1), shares[enough.argmax(axis=1)], 1)
        told.append(f"{name}: {' '.join(f'{each:.2f}' for each in z)} SE, asks {100 * asked.mean():.0f} %")
    return "; ".join(told)


def replay(table: ScoreTable, margin: float, orders: int) -> None:
    """A finished sweep in rounds, in the random orders of seeds 0, 1, ...: what is asked, and the CURs against all."""
    whole = curs_of(table)
    asked, off, within, at = list[float](), list[float](), list[Array](), Counter[int]()
    tasks = dict(zip((b.name for b in table.benchmarks), table.tasks, strict=True))
    most = max(len(samples.documents) for samples in table.samples.values())
    for seed in range(orders):
        for k in range(LOOKS):
            look_at = Until(100 * margin, LOOKS, sequential.fractions(LOOKS)[: k + 1])
            part = first(table, Sample(math.ceil(most * look_at.fractions[-1]), seed), tasks, look_at)
            if deciding.widest(part).half <= margin or k == LOOKS - 1:
                break
        values, low, high = curs_of(part)
        asked.append(sum(part.documents) / sum(table.documents))
        off.append(float(np.nanmax(np.abs(values - whole[0]))))
        within.append((low <= whole[0]) & (whole[0] <= high))
        at[k + 1] += 1
    stops = " ".join(f"{k}:{at[k]}" for k in sorted(at))
    print(
        f"margin {100 * margin:g} %: asked {100 * np.mean(asked):.0f} % (stops {stops}); the whole's CURs are within "
        f"the intervals in {100 * np.mean(within):.1f} %; the farthest off by {100 * np.median(off):.2f} % (median), "
        f"{100 * max(off):.2f} % (most); first order: asked {100 * asked[0]:.0f} %, off by {100 * off[0]:.2f} %",
        flush=True,
    )


def first(table: ScoreTable, sample: Sample, tasks: Mapping[str, str], until: Until) -> ScoreTable:
    """What a table of a sample of each benchmark's documents would be."""
    points, kept = [], {}
    for benchmark in table.benchmarks:
        every = table.samples[benchmark.name]
        places = list(zip(every.clusters.tolist(), every.strata.tolist(), strict=True))
        at = list(sample.draw(tasks[benchmark.name], places).chosen)
        mine = SampleScores(every.documents[at], every.scores[:, at], every.clusters[at], every.strata[at])
        sums = metrics.cluster_sums(mine.scores, mine.clusters, mine.strata, benchmark.rule)
        points.append(100 * metrics.benchmark_score(sums, benchmark.weights))
        kept[benchmark.name] = mine
    documents = tuple(len(each.documents) for each in kept.values())
    return replace(table, points=np.stack(points, axis=1), samples=kept, documents=documents, until=until)


def curs_of(table: ScoreTable) -> tuple[Array, Array, Array]:
    """CURs of all cells that have one, with their intervals."""
    joined, settings = join(table), table.until.level() if table.until else LEVEL
    numbers = [
        number
        for place in joined.places
        for number in encoders.cur_numbers(joined, place, encoders.curs(joined, place), settings)
    ]
    return tuple(np.array([getattr(each, end) for each in numbers]) for end in ("value", "low", "high"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--equal", action="store_true", help="the same share of each benchmark, not the same number")
    parser.add_argument("--runs", help="a finished sweep to replay")
    parser.add_argument("--margin", type=float, nargs="+", default=[5.0], help="of --runs, in percent points")
    args = parser.parse_args()
    if args.runs:
        (table,) = api.read([args.runs])
        for margin in args.margin:
            replay(table, margin / 100, args.repeats)
        return
    rng, started = np.random.default_rng(20261130), time.process_time()
    print(f"{wants(1 - LEVEL)}\n\n{args.repeats} repetitions, {LOOKS} looks\n")
    print(
        "| scenario | margin | asked % | stops | coverage | lowest cell | ordinary 95 % | lowest cell | at all looks | "
        "lowest cell | stop at a clear sign | ordinary 95 % | family with a wrong sign |\n" + "|---" * 13 + "|"
    )
    for name, (table, margin, scale) in scenarios(rng).items():
        if args.only in name:
            print(row(name, table, margin, scale, rng, args.repeats, args.equal), flush=True)
    print(f"\n({time.process_time() - started:.0f} CPU seconds)")


if __name__ == "__main__":
    main()
