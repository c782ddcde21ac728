"""VLMEvalKit's own launcher with our models in it, and an exit code that tells.

VLMEvalKit is imported here and nowhere else, in this process only: it switches off TLS verification for the whole
process (switched on again below), sets seeds and gradients, and takes a gigabyte.
"""

import difflib
import importlib
import importlib.util
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redundancy_eval import environment, files, model_args, records
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit import folder as vlmevalkit_folder
from redundancy_eval.model_wrappers.hosts.vlmevalkit import record as vlmevalkit_record
from redundancy_eval.model_wrappers.hosts.vlmevalkit.arguments import Arguments
from redundancy_eval.model_wrappers.hosts.vlmevalkit.mended import gloo_without_gpu, mended
from redundancy_eval.usage import refusals

if TYPE_CHECKING:  # VLMEvalKit is imported when it is started
    from redundancy_eval.model_wrappers.hosts.vlmevalkit.sampled import Sampler

# Of the reasons for which VLMEvalKit skips a data set, those that mean that something is wrong.
_FAILED_SKIPS = ("invalid_dataset", "Incomplete infer result", "No infer result found")
_IMPORT = re.compile(r"No module named|cannot import name")


def run(asked: Arguments, rest: Sequence[str], command: Sequence[str]) -> None:
    """Evaluate one mask.

    Args:
        asked: our arguments.
        rest: VLMEvalKit's own.
        command: what was typed after `redundancy-eval vlmevalkit`.

    Raises:
        SetupError: the arguments are wrong, or VLMEvalKit has no result for a data set.
    """
    record = vlmevalkit_record.describe(asked, command)
    framework = load_framework()
    record = vlmevalkit_record.resolved(record, asked.batch_size)
    check_rest(framework, asked, rest)
    check_data(asked.data)
    made: list[Any] = []

    def build() -> Any:
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import hooked as vlmevalkit_hooked
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import model as vlmevalkit_model

        given = vlmevalkit_record.own_arguments(record)
        if asked.model == registry.MASKED:
            made.append(vlmevalkit_hooked.HookedVlm(given))
        else:
            made.append(vlmevalkit_model.MaskedVlm(asked.model, given, asked.batch_size, asked.published))
        return made[-1]

    evaluate(framework, asked, rest, record, build, sampler(asked))
    for model in made:
        for remark in model.remarks():
            print(f"drop={record['mask']}: {remark}", file=sys.stderr)


def sampler(asked: Arguments) -> "Sampler | None":
    """What draws the sample that is asked for."""
    from redundancy_eval.model_wrappers.hosts.vlmevalkit.sampled import Sampler

    return None if asked.sample is None else Sampler(asked.sample)


def evaluate(
    framework: Any,
    asked: Arguments,
    rest: Sequence[str],
    record: Mapping[str, Any],
    build: Callable[[], Any],
    sampler: "Sampler | None" = None,
) -> None:
    """Let VLMEvalKit evaluate a model and write its results to the mask's folder.

    Args:
        framework: its `run` module.
        asked: our arguments.
        rest: VLMEvalKit's own.
        record: what is written beside the results.
        build: makes the model; called when there is something to answer.
        sampler: draws a sample of each data set's rows; None for all.

    Raises:
        SetupError: a data set has no result.
    """
    folder = Path(asked.out) / vlmevalkit_record.folder_name(record)
    run_record.FOUND.clear()
    answered = records.read([folder]).get("data", {})
    data = vlmevalkit_folder.data_digests(asked.data)
    vlmevalkit_folder.check_data(folder, answered, data)
    fresh = vlmevalkit_folder.without_pictures(asked.data) if process.rank() == 0 else []
    theirs = _theirs(folder.name, asked, rest)
    if framework.__name__ != "vlmeval.run":  # upstream starts anew unless told; the folder is this run's alone
        theirs.append("--reuse")
    with (
        registered(folder.name, build),
        nullcontext() if sampler is None else sampler.sampling(framework),
        process.alone(folder / ".redundancy_eval.lock", "process"),
        gloo_without_gpu(),
    ):
        if process.rank() == 0:
            (folder / "status.json.lock").unlink(missing_ok=True)  # a killed run's: VLMEvalKit would wait for it
            vlmevalkit_folder.clear_cut_off(folder, asked.data, _known_data())
            run_record.keep_record({**record, "data": {**answered, **data}}, folder, ())
        _start(framework, theirs, asked.judge_key)
    if process.rank() == 0:
        data = vlmevalkit_folder.data_digests(asked.data)  # with what was fetched
        written = () if "sweep" in record else _results(folder)  # a sweep's manifest lists them
        run_record.keep_record({**record, **run_record.FOUND, "data": {**answered, **data}}, folder, written)
        vlmevalkit_folder.note_pictures(asked.data, data, fresh)
        check_results(folder, asked.data)


def _results(folder: Path) -> list[Path]:
    """The files of a folder that `report` reads, but for what VLMEvalKit writes anew on every start."""
    kinds = (".xlsx", ".tsv", ".csv", ".json")
    own = ("status.json", records.NAME, records.MANIFEST)
    return [path for path in sorted(folder.iterdir()) if path.suffix in kinds and path.name not in own]


