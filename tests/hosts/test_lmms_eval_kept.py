"""Another wrapper's model in a sweep of lmms-eval: which of its answers are kept, and that all are a separate run's."""

import random

import pytest

pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from PIL import Image

from redundancy_eval import store
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked
from redundancy_eval.model_wrappers.hosts.lmms_eval.kept import Kept
from redundancy_eval.model_wrappers.sweeps.wrapped import DRAWN, UNKNOWN_WEIGHTS, Answers

pytestmark = pytest.mark.models


class Base(lmms):
    """Says how much its encoder sees; asks longest prompts first, and takes settings out, as wrappers do."""

    batch_size, draws, fails, counts = 1, (), (), None

    def __init__(self):
        super().__init__()
        self.tower = torch.nn.Linear(3, 2)
        self.asked = []

    def generate_until(self, requests):
        order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].args[0]), i))
        said = dict(zip(order, (self.one(*requests[i].args) for i in order), strict=True))
        return [said[i] for i in range(len(requests))]

    def one(self, context, *rest):
        settings, show = (rest[1], rest[0]) if callable(rest[0]) else rest[:2]
        doc_id, task, split = rest[-3:]
        self.asked.append((context, doc_id))
        until = settings.pop("until")
        shown = show(self.task_dict[task][split][doc_id])
        if not self.is_simple:
            shown = [part["url"] for part in shown[0]["content"] if part["type"] == "image"]
        seen = [torch.tensor(np.asarray(one).mean((0, 1)), dtype=torch.float32) for one in shown if one != "v.mp4"]
        try:
            with torch.no_grad():
                value = sum(float(self.tower(one[None]).sum()) for one in seen)
        except Exception:
            return ""
        text = "" if doc_id in self.fails else f"{context}{until}{value:.4f}"
        if context in self.draws:
            text += f" {random.random()} {torch.rand(1).item()} {np.random.rand()}"
        return text if self.counts is None else GenerationResult(text, TokenCounts(*self.counts))

    def loglikelihood(self, requests):
        return [(1.0, True)] * len(requests)

    def generate_until_multi_round(self, requests):
        return [["a", "b"]] * len(requests)


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8))


DOCUMENTS = {"t": {"test": [[picture(1)], [picture(2), picture(3)], [], [picture(4)]]}}


def request(context, doc_id, chat=False, documents=DOCUMENTS, **settings):
    settings = {"until": ["."], **settings}

    def show(document):
        if not chat:
            return document
        shown = [{"type": "video" if one == "v.mp4" else "image", "url": one} for one in document]
        return [{"role": "user", "content": [*shown, {"type": "text", "text": context}]}]

    arguments = (context, show, settings) if chat else (context, settings, show)
    told = {"task": "t", "doc_id": doc_id, "repeats": 1}
    return Instance("generate_until", (*arguments, doc_id, "t", "test"), 0, told)


@pytest.fixture
def base():
    torch.manual_seed(0)
    return Base()


def model(base, kind=Kept, drop="a", documents=DOCUMENTS, **holds):
    made = type(kind.__name__, (kind,), {"_build": lambda self, *_: base, **holds})("b", "a:tower", drop)
    made.task_dict = documents
    return made


@pytest.fixture
def kept(tmp_path):
    def opened(reason=""):
        return Answers(store.Store.open(tmp_path / "store", {}), set(), reason)

    return opened


def seeded():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)


def separate(base, asked, drop="a", documents=DOCUMENTS):
    seeded()
    told = model(base, Hooked, drop, documents).generate_until(asked())
    base.asked.clear()
    return told


def swept(base, asked, answers, drop="a", documents=DOCUMENTS):
    seeded()
    return model(base, Kept, drop, documents, answers=answers).generate_until(asked())


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("counts", [None, (None, 7), (5, 7)])
def test_answers_are_a_separate_run_s_and_are_asked_once(base, kept, chat, counts):
    def asked():
        return [request(f"What{'?' * i}", i, chat) for i in (0, 1, 2, 0)]

    base.is_simple, base.counts = not chat, counts
    for drop in ("none", "a"):
        told = separate(base, asked, drop)
        assert swept(base, asked, kept(), drop) == told
        assert len(base.asked) == 3 + (drop == "a"), "lmms-eval's repetition is not asked; with a mask one probe is"
        base.asked.clear()
        assert swept(base, asked, kept(), drop) == told and not base.asked
    (key, stored), *rest = kept().store.items()
    assert len(rest) == 5 and key.document == "0" and len(stored.images) == 1 and stored.notes == ()
    assert (stored.prompt_tokens, stored.new_tokens) == (counts or (None, None))


