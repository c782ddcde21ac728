"""All that is measured of a model under masks without labels, document by document."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from redundancy_eval.explain_file import MEASURES
from redundancy_eval.explain_file import Document as Told
from redundancy_eval.model_wrappers.diagnostics import attention, divergence
from redundancy_eval.model_wrappers.diagnostics.passes import FULL, Document, Pass, Ready, Subject
from redundancy_eval.model_wrappers.diagnostics.similarity import Similarity

_DIVERGENCE = ("kl", "reverse_kl", "js", "surprise")
_ATTENTION = ("attention_kl", "attention_js", "attention_mass", "attention_infinite")


@dataclass(frozen=True)
class Found:
    """What was measured: see explain_file.Explained. `similarity` is None where it was not asked for."""

    documents: tuple[Told, ...]
    values: Mapping[str, NDArray[np.float64]]
    similarity: Similarity | None


def measure(
    subject: Subject,
    documents: Sequence[Document],
    labels: Sequence[str],
    kinds: Sequence[str],
    batch_size: int,
    done: Callable[[int], object] = lambda count: None,
) -> Found:
    """Measure documents under masks.

    Args:
        subject: the model.
        documents: what is asked.
        labels: of the masks, the full model (`none`) among them.
        kinds: of explain_file.KINDS.
        batch_size: documents that are answered together, then masks of a document that are passed together.
        done: told after every document how many were done.

    Raises:
        DataError: a document cannot be put to the model.
        SetupError: it does not fit into memory.
    """
    names = [*_DIVERGENCE * ("divergence" in kinds), *_ATTENTION * ("attention" in kinds)]
    names += ["again"] * ("divergence" in kinds and subject.half)
    values = {name: np.full((len(labels), len(documents)), np.nan) for name in MEASURES if name in names}
    similarity = Similarity(subject.encoders) if "similarity" in kinds else None
    told: list[Told] = []
    seen: set[str] = set()
    for batch in _batches(documents, batch_size):
        for document, ready in zip(batch, subject.read(batch, "divergence" in kinds), strict=True):
            if similarity is not None:
                _add(similarity, ready, seen)
            if names:
                for name, column in _of_document(subject, ready, labels, names, batch_size).items():
                    values[name][:, len(told)] = column
            # Without images each is a cluster of its own.
            images = "+".join(ready.hashes) or f"{document.task} {document.document}"
            told.append(Told(document.task, document.document, images, ready.back))
            done(1)
    return Found(tuple(told), values, similarity)


def _batches(documents: Sequence[Document], size: int) -> Iterator[Sequence[Document]]:
    """Documents of equal generation settings, in order."""
    for _, group in groupby(documents, key=lambda each: (each.limit, repr(sorted(each.settings.items())))):
        same = list(group)
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _add(similarity: Similarity, ready: Ready, seen: set[str]) -> None:
    """Add a document's images, unless they were seen: of several, all or none."""
    if ready.hashes and not seen.issuperset(ready.hashes):
        similarity.add(ready.features)
        seen.update(ready.hashes)


def _of_document(
    subject: Subject, ready: Ready, labels: Sequence[str], names: Sequence[str], batch_size: int
) -> dict[str, NDArray[np.float64]]:
    """Measure -> a number for each mask."""
    look = any(name in _ATTENTION for name in names)
    (full,) = subject.passes(ready, [FULL], look)
    rows = {FULL: _compared(full, full, ready, names)}
    others = [label for label in labels if label != FULL]
    again = [FULL] * ("again" in names)  # now among the masks, in another batch than by itself
    for start in range(0, len(others) + len(again), batch_size):
        chunk = [*again, *others][start : start + batch_size]
        for label, one in zip(chunk, subject.passes(ready, chunk, look), strict=True):
            compared = _compared(full, one, ready, names)
            if label == FULL:
                rows[FULL]["again"] = compared["kl"]
            else:
                rows[label] = compared
    return {name: np.array([rows[label].get(name, np.nan) for label in labels]) for name in names}


def _compared(full: Pass, one: Pass, ready: Ready, names: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "kl" in names:
        along = divergence.along(full.logits, one.logits, torch.tensor(ready.answer))
        found |= {name: getattr(along, name) for name in _DIVERGENCE}
    if "attention_kl" in names and full.look is not None and one.look is not None:
        a, b = full.look.weights, one.look.weights
        found["attention_kl"], found["attention_js"] = attention.kl(a, b), attention.js(a, b)
        found["attention_mass"] = one.look.mass
        found["attention_infinite"] = float(attention.infinite_in_half(full.look.heads, one.look.heads))
    return found
