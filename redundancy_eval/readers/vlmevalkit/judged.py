"""How VLMEvalKit judges replies: what its logs say of a verdict, and scores made anew from what its files hold.

Rules were checked against ms-vlmeval 0.0.20 and upstream 989e33b2, e8e78f05.
"""

import ast
import re
from collections.abc import Callable, Mapping
from enum import Enum
from string import ascii_uppercase
from typing import Any

from redundancy_eval.taxonomy import Part

Row = Mapping[str, str]

# What logs say.
EXACT = "Failed in Prefetch, no GPT-based answer matching under"
_DRAWN = re.compile(r"Match Log(?:: | is )Failed to predict, thus randomly generate one")
_GAVE_UP = re.compile(r"All \d+ retries failed\.\s*$")
_ASKED = re.compile(r"^(?:Rolling \d+(?: Matched|: )|Failed in Rolling )", re.MULTILINE)  # of circular groups
_MATCHED = "Match Log: "
# Texts that VLMEvalKit and its model wrappers write in place of a reply that could not be had.
_FAILED = re.compile(
    r"Fail(?:ed)? to obtain answer|^Image Decode Error$|^Chat Mode: Failed with all possible conversation turns"
)
# What pandas reads as no value.
_NO_VALUE = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_CELL = 32_000  # characters; a cell of a spreadsheet holds hardly more, so longer texts are cut
# What a rule of ours can raise on a cell that is no such thing.
UNREADABLE = (
    LookupError,
    ValueError,
    SyntaxError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)


class Reading(Enum):
    """How VLMEvalKit reads an option from a text; it changed twice."""

    ANYWHERE = "before August 2025"
    AMONG_LAST = "of August 2025 to June 2026"
    AFTER_ANSWER_IS = "since June 2026"


def failed(reply: str) -> bool:
    """Whether a reply is a text that stands for none."""
    return _FAILED.search(reply) is not None


def drawn(log: str) -> bool:
    """Whether the option was drawn at random, as neither the matcher nor the judge could read the reply."""
    return _DRAWN.search(log) is not None


def gave_up(verdict: Row) -> bool:
    """Whether the judge gave no verdict (MathVista)."""
    extracted = verdict.get("res", "")
    return failed(extracted) or (_GAVE_UP.search(verdict.get("log", "")) is not None and plain(extracted) == "")


def judged_by_someone(verdict: Row, prediction: str) -> bool:
    """Whether the log holds what a judge said."""
    log = verdict.get("log", "")
    if _ASKED.search(log) or drawn(log):
        return True
    return log.startswith(_MATCHED) and EXACT not in log and not _same(_matched(log), prediction)


def stale(asked: Row, verdict: Row) -> bool:
    """Whether a verdict belongs to an earlier prediction: VLMEvalKit resumes by file name."""
    prediction, log = asked["prediction"], verdict.get("log", "")
    if not _same(verdict.get("prediction", ""), prediction):
        return True
    if log.startswith(_MATCHED) and "Failed in Prefetch" not in log and not drawn(log):
        # The text that the option was read from: the prediction, or a judge's reply where it names none.
        options = {letter: asked[letter] for letter in ascii_uppercase if asked.get(letter)}
        if not _same(_matched(log), prediction) and infer(prediction, options) is not None:
            return True
    if "Failed in Prefetch" in log and "g_index" not in verdict:  # circular groups can fail by another rotation
        return verdict.get("hit") == "0" and prediction.strip(" .()") == asked.get("answer")
    return False


def _matched(log: str) -> str:
    return log.removeprefix(_MATCHED).removesuffix(". ")


def _same(a: str, b: str) -> bool:
    if max(len(a), len(b)) >= _CELL:
        return plain(a)[: _CELL - 1000] == plain(b)[: _CELL - 1000]
    return plain(a) == plain(b)


def plain(text: str) -> str:
    """A reply as it is compared: xlsx files escape control characters, once more with each time they are written.

    Where VLMEvalKit reads its own file, `N/A` is no value, and a column of numbers loses how they were written.
    """
    for _ in range(3):
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    text = text.strip()
    try:
        return "" if text in _NO_VALUE else str(float(text))
    except ValueError:
        return text


