"""A tiny random DeepSeek-VL-7B as transformers converts it; real code, small numbers."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.deepseek_vl import model as deepseek_vl

EOS = "<｜end▁of▁sentence｜>"


def config(vocabulary: int, **changes) -> dict:
    """Images of 64 pixels for SAM, 48 for SigLIP; 9 tokens."""
    shared = {"patch_size": 16, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    return {
        "architectures": ["DeepseekVLHybridForConditionalGeneration"],
        "model_type": "deepseek_vl_hybrid",
        "image_token_id": vocabulary - 1,
        "text_config": {
            "model_type": "llama", "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 256,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 32, "image_size": 48,
            "num_attention_heads": 2, "num_hidden_layers": 2, **shared,
        },
        "high_res_vision_config": {
            "model_type": "sam_vision_model", "hidden_size": 16, "mlp_dim": 24, "output_channels": 4,
            "image_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "global_attn_indexes": [1, 2],
            "window_size": 3, **shared,
        },
        **changes,
    }  # fmt: skip


def release(own: str) -> str:
    """Own name -> the name in a converted checkpoint, with SigLIP where transformers 4 had it."""
    own = re.sub(r"^language_model\.lm_head\.", "lm_head.", own)
    own = re.sub(r"^language_model\.model\.", "model.language_model.", own)
    own = re.sub(r"^vision\.vision_model\.", "model.vision_model.vision_model.", own)
    return re.sub(r"^vision\.", "model.", own)


def write(folder: Path, seed: int = 0, **changes) -> Path:
    """Write a random checkpoint in the converted layout and return its folder."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(hub.locate("demo") / "tokenizer.json"),
        bos_token="<s>",
        eos_token=EOS,
        additional_special_tokens=["<image_placeholder>"],
    )
    tokenizer.save_pretrained(folder)
    settings = config(len(tokenizer), **changes)
    model = deepseek_vl.DeepseekVl(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    tensors = {release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    # What transformers makes of a Llama config without ids; the tokenizer's is right.
    (folder / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    return folder
