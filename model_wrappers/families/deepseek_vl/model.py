"""DeepSeek-VL-7B: SAM at 1024 pixels and SigLIP at 384, each projected to one half of a vector, a Llama.

Computes with transformers' `deepseek_vl_hybrid` and loads both layouts: the original release (model_type
`multi_modality`) and its conversion by transformers (`deepseek_vl_hybrid`). A dropped encoder is a zero tensor as it
enters its up-projection, whose bias remains: the image's tokens are not zero, and with both dropped they are all equal.

What the original code hard-codes are defaults here. A checkpoint of another size says so in its config.json:

    "encoder_configs": {"sam": {"width": 48, "layers": 4, ...}, "siglip": {"width": 48, "layers": 3, ...}}

Pixels (`processor`): `original` resizes the long side to int(...) rows or columns with PIL and makes the small image
of the padded large one as a float tensor; `native` is transformers' image processor, which rounds the rows and resizes
8-bit images. With `original` the small image is made in `encode`, from pixels in the model's type, as in the release:
in bfloat16 its pixels differ from float32 ones by up to 1/256.

Source: deepseek-ai/DeepSeek-VL at 681bffb; deepseek_vl/models/{image_processing_vlm,clip_encoder,projector,sam}.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import DeepseekVLHybridConfig, DeepseekVLHybridImageProcessor, DeepseekVLHybridModel, LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import weights
from redundancy_eval.model_wrappers.encoders.pixels import CLIP_MEAN, CLIP_STD, HALF, colour
from redundancy_eval.model_wrappers.families import language_models
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.deepseek_vl import card, names

BACKGROUND = colour(CLIP_MEAN)
MIN_SIZE = 14  # least rows or columns of a resized image

# The original's tables SAM_MODEL_CONFIG["sam_b_downsample"] and SigLIP_MODEL_CONFIG["siglip_large_patch16_384"].
RELEASED: dict[str, dict[str, Any]] = {
    "sam": dict(
        image_size=1024, patch_size=16, width=768, layers=12, heads=12, global_attn_indexes=(2, 5, 8, 11),
        window_size=14, mlp_ratio=4, prompt_embed_dim=256, downsample_channels=(512, 1024),
    ),
    "siglip": dict(image_size=384, patch_size=16, width=1024, layers=24, heads=16, mlp_ratio=4),
}  # fmt: skip
_TOWERS = {"sam": ("high_res_cfg", "sam_b_downsample"), "siglip": ("low_res_cfg", "siglip_large_patch16_384")}
# What the release leaves to LlamaConfig's defaults of its time. Its beginning and end ids, 1 and 2, are wrong for its
# tokenizer; see DeepseekVl.eos.
_LLAMA = dict(
    model_type="llama", hidden_size=4096, intermediate_size=11008, num_attention_heads=32, num_key_value_heads=32,
    hidden_act="silu", rms_norm_eps=1e-6,
)  # fmt: skip


def native_config(config: Mapping[str, Any], attention: str = "sdpa") -> DeepseekVLHybridConfig:
    """The transformers config of a checkpoint of either layout.

    Raises:
        SetupError: not DeepSeek-VL-7B, or fused in another way.
    """
    card.encoders(config)
    made = _native(config) if config["model_type"] == "deepseek_vl_hybrid" else _translate(config)
    # The class's default ties the output layer to the embeddings; the releases have both.
    made.tie_word_embeddings = made.text_config.tie_word_embeddings = False
    made.vision_config.vision_use_head = False
    # transformers' SAM knows eager and sdpa only.
    made._attn_implementation = {
        "": attention,
        "text_config": attention,
        "vision_config": attention,
        "high_res_vision_config": "eager" if attention == "eager" else "sdpa",
    }
    return made


def _native(config: Mapping[str, Any]) -> DeepseekVLHybridConfig:
    parts = {key: config.get(key) or {} for key in ("vision_config", "high_res_vision_config")}
    return DeepseekVLHybridConfig(**parts, text_config=_text(config.get("text_config") or {}))


def _text(told: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's part, its rotary positions under the newest names."""
    return {**language_models.llama(told).to_dict(), "model_type": "llama"}


