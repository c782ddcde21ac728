"""How long reading takes: 32 masks x 15 benchmarks x 5,000 samples of lmms-eval, to tables.

    python benchmarks/reading.py [--folder DIR] [--samples 5000]

Writes result folders as lmms-eval writes them (about 1.6 GB; kept when --folder is given), then reads and tabulates
them in a process of its own and prints its time and peak memory, beside the time that only parsing the JSON takes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENCODERS = ("clip", "convnext", "sam", "eva02", "pix2struct")


def write(folder: Path, samples: int) -> None:
    """Result folders of every mask of five encoders on the fifteen benchmarks."""
    from redundancy_eval import masks, taxonomy

    chosen = taxonomy.load("paper")
    benchmarks = [b for b in chosen.benchmarks if not b.name.startswith("demo ")]
    for mask in masks.every(ENCODERS):
        drop = masks.label(mask, ENCODERS)
        out = folder / f"drop-{drop}" / "x"
        out.mkdir(parents=True)
        results, configs = {}, {}
        for benchmark in benchmarks:
            task = benchmark.sources["lmms-eval"][0][0].task
            lines, scores = _samples(drop, benchmark, samples)
            (out / f"20260101_000000_samples_{task}.jsonl").write_text(lines)
            results[task] = {"alias": task, "accuracy,none": scores}
            configs[task] = {"task": task, "generation_kwargs": {"max_new_tokens": 64, "until": ["\n\n"]}}
        content = {
            "results": results,
            "configs": configs,
            "n-samples": {task: {"effective": samples} for task in results},
            "config": {"model": "eagle_masked", "model_args": f"pretrained=NVEagle/Eagle-X5-7B,drop={drop}"},
        }
        (out / "20260101_000000_results.json").write_text(json.dumps(content))


def _samples(drop: str, benchmark: object, samples: int) -> tuple[str, float]:
    from redundancy_eval import metrics

    chance = random.Random(f"{drop} {benchmark.name}")
    names = list(benchmark.weights) or [""]
    lines, scores, clusters, strata = [], [], [], []
    for number in range(samples):
        score, cluster, stratum = float(chance.random() < 0.6), f"image {number // 2}", names[number // 2 % len(names)]
        scores.append(score)
        clusters.append(cluster)
        strata.append(stratum)
        own = {"score": score, "question_id": str(number), "image": cluster, "stratum": stratum, "pair": number // 2}
        record = {
            "doc_id": number, "target": "A", "filtered_resps": "A",
            "token_counts": [{"input_tokens": 700, "output_tokens": 2}], "doc_hash": "7" * 64, "accuracy": own,
            "input": f"Question {number}: which of these stands in the picture?\nA. one\nB. two\nC. three\nD. four\n"
            "Answer with the option's letter from the given choices directly.",
        }  # fmt: skip
        lines.append(json.dumps(record))
    if benchmark.sources["lmms-eval"][0][0].cluster.endswith("pair"):
        clusters = [str(number // 2) for number in range(samples)]
    sums = metrics.cluster_sums(scores, clusters, strata, benchmark.rule)
    return "\n".join(lines) + "\n", float(metrics.benchmark_score(sums, benchmark.weights))


def read(folder: Path) -> None:
    """Read and tabulate; prints seconds and peak memory."""
    from redundancy_eval import api
    from redundancy_eval.options import Options
    from redundancy_eval.reports import report, write

    start = time.perf_counter()
    tables = api.read([folder], Options("paper", encoders=ENCODERS, lenient=("same-answers",)))
    write.files(report.build(tables))
    print(f"read and tabulated in {time.perf_counter() - start:.1f} s, ", end="")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, {len(tables[0].masks)} masks")


def parse(folder: Path) -> None:
    """Only parse the JSON: the bound of any reader of these files in this language."""
    start, lines = time.perf_counter(), 0
    for path in folder.rglob("*.jsonl"):
        with path.open("rb") as handle:
            for line in handle:
                json.loads(line)
                lines += 1
    print(f"json.loads alone: {time.perf_counter() - start:.1f} s for {lines:,} samples")


def main() -> None:
    """Write (unless the folder is there), then measure both in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--only", choices=("read", "parse"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        {"read": read, "parse": parse}[args.only](args.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "runs"
        if not folder.exists():
            write(folder, args.samples)
        for only in ("parse", "read"):
            subprocess.run([sys.executable, __file__, "--folder", str(folder), "--only", only], check=True)


if __name__ == "__main__":
    main()
