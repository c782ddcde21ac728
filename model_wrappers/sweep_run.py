"""`redundancy-eval sweep`: every mask of a model in one command, as separate runs would have written it.

Answers go to `OUT/store`, each mask's results to a folder of its own with a `manifest.json`, written last. Killed and
started again, the same command goes on where it stopped; finished, it returns at once.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, environment, masks, model_args, sidecar
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers import families, identity, launch
from redundancy_eval.sidecar import write_json
from redundancy_eval.store import Store
from redundancy_eval.usage import Parser

MANIFEST = "manifest.json"  # of a mask's folder
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
    checkpoint = None if own.model == "masked" else identity.of(families.folders(own.model, given))
    command = ["redundancy-eval", "sweep", *map(model_args.redacted, arguments)]
    if own.judge_key:
        command = [part.replace(own.judge_key, "[REDACTED]") for part in command]
    if done(Path(own.out), command, checkpoint):
        print(f"finished: {len(labels)} masks in {own.out}", file=sys.stderr)
        return 0
    passed = ["--model", own.model, "--model_args", own.model_args]
    passed += ["--judge-key", own.judge_key] if own.judge_key else []
    route = make_route(own.framework, [*passed, *rest, OUT[own.framework], own.out])
    decides = {"framework": route.framework, "arguments": model_args.deciding(given), **route.decides}
    waiting = [label for label in labels if not finished(route.folder(label), decides)]
    for label in waiting:  # now, not when hours of answers are given
        check_ours(route.folder(label))
    kept = {"checkpoint": checkpoint, **who(route, encoders)}
    problems = _sweep(route, labels, waiting, own, kept, decides, command, quiet)
    if launch.rank() == 0:
        with Store.open(route.out / "store", kept) as answers:  # with the other processes'
            for line in summary(answers, labels) if len(answers) else ():  # `masked` has no store
                print(line, file=sys.stderr)
        if problems:
            listed = "; ".join(f"drop={label}: {problem}" for label, problem in problems.items())
            raise SetupError(f"results are missing for {len(problems)} of {len(labels)} masks: {listed}")
        folders = [route.folder(label).name for label in labels]
        write_json(route.out / DONE, {"schema": 1, "command": command, "folders": folders, "checkpoint": checkpoint})
    return 0


def parser() -> Parser:
    """The arguments that are the sweep's own."""
    made = Parser(allow_abbrev=False)
    made.add_argument("--model", required=True, choices=launch.OURS)
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


def make_route(framework: str, arguments: Sequence[str]) -> Any:
    """The framework's side of a sweep.

    Raises:
        SetupError: the framework is not installed, or its arguments make no sense here.
    """
    if framework == "vlmevalkit":
        with environment.needed("sweep", framework):
            from redundancy_eval.model_wrappers import vlmevalkit_sweep

        return vlmevalkit_sweep.Route(arguments)
    with environment.needed("sweep", framework):
        from redundancy_eval.model_wrappers import lmms_eval_sweep

    # Without samples nothing could be checked or paired between masks.
    return lmms_eval_sweep.Route([*arguments, *([] if "--log_samples" in arguments else ["--log_samples"])])


def done(out: Path, command: Sequence[str], checkpoint: Any) -> bool:
    """Whether the very same command has finished, as far as can be told without the framework.

    Raises:
        DataError: files were changed or lost since.
    """
    path = out / DONE
    found = sidecar.read_json(path) if path.is_file() else {}
    if found.get("command") != list(command) or found.get("checkpoint") != checkpoint:
        return False
    return all(intact(out / folder) is not None for folder in found["folders"])


def encoders_of(model: str, given: Mapping[str, str]) -> tuple[str, ...]:
    """Names of a model's encoders, in order.

    Raises:
        SetupError: the checkpoint can't be found, or is of another family.
    """
    if model in families.HOOKED:
        return tuple(families.parse_encoders(given.get("encoders")))
    return families.encoders_of(model, given.get("pretrained"), given.get("revision"))


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
    there, here = found.get("decides", {}), json.loads(json.dumps(decides))
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            raise SetupError(
                f"{folder} holds a sweep with another {name}: {there.get(name)!r} there, {here.get(name)!r} here; "
                "use another output folder"
            )
    return True


