"""`redundancy-eval sweep`: every mask of a model in one command, as separate runs would have written it.

Answers go to `OUT/store`, each mask's results to a folder of its own with a `manifest.json`, written last. Killed and
started again, the same command goes on where it stopped; finished, it returns at once.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, compare, environment, files, forms, masks, model_args, records, store
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import write_json
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.sweeps.route import Route
from redundancy_eval.records import MANIFEST
from redundancy_eval.store import Key, Store
from redundancy_eval.usage import Parser

DONE = "sweep.json"  # of the whole
MARK = ".sweep"  # in a mask's folder before anything else: whatever lies beside it may be removed
OUT = {"lmms-eval": "--output_path", "vlmevalkit": "--work-dir"}
PRESETS = {"every": masks.every, "leave-one-out": masks.leave_one_out, "keep-one": masks.keep_one}

_HELP = """\
usage: redundancy-eval sweep --model MODEL --model_args pretrained=... --masks MASKS [the framework's arguments]

Evaluate a model under many masks at once: the model is loaded once, each encoder runs once for an image, then every
mask is answered in batches. Results are those of separate runs, in a folder for each mask. The same command continues
a sweep that was stopped, and returns at once when nothing is left to do. Exit code 2: results are missing (listed).

  --masks MASKS          every (2^n masks; default), leave-one-out, keep-one (each with the full model and all dropped),
                         a list in quotes: 'none;clip;clip+sam;all', or @FILE with a mask in each line
  --framework NAME       lmms-eval (default) or vlmevalkit
  --model_args ARGS      as for run, without drop= and keep=
  --batch_size N         sequences (a document under a mask) that are answered together; auto (default) finds a size
  --feature_memory GIB   memory for encoders' outputs (default: a tenth of this machine's)
all other arguments are the framework's: --tasks, --limit, --output_path (lmms-eval); --data, --work-dir (vlmevalkit)

example:
  redundancy-eval sweep --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
      --tasks redundancy_paper --log_samples --output_path runs/x5
  redundancy-eval report runs/x5 -o tables/x5

several GPUs or nodes: torchrun --nproc_per_node 8 -m redundancy_eval sweep ...
"""


def run(arguments: Sequence[str], quiet: bool = False) -> int:
    """Sweep; returns 0.

    Args:
        arguments: what was typed behind `sweep`.
        quiet: keep the framework's own output to itself unless it fails.

    Raises:
        SetupError: the arguments are wrong, a folder holds something else, or results are missing in the end.
        DataError: an answer cannot be given.
    """
    if "-h" in arguments or "--help" in arguments:
        print(_HELP, end="")
        return 0
    own, rest = parser().parse_known_args(list(arguments))
    check(own)
    given = model_args.parse(own.model_args, "--model_args")
    if {"drop", "keep"} & set(given):
        raise SetupError("sweep sets the masks itself: leave drop= and keep= out of --model_args, and use --masks")
    encoders = encoders_of(own.model, given)
    labels = read_masks(own.masks, encoders)
    checkpoint = None if own.model == "masked" else identity.of(registry.folders(own.model, given))
    around = surroundings(own.framework, given, rest)
    command = ["redundancy-eval", "sweep", *model_args.without_secrets(arguments)]
    if own.judge_key:
        command = [part.replace(own.judge_key, "[REDACTED]") for part in command]
    if done(Path(own.out), command, checkpoint, around):
        print(f"finished: {len(labels)} masks in {own.out}", file=sys.stderr)
        return 0
    passed = ["--model", own.model, "--model_args", own.model_args]
    passed += ["--judge-key", own.judge_key] if own.judge_key else []
    route = make_route(own.framework, [*passed, *rest, OUT[own.framework], own.out], own.batch_size)
    kept = who(route, encoders, {"checkpoint": checkpoint, **around}, own.batch_size)
    decides = {**kept, **route.decides, "files": around["files"]}
    waiting = [label for label in labels if not finished(route.folder(label), decides)]
    for label in waiting:  # now, not when hours of answers are given
        check_ours(route.folder(label))
    problems, asked = _sweep(route, labels, waiting, own, rest, kept, decides, command, quiet)
    if run_record.rank() == 0:
        with Store.open(route.out / "store", kept) as answers:  # with the other processes'
            for line in summary(answers, labels, asked) if len(answers) else ():  # `masked` has no store
                print(line, file=sys.stderr)
        if problems:
            listed = "; ".join(f"drop={label}: {problem}" for label, problem in problems.items())
            raise SetupError(f"results are missing for {len(problems)} of {len(labels)} masks: {listed}")
        folders = [route.folder(label).name for label in labels]
        around["files"] = deciding_files(own.framework, rest)  # VLMEvalKit fetches its own on the way
        told = {"command": command, "folders": folders, "checkpoint": checkpoint, "around": around}
        write_json(route.out / DONE, {"schema": 1, **told})
    return 0


def parser() -> Parser:
    """The arguments that are the sweep's own."""
    made = Parser(allow_abbrev=False)
    made.add_argument("--model", required=True, choices=run_record.OURS)
    made.add_argument("--model_args", "--model-args", default="")
    made.add_argument("--output_path", "--work-dir", "--work_dir", dest="out", required=True)
    made.add_argument("--masks", default="every")
    made.add_argument("--framework", choices=OUT, default="lmms-eval")
    made.add_argument("--batch_size", "--batch-size", default="auto")
    made.add_argument("--feature_memory", "--feature-memory", type=float)
    made.add_argument("--judge-key")  # VLMEvalKit's, not to be written down
    return made


