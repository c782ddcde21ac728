"""Texts that others wrote, as the page shows them: bounded, without secrets, with nothing that hides or reorders."""

from redundancy_eval import shown

NAME, ANSWER, QUESTION = 80, 280, 700  # characters
_READ = 20_000  # characters of a text that are looked at


def name(text: object) -> str:
    """A model's, encoder's, category's or benchmark's name."""
    return clip(text, NAME)


def clip(text: object, longest: int = ANSWER) -> str:
    """A text in one line and in as many characters as are shown."""
    whole = str(text)
    return _cut(shown.text(" ".join(whole[:_READ].split())), longest, len(whole))


def lines(text: object, longest: int = QUESTION) -> str:
    """A text whose line ends are kept."""
    whole = str(text)
    kept = (shown.text(" ".join(line.split())) for line in whole[:_READ].splitlines())
    return _cut("\n".join(line for line in kept if line), longest, len(whole))


def _cut(text: str, longest: int, whole: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({whole:,} characters)"
