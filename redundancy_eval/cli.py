"""The command `redundancy-eval`: parsing, printing, errors in one line.

Torch and the frameworks are imported by the commands that use them, when they run.
"""

import argparse
import io
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from redundancy_eval import __version__, environment, model_args, place, shown
from redundancy_eval.commands import doctor
from redundancy_eval.errors import DataError, SetupError, UsageError
from redundancy_eval.usage import Parser

_EPILOG = """\
examples:
  redundancy-eval demo
  redundancy-eval run --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B,drop=clip \\
      --tasks gqa,chartqa --batch_size 8 --log_samples --output_path runs/x5
  redundancy-eval report runs/x5 -o tables
"""
_LAUNCHERS = ("run", "vlmevalkit", "sweep", "plan")  # what stands behind these is the framework's, too
_EXTRAS = {"calibrate": "models", "parity": "models", "demo": "lmms-eval", "tasks": "lmms-eval"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prog = "redundancy-eval"
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character gets its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments[:1] != ["doctor"]:  # which shows it among the rest
            place.check_all()
        parser, names = _parser()
        if arguments and arguments[0] in names:
            prog = f"redundancy-eval {arguments[0]}"
        return _start(parser, arguments)
    except UsageError as error:
        return _tell(f"{error} (see {prog} --help)", error.exit_code, prog)
    except (SetupError, DataError) as error:
        return _tell(error, error.exit_code)
    except ImportError as error:  # of what a command imports on its way
        return _tell(environment.explain(prog, _extra(arguments), error), SetupError.exit_code)
    except KeyboardInterrupt:
        print("redundancy-eval: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) went away
        sys.stderr.close()
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        return _tell(error, SetupError.exit_code)


def _tell(error: object, code: int, prog: str = "redundancy-eval") -> int:
    print(f"{prog}: error: {shown.line(error)}", file=sys.stderr)
    return code


def _start(parser: Parser, arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in _LAUNCHERS:
        return {"run": _run, "vlmevalkit": _vlmevalkit, "sweep": _sweep, "plan": _plan}[arguments[0]](arguments[1:])
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)}")
    return int(args.function(args))


def _extra(arguments: Sequence[str]) -> str:
    """The extra whose packages a command imports."""
    if arguments and arguments[0] in _LAUNCHERS:
        kit = any(part.removeprefix("--framework=") == "vlmevalkit" for part in arguments)
        return "vlmevalkit" if kit else "lmms-eval"
    return _EXTRAS.get(arguments[0], "") if arguments else ""


def _parser() -> tuple[Parser, Collection[str]]:
    """The parser, and the names of the commands."""
    with environment.needed("redundancy-eval", ""):
        from redundancy_eval import report_flags, taxonomy
        from redundancy_eval.leniency import KINDS

    parser = Parser(
        prog="redundancy-eval",
        description="Which vision encoders does a multimodal model need, for what, and how sure are we?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"redundancy-eval {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    commands.add_parser("sweep", help="evaluate every mask at once (takes the framework's own arguments)")
    commands.add_parser("plan", help="what a sweep will ask and take, before it (takes the sweep's arguments)")
    commands.add_parser("run", help="evaluate one mask in lmms-eval (takes lmms-eval's own arguments)")
    commands.add_parser("vlmevalkit", help="evaluate one mask in VLMEvalKit (takes VLMEvalKit's own arguments)")

    report = commands.add_parser(
        "report",
        help="turn finished runs into score, CUR and IG tables",
        description="Read finished runs of lmms-eval or VLMEvalKit, or a CSV of scores, and print and write scores per "
        "mask, best variants, CUR per encoder, and IG. The mask of each run is read from its model arguments (drop=, "
        "keep=), or told with --mask-of.",
        epilog="kinds of bad data for --lenient, and what then happens:\n"
        + "\n".join(f"  {kind:18}{meaning}" for kind, meaning in KINDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument(
        "runs", nargs="+", metavar="RUNS",
        help="output folders of lmms-eval, work folders of VLMEvalKit, *_results.json files, or CSV files with the "
        "columns model,mask,benchmark,score and, if known, n",
    )  # fmt: skip
    report.add_argument("-o", "--out", metavar="OUT", help="folder for report.md, report.json, *.csv and *.tex")
    _reading_options(report, taxonomy.DEFAULT)
    report_flags.add(report)
    report.set_defaults(function=_report)

    verify = commands.add_parser(
        "verify",
        help="recompute every number of a written report from the runs",
        description="Make the report in OUT anew from the runs, with the options that it was made with, and fail on "
        "any difference, with file and line.",
    )
    verify.add_argument("out", metavar="OUT", help="a folder that `report -o` wrote")
    verify.add_argument("runs", nargs="+", metavar="RUNS", help="the runs behind it")
    report_flags.add_rerun(verify)
    verify.set_defaults(function=_verify)

    models = commands.add_parser("models", help="list the model families, their encoders and published checkpoints")
    models.set_defaults(function=_models)

    tasks = commands.add_parser("tasks", help="list categories and benchmarks, or the folder of our task files")
    tasks.add_argument("--path", action="store_true", help="print the folder for lmms-eval's --include_path")
    tasks.add_argument(
        "--check", action="store_true",
        help="load the first four documents of each benchmark from the hub and try what our tasks do with them",
    )  # fmt: skip
    tasks.add_argument("--taxonomy", default=taxonomy.DEFAULT, metavar="NAME", help="five (default), paper, or a file")
    tasks.set_defaults(function=_tasks)

    calibrate = commands.add_parser(
        "calibrate",
        help="statistics of the encoders over a sample of images, for ablation=mean, noise and shuffle",
        description="Run every encoder of a model over a sample of images and write what ablation=mean, noise and "
        "shuffle need to a file: ... --model_args pretrained=...,drop=clip,ablation=mean,calibration=FILE.",
    )
    calibrate.add_argument("--model", required=True, metavar="MODEL", help="eagle_masked, hf_masked, ...")
    calibrate.add_argument("--model_args", required=True, metavar="ARGS", help="pretrained=...,site=...,...; no mask")
    sample = calibrate.add_mutually_exclusive_group(required=True)
    sample.add_argument("--images", metavar="FOLDER", help="take the images of a folder, by name")
    sample.add_argument("--task", metavar="TASK", help="take the images of an lmms-eval task, evenly spread")
    calibrate.add_argument("--count", type=int, default=64, metavar="N", help="how many images (default 64)")
    calibrate.add_argument("--batch_size", type=int, default=4, metavar="N", help="images at once (default 4)")
    calibrate.add_argument("-o", "--out", required=True, metavar="FILE", help="the file, *.safetensors")
    calibrate.set_defaults(function=_calibrate)

    parity = commands.add_parser(
        "parity",
        help="check a port against tensors recorded from the original code",
        description="Run every recorded input and condition of a folder through our port, starting from the image "
        "and the messages, and compare pixels, token ids, features, logits and greedy tokens.",
    )
    parity.add_argument("folder", metavar="FOLDER", help="folder with checkpoint/, inputs/ and expected/")
    parity.add_argument("--tolerance", type=float, default=1e-4, help="largest max|a-b|/max|b| (default 1e-4)")
    parity.set_defaults(function=_parity)

    demo = commands.add_parser(
        "demo",
        help="evaluate every mask of the bundled model in lmms-eval and print its CUR and IG",
        description="Evaluate every mask of the bundled demo checkpoint on the bundled demo benchmark inside "
        "lmms-eval, offline on a CPU, and print and write the tables.",
    )
    demo.add_argument(
        "-o", "--out", default="demo_results", metavar="OUT", help="results folder (default demo_results)"
    )
    demo.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each task")
    demo.add_argument(
        "--batch_size", default="auto", metavar="N", help="answers that are given together (default auto)"
    )
    demo.set_defaults(function=_demo)

    doctor.add(commands)
    return parser, commands.choices


def _reading_options(parser: argparse.ArgumentParser, taxonomy: str) -> None:
    parser.add_argument(
        "--taxonomy", default=taxonomy, metavar="NAME",
        help="categories: five (OCR and Chart apart; default), paper (OCR & Chart as one), or a JSON file of your own",
    )  # fmt: skip
    parser.add_argument(
        "--encoders",
        metavar="A,B,...",
        default="",
        help="the model's encoders in the checkpoint's order, where they are not known",
    )
    parser.add_argument(
        "--mask-of", action="append", default=[], metavar="[MODEL:]PATTERN=DROP",
        help="the mask of runs whose model name, checkpoint or folder fits a pattern with * and ?, e.g. "
        "'*-noclip=clip' or 'x5:runs-x5-full=none'; runs with the same MODEL are masks of one model (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--scale", choices=("1", "100"), help="of the scores in CSV files: 1 where they are points, 100 for fractions"
    )
    parser.add_argument("--mmvp-pairs", action="store_true", help="score MMVP by pairs instead of by question")
    parser.add_argument(
        "--lenient",
        metavar="KIND,...",
        default="",
        help="make these kinds of bad data warnings under the table (below)",
    )


def _run(arguments: Sequence[str]) -> int:
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch

    return lmms_eval_launch.run(arguments)


def _sweep(arguments: Sequence[str]) -> int:
    from redundancy_eval.model_wrappers.sweeps import run as sweep_run

    return sweep_run.run(arguments)


def _plan(arguments: Sequence[str]) -> int:
    with environment.needed("plan", _extra(["plan", *arguments])):
        from redundancy_eval.model_wrappers.sweeps import plan
    return plan.run(arguments)


def _vlmevalkit(arguments: Sequence[str]) -> int:
    from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch as vlmevalkit_launch

    return vlmevalkit_launch.run(arguments)


def _report(args: argparse.Namespace) -> int:
    from redundancy_eval import api, report_flags
    from redundancy_eval.reports import markdown, report, write

    options = api.Options(
        args.taxonomy,
        args.mmvp_pairs,
        _names(args.encoders.lower()),
        tuple(args.mask_of),
        _names(args.lenient),
        None if args.scale is None else float(args.scale),
        **report_flags.given(args),
    )
    _check_named(args.out)
    made = report.build(api.read(args.runs, options, rerun=args.rerun), options)
    files = [] if args.out is None else write.write(made, Path(args.out), args.runs)
    print(markdown.text(made), end="", flush=True)  # last: whoever reads this may go away
    if files:
        print(f"\n{len(files)} files written to {shown.text(args.out)}", file=sys.stderr)
    return 0


def _check_named(out: str | None) -> None:
    if out is not None and not out.strip():
        raise SetupError("-o is empty: name a folder or file")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _verify(args: argparse.Namespace) -> int:
    from redundancy_eval import api, report_flags
    from redundancy_eval.reports import json_file, report, verify

    out = Path(args.out)
    options = json_file.options_of(out)
    report_flags.check_rerun(options, args.rerun)
    made = report.build(api.read(args.runs, options, rerun=args.rerun), options)
    numbers, files = verify.verify(made, out)
    print(f"{numbers} numbers in {files} files of {shown.text(out)} follow from the runs")
    told = verify.told(made)
    if told:  # the report that is checked says so itself
        print("\n".join(["read as the report says:", *(f"  {line}" for line in told)]))
    return 0


def _models(args: argparse.Namespace) -> int:
    from redundancy_eval.model_wrappers.families import registry
    from redundancy_eval.reports import markdown

    for family in registry.FAMILIES.values():
        print(f"## {family.model_id}: {family.title}\n")
        rows = [["checkpoint", "encoders, in order", "template", "licence of the weights", "checked with"]]
        for c in family.checkpoints:
            mark = " (default)" if c.hub_id == family.default else ""
            rows.append([c.hub_id + mark, ", ".join(c.encoders), c.template, c.licence, family.checked_with])
        print(markdown.grid(rows) + "\n")
        costs = "; ".join(f"{name} {million:g} M, {flops:,} GFLOPs" for name, (million, flops) in family.costs.items())
        print(f"encoders: {costs}")
        print(f"sites: {', '.join(family.sites)}; a dropped encoder is skipped {family.skipped}")
        print(f"ablations: {', '.join(registry.ABLATIONS)}")
        for name, meaning in family.settings.items():
            print(f"{name}: {meaning}")
        print()
    print("## hf_masked: any transformers image-text-to-text model; encoders=NAME:MODULE.PATH+...\n")
    print("## masked: any model of lmms-eval; base=MODEL_ID,encoders=NAME:MODULE.PATH+...")
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    _check_named(args.out)
    arguments = model_args.parse(args.model_args, "--model_args")
    with environment.needed("calibrate", "models"):
        from redundancy_eval.model_wrappers.hosts import calibrate
    folder = Path(args.images) if args.images else None
    return calibrate.main(args.model, arguments, Path(args.out), folder, args.task, args.count, args.batch_size)


def _tasks(args: argparse.Namespace) -> int:
    from redundancy_eval import taxonomy
    from redundancy_eval.model_wrappers.hosts.lmms_eval import launch as lmms_eval_launch
    from redundancy_eval.reports import markdown

    if args.path:
        print(lmms_eval_launch.task_folder())
        return 0
    if args.check:
        with environment.needed("tasks --check", "lmms-eval"):
            from redundancy_eval.tasks import check
        return check.main()
    chosen = taxonomy.load(args.taxonomy)
    rows = [["category", "benchmark", "framework", "tasks, first choice first", "metric", "times"]]
    for benchmark in chosen.benchmarks:
        for framework, alternatives in benchmark.sources.items():
            for parts in alternatives:
                tasks = " + ".join(part.task for part in parts)
                rows.append(
                    [benchmark.category, benchmark.name, framework, tasks, parts[0].metric, f"{parts[0].scale:g}"]
                )
    print(markdown.grid(rows))
    return 0


def _parity(args: argparse.Namespace) -> int:
    with environment.needed("parity", "models"):
        from redundancy_eval.model_wrappers.masking import parity
    return parity.main(Path(args.folder), args.tolerance)


def _demo(args: argparse.Namespace) -> int:
    from redundancy_eval.commands import demo

    _check_named(args.out)
    return demo.main(Path(args.out), args.batch_size, args.limit)
