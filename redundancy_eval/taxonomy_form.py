"""The form of a taxonomy file: everything in it is of its kind and says one thing, or is refused with its line."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redundancy_eval import shown
from redundancy_eval.errors import SetupError

SCHEMA = 2
_TOLERANCE = 1e-9  # of weights that sum to 1
# Heads of columns that our tables have of their own; "X change" stands beside X.
_HEADS = ("overall", "model", "mask", "encoder", "variant")
_IN_SIGNATURES = "|:`"


@dataclass(frozen=True)
class Source:
    """A taxonomy file, for the places that errors name."""

    file: str
    text: str

    def error(self, message: str, *names: str) -> SetupError:
        """An error at the line where the last of some nested names stands, as far as they are found."""
        at = 0
        for name in names:
            found = self.text.find(json.dumps(name, ensure_ascii=False), at)
            at = max(found, at)
        line = f":{1 + self.text.count(chr(10), 0, at)}" if at else ""
        return SetupError(f"{self.file}{line}: {message}")


def read(content: bytes, file: str) -> tuple[Source, dict[str, Any], dict[str, Any]]:
    """A file's taxonomies and benchmarks by name, of which only the outermost form was looked at.

    Raises:
        SetupError: it is no JSON, an object has a key twice, or it is no taxonomy file.
    """
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        source = Source(file, content.decode("utf-8-sig"))
        found = json.loads(source.text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise SetupError(f"{file}:{error.lineno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{file}: not JSON ({error})") from None
    if twice:
        at = source.text.rfind(json.dumps(twice[0], ensure_ascii=False))
        raise SetupError(f"{file}:{1 + source.text.count(chr(10), 0, max(at, 0))}: {twice[0]!r} stands twice")
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or isinstance(found["schema"], bool):
        raise SetupError(f'{file}: a taxonomy file has "schema": {SCHEMA}')
    unknown = sorted(set(found) - {"schema", "taxonomies", "benchmarks"})
    if unknown:
        raise source.error(f"unknown key {unknown[0]!r}; known: schema, taxonomies, benchmarks", unknown[0])
    taxonomies, benchmarks = found.get("taxonomies"), found.get("benchmarks", {})
    if not isinstance(taxonomies, dict) or not taxonomies or not all(isinstance(c, dict) for c in taxonomies.values()):
        raise source.error('"taxonomies" must map a name to categories', "taxonomies")
    if not isinstance(benchmarks, dict) or not all(isinstance(entry, dict) for entry in benchmarks.values()):
        raise source.error('"benchmarks" must map a name to what a benchmark is', "benchmarks")
    return source, taxonomies, benchmarks


def check_name(value: Any, what: str) -> str:
    """A name that can stand in tables and signatures.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(value, str) or not value or value != value.strip():
        raise ValueError(f"{what} {value!r} is no name")
    bad = next((c for c in value if c in _IN_SIGNATURES or shown.unseen(c)), None)
    if bad:
        raise ValueError(f"the name of a {what} must not hold {bad!r}: {value!r}")
    return value


def check_head(value: Any, what: str) -> str:
    """A name that can stand at the head of a column.

    Raises:
        ValueError: it cannot.
    """
    name = check_name(value, what)
    if name.casefold() in _HEADS or name.casefold().endswith(" change"):
        raise ValueError(f"a {what} cannot be called {value!r}: our tables have a column of that name")
    return name


def check_categories(categories: Mapping[str, Any]) -> None:
    """Refuse categories that are not a name with a list of benchmarks' names.

    Raises:
        ValueError: with what is wrong.
    """
    if not categories:
        raise ValueError("no categories")
    for category, members in categories.items():
        check_head(category, "category")
        if not isinstance(members, list) or not members or not all(isinstance(name, str) for name in members):
            raise ValueError(f"category {category!r} must be a list of benchmarks; not {members!r}")
    alike = {name.casefold() for name in categories}
    if len(alike) < len(categories):
        raise ValueError("two categories have one name, but for case")


def check_part(entry: Any) -> None:
    """Refuse a task whose fields are not of their kind.

    Raises:
        ValueError: with the field.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"a task must be an object with task and metric; not {entry!r}")
    for key, value in entry.items():
        if key not in _FIELDS:
            raise ValueError(f"unknown key {key!r}; known: {', '.join(_FIELDS)}")
        fits, kind = _FIELDS[key]
        if not fits(value):
            raise ValueError(f"{key} must be {kind}; not {value!r}")
    absent = next((key for key in ("task", "metric") if key not in entry), None)
    if absent:
        raise ValueError(f"a task has no {absent}")


def check_weights(weights: Any) -> dict[str, float]:
    """Weights by name, all positive, summing to 1; or none.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(weights, dict) or not all(map(_positive, weights.values())):
        raise ValueError(f"weights must map names to positive numbers; not {weights!r}")
    if weights:
        check_sum(weights.values())
    return dict(weights)


def check_sum(weights: Any) -> None:
    """Refuse weights that do not sum to 1.

    Raises:
        ValueError: they do not.
    """
    total = math.fsum(weights)
    if abs(total - 1) > _TOLERANCE:
        raise ValueError(f"weights sum to {total:g}, not to 1")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _text(value: Any) -> bool:
    return isinstance(value, str) and not any(map(shown.unseen, value))


def _filled(value: Any) -> bool:
    return _text(value) and bool(value.strip())


def _headline_weights(value: Any) -> bool:
    if value is None:
        return True
    try:
        check_weights(value)
    except ValueError:
        return False
    return True


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(key) and _text(text) for key, text in value.items())


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "task": (_filled, "a text"),
    "metric": (_filled, "a text"),
    "scale": (_positive, "a positive number"),
    "decimals": (lambda value: value is None or _whole(0, 12)(value), "a whole number from 0 to 12"),
    "score": (_text, "a text"),
    "cluster": (_text, "a text"),
    "stratum": (_text, "a text"),
    "where": (_text, "a text"),
    "reason": (_text, "a text"),
    "headline_weights": (_headline_weights, "positive weights by name that sum to 1"),
    "headline_documents": (lambda value: value is None or _whole(1, 10**9)(value), "a positive whole number"),
    "null_is_zero": (lambda value: isinstance(value, bool), "true or false"),
    "weight": (lambda value: value is None or (_positive(value) and value <= 1), "a number over 0, at most 1"),
    "file": (_text, "a text"),
    "row": (_texts, "texts by column"),
    "samples": (_text, "a text"),
}  # fmt: skip
