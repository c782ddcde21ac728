"""MoVA: the language model chooses experts for a question, an adapter draws on them, the language model answers.

Loads the released llama3-mova-8b, which holds all: language model, eight encoders, adapter and the BERT that reads the
question. BERT's vocabulary is not in it: it comes from the hub, or from `encoder_weights`.

Sizes that the original code hard-codes, or takes from the public models that its encoders start from, are defaults
here. A checkpoint of other sizes says so in its config.json:

    "encoder_configs": {"clip": {"hidden_size": 64, ...}, ..., "text": {"hidden_size": 32, ...}}

Source: TempleX98/MoVA at 52f83e5; mova/model/arch.py, mova/model/multimodal_encoder/mova_encoder.py.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer, LlamaForCausalLM

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, weights
from redundancy_eval.model_wrappers.encoders.hub_towers import ClipTower, DinoTower
from redundancy_eval.model_wrappers.encoders.pixels import normalise, resize_maps, to_grid, to_tokens
from redundancy_eval.model_wrappers.families import language_models, routes
from redundancy_eval.model_wrappers.families.base import Encoder, FamilyModel, Visual
from redundancy_eval.model_wrappers.families.mova import adapter, card, encoders, pixels, routing

_PATCH = 14  # of CLIP and DINOv2
_TOWER = re.compile(r"model\.vision_tower\.vision_tower_(\d+)\.(.+)")
_PROJECTOR, _TEXT = "model.mm_projector.", "model.mm_projector.text_encoder.bert."
_LLAMA_ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_END = "<|eot_id|>"
_MOST_WORDS = 512  # tokens of the question that BERT reads

_SMALL_SAM = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
RELEASED: dict[str, dict[str, Any]] = {
    "clip": {key: value for key, value in ClipTower.released.items() if key != "image_size"},
    "dinov2": {
        **DinoTower.released, "hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24,
        "use_swiglu_ffn": True,
    },
    "vary": {
        **encoders.SamEncoder.released, **_SMALL_SAM, "global_attn_indexes": (2, 5, 8, 11), "vary_channels": 512
    },
    "codetr": encoders.CodetrEncoder.released,
    "pix2struct": encoders.Pix2StructEncoder.released,
    "deplot": {**encoders.Pix2StructEncoder.released, **_SMALL_SAM, "d_ff": 2048},
    "biomedclip": encoders.BiomedClipEncoder.released,
    "sam": encoders.SamEncoder.released,
    "text": {
        "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
}  # fmt: skip
MODULES: dict[str, Any] = {
    "clip": ClipTower, "dinov2": DinoTower, "vary": encoders.SamEncoder, "codetr": encoders.CodetrEncoder,
    "pix2struct": encoders.Pix2StructEncoder, "deplot": encoders.Pix2StructEncoder,
    "biomedclip": encoders.BiomedClipEncoder, "sam": encoders.SamEncoder,
}  # fmt: skip


def sizes(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sizes of every encoder and of the question's, from a config.

    Raises:
        SetupError: `encoder_configs` has a size that is none, or channels differ from what the config says.
    """
    told = config.get("encoder_configs", {})
    for name, own in told.items():
        strange = sorted(set(own) - set(RELEASED.get(name, ())))
        if strange:
            raise SetupError(f"encoder_configs[{name!r}] has unknown settings: {', '.join(strange)}")
    found = {name: {**released, **told.get(name, {})} for name, released in RELEASED.items()}
    channels = [MODULES[name].output_channels(found[name]) for name in card.ENCODERS]
    said = [config["mm_hidden_size"], *config["expert_channels"]]
    if channels != said:
        raise SetupError(
            f"mm_hidden_size and expert_channels are {said}; the encoders ({', '.join(card.ENCODERS)}) have {channels}"
        )
    return found


@dataclass(frozen=True)
class Layout:
    """What the fusion must know of an image: the question, as BERT's token ids, and the experts it is routed to."""

    words: tuple[int, ...]
    routed: tuple[str, ...]


