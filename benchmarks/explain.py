"""How well measures without labels order a model's encoders, from how few documents, and where they fail.

    redundancy-eval demo
    redundancy-eval explain --model eagle_masked --model_args pretrained=demo,dtype=float32 --task redundancy_demo \\
        --masks every --count 240 --batch_size 16 -o explain.json
    python benchmarks/explain.py demo_results/runs explain.json [--draws 2000]

The truth is CUR on all documents, with labels. Documents are drawn without replacement, as many of each category, and
the same ones for every row; "CUR with labels" is CUR on the drawn documents. Printed are the share of draws in which
all encoders stand in the right order, and in which the least relied on one is found; then, on all documents, rank
correlations over encoders in categories and over masks, and over all single steps (an encoder dropped while others are
gone already), where the measure of a step is the larger mask's less the smaller one's.
"""

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from redundancy_eval import explain_file
from redundancy_eval.api import read
from redundancy_eval.explain_file import Explained
from redundancy_eval.table import ScoreTable

Array = NDArray[np.float64]
COUNTS = (25, 50, 100, 200)
MEASURES = (
    ("KL, full to masked", "kl", False, False), ("-log p of the answer", "surprise", False, False),
    ("reverse KL", "reverse_kl", False, False), ("JS per token", "js", True, False),
    ("KL per token", "kl", True, False), ("attention KL", "attention_kl", False, False),
    ("attention JS", "attention_js", False, False), ("attention KL, kept alone", "attention_kl", False, True),
)  # fmt: skip


def scores(table: ScoreTable, explained: Explained) -> tuple[Array, NDArray[np.int64]]:
    """(masks, documents) scores in the order of the explained ones, and the category of each document."""
    place = {task: i for i, task in enumerate(table.tasks)}
    columns, categories = [], []
    for each in explained.documents:
        benchmark = table.benchmarks[place[each.task]]
        samples = table.samples[benchmark.name]
        (column,) = np.flatnonzero(samples.documents == each.document)
        columns.append(samples.scores[:, column])
        categories.append(table.taxonomy.categories.index(benchmark.category))
    rows = [table.masks.index(mask) for mask in explained.masks]
    return np.stack(columns, 1)[rows], np.array(categories)


def means(values: Array, categories: NDArray[np.int64]) -> Array:
    """(rows, documents) -> (rows, categories)."""
    return np.stack([values[:, categories == c].mean(1) for c in np.unique(categories)], 1)


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("explained", type=Path)
    parser.add_argument("--draws", type=int, default=2000)
    args = parser.parse_args()
    (table,) = read([args.runs])
    explained = explain_file.read(args.explained)
    given, categories = scores(table, explained)
    names, masks = explained.encoders, list(explained.masks)
    single = [masks.index((name,)) for name in names]
    alone = [masks.index(tuple(other for other in names if other != name)) for name in names]
    full = masks.index(())
    tokens = np.array([each.tokens for each in explained.documents])

    def curs(on: NDArray[np.int64]) -> Array:
        found = means(given[:, on], categories[on])
        with np.errstate(divide="ignore", invalid="ignore"):  # none of five answers right
            return np.asarray((found[full] - found[single]) / found[full])

    def measured(name: str, per_token: bool, kept: bool, on: NDArray[np.int64]) -> Array:
        values = explained.values[name][alone if kept else single][:, on]
        values = values / tokens[on] if per_token else values
        return (-1 if kept else 1) * means(values, categories[on])

    every = np.arange(len(categories))
    truth = curs(every)
    order = np.argsort(truth.mean(1))
    print("CUR, %:", {name: round(100 * float(value), 2) for name, value in zip(names, truth.mean(1), strict=True)})
    rng = np.random.default_rng(0)
    found: dict[str, dict[int, Array]] = {title: {} for title in ("CUR with labels", *(row[0] for row in MEASURES))}
    for count in COUNTS:
        of_each = count // len(np.unique(categories))
        right: dict[str, list[tuple[bool, bool]]] = {title: [] for title in found}
        for _ in range(args.draws):
            on = np.concatenate(
                [rng.choice(np.flatnonzero(categories == c), of_each, replace=False) for c in np.unique(categories)]
            )
            values = {"CUR with labels": curs(on)}
            values |= {title: measured(name, per, kept, on) for title, name, per, kept in MEASURES}
            for title, value in values.items():
                mine = np.lexsort((rng.random(len(value)), value.mean(1)))  # ties at random
                right[title].append((bool((mine == order).all()), bool(mine[0] == order[0])))
        found = {title: found[title] | {count: np.mean(each, 0)} for title, each in right.items()}
    print(f"\nright order / least found, {args.draws} draws")
    print(f"{'documents':28s}" + "".join(f"{count:>13d}" for count in COUNTS))
    for title, of_count in found.items():
        print(f"{title:28s}" + "".join(f"{a:7.2f} /{b:4.2f} " for a, b in of_count.values()))
    others = [row for row in range(len(masks)) if row != full]
    lost = (means(given, categories)[full] - means(given, categories)[others]).mean(1)
    steps = [
        (masks.index(tuple(n for n in names if n in gone)), masks.index(tuple(n for n in names if n in {*gone, name})))
        for name in names
        for size in range(len(names))
        for gone in combinations([n for n in names if n != name], size)
    ]
    points = means(given, categories).mean(1)
    of_steps = np.array([points[a] - points[b] for a, b in steps])
    print(f"\n{'all documents':28s}{'cells':>8s}{'masks':>8s}{'Pearson':>9s}{'steps':>8s}")
    for title, name, per, kept in MEASURES:
        cells = stats.spearmanr(measured(name, per, kept, every).ravel(), truth.ravel())[0]
        line = f"{title:28s}{cells:8.2f}"
        if not kept:
            of_masks = explained.values[name] / (tokens if per else 1)
            mean = means(of_masks, categories).mean(1)
            step = stats.spearmanr([mean[b] - mean[a] for a, b in steps], of_steps)[0]
            line += (
                f"{stats.spearmanr(mean[others], lost)[0]:8.2f}{np.corrcoef(mean[others], lost)[0, 1]:9.2f}{step:8.2f}"
            )
        print(line)
    print("\nfeatures of the images: Kendall's tau with CUR")
    for name, of_encoders in explained.encoder_values.items():
        print(f"{name:28s}{stats.kendalltau(of_encoders, truth.mean(1))[0]:8.2f}", np.round(of_encoders, 3))
    cells = measured("kl", False, False, every)
    print("\nKL (nats) / CUR (%), encoder in category")
    present = [table.taxonomy.categories[c] for c in np.unique(categories)]
    print(f"{'':14s}" + "".join(f"{name:>18s}" for name in present))
    for name, nats, share in zip(names, cells, truth, strict=True):
        print(f"{name:14s}" + "".join(f"{a:9.3f} /{100 * b:6.1f} " for a, b in zip(nats, share, strict=True)))
    small = [(a, b) for (a, b), drop in zip(steps, of_steps, strict=True) if abs(drop) < 0.02 and a != full]
    kl = means(explained.values["kl"], categories).mean(1)
    print("\nsteps between masked models that change the score by less than two points, and KL by most:")
    for a, b in sorted(small, key=lambda pair: -abs(kl[pair[1]] - kl[pair[0]]))[:4]:
        print(
            f"  {'+'.join(masks[a])} -> {'+'.join(masks[b])}: KL {kl[a]:.2f} -> {kl[b]:.2f}, "
            f"{100 * points[a]:.1f} -> {100 * points[b]:.1f} points"
        )


if __name__ == "__main__":
    main()
