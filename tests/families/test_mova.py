"""MoVA: its recorded tensors, names, pixels, choice of experts and masks."""

import gzip
import json
import re
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image

from redundancy_eval.cli import main
from redundancy_eval.errors import DataError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.mova import adapter, card, pixels, routing
from redundancy_eval.model_wrappers.families.mova import model as mova
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import RECORDINGS, golden
from tests.helpers import tiny_mova
from tests.helpers.bent import bent_pair as bent
from tests.helpers.bent import embeddings, load_pair, refused_pair
from tests.helpers.pictures import picture

pytestmark = pytest.mark.models
load, refused = (partial(function, "mova_masked") for function in (load_pair, refused_pair))
COLOURS = [Image.new("RGB", (60, 50), colour) for colour in ("red", "blue", "white")]
QUESTIONS = ["What is it?", "How many dogs are there?\nAnswer with a number.", "Is the car red?"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tiny_mova.write(tmp_path_factory.mktemp("tiny") / "mova")


@pytest.fixture(scope="module")
def full(written):
    return load(written)


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    """With the small recording; the full one takes a minute (redundancy-eval parity)."""
    folder = RECORDINGS / "mova" / "llama3_tiny"
    assert main(["parity", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 40 and max(errors) < 1e-5
    found = {match[1] for line in lines if (match := re.search(r"  [a-g] (\S+): all  ", line))}
    assert {"nomask", "all_masked", "drop:deplot"} <= found


def test_full_size_names_and_shapes():
    with gzip.open(golden("mova", "manifests") / "manifest_MoVA-8B.json.gz", "rt") as handle:
        manifest = json.load(handle)
    config = {"num_routing_tokens": 144, "mm_vision_select_layer": -2, **manifest["config"]}
    with torch.device("meta"):
        model = mova.Mova({"model_type": "mova_llama", "mm_vision_tower": [""] * 8, **config})
    listed = {entry["name"]: tuple(entry["shape"]) for entry in manifest["entries"]}
    assert len(listed) == manifest["total_keys"]
    ours, found, unused = {own: tuple(v.shape) for own, v in model.state_dict().items()}, {}, []
    for released, shape in listed.items():
        target = model.rename(released)
        if target is None:
            unused.append(released)
            continue
        for own, part in ({target: lambda value: value} if isinstance(target, str) else target).items():
            assert own not in found, released
            found[own] = tuple(part(torch.empty(shape, device="meta")).shape)
    assert found == ours
    # The layers behind the hidden state that is used, what follows them, masked patches, heads, aliases of tables.
    reasons = (
        r"vision_tower_0\.vision_model\.(encoder\.layers\.23|post_layernorm)\.",
        r"vision_tower_1\.(encoder\.layer\.39\.|layernorm\.|embeddings\.mask_token$)",
        r"vision_tower_3\.blocks\.\d+\.attn\.rope\.freqs_", r"vision_tower_6\.head\.proj\.weight$",
        r"mm_projector\.blocks\.\d\.(cross_attn\.\d|self_attn)\.rope\.freqs_",
    )  # fmt: skip
    assert all(any(re.search(reason, name) for reason in reasons) for name in unused)
    assert len(unused) == 16 + 2 + 18 + 2 + 1 + 48 + 1 + 46
    assert {name for name in ours if model.optional(name)} == {name for name in ours if "rope" in name}
    assert model.shapes("encoder") == {
        name: (2304, n) for name, n in zip(card.ENCODERS, [1024, 1536, 512, 256, 1536, 768, 768, 256], strict=True)
    }


# --- pixels --------------------------------------------------------------------------------------------------------


def test_patches_of_pix2struct_are_one_row_less_for_some_sizes():
    sides = {side: pixels.grid(side, 2025) for side in range(16, 2000)}
    assert set(sides.values()) == {44, 45}
    assert [side for side in (35, 49, 111, 203, 261, 280) if sides[side] != 44] == []
    assert 0.1 < sum(count == 44 for count in sides.values()) / len(sides) < 0.2
    found = pixels.patches(picture(1, (35, 20)), 2025)
    assert found.shape == (2025, 770) and not found[44 * 44 :].any()
    assert found[44 * 44 - 1, :2].tolist() == [44, 44] and found[:44, 1].tolist() == list(range(1, 45))


def test_each_square_is_padded_in_its_own_colour():
    wide = picture(4, (112, 56))
    assert pixels.square(wide, "base", 112)[0, 0].tolist() == [122, 116, 104]
    assert pixels.square(wide, "dinov2", 112)[0, 0].tolist() == [123, 116, 103]


# --- choosing experts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "letters"),
    [("A, C", "AC"), ("none", "none"), ("B,A,C,G", "ABC"), ("D.", "D"), ("GIRAFFE", "AEFG"), ("a, b", "none")],
)
def test_letters_in_an_answer(answer, letters):
    assert routing.letters(routing.chosen(answer)) == letters


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("<image>\nWhat?", "What?"),
        ("<image> What?", "What?"),
        ("<image>\n What?\n", " What?\n"),
        ("What?\n<image>", "What?"),
        ("Look: <image> What?", "Look: What?"),
        ("What?", "What?"),
    ],
)
def test_a_question_is_the_text_without_its_image(text, question):
    assert templates.without_images(text) == question


