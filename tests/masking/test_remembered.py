"""What hf_masked models compute once for all masks: equal answers, fewer passes, and none where an input differs."""

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from redundancy_eval.model_wrappers.masking.remembered import Remembered, sharable
from redundancy_eval.model_wrappers.sweeps import engines, run, sweep
from redundancy_eval.model_wrappers.sweeps.engines import Asked
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.sweep import Job
from redundancy_eval.store import Store
from tests.helpers import tiny_hf
from tests.helpers.pictures import picture
from tests.masking.test_hooks import HALVES, OCR

pytestmark = pytest.mark.models
PROMPTS = [Prompt("What?", (picture(1),)), Prompt("How many are in here?", (picture(2),)), Prompt("Say something.")]


@pytest.fixture(scope="module")
def ocr(tmp_path_factory):
    return str(tiny_hf.unlimited_ocr(tmp_path_factory.mktemp("hf") / "ocr"))


@pytest.mark.parametrize("encoders", [OCR, HALVES, OCR + "+both:model.vision_tower"])
def test_answers_are_those_of_separate_runs(ocr, encoders):
    full = loading.transformers_model(ocr, encoders, device="cpu")
    labels = ["none", "sam", "clip", "all"]
    engine = engines.start(full, labels, None)
    asked = [engine.ask(prompt) for prompt in PROMPTS]
    together = engine.answer([(one, label) for label in labels for one in asked], 6)
    alone = [
        answer
        for label in labels
        for answer in loading.transformers_model(ocr, encoders, label, device="cpu").generate(PROMPTS, 6)
    ]
    assert [reply.answer for reply in together] == alone
    assert engine.remembered.spared > 0
    assert not any("forward" in vars(module) for module in full.model.modules()), "gone after the call"


def test_an_encoder_that_another_feeds_is_run_again(ocr):
    """CLIP sees through SAM: for three masks of an image SAM is computed once, CLIP with SAM and with zeros."""
    full = loading.transformers_model(ocr, OCR, device="cpu")
    counts = {"sam": 0, "clip": 0}
    for name in counts:
        layer = next(m for n, m in full.places[name].module.named_modules() if n.endswith("layers.0"))
        layer.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    engine = engines.start(full, ["none", "clip", "sam"], None)
    one = engine.ask(PROMPTS[0])
    for label in ("none", "clip", "sam", "none"):
        engine.answer([(one, label)], 2)
    assert counts == {"sam": 1, "clip": 2}


def test_prompts_are_made_inputs_once_for_all_masks(ocr, monkeypatch):
    full = loading.transformers_model(ocr, OCR, device="cpu")
    engine, batches = engines.start(full, ["none", "clip"], None), []
    make = type(full.processor).apply_chat_template

    def counting(self, conversations, **settings):
        batches.append(len(conversations))
        return make(self, conversations, **settings)

    monkeypatch.setattr(type(full.processor), "apply_chat_template", counting)
    first, second = [engine.ask(prompt) for prompt in PROMPTS[:2]]
    full.feeding.known = {}  # else it is found out by one more prompt
    batch = [(one, label) for label in ("none", "clip") for one in (first, second)]
    together = [reply.answer for reply in engine.answer(batch, 4)]
    assert batches == [2]
    alone = [engine.answer([each], 4)[0].answer for each in reversed(batch)]  # equal texts are not the same prompts
    assert together == alone[::-1] and batches == [2, 1, 1, 1, 1]


def test_masks_of_an_image_stay_together(ocr, tmp_path):
    """Batches of four, three masks: an image whose masks were parted would be computed in two companies."""
    full = loading.transformers_model(ocr, OCR, device="cpu")
    passes = {"sam": 0, "clip": 0}
    for name in passes:
        layer = next(m for n, m in full.places[name].module.named_modules() if n.endswith("layers.0"))
        layer.register_forward_hook(lambda *_, name=name: passes.update({name: passes[name] + 1}))
    labels = ["none", "clip", "sam"]
    asked = [Question("t", "", str(n), "What?", 2, {}, lambda n=n: [picture(n)]) for n in range(3)]
    with Store.open(tmp_path / "store", {}) as kept:
        # With the first image it is found out what feeds what, which takes passes of its own.
        sweep.Sweep(lambda: full, labels, kept, 4).fill(asked[:1], show=False)
        passes.update(sam=0, clip=0)
        done = sweep.Sweep(lambda: full, labels, kept, 4)
        done.fill(asked[1:], show=False)
    assert passes == {"sam": 2, "clip": 3}, "CLIP sees SAM's output of each image, and zeros once for both"
    lines = run.summary(kept, labels)
    assert any("drop=sam: 3 sam feeds clip" in line for line in lines), "where one feeds another it is said"
    together = [job for n in range(3) for job in [Job("", n, [(asked[n], Asked(PROMPTS[0], (str(n),)))])] * 3]
    assert done._whole(together) == 3 and done._whole(together[:4]) == 4 and done._whole(together[:3] * 2) == 4


