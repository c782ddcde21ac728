"""What a sweep will ask and what it will take, before it is started; no weights are read.

The questions are the framework's own, operations and shapes follow from the checkpoint's config. Every number that
rests on an assumption comes with it.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from redundancy_eval import forms, masks
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers import process
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.costs.operations import Costs
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import ablations
from redundancy_eval.model_wrappers.sweeps import masks as sweep_masks
from redundancy_eval.model_wrappers.sweeps import run, sweep
from redundancy_eval.model_wrappers.sweeps.planned import Flops, Memory, Passes, Plan, Prefills, Stored, Task, Work
from redundancy_eval.model_wrappers.sweeps.question import Heard
from redundancy_eval.model_wrappers.sweeps.route import Framework, Route
from redundancy_eval.model_wrappers.sweeps.settings import AUTO, Settings
from redundancy_eval.model_wrappers.sweeps.subject import SAMPLE, Subject, folder_of
from redundancy_eval.store import HEADER, Store

EXPECTED = 8  # tokens of an answer, with the one that ends it, until a store tells


def make(asked: Settings, framework: Framework) -> Plan:
    """The plan of a sweep.

    Raises:
        SetupError: the settings are wrong, or OUT holds answers of another model.
    """
    encoders = sweep_masks.encoders_of(asked.model, asked.given)
    labels = sweep_masks.read(asked.masks, encoders)
    with process.silence():
        route = run.start(asked, framework)
        subject = Subject.of(route)  # first: what is wrong with it is found at once
        heard = route.listen()
    drawn = next((one.question for one in heard if one.question.settings.get("do_sample")), None)
    if drawn is not None:
        raise SetupError(f"{drawn.task} draws its answers, which no two runs do alike: a sweep is greedy")
    cache = 0 if subject.costs is None else subject.costs.language.cache(subject.dtype.itemsize)
    batch = sweep.first_guess(subject.device, cache) if asked.batch_size == AUTO else int(asked.batch_size)
    around = run.surroundings(asked, framework)

    def who(checkpoint: Any) -> dict[str, Any]:
        return run.who(route, framework, encoders, {**around, "checkpoint": checkpoint}, asked.batch_size)

    stored = _stored(route, labels, heard, who)
    made = numbers(subject, encoders, labels, heard, stored, batch, asked.memory)
    return replace(made, framework=framework.name, command=asked.command)


def numbers(
    subject: Subject, encoders: Sequence[str], labels: Sequence[str], heard: Sequence[Heard], stored: Stored | None,
    batch: int, memory: int | None,
) -> Plan:  # fmt: skip
    """All numbers of a plan.

    Args:
        subject: the model.
        encoders: names of its encoders.
        labels: canonical labels of the masks.
        heard: what the framework asks.
        stored: what the store holds of it.
        batch: sequences that are answered together.
        memory: bytes for encoders' outputs; by default a tenth of this machine's.
    """
    tasks = _tasks(heard, subject, batch)
    shown, distinct = sum(task.images for task in tasks), None
    if all(one.pictures is not None for one in heard):
        distinct = len({picture for one in heard for picture in one.pictures or ()})
    running = subject.runs(encoders, labels)
    shared = len(labels) * shown if subject.skeleton is None else shown if distinct is None else distinct
    found = subject.costs
    plan = Plan(
        schema=1,
        model=subject.model_id,
        checkpoint=subject.given.get("pretrained") or subject.given.get("base"),
        device=subject.device,
        dtype=str(subject.dtype).removeprefix("torch."),
        encoders=list(encoders),
        masks=list(labels),
        tasks=tasks,
        documents=sum(task.documents for task in tasks),
        questions=len(heard),
        images=shown,
        distinct_images=distinct,
        passes=Passes(
            {name: shared * any(name in names for names in running.values()) for name in encoders},
            {name: shown * sum(name in names for names in running.values()) for name in encoders},
        ),
        prefills=_prefills(subject, labels, running, heard, tasks),
        expected_new_tokens=(stored and stored.mean_new_tokens) or EXPECTED,
        store=stored,
        flops=None,
        memory=None if found is None else _memory(subject, found, labels, tasks, batch, memory),
        assumptions=(),
    )
    plan = replace(plan, flops=None if found is None else _flops(found, plan))
    most = max((len(one.pictures or ()) for one in heard), default=0)
    return replace(plan, assumptions=_assumptions(plan, subject, most))


def _tasks(heard: Sequence[Heard], subject: Subject, batch: int) -> list[Task]:
    by_task: dict[str, list[Heard]] = {}
    for one in heard:
        by_task.setdefault(one.question.task, []).append(one)
    most = None if subject.skeleton is None else subject.skeleton.max_images
    tasks = []
    for name, asked in by_task.items():
        counts = [1 if one.pictures is None else len(one.pictures) for one in asked]
        counts = counts if most is None else [min(count, most) for count in counts]
        limits = Counter(one.question.limit for one in asked)
        words = seen = None
        if subject.measure is not None and subject.costs is not None:
            sample = range(0, len(asked), max(1, len(asked) // SAMPLE))
            words = sum(subject.measure(asked[i].question.text, counts[i]) for i in sample) / len(sample)
            seen = words + subject.costs.visual_tokens * sum(counts) / len(asked)
        tasks.append(
            Task(
                name=name,
                documents=len({(one.question.split, one.question.document) for one in asked}),
                questions=len(asked),
                images=sum(counts),
                repeats=0 if subject.skeleton is None else _repeats(asked, batch),
                token_limits={str(limit): count for limit, count in sorted(limits.items())},
                text_tokens=words,
                prompt_tokens=seen,
            )
        )
    return tasks


def _repeats(asked: Sequence[Heard], window: int) -> int:
    ordered = [one.pictures for one in sorted(asked, key=lambda one: one.question.generation)]
    windows = [ordered[start : start + window] for start in range(0, len(ordered), window)]
    return sum(len(shown) - len(set(shown)) for shown in ([p for p in one if p] for one in windows))


def _prefills(
    subject: Subject, labels: Sequence[str], running: Mapping[str, Sequence[str]], heard: Sequence[Heard],
    tasks: Sequence[Task],
) -> Prefills:  # fmt: skip
    """How many prompts are put to the language model; see `Sweep._jobs` for those that are shared."""
    alike = {
        (one.question.text, one.question.generation, None if one.pictures is None else len(one.pictures))
        for one in heard
    }
    by_image = subject.given.get("ablation", "zero") in ablations.BY_IMAGE
    blind = [label for label in labels if not running[label] and not by_image]
    saved = 0 if subject.skeleton is None else len(blind) * (len(heard) - len(alike))
    # The full model once more in half precision; each mask of `masked` is asked by the framework itself.
    half = subject.dtype != torch.float32 and subject.model_id != registry.MASKED
    again = len(heard) if half and sweep_masks.FULL in labels else 0
    separate = len(labels) * len(heard)
    return Prefills(
        sweep=separate - saved + again,
        separate=separate,
        blind_shared=saved,
        images_shared=(len(labels) - len(blind)) * sum(task.repeats for task in tasks),
        full_model_again=again,
    )


def _flops(found: Costs, plan: Plan) -> Flops:
    """Operations of the sweep and of separate runs."""
    return Flops(
        encoder=dict(found.encoders),
        fusion=found.fusion,
        visual_tokens=found.visual_tokens,
        sweep=_work(found, plan, shared=True),
        separate=_work(found, plan, shared=False),
    )


def _work(found: Costs, plan: Plan, shared: bool) -> Work:
    prefills, questions, count = plan.prefills, max(plan.questions, 1), len(plan.masks)
    full = sum(label == sweep_masks.FULL for label in plan.masks)
    # Answers to a question by the full model, and by the others on average.
    of_full = full + (prefills.full_model_again / questions if shared else 0)
    of_others = count - full - (prefills.blind_shared / questions if shared else 0)
    prefill, usual, worst = 0.0, 0.0, 0.0
    for task in plan.tasks:
        length = task.length
        prefill += (of_full + of_others) * task.questions * found.language.prefill(length)
        if shared and task.repeats:
            tokens = found.visual_tokens * task.images / task.questions
            saved = prefills.images_shared * task.repeats / sum(one.repeats for one in plan.tasks)
            prefill -= saved * (found.language.prefill(tokens) - found.language.prefill(0))
        for limit, asked in task.token_limits.items():
            ending = asked * found.language.decode(length, min(plan.expected_new_tokens, int(limit)))
            usual += (of_full + of_others) * ending
            worst += of_full * ending + of_others * asked * found.language.decode(length, int(limit))
    passes, known = plan.passes.sweep if shared else plan.passes.separate, None not in found.encoders.values()
    encoding = sum(passes[name] * (each or 0) for name, each in found.encoders.items())
    fusion = count * plan.images * found.fusion
    return Work(
        encoders=encoding if known else None,
        fusion=fusion,
        prefill=prefill,
        decode_expected=usual,
        decode_worst=worst,
        expected=encoding + fusion + prefill + usual if known else None,
        worst=encoding + fusion + prefill + worst if known else None,
    )


def _memory(
    subject: Subject, found: Costs, labels: Sequence[str], tasks: Sequence[Task], batch: int, memory: int | None
) -> Memory:
    """Bytes of what is large."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10 if memory is None else memory
    itemsize = subject.dtype.itemsize
    each, outputs = found.language.cache(itemsize), found.outputs * itemsize
    longest = max((task.length + max(map(int, task.token_limits)) for task in tasks), default=0)
    try:
        paths = hub.weight_files(folder_of(subject.model_id, subject.given))
        files: int | None = sum(path.stat().st_size for path in paths)
    except (SetupError, OSError):  # not here, or not all of them
        files = None
    return Memory(
        parameters=found.parameters,
        weights=None if found.parameters is None else found.parameters * itemsize,
        weight_files=files,
        outputs_an_image=outputs,
        feature_memory=limit,
        images_kept=limit // outputs,
        cache_a_token=each,
        batch_size=batch,
        longest_sequence=round(longest),
        cache_a_batch=round(each * longest * batch),
        **_guesses(subject, labels),
    )


