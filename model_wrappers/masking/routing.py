"""Which encoders a question is given, in families whose language model chooses them (families/routes.py).

Under `routing=free` the masked model chooses, and what is dropped is out of the pool: it is not looked at. Under
`fixed` the full model's choice counts, and a dropped encoder that it names is replaced by its stand-in. Any other
value names the encoders themselves, joined by +.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.base import Visual
from redundancy_eval.model_wrappers.families.routes import FIXED, FREE, Router
from redundancy_eval.model_wrappers.masking import ablations, guesses

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.masking.native import MaskedModel

Route = tuple[str, ...]
_MOST = 4096  # choices that are kept: documents come with all their masks and tasks' questions close together


class Routes:
    """Choices that were made, by image, question and whether what chooses was masked; the latest are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, bool], Route] = OrderedDict()

    def get(self, key: tuple[str, str, bool]) -> Route | None:
        """A choice that is known."""
        return self._kept.get(key)

    def put(self, key: tuple[str, str, bool], route: Route) -> None:
        """Keep a choice."""
        self._kept[key] = route
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)


def visuals(
    subject: "MaskedModel",
    router: Router,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    outputs: Mapping[str, Tensor] | None,
) -> list[Visual]:
    """See MaskedModel.visuals: an encoder of the pool runs for the images that are routed to it, unless it has run."""
    model, run = subject.model, subject.needed()
    if outputs is None and subject.ablation.by_output:
        outputs = subject.encode(images, run)  # by which what is dropped is guessed, chosen or not
    lazily = outputs is None
    have = dict(outputs or subject.encode(images, [name for name in run if name not in router.pool]))
    if subject.ablation.by_output:
        stand_ins = guesses.of(subject, images, {name: have[name] for name in run})
    else:
        stand_ins = subject.stand_ins("encoder", images)
    routes = choose(subject, router, images, questions, have, stand_ins)
    if lazily:
        have |= _run(subject, images, [[name for name in own if name in run] for own in routes])
    kept = {name: have[name] for name in run if name in have}
    layouts = [router.layout(question, route) for question, route in zip(questions, routes, strict=True)]
    return model.fuse(model.project(kept | stand_ins), layouts)


def choose(
    subject: "MaskedModel",
    router: Router,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    outputs: Mapping[str, Tensor],
    stand_ins: Mapping[str, Tensor],
) -> list[Route]:
    """The encoders of the pool that each image is given for its question.

    Args:
        subject: the model under its mask.
        router: the same model.
        images: the images.
        questions: of each image.
        outputs: of the encoders that are not in the pool, as far as they run.
        stand_ins: of the dropped encoders.
    """
    kind = str(subject.settings.get("routing", FREE))
    left = tuple(name for name in router.pool if name not in subject.mask)
    if kind not in (FREE, FIXED):
        return [tuple(name for name in left if name in kind.split("+"))] * len(images)
    if kind == FREE and not left:
        return [()] * len(images)
    base = {name: output for name, output in outputs.items() if name not in router.pool}
    seen = base | {name: value for name, value in stand_ins.items() if name not in router.pool and kind == FREE}
    masked = kind == FREE and any(name in subject.mask for name in seen)
    keys = [(ablations.image_hash(image), text, masked) for image, text in zip(images, questions, strict=True)]
    known = {key: subject.routes.get(key) for key in keys}
    new = {key: row for row, key in enumerate(keys) if known[key] is None}
    if new:
        rows = list(new.values())
        looks = router.first_look({name: value[rows] for name, value in seen.items()})
        ids = [prompt_ids(subject, router, questions[row]) for row in rows]
        sequences = [subject.embed(own, [look], "routing prompt") for own, look in zip(ids, looks, strict=True)]
        answers = subject.decode(
            sequences, [[look] for look in looks], router.answer_tokens, names=["routing prompt"] * len(rows)
        )
        for key, answer in zip(new, answers, strict=True):
            known[key] = router.chosen(answer.text)
            subject.routes.put(key, router.chosen(answer.text))
    found = [known[key] or () for key in keys]
    return [tuple(name for name in own if name in left) for own in found] if kind == FREE else found


def prompt_ids(subject: "MaskedModel", router: Router, question: str) -> list[int]:
    """Token ids of the prompt that asks for encoders."""
    text = subject.template.render([router.routing_text(templates.as_words(question))])
    return templates.tokenize(subject.tokenizer, text, subject.template)


def _run(subject: "MaskedModel", images: Sequence[Image.Image], wanted: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """Outputs of encoders, each run on the images that want it; zero, and not looked at, for the others."""
    rows: dict[tuple[int, ...], list[str]] = {}
    for name in dict.fromkeys(name for own in wanted for name in own):
        rows.setdefault(tuple(row for row, own in enumerate(wanted) if name in own), []).append(name)
    found = {}
    for own, names in rows.items():
        for name, output in subject.encode([images[row] for row in own], names).items():
            found[name] = output.new_zeros(len(images), *output.shape[1:])
            found[name][torch.tensor(own, device=output.device)] = output
    return found
