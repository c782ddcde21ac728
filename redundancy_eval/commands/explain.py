"""`redundancy-eval explain`: what masks change inside a model, without labels and from few documents."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redundancy_eval import environment, masks, usage
from redundancy_eval.errors import SetupError

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.sweeps.question import Question

_EXAMPLE = """\
redundancy-eval explain --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --task redundancy_gqa,redundancy_textvqa --count 64 -o explain.json
redundancy-eval report runs/x5 -o tables/x5 --explain explain.json"""
_SINGLE = "single"


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "explain", run, _flags, extra="lmms-eval", example=_EXAMPLE,
        help="what masks change inside a model, without labels and from few documents",
        description="Put some documents of lmms-eval tasks to a model and measure, without their labels, how far each "
        "mask moves its answers' distributions and its attention, and how alike the encoders' features are. Writes a "
        "JSON file that `report --explain` sets beside CUR, and a CSV file of the same numbers.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    from redundancy_eval.explain_file import KINDS

    usage.add(parser, "--model", required=True, metavar="MODEL", help="eagle_masked, hf_masked, ...")
    usage.add(parser, "--model_args", default="", metavar="ARGS", help="pretrained=...,...; without drop= and keep=")
    usage.add(
        parser, "--task", "--tasks", dest="task", required=True, metavar="TASK,...",
        help="lmms-eval tasks or groups whose documents are asked",
    )  # fmt: skip
    usage.add(
        parser,
        "--count",
        type=int,
        default=64,
        metavar="N",
        help="documents of each task, from all over it (default 64)",
    )
    usage.add(
        parser, "--masks", default=_SINGLE, metavar="MASKS",
        help=f"{_SINGLE} (each encoder dropped alone and kept alone, and all dropped; default), or as for `sweep`",
    )  # fmt: skip
    usage.add(
        parser, "--only", default=",".join(KINDS), metavar="KIND,...",
        help=f"of {', '.join(KINDS)} (default: all; of hf_masked divergence)",
    )  # fmt: skip
    usage.add(
        parser, "--batch_size", type=int, default=8, metavar="N",
        help="documents answered at once, and masks of a document at once (default 8)",
    )  # fmt: skip
    usage.add(
        parser, "--calibration", metavar="FILE",
        help="made by `calibrate` for this checkpoint: also how much of each encoder the others tell linearly",
    )  # fmt: skip
    usage.add_out(parser, "the file, *.json; a *.csv comes beside it", required=True, metavar="FILE")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Measure, write, print; returns 0."""
    from redundancy_eval import explain_file, model_args, taxonomy
    from redundancy_eval.reports import explained

    given, out = model_args.parse(args.model_args, "--model_args"), Path(args.out)
    if {"drop", "keep"} & set(given):
        raise SetupError("--masks says which masks: leave drop= and keep= out of --model_args")
    if args.count < 1 or args.batch_size < 1:
        raise SetupError(f"--count and --batch_size must be positive; not {args.count} and {args.batch_size}")
    explain_file.check_out(out)
    with environment.needed("explain", "lmms-eval"):
        from redundancy_eval.model_wrappers.diagnostics import explaining, passes
        from redundancy_eval.model_wrappers.families import registry
        from redundancy_eval.model_wrappers.masking import ablations, checked_arguments, loading
        from redundancy_eval.model_wrappers.sweeps import masks as presets
    if args.model == registry.MASKED or args.model not in registry.MODELS:
        raise SetupError(f"{args.model}: explain takes {', '.join((*registry.FAMILIES, registry.HF_MASKED))}")
    kinds = _chosen(args.only, args.model == registry.HF_MASKED)
    if args.calibration is not None:  # what is wrong with the file shows before the model is loaded
        ablations.identity(Path(args.calibration))
        if args.model == registry.HF_MASKED:
            raise SetupError("hf_masked: its calibration is of tensors, not of encoders; leave --calibration out")
    checked_arguments.check(args.model, given)
    encoders = presets.encoders_of(args.model, given)
    labels = _labels(args.masks, encoders)
    questions = _spread(_questions(args, given), args.count)
    out.parent.mkdir(parents=True, exist_ok=True)  # now, not when all is measured
    full = loading.load(args.model, **{**given, "drop": "none"})
    told = _linear_redundancy(args, given, full, encoders)
    subject = passes.subject(full, {label: masks.dropped(encoders, label) for label in labels})
    documents = [passes.Document(q.task, q.document, q.prompt, q.limit, q.settings) for q in questions]
    found = explaining.measure(subject, documents, labels, kinds, args.batch_size, _progress(len(documents)))
    similarity = found.similarity
    made = explain_file.Explained(
        args.model,
        given.get("pretrained") or registry.family(args.model).default,
        encoders,
        explain_file.deciding(given),
        taxonomy.LMMS_EVAL,
        tuple(masks.dropped(encoders, label) for label in labels),
        found.documents,
        found.values,
        {**({} if similarity is None else similarity.values()), **told},
        None if similarity is None else similarity.cka(),
        {
            "tasks": args.task, "documents of each task": args.count, "documents": len(documents),
            "number format": _dtype(full), "remarks": loading.remarks(full),
            **({} if similarity is None else {"images compared": similarity.units}),
        },
    )  # fmt: skip
    explain_file.write(made, out)
    chosen = taxonomy.load()
    out.with_suffix(".csv").write_text(explained.table(made, chosen), encoding="utf-8")
    print(explained.text(made, chosen))
    return 0


