"""Every mask of a model in one command, as separate runs would have written it.

Answers go to `OUT/store`, each mask's results to a folder of its own with a `manifest.json`, written last. Killed and
started again, the same command goes on where it stopped; finished, it returns at once.
"""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from redundancy_eval import files, model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.card import PLACES
from redundancy_eval.model_wrappers.sweeps import base_model, folders, masks
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, FULL
from redundancy_eval.model_wrappers.sweeps.route import Framework, Route
from redundancy_eval.model_wrappers.sweeps.settings import Settings
from redundancy_eval.store import KNOWN, Key, Store


def run(asked: Settings, framework: Framework, quiet: bool = False, brief: bool = False) -> None:
    """Sweep.

    Args:
        asked: the sweep.
        framework: what asks and scores.
        quiet: keep the framework's own output to itself unless it fails.
        brief: say nothing of masks and answers.

    Raises:
        SetupError: the settings are wrong, a folder holds something else, or results are missing in the end.
        DataError: an answer cannot be given.
    """
    given = asked.given
    encoders = masks.encoders_of(asked.model, given)
    labels = masks.read(asked.masks, encoders)
    checkpoint = checkpoint_of(asked.model, given)
    around = surroundings(asked, framework)
    if folders.done(Path(asked.out), asked.command, checkpoint, around):
        if not brief:
            print(f"finished: {len(labels)} masks in {asked.out}", file=sys.stderr)
        return
    route = start(asked, framework)
    kept = who(route, framework, encoders, {"checkpoint": checkpoint, **around}, asked.batch_size)
    drawn: dict[str, Any] = {folders.SAMPLE: str(asked.sample)} if asked.sample else {}
    drawn |= {folders.UNTIL: asked.until.as_json()} if asked.until else {}
    decides = {**kept, **route.decides, "files": around["files"], **drawn}
    waiting = [label for label in labels if not folders.finished(route.folder(label), decides)]
    for label in waiting:  # now, not when hours of answers are given
        folders.check_ours(route.folder(label))
    problems, questions = _sweep(route, framework, labels, waiting, asked, kept, decides, quiet, brief)
    if process.rank():
        return
    with Store.open(route.out / "store", kept) as answers:  # with the other processes'
        missing = "not kept" if asked.model == registry.MASKED else "unanswered"
        for line in summary(answers, labels, questions, missing) if len(answers) and not brief else ():
            print(line, file=sys.stderr)
    if problems:
        listed = "; ".join(f"drop={label}: {problem}" for label, problem in problems.items())
        raise SetupError(f"results are missing for {len(problems)} of {len(labels)} masks: {listed}")
    around["files"] = framework.deciding_files(asked.passed)  # it may have fetched some on the way
    made = [route.folder(label).name for label in labels]
    told = {"command": list(asked.command), "folders": made, "checkpoint": checkpoint, "around": around}
    folders.write_done(route.out, told)


def checkpoint_of(model: str, given: Mapping[str, str]) -> dict[str, Any] | None:
    """Identity of a model's weights; None where `masked` is on one whose weights are not known.

    Raises:
        SetupError: they are not there.
    """
    if model == registry.MASKED:
        return base_model.checkpoint(given)
    return identity.of(registry.folders(model, given))


def start(asked: Settings, framework: Framework) -> Route:
    """The framework's side of a sweep.

    Raises:
        SetupError: the framework is not installed, or its arguments make no sense here.
    """
    model = ["--model", asked.model, "--model_args", asked.model_args]
    return framework.route([*model, *asked.passed, framework.out_flag, asked.out], asked.batch_size, asked.sample)


def surroundings(asked: Settings, framework: Framework) -> dict[str, Any]:
    """What decides answers beside the checkpoint and stands in no command: the content of files, and versions."""
    calibration = asked.given.get("calibration")
    return {
        "calibration": files.sha256(Path(calibration)) if calibration else None,
        "versions": framework.versions(),
        "files": framework.deciding_files(asked.passed),
    }


