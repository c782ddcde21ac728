"""A plan as one reads it, and as JSON."""

import json
import math
from dataclasses import asdict
from typing import Any

from redundancy_eval.model_wrappers.sweeps.planned import Memory, Plan, Stored
from redundancy_eval.reports import markdown

_FEW = 16  # masks that are listed
_WAYS = ("a sweep", "separate runs")
_WORK = {
    "encoders": "encoders", "fusion": "fusion", "prefill": "prefill", "decode_expected": "decoding, expected",
    "decode_worst": "decoding, worst", "expected": "in all, expected", "worst": "in all, worst",
}  # fmt: skip


def as_json(plan: Plan) -> str:
    """All numbers of a plan; null where one is not known."""
    return json.dumps(_known(asdict(plan)), indent=1)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def text(plan: Plan) -> str:
    """A plan in words and tables."""
    labels, distinct = plan.masks, plan.distinct_images
    most = "at most " if distinct is None else ""
    listed = ": " + ", ".join(labels) if len(labels) <= _FEW else ""
    parts = [
        f"{plan.model} {plan.checkpoint or ''} in {plan.framework}, {plan.dtype} on {plan.device}\n"
        f"{len(labels)} masks of {', '.join(plan.encoders)}{listed}",
        _task_table(plan) + f"\n\ndifferent images: {most}{plan.images if distinct is None else distinct:,}",
        _pass_table(plan, most),
    ]
    if plan.flops is not None:
        ways = (plan.flops.sweep, plan.flops.separate)
        unit, scale = _unit(max(work.prefill + work.decode_worst for work in ways))
        rows = [[unit, *_WAYS]]
        for key, name in _WORK.items():
            rows.append([name, *(_number(asdict(work)[key], scale) for work in ways)])
        parts.append(markdown.grid(rows, 1))
    if plan.memory is not None:
        parts.append(_memory_text(plan.memory, plan.dtype))
    parts.append(_stored_text(plan.store))
    if plan.decidable:
        parts.append(_decidable_text(plan))
    parts.append("\n".join(["assumed:", *(f"- {line}" for line in plan.assumptions)]))
    return "\n\n".join(parts) + "\n"


def _decidable_text(plan: Plan) -> str:
    margin = f"{100 * plan.decidable[0].margin:g} %"
    rows = [["category", "documents", "smallest margin of CUR", f"documents for {margin}"]]
    for each in plan.decidable:
        known = not math.isnan(each.smallest_margin)
        smallest = f"{100 * each.smallest_margin:.1f} %" if known else "unknown"
        rows.append(
            [
                each.category,
                f"{each.documents:,}",
                smallest,
                f"{each.wanted:,}" if each.wanted is not None else "unknown",
            ]
        )
    head = "an encoder without effect is shown to be redundant, with 80 % power, beside all others:"
    return f"{head}\n\n{markdown.grid(rows, 1)}\n\n({plan.decidable_by})"


def _task_table(plan: Plan) -> str:
    rows = [["task", "documents", "questions", "images", "tokens of a prompt", "token limit"]]
    for task in plan.tasks:
        counts = (f"{count:,}" for count in (task.documents, task.questions, task.images))
        limits = " or ".join(task.token_limits)
        rows.append([task.name, *counts, _number(task.prompt_tokens) if limits else "", limits])
    rows.append(["in all", *(f"{count:,}" for count in (plan.documents, plan.questions, plan.images)), "", ""])
    return markdown.grid(rows, 1)


def _pass_table(plan: Plan, most: str) -> str:
    rows, prefills = [["passes", "GFLOP each", *_WAYS]], plan.prefills
    for name in plan.encoders:
        each = _number(plan.flops.encoder[name], 1e9) if plan.flops else "unknown"
        rows.append([name, each, f"{most}{plan.passes.sweep[name]:,}", f"{plan.passes.separate[name]:,}"])
    rows.append(["language model (a prompt)", "", f"{prefills.sweep:,}", f"{prefills.separate:,}"])
    lines = [markdown.grid(rows, 1)]
    if prefills.blind_shared:
        lines.append(f"of the prompts under which no encoder runs, {prefills.blind_shared:,} repeat others: shared")
    if prefills.images_shared:
        lines.append(f"{prefills.images_shared:,} prompts are on the images of another in their batch: shared")
    if prefills.full_model_again:
        lines.append(f"{prefills.full_model_again:,} are the full model's once more: the noise of half precision")
    return "\n".join(lines)


def _memory_text(told: Memory, dtype: str) -> str:
    lines = ["memory:"]
    files = "no files here" if told.weight_files is None else f"files of {_bytes(told.weight_files)}"
    million = "unknown" if told.parameters is None else f"{told.parameters / 1e6:,.1f} million parameters"
    weights = "unknown" if told.weights is None else _bytes(told.weights)
    lines.append(f"- weights {weights} ({million} in {dtype}; {files})")
    lines.append(
        f"- encoders' outputs {_bytes(told.outputs_an_image)} an image; {_bytes(told.feature_memory)} of main "
        f"memory keep {told.images_kept:,}"
    )
    lines.append(
        f"- keys and values {_bytes(told.cache_a_token)} a token; {_bytes(told.cache_a_batch)} for "
        f"{told.batch_size} sequences of {told.longest_sequence:,} tokens (the longest task)"
    )
    if told.covariances:
        lines.append(
            f"- linear stand-ins {_bytes(told.stand_ins)} for all masks; the covariances that they are solved from "
            f"{_bytes(told.covariances)}, a few times that while one is solved"
        )
    return "\n".join(lines)


def _stored_text(told: Stored | None) -> str:
    if told is None:
        return "answered already: nothing"
    counts = ", ".join(f"{label} {count:,}" for label, count in told.answered.items())
    other = told.to_other_questions
    more = f"; the store also holds {other:,} answers to other questions" if other else ""
    return f"answered already, of {told.of:,} for each mask: {counts}{more}"


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
