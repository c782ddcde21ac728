"""ConvNeXt as Eagle X and Eagle2 run it: timm's stem and stages, loaded by renaming keys.

Source: NVlabs/EAGLE at fef95f1, eagle/model/multimodal_encoder/convnext_encoder.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from redundancy_eval.model_wrappers.encoders.timms import ConvNeXt as TimmConvNeXt


class ConvNextEncoder(nn.Module):
    """ConvNeXt (the releases: LAION-2B XXL): stem and four stages, no final norm."""

    released: dict[str, Any] = dict(
        input_size=1024, patch_size=4, depths=(3, 4, 30, 3), dims=(384, 768, 1536, 3072), norm_eps=1e-5
    )  # fmt: skip
    _UNUSED = re.compile(r"head\..*|norm_pre\..*")

    def __init__(self, config: dict[str, Any], attention: str):
        super().__init__()
        model = TimmConvNeXt(
            depths=tuple(config["depths"]),
            dims=tuple(config["dims"]),
            patch_size=config["patch_size"],
            norm_eps=config["norm_eps"],
            num_classes=0,
        )
        self.stem, self.stages = model.stem, model.stages

    @staticmethod
    def output_channels(sizes: Mapping[str, Any]) -> int:
        """Channels of its output, from its sizes."""
        return sizes["dims"][-1]

    def rename(self, released: str) -> str | None:
        """Released name -> own name; None for unused ones. Upstream calls the layer scale `weight`, timm `gamma`."""
        if self._UNUSED.fullmatch(released):
            return None
        return re.sub(r"(blocks\.\d+)\.weight$", r"\1.gamma", released)

    def release(self, own: str) -> str:
        """The inverse of `rename`."""
        return re.sub(r"\.gamma$", ".weight", own)

    def restore_buffers(self) -> None:
        """All are in the checkpoint."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (batch, 3, S, S), CLIP-normalised -> (batch, dims[-1], S/(8*patch), S/(8*patch))."""
        return self.stages(self.stem(pixels))
