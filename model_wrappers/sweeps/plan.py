"""`redundancy-eval plan`: what a sweep will ask and what it will take, before it is started; no weights are read.

The questions are the framework's own, operations and shapes follow from the checkpoint's config. Every number that
rests on an assumption is printed with it.
"""

import importlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from redundancy_eval import forms, masks, model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.costs.operations import Costs
from redundancy_eval.model_wrappers.families import registry, slow_tokens, templates
from redundancy_eval.model_wrappers.families.base import FamilyModel
from redundancy_eval.model_wrappers.hosts import listen, run_record
from redundancy_eval.model_wrappers.hosts.listen import Heard
from redundancy_eval.model_wrappers.masking import native
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps import sweep
from redundancy_eval.model_wrappers.sweeps.route import Route
from redundancy_eval.reports import markdown
from redundancy_eval.store import HEADER, Store

HELP = """\
usage: redundancy-eval plan [--json] ...the arguments of `redundancy-eval sweep`

Tell what a sweep will ask and what it will take before it is started: documents, images, passes of the encoders,
prompts, operations and memory, beside those of a separate run for each mask, and what is answered already. Data sets
are fetched as the sweep would fetch them; the model's weights are not read and need not be there.

  --json    the numbers as JSON; all other arguments are sweep's

example:
  redundancy-eval plan --model eagle_masked --model_args pretrained=NVEagle/Eagle-X5-7B \\
      --tasks redundancy_paper --output_path runs/x5
"""
EXPECTED = 8  # tokens of an answer, with the one that ends it, until a store tells
_SAMPLE = 64  # prompts of a task that are tokenised
_FEW = 16  # masks that are listed
_WAYS = {"sweep": "a sweep", "separate": "separate runs"}
_WORK = {
    "encoders": "encoders", "fusion": "fusion", "prefill": "prefill", "decode_expected": "decoding, expected",
    "decode_worst": "decoding, worst", "expected": "in all, expected", "worst": "in all, worst",
}  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    """Print the plan; returns 0.

    Raises:
        SetupError: the arguments are wrong, or OUT holds answers of another model.
    """
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    parser = sweep_run.parser()
    parser.add_argument("--json", action="store_true")
    own, rest = parser.parse_known_args(list(arguments))
    sweep_run.check(own)
    given = model_args.parse(own.model_args, "--model_args")
    if {"drop", "keep"} & set(given):
        raise SetupError("a sweep sets the masks itself: leave drop= and keep= out of --model_args, and use --masks")
    encoders = sweep_run.encoders_of(own.model, given)
    labels = sweep_run.read_masks(own.masks, encoders)
    with run_record.silence():
        passed = ["--model", own.model, "--model_args", own.model_args]
        route = sweep_run.make_route(own.framework, [*passed, *rest, sweep_run.OUT[own.framework], own.out])
        subject = Subject.of(route)  # first: what is wrong with it is found at once
        heard = listen.by_vlmevalkit(route) if own.framework == "vlmevalkit" else listen.by_lmms_eval(route)
    drawn = next((one.question for one in heard if one.question.settings.get("do_sample")), None)
    if drawn is not None:
        raise SetupError(f"{drawn.task} draws its answers, which no two runs do alike: a sweep is greedy")
    cache = 0 if subject.costs is None else subject.costs.language.cache(subject.dtype.itemsize)
    batch = sweep.first_guess(subject.device, cache) if own.batch_size == "auto" else int(own.batch_size)
    memory = None if own.feature_memory is None else int(own.feature_memory * 2**30)
    around = sweep_run.surroundings(own.framework, given, rest)
    stored = _stored(route, encoders, labels, heard, around, own.batch_size)
    told = numbers(subject, encoders, labels, heard, stored, batch, memory)
    told |= {"framework": own.framework, "command": ["redundancy-eval", "plan", *model_args.without_secrets(arguments)]}
    print(json.dumps(told, indent=1) if own.json else text(told), end="\n" if own.json else "")
    return 0


