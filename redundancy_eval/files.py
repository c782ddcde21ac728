"""Other people's files: found below a folder, opened only where they are files, read as JSON, written whole."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redundancy_eval.errors import DataError

_LFS = b"version https://git-lfs.github.com/spec/"


def below(folder: Path) -> Iterator[Path]:
    """Every file, pipe or socket below a folder, through links, each place once.

    Raises:
        DataError: a folder cannot be read: what lies in it would be missing without a word.
    """
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: this folder cannot be read ({error.strerror})")

    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link to what was read already, or a loop
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(where, name) for name in sorted(files))


def check_regular(path: Path) -> None:
    """Refuse what would be read for ever: pipes, sockets, devices.

    Raises:
        DataError: it is no file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: no regular file")


def check_fetched(beginning: bytes, path: Path) -> None:
    """Refuse a Git LFS pointer that stands where a file should be.

    Raises:
        DataError: it is one.
    """
    if beginning.startswith(_LFS):
        raise DataError(f"{path}: a Git LFS pointer, not the file itself; fetch it with git lfs pull")


def sha256(path: Path) -> str:
    """Hash of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_json(text: str | bytes, where: object) -> Any:
    """JSON that someone else wrote.

    Args:
        text: of a file, or of one line.
        where: what the error names.

    Raises:
        DataError: it is damaged, nested beyond reason, or holds what no text file can (half a surrogate pair).
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if error.lineno > 1 or isinstance(where, Path) else ""
        raise DataError(f"{where}{line}: truncated or damaged JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason})") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: damaged JSON ({error})") from None
    except (RecursionError, MemoryError):
        raise DataError(f"{where}: JSON that is nested too deeply") from None
    return content


def read_any_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it is damaged, or no file at all.
    """
    check_regular(path)
    content = path.read_bytes()
    check_fetched(content, path)
    return parse_json(content, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the file is no such thing, with the line.
    """
    content = read_any_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}:1: not a JSON object")
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: a text in it holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise DataError(f"{path}: JSON that is nested too deeply") from None
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole, or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
