"""`redundancy-eval parity`: our port against tensors recorded from the original code.

A recorded folder holds `checkpoint/` (released format; `tiny_overrides.json` where encoders are shrunken), `inputs/`
(`inputs.json` and the images) and `expected/<input>.safetensors` with tensors named `<condition>/<tensor>`. Conditions:
`nomask`, `zero:<tower>+<tower>`, `all_masked`. `/rows_strideK` behind a name means every K-th row. See
docs/families.md; `examples/record_eagle.py` writes such a folder.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers import families, hub, masked, prompts


@dataclass(frozen=True)
class Check:
    """One comparison: what, the error (nan where equality is asked), and whether it holds."""

    name: str
    error: float
    ok: bool
    remark: str = ""

    def __str__(self) -> str:
        figure = "        " if self.error != self.error else f"{self.error:8.1e}"
        return f"{'ok  ' if self.ok else 'FAIL'} {figure}  {self.name}{'  ' + self.remark if self.remark else ''}"


def relative_error(got: Tensor, expected: Tensor) -> float:
    """max|a-b| / max(max|b|, 1e-6) over the finite values; infinite where shapes or -inf positions differ."""
    if got.shape != expected.shape:
        return float("inf")
    got, expected = got.float(), expected.float()
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(got)) or not torch.equal(got[~finite], expected[~finite]):
        return float("inf")
    if not finite.any():
        return 0.0
    return float((got - expected)[finite].abs().max() / expected[finite].abs().max().clamp_min(1e-6))


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
    inputs = _read_json(folder / "inputs" / "inputs.json")
    pixel_stats = folder / "inputs" / "preprocessed_stats.json"
    stats = _read_json(pixel_stats) if pixel_stats.is_file() else {}
    model, tokenizer, eos = load(folder / "checkpoint")
    for name, entry in inputs["inputs"].items():
        expected_file = folder / "expected" / f"{name}.safetensors"
        if not expected_file.is_file():
            raise SetupError(f"{expected_file} is missing")
        expected = load_file(expected_file)
        image = Image.open(folder / "inputs" / entry["image_file"])
        yield from _check_inputs(name, entry, stats, model, tokenizer, image)
        for condition, tensors in sorted(_by_condition(expected).items()):
            try:
                mask = _mask(condition, model.released_names)
            except SetupError as refusal:
                yield Check(f"{name} {condition}", float("nan"), True, f"refused: {refusal}")
                continue
            subject = masked.MaskedModel(model, tokenizer, mask, eos=eos)
            got = compute(subject, image, entry["input_ids"], inputs["generation"])
            checks = list(_compare(f"{name} {condition}", got, tensors, tolerance))
            yield from checks
            worst = max((check.error for check in checks if check.error == check.error), default=0.0)
            yield Check(f"{name} {condition}: all", worst, all(check.ok for check in checks), f"{len(checks)} tensors")


def load(checkpoint: Path) -> tuple[Any, Any, list[int]]:
    """Model (all encoders, float32), tokenizer and end tokens of a recorded checkpoint."""
    config = hub.read_config(checkpoint)
    matching = []
    for family in families.FAMILIES.values():
        try:
            family.encoders(config)
        except SetupError:
            continue
        matching.append(family)
    if not matching:
        raise SetupError(f"{checkpoint} is a checkpoint of no family here: model_type {config.get('model_type')!r}")
    module = importlib.import_module(matching[0].module)
    overrides = checkpoint / "tiny_overrides.json"
    if overrides.is_file():
        config = module.recorded_config(config, _read_json(overrides))
    model, tokenizer, _ = module.load(checkpoint, config=config)
    return model, tokenizer, masked.end_tokens(checkpoint, config)


@torch.inference_mode()
def compute(
    subject: masked.MaskedModel, image: Image.Image, ids: list[int], generation: Mapping[str, Any]
) -> dict[str, Tensor]:
    """All tensors that a recording may hold of one input and condition."""
    model = subject.model
    features = subject.features([image])
    visual = model.fuse(features)
    inputs, attention = subject.batch([subject.embed(ids, visual)])
    logits = model.language_model(inputs_embeds=inputs, attention_mask=attention).logits[0]
    config = GenerationConfig(
        **{**generation, "eos_token_id": subject.eos, "pad_token_id": subject.eos[0]},
        output_scores=True,
        return_dict_in_generate=True,
    )
    answer = model.language_model.generate(inputs_embeds=inputs, attention_mask=attention, generation_config=config)
    own = {name: released for released, name in model.released_names.items()}
    return {
        **{f"encoder/{own[name]}": feature[0] for name, feature in features.items()},
        "fused": model.concatenate(features)[0],
        "image_embeds": visual[0],
        "logits": logits,
        "logits_first": logits[0],
        "logits_last": logits[-1],
        "tokens": answer.sequences[0],
        "step_scores": torch.cat(answer.scores),
    }


def _compare(
    where: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float
) -> Iterator[Check]:
    for name, value in sorted(expected.items()):
        base, _, stride = re.sub(r"[/_]rows_stride", "@", name).partition("@")
        if base not in got:
            raise DataError(f"{where}: the recording holds {name!r}, which this version does not compute")
        mine = got[base][:: int(stride)] if stride else got[base]
        if base == "tokens":
            same = mine.tolist() == value.tolist()
            yield Check(f"{where} {name}", float("nan"), same, "" if same else f"{mine.tolist()} != {value.tolist()}")
        else:
            error = relative_error(mine, value)
            yield Check(f"{where} {name}", error, error <= tolerance)


def _check_inputs(
    name: str, entry: Mapping[str, Any], stats: Mapping[str, Any], model: Any, tokenizer: Any, image: Image.Image
) -> Iterator[Check]:
    text = prompts.template(entry["conv_template"]).render(entry["messages"])
    yield Check(f"{name} prompt text", float("nan"), text == entry["prompt"])
    chosen = prompts.template_for(tokenizer)
    yield Check(f"{name} template chosen from the checkpoint", float("nan"), chosen == entry["conv_template"], chosen)
    yield Check(f"{name} token ids", float("nan"), prompts.tokenize(tokenizer, text) == entry["input_ids"])
    recorded = stats.get(f"{name}/pixel_values")
    if recorded:
        uint8 = hashlib.sha256(model.preprocess_uint8(image).transpose(2, 0, 1).tobytes()).hexdigest()
        yield Check(f"{name} uint8 pixels", float("nan"), uint8 == recorded["uint8_sha256_chw"])
        floats = hashlib.sha256(model.preprocess([image])[0].numpy().tobytes()).hexdigest()
        yield Check(f"{name} float32 pixels", float("nan"), floats == recorded["sha256_le"])


def _mask(condition: str, released: Mapping[str, str]) -> tuple[str, ...]:
    if condition == "nomask":
        return ()
    if condition == "all_masked":
        return tuple(released.values())
    kind, _, names = condition.partition(":")
    towers = names.split("+")
    if kind != "zero" or not set(towers) <= set(released):
        raise SetupError(f"this port has no condition {condition!r}")
    return tuple(released[tower] for tower in towers)


def _by_condition(expected: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in expected.items():
        condition, _, name = key.partition("/")
        found.setdefault(condition, {})[name] = value
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; a recorded folder has checkpoint/, inputs/ and expected/") from None
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON: {error}") from None
