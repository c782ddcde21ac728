"""Time of one image and question under every leave-one-out mask, against the full model and a bound.

    python benchmarks/masks.py                          the bundled checkpoint
    python benchmarks/masks.py --pretrained NVEagle/Eagle-X5-7B --device cuda

A dropped encoder is not run; running it and zeroing its output would cost what the full model costs. The bound of a
mask is the time of the encoders that stay plus preprocessing, fusion and language model, each measured alone in the
same run. The shortest of the repeats is printed; nothing is gated on it.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from redundancy_eval import masks
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Shortest wall time of a call, after two calls to warm up."""
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[2:])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", default="demo")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16, help="images at a time")
    parser.add_argument("--new-tokens", type=int, default=8, help="tokens of an answer")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    full = loading.load("eagle_masked", args.pretrained, device=args.device)
    names, device = full.model.encoder_names, full.device
    side = full.model.image_size
    noise = np.random.default_rng(0).integers(0, 256, (args.batch, side, side, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    prompts = [Prompt("What is shown?\nAnswer with one word.", (image,)) for image in images]
    pixels = {"shared": full.model.preprocess(images)["shared"].to(device, full.dtype)}

    def time_of(function: Callable[[], object]) -> float:
        with torch.inference_mode():
            return seconds(function, device, args.repeats) / args.batch * 1e3

    prepare = time_of(lambda: full.model.preprocess(images))
    alone = {name: time_of(lambda name=name: full.model.encode(pixels, [name])) for name in names}
    answer = {"min_new_tokens": args.new_tokens, "max_new_tokens": args.new_tokens}
    nothing = native.MaskedModel(full.model, full.tokenizer, names, template=full.template, eos=full.eos)
    language = time_of(lambda: nothing.generate(prompts, **answer))
    print(f"ms an image, batches of {args.batch}, {device}, {full.dtype}, torch {torch.__version__}")
    print(f"preprocessing {prepare:.2f}; " + "; ".join(f"{k} {v:.2f}" for k, v in alone.items()))
    print(f"fusion, prefill and {args.new_tokens} tokens {language:.2f}\n")
    print(f"{'drop':<14}{'ms':>9}{'of full':>9}{'bound':>9}{'ms/bound':>10}")
    whole = 0.0
    for mask in masks.leave_one_out(names):
        subject = native.MaskedModel(full.model, full.tokenizer, mask, template=full.template, eos=full.eos)
        spent = time_of(lambda subject=subject: subject.generate(prompts, **answer))
        whole = whole or spent
        bound = language + (prepare if len(mask) < len(names) else 0) + sum(alone[n] for n in names if n not in mask)
        label = masks.label(mask, names)
        print(f"{label:<14}{spent:>9.2f}{spent / whole:>9.0%}{bound:>9.2f}{spent / bound:>10.2f}")


if __name__ == "__main__":
    main()
