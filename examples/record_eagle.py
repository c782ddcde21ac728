"""Record tensors of the original Eagle X models, to check our port against them.

    python record_eagle.py --model-path Eagle-X5-7B --out recorded \\
        --image cat.jpg --question "Describe this image." --image menu.png --question "What does the tea cost?"
    redundancy-eval parity recorded

The first command runs where the original code (github.com/NVlabs/EAGLE at fef95f1) runs, with its old torch and
transformers, and needs none of redundancy-eval; the second where redundancy-eval is installed. The original code
fetches the encoders' own weights from the hub before it loads the checkpoint over them.

Each image is recorded with all encoders, without each one, and without any; the first image also without each pair.
An encoder is masked by zeros in its channels after the channel concatenation, right before the projector.
docs/families.md describes the files.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

IMAGE = "<image>"


class UsageError(Exception):
    """Something the user can put right; the message says what."""


class MaskedTower:
    """Stands in for a vision tower's forward: runs the encoders once per image, then zeroes those in `dropped`."""

    def __init__(self, tower: nn.Module, names: list[str]) -> None:
        self.names = names
        self.dropped: tuple[str, ...] = ()
        self.fused = torch.empty(0)  # the unmasked concatenation of the current image, once there is one
        self._forward = tower.forward
        self._channels = [0] * len(names)
        if len(tower.vision_towers) != len(names):
            raise UsageError(f"the original code knows {len(tower.vision_towers)} of the encoders {', '.join(names)}")
        for index, encoder in enumerate(tower.vision_towers):
            encoder.register_forward_hook(lambda _module, _inputs, output, index=index: self._measure(index, output))
        tower.forward = self

    def _measure(self, index: int, output: Tensor) -> None:
        self._channels[index] = output.shape[2] if output.ndim == 3 else output.shape[1]  # (b, n, c) or (b, c, h, w)

    def encoders(self) -> dict[str, Tensor]:
        """The unmasked features of each encoder as they enter the concatenation."""
        parts = self.fused.split(self._channels, dim=-1)
        return {name: parts[index] for index, name in enumerate(self.names)}

    def __call__(self, images: Tensor) -> Tensor:
        """The concatenation with zeros for the dropped encoders."""
        if not self.fused.numel():
            self.fused = self._forward(images)
        parts = self.encoders().items()
        return torch.cat([torch.zeros_like(part) if name in self.dropped else part for name, part in parts], dim=-1)


class Recorder:
    """The original model, and what it takes to ask it."""

    def __init__(self, checkpoint: Path, device: str, dtype: torch.dtype) -> None:
        builder = _upstream("eagle.model.builder")
        # The loader asks for torch.float16. That rounds weights, and constants that are made while it loads (the mean
        # and std of Pix2Struct), which a cast of the loaded model does not undo; so the name gets another meaning.
        builder.torch = SimpleNamespace(**{**vars(torch), "float16": dtype})
        loaded = builder.load_pretrained_model(str(checkpoint), None, "eagle", device=device)
        self.tokenizer, self.model, self.image_processor, _ = loaded
        self.model.eval()
        self.dtype = dtype
        self.tower = MaskedTower(self.model.get_vision_tower(), _tower_names(checkpoint))

    def prompt(self, question: str, conv_template: str | None) -> dict[str, Any]:
        """Template, messages, text and token ids of a question about one image."""
        is_llama3 = "<|start_header_id|>" in self.tokenizer.get_vocab()
        conv_template = conv_template or ("llama3" if is_llama3 else "vicuna_v1")
        conversation = _upstream("eagle.conversation").conv_templates[conv_template].copy()
        message = f"{IMAGE}\n{question}"
        conversation.append_message(conversation.roles[0], message)
        conversation.append_message(conversation.roles[1], None)
        text = conversation.get_prompt()
        ids = _upstream("eagle.mm_utils").tokenizer_image_token(text, self.tokenizer)
        return {"conv_template": conv_template, "messages": [message], "prompt": text, "input_ids": ids}

    def pixels(self, image: Image.Image) -> tuple[Tensor, dict[str, str]]:
        """The preprocessed image as float32 (3, h, w), and checksums of it and of the 8-bit values it came from."""
        processor = self.image_processor
        pixels = _upstream("eagle.mm_utils").process_images([image], processor, self.model.config)[0].float()
        mean, std = np.array([processor.image_mean, processor.image_std])[:, :, None, None]
        floats = pixels.numpy().astype("<f4")
        uint8 = np.rint((floats * std + mean) * 255).clip(0, 255).astype(np.uint8)
        sums = [hashlib.sha256(values.tobytes()).hexdigest() for values in (floats, uint8)]
        return pixels, {"sha256_le": sums[0], "uint8_sha256_chw": sums[1]}

    def record(self, pixels: Tensor, ids: list[int], generation: dict[str, Any], pairs: bool) -> dict[str, Tensor]:
        """All tensors of one image and prompt, named `<condition>/<tensor>`; `pairs` adds masks of two encoders."""
        names = self.tower.names
        masks = [mask for size in (1, 2)[: 1 + pairs] for mask in itertools.combinations(names, size)]
        conditions = {"nomask": (), **{"zero:" + "+".join(mask): mask for mask in masks}, "all_masked": tuple(names)}
        tensors: dict[str, Tensor] = {}
        self.tower.fused = torch.empty(0)
        for condition, mask in conditions.items():
            print(f"  {condition}", flush=True)
            self.tower.dropped = mask
            for name, value in self._compute(pixels, ids, generation, everything=not mask).items():
                value = value.float() if value.is_floating_point() else value
                tensors[f"{condition}/{name}"] = value.cpu().clone()  # safetensors refuses views of one tensor
        return tensors

    @torch.inference_mode()
    def _compute(
        self, pixels: Tensor, ids: list[int], generation: dict[str, Any], everything: bool
    ) -> dict[str, Tensor]:
        images = pixels[None].to(self.model.device, self.dtype)
        input_ids = torch.tensor([ids], device=self.model.device)
        embeds = self.model.prepare_inputs_labels_for_multimodal(input_ids, None, None, None, None, images)[4]
        logits = self.model(inputs_embeds=embeds, use_cache=False).logits[0]
        answer = self.model.generate(
            input_ids, images=images, output_scores=True, return_dict_in_generate=True, **generation
        )
        found = {"image_embeds/rows_stride16": self.model.encode_images(images)[0, ::16], "logits_last": logits[-1]}
        found["tokens"] = answer.sequences[0]
        if everything:
            for name, features in self.tower.encoders().items():
                found[f"encoder/{name}/rows_stride16"] = features[0, ::16]
            found["fused/rows_stride64"] = self.tower.fused[0, ::64]
            found["logits_first"] = logits[0]
            found["logits_rows_stride64"] = logits[::64]
            found["step_scores"] = torch.cat(answer.scores)
        return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        record(args)
    except UsageError as error:
        print(f"record_eagle.py: error: {error}", file=sys.stderr)
        return 2
    print(f"recorded; now, where redundancy-eval is installed: redundancy-eval parity {args.out}")
    return 0