def score(part: Part, reading: Reading = Reading.AMONG_LAST) -> Callable[[Row], float]:
    """How a row's score is had: a column, or a rule of ours and a column."""
    rule, colon, column = part.score.partition(": ")
    if rule == "mathvista":
        return lambda row: _mathvista(row, row[column], reading)
    if colon:
        judge = _RULES[rule]
        return lambda row: judge(row, row[column])
    return lambda row: _number(row[part.score])


def _number(text: str) -> float:
    if "_" in text:  # Python's way to write 1000
        raise ValueError(text)
    return {"True": 1.0, "False": 0.0}[text] if text in ("True", "False") else float(text)


def _best(row: Row, matches: str) -> float:
    """ChartQA: right if it matches one of the answers."""
    return float(max(_literal(matches)))


def _anls(row: Row, distances: str) -> float:
    """DocVQA: 1 - the smallest normalized edit distance, 0 below one half."""
    similarity = 1 - min(_literal(distances))
    return float(similarity) if similarity >= 0.5 else 0.0


def _ocrbench(row: Row, prediction: str) -> float:
    """OCRBench: one of the answers occurs in the prediction (vlmeval/dataset/image_vqa.py, OCRBench)."""
    formula = row["category"] == "Handwritten Mathematical Expression Recognition"

    def bare(text: object) -> str:
        words = str(text).strip().replace("\n", " ")
        return words.replace(" ", "") if formula else words.lower()

    return float(any(bare(answer) in bare(prediction or "nan") for answer in _literal(row["answer"])))


def _mathvista(row: Row, extracted: str, reading: Reading) -> float:
    """MathVista: the judge's extraction is the right option, integer or float (vlmeval/dataset/utils/mathvista.py)."""
    extracted = extracted or "nan"
    if row["question_type"] == "multi_choice":
        options = {chr(65 + i): str(text) for i, text in enumerate(_literal(row["choices"]))}
        return float(infer(extracted, options, reading) == row["answer_option"])
    kinds: dict[str, Callable[[str], float]] = {"integer": int, "float": float}
    if row["answer_type"] not in kinds:
        return float(row["answer"] == "None")
    try:
        return float(kinds[row["answer_type"]](extracted) == kinds[row["answer_type"]](row["answer"]))
    except ValueError:
        return 0.0


def _literal(text: str) -> list[Any]:
    """A list as Python writes it; longer or deeper ones than VLMEvalKit writes could end the parser, or the process."""
    if len(text) > 1_000_000 or re.search(r"(?:[-+~(\[{]\s*){200}", text):
        raise ValueError("no list of this kind")
    return list(ast.literal_eval(text))


_REJECTED = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_ANSWER_IS = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")


def infer(answer: str, options: Mapping[str, str], reading: Reading = Reading.AMONG_LAST) -> str | None:
    """VLMEvalKit's reading of a reply without a judge (vlmeval/utils/matching_util.py, can_infer)."""
    return _infer_option(answer, options, reading) or _infer_text(answer, options, reading)


def _infer_option(answer: str, options: Mapping[str, str], reading: Reading) -> str | None:
    if "Failed to obtain answer via API" in answer:
        return None
    if any(text in answer for text in _REJECTED):
        return "Z"
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
    found = [letter for letter in options if letter in words]
    if len(found) == 1 and (reading is Reading.ANYWHERE or words.index(found[0]) > len(words) - 5):
        return found[0]
    if not found and "Z" in words:
        return "Z"
    said = _ANSWER_IS.search(answer) if reading is Reading.AFTER_ANSWER_IS else None
    return said[1].upper() if said and said[1].upper() in options else None


def _infer_text(answer: str, options: Mapping[str, str], reading: Reading) -> str | None:
    lowered = answer.lower()
    if reading is not Reading.ANYWHERE and len(lowered) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, text in options.items() if text.lower() in lowered]
    return named[0] if len(named) == 1 else None


_RULES: dict[str, Callable[[Row, str], float]] = {"max": _best, "anls": _anls, "ocrbench": _ocrbench}
