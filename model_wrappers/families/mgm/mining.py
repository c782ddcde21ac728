"""Patch info mining: each CLIP token looks at the ConvNeXt positions within its own patch.

Source: dvlab-research/MGM at 769820c, mgm/model/mgm_arch.py:258-271 (maps) and :293-311 (attention).
"""

import math

import torch.nn.functional as F
from torch import Tensor


def windows(maps: Tensor, grid: int, patches: int) -> Tensor:
    """Cut a map into the windows of the tokens of each crop.

    Args:
        maps: (rows, columns, channels) of a square.
        grid: crops along a side.
        patches: tokens along a side of a crop.

    Returns:
        (grid**2 * patches**2, window, channels): crops row by row, in each its tokens row by row, in each its window's
        positions row by row.
    """
    side = len(maps) // (grid * patches)
    cut = maps.reshape(grid, patches, side, grid, patches, side, -1)
    return cut.permute(0, 3, 1, 4, 2, 5, 6).reshape(-1, side**2, maps.shape[-1])


def smaller(maps: Tensor, grid: int) -> Tensor:
    """The map (rows, columns, channels) for the view of the whole image: a `grid`-th of it along each side.

    Bilinear without antialiasing, in float32; for an even grid the mean of the 2x2 positions in the middle.
    """
    square = maps.permute(2, 0, 1)[None].float()
    square = F.interpolate(square, scale_factor=1 / grid, mode="bilinear", align_corners=False)
    return square[0].permute(1, 2, 0).to(maps.dtype)


def mine(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of one head of each token over its own window.

    Args:
        query: (tokens, channels).
        key, value: (tokens, window, channels).

    Returns:
        The attention (tokens, window), and what is mined (tokens, channels).
    """
    scores = query[:, None] @ (key.transpose(-1, -2) / math.sqrt(key.shape[-1]))
    attention = scores.nan_to_num().softmax(-1)
    return attention[:, 0], (attention @ value)[:, 0]
