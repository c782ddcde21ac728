"""Masking by module path: hf_masked on transformers' own models, masked on a model of lmms-eval, and their errors."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image

from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import ablations, hf, loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny_hf

pytestmark = pytest.mark.models
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"


def picture(seed, size=(60, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def ocr(tmp_path_factory):
    return str(tiny_hf.unlimited_ocr(tmp_path_factory.mktemp("hf") / "ocr"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_hf.llava(tmp_path_factory.mktemp("hf") / "llava"))


PROMPTS = [Prompt("What?", (picture(1),)), Prompt("Say something."), Prompt("How many are in here?", (picture(2),))]


def projector_input(subject, image):
    """What enters the projector behind the two encoders."""
    seen = []
    handle = subject.model.model.multi_modal_projector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    subject.generate([Prompt("What?", (image,))], 1)
    handle.remove()
    return seen[0]


def test_a_dropped_encoder_is_zero_in_the_fusion(ocr):
    full = projector_input(loading.transformers_model(ocr, OCR, device="cpu"), picture(1))
    clip, sam = full[..., :16], full[..., 16:]
    no_clip = projector_input(loading.transformers_model(ocr, OCR, "clip", device="cpu"), picture(1))
    assert not no_clip[..., :16].any() and torch.equal(no_clip[..., 16:], sam)
    no_sam = projector_input(loading.transformers_model(ocr, OCR, "sam", device="cpu"), picture(1))
    # SAM feeds CLIP there, so CLIP goes on with zeros and its output is another.
    assert not no_sam[..., 16:].any() and no_sam[..., :16].any() and not torch.equal(no_sam[..., :16], clip)
    assert not projector_input(loading.transformers_model(ocr, OCR, "all", device="cpu"), picture(1)).any()


def test_batches_answer_as_single_prompts_do(ocr):
    for drop in ("none", "sam"):
        subject = loading.transformers_model(ocr, OCR, drop, device="cpu")
        together = subject.generate(PROMPTS, 6)
        assert together == [subject.generate([prompt], 6)[0] for prompt in PROMPTS]
        assert together[0].prompt_tokens > together[1].prompt_tokens
    blind = loading.transformers_model(ocr, OCR, "all", device="cpu")
    assert blind.loglikelihood(PROMPTS[:1], [" red"])[0][0] != subject.loglikelihood(PROMPTS[:1], [" red"])[0][0]


def test_hooks_are_gone_behind_the_call_and_behind_an_exception(llava, monkeypatch):
    subject = loading.transformers_model(llava, "clip:model.vision_tower", "clip", device="cpu")
    tower = subject.modules["clip"]
    subject.generate(PROMPTS[:1], 1)
    assert not tower._forward_hooks
    monkeypatch.setattr(subject.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        subject.generate(PROMPTS[:1], 1)
    assert not tower._forward_hooks


def test_a_hook_that_never_fires_or_changes_nothing_is_an_error(llava):
    idle = loading.transformers_model(llava, "clip:model.language_model.layers.0.mlp+x:lm_head", "x", device="cpu")
    idle.modules["x"] = torch.nn.Linear(2, 2)
    with pytest.raises(SetupError, match="the module named for x never ran, so nothing was masked"):
        idle.generate(PROMPTS[:1], 1)
    same = loading.transformers_model(llava, "clip:model.vision_tower", "clip", device="cpu")
    with torch.no_grad():
        for parameter in same.modules["clip"].parameters():
            parameter.zero_()
    with pytest.raises(DataError, match="dropping clip changed nothing"):
        same.generate(PROMPTS[:1], 1)
    assert same.generate(PROMPTS[1:2], 1), "a prompt without images has nothing to mask"


def test_an_encoder_that_another_sees_through_is_told(ocr):
    subject = loading.transformers_model(ocr, OCR, "sam", device="cpu")
    subject.generate(PROMPTS[1:2], 1)
    assert loading.remarks(subject) == [], "a prompt without images tells nothing"
    run_record.FOUND.clear()
    subject.generate(PROMPTS, 1)
    (told,) = loading.remarks(subject)
    run_record.tell_feeds(subject.feeds())
    assert told.startswith("sam feeds clip: dropping it changes what the other sees too")
    run_record.tell_feeds(subject.feeds())
    assert run_record.FOUND == {"feeds": {"sam": ["clip"]}}
    assert subject.under(["clip"]).feeds() == [] and subject.under(["sam"]).feeds() == ["sam feeds clip"]
    assert subject.under(["sam", "clip"]).feeds() == [], "what sees through it is dropped itself"
    inner = loading.transformers_model(ocr, OCR + "+both:model.vision_tower", "clip", device="cpu")
    inner.generate(PROMPTS[:1], 1)
    assert inner.feeds() == ["clip feeds both"], "a module within another one"


def test_shuffled_encoders_that_see_through_each_other_are_not_taken_for_unchanged(ocr, tmp_path):
    """With two images, SAM's stand-in is the other image's: CLIP sees it and gives what its own stand-in is."""
    full = loading.transformers_model(ocr, OCR, device="cpu")
    units = lambda image: [(ablations.image_hash(image), 0)]  # noqa: E731
    sample = [(units(image), full.outputs([image])) for image in (picture(1), picture(2))]
    made = ablations.calibrate(sample, model="hf_masked", checkpoint=ocr, site="encoder")
    shuffle = ablations.Ablation("shuffle", made)
    subject = hf.HfMaskedModel(full.model, full.processor, full.modules, ("sam", "clip"), shuffle)
    other = hf.HfMaskedModel(full.model, full.processor, full.modules).generate([Prompt("What?", (picture(2),))], 6)
    assert subject.generate([Prompt("What?", (picture(1),))], 6) == other


@pytest.mark.parametrize(
    ("encoders", "match"),
    [
        ("", "must say which modules"),
        (
            "clip:model.vision_tower+sam:model.vision_tower",
            "sam and clip name the same module|clip and sam name the same",
        ),
        ("clip", "must be NAME:MODULE.PATH"),
        ("clip:a+clip:b", "names 'clip' twice"),
        (
            "clip:model.tower",
            r"no module 'model.tower': model has no 'tower'; it has vision_tower, multi_modal_projector",
        ),
        ("clip:config", "is no module but a LlavaConfig"),
    ],
)
def test_wrong_module_paths(llava, encoders, match):
    with pytest.raises(SetupError, match=match):
        loading.transformers_model(llava, encoders, device="cpu")


def test_other_mistakes(llava, tmp_path):
    with pytest.raises(SetupError, match="needs pretrained="):
        loading.transformers_model(None, OCR)
    with pytest.raises(SetupError, match="unknown encoder 'sam'; this model has: clip"):
        loading.transformers_model(llava, "clip:model.vision_tower", "sam", device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "nothing_like_it"}')
    with pytest.raises(SetupError, match="transformers cannot load"):
        loading.transformers_model(str(tmp_path), "clip:a", device="cpu")
    assert registry.parse_encoders("Clip:a.b+sam:c.0.d") == {"clip": "a.b", "sam": "c.0.d"}


# --- a model of lmms-eval ------------------------------------------------------------------------------------------


def hooked(llava, encoders="clip:model.model.vision_tower", drop="clip", **settings):
    pytest.importorskip("decord", reason="lmms-eval's llava_hf needs decord")
    from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked

    made = Hooked(
        "llava_hf", encoders, drop, pretrained=llava, device="cpu", device_map="cpu", dtype="float32", **settings
    )
    made.task_dict = {"t": {"test": [{"image": prompt.images} for prompt in PROMPTS if prompt.images]}}
    return made


def requests():
    from lmms_eval.api.instance import Instance

    def show(doc):
        images = [{"type": "image", "url": image} for image in doc["image"]]
        return [{"role": "user", "content": [*images, {"type": "text", "text": "What is it?"}]}]

    return [
        Instance(
            "generate_until",
            (f"What is {i}?", show, {"max_new_tokens": 6, "until": ["\n\n"]}, i, "t", "test"),
            0,
            {"task": "t", "doc_id": i, "repeats": 1},
        )
        for i in range(2)
    ]


def zeroed(value):
    if torch.is_tensor(value):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return type(value)(**{k: zeroed(v) for k, v in value.items()})
    return tuple(map(zeroed, value)) if isinstance(value, tuple) else value


def test_a_model_of_lmms_eval_is_masked(llava):
    full, blind = hooked(llava, drop="none"), hooked(llava)
    assert full.is_simple is False and full.base.rank == 0 and str(full.base.device) == "cpu"
    answers = blind.generate_until(requests())
    assert answers[0] != full.generate_until(requests())[0]
    # The base itself with zeros at the same place.
    tower = full.base.model.model.vision_tower
    handle = tower.register_forward_hook(lambda m, i, o: zeroed(o))
    assert [a.text for a in full.generate_until(requests())] == [a.text for a in answers] and answers[0].text
    handle.remove()
    assert not blind.base.model.model.vision_tower._forward_hooks


def test_mistakes_with_a_model_of_lmms_eval_end_in_one_line(llava, capsys):
    for settings, said in (
        (dict(encoders="clip:model.tower"), "no module 'model.tower'"),
        (dict(encoders="clip:model.lm_head.nothing"), "no module"),
        (dict(ablation="noise"), "masked knows ablation=zero only"),
    ):
        with pytest.raises(SystemExit) as stop:
            hooked(llava, **settings)
        assert stop.value.code == 2 and said in capsys.readouterr().err
    from redundancy_eval.model_wrappers.hosts.lmms_eval.hooked import Hooked

    for base in ("", "masked", "no_such_model"):
        with pytest.raises(SystemExit):
            Hooked(base, "clip:model", "clip")
    assert "lmms-eval has no working model 'no_such_model'" in capsys.readouterr().err


def test_a_wrong_module_is_told_by_the_first_request(llava, capsys):
    subject = hooked(llava, encoders="clip:model.model.language_model.embed_tokens", drop="clip")
    subject.modules["clip"] = [torch.nn.Linear(2, 2)]
    with pytest.raises(SystemExit):
        subject.generate_until(requests())
    assert "never ran" in capsys.readouterr().err


@pytest.mark.parametrize("drop", ["none", "sam", "siglip", "all"])
def test_deepseek_vl_is_masked_as_in_its_native_family(tmp_path, drop):
    """SAM's features leave through high_res_vision_proj, SigLIP's are the tower's output: zeros before the aligner."""
    from transformers import AutoTokenizer, DeepseekVLHybridProcessor

    from redundancy_eval.model_wrappers.families import templates
    from redundancy_eval.model_wrappers.families.deepseek_vl import model as deepseek_vl
    from tests.helpers import tiny_deepseek_vl

    folder = tiny_deepseek_vl.write(tmp_path / "deepseek", tie_word_embeddings=False)
    words = AutoTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": "<image_placeholder>"})
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {words.eos_token_id}}}')
    before, after = templates.TEMPLATES["deepseek"].render(["|"]).split("|")
    asked = (
        "{% for c in messages[0]['content'] %}{% if c['type'] == 'image' %}<image_placeholder>{% else %}{{ c['text'] }}"
    )
    template = f"{{{{ {before!r} }}}}{asked}{{% endif %}}{{% endfor %}}{{{{ {after!r} }}}}"
    DeepseekVLHybridProcessor(
        deepseek_vl.native_processor(64, 48), words, chat_template=template, num_image_tokens=9
    ).save_pretrained(folder)
    encoders = "sam:model.high_res_vision_proj+siglip:model.vision_model"
    hooked = loading.transformers_model(str(folder), encoders, drop, device="cpu")
    own = loading.load("deepseek_vl_masked", str(folder), drop, device="cpu", processor="native")
    seen = []
    handle = hooked.model.model.aligner.register_forward_hook(lambda _, args, output: seen.append(output))
    prompt = Prompt("What is it?", (picture(1),))
    answer = hooked.generate([prompt], 6)
    handle.remove()
    (visual,) = own.visuals([picture(1)])
    torch.testing.assert_close(seen[0][0], visual.embeddings, rtol=1e-5, atol=1e-5)
    assert answer == own.generate([prompt], 6)


def test_logits_that_are_not_numbers_are_refused(llava):
    subject = loading.transformers_model(llava, "clip:model.vision_tower", "clip", device="cpu")
    subject.model.lm_head.weight.data[3] = float("nan")
    asked = [Prompt("What?", (picture(1),), "task document 4")]
    with pytest.raises(SetupError, match="task document 4, drop=all: the logits are not numbers"):
        subject.generate(asked, 2)
    with pytest.raises(SetupError, match="task document 4, drop=all: the logits are not numbers"):
        subject.loglikelihood(asked, ["a"])
