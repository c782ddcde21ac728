"""How well encoders are told apart without labels, and how well the loss is estimated: the demo, document by document.

    redundancy-eval demo -o demo_results
    python benchmarks/without_labels.py demo_results/runs

What all documents say, with labels, stands for the truth. Small benchmarks are drawn from them, stratified by category
and without replacement; of each is asked whether it has all encoders in the right order (ties are broken at random).
"""

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from redundancy_eval import api
from redundancy_eval.statistics import changes

Array = NDArray[np.float64]
SIZES = (25, 50, 100, 200)
CUR, LABELS, CHANGED, EXPECTED = (
    "CUR, with labels", "points lost, with labels", "answers that change", "confidence x change"
)  # fmt: skip


def measures(scores: Array, changed: Array, expected: Array) -> Mapping[str, Array]:
    """Each measure (..., masks) from category means (..., masks and full first, categories); points but for CUR.

    An overall CUR is the mean of its category CURs; a category whose full score is 0 in a draw has none.
    """
    full = scores[..., :1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        curs = np.where(full > 0, (full - scores) / full, np.nan)
    return {
        CUR: np.nanmean(curs, axis=-1)[..., 1:],
        LABELS: 100 * (full - scores).mean(axis=-1)[..., 1:],
        CHANGED: 100 * changed.mean(axis=-1)[..., 1:],
        EXPECTED: 100 * expected.mean(axis=-1)[..., 1:],
    }


def main() -> None:
    """Read, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", help="a finished sweep over every mask, one benchmark a category")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (table,) = api.read([args.runs])
    rng = np.random.default_rng(args.seed)
    order = sorted(range(len(table.masks)), key=lambda row: len(table.masks[row]))
    singles = [place for place, row in enumerate(order[1:]) if len(table.masks[row]) == 1]
    rows = []  # of each category: scores, changed, expected (3, masks, documents)
    for benchmark in table.benchmarks:
        samples = table.samples[benchmark.name]
        if samples.said is None or np.isnan(samples.said.log_probability).any():
            raise SystemExit(f"{benchmark.name}: no log-probabilities; sweep into a new folder")
        changed = changes.changed(samples.said.answers[order])
        rows.append([samples.scores[order], changed, changes.expected_loss(changed, samples.said.log_probability)])
    whole = [np.stack([np.asarray(each[kind]).mean(axis=-1) for each in rows], axis=-1) for kind in range(3)]
    truth = measures(*whole)
    right = np.argsort(-truth[CUR][singles])
    encoders = [table.masks[order[1:][place]][0] for place in singles]
    print(f"truth, {sum(len(table.samples[b.name].documents) for b in table.benchmarks)} documents:")
    for place in right:
        each = ", ".join(f"{name} {truth[name][singles][place]:.3f}" for name in truth)
        print(f"  {encoders[place]}: {each}")

    print(
        f"\nall {len(singles)} encoders in the right order, share of {args.draws} draws; and the root mean square error"
    )
    print("of the overall points lost without one encoder")
    print(
        "| measure | " + " | ".join(f"n = {n}" for n in SIZES) + " | " + " | ".join(f"RMSE, {n}" for n in SIZES) + " |"
    )
    print("|---|" + "---|" * (2 * len(SIZES)))
    found = {name: ([], []) for name in truth}
    for n in SIZES:
        drawn = [np.empty((args.draws, len(order), len(rows))) for _ in range(3)]
        for column, of_category in enumerate(rows):
            count = len(of_category[0][0])
            for draw in range(args.draws):
                chosen = rng.permutation(count)[: n // len(rows)]
                for kind in range(3):
                    drawn[kind][draw, :, column] = of_category[kind][:, chosen].mean(axis=-1)
        for name, values in measures(*drawn).items():
            mine = values[:, singles]
            mixed = mine + 1e-9 * rng.random(mine.shape)
            found[name][0].append(float((np.argsort(-mixed, axis=1) == right).all(axis=1).mean()))
            off = mine - truth[LABELS][singles]
            found[name][1].append(float("nan") if name == CUR else float(np.sqrt((off**2).mean())))
    for name, (shares, errors) in found.items():
        print(f"| {name} | " + " | ".join(f"{x:.2f}" for x in shares) + " | "
              + " | ".join("" if np.isnan(x) else f"{x:.1f}" for x in errors) + " |")  # fmt: skip

    lost = 100 * (whole[0][:1] - whole[0])[1:]
    print(f"\nas an estimate of the points lost, {lost.size} masks x categories, all documents:")
    for name, kind in ((CHANGED, 1), (EXPECTED, 2)):
        estimate = 100 * whole[kind][1:]
        off = np.abs(estimate - lost)
        together = np.corrcoef(estimate.ravel(), lost.ravel())[0, 1]
        print(f"  {name}: mean error {off.mean():.2f} points, largest {off.max():.1f}, Pearson {together:.3f}")


if __name__ == "__main__":
    main()
