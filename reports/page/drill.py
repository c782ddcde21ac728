"""Which documents the page shows: a bounded, seeded sample of those whose score turns when one encoder is dropped."""

import base64
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from redundancy_eval.answers import Answers
from redundancy_eval.reports.page import texts
from redundancy_eval.reports.subject import Subject
from redundancy_eval.table import Mask

KINDS = ("lost", "gained")  # the score falls, or rises, when the encoder is dropped
_TURN = 0.5  # of a document's score (0..1); all of it where answers are right or wrong
_THUMBNAIL, _MOST_PIXELS = 160, 50_000_000
_MARKUP, _SMALLEST = 200, 500  # bytes around an answer, and of a thumbnail


@dataclass(frozen=True)
class Said:
    """What a mask's model answered, and its score (0..1, NaN: none)."""

    mask: Mask
    text: str
    score: float


@dataclass(frozen=True)
class Example:
    """A document: what was asked, what is right, what was said; `encoders` are those whose absence turns the score.

    `picture` is a data URI; empty where there is none.
    """

    benchmark: str
    document: str
    kinds: tuple[str, ...]
    encoders: tuple[str, ...]
    question: str
    reference: str
    said: tuple[Said, ...]
    picture: str = ""


@dataclass(frozen=True)
class Sample:
    """Examples in the order in which they are shown, and how many documents turn in all."""

    examples: tuple[Example, ...] = ()
    turned: int = 0
    most: int = 0
    seed: int = 0
    without_picture: int = 0


def sample(subject: Subject, answers: Answers, most: int = 3, seed: int = 0, room: int = 2_500_000) -> Sample:
    """Up to `most` documents for each benchmark, encoder and kind.

    Args:
        subject: a model whose table has samples.
        answers: where questions, answers and pictures come from.
        most: documents of each benchmark, encoder and kind.
        seed: of the draw; each draw has a generator of its own, so that none depends on the others.
        room: bytes for all; pictures get what texts leave, and what exceeds it goes without.
    """
    chosen, turned = _choose(subject, most, seed)
    found: dict[tuple[str, str], Example] = {}
    for benchmark in dict.fromkeys(name for name, _ in chosen):
        documents = [document for name, document in chosen if name == benchmark]
        asked = answers.asked(benchmark, documents)
        for document in documents:
            if document in asked:
                place, encoders, kinds = chosen[benchmark, document]
                one, scores = asked[document], subject.table.samples[benchmark].scores
                said = tuple(
                    Said(mask, one.answers[tuple(sorted(mask))], float(scores[subject.table.masks.index(mask), place]))
                    for mask in _masks(subject)
                    if tuple(sorted(mask)) in one.answers
                )
                found[benchmark, document] = Example(
                    benchmark, document, kinds, encoders, one.question, one.reference, said
                )
    # One benchmark after the other, so that the first few are of every kind.
    by_benchmark: dict[str, list[Example]] = {}
    for key in sorted(found, key=lambda key: _rank(seed, *key)):
        by_benchmark.setdefault(key[0], []).append(found[key])
    order = [each for line in zip_longest(*by_benchmark.values()) for each in line if each is not None]
    return _with_pictures(order, answers.picture, turned, most, seed, room)


def _choose(
    subject: Subject, most: int, seed: int
) -> tuple[dict[tuple[str, str], tuple[int, tuple[str, ...], tuple[str, ...]]], int]:
    """(benchmark, document) -> its place, the encoders that turn it, and how; and how many documents turn."""
    table, turned = subject.table, 0
    chosen: dict[tuple[str, str], tuple[int, tuple[str, ...], tuple[str, ...]]] = {}
    for benchmark in table.benchmarks:
        samples = table.samples.get(benchmark.name)
        if samples is None or () not in table.masks:
            continue
        full = samples.scores[table.masks.index(())]
        singles = [name for name in subject.order if (name,) in table.masks]
        falls = {name: full - samples.scores[table.masks.index((name,))] for name in singles}
        where = [sign * falls[name] >= _TURN for name in singles for sign in (1, -1)]
        turned += int(np.any(where, axis=0).sum()) if where else 0
        for name in singles:
            for kind, sign in zip(KINDS, (1, -1), strict=True):
                at = np.flatnonzero(sign * falls[name] >= _TURN)
                rng = np.random.default_rng([seed, zlib.crc32(_bytes(f"{benchmark.name}|{name}|{kind}"))])
                for place in rng.permutation(at)[:most]:
                    how = {n: falls[n][place] for n in singles if abs(falls[n][place]) >= _TURN}
                    kinds = tuple(
                        k for k, s in zip(KINDS, (1, -1), strict=True) if max(s * f for f in how.values()) > 0
                    )
                    chosen[benchmark.name, str(samples.documents[place])] = (int(place), tuple(how), kinds)
    return chosen, turned


def _rank(seed: int, benchmark: str, document: str) -> int:
    return zlib.crc32(_bytes(f"{seed}|{benchmark}|{document}"))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _masks(subject: Subject) -> list[Mask]:
    """The full model, every single drop, and all dropped; of those that were run."""
    singles = [(name,) for name in subject.order]
    whole = [subject.encoders] if len(subject.encoders) > 1 and not subject.table.guessed else []
    return [mask for mask in ((), *singles, *whole) if mask in subject.table.masks]


def _with_pictures(
    examples: Sequence[Example],
    picture: Callable[[str, str], bytes | None],
    turned: int,
    most: int,
    seed: int,
    room: int,
) -> Sample:
    made, without = [], 0
    room -= sum(_size(each) for each in examples)
    for each in examples:
        content = picture(each.benchmark, each.document) if room > _SMALLEST else None
        uri = thumbnail(content) if content else ""
        if len(uri) > room:
            uri = ""
        room -= len(uri)
        without += not uri
        made.append(Example(**{**vars(each), "picture": uri}))
    return Sample(tuple(made), turned, most, seed, without)


def _size(example: Example) -> int:
    """About how many bytes an example takes on the page, without its picture."""
    answers = sum(_bytes_of(said.text, texts.ANSWER) + _MARKUP for said in example.said)
    return answers + _bytes_of(example.question, texts.QUESTION) + 3 * _MARKUP


def _bytes_of(text: str, longest: int) -> int:
    return len(text[:longest].encode(errors="replace"))


def thumbnail(content: bytes) -> str:
    """An image as a small data URI, the smaller of PNG (drawings) and WebP (photographs); empty if it is none."""
    from PIL import Image, UnidentifiedImageError  # matplotlib brings it; a page without pictures does without

    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                return ""
            opened.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))  # a JPEG is decoded no larger than needed
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    made: list[tuple[int, str, bytes]] = []
    settings: Mapping[str, Mapping[str, int]] = {"png": {}, "webp": {"quality": 50}}
    for kind, how in settings.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **how)
        made.append((buffer.tell(), kind, buffer.getvalue()))
    _, kind, smallest = min(made)
    return f"data:image/{kind};base64,{base64.b64encode(smallest).decode()}"