def routes(subject, images, questions):
    return [visual.routed for visual in subject.visuals(images, None, questions)]


def test_routing_under_masks(written, full):
    images, questions = COLOURS * 2, [*QUESTIONS, *QUESTIONS[::-1]]
    whole = routes(full, images, questions)
    assert len(set(whole)) > 1 and any(whole), "the tiny model chooses by image and question"
    some = next(name for name in card.EXPERTS if any(name in own for own in whole))
    without = routes(load(written, some), images, questions)
    assert without == [tuple(name for name in own if name != some) for own in whole], "others stay as they are"
    assert routes(load(written, some, routing="fixed"), images, questions) == whole
    assert routes(load(written, "clip", routing="fixed"), images, questions) == whole
    blind = routes(load(written, "clip"), images, questions)
    assert blind != whole and blind[:3] == blind[:2:-1], "without CLIP the question alone chooses"
    assert set(routes(load(written, "+".join(card.EXPERTS)), images, questions)) == {()}


def test_what_is_never_routed_changes_nothing(written, full):
    images = COLOURS
    chosen = routes(full, images, QUESTIONS)
    for name in card.EXPERTS:
        # Of more than three, the gates leave some out.
        same = [name not in own for own in chosen if name not in own or len(own) <= 3]
        dropped, whole = (embeddings(one, images, QUESTIONS) for one in (load(written, name), full))
        found = [torch.equal(a, b) for a, b in zip(dropped, whole, strict=True)]
        assert [f for f, own in zip(found, chosen, strict=True) if name not in own or len(own) <= 3] == same


def test_a_choice_is_made_once_for_an_image_and_a_question(written):
    subject, asked = load(written), []
    decode = subject.decode
    subject.decode = lambda *args, **more: asked.append(len(args[0])) or decode(*args, **more)
    images = [picture(1), picture(2), picture(1)]
    subject.visuals(images, None, ["What?", "What?", "What?"])
    subject.visuals(images[:1], None, ["What?"])
    assert asked == [2]
    subject.visuals(images[:1], None, ["Where?"])
    subject.under(("sam",)).visuals(images[:1], None, ["Where?"])
    assert asked == [2, 1], "and for all masks that leave CLIP"


# --- masks ---------------------------------------------------------------------------------------------------------


def masked(full, mask, images, questions, fixed):
    """What the fusion makes of all encoders' outputs with zeros in them."""
    outputs = full.encode(images, full.encoder_names)
    zeroed = {name: torch.zeros_like(value) if name in mask else value for name, value in outputs.items()}
    subject = full.under(mask)
    subject.settings = {"routing": "fixed"} if fixed else {}
    chosen = [visual.routed for visual in subject.visuals(images, outputs, questions)]
    layouts = [full.model.layout(question, own) for question, own in zip(questions, chosen, strict=True)]
    with torch.inference_mode():
        return torch.stack([visual.embeddings for visual in full.model.fuse(zeroed, layouts)])