def record(args: argparse.Namespace) -> None:
    """Write a recorded folder; inputs.json comes last, so a recording cut short is not taken for a whole one.

    Raises:
        UsageError: the arguments cannot be followed.
    """
    if len(args.image) != len(args.question):
        raise UsageError(f"{len(args.image)} --image but {len(args.question)} --question; give each image one question")
    if any(IMAGE in question for question in args.question):
        raise UsageError(f"a question must not hold {IMAGE}; it is put before the question")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device; --device cpu is slow but works")
    _tower_names(args.model_path)
    pictures = [_picture(path) for path in args.image]
    _upstream("eagle.mm_utils")
    inputs, expected, link = args.out / "inputs", args.out / "expected", args.out / "checkpoint"
    for folder in (inputs, expected):
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint = args.model_path.resolve()
    for stale in (link, inputs / "inputs.json"):
        if stale.is_symlink() or stale.is_file():
            stale.unlink()
    if not link.exists():
        link.symlink_to(checkpoint, target_is_directory=True)
    elif link.resolve() != checkpoint:
        raise UsageError(f"{link} is a folder, but would become a link to {checkpoint}; choose another --out")

    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds the operands of float32 convolutions to 10 bits
    recorder = Recorder(checkpoint, args.device, getattr(torch, args.dtype))
    steps = args.max_new_tokens
    generation = dict(do_sample=False, num_beams=1, max_new_tokens=steps, min_new_tokens=steps, use_cache=True)
    entries: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for index, question in enumerate(args.question):
        name = args.image[index].stem
        while name in entries:
            name += f"_{index + 1}"
        print(f"{name}: {question}", flush=True)
        pictures[index].save(inputs / f"{name}.png")
        entries[name] = {"image_file": f"{name}.png", **recorder.prompt(question, args.conv_template)}
        pixels, stats[f"{name}/pixel_values"] = recorder.pixels(pictures[index])
        tensors = recorder.record(pixels, entries[name]["input_ids"], generation, pairs=index == 0)
        save_file(tensors, str(expected / f"{name}.safetensors"))
    conv_template = next(iter(entries.values()))["conv_template"]
    recorded = {"conv_template": conv_template, "generation": generation, "inputs": entries}
    for name, content in (("preprocessed_stats", stats), ("inputs", recorded)):
        (inputs / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _upstream(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = "run this where github.com/NVlabs/EAGLE is installed, or with its folder in PYTHONPATH"
        raise UsageError(f"cannot import {module} ({error}); {hint}") from None


def _tower_names(checkpoint: Path) -> list[str]:
    try:
        towers = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("mm_vision_tower") or ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{checkpoint} is not a checkpoint folder: {error}") from None
    if ";" not in towers:
        raise UsageError(f"{checkpoint} is not an Eagle X checkpoint: its mm_vision_tower is {towers!r}")
    return towers.split(";")


def _picture(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model-path", type=Path, required=True, metavar="CHECKPOINT", help="folder with a released checkpoint")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where to record; an earlier record is overwritten")
    add("--image", type=Path, required=True, action="append", help="an image file; repeat it for more images")
    add("--question", required=True, action="append", help=f"what to ask about the image, without {IMAGE}")
    add("--conv-template", choices=["vicuna_v1", "llama3"], help="default: the one the tokenizer was made for")
    add("--device", default="cuda", help="cuda (default) spreads the model over all GPUs; cuda:0 or cpu")
    types = ["float32", "float16", "bfloat16"]
    add("--dtype", default="float32", choices=types, help="parity computes in float32 (default); others save memory")
    add("--max-new-tokens", type=int, default=16, metavar="N", help="tokens to generate, always N of them (default 16)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
