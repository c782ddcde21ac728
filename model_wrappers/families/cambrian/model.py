"""Cambrian-1: four encoders, a spatial vision aggregator (SVA) as connector, and more of it inside the language model.

Loads the released checkpoints cambrian-phi3-3b (Phi-3), cambrian-8b (Llama 3) and cambrian-13b (Vicuna). They hold the
language model, the projectors and the SVA; the encoders come from hub repositories of their own.

Sizes that the original code hard-codes are defaults here. A checkpoint of another size says so in its config.json:

    "encoder_configs": {"facebook/dinov2-giant-res378": {"input_size": 24, "hidden_size": 16, ...}, ...}

Source: cambrian-mllm/cambrian at 539ffc3; cambrian/model/cambrian_arch.py, cambrian/mm_utils.py:170-201 and the
decoder loops of cambrian/model/language_model/cambrian_llama.py:167-258 and phi3/modeling_phi3.py.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Phi3ForCausalLM

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.encoders import hub_towers, open_clip_towers
from redundancy_eval.model_wrappers.families import language_models, templates
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.cambrian import card, sva

CONTEXT = "global_context"
CONTEXTS = ("keep", "zero")  # what becomes of it when SigLIP is dropped after its projector
_CONTEXT_ENCODER = "siglip"
# Sizes that decide the channels of an encoder's output, and those that no repository's config says.
RELEASED: dict[str, dict[str, Any]] = {
    "siglip": {"embed_dim": 1152},
    "clip": {"hidden_size": 1024},
    "dinov2": {
        "input_size": 378, "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24,
        "use_swiglu_ffn": True,
    },
    "convnext": {"input_size": 1024, "dims": (384, 768, 1536, 3072)},
}  # fmt: skip
TOWERS: dict[str, type[hub_towers.Tower]] = {
    "siglip": open_clip_towers.SiglipTower,
    "clip": hub_towers.ClipTower,
    "dinov2": hub_towers.DinoTower,
    "convnext": open_clip_towers.ConvNextTower,
}


def language_model(config: Mapping[str, Any], attention: str | None = None) -> nn.Module:
    """The language model that a checkpoint is built on, as `model_type` or `architectures` says.

    Raises:
        SetupError: neither Llama nor Phi-3.
    """
    told = card.language_of(config)
    if told == "phi3":
        return Phi3ForCausalLM(language_models.phi3(config, attention))
    if told == "llama":
        return LlamaForCausalLM(language_models.llama(config, attention))
    raise SetupError(f"the language model must be Llama or Phi-3; model_type is {config.get('model_type')!r}")


def build_tower(
    name: str, sizes: Mapping[str, Any], grid: int, select_layer: int, positions: str, attention: str
) -> hub_towers.Tower:
    """An encoder that gives a grid of tokens.

    Args:
        name: of the encoder.
        sizes: of RELEASED, the repository and `encoder_configs`.
        grid: side of the map.
        select_layer: of CLIP.
        positions: how DINOv2's position table is resized.
        attention: `attn_implementation`.
    """
    own = {key: value for key, value in sizes.items() if key != "input_size"}
    if name == "clip":
        return hub_towers.ClipTower(own, grid, select_layer, attention)
    if name == "dinov2":
        return hub_towers.DinoTower(own, sizes["input_size"], grid, positions=positions, attention=attention)
    if name == "siglip":
        return open_clip_towers.SiglipTower(own, grid)
    return open_clip_towers.ConvNextTower(own, sizes["input_size"], grid)


def check_config(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a config of a kind that no release has.

    Raises:
        SetupError: what it is that differs.
    """
    tokens, counts = config["image_token_len"], config["mm_vision_tower_aux_token_len_list"]
    if config.get("query_num_list", [tokens]) != [tokens]:
        raise SetupError(f"query_num_list must be {[tokens]}; not {config['query_num_list']!r}")
    if names[0] != _CONTEXT_ENCODER:
        raise SetupError(f"the first tower must be {_CONTEXT_ENCODER}, which gives the global context; not {names[0]}")
    side = math.isqrt(tokens)
    wrong = [n for n in (tokens, *counts) if n < 1 or math.isqrt(n) ** 2 != n or math.isqrt(n) % side]
    if wrong or len(counts) != len(names):
        raise SetupError(f"mm_vision_tower_aux_token_len_list {counts} does not fit {len(names)} towers and {tokens}")
    unknown = set(config.get("encoder_configs", {})) - set(config["mm_vision_tower_aux_list"])
    if unknown:
        raise SetupError(f"encoder_configs names {sorted(unknown)[0]!r}, which is no tower of this checkpoint")


