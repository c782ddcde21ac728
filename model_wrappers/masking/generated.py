"""What a generation gives: the answers, and how probable the model itself held each of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from redundancy_eval.model_wrappers.masking.prompt import Answer


class Likelihood(LogitsProcessor):
    """Log-probabilities of the tokens of greedy answers, as the model itself gives them.

    A hook on the model takes each step's logits before any logits processor (a repetition penalty, a forced token)
    changed them; what was chosen by them is known at the next step. So one step's logits are kept at a time, and of
    every step one number for each sequence.

    Args:
        model: whose `forward` a generation calls, as a context around that one generation.
        settings: transformers' generation settings. Where answers are drawn, or found by beams, nothing is recorded.
    """

    def __init__(self, model: nn.Module, settings: Mapping[str, Any]):
        self.model = model
        self.greedy = not settings.get("do_sample") and (settings.get("num_beams") or 1) == 1
        self._step: Tensor | None = None  # logits (sequences, vocabulary) of the step that is taken
        self._last: Tensor | None = None  # of the step before, whose choice is not known yet
        self._found: list[Tensor] = []  # (sequences,) for each step

    def __enter__(self) -> "Likelihood":
        self._hook = self.model.register_forward_hook(self._see) if self.greedy else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _see(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._step = output.logits[:, -1]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits (sequences, vocabulary), as they are."""
        if self._last is not None:
            self._found.append(_of(self._last, input_ids[:, -1]))
        self._last = self._step
        return scores

    def totals(self, tokens: Tensor, lengths: Sequence[int]) -> list[float | None]:
        """Natural log-probability of each answer: the sum over its tokens, the one that ends it among them.

        Args:
            tokens: generated ids (sequences, steps), without the prompts'.
            lengths: how many of them are each answer's.

        Returns:
            For each sequence; None where it was not recorded, or where the model rules a chosen token out.
        """
        if self._last is None:
            return [None] * len(lengths)
        found = torch.stack([*self._found, _of(self._last, tokens[:, -1])], 1).tolist()
        self._found, self._last, self._step = [], None, None
        totals = [math.fsum(row[:length]) for row, length in zip(found, lengths, strict=True)]
        return [total if math.isfinite(total) else None for total in totals]


def answers(
    text: Callable[[Sequence[int]], str],
    prompts: Sequence[int],
    tokens: Tensor,
    eos: Sequence[int],
    likelihood: Likelihood,
) -> list[Answer]:
    """Answers from what was generated.

    Args:
        text: of an answer's ids, without the one that ends it.
        prompts: tokens of each prompt.
        tokens: generated ids (sequences, steps), without the prompts'.
        eos: token ids that end an answer.
        likelihood: what watched the generation.
    """
    rows = []
    for row in tokens.tolist():
        end = next((place for place, token in enumerate(row) if token in eos), None)
        rows.append((row if end is None else row[: end + 1], end))
    totals = likelihood.totals(tokens, [len(ids) for ids, _ in rows])
    return [
        Answer(text(ids[:end]), length, len(ids), end is None, tuple(ids), total)
        for length, (ids, end), total in zip(prompts, rows, totals, strict=True)
    ]


def _of(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-probability (sequences,) of the chosen tokens, in float32."""
    logits = logits.float()
    return logits.gather(-1, chosen.to(logits.device)[:, None])[:, 0] - logits.logsumexp(-1)
