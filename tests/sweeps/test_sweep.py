"""The engine of a sweep: it answers as separate models do, encodes each image once, and asks nothing twice."""

import inspect
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image

from redundancy_eval import masks, model_args
from redundancy_eval.cli import main
from redundancy_eval.errors import DataError, SetupError
from redundancy_eval.model_wrappers.checkpoints import identity
from redundancy_eval.model_wrappers.costs import operations
from redundancy_eval.model_wrappers.families import registry, templates
from redundancy_eval.model_wrappers.hosts import run_record
from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
from redundancy_eval.model_wrappers.masking import ablations, checked_arguments, hf, loading
from redundancy_eval.model_wrappers.masking.native import MaskedModel
from redundancy_eval.model_wrappers.masking.prompt import Prefix, Prompt
from redundancy_eval.model_wrappers.sweeps import engines, sweep
from redundancy_eval.model_wrappers.sweeps import run as sweep_run
from redundancy_eval.model_wrappers.sweeps.masks import ALONE, encoders_of
from redundancy_eval.model_wrappers.sweeps.question import Question
from redundancy_eval.model_wrappers.sweeps.settings import Settings
from redundancy_eval.model_wrappers.sweeps.sweep import Sweep
from redundancy_eval.store import Key, Store, Stored
from tests.helpers import (
    tiny,
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_hf,
    tiny_imof,
    tiny_mgm,
    tiny_mova,
    tiny_prismatic,
)

pytestmark = [pytest.mark.models, pytest.mark.slow]
TOWERS = "clip-448;convnext-1024;sam-1024;pix2struct-1024"
OCR = "sam:model.vision_tower.sam_encoder+clip:model.vision_tower.vision_encoder"
NEAR = 1e-4  # logits of two tokens that differ by less may change places between batches
ENCODERS = {
    "eagle": ("clip", "convnext", "sam", "pix2struct"),
    "cambrian": ("siglip", "clip", "dinov2", "convnext"),
    "cambrian projected": ("siglip", "clip", "dinov2", "convnext"),
    "imof": ("clip", "dinov2"),
    "imof projected": ("clip", "dinov2"),
    "deepseek_vl": ("sam", "siglip"),
    "eagle2": ("siglip", "convnext"),
    "deepseek_ocr": ("clip", "sam"),
    "deepseek_ocr cut": ("clip", "sam"),
    "deepseek_ocr windowed": ("clip", "sam"),
    "prismatic": ("dinov2", "siglip"),
    "mgm": ("clip", "convnext"),
    "mgm projected": ("clip", "convnext"),
    "mova": ("clip", "dinov2", "vary", "codetr", "pix2struct", "deplot", "biomedclip", "sam"),
    "hf": ("sam", "clip"),
}
ONE_IMAGE = (
    "cambrian", "cambrian projected", "imof", "imof projected", "deepseek_ocr", "deepseek_ocr cut",
    "deepseek_ocr windowed", "prismatic", "mgm", "mgm projected", "mova",
)  # fmt: skip


