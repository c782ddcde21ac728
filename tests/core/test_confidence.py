"""The full model's confidence comes from the store beside a sweep, for the very answers that were scored."""

import json
import math

import numpy as np
import pytest

from redundancy_eval import confidence, records, store
from redundancy_eval.runs import Samples, reply_digest
from redundancy_eval.store import ALONE, Key, Store, Stored

TEXTS = ["red", "blue", "cut here\n\nand more", "green"]


def samples(folder, texts):
    count = len(texts)
    empty, digests = np.full(count, ""), np.array([reply_digest(text) for text in texts], dtype=np.uint64)
    no = np.zeros(count, dtype=bool)
    path = folder / "runs" / "drop-none" / "demo" / "samples.jsonl"
    return Samples(path, np.array(list(map(str, range(count)))), np.arange(count), digests, np.ones(count), empty,
                   empty, no, no, digests, no, digests)  # fmt: skip


@pytest.fixture
def swept(tmp_path):
    """A sweep's folder: a record of its full model, and a store."""
    records.write({"sweep": True, "mask": "none"}, tmp_path / "runs" / "drop-none")
    (tmp_path / "runs" / "drop-none" / "demo").mkdir()
    with Store.open(tmp_path / "runs" / "store", {"made for": "a test"}) as kept:
        for number, text in enumerate(TEXTS):
            for mask, said in (("none", text), ("clip", "x"), (ALONE, "grey" if number == 1 else text)):
                stored = Stored(said, 9, 2, False, (), (), (1, 2), -0.5 - number)
                kept.add(Key("t", "test", str(number), "p", "{}", mask), stored)
    return tmp_path


def test_log_probabilities_belong_to_the_answers_that_were_scored(swept):
    found = confidence.of("t", samples(swept, ["red", "blue", "cut here", "green"]))
    np.testing.assert_array_equal(found.log_probability, [-0.5, -1.5, np.nan, -3.5])
    np.testing.assert_array_equal(found.alone, [0, 1, 1, 0])
    assert found.reason == "the response store has no log-probability of 1 of 4 answers of the full model to t"
    whole = confidence.of("t", samples(swept, TEXTS))
    assert not whole.reason and whole.alone.tolist() == [0, 1, 0, 0]
    other = confidence.of("another task", samples(swept, TEXTS))
    assert np.isnan(other.log_probability).all() and np.isnan(other.alone).all() and "4 of 4" in other.reason


def test_without_a_sweep_nothing_is_known(swept):
    records.write({"mask": "none"}, swept / "runs" / "drop-none")
    found = confidence.of("t", samples(swept, TEXTS))
    assert np.isnan(found.log_probability).all() and found.reason == confidence.NO_STORE


def test_what_is_added_is_read_and_what_is_damaged_is_told(swept):
    assert math.isnan(confidence.of("t", samples(swept, [*TEXTS, "late"])).log_probability[4])
    with Store.open(swept / "runs" / "store", {"made for": "a test"}) as kept:
        kept.add(Key("t", "test", "4", "p", "{}", "none"), Stored("late", 9, 1, False, (), (), (3,), -0.1))
    assert confidence.of("t", samples(swept, [*TEXTS, "late"])).log_probability[4] == -0.1
    shard = max((swept / "runs" / "store").glob("answers-*"))
    shard.write_bytes(shard.read_bytes().replace(b"-0.1", b"-0.2"))
    shard.write_bytes(shard.read_bytes() + b'{"half')
    found = confidence.of("t", samples(swept, [*TEXTS, "late"]))
    assert "damaged answer" in found.reason and np.isnan(found.log_probability).all()


def test_reading_beside_results_needs_no_identity_and_passes_over_half_a_line(swept):
    folder = swept / "runs" / "store"
    shard = next(folder.glob("answers-*"))
    shard.write_bytes(shard.read_bytes()[:-20])
    found = list(store.under(folder, ["none"]))
    assert [key.document for key, _ in found] == ["0", "1", "2", "3"] and {key.mask for key, _ in found} == {"none"}
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**header, "schema": 9}))
    assert "schema 9" in confidence.of("t", samples(swept, TEXTS)).reason
