"""`redundancy-eval cost`: what every mask of a model costs, counted, and measured where that is asked for."""

import argparse
import csv
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redundancy_eval import costs_file, environment, masks, usage
from redundancy_eval.errors import SetupError

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.costs.counted import Counter, Load
    from redundancy_eval.model_wrappers.costs.measured import Measurements

_EXAMPLE = """\
redundancy-eval cost --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B -o cost
redundancy-eval cost --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B --measure -o cost"""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def add(commands: Any) -> None:
    """Add the command to the command line."""
    usage.command(
        commands, "cost", run, _flags, extra="models", example=_EXAMPLE,
        help="what every mask costs: parameters, FLOPs, and measured time and memory",
        description="Count parameters, bytes and FLOPs of every mask of a model for one image and prompt, from its "
        "config alone, and measure times and memory where asked. Writes cost.csv and cost.json.",
    )  # fmt: skip


def _flags(parser: usage.Parser) -> None:
    usage.add(parser, "--model", required=True, metavar="MODEL", help="eagle_masked, ...")
    usage.add(parser, "--model_args", default="", metavar="ARGS", help="pretrained=...,...; without drop= and keep=")
    usage.add(
        parser, "--masks", default="every", metavar="MASKS", help="as for `sweep`: every (default), leave-one-out, ..."
    )
    usage.add(parser, "--image", default="800x600", metavar="WxH", help="size of the image (default 800x600)")
    usage.add(parser, "--text_tokens", type=int, default=60, metavar="N", help="tokens of the text (default 60)")
    usage.add(parser, "--new_tokens", type=int, default=8, metavar="N", help="tokens of the answer (default 8)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--measure", action="store_true", help="measure, too, with the checkpoint's weights")
    how.add_argument("--random", action="store_true", help="measure with random weights of the config's sizes")
    usage.add(parser, "--repeats", type=int, default=20, metavar="N", help="of each measurement (default 20)")
    usage.add_out(parser, "folder for cost.csv and cost.json", required=True, metavar="FOLDER")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Count, measure, write; returns 0."""
    from redundancy_eval import model_args

    given = model_args.parse(args.model_args, "--model_args")
    if {"drop", "keep"} & set(given):
        raise SetupError("--masks says which masks: leave drop= and keep= out of --model_args")
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", args.image)
    numbers = (args.text_tokens, args.new_tokens, args.repeats, *map(int, found.groups() if found else (0,)))
    if min(numbers) < 1:
        raise SetupError("--image is WIDTHxHEIGHT in pixels; it, --text_tokens, --new_tokens and --repeats are above 0")
    costs_file.check_out(Path(args.out))
    with environment.needed("cost", "models"):
        from redundancy_eval.model_wrappers.checkpoints import hub
        from redundancy_eval.model_wrappers.costs import counted
        from redundancy_eval.model_wrappers.families import registry
        from redundancy_eval.model_wrappers.masking import checked_arguments
        from redundancy_eval.model_wrappers.sweeps import masks as presets
    if args.model in registry.HOOKED:
        raise SetupError(
            f"{args.model}: what its encoders cost is not known; cost takes {', '.join(registry.FAMILIES)}"
        )
    family = registry.family(args.model)
    checked_arguments.check(args.model, given)
    own = registry.pruned_of(args.model, given)
    if own is not None:
        raise SetupError(f"{given['pretrained']} was pruned of {own.label}; costs are of the whole model: {own.source}")
    dtype = model_args.DTYPES.get(given.get("dtype", "auto"), given.get("dtype", "auto"))
    dtype = "bfloat16" if dtype == "auto" else dtype
    if dtype not in _BYTES:
        raise SetupError(f"dtype must be one of auto, {', '.join(_BYTES)}; not {dtype!r}")
    pretrained = given.get("pretrained") or family.default
    folder = hub.locate(pretrained, given.get("revision"), weights=False)
    load = counted.Load((int(found[1]), int(found[2])) if found else (0, 0), args.text_tokens, args.new_tokens)
    counter = counted.Counter(args.model, folder, given)
    labels = presets.read(args.masks, counter.encoders)
    wanted = [masks.dropped(counter.encoders, label) for label in labels]
    rows, visual_tokens = counter.masks(wanted, load, _BYTES[dtype])
    reasons = _reasons(rows, args.model)
    timed = _measured(args, given, dtype, counter, wanted, load) if args.measure or args.random else None
    if timed is not None:
        rows = [costs_file.MaskCost(row.mask, row.counted, timed.of_mask[row.mask]) for row in rows]
    made = costs_file.CostsFile(
        args.model, pretrained, counter.encoders, costs_file.costly(given),
        counted.sentences(load, visual_tokens, dtype, counter.model.router()), tuple(rows), reasons,
        {} if timed is None else {**timed.made_with, "weights": "random" if args.random else "the checkpoint's"},
        () if timed is None else timed.notes,
    )  # fmt: skip
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    costs_file.write(made, out / costs_file.NAME)
    _write_csv(made, out / costs_file.TABLE)
    _print(made)
    return 0


def _reasons(rows: Sequence[costs_file.MaskCost], model: str) -> dict[str, str]:
    unknown = {name for row in rows for name, value in row.counted.items() if math.isnan(value)}
    why = (
        f"{model} keeps encoders in repositories of their own, and this checkpoint's are not the released ones: "
        "encoder_weights= says where they are"
    )
    return dict.fromkeys(sorted(unknown), why)


def _measured(
    args: argparse.Namespace,
    given: dict[str, str],
    dtype: str,
    counter: "Counter",
    wanted: Sequence[tuple[str, ...]],
    load: "Load",
) -> "Measurements":
    from redundancy_eval.model_wrappers.costs import measured

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    told = {**given, "dtype": dtype}
    model = measured.random_weights(counter, told) if args.random else measured.loaded(args.model, told)
    return measured.measure(model, wanted, load, args.repeats, counter.own, say)


def _write_csv(costs: costs_file.CostsFile, path: Path) -> None:
    measured = [name for name in costs_file.MEASURED if any(name in row.measured for row in costs.masks)]
    names = [f"{name}{end}" for name in measured for end in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "checkpoint", "mask", *costs_file.COUNTED, *names])
        for row in costs.masks:
            counted = ["" if math.isnan(value) else f"{value:.0f}" for value in row.counted.values()]
            times = [
                f"{value:.6g}"
                for name in measured
                for value in (row.measured[name].median, row.measured[name].low, row.measured[name].high)
            ]
            writer.writerow([costs.model, costs.checkpoint, masks.label(row.mask, costs.encoders), *counted, *times])


def _print(costs: costs_file.CostsFile) -> None:
    from redundancy_eval.reports import markdown

    full = next((row for row in costs.masks if not row.mask), None)
    measured = [name for name in costs_file.MEASURED if any(name in row.measured for row in costs.masks)]
    head = [
        "drop",
        "parameters (M)",
        "share",
        "TFLOPs",
        "share",
        "of encoders",
        *map(costs_file.MEASURED.get, measured),
    ]
    lines = [[str(title) for title in head]]
    for row in costs.masks:
        line = [masks.label(row.mask, costs.encoders)]
        for name, unit, form in (("parameters", 1e6, ",.1f"), ("flops", 1e12, ".4g")):
            value = row.counted[name]
            share = value / full.counted[name] if full else math.nan
            line += ["unknown" if math.isnan(value) else format(value / unit, form)]
            line += ["" if math.isnan(share) else f"{share:.1%}"]
        spent = row.counted["flops_encoders"]
        line += ["unknown" if math.isnan(spent) else format(spent / 1e12, ".4g")]
        lines.append([*line, *(f"{row.measured[name].median:.4g}" for name in measured)])
    print(markdown.grid(lines))
    print("\n" + costs.note())