@dataclass(frozen=True)
class Subject:
    """The model that is swept, as far as its config tells; `skeleton` and `costs` are None for one behind hooks.

    `given` are its arguments, `measure` tells how many tokens a text with so many images takes without them, and
    `measured` how that is known.
    """

    model_id: str
    given: Mapping[str, str]
    device: str
    dtype: torch.dtype
    skeleton: FamilyModel | None
    costs: Costs | None
    measure: Callable[[str, int], float] | None
    measured: str

    @classmethod
    def of(cls, route: Route) -> "Subject":
        """The model of a sweep.

        Raises:
            SetupError: an argument makes no sense, or the checkpoint's config is not there.
        """
        model_id, given = route.model, route.model_arguments
        device = run_record.resolved(route.model, given, route.device)["device"]
        dtype = native.choose_dtype(given.get("dtype", "auto"), torch.device(device))
        if model_id in registry.HOOKED:
            return cls(model_id, given, device, dtype, None, None, None, "")
        folder = _folder(model_id, given)
        model = operations.skeleton(model_id, folder, given)
        found = operations.of(model, model_id, hub.read_config(folder))
        return cls(model_id, given, device, dtype, model, found, *_measure(model, model_id, folder, given))

    def runs(self, encoders: Sequence[str], labels: Sequence[str]) -> dict[str, Sequence[str]]:
        """Mask -> the encoders that run under it. Behind hooks all do."""
        if self.skeleton is None:
            return {label: encoders for label in labels}
        own = {key: self.given[key] for key in registry.family(self.model_id).settings if key in self.given}
        site, needed = self.given.get("site", "encoder"), self.skeleton.needed
        return {label: needed(encoders, masks.dropped(encoders, label), site, **own) for label in labels}