def check(own: argparse.Namespace) -> None:
    """Refuse arguments that make no sense.

    Raises:
        SetupError: one does not.
    """
    if own.batch_size != "auto" and (not own.batch_size.isdigit() or int(own.batch_size) < 1):
        raise SetupError(f"--batch_size must be auto or a positive number; not {own.batch_size!r}")
    if own.feature_memory is not None and own.feature_memory < 0:
        raise SetupError(f"--feature_memory must not be negative; not {own.feature_memory:g}")


def make_route(framework: str, arguments: Sequence[str], batch_size: str = "auto") -> Route:
    """The framework's side of a sweep.

    Args:
        framework: `lmms-eval` or `vlmevalkit`.
        arguments: what was typed, without what is the sweep's own.
        batch_size: the sweep's, which results and records tell.

    Raises:
        SetupError: the framework is not installed, or its arguments make no sense here.
    """
    if framework == "vlmevalkit":
        with environment.needed("sweep", framework):
            from redundancy_eval.model_wrappers.hosts.vlmevalkit import route as vlmevalkit_route

        return vlmevalkit_route.Route(arguments, batch_size)
    with environment.needed("sweep", framework):
        from redundancy_eval.model_wrappers.hosts.lmms_eval import route as lmms_eval_route

    # Without samples nothing could be checked or paired between masks.
    logged = [] if "--log_samples" in arguments else ["--log_samples"]
    return lmms_eval_route.Route([*arguments, *logged], batch_size)


def surroundings(framework: str, given: Mapping[str, str], rest: Sequence[str]) -> dict[str, Any]:
    """What decides answers beside the checkpoint and stands in no command: the content of files, and versions.

    Args:
        framework: `lmms-eval` or `vlmevalkit`.
        given: the model's arguments.
        rest: the framework's arguments.
    """
    calibration = given.get("calibration")
    if framework == "vlmevalkit":
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import launch as vlmevalkit_launch

        versions = {**run_record.versions({}), **vlmevalkit_launch.version()}
    else:
        versions = run_record.versions({"lmms-eval": "lmms_eval"})
    return {
        "calibration": files.sha256(Path(calibration)) if calibration else None,
        "versions": versions,
        "files": deciding_files(framework, rest),
    }


def deciding_files(framework: str, rest: Sequence[str]) -> dict[str, str]:
    """Hashes of the user's own tasks (lmms-eval), or of data sets (VLMEvalKit), as far as they are here."""
    made = Parser(allow_abbrev=False)
    made.add_argument("--include_path")
    made.add_argument("--data", nargs="+", default=[])
    told = made.parse_known_args(list(rest))[0]
    found: dict[str, Path] = {}
    if framework == "vlmevalkit":
        data = Path(os.environ.get("LMUData") or Path.home() / "LMUData")  # noqa: SIM112
        found = {name: data / f"{name}.tsv" for name in told.data}
    elif told.include_path and Path(told.include_path).is_dir():
        root = Path(told.include_path)
        mine = [path for path in files.below(root) if "__pycache__" not in path.parts and not path.name.startswith(".")]
        found = {path.relative_to(root).as_posix(): path for path in mine}
    return {name: files.sha256(path) for name, path in found.items() if path.is_file()}


def done(out: Path, command: Sequence[str], checkpoint: Any, around: Mapping[str, Any] | None = None) -> bool:
    """Whether the very same command has finished, as far as can be told without the framework.

    Args:
        out: of the sweep.
        command: as it stands in records.
        checkpoint: its identity.
        around: what else decides answers, see `surroundings`; None for whatever it was.

    Raises:
        DataError: files were changed or lost since.
    """
    path = out / DONE
    if not path.is_file():
        return False
    found = forms.check(files.read_json(path), forms.Finished, path)
    if found.get("command") != list(command) or found.get("checkpoint") != checkpoint:
        return False
    if around is not None and store.difference(*_comparable(found.get("around", {}), around)):
        return False
    return all(intact(out / folder) is not None for folder in found.get("folders", []))


