"""Scenes of the demo benchmark: what is drawn, and the questions one can ask about it.

A scene is plain data (a dict of JSON values); `draw` turns it into pixels with numpy alone, so that an image is the
same on every machine. Five kinds of scene stand for the paper's five categories. A scene is a *test* scene when the
hash of its content key says so (one in six); training never sees such a combination. Words shorter than three letters
have no key: they are for training only.
"""

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

SIZE = 96
COLOURS = {
    "red": (210, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 210), "yellow": (235, 205, 40),
    "purple": (140, 60, 170), "orange": (240, 135, 30),
}  # fmt: skip
INKS = {"black": (20, 20, 20), "red": (190, 30, 30), "blue": (30, 50, 180), "green": (20, 110, 40)}
PAPERS = ((255, 255, 255), (238, 238, 238), (250, 243, 225), (228, 238, 250))
SHAPES = ("circle", "square", "triangle", "cross")
SIDES = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}

# 5 x 7 dot letters, one string of five bits a row.
_FONT_ROWS = {
    "A": "01110 10001 10001 11111 10001 10001 10001", "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111", "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111", "F": "11111 10000 10000 11110 10000 10000 10000",
    "H": "10001 10001 10001 11111 10001 10001 10001", "J": "00111 00010 00010 00010 00010 10010 01100",
    "K": "10001 10010 10100 11000 10100 10010 10001", "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001", "N": "10001 11001 10101 10011 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000", "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110", "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110", "X": "10001 10001 01010 00100 01010 10001 10001",
    "Y": "10001 10001 01010 00100 00100 00100 00100", "Z": "11111 00001 00010 00100 01000 10000 11111",
}  # fmt: skip
FONT = {k: np.array([[int(bit) for bit in row] for row in rows.split()]) for k, rows in _FONT_ROWS.items()}
LETTERS = "".join(FONT)

