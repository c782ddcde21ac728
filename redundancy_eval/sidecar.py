"""What a run of ours says about itself: `redundancy_eval.json` beside the framework's results."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from redundancy_eval import model_args
from redundancy_eval.errors import DataError

NAME = "redundancy_eval.json"
SCHEMA = 1


def read(folders: Iterable[Path]) -> dict[str, Any]:
    """The record in the first of the folders that has one; {} where none has.

    Raises:
        DataError: it is damaged, or of another version.
    """
    for folder in folders:
        path = folder / NAME
        if path.is_file():
            found = read_json(path)
            if found.get("schema") != SCHEMA:
                raise DataError(f"{path}: schema {found.get('schema')!r}; this version reads {SCHEMA}")
            return found
    return {}


def write(record: Mapping[str, Any], folder: Path) -> None:
    """Write a record into a folder, which is made; without keys and passwords."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NAME, {"schema": SCHEMA, **model_args.without_secrets(record)})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole, or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the file is no such thing, with the line.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: truncated or damaged JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}:1: not a JSON object")
    return content