def _sweep(
    route: Route, framework: Framework, labels: Sequence[str], waiting: Sequence[str], asked: Settings,
    who: Mapping[str, Any], decides: Mapping[str, Any], quiet: bool, brief: bool,
) -> tuple[dict[str, str], Collection[Key]]:  # fmt: skip
    """Evaluate the masks that are waiting; returns what failed, by mask, and what was asked (of several processes,
    nothing: each knows its own part alone).
    """
    from redundancy_eval.model_wrappers.sweeps.sweep import Sweep

    problems: dict[str, str] = {}
    with (
        process.alone(route.out / ".sweep.lock", "sweep"),
        Store.open(route.out / "store", who, renew=True) as kept,
        route.together(),
    ):
        sweep = Sweep(route.load, labels, kept, asked.batch_size, asked.memory)
        for number, label in enumerate(waiting, 1):
            folder = route.folder(label)
            if process.rank() == 0:
                folders.clear(folder)
            try:
                with process.silence() if quiet else nullcontext():
                    route.evaluate(label, sweep)
            except SetupError as error:
                if not framework.one_may_fail:
                    raise
                problems[label] = str(error)
                continue
            if process.rank() == 0:
                now = {**decides, "files": framework.deciding_files(asked.passed)}
                folders.write_manifest(folder, label, now, asked.command)
                if not brief:
                    print(f"[{number}/{len(waiting)}] drop={label}: {folder}", file=sys.stderr, flush=True)
        sweep.engine = None  # lmms-eval's registry keeps the sweep until the next one: not the model, too
        return problems, sweep.asked if process.world_size() == 1 else ()


def who(
    route: Route, framework: Framework, encoders: Sequence[str], around: Mapping[str, Any], batch_size: str = "auto"
) -> dict[str, Any]:
    """All that decides answers beside question and mask; what a store belongs to.

    Args:
        route: the framework's side.
        framework: the framework.
        encoders: the model's, in order.
        around: `checkpoint` (its identity) and what `surroundings` tells.
        batch_size: a number or `auto`.
    """
    paths: tuple[str, ...] = ("pretrained", "revision", *PLACES, "calibration")  # known by content, not by place
    if route.model == registry.MASKED:  # of whose arguments, only these are known to be such
        paths = (*base_model.WEIGHTS, "revision") if around["checkpoint"] else ()
    decides = {key: value for key, value in model_args.deciding(route.model_arguments).items() if key not in paths}
    here = route.resolved()
    ran: dict[str, str] = {key: str(here[key]) for key in ("device", "device_name") if key in here}
    if here.get("dtype") in model_args.HALF:  # where it decides answers
        ran["batch_size"] = batch_size
    words = {"dtype": here.get("dtype"), "attn_implementation": here.get("attention")}
    return {
        "model": route.model,
        "encoders": list(encoders),
        **({"base": route.base} if route.base else {}),
        "arguments": {**decides, **{key: value for key, value in words.items() if value}},
        "ran": ran,
        "framework": framework.name,
        **{key: around[key] for key in ("versions", "calibration", "checkpoint")},
        "code epoch": identity.EPOCH,
    }


def summary(kept: Store, labels: Sequence[str], asked: Collection[Key] = (), missing: str = "unanswered") -> list[str]:
    """Lines on a sweep's answers: how many, what is special about each mask's, and the noise floor.

    Args:
        kept: the response store.
        labels: the masks.
        asked: keys of the questions, under whatever mask, that count; all in the store where there are none.
        missing: what a question is that has no answer.
    """
    mine = {(key.task, key.split, key.document, key.prompt, key.generation) for key in asked}
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
    words |= {KNOWN: "prompts with images of the calibration"}
    given = sum(found["answers"] for found in counts.values())
    lines = [f"{given} answers: {len(labels)} masks of {len(questions)} questions"]
    for label, found in counts.items():
        unanswered = len(questions) - found.pop("answers", 0)
        rest = [f"{count} {words.get(what, what)}" for what, count in sorted(found.items())]
        rest += [f"{unanswered} {missing}"] if unanswered else []
        lines += [f"drop={label}: {', '.join(rest)}"] if rest else []
    both = [pair for pair in pairs.values() if len(pair) == 2]
    if both:
        differ = sum(pair[FULL] != pair[ALONE] for pair in both)
        lines.append(
            f"noise floor: the full model, answered alone and among the masks, differs in {differ} of {len(both)} "
            f"answers ({100 * differ / len(both):.2f} %)"
        )
    return lines