def _comparable(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two descriptions without the files that only one of them knows: VLMEvalKit fetches its own when it wants them."""
    both = set(there.get("files", {})) & set(here.get("files", {}))
    a, b = ({**told, "files": {name: told.get("files", {}).get(name) for name in both}} for told in (there, here))
    return a, b


def encoders_of(model: str, given: Mapping[str, str]) -> tuple[str, ...]:
    """Names of a model's encoders, in order.

    Raises:
        SetupError: the checkpoint can't be found, or is of another family.
    """
    if model in registry.HOOKED:
        return tuple(registry.parse_encoders(given.get("encoders")))
    return registry.encoders_of(model, given.get("pretrained"), given.get("revision"))


def read_masks(text: str, encoders: Sequence[str]) -> list[str]:
    """`--masks` -> canonical labels of the masks, each once.

    Raises:
        SetupError: an unknown encoder, an unreadable file, or no mask at all.
    """
    if text in PRESETS:
        return [masks.label(mask, encoders) for mask in PRESETS[text](encoders)]
    if text.startswith("@"):
        parts = masks.read_list(Path(text[1:]))
    else:
        parts = text.split(";")
    named = [part.strip() for part in parts if part.strip() and not part.strip().startswith("#")]
    if not named:
        raise SetupError(f"--masks must be {', '.join(PRESETS)}, 'MASK;MASK;...' or @FILE; not {text!r}")
    return list(dict.fromkeys(masks.label(masks.dropped(encoders, part), encoders) for part in named))


def finished(folder: Path, decides: Mapping[str, Any]) -> bool:
    """Whether a mask's results are there, as its manifest says.

    Raises:
        SetupError: they are of other tasks or settings.
        DataError: files were changed or lost since.
    """
    found = intact(folder)
    if found is None:
        return False
    other = store.difference(*_comparable(found.get("decides", {}), decides))
    if other:
        raise SetupError(f"{folder} holds a sweep that was made otherwise: {other}; use another output folder")
    return True


def intact(folder: Path) -> forms.Manifest | None:
    """The manifest of a mask's folder; None where there is none.

    Raises:
        DataError: a file was changed or lost since it was written.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    found = forms.check(files.read_json(path), forms.Manifest, path)
    for file in found["files"]:
        mine = folder / file["path"]
        if not mine.is_file() or not _same(mine, file):
            raise DataError(f"{mine} was lost or changed since the sweep wrote it; delete {folder} to have it again")
    return found


def _same(path: Path, file: forms.ManifestFile) -> bool:
    now = path.stat()
    if now.st_size == file["size"] and now.st_mtime_ns == file.get("mtime_ns"):
        return True  # not read again: a sweep may hold gigabytes
    return now.st_size == file["size"] and files.sha256(path) == file["sha256"]


def _sweep(
    route: Route, labels: Sequence[str], waiting: Sequence[str], own: argparse.Namespace, rest: Sequence[str],
    who: Mapping[str, Any], decides: Mapping[str, Any], command: Sequence[str], quiet: bool,
) -> tuple[dict[str, str], Collection[Key]]:  # fmt: skip
    """Evaluate the masks that are waiting; returns what failed, by mask, and what was asked (of several processes,
    nothing: each knows its own part alone).
    """
    from redundancy_eval.model_wrappers.sweeps.sweep import Sweep

    problems: dict[str, str] = {}
    memory = None if own.feature_memory is None else int(own.feature_memory * 2**30)
    with (
        run_record.alone(route.out / ".sweep.lock", "sweep"),
        Store.open(route.out / "store", who, renew=True) as kept,
        route.together(),
    ):
        sweep = Sweep(route.load, labels, kept, own.batch_size, memory)
        for number, label in enumerate(waiting, 1):
            folder = route.folder(label)
            if run_record.rank() == 0:
                clear(folder)
            try:
                with run_record.silence() if quiet else nullcontext():
                    route.evaluate(label, sweep)
            except SetupError as error:
                if route.framework != "vlmevalkit":  # there, one data set may fail and the others be fine
                    raise
                problems[label] = str(error)
                continue
            if run_record.rank() == 0:
                write_manifest(folder, label, {**decides, "files": deciding_files(own.framework, rest)}, command)
                print(f"[{number}/{len(waiting)}] drop={label}: {folder}", file=sys.stderr, flush=True)
        return problems, sweep.asked if run_record.world_size() == 1 else ()


def who(route: Route, encoders: Sequence[str], around: Mapping[str, Any], batch_size: str = "auto") -> dict[str, Any]:
    """All that decides answers beside question and mask; what a store belongs to."""
    from redundancy_eval.model_wrappers.sweeps import sweep

    given = route.model_arguments
    paths = ("pretrained", "revision", "encoder_weights", "calibration")  # told by content, not by place
    decides = {key: value for key, value in model_args.deciding(given).items() if key not in paths}
    here = run_record.resolved(route.model, given, route.device, batch_size)
    ran: dict[str, str] = {key: str(here[key]) for key in ("device", "device_name") if key in here}
    if here.get("dtype") in compare.HALF:  # where it decides answers
        ran["batch_size"] = batch_size
    words = {"dtype": here.get("dtype"), "attn_implementation": here.get("attention")}
    return {
        "model": route.model,
        "encoders": list(encoders),
        "arguments": {**decides, **{key: value for key, value in words.items() if value}},
        "ran": ran,
        "framework": route.framework,
        **{key: around[key] for key in ("versions", "calibration", "checkpoint")},
        "code epoch": sweep.EPOCH,
    }


def clear(folder: Path) -> None:
    """Make a mask's folder, without what a stopped sweep left there: its answers are in the store."""
    check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def check_ours(folder: Path) -> None:
    """Refuse a mask's folder that holds something else than what a sweep left.

    Raises:
        SetupError: it does.
    """
    if not folder.exists() or not any(folder.iterdir()) or (folder / MARK).exists():
        return
    if "sweep" not in records.read([folder]):
        raise SetupError(f"{folder} holds results that no sweep wrote; use another output folder")


def write_manifest(folder: Path, label: str, decides: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write down what a mask's folder holds; its being there says that it is whole."""
    listed = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        now = path.stat()
        name, digest = path.relative_to(folder).as_posix(), files.sha256(path)
        listed.append({"path": name, "size": now.st_size, "mtime_ns": now.st_mtime_ns, "sha256": digest})
    versions = {**records.read([folder]).get("versions", {}), "redundancy-eval": __version__}
    manifest = {
        "schema": 1, "mask": label, "decides": decides, "files": listed, "versions": versions, "command": command,
    }  # fmt: skip
    write_json(folder / MANIFEST, manifest)


def summary(kept: Store, labels: Sequence[str], asked: Collection[Key] = ()) -> list[str]:
    """Lines on a sweep's answers: how many, what is special about each mask's, and the noise floor.

    Args:
        kept: the response store.
        labels: the masks.
        asked: keys of the questions, under whatever mask, that count; all in the store where there are none.
    """
    mine = {(key.task, key.split, key.document, key.prompt, key.generation) for key in asked}
    from redundancy_eval.model_wrappers.sweeps.sweep import ALONE, FULL

    counts: dict[str, Counter[str]] = {label: Counter() for label in labels}
    questions: set[tuple[str, ...]] = set()
    pairs: dict[tuple[str, ...], dict[str, str]] = {}
    for key, stored in kept.items():
        question = (key.task, key.split, key.document, key.prompt, key.generation)
        if mine and question not in mine:
            continue  # of an earlier command, with a larger --limit
        questions.add(question)
        if key.mask in counts:
            counts[key.mask].update(["answers", *(["stopped by the token limit"] * stored.capped), *stored.notes])
        if key.mask in (FULL, ALONE):
            pairs.setdefault(question, {})[key.mask] = stored.text
    words = {"cut": "prompts cut", "first": "prompts shown their first images only", "moved": "placeholders moved"}
    given = sum(found["answers"] for found in counts.values())
    lines = [f"{given} answers: {len(labels)} masks of {len(questions)} questions"]
    for label, found in counts.items():
        unanswered = len(questions) - found.pop("answers", 0)
        rest = [f"{count} {words.get(what, what)}" for what, count in sorted(found.items())]
        rest += [f"{unanswered} unanswered"] if unanswered else []
        lines += [f"drop={label}: {', '.join(rest)}"] if rest else []
    both = [pair for pair in pairs.values() if len(pair) == 2]
    if both:
        differ = sum(pair[FULL] != pair[ALONE] for pair in both)
        lines.append(
            f"noise floor: the full model, answered alone and among the masks, differs in {differ} of {len(both)} "
            f"answers ({100 * differ / len(both):.2f} %)"
        )
    return lines
