"""The "original code" of Two Towers, which knows nothing of redundancy-eval, and a recording of it.

python -m two_towers.original FOLDER TOKENIZER    a tiny random checkpoint, inputs, and what the original computes
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CONFIG = {
    "model_type": "two_towers", "image_size": 64,
    "convnext": {"depths": [1, 1, 1, 1], "dims": [4, 6, 8, 12]},
    "vocab_size": 0, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
}  # fmt: skip


class Original(nn.Module):
    """The model as its authors wrote it."""

    def __init__(self, config: dict):
        super().__init__()
        self.vit = VisionTransformer(
            img_size=64, patch_size=32, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool=""
        )
        sizes = config["convnext"]
        self.convnext = ConvNeXt(
            depths=tuple(sizes["depths"]), dims=tuple(sizes["dims"]), norm_eps=1e-5,
            num_classes=0,
        )  # fmt: skip
        self.project_vit, self.project_convnext = nn.Linear(16, 24), nn.Linear(12, 24)
        own = ("model_type", "image_size", "convnext")
        self.llm = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k not in own}))

    def checkpoint(self) -> dict[str, torch.Tensor]:
        """Tensors as they are released, an unused head among them; ConvNeXt's layer scale is called `weight`."""
        named = {}
        for name, value in self.state_dict().items():
            if name.startswith(("vit.", "convnext.")):
                name = f"vision.{name}".replace(".gamma", ".weight")
            named[name] = value.detach().clone().contiguous()
        return named


def pixels(image: Image.Image) -> tuple[np.ndarray, torch.Tensor]:
    """(rows, columns, 3) uint8, and (3, rows, columns) float32."""
    uint8 = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))
    values = ((uint8 * (1 / 255)).astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return uint8, torch.from_numpy(values).permute(2, 0, 1).contiguous()


@torch.inference_mode()
def compute(model: Original, image: torch.Tensor, ids: list[int], dropped: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """What is recorded under a mask: encoders' outputs, the image's embeddings, logits, greedy tokens."""
    vit = model.vit(image[None])[:, 1:]
    convnext = model.convnext.stages(model.convnext.stem(image[None])).flatten(2).transpose(1, 2)
    vit, convnext = vit * ("vit" not in dropped), convnext * ("convnext" not in dropped)
    visual = (model.project_vit(vit) + model.project_convnext(convnext))[0]
    place, table = ids.index(-200), model.llm.get_input_embeddings()
    parts = [table(torch.tensor(ids[:place])), visual, table(torch.tensor(ids[place + 1 :]))]
    sequence, tokens = torch.cat(parts)[None], []
    first = model.llm(inputs_embeds=sequence).logits[0]
    for _ in range(4):
        tokens.append(int(model.llm(inputs_embeds=sequence).logits[0, -1].argmax()))
        sequence = torch.cat([sequence, table(torch.tensor([[tokens[-1]]]))], 1)
    return {
        "encoder/vit": vit[0], "encoder/convnext": convnext[0], "image_embeds": visual, "logits_last": first[-1],
        "tokens": torch.tensor(tokens),
    }  # fmt: skip


def main(folder: Path, words: Path) -> None:
    """Write the recording."""
    torch.manual_seed(0)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    (folder / "inputs").mkdir()
    (folder / "expected").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(words / name, checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(words, config=LlamaConfig())
    config = {**CONFIG, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    model = Original(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    save_file(model.checkpoint(), checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(config))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    image.save(folder / "inputs" / "a.png")
    question, (uint8, floats) = "<image>\nWhat is it?", pixels(image)
    prompt = f"{SYSTEM} USER: {question} ASSISTANT:"
    left, right = prompt.split("<image>")
    ids = [*tokenizer(left).input_ids, -200, *tokenizer(right).input_ids[tokenizer.bos_token_id is not None :]]
    entry = {"image_file": "a.png", "messages": [question], "prompt": prompt, "input_ids": ids}
    generation = {"max_new_tokens": 4, "do_sample": False}
    (folder / "inputs" / "inputs.json").write_text(json.dumps({"generation": generation, "inputs": {"a": entry}}))
    stats = {
        "uint8_sha256_chw": hashlib.sha256(uint8.transpose(2, 0, 1).tobytes()).hexdigest(),
        "sha256_le": hashlib.sha256(floats.numpy().tobytes()).hexdigest(),
    }
    (folder / "inputs" / "preprocessed_stats.json").write_text(json.dumps({"a/pixel_values": stats}))
    expected = {}
    for condition, dropped in (
        ("nomask", ()), ("zero:vit", ("vit",)), ("zero:convnext", ("convnext",)), ("all_masked", ("vit", "convnext")),
    ):  # fmt: skip
        for name, value in compute(model, floats, ids, dropped).items():
            expected[f"{condition}/{name}"] = value.contiguous().clone()
    save_file(expected, folder / "expected" / "a.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
