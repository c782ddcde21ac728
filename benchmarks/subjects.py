"""Models of random weights for benchmarks/sweep.py: speed does not ask for sense, and nothing has to be fetched."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from redundancy_eval.model_wrappers import eagle, hub, masked

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


def random(subject: str) -> eagle.Eagle:
    """A subject with random weights under which all values stay finite; the full one in bfloat16 on a GPU."""
    device, dtype = ("cuda", torch.bfloat16) if subject == "full" else ("cpu", torch.float32)
    torch.manual_seed(0)
    model = skeleton(subject).to(dtype).to_empty(device=device)
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.02)
        else:
            tensor.fill_(float(name.endswith("weight")))
    model.restore_buffers()
    return model.to(device)


def tokenizer() -> Any:
    """Each token of an answer is a word, so that answers differ where their tokens do."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{number}": number for number in range(3, 32000)}}
    made = Tokenizer(models.WordLevel(words, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def write(subject: str, folder: Path) -> None:
    """Write a subject in the released format."""
    model = random(subject)
    folder.mkdir()
    tensors = {model.release(own): value.contiguous() for own, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(subject)))
    tokenizer().save_pretrained(folder)


def load(subject: str, folder: Path) -> masked.MaskedModel:
    """The full model of a subject; `midsize` as `write` left it, `full` made where it runs."""
    if subject == "full":
        return masked.MaskedModel(random(subject), tokenizer())
    return masked.load("eagle_masked", str(folder), device="cpu", dtype="float32")


def documents(images: int, questions: int) -> list[tuple[str, Image.Image]]:
    """Questions, so many to each image."""
    dice = np.random.default_rng(0)
    noise = [dice.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(images)]
    pictures = [Image.fromarray(pixels) for pixels in noise for _ in range(questions)]
    return [(" ".join(f"w{n}" for n in dice.integers(3, 32000, WORDS)), picture) for picture in pictures]


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