class Mova(FamilyModel):
    """A MoVA model: CLIP -> routing by the language model -> experts -> adapter -> language model.

    A dropped encoder's features are replaced as they enter the adapter, on CLIP's grid. How the choice of experts goes
    on under a mask is `routing` (families/routes.py).

    Args:
        config: the checkpoint's config.json.
        keep: names of the encoders to build; the others can't be run, only replaced. None builds all.
        attention: `attn_implementation` of the language model, CLIP, DINOv2 and BERT.
        routing: `free` or `fixed`.
    """

    family = card.FAMILY
    max_images = 1
    pool, answer_tokens = card.FAMILY.pool, routing.ANSWER_TOKENS
    template = "mova_llama3"

    def __init__(
        self,
        config: Mapping[str, Any],
        keep: Collection[str] | None = None,
        attention: str = "sdpa",
        routing: str = routes.FREE,
    ):
        super().__init__(config)
        if routing not in routes.KINDS:
            raise SetupError(f"routing must be one of {', '.join(routes.KINDS)}; not {routing!r}")
        own = sizes(config)
        self.side: int = config["image_feat_size"]
        self.input_size = self.side * _PATCH
        self.routing_side = math.isqrt(config["num_routing_tokens"])
        if self.routing_side**2 != config["num_routing_tokens"]:
            raise SetupError(f"num_routing_tokens must be a square number; not {config['num_routing_tokens']}")
        self.max_length = config.get("tokenizer_model_max_length")
        self.channels = {name: MODULES[name].output_channels(own[name]) for name in self.encoder_names}
        self.high: int = own["sam"]["input_size"]
        self.patches: int = own["pix2struct"]["max_patches"]
        if own["vary"]["input_size"] != self.high or own["deplot"]["max_patches"] != self.patches:
            raise SetupError("encoder_configs: vary and sam see one square, pix2struct and deplot the same patches")
        if math.isqrt(self.patches) ** 2 != self.patches:
            raise SetupError(f"encoder_configs['pix2struct']: max_patches must be a square number; not {self.patches}")
        self.dino_size = min(self.input_size, own["dinov2"]["image_size"])
        layer: int = config["mm_vision_select_layer"]
        for name in self.encoder_names:
            if keep is None or name in keep:
                self.encoders[name] = self._encoder(name, own[name], layer, attention)
        self.mm_projector = adapter.Adapter(
            config["mm_hidden_size"], {name: self.channels[name] for name in card.EXPERTS}, own["text"]["hidden_size"],
            config["num_projector_layers"], config["topk_experts"], self.side, config["hidden_size"],
        )  # fmt: skip
        self.text_encoder = BertModel(
            BertConfig(**own["text"], attn_implementation=attention if attention != "flash_attention_2" else "sdpa"),
            add_pooling_layer=False,
        )
        self.text_name: str = config["mm_projector_text_encoder"]
        self.text_tokenizer: Any = None
        self.language_model = LlamaForCausalLM(language_models.llama(config, attention))

    def _encoder(self, name: str, own: dict[str, Any], layer: int, attention: str) -> Encoder:
        if name == "clip":
            return ClipTower({**own, "image_size": self.input_size}, self.side, layer, attention)
        if name == "dinov2":
            layers = own["num_hidden_layers"]
            if not -layers - 1 <= layer <= layers:
                raise SetupError(f"DINOv2 has {layers} layers; there is no hidden state {layer}")
            return DinoTower(
                own, self.dino_size, self.side, before_norm=True, depth=layer % (layers + 1), attention=attention
            )
        made: Encoder = MODULES[name](own, attention)
        return made

    # --- loading ------------------------------------------------------------------------------------------------------

    def rename(self, released: str) -> weights.Target:
        """Released tensor name -> own name, or names; None for tensors that are not needed."""
        tower = _TOWER.fullmatch(released)
        if tower:
            if int(tower[1]) >= len(self.encoder_names):
                return released
            name = self.encoder_names[int(tower[1])]
            if name not in self.encoders:
                return None
            return weights.inside(f"encoders.{name}.", self.encoders[name].rename(tower[2]))
        if released.startswith(_TEXT):
            rest = released.removeprefix(_TEXT)
            return None if rest == "embeddings.position_ids" else f"text_encoder.{rest}"
        if released.startswith(_PROJECTOR):
            return weights.inside("mm_projector.", adapter.rename(released.removeprefix(_PROJECTOR)))
        return None if _LLAMA_ROTARY.fullmatch(released) else f"language_model.{released}"

    def release(self, own: str) -> str:
        """The inverse of `rename`: the name that a released checkpoint gives to one of our tensors."""
        if own.startswith("encoders."):
            _, name, rest = own.split(".", 2)
            place = self.encoder_names.index(name)
            return f"model.vision_tower.vision_tower_{place}.{self.encoders[name].release(rest)}"
        if own.startswith("text_encoder."):
            return _TEXT + own.removeprefix("text_encoder.")
        if own.startswith("mm_projector."):
            return _PROJECTOR + adapter.release(own.removeprefix("mm_projector."))
        return own.removeprefix("language_model.")

    def optional(self, own: str) -> bool:
        """The rotary tables: the release holds them, and they are computed where a file does not."""
        return bool(re.fullmatch(r"(encoders\.codetr\.vit|mm_projector)[._]rope_\w+", own))

    def restore_buffers(self) -> None:
        """Make the buffers that no checkpoint holds (after building on the meta device)."""
        super().restore_buffers()
        self.mm_projector.restore_buffers()
        embeddings = self.text_encoder.embeddings
        count = embeddings.position_embeddings.num_embeddings
        embeddings.position_ids = torch.arange(count).expand((1, -1))
        embeddings.token_type_ids = torch.zeros((1, count), dtype=torch.long)

    def read_files(self, encoder_weights: str | Path | None) -> None:
        """The vocabulary of the question's encoder.

        Raises:
            SetupError: it is not there, or of another size than the checkpoint's table.
        """
        name = self.text_name.rstrip("/").rpartition("/")[2]  # training may have read it from a folder
        if encoder_weights is None:
            folder = hub.locate(f"google-bert/{name}", weights=False)
        else:
            folder = hub.locate_encoder(name, encoder_weights)
        try:
            self.text_tokenizer = BertTokenizer.from_pretrained(folder)
        except Exception as error:  # missing and damaged files raise many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SetupError(f"cannot read the vocabulary in {folder}: {reason}") from error
        rows = self.text_encoder.embeddings.word_embeddings.num_embeddings
        if len(self.text_tokenizer) != rows:
            raise SetupError(f"{folder}: a vocabulary of {len(self.text_tokenizer)}; the checkpoint has one of {rows}")

    def ends(self, tokenizer: Any) -> tuple[int, ...]:
        """The end of a turn.

        Raises:
            SetupError: the tokenizer has none.
        """
        if _END not in tokenizer.get_vocab():
            raise SetupError(f"the tokenizer has no token {_END}")
        return (tokenizer.convert_tokens_to_ids(_END),)

    # --- encoders -----------------------------------------------------------------------------------------------------

    def shapes(self, site: str) -> dict[str, tuple[int, int]]:
        """(tokens, channels) of each encoder's output as it enters the adapter."""
        return {name: (self.side**2, channels) for name, channels in self.channels.items()}

    @staticmethod
    def needed(
        names: Sequence[str], mask: Collection[str], site: str, routing: str = routes.FREE, **_: Any
    ) -> tuple[str, ...]:
        """The kept encoders, and those that the full model's choice of experts is made with."""
        base = () if routing != routes.FIXED else (card.BASE,)
        return tuple(name for name in names if name not in mask or name in base)

    @staticmethod
    def check_ablation(ablation: str, routing: str = routes.FREE, **_: Any) -> None:
        """Under `routing=free` a dropped expert is out of the pool, so nothing could stand in for it.

        Raises:
            SetupError: something else than zero is to.
        """
        if ablation != "zero" and routing != routes.FIXED:
            raise SetupError(
                f"ablation={ablation} needs routing=fixed: under routing=free a dropped expert is not looked at, so "
                "nothing stands in for it"
            )

    def preprocess(self, images: Sequence[Image.Image], names: Collection[str]) -> dict[str, Tensor]:
        """What the named encoders see, float32: squares (images, 3, side, side), or patches (images, count, values)."""
        found = {}
        for key in dict.fromkeys(pixels.SEEN[name] for name in self.encoder_names if name in names):
            if key == "patches":
                found[key] = torch.stack([pixels.patches(image, self.patches) for image in images])
            else:
                side = self.high if key == "high" else self.input_size
                squares = np.stack([pixels.square(image, key, side) for image in images])
                found[key] = normalise(squares, *pixels.SQUARES[key])
        return found

    def encode(self, pixels_: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run encoders: {name: (images, side**2, channels)}, on CLIP's grid."""
        features = {}
        for name in self.encoder_names:
            if name in names:
                seen = pixels_[pixels.SEEN[name]]
                if name in ("dinov2", "biomedclip"):
                    seen = resize_maps(seen, self.dino_size if name == "dinov2" else self.encoders[name].input_size)  # type: ignore[attr-defined]
                tokens = self.encoders[name](seen)
                features[name] = to_tokens(resize_maps(to_grid(tokens), self.side))
        return features

    # --- fusion -------------------------------------------------------------------------------------------------------

    def layout(self, question: str, chosen: Sequence[str]) -> Layout:
        """What the fusion must know of an image: see `Layout`."""
        if self.text_tokenizer is None:  # of random weights, whose costs are measured
            return Layout((0,), tuple(chosen))
        ids = self.text_tokenizer(f"question 0: {question.lower()}\n\n", truncation=True, max_length=_MOST_WORDS)
        return Layout(tuple(ids.input_ids), tuple(chosen))

    def adapt(
        self, features: Mapping[str, Tensor], layout: Layout | None, trace: adapter.Trace | None = None
    ) -> Tensor:
        """Features (1, side**2, channels) of an image -> (1, tokens, hidden); without a layout, of all experts."""
        layout = layout or Layout((0,), tuple(name for name in card.EXPERTS if name in features))
        device = features[card.BASE].device
        read = self.text_encoder(input_ids=torch.tensor([layout.words], device=device)).last_hidden_state[:, 0]
        made: Tensor = self.mm_projector(features, read.to(features[card.BASE].dtype), layout.routed, trace)
        return made

    def fuse(self, projected: Mapping[str, Tensor], layouts: Sequence[Layout | None]) -> list[Visual]:
        """Features of all encoders -> (tokens, hidden) for each image, one after the other: each has its experts."""
        return [
            Visual(
                self.adapt({name: value[row : row + 1] for name, value in projected.items()}, layout)[0],
                routed=None if layout is None else layout.routed,
            )
            for row, layout in enumerate(layouts)
        ]

    # --- routing ------------------------------------------------------------------------------------------------------

    def router(self) -> "Mova":
        """This model."""
        return self

    def routing_text(self, question: str) -> str:
        """The user's turn that asks for experts."""
        return routing.prompt(question)

    def first_look(self, features: Mapping[str, Tensor]) -> list[Visual]:
        """What stands for each image when experts are chosen: CLIP's tokens through the adapter, pooled."""
        visuals = self.fuse({card.BASE: features[card.BASE]}, [Layout((0,), ())] * len(features[card.BASE]))
        side = (self.routing_side, self.routing_side)
        return [
            Visual(to_tokens(F.adaptive_avg_pool2d(to_grid(visual.embeddings[None]), side))[0]) for visual in visuals
        ]

    def chosen(self, answer: str) -> tuple[str, ...]:
        """The experts that the language model's answer names."""
        return routing.chosen(answer)
