"""What lies there before VLMEvalKit starts: files that a kill cut off, and answers to a data file that changed since.

VLMEvalKit resumes by the names of files and the indices of questions. It fails for ever on a file that a kill cut off,
and takes answers and cached pictures of an earlier data file for those of the present one.
"""

import hashlib
import os
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from redundancy_eval import files
from redundancy_eval.errors import DataError, SetupError

PICTURES = ".redundancy_eval.json"  # beside cached pictures: of which data file they are
_WRITTEN = (".pkl", ".xlsx", ".tsv", ".csv", ".json")
_TABLES = (".xlsx", ".tsv")


def data_root() -> Path:
    """Where VLMEvalKit keeps data files and pictures."""
    told = os.environ.get("LMUData")  # noqa: SIM112
    return Path(told) if told and Path(told).exists() else Path.home() / "LMUData"


def data_digests(names: Iterable[str]) -> dict[str, str]:
    """Hash of each data set's file that is there; what is not there yet will be fetched."""
    paths = {name: data_root() / f"{name}.tsv" for name in names}
    return {name: _digest(path, *_state(path)) for name, path in paths.items() if path.is_file()}


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1000)
def _digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_data(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with answers to, or pictures of, an earlier data file.

    Args:
        folder: a mask's folder.
        before: hashes of the data files that were answered in it.
        now: of those that are there.

    Raises:
        SetupError: one changed.
    """
    for name, digest in now.items():
        pictures = data_root() / "images" / name
        old_pictures = _pictures_of(pictures).get(name, digest) != digest
        if before.get(name, digest) != digest and any(of_data_set(folder, name, now)):
            also = f", and {pictures}, the old file's pictures" if old_pictures else ""
            raise SetupError(f"{name}.tsv changed since {folder} was answered; delete that folder to ask anew{also}")
        if old_pictures:
            raise SetupError(f"{name}.tsv changed since its pictures were written to {pictures}; delete that folder")


def note_pictures(names: Iterable[str], digests: Mapping[str, str], fresh: Iterable[str]) -> None:
    """Write beside cached pictures of which data file they are.

    Args:
        names: of data sets.
        digests: of their files.
        fresh: those whose pictures were not there before, or that are known already.
    """
    for name in names:
        pictures = data_root() / "images" / name
        if pictures.is_dir() and name in digests and name in set(fresh):
            files.write_json(pictures / PICTURES, {name: digests[name]})


def without_pictures(names: Iterable[str]) -> list[str]:
    """The data sets that have no cached pictures yet, or whose pictures are known."""
    folders = {name: data_root() / "images" / name for name in names}
    found = {name: folder for name, folder in folders.items() if folder.is_dir() and any(folder.iterdir())}
    for name, folder in found.items():
        data = data_root() / f"{name}.tsv"
        if not _pictures_of(folder) and data.is_file() and data.stat().st_mtime > folder.stat().st_mtime:
            print(
                f"the pictures in {folder} are older than {name}.tsv; where that file changed, delete them",
                file=sys.stderr,
            )
    return [name for name in folders if name not in found or _pictures_of(found[name])]


def _pictures_of(folder: Path) -> dict[str, str]:
    try:
        return files.read_json(folder / PICTURES) if (folder / PICTURES).is_file() else {}
    except DataError:  # cut off itself
        return {}


def of_data_set(folder: Path, name: str, others: Iterable[str]) -> list[Path]:
    """The files of a data set in a mask's folder: of each process's answers, predictions, verdicts, numbers."""
    if not folder.is_dir():
        return []
    longer = [other for other in others if other.startswith(f"{name}_")]

    def mine(path: Path, name: str) -> bool:
        pattern = rf"(?:\d+|{re.escape(folder.name)})_{re.escape(name)}(?:[._].*)?"
        return path.suffix in _WRITTEN and re.fullmatch(pattern, path.name) is not None

    return [
        path for path in sorted(folder.iterdir()) if mine(path, name) and not any(mine(path, other) for other in longer)
    ]


def clear_cut_off(folder: Path, names: Iterable[str], others: Iterable[str]) -> None:
    """Remove what a kill cut off, and the verdicts on answers that are asked again for it.

    Args:
        folder: a mask's folder.
        names: data sets that are evaluated now.
        others: names that a data set's files could be mistaken for.
    """
    status = folder / "status.json"
    if status.is_file() and is_cut_off(status):
        _remove(status)
    for name in names:
        found = of_data_set(folder, name, others)
        cut = [path for path in found if is_cut_off(path)]
        answers = [path for path in found if _holds_answers(path, folder.name, name)]
        removed = cut if not set(cut) & set(answers) else [*cut, *(path for path in found if path not in answers)]
        for path in dict.fromkeys(removed):
            _remove(path)


def _holds_answers(path: Path, model: str, name: str) -> bool:
    """Whether a file holds answers, not what was made of them."""
    rest = path.name.removeprefix(f"{model}_{name}")
    return rest in (*_TABLES, "_PREV.pkl", "_checkpoint.pkl") or re.match(r"\d+_", path.name) is not None


def _remove(path: Path) -> None:
    print(f"{path} was cut off while it was written, or rests on such a file; it is made anew", file=sys.stderr)
    path.unlink()


def is_cut_off(path: Path) -> bool:
    """Whether a file is not whole, as far as its form tells; pickles are looked at, never opened."""
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as handle:
                for _ in pickletools.genops(handle):
                    pass
        elif path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is not None
        elif path.suffix == ".json":
            files.parse_json(path.read_bytes(), path)
        else:
            return not path.read_bytes().endswith(b"\n")
    except (DataError, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        return True
    return False
