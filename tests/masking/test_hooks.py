"""Masking by module path: hf_masked on transformers' own models, masked on a model of lmms-eval, and their errors."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")


from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.masking import ablations, calibration, hf, hooks, loading
from redundancy_eval.model_wrappers.masking.places import Place, place, places_at
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import tiny_hf
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"


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


HALVES = "clip:model.multi_modal_projector@input[:16]+sam:model.multi_modal_projector@input[16:]"


def test_halves_of_a_concatenation_are_masked_one_by_one(ocr):
    """What enters the projector is CLIP's channels, then SAM's; SAM's own half goes, and CLIP sees through it still."""
    full = projector_input(loading.transformers_model(ocr, HALVES, device="cpu"), picture(1))
    for drop, own in (("clip", slice(0, 16)), ("sam", slice(16, None))):
        subject = loading.transformers_model(ocr, HALVES, drop, device="cpu")
        # The test's own hook comes first: it sees what the mask's hook is given, and the projector what that gives.
        seen = []
        projector = subject.model.model.multi_modal_projector
        handle = projector.register_forward_hook(lambda _, args, out, seen=seen: seen.append((args[0], out)))
        subject.generate([Prompt("What?", (picture(1),))], 1)
        handle.remove()
        wanted = full.clone()
        wanted[..., own] = 0
        assert torch.equal(seen[0][0], wanted) and torch.equal(seen[0][1], projector(wanted))
        assert subject.feeds() == [], "neither half sees through the other"
    both = loading.transformers_model(ocr, HALVES, "all", device="cpu").generate(PROMPTS[:1], 6)
    assert both == loading.transformers_model(ocr, OCR, "all", device="cpu").generate(PROMPTS[:1], 6)


def test_an_output_is_cut_too_and_named_tensors_go_in_by_name():
    layer = torch.nn.Linear(4, 6)
    half = {"a": Place(layer, "output", 2, 5)}
    with hooks.Hooks(half, lambda name, number, own: torch.zeros_like(own)) as hooked:
        out = layer(input=torch.ones(1, 4))
    plain = layer(torch.ones(1, 4))
    assert not out[:, 2:5].any() and torch.equal(out[:, [0, 1, 5]], plain[:, [0, 1, 5]])
    hooked.check({})
    given = torch.ones(1, 4)
    with hooks.Hooks({"a": Place(layer, "input", 3)}, lambda name, number, own: torch.zeros_like(own)):
        out = layer(input=given)
    assert torch.allclose(out, layer(torch.tensor([[1.0, 1, 1, 0]]))) and given.all(), "the caller's tensor stays"
    wide = hooks.Hooks({"a": Place(layer, "input", 3, 9)}, lambda name, number, own: torch.zeros_like(own))
    with pytest.raises(SetupError, match=r"channels \[3:9\] of 4"), wide:
        layer(given)


@pytest.mark.parametrize(
    ("text", "side", "start", "stop"),
    [
        ("0", "output", 0, None),
        ("0@input", "input", 0, None),
        ("0@input[2:]", "input", 2, None),
        ("0@input[..., 2:4]", "input", 2, 4),
        ("0[:3]", "output", 0, 3),
    ],
)
def test_places(text, side, start, stop):
    root = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert place(root, text) == Place(root[0], side, start, stop)


@pytest.mark.parametrize(
    "text", ["0@inputs", "0@input[2]", "0@input[4:2]", "0@input[2:2]", "0[-1:]", "@input", "0@input[2:"]
)
def test_places_that_are_none(text):
    with pytest.raises(SetupError):
        place(torch.nn.Sequential(torch.nn.Linear(4, 4)), text)


def test_places_of_two_encoders_hold_different_numbers():
    root = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert len(places_at(root, {"a": "0@input[:2]", "b": "0@input[2:]", "c": "0"})) == 3
    for other in ("0@input", "0@input[1:3]", "0@input[:1]"):
        with pytest.raises(SetupError, match="a and b name the same module|b and a name the same module"):
            places_at(root, {"a": "0@input[:2]", "b": other})


@pytest.mark.parametrize(
    ("model_type", "encoders"),
    [
        ("deepseek_vl_hybrid", "siglip:model.vision_model+sam:model.high_res_vision_proj"),
        (
            "unlimited_ocr",
            "clip:model.multi_modal_projector@input[:1024]+sam:model.multi_modal_projector@input[1024:]",
        ),
    ],
)
def test_transformers_models_with_two_fused_encoders_have_these_places(model_type, encoders):
    """The table in docs/families.md, at full size on the meta device."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.for_model(model_type)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    found = places_at(model, registry.parse_encoders(encoders))
    documented = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    assert len(found) == 2 and encoders in documented
    if model_type == "unlimited_ocr":
        assert model.model.multi_modal_projector.in_features == 2048


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
    tower = subject.places["clip"].module
    subject.generate(PROMPTS[:1], 1)
    assert not tower._forward_hooks
    monkeypatch.setattr(subject.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        subject.generate(PROMPTS[:1], 1)
    assert not tower._forward_hooks


def test_a_hook_that_never_fires_or_changes_nothing_is_an_error(llava):
    idle = loading.transformers_model(llava, "clip:model.language_model.layers.0.mlp+x:lm_head", "x", device="cpu")
    idle.places["x"] = Place(torch.nn.Linear(2, 2))
    with pytest.raises(SetupError, match="the module named for x never ran, so nothing was masked"):
        idle.generate(PROMPTS[:1], 1)
    same = loading.transformers_model(llava, "clip:model.vision_tower", "clip", device="cpu")
    with torch.no_grad():
        for parameter in same.places["clip"].module.parameters():
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
    made = calibration.statistics(sample, [units[0][0] for units, _ in sample], None)
    shuffle = ablations.Ablation("shuffle", made)
    subject = hf.HfMaskedModel(full.model, full.processor, full.places, ("sam", "clip"), shuffle)
    other = hf.HfMaskedModel(full.model, full.processor, full.places).generate([Prompt("What?", (picture(2),))], 6)
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
    subject.places["clip"] = Place(torch.nn.Linear(2, 2))
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
