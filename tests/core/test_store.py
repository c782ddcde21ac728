"""The response store: what was flushed is there again, whoever is killed; what is damaged or foreign is refused."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redundancy_eval import store
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.store import Key, Store, Stored

MODEL = {"checkpoint": {"files": {"config.json": "0a1b"}, "dtype": "float32"}, "ablation": "zero"}


def key(number=0, mask="none"):
    return Key("gqa", "test", str(number), store.prompt_hash(f"question {number}"), "{}", mask)


def answer(text="red", number=0):
    return Stored(text, 900, 2, False, (f"image {number}",))


def filled(folder, texts, mask="none", name=None):
    """Answers in a shard of its own, document by document; returns the shard."""
    with Store.open(folder, MODEL) as target:
        before = set(folder.glob("answers-*"))
        target_keys = [key(number, mask) for number in range(len(texts))]
        for number, (k, text) in enumerate(zip(target_keys, texts, strict=True)):
            target.add(k, answer(text, number))
    (shard,) = set(folder.glob("answers-*")) - before
    return shard.rename(folder / name) if name else shard


def texts_of(opened, count, mask="none"):
    found = [opened.get(key(number, mask)) for number in range(count)]
    return [None if stored is None else stored.text for stored in found]


ANYTHING = st.text(st.characters())  # lone surrogates too
EXAMPLES = ("", "\n", "a\r\nb\u2028c\x85", "\0", '"}\\', "\ud800", "\ud83d\ude00", "\U0001f600", "é 漢字")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.builds(Key, *[ANYTHING] * 6), st.builds(Stored, ANYTHING, st.integers(), st.integers(),
       st.booleans(), st.just(("a", "b")), st.lists(ANYTHING).map(tuple),
       st.none() | st.lists(st.integers()).map(tuple)), max_size=4))  # fmt: skip
@example({Key(*[text] * 6): Stored(text, 1, 2, True, ("a", "b"), (text, text)) for text in EXAMPLES})
def test_what_is_stored_comes_back_exactly(answers):
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(Path(folder), MODEL) as target:
            for k, stored in answers.items():
                target.add(k, stored)
        again = Store.open(Path(folder), MODEL)
        assert len(again) == len(answers) and not again.torn and not again.conflicts
        for k, stored in answers.items():
            assert k in again and again.get(k) == target.get(k) == stored
            assert again.images(k.task, k.split, k.document) == ("a", "b")


def test_nothing_asked_leaves_no_shard_and_a_batch_is_one_write(tmp_path, monkeypatch):
    with Store.open(tmp_path, MODEL):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]
    writes, write = [], os.write
    monkeypatch.setattr(os, "write", lambda file, data: writes.append(len(data)) or write(file, data))
    with Store.open(tmp_path, MODEL) as target:
        for number in range(5):
            target.add(key(number), answer(number=number))
            assert key(number) not in target and not len(target)
        target.flush()
        target.flush()
        assert len(writes) == 1 and len(target) == 5
        target.add(key(5), answer(number=5))
    assert len(writes) == 2 and len(list(tmp_path.glob("answers-*"))) == 1
    assert texts_of(Store.open(tmp_path, MODEL), 7) == ["red"] * 6 + [None]
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0o666 & ~_umask() & 0o077}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_error_within_a_batch_stores_none_of_it(tmp_path):
    with pytest.raises(ZeroDivisionError), Store.open(tmp_path, MODEL) as target:
        target.add(key(), answer())
        raise ZeroDivisionError
    assert not len(Store.open(tmp_path, MODEL))


def test_a_last_line_cut_anywhere_loses_and_invents_nothing(tmp_path):
    shard = filled(tmp_path, ["one", "two", "three " * 5])
    whole = shard.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        for rest in (b"", b"\0" * 50):  # network file systems may leave zeros behind
            shard.write_bytes(whole[:end] + rest)
            opened = Store.open(tmp_path, MODEL)
            assert texts_of(opened, 3) == ["one", "two", None] and len(opened) == 2
            assert opened.torn == (end > last or rest != b"")
    with Store.open(tmp_path, MODEL) as target:
        target.add(key(2), answer("again", 2))
    opened = Store.open(tmp_path, MODEL)
    assert texts_of(opened, 3) == ["one", "two", "again"] and opened.torn == 1


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path):
    shard = filled(tmp_path, ["one", "two"])
    whole = shard.read_bytes()
    for place in range(len(whole)):
        line = 1 + whole.count(b"\n", 0, place)
        for flip in {1, 32, 128, whole[place] ^ ord("\n"), whole[place]} - {0}:
            shard.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            if place == len(whole) - 1:  # as if it had not been written whole
                assert Store.open(tmp_path, MODEL).torn == 1
                continue
            with pytest.raises(DataError) as error:
                Store.open(tmp_path, MODEL)
            assert str(error.value).startswith(f"{shard}:{line}: damaged") and "\n" not in str(error.value)


def test_what_the_message_of_a_damaged_line_says_helps(tmp_path):
    shard = filled(tmp_path, ["one", "two", "three"])
    shard.write_bytes(shard.read_bytes().replace(b'"two"', b'"owt"'))
    with pytest.raises(DataError, match=r"delete this line \(sed -i 2d .*\) or the file") as error:
        Store.open(tmp_path, MODEL)
    if shutil.which("sed") and sys.platform.startswith("linux"):
        subprocess.run(str(error.value).split("(")[-1].split(")")[0].split(" ", 3), check=True)
        assert texts_of(Store.open(tmp_path, MODEL), 3) == ["one", None, "three"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_halfway(tmp_path, monkeypatch, error):
    target, write = Store.open(tmp_path, MODEL), os.write
    target.add(key(0), answer("one", 0))
    target.flush()
    calls = itertools.count()

    def fill_up(file, data):
        if next(calls):
            raise error
        return write(file, bytes(data[: len(data) // 2 + 20]))

    monkeypatch.setattr(os, "write", fill_up)
    for number in (1, 2):
        target.add(key(number), answer("two", number))
    with pytest.raises(type(error)):
        target.flush()
    assert texts_of(target, 3) == ["one", None, None]
    opened = Store.open(tmp_path, MODEL)
    assert texts_of(opened, 3) == ["one", "two", None] and opened.torn == 1
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:100])))  # some at a time is no error
    target.flush()
    target.close()
    opened = Store.open(tmp_path, MODEL)
    assert texts_of(opened, 3) == texts_of(target, 3) == ["one", "two", "two"]
    assert (opened.torn, len(opened.conflicts), len(list(tmp_path.glob("answers-*")))) == (1, 0, 2)


def test_what_the_disk_did_not_confirm_is_not_stored(tmp_path, monkeypatch):
    target, fsync = Store.open(tmp_path, MODEL), os.fsync
    target.add(key(0), answer("one", 0))
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        target.flush()
    assert key(0) not in target
    monkeypatch.setattr(os, "fsync", fsync)
    target.flush()
    opened = Store.open(tmp_path, MODEL)
    assert key(0) in target and key(0) in opened and len(opened) == 1 and not opened.conflicts


def test_a_shard_is_never_another_process_s(tmp_path, monkeypatch):
    shard = filled(tmp_path, ["one"])
    monkeypatch.setattr(store, "_shard_name", lambda: shard.name)
    target = Store.open(tmp_path, MODEL)
    target.add(key(1), answer("two", 1))
    with pytest.raises(FileExistsError):
        target.flush()
    assert texts_of(target, 2) == texts_of(Store.open(tmp_path, MODEL), 2) == ["one", None]


def test_equal_answers_take_memory_once(tmp_path):
    for mask in ("none", "clip"):
        filled(tmp_path, ["the same long answer"], mask)
    opened = Store.open(tmp_path, MODEL)
    assert len(opened) == 2 and opened.get(key(0, "none")).text is opened.get(key(0, "clip")).text


WRITER = """
import sys
from dataclasses import asdict, replace
from pathlib import Path
from redundancy_eval.store import Key, Store, Stored
worker, identity = int(sys.argv[2]), {"model": "x"}
sys.stdin.readline()
with Store.open(Path(sys.argv[1]), identity) as store:
    for batch in range(int(sys.argv[3])):
        for number in range(8):
            text = f"answer {worker} {batch} {number}" * 20
            store.add(Key(f"task {worker}", "test", f"{batch} {number}", "", "{}", "none"), Stored(text, 1, 2, False))
        store.flush()
        print(batch, flush=True)
