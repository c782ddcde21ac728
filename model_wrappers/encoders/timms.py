"""What we take of timm, and how it is imported: without Weights & Biases, which a part of its training script looks for
(timm/utils/summary.py). lmms-eval installs that, and importing it takes a quarter of a start's time.
"""

from redundancy_eval.model_wrappers import process

with process.hidden("wandb"):
    import timm
    from timm.layers import resample_abs_pos_embed
    from timm.models.convnext import ConvNeXt
    from timm.models.eva import EvaBlock
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["ConvNeXt", "EvaBlock", "VisionTransformer", "resample_abs_pos_embed", "timm"]