def numbers(
    subject: Subject, encoders: Sequence[str], labels: Sequence[str], heard: Sequence[Heard],
    stored: Mapping[str, Any] | None, batch: int, memory: int | None,
) -> dict[str, Any]:  # fmt: skip
    """All numbers of a plan, as JSON takes them; None where one is not known.

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
    shown, distinct = sum(task["images"] for task in tasks), None
    if all(one.pictures is not None for one in heard):
        distinct = len({picture for one in heard for picture in one.pictures or ()})
    run = subject.runs(encoders, labels)
    shared = len(labels) * shown if subject.skeleton is None else shown if distinct is None else distinct
    told: dict[str, Any] = {
        "schema": 1,
        "model": subject.model_id,
        "checkpoint": subject.given.get("pretrained") or subject.given.get("base"),
        "device": subject.device,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "encoders": list(encoders),
        "masks": list(labels),
        "tasks": tasks,
        "documents": sum(task["documents"] for task in tasks),
        "questions": len(heard),
        "images": shown,
        "distinct_images": distinct,
        "passes": {
            "sweep": {name: shared * any(name in names for names in run.values()) for name in encoders},
            "separate": {name: shown * sum(name in names for names in run.values()) for name in encoders},
        },
        "prefills": _prefills(subject, labels, run, heard, tasks),
        "expected_new_tokens": (stored or {}).get("mean_new_tokens") or EXPECTED,
        "store": stored,
    }
    told["flops"] = None if subject.costs is None else _flops(subject.costs, told)
    told["memory"] = None if subject.costs is None else _memory(subject, subject.costs, tasks, batch, memory)
    most = max((len(one.pictures or ()) for one in heard), default=0)
    told["assumptions"] = _assumptions(told, subject, most)
    return told


def _folder(model_id: str, given: Mapping[str, str]) -> Path:
    pretrained = given.get("pretrained") or registry.family(model_id).default
    return hub.locate(pretrained, given.get("revision"), weights=False)


def _measure(
    model: FamilyModel, model_id: str, folder: Path, given: Mapping[str, str]
) -> tuple[Callable[[str, int], float], str]:
    """See Subject."""
    module = importlib.import_module(registry.family(model_id).module)
    own, tell = getattr(module, "read_tokenizer", None), getattr(module, "template_for", None)
    if given.get("conv_template"):
        templates.template(given["conv_template"])
    try:
        tokenizer = own(folder) if own else slow_tokens.read(folder, model.language_model.config, model.slow_release)
    except SetupError:
        return lambda words, images: 40 + len(words) / 4, "four characters a token and 40 tokens for the template"
    name = given.get("conv_template") or model.template
    template = templates.template(name or (tell(model, tokenizer) if tell else templates.template_for(tokenizer)))

    def measure(words: str, images: int) -> float:
        placed, _ = templates.place_images(words, images, template)
        return len(templates.tokenize(tokenizer, template.render([placed]), template)) - images

    return measure, f"about {_SAMPLE} of each task are tokenised, in the model's template"


def _tasks(heard: Sequence[Heard], subject: Subject, batch: int) -> list[dict[str, Any]]:
    """For each task, what is asked, and how long its prompts are on average.

    `repeats` counts the questions on whose images another one was asked shortly before (see `Sweep._windows`).
    """
    by_task: dict[str, list[Heard]] = {}
    for one in heard:
        by_task.setdefault(one.question.task, []).append(one)
    most = None if subject.skeleton is None else subject.skeleton.max_images
    rows = []
    for name, asked in by_task.items():
        counts = [1 if one.pictures is None else len(one.pictures) for one in asked]
        counts = counts if most is None else [min(count, most) for count in counts]
        limits = Counter(one.question.limit for one in asked)
        row: dict[str, Any] = {
            "name": name,
            "documents": len({(one.question.split, one.question.document) for one in asked}),
            "questions": len(asked),
            "images": sum(counts),
            "repeats": 0 if subject.skeleton is None else _repeats(asked, batch),
            "token_limits": {str(limit): count for limit, count in sorted(limits.items())},
            "text_tokens": None,
            "prompt_tokens": None,
        }
        if subject.measure is not None and subject.costs is not None:
            sample = range(0, len(asked), max(1, len(asked) // _SAMPLE))
            words = sum(subject.measure(asked[i].question.text, counts[i]) for i in sample) / len(sample)
            seen = subject.costs.visual_tokens * sum(counts) / len(asked)
            row |= {"text_tokens": words, "prompt_tokens": words + seen}
        rows.append(row)
    return rows


def _repeats(asked: Sequence[Heard], window: int) -> int:
    ordered = [one.pictures for one in sorted(asked, key=lambda one: one.question.generation)]
    windows = [ordered[start : start + window] for start in range(0, len(ordered), window)]
    return sum(len(shown) - len(set(shown)) for shown in ([p for p in one if p] for one in windows))


def _prefills(
    subject: Subject, labels: Sequence[str], run: Mapping[str, Sequence[str]], heard: Sequence[Heard],
    tasks: Sequence[Mapping[str, Any]],
) -> dict[str, int]:  # fmt: skip
    """How many prompts are put to the language model; see `Sweep._jobs` for those that are shared."""
    alike = {
        (one.question.text, one.question.generation, None if one.pictures is None else len(one.pictures))
        for one in heard
    }
    blind = [label for label in labels if not run[label] and subject.given.get("ablation", "zero") in ("zero", "mean")]
    saved = 0 if subject.skeleton is None else len(blind) * (len(heard) - len(alike))
    # The full model once more in half precision; each mask of `masked` is asked by the framework itself.
    half = subject.dtype != torch.float32 and subject.model_id != registry.HOOKED[1]
    again = len(heard) if half and sweep.FULL in labels else 0
    separate = len(labels) * len(heard)
    shared = separate - saved + again
    seen = (len(labels) - len(blind)) * sum(task["repeats"] for task in tasks)
    return {
        "sweep": shared, "separate": separate, "blind_shared": saved, "images_shared": seen, "full_model_again": again,
    }  # fmt: skip


def _flops(found: Costs, told: Mapping[str, Any]) -> dict[str, Any]:
    """Operations of the sweep and of separate runs."""
    expected = told["expected_new_tokens"]
    work: dict[str, dict[str, float | None]] = {}
    count, questions, prefills = len(told["masks"]), max(told["questions"], 1), told["prefills"]
    full = sum(label == sweep.FULL for label in told["masks"])
    for way in _WAYS:
        shared = way == "sweep"
        # Answers to a question by the full model, and by the others on average.
        of_full = full + (prefills["full_model_again"] / questions if shared else 0)
        of_others = count - full - (prefills["blind_shared"] / questions if shared else 0)
        prefill, usual, worst = 0.0, 0.0, 0.0
        for task in told["tasks"]:
            length = task["prompt_tokens"]
            prefill += (of_full + of_others) * task["questions"] * found.language.prefill(length)
            if shared and task["repeats"]:
                tokens = found.visual_tokens * task["images"] / task["questions"]
                saved = prefills["images_shared"] * task["repeats"] / sum(one["repeats"] for one in told["tasks"])
                prefill -= saved * (found.language.prefill(tokens) - found.language.prefill(0))
            for limit, asked in task["token_limits"].items():
                ending = asked * found.language.decode(length, min(expected, int(limit)))
                usual += (of_full + of_others) * ending
                worst += of_full * ending + of_others * asked * found.language.decode(length, int(limit))
        passes, known = told["passes"][way], None not in found.encoders.values()
        encoding = sum(passes[name] * (each or 0) for name, each in found.encoders.items())
        fusion = count * told["images"] * found.fusion
        work[way] = {
            "encoders": encoding if known else None,
            "fusion": fusion,
            "prefill": prefill,
            "decode_expected": usual,
            "decode_worst": worst,
            "expected": encoding + fusion + prefill + usual if known else None,
            "worst": encoding + fusion + prefill + worst if known else None,
        }
    return {"encoder": dict(found.encoders), "fusion": found.fusion, "visual_tokens": found.visual_tokens, **work}


def _memory(
    subject: Subject, found: Costs, tasks: Sequence[Mapping[str, Any]], batch: int, memory: int | None
) -> dict[str, Any]:
    """Bytes of what is large."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10 if memory is None else memory
    itemsize = subject.dtype.itemsize
    each, outputs = found.language.cache(itemsize), found.outputs * itemsize
    longest = max((task["prompt_tokens"] + max(map(int, task["token_limits"])) for task in tasks), default=0)
    try:
        files: int | None = sum(
            path.stat().st_size for path in hub.weight_files(_folder(subject.model_id, subject.given))
        )
    except (SetupError, OSError):  # not here, or not all of them
        files = None
    return {
        "parameters": found.parameters,
        "weights": None if found.parameters is None else found.parameters * itemsize,
        "weight_files": files,
        "outputs_an_image": outputs,
        "feature_memory": limit,
        "images_kept": limit // outputs,
        "cache_a_token": each,
        "batch_size": batch,
        "longest_sequence": round(longest),
        "cache_a_batch": round(each * longest * batch),
    }