def _guesses(subject: Subject, labels: Sequence[str]) -> dict[str, int]:
    """Bytes of the linear guesses of masks, in float32, and of the covariances of both parts of the sample."""
    if subject.given.get("ablation") != "predicted" or subject.skeleton is None:
        return {}
    channels = {name: own for name, (_, own) in subject.skeleton.shapes("encoder").items()}
    total, found = sum(channels.values()), 0
    for label in labels:
        dropped = sum(channels[name] for name in masks.dropped(tuple(channels), label))
        found += 4 * dropped * (total - dropped)
    return {"stand_ins": found, "covariances": 2 * 8 * total**2}


def _stored(
    route: Route, labels: Sequence[str], heard: Sequence[Heard], who: Callable[[Any], Mapping[str, Any]]
) -> Stored | None:
    """What OUT's store holds of the answers; None where there is no store, and for `masked`.

    Args:
        route: the framework's side.
        labels: canonical labels of the masks.
        heard: what the framework asks.
        who: what the sweep's store belongs to, given the checkpoint's identity.

    Raises:
        SetupError: it holds answers of another model; the sweep would refuse it too.
    """
    folder = route.out / "store"
    if not (folder / HEADER).is_file() or route.model == registry.MASKED:  # whose wrapper words the questions
        return None
    header = forms.check(hub.read_config(folder, HEADER), forms.StoreHeader, folder / HEADER)
    asked = {one.question.key("") for one in heard}
    answered, others, new = Counter({label: 0 for label in labels}), 0, []
    # The weights need not be here, so what the store says of them is taken as it is.
    with Store.open(folder, who(header["identity"].get("checkpoint"))) as kept:
        for key, stored in kept.items():
            if replace(key, mask="") not in asked:
                others += 1
            elif key.mask in answered:
                answered[key.mask] += 1
                new += [] if stored.new_tokens is None else [stored.new_tokens]
    return Stored(dict(answered), len(heard), others, sum(new) / len(new) if new else None)


