"""DeepSeek-OCR and Unlimited-OCR: SAM's map feeds CLIP and stands beside CLIP's output; a decoder with experts.

An image is seen as a whole and, in `gundam` mode, as tiles of 640 pixels besides (views.py). Every view goes through
SAM and then CLIP; their outputs stand side by side, CLIP's channels first, and one linear layer makes visual tokens of
them. The tiles' tokens stand as one mosaic in front of the whole's, each row of either ends with a newline.

A dropped encoder's half is zero as it enters the linear layer. A dropped SAM still runs as long as CLIP does, because
CLIP sees through it; with `chain=cut` it does not, and CLIP gets zeros for a map: what is left of CLIP's output then
depends on no pixel.

Views have grids of several sizes, so a unit is one place of them: the stand-ins `mean` and `noise` know one mean for
all places, and `shuffle` takes each place from another image of the sample.

What the original code hard-codes are defaults here. A checkpoint of another size says so in its config.json:

    "encoder_configs": {"sam": {"width": 48, "layers": 4, ...}, "clip": {"width": 48, "layers": 3, ...}}

Source: the hub's remote code, modeling_deepseekocr.py and deepencoder.py (a public copy, gustavoMarajo/ia_ds_ocr at
ac73f84).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders.pixels import to_tokens
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.deepseek_ocr import card, names, views
from redundancy_eval.model_wrappers.families.deepseek_ocr.encoders import KINDS, configs
from redundancy_eval.model_wrappers.families.deepseek_ocr.language import LanguageModel, text_config
from redundancy_eval.model_wrappers.families.deepseek_ocr.views import Layout

CHAINS = ("keep", "cut")
BLIND = "clip without sam"  # an entry that says that CLIP's output is to be that on a map of zeros
TILES, WHOLE = "tiles", "whole"  # keys of an image's pixels, behind its number
_MARKS = ("<image>",)


def language_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of the language model.

    The original code reads the top of the config; what the part `language_config` repeats must be the same.

    Raises:
        SetupError: the two differ.
    """
    if config["model_type"] == card.NATIVE:
        return {card.WINDOW: 128, "first_k_dense_replace": 1, **config["text_config"]}  # transformers' defaults
    for key, value in (config.get("language_config") or {}).items():
        if key in card.SIZES_OF_LANGUAGE and key in config and config[key] != value:
            raise SetupError(f"language_config.{key} is {value!r}, but {key} is {config[key]!r}: which holds?")
    return config


