"""What MoVA's encoders see of a picture: three normalised squares and Pix2Struct's patches.

Source: TempleX98/MoVA at 52f83e5, mova/mm_utils.py:141-175 and mova_encoder.py:66-100; transformers 4.37.2,
models/pix2struct/image_processing_pix2struct.py.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.encoders.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    colour,
    pad_to_square,
    resize,
)  # fmt: skip

PATCH = 16
# Key -> mean and deviation; the mean is the padding's colour too.
SQUARES = {
    "base": (CLIP_MEAN, CLIP_STD),
    "dinov2": (IMAGENET_MEAN, IMAGENET_STD),
    "high": (CLIP_MEAN, CLIP_STD),
}
# Encoder -> key of what it sees.
SEEN = {
    "clip": "base", "dinov2": "dinov2", "vary": "high", "codetr": "high", "pix2struct": "patches", "deplot": "patches",
    "biomedclip": "base", "sam": "high",
}  # fmt: skip


def square(image: Image.Image, key: str, side: int) -> np.ndarray:
    """Padded with the key's mean colour, resized bicubically: (side, side, 3) uint8."""
    return resize(pad_to_square(image, colour(SQUARES[key][0])), side)


def grid(side: int, most: int) -> int:
    """Rows and columns of patches of a square picture of `side` pixels: of 2025 at most 45, or 44 by its rounding."""
    scale = math.sqrt(most * (PATCH / side) * (PATCH / side))
    return max(min(math.floor(scale * side / PATCH), most), 1)


def patches(image: Image.Image, most: int) -> Tensor:
    """Pix2Struct's patches (most, 2 + 3*PATCH**2) float32: row and column from 1, then the pixels; zeros fill up.

    The picture is padded to a square at its own size, standardised by its own mean and deviation, resized and cut.
    """
    pixels = np.asarray(pad_to_square(image, colour(CLIP_MEAN))).astype(np.float32)
    deviation = max(float(np.std(pixels)), 1.0 / math.sqrt(pixels.size))
    whole = torch.from_numpy((pixels - np.mean(pixels)) / np.float32(deviation)).permute(2, 0, 1)[None]
    count = grid(pixels.shape[0], most)
    size = (count * PATCH, count * PATCH)
    whole = F.interpolate(whole, size=size, mode="bilinear", align_corners=False, antialias=True)
    # unfold orders a patch as (channel, row, column); Pix2Struct wants (row, column, channel)
    cut = F.unfold(whole, PATCH, stride=PATCH)[0].T.unflatten(1, (3, -1)).transpose(1, 2).flatten(1)
    index = torch.arange(1.0, count + 1)
    where = torch.stack([index.repeat_interleave(count), index.repeat(count)], dim=-1)
    return F.pad(torch.cat([where, cut], dim=-1), (0, 0, 0, most - count**2))
