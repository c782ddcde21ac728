"""Batches of a sweep fit the memory and change no answer."""

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.sweeps import engines, sweep
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from tests.helpers.sweeping import SHORT, agree, fill, labels, load, questions, store, watching

pytestmark = [pytest.mark.models, pytest.mark.slow]


# Of the other families, `auto` is tested where their answers are compared with those of separate models.
@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [("eagle", 1), ("eagle", 3), ("eagle", 64), ("eagle", "auto")]
    + [(kind, 3) for kind in ("cambrian projected", "eagle2", "deepseek_ocr cut")],
)
def test_the_batch_size_changes_no_answer(made, expected, kind, batch_size, tmp_path):
    asked = questions(kind)
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, asked, batch_size)
        agree(made, expected(kind), kept, asked, kind)
    assert max(seen.decoded) <= (sweep.FIRST_GUESS if batch_size == "auto" else batch_size)
    assert len(seen.asked) == len(set(seen.asked)), "a question was put twice"


def test_the_order_of_questions_changes_no_answer(made, expected, tmp_path):
    kind, asked = "cambrian", questions("cambrian")
    with store(tmp_path) as kept:
        done = Sweep(lambda: load(*made(kind)), labels(kind), kept, 5)
        for one in asked[::-1]:
            done.fill([one], show=False)
        agree(made, expected(kind), kept, asked, kind)


# --- memory --------------------------------------------------------------------------------------------------------


def limit_memory(monkeypatch, most, images=None):
    """Make decoding more sequences than `most` at once, or encoding more images, run out of memory."""
    decode, encode = MaskedModel.decode, MaskedModel.encode

    def limited(original, number):
        def run(self, batch, *rest, **settings):
            if number is not None and len(batch) > number:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(self, batch, *rest, **settings)

        return run

    monkeypatch.setattr(MaskedModel, "decode", limited(decode, most))
    monkeypatch.setattr(MaskedModel, "encode", limited(encode, images))


@pytest.mark.parametrize(("most", "images"), [(31, None), (5, None), (1, None), (None, 1)])
def test_batches_become_smaller_where_memory_does_not_suffice(
    made, expected, most, images, monkeypatch, tmp_path, capsys
):
    kind, asked = "eagle", questions("eagle")
    wanted = expected(kind)
    with watching() as seen, pytest.MonkeyPatch.context() as patch:
        limit_memory(patch, most, images)
        with store(tmp_path) as kept:
            done = fill(made, kind, kept, asked)
    agree(made, wanted, kept, asked, kind)
    assert done.batch_size <= (most or 32) and not done.growing
    lines = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert len(lines) == {31: 1, 5: 3, 1: 5}.get(most, len(lines)) and lines
    assert lines[-1].endswith(f"batches of {done.batch_size} from here on")
    # What was asked came to an answer, once.
    assert len(seen.asked) == len(set(seen.asked)) and not kept.conflicts
    (shard,) = (tmp_path / "store").glob("answers-*")
    assert len(shard.read_text().splitlines()) == len(kept) == len(asked) * 16


def test_a_device_too_small_for_one_sequence(made, tmp_path):
    asked = questions("eagle")
    with store(tmp_path) as kept, pytest.MonkeyPatch.context() as patch:
        done = fill(made, "eagle", kept, asked[:2], 7)
        limit_memory(patch, 0)
        with pytest.raises(SetupError, match="out of memory: not even one sequence fits the device"):
            done.fill(asked, show=False)
        known = {key.mask for key, _ in kept.items() if key.document not in {one.document for one in asked[:2]}}
        assert known == {"all"}, "what takes no pixel was answered with the first questions"
        count = len(kept)
    with store(tmp_path) as kept:
        assert len(kept) == count
        fill(made, "eagle", kept, asked)
        assert len(kept) == len(asked) * 16


def test_batches_grow_as_long_as_there_is_room(made, expected, monkeypatch, tmp_path):
    kind, asked = "eagle", questions("eagle")
    monkeypatch.setattr(sweep, "FIRST_GUESS", 4)
    monkeypatch.setattr(engines, "room_for_twice", lambda: True)
    with store(tmp_path) as kept, watching() as seen:
        done = Sweep(lambda: load(*made(kind)), labels(kind), kept)
        done.growing = True  # as on a GPU
        done.fill(asked, show=False)
        agree(made, expected(kind), kept, asked, kind)
    assert done.batch_size > 16 and max(seen.decoded) > 8 and seen.decoded[0] == 4
    assert len(seen.asked) == len(set(seen.asked))


def test_a_model_on_the_cpu_of_a_machine_with_a_gpu_gets_no_larger_batches(made, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines, "room_for_twice", lambda: True)  # of the GPU, which is not used
    monkeypatch.setattr(sweep, "FIRST_GUESS", 2)
    with store(tmp_path) as kept:
        done = Sweep(lambda: load(*made("eagle")), labels("eagle"), kept)
        done.fill(questions("eagle")[:2], show=False)
    assert done.batch_size == 2


def test_float32_is_not_rounded_to_tf32_by_convolutions(made, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load(*made("eagle"))
    assert not torch.backends.cudnn.allow_tf32


def test_a_large_model_gets_small_batches_on_a_cpu(made, monkeypatch, tmp_path):
    large = 2 * 32 * 4096 * 4  # bytes of a token's keys and values in a model of 7B parameters
    assert [sweep.first_guess("cpu", cache) for cache in (0, 4096, large, 64 * large)] == [32, 32, 1, 1]
    assert sweep.first_guess("cuda", large) == 32
    language = load(*made("eagle")).model.language_model
    monkeypatch.setattr(sweep, "_CPU_CACHE", 3 * 1024 * operations.language(language).cache(4) + 1)
    with store(tmp_path) as kept, watching() as seen:
        done = fill(made, "eagle", kept, questions("eagle", SHORT), names=["none", "clip"])
    assert done.batch_size == max(seen.decoded) == 3


def test_batches_do_not_grow_again_once_memory_ran_out(made, expected, monkeypatch, tmp_path, capsys):
    kind, asked = "eagle", questions("eagle")
    wanted = expected(kind)
    monkeypatch.setattr(sweep, "FIRST_GUESS", 4)
    monkeypatch.setattr(engines, "room_for_twice", lambda: True)
    limit_memory(monkeypatch, 9)
    with store(tmp_path) as kept:
        done = Sweep(lambda: load(*made(kind)), labels(kind), kept)
        done.growing = True
        done.fill(asked, show=False)
    monkeypatch.undo()
    agree(made, wanted, kept, asked, kind)
    assert done.batch_size == 8 and capsys.readouterr().err.count("out of memory") == 1