class DeepseekOcr(FamilyModel):
    """A DeepSeek-OCR: views -> SAM -> CLIP -> (ablate) -> side by side -> linear -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model; the encoders have `eager` or else `sdpa`.
        chain: what CLIP sees when SAM is dropped: `keep`, SAM's output; `cut`, zeros.
        max_tiles: most tiles of an image; None for what the original code of the checkpoint has.
        resolution: mode, base_size, image_size, crop_mode; see views.resolution.
    """

    family = card.FAMILY
    first_layer = "projector"
    template = "plain"
    max_images = 1

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        chain: str = "keep",
        max_tiles: int | str | None = None,
        **resolution: Any,
    ):
        super().__init__(config)
        _check_chain(chain)
        self.resolution = views.resolution(**resolution)
        language = language_part(config)
        text, towers = text_config(language, attention), configs(config, attention)
        self.max_tiles = _most_tiles(max_tiles, config["model_type"], self.resolution)
        parts = {"clip": towers.encoder_config, "sam": towers.sam_config}
        width = towers.encoder_config.hidden_size
        self._shapes = {**{name: (1, width) for name in self.encoder_names}, BLIND: (1, 0)}
        self.encoders.update(
            {name: KINDS[name](parts[name]) for name in self.encoder_names if keep is None or name in keep}
        )
        self.projector = nn.Linear(2 * width, text.hidden_size)
        self.image_newline = nn.Parameter(torch.zeros(text.hidden_size))
        self.view_seperator = nn.Parameter(torch.zeros(text.hidden_size))  # spelt as in the release
        self.language_model = LanguageModel(text)
        self.max_length = text.max_position_embeddings
        self._blind: dict[int, Tensor] = {}  # tokens on a side -> CLIP's output on a map of zeros

    @staticmethod
    def needed(
        names: Sequence[str], mask: Collection[str], site: str, chain: str = "keep", **settings: Any
    ) -> tuple[str, ...]:
        """The kept encoders, and a dropped SAM that CLIP sees through.

        Raises:
            SetupError: no such `chain`.
        """
        _check_chain(chain)
        fed = chain == "keep" and "clip" not in mask
        return tuple(name for name in names if name not in mask or (name == "sam" and fed))

    @staticmethod
    def replaced(mask: Sequence[str], site: str, chain: str = "keep", **settings: Any) -> tuple[str, ...]:
        """The dropped encoders; with `chain=cut` and SAM among them also what CLIP saw."""
        return (*mask, BLIND) if DeepseekOcr.feeds(mask, chain) else tuple(mask)

    @staticmethod
    def feeds(mask: Sequence[str], chain: str = "keep", **settings: Any) -> tuple[str, ...]:
        """With `chain=cut` a dropped SAM is missing in what CLIP sees, too."""
        return ("sam feeds clip",) if chain == "cut" and "sam" in mask and "clip" not in mask else ()

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of one place of each encoder's output."""
        return dict(self._shapes)

    def place_sides(self) -> dict[str, int]:
        """Both encoders' tokens lie on one grid; one token each is a place."""
        return dict.fromkeys(self.encoder_names, 1)

    def layouts(self, images: Sequence[Image.Image]) -> list[Layout]:
        """How each image is seen."""
        return [views.layout(image, self.resolution, self.max_tiles) for image in images]

    def units(self, layout: Layout) -> int:
        """How many places an image of this layout has."""
        return layout.places

    def rename(self, released: str) -> weights.Target:
        """Released tensor name, original or transformers' -> own name or names; None for what is not needed."""
        part, _, rest = names.placed(released).partition(":")
        if part not in KINDS:
            return (
                names.language_name(rest, self.language_model.config.n_routed_experts) if part == "language" else rest
            )
        if part not in self.encoders:
            return None
        return weights.inside(f"encoders.{part}.", self.encoders[part].rename(rest))

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that the original release gives to one of our tensors."""
        part, _, rest = own.partition(".")
        if part == "encoders":
            name, _, rest = rest.partition(".")
            return f"model.{names.TOWERS[name]}.{self.encoders[name].release(rest)}"
        return names.release(own)

    def read_tokenizer(self, folder: Path) -> Any:
        """The tokenizer.json itself: through `auto_map` transformers would ask for remote code.

        The beginning of the text is put in front as the original code does, whatever the file says.

        Raises:
            SetupError: it cannot be read, or lacks the token of images.
        """
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        except Exception as error:
            # Missing and damaged files raise many kinds; the user needs one line of any.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SetupError(f"cannot read the tokenizer in {folder}: {reason}") from error
        hub.check_tokenizer(tokenizer, folder)
        absent = [mark for mark in _MARKS if mark not in tokenizer.get_vocab()]
        if absent or tokenizer.bos_token is None:
            raise SetupError(f"the tokenizer in {folder} has no token {' or '.join(absent) or 'that begins a text'}")
        first = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
        )
        return tokenizer

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """The tokenizer's end, as the original's inference does."""
        return (tokenizer.eos_token_id,)

    def tied(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """By the whole config, or by the language model's part."""
        return language_models.tied(config, language_part(config))

    def preprocess_uint8(self, image: Image.Image) -> list[np.ndarray]:
        """The views of an image, tiles first and the whole last: (side, side, 3) uint8."""
        return list(views.views(image, self.resolution, self.max_tiles))

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> normalised views: {"0/tiles": (tiles, 3, 640, 640), "0/whole": (1, 3, side, side), "1/whole": ...}.

        Raises:
            DataError: the original code would not look at an image.
        """
        found = {}
        for number, image in enumerate(images):
            *tiles, whole = map(normalise, self.preprocess_uint8(image))
            if whole.sum() == 0 or (tiles and torch.stack(tiles).sum() == 0):
                # Lines 403 and 419: that is how the original tells that there is no image.
                raise DataError(
                    f"an image of {image.width} x {image.height} pixels whose normalised values add up to exactly 0: "
                    "the original code takes that for no image, and does not look at it"
                )
            if tiles:
                found[f"{number}/{TILES}"] = torch.stack(tiles)
            found[f"{number}/{WHOLE}"] = whole[None]
        return found

    def join(self, pixels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Views of images that were preprocessed each by itself, numbered anew."""
        return {
            f"{number}/{key.partition('/')[2]}": views
            for number, own in enumerate(pixels)
            for key, views in own.items()
        }

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (places, 1, channels)}, image by image, of each the tiles' places first.

        Where SAM is not among the names CLIP sees a map of zeros.
        """
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in self.encoder_names if name in names}
        for kind in (TILES, WHOLE):
            own = {key: value for key, value in pixels.items() if key.endswith(kind)}
            if not own:
                continue
            counts = [len(value) for value in own.values()]
            for name, value in self._see(torch.cat(list(own.values())), parts).items():
                places = [part.flatten(0, 1)[:, None] for part in value.split(counts)]
                parts[name] |= dict(zip(own, places, strict=True))
        return {name: torch.cat([found[key] for key in pixels]) for name, found in parts.items()}

    def _see(self, pixels: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders on views of one size: {name: (views, tokens, channels)}."""
        found = {}
        if "sam" in names:
            maps = self.encoders["sam"](pixels)
            found["sam"] = to_tokens(maps)
        else:
            side = views.tokens(pixels.shape[-1])
            maps = pixels.new_zeros(len(pixels), self._shapes["sam"][1], side, side)
        if "clip" in names:
            found["clip"] = self.encoders["clip"](maps)
        return found

    def blind(self, side: int) -> Tensor:
        """What CLIP gives for a map of zeros, of `side` x `side` places: (places, 1, channels)."""
        if side not in self._blind:
            maps = self.projector.weight.new_zeros(1, self._shapes["sam"][1], side, side)
            self._blind[side] = self.encoders["clip"](maps)[0][:, None]
        return self._blind[side]

    def halves(self, projected: Mapping[str, Tensor], layouts: Sequence[Layout]) -> dict[str, Tensor]:
        """What enters the concatenation: {encoder: (places, 1, channels)}."""
        found = {name: projected[name] for name in self.encoder_names}
        if BLIND in projected:
            sides = [s for own in layouts for s in (*[views.tokens(views.TILE)] * own.tiles, own.side)]
            found["clip"] = torch.cat([self.blind(side) for side in sides])
        return found

    def tokens(self, projected: Mapping[str, Tensor], layouts: Sequence[Layout]) -> Tensor:
        """The linear layer's output for every place: (places, hidden)."""
        halves = self.halves(projected, layouts)
        rows: Tensor = self.projector(torch.cat([halves[name] for name in self.encoder_names], dim=-1))
        return rows[:, 0]

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Layout]) -> list[Visual]:
        """Features of both encoders -> for each image the mosaic of its tiles, the whole, and a separator."""
        parts = self.tokens(projected, layouts).split([layout.places for layout in layouts])
        return [Visual(self._arrange(rows, layout)) for rows, layout in zip(parts, layouts, strict=True)]

    def _arrange(self, rows: Tensor, layout: Layout) -> Tensor:
        whole = self._lines(rows[-(layout.side**2) :].unflatten(0, (layout.side, layout.side)))
        if not layout.tiles:
            return torch.cat([whole, self.view_seperator[None]])
        side = views.tokens(views.TILE)
        tiles = rows[: -(layout.side**2)].unflatten(0, (layout.rows, layout.columns, side, side))
        mosaic = self._lines(tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1))
        return torch.cat([mosaic, whole, self.view_seperator[None]])

    def _lines(self, grid: Tensor) -> Tensor:
        """(rows, columns, hidden) -> one after the other, each row with a newline at its end."""
        return torch.cat([grid, self.image_newline.expand(len(grid), 1, -1)], dim=1).flatten(0, 1)


def normalise(view: np.ndarray) -> Tensor:
    """(side, side, 3) uint8 -> (3, side, side) float32 from -1 to 1, bit for bit as torchvision did."""
    pixels = torch.from_numpy(view.transpose(2, 0, 1).copy()).float().div(255)
    return (pixels - 0.5) / 0.5


def _check_chain(chain: str) -> None:
    if chain not in CHAINS:
        raise SetupError(f"chain must be one of {', '.join(CHAINS)}; not {chain!r}")


def _most_tiles(told: int | str | None, kind: str, resolution: views.Resolution) -> int:
    if told is None and kind in card.MOST_TILES:
        return card.MOST_TILES[kind]
    if told is None and resolution.crop:
        raise SetupError(
            "a config of transformers does not say which model it was made of: max_tiles=9 (DeepSeek-OCR) or "
            "max_tiles=32 (Unlimited-OCR)"
        )
    try:
        most = views.FEWEST_TILES if told is None else int(told)
    except ValueError:
        most = 0
    if not views.FEWEST_TILES <= most <= 64:
        raise SetupError(f"max_tiles must be a whole number from {views.FEWEST_TILES} to 64; not {told!r}")
    return most
