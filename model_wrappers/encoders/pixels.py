"""What families share on the way from a picture to an encoder's tokens, bit for bit as the original code does it.

Sources: NVlabs/EAGLE at fef95f1, eagle/mm_utils.py:154-190; tsb0601/MMVP at 7635005, LLaVA/llava/mm_utils.py;
cambrian-mllm/cambrian at 539ffc3, cambrian/mm_utils.py; transformers' CLIPImageProcessor.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def colour(mean: Sequence[float]) -> tuple[int, int, int]:
    """A mean (0 to 1) as a uint8 colour, truncated as the original code does."""
    red, green, blue = (int(value * 255) for value in mean)
    return red, green, blue


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The image in the middle of a square of a colour. mm_utils.py, expand2square."""
    image = image.convert("RGB")
    if image.width == image.height:
        return image
    side = max(image.size)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def resize(image: Image.Image, size: int) -> np.ndarray:
    """PIL's bicubic resize to (size, size, 3) uint8."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def crop(image: Image.Image, size: int) -> np.ndarray:
    """Shortest side to `size` (bicubic), then the centre: (size, size, 3) uint8, as CLIPImageProcessor does."""
    image = image.convert("RGB")
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images, rows, columns, 3) uint8 -> (images, 3, rows, columns) float32.

    Rescaled in float64, then rounded and normalised in float32: bit for bit what transformers' processors did.
    """
    scaled: np.ndarray = (np.arange(256, dtype=np.uint8)[:, None] * (1 / 255)).astype(np.float32)
    return looked_up(pixels, (scaled - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32))


def looked_up(pixels: np.ndarray, values: np.ndarray) -> Tensor:
    """(images, rows, columns, 3) uint8 -> (images, 3, rows, columns) of what each of 256 brightnesses becomes.

    Computed once for each brightness instead of each pixel, a fifth of the time.

    Args:
        pixels: the colours.
        values: (256, 3) float32, of each brightness of each colour.
    """
    images, rows, columns, colours = pixels.shape
    made = np.empty((images, colours, rows, columns), dtype=np.float32)
    for channel in range(colours):
        np.take(values[:, channel], pixels[..., channel], out=made[:, channel], mode="clip")  # no copy, unlike `raise`
    return torch.from_numpy(made)


def to_grid(tokens: Tensor) -> Tensor:
    """(batch, rows*columns, channels) of a square grid -> (batch, channels, rows, columns)."""
    batch, count, channels = tokens.shape
    side = math.isqrt(count)
    return tokens.transpose(1, 2).reshape(batch, channels, side, side)


def resize_aligned(maps: Tensor, size: int) -> Tensor:
    """Resize (batch, channels, h, w) to size x size, bilinear with align_corners=True, computed in float32."""
    return F.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=True).to(maps.dtype)


def to_tokens(maps: Tensor) -> Tensor:
    """(units, channels, rows, columns) -> (units, rows*columns, channels)."""
    return maps.flatten(2).transpose(1, 2)


def resize_maps(maps: Tensor, grid: int) -> Tensor:
    """Resize (units, channels, h, w) to grid x grid, bilinear with align_corners=False, computed in float32."""
    if maps.shape[-2:] == (grid, grid):
        return maps
    return F.interpolate(maps.float(), size=(grid, grid), mode="bilinear", align_corners=False).to(maps.dtype)