def intact(folder: Path) -> dict[str, Any] | None:
    """The manifest of a mask's folder; None where there is none.

    Raises:
        DataError: a file was changed or lost since it was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    found = sidecar.read_json(path)
    for file in found["files"]:
        mine = folder / file["path"]
        if not mine.is_file() or mine.stat().st_size != file["size"]:
            raise DataError(f"{mine} was lost or changed since the sweep wrote it; delete {folder} to have it again")
    return found


def _sweep(
    route: Any, labels: Sequence[str], waiting: Sequence[str], own: argparse.Namespace,
    who: Mapping[str, Any], decides: Mapping[str, Any], command: Sequence[str], quiet: bool,
) -> dict[str, str]:  # fmt: skip
    """Evaluate the masks that are waiting; returns what failed, by mask."""
    from redundancy_eval.model_wrappers.sweep import Sweep

    problems: dict[str, str] = {}
    memory = None if own.feature_memory is None else int(own.feature_memory * 2**30)
    with (
        launch.alone(route.out / ".sweep.lock", "sweep"),
        Store.open(route.out / "store", who) as kept,
        route.together(),
    ):
        sweep = Sweep(route.load, labels, kept, own.batch_size, memory)
        for number, label in enumerate(waiting, 1):
            folder = route.folder(label)
            if launch.rank() == 0:
                clear(folder)
            try:
                with launch.silence() if quiet else nullcontext():
                    route.evaluate(label, sweep)
            except SetupError as error:
                if route.framework != "vlmevalkit":  # there, one data set may fail and the others be fine
                    raise
                problems[label] = str(error)
                continue
            if launch.rank() == 0:
                write_manifest(folder, label, decides, command)
                print(f"[{number}/{len(waiting)}] drop={label}: {folder}", file=sys.stderr, flush=True)
    return problems


def who(route: Any, encoders: Sequence[str]) -> dict[str, Any]:
    """All that decides answers beside checkpoint, question and mask; what a store belongs to."""
    import torch

    from redundancy_eval.model_wrappers import masked, sweep

    given = route.model_arguments
    paths = ("pretrained", "revision", "encoder_weights", "calibration")  # told by content, not by place
    decides = {key: value for key, value in model_args.deciding(given).items() if key not in paths}
    dtype = masked.choose_dtype(given.get("dtype", "auto"), torch.device(route.device_type))
    calibration = given.get("calibration")
    return {
        "model": route.model,
        "encoders": list(encoders),
        "arguments": {**decides, "dtype": str(dtype)},
        "calibration": hashlib.sha256(Path(calibration).read_bytes()).hexdigest() if calibration else None,
        "framework": route.framework,
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
    if "sweep" not in sidecar.read([folder]):
        raise SetupError(f"{folder} holds results that no sweep wrote; use another output folder")


def write_manifest(folder: Path, label: str, decides: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write down what a mask's folder holds; its being there says that it is whole."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256") if sys.version_info >= (3, 11) else _sha256(handle)
        files.append(
            {"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": digest.hexdigest()}
        )
    versions = {**sidecar.read([folder]).get("versions", {}), "redundancy-eval": __version__}
    manifest = {
        "schema": 1, "mask": label, "decides": decides, "files": files, "versions": versions, "command": command,
    }  # fmt: skip
    write_json(folder / MANIFEST, manifest)


def _sha256(handle: Any) -> Any:
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest


def summary(kept: Store, labels: Sequence[str]) -> list[str]:
    """Lines on a sweep's answers: how many, what is special about each mask's, and the noise floor."""
    from redundancy_eval.model_wrappers.sweep import ALONE, FULL

    counts: dict[str, Counter[str]] = {label: Counter() for label in labels}
    questions: set[tuple[str, ...]] = set()
    pairs: dict[tuple[str, ...], dict[str, str]] = {}
    for key, stored in kept.items():
        question = (key.task, key.split, key.document, key.prompt, key.generation)
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
