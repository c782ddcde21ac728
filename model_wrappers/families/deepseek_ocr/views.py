"""What DeepSeek-OCR sees of an image: one view of the whole, and in `gundam` mode tiles besides.

Source: modeling_deepseekocr.py of the hub repository (a public copy, gustavoMarajo/ia_ds_ocr at ac73f84), lines 27-40,
157-211, 775-860; the lines of a comment are of that file.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from redundancy_eval.errors import DataError, SetupError

TILE = 640  # side of a tile in pixels, whatever `image_size` says (lines 172, 820)
FEWEST_TILES = 2
_GREY = (127, 127, 127)
_ORIENTATION = 0x0112  # of EXIF; from 5 on, rows and columns change places
_NO_CROP_AT = 640  # up to here the image is squeezed to the square, else padded (line 843)


@dataclass(frozen=True)
class Resolution:
    """`base_size`, `image_size`, `crop_mode` of the original's `infer`: sides in pixels, and whether tiles are cut."""

    base_size: int
    image_size: int
    crop: bool

    @property
    def side(self) -> int:
        """Of the view of the whole image."""
        return self.base_size if self.crop else self.image_size

    def tiled(self, size: tuple[int, int]) -> bool:
        """Whether tiles are cut of an image of (width, height)."""
        return self.crop and max(size) > TILE


MODES = {
    "tiny": Resolution(512, 512, False),
    "small": Resolution(640, 640, False),
    "base": Resolution(1024, 1024, False),
    "large": Resolution(1280, 1280, False),
    "gundam": Resolution(1024, 640, True),
}


@dataclass(frozen=True)
class Layout:
    """Columns and rows of tiles (0, 0 for none), and the tokens on a side of the view of the whole."""

    columns: int
    rows: int
    side: int

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return self.columns * self.rows

    @property
    def places(self) -> int:
        """Tokens that the encoders give, tiles first."""
        return self.tiles * tokens(TILE) ** 2 + self.side**2


def resolution(
    mode: str = "gundam",
    base_size: int | str | None = None,
    image_size: int | str | None = None,
    crop_mode: bool | str | None = None,
) -> Resolution:
    """The resolution that model arguments ask for: a mode, and what differs from it.

    Raises:
        SetupError: no such mode, a value that is none, or a combination in which the original code drops features.
    """
    if mode not in MODES:
        raise SetupError(f"mode must be one of {', '.join(MODES)}; not {mode!r}")
    usual = MODES[mode]
    if crop_mode is not None and str(crop_mode).lower() not in ("true", "false"):
        raise SetupError(f"crop_mode must be true or false; not {crop_mode!r}")
    crop = usual.crop if crop_mode is None else str(crop_mode).lower() == "true"
    base = usual.base_size if base_size is None else _side("base_size", base_size)
    image = (TILE if crop else usual.image_size) if image_size is None else _side("image_size", image_size)
    asked = Resolution(base, image, crop)
    if crop and asked.image_size != TILE:
        raise SetupError(
            f"image_size={asked.image_size} with tiles: tiles have {TILE} pixels whatever it says, and the original "
            "code counts other places for them, which drops features in silence or fails; leave image_size out"
        )
    if not crop and base_size is not None and asked.base_size != asked.image_size:
        raise SetupError(
            f"base_size={asked.base_size} decides nothing without tiles: the image has image_size={asked.image_size}"
        )
    return asked


def _side(name: str, value: object) -> int:
    try:
        side = int(str(value))
    except ValueError:
        side = 0
    if side < 64 or side % 64 or side > 4096:
        raise SetupError(f"{name} must be a multiple of 64 from 64 to 4096 (512, 640, 1024, 1280); not {value!r}")
    return side


def tokens(side: int) -> int:
    """Tokens on a side of a view: patches of 16 pixels, then two convolutions of stride 2."""
    return math.ceil(side // 16 / 4)


def tile_grid(width: int, height: int, most: int) -> tuple[int, int]:
    """(columns, rows) of the tiles of an image: the shape nearest to its own. Lines 157-191.

    Among grids of one shape a larger one is taken if the image has more than half its area; among equally near shapes
    the first, small grids first, grids of equal count in the order of a Python set, as in the original.
    """
    pairs = (
        (columns, rows)
        for count in range(FEWEST_TILES, most + 1)
        for columns in range(1, count + 1)
        for rows in range(1, count + 1)
        if FEWEST_TILES <= columns * rows <= most
    )
    best, nearest = (1, 1), math.inf
    for grid in sorted(set(pairs), key=lambda grid: grid[0] * grid[1]):
        distance = abs(width / height - grid[0] / grid[1])
        large = width * height > 0.5 * TILE * TILE * grid[0] * grid[1]
        if distance < nearest or (distance == nearest and large):
            best, nearest = grid, distance
    return best


def turned_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image, turned as its EXIF data say."""
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (width, height)


def layout(image: Image.Image, asked: Resolution, most: int) -> Layout:
    """How an image is seen.

    Args:
        image: as it came, not turned.
        asked: the resolution.
        most: most tiles.

    Raises:
        SetupError: tiles with another `image_size` than theirs.
    """
    size = turned_size(image)
    if not asked.tiled(size):
        return Layout(0, 0, tokens(asked.side))
    if asked.image_size != TILE:
        raise SetupError(f"tiles have {TILE} pixels, and image_size says {asked.image_size}: features would be lost")
    return Layout(*tile_grid(*size, most), tokens(asked.side))


def views(image: Image.Image, asked: Resolution, most: int) -> Iterator[np.ndarray]:
    """The tiles of an image, row by row, and last the whole: (side, side, 3) uint8 each.

    Raises:
        DataError: the image is too thin for a view of it.
    """
    seen = layout(image, asked, most)
    image = ImageOps.exif_transpose(image).convert("RGB")  # alpha is dropped, not blended
    if seen.tiles:
        # Stretched to the grid, whatever the shape of the image.
        grid = np.asarray(image.resize((seen.columns * TILE, seen.rows * TILE)))
        yield from grid.reshape(seen.rows, TILE, seen.columns, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    side = asked.side
    if not asked.crop and side <= _NO_CROP_AT:
        yield np.asarray(image.resize((side, side)))
        return
    if round(min(image.size) * side / max(image.size)) < 1:
        raise DataError(f"an image of {image.width} x {image.height} pixels is too thin: nothing of it would be left")
    yield np.asarray(ImageOps.pad(image, (side, side), color=_GREY))
