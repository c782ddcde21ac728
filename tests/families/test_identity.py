"""The identity of a checkpoint: what changes it, what does not, and what it cannot notice."""

import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity
from redundancy_eval.store import Store

SMALL, LARGE = 4096, 3 * 2**20  # bytes of the tensors of a shard; of the large one only a part is read
SHARDS = [f"model-{number}.safetensors" for number in (1, 2)]
COMMIT = "0123456789abcdef" * 2 + "01234567"


def write(folder: Path, backwards=False, note="") -> Path:
    """A checkpoint of two shards, written without torch."""
    rng = random.Random(1)
    contents = {
        "config.json": json.dumps({"model_type": "tiny", "sizes": [1, 2]}).encode(),
        "tokenizer.json": b'{"vocab": {"a": 0}}',
        "merges.txt": b"a b\n",
        "tokenizer.model": b"\0\1",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode(),
    }
    for name in SHARDS:
        header = {"__metadata__": {"format": "pt", "note": note}}
        for tensor, begin, end in (("small", 0, SMALL), ("large", SMALL, SMALL + LARGE)):
            header[tensor] = {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        contents[name] = len(text).to_bytes(8, "little") + text + rng.randbytes(SMALL + LARGE)
    folder.mkdir(parents=True)
    for name in sorted(contents, reverse=backwards):
        (folder / name).write_bytes(contents[name])
    return folder


def of(*folders):
    return identity.of({f"part {number}": folder for number, folder in enumerate(folders)})


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_copy_is_the_same_wherever_it_lies_and_however_it_was_made(tmp_path):
    first = of(write(tmp_path / "a"))
    assert of(Path(shutil.copytree(tmp_path / "a", tmp_path / "elsewhere" / "b"))) == first
    assert of(write(tmp_path / "c", backwards=True)) == first
    assert str(tmp_path) not in json.dumps(first) and json.loads(json.dumps(first)) == first
    (tmp_path / "a" / "._config.json").write_bytes(b"left by a Mac")
    (tmp_path / "a" / "README.md").write_text("a model card")
    (tmp_path / "a" / "model-3.safetensors").write_bytes(b"a stale shard that no index lists")
    assert of(tmp_path / "a") == first


def test_a_snapshot_of_the_hub_is_the_same_as_its_copy_and_tells_its_commit(tmp_path):
    plain = write(tmp_path / "plain")
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / COMMIT, tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(plain.iterdir()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert of(snapshot) == of(plain)
    assert next(iter(of(snapshot)["part 0"]["weights"].values()))["size"] > LARGE
    folders = {"checkpoint": snapshot, "clip": plain, "dinov2": snapshot / SHARDS[0]}
    assert identity.revisions(folders) == {"checkpoint": COMMIT, "dinov2": COMMIT}


def test_several_folders_in_any_order(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    flip(b / "merges.txt", 0)
    there = identity.of({"checkpoint": a, "clip": b})
    assert json.dumps(there) == json.dumps(identity.of({"clip": b, "checkpoint": a}))
    assert there != identity.of({"checkpoint": b, "clip": a})
    assert identity.digest(there) == identity.digest(dict(reversed(there.items())))
    assert len(identity.digest(there)) == 16 and identity.digest(there) != identity.digest(of(a))


def test_the_layout_of_a_config_does_not_count(tmp_path):
    folder = write(tmp_path / "a")
    first = of(folder)
    (folder / "config.json").write_text(json.dumps({"sizes": [1, 2], "model_type": "tiny"}, indent=4))
    assert of(folder) == first
    (folder / "config.json").write_text(json.dumps({"sizes": [2, 1], "model_type": "tiny"}))
    assert of(folder) != first


def data_start(folder):
    return 8 + int.from_bytes((folder / SHARDS[1]).read_bytes()[:8], "little")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip(folder / "tokenizer.json", 12),
        lambda folder: flip(folder / "tokenizer.model", 0),
        lambda folder: flip(folder / "merges.txt", 1),
        lambda folder: flip(folder / "chat_template.jinja", 4),
        lambda folder: (folder / "special_tokens_map.json").write_text("{}"),
        lambda folder: (folder / "merges.txt").unlink(),
        lambda folder: flip(folder / SHARDS[1], (folder / SHARDS[1]).read_bytes().index(b'"U8"') + 2),  # header
        lambda folder: flip(folder / SHARDS[1], data_start(folder)),
        lambda folder: flip(folder / SHARDS[1], data_start(folder) + SMALL // 2),  # the middle of the small tensor
        lambda folder: flip(folder / SHARDS[1], data_start(folder) + SMALL + LARGE // 2),  # and of the large one
        lambda folder: flip(folder / SHARDS[1], -1),
        lambda folder: (folder / SHARDS[1]).open("ab").write(b"\0"),
        lambda folder: (folder / SHARDS[0]).replace(folder / SHARDS[1]) and shutil.copy(folder / SHARDS[1],
                                                                                        folder / SHARDS[0]),
    ],
)  # fmt: skip
def test_what_decides_answers_changes_the_identity(tmp_path, change):
    folder = write(tmp_path / "a")
    first = of(folder)
    change(folder)
    assert of(folder) != first and identity.digest(of(folder)) != identity.digest(first)


def test_every_byte_of_a_block_counts_and_those_between_do_not(tmp_path):
    """What is read is what the docstring says: sixteen blocks, and a piece of each tensor."""
    folder = write(tmp_path / "a")
    first, path = of(folder), folder / SHARDS[0]
    size = path.stat().st_size
    starts = [number * (size - 65536) // 15 for number in range(16)]
    middle = data_start(folder) + SMALL + LARGE // 2
    read = [(start, 65536) for start in starts] + [(middle, 4096)]
    for place in (start + at for start, length in read for at in (0, length // 3, length - 1)):
        flip(path, place)
        if place:  # the first byte is the header's length, without which the file is damaged
            assert of(folder) != first
        flip(path, place)
    for start in starts[:-1]:  # not noticed
        flip(path, start + 65536)
        flip(path, start + 100_000)
    assert of(folder) == first


def test_all_of_a_long_header_counts(tmp_path):
    folder = write(tmp_path / "a", note="x" * 150_000)
    first = of(folder)
    flip(folder / SHARDS[0], 100_000)  # between two blocks
    assert of(folder) != first


def test_small_weight_files_are_read_whole(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    content = random.Random(2).randbytes(2**20)
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    first = of(tmp_path)
    assert first["part 0"]["weights"]["pytorch_model.bin"]["tensors"] == ""
    for place in range(0, 2**20, 50_001):
        flip(tmp_path / "pytorch_model.bin", place)
        assert of(tmp_path) != first
        flip(tmp_path / "pytorch_model.bin", place)
    assert of(tmp_path) == first
    assert of(tmp_path / "pytorch_model.bin") == {"part 0": {"files": {}, "weights": first["part 0"]["weights"]}}


def test_a_changed_tensor_of_a_pytorch_file_shows_in_its_checksum(tmp_path):
    content = random.Random(3).randbytes(4 * 2**20)
    found = []
    for name, changed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        with zipfile.ZipFile(tmp_path / name / "pytorch_model.bin", "w") as archive:
            tensor = content[:100_000] + bytes([content[100_000] ^ changed]) + content[100_001:]
            archive.writestr(zipfile.ZipInfo("archive/data/0"), tensor)
        found.append(of(tmp_path / name)["part 0"]["weights"]["pytorch_model.bin"])
    assert found[0] == found[1] and found[0]["tensors"] != found[2]["tensors"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (SHARDS[0], b"\xff" * 100, "model-1.safetensors is damaged: its header would end"),
        (SHARDS[0], b"", "model-1.safetensors is damaged"),
        (SHARDS[0], (4).to_bytes(8, "little") + b"[{}]", "model-1.safetensors is damaged"),
        (SHARDS[0], (34).to_bytes(8, "little") + b'{"a": {"data_offsets": [0, 9999]}}', "a tensor would end outside"),
        ("config.json", b"{", "not valid JSON"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content, match):
    folder = write(tmp_path / "a")
    (folder / name).write_bytes(content)
    with pytest.raises(SetupError, match=match) as error:
        of(folder)
    assert "\n" not in str(error.value)
    (folder / SHARDS[1]).unlink()
    with pytest.raises(SetupError, match="listed in the index are missing"):
        of(folder)


def test_a_store_names_the_file_that_differs(tmp_path):
    folder = write(tmp_path / "a")
    Store.open(tmp_path / "store", {"checkpoint": of(folder)})
    flip(folder / SHARDS[1], -1)
    with pytest.raises(SetupError, match=r"checkpoint\.part 0\.weights\.model-2\.safetensors\.blocks differs"):
        Store.open(tmp_path / "store", {"checkpoint": of(folder)})


def test_the_demo_s_identity_is_quick_and_needs_no_torch():
    start = time.monotonic()
    identity.of({"checkpoint": hub.locate("demo")})
    assert time.monotonic() - start < 2
    code = "import sys; from redundancy_eval.model_wrappers.checkpoints import identity; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
