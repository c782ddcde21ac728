"""Models of random weights for the benchmarks: speed does not ask for sense, and nothing has to be fetched."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    DeepseekVLHybridConfig,
    DeepseekVLHybridProcessor,
    PreTrainedTokenizerFast,
)

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.base import FamilyModel
from redundancy_eval.model_wrappers.families.cambrian import model as cambrian
from redundancy_eval.model_wrappers.families.deepseek_vl import model as deepseek_vl
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.model_wrappers.masking import hf, loading, native, places

WORDS = 12  # of a question; with the template, a prompt has some 50 tokens beside the image's
# Released widths and input sizes, few layers, a language model of 220 million parameters.
FEW = {
    "clip-448": {"num_hidden_layers": 2},
    "convnext-1024": {"depths": [1, 1, 1, 1]},
    "pix2struct-1024": {"num_hidden_layers": 1},
    "det-1024": {"depth": 2, "window_block_indexes": [0]},
}
_MIDSIZE = {
    "mm_vision_tower": ";".join(FEW), "mm_hidden_size": 6656, "encoder_configs": FEW, "hidden_size": 1024,
    "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 16,
}  # fmt: skip
# Eagle-X5-7B as released.
_FULL = {
    "mm_vision_tower": "clip-448;convnext-1024;sam-1024;det-1024;pix2struct-1024", "mm_hidden_size": 7680,
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32,
}  # fmt: skip


def config(subject: str) -> dict[str, Any]:
    """The config.json of `demo`, `midsize` or `full`."""
    told = hub.read_config(hub.locate("demo"))
    if subject == "demo":
        return told
    same = {key: value for key, value in told.items() if key not in ("encoder_configs", "image_size", "grid_size")}
    same |= {"vocab_size": 32000, "max_position_embeddings": 4096, "tokenizer_model_max_length": 2048}
    return {**same, **(_FULL if subject == "full" else _MIDSIZE)}


def skeleton(subject: str) -> eagle.Eagle:
    """A subject without weights."""
    with torch.device("meta"):
        return eagle.Eagle(config(subject)).eval().requires_grad_(False)


def random(subject: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> eagle.Eagle:
    """A subject with random weights under which all values stay finite; the full one in bfloat16 on a GPU."""
    own = ("cuda", torch.bfloat16) if subject == "full" else ("cpu", torch.float32)
    model = skeleton(subject)
    fill(model, torch.device(device or own[0]), dtype or own[1])
    return model


def fill(model: FamilyModel, device: torch.device, dtype: torch.dtype) -> None:
    """Give a model that was built on the meta device weights, made where and as they stay."""
    torch.manual_seed(0)
    model.to(dtype).to_empty(device=device)
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.02)
        else:
            tensor.fill_(float(name.endswith("weight")))
    model.restore_buffers()
    model.to(device).eval().requires_grad_(False)


_CAMBRIAN_ENTRIES = {
    "siglip/CLIP-ViT-SO400M-14-384": "siglip", "openai/clip-vit-large-patch14-336": "clip",
    "facebook/dinov2-giant-res378": "dinov2", "clip-convnext-XXL-multi-stage": "convnext",
}  # fmt: skip
# Cambrian-8B and DeepSeek-VL-7B as released, and what is smaller in the small ones.
_LLAMA3 = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
_CAMBRIAN = {
    **_LLAMA3, "model_type": "cambrian_llama", "mm_projector_type": "sva", "image_token_len": 576, "num_query_group": 1,
    "mm_vision_tower_aux_list": list(_CAMBRIAN_ENTRIES), "query_num_list": [576], "connector_only": False,
    "mm_vision_tower_aux_token_len_list": [576, 576, 576, 9216], "connector_depth": 3, "vision_hidden_size": 1024,
    "num_of_vision_sampler_layers": 10, "start_of_vision_sampler_layers": 0, "stride_of_vision_sampler_layers": 3,
    "mm_vision_select_layer": -2, "tokenizer_model_max_length": 2048,
}  # fmt: skip
_FEW = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512,
}  # fmt: skip
_FEW_ENCODERS = {
    "siglip": {"depth": 1, "embed_dim": 32, "num_heads": 2},
    "clip": {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2},
    "dinov2": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "convnext": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]},
}
_DEEPSEEK = {
    "model_type": "deepseek_vl_hybrid",
    "text_config": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 102400, "max_position_embeddings": 16384,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 384, "patch_size": 16,
    },
    "high_res_vision_config": {
        "model_type": "sam_vision_model", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "mlp_dim": 3072, "output_channels": 256, "image_size": 1024, "patch_size": 16, "window_size": 14,
        "global_attn_indexes": [2, 5, 8, 11],
    },
}  # fmt: skip
_TEMPLATES = {"cambrian": "llama_3", "deepseek_vl": "deepseek"}


def deepseek(small: bool) -> dict[str, Any]:
    """The config.json of DeepSeek-VL-7B, or of one of few layers."""
    told: dict[str, Any] = json.loads(json.dumps({**_DEEPSEEK, "image_token_id": 2}))
    if small:
        told["text_config"].update(_FEW)
        few = {"num_attention_heads": 2, "hidden_size": 48}
        told["vision_config"].update(few, num_hidden_layers=1, intermediate_size=64)
        told["high_res_vision_config"].update(few, num_hidden_layers=4, mlp_dim=64, output_channels=12)
        told["high_res_vision_config"]["global_attn_indexes"] = [0, 1, 2, 3]
    return told


def hooked(small: bool, device: torch.device, dtype: torch.dtype) -> hf.HfMaskedModel:
    """DeepSeek-VL-7B in transformers' own code, with random weights, or one of few layers and small images."""
    told, mark, sides = deepseek(small), "<image_placeholder>", (256, 96) if small else (1024, 384)
    told["high_res_vision_config"]["image_size"], told["vision_config"]["image_size"] = sides
    words = tokenizer(told["text_config"]["vocab_size"], mark)
    words.image_token, words.pad_token, words.padding_side = mark, words.eos_token, "left"
    told |= {"image_token_id": words.convert_tokens_to_ids(mark), "tie_word_embeddings": False}
    before, after = templates.TEMPLATES["deepseek"].render(["|"]).split("|")
    content = f"{{% if c['type'] == 'image' %}}{mark} {{% else %}}{{{{ c['text'] }}}}{{% endif %}}"
    asked = f"{{{{ {before!r} }}}}{{% for c in messages[0]['content'] %}}{content}{{% endfor %}}{{{{ {after!r} }}}}"
    tokens = (sides[1] // told["vision_config"]["patch_size"]) ** 2
    processor = DeepseekVLHybridProcessor(
        deepseek_vl.native_processor(*sides), words, chat_template=asked, num_image_tokens=tokens
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(DeepseekVLHybridConfig(**told), dtype=dtype).eval()
    model.generation_config.eos_token_id = words.eos_token_id
    named = {"sam": "model.high_res_vision_proj", "siglip": "model.vision_model"}
    return hf.HfMaskedModel(model, processor, places.places_at(model, named))


def other(name: str, small: bool, device: torch.device, dtype: torch.dtype) -> native.MaskedModel:
    """`cambrian` or `deepseek_vl` with random weights: the full model, of released sizes or of few layers."""
    template = templates.TEMPLATES[_TEMPLATES[name]]
    if name == "deepseek_vl":
        told = deepseek(small)
        words = tokenizer(told["text_config"]["vocab_size"], *set(template.placeholder or ()))
        with torch.device("meta"):
            model: FamilyModel = deepseek_vl.DeepseekVl(told)
    else:
        words = tokenizer(_FEW["vocab_size"] if small else _LLAMA3["vocab_size"])
        text = template.render([f"{templates.IMAGE}\nw3"])
        told = {**_CAMBRIAN, "image_position": templates.tokenize(words, text, template).index(templates.IMAGE_ID)}
        if small:
            told |= {**_FEW, "num_of_vision_sampler_layers": 2, "vision_hidden_size": 32, "connector_depth": 1}
            told["encoder_configs"] = {entry: _FEW_ENCODERS[name] for entry, name in _CAMBRIAN_ENTRIES.items()}
        with torch.device("meta"):
            model = cambrian.Cambrian(told)
            for encoder in model.encoder_names:
                sizes = {**cambrian.RELEASED[encoder], **model.own_sizes[encoder]}
                side = math.isqrt(model.shapes("encoder")[encoder][0])
                model.encoders[encoder] = cambrian.build_tower(
                    encoder, sizes, side, model.select_layer, "offset", "sdpa"
                )
    fill(model, device, dtype)
    if isinstance(model, cambrian.Cambrian):
        for tower in model.encoders.values():
            tower.restore_buffers()
        model.to(device)
    return native.MaskedModel(model, words, template=template, eos=(2,))


def tokenizer(size: int = 32000, *marks: str) -> Any:
    """Each token of an answer is a word, so that answers differ where their tokens do; marks are the last tokens."""
    end = size - len(marks)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{number}": number for number in range(3, end - 2)}}
    words |= {"a": end - 2, "picture": end - 1}  # by which a tokenizer without words is told (hub.check_tokenizer)
    made = Tokenizer(models.WordLevel(words, "<unk>"))
    made.add_special_tokens(list(marks))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def write(subject: str, folder: Path) -> None:
    """Write a subject in the released format."""
    model = random(subject)
    folder.mkdir()
    tensors = {model.release(own): value.contiguous() for own, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(subject)))
    tokenizer(config(subject)["vocab_size"]).save_pretrained(folder)


def load(subject: str, folder: Path) -> native.MaskedModel:
    """The full model of a subject; `midsize` as `write` left it, `full` made where it runs."""
    if subject == "full":
        return native.MaskedModel(random(subject), tokenizer(), template=templates.TEMPLATES["vicuna_v1"])
    return loading.load("eagle_masked", str(folder), device="cpu", dtype="float32")


def documents(
    images: int, questions: int, size: int = 32000, words: tuple[int, int] = (WORDS, WORDS)
) -> list[tuple[str, Image.Image]]:
    """Questions of the words of a tokenizer of this size, so many to each image; `words`: least and most of one."""
    dice = np.random.default_rng(0)
    noise = [dice.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(images)]
    pictures = [Image.fromarray(pixels) for pixels in noise for _ in range(questions)]
    lengths = np.random.default_rng(1).integers(words[0], words[1] + 1, len(pictures))
    return [
        (" ".join(f"w{n}" for n in dice.integers(3, size, length)), picture)
        for length, picture in zip(lengths, pictures, strict=True)
    ]


def rate(subject: str) -> tuple[float, torch.dtype, str]:
    """Operations a second of a large matrix product, best of 20, in the type of a subject; and where it ran."""
    device, dtype, side = ("cuda", torch.bfloat16, 8192) if subject == "full" else ("cpu", torch.float32, 2048)
    square, times = torch.randn(side, side).to(device, dtype), []
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(square, square)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    place = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return 2 * side**3 / min(times), dtype, place
