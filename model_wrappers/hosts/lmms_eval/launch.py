"""lmms-eval with our tasks, one output folder for each mask, and an exit code that tells.

lmms-eval runs in this process, so that a launcher around the command (torchrun, accelerate) works as it does around
lmms-eval itself.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redundancy_eval import environment, files, model_args, tasks
from redundancy_eval.errors import SetupError, UsageError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import checked_arguments
from redundancy_eval.readers.lmms_eval import Reader
from redundancy_eval.sample import Sample, refuse
from redundancy_eval.usage import refusals

if TYPE_CHECKING:  # lmms-eval is imported when it is started
    from redundancy_eval.model_wrappers.hosts.lmms_eval.sampled import Sampler

PACKAGES = {"lmms-eval": "lmms_eval", "datasets": "datasets"}  # whose versions stand in a run's record


def task_folder() -> Path:
    """The folder that lmms-eval's --include_path takes."""
    return Path(tasks.__file__).parent


def run(arguments: Sequence[str], command: Sequence[str], sample: Sample | None = None) -> None:
    """Evaluate one mask.

    Args:
        arguments: lmms-eval's own.
        command: what was typed after `redundancy-eval`.
        sample: of the documents; None for all.

    Raises:
        SetupError: the arguments are wrong, or lmms-eval wrote no results.
    """
    args = parse(arguments, sample)
    check_arguments(args.model, args.model_args)
    record = describe(args, args.model_args, command)
    out = Path(args.output_path) / f"drop-{record['mask']}" if "mask" in record else Path(args.output_path)
    evaluate(args, out, record, arguments, sampler(sample))


def sampler(sample: Sample | None) -> "Sampler | None":
    """What draws a sample in lmms-eval."""
    from redundancy_eval.model_wrappers.hosts.lmms_eval.sampled import Sampler

    return None if sample is None else Sampler(sample)


def describe(args: argparse.Namespace, given: str | None, command: Sequence[str]) -> dict[str, Any]:
    """What a mask's folder says about its run.

    Args:
        args: as `parse` gives them.
        given: model arguments with the mask.
        command: what was typed after `redundancy-eval`.

    Raises:
        SetupError: the checkpoint can't be found, or an argument is wrong.
    """
    record = run_record.describe(args.model, given, PACKAGES, command)
    if "mask" in record:
        told = model_args.parse(given, "--model_args")
        record["resolved"] = run_record.resolved(args.model, told, args.device, args.batch_size)
    return record


def check_arguments(model: str, given: str | None) -> None:
    """Refuse a masked model's arguments that it does not have.

    Raises:
        SetupError: with the argument.
    """
    checked_arguments.check(model, model_args.parse(given, "--model_args"), ("batch_size", "max_batch_size"))


def parse(arguments: Sequence[str], sample: Sample | None = None) -> argparse.Namespace:
    """lmms-eval's own arguments, read by itself; none that chooses documents beside a sample.

    Raises:
        SetupError: lmms-eval is not installed, or an argument makes no sense for one mask.
    """
    host = _host()
    with process.argv("lmms-eval", arguments), refusals():
        _, args = host.parse_eval_args()
    if args.config:
        raise SetupError("run evaluates one mask; with --config use lmms-eval itself")
    if not args.tasks:
        raise UsageError("the following arguments are required: --tasks")
    if not args.output_path:
        raise SetupError("run needs -o (--output_path): results that are not written cannot be reported")
    if args.use_cache:
        raise SetupError(
            "--use_cache answers by model arguments, also for weights that are no longer there; a sweep keeps answers "
            "itself"
        )
    for name, none in (("limit", None), ("offset", 0), ("cache_requests", None)):
        refuse(sample, f"--{name}", getattr(args, name) != none)
    if "," in str(args.output_path):
        raise SetupError(f"lmms-eval cannot write to a path with a comma: {args.output_path}")
    if args.model in registry.MODELS:
        check_generation(args.gen_kwargs)
    if args.apply_chat_template and args.model in (*registry.FAMILIES, registry.HF_MASKED):
        raise SetupError(f"{args.model} puts prompts into its own template: leave --apply_chat_template out")
    return args


def check_generation(given: Any) -> None:
    """Refuse generation arguments that our models would pass over, and lmms-eval write down as used.

    Raises:
        SetupError: one is not known.
    """
    from redundancy_eval.model_wrappers.hosts.lmms_eval.model import HONOURED

    for name in model_args.parse(given, "--gen_kwargs"):
        if name not in HONOURED:
            raise SetupError(f"--gen_kwargs {name}: the models here take {', '.join(HONOURED)}")


def evaluate(
    args: argparse.Namespace,
    out: Path,
    record: Mapping[str, Any],
    arguments: Sequence[str],
    sampler: "Sampler | None" = None,
) -> None:
    """Let lmms-eval evaluate a model and write its results to a folder.

    Args:
        args: as `parse` gives them; `output_path` is not looked at.
        out: the folder.
        record: what is written beside the results when they are there, if it has a mask.
        arguments: what lmms-eval takes for its command line.
        sampler: draws a sample of each task's documents; None for all.

    Raises:
        SetupError: lmms-eval wrote no results, or the folder holds results of a run that was made otherwise.
    """
    host = _host()
    from redundancy_eval.model_wrappers.hosts.lmms_eval import task_index

    include = [str(task_folder()), *([args.include_path] if args.include_path else [])]
    before = _written(out)
    run_record.FOUND.clear()
    if sampler is not None:
        record = {**record, "sample": sampler.sample.as_json({})}
    if "mask" in record and process.rank() == 0:
        run_record.check_record(record, out)
    failures: list[BaseException] = []
    sampling = nullcontext() if sampler is None else sampler.sampling()
    with sampling, _watched(host, failures), task_index.read_once(), process.argv("lmms-eval", arguments):
        try:
            host.cli_evaluate(argparse.Namespace(**{**vars(args), "output_path": str(out), "include_path": include}))
        except SystemExit:
            if not failures:
                raise
    if failures:
        lines = str(failures[0]).strip().splitlines() or [""]
        mend = f" ({environment.why('lmms-eval')})" if isinstance(failures[0], ImportError) else ""
        raise SetupError(f"lmms-eval failed: {type(failures[0]).__name__}: {lines[0]}{mend}")
    if process.rank():
        return
    written = [path for path in _written(out) if path not in before]
    if not any(path.name.endswith("_results.json") for path in written):
        raise SetupError(f"lmms-eval ended without writing results to {out}")
    if "mask" in record:
        run_record.keep_record({**record, **run_record.FOUND}, out, () if "sweep" in record else written)


def _host() -> Any:
    with environment.needed("run", "lmms-eval"):
        from lmms_eval import __main__ as host
    return host


@contextmanager
def _watched(host: Any, failures: list[BaseException]) -> Iterator[None]:
    """Keep the exceptions that lmms-eval prints and then forgets."""
    original = host.cli_evaluate_single

    def watched(args: Any) -> Any:
        try:
            return original(args)
        except ImportError as error:  # a line says all; lmms-eval would print where it happened
            failures.append(error)
            raise SystemExit from error
        except Exception as error:
            failures.append(error)
            raise

    host.cli_evaluate_single = watched
    try:
        yield
    finally:
        host.cli_evaluate_single = original


def _written(folder: Path) -> list[Path]:
    """Results and samples in a folder: names begin with the time, so that no run writes another's."""
    results = Reader().find(files.below(folder)) if folder.is_dir() else []
    return [*results, *(sample for path in results for sample in path.parent.glob(f"{path.name[:15]}_samples_*"))]