@pytest.mark.parametrize("kind", ["free", "fixed"])
@pytest.mark.parametrize("mask", [(), ("clip",), ("dinov2",), ("vary", "codetr", "sam"), card.EXPERTS, card.ENCODERS])
def test_skipping_is_bit_identical_to_running_and_zeroing(written, full, mask, kind):
    subject = load(written, "+".join(mask) or "none", routing=kind)
    for image, question in zip((picture(1), picture(2, (40, 90)), COLOURS[0]), QUESTIONS, strict=True):
        expected = masked(full, mask, [image], [question], kind == "fixed")
        assert torch.equal(embeddings(subject, [image], [question]), expected)
    built = set(subject.model.encoders)
    assert built == set(card.ENCODERS) - set(mask) | ({"clip"} if kind == "fixed" else set())


def test_only_what_is_chosen_runs(written, monkeypatch):
    subject, run = load(written), []
    encode = type(subject.model).encode
    monkeypatch.setattr(
        type(subject.model), "encode", lambda self, pixels, names: run.extend(names) or encode(self, pixels, names)
    )
    (visual,) = subject.visuals([picture(1)], None, ["What?"])
    assert sorted(run) == sorted(["clip", *visual.routed])


def test_every_mask_answers(written, full):
    prompts = [Prompt("What is it?", (picture(1),)), Prompt("Say something.")]
    replies = {mask: full.under(mask).generate(prompts, 4) for mask in [(name,) for name in card.ENCODERS]}
    assert len({own[1] for own in replies.values()}) == 1, "nothing is seen where there is no image"
    blind = full.under(card.ENCODERS)
    assert blind.needed() == () and blind.generate(prompts, 4) == blind.generate([prompts[0], prompts[1]], 4)
    assert full.under(card.ENCODERS).generate([Prompt("What is it?", (picture(9),))], 4) == blind.generate(
        prompts[:1], 4
    )


@pytest.mark.parametrize("drop", [None, "clip", "dinov2+vary"])
def test_batches_answer_as_single_prompts_do(written, drop):
    subject = load(written, drop)
    batch = [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1),)),
        Prompt("Say something."),
        Prompt("Where is the red circle?\nA. left\nB. right", (picture(2, (30, 60)),)),
    ]
    together = subject.generate(batch, 8)
    assert together == [subject.generate([prompt], 8)[0] for prompt in batch]
    (total, greedy), _ = subject.loglikelihood(batch[:2], [" red", " 3"])
    assert subject.loglikelihood(batch[:1], [" red"])[0] == (pytest.approx(total, abs=1e-4), greedy)


def test_stand_ins_need_a_fixed_choice(written, tmp_path):
    refused(written, "ablation=mean needs routing=fixed: under routing=free a dropped expert is not", ablation="mean")
    out = tmp_path / "means.safetensors"
    folder, words = written
    given = f"pretrained={folder},encoder_weights={words},routing=fixed,device=cpu"
    Image.new("RGB", (60, 50), "red").save(tmp_path / "a.png")
    picture(3).save(tmp_path / "b.png")
    command = ["calibrate", "--model", "mova_masked", "--model_args", given, "--images", str(tmp_path), "-o", str(out)]
    assert main(command) == 0
    subject = load(written, "dinov2", routing="fixed", ablation="mean", calibration=str(out))
    images = COLOURS
    zero = load(written, "dinov2", routing="fixed")
    chosen = ["dinov2" in own for own in routes(zero, images, QUESTIONS)]
    pairs = zip(*(embeddings(one, images, QUESTIONS) for one in (subject, zero)), strict=True)
    assert [not torch.equal(a, b) for a, b in pairs] == chosen and any(chosen)


