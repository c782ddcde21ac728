"""`redundancy-eval parity`: our port against tensors recorded from the original code.

A recorded folder holds `checkpoint/` (released format; `tiny_overrides.json` where encoders are shrunken), `inputs/`
(`inputs.json` and the images) and `expected/<input>.safetensors` with tensors named `<condition>/<tensor>`.
`rows_strideK` behind a name means every K-th row. What the conditions and tensors of a family are called stands in its
`recorded_*` module. See docs/families.md; `examples/record_eagle.py` writes such a folder.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.base import MultiEncoder
from redundancy_eval.model_wrappers.masking import native
from redundancy_eval.model_wrappers.masking.native import MaskedModel


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


@dataclass(frozen=True)
class Condition:
    """What a recorded condition is in our terms: mask, site and settings of the family."""

    mask: tuple[str, ...] = ()
    site: str = "encoder"
    settings: Mapping[str, Any] = field(default_factory=dict)


def same(name: str, got: object, expected: object) -> Check:
    """A check of equality."""
    ok = got == expected
    return Check(name, float("nan"), ok, "" if ok else f"{str(got)[:200]!r} != {str(expected)[:200]!r}")


def by_name(prefix: str, features: Mapping[str, Tensor], model: MultiEncoder) -> dict[str, Tensor]:
    """The first unit of each encoder's features under the names that recordings use."""
    released = {own: name for name, own in model.released_names.items()}
    return {f"{prefix}/{released[name]}": value[0] for name, value in features.items() if name in released}


def zero_condition(text: str, model: MultiEncoder) -> Condition:
    """`nomask`, `all_masked`, `zero:<encoder>+<encoder>`, with encoders as recordings call them.

    Raises:
        SetupError: this port has no such condition.
    """
    if text in ("nomask", "all_masked"):
        return Condition(() if text == "nomask" else model.encoder_names)
    kind, _, names = text.partition(":")
    if kind != "zero" or not set(names.split("+")) <= set(model.released_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(tuple(model.released_names[name] for name in names.split("+")))


def site_condition(text: str, model: MultiEncoder, kinds: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Condition:
    """`nomask`, `<kind>:<encoder>+<encoder>`, `<kind>:all`; a kind stands for a site and settings.

    Raises:
        SetupError: this port has no such condition.
    """
    if text == "nomask":
        return Condition()
    kind, _, names = text.partition(":")
    mask = model.encoder_names if names == "all" else tuple(names.split("+"))
    if kind not in kinds or not set(mask) <= set(model.encoder_names):
        raise SetupError(f"this port has no condition {text!r}")
    return Condition(mask, *kinds[kind])


def config_of(
    folder: Path, shrunken: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The config of a recorded checkpoint, with the sizes of its shrunken encoders where it has them.

    Args:
        folder: the checkpoint.
        shrunken: (config.json, tiny_overrides.json) -> config.
    """
    config, overrides = hub.read_config(folder), folder / "tiny_overrides.json"
    return shrunken(config, read_json(overrides)) if overrides.is_file() else config


def same_pixels(name: str, uint8: Any, pixels: Tensor, recorded: Mapping[str, str] | None) -> Iterator[Check]:
    """Checks of an image's pixels by hash: (rows, columns, 3) uint8 and (3, rows, columns) float32."""
    if recorded:
        chw = uint8.transpose(2, 0, 1).tobytes()
        yield same(f"{name} uint8 pixels", hashlib.sha256(chw).hexdigest(), recorded["uint8_sha256_chw"])
        yield same(f"{name} float32 pixels", sha256(pixels), recorded["sha256_le"])


def sha256(value: Tensor) -> str:
    """Hash of a tensor's little-endian bytes."""
    return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()


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
    inputs = read_json(folder / "inputs" / "inputs.json")
    pixel_stats = folder / "inputs" / "preprocessed_stats.json"
    stats = read_json(pixel_stats) if pixel_stats.is_file() else {}
    recorded = importlib.import_module(_family(folder / "checkpoint").recorded)
    model, tokenizer, _ = recorded.load(folder / "checkpoint")
    eos = model.eos or native.end_tokens(folder / "checkpoint", hub.read_config(folder / "checkpoint"))
    for name, entry in inputs["inputs"].items():
        expected_file = folder / "expected" / f"{name}.safetensors"
        if not expected_file.is_file():
            raise SetupError(f"{expected_file} is missing")
        image = Image.open(folder / "inputs" / entry["image_file"])
        recorded_as = getattr(recorded, "as_recorded", _as_loaded)
        with recorded_as(model, {**inputs, **entry}):
            yield from recorded.check_inputs(name, entry, stats, model, tokenizer, image)
            for text, tensors in sorted(_by_condition(load_file(expected_file)).items()):
                try:
                    condition = recorded.condition(text, model)
                except SetupError as refusal:
                    yield Check(f"{name} {text}", float("nan"), True, f"refused: {refusal}")
                    continue
                subject = MaskedModel(
                    model, tokenizer, condition.mask, eos=eos, site=condition.site, settings=condition.settings
                )
                got = recorded.tensors(subject, image)
                got |= answers(subject, image, recorded.input_ids(entry), inputs["generation"])
                if hasattr(recorded, "prompt_tensors"):  # of families that work inside the language model
                    got |= recorded.prompt_tensors(subject, image, recorded.input_ids(entry))
                checks = list(_compare(f"{name} {text}", got, tensors, tolerance))
                yield from checks
                worst = max((check.error for check in checks if check.error == check.error), default=0.0)
                yield Check(f"{name} {text}: all", worst, all(check.ok for check in checks), f"{len(checks)} tensors")


def _as_loaded(model: MultiEncoder, entry: Mapping[str, Any]) -> AbstractContextManager[None]:
    """For families whose inputs are all recorded alike."""
    return nullcontext()


def _family(checkpoint: Path) -> registry.Family:
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
    subject: MaskedModel, image: Image.Image, ids: list[int], generation: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What a recording may hold of the language model: logits of the prompt, greedy tokens and their scores."""
    model = subject.model
    visuals = subject.visuals([image])
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
    where: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float
) -> Iterator[Check]:
    for name, value in sorted(expected.items()):
        base, _, stride = re.sub(r"[/_]rows_stride", "@", name).partition("@")
        if name in got:
            base, stride = name, ""
        if base not in got:
            raise DataError(f"{where}: the recording holds {name!r}, which this version does not compute")
        mine = got[base][:: int(stride)] if stride else got[base]
        if base == "tokens":
            yield same(f"{where} {name}", mine.tolist(), value.tolist())
        else:
            error = relative_error(mine, value)
            yield Check(f"{where} {name}", error, error <= tolerance)


def _by_condition(expected: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in expected.items():
        condition, _, name = key.partition("/")
        found.setdefault(condition, {})[name] = value
    return found


def read_json(path: Path) -> Any:
    """A JSON file of a recording.

    Raises:
        SetupError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; a recorded folder has checkpoint/, inputs/ and expected/") from None
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON: {error}") from None
