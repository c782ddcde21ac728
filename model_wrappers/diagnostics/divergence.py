"""How far a masked model's next-token distributions are from the full model's, along the full model's answer.

One teacher-forced pass gives a distribution over the vocabulary at each token of the answer. Sums are in nats, over the
answer with its end token. All is computed in float32 whatever the model's number format.

What masks cost, each answer: a pass over prompt and answer, and two float32 copies of (tokens, vocabulary).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Divergence:
    """Sums over an answer, in nats.

    Attributes:
        kl: of KL(full || masked), 0 and up.
        reverse_kl: of KL(masked || full), 0 and up.
        js: of the Jensen-Shannon divergence, 0 to tokens * ln 2.
        surprise: -log p of the answer under the mask.
    """

    kl: float
    reverse_kl: float
    js: float
    surprise: float


def along(full: Tensor, masked: Tensor, ids: Tensor) -> Divergence:
    """The divergence of one answer.

    Args:
        full: (tokens, vocabulary) logits of the full model, where each token of the answer is said.
        masked: (tokens, vocabulary) logits of the masked model at the same places.
        ids: (tokens,) the answer as the full model generated it; text tokenised anew can be other tokens.
    """
    p, q = full.float().log_softmax(-1), masked.to(full.device).float().log_softmax(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    js = (divergence(p, middle) + divergence(q, middle)) / 2
    surprise = -q.gather(-1, ids.to(q.device)[:, None])[:, 0].double()
    sums = (divergence(p, q), divergence(q, p), js, surprise)
    return Divergence(*(float(each.sum()) for each in sums))


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last axis in nats: log-probabilities (..., n) twice -> (...), float64.

    A place with p = 0 adds nothing; rounding below 0 is 0.
    """
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), torch.zeros_like(p))
    return terms.double().sum(-1).clamp_min(0)
