"""What a model costs, read from its config: parameters, shapes and operations of a model without weights.

Operations are floating-point operations, two for a multiply-add, as torch's FlopCounterMode counts them: matrix
products, convolutions and attention (all of its square, although the language model's is causal); not norms,
activations and resizing. Encoders and fusion are counted on the meta device, where attention is always counted (on a
CPU the counter of torch 2.14 sees nothing in flash attention), the language model by formula.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual, model_class
from redundancy_eval.model_wrappers.families.card import PLACES

PICTURE = (800, 600)  # of an image whose size is not known; matters where images are cut into tiles or not padded


@dataclass(frozen=True)
class Language:
    """A language model: parameters in its layers' matrices and in its output layer, and the shape of its attention.

    Of experts as many count as a token goes through.

    `width` is heads x head size, `cached` key-value heads x head size.
    """

    matrices: int
    output: int
    layers: int
    width: int
    cached: int

    def prefill(self, tokens: float) -> float:
        """Operations for a prompt, and for its answer's first token."""
        return 2 * self.matrices * tokens + 4 * self.layers * self.width * tokens**2 + 2 * self.output

    def decode(self, tokens: float, new: float) -> float:
        """Operations for the tokens of an answer after the first; each sees the prompt and all before it."""
        steps = max(new - 1, 0)
        seen = steps * tokens + steps * (steps + 1) / 2
        return 2 * (self.matrices + self.output) * steps + 4 * self.layers * self.width * seen

    def cache(self, itemsize: int) -> int:
        """Bytes of keys and values for a token."""
        return 2 * self.layers * self.cached * itemsize


@dataclass(frozen=True)
class Costs:
    """What a model costs for an image of size PICTURE, and its language model.

    Attributes:
        encoders: operations of each encoder; None where its size is not known.
        fusion: operations of projectors and fusion.
        outputs: how many values the encoders give.
        visual_tokens: what stands for the image in the prompt.
        parameters: of the whole model; None where the size of an encoder is not known.
        language: the language model.
    """

    encoders: Mapping[str, float | None]
    fusion: float
    outputs: int
    visual_tokens: int
    parameters: int | None
    language: Language


def skeleton(model_id: str, folder: Path, given: Mapping[str, str]) -> FamilyModel:
    """A family's model on the meta device, built from its config alone; some families' without their encoders.

    Args:
        model_id: of the family.
        folder: of the checkpoint; its weights need not be there.
        given: model arguments.

    Raises:
        SetupError: the config is of another family, or an argument makes no sense.
    """
    family, config = registry.family(model_id), hub.read_config(folder)
    settings = {key: given[key] for key in family.settings if key in given and key not in PLACES}
    family.check(config, str(folder / "config.json"))
    with weights.building(folder):
        model = model_class(family)(config, **settings)
    return model.eval().requires_grad_(False)


def of(model: FamilyModel, model_id: str, config: Mapping[str, Any], picture: tuple[int, int] = PICTURE) -> Costs:
    """The costs of a skeleton.

    Args:
        model: as `skeleton` makes it; in families whose encoders have repositories of their own, with or without them.
        model_id: of its family.
        config: the checkpoint's.
        picture: width and height of the image.
    """
    image = Image.new("RGB", picture)
    layouts = model.layouts([image])
    units, shapes = sum(map(model.units, layouts)), model.shapes("encoder")
    parameters: float | None = sum(parameter.numel() for parameter in model.parameters())
    encoders: dict[str, float | None] = {}
    if registry.family(model_id).elsewhere(config) and not model.encoders:  # only the checkpoint's config is at hand
        own = {"encoder_configs", "image_size", "grid_size"} & set(config)  # not the released sizes
        known = {} if own else registry.family(model_id).costs
        encoders = {name: known[name][1] * 1e9 * units if name in known else None for name in model.encoder_names}
        parameters = None if own else (parameters or 0) + sum(million * 1e6 for million, _ in known.values())
    else:
        for name in model.encoder_names:
            sizes = {key: pixels.shape for key, pixels in model.preprocess([image], [name]).items()}
            encoders[name] = count(partial(_encode, model, sizes, name))[1]
    visuals, fusion = fused(model, picture, model.encoder_names, ())
    return Costs(
        encoders,
        fusion,
        units * sum(tokens * channels for tokens, channels in shapes.values()),
        sum(len(visual.embeddings) for visual in visuals),
        None if parameters is None else int(parameters),
        language(model.language_model),
    )


def fused(
    model: FamilyModel, picture: tuple[int, int], run: Collection[str], stand_ins: Collection[str]
) -> tuple[list[Visual], int]:
    """What a skeleton makes of encoders' outputs for an image, and how many operations projectors and fusion take.

    Args:
        model: the skeleton.
        picture: width and height of the image.
        run: entries that go through the projectors.
        stand_ins: entries that are put behind them.
    """
    layouts = model.layouts([Image.new("RGB", picture)])
    units = sum(map(model.units, layouts))
    before = {name: (units, *model.shapes("encoder")[name]) for name in run}
    behind = {name: (units, *model.shapes("projected")[name]) for name in stand_ins}
    return count(lambda: model.fuse(model.project(_blank(before)) | _blank(behind), layouts))


def within_language(model: FamilyModel, picture: tuple[int, int], run: Collection[str]) -> int:
    """Operations that a family adds to the prompt's pass through the language model (Cambrian's samplers)."""
    if type(model).prefill is FamilyModel.prefill:
        return 0
    layouts = model.layouts([Image.new("RGB", picture)])
    given = {name: (sum(map(model.units, layouts)), *shape) for name, shape in model.shapes("encoder").items()}
    tokens = len(fused(model, picture, run, ())[0][0].embeddings) + getattr(model, "image_position", 0)

    def prompt() -> Any:
        embeddings = torch.empty(1, tokens, model.language_model.config.hidden_size)
        return model.language_model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1)

    def whole() -> Any:
        visuals = model.fuse(model.project(_blank(given)), layouts)
        with model.prefill([visuals], [0]):
            return prompt()

    return count(whole)[1] - count(prompt)[1] - fused(model, picture, run, ())[1]


def language(model: Any) -> Language:
    """The sizes of a transformers causal language model."""
    config, output = model.config, model.get_output_embeddings()
    # A token goes through the router's matrix, and through those of the experts that it chooses.
    chosen, experts = getattr(config, "num_experts_per_tok", None) or 1, getattr(config, "n_routed_experts", None) or 1
    matrices = [(name, value) for name, value in model.model.layers.named_parameters() if value.ndim > 1]
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Language(
        sum(value.numel() * chosen // experts if ".experts." in name else value.numel() for name, value in matrices),
        output.weight.numel(),
        config.num_hidden_layers,
        config.num_attention_heads * size,
        (getattr(config, "num_key_value_heads", None) or config.num_attention_heads) * size,
    )


def count(function: Callable[[], Any]) -> tuple[Any, int]:
    """What a function of a skeleton gives, as tensors without values, and how many operations it would take."""
    # On the meta device alone, masks of transformers fail that look at values; they let fake tensors pass.
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), torch.device("meta"), fake, FlopCounterMode(display=False) as counter:
        made = function()
    return made, counter.get_total_flops()


def _encode(model: FamilyModel, sizes: Mapping[str, Any], name: str) -> Any:
    return model.encode(_blank(sizes), [name])


def _blank(sizes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(*size) for key, size in sizes.items()}
