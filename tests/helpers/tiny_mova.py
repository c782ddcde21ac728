"""A tiny random MoVA in the released format, and the vocabulary of its question's encoder; real code, small numbers."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.families.mova import model as mova

WORDS = [*"abcdefghijklmnopqrstuvwxyz0123456789:?.,", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
ADDED = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
TINY_VIT = {"num_hidden_layers": 2, "num_attention_heads": 2}
SAM = {**TINY_VIT, "input_size": 64, "hidden_size": 16, "output_channels": 8, "window_size": 3,
       "global_attn_indexes": [1]}  # fmt: skip
STRUCT = {**TINY_VIT, "max_patches": 9, "hidden_size": 16, "d_ff": 24, "d_kv": 8, "seq_len": 8}
SIZES = {
    "clip": {**TINY_VIT, "hidden_size": 64, "intermediate_size": 48},
    "dinov2": {**TINY_VIT, "image_size": 42, "hidden_size": 16, "mlp_ratio": 2, "use_swiglu_ffn": False},
    "vary": {**SAM, "vary_channels": 12},
    "codetr": {
        "input_size": 80, "window_size": 2, "embed_dim": 16, "depth": 2, "num_heads": 2, "window_block_indexes": [0],
        "pretrain_img_size": 80, "output_channels": 8, "output_grid": 3,
    },
    "pix2struct": STRUCT,
    "deplot": {**STRUCT, "hidden_size": 24},
    "biomedclip": {"input_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2},
    "sam": {**SAM, "output_channels": 16},
    "text": {
        "vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 512,
    },
}  # fmt: skip
CHANNELS = [16, 12, 8, 16, 24, 16, 16]


def config(**changes) -> dict:
    """A map of 4 x 4 tokens of CLIP, 4 visual tokens, all of which are seen when experts are chosen."""
    demo = hub.read_config(hub.locate("demo"))
    for key in [key for key in demo if key.startswith("mm_") or key in ("encoder_configs", "image_size", "grid_size")]:
        del demo[key]
    return {
        **demo,
        "model_type": "mova_llama",
        "architectures": ["MovaLlamaForCausalLM"],
        "mm_vision_tower": ["openai/clip-vit-large-patch14-336", "facebook/dinov2-giant", *"vcpdbs"],
        "mm_projector_type": "mov_adapter",
        "mm_projector_text_encoder": "bert-large-uncased",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_hidden_size": 64,
        "expert_channels": CHANNELS,
        "image_feat_size": 4,
        "num_projector_layers": 2,
        "topk_experts": 3,
        "num_routing_tokens": 4,
        "image_aspect_ratio": "pad",
        "vocab_size": demo["vocab_size"] + len(ADDED),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tokenizer_model_max_length": 2048,
        "max_position_embeddings": 4096,
        "encoder_configs": SIZES,
        **changes,
    }


def write(folder: Path, seed: int = 8, **changes) -> tuple[Path, Path]:
    """Write a random checkpoint and the vocabulary; return the checkpoint's folder and that for `encoder_weights`."""
    torch.manual_seed(seed)
    settings, checkpoint = config(**changes), folder / "checkpoint"
    model = mova.Mova(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    tokenizer = hub.read_tokenizer(hub.locate("demo"))
    tokenizer.add_tokens(list(ADDED), special_tokens=True)
    tokenizer.model_max_length = settings["tokenizer_model_max_length"]
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "ABCDEFG,"]
    with torch.no_grad():  # so that answers name experts, other ones for other pictures
        model.language_model.lm_head.weight[letters] *= 2
        model.language_model.model.layers[0].self_attn.q_proj.weight *= 10
        model.mm_projector.mlp[2].weight *= 40
    tensors = {model.release(own): value.detach().clone().contiguous() for own, value in model.state_dict().items()}
    # What nothing computes with: layers behind the last but one, heads, aliases of rotary tables.
    tower = "model.vision_tower.vision_tower_"
    for name in (
        f"{tower}0.vision_model.encoder.layers.1.mlp.fc1.bias", f"{tower}0.vision_model.post_layernorm.bias",
        f"{tower}1.encoder.layer.1.norm1.weight", f"{tower}1.layernorm.weight", f"{tower}1.embeddings.mask_token",
        f"{tower}3.blocks.0.attn.rope.freqs_cos", f"{tower}6.head.proj.weight",
        "model.mm_projector.blocks.1.cross_attn.3.rope.freqs_sin",
    ):  # fmt: skip
        tensors[name] = torch.ones(3)
    checkpoint.mkdir(parents=True)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(settings))
    shutil.copy(hub.locate("demo") / "generation_config.json", checkpoint)
    tokenizer.save_pretrained(checkpoint)
    words = folder / "towers" / "bert-large-uncased"
    words.mkdir(parents=True)
    (words / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (words / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return checkpoint, folder / "towers"
