"""From a picture to the pixels of an encoder, by one of three policies, bit for bit as torchvision does it.

Sources: TRI-ML/prismatic-vlms at 874c5bb, prismatic/models/backbones/vision/base_vision.py:42-170; torchvision 0.17,
transforms/functional.py (`resize`, `center_crop`, `pad`, `to_tensor`, `normalize`); openvla/openvla at c8f03f4,
prismatic/extern/hf/processing_prismatic.py:113-131.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.encoders.pixels import resize

Colour = tuple[int, int, int]


def square(image: Image.Image, size: int, policy: str, colour: Colour) -> np.ndarray:
    """An image as (size, size, 3) uint8.

    Args:
        image: of any mode; alpha is dropped.
        size: side of the result.
        policy: `resize-naive` (to the square, whatever the shape), `resize-crop` (the shorter side, then the centre) or
            `letterbox` (padded first, which may leave one pixel missing, then as `resize-crop`).
        colour: of the padding.
    """
    image = image.convert("RGB")
    if policy == "resize-naive":
        return resize(image, size)
    return _crop(_padded(image, colour) if policy == "letterbox" else image, size)


def _padded(image: Image.Image, colour: Colour) -> Image.Image:
    """Half of what is missing to a square, rounded down, on both sides: one pixel of an odd difference is missing."""
    longest = max(image.size)
    beside, above = ((longest - side) // 2 for side in image.size)
    padded = Image.new("RGB", (image.width + 2 * beside, image.height + 2 * above), colour)
    padded.paste(image, (beside, above))
    return padded


def _crop(image: Image.Image, size: int) -> np.ndarray:
    """The shorter side to `size`, the longer one in proportion, rounded down; then the centre."""
    shortest = min(image.size)
    width, height = (size if side == shortest else int(size * side / shortest) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)  # halves to even, as torchvision
    return np.asarray(image.crop((left, top, left + size, top + size)))


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images, rows, columns, 3) uint8 -> (images, 3, rows, columns) float32, all of it in float32."""
    values = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).contiguous().float() / 255
    m, s = (torch.tensor(told, dtype=torch.float32)[:, None, None] for told in (mean, std))
    return (values - m) / s
