"""What remembering modules saves a sweep of `hf_masked`: the same masks with and without it, in turn, in one process.

    python benchmarks/hf_masked.py --subject deepseek_vl_hybrid     two encoders side by side
    python benchmarks/hf_masked.py --subject unlimited_ocr          SAM feeds CLIP

Models of random weights and few layers, with encoders of released width and input size. Each of `--repeats` rounds puts
`--images` questions, each on an image of its own, under every mask to the sweep's engine (`engines.Looped`), `--batch`
questions at a time, once with the memory and once without. Seconds are CPU seconds of this process, the least of a
kind; passes are calls of an encoder's first layer. Answers must be the same, in text, tokens and log-probability.
"""

import argparse
import importlib.metadata
import os
import time
from pathlib import Path
from typing import Any

import subjects
import torch
from transformers import (
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    DeepseekVLHybridImageProcessor,
    DeepseekVLHybridProcessor,
    UnlimitedOcrConfig,
    UnlimitedOcrForConditionalGeneration,
    UnlimitedOcrImageProcessor,
    UnlimitedOcrProcessor,
)

from redundancy_eval import masks
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import hf, places
from redundancy_eval.model_wrappers.masking.prompt import Answer, Prompt
from redundancy_eval.model_wrappers.sweeps import engines

VOCABULARY = 4000
MARK = "<image>"
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %} w3"
)
_LANGUAGE = {
    "vocab_size": VOCABULARY, "hidden_size": 512, "intermediate_size": 1376, "num_attention_heads": 8,
    "num_key_value_heads": 8, "num_hidden_layers": 4, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SAM = {
    "hidden_size": 768, "num_attention_heads": 12, "output_channels": 256, "image_size": 1024, "patch_size": 16,
    "window_size": 14, "num_hidden_layers": 2, "global_attn_indexes": [1], "mlp_dim": 3072,
}  # fmt: skip
# Encoders by their places, and the first layer of each, whose calls are counted.
PLACES = {
    "deepseek_vl_hybrid": "siglip:model.vision_model+sam:model.high_res_vision_proj",
    "unlimited_ocr": "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder",
}
FIRST = {
    "deepseek_vl_hybrid": ("model.vision_model", "model.high_res_vision_model"),
    "unlimited_ocr": ("model.vision_tower.vision_encoder", "model.vision_tower.sam_encoder"),
}


def tokenizer() -> Any:
    """Words, and a mark for images."""
    made = subjects.tokenizer(VOCABULARY, MARK)
    made.add_special_tokens({"pad_token": "</s>", "additional_special_tokens": [MARK]})
    made.image_token, made.padding_side = MARK, "left"
    return made


def load(subject: str) -> hf.HfMaskedModel:
    """The full model."""
    words, model, processor = tokenizer(), None, None
    image = words.convert_tokens_to_ids(MARK)
    torch.manual_seed(0)
    if subject == "deepseek_vl_hybrid":
        siglip = {"model_type": "siglip_vision_model", "hidden_size": 1024, "intermediate_size": 4096}
        siglip |= {"num_hidden_layers": 2, "num_attention_heads": 16, "image_size": 384, "patch_size": 16}
        model = DeepseekVLHybridForConditionalGeneration(
            DeepseekVLHybridConfig(
                text_config={"model_type": "llama", **_LANGUAGE}, vision_config=siglip, image_token_id=image,
                high_res_vision_config={"model_type": "sam_vision_model", **_SAM},
            )
        )  # fmt: skip
        processor = DeepseekVLHybridProcessor(DeepseekVLHybridImageProcessor(), words, chat_template=TEMPLATE)
    else:
        clip = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 16}
        experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
        model = UnlimitedOcrForConditionalGeneration(
            UnlimitedOcrConfig(
                image_token_id=image, text_config={**_LANGUAGE, **experts, "first_k_dense_replace": 1},
                vision_config={
                    "sam_config": {**_SAM, "downsample_channels": [512, 1024]},
                    "encoder_config": {**clip, "image_size": 1024, "patch_size": 64},
                },
            )
        )  # fmt: skip
        images = UnlimitedOcrImageProcessor(size={"height": 1024, "width": 1024}, tile_size=1024, crop_to_patches=False)
        processor = UnlimitedOcrProcessor(
            image_processor=images, tokenizer=words, patch_size=16, downsample_ratio=4, chat_template=TEMPLATE
        )
    model.generation_config.eos_token_id = 2
    model = model.eval().requires_grad_(False)
    return hf.HfMaskedModel(model, processor, places.places_at(model, registry.parse_encoders(PLACES[subject])))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=PLACES, default="deepseek_vl_hybrid")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch", type=int, default=2, help="questions that are put together")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=8, help="tokens of an answer")
    args = parser.parse_args()
    full = load(args.subject)
    labels = [masks.label(mask, full.encoder_names) for mask in masks.every(full.encoder_names)]
    engine = engines.start(full, labels, None)
    assert isinstance(engine, engines.Looped)
    passes = dict.fromkeys(FIRST[args.subject], 0)
    for name in passes:
        layer = next(m for n, m in full.model.get_submodule(name).named_modules() if n.endswith("layers.0"))
        layer.register_forward_hook(lambda *_, name=name: passes.update({name: passes[name] + 1}))
    questions = subjects.documents(args.images, 1, VOCABULARY - 1)
    asked = [engine.ask(Prompt(text, (image,), f"document {n}")) for n, (text, image) in enumerate(questions)]
    modules = engine.remembered.modules

    def all_masks(keep: bool) -> tuple[float, dict[str, int], list[Answer]]:
        engine.remembered.forget()
        engine.remembered.modules = modules if keep else []
        passes.update(dict.fromkeys(passes, 0))
        answers, started = [], time.process_time()
        for place in range(0, len(asked), args.batch):
            batch = [(one, label) for label in labels for one in asked[place : place + args.batch]]
            settings = {"min_new_tokens": args.new_tokens}
            answers += [reply.answer for reply in engine.answer(batch, args.new_tokens, **settings)]
        return time.process_time() - started, dict(passes), answers

    all_masks(True)  # what feeds what is found out with the first image; and warm
    spent: dict[bool, list[float]] = {True: [], False: []}
    counts: dict[bool, dict[str, int]] = {}
    given: list[list[Answer]] = []
    for _ in range(args.repeats):
        for keep in (False, True):
            seconds, counts[keep], answers = all_masks(keep)
            spent[keep].append(seconds)
            given.append(answers)
    assert all(answers == given[0] for answers in given), "the memory changed an answer"
    told = [[answer.log_probability for answer in answers] for answers in given]
    assert all(probabilities == told[0] for probabilities in told), "the memory changed a log-probability"
    cpu = [x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{args.subject}: {len(labels)} masks of {args.images} questions, batches of {args.batch}; {len(given[0])}")
    print(f"equal answers ({len({answer.text for answer in given[0]})} different); feeds: {full.feeding.known}")
    print(f"{(cpu or ['?'])[0]}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads; {versions}\n")
    print("| | CPU s | " + " | ".join(f"passes of {name.rpartition('.')[2]}" for name in passes) + " |")
    print("|---|---:|" + "---:|" * len(passes))
    for keep, words in ((False, "every mask computes all"), (True, "what is given again is remembered")):
        print(f"| {words} | {min(spent[keep]):.1f} | " + " | ".join(map(str, counts[keep].values())) + " |")
    print(f"\nall rounds: {[[round(one, 1) for one in spent[keep]] for keep in (False, True)]}")


if __name__ == "__main__":
    main()
