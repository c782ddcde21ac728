"""The language model of DeepSeek-OCR: attention as Llama's, experts of which the router takes a few for each token.

transformers' decoders, with Llama's head. DeepSeek-OCR's answers see all that stands before them; Unlimited-OCR's see
all of the prompt and the last tokens of the answer, `sliding_window` of them. Each expert has tensors of its own, as in
the release (transformers joins them).

Source: modeling_deepseekv2.py of the hub repository (a public copy, gustavoMarajo/ia_ds_ocr at ac73f84), lines 347-420,
560-640, 1237-1250.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel
from transformers.models.unlimited_ocr.configuration_unlimited_ocr import UnlimitedOcrTextConfig
from transformers.models.unlimited_ocr.modeling_unlimited_ocr import UnlimitedOcrTextModel

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import language_keys
from redundancy_eval.model_wrappers.families.deepseek_ocr.card import WINDOW

_TOLD = (
    "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
    "routed_scaling_factor", "hidden_act", "max_position_embeddings", "rms_norm_eps", "attention_bias", "mlp_bias",
    "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip


def window(config: Mapping[str, Any]) -> int | None:
    """How many tokens of an answer its next token sees; None for all of them."""
    return config.get("sliding_window_size") or config.get(WINDOW)


def text_config(config: Mapping[str, Any], attention: str | None = None) -> Any:
    """transformers' config of the language model, of its part of a checkpoint's.

    Raises:
        SetupError: sizes that do not fit each other, or rotary positions that are not known.
    """
    told = {key: config[key] for key in _TOLD if key in config}
    layers = config["num_hidden_layers"]
    dense = min(config.get("first_k_dense_replace", 0), layers)
    kinds = config.get("mlp_layer_types") or ["dense"] * dense + ["sparse"] * (layers - dense)
    told |= {"topk_method": "greedy", "mlp_layer_types": kinds, "tie_word_embeddings": False}
    told |= {"rope_parameters": language_keys.rope(config, ("default",))}
    seen = window(config)
    try:
        made: Any = (
            DeepseekOcr2TextConfig(**told) if seen is None else UnlimitedOcrTextConfig(**told, sliding_window=seen)
        )
    except Exception as error:  # transformers refuses in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(f"transformers takes no language model of this config: {reason}") from error
    if made.num_attention_heads % made.num_key_value_heads or made.num_experts_per_tok > made.n_routed_experts:
        raise SetupError(
            f"num_attention_heads {made.num_attention_heads} must be a multiple of num_key_value_heads "
            f"{made.num_key_value_heads}, and num_experts_per_tok {made.num_experts_per_tok} at most n_routed_experts "
            f"{made.n_routed_experts}"
        )
    made._attn_implementation = attention
    return made


class LanguageModel(LlamaForCausalLM):
    """Llama's head on a decoder with experts.

    Args:
        config: as `text_config` makes it.
    """

    _no_split_modules = ["DeepseekOcr2TextDecoderLayer", "UnlimitedOcrTextDecoderLayer"]

    def __init__(self, config: Any):
        super(LlamaForCausalLM, self).__init__(config)  # not Llama's own decoder
        kind = UnlimitedOcrTextModel if isinstance(config, UnlimitedOcrTextConfig) else DeepseekOcr2TextModel
        self.model = kind(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for layer, sort in zip(self.model.layers, config.mlp_layer_types, strict=True):
            if sort == "sparse":
                one = type(layer.mlp.shared_experts)
                layer.mlp.experts = Experts(
                    one(config, intermediate_size=config.moe_intermediate_size) for _ in range(config.n_routed_experts)
                )
        self.post_init()


class Experts(nn.ModuleList):
    """Experts, each a module: the sum over a token's chosen ones of weight times output."""

    def forward(self, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        """Run the experts that are chosen.

        Args:
            hidden: (tokens, channels).
            chosen: (tokens, experts of a token), numbers of experts.
            shares: the same shape, their weights.
        """
        out = torch.zeros_like(hidden, dtype=shares.dtype)  # float32, as the original sums
        for number in chosen.unique().tolist():
            rows, columns = torch.where(chosen == number)
            out.index_add_(0, rows, self[number](hidden[rows]).to(out.dtype) * shares[rows, columns, None])
        return out.to(hidden.dtype)
