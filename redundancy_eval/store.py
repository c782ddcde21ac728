"""The response store: the answers of a sweep, on disk as soon as they are given; whoever comes back goes on from them.

A folder with a header `store.json` (what decides answers beyond a key) and shards `answers-*.jsonl`. Each process
writes a shard of its own and never appends to another, so a line that a killed process left half written is the last
of its shard, where it is known by its missing newline; anything else that does not fit its checksum is damage.
"""

import json
import os
import re
import secrets
import socket
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from redundancy_eval import forms
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.files import parse_json, read_json

HEADER = "store.json"
SCHEMA = 1
ALONE = "none (alone)"  # in the place of a mask: the full model once more, sharing nothing, see docs/sweep.md
KNOWN = "known"  # among notes: the question has images that the stand-ins' calibration was made of
_SHARDS = "answers-*.jsonl"
_TAIL = len(b',"crc":"00000000"}\n')


@dataclass(frozen=True, slots=True)
class Key:
    """What was asked: a document of a task, in which words, how, and under which mask.

    `prompt` is the `prompt_hash` of its text, `generation` the `canonical` settings or a hash of them, `mask` the
    canonical label (`none`, `clip+sam`, `all`).
    """

    task: str
    split: str
    document: str
    prompt: str
    generation: str
    mask: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer, and what it was given to.

    `capped` says that the token limit ended it, `images` are hashes of the document's images, `notes` what was done
    to the prompt (`cut`, `moved`, `first`) or is special about it (KNOWN, `routed dinov2`, `sam feeds clip`). `ids`
    are the generated tokens, with the one that ended it, and `log_probability` is the natural logarithm of the
    model's own probability of exactly these; None, as the ids are, in lines of versions that did not write them.
    Answers that differ in it alone are equal. Of another wrapper's model (`masked`) tokens are None where it does not
    count them, and `capped` is False, as it does not say.
    """

    text: str
    prompt_tokens: int | None
    new_tokens: int | None
    capped: bool
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ids: tuple[int, ...] | None = None
    log_probability: float | None = field(default=None, compare=False)


def canonical(value: Any) -> str:
    """The one JSON text of a value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def prompt_hash(text: str) -> str:
    """Hash of a prompt's text, 32 hex digits."""
    # Data sets may hold lone surrogates, which plain UTF-8 refuses.
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Store:
    """Answers by key. Made by `open`; as a context manager it flushes when left without an error, and closes.

    Of two answers to one key the first counts: in the order of shard names (which begin with the time), then of
    lines, whoever wrote first.

    Attributes:
        folder: where it lies.
        torn: shards whose last line is half written: a killed process, or one that is writing just now.
        conflicts: keys with answers that are not equal.
    """

    def __init__(self, folder: Path, identity: str):
        self.folder, self.torn = folder, 0
        self.conflicts: set[Key] = set()
        self._identity = identity
        # A question's answers lie together, by mask: 480,000 take 95 MiB, in a flat table by key about 160.
        self._answers: dict[tuple[str, ...], dict[str, Stored]] = {}
        self._documents: dict[tuple[str, ...], tuple[tuple[str, ...], str]] = {}  # its images, the mask first answered
        self._pending: dict[Key, Stored] = {}
        self._shard: int | None = None

    @classmethod
    def open(cls, folder: Path, identity: Mapping[str, Any], renew: bool = False) -> "Store":
        """Open a store, or make one, and read its answers.

        Args:
            folder: of the store; it is made when absent.
            identity: everything that decides answers beyond a key (model, ablation, dtype, ...), as JSON values.
            renew: let a store without answers become one of this identity; for those that hold the sweep's lock.

        Raises:
            SetupError: it holds answers of another identity, or of another version of this package.
            DataError: the header or a line is damaged or belongs elsewhere, or two lines differ in a document's images.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _check_header(folder, identity, renew)
        store = cls(folder, sha256(canonical(identity).encode()).hexdigest()[:12])
        same: dict[Any, Any] = {}  # most masks answer alike: one text and one tuple for all of them
        for path in sorted(folder.glob(_SHARDS)):
            store._read(path, same)
        return store

    def _read(self, path: Path, same: dict[Any, Any]) -> None:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.endswith(b"\n"):  # only the last can lack it
                    self.torn += 1
                    return
                identity, key, stored = _parse(line, path, number, same)
                if identity != self._identity:
                    raise DataError(f"{path}:{number}: answer of another model than {HEADER} tells; delete this file")
                self.check_images(key, stored.images, f"{path}:{number}: ")
                first = self._answers.setdefault(_question(key), {}).setdefault(key.mask, stored)
                if first != stored:
                    self.conflicts.add(key)

    def check_images(self, key: Key, images: tuple[str, ...], where: str = "") -> None:
        """Check hashes of a document's images against those that were first answered, or take them as these.

        Raises:
            DataError: they are others.
        """
        first, mask = self._documents.setdefault(_document(key), (images, key.mask))
        if first != images:
            raise DataError(
                f"{where}the images of {key.task} document {key.document} ({key.split}) differ from those when "
                f"drop={mask} was answered; use another output folder for other data"
            )

    def __len__(self) -> int:
        return sum(map(len, self._answers.values()))

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def get(self, key: Key) -> Stored | None:
        """The answer on disk, if there is one; what was added and not flushed is none."""
        return self._answers.get(_question(key), {}).get(key.mask)

    def items(self) -> Iterator[tuple[Key, Stored]]:
        """Every answer on disk."""
        for (task, split, document, prompt, generation), answers in self._answers.items():
            for mask, stored in answers.items():
                yield Key(task, split, document, prompt, generation, mask), stored

    def images(self, task: str, split: str, document: str) -> tuple[str, ...] | None:
        """Hashes of a document's images, as first answered or added; None for a new document."""
        found = self._documents.get((task, split, document))
        return None if found is None else found[0]

    def add(self, key: Key, stored: Stored) -> None:
        """Take an answer, to be written by the next `flush`; a second one to a key is not.

        Raises:
            DataError: the document's images differ from before.
        """
        self.check_images(key, stored.images)
        first = self.get(key) or self._pending.setdefault(key, stored)
        if first != stored:
            self.conflicts.add(key)

    def flush(self) -> None:
        """Write what was added to this process's shard, and wait until it is on disk.

        After an OSError (full disk) or an interruption nothing of it counts as stored; the next flush writes all of it
        to a new shard, because the last line of this one may be half written.
        """
        if not self._pending:
            return
        lines = memoryview(b"".join(_line(self._identity, *item) for item in self._pending.items()))
        shard, self._shard = self._shard, None
        if shard is None:
            shard = os.open(self.folder / _shard_name(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        try:
            while lines:
                lines = lines[os.write(shard, lines) :]
            os.fsync(shard)
        except BaseException:
            os.close(shard)
            raise
        self._shard = shard
        for key, stored in self._pending.items():
            self._answers.setdefault(_question(key), {})[key.mask] = stored
        self._pending.clear()

    def close(self) -> None:
        """Close the shard; what was not flushed is not written."""
        if self._shard is not None:
            os.close(self._shard)
            self._shard = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def under(folder: Path, masks: Sequence[str]) -> Iterator[tuple[Key, Stored]]:
    """Answers of a store under some masks, whoever's it is, to be read beside finished results.

    Of two answers to one key the first comes first. Half a line at the end of a shard is passed over.

    Raises:
        SetupError: another version wrote it.
        DataError: a line of these masks is damaged.
    """
    _check_schema(read_json(folder / HEADER), folder / HEADER)
    wanted = [f'"mask":{json.dumps(mask)},'.encode() for mask in masks]
    same: dict[Any, Any] = {}
    for path in sorted(folder.glob(_SHARDS)):
        with path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if any(mask in line for mask in wanted) and line.endswith(b"\n"):
                    _, key, stored = _parse(line, path, number, same)
                    if key.mask in masks:  # a text may hold such words
                        yield key, stored


def stamp(folder: Path) -> str:
    """What changes whenever answers are added: names and sizes of the shards."""
    return canonical([[path.name, path.stat().st_size] for path in sorted(folder.glob(_SHARDS))])


def _question(key: Key) -> tuple[str, ...]:
    return key.task, key.split, key.document, key.prompt, key.generation


def _document(key: Key) -> tuple[str, ...]:
    return key.task, key.split, key.document


def _shard_name() -> str:
    """A name that sorts by time and that no other process, on whatever host, has."""
    time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]
    return _SHARDS.replace("*", f"{time}-{host}-{os.getpid()}-{secrets.token_hex(4)}")


def _line(identity: str, key: Key, stored: Stored) -> bytes:
    """One line, JSON whatever the text holds; newlines are escaped, and lone surrogates come back as they were."""
    record = {"identity": identity, **asdict(key), **asdict(stored)}
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")[:-1]
    return body + _tail(body)


def _tail(body: bytes) -> bytes:
    # CRC-32 is quick, finds every flipped byte and all but 2^-32 of other damage; nobody forges answers here.
    return b',"crc":"%08x"}\n' % zlib.crc32(body)


def _parse(line: bytes, path: Path, number: int, same: dict[Any, Any]) -> tuple[str, Key, Stored]:
    where = f"{path}:{number}"
    if line[-_TAIL:] != _tail(line[:-_TAIL]):
        raise DataError(
            f"{where}: damaged answer (other than its checksum tells): delete this line "
            f"(sed -i {number}d {path}) or the file; what is gone is asked again"
        )
    found = forms.check(parse_json(line, where), forms.Answer, where)
    # What repeats over documents and masks is kept once.
    task, split, generation, mask = (sys.intern(found[name]) for name in ("task", "split", "generation", "mask"))
    key = Key(task, split, found["document"], found["prompt"], generation, mask)
    given = found.get("ids")

    def once(part: Any) -> Any:
        return same.setdefault(part, part)

    text, images, notes = once(found["text"]), once(tuple(found["images"])), once(tuple(found["notes"]))
    ids = None if given is None else once(tuple(given))
    counts = (found["prompt_tokens"], found["new_tokens"], found["capped"])
    return found["identity"], key, Stored(text, *counts, images, notes, ids, found.get("log_probability"))


def _check_header(folder: Path, identity: Mapping[str, Any], renew: bool) -> None:
    """Write the header of a new store, or compare that of an existing one."""
    path = folder / HEADER
    text = json.dumps({"schema": SCHEMA, "identity": identity}, indent=1) + "\n"
    if not path.exists():
        _create(path, text)
    found = read_json(path)
    _check_schema(found, path)
    other = difference(forms.check(found, forms.StoreHeader, path)["identity"], identity)
    if other and renew and not any(shard.stat().st_size for shard in folder.glob(_SHARDS)):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    elif other:
        raise SetupError(f"{folder} holds answers of another model: {other}; use another output folder")


def _check_schema(header: Mapping[str, Any], path: Path) -> None:
    if header.get("schema") != SCHEMA:
        raise SetupError(
            f"{path}: schema {header.get('schema')!r}; this version reads {SCHEMA}: use another output folder"
        )


def difference(there: Any, here: Any) -> str:
    """The first leaf in which two nested mappings differ, in words: `torch differs: 2.13 there, 2.14 here`; else ""."""
    a, b = dict(_flat(there)), dict(_flat(json.loads(json.dumps(here))))
    for name in {**b, **a}:
        if a.get(name) != b.get(name):
            return f"{name} differs: {_short(a.get(name))} there, {_short(b.get(name))} here"
    return ""


def _create(path: Path, text: str) -> None:
    """Write a file at once and whole, unless another process was first."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _flat(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings: its dotted name and its canonical text."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _flat(part, f"{where}.{name}" if where else name)
    else:
        yield where, canonical(value)


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."
