"""Made-up benchmarks under the names that VLMEvalKit knows, in its own TSV columns; a few rows each."""

import ast
import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

LETTERS = "ABCDEF"
TURN = 1_000_000  # circular evaluation asks a question once per option, each time at an index this much higher
MME = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)
HANDWRITTEN_MATH = "Handwritten Mathematical Expression Recognition"


def write(folder: Path, image: Callable[[int], str] | None = None) -> dict[str, pd.DataFrame]:
    """Write `folder/<dataset>.tsv` for each benchmark and return the tables, which hold the right answers."""
    image = image or picture
    frames = {}
    for name, make in BENCHMARKS.items():
        rows = [{"index": i, "image": image(i), **row} for i, row in enumerate(make(), 1)]
        frames[name] = pd.DataFrame(rows)
        frames[name].to_csv(Path(folder) / f"{name}.tsv", sep="\t", index=False)
    return frames


def noise(number: int) -> str:
    """A small picture like no other, so that answers show which one was looked at."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def right(name: str, frame: pd.DataFrame) -> dict[str, str]:
    """A reply per index that VLMEvalKit counts as fully right (MathVista's list answers it never does)."""
    column = "answer"
    if name == "MathVista_MINI":
        frame = frame.assign(reply=frame["answer_option"].fillna(frame["answer"]))
        column = "reply"
    return {str(i): first(answer) for i, answer in zip(frame["index"], frame[column], strict=True)}


def first(answer: object) -> str:
    """The answer, or the first of a written-out list of them."""
    text = str(answer)
    return str(ast.literal_eval(text)[0]) if text.startswith("[") else text


def picture(number: int) -> str:
    """A tiny PNG in base64, longer than the 64 characters up to which VLMEvalKit reads another row's index."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (37 * number % 256, 91 * number % 256, 53 * number % 256)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def choice(question: str, options: str, answer: str, **more) -> dict:
    """A multiple-choice row; `options` are separated by bars."""
    return {"question": question, **dict(zip(LETTERS, options.split("|"), strict=False)), "answer": answer, **more}


def ask(question: str, answer: object, **more) -> dict:
    return {"question": question, "answer": str(answer), **more}


def mmbench():
    kinds = {
        "coarse_perception": ("image_style", "image_scene"),
        "finegrained_perception (instance-level)": ("object_localization",),
        "logic_reasoning": ("structuralized_imagetext_understanding",),
        "relation_reasoning": ("spatial_relationship",),
        "attribute_reasoning": ("physical_property_reasoning",),
    }
    asked = (
        choice("What is shown?", "a teddy bear|a rabbit|a cat|a dog", "A"),
        choice("Is it raining?", "yes, it is|not at all", "B"),
        choice("How many birds?", "1|2|3|4", "D"),
        choice("Which soil is acid?", "sample 1|sample 2", "A", hint="Acid means a pH below 7."),
        choice("Which one is left?", "the cup|the plate|the fork", "C"),
        choice("What is it made of?", "wood|steel|glass|wool", "B"),
    )
    of_kind = [{"category": kind, "l2-category": above} for above in kinds for kind in kinds[above]]
    rows = [
        {"index": i, "hint": None, **row, **kind, "source": "made up", "split": "dev"}
        for i, (row, kind) in enumerate(zip(asked, of_kind, strict=True), 1)
    ]
    return rows + [turned for row in rows for turned in turns(row)]


def turns(row: dict):
    """The same question with its options moved on by one, two, ..., its picture given as the index of the first row."""
    letters = [letter for letter in LETTERS if letter in row]
    for step in range(1, len(letters)):
        moved = {letter: row[letters[(i + step) % len(letters)]] for i, letter in enumerate(letters)}
        answer = letters[(letters.index(row["answer"]) - step) % len(letters)]
        yield {**row, **moved, "answer": answer, "index": row["index"] + step * TURN, "image": str(row["index"])}


def mme():
    for kind in MME:
        for number in range(1, 3 if kind == "count" else 2):
            for answer in ("Yes", "No"):
                question = f"Is this {'a' if answer == 'Yes' else 'no'} {kind}? Please answer yes or no."
                yield ask(question, answer, category=kind, image_path=f"{kind}/{number}.png")


def seedbench():
    yield choice("How many people?", "One|Two|Three|Four", "B", category="Instances Counting")
    yield choice("How many cups?", "1|2|3|4", "C", category="Instances Counting")
    yield choice('Which café is it?\nLook at the "sign".', "Rio|Paris|Bern|Oslo", "D", category="Scene Understanding")
    yield choice("Where is it?", "beach|forest|street|kitchen", "A", category="Scene Understanding")
    yield choice("Who is left?", "a man|a woman|a child|nobody", "C", category="Spatial Relation")
    yield choice("What is behind?", "tree|house|car|pond", "B", category="Spatial Relation")
    yield choice("What does the sign say?", "Stop|Go|Wait|Turn", "A", category="Text Understanding")


def ai2d():
    yield choice("What eats the snake?", "Hawk|Grass|Mouse|Frog", "A", category="foodChainsWebs")
    yield choice("Which label is the stem?", "E|G|H|K", "C", category="partsOfA")
    yield choice("Which label is the root?", "D|B|C|A", "B", category="partsOfA")
    yield choice("How many stages are there?", "3|4|5|6", "D", category="lifeCycles")
    yield choice("What hatches?", "egg|pupa|larva|adult", "A", category="lifeCycles")
    yield choice("What is at the top?", "crater|vent|magma|ash", "A", category="volcano")


def scienceqa():
    yield choice("Which is a solid?", "water|stone", "B", category="materials", hint=None, split="test")
    yield choice("Which is a gas?", "air|ice|oil", "A", category="materials", hint="Gases fill a room.", split="test")
    yield choice("Which pole attracts?", "north|south|east|west|none of them", "E", category="magnets", split="test")
    yield choice("Which force is stronger?", "Pair 1.|Pair 2.", "B", category="magnets", hint="Look.", split="test")
    yield choice("What is the capital of Utah?", "Provo|Salt Lake City|Ogden", "B", category="states", split="test")


def mmmu():
    art, tech = {"category": "Art & Design"}, {"category": "Tech & Engineering"}
    art, tech = {**art, "l2-category": "Music"}, {**tech, "l2-category": "Electronics"}
    yield choice("Name the interval. <image 1>", "a third|a fifth", "B", split="dev", **art)
    yield choice("Name the gate. <image 1>", "AND|OR|XOR|NOT", "C", split="dev", **tech)
    yield choice("Name the chord. <image 1>", "minor|major|diminished", "A", split="validation", **art)
    yield choice("Name the key. <image 1>", "C flat|D sharp|E minor|F major", "D", split="validation", **art)
    two = str([picture(100), picture(101)])
    yield choice("<image 1> Which of these <image 2>?", "left|right", "A", split="validation", image=two, **tech)
    yield choice("Find the current. <image 1>", "1 A|2 A|3 A|4 A|5 A", "E", split="validation", **tech)
    yield ask("Find the voltage in volts. <image 1>", "551", split="validation", **tech)
    yield ask("Find the resistance. <image 1>", "about twelve ohms", split="validation", **tech)


def docvqa():
    yield ask("What is the date?", ["January 5, 1998", "Jan 5, 1998"], split="val")
    yield ask("Who signed?", ["J. Smith"], split="val")
    yield ask("What is the total?", ["1,250.00", "$1,250.00"], split="val")
    yield ask("Which page is it?", ["12"], split="val")
    yield ask("What is the company?", ["ITC Limited", "ITC limited"], split="val")
    yield ask("What is the extension?", ["7240"], split="val")


def textvqa():
    yield ask("What is the brand?", ["dakota"] * 7 + ["dakota digital"] * 3)
    yield ask("What time is it?", ["5:41"] * 4 + ["5:40"] * 2 + ["unanswerable"] * 4)
    yield ask("What number is on the shirt?", ["22"] * 10)
    yield ask("What does the bottle say?", ["coca-cola"] * 5 + ["coke"] * 5)
    yield ask("Who wrote it?", ["the author"] * 4 + ["nobody"] * 6)


def chartqa():
    yield ask("How many bars are there?", ["14"], split="test_human")
    yield ask("Is the first bar taller?", ["Yes"], split="test_human")
    yield ask("What is the ratio?", ["0.57"], split="test_human")
    yield ask("Which country leads?", ["Brazil", "Brasil"], split="test_human")
    yield ask("What was the share in 2015?", ["23%"], split="test_augmented")
    yield ask("What was the peak value?", "2500", split="test_augmented")


def ocrbench():
    recognition = ("Regular", "Irregular", "Artistic")
    for word, kind in zip(("CENTRE", "Ronaldo", "sale"), recognition, strict=True):
        yield ask("what is written in the image?", [word], category=f"{kind} Text Recognition")
    yield ask("what is written in the image?", ["and"], category="Handwriting Recognition")
    yield ask("what is the number in the image?", ["1860"], category="Digit String Recognition")
    yield ask("what is written in the image?", ["xqzt"], category="Non-Semantic Text Recognition")
    yield ask("What brand is it?", ["Old  Mill", "old mill"], category="Scene Text-centric VQA")
    yield ask("What is the year?", ["1976"], category="Doc-oriented VQA")
    yield ask("what is the 'total' in the image?", ["RM 9.30", "9.30"], category="Key Information Extraction")
    yield ask("Please write out the expression.", [r"\frac { 1 } { 2 } x"], category=HANDWRITTEN_MATH)
    yield ask("Please write out the expression.", ["A + b = c"], category=HANDWRITTEN_MATH)


def gqa():
    for question, answer in (("Is it indoors?", "no"), ("Are there dogs?", "yes"), ("What color is it?", "blue")):
        yield ask(question, answer)
    yield ask("Who is holding the bat?", "boy")
    yield ask("What is on the table?", "tennis racket")
    yield ask("Which side is the chair on?", "left")


def mathvista():
    choose = {"question_type": "multi_choice", "answer_type": "text", "task": "geometry problem solving"}
    free = {"question_type": "free_form", "task": "figure question answering"}
    algebra, counting = str(["algebraic reasoning", "geometry reasoning"]), str(["arithmetic reasoning"])
    yield ask("Find x.", "12", answer_option="B", choices=str(["9", "12", "15"]), skills=algebra, **choose)
    yield ask("Find y.", "70°", answer_option="A", choices=str(["70°", "80°"]), skills=algebra, **choose)
    yield ask("Is it even?", "No", answer_option="B", choices=str(["Yes", "No"]), skills=algebra, **choose)
    yield ask("How many cubes?", "14", answer_type="integer", skills=counting, **free)
    yield ask("How many are left?", "0", answer_type="integer", skills=counting, **free)
    yield ask("What is the age gap?", "8", answer_type="integer", skills=str(["numeric commonsense"]), **free)
    yield ask("What is the slope?", "1.5", answer_type="float", precision=1.0, skills=counting, **free)
    yield ask("What is the mean?", "0.25", answer_type="float", precision=2.0, skills=counting, **free)
    yield ask("Between which years?", [2007, 2008], answer_type="list", skills=counting, **free)


def cvbench_2d():
    for kind, source in (("Count", "ADE20K"), ("Relation", "ADE20K"), ("Count", "COCO")):
        counts = kind == "Count"
        for answer in "ABC" if source == "ADE20K" and counts else "BA":
            question = "How many chairs are in the image?" if counts else "Where is the cat with respect to the dog?"
            row = choice(question, "0|1|2|3" if counts else "above|below", answer)
            yield {**row, "prompt": prompt(row), "category": kind, "source": source, "split": "2D"}


def cvbench_3d():
    for kind, answers in (("Depth", "ABA"), ("Distance", "BA")):
        for answer in answers:
            row = choice("Which object is closer to the camera?", "chair|desk", answer)
            yield {**row, "prompt": prompt(row), "category": kind, "source": "Omni3D_SUNRGBD", "split": "3D"}


def prompt(row: dict) -> str:
    options = " ".join(f"({letter}) {row[letter]}" for letter in LETTERS if letter in row)
    return f"{row['question']} Select from the following choices. {options} Answer with the letter only."


def mmvp():
    pairs = (("Are the wings open?", "Open|Closed"), ("Where is the light?", "Left|Right"), ("Is there ice?", "Yes|No"))
    for question, options in pairs:
        yield choice(question, options, "A")
        yield choice(question, options, "B")


def realworldqa():
    yield choice("How many lanes are there?", "1|2|3", "B")
    yield choice("Is the light green?", "Yes|No", "B")
    yield choice("In which direction is the sign?", "left|right|ahead|behind us", "C")
    yield choice("Which car is closest?", "the red one|the white one|the van", "A")
    yield choice("What is the speed limit?", "30|50|70|90", "B")


BENCHMARKS = {
    "GQA_TestDev_Balanced": gqa,
    "MMBench_DEV_EN": mmbench,
    "MME": mme,
    "SEEDBench_IMG": seedbench,
    "AI2D_TEST": ai2d,
    "MathVista_MINI": mathvista,
    "ScienceQA_TEST": scienceqa,
    "MMMU_DEV_VAL": mmmu,
    "DocVQA_VAL": docvqa,
    "OCRBench": ocrbench,
    "TextVQA_VAL": textvqa,
    "ChartQA_TEST": chartqa,
    "CV-Bench-2D": cvbench_2d,
    "CV-Bench-3D": cvbench_3d,
    "MMVP": mmvp,
    "RealWorldQA": realworldqa,
}
