"""A tiny random DeepSeek-OCR in the released format; real code, small numbers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as Bytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from redundancy_eval.model_wrappers.families.deepseek_ocr.model import DeepseekOcr

FIRST = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")
LAST = ("<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<|User|>", "<|Assistant|>")
LANGUAGE = {
    "vocab_size": 256 + len(FIRST) + len(LAST), "hidden_size": 32, "intermediate_size": 48,
    "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "n_routed_experts": 4, "n_shared_experts": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "max_position_embeddings": 512, "use_mla": False, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
    "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "kv_lora_rank": None, "q_lora_rank": None,
    "lm_head": True, "rm_head": False, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
ENCODERS = {
    "clip": {"width": 16, "layers": 2, "heads": 2, "ffn": 24},
    "sam": {
        "width": 16, "layers": 2, "heads": 2, "global_attn_indexes": [1], "prompt_embed_dim": 8,
        "downsample_channels": [12, 16],
    },
}  # fmt: skip


def config(**changes) -> dict:
    return {
        "_name_or_path": "deepseek-ai/DeepSeek-OCR",
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig",
            "AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM",
        },
        "model_type": "deepseek_vl_v2",
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "tile_tag": "2D",
        "torch_dtype": "bfloat16",
        "language_config": {"architectures": ["DeepseekV2ForCausalLM"], **LANGUAGE},
        "projector_config": {
            "input_dim": 32, "model_type": "mlp_projector", "n_embed": 32, "projector_type": "linear",
        },
        "vision_config": {"image_size": 1024, "mlp_ratio": 3.7362, "model_name": "deeplip_b_l", "model_type": "vision"},
        **LANGUAGE,
        "encoder_configs": ENCODERS,
        **changes,
    }  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer.json with one token for each byte; ids in the released order, and no post-processor."""
    letters = {letter: len(FIRST) + index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    made = Tokenizer(BPE({token: index for index, token in enumerate(FIRST)} | letters, merges=[]))
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), Bytes()
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (*FIRST, *LAST)])
    made.save(str(folder / "tokenizer.json"))
    begin, end, pad = FIRST
    settings = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "bos_token": begin}
    told = {**settings, "eos_token": end, "pad_token": pad, "model_max_length": 8192}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def released(model: DeepseekOcr) -> dict[str, Tensor]:
    """The model's tensors as the original release has them: q, k and v in one, a patch embedding that nobody uses."""
    parts: dict[str, list[Tensor]] = {}
    for own, value in model.state_dict().items():
        parts.setdefault(model.release(own), []).append(value.detach().clone())
    order = {name: values for name, values in parts.items()}
    for name in [name for name in order if ".qkv_proj." in name]:
        own = {own.rpartition(".self_attn.")[2][0]: value for own, value in model.state_dict().items()
               if own.startswith("encoders.clip.") and model.release(own) == name}  # fmt: skip
        order[name] = [own[letter] for letter in "qkv"]
    tensors = {name: torch.cat(values).contiguous() for name, values in order.items()}
    return tensors | {"model.vision_model.embeddings.patch_embedding.weight": torch.ones(16, 3, 14, 14)}


def write(folder: Path, seed: int = 0, **changes) -> Path:
    """Write a random checkpoint in the released format and return its folder."""
    torch.manual_seed(seed)
    settings = config(**changes)
    model = DeepseekOcr(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3) if parameter.ndim > 1 else parameter.normal_(0.5, 0.3)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(released(model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    write_tokenizer(folder)
    return folder
