"""How texts that others wrote reach a page or a terminal: what cannot be seen there is shown by its number."""

import re
import unicodedata

from redundancy_eval import model_args

# Control and format characters (bidi, zero width), halves of pairs, line ends, and blanks that look like a space.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")


def unseen(character: str) -> bool:
    """Whether a character cannot be seen, or moves what stands around it."""
    return character != " " and unicodedata.category(character) in _UNSEEN


def text(value: object, also: str = "") -> str:
    r"""A text as it is shown: without secrets, and an escape as `\x1b`, a line end as `\n`, a bidi mark as `\u202e`.

    Args:
        value: a name, an answer, a message.
        also: characters that would mean something where it is shown, shown by their number too.
    """
    plain = model_args.redacted(str(value))
    if plain.isascii() and plain.isprintable() and not also:  # most are
        return plain
    return "".join(
        f"\\x{ord(c):02x}" if c in also else c.encode("unicode_escape").decode() if unseen(c) else c for c in plain
    )


def line(message: object) -> str:
    """A message in one line."""
    return text(" ".join(str(message).splitlines()))


def json_text(dumped: str) -> str:
    """JSON that holds the same texts, without secrets, and in which every character can be seen."""
    return re.sub(r"[^\x20-\x7e\n]", lambda match: _json_escape(match[0]), model_args.redacted(dumped))


def _json_escape(character: str) -> str:
    if not unseen(character):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