def picture(seed, size=(60, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


# Those of one size have one layout; the wide one is cut into other tiles and padded otherwise.
A, B, WIDE = (1, (60, 50)), (2, (60, 50)), (3, (150, 50))
LONG = "Look at the picture " + "very, " * 90 + "and tell."
# Document -> text, images, token limit.
DOCUMENTS = {
    "plain": ("What is this?", [A], 4),
    "same image": ("Is there a red square in the picture? Answer yes or no.", [A], 4),
    "same text": ("What is this?", [B], 4),
    "wide": ("What is this?", [WIDE], 4),
    "no image": ("Say something.", [], 4),
    "other limit": ("What is this?", [A], 7),
    "two": ("Which one is larger?", [B, A], 4),
    "misplaced": ("<image> Which one, <image> or <image>?", [WIDE], 4),
    "long": (LONG, [B], 4),
}
SHORT = tuple(name for name in DOCUMENTS if name not in ("two", "misplaced", "long"))


def question(name, task="task", draw=False, change=0):
    text, images, limit = DOCUMENTS[name]
    settings = {"do_sample": True, "temperature": 0.5} if draw else {}
    shown = [(seed + change, size) for seed, size in images]
    return Question(task, "test", name, text, limit, settings, lambda: [picture(*one) for one in shown])


def questions(kind, names=tuple(DOCUMENTS), **changes):
    # Transformers' processors know no placeholders in texts and no limit.
    left_out = ("misplaced", "long") if kind == "hf" else ()
    return [question(name, **changes) for name in names if name not in left_out]


def labels(kind):
    names = ENCODERS[kind]  # of eight encoders none, each and all
    every = [mask for mask in masks.every(names) if len(names) < 8 or len(mask) in (0, 1, len(names))]
    return [masks.label(mask, names) for mask in every]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Model id and arguments (without mask) of a tiny checkpoint by kind; made when asked for."""
    root, known = tmp_path_factory.mktemp("sweep"), {}

    def write(kind):
        family = kind.partition(" ")[0]
        folder = root / kind
        if family == "eagle":
            return {"pretrained": tiny.write(folder, TOWERS)}
        if family == "cambrian":
            return dict(zip(("pretrained", "encoder_weights"), tiny_cambrian.write(folder), strict=True))
        if family == "imof":
            return dict(zip(("pretrained", "encoder_weights"), tiny_imof.write(folder), strict=True))
        if family == "mgm":
            return dict(zip(("pretrained", "encoder_weights"), tiny_mgm.write(folder), strict=True))
        if family == "deepseek_vl":
            return {"pretrained": tiny_deepseek_vl.write(folder)}
        if family == "prismatic":
            return dict(zip(("pretrained", "encoder_weights"), tiny_prismatic.write(folder), strict=True))
        if family == "eagle2":
            return {"pretrained": tiny_eagle2.write(folder)}
        if family == "deepseek_ocr":
            chain = {"chain": "cut"} if kind.endswith("cut") else {}
            # Unlimited-OCR's window; a sweep's batches put other answers beside each other than single runs do.
            unlimited = {"model_type": "unlimited-ocr", "architectures": ["UnlimitedOCRForCausalLM"]}
            windowed = {**unlimited, "sliding_window_size": 3} if kind.endswith("windowed") else {}
            return {"pretrained": tiny_deepseek_ocr.write(folder, **windowed), "base_size": "128", **chain}
        if family == "mova":
            return dict(zip(("pretrained", "encoder_weights"), tiny_mova.write(folder), strict=True))
        return {"pretrained": tiny_hf.unlimited_ocr(folder), "encoders": OCR}

    def get(kind):
        if kind not in known:
            arguments = {name: str(value) for name, value in write(kind).items()}
            if kind != "hf":
                arguments |= {"long_prompt": "cut", "many_images": "first"}
            if kind.endswith("projected"):
                arguments["site"] = "projected"
            known[kind] = f"{kind.partition(' ')[0]}_masked", arguments
        return known[kind]

    return get


def load(model, arguments, drop="none"):
    return loading.load(model, **{"device": "cpu", **arguments, "drop": drop})


def alone(model, arguments, label, asked):
    """Document -> the answer of a model under one mask to that question alone, as it would be stored."""
    subject, found = load(model, arguments, label), {}
    for one in asked:
        lists = {"first": subject.first, "moved": subject.moved, "known": subject.known, "cut": subject.cut}
        before = {note: len(names) for note, names in lists.items()}
        (answer,) = subject.generate([one.prompt()], one.limit)
        notes = tuple(note for note, names in lists.items() if len(names) > before[note])
        notes += tuple(subject.feeds()) + answer.notes
        found[one.document] = (answer.text, answer.prompt_tokens, answer.new_tokens, answer.capped, notes, answer.ids)
    return found


def told(stored):
    return stored.text, stored.prompt_tokens, stored.new_tokens, stored.capped, stored.notes, stored.ids


@pytest.fixture(scope="module")
def expected(made):
    """Answers of separate models, by kind: label -> document -> answer."""
    known = {}

    def get(kind):
        if kind not in known:
            known[kind] = {label: alone(*made(kind), label, questions(kind)) for label in labels(kind)}
        return known[kind]

    return get


def gap(model, arguments, label, asked, other):
    """Difference of the two largest logits at the first token at which the answer and another text part."""
    subject = load(model, arguments, label)
    language, tokenizer = (
        (subject.model, subject.processor.tokenizer)
        if isinstance(subject, hf.HfMaskedModel)
        else (subject.model.language_model, subject.tokenizer)
    )
    kept, generate = [], language.generate

    def watched(*args, generation_config, **rest):
        generation_config.output_logits = generation_config.return_dict_in_generate = True
        kept.append(generate(*args, generation_config=generation_config, **rest))
        return kept[-1].sequences

    language.generate = watched
    subject.generate([asked.prompt()], asked.limit)
    tokens = kept[0].sequences[0, -len(kept[0].logits) :]
    texts = [tokenizer.decode(tokens[: end + 1], skip_special_tokens=True).strip() for end in range(len(tokens))]
    place = next((end for end, text in enumerate(texts) if not other.startswith(text)), len(tokens) - 1)
    largest = kept[0].logits[place][0].float().topk(2).values
    return float(largest[0] - largest[1])


def differences(made, wanted, kept, asked, kind, names=None):
    """Answers in a store that are not those of separate models, as (label, document, gap of the logits)."""
    found = []
    for label in names or labels(kind):
        for one in asked:
            stored = kept.get(one.key(label))
            assert stored is not None, f"no answer to {one.document} under drop={label}"
            if told(stored) != wanted[label][one.document]:
                found.append((label, one.document, gap(*made(kind), label, one, stored.text)))
    return found


def agree(*arguments, **settings):
    """Fail unless answers are those of separate models, but for near-ties, which are shown."""
    found = differences(*arguments, **settings)
    print(f"near-ties: {found}")
    assert all(size < NEAR for _, _, size in found), found
    assert not found, "only near-ties differ, but these weights are not known to have any"


def store(folder, name="store"):
    return Store.open(folder / name, {"made for": "a test"})


def fill(made, kind, kept, asked, batch_size="auto", names=None, **settings):
    """Sweep over questions; returns the sweep."""
    done = Sweep(lambda: load(*made(kind)), names or labels(kind), kept, batch_size, **settings)
    done.fill(asked, show=False)
    return done


@contextmanager
def watching():
    """What goes through the model: (mask, document) of each sequence, hashes of encoded images, decoded batches."""
    seen = SimpleNamespace(asked=[], encoded=[], decoded=[], prefixes=[])
    encode, decode = MaskedModel.encode, MaskedModel.decode

    def noting(original):
        def answering(self, batch, *rest, **settings):
            replies = original(self, batch, *rest, **settings)
            seen.asked += [(label, one.prompt.name.removeprefix("task document ")) for one, label in batch]
            return replies

        return answering

    def encoding(self, images, names, pixels=()):
        seen.encoded += [(ablations.image_hash(image), name) for image in images for name in names]
        return encode(self, images, names, pixels)

    def decoding(self, sequences, visuals, limit, prefixes=(), **settings):
        seen.decoded.append(len(sequences))
        seen.prefixes.append(prefixes)
        return decode(self, sequences, visuals, limit, prefixes, **settings)

    with pytest.MonkeyPatch.context() as patch:
        for engine in (engines.Native, engines.Looped):
            patch.setattr(engine, "answer", noting(engine.answer))
        patch.setattr(MaskedModel, "encode", encoding)
        patch.setattr(MaskedModel, "decode", decoding)
        yield seen


# --- the answers of separate runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_mask_answers_as_a_model_of_its_own(made, expected, kind, tmp_path):
    asked, wanted = questions(kind), expected(kind)
    with store(tmp_path) as kept:
        fill(made, kind, kept, asked)
        agree(made, wanted, kept, asked, kind)
        assert len(kept) == len(asked) * len(labels(kind)) and not kept.conflicts
    notes = {one.document: kept.get(one.key("none")).notes for one in asked}
    if kind == "mova":
        routed = {name: own[-1] for name, own in notes.items() if own}
        assert all(note.startswith("routed ") for note in routed.values()) and set(routed) == {*notes} - {"no image"}
        assert len(set(routed.values())) > 1, "experts are chosen for each question"
        notes = {name: own[:-1] for name, own in notes.items()}
    if kind != "hf":
        limited = kind not in ("eagle2", "mova") and not kind.startswith("imof")  # which have no limit of their own
        assert notes["long"] == ("cut",) * limited and notes["misplaced"] == ("moved",)
        assert notes["two"] == ("first",) * (kind in ONE_IMAGE)
    assert len(kept.get(question("two").key("none")).images) == 2, "images that are left out count too"
    assert not notes["plain"] and not kept.get(question("no image").key("none")).images
    # Without this, little would be compared.
    texts = {label: tuple(wanted[label][one.document] for one in asked) for label in wanted}
    if kind != "eagle2":  # whose tiny tokenizer shows every answer as the same unprintable bytes
        assert len(set(texts.values())) > 0.7 * len(texts)
        assert len({wanted["none"][name][0] for name in ("plain", "same text", "wide", "no image")}) > 1


@pytest.mark.parametrize("batch_size", [1, 3, 64, "auto"])
@pytest.mark.parametrize("kind", ["eagle", "cambrian projected", "eagle2", "deepseek_ocr cut"])
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


def test_answers_are_those_of_the_masks_that_were_asked_for(made, expected, tmp_path):
    kind, asked, names = "eagle", questions("eagle"), ["clip", "convnext+sam", "all"]
    with store(tmp_path) as kept:
        done = fill(made, kind, kept, asked, names=names)
        agree(made, expected(kind), kept, asked, kind, names=names)
        assert {key.mask for key, _ in kept.items()} == set(names)
        assert told(done.answer(asked[0], "clip")) == expected(kind)["clip"]["plain"]
        with pytest.raises(DataError, match="task document plain: no answer under drop=none in the store"):
            done.answer(asked[0], "none")


ABLATED = [
    (k, f)
    for f in ("eagle", "cambrian projected", "eagle2", "deepseek_ocr", "hf")
    for k in ("mean", "noise", "shuffle")
]
PREDICTED = [
    ("predicted", family)
    for family in ("eagle", "cambrian", "imof", "deepseek_vl", "eagle2", "deepseek_ocr", "prismatic")
]


@pytest.mark.parametrize(("kind", "family"), ABLATED + PREDICTED)
def test_ablations_are_those_of_separate_runs(made, expected, family, kind, images, tmp_path):
    model, arguments = made(family)
    file = tmp_path / "calibration.safetensors"
    given = ",".join(f"{key}={value}" for key, value in {**arguments, "device": "cpu"}.items())
    if kind == "predicted":  # a few images have fewer places than channels
        images = tmp_path / "more"
        images.mkdir()
        for seed in range(1, 13):
            picture(seed, (60 + 90 * (seed % 2), 50)).save(images / f"{seed}.png")
    assert main(["calibrate", "--model", model, "--model_args", given, "--images", str(images), "-o", str(file)]) == 0
    # Not every seed will do for `hf`: SAM feeds CLIP, and where both stand-ins are of one image nothing is masked.
    ablated = {**arguments, "ablation": kind, "calibration": str(file), "ablation_seed": "4"}
    asked = questions(family, ("plain", "same text", "wide", "no image", "two"))
    wanted = {label: alone(model, ablated, label, asked) for label in labels(family)}
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, ablated), family, kept, asked)
        agree(lambda _: (model, ablated), wanted, kept, asked, family)
    blindly = Counter(name for label, name in seen.asked if label == "all")
    constant = kind in ("mean", "predicted")
    blind = {"eagle": 2, "eagle2": 1, "deepseek_vl": 2, "cambrian": 1, "imof": 2, "deepseek_ocr": 2, "prismatic": 2}
    shared = blind.get(family, 0) if constant else 0
    assert sum(blindly.values()) == len(asked) - shared
    if family != "eagle2":
        zeros = expected(family)
        assert any(wanted[label][name] != zeros[label][name] for label in labels(family) for name in ("plain", "wide"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(1, 6):
        picture(seed, (60 + 90 * (seed % 2), 50)).save(folder / f"{seed}.png")
    return folder


# --- encoders run once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
@pytest.mark.parametrize(
    "kind", ["eagle", "cambrian projected", "imof", "deepseek_vl", "eagle2", "deepseek_ocr", "prismatic", "mgm", "mova"]
)
def test_each_encoder_runs_once_for_an_image(made, kind, batch_size, tmp_path):
    with store(tmp_path) as kept, watching() as seen:
        done = fill(made, kind, kept, questions(kind), batch_size)
        # The same pictures in other documents; of another task; in another order.
        done.fill(questions(kind, ("wide", "plain", "same text"), task="other"), show=False)
        assert done.engine.encoded == 3
    assert Counter(name for _, name in seen.encoded) == dict.fromkeys(ENCODERS[kind], 3)
    assert set(Counter(seen.encoded).values()) == {1}


@pytest.mark.parametrize("kind", ["eagle", "cambrian projected", "eagle2"])
def test_a_cache_for_one_image_answers_alike(made, expected, kind, tmp_path):
    asked = questions(kind)
    full = load(*made(kind))
    sizes = [engines._bytes(full.encode([picture(*one)], ENCODERS[kind])) for one in (A, B, WIDE)]
    for memory in (0, max(sizes)):
        with store(tmp_path, str(memory)) as kept, watching() as seen:
            done = fill(made, kind, kept, asked, 3, memory=memory)
            agree(made, expected(kind), kept, asked, kind)
            features = done.engine.features
            assert 0 <= features.used <= memory and len(features._kept) <= 1
            assert features.used == sum(map(engines._bytes, features._kept.values()))
    # An image's masks stand together: once for each document that shows it would be 11 of the three at the most.
    assert 3 < done.engine.encoded <= 11 and len(seen.encoded) == done.engine.encoded * len(ENCODERS[kind])


def test_what_was_not_used_for_longest_goes_first():
    outputs = {name: {"clip": torch.zeros(1, 2, 2)} for name in "abcd"}  # 16 bytes each
    features = engines.Features(40)
    for name in "ab":
        features.put(name, outputs[name])
    assert features.get("a") is outputs["a"] and features.used == 32
    features.put("c", outputs["c"])
    assert features.get("b") is None and features.get("a") and features.get("c") and features.used == 32
    features.put("d", {"clip": torch.zeros(1, 2, 2), "sam": torch.zeros(1, 3, 2, dtype=torch.bfloat16)})
    assert features.get("a") is None and features.get("c") is None and features.get("d") and features.used == 28
    assert engines.Features(3).get("a") is None


# --- beginnings are computed once ----------------------------------------------------------------------------------

TEXTS = ("What is this?", "Is there a red square in the picture?", "How many?", "Which colour is it? " * 2)
NATIVE = tuple(kind for kind in ENCODERS if kind != "hf")
SHARING = tuple(kind for kind in NATIVE if kind != "deepseek_ocr windowed")  # whose prompts are never split


def about(pictures, texts=TEXTS):
    """Each text with each list of pictures."""
    return [
        Question("task", "test", f"{n} {text}", text, 4, {}, lambda shown=shown: [picture(*one) for one in shown])
        for n, shown in enumerate(pictures)
        for text in texts
    ]


def test_questions_that_decide_what_an_image_is_share_the_template_alone(made, tmp_path):
    asked, names = about([[A], [B], [WIDE]]), ["none", "clip"]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, "mova", kept, asked, 12, names=names)
        agree(made, {label: alone(*made("mova"), label, asked) for label in names}, kept, asked, "mova", names=names)
    shared = [prefix for prefixes in seen.prefixes for prefix in prefixes]
    assert len(shared) == 24 and not any(prefix.images for prefix in shared)


@pytest.mark.parametrize("kind", [kind for kind in SHARING if kind != "mova"])
def test_questions_on_one_image_share_what_it_is_to_the_language_model(made, kind, tmp_path):
    shown = [[A], [B], [WIDE]] if kind in ONE_IMAGE else [[A], [B, WIDE], [WIDE]]
    asked, names = about(shown), ["none", ENCODERS[kind][0]]
    wanted = {label: alone(*made(kind), label, asked) for label in names}
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, asked, 12, names=names)
        agree(made, wanted, kept, asked, kind, names=names)
    # Two batches of three images and masks each, four questions to each of them.
    assert [len(prefixes) for prefixes in seen.prefixes] == [12, 12]
    if kind != "deepseek_vl":  # whose template is longer than its tiny images
        assert [len({prefix.key for prefix in prefixes}) for prefixes in seen.prefixes] == [3, 3]
        assert all(prefix.images for prefixes in seen.prefixes for prefix in prefixes)


def first_logits(full, *arguments):
    """Logits of the first two new tokens."""
    language, kept = full.model.language_model, []
    generate = language.generate

    def watched(*args, generation_config, **rest):
        generation_config.output_logits = generation_config.return_dict_in_generate = True
        kept.append(generate(*args, generation_config=generation_config, **rest))
        return kept[-1].sequences

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(language, "generate", watched)
        full.decode(*arguments, min_new_tokens=2)
    return torch.stack(kept[0].logits[:2], 1)


@pytest.mark.parametrize("kind", SHARING)
def test_shared_beginnings_change_no_logit(made, kind):
    """Whatever they are: some of the template, all of it, or all up to the last image and some words more."""
    full = load(*made(kind))
    shared = engines.start(full, ["none"], 0)
    pictures = [[A], [WIDE]] if kind in ONE_IMAGE else [[A], [WIDE], [B, A]]
    batch = [shared.ask(one.prompt()) for one in about(pictures, TEXTS[1:])]
    with torch.inference_mode():
        visuals = [full.visuals(one.prompt.images) for one in batch]
        sequences = [full.embed(one.ids, own) for one, own in zip(batch, visuals, strict=True)]
    lengths = list(map(len, sequences))
    whole = first_logits(full, sequences, visuals, 2)
    assert len(torch.unique(whole[:, 0].round(decimals=3), dim=0)) == len(batch)
    columns = list(zip(*(one.ids for one in batch), strict=False))
    before = next(place for place, found in enumerate(columns) if found != (found[0],) * len(batch) or min(found) < 0)
    many = [
        Prefix((one.hashes, one.prompt.text[:extra]), length - behind + extra, True)
        for extra in (0, 1)
        for one, length in zip(batch, lengths, strict=True)
        if (behind := len(one.ids) - 1 - engines._last(one.ids, templates.IMAGE_ID))
    ]
    half = len(many) // 2
    common = [[Prefix("template", length, False)] * len(batch) for length in (1, before)]
    for prefixes in (many[:half], many[half:], *common):
        assert torch.allclose(first_logits(full, sequences, visuals, 2, prefixes), whole, atol=1e-5), prefixes


def test_the_template_is_shared_where_no_image_is(made, tmp_path):
    asked = [question("plain"), question("same text"), question("wide")]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, "eagle", kept, asked, 16)
    kinds = {(prefix.key, prefix.images) for prefixes in seen.prefixes for prefix in prefixes}
    assert (None, False) in kinds


def test_the_full_model_s_second_answers_share_nothing(made, tmp_path):
    model, arguments = made("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, {**arguments, "dtype": "bfloat16"}), "eagle", kept, about([[A]]), names=["none"])
    assert [len(prefixes) for prefixes in seen.prefixes] == [4, 0] and seen.decoded == [4, 4]


def test_what_cannot_be_shared_is_not(made, tmp_path):
    full = load(*made("eagle"))
    asked = about([[A]])
    for change, settings in ((None, {}), ("beams", {"num_beams": 2}), ("window", {}), ("cut", {})):
        language = full.model.language_model
        language.config.sliding_window = 50 if change == "window" else None
        words = "very " * 400 if change == "cut" else ""
        mine = [replace(one, settings=settings, text=one.text + words) for one in asked]
        with store(tmp_path, str(change)) as kept, watching() as seen:
            Sweep(lambda: full, ["none"], kept).fill(mine, show=False)
            assert len(kept) == len(mine)
        assert [bool(prefixes) for prefixes in seen.prefixes] == [change is None]


@given(st.data())
def test_prefixes_are_what_is_equal_and_save_a_tenth(data):
    mark = templates.IMAGE_ID
    batch, lengths, sizes = [], [], {"a": 5, "b": 7}
    for _ in range(data.draw(st.integers(1, 6))):
        ids = tuple(data.draw(st.lists(st.sampled_from([1, 1, 1, 2, mark]), min_size=1, max_size=12)))
        hashes = tuple(data.draw(st.sampled_from("ab")) for _ in range(ids.count(mark)))
        batch.append((engines.Asked(Prompt(""), hashes, ids), data.draw(st.sampled_from(["none", "clip"]))))
        lengths.append(len(ids) - len(hashes) + sum(sizes[image] for image in hashes))
    prefixes = engines.prefixes(batch, lengths)
    if not prefixes:
        return
    beginnings = {}
    for (asked, label), prefix, length in zip(batch, prefixes, lengths, strict=True):
        assert 0 < prefix.length < length
        images = iter(asked.hashes)
        spelt = []
        for token in asked.ids:
            if token == mark:
                image = next(images)
                spelt += [(label, image)] * sizes[image]
            else:
                spelt.append(token)
        assert beginnings.setdefault(prefix.key, spelt[: prefix.length]) == spelt[: prefix.length]
        inside = [isinstance(token, tuple) for token in spelt]
        assert any(inside) == any(inside[: prefix.length]) if prefix.images else not any(inside[: prefix.length])
        assert not prefix.images or not any(inside[prefix.length :])
    padded = sum(max(len(one) for one in beginnings.values()) for _ in beginnings)
    padded += len(batch) * max(length - prefix.length for length, prefix in zip(lengths, prefixes, strict=True))
    assert padded < 0.9 * len(batch) * max(lengths)


# --- no pixel comes through ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_all_dropped_mask_is_answered_once_for_a_prompt(made, kind, tmp_path):
    names = ("plain", "same image", "same text", "wide", "no image", "other limit")
    with store(tmp_path) as kept, watching() as seen:
        done = fill(made, kind, kept, questions(kind, names), 5)
        again = questions(kind, names, task="task again")
        done.fill(again, show=False)
    put = Counter(label for label, _ in seen.asked)
    assert {put.pop(label) for label in labels(kind) if label != "all"} == {2 * len(names)}
    # The text of `plain` comes with a picture of the same size and with a wide one, whose layout some families see.
    layouts = {"cambrian": 5, "eagle2": 5, "cambrian projected": 2 * len(names), "hf": 2 * len(names)}
    assert put == {"all": layouts.get(kind, 4)}
    assert {told(kept.get(one.key("all"))) for one in again} == {
        told(kept.get(one.key("all"))) for one in questions(kind, names)
    }


def test_siglip_s_other_use_decides_what_the_all_dropped_mask_sees(made, tmp_path):
    """Under site=projected Cambrian's SigLIP runs although it is dropped, unless its global context is zeroed too."""
    model, arguments = made("cambrian projected")
    asked = questions("cambrian projected", ("plain", "same text"))
    for context, count, needed in (("keep", 2, ("siglip",)), ("zero", 1, ())):
        ours = {**arguments, "global_context": context}
        with store(tmp_path, context) as kept, watching() as seen:
            done = fill(lambda _, ours=ours: (model, ours), "cambrian projected", kept, asked, names=["clip", "all"])
        assert Counter(label for label, _ in seen.asked) == {"clip": 2, "all": count}
        assert done.engine.views["all"].needed() == needed
        for label in ("clip", "all"):
            wanted = alone(model, ours, label, asked)
            assert {one.document: told(kept.get(one.key(label))) for one in asked} == wanted


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


# --- what is stored ------------------------------------------------------------------------------------------------


def test_nothing_stored_is_asked_again(made, tmp_path):
    kind, asked = "eagle", questions("eagle")

    def never():
        raise AssertionError("the model is loaded though everything is answered")

    with store(tmp_path) as kept:
        fill(made, kind, kept, asked[:3], names=labels(kind)[:7])
    with store(tmp_path) as kept:
        Sweep(never, labels(kind)[:7], kept).fill(asked[:3], show=False)
        with watching() as seen:
            fill(made, kind, kept, asked)  # more documents, and more masks
    wanted = {(label, one.document) for label in labels(kind) for one in asked}
    before = {(label, one.document) for label in labels(kind)[:7] for one in asked[:3]}
    assert set(seen.asked) <= wanted - before and len(seen.asked) == len(set(seen.asked))
    with store(tmp_path) as kept:
        assert len(kept) == len(wanted) and not kept.conflicts
        Sweep(never, labels(kind), kept).fill(asked, show=False)
        Sweep(never, [], kept).fill(asked, show=False)


def test_a_question_that_comes_again_is_asked_once(made, expected, tmp_path):
    """lmms-eval repeats questions so that processes have equally many."""
    kind, asked = "eagle", questions("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, [*asked, asked[-1], *asked[:2]], 64)
        agree(made, expected(kind), kept, asked, kind)
    assert len(seen.asked) == len(set(seen.asked)) and not kept.conflicts


def test_a_stored_answer_counts_even_where_the_model_would_answer_otherwise(made, tmp_path):
    one = question("plain")
    hashes = tuple(map(ablations.image_hash, one.images()))
    with store(tmp_path) as kept:
        kept.add(one.key("clip"), Stored("as answered before", 9, 1, False, hashes))
        kept.flush()
        done = fill(made, "eagle", kept, [one])
        assert done.answer(one, "clip").text == "as answered before" and not kept.conflicts


def test_a_changed_image_of_a_document_is_refused(made, tmp_path):
    with store(tmp_path) as kept:
        fill(made, "eagle", kept, questions("eagle", SHORT), names=["none", "clip"])
        count = len(kept)
        changed = questions("eagle", SHORT, change=10)
        with pytest.raises(
            DataError, match=r"the images of task document .* differ from those when drop=none was answ"
        ):
            fill(made, "eagle", kept, changed, names=["none", "clip", "sam"])
        assert len(kept) == count
        with pytest.raises(DataError, match="differ from those when"):  # also where nothing is left to ask
            fill(made, "eagle", kept, changed, names=["none", "clip"])
    with store(tmp_path) as kept:
        assert len(kept) == count
        fill(made, "eagle", kept, questions("eagle", SHORT), names=["none", "clip", "sam"])
        assert len(kept) == count // 2 * 3


def who(model, arguments, **changes):
    """What a store belongs to, as the command makes it."""
    given = {**arguments, **changes}
    framework, encoders = FRAMEWORKS["lmms-eval"], encoders_of(model, given)
    route = SimpleNamespace(
        model=model, model_arguments=given, resolved=lambda: run_record.resolved(model, given, "cpu", "auto")
    )
    typed = ",".join(f"{key}={value}" for key, value in given.items() if key not in ("drop", "keep"))
    around = sweep_run.surroundings(Settings(model, typed, "every", "out", "auto", None, (), ()), framework)
    around["checkpoint"] = identity.of(registry.folders(model, given))
    return sweep_run.who(route, framework, encoders, around)


def test_an_encoder_that_every_mask_drops_does_not_run(made, expected, tmp_path):
    kind, asked, names = "eagle", questions("eagle"), ["clip", "clip+sam"]
    with store(tmp_path) as kept, watching() as seen:
        fill(made, kind, kept, asked, names=names)
        agree(made, expected(kind), kept, asked, kind, names=names)
    assert {name for _, name in seen.encoded} == {"convnext", "sam", "pix2struct"}


def test_a_store_of_another_model_is_refused(made, images, tmp_path):
    model, arguments = made("cambrian projected")
    arguments = {**arguments, "site": "encoder"}
    copy = {
        "pretrained": str(shutil.copytree(arguments["pretrained"], tmp_path / "copy")),
        "encoder_weights": str(shutil.copytree(arguments["encoder_weights"], tmp_path / "towers")),
    }
    files = {}
    for name, count in (("one", 2), ("other", 3)):
        files[name] = tmp_path / f"{name}.safetensors"
        given = ",".join(f"{key}={value}" for key, value in {**arguments, "device": "cpu"}.items())
        command = ["calibrate", "--model", model, "--model_args", given, "--images", str(images), "--count", str(count)]
        assert main([*command, "-o", str(files[name])]) == 0
    with Store.open(tmp_path / "store", who(model, arguments)) as kept:
        kept.add(Key("task", "test", "1", "a", "{}", "none"), Stored("red", 1, 1, False))
    # The same model: from a copy elsewhere, told in other words, on another device.
    for same in (copy, {"dtype": "float32"}, {"dtype": "fp32"}, {"device": "cpu"}, {"drop": "clip"}):
        assert len(Store.open(tmp_path / "store", who(model, arguments, **same))) == 1, same
    for change, said in [
        ({"dtype": "bfloat16"}, "arguments.dtype differs"),
        ({"site": "projected"}, "arguments.site differs"),
        ({"ablation": "mean", "calibration": str(files["one"])}, "arguments.ablation differs"),
        ({"calibration": str(files["one"])}, "calibration differs"),
        ({"conv_template": "llama_3"}, "arguments.conv_template differs"),
        ({"attn_implementation": "eager"}, "arguments.attn_implementation differs"),
        ({"long_prompt": "error"}, "arguments.long_prompt differs"),
        ({"global_context": "zero"}, "arguments.global_context differs"),
    ]:
        with pytest.raises(SetupError, match=said):
            Store.open(tmp_path / "store", who(model, arguments, **change))
    mean = {"ablation": "mean", "calibration": str(files["one"])}
    Store.open(tmp_path / "mean", who(model, arguments, **mean))
    shutil.copy(files["one"], tmp_path / "moved.safetensors")
    Store.open(tmp_path / "mean", who(model, arguments, **{**mean, "calibration": str(tmp_path / "moved.safetensors")}))
    with pytest.raises(SetupError, match="calibration differs"):
        Store.open(tmp_path / "mean", who(model, arguments, **{**mean, "calibration": str(files["other"])}))
    for part in ("pretrained", "encoder_weights"):
        weights = sorted(Path(copy[part]).rglob("*.safetensors"))[0]
        content = bytearray(weights.read_bytes())
        content[-2] ^= 1
        weights.write_bytes(content)
        with pytest.raises(SetupError, match=r"weights\..*blocks differs"):
            Store.open(tmp_path / "store", who(model, arguments, **{part: copy[part]}))


def test_what_cannot_be_asked_is_told_and_costs_no_answer(made, tmp_path):
    model, arguments = made("cambrian")
    strict = {**arguments, "long_prompt": "error", "many_images": "error"}
    with store(tmp_path) as kept:
        done = Sweep(lambda: load(model, strict), labels("cambrian"), kept, 16)
        done.fill(questions("cambrian", SHORT), show=False)
        for name, said in (("two", "2 images; this architecture takes 1"), ("long", ".* the model's limit is 160")):
            with pytest.raises(DataError, match=f"task document {name}: {said}"):
                done.fill(questions("cambrian", ("plain", name)), show=False)
        with pytest.raises(SetupError, match="other draws its answers, .*: a sweep is greedy"):
            done.fill([question("plain", task="other", draw=True)], show=False)
    with store(tmp_path) as kept:
        assert len(kept) == len(SHORT) * 16


# --- half precision ------------------------------------------------------------------------------------------------


def test_in_half_precision_the_full_model_answers_twice(made, tmp_path, capsys):
    model, arguments = made("eagle")
    half, asked = {**arguments, "dtype": "bfloat16"}, questions("eagle")
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, half), "eagle", kept, asked, 16)
    count = len(asked)
    assert Counter(key.mask for key, _ in kept.items()) == dict.fromkeys([*labels("eagle"), ALONE], count)
    assert Counter(label for label, _ in seen.asked)["none"] == 2 * count
    differ = sum(kept.get(one.key("none")).text != kept.get(one.key(ALONE)).text for one in asked)
    *_, line = sweep_run.summary(kept, labels("eagle"))
    assert line == (
        "noise floor: the full model, answered alone and among the masks, differs in "
        f"{differ} of {count} answers ({100 * differ / count:.2f} %)"
    )
    with store(tmp_path) as kept, watching() as seen:
        fill(lambda _: (model, half), "eagle", kept, asked)
    assert not seen.asked


def test_the_noise_floor_counts_pairs_that_differ(tmp_path):
    with store(tmp_path) as kept:
        for number, (text, again) in enumerate([("a", "a"), ("a", "b"), ("b", "a"), ("c", "c"), ("d", None)]):
            for mask, said in (("none", text), (ALONE, again), ("clip", "x")):
                if said is not None:
                    kept.add(Key("t", "s", str(number), "p", "{}", mask), Stored(said, 1, 1, mask == "clip", (), ()))
    lines = sweep_run.summary(kept, ["none", "clip"])
    assert lines[-1].endswith("differs in 2 of 4 answers (50.00 %)")
    assert any("clip" in line and "5 stopped by the token limit" in line for line in lines)
    assert not any("unanswered" in line for line in lines)
    assert any("all" in line and "5 unanswered" in line for line in sweep_run.summary(kept, ["none", "all"]))


def test_in_full_precision_nothing_is_answered_twice(made, tmp_path):
    with store(tmp_path) as kept:
        fill(made, "eagle", kept, questions("eagle", SHORT))
    assert {key.mask for key, _ in kept.items()} == set(labels("eagle"))
    assert not any("noise" in line for line in sweep_run.summary(kept, labels("eagle")))
    model, arguments = made("eagle")
    with store(tmp_path, "without the full model") as kept:
        half = {**arguments, "dtype": "bfloat16"}
        fill(lambda _: (model, half), "eagle", kept, questions("eagle", SHORT), names=["clip", "all"])
    assert {key.mask for key, _ in kept.items()} == {"clip", "all"}


# --- model arguments -----------------------------------------------------------------------------------------------


def own_arguments(function, *left_out):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = {name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind not in kinds}
    return found - {"self", *left_out}


def test_every_model_argument_says_what_it_decides():
    """One that is missing would count as deciding answers: safe, but another device would then be another model."""
    known = set(model_args.KINDS)
    assert own_arguments(loading.native_model, "model_id") <= known
    assert own_arguments(loading.transformers_model) <= known
    for family in registry.FAMILIES.values():
        assert set(family.settings) <= known, family.model_id
        assert set(family.published.arguments if family.published else ()) <= known
        assert set(checked_arguments.allowed(family.model_id)) <= known
    assert set(checked_arguments.allowed("hf_masked")) <= known
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval import hooked as lmms_eval_hooked
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model

    assert own_arguments(lmms_eval_model.MaskedLmms) <= known
    assert own_arguments(lmms_eval_hooked.Hooked) <= known
    assert {"max_new_tokens", "as_published"} <= known, "what VLMEvalKit's entry takes besides"
    # And no name there is anything else's.
    everything = (
        own_arguments(loading.native_model)
        | own_arguments(loading.transformers_model)
        | own_arguments(lmms_eval_model.MaskedLmms)
    )
    everything |= own_arguments(lmms_eval_hooked.Hooked) | {"max_new_tokens", "as_published"}
    everything |= {name for family in registry.FAMILIES.values() for name in family.settings}
    assert known <= everything
    assert set(model_args.KINDS.values()) == {"mask", "stand-in", "place", "answer"}


@given(st.dictionaries(st.sampled_from([*model_args.KINDS, "unknown", "seed"]), st.text(max_size=5)), st.booleans())
def test_what_decides_an_answer_is_told_from_what_does_not(arguments, full):
    kinds = {name: model_args.KINDS.get(name, "answer") for name in arguments}
    kept = {"answer"} if full else {"answer", "stand-in"}
    found = model_args.deciding(arguments, full)
    assert found == {name: value for name, value in arguments.items() if kinds[name] in kept}
    assert list(found) == sorted(found)
    assert model_args.deciding(dict(reversed(arguments.items())), full) == found


def test_a_calibration_and_a_site_decide_nothing_in_the_full_model():
    given = {"pretrained": "demo", "site": "projected", "calibration": "c", "device": "cpu", "drop": "clip"}
    assert model_args.deciding(given) == {"calibration": "c", "pretrained": "demo", "site": "projected"}
    assert model_args.deciding(given, full=True) == {"pretrained": "demo"}