def test_a_guess_looks_at_encoders_that_are_not_chosen_too(written, tmp_path):
    out = tmp_path / "guess.safetensors"
    folder, words = written
    for place, image in enumerate([*COLOURS, *map(picture, range(20))]):
        image.save(tmp_path / f"{place}.png")
    given = f"pretrained={folder},encoder_weights={words},routing=fixed,device=cpu"
    command = ["calibrate", "--model", "mova_masked", "--model_args", given, "--images", str(tmp_path), "-o", str(out)]
    assert main(command) == 0
    subject = load(written, "dinov2", routing="fixed", ablation="predicted", calibration=str(out))
    for image, question in zip(COLOURS, QUESTIONS, strict=True):
        outputs = subject.encode([image], subject.needed())
        (alone,), (shared,) = (subject.visuals([image], own, [question]) for own in (None, outputs))
        assert torch.equal(alone.embeddings, shared.embeddings)


def test_half_precision_runs_in_its_own_type(written):
    subject = load(written, "clip", dtype="bf16")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert embeddings(subject, [picture(1)], ["What?"]).dtype == torch.bfloat16


# --- loading -------------------------------------------------------------------------------------------------------


def test_rotary_tables_are_the_file_s_or_computed(written, tmp_path, full):
    def without(tensors):
        for name in [name for name in tensors if "freqs" in name]:
            del tensors[name]

    def rounded(tensors):
        for name in [name for name in tensors if re.search("freqs_(cos|sin)", name)]:
            tensors[name] = tensors[name].bfloat16().float()

    told = full.model.state_dict()
    computed = load(bent(written, tmp_path / "a", without)).model.state_dict()
    assert [name for name, value in told.items() if not torch.equal(value, computed[name])] == []
    read = load(bent(written, tmp_path / "b", rounded)).model.state_dict()
    tables = [name for name in told if "rope" in name]
    assert [name for name, value in told.items() if not torch.equal(value, read[name])] == tables and len(tables) == 6
    cos, sin = adapter.rotary_table(3)
    assert cos.shape == (9, 64) and torch.allclose(cos**2 + sin**2, torch.ones(9, 64))
    assert torch.equal(sin[1, :32], torch.zeros(32)) and torch.equal(sin[3, 32:], torch.zeros(32)), "row, then column"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "llava"}, "not a MoVA checkpoint: model_type is 'llava'"),
        ({"mm_vision_tower": ["a"] * 7}, "not a MoVA checkpoint.*expected a list of 8"),
        ({"mm_projector_type": "linear"}, "mm_projector_type must be mov_adapter; not 'linear'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end must be False"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio must be pad"),
        ({"image_aspect_ratio": ...}, "lacks image_aspect_ratio"),
        ({"topk_experts": 9}, "topk_experts is 9; there are 7 experts"),
        ({"num_routing_tokens": 3}, "num_routing_tokens must be a square number; not 3"),
        ({"expert_channels": [1] * 7}, "the encoders .clip, dinov2, .* have "),
        ({"mm_vision_select_layer": 5}, "there is no hidden state 5"),
        ({"colour": "red"}, "colour is 'red', a setting that is not known here"),
    ],
)
def test_configs_that_are_not_ours(written, tmp_path, settings, match):
    refused(bent(written, tmp_path, **settings), match)


def test_other_mistakes(written, tmp_path):
    refused(written, "site must be encoder for mova_masked|site must be one of encoder", site="projected")
    refused(written, "unknown encoder 'convnext'; this model has: clip, dinov2", drop="convnext")
    refused(written, "routing must be one of free, fixed; not 'ABC'", routing="ABC")
    refused(written, "has no folder bert-large-uncased", encoder_weights=str(tmp_path))
    words = tmp_path / "bert-large-uncased"
    words.mkdir()
    (words / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    refused(written, "a vocabulary of 6; the checkpoint has one of ", encoder_weights=str(tmp_path))
    prompt = Prompt("What changed?", (picture(1), picture(2)), "muirbench document 3")
    with pytest.raises(DataError, match="muirbench document 3: 2 images; this architecture takes 1"):
        load(written).generate([prompt], 2)