def _known_data() -> set[str]:
    from vlmeval.dataset import DATASET_CLASSES

    return {name for cls in DATASET_CLASSES for name in cls.supported_datasets()}


@contextmanager
def registered(name: str, build: Callable[[], Any]) -> Iterator[None]:
    """Within, VLMEvalKit knows a model of ours by a name."""
    from vlmeval.config import supported_VLM

    supported_VLM[name] = lambda **_: build()
    try:
        yield
    finally:
        del supported_VLM[name]


def load_framework() -> Any:
    """VLMEvalKit's `run` module: inside the package (ms-vlmeval), or beside it in an upstream checkout.

    Raises:
        SetupError: it is not installed.
    """
    verified = ssl._create_default_https_context
    try:
        with environment.needed("vlmevalkit", "vlmevalkit"):
            return _launcher()
    finally:
        ssl._create_default_https_context = verified


def _launcher() -> Any:
    import vlmeval

    if importlib.util.find_spec("vlmeval.run"):
        return importlib.import_module("vlmeval.run")
    path = Path(vlmeval.__file__).parents[1] / "run.py"
    spec = importlib.util.spec_from_file_location("vlmeval_run", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ImportError(f"no run.py in or beside {Path(vlmeval.__file__).parent}; install from a checkout with -e")
    module = importlib.util.module_from_spec(spec)
    sys.modules["vlmeval_run"] = module
    spec.loader.exec_module(module)
    return module


def check_rest(framework: Any, asked: Arguments, rest: Sequence[str]) -> None:
    """Let VLMEvalKit's parser read the arguments that are its own, before anything else is done.

    Raises:
        UsageError: it refuses one.
    """
    _parse(framework, _theirs(asked.model, asked, rest))


def _theirs(name: str, asked: Arguments, rest: Sequence[str]) -> list[str]:
    return ["--model", name, "--data", *asked.data, "--work-dir", asked.out, *asked.passed, *rest]


def _parse(framework: Any, arguments: Sequence[str]) -> Any:
    with process.argv("run.py", arguments), refusals():
        return framework.parse_args()


def check_data(names: Sequence[str]) -> None:
    """Refuse data sets that VLMEvalKit would skip with exit code 0.

    Raises:
        SetupError: with names that are near.
    """
    from vlmeval.dataset import supported_video_datasets

    folder = os.environ.get("LMUData")  # noqa: SIM112
    if folder and not Path(folder).is_dir():
        raise SetupError(f"LMUData={folder} is no folder (VLMEvalKit would take ~/LMUData instead)")
    known = _known_data()
    for name in names:
        if name in supported_video_datasets:
            raise SetupError(f"{name} is a video data set; the masked models take images")
        if name in known or (vlmevalkit_folder.data_root() / f"{name}.tsv").is_file():
            continue
        near = difflib.get_close_matches(name, sorted(known), 3, 0.5)
        raise SetupError(
            f"VLMEvalKit has no data set {name!r}, and there is no $LMUData/{name}.tsv"
            + (f"; did you mean {', '.join(near)}?" if near else "")
        )


def check_results(folder: Path, names: Sequence[str]) -> None:
    """Fail where VLMEvalKit notes a failure in `status.json` and exits 0.

    Raises:
        SetupError: a data set has no result; with VLMEvalKit's reason.
    """
    path = folder / "status.json"
    found = files.read_json(path).get("datasets", {}) if path.is_file() else {}
    failures = []
    for name in names:
        told = found.get(name, {})
        error, skipped = told.get("error_message"), told.get("skip_reason")
        if error is not None or (skipped and skipped.startswith(_FAILED_SKIPS)):
            reason = str(error or skipped or "an exception without a message; see its log")
            mend = environment.why("vlmevalkit") if _IMPORT.search(reason) else ""
            failures.append(f"{name}: {(reason.strip().splitlines() or ['?'])[0]}{f' ({mend})' * bool(mend)}")
        elif told.get("status") != "done":
            failures.append(f"{name}: ended at stage {told.get('status', 'none')!r}")
        elif skipped and skipped != "mode_infer":
            print(f"{name} has no score: VLMEvalKit says {skipped}", file=sys.stderr)
    if failures:
        raise SetupError(f"VLMEvalKit failed on {'; '.join(failures)} (delete {folder} to ask anew)")


def _start(framework: Any, arguments: Sequence[str], judge_key: str | None) -> None:
    # VLMEvalKit writes sys.argv to status.json: keys stand there while it is parsed only.
    key = ["--judge-key", judge_key] if judge_key else []
    parsed = _parse(framework, [*arguments, *key])
    original, framework.parse_args = framework.parse_args, lambda: parsed
    try:
        shown = list(map(model_args.redacted, arguments))
        with process.argv("run.py", shown), mended(parsed.judge, judge_key):
            framework.main()
    finally:
        framework.parse_args = original