_RED, _WHITE, _BLUE, _GREEN = (206, 17, 38), (255, 255, 255), (0, 60, 160), (0, 130, 70)
_YELLOW, _BLACK, _ORANGE = (250, 210, 30), (15, 15, 15), (255, 136, 62)
# Country -> (capital, layout, colours). Layouts: h, v = stripes; disc and cross = colours (ground, figure).
FLAGS: dict[str, tuple[str, str, tuple[tuple[int, int, int], ...]]] = {
    "France": ("Paris", "v", (_BLUE, _WHITE, _RED)), "Italy": ("Rome", "v", (_GREEN, _WHITE, _RED)),
    "Ireland": ("Dublin", "v", (_GREEN, _WHITE, _ORANGE)), "Belgium": ("Brussels", "v", (_BLACK, _YELLOW, _RED)),
    "Nigeria": ("Abuja", "v", (_GREEN, _WHITE, _GREEN)), "Germany": ("Berlin", "h", (_BLACK, _RED, _YELLOW)),
    "Netherlands": ("Amsterdam", "h", (_RED, _WHITE, _BLUE)), "Russia": ("Moscow", "h", (_WHITE, _BLUE, _RED)),
    "Hungary": ("Budapest", "h", (_RED, _WHITE, _GREEN)), "Austria": ("Vienna", "h", (_RED, _WHITE, _RED)),
    "Poland": ("Warsaw", "h", (_WHITE, _RED)), "Ukraine": ("Kyiv", "h", (_BLUE, _YELLOW)),
    "Japan": ("Tokyo", "disc", (_WHITE, _RED)), "Sweden": ("Stockholm", "cross", (_BLUE, _YELLOW)),
    "Denmark": ("Copenhagen", "cross", (_RED, _WHITE)), "Finland": ("Helsinki", "cross", (_WHITE, _BLUE)),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question about a scene, its answer, and what a multiple-choice version may offer beside it."""

    text: str
    answer: str
    alternatives: tuple[str, ...]


def held_out(key: str) -> bool:
    """Whether a content key belongs to the test split (one in six)."""
    return hashlib.sha256(key.encode()).digest()[0] % 6 == 0


# --- drawing -------------------------------------------------------------------------------------------------------


def _distance(shape: str, x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Signed distance (roughly, in pixels) from a shape of half-size r around the origin; negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - r
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.88 * r
    if shape == "triangle":
        return np.maximum(y - 0.8 * r, 0.866 * np.abs(x) - 0.5 * y - 0.5 * r)
    bar = 0.34 * r
    return np.minimum(np.maximum(np.abs(x) - r, np.abs(y) - bar), np.maximum(np.abs(y) - r, np.abs(x) - bar))


def _paint(canvas: np.ndarray, shape: str, cx: float, cy: float, r: float, colour: tuple[int, int, int]) -> None:
    left, top = max(int(cx - r) - 2, 0), max(int(cy - r) - 2, 0)
    right, bottom = min(int(cx + r) + 3, SIZE), min(int(cy + r) + 3, SIZE)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    cover = np.clip(0.5 - _distance(shape, x - cx, y - cy, r), 0, 1)[..., None]
    patch = canvas[top:bottom, left:right]
    patch += cover * (np.array(colour, dtype=np.float64) - patch)


def draw(scene: dict[str, Any]) -> np.ndarray:
    """Pixels of a scene, (SIZE, SIZE, 3) uint8."""
    canvas = np.empty((SIZE, SIZE, 3))
    canvas[:] = scene["paper"]
    if scene["kind"] == "word":
        step = 6 * scene["scale"]
        for index, letter in enumerate(scene["word"]):
            dots = np.kron(FONT[letter], np.ones((scene["scale"],) * 2)).astype(bool)
            left, top = scene["x"] + index * step, scene["y"]
            canvas[top : top + dots.shape[0], left : left + dots.shape[1]][dots] = INKS[scene["ink"]]
    elif scene["kind"] == "bars":
        unit, base = 9, 86
        for level in range(1, 9):
            canvas[base - unit * level, 8:] = (200, 200, 200)
        for index, (colour, height) in enumerate(scene["bars"]):
            left = 12 + index * 17
            canvas[base - unit * height : base, left : left + 12] = COLOURS[colour]
        canvas[base : base + 2, 6:] = canvas[8 : base + 2, 6:8] = (40, 40, 40)
    elif scene["kind"] == "flag":
        _, layout, colours = FLAGS[scene["country"]]
        width, height = 3 * scene["unit"], 2 * scene["unit"]
        flag = canvas[scene["y"] : scene["y"] + height, scene["x"] : scene["x"] + width]
        if layout in ("h", "v"):
            axis = 0 if layout == "h" else 1
            edges = np.linspace(0, flag.shape[axis], len(colours) + 1).round().astype(int)
            for colour, start, stop in zip(colours, edges, edges[1:], strict=False):
                flag[(slice(start, stop),) if axis == 0 else (slice(None), slice(start, stop))] = colour
        elif layout == "disc":
            flag[:] = colours[0]
            _paint(canvas, "circle", scene["x"] + width / 2, scene["y"] + height / 2, height * 0.3, colours[1])
        else:
            flag[:] = colours[0]
            arm = max(scene["unit"] // 4, 3)
            flag[(height - arm) // 2 : (height + arm) // 2] = colours[1]
            flag[:, width // 3 - arm // 2 : width // 3 - arm // 2 + arm] = colours[1]
        edge = (120, 120, 120)
        x, y = scene["x"], scene["y"]
        canvas[y - 1, x - 1 : x + width + 1] = canvas[y + height, x - 1 : x + width + 1] = edge
        canvas[y - 1 : y + height + 1, x - 1] = canvas[y - 1 : y + height + 1, x + width] = edge
    else:
        for shape, colour, x, y, r in scene["objects"]:
            _paint(canvas, shape, x, y, r, COLOURS[colour])
    return np.rint(canvas).astype(np.uint8)


# --- scenes and their questions ------------------------------------------------------------------------------------


def _word(rng: Random) -> tuple[dict[str, Any], str | None]:
    length = rng.choice((1, 1, 2, 3, 3, 3))
    word, scale = "".join(rng.choice(LETTERS) for _ in range(length)), rng.choice((3, 4))
    x, y = rng.randint(2, SIZE - 6 * length * scale - 2), rng.randint(2, SIZE - 7 * scale - 2)
    scene = {"kind": "word", "word": word, "ink": rng.choice(list(INKS)), "scale": scale, "x": x, "y": y}
    return scene, word if length == 3 else None


def _word_questions(scene: dict[str, Any], rng: Random) -> list[Question]:
    word = scene["word"]
    others = tuple("".join(rng.choice(LETTERS) for _ in word) for _ in range(3))
    places = {1: ("first",), 2: ("first", "last"), 3: ("first", "second", "last")}[len(word)]
    return [Question("What is written in the image?", word, others)] + [
        Question(f"What is the {place} letter?", letter, tuple(LETTERS))
        for place, letter in zip(places, word, strict=True)
    ]


def _bars(rng: Random) -> tuple[dict[str, Any], str]:
    count = rng.randint(3, 5)
    heights = rng.sample(range(1, 9), count)
    bars = [[c, h] for c, h in zip(rng.sample(list(COLOURS), count), heights, strict=True)]
    return {"kind": "bars", "bars": bars}, str(bars)


def _bars_questions(scene: dict[str, Any], rng: Random) -> list[Question]:
    bars = scene["bars"]
    colours = tuple(c for c, _ in bars)
    asked, value = rng.choice(bars)
    return [
        Question("Which bar is the tallest?", max(bars, key=lambda bar: bar[1])[0], colours),
        Question("Which bar is the shortest?", min(bars, key=lambda bar: bar[1])[0], colours),
        Question(f"How many units high is the {asked} bar?", str(value), tuple(map(str, range(1, 9)))),
        Question("How many bars are there?", str(len(bars)), ("2", "3", "4", "5")),
    ]


def _shapes(rng: Random) -> tuple[dict[str, Any], str]:
    asked, count = rng.choice(SHAPES), rng.randint(1, 4)
    others = [shape for shape in SHAPES if shape != asked]
    kinds = [asked] * count + [rng.choice(others) for _ in range(rng.randint(0, 6 - count))]
    cells = rng.sample([(x, y) for x in range(3) for y in range(3)], len(kinds))
    objects = []
    for shape, (x, y) in zip(kinds, cells, strict=True):
        r = rng.randint(9, 13)
        centre = [16 + 32 * x + rng.randint(r - 14, 14 - r), 16 + 32 * y + rng.randint(r - 14, 14 - r)]
        objects.append([shape, rng.choice(list(COLOURS)), *centre, r])
    key = str(sorted((shape, colour) for shape, colour, *_ in objects))
    return {"kind": "shapes", "objects": objects, "asked": asked}, key


def _shapes_questions(scene: dict[str, Any], rng: Random) -> list[Question]:
    shapes, colours = ([obj[i] for obj in scene["objects"]] for i in (0, 1))
    asked, numbers = scene["asked"], tuple("123456")
    plural = f"{asked}es" if asked == "cross" else f"{asked}s"
    questions = [
        Question(f"How many {plural} are there?", str(shapes.count(asked)), numbers),
        Question("How many shapes are there?", str(len(shapes)), numbers),
    ]
    single = [(s, c) for s, c in zip(shapes, colours, strict=True) if shapes.count(s) == 1]
    if single:
        shape, colour = rng.choice(single)
        questions.append(Question(f"What colour is the {shape}?", colour, tuple(COLOURS)))
    single = [(s, c) for s, c in zip(shapes, colours, strict=True) if colours.count(c) == 1]
    if single:
        shape, colour = rng.choice(single)
        questions.append(Question(f"What shape is {colour}?", shape, SHAPES))
    return questions


def _flag(rng: Random) -> tuple[dict[str, Any], str]:
    country, unit = rng.choice(list(FLAGS)), rng.randint(14, 28)
    x, y = rng.randint(2, SIZE - 3 * unit - 2), rng.randint(2, SIZE - 2 * unit - 2)
    return {"kind": "flag", "country": country, "unit": unit, "x": x, "y": y}, f"{country} {unit} {x // 6} {y // 6}"


def _flag_questions(scene: dict[str, Any], rng: Random) -> list[Question]:
    country = scene["country"]
    capitals = tuple(capital for capital, _, _ in FLAGS.values())
    return [
        Question("Which country has this flag?", country, tuple(FLAGS)),
        Question("What is the capital of the country with this flag?", FLAGS[country][0], capitals),
    ]


def _pair(rng: Random) -> tuple[dict[str, Any], str]:
    (first, other), colours = (rng.choice(SHAPES), rng.choice(SHAPES)), rng.sample(list(COLOURS), 2)
    side = rng.choice(list(SIDES))
    dx, dy = SIDES[side]
    sizes = rng.choice(((8, 14), (14, 8)))
    gap, drift = rng.randint(30, 48), rng.randint(-10, 10)
    across = (dx * gap + (drift if dx == 0 else 0), dy * gap + (drift if dy == 0 else 0))
    x, y = (rng.randint(16 + max(0, -d), SIZE - 16 - max(0, d)) for d in across)
    objects = [[other, colours[1], x, y, sizes[1]], [first, colours[0], x + across[0], y + across[1], sizes[0]]]
    return {"kind": "pair", "objects": objects, "side": side}, f"{first} {other} {colours} {side}"


def _pair_questions(scene: dict[str, Any], rng: Random) -> list[Question]:
    (other, other_colour, *_, other_r), (first, colour, *_, r) = scene["objects"]
    names = f"{colour} {first}", f"{other_colour} {other}"
    side = scene["side"]
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[side]
    phrase = {"left": "on the left", "right": "on the right", "above": "at the top", "below": "at the bottom"}
    questions = [
        Question(f"Where is the {names[0]}, seen from the {names[1]}?", side, tuple(SIDES)),
        Question(f"Where is the {names[1]}, seen from the {names[0]}?", opposite, tuple(SIDES)),
        Question("What colour is the larger shape?", colour if r > other_r else other_colour, tuple(COLOURS)),
    ]
    asked = rng.choice((side, opposite))
    answer = colour if asked == side else other_colour
    return [*questions, Question(f"What colour is the shape {phrase[asked]}?", answer, tuple(COLOURS))]


CATEGORIES = {
    "ocr": (_word, _word_questions),
    "chart": (_bars, _bars_questions),
    "general": (_shapes, _shapes_questions),
    "knowledge": (_flag, _flag_questions),
    "vision_centric": (_pair, _pair_questions),
}


def make_scene(category: str, rng: Random, test: bool) -> dict[str, Any]:
    """Draw a random scene of a category from the test or the training split."""
    make, _ = CATEGORIES[category]
    while True:
        scene, key = make(rng)
        if (key is not None and held_out(f"{category} {key}")) == test:
            return {**scene, "paper": rng.choice(PAPERS)}


def training_pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Training scenes, drawn, of the categories in turn: (SIZE, SIZE, 3) uint8 each; equal for equal arguments."""
    rng, kinds = Random(seed), list(CATEGORIES)
    return [draw(make_scene(kinds[number % len(kinds)], rng, test=False)) for number in range(count)]


def ask(category: str, scene: dict[str, Any], rng: Random) -> list[Question]:
    """Every question that the scene answers."""
    return CATEGORIES[category][1](scene, rng)


def as_choice(question: Question, rng: Random, wrong: int = 3) -> tuple[list[str], str]:
    """Options of a multiple-choice version (one right, up to `wrong` others) and the letter of the right one."""
    others = sorted({option for option in question.alternatives if option != question.answer})
    options = [question.answer, *rng.sample(others, min(wrong, len(others)))]
    rng.shuffle(options)
    return options, "ABCD"[options.index(question.answer)]


def prompt(text: str, options: list[str] | None) -> str:
    """The words put to the model."""
    if not options:
        return f"{text}\nAnswer with one word."
    lines = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False)]
    return "\n".join([text, *lines, "Answer with the letter."])
