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

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import DeepseekVLHybridConfig, DeepseekVLHybridImageProcessor, DeepseekVLHybridModel, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.families import language_models, registry
from redundancy_eval.model_wrappers.families.base import FamilyModel, Visual
from redundancy_eval.model_wrappers.families.eagle.encoders import CLIP_MEAN, CLIP_STD

BACKGROUND = (122, 116, 104)  # int(255 * CLIP_MEAN)
HALF = (0.5, 0.5, 0.5)
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

# Tensors that a checkpoint may hold and nothing computes with: two layer norms, SigLIP's pooling head, rotary tables.
UNUSED = re.compile(
    r"vision_model\.(high|low)_layer_norm\..*"
    r"|vision_model\.vision_tower_low\.vision_tower\.attn_pool\..*"
    r"|model\.vision_model\.(vision_model\.)?head\..*"
    r"|.*\.rotary_emb\.inv_freq"
    r"|.*\.embeddings\.position_ids"
)
_SAM = "vision.high_res_vision_model.vision_encoder."
_SIGLIP = "vision.vision_model."
_NECK = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
_OF_ENCODER = {
    "sam": ("high_res_vision_model", "high_res_vision_neck", "high_res_vision_proj", "high_res_vision_alpha"),
    "siglip": ("vision_model",),
}
# Original beginning of a name -> own beginning; the first that fits.
_HIGH, _LOW = "vision_model.vision_tower_high.vision_tower.", "vision_model.vision_tower_low.vision_tower."
_ORIGINAL = {
    _HIGH + "hd_alpha_downsamples": "vision.high_res_vision_alpha",
    _HIGH + "downsamples.0.": "vision.high_res_vision_proj.conv1.",
    _HIGH + "downsamples.1.": "vision.high_res_vision_proj.conv2.",
    _HIGH + "neck_hd.": "vision.high_res_vision_neck.",
    _HIGH + "blocks.": _SAM + "layers.",
    _HIGH + "patch_embed.proj.": _SAM + "patch_embed.projection.",
    _HIGH: _SAM,
    _LOW + "blocks.": _SIGLIP + "encoder.layers.",
    _LOW + "norm.": _SIGLIP + "post_layernorm.",
    _LOW + "patch_embed.proj.": _SIGLIP + "embeddings.patch_embedding.",
    "aligner.high_up_proj.": "vision.aligner.high_res_vision_proj.",
    "aligner.low_up_proj.": "vision.aligner.vision_proj.",
    "aligner.layers.1.": "vision.aligner.proj.",
}


def _third(index: int, value: Tensor) -> Tensor:
    return value.chunk(3)[index]


def _without_first_axis(value: Tensor) -> Tensor:
    return value.flatten(0, 1)


def original_name(released: str) -> weights.Target:
    """Own name, or names, of a tensor of the original release."""
    if released == _LOW + "pos_embed":
        return {_SIGLIP + "embeddings.position_embedding.weight": _without_first_axis}
    start = next((start for start in _ORIGINAL if released.startswith(start)), "")
    own = _ORIGINAL.get(start, "") + released.removeprefix(start)
    own = re.sub(r"(layers\.\d+)\.norm([12])\.", r"\1.layer_norm\2.", own)
    if own.startswith(_SIGLIP):
        own = own.replace(".attn.proj.", ".self_attn.out_proj.")
        if ".attn.qkv." in own:
            names = (own.replace(".attn.qkv.", f".self_attn.{letter}_proj.") for letter in "qkv")
            return {name: partial(_third, index) for index, name in enumerate(names)}
    elif own.startswith("vision.high_res_vision_"):
        own = re.sub(r"neck\.([0-3])\.", lambda found: f"neck.{_NECK[found[1]]}.", own)
    return own


def native_name(released: str) -> str:
    """Own name of a tensor of the conversion; transformers 4 kept SigLIP one level deeper than transformers 5."""
    if released.startswith("lm_head."):
        return f"language_model.{released}"
    if released.startswith("model.language_model."):
        return released.replace("model.language_model.", "language_model.model.", 1)
    released = released.replace("model.vision_model.vision_model.", "model.vision_model.", 1)
    return re.sub(r"^model\.", "vision.", released)