class Cambrian(FamilyModel):
    """A Cambrian-1 model: encode -> (ablate) -> project -> (ablate) -> SVA, MLP -> language model with SVA inside.

    The queries of the SVA see, besides their windows of every encoder's map, the *global context*: the mean of all
    projected SigLIP tokens, those of the padding included. Masking SigLIP before its projector changes it too; after
    the projector (`site=projected`) it stays as it was, as the paper's authors ran it, unless `global_context=zero`.

    Inside the language model the SVA updates the rows that follow `image_position`, a constant of the checkpoint. A
    prompt whose image is elsewhere is refused: the original code would update the wrong rows.

    The encoders are not part of the checkpoint: `load` adds those that are needed.

    Args:
        config: the checkpoint's config.json.
        keep: not looked at, as no encoder is built here.
        attention: `attn_implementation` of the language model.
        global_context: `keep` or `zero`.
        dino_positions: how DINOv2's position table is resized; see hub_towers.DinoTower.
    """

    family = card.FAMILY
    slow_release = (4, 37)
    max_images = 1

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        global_context: str = "keep",
        dino_positions: str = "offset",
    ):
        super().__init__(config)
        if global_context not in CONTEXTS:
            raise SetupError(f"global_context must be one of {', '.join(CONTEXTS)}; not {global_context!r}")
        if dino_positions not in hub_towers.POSITIONS:
            raise SetupError(f"dino_positions must be one of {', '.join(hub_towers.POSITIONS)}; not {dino_positions!r}")
        self.dino_positions = dino_positions
        self.released_names = dict(zip(config["mm_vision_tower_aux_list"], self.encoder_names, strict=True))
        check_config(config, self.encoder_names)
        self.side = math.isqrt(config["image_token_len"])
        self.image_position: int = config["image_position"]
        self.max_length = config.get("tokenizer_model_max_length")
        hidden: int = config["vision_hidden_size"]
        counts = dict(zip(self.encoder_names, config["mm_vision_tower_aux_token_len_list"], strict=True))
        told = config.get("encoder_configs", {})
        self.own_sizes = {name: told.get(released, {}) for released, name in self.released_names.items()}
        self.select_layer: int = config.get("mm_vision_select_layer", -2)
        channels = {name: TOWERS[name].output_channels({**RELEASED[name], **self.own_sizes[name]}) for name in counts}
        self._shapes = {
            "encoder": {name: (counts[name], channels[name]) for name in counts},
            "projected": {**{name: (counts[name], hidden) for name in counts}, CONTEXT: (1, hidden)},
        }
        windows = [counts[name] // self.side**2 for name in self.encoder_names]
        self.projectors = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(channels[name], hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
                )
                for name in self.encoder_names
            }
        )
        self.vision_query = nn.Parameter(torch.zeros(1, hidden))
        self.connector = sva.Sampler(hidden, hidden, windows, config["connector_depth"])
        self.language_model = language_model(config, attention)
        width: int = self.language_model.config.hidden_size
        self.mm_projector = nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, width))
        self.image_newline = nn.Parameter(torch.zeros(width))
        inside = config["num_of_vision_sampler_layers"]
        self.samplers = nn.ModuleList(sva.Sampler(width, hidden, windows) for _ in range(inside))
        start, stride = config["start_of_vision_sampler_layers"], config["stride_of_vision_sampler_layers"]
        self.sampled_layers = tuple(start + k * stride for k in range(inside))
        if inside and self.sampled_layers[-1] >= config["num_hidden_layers"]:
            raise SetupError(
                f"the last sampler comes after layer {self.sampled_layers[-1]}, but num_hidden_layers is "
                f"{config['num_hidden_layers']}"
            )

    @staticmethod
    def needed(
        names: Sequence[str], mask: Collection[str], site: str, global_context: str = "keep", **settings: Any
    ) -> tuple[str, ...]:
        """Encoders that must run: the kept ones, and a dropped SigLIP whose global context stays.

        Raises:
            SetupError: a setting that would do nothing at this site.
        """
        if global_context == "zero" and site != "projected":
            raise SetupError("global_context=zero belongs to site=projected; at site=encoder it follows from the mask")
        context = {_CONTEXT_ENCODER} if site == "projected" and global_context == "keep" else set()
        return tuple(name for name in names if name not in mask or name in context)

    @staticmethod
    def replaced(mask: Sequence[str], site: str, global_context: str = "keep", **settings: Any) -> tuple[str, ...]:
        """The dropped encoders, and with SigLIP's projected features the global context if that is asked for."""
        also = site == "projected" and global_context == "zero" and _CONTEXT_ENCODER in mask
        return (*mask, CONTEXT) if also else tuple(mask)

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output before or after its projector, and of the global context."""
        return dict(self._shapes[site])

    def place_sides(self) -> dict[str, int]:
        """A place is what one query of the connector looks at: of ConvNeXt's map a window of 4 x 4 (released sizes)."""
        return {name: math.isqrt(tokens) // self.side for name, (tokens, _) in self._shapes["encoder"].items()}

    def layouts(self, images: Sequence[Image.Image]) -> list[tuple[int, int]]:
        """(width, height) of each image: it says what of the square is padding."""
        return [image.size for image in images]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of visual tokens that an image of (width, height) keeps, newlines not counted."""
        top, left = sva.margins(size, self.side)
        return self.side - 2 * top, self.side - 2 * left

    def rename(self, released: str) -> str | None:
        """Released tensor name -> own name; None for tensors that are not needed."""
        rest = released.removeprefix("model.")
        if found := re.fullmatch(r"mm_projector_aux_(\d+)\.(.+)", rest):
            index = int(found[1])
            return f"projectors.{self.encoder_names[index]}.{found[2]}" if index < len(self.encoder_names) else released
        if found := re.fullmatch(r"vision_sampler_0\.(.+)", rest):
            return f"connector.{sva.rename(found[1])}"
        if found := re.fullmatch(r"vision_sampler_layers\.(\d+)\.(.+)", rest):
            return f"samplers.{found[1]}.{sva.rename(found[2])}"
        if re.fullmatch(r"mm_projector\..+|vision_query|image_newline", rest):
            return rest
        if re.fullmatch(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq", rest):
            return None
        return f"language_model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        kind, _, rest = own.partition(".")
        if kind == "language_model":
            return rest
        if kind == "projectors":
            name, _, rest = rest.partition(".")
            return f"model.mm_projector_aux_{self.encoder_names.index(name)}.{rest}"
        if kind == "connector":
            return f"model.vision_sampler_0.{sva.release(rest)}"
        if kind == "samplers":
            index, _, rest = rest.partition(".")
            return f"model.vision_sampler_layers.{index}.{sva.release(rest)}"
        return f"model.{own}"

    def add_encoder(self, name: str, place: Path, attention: str = "sdpa") -> None:
        """Build an encoder on the meta device, in the sizes that its repository's own config says.

        Raises:
            SetupError: the repository is of another encoder or another size.
        """
        kind = TOWERS[name]
        sizes = {**RELEASED[name], **kind.sizes(place), **self.own_sizes[name]}
        count, channels = self._shapes["encoder"][name]
        with torch.device("meta"):
            tower = build_tower(name, sizes, math.isqrt(count), self.select_layer, self.dino_positions, attention)
        if tower.channels != channels:
            raise SetupError(f"{place} has {tower.channels} channels; the checkpoint was made for {channels}")
        self.encoders[name] = tower

    @property
    def towers(self) -> Mapping[str, hub_towers.Tower]:
        """The encoders that were added, which make their own pixels."""
        return cast(Mapping[str, hub_towers.Tower], self.encoders)

    def template_for(self, tokenizer: Any) -> str:
        """From the language model, and the tokenizer."""
        if isinstance(self.language_model, Phi3ForCausalLM):
            return "phi3"
        return "llama_3" if templates.template_for(tokenizer) == "llama3" else "vicuna_v1"

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """Images -> pixels of each encoder, in its own size, border and normalisation: {name: (images, 3, S, S)}."""
        return {name: self.towers[name].preprocess(images) for name in self.encoder_names if name in names}

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}, ready for their projectors."""
        return {name: self.encoders[name](pixels[name]) for name in self.encoder_names if name in names}

    def project(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projectors of the given encoders: {name: (images, tokens, hidden)}; with SigLIP the global context."""
        projected = {name: self.projectors[name](value) for name, value in features.items()}
        if _CONTEXT_ENCODER in projected:
            projected[CONTEXT] = projected[_CONTEXT_ENCODER].mean(1, keepdim=True)
        return projected

    def windows(self, projected: Mapping[str, Tensor], size: tuple[int, int], image: int, unpad: bool) -> sva.Windows:
        """What the queries of one image of (width, height) look at; see sva.look."""
        features = [projected[name][image] for name in self.encoder_names]
        return sva.look(features, projected[CONTEXT][image, 0], size, self.side, unpad)

    def connect(self, projected: Mapping[str, Tensor], layouts: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The connector on the whole square: its output (images, tokens, hidden), and that of the MLP after it."""
        looks = [self.windows(projected, size, image, unpad=False) for image, size in enumerate(layouts)]
        queries = self.vision_query.expand(len(looks) * self.side**2, -1)
        sampled = self.connector(queries, looks).unflatten(0, (len(looks), -1))
        return sampled, self.mm_projector(sampled)

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[tuple[int, int]]) -> list[Visual]:
        """Projected features and global context -> rows of visual tokens without padding, each with a newline.

        Of an image more than `side` times as long as wide nothing is left, as in the original code.
        """
        found = []
        for image, (tokens, size) in enumerate(zip(self.connect(projected, layouts)[1], layouts, strict=True)):
            grid = sva.crop(tokens.unflatten(0, (self.side, self.side)), size)
            lines = torch.cat([grid, self.image_newline.expand(len(grid), 1, -1)], dim=1)
            found.append(Visual(lines.flatten(0, 1), self.windows(projected, size, image, unpad=True)))
        return found

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Refuse a prompt whose image is not where the checkpoint's samplers look for it.

        Raises:
            DataError: with the prompt's name.
        """
        places = [place for place, token in enumerate(ids) if token == templates.IMAGE_ID]
        if places not in ([], [self.image_position]):
            raise DataError(
                f"{name or 'prompt'}: image at token {' and '.join(map(str, places))}, but this checkpoint takes one "
                f"image, at token {self.image_position}: first in the question, in the template it was trained with"
            )

    @contextmanager
    def prefill(self, visuals: Sequence[Sequence[Visual]], offsets: Sequence[int]) -> Iterator[None]:
        """Context in which the prompt's pass through the language model updates the rows of the images.

        Args:
            visuals: of each sequence, of each image; a sequence without an image stays as it is.
            offsets: where each sequence begins, in tokens from the pass's first one: its padding, less what was read
                before (a prefix without images that the batch shares).
        """
        places = [
            (row, offset + self.image_position, own[0].extra)
            for row, (own, offset) in enumerate(zip(visuals, offsets, strict=True))
            if own
        ]
        layers = self.language_model.model.layers
        handles = []
        try:
            if places:
                for layer, sampler in zip(self.sampled_layers, self.samplers, strict=True):
                    hook = partial(self._update, sampler, places, len(visuals))
                    handles.append(layers[layer].register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def _update(
        sampler: sva.Sampler,
        places: Sequence[tuple[int, int, sva.Windows]],
        sequences: int,
        layer: nn.Module,
        args: Any,
        hidden: Tensor,
    ) -> Tensor | None:
        """Forward hook of a decoder layer: its output (batch, length, width) with the images' rows updated."""
        if hidden.shape[1] == 1:  # a decode step
            return None
        copies = hidden.shape[0] // sequences  # beams, or answers to one prompt, stand side by side
        hidden = hidden.clone()
        grids = []
        for row, start, look in places:
            count = look.rows * (look.columns + 1)
            rows = hidden[row * copies : (row + 1) * copies, start : start + count]
            if rows.shape[1] != count:
                raise DataError("a prompt was cut within its image, which this architecture can't run")
            grids.append(rows.unflatten(1, (look.rows, look.columns + 1))[:, :, :-1])  # a view without the newlines
        queries = torch.cat([grid.flatten(0, 2) for grid in grids])
        looks = [look for _, _, look in places for _ in range(copies)]
        updated = sampler(queries, looks).split([len(grid) * grid.shape[1] * grid.shape[2] for grid in grids])
        for grid, rows in zip(grids, updated, strict=True):
            grid.copy_(rows.reshape(grid.shape))
        return hidden
