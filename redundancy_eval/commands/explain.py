"""`redundancy-eval explain`: what masks change inside a model, without labels and from few documents."""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redundancy_eval import environment, explain_file, masks, taxonomy, usage
from redundancy_eval.errors import SetupError
from redundancy_eval.explain_file import ENCODER_MEASURES, MEASURES, Explained

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.sweeps.question import Question

_EXAMPLE = """\
redundancy-eval explain --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
    --task redundancy_gqa,redundancy_textvqa --count 64 -o explain.json
redundancy-eval report runs/x5 -o tables/x5 --explain explain.json"""
_SINGLE = "single"
_KINDS = ("divergence", "attention", "similarity")


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
    usage.add(parser, "--model", required=True, metavar="MODEL", help="eagle_masked, hf_masked, ...")
    usage.add(parser, "--model_args", default="", metavar="ARGS", help="pretrained=...,...; without drop= and keep=")
    usage.add(
        parser, "--task", "--tasks", dest="task", required=True, metavar="TASK,...",
        help="lmms-eval tasks or groups whose documents are asked",
    )  # fmt: skip
    usage.add(
        parser, "--count", type=int, default=64, metavar="N", help="documents of each task, evenly spread (default 64)"
    )
    usage.add(
        parser, "--masks", default=_SINGLE, metavar="MASKS",
        help=f"{_SINGLE} (each encoder dropped alone and kept alone, and all dropped; default), or as for `sweep`",
    )  # fmt: skip
    usage.add(
        parser, "--only", default=",".join(_KINDS), metavar="KIND,...",
        help=f"of {', '.join(_KINDS)} (default: all; of hf_masked divergence)",
    )  # fmt: skip
    usage.add(
        parser, "--batch_size", type=int, default=8, metavar="N",
        help="documents answered at once, and masks of a document at once (default 8)",
    )  # fmt: skip
    usage.add_out(parser, "the file, *.json; a *.csv comes beside it", required=True, metavar="FILE")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Measure, write, print; returns 0."""
    from redundancy_eval import model_args

    given, out = model_args.parse(args.model_args, "--model_args"), Path(args.out)
    if {"drop", "keep"} & set(given):
        raise SetupError("--masks says which masks: leave drop= and keep= out of --model_args")
    if args.count < 1 or args.batch_size < 1:
        raise SetupError(f"--count and --batch_size must be positive; not {args.count} and {args.batch_size}")
    explain_file.check_out(out)
    with environment.needed("explain", "lmms-eval"):
        from redundancy_eval.model_wrappers.diagnostics import explaining, passes
        from redundancy_eval.model_wrappers.families import registry
        from redundancy_eval.model_wrappers.masking import checked_arguments, loading
        from redundancy_eval.model_wrappers.sweeps import masks as presets
    if args.model == registry.MASKED or args.model not in registry.MODELS:
        raise SetupError(f"{args.model}: explain takes {', '.join((*registry.FAMILIES, registry.HF_MASKED))}")
    kinds = _chosen(args.only, args.model == registry.HF_MASKED)
    checked_arguments.check(args.model, given)
    encoders = presets.encoders_of(args.model, given)
    labels = _labels(args.masks, encoders)
    questions = _spread(_questions(args, given), args.count)
    full = loading.load(args.model, **{**given, "drop": "none"})
    subject = passes.subject(full, {label: masks.dropped(encoders, label) for label in labels})
    documents = [passes.Document(q.task, q.document, q.prompt, q.limit, q.settings) for q in questions]
    found = explaining.measure(subject, documents, labels, kinds, args.batch_size, _progress(len(documents)))
    similarity = found.similarity
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Explained(
        args.model,
        given.get("pretrained") or registry.family(args.model).default,
        encoders,
        explain_file.deciding(given),
        taxonomy.LMMS_EVAL,
        tuple(masks.dropped(encoders, label) for label in labels),
        found.documents,
        found.values,
        {} if similarity is None else similarity.values(),
        None if similarity is None else similarity.cka(),
        {
            "tasks": args.task, "documents of each task": args.count, "documents": len(documents),
            "number format": _dtype(full), "remarks": loading.remarks(full),
            **({} if similarity is None else {"images compared": similarity.units}),
        },
    )  # fmt: skip
    explain_file.write(made, out)
    _write_csv(made, out.with_suffix(".csv"))
    _print(made)
    return 0


def _chosen(text: str, hooked: bool) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown or not kinds:
        raise SetupError(f"--only knows {', '.join(_KINDS)}; not {unknown[0] if unknown else text!r}")
    if not hooked:
        return kinds
    if kinds not in ([*_KINDS], ["divergence"]):
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

    framework = FRAMEWORKS[taxonomy.LMMS_EVAL]
    told = ["--model", args.model, "--model_args", args.model_args, "--tasks", args.task, "--verbosity", "WARNING"]
    route = framework.route([*told, framework.out_flag, str(Path(args.out).parent)], str(args.batch_size))
    found = [heard.question for heard in route.listen()]
    drawn = next((each for each in found if each.settings.get("do_sample")), None)
    if drawn is not None:
        raise SetupError(f"{drawn.task} draws its answers; what is measured here is along greedy ones")
    return found


def _spread(questions: "Sequence[Question]", count: int) -> "list[Question]":
    """So many questions of each task, evenly spread over it."""
    of_task: dict[str, list[Question]] = {}
    for each in questions:
        of_task.setdefault(each.task, []).append(each)
    return [
        each
        for mine in of_task.values()
        for each in (mine if len(mine) <= count else [mine[i * len(mine) // count] for i in range(count)])
    ]


def _progress(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="explain", unit=" documents", file=sys.stderr).update


def _dtype(full: Any) -> str:
    return str(getattr(full, "dtype", None) or full.model.dtype).removeprefix("torch.")


def _write_csv(found: Explained, path: Path) -> None:
    """Every number with its interval; an encoder's (or a pair's, `+`) stand in the column of masks."""
    from redundancy_eval.uncertainty import measures

    rows: list[list[object]] = []
    for each in measures.everything(found, taxonomy.load(), 0.95):
        number, unit = each.number, MEASURES[each.measure].unit
        rows.append(
            [
                each.measure, f"{unit} per {each.per}" if each.per else unit,
                f"drop={masks.label(each.mask, found.encoders)}", each.place, each.kind, number.value, number.low,
                number.high, number.se, each.documents, number.clusters, number.reason or number.note,
            ]
        )  # fmt: skip
    empty = [math.nan] * 3
    for name, values in found.encoder_values.items():
        for encoder, value in zip(found.encoders, values, strict=True):
            rows.append([name, ENCODER_MEASURES[name].unit, encoder, "", "images", value, *empty, "", "", ""])
    for i, row in enumerate(found.cka or ()):
        for j in range(i):
            pair = f"{found.encoders[j]}+{found.encoders[i]}"
            rows.append(["cka", "share", pair, "", "images", row[j], *empty, "", "", ""])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["measure", "unit", "of", "place", "kind", "value", "low", "high", "se", "documents", "images", "note"]
        )
        writer.writerows([[_cell(value) for value in row] for row in rows])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def _print(found: Explained) -> None:
    """Means over the categories that were asked (over each benchmark where none is of a category)."""
    from redundancy_eval.reports import markdown
    from redundancy_eval.uncertainty import measures

    shown = [name for name in ("kl", "js", "surprise", "attention_kl", "attention_mass") if name in found.values]
    chosen = taxonomy.load()
    if shown:
        last = [measures.places(found, name, chosen)[-1] for name in shown]
        print(f"{last[0].name}, {last[0].documents} documents; in brackets 95 % intervals over images\n")
        columns = [measures.numbers(place, 0.95) for place in last]
        lines = [["drop", *(f"{MEASURES[name].title} ({MEASURES[name].unit})" for name in shown)]]
        for row, mask in enumerate(found.masks):
            lines.append([masks.label(mask, found.encoders), *(_shown(column[row]) for column in columns)])
        print(markdown.grid(lines, 1))
    if found.cka is not None:
        titles = [ENCODER_MEASURES[name].title for name in found.encoder_values]
        lines = [["encoder", *titles, *(f"CKA with {name}" for name in found.encoders)]]
        for i, name in enumerate(found.encoders):
            own = [values[i] for values in found.encoder_values.values()]
            lines.append([name, *(_short(value) for value in (*own, *found.cka[i]))])
        print(("\n" if shown else "") + markdown.grid(lines, 1))


def _shown(number: Any) -> str:
    ends = "" if math.isnan(number.low) else f" [{number.low:.3g}, {number.high:.3g}]"
    return _short(number.value) + ends


def _short(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3g}"
