"""Answers carry their token ids and the model's own probability of exactly these, whatever chose them."""

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")


from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny, tiny_cambrian, tiny_deepseek_vl, tiny_eagle2, tiny_hf, tiny_imof
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
MAKERS = {
    "eagle": tiny.write,
    "cambrian": tiny_cambrian.write,
    "imof": tiny_imof.write,
    "deepseek_vl": tiny_deepseek_vl.write,
    "eagle2": tiny_eagle2.write,
}


PROMPTS = [Prompt("What is this?", (picture(1),)), Prompt("Say something."), Prompt("And here, is it?", (picture(2),))]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The full model and one without its first encoder, by family."""
    root, known = tmp_path_factory.mktemp("generated"), {}

    def get(kind):
        if kind == "hf" and kind not in known:
            folder = str(tiny_hf.unlimited_ocr(root / kind))
            known[kind] = [loading.transformers_model(folder, OCR, drop, device="cpu") for drop in ("none", "sam")]
        if kind not in known:
            made = MAKERS[kind](root / kind)
            folders = made if isinstance(made, tuple) else (made,)
            settings = dict(zip(("pretrained", "encoder_weights"), map(str, folders), strict=False))
            full = loading.load(f"{kind}_masked", device="cpu", drop="none", **settings)
            known[kind] = [full, full.under(full.encoder_names[:1])]
        return known[kind]

    return get


def forced(model, prompt, ids):
    """Log-probability of token ids after a prompt, of one pass over all of them."""
    ids = torch.tensor(ids)
    with torch.inference_mode():
        if isinstance(model, native.MaskedModel):
            (sequence,), visuals = model.embed_prompts([prompt])
            inputs = torch.cat([sequence, model.model.language_model.get_input_embeddings()(ids)])[None]
            with model.model.prefill(visuals, [0]):
                logits = model.model.language_model(inputs_embeds=inputs).logits[0]
        else:
            inputs = model.inputs([prompt])
            for key, added in (("input_ids", ids), ("attention_mask", torch.ones_like(ids))):
                inputs[key] = torch.cat([inputs[key], added[None]], 1)
            with model.hooks():
                logits = model.model(**inputs).logits[0]
    chosen = logits[-len(ids) - 1 : -1].double().log_softmax(-1).gather(-1, ids[:, None])
    return chosen.sum().item()


@pytest.mark.parametrize("kind", [*MAKERS, "hf"])
def test_the_log_probability_is_that_of_one_pass_over_the_answer(models, kind):
    for model in models(kind):
        for prompt, answer in zip(PROMPTS, model.generate(PROMPTS, 5), strict=True):
            assert len(answer.ids) == answer.new_tokens and answer.log_probability < 0
            assert answer.log_probability == pytest.approx(forced(model, prompt, answer.ids), abs=1e-3)


@pytest.mark.parametrize("kind", ["eagle", "hf"])
def test_what_processors_do_to_the_logits_does_not_show(models, kind):
    """A rule against repetitions changes what is chosen; the probability is still the model's own of these tokens."""
    model = models(kind)[0]
    plain, steered = (model.generate(PROMPTS, 6, **more) for more in ({}, {"no_repeat_ngram_size": 1}))
    assert [answer.ids for answer in plain] != [answer.ids for answer in steered]
    for prompt, answer in zip(PROMPTS, steered, strict=True):
        assert answer.log_probability == pytest.approx(forced(model, prompt, answer.ids), abs=1e-3)


@pytest.mark.parametrize("kind", ["eagle", "hf"])
def test_drawn_answers_and_those_of_beams_have_none(models, kind):
    for settings in ({"do_sample": True}, {"num_beams": 2}):
        for answer in models(kind)[0].generate(PROMPTS, 3, **settings):
            assert answer.log_probability is None and len(answer.ids) == answer.new_tokens


def test_a_token_that_ends_an_answer_counts_and_what_follows_does_not(models):
    full = models("eagle")[0]
    answer = full.generate(PROMPTS, 6)[0]
    end = answer.ids[0]
    ended = native.MaskedModel(full.model, full.tokenizer, eos=[end], template=full.template)
    first, *rest = ended.generate(PROMPTS, 6)
    assert first.ids == (end,) and not first.capped and any(len(other.ids) > 1 for other in rest)
    assert first.log_probability == pytest.approx(forced(full, PROMPTS[0], (end,)), abs=1e-3)


def test_nothing_stays_on_the_model(models):
    language_model = models("eagle")[0].model.language_model
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "generate", lambda **_: 1 / 0)
        models("eagle")[0].generate(PROMPTS, 2)
    assert not language_model._forward_hooks