"""


def test_several_processes_write_and_some_are_killed(tmp_path):
    """All open a new store at once; the killed ones' flushed batches are there, and what they wrote is whole."""
    folder, batches, rng = tmp_path / "new" / "store", [100_000, 100_000, 60, 60], random.Random(7)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(worker), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for worker, count in enumerate(batches)
    ]  # fmt: skip
    for process in workers:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in workers[:2]:
        assert process.stdout.readline() == "0\n"
        time.sleep(rng.random() / 4)
        process.send_signal(signal.SIGKILL)
    flushed = []
    for process in workers:
        out, _ = process.communicate(timeout=60)
        flushed.append(1 + max(map(int, out.split()), default=0))
    assert [process.returncode for process in workers] == [-signal.SIGKILL] * 2 + [0, 0]
    assert flushed[2:] == batches[2:]
    opened = Store.open(folder, {"model": "x"})
    assert len(list(folder.glob("answers-*"))) == 4 and not list(folder.glob(".*"))
    for worker, count in enumerate(flushed):
        for batch, number in itertools.product(range(count), range(8)):
            found = opened.get(Key(f"task {worker}", "test", f"{batch} {number}", "", "{}", "none"))
            assert found is not None and found.text == f"answer {worker} {batch} {number}" * 20
    assert 8 * sum(flushed) <= len(opened) <= 8 * (sum(flushed) + 2) and opened.torn <= 2


