"""What a sweep over all masks costs, beside evaluating each mask by itself, and beside what it cannot avoid.

    python benchmarks/sweep.py --limit 40           the bundled model in lmms-eval
    python benchmarks/sweep.py --subject midsize    random weights, encoders of real width and input; no framework
    python benchmarks/sweep.py --subject full       an Eagle-X5-7B of random weights in full size; needs a GPU

Routes, one after the other, each in processes of its own:

    a1    a plain `lmms-eval` command for each mask, at its default batch size, 1 (demo only)
    a2    the same at the batch size of b2
    b1    the model loaded once, each mask evaluated by itself, batch size 1
    b2    the same at the best of --batch-sizes, as found beforehand with the full model alone
    c     a sweep: `redundancy-eval sweep` for the demo, its engine sweep.Sweep for the others

Wall and CPU time and peak memory are those of whole processes, with imports and loading. *Model time* is what a route
spends in answering: b in MaskedModel.generate, c in Sweep.fill, which decodes and hashes the images and stores the
answers, too, and in half precision answers once more for the full model. The bound: every encoder once for each image,
every mask's prompt and answer once, whatever prompts have in common, at the rate of a large matrix product of the same
type in the same run. The routes' answers are compared; in half precision some differ between batches of other sizes.
Nothing is gated on a number.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The parent imports no torch: a child's peak memory begins with that of the process that started it.
NEW_TOKENS = 8  # of an answer to a subject without a framework
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TQDM_DISABLE")


def spawn(command: list[str], log: Path) -> dict[str, Any]:
    """Run a command to its end: wall and CPU seconds, peak GiB; fails with the end of its output."""
    started = time.perf_counter()
    with log.open("wb") as screen:
        environment = {**os.environ, **dict.fromkeys(OFFLINE, "1"), "TOKENIZERS_PARALLELISM": "false"}
        child = subprocess.Popen(command, stdout=screen, stderr=screen, env=environment)
        _, status, used = os.wait4(child.pid, 0)
    wall, child.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}:\n{log.read_text()[-2000:]}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 2**20}


def limited(args: argparse.Namespace) -> list[str]:
    """`--limit`, if there is one."""
    return ["--limit", str(args.limit)] if args.limit else []


def start(args: argparse.Namespace, route: str, masks: str, batch: str = "1") -> dict[str, Any]:
    """A route in a process of its own: what it used, and what it tells."""
    command = [sys.executable, __file__, "--subject", args.subject, "--images", str(args.images), "--masks", masks]
    command += ["--questions", str(args.questions)]
    command += ["--child", route, "--batch", batch, "--work", str(args.work)]
    used = spawn(command + limited(args), args.work / "log")
    return {**used, **json.loads((args.work / f"{route}.json").read_text())}


def best_batch(args: argparse.Namespace) -> str:
    """The batch size at which the full model alone answers fastest; one that does not fit is left out."""
    times: dict[str, float] = {}
    for size in args.batch_sizes.split(","):
        try:
            times[size] = start(args, "b", "none", size)["model"]
        except SystemExit as error:
            print(f"batches of {size} left out: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    if not times:
        raise SystemExit("no batch size of --batch-sizes works")
    return min(times, key=lambda size: times[size])


def commands(args: argparse.Namespace, labels: list[str], batch: str) -> dict[str, Any]:
    """Route a: a plain lmms-eval command for each mask."""
    from redundancy_eval import tasks

    total: dict[str, Any] = {"wall": 0.0, "cpu": 0.0, "memory": 0.0, "answers": {}}
    for number, label in enumerate(labels):
        out = args.work / f"a{batch}" / str(number)
        command = [sys.executable, "-m", "lmms_eval", "--model", "eagle_masked", "--tasks", "redundancy_demo"]
        command += ["--model_args", f"pretrained=demo,dtype=float32,drop={label}", "--device", "cpu", "--log_samples"]
        command += [
            "--include_path",
            str(Path(tasks.__file__).parent),
            "--batch_size",
            batch,
            "--output_path",
            str(out),
        ]
        used = spawn(command + limited(args), args.work / "log")
        total |= {"wall": total["wall"] + used["wall"], "cpu": total["cpu"] + used["cpu"]}
        total["memory"] = max(total["memory"], used["memory"])
        for path in out.rglob("*_samples_*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                told = json.loads(line)
                name = f"{label}|{path.stem.partition('_samples_')[2]} document {told['doc_id']}"
                total["answers"][name] = told["filtered_resps"]
    return total


def main(args: argparse.Namespace) -> None:
    """Measure the routes and print a table."""
    routes, found = args.routes.split(","), {}
    labels = start(args, "prepare", args.masks)["labels"]
    size = best_batch(args) if {"a2", "b2"} & set(routes) else ""
    for route, batch in (("a1", "1"), ("a2", size)):
        if route in routes and args.subject == "demo":
            found[route] = commands(args, labels, batch)
    for route, kind, batch in (("b1", "b", "1"), ("b2", "b", size), ("c", "c", args.sweep_batch)):
        if route in routes:
            found[route] = start(args, kind, args.masks, batch)
    asked = [told["asked"] for told in found.values() if "asked" in told]
    (args.work / "asked.json").write_text(json.dumps(asked[-1]))  # c's, if it is there: it knows equal images
    bound = start(args, "bound", args.masks)
    seconds = bound["flop"] / bound["rate"]
    print(f"{bound['subject']}; {len(labels)} masks of {bound['questions']} questions; batches of b2: {size or '-'}\n")
    print("| route | wall s | CPU s | peak GiB | GPU GiB | model time s | of the bound |")
    print("|-------|-------:|------:|---------:|--------:|-------------:|-------------:|")
    for route, told in found.items():
        gpu = f"{told['gpu']:.1f}" if told.get("gpu") else ""
        model = f"{told['model']:.1f} | {told['model'] / seconds:.2f}" if "model" in told else " | "
        print(f"| {route} | {told['wall']:.1f} | {told['cpu']:.1f} | {told['memory']:.2f} | {gpu} | {model} |")
    print(
        f"\nbound {seconds:.1f} s: {bound['flop'] / 1e12:.4g} TFLOP, of them encoders {bound['encoders'] / 1e12:.4g}, "
        f"at {bound['rate'] / 1e12:.3g} TFLOP/s; encoders anew for each mask: {bound['anew'] / 1e12:.4g} TFLOP"
    )
    print(bound["machine"])
    for other in [route for route in ("b1", "b2", "a1", "a2") if route in found and "c" in found]:
        ours, theirs = found["c"]["answers"], found[other]["answers"]
        equal = sum(text in (ours.get(key), [ours.get(key)]) for key, text in theirs.items())  # lmms-eval's in a list
        print(f"answers of c that equal those of {other}: {equal} of {max(len(ours), len(theirs))}", end="")
        print(f" ({len(set(map(str, theirs.values())))} different ones)")


# --- the children --------------------------------------------------------------------------------------------------


@contextmanager
def timed(owner: Any, name: str, spent: dict[str, float], after: Callable[..., None] | None = None) -> Iterator[None]:
    """Within, add up the seconds that a function takes; `after` gets what it made and its arguments."""
    import torch

    original = getattr(owner, name)

    def measured(*args: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        made = original(*args, **settings)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        if after:
            after(made, *args)
        return made

    setattr(owner, name, measured)
    yield
    setattr(owner, name, original)


def one_by_one(args: argparse.Namespace, labels: list[str]) -> dict[str, Any]:
    """Routes b: the model loaded once, each mask by itself."""
    import subjects

    from redundancy_eval import masks, tasks
    from redundancy_eval.model_wrappers.masking.native import MaskedModel, Prompt

    spent: dict[str, float] = {}
    answers: dict[str, str] = {}
    lengths: list[tuple[int, int]] = []

    def keep(given: Any, view: Any, batch: Any, *_: Any) -> None:
        lengths.extend((answer.prompt_tokens, answer.new_tokens) for answer in given)
        answers.update((f"{view.mask_label}|{p.name}", a.text) for p, a in zip(batch, given, strict=True))

    with timed(MaskedModel, "generate", spent, keep):
        if args.subject == "demo":
            from lmms_eval.evaluator import simple_evaluate
            from lmms_eval.tasks import TaskManager

            from redundancy_eval.model_wrappers.hosts.lmms_eval.model import EagleMasked

            subject = EagleMasked("demo", batch_size=args.batch, device="cpu", dtype="float32")
            full, manager = subject.masked, TaskManager(include_path=str(Path(tasks.__file__).parent))
            for label in labels:
                subject.masked = full.under(masks.dropped(full.encoder_names, label))
                simple_evaluate(subject, tasks=["redundancy_demo"], limit=args.limit, task_manager=manager)
        else:
            full, size = subjects.load(args.subject, args.work / "midsize"), int(args.batch)
            asked = enumerate(subjects.documents(args.images, args.questions))
            prompts = [Prompt(text, (image,), f"t document {n}") for n, (text, image) in asked]
            for view in [full.under(masks.dropped(full.encoder_names, label)) for label in labels]:
                for place in range(0, len(prompts), size):
                    view.generate(prompts[place : place + size], NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    asked = {"images": len(lengths) // len(labels), "lengths": lengths}
    return {"model": spent["generate"], "answers": answers, "asked": asked}


def at_once(args: argparse.Namespace, labels: list[str]) -> dict[str, Any]:
    """Route c: a sweep."""
    import subjects

    from redundancy_eval import cli
    from redundancy_eval.model_wrappers.checkpoints import hub
    from redundancy_eval.model_wrappers.masking import loading
    from redundancy_eval.model_wrappers.sweeps import sweep
    from redundancy_eval.model_wrappers.sweeps.question import Question
    from redundancy_eval.store import HEADER, Store

    spent: dict[str, float] = {}
    out = args.work / "c"
    with timed(sweep.Sweep, "fill", spent), timed(loading, "load", spent):
        if args.subject == "demo":
            command = ["sweep", "--model", "eagle_masked", "--model_args", "pretrained=demo,dtype=float32"]
            command += ["--masks", ";".join(labels), "--tasks", "redundancy_demo", "--device", "cpu"]
            command += ["--batch_size", args.batch, "--output_path", str(out)]
            if cli.main(command + limited(args)):
                raise SystemExit("the sweep failed")
        else:
            full, settings = subjects.load(args.subject, args.work / "midsize"), {"min_new_tokens": NEW_TOKENS}
            asked = [
                Question("t", "", str(n), text, NEW_TOKENS, settings, lambda image=image: [image])
                for n, (text, image) in enumerate(subjects.documents(args.images, args.questions))
            ]
            with Store.open(out / "store", {"subject": args.subject}) as kept:
                sweep.Sweep(lambda: full, labels, kept, args.batch).fill(asked, show=False)
    with Store.open(out / "store", hub.read_config(out / "store", HEADER)["identity"]) as kept:
        found = {key: stored for key, stored in kept.items() if key.mask in labels}
    lengths = [(stored.prompt_tokens, stored.new_tokens) for stored in found.values()]
    images = len({image for stored in found.values() for image in stored.images})
    answers = {f"{key.mask}|{key.task} document {key.document}": stored.text for key, stored in found.items()}
    model = spent["fill"] - spent.get("load", 0.0)
    return {"model": model, "answers": answers, "asked": {"images": images, "lengths": lengths}}


def bound(args: argparse.Namespace, labels: list[str]) -> dict[str, Any]:
    """What cannot be avoided, in operations, and the rate of a large matrix product."""
    import subjects

    from redundancy_eval import masks
    from redundancy_eval.model_wrappers.costs import operations

    model, asked = subjects.skeleton(args.subject), json.loads((args.work / "asked.json").read_text())
    found = operations.of(model, "eagle_masked", subjects.config(args.subject))
    questions = len(asked["lengths"]) // len(labels)
    rest = len(asked["lengths"]) * found.fusion
    rest += sum(found.language.prefill(length) + found.language.decode(length, new) for length, new in asked["lengths"])
    dropped = [name for label in labels for name in masks.dropped(model.encoder_names, label)]
    anew = sum((len(labels) - dropped.count(name)) * (each or 0) for name, each in found.encoders.items()) * questions
    encoders = sum(each or 0 for each in found.encoders.values()) * asked["images"]
    rate, dtype, device = subjects.rate(args.subject)
    sizes = "; ".join(f"{name} {(each or 0) / 1e9:.3g} GFLOP an image" for name, each in found.encoders.items())
    language = sum(parameter.numel() for parameter in model.language_model.parameters()) / 1e6
    cpu = [x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    packages = ("torch", "transformers", "timm", "lmms_eval")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return {
        "subject": f"{args.subject}: {sizes}; language model {language:.4g} million parameters, {dtype}",
        "machine": f"{(cpu or ['?'])[0]}, {len(os.sched_getaffinity(0))} cores, {device}; {versions}",
        "questions": questions, "encoders": encoders, "flop": encoders + rest, "anew": anew + rest, "rate": rate,
    }  # fmt: skip


def child(args: argparse.Namespace) -> None:
    """One route in a process of its own; what it tells goes to a file."""
    import subjects
    import torch

    from redundancy_eval.model_wrappers.families.eagle import card
    from redundancy_eval.model_wrappers.sweeps import masks

    labels = masks.read(args.masks, card.encoders(subjects.config(args.subject)))
    told: dict[str, Any] = {"labels": labels}
    if args.child == "prepare" and args.subject == "midsize":
        subjects.write(args.subject, args.work / "midsize")
    elif args.child != "prepare":
        told |= {"b": one_by_one, "c": at_once, "bound": bound}[args.child](args, labels)
    if torch.cuda.is_available():
        told["gpu"] = torch.cuda.max_memory_allocated() / 2**30
    (args.work / f"{args.child}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=("demo", "midsize", "full"), default="demo")
    parser.add_argument("--limit", type=int, metavar="N", help="demo: only the first N questions of each task")
    parser.add_argument("--images", type=int, metavar="N", help="others: how many (midsize 4, full 64)")
    parser.add_argument("--questions", type=int, default=1, metavar="N", help="others: on each image (default 1)")
    parser.add_argument("--masks", default="every", help="as for `redundancy-eval sweep` (default: every)")
    parser.add_argument("--routes", default="a1,a2,b1,b2,c", help="of a1,a2,b1,b2,c (default: all)")
    parser.add_argument("--batch-sizes", default="4,16,64", metavar="N,...", help="tried for b2 (default 4,16,64)")
    parser.add_argument("--sweep-batch", default="auto", metavar="N", help="batch size of c (default auto)")
    for hidden in ("--child", "--batch", "--work"):
        parser.add_argument(hidden, help=argparse.SUPPRESS, type=Path if hidden == "--work" else str)
    options = parser.parse_args()
    if not {"b1", "b2", "c"} & set(options.routes.split(",")):
        parser.error("--routes must name b1, b2 or c")
    options.images = options.images or (64 if options.subject == "full" else 4)
    if options.child:
        child(options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            options.work = Path(folder)
            main(options)