def _assumptions(plan: Plan, subject: Subject, most: int) -> list[str]:
    """What the numbers rest on, in phrases; and what will stop the sweep."""
    lines, model = [], subject.skeleton
    if plan.distinct_images is None:
        lines.append("images: one for each question of a task whose data set has no column of images, all different")
    if model is None or plan.memory is None or plan.flops is None:
        lines.append("with hooks only what a module is given once more is shared: its output for a batch's images")
        lines.append("operations and memory are not known for models with hooks")
        return lines
    lines.append(f"length of the texts: {subject.measured}")
    kept, distinct = plan.memory.images_kept, plan.distinct_images
    if distinct != plan.images and kept < (distinct or plan.images):
        lines.append(
            f"an image is encoded again where more than {kept:,} others stand between its questions: that many fit "
            "(--feature_memory)"
        )
    if model.layouts([Image.new("RGB", operations.PICTURE)]) != [None]:
        width, height = operations.PICTURE
        lines.append(f"images have {width} x {height} pixels, which decides tiles and visual tokens; none is decoded")
    if most and model.max_images is not None and most > model.max_images:
        lines.append(
            f"a question shows {most} images, this architecture takes {model.max_images}: the sweep stops there, "
            "unless many_images=first"
        )
    if None in plan.flops.encoder.values():
        lines.append("encoders whose sizes are neither the released ones nor in the checkpoint's config: unknown")
    if model.router() is not None:
        lines.append("every encoder runs for every image, the most that it takes; the passes that choose are left out")
    lines.append("a prompt's text before its images counts for each, though a batch computes it once")
    lines.append("operations: 2 for a multiply-add, as torch's FlopCounterMode counts; batches without padding")
    stored = plan.store is not None and plan.store.mean_new_tokens is not None
    source = "the mean of the answers in the store" if stored else "a word or a short phrase"
    lines.append(f"expected: {plan.expected_new_tokens:.3g} tokens an answer, {source}; at most the token limit")
    lines.append("worst: every answer but the full model's has lost its way and runs into the token limit")
    lines.append("memory: activations, and what the framework takes itself, are not counted")
    return lines
