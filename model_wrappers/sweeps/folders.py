"""A sweep's folders: whether a mask's results, and the whole sweep, are there; and making room for what is not.

A mask's folder gets MARK first and `manifest.json` last: with a manifest it is whole, with the mark alone it is a
stopped sweep's and may be cleared, with neither it is someone else's.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redundancy_eval import __version__, files, forms, records, store
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import write_json
from redundancy_eval.records import MANIFEST

DONE = "sweep.json"  # of the whole
SAMPLE, UNTIL = "sample", "until"  # of what decides a mask's results: others are evaluated anew, with the answers there
MARK = ".sweep"  # in a mask's folder before anything else: whatever lies beside it may be removed


def done(out: Path, command: Sequence[str], checkpoint: Any, around: Mapping[str, Any] | None = None) -> bool:
    """Whether the very same command has finished, as far as can be known without the framework.

    Args:
        out: of the sweep.
        command: as it stands in records.
        checkpoint: its identity.
        around: what else decides answers, see `run.surroundings`; None for whatever it was.

    Raises:
        DataError: files were changed or lost since.
    """
    path = out / DONE
    if not path.is_file():
        return False
    found = forms.check(files.read_json(path), forms.Finished, path)
    if found.get("command") != list(command) or found.get("checkpoint") != checkpoint:
        return False
    if around is not None and store.difference(*_comparable(found.get("around", {}), around)):
        return False
    return all(intact(out / folder) is not None for folder in found.get("folders", []))


def write_done(out: Path, told: Mapping[str, Any]) -> None:
    """Write down that all is there: `command`, `folders`, `checkpoint` and what is `around`."""
    write_json(out / DONE, {"schema": 1, **told})


def _comparable(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two descriptions without the files that only one of them knows: a framework may fetch its own
    when it wants them."""
    both = set(there.get("files", {})) & set(here.get("files", {}))
    a, b = ({**told, "files": {name: told.get("files", {}).get(name) for name in both}} for told in (there, here))
    return a, b


def finished(folder: Path, decides: Mapping[str, Any]) -> bool:
    """Whether a mask's results are there, as its manifest says; those of another sample or look are not.

    Args:
        folder: the mask's.
        decides: what decides its results.

    Raises:
        SetupError: they are of other tasks or settings.
        DataError: files were changed or lost since.
    """
    found = intact(folder)
    if found is None:
        return False
    there = found.get("decides", {})
    anew = SAMPLE, UNTIL
    mine, theirs = ({name: value for name, value in each.items() if name not in anew} for each in (decides, there))
    other = store.difference(*_comparable(theirs, mine))
    if other:
        raise SetupError(f"{folder} holds a sweep that was made otherwise: {other}; use another output folder")
    return all(there.get(name) == decides.get(name) for name in anew)


def intact(folder: Path) -> forms.Manifest | None:
    """The manifest of a mask's folder; None where there is none.

    Raises:
        DataError: a file was changed or lost since it was written.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    found = forms.check(files.read_json(path), forms.Manifest, path)
    for file in found["files"]:
        mine = folder / file["path"]
        if not mine.is_file() or not _same(mine, file):
            raise DataError(f"{mine} was lost or changed since the sweep wrote it; delete {folder} to have it again")
    return found


def _same(path: Path, file: forms.ManifestFile) -> bool:
    now = path.stat()
    if now.st_size == file["size"] and now.st_mtime_ns == file.get("mtime_ns"):
        return True  # not read again: a sweep may hold gigabytes
    return now.st_size == file["size"] and files.sha256(path) == file["sha256"]


def clear(folder: Path) -> None:
    """Make a mask's folder, without what a stopped sweep left there: its answers are in the store.

    Raises:
        SetupError: it holds something else.
    """
    check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def check_ours(folder: Path) -> None:
    """Refuse a mask's folder that holds something else than what a sweep left.

    Raises:
        SetupError: it does.
    """
    if not folder.exists() or not any(folder.iterdir()) or (folder / MARK).exists():
        return
    if "sweep" not in records.read([folder]):
        raise SetupError(f"{folder} holds results that no sweep wrote; use another output folder")


def write_manifest(folder: Path, label: str, decides: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write down what a mask's folder holds; its being there says that it is whole."""
    listed = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        now = path.stat()
        name, digest = path.relative_to(folder).as_posix(), files.sha256(path)
        listed.append({"path": name, "size": now.st_size, "mtime_ns": now.st_mtime_ns, "sha256": digest})
    versions = {**records.read([folder]).get("versions", {}), "redundancy-eval": __version__}
    manifest = {
        "schema": 1, "mask": label, "decides": decides, "files": listed, "versions": versions, "command": command,
    }  # fmt: skip
    write_json(folder / MANIFEST, manifest)
