"""Cambrian's spatial vision aggregator: each cell of a grid of queries looks at its own window of every encoder's map.

An encoder with a map r times as fine as the query grid gives a window of r*r keys per query. The keys of all encoders
share one softmax. The same layers make the visual tokens (connector) and update them inside the language model.

Source: cambrian-mllm/cambrian at 539ffc3; cambrian/model/vision_sampler.py and the rearranging, masking and unpadding
of cambrian/model/cambrian_arch.py:203-330.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 16  # in every layer, whatever its width
# Beginnings of the names of a layer's tensors: released and own.
_NAMES = (
    ("cross_attn.q_proj.", "query."), ("cross_attn.k_proj_", "keys."), ("cross_attn.v_proj_", "values."),
    ("cross_attn.o_proj.", "attended."), ("pos_embed_", "positions."), ("proj_context.", "context."),
    ("proj_in.", "enter."), ("proj_out.linear_1.", "leave.0."), ("proj_out.linear_2.", "leave.2."),
)  # fmt: skip


def rename(key: str) -> str:
    """Released name of a sampler's tensor, `layers.<n>.<rest>` -> own name."""
    return _translate(key, _NAMES)


def release(key: str) -> str:
    """The inverse of `rename`."""
    return _translate(key, [(own, released) for released, own in _NAMES])


def _translate(key: str, names: Sequence[tuple[str, str]]) -> str:
    found = re.match(r"layers\.\d+\.", key)
    head = found[0] if found else ""
    rest = key.removeprefix(head)
    for old, new in names:
        if rest.startswith(old):
            return head + new + rest.removeprefix(old)
    return key


@dataclass(frozen=True)
class Windows:
    """What the queries of one image look at.

    Attributes:
        features: of each encoder, (queries, window, channels).
        allowed: of each encoder, (queries, window) bool.
        context: the global context, (channels,).
        rows, columns: of the grid of queries.
    """

    features: tuple[Tensor, ...]
    allowed: tuple[Tensor, ...]
    context: Tensor
    rows: int
    columns: int


def margins(size: tuple[int, int], grid: int) -> tuple[int, int]:
    """Padding of an image of (width, height), padded to a square, on each side of a grid: rows, columns."""
    width, height = size
    if width > height:
        return (grid - int(height * (grid / width))) // 2, 0
    return 0, (grid - int(width * (grid / height))) // 2


def crop(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """(side, side, ...) without the rows and columns that are padding of an image of (width, height)."""
    side = grid.shape[0]
    top, left = margins(size, side)
    return grid[top : side - top, left : side - left]


def cut(tokens: Tensor, side: int) -> Tensor:
    """(side*r * side*r, ...) of a map -> (side, side, r*r, ...): each query's window, row by row."""
    r = math.isqrt(tokens.shape[0]) // side
    rest = tokens.shape[1:]
    return tokens.reshape(side, r, side, r, *rest).transpose(1, 2).reshape(side, side, r * r, *rest)


def allowed(size: tuple[int, int], side: int, r: int, device: torch.device) -> Tensor:
    """Which keys hold image and not padding, (side, side, r*r) bool; all keys of a window that holds none.

    Rounded on the encoder's own grid, side*r, which can disagree with the query grid by part of a window.
    """
    grid = side * r
    top, left = margins(size, grid)
    inside = torch.zeros(grid, grid, dtype=torch.bool, device=device)
    inside[top : grid - top, left : grid - left] = True
    windows = cut(inside.flatten(), side)
    return windows | ~windows.any(-1, keepdim=True)


def look(features: Sequence[Tensor], context: Tensor, size: tuple[int, int], side: int, unpad: bool) -> Windows:
    """Windows of one image.

    Args:
        features: of each encoder, (tokens, channels) of a square map; a multiple of `side` rows.
        context: the global context.
        size: (width, height) of the image.
        side: rows and columns of the query grid.
        unpad: only of the queries that are left when padding is cropped.
    """
    kept, masks, rows, columns = [], [], side, side
    for tokens in features:
        windows = cut(tokens, side)
        mask = allowed(size, side, math.isqrt(windows.shape[2]), tokens.device)
        if unpad:
            windows, mask = crop(windows, size), crop(mask, size)
        rows, columns = mask.shape[:2]
        kept.append(windows.flatten(0, 1))
        masks.append(mask.flatten(0, 1))
    return Windows(tuple(kept), tuple(masks), context, rows, columns)


class SamplerLayer(nn.Module):
    """Queries attend to their windows. Source: VisionCrossAttentionLayer, vision_sampler.py:244-327.

    Args:
        query: channels of the queries.
        hidden: channels of features, context and attention.
        windows: keys per query of each encoder; those with more than one get position embeddings.
    """

    def __init__(self, query: int, hidden: int, windows: Sequence[int]):
        super().__init__()
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.enter = nn.Linear(query + hidden, hidden, bias=False)
        self.query = self._projection(hidden)
        self.keys = nn.ModuleList(self._projection(hidden) for _ in windows)
        self.values = nn.ModuleList(self._projection(hidden) for _ in windows)
        self.attended = nn.Linear(hidden, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Sequential(
            nn.Linear(hidden, hidden, bias=False), nn.GELU(), nn.Linear(hidden, query, bias=False)
        )
        self.positions = nn.ParameterDict(
            {str(i): nn.Parameter(torch.zeros(count, hidden)) for i, count in enumerate(windows) if count > 1}
        )

    @staticmethod
    def _projection(hidden: int) -> nn.Sequential:
        return nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden, bias=False))

    def forward(self, queries: Tensor, context: Tensor, features: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Queries (n, query), context (n, hidden), features [(n, window, hidden)], mask (n, keys) -> (n, query)."""
        placed = [x + self.positions[str(i)] if str(i) in self.positions else x for i, x in enumerate(features)]
        entered = self.enter(torch.cat([queries, self.context(context)], dim=-1))
        keys = torch.cat([project(x) for project, x in zip(self.keys, placed, strict=True)], dim=1)
        values = torch.cat([project(x) for project, x in zip(self.values, placed, strict=True)], dim=1)
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(entered)[:, None]), self._heads(keys), self._heads(values),
            attn_mask=mask[:, None, None],
        )  # fmt: skip
        return queries + self.leave(self.norm(entered + self.attended(attended.flatten(1))))

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Sampler(nn.Module):
    """A stack of layers. Source: VisionTokenSampler, vision_sampler.py:405-419."""

    def __init__(self, query: int, hidden: int, windows: Sequence[int], depth: int = 1):
        super().__init__()
        self.layers = nn.ModuleList(SamplerLayer(query, hidden, windows) for _ in range(depth))

    def forward(self, queries: Tensor, images: Sequence[Windows]) -> Tensor:
        """Queries of all images in turn, (n, query) -> (n, query)."""
        encoders = range(len(images[0].features))
        features = [torch.cat([image.features[i] for image in images]) for i in encoders]
        mask = torch.cat([torch.cat(image.allowed, dim=-1) for image in images])
        context = torch.cat([image.context.expand(image.rows * image.columns, -1) for image in images])
        for layer in self.layers:
            queries = layer(queries, context, features, mask)
        return queries