def test_what_is_there_is_not_asked_after_a_kill(base, kept, monkeypatch):
    def asked():
        return [request(f"What{'?' * i}", i) for i in range(4)]

    told = separate(base, asked)
    one, answers = base.one, kept()

    def dies(context, *rest):
        if len(base.asked) == 3:  # the probe and two
            raise KeyboardInterrupt
        return one(context, *rest)

    monkeypatch.setattr(base, "one", dies)
    with pytest.raises(KeyboardInterrupt):
        swept(base, asked, answers)
    monkeypatch.undo()
    base.asked.clear()
    assert len(kept().store) == 2
    assert swept(base, asked, kept()) == told
    assert [doc_id for _, doc_id in base.asked] == [3, 2, 3], "a probe, and what was not answered"


def test_other_words_settings_and_pictures_are_other_questions(base, kept):
    swept(base, lambda: [request("What?", 0)], kept())
    base.asked.clear()
    swept(base, lambda: [request("Which?", 0)], kept(), "none")
    swept(base, lambda: [request("What?", 0, max_new_tokens=3)], kept(), "none")
    assert [context for context, _ in base.asked] == ["Which?", "What?"]
    other = {"t": {"test": [[picture(9)]]}}
    with pytest.raises(SystemExit) as stopped:
        swept(base, lambda: [request("What?", 0)], kept(), "none", other)
    assert stopped.value.code == 3 and isinstance(stopped.value.__cause__ or stopped.value.__context__, DataError)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("weights", UNKNOWN_WEIGHTS),
        ("batches", "in batches of 2 an answer may depend on its neighbours"),
        ("sampled", "t draws its answers"),
        ("video", "t shows something else than pictures"),
        ("chat video", "t shows something else than pictures"),
        ("odd settings", "t is asked with settings that are no JSON"),
        ("more counts", "the base model tells more of an answer than the store holds"),
        ("draws", DRAWN),
    ],
)
def test_what_does_not_stand_for_itself_is_not_kept_and_said_once(base, kept, capsys, how, said):
    base.batch_size = 2 if how == "batches" else 1
    base.counts = (1, 2, 3) if how == "more counts" else None
    base.draws = ("What?", "Where?????") if how in ("sampled", "draws") else ()
    base.is_simple = chat = how != "chat video"
    documents = {"t": {"test": [[*one, "v.mp4"] for one in DOCUMENTS["t"]["test"]]}} if "video" in how else DOCUMENTS
    settings = {"sampled": {"temperature": 0.5}, "odd settings": {"stop": len}}.get(how, {})

    def asked():
        return [request(text, i, not chat, **settings) for i, text in enumerate(("Who??", "What?", "Where?????"))]

    told = separate(base, asked, documents=documents)
    for _ in range(2):
        assert swept(base, asked, answers := kept("" if how != "weights" else UNKNOWN_WEIGHTS), "a", documents) == told
        assert swept(base, asked, answers, "a", documents) == told
    printed = capsys.readouterr().err
    assert printed.count(f"kept by whole masks, not answer by answer: {said}\n") == 2, "once for each sweep"
    held = {key.document for key, _ in kept().store.items()}
    assert held == ({"0"} if how == "draws" else set()), "until something is drawn"


def test_an_empty_answer_is_asked_again(base, kept):
    base.fails = (1,)

    def asked():
        return [request("What?", i) for i in range(3)]

    for count in (3, 1):
        base.asked.clear()
        assert swept(base, asked, kept(), "none")[1] == "" and len(base.asked) == count


def test_a_hook_that_fails_behind_a_wrapper_s_back_keeps_nothing(base, kept, monkeypatch):
    made = model(base, answers=kept())
    made.probed = True
    monkeypatch.setattr(torch, "zeros_like", lambda own: own[:, :1])
    with pytest.raises(SystemExit) as stopped:
        made.generate_until([request("What?", 0)])
    assert stopped.value.code == 2 and isinstance(stopped.value.__cause__ or stopped.value.__context__, SetupError)
    assert not len(kept().store)


def test_likelihoods_and_rounds_are_as_before(base, kept, capsys):
    made = model(base, drop="none", answers=kept())
    assert made.loglikelihood([request("What?", 0)]) == [(1.0, True)]
    assert made.generate_until_multi_round([request("What?", 0)]) == [["a", "b"]]
    assert capsys.readouterr().err.count("kept by whole masks") == 2 and not len(kept().store)
