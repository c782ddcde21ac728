"""Where the language model's last layer looks from the last token of the prompt: the paper's attention divergence.

The paper (arXiv 2507.03262) compares the last layer's attention with one encoder active to the full model's by KL. Its
full text could not be read: the position (the prompt's last token, which says the answer's first one), the mean over
heads and the visual tokens alone, renormalised, are chosen here.

It has infinite values: a softmax in half precision rounds small weights to exact zero, and KL(full || masked) is
infinite where the masked model's weight is zero and the full model's is not (`infinite_in_half`). Here the softmax is
taken anew in float32, and EPSILON is added to every weight before they are normalised; the Jensen-Shannon divergence
needs no such thing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.diagnostics.divergence import divergence

EPSILON = 1e-12


@dataclass(frozen=True)
class Look:
    """Attention on the visual tokens: its share of all (`mass`), its distribution over them (tokens,), and each head's
    own weights (heads, tokens); float32.
    """

    mass: float
    weights: Tensor
    heads: Tensor


@dataclass
class Recorded:
    """What `recording` found in the last pass: (sequences, heads, tokens), float32; rows sum to 1."""

    weights: Tensor | None = None


@contextmanager
def recording(language_model: Any, back: int) -> Iterator[Recorded]:
    """Within, the attention weights of the last layer's query `back` places before the end are kept.

    Queries and keys are taken where the layer hands them to its attention, after the rotary embedding, so that no
    other layer and no other query pays for it: sequences * heads * tokens numbers. All tokens before the query count,
    so sequences must not be padded.

    Args:
        language_model: a causal language model of transformers.
        back: 1 for the last place.

    Raises:
        SetupError: its last layer does not attend as transformers' own models do.
    """
    module, found = language_model.model.layers[-1].self_attn, Recorded()
    name = module.config._attn_implementation
    if name == "eager":
        handle = module.register_forward_hook(_from_output(found, back))
        try:
            yield found
        finally:
            handle.remove()
    else:
        real = ALL_ATTENTION_FUNCTIONS[name]

        def kept(layer: Any, query: Tensor, key: Tensor, *args: Any, **settings: Any) -> Any:
            if layer is module and query.shape[2] >= back:  # a shared prefix is read before, in a pass of its own
                found.weights = _weights(query[:, :, -back], key, back, settings.get("scaling"))
            return real(layer, query, key, *args, **settings)

        ALL_ATTENTION_FUNCTIONS[name] = kept  # this table alone, not the registry of all models
        try:
            yield found
        finally:
            ALL_ATTENTION_FUNCTIONS[name] = real
    if found.weights is None:
        raise SetupError("the attention of this language model cannot be read; leave `attention` out of --only")


def _weights(query: Tensor, key: Tensor, back: int, scaling: float | None) -> Tensor:
    """(sequences, heads, width) of a query and (sequences, groups, tokens, width) of keys -> its softmax over them."""
    key = key[:, :, : key.shape[2] - back + 1].float()
    grouped = query.float().unflatten(1, (key.shape[1], -1))  # heads that share keys stand together
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.einsum("bghw,bgtw->bght", grouped, key) * scale
    return scores.softmax(-1).flatten(1, 2)


def _from_output(found: Recorded, back: int) -> Any:
    def hook(module: Any, args: Any, output: Any) -> None:
        weights = output[1]
        if weights is not None and weights.shape[2] >= back:
            found.weights = weights[:, :, -back, : weights.shape[-1] - back + 1].float()

    return hook


def looks(weights: Tensor, visual: Tensor) -> list[Look]:
    """Attention (sequences, heads, tokens) and which tokens are visual (tokens,) -> what each sequence's get of it."""
    chosen = weights[:, :, visual.to(weights.device)]
    means = chosen.mean(1)
    return [Look(float(row.sum()), row / row.sum(), heads) for row, heads in zip(means, chosen, strict=True)]


def kl(full: Tensor, masked: Tensor) -> float:
    """KL(full || masked) of attention (tokens,) twice, in nats, with EPSILON added to every weight."""
    return float(divergence(_smoothed(full).log(), _smoothed(masked.to(full.device)).log()))


def js(full: Tensor, masked: Tensor) -> float:
    """Jensen-Shannon divergence of attention (tokens,) twice, in nats, 0 to ln 2."""
    masked = masked.to(full.device)
    middle = ((full + masked) / 2).log()
    return float((divergence(full.log(), middle) + divergence(masked.log(), middle)) / 2)


def infinite_in_half(full: Tensor, masked: Tensor) -> bool:
    """Whether KL(full || masked) of some head (heads, tokens) is infinite once its weights are float16's.

    That is what a model in float16 has: weights below 3e-8 are zero there.
    """
    return bool(((full.half() > 0) & (masked.to(full.device).half() == 0)).any())


def _smoothed(weights: Tensor) -> Tensor:
    raised = weights + EPSILON
    return raised / raised.sum()
