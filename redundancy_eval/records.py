"""What a run of ours says about itself: `redundancy_eval.json` in a mask's folder, written when results are there.

A record belongs to the results that it was written with, which it names with their hashes; a sweep's are in its
manifest.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from redundancy_eval import files, forms, model_args
from redundancy_eval.errors import DataError
from redundancy_eval.until import Until, of

NAME = "redundancy_eval.json"
MANIFEST = "manifest.json"  # of a mask's folder, written by a sweep
SCHEMA = 1


def find(folders: Iterable[Path]) -> Path | None:
    """The first of the folders that has a record."""
    return next((folder for folder in folders if (folder / NAME).exists()), None)


def read(folders: Iterable[Path]) -> dict[str, Any]:
    """The record in the first of the folders that has one; {} where none has.

    Raises:
        DataError: it is damaged, or of another version.
    """
    folder = find(folders)
    if folder is None:
        return {}
    path = folder / NAME
    found = files.read_json(path)
    if found.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {found.get('schema')!r}; this version reads {SCHEMA}")
    forms.check(found, forms.Record, path)
    return found


def until(folder: Path | None) -> Until | None:
    """The look that a folder's results are of; None where no sweep asked them in rounds.

    Raises:
        DataError: the manifest is damaged.
    """
    path = None if folder is None else folder / MANIFEST
    if path is None or not path.exists():
        return None
    found = forms.check(files.read_json(path), forms.Manifest, path)
    return of(found.get("decides", {}).get("until"), path)


def write(record: Mapping[str, Any], folder: Path) -> None:
    """Write a record into a folder, which is made; without keys and passwords."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / NAME, {"schema": SCHEMA, **model_args.without_secrets(record)})


def hashes(folder: Path) -> dict[Path, str]:
    """The files that were written with a folder's record, and their hashes; {} where nothing tells.

    Raises:
        DataError: the manifest is damaged.
    """
    path = folder / MANIFEST
    if path.exists():
        found = forms.check(files.read_json(path), forms.Manifest, path)
        return {folder / file["path"]: file["sha256"] for file in found["files"]}
    return {folder / name: digest for name, digest in read([folder]).get("files", {}).items()}