@pytest.mark.parametrize("links", [True, False])
def test_a_new_store_opened_by_many_at_once(tmp_path, monkeypatch, links):
    """One header is written; who has another identity is told so (where there are hard links)."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    for attempt in range(10):
        folder, outcomes, barrier = tmp_path / str(attempt), {}, threading.Barrier(8)

        def work(number, folder=folder, outcomes=outcomes, barrier=barrier):
            barrier.wait()
            try:
                outcomes[number] = Store.open(folder, {"model": number % 2 if links else 0})
            except SetupError as error:
                outcomes[number] = error

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = json.loads((folder / "store.json").read_text())["identity"]["model"]
        for number, outcome in outcomes.items():
            assert isinstance(outcome, Store if not links or number % 2 == winner else SetupError)
        assert len(outcomes) == 8 and [path.name for path in folder.iterdir()] == ["store.json"]


def test_answers_of_another_model_are_refused(tmp_path):
    Store.open(tmp_path, MODEL)
    Store.open(tmp_path, {"ablation": "zero", "checkpoint": {"dtype": "float32", "files": {"config.json": "0a1b"}}})
    for other, match in [
        ({**MODEL, "ablation": "mean"}, 'ablation differs: "zero" there, "mean" here; use another output folder'),
        ({**MODEL, "checkpoint": {**MODEL["checkpoint"], "files": {"config.json": "ff"}}},
         'checkpoint.files.config.json differs: "0a1b" there, "ff" here'),
        ({**MODEL, "seed": list(range(99))}, r"seed differs: nothing there, \[0,1,2,.*\.\.\. here"),
        ({"ablation": "zero"}, 'checkpoint.files.config.json differs: "0a1b" there, nothing here'),
        ({**MODEL, "ablation": {"kind": "zero"}}, 'ablation.kind differs: nothing there, "zero" here'),
    ]:  # fmt: skip
        with pytest.raises(SetupError, match=match) as error:
            Store.open(tmp_path, other)
        message = str(error.value)
        assert message.startswith(f"{tmp_path} holds answers of another model: ") and "\n" not in message
        assert len(message) < len(str(tmp_path)) + 250


def test_a_header_of_another_version_or_damaged(tmp_path):
    Store.open(tmp_path, MODEL)
    header = tmp_path / "store.json"
    whole = header.read_text()
    header.write_text(whole.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(SetupError, match="schema 2; this version reads 1"):
        Store.open(tmp_path, MODEL)
    header.write_text(whole[:-9])
    with pytest.raises(DataError, match=r"store.json:\d+: truncated"):
        Store.open(tmp_path, MODEL)


def test_a_shard_of_another_store_is_refused(tmp_path):
    shard = filled(tmp_path / "a", ["one"])
    Store.open(tmp_path / "b", {**MODEL, "ablation": "mean"})
    copy = Path(shutil.copy(shard, tmp_path / "b"))
    with pytest.raises(DataError, match="answer of another model") as error:
        Store.open(tmp_path / "b", {**MODEL, "ablation": "mean"})
    assert str(error.value).startswith(f"{copy}:1: ")


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_the_first_shard_by_name_wins(tmp_path, order):
    """Whoever wrote first: shards are written in one order, and copied together in another."""
    folder = tmp_path / "store"
    for name in order:
        shard = filled(tmp_path / name, ["same", name], name=f"answers-{name}.jsonl")
        folder.mkdir(exist_ok=True)
        shutil.copy(tmp_path / name / "store.json", folder)
        shutil.copy(shard, folder)
    opened = Store.open(folder, MODEL)
    assert texts_of(opened, 2) == ["same", "a"] and len(opened) == 2
    assert opened.conflicts == {key(1)}


def test_a_second_answer_to_a_key_is_not_written(tmp_path):
    filled(tmp_path, ["one"])
    with Store.open(tmp_path, MODEL) as target:
        target.add(key(0), answer("one", 0))
        assert not target.conflicts
        target.add(key(0), answer("other", 0))
        target.add(key(1), answer("first", 1))
        target.add(key(1), answer("second", 1))
        assert target.conflicts == {key(0), key(1)}
    opened = Store.open(tmp_path, MODEL)
    assert texts_of(opened, 2) == texts_of(target, 2) == ["one", "first"] and not opened.conflicts


def test_other_images_than_before(tmp_path):
    filled(tmp_path, ["one", "two"], mask="clip", name="answers-1.jsonl")
    target = Store.open(tmp_path, MODEL)
    assert target.images("gqa", "test", "1") == ("image 1",) and target.images("gqa", "train", "1") is None
    target.add(key(1, "all"), answer(number=1))
    with pytest.raises(DataError, match=r"the images of gqa document 1 \(test\) .* drop=clip was answered"):
        target.add(key(1, "all"), answer(number=3))
    target.add(key(2), answer(number=2))
    assert target.images("gqa", "test", "2") == ("image 2",)
    with pytest.raises(DataError, match="drop=none was answered"):
        target.add(key(2, "all"), answer(number=3))
    other = tmp_path / "other"
    with Store.open(other, MODEL) as elsewhere:
        elsewhere.add(key(0, "all"), answer(number=0))
        elsewhere.add(key(1, "all"), answer(number=7))
    (shard,) = other.glob("answers-*")
    moved = shard.rename(tmp_path / "answers-2.jsonl")
    with pytest.raises(DataError, match="images of gqa document 1 .* drop=clip was answered") as error:
        Store.open(tmp_path, MODEL)
    assert str(error.value).startswith(f"{moved}:2: ")


def test_lines_are_plain_json_without_anything_of_the_machine_s(tmp_path):
    shard = filled(tmp_path, ["line\nbreak"])
    record = json.loads(shard.read_text(encoding="utf-8"))
    assert record["text"] == "line\nbreak" and record["mask"] == "none" and record["images"] == ["image 0"]
    assert shard.name.isascii() and not set(shard.name) & set(" /:\\") and f"-{os.getpid()}-" in shard.name
    names = [store._shard_name() for _ in range(50)]
    assert len(set(names)) == 50 and sorted(names, key=lambda name: name[:31]) == names


def test_canonical_texts():
    assert store.canonical({"b": [1, None], "a": True}) == store.canonical({"a": True, "b": (1, None)})
    assert store.prompt_hash("a") != store.prompt_hash("a ") and len(store.prompt_hash("\ud800")) == 32


def test_ids_and_log_probabilities_come_back_and_older_lines_are_read(tmp_path):
    full = Stored("red", 900, 2, False, ("image 0",), (), (17, 2), -0.03125)
    with Store.open(tmp_path, MODEL) as target:
        target.add(key(0), full)
        target.add(key(0), replace(full, log_probability=-0.03126))
        assert not target.conflicts, "another batch differs in the last digits"
        target.add(key(1), answer(number=1))
    (shard,) = tmp_path.glob("answers-*")
    lines = [json.loads(line) for line in shard.read_bytes().splitlines()]
    older = {name: value for name, value in lines[1].items() if name not in ("ids", "log_probability", "crc")}
    body = json.dumps({**older, "document": "2", "images": ["image 2"]}, separators=(",", ":")).encode()[:-1]
    shard.write_bytes(shard.read_bytes() + body + store._tail(body))
    opened = Store.open(tmp_path, MODEL)
    assert (opened.get(key(0)).ids, opened.get(key(0)).log_probability) == ((17, 2), -0.03125)
    for number in (1, 2):
        assert (opened.get(Key(**{**asdict(key(1)), "document": str(number)})).ids) is None
    body = body.replace(b'"capped"', b'"ids":"17","capped"')
    shard.write_bytes(body + store._tail(body))
    with pytest.raises(DataError, match=r"answers-.*:1: ids: expected array"):
        Store.open(tmp_path, MODEL)