def _translate(config: Mapping[str, Any]) -> DeepseekVLHybridConfig:
    aligner, vision = ((config.get(key) or {}).get("params") or {} for key in ("aligner_config", "vision_config"))
    if aligner.get("projector_type") != "low_high_hybrid_split_mlp_gelu" or aligner.get("depth", 2) != 2:
        raise SetupError(
            f"aligner_config must be a low_high_hybrid_split_mlp_gelu of depth 2; "
            f"not {aligner.get('projector_type')!r} of depth {aligner.get('depth')!r}"
        )
    sizes = {}
    for name, (key, table) in _TOWERS.items():
        tower, overrides = vision.get(key) or {}, config.get("encoder_configs", {}).get(name, {})
        if tower.get("model_name") != table:
            raise SetupError(f"vision_config.{key}.model_name must be {table}; not {tower.get('model_name')!r}")
        unknown = sorted(set(overrides) - set(RELEASED[name]))
        if unknown:
            raise SetupError(f"encoder_configs[{name!r}] has unknown settings: {', '.join(unknown)}")
        sizes[name] = {**RELEASED[name], "image_size": tower.get("image_size", RELEASED[name]["image_size"])}
        sizes[name].update(overrides)
    sam, siglip = sizes["sam"], sizes["siglip"]
    neck = sam["prompt_embed_dim"]
    if tuple(sam["downsample_channels"]) != (2 * neck, 4 * neck):
        raise SetupError(f"downsample_channels must be {2 * neck} and {4 * neck}; not {sam['downsample_channels']}")
    shared = {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    return DeepseekVLHybridConfig(
        text_config=_text({**_LLAMA, **(config.get("language_config") or {})}),
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": siglip["image_size"],
            "patch_size": siglip["patch_size"],
            "hidden_size": siglip["width"],
            "intermediate_size": siglip["width"] * siglip["mlp_ratio"],
            "num_hidden_layers": siglip["layers"],
            "num_attention_heads": siglip["heads"],
            **shared,
        },
        high_res_vision_config={
            "model_type": "sam_vision_model",
            "image_size": sam["image_size"],
            "patch_size": sam["patch_size"],
            "hidden_size": sam["width"],
            "mlp_dim": sam["width"] * sam["mlp_ratio"],
            "output_channels": neck,
            "num_hidden_layers": sam["layers"],
            "num_attention_heads": sam["heads"],
            "global_attn_indexes": list(sam["global_attn_indexes"]),
            "window_size": sam["window_size"],
            **shared,
        },
    )