def test_memory_is_bounded():
    layer, other = torch.nn.Linear(3, 2).eval(), torch.nn.Linear(3, 2).eval()
    kept = Remembered([layer, other], limit=45)  # a call is 12 bytes in, 8 out
    with torch.no_grad(), kept:
        for n in range(3):
            layer(torch.full((1, 3), float(n)))
            other(torch.full((1, 3), float(n)))
            assert kept.used == min(40, 40 * (n + 1))
        assert kept.spared == 0
        layer(torch.full((1, 3), 2.0)), layer(torch.full((1, 3), 1.0))
        assert (kept.ran, kept.spared, kept.used) == (7, 1, 40), "the oldest went first"
        layer(torch.ones(9, 3))
        assert kept.used == 0, "a call that is larger than all"
    many = Remembered([layer])
    with torch.no_grad(), many:
        for n in range(9):
            layer(torch.full((1, 3), float(n)))
    assert many.used == 4 * 20
    many.forget()
    assert many.used == 0


def test_only_equal_inputs_are_answered_from_memory():
    layer = torch.nn.Linear(3, 2).eval()
    ran = []
    layer.register_forward_hook(lambda *_: ran.append(1))
    kept = Remembered([layer])
    one, other = torch.ones(1, 3), torch.ones(1, 3).index_fill(1, torch.tensor([2]), 1 + 1e-7)
    with torch.no_grad(), kept:
        first = layer(one)
        first.zero_()  # in place, by whoever has it
        assert torch.equal(layer(input=one), layer(one)) and layer(one).any()
        layer(other), layer(one.double().float()), layer(one.expand(2, 3))
    assert (kept.ran, kept.spared) == (4, 3) and len(ran) == 7, "by name is another call; hooks run either way"
    assert "forward" not in vars(layer)
    layer.train()
    with kept:
        layer(one)
    assert kept.ran == 4, "a module in training mode is left alone"


def test_what_cannot_be_compared_is_computed():
    class Odd(torch.nn.Module):
        def forward(self, given, cache):
            return given + cache.value

    class Cache:
        value = 1.0

    odd = Odd().eval()
    kept = Remembered([odd])
    with kept:
        assert odd(torch.ones(1), Cache()) == 2 and odd(torch.ones(1), Cache()) == 2
    assert (kept.ran, kept.spared) == (0, 0)


def test_an_output_with_a_state_of_its_own_is_computed():
    class Made(torch.nn.Module):
        def forward(self, given):
            return {"hidden": given + 1, 0: [given], "cache": object()} if given.ndim == 1 else {0: given + 1}

    module = Made().eval()
    kept = Remembered([module])
    with kept:
        one, other = module(torch.ones(2)), module(torch.ones(2))
        assert one["cache"] is not other["cache"] and (kept.ran, kept.spared) == (2, 0)
        assert torch.equal(module(torch.ones(1, 2))[0], module(torch.ones(1, 2))[0]) and kept.spared == 1
        kept.forget()
        module(torch.ones(1, 2))
    assert (kept.ran, kept.spared) == (4, 1)


def test_nothing_is_kept_where_memory_ran_out(ocr, monkeypatch):
    full = loading.transformers_model(ocr, OCR, device="cpu")
    engine = engines.start(full, ["none", "clip"], None)
    batch = [(engine.ask(PROMPTS[0]), "none")]
    engine.answer(batch, 2)
    assert any(engine.remembered._calls.values())

    def full_up(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine.views["none"], "generate", full_up)
    with pytest.raises(torch.OutOfMemoryError):
        engine.answer(batch, 2)
    assert not any(engine.remembered._calls.values())


def test_a_module_that_holds_a_hooked_one_is_not_remembered(ocr):
    full = loading.transformers_model(ocr, OCR, device="cpu").model
    sam = full.model.vision_tower.sam_encoder
    found = sharable(full, [sam])
    assert (
        sam in found and full.model.vision_tower.vision_encoder in found and full.model.multi_modal_projector in found
    )
    assert full.model.vision_tower not in found and full.model not in found and full.lm_head not in found
    assert not {full.get_decoder(), full.get_input_embeddings()} & set(found)
    assert sharable(full, [torch.nn.Linear(1, 1)]) == []
