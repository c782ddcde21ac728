"""`redundancy-eval parity`: our port against tensors recorded from the original code.

A recorded folder holds `checkpoint/` (released format; `tiny_overrides.json` where encoders are shrunken), `inputs/`
(`inputs.json` and the images; `image_file` is null for a prompt without one) and `expected/<input>.safetensors` with
tensors named `<condition>/<tensor>`. `rows_strideK` after a name means every K-th row. What the conditions and tensors
of a family are called stands in its `recording.py`. See docs/families.md; `examples/record_eagle.py` writes such a
folder.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.families.base import Visual
from redundancy_eval.model_wrappers.families.card import Family
from redundancy_eval.model_wrappers.families.recording import Check, Recording, read_json, recording
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel


def main(folder: Path, tolerance: float) -> int:
    """Print a line for each tensor and condition; returns 1 when one is beyond the tolerance, else 0.

    Raises:
        SetupError: the folder has not the layout of a recording.
    """
    failed = total = 0
    for check in run(folder, tolerance):
        print(check, flush=True)
        total, failed = total + 1, failed + (not check.ok)
    if not total:
        raise SetupError(f"{folder} holds no recorded tensors")
    print(f"{folder}: {total - failed} of {total} checks hold (tolerance {tolerance:g})")
    return 1 if failed else 0


def run(folder: Path, tolerance: float) -> Iterator[Check]:
    """Compare every recorded input and condition of a folder."""
    torch.set_num_threads(1)  # as they were recorded: with more, pixels resized as floats end in other digits (MGM)
    inputs = read_json(folder / "inputs" / "inputs.json")
    pixel_stats = folder / "inputs" / "preprocessed_stats.json"
    stats = read_json(pixel_stats) if pixel_stats.is_file() else {}
    recorded = recording(family_of(folder / "checkpoint"))
    model, tokenizer, _ = recorded.load(folder / "checkpoint")
    eos = model.eos or loading.end_tokens(folder / "checkpoint", hub.read_config(folder / "checkpoint"))
    template = templates.template(model.template or templates.template_for(tokenizer))
    for name, entry in inputs["inputs"].items():
        expected_file = folder / "expected" / f"{name}.safetensors"
        if not expected_file.is_file():
            raise SetupError(f"{expected_file} is missing")
        file = entry["image_file"]  # null: a prompt without an image
        images = [] if file is None else [Image.open(folder / "inputs" / file)]
        with recorded.as_recorded(model, {**inputs, **entry}):
            yield from recorded.check_prompt(name, entry, model, tokenizer)
            for image in images:
                yield from recorded.check_pixels(name, entry, stats, model, image)
            for text, tensors in sorted(_by_condition(load_file(expected_file)).items()):
                try:
                    condition = recorded.condition(text, model)
                except SetupError as refusal:
                    yield Check(f"{name} {text}", float("nan"), True, f"refused: {refusal}")
                    continue
                subject = MaskedModel(
                    model, tokenizer, condition.mask, template=template, eos=eos, site=condition.site,
                    settings=condition.settings,
                )  # fmt: skip
                ids = recorded.input_ids(entry)
                got = answers(subject, recorded.visuals(subject, images), ids, inputs["generation"])
                for image in images:
                    got |= recorded.tensors(subject, image) | recorded.prompt_tensors(subject, image, ids)
                checks = list(_compare(recorded, f"{name} {text}", got, tensors, tolerance))
                yield from checks
                worst = max((check.error for check in checks if check.error == check.error), default=0.0)
                yield Check(f"{name} {text}: all", worst, all(check.ok for check in checks), f"{len(checks)} tensors")


def family_of(checkpoint: Path) -> Family:
    """The family of a recorded checkpoint.

    Raises:
        SetupError: none here takes its config.
    """
    config = hub.read_config(checkpoint)
    for family in registry.FAMILIES.values():
        try:
            family.encoders(config)
        except SetupError:
            continue
        return family
    raise SetupError(f"{checkpoint} is a checkpoint of no family here: model_type {config.get('model_type')!r}")


@torch.inference_mode()
def answers(
    subject: MaskedModel, visuals: Sequence[Visual], ids: list[int], generation: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What a recording may hold of the language model: logits of the prompt, greedy tokens and their scores."""
    model = subject.model
    inputs, attention = subject.batch([subject.embed(ids, visuals)])
    config = GenerationConfig(
        **{**generation, "eos_token_id": subject.eos, "pad_token_id": subject.eos[0]},
        output_scores=True,
        return_dict_in_generate=True,
    )
    with model.prefill([visuals], [0]):
        logits = model.language_model(inputs_embeds=inputs, attention_mask=attention).logits[0]
        answer = model.language_model.generate(inputs_embeds=inputs, attention_mask=attention, generation_config=config)
    return {
        "logits": logits,
        "logits_first": logits[0],
        "logits_last": logits[-1],
        "tokens": answer.sequences[0],
        "step_scores": torch.cat(answer.scores),
    }


def _compare(
    recorded: Recording[Any], where: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float
) -> Iterator[Check]:
    for name, value in sorted(expected.items()):
        base, _, stride = re.sub(r"[/_]rows_stride", "@", name).partition("@")
        if name in got:
            base, stride = name, ""
        if base not in got:
            raise DataError(f"{where}: the recording holds {name!r}, which this version does not compute")
        mine = got[base][:: int(stride)] if stride else got[base]
        yield recorded.compare(f"{where} {name}", base, mine, value, tolerance)


def _by_condition(expected: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in expected.items():
        condition, _, name = key.partition("/")
        found.setdefault(condition, {})[name] = value
    return found
