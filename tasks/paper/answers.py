"""Read a reply strictly: what it says, or nothing.

Leaderboards read free text generously (first letter, any letter, a random option). A masked model that has lost its
way then scores like a guesser, and the encoder looks less useful than it is. Here a reply that names no option is no
answer.
"""

import ast
import re
from collections.abc import Mapping

_OPEN, _CLOSE = r"[(\[*\"'`]*", r"[)\].:,;!*\"'`]"
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")


def option(reply: str, options: Mapping[str, str]) -> str:
    """The letter of the option that a reply names; "" when it names none, or several.

    In this order: the reply is a letter; it starts with a marked letter ("B.", "(B) cat") and marks no other; it is
    the text of one option; it says "answer is B" or "option B"; it holds one letter in brackets. A letter inside
    running text ("A cat sits there") is not an answer.

    Args:
        reply: what the model wrote.
        options: letter (A, B, ...) -> text of the option; empty texts match nothing.
    """
    text = reply.strip()
    letters = "".join(options)
    if not text or not letters:
        return ""
    found = re.fullmatch(rf"{_OPEN}([{letters}]){_CLOSE}*", text, re.IGNORECASE)
    if found:
        return found[1].upper()
    marked = [
        first or second
        for first, second in re.findall(rf"(?<!\S){_OPEN}(?:([{letters}])[)\].:*]+|\(([{letters}])\))(?=\s|$)", text)
    ]
    if len(set(marked)) > 1:
        return ""
    if marked and re.match(rf"{_OPEN}{marked[0]}", text):
        return marked[0]
    plain = _plain(text)
    same = [letter for letter, words in options.items() if _plain(words) and _plain(words) == plain]
    if len(same) == 1:
        return same[0]
    patterns = (
        rf"\banswer(?:\s+is|\s*:)\s*:?\s*{_OPEN}([{letters}])(?:{_CLOSE}|\s*$)",
        rf"\b(?:option|choice)\s+{_OPEN}([{letters}])\b",
        rf"\(([{letters}])\)",
    )
    for pattern in patterns:
        named = {letter.upper() for letter in re.findall(pattern, _letters_only_upper(text))}
        if named:
            return named.pop() if len(named) == 1 else ""
    return ""


def number(reply: str) -> float | None:
    """The one number that a reply holds; None when it holds none, or several different ones."""
    values = {float(found.replace(",", "")) for found in _NUMBER.findall(reply)}
    return values.pop() if len(values) == 1 else None


def listing(reply: str) -> list[object] | None:
    """The one Python list that a reply holds; None when it holds none, or several."""
    found = re.findall(r"\[[^\[\]]*\]", reply)
    if len(found) != 1:
        return None
    try:
        return list(ast.literal_eval(found[0]))
    except (ValueError, SyntaxError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def _letters_only_upper(text: str) -> str:
    """The text in lower case but for its single capital letters, so that words match in any case and "a" is a word."""
    return re.sub(r"\w{2,}", lambda word: word[0].lower(), text)