def _stored(
    route: Route,
    encoders: Sequence[str],
    labels: Sequence[str],
    heard: Sequence[Heard],
    around: Mapping[str, Any],
    batch_size: str,
) -> dict[str, Any] | None:
    """What OUT's store holds of the answers; None where there is no store.

    Raises:
        SetupError: it holds answers of another model; the sweep would refuse it too.
    """
    folder = route.out / "store"
    if not (folder / HEADER).is_file():
        return None
    header = forms.check(hub.read_config(folder, HEADER), forms.StoreHeader, folder / HEADER)
    # The weights need not be here, so what the store says of them is taken as it is.
    around = {**around, "checkpoint": header["identity"].get("checkpoint")}
    asked = {one.question.key("") for one in heard}
    answered, others, new = Counter({label: 0 for label in labels}), 0, []
    with Store.open(folder, sweep_run.who(route, encoders, around, batch_size)) as kept:
        for key, stored in kept.items():
            if replace(key, mask="") not in asked:
                others += 1
            elif key.mask in answered:
                answered[key.mask] += 1
                new.append(stored.new_tokens)
    mean = sum(new) / len(new) if new else None
    return {"answered": dict(answered), "of": len(heard), "to_other_questions": others, "mean_new_tokens": mean}


def _assumptions(told: Mapping[str, Any], subject: Subject, most: int) -> list[str]:
    """What the numbers rest on, in phrases; and what will stop the sweep."""
    lines, model = [], subject.skeleton
    if told["distinct_images"] is None:
        lines.append("images: one for each question of a task whose data set has no column of images, all different")
    if model is None:
        lines.append("behind hooks nothing is shared but the loaded model: under every mask all encoders run")
        lines.append("operations and memory are not known for models behind hooks")
        return lines
    lines.append(f"length of the texts: {subject.measured}")
    kept, distinct = told["memory"]["images_kept"], told["distinct_images"]
    if distinct != told["images"] and kept < (distinct or told["images"]):
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
    if told["flops"] and None in told["flops"]["encoder"].values():
        lines.append("encoders whose sizes are neither the released ones nor in the checkpoint's config: unknown")
    lines.append("a prompt's text before its images counts for each, though a batch computes it once")
    lines.append("operations: 2 for a multiply-add, as torch's FlopCounterMode counts; batches without padding")
    stored = told["store"] is not None and told["store"]["mean_new_tokens"] is not None
    source = "the mean of the answers in the store" if stored else "a word or a short phrase"
    lines.append(f"expected: {told['expected_new_tokens']:.3g} tokens an answer, {source}; at most the token limit")
    lines.append("worst: every answer but the full model's has lost its way and runs into the token limit")
    lines.append("memory: activations, and what the framework takes itself, are not counted")
    return lines


