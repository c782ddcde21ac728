"""How MoVA asks its language model which experts a question needs, and reads the answer.

Source: TempleX98/MoVA at 52f83e5, mova/constants.py:17-41, mova/eval/model_vqa_loader.py:31-48.
"""

from collections.abc import Sequence

from redundancy_eval.model_wrappers.families.mova.card import EXPERTS
from redundancy_eval.model_wrappers.families.templates import IMAGE

LETTERS = dict(zip("ABCDEFG", EXPERTS, strict=True))
ANSWER_TOKENS = 16
_TASK = (
    "You are a helpful assistant router. Based on the visual content, questions, and model pool the user provides, you "
    "need to consider the expertise of these models to select the most 3 suitable models to help you answer the "
    "questions. Answer with the model's letter from the given choices directly. If no models are selected, just answer "
    "'none'.\nModel pool:"
)
_POOL = (
    "This model can effectively extract the accurate spatial and semantic information from natural images.",
    "This model can handle images with text accurately and efficiently but fails to process natural images.",
    "This model is a state-of-the-art object detector that can identify objects in images.",
    "This model shows remarkable skill in text recognition, attaining top-tier text analysis outcomes across diverse "
    "areas",
    "This model is a specialized model designed to achieve state-of-the-art plot and chart understanding performance.",
    "This model is a foundation model designed for biomedical vision-language processing.",
    "This model is a leading image segmentation framework and achieves strong zero-shot segmentation performance.",
)


def prompt(question: str) -> str:
    """The user's turn that asks for experts; the image stands in front of it, wherever the question has it."""
    pool = "".join(f"\n{letter}. {words}" for letter, words in zip(LETTERS, _POOL, strict=True))
    return f"{IMAGE}\n{_TASK}{pool}\n\nQuestion:\n{question}"


def chosen(answer: str) -> tuple[str, ...]:
    """The experts that an answer names: every capital A to G in its first three parts, also within words."""
    said = ",".join(answer.split(",")[:3])
    return tuple(name for letter, name in LETTERS.items() if letter in said)


def letters(experts: Sequence[str]) -> str:
    """Experts as the original code writes them: `ADFG`, or `none`."""
    return "".join(letter for letter, name in LETTERS.items() if name in experts) or "none"
