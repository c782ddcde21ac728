"""Tiny random models of transformers itself, with processors and chat templates, for masking by module path."""

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from redundancy_eval.model_wrappers.checkpoints import hub

TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}ASSISTANT:"
)


def tokenizer():
    """The demo's tokenizer with an image token."""
    made = AutoTokenizer.from_pretrained(hub.locate("demo"), config=LlamaConfig())
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    made.image_token, made.pad_token = "<image>", made.eos_token
    return made


def randomise(model, seed: int = 0):
    """Seeded weights that are large enough for outputs to differ."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3 if parameter.ndim > 1 else 0.1)
    return model


def llava(folder: Path) -> Path:
    """LLaVA: one CLIP."""
    words = tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )  # fmt: skip
    model = randomise(LlavaForConditionalGeneration(config).eval())
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        image_processor=images, tokenizer=words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def unlimited_ocr(folder: Path) -> Path:
    """The architecture of DeepSeek-OCR: SAM feeds CLIP, and both are concatenated."""
    from transformers import (
        UnlimitedOcrConfig,
        UnlimitedOcrForConditionalGeneration,
        UnlimitedOcrImageProcessor,
        UnlimitedOcrProcessor,
    )

    words = tokenizer()
    config = UnlimitedOcrConfig(
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_config={
            "sam_config": dict(
                hidden_size=16, output_channels=8, num_hidden_layers=2, num_attention_heads=2, image_size=64,
                patch_size=4, window_size=3, global_attn_indexes=[1], mlp_dim=24, downsample_channels=[12, 16],
                initializer_range=0.02,
            ),
            "encoder_config": dict(
                hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=64,
                patch_size=16,
            ),
        },
        text_config=dict(
            vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
            n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1,
        ),
    )  # fmt: skip
    model = randomise(UnlimitedOcrForConditionalGeneration(config).eval())
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    images = UnlimitedOcrImageProcessor(size={"height": 64, "width": 64}, tile_size=64, crop_to_patches=False)
    UnlimitedOcrProcessor(
        image_processor=images, tokenizer=words, patch_size=4, downsample_ratio=4, chat_template=TEMPLATE
    ).save_pretrained(folder)
    return folder
