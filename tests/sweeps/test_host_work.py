"""Host work beside the model: where it runs, what it leaves out, what it holds, and whose document a failure is."""

import threading

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.sweeps import sweep
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.store import Store
from tests.helpers import tiny
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
LABELS = ["none", "clip"]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return loading.load(
        "eagle_masked", str(tiny.write(tmp_path_factory.mktemp("host") / "eagle", "clip-448;convnext-1024")),
        device="cpu", drop="none",
    )  # fmt: skip


def questions(count=6, seeds=100):
    """Documents, the images of which come again after so many."""
    return [
        Question("task", "test", str(n), "What is this?", 2, {}, lambda n=n: (picture(n % seeds),))
        for n in range(count)
    ]


def swept(full, asked, folder, labels=LABELS, batch_size=2):
    with Store.open(folder, {"made for": "a test"}) as kept:
        done = sweep.Sweep(lambda: full, labels, kept, batch_size)
        done.fill(asked, show=False)
        return done, [[done.answer(one, label).text for label in labels] for one in asked]


@pytest.fixture
def prepared(monkeypatch):
    """Names of the threads that preprocess, once for each image."""
    threads, pixels = [], MaskedModel.pixels

    def noted(self, images, names):
        threads.extend([threading.current_thread().name] * len(images))
        return pixels(self, images, names)

    monkeypatch.setattr(MaskedModel, "pixels", noted)
    return threads


def test_all_is_prepared_beside_the_model_and_answers_are_those_of_separate_runs(full, prepared, tmp_path):
    asked = questions()
    done, answers = swept(full, asked, tmp_path)
    assert prepared == ["ahead"] * 6 and not done.engine._pixels
    alone = [full.under(mask).generate([one.prompt() for one in asked], 2) for mask in ((), ("clip",))]
    assert answers == [[answer.text for answer in both] for both in zip(*alone, strict=True)]


def test_what_no_encoder_will_see_is_not_prepared(full, prepared, tmp_path):
    swept(full, questions(), tmp_path, ["all"])
    assert not prepared
    swept(full, questions(), tmp_path, ["all", "clip"])  # of the first mask, all is known
    assert len(prepared) == 6
    swept(full, questions(), tmp_path, ["all", "clip"])
    assert len(prepared) == 6


def test_an_image_that_comes_again_is_prepared_once(full, prepared, tmp_path):
    _, answers = swept(full, questions(6, seeds=3), tmp_path, batch_size=6)
    assert prepared == ["ahead"] * 3 and answers[:3] == answers[3:]


def test_what_waits_is_bounded(full, prepared, tmp_path, monkeypatch):
    """Without room a window is one question, one more waits, and one is made."""
    _, answers = swept(full, questions(), tmp_path / "wide", batch_size=4)
    most, answer = [], sweep.engines.Native.answer

    def looking(self, *batch, **settings):
        most.append(len(self._pixels))
        return answer(self, *batch, **settings)

    monkeypatch.setattr(sweep.engines.Native, "answer", looking)
    monkeypatch.setattr(sweep, "_ROOM", 1)
    assert swept(full, questions(), tmp_path / "narrow", batch_size=4)[1] == answers
    assert max(most) <= 3
    assert prepared == ["ahead"] * 12


def test_what_cannot_be_prepared_names_its_document(full, tmp_path, monkeypatch):
    pixels = MaskedModel.pixels

    def refusing(self, images, names):
        if images[0] in bad:
            raise DataError("its values add up to nothing")
        return pixels(self, images, names)

    monkeypatch.setattr(MaskedModel, "pixels", refusing)
    bad, asked = [picture(4)], questions()
    with pytest.raises(DataError, match="^task document 4: its values add up to nothing$"):
        swept(full, asked, tmp_path)
    with Store.open(tmp_path, {"made for": "a test"}) as kept:
        assert {key.document for key, _ in kept.items()} == {"0", "1", "2", "3"}
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    bad.clear()
    assert len(swept(full, asked, tmp_path)[1]) == 6