def _linear_redundancy(
    args: argparse.Namespace, given: Mapping[str, str], full: Any, encoders: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """What the other encoders do not tell of each, of `--calibration`."""
    if args.calibration is None:
        return {}
    from redundancy_eval.model_wrappers.families import registry
    from redundancy_eval.model_wrappers.masking import stand_ins

    checkpoint = given.get("pretrained") or registry.family(args.model).default
    bound = stand_ins.bound_to(args.model, given, getattr(full, "dtype", None) or full.model.dtype)
    r2 = stand_ins.linear_redundancy(args.calibration, stand_ins.Wanted(args.model, checkpoint, full.site, **bound))
    return {"untold": tuple(1 - r2[name] for name in encoders)}


def _chosen(text: str, hooked: bool) -> list[str]:
    from redundancy_eval.explain_file import KINDS

    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise SetupError(f"--only knows {', '.join(KINDS)}; not {unknown[0] if unknown else text!r}")
    if not hooked:
        return kinds
    if kinds not in ([*KINDS], ["divergence"]):
        raise SetupError("hf_masked: where the images stand and what its encoders give is not known; --only divergence")
    return ["divergence"]


def _labels(text: str, encoders: Sequence[str]) -> list[str]:
    """Labels of the masks, the full model first."""
    from redundancy_eval.model_wrappers.sweeps import masks as presets

    texts = ("leave-one-out", "keep-one") if text == _SINGLE else (text,)
    found = [label for each in texts for label in presets.read(each, encoders)]
    return list(dict.fromkeys([presets.FULL, *found]))


def _questions(args: argparse.Namespace, given: dict[str, str]) -> "list[Question]":
    """What lmms-eval asks in the tasks, as it asks in a sweep."""
    from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS

    framework = FRAMEWORKS["lmms-eval"]
    told = ["--model", args.model, "--model_args", args.model_args, "--tasks", args.task, "--verbosity", "WARNING"]
    route = framework.route([*told, framework.out_flag, str(Path(args.out).parent)], str(args.batch_size))
    found = [heard.question for heard in route.listen()]
    drawn = next((each for each in found if each.settings.get("do_sample")), None)
    if drawn is not None:
        raise SetupError(f"{drawn.task} draws its answers; what is measured here is along greedy ones")
    return found


def _spread(questions: "Sequence[Question]", count: int) -> "list[Question]":
    """So many questions of each task, spread over it (see `draws.stretches`)."""
    from redundancy_eval.statistics import draws

    of_task: dict[str, list[Question]] = {}
    for each in questions:
        of_task.setdefault(each.task, []).append(each)
    chosen: list[Question] = []
    for task, mine in of_task.items():
        chosen += [mine[place] for place in draws.stretches(len(mine), count, f"explain|{task}")]
    return chosen


def _progress(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="explain", unit=" documents", file=sys.stderr).update


def _dtype(full: Any) -> str:
    return str(getattr(full, "dtype", None) or full.model.dtype).removeprefix("torch.")