def text(told: Mapping[str, Any]) -> str:
    """A plan as one reads it."""
    labels, distinct, flops = told["masks"], told["distinct_images"], told["flops"]
    most = "at most " if distinct is None else ""
    listed = ": " + ", ".join(labels) if len(labels) <= _FEW else ""
    parts = [
        f"{told['model']} {told['checkpoint'] or ''} in {told['framework']}, {told['dtype']} on {told['device']}\n"
        f"{len(labels)} masks of {', '.join(told['encoders'])}{listed}",
        _task_table(told) + f"\n\ndifferent images: {most}{told['images'] if distinct is None else distinct:,}",
        _pass_table(told, most),
    ]
    if flops is not None:
        unit, scale = _unit(max(flops[way]["prefill"] + flops[way]["decode_worst"] for way in _WAYS))
        rows = [[unit, *_WAYS.values()]]
        for key, name in _WORK.items():
            rows.append([name, *(_number(flops[way][key], scale) for way in _WAYS)])
        parts += [markdown.grid(rows, 1), _memory_text(told["memory"], told["dtype"])]
    parts.append(_stored_text(told["store"]))
    parts.append("\n".join(["assumed:", *(f"- {line}" for line in told["assumptions"])]))
    return "\n\n".join(parts) + "\n"


def _task_table(told: Mapping[str, Any]) -> str:
    rows = [["task", "documents", "questions", "images", "tokens of a prompt", "token limit"]]
    for task in [*told["tasks"], {**told, "name": "in all"}]:
        counts = [f"{task[key]:,}" for key in ("documents", "questions", "images")]
        limits = " or ".join(task.get("token_limits", ()))
        rows.append([task["name"], *counts, _number(task["prompt_tokens"]) if limits else "", limits])
    return markdown.grid(rows, 1)


def _pass_table(told: Mapping[str, Any], most: str) -> str:
    rows, prefills = [["passes", "GFLOP each", *_WAYS.values()]], told["prefills"]
    for name in told["encoders"]:
        each = _number(told["flops"]["encoder"][name], 1e9) if told["flops"] else "unknown"
        counts = [told["passes"][way][name] for way in _WAYS]
        rows.append([name, each, f"{most}{counts[0]:,}", f"{counts[1]:,}"])
    rows.append(["language model (a prompt)", "", *(f"{prefills[way]:,}" for way in _WAYS)])
    lines = [markdown.grid(rows, 1)]
    if prefills["blind_shared"]:
        lines.append(f"of the prompts under which no encoder runs, {prefills['blind_shared']:,} repeat others: shared")
    if prefills["images_shared"]:
        lines.append(f"{prefills['images_shared']:,} prompts are on the images of another in their batch: shared")
    if prefills["full_model_again"]:
        lines.append(f"{prefills['full_model_again']:,} are the full model's once more: the noise of half precision")
    return "\n".join(lines)


def _memory_text(told: Mapping[str, Any], dtype: str) -> str:
    lines = ["memory:"]
    files = "no files here" if told["weight_files"] is None else f"files of {_bytes(told['weight_files'])}"
    million = "unknown" if told["parameters"] is None else f"{told['parameters'] / 1e6:,.1f} million parameters"
    weights = "unknown" if told["weights"] is None else _bytes(told["weights"])
    lines.append(f"- weights {weights} ({million} in {dtype}; {files})")
    lines.append(
        f"- encoders' outputs {_bytes(told['outputs_an_image'])} an image; {_bytes(told['feature_memory'])} of main "
        f"memory keep {told['images_kept']:,}"
    )
    lines.append(
        f"- keys and values {_bytes(told['cache_a_token'])} a token; {_bytes(told['cache_a_batch'])} for "
        f"{told['batch_size']} sequences of {told['longest_sequence']:,} tokens (the longest task)"
    )
    return "\n".join(lines)


def _stored_text(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "answered already: nothing"
    counts = ", ".join(f"{label} {count:,}" for label, count in told["answered"].items())
    other = told["to_other_questions"]
    more = f"; the store also holds {other:,} answers to other questions" if other else ""
    return f"answered already, of {told['of']:,} for each mask: {counts}{more}"


def _number(value: float | None, scale: float = 1) -> str:
    if value is None:
        return "unknown"
    scaled = value / scale
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}"


def _unit(value: float) -> tuple[str, float]:
    names = {1e18: "EFLOP", 1e15: "PFLOP", 1e12: "TFLOP"}
    return next(((name, scale) for scale, name in names.items() if value >= scale), ("GFLOP", 1e9))


def _bytes(value: float) -> str:
    for name, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{value / scale:.3g} {name}" if value < 1000 * scale else f"{value / scale:,.0f} {name}"
    return f"{value:.0f} bytes"
