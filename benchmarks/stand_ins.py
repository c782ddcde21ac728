"""The demo's masks with zeros, means and linear stand-ins in the place of what is dropped: the table of docs/need.md.

    python benchmarks/stand_ins.py OUT [--pictures 1500]

Draws training pictures, makes a calibration of them, sweeps all masks under each ablation (what is there already is not
asked again), and prints points, how much of the loss is back, and held-out R2. Two minutes a sweep on two cores.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

from redundancy_eval import api, masks, metrics
from redundancy_eval.model_wrappers.masking import ablations, calibration
from redundancy_eval.options import Options
from redundancy_eval.tasks.demo import scenes

MODEL, CHECKPOINT, KINDS = "eagle_masked", "pretrained=demo,dtype=float32", ("zero", "mean", "predicted")
SEED = 12345


def sweep(out: Path, kind: str, file: Path) -> None:
    """All masks of the demo under an ablation."""
    more = "" if kind == "zero" else f",ablation={kind},calibration={file}"
    command = ["sweep", "--model", MODEL, "--model_args", CHECKPOINT + more, "--masks", "every", "-o", str(out / kind)]
    asked = ["--tasks", "redundancy_demo", "--device", "cpu", "--verbosity", "WARNING"]
    subprocess.run([sys.executable, "-m", "redundancy_eval", *command, *asked], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=1500)
    args = parser.parse_args()
    file = args.out / "calibration.safetensors"
    if not file.exists():
        sample = [Image.fromarray(pixels) for pixels in scenes.training_pictures(args.pictures, SEED)]
        print(calibration.make(MODEL, {"pretrained": "demo", "dtype": "float32", "device": "cpu"}, sample, 32, file))
    for kind in KINDS:
        sweep(args.out, kind, file)
    sums = ablations.read(file, sums=True).sums
    assert sums is not None
    overall = {}
    for kind in KINDS:
        (table,) = api.read([args.out / kind], Options())
        overall[kind] = {mask: float(metrics.overall_scores(table.categories(table.row(mask)))) for mask in table.masks}
        names = table.encoders
    full = overall["zero"][()]
    print("| dropped | zeros | mean | **predicted** | of the loss back | held-out R2 |\n|---|---|---|---|---|---|")
    for mask in masks.every(names):
        zero, mean, predicted = (overall[kind][mask] for kind in KINDS)
        back = f"{(predicted - zero) / (full - zero):.0%}" if zero < full else ""
        r2 = f"{sums.guess(mask).r2:.2f}" if 0 < len(mask) < len(names) else ""
        label = masks.label(mask, names)
        print(f"| {label} | {zero:.2f} | {mean:.2f} | {predicted:.2f} | {back} | {r2} |")


if __name__ == "__main__":
    main()
