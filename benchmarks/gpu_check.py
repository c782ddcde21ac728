"""What the sweep does on a GPU: in one command, within minutes, on random weights, so that nothing is downloaded.

    python benchmarks/gpu_check.py                   an Eagle-X5-7B in bfloat16, within 8 minutes on an H100 or H200
    python benchmarks/gpu_check.py --tiny            the same parts on a CPU with the demo's sizes, in a minute
    python benchmarks/gpu_check.py --midsize --parts profile --documents 1   a mid-size model in float32 on a CPU
    python benchmarks/gpu_check.py --table FILE ...  results that were written, as a table for docs/performance.md

Parts (benchmarks/gpu, one idea a module) come in order of worth, each by itself: one that fails is noted and the next
begins, one for which no time is left is noted too, and the JSON is written anew after each. Neither framework is
needed. Where nothing can be fetched, benchmarks/gpu_wheels.sh gathers beforehand what such a machine lacks.
"""

import argparse
import datetime
import re
import sys
import time
from pathlib import Path

import torch
from gpu import running
from gpu.all_masks import all_masks, leave_one_out
from gpu.attention import attention
from gpu.check import Check
from gpu.costs import cost
from gpu.families import cambrian, deepseek_vl
from gpu.hooked import hf_masked
from gpu.host_work import host_work
from gpu.memory import memory_runs_out
from gpu.naive import naive_best, naive_single
from gpu.profile import bound, profile
from gpu.pruning import prune
from gpu.running import Part
from gpu.works import works

RESULTS = Path(__file__).with_name("results")
PARTS = (
    Part(works), Part(all_masks), Part(naive_single), Part(bound), Part(profile), Part(naive_best),
    Part(leave_one_out), Part(host_work, 40), Part(memory_runs_out), Part(attention), Part(hf_masked, 40),
    Part(cost, 40), Part(prune, 90), Part(cambrian), Part(deepseek_vl),
)  # fmt: skip


def main() -> int:
    """Run the check; exit code 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    small = parser.add_mutually_exclusive_group()
    small.add_argument("--tiny", action="store_true", help="the demo's sizes, on a CPU")
    small.add_argument("--midsize", action="store_true", help="benchmarks/sweep.py's mid-size model, on a CPU")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts (default 480)")
    parser.add_argument("--documents", type=int, help="of a sweep (default 16)")
    parser.add_argument("--parts", default="", help="only these, by name: a,b")
    parser.add_argument("--out", type=Path, help="file for the JSON (default results/DEVICE-DATE.json)")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="print results that were written")
    args = parser.parse_args()
    if args.table:
        print(running.table(args.table))
        return 0
    on_cpu = args.tiny or args.midsize
    if not on_cpu and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --tiny runs the same parts on a CPU")
    names = {part.name: part for part in PARTS}
    chosen = [name for name in args.parts.split(",") if name] or list(names)
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(names)}")
    device = torch.device("cpu" if on_cpu else "cuda")
    if args.tiny:
        torch.set_num_threads(1)  # small matrices; more threads spin
    subject, documents = ("demo", 4) if args.tiny else ("midsize", 4) if args.midsize else ("full", 16)
    dtype = torch.float32 if args.midsize else torch.bfloat16
    ends = time.monotonic() + args.seconds
    check = Check(args.tiny, device, dtype, subject, args.documents or documents, ends)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", running.machine(check)["device"]).strip("-").lower()
    names_ = (f"{slug}-{datetime.date.today()}{more}.json" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    out = args.out or next(RESULTS / name for name in names_ if not (RESULTS / name).exists())
    told = running.run(check, [names[name] for name in chosen], out)
    failed = [name for name, found in told["parts"].items() if "error" in found]
    print(
        f"{out}: {len(told['parts']) - len(failed)} of {len(told['parts'])} parts, {told['seconds']:.0f} s",
        file=sys.stderr,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
