"""Record tensors of the original Eagle X models, to check our port against them.

    python record_eagle.py --model-path Eagle-X5-7B --out recorded \\
        --image cat.jpg --question "Describe this image." --image menu.png --question "What does the tea cost?"
    redundancy-eval parity recorded

The first command runs where the original code (github.com/NVlabs/EAGLE, branch main) runs, with its old torch and
transformers, and needs none of redundancy-eval; the second where redundancy-eval is installed. The original code
fetches the encoders' own weights from the hub before it loads the checkpoint over them.

Each image is recorded with all encoders, without each one, and without any; the first image also without each pair.
An encoder is masked by zeros in its channels right before the channel concatenation is projected. docs/families.md
describes the files.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

PLACEHOLDER = "<image>"


class UsageError(Exception):
    """Something the user can put right; the message says what."""


class MaskedTower:
    """Takes the place of a vision tower's forward: runs the encoders once per image, then zeroes those in `dropped`."""

    def __init__(self, tower: nn.Module, names: list[str]) -> None:
        self.names = names
        self.dropped: tuple[str, ...] = ()
        self.fused: Tensor | None = None
        self._forward = tower.forward
        self._channels: dict[str, int] = {}
        if len(tower.vision_towers) != len(names):
            raise UsageError(f"the original code built {len(tower.vision_towers)} encoders for {';'.join(names)}")
        for index, name in enumerate(names):
            tower.vision_towers[index].register_forward_hook(self._measure(name))
        tower.forward = self

    def _measure(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self._channels[name] = output.shape[2] if output.ndim == 3 else output.shape[1]  # (b,n,c) or (b,c,h,w)

        return hook

    def encoders(self) -> dict[str, Tensor]:
        """The unmasked features of each encoder as they enter the concatenation."""
        parts = self.fused.split([self._channels[name] for name in self.names], dim=-1)
        return {name: parts[index] for index, name in enumerate(self.names)}

    def __call__(self, images: Tensor) -> Tensor:
        """The channel concatenation, with zeros for the dropped encoders."""
        if self.fused is None:
            self.fused = self._forward(images)
        parts = self.encoders().items()
        return torch.cat([torch.zeros_like(part) if name in self.dropped else part for name, part in parts], dim=-1)


class Recorder:
    """The original model with what is needed to ask it."""

    def __init__(self, checkpoint: Path, device: str, dtype: torch.dtype) -> None:
        names = _tower_names(checkpoint)
        builder, self.mm_utils = _upstream("eagle.model.builder"), _upstream("eagle.mm_utils")
        # The loader asks for float16 by name, which would round weights and constants for good; give it ours.
        builder.torch = SimpleNamespace(**{**vars(torch), "float16": dtype})
        try:
            loaded = builder.load_pretrained_model(str(checkpoint), None, "eagle", device=device)
        finally:
            builder.torch = torch
        self.tokenizer, self.model, self.image_processor, _ = loaded
        self.model.eval()
        self.dtype = dtype
        self.tower = MaskedTower(self.model.get_vision_tower(), names)

    def prompt(self, question: str, conv_template: str) -> dict[str, Any]:
        """Entry of inputs.json for a question, but for the image file."""
        message = f"{PLACEHOLDER}\n{question}"
        conversation = _upstream("eagle.conversation").conv_templates[conv_template].copy()
        conversation.append_message(conversation.roles[0], message)
        conversation.append_message(conversation.roles[1], None)
        text = conversation.get_prompt()
        ids = self.mm_utils.tokenizer_image_token(text, self.tokenizer)
        return {"conv_template": conv_template, "messages": [message], "prompt": text, "input_ids": ids}

    def pixels(self, image: Image.Image) -> Tensor:
        """The preprocessed image, float32 (3, height, width)."""
        return self.mm_utils.process_images([image], self.image_processor, self.model.config)[0].float()

    def pixel_stats(self, pixels: Tensor) -> dict[str, Any]:
        """Checksums of a preprocessed image: of the floats, and of the 8-bit values they came from."""
        mean, std = (
            np.array(values).reshape(3, 1, 1)
            for values in (self.image_processor.image_mean, self.image_processor.image_std)
        )
        uint8 = np.rint((pixels.numpy() * std + mean) * 255).clip(0, 255).astype(np.uint8)
        return {
            "shape": list(pixels.shape),
            "sha256_le": hashlib.sha256(pixels.numpy().astype("<f4").tobytes()).hexdigest(),
            "uint8_sha256_chw": hashlib.sha256(uint8.tobytes()).hexdigest(),
        }

    @torch.inference_mode()
    def record(
        self, pixels: Tensor, input_ids: list[int], generation: dict[str, Any], pairs: bool
    ) -> dict[str, Tensor]:
        """All tensors of one image and prompt, named `<condition>/<tensor>`."""
        images = pixels[None].to(self.model.device, self.dtype)
        ids = torch.tensor([input_ids], device=self.model.device)
        names, tensors = self.tower.names, {}
        masks: list[tuple[str, ...]] = [(), *((name,) for name in names)]
        masks += [*itertools.combinations(names, 2)] if pairs else []
        conditions = {("zero:" + "+".join(mask)) if mask else "nomask": mask for mask in masks}
        self.tower.fused = None
        for condition, self.tower.dropped in {**conditions, "all_masked": tuple(names)}.items():
            print(f"  {condition}", flush=True)
            embeds = self.model.prepare_inputs_labels_for_multimodal(ids, None, None, None, None, images)[4]
            logits = self.model(inputs_embeds=embeds).logits[0]
            answer = self.model.generate(
                ids, images=images, output_scores=True, return_dict_in_generate=True, **generation
            )
            found = {
                "image_embeds/rows_stride16": self.model.encode_images(images)[0, ::16],
                "logits_last": logits[-1],
                "tokens": answer.sequences[0],
            }
            if condition == "nomask":
                features = self.tower.encoders().items()
                found.update({f"encoder/{name}/rows_stride16": feature[0, ::16] for name, feature in features})
                found["fused/rows_stride64"] = self.tower.fused[0, ::64]
                found["logits_first"] = logits[0]
                found["logits_rows_stride64"] = logits[::64]
                found["step_scores"] = torch.cat(answer.scores)
            tensors.update({f"{condition}/{name}": value for name, value in found.items()})
        return {name: _storable(value) for name, value in tensors.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        record(args)
    except UsageError as error:
        print(f"record_eagle.py: error: {error}", file=sys.stderr)
        return 2
    print(f"done; where redundancy-eval is installed: redundancy-eval parity {args.out}")
    return 0


def record(args: argparse.Namespace) -> None:
    """Write a recorded folder; inputs.json comes last, so that a recording cut short is not taken for a whole one.

    Raises:
        UsageError: the arguments cannot be followed.
    """
    if len(args.image) != len(args.question):
        raise UsageError(f"{len(args.image)} --image but {len(args.question)} --question; give one question per image")
    if any(PLACEHOLDER in question for question in args.question):
        raise UsageError(f"a question must not hold {PLACEHOLDER}; it is put before the question")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available; --device cpu is slow but works")
    pictures = {_free_name(path, args.image[:index]): _open(path) for index, path in enumerate(args.image)}
    _tower_names(args.model_path)
    templates = _upstream("eagle.conversation").conv_templates
    if args.conv_template and args.conv_template not in templates:
        raise UsageError(f"--conv-template must be one of {', '.join(templates)}; not {args.conv_template!r}")
    for folder in (args.out / "inputs", args.out / "expected"):
        folder.mkdir(parents=True, exist_ok=True)
    _link(args.out / "checkpoint", args.model_path)
    (args.out / "inputs" / "inputs.json").unlink() if (args.out / "inputs" / "inputs.json").exists() else None

    torch.backends.cudnn.allow_tf32 = False  # convolutions in float32 would be rounded to 10 bits
    recorder = Recorder(args.model_path, args.device, getattr(torch, args.dtype))
    is_llama3 = "<|start_header_id|>" in recorder.tokenizer.get_vocab()
    conv_template = args.conv_template or ("llama3" if is_llama3 else "vicuna_v1")
