"""MoV-Adapter: what MoVA's projector makes of CLIP's tokens, of the routed experts' maps and of the question.

A block adds what cross-attention draws from each routed expert, weighted by a gate that reads the question and the
block's input; then self-attention and an MLP. Half of the sum with the input is downsampled to a quarter of the tokens.

Source: TempleX98/MoVA at 52f83e5, mova/model/multimodal_projector/builder.py:132-440 (the projector), timm/models/
regnet.py:176-240 there (the downsampling block).
"""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redundancy_eval.errors import SetupError

HEAD = 64  # channels of an attention head: upstream's rotary tables fix it
_STAGE = re.compile(r"^downsample\.(\d)\.b1\.")  # a stage of one block
Trace = dict[str, Tensor]


def rotary_table(side: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (side*side, HEAD): half of the channels turns with the row, half with the column.

    Pairs of neighbouring channels turn together; positions are 0 to side - 1.
    """
    half = HEAD // 2
    frequencies = 10000.0 ** -(torch.arange(0, half, 2).float() / half)
    angles = torch.outer(torch.arange(side).float(), frequencies).repeat_interleave(2, dim=-1)
    rows, columns = angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)
    table = torch.cat([rows, columns], dim=-1).reshape(side * side, HEAD)
    return table.cos(), table.sin()


def turned(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys (batch, heads, positions, HEAD), turned."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return (x * table[0] + torch.stack((-odd, even), dim=-1).flatten(-2) * table[1]).to(x.dtype)


class Attention(nn.Module):
    """Attention with turned queries and keys, without biases, and a norm before the output layer."""

    def __init__(self, width: int, source: int):
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(source, width, bias=False)
        self.v_proj = nn.Linear(source, width, bias=False)
        self.inner_attn_ln = nn.LayerNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, value: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """x (batch, positions, width) looks at value (batch, positions, source)."""
        parts = (self.q_proj(x), self.k_proj(value), self.v_proj(value))
        q, k, v = (part.unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(turned(q, table), turned(k, table), v)
        return self.proj(self.inner_attn_ln(seen.transpose(1, 2).flatten(2)))


class GatedMlp(nn.Module):
    """SwiGLU with a norm inside."""

    def __init__(self, width: int):
        super().__init__()
        inner = int(width * 8 / 3)
        self.w1, self.w2 = nn.Linear(width, inner), nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner)
        self.w3 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, width) -> the same."""
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class Block(nn.Module):
    """One block of the adapter.

    Args:
        width: channels of CLIP.
        experts: name -> channels, in order.
        text: channels of the question's feature.
        most: how many experts the gate lets through.
    """

    def __init__(self, width: int, experts: Mapping[str, int], text: int, most: int):
        super().__init__()
        self.names, self.most = tuple(experts), most
        self.cross_attn = nn.ModuleList(Attention(width, channels) for channels in experts.values())
        self.norm1 = nn.ModuleList(nn.LayerNorm(width) for _ in experts)
        self.norm2 = nn.ModuleList(nn.LayerNorm(channels) for channels in experts.values())
        self.self_attn = Attention(width, width)
        self.norm3, self.norm4 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = GatedMlp(width)
        self.gate = nn.Sequential(nn.Linear(text + width, width), nn.GELU(), nn.Linear(width, len(experts)))

    def weights(self, x: Tensor, text: Tensor, routed: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """The gate: logits and weights (batch, experts), and the experts that it lets through (batch, most).

        Experts that are not routed lose by a million; softmax in float32, then the largest, renormalised.
        """
        logits = self.gate(torch.cat([text, x.mean(1)], dim=-1))
        out = torch.tensor([0.0 if name in routed else -1e6 for name in self.names], device=x.device)
        shares = (logits.float() + out).softmax(-1)
        chosen = shares.topk(self.most, dim=-1).indices
        kept = shares * torch.zeros_like(shares).scatter(-1, chosen, 1.0)
        return logits, (kept / kept.sum(-1, keepdim=True)).to(x.dtype), chosen

    def forward(
        self,
        x: Tensor,
        features: Mapping[str, Tensor],
        text: Tensor,
        routed: Sequence[str],
        table: tuple[Tensor, Tensor],
        trace: Trace | None = None,
        name: str = "",
    ) -> Tensor:
        """x (batch, positions, width) -> the same; see `Adapter.forward`."""
        logits, shares, chosen = self.weights(x, text, routed)
        drawn = torch.zeros_like(x)
        for place, expert in enumerate(self.names):
            if expert in routed:
                seen = self.cross_attn[place](self.norm1[place](x), self.norm2[place](features[expert]), table)
                drawn = drawn + seen * shares[:, place, None, None]
                if trace is not None:
                    trace[f"{name}/cross_attn/{expert}"] = seen
        x = x + drawn
        seen = self.norm3(x)
        x = x + self.self_attn(seen, seen, table)
        x = x + self.mlp(self.norm4(x))
        if trace is not None:
            trace |= {
                f"{name}/gate_logits": logits, f"{name}/gate_weights": shares, f"{name}/selected": chosen,
                f"{name}/out": x,
            }  # fmt: skip
        return x


class ConvNorm(nn.Module):
    """A convolution without bias and a norm over channels, of eps 1e-5 (timm picks its norm by the class's name)."""

    def __init__(self, width: int, kernel: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, width, rows, columns) -> the same."""
        return self.bn(self.conv(maps).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Channels weighted by what a small MLP makes of their means."""

    def __init__(self, width: int):
        super().__init__()
        inner = round(width * 0.25)
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, width, rows, columns) -> the same."""
        share = self.fc2(F.silu(self.fc1(maps.mean((2, 3), keepdim=True))))
        return maps * share.sigmoid()


class Bottleneck(nn.Module):
    """RegNet's block: 1x1, depthwise 3x3, squeeze and excite, 1x1, and the input; nothing after the sum."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(width), ConvNorm(width, 3, width)
        self.se, self.conv3 = SqueezeExcite(width), ConvNorm(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, width, rows, columns) -> the same."""
        inner = F.silu(self.conv2(F.silu(self.conv1(maps))))
        return maps + self.conv3(self.se(inner))


class Adapter(nn.Module):
    """The whole adapter.

    Args:
        width: channels of CLIP.
        experts: name -> channels, in order.
        text: channels of the question's feature.
        blocks: how many.
        most: how many experts a gate lets through.
        side: of the map of CLIP's tokens.
        hidden: of the language model.

    Raises:
        SetupError: sizes that do not fit.
    """

    rope_cos: Tensor
    rope_sin: Tensor

    def __init__(
        self, width: int, experts: Mapping[str, int], text: int, blocks: int, most: int, side: int, hidden: int
    ):
        super().__init__()
        if width % HEAD:
            raise SetupError(f"mm_hidden_size is {width}, no multiple of {HEAD}")
        if most > len(experts):
            raise SetupError(f"topk_experts is {most}; there are {len(experts)} experts")
        self.side = side
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2, width))
        self.blocks = nn.ModuleList(Block(width, experts, text, most) for _ in range(blocks))
        for kind, table in zip(("cos", "sin"), rotary_table(side), strict=True):
            self.register_buffer(f"rope_{kind}", table)
        self.downsample = nn.ModuleList([Bottleneck(width), nn.AdaptiveAvgPool2d(side // 2), Bottleneck(width)])
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def restore_buffers(self) -> None:
        """The rotary table, where the checkpoint had none."""
        if self.rope_cos.is_meta:
            self.rope_cos, self.rope_sin = (table.to(self.pos_embed) for table in rotary_table(self.side))

    def forward(
        self, features: Mapping[str, Tensor], text: Tensor, routed: Sequence[str], trace: Trace | None = None
    ) -> Tensor:
        """What stands for an image in the prompt.

        Args:
            features: `clip` and at least the routed experts' (batch, side**2, channels), on CLIP's grid.
            text: the question's feature (batch, text).
            routed: names of the experts that are looked at.
            trace: takes what is computed on the way.

        Returns:
            (batch, (side // 2)**2, hidden).
        """
        residual = features["clip"]
        x, table = residual + self.pos_embed, (self.rope_cos, self.rope_sin)
        for place, block in enumerate(self.blocks):
            x = block(x, features, text, routed, table, trace, f"block{place}")
        averaged = (x + residual) / 2
        maps = averaged.transpose(1, 2).unflatten(2, (self.side, self.side))
        for part in self.downsample:
            maps = part(maps)
        tokens = maps.flatten(2).transpose(1, 2)
        if trace is not None:
            trace |= {"adapter/text_feature": text, "adapter/averaged": averaged, "adapter/downsampled": tokens}
        return self.mlp(tokens)


def rename(released: str) -> str | None:
    """Released name inside the projector -> own name; None for aliases of the rotary table."""
    alias, rope, kind = released.partition(".rope.freqs_")
    if rope:
        return f"rope_{kind}" if alias == "blocks.0.self_attn" else None
    return _STAGE.sub(r"downsample.\1.", released)


def release(own: str) -> str:
    """The inverse of `rename`."""
    if own.startswith("rope_"):
        return f"blocks.0.self_attn.rope.freqs_{own.removeprefix('rope_')}"
    return re.sub(r"^downsample\.(\d)\.", r"downsample.\1.b1.", own)