class DeepseekVl(FamilyModel):
    """A DeepSeek-VL-7B: encode -> (ablate) -> two up-projections side by side -> GELU -> linear -> language model.

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model and of SigLIP.
        processor: `original` or `native` pixels.
    """

    family = card.FAMILY
    template = "deepseek"

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        processor: str = "original",
    ):
        super().__init__(config)
        if processor not in ("original", "native"):
            raise SetupError(f"processor must be original or native; not {processor!r}")
        self.original = config["model_type"] == "multi_modality"
        made = native_config(config, attention)
        self.high_size: int = made.high_res_vision_config.image_size
        self.low_size: int = made.vision_config.image_size
        self.processor = native_processor(self.high_size, self.low_size) if processor == "native" else None
        tokens = (self.low_size // made.vision_config.patch_size) ** 2
        self._shapes = {
            "sam": (tokens, 4 * made.high_res_vision_config.output_channels),
            "siglip": (tokens, made.vision_config.hidden_size),
        }
        self.max_length = made.text_config.max_position_embeddings
        self.vision = DeepseekVLHybridModel(made)
        self.vision.language_model = None
        self.built = {name for name in self.encoder_names if keep is None or name in keep}
        for name in set(self.encoder_names) - self.built:
            for part in names.OF_ENCODER[name]:
                setattr(self.vision, part, None)
        self.language_model = LlamaForCausalLM(made.text_config)

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters the aligner."""
        return dict(self._shapes)

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name or names; None for tensors that are not needed."""
        if names.UNUSED.fullmatch(released):
            return None
        own = names.original_name(released) if self.original else names.native_name(released)
        first = own if isinstance(own, str) else next(iter(own or ()), "")
        owner, _, rest = first.partition(".")
        gone = {part for name in set(self.encoder_names) - self.built for part in names.OF_ENCODER[name]}
        return None if owner == "vision" and rest.partition(".")[0] in gone else own

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        return names.original_release(own) if self.original else names.native_release(own)

    def restore_buffers(self) -> None:
        """Also SigLIP's, within transformers' model."""
        super().restore_buffers()
        if "siglip" in self.built:
            weights.restore_position_ids(self.vision.vision_model.embeddings)

    def tied(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        """By the whole config, or by the language model's part."""
        return language_models.tied(config, config.get("text_config") or config.get("language_config") or {})

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """The tokenizer's end, as the original's inference does: neither layout's configs need have its id."""
        return (tokenizer.eos_token_id,)

    def preprocess_uint8(self, image: Image.Image) -> np.ndarray:
        """Resize the long side bicubically, pad to a square: (size, size, 3) uint8. image_processing_vlm.py:41-156."""
        image, size = image.convert("RGB"), self.high_size
        longest = max(image.size)
        # int(), not round(), as in the original; transformers rounds.
        width, height = (max(int(side / longest * size), MIN_SIZE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        square = Image.new("RGB", (size, size), BACKGROUND)
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return np.asarray(square)

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str] = ()) -> dict[str, Tensor]:
        """Images -> {"pixels": (images, 3, size, size)}, 0..1 and not normalised, that feeds both encoders.

        With the native processor: {"sam": ..., "siglip": ...}, ready for the encoders.
        """
        if self.processor is not None:
            made = self.processor([image.convert("RGB") for image in images], return_tensors="pt")
            pixels = {"sam": made["high_res_pixel_values"], "siglip": made["pixel_values"]}
            return {name: value for name, value in pixels.items() if name in names or not names}
        # Rescaled in float64, then rounded: bit for bit what the original did.
        values = np.stack([self.preprocess_uint8(image) for image in images]) * (1 / 255)
        return {"pixels": torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2).contiguous()}

    def encoder_pixels(self, pixels: Mapping[str, Tensor], name: str) -> Tensor:
        """What an encoder gets, of what `preprocess` returned: resized and normalised in the type of the pixels."""
        if name in pixels:
            return pixels[name]
        if name == "sam":
            return normalise(pixels["pixels"], CLIP_MEAN, CLIP_STD)
        return normalise(self.small(pixels["pixels"]), HALF, HALF)

    def small(self, pixels: Tensor) -> Tensor:
        """The low-resolution image, of the high-resolution one in 0..1: computed in float32. clip_encoder.py:163."""
        size = (self.low_size, self.low_size)
        small = F.interpolate(pixels.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        return small.to(pixels.dtype)

    def encode(self, pixels: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, tokens, channels)}, ready for the aligner."""
        run = {"sam": self.vision.get_high_res_image_features, "siglip": self.vision.get_low_res_image_features}
        return {
            name: run[name](self.encoder_pixels(pixels, name)).last_hidden_state
            for name in self.encoder_names
            if name in names
        }

    def concatenate(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features of both encoders, projected to halves of a vector, high resolution first: before the GELU."""
        aligner = self.vision.aligner
        return torch.cat(
            [aligner.high_res_vision_proj(features["sam"]), aligner.vision_proj(features["siglip"])], dim=-1
        )

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Any]) -> list[Visual]:
        """Features of both encoders -> (tokens, hidden) for each image."""
        return [Visual(rows) for rows in self.vision.aligner(projected["siglip"], projected["sam"])]


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images, 3, rows, columns) in 0..1 -> normalised, in the type of the pixels."""
    m, s = (torch.tensor(values, dtype=pixels.dtype, device=pixels.device)[:, None, None] for values in (mean, std))
    return (pixels - m) / s


def native_processor(high_size: int, low_size: int) -> DeepseekVLHybridImageProcessor:
    """transformers' image processor as the conversion of the release sets it up."""
    return DeepseekVLHybridImageProcessor(
        size={"height": low_size, "width": low_size},
        image_mean=list(HALF),
        image_std=list(HALF),
        resample=Image.Resampling.BILINEAR,
        high_res_size={"height": high_size, "width": high_size},
        high_res_image_mean=list(CLIP_MEAN),
        high_res_image_std=list(CLIP_STD),
        high_res_resample=Image.Resampling.BICUBIC,
        min_size=MIN_SIZE,
    )