def original_release(own: str) -> str:
    """The inverse of `original_name`; q, k and v are one tensor in the release."""
    if own.startswith(_SIGLIP):
        own = re.sub(r"\.self_attn\.[qkv]_proj\.", ".attn.qkv.", own).replace(".self_attn.out_proj.", ".attn.proj.")
        own = own.replace("embeddings.position_embedding.weight", "pos_embed")
    elif own.startswith("vision.high_res_vision_"):
        numbers = {name: number for number, name in _NECK.items()}
        own = re.sub(r"neck\.(\w+)\.", lambda found: f"neck.{numbers.get(found[1], found[1])}.", own)
    own = re.sub(r"(layers\.\d+)\.layer_norm([12])\.", r"\1.norm\2.", own)
    starts = [(new, old) for old, new in _ORIGINAL.items() if own.startswith(new)]
    if starts:
        new, old = max(starts, key=lambda pair: len(pair[0]))
        return old + own.removeprefix(new)
    return _LOW + own.removeprefix(_SIGLIP) if own.startswith(_SIGLIP) else own


def native_release(own: str) -> str:
    """The inverse of `native_name`."""
    own = re.sub(r"^language_model\.lm_head\.", "lm_head.", own)
    own = re.sub(r"^language_model\.model\.", "model.language_model.", own)
    return re.sub(r"^vision\.", "model.", own)


def native_config(config: Mapping[str, Any], attention: str = "sdpa") -> DeepseekVLHybridConfig:
    """The transformers config of a checkpoint of either layout.

    Raises:
        SetupError: not DeepSeek-VL-7B, or fused in another way.
    """
    registry.deepseek_vl_encoders(config)
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

    template = "deepseek"

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        processor: str = "original",
    ):
        super().__init__()
        if processor not in ("original", "native"):
            raise SetupError(f"processor must be original or native; not {processor!r}")
        self.encoder_names = registry.deepseek_vl_encoders(config)
        self.released_names = {name: name for name in self.encoder_names}
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
            for part in _OF_ENCODER[name]:
                setattr(self.vision, part, None)
        self.language_model = LlamaForCausalLM(made.text_config)

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters the aligner."""
        return dict(self._shapes)

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name or names; None for tensors that are not needed."""
        if UNUSED.fullmatch(released):
            return None
        own = original_name(released) if self.original else native_name(released)
        first = own if isinstance(own, str) else next(iter(own or ()), "")
        owner, _, rest = first.partition(".")
        gone = {part for name in set(self.encoder_names) - self.built for part in _OF_ENCODER[name]}
        return None if owner == "vision" and rest.partition(".")[0] in gone else own

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        return original_release(own) if self.original else native_release(own)

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
        self.language_model.model.rotary_emb = LlamaRotaryEmbedding(self.language_model.config)
        if "siglip" in self.built:
            embeddings = self.vision.vision_model.embeddings
            embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))

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


def load(
    folder: Path,
    keep: Collection[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: weights.Device = "cpu",
    attention: str = "sdpa",
    config: Mapping[str, Any] | None = None,
    processor: str = "original",
) -> tuple[DeepseekVl, Any, weights.LoadReport]:
    """Load a checkpoint, original or converted: the model, its tokenizer, and what loading found.

    Args:
        folder: local checkpoint folder.
        keep: encoders whose weights to load; None for all.
        dtype: of all floating tensors.
        device: of the model; `auto` spreads it over what there is.
        attention: `attn_implementation`.
        config: stands in for the folder's config.json.
        processor: `original` or `native` pixels.

    Raises:
        SetupError: not a DeepSeek-VL-7B checkpoint, or tensors are missing.
    """
    config = hub.read_config(folder) if config is None else config
    registry.check("deepseek_vl_masked", config, str(folder / "config.json"))
    with weights.building(folder):
        model = DeepseekVl(config, keep, attention, processor)
    device = weights.spread(model, device, dtype, model.whole())
    report = weights.load(
        model, folder, model.rename, dtype, device, release=model.release,
        tied=language_models.tied(config, config.get("text_config") or config.get("language_config") or {}),
    )  # fmt: skip
    model.restore_buffers()
    weights.settle(model, device)
    tokenizer = hub.read_tokenizer(folder, model.language_model.config)
    # As the original's inference does: neither layout's configs need have the tokenizer's id.
    model.eos = (tokenizer.eos_token_id,)
    return model, tokenizer, report


MODEL = DeepseekVl
